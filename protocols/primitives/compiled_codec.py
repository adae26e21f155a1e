"""Float64 to ring elements and back in one compiled pass each; the plain form is in `protocols.fixed_point`.

Promises: the same bits as the plain NumPy form, for every input (the tests hold it to that), and no
floating-point arithmetic on the way in: sign, exponent and mantissa are moved as bits.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.compiling import compiled

_U = np.uint64
_ONE = _U(1)
_MANTISSA_MASK = _U((1 << 52) - 1)
_HIDDEN_BIT = _U(1 << 52)


@compiled()
def _encode(bits, fraction_bits, out):  # noqa: ANN001, ANN202
    two_limbs = out.shape[1] == 2
    for i in range(bits.size):
        word = bits[i]
        biased = np.int64((word >> _U(52)) & _U(0x7FF))
        mantissa = word & _MANTISSA_MASK
        if biased:
            mantissa |= _HIDDEN_BIT
        shift = (biased or np.int64(1)) - 1075 + fraction_bits
        low, high = _U(0), _U(0)
        if shift >= 64:
            high = mantissa << _U(shift - 64)
        elif shift > 0:
            low = mantissa << _U(shift)
            high = mantissa >> _U(64 - shift)
        elif shift == 0:
            low = mantissa
        elif shift > -64:
            amount = _U(-shift)
            low = mantissa >> amount
            rest = mantissa - (low << amount)
            half = _ONE << (amount - _ONE)
            if rest > half or (rest == half and (low & _ONE) == _ONE):
                low += _ONE
        if word >> _U(63):
            high = ~high
            low = ~low + _ONE
            if low == _U(0):
                high += _ONE
        out[i, 0] = low
        if two_limbs:
            out[i, 1] = high


@compiled()
def _decode(vector, scales, out):  # noqa: ANN001, ANN202
    limbs = vector.shape[1]
    for i in range(out.size):
        low, high = vector[i, 0], _U(0)
        if limbs == 2:
            high = vector[i, 1]
            negative = (high >> _U(63)) == _ONE
        else:
            negative = (low >> _U(63)) == _ONE
        if negative:
            low = ~low + _ONE
            if limbs == 2:
                high = ~high
                if low == _U(0):
                    high += _ONE
        # The leading 64 bits, with a sticky last bit for all that fall off: the conversion rounds once.
        width = 0
        if high:
            probe = high
            for step in (32, 16, 8, 4, 2, 1):
                if probe >> _U(step):
                    probe >>= _U(step)
                    width += step
            width += 1
            back = _U(64 - width)
            leading = high if width == 64 else (high << back) | (low >> _U(width))
            lost = low if width == 64 else low << back
            low = leading | (_ONE if lost else _U(0))
        value = np.float64(low) * scales[width]
        out[i] = -value if negative else value


def encode_into(values: NDArray[np.float64], fraction_bits: int, out: NDArray[np.uint64]) -> None:
    """Fill ``out`` ``(values, limbs)`` with ``round(x * 2^fraction_bits)``, half to even, in two's complement."""
    _encode(np.ascontiguousarray(values).view(np.uint64), fraction_bits, out)


def decode(vector: NDArray[np.uint64], fraction_bits: int) -> NDArray[np.float64]:
    """Ring elements ``(values, limbs)`` to correctly rounded float64 ``(values,)``."""
    out = np.empty(vector.shape[0])
    scales = np.ldexp(1.0, np.arange(65) - fraction_bits)
    _decode(vector, scales, out)
    return out
