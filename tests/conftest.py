"""Shared parts: real site files, a local Ray once per session, and where the larger data sets lie."""

import gc
import os
import sys
import time
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from joblib import cpu_count

from tests.files import write

EVERYDAY = "not slow and not cluster"
"""The marks of a run without ``-m``, as pyproject.toml has them."""

settings.register_profile("default", deadline=None, max_examples=20)
settings.register_profile("full", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("ci" if os.environ.get("CI") else "default")
# Unless a test says how many it needs. .ci/run repeats all of them with --hypothesis-profile full.


def pytest_xdist_auto_num_workers(config):
    """A run of everything is spread over the cores; what is named, or chosen by a mark, stays in one process.

    Tests that are chosen measure time or memory, kill processes, or are few.
    """
    everything = config.args_source is config.ArgsSource.TESTPATHS and config.option.markexpr == EVERYDAY
    return cpu_count() if everything else 0


def pytest_configure(config):
    """Where a process runs on every core, kernels are compiled before them.

    None of them starts threads for linear algebra, which wait by spinning.
    """
    if getattr(config.option, "tx", None):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        if not hasattr(config, "workerinput"):  # else each of them would compile all of it
            from secirls.numerics import first_use

            if not first_use.are_kept():
                print("compiling kernels (kept for the next time)", flush=True)
            first_use.warm_up(fused=True, whole=True, outliers=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays to the end: no search for garbage goes through it, meanwhile or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000)  # what is frozen does not count: by the usual 700 the rest is gone through too often
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def wait_for_disks(pytestconfig):
    """Gives `os.fsync`. In a run without ``-m`` what is written is not waited for until it is on the disk.

    No test takes the power away, and a site waits a hundred times in a fit: a quarter of its CPU seconds, and most by
    the clock. Other processes, Ray's among them, wait as ever, and so do runs with ``-m``.
    """
    wait = os.fsync
    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.option.markexpr == EVERYDAY:
            patch.setattr(os, "fsync", lambda file: os.fstat(file) and None)
        yield wait


@pytest.fixture(scope="session", autouse=True)
def narrow_tables():
    """Keys that no fit takes have small tables of powers: wide ones, for thousands of them, cost all that tests take.

    That tables of any width give the same powers, and which width keys have, is for `test_paillier_arithmetic`.
    """
    from protocols.primitives.paillier import obfuscators

    wide = obfuscators.window_for
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(obfuscators, "window_for", lambda bits, entry: 4 if entry < 512 else wide(bits, entry))
        yield


@pytest.fixture(scope="session")
def commands():
    """``commands(app)``: what typer makes of all options' types and help, 0.05 CPU seconds, once for all tests."""
    from typer.main import get_command

    return cache(get_command)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, commands):
    """Run the command in this process, from a folder of its own: exit code, standard output, standard error."""
    from secirls.cli.commands import main

    monkeypatch.setattr("typer.main.get_command", commands)
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["secirls", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture(scope="session")
def airway_sites(tmp_path_factory):
    """Airway as four h5ad files, one per cell line."""
    from secirls.inputs.datasets import write_airway

    return write_airway(tmp_path_factory.mktemp("airway"))


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for all tests that ask for it."""
    from secirls.carriers.ray_environment import prepare_local

    prepare_local()
    from secirls.carriers.ray_connection import running_ray

    with running_ray(None):
        yield


@pytest.fixture
def actors_left():
    """``actors_left()``: the kinds of actors that live on, once Ray has had time to notice that they ended."""

    def living():
        from ray._private.state import actors

        return [entry["ActorClassName"] for entry in actors().values() if entry["State"] == "ALIVE"]

    def left(seconds=30.0):
        until = time.monotonic() + seconds
        while (kinds := living()) and time.monotonic() < until:
            time.sleep(0.05)
        return kinds

    return left


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real multi-site data sets beside the checkout, or a skip that says it is missing."""
    named = os.environ.get("SECIRLS_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the multi-site data sets are not beside this checkout (set SECIRLS_DATA to their folder)")
    return folder


@pytest.fixture
def make_site(tmp_path):
    """Write a small site file: counts (samples, genes), obs columns, and what else a test changes."""
    import anndata
    import numpy as np
    import pandas as pd

    def make(name="a", counts=None, obs=None, genes=None, samples=None, var=None, layers=None):
        counts = np.arange(1, 13).reshape(4, 3) if counts is None else counts
        n, g = counts.shape
        samples = [f"{name}{i}" for i in range(n)] if samples is None else samples
        genes = [f"g{i}" for i in range(g)] if genes is None else genes
        table = {"condition": ["u", "t"] * (n // 2) + ["u"] * (n % 2)} if obs is None else obs
        path = tmp_path / f"{name}.h5ad"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some tests repeat names on purpose
            adata = anndata.AnnData(
                counts, obs=pd.DataFrame(table, index=samples), var=pd.DataFrame(var or {}, index=genes)
            )
        for layer, values in (layers or {}).items():
            adata.layers[layer] = values
        write(adata, path)
        return path

    return make
