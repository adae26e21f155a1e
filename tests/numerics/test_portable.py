"""exp, log and cosines: their accuracy against mpmath, their bits against a frozen digest, and no fused instruction."""

import hashlib

import mpmath
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secirls.numerics.arithmetic import elementary, portable
from secirls.numerics.arithmetic.portable import strictly

SEEN = "a1f848975867e253cf03c3645e5c5f1ce4e45fc4a5b1032e38f222eccf40ef9f"
"""Of exp, log, log1p, expm1 and cosines on fixed arguments: the same on every machine."""


@strictly(keep=False)
def _log1p(x):
    return portable.log1p(x)


@strictly(keep=False)
def _expm1(x):
    return portable.expm1(x)


def ulps(ours, exact):
    return abs(float((mpmath.mpf(float(ours)) - exact) / mpmath.mpf(float(np.spacing(abs(float(exact)))))))


@given(st.floats(1e-150, 1e150))
def test_log_is_within_two_units_of_the_last_place(x):
    with mpmath.workdps(40):
        assert ulps(portable.logs(np.array([x]))[0], mpmath.log(x)) <= 2 or x == 1.0


@given(st.floats(-708, 709))
def test_exp_is_within_two_units_of_the_last_place(x):
    with mpmath.workdps(40):
        assert ulps(portable.exps(np.array([x]))[0], mpmath.exp(x)) <= 2


@given(st.floats(-0.999999, 1e12) | st.floats(-1e-6, 1e-6))
def test_log1p_keeps_its_digits_near_zero(x):
    with mpmath.workdps(60):
        exact = mpmath.log1p(x)
        assert abs(_log1p(x) - exact) <= 4e-16 * abs(exact) + 1e-300


@given(st.floats(1e-300, 300) | st.floats(1e-12, 1e-3))
def test_expm1_keeps_its_digits_near_zero(x):
    with mpmath.workdps(60):
        exact = mpmath.expm1(x)
        assert abs(_expm1(x) - exact) <= 8e-16 * abs(exact)


def test_the_plain_form_of_expm1_would_be_caught():
    with mpmath.workdps(60):
        x = 1e-9
        plain = float(portable.exps(np.array([x]))[0] - 1.0)
        assert abs(plain - mpmath.expm1(x)) > 8e-16 * abs(mpmath.expm1(x))


@pytest.mark.parametrize("n", [1, 2, 3, 8, 37, 220, 440])
def test_cosines_are_those_of_the_circle(n):
    with mpmath.workdps(40):
        exact = [float(mpmath.cos(mpmath.pi * m / (2 * n))) for m in range(4 * n)]
    assert np.abs(portable.cosines(n) - exact).max() <= 4e-16
    assert portable.cosines(n).shape == (4 * n,)


def test_bits_are_those_seen_on_other_machines():
    x = np.ldexp(1.0 + np.arange(1001) / 1001.0, np.arange(-500, 501) - 1)
    x = x[np.abs(np.arange(-500, 501)) < 450]
    t = np.arange(1, 502) * 0.0625
    parts = [
        portable.logs(x),
        portable.exps(np.arange(-700.0, 701.0)),
        np.array([_log1p(value) for value in t]),
        np.array([_expm1(value) for value in t]),
        portable.cosines(37),
        portable.cosines(220),
    ]
    digest = hashlib.sha256(b"".join(part.astype("<f8").tobytes() for part in parts)).hexdigest()
    assert digest == SEEN


def fused(function):
    """Whether a compiled function has an instruction that multiplies and adds with one rounding."""
    function(1.5)
    return any("fmadd" in text or "fmsub" in text or "fnmadd" in text for text in function.inspect_asm().values())


def test_nothing_is_fused():
    @strictly(keep=False)
    def here(x):
        return portable.exp(x) + portable.log(x) + portable.log1p(x)

    assert not fused(here)


def test_a_fused_instruction_would_be_seen():
    @numba.njit(error_model="numpy", fastmath=elementary._FAST)
    def elsewhere(x):
        return elementary.exp(x)

    if not fused(elsewhere):
        pytest.skip("this machine has no fused instruction to be seen")
