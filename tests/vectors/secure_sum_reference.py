"""A second implementation of additive and pairwise sums, slow and obvious, that shares no line with the package.

Ring elements, masks, shares and fixed-point numbers are plain ints here; only curves, ciphers and hashes come
from libraries. ``python tests/vectors/secure_sum_reference.py`` writes ``secure_sum_vectors.json`` anew; a change
of that file is a change of the protocol and a commit of its own.
"""

import hashlib
import hmac
import json
import struct
from fractions import Fraction
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PRIME = 2**256 + 297


def digest(label, *fields):
    text = b"".join(struct.pack("<Q", len(field)) + field for field in (label, *fields))
    return hashlib.sha256(text).digest()


def joined(*fields):
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def hkdf(secret, salt, *info):
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, joined(*info) + b"\1", hashlib.sha256).digest()


def keystream(key, count, limbs, prg):
    """Ring elements as ints: AES of 0, 1, 2 ... or ChaCha20, little-endian."""
    size = 8 * limbs
    if prg == "aes-256-ctr":
        block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        text = b"".join(block.update(number.to_bytes(16, "big")) for number in range((count * size + 15) // 16))
    else:
        text = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor().update(bytes(count * size))
    return [int.from_bytes(text[size * i : size * (i + 1)], "little") for i in range(count)]


def to_bytes(elements, limbs):
    return b"".join(element.to_bytes(8 * limbs, "little") for element in elements)


def shares_of(secret, threshold, count, read):
    coefficients = [int.from_bytes(secret, "little")]
    coefficients += [int.from_bytes(read(48), "little") % PRIME for _ in range(threshold - 1)]
    values = [sum(c * x**power for power, c in enumerate(coefficients)) % PRIME for x in range(1, count + 1)]
    return [value.to_bytes(33, "little") for value in values]


def encoded(x, fraction_bits, limbs):
    return round(Fraction(x) * 2**fraction_bits) % 2 ** (64 * limbs)


def decoded(element, fraction_bits, limbs):
    signed = element - 2 ** (64 * limbs) if element >> (64 * limbs - 1) else element
    return signed / 2**fraction_bits


def tape(label, party):
    position = 0

    def read(count):
        nonlocal position
        seed = digest(b"protocols.run tape", label.encode(), party.encode(), position.to_bytes(8, "little"))
        position += 1
        return hashlib.shake_256(seed).digest(count)

    return read


class Actor:
    def __init__(self, name, label):
        self.name, self.read = name, tape(label, name)
        self.identity = Ed25519PrivateKey.from_private_bytes(self.read(32))
        self.verify_key = self.identity.public_key().public_bytes_raw()

    def begin(self):
        self.nonce = self.read(32)
        self.channel = X25519PrivateKey.from_private_bytes(self.read(32))
        self.channel_public = self.channel.public_key().public_bytes_raw()

    def signed(self, kind, binding, body):
        return body + self.identity.sign(
            digest(b"secirls message v2", kind, self.name.encode(), binding, blake3(body).digest())
        )


class Sum:
    """One session with one sum, from seeds to total, every message and key written down as it arises."""

    def __init__(self, title, protocol, sites, values, limbs, settings, silent=()):
        self.title, self.protocol, self.limbs, self.values = title, protocol, limbs, values
        self.settings, self.silent = settings, silent
        self.modulus = 2 ** (64 * limbs)
        self.sites = sorted(sites)
        self.present = [site for site in self.sites if site not in silent]
        self.operations, self.keys = [], {}
        self.actors = {site: Actor(site, title) for site in sites}
        self.threshold = settings.get("threshold", 2 * len(sites) // 3 + 1)
        self.rounds = settings["rounds_per_batch"]
        self.prg = settings["prg"]
        source = tape("vector of " + title, "all")
        self.vectors = {s: [int.from_bytes(source(8 * limbs), "little") for _ in range(values)] for s in self.sites}

    def note(self, verb, party, gives):
        self.operations.append({"verb": verb, "party": party, "gives": gives.hex()})

    def public(self, raw):
        return X25519PublicKey.from_public_bytes(raw)

    def play(self, settings_digest, round_):
        for site in self.sites:
            self.actors[site].begin()
        roster = digest(b"secirls roster v1", *(joined(s.encode(), self.actors[s].verify_key) for s in self.sites))
        binding = digest(b"secirls hello v1", self.protocol.encode(), roster, settings_digest)
        hellos = self.hello(binding)
        self.session = digest(
            b"secirls session v1", binding, *(joined(s.encode(), self.actors[s].nonce) for s in self.sites)
        )
        self.seat(roster)
        if self.protocol != "pairwise-lean":
            self.make_channels()
        self.layout = digest(
            b"protocols.run layout", self.values.to_bytes(8, "little"), self.limbs.to_bytes(8, "little")
        )
        head = struct.pack("<QQQQQ", round_, 0, self.values, self.limbs, len(self.sites))
        names = [site.encode() for site in self.sites]
        self.context = digest(b"secirls context v1", self.session, self.layout, head, *names)
        self.round = round_
        if self.protocol == "additive":
            self.additive()
        elif self.protocol == "pairwise-lean":
            self.lean(self.key_book(hellos))
        else:
            self.pairwise(self.key_book(hellos))
        return self

    def hello(self, binding):
        hellos = {}
        for site in self.sites:
            actor = self.actors[site]
            body = actor.nonce + actor.channel_public
            if self.protocol == "pairwise":
                actor.mask = X25519PrivateKey.from_private_bytes(actor.read(32))
                actor.mask_public = actor.mask.public_key().public_bytes_raw()
                actor.secrets = [actor.read(32) for _ in range(self.rounds)]
                body += actor.mask_public + b"".join(
                    digest(b"secirls round secret v1", site.encode(), struct.pack("<Q", round_), secret)
                    for round_, secret in enumerate(actor.secrets)
                )
            hello_binding = digest(b"secirls hello batch v1", binding, struct.pack("<Q", 0), b"")
            hellos[site] = actor.signed(b"hello", hello_binding, body)
            self.note("hello", site, hellos[site])
        return hellos

    def seat(self, roster):
        """Who shares with whom: all with all, or in a circle with the next few on both sides."""
        count, degree = len(self.sites), self.settings.get("neighbours", len(self.sites) - 1)
        self.near = {u: [v for v in self.sites if v != u] for u in self.sites}
        self.circle = self.sites
        if degree < count - 1:
            self.circle = sorted(self.sites, key=lambda s: digest(b"secirls seat v2", self.session, roster, s.encode()))
            for place, u in enumerate(self.circle):
                steps = [step for step in range(-degree // 2, degree // 2 + 1) if step]
                self.near[u] = sorted(self.circle[(place + step) % count] for step in steps)
        self.opens = -(-self.threshold * (len(self.near[self.sites[0]]) + 1) // count)

    def make_channels(self):
        self.channels = {}
        for u in self.sites:
            for v in self.sites:
                if v in self.near[u]:
                    one, two = self.actors[u], self.actors[v]
                    shared = one.channel.exchange(self.public(two.channel_public))
                    names = (u.encode(), one.channel_public, v.encode(), two.channel_public)
                    self.channels[u, v] = hkdf(shared, self.session, b"secirls channel v1", *names)
                    self.keys[f"channel {u}->{v}"] = self.channels[u, v].hex()

    def bits(self, those):
        return sum(1 << self.sites.index(s) for s in those).to_bytes((len(self.sites) + 7) // 8, "little")

    def box(self, sender, recipient, kind, place, binding, text):
        header = joined(b"secirls box v1", bytes([kind]), sender.encode(), recipient.encode(), binding)
        nonce = struct.pack("<III", *place, kind)
        return ChaCha20Poly1305(self.channels[sender, recipient]).encrypt(nonce, text, header)

    def additive(self):
        boxes, own = {}, {}
        dealt = {}
        for u in self.sites:
            self.note("meet", u, b"")
        for u in self.sites:
            actor = self.actors[u]
            peers = [v for v in self.sites if v != u]
            seeds = {v: actor.read(32) for v in peers}
            own[u] = list(self.vectors[u])
            for v in peers:
                dealt[u, v] = keystream(seeds[v], self.values, self.limbs, self.prg)
                self.keys[f"seed {u}->{v}"] = seeds[v].hex()
                own[u] = [(x - m) % self.modulus for x, m in zip(own[u], dealt[u, v], strict=True)]
                boxes[u, v] = self.box(u, v, 3, (self.round, 0), self.context, seeds[v])
            payload = actor.signed(b"payload", self.context, b"".join(boxes[u, v] for v in peers))
            self.note("protect", u, payload)
        for v in self.sites:
            self.note("combine", v, b"".join(boxes[u, v] for u in self.sites if u != v))
        for v in self.sites:
            held = own[v]
            for u in self.sites:
                if u != v:
                    held = [(x + m) % self.modulus for x, m in zip(held, dealt[u, v], strict=True)]
            self.note("assist", v, self.actors[v].signed(b"reply", self.context, to_bytes(held, self.limbs)))
        self.total = [sum(column) % self.modulus for column in zip(*self.vectors.values(), strict=True)]

    def key_book(self, hellos):
        said = digest(b"secirls hellos v1", *(joined(s.encode(), hellos[s]) for s in self.sites))
        return digest(b"secirls key book v1", self.session, struct.pack("<QQ", 0, self.rounds), said)

    def lean(self, book):
        """One key pair each, drawn where others draw that of their channels, and a chain for each pair."""
        for u in self.sites:
            self.note("meet", u, self.actors[u].signed(b"grant", book, b""))
        masked = {u: list(self.vectors[u]) for u in self.sites}
        for i, u in enumerate(self.sites):
            for v in (v for v in self.sites[i + 1 :] if v in self.near[u]):
                low, high = self.actors[u], self.actors[v]
                names_and_keys = (u.encode(), v.encode(), low.channel_public, high.channel_public)
                shared = low.channel.exchange(self.public(high.channel_public))
                chain = hkdf(shared, self.session, b"secirls chain root v1", book, *names_and_keys)
                for _ in range(self.round):
                    chain = hkdf(chain, self.session, b"secirls chain v1")
                key = hkdf(chain, self.session, b"secirls chain mask v1", self.context)
                self.keys[f"pair mask {u}-{v}"] = key.hex()
                mask = keystream(key, self.values, self.limbs, self.prg)
                masked[u] = [(x + m) % self.modulus for x, m in zip(masked[u], mask, strict=True)]
                masked[v] = [(x - m) % self.modulus for x, m in zip(masked[v], mask, strict=True)]
        for u in self.sites:
            self.note("protect", u, self.actors[u].signed(b"payload", self.context, to_bytes(masked[u], self.limbs)))
        self.total = [sum(column) % self.modulus for column in zip(*masked.values(), strict=True)]

    def pairwise(self, book):
        count = len(self.sites)
        seeds = self.pair_seeds(book)
        secret_boxes, secret_shares = {}, {}
        for u in self.sites:
            actor = self.actors[u]
            split = [shares_of(secret, self.opens, count, actor.read) for secret in actor.secrets]
            for number, v in enumerate(self.circle):
                secret_shares[u, v] = split[self.round][number]
                if v in self.near[u]:
                    secret_boxes[u, v] = self.box(u, v, 1, (0, 0), book, b"".join(s[number] for s in split))
            wraps = b"".join(self.wrap(u, round_, seeds, book) for round_ in range(self.rounds))
            grant = b"".join(secret_boxes[u, v] for v in self.near[u]) + wraps
            self.note("meet", u, actor.signed(b"grant", book, grant))

        masks = self.pair_masks(seeds)
        seed_boxes, seed_shares, own_masks, masked_sum = {}, {}, {}, [0] * self.values
        place = struct.pack("<QQ", self.round, 0)
        for u in self.present:
            actor = self.actors[u]
            seed = actor.read(32)
            key = hkdf(seed, self.session, b"secirls self mask v1", place, self.layout, u.encode())
            self.keys[f"seed {u}"], self.keys[f"self mask {u}"] = seed.hex(), key.hex()
            own_masks[u] = keystream(key, self.values, self.limbs, self.prg)
            masked = [x + m for x, m in zip(self.vectors[u], own_masks[u], strict=True)]
            for v in self.near[u]:
                sign = 1 if u < v else -1
                masked = [x + sign * m for x, m in zip(masked, masks[frozenset((u, v))], strict=True)]
            masked = [x % self.modulus for x in masked]
            masked_sum = [(x + y) % self.modulus for x, y in zip(masked_sum, masked, strict=True)]
            shares = shares_of(seed, self.opens, count, actor.read)
            for number, v in enumerate(self.circle):
                seed_shares[u, v] = shares[number]
                if v in self.near[u]:
                    seed_boxes[u, v] = self.box(u, v, 2, (self.round, 0), self.context, shares[number])
            commitment = digest(b"secirls seed commitment v1", self.context, u.encode(), seed)
            boxes = b"".join(seed_boxes[u, v] for v in self.near[u])
            self.note(
                "protect", u, actor.signed(b"payload", self.context, to_bytes(masked, self.limbs) + commitment + boxes)
            )

        present = self.bits(self.present)
        agreed = dict.fromkeys(self.present, bytes(len(present)))
        if self.settings["consistency"]:
            complete = len(self.near[self.sites[0]]) == count - 1
            to = {}
            for u in self.present:
                others = [v for v in self.present if v != u] if complete else []
                to[u] = {v: self.box(u, v, 6, (self.round, 0), self.context, present) for v in others}
            said = {
                u: self.actors[u].signed(b"agreement", self.context, present + b"".join(to[u].values())) for u in to
            }
            for u in self.present:
                self.note("combine", u, b"\1" + present)
            for u in self.present:
                self.note("assist", u, said[u])
            for v in self.present:
                if complete:
                    others = self.bits(u for u in self.present if u != v)
                    agreed[v] = others + b"".join(to[u][v] for u in self.present if u != v)
                else:
                    agreed[v] = present + b"".join(said[u][-64:] for u in self.present)
        for u in self.present:
            peers = self.near[u]
            boxes = (seed_boxes if v in self.present else secret_boxes for v in peers)
            addressed = b"".join(source[v, u] for source, v in zip(boxes, peers, strict=True))
            self.note("combine", u, b"\2" + present + agreed[u] + addressed)
        for u in self.present:
            shares = b"".join(
                (seed_shares if v in self.present else secret_shares)[v, u] for v in sorted([u, *self.near[u]])
            )
            fingerprints = b"".join(
                digest(
                    b"secirls seed fingerprint v1", self.context, *sorted((u.encode(), v.encode())), seed[self.round]
                )[:16]
                for v, seed in ((v, seeds[frozenset((u, v))]) for v in self.near[u] if v not in self.present)
            )
            self.note("assist", u, self.actors[u].signed(b"reply", self.context, present + shares + fingerprints))

        for u in self.present:
            masked_sum = [x - m for x, m in zip(masked_sum, own_masks[u], strict=True)]
            for gone in (v for v in self.silent if v in self.near[u]):
                sign = 1 if u < gone else -1
                masked_sum = [x - sign * m for x, m in zip(masked_sum, masks[frozenset((u, gone))], strict=True)]
        self.total = [x % self.modulus for x in masked_sum]

    def pair_seeds(self, book):
        """For each pair a seed of each round."""
        seeds = {}
        for i, u in enumerate(self.sites):
            for v in (v for v in self.sites[i + 1 :] if v in self.near[u]):
                low, high = self.actors[u], self.actors[v]
                names_and_keys = (u.encode(), v.encode(), low.mask_public, high.mask_public)
                shared = low.mask.exchange(self.public(high.mask_public))
                root = hkdf(shared, self.session, b"secirls pair root v1", book, *names_and_keys)
                stream = to_bytes(keystream(root, 4 * self.rounds, 1, self.prg), 1)
                seeds[frozenset((u, v))] = [stream[32 * r : 32 * (r + 1)] for r in range(self.rounds)]
                self.keys[f"pair seed {u}-{v}"] = seeds[frozenset((u, v))][self.round].hex()
        return seeds

    def wrap(self, u, round_, seeds, book):
        """What u's secret of one round opens: its seeds with all its neighbours."""
        place = struct.pack("<Q", round_)
        key = hkdf(self.actors[u].secrets[round_], self.session, b"secirls round wrap v1", book, place, u.encode())
        pad = to_bytes(keystream(key, 4 * len(self.near[u]), 1, self.prg), 1)
        text = b"".join(seeds[frozenset((u, v))][round_] for v in self.near[u])
        return bytes(x ^ y for x, y in zip(text, pad, strict=True))

    def pair_masks(self, seeds):
        masks = {}
        for i, u in enumerate(self.sites):
            for v in (v for v in self.sites[i + 1 :] if v in self.near[u]):
                seed = seeds[frozenset((u, v))][self.round]
                key = digest(b"secirls pair mask v2", self.context, u.encode(), v.encode(), seed)
                self.keys[f"pair mask {u}-{v}"] = key.hex()
                masks[frozenset((u, v))] = keystream(key, self.values, self.limbs, self.prg)
        return masks

    def written(self):
        plain_sum = [sum(self.vectors[s][i] for s in self.present) % self.modulus for i in range(self.values)]
        assert self.total == plain_sum, "the reference contradicts itself"
        return {
            "title": self.title,
            "protocol": self.protocol,
            "settings": self.settings,
            "sites": self.sites,
            "silent": list(self.silent),
            "round": self.round,
            "limbs": self.limbs,
            "vectors": {s: to_bytes(v, self.limbs).hex() for s, v in self.vectors.items()},
            "session": self.session.hex(),
            "context": self.context.hex(),
            "keys": self.keys,
            "operations": self.operations,
            "total": to_bytes(self.total, self.limbs).hex(),
            "parties": self.present,
        }


DEFAULTS = {"prg": "aes-256-ctr", "rounds_per_batch": 2, "consistency": False}
SUMS = (
    ("additive, three sites", "additive", "abc", 3, 2, {}, (), 0),
    ("additive, four sites, one limb, ChaCha20", "additive", "abcd", 2, 1, {"prg": "chacha20"}, (), 5),
    ("pairwise, three sites", "pairwise", "abc", 3, 2, {}, (), 0),
    ("pairwise, four sites, one lost", "pairwise", "abcd", 3, 2, {"threshold": 3}, ("b",), 1),
    (
        "pairwise, five sites, two lost, agreed",
        "pairwise",
        "abcde",
        2,
        1,
        {"threshold": 3, "consistency": True},
        ("a", "d"),
        0,
    ),
    ("pairwise, three sites, ChaCha20", "pairwise", "abc", 3, 2, {"prg": "chacha20"}, (), 1),
    (
        "pairwise among neighbours, with a dropout and consistency",
        "pairwise",
        "abcdefg",
        2,
        2,
        {"threshold": 4, "neighbours": 4, "consistency": True},
        ("c",),
        1,
    ),
    ("lean, three sites", "pairwise-lean", "abc", 3, 2, {}, (), 0),
    ("lean, four sites, one limb, ChaCha20", "pairwise-lean", "abcd", 2, 1, {"prg": "chacha20"}, (), 1),
    ("lean among neighbours", "pairwise-lean", "abcdefg", 2, 2, {"neighbours": 4, "rounds_per_batch": 9}, (), 5),
)


def flipped(text, place):
    data = bytearray(bytes.fromhex(text))
    data[place] ^= 1
    return bytes(data).hex()


def refusals(sums):
    """Messages that must be refused: what is changed, the verb that must notice, whom it must name."""
    lost = next(s for s in sums if s["title"] == "pairwise, four sites, one lost")
    agreed = next(s for s in sums if s["title"] == "pairwise, five sites, two lost, agreed")
    shared = next(s for s in sums if s["title"] == "additive, three sites")

    def of(played, verb, party, last=False):
        found = [o["gives"] for o in played["operations"] if (o["verb"], o["party"]) == (verb, party)]
        return found[-1 if last else 0]

    def case(reason, played, verb, party, takes, names):
        return {
            "reason": reason,
            "sum": played["title"],
            "operations": [{"verb": verb, "party": party, "takes": takes, "raises": "PeerError", "names": names}],
        }

    lean = next(s for s in sums if s["title"] == "lean, three sites")
    masked = of(lean, "protect", "b")
    request, payload, reply = (of(lost, verb, "c") for verb in ("combine", "protect", "assist"))
    second = of(agreed, "combine", "c", last=True)
    return [
        case("a hello under another key", lost, "meet", "c", flipped(of(lost, "hello", "c"), 40), "c"),
        case("a masked value was changed", lost, "combine", "c", flipped(payload, 0), "c"),
        case("a commitment was changed", lost, "combine", "c", flipped(payload, 48), "c"),
        case("the payload is cut short", lost, "combine", "c", payload[:-2], "c"),
        case("the request leaves out the party it asks", lost, "assist", "c", "02" + "09" + request[4:], "aggregator"),
        case("the request calls a lost party present", lost, "assist", "c", "02" + "0f" + request[4:], "aggregator"),
        case("a set outside the cohort", lost, "assist", "c", "02" + "1d" + request[4:], "aggregator"),
        case("none of the boxes opens", lost, "assist", "c", request[:6] + len(request[6:]) * "0", "aggregator"),
        case("a signature where none is due", lost, "assist", "c", request[:4] + "01" + request[6:], "aggregator"),
        case("an agreement where none is due", lost, "assist", "c", "01" + request[2:4], "aggregator"),
        case("a released share was changed", lost, "open", "c", flipped(reply, 10), "c"),
        case("a reply over another set", lost, "open", "c", "0f" + reply[2:], "c"),
        case("shares asked for before the set was signed", agreed, "assist", "c", second, "aggregator"),
        case(
            "an additive box was changed", shared, "assist", "b", flipped(of(shared, "combine", "b"), 60), "aggregator"
        ),
        case("a lean hello was changed", lean, "meet", "c", flipped(of(lean, "hello", "c"), 40), "c"),
        case("a lean payload was changed", lean, "combine", "b", flipped(masked, 0), "b"),
        case("a lean payload is cut short", lean, "combine", "b", masked[2:], "b"),
        case("an additive reply was changed", shared, "open", "b", flipped(of(shared, "assist", "b"), 0), "b"),
    ]


def shamir_vectors():
    cases = []
    for threshold, count, fill in ((1, 1, 0), (2, 3, 255), (3, 5, 7), (5, 5, 128)):
        label = f"shamir {threshold} of {count}"
        secret = bytes([fill]) * 32
        shares = shares_of(secret, threshold, count, tape(label, "dealer"))
        cases.append(
            {"tape": label, "secret": secret.hex(), "threshold": threshold, "shares": [s.hex() for s in shares]}
        )
    return cases


def codec_vectors():
    doubles = [
        0.0,
        1.0,
        -1.0,
        0.1,
        -0.1,
        2.0**-64,
        2.0**-65,
        1.5 * 2.0**-64,
        2.5 * 2.0**-64,
        -(2.0**-65),
        5e-324,
        2.0**57,
        -(2.0**57),
        123456789.125,
        -3.3e15,
        1e-20,
        2.0**-11 * 1.1,
    ]
    small = [x for x in doubles if abs(x) < 2.0**20]
    cases = []
    for fraction_bits, limbs, chosen in ((64, 2, doubles), (32, 1, small), (0, 1, small)):
        elements = [encoded(x, fraction_bits, limbs) for x in chosen]
        back = [decoded(element, fraction_bits, limbs).hex() for element in elements]
        cases.append(
            {
                "fraction_bits": fraction_bits,
                "limbs": limbs,
                "doubles": [x.hex() for x in chosen],
                "elements": to_bytes(elements, limbs).hex(),
                "decoded": back,
            }
        )
    sums = [
        2**126 - 1,
        -(2**126),
        2**117 + 1,
        2**117 + 2**64,
        2**64 - 1,
        -(2**64) + 1,
        3 * 2**63 + 2**10,
        2**54 + 1,
        2**54 + 3,
    ]
    elements = [x % 2**128 for x in sums]
    cases.append(
        {
            "fraction_bits": 64,
            "limbs": 2,
            "doubles": [],
            "elements": to_bytes(elements, 2).hex(),
            "decoded": [decoded(element, 64, 2).hex() for element in elements],
        }
    )
    return cases


def keystream_vectors():
    key = bytes(range(32))
    return [
        {
            "prg": prg,
            "key": key.hex(),
            "limbs": limbs,
            "values": count,
            "elements": to_bytes(keystream(key, count, limbs, prg), limbs).hex(),
        }
        for prg in ("aes-256-ctr", "chacha20")
        for limbs, count in ((1, 5), (2, 4))
    ]


def settings_digest(settings, defaults):
    text = json.dumps({**defaults, **settings}, sort_keys=True)
    return digest(b"secirls settings v1", text.encode())


def everything(defaults):
    """All vectors; ``defaults`` are the package's settings as they are when nothing is chosen."""
    sums = []
    for title, protocol, sites, values, limbs, chosen, silent, round_ in SUMS:
        settings = {**DEFAULTS, **chosen}
        played = Sum(title, protocol, list(sites), values, limbs, settings, silent)
        sums.append(played.play(settings_digest(settings, defaults), round_).written())
    return {
        "settings": defaults,
        "sums": sums,
        "refused": refusals(sums),
        "shamir": shamir_vectors(),
        "codec": codec_vectors(),
        "keystream": keystream_vectors(),
    }


if __name__ == "__main__":
    from protocols.sessions.settings import Settings

    written = json.dumps(everything(Settings().agreed), indent=1) + "\n"
    (Path(__file__).parent / "secure_sum_vectors.json").write_text(written)
