"""Paillier key pairs, and encryption and decryption of single plaintexts: the only door to phe.

Promises: ciphertexts are those of phe's ``raw_encrypt`` with the same randomness, bit for bit, and
open with its ``raw_decrypt``; a private key never leaves its process.
Refuses to know: what a plaintext packs, who may ask for a decryption, where randomness comes from.

P. Paillier, Public-key cryptosystems based on composite degree residuosity classes, EUROCRYPT 1999,
with g = n + 1; I. Damgard, M. Jurik, J. B. Nielsen, A generalization of Paillier's public-key system
with applications to electronic voting, Int. J. Inf. Secur. 9 (2010), for the primes that ``djn`` needs.

A *subgroup key* hides with residues of a small group alone, whose order only its maker knows: Paillier's own idea
(section 6), as H. Ma, S. Han and H. Lei turned it (Optimized Paillier's cryptosystem with fast encryption and
decryption, ACSAC 2021). With ``p = 2 u r + 1``, ``q = 2 v t + 1``, u and v prime, the base is ``h = -x^(2 r t)``, of
order 2 u v, and the 2 u-th power modulo p^2 leaves of a ciphertext only its plaintext, where otherwise the power must
be the (p - 1)-th.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.primitives.keys import Entropy, Secret, parts
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.big_numbers import number, power, powers

SPARE_BYTES = 16
"""A number reduced from this many bytes more than its modulus has is uniform but for 2^-128."""

_SMALL_PRIMES = math.prod(p for p in range(3, 1000) if all(p % d for d in range(2, math.isqrt(p) + 1)))


def security_bits(key_bits: int) -> int:
    """Strength of factoring such a modulus as NIST SP 800-57 part 1 (2020), table 2 counts it; 0 below 2048."""
    return 0 if key_bits < 2048 else 112 if key_bits < 3072 else 128


@dataclass(frozen=True)
class PublicKey:
    """The modulus, and what anyone can compute with it."""

    n: int
    subgroup_base: int | None = None
    """Of a subgroup key: what generates its group."""

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
        """Strength of factoring the modulus."""
        return security_bits(self.bits)

    @property
    def base(self) -> int:
        """What obfuscators are powers of, n-th powers apart."""
        return self.djn_base if self.subgroup_base is None else self.subgroup_base

    @cached_property
    def djn_base(self) -> int:
        """The base ``h = -x^2 mod n`` of Damgard, Jurik and Nielsen (section 4.2); x is hashed from n.

        Hashing makes x uniform to everyone, in the random-oracle model, and leaves nothing to publish or trust.
        """
        x = self.hashed_unit
        return number(-(x * x) % self.n)

    @cached_property
    def hashed_unit(self) -> int:
        """A number modulo n that nobody chose, hashed from n; a unit but for a chance of finding a factor."""
        wide = hashlib.shake_256(parts(b"secirls paillier base v1", self._modulus()))
        return number(int.from_bytes(wide.digest(self.plaintext_bytes + SPARE_BYTES), "big")) % self.n

    def nude(self, plaintext: int) -> int:
        """``(n + 1) ** plaintext mod n^2``: a ciphertext that hides nothing yet."""
        return number(self.n * plaintext + 1)

    def refuse_malformed(self, ciphertexts: Sequence[int]) -> None:
        """Raise `ValueError` unless all are units modulo n^2: in range, and sharing no factor with n."""
        self.refuse_out_of_range(ciphertexts)
        product = number(1)
        for ciphertext in ciphertexts:
            product = product * ciphertext % self.n
        self.refuse_factor(product)

    def refuse_out_of_range(self, ciphertexts: Sequence[int]) -> None:
        """Raise `ValueError` unless all are above zero and below n^2."""
        for at, ciphertext in enumerate(ciphertexts):
            if not 0 < ciphertext < self.n_squared:
                raise ValueError(f"ciphertext {at} is out of range")

    def refuse_factor(self, product: int) -> None:
        """Raise `ValueError` unless a product of ciphertexts is a unit: exactly if every factor is."""
        if math.gcd(int(product), int(self.n)) != 1:
            raise ValueError("a ciphertext shares a factor with the modulus")

    def to_bytes(self) -> bytes:
        """The modulus, then the base of a subgroup key; both big-endian and of one length."""
        if self.subgroup_base is None:
            return self._modulus()
        return self._modulus() + int(self.subgroup_base).to_bytes(self.plaintext_bytes, "big")

    def _modulus(self) -> bytes:
        return int(self.n).to_bytes(self.plaintext_bytes, "big")

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, bits: int, *, subgroup: bool = False) -> PublicKey:
        """Read `to_bytes`. Raises `ValueError` unless it is a plausible key of that kind and that many bits."""
        width = bits // 8
        n = int.from_bytes(data[:width], "big")
        if len(data) != width * (2 if subgroup else 1) or n.bit_length() != bits:
            raise ValueError(f"the public key is no modulus of {bits} bits" + " with its base" * subgroup)
        if n % 2 == 0 or math.gcd(n, _SMALL_PRIMES) != 1 or math.isqrt(n) ** 2 == n or big_numbers.is_prime(n):
            raise ValueError("the public key is no product of two large primes")
        if not subgroup:
            return cls(number(n))
        base = int.from_bytes(data[width:], "big")
        # Of order 2 modulo a prime it hides nothing there, and gives the prime away unless that is so modulo both.
        if base >= n or math.gcd(base * (base * base - 1), n) != 1:
            raise ValueError("the base of the public key generates no group that hides")
        return cls(number(n), number(base))


class PrivateKey(Secret):
    """The two primes, and decryption by the Chinese remainder theorem (Paillier 1999, section 7)."""

    def __init__(self, p: int, q: int, orders: tuple[int, int] | None = None) -> None:
        """Take two primes of one length, and of a subgroup key the prime orders of its group modulo p and modulo q.

        Raises `ValueError` unless they suit every kind of obfuscation.
        """
        p, q = int(p), int(q)
        if p == q or p.bit_length() != q.bit_length() or not (big_numbers.is_prime(p) and big_numbers.is_prime(q)):
            raise ValueError("a Paillier key needs two different primes of one length")
        if p % 4 != 3 or q % 4 != 3 or math.gcd(p - 1, q - 1) != 2:
            raise ValueError("short-exponent obfuscation needs p = q = 3 mod 4 and gcd(p - 1, q - 1) = 2")
        from phe.paillier import PaillierPrivateKey, PaillierPublicKey

        # phe orders the primes and computes what joins the halves of a decryption; we keep its key beside ours.
        self._phe: Any = PaillierPrivateKey(PaillierPublicKey(p * q), p, q)
        base = None if orders is None else _subgroup_base(p, q, orders)
        self.public = PublicKey(number(p * q), base)
        exponents = {p: p - 1, q: q - 1} if orders is None else {p: 2 * orders[0], q: 2 * orders[1]}
        self._halves = [_Half(number(prime), exponents[prime], p * q) for prime in (self._phe.p, self._phe.q)]
        self._p_inverse = number(int(self._phe.p_inverse))

    def decrypt(self, ciphertexts: Sequence[int], n_jobs: int = 1) -> list[int]:
        """The plaintexts, each below n; the ciphertexts are units modulo n^2.

        Raises `ValueError` where one is hidden outside the group of a subgroup key.
        """
        low, high = (half.residues(ciphertexts, n_jobs) for half in self._halves)
        p, q = (half.prime for half in self._halves)
        return [a + (b - a) * self._p_inverse % q * p for a, b in zip(low, high, strict=True)]

    def safe_order(self) -> int:
        """``p' q'``, how many squares there are modulo n. Raises `ValueError` unless both primes are safe."""
        halves = [(int(half.prime) - 1) // 2 for half in self._halves]
        if not all(map(big_numbers.is_prime, halves)):
            raise ValueError("a key to be shared needs safe primes")
        return math.prod(halves)

    def phe_pair(self) -> tuple[Any, Any]:
        """The public and private key objects of phe: the reference that tests compare with."""
        return self._phe.public_key, self._phe


class _Half(Secret):
    """Decryption modulo one of the primes: a power that leaves nothing of an obfuscator."""

    def __init__(self, prime: int, exponent: int, n: int) -> None:
        self.prime = prime
        self._square = prime * prime
        self._exponent = exponent
        self._constant = power((power(n + 1, exponent, self._square) - 1) // prime, -1, prime)

    def residues(self, ciphertexts: Sequence[int], n_jobs: int) -> list[int]:
        """The plaintexts modulo the prime."""
        lifted = powers([ciphertext % self._square for ciphertext in ciphertexts], self._exponent, self._square, n_jobs)
        if any(value % self.prime != 1 for value in lifted):
            raise ValueError("a ciphertext is hidden outside the group of the key")
        return [(value - 1) // self.prime * self._constant % self.prime for value in lifted]


def _subgroup_base(p: int, q: int, orders: tuple[int, int]) -> int:
    """``-x^(2 r t) mod n`` with x hashed from n. Raises `ValueError` unless the orders are primes that belong there."""
    u, v = orders
    rest, loose = divmod((p - 1) * (q - 1), 4 * u * v)
    if loose or (p - 1) % u or u == v or math.gcd(rest, u * v) != 1 or not all(map(big_numbers.is_prime, orders)):
        raise ValueError("a subgroup key needs two different primes that divide p - 1 and q - 1 once")
    n = p * q
    return number(-power(PublicKey(number(n)).hashed_unit, 2 * rest, n) % n)


def order_bits(key_bits: int) -> int:
    """Length of u and of v: twice the security level; of keys for tests an eighth of the key's.

    The best attack known on a hidden order takes the square root of u (J.-S. Coron, A. Joux, A. Mandal, D. Naccache,
    M. Tibouchi, Cryptanalysis of the RSA subgroup assumption from TCC 2005, PKC 2011).
    """
    strength = security_bits(key_bits)
    return 2 * strength if strength else key_bits // 8


def make_key(bits: int, entropy: Entropy, *, subgroup: bool = False) -> PrivateKey:
    """A fresh key whose modulus has exactly that many bits, from this process's own random bytes.

    phe's generator would be as safe (it draws from the system), but only one of its key pairs in about
    six has the primes that ``djn`` needs, and it can't be replayed from a tape. So the primes are drawn
    here, uniform among those with two leading ones and 3 mod 4, and phe builds the key from them.
    """
    while True:
        if subgroup:
            (p, u), (q, v) = (_draw_prime_with_order(bits // 2, order_bits(bits), entropy) for _ in range(2))
            orders = (u, v)
        else:
            p, q, orders = _draw_prime(bits // 2, entropy), _draw_prime(bits // 2, entropy), None
        # Primes that agree in their upper half would fall to Fermat's method (FIPS 186-5, A.1.3).
        if abs(p - q) >> (bits // 2 - 100 if bits >= 2048 else bits // 4) and math.gcd(p - 1, q - 1) == 2:
            return PrivateKey(p, q, orders)


def _draw_prime(bits: int, entropy: Entropy) -> int:
    while True:
        candidate = int.from_bytes(entropy(bits // 8), "big") | (3 << (bits - 2)) | 3
        if big_numbers.is_prime(candidate):
            return candidate


def _draw_prime_with_order(bits: int, length: int, entropy: Entropy) -> tuple[int, int]:
    """A prime as `_draw_prime` draws it, and a prime of that length that divides it less one, once."""
    order = _draw_prime(length, entropy)
    while True:
        about = int.from_bytes(entropy(bits // 8), "big") | (3 << (bits - 2))
        rest = about // (2 * order) | 1
        candidate = 2 * order * rest + 1
        if candidate >> (bits - 2) == 3 and rest % order and big_numbers.is_prime(candidate):
            return candidate, order


def textbook_obfuscators(public: PublicKey, randomness: Iterable[int], n_jobs: int = 1) -> list[int]:
    """``r ** n mod n^2`` for each r: Paillier's own obfuscation, at the cost of a full power."""
    return powers(list(randomness), public.n, public.n_squared, n_jobs)


def djn_generator(public: PublicKey) -> int:
    """``h_s = h ** n mod n^2`` (section 4.2): its powers are the obfuscators of all but ``textbook``."""
    return power(public.base, public.n, public.n_squared)
