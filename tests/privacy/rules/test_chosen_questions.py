"""What no rule about single questions stops: legal questions, each about the whole pool, that single out samples.

A score is clamped where a mean is below ``min_mu``: a sample whose mean lies below adds nothing. Means are size
factor times exp(coefficient), so a coefficient cuts the pool by size factors, and the difference of two cuts is the
samples between. The sites below stand on their own grounds and keep the default policy, budgets included; every
question and the order of questions is legal. Only a site that knows which question comes next refuses. The twin is a
session that trusts the aggregator, whose sites' policies were told so: there both attacks succeed.
"""

import numpy as np
import pytest

from protocols.secure_sum import PeerError
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.regression.quasi_newton import QuasiNewtonQuery

ALPHA = 0.1
MOST = 63
"""Coefficients asked about at once."""


class Attacker:
    """Legal questions after an honest beginning."""

    def __init__(self, room, least):
        self.room, self.least = room, least
        self.samples = int(room.census()["samples"][0])
        means = room.total(LogCountsQuery(room.every))
        self.usable = means["zeros"] == 0
        logs = np.where(self.usable, means["log_counts"] / self.samples, 0.0)
        room.total(NormalisedQuery(room.every, logs, self.usable, 2))
        room.total(AdoptDispersionsQuery(room.every, np.full(len(room.genes), ALPHA)))
        self.size = np.exp(logs)
        # Budgets are by gene, and size factors are the same for all: so every question is about another gene.
        self.genes = np.argsort(-logs)[: len(room.genes) // 2]
        self.asked = 0

    def scores(self, genes, cuts):
        """The clamped scores of the intercept at these coefficients, ``(genes, cuts)``."""
        candidates = np.zeros((int(genes.sum()), len(cuts), 2))
        candidates[:, :, 0] = cuts
        self.asked += 1
        return self.room.total(QuasiNewtonQuery(genes, candidates, self.least))["score"][:, :, 0]

    def next_gene(self):
        return int(self.genes[self.asked % len(self.genes)])

    def jumps(self, cells, threshold):
        """Halves of the cells ``(cells, 2)`` over which the score jumps: some sample's mean crosses the clamp there."""
        kept = []
        for start in range(0, len(cells), MOST // 3):
            some = cells[start : start + MOST // 3]
            cuts = np.column_stack([some[:, 0], some.mean(axis=1), some[:, 1]])
            gene = self.next_gene()
            f = self.scores(self.room.asked(gene), cuts.ravel())[0].reshape(-1, 3)
            for side in (0, 1):
                low, high = cuts[:, side], cuts[:, side + 1]
                over = np.abs(f[:, side + 1] - f[:, side]) > threshold(gene, high - low)
                kept.append(np.column_stack([low, high])[over])
        cells = np.concatenate(kept)
        return cells[np.argsort(cells[:, 0])]

    def locate(self, width, pieces, levels, threshold):
        """Where the samples' means cross the clamp, from coefficients around it."""
        grid = np.log(self.least) + np.linspace(-width, width, pieces + 1)
        cells = np.column_stack([grid[:-1], grid[1:]])
        for _ in range(levels):
            cells = self.jumps(cells, threshold)
        between = (cells[:-1, 1] + cells[1:, 0]) / 2
        return cells.mean(axis=1), np.append(between, cells[-1, 1] + 0.01)


def recovered(grounds, counts):
    """The share of all counts of all samples that were recovered exactly, each sample matched to its nearest."""
    truth, hits, taken = grounds.all_counts(), 0, set()
    for row in counts:
        match = (truth == row).mean(axis=1)
        hits += int((truth[match.argmax()] == row).sum()) if match.argmax() not in taken else 0
        taken.add(int(match.argmax()))
    share = hits / truth.size
    print(f"\n{share:.1%} of {truth.size:,} counts recovered, {len(taken)} samples told apart")
    return share


@pytest.fixture
def led(lay, lead):
    def opened(least, *, trusting=False):
        grounds = lay(genes=80, samples=24)
        return grounds, Attacker(lead.room(grounds, trust_aggregator=trusting).open(), least)

    return opened


def by_a_clamp_of_its_choice(grounds, attacker):
    """Clamps far below any mean of an honest fit."""
    _, cuts = attacker.locate(2.0, 64, 18, lambda gene, width: 0.5)
    counts = np.diff(attacker.scores(attacker.room.every, cuts), axis=1, prepend=0.0)
    return recovered(grounds, np.rint(counts.T).astype(np.int64))


def by_the_clamp_of_the_configuration(grounds, attacker):
    """The clamp that the configuration has; counts follow one sample after the other."""
    at, cuts = attacker.locate(
        2.0, 1024, 16, lambda gene, width: attacker.size[gene] * (0.1 + 4 * attacker.samples * width)
    )
    scores, factors, counts = attacker.scores(attacker.room.every, cuts), np.log(attacker.least) - at, []
    for k, cut in enumerate(cuts):
        mu = np.exp(factors[: k + 1] + cut)
        rest = scores[:, k].copy()
        for known, mean in zip(counts, mu, strict=False):
            rest -= (known - mean) / (1 + ALPHA * mean)
        counts.append(np.rint(rest * (1 + ALPHA * mu[k]) + mu[k]))
    return recovered(grounds, np.array(counts, dtype=np.int64))


def test_a_clamp_of_the_aggregators_choice_singles_out_no_sample(led):
    with pytest.raises(PeerError, match="asks site1 something else than the agreed algorithm does"):
        by_a_clamp_of_its_choice(*led(1e-6))


def test_the_clamp_of_the_configuration_singles_out_no_sample(led):
    with pytest.raises(PeerError, match="asks site1 something else than the agreed algorithm does"):
        by_the_clamp_of_the_configuration(*led(0.5))


def test_where_the_aggregator_is_trusted_a_clamp_gives_every_count(led):
    assert by_a_clamp_of_its_choice(*led(1e-6, trusting=True)) > 0.9


@pytest.mark.slow
def test_where_the_aggregator_is_trusted_the_configurations_clamp_gives_them_too(led):
    assert by_the_clamp_of_the_configuration(*led(0.5, trusting=True)) > 0.9
