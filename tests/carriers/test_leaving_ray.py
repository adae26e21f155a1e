"""Ctrl-C while Ray itself ends: nothing is torn, and the command still says that it was interrupted."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from secirls import fitting
from secirls.carriers import ray_connection
from secirls.carriers.ray_connection import running_ray, undisturbed
from secirls.inputs.datasets import write_simulated

INTERRUPTED = "secirls: interrupted; no results were written\n"


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def ending(monkeypatch):
    """A Ray that is interrupted in its own end, and how far that came."""
    came = []

    def shutdown():
        came.append("begun")
        interrupt()
        came.append("ended")

    monkeypatch.setattr(ray_connection.ray, "shutdown", shutdown)
    monkeypatch.setattr(ray_connection.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_connection, "_connect", lambda _: None)
    return came


def test_ray_ends_whole_and_then_the_interruption_is_told(ending):
    with pytest.raises(KeyboardInterrupt), running_ray("here:1"):
        pass
    assert ending == ["begun", "ended"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ray_connection._connection._fits == 0


def test_so_it_does_where_it_did_not_come_up(ending, monkeypatch):
    monkeypatch.setattr(ray_connection, "_connect", lambda _: interrupt())
    with pytest.raises(KeyboardInterrupt), running_ray("here:1"):
        pass
    assert ending == ["begun", "ended"]
    assert ray_connection._connection._fits == 0


def test_without_that_its_end_is_torn(ending, monkeypatch):
    """The broken twin."""
    monkeypatch.setattr(ray_connection, "undisturbed", lambda: __import__("contextlib").nullcontext())
    with pytest.raises(KeyboardInterrupt), running_ray("here:1"):
        pass
    assert ending == ["begun"]


def test_who_handles_interruptions_otherwise_goes_on_doing_so():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("theirs"))
    try:
        with undisturbed():
            interrupt()
            assert heard == ["theirs"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_never_interrupted():
    said = []
    thread = threading.Thread(target=lambda: said.extend(["in" for _ in [0] if undisturbed().__enter__() is None]))
    thread.start()
    thread.join()
    assert said == ["in"]


@pytest.mark.slow
def test_ctrl_c_twice_in_a_fit_ends_it_in_one_sentence(tmp_path):
    """The second while Ray ends after the first."""
    paths = write_simulated(tmp_path, sites=3, samples=18, genes=30, seed=3)
    sites = [word for name, path in paths.items() for word in ("--site", f"{name}={path}")]
    words = [*sites, "--design", "~ condition", "--preset", "irls", "--kernel", "numpy", "--out", "out"]
    command = [sys.executable, "-m", "secirls.cli", "fit", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ) as fit:
        heard = []
        for line in fit.stderr:
            heard.append(line)
            if line.startswith("round   3"):
                fit.send_signal(signal.SIGINT)
                threading.Timer(0.3, fit.send_signal, (signal.SIGINT,)).start()
    assert fit.returncode in (130, -signal.SIGINT), heard  # the second where Python had nothing left to do
    assert [line for line in heard if line.startswith("secirls: ")] == [INTERRUPTED], heard


def test_an_interruption_while_a_fit_is_left_is_heard(tmp_path, monkeypatch):
    """As Ray's end is interrupted, after a round whose teller was: what collects a generator hears of nothing."""
    events = fitting._events

    def left(*asked):
        try:
            yield from events(*asked)
        finally:
            raise KeyboardInterrupt

    def stop(_):
        raise StopIteration

    monkeypatch.setattr(fitting, "_events", left)
    paths = write_simulated(tmp_path, sites=3, samples=18, genes=10, seed=3)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(paths, design="~ condition", preset="irls", kernel="numpy", engine="local", on_round=stop)
