"""Known, and held off by no rule: counts are whole numbers, and sums of them over size factors are told to every digit.

Where a gene has one count in each of a few samples, its sum over a cell is that of a few 1 / s, and the same ones come
again in other genes: so the size factors of all samples follow, to ten digits. Then the sum over a cell of any gene of
low counts is made by one choice of whole counts alone, each with its sample; and the sum with a column of numbers tells
each sample's number. Nobody deviates, and nothing is known from elsewhere. See `docs/what-is-learned.md`.
"""

import itertools

import numpy as np
import pytest

from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.site.site import Site

NAMES = ("site1", "site2", "site3")
BITS = 2.0**44


@pytest.fixture
def rare(lay):
    """Three sites of six samples: genes of all kinds, half of which are hardly seen; and patients' ages."""
    grounds = lay(names=NAMES, samples=18, genes=1400)
    for number, name in enumerate(NAMES):

        def edit(adata, number=number):
            generator = np.random.default_rng(number)
            means = np.concatenate([np.geomspace(0.1, 0.4, 1200), np.geomspace(0.4, 200.0, 200)])
            adata.X = generator.poisson(means * generator.lognormal(0.0, 0.4, 6)[:, None]).astype(np.int32)
            adata.obs["age"] = generator.integers(20, 90, 6)
            adata.obs["condition"] = ["control", "treated"] * 3

        grounds.edit(name, edit)
    return grounds


def opened(grounds, lead):
    """What an honest fit opens until counts were summed over size factors, by kind of question; and the sites."""
    config = lead.config(grounds, design="~ condition + age", preset="irls")
    sites = {name: Site(grounds.place(name), config, own_process=False) for name in grounds.names}
    told = {}
    for event in lead_fit(Task(config, "fit-1"), LocalFederation(sites)):
        if isinstance(event, Record):
            told[event.told.kind] = event.arrays
            if event.told.kind == "normalised":
                return told, sites
    raise AssertionError("a fit without size factors")


def inverse_sizes(sums, samples, tolerance=1e-9):
    """1 / s of so many samples, from sums of a few of them: those by which most other sums differ."""
    known = np.sort(sums[sums > tolerance])
    known = known[np.r_[True, np.diff(known) > tolerance]]
    apart = np.sort((known[:, None] - known)[np.tril_indices(known.size, -1)])
    again = np.searchsorted(apart, known + tolerance) - np.searchsorted(apart, known - tolerance)
    found = []
    for value in known[np.argsort(-again, kind="stable")]:
        pairs = itertools.combinations(found, 2)
        if len(found) < samples and not any(abs(a + b - value) < 1e-8 for a, b in pairs):
            found.append(float(value))
    return np.array(found)


def reduced(weights):
    """A basis of short vectors (y, w y) for all whole y: Lenstra, Lenstra and Lovász (1982)."""
    rows = [[int(i == j) for j in range(weights.size)] + [round(BITS * w)] for i, w in enumerate(weights)]
    at = 1
    while at < len(rows):
        triangle = np.linalg.qr(np.array(rows[: at + 1], dtype=float).T)[1]
        changed = 0
        for before in range(at - 1, -1, -1):
            times = round(triangle[before, at] / triangle[before, before])
            if times:
                rows[at] = [a - times * b for a, b in zip(rows[at], rows[before], strict=True)]
                triangle[:, at] -= times * triangle[:, before]
                changed = max(changed, abs(times))
        if changed > 1:  # with whole numbers, and once more: the triangle has some digits alone
            continue
        first, second = triangle[at - 1, at - 1], np.hypot(triangle[at - 1, at], triangle[at, at])
        if second**2 < 0.99 * first**2:
            rows[at - 1], rows[at] = rows[at], rows[at - 1]
            at = max(at - 1, 1)
        else:
            at += 1
    return np.array(rows, dtype=float)


def whole_counts(sums, weights):
    """Whole counts ``(genes, samples)`` near their mean whose sums over a cell these are: Babai (1986)."""
    basis = reduced(weights)
    right, triangle = np.linalg.qr(basis.T)
    left = np.column_stack([np.outer(sums / weights.sum(), np.ones(weights.size)), BITS * sums])
    found = np.zeros_like(left)
    for at in range(weights.size - 1, -1, -1):
        times = np.rint((left @ right[:, at]) / triangle[at, at])[:, None]
        left, found = left - times * basis[at], found + times * basis[at]
    return found[:, :-1]


def records(told, decimals=17):
    """1 / s and scaled age of each sample, control ones first, and counts ``(genes, samples)`` that sums bear out.

    From what was opened alone; only so many ``decimals`` of sums of counts are used.
    """
    counted = told["census"]["samples"][0] - told["log_counts"]["zeros"]
    logs, all_samples = told["log_counts"]["log_counts"], told["normalised"]["normalised"]
    treated, ages = told["normalised"]["xt_normalised"][:, 1:].T
    ones, weights, counts = (logs < 1e-9) & (counted <= 6), [], []
    for sums, samples in zip((all_samples - treated, treated), told["census"]["group_samples"], strict=True):
        weights.append(inverse_sizes(sums[ones], int(samples)))
        counts.append(whole_counts(np.round(sums, decimals), weights[-1]))
    weights, counts = np.concatenate(weights), np.hstack(counts)
    borne_out = (counts >= 0).all(axis=1) & ((counts > 0).sum(axis=1) == counted)
    borne_out &= np.abs(np.log(np.maximum(counts, 1.0)).sum(axis=1) - logs) < 1e-6
    scaled = np.linalg.lstsq(counts[borne_out] * weights, ages[borne_out], rcond=None)[0]
    return weights, scaled, np.where(borne_out[:, None], counts, np.nan)


@pytest.fixture
def told_and_true(rare, lead):
    """What was opened, and the truth: 1 / s, scaled ages and counts of genes asked about, control samples first."""
    told, sites = opened(rare, lead)
    held = [site._samples for site in sites.values()]
    design = np.vstack([one.design for one in held])
    sizes = np.concatenate([1.0 / one.size_factors for one in held])
    counts = np.concatenate([np.asarray(one.counts) for one in held])[:, told["census"]["presence"] >= 3]
    order = np.argsort(design[:, 1], kind="stable")
    return told, (sizes[order], design[order, 2], counts[order].T)


def test_an_honest_fit_tells_size_factors_ages_and_low_counts_of_every_sample(told_and_true):
    told, (sizes, ages, counts) = told_and_true
    found, scaled, whole = records(told)
    which = np.abs(found[:, None] - sizes).argmin(axis=1)
    assert sorted(which) == list(range(18))
    np.testing.assert_allclose(found, sizes[which], rtol=1e-8)
    np.testing.assert_allclose(scaled, ages[which], atol=1e-6)
    low, known = counts.mean(axis=1) < 2, np.isfinite(whole).all(axis=1)
    assert np.array_equal(whole[known], counts[:, which][known])
    assert known[low].mean() > 0.9


def test_from_sums_to_four_decimals_few_of_them_follow(told_and_true):
    told, (_, _, counts) = told_and_true
    *_, whole = records(told, decimals=4)
    some = (counts.mean(axis=1) > 0.5) & (counts.mean(axis=1) < 2)
    assert np.isnan(whole[some]).any(axis=1).mean() > 0.9
