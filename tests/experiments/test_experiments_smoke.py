"""Every experiment runs, is interrupted and goes on, and its kept answers are those of its kept rows."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import record
from experiments.__main__ import NAMES, experiment, main
from experiments.record import Experiment, Measurement, SkippedError
from secirls.input_error import InputError

KEPT = Path(record.__file__).parent / "results"
INDEX = Path(record.__file__).parent / "README.md"
PNG = b"\x89PNG\r\n"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::Warning:pydeseq2")
def test_an_experiment_runs_quickly_and_redraws_from_its_rows_alone(name, tmp_path, capsys):
    assert main([name, "--quick", "--out", str(tmp_path)]) == 0
    folder = tmp_path / f"{name}-quick"
    rows = (folder / "rows.csv").read_bytes()
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert told["configuration"] == json.loads(json.dumps(experiment(name).configured(quick=True)))
    assert told["skipped"] == []
    figures = {file.name: file.read_bytes() for file in folder.glob("*.png")}
    assert f"{name}.png" in figures
    assert all(data.startswith(PNG) for data in figures.values())
    for file in folder.glob("*.png"):
        file.unlink()
    assert main([name, "--quick", "--plot", "--out", str(tmp_path)]) == 0
    assert {file.name: file.read_bytes() for file in folder.glob("*.png")} == figures
    assert (folder / "rows.csv").read_bytes() == rows
    sentence = capsys.readouterr().out.splitlines()[-2]
    assert sentence.endswith(".")
    assert "nan" not in sentence


@pytest.mark.parametrize("name", NAMES)
def test_the_index_says_what_the_kept_rows_say(name):
    rows = record.read(KEPT / name / "rows.csv")
    index = re.sub(r"\s+", " ", INDEX.read_text(encoding="utf-8"))
    assert experiment(name).answer(rows) in index
    assert experiment(name).question in index
    told = json.loads((KEPT / name / "run.json").read_text(encoding="utf-8"))
    assert told["configuration"] == json.loads(json.dumps(experiment(name).configuration))
    keys = [step.key for step in experiment(name).plan(experiment(name).configuration)]
    assert sorted(record.done(KEPT / name / "rows.csv")) == sorted(keys)
    for figure in (KEPT / name).glob("*.png"):
        assert f"results/{name}/{figure.name}" in index


@pytest.fixture(scope="module")
def quick_leakage(tmp_path_factory):
    root = tmp_path_factory.mktemp("leakage")
    return record.read(record.run(experiment("leakage"), quick=True, root=root) / "rows.csv")


def test_the_attack_reads_every_count_in_the_clear_and_none_under_masks(quick_leakage):
    rows = quick_leakage[(quick_leakage["attack"] == "summand") & (quick_leakage["x"] == 1)].set_index("rule")
    assert rows.loc["none", "exact"] == 1.0
    assert rows.loc["none", "guesses"] > 100
    assert rows.loc["pairwise", "exact"] < 0.05


def test_payload_bytes_look_uniform_under_every_layer_and_not_without_one(quick_leakage):
    rows = quick_leakage[quick_leakage["attack"] == "layers"]
    hidden = rows["rule"] != "none"
    assert (rows.loc[hidden, "departure"].abs() < 6).all()
    assert (rows.loc[~hidden, "departure"] > 1000).all()


def test_a_fit_stops_rather_than_open_a_sum_without_a_site(quick_leakage):
    rows = quick_leakage[(quick_leakage["attack"] == "difference") & (quick_leakage["rule"] == "abort")]
    assert len(rows)
    assert rows["outcome"].str.contains("fell silent, so the fit stops").all()


def test_only_the_exact_ways_of_adding_are_exact():
    from experiments.fidelity import exact_sum, in_floats, in_ring, quantised

    parts = [np.array([1.0, 1e10, 0.1]), np.array([2.0**-52, 1.0, 0.2]), np.array([2.0**-53, -1e10, 0.3])]
    truth = exact_sum(parts)
    assert np.array_equal(in_ring(parts, 64, 2)[0], truth)
    assert not np.array_equal(in_floats(parts)[0], truth)
    assert not np.array_equal(quantised(parts, 32)[0], truth)
    assert in_ring(parts, 32, 1)[1].any()  # beyond the compact ring's bound: refused, not clipped


def toy(measured, *, interrupt_at=None):
    """An experiment of four measurements that notes which were made."""

    def measure(number):
        if number == interrupt_at:
            raise KeyboardInterrupt
        if number == 3:
            raise SkippedError("there is no three here")
        measured.append(number)
        return [{"number": number, "square": number**2 + part} for part in (0, 1)]

    def plan(configuration):
        return [Measurement(f"step {n}", lambda n=n: measure(n)) for n in range(configuration["steps"])]

    return Experiment("toy", "Is it?", {"seed": 0, "steps": 5}, {}, plan, lambda _: {}, lambda rows: f"{len(rows)}.")


def test_an_interrupted_run_keeps_whole_measurements_and_goes_on_after_them(tmp_path):
    measured = []
    with pytest.raises(KeyboardInterrupt):
        record.run(toy(measured, interrupt_at=2), quick=False, root=tmp_path)
    rows = tmp_path / "toy" / "rows.csv"
    assert list(pd.read_csv(rows)["square"]) == [0, 1, 1, 2]
    record.run(toy(measured), quick=False, root=tmp_path)
    assert measured == [0, 1, 2, 4]
    assert list(pd.read_csv(rows)["number"]) == [0, 0, 1, 1, 2, 2, 4, 4]
    told = json.loads((tmp_path / "toy" / "run.json").read_text(encoding="utf-8"))
    assert told["skipped"] == ["step 3: there is no three here"]


def test_a_measurement_that_fails_half_way_leaves_no_row(tmp_path):
    def halfway():
        yield {"number": 1}
        raise RuntimeError("half way")

    broken = Experiment(
        "broken", "?", {"seed": 0}, {}, lambda _: [Measurement("a", halfway)], lambda _: {}, lambda _: ""
    )
    with pytest.raises(RuntimeError, match="half way"):
        record.run(broken, quick=False, root=tmp_path)
    assert not (tmp_path / "broken" / "rows.csv").exists()


def test_rows_of_another_configuration_are_not_continued_but_replaced_when_asked(tmp_path):
    measured = []
    record.run(toy(measured), quick=False, root=tmp_path)
    one = toy(measured)
    other = Experiment("toy", "Is it?", {"seed": 1, "steps": 1}, {}, one.plan, one.figures, one.answer)
    with pytest.raises(InputError, match="another configuration"):
        record.run(other, quick=False, root=tmp_path)
    record.run(other, quick=False, fresh=True, root=tmp_path)
    assert list(pd.read_csv(tmp_path / "toy" / "rows.csv")["number"]) == [0, 0]


def test_quick_runs_stay_away_from_kept_results():
    assert record.folder_of("overhead", quick=True) != record.folder_of("overhead", quick=False)
    assert "/experiments/results/*-quick/" in (KEPT.parents[1] / ".gitignore").read_text(encoding="utf-8")


def test_redrawing_without_rows_ends_in_a_sentence(tmp_path, capsys):
    assert main(["overhead", "--plot", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "run the experiment first" in shown
    assert "Traceback" not in shown
