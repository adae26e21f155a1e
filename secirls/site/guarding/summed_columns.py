"""Design columns over size factors of fit after fit about a site's data: in its memory, on its own disk.

Promises: of two fits whose columns differ in a few samples of this site the second is known, before it sums with them,
for the same difference of opened sums would be these samples' own; and so is one that differs in what each site takes
out of columns as its own. Columns of a fit are on the disk before its sums leave. Nothing of them leaves the site.
Refuses to know: what is done about it; see `Policy`.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from protocols.secure_sum import PartyId
from secirls.numerics.arrays import Floats
from secirls.site.guarding.budget import held, replace_file
from secirls.site.guarding.likeness import Likeness, Summed

IN_TURN = "columns.npz"
"""Fits take their columns one after another, whichever data they are about: two could each miss the other's."""


class SummedColumns:
    """Those of one data set, in a file."""

    def __init__(
        self,
        site: PartyId,
        file: Path,
        samples: Sequence[str],
        others: Callable[[], Sequence[tuple[Path, Sequence[str]]]] = tuple,
    ) -> None:
        """Take where they are kept, and what names each sample of the site, in the order of its rows.

        ``others`` gives files of other data sets that share some, and what names each of their rows: those of a study
        that grew, or lost samples or genes. It is asked whenever columns are held against them, for another fit may
        have begun later, and be farther.
        """
        self._site = site
        self._file = file
        self._order = np.argsort(np.array(samples), kind="stable")
        self._samples = _counted(sorted(samples))
        self._others = others

    def take(
        self,
        own: Floats,
        columns: Floats,
        size_factors: Floats,
        least: int,
        allowed: Callable[[Likeness], None],
        names: Sequence[str] = (),
    ) -> None:
        """Note columns that are to be summed, with counts over size factors or alone: ``own`` and the table's.

        Each ``(samples, columns)``; size factors that are not known yet are ones. ``names`` are those of all columns.

        Raises what ``allowed`` raises, told how like they are to those of earlier fits, where ``least`` samples are
        enough for a difference; and `InputError` where nothing can be kept: then nothing must be summed.
        """
        with np.errstate(all="ignore"):
            now = np.column_stack([np.ones(len(columns)), own, columns]) / size_factors[:, None]
        now = np.where(np.isfinite(now), now, 0.0)[self._order]
        with held(self._site, self._file.with_name(IN_TURN), "summed"):
            told = _read(self._file, self._samples)
            fit = Summed(now, own.shape[1], tuple(names), self._samples)
            known = any(fit.is_the_same(one) for one in told)
            others = [one for file, named in self._others() for one in _read(file, _counted(named))]
            allowed(Likeness(0, 0) if known else Likeness.of([*told, *others], fit, least))
            if not known:
                text = io.BytesIO()
                fits = [*told, fit]
                called = np.frombuffer(json.dumps([one.names for one in fits]).encode(), dtype=np.uint8)
                own_of = np.array([one.own for one in fits])
                np.savez(text, *(one.columns for one in fits), own=own_of, names=called)
                replace_file(self._file, text.getbuffer())


def _counted(samples: Sequence[str]) -> tuple[str, ...]:
    """What names samples, each with a number: two may have the same counts."""
    seen: Counter[str] = Counter()
    found = []
    for sample in samples:
        found.append(f"{sample} {seen[sample]}")
        seen[sample] += 1
    return tuple(found)


def _read(file: Path, samples: tuple[str, ...]) -> list[Summed]:
    """The fits in a file, about these samples. Raises `ValueError` where it is about others."""
    if not file.exists():
        return []
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as kept:
        own = kept["own"].tolist()
        # A file of before columns were called anything has no names.
        names = json.loads(kept["names"].tobytes()) if "names" in kept else [()] * len(own)
        told = [
            Summed(kept[f"arr_{number}"], one, tuple(called), samples)
            for number, (one, called) in enumerate(zip(own, names, strict=True))
        ]
    if any(one.columns.ndim != 2 or len(one.columns) != len(samples) for one in told):
        raise ValueError("another data set's")
    return told
