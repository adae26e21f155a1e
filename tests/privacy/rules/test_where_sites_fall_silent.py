"""A fit goes on without a site from questions of regressions on alone; at others it ends, for they come a second time.

Counts over size factors are summed anew once outliers were replaced, of whose genes some have outliers at one site
alone. Whoever calls that site silent in between has the others' sums once with its own and once without. In the twin
sites may fall silent at any question.
"""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from protocols.secure_sum import MisuseError
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.aggregator.rounds import SecureRounds
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record
from secirls.algorithms import whole_fit
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.carriers.local import LocalFederation
from secirls.numerics.status import Reason
from secirls.site.guarding.summed_over import SummedOver

OWNER, FEWER = "site4", ("site1", "site2", "site3")
OUTLIERS = {3: 3, 8: 8, 21: 1}
"""The owner's, by gene."""


def outlying(adata):
    for gene, sample in OUTLIERS.items():
        adata.X[sample, gene] = 60_000


def agreed(grounds):
    """What a fit of these grounds may do: go on without one."""
    return grounds.edit(OWNER, outlying).rule('on_dropout = "continue"')


@pytest.fixture
def going_on(lay):
    """Four sites of twenty samples, whose fits may go on without one."""
    return agreed(lay(samples=80))


class CalledSilent(LocalFederation):
    """A federation whose aggregator takes no answer of one site's from some verb on."""

    def __init__(self, sites):
        super().__init__(sites)
        self.from_now_on = ""

    def ask(self, verb, arguments):
        answers = super().ask(verb, arguments)
        if self.from_now_on in ("all", verb):
            self.from_now_on = "all"
            answers.pop(OWNER, None)
        return answers


@pytest.fixture
def unruly(monkeypatch):
    """An aggregator that goes on without anybody, wherever the fit is."""
    monkeypatch.setattr(SecureRounds, "_settle", lambda self, _, silent: self._lose(*((name, "") for name in silent)))
    monkeypatch.setattr(SecureRounds, "_check_left", lambda *_: None)


def led(grounds, lead, past=None, names=None):
    """Events of a fit in lock-step, its sites, and who carries their messages."""
    config = lead.config(grounds, on_dropout="continue", kernel="fused")
    sites = lead.sites(grounds, config, names)
    federation = CalledSilent(sites)
    return lead_fit(Task(config, "fit-1", past), federation), sites, federation


def both_sums(grounds, lead):
    """Of the genes with outliers, counts over size factors before and after they are replaced: by how much these
    differ, ``(genes,)``; and what the owner's own came to."""
    events, sites, federation = led(grounds, lead)
    found = []
    for event in events:
        if isinstance(event, Record):
            federation.from_now_on = "contribute" if event.told.kind == "presence" else federation.from_now_on
            found += [event.arrays["normalised"]] if event.told.kind == "normalised" else []
    genes, s = list(OUTLIERS), sites[OWNER]._samples.size_factors
    assert found[1].shape == (len(genes),)
    return found[0][genes] - found[1], (grounds.counts(OWNER)[:, genes] / s[:, None]).sum(axis=0)


def test_no_sum_that_comes_a_second_time_is_over_fewer_sites(going_on, lead, unruly):
    with pytest.raises(Exception, match="to open a sum over other sites than were agreed"):
        both_sums(going_on, lead)


def test_the_twin_that_goes_on_at_any_question_tells_one_sites(going_on, lead, unruly, at_any_question):
    found, own = both_sums(going_on, lead)
    assert found == pytest.approx(own, rel=1e-12)


# In between: a site that is in the last sum of a regression, and silent before the question that follows from it.


@pytest.fixture(scope="module")
def ended(tmp_path_factory, lead):
    """A fit that ended: its grounds, what was agreed on, its rounds up to the last of a regression before outliers, and
    that one."""
    grounds = agreed(lead.settle(tmp_path_factory.mktemp("ended") / "grounds", samples=80))
    begun, *records = (event for event in led(grounds, lead)[0] if isinstance(event, Begun | Record))
    kinds = [record.told.kind for record in records]
    last = max(i for i, kind in enumerate(kinds[: kinds.index("replace_outliers")]) if kind == IrlsQuery.kind)
    assert kinds[last + 1] != IrlsQuery.kind
    for name in grounds.names:
        shutil.copytree(grounds.folder / name / "memory", grounds.folder / name / "as it ended")
    return SimpleNamespace(grounds=grounds, begun=begun, before=records[:last], last=records[last])


@pytest.fixture
def done(ended):
    """The same, with what its sites remembered when it had ended."""
    for own in (ended.grounds.folder / name for name in ended.grounds.names):
        shutil.rmtree(own / "memory")
        shutil.copytree(own / "as it ended", own / "memory")
    return ended


def silent_at(done, lead, verb, rounds):
    """Lead the fit again, with a site that is silent at a verb of that round and ever after; note finished rounds."""
    events, _, federation = led(done.grounds, lead)
    for event in events:
        if isinstance(event, Record):
            rounds.append(event.told.round)
            federation.from_now_on = verb if len(rounds) == len(done.before) else federation.from_now_on


@pytest.mark.parametrize("verb", [pytest.param("assist", marks=pytest.mark.slow), "hear"])
def test_a_fit_ends_there_and_its_last_round_is_made_again(lead, done, verb):
    rounds = []
    with pytest.raises(SilentSitesError, match="site4 fell silent, so the fit stops here"):
        silent_at(done, lead, verb, rounds)
    assert rounds == list(range(len(done.before)))


def test_nobody_answers_for_those_left(lead, done, monkeypatch):
    monkeypatch.setattr(SecureRounds, "_check_left", lambda *_: None)
    with pytest.raises(MisuseError, match="sum over other sites than were agreed"):
        silent_at(done, lead, "hear", [])


def test_nor_in_a_session_of_those_left_that_goes_on_from_there(lead, done):
    told = dataclasses.replace(done.last.told, lost=((OWNER, "silent"),))
    past = Past(done.begun, (*done.before, dataclasses.replace(done.last, told=told)))
    with pytest.raises(MisuseError, match="sum over other sites than were agreed"):
        list(led(done.grounds, lead, past, FEWER)[0])


# A refit on another layer of counts begins with sums that the first fit began with, too.


def copied(adata):
    adata.layers["again"] = adata.X.copy()


def both_beginnings(grounds, lead):
    """How the first sums of two fits differ, of which a site falls silent in the first; its own; what genes came to."""
    genes = ("gene00003", "gene00008")
    for name in grounds.names:
        grounds.edit(name, copied)
    grounds.rule('layers = ["X", "again"]')
    config = lead.config(grounds, on_dropout="continue", preset="irls", refit_layer="again", refit_genes=genes)
    sites = lead.sites(grounds, config)
    federation, found = CalledSilent(sites), []
    for event in lead_fit(Task(config, "fit-1"), federation):
        federation.from_now_on = "contribute" if isinstance(event, Record) and found else federation.from_now_on
        if isinstance(event, Record) and event.told.kind == "least_squares":
            found.append(event.arrays["xty"])
    samples = sites[OWNER]._samples
    logs = np.log(np.asarray(samples.counts)[:, [3, 8]] / samples.size_factors[:, None] + 0.1)
    return found, logs.T @ samples.design, event


def test_no_gene_is_fitted_again_over_fewer_sites(going_on, lead):
    found, _, outcome = both_beginnings(going_on, lead)
    assert len(found) == 1
    state = outcome.fitted.state
    assert state.reasons()[3] == state.reasons()[8] == Reason.OTHER_SITES.sentence
    assert state.fitted.sum() > 50


def test_the_twin_that_fits_them_again_tells_one_sites(going_on, lead, monkeypatch):
    monkeypatch.setattr(whole_fit, "all_are_left", lambda *_: True)
    monkeypatch.setattr(SummedOver, "more", lambda *_: False)
    (first, second), own, _ = both_beginnings(going_on, lead)
    np.testing.assert_allclose(first[[3, 8]] - second, own, rtol=1e-9)


# A second fit of genes with outliers has two regressions, each of which begins with the same sums.


def within_the_second_fit(grounds, lead):
    """How the first sums of its two regressions differ, in the first of which a site falls silent; and its own."""
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("sex", ["w", "w", "m", "m", "w"] * 4))
    config = lead.config(grounds, on_dropout="continue", design="~ sex + condition", kernel="fused")
    sites = lead.sites(grounds, config)
    federation, found, replaced = CalledSilent(sites), [], False
    for event in lead_fit(Task(config, "fit-1"), federation):
        if isinstance(event, Record):
            replaced |= event.told.kind == "presence"
            if replaced and event.told.kind == "least_squares":
                found.append(event.arrays["xty"])
                federation.from_now_on = "contribute"
    samples, genes = sites[OWNER]._samples, list(OUTLIERS)
    logs = np.log(np.asarray(samples.counts)[:, genes] / samples.size_factors[:, None] + 0.1)
    return found[0] - found[1], logs.T @ samples.design


def test_its_second_regression_does_not_begin_over_fewer_sites(going_on, lead):
    with pytest.raises(MisuseError, match="was asked anew for 'profile' of genes, after a site fell silent"):
        within_the_second_fit(going_on, lead)


def test_the_twin_that_begins_it_tells_one_sites(going_on, lead, monkeypatch):
    monkeypatch.setattr(SummedOver, "more", lambda *_: False)
    found, own = within_the_second_fit(going_on, lead)
    np.testing.assert_allclose(found, own, rtol=1e-9)
