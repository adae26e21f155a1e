"""A site that dies, breaks or sends nonsense at any leg is silent: then the fit stops, or goes on without it."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from protocols.choice import helpers
from protocols.secure_sum import DropoutError, PeerError
from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.faults import PartyFaultError, SilentSitesError
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.inputs.datasets import write_simulated
from secirls.outputs.report.disclosure import statements
from secirls.site.helper import Helper
from secirls.site.site import Answer, Site

SITES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="session")
def five_sites(tmp_path_factory):
    """Five sites of six simulated samples over 40 genes, by name."""
    import anndata

    paths = write_simulated(tmp_path_factory.mktemp("five"), sites=5, samples=30, genes=40, seed=3)
    return {name: anndata.read_h5ad(path) for name, path in zip(SITES, paths.values(), strict=True)}


def die(answer):
    return None


def break_down(answer):
    raise KeyError("patient 12345")


def flip(answer):
    message = bytearray(answer.message)
    message[len(message) // 2] ^= 1
    return dataclasses.replace(answer, message=bytes(message))


def cut(answer):
    return dataclasses.replace(answer, message=answer.message[:40])


def other_things(answer):
    return {"message": answer.message}


def no_bytes(answer):
    return Answer("bytes", answer.costs)


WAYS = [die, flip, other_things, *(pytest.param(way, marks=pytest.mark.slow) for way in (break_down, cut, no_bytes))]


class Spoiled(LocalFederation):
    """A local federation in which one party misbehaves at one call of a verb, and what it was asked afterwards."""

    def __init__(self, parties, who, verb, call, way):
        super().__init__(parties)
        self.who, self.verb, self.call, self.way = who, verb, call, way
        self.calls = Counter()
        self.asked_of_who = []

    def ask(self, verb, arguments):
        answers = super().ask(verb, arguments)
        self.calls[verb] += 1
        if self.who in arguments:
            self.asked_of_who.append((verb, self.calls[verb]))
        if verb == self.verb and self.calls[verb] == self.call and self.who in answers:
            try:
                changed = self.way(answers.pop(self.who))
            except KeyError as error:
                changed = PartyFaultError(self.who, verb, type(error).__name__)
            if changed is not None:
                answers[self.who] = changed
        return answers


def config(protocol="pairwise", **changes):
    options = {
        "design": "~ condition",
        "preset": "irls",
        "protocol": protocol,
        "kernel": "numpy",
        "min_contributors": 1,
    }
    keys = {"key_bits": 512, "insecure_test_keys": True} if protocol == "paillier" else {}
    return Config(**{"consistency": False, **options, **keys, **changes})


def run(sites, settings, who="c", verb="none", call=0, way=die):
    parties = {name: Site(Place(name, source), settings) for name, source in sites.items()}
    parties |= {name: Helper(name, settings) for name in helpers(settings.protocol)}
    federation = Spoiled(parties, who, verb, call, way)
    events = []
    error = None
    try:
        events.extend(lead(Task(settings, "test"), federation))
    except Exception as raised:  # noqa: BLE001 - whatever ended the fit is looked at
        error = raised
    return events, error, federation


def outcome_of(events):
    assert isinstance(events[-1], Outcome)
    return events[-1]


def records(events):
    return [event for event in events if isinstance(event, Record)]


@pytest.fixture(scope="session")
def undisturbed(five_sites):
    events, error, _ = run(five_sites, config("plain"))
    assert error is None
    return events


LATE = 8
"""A round in which IRLS is under way."""


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("protocol", "verb"), [("pairwise", "contribute"), ("pairwise", "assist"), ("pairwise-lean", "contribute")]
)
def test_the_default_is_to_stop_and_open_nothing_more(five_sites, undisturbed, protocol, verb, way):
    events, error, _ = run(five_sites, config(protocol), verb=verb, call=LATE, way=way)
    assert isinstance(error, SilentSitesError | PartyFaultError | PeerError)
    assert "c" in str(error)
    assert "12345" not in str(error)
    kept = records(events)
    assert len(kept) == LATE - 1
    for mine, theirs in zip(kept, records(undisturbed), strict=False):
        assert mine.query == theirs.query
        assert all(np.array_equal(mine.arrays[name], theirs.arrays[name]) for name in theirs.arrays)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("verb", ["contribute", "assist"])
def test_where_agreed_the_fit_goes_on_without_it_for_good(five_sites, verb, way):
    settings = config(on_dropout="continue")
    events, error, federation = run(five_sites, settings, verb=verb, call=LATE, way=way)
    assert error is None
    outcome = outcome_of(events)
    lost = [told for told in outcome.rounds if told.lost]
    assert [(told.round, told.lost[0][0]) for told in lost] == [(LATE - 1, "c")]
    # Before its payload it is not in that round's sum; after it, it is.
    assert ("c" in lost[0].parties) == (verb == "assist")
    assert all("c" in told.parties for told in outcome.rounds[: LATE - 1])
    assert all(told.parties == ("a", "b", "d", "e") for told in outcome.rounds[LATE:])
    assert len(outcome.rounds) > LATE
    assert federation.asked_of_who[-1] == (verb, LATE)
    assert "c" not in federation.sites
    text = " ".join(statements(settings, outcome, "local"))
    assert f"Disclosure: in round {LATE - 1} site c" in text
    assert "Every sum is over all" not in text


def test_sums_after_a_dropout_are_over_the_survivors_exactly(five_sites):
    settings = config(on_dropout="continue")
    spoiled, _, _ = run(five_sites, settings, verb="contribute", call=LATE)
    plain, _, _ = run(five_sites, settings.model_copy(update={"protocol": "plain"}), verb="contribute", call=LATE)
    for mine, theirs in zip(records(spoiled), records(plain), strict=True):
        assert mine.told.parties == theirs.told.parties
        assert all(np.array_equal(mine.arrays[name], theirs.arrays[name]) for name in theirs.arrays)


@pytest.mark.parametrize(
    ("verb", "call"), [("contribute", LATE), pytest.param("assist", 2 * LATE - 1, marks=pytest.mark.slow)]
)
def test_paillier_goes_on_too(five_sites, verb, call):
    few = {name: site[:, :6].copy() for name, site in five_sites.items()}
    events, error, _ = run(few, config("paillier", on_dropout="continue"), verb=verb, call=call, way=flip)
    assert error is None
    assert outcome_of(events).rounds[-1].parties == ("a", "b", "d", "e")


def test_additive_shares_lose_nobody(five_sites):
    events, error, _ = run(five_sites, config("additive", on_dropout="continue"), verb="contribute", call=LATE)
    assert isinstance(error, DropoutError)
    assert error.silent == ("c",)
    assert len(records(events)) == LATE - 1


@pytest.mark.parametrize(
    ("verb", "rule"),
    [("survey", "abort"), ("join", "abort"), ("hello", "abort"), ("meet", "abort"), ("survey", "continue")],
)
def test_a_session_starts_with_everyone(five_sites, verb, rule):
    events, error, _ = run(five_sites, config(on_dropout=rule), verb=verb, call=1)
    assert error is not None
    assert "c" in str(error)
    assert not records(events)


@pytest.mark.parametrize(
    ("protocol", "verb"),
    [
        pytest.param(
            protocol,
            verb,
            marks=[] if protocol == "pairwise" or (protocol, verb) == ("paillier", "meet") else [pytest.mark.slow],
        )
        for protocol in ("plain", "additive", "pairwise", "paillier")
        for verb in ("hello", "meet", "greet", "take")
    ],
)
def test_where_agreed_it_begins_anew_without_who_falls_silent_before_it_stands(five_sites, protocol, verb):
    few = {name: site[:, :6].copy() for name, site in five_sites.items()}
    events, error, federation = run(few, config(protocol, on_dropout="continue"), verb=verb, call=1)
    assert error is None
    outcome = outcome_of(events)
    assert outcome.sites == federation.sites == ("a", "b", "d", "e")
    assert all(told.parties == outcome.sites for told in outcome.rounds)
    assert [told.lost[0][0] for told in outcome.rounds if told.lost] == ["c"]


@pytest.mark.parametrize("call", [1, 3, 5])
def test_before_irls_every_sum_is_over_the_same_sites(five_sites, call):
    events, error, _ = run(five_sites, config(on_dropout="continue"), verb="contribute", call=call)
    assert isinstance(error, SilentSitesError)
    assert len(records(events)) == call - 1


@pytest.mark.parametrize(
    "protocol", ["pairwise", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "additive"))]
)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("verb", ["hello", "meet"])
def test_a_site_may_fall_silent_between_two_batches_of_keys(five_sites, verb, way, protocol):
    if (protocol, verb) in (("plain", "meet"), ("additive", "meet")) and way in (flip, cut):
        pytest.skip("a message of no bytes has none to change")
    settings = config(protocol, on_dropout="continue", rounds_per_batch=LATE)
    events, error, _ = run(five_sites, settings, verb=verb, call=2, way=way)
    assert error is None
    rounds = outcome_of(events).rounds
    assert all("c" in told.parties for told in rounds[:LATE])
    assert all("c" not in told.parties for told in rounds[LATE:])
    assert [told.lost[0][0] for told in rounds if told.lost] == ["c"]
    assert len(rounds) > LATE


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("protocol", "verb"), [("pairwise", "hello"), ("pairwise-lean", "hello"), ("pairwise-lean", "meet")]
)
def test_a_bad_hello_stops_a_fit_that_may_not_shrink(five_sites, protocol, verb, way):
    events, error, _ = run(five_sites, config(protocol, rounds_per_batch=LATE), verb=verb, call=2, way=way)
    assert error is not None
    assert "c" in str(error)
    assert len(records(events)) == LATE


def test_an_accusation_puts_out_nobody_but_who_makes_it(five_sites):
    """The broken twin of a bad hello: a site that says another's good one is bad."""

    class Accused(Spoiled):
        def ask(self, verb, arguments):
            answers = super().ask(verb, arguments)
            if verb == "meet" and self.calls[verb] == 2:
                answers["a"] = PeerError("c", "hello is not signed by the roster's key for this sum")
            return answers

    for rule in ("continue", "abort"):
        settings = config(on_dropout=rule, rounds_per_batch=LATE)
        federation = Accused(
            {name: Site(Place(name, source), settings) for name, source in five_sites.items()}, "c", "none", 0, die
        )
        if rule == "continue":
            *_, outcome = lead(Task(settings, "test"), federation)
            assert [lost for told in outcome.rounds for lost, _ in told.lost] == ["a"]
            assert federation.sites == ("b", "c", "d", "e")
        else:
            with pytest.raises(PeerError, match=r"^c: hello is not signed .* \(so a says\)$"):
                list(lead(Task(settings, "test"), federation))
            assert "c" in federation.sites


def test_below_the_threshold_nothing_opens(five_sites):
    events, error, _ = run(
        five_sites, config(on_dropout="continue", threshold=5), verb="contribute", call=LATE, way=die
    )
    assert isinstance(error, DropoutError)
    assert len(records(events)) == LATE - 1


def test_a_silent_key_holder_ends_the_fit_under_either_rule(five_sites):
    few = {name: site[:, :6].copy() for name, site in five_sites.items()}
    settings = config("paillier", on_dropout="continue")
    _, error, _ = run(few, settings, who="key-holder", verb="assist", call=2 * LATE, way=die)
    assert isinstance(error, SilentSitesError)
    assert error.silent == ("key-holder",)


def test_a_site_asked_for_another_cohort_refuses(five_sites):
    """What a curious aggregator would do: drop a site that is there, or take one back."""
    from secirls.aggregator.rounds import SecureRounds

    class Curious(SecureRounds):
        def _sum(self, query, context):
            if context.round == LATE:
                smaller = tuple(name for name in self._cohort if name != "c")
                self._cohort = smaller
                context = dataclasses.replace(context, cohort=smaller)
            return super()._sum(query, context)

    import secirls.aggregator.aggregator as room

    honest, room.SecureRounds = room.SecureRounds, Curious
    try:
        _, error, _ = run(five_sites, config())
    finally:
        room.SecureRounds = honest
    assert "other sites than were agreed" in str(error)
