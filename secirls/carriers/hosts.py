"""Many simulated sites in one process: what the process does, and how a call for all of them is packed.

Promises: a host is called once for a verb, whatever the number of its sites; what has been answered is on its way
within a moment, many answers at once, whoever hangs after that; what several are told alike is stored once.
Refuses to know: who carries the call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from protocols.secure_sum import PartyId
from secirls.agreement.order import Place
from secirls.carriers.own_process import keep_freed_memory
from secirls.config import Config
from secirls.site.desk import Desk
from secirls.site.in_common import InCommon
from secirls.site.site import Site

SHARED_BYTES = 100 * 1024
"""Messages above this size, alone or as a table, that go to several parties are put into the object store once."""

TOGETHER_SECONDS = 0.25
"""How long an answer may wait for others, so that they travel at once: each by itself takes a millisecond to carry."""


@dataclass(frozen=True)
class Beside:
    """Stands for a value that a host is given once, beside what its sites are asked."""

    place: int


class HostActor:
    """Many simulated sites in one process, where one process each would not fit; they answer one after the other.

    One that hangs past the deadline therefore silences all, for good: they are told apart, but not saved.
    """

    def __init__(self, places: list[Place], config: Config) -> None:
        keep_freed_memory()
        common = InCommon()
        self._sites = {place.name: Desk(Site(place, config, own_process=False, common=common)) for place in places}

    def ready(self) -> None:
        """The process stands."""

    def ask(self, verb: str, asked: Mapping[PartyId, tuple[Any, ...]], *beside: Any) -> Iterator[list[Any]]:
        """Run one verb at some sites: their answers in the order asked, or in an answer's place what was raised.

        The sites answer in a thread beside this one, which hands on what is there while one of them hangs.
        """
        answers: list[Any] = []
        done = threading.Event()

        def work() -> None:
            try:
                for name, given in asked.items():
                    answers.append(self._answer(verb, name, given, beside))
            finally:
                done.set()

        threading.Thread(target=work, daemon=True).start()
        told, ended = 0, False
        while not ended:
            ended = done.wait(TOGETHER_SECONDS)
            together = answers[told:]
            told += len(together)
            if together:
                yield together

    def _answer(self, verb: str, name: PartyId, given: tuple[Any, ...], beside: tuple[Any, ...]) -> Any:
        whole = (beside[value.place] if isinstance(value, Beside) else value for value in given)
        try:
            return self._sites[name].ask(verb, *whole)
        except Exception as error:  # noqa: BLE001 - a desk raises only what may be heard outside
            return error


class Store:
    """Large messages of one call in the object store: each once, however many are told it."""

    def __init__(self, put: Callable[[Any], Any]) -> None:
        """``put`` stores one message, and gives a reference to it."""
        self._put = put
        self._kept: dict[int, Any] = {}

    def put(self, value: Any) -> Any:
        """A reference to a large value, or the value."""
        if id(value) not in self._kept:
            self._kept[id(value)] = self._put(value) if _length(value) >= SHARED_BYTES else value
        return self._kept[id(value)]

    def told(self, asked: Mapping[PartyId, tuple[Any, ...]]) -> tuple[dict[PartyId, tuple[Any, ...]], list[Any]]:
        """What a host's sites are asked, large values taken out; and references to these."""
        places: dict[Any, Beside] = {}

        def told(value: Any) -> Any:
            kept = self.put(value)
            return value if kept is value else places.setdefault(kept, Beside(len(places)))

        return {name: tuple(map(told, given)) for name, given in asked.items()}, list(places)


def _length(value: Any) -> int:
    """Bytes in a message, or in a table of messages."""
    if isinstance(value, Mapping):
        return sum(map(_length, value.values()))
    return len(value) if isinstance(value, bytes) else 0
