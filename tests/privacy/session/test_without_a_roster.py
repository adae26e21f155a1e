"""A site without a roster of its own says nothing, unless its policy lets it: all others could be invented.

The twin believes the roster that it is told, and is alone among sites of the aggregator's.
"""

import numpy as np
import pytest

from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.site import Site

ALONE = "site1"


@pytest.fixture
def without(grounds):
    """A site in whose ground nobody named a roster."""
    path = grounds.folder / ALONE / "site.toml"
    path.write_text(path.read_text().replace("\nroster = ", "\n# roster = "))
    return grounds


@pytest.mark.parametrize("verb", ["look", "survey"])
def test_a_site_without_a_roster_says_nothing(without, lead, verb):
    site = Site(without.place(ALONE), lead.config(without), own_process=False)
    with pytest.raises(RefusalError, match=r"require_roster is true \(the site has no roster of its own\)"):
        getattr(site, verb)()


def test_the_twin_that_believes_whoever_leads_is_alone_among_invented_sites(without, lay, lead, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_roster", lambda *_, **__: None)
    fake = lay("fake", seed=9).trust()
    for name in fake.names:
        path = fake.folder / name / "site.toml"
        path.write_text(path.read_text().replace("\nroster = ", "\n# roster = "))
    places = {name: fake.place(name) for name in fake.names} | {ALONE: without.trust().place(ALONE)}
    room = lead.Room(places, lead.config(fake, trust_aggregator=True, roster=None)).open()
    room.census()
    zeros = room.total(LogCountsQuery(room.every))["zeros"]
    known = sum((fake.counts(name) == 0).sum(axis=0) for name in fake.names if name != ALONE)
    assert np.array_equal(zeros - known, (without.counts(ALONE) == 0).sum(axis=0))
