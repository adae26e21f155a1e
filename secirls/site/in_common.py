"""What follows from public things alone: worked out once where simulated sites share a process.

Promises: a site is given what it would have worked out itself, for a result is known by all that it follows from; and
it is charged what that took, so that the ledger says what a site costs alone. The last result of each kind is kept.
Refuses to know: what is one site's: its counts, keys and sums, what all of them check totals with, and whether it
believes a total.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from secirls.agreement.ledger import Meter

T = TypeVar("T")


class Apart:
    """Of a site with a process of its own, which works everything out: nothing is kept."""

    def once(self, what: str, of: tuple[object, ...], call: Callable[[], T], meter: Meter) -> T:
        """What the call gives; ``what`` it is, and all that it follows ``of``, name it."""
        return call()


@dataclass(frozen=True)
class _Kept:
    of: tuple[object, ...]
    result: Any
    seconds: float
    cpu_seconds: float


class InCommon(Apart):
    """Of all sites in one process. Whoever takes a result changes nothing in it."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def once(self, what: str, of: tuple[object, ...], call: Callable[[], T], meter: Meter) -> T:
        """What the call gave whoever came first, charged to the meter of who comes after; an error is not kept."""
        kept = self._kept.get(what)
        if kept is None or kept.of != of:
            wall, cpu = time.perf_counter(), meter.clock()
            result = call()
            kept = _Kept(of, result, time.perf_counter() - wall, meter.clock() - cpu)
            self._kept[what] = kept
        else:
            meter.charge(kept.seconds, kept.cpu_seconds)
        given: T = kept.result
        return given
