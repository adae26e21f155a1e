"""The printed lines, run: several `ray start` on this machine, with a token, with TLS, and the command over them."""

import json
import ssl
import subprocess
import sys
import time

import pytest

from secirls.carriers.certificates import certificates
from secirls.input_error import InputError
from secirls.site.grounds.ground import template
from secirls.site.grounds.key_files import make_roster, new_key

pytestmark = pytest.mark.cluster


@pytest.fixture(params=["token", "token and tls"])
def bed(request, tmp_path, new_place, files, with_token, ray_nodes, write_manifest):
    """A cluster started by the lines of the template, each in a process of ours; its nodes and address."""
    place = new_place()
    env = with_token(place)
    if "tls" in request.param:
        from ray.util import get_node_ip_address

        certificates(
            place, {"here": [get_node_ip_address(), *(f"127.0.0.{number + 1}" for number in range(len(files) + 1))]}
        )
        env |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_CA_CERT": str(place / "ca.crt"),
            "RAY_TLS_SERVER_CERT": str(place / "here.crt"),
            "RAY_TLS_SERVER_KEY": str(place / "here.key"),
        }
    with ray_nodes(place, env, tmp_path) as nodes:
        manifest = write_manifest(tmp_path, files, nodes={min(files): "rack 7"})
        yield nodes, manifest, nodes.start_on_loopback(manifest)


def test_the_command_fits_over_the_cluster_that_the_template_starts(bed, tmp_path, command, undisturbed):
    nodes, manifest, address = bed
    words = [*command, "fit", str(manifest), "--address", address, "--out", str(tmp_path / "out")]
    for _ in range(30):
        done = subprocess.run(words, env=nodes.env, capture_output=True, text=True, check=False)
        if "no node of the cluster declares" not in done.stderr:
            break
        time.sleep(1)  # nodes are still joining
    assert done.returncode == 0, done.stderr + nodes.said()
    written = (tmp_path / "out" / "results.csv").read_text()
    assert written == undisturbed.table.to_csv(index=False, float_format="%.17g")


DRIVER = """
import logging, sys, time, ray
from secirls.config import Config
from secirls.fitting import fit_config
ray.init(address=sys.argv[1], log_to_driver=True, logging_level=logging.ERROR)
sites = dict(told.split("=", 1) for told in sys.argv[2:])
try:
    fit_config(Config(design="~ condition", preset="irls", layer="none"), sites, address=sys.argv[1])
except ValueError as error:
    print("told:", error)
time.sleep(5.0)  # so long a log monitor may take
"""


@pytest.mark.parametrize(("more", "hears"), [((), False), (("--include-log-monitor=true",), True)])
def test_a_driver_hears_nothing_that_is_for_a_sites_terminal_unless_its_node_sends_it(
    tmp_path, new_place, files, with_token, ray_nodes, write_manifest, free, more, hears
):
    """The second is the broken twin: the same lines with the log monitor that Ray starts by itself."""
    place = new_place()
    names = list(files)[:3]
    publics = [new_key(name, place)[1] for name in names]
    (place / "roster.json").write_text(make_roster(publics).to_json())
    for name in names:
        ground = template(name, files[name], str(place / f"{name}.key"), str(place / "roster.json"))
        (place / f"{name}.toml").write_text(ground + "require_roster = false\n")
    sites = {name: str(place / f"{name}.toml") for name in names}
    free_port, wait_for = free
    with ray_nodes(place, with_token(place), tmp_path) as nodes:
        address = f"127.0.0.1:{free_port()}"
        head, *_ = nodes.lines(write_manifest(tmp_path, sites), address)
        nodes.start(head, "--resources=" + json.dumps({f"site:{name}": 1 for name in names}), *more)
        wait_for(address)
        words = [sys.executable, "-c", DRIVER, address, *(f"{name}={ground}" for name, ground in sites.items())]
        done = subprocess.run(words, env=nodes.env, capture_output=True, text=True, check=True)
        assert "layer 'none': is missing" in done.stdout, done.stdout + done.stderr + nodes.said()
    heard = done.stdout + done.stderr
    assert [name for name in names if files[name] in heard] == (names if hears else [])


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    certificates(folder, {"here": ["127.0.0.1", "here.example"]})
    other = tmp_path_factory.mktemp("other")
    certificates(other, {"here": ["127.0.0.1"]})
    return folder, other


def shake_hands(mine, theirs):
    """Both ends of a TLS connection in memory; raises `ssl.SSLError` where either refuses the other."""
    contexts = []
    for role, folder in ((ssl.PROTOCOL_TLS_SERVER, mine), (ssl.PROTOCOL_TLS_CLIENT, theirs)):
        context = ssl.SSLContext(role)
        context.load_cert_chain(folder / "here.crt", folder / "here.key")
        context.load_verify_locations(folder / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[0].wrap_bio(up, down, server_side=True),
        contexts[1].wrap_bio(down, up, server_hostname="127.0.0.1"),
    ]
    open_ends = list(ends)
    while open_ends:
        for end in list(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
    return ends[1].getpeercert()


def test_machines_of_one_authority_trust_each_other_and_no_others(certs):
    mine, other = certs
    assert ("DNS", "here.example") in shake_hands(mine, mine)["subjectAltName"]
    with pytest.raises(ssl.SSLError):
        shake_hands(mine, other)


def test_private_keys_are_private_and_never_replaced(certs):
    mine, _ = certs
    for path in mine.iterdir():
        private = b"PRIVATE" in path.read_bytes()
        assert private == (path.suffix == ".key")
        assert path.stat().st_mode & 0o777 == (0o600 if private else 0o644)
    with pytest.raises(InputError, match="is there already"):
        certificates(mine, {"here": ["127.0.0.1"]})
