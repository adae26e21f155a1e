"""Ctrl-C is one sentence and exit code 130, also while the command's modules are still being read."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from secirls.cli import interruption

ROOT = Path(__file__).parents[2]
TOLD = "secirls: interrupted; no results were written\n"
HALFWAY = "import os, signal, sys\nos.kill(os.getpid(), signal.SIGINT)\nsys.exit('went on')\n"
"""A module in the place of one that the command imports: whoever waits for it presses Ctrl-C."""


@pytest.fixture
def importing(tmp_path):
    """Run Python on a command whose import is interrupted: exit code and standard error."""
    (tmp_path / "typer.py").write_text(HALFWAY)

    def call(*words):
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        ran = subprocess.run(
            [sys.executable, *words],
            check=False,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        return ran.returncode, ran.stderr

    return call


SCRIPT = "from {module} import {name}; {name}()"


def test_the_script_and_the_modules_tell_an_interruption_of_their_import(importing):
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["secirls"]
    module, name = entry.split(":")
    for words in (("-c", SCRIPT.format(module=module, name=name)), ("-m", "secirls"), ("-m", "secirls.cli")):
        assert importing(*words) == (interruption.INTERRUPTED, TOLD), words


def test_the_twin_without_it_shows_where_python_was(importing):
    code, error = importing("-c", SCRIPT.format(module="secirls.cli.commands", name="main"))
    assert code not in (0, interruption.INTERRUPTED)
    assert "Traceback" in error


def test_where_interruptions_are_ignored_they_stay_so(importing):
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    code, error = importing("-c", ignored + SCRIPT.format(module="secirls.cli.__main__", name="main"))
    assert (code, error) == (1, "went on\n")


def test_a_command_that_runs_tidies_up_after_an_interruption(run, monkeypatch):
    tidied = []

    def pressed(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            tidied.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr("secirls.inputs.datasets.write_simulated", pressed)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        interruption.end_at_once()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert run("simulate", "--out", "sites") == (interruption.INTERRUPTED, "", TOLD)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert tidied == [signal.default_int_handler]
