"""What the experiment on layers of distrust books, runs and says."""

import numpy as np
import pandas as pd
import pytest

from experiments.distrust import distrust, distrust_attacks, distrust_figures
from experiments.distrust.distrust_reading import (
    ALL,
    ATTACKS,
    BARE,
    CONSISTENCY,
    LOCK_STEP,
    TRUSTING,
    VERIFIED,
    attack_table,
    by_layer,
    costs,
    proof_ratios,
    ratios,
    stopped,
)

CONFIGURATION = {**distrust.CONFIGURATION, **distrust.QUICK}


@pytest.fixture(scope="module")
def measured():
    """Rows of one small fit with every layer, and of a proof with a key that protects nothing."""
    made = [
        row
        for layers in distrust.LAYERS
        for row in distrust.measure("simulated-60x12x3", 1, "pairwise", layers, 0, CONFIGURATION)
    ]
    return pd.DataFrame([*made, *distrust.prove_and_verify(6, 0, 512)])


def of(rows, layers):
    return rows[(rows["layers"] == layers) & (rows["part"] == "fits")]


def test_layers_are_told_apart_by_what_they_do(measured):
    verbs = {layers: set(of(measured, layers)["verb"]) for layers in distrust.LAYERS}
    assert "follow" in verbs[ALL]
    assert "follow" not in verbs[TRUSTING] | verbs[BARE]
    sent = costs(measured).reset_index().set_index("layers")[["up", "down"]]
    assert sent["down"][ALL] > 2 * sent["down"][TRUSTING]  # every total, not the questions and the census alone
    assert sent["down"][TRUSTING] > sent["down"][BARE]  # the trip of consistency


def test_costs_and_ratios_are_those_of_the_rows(measured):
    whole = {layers: of(measured, layers)["cpu_seconds"].sum() for layers in distrust.LAYERS}
    booked = {
        layers: mine.loc[mine["verb"] != "", "cpu_seconds"].sum()
        for layers in distrust.LAYERS
        for mine in [of(measured, layers)]
    }
    told, layer = ratios(measured).iloc[0], by_layer(measured).iloc[0]
    assert told["whole"] == pytest.approx(whole[ALL] / whole[TRUSTING])
    assert told["booked"] == pytest.approx(booked[ALL] / booked[TRUSTING])
    assert layer[BARE] == pytest.approx(booked[BARE])
    everything, trusting = (of(measured, layers).groupby("verb")["cpu_seconds"].sum() for layers in (ALL, TRUSTING))
    assert layer[LOCK_STEP] == pytest.approx(everything["follow"])
    assert layer[VERIFIED] == pytest.approx(everything["verify"] - trusting["verify"])
    assert layer[VERIFIED] > 0
    assert np.isfinite(layer[CONSISTENCY])
    proof = measured[measured["part"] == "proofs"].set_index("verb")["cpu_seconds"]
    assert proof_ratios(measured)["verify"] == pytest.approx(proof["verify"] / proof["encrypt"])


def test_the_site_that_is_told_most_is_the_one_that_counts(measured):
    per_site = costs(measured).reset_index().set_index("layers")
    for layers in distrust.LAYERS:
        mean = per_site["down"][layers] / per_site["up"][layers]
        assert mean <= per_site["down_per_up"][layers] < 1.1 * mean


TESTS = """
import pytest

def test_holds():
    pass

def test_does_not():
    assert 1 == 2

@pytest.mark.parametrize("case", [1, 2, 3])
def test_holds_but_once(case):
    assert case != 2

@pytest.mark.skip
def test_skipped():
    pass

@pytest.mark.slow
def test_slow():
    pass

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    assert 1 == 2

@pytest.fixture
def broken():
    raise ValueError

def test_cannot_begin(broken):
    pass
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder of tests that end in every way, and its configuration."""
    (tmp_path / "test_ends.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -m 'not slow'\nmarkers =\n    slow: slow\n")
    return tmp_path


def attack(test, twin):
    return distrust_attacks.Attack("a05", "bits", "questions", "test_ends.py", test, twin)


@pytest.mark.slow
def test_an_attack_is_stopped_where_test_and_twin_passed_and_not_otherwise(checkout):
    ends = ["test_holds", "test_does_not", "test_holds_but_once", "test_skipped", "test_slow", "test_expected_to_fail"]
    ends += ["test_cannot_begin", "test_that_is_not_there"]
    pairs = [("test_holds", "test_slow"), ("test_holds", "test_does_not"), ("test_does_not", "test_holds")]
    asked = [attack(*pair) for pair in [*((end, end) for end in ends[:-1]), *pairs]]
    whole = pd.DataFrame(distrust_attacks.run(asked, checkout))
    told, paired = whole.iloc[: len(ends) - 1], whole.iloc[len(ends) - 1 :]
    assert list(told["outcome"]) == ["passed", "failed", "failed", "not run", "passed", "not run", "failed"]
    assert list(stopped(told)) == [True, False, False, False, True, False, False]
    assert list(stopped(paired)) == [True, False, False]
    (gone,) = distrust_attacks.run([attack(*ends[-1:] * 2)], checkout)
    assert (gone["outcome"], gone["twin_outcome"]) == ("not run", "not run")


def test_every_attack_of_the_page_is_planned_once_and_has_a_column():
    told = distrust_attacks.table()
    assert {one.layer for one in told} == set(distrust_figures.LAYERS)
    planned = [one for some in distrust_attacks.by_file(distrust.CONFIGURATION["attacks"]).values() for one in some]
    assert sorted(planned, key=str) == sorted(told, key=str)
    assert all(one.test and one.twin and one.gave for one in told)


def attacks(*outcomes):
    made = (
        {"attack": f"a{number:02}", "gave": "", "layer": layer, "outcome": outcome, "twin_outcome": twin}
        for number, (layer, outcome, twin) in enumerate(outcomes, start=1)
    )
    return pd.DataFrame({"part": ATTACKS, **row} for row in made)


def test_the_answer_says_which_attacks_were_not_stopped_and_which_bars_are_missed(measured):
    some = attacks(("rules", "passed", "passed"), ("audit", "passed", "failed"), ("rules", "failed", "passed"))
    said = distrust.answer(pd.concat([measured, some], ignore_index=True))
    assert "Of 3 attacks 1 were stopped and succeeded without the one layer: rules 1; not so: a02, a03." in said
    dear = measured["cpu_seconds"].where(measured["layers"] != ALL, 10 * measured["cpu_seconds"])
    told = measured["down_per_up"].where(measured["layers"] != ALL, 1.5)
    missed = distrust.answer(pd.concat([measured.assign(cpu_seconds=dear, down_per_up=told), some], ignore_index=True))
    assert missed.count("wanted: missed") == 2
    assert len(attack_table(some)) == 3
