"""A driver that is killed at any moment loses no round that it showed as finished."""

import json
import subprocess
import sys
import time

import pytest

from secirls import fitting
from secirls.aggregator.checkpoint import FOLDER, Checkpoint
from secirls.aggregator.transcript import LINES
from secirls.agreement.manifest import Manifest
from secirls.carriers import on_ray
from secirls.inputs.datasets import write_simulated

PAUSED = 3


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Four files of six simulated samples over 30 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=4, samples=24, genes=30, seed=3)
    return {name: str(path) for name, path in paths.items()}


def manifest(files, engine="ray"):
    return Manifest.read(
        "test", sites=files, engine=engine, fit={"design": "~ condition", "preset": "irls", "kernel": "numpy"}
    )


def opened(transcript):
    """How many sums the aggregator has opened so far."""
    lines = (transcript / LINES).read_bytes().splitlines(keepends=True)
    return sum(json.loads(line)["what"] == "opened" for line in lines if line.endswith(b"\n"))


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [1, -1])
def test_the_aggregator_is_one_round_ahead_at_most(tmp_path, files, local_ray, monkeypatch, ahead):
    """While the driver keeps a round, the aggregator works on the next and no more; unless nothing holds it back."""
    monkeypatch.setattr(on_ray, "AHEAD", ahead)
    seen = []

    def pause(told):
        if told.round == PAUSED:
            # The rounds from 0, and at most one that is ready to be taken.
            until(lambda: opened(tmp_path / "t") > PAUSED + 2, 3.0 if ahead == 1 else 60.0)
            seen.append(opened(tmp_path / "t"))

    fitting.fit_manifest(manifest(files), tmp_path / "out", transcript=tmp_path / "t", on_round=pause)
    assert (seen[0] <= PAUSED + 2) == (ahead == 1)


@pytest.mark.slow
@pytest.mark.parametrize("last", [0, 4, 7])
def test_a_killed_driver_loses_no_round_it_showed(tmp_path, files, last):
    undisturbed = fitting.fit_manifest(manifest(files, "local"), tmp_path / "undisturbed")
    sites = [word for name, path in files.items() for word in ("--site", f"{name}={path}")]
    words = [
        *sites,
        "--design",
        "~ condition",
        "--preset",
        "irls",
        "--kernel",
        "numpy",
        "--out",
        "out",
        "--transcript",
        "t",
    ]
    command = [sys.executable, "-m", "secirls.cli", "fit", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as fit:
        for line in fit.stderr:
            if line.startswith(f"round {last:>3}"):
                fit.kill()
                break
        fit.wait(60)
    kept = len(Checkpoint.open(tmp_path / "out" / FOLDER)[2].records)
    assert kept > last
    asked = []
    result = fitting.resume(tmp_path / "out", on_round=lambda told: asked.append(told.round))
    assert asked[0] == kept
    assert result.table.equals(undisturbed.table)
