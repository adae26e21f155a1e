"""What a site refuses of a fit: stages that its rules name, and cells that would tell who has which covariates.

Cells are rows of zeros and ones, and so is a numeric column of smokers. A site takes those that the levels of factors
allow, all of them, and none where a variable is numeric. The twin counts the samples of any rows it is asked about.
"""

import numpy as np
import pytest

import secirls
from secirls.algorithms import whole_fit  # noqa: F401 - with it every kind of question is known
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.information import CellTransformsQuery
from secirls.algorithms.outliers.bracketing import VarianceQuery
from secirls.algorithms.outliers.cells import CellCountsQuery, CellsQuery, OfCells
from secirls.algorithms.outliers.cooks import OutliersQuery
from secirls.algorithms.outliers.outlier_replacement import ReplaceOutliersQuery
from secirls.algorithms.outliers.robust_dispersion import CellsAboveQuery
from secirls.algorithms.outliers.selection import BelowQuery, BetweenQuery
from secirls.algorithms.query import Query, QueryError
from secirls.input_error import InputError
from secirls.site.grounds.policy import RefusalError
from secirls.site.grounds.stages import STAGES
from secirls.site.guarding.guard import Guard
from secirls.site.guarding.policy_checks import PolicyChecks

SMOKER = "~ condition + smoker"


def with_smokers(grounds):
    for number, name in enumerate(grounds.names):
        grounds.edit(
            name,
            lambda adata, number=number: adata.obs.insert(0, "smoker", [0.0, 1.0, 1.0, 0.0, float(number > 1)] * 2),
        )
    return grounds


def begun(room):
    """Up to where size factors and dispersions are at the sites."""
    samples = room.census()["samples"][0]
    means = room.total(LogCountsQuery(room.every))
    usable = means["zeros"] == 0
    logs = np.where(usable, means["log_counts"] / samples, 0.0)
    room.total(NormalisedQuery(room.every, logs, usable, len(room.agreement.design(room.config).columns)))
    room.total(AdoptDispersionsQuery(room.every, np.full(len(room.genes), 0.1)))
    return room


def all_rows(params):
    """Every row of zeros and ones with an intercept."""
    return np.array([[1.0, *map(float, np.binary_repr(n, params - 1))] for n in range(2 ** (params - 1))])


def asks(rows, every, ones):
    """One question of each kind that names cells."""
    genes, params = int(every.sum()), rows.shape[1]
    first, beta = np.array([0.0]), np.zeros((genes, params))
    none = np.zeros(0)
    distance = (every, beta, beta, np.zeros((genes, params * (params + 1) // 2)), ones, 4.0, 1e-6, 0.5, none, none)
    return [
        CellsQuery(every, rows),
        CellTransformsQuery(every, rows),
        BelowQuery(every, rows, first, first, np.zeros(0), np.ones((1, 1))),
        BetweenQuery(every, rows, first, first, np.zeros(0), first, first + 1, first + 1),
        CellsAboveQuery(every, rows, np.zeros(len(rows), dtype=bool), np.ones((genes, 1))),
        VarianceQuery(*distance, ones, rows, np.zeros(len(rows), dtype=bool), np.ones((genes, 1))),
        OutliersQuery(*distance, rows, np.full(len(rows), 9.0)),
        ReplaceOutliersQuery(*distance, ones, rows, np.full(len(rows), 9.0)),
    ]


def answers(room, query):
    return room.sites["site1"].contribute(query.to_bytes(), room.round, 0, room.names)


@pytest.fixture
def smokers(grounds, lead):
    return lambda: begun(lead.room(with_smokers(grounds), design=SMOKER, min_contributors=3).open())


def test_no_kind_that_names_cells_is_answered_where_a_variable_is_numeric(smokers):
    room = smokers()
    asked = asks(all_rows(3), room.every, np.ones(len(room.genes)))
    assert {type(query) for query in asked} == {kind for kind in Query.known.values() if issubclass(kind, OfCells)}
    for query in asked:
        with pytest.raises(QueryError, match=f"{query.kind}.*the numeric variable 'smoker', whose cells are single"):
            answers(room, query)
    assert room.total(CellCountsQuery(room.asked()))["cell_counts"].shape == (2,)


def test_without_the_rule_smokers_are_counted_by_condition(smokers, monkeypatch):
    monkeypatch.setattr(Guard, "_check_cells", lambda *_: None)
    room = smokers()
    total = room.total(CellsQuery(room.asked(), all_rows(3)))
    designs = np.concatenate([site._samples.design for site in room.sites.values()])
    own = [(designs == row).all(axis=1).sum() for row in all_rows(3)]
    assert np.array_equal(total["cell_samples"], own)
    for query in asks(all_rows(3), room.every, np.ones(len(room.genes))):
        room.payloads(query)


@pytest.mark.parametrize("rows", [[[1.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
def test_cells_are_all_that_the_levels_allow_in_their_order(grounds, lead, rows):
    room = begun(lead.room(grounds).open())
    for query in asks(np.array(rows), room.every, np.ones(len(room.genes))):
        with pytest.raises(QueryError, match=f"{query.kind}.*other cells than the levels of the design allow"):
            answers(room, query)
    assert room.total(CellsQuery(room.asked(), np.array([[1.0, 0.0], [1.0, 1.0]])))["cell_samples"].sum() == 40


def test_without_the_rule_an_error_says_whether_a_site_has_samples_elsewhere(grounds, lead, monkeypatch):
    """A site that has any says in clear that they are in no cell: one bit, outside any sum."""
    monkeypatch.setattr(Guard, "_check_cells", lambda *_: None)
    room = begun(lead.room(grounds).open())
    with pytest.raises(QueryError, match="a sample at this site is in no cell"):
        answers(room, CellsQuery(room.asked(), np.array([[1.0, 1.0]])))


def three_factors(grounds):
    grounds.rule("min_total_samples_per_cell = 1\nmin_samples_per_level = 1")
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.insert(0, "batch", list("uuvvu") * 2))
        grounds.edit(name, lambda adata: adata.obs.insert(0, "day", list("xyxyx") * 2))
    return grounds


@pytest.fixture
def three(grounds, lead):
    room = begun(lead.room(three_factors(grounds), design="~ condition + batch + day").open())
    return room, room.agreement.design(room.config).cells()


def test_size_factors_of_cells_are_told_where_xwx_tells_them_and_nowhere_else(three, grounds, lead):
    """Eight cells of three factors have seven products: X'WX leaves one sum over cells open."""
    room, rows = three
    assert len(rows) == 8
    with pytest.raises(QueryError, match="sums over cells would tell more than X'WX does"):
        answers(room, CellTransformsQuery(room.asked(), rows))
    room = begun(lead.room(grounds, design="~ condition + batch").open())
    rows = room.agreement.design(room.config).cells()
    assert room.total(CellTransformsQuery(room.asked(), rows))["spread"].sum() == 40


def test_the_twin_that_answers_for_three_factors_tells_what_xwx_does_not(three, monkeypatch):
    room, rows = three
    monkeypatch.setattr(CellTransformsQuery, "check", lambda *_: None)
    told = room.total(CellTransformsQuery(room.asked(), rows))["transforms"]
    odd = np.array([(-1.0) ** row[1:].sum() for row in rows])
    assert np.abs(odd @ told).max() > 0.1


def test_dispersions_are_told_where_they_were_brought(grounds, lead):
    room = lead.room(grounds).open()
    room.census()
    rows = room.agreement.design(room.config).cells()
    with pytest.raises(QueryError, match="this site has no size factors yet"):
        answers(room, CellTransformsQuery(room.asked(), rows))
    room = begun(lead.room(grounds).open())
    total = room.total(CellTransformsQuery(room.every, rows))
    assert np.allclose(total["dispersions"], 0.1 * len(room.names) * 2**16)


# Stages by name.


def test_every_kind_but_the_census_is_of_one_stage():
    kinds = [kind for kinds in STAGES.values() for kind in kinds]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == {kind for kind, cls in Query.known.items() if cls.__module__.startswith("secirls.")} - {
        "census"
    }


def ordered(grounds, **options):
    told = {"design": "~ condition", "engine": "local", "roster": grounds.told(), **options}
    return secirls.fit({name: grounds.place(name).source for name in grounds.names}, **told)


def test_a_stage_that_one_site_refuses_ends_the_fit_with_its_name(grounds):
    grounds.rule('refused_stages = ["profile", "catch"]', "site3")
    with pytest.raises(RefusalError) as refused:
        ordered(grounds)
    assert str(refused.value) == (
        "site 'site3': its policy refuses: refused_stages is profile, catch (question 'profile')"
    )


def test_a_fit_without_that_stage_is_made(grounds):
    result = ordered(grounds.rule('refused_stages = ["profile", "outliers", "refit"]'), preset="irls")
    assert "profile" not in {stage["stage"] for stage in result.report["stages"]}


def test_a_policy_that_does_not_look_answers_it(grounds, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_question", lambda *_: None)
    result = ordered(grounds.rule('refused_stages = ["profile"]'), cooks=False)
    assert "profile" in {stage["stage"] for stage in result.report["stages"]}


SHRUNKEN = {"preset": "irls", "shrink": "condition[T.treated]"}


def test_shrinkage_alone_can_be_refused_before_anything_is_told(grounds):
    grounds.rule('refused_stages = ["shrinkage"]', "site3")
    rounds = []
    with pytest.raises(RefusalError) as refused:
        ordered(grounds, **SHRUNKEN, on_round=rounds.append)
    assert str(refused.value) == (
        "site 'site3': its policy refuses: refused_stages is shrinkage (shrink = 'condition[T.treated]')"
    )
    assert not rounds
    told = ordered(grounds, preset="irls").report["stages"]
    assert "coefficients" in {stage["stage"] for stage in told}, "the same questions, asked for by a fit without it"


def test_a_policy_that_does_not_look_at_the_configuration_answers_shrinkage(grounds, monkeypatch):
    """The twin that knows stages by their questions alone."""
    grounds.rule('refused_stages = ["shrinkage"]', "site3")
    monkeypatch.setattr(PolicyChecks, "check_config", lambda *_: None)
    told = ordered(grounds, **SHRUNKEN).report["stages"]
    assert "shrinkage" in {stage["stage"] for stage in told}


def test_a_stage_that_is_none_ends_in_a_sentence(grounds, lead):
    grounds.rule('refused_stages = ["gossip"]')
    with pytest.raises(InputError, match="refused_stages: there is no stage 'gossip' that can be refused, choose of"):
        lead.room(grounds).survey()
