"""What each process loads before it can work: the shape of a start, where its seconds depend on the machine."""

import gc
import pickle
import shlex
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue

import numba
import numpy as np
import pytest
import ray

from protocols.primitives import compiling
from secirls import fitting
from secirls.agreement.ledger import Meter
from secirls.carriers import ahead, ray_connection
from secirls.cli import demo
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs import datasets
from secirls.inputs.datasets import write_simulated

ROOT = Path(__file__).parents[1]
DRAWN = {"matplotlib", "rich", "typer"}
"""What people look at, and no party."""
NEEDLESS = {"formulaic", "scipy.stats", "sklearn", "joblib", "phe", "gmpy2"}
"""What no fit with masks needs anywhere."""
ANNOTATED = {"anndata", "pandas", "zarr"}
"""What no site needs that reads a dense h5ad."""

SITE = """
from secirls.carriers.actors import PartyActor, packed
from secirls.config import Config
from secirls.agreement.order import Place
from secirls.site.site import Site
PartyActor(packed(Site, Place("site1", {path!r}), Config.read("test", design="~ condition"))).ask("survey")
"""
AGGREGATOR = "from secirls.carriers.actors import AggregatorActor\nAggregatorActor()"
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
COMPILER = {"numba.np.npyimpl", "numba.np.arrayobj"}
"""What numba compiles NumPy's functions and arrays by."""

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


@pytest.fixture(scope="module")
def first_fit(files):
    """The modules of a process that made a fit; what it compiled is kept."""
    return loaded(FIT.format(sites=files))


def test_a_whole_fit_in_one_process_starts_no_ray(first_fit):
    assert not first_fit & (DRAWN | NEEDLESS | {"ray"})


@pytest.mark.skipif(not numba.__version__.startswith(compiling.TRIED), reason="another release of numba")
@pytest.mark.usefixtures("first_fit")
def test_code_that_is_kept_is_taken_without_its_compiler(files):
    """A second fit compiles nothing; beside its twin, for which numba loads all the same what it would compile by."""
    fit = FIT.format(sites=files)
    assert not COMPILER & loaded(fit)
    assert loaded(OWN_WAY + fit) >= COMPILER


def test_a_module_that_is_loaded_would_be_seen():
    there = {module for module in DRAWN | NEEDLESS | ANNOTATED if find_spec(module)}
    assert there >= DRAWN | {"anndata", "pandas", "joblib", "scipy.stats", "sklearn"}
    assert there <= loaded(f"import secirls\ndef late():\n    import {', '.join(sorted(there))}\nlate()")


@pytest.mark.parametrize("engine", ["ray", "local"])
def test_the_demo_starts_ray_once_and_fits_in_the_clear_beside_it(engine, files, tmp_path, monkeypatch, capsys):
    fit, engines, running, began = fitting.fit_config, [], [], threading.Event()

    def on_one_process(config, sites, *, engine, **watch):
        engines.append((config.protocol, engine, config.n_jobs, list(running)))
        if config.protocol == "plain":
            began.set()
        elif engine == "ray":
            assert began.wait(60)  # the other is under way
        return fit(config, sites, engine="local", **watch)

    @contextmanager
    def ahead(engine):
        running.append(engine)
        yield
        running.clear()

    monkeypatch.setattr(demo, "engine_ahead", ahead)
    monkeypatch.setattr(datasets, "write_airway", lambda _folder: files)
    monkeypatch.setattr(fitting, "fit_config", on_one_process)
    demo.run_demo(tmp_path / "out", Config.read("test", design="~ condition"), engine)
    assert sorted(engines) == [("pairwise", engine, None, [engine]), ("plain", "local", 1, ["ray"] * (engine == "ray"))]
    shown = capsys.readouterr()
    assert "same to the last bit" in shown.out
    in_the_clear = shown.err.partition("plain, for comparison: ")[2]
    assert "round   0  census" in in_the_clear


def test_what_fails_in_the_clear_ends_the_demo(files, tmp_path, monkeypatch):
    def failing(config, sites, **_):
        raise InputError("the demo's disk is full")

    monkeypatch.setattr(datasets, "write_airway", lambda _folder: files)
    monkeypatch.setattr(fitting, "fit_config", failing)
    with pytest.raises(InputError, match="disk is full"):
        demo._in_the_clear(Config.read("test", design="~ condition"), files, told := SimpleQueue())
    assert told.get_nowait() is None  # so that nobody waits for more


@pytest.mark.parametrize(
    ("engine", "address", "connected"), [("ray", None, [None]), ("ray", "there:1", ["there:1"]), ("local", None, [])]
)
def test_an_engine_that_is_started_ahead_is_that_of_the_fits_inside(engine, address, connected, monkeypatch):
    told, ended = [], threading.Event()
    monkeypatch.setattr(ray_connection, "_connect", told.append)
    monkeypatch.setattr(ray_connection, "_connection", ray_connection._Connection())
    monkeypatch.setattr(ray_connection.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_connection.ray, "shutdown", lambda: ended.wait(60) and told.append("shutdown"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with ahead.engine_ahead(engine):
        assert told == connected
        with ray_connection.running_ray("another") if connected else nullcontext():
            pass
        assert told == connected
    assert told == connected  # what follows does not wait for Ray's end
    ended.set()
    with ray_connection.running_ray("next"):  # but the next Ray does
        assert told == [*connected, *["shutdown"] * len(connected), "next"]


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
    from secirls.carriers import actors, hosts

    told = []
    for room in (hosts, actors):
        monkeypatch.setattr(room, "keep_freed_memory", lambda: told.append(True))
    actors.PartyActor(actors.packed(object))
    hosts.HostActor([], Config.read("test", design="~ condition"))
    actors.AggregatorActor()
    assert len(told) == 3


RESTED = []


class Resting:
    """A party that notes whether the collector rested when it was made."""

    def __init__(self, name):
        RESTED.append((name, not gc.isenabled()))


def test_the_collector_rests_while_an_actor_loads_its_party_and_passes_over_it_after():
    from secirls.carriers import actors

    frozen = gc.get_freeze_count()
    try:
        actors.PartyActor(actors.packed(Resting, "site1"))
        assert RESTED == [("site1", True)]
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        with pytest.raises(ValueError, match="no party"):
            actors.PartyActor(actors.packed(int, "no party"))
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_counts_in_memory_reach_an_actor_without_a_copy():
    """Beside its twin, which has them in one piece with all else."""
    from secirls.carriers import actors

    counts = np.arange(1 << 16)
    head, (array,) = actors.packed(Kept, counts)
    assert len(head) < counts.nbytes / 100 < len(pickle.dumps((Kept, counts)))
    assert np.shares_memory(array, counts)
    try:
        kept = actors.PartyActor((head, [array]))._desk.party.counts
    finally:
        gc.unfreeze()
    assert np.shares_memory(kept, counts)
    assert np.array_equal(kept, counts)


another_ray = pytest.mark.skipif(
    not ray.__version__.startswith(ray_connection.TRIED), reason="another release of Ray, which starts whole"
)


class Kept:
    """A party that keeps what it is given."""

    def __init__(self, counts):
        self.counts = counts


@another_ray
def test_a_ray_that_is_started_leaves_its_watchers_out(monkeypatch):
    from ray._private import node, services

    whole, start = node.Node, services.start_ray_process
    with ray_connection._lean():
        left = [name for name in dir(whole) if getattr(node.Node, name) is ray_connection._nothing]
    assert left == ["start_api_server", "start_log_monitor", "start_monitor"]
    assert node.Node is whole
    assert services.start_ray_process is start
    monkeypatch.setattr(ray_connection, "TRIED", ())
    with ray_connection._lean():
        assert node.Node is whole
        assert services.start_ray_process is start


RAYLET = ["raylet", "--session_dir=/a b/session", "--node_id=4e", "--head"]
AGENTS = ["--dashboard_agent_command=python agent.py --grpc-port=0", "--runtime_env_agent_command=python main.py"]


@another_ray
def test_agents_stand_idle_in_a_ray_that_is_started(monkeypatch):
    """Beside their twins: workers that something outside has need more than code, and any other process of Ray's."""
    from ray._private import ray_constants, services

    started = []
    monkeypatch.setattr(services, "start_ray_process", lambda command, kind: started.append((command, kind)))
    monkeypatch.setattr(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)
    monkeypatch.delenv("RAY_RUNTIME_ENV_HOOK", raising=False)
    with ray_connection._lean():
        services.start_ray_process([*RAYLET, *AGENTS], "raylet")
        services.start_ray_process([*RAYLET, *AGENTS], "gcs_server")
    (command, _), other = started
    assert other == ([*RAYLET, *AGENTS], "gcs_server")
    assert command[: len(RAYLET)] == RAYLET
    for given, ports in zip(command[len(RAYLET) :], (3, 1), strict=True):
        words = shlex.split(given.partition("=")[2])
        assert words[:3] == [sys.executable, "-I", "-S"]
        assert words[4:6] == ["/a b/session", "4e"]
        assert len(words) == 6 + ports
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "a.hook")
    with ray_connection._lean():
        services.start_ray_process([*RAYLET, *AGENTS], "raylet")
    assert started[-1] == ([*RAYLET, *AGENTS], "raylet")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_who_stands_in_for_an_agent_says_that_its_ports_are_not_used_and_ends_with_who_started_it(tmp_path):
    from secirls.carriers.lean_ray.raylet_command import with_idle_agents

    command = with_idle_agents([f"--session_dir={tmp_path}", "--node_id=4e", AGENTS[0]])[-1].partition("=")[2]
    raylet = f"import subprocess, time; print(subprocess.Popen({shlex.split(command)}).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", raylet], stdout=subprocess.PIPE, text=True) as parent:
        idle = Path("/proc") / parent.stdout.readline().strip()
        files = [tmp_path / f"{port}_4e" for port in ("metrics_agent_port", "metrics_export_port")]
        wait_until(lambda: all(file.exists() for file in files))
        assert [file.read_text() for file in files] == ["-1", "-1"]
        assert idle.exists()
        parent.kill()
    wait_until(lambda: not idle.exists() or "Z" in (idle / "stat").read_text().rpartition(")")[2])


def wait_until(done):
    """Wait for at most ten seconds."""
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("threads", "counted"), [(1, False), (2, True)])
def test_what_another_thread_computes_is_no_cost_of_a_verb_on_one_thread(threads, counted):
    """Beside its twin: a verb that may have threads of its own is booked with all that its process does."""
    burnt = threading.Event()

    def burn():
        while time.thread_time() < 0.1:
            pass
        burnt.set()

    meter, other = Meter(threads), threading.Thread(target=burn)
    meter.measure("wait", lambda: (other.start(), burnt.wait()))
    (cost,) = meter.take()
    assert (cost.cpu_seconds > 0.09) is counted
