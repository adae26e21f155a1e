"""At a hub nobody speaks for another, and a station takes no other hub for its own, nor asks its site twice."""

import select
import socket
import socketserver
import ssl
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import requests

from protocols.secure_sum import SecureSumError
from secirls.agreement.agreement import release
from secirls.carriers.certificates import certificates
from secirls.carriers.hub import hub as hub_module
from secirls.carriers.hub import seats
from secirls.carriers.hub.credentials import Credentials
from secirls.carriers.hub.hub import Hub
from secirls.carriers.hub.station import Station
from secirls.carriers.hub.wire import End, Question, Reply, Sign, Turn, Welcome, packed, read
from secirls.config import Config
from secirls.input_error import InputError

SITES = ("a", "b", "c")
CONFIG = Config(design="~ condition", deadline=2.0)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """Certificates of one authority for a hub, three sites and a stranger; and of another for the same names."""
    folder = tmp_path_factory.mktemp("certs")
    for place in ("ours", "others"):
        certificates(folder / place, {name: ["localhost"] for name in ("hub", *SITES, "stranger")})
    return folder


def of(certs, name, authority="ours"):
    return Credentials.read(certs / authority / f"{name}.crt")


@pytest.fixture
def hub(certs):
    """A hub whose parties are asked by the test."""
    with listening(certs) as hub:
        yield hub


@contextmanager
def listening(certs, host="127.0.0.1"):
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    notes = []
    hub = Hub(CONFIG, SITES, (), of(certs, "hub"), (host, port), notes.append)
    hub.address, hub.notes = f"{host}:{port}", notes
    try:
        yield hub
    finally:
        if hub._thread.is_alive():
            hub.close(well=False)


def call(hub, files, path, body=None, **changes):
    told = {"cert": (str(files.certificate), str(files.key)), "verify": str(files.authority), **changes}
    method = "GET" if body is None else "POST"
    with (
        requests.Session() as session,
        session.request(method, f"https://{hub.address}/{path}", data=body, **told) as got,
    ):
        return got.status_code, got.content


def welcomed(hub, files):
    return read(Welcome, call(hub, files, "session")[1])


def test_a_party_is_told_the_session_and_the_configuration_and_nothing_else(hub, certs):
    welcome = welcomed(hub, of(certs, "a"))
    assert Config.model_validate_json(welcome.config) == CONFIG
    assert len(welcome.session) == 16


def test_who_shows_no_certificate_or_another_authority_s_gets_no_word(hub, certs):
    for told in ({"cert": None}, {"cert": tuple(str(certs / "others" / f"a.{kind}") for kind in ("crt", "key"))}):
        with pytest.raises(requests.exceptions.ConnectionError):
            call(hub, of(certs, "a"), "session", **told)
    assert call(hub, of(certs, "a"), "session")[0] == 200, "with its own it would get one"


def test_nothing_older_than_tls_1_3_is_spoken(hub, certs):
    host, port = hub.address.split(":")
    context = of(certs, "a").context(server=False)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with socket.create_connection((host, int(port))) as line, pytest.raises(ssl.SSLError):
        context.wrap_socket(line, server_hostname="localhost")
    context = of(certs, "a").context(server=False)
    with (
        socket.create_connection((host, int(port))) as line,
        context.wrap_socket(line, server_hostname="localhost") as it,
    ):
        assert it.version() == "TLSv1.3"


def test_a_machine_that_is_no_party_is_no_party(hub, certs):
    assert call(hub, of(certs, "stranger"), "session")[0] == 403
    assert call(hub, of(certs, "hub"), "turn", b"")[0] == 403
    with pytest.raises(InputError, match="has no party 'stranger'"):
        station(hub, certs, "stranger", Scripted([])).attend()


def asked(hub, verb, names):
    """Ask in a thread; gives where the answers will be."""
    answers = {}
    thread = threading.Thread(target=lambda: answers.update(hub.ask(verb, dict.fromkeys(names, ()))), daemon=True)
    thread.start()
    return thread, answers


def taken(hub, certs, name, process):
    """One turn of a party."""
    session = welcomed(hub, of(certs, name)).session
    status, body = call(hub, of(certs, name), "turn", packed(Turn(session, process)))
    return session, status, body


def test_nobody_answers_for_another(hub, certs, monkeypatch):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.2)
    for name in ("a", "b"):
        taken(hub, certs, name, name.encode() * 16)
    thread, answers = asked(hub, "key", ("a",))
    session, status, body = taken(hub, certs, "a", b"a" * 16)
    assert (status, read(Question, body).verb) == (200, "key")
    for forged in (Reply(1, packed(b"forged")), Reply(2, packed(b"forged"))):
        answered = packed(Turn(session, b"a" * 16, forged))
        assert call(hub, of(certs, "b"), "turn", answered)[0] == 425, "b shows a's process at its own seat"
    assert not answers
    call(hub, of(certs, "a"), "turn", packed(Turn(session, b"a" * 16, Reply(1, packed(b"own")))))
    thread.join(10)
    assert answers == {"a": b"own"}


def test_a_hub_that_heeds_no_certificate_is_caught_by_that(hub, certs, monkeypatch):
    """The broken twin: who speaks is taken from what is said."""
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(hub_module, "shown_name", lambda _: "a")
    taken(hub, certs, "a", b"a" * 16)
    thread, answers = asked(hub, "key", ("a",))
    session, _, _ = taken(hub, certs, "a", b"a" * 16)
    call(hub, of(certs, "b"), "turn", packed(Turn(session, b"a" * 16, Reply(1, packed(b"forged")))))
    thread.join(10)
    assert answers == {"a": b"forged"}


@pytest.mark.parametrize("body", [b"", b"\xff" * 40, packed(Sign(b"", b"")), packed(7)], ids=str)
def test_what_is_no_turn_is_refused_and_the_hub_goes_on(hub, certs, body, monkeypatch):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.05)
    assert call(hub, of(certs, "a"), "turn", body)[0] in (400, 409)
    assert call(hub, of(certs, "a"), "nowhere")[0] == 404
    assert taken(hub, certs, "a", b"a" * 16)[1] == 204
    assert hub.notes == []


def test_a_message_larger_than_any_is_not_taken(certs, monkeypatch):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.05)
    answers = []
    for most in (2 << 20, 4 << 20):
        monkeypatch.setattr(hub_module, "LARGEST_MESSAGE", most)
        with listening(certs) as hub:
            turn = Turn(welcomed(hub, of(certs, "a")).session, b"a" * 16, Reply(1, bytes(3 << 20)))
            answers.append(call(hub, of(certs, "a"), "turn", packed(turn))[0])
    assert answers == [413, 204]


def test_an_answer_of_another_session_is_not_taken(hub, certs):
    assert call(hub, of(certs, "a"), "turn", packed(Turn(b"x" * 16, b"a" * 16)))[0] == 409
    assert call(hub, of(certs, "a"), "alive", packed(Sign(b"x" * 16, b"a" * 16)))[0] == 409


class Scripted:
    """A party that counts what it is asked."""

    def __init__(self, log):
        self.name, self.log = "a", log

    def key(self):
        self.log.append("key")
        return b"key"

    def look(self):
        self.log.append("look")
        raise SecureSumError("sample 17 is odd")


def station(hub, certs, name, party, authority="ours", patience=1.0, notes=None):
    notes = [] if notes is None else notes
    return Station(name, lambda config: party, of(certs, name, authority), hub.address, notes.append, patience)


def test_a_station_takes_no_hub_of_another_authority_or_address_for_its_own(certs, hub):
    log = []
    with pytest.raises(InputError, match=r"ca.crt': does not vouch for the hub"):
        station(hub, certs, "a", Scripted(log), "others").attend()
    with (
        listening(certs, "127.0.0.2") as elsewhere,
        pytest.raises(InputError, match=r"does not vouch for the hub at .*IP address mismatch"),
    ):
        station(elsewhere, certs, "a", Scripted(log)).attend()
    assert log == []


@contextmanager
def proxy(opens=None):
    """A proxy that passes lines on, or ``opens`` them with that context; gives its address, and what is asked of it."""
    asked = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            asked.append(self.rfile.readline().decode().split()[:2])
            while self.rfile.readline().strip():
                pass
            host, port = asked[-1][1].split(":")
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            if opens is not None:
                with suppress(OSError):
                    opens.wrap_socket(self.request, server_side=True).recv(100)
                return
            with socket.create_connection((host, int(port))) as far:
                pair = {self.request: far, far: self.request}
                while True:
                    for one in select.select(list(pair), [], [], 10)[0]:
                        if not (data := one.recv(1 << 16)):
                            return
                        pair[one].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def test_a_proxy_that_passes_lines_on_is_taken_and_one_that_opens_them_is_not(hub, certs, monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with proxy() as (address, asked):
        monkeypatch.setenv("HTTPS_PROXY", address)
        assert station(hub, certs, "a", Scripted([])).check() == CONFIG
        assert asked == [["CONNECT", hub.address]]
    with proxy(opens=of(certs, "hub", "others").context(server=True)) as (address, asked):
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(InputError, match="does not vouch for the hub"):
            station(hub, certs, "a", Scripted([])).check()
        assert asked == [["CONNECT", hub.address]]


@contextmanager
def attending(hub, certs, log, notes):
    ended = []
    stationed = station(hub, certs, "a", Scripted(log), patience=15.0, notes=notes)

    def attend():
        try:
            ended.append(stationed.attend())
        except InputError as error:
            ended.append(error)

    thread = threading.Thread(target=attend, daemon=True)
    thread.start()
    yield ended
    thread.join(20)
    assert not thread.is_alive()


def test_a_station_answers_once_and_sends_the_same_answer_again(hub, certs, monkeypatch):
    """However often a hub says that it has heard nothing."""
    log, notes = [], []
    honest, deaf = hub._seats["a"].turn, ["once", "twice", "again"]

    async def turn(told, seconds):
        if told.reply is not None and deaf:
            raise KeyError(deaf.pop())
        return await honest(told, seconds)

    monkeypatch.setattr(hub._seats["a"], "turn", turn)
    monkeypatch.setattr("secirls.carriers.hub.station.AGAIN_SECONDS", 0.01)
    with attending(hub, certs, log, notes) as ended:
        assert hub.ask("key", {"a": ()}) == {"a": b"key"}
        hub.close(well=True)
    assert log == ["key"]
    assert deaf == []
    assert hub.notes == ["the hub failed over a call of a: KeyError"] * 3
    assert ended == [End(well=True, why="the fit is finished")]


@pytest.mark.parametrize("numbers", [(0,), (2,), (1, 3), (1, 1), (1, 2, 1)])
def test_a_station_asks_its_site_nothing_out_of_turn(hub, certs, numbers):
    """A hub that counts otherwise, to have a question answered twice or in another order."""
    log = []
    given = iter(numbers)

    async def turn(_told, _seconds):
        return Question(next(given), "key", packed(()))

    hub._seats["a"].turn = turn
    with attending(hub, certs, log, []) as ended:
        pass
    assert log == ["key"] * (len(numbers) - 1)
    assert "asks out of turn" in str(ended[0])


@pytest.mark.parametrize(("verb", "given"), [("_opened", ()), ("log", ()), ("key", (1,)), ("join", (b"x",))])
def test_a_station_reads_no_verb_and_no_arguments_that_there_are_none_of(hub, certs, verb, given):
    log = []

    async def turn(_told, _seconds):
        return Question(1, verb, packed(given))

    hub._seats["a"].turn = turn
    with attending(hub, certs, log, []) as ended:
        pass
    assert log == []
    assert "asks what can't be read" in str(ended[0])


def test_what_a_party_refuses_is_told_at_both_ends(hub, certs):
    log, notes = [], []
    with attending(hub, certs, log, notes) as ended:
        heard = hub.ask("look", {"a": ()})["a"]
        hub.close(well=True)
    assert str(heard) == "sample 17 is odd"
    assert notes[-1] == "sample 17 is odd"
    assert ended[0].well


def test_a_check_takes_no_seat_and_asks_nothing_of_a_party_but_what_it_would_refuse(hub, certs):
    log = []
    assert station(hub, certs, "a", Scripted(log)).check() == CONFIG
    refusing = Scripted(log)
    refusing.key = refusing.look
    with pytest.raises(SecureSumError, match="sample 17"):
        station(hub, certs, "a", refusing).check()
    assert log == ["key", "look"]
    assert "a" in hub.missing


def test_a_configuration_of_a_hub_is_checked_like_anybody_s(hub, certs):
    log = []
    for config, told in (
        ("{", "can't be read"),
        ('{"design": "~ condition", "protocol": "magic"}', "protocol"),
        ("[]", ""),
    ):
        hub._welcome = packed(Welcome(hub._session, release(), config))
        with attending(hub, certs, log, []) as ended:
            pass
        assert isinstance(ended[0], InputError)
        assert "the hub's configuration" in str(ended[0])
        assert told in str(ended[0])
    hub._welcome = packed(Welcome(hub._session, "0.0.1", CONFIG.model_dump_json()))
    with attending(hub, certs, log, []) as ended:
        pass
    assert "both need the same" in str(ended[0])
    assert log == []


@pytest.mark.parametrize("counted", [2.0, 1e6], ids=["", "broken twin"])
def test_a_hub_that_was_suspended_holds_nobody_for_silent(hub, certs, monkeypatch, counted):
    """The broken twin counts the time in which it heard nobody."""
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(seats, "SILENT_SECONDS", 60.0)
    monkeypatch.setattr(seats, "_LONGEST_STEP", counted)
    session, _, _ = taken(hub, certs, "a", b"a" * 16)
    thread, answers = asked(hub, "key", ("a",))
    monkeypatch.setattr(hub._awake, "_last", time.monotonic() - 3600)  # an hour in which nothing of it ran
    hub._loop.call_soon_threadsafe(hub._awake.look)
    time.sleep(0.1)
    call(hub, of(certs, "a"), "turn", packed(Turn(session, b"a" * 16, Reply(1, packed(b"own")))))
    thread.join(10)
    assert answers == ({"a": b"own"} if counted == 2.0 else {})


def test_a_station_that_is_interrupted_says_that_it_leaves(hub, certs):
    """Else the hub waits for it in vain, and so does who starts it anew."""

    class Interrupted(Scripted):
        def key(self):
            raise KeyboardInterrupt

    ended = []

    def attend():
        try:
            station(hub, certs, "a", Interrupted([])).attend()
        except KeyboardInterrupt:
            ended.append("interrupted")

    thread = threading.Thread(target=attend, daemon=True)
    thread.start()
    began = time.monotonic()
    assert hub.ask("key", {"a": ()}) == {}
    assert time.monotonic() - began < seats.SILENT_SECONDS / 2
    thread.join(10)
    assert ended == ["interrupted"]


def test_a_certificate_of_another_authority_is_told_before_anybody_is_called(certs, tmp_path):
    """For whoever is called hangs up without a word."""
    for kind, authority in (("a.crt", "ours"), ("a.key", "ours"), ("ca.crt", "others")):
        (tmp_path / kind).write_bytes((certs / authority / kind).read_bytes())
    with pytest.raises(InputError, match=r"a.crt': was not signed by the authority in .*ca.crt'"):
        Credentials.read(tmp_path / "a.crt")
    both = b"".join((certs / authority / "ca.crt").read_bytes() for authority in ("others", "ours"))
    (tmp_path / "ca.crt").write_bytes(both)
    assert Credentials.read(tmp_path / "a.crt").name == "a", "while one authority takes another's place there are two"


def test_a_hub_that_hangs_up_is_said_to_and_why_it_may(hub, certs, tmp_path, monkeypatch):
    monkeypatch.setattr(Credentials, "check_signed", lambda _self: None)
    for kind, authority in (("a.crt", "others"), ("a.key", "others"), ("ca.crt", "ours")):
        (tmp_path / kind).write_bytes((certs / authority / kind).read_bytes())
    calling = Station("a", lambda _: None, Credentials.read(tmp_path / "a.crt"), hub.address, print, 0.0)
    assert "does not take the certificate" in calling.attend().why
