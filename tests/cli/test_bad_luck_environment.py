"""Where the command is run: without a home, in front of a plain terminal, beside other fits, with odd variables."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import secirls
from protocols.primitives import compiling
from secirls.agreement.order import Order
from secirls.config import Config
from secirls.numerics.regression import kernels

ROOT = Path(__file__).parents[2]
NAMES = {0: "malonyl-[acp] decarboxylase", 3: "trans-[/acp] ligase", 6: "[bold]β-lactamase", 9: "TNF-α"}


def away(trial, files, *, first="", root=ROOT, **variables):
    """Fit in a process of its own; ``first`` is Python that runs before the command."""
    words = [str(word) for word in trial.words(files, "--kernel", "numpy", "--protocol", "plain", out="away")]
    code = f"{first}\nfrom secirls.cli.commands import main\nmain()"
    env = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200", **variables}
    run = [sys.executable, "-W", "ignore", "-c", code, *words]
    return subprocess.run(run, capture_output=True, env=env, cwd=trial.folder, check=False)


@pytest.fixture
def installed_for_others(tmp_path):
    """A copy of the package beside whose files nothing can be written, not even by root."""
    root = tmp_path / "installed"
    for package in ("secirls", "protocols"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (root / "secirls" / "numerics", root / "protocols" / "primitives"):
        (folder / "__pycache__").write_text("a file where a folder is wanted")
    return root


@pytest.mark.slow
def test_without_a_home_and_a_writable_package_compiled_code_is_kept_apart(trial, installed_for_others, tmp_path):
    files = trial.write()
    trial.fit(files, "--kernel", "numpy", out="clean")
    (tmp_path / "tmp").mkdir()
    nowhere = {
        "HOME": "/dev/null",
        "XDG_CACHE_HOME": "/dev/null",
        "TMPDIR": str(tmp_path / "tmp"),
        "NUMBA_CACHE_DIR": "",
    }
    done = away(trial, files, root=installed_for_others, **nowhere)
    assert done.returncode == 0, done.stderr.decode()
    for name in ("results.csv", "coefficients.csv"):
        assert (trial.folder / "away" / name).read_bytes() == (trial.folder / "clean" / name).read_bytes()
    place = tmp_path / "tmp" / f"secirls-compiled-{os.geteuid()}"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    kept = {path: path.stat().st_mtime_ns for path in place.rglob("*.nb[ic]")}
    assert kept
    # The broken twin: without a look for a place nothing is compiled, and nothing fitted.
    shutil.rmtree(trial.folder / "away")
    blind = "import protocols.primitives.compiling as c\nc.find_place = lambda: None"
    done = away(trial, files, first=blind, root=installed_for_others, **nowhere)
    assert done.returncode != 0
    assert "cannot cache function" in done.stderr.decode()
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.nb[ic]")} == kept


@pytest.mark.parametrize("taken", ["", "folder for all", "file", "link"])
def test_a_folder_for_compiled_code_that_others_may_write_is_not_used(tmp_path, taken):
    name = tmp_path / f"secirls-compiled-{os.geteuid()}"
    if taken == "folder for all":
        name.mkdir()
        name.chmod(0o777)
    elif taken == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        name.symlink_to(tmp_path / "elsewhere")
    elif taken == "file":
        name.write_text("")
    place = compiling.own_folder(tmp_path)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not place.is_symlink()
    assert (place == name) == (taken == "")


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "utf-8"))]
)
def test_names_with_brackets_and_greek_letters_are_shown_by_any_terminal(trial, encoding):
    genes = [NAMES.get(i, f"g{i}") for i in range(12)]
    trial.genes = genes
    for name in trial.var:
        trial.var[name].index = genes
    done = away(trial, trial.write(), PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C")
    shown = done.stdout.decode(encoding)
    assert done.returncode == 0, done.stderr.decode()
    for name in NAMES.values():
        assert name.encode(encoding, "backslashreplace").decode(encoding) in shown
    assert list(trial.table("away").index) == genes
    assert np.isfinite(trial.table("away")["lfcSE"]).all()


@pytest.mark.parametrize("named", ["", "  ", "local", " local "])
@pytest.mark.parametrize("way", ["variable", "option"])
def test_an_address_that_names_no_cluster_is_none(trial, monkeypatch, named, way):
    monkeypatch.setenv("RAY_ADDRESS", named if way == "variable" else "")
    files = {name: str(path) for name, path in trial.write().items()}
    order = Order.of(Config(design="~ condition"), files, address=None if way == "variable" else named)
    assert order.address is None
    assert all(place.resource is None for place in order.places.values())


def test_an_address_that_names_one_is_taken(trial, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", " 10.1.2.3:6379")
    files = {name: str(path) for name, path in trial.write().items()}
    assert Order.of(Config(design="~ condition"), files).address == "10.1.2.3:6379"
    assert Order.of(Config(design="~ condition"), files, address="10.9.9.9:1").address == "10.9.9.9:1"
    assert Order.of(Config(design="~ condition"), files, engine="local").address is None


@pytest.mark.slow
def test_fits_in_several_threads_do_not_disturb_each_other(trial):
    files = {name: str(path) for name, path in trial.write().items()}
    ways = [
        {"kernel": "fused"},
        {"kernel": "numpy"},
        {"kernel": "numpy", "levels": {"condition": ("treated", "control")}},
    ]

    def fit(way):
        return secirls.fit(files, design="~ condition", engine="local", protocol="plain", **way).table

    alone = [fit(way) for way in ways]
    assert not alone[1].equals(alone[2])
    found = {}
    begin = threading.Barrier(len(ways))

    def work(number):
        begin.wait()
        found[number] = [fit(ways[number]) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(ways))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, table in enumerate(alone):
        assert len(found[number]) == 3
        assert all(other.equals(table) for other in found[number])


def test_a_kernel_is_chosen_for_one_thread_alone():
    seen = []
    with kernels.using("numpy", 2):
        thread = threading.Thread(target=lambda: seen.append(kernels.chosen()))
        thread.start()
        thread.join()
        seen.append(kernels.chosen())
    assert [choice.kernel for choice in (*seen, kernels.chosen())] == ["fused", "numpy", "fused"]


class FakeRay:
    """Counts who connects and who closes."""

    def __init__(self, *, running=False):
        self.running, self.calls = running, []

    def is_initialized(self):
        return self.running

    __version__ = "of another release"

    def init(self, **_):
        assert not self.running
        self.running = True
        self.calls.append("init")

    def shutdown(self):
        self.running = False
        self.calls.append("shutdown")


def test_fits_in_several_threads_share_one_ray_and_the_last_closes_it(monkeypatch):
    from secirls.carriers import ray_connection

    fake = FakeRay()
    monkeypatch.setattr(ray_connection, "ray", fake)
    monkeypatch.setattr(ray_connection, "_connection", type(ray_connection._connection)())
    one, two = ray_connection.running_ray(None), ray_connection.running_ray(None)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert fake.running  # the other is at work
    two.__exit__(None, None, None)
    assert fake.calls == ["init", "shutdown"]
    with ray_connection.running_ray(None):
        pass
    assert fake.calls == ["init", "shutdown"] * 2


def test_a_ray_that_was_there_before_is_left_running_and_one_that_does_not_start_is_said_so(monkeypatch):
    from secirls.carriers import ray_connection

    fake = FakeRay(running=True)
    monkeypatch.setattr(ray_connection, "ray", fake)
    monkeypatch.setattr(ray_connection, "_connection", type(ray_connection._connection)())
    with ray_connection.running_ray(None):
        pass
    assert fake.calls == []
    fake.running = False

    def fail(**_):
        raise Exception("The current node timed out during startup")  # noqa: TRY002 - as Ray does

    fake.init = fail
    sentence = r"no Ray can be started on this machine .*engine 'local'"
    with pytest.raises(secirls.InputError, match=sentence), ray_connection.running_ray(None):
        pytest.fail("there is none")
    assert fake.calls == ["shutdown"]


def test_a_gene_name_with_a_dollar_sign_is_drawn_as_it_is(trial):
    from secirls.outputs.pictures.canvas import png
    from secirls.outputs.pictures.changes import volcano

    files = trial.write()
    table = trial.fit(files, out="drawn").reset_index()
    table.loc[:2, "gene"] = ["$x_{", "a$b$", "\\frac"]
    assert png(volcano(table, "price: $1 against $2"))[:4] == b"\x89PNG"


def test_a_system_that_says_no_ends_any_command_in_a_sentence(trial, run):
    lyon = trial.write()["lyon"]
    for words in (
        ("simulate", "--out", lyon / "below"),
        ("keys", "new", "lyon", "--out", lyon / "below"),
        ("cluster", "certs", "head=127.0.0.1", "--out", lyon / "below"),
        ("demo", "--engine", "local", "--out", lyon / "below"),
    ):
        code, _, error = run(*words)
        assert code == 2, shlex.join(map(str, words))
        assert "Traceback" not in error
        lines = [line for line in error.splitlines() if line.startswith("secirls: ")]
        assert len(lines) == 1
        assert str(lyon) in lines[0]
        assert "Not a directory" in lines[0]
