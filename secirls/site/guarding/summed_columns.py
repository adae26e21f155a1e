"""Design columns over size factors that a site's data was summed with, fit after fit: in its memory, on its own disk.

Promises: of two fits whose columns differ in a few samples of this site the second is known, before it sums anything,
for the same difference of opened sums would be these samples' own; columns of a fit are on the disk before its sums
leave. Nothing of them leaves the site. Refuses to know: what is done about it; see `Policy`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from protocols.secure_sum import PartyId
from secirls.input_error import InputError, complain
from secirls.numerics.arrays import Floats
from secirls.site.guarding.budget import replace_file

_ALL_BUT = 0.999
"""Samples that make up so much of what is left of a column's squares are all that is in it."""
_ROUNDING = 1e-9
"""Of a column's largest entry: what is left of it, if no more than this, is nothing."""
_STEPS = 30
_SMOOTH = 1e-6
_FREE = 3
"""With fewer samples more than columns, what is left of any column is a few samples."""
_FEW_OF = 5
"""One in so many samples, or a single one: other columns of theirs differ in more."""


class SummedColumns:
    """Those of one data set, in a file."""

    def __init__(self, site: PartyId, file: Path, samples: Sequence[str]) -> None:
        """Take where they are kept, and what names each sample of the site, in the order of its rows."""
        self._site = site
        self._file = file
        self._order = np.argsort(np.array(samples), kind="stable")

    def take(self, columns: Floats, size_factors: Floats, least: int, allowed: Callable[[bool], None]) -> None:
        """Note columns ``(samples, columns)``, and with them one of ones, that are to be summed over size factors.

        Raises what ``allowed`` raises, told whether those of an earlier fit, or of all together, differ from them in
        some samples, but fewer than ``least``; and `InputError` where nothing can be kept: then nothing must be summed.
        """
        with np.errstate(all="ignore"):
            now = np.column_stack([np.ones(len(columns)), columns]) / size_factors[:, None]
        now = np.where(np.isfinite(now), now, 0.0)[self._order]
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._file.with_suffix(".lock"), mode=0o600):
                told = self._read()
                known = any(np.array_equal(now, earlier) for earlier in told)
                together = [np.hstack(told)] if len(told) > 1 else []
                allowed(not known and any(few_differ(earlier, now, least) for earlier in [*told, *together]))
                if not known:
                    text = io.BytesIO()
                    np.savez(text, *told, now)
                    replace_file(self._file, text.getbuffer())
        except InputError:
            raise
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise complain(
                f"can't keep what it summed ({type(error).__name__}): its policy may name a folder as memory",
                site=self._site,
            ) from None

    def _read(self) -> list[Floats]:
        if not self._file.exists():
            return []
        with np.load(io.BytesIO(self._file.read_bytes()), allow_pickle=False) as kept:
            told = [kept[name] for name in kept.files]
        if any(array.ndim != 2 or len(array) != len(self._order) for array in told):
            raise ValueError("another data set's")
        return told


def few_differ(earlier: Floats, now: Floats, least: int) -> bool:
    """Whether some column of one fit is a combination of another's but for a few samples, fewer than ``least``.

    Both ``(samples, columns)``, over size factors, the first column that of all samples. Combinations within one fit
    are left to the rule about X'X of all sites. A column is held against each of the other fit's, and all together.
    """
    weights = np.where(now[:, 0] > 0, now[:, 0], 1.0)[:, None]
    former, later = _scaled(earlier / weights), _scaled(now / weights)
    news, olds = _beyond(later, former), _beyond(former, later)
    if not (news and olds):
        return False  # one fit's columns are all combinations of the other's
    cases = [(later, column, [former, *(former[:, [old]] for old in olds)]) for column in news]
    cases += [(former, column, [later]) for column in olds]
    for side, column, beside in cases:
        every = side[:, :1] if column else side[:, :0]
        if any(_few(side[:, column], every, np.hstack([every, others]), least) for others in beside):
            return True
    return False


def _few(column: Floats, every: Floats, others: Floats, least: int) -> bool:
    free = len(column) - int(np.linalg.matrix_rank(others))
    if free < _FREE:
        return False
    left = differing(column, others)
    return 0 < left < least and left <= max(1, free // _FEW_OF) and left < differing(column, every)


def differing(column: Floats, others: Floats) -> int:
    """In how many samples a column differs from the combination of others that it differs from in fewest.

    Found by least absolute deviations, with weights that are made anew (Schlossmacher 1973).
    """
    left, weights = np.abs(column), np.ones(len(column))
    for _ in range(_STEPS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(others * root[:, None], column * root, rcond=None)[0]
        left = np.abs(column - (others * found).sum(axis=1))
        weights = 1.0 / np.maximum(left, max(_SMOOTH * left.max(), np.finfo(np.float64).tiny))
        weights /= weights.max()
    if left.max() <= _ROUNDING * np.abs(column).max():
        return 0
    squares = np.cumsum(np.sort(left**2)[::-1])
    return 1 + int(np.searchsorted(squares, _ALL_BUT * squares[-1]))


def _scaled(columns: Floats) -> Floats:
    """Columns whose largest entry is one; those that are nothing at this site are left out, but for the first."""
    largest = np.abs(columns).max(axis=0, initial=0.0)
    kept = (largest > 0) | (np.arange(columns.shape[1]) == 0)
    scaled: Floats = columns[:, kept] / np.where(largest > 0, largest, 1.0)[kept]
    return scaled


def _beyond(columns: Floats, others: Floats) -> list[int]:
    """Which columns are no combination of others."""
    found = np.linalg.lstsq(others, columns, rcond=None)[0]
    left = np.abs(columns - others @ found).max(axis=0, initial=0.0)
    return [int(i) for i in np.flatnonzero(left > _ROUNDING)]
