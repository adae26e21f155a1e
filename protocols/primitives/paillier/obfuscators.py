"""Obfuscators: the random n-th residues that hide a Paillier plaintext, made ahead or when needed.

Promises: an obfuscator leaves its stock once, with what only its maker knows of it, and is never used again; the
same random bytes give the same obfuscators, ahead or not. Refuses to know: what is hidden with them.

``textbook``  r^n mod n^2, r uniform: Paillier 1999; rests on decisional composite residuosity alone.
``djn``       h_s^a mod n^2, a uniform of half the key's length: Damgard, Jurik and Nielsen 2010, section 4.2.
              Rests in addition on h^a being indistinguishable from a random element of its group.
``short``     the same with a of twice the security level's length: the plain short-exponent assumption.
``subgroup``  the same with the base of a subgroup key and a 128 bits longer than the group's order, so that all of the
              group's residues are as likely: Ma, Han and Lei 2021. Rests on composite residuosity within that group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.keys import Entropy, Secret
from protocols.primitives.paillier import lanes
from protocols.primitives.paillier.big_numbers import from_buffer, number, power, product_of_powers
from protocols.primitives.paillier.lanes import Lanes
from protocols.primitives.paillier.paillier_keys import (
    SPARE_BYTES,
    PublicKey,
    djn_generator,
    order_bits,
    textbook_obfuscators,
)

TABLE_BYTES = 128 << 20
"""Fixed-base tables stay below this; they are public, and one process holds one per key."""

_WIDEST_WINDOW = 12
_SMALLEST_SECURITY_BITS = 112


def exponent_bits(public: PublicKey, obfuscation: str) -> int:
    """Length of the random exponent: half the key's, twice the security level's, or enough for a uniform residue."""
    if obfuscation == "djn":
        return public.bits // 2
    if obfuscation == "subgroup":
        return 2 * order_bits(public.bits) + 8 * SPARE_BYTES
    return 2 * max(public.security_bits, _SMALLEST_SECURITY_BITS)


class FixedBasePowers:
    """Powers of one base, from tables of ``base ** (digit * 2 ** (window * place))`` for every digit and place.

    (E. F. Brickell, D. M. Gordon, K. S. McCurley, D. B. Wilson, Fast exponentiation with precomputation,
    EUROCRYPT 1992.) A power costs one multiplication per digit of its exponent and no squaring.
    """

    def __init__(self, base: int, modulus: int, bits: int, window: int) -> None:
        self._modulus = number(modulus)
        self._window = window
        self._bits = bits
        self._places = -(-bits // window)
        steps = [number(base)]
        while len(steps) < self._places:
            steps.append(power(steps[-1], 1 << window, self._modulus))
        self._lanes = Lanes(modulus) if lanes.fit(modulus) else None
        if self._lanes is None:
            self._rows = [self._row(step) for step in steps]
        else:
            self._side_by_side = self._lanes.rows(steps, 1 << window)

    def _row(self, step: int) -> list[int]:
        row = [number(1)]
        for _ in range((1 << self._window) - 1):
            row.append(row[-1] * step % self._modulus)
        return row

    def raise_to(self, exponents: bytes) -> list[int]:
        """The powers for a buffer of little-endian exponents, ``bits // 8`` bytes each."""
        # Row by row, not power by power: one row of the tables then stays in the cache for all powers.
        digits = self._digits(exponents).T
        if self._lanes is not None:
            return [number(value) for value in self._lanes.look_up(self._side_by_side, digits)]
        modulus, places = self._modulus, digits.tolist()
        results = [self._rows[0][digit] for digit in places[0]]
        for row, place in zip(self._rows[1:], places[1:], strict=True):
            results = [result * row[digit] % modulus for result, digit in zip(results, place, strict=True)]
        return results

    def _digits(self, exponents: bytes) -> NDArray[np.int64]:
        """Digits of each exponent, lowest first: ``(exponents, places)``."""
        width = self._bits // 8
        raw = np.frombuffer(exponents, dtype=np.uint8).reshape(-1, width)
        bits = np.unpackbits(raw, axis=1, bitorder="little")
        padded = np.zeros((len(raw), self._places * self._window), dtype=np.int64)
        padded[:, : self._bits] = bits
        weights = np.left_shift(1, np.arange(self._window, dtype=np.int64))
        digits: NDArray[np.int64] = padded.reshape(len(raw), self._places, self._window) @ weights
        return digits


def entry_bytes(modulus: int) -> int:
    """What an entry of the tables takes: its limbs in lanes, or else its digits and 64 bytes beside them."""
    return 8 * Lanes(modulus).limbs if lanes.fit(modulus) else int(modulus).bit_length() // 8 + 64


def window_for(bits: int, entry: int) -> int:
    """The widest window, up to 12 bits, whose tables of entries of so many bytes stay below `TABLE_BYTES`."""
    for window in range(_WIDEST_WINDOW, 1, -1):
        if -(-bits // window) * (1 << window) * entry <= TABLE_BYTES:
            return window
    return 1


@lru_cache(maxsize=2)
def _tables(public: PublicKey, bits: int) -> FixedBasePowers:
    window = window_for(bits, entry_bytes(public.n_squared))
    return FixedBasePowers(djn_generator(public), public.n_squared, bits, window)


class Taken(Secret):
    """Obfuscators that have left their stock, and what only their maker knows of them."""

    def __init__(self, public: PublicKey, values: Sequence[int], known: Sequence[int], *, roots: bool) -> None:
        """``known`` holds the obfuscators' n-th roots modulo n, or else (``roots`` is False) their exponents."""
        self.values = values
        self._public = public
        self._known = known
        self._roots = roots

    def root(self, exponents: bytes, width: int) -> int:
        """The n-th root modulo n of the product of ``obfuscator ** exponent``, exponents of ``width`` bytes each."""
        public = self._public
        if self._roots:
            return product_of_powers(self._known, exponents, width, public.n)
        whole = sum(known * e for known, e in zip(self._known, from_buffer(exponents, width), strict=True))
        return power(public.base, whole, public.n)


class Obfuscators(Secret):
    """One party's stock of obfuscators for one public key."""

    def __init__(self, public: PublicKey, obfuscation: str, entropy: Entropy) -> None:
        self._public = public
        self._obfuscation = obfuscation
        self._entropy = entropy
        self._stock: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._stock)

    def prepare(self, count: int, n_jobs: int = 1) -> None:
        """Make that many ahead, in addition to what is in stock."""
        if count > 0:
            self._stock.extend(self._make(count, n_jobs))

    def take(self, count: int, n_jobs: int = 1) -> Taken:
        """Take that many out of the stock, oldest first, making what is missing."""
        self.prepare(count - len(self._stock), n_jobs)
        pairs = [self._stock.popleft() for _ in range(count)]
        values, known = [value for value, _ in pairs], [known for _, known in pairs]
        return Taken(self._public, values, known, roots=self._obfuscation == "textbook")

    def _make(self, count: int, n_jobs: int) -> zip[tuple[int, int]]:
        """Each with its n-th root, or its exponent."""
        public = self._public
        if self._obfuscation == "textbook":
            width = public.plaintext_bytes + SPARE_BYTES
            # 1 .. n - 1: zero would hide nothing, and phe takes it for "none given".
            roots = [value % (public.n - 1) + 1 for value in from_buffer(self._entropy(count * width), width)]
            return zip(textbook_obfuscators(public, roots, n_jobs), roots, strict=True)
        bits = exponent_bits(public, self._obfuscation)
        drawn, width = self._entropy(count * bits // 8), bits // 8
        exponents = (number(int.from_bytes(drawn[at : at + width], "little")) for at in range(0, len(drawn), width))
        return zip(_tables(public, bits).raise_to(drawn), exponents, strict=True)
