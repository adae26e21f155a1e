"""Paillier key pairs, and encryption and decryption of single plaintexts: the only door to phe.

Promises: ciphertexts are those of phe's ``raw_encrypt`` with the same randomness, bit for bit, and
open with its ``raw_decrypt``; a private key never leaves its process.
Refuses to know: what a plaintext packs, who may ask for a decryption, where randomness comes from.

P. Paillier, Public-key cryptosystems based on composite degree residuosity classes, EUROCRYPT 1999,
with g = n + 1; I. Damgard, M. Jurik, J. B. Nielsen, A generalization of Paillier's public-key system
with applications to electronic voting, Int. J. Inf. Secur. 9 (2010), for the primes that ``djn`` needs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.primitives import big_numbers
from protocols.primitives.big_numbers import number, power, powers
from protocols.primitives.keys import Entropy, Secret, parts

SPARE_BYTES = 16
"""A number reduced from this many bytes more than its modulus has is uniform but for 2^-128."""

_SMALL_PRIMES = math.prod(p for p in range(3, 1000) if all(p % d for d in range(2, math.isqrt(p) + 1)))


@dataclass(frozen=True)
class PublicKey:
    """The modulus, and what anyone can compute with it."""

    n: int

    @cached_property
    def bits(self) -> int:
        """Length of the modulus."""
        return int(self.n).bit_length()

    @cached_property
    def n_squared(self) -> int:
        """Ciphertexts live modulo this."""
        return number(self.n) ** 2

    @cached_property
    def plaintext_bytes(self) -> int:
        """Bytes of one plaintext on the wire."""
        return self.bits // 8

    @cached_property
    def ciphertext_bytes(self) -> int:
        """Bytes of one ciphertext on the wire."""
        return self.bits // 4

    @cached_property
    def security_bits(self) -> int:
        """Strength of factoring the modulus as NIST SP 800-57 part 1 (2020), table 2 counts it; 0 below 2048."""
        return 0 if self.bits < 2048 else 112 if self.bits < 3072 else 128

    @cached_property
    def djn_base(self) -> int:
        """The base ``h = -x^2 mod n`` of Damgard, Jurik and Nielsen (section 4.2); x is hashed from n.

        Hashing makes x uniform to everyone, in the random-oracle model, and leaves nothing to publish or trust.
        """
        wide = hashlib.shake_256(parts(b"secirls paillier base v1", self.to_bytes()))
        x = int.from_bytes(wide.digest(self.plaintext_bytes + SPARE_BYTES), "big") % self.n
        return number(-(x * x) % self.n)

    def nude(self, plaintext: int) -> int:
        """``(n + 1) ** plaintext mod n^2``: a ciphertext that hides nothing yet."""
        return number(self.n * plaintext + 1)

    def refuse_malformed(self, ciphertexts: Sequence[int]) -> None:
        """Raise `ValueError` unless all are units modulo n^2: in range, and sharing no factor with n."""
        product = number(1)
        for at, ciphertext in enumerate(ciphertexts):
            if not 0 < ciphertext < self.n_squared:
                raise ValueError(f"ciphertext {at} is out of range")
            product = product * ciphertext % self.n
        # One gcd for all: a product is a unit exactly if every factor is.
        if math.gcd(int(product), int(self.n)) != 1:
            raise ValueError("a ciphertext shares a factor with the modulus")

    def to_bytes(self) -> bytes:
        """The modulus, big-endian."""
        return int(self.n).to_bytes(self.plaintext_bytes, "big")

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, bits: int) -> PublicKey:
        """Read `to_bytes`. Raises `ValueError` unless it is a plausible modulus of exactly that many bits."""
        n = int.from_bytes(data, "big")
        if len(data) != bits // 8 or n.bit_length() != bits:
            raise ValueError(f"the public key is no modulus of {bits} bits")
        if n % 2 == 0 or math.gcd(n, _SMALL_PRIMES) != 1 or math.isqrt(n) ** 2 == n or big_numbers.is_prime(n):
            raise ValueError("the public key is no product of two large primes")
        return cls(number(n))


class PrivateKey(Secret):
    """The two primes, and decryption by the Chinese remainder theorem (Paillier 1999, section 7)."""

    def __init__(self, p: int, q: int) -> None:
        """Take two primes of one length. Raises `ValueError` unless they suit every kind of obfuscation."""
        p, q = int(p), int(q)
        if p == q or p.bit_length() != q.bit_length() or not (big_numbers.is_prime(p) and big_numbers.is_prime(q)):
            raise ValueError("a Paillier key needs two different primes of one length")
        if p % 4 != 3 or q % 4 != 3 or math.gcd(p - 1, q - 1) != 2:
            raise ValueError("short-exponent obfuscation needs p = q = 3 mod 4 and gcd(p - 1, q - 1) = 2")
        from phe.paillier import PaillierPrivateKey, PaillierPublicKey

        # phe orders the primes and computes the constants of the decryption; we keep its key beside ours.
        self._phe: Any = PaillierPrivateKey(PaillierPublicKey(p * q), p, q)
        self.public = PublicKey(number(p * q))
        self._halves = [
            tuple(number(int(value)) for value in half)
            for half in (
                (self._phe.p, self._phe.psquare, self._phe.hp),
                (self._phe.q, self._phe.qsquare, self._phe.hq),
            )
        ]
        self._p_inverse = number(int(self._phe.p_inverse))

    def decrypt(self, ciphertexts: Sequence[int], n_jobs: int = 1) -> list[int]:
        """The plaintexts, each below n; the ciphertexts are units modulo n^2."""
        residues = []
        for prime, square, constant in self._halves:
            lifted = powers([ciphertext % square for ciphertext in ciphertexts], prime - 1, square, n_jobs)
            residues.append([(value - 1) // prime * constant % prime for value in lifted])
        p, q = self._halves[0][0], self._halves[1][0]
        return [
            low + (high - low) * self._p_inverse % q * p for low, high in zip(residues[0], residues[1], strict=True)
        ]

    def safe_order(self) -> int:
        """``p' q'``, how many squares there are modulo n. Raises `ValueError` unless both primes are safe."""
        halves = [(int(half[0]) - 1) // 2 for half in self._halves]
        if not all(map(big_numbers.is_prime, halves)):
            raise ValueError("a key to be shared needs safe primes")
        return math.prod(halves)

    def phe_pair(self) -> tuple[Any, Any]:
        """The public and private key objects of phe: the reference that tests compare with."""
        return self._phe.public_key, self._phe


def make_key(bits: int, entropy: Entropy) -> PrivateKey:
    """A fresh key whose modulus has exactly that many bits, from this process's own random bytes.

    phe's generator would be as safe (it draws from the system), but only one of its key pairs in about
    six has the primes that ``djn`` needs, and it can't be replayed from a tape. So the primes are drawn
    here, uniform among those with two leading ones and 3 mod 4, and phe builds the key from them.
    """
    while True:
        p, q = _draw_prime(bits // 2, entropy), _draw_prime(bits // 2, entropy)
        # Primes that agree in their upper half would fall to Fermat's method (FIPS 186-5, A.1.3).
        if abs(p - q) >> (bits // 2 - 100 if bits >= 2048 else bits // 4) and math.gcd(p - 1, q - 1) == 2:
            return PrivateKey(p, q)


def _draw_prime(bits: int, entropy: Entropy) -> int:
    while True:
        candidate = int.from_bytes(entropy(bits // 8), "big") | (3 << (bits - 2)) | 3
        if big_numbers.is_prime(candidate):
            return candidate


def textbook_obfuscators(public: PublicKey, randomness: Iterable[int], n_jobs: int = 1) -> list[int]:
    """``r ** n mod n^2`` for each r: Paillier's own obfuscation, at the cost of a full power."""
    return powers(list(randomness), public.n, public.n_squared, n_jobs)


def djn_generator(public: PublicKey) -> int:
    """``h_s = h ** n mod n^2`` (section 4.2): its powers are the obfuscators of ``djn`` and ``short``."""
    return power(public.djn_base, public.n, public.n_squared)
