"""A combination of design columns that is nothing at all sites but one publishes that site's sums: the site refuses.

Levels tell of columns and cells of factors (`test_lonely_columns`). What numbers a column has nobody tells, so each
site holds its own rows against the verified X'X of all. Nobody deviates in the twin: one sample of the owner's has
another number than all samples of all others, and its counts follow from an honest fit, up to its size factor.
"""

import numpy as np
import pytest

import secirls
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record
from secirls.algorithms.groundwork.scaling import CrossProductsQuery
from secirls.carriers.local import LocalFederation
from secirls.inputs.designs.ranks import largest_share
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks
from tests.privacy.conftest import read

OWNER = "site3"
USUAL, UNUSUAL = 24.0, 72.0
AT = 2
"""Which sample of the owner's."""
DESIGN = "~ condition + hours"


def with_hours(grounds, hours):
    """Give every site a column of numbers: ``hours(name, samples)``."""
    for name in grounds.names:
        grounds.edit(name, lambda adata, name=name: adata.obs.__setitem__("hours", hours(name, adata.n_obs)))
    return grounds


def one_sample_differs(name, samples):
    hours = np.full(samples, USUAL)
    hours[AT] += (name == OWNER) * (UNUSUAL - USUAL)
    return hours


def one_site_differs(name, samples):
    return USUAL + (name == OWNER) * 24.0 * (np.arange(samples) % 3)


def one_site_differs_but_for_noise(name, samples):
    return one_site_differs(name, samples) + np.linspace(0, 0.5, samples)


def one_site_has_another_unit(name, samples):
    return np.linspace(20, 70, samples) * (365 if name == OWNER else 1)


def two_numbers_at_all(name, samples):
    return np.where(np.arange(samples) % 3 == 0, USUAL, UNUSUAL)


def ordered(grounds, **options):
    told = {"design": DESIGN, "engine": "local", "kernel": "numpy", "preset": "irls", "roster": grounds.told()}
    return secirls.fit({name: grounds.place(name).source for name in grounds.names}, **told | options)


@pytest.mark.parametrize("hours", [one_sample_differs, one_site_differs, one_site_differs_but_for_noise])
def test_a_column_that_differs_at_one_site_alone_is_refused_by_that_site(grounds, hours):
    rounds = []
    with pytest.raises(RefusalError) as refused:
        ordered(with_hours(grounds, hours), on_round=rounds.append)
    assert str(refused.value) == (
        "site 'site3': its policy refuses: max_design_share is 0.99 (design column 'hours': it varies at this site "
        "alone, or nearly)"
    )
    assert {told.kind for told in rounds} == {"census", "covariates"}, "no other column was in any sum with it"


def only_together(name, samples):
    """What varies at the owner's alone is the difference to the batch, a column of numbers itself."""
    return np.arange(samples) % 3 + one_sample_differs(name, samples) / UNUSUAL


def test_what_differs_beside_another_column_alone_is_refused_once_x_x_is_known(grounds):
    rounds = []
    with_hours(grounds, only_together)
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("run", np.arange(adata.n_obs) % 3.0))
    with pytest.raises(RefusalError, match=r"max_design_share is 0\.99 .*: together at this site alone, or nearly"):
        ordered(grounds, design="~ condition + hours + run", on_round=rounds.append)
    assert {told.kind for told in rounds} <= {"census", "covariates", "cross_products"}, "no count was in any sum"


PLAIN = "~ condition + hours + age", "hours", "Intercept"
"""A design, a column of it with the numbers, and the same without them."""
IN_A_PRODUCT = "~ condition + age + age:hours", "age:hours", "age"


def patient_of(grounds, lead, monkeypatch, how=PLAIN):
    """Label and age of the sample that differs, by the X'X of a fit that is then refused; and what they are."""
    design, held, without = how
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("age", np.linspace(31.0, 80.0, adata.n_obs).round()))
    told = []

    def opening(asked, total, whole=CrossProductsQuery.xtx_of):
        told.append((asked, whole(asked, total)))
        return told[-1][1]

    monkeypatch.setattr(CrossProductsQuery, "xtx_of", opening)
    with pytest.raises(RefusalError, match=r"site 'site3': .*max_design_share is 0\.99"):
        honest_sums(with_hours(grounds, one_sample_differs), lead, design=design)
    obs = read(grounds.data[OWNER].read_bytes()).obs.iloc[AT]
    if not told:
        return None, obs
    agreed = lead.room(grounds, design=design).survey().agreement.design(lead.config(grounds, design=design))
    (asked, table), columns, numbers = told[0], list(agreed.columns), [factor.expr for factor in agreed.features]
    hours, age = numbers.index("hours"), numbers.index("age")
    usual = (USUAL - asked.centres[hours]) / asked.scales[hours]
    alone = table[columns.index(held)] - usual * table[columns.index(without)]
    found = alone[columns.index("age")] / alone[0] * asked.scales[age] + asked.centres[age]
    return (alone[columns.index("condition[T.treated]")] / alone[0], found), obs


@pytest.mark.parametrize("how", [PLAIN, IN_A_PRODUCT])
def test_the_twin_that_waits_for_x_x_tells_a_patients_label_and_age(grounds, lead, monkeypatch, how):
    monkeypatch.setattr(PolicyChecks, "check_numbers", lambda *_: None)
    (treated, age), obs = patient_of(grounds, lead, monkeypatch, how)
    assert (round(treated, 6), round(age, 6)) == (float(obs["condition"] == "treated"), obs["age"])


@pytest.mark.parametrize("how", [PLAIN, IN_A_PRODUCT])
def test_no_x_x_is_opened_of_a_column_that_differs_at_one_site_alone(grounds, lead, monkeypatch, how):
    assert patient_of(grounds, lead, monkeypatch, how)[0] is None


def test_a_site_whose_numbers_outweigh_all_others_refuses_too(grounds):
    with pytest.raises(RefusalError, match=r"site 'site3': .*max_design_share"):
        ordered(with_hours(grounds, one_site_has_another_unit))


def test_numbers_that_several_sites_have_are_fitted(grounds):
    assert np.isfinite(ordered(with_hours(grounds, two_numbers_at_all)).table["pvalue"]).any()


def test_beside_an_intercept_of_its_own_a_constant_adds_nothing_and_the_census_refuses(grounds):
    for name in grounds.names:
        grounds.edit(name, lambda adata, name=name: adata.obs.insert(0, "site", name))
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(design column 'hours': at fewer sites\)"):
        ordered(with_hours(grounds, one_site_differs), design="~ site + condition + hours")


@pytest.mark.parametrize("rounds", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_fit_with_numbers_goes_on_under_the_rule(grounds, lead, rounds):
    """Totals of the past are held against the design that each was about: plain, or scaled."""
    config = lead.config(with_hours(grounds, two_numbers_at_all), design=DESIGN, preset="irls")

    def events(past=None):
        sites = lead.sites(grounds, config)
        return lead_fit(Task(config, "fit-1", past), LocalFederation(sites))

    begun, records = None, []
    for event in events():
        begun = event if isinstance(event, Begun) else begun
        records += [event] if isinstance(event, Record) else []
        if len(records) == rounds:
            break
    *_, outcome = events(Past(begun, tuple(records)))
    assert len(outcome.rounds) > rounds


def honest_sums(grounds, lead, design=DESIGN):
    """X'(y / s) of an honest fit in lock-step, by column on the user's scale, ``(params, genes)``, and its columns."""
    config = lead.config(grounds, design=design, preset="irls")
    sites = lead.sites(grounds, config)
    *events, outcome = lead_fit(Task(config, "fit-1"), LocalFederation(sites))
    (opened,) = (event.arrays for event in events if isinstance(event, Record) and event.told.kind == "normalised")
    return opened["xt_normalised"] @ outcome.fitted.scaled.from_user, outcome.design.columns, sites


@pytest.mark.parametrize("rule", [pytest.param("published", marks=pytest.mark.slow), "taken out"])
def test_without_the_rule_one_samples_counts_follow_from_an_honest_fit(grounds, lead, monkeypatch, rule):
    with_hours(grounds, one_sample_differs)
    if rule == "taken out":
        monkeypatch.setattr(PolicyChecks, "check_numbers", lambda *_: None)
        monkeypatch.setattr(PolicyChecks, "check_share", lambda *_: None)
        monkeypatch.setattr(PolicyChecks, "check_sizes", lambda *_: None)
        monkeypatch.setattr(PolicyChecks, "check_leverage", lambda *_: None)
    else:
        grounds.rule('lonely = "publish"')
    sums, columns, sites = honest_sums(grounds, lead)
    hours, all_samples = sums[:, columns.index("hours")], sums[:, columns.index("Intercept")]
    own = sites[OWNER]._samples
    found = (hours - USUAL * all_samples) / (UNUSUAL - USUAL)
    np.testing.assert_allclose(found, own.counts[AT] / own.size_factors[AT], rtol=1e-6, atol=1e-6)


# The share.


def xtx(rows):
    return rows.T @ rows


def test_a_share_is_the_largest_part_along_any_combination():
    generator = np.random.default_rng(3)
    mine, others = generator.normal(size=(6, 3)), generator.normal(size=(20, 3))
    some, every = xtx(mine), xtx(mine) + xtx(others)
    share, columns = largest_share(some, every)
    assert columns == [0, 1, 2]
    directions = generator.normal(size=(3, 200_000))
    parts = ((some @ directions) * directions).sum(axis=0) / ((every @ directions) * directions).sum(axis=0)
    assert parts.max() <= share * (1 + 1e-12)
    assert parts.max() == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_it_is_one_where_a_combination_is_nothing_elsewhere_whatever_the_units(scale):
    mine = np.array([[1.0, 0.0, 24.0], [1.0, 1.0, 72.0]])
    others = np.array([[1.0, 0.0, 24.0], [1.0, 1.0, 24.0]])
    units = np.array([1.0, 1.0, scale])
    share, columns = largest_share(xtx(mine * units), xtx(mine * units) + xtx(others * units))
    assert share == pytest.approx(1.0, abs=1e-9)
    assert 2 in columns


def test_columns_that_nobody_is_in_and_such_as_depend_count_for_nothing():
    rows = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    share, columns = largest_share(xtx(rows), 4 * xtx(rows))
    assert share == pytest.approx(0.25)
    assert 3 not in columns
    assert largest_share(np.zeros((2, 2)), np.zeros((2, 2))) == (0.0, [])


@pytest.mark.parametrize(("mine", "others"), [(np.inf, 1.0), (np.nan, 1.0), (1.0, -1.0), (1.0, np.inf)])
def test_numbers_that_were_too_large_to_be_added_have_no_share_and_no_fault(mine, others):
    assert largest_share(np.full((2, 2), mine), np.full((2, 2), others)) == (0.0, [])
