"""Keys that move on: what is stolen later opens no earlier sum, and no context has two masked vectors.

A thief has all that one party's process holds, and every message that passed.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from protocols import run
from protocols.masking import pairwise_lean, ratchet
from protocols.masking.ratchet import Ratchet
from protocols.primitives import ring
from protocols.primitives.keys import AgreementKey
from protocols.secure_sum import AGGREGATOR, Context, MisuseError, PeerError
from protocols.sessions.session import Seat
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d")
SETTINGS = Settings(rounds_per_batch=4)
VALUES = 3


def vectors_of(round_):
    return {site: ring.expand(site.encode() * 31 + bytes([round_]), VALUES, 2) for site in SITES}


class Fit:
    """A session of some rounds, of which the aggregator keeps every payload."""

    def __init__(self, settings=SETTINGS, entropy=None):
        self.table = run.sit_down("pairwise-lean", SITES, settings, *([entropy] if entropy else []))
        run.meet(self.table)
        self.payloads, self.contexts = {}, {}

    def play(self, *rounds):
        for round_ in rounds:
            vectors = vectors_of(round_)
            self.contexts[round_] = context = run.context_of(self.table, vectors["a"], round_=round_)
            self.payloads[round_] = {s: self.table.parties[s].protect(vectors[s], context) for s in SITES}
        return self

    def stolen(self, party="b"):
        """The chains that a party's process holds, by batch."""
        return {batch: dict(held._chains) for batch, held in self.table.parties[party]._ratchets.items()}

    def unmasked(self, round_, victim, chains):
        """A payload without the masks that these chains give, if they are those of this round's, or of some before."""
        session, context = self.table.collector.session, self.contexts[round_]
        own = np.array(ring.from_bytes(self.payloads[round_][victim][:-64], VALUES, 2))
        for _ in range(6):
            keys = [(peer, ratchet.mask_key(chain, context)) for peer, chain in chains.items()]
            vector = own.copy()
            plus, minus = ([key for peer, key in keys if (peer < victim) == below] for below in (True, False))
            ring.mask_into(vector, plus, minus)
            yield vector
            chains = {peer: ratchet.next_chain(chain, session) for peer, chain in chains.items()}


def opens(fit, round_, victim, chains):
    vector = vectors_of(round_)[victim]
    return any(np.array_equal(vector, tried) for tried in fit.unmasked(round_, victim, chains))


def test_what_is_stolen_after_a_round_opens_that_round_and_no_earlier_one():
    fit = Fit().play(0, 1)
    (chains,) = fit.stolen().values()
    fit.play(2)
    assert not opens(fit, 0, "b", chains)
    assert not opens(fit, 1, "b", chains)
    assert opens(fit, 2, "b", chains)  # of whom the keys were stolen, as if it colluded from here on


def test_the_twin_whose_ratchet_does_not_move_gives_earlier_rounds_away(monkeypatch):
    monkeypatch.setattr(ratchet, "next_chain", lambda chain, session: chain)
    fit = Fit().play(0, 1)
    (chains,) = fit.stolen().values()
    assert opens(fit, 0, "b", chains)
    assert opens(fit, 1, "b", chains)


def test_the_others_are_hidden_from_who_has_the_stolen_keys():
    fit = Fit().play(0)
    (chains,) = fit.stolen().values()
    fit.play(1)
    for victim in "acd":
        known = {"b": chains[victim]}  # the mask that it shares with the one who was robbed
        assert not opens(fit, 1, victim, known)


def test_a_new_agreement_heals():
    fit = Fit().play(0, 1)
    (chains,) = fit.stolen().values()
    run.meet(fit.table, 1)
    fit.play(4)
    assert not opens(fit, 4, "b", chains)
    assert list(fit.stolen()) == [1]  # and nothing is left of the batch before


@pytest.mark.parametrize("skipped", [0, 2])
def test_no_key_of_a_round_is_left_in_the_process_that_used_it(monkeypatch, skipped):
    made = set()

    def noting(derived):
        return lambda *given: made.add(derived(*given)) or derived(*given)

    for name in ("chain_root", "next_chain", "mask_key"):
        monkeypatch.setattr(ratchet, name, noting(getattr(ratchet, name)))
    fit = Fit().play(0, 1 + skipped)
    held = {bytes(chain) for site in SITES for chains in fit.stolen(site).values() for chain in chains.values()}
    assert len(held) == 6
    assert held < made
    reachable = list(held_by([fit.table.parties]))
    assert {found for found in reachable if isinstance(found, bytes)} & made == held
    assert not [found for found in reachable if isinstance(found, AgreementKey)]
    table = run.sit_down("pairwise-lean", SITES, SETTINGS)
    hellos = [party.hello() for party in table.parties.values()]
    before = [found for found in held_by([table.parties]) if isinstance(found, AgreementKey)]
    assert len(before) == len(hellos)  # which is where it was to be found


def test_the_twin_that_keeps_its_chains_is_caught(monkeypatch):
    honest = Ratchet._move_on

    def hoarding(self):
        self.__dict__.setdefault("_past", []).append(dict(self._chains))
        honest(self)

    monkeypatch.setattr(Ratchet, "_move_on", hoarding)
    with pytest.raises(AssertionError):
        test_no_key_of_a_round_is_left_in_the_process_that_used_it(monkeypatch, 0)


def held_by(roots):
    """All that objects of the protocols hold, however deep."""
    seen, border = set(), list(roots)
    while border:
        here = border.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        yield here
        if isinstance(here, dict):
            border += [*here.keys(), *here.values()]
        elif isinstance(here, (list, tuple, set, frozenset)):
            border += here
        elif type(here).__module__.startswith("protocols"):
            border += vars(here).values() if hasattr(here, "__dict__") else []


# One context, one mask.


def protects(party, vector, context):
    return np.array(ring.from_bytes(party.protect(vector, context)[:-64], VALUES, 2))


def two_in_one_context():
    """What an aggregator learns that asks a party twice in one context, for another vector each time."""
    fit = Fit()
    first, second = vectors_of(0)["a"], vectors_of(1)["a"]
    context = run.context_of(fit.table, first)
    told = protects(fit.table.parties["a"], first, context)
    told_again = protects(fit.table.parties["a"], second, context)
    ring.subtract_into(told, told_again)
    difference = first.copy()
    ring.subtract_into(difference, second)
    return np.array_equal(told, difference)


def test_a_party_that_is_asked_twice_in_one_context_refuses():
    with pytest.raises(MisuseError, match="used up"):
        two_in_one_context()


def test_each_guard_refuses_by_itself(monkeypatch):
    monkeypatch.setattr(Ratchet, "check", lambda *_: None)
    with pytest.raises(MisuseError, match="answered before"):
        two_in_one_context()
    monkeypatch.setattr(Seat, "enter", lambda *_: None)
    assert not two_in_one_context()  # the keys of the first vector are gone


def test_the_twin_that_keeps_the_key_of_a_round_gives_the_difference_away(monkeypatch):
    monkeypatch.setattr(Ratchet, "check", lambda *_: None)
    monkeypatch.setattr(Ratchet, "_move_on", lambda *_: None)
    monkeypatch.setattr(Seat, "enter", lambda *_: None)
    assert two_in_one_context()


def test_no_attempt_and_no_round_that_was_passed_by_is_answered():
    fit = Fit().play(0, 2)
    vector = vectors_of(0)["a"]
    for context in (
        replace(fit.contexts[0], attempt=1),
        replace(fit.contexts[2], attempt=1),
        run.context_of(fit.table, vector, round_=1),
        replace(fit.contexts[2], layout=bytes(32)),
    ):
        with pytest.raises(MisuseError, match="used up"):
            fit.table.parties["a"].protect(vector, context)
    fit.play(3)


def test_a_payload_that_failed_is_not_tried_again(monkeypatch):
    fit = Fit()
    vector = vectors_of(0)["a"]
    context = run.context_of(fit.table, vector)

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(ring, "mask_into", fail)
        with pytest.raises(MemoryError):
            fit.table.parties["a"].protect(vector, context)
    with pytest.raises(MisuseError, match="used up"):
        fit.table.parties["a"].protect(vector, context)


def test_an_ended_process_takes_its_session_along():
    """Keys are in no pickle; and the same identities meet again under other keys."""
    fit = Fit().play(0)
    with pytest.raises(TypeError, match="never leaves"):
        pickle.dumps(fit.table.parties["a"]._ratchets[0])
    first, again = Fit(entropy=run.tape("identities")), Fit(entropy=run.tape("identities"))
    assert first.table.collector.session == again.table.collector.session  # all random bytes set back: no other guard
    resumed = Fit(entropy=fresh_after_the_identity).play(0)
    first.play(0)
    assert resumed.table.roster.digest == first.table.roster.digest
    assert not set(resumed.payloads[0].values()) & set(first.payloads[0].values())


def fresh_after_the_identity(party):
    """The random bytes of a process that was started anew: its identity is the one of before, nothing else is."""
    old, new, drawn = run.tape("identities")(party), run.tape("resumed")(party), []

    def read(count):
        drawn.append(count)
        return old(count) if len(drawn) == 1 else new(count)

    return read


# Processes that were set back.


def set_back_and_asked(change):
    """Two payloads of one party for one vector, the second after its process was set back and told something else."""
    first, again = (Fit(entropy=run.tape("set back")) for _ in range(2))
    vector = vectors_of(0)["a"]
    context = run.context_of(first.table, vector)
    one, other = (
        protects(fit.table.parties["a"], vector, told) for fit, told in ((first, context), (again, change(context)))
    )
    return np.array_equal(one, other)


def another_layout(context):
    return replace(context, layout=b"y" * 32)


def another_attempt(context):
    return replace(context, attempt=1)


@pytest.mark.parametrize("change", [another_layout, another_attempt])
def test_a_party_set_back_and_told_of_another_sum_repeats_no_mask(change):
    assert not set_back_and_asked(change)
    assert set_back_and_asked(lambda context: context)  # the same bytes for the same sum, which tell nothing new


@pytest.mark.parametrize("change", [another_layout, another_attempt])
def test_the_twin_whose_masks_are_of_no_sum_repeats_them(monkeypatch, change):
    monkeypatch.setattr(ratchet, "mask_key", lambda chain, context: chain)
    assert set_back_and_asked(change)


# What an aggregator may ask.


def test_no_help_is_given_and_none_is_needed():
    fit = Fit().play(0)
    assert fit.table.collector.combine(fit.payloads[0], fit.contexts[0]).requests == {}
    for party in fit.table.parties.values():
        with pytest.raises(PeerError, match="none to give") as caught:
            party.assist(b"\1\1", fit.contexts[0])
        assert caught.value.sender == AGGREGATOR


@pytest.mark.parametrize("cohort", [("a", "b"), ("a", "b", "c"), ("a", "c", "d")])
def test_a_set_smaller_than_agreed_is_refused_by_everybody_in_it(cohort):
    fit, vectors = Fit(), vectors_of(0)
    context = run.context_of(fit.table, vectors["a"], cohort)
    for party in cohort:
        with pytest.raises(MisuseError, match="does not open"):
            fit.table.parties[party].protect(vectors[party], context)
    fit.play(0)  # and nothing is used up


def smaller_sum():
    """The exact sum over three of four, where no party looks at whom a context names."""
    fit, vectors = Fit(), vectors_of(0)
    context = run.context_of(fit.table, vectors["a"], ("a", "b", "c"))
    sent = [protects(fit.table.parties[site], vectors[site], context) for site in "abc"]
    return np.array_equal(ring.total_of(sent, VALUES, 2), ring.total_of((vectors[s] for s in "abc"), VALUES, 2))


def test_the_twin_that_does_not_look_masks_for_everybody_all_the_same(monkeypatch):
    monkeypatch.setattr(pairwise_lean.WholeRoom, "check_whole", lambda room, context: room.book(context))
    assert not smaller_sum()


def test_the_twin_that_masks_for_those_in_the_context_opens_a_sum_without_one(monkeypatch):
    honest = Ratchet.take

    def take(self, context):
        return {peer: key for peer, key in honest(self, context).items() if peer in context.members}

    monkeypatch.setattr(pairwise_lean.WholeRoom, "check_whole", lambda room, context: room.book(context))
    monkeypatch.setattr(Ratchet, "take", take)
    assert smaller_sum()


def test_a_payload_of_an_earlier_round_or_session_is_refused_by_name():
    fit, other = Fit().play(0, 1), Fit().play(1)
    for replayed in (fit.payloads[0]["c"], other.payloads[1]["c"]):
        with pytest.raises(PeerError, match="not signed") as caught:
            fit.table.collector.combine({**fit.payloads[1], "c": replayed}, fit.contexts[1])
        assert caught.value.sender == "c"


def test_half_a_room_that_is_told_another_question_opens_nothing(monkeypatch):
    def added_up():
        fit, vectors = Fit(), vectors_of(0)
        contexts = [run.context_of(fit.table, vectors["a"]), another_layout(run.context_of(fit.table, vectors["a"]))]
        sent = [protects(fit.table.parties[s], vectors[s], contexts[s in "cd"]) for s in SITES]
        return np.array_equal(ring.total_of(sent, VALUES, 2), ring.total_of(vectors.values(), VALUES, 2))

    assert not added_up()
    monkeypatch.setattr(ratchet, "mask_key", lambda chain, context: chain)
    assert added_up()  # the twin


def test_a_context_of_a_foreign_session_is_refused():
    fit = Fit()
    vector = vectors_of(0)["a"]
    with pytest.raises(MisuseError, match="another session"):
        fit.table.parties["a"].protect(vector, Context(bytes(32), 0, 0, SITES, bytes(32), VALUES))
