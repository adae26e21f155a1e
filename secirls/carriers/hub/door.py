"""Where connections come in at a hub: each party has a few, and none of them takes more than its own room.

Promises: a party that opens more loses its oldest, and nobody else any; of its bodies one at a time is held, the
newest. Refuses to know: what is said on them, and whose name a certificate may bear.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

from secirls.carriers.hub.credentials import shown_name

MOST_LINES = 8
"""Connections of one name at a time: a party has two, and some that broke and were not told so."""


class Door:
    """Counts connections by the name that each one's certificate bears."""

    def __init__(self, made: Callable[[], asyncio.Protocol]) -> None:
        """What is said on a connection is ``made`` anew for each."""
        self._made = made
        self._open: defaultdict[str, deque[asyncio.Transport]] = defaultdict(deque)

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one more connection, which counts once its TLS stands."""
        return _Counted(self._made(), self)

    def enter(self, line: asyncio.Transport) -> None:
        """Let one more in, and its name's oldest go where these are too many."""
        lines = self._open[shown_name(line.get_extra_info("peercert"))]
        lines.append(line)
        if len(lines) > MOST_LINES:
            lines.popleft().abort()

    def leave(self, line: asyncio.Transport) -> None:
        """Forget one that is over."""
        name = shown_name(line.get_extra_info("peercert"))
        if line in self._open[name]:
            self._open[name].remove(line)
        if not self._open[name]:
            del self._open[name]


class _Counted(asyncio.Protocol):
    """A protocol on one connection, which enters and leaves by a door."""

    def __init__(self, inner: asyncio.Protocol, door: Door) -> None:
        self._inner, self._door = inner, door
        self._line: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._line = transport
        self._door.enter(transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._line is not None:
            self._door.leave(self._line)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class Newest:
    """One task by name: the next one ends the one before, whose line may have broken."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[object]] = {}

    def begin(self, name: str) -> None:
        """Let the running task be the name's, and end another that is."""
        mine = asyncio.current_task()
        assert mine is not None
        before = self._tasks.get(name)
        self._tasks[name] = mine
        if before is not None and before is not mine:
            before.cancel()

    def end(self, name: str) -> None:
        """Forget it where it is the name's still."""
        if self._tasks.get(name) is asyncio.current_task():
            del self._tasks[name]
