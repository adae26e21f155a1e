"""Every site falls silent at every leg: the exact sum over the stated set, or a refusal that says why."""

import itertools
from typing import get_args

import numpy as np
import pytest

from protocols import run
from protocols.primitives import ring
from protocols.secure_sum import KEY_HOLDER, DropoutError, MisuseError
from protocols.sessions.settings import Settings
from protocols.table import Leg

LEGS = get_args(Leg)
REFUSALS = (DropoutError, MisuseError)


def names(sites):
    return [f"site-{number}" for number in range(1, sites + 1)]


def vectors_for(sites):
    entropy = run.tape("dropouts")
    return {site: ring.expand(entropy(site)(32), 3, 2) for site in names(sites)}


def outcome(protocol, sites, silent, settings):
    """The parties whose exact sum was opened, or the refusal. A wrong value fails here."""
    vectors = vectors_for(sites)
    try:
        total = run.secure_sum(protocol, vectors, settings, silent=silent)
    except REFUSALS as refusal:
        return refusal
    exact = ring.total_of((vectors[party] for party in total.parties), 3, 2)
    assert np.array_equal(total.vector, exact)
    return total.parties


def without(sites, *gone):
    return tuple(name for name in names(sites) if name not in gone)


def pairwise_expectation(sites, leg, threshold, gone):
    """What must happen when the sites in ``gone`` fall silent at a leg; ``None`` is a refusal."""
    left = sites - len(gone)
    if leg in {"hello", "grant"} or left < threshold:
        return None
    return without(sites, *gone) if leg == "payload" else without(sites)


@pytest.mark.parametrize("consistency", [False, True])
@pytest.mark.parametrize("sites", [2, 3, 4, *(pytest.param(sites, marks=pytest.mark.slow) for sites in (5, 6))])
def test_pairwise_opens_whatever_the_threshold_allows_and_refuses_the_rest(sites, consistency):
    for threshold in range(2 if sites == 2 else 3, sites + 1):
        settings = Settings(threshold=threshold, rounds_per_batch=1, allow_two=sites == 2, consistency=consistency)
        for leg, gone in itertools.product(LEGS, names(sites)):
            got = outcome("pairwise", sites, {leg: [gone]}, settings)
            expected = pairwise_expectation(sites, leg, threshold, [gone])
            if expected is None:
                assert isinstance(got, REFUSALS), (threshold, leg, gone)
            else:
                assert got == expected, (threshold, leg, gone)


def test_pairwise_survives_losses_on_both_legs_of_a_sum():
    settings = Settings(threshold=3, rounds_per_batch=1)
    for early, late in itertools.permutations(names(5), 2):
        for leg in ("request", "reply"):
            got = outcome("pairwise", 5, {"payload": [early], leg: [late]}, settings)
            assert got == without(5, early)
    refused = outcome("pairwise", 5, {"payload": ["site-1"], "reply": ["site-2", "site-3"]}, settings)
    assert isinstance(refused, DropoutError)
    assert (refused.present, refused.threshold) == (2, 3)


def test_pairwise_survives_any_two_of_six():
    settings = Settings(threshold=4, rounds_per_batch=1)
    for gone in itertools.combinations(names(6), 2):
        assert outcome("pairwise", 6, {"payload": gone}, settings) == without(6, *gone)


@pytest.mark.parametrize("sites", [3, 4, 6])
def test_additive_refuses_any_silence_and_names_it(sites):
    for leg, gone in itertools.product(LEGS, names(sites)):
        got = outcome("additive", sites, {leg: [gone]}, Settings())
        assert isinstance(got, REFUSALS)
        assert gone in str(got)


@pytest.mark.parametrize("consistency", [False, True])
@pytest.mark.parametrize("sites", [3, 4, 6])
def test_a_lean_sum_refuses_any_silence_names_it_and_asks_nobody_for_help(sites, consistency):
    settings = Settings(threshold=3, consistency=consistency)
    for leg, gone in itertools.product(LEGS, names(sites)):
        got = outcome("pairwise-lean", sites, {leg: [gone]}, settings)
        if leg in {"request", "reply"}:
            assert got == without(sites)
            continue
        assert isinstance(got, REFUSALS)
        assert gone in str(got)


@pytest.mark.parametrize("gone", [[], ["site-4"]])
def test_a_later_batch_of_a_lean_session_is_met_by_everybody_or_not_at_all(gone):
    table = run.sit_down("pairwise-lean", names(4), Settings(threshold=3, rounds_per_batch=2))
    run.meet(table)
    vectors = vectors_for(4)
    context = run.context_of(table, vectors["site-1"], round_=2)
    with pytest.raises(MisuseError, match="batch 1"):
        run.add_up(table, vectors, context)
    table.silent = {"hello": gone}
    if gone:
        with pytest.raises(DropoutError) as caught:
            run.meet(table, batch=1)
        assert caught.value.silent == ("site-4",)
        return
    run.meet(table, batch=1)
    assert run.add_up(table, vectors, context).parties == without(4)


@pytest.mark.parametrize("sites", [3, 4])
def test_plain_sums_whoever_answers(sites):
    for leg, gone in itertools.product(LEGS, names(sites)):
        got = outcome("plain", sites, {leg: [gone]}, Settings())
        if leg == "hello":
            assert isinstance(got, MisuseError)
        elif leg in {"grant", "payload"}:
            assert got == without(sites, gone)
        else:
            assert got == without(sites)


@pytest.mark.parametrize("threshold", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_paillier_opens_the_exact_sum_or_refuses(tables, threshold):
    for leg, gone in itertools.product(("payload", "request", "reply"), (*names(4), KEY_HOLDER)):
        table, round_ = tables.seated("paillier", 4, threshold=threshold)
        vectors = vectors_for(4)
        table.silent = {leg: [gone]}
        try:
            total = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=round_))
        except REFUSALS:
            assert threshold == 4 or gone == KEY_HOLDER
            continue
        assert threshold == 3
        assert total.parties == (without(4, gone) if leg == "payload" else without(4))
        assert np.array_equal(total.vector, ring.total_of((vectors[party] for party in total.parties), 3, 2))


def test_a_later_round_goes_on_without_the_lost_site(tables):
    table, round_ = tables.seated("pairwise", 4, threshold=3)
    vectors = vectors_for(4)
    table.silent = {"payload": ["site-2"]}
    first = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=round_))
    table, round_ = tables.seated("pairwise", 4, threshold=3)
    second = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], first.parties, round_))
    assert second.parties == first.parties == without(4, "site-2")
    assert np.array_equal(first.vector, second.vector)


def test_a_later_batch_can_be_met_without_the_lost_site():
    settings = Settings(threshold=3, rounds_per_batch=2)
    table = run.sit_down("pairwise", names(4), settings)
    run.meet(table)
    vectors = vectors_for(4)
    with pytest.raises(MisuseError, match="batch 1"):
        run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=2))
    table.silent = {"hello": ["site-4"]}
    run.meet(table, batch=1)
    context = run.context_of(table, vectors["site-1"], without(4, "site-4"), 2)
    assert run.add_up(table, vectors, context).parties == without(4, "site-4")
    with pytest.raises(MisuseError, match="site-4"):
        table.parties["site-1"].protect(vectors["site-1"], run.context_of(table, vectors["site-1"], round_=3))


def test_a_batch_below_the_threshold_is_not_met():
    table = run.sit_down("pairwise", names(4), Settings(threshold=3, rounds_per_batch=1))
    run.meet(table)
    table.silent = {"hello": ["site-3", "site-4"]}
    with pytest.raises(DropoutError) as caught:
        run.meet(table, batch=1)
    assert caught.value.silent == ("site-3", "site-4")


def test_a_sum_survives_a_loss_as_long_as_its_batch_is_the_newest_or_the_one_before():
    """Nobody goes back further, and what would help there is let go."""
    vectors = vectors_for(4)
    table = run.sit_down("pairwise", names(4), Settings(threshold=3, rounds_per_batch=2))
    for batch in range(3):
        run.meet(table, batch)
    table.silent = {"payload": ["site-2"]}
    exact = ring.total_of((vectors[party] for party in without(4, "site-2")), 3, 2)
    for round_ in (2, 5):
        total = run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=round_))
        assert np.array_equal(total.vector, exact)
    with pytest.raises(DropoutError, match="silent: site-2; 3 answered, 4 are needed"):
        run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=1))
    table.silent = {}
    assert run.add_up(table, vectors, run.context_of(table, vectors["site-1"], round_=0)).parties == tuple(names(4))
