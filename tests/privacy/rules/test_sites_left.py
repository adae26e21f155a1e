"""Where a fit goes on without sites that fell silent, the census's rules hold over those who are left.

An aggregator may call sites silent that are not (``on_dropout = "continue"``): a gene that three of six sites count, or
a level that three hold, would come down to one site's own.
"""

import numpy as np
import pytest

from protocols.secure_sum import PeerError
from protocols.totals import pack_total
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.empty import DropEmptyQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.query import Total
from secirls.inputs.designs.design import Design, Variable
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.guard import Guard
from secirls.site.guarding.heard_census import HeardCensus

pytestmark = pytest.mark.usefixtures("at_any_question")
SIX = tuple(f"site{number}" for number in range(1, 7))
GENE, COUNTED_AT = 7, ("site1", "site2", "site3")
LEFT = ("site3", "site4", "site5", "site6")
"""Of the sites that count the gene, one."""
GOES_ON = 'on_dropout = "continue"'


@pytest.fixture
def rare(lay):
    """Six sites that go on when others fall silent; three of them count one gene."""
    grounds = lay("six", SIX, samples=60)
    for name in set(SIX) - set(COUNTED_AT):
        grounds.edit(name, lambda adata: adata.X.__setitem__((slice(None), GENE), 0))
    return grounds.rule(GOES_ON)


def opened(lead, grounds):
    room = lead.room(grounds, on_dropout="continue", threshold=4).open()
    room.census()
    return room


def log_counts(grounds, name):
    return np.log(np.maximum(grounds.counts(name)[:, GENE], 1)).sum()


def asked_of_fewer(room):
    return room.total(LogCountsQuery(room.asked(GENE)), LEFT)["log_counts"][0]


def opened_over_fewer(room):
    layout, context, sent = room.payloads(LogCountsQuery(room.asked(GENE)))
    total = room.add_up({name: sent[name] for name in LEFT}, context)
    return layout.decode(total.vector[: layout.values], len(total.parties))["log_counts"][0]


@pytest.mark.parametrize("ask", [asked_of_fewer, opened_over_fewer])
def test_a_gene_that_too_few_of_those_left_may_count_is_not_answered_for(rare, lead, ask):
    room = opened(lead, rare)
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(a gene that fewer of the sites left may have"):
        ask(room)


@pytest.mark.parametrize("ask", [asked_of_fewer, opened_over_fewer])
def test_without_that_its_sum_is_one_sites_own(rare, lead, monkeypatch, ask):
    monkeypatch.setattr(Guard, "_check_left", lambda *_: None)
    assert ask(opened(lead, rare)) == pytest.approx(log_counts(rare, "site3"), abs=1e-9)


def test_genes_that_enough_of_them_count_are_summed_on(rare, lead):
    room = opened(lead, rare)
    told = room.total(LogCountsQuery(room.asked(3, 4)), SIX[1:])["log_counts"]
    counts = np.concatenate([rare.counts(name)[:, 3:5] for name in SIX[1:]])
    assert told == pytest.approx(np.log(np.maximum(counts, 1)).sum(axis=0), abs=1e-9)


@pytest.fixture
def level(lay):
    """Six sites that go on; treated samples are at three of them."""
    grounds = lay("six", SIX, samples=60)
    for name in set(SIX) - set(COUNTED_AT):
        grounds.edit(name, lambda adata: adata.obs.__setitem__("condition", "control"))
    return grounds.rule(GOES_ON)


def treated_sums(room, cohort):
    """Sums of y / s over treated samples of two genes, as an honest fit opens them, and what one site's own are."""
    some = room.asked(3, 4)
    means = room.total(LogCountsQuery(some))["log_counts"] / 60
    told = room.total(NormalisedQuery(some, means, np.ones(2, dtype=bool), 2), cohort)["xt_normalised"][:, 1]
    samples = room.sites["site3"]._samples
    own = (np.asarray(samples.counts)[:, 3:5] / samples.size_factors[:, None])[samples.design[:, 1] > 0].sum(axis=0)
    return told, own


def test_a_level_that_too_few_of_those_left_hold_ends_the_answers(level, lead):
    room = opened(lead, level)
    assert room.total(LogCountsQuery(room.asked(3)), SIX[:5])["log_counts"].size == 1
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(level condition=treated.*: at fewer sites\)"):
        room.total(LogCountsQuery(room.asked(4)), SIX[1:5])


def test_without_that_the_columns_samples_are_one_sites_own(level, lead, monkeypatch):
    monkeypatch.setattr(Guard, "_check_left", lambda *_: None)
    told, own = treated_sums(opened(lead, level), LEFT)
    assert told == pytest.approx(own, rel=1e-12)


# --- what is left of a census


def of_sites(rng, sites):
    """Random sites' levels, and which genes, columns and combinations each really has: fewer than its levels allow."""
    levels = {"a": ("x", "y", "z"), "b": ("k", "l")}
    said = {
        site: {
            factor: Variable(numeric=False, levels=tuple(rng.permutation(all_)[: rng.integers(1, len(all_) + 1)]))
            for factor, all_ in levels.items()
        }
        for site in sites
    }
    said[sites[0]] = {factor: Variable(numeric=False, levels=all_) for factor, all_ in levels.items()}
    design = Design.agree("~ a * b", {factor: list(all_) for factor, all_ in levels.items()}, said)
    has = {}
    for site in sites:
        rows = design.possible_rows({site: said[site]})[site]
        rows = rows[rng.random(len(rows)) < 0.6]
        groups = design.coding.rows_at(design.groups, design.shared)
        has[site] = (
            rng.random(20) < 0.5,
            (rows != 0).any(axis=0),
            np.array([bool((rows == group).all(axis=1).any()) for group in groups]),
        )
    return design, said, has


def heard(has, said, sites):
    presence, columns, groups = (np.sum([has[site][part] for site in sites], axis=0, dtype=float) for part in range(3))
    census = HeardCensus({"presence": presence, "column_sites": columns, "group_sites": groups}, sites, said)
    census.take_presence(np.ones(presence.size, dtype=bool), presence, sites)
    return census


@pytest.mark.parametrize("seed", range(20))
def test_it_says_of_those_left_what_is_there_or_less_and_never_that_nobody_is(seed):
    rng = np.random.default_rng(seed)
    design, said, has = of_sites(rng, SIX)
    census = heard(has, said, SIX)
    left = tuple(site for site in SIX if rng.random() < 0.7) or SIX[:1]
    truth = heard(has, said, left)
    told, there = census.among(left, design), truth.among(left, design)
    pairs = [(told[name], there[name]) for name in ("column_sites", "group_sites")]
    for said_of_them, real in [*pairs, (census.presence(left), truth.presence(left))]:
        assert (said_of_them[real > 0] <= real[real > 0]).all()
        assert (said_of_them[real > 0] > 0).all()
    whole = census.among(SIX, design)
    assert np.array_equal(whole["column_sites"], census.column_sites)


def test_presence_that_was_asked_for_anew_counts_who_fell_silent_since():
    census = HeardCensus({"presence": np.zeros(2), "column_sites": np.ones(1), "group_sites": np.ones(1)}, SIX, {})
    every, first = np.ones(2, dtype=bool), np.array([True, False])
    census.take_presence(every, np.array([6.0, 6.0]), SIX)
    census.take_presence(first, np.array([4.0]), SIX[:5])
    assert census.presence(SIX[:5]).tolist() == [4.0, 5.0]
    assert census.presence(SIX[:4]).tolist() == [3.0, 4.0]
    assert census.presence(()).tolist() == [1.0, 1.0]
    census.forget_presence(every)
    assert census.presence(SIX).tolist() == [0.0, 0.0]


def test_of_a_site_that_is_not_in_the_session_any_more_everything_is_possible():
    design = Design.agree("~ a", {}, {name: {"a": Variable(numeric=False, levels=("x", "y"))} for name in SIX[:5]})
    said = {name: {"a": Variable(numeric=False, levels=("x",))} for name in SIX[:5]}
    sums = {"presence": np.zeros(1), "column_sites": np.array([6.0, 4.0]), "group_sites": np.array([6.0, 4.0])}
    assert HeardCensus(sums, SIX, said).among(SIX[:5], design)["column_sites"].tolist() == [5.0, 3.0]
    assert HeardCensus(sums, SIX, said).among(SIX[1:], design)["column_sites"].tolist() == [5.0, 4.0]


def test_a_total_over_fewer_is_the_census_of_those(rare, lead, monkeypatch):
    room = lead.room(rare, on_dropout="continue", threshold=4).open()
    room.census()
    guard = room.sites["site3"]._guard
    kept = guard._census
    total = Total({**kept._sums, "presence": kept._presence}, LEFT, SIX)
    query = CensusQuery(room.every, 2, 2)
    monkeypatch.setattr(CensusQuery, "xtx_of", lambda *_: np.eye(2) * 60)
    guard.hear(query, total, verified=True)
    assert guard._census.parties == LEFT


def test_the_rules_over_those_left_are_about_a_design_without_its_empty_columns(rare, lead):
    levels = {"condition": ("control", "treated", "nobody's")}
    room = lead.room(rare, on_dropout="continue", threshold=4, levels=levels, drop_empty=True).open()
    kept = room.census()["column_sites"] > 0
    assert kept.tolist() == [True, True, False]
    assert room.total(DropEmptyQuery(~room.every, kept))["sites"] == len(SIX)
    some = room.every
    some[GENE] = False
    assert np.isfinite(room.total(LogCountsQuery(some), LEFT)["log_counts"]).all()


def test_once_asked_over_fewer_a_site_opens_no_sum_of_before_over_more(rare, lead):
    room = opened(lead, rare)
    some, others = room.every, room.every
    some[GENE] = others[: GENE + 1] = False
    _, context, sent = room.payloads(LogCountsQuery(some))
    assert np.isfinite(room.total(LogCountsQuery(others), LEFT)["log_counts"]).all()
    with pytest.raises(PeerError, match=f"asks {LEFT[0]} to open a sum over sites that it did not answer for"):
        room.add_up(sent, context)


def test_a_site_takes_no_total_that_it_has_no_part_in(lay, lead):
    """Where nobody helps to open sums, nothing but the total says over whom one is."""
    grounds = lay().rule(GOES_ON).rule('protocols = ["plain"]')
    room = lead.room(grounds, on_dropout="continue", protocol="plain", threshold=3).open()
    design = room.agreement.design(room.config)
    _, context, sent = room.payloads(CensusQuery(room.every, len(design.columns), len(design.groups)))
    left_out, *others = room.names
    opened = room.add_up({name: sent[name] for name in others}, context)
    told = pack_total(opened.vector), context.round, context.attempt, opened.parties
    with pytest.raises(PeerError, match=f"tells {left_out} a total over other sites than it answered with"):
        room.sites[left_out].hear(*told)
    room.sites[others[0]].hear(*told)
