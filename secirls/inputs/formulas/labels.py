"""What the values of a factor are called: the same label for what people write in several ways.

Promises: a label depends on its value alone, so that every site and every option name a level alike; texts that
stand for a missing value are known as such. Refuses to know: which levels a fit has.
"""

from __future__ import annotations

import heapq
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from secirls.input_error import InputError
from secirls.numerics.arrays import Floats

MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "na"}
    | {"nan", "null"}
)
"""Texts that stand for a missing value: those that pandas reads as one. A control group may be called ``none``."""

MOST_NUMBERED = 5

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Kinds of characters that are no letters but orders: to move on a terminal, to turn a line round, to join letters."""

_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def label(value: object) -> str:
    """A level's name: without blanks around it, accents composed, and whole numbers without a fraction."""
    if isinstance(value, float | np.floating):
        value = int(value) if float(value).is_integer() else float(value)
    text = unicodedata.normalize("NFC", str(value)).strip().strip("\ufeff").strip()
    whole = _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def plain(text: str) -> str:
    """A text with characters that a terminal would obey written as their numbers; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in _UNSEEN else ascii(sign)[1:-1] for sign in text
    )


def is_plain(text: str) -> bool:
    """Whether there is no such character in a text, nor a line end or a tab."""
    return text.isprintable() or not any(unicodedata.category(sign) in _UNSEEN for sign in text)


def labels(values: Iterable[object]) -> list[str]:
    """The labels of a column."""
    return [label(value) for value in values]


def numbered(values: Floats) -> bool:
    """Whether numbers ``(samples,)`` may be those of groups: whole, and `MOST_NUMBERED` different ones at most.

    On average two samples or more have each: of few samples any column had few numbers.
    """
    different = np.unique(values)
    few = different.size <= min(MOST_NUMBERED, values.size // 2)
    return few and np.array_equal(different, np.rint(different))


def merged(orders: Iterable[Sequence[str]]) -> tuple[str, ...] | None:
    """All levels in one order that each of some orders is a part of; sorted where they leave it open.

    ``None`` where two of them contradict each other.
    """
    after: dict[str, list[str]] = {}
    waits: Counter[str] = Counter()
    for order in orders:
        for level in order:
            after.setdefault(level, [])
        for level, following in itertools.pairwise(order):
            after[level].append(following)
            waits[following] += 1
    free = sorted(level for level in after if not waits[level])
    found: list[str] = []
    while free:
        found.append(heapq.heappop(free))
        for level in after[found[-1]]:
            waits[level] -= 1
            if not waits[level]:
                heapq.heappush(free, level)
    return tuple(found) if len(found) == len(after) else None


def check_alike(name: str, held: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` where levels differ in upper and lower case alone; ``held`` is what each site holds."""
    seen: dict[str, str] = {}
    for level in sorted({level for levels in held.values() for level in levels}):
        other = seen.setdefault(level.casefold(), level)
        if other != level:
            where = (f"{text!r} ({', '.join(s for s, has in held.items() if text in has)})" for text in (other, level))
            raise InputError(
                f"obs column {name!r}: the levels {' and '.join(where)} differ in upper and lower case alone: "
                "write them alike, or declare both (levels) if they are two"
            )
