"""Parties that share nothing: each calls a hub from a process of its own. The same bits, whatever breaks on the way."""

import os
import random
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import secirls
from protocols.secure_sum import KEY_HOLDER
from secirls import fitting
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place
from secirls.carriers.hub import seats
from secirls.carriers.hub.credentials import Credentials
from secirls.carriers.hub.station import Station
from secirls.carriers.hub.wire import End
from secirls.inputs.datasets import write_simulated
from secirls.site.grounds.policy import RefusalError
from secirls.site.helper import Helper
from secirls.site.site import Site
from tests.grounds import make_grounds
from tests.listening import treating

PAGE = Path(__file__).parents[2] / "docs" / "hub.md"
SITES = ("site1", "site2", "site3")
LISTEN = "0A"
"""How the system's tables of sockets (proc(5)) call one that listens."""
CONFIG = {"design": "~ condition", "preset": "irls", "kernel": "numpy"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Grounds of three sites and a key-holder with their keys, one roster, and certificates for all and the hub."""
    folder = tmp_path_factory.mktemp("hub")
    paths = write_simulated(folder, sites=3, samples=24, genes=30, seed=5)
    make_grounds(folder, {**paths, KEY_HOLDER: None}, 'protocols = ["pairwise", "paillier"]\nmin_key_bits = 2048\n')
    with (folder / KEY_HOLDER / "site.toml").open("a") as rules:
        rules.write("min_key_bits = 2048\n")
    return folder


@pytest.fixture
def address():
    """A port of this machine that is free."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def credentials(home, name):
    return Credentials.read(home / "certs" / f"{name}.crt")


def station(home, name, address, told, patience=20.0):
    ground = str(home / name / "site.toml")

    def party(config):
        return Helper(name, config, ground) if name == KEY_HOLDER else Site(Place(name, ground), config)

    return Station(name, party, credentials(home, name), address, told.append, patience)


@contextmanager
def attending(home, address, names=SITES, patience=20.0):
    """Stations in threads; gives what each tells, and at last how it ended."""
    told = {name: [] for name in names}

    def attend(name):
        told[name].append(station(home, name, address, told[name], patience).attend())

    threads = [threading.Thread(target=attend, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    yield told
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def fit(home, address, **changes):
    return secirls.fit(
        list(SITES), engine="hub", address=address, certificate=home / "certs" / "hub.crt", **{**CONFIG, **changes}
    )


@pytest.fixture(scope="module")
def in_one_process(home):
    """The results to have, to the bit."""
    return secirls.fit({name: home / name / "site.toml" for name in SITES}, engine="local", **CONFIG)


def assert_same(one, other):
    assert one.table.equals(other.table)
    assert np.array_equal(one.kept.beta, other.kept.beta, equal_nan=True)


def test_a_fit_over_a_hub_is_that_of_one_process_to_the_bit(home, address, in_one_process):
    with attending(home, address) as told:
        result = fit(home, address)
    assert_same(result, in_one_process)
    assert {name: lines[-1].well for name, lines in told.items()} == dict.fromkeys(SITES, True)
    assert result.report["engine"] == "hub"
    assert any("called the hub" in sentence for sentence in result.report["disclosure"])


@pytest.mark.slow
def test_a_helper_calls_the_hub_like_a_site(home, address, in_one_process):
    options = {"protocol": "paillier", "key_bits": 2048}
    with attending(home, address, (*SITES, KEY_HOLDER)) as told:
        result = fit(home, address, **options)
    local = secirls.fit(
        {name: home / name / "site.toml" for name in SITES},
        engine="local",
        keys={KEY_HOLDER: home / KEY_HOLDER / "site.toml"},
        **{**CONFIG, **options},
    )
    assert_same(result, local)
    assert told[KEY_HOLDER][-1].well


def test_a_refusal_is_heard_at_the_hub_and_told_at_the_site(home, address):
    ground = home / "site2" / "site.toml"
    before = ground.read_text()
    ground.write_text(before + 'variables = ["age"]\n')
    try:
        with (
            attending(home, address, patience=1.0) as told,
            pytest.raises(RefusalError, match=r"site 'site2'.*variables"),
        ):
            fit(home, address)
    finally:
        ground.write_text(before)
    assert ["variables" in told[name][1] for name in SITES if len(told[name]) > 2] == [True]
    assert told["site1"][-1] == End(well=False, why="nobody answered for 1 s")


def command(*words, log):
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", "secirls", *words], stdout=out, stderr=subprocess.STDOUT)


def attend_command(home, name, address, log):
    certificate = str(home / "certs" / f"{name}.crt")
    return command("attend", str(home / name / "site.toml"), "--hub", address, "--certificate", certificate, log=log)


@contextmanager
def commands(home, address, tmp_path):
    """A command per site, in a process of its own."""
    running = {name: attend_command(home, name, address, tmp_path / f"{name}.log") for name in SITES}
    try:
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def manifest(address, home, **changes):
    return Manifest(
        sites=dict.fromkeys(SITES, "site.toml"),
        engine="hub",
        address=address,
        certificate=str(home / "certs" / "hub.crt"),
        fit=secirls.Config(**{**CONFIG, **changes}),
    )


@pytest.mark.slow
def test_a_site_that_dies_is_silent_and_the_fit_resumes_when_it_is_back(
    home, address, tmp_path, in_one_process, monkeypatch
):
    monkeypatch.setattr(seats, "SILENT_SECONDS", 8.0)
    with commands(home, address, tmp_path) as running:

        def kill(progress):
            if progress.round == 4:
                running["site2"].kill()

        with pytest.raises(SilentSitesError, match="site2"):
            fitting.fit_manifest(manifest(address, home), tmp_path / "out", on_round=kill)
        running["site2"].wait()
        running["site2"] = attend_command(home, "site2", address, tmp_path / "again.log")
        assert_same(fitting.resume(tmp_path / "out"), in_one_process)
        assert [process.wait(30) for process in running.values()] == [0, 0, 0]


def doors(process):
    """How many sockets of a process others can connect to."""
    held = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            held.add(str(link.readlink()))
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return sum(row[3] == LISTEN and f"socket:[{row[9]}]" in held for row in rows)


@pytest.mark.slow
def test_a_hub_that_is_killed_goes_on_and_its_sites_have_waited(home, address, tmp_path, in_one_process):
    (tmp_path / "federation.toml").write_text(
        f'sites = ["site1", "site2", "site3"]\naddress = "{address}"\n'
        f'certificate = "{home / "certs" / "hub.crt"}"\n'
        '[fit]\ndesign = "~ condition"\npreset = "irls"\nkernel = "numpy"\n'
    )
    out, log = tmp_path / "out", tmp_path / "fit.log"
    with commands(home, address, tmp_path) as running:
        leading = command("fit", str(tmp_path / "federation.toml"), "--out", str(out), log=log)
        until = time.monotonic() + 120
        while "round   3" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.005)
        assert [doors(process) for process in running.values()] == [0, 0, 0], "a party is called by nobody"
        assert doors(leading) == 1, "the twin that this would see: one that listens"
        os.kill(leading.pid, signal.SIGKILL)
        leading.wait()
        assert "round   3" in log.read_text()
        assert not (out / "results.csv").exists()
        assert [process.poll() for process in running.values()] == [None] * 3
        assert_same(fitting.resume(out), in_one_process)
        assert [process.wait(30) for process in running.values()] == [0, 0, 0]


@contextmanager
def broken_line(address, seed):
    """A line to the hub that breaks again and again, amid whatever is said; gives its address, and who spoke."""
    host, _, port = address.rpartition(":")
    draw, breaks, ended = random.Random(seed), [], threading.Event()

    def carry(near):
        far = socket.socket()
        with near, far:
            if far.connect_ex((host, int(port))) != 0:
                return
            left = draw.randrange(4_000, 60_000)
            while not ended.is_set():
                for one in select.select([near, far], [], [], 0.2)[0]:
                    try:
                        data = one.recv(min(left, 1 << 14))
                        (far if one is near else near).sendall(data)
                    except OSError:
                        return
                    left -= len(data)
                    if not data:
                        return
                    if left <= 0:
                        breaks.append(one is near)
                        return

    try:
        with treating(carry) as near_port:
            yield f"127.0.0.1:{near_port}", breaks
    finally:
        ended.set()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_line_that_breaks_changes_no_bit(home, address, in_one_process, seed, monkeypatch):
    monkeypatch.setattr("secirls.carriers.hub.station.AGAIN_SECONDS", 0.01)
    with broken_line(address, seed) as (line, breaks):
        told, ends = [], []

        def attend(name, where):
            ends.append(station(home, name, where, told).attend())

        names = [threading.Thread(target=attend, args=(name, line), daemon=True) for name in SITES]
        for thread in names:
            thread.start()
        assert_same(fit(home, address), in_one_process)
        for thread in names:
            thread.join(30)
    assert len(breaks) >= 5
    assert {True, False} <= set(breaks)
    assert [end.well for end in ends] == [True] * 3


@pytest.mark.slow
def test_the_page_on_hubs_runs_from_nothing_to_a_result(address, tmp_path):
    """Every command of it, each where its reader would be; the hub and the parties in processes of their own."""
    names = ("berlin", "lyon", "turin")
    paths = write_simulated(tmp_path, sites=3, samples=48, genes=60, seed=8)
    for name, path in zip(names, paths.values(), strict=True):
        path.rename(tmp_path / f"{name}.h5ad")
    page = PAGE.read_text(encoding="utf-8").replace("10.0.0.1:8443", address).replace("10.0.0.1", "127.0.0.1")
    (tmp_path / "federation.toml").write_text(re.search(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1])
    at = {words[1]: words for words in map(shlex.split, re.findall(r"^secirls .*$", page, re.MULTILINE))}
    assert list(at) == ["keys", "ground", "cluster", "fit", "attend"]

    def here(words, name="berlin"):
        subprocess.run(
            [sys.executable, "-m", "secirls", *(word.replace("berlin", name) for word in words[1:])],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    for name in names:
        here(at["keys"], name)
    here(["secirls", "keys", "roster", *(f"{name}/{name}.pub" for name in names)])
    for name in names:
        (tmp_path / name / "roster.json").write_bytes((tmp_path / "roster.json").read_bytes())
        (tmp_path / f"{name}.h5ad").rename(tmp_path / name / f"{name}.h5ad")
        here(at["ground"], name)
    here(at["cluster"])
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "secirls", *(word.replace("berlin", name) for word in at["attend"][1:])],
            cwd=tmp_path,
        )
        for name in names
    ]
    here(at["fit"])
    assert [process.wait(30) for process in running] == [0, 0, 0]
    assert (tmp_path / "results" / "results.csv").is_file()
