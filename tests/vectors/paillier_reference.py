"""A second, slow and obvious packed Paillier in plain integers, written from the specification alone.

It imports nothing of the package under test. Run it to print the frozen file again::

    python tests/vectors/paillier_reference.py > tests/vectors/paillier_vectors.json
"""

import hashlib
import hmac
import json
import math
import struct

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Where the search for two primes of 256 bits starts: far too short to protect anything.
P = 0xEB6D5B0B0D3E3B3C7F2B8D9C54D7D8E1A6F0C2B4E5D60718293A4B5C6D7E8F13
Q = 0xD0E1F203142536475869FAEBDCCDBEAF90817263544536271809FAEBDCCDBE9B


def prefixed(*fields):
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def digest(label, *fields):
    return hashlib.sha256(b"".join(struct.pack("<Q", len(field)) + field for field in (label, *fields))).digest()


def hkdf(secret, salt, info):
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def keystream(key, size):
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def tape(label, size):
    return hashlib.shake_256(label).digest(size)


def is_prime(candidate):
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for witness in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47):
        if candidate % witness == 0:
            return candidate == witness
        x = pow(witness, odd, candidate)
        if x not in (1, candidate - 1) and all(pow(x, 2**i, candidate) != candidate - 1 for i in range(1, twos)):
            return False
    return True


def next_prime(start):
    while not (start % 4 == 3 and is_prime(start)):
        start += 1
    return start


def primes():
    p, q = next_prime(P), next_prime(Q)
    while math.gcd(p - 1, q - 1) != 2:
        q = next_prime(q + 1)
    return p, q


def split(data, width, order):
    return [int.from_bytes(data[at : at + width], order) for at in range(0, len(data), width)]


def join(numbers, width):
    return b"".join(value.to_bytes(width, "big") for value in numbers).hex()


def pack(elements, slot_bits, slots):
    chunks = [elements[at : at + slots] for at in range(0, len(elements), slots)]
    return [sum(element << (slot_bits * place) for place, element in enumerate(chunk)) for chunk in chunks]


def unpack(plaintexts, slot_bits, slots, values, digit_bits):
    digits = [(x >> (slot_bits * place)) % (1 << digit_bits) for x in plaintexts for place in range(slots)]
    return digits[:values]


def signed(kind, name, context, body):
    identity = Ed25519PrivateKey.from_private_bytes(digest(b"vector identity", name.encode()))
    return body + identity.sign(digest(b"secirls message v2", kind, name.encode(), context, blake3(body).digest()))


def known(n, public, context, name, plaintexts, roots, ciphertexts, key):
    """The proof that a site knows what is in its ciphertexts, with the numbers on the way to it."""
    width, square = n.bit_length() // 8, n * n
    data = bytes.fromhex(join(ciphertexts, 2 * width))
    place = prefixed(context, name.encode())
    stated = hashlib.sha256(prefixed(b"secirls paillier known v1", place, public, data)).digest()
    drawn = hashlib.shake_256(prefixed(b"secirls paillier known mask v1", key, stated)).digest(2 * width + 32)
    x, s = split(drawn, width + 16, "big")
    x, s = x % n, s % (n - 1) + 1
    commitment = pow(n + 1, x, square) * pow(s, n, square) % square
    challenge = hashlib.sha256(prefixed(stated, commitment.to_bytes(2 * width, "big"))).digest()
    weights = split(hashlib.shake_256(challenge).digest(16 * len(ciphertexts)), 16, "big")
    plain, root, back = x, s, 1
    for m, r, c, weight in zip(plaintexts, roots, ciphertexts, weights, strict=True):
        plain, root = (plain + weight * m) % n, root * pow(r, weight, n) % n
        back = back * pow(c, -weight, square) % square
    if pow(n + 1, plain, square) * pow(root, n, square) * back % square != commitment:
        raise SystemExit(f"the proof of {name} does not hold")
    return {
        "mask_key": key.hex(),
        "commitment": join([commitment], 2 * width),
        "weights": join(weights, 16),
        "proof": challenge.hex() + join([plain, root], width),
    }


def subgroup_primes():
    """Primes as `primes` gives them that are one more than twice a prime of 64 bits times something, and these two."""
    found = []
    for start, about in ((P, 0xC000000000000000), (Q, 0xE000000000000000)):
        order = next_prime(about)
        rest = start // (2 * order) | 1
        while not is_prime(2 * order * rest + 1):
            rest += 2
        found.append((2 * order * rest + 1, order))
    return found[0][0], found[1][0], found[0][1], found[1][1]


def one_sum(title, why, limbs, obfuscation, vectors):
    """Three sites, their vectors given as lists of ring elements; every intermediate number in hex."""
    p, q, *orders = subgroup_primes() if obfuscation == "subgroup" else primes()
    n = p * q
    square, bits = n * n, n.bit_length()
    names = sorted(vectors)
    values = len(vectors[names[0]])
    digit_bits = 64 * limbs
    slot_bits = digit_bits + (len(names) - 1).bit_length()
    slots = (bits - 1) // slot_bits

    session, layout = digest(b"vector session"), digest(b"vector layout")
    head = struct.pack("<QQQQQ", 7, 1, values, limbs, len(names))
    context = digest(b"secirls context v1", session, layout, head, *(name.encode() for name in names))

    n_bytes = n.to_bytes(bits // 8, "big")
    x = int.from_bytes(hashlib.shake_256(prefixed(b"secirls paillier base v1", n_bytes)).digest(bits // 8 + 16), "big")
    h = -((x % n) ** 2) % n
    public = n_bytes
    if orders:
        h = -pow(x, (p - 1) * (q - 1) // (2 * orders[0] * orders[1]), n) % n
        public = n_bytes + h.to_bytes(bits // 8, "big")
    exponent_bytes = {"djn": bits // 16, "short": 28, "subgroup": bits // 32 + 16, "textbook": bits // 8 + 16}[
        obfuscation
    ]

    sites = {}
    columns = []
    for name in names:
        plaintexts = pack(vectors[name], slot_bits, slots)
        drawn = tape(b"obfuscators of " + name.encode(), exponent_bytes * len(plaintexts))
        if obfuscation == "textbook":
            randomness = [value % (n - 1) + 1 for value in split(drawn, exponent_bytes, "big")]
        else:
            randomness = [pow(h, exponent, n) for exponent in split(drawn, exponent_bytes, "little")]
        ciphertexts = [
            pow(n + 1, plaintext, square) * pow(r, n, square) % square
            for plaintext, r in zip(plaintexts, randomness, strict=True)
        ]
        columns.append(ciphertexts)
        seed = digest(b"vector identity", name.encode())
        masks = tape(b"masks of " + name.encode(), 32)
        proved = known(n, public, context, name, plaintexts, randomness, ciphertexts, masks)
        body = bytes.fromhex(join(ciphertexts, bits // 4) + proved["proof"])
        sites[name] = {
            "identity_seed": seed.hex(),
            "entropy": drawn.hex(),
            "vector": b"".join(element.to_bytes(8 * limbs, "little") for element in vectors[name]).hex(),
            "plaintexts": join(plaintexts, bits // 8),
            "randomness": join(randomness, bits // 8),
            "ciphertexts": join(ciphertexts, bits // 4),
            **proved,
            "payload": signed(b"paillier payload v2", name, context, body).hex(),
        }

    blind_seed = digest(b"vector blind")
    width = bits // 8 + 16
    key = hkdf(blind_seed, context, prefixed(b"secirls paillier blind v1"))
    blind = [value % n for value in split(keystream(key, width * len(columns[0])), width, "big")]
    blinded = []
    for place, amount in enumerate(blind):
        product = pow(n + 1, amount, square)
        for column in columns:
            product = product * column[place] % square
        blinded.append(product)
    decision = digest(
        b"secirls paillier decision v1",
        bytes.fromhex(join(blinded, bits // 4)),
        *(name.encode() for name in names),
    )
    lam = (p - 1) * (q - 1)
    opened = [(pow(c, lam, square) - 1) // n * pow(lam, -1, n) % n for c in blinded]
    bare = [(value - amount) % n for value, amount in zip(opened, blind, strict=True)]
    total = unpack(bare, slot_bits, slots, values, digit_bits)
    expected = [sum(column) % (1 << digit_bits) for column in zip(*vectors.values(), strict=True)]
    if total != expected:
        raise SystemExit(f"{title}: the slow implementation is wrong")
    blinded_bytes = bytes.fromhex(join(blinded, bits // 4))
    payloads = [field for name in names for field in (name.encode(), bytes.fromhex(sites[name]["payload"]))]
    consents = {name: signed(b"paillier consent", name, context, decision) for name in names}
    signers = [field for name in names for field in (name.encode(), consents[name])]
    opening = signed(b"paillier opened", "key-holder", context, decision + bytes.fromhex(join(opened, bits // 8)))
    return {
        "title": title,
        "why": why,
        "p": f"{p:x}",
        "q": f"{q:x}",
        "obfuscation": obfuscation,
        **({"orders": [f"{order:x}" for order in orders]} if orders else {}),
        "context": {
            "session": session.hex(),
            "round": 7,
            "attempt": 1,
            "cohort": names,
            "layout": layout.hex(),
            "values": values,
            "limbs": limbs,
        },
        "context_digest": context.hex(),
        "base": join([h], bits // 8),
        "slot_bits": slot_bits,
        "slots": slots,
        "sites": sites,
        "blind_seed": blind_seed.hex(),
        "blinds": join(blind, bits // 8),
        "blinded": join(blinded, bits // 4),
        "decision": decision.hex(),
        "request": prefixed(blind_seed, decision, *payloads).hex(),
        "consents": {name: consent.hex() for name, consent in consents.items()},
        "mandate": prefixed(blinded_bytes, prefixed(*(name.encode() for name in names)), *signers).hex(),
        "opened": join(opened, bits // 8),
        "opening": opening.hex(),
        "total": b"".join(element.to_bytes(8 * limbs, "little") for element in total).hex(),
    }


def negative():
    """Inputs that must be refused, each with the verb that refuses it."""
    p, q = primes()
    n = p * q
    square, width = n * n, n.bit_length() // 4
    good = pow(2, n, square)
    slots = 3
    slot_bits = 130

    def ciphertexts(why, *numbers, cut=0):
        data = b"".join(value.to_bytes(width, "big") for value in numbers)
        return {"verb": "read_ciphertexts", "why": why, "count": 2, "data": data[: len(data) - cut].hex()}

    def plaintexts(why, *numbers):
        return {"verb": "unpack", "why": why, "values": 4, "parties": 3, "data": join(numbers, width // 2)}

    def public(why, value, size=width // 2):
        return {"verb": "public_key", "why": why, "data": value.to_bytes(size, "big").hex()}

    def message(verb, why, *fields, cut=0):
        data = prefixed(*fields)
        return {"verb": verb, "why": why, "data": data[: len(data) - cut].hex()}

    seed, both = bytes(32), (b"ann", b"payload", b"bob", b"payload")
    return [
        message("read_request", "no decision", seed),
        message("read_request", "a seed too short", seed[1:], seed, *both),
        message("read_request", "a digest too long", seed, seed + b"\0", *both),
        message("read_request", "a name without its payload", seed, seed, *both, b"cem"),
        message("read_request", "a name twice", seed, seed, *both, b"ann", b"other"),
        message("read_request", "a name beyond ASCII", seed, seed, b"\xe4nn", b"payload"),
        message("read_request", "one byte is missing", seed, seed, *both, cut=1),
        message("read_request", "half a length", seed, seed, b"", cut=2),
        message("read_mandate", "no names", good.to_bytes(width, "big")),
        message("read_mandate", "names that are no list", b"", b"ann", *both),
        message("read_mandate", "a name twice", b"", prefixed(b"ann"), *both, b"bob", b"other"),
        message("read_mandate", "one byte is missing", b"", prefixed(b"ann"), *both, cut=1),
        ciphertexts("zero is no unit", good, 0),
        ciphertexts("the modulus is no unit", n, good),
        ciphertexts("a multiple of a prime would betray it", good, p * 12345),
        ciphertexts("n^2 is out of range", square, good),
        ciphertexts("all ones is out of range", (1 << (8 * width)) - 1, good),
        ciphertexts("one byte is missing", good, good, cut=1),
        ciphertexts("one ciphertext is missing", good),
        ciphertexts("one ciphertext too many", good, good, good),
        plaintexts("a bit above the slots", 1 << (slots * slot_bits), 0),
        plaintexts("a carry that three parties can't make", 3 << 128, 0),
        plaintexts("something in an empty slot", 0, 1 << slot_bits),
        plaintexts("a carry in an empty slot", 0, 1 << (slot_bits + 128)),
        public("even", n - 1),
        public("a prime", next_prime(1 << 511)),
        public("a square", next_prime(P) ** 2),
        public("a small factor", 3 * ((1 << 511) // 3 | 1)),
        public("one bit too short", n >> 1 | 1),
        public("leading zeros", n, width // 2 + 1),
    ]


def vectors():
    ones = (1 << 128) - 1
    return {
        "sums": [
            one_sum(
                "two limbs, djn",
                "carries out of every slot, a part-filled last plaintext",
                2,
                "djn",
                {
                    "ann": [ones, 0, 1, ones, 1 << 127],
                    "bob": [ones, 0, ones, 1, 1 << 127],
                    "cem": [ones, 0, 5, 12345678901234567890123456789, 0],
                },
            ),
            one_sum(
                "one limb, short",
                "the compact profile's slots, and the short exponent",
                1,
                "short",
                {"ann": [2**64 - 1, 1, 0], "bob": [2**64 - 1, 2, 0], "cem": [2**64 - 1, 3, 0]},
            ),
            one_sum(
                "two limbs, textbook",
                "Paillier's own obfuscation",
                2,
                "textbook",
                {"ann": [1], "bob": [2], "cem": [3]},
            ),
            one_sum(
                "two limbs, subgroup",
                "residues of a small group alone, whose base travels with the modulus",
                2,
                "subgroup",
                {"ann": [ones, 4, 1], "bob": [ones, 5, 2], "cem": [1, 6, 3]},
            ),
        ],
        "refused": negative(),
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
