"""Mistakes of those who lead over a hub, or call one: one sentence each, before anything is asked."""

import json
import shutil

import pytest

from secirls.carriers.certificates import certificates
from secirls.site.grounds.ground import template


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The ground of one site, with certificates."""
    folder = tmp_path_factory.mktemp("home")
    certificates(folder / "certs", {"berlin": ["localhost"]})
    (folder / "site.toml").write_text(template("berlin", "berlin.h5ad", "berlin.key", "roster.json"))
    return folder


@pytest.fixture(autouse=True)
def _somebody_elses_process(monkeypatch):
    """A command sets its process up; this one is of many tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("secirls.carriers.own_process.keep_freed_memory", lambda: False)


@pytest.mark.parametrize(
    "hub",
    [
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:８４",
        "10.0.0.1:8443/",
        "https://10.0.0.1:8443",
        "my hub:8443",
        "user@hub:8443",
        "hub/path:8443",
        "*.example:8443",
        "hub..example:8443",
        "krankenhäuser.example:8443",
    ],
)
def test_where_no_hub_can_be_is_told(run, home, hub):
    given = ("attend", home / "site.toml", "--hub", hub, "--certificate", home / "certs" / "berlin.crt")
    code, _, error = run(*given, "--give-up", "0")
    assert code == 2
    assert error == f"secirls: address {hub!r}: write HOST:PORT of the hub, as in 10.0.0.1:8443\n"


@pytest.mark.parametrize("hub", ["127.0.0.1:9", "[::1]:9", "localhost:9"])
def test_where_one_could_be_is_called(run, home, hub):
    given = ("attend", home / "site.toml", "--hub", hub, "--certificate", home / "certs" / "berlin.crt")
    code, _, error = run(*given, "--give-up", "0")
    assert code == 1
    assert error.endswith("nobody answers\n")


def test_a_fit_over_a_hub_is_asked_again_with_its_file(run, made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "fit")
    report = json.loads((folder / "report.json").read_text())
    report |= {"engine": "hub", "sites": dict.fromkeys(report["sites"], "site.toml")}
    (folder / "report.json").write_text(json.dumps(report))
    for words in (("shrink", folder, "--coefficient", "dose[T.b]"), ("components", folder)):
        code, _, error = run(*words)
        assert code == 2
        assert error.endswith("its sites call a hub, and of which says the file it was made from: --federation\n")
