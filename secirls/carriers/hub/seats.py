"""Where each party sits at a hub: its one open question, its answers, and its signs of life.

Promises: a question is there until it is answered, however often a line breaks; an answer is taken once; nobody takes
the seat of a process that lives. Refuses to know: HTTP, TLS, and what is asked. All of it runs in one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from protocols.secure_sum import PartyId
from secirls.carriers.hub.wire import End, Question, Reply, Turn

SILENT_SECONDS = 30.0
"""Without a sign of life for so long a party is silent, unless the fit's deadline is shorter."""


_LONGEST_STEP = 2.0
"""Of a longer time between two looks at the clock only so much counts."""


class Awake:
    """Seconds for which this process ran. While it is suspended, or busy, it hears no sign of life from anybody."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """By a clock that goes on meanwhile."""
        self._clock, self._last, self._seconds = clock, clock(), 0.0

    def __call__(self) -> float:
        """As of the last look at the clock."""
        return self._seconds

    def look(self) -> None:
        """Look at the clock, which is to be done often."""
        now = self._clock()
        self._seconds += min(now - self._last, _LONGEST_STEP)
        self._last = now


class EndedError(Exception):
    """The hub has nothing more for this process."""

    def __init__(self, end: End) -> None:
        super().__init__(end.why)
        self.end = end


class LaterError(Exception):
    """The process may not take part now, for a reason in words, and may ask again."""


class Seat:
    """One party's place."""

    def __init__(self, name: PartyId, clock: Callable[[], float]) -> None:
        """A place nobody sits in, by a clock in seconds."""
        self.name = name
        self.told = asyncio.Event()
        """Whether the party has heard that all is over."""
        self._clock = clock
        self._process = b""
        self._departed = False
        self._seen = 0.0
        self._question: Question | None = None
        self._number = 0
        self._answer: asyncio.Future[Reply] | None = None
        self._end: End | None = None
        self._left = False
        self._changed = asyncio.Event()

    @property
    def taken(self) -> bool:
        """Whether a process sits here and gives signs of life."""
        return bool(self._process) and not self.silent

    @property
    def silent(self) -> bool:
        """Whether a process that sat here left, or nothing was heard of it for too long."""
        return bool(self._process) and (self._departed or self._clock() - self._seen > SILENT_SECONDS)

    def seen(self, process: bytes) -> None:
        """Note a sign of life; who gives the first sits here.

        Raises `EndedError` where all is over, `LaterError` where another process sits here, or sat here and was asked:
        what it knew is lost, and only another session can be without it.
        """
        if process != self._process:
            if self._end is not None and self._end.well:
                raise EndedError(self._end)
            if self.taken:
                raise LaterError(f"has another process that takes part as {self.name!r}, or did until just now")
            if self._process and self._number:
                raise LaterError("goes on without this process, which can take part in the next session")
            self._process, self._departed = process, False
        elif self._departed:
            raise LaterError("heard that this process leaves")
        self._seen = self._clock()
        if self._end is not None:
            self.told.set()
            raise EndedError(self._end)

    def depart(self, process: bytes) -> None:
        """Hear from the process that sits here that it ends."""
        self._departed = self._departed or process == self._process

    def ask(self, verb: str, given: bytes) -> asyncio.Future[Reply]:
        """Pose the next question; gives where the answer will be."""
        self._number += 1
        self._question = Question(self._number, verb, given)
        self._answer = asyncio.get_running_loop().create_future()
        self._change()
        return self._answer

    async def turn(self, turn: Turn, seconds: float) -> Question | None:
        """Take a reply, if it is to the open question; then the next question, or nothing where none came in time."""
        self.seen(turn.process)
        reply = turn.reply
        if reply is not None and self._answer is not None and reply.number == self._number and not self._answer.done():
            self._answer.set_result(reply)
        until = self._clock() + seconds
        while self._question is None or self._question.number <= turn.answered:
            left = until - self._clock()
            if left <= 0 or self._left:
                return None
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return None
            self.seen(turn.process)
        return self._question

    def close(self, end: End) -> None:
        """Have nothing more to ask here."""
        self._end = end
        self._change()

    def leave(self) -> None:
        """Keep nobody waiting: no question will come."""
        self._left = True
        self._change()

    def _change(self) -> None:
        """Wake whoever waits here, and let the next wait anew."""
        self._changed.set()
        self._changed = asyncio.Event()
