"""Paillier keys shared among holders: any threshold of them open a ciphertext, fewer learn nothing.

Promises: a combined plaintext is the right one or an error is raised; a false partial decryption is found,
and found to be its maker's. Refuses to know: who holds which share, and who may ask for what.

Paillier's own inversion (1999, section 5) finds the randomness r of ``c = (1 + n)^m r^n mod n^2`` as
``(c mod n)^(1/n) mod n``, which is an RSA power with public exponent n. It is shared here as V. Shoup does in
Practical threshold signatures (EUROCRYPT 2000): over safe primes ``p = 2 p' + 1``, ``q = 2 q' + 1``, the
exponent ``d = 1/n mod p' q'`` is the constant of a random polynomial modulo ``p' q'``, and holder i raises
to ``2 D f(i)``, with ``D = (number of holders)!`` so that any holder's partial follows in whole powers from those of
any others: what somebody with fewer shares sees can then be made without the rest. With E the least number that makes
Lagrange's weights of the combined holders whole, the combination is ``w = r^(4 D E)``, and
``c^(4 D E) w^-n = (1 + n)^(4 D E m)``.

Against I. Damgard and M. Jurik (PKC 2001, section 4.1), who share an exponent modulo ``n p' q'`` and work modulo
``n^2``, exponents and modulus have half the length: a holder's power costs an eighth. Whoever
combines could learn r, which is independent of every plaintext: see `protocols/README.md`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from protocols.primitives.keys import Entropy, Secret, parts
from protocols.primitives.paillier.big_numbers import from_buffer, number, power, powers, product_of_powers, to_buffer
from protocols.primitives.paillier.paillier_keys import SPARE_BYTES, PrivateKey, PublicKey
from protocols.primitives.paillier.safe_primes import search_safe_prime

CHALLENGE_BYTES = 16
"""A false proof passes with a chance of 2^-128."""
_MASK_BYTES = 47
"""The proof's mask is so much longer than the modulus: 2^248 times as long as what it hides."""


class FalsePartialError(ValueError):
    """A partial decryption that its holder's share does not give."""


@dataclass(frozen=True)
class ThresholdKey:
    """The public half: the modulus, and what every holder's share can be checked against."""

    public: PublicKey
    base: int
    """A square modulo n that nobody chose."""
    checks: tuple[int, ...]
    """``base ** share`` of every holder, in their order."""

    @cached_property
    def factorial(self) -> int:
        """D: makes Lagrange's weights of any holders, at any other, whole numbers."""
        return math.factorial(len(self.checks))

    @property
    def proof_bytes(self) -> int:
        """Length of one proof, whatever it is about."""
        return CHALLENGE_BYTES + self.public.plaintext_bytes + _MASK_BYTES + 1

    def to_bytes(self) -> bytes:
        """Modulus, then the checks: numbers of the modulus' length, big-endian."""
        return to_buffer([self.public.n, *self.checks], self.public.plaintext_bytes)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, bits: int, holders: int) -> ThresholdKey:
        """Read `to_bytes`. Raises `ValueError` unless it is a plausible key for that many holders."""
        width = bits // 8
        if len(data) != (1 + holders) * width:
            raise ValueError(f"the shared key is not one of {bits} bits for {holders} holders")
        public = PublicKey.from_bytes(data[:width], bits)
        checks = from_buffer(data[width:], width)
        _refuse_strange(public, checks)
        return cls(public, base_of(public), tuple(checks))

    def verify(self, holder: int, context: bytes, ciphertexts: Sequence[int], partials: Sequence[int], proof: bytes
               ) -> None:  # fmt: skip
        """Raise `FalsePartialError` unless all partials are holder ``holder``'s (from 1) for these ciphertexts.

        One proof stands for all: bases and partials are multiplied up with random exponents of 128 bits that
        were fixed only after them (M. Bellare, J. Garay, T. Rabin, Fast batch verification, EUROCRYPT '98); among
        squares modulo n nothing but 1 has a small order. Then V. Shoup's proof (2000, section 2.2) of one
        discrete logarithm in two places.
        """
        n, check = self.public.n, self.checks[holder - 1]
        if len(proof) != self.proof_bytes:
            raise FalsePartialError(f"a proof has {self.proof_bytes} bytes")
        try:
            _refuse_strange(self.public, partials)
        except ValueError as error:
            raise FalsePartialError(str(error)) from None
        challenge, response = int.from_bytes(proof[:CHALLENGE_BYTES], "big"), int.from_bytes(proof[CHALLENGE_BYTES:])
        seed, base, raised = self._batch(holder, context, ciphertexts, partials)
        first = power(self.base, response, n) * power(check, -challenge, n) % n
        second = power(base, response, n) * power(raised, -challenge, n) % n
        if self._challenge(seed, base, raised, first, second) != challenge:
            raise FalsePartialError("a partial decryption is not what the sender's share gives")

    def combine(self, ciphertexts: Sequence[int], partials: Mapping[int, Sequence[int]], n_jobs: int = 1) -> list[int]:
        """The plaintexts from partials of exactly the threshold of holders, by number.

        Raises `FalsePartialError` where they do not open every ciphertext: it can't give a wrong plaintext, because
        powers by n have one root only.
        """
        n, square = self.public.n, self.public.n_squared
        weights, denominator = _weights(tuple(partials))
        scale = 4 * self.factorial * denominator
        shared = [number(1)] * len(ciphertexts)
        for holder, weight in weights.items():
            lifted = powers(partials[holder], 2 * weight, n, n_jobs)
            shared = [value * other % n for value, other in zip(shared, lifted, strict=True)]
        nude = [
            power(ciphertext, scale, square) * root % square
            for ciphertext, root in zip(ciphertexts, powers(shared, -n, square, n_jobs), strict=True)
        ]
        if any(value % n != 1 for value in nude):
            raise FalsePartialError("the partial decryptions do not open the ciphertexts")
        unscale = power(scale, -1, n)
        return [(value - 1) // n * unscale % n for value in nude]

    def _batch(
        self, holder: int, context: bytes, ciphertexts: Sequence[int], partials: Sequence[int]
    ) -> tuple[bytes, int, int]:
        """Digest of the statement, and the two products it is proved for: of ``c^(4 D)`` and of squared partials."""
        n, width = self.public.n, self.public.plaintext_bytes
        statement = to_buffer((value % n for value in ciphertexts), width), to_buffer(partials, width)
        who = holder.to_bytes(4, "big")
        seed = hashlib.sha256(parts(b"secirls threshold proof v1", context, self.to_bytes(), who, *statement)).digest()
        exponents = hashlib.shake_256(seed).digest(CHALLENGE_BYTES * len(partials))
        base = power(product_of_powers(ciphertexts, exponents, CHALLENGE_BYTES, n), 4 * self.factorial, n)
        raised = product_of_powers(partials, exponents, CHALLENGE_BYTES, n)
        return seed, base, raised * raised % n

    def _challenge(self, seed: bytes, *numbers: int) -> int:
        text = parts(seed, to_buffer(numbers, self.public.plaintext_bytes))
        return int.from_bytes(hashlib.sha256(text).digest()[:CHALLENGE_BYTES], "big")


class KeyShare(Secret):
    """One holder's share of the private exponent."""

    def __init__(self, key: ThresholdKey, holder: int, value: int) -> None:
        """Take a share and check it. Raises `ValueError` unless it is the one the dealer published a check of."""
        if power(key.base, value, key.public.n) != key.checks[holder - 1]:
            raise ValueError("the share does not fit the key")
        self._key = key
        self._holder = holder
        self._value = number(value)

    def open(self, ciphertexts: Sequence[int], context: bytes, n_jobs: int = 1) -> tuple[list[int], bytes]:
        """Partial decryptions, and one proof for all of them; the same for the same ciphertexts and context.

        The proof's mask is derived, not drawn: from the share and everything it is about, so that one mask can't
        meet two challenges.
        """
        key, n = self._key, self._key.public.n
        partials = powers([value % n for value in ciphertexts], 2 * key.factorial * self._value, n, n_jobs)
        seed, base, raised = key._batch(self._holder, context, ciphertexts, partials)  # noqa: SLF001 - its own kind
        width = key.public.plaintext_bytes
        secret = parts(b"secirls threshold mask v1", int(self._value).to_bytes(width, "big"), seed)
        mask = int.from_bytes(hashlib.shake_256(secret).digest(width + _MASK_BYTES), "big")
        challenge = key._challenge(seed, base, raised, power(key.base, mask, n), power(base, mask, n))  # noqa: SLF001
        response = self._value * challenge + mask
        proof = challenge.to_bytes(CHALLENGE_BYTES, "big") + to_buffer([response], key.proof_bytes - CHALLENGE_BYTES)
        return partials, proof


def search_safe_key(bits: int, entropy: Entropy) -> Iterator[PrivateKey | None]:
    """A fresh key from two safe primes, in steps: None for every candidate that was tested, the key last.

    It takes seconds at 2048 bits, up to a minute at 3072.
    """
    while True:
        primes: list[int] = []
        while len(primes) < 2:
            for found in search_safe_prime(bits // 2, entropy):
                if found is not None:
                    primes.append(found)
                yield None
        p, q = primes
        if abs(p - q) >> (bits // 2 - 100 if bits >= 2048 else bits // 4):
            yield PrivateKey(p, q)
            return


def deal(private: PrivateKey, threshold: int, holders: int, entropy: Entropy) -> tuple[ThresholdKey, tuple[int, ...]]:
    """Share a key: the public half, and one number below the modulus for every holder.

    Whoever runs this knows the private key and must forget it, and every share.
    """
    order = private.safe_order()
    public = private.public
    width = public.plaintext_bytes + SPARE_BYTES
    secret = power(public.n, -1, order)
    drawn = (int.from_bytes(entropy(width), "big") % order for _ in range(threshold - 1))
    coefficients = [secret, *drawn]
    shares = tuple(
        sum(coefficient * x**k for k, coefficient in enumerate(coefficients)) % order for x in range(1, holders + 1)
    )
    base = base_of(public)
    return ThresholdKey(public, base, tuple(power(base, share, public.n) for share in shares)), shares


def base_of(public: PublicKey) -> int:
    """The square modulo n that shares are checked with: hashed from n, so that nobody chose it."""
    wide = hashlib.shake_256(parts(b"secirls threshold base v1", public.to_bytes()))
    x = int.from_bytes(wide.digest(public.plaintext_bytes + SPARE_BYTES), "big") % public.n
    return number(x * x % public.n)


def _refuse_strange(public: PublicKey, residues: Sequence[int]) -> None:
    """Raise `ValueError` unless all are units modulo n."""
    product = number(1)
    for residue in residues:
        if not 0 < residue < public.n:
            raise ValueError("a number is out of range")
        product = product * residue % public.n
    if math.gcd(int(product), int(public.n)) != 1:
        raise ValueError("a number shares a factor with the modulus")


def _weights(holders: tuple[int, ...]) -> tuple[dict[int, int], int]:
    """Lagrange's weight at 0 of every holder over their least common denominator, and that denominator.

    Of holders 1 .. t the weights are binomial coefficients, and the denominator is 1.
    """
    exact = {
        holder: math.prod((Fraction(other, other - holder) for other in holders if other != holder), start=Fraction(1))
        for holder in holders
    }
    denominator = math.lcm(*(weight.denominator for weight in exact.values()))
    return {holder: int(weight * denominator) for holder, weight in exact.items()}, denominator
