"""Sites that were led to different states answer no common question, however they were led there.

What a question leaves at a site (size factors, dispersions) follows from all questions it took; their chain is in
every context. The twin leaves the chain out: then one site alone has size factors that let its counts be seen, and the
sum over four sites is that site's own.
"""

import numpy as np
import pytest

from protocols.masking import pairwise_collector
from protocols.masking.pairwise_messages import NO_SHARE
from protocols.secure_sum import IntegrityError, PeerError
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.site.guarding import guard

VICTIM = "site3"


def split(room, how):
    """Give the victim size factors near one, and everybody else such that count / factor vanishes."""
    room.census()
    room.total(LogCountsQuery(room.every))
    genes = len(room.genes)
    seen = NormalisedQuery(room.every, np.zeros(genes), room.every, 2)
    vanishing = NormalisedQuery(room.every, np.full(genes, -600.0), room.every, 2)
    for name, site in room.sites.items():
        question = (seen if name == VICTIM else vanishing).to_bytes()
        if how == "recall":
            site.recall(question)
        else:
            site.contribute(question, room.round, 0, room.names)
    room.round += how != "recall"
    return seen, vanishing


def common(room):
    return NormalisedQuery(room.every, np.zeros(0), np.zeros(0, dtype=bool), 2)


def own_sums(grounds):
    """What the victim alone would send."""
    counts = grounds.counts(VICTIM)
    factors = np.exp(np.median(np.log(np.maximum(counts, 1)), axis=1))
    return (counts / factors[:, None]).sum(axis=0)


HOW = pytest.mark.parametrize("how", ["recall", "a contribution that is never opened"])


@HOW
@pytest.mark.parametrize("pretending", ["the victim's", "the others'", "that of before"])
def test_sites_in_different_states_open_no_sum(grounds, lead, how, pretending, monkeypatch):
    room = lead.room(grounds).open()
    seen, vanishing = split(room, how)
    taken = {"the victim's": [seen], "the others'": [vanishing], "that of before": []}[pretending]
    for question in taken:
        room.state = guard.chained(room.state, question.to_bytes())
    _, context, sent = room.payloads(common(room))
    with pytest.raises(PeerError, match="is not signed"):
        room.add_up(sent, context)
    # An aggregator that does not look at signatures gets no further: what sites sealed in another state does not open.
    believing = lambda roster, kind, sender, binding, message: memoryview(message)[:-64]  # noqa: E731
    monkeypatch.setattr(pairwise_collector, "open_message", believing)
    released = []
    reading = pairwise_collector.Reply.read
    monkeypatch.setattr(
        pairwise_collector.Reply, "read", lambda *given: released.append((given[1], reading(*given))) or released[-1][1]
    )
    with pytest.raises((PeerError, ValueError, IntegrityError)):
        room.add_up(sent, context)
    assert released
    for site, reply in released:
        given = {owner for owner, share in reply.shares.items() if share != NO_SHARE}
        assert given == set() if site == VICTIM else VICTIM not in given


@HOW
def test_without_the_chain_the_sum_is_one_sites_own(grounds, lead, how, monkeypatch):
    monkeypatch.setattr(guard, "chained", lambda state, question: state)
    room = lead.room(grounds).open()
    split(room, how)
    sums = room.total(common(room))
    np.testing.assert_allclose(sums["normalised"], own_sums(grounds), rtol=1e-12)
