"""What is compiled on a machine's first use: half of it by a second process, which ends with the first."""

import errno
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from numba.core.caching import IndexDataCacheFile

from protocols.primitives import compiling
from protocols.primitives.compiling import is_kept
from secirls.inputs.datasets import write_simulated
from secirls.numerics import first_use

ROOT = Path(__file__).parents[2]
FIT = """
import numba.core.event as event
from secirls import fit
from secirls.numerics import first_use
compiled = []
class Listener(event.Listener):
    def on_start(self, told):
        compiled.append(told.data["dispatcher"].py_func.__qualname__)
    def on_end(self, told):
        pass
first_use.OTHER_HALF = "nothing is compiled but here"
first_use.warm_up_kernels()
if {both}:
    first_use.compile_other_half()
event.register("numba:compile", Listener())
for design, sites in {fits!r}.items():
    fit(sites, design=design, min_kept=1, engine="local")
print(sorted(set(compiled)))
"""


@pytest.fixture
def read(tmp_path):
    """``read(factor)``: a compiled function anew, as another process would take it."""
    source = tmp_path / "twice.py"

    def read(factor=2):
        source.write_text(
            "from protocols.primitives.compiling import compiled\n"
            f"@compiled()\ndef times(x):\n    return {factor} * x\n"
        )
        os.utime(source, (1e9 + factor, 1e9 + factor))
        spec = importlib.util.spec_from_file_location("twice", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.times

    return read


def test_code_is_kept_once_a_function_ran_and_until_it_is_changed(read):
    assert not is_kept(read(2))
    assert read(2)(4) == 8
    assert is_kept(read(2))
    assert not is_kept(read(3))


DAMAGE = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "a block of zeros": lambda data: data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :],
}


@pytest.mark.parametrize("what", ["nbi", "nbc"])
@pytest.mark.parametrize(
    ("tried", "how"), [*((True, how) for how in DAMAGE), *((False, how) for how in ("empty", "cut off"))]
)
def test_kept_code_that_was_damaged_is_compiled_again(read, tmp_path, monkeypatch, tried, what, how):
    if not tried:
        monkeypatch.setattr(compiling, "TRIED", ())
    assert read()(4) == 8
    (file,) = (tmp_path / "__pycache__").glob(f"*.{what}")
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    anew = read()
    assert anew(4) == 8
    if what == "nbc":
        assert not anew.stats.cache_hits
    assert is_kept(read())
    again = read()
    assert again(4) == 8
    assert again.stats.cache_hits


def test_code_that_no_disk_takes_runs_all_the_same(read, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", full)
    assert read()(4) == 8
    assert not is_kept(read())


@pytest.fixture
def cold(monkeypatch):
    """``cold(code, first)``: a machine without compiled code, whose second process runs the one, this one the other."""

    def set_up(code, first=lambda: None):
        monkeypatch.setattr(first_use, "are_kept", lambda: False)
        monkeypatch.setattr(first_use, "OTHER_HALF", code)
        monkeypatch.setattr(first_use.kernels, "warm_up", first)
        monkeypatch.setattr(first_use.os, "cpu_count", lambda: 2)

    return set_up


def until(file):
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(file.read_text())


def test_a_second_process_compiles_meanwhile_where_nothing_is_kept(cold, monkeypatch, tmp_path):
    file = tmp_path / "pid"
    cold(f"import os; open({str(file)!r}, 'w').write(str(os.getpid()))", lambda: until(file))
    first_use.warm_up_kernels()
    assert int(file.read_text()) != os.getpid()
    file.unlink()
    done = []
    cold(f"open({str(file)!r}, 'w').write('1')", lambda: done.append("kernels"))
    monkeypatch.setattr(first_use, "are_kept", lambda: True)
    first_use.warm_up_kernels()
    assert done == ["kernels"]
    assert not file.exists()


def test_the_second_process_ends_where_the_first_is_interrupted(cold, tmp_path):
    file, seen = tmp_path / "pid", []

    def interrupted():
        seen.append(until(file))
        raise KeyboardInterrupt

    cold(f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first_use.warm_up_kernels()
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


@pytest.mark.parametrize("python", ["", "/nowhere/python"])
def test_without_a_second_process_this_one_compiles_all(cold, monkeypatch, python):
    done = []
    cold("", lambda: done.append("kernels"))
    monkeypatch.setattr(sys, "executable", python)
    for name in ("fixed_point", "information", "sums", "cooks"):
        monkeypatch.setattr(getattr(first_use, name), "warm_up", lambda name=name: done.append(name))
    first_use.warm_up(fused=True, whole=True, outliers=True)
    assert done == ["kernels", "fixed_point", "information", "sums", "cooks"]


@pytest.mark.slow
def test_both_halves_are_all_that_a_fit_compiles(airway_sites, tmp_path):
    """Of airway, and of sites where many samples share a design row."""
    large = write_simulated(tmp_path / "large", sites=3, samples=120, genes=60, seed=1)
    fits = {
        design: {name: str(path) for name, path in sites.items()}
        for design, sites in {"~ site + condition": airway_sites, "~ condition": large}.items()
    }

    def compiled(both):
        place = {"NUMBA_CACHE_DIR": str(tmp_path / str(both)), "PYTHONPATH": str(ROOT)}
        code = FIT.format(both=both, fits=fits)
        return subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **place}, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert compiled(both=True) == "[]"
    assert "_walk" in compiled(both=False)
