"""One party opens as many lines and sends as much as it can: nobody else loses a line, and the hub keeps its memory."""

import asyncio
import gzip
import resource
import socket
import time

import pytest

from secirls.carriers.certificates import certificates
from secirls.carriers.hub import door
from secirls.carriers.hub import hub as hub_module
from secirls.carriers.hub.credentials import Credentials
from secirls.carriers.hub.door import Door
from secirls.carriers.hub.hub import Hub
from secirls.carriers.hub.wire import Failure, Reply, Sign, Turn, Welcome, WireError, failure_of, packed, read
from secirls.config import Config
from secirls.input_error import InputError

SITES = ("a", "b", "c")


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    certificates(folder, {name: ["localhost"] for name in ("hub", *SITES)})
    return {name: Credentials.read(folder / f"{name}.crt") for name in ("hub", *SITES)}


@pytest.fixture
def hub(certs, monkeypatch):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    notes = []
    hub = Hub(Config(design="~ condition"), SITES, (), certs["hub"], address, notes.append)
    hub.address, hub.notes = address, notes
    yield hub
    hub.close(well=False)


def line(hub, certs, name):
    """A connection with a party's certificate."""
    context = certs[name].context(server=False)
    return context.wrap_socket(socket.create_connection(hub.address, timeout=10), server_hostname="localhost")


def head(path, length, more=""):
    method = "GET" if path == "session" else "POST"
    return f"{method} /{path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def said(on):
    """Status and body of what is answered; nothing where the line is cut."""
    try:
        told = on.recv(1 << 16)
    except OSError:
        told = b""
    start, _, body = told.partition(b"\r\n\r\n")
    return (int(start.split()[1]), body) if start else (None, b"")


def session_of(hub, certs):
    with line(hub, certs, "a") as on:
        on.sendall(head("session", 0))
        return read(Welcome, said(on)[1]).session


def kept(hub, certs, lines):
    """How many of so many lines of one party the hub still answers on, and whether another party gets in."""
    mine = [line(hub, certs, "b") for _ in range(lines)]
    answered = 0
    for on in mine:
        try:
            on.sendall(head("session", 0))
            answered += said(on)[0] == 200
        except OSError:
            pass
        on.close()
    return answered


def test_a_party_has_a_few_lines_and_its_oldest_go_first(hub, certs):
    with line(hub, certs, "a") as other:
        assert kept(hub, certs, 12) == door.MOST_LINES
        other.sendall(head("session", 0))
        assert said(other)[0] == 200, "another party's line is older than them all, and its own"


def test_a_hub_that_counts_no_lines_is_caught_by_that(hub, certs, monkeypatch):
    """The broken twin: all that come are kept, as many as the process may have files."""
    monkeypatch.setattr(door, "MOST_LINES", 1 << 20)
    assert kept(hub, certs, 12) == 12


def test_a_line_that_is_over_makes_room():
    made = Door(asyncio.Protocol)

    class Line(asyncio.Transport):
        def get_extra_info(self, _name, default=None):
            return {"subject": ((("commonName", "a"),),)}

    for _ in range(3 * door.MOST_LINES):
        protocol = made()
        protocol.connection_made(Line())
        protocol.connection_lost(None)
    assert not made._open


def test_a_body_that_grows_when_it_is_unpacked_is_not_unpacked(hub, certs):
    session = session_of(hub, certs)
    bomb = gzip.compress(packed(Turn(session, b"b" * 16, Reply(1, bytes(1 << 20)))))
    with line(hub, certs, "b") as on:
        on.sendall(head("turn", len(bomb), "Content-Encoding: gzip\r\n") + bomb)
        assert said(on)[0] == 400
    plain = packed(Turn(session, b"b" * 16, Reply(1, bytes(1 << 10))))
    with line(hub, certs, "b") as on:
        on.sendall(head("turn", len(plain)) + plain)
        assert said(on)[0] == 204


def test_of_a_party_s_bodies_the_newest_alone_is_held(hub, certs):
    turn = packed(Turn(session_of(hub, certs), b"b" * 16, Reply(1, bytes(1 << 16))))
    with line(hub, certs, "b") as half, line(hub, certs, "b") as whole:
        half.sendall(head("turn", len(turn)) + turn[: 1 << 15])
        time.sleep(0.05)
        whole.sendall(head("turn", len(turn)) + turn)
        assert said(whole)[0] == 204
        assert said(half)[0] is None, "it is cut, and what came of it is let go"


def test_a_hub_that_ends_no_body_is_caught_by_that(hub, certs, monkeypatch):
    """The broken twin: as many halves of bodies as a party begins stay where they are."""
    monkeypatch.setattr(hub._turns, "begin", lambda _name: None)
    turn = packed(Turn(session_of(hub, certs), b"b" * 16, Reply(1, bytes(1 << 16))))
    with line(hub, certs, "b") as half, line(hub, certs, "b") as whole:
        half.sendall(head("turn", len(turn)) + turn[: 1 << 15])
        time.sleep(0.05)
        whole.sendall(head("turn", len(turn)) + turn)
        assert said(whole)[0] == 204
        half.sendall(turn[1 << 15 :])
        assert said(half)[0] == 204


@pytest.mark.parametrize("more", ["", "Transfer-Encoding: chunked\r\n"])
def test_a_sign_of_life_is_short(hub, certs, more):
    long = packed(Sign(session_of(hub, certs), bytes(1 << 20)))
    with line(hub, certs, "b") as on:
        told = head("alive", len(long))
        on.sendall(told if not more else told.replace(b"Content-Length: %d\r\n" % len(long), more.encode()))
        assert said(on)[0] == 400, "before a byte of it is read"


def test_a_failure_has_a_few_words():
    """Each would take nine times its room."""
    with pytest.raises(WireError):
        read(Reply, packed({"number": 1, "value": b"", "failure": {"kind": "InputError", "words": [""] * 4}}))
    with pytest.raises(WireError):
        read(Reply, packed({"number": 1, "value": b"", "failure": {"kind": "InputError", "words": ["x" * 20_000]}}))
    long = Reply(1, failure=failure_of(InputError("x" * 20_000)))
    assert read(Reply, packed(long)) == long, "what is too long is told as far as there is room"
    told = Reply(1, failure=Failure("PartyFaultError", ("a", "key", "KeyError")))
    assert read(Reply, packed(told)) == told


def test_more_lines_than_files_are_told_in_a_sentence_and_pass(hub, certs, capfd):
    """Of strangers, who show no certificate: a hub can only wait until they are hung up on."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    strangers = [socket.socket() for _ in range(80)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (strangers[-1].fileno() + 20, before[1]))
    try:
        for one in strangers:
            one.connect(hub.address)
        time.sleep(0.2)
    finally:
        for one in strangers:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert ["files open" in note for note in hub.notes] == [True]
    assert session_of(hub, certs)
    assert capfd.readouterr().err == ""
