"""Where a configuration takes the same genes everywhere, sites sum over their own in their own order, or not at all.

The aggregator tells a site whose genes lie in another order that all have the same: its rare genes would stand where
all others have common ones, and zeros there are its own. The site holds its names against what was agreed, the twin
doesn't.
"""

import numpy as np
import pytest

from protocols.secure_sum import MisuseError
from secirls.agreement.agreement import agree, genes_digest
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.input_error import InputError
from secirls.site import preparation

VICTIM = "site2"


@pytest.fixture
def apart(shallow):
    """Sites of which one has rare genes, and then all others, where the others have common ones."""
    zeros = (shallow.all_counts() == 0).sum(axis=0)
    rare = np.flatnonzero((shallow.counts(VICTIM) == 0).any(axis=0))
    common = np.flatnonzero(zeros == 0)[: rare.size]
    assert 0 < common.size == rare.size
    order = np.arange(zeros.size)
    order[common], order[rare] = rare, common

    def edit(adata):
        adata.X = adata.X[:, order]
        adata.var_names = adata.var_names[order]

    shallow.edit(VICTIM, edit)
    return shallow, common


def told_alike(grounds, lead):
    """A room whose aggregator says of all sites that they have the genes of the first, in its order."""
    room = lead.room(grounds)
    room.facts = {name: site.survey() for name, site in room.sites.items()}
    genes = room.facts["site1"].genes
    alike = [lead.replace(facts, genes=genes) for facts in room.facts.values()]
    room.agreement, room.genes = agree(alike, room.config, {}, room.run)
    assert room.agreement.genes is None
    return room


def test_a_site_whose_genes_are_in_another_order_joins_nothing(apart, lead):
    room = told_alike(apart[0], lead)
    with pytest.raises(InputError, match=r"^site 'site2': has other genes than were agreed$"):
        room.join()


def test_the_twin_that_holds_its_names_against_nothing_has_its_own_zeros_opened(apart, lead, monkeypatch):
    grounds, common = apart
    room = told_alike(grounds, lead)
    monkeypatch.setattr(preparation, "genes_digest", lambda genes: room.agreement.genes_digest)
    room.join().meet().census()
    own = (grounds.counts(VICTIM)[:, common] == 0).sum(axis=0)
    assert np.array_equal(room.total(LogCountsQuery(room.every))["zeros"][common], own)


def test_a_site_of_such_a_configuration_rearranges_nothing(grounds, lead):
    room = lead.room(grounds).survey()
    for chosen in (room.genes, room.genes[::-1], room.genes[:20]):
        told = lead.replace(room.agreement, genes=chosen, genes_digest=genes_digest(chosen))
        with pytest.raises(MisuseError, match="the genes are not those of its configuration"):
            room.sites[VICTIM].join(told)
