"""Threshold sharing of 32-byte secrets over the prime field of 2^256 + 297 elements (Shamir 1979).

Promises: any ``threshold`` shares give the secret back, fewer say nothing about it, and false shares among
enough good ones change nothing. Refuses to know: whose secret it is and who holds a share.

The prime is the first above 2^256, so every 32-byte string is a field element as it stands. A share is
the polynomial's value at its index, 33 bytes little-endian; indices count from 1, because the value at 0
is the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, combinations, zip_longest
from math import comb, prod
from operator import mul

from protocols.primitives.keys import Entropy

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33

Accepts = Callable[[bytes], bool]
"""Says whether a secret is the right one: it fits a public key or a commitment."""

_DRAW_BYTES = 48
"""128 bits more than the field has: reduced modulo the prime, a draw is uniform to within 2^-127."""
_POWERS_UNREDUCED = 16
"""Indices are small: products with so many of them are still cheaper than a reduction of each."""
_KEPT = 2048
"""Sets of holders whose weights are kept: in a room of a thousand every secret has its own."""
_MOST_TRIALS = 5_000
"""So many ways of leaving shares out are tried before a set of them is called beyond repair."""


class ShareError(ValueError):
    """The shares do not open the secret: too few of them belong together."""


def split(secret: bytes, threshold: int, count: int, entropy: Entropy) -> tuple[bytes, ...]:
    """Shares number 1 to ``count`` of a 32-byte secret; any ``threshold`` of them open it.

    Draws 48 bytes of entropy for each of the ``threshold - 1`` coefficients, highest power last.
    """
    return tuple(split_at(secret, threshold, range(1, count + 1), entropy).values())


def split_at(secret: bytes, threshold: int, indices: Collection[int], entropy: Entropy) -> dict[int, bytes]:
    """The shares of `split` at the given indices only: for few holders among many parties."""
    return split_all([secret], threshold, indices, entropy)[0]


def split_all(
    secrets: Sequence[bytes], threshold: int, indices: Collection[int], entropy: Entropy
) -> list[dict[int, bytes]]:
    """The shares of each secret as `split_at` makes them, one secret after the other, all at the same indices.

    The polynomials' values at an index are one large number's: each coefficient of theirs has its own stretch of it,
    wide enough for a value that is not reduced yet, so that Horner's rule takes one step for all.
    """
    if any(len(secret) != SECRET_BYTES for secret in secrets):
        raise ValueError(f"a shared secret has {SECRET_BYTES} bytes")
    if not 1 <= threshold <= len(indices) or min(indices) < 1:
        raise ValueError(f"threshold {threshold} can't be met by {len(indices)} shares")
    width = SHARE_BYTES + threshold * max(indices).bit_length() // 8 + 1
    polynomials = [
        (secret, *(_draw(entropy).to_bytes(SHARE_BYTES, "little") for _ in range(threshold - 1))) for secret in secrets
    ]
    stretched = [
        int.from_bytes(b"".join(part.ljust(width, b"\0") for part in parts), "little")
        for parts in zip(*polynomials, strict=True)
    ][::-1]
    shares: list[dict[int, bytes]] = [{} for _ in secrets]
    for index in indices:
        whole = 0
        for part in stretched:
            whole = whole * index + part
        values = whole.to_bytes(width * len(secrets), "little")
        for place, of in enumerate(shares):
            value = int.from_bytes(values[width * place : width * (place + 1)], "little") % PRIME
            of[index] = value.to_bytes(SHARE_BYTES, "little")
    return shares


def _draw(entropy: Entropy) -> int:
    """A uniform element of the field."""
    return int.from_bytes(entropy(_DRAW_BYTES), "little") % PRIME


def combine(shares: Mapping[int, bytes], threshold: int, accepts: Accepts | None = None) -> bytes:
    """The secret behind shares given by index; see `corrected`."""
    return corrected(shares, threshold, accepts)[0]


def corrected(shares: Mapping[int, bytes], threshold: int, accepts: Accepts | None = None) -> tuple[bytes, int]:
    """The secret behind shares given by index, whichever are false, as far as those to spare allow; how many are.

    All shares are looked at, not only the first ``threshold``. Half as many false ones as there are to spare are left
    out for sure, and, where ``accepts`` recognises the secret, as many as there are to spare, unless these are so many
    that the ways of leaving them out can't be tried. Raises `ShareError` where that is not enough. It says of nobody
    that a share was false: whoever dealt it could have dealt it false.
    """
    points = points_of(shares)
    if len(points) < threshold:
        raise ShareError(f"{len(points)} shares are too few: the threshold is {threshold}")
    for candidate, wrong in _candidates(points, threshold, search=accepts is not None):
        if candidate >> (8 * SECRET_BYTES) == 0:
            secret = candidate.to_bytes(SECRET_BYTES, "little")
            if accepts is None or accepts(secret):
                return secret, wrong + len(shares) - len(points)
    raise ShareError(f"{len(points)} shares do not open the secret, {threshold} that fit each other are needed")


def points_of(shares: Mapping[int, bytes]) -> dict[int, int]:
    """The shares that can be some, as points of the field by index, in order."""
    return {
        index: value
        for index, share in sorted(shares.items())
        if index > 0 and len(share) == SHARE_BYTES and (value := int.from_bytes(share, "little")) < PRIME
    }


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
    value: int = sum(map(mul, weights, points.values())) % prime
    return value


def fit_one_polynomial(points: Mapping[int, int], threshold: int, prime: int = PRIME) -> bool:
    """Whether the points lie on one polynomial of degree below the threshold.

    They do exactly when every ``sum of y / prod(x - others) * x^k`` vanishes for k below the number of
    points to spare: the parity checks of the Reed-Solomon code that Shamir's shares are (McEliece and
    Sarwate 1981).
    """
    indices = tuple(points)
    terms = list(map(mul, _dual_weights(indices, prime), points.values()))
    for power in range(len(points) - threshold):
        if sum(terms) % prime:
            return False
        terms = list(map(mul, terms, indices))
        if power % _POWERS_UNREDUCED == 0:
            terms = [term % prime for term in terms]
    return True


def _candidates(points: Mapping[int, int], threshold: int, *, search: bool) -> Iterator[tuple[int, int]]:
    """What the secret may be, and how many points it leaves out.

    The likeliest first: behind all points, behind all but few, behind any enough of them.
    """
    if fit_one_polynomial(points, threshold):
        yield interpolate(points), 0
        return
    likely = corrected_polynomial(points, threshold)
    if likely is not None:
        yield likely[0], sum(value_at(likely, index) != value for index, value in points.items())
    spare = len(points) - threshold
    trials = 0
    # So few as half of the spare ones are wrong on one polynomial at most, and it was tried.
    for wrong in range(spare // 2 + 1, spare + 1 if search else 0):
        trials += comb(len(points), wrong)
        if trials > _MOST_TRIALS:
            return
        for suspects in combinations(points, wrong):
            rest = {index: value for index, value in points.items() if index not in suspects}
            if fit_one_polynomial(rest, threshold):
                yield interpolate(rest), wrong


def corrected_polynomial(points: Mapping[int, int], threshold: int, prime: int = PRIME) -> list[int] | None:
    """The polynomial of degree below the threshold that all points lie on but for half of those to spare, if one is.

    Coefficients, lowest power first. S. Gao, *A new algorithm for decoding Reed-Solomon codes* (2003), algorithm 1.
    """
    indices = tuple(points)
    whole = [1]
    for index in indices:
        whole = _times(whole, [-index % prime, 1], prime)
    through = [0] * len(indices)
    for index, weight in zip(indices, _dual_weights(indices, prime), strict=True):
        others, _ = _divided(whole, [-index % prime, 1], prime)
        factor = points[index] * weight % prime
        through = [(sum_ + factor * coefficient) % prime for sum_, coefficient in zip(through, others, strict=True)]
    high, low = whole, _trimmed(through)
    before, now = [0], [1]
    while 2 * (len(low) - 1) >= len(indices) + threshold:
        quotient, rest = _divided(high, low, prime)
        high, low = low, rest
        before, now = now, _minus(before, _times(quotient, now, prime), prime)
    polynomial, rest = _divided(low, now, prime)
    if any(rest) or len(polynomial) > threshold:
        return None
    wrong = sum(value_at(polynomial, index, prime) != points[index] for index in indices)
    return polynomial if 2 * wrong <= len(indices) - threshold else None


def _times(one: Sequence[int], other: Sequence[int], prime: int) -> list[int]:
    """The product of two polynomials."""
    product = [0] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            product[i + j] = (product[i + j] + a * b) % prime
    return product


def _minus(one: Sequence[int], other: Sequence[int], prime: int) -> list[int]:
    return _trimmed([(a - b) % prime for a, b in zip_longest(one, other, fillvalue=0)])


def _divided(one: Sequence[int], other: Sequence[int], prime: int) -> tuple[list[int], list[int]]:
    """Quotient and rest of two polynomials, the second without leading zeros."""
    rest, inverse = list(one), pow(other[-1], -1, prime)
    quotient = [0] * max(len(one) - len(other) + 1, 1)
    for shift in range(len(one) - len(other), -1, -1):
        factor = quotient[shift] = rest[shift + len(other) - 1] * inverse % prime
        for place, coefficient in enumerate(other, start=shift):
            rest[place] = (rest[place] - factor * coefficient) % prime
    return _trimmed(quotient), _trimmed(rest)


def _trimmed(polynomial: list[int]) -> list[int]:
    """Without leading zeros, but for the zero polynomial's one."""
    while len(polynomial) > 1 and polynomial[-1] == 0:
        polynomial.pop()
    return polynomial


@lru_cache(maxsize=_KEPT)
def _weights_at_zero(indices: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """Lagrange's weights for the value at 0: ``prod(-others) / prod(x - others)``."""
    others = prod(-index for index in indices)
    pairs = zip(_dual_weights(indices, prime), inverses([-index for index in indices], prime), strict=True)
    return tuple(others * inverse * dual % prime for dual, inverse in pairs)


@lru_cache(maxsize=_KEPT)
def _dual_weights(indices: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """``1 / prod(x - others)`` for each index."""
    apart = [
        prod(map(index.__sub__, indices[:place])) * prod(map(index.__sub__, indices[place + 1 :]))
        for place, index in enumerate(indices)
    ]
    return tuple(inverses(apart, prime))


def inverses(numbers: Sequence[int], prime: int = PRIME) -> list[int]:
    """The inverse of each number, all by one inversion (P. L. Montgomery 1987, section 10.3.1)."""
    before = list(accumulate(numbers, lambda one, other: one * other % prime, initial=1))
    rest = pow(before.pop(), -1, prime)
    inverses = []
    for number, product in zip(reversed(numbers), reversed(before), strict=True):
        inverses.append(rest * product % prime)
        rest = rest * number % prime
    return inverses[::-1]
