"""A false share puts nobody out: with shares to spare the sum opens without it, and else no liar is named."""

import pytest

from protocols.masking import pairwise_collector
from protocols.masking.pairwise import PairwiseParty
from protocols.masking.pairwise_collector import PairwiseCollector
from protocols.masking.pairwise_messages import NO_SHARE
from protocols.primitives import shamir
from protocols.primitives.shamir import PRIME, SHARE_BYTES
from protocols.secure_sum import AGGREGATOR, IntegrityError, PeerError, sha256

LIAR, VICTIM = "site-5", "site-2"
BOTH = pytest.mark.parametrize("consistency", [False, True])

OTHER = {
    "another value": lambda share: sha256(b"false", share) + b"\0",
    "no element of the field": lambda share: PRIME.to_bytes(SHARE_BYTES, "little"),
    "nothing but zeros": lambda share: bytes(SHARE_BYTES),
}
WAYS = pytest.mark.parametrize("way", OTHER.values(), ids=OTHER)


def deal_falsely(room, way, victims=(VICTIM,)):
    """From here on the liar deals its victims false shares of whatever it splits, in boxes that open."""
    liar = room.parties[LIAR]
    honest = liar._split

    def split(secrets, those):
        return [
            {party: way(share) if party in victims else share for party, share in shares.items()}
            for shares in honest(secrets, those)
        ]

    liar._split = split


def seal_nonsense(room):
    """From here on the liar's boxes for its victim hold bytes that nobody sealed."""
    liar = room.parties[LIAR]
    honest = liar._channels.seal

    def seal(peer, *arguments):
        box = honest(peer, *arguments)
        return bytes(len(box)) if peer == VICTIM else box

    liar._channels.seal = seal


def played(room, gone=()):
    """One sum of those who have met, without the payloads of who is gone."""
    context = room.context()
    payloads = {site: payload for site, payload in room.payloads(context).items() if site not in gone}
    return room.add_up(context, payloads)


@BOTH
def test_where_all_shares_fit_none_is_told_of(sit, consistency):
    assert played(sit("pairwise", consistency=consistency).meet()).unfit == 0


@BOTH
@WAYS
def test_a_false_share_of_a_seed_puts_nobody_out_and_the_sum_opens(sit, consistency, way):
    room = sit("pairwise", consistency=consistency).meet()
    deal_falsely(room, way)
    total = played(room)
    assert total.parties == room.sites
    assert total.unfit == 1
    assert room.holds(total)
    assert room.fenced == []


@BOTH
@WAYS
def test_a_false_share_of_a_mask_key_puts_nobody_out_and_the_sum_opens(sit, consistency, way):
    room = sit("pairwise", sites=6, consistency=consistency, threshold=4)
    deal_falsely(room, way)
    room.meet()
    total = played(room, gone=[LIAR])
    assert total.parties == tuple(site for site in room.sites if site != LIAR)
    assert room.holds(total)
    assert room.fenced == []


@BOTH
@pytest.mark.parametrize("gone", [(), (LIAR,)], ids=["of its seed", "of its mask key"])
def test_a_box_full_of_nonsense_silences_nobody_but_the_share_in_it(sit, consistency, gone):
    room = sit("pairwise", sites=6, consistency=consistency, threshold=4)
    seal_nonsense(room)
    room.meet()
    total = played(room, gone)
    assert room.holds(total)
    assert total.parties == tuple(site for site in room.sites if site not in gone)
    assert total.unfit == 1
    assert room.fenced == []


def test_who_answers_with_false_shares_of_everybody_puts_nobody_out_either(sit):
    room = sit("pairwise").meet()
    liar = room.parties[LIAR]
    honest = liar._shares_for
    liar._shares_for = lambda *asked: {owner: OTHER["another value"](s) for owner, s in honest(*asked).items()}
    total = played(room)
    assert room.holds(total)
    assert total.unfit == len(room.sites)
    assert room.fenced == []


def test_half_of_the_spare_shares_may_be_false_in_a_room_too_large_to_try_all_ways(sit):
    room = sit("pairwise", sites=24, threshold=16, rounds_per_batch=1).meet()
    deal_falsely(room, OTHER["another value"], victims=room.sites[6:10])
    ways = sum(shamir.comb(24, wrong) for wrong in range(1, 5))
    assert ways > shamir._MOST_TRIALS
    assert room.holds(played(room))
    assert room.fenced == []


@pytest.mark.parametrize("victims", [("site-1", "site-2"), ("site-1", "site-2", "site-3")])
def test_without_enough_to_spare_the_error_says_whose_secret_and_names_no_culprit(sit, victims):
    room = sit("pairwise", threshold=4).meet()
    deal_falsely(room, OTHER["another value"], victims)
    with pytest.raises(IntegrityError, match=f"the secret of {LIAR} can't be put together, and nobody can be shown"):
        played(room)
    assert room.fenced == []


def test_a_seed_that_is_not_the_committed_one_names_no_culprit(sit):
    room = sit("pairwise").meet()
    liar = room.parties[LIAR]
    honest = liar._split
    liar._split = lambda secrets, those: honest([bytes(32) for _ in secrets], those)
    with pytest.raises(IntegrityError, match=f"the secret of {LIAR}"):
        played(room)
    assert room.fenced == []


def test_a_request_that_belongs_to_no_sum_of_the_partys_is_refused(sit):
    room = sit("pairwise").meet()
    first, second = room.context(0), room.context(1)
    asked = {context: room.collector.combine(room.payloads(context), context) for context in (first, second)}
    with pytest.raises(PeerError, match="box from") as caught:
        room.parties[VICTIM].assist(asked[first].requests[VICTIM], second)
    assert caught.value.sender == AGGREGATOR


def test_the_twin_that_names_whoever_holds_the_share_that_does_not_fit_puts_the_honest_one_out(sit, monkeypatch):
    """The broken twin: what a share does not fit is told of its holder, who only passed on what the liar had dealt."""

    def naming(self, owner, shares, accepts):
        threshold = self._room.share_threshold
        secret = shamir.corrected(shares, threshold, accepts)
        for party in self._roster:
            rest = {index: share for index, share in shares.items() if index != self._room.graph.index[party]}
            if not fits(shares, threshold) and fits(rest, threshold):
                raise PeerError(party, f"the share of {owner}'s secret is false")
        return secret

    def fits(shares, threshold):
        points = {index: int.from_bytes(share, "little") for index, share in shares.items()}
        return shamir.fit_one_polynomial(points, threshold)

    monkeypatch.setattr(PairwiseCollector, "_recover", naming)
    room = sit("pairwise", sites=6, threshold=4).meet()
    deal_falsely(room, OTHER["another value"])
    assert room.holds(played(room))
    assert room.fenced == [VICTIM]


def test_the_twin_that_refuses_a_request_with_one_bad_box_lets_a_liar_silence_the_honest(sit, monkeypatch):
    honest = PairwiseParty._shares_for

    def strict(self, asked, waiting, context):
        shares = honest(self, asked, waiting, context)
        if any(share == NO_SHARE for share in shares.values()):
            raise PeerError(AGGREGATOR, "a box of the request does not open")
        return shares

    monkeypatch.setattr(PairwiseParty, "_shares_for", strict)
    room = sit("pairwise", sites=6, threshold=4)
    seal_nonsense(room)
    room.meet()
    with pytest.raises(PeerError, match=AGGREGATOR):
        played(room)


def test_the_twin_that_corrects_nothing_opens_no_sum_beside_one_liar(sit, monkeypatch):
    def uncorrected(shares, threshold, accepts):
        points = {index: int.from_bytes(share, "little") for index, share in shares.items()}
        if not shamir.fit_one_polynomial(points, threshold):
            raise shamir.ShareError("they do not fit")
        return shamir.interpolate(dict(list(points.items())[:threshold])).to_bytes(32, "little"), 0

    monkeypatch.setattr(pairwise_collector.shamir, "corrected", uncorrected)
    room = sit("pairwise").meet()
    deal_falsely(room, OTHER["another value"])
    with pytest.raises(IntegrityError):
        played(room)
