"""Known, and held off by no rule: counts are whole numbers, and sums of them over size factors are told to every digit.

Where a gene has one count in each of a few samples, its sum over a cell is that of a few 1 / s, and the same ones come
again in other genes: so the size factors of all samples follow, to ten digits. Then the sum over a cell of any gene of
low counts is made by one choice of whole counts alone, each with its sample; and the sum with a column of numbers tells
each sample's number. Nobody deviates, and nothing is known from elsewhere. See `docs/what-is-learned.md`.
"""

import itertools

import numpy as np
import pytest

from experiments.groundwork.data_sets import open_set
from experiments.groundwork.record import SkippedError
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from tests.files import write

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


def opened(grounds, lead, design):
    """What an honest fit opens until counts were summed over size factors, by kind of question; and the sites."""
    config = lead.config(grounds, design=design, preset="irls")
    sites = lead.sites(grounds, config)
    told = {}
    for event in lead_fit(Task(config, "fit-1"), LocalFederation(sites)):
        if isinstance(event, Record):
            told[event.told.kind] = event.arrays
            if event.told.kind == "normalised":
                return told, sites
    raise AssertionError("a fit without size factors")


def inverse_sizes(sums, samples, tolerance=1e-9):
    """1 / s of so many samples, from sums of a few of them: what comes most often as a sum or as how two differ."""
    known = np.sort(sums[sums > tolerance])
    known = known[np.r_[True, np.diff(known) > tolerance]]
    apart = (known[:, None] - known)[np.tril_indices(known.size, -1)]
    all_of_them = np.sort(np.concatenate([known, apart[apart > 1e-3]]))
    alike = np.split(all_of_them, np.flatnonzero(np.diff(all_of_them) > tolerance) + 1)
    found = []
    for value in map(np.median, sorted(alike, key=lambda these: (these.size, these[0]), reverse=True)):
        pairs = itertools.combinations(found, 2)
        if not any(min(abs(a + b - value), abs(abs(a - b) - value)) < 1e-8 for a, b in pairs):
            found.append(float(value))
        if len(found) == samples:
            break
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
    """1 / s of each sample, control ones first, and counts ``(genes, samples)``, NaN where sums do not bear them out.

    From what was opened alone; only so many ``decimals`` of sums of counts are used.
    """
    counted = told["census"]["samples"][0] - told["log_counts"]["zeros"]
    logs, all_samples = told["log_counts"]["log_counts"], told["normalised"]["normalised"]
    treated = told["normalised"]["xt_normalised"][:, 1]
    ones, weights, counts = (logs < 1e-9) & (counted <= 6), [], []
    for sums, samples in zip((all_samples - treated, treated), told["census"]["group_samples"], strict=True):
        weights.append(inverse_sizes(sums[ones], int(samples)))
        counts.append(whole_counts(np.round(sums, decimals), weights[-1]))
    weights, counts = np.concatenate(weights), np.hstack(counts)
    borne_out = (counts >= 0).all(axis=1) & ((counts > 0).sum(axis=1) == counted)
    borne_out &= np.abs(np.log(np.maximum(counts, 1.0)).sum(axis=1) - logs) < 1e-6
    return weights, np.where(borne_out[:, None], counts, np.nan)


def told_and_true(grounds, lead, design):
    """What was opened, and the truth: 1 / s, the design and counts of genes asked about, control samples first."""
    told, sites = opened(grounds, lead, design)
    held = [site._samples for site in sites.values()]
    design = np.vstack([one.design for one in held])
    sizes = np.concatenate([1.0 / one.size_factors for one in held])
    counts = np.concatenate([np.asarray(one.counts) for one in held])[:, told["census"]["presence"] >= 3]
    order = np.argsort(design[:, 1], kind="stable")
    return told, (sizes[order], design[order], counts[order].T)


def held_against(found, whole, sizes, counts):
    """Whose each found 1 / s is; and which genes' counts were found, all of them right."""
    which = np.abs(found[:, None] - sizes).argmin(axis=1)
    assert sorted(which) == list(range(sizes.size))
    np.testing.assert_allclose(found, sizes[which], rtol=1e-8)
    known = np.isfinite(whole).all(axis=1)
    assert np.array_equal(whole[known], counts[:, which][known])
    return which, known


def test_an_honest_fit_tells_size_factors_ages_and_low_counts_of_every_sample(rare, lead):
    told, (sizes, design, counts) = told_and_true(rare, lead, "~ condition + age")
    found, whole = records(told)
    which, known = held_against(found, whole, sizes, counts)
    assert known[counts.mean(axis=1) < 2].mean() > 0.9
    of_ages = told["normalised"]["xt_normalised"][:, 2]
    scaled = np.linalg.lstsq(whole[known] * found, of_ages[known], rcond=None)[0]
    np.testing.assert_allclose(scaled, design[which, 2], atol=1e-6)


@pytest.mark.slow
def test_real_counts_of_twenty_one_mice_follow_from_three_sums(lay, lead, tmp_path):
    try:
        parties = open_set("bottomly").parties()
    except SkippedError as missing:
        pytest.skip(str(missing))
    files = {name: tmp_path / f"{name}.h5ad" for name in parties}
    for name, adata in parties.items():
        write(adata, files[name])
    grounds = lay(names=tuple(files), data=files)
    told, (sizes, _, counts) = told_and_true(grounds, lead, "~ condition")
    found, whole = records(told)
    _, known = held_against(found, whole, sizes, counts)
    means = counts.mean(axis=1)
    assert known[means < 2].mean() > 0.998
    assert known[(means >= 2) & (means < 10)].mean() > 0.65


def test_from_sums_to_four_decimals_few_of_them_follow(rare, lead):
    told, (_, _, counts) = told_and_true(rare, lead, "~ condition + age")
    _, whole = records(told, decimals=4)
    some = (counts.mean(axis=1) > 0.5) & (counts.mean(axis=1) < 2)
    assert np.isnan(whole[some]).any(axis=1).mean() > 0.9
