"""Two honest fits whose columns differ in one sample, stopped before counts are summed: its other columns are theirs.

The census and X'X are opened first. Of two fits in which one sample has another label, or another size factor that is
brought along, the difference of either is about that sample alone, however the fits go on. So sites hold columns
against those of earlier fits before the first answer, not only before counts are summed. The twin waits until then.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.algorithms.groundwork import scaling
from secirls.carriers.local import LocalFederation
from secirls.numerics.algebra.solve import unpack
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.guard import Guard

NAMES = ("site1", "site2", "site3")
OWNER = "site3"
SAMPLE = 4
REFUSED = r"site 'site3': its policy refuses: min_difference is 5 \(design columns or size factors, but for a few"


@pytest.fixture
def grounds(lay):
    """Labels, ages and size factors; beside them labels and size factors in which one sample of the owner's differs."""
    grounds = lay(names=NAMES, samples=60, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            drawn = np.random.default_rng(ord(name[-1]))
            adata.obs["age"] = drawn.integers(20, 90, adata.n_obs).astype(float)
            adata.obs["smoker"] = np.where(np.arange(adata.n_obs) // 2 % 2 == 0, "no", "yes")
            labels = np.where(np.arange(adata.n_obs) % 2 == 0, "treated", "control")
            sizes = np.linspace(0.5, 2.0, adata.n_obs)
            adata.obs["given"], adata.obs["size"] = labels.copy(), sizes.copy()
            if name == OWNER:
                labels[SAMPLE], sizes[SAMPLE] = "control", 3.0
            adata.obs["corrected"], adata.obs["revised"] = labels, sizes
            if name == OWNER:
                grounds.patient = adata.obs.iloc[SAMPLE]

        grounds.edit(name, edit)
    return grounds


@pytest.fixture
def late(monkeypatch):
    """A site that holds columns against earlier ones only before it sums counts with them."""
    monkeypatch.setattr(Guard, "_enter_columns", lambda *_: None)


@pytest.fixture
def crossed(monkeypatch):
    """Every X'X that is opened, of scaled columns, in order; and centre and scale of the age, public as they are."""
    told = SimpleNamespace(tables=[], scales=set())

    def opening(*given, whole=scaling.opened):
        told.tables.append(unpack(np.asarray(whole(*given))))
        return whole(*given)

    def choosing(*given, whole=scaling.nearest):
        told.scales.add(whole(*given))
        return whole(*given)

    monkeypatch.setattr(scaling, "opened", opening)
    monkeypatch.setattr(scaling, "nearest", choosing)
    return told


def census_of(grounds, lead, **options):
    """The sums of the first round of a fit that its aggregator then leaves."""
    config = lead.config(grounds, preset="irls", **options)
    sites = lead.sites(grounds, config, NAMES)
    for event in lead_fit(Task(config, config.digest), LocalFederation(sites)):
        if isinstance(event, Record):
            return event.arrays
    raise AssertionError("no round was played")


def by_cell(grounds, lead):
    fits = (census_of(grounds, lead, design=f"~ {labels} + smoker") for labels in ("given", "corrected"))
    before, after = (fit["group_samples"] for fit in fits)
    return before - after


def test_the_twin_that_waits_tells_a_patients_other_label_by_the_census(grounds, lead, late):
    # Cells: control no, control yes, treated no, treated yes.
    assert by_cell(grounds, lead).tolist() in ([-1, 0, 1, 0], [0, -1, 0, 1])
    assert by_cell(grounds, lead)[2] == (grounds.patient["smoker"] == "no")


def test_labels_that_differ_in_one_sample_are_refused_before_the_census(grounds, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        by_cell(grounds, lead)


def logs_of(grounds, lead):
    """Both size factors of the one sample, by the sums of the logs of all and of their squares."""
    before, after = (
        census_of(grounds, lead, design="~ given", size_factors=name)["log_size_factors"]
        for name in ("size", "revised")
    )
    once, squared = after - before
    middle = squared / once
    return np.exp((middle - once) / 2), np.exp((middle + once) / 2)


def test_the_twin_that_waits_tells_one_samples_size_factors(grounds, lead, late):
    np.testing.assert_allclose(logs_of(grounds, lead), (grounds.patient["size"], 3.0), rtol=1e-9)


def test_size_factors_that_differ_in_one_sample_are_refused_before_the_census(grounds, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        logs_of(grounds, lead)


def fit_with_ages(grounds, lead):
    for labels in ("given", "corrected"):
        lead.normalised(grounds, design=f"~ {labels} + age")


def test_the_twin_that_waits_tells_a_patients_age_before_it_refuses(grounds, lead, late, crossed):
    with pytest.raises(RefusalError, match=REFUSED):
        fit_with_ages(grounds, lead)
    patient = crossed.tables[0] - crossed.tables[-1]
    ((centre, scale),) = crossed.scales
    assert patient[1, 1] == 1
    assert patient[1, 2] * scale + centre == grounds.patient["age"]


def test_cross_products_are_not_opened_of_labels_that_differ_in_one_sample(grounds, lead, crossed):
    with pytest.raises(RefusalError, match=REFUSED):
        fit_with_ages(grounds, lead)
    assert {table[1, 1] for table in crossed.tables} == {crossed.tables[0][1, 1]}


def test_a_fit_that_was_left_after_its_census_may_be_made_and_one_of_more_columns(grounds, lead):
    for design in ("~ given", "~ given", "~ given + age", "~ given + smoker", "~ given"):
        assert census_of(grounds, lead, design=design)["samples"][0] == 60
