"""Fifty fits in one process leave nothing behind: memory, files, threads and actors are those of a few fits."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from secirls import fitting
from secirls.agreement.manifest import Manifest
from secirls.carriers import own_process
from secirls.inputs.datasets import write_simulated

FITS, EARLY = 50, 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four files of six simulated samples over 30 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=4, samples=24, genes=30, seed=3)
    return {name: str(path) for name, path in paths.items()}


@dataclass(frozen=True)
class Held:
    """What this process holds on to."""

    megabytes: float
    files: int
    threads: int

    @classmethod
    def now(cls):
        gc.collect()
        # What is freed and not yet given back hides what is held: tests before this one leave a lot of it.
        own_process.let_go_of_shared_pages()
        own_process.give_back_freed_memory()
        files = len(list(Path("/proc/self/fd").iterdir()))
        return cls(own_process.resident_bytes() / 1e6, files, threading.active_count())


def left_behind(fit, fits=FITS):
    """What grew between a few fits and many, by name; a little is always in the air."""
    early = None
    for number in range(fits):
        fit(number)
        if number == EARLY:
            early = Held.now()
    late = Held.now()
    grew = {
        "megabytes": late.megabytes - early.megabytes > 20,
        "files": late.files - early.files > 5,
        "threads": late.threads - early.threads > 2,
    }
    return {name for name, much in grew.items() if much}


def manifest(files, **more):
    return Manifest.read(
        "test", sites=files, fit={"design": "~ condition", "preset": "irls", "kernel": "numpy"}, **more
    )


def test_fits_on_ray_leave_nothing_behind(tmp_path, files, local_ray, actors_left):
    def fit(number):
        fitting.fit_manifest(manifest(files, hosts=2), tmp_path / str(number))
        assert not actors_left()

    assert not left_behind(fit)


def test_fits_in_one_process_leave_nothing_behind(tmp_path, files):
    ordered = manifest(files, engine="local")
    assert not left_behind(lambda number: fitting.fit_manifest(ordered, tmp_path / str(number)))


def test_fits_that_hold_on_to_things_are_caught(tmp_path, files):
    """The broken twin: every fit forgets to close a file, to end a thread, and to let go of a megabyte."""
    ordered, kept, end = manifest(files, engine="local"), [], threading.Event()

    def careless(number):
        fitting.fit_manifest(ordered, tmp_path / str(number))
        thread = threading.Thread(target=end.wait, daemon=True)
        thread.start()
        kept.append((os.urandom(1 << 20), (tmp_path / "kept").open("w"), thread))

    try:
        assert left_behind(careless, FITS + 5) == {"megabytes", "files", "threads"}
    finally:
        end.set()
        for _, file, thread in kept:
            file.close()
            thread.join()
