"""A key that protects nothing is its sender's fault, at every end and before anything rests on it."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.masking import mask_keys
from protocols.primitives.keys import SIGNATURE_BYTES, AgreementKey, Identity, can_agree, can_sign
from protocols.secure_sum import KEY_DEALER, MisuseError, PeerError
from protocols.sessions import channels, session
from protocols.sessions.session import Roster, open_message

P = 2**255 - 19
LIAR = "site-5"


def encodings(coordinates):
    """Every way to write these field elements in 32 bytes: beyond the prime, and with a bit that nobody reads."""
    for coordinate in coordinates:
        for written in (coordinate, coordinate + P):
            if written < 2**255:
                yield written.to_bytes(32, "little")
                yield (written | 1 << 255).to_bytes(32, "little")


# RFC 7748 and the curves' equations, not the package's constants: orders 1, 2, 4 by hand, order 8 by doubling.
U_ORDER_8 = [
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]
Y_ORDER_8 = [
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    P - 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
]
USELESS_AGREEMENT = list(encodings([0, 1, P - 1, *U_ORDER_8]))
USELESS_SIGNING = list(encodings([0, 1, P - 1, *Y_ORDER_8]))


def test_every_key_with_which_x25519_gives_nothing_is_found_and_no_other():
    private = AgreementKey(bytes(range(32)))
    for public in USELESS_AGREEMENT:
        with pytest.raises(ValueError):  # the reason is the library's own
            private.agree(public)
        assert not can_agree(public)
    for number in range(100):
        assert can_agree(AgreementKey(bytes([number]) * 32).public)
    assert not can_agree(b"")


def doubled(y, times):
    """The y of a point doubled, from its y alone: y' = (y^2 + x^2) / (2 + x^2 - y^2), and x^2 from the curve."""
    d = -121665 * pow(121666, -1, P) % P
    for _ in range(times):
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        y = (y * y + x2) * pow(2 + x2 - y * y, -1, P) % P
    return y


def test_every_key_under_which_anybody_signs_is_found_and_no_other():
    for public in USELESS_SIGNING:
        y = int.from_bytes(public, "little") % 2**255 % P
        assert doubled(y, 3) == 1, "eight times the point is the neutral one"
        assert not can_sign(public)
    for number in range(100):
        assert can_sign(Identity(bytes([number]) * 32).public)
    assert not can_sign(b"")


def test_a_roster_takes_no_key_that_anybody_can_sign_under():
    for public in USELESS_SIGNING:
        with pytest.raises(MisuseError, match="small order"):
            Roster({"a": Identity(bytes(32)).public, "b": public})


def by_openssl(public, signature, message):
    """As RFC 8032 has it, under any key; the library that verifies for the package refuses these once more."""
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    return True


def test_the_twin_that_takes_one_takes_everybodys_word_for_that_party(monkeypatch):
    monkeypatch.setattr(session, "can_sign", lambda public: True)
    neutral = (1).to_bytes(32, "little")
    roster = Roster({"b": neutral})
    forged = neutral + bytes(32)
    assert len(forged) == SIGNATURE_BYTES
    with pytest.raises(PeerError, match="not signed"):
        open_message(roster, b"payload", "b", bytes(32), b"whatever anybody says" + forged)
    monkeypatch.setattr(session, "verifies", by_openssl)
    assert open_message(roster, b"payload", "b", bytes(32), b"whatever anybody says" + forged)


def refused_everywhere(room, hellos, batch, sender, kind):
    """Every other end refuses these hellos, naming the sender, and says why."""
    for party, end in room.parties.items():
        if party != sender and not (batch and party == KEY_DEALER):
            with pytest.raises(PeerError, match=kind) as caught:
                end.meet(hellos, batch)
            assert caught.value.sender == sender
    with pytest.raises(PeerError, match=kind) as caught:
        room.collector.meet(hellos, {}, batch)
    assert caught.value.sender == sender


def publish_useless(room, public):
    """The liar's hello of batch 1 has this for its mask key."""
    liar = room.parties[LIAR]._mask_keys
    honest = liar.publish
    liar.publish = lambda batch: honest(batch) and (public if batch else honest(batch))


@pytest.mark.parametrize("public", USELESS_AGREEMENT[::3], ids=lambda public: public.hex()[:8])
def test_a_useless_mask_key_is_refused_when_all_meet_and_the_others_go_on(sit, public):
    room = sit("pairwise").meet()
    publish_useless(room, public)
    hellos = {party: end.hello(1) for party, end in room.parties.items()}
    refused_everywhere(room, hellos, 1, LIAR, "mask key of batch 1 is not a usable")
    del hellos[LIAR]
    grants = {party: room.parties[party].meet(hellos, 1) for party in hellos}
    room.collector.meet(hellos, grants, 1)
    context = room.context(4, cohort=hellos)
    total = room.add_up(context, room.payloads(context))
    assert total.parties == tuple(hellos)
    assert room.holds(total)
    assert room.fenced == []


@pytest.mark.parametrize("protocol", ["additive", "pairwise", "paillier-threshold"])
def test_a_useless_channel_key_is_refused_when_all_meet(sit, protocol):
    for public in USELESS_AGREEMENT[:4]:
        room = sit(protocol)
        room.parties[LIAR]._channels.public = public
        hellos = {party: end.hello() for party, end in room.parties.items()}
        refused_everywhere(room, hellos, 0, LIAR, "channel key is not a usable")


def test_a_useless_channel_key_of_the_dealers_is_refused_too(sit):
    room = sit("paillier-threshold")
    room.parties[KEY_DEALER]._channels.public = bytes(32)
    hellos = {party: end.hello() for party, end in room.parties.items()}
    refused_everywhere(room, hellos, 0, KEY_DEALER, "channel key is not a usable")


def test_the_twin_that_looks_at_no_mask_key_breaks_everybody_but_the_liar(sit, monkeypatch):
    """The broken twin: whoever is first to use the key breaks, and a party that breaks is a party that is fenced."""
    monkeypatch.setattr(mask_keys, "can_agree", lambda public: True)
    room = sit("pairwise").meet()
    publish_useless(room, bytes(32))
    hellos = {party: end.hello(1) for party, end in room.parties.items()}
    for party in hellos.keys() - {LIAR}:
        with pytest.raises(ValueError):
            room.parties[party].meet(hellos, 1)


def test_the_twin_that_looks_at_no_channel_key_breaks_instead_of_naming_its_sender(sit, monkeypatch):
    monkeypatch.setattr(channels, "can_agree", lambda public: True)
    room = sit("additive")
    room.parties[LIAR]._channels.public = bytes(32)
    hellos = {party: end.hello() for party, end in room.parties.items()}
    with pytest.raises(ValueError):
        room.parties["site-1"].meet(hellos)
