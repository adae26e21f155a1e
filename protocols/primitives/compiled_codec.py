"""Float64 to ring elements and back in one compiled pass each; the plain form is in `protocols.fixed_point`.

Promises: the same bits as the plain NumPy form, for every input (the tests hold it to that).
Refuses to know: what the numbers mean.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.compiling import compiled

# Neither loop has a branch, so that the compiler turns them into vector instructions, and signs and sizes that nobody
# foresees cost nothing: 0.5 and 0.8 ns a value of two limbs where branches took 4.5 and 7.5.
_U = np.uint64
_ZERO, _ONE = _U(0), _U(1)
_TOP, _WORD = _U(63), _U(64)
_MANTISSA, _BIAS = _U(52), _U(1023)


@compiled()
def _encode_two(values, scale, out):  # noqa: ANN001, ANN202
    for i in range(values.size):
        magnitude = abs(values[i]) * scale
        above = np.floor(magnitude * 2.0**-64)
        low = _U(np.rint(magnitude - above * 2.0**64))
        sign = _U(values[i] < 0.0)
        ones = _ZERO - sign
        out[2 * i] = (low ^ ones) + sign
        out[2 * i + 1] = (_U(above) ^ ones) + (sign & _U(low == _ZERO))


@compiled()
def _encode_one(values, scale, out):  # noqa: ANN001, ANN202
    for i in range(values.size):
        sign = _U(values[i] < 0.0)
        out[i] = (_U(np.rint(abs(values[i]) * scale)) ^ (_ZERO - sign)) + sign


@compiled()
def _decode_two(elements, unit, out):  # noqa: ANN001, ANN202
    for i in range(out.size):
        low, high = elements[2 * i], elements[2 * i + 1]
        sign = high >> _TOP
        ones = _ZERO - sign
        above = (high ^ ones) + (sign & _U(low == _ZERO))
        low = (low ^ ones) + sign
        # The leading 63 or 64 bits, with a sticky last one for all that fall off: the conversion rounds once. A shift
        # by 64 is made in two steps.
        width = ((np.float64(above).view(np.uint64) >> _MANTISSA) - (_BIAS - _ONE)) * _U(above != _ZERO)
        back = _WORD - width
        here, there = back >> _ONE, width >> _ONE
        leading = (above << here << (back - here)) | (low >> there >> (width - there))
        sticky = _U((low << here << (back - here)) != _ZERO)
        value = np.float64(leading | sticky) * (_U((width + _BIAS) << _MANTISSA).view(np.float64) * unit)
        out[i] = -value if sign else value


@compiled()
def _decode_one(elements, unit, out):  # noqa: ANN001, ANN202
    for i in range(out.size):
        sign = elements[i] >> _TOP
        value = np.float64((elements[i] ^ (_ZERO - sign)) + sign) * unit
        out[i] = -value if sign else value


def encode_into(values: NDArray[np.float64], fraction_bits: int, out: NDArray[np.uint64]) -> None:
    """Fill contiguous ``(values, limbs)`` with ``round(x * 2^fraction_bits)``, half to even, in two's complement."""
    form = _encode_two if out.shape[1] == 2 else _encode_one
    form(np.ascontiguousarray(values), 2.0**fraction_bits, out.reshape(-1))


def decode(vector: NDArray[np.uint64], fraction_bits: int) -> NDArray[np.float64]:
    """Ring elements ``(values, limbs)`` to correctly rounded float64 ``(values,)``."""
    out = np.empty(vector.shape[0])
    form = _decode_two if vector.shape[1] == 2 else _decode_one
    form(np.ascontiguousarray(vector).reshape(-1), 2.0**-fraction_bits, out)
    return out
