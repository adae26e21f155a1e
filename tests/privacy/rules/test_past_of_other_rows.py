"""A fit that goes on after labels were edited at sites: the census of before would hide a cell that one sample is in.

Sites take a total of the past if they verified it. Run, configuration, levels and genes are the same after labels were
edited, so an aggregator that hides what names the data of then could have sites hold their rules against the census of
other rows. The twin notes totals under all that but the rows.
"""

import dataclasses

import numpy as np
import pytest

from protocols.secure_sum import PeerError
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import guard
from secirls.site.site import Site

OWNER, SAMPLE = "site3", 4


def labelled(grounds, drawn):
    """Two factors of two levels; in the second ``drawn`` ones, and where a is x nobody has v but the owner's one."""
    for name in grounds.names:

        def edit(adata, name=name):
            rows = np.arange(adata.n_obs)
            second = np.random.default_rng(drawn).random(rows.size) < 0.5
            if drawn:
                second[::2] = False
                second[SAMPLE] = name == OWNER
            else:
                second = rows // 2 % 2 == 0
            adata.obs["a"], adata.obs["b"] = np.where(rows % 2, "y", "x"), np.where(second, "v", "u")

        grounds.edit(name, edit)


def led(grounds, config, past=None):
    """The events of a fit, and its sites."""
    sites = {name: Site(grounds.place(name), config, own_process=False) for name in grounds.names}
    return lead_fit(Task(config, "fit-1", past), LocalFederation(sites)), sites


def census_of(grounds, config):
    """What is kept of a fit that is left after its census, without what names its data."""
    for event in led(grounds, config)[0]:
        if isinstance(event, Begun):
            begun = dataclasses.replace(event, data={})
        if isinstance(event, Record):
            return Past(begun, (event,))
    raise AssertionError("no round was played")


def of_one_sample(grounds, lead):
    """A cell's only sample, by sums of a fit that goes on after another one's census; and its own counts."""
    config = lead.config(grounds, preset="irls", design="~ a * b")
    labelled(grounds, 0)
    past = census_of(grounds, config)
    labelled(grounds, 5)
    events, sites = led(grounds, config, past)
    for event in events:
        if isinstance(event, Record) and event.told.kind == "normalised":
            sums = dict(zip(past.begun.columns, event.arrays["xt_normalised"].T, strict=True))
            own = sites[OWNER]._samples
            return sums["b[T.v]"] - sums["a[T.y]:b[T.v]"], own.counts[SAMPLE] / own.size_factors[SAMPLE]
    raise AssertionError("no counts were summed")


@pytest.fixture
def large(lay):
    return lay(names=("site1", "site2", "site3"), samples=120, genes=14)


def test_a_census_of_other_labels_is_not_this_ones(large, lead):
    with pytest.raises(PeerError, match="tells site1 a total of the past that it did not verify"):
        of_one_sample(large, lead)


def test_the_twin_to_which_totals_are_of_the_run_alone_tells_one_samples_counts(large, lead, monkeypatch):
    monkeypatch.setattr(guard, "start_digest", lambda *_: b"")
    found, true = of_one_sample(large, lead)
    np.testing.assert_allclose(found, true, rtol=1e-6, atol=1e-6)


def test_such_a_fit_begun_anew_is_refused_for_its_cell(large, lead):
    labelled(large, 5)
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(cell a=x, b=v"):
        list(led(large, lead.config(large, preset="irls", design="~ a * b"))[0])
