"""A site that joins again answers about what it joined last: nothing of an earlier session is in its sums.

A fit may begin anew without somebody, so a site may be surveyed and join more than once. The twin keeps what it had:
then one site alone, asked once in a session that goes no farther, answers about that session's genes, and what is
opened is its own.
"""

import numpy as np
import pytest

from protocols.secure_sum import MisuseError
from secirls.agreement.agreement import genes_digest
from secirls.agreement.record import query_digest
from secirls.algorithms.query import Total
from secirls.algorithms.whole_fit import agreed_fit
from secirls.site.site import Site

VICTIM = "site2"


@pytest.fixture
def keeping(monkeypatch):
    """Sites that keep all they had when they are surveyed again."""
    honest = Site._begin_anew
    monkeypatch.setattr(Site, "_begin_anew", lambda site: None if hasattr(site, "_asked") else honest(site))


def joined(room, lead, genes):
    """A session of these genes, of which the aggregator tells every site alike, as far as its first question."""
    room.survey()
    room.agreement = lead.replace(room.agreement, genes=tuple(genes), genes_digest=genes_digest(genes))
    room.genes = tuple(genes)
    room.join()
    fit = agreed_fit(room.config, room.agreement.design(room.config), room.genes)
    return fit, next(fit)


def of_two_sessions(grounds, lead):
    """Zeros by gene that a second session opens, and those that are the victim's own in the genes of the first."""
    zeros = (grounds.all_counts() == 0).sum(axis=0)
    rare = np.flatnonzero((grounds.counts(VICTIM) == 0).any(axis=0) & (zeros > 0))
    common = np.flatnonzero(zeros == 0)[: rare.size]
    assert 0 < rare.size == common.size
    room = lead.room(grounds, genes="intersection", trust_aggregator=False)
    names = np.array(room.survey().genes)
    _, census = joined(room, lead, names[rare])
    room.meet().sites[VICTIM].contribute(query_digest(census), 0, 0, room.names)
    fit, census = joined(room, lead, names[common])
    room.batch, room.round = -1, 1
    asked = fit.send(Total(room.meet().total(census), room.names, room.names))
    return room.total(asked, tell=lambda *_: None)["zeros"], (grounds.counts(VICTIM)[:, rare] == 0).sum(axis=0)


def test_a_site_that_joins_again_answers_about_the_genes_it_was_told_last(shallow, lead):
    opened, own = of_two_sessions(shallow, lead)
    assert own.all()
    assert not opened.any()


def test_the_twin_that_keeps_what_it_gathered_has_one_sites_zeros_opened(shallow, lead, keeping):
    opened, own = of_two_sessions(shallow, lead)
    assert np.array_equal(opened, own)


def answers_without_a_seed(grounds, lead):
    """The first site's answer in a second session, in which the sites shared nothing to check totals with."""
    room = lead.room(grounds, trust_aggregator=False).open().survey().join()
    room.round, room.batch = 1, -1
    hellos = {name: site.hello(0).message for name, site in room.sites.items()}
    room.collector.meet(hellos, {name: site.meet(hellos, 0).message for name, site in room.sites.items()}, 0)
    census = next(agreed_fit(room.config, room.agreement.design(room.config), room.genes))
    return room.sites[VICTIM].contribute(query_digest(census), 1, 0, room.names)


def test_totals_are_checked_with_nothing_that_sites_of_another_session_know(grounds, lead):
    with pytest.raises(MisuseError, match="shares nothing yet"):
        answers_without_a_seed(grounds, lead)


def test_the_twin_that_keeps_a_seed_answers_among_others_than_it_was_shared_with(grounds, lead, keeping):
    assert answers_without_a_seed(grounds, lead).message
