"""Large integers: modular powers, and lists of them as buffers of fixed-width big-endian numbers.

Promises: the same integers with and without gmpy2, only slower without (and one warning then), and with and without
`lanes`, where there is much to do.
Refuses to know: which modulus is a secret. Nothing here runs in constant time.
"""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import cast

from protocols.primitives.paillier import lanes

_WORTH_THREADS = _WORTH_LANES = 10_000_000
"""Nanoseconds of work below which starting threads costs more than they save, and so may entering lanes."""
_FEW_BASES = 64
"""Below this many bases, filling buckets costs more than it saves."""


@cache
def _gmpy2() -> ModuleType | None:
    """The fast arithmetic, or None: said once, because one powmod costs eight times more without it."""
    try:
        import gmpy2  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        warnings.warn("gmpy2 is missing: Paillier works, but several times slower", RuntimeWarning, stacklevel=2)
        return None
    return cast("ModuleType", gmpy2)


def number(value: int) -> int:
    """The value in the form that computes fastest; it behaves as an int wherever we use it."""
    gmpy2 = _gmpy2()
    return value if gmpy2 is None else cast("int", gmpy2.mpz(value))


def power(base: int, exponent: int, modulus: int) -> int:
    """``base ** exponent % modulus``."""
    gmpy2 = _gmpy2()
    return pow(base, exponent, modulus) if gmpy2 is None else cast("int", gmpy2.powmod(base, exponent, modulus))


def powers(bases: Sequence[int], exponent: int, modulus: int, n_jobs: int = 1) -> list[int]:
    """Every base to one exponent; with gmpy2 the work leaves the interpreter's lock, so threads help."""
    # One step per bit of the exponent.
    nanoseconds = len(bases) * abs(exponent).bit_length() * _nanoseconds(modulus)
    raised = _all_raised
    if exponent and nanoseconds >= _WORTH_LANES and lanes.fit(modulus):
        raised = _raised_in_lanes
    if n_jobs <= 1 or len(bases) < 2 * n_jobs or nanoseconds < _WORTH_THREADS:
        return raised(bases, exponent, modulus)
    size = math.ceil(len(bases) / n_jobs)
    pieces = [list(bases[start : start + size]) for start in range(0, len(bases), size)]
    # Threads, not processes: as fast (`tests/benchmarks/test_paillier_speed.py`), and a secret exponent stays here.
    # And the standard library's: joblib's take some ten milliseconds to start and stop, a whole small sum.
    with ThreadPoolExecutor(n_jobs) as pool:
        lifted = pool.map(lambda piece: raised(piece, exponent, modulus), pieces)
        return [result for piece in lifted for result in piece]


def _nanoseconds(modulus: int) -> int:
    """What one product of residues takes: about a nanosecond per pair of limbs."""
    return (int(modulus).bit_length() // 64) ** 2


def _all_raised(bases: Sequence[int], exponent: int, modulus: int) -> list[int]:
    gmpy2 = _gmpy2()
    if gmpy2 is None:
        return [pow(base, exponent, modulus) for base in bases]
    return cast("list[int]", gmpy2.powmod_base_list(list(bases), exponent, modulus))


def _raised_in_lanes(bases: Sequence[int], exponent: int, modulus: int) -> list[int]:
    raised = lanes.Lanes(modulus).powers([base % modulus for base in bases], abs(exponent))
    return [number(value) if exponent > 0 else power(value, -1, modulus) for value in raised]


def product_of_powers(bases: Sequence[int], exponents: bytes, width: int, modulus: int) -> int:
    """Product of ``base ** exponent``, exponents of ``width`` bytes each, big-endian.

    Byte by byte: all bases with the same byte go into one bucket, and the buckets are raised together
    (N. Pippenger 1976), at about one multiplication per base and byte.
    """
    result = number(1)
    if len(bases) < _FEW_BASES:
        for base, exponent in zip(bases, from_buffer(exponents, width), strict=True):
            result = result * power(base, exponent, modulus) % modulus
        return result
    if len(bases) * width * _nanoseconds(modulus) >= _WORTH_LANES and lanes.fit(modulus):
        places = lanes.Lanes(modulus).products_of_powers([base % modulus for base in bases], exponents, width)
    else:
        places = [_place_product(bases, exponents[place::width], modulus) for place in range(width)]
    for total in places:
        result = power(result, 256, modulus) * total % modulus
    return result


def _place_product(bases: Sequence[int], digits: bytes, modulus: int) -> int:
    """Product of ``base ** digit``."""
    buckets = [number(1)] * 256
    for base, digit in zip(bases, digits, strict=True):
        buckets[digit] = buckets[digit] * base % modulus
    running, total = number(1), number(1)
    for bucket in reversed(buckets[1:]):
        running = running * bucket % modulus
        total = total * running % modulus
    return total


def is_prime(candidate: int, rounds: int = 40) -> bool:
    """Whether an odd number above 3 is prime; a composite passes with a chance below 4 ** -rounds."""
    gmpy2 = _gmpy2()
    return _miller_rabin(candidate, rounds) if gmpy2 is None else bool(gmpy2.is_prime(candidate, rounds))


def _miller_rabin(candidate: int, rounds: int) -> bool:
    """M. O. Rabin, Probabilistic algorithm for testing primality, J. Number Theory 12 (1980)."""
    if candidate % 2 == 0 or candidate < 5:
        return candidate in (2, 3)
    twos = ((candidate - 1) & (1 - candidate)).bit_length() - 1
    for _ in range(rounds):
        x = pow(2 + secrets.randbelow(candidate - 3), (candidate - 1) >> twos, candidate)
        passes = x in (1, candidate - 1)
        for _ in range(twos - 1):
            if passes:
                break
            x = x * x % candidate
            passes = x == candidate - 1
        if not passes:
            return False
    return True


def from_buffer(data: bytes | memoryview, width: int) -> list[int]:
    """Numbers of ``width`` big-endian bytes each. Raises `ValueError` unless they fill the buffer."""
    if len(data) % width:
        raise ValueError(f"{len(data)} bytes are no whole count of {width}-byte numbers")
    return [number(int.from_bytes(data[at : at + width], "big")) for at in range(0, len(data), width)]


def to_buffer(numbers: Iterable[int], width: int) -> bytes:
    """Numbers below ``256 ** width``, one after another, big-endian."""
    return b"".join(int(value).to_bytes(width, "big") for value in numbers)
