"""Counts that are held as something less than an array: the same integers, however they are asked for."""

from dataclasses import replace

import numpy as np
import pytest

from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.inputs.simulate import simulate
from secirls.numerics.held import held_counts
from secirls.numerics.held.held_counts import Chosen, Entered, HeldCounts, Spliced, held, in_blocks, whole
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import Choice, nll_constants, summands

GENES, SAMPLES = 40, 9
ALL = slice(None)


@pytest.fixture
def counts():
    """Genes first; some beyond two bytes, half of them zero."""
    rng = np.random.default_rng(0)
    made = rng.integers(0, 90_000, size=(GENES, SAMPLES)).astype(np.int32)
    made[rng.random(made.shape) < 0.5] = 0
    return made


def entered(counts, *, narrow, piece=SAMPLES):
    """The same counts over two bytes each, or over zeros, in pieces of so many samples."""
    at = counts > (65_535 if narrow else 0)
    gene, sample = np.nonzero(at)
    genes, samples = counts.shape
    pieces = -(-samples // piece)
    starts = np.searchsorted(gene * pieces + sample // piece, np.arange(genes * pieces + 1)).astype(np.uint16)
    under = np.where(at, 0, counts).astype(np.uint16) if narrow else None
    return Entered(under, samples, starts, (sample % piece).astype(np.uint8), counts[at].astype(np.uint32), piece)


def forms(counts):
    """Counts held in every way, each beside what it must give."""
    rng = np.random.default_rng(1)
    index, mask = rng.permutation(GENES)[:25], rng.random(GENES) < 0.3
    other = np.flipud(counts)
    pieces = entered(counts, narrow=True, piece=4), entered(counts, narrow=False, piece=4)
    for base in (counts, entered(counts, narrow=True), entered(counts, narrow=False), *pieces):
        if not isinstance(base, np.ndarray):
            yield base, counts
        yield Chosen.of(base, index), counts[index]
        yield Chosen.of(Chosen.of(base, index), np.arange(3, 20)), counts[index][3:20]
        gene, sample = np.nonzero(mask[:, None] & (counts > 30_000))
        written = counts.copy()
        written[gene, sample] = 7
        over = Entered.over(base, gene, sample, np.full(gene.size, 7, dtype=np.int32))
        yield over, written
        yield Spliced(base, other, mask), np.where(mask[:, None], other, counts)
        yield Spliced(base, over, mask), np.where(mask[:, None], written, counts)


def test_every_form_gives_the_same_counts_however_it_is_asked(counts):
    rng, seen = np.random.default_rng(2), 0
    for rows, truth in forms(counts):
        genes = len(truth)
        assert rows.shape == truth.shape
        asks = [ALL, slice(3, 11), slice(5, 5), rng.random(genes) < 0.4, np.zeros(genes, dtype=bool), np.arange(2, 9)]
        for asked in (*asks, rng.integers(0, genes, 30)):
            for part in (ALL, slice(2, 6), slice(4, 9), slice(0, 0)):
                given = rows[asked, part]
                assert given.dtype == np.int32
                assert np.array_equal(given, truth[asked][:, part])
            assert rows[asked].flags.c_contiguous
            seen += 1
        assert np.array_equal(whole(HeldCounts(rows)), truth.T)
    assert seen == 7 * 29


def test_what_was_entered_leaves_what_is_under_it_alone(counts):
    before = counts.copy()
    over = Entered.over(counts, np.array([0]), np.array([0]), np.array([5], dtype=np.int32))
    assert over[:1][0, 0] == 5
    assert np.array_equal(counts, before)


def test_blocks_cover_all_genes_in_order(counts):
    for held_in in (counts.T, HeldCounts(entered(counts, narrow=True))):
        parts = [block for _, block in in_blocks(held_in, 5 * SAMPLES)]
        assert [len(part) for part in parts] == [5] * 8
        assert np.array_equal(np.concatenate(parts), counts)


def test_active_genes_of_a_large_site_are_no_copy(monkeypatch):
    made = simulate(300, 30, seed=1).samples
    some = np.arange(300) % 2 == 0
    assert isinstance(made.take(some).counts, np.ndarray)
    monkeypatch.setattr(held_counts, "FEW_VALUES", 1000)
    taken = made.take(some).counts
    assert isinstance(taken, HeldCounts)
    assert np.shares_memory(taken.T.among, made.counts)


@pytest.mark.parametrize("kernel", ["fused", "numpy"])
@pytest.mark.parametrize("narrow", [True, False])
def test_a_kernels_sums_are_the_same_bits(kernel, narrow, monkeypatch):
    made = simulate(300, 30, seed=1).samples
    replaced = replace(made, replacement=np.asfortranarray(made.counts[::-1]))
    monkeypatch.setattr(held_counts, "FEW_VALUES", 0)
    other = replace(
        replaced,
        counts=HeldCounts(entered(made.counts.T, narrow=narrow, piece=30 if narrow else 8)),
        replacement=HeldCounts(entered(made.counts[::-1].T, narrow=narrow, piece=30)),
    )
    genes = np.random.default_rng(3).random(300) < 0.5
    again = ReplaceCountsQuery(genes)
    assert not np.array_equal(whole(again.apply(other).counts), made.counts)
    beta = np.random.default_rng(4).normal(size=(genes.sum(), 2))
    for change in (lambda site: site, again.apply):
        sums = []
        for site in (replaced, other):
            about = change(site).take(genes)
            found = summands(about, beta, 0.5, choice=Choice(kernel))
            sums.append((*found, nll_constants(about, choice=Choice(kernel))))
        for one, two in zip(*sums, strict=True):
            assert np.array_equal(one, two)


def test_few_counts_are_an_array(counts):
    assert isinstance(held(entered(counts, narrow=True)), np.ndarray)
    samples = Samples(np.ones((SAMPLES, 1)), held(entered(counts, narrow=False)))
    assert np.array_equal(samples.counts, counts.T)
