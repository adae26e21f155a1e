"""The linear hash of a long vector in one compiled pass; the plain form is in `protocols.primitives.linear_hash`.

Promises: the same integer as the plain form, for every input (the tests hold it to that).
Refuses to know: what the keys are for.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.compiling import compiled

_LOW = np.int64((1 << 32) - 1)
_DIGIT = np.int64(32)
_ZERO = np.int64(0)


@compiled()
def _add_rows(words, rows, places, out):  # noqa: ANN001, ANN202
    # In this form the compiler turns the loop into vector instructions, 0.65 ns a value. It takes 1.9 where an index
    # might be below zero, hence a slice for each row; and 1.5 where one limb comes after the other. Masks tell it that
    # factors have 32 bits: 1.1 against 1.7 on processors whose vectors have no product of 64.
    length = 2 * places.shape[1]
    for row in range(rows.shape[1]):
        pairs = words[length * row : length * (row + 1)]
        a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = _ZERO
        for i in range(pairs.size // 2):
            low, high = pairs[2 * i], pairs[2 * i + 1]
            a, b, c, d = low & _LOW, (low >> _DIGIT) & _LOW, high & _LOW, high >> _DIGIT
            k0, k1, k2 = places[0, i] & _LOW, places[1, i] & _LOW, places[2, i] & _LOW
            a0 += a * k0
            a1 += a * k1
            a2 += a * k2
            b0 += b * k0
            b1 += b * k1
            b2 += b * k2
            c0 += c * k0
            c1 += c * k1
            c2 += c * k2
            d0 += d * k0
            d1 += d * k1
            d2 += d * k2
        for at, total in enumerate((a0, a1, a2, b0, b1, b2, c0, c1, c2, d0, d1, d2)):
            for part in range(3):
                out[at, 0, part] += (total & _LOW) * rows[part, row]
                out[at, 1, part] += (total >> _DIGIT) * rows[part, row]


@compiled()
def _add_narrow_rows(words, rows, places, out):  # noqa: ANN001, ANN202
    # The same for one limb: two digits, the higher with the sign.
    length = places.shape[1]
    for row in range(rows.shape[1]):
        values = words[length * row : length * (row + 1)]
        a0 = a1 = a2 = b0 = b1 = b2 = _ZERO
        for i in range(values.size):
            a, b = values[i] & _LOW, values[i] >> _DIGIT
            k0, k1, k2 = places[0, i] & _LOW, places[1, i] & _LOW, places[2, i] & _LOW
            a0 += a * k0
            a1 += a * k1
            a2 += a * k2
            b0 += b * k0
            b1 += b * k1
            b2 += b * k2
        for at, total in enumerate((a0, a1, a2, b0, b1, b2)):
            for part in range(3):
                out[at, 0, part] += (total & _LOW) * rows[part, row]
                out[at, 1, part] += (total >> _DIGIT) * rows[part, row]


def add_rows(
    words: NDArray[np.int64], limbs: int, rows: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The sums that make up the hash: ``(digit and part, half of the sum, part of the row's key)``, 6 a limb x 2 x 3.

    ``words`` is flat: of two limbs low limb, high limb, low limb ...; the keys are in parts: ``(3, rows)`` and
    ``(3, values in a row)``, of up to 512 rows and values.
    """
    out = np.zeros((6 * limbs, 2, 3), dtype=np.int64)
    (_add_rows if limbs == 2 else _add_narrow_rows)(words, rows, places, out)
    return out
