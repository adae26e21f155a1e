"""A party's own end: it calls the hub, has its `Desk` answer what is asked, and is called by nobody.

Promises: a question is answered once in a process, and the same answer sent again where a line breaks; what comes from
the hub is read as bytes of a known type, and its configuration checked like anybody's. Where the hub goes, the party
waits for one that comes back, and takes part in its session with nothing left of the one before.
Refuses to know: what a site does when it is asked.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar

import requests

from protocols.secure_sum import PartyId
from secirls.aggregator.asking import TOLD_SECONDS
from secirls.agreement.agreement import release
from secirls.agreement.faults import PartyFaultError
from secirls.carriers.hub.credentials import Credentials
from secirls.carriers.hub.wire import (
    LARGEST_MESSAGE,
    LATER,
    End,
    Question,
    Reply,
    Sign,
    Turn,
    Welcome,
    WireError,
    arguments_from,
    failure_of,
    packed,
    read,
)
from secirls.carriers.own_process import Growth
from secirls.config import Config
from secirls.input_error import InputError, complain
from secirls.site.desk import SPOKEN, Desk
from secirls.site.helper import Helper
from secirls.site.site import Site

T = TypeVar("T")

ALIVE_SECONDS = 5.0
"""How often a party gives a sign of life."""
AGAIN_SECONDS = 1.0
"""How long it waits before it calls again, where the hub does not answer."""
CONNECT_SECONDS = 10.0
REPLY_SECONDS = 60.0
"""Within which the hub begins to answer a call, and goes on with it: that there is nothing it says after ten."""

_UNVOUCHED = re.compile(r"certificate verify failed: (.{1,200}?)\.? \(_ssl")
"""What OpenSSL finds wrong with a certificate, in an error's words."""


class _OverError(Exception):
    """This session is no more; another may be."""


class _LostError(Exception):
    """The hub can't be reached now; says why, where that is known."""


class _Line:
    """Calls to the hub, on one connection that is made anew where it breaks."""

    def __init__(self, credentials: Credentials, hub: str, seconds: float = REPLY_SECONDS) -> None:
        """With so many seconds for the hub to begin an answer, and to go on with it."""
        self._credentials, self._hub = credentials, hub
        self._seconds = min(CONNECT_SECONDS, seconds), seconds
        self._session = requests.Session()
        self._session.auth = _shown_nothing
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """What is answered. Raises `_LostError` where nothing is, `InputError` where either does not take the other."""
        files = self._credentials
        try:
            with self._session.request(
                method,
                f"https://{self._hub}/{path}",
                data=body,
                timeout=self._seconds,
                verify=str(files.authority),  # each time: else a variable of the environment may name another
                cert=(str(files.certificate), str(files.key)),
                allow_redirects=False,
                stream=True,
            ) as answer:
                return answer.status_code, _content(answer)
        except requests.exceptions.SSLError as error:
            raise self._not_taken(str(error)) from None
        except requests.exceptions.ProxyError:
            raise _LostError("the proxy in HTTPS_PROXY does not pass it on") from None
        except InputError:
            raise
        except (ValueError, TypeError):  # whoever carries calls has these for an address that is none
            raise InputError(f"no call gets to the hub at {self._hub!r}: is HTTPS_PROXY a proxy's address?") from None
        except (requests.exceptions.RequestException, OSError) as error:
            if "_ALERT_" in str(error):
                raise self._not_taken(str(error)) from None
            if "RemoteDisconnected" in str(error):
                raise _LostError("it hangs up, as a hub does that does not take the certificate") from None
            raise _LostError from None

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def _not_taken(self, told: str) -> Exception:
        """What TLS stumbled over, as a mistake in a file; a connection that broke meanwhile is none."""
        if "CERTIFICATE_VERIFY_FAILED" in told:
            why = _UNVOUCHED.search(told)
            because = "" if why is None else f": {why[1]}"
            return complain(
                f"does not vouch for the hub at {self._hub!r}{because}", file=str(self._credentials.authority)
            )
        if "_ALERT_" in told:
            return complain(f"is not taken by the hub at {self._hub!r}", file=str(self._credentials.certificate))
        return _LostError("what answers there speaks no TLS, or the line broke")


def _shown_nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No password is shown to a hub, also where a file of the user's has one for its machine (``.netrc``)."""
    return request


def _content(answer: requests.Response) -> bytes:
    """The body of an answer that has one. Raises `InputError` for one that is larger than any, or packed."""
    if answer.status_code not in {HTTPStatus.OK, HTTPStatus.GONE, LATER}:
        return b""
    if "Content-Encoding" in answer.headers:  # a kilobyte may be a gigabyte
        raise InputError("the hub sends what is packed, as no hub does")
    parts, length = [], 0
    for part in answer.iter_content(1 << 20):
        parts.append(part)
        length += len(part)
        if length > LARGEST_MESSAGE:
            raise InputError("the hub sends more than any question has")
    return b"".join(parts)


@dataclass(frozen=True)
class Station:
    """One party, and where its hub is."""

    name: PartyId
    party: Callable[[Config], Site | Helper]
    """Makes the party, anew for each session."""
    credentials: Credentials
    hub: str
    """HOST:PORT."""
    note: Callable[[str], None]
    """Told what goes on, in a line each."""
    patience: float = math.inf
    """Seconds for which a hub that does not answer is called again."""

    def attend(self) -> End:
        """Take part until the hub says that all is over; gives what it says.

        Raises `InputError` where hub and party can't do with each other.
        """
        line = _Line(self.credentials, self.hub)
        try:
            while True:
                told = self._patiently(line, "GET", "session")
                if isinstance(told, End):
                    return told
                try:
                    return self._session(line, _understood(Welcome, told))
                except _OverError:
                    self.note("the session ended early; in the next one")
                    time.sleep(AGAIN_SECONDS)
        finally:
            line.close()

    def check(self) -> Config | End:
        """What fit the hub leads, if the party and it can do with each other; takes no part, and tells it nothing.

        Raises `InputError` as `attend` does, and what the party would refuse before a session.
        """
        line = _Line(self.credentials, self.hub)
        try:
            told = self._patiently(line, "GET", "session")
        finally:
            line.close()
        if isinstance(told, End):
            return told
        config = _accepted(_understood(Welcome, told))
        party = self.party(config)
        Desk(party).ask("look" if isinstance(party, Site) else "key")
        return config

    def _session(self, line: _Line, welcome: Welcome) -> End:
        """Take part in one session. Raises `_OverError` where another is in its place."""
        config, process = _accepted(welcome), secrets.token_bytes(16)
        sign = Sign(welcome.session, process)
        if isinstance(ended := self._patiently(line, "POST", "alive", packed(sign)), End):
            return ended
        desk, growth = Desk(self.party(config)), Growth()
        reply: Reply | None = None
        self.note(f"{self.name} takes part: {config.design:.200}, {config.protocol}")
        with _alive(_Line(self.credentials, self.hub, ALIVE_SECONDS), sign):
            while True:
                began = time.monotonic()
                told = self._patiently(line, "POST", "turn", packed(Turn(welcome.session, process, reply)))
                if isinstance(told, End):
                    return told
                if not told:
                    time.sleep(max(0.0, AGAIN_SECONDS + began - time.monotonic()))  # a hub says so after ten seconds
                    continue
                question: Question = _understood(Question, told)
                if question.number != (0 if reply is None else reply.number) + 1:
                    raise InputError(f"the hub at {self.hub!r} asks out of turn")
                growth.limit()
                reply = self._answered(desk, question)

    def _patiently(self, line: _Line, method: str, path: str, body: bytes = b"") -> bytes | End:
        """What the hub answers, however long that takes: empty where there is nothing. Raises `_OverError`."""
        began = told = time.monotonic()
        waiting = False
        while True:
            try:
                status, answer = line.call(method, path, body)
                known = f" ({status})"
            except _LostError as lost:
                status, answer, known = 0, b"", f" ({lost})" if str(lost) else ""
            match status:
                case 200:
                    return answer
                case HTTPStatus.NO_CONTENT:
                    return b""
                case HTTPStatus.GONE:
                    return _understood(End, answer)
                case HTTPStatus.CONFLICT:
                    raise _OverError
                case HTTPStatus.FORBIDDEN:
                    raise InputError(f"the hub at {self.hub!r} has no party {self.name!r} in its fit")
                case HTTPStatus.BAD_REQUEST | HTTPStatus.REQUEST_ENTITY_TOO_LARGE | HTTPStatus.NOT_FOUND:
                    raise InputError(f"what answers at {self.hub!r} does not understand a party of this release")
            now, why = time.monotonic(), f"does not answer{known}"
            if status == LATER:
                why = f"{_understood(End, answer).why:.200}"
                told, waiting = told if waiting else -math.inf, True
            if now - began > self.patience:
                waited = f"nobody answered for {self.patience:g} s" if self.patience else "nobody answers"
                return End(well=False, why=f"{waited}{known}" if status != LATER else f"it {why}")
            if now - told > TOLD_SECONDS:
                told = now
                self.note(f"{now - began:.0f} s so far: the hub at {self.hub} {why}; calling again, Ctrl-C ends this")
            time.sleep(AGAIN_SECONDS)

    def _answered(self, desk: Desk, question: Question) -> Reply:
        """The answer to a question; what is refused in words is told here too."""
        try:
            given = arguments_from(question.verb, question.given, helper=isinstance(desk.party, Helper))
        except WireError:
            raise InputError(f"the hub at {self.hub!r} asks what can't be read") from None
        try:
            return Reply(question.number, packed(desk.ask(question.verb, *given)))
        except InputError as error:
            self.note(error.in_full)
            return Reply(question.number, failure=failure_of(error))
        except (*SPOKEN, PartyFaultError) as error:
            self.note(str(error))
            return Reply(question.number, failure=failure_of(error))


@contextmanager
def _alive(line: _Line, sign: Sign) -> Iterator[None]:
    """Give signs of life meanwhile, whatever this process does; and one that it leaves where it has to."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(ALIVE_SECONDS):
            with suppress(_LostError, InputError):  # who asks for the next question sees to that
                line.call("POST", "alive", packed(sign))
        line.close()

    threading.Thread(target=go_on, name="signs of life", daemon=True).start()
    try:
        yield
    except _OverError:
        raise
    except BaseException:  # Ctrl-C too: the hub need not wait in vain, nor who starts this party anew
        with suppress(_LostError, InputError):
            line.call("POST", "leave", packed(sign))
        raise
    finally:
        ended.set()  # whoever ends is not kept by a hub that is slow to hear the last one


def _understood(kind: type[T], told: bytes) -> T:
    """A message of the hub's. Raises `InputError`."""
    try:
        return read(kind, told)
    except WireError:
        raise InputError("what answers is no hub of this release of secirls") from None


def _accepted(welcome: Welcome) -> Config:
    """The fit's configuration, checked. Raises `InputError`."""
    if welcome.release != release():
        raise InputError(f"the hub runs secirls {welcome.release:.40}, here it is {release()}: both need the same")
    try:
        told = json.loads(welcome.config)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise InputError("the hub's configuration can't be read")
    return Config.read("the hub's configuration", **told)
