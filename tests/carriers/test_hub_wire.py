"""What travels between a hub and its parties: typed, the same on both ends, and never code."""

import pickle
from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.secure_sum import Context, DropoutError, IntegrityError, MisuseError, PeerError, SecureSumError
from secirls.agreement.agreement import Agreement, Facts
from secirls.agreement.faults import BlockedPartyError, PartyFaultError, SilentSitesError
from secirls.agreement.ledger import Cost
from secirls.algorithms.query import QueryError
from secirls.carriers.hub import wire
from secirls.carriers.hub.wire import Failure, Question, Reply, Sign, Turn, Welcome, WireError, read
from secirls.input_error import InputError, complain
from secirls.inputs.formulas.levels import Variable
from secirls.site.desk import SPOKEN, VERBS
from secirls.site.grounds.policy import RefusalError
from secirls.site.site import Answer
from secirls.whole_file import UnwritableError

SAID = {"condition": Variable(numeric=False, levels=("control", "treated")), "age": Variable(numeric=True)}
AGREEMENT = Agreement(
    config_digest="0" * 64,
    sites=("a", "b", "c"),
    roster={"a": bytes(32), "b": bytes(32)},
    said={"a": SAID, "b": SAID},
    genes_digest=bytes(32),
    genes=("g1", "g2"),
)
CONTEXT = Context(bytes(32), 1, 0, ("a", "b", "c"), bytes(32), 7, 2)
FACTS = Facts("a", "a.h5ad", bytes(32), ("g1", "g2"), SAID, simulated=False, data=b"d", arithmetic=b"a")
ANSWER = Answer(b"payload", (Cost("protect", 0.5, 0.25, 7, 3),))

GIVEN = {
    "look": (),
    "join": (AGREEMENT,),
    "meet": ({"a": b"1", "b": b"2"}, 0),
    "take": ({"a": b"1"}, b"2"),
    "contribute": (b"query", 3, 0, ("a", "b", "c")),
    "assist": (b"request", 3, 0),
    "hear": (b"total", 3, 0, ("a", "b", "c")),
    "remind": (b"query", b"total", ("a",), ("a", "b")),
}
ANSWERED = {"look": None, "survey": FACTS, "key": b"k", "join": b"digest", "prepare": (3, 9), "contribute": ANSWER}


def test_every_verb_of_a_desk_can_be_asked_and_no_other():
    assert set(wire.ARGUMENTS) == VERBS
    for verb, told in product(("open", "__init__", "_opened", ""), ((), None)):
        with pytest.raises(WireError):
            wire.arguments_from(verb, wire.packed(told), helper=False)


@pytest.mark.parametrize("verb", GIVEN)
def test_what_is_asked_arrives_as_it_was(verb):
    AGREEMENT.digest  # noqa: B018 - worked out before it travels, it stays behind
    assert wire.arguments_from(verb, wire.arguments_to_bytes(GIVEN[verb]), helper=False) == GIVEN[verb]


def test_a_helper_is_told_which_sum_it_helps_to_open():
    given = (b"request", CONTEXT)
    assert wire.arguments_from("assist", wire.arguments_to_bytes(given), helper=True) == given
    with pytest.raises(WireError):
        wire.arguments_from("assist", wire.arguments_to_bytes(given), helper=False)


@pytest.mark.parametrize("verb", ANSWERED)
def test_what_is_answered_arrives_as_it_was(verb):
    answer = wire.answer_of("a", verb, Reply(1, wire.packed(ANSWERED[verb])))
    assert answer == ANSWERED[verb]
    assert type(answer) is type(ANSWERED[verb])


@pytest.mark.parametrize(
    "error",
    [
        RefusalError("site 'a': refuses"),
        UnwritableError("file 'x': can't be written"),
        InputError("is wrong"),
        QueryError("query"),
        MisuseError("you erred"),
        IntegrityError("impossible"),
        SecureSumError("root"),
        PeerError("b", "sent nonsense"),
        PartyFaultError("a", "join", "KeyError"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_party_raises_arrives_as_it_was(error):
    heard = wire.answer_of("a", "join", Reply(1, failure=read(Failure, wire.packed(wire.failure_of(error)))))
    assert type(heard) is type(error)
    assert str(heard) == str(error)


@pytest.mark.parametrize(
    "error", [DropoutError(("b",), 2, 3), SilentSitesError(1, ("b",)), BlockedPartyError("a", "x", "b")]
)
def test_what_a_party_can_t_say_of_itself_is_a_sentence_or_its_own_fault(error):
    heard = wire.answer_of("a", "join", Reply(1, failure=wire.failure_of(error)))
    assert type(heard) in (SecureSumError, PartyFaultError)
    assert type(heard) is PartyFaultError or str(heard) == str(error)
    assert isinstance(error, (*SPOKEN, PartyFaultError))


def test_the_detail_of_a_mistake_stays_where_it_was_made():
    error = complain("is wrong", site="a", detail="sample 17 has 3 reads")
    assert b"17" not in wire.packed(wire.failure_of(error))
    assert b"17" in wire.packed(error.in_full), "a twin that sent the whole would be seen"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(1, b""),
        Reply(1, wire.packed(7)),
        Reply(1, wire.packed(ANSWER)[:-1]),
        Reply(1, failure=Failure("KeyboardInterrupt", ("x",))),
        Reply(1, failure=Failure("PeerError", ("x",))),
        Reply(1, failure=Failure("InputError", ("x", "y"))),
        Reply(1, failure=Failure("PartyFaultError", ())),
    ],
)
def test_nonsense_is_the_fault_of_who_sent_it(reply):
    heard = wire.answer_of("a", "contribute", reply)
    assert type(heard) is PartyFaultError
    assert heard.given[0] == "a"


KINDS = [Welcome, Question, Reply, Turn, Sign, Failure, Facts, Agreement, Answer, Context]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.binary(max_size=60))
@example(data=b"\x81\xa7session\xa1\xff")  # text that is no UTF-8
@example(data=b"\xdd\xff\xff\xff\xff")
def test_no_bytes_make_anything_but_a_message_or_an_error(kind, data):
    try:
        made = read(kind, data)
    except WireError:
        return
    assert isinstance(made, kind)


RAN = []


def run():
    RAN.append(True)


class Trap:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return run, ()


def test_a_message_in_which_code_is_packed_is_no_message_and_a_twin_that_unpickles_runs_it():
    RAN.clear()
    trap = pickle.dumps(Trap())
    for kind in KINDS:
        with pytest.raises(WireError):
            read(kind, trap)
    assert not RAN
    pickle.loads(trap)
    assert RAN


def test_messages_are_as_long_as_what_they_carry():
    lengths = [len(wire.packed(Reply(1, bytes(n)))) - n for n in (10, 1_000, 1_000_000)]
    assert max(lengths) < 64
    assert all(one <= other for one, other in pairwise(lengths))
