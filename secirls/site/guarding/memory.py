"""What a site has answered and for which fits, on its own disk: it outlives the process, and every aggregator.

Promises: a line is on the disk before what it notes happens, so that a later process knows of it; a question
about the same data is not answered for two cohorts, nor opened over another set than it was; fits that differ by a few
samples or genes, by a site, or by the layer, are known. Nothing in it leaves the site. Refuses to know: rules; see
`Policy`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from protocols.secure_sum import PartyId, sha256
from secirls.input_error import InputError
from secirls.numerics.arrays import Counts
from secirls.numerics.held.held_counts import Chosen, HeldCounts
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.guarding.budget import Places, places_of, replace_file, unkept
from secirls.site.guarding.count_digests import sample_digests
from secirls.site.guarding.sample_sketches import same_samples, sketches
from secirls.whole_file import settle

FITS = "fits.jsonl"
ENTERED, SUMMED = "-entered.npz", "-columns.npz"
KNOWN = ("samples", "layer", "names", "marks")
"""What is noted of a fit's samples: with the first fit about them alone, for anybody may call another session a fit."""
NOTED, MOMENT = "noted", "%Y-%m-%d %H:%M"
"""When a fit was noted (UTC): for whoever reads it, never to tell fits apart."""


def _gene(name: str) -> bytes:
    return sha256(b"secirls gene v1", name.encode())


def _file_of(genes: Sequence[str]) -> str:
    """What the file of a fit's genes, by digest, is called."""
    return f"genes-{sha256(b'secirls genes kept v1', *map(str.encode, genes)).hex()[:32]}"


def _genes_in(file: Path) -> list[str] | None:
    """The genes that a file is called by, if they are in it: whoever was killed in writing it left a part."""
    if not file.exists():
        return None
    genes = file.read_text(encoding="ascii").split("\n")
    return genes if _file_of(genes) == file.name else None


def _by_name(counts: Counts | HeldCounts, genes: Sequence[str]) -> Counts | HeldCounts:
    """Counts ``(samples, genes)`` with the genes in order of their names; no copy of them is made."""
    order = np.argsort(np.array(genes), kind="stable")
    return counts if np.array_equal(order, np.arange(order.size)) else HeldCounts(Chosen.of(counts.T, order))


@dataclass(frozen=True)
class Subject:
    """What one fit is about, as far as this site's own data goes."""

    data: str
    """Digest of all counts of the site's file with their gene names, whichever of them the fit is about."""
    samples: tuple[str, ...]
    """A digest of each sample's counts in that file."""
    genes: tuple[str, ...]
    """A digest of each agreed gene's name."""
    places: Places
    """Where the agreed genes stand among those of the file, by name, ``(agreed genes,)``."""
    layer: str = ""
    """Where the counts stand in the file."""
    names: tuple[str, ...] = ()
    """A digest of each sample's name in the file."""
    marks: tuple[str, ...] = ()
    """By what each sample is known where the file has other genes."""
    config: str = ""
    """Digest of the fit's configuration, its design among it."""

    def as_now(self, entry: Mapping[str, Any]) -> list[str]:
        """The samples of an earlier fit as they are called in this one, as far as it has them."""
        before = dict(zip(entry["samples"], entry.get("marks", ()), strict=False))
        found = same_samples(before, dict(zip(self.samples, self.marks, strict=False)))
        return [found.get(sample, sample) for sample in entry["samples"]]

    @classmethod
    def of(
        cls,
        counts: Counts | HeldCounts,
        genes: Sequence[str],
        agreed: Sequence[str],
        *,
        layer: str = "",
        names: Sequence[str] = (),
        config: str = "",
    ) -> Subject:
        """The subject of a fit over some ``agreed`` genes of a file's layer with counts ``(samples, genes)``.

        Samples are known by all their counts: by those of the agreed genes, a fit of one gene fewer, which whoever
        leads it may choose, would be about other samples. They are read in the order of the genes' names: in that of
        the file, a file sorted otherwise would be other data.
        """
        rows = sample_digests(_by_name(counts, genes), b"secirls sample v1")
        data = sha256(b"secirls data v1", *sorted(rows), *sorted(map(_gene, genes)))
        samples, known = (row.hex()[:32] for row in rows), (_gene(gene).hex()[:16] for gene in agreed)
        named = tuple(sha256(b"secirls sample name v1", name.encode()).hex()[:16] for name in names)
        marks = tuple(sketches(counts, genes))
        return cls(data.hex(), tuple(samples), tuple(known), places_of(agreed, genes), layer, named, marks, config)


class Memory:
    """One site's folder: a file of questions per subject, and one of fits."""

    def __init__(self, site: PartyId, folder: Path, subject: str) -> None:
        """Take where the site's files lie, and what names the questions' subject. Nothing is written yet."""
        self._site = site
        self._folder = folder
        self._path = self._file_of(subject, ".jsonl")
        self._enter: Callable[[], None] = lambda: None
        self._enter_again: Callable[[tuple[PartyId, ...]], None] = lambda _: None
        self.told = self._file_of(subject, "-told.npz")
        """Where a `Budget` of the same subject is kept."""
        self.entered = self._file_of(subject, ENTERED)
        """Where columns are with which fits of it were entered, for `SummedColumns`."""
        self.summed = self._file_of(subject, SUMMED)
        """Where those are that its counts were summed with."""

    def _file_of(self, subject: str, what: str) -> Path:
        # The name may come from outside, and must not say where on this disk the file is.
        name = sha256(b"secirls fit v1", self._site.encode(), subject.encode()).hex()[:32]
        return self._folder / f"{name}{what}"

    def of_other_data(self, subject: Subject, what: str) -> list[tuple[Path, tuple[str, ...]]]:
        """Where columns are kept of fits about other data with some of these samples, and what names each row there.

        Raises `InputError` where that can't be read.
        """
        with self._entries(self._folder / FITS) as (told, _):
            others = {entry["data"]: entry for entry in _in_full(told) if entry["data"] != subject.data}
            rows = {
                data: tuple(now for _, now in sorted(zip(entry["samples"], subject.as_now(entry), strict=True)))
                for data, entry in others.items()
            }
        return [
            (self._file_of(data, what), samples)
            for data, samples in rows.items()
            if not set(samples).isdisjoint(subject.samples)
        ]

    def admit(self, question: bytes, cohort: tuple[PartyId, ...]) -> None:
        """Note that a question, by digest, is about to be answered for a cohort.

        Raises `RefusalError` where it was answered for another, or helped to open over others; `InputError` where
        nothing can be kept: then the question must not be answered.
        """
        name = question.hex()
        with self._entries(self._path) as (told, append):
            before = [tuple(entry["cohort"]) for entry in told if entry.get("question") == name]
            opened = [tuple(entry["opened"]) for entry in told if entry.get("of") == name]
            if not before:
                append({"question": name, "cohort": cohort})
        if before and before[-1] != cohort and cohort not in opened:
            raise RefusalError(
                f"site {self._site!r}: one answer per question: it answered this one for "
                f"{', '.join(before[-1])} before, and not for {', '.join(cohort)}"
            )
        if opened and cohort != opened[-1]:
            raise RefusalError(
                f"site {self._site!r}: one sum per question: it helped to open this one over "
                f"{', '.join(opened[-1])} before, and not over {', '.join(cohort)}"
            )

    def opening(self, question: bytes, present: tuple[PartyId, ...]) -> None:
        """Note that the sum of answers to a question is about to be opened over those present.

        Raises `RefusalError` where it was over others before, `InputError` where nothing can be kept.
        """
        name = question.hex()
        with self._entries(self._path) as (told, append):
            before = [tuple(entry["opened"]) for entry in told if entry.get("of") == name]
            if not before:
                append({"of": name, "opened": present})
        if before and before[-1] != present:
            raise RefusalError(
                f"site {self._site!r}: one sum per question: it helped to open this one over "
                f"{', '.join(before[-1])} before, and not over {', '.join(present)}"
            )

    def keep_total(self, name: bytes, digest: bytes) -> None:
        """Note a total that was verified, for a session that goes on."""
        entry = {"total": name.hex(), "is": digest.hex()}
        with self._entries(self._path) as (told, append):
            if entry not in told:
                append(entry)

    def knows_total(self, name: bytes, digest: bytes) -> bool:
        """Whether this very total was verified before."""
        with self._entries(self._path) as (told, _):
            return {"total": name.hex(), "is": digest.hex()} in told

    def enter_fit(
        self, run: str, sites: tuple[PartyId, ...], subject: Subject, policy: Policy, *, shrinks: bool
    ) -> None:
        """Look whether the site may take part in a fit, and note with its first answer that it does.

        A session that ends before the site answers is no fit. A fit that ``shrinks`` may go on over fewer sites under
        its name, with the same data, genes and configuration: with others the same questions would be new ones, and
        their sums over fewer sites differ by one site's own.

        Raises `RefusalError` where the policy does not allow another fit beside those before.
        """
        genes = self._folder / _file_of(subject.genes)

        def enter(left: tuple[PartyId, ...], *, note: bool, shrinks: bool) -> None:
            fit = {"run": run, "sites": list(left), "data": subject.data, "genes": genes.name, "config": subject.config}
            with self._entries(self._folder / FITS) as (told, append):
                fits = _in_full(told)
                if any({name: entry.get(name) for name in fit} == fit for entry in fits):
                    return
                self._look(fits, fit, subject, policy, shrinks=shrinks)
                if note:
                    self._note(fits, fit, subject, append)

        enter(sites, note=False, shrinks=shrinks)
        self._enter = lambda: enter(sites, note=True, shrinks=shrinks)
        self._enter_again = lambda left: enter(left, note=True, shrinks=True)

    def _look(
        self, fits: list[dict[str, Any]], this: Mapping[str, Any], subject: Subject, policy: Policy, *, shrinks: bool
    ) -> None:
        """Raise `RefusalError` where the policy does not allow a fit beside those that were noted."""
        near, sites = 0, tuple(this["sites"])
        is_near = cache(lambda place: self._is_near(fits[place], sites, subject, policy.min_difference))
        for entry, alike in zip(fits, _first_alike(fits), strict=True):
            same = all(entry.get(name) == this[name] for name in ("run", "data", "genes", "config"))
            goes_on = shrinks and same and set(sites) <= set(entry["sites"])
            near += not goes_on and is_near(alike)
        if policy.across_fits == "refuse" and near >= (policy.max_fits or 1):
            raise self._another_fit()

    def _note(
        self,
        fits: list[dict[str, Any]],
        this: Mapping[str, Any],
        subject: Subject,
        append: Callable[[dict[str, Any]], None],
    ) -> None:
        """Note a fit: what is known of its samples, unless that was noted with one before, and its genes in a file."""
        genes = self._folder / this["genes"]
        if _genes_in(genes) is None:
            replace_file(genes, memoryview("\n".join(subject.genes).encode("ascii")))
        known = {name: _as_read(getattr(subject, name)) for name in KNOWN}
        before = (place for place, fit in enumerate(fits) if {name: fit.get(name) for name in KNOWN} == known)
        like = next(before, None)
        noted = {NOTED: datetime.now(UTC).strftime(MOMENT)}
        append({**this, **noted, **(known if like is None else {"like": like})})

    def answers(self) -> None:
        """Note, before the first answer, that the site takes part in the fit that was looked at.

        Raises `RefusalError` where another fit was noted in between, `InputError` where nothing can be kept.
        """
        self._enter()
        self._enter = lambda: None

    def goes_on_over(self, sites: tuple[PartyId, ...]) -> None:
        """Note that the fit that was entered goes on without sites: to any other it is one over those left from now on.

        Whose sums differ from another fit's by a site that both began with would tell that site's own. Raises
        `RefusalError` where there is such a fit already.
        """
        self._enter_again(sites)

    def _another_fit(self) -> RefusalError:
        return RefusalError(
            f"site {self._site!r}: its policy refuses: across_fits is refuse (this data was in another fit, "
            "over other sites, over nearly the same samples or genes, or in another layer)"
        )

    def _is_near(self, entry: Mapping[str, Any], sites: tuple[PartyId, ...], subject: Subject, least: int) -> bool:
        """Whether differences between two fits could tell of single sites, samples or genes.

        Samples are known by their counts, so those of another layer are others to this memory, however little they
        differ. So fits in two layers of one file are always near each other where samples have the same names.
        """
        other_layer = entry.get("layer", subject.layer) != subject.layer and entry["data"] != subject.data
        if other_layer and set(entry["names"]) & set(subject.names):
            return True
        before = set(subject.as_now(entry))
        samples = len(before ^ set(subject.samples))
        if before.isdisjoint(subject.samples):
            return False
        kept = _genes_in(self._folder / entry["genes"])
        if kept is None:  # then nobody knows by how many genes they differ
            return True
        genes = len(set(kept) ^ set(subject.genes))
        return entry["sites"] != list(sites) or 0 < samples < least or 0 < genes < least

    @contextmanager
    def _entries(self, path: Path) -> Iterator[tuple[list[dict[str, Any]], Any]]:
        """What stands in a file, and how to append to it; no other process reads or writes meanwhile."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock"), mode=0o600), _opened(path) as file:
                yield _whole_lines(file.readall()), lambda entry: _append(file.fileno(), path, entry)
        except InputError:
            raise
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise unkept(self._site, "answers", error) from None


def noted_fits(folder: Path) -> list[dict[str, Any]]:
    """The fits that a folder's memory notes, for whoever only looks: nothing is written or held.

    Raises `LookupError`, `ValueError` or `TypeError` where that is no record of fits, `OSError` where none can be read.
    """
    return _in_full(_whole_lines((folder / FITS).read_bytes()))


def _opened(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+")


def _whole_lines(data: bytes) -> list[dict[str, Any]]:
    """What stands in whole lines; what a line that was cut off by a crash notes never happened."""
    lines = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n") and line.strip()]
    told: list[dict[str, Any]] = json.loads(b"[" + b",".join(lines) + b"]")  # each by itself takes four times as long
    if len(told) != len(lines):
        raise ValueError("lines of several notes")
    return told


def _as_read(value: str | tuple[str, ...]) -> str | list[str]:
    """A value as it is when it is read again."""
    return value if isinstance(value, str) else list(value)


def _in_full(told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fits as they were noted, with what was noted of their samples where that was with an earlier one."""
    fits: list[dict[str, Any]] = []
    for entry in told:
        known = {name: fits[entry["like"]][name] for name in KNOWN} if "like" in entry else {}
        fits.append({**known, **entry})
    return fits


def _first_alike(fits: Sequence[dict[str, Any]]) -> list[int]:
    """For each fit the first that was about the same samples and genes over the same sites."""
    first: dict[tuple[Any, ...], int] = {}
    about = ((fit.get("like", place), fit["data"], fit["genes"], *fit["sites"]) for place, fit in enumerate(fits))
    return [first.setdefault(one, place) for place, one in enumerate(about)]


def _append(descriptor: int, path: Path, entry: Mapping[str, Any]) -> None:
    line = json.dumps(entry).encode() + b"\n"
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        kept = os.pread(descriptor, size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, kept)
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # it was written in part
    os.fsync(descriptor)
    settle(path.parent)
