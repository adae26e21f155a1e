"""Sites that call a hub from machines of their own, in network namespaces, over links that fail."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.grounds import make_grounds
from tests.links import HEAD, ip, spaces, within

pytestmark = pytest.mark.cluster

SITES = ("berlin", "lyon", "turin")
ADDRESS = f"{HEAD}:8443"
MOMENT, LONG = 8.0, 45.0
"""Seconds for which a link is down: shorter, and longer, than a site may be without a sign of life."""


@pytest.fixture(scope="module")
def links():
    with spaces(SITES) as made:
        yield made


@pytest.fixture(scope="module")
def home(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    make_grounds(folder, {name: files[name] for name in SITES}, hub=HEAD)
    (folder / "federation.toml").write_text(
        f'sites = ["berlin", "lyon", "turin"]\naddress = "{ADDRESS}"\ncertificate = "certs/hub.crt"\n'
        '[fit]\ndesign = "~ condition"\npreset = "irls"\nkernel = "numpy"\n'
    )
    return folder


@pytest.fixture(scope="module")
def undisturbed(files):
    from secirls.config import Config
    from secirls.fitting import fit_config

    given = {name: files[name] for name in SITES}
    told = fit_config(Config(design="~ condition", preset="irls", kernel="numpy"), given, engine="local")
    return told.table.to_csv(index=False, float_format="%.17g")


def run(space, *words, **more):
    return subprocess.Popen([*within(space), sys.executable, "-m", "secirls", *map(str, words)], **more)


@contextmanager
def attending(links, home):
    """A command per site, in its namespace."""
    running = {
        name: run(
            *(links[name], "attend", home / name / "site.toml", "--hub", ADDRESS),
            *("--certificate", home / "certs" / f"{name}.crt"),
        )
        for name in SITES
    }
    try:
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def cut(links, lead, seconds):
    """Take lyon's link down after some rounds of a fit, for so long; gives what the fit says."""
    said = []
    for line in lead.stderr:
        said.append(line)
        if line.startswith("round   3"):
            break
    ip("-n", links["head"], "link", "set", "lyon", "down")
    time.sleep(seconds)
    ip("-n", links["head"], "link", "set", "lyon", "up")
    return "".join(said) + lead.communicate(timeout=120)[1]


def leading(links, home, out):
    words = "fit", home / "federation.toml", "--out", out
    return run(links["head"], *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_link_that_fails_for_a_moment_is_not_noticed(links, home, tmp_path, undisturbed):
    with attending(links, home) as running, leading(links, home, tmp_path / "out") as lead:
        said = cut(links, lead, MOMENT)
        assert lead.returncode == 0, said
        assert [process.wait(30) for process in running.values()] == [0, 0, 0]
    assert (tmp_path / "out" / "results.csv").read_text() == undisturbed


def test_a_link_that_stays_down_stops_the_fit_and_its_site_waits_for_the_next_session(
    links, home, tmp_path, undisturbed
):
    out = tmp_path / "out"
    with attending(links, home) as running:
        with leading(links, home, out) as lead:
            said = cut(links, lead, LONG)
        assert lead.returncode == 1, said
        assert "lyon fell silent, so the fit stops here" in said
        assert f"secirls resume {out}" in said
        with run(links["head"], "resume", out) as resumed:
            assert resumed.wait(120) == 0
        assert [process.wait(30) for process in running.values()] == [0, 0, 0]
    assert (out / "results.csv").read_text() == undisturbed
