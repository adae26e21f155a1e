"""Coefficients that are a linear function of fewer, and which columns lie in the span of others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secirls.numerics.algebra.restriction import expressed, independent, lifted, projected, projected_upper
from secirls.numerics.algebra.solve import pack, unpack

GENES = 5


@st.composite
def bases(draw):
    """A basis with many zeros, ``(params, q)``, and a generator for what it is applied to."""
    params, q = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    values = st.sampled_from([-1.0, 0.0, 0.0, 1.0, 0.5])
    basis = np.array([[draw(values) for _ in range(q)] for _ in range(params)]).reshape(params, q)
    return basis, np.random.default_rng(draw(st.integers(0, 9)))


@given(bases())
def test_they_are_the_products_with_the_basis(made):
    basis, random = made
    gamma, score = random.normal(size=(GENES, basis.shape[1])), random.normal(size=(GENES, basis.shape[0]))
    square = random.normal(size=(GENES, basis.shape[0], basis.shape[0]))
    square += square.swapaxes(1, 2)
    np.testing.assert_allclose(lifted(gamma, basis), gamma @ basis.T, atol=1e-14)
    np.testing.assert_allclose(projected(score, basis), score @ basis, atol=1e-14)
    np.testing.assert_allclose(unpack(projected_upper(pack(square), basis)), basis.T @ square @ basis, atol=1e-13)


@given(bases())
def test_a_gene_has_the_same_bits_whoever_is_beside_it(made):
    basis, random = made
    upper = random.normal(size=(GENES, basis.shape[0] * (basis.shape[0] + 1) // 2))
    assert np.array_equal(projected_upper(upper, basis)[2:3], projected_upper(upper[2:3], basis))


def test_columns_in_a_span_are_told_exactly_and_others_by_how_much_they_miss():
    one, x = np.ones(6), np.repeat([0.0, 1.0], 3)
    y = np.tile([0.0, 1.0, 2.0], 2)
    basis, missed = expressed(np.column_stack([one, x, y]), np.column_stack([1 - x, y - 2 * x, y**2]))
    assert basis[:, :2].tolist() == [[1.0, 0.0], [-1.0, -2.0], [0.0, 1.0]]
    assert missed[:2].tolist() == [0.0, 0.0]
    assert missed[2] > 0.1


def test_a_column_that_depends_on_those_before_gets_no_share():
    x = np.repeat([0.0, 1.0], 3)
    basis, missed = expressed(np.column_stack([np.ones(6), x, 1 - x]), (1 - x)[:, None])
    assert basis.ravel().tolist() == [1.0, -1.0, 0.0]
    assert missed.tolist() == [0.0]


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_independent_columns_do_not_depend_on_units(scale):
    x, age = np.repeat([0.0, 1.0], 3), scale * np.array([31.0, 45.5, 62.25, 28.0, 50.0, 71.125])
    assert independent(np.column_stack([np.ones(6), x, 1 - x, age, 3 * age, 0 * age])) == [0, 1, 3]
