"""What *speed* compares, how its rows are read, and that pages say what rows say."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import NAMES, experiment
from experiments.groundwork import pages, record
from experiments.speed import kernels, page, speed, sums, turns
from experiments.speed.lines import LINES, Line
from secirls.input_error import InputError

KEPT = record.RESULTS
PLACES = [(name, place) for name in NAMES for place in pages.parts(experiment(name))]


@pytest.mark.parametrize(("name", "place"), PLACES, ids=[f"{name}: {place.name}" for name, place in PLACES])
def test_a_page_is_what_the_command_writes_of_the_kept_rows(name, place):
    text = (pages.CHECKOUT / place).read_text(encoding="utf-8")
    assert pages.parts(experiment(name))[place](text, KEPT / name) == text


def test_a_figure_changed_by_hand_is_written_over_and_a_page_without_its_place_is_refused(tmp_path):
    one = experiment("speed")
    for place in pages.parts(one):
        text = (pages.CHECKOUT / place).read_text(encoding="utf-8")
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text, encoding="utf-8")
    assert pages.rewrite(one, KEPT / "speed", tmp_path) == []
    told = next(line for line in text.splitlines() if line.startswith("| solving "))
    for changed in (told.replace("x ", "1x "), told.replace("3x", "2x")):
        assert changed != told
        (tmp_path / page.PAGE).write_text(text.replace(told, changed), encoding="utf-8")
        assert pages.rewrite(one, KEPT / "speed", tmp_path) == [page.PAGE]
        assert (tmp_path / page.PAGE).read_text(encoding="utf-8") == text
    (tmp_path / page.PAGE).write_text(text.replace("<!-- end of rounds -->", ""), encoding="utf-8")
    with pytest.raises(InputError, match="end of rounds"):
        pages.rewrite(one, KEPT / "speed", tmp_path)
    (tmp_path / page.PAGE).write_text(text, encoding="utf-8")
    (tmp_path / pages.INDEX).write_text("no question", encoding="utf-8")
    with pytest.raises(InputError, match="0 times"):
        pages.rewrite(one, KEPT / "speed", tmp_path)


def rows_of(*cells):
    """Rows of line, case, value and baseline."""
    told = [turns.alone(*cell) for cell in cells]
    return pd.DataFrame(itertools.chain(*told))


@pytest.mark.parametrize(
    ("reading", "aim", "value", "against", "misses"),
    [
        ("faster", 3, 1.0, 3.1, False),
        ("faster", 3, 1.0, 2.9, True),
        ("times", 1.2, 1.1, 1.0, False),
        ("times", 1.2, 1.3, 1.0, True),
        ("itself", 5, 4.0, 1.0, False),
        ("itself", 5, 6.0, 1.0, True),
    ],
)
def test_whether_an_aim_is_missed_follows_from_the_rows(reading, aim, value, against, misses):
    line = Line("a", "what", "against", reading, aims=(aim,))
    rows = rows_of(("a", "", value, against))
    assert line.missed(rows) == [misses]
    assert line.told(rows)[-1].endswith(", missed") == misses


def test_cases_have_aims_of_their_own_and_what_is_not_measured_misses_none():
    line = Line("a", "p = {cases}", "b", cases=(2, 5, 8), aims=(10, 4, 4))
    rows = rows_of(("a", 2, 1.0, 9.0), ("a", 5, 1.0, 5.0))
    assert line.missed(rows) == [True, False, None]
    assert line.told(rows) == ("p = 2 / 5 / 8", "b", "9x / 5x / not measured less", "10x / 4x / 4x, missed at 2")
    assert Line("c", "c", "b", aims=(2,)).told(rows)[2:] == ("not measured", "2x")


def test_a_figure_is_the_median_of_ratios_and_not_the_ratio_of_medians():
    rows = pd.DataFrame(turns.beside("a", "", [1.0, 10.0, 2.0], [2.0, 90.0, 6.0]))
    assert Line("a", "", "").figures(rows) == [3.0]
    assert Line("a", "", "", "times").figures(rows) == [pytest.approx(1 / 3)]
    growing = rows_of(*[("n", str(n), 3.0 * n**1.5, n) for n in (10, 20, 40)])
    assert Line("n", "", "", "slope").figures(growing) == [pytest.approx(1.5)]
    assert Line("n", "", "", "most").figures(growing) == [growing["value"].max()]


def test_the_answer_counts_aims_and_names_the_lines_that_miss_one():
    rows = rows_of(("solving", 2, 1.0, 2.0), ("solving", 5, 1.0, 4.0), ("solving", 8, 1.0, 4.0), ("memory", "x", 1.0))
    assert speed.answer(rows) == "Of 3 figures with an aim 2 meet it; missed: solving (2x / 4x / 4x less; aim 3x)."
    assert "missed: none" in speed.answer(rows[rows["case"] != "2"])


def test_candidates_run_in_turn_after_a_first_time_and_each_repeat_begins_with_the_next():
    ran, now = [], itertools.count()

    def candidate(name):
        def run():
            ran.append(name)
            next(now)

        return run

    spent = turns.in_turn({name: candidate(name) for name in "abc"}, 3, lambda: next(now), calls=2)
    assert "".join(ran) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"
    assert spent == {name: [1.5] * 3 for name in "abc"}  # two runs and a look at the clock, for two calls
    assert turns.least({"a": [3.0, 2.0]}) == {"a": 2.0}


def test_every_line_is_measured_by_the_plan_and_no_key_stands_twice():
    one = speed.EXPERIMENT
    keys = [step.key for step in one.plan(one.configuration)]
    assert len(set(keys)) == len(keys)
    assert len({line.name for line in LINES}) == len(LINES)
    kept, told = record.read(KEPT / "speed" / "rows.csv"), json.loads((KEPT / "speed" / "run.json").read_text())
    absent = {line.name for line in LINES if np.isnan(line.figures(kept)).all()}
    # what is absent is so for the steps that were skipped, which say so
    skipped = [sentence.split(": ")[0] for sentence in told["skipped"]]
    assert absent <= {line.name for line in LINES if any(_measures(key, line) for key in skipped)}


def _measures(key, line):
    return (line.rows_of or line.name).split(",")[0] == key.split("/")[0]


@pytest.mark.parametrize(
    ("measured", "lines"),
    [
        (lambda: kernels.of_a_round({"genes": 20, "samples": 90}, 2, 2), 4),
        (lambda: kernels.of_nodes(100, 20, 2), 2),
        (lambda: kernels.of_a_profile(100, 5, 2), 1),
        (lambda: kernels.of_solving(50, 3, 2), 1),
        (lambda: sums.of_codec(5000, 2), 1),
        (lambda: sums.of_masks(16_000, 2), 1),
        (lambda: sums.of_checks(500, 2), 1),
        (lambda: sums.of_late_rounds(21, 2), 3),
    ],
)
def test_short_measurements_give_rows_of_the_table(measured, lines):
    rows = pd.DataFrame(measured())
    names = {line.rows_of or line.name for line in LINES}
    assert set(rows["line"]) <= names
    assert rows["line"].nunique() == lines
    assert (rows[["value", "against"]] > 0).all(axis=None)


def test_the_baseline_of_masks_is_ctr_and_gives_the_same_masks(monkeypatch):
    from protocols.primitives import counted_stream, ring

    asked = []
    monkeypatch.setattr(counted_stream, "pays", lambda *_: asked.append(1) or False)
    total, made = ring.zeros(20_000, 2), ring.zeros(20_000, 2)
    sums.masked(total, 5)()
    monkeypatch.undo()
    sums.masked(made, 5)()
    assert asked
    assert np.array_equal(total, made)
    assert total.any()
