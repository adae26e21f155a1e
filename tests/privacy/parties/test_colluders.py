"""A party takes no part in a session whose threshold lets the colluders it reckons with open one sum twice.

Both secrets of one party, or one Paillier sum over two sets: either takes two groups of the threshold's size with
nobody honest in both, which 2 t > n + c rules out.
"""

from contextlib import suppress

import numpy as np
import pytest

from protocols import claims
from protocols.choice import helpers, make_party
from protocols.masking.mask_keys import self_mask_key
from protocols.masking.neighbours import degree_for, most_colluders, most_told_apart, share_threshold
from protocols.masking.pairwise_messages import Leg, Payload, Reply, Request, read_set_boxes
from protocols.masking.round_seeds import pair_mask_keys
from protocols.primitives import ring, shamir
from protocols.primitives.keys import Identity
from protocols.secure_sum import KEY_DEALER, KEY_HOLDER, MisuseError, PeerError, Pending
from protocols.sessions.demands import Demands, active_colluders
from protocols.sessions.session import Roster, open_message
from protocols.sessions.settings import Settings

VICTIM = "site-1"
FIRST, SECOND = ("site-1", "site-2", "site-3"), ("site-4", "site-5", "site-6")


def takes_part(protocol, parties, settings, colluders, who="s000", *, whole=True):
    """Whether a party that reckons with so many colluders sits down under these settings."""
    names = [f"s{number:03}" for number in range(parties)] + list(helpers(protocol))
    identities = {name: Identity(name.encode().ljust(32, b".")) for name in {who}}
    fillers = {name: bytes([at % 251, at // 251, 7] * 10 + [1, 1]) for at, name in enumerate(names)}
    roster = Roster({**fillers, who: identities[who].public})
    try:
        make_party(protocol, who, identities[who], roster, settings, demands=Demands(colluders, whole=whole))
    except MisuseError:
        return False
    return True


@pytest.mark.parametrize("consistency", [False, True])
def test_pairwise_parties_take_part_exactly_where_2_t_is_above_n_and_c(consistency):
    for parties in range(3, 8):
        for threshold in range(3, parties + 1):
            settings = Settings(threshold=threshold, consistency=consistency)
            for colluders in range(parties):
                bears = 2 * threshold > parties + colluders and colluders <= parties - 2
                assert takes_part("pairwise", parties, settings, colluders) == bears
                assert bears == (colluders <= min(most_colluders(settings, parties), parties - 2))


@pytest.mark.parametrize("consistency", [False, True])
@pytest.mark.parametrize(("threshold", "neighbours"), [(41, 16), (41, 28), (50, 16), (31, 16), (30, 16), (59, 16)])
def test_among_neighbours_the_bound_is_the_rooms_where_all_sign_and_the_neighbourhoods_where_not(
    consistency, threshold, neighbours
):
    parties = 60
    settings = Settings(threshold=threshold, neighbours=neighbours, consistency=consistency)
    alone = share_threshold(threshold, parties, degree_for(settings, parties))
    for colluders in range(parties):
        signed_once = 2 * threshold > parties + colluders
        held_once = 2 * alone > neighbours + 1 + colluders
        apart = colluders <= most_told_apart(parties, threshold, neighbours)  # see test_told_apart.py
        assert held_once or not apart
        bears = colluders < alone and (signed_once if consistency else apart)
        assert takes_part("pairwise", parties, settings, colluders) == bears


def test_threshold_paillier_is_held_to_the_same_bound_and_a_key_holder_to_its_signers():
    for parties in range(3, 8):
        for threshold in range(3, parties + 1):
            settings = Settings(threshold=threshold)
            for colluders in range(parties):
                left = colluders <= parties - 2
                for who in ("s000", KEY_DEALER):
                    bears = left and 2 * threshold > parties + colluders
                    assert takes_part("paillier-threshold", parties, settings, colluders, who) == bears
                # It sees both of two requests and opens one: what colluders need is to sign by themselves.
                assert takes_part("paillier", parties, settings, colluders) == (left and colluders < threshold)
    for colluders in range(6):  # one helper is enough: its key takes a while to make
        quick = Settings(threshold=3, key_bits=256, insecure_test_keys=True)
        assert takes_part("paillier", 6, quick, colluders, KEY_HOLDER) == (colluders < 3)


def test_whoever_can_be_subtracted_is_not_hidden_by_any_protocol(sit):
    for protocol in ("plain", "additive"):
        for colluders in range(5):
            assert takes_part(protocol, 5, Settings(), colluders) == (colluders <= 3)
    room = sit("additive", sites=5, demands=Demands(colluders=2)).meet()
    context = room.context(cohort=room.sites[:3])
    with pytest.raises(MisuseError, match="fewer than two are left"):
        room.parties["site-1"].protect(room.vectors["site-1"], context)
    context = room.context(cohort=room.sites[:4])
    assert room.holds(room.add_up(context, room.payloads(context)))


def test_what_is_claimed_of_colluders_is_what_parties_hold_sessions_to():
    for parties in range(3, 9):
        for threshold in range(3, parties + 1):
            for consistency in (False, True):
                settings = Settings(threshold=threshold, consistency=consistency)
                most = most_colluders(settings, parties)
                assert most == active_colluders(parties, threshold)
                if most < 0 and consistency:
                    with pytest.raises(MisuseError, match="protects nobody"):
                        claims.claim("pairwise", parties, settings)
                    assert not takes_part("pairwise", parties, settings, 0)
                    continue
                told = " ".join(claims.claim("pairwise", parties, settings))
                if consistency:
                    assert f"if at most {most} of the sites collude with it; a site that expects more" in told
                else:
                    assert ("may open the numbers of one site alone" in told) == (most < 0)
                told = " ".join(claims.claim("paillier-threshold", parties, settings))
                assert ("may open a sum over two sets of sites" in told) == (most < 0)


def test_a_share_of_a_paillier_key_is_taken_beside_colluders_only_where_everybody_is_in_every_sum():
    for colluders in (None, 0, 1, 2):
        settings = Settings(threshold=5)
        assert takes_part("paillier-threshold", 6, settings, colluders, whole=True)
        assert takes_part("paillier-threshold", 6, settings, colluders, whole=False) == (not colluders)
        assert takes_part("pairwise", 6, settings, colluders, whole=False)


def parts_over_two_sets(sit, demands):
    """One sum, its set told differently to some: what honest sites decrypt parts of, by whom, in one context."""
    room = sit("paillier-threshold", sites=6, threshold=5, demands=demands).meet()
    context = room.context()
    payloads = room.payloads(context)
    decrypted = set()
    for group, left_out in ((FIRST, None), (SECOND, VICTIM)):
        shown = {site: text for site, text in payloads.items() if site != left_out}
        pending = room.collector.combine(shown, context)
        for site in group:
            with suppress(PeerError):
                room.parties[site].assist(pending.requests[site], context)
                decrypted.add(tuple(shown))
    return decrypted


def test_who_demands_the_whole_cohort_decrypts_parts_of_one_product_alone(sit):
    assert parts_over_two_sets(sit, Demands(1, whole=True)) == {(*FIRST, *SECOND)}


def test_the_twin_that_demands_it_not_decrypts_parts_of_two(sit):
    """The broken twin: neither opens, for five are needed, and that these parts tell nothing is not shown."""
    assert len(parts_over_two_sets(sit, Demands(0))) == 2


def test_a_party_that_demands_nothing_takes_part_in_all(sit):
    assert takes_part("pairwise", 6, Settings(threshold=3), None)
    assert takes_part("paillier-threshold", 6, Settings(threshold=3), None)
    with pytest.raises(MisuseError, match="below zero"):
        Demands(colluders=-1)


def split_room(room):
    """One party's vector, opened alone: half the room is told that it is present, the other half that it is not.

    The aggregator then holds a threshold of shares of both its secrets. Every message is one a party answers.
    """
    names, context, roster = room.sites, room.context(), room.table.roster
    payloads = room.payloads(context)
    near = {name: tuple(other for other in names if other != name) for name in names}
    read = {
        name: Payload.read(
            open_message(roster, b"payload", name, context.digest, payloads[name]), name, context, near[name]
        )
        for name in names
    }
    told = {name: names if name in FIRST else near[VICTIM] for name in names}
    said = {}
    if room.settings.consistency:
        for name in names:
            asked = Request(Leg.AGREE, told[name], {}, {}).pack(names)
            rest = memoryview(room.parties[name].assist(asked, context))[1:-64]
            said[name] = read_set_boxes(rest, name, told[name], names)
    shares = {}
    for group in (FIRST, SECOND):
        for name in group:
            grants = {peer: room.collector._grants[0, peer].boxes[name] for peer in near[name]}
            boxes = {peer: read[peer].boxes[name] if peer in told[name] else grants[peer] for peer in near[name]}
            shown = {other: said[other][name] for other in group if other in said and other != name}
            reply = room.parties[name].assist(Request(Leg.RELEASE, told[name], shown, boxes).pack(names), context)
            body = open_message(roster, b"reply", name, context.digest, reply)
            for peer, share in Reply.read(body, name, names, names).shares.items():
                shares.setdefault((peer, peer in told[name]), {})[names.index(name) + 1] = share
    seed = shamir.combine(shares[VICTIM, True], 3)
    secret, book = shamir.combine(shares[VICTIM, False], 3), room.collector._room.book(context)
    seeds = room.collector._opened(VICTIM, secret, near[VICTIM], book, context.round)
    vector = ring.from_bytes(read[VICTIM].masked, 3, 2).copy()
    pairs = pair_mask_keys(seeds, VICTIM, context).values()
    ring.mask_into(vector, [], [*pairs, self_mask_key(seed, VICTIM, context)])  # the victim's name comes first
    return vector


@pytest.mark.parametrize("consistency", [False, True])
def test_the_twin_that_demands_nothing_has_its_vector_opened_alone(sit, consistency):
    room = sit("pairwise", sites=6, threshold=3, consistency=consistency).meet()
    assert np.array_equal(split_room(room), room.vectors[VICTIM])


@pytest.mark.parametrize("consistency", [False, True])
def test_under_that_threshold_a_party_that_reckons_with_the_aggregator_alone_takes_no_part(sit, consistency):
    with pytest.raises(MisuseError, match="2 \\* 3 > 6 \\+ 0 does not hold"):
        sit("pairwise", sites=6, threshold=3, consistency=consistency, demands=Demands(colluders=0))


def over_two_sets(room):
    """One Paillier sum opened over everybody, and again without the victim, each by one half of the room."""
    context = room.context()
    payloads = room.payloads(context)
    totals = []
    for group, left_out in ((FIRST, None), (SECOND, VICTIM)):
        shown = {site: text for site, text in payloads.items() if site != left_out}
        pending = room.collector.combine(shown, context)
        assert isinstance(pending, Pending)
        totals.append(room.collector.open(pending, room.ask(pending, silent=set(room.sites) - set(group))))
    return totals


def test_the_twin_that_demands_nothing_opens_one_paillier_sum_over_two_sets(sit):
    room = sit("paillier-threshold", sites=6, threshold=3).meet()
    everybody, without = over_two_sets(room)
    both = ring.total_of([without.vector, room.vectors[VICTIM]], 3, 2)
    assert np.array_equal(everybody.vector, both)


def test_under_that_threshold_nobody_deals_a_key_or_takes_a_share_of_one(sit):
    with pytest.raises(MisuseError, match="2 \\* 3 > 6 \\+ 1 does not hold"):
        sit("paillier-threshold", sites=6, threshold=3, demands=Demands(colluders=1, whole=True))
