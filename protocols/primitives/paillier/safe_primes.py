"""Safe primes: p with (p - 1) / 2 prime too, which threshold Paillier needs of both factors of its modulus.

Promises: primes of exactly the asked length with two leading ones, from the caller's random bytes alone.
Refuses to know: what they are for.

One random number in some hundred thousand of 1024 bits is a safe prime. A sieve by small primes leaves only the
likely ones to be tested, so that a prime takes seconds, not minutes. It is a lottery all the same, and goes in
steps, so that it can be seen to go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.keys import Entropy
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.big_numbers import number, power

_SIEVED_BELOW = 1 << 16
_SPAN = 1 << 17
"""So many candidates after one random start are sieved together."""


@cache
def _small_primes() -> NDArray[np.int64]:
    sieve = np.ones(_SIEVED_BELOW, dtype=bool)
    sieve[:2] = False
    for p in range(2, int(_SIEVED_BELOW**0.5) + 1):
        if sieve[p]:
            sieve[p * p :: p] = False
    return np.flatnonzero(sieve)[1:]


def usual_tries(bits: int) -> int:
    """How many candidates are tested on average until one is a safe prime.

    Of numbers without a factor below B, one in ``ln(2 ** bits) / (e ** gamma ln B)`` is prime (F. Mertens 1874),
    and so is its half.
    """
    return round((bits * math.log(2) / (math.exp(np.euler_gamma) * math.log(_SIEVED_BELOW))) ** 2)


def search_safe_prime(bits: int, entropy: Entropy) -> Iterator[int | None]:
    """Test one candidate a step, giving None, until one is a safe prime, which is given last.

    It has that many bits, a multiple of 8, with two leading ones. The first safe prime after a random start:
    primes after long gaps are likelier than others, which costs next to nothing in entropy (J. Brandt, I. Damgard,
    On generation of probable primes by incremental search, CRYPTO '92).
    """
    while True:
        start = int.from_bytes(entropy(bits // 8), "big") | (3 << (bits - 2)) | 3
        span = min(_SPAN, 1 << (bits // 4))
        for offset in np.flatnonzero(_survivors(start, span)).tolist():
            candidate = start + 4 * offset
            if candidate.bit_length() > bits:
                break
            if _is_safe_prime(candidate):
                yield candidate
                return
            yield None


def _is_safe_prime(candidate: int) -> bool:
    half = (candidate - 1) // 2
    # Fermat's test to base two turns nearly every composite away, at the cost of one power.
    if power(2, half - 1, half) != 1 or power(2, candidate - 1, number(candidate)) != 1:
        return False
    return big_numbers.is_prime(half) and big_numbers.is_prime(candidate)


def _survivors(start: int, span: int) -> NDArray[np.bool_]:
    """Which of ``start + 4 k`` have no small factor, nor their halves; ``start`` is 3 modulo 4."""
    alive = np.ones(span, dtype=bool)
    primes = [p for p in _small_primes().tolist() if p * p < start]
    for p in primes:
        # start + 4 k = 0, and start + 4 k = 1 (then the half is 0), modulo p.
        quarter = pow(4, -1, p)
        residue = start % p
        alive[(-residue * quarter) % p :: p] = False
        alive[((1 - residue) * quarter) % p :: p] = False
    return alive
