"""A second implementation of verified totals, slow and obvious, written from the specification alone.

It imports nothing of the package under test. Run it to print the frozen file again::

    python tests/vectors/verified_reference.py > tests/vectors/verified_vectors.json
"""

import hashlib
import hmac
import json
import struct

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PRIME = 2**130 - 5
ROW = 512
PIECES = {1: (4, 33), 2: (2, 65)}
CHECK_SEED = 5
SESSION, LAYOUT = hashlib.sha256(b"a session").digest(), hashlib.sha256(b"a layout").digest()


def digest(label, *fields):
    return hashlib.sha256(b"".join(struct.pack("<Q", len(field)) + field for field in (label, *fields))).digest()


def parts(*fields):
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def hkdf(secret, salt, *info):
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, parts(*info) + b"\1", hashlib.sha256).digest()


def drawn(label, size):
    return hashlib.shake_256(label.encode()).digest(size)


def keystream(key, count):
    """Numbers of 64 bits: AES of 0, 1, 2 ..., little-endian."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    text = b"".join(block.update(number.to_bytes(16, "big")) for number in range((8 * count + 15) // 16))
    return [int.from_bytes(text[8 * i : 8 * i + 8], "little") for i in range(count)]


def context_of(parties, values, limbs, round_):
    head = struct.pack("<QQQQQ", round_, 0, values, limbs, len(parties))
    return digest(b"secirls context v1", SESSION, LAYOUT, head, *(name.encode() for name in parties))


def hashed(integers, keys):
    rows = -(-len(integers) // ROW)
    of_row, of_place = keys[:rows], keys[rows:]
    total = 0
    for i in range(rows):
        row = integers[ROW * i : ROW * (i + 1)]
        total += of_row[i] * sum(k * v for k, v in zip(of_place, row, strict=False))
    return total


def elements(integers, limbs):
    return b"".join((value % 2 ** (64 * limbs)).to_bytes(8 * limbs, "little") for value in integers)


def in_pieces(check, limbs):
    count, bits = PIECES[limbs]
    return [(check >> (bits * place)) % 2**bits for place in range(count)]


def told_form(integers, tail, limbs):
    """A total as it travels down."""
    width = next(w for w in range(1, 17) if all(-(2 ** (8 * w - 1)) <= v < 2 ** (8 * w - 1) for v in integers))
    text, at = elements(tail, limbs), 0
    while at < width:
        size = max(size for size in (1, 2, 4, 8) if size <= width - at)
        for value in integers:
            text += (value % 2 ** (8 * width) >> (8 * at)).to_bytes(width, "little")[:size]
        at += size
    return text + bytes([width])


def dealing(sites):
    """How the sites come to share a seed, every message of it."""
    identities = {site: Ed25519PrivateKey.from_private_bytes(drawn("identity of " + site, 32)) for site in sites}
    channels = {site: X25519PrivateKey.from_private_bytes(drawn("channel of " + site, 32)) for site in sites}
    public = {site: channels[site].public_key().public_bytes_raw() for site in sites}

    def signed(kind, site, body):
        return body + identities[site].sign(
            digest(b"secirls message v2", kind, site.encode(), SESSION, blake3(body).digest())
        )

    dealer, *others = sites
    seed, boxes = drawn("the seed", 32), b""
    for site in others:
        shared = channels[dealer].exchange(X25519PublicKey.from_public_bytes(public[site]))
        ends = dealer.encode(), public[dealer], site.encode(), public[site]
        key = hkdf(shared, SESSION, b"secirls channel v1", *ends)
        header = parts(b"secirls box v1", bytes([CHECK_SEED]), dealer.encode(), site.encode(), SESSION)
        boxes += ChaCha20Poly1305(key).encrypt(struct.pack("<III", 0, 0, CHECK_SEED), seed, header)
    return {
        "sites": {
            site: {
                "identity": drawn("identity of " + site, 32).hex(),
                "channel": drawn("channel of " + site, 32).hex(),
                "greeting": signed(b"check key", site, public[site]).hex(),
            }
            for site in sites
        },
        "session": SESSION.hex(),
        "seed": seed.hex(),
        "dealt": signed(b"check seed", dealer, boxes).hex(),
    }


def one_sum(title, cohort, present, values, limbs, bits, round_):
    """One context: what each appends, the total of those present, and how it is told."""
    seed, (count, piece_bits) = drawn("the seed", 32), PIECES[limbs]
    context = context_of(cohort, values + count, limbs, round_)
    many = -(-values // ROW) + min(values, ROW)
    stream = keystream(digest(b"secirls check stream v4", seed, context), many + 4 * len(cohort))
    keys = stream[:many]
    vectors, checks, pads = {}, {}, {}
    for i, name in enumerate(cohort):
        text = drawn(f"{title}, {name}", 16 * values)
        wide = [int.from_bytes(text[16 * j : 16 * j + 16], "little", signed=True) for j in range(values)]
        vectors[name] = [value >> (128 - bits) for value in wide]
        pads[name] = sum(word << (64 * j) for j, word in enumerate(stream[many + 4 * i : many + 4 * i + 4])) % PRIME
        checks[name] = in_pieces((hashed(vectors[name], keys) + pads[name]) % PRIME, limbs)
    total = [sum(column) for column in zip(*(vectors[name] for name in present), strict=True)]
    tail = [sum(column) for column in zip(*(checks[name] for name in present), strict=True)]
    joined = sum(piece << (piece_bits * place) for place, piece in enumerate(tail))
    if (joined - hashed(total, keys) - sum(pads[name] for name in present)) % PRIME:
        raise SystemExit(f"the check values of {title} do not add up")
    return {
        "title": title,
        "cohort": cohort,
        "present": present,
        "values": values + count,
        "limbs": limbs,
        "round": round_,
        "session": SESSION.hex(),
        "layout": LAYOUT.hex(),
        "seed": seed.hex(),
        "context": context.hex(),
        "keys": "".join(key.to_bytes(8, "little").hex() for key in keys),
        "pads": {name: f"{pad:x}" for name, pad in pads.items()},
        "vectors": {name: elements(vector, limbs).hex() for name, vector in vectors.items()},
        "check_values": {name: elements(check, limbs).hex() for name, check in checks.items()},
        "total": elements(total, limbs).hex() + elements(tail, limbs).hex(),
        "told": told_form(total, tail, limbs).hex(),
    }


def refusals(sums):
    """Totals that must be refused: what is told, of whom it is said to be, and of which sum."""
    by_title = {each["title"]: each for each in sums}

    def of(title):
        each = by_title[title]
        size = 8 * each["limbs"]
        data = bytes.fromhex(each["total"])
        count = PIECES[each["limbs"]][0]
        numbers = [int.from_bytes(data[i : i + size], "little", signed=True) for i in range(0, len(data), size)]
        return numbers[:-count], [number % 2 ** (8 * size) for number in numbers[-count:]]

    def case(reason, title, body, tail, present=None, told=None):
        limbs = by_title[title]["limbs"]
        return {
            "reason": reason,
            "sum": title,
            "told": (told_form(body, tail, limbs) if told is None else told).hex(),
            "present": by_title[title]["present"] if present is None else present,
            "raises": "PeerError",
            "names": "aggregator",
        }

    cases = []
    for title in ("two limbs, all there", "one limb, all there"):
        body, tail = of(title)
        told = bytes.fromhex(by_title[title]["told"])
        kind = title.split(",")[0]
        cases += [
            case(f"{kind}: one more in one place", title, [body[0] + 1, *body[1:]], tail),
            case(f"{kind}: two places trade", title, [body[1], body[0], *body[2:]], tail),
            case(f"{kind}: another check value", title, body, [tail[0] + 1, *tail[1:]]),
            case(f"{kind}: twice the total and its check values", title, [2 * v for v in body], [2 * v for v in tail]),
            case(f"{kind}: nothing at all", title, [0] * len(body), [0] * len(tail)),
            case(f"{kind}: nothing, of nobody", title, [0] * len(body), [0] * len(tail), []),
            case(f"{kind}: said to be of fewer", title, body, tail, ["a", "b"]),
            case(f"{kind}: said to be of others too", title, body, tail, ["a", "b", "c", "d"]),
            case(f"{kind}: a byte short", title, body, tail, told=told[:-1]),
            case(f"{kind}: a byte more in width", title, body, tail, told=told[:-1] + bytes([told[-1] + 1])),
        ]
    body, tail = of("two limbs, all there")
    cases.append(
        case("the sum of another round", "two limbs, the next round", body, tail),
    )
    moved = [body[0] + 16 * (2**61 - 1), *body[1:]]
    cases.append(case("a multiple of 2^61 - 1 more", "two limbs, all there", moved, tail))
    wide = elements(tail, 2) + b"".join((v % 2**128).to_bytes(16, "little")[:8] for v in body)
    wide += b"".join((v % 2**128).to_bytes(16, "little")[8:] for v in body) + bytes([16])
    cases.append(case("in sixteen bytes each, where fewer do", "two limbs, all there", body, tail, told=wide))
    return cases


def everything():
    abc = ["a", "b", "c"]
    sums = [
        one_sum("two limbs, all there", abc, abc, 5, 2, 80, 3),
        one_sum("two limbs, the next round", abc, abc, 5, 2, 80, 4),
        one_sum("two limbs, one silent", abc, ["a", "c"], 3, 2, 120, 3),
        one_sum("two limbs, narrow", ["lyon", "oslo", "rome"], ["lyon", "oslo", "rome"], 4, 2, 6, 0),
        one_sum("two limbs, two rows", abc, abc, 513, 2, 100, 1),
        one_sum("one limb, all there", abc, abc, 5, 1, 40, 3),
        one_sum("one limb, one silent", abc, ["b", "c"], 2, 1, 60, 2),
        one_sum("one limb, two rows", abc, abc, 514, 1, 50, 1),
        one_sum("two limbs, nothing to add", abc, abc, 0, 2, 8, 0),
    ]
    return {"dealing": dealing(abc), "sums": sums, "refused": refusals(sums)}


if __name__ == "__main__":
    print(json.dumps(everything(), indent=1))
