"""A party takes no Paillier key shorter than it demands, whatever the settings allow."""

from dataclasses import replace

import pytest

from protocols.choice import make_party
from protocols.encryption import paillier
from protocols.primitives.keys import Identity
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.secure_sum import KEY_DEALER, KEY_HOLDER, MisuseError, PeerError
from protocols.sessions.demands import Demands
from protocols.sessions.session import Roster
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d")
HELPERS = {"paillier": KEY_HOLDER, "paillier-threshold": KEY_DEALER}
PAILLIER = pytest.mark.parametrize("protocol", HELPERS)
SHORT = Settings(key_bits=256, insecure_test_keys=True)
LONG_ENOUGH = Demands(key_bits=3072)


def made(protocol, who, settings, demands):
    names = (*SITES, HELPERS[protocol])
    identities = {name: Identity(name.encode().ljust(32, b".")) for name in names}
    roster = Roster({name: identity.public for name, identity in identities.items()})
    return make_party(protocol, who, identities[who], roster, settings, demands=demands)


@PAILLIER
@pytest.mark.parametrize("bits", [256, 512, 2048])
def test_a_session_under_a_shorter_key_is_refused_by_site_and_helper_before_there_is_one(monkeypatch, protocol, bits):
    def searched(*_):
        raise AssertionError("a key was made")

    monkeypatch.setattr(paillier, "make_key", searched)
    settings = replace(SHORT, key_bits=bits)
    for who in ("a", HELPERS[protocol]):
        with pytest.raises(MisuseError, match=f"key of {bits} bits is shorter than the 3072"):
            made(protocol, who, settings, LONG_ENOUGH)


@PAILLIER
def test_a_key_as_long_as_demanded_is_fine(protocol):
    assert made(protocol, "a", Settings(), LONG_ENOUGH).me == "a"
    assert made(protocol, "a", replace(SHORT, key_bits=512), Demands(key_bits=512)).me == "a"


def test_a_helper_cannot_announce_a_shorter_key_than_the_settings_say(sit):
    """The other half: the settings' length is what demands are held against, so it must be the announced key's."""
    room = sit("paillier", demands=Demands(key_bits=512))
    shorter = make_key(448, room.parties[KEY_HOLDER]._seat.entropy).public.to_bytes()
    hellos = {name: party.hello() for name, party in room.parties.items()}
    hellos[KEY_HOLDER] = room.parties[KEY_HOLDER]._seat.hello(0, shorter)
    for site in room.sites:
        with pytest.raises(PeerError, match="public key") as caught:
            room.parties[site].meet(hellos)
        assert caught.value.sender == KEY_HOLDER


def test_a_dealer_cannot_either(sit):
    room = sit("paillier-threshold", demands=Demands(key_bits=512))
    body = room.parties[KEY_DEALER]
    hellos = {name: party.hello() for name, party in room.parties.items()}
    hellos[KEY_DEALER] = body._seat.hello(0, body._body[: 32 + 56 * (1 + len(room.sites))])
    for site in room.sites:
        with pytest.raises(PeerError) as caught:
            room.parties[site].meet(hellos)
        assert caught.value.sender == KEY_DEALER


@pytest.mark.parametrize("protocol", ["plain", "additive", "pairwise"])
def test_other_protocols_have_no_key_to_be_too_short(sit, protocol):
    room = sit(protocol, demands=LONG_ENOUGH).meet()
    context = room.context()
    assert room.holds(room.add_up(context, room.payloads(context)))


@PAILLIER
def test_the_twin_that_demands_nothing_meets_under_a_key_of_256_bits(sit, protocol):
    room = sit(protocol, key_bits=256).meet()
    context = room.context()
    assert room.holds(room.add_up(context, room.payloads(context)))
