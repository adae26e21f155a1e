"""Site files, and settings that must stand in the environment before Ray is imported."""

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITES = ("berlin", "lyon", "oslo", "turin")


@pytest.fixture(scope="session")
def folder():
    """A folder with a short name: Ray's socket paths end at 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def files(folder):
    """Four files of six simulated samples over 30 genes."""
    from secirls.inputs.datasets import write_simulated

    paths = write_simulated(folder, sites=4, samples=24, genes=30, seed=3)
    return {name: str(path) for name, path in zip(SITES, paths.values(), strict=True)}


@pytest.fixture(scope="session")
def undisturbed(files):
    """The tables of the same fit in one process."""
    from secirls.config import Config
    from secirls.fitting import fit_config

    return fit_config(Config(design="~ condition", preset="irls", kernel="numpy"), files, engine="local")


def environment(folder, **more):
    """Nothing of the surroundings decides how Ray runs here."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder)}
    return given | more


COMMAND = (sys.executable, "-m", "secirls.cli")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address):
    host, _, port = address.rpartition(":")
    for _ in range(300):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"nobody listened at {address} within a minute")


class Nodes:
    """`ray start` processes of ours by the printed lines; none outlives the block."""

    def __init__(self, place, env, logs):
        self.place, self.env, self.logs = place, env, logs
        self.running = []

    def lines(self, manifest, address, *more):
        """The words of every `ray start` that the template prints: the aggregator's first, then the sites'."""
        told = [*COMMAND, "cluster", "template", str(manifest), "--address", address, *more]
        shown = subprocess.run(told, env=self.env, capture_output=True, text=True, check=True).stdout.splitlines()
        return [shlex.split(line) for line in shown if line.startswith("ray start")]

    def start(self, words, *more, within=(), **env):
        """Run one line, with what is particular to many nodes on one machine."""
        number = len(self.running)
        ray = [*within, sys.executable, "-m", "ray.scripts.scripts", *words[1:], *more]
        ray += ["--num-cpus=1", "--object-store-memory=90000000", "--temp-dir", str(self.place / str(number))]
        with (self.logs / f"{number}.log").open("w") as log:
            process = subprocess.Popen(ray, env=self.env | env, stdout=log, stderr=subprocess.STDOUT)
        self.running.append(process)
        return process

    def start_on_loopback(self, manifest, *more, head=()):
        """All lines of a template with these options, each node at a loopback address of its own; gives the head's."""
        address = f"127.0.0.1:{free_port()}"
        first, *others = self.lines(manifest, address, *more)
        self.start(first, *head)
        wait_for(address)
        for number, words in enumerate(others, 2):
            # Several nodes on one machine get in each other's way unless each has an address of its own.
            self.start(words, f"--node-ip-address=127.0.0.{number}")
        return address

    def said(self):
        """The last words of every process, for a test that fails."""
        return "".join(log.read_text()[-500:] for log in sorted(self.logs.glob("*.log")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def ray_nodes():
    """`Nodes`, for tests."""
    return Nodes


@pytest.fixture(scope="session")
def free():
    """`free_port` and `wait_for`, for tests."""
    return free_port, wait_for


@pytest.fixture(scope="session")
def write_manifest():
    """Writes a federation.toml of its own name."""

    def write(place, sites, nodes=None, **fit):
        path = place / f"{secrets.token_hex(4)}.toml"
        quick = {"design": "~ condition", "preset": "irls", "kernel": "numpy"}
        tables = {"sites": sites, "nodes": nodes or {}, "fit": quick | fit}
        lines = [
            line
            for table, values in tables.items()
            for line in (f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()))
        ]
        path.write_text("\n".join(lines))
        return path

    return write


@pytest.fixture(scope="session")
def command():
    """The words that `secirls` stands for."""
    return COMMAND


@pytest.fixture(scope="session")
def new_place(folder):
    """Makes a short-named folder for one bed."""

    def make():
        made = folder / secrets.token_hex(2)
        made.mkdir()
        return made

    return make


@pytest.fixture(scope="session")
def with_token():
    """Makes an environment in which Ray asks for a token that lies in a folder, for its owner's eyes alone."""

    def make(place):
        token = place / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        return environment(place, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))

    return make
