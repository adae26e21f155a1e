"""The seed that totals are checked with is shared among the sites, in boxes that whoever carries them can't use.

A claim has a limit: one site that gives the seed away is enough, and is shown here to be.
"""

import itertools

import numpy as np
import pytest

from protocols import verified
from protocols.primitives import ring
from protocols.primitives.keys import Identity
from protocols.secure_sum import MisuseError, PeerError
from protocols.sessions.session import Roster
from protocols.totals import pack_total
from protocols.verified import Checks, SeedTable
from secirls.algorithms.groundwork.normalisation import LogCountsQuery

SITES = ("site-1", "site-2", "site-3")
SESSION = b"s" * 32
DEALER, *OTHERS = SITES


def tables(session=SESSION):
    identities = {site: Identity(site.encode().ljust(32, b".")) for site in SITES}
    roster = Roster({site: identity.public for site, identity in identities.items()})
    drawn = itertools.count()

    def entropy(count):
        return bytes([next(drawn)]) * count

    return {site: SeedTable(site, identities[site], roster, session, entropy) for site in SITES}


def greeted(session=SESSION):
    made = tables(session)
    return made, {site: table.greeting() for site, table in made.items()}


def flipped(message, at):
    changed = bytearray(message)
    changed[at] ^= 1
    return bytes(changed)


def test_all_share_one_seed_and_no_message_shows_it():
    made, greetings = greeted()
    dealt, checks = made[DEALER].deal(greetings)
    seeds = {checks._seed, *(made[site].take(greetings, dealt)._seed for site in OTHERS)}
    assert len(seeds) == 1
    assert seeds.pop() not in dealt + b"".join(greetings.values())


def test_any_byte_of_a_greeting_or_of_the_boxes_matters_to_who_uses_it():
    """The dealer uses everybody's greeting, who takes the seed the dealer's."""
    made, greetings = greeted()
    dealt, _ = made[DEALER].deal(greetings)
    for at in range(0, len(dealt), 5):
        taker = greeted()[0][OTHERS[0]]  # the same keys, drawn the same way
        with pytest.raises(PeerError, match=DEALER):
            taker.take(greetings, flipped(dealt, at))
    for site in SITES:
        for at in range(0, len(greetings[site]), 5):
            changed = {**greetings, site: flipped(greetings[site], at)}
            with pytest.raises(PeerError, match=site):
                greeted()[0][DEALER].deal(changed)
            if site == DEALER:
                with pytest.raises(PeerError, match=DEALER):
                    greeted()[0][OTHERS[0]].take(changed, dealt)


def dealt_by_an_impostor():
    """The seed that somebody deals under a key of his own, and the one that a site takes."""
    made, greetings = greeted()
    forger = Identity(bytes(32))
    roster = Roster({**made[DEALER]._roster.keys, DEALER: forger.public})
    impostor = SeedTable(DEALER, forger, roster, SESSION, lambda count: b"?" * count)
    shown = {**greetings, DEALER: impostor.greeting()}
    dealt, checks = impostor.deal(shown)
    return checks._seed, made[OTHERS[0]].take(shown, dealt)._seed


def test_nobody_deals_in_the_dealers_place():
    with pytest.raises(PeerError, match=DEALER):
        dealt_by_an_impostor()


def test_the_twin_that_verifies_nobody_takes_an_impostors_seed(monkeypatch):
    monkeypatch.setattr(verified, "open_message", lambda *given: memoryview(given[4])[:-64])
    dealt, taken = dealt_by_an_impostor()
    assert dealt == taken


def test_boxes_of_another_session_or_for_somebody_else_do_not_open():
    made, greetings = greeted()
    others, elsewhere = greeted(b"t" * 32)
    dealt, _ = others[DEALER].deal(elsewhere)
    with pytest.raises(PeerError):
        made[OTHERS[0]].take(greetings, dealt)
    with pytest.raises(PeerError):
        made[OTHERS[0]].take(elsewhere, dealt)


def test_only_the_first_by_name_deals():
    made, greetings = greeted()
    with pytest.raises(MisuseError, match="not the one who deals"):
        made[OTHERS[0]].deal(greetings)
    dealt, _ = made[DEALER].deal(greetings)
    with pytest.raises(PeerError):  # signed as another's
        made[OTHERS[1]].take({site: greetings[site] for site in OTHERS}, dealt)


# Sites in a session: the seed is dealt once, among all.


def test_a_site_takes_part_in_one_dealing_and_among_all(grounds, lead):
    room = lead.room(grounds).open()
    site = room.sites["site2"]
    greetings = {name: other.greet().message for name, other in room.sites.items()}
    dealt = room.sites["site1"].deal(greetings).message
    some = {name: greetings[name] for name in ("site1", "site2")}
    with pytest.raises(MisuseError, match="among all the agreed sites"):
        site.take(some, dealt)
    site.take(greetings, dealt)
    with pytest.raises(MisuseError, match="once"):
        site.take(greetings, dealt)


def test_sites_with_other_seeds_take_no_total(grounds, lead):
    """Dealt twice, and half of the sites never heard of it: nothing is forged, the fit ends."""
    room = lead.room(grounds).open()
    greetings = {name: site.greet().message for name, site in room.sites.items()}
    dealt = room.sites["site1"].deal(greetings).message
    room.sites["site2"].take(greetings, dealt)
    with pytest.raises(PeerError, match="not the sum of what was sent"):
        room.census()


def test_a_site_that_gives_the_seed_away_lets_the_aggregator_lie(grounds, lead):
    """The limit of the claim: the others take a false census, and answer for a gene that one of them alone counts."""
    lonely, owner, colluder = 7, "site3", "site4"
    for name in grounds.names:
        if name != owner:
            grounds.edit(name, lambda adata: adata.X.__setitem__((slice(None), lonely), 0))
    room = lead.room(grounds).open()
    seed = room.sites[colluder]._checking.checks._seed

    def lie(vector, layout):
        body = vector[: layout.values].copy()
        body[lonely, 1] += np.uint64(2)
        context = room.contexts[0]
        bodies = [body, *[ring.zeros(layout.values, 2)] * (len(room.names) - 1)]
        summands = [Checks(seed, name).append(each, context) for name, each in zip(room.names, bodies, strict=True)]
        return ring.total_of(iter(summands), context.values, 2)

    room.census(tell=lie)
    opened = room.total(LogCountsQuery(room.asked(lonely)))["log_counts"][0]
    assert opened == pytest.approx(np.log(np.maximum(grounds.counts(owner)[:, lonely], 1)).sum(), abs=1e-9)


def test_a_total_of_a_sum_that_has_no_check_values_is_never_taken(grounds, lead):
    room = lead.room(grounds).open()
    room.census()
    _, context, sent = room.payloads(LogCountsQuery(room.every))
    opened = room.add_up(sent, context)
    with pytest.raises(MisuseError, match="was told a total that it does not wait for"):
        room.sites["site2"].hear(pack_total(opened.vector), context.round, 0, room.names)
