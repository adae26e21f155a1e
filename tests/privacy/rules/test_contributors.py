"""A gene that one site alone counts is not answered for, and no aggregator can talk a site out of knowing that.

The census is told to every site, and checked there; each holds ``min_contributors`` against it by itself.
"""

import numpy as np
import pytest

from protocols.secure_sum import MisuseError, PeerError
from protocols.totals import pack_total
from protocols.verified import Checks
from secirls.agreement.agreement import genes_digest
from secirls.agreement.record import followed, query_digest
from secirls.algorithms.groundwork.census import CensusQuery, PresenceQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.algorithms.query import Total
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.algorithms.whole_fit import agreed_fit
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import guard as guard_room
from secirls.site.guarding.guard import Guard
from secirls.site.guarding.policy_checks import PolicyChecks

LONELY, OWNER = 7, "site3"


@pytest.fixture
def lonely(grounds):
    """One gene has counts at one site alone."""
    for name in grounds.names:
        if name != OWNER:
            grounds.edit(name, lambda adata: adata.X.__setitem__((slice(None), LONELY), 0))
    return grounds


def own(grounds):
    return np.log(np.maximum(grounds.counts(OWNER)[:, LONELY], 1)).sum()


def ask(room):
    return room.total(LogCountsQuery(room.asked(LONELY)))["log_counts"][0]


def many_sites(vector, layout):
    """A census that tells of one more site, twice, where a gene has one."""
    told = vector.copy()
    bits = layout.fields[0].fraction_bits
    told[LONELY, bits // 64] += np.uint64(2 << (bits % 64))
    return told


def nothing(vector, layout):
    return None


def test_a_gene_of_one_site_is_not_answered_for(lonely, lead):
    room = lead.room(lonely).open()
    assert room.census()["presence"][LONELY] == 1
    with pytest.raises(RefusalError, match="a gene that fewer sites have counts for"):
        ask(room)
    others = room.every
    others[LONELY] = False
    assert np.isfinite(room.total(LogCountsQuery(others))["log_counts"]).all()


def test_without_the_rule_its_sum_is_one_sites_own(lonely, lead, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_genes", lambda *_: None)
    room = lead.room(lonely).open()
    room.census()
    assert ask(room) == pytest.approx(own(lonely), abs=1e-9)


def test_a_census_that_lies_is_not_believed(lonely, lead):
    with pytest.raises(PeerError, match="not the sum of what was sent"):
        lead.room(lonely).open().census(tell=many_sites)


def test_where_totals_are_not_verified_the_lie_opens_one_sites_own(lonely, lead, monkeypatch):
    monkeypatch.setattr(Checks, "verify", lambda *_: None)
    room = lead.room(lonely).open()
    room.census(tell=many_sites)
    assert ask(room) == pytest.approx(own(lonely), abs=1e-9)


def one_that_cannot_send(room, monkeypatch):
    """One site can't send its part of a gene's presence, which is told as lost then."""
    honest = CensusQuery.summands

    def summands(query, samples, parties):
        told = honest(query, samples, parties)
        if samples.design is room.sites[OWNER]._samples.design:
            told["presence"][LONELY] = np.nan
        return told

    monkeypatch.setattr(CensusQuery, "summands", summands)


def test_a_gene_of_which_it_is_lost_how_many_sites_have_counts_is_not_answered_for(grounds, lead, monkeypatch):
    room = lead.room(grounds).open()
    one_that_cannot_send(room, monkeypatch)
    assert room.census()["presence"][LONELY] > 1e6
    with pytest.raises(RefusalError, match="a gene that fewer sites have counts for"):
        ask(room)


def test_the_twin_that_takes_the_sign_for_lost_as_a_number_of_sites_answers(lonely, lead, monkeypatch):
    monkeypatch.setattr(CensusQuery, "lost", lambda query, _: np.zeros(query.n_genes, dtype=bool))
    room = lead.room(lonely).open()
    one_that_cannot_send(room, monkeypatch)
    room.census()
    assert ask(room) == pytest.approx(own(lonely), abs=1e-9)


def test_who_does_not_tell_the_census_gets_no_answer(lonely, lead):
    room = lead.room(lonely).open()
    room.census(tell=nothing)
    with pytest.raises(MisuseError, match="the census comes first"):
        ask(room)


def test_who_never_asks_for_the_census_gets_no_answer(lonely, lead):
    room = lead.room(lonely).open()
    for question in (LogCountsQuery(room.every), PresenceQuery(room.every)):
        with pytest.raises(MisuseError, match="the census comes first"):
            room.total(question)
        with pytest.raises(MisuseError, match="the census comes first"):
            room.sites[OWNER].recall(question.to_bytes())


def test_where_sites_do_not_wait_for_the_census_skipping_it_opens_one_sites_own(lonely, lead, monkeypatch):
    monkeypatch.setattr(Guard, "check", lambda *_: None)
    room = lead.room(lonely).open()
    room.census(tell=nothing)
    assert ask(room) == pytest.approx(own(lonely), abs=1e-9)


def test_a_census_of_some_genes_is_refused(lonely, lead):
    room = lead.room(lonely).open()
    some = room.every
    some[LONELY] = False
    with pytest.raises(RefusalError, match="the census is of all genes"):
        room.total(CensusQuery(some, 2, 2))


def test_a_total_of_an_earlier_session_is_not_taken_for_the_census(lonely, lead):
    """`remind` is for sessions that go on: a site takes what it verified itself, and nothing else."""
    room = lead.room(lonely).open()
    census = CensusQuery(room.every, 2, 2)
    lie = census.arrays_to_bytes({name: np.full(shape, 4.0) for name, shape in census.shapes().items()})
    with pytest.raises(PeerError, match="did not verify"):
        room.sites[OWNER].remind(census.to_bytes(), lie, room.names, room.names)


def test_a_presence_told_for_genes_left_out_changes_nothing_but_by_counts(lonely, lead):
    room = lead.room(lonely).open()
    room.census()
    room.total(PresenceQuery(room.asked(LONELY)))
    with pytest.raises(RefusalError, match="a gene that fewer sites have counts for"):
        ask(room)


# Totals of before: replayed, or of other genes.


def replaced(grounds, lead):
    """A room whose sites have replaced counts in which one site alone counts a gene, the census told."""
    for name in grounds.names:

        def layer(adata, name=name):
            adata.layers["replaced"] = adata.X.copy()
            if name != OWNER:
                adata.layers["replaced"][:, LONELY] = 0

        grounds.edit(name, layer)
    grounds.rule('layers = ["X", "replaced"]')
    room = lead.room(grounds, preset="irls", refit_layer="replaced", refit_genes=("gene00007",)).open()
    room.census()
    return room


def presence(room, *, tell):
    """A presence that is asked for before counts are replaced; gives what to tell later."""
    kept = []
    room.total(PresenceQuery(room.asked(LONELY)), tell=lambda vector, layout: kept.append(vector) or tell)
    return pack_total(kept[0]), room.contexts[room.round - 1]


def test_after_counts_were_replaced_the_presence_of_before_does_not_hold(grounds, lead):
    room = replaced(grounds, lead)
    room.total(ReplaceCountsQuery(room.asked(LONELY)))
    with pytest.raises(RefusalError, match="a gene that fewer sites have counts for"):
        ask(room)
    assert room.total(PresenceQuery(room.asked(LONELY)))["presence"][0] == 1
    with pytest.raises(RefusalError, match="a gene that fewer sites have counts for"):
        ask(room)


def test_a_presence_of_before_is_not_taken_for_that_of_replaced_counts(grounds, lead):
    room = replaced(grounds, lead)
    told, context = presence(room, tell=None)
    room.total(ReplaceCountsQuery(room.asked(LONELY)))
    for site in room.sites.values():
        with pytest.raises(MisuseError, match="does not wait for"):
            site.hear(told, context.round, context.attempt, room.names)
    with pytest.raises(RefusalError):
        ask(room)


def test_where_the_presence_of_before_holds_one_sites_replaced_counts_are_opened(grounds, lead, monkeypatch):
    monkeypatch.setattr(guard_room, "ReplaceCountsQuery", type(None))
    room = replaced(grounds, lead)
    room.total(ReplaceCountsQuery(room.asked(LONELY)))
    assert ask(room) == pytest.approx(own(grounds), abs=1e-9)


def reordered(lead, room):
    """The lonely gene and its neighbour trade places."""
    genes = list(room.genes)
    genes[LONELY], genes[LONELY + 1] = genes[LONELY + 1], genes[LONELY]
    room.agreement = lead.replace(room.agreement, genes=tuple(genes), genes_digest=genes_digest(genes))
    return room.join().meet()


def reminded(lonely, lead):
    """A second session of one run, with the genes in another order, and the first one's census for it."""
    first = lead.room(lonely, genes="intersection").open()
    census = CensusQuery(first.every, 2, 2)
    arrays = first.census()
    second = reordered(lead, lead.room(lonely, genes="intersection").survey())
    for site in second.sites.values():
        site.recall(census.to_bytes())
        site.remind(census.to_bytes(), census.arrays_to_bytes(arrays), first.names, first.names)
    second.state = guard_room.chained(second.state, census.to_bytes())
    return second.total(LogCountsQuery(second.asked(LONELY + 1)))["log_counts"][0]


def test_a_census_of_genes_in_another_order_is_not_taken_for_this_one(lonely, lead):
    with pytest.raises(PeerError, match="did not verify"):
        reminded(lonely, lead)


def test_where_totals_are_remembered_by_the_runs_name_alone_one_sites_own_is_opened(lonely, lead, monkeypatch):
    monkeypatch.setattr(Guard, "_about", lambda guard: guard._agreement.run.encode())
    monkeypatch.setattr(guard_room, "start_digest", lambda *_: b"")
    assert reminded(lonely, lead) == pytest.approx(own(lonely), abs=1e-9)


ELSEWHERE = ("site4", "site5")
FEWER = ("site1", "site2", "site3")


def of_fewer_sites(lay, lead):
    """Logs of a gene's counts in a session of three sites that are told the census of five; and its owner's own.

    The sites allow a second fit, and three of the five have counts, but only one of the three.
    """
    grounds = lay(names=(*FEWER, *ELSEWHERE), samples=50).rule("max_fits = 2")
    for name in set(FEWER) - {OWNER}:
        grounds.edit(name, lambda adata: adata.X.__setitem__((slice(None), LONELY), 0))
    first = lead.room(grounds, trust_aggregator=False).open()
    fit = agreed_fit(first.config, first.agreement.design(first.config), first.genes)
    census = next(fit)
    past = Total(first.total(census), first.names, first.names)
    second, asked = lead.room(grounds, FEWER, trust_aggregator=False).open(), query_digest(census)
    for site in second.sites.values():
        site.recall(asked)
        site.remind(asked, census.arrays_to_bytes(past.arrays), past.parties, past.cohort)
    second.state = followed(guard_room.chained(second.state, census.to_bytes()), past)
    question = fit.send(past)
    assert question.genes[LONELY]
    place = question.genes[:LONELY].sum()
    return second.total(question, tell=nothing)["log_counts"][place], own(grounds)


def test_a_census_of_other_sites_is_not_taken_for_this_one(lay, lead):
    with pytest.raises(PeerError, match="did not verify"):
        of_fewer_sites(lay, lead)


def test_the_twin_that_takes_it_over_any_sites_opens_one_sites_own(lay, lead, monkeypatch):
    monkeypatch.setattr(Guard, "_is_over_these", lambda *_: True)
    monkeypatch.setattr(Guard, "_check_left", lambda *_: None)
    found, true = of_fewer_sites(lay, lead)
    assert found == pytest.approx(true, abs=1e-9)
