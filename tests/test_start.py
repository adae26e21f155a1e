"""What each process loads before it can work: the shape of a start, where its seconds depend on the machine."""

import subprocess
import sys
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import numba
import pytest

from protocols.primitives import compiling
from secirls.cli import demo
from secirls.config import Config
from secirls.inputs.datasets import write_simulated

ROOT = Path(__file__).parents[1]
DRAWN = {"matplotlib", "rich", "typer"}
"""What people look at, and no party."""
NEEDLESS = {"formulaic", "scipy.stats", "sklearn", "joblib", "phe", "gmpy2"}
"""What no fit with masks needs anywhere."""
ANNOTATED = {"anndata", "pandas", "zarr"}
"""What no site needs that reads a dense h5ad."""

SITE = """
from secirls.carriers.on_ray import PartyActor
from secirls.config import Config
from secirls.agreement.order import Place
from secirls.site.site import Site
PartyActor(Site, (Place("site1", {path!r}), Config.read("test", design="~ condition"))).ask("survey")
"""
AGGREGATOR = "from secirls.carriers.on_ray import AggregatorActor"
FIT = """
from secirls import fit
table = fit({sites!r}, design="~ condition", engine="local", on_note=print).table
assert table["padj"].notna().any()
"""
OWN_WAY = """
from protocols.primitives import compiling
compiling.TRIED = ()
"""
"""numba takes what it kept by its own way, whatever its release."""
COMPILER = "numba.np.npyimpl"
"""What numba compiles NumPy's functions by."""

ARRAYS = """
import resource
import numpy as np
from secirls.carriers.own_process import keep_freed_memory
if {kept} and not keep_freed_memory():
    raise SystemExit("no glibc")
def use():
    return sum(array[0] for array in [np.ones(400_000) for _ in range(20)])
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made = write_simulated(tmp_path_factory.mktemp("sites"), sites=4, samples=24, genes=120, seed=1)
    return {name: str(path) for name, path in made.items()}


def loaded(code):
    """The modules that a fresh interpreter has after some code."""
    shown = [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"]
    ran = subprocess.run(shown, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(ran.stdout.splitlines()[-1].split())


def test_a_site_loads_what_it_computes_with_and_nothing_to_show_it(files):
    modules = loaded(SITE.format(path=files["site1"]))
    assert {"numba", "h5py"} <= modules
    assert not modules & (DRAWN | NEEDLESS | ANNOTATED)


def test_the_aggregator_reads_no_files(files):
    assert not loaded(AGGREGATOR) & (DRAWN | NEEDLESS | ANNOTATED | {"h5py"})


def test_a_whole_fit_in_one_process_starts_no_ray(files):
    assert not loaded(FIT.format(sites=files)) & (DRAWN | NEEDLESS | {"ray"})


@pytest.mark.skipif(not numba.__version__.startswith(compiling.TRIED), reason="another release of numba")
def test_code_that_is_kept_is_taken_without_its_compiler(files):
    """A second fit compiles nothing; beside its twin, for which numba loads all the same what it would compile by."""
    fit = FIT.format(sites=files)
    loaded(fit)
    assert COMPILER not in loaded(fit)
    assert COMPILER in loaded(OWN_WAY + fit)


def test_a_module_that_is_loaded_would_be_seen():
    there = {module for module in DRAWN | NEEDLESS | ANNOTATED if find_spec(module)}
    assert there >= DRAWN | {"anndata", "pandas", "joblib", "scipy.stats", "sklearn"}
    assert there <= loaded(f"import secirls\ndef late():\n    import {', '.join(sorted(there))}\nlate()")


def test_the_demo_starts_ray_once(files, tmp_path, monkeypatch, capsys):
    fit, engines, started = demo.fit_config, [], []

    def on_one_process(config, sites, *, engine, **watch):
        engines.append((config.protocol, engine))
        return fit(config, sites, engine="local", **watch)

    @contextmanager
    def ahead(engine):
        started.append(engine)
        yield

    monkeypatch.setattr(demo, "engine_ahead", ahead)
    monkeypatch.setattr(demo, "write_airway", lambda _folder: files)
    monkeypatch.setattr(demo, "fit_config", on_one_process)
    demo.run_demo(tmp_path / "out", Config.read("test", design="~ condition"), "ray")
    assert engines == [("pairwise", "ray"), ("plain", "local")]
    assert started == ["ray"]
    assert "same to the last bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("engine", "address", "connected"), [("ray", None, [None]), ("ray", "there:1", ["there:1"]), ("local", None, [])]
)
def test_an_engine_that_is_started_ahead_is_that_of_the_fits_inside(engine, address, connected, monkeypatch):
    from secirls import fitting
    from secirls.carriers import on_ray

    told = []
    monkeypatch.setattr(on_ray, "_connect", told.append)
    monkeypatch.setattr(on_ray, "_connection", on_ray._Connection())
    monkeypatch.setattr(on_ray.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(on_ray.ray, "shutdown", lambda: told.append("shutdown"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with fitting.engine_ahead(engine):
        assert told == connected
        with on_ray.running_ray("another") if connected else nullcontext():
            pass
        assert told == connected
    assert told == connected + ["shutdown"] * len(connected)


def faults(*, kept):
    """Page faults of a loop that makes and frees 64 MB at a time."""
    shown = [sys.executable, "-c", ARRAYS.format(kept=kept)]
    ran = subprocess.run(shown, capture_output=True, text=True, check=False, cwd=ROOT)
    if "no glibc" in ran.stderr:
        pytest.skip("the C library has no mallopt")
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_process_that_keeps_freed_memory_has_no_need_to_ask_for_it_again():
    """Beside its twin, which gives back all that it frees."""
    assert 100 * faults(kept=True) < faults(kept=False)


def test_every_actor_keeps_freed_memory(monkeypatch):
    from secirls.carriers import hosts, on_ray

    told = []
    for room in (hosts, on_ray):
        monkeypatch.setattr(room, "keep_freed_memory", lambda: told.append(True))
    on_ray.PartyActor(object, ())
    hosts.HostActor([], Config.read("test", design="~ condition"))
    on_ray.AggregatorActor()
    assert len(told) == 3
