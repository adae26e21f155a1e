"""Two honest fits, with and without the site as a covariate: what is taken out of columns tells sums of single sites.

With ``site`` in the design each site takes a column's mean there out of it, for its intercept is its own. The same
column without it, less that, is the mean of each site: summed, each site's total times its share of treated samples.
Where these are the same at all sites but one, as in a trial, it is that site's total. The twin forgets.
"""

import numpy as np
import pytest

from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import likeness
from secirls.site.guarding.likeness import Summed, tells_sites

OWNER = "site3"
NAMES = ("site1", "site2", "site3", "site4")
SHARES = dict.fromkeys(NAMES, 0.5) | {OWNER: 0.7}
PLAIN, BY_SITE = "~ condition", "~ site + condition"


@pytest.fixture(params=["column", "name"])
def trial(grounds, request):
    """With an obs column of the site, or its own name in the place of one."""
    for name in NAMES:

        def edit(adata, name=name):
            treated = np.arange(adata.n_obs) < round(SHARES[name] * adata.n_obs)
            adata.obs["condition"] = np.where(treated, "treated", "control")
            if request.param == "column":
                adata.obs["site"] = name

        grounds.edit(name, edit)
    return grounds


def one_sites_total(grounds, lead, designs=(PLAIN, BY_SITE)):
    found = {}
    for design in designs:
        found[design], sites = lead.normalised(grounds, design=design)
    column = "condition[T.treated]"
    of_sites = found[PLAIN][column] - found[BY_SITE][column]
    own = sites[OWNER]._samples
    true = (own.counts / own.size_factors[:, None]).sum(axis=0)
    return (of_sites - 0.5 * found[PLAIN]["all"]) / (SHARES[OWNER] - 0.5), true


def test_the_twin_that_forgets_tells_one_sites_totals(trial, lead, monkeypatch):
    monkeypatch.setattr(likeness, "tells_sites", lambda *_: False)
    found, true = one_sites_total(trial, lead)
    np.testing.assert_allclose(found, true, rtol=1e-9)


@pytest.mark.parametrize("designs", [(PLAIN, BY_SITE), (BY_SITE, PLAIN)])
def test_the_same_column_with_and_without_the_site_is_refused(trial, lead, designs):
    with pytest.raises(RefusalError, match=r"across_fits is refuse \(an earlier fit had the same design columns"):
        one_sites_total(trial, lead, designs)


def test_a_policy_may_allow_so_many(trial, lead):
    one_sites_total(trial.rule("max_fits = 2"), lead)


# What tells of sites.


def summed(own, *columns):
    rows = np.column_stack([np.ones(12), *own, *columns])
    return Summed(rows / np.linspace(0.5, 2.0, 12)[:, None], len(own))


ONES, C, AGE = np.ones(12), (np.arange(12) % 3 == 0) * 1.0, np.linspace(20.0, 60.0, 12)


@pytest.mark.parametrize(
    ("earlier", "now", "tells"),
    [
        (summed([], ONES, C), summed([ONES], C), True),
        (summed([ONES], C), summed([], ONES, C), True),
        (summed([], ONES, C, AGE), summed([ONES], C + 0.1 * AGE), True),
        (summed([], ONES, C), summed([ONES], AGE), False),
        (summed([ONES], C), summed([ONES], C, AGE), False),
        (summed([], ONES, C), summed([], ONES, C, AGE), False),
        (summed([], ONES, ONES), summed([ONES], C), False),
    ],
)
def test_columns_that_are_the_same_beside_other_own_ones(earlier, now, tells):
    assert tells_sites(earlier, now) == tells
