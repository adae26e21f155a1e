"""On Ray: processes that die, hang, break or send nonsense are silent and killed, and no finished round is lost."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from secirls import fitting
from secirls.aggregator.aggregator import Outcome, lead
from secirls.aggregator.checkpoint import FOLDER, Checkpoint
from secirls.agreement.faults import PartyFaultError, SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Stage
from secirls.config import Config
from secirls.inputs.datasets import write_simulated

LATE = 8
EARLY = 3
"""A round after which a fit has so many before it that no signal comes too late."""
DEADLINE = 4.0


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Four files of six simulated samples over 30 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=4, samples=24, genes=30, seed=3)
    return {name: str(path) for name, path in paths.items()}


def config(**changes):
    return Config(
        **{
            "design": "~ condition",
            "preset": "irls",
            "kernel": "numpy",
            "deadline": DEADLINE,
            "threshold": 3,
            "consistency": False,
            **changes,
        }
    )


def spoil(actor, verb, call, way):
    """Runs in the site's process: from now on, the n-th call of a verb goes wrong."""
    honest = getattr(actor._desk.party, verb)
    calls = {"n": 0}

    def spoiled(*given):
        calls["n"] += 1
        answer = honest(*given)
        if calls["n"] != call:
            return answer
        if way == "die":
            os._exit(1)
        if way == "hang":
            time.sleep(600)
        if way == "break":
            raise RuntimeError("patient 12345")
        if way == "nonsense":
            return {"answer": answer.message}
        if way == "unreadable":
            return Unreadable()
        last = bytes([answer.message[-1] ^ 1])
        return type(answer)(answer.message[:-1] + last, answer.costs)

    setattr(actor._desk.party, verb, spoiled)


class Unreadable:
    def __reduce__(self):
        return int, ("patient 12345",)


def pids(handles):
    import ray

    return ray.get([handle.__ray_call__.remote(lambda _: os.getpid()) for handle in handles])


def gone(pid, seconds=10.0):
    """Whether a process ends within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def table(local_ray, files):
    """Start four sites; gives a function that leads a fit in which the second goes wrong."""
    import ray

    from secirls.carriers.actors import PartyActor, packed
    from secirls.carriers.on_ray import _ACTOR
    from secirls.carriers.ray_federation import RayFederation
    from secirls.site.site import Site

    started = []

    def run(settings, verb, way, call=LATE):
        kind = ray.remote(PartyActor).options(**_ACTOR)
        handles = {name: kind.remote(packed(Site, Place(name, path), settings)) for name, path in files.items()}
        started.extend(handles.values())
        pid = dict(zip(handles, pids(handles.values()), strict=True))
        ray.get(handles["site2"].__ray_call__.remote(spoil, verb, call, way))
        federation = RayFederation(handles, (), settings.deadline)
        events, error = [], None
        began = time.monotonic()
        try:
            events.extend(lead(Task(settings, fitting.new_run(settings)), federation))
        except Exception as raised:  # noqa: BLE001 - whatever ended the fit is looked at
            error = raised
        assert time.monotonic() - began < 60
        assert gone(pid["site2"])
        assert not any(gone(pid[name], 0.2) for name in set(pid) - {"site2"})
        return events, error

    yield run
    for handle in started:
        ray.kill(handle)


def check_went_on(events, error, verb):
    assert error is None
    assert isinstance(events[-1], Outcome)
    lost = [(told.round, told.lost[0][0]) for told in events[-1].rounds if told.lost]
    assert lost == [(LATE - 1, "site2")]
    assert ("site2" in events[-1].rounds[LATE - 1].parties) == (verb == "assist")
    assert events[-1].rounds[-1].parties == ("site1", "site3", "site4")
    assert "patient" not in str(events[-1].rounds)


@pytest.mark.slow
def test_the_fit_goes_on_without_a_site_where_agreed(table):
    check_went_on(*table(config(on_dropout="continue"), "contribute", "hang"), "contribute")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["die", "altered"])
def test_before_it_stands_a_session_begins_anew_without_it_where_agreed(table, way):
    events, error = table(config(on_dropout="continue"), "hello", way, call=1)
    assert error is None
    assert events[-1].sites == ("site1", "site3", "site4")
    assert all(told.parties == events[-1].sites for told in events[-1].rounds)
    assert [told.lost[0][0] for told in events[-1].rounds if told.lost] == ["site2"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["die", "hang", "break", "nonsense", "unreadable", "altered"])
@pytest.mark.parametrize("verb", ["contribute", "assist"])
def test_every_way_to_fail_at_every_leg(table, verb, way):
    check_went_on(*table(config(on_dropout="continue"), verb, way), verb)


@pytest.mark.slow
def test_the_default_is_to_stop(table):
    events, error = table(config(), "contribute", "hang")
    assert isinstance(error, SilentSitesError)
    assert error.silent == ("site2",)
    kept = [event for event in events if not isinstance(event, Stage)]
    assert len(kept) == LATE  # what was begun, and the finished rounds


def manifest(files):
    return Manifest.read("test", sites=files, fit={"design": "~ condition", "preset": "irls", "kernel": "numpy"})


@pytest.fixture(scope="session")
def undisturbed(files, tmp_path_factory):
    local = manifest(files).model_copy(update={"engine": "local"})
    return fitting.fit_manifest(local, tmp_path_factory.mktemp("undisturbed"))


def living(kind):
    from ray._private.state import actors

    return [entry for entry in actors().values() if entry["State"] == "ALIVE" and entry["ActorClassName"] == kind]


@pytest.mark.slow
def test_a_killed_aggregator_loses_no_finished_round(tmp_path, files, undisturbed, local_ray, actors_left):
    def kill(told):
        if told.round == LATE:
            (aggregator,) = living("AggregatorActor")
            os.kill(aggregator["Pid"], signal.SIGKILL)

    with pytest.raises(PartyFaultError, match="aggregator"):
        fitting.fit_manifest(manifest(files), tmp_path, on_round=kill)
    kept = len(Checkpoint.open(tmp_path / FOLDER)[2].records)
    assert kept > LATE
    asked = []
    result = fitting.resume(tmp_path, on_round=lambda told: asked.append(told.round))
    assert asked[0] == kept
    assert result.table.equals(undisturbed.table)
    assert result.coefficients.equals(undisturbed.coefficients)
    assert not actors_left()


def children_of(pid):
    """Processes below a process, by their parents."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents.setdefault(int(Path(entry, "stat").read_text().rpartition(")")[2].split()[1]), []).append(entry)
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        below = [int(entry.name) for entry in below]
        found += below
        todo += below
    return found


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_no_process(tmp_path):
    """A command of its own, interrupted in the middle of its rounds, and the same fit resumed."""
    # Enough genes that the rounds take a while: what is interrupted must not be done before the signal arrives.
    made = write_simulated(tmp_path / "sites", sites=4, samples=24, genes=60_000, seed=3)
    sites = {name: str(path) for name, path in made.items()}
    named = [word for name, path in sites.items() for word in ("--site", f"{name}={path}")]
    command = [sys.executable, "-m", "secirls.cli"]
    words = [*named, "--design", "~ condition", "--preset", "irls", "--kernel", "numpy", "--out", "out"]
    # Who runs tests in the background of a shell may have left them deaf to Ctrl-C, which a command would inherit.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    piped = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heard}
    with subprocess.Popen([*command, "fit", *words], **piped) as fit:
        shown, below = [], []
        for line in fit.stderr:
            shown.append(line)
            if line.startswith("round   0"):
                below = children_of(fit.pid)
            if line.startswith(f"round {EARLY:>3}"):
                break
        fit.send_signal(signal.SIGINT)
        rest, code = fit.stderr.read(), fit.wait(60)
    assert len(below) > 5
    assert code == 130, rest
    assert "secirls resume out" in rest
    assert "Traceback" not in "".join(shown) + rest
    assert all(gone(pid, 20) for pid in below)
    result = fitting.resume(tmp_path / "out")
    local = manifest(sites).model_copy(update={"engine": "local"})
    assert result.table.equals(fitting.fit_manifest(local, tmp_path / "undisturbed").table)
