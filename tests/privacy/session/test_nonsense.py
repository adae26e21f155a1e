"""Nonsense at the verbs of a site or helper ends in one of its own errors: nothing else, no answer, and nothing kept.

An error of any other kind would silence the party (`secirls.site.desk`) and tell that something broke inside.
"""

from dataclasses import make_dataclass, replace

import pytest

from protocols.choice import helpers
from protocols.secure_sum import Context, MisuseError
from secirls.agreement.faults import PartyFaultError
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.site import arguments
from secirls.site.desk import SPOKEN, Desk
from secirls.site.helper import Helper
from secirls.site.site import Site

COHORT = ("site1", "site2", "site3", "site4")
BEFORE = {
    "join": [(None,), (b"",), ({},)],
    "hello": [(0,)],
    "meet": [({}, 0)],
    "greet": [()],
    "deal": [({},)],
    "take": [({}, b"")],
    "contribute": [(b"", 0, 0, COHORT)],
    "recall": [(b"",)],
    "assist": [(b"", 0, 0)],
    "hear": [(b"", 0, 0, COHORT)],
    "remind": [(b"", b"", COHORT, COHORT)],
}
AFTER = {
    "join": BEFORE["join"],
    "hello": [(-1,), (1 << 70,), (2,), ("x",), (None,), ([],), (0.5,)],
    "meet": [({}, 0), ({}, 1), ({"site1": b""}, 1), (None, 1), ({"site1": None}, 1), ({}, "x"), ({}, 1 << 70), (7, [])],
    "greet": [],
    "deal": [({},), (None,), (dict.fromkeys(COHORT, b""),), (dict.fromkeys(COHORT),)],
    "take": [({}, b""), (None, None), (dict.fromkeys(COHORT, b""), b""), (dict.fromkeys(COHORT, 5), 5)],
    "contribute": [
        (b"", 1, 0, COHORT),
        (None, 1, 0, COHORT),
        ("text", 1, 0, COHORT),
        (b"CENSUS", 1, 0, None),
        (b"CENSUS", 1, 0, 7),
        (b"CENSUS", 1, 0, ()),
        (b"CENSUS", 1, 0, ("site1", 5, None)),
        (b"CENSUS", 1, 0, ("site1", ["site2"], "site3", "site4")),
        (b"CENSUS", 1, 0, list(COHORT)),
        (b"CENSUS", 1, 0, COHORT[::-1]),
        (b"CENSUS", 1, 0, (*COHORT, "site4")),
        (b"CENSUS", 1, 0, COHORT[1:]),
        (b"CENSUS", -1, 0, COHORT),
        (b"CENSUS", 1 << 70, 0, COHORT),
        (b"CENSUS", "x", 0, COHORT),
        (b"CENSUS", [], 0, COHORT),
        (b"CENSUS", 1, -1, COHORT),
        (b"CENSUS", 1, None, COHORT),
        (b"CENSUS", 0.5, 0, COHORT),
    ],
    "recall": [(b"",), (None,), (7,)],
    "assist": [
        (b"", 0, 0),
        (None, 0, 0),
        (b"x" * 200, 0, 0),
        (b"", 5, 0),
        (b"", [], 0),
        (b"", None, None),
        (b"", "x", 0),
    ],
    "hear": [
        *((*given, COHORT) for given in [(b"", 0, 0), (None, 0, 0), (b"x" * 200, 0, 0), (7, 0, 0), (b"", [], 0)]),
        (b"", 9, 9, COHORT),
        (b"", 0, 0, None),
        (b"", 0, 0, ()),
        (b"", 0, 0, (5, b"site1")),
        (b"", 0, 0, COHORT[::-1]),
    ],
    "remind": [
        *((b"", total, COHORT, COHORT) for total in (b"", None, 7)),
        *((b"CENSUS", total, COHORT, COHORT) for total in (b"", None, bytes(8 * 69))),
        (b"CENSUS", bytes(8 * 69), None, COHORT),
        (b"CENSUS", bytes(8 * 69), COHORT, 7),
    ],
}
SUM = Context(bytes(32), 0, 0, COHORT, bytes(32), 3)
LOOKALIKE = make_dataclass("Context", [*vars(SUM), "digest", "members"])(
    **vars(SUM), digest=bytes(32), members={*COHORT}
)
TO_A_HELPER = {
    "join": BEFORE["join"],
    "hello": [(-1,), (1 << 70,), ("x",), (None,), ([],), (0.5,)],
    "meet": [({}, 0), (None, 0), ({"site1": None}, 0), ({5: b""}, 0), ({}, "x"), ({}, 1 << 70), (7, [])],
    "assist": [
        (b"", SUM),
        (None, SUM),
        (7, SUM),
        (b"", None),
        (b"", b""),
        (b"", LOOKALIKE),
        (b"", replace(SUM, round=0.5)),
        (b"", replace(SUM, session="x" * 32)),
        (b"", replace(SUM, values=2.5)),
    ],
}
FITTING = {
    name: [(verb, given) for verb, many in table.items() for given in many]
    for name, table in {"before": BEFORE, "after": AFTER, "helper": TO_A_HELPER}.items()
}


def named(case):
    return f"{case[0]}{case[1]!r}"[:60]


def census(room):
    design = room.agreement.design(room.config)
    return CensusQuery(room.every, len(design.columns), len(design.groups)).to_bytes()


@pytest.fixture(scope="module")
def met(tmp_path_factory, lead):
    """A room in which the census was contributed to and is not opened yet."""
    room = lead.room(lead.settle(tmp_path_factory.mktemp("met") / "grounds")).open()
    design = room.agreement.design(room.config)
    _, _, room.sent = room.payloads(CensusQuery(room.every, len(design.columns), len(design.groups)))
    return room


@pytest.mark.parametrize("case", FITTING["before"], ids=named)
def test_before_a_session_nonsense_ends_in_a_sentence(grounds, lead, case):
    verb, given = case
    site = Site(grounds.place("site1"), lead.config(grounds), own_process=False)
    with pytest.raises(SPOKEN):
        getattr(site, verb)(*given)
    site.survey()
    with pytest.raises(SPOKEN):
        getattr(site, verb)(*given)


@pytest.mark.parametrize("case", FITTING["after"], ids=named)
def test_in_a_session_nonsense_ends_in_a_sentence(met, case):
    verb, given = case
    given = tuple(census(met) if part == b"CENSUS" else part for part in given)
    for name in ("site1", "site2"):  # who deals the seed, and who takes it
        with pytest.raises(SPOKEN):
            getattr(met.sites[name], verb)(*given)


@pytest.fixture(scope="module", params=["paillier", "paillier-threshold"])
def helper(request, tmp_path_factory, lead):
    """A helper that has joined and met nobody yet."""
    beside = helpers(request.param)
    grounds = lead.settle(tmp_path_factory.mktemp(request.param) / "grounds", beside=beside)
    grounds.rule(f'protocols = ["{request.param}"]\nmin_key_bits = 0')
    room = lead.room(grounds, protocol=request.param, key_bits=512, insecure_test_keys=True)
    return room.survey().join().helpers[beside[0]]


@pytest.mark.parametrize("case", FITTING["helper"], ids=named)
def test_nonsense_at_a_helper_ends_in_a_sentence(helper, case):
    verb, given = case
    with pytest.raises(SPOKEN):
        getattr(helper, verb)(*given)
    with pytest.raises(SPOKEN):
        getattr(Helper(helper.name, helper._config), verb)(*given)


@pytest.mark.parametrize(
    ("kind", "sentence", "good", "bad"),
    [
        ("numbers", "are counted from 0 to 4294967295", [0, 4294967295], [-1, 1 << 32, True, 1.0, "1", None]),
        ("messages", "a message to a party is bytes", [b""], ["", bytearray(b"x"), memoryview(b"x"), None]),
        ("table", "come as a table by name", [{}, {"site1": b""}], [None, [("site1", b"")], {5: b""}, {b"site1": b""}]),
        ("table", "a message to a party is bytes", [], [{"site1": "x"}, {"site1": b"", "site2": None}]),
        ("names", "a cohort is a tuple of names", [(), COHORT], [list(COHORT), "site1", (*COHORT, 5), None]),
        ("context", "a sum is named by its context", [SUM], [None, b"", COHORT, LOOKALIKE]),
        (
            "context",
            "are counted from 0",
            [],
            [replace(SUM, round=0.5), replace(SUM, attempt=0.5), replace(SUM, values=True)],
        ),
        ("context", "a cohort is a tuple of names", [], [replace(SUM, cohort=(b"site1", b"site2"))]),
        (
            "context",
            "a message to a party is bytes",
            [],
            [replace(SUM, session="x" * 32), replace(SUM, layout="x" * 32)],
        ),
    ],
)
def test_what_a_verb_may_be_given_is_looked_at_before_anything_else(kind, sentence, good, bad):
    check = getattr(arguments, kind)
    for given in good:
        check(given)
    for given in bad:
        with pytest.raises(MisuseError, match=sentence) as refused:
            check(given)
        assert repr(given) not in str(refused.value)


def test_no_nonsense_was_answered_or_kept(met):
    for name in ("site1", "site2"):
        assert set(met.sites[name]._contexts) == {(0, 0)}
    assert met.add_up(met.sent, met.contexts[0]).parties == met.names


def test_keys_are_made_of_one_batch_at_a_time(met):
    site = met.sites["site1"]
    site.hello(1)
    with pytest.raises(MisuseError, match="the next is 1"):
        site.hello(2)
    assert site._party._secrets._drawn.keys() == site._party._mask_keys._pairs.keys() == {1}


def test_without_the_bound_keys_of_any_batch_are_made(grounds, lead):
    room = lead.room(grounds).open()
    site = room.sites["site1"]
    for batch in range(5, 15):
        site._batches = batch
        site.hello(batch)
    assert site._party._secrets._drawn.keys() >= set(range(5, 15))


def test_a_desk_says_nothing_of_what_it_has_no_sentence_for():
    class Broken:
        name = "site1"

        def hello(self, batch):
            asked.append(batch)
            raise KeyError("Jane Doe")

        def assist(self, request):
            asked.append(request)

    asked, desk = [], Desk(Broken())
    with pytest.raises(Exception, match="unexpected KeyError") as told:
        desk.ask("hello", 0)
    assert "Jane" not in str(told.value)
    # Nobody learns from asking again, or something else, what it fails over.
    for verb, given in (("hello", 1), ("assist", b"")):
        with pytest.raises(PartyFaultError, match=f"^site1 failed in '{verb}' with an unexpected failure before$"):
            desk.ask(verb, given)
    assert asked == [0]
