"""ashr's prior and what it leaves of estimates: held against its certificate, quadrature and constructed truth."""

import numpy as np
import pytest
from scipy.stats import norm

from secirls.numerics.inference import adaptive_shrinkage
from secirls.numerics.inference.adaptive_shrinkage import Mixture, fit_mixture, grid, posterior


def drawn(genes, seed=1, null=0.8):
    """True values, most of them near zero, and estimates with errors."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(genes) < null, rng.normal(0, 0.02, genes), rng.normal(0, 2.0, genes))
    errors = np.exp(rng.normal(-1.0, 0.7, genes))
    return truth, truth + rng.normal(0, errors), errors


def likelihoods(estimates, errors, deviations):
    return norm.pdf(estimates[:, None], 0.0, np.sqrt((errors**2)[:, None] + deviations**2))


def shortfall(table, weights):
    """What the mean log-likelihood at these weights is short of the largest one at most, by concavity."""
    return max((table / (table @ weights)[:, None]).mean(axis=0).max() - 1.0, 0.0)


def em(table, rounds):
    """The weights by expectation and maximisation, as many rounds from even ones."""
    weights = np.full(table.shape[1], 1.0 / table.shape[1])
    for _ in range(rounds):
        weights = weights * (table / (table @ weights)[:, None]).mean(axis=0)
    return weights


@pytest.mark.parametrize("genes", [1, 2, 7, 300, 3_000])
def test_weights_are_those_of_the_largest_likelihood(genes):
    """By what bounds the distance to it, beside a twin that is not there yet."""
    _, estimates, errors = drawn(genes, seed=genes)
    prior = fit_mixture(estimates, errors)
    table = likelihoods(estimates, errors, prior.deviations)
    assert (prior.weights >= 0).all()
    assert prior.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert shortfall(table, prior.weights) < 1e-9
    if genes > 100:
        near = em(table, 100)
        assert shortfall(table, near) > 1e-6
        value = np.log(table @ prior.weights).mean() - np.log(table @ near).mean()
        assert 1e-7 < value <= shortfall(table, near)


def test_two_laws_have_the_weights_that_a_search_finds(monkeypatch):
    _, estimates, errors = drawn(400, seed=3)
    monkeypatch.setattr(adaptive_shrinkage, "grid", lambda *_: np.array([0.05, 2.0]))
    prior = fit_mixture(estimates, errors)
    table, shares = likelihoods(estimates, errors, prior.deviations), np.linspace(0, 1, 20_001)
    values = [np.log(table @ [share, 1 - share]).mean() for share in shares[1:-1]]
    assert prior.weights[0] == pytest.approx(shares[1 + int(np.argmax(values))], abs=5.1e-5)


def test_the_grid_goes_from_a_tenth_of_the_smallest_error_to_twice_what_the_farthest_estimate_asks_for():
    made = grid(np.array([5.0, 0.0, -1.0]), np.array([3.0, 0.8, 0.5]))
    assert made[-1] == 8.0  # 2 sqrt(25 - 9)
    assert np.allclose(made[1:] / made[:-1], np.sqrt(2.0), rtol=1e-14)
    assert made[0] <= 0.05 < made[1]
    assert grid(np.array([0.1, 0.0]), np.array([1.0, 2.0])) == pytest.approx(0.1 * np.sqrt(2.0) ** np.arange(7))


@pytest.mark.parametrize("estimate", [-3.0, -0.2, 0.0, 0.7, 12.0])
def test_the_posterior_is_that_of_quadrature(estimate):
    prior, error = Mixture(np.array([0.1, 0.6, 3.0]), np.array([0.7, 0.2, 0.1])), 0.8
    found = posterior(np.array([estimate]), np.array([error]), prior)
    at = np.linspace(-40, 40, 800_001)
    density = norm.pdf(estimate, at, error) * (norm.pdf(at[:, None], 0, prior.deviations) @ prior.weights)
    density /= density.sum()
    mean = (at * density).sum()
    negative = density[at < 0].sum() + density[400_000] / 2
    assert found.mean[0] == pytest.approx(mean, abs=1e-9)
    assert found.deviation[0] == pytest.approx(np.sqrt(((at - mean) ** 2 * density).sum()), abs=1e-9)
    assert found.wrong[0] == pytest.approx(min(negative, 1 - negative), abs=1e-6)


def test_what_is_left_is_nearer_the_truth_and_signs_are_wrong_as_often_as_is_said():
    """Beside a twin without a prior, whose signs are wrong far more often than it says."""
    truth, estimates, errors = drawn(8_000, seed=5)
    prior = fit_mixture(estimates, errors)
    found = posterior(estimates, errors, prior)
    assert np.abs(found.mean - truth).mean() < 0.45 * np.abs(estimates - truth).mean()
    wrong = np.sign(estimates) != np.sign(truth)
    said = {"ashr": found.wrong, "no prior": norm.cdf(-np.abs(estimates) / errors)}
    excess = {name: (wrong - chance)[chance < 0.2].mean() for name, chance in said.items()}
    assert abs(excess["ashr"]) < 0.01
    assert excess["no prior"] > 0.1


def test_units_signs_and_order_do_not_matter():
    _, estimates, errors = drawn(500, seed=7)
    found = posterior(estimates, errors, fit_mixture(estimates, errors))
    flip, back = np.where(np.arange(500) % 3, -1.0, 1.0), np.argsort(np.random.default_rng(1).permutation(500))
    units = posterior(4 * estimates, 4 * errors, fit_mixture(4 * estimates, 4 * errors))
    signs = posterior(flip * estimates, errors, fit_mixture(flip * estimates, errors))
    order = posterior(estimates[back], errors[back], fit_mixture(estimates[back], errors[back]))
    assert np.array_equal(np.sign(found.mean), np.sign(estimates))
    assert np.allclose(units.mean, 4 * found.mean, rtol=1e-4, atol=1e-6)
    assert np.allclose(signs.mean, flip * found.mean, rtol=1e-4, atol=1e-6)
    assert np.allclose(order.mean, found.mean[back], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("estimates", "errors"),
    [
        (np.zeros(50), np.ones(50)),
        (np.full(50, 3.0), np.ones(50)),
        (np.array([43.0, -43.0, 0.01]), np.array([1e-3, 4.0, 1e-3])),
        (np.linspace(-1, 1, 40), np.full(40, 1e-6)),
    ],
    ids=["nothing", "one value", "far", "sure"],
)
def test_the_ends_of_what_fits_give_have_an_answer(estimates, errors):
    prior = fit_mixture(estimates, errors)
    assert shortfall(likelihoods(estimates, errors, prior.deviations), prior.weights) < 1e-8
    found = posterior(estimates, errors, prior)
    for values in found:
        assert np.isfinite(values).all()
    assert (np.abs(found.mean) <= np.abs(estimates)).all()
    assert (found.deviation > 0).all()
    assert ((found.wrong >= 0) & (found.wrong <= 0.5)).all()


def test_without_estimates_or_an_end_is_an_error(monkeypatch):
    with pytest.raises(ValueError, match="needs an estimate"):
        fit_mixture(np.zeros(0), np.zeros(0))
    monkeypatch.setattr(adaptive_shrinkage, "MOST_ROUNDS", 1)
    _, estimates, errors = drawn(300)
    with pytest.raises(ArithmeticError, match="did not settle in 1 rounds"):
        fit_mixture(estimates, errors)


def test_a_step_that_leads_upwards_is_one_of_expectation_and_maximisation(monkeypatch):
    _, estimates, errors = drawn(300)
    best = fit_mixture(estimates, errors)
    monkeypatch.setattr(adaptive_shrinkage, "_HALVINGS", 0)
    monkeypatch.setattr(adaptive_shrinkage, "SETTLED", 1e-2)
    slow = fit_mixture(estimates, errors)
    table = likelihoods(estimates, errors, best.deviations)
    assert 0 <= np.log(table @ best.weights).mean() - np.log(table @ slow.weights).mean() < 1e-2
