"""A second threshold Paillier in plain integers, slow and obvious, written from the specification alone.

It imports nothing of the package under test. Run it to print the frozen file again::

    python tests/vectors/threshold_reference.py > tests/vectors/threshold_vectors.json
"""

import hashlib
import hmac
import json
import math
import struct
from fractions import Fraction

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

# Safe primes of 256 bits: far too short to protect anything.
P = 0xC40A9EA90018F97EDB0A22E8F22BF3A892F6E6A55E84A3FB92AD047F5B430DD3
Q = 0xDBF9DCB952F22A61A9F6B890DB190D59C828F94F72A6826A33A83ABDE29A4A37
N = P * Q
SQUARE = N * N
BITS = 512
WIDTH = BITS // 8
DEALER = "key-dealer"
SETTINGS = {
    "allow_two": False,
    "configuration": "",
    "consistency": False,
    "insecure_test_keys": True,
    "key_bits": BITS,
    "prg": "aes-256-ctr",
    "rounds_per_batch": 32,
    "threshold": 3,
}


def digest(label, *fields):
    return hashlib.sha256(b"".join(struct.pack("<Q", len(field)) + field for field in (label, *fields))).digest()


def parts(*fields):
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def hkdf(secret, salt, *info):
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, parts(*info) + b"\1", hashlib.sha256).digest()


def shake(text, size):
    return hashlib.shake_256(text).digest(size)


def big(value, width=WIDTH):
    return value.to_bytes(width, "big")


def joined(values, width=WIDTH):
    return b"".join(big(value, width) for value in values)


def number(data):
    return int.from_bytes(data, "big")


def pieces(data, width):
    return [data[at : at + width] for at in range(0, len(data), width)]


def hashed_from_n(label):
    return number(shake(parts(label, big(N)), WIDTH + 16)) % N


class Actor:
    """A party with a tape of random bytes that everybody can know."""

    def __init__(self, name, label):
        self.name, self.label, self.position = name, label, 0
        self.identity = Ed25519PrivateKey.from_private_bytes(self.read(32))
        self.verify_key = self.identity.public_key().public_bytes_raw()
        self.nonce = self.read(32)
        self.channel = X25519PrivateKey.from_private_bytes(self.read(32))
        self.channel_public = self.channel.public_key().public_bytes_raw()

    def read(self, count):
        place = self.position.to_bytes(8, "little")
        self.position += 1
        return shake(digest(b"protocols.run tape", self.label.encode(), self.name.encode(), place), count)

    def signed(self, kind, binding, body):
        return body + self.identity.sign(
            digest(b"secirls message v2", kind, self.name.encode(), binding, blake3(body).digest())
        )


class Sum:
    """One session with one sum, from tapes to total."""

    def __init__(self, title, why, sites, values, limbs, obfuscation, silent, helping):
        self.title, self.why, self.sites, self.values, self.limbs = title, why, sites, values, limbs
        self.obfuscation, self.silent, self.helping = obfuscation, silent, helping
        self.settings = {**SETTINGS, "obfuscation": obfuscation}
        self.threshold = SETTINGS["threshold"]
        self.factorial = math.factorial(len(sites))
        self.everyone = sorted([*sites, DEALER])
        self.actors = {name: Actor(name, title) for name in self.everyone}
        source = Actor("vectors", title)
        self.vectors = {s: [number(source.read(8 * limbs)) for _ in range(values)] for s in sites}
        self.vectors[sites[0]][0] = self.vectors[sites[1]][0] = 2 ** (64 * limbs) - 1
        self.operations = []

    def note(self, verb, party, gives):
        self.operations.append({"verb": verb, "party": party, "gives": gives.hex()})
        return gives

    def play(self):
        self.deal_key()
        self.meet()
        self.round = 5
        head = struct.pack("<QQQQQ", self.round, 0, self.values, self.limbs, len(self.sites))
        layout = digest(b"protocols.run layout", self.values.to_bytes(8, "little"), self.limbs.to_bytes(8, "little"))
        names = [site.encode() for site in self.sites]
        self.context = digest(b"secirls context v1", self.session, layout, head, *names)
        self.encrypt()
        self.open()
        return self

    def deal_key(self):
        self.order = (P - 1) // 2 * ((Q - 1) // 2)
        self.secret = pow(N, -1, self.order)
        dealer = self.actors[DEALER]
        drawn = [number(dealer.read(WIDTH + 16)) % self.order for _ in range(self.threshold - 1)]
        polynomial = [self.secret, *drawn]
        self.shares = {
            site: sum(c * i**power for power, c in enumerate(polynomial)) % self.order
            for i, site in enumerate(self.sites, 1)
        }
        self.base = hashed_from_n(b"secirls threshold base v1") ** 2 % N
        self.checks = {site: pow(self.base, share, N) for site, share in self.shares.items()}

    def hello_binding(self):
        text = json.dumps(self.settings, sort_keys=True).encode()
        roster = digest(b"secirls roster v1", *(parts(s.encode(), self.actors[s].verify_key) for s in self.everyone))
        settings = digest(b"secirls settings v1", text)
        self.of_session = digest(b"secirls hello v1", b"paillier-threshold", roster, settings)
        return digest(b"secirls hello batch v1", self.of_session, struct.pack("<Q", 0), b"")

    def greeting(self, name, key):
        actor = self.actors[name]
        body = actor.nonce + actor.channel_public + (key if name == DEALER else b"")
        return actor.signed(b"hello", self.hello_binding(), body)

    def public_key(self):
        return big(N) + joined(self.checks.values())

    def dealt_binding(self):
        body = self.actors[DEALER].channel_public + self.public_key()
        return digest(b"secirls paillier dealt v1", self.session, body)

    def meet(self):
        for name in self.everyone:
            self.note("hello", name, self.greeting(name, self.public_key()))
        nonces = [parts(name.encode(), self.actors[name].nonce) for name in self.everyone]
        self.session = digest(b"secirls session v1", self.of_session, *nonces)
        self.boxes = {site: self.box(site) for site in self.sites}
        dealt = self.actors[DEALER].signed(b"paillier dealt", self.dealt_binding(), parts(*self.boxes.values()))
        for name in self.everyone:
            self.note("meet", name, dealt if name == DEALER else b"")
        self.mask_keys = {site: self.actors[site].read(32) for site in self.sites}

    def box(self, site):
        dealer, actor = self.actors[DEALER], self.actors[site]
        shared = dealer.channel.exchange(X25519PublicKey.from_public_bytes(actor.channel_public))
        ends = DEALER.encode(), dealer.channel_public, site.encode(), actor.channel_public
        key = hkdf(shared, self.session, b"secirls channel v1", *ends)
        header = parts(b"secirls box v1", bytes([4]), DEALER.encode(), site.encode(), self.dealt_binding())
        nonce = struct.pack("<III", 0, 0, 4)
        return ChaCha20Poly1305(key).encrypt(nonce, big(self.shares[site]), header)

    def encrypt(self):
        digit_bits = 64 * self.limbs
        self.slot_bits = digit_bits + (len(self.sites) - 1).bit_length()
        self.slots = (BITS - 1) // self.slot_bits
        h = -(hashed_from_n(b"secirls paillier base v1") ** 2) % N
        exponent_bytes = {"djn": BITS // 16, "short": 28}[self.obfuscation]
        self.ciphertexts, self.payloads, self.known = {}, {}, {}
        for site in self.sites:
            if site in self.silent:
                continue
            vector = self.vectors[site]
            plaintexts = [
                sum(x << (self.slot_bits * place) for place, x in enumerate(vector[at : at + self.slots]))
                for at in range(0, self.values, self.slots)
            ]
            drawn = self.actors[site].read(exponent_bytes * len(plaintexts))
            exponents = [int.from_bytes(piece, "little") for piece in pieces(drawn, exponent_bytes)]
            self.ciphertexts[site] = [
                (1 + m * N) * pow(h, a * N, SQUARE) % SQUARE for m, a in zip(plaintexts, exponents, strict=True)
            ]
            self.known[site] = plaintexts, [pow(h, a, N) for a in exponents]
            self.payloads[site] = self.payload(site, self.ciphertexts[site])
            self.note("protect", site, self.payloads[site])

    def knowledge(self, site, ciphertexts, place=None):
        """The site's proof that it knows what is in ciphertexts: a true one of its own ciphertexts alone."""
        data = joined(ciphertexts, 2 * WIDTH)
        place = place or parts(self.context, site.encode())
        stated = hashlib.sha256(parts(b"secirls paillier known v1", place, big(N), data)).digest()
        drawn = shake(parts(b"secirls paillier known mask v1", self.mask_keys[site], stated), 2 * (WIDTH + 16))
        x, s = (number(piece) for piece in pieces(drawn, WIDTH + 16))
        x, s = x % N, s % (N - 1) + 1
        commitment = (1 + x * N) * pow(s, N, SQUARE) % SQUARE
        challenge = hashlib.sha256(parts(stated, big(commitment, 2 * WIDTH))).digest()
        weights = [number(piece) for piece in pieces(shake(challenge, 16 * len(ciphertexts)), 16)]
        plaintexts, roots = self.known[site]
        plain = (x + sum(m * weight for m, weight in zip(plaintexts, weights, strict=False))) % N
        root = s * math.prod(pow(r, weight, N) for r, weight in zip(roots, weights, strict=False)) % N
        return challenge + joined([plain, root])

    def payload(self, site, ciphertexts, proof=None):
        body = joined(ciphertexts, 2 * WIDTH) + (self.knowledge(site, ciphertexts) if proof is None else proof)
        return self.actors[site].signed(b"paillier payload v2", self.context, body)

    def request(self, site, payloads, box=None):
        pairs = [field for name, payload in payloads.items() for field in (name.encode(), payload)]
        return parts(self.boxes[site] if box is None else box, *pairs)

    def open(self):
        self.products = [math.prod(column) % SQUARE for column in zip(*self.ciphertexts.values(), strict=True)]
        for site in self.payloads:
            self.note("combine", site, self.request(site, self.payloads))
        self.partials = {}
        for site in self.helping:
            self.partials[site] = [pow(c, 2 * self.factorial * self.shares[site], N) for c in self.products]
            self.note("assist", site, self.reply(site, self.partials[site], self.shares[site]))
        chosen = {self.sites.index(site) + 1: self.partials[site] for site in self.helping[: self.threshold]}
        weights = {i: math.prod((Fraction(j, j - i) for j in chosen if j != i), start=Fraction(1)) for i in chosen}
        self.denominator = math.lcm(*(weight.denominator for weight in weights.values()))
        scale = 4 * self.factorial * self.denominator
        self.plaintexts = []
        for place, product in enumerate(self.products):
            w = 1
            for i, weight in weights.items():
                w = w * pow(chosen[i][place], int(2 * weight * self.denominator), N) % N
            nude = pow(product, scale, SQUARE) * pow(w, -N, SQUARE) % SQUARE
            assert nude % N == 1
            self.plaintexts.append((nude - 1) // N * pow(scale, -1, N) % N)
        ring = 2 ** (64 * self.limbs)
        digits = [(m >> (self.slot_bits * place)) % ring for m in self.plaintexts for place in range(self.slots)]
        self.total = digits[: self.values]
        present = [self.vectors[site] for site in self.payloads]
        assert self.total == [sum(column) % ring for column in zip(*present, strict=True)]

    def proof(self, site, partials, share):
        holder = (self.sites.index(site) + 1).to_bytes(4, "big")
        residues = joined(c % N for c in self.products)
        statement = parts(
            b"secirls threshold proof v1", self.context, self.public_key(), holder, residues, joined(partials)
        )
        seed = hashlib.sha256(statement).digest()
        e = [number(piece) for piece in pieces(shake(seed, 16 * len(partials)), 16)]
        a = math.prod(pow(c, k, N) for c, k in zip(self.products, e, strict=True)) % N
        b = math.prod(pow(x, k, N) for x, k in zip(partials, e, strict=True)) % N
        a, b = pow(a, 4 * self.factorial, N), pow(b, 2, N)
        mask = number(shake(parts(b"secirls threshold mask v1", big(share), seed), WIDTH + 47))
        shown = joined([a, b, pow(self.base, mask, N), pow(a, mask, N)])
        challenge = hashlib.sha256(parts(seed, shown)).digest()[:16]
        return challenge + big(share * number(challenge) + mask, WIDTH + 48)

    def reply(self, site, partials, share):
        body = self.proof(site, partials, share) + joined(partials)
        return self.actors[site].signed(b"paillier partial", self.context, body)

    def written(self):
        elements = {s: b"".join(x.to_bytes(8 * self.limbs, "little") for x in v) for s, v in self.vectors.items()}
        total = b"".join(x.to_bytes(8 * self.limbs, "little") for x in self.total)
        return {
            "title": self.title,
            "why": self.why,
            "sites": self.sites,
            "limbs": self.limbs,
            "round": self.round,
            "settings": self.settings,
            "vectors": {site: data.hex() for site, data in elements.items()},
            "session": self.session.hex(),
            "context": self.context.hex(),
            "shares": {site: big(share).hex() for site, share in self.shares.items()},
            "checks": {site: big(check).hex() for site, check in self.checks.items()},
            "base": big(self.base).hex(),
            "products": joined(self.products, 2 * WIDTH).hex(),
            "denominator": self.denominator,
            "plaintexts": joined(self.plaintexts).hex(),
            "operations": self.operations,
            "parties": list(self.payloads),
            "total": total.hex(),
        }


def refusals(played):
    """Messages that must be refused, each with the verb that takes it and whom the refusal names."""
    cases = []

    def case(reason, verb, party, takes, names):
        operation = {"verb": verb, "party": party, "takes": takes.hex(), "raises": "PeerError", "names": names}
        cases.append({"sum": played.title, "reason": reason, "operations": [operation]})

    checks = list(played.checks.values())
    for reason, key in (
        ("the modulus is even", big(N - 1) + joined(checks)),
        ("the modulus is a square", big(P * P) + joined(checks)),
        ("a check is zero", big(N) + joined([0, *checks[1:]])),
        ("a check is not below the modulus", big(N) + joined([N, *checks[1:]])),
        ("a check shares a factor with the modulus", big(N) + joined([P, *checks[1:]])),
        ("a check is missing", big(N) + joined(checks[1:])),
        ("a check too many", big(N) + joined([*checks, checks[0]])),
    ):
        case(reason, "hello", DEALER, played.greeting(DEALER, key), DEALER)
    dealer, boxes = played.actors[DEALER], list(played.boxes.values())
    for reason, body in (("a box is missing", parts(*boxes[1:])), ("the boxes are cut short", parts(*boxes)[:-1])):
        signed = dealer.signed(b"paillier dealt", played.dealt_binding(), body)
        case(reason, "grant", DEALER, signed, DEALER)
    other = dealer.signed(b"paillier dealt", played.context, parts(*boxes))
    case("the boxes were dealt for something else", "grant", DEALER, other, DEALER)

    one, two = list(played.payloads)[:2]
    good = played.ciphertexts[two]
    for reason, ciphertexts in (
        ("zero is no unit", [0, *good[1:]]),
        ("a multiple of a prime is no unit", [P * 12345, *good[1:]]),
        ("n^2 is out of range", [SQUARE, *good[1:]]),
        ("a ciphertext is missing", good[1:]),
    ):
        case(reason, "combine", two, played.payload(two, ciphertexts), two)
    case("another site's payload", "combine", two, played.payloads[one], two)
    proof = played.knowledge(two, good)
    copied, theirs = played.ciphertexts[one], played.knowledge(one, played.ciphertexts[one])
    added = [mine * other % SQUARE for mine, other in zip(good, copied, strict=True)]
    elsewhere, nobody = parts(played.session, two.encode()), parts(played.context, one.encode())
    for reason, ciphertexts, given in (
        ("no proof", good, b""),
        ("a proof cut short", good, proof[:-1]),
        ("a proof too long", good, proof + b"\0"),
        ("another challenge", good, bytes([proof[0] ^ 1]) + proof[1:]),
        ("another plaintext", good, proof[:32] + big((number(proof[32:96]) + 1) % N) + proof[96:]),
        ("a root of zero", good, proof[:96] + bytes(64)),
        ("the negative of the root", good, proof[:96] + big(N - number(proof[96:]))),
        ("another site's ciphertexts and proof", copied, theirs),
        ("another site's ciphertexts, proved as if they were its own", copied, None),
        ("another site's ciphertexts multiplied in", added, None),
        ("ciphertexts in another order", good[::-1], proof),
        ("a proof for another sum", good, played.knowledge(two, good, elsewhere)),
        ("a proof in another name", good, played.knowledge(two, good, nobody)),
    ):
        case(reason, "combine", two, played.payload(two, ciphertexts, given), two)

    everybody = played.payloads
    for reason, payloads in (
        ("fewer sites than the threshold", {s: everybody[s] for s in (one, two)}),
        ("without the site that is asked", {s: everybody[s] for s in everybody if s != one}),
        ("one payload twice", {**everybody, two: everybody[one]}),
        ("out of order", dict(reversed(everybody.items()))),
        ("another payload than the site sent", {**everybody, one: played.payload(one, played.ciphertexts[two])}),
        ("a stranger", {**everybody, "z": everybody[two]}),
    ):
        case(reason, "assist", one, played.request(one, payloads), "aggregator")
    case("another site's box", "assist", one, played.request(one, everybody, played.boxes[two]), "aggregator")
    altered = bytes([played.boxes[one][0] ^ 1]) + played.boxes[one][1:]
    case("an altered box", "assist", one, played.request(one, everybody, altered), "aggregator")
    unproved = {**everybody, two: played.payload(two, added)}
    case("a payload that its sender does not know", "assist", one, played.request(one, unproved), "aggregator")
    case("cut short", "assist", one, played.request(one, everybody)[:-1], "aggregator")

    helper = played.helping[1]
    actor, right, share = played.actors[helper], played.partials[helper], played.shares[helper]
    proof = played.proof(helper, right, share)
    doubled, halved = right[0] * 2 % N, right[1] * pow(2, -1, N) % N
    wrong = [pow(c, 2 * played.factorial * (share + 1), N) for c in played.products]
    neighbour = played.helping[0]
    for reason, body in (
        ("a changed proof", proof[:-1] + bytes([proof[-1] ^ 1]) + joined(right)),
        ("a changed challenge", bytes([proof[0] ^ 1]) + proof[1:] + joined(right)),
        ("a changed partial decryption", proof + joined([doubled, *right[1:]])),
        ("partial decryptions of another share, proved for it", played.proof(helper, wrong, share + 1) + joined(wrong)),
        ("two errors that cancel in the plain product",
         played.proof(helper, [doubled, halved, *right[2:]], share) + joined([doubled, halved, *right[2:]])),
        ("another site's", played.proof(neighbour, played.partials[neighbour], played.shares[neighbour])
         + joined(played.partials[neighbour])),
        ("zero is no unit", played.proof(helper, [0, *right[1:]], share) + joined([0, *right[1:]])),
        ("a partial decryption is missing", proof + joined(right[1:])),
        ("no proof", joined(right)),
    ):  # fmt: skip
        case(reason, "open", helper, actor.signed(b"paillier partial", played.context, body), helper)
    body = proof + joined(right)
    case("of another sum", "open", helper, actor.signed(b"paillier partial", played.session, body), helper)
    case("not signed", "open", helper, body + bytes(64), helper)
    return cases


def everything():
    """All vectors."""
    sites = ["a", "b", "c", "d"]
    why = "carries in every guard, a part-filled last plaintext, helpers whose weights need a denominator"
    first = Sum("two limbs, djn, c is late", why, sites, 7, 2, "djn", [], ["a", "b", "d"]).play()
    why = "a site that sent nothing, the first three of the rest, binomial weights"
    second = Sum("one limb, short, d sends nothing", why, sites, 15, 1, "short", ["d"], ["a", "b", "c"]).play()
    why = "more helpers than needed: the first three are combined"
    third = Sum("two limbs, all five help", why, [*sites, "e"], 3, 2, "djn", [], [*sites, "e"]).play()
    sums = [first.written(), second.written(), third.written()]
    return {"p": big(P, WIDTH // 2).hex(), "q": big(Q, WIDTH // 2).hex(), "sums": sums, "refused": refusals(first)}


if __name__ == "__main__":
    print(json.dumps(everything(), indent=1))
