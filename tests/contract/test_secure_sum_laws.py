"""The laws of a secure sum, each over every protocol."""

from dataclasses import replace

import numpy as np
import pytest

from protocols import run
from protocols.choice import NAMES, make_party
from protocols.primitives import ring
from protocols.primitives.keys import Identity
from protocols.secure_sum import (
    Context,
    DropoutError,
    MisuseError,
    PeerError,
    SecureSumError,
)
from protocols.sessions.session import Roster

HIDING = [name for name in NAMES if name != "plain"]
ASKS_NOBODY = {"plain", "pairwise-lean"}
"""Their sums need no help once every payload is there."""
OF_EVERYBODY = {"additive", "pairwise-lean"}
"""Their sums are over the whole cohort of the context, or do not open."""
SITES = ("site-1", "site-2", "site-3")


def some_vectors(sites, values=5, limbs=2, label="laws"):
    entropy = run.tape(label)
    return {site: ring.expand(entropy(site)(32), values, limbs) for site in sites}


def exact(vectors, parties):
    return ring.total_of((vectors[party] for party in parties), *next(iter(vectors.values())).shape)


def played(protocol, settings, label="laws", **options):
    """A whole session on a tape: every message in order, and the total."""
    vectors = options.pop("vectors", None) or some_vectors(SITES)
    table = run.sit_down(protocol, SITES, settings, run.tape(label))
    for name, value in options.items():
        setattr(table, name, value)
    run.meet(table)
    return table, run.add_up(table, vectors)


@pytest.mark.parametrize("limbs", [1, 2])
@pytest.mark.parametrize("values", [0, 1, 7, 9001])
def test_the_opened_sum_is_the_ring_sum_over_its_parties(tables, protocol, values, limbs):
    if protocol.startswith("paillier") and values > 100:
        values = 40  # thousands of ciphertexts prove nothing that two do not
    table, round_ = tables.seated(protocol, 3)
    vectors = some_vectors(table.sites, values, limbs)
    total = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=round_))
    assert total.parties == SITES
    assert np.array_equal(total.vector, exact(vectors, total.parties))
    assert total.vector.dtype == np.uint64
    assert total.vector.shape == (values, limbs)


@pytest.mark.parametrize("prg", ["aes-256-ctr", "chacha20"])
@pytest.mark.parametrize("sites", [3, pytest.param(4, marks=pytest.mark.slow), 6])
def test_the_sum_is_exact_for_any_number_of_parties_and_either_keystream(tables, protocol, sites, prg):
    table, round_ = tables.seated(protocol, sites, prg=prg)
    vectors = some_vectors(table.sites)
    total = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=round_))
    assert np.array_equal(total.vector, exact(vectors, total.parties))


def test_two_sites_sum_only_with_the_flag(protocol, test_settings):
    two = {name: np.ones((2, 2), dtype=np.uint64) for name in ("site-1", "site-2")}
    if protocol != "plain":
        with pytest.raises(MisuseError):
            run.secure_sum(protocol, two, test_settings)
    total = run.secure_sum(protocol, two, replace(test_settings, allow_two=True))
    assert total.vector.tolist() == [[2, 2], [2, 2]]


def test_the_total_names_only_senders_and_sums_only_them(tables, protocol):
    table, round_ = tables.seated(protocol, 4, threshold=3)
    vectors = some_vectors(table.sites)
    table.silent = {"payload": ["site-2"]}
    context = run.context_of(table, vectors["site-1"], round_=round_)
    if protocol in OF_EVERYBODY:
        with pytest.raises(DropoutError) as caught:
            run.add_up(table, vectors, context)
        assert caught.value.silent == ("site-2",)
        return
    total = run.add_up(table, vectors, context)
    assert total.parties == ("site-1", "site-3", "site-4")
    assert np.array_equal(total.vector, exact(vectors, total.parties))


def test_a_context_is_protected_once(tables, protocol):
    table, round_ = tables.seated(protocol, 3)
    vectors = some_vectors(table.sites)
    context = run.context_of(table, vectors["site-1"], round_=round_)
    run.add_up(table, vectors, context)
    with pytest.raises(MisuseError):
        table.parties["site-1"].protect(vectors["site-1"], context)


def test_a_party_never_answers_two_different_requests_for_one_context(tables, protocol):
    table, round_ = tables.seated(protocol, 4, threshold=3)
    vectors = some_vectors(table.sites)
    context = run.context_of(table, vectors["site-1"], round_=round_)
    payloads = {site: table.parties[site].protect(vectors[site], context) for site in table.sites}
    first = table.collector.combine(payloads, context)
    requests = dict(first.requests)
    if protocol in ASKS_NOBODY:
        assert not requests
        with pytest.raises(PeerError):
            table.parties["site-1"].assist(b"", context)
        return
    reply = table.parties["site-1"].assist(requests["site-1"], context)
    if protocol not in OF_EVERYBODY:
        second = table.collector.combine({site: payloads[site] for site in table.sites[:3]}, context)
        other = second.requests["site-1"]
    else:
        other = requests["site-2"]
    assert other != requests["site-1"]
    with pytest.raises(SecureSumError):
        table.parties["site-1"].assist(other, context)
    try:
        again = table.parties["site-1"].assist(requests["site-1"], context)
    except SecureSumError:
        return
    assert again == reply


def test_a_payloads_length_says_nothing_about_the_vector(tables, protocol):
    lengths = set()
    for fill in (0, 1, 2**64 - 1):
        table, round_ = tables.seated(protocol, 3)
        vector = np.full((6, 2), fill, dtype=np.uint64)
        context = run.context_of(table, vector, round_=round_)
        lengths.add(len(table.parties["site-1"].protect(vector, context)))
    assert len(lengths) == 1


def test_given_its_random_bytes_every_message_is_reproducible(protocol, test_settings):
    settings = replace(test_settings, rounds_per_batch=2)
    first, _ = played(protocol, settings)
    again, _ = played(protocol, settings)
    assert first.messages == again.messages
    other, _ = played(protocol, settings, label="another tape")
    assert first.collector.session != other.collector.session


def test_a_context_is_of_this_session_this_party_and_this_shape(tables, protocol):
    table, round_ = tables.seated(protocol, 4)
    vector = np.zeros((3, 2), dtype=np.uint64)
    party = table.parties["site-1"]
    good = run.context_of(table, vector, round_=round_)
    foreign = Context(bytes(32), round_, 0, good.cohort, good.layout, 3)
    without = run.context_of(table, vector, ("site-2", "site-3", "site-4"), round_=round_)
    unknown = run.context_of(table, vector, (*table.sites, "stranger"), round_=round_)
    alone = run.context_of(table, vector, ("site-1",), round_=round_)
    pair = run.context_of(table, vector, ("site-1", "site-2"), round_=round_)
    for context in (foreign, without, unknown, alone, pair):
        with pytest.raises(MisuseError):
            party.protect(vector, context)
    for misshapen in (np.zeros((2, 2), np.uint64), np.zeros((3, 1), np.uint64), np.zeros((3, 2))):
        with pytest.raises(MisuseError):
            party.protect(misshapen, good)
    party.protect(vector, good)


def test_nobody_speaks_before_everybody_has_met(protocol, test_settings):
    table = run.sit_down(protocol, SITES, test_settings)
    for end in (*table.parties.values(), table.collector):
        with pytest.raises(MisuseError, match="met"):
            _ = end.session
    context = Context(bytes(32), 0, 0, SITES, bytes(32), 1)
    with pytest.raises(MisuseError):
        table.parties["site-1"].protect(np.zeros((1, 2), np.uint64), context)


def test_a_payload_from_outside_the_cohort_is_refused_by_name(tables, protocol):
    table, round_ = tables.seated(protocol, 4, threshold=3)
    vectors = some_vectors(table.sites)
    cohort, stranger = (table.sites, "site-5") if protocol == "pairwise-lean" else (SITES, "site-4")
    context = run.context_of(table, vectors["site-1"], cohort, round_=round_)
    payloads = {site: table.parties[site].protect(vectors[site], context) for site in cohort}
    with pytest.raises(PeerError) as caught:
        table.collector.combine({**payloads, stranger: payloads["site-1"]}, context)
    assert caught.value.sender == stranger


def test_a_cohort_may_be_smaller_than_the_roster(tables, protocol):
    table, round_ = tables.seated(protocol, 4, threshold=3)
    vectors = some_vectors(table.sites)
    if protocol == "pairwise-lean":
        context = run.context_of(table, vectors["site-1"], SITES, round_=round_)
        for refuse in (
            lambda: table.parties["site-1"].protect(vectors["site-1"], context),
            lambda: table.collector.combine({}, context),
        ):
            with pytest.raises(MisuseError, match="without site-4 does not open"):
                refuse()
        return
    total = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], SITES, round_=round_))
    assert total.parties == SITES
    assert np.array_equal(total.vector, exact(vectors, SITES))


def test_a_party_needs_the_rosters_key(protocol, test_settings):
    identities = {name: Identity(bytes([number]) * 32) for number, name in enumerate(SITES, 1)}
    roster = Roster({name: identity.public for name, identity in identities.items()})
    with pytest.raises(MisuseError, match="roster"):
        make_party(protocol, "site-1", identities["site-2"], roster, test_settings)
    with pytest.raises(MisuseError, match="roster"):
        make_party(protocol, "site-9", identities["site-2"], roster, test_settings)


def test_parties_with_other_settings_do_not_meet(protocol, test_settings):
    ours = run.sit_down(protocol, SITES, test_settings, run.tape("a"))
    theirs = run.sit_down(protocol, SITES, replace(test_settings, configuration="ff"), run.tape("a"))
    hellos = {name: party.hello() for name, party in ours.parties.items()}
    hellos["site-2"] = theirs.parties["site-2"].hello()
    with pytest.raises(PeerError) as caught:
        ours.parties["site-1"].meet(hellos)
    assert caught.value.sender == "site-2"
    with pytest.raises(PeerError):
        ours.collector.meet(hellos, {})


def test_a_session_starts_with_its_whole_roster(protocol, test_settings):
    table = run.sit_down(protocol, SITES, test_settings)
    hellos = {name: table.parties[name].hello() for name in table.parties if name != "site-3"}
    with pytest.raises(MisuseError, match="site-3"):
        table.parties["site-1"].meet(hellos)
    with pytest.raises(MisuseError, match="site-3"):
        table.collector.meet(hellos, {})


def test_an_open_needs_this_protocols_own_pending_sum(tables, protocol):
    table, round_ = tables.seated(protocol, 3)
    vectors = some_vectors(table.sites)
    context = run.context_of(table, vectors["site-1"], round_=round_)
    payloads = {site: table.parties[site].protect(vectors[site], context) for site in table.sites}
    pending = table.collector.combine(payloads, context)
    with pytest.raises(PeerError) as caught:
        table.collector.open(pending, {"stranger": b""})
    assert caught.value.sender == "stranger"


def test_nobody_answering_is_a_dropout(tables, protocol):
    table, round_ = tables.seated(protocol, 3)
    vector = np.zeros((1, 2), np.uint64)
    with pytest.raises(DropoutError) as caught:
        table.collector.combine({}, run.context_of(table, vector, round_=round_))
    assert caught.value.silent == SITES


@pytest.mark.parametrize("name", HIDING)
def test_what_stays_at_a_party_cannot_be_pickled_or_read(tables, name):
    import pickle

    table, _ = tables.seated(name, 3)
    for party in table.parties.values():
        assert repr(party).count(" ") == 0
        with pytest.raises(TypeError, match="process"):
            pickle.dumps(party)
