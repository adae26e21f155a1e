"""What every verb cost: seconds and bytes, by round and party, in one tidy table.

Promises: times come from wrapping calls and bytes from the length of messages, so no protocol and no
algorithm is instrumented inside. Durations are taken within one process, never across two.
Bytes are protocol bytes: what a real deployment would send, without Ray's framing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

SETUP_ROUND = -1
"""The round number under which meeting each other is booked."""

BOOKED = frozenset(
    {
        *("hello", "meet", "verify"),  # getting to know each other
        *("compute", "encode", "protect", "precompute", "assist", "follow", "recall"),  # sums
    }
)
"""The verbs that sites and helpers book."""

MEGABYTE = 1e6
"""Bytes of one, wherever costs are shown."""
LONGEST_SECONDS = 1e9
"""That no verb takes: thirty years."""
LARGEST_COUNT = 1 << 63
"""That no table holds."""
MOST_COSTS = 64
"""Of one answer: a site books half a dozen verbs at most, and each is a line of the table, in memory and on disk."""


@dataclass(frozen=True)
class Cost:
    """What one verb cost in the process that ran it."""

    verb: str
    seconds: float
    cpu_seconds: float
    bytes_up: int = 0
    """Sent by a site or helper towards the aggregator."""
    bytes_down: int = 0
    """Received by a site or helper from the aggregator."""


@dataclass(frozen=True)
class Row:
    """One line of the ledger."""

    run: str
    protocol: str
    round: int
    party: str
    role: str
    verb: str
    seconds: float
    cpu_seconds: float
    bytes_up: int
    bytes_down: int
    values: int
    active_genes: int


COLUMNS = tuple(item.name for item in fields(Row))


def are_seconds(*told: object) -> bool:
    """Whether these can be what verbs took."""
    return all(isinstance(number, float) and 0 <= number < LONGEST_SECONDS for number in told)


def are_counts(*told: object) -> bool:
    """Whether these can be how many bytes or values there were."""
    return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < LARGEST_COUNT for n in told)


def is_cost(told: object) -> bool:
    """Whether a site or helper can have booked this."""
    return (
        isinstance(told, Cost)
        and isinstance(told.verb, str)
        and told.verb in BOOKED
        and are_seconds(told.seconds, told.cpu_seconds)
        and are_counts(told.bytes_up, told.bytes_down)
    )


def are_costs(told: object) -> bool:
    """Whether a site or helper can have booked these for one answer."""
    return isinstance(told, tuple) and len(told) <= MOST_COSTS and all(map(is_cost, told))


class Meter:
    """Times verbs where they run and hands out what they cost."""

    def __init__(self, threads: int) -> None:
        """On one thread a verb's CPU seconds are that thread's, whatever else its process does; else the process's."""
        self._costs: list[Cost] = []
        self.clock = time.thread_time if threads == 1 else time.process_time
        """Gives CPU seconds."""
        self._charged = (0.0, 0.0)

    def measure(self, verb: str, call: Callable[[], T], *, down: int = 0) -> T:
        """Run a call as a verb; a ``bytes`` result counts as sent up."""
        self._charged = (0.0, 0.0)
        wall, cpu = time.perf_counter(), self.clock()
        result = call()
        seconds, cpu_seconds = time.perf_counter() - wall, self.clock() - cpu
        up = len(result) if isinstance(result, bytes) else 0
        self._costs.append(Cost(verb, seconds + self._charged[0], cpu_seconds + self._charged[1], up, down))
        return result

    def charge(self, seconds: float, cpu_seconds: float) -> None:
        """Within a verb: what part of it took, once, that was worked out for it before."""
        self._charged = self._charged[0] + seconds, self._charged[1] + cpu_seconds

    def book(self, costs: tuple[Cost, ...]) -> None:
        """Add what was measured elsewhere."""
        self._costs += costs

    def take(self) -> tuple[Cost, ...]:
        """The costs since the last call, in order."""
        costs, self._costs = tuple(self._costs), []
        return costs


@dataclass
class Ledger:
    """The rows of one run, gathered by the aggregator."""

    run: str
    protocol: str
    rows: list[Row] = field(default_factory=list)
    round: int = SETUP_ROUND
    values: int = 0
    active_genes: int = 0

    @contextmanager
    def booking(self, round_number: int, values: int, active_genes: int) -> Iterator[None]:
        """Book everything in this block under one round; what comes after is set-up again."""
        before = self.round, self.values, self.active_genes
        self.round, self.values, self.active_genes = round_number, values, active_genes
        try:
            yield
        finally:
            self.round, self.values, self.active_genes = before

    def add(self, party: str, role: str, costs: tuple[Cost, ...]) -> None:
        """Book what a party's verbs cost under the current round."""
        for cost in costs:
            self.rows.append(
                Row(
                    self.run,
                    self.protocol,
                    self.round,
                    party,
                    role,
                    cost.verb,
                    cost.seconds,
                    cost.cpu_seconds,
                    cost.bytes_up,
                    cost.bytes_down,
                    self.values,
                    self.active_genes,
                )
            )


def table(rows: list[Row]) -> pd.DataFrame:
    """The ledger as a data frame with `COLUMNS`."""
    import pandas as pd

    return pd.DataFrame(list(map(attrgetter(*COLUMNS), rows)), columns=list(COLUMNS))


def by_verb(ledger: pd.DataFrame) -> pd.DataFrame:
    """Seconds and bytes summed by verb, in the order verbs first occur."""
    sums = ledger.groupby("verb", sort=False)[["seconds", "cpu_seconds", "bytes_up", "bytes_down"]].sum()
    return sums.reset_index()
