"""What *dispersion* compares: methods that must come to the same place, and numbers of values that are known."""

import numpy as np
import pandas as pd
import pytest

from experiments.estimates.dispersion import GENE_WISE, MAP, chosen_genes, measure
from experiments.estimates.dispersion_figures import GRIDS, NEWTON, POLISHED, PROFILE, SEARCH, SWEEP
from experiments.estimates.dispersion_rounds import LikelihoodsQuery
from secirls.algorithms.query import QueryError
from secirls.algorithms.summands import EXACT
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood

LENGTH, DEPTH = 20, 3


@pytest.fixture(scope="module")
def rows():
    configuration = {
        "seed": 8, "protocol": "pairwise", "digits": [6, 10], "fraction_bits": [20, EXACT],
        "grid_length": LENGTH, "grid_depth": DEPTH,
    }  # fmt: skip
    return pd.DataFrame(measure("simulated-120x24x3", "~ site + condition", 120, configuration))


def of(rows, method, estimate=GENE_WISE, digits=0, bits=EXACT):
    (row,) = rows[
        (rows["method"] == method)
        & (rows["estimate"] == estimate)
        & (rows["digits"] == digits)
        & (rows["fraction_bits"] == bits)
    ].to_dict("records")
    return row


@pytest.mark.parametrize("estimate", [GENE_WISE, MAP])
def test_the_path_by_sums_is_the_path_on_the_profile(rows, estimate):
    assert of(rows, PROFILE, estimate)["path_largest"] < 1e-6
    assert of(rows, SEARCH, estimate)["rounds"] > 5
    # ... and what is no path of R's ends elsewhere
    assert of(rows, NEWTON, estimate)["path_high"] > 1e-6


@pytest.mark.parametrize("estimate", [GENE_WISE, MAP])
def test_every_way_to_the_optimum_comes_to_it_and_grids_to_their_spacing(rows, estimate):
    for method in (PROFILE, POLISHED, NEWTON):
        assert of(rows, method, estimate)["optimum_high"] < 1e-6
        assert of(rows, method, estimate)["shortfall"] < 1e-8
    spacing = np.log(24 / 1e-8) / (LENGTH - 1) * (2 / (LENGTH - 1)) ** (DEPTH - 1)
    grids = of(rows, GRIDS, estimate)
    assert 0.1 * spacing < grids["optimum_largest"] <= 0.51 * spacing


def test_values_are_those_that_each_method_needs(rows):
    params, products = 4, 6
    assert of(rows, GRIDS)["values"] == DEPTH * LENGTH * (1 + params**2)
    assert of(rows, GRIDS)["rounds"] == DEPTH
    assert (of(rows, PROFILE)["params"], of(rows, PROFILE)["products"]) == (params, products)
    assert round(120 * of(rows, NEWTON)["values"]) % (2 + 3 * products) == 0
    assert of(rows, PROFILE)["rounds"] <= 2
    assert of(rows, PROFILE, MAP)["values"] <= 0.2 * of(rows, PROFILE)["values"]


def test_a_value_costs_sixteen_bytes_under_masks_and_eight_with_few_fraction_bits(rows):
    exact, compact = (of(rows, SWEEP, digits=10, bits=bits) for bits in (EXACT, 20))
    assert exact["values"] == compact["values"]
    assert exact["bytes_up"] / exact["values"] == pytest.approx(16, rel=0.02)
    assert compact["bytes_up"] / compact["values"] == pytest.approx(8, rel=0.02)


def test_fewer_digits_and_fewer_bits_are_seen(rows):
    fine = of(rows, SWEEP, digits=10)["path_high"]
    assert fine == of(rows, PROFILE)["path_high"]
    assert of(rows, SWEEP, digits=6)["path_high"] > 100 * fine
    assert of(rows, SWEEP, digits=10, bits=20)["path_high"] > 100 * fine


def test_the_question_of_the_experiment_is_answered_with_the_likelihood_and_its_slope():
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(8), np.arange(8) % 2])
    samples = Samples(X, rng.poisson(30.0, (8, 3)).astype(np.int32), np.exp(0.1 * rng.normal(size=8)))
    b, axis = np.full((3, 2), [3.0, 0.1]), np.array([0.0, 0.0, 1.0])
    alpha = np.array([[1e-3], [0.1], [2.0]])

    def asked(dispersions, **flags):
        pairs = (axis, np.array([0.0, 1.0, 1.0]))
        query = LikelihoodsQuery(np.ones(3, bool), b, dispersions, *pairs, 0, **{"order": 0, "constant": 0, **flags})
        query.check(3, 2)
        return query.summands(samples, 3)

    mu = np.maximum(samples.size_factors[:, None] * np.exp(X @ b.T), 0.5)
    expected = -likelihood.nll(samples.counts.astype(float), np.log(mu), alpha[:, 0]).sum(axis=0)
    told = asked(alpha, order=1, constant=1)
    np.testing.assert_allclose(told["loglik"][:, 0], expected, rtol=1e-12)
    step = 1e-5
    above, below = (asked(alpha * np.exp(sign * step))["loglik"][:, 0] for sign in (1, -1))
    np.testing.assert_allclose(told["slope"], (above - below) / (2 * step), rtol=1e-6, atol=1e-7)
    assert set(told) == {"loglik", "xwx", "slope", "xwwx", "constant"}
    with pytest.raises(QueryError, match="do not fit 3 genes"):
        asked(alpha[:2])


def test_chosen_genes_keep_the_size_factors_of_all():
    from experiments.groundwork.data_sets import open_set, size_factors

    data = open_set("simulated-200x12x3", 0)
    some = chosen_genes(data, 50)
    assert some.whole.n_vars == 50
    np.testing.assert_array_equal(some.whole.obs["size_factor"], size_factors(data.counts()))
