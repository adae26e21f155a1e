"""From doubles to the opened sum: the true sum, rounded once, by every protocol and in any order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols import run
from protocols.fixed_point import Field, Layout, largest_bound
from protocols.secure_sum import Context, SecureSumError

BOUND = largest_bound(6)
ONE = 2**64
EXAMPLES = {"paillier": 20, "paillier-threshold": 20}
"""Of the slow ones; of all others 60."""

doubles = st.one_of(
    st.floats(-BOUND, BOUND),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 2.0**-65, 2.0**-64, -(2.0**-65), 1.5 * 2.0**-64, BOUND, -BOUND, 0.1]),
)
"""Anywhere within the bound, around one, and where rounding to 64 fraction bits is delicate."""


def in_units(x):
    """The integer that stands for a double: rounded half to even, once."""
    return round(Fraction(x) * ONE)


def summed(table, round_, rows):
    """Opened sums, one per row of ``(parties, values)``, decoded to doubles."""
    layout = Layout((Field("x", (rows.shape[1],), BOUND),))
    vectors = {site: layout.encode({"x": row}) for site, row in zip(table.sites, rows, strict=True)}
    context = Context(table.collector.session, round_, 0, table.sites, layout.digest, layout.values)
    total = run.add_up(table, vectors, context)
    return layout.decode(total.vector, len(total.parties))["x"]


@pytest.mark.parametrize("sites", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_the_decoded_sum_is_the_true_sum_rounded_once(tables, protocol, sites):
    @settings(
        max_examples=EXAMPLES.get(protocol, settings.default.max_examples),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def law(data):
        table, round_ = tables.seated(protocol, sites)
        values = data.draw(st.integers(1, 4))
        rows = np.array(
            data.draw(st.lists(st.lists(doubles, min_size=values, max_size=values), min_size=sites, max_size=sites))
        )
        got = summed(table, round_, rows)
        for column, result in zip(rows.T, got, strict=True):
            # Division of Python ints rounds correctly, so this is one rounding of an exact sum.
            assert result == sum(in_units(x) for x in column) / ONE
            if all(x == 0 or abs(x) >= 2.0**-11 for x in column):
                assert result == float(sum(map(Fraction, column)))
                assert result == math.fsum(column)

    law()


def test_who_holds_which_number_does_not_matter(tables, protocol):
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((4, 3)) * 10.0 ** rng.integers(-3, 12, (4, 3))
    sums = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        table, round_ = tables.seated(protocol, 4)
        sums.append(summed(table, round_, rows[order]))
    assert np.array_equal(sums[0], sums[1])
    assert np.array_equal(sums[0], sums[2])


def test_all_protocols_open_the_same_integers(tables):
    from protocols.choice import NAMES

    rows = np.random.default_rng(8).standard_normal((3, 5))
    opened = []
    for name in NAMES:
        table, round_ = tables.seated(name, 3)
        opened.append(summed(table, round_, rows))
    assert all(np.array_equal(opened[0], other) for other in opened[1:])


@pytest.mark.parametrize(("limbs", "fraction_bits"), [(1, 40), (2, 64)])
def test_bounds_are_hit_exactly_and_one_over_is_refused(tables, protocol, limbs, fraction_bits):
    bound = 1024.0
    layout = Layout((Field("x", (6,), bound, fraction_bits),), limbs)
    row = np.array([bound, -bound, 0.0, -0.0, -1.5, 2.0**-40])
    table, round_ = tables.seated(protocol, 4)
    vectors = {site: layout.encode({"x": row}) for site in table.sites}
    context = Context(table.collector.session, round_, 0, table.sites, layout.digest, layout.values, limbs)
    opened = layout.decode(run.add_up(table, vectors, context).vector, 4)["x"]
    assert opened.tolist() == [4 * bound, -4 * bound, 0.0, 0.0, -6.0, 2.0**-38]
    for over in (np.nextafter(bound, np.inf), -np.nextafter(bound, np.inf), np.inf, np.nan):
        with pytest.raises(SecureSumError, match="'x'"):
            layout.encode({"x": np.array([*row[:5], over])})
