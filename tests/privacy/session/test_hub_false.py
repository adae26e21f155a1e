"""A hub with a certificate that is false: a station shows it nothing of its user's, and keeps its memory and time."""

import gzip
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from itertools import takewhile

import pytest

from secirls.agreement.agreement import release
from secirls.carriers.certificates import certificates
from secirls.carriers.hub import station as station_module
from secirls.carriers.hub.credentials import Credentials
from secirls.carriers.hub.station import Station
from secirls.carriers.hub.wire import End, Welcome, packed
from secirls.config import Config
from secirls.input_error import InputError
from tests.listening import treating

WELCOME = packed(Welcome(b"s" * 16, release(), Config(design="~ condition").model_dump_json()))
BYE = packed(End(well=True, why="bye"))


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    certificates(folder, {name: ["localhost"] for name in ("hub", "a")})
    return {name: Credentials.read(folder / f"{name}.crt") for name in ("hub", "a")}


def http(status, body=b"", more=""):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


@contextmanager
def answering(certs, answer):
    """A hub that answers a path as it is told; gives its address, and the heads of what it was asked."""
    context, heads = certs["hub"].context(server=True), []

    def serve(line):
        try:
            with context.wrap_socket(line, server_side=True) as on, on.makefile("rb") as told:
                while head := b"".join(takewhile(bytes.strip, iter(told.readline, b""))):
                    heads.append(head.decode())
                    told.read(int(heads[-1].lower().partition("content-length: ")[2].partition("\r")[0] or 0))
                    on.sendall(answer(heads[-1].split()[1]))
        except (OSError, ssl.SSLError):
            pass

    with treating(serve) as port:
        yield f"localhost:{port}", heads


def station(certs, address, patience=0.0, notes=None):
    notes = [] if notes is None else notes
    return Station("a", lambda _config: None, certs["a"], address, notes.append, patience)


@pytest.fixture
def password(tmp_path, monkeypatch):
    """The user has a password for another service on the hub's machine."""
    (tmp_path / "netrc").write_text("machine localhost login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def shown(certs):
    with answering(certs, lambda _path: http(410, BYE)) as (address, heads):
        assert station(certs, address).attend().well
    return "authorization: basic" in heads[0].lower()


@pytest.mark.usefixtures("password")
def test_a_password_for_the_hub_s_machine_is_not_shown_to_the_hub(certs):
    assert not shown(certs)


@pytest.mark.usefixtures("password")
def test_a_station_that_calls_as_a_browser_would_is_caught_by_that(certs, monkeypatch):
    """The broken twin: what the user has in ``.netrc`` is looked up for whoever is called."""
    monkeypatch.setattr(station_module, "_shown_nothing", None)
    assert shown(certs)


def test_what_grows_when_it_is_unpacked_is_not_unpacked(certs):
    bomb = gzip.compress(bytes(1 << 20))
    with (
        answering(certs, lambda _path: http(200, bomb, "Content-Encoding: gzip\r\n")) as (address, _),
        pytest.raises(InputError, match="sends what is packed"),
    ):
        station(certs, address).attend()


def test_no_cookie_is_kept(certs, monkeypatch):
    monkeypatch.setattr(station_module, "AGAIN_SECONDS", 0.0)
    told = iter([http(200, WELCOME, "Set-Cookie: a=1\r\n"), http(204, more="Set-Cookie: b=2\r\n"), http(410, BYE)])
    with answering(certs, lambda _path: next(told)) as (address, heads):
        station(certs, address).attend()
    assert len(heads) == 3
    assert not any("cookie" in head.lower() for head in heads)


def test_a_hub_that_has_nothing_at_once_or_ever_new_sessions_is_not_called_without_rest(certs, monkeypatch):
    monkeypatch.setattr(station_module, "AGAIN_SECONDS", 0.1)
    nothing = [http(200, WELCOME), *[http(204)] * 3]
    sessions = [http(200, WELCOME), http(409)] * 2
    for answers in (nothing, sessions):
        told = iter(answers)
        with answering(certs, lambda _path, told=told: next(told, http(410, BYE))) as (address, _):
            began = time.monotonic()
            assert station(certs, address).attend().well
            assert time.monotonic() - began > 0.2


def test_a_hub_that_answers_no_sign_of_life_keeps_nobody(certs, monkeypatch):
    monkeypatch.setattr(station_module, "ALIVE_SECONDS", 0.2)
    signs, heard = [], threading.Event()

    def answer(path):
        if path == "/alive":
            signs.append(path)
            if len(signs) == 1:
                return http(204)
            heard.set()
            time.sleep(30)
        if path == "/turn":
            heard.wait(10)
        return http(200, WELCOME) if path == "/session" else http(410, BYE)

    with answering(certs, answer) as (address, _):
        began = time.monotonic()
        assert station(certs, address).attend().well
        assert time.monotonic() - began < 20
    assert len(signs) > 1


def test_a_sign_of_life_goes_on_a_line_anew_where_one_has_gone_dead(certs, monkeypatch):
    """As behind an address that changed: nobody says that the line is broken, and the party is not to fall silent."""
    monkeypatch.setattr(station_module, "ALIVE_SECONDS", 0.1)
    signs = []

    def answer(path):
        if path == "/alive":
            signs.append(time.monotonic())
            if len(signs) == 1:
                return http(204)
            time.sleep(30 if len(signs) < 4 else 0)
        if path == "/turn":
            while len(signs) < 4:
                time.sleep(0.01)
        return http(200, WELCOME) if path == "/session" else http(410, BYE)

    with answering(certs, answer) as (address, _):
        assert station(certs, address).attend().well
    assert signs[3] - signs[1] < 20


def test_what_is_wrong_with_a_line_is_said(certs, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    for proxy, told in {"proxy:abc": InputError, "socks5://127.0.0.1:1": InputError, "http://:@:": InputError}.items():
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(told, match="is HTTPS_PROXY a proxy's address"):
            station(certs, nobody.replace("127.0.0.1", "127.0.0.9")).attend()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{nobody}")
    end = station(certs, "hub.invalid:1").attend()
    assert end == End(well=False, why="nobody answers (the proxy in HTTPS_PROXY does not pass it on)")
    monkeypatch.delenv("HTTPS_PROXY")
    assert station(certs, "alert.invalid:1").attend().why == "nobody answers", "no fault of a certificate"
