"""Every experiment runs, is interrupted and goes on, and its kept answers are those of its kept rows."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import record
from experiments.__main__ import NAMES, experiment, main
from experiments.record import Experiment, Measurement, SkippedError
from secirls.input_error import InputError

KEPT = Path(record.__file__).parent / "results"
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
