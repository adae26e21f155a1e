"""Candidates run in turn in one process, and rows of one beside another.

Promises: all see the same busy or quiet machine, and what is compiled, loaded or paged in by a first call is no
repeat's cost. Refuses to know: what is run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from experiments.groundwork.record import Row

Candidates: TypeAlias = Mapping[str, Callable[[], object]]
Seconds: TypeAlias = dict[str, list[float]]
"""Of every candidate, one for each repeat."""


def in_turn(
    candidates: Candidates, repeats: int, clock: Callable[[], float] = time.process_time, *, calls: int = 1
) -> Seconds:
    """Seconds of a call of each, of the processor unless another clock is given; each repeat begins with the next.

    Each has run once before. What is short is called so many times a repeat.
    """
    for run in candidates.values():
        run()
    names, spent = list(candidates), {name: list[float]() for name in candidates}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in [*names[first:], *names[:first]]:
            run = candidates[name]
            start = clock()
            for _ in range(calls):
                run()
            spent[name].append((clock() - start) / calls)
    return spent


def least(seconds: Seconds) -> dict[str, float]:
    """The shortest of every candidate."""
    return {name: min(spent) for name, spent in seconds.items()}


def beside(line: str, case: object, values: Sequence[float], against: Sequence[float]) -> Iterator[Row]:
    """A row for every repeat: what was measured of a line of the table in one of its cases, and its baseline."""
    for repeat, (value, baseline) in enumerate(zip(values, against, strict=True)):
        yield {"line": line, "case": str(case), "repeat": repeat, "value": float(value), "against": float(baseline)}


def alone(line: str, case: object, value: float, against: float = 1.0) -> Iterator[Row]:
    """One row of what is no time, or is the same in every repeat."""
    yield from beside(line, case, [value], [against])
