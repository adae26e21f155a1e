"""exp, log and cosines whose every bit is the same on every machine, and the compiler options that keep it so.

Promises: IEEE additions, multiplications and divisions in a written order, never fused and never reordered, so that
whoever repeats the aggregator's arithmetic between two rounds gets its bits; errors of one or two units in
the last place on the stated ranges. Refuses to know: statistics.

`elementary` has the same polynomials for sums inside one site, where a machine may fuse a product with an addition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np

from protocols.primitives import compiling
from secirls.numerics.arithmetic import elementary
from secirls.numerics.arithmetic.elementary import bits_of, float_of
from secirls.numerics.arrays import Floats

_Function = TypeVar("_Function", bound=Callable[..., Any])


def strictly(*, inline: bool = False, keep: bool = True) -> Callable[[_Function], _Function]:
    """Compiled without any fast-math flag; `keep`: in the cache beside the source."""
    decorate = compiling.compiled(keep=keep, fastmath=False, forceinline=inline)
    return cast("Callable[[_Function], _Function]", decorate)


exp: Callable[[float], float] = strictly(inline=True, keep=False)(cast("Any", elementary.exp).py_func)
"""e^x for x in [-708, 709]: `elementary.exp`, its operations unfused."""

_BIAS = np.uint64(512 << 52)
_BIASED_TWO_52 = 2.0**52 + 512.0
_TWO_52_BITS = np.uint64(0x4330000000000000)
_ROOT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
_MANTISSA_BITS = np.uint64(52)
_LN2_HIGH, _LN2_LOW = elementary._LN2_HIGH, elementary._LN2_LOW  # noqa: SLF001 - one polynomial, one home
_L0, _L1, _L2, _L3 = elementary._L0, elementary._L1, elementary._L2, elementary._L3  # noqa: SLF001
_L4, _L5, _L6 = elementary._L4, elementary._L5, elementary._L6  # noqa: SLF001


@strictly(inline=True)
def log_and_inverse(x: float) -> tuple[float, float]:
    """Natural logarithm and reciprocal for x in [1e-150, 1e150], by one division.

    As `elementary.log_and_inverse`, but for the exponent, which here may be negative.
    """
    bits = bits_of(x)
    k = (bits - _ROOT_HALF_BITS + _BIAS) >> _MANTISSA_BITS
    f = float_of(bits - ((k << _MANTISSA_BITS) - _BIAS)) - 1.0
    below = 2.0 + f
    over_both = 1.0 / (x * below)
    s = f * (over_both * x)
    q = s * s
    p = _L6
    p = p * q + _L5
    p = p * q + _L4
    p = p * q + _L3
    p = p * q + _L2
    p = p * q + _L1
    p = p * q + _L0
    exponent = float_of(_TWO_52_BITS | k) - _BIASED_TWO_52
    return exponent * _LN2_HIGH + (f - (s * (f - q * p) - exponent * _LN2_LOW)), over_both * below


@strictly(inline=True)
def log(x: float) -> float:
    """Natural logarithm for x in [1e-150, 1e150]."""
    return log_and_inverse(x)[0]


@strictly(inline=True)
def log1p(x: float) -> float:
    """``log(1 + x)`` for x in (-1, 1e150], small x included."""
    u = 1.0 + x
    log_u, over_u = log_and_inverse(u)
    return log_u + (x - (u - 1.0)) * over_u


@strictly(inline=True)
def expm1(x: float) -> float:
    """``e^x - 1`` for x in [-300, 300], small x included (Kahan: what rounding did to e^x its logarithm undoes)."""
    u = exp(x)
    return (u - 1.0) * (x / log(u)) if u != 1.0 else x


@strictly()
def _each_log(x: Floats, out: Floats) -> None:
    for i in range(x.size):
        out[i] = log(x[i])


@strictly()
def _each_exp(x: Floats, out: Floats) -> None:
    for i in range(x.size):
        out[i] = exp(x[i])


def logs(x: Floats) -> Floats:
    """Natural logarithms of numbers in [1e-150, 1e150], ``(n,)``."""
    out = np.empty(x.size)
    _each_log(np.ascontiguousarray(x, dtype=np.float64), out)
    return out


def exps(x: Floats) -> Floats:
    """Exponentials of numbers in [-708, 709], ``(n,)``."""
    out = np.empty(x.size)
    _each_exp(np.ascontiguousarray(x, dtype=np.float64), out)
    return out


@cache
def cosines(n: int) -> Floats:
    """``cos(pi m / (2 n))`` for m = 0 .. 4 n - 1, read-only, ``(4 n,)``: Taylor's series on the first octant."""
    angle = np.pi * np.arange(n + 1, dtype=np.float64) / (2.0 * n)
    turned = np.pi * (n - np.arange(n + 1, dtype=np.float64)) / (2.0 * n)
    quarter = np.where(np.arange(n + 1) <= n // 2, _series(angle, 0), _series(turned, 1))
    quarter[n] = 0.0
    half = np.concatenate([quarter, -quarter[-2::-1]])
    whole = np.concatenate([half, half[-2:0:-1]])
    whole.flags.writeable = False
    return whole


def _series(x: Floats, first: int) -> Floats:
    """Cosine (``first`` 0) or sine (1) of angles up to pi / 4."""
    square = x * x
    value = np.ones_like(x)
    for k in reversed(range(1, 11)):
        value = 1.0 - value * (square / float((2 * k + first) * (2 * k + first - 1)))
    return value if first == 0 else value * x
