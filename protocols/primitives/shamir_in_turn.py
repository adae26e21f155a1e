"""Many secrets of one threshold put together one after the other, whose holders are much the same each time.

In a large room each secret has its own holders, who sit around a circle and whose indices are their seats. Lagrange's
weights depend only on how far indices are apart, so they are those of the secret before where its holders sat in the
same way, some seats further back. Elsewhere, as where somebody is absent, they follow from those: a holder who is gone
divides out of each, one who has come multiplies in. Either way a secret takes work in proportion to its shares and not
to their square.

Promises: the secret that `shamir.corrected` gives, and as many false shares. Refuses to know: whose secret it is.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Mapping
from operator import mul

from protocols.primitives import shamir
from protocols.primitives.keys import Entropy
from protocols.primitives.shamir import PRIME, SECRET_BYTES

_DRAW_BYTES = 16


class InTurn:
    """Puts secrets together; cheap where the holders of one are nearly those of the one before."""

    def __init__(self, threshold: int, largest: int, entropy: Entropy = secrets.token_bytes) -> None:
        """Shares have indices from 1 to ``largest``; ``entropy`` is what false shares can't be made to fit."""
        self._threshold = threshold
        self._largest = largest
        self._entropy = entropy
        above = shamir.inverses(range(1, largest + 1), PRIME)
        self._inverse = [0, *above, *(PRIME - inverse for inverse in reversed(above))]
        """Of every difference of two indices, and of every index: those below 0 are counted from the end."""
        self._dual: dict[int, int] = {}
        """``1 / prod(x - others)`` of the last secret's holders, by index x, in order."""
        self._parity: dict[int, list[int]] = {}

    def corrected(self, shares: Mapping[int, bytes], accepts: shamir.Accepts) -> tuple[bytes, int]:
        """The secret behind shares given by index, and how many of them were false: see `shamir.corrected`."""
        points = shamir.points_of(shares)
        if len(points) >= self._threshold and max(points) <= self._largest:
            value = self._of_all(points)
            if value is not None and value >> (8 * SECRET_BYTES) == 0:
                secret = value.to_bytes(SECRET_BYTES, "little")
                if accepts(secret):
                    return secret, len(shares) - len(points)
        return shamir.corrected(shares, self._threshold, accepts)

    def _of_all(self, points: Mapping[int, int]) -> int | None:
        """The value at 0 of the one polynomial of degree below the threshold that all points lie on, if there is one.

        They lie on one if all parity checks vanish (`shamir.fit_one_polynomial`). A random combination of these stands
        for all: it vanishes for points on none with a chance of 2^-128.
        """
        dual = self._weights(list(points))
        terms = [weight * value % PRIME for weight, value in zip(dual, points.values(), strict=True)]
        parity = self._checks(len(points) - self._threshold)
        if sum(map(mul, terms, map(parity.__getitem__, points))) % PRIME:
            return None
        product = math.prod(points) * (-1) ** (len(points) - 1)
        value: int = product * sum(map(mul, terms, map(self._inverse.__getitem__, points))) % PRIME
        return value

    def _weights(self, indices: list[int]) -> Collection[int]:
        """Those of `_dual`, for these holders, from those of the holders before."""
        dual, inverse = self._dual, self._inverse
        ahead = indices[0] - next(iter(dual), 0)
        if indices == [index + ahead for index in dual]:
            dual = dict(zip(indices, dual.values(), strict=True))
        else:
            now = set(indices)
            if now.isdisjoint(dual):
                dual = {}
            for gone in dual.keys() - now:
                del dual[gone]
                dual = {index: weight * (index - gone) % PRIME for index, weight in dual.items()}
            for come in now - dual.keys():
                dual = {index: weight * inverse[index - come] % PRIME for index, weight in dual.items()}
                # The weights of two holders or more add up to zero: it is what checks the polynomial 1.
                dual[come] = -sum(dual.values()) % PRIME if dual else 1
            dual = {index: dual[index] for index in indices}
        self._dual = dual
        return dual.values()

    def _checks(self, spare: int) -> list[int]:
        """The values at 0 to the largest index of a random polynomial of degree below ``spare``: it combines checks."""
        if spare not in self._parity:
            drawn = [int.from_bytes(self._entropy(_DRAW_BYTES), "little") for _ in range(spare)]
            self._parity[spare] = [shamir.value_at(drawn, index) for index in range(self._largest + 1)]
        return self._parity[spare]
