"""The first word to a Ray cluster: whoever can't be spoken to is named within a moment, by file or setting."""

import os
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from secirls.carriers import certificates as making
from secirls.carriers import first_contact
from secirls.carriers.certificates import certificates
from secirls.carriers.first_contact import check_contact
from secirls.input_error import InputError

SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """Certificates of the federation, and of another authority."""
    made = [tmp_path_factory.mktemp(name) for name in ("ours", "others")]
    for folder in made:
        certificates(folder, {"head": ["127.0.0.1"]})
    return made


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def speak_tls(monkeypatch, certs):
    """This process speaks TLS with these files."""

    def speak(authority=certs[0], own=certs[0], **files):
        given = {"CA_CERT": authority / "ca.crt", "SERVER_CERT": own / "head.crt", "SERVER_KEY": own / "head.key"}
        monkeypatch.setenv("RAY_USE_TLS", "1")
        for name, file in (given | files).items():
            monkeypatch.setenv(f"RAY_TLS_{name}", str(file))

    return speak


@contextmanager
def somebody(answer):
    """Somebody who listens, and treats one connection so; gives where."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


def in_clear(connection):
    """As a server of gRPC without TLS: it speaks at once."""
    connection.sendall(SETTINGS)
    connection.recv(100)


def under_tls(folder):
    """As one with TLS that wants certificates of its authority; it hangs up on all else."""

    def answer(connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "head.crt", folder / "head.key")
        context.load_verify_locations(folder / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            with context.wrap_socket(connection, server_side=True) as spoken:
                in_clear(spoken)
        except OSError:
            return

    return answer


def refusal(address):
    with pytest.raises(InputError) as told:
        check_contact(address)
    return str(told.value)


def test_those_who_speak_alike_get_in_touch(certs, speak_tls):
    with somebody(in_clear) as address:
        check_contact(address)
    speak_tls()
    with somebody(under_tls(certs[0])) as address:
        check_contact(address)


def test_without_tls_where_the_cluster_has_it(certs):
    with somebody(under_tls(certs[0])) as address:
        assert "hangs up on who speaks without TLS, and RAY_USE_TLS is not set here" in refusal(address)


def test_with_tls_where_the_cluster_has_none(speak_tls):
    speak_tls()
    with somebody(in_clear) as address:
        assert "speaks no TLS, and RAY_USE_TLS is set here" in refusal(address)


def test_a_cluster_that_our_authority_does_not_vouch_for(certs, speak_tls):
    speak_tls(authority=certs[1])
    with somebody(under_tls(certs[0])) as address:
        told = refusal(address)
    assert str(certs[1] / "ca.crt") in told
    assert "does not vouch for the Ray cluster" in told


def test_a_cluster_at_an_address_that_its_certificate_does_not_name(tmp_path, speak_tls, monkeypatch):
    monkeypatch.setattr(making, "LOOPBACK", ())
    certificates(tmp_path, {"head": ["10.0.0.9"]})
    speak_tls(tmp_path, tmp_path)
    with somebody(under_tls(tmp_path)) as address:
        assert "certificate is not valid for '127.0.0.1'" in refusal(address)


def test_a_certificate_that_the_cluster_does_not_take(certs, speak_tls):
    speak_tls(own=certs[1])
    with somebody(under_tls(certs[0])) as address:
        told = refusal(address)
    assert str(certs[1] / "head.crt") in told
    assert "is not taken by the Ray cluster" in told


def test_one_who_hangs_up_on_a_certificate_without_a_word(certs, speak_tls):
    """As Ray's own server does."""
    speak_tls()

    def answer(connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs[0] / "head.crt", certs[0] / "head.key")
        with context.wrap_socket(connection, server_side=True) as spoken:
            spoken.recv(100)

    with somebody(answer) as address:
        assert "head.crt': is not taken by the Ray cluster" in refusal(address)


@pytest.mark.parametrize(("away", "shown"), [(-400, "to 20"), (400, "from 20")])
def test_a_clock_that_is_wrong_by_more_than_a_certificate(tmp_path, speak_tls, monkeypatch, away, shown):
    then = datetime.now(UTC) + timedelta(days=away)
    with monkeypatch.context() as patch:
        patch.setattr(making, "datetime", type("Then", (), {"now": staticmethod(lambda _: then)}))
        certificates(tmp_path, {"head": ["127.0.0.1"]})
    speak_tls(tmp_path, tmp_path)
    told = refusal_at_somebody()
    assert str(tmp_path / "head.crt") in told
    assert shown in told
    assert "by the clock of this machine" in told


def refusal_at_somebody():
    """What is said before anybody is asked."""
    return refusal("127.0.0.1:9")


@pytest.mark.parametrize("name", ["CA_CERT", "SERVER_CERT", "SERVER_KEY"])
def test_files_that_are_missing_or_none(tmp_path, speak_tls, monkeypatch, name):
    speak_tls(**{name: tmp_path / "nowhere"})
    assert f"nowhere': can't be read (No such file or directory), and RAY_TLS_{name} names it" in refusal_at_somebody()
    (tmp_path / "nonsense").write_text("nonsense")
    speak_tls(**{name: tmp_path / "nonsense"})
    assert "nonsense'" in refusal_at_somebody()
    speak_tls()
    monkeypatch.delenv(f"RAY_TLS_{name}")
    assert f"RAY_TLS_{name} is not set, and RAY_USE_TLS is" in refusal_at_somebody()


def test_who_is_only_slow_is_no_mistake(speak_tls, monkeypatch):
    """The broken twin of hanging up: a cluster that has not found a word yet."""
    monkeypatch.setattr(first_contact, "REACH_SECONDS", 0.1)
    for prepare in (lambda: None, speak_tls):
        prepare()
        waited = threading.Event()
        with somebody(lambda _, waited=waited: waited.wait(1)) as address:
            check_contact(address)
            waited.set()


def test_nobody_and_what_is_no_address():
    assert "no Ray cluster answers" in refusal("127.0.0.1:9")
    for other in ("ray://127.0.0.1:9", "auto"):
        check_contact(other)
