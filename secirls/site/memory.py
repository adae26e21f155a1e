"""What a site has answered, on its own disk: within one fit no question is answered for two cohorts.

Promises: a line is on the disk before its answer leaves, so that a later process knows of it; nothing in it is
secret: digests of questions, and names of sites. Refuses to know: questions, samples, and whether two fits are alike.
"""

from __future__ import annotations

import json
import os
from io import FileIO
from pathlib import Path

from filelock import FileLock

from protocols.secure_sum import PartyId, sha256
from secirls.input_error import complain
from secirls.site.policy import RefusalError


class Memory:
    """One site's file for one fit; the fit keeps its name when it goes on in a later session."""

    def __init__(self, site: PartyId, folder: Path, run: str) -> None:
        """Take where the site's files lie. Nothing is read or written before the first question."""
        self._site = site
        # The name comes from outside and must not say where on this disk the file is.
        self._path = folder / f"{sha256(b'secirls fit v1', site.encode(), run.encode()).hex()[:32]}.jsonl"

    def admit(self, question: bytes, cohort: tuple[PartyId, ...]) -> None:
        """Note that a question, by digest, is about to be answered for a cohort.

        Raises `RefusalError` where it was answered for another, `InputError` where nothing can be kept: then the
        question must not be answered.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_suffix(".lock"), mode=0o600), self._opened() as file:
                before = self._answered(file.readall()).get(question.hex())
                if before is None:
                    self._append(file.fileno(), question, cohort)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise complain(
                f"can't keep what it answers ({type(error).__name__}): its policy may name a folder as memory",
                site=self._site,
            ) from None
        if before is not None and before != cohort:
            raise RefusalError(
                f"site {self._site!r}: one answer per question: in this fit it answered this one for "
                f"{', '.join(before)} before, and not for {', '.join(cohort)}"
            )

    def _opened(self) -> FileIO:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        return FileIO(descriptor, "r+")

    @staticmethod
    def _answered(data: bytes) -> dict[str, tuple[PartyId, ...]]:
        """What stands in whole lines; a line that was cut off by a crash was never followed by an answer."""
        told = [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n") and line.strip()]
        return {entry["question"]: tuple(entry["cohort"]) for entry in told}

    def _append(self, descriptor: int, question: bytes, cohort: tuple[PartyId, ...]) -> None:
        line = json.dumps({"question": question.hex(), "cohort": cohort}).encode() + b"\n"
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            kept = os.pread(descriptor, size, 0).rfind(b"\n") + 1
            os.ftruncate(descriptor, kept)
        if os.write(descriptor, line) != len(line):
            raise OSError("the line was written in part")
        os.fsync(descriptor)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def folder_of(source: str | None, policy_file: str | None, named: str | None) -> Path | None:
    """Where a site's memory lies: where its policy says, or beside its file; nowhere for data in memory."""
    if named is not None and policy_file is not None:
        return Path(policy_file).parent / named
    return None if source is None else Path(f"{source}.answered")
