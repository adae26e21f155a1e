"""What a party says in place of an answer is its own word: it puts out, and blames, nobody else.

Every site is honest but for one, which raises an error of its choice. The twins take any error
for what it says.
"""

import pytest

from protocols.secure_sum import DropoutError, IntegrityError, MisuseError, PeerError, SecureSumError
from secirls.aggregator import asking
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.aggregator.audit import audit
from secirls.aggregator.losses import LeftOutError
from secirls.aggregator.transcript import witnessed
from secirls.agreement.faults import BlockedPartyError, PartyFaultError, SilentSitesError, own_fault
from secirls.agreement.order import Task
from secirls.agreement.past import Begun
from secirls.algorithms.query import QueryError
from secirls.carriers.local import LocalFederation
from secirls.input_error import InputError
from secirls.site.grounds.policy import RefusalError
from secirls.site.site import Site

SITES = ("site1", "site2", "site3", "site4", "site5")
LIAR, BLAMED = "site3", "site1"
WITHOUT = tuple(site for site in SITES if site != BLAMED)
LEFT_OUT = LeftOutError(((BLAMED, "gave no answer to 'survey' in time"),))


class Saying(LocalFederation):
    """A federation whose liar raises an error at a verb, once."""

    def __init__(self, parties, verb, error):
        super().__init__(parties)
        self.verb, self.error = verb, error

    def ask(self, verb, arguments):
        answers = super().ask(verb, arguments)
        if verb == self.verb and self.error is not None:
            answers[LIAR], self.error = self.error, None
        return answers


@pytest.fixture(scope="module")
def five(tmp_path_factory, lead):
    """Five sites on grounds of their own that were in no fit when a test begins."""
    return settled(tmp_path_factory.mktemp("five"), lead)


def settled(folder, lead):
    return lead.settle(folder / "grounds", SITES, samples=50, genes=12, seed=4)


def told(grounds, lead, verb, error):
    config = lead.config(grounds, preset="irls")
    sites = {name: Site(grounds.place(name), config, own_process=False) for name in SITES}
    return lead_fit(Task(config, "fit-1"), Saying(sites, verb, error))


def among(events):
    """Among whom a fit begins."""
    return next(event for event in events if isinstance(event, Begun)).sites


def test_no_site_leaves_another_out(five, lead):
    with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'survey' with an unexpected answer$"):
        among(told(five, lead, "survey", LEFT_OUT))


def test_the_twin_that_takes_any_error_for_its_own_begins_without_an_honest_site(tmp_path, lead, monkeypatch):
    monkeypatch.setattr(asking, "heard", lambda party, verb, error: error)
    assert among(told(settled(tmp_path, lead), lead, "survey", LEFT_OUT)) == WITHOUT


def test_nothing_is_asked_of_fewer_once_another_leaves_one_out(five, lead):
    with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'contribute' with an unexpected answer$"):
        list(told(five, lead, "contribute", LEFT_OUT))


WORDS = {
    "a refusal": RefusalError(f"site {BLAMED!r}: its policy refuses: min_samples is 5"),
    "a mistake": InputError(f"site {BLAMED!r}: holds other data than when the fit began"),
    "a misuse": MisuseError(f"site {BLAMED} was asked for keys of batch 7"),
    "a question": QueryError(f"query 'irls' does not fit {BLAMED}"),
    "a sum": IntegrityError(f"the secret of {BLAMED} can't be put together"),
    "a dropout": DropoutError((BLAMED,), 4, 5),
    "an accusation": PeerError(BLAMED, "sent nonsense"),
}
KINDS = {
    "who is left out": LEFT_OUT,
    "who is silent": SilentSitesError(7, (BLAMED,)),
    "another's fault": PartyFaultError(BLAMED, "contribute", "KeyError"),
    "a fault that blames": PartyFaultError(LIAR, "contribute", f"error of {BLAMED}"),
    "a fault of no kind": PartyFaultError(LIAR, "contribute", 3),
    "of no kind": type(f"{BLAMED} lied", (InputError,), {})("whatever"),
}


@pytest.mark.parametrize(
    ("error", "verb"),
    [*((error, "survey") for error in WORDS.values()), *((error, "hello") for error in WORDS.values())],
    ids=[*WORDS, *(f"{word}, in a session" for word in WORDS)],
)
def test_words_about_another_name_who_says_them(five, lead, error, verb):
    with pytest.raises((InputError, SecureSumError, QueryError)) as ended:
        list(told(five, lead, verb, error))
    assert str(ended.value) == f"{error} (so {LIAR} says)"


@pytest.mark.parametrize(
    ("error", "verb"),
    [*((error, "survey") for error in KINDS.values()), *((error, "hello") for error in KINDS.values())],
    ids=[*KINDS, *(f"{kind}, in a session" for kind in KINDS)],
)
def test_what_no_site_can_say_of_itself_is_its_own_fault(five, lead, error, verb):
    with pytest.raises(PartyFaultError, match=rf"^{LIAR} failed in '{verb}' with an unexpected \w+$"):
        list(told(five, lead, verb, error))


def test_the_twin_that_takes_any_error_for_its_own_blames_an_honest_site(five, lead, monkeypatch):
    monkeypatch.setattr(asking, "heard", lambda party, verb, error: error)
    for error in (WORDS["a refusal"], KINDS["who is silent"], KINDS["another's fault"]):
        with pytest.raises(type(error)) as ended:
            list(told(five, lead, "survey", error))
        assert BLAMED in str(ended.value)
        assert LIAR not in str(ended.value)


@pytest.mark.parametrize(
    "said", [f"site {LIAR!r}: its policy refuses: min_samples is 5", f"site {LIAR}: the census comes first"]
)
def test_what_a_site_says_of_itself_stays_as_it_is(said):
    for kind in (RefusalError, InputError, MisuseError):
        assert str(asking.heard(LIAR, "contribute", kind(said))) == said


def test_a_name_that_begins_like_anothers_is_not_that_one():
    said = RefusalError("site 'site3.b': its policy refuses")
    assert str(asking.heard(LIAR, "survey", said)) == f"{said} (so {LIAR} says)"


def test_nobody_calls_itself_held_up_by_another():
    fault = own_fault(LIAR, "contribute", BlockedPartyError(LIAR, "contribute", BLAMED))
    assert str(fault) == f"{LIAR} failed in 'contribute' with an unexpected BlockedPartyError"


@pytest.mark.parametrize("error", [LEFT_OUT, KINDS["another's fault"], KINDS["of no kind"], WORDS["a dropout"]])
def test_a_transcript_of_it_is_found_in_order(five, lead, tmp_path, error):
    config, record = lead.config(five, preset="irls"), tmp_path / "record"
    sites = {name: Site(five.place(name), config, own_process=False) for name in SITES}
    with pytest.raises((PartyFaultError, SecureSumError)):
        list(witnessed(Task(config, "fit-1", transcript=str(record)), Saying(sites, "hello", error)))
    assert audit(record).findings == []
