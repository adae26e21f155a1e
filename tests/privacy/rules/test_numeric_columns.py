"""What sums of numeric columns show: a mean and a variance of the pool, never before the census has passed.

An aggregator may name any centres and units. The twins are a guard that lets the question come first, and one that asks
for absolute deviations, from whose kinks every value of the pool follows.
"""

import numpy as np
import pytest

from protocols.secure_sum import MisuseError
from secirls.algorithms.groundwork.scaling import CovariatesQuery, CrossProductsQuery
from secirls.algorithms.query import QueryError
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.guarding.guard import Guard

OWNER = "site3"
AGES = {"site1": 50.0, "site2": 61.0, "site3": 44.0, "site4": 58.0}
COVARIATES = {"design": "~ condition + age"}


def annotate(grounds, column):
    for name in grounds.names:
        grounds.edit(name, lambda adata, name=name: adata.obs.__setitem__("age", column(name, adata.n_obs)))
    return grounds


def ages(name, samples):
    return AGES[name] + np.arange(samples) % 7 + 0.25


@pytest.fixture
def aged(grounds):
    return annotate(grounds, ages)


def lonely_column(name, samples):
    return np.arange(samples) + 20.0 if name == OWNER else np.zeros(samples)


def nobody(room):
    return np.zeros(len(room.genes), dtype=bool)


def ask(room, centre=0.0, unit=1.0):
    total = room.total(CovariatesQuery(nobody(room), np.array([centre]), np.array([unit])))
    return float(total["samples"][0]), float(total["values"][0]), float(total["squares"][0])


def pooled(grounds, column=ages):
    return np.concatenate([column(name, len(grounds.counts(name))) for name in grounds.names])


def test_nothing_of_a_numeric_column_is_answered_before_the_census(aged, lead):
    room = lead.room(aged, **COVARIATES).open()
    with pytest.raises(MisuseError, match="the census comes first"):
        ask(room)


def test_the_census_itself_holds_no_products_of_numeric_columns(aged, lead):
    room = lead.room(aged, **COVARIATES).open()
    assert not room.census()["xtx"].any()
    assert ask(room)[1] == pytest.approx(pooled(aged).sum(), rel=1e-15)


def test_a_column_of_one_site_is_refused_before_any_sum_of_it(grounds, lead):
    room = lead.room(annotate(grounds, lonely_column), **COVARIATES).open()
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(design column 'age': at fewer sites\)"):
        room.census()
    with pytest.raises((RefusalError, MisuseError)):
        ask(room)


def test_where_the_guard_lets_it_come_first_that_sites_sum_is_told(grounds, lead, monkeypatch):
    monkeypatch.setattr(Guard, "check", lambda *_: None)
    room = lead.room(annotate(grounds, lonely_column), **COVARIATES).open()
    assert ask(room)[1] == lonely_column(OWNER, len(grounds.counts(OWNER))).sum()


def test_the_stage_can_be_refused(aged, lead):
    aged.rule('refused_stages = ["covariates"]', "site2")
    room = lead.room(aged, **COVARIATES).open()
    room.census()
    with pytest.raises(RefusalError, match="question 'covariates'"):
        ask(room)


CENTRES = np.linspace(44.0, 70.0, 27)


def second_differences(values):
    """Of a function at evenly spaced centres: all the same for a parabola."""
    return np.diff(values, 2)


def test_from_whatever_centres_the_sums_are_a_mean_and_a_variance(aged, lead):
    room = lead.room(aged, **COVARIATES).open()
    room.census()
    n, first, second = ask(room)
    for centre, unit in [*((centre, 1.0) for centre in CENTRES), (3.0, 2.0**-9), (-1e6, 2.0**20)]:
        _, values, squares = ask(room, centre, unit)
        assert values == pytest.approx((first - n * centre) / unit, rel=1e-9)
        assert squares == pytest.approx((second - 2 * centre * first + n * centre**2) / unit**2, rel=1e-9)


def test_absolute_deviations_would_tell_every_age_of_the_pool(aged, lead, monkeypatch):
    def bent(query, samples, parties):
        z = samples.covariates.numbers - query.centres
        return {"samples": np.array([float(len(z))]), "values": z.sum(axis=0), "squares": np.abs(z).sum(axis=0)}

    monkeypatch.setattr(CovariatesQuery, "summands", bent)
    room = lead.room(aged, **COVARIATES).open()
    room.census()
    grid = np.arange(43.25, 70.25)
    kinks = second_differences([ask(room, centre)[2] for centre in grid]) / 2
    true = [(pooled(aged) == age).sum() for age in grid[1:-1]]
    assert np.array_equal(np.rint(kinks), true)
    assert sum(true) > 20


def test_a_parabola_has_no_kinks(aged, lead):
    room = lead.room(aged, **COVARIATES).open()
    room.census()
    bends = second_differences([ask(room, centre)[2] for centre in np.arange(43.25, 70.25)])
    np.testing.assert_allclose(bends, 2 * len(pooled(aged)), rtol=1e-9)


@pytest.mark.parametrize("kind", [CovariatesQuery, CrossProductsQuery])
@pytest.mark.parametrize(
    ("centres", "scales"),
    [([0.0, 0.0], [1.0, 1.0]), ([], []), ([0.0], [0.0]), ([0.0], [-1.0]), ([0.0], [1.0, 2.0])],
)
def test_questions_that_do_not_fit_the_design_are_refused(aged, lead, kind, centres, scales):
    room = lead.room(aged, **COVARIATES).open()
    room.census()
    places = np.array(centres), np.array(scales)
    query = (
        CovariatesQuery(nobody(room), *places)
        if kind is CovariatesQuery
        else CrossProductsQuery(nobody(room), 3, *places, np.zeros(len(centres)))
    )
    with pytest.raises(QueryError):
        room.total(query)


def test_a_design_that_a_site_scaled_otherwise_answers_another_question(aged, lead):
    """The scaled design is part of what a site remembers an answer for: the same question is not the same any more."""
    room = lead.room(aged, **COVARIATES).open()
    room.census()
    site = room.sites["site1"]
    held = []
    for scale in (1.0, 8.0, 1.0):
        query = CrossProductsQuery(nobody(room), 3, np.array([50.0]), np.array([scale]), np.zeros(1))
        room.total(query)
        held.append(site._guard._held.digest)
    assert held[0] != held[1]
    assert held[0] == held[2]


def test_the_policy_that_every_site_has_knows_the_stage():
    assert Policy(refused_stages=("covariates",))
