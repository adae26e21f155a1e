"""The likelihood-ratio test as an algorithm over sums: restricted fits, statistics, and who gets none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2, nbinom

from secirls.algorithms import likelihood_ratio as ratio_file
from secirls.algorithms.fitted import Fitted
from secirls.algorithms.likelihood_ratio import likelihood_ratio
from secirls.algorithms.query import Total, query_from_bytes
from secirls.algorithms.regression import restricted as ratio_restricted
from secirls.algorithms.regression.betas import betas
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start
from secirls.algorithms.regression.restricted import restricted
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.config import Config
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.designs.reduced_design import reduced_design
from secirls.numerics.algebra.restriction import projected, projected_upper
from secirls.numerics.held.samples import Samples
from secirls.numerics.inference.likelihood_ratio import chi_squared_pvalues, statistics
from secirls.numerics.status import Reason, Status
from secirls.presets import R_RIDGE

GENES, EACH, SITES = 40, 10, 3
LEVELS = {"batch": ("p", "q", "r"), "condition": ("a", "b")}
DESIGN = Design.agree("~ batch + condition", {}, {"x": {name: Variable(False, told) for name, told in LEVELS.items()}})
PLANS = replace(IrlsConfig.deseq2(), products=DESIGN.products()), NewtonConfig(products=DESIGN.products())


def samples(seed=5, least=1.5):
    """Of three sites that hold every cell; every tenth gene is so rare that its means are clamped."""
    random = np.random.default_rng(seed)
    cells = np.array([[1, b == 1, b == 2, c] for b in range(3) for c in range(2)], dtype=float)
    X = cells[random.integers(0, 6, SITES * EACH)]
    X[:6] = cells
    beta = np.column_stack([random.uniform(least, 6, GENES), random.normal(0, 0.5, (GENES, 3))])
    beta[::10, 0] = -0.5
    alpha, s = random.uniform(0.05, 0.6, GENES), np.exp(random.normal(0, 0.3, len(X)))
    mu = s[:, None] * np.exp(X @ beta.T)
    counts = random.poisson(mu * random.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
    counts[0, counts.sum(axis=0) == 0] = 1
    return [Samples(X[i::SITES], counts[i::SITES], s[i::SITES], alpha) for i in range(SITES)]


def drive(algorithm, sites, leaving=None, spoil=lambda _, part: part):
    """Its result and its questions; from the question ``leaving`` on, the last site is silent."""
    names, total, asked = tuple(f"site{i}" for i in range(len(sites))), None, []
    while True:
        try:
            query = algorithm.send(total)
        except StopIteration as end:
            return end.value, asked
        query = query_from_bytes(query.to_bytes())
        query.check(sites[0].n_genes, sites[0].n_params)
        asked.append(query)
        sites = [query.apply(site) for site in sites]
        there = len(sites) - (leaving is not None and len(asked) > leaving)
        parts = [spoil(query, query.summands(site.take(query.genes), len(sites))) for site in sites[:there]]
        parts = [query.signed(part, len(sites)) for part in parts]
        total = Total({key: sum(part[key] for part in parts) for key in parts[0]}, names[:there], names)


def fitted(sites, plans=PLANS):
    start, _ = drive(least_squares_start(np.zeros(GENES, dtype=np.int8), 4, plans[0]), sites)
    found, _ = drive(betas(start, *plans), sites)
    X = np.concatenate([site.design for site in sites])
    base = np.mean(np.concatenate([site.counts / site.size_factors[:, None] for site in sites]), axis=0)
    none = np.zeros(0)
    state = found.state
    return Fitted(state, base, None, state.xtwx, none, none, none, none, len(X), xtx=X.T @ X)


def compared(sites, small, leaving=None, **options):
    config = Config(design=DESIGN.formula, test="lrt", reduced=small, **options)
    return drive(likelihood_ratio(config, DESIGN, reduced_design(DESIGN, small), fitted(sites)), sites, leaving)


def pooled(sites):
    counts, s = (np.concatenate([getattr(site, name) for site in sites]) for name in ("counts", "size_factors"))
    return np.concatenate([site.design for site in sites]), counts, s, sites[0].dispersions


def negative_log_likelihood(beta, X, y, s, alpha):
    mu = s * np.exp(X @ beta)
    return -nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * mu)).sum()


@pytest.mark.parametrize(("small", "columns"), [("~ condition", [0, 3]), ("~ batch", [0, 1, 2])])
def test_a_restricted_fit_is_the_fit_of_the_smaller_design(small, columns):
    """Site by site on the columns of the smaller design alone, with R's way out: the same coefficients."""
    sites = samples()
    found, _ = compared(sites, small)
    alone = [replace(site, design=np.ascontiguousarray(site.design[:, columns])) for site in sites]
    plans = IrlsConfig.deseq2(), NewtonConfig()
    start, _ = drive(least_squares_start(np.zeros(GENES, dtype=np.int8), len(columns), plans[0]), alone)
    truth, _ = drive(betas(start, *plans), alone)
    assert found.fit.status.tolist() == truth.state.status.tolist()
    assert found.fit.iterations.tolist() == truth.state.iterations.tolist()
    np.testing.assert_allclose(found.fit.beta, truth.state.beta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("small", [pytest.param("~ condition", marks=pytest.mark.slow), "~ batch", "~ 0 + batch"])
def test_statistics_are_those_of_the_most_likely_coefficients(small):
    sites = samples(least=4.0)
    found, _ = compared(sites, small, beta_tol=1e-15)
    X, counts, s, alpha = pooled(sites)
    T = reduced_design(DESIGN, small).basis
    for gene in range(1, GENES, 7):
        data = counts[:, gene], s, alpha[gene]
        start = np.append(np.log((counts[:, gene] / s).mean()), np.zeros(3))
        full = minimize(negative_log_likelihood, start, (X, *data), method="BFGS").fun
        begin = np.linalg.lstsq(X @ T, X @ start, rcond=None)[0]
        reduced = minimize(negative_log_likelihood, begin, (X @ T, *data), method="BFGS").fun
        assert found.statistics[gene] == pytest.approx(2 * (reduced - full), rel=1e-5, abs=1e-5)


def test_with_one_mean_for_all_it_is_the_mean_that_r_takes_and_no_round():
    sites = samples()
    found, asked = compared(sites, "~ 1")
    X, counts, s, alpha = pooled(sites)
    mean = (counts / s[:, None]).mean(axis=0)
    for gene in range(0, GENES, 5):
        data = X[:, :1], counts[:, gene], s, alpha[gene]
        assert found.fit.beta[gene] == pytest.approx(np.log(mean[gene]), rel=1e-14)
        reduced = negative_log_likelihood(np.log(mean[gene : gene + 1]), *data)
        full = negative_log_likelihood(fitted(sites).state.beta[gene], X, *data[1:])
        assert found.statistics[gene] == pytest.approx(2 * (reduced - full), rel=1e-9, abs=1e-9)
    assert [query.kind for query in asked] == ["likelihood_at"] * 2


def test_what_is_asked_is_two_likelihoods_and_the_regression_again():
    _, asked = compared(samples(), "~ batch")
    kinds = [query.kind for query in asked]
    assert kinds[0] == kinds[-1] == "likelihood_at"
    assert set(kinds[1:-1]) == {"reduced_irls"}
    for query in asked[1:-1]:
        assert not query.beta[:, 3].any(), "the coefficient that is left out stays at zero"
        assert query.values_per_gene == 1 + 3 + 6


def left_out():
    """What the rounds of a smaller design show of the column that is not in it, the condition: its scores by gene."""
    seen = []

    def spy(query, part):
        right = part.get("xtwz")
        seen.append(None if right is None or right.shape[1] < 4 else right[:, 3])
        return part

    config = Config(design=DESIGN.formula, test="lrt", reduced="~ batch")
    sites = samples()
    drive(likelihood_ratio(config, DESIGN, reduced_design(DESIGN, "~ batch"), fitted(sites)), sites, spoil=spy)
    return [one for one in seen if one is not None]


def test_nothing_of_the_columns_that_were_left_out_is_summed():
    assert left_out() == []


def test_the_twin_whose_table_makes_the_sums_is_shown_scores_of_the_column_left_out(monkeypatch):
    def about_beta(query, basis, products):
        beta = ratio_restricted.lifted(query.beta, basis)
        return replace(query, beta=beta, expand=np.zeros(0))

    def about_gamma(total, basis, products):
        arrays = {"nll": total["nll"]}
        for name, made in (("xtwx", projected_upper), ("xtwz", projected), ("information", projected_upper)):
            arrays |= {name: made(total[name], basis)} if name in total.arrays else {}
        return replace(
            total, arrays=arrays | ({"score": projected(total["score"], basis)} if "score" in total.arrays else {})
        )

    monkeypatch.setattr(ratio_restricted, "_about_beta", about_beta)
    monkeypatch.setattr(ratio_restricted, "_about_gamma", about_gamma)
    assert any(one.any() for one in left_out())


@pytest.mark.parametrize(
    "preset",
    ["deseq2", "irls", *(pytest.param(preset, marks=pytest.mark.slow) for preset in ("pydeseq2", "fedpydeseq2"))],
)
def test_genes_that_irls_gives_up_are_compared_at_their_minima(preset):
    """IRLS ends after two updates, so nearly all genes go on by Newton's method, in both designs."""
    sites = samples(least=4.0)
    few = replace(PLANS[0], max_iter=2), PLANS[1]
    start, _ = drive(least_squares_start(np.zeros(GENES, dtype=np.int8), 4, few[0]), sites)
    found, _ = drive(betas(start, *few), sites)
    assert (found.state.status == Status.CAUGHT).sum() > GENES / 2
    config = Config(design=DESIGN.formula, test="lrt", reduced="~ batch", preset=preset, max_iter=2)
    told = replace(fitted(sites), state=found.state)
    early, asked = drive(likelihood_ratio(config, DESIGN, reduced_design(DESIGN, "~ batch"), told), sites)
    assert (early.fit.status == Status.CAUGHT).sum() > GENES / 2
    assert not any(query.kind == "irls" and query.min_mu == 0.5 for query in asked[-2:]), "no standard errors"
    late, _ = compared(sites, "~ batch", beta_tol=1e-15)
    many = (found.state.status == Status.CAUGHT) & (early.fit.status == Status.CAUGHT)
    clear = many & (np.arange(GENES) % 10 != 0)
    np.testing.assert_allclose(early.statistics[clear], late.statistics[clear], rtol=1e-6, atol=1e-7)


def test_clamped_likelihoods_are_others_on_rare_genes(monkeypatch):
    """The broken twin of statistics at means that are not clamped."""
    honest, _ = compared(samples(), "~ batch")
    asking = ratio_file.LikelihoodAtQuery
    monkeypatch.setattr(
        ratio_file, "LikelihoodAtQuery", lambda genes, beta, _, **more: asking(genes, beta, 0.5, **more)
    )
    clamped, _ = compared(samples(), "~ batch")
    gap = np.abs(clamped.statistics - honest.statistics) / np.maximum(np.abs(honest.statistics), 1e-3)
    assert (gap[::10] > 0.01).all()
    assert gap[np.arange(GENES) % 10 != 0].min() < 1e-12


@pytest.mark.parametrize("leaving", [1, 3])
def test_likelihoods_over_other_sites_are_not_compared(leaving):
    """A site is silent after the first likelihood, or within the fit of the smaller design."""
    found, _ = compared(samples(), "~ batch", leaving=leaving)
    assert np.isnan(found.statistics).all()
    assert set(found.reason.tolist()) == {Reason.OTHER_SITES}
    kept, _ = compared(samples(), "~ batch")
    assert np.isfinite(kept.statistics).all()
    assert not kept.reason.any()


def test_genes_without_coefficients_are_not_asked_about():
    sites = samples()
    told = fitted(sites)
    status = told.state.status.copy()
    status[3], status[4] = Status.FAILED, Status.ALL_ZERO
    told = replace(told, state=replace(told.state, status=status))
    config = Config(design=DESIGN.formula, test="lrt", reduced="~ batch")
    found, asked = drive(likelihood_ratio(config, DESIGN, reduced_design(DESIGN, "~ batch"), told), sites)
    assert not any(query.genes[3:5].any() for query in asked)
    assert np.flatnonzero(np.isnan(found.statistics)).tolist() == [3, 4]


def test_a_gene_that_a_site_can_not_send_is_lost_and_no_other():
    sites = samples()
    told, config = fitted(sites), Config(design=DESIGN.formula, test="lrt", reduced="~ batch")

    def without_seven(query, part):
        nll = np.where((query.kind == "likelihood_at") & (np.flatnonzero(query.genes) == 7), np.nan, part["nll"])
        return {**part, "nll": nll}

    algorithm = likelihood_ratio(config, DESIGN, reduced_design(DESIGN, "~ batch"), told)
    found, _ = drive(algorithm, sites, spoil=without_seven)
    assert np.flatnonzero(np.isnan(found.statistics)).tolist() == [7]
    assert found.reason[7] == Reason.LOST


def test_a_question_that_is_no_regression_is_not_restricted():
    start = least_squares_start(np.zeros(GENES, dtype=np.int8), 2, IrlsConfig.deseq2())
    with pytest.raises(TypeError, match="least_squares"):
        next(restricted(start, np.eye(4)[:, :2], None))


def test_p_values_are_those_of_chi_squared_and_one_below_zero():
    stat = np.array([-0.3, 0.0, 1e-12, 3.84, 60.0, 1400.0, np.nan])
    for freedom in (1, 2, 39):
        found = chi_squared_pvalues(stat, freedom)
        np.testing.assert_allclose(found[1:-1], chi2.sf(stat[1:-1], freedom), rtol=1e-12)
        assert found[0] == 1.0
        assert np.isnan(found[-1])
    assert statistics(np.array([3.0]), np.array([5.5])).tolist() == [5.0]


def test_the_ridge_is_the_one_of_the_fit():
    """With a ridge that shows, coefficients of the smaller design are drawn to zero too."""
    sites = samples()
    usual, _ = compared(sites, "~ batch", ridge=R_RIDGE)
    strong, _ = compared(sites, "~ batch", ridge=5.0)
    assert np.abs(strong.fit.beta).sum() < 0.95 * np.abs(usual.fit.beta).sum()
