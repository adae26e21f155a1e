"""One honest fit with a refit layer that differs from its counts in one sample: what it opens twice is that sample's.

Any layer of counts is one that genes may be fitted again on, and the sum of log(y / s + 0.1) is opened of both. So a
refit layer is named by the site's own staff, in a study or among the layers of its policy.
"""

import numpy as np
import pytest

from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks

OWNER = "site3"
NAMES = ("site1", "site2", "site3")
REFUSED = r"its policy refuses: layers is none \(layer 'masked' has other counts of the same samples"


@pytest.fixture
def masked(lay):
    """A layer in which one sample has been blanked, as after a complaint about it."""
    grounds = lay(names=NAMES, samples=30, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            counts = np.asarray(adata.X).copy()
            counts[2] *= name != OWNER
            adata.layers["masked"] = counts

        grounds.edit(name, edit)
    return grounds


def refitted(grounds, lead):
    """Counts of the owner's third sample, from the two sums of logs over all samples; and the true ones, of genes."""
    genes = tuple(f"gene{number:05d}" for number in range(40))
    config = lead.config(grounds, preset="irls", refit_layer="masked", refit_genes=genes)
    sites = lead.sites(grounds, config)
    rounds = (event for event in lead_fit(Task(config, "fit-1"), LocalFederation(sites)) if isinstance(event, Record))
    before, after = (told.arrays["xty"][:, 0] for told in rounds if told.told.kind == "least_squares")
    size = sites[OWNER]._samples.size_factors[2]
    return (np.exp(before - after + np.log(0.1)) - 0.1) * size, grounds.counts(OWNER)[2]


def test_a_refit_layer_that_nobody_listed_is_refused(masked, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        refitted(masked, lead)


def test_the_twin_that_takes_any_layer_tells_one_samples_counts_in_one_honest_fit(masked, lead, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_refit_layer", lambda *_: None)
    found, true = refitted(masked, lead)
    assert np.array_equal(np.rint(found), true)


@pytest.mark.parametrize("rule", ['layers = ["X", "masked"]', 'across_fits = "allow"'])
def test_a_layer_that_the_policy_lists_is(masked, lead, rule):
    masked.rule(rule)
    refitted(masked, lead)
