"""Threshold sharing of 32-byte secrets over the prime field of 2^256 + 297 elements (Shamir 1979).

Promises: any ``threshold`` shares give the secret back, fewer say nothing about it, and a false share
among enough good ones is found and named. Refuses to know: whose secret it is and who holds a share.

The prime is the first above 2^256, so every 32-byte string is a field element as it stands. A share is
the polynomial's value at its index, 33 bytes little-endian; indices count from 1, because the value at 0
is the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, islice
from math import comb, prod

from protocols.primitives.keys import Entropy

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33

Accepts = Callable[[bytes], bool]
"""Says whether a secret is the right one: it fits a public key or a commitment."""

_DRAW_BYTES = 48
"""128 bits more than the field has: reduced modulo the prime, a draw is uniform to within 2^-127."""
_MOST_TRIALS = 5_000
"""So many ways of leaving shares out are tried before a set of them is called beyond repair."""


class ShareError(ValueError):
    """The shares do not belong together; `bad` holds the indices of the false ones where they are known."""

    def __init__(self, reason: str, bad: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.bad = tuple(bad)


def split(secret: bytes, threshold: int, count: int, entropy: Entropy) -> tuple[bytes, ...]:
    """Shares number 1 to ``count`` of a 32-byte secret; any ``threshold`` of them open it.

    Draws 48 bytes of entropy for each of the ``threshold - 1`` coefficients, highest power last.
    """
    return tuple(split_at(secret, threshold, range(1, count + 1), entropy).values())


def split_at(secret: bytes, threshold: int, indices: Collection[int], entropy: Entropy) -> dict[int, bytes]:
    """The shares of `split` at the given indices only: for few holders among many parties."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a shared secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 1 <= threshold <= len(indices) or min(indices) < 1:
        raise ValueError(f"threshold {threshold} can't be met by {len(indices)} shares")
    draws = [int.from_bytes(entropy(_DRAW_BYTES), "little") % PRIME for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(secret, "little"), *draws]
    return {index: value_at(coefficients, index).to_bytes(SHARE_BYTES, "little") for index in indices}


def combine(shares: Mapping[int, bytes], threshold: int, accepts: Accepts | None = None) -> bytes:
    """The secret behind shares given by index.

    All shares are used, not only the first ``threshold``: one that does not lie on the others' polynomial
    raises `ShareError` naming its index. With ``accepts`` one good share to spare is
    enough to name the bad ones; without it there must be twice as many to spare as are bad.
    """
    points: dict[int, int] = {}
    for index in sorted(shares):
        value = int.from_bytes(shares[index], "little")
        if index < 1 or len(shares[index]) != SHARE_BYTES or value >= PRIME:
            raise ShareError(f"share {index} is not an element of the field", (index,))
        points[index] = value
    if len(points) < threshold:
        raise ShareError(f"{len(points)} shares are too few: the threshold is {threshold}")
    if fit_one_polynomial(points, threshold):
        secret = _secret_of(points, threshold, accepts)
        if secret is not None:
            return secret
    elif bad := _bad_shares(points, threshold, accepts):
        raise ShareError(f"share {', '.join(map(str, bad))} does not fit the others", bad)
    raise ShareError("the shares do not open the secret, and it can't be told which are false")


def evaluate(coefficients: Sequence[int], count: int, prime: int = PRIME) -> list[int]:
    """The polynomial's values at 1 to ``count``; its constant coefficient, the secret, comes first."""
    return [value_at(coefficients, x, prime) for x in range(1, count + 1)]


def value_at(coefficients: Sequence[int], x: int, prime: int = PRIME) -> int:
    """The polynomial's value at one index."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % prime
    return value


def interpolate(points: Mapping[int, int], prime: int = PRIME) -> int:
    """The value at 0 of the polynomial of lowest degree through the points."""
    indices = tuple(points)
    weights = _weights_at_zero(indices, prime)
    return sum(weight * points[index] for weight, index in zip(weights, indices, strict=True)) % prime


def fit_one_polynomial(points: Mapping[int, int], threshold: int, prime: int = PRIME) -> bool:
    """Whether the points lie on one polynomial of degree below the threshold.

    They do exactly when every ``sum of y / prod(x - others) * x^k`` vanishes for k below the number of
    points to spare: the parity checks of the Reed-Solomon code that Shamir's shares are (McEliece and
    Sarwate 1981).
    """
    indices = tuple(points)
    terms = [w * points[x] % prime for w, x in zip(_dual_weights(indices, prime), indices, strict=True)]
    for _ in range(len(points) - threshold):
        if sum(terms) % prime:
            return False
        terms = [term * x % prime for term, x in zip(terms, indices, strict=True)]
    return True


def _secret_of(points: Mapping[int, int], threshold: int, accepts: Accepts | None) -> bytes | None:
    """The secret behind points on one polynomial, if it is acceptable."""
    value = interpolate(dict(islice(points.items(), threshold)))
    if value >> (8 * SECRET_BYTES):
        return None
    secret = value.to_bytes(SECRET_BYTES, "little")
    return secret if accepts is None or accepts(secret) else None


def _bad_shares(points: Mapping[int, int], threshold: int, accepts: Accepts | None) -> tuple[int, ...]:
    """The fewest indices without which the rest agree; empty when that can't be said with certainty."""
    spare = len(points) - threshold
    trials = 0
    for wrong in range(1, (spare if accepts is not None else spare // 2) + 1):
        trials += comb(len(points), wrong)
        if trials > _MOST_TRIALS:
            break
        for suspects in combinations(points, wrong):
            rest = {index: value for index, value in points.items() if index not in suspects}
            if fit_one_polynomial(rest, threshold) and _secret_of(rest, threshold, accepts) is not None:
                return suspects
    return ()


@lru_cache(maxsize=256)
def _weights_at_zero(indices: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """Lagrange's weights for the value at 0."""
    return tuple(
        prod(other for other in indices if other != index)
        * pow(prod(other - index for other in indices if other != index), -1, prime)
        % prime
        for index in indices
    )


@lru_cache(maxsize=256)
def _dual_weights(indices: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """``1 / prod(x - others)`` for each index."""
    return tuple(pow(prod(index - other for other in indices if other != index), -1, prime) for index in indices)
