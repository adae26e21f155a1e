"""R's paths and the optimum over profiles: against the same rules on the likelihood itself, without interpolant."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from secirls.inputs.datasets import airway_counts, airway_obs
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion.interpolant import Profiles, interpolate
from secirls.numerics.dispersion.nodes import farther, nodes_for
from secirls.numerics.dispersion.optimum import first_steps, maximise, search_grids
from secirls.numerics.dispersion.path import outliers, walk_gene_wise, walk_map
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood

LARGEST = 10.0


class Genes:
    """Some genes of airway with linear means of two groups: profiles, and the likelihood itself."""

    def __init__(self, every=150):
        counts, obs = airway_counts(), airway_obs()
        treated = (obs.loc[counts.index, "condition"] == "trt").to_numpy(dtype=float)
        self.X = np.column_stack([np.ones(8), treated])
        y = counts.to_numpy(dtype=np.int32)
        usable = (y > 0).all(axis=0)
        logs = np.log(y[:, usable])
        self.s = np.exp(np.median(logs - logs.mean(axis=0), axis=1))
        self.y = y[:, ::every]
        z = self.y / self.s[:, None]
        self.b = np.linalg.lstsq(self.X, z, rcond=None)[0].T.copy()
        self.nodes = farther(nodes_for(z.mean(axis=0), z.var(axis=0, ddof=1), 8, LARGEST))
        samples = Samples(self.X, self.y, self.s)
        products = Products.full(2)
        sums = profile_sums(samples, self.b, self.nodes, products, linear=True, min_mu=0.5)
        self.profiles = interpolate(*sums, self.nodes, products)
        mean, variance = z.mean(axis=0), z.var(axis=0, ddof=1)
        start = (variance - (1 / self.s).mean() * mean) / mean**2
        self.start = np.clip(start, 1e-8, LARGEST)

    def value(self, gene, a, centre=None, variance=1.0):
        """R's log posterior, from the counts."""
        alpha = math.exp(a)
        mu = np.maximum(self.s * (self.X @ self.b[gene]), 0.5)
        information = (self.X.T * (mu / (1 + alpha * mu))) @ self.X
        value = -likelihood.nll(self.y[:, gene].astype(float), np.log(mu), alpha).sum()
        value -= 0.5 * np.linalg.slogdet(information)[1]
        return value - (0.0 if centre is None else (a - centre) ** 2 / (2 * variance))

    def slope(self, *given):
        gene, a, *rest = given
        step = 1e-4
        v = [self.value(gene, a + k * step, *rest) for k in (-2, -1, 1, 2)]
        return (8 * (v[2] - v[1]) - (v[3] - v[0])) / (12 * step)


@pytest.fixture(scope="module")
def genes():
    return Genes()


def ascend(genes, gene, a, *prior):
    """The ascent's rules, word by word, on the likelihood itself."""
    kappa, accepted = 1.0, 0
    value = first = genes.value(gene, a, *prior)
    slope = genes.slope(gene, a, *prior)
    for tried in range(1, 101):
        kappa = (-30 - a) / slope if a + kappa * slope < -30 else kappa
        kappa = (10 - a) / slope if a + kappa * slope > 10 else kappa
        new = genes.value(gene, a + kappa * slope, *prior)
        if -new <= -value - 1e-4 * kappa * slope**2:
            accepted += 1
            a += kappa * slope
            if new - value < 1e-6:
                return a, first, new, tried
            if a < math.log(1e-9):
                return a, first, value, tried
            value, slope = new, genes.slope(gene, a, *prior)
            kappa = min(1.1 * kappa, 1.0) / (2 if accepted % 5 == 0 else 1)
        else:
            kappa /= 2
    return a, first, value, 100


def best_of_grids(genes, gene, *prior):
    """A coarse grid, and a fine one around its best."""
    coarse = np.linspace(math.log(1e-8), math.log(LARGEST), 20)
    best = coarse[np.argmax([genes.value(gene, a, *prior) for a in coarse])]
    spacing = coarse[1] - coarse[0]
    fine = np.linspace(best - spacing, best + spacing, 20)
    return math.exp(fine[np.argmax([genes.value(gene, a, *prior) for a in fine])])


@pytest.mark.slow
def test_gene_wise_paths_are_those_on_the_likelihood_itself(genes):
    walked = walk_gene_wise(genes.profiles, genes.start, LARGEST)
    assert not walked.beyond.any()
    kept = gridded = 0
    for gene, start in enumerate(genes.start):
        a, first, last, tried = ascend(genes, gene, math.log(start))
        expected = min(math.exp(a), LARGEST)
        mu = np.maximum(genes.s * (genes.X @ genes.b[gene]), 0.5)
        y = genes.y[:, gene]
        constant = sum(k * math.log(m) - math.lgamma(k + 1) for k, m in zip(y.tolist(), mu, strict=True))
        if last < first + 1e-6 * abs(first - constant):
            expected = start
            kept += 1
        if tried in (1, 100) and expected > 1e-7:
            expected = best_of_grids(genes, gene)
            gridded += 1
        expected = min(max(expected, 1e-8), LARGEST)
        near = max(expected, walked.dispersions[gene]) < 1e-7  # where a profile is flat to 1e-7
        assert walked.dispersions[gene] == pytest.approx(expected, rel=1e-6) or near, gene
        if start > 1e-7:
            assert walked.iterations[gene] == tried, gene
    assert kept > 50
    assert gridded > 1


def test_map_paths_are_those_on_the_likelihood_itself(genes):
    gene_wise = walk_gene_wise(genes.profiles, genes.start, LARGEST).dispersions
    trend = 0.03 + 3.0 / (genes.y / genes.s[:, None]).mean(axis=0).clip(0.1)
    walked = walk_map(genes.profiles, gene_wise, trend, 0.9, LARGEST)
    for gene in range(0, trend.size, 3):
        centre = math.log(trend[gene])
        start = gene_wise[gene] if gene_wise[gene] > 0.1 * trend[gene] else trend[gene]
        a, _, _, tried = ascend(genes, gene, math.log(start), centre, 0.9)
        expected = best_of_grids(genes, gene, centre, 0.9) if tried == 100 else math.exp(a)
        assert walked.dispersions[gene] == pytest.approx(min(max(expected, 1e-8), LARGEST), rel=1e-6), gene
        assert walked.iterations[gene] == tried


def test_a_path_that_never_keeps_its_start_would_be_caught(genes):
    walked = walk_gene_wise(genes.profiles, genes.start, LARGEST).dispersions
    far = 0
    for gene, start in enumerate(genes.start):
        end = min(max(math.exp(ascend(genes, gene, math.log(start))[0]), 1e-8), LARGEST)
        far += abs(end / walked[gene] - 1) > 1e-6
        if far > 10:
            return
    pytest.fail(f"{far} genes end elsewhere")


def test_optima_are_no_lower_than_any_point_and_any_path(genes):
    best = maximise(genes.profiles, LARGEST)
    path = walk_gene_wise(genes.profiles, genes.start, LARGEST).dispersions
    for gene in range(0, best.size, 3):
        top = genes.value(gene, math.log(best[gene]))
        for other in (*np.geomspace(1e-8, LARGEST, 40), path[gene]):
            assert top >= genes.value(gene, math.log(other)) - 1e-7
    inner = (best > 1.1e-8) & (best < 0.99 * LARGEST)
    slopes = [genes.slope(gene, math.log(best[gene])) for gene in np.flatnonzero(inner)]
    assert np.abs(slopes).max() < 1e-6
    assert inner.sum() > 50


def test_a_path_that_stops_early_is_no_optimum(genes):
    path = walk_gene_wise(genes.profiles, genes.start, LARGEST).dispersions
    slopes = [abs(genes.slope(gene, math.log(path[gene]))) for gene in range(path.size) if path[gene] > 1e-6]
    assert max(slopes) > 1e-3


def test_optima_with_a_prior_lie_between_the_optimum_and_the_trend(genes):
    free, trend = maximise(genes.profiles, LARGEST), np.full(genes.start.size, 0.1)
    drawn = maximise(genes.profiles, LARGEST, trend, 0.5)
    low, high = np.minimum(free, trend), np.maximum(free, trend)
    assert (drawn >= low * (1 - 1e-6)).all()
    assert (drawn <= high * (1 + 1e-6)).all()
    hard = maximise(genes.profiles, LARGEST, trend, 1e-9)
    np.testing.assert_allclose(hard, trend, rtol=1e-4)


def test_a_path_beyond_the_nodes_is_told():
    few = Genes(every=2000)
    short = few.profiles
    reach = np.full(short.reach.size, 1e-3)
    walked = walk_gene_wise(type(short)(**{**vars(short), "reach": reach}), few.start, LARGEST)
    assert walked.beyond.any()


def test_outliers_are_above_the_trend_by_more_than_two_spreads():
    trend = np.full(4, 0.1)
    ratios = np.exp(np.array([-5.0, 0.99, 1.01, 3.0]))
    assert outliers(trend * ratios, trend, 0.25).tolist() == [False, False, True, True]


def test_series_that_came_in_lots_lead_to_the_same_bits(genes):
    """Some asked about apart, some a second time; the broken twin reads a lot's series at another lot's places."""
    whole, size = genes.profiles, genes.profiles.scale.size
    some, again = np.arange(size) < size // 3, np.arange(0, size, 4)
    order = np.argsort(~some, kind="stable")
    lots = Profiles.joined([whole.take(some), whole.take(~some)]).take(np.argsort(order))
    moved = lots.replaced(again, whole.take(again))
    wrong = replace(moved, starts=np.roll(moved.starts, 1), sizes=np.roll(moved.sizes, 1))
    assert len(moved.lots) == 3
    assert len(np.unique(moved.lot)) == 3

    def ends(profiles):
        trend = np.exp(np.linspace(-4, 0, size))
        walked = walk_gene_wise(profiles, genes.start, LARGEST), walk_map(profiles, genes.start, trend, 0.7, LARGEST)
        paths = [getattr(end, name) for end in walked for name in ("dispersions", "iterations", "beyond")]
        optima = maximise(profiles, LARGEST, trend, 0.7), search_grids(profiles, LARGEST)
        steps = first_steps(profiles, genes.start, 1e-3, LARGEST)
        return [*paths, *optima, steps, *profiles.evaluate(np.full((size, 2), 0.1))]

    expected = ends(whole)
    assert all(map(partial(np.array_equal, equal_nan=True), ends(moved), expected))
    assert not np.array_equal(ends(wrong)[0], expected[0])
