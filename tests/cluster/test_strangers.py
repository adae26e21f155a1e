"""A cluster under TLS with a token, and a command that has not what it needs to speak to it: one sentence, at once."""

import subprocess
import sys

import pytest

from secirls.carriers.certificates import certificates

pytestmark = pytest.mark.cluster

SOON = 60
"""Seconds within which it is told: most of them Ray's, before it gives up on a wrong token."""


@pytest.fixture(scope="module")
def bed(tmp_path_factory, new_place, files, with_token, ray_nodes, write_manifest, free):
    """The first machine of a cluster under TLS, its environment, and the files of another authority."""
    from ray.util import get_node_ip_address

    place, logs = new_place(), tmp_path_factory.mktemp("strangers")
    for folder in (place, place / "others"):
        certificates(folder, {"here": [get_node_ip_address()]})
    env = with_token(place) | {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(place / "ca.crt"),
        "RAY_TLS_SERVER_CERT": str(place / "here.crt"),
        "RAY_TLS_SERVER_KEY": str(place / "here.key"),
    }
    free_port, wait_for = free
    with ray_nodes(place, env, logs) as nodes:
        manifest, address = write_manifest(logs, files), f"127.0.0.1:{free_port()}"
        nodes.start(nodes.lines(manifest, address)[0])
        wait_for(address)
        yield nodes, manifest, address, place / "others"


def without_tls(others):
    return {"RAY_USE_TLS": "0"}


def of_others(others):
    return {"RAY_TLS_SERVER_CERT": str(others / "here.crt"), "RAY_TLS_SERVER_KEY": str(others / "here.key")}


def other_authority(others):
    return {"RAY_TLS_CA_CERT": str(others / "ca.crt")}


def missing_token(others):
    return {"RAY_AUTH_TOKEN_PATH": str(others / "token")}


def wrong_token(others):
    token = others / "wrong"
    token.touch(mode=0o600)
    token.write_text("0" * 64)
    return {"RAY_AUTH_TOKEN_PATH": str(token)}


@pytest.mark.parametrize(
    ("stranger", "told"),
    [
        (without_tls, "hangs up on who speaks without TLS"),
        (of_others, "here.crt': is not taken by the Ray cluster"),
        (other_authority, "ca.crt': does not vouch for the Ray cluster"),
        (missing_token, "RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty"),
        (wrong_token, "its token among it"),
    ],
)
def test_who_has_not_what_it_needs_is_told_in_one_sentence(bed, tmp_path, command, stranger, told):
    nodes, manifest, address, others = bed
    words = [*command, "fit", str(manifest), "--address", address, "--out", str(tmp_path / "out")]
    env = nodes.env | stranger(others)
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=SOON)
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("secirls: ")]
    assert done.returncode == 2, done.stderr + nodes.said()
    assert told in sentence
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_ray_itself_says_nothing_to_who_speaks_without_tls(bed):
    """The broken twin: the same process without a first contact of ours."""
    nodes, _, address, others = bed
    alone = [sys.executable, "-c", "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False)", address]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(alone, env=nodes.env | without_tls(others), capture_output=True, check=False, timeout=15)
