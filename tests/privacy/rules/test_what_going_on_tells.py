"""What follows of a site where fits go on without it: its own sums of a regression, nearly; no rule holds that off.

Sums of a regression are at other coefficients in each round, but near its end at nearly the same: over all the score
is nothing there, so over those left it is the silent site's own with the other sign. Where policies say ``abort``, as
by default, nothing is opened over those left.
"""

import numpy as np
import pytest

from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.algorithms.regression.irls_queries import sums_at
from secirls.carriers.local import LocalFederation
from secirls.numerics.algebra.solve import times

SILENT = "site4"


class CalledSilent(LocalFederation):
    """A federation whose aggregator takes no answer of one site's any more."""

    called = False

    def ask(self, verb, arguments):
        answers = super().ask(verb, arguments)
        if self.called:
            answers.pop(SILENT, None)
        return answers


def rounds_of(grounds, lead, on_dropout, silent_from, **changes):
    """Finished rounds of an honest fit, in which a site is called silent from some question on; and the sites."""
    config = lead.config(grounds, on_dropout=on_dropout, **changes)
    sites = lead.sites(grounds, config)
    federation, found = CalledSilent(sites), []
    for event in lead_fit(Task(config, "fit-1"), federation):
        if isinstance(event, Record):
            found.append(event)
            federation.called |= silent_from([record.told.kind for record in found])
            if federation.called and SILENT not in event.told.parties:
                break
    return found, sites


@pytest.fixture
def aged(lay):
    grounds, rng = lay(samples=80), np.random.default_rng(2)
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("age", np.round(rng.uniform(30, 70, adata.n_obs))))
    return grounds


def fourth_round(kinds):
    return kinds.count("irls") == 3


def own_score(site, genes, beta):
    own = sums_at(site._samples.take(genes), beta, 0.5)
    return own.right - times(own.xtwx, beta)


@pytest.fixture
def betas(monkeypatch):
    """The coefficients of questions, which whoever leads knows."""
    from secirls.aggregator.rounds import SecureRounds

    honest, asked = SecureRounds._context, []
    monkeypatch.setattr(SecureRounds, "_context", lambda self, query: (asked.append(query), honest(self, query))[1])
    return asked


def test_going_on_in_a_regression_tells_a_sites_own_score_of_nearly_all_genes(aged, lead, betas):
    aged.rule('on_dropout = "continue"')
    found, sites = rounds_of(aged, lead, "continue", fourth_round, design="~ condition + age", preset="irls")
    asked, sums = betas[-1], found[-1].arrays
    told = -(sums["xtwz"] - times(sums["xtwx"][:, asked.expand.astype(int)], asked.beta))
    truth = own_score(sites[SILENT], asked.genes, asked.beta)
    off = np.abs(told - truth) / np.abs(truth)
    assert asked.genes.sum() > 50
    assert np.median(off) < 1e-4
    assert np.quantile(off, 0.8) < 0.01


def test_and_what_comes_after_begins_where_it_ended(lay, aged, lead, betas):
    """So the likelihoods of all genes differ by the site's own."""
    aged.rule('on_dropout = "continue"')
    changes = {"shrink": "condition[T.treated]", "cooks": False}
    last = rounds_of(lay("elsewhere", samples=80), lead, "abort", lambda _: False, **changes)[0]
    end = [record.told.kind for record in last].index("unclamped")
    found, sites = rounds_of(aged, lead, "continue", lambda kinds: len(kinds) == end, **changes)
    before = np.full(60, np.nan)
    for query, record in zip(betas[-len(found) :], found, strict=True):
        if query.kind == "irls":
            before[query.genes] = record.arrays["nll"]
    asked = betas[-1]
    own = sums_at(sites[SILENT]._samples.take(asked.genes), asked.beta, 0.0).nll
    assert before[asked.genes] - found[-1].arrays["nll"] == pytest.approx(own, rel=1e-9)


def test_where_sites_say_abort_nothing_is_opened_without_it(aged, lead, betas):
    with pytest.raises(SilentSitesError, match="site4 fell silent, so the fit stops here"):
        rounds_of(aged, lead, "abort", fourth_round, design="~ condition + age", preset="irls")
