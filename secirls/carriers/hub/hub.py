"""The hub: what parties call over HTTPS, and the federation that whoever leads asks through it.

Promises: only who shows a certificate of the authority, with a party's name, is heard, and as that party alone; no
question is posed twice to one process's end. Who gives no sign of life, or no answer in time, is silent.
Refuses to know: what verbs mean, and who orders the fit.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import secrets
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from protocols.secure_sum import PartyId
from secirls.aggregator.asking import TOLD_SECONDS, seconds_for
from secirls.agreement.agreement import release
from secirls.carriers.hub.credentials import Credentials, shown_name
from secirls.carriers.hub.door import Door, Newest
from secirls.carriers.hub.seats import Awake, EndedError, LaterError, Seat
from secirls.carriers.hub.wire import (
    LARGEST_MESSAGE,
    LATER,
    End,
    Reply,
    Sign,
    Turn,
    Welcome,
    WireError,
    answer_of,
    arguments_to_bytes,
    packed,
    read,
)
from secirls.config import Config
from secirls.input_error import InputError

_silent = logging.getLogger(__name__)
_silent.setLevel(logging.CRITICAL)
"""What an HTTP server says of lines that break and of what is no HTTP is no user's concern."""

LARGEST_SIGN = 1 << 10
"""Bytes of a sign of life, which says how long it is."""
POLL_SECONDS = 10.0
"""How long a call waits for a question before it is told that there is none."""
HANDSHAKE_SECONDS, SHUTDOWN_SECONDS = 10.0, 0.1
"""Within which a connection's TLS stands, and is over."""
LOOK_SECONDS = 0.5
"""How often it is looked whether somebody is silent."""
FAREWELL_SECONDS = 5.0
"""How long parties have to hear that all is over."""


class Hub:
    """Serves one fit from a thread of its own; a `Federation` to whoever leads."""

    def __init__(
        self,
        config: Config,
        sites: tuple[PartyId, ...],
        helper_names: tuple[PartyId, ...],
        credentials: Credentials,
        address: tuple[str, int],
        note: Callable[[str], None],
    ) -> None:
        """Listen at the address from now on. Raises `InputError` where that is not possible."""
        self._sites, self._helpers = sites, helper_names
        self._deadline, self._note = config.deadline, note
        self._session = secrets.token_bytes(16)
        self._welcome = packed(Welcome(self._session, release(), json.dumps(config.model_dump(mode="json"))))
        self._awake = Awake()
        self._seats = {name: Seat(name, self._awake) for name in (*sites, *helper_names)}
        self._gone: set[PartyId] = set()
        self._over = asyncio.Event()
        self._turns = Newest()
        self._crowded = False
        ready: Future[asyncio.AbstractEventLoop] = Future()
        serving = self._serve(credentials.context(server=True), address, ready)
        self._thread = threading.Thread(target=asyncio.run, args=(serving,), name="secirls hub", daemon=True)
        self._thread.start()
        try:
            self._loop = ready.result()
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise InputError(f"no hub can listen at {address[0]}:{address[1]} ({why})") from None

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted(self._sites))

    @property
    def missing(self) -> tuple[PartyId, ...]:
        """Who has not called, or is silent."""
        return tuple(name for name, seat in self._seats.items() if name not in self._gone and not seat.taken)

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Pose a question to each, and take answers as they come, until all are there, silent or late."""
        alike: dict[int, bytes] = {}
        given: dict[PartyId, bytes] = {}
        for name, told in arguments.items():
            if name not in self._gone:
                if id(told) not in alike:
                    alike[id(told)] = arguments_to_bytes(told)
                given[name] = alike[id(told)]
        replies = self._asked_aloud(verb, given)
        return {name: answer_of(name, verb, reply) for name, reply in replies.items()}

    def fence(self, party: PartyId) -> None:
        """Have nothing more to do with a party; a helper may have done its part."""
        if party in self._gone or party not in self._seats:
            return
        self._gone.add(party)
        helper = party in self._helpers
        end = End(helper, "its part is done" if helper else "it gave no answer that could be used, and is left out")
        self._loop.call_soon_threadsafe(self._seats[party].close, end)

    def close(self, *, well: bool) -> None:
        """Stop. Where the fit ended well all parties hear of it; else they wait for a hub that goes on."""
        try:
            if well:
                asyncio.run_coroutine_threadsafe(self._farewell(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()

    def _asked_aloud(self, verb: str, given: Mapping[PartyId, bytes]) -> dict[PartyId, Reply]:
        """What is answered; who is waited for is said now and then."""
        began = time.monotonic()
        waiting: dict[asyncio.Future[Reply], PartyId] = {}
        future = asyncio.run_coroutine_threadsafe(self._asked(verb, given, waiting), self._loop)
        while True:
            try:
                return future.result(TOLD_SECONDS)
            except TimeoutError:
                named = ", ".join(sorted(waiting.values()))
                self._note(f"{time.monotonic() - began:.0f} s so far without an answer of {named}")

    async def _asked(
        self, verb: str, given: Mapping[PartyId, bytes], waiting: dict[asyncio.Future[Reply], PartyId]
    ) -> dict[PartyId, Reply]:
        """What is answered; who has not yet is in ``waiting``."""
        until = self._awake() + seconds_for(verb, self._deadline)
        waiting |= {self._seats[name].ask(verb, told): name for name, told in given.items()}
        replies: dict[PartyId, Reply] = {}
        while waiting and (left := until - self._awake()) > 0:
            done, _ = await asyncio.wait(waiting, timeout=min(left, LOOK_SECONDS))
            for answer in done:
                replies[waiting.pop(answer)] = answer.result()
            for answer in [answer for answer, name in waiting.items() if self._seats[name].silent]:
                del waiting[answer]
        return replies

    async def _farewell(self) -> None:
        for seat in self._seats.values():
            seat.close(End(well=True, why="the fit is finished"))
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                for seat in self._seats.values():
                    if seat.taken:
                        await seat.told.wait()

    async def _serve(
        self, context: ssl.SSLContext, address: tuple[str, int], ready: Future[asyncio.AbstractEventLoop]
    ) -> None:
        """Listen until all is over; ``ready`` tells from when on, or why not."""
        app = web.Application(client_max_size=LARGEST_MESSAGE)
        app.router.add_get("/session", self._heard(self._greeted))
        app.router.add_post("/turn", self._heard(self._turned))
        app.router.add_post("/alive", self._heard(self._lived))
        app.router.add_post("/leave", self._heard(self._left))
        # Of a body that is packed, a megabyte may be a gigabyte.
        told: dict[str, Any] = {"access_log": None, "logger": _silent, "auto_decompress": False}
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0, **told)
        await runner.setup()
        loop, server = asyncio.get_running_loop(), Door(cast("Callable[[], asyncio.Protocol]", runner.server))
        loop.set_exception_handler(self._beside)
        try:
            listening = await loop.create_server(
                server,
                *address,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (OSError, UnicodeError) as error:  # the second of a host that can have no name
            ready.set_exception(error if isinstance(error, OSError) else OSError(0, "is no host's name"))
            return
        ready.set_result(loop)
        while not self._over.is_set():
            self._awake.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), LOOK_SECONDS)
        listening.close()
        for seat in self._seats.values():
            seat.leave()
        await runner.cleanup()
        await asyncio.sleep(2 * SHUTDOWN_SECONDS)  # connections that are closed take their leave of the other side

    def _heard(
        self, answer: Callable[[Seat, web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """A handler of what the party that shows its certificate says."""

        async def handler(request: web.Request) -> web.Response:
            certificate = None if request.transport is None else request.transport.get_extra_info("peercert")
            seat = self._seats.get(shown_name(certificate))
            if seat is None:
                return web.Response(status=HTTPStatus.FORBIDDEN)
            try:
                return await answer(seat, request)
            except WireError:
                return web.Response(status=HTTPStatus.BAD_REQUEST)
            except EndedError as ended:
                return web.Response(status=HTTPStatus.GONE, body=packed(ended.end))
            except LaterError as later:
                return web.Response(status=LATER, body=packed(End(well=False, why=str(later))))
            except web.HTTPException:
                raise
            except OSError:  # the line broke: nobody hears this
                return web.Response(status=HTTPStatus.BAD_REQUEST)
            except Exception as error:  # noqa: BLE001 - a fault of ours, of which the party hears nothing but that
                self._note(f"the hub failed over a call of {seat.name}: {type(error).__name__}")
                return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)

        return handler

    async def _greeted(self, _seat: Seat, _request: web.Request) -> web.Response:
        return web.Response(body=self._welcome)

    async def _lived(self, seat: Seat, request: web.Request) -> web.Response:
        return await self._signed(request, seat.seen)

    async def _left(self, seat: Seat, request: web.Request) -> web.Response:
        return await self._signed(request, seat.depart)

    async def _signed(self, request: web.Request, heard: Callable[[bytes], None]) -> web.Response:
        """Hear from a process of this session, in a sign that says beforehand that it is short."""
        if (request.content_length or LARGEST_SIGN) >= LARGEST_SIGN:
            raise WireError
        sign: Sign = read(Sign, await request.read())
        if sign.session != self._session:
            return web.Response(status=HTTPStatus.CONFLICT)
        heard(sign.process)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _turned(self, seat: Seat, request: web.Request) -> web.Response:
        self._turns.begin(seat.name)
        try:
            turn: Turn = read(Turn, await request.read())
            if turn.session != self._session:
                return web.Response(status=HTTPStatus.CONFLICT)
            question = await seat.turn(turn, POLL_SECONDS)
        finally:
            self._turns.end(seat.name)
        return web.Response(status=HTTPStatus.NO_CONTENT) if question is None else web.Response(body=packed(question))

    def _beside(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What befalls a connection while nobody's call is answered: of lines that break nothing is said."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE} and not self._crowded:
            self._crowded = True
            self._note("more connections come in than this process may have files open (ulimit -n): some have to wait")
