"""Each actor killed at each leg, on Ray: a sentence, and a fit that goes on to the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from secirls import fitting
from secirls.aggregator.checkpoint import FOLDER, Checkpoint, holds_a_fit
from secirls.agreement.faults import PartyFaultError, SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LATE = 5
"""The call of a verb that comes every round at which somebody is killed."""

BEFORE, MEETING, ROUNDS = ("survey", "key", "join"), ("hello", "meet"), ("contribute", "assist")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of eight simulated samples over 12 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=3, samples=24, genes=12, seed=3)
    return {name: str(path) for name, path in paths.items()}


def manifest(files, protocol="pairwise", **more):
    fit = {"design": "~ condition", "preset": "irls", "kernel": "numpy", "protocol": protocol, "consistency": False}
    if protocol.startswith("paillier"):
        fit |= {"key_bits": 512, "insecure_test_keys": True}
    return Manifest.read("test", sites=files, fit=fit, **more)


def tables(result):
    return result.table.to_csv(float_format="%.17g"), result.coefficients.to_csv(float_format="%.17g")


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    return tables(fitting.fit_manifest(manifest(files, engine="local"), tmp_path_factory.mktemp("undisturbed")))


def doomed(asked, verb, call, victim):
    """A party's actor: when ``asked`` has done a verb for the n-th time, the victim dies before the answer leaves."""
    from secirls.carriers.actors import PartyActor

    class DoomedActor(PartyActor):
        calls = 0

        def ask(self, name, *given):
            answer = super().ask(name, *given)
            if self._desk.party.name == asked and name == verb:
                self.calls += 1
                if self.calls == call:
                    for pid in [os.getpid()] if victim == asked else siblings(victim):
                        os.kill(pid, signal.SIGKILL)
            return answer

    def siblings(kind):
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                title = (entry / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if parent == os.getppid() and title.startswith(b"ray::" + kind.encode()):
                found.append(int(entry.name))
        return found

    return DoomedActor


@pytest.fixture
def ordeal(files, undisturbed, local_ray, actors_left, tmp_path, monkeypatch):
    """Run a fit in which somebody dies, and go on with what is left; gives what the fit ended with."""

    def run(protocol, asked, verb, victim):
        from secirls.carriers import on_ray

        call = LATE if verb in ROUNDS else 1
        monkeypatch.setattr(on_ray, "PartyActor", doomed(asked, verb, call, victim))
        with pytest.raises((InputError, SilentSitesError, PartyFaultError)) as raised:
            fitting.fit_manifest(manifest(files, protocol), tmp_path)
        monkeypatch.undo()
        assert not actors_left()
        assert holds_a_fit(tmp_path) == (verb not in BEFORE)
        if verb in BEFORE:
            result = fitting.fit_manifest(manifest(files, protocol), tmp_path)
        else:
            kept = len(Checkpoint.open(tmp_path / FOLDER)[2].records)
            # A silent site ends the round it is silent in; the aggregator's death may take the last records along.
            assert kept == (0 if verb in MEETING else LATE - 1) or (victim == "AggregatorActor" and kept < LATE)
            result = fitting.resume(tmp_path)
        assert tables(result) == undisturbed
        assert not actors_left()
        return raised.value

    return run


@pytest.mark.parametrize("verb", ["survey", "join", "hello", "meet", "contribute", "assist"])
def test_a_killed_site_is_silent_or_the_session_does_not_begin(ordeal, verb):
    error = ordeal("pairwise", "site2", verb, "site2")
    if verb in BEFORE:
        assert str(error) == "site 'site2': did not answer, so the session can't begin"
    else:
        assert error.silent == ("site2",)


@pytest.mark.parametrize("verb", ["key", "join", "hello", "meet", "assist"])
def test_a_killed_key_holder_is_named(ordeal, verb):
    assert "key-holder" in str(ordeal("paillier", "key-holder", verb, "key-holder"))


@pytest.mark.parametrize("verb", ["key", "join", "hello", "meet"])
def test_a_killed_key_dealer_is_named(ordeal, verb):
    assert "key-dealer" in str(ordeal("paillier-threshold", "key-dealer", verb, "key-dealer"))


@pytest.mark.parametrize(
    ("protocol", "verb"),
    [
        ("plain", "contribute"),
        ("additive", "contribute"),
        ("additive", "assist"),
        ("paillier", "contribute"),
        ("paillier", "assist"),
        ("paillier-threshold", "contribute"),
        ("paillier-threshold", "assist"),
    ],
)
def test_a_killed_site_is_silent_under_every_other_protocol(ordeal, protocol, verb):
    assert ordeal(protocol, "site2", verb, "site2").silent == ("site2",)


@pytest.mark.parametrize("verb", ["survey", "join", "hello", "meet", "contribute", "assist"])
def test_of_a_killed_aggregator_the_death_of_its_process_is_said(ordeal, verb):
    error = ordeal("pairwise", "site2", verb, "AggregatorActor")
    assert str(error) == "aggregator failed in 'lead' with an unexpected death of its process"


def below(pid):
    """Processes that descend from a process."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, more = set(), {pid}
    while more:
        found |= more
        more = {child for child, parent in parents.items() if parent in more} - found
    return found - {pid}


def holds_data(pid):
    """Whether a process is one of our actors, or the raylet that could start one."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"Actor" in title or b"raylet/raylet" in title


def test_no_party_outlives_a_killed_driver(tmp_path, files, undisturbed):
    """Killed, not interrupted: it can't tidy up, yet no party outlives it."""
    sites = [word for name, path in files.items() for word in ("--site", f"{name}={path}")]
    words = [
        sys.executable,
        "-m",
        "secirls.cli",
        "fit",
        *sites,
        "--design",
        "~ condition",
        "--preset",
        "irls",
        "--kernel",
        "numpy",
    ]
    with subprocess.Popen([*words, "--out", "out"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as fit:
        for line in fit.stderr:
            if line.startswith(f"round {LATE:>3}"):
                break
        ours = {pid for pid in below(fit.pid) if holds_data(pid)}
        assert len(ours) > len(files)
        fit.kill()
    until = time.monotonic() + 60
    while any(holds_data(pid) for pid in ours) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(holds_data(pid) for pid in ours)
    assert len(Checkpoint.open(tmp_path / "out" / FOLDER)[2].records) > LATE
    assert tables(fitting.resume(tmp_path / "out")) == undisturbed
