"""A column of numbers in which one sample is far from all others gives that sample's counts away in an honest fit.

Whoever orders a fit writes its formula: of ages the ninth power has the oldest patient on one side and all others on
the other. Numbers of several sites vary in it, so no site is alone; but its leverage is nearly one, and what a fit
opens tells what its counts are, up to a small part of the others'. Its site holds each of its samples against X'X.
"""

import numpy as np
import pytest

from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks

OWNER, AT, OLDEST = "site3", 2, 95
DESIGN = "~ condition + I(age**9)"


@pytest.fixture
def aged(grounds):
    """Four sites of ten patients of 31 to 70 years; one is 95."""
    for name in grounds.names:

        def edit(adata, name=name):
            ages = np.round(np.linspace(31.0, 70.0, adata.n_obs))[np.random.default_rng(7).permutation(adata.n_obs)]
            ages[AT] = OLDEST if name == OWNER else ages[AT]
            adata.obs["age"] = ages

        grounds.edit(name, edit)
    return grounds


def told_of_the_oldest(grounds, lead):
    """Its counts over its size factor by the sums alone, those of the mean sample, and what they are: ``(genes,)``."""
    sums, sites = lead.normalised(grounds, design=DESIGN)
    mine = sites[OWNER]._samples
    opened = sum(site._samples.design.T @ site._samples.design for site in sites.values())
    row, right = mine.design[AT], np.array([values for name, values in sums.items() if name != "all"])
    true = mine.counts[AT] / mine.size_factors[AT]
    some = true > 20
    return tuple(values[some] for values in (row @ np.linalg.solve(opened, right), sums["all"] / 40.0, true))


def off(found, true):
    return float(np.median(np.abs(found - true) / true))


def test_the_twin_that_looks_at_whole_sites_tells_one_samples_counts(aged, lead, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_leverage", lambda *_: None)
    found, mean, true = told_of_the_oldest(aged, lead)
    assert off(found, true) < 0.05
    assert off(mean, true) > 0.25, "by what all have, without that column"


def test_a_sample_far_from_all_others_is_refused_by_its_site_before_x_x(aged, lead):
    with pytest.raises(RefusalError) as refused:
        lead.normalised(aged, design=DESIGN)
    assert str(refused.value) == (
        "site 'site3': its policy refuses: max_leverage is 0.9 (design column 'I(age ** 9)': it varies in one sample "
        "of this site alone, or nearly)"
    )


def test_the_same_ages_as_they_are_and_squared_are_fitted(aged, lead):
    assert np.isfinite(lead.normalised(aged, design="~ condition + age + I(age**2)")[0]["all"]).all()
