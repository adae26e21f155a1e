"""exp and log as polynomials without branches, for the compiled kernel, and how it is compiled.

Promises: errors of about one unit in the last place on the stated ranges; loops over these functions become vector
instructions. Refuses to know: statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import floor, ldexp, log
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from protocols.primitives import compiling

_FAST = {"contract", "nnan", "ninf", "nsz"}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(*, inline: bool = False, any_order: bool = False) -> Callable[[_Function], _Function]:
    """The one set of compiler options. With `any_order`, the additions inside may be reordered, and no others."""
    decorate = compiling.compiled(fastmath=_FAST | {"reassoc"} if any_order else _FAST, forceinline=inline)
    return cast("Callable[[_Function], _Function]", decorate)


def _instruction(build: Callable[..., Any]) -> Callable[..., Any]:
    """A single machine instruction as a function."""
    return cast("Callable[..., Any]", intrinsic(build))


_LN2 = Decimal("0.693147180559945309417232121458176568")
_LN2_HIGH = ldexp(floor(ldexp(log(2.0), 32)), -32)
_LN2_LOW = float(_LN2 - Decimal(_LN2_HIGH))
_PER_LN2 = float(1 / _LN2)
_TO_INTEGER = 1.5 * 2.0**52
_TWO_52 = 2.0**52
_TWO_52_BITS = np.uint64(0x4330000000000000)
_ROOT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
_MANTISSA_BITS = np.uint64(52)
_UPPER_BITS = np.uint64(0xFFFFFFFFF8000000)
# (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2, Chebyshev, relative error of exp 1.3e-17; lowest power first.
_E0, _E1, _E2, _E3, _E4 = 0.5, 0.16666666666666669, 0.041666666666624164, 0.008333333333330065, 0.0013888888917196719
_E5, _E6, _E7 = 0.00019841269863040545, 2.4801521322368448e-05, 2.7557268480309837e-06
_E8, _E9 = 2.7620075880100385e-07, 2.510037583265122e-08
# 2 (atanh(s) / s - 1) / s^2 as a function of s^2 on |s| <= 0.1716, Chebyshev, relative error of log 9e-18.
_L0, _L1, _L2, _L3 = 0.666666666666667, 0.39999999999899505, 0.28571428625975487, 0.22222211134795036
_L4, _L5, _L6 = 0.18182889125264798, 0.15331721600453765, 0.14616449686307575


@_instruction
def bits_of(_context: Any, _x: Any) -> tuple[Any, Any]:
    """The 64 bits of a float64."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), build


@_instruction
def float_of(_context: Any, _bits: Any) -> tuple[Any, Any]:
    """The float64 of 64 bits."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), build


@compiled(inline=True)
def upper_half(x: float) -> float:
    """The leading 26 bits of x: products of halves are exact, and fused operations do not change them."""
    half: float = float_of(bits_of(x) & _UPPER_BITS)
    return half


@compiled(inline=True)
def exp(x: float) -> float:
    """e^x for x in [-708, 709]: x = k ln 2 + r, a polynomial in |r| <= 0.35, and k into the exponent."""
    shifted = x * _PER_LN2 + _TO_INTEGER
    k = shifted - _TO_INTEGER
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _E9
    p = p * r + _E8
    p = p * r + _E7
    p = p * r + _E6
    p = p * r + _E5
    p = p * r + _E4
    p = p * r + _E3
    p = p * r + _E2
    p = p * r + _E1
    p = p * r + _E0
    p = 1.0 + (r + r * r * p)
    result: float = float_of(bits_of(p) + (bits_of(shifted) << _MANTISSA_BITS))
    return result


@compiled(inline=True)
def log_and_inverse(x: float) -> tuple[float, float]:
    """Natural logarithm and reciprocal for x in [1, 1e300], by one division.

    x = 2^k (1 + f) with 1 + f about 1, and log(1 + f) = 2 atanh(s) with s = f / (2 + f).
    """
    bits = bits_of(x)
    k = (bits - _ROOT_HALF_BITS) >> _MANTISSA_BITS
    f = float_of(bits - (k << _MANTISSA_BITS)) - 1.0
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
    exponent = float_of(_TWO_52_BITS | k) - _TWO_52
    # f - s (f - q P): the leading term is exact.
    return exponent * _LN2_HIGH + (f - (s * (f - q * p) - exponent * _LN2_LOW)), over_both * below


@compiled(inline=True)
def log1p_and_inverse(x: float) -> tuple[float, float]:
    """``log(1 + x)`` and ``1 / (1 + x)`` for x in [0, 1e300], small x included."""
    u = 1.0 + x
    log_u, over_u = log_and_inverse(u)
    # What rounding took from 1 + x; it matters for small x alone, where this is exact.
    return log_u + (x - (u - 1.0)) * over_u, over_u
