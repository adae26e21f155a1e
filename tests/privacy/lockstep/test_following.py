"""Sites in lock-step: they run the agreed algorithm themselves, answer its next question, and believe nothing.

Real sites on grounds of their own, with the default policy, led by the honest aggregator over a federation that
changes one thing. Beside each refusal a twin in which one check was taken out.
"""

import dataclasses

import numpy as np
import pytest

from protocols import totals
from protocols.masking.pairwise_collector import PairwiseCollector
from protocols.secure_sum import MisuseError, PeerError
from protocols.secure_sum import Total as Opened
from protocols.verified import Checks
from secirls.aggregator import rounds
from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.ledger import Meter
from secirls.agreement.order import Place, Task
from secirls.agreement.record import query_digest
from secirls.algorithms import arithmetic
from secirls.algorithms.groundwork.census import PresenceQuery
from secirls.algorithms.query import Total
from secirls.carriers.local import LocalFederation
from secirls.input_error import InputError
from secirls.numerics.regression.information import Information
from secirls.site.follower import Follower, Run
from secirls.site.grounds.policy import RefusalError
from secirls.site.in_common import Apart
from secirls.site.site import Site

LATE = 7
"""The round that a deviating aggregator chooses; in the midst of an honest fit."""


class Deviating(LocalFederation):
    """Carries what an aggregator asks, but for what ``change(verb, place, arguments)`` makes of it."""

    def __init__(self, parties, change):
        super().__init__(parties)
        self.change, self.calls, self.honest = change, {}, super().ask

    def ask(self, verb, arguments):
        place = self.calls[verb] = self.calls.get(verb, -1) + 1
        return self.honest(verb, self.change(self, verb, place, dict(arguments)))


def unchanged(federation, verb, place, arguments):
    return arguments


def fit(grounds, config, change=unchanged, names=None):
    """What a fit ends with: an `Outcome` or an exception; and the federation."""
    parties = {name: Site(grounds.place(name), config, own_process=False) for name in names or grounds.names}
    federation = Deviating(parties, change)
    try:
        *_, end = lead(Task(config, "fit-1"), federation)
    except Exception as error:  # noqa: BLE001 - whatever ended the fit is looked at
        end = error
    return end, federation


@pytest.fixture
def four(lay):
    return lay(samples=40, genes=14, seed=4)


@pytest.fixture
def settings(four, lead):
    def made(**changes):
        return lead.config(four, **{"preset": "irls", **changes})

    return made


def numbers(end):
    assert isinstance(end, Outcome), end
    return end.fitted.state.beta.tobytes(), [told.kind for told in end.rounds]


# What travels.


def test_sites_are_told_totals_and_no_question(four, settings):
    seen = []

    def listen(federation, verb, place, arguments):
        seen.extend((verb, given) for given in arguments.values())
        return arguments

    end, _ = fit(four, settings(), listen)
    asked = [given[0] for verb, given in seen if verb == "contribute"]
    assert asked
    assert {len(question) for question in asked} == {32}
    assert len([1 for verb, _ in seen if verb == "hear"]) == len(asked) == 4 * len(end.rounds)


@pytest.mark.parametrize("preset", [pytest.param("irls", marks=pytest.mark.slow), "deseq2"])
def test_no_more_bytes_come_down_to_a_site_than_it_sends_up(four, settings, preset):
    end, _ = fit(four, settings(preset=preset))
    by_site = {name: [0, 0] for name in four.names}
    for row in end.rows:
        if row.party in by_site and row.round >= 0:
            by_site[row.party][0] += row.bytes_up
            by_site[row.party][1] += row.bytes_down
    for name, (up, down) in by_site.items():
        assert 0 < down <= up, (name, up, down)


def test_every_round_is_the_one_of_sites_that_trust(four, settings):
    followed, _ = fit(four, settings(preset="deseq2"))
    trusting, _ = fit(four.trust(), settings(preset="deseq2", trust_aggregator=True))
    assert numbers(followed) == numbers(trusting)
    assert any(row.verb == "follow" for row in followed.rows)
    assert not any(row.verb == "follow" for row in trusting.rows)


# Another question.


def another_question(federation, verb, place, arguments):
    """In a late round everybody is asked by the digest of another legal question."""
    if verb == "contribute" and place == LATE:
        question = query_digest(PresenceQuery(np.ones(14, dtype=bool)))
        return {name: (question, *rest) for name, (_, *rest) in arguments.items()}
    return arguments


def whole_question(federation, verb, place, arguments):
    """In a late round everybody is sent a whole question, as sites that trust are."""
    if verb == "contribute" and place == LATE:
        question = PresenceQuery(np.ones(14, dtype=bool)).to_bytes()
        return {name: (question, *rest) for name, (_, *rest) in arguments.items()}
    return arguments


@pytest.mark.parametrize("change", [another_question, whole_question])
def test_a_question_that_is_not_the_next_is_refused_in_a_sentence(four, settings, change):
    end, _ = fit(four, settings(), change)
    assert isinstance(end, PeerError), end
    assert "aggregator: asks site1 something else than the agreed algorithm does, which asks" in str(end)
    assert str(end).endswith("genes: it deviates, or one of the two machines computes otherwise (so site1 says)")


def test_the_twin_that_takes_any_question_answers_it(four, settings, monkeypatch):
    """Without the comparison the site is still asked nothing but its own question: it never reads the other."""
    monkeypatch.setattr(Follower, "meant", lambda follower, digest: follower.asked)
    end, _ = fit(four, settings(), another_question)
    honest, _ = fit(four, settings())
    assert numbers(end) == numbers(honest)


def test_a_question_is_answered_once(four, settings):
    """Asked again under another number, before its total is told: off the record, say."""
    beside = {}

    def again(federation, verb, place, arguments):
        if verb == "contribute" and place == LATE:
            answers = federation.honest(verb, arguments)
            repeated = {name: (given[0], 900, *given[2:]) for name, given in arguments.items()}
            beside.update(federation.honest(verb, repeated))
            assert not any(isinstance(answer, Exception) for answer in answers.values())
        return arguments

    fit(four, settings(), again)
    assert {type(answer) for answer in beside.values()} == {MisuseError}
    assert "answers nothing before it is told the total" in str(beside["site1"])


def test_nothing_is_answered_after_the_end(four, settings):
    end, federation = fit(four, settings())
    assert isinstance(end, Outcome)
    given = (bytes(32), 901, 0, four.names)
    answers = federation.honest("contribute", dict.fromkeys(four.names, given))
    assert all("has ended, and nothing is asked after it" in str(answer) for answer in answers.values())


# Another total.


def lies(change, at=LATE):
    """Tell everybody a total that was changed, in the form in which true ones are told."""

    def told(federation, verb, place, arguments):
        if verb != "hear" or place != at:
            return arguments
        (total, number, attempt, parties), *_ = arguments.values()
        site = federation._desks["site1"].party
        vector = totals.unpack_total(total, site._contexts[number, attempt][0])
        lie = totals.pack_total(change(vector.copy()))
        return dict.fromkeys(arguments, (lie, number, attempt, parties))

    return told


def bent(vector):
    """One integer is larger by one."""
    vector[0, 0] += np.uint64(1)
    return vector


def scaled(vector):
    """Everything doubled, check values too."""
    low, high = vector[:, 0].copy(), vector[:, 1].copy()
    vector[:, 1] = (high << np.uint64(1)) | (low >> np.uint64(63))
    vector[:, 0] = low << np.uint64(1)
    return vector


@pytest.mark.parametrize("at", [0, 1, LATE])
@pytest.mark.parametrize("change", [bent, scaled])
def test_a_total_that_is_not_the_sum_is_not_followed(four, settings, change, at):
    end, federation = fit(four, settings(), lies(change, at))
    assert isinstance(end, PeerError)
    assert "tells a total that is not the sum of what was sent" in str(end)
    assert federation.calls["contribute"] == at


def steering(monkeypatch):
    """An aggregator whose sum of a late round is what it likes, for itself too: its questions follow from that."""
    honest = PairwiseCollector.open

    def opened(collector, pending, replies):
        outcome = honest(collector, pending, replies)
        if isinstance(outcome, Opened) and pending.context.round == LATE:
            vector = outcome.vector.copy()
            vector[:14, 1] += np.uint64(3)
            outcome = dataclasses.replace(outcome, vector=vector)
        return outcome

    monkeypatch.setattr(PairwiseCollector, "open", opened)


def test_an_aggregator_that_lies_to_itself_too_steers_nobody(four, settings, monkeypatch):
    steering(monkeypatch)
    end, federation = fit(four, settings())
    assert isinstance(end, PeerError)
    assert "tells a total that is not the sum of what was sent" in str(end)
    assert federation.calls["contribute"] == LATE


def test_the_twin_that_checks_nothing_answers_what_the_lie_leads_to(four, settings, monkeypatch):
    honest, _ = fit(four, settings())
    steering(monkeypatch)
    monkeypatch.setattr(Checks, "verify", lambda *_: None)
    end, federation = fit(four, settings())
    assert federation.calls["contribute"] > LATE
    assert numbers(end) != numbers(honest)


def test_another_set_of_sites_is_not_believed(four, settings):
    """The total as it is, said to be over fewer: the next threshold would be another."""

    def fewer(federation, verb, place, arguments):
        if verb == "hear" and place == LATE:
            return {name: (*given[:3], given[3][:3]) for name, given in arguments.items()}
        return arguments

    end, _ = fit(four, settings(), fewer)
    assert isinstance(end, PeerError)
    assert "over other sites than it answered with" in str(end)


def test_a_total_is_heard_once(four, settings):
    twice = {}

    def again(federation, verb, place, arguments):
        if verb == "contribute" and place == LATE:
            twice.update(federation.honest("hear", federation.last))
        if verb == "hear":
            federation.last = dict(arguments)
        return arguments

    end, _ = fit(four, settings(), again)
    assert isinstance(end, Outcome), end
    assert {str(answer) for answer in twice.values()} == {
        f"site {name} was told a total that it does not wait for" for name in four.names
    }


# Rules, ends and machines.


def test_a_session_that_trusts_is_refused_by_the_default_policy(four, settings):
    end, _ = fit(four, settings(trust_aggregator=True))
    assert isinstance(end, RefusalError)
    assert str(end) == "site 'site1': its policy refuses: require_lock_step is true"


def test_plain_is_no_lock_step(four, settings):
    four.rule('protocols = ["plain"]')
    end, _ = fit(four, settings(protocol="plain"))
    assert isinstance(end, RefusalError)
    assert "require_lock_step" in str(end)


def test_sites_sign_the_end_and_another_end_is_told_by_name(four, settings, monkeypatch):
    end, _ = fit(four, settings())
    assert isinstance(end, Outcome)

    class Elsewhere(Site):
        """Signs that the fit ended in another state."""

        def hear(self, *given):
            answer = super().hear(*given)
            return dataclasses.replace(answer, message=answer.message[::-1])

    config = settings()
    parties = {name: Site(four.place(name), config, own_process=False) for name in four.names}
    parties["site2"] = Elsewhere(four.place("site2"), config, own_process=False)
    with pytest.raises(PeerError, match=r"^site2: head is not signed"):
        list(lead(Task(config, "fit-2"), LocalFederation(parties)))
    monkeypatch.setattr(rounds, "read_head", lambda *_: None)
    *_, end = lead(Task(config, "fit-2"), LocalFederation({name: again(p, config) for name, p in parties.items()}))
    assert isinstance(end, Outcome)


def again(party, config):
    return type(party)(Place(party.name, party._place.ground), config, own_process=False)


def test_who_computes_otherwise_is_named_before_anything_is_asked(four, settings, monkeypatch):
    """One machine's logarithm is off by a bit, say: its digest of the common problem is another."""
    other = Site.survey

    def survey(site):
        facts = other(site)
        return dataclasses.replace(facts, arithmetic=bytes(32)) if site.name == "site3" else facts

    monkeypatch.setattr(Site, "survey", survey)
    end, federation = fit(four, settings())
    assert isinstance(end, InputError)
    assert str(end).startswith("site 'site3': computes otherwise than the aggregator's machine")
    assert set(federation.calls) == {"survey", "key"}


def test_a_site_agrees_to_no_other_arithmetic(four, settings, lead):
    room = lead.room(four, trust_aggregator=False).survey()
    room.agreement = dataclasses.replace(room.agreement, arithmetic=bytes(32))
    with pytest.raises(MisuseError, match="its machine computes otherwise than was agreed"):
        room.join()


def test_the_common_problem_asks_of_every_stage_and_notices_a_last_bit(monkeypatch):
    kinds, honest = [], arithmetic.agreed_fit

    def noted(*given):
        total = None
        algorithm = honest(*given)
        while True:
            try:
                query = next(algorithm) if total is None else algorithm.send(total)
            except StopIteration as stop:
                return stop.value
            kinds.append(query.kind)
            total = yield query

    monkeypatch.setattr(arithmetic, "agreed_fit", noted)
    usual = arithmetic.arithmetic_digest.__wrapped__()
    assert usual == arithmetic.arithmetic_digest()
    assert {"census", "normalised", "profile", "irls", "outliers", "replace_outliers"} <= set(kinds)

    def last_bit(*given):
        algorithm = honest(*given)
        query = next(algorithm)
        while True:
            total = yield query
            if query.kind == "irls":
                total = Total(
                    {**total.arrays, "xtwz": np.nextafter(total["xtwz"], np.inf)}, total.parties, total.cohort
                )
            try:
                query = algorithm.send(total)
            except StopIteration as stop:
                return stop.value

    monkeypatch.setattr(arithmetic, "agreed_fit", last_bit)
    assert arithmetic.arithmetic_digest.__wrapped__() != usual


def test_the_digest_of_arithmetic_is_of_what_is_known_without_asking_too(monkeypatch):
    usual, honest = arithmetic.arithmetic_digest(), Information.at

    def last_bit(self, *given, **how):
        found, known = honest(self, *given, **how)
        return np.nextafter(found, np.inf), known

    monkeypatch.setattr(Information, "at", last_bit)
    assert arithmetic.arithmetic_digest.__wrapped__() != usual


def test_the_follower_waits_for_totals_it_asked_for():
    run = Run(PresenceQuery(np.ones(3, dtype=bool)) for _ in range(2))
    follower = Follower("site1", run, b"", Apart(), Meter(1))
    with pytest.raises(MisuseError, match="waits for no total"):
        follower.follow(Total({}, (), ()), b"")
