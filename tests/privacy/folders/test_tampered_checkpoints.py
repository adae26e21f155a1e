"""A folder with an unfinished fit that somebody changed: one sentence names the file, and everything stays there.

It travels as results do, or lies where others may write. The twins look at less of it.
"""

import io
import json
import os
import shutil
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from secirls import fitting
from secirls.aggregator import checkpoint
from secirls.aggregator.checkpoint import FOLDER, HEAD, OPENING, Checkpoint
from secirls.agreement.manifest import Manifest
from secirls.cli.commands import main
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated

MIB = 1 << 20
ROUND, LAST = "round-00002.npz", "round-00006.npz"
X_TX = "round-00005.npz"
"""The round whose sums are inverted."""


class StopError(Exception):
    pass


def stop_after_the_seventh(told):
    if told.round == 6:
        raise StopError


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A fit over three sites of eight simulated samples and 20 genes that ended after its seventh round."""
    place = tmp_path_factory.mktemp("unfinished")
    files = {name: str(path) for name, path in write_simulated(place, sites=3, samples=24, genes=20, seed=3).items()}
    fit = {"design": "~ condition", "preset": "irls", "kernel": "numpy", "min_contributors": 1, "consistency": False}
    with pytest.raises(StopError):
        fitting.fit_manifest(
            Manifest.read("test", sites=files, engine="local", fit=fit), place / "out", on_round=stop_after_the_seventh
        )
    return place / "out"


@pytest.fixture
def copied(unfinished, tmp_path):
    return shutil.copytree(unfinished, tmp_path / "out") / FOLDER


def in_head(change):
    """A change of what the first file says."""

    def tamper(folder):
        told = json.loads((folder / HEAD).read_text())
        change(told)
        (folder / HEAD).write_text(json.dumps(told))

    return tamper


def in_round(change=lambda told: None, arrays=lambda arrays: arrays, name=ROUND, write=np.savez):
    """A change of what a round's file says, or of its sums."""

    def tamper(folder):
        with np.load(folder / name) as file:
            told, held = json.loads(file["told"].tobytes()), {key: file[key] for key in file.files if key != "told"}
        change(told)
        buffer = io.BytesIO()
        write(buffer, told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8), **arrays(held))
        (folder / name).write_bytes(buffer.getvalue())

    return tamper


def every(change):
    return lambda arrays: {name: change(array) for name, array in arrays.items()}


def saying(name, text):
    return lambda folder: (folder / name).write_text(text)


swollen = in_round(arrays=lambda arrays: arrays | {"array0": np.zeros(14 * MIB)}, write=np.savez_compressed)


def exchanged(folder):
    (folder / ROUND).write_bytes((folder / "round-00003.npz").read_bytes())


HEADS = {
    "no order": in_head(lambda told: told.update(order={"run": "fit"})),
    "an order of no name": in_head(lambda told: told["order"].update(run=["fit"])),
    "an order that is a list": in_head(lambda told: told.update(order=[])),
    "an order of no manifest": in_head(lambda told: told["order"].update(manifest=3)),
    "a manifest of other names": in_head(lambda told: told["order"]["manifest"].update(where="here")),
    "a manifest without sites": in_head(lambda told: told["order"]["manifest"].pop("sites")),
    "a transcript of no name": in_head(lambda told: told["order"].update(transcript=3)),
    "sites of others": in_head(lambda told: told["begun"].update(sites=["a", "b", "c"])),
    "a site twice": in_head(lambda told: told["begun"].update(sites=["site1", "site1", "site2"])),
    "levels that are a number": in_head(lambda told: told["begun"].update(levels={"condition": 5})),
    "another format": in_head(lambda told: told.update(format=99)),
    "brackets in brackets": saying(HEAD, "[" * 100_000),
}
ROUNDS = {
    "packed zeros": swollen,
    "sums of another shape": in_round(arrays=every(lambda array: array.reshape(-1)[:3])),
    "sums that are text": in_round(arrays=every(lambda array: np.full(array.shape, "x"))),
    "sums that are objects": in_round(arrays=every(lambda array: np.full(array.shape, None))),
    "sums that are no numbers": in_round(arrays=every(lambda array: array * np.nan)),
    "no sums": in_round(arrays=lambda arrays: {}),
    "the next round": exchanged,
    "a number that is text": in_round(lambda told: told["told"].update(values="x")),
    "endless seconds": in_round(lambda told: told["rows"][0].update(seconds=10**400)),
    "more bytes than there are": in_round(lambda told: told["rows"][0].update(bytes_up=1 << 63)),
    "parties that are numbers": in_round(lambda told: told["told"].update(parties=[1, 2])),
    "a cohort of others": in_round(lambda told: told.update(cohort=["site1", "nobody"])),
    "a question of no digest": in_round(lambda told: told.update(query="x")),
    "nothing": saying(ROUND, ""),
}
CASES = {
    **{f"{HEAD}, {name}": (tamper, HEAD) for name, tamper in HEADS.items()},
    **{f"{ROUND}, {name}": (tamper, ROUND) for name, tamper in ROUNDS.items()},
    f"{X_TX}, zeros": (in_round(arrays=every(np.zeros_like), name=X_TX), X_TX),
    **{
        f"{OPENING}, {text}": (saying(OPENING, text), OPENING)
        for text in (
            '{"round": "x", "query": "00", "parties": ["site1"]}',
            '{"round": 99, "query": "00", "parties": [["site1"]]}',
            '{"round": 99, "query": 0, "parties": ["site1"]}',
            "[]",
            "",
        )
    },
}


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != checkpoint.LOCK}


@pytest.mark.parametrize(("tamper", "name"), CASES.values(), ids=CASES)
def test_a_changed_folder_ends_in_one_sentence_that_names_the_file(copied, tamper, name, monkeypatch, capsys):
    tamper(copied)
    before = held(copied)
    monkeypatch.setattr(sys, "argv", ["secirls", "resume", str(copied.parent)])
    with pytest.raises(SystemExit) as stop:
        main()
    sentence = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("secirls: "))
    assert stop.value.code == 2
    assert name in sentence
    assert held(copied) == before


def test_an_unchanged_folder_goes_on(copied):
    assert fitting.resume(copied.parent).table["pvalue"].notna().any()


def cost_of(folder):
    """Bytes of memory that reading it takes."""
    tracemalloc.start()
    try:
        Checkpoint.open(folder)
    except InputError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_a_kept_round_is_read_in_the_memory_that_it_takes_on_the_disk(copied):
    swollen(copied)
    assert (copied / ROUND).stat().st_size < MIB
    assert cost_of(copied) < 4 * MIB


def test_the_twin_that_reads_what_was_packed_takes_a_hundred_times_as_much(copied, monkeypatch):
    monkeypatch.setattr(checkpoint, "stored", lambda data: data)
    swollen(copied)
    assert cost_of(copied) > 100 * MIB


def test_the_twin_that_looks_at_no_name_ends_in_no_sentence(copied, monkeypatch):
    monkeypatch.setattr(checkpoint._Round, "checked", lambda self, *_: self)
    in_round(lambda told: told.update(cohort=["nobody"]), name=LAST)(copied)
    with pytest.raises(KeyError):
        fitting.resume(copied.parent)


# What has no end.


def piped(folder, name):
    """A pipe in a file's place; what the file had said."""
    data = (folder / name).read_bytes() if (folder / name).exists() else b"[]"
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    return data


def endless(folder, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")


@pytest.mark.parametrize("name", [HEAD, ROUND, OPENING])
@pytest.mark.parametrize("put", [piped, endless])
def test_what_has_no_end_is_no_file_of_a_checkpoint(copied, put, name):
    put(copied, name)
    with pytest.raises(InputError, match=f"{name}': is not a"):
        Checkpoint.open(copied)


def test_the_twin_that_reads_any_waits_for_what_somebody_sends(copied, monkeypatch):
    monkeypatch.setattr(checkpoint, "read_file", Path.read_bytes)
    data = piped(copied, ROUND)
    sender = threading.Thread(target=(copied / ROUND).write_bytes, args=(data,), daemon=True)
    sender.start()
    assert len(Checkpoint.open(copied)[2].records) == 7
    sender.join(10.0)
