"""Principal components by a site's own rules: refused by default; directions are counted over all sessions.

Whoever asks for components of other genes again, and once more, has directions enough at last. The twin forgets between
sessions what was multiplied.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import secirls
from protocols.secure_sum import PeerError
from secirls.algorithms.components.component_queries import VstProductsQuery, VstSquaresQuery
from secirls.algorithms.query import QueryError
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.guarding import budget
from secirls.site.guarding.budget import Told
from secirls.site.guarding.guard import Guard
from secirls.site.guarding.policy_checks import PolicyChecks

SCALE = np.array([0.05, 2.0, 0.0]), np.zeros((3, 0)), np.zeros(0), 1.0
DEGREES = 36
"""Forty samples of four sites."""


def ordered(grounds, **options):
    """A fit with components; outliers, whose stages tell nothing along directions, are not looked for."""
    told = {"design": "~ condition", "engine": "local", "roster": grounds.told(), "cooks": False}
    told |= {"components": 1, "component_genes": 40, **options}
    return secirls.fit({name: grounds.place(name).source for name in grounds.names}, **told)


def in_sessions(grounds, genes):
    """Directions multiplied in a session for each number of genes."""
    return sum(ordered(grounds, component_genes=n).report["components"]["directions"] for n in genes)


def test_the_default_policy_refuses_them_before_anything_is_told(grounds):
    rounds = []
    with pytest.raises(RefusalError, match=r"its policy refuses: max_components is 0$"):
        ordered(grounds, on_round=rounds.append)
    assert not rounds
    assert ordered(grounds, components=0, preset="irls").loadings is None


def test_sites_that_allow_them_have_them_by_all_other_default_rules(exhausted):
    told = exhausted.first
    assert told["directions"] <= 0.2 * DEGREES
    assert told["samples_less_sites"] == DEGREES
    assert told["found"] == 1


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"components": 2}, "max_components is 1"),
        ({"sample_share": 0.6}, "max_sample_share is 0.5"),
        ({"directions_per_sample": 0.3}, "max_directions_per_sample is 0.2"),
    ],
)
def test_one_site_is_enough_to_refuse_more(grounds, asked, rule):
    grounds.rule("max_components = 9\nmax_sample_share = 1.0\nmax_directions_per_sample = 1.0", "site1", "site2")
    grounds.rule("max_components = 1", "site3", "site4")
    with pytest.raises(RefusalError) as refused:
        ordered(grounds, **asked)
    assert str(refused.value) == f"site 'site3': its policy refuses: {rule}"


def test_a_stage_by_name_can_be_refused_too(grounds):
    grounds.rule("max_components = 1").rule('refused_stages = ["components"]', "site2")
    with pytest.raises(RefusalError, match="site 'site2': its policy refuses: refused_stages is components"):
        ordered(grounds)


def directions(grounds, name="site1"):
    """What a site has noted."""
    (file,) = (grounds.folder / name / "memory").glob("*-told.npz")
    with np.load(file) as kept:
        return int(kept["directions"])


@pytest.fixture(scope="module")
def exhausted(tmp_path_factory, lead):
    """Grounds whose sites multiplied all directions that they may; what they told at first, and noted meanwhile."""
    grounds = lead.settle(tmp_path_factory.mktemp("exhausted") / "grounds").rule("max_components = 1")
    told, noted = [], []
    for _ in range(2):
        told.append(ordered(grounds).report["components"])
        noted.append(directions(grounds))
    with pytest.raises(RefusalError, match=r"max_directions_per_sample is 0\.2"):
        in_sessions(grounds, range(39, 20, -1))
    return SimpleNamespace(grounds=grounds, first=told[0], again=told[1], noted=[*noted, directions(grounds)])


def test_directions_are_counted_over_sessions_and_the_same_ones_once(exhausted):
    first, again = exhausted.first["directions"], exhausted.again["directions"]
    assert first == again > 0
    assert exhausted.noted[:2] == [first, first]
    assert exhausted.noted[2] <= 0.2 * DEGREES


def kinds_once_none_are_left(exhausted):
    """What is still told in a session of other genes."""
    rounds = []
    with pytest.raises(RefusalError, match=r"max_directions_per_sample is 0\.2"):
        ordered(exhausted.grounds, component_genes=17, on_round=rounds.append)
    return {told.kind for told in rounds}


def test_where_none_are_left_nothing_is_told_along_any(exhausted):
    assert "vst_gram" not in kinds_once_none_are_left(exhausted)


def test_the_twin_that_looks_at_products_alone_tells_some_along_others_in_every_session(exhausted, monkeypatch):
    monkeypatch.setattr("secirls.site.guarding.guard.VstGramQuery", type("Nothing", (), {}))
    assert "vst_gram" in kinds_once_none_are_left(exhausted)


def test_without_the_count_every_session_has_directions_of_its_own(grounds, monkeypatch):
    grounds.rule("max_components = 1")
    write = budget._write
    monkeypatch.setattr(budget, "_write", lambda file, told: write(file, Told(told.values, told.answered)))
    assert in_sessions(grounds, (40, 39, 38)) > 0.2 * DEGREES


def test_a_budget_of_before_there_were_directions_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(3, dtype=np.int64), answered=np.zeros((0, 2, 32), dtype=np.uint8))
    assert budget._read((tmp_path / "a.npz").read_bytes(), 3).directions == 0


@pytest.mark.parametrize("degrees", [None, 36.0])
def test_no_number_of_samples_is_no_leave(degrees):
    checks = PolicyChecks("a", Policy(max_components=1))
    checks.check_directions(0, degrees)
    with pytest.raises(RefusalError, match=r"max_directions_per_sample is 0\.2"):
        checks.check_directions(8, degrees)
    if degrees:
        checks.check_directions(7, degrees)


class TestOfAllSites:
    """Where fits may go on without a silent site, components may not: what samples there are is known of all alone."""

    @pytest.fixture
    def room(self, grounds, lead):
        grounds.rule('on_dropout = "continue"\nmax_components = 1')
        room = lead.room(grounds, on_dropout="continue", components=1).open()
        room.census()
        return room

    def test_they_are_not_asked_of_some(self, room):
        query = VstSquaresQuery(room.every, *SCALE)
        with pytest.raises(QueryError, match="is about all agreed sites, and asked for others"):
            room.sites["site1"].contribute(query.to_bytes(), room.round, 0, room.names[:3])

    def test_nor_opened_over_some(self, room):
        query = VstSquaresQuery(room.every, *SCALE)
        context = self.answered(room, query)
        with pytest.raises(PeerError, match="asks site1 to open a sum over other sites than were agreed"):
            room.sites["site1"]._guarded().opening(context, room.names[:3])

    @pytest.mark.usefixtures("at_any_question")
    def test_without_the_rule_they_are(self, room, monkeypatch):
        def admit(self, asked, question, _):
            name = self._held.name(asked, question)
            self._contributors[name] = np.inf
            return name

        monkeypatch.setattr(Guard, "admit", admit)
        monkeypatch.setattr("secirls.site.guarding.guard.VstQuery", VstProductsQuery)
        context = self.answered(room, VstSquaresQuery(room.every, *SCALE))
        room.sites["site1"]._guarded().opening(context, room.names[:3])

    def answered(self, room, query):
        """The context of an answer by one site, which has size factors that nobody gave it."""
        site = room.sites["site1"]
        site._samples = replace(site._samples, size_factors=np.ones(site._samples.n_samples))
        site.contribute(query.to_bytes(), room.round, 0, room.names)
        return site._contexts[room.round, 0][0]
