"""A party answers one verb at a time, whatever threads it was started with: two at once would both find nothing given.

Whoever starts an actor of Ray says how many calls run in it at once. Here two threads ask a real party, by its desk, to
open one sum over two sets; each waits within for the other. The twin is a desk that lets both in.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace

import pytest

from protocols import run
from protocols.masking.pairwise_messages import NO_SHARE, Leg, Payload, Reply, Request
from protocols.primitives import ring
from protocols.secure_sum import PeerError
from protocols.sessions.demands import Demands
from protocols.sessions.session import open_message
from protocols.sessions.settings import Settings
from secirls.site.desk import Desk

SITES = ("a", "b", "c", "d", "e")
ASKED, OTHER = "a", "c"


@pytest.fixture
def met():
    """Who is asked waits before it gives shares, until somebody else waits there too, or a moment has passed."""
    barrier = Barrier(2)

    def opening(context, present):
        with suppress(BrokenBarrierError):
            barrier.wait(0.2)

    settings = Settings(threshold=4, rounds_per_batch=1)
    table = run.sit_down("pairwise", SITES, settings, demands=Demands(opening=opening))
    run.meet(table)
    return table


def asked_at_once(table, desk):
    """What is said to the same sum over everybody, and without somebody: replies, or what was raised."""
    vectors = {site: ring.zeros(1, 2) for site in SITES}
    context = run.context_of(table, vectors[ASKED])
    near = tuple(site for site in SITES if site != ASKED)
    sent = {site: table.parties[site].protect(vectors[site], context) for site in SITES}
    read = {
        site: Payload.read(
            open_message(table.roster, b"payload", site, context.digest, sent[site]),
            site,
            context,
            tuple(other for other in SITES if other != site),
        )
        for site in near
    }
    grant = table.collector._grants[0, OTHER].boxes[ASKED]

    def ask(present):
        boxes = {peer: read[peer].boxes[ASKED] if peer in present else grant for peer in near}
        try:
            reply = desk.ask("assist", Request(Leg.RELEASE, present, {}, boxes).pack(context.cohort), context)
        except PeerError as error:
            return error
        body = open_message(table.roster, b"reply", ASKED, context.digest, reply)
        return Reply.read(body, ASKED, context.cohort, SITES).shares[OTHER]

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(ask, (SITES, tuple(site for site in SITES if site != OTHER))))


def desk_of(table):
    return Desk(SimpleNamespace(name=ASKED, assist=table.parties[ASKED].assist))


def test_of_two_questions_at_once_one_is_answered(met):
    said = asked_at_once(met, desk_of(met))
    refused = [word for word in said if isinstance(word, PeerError)]
    assert len(refused) == 1
    assert str(refused[0]).endswith("to open round 0 a second time")


def test_the_twin_that_lets_both_in_gives_shares_of_both_secrets_of_one(met):
    desk = desk_of(met)
    desk._one_at_a_time = nullcontext()
    of_the_seed, of_the_round = asked_at_once(met, desk)
    assert NO_SHARE not in (of_the_seed, of_the_round)
    assert of_the_seed != of_the_round
