"""A disk that fills up at a site, or under a transcript, while a fit goes on: nothing that was done is lost."""

import errno
import os

import pytest

from secirls import fitting
from secirls.aggregator import transcript as room
from secirls.aggregator.audit import audit
from secirls.aggregator.checkpoint import FOLDER, Checkpoint, holds_a_fit
from secirls.aggregator.transcript import Transcript, ending
from secirls.agreement.manifest import Manifest
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.site.guarding import budget, memory
from secirls.whole_file import UnwritableError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ROUND = 4


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Three files of six simulated samples over 30 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=3, samples=18, genes=30, seed=3)
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def remembering(files, tmp_path):
    """An order of a fit whose sites write down what they answer."""
    (tmp_path / "rules.toml").write_text('memory = "memory"\n')
    return Manifest.read(
        "test",
        sites=files,
        engine="local",
        policies={"site2": str(tmp_path / "rules.toml")},
        fit={"design": "~ condition", "preset": "irls", "kernel": "numpy"},
    )


@pytest.fixture(scope="session")
def undisturbed(files):
    order = {"design": "~ condition", "preset": "irls", "kernel": "numpy"}
    return fitting.fit(files, engine="local", **order).table


def fill_site(monkeypatch):
    """The disk of site2 is full when it is to note what it answers in a round."""
    append, calls = memory._append, []

    def filling(descriptor, path, entry):
        calls.append(entry)
        if len([told for told in calls if "question" in told]) > ROUND:
            raise FULL
        append(descriptor, path, entry)

    monkeypatch.setattr(memory, "_append", filling)


def test_a_sites_disk_that_fills_up_loses_no_round(remembering, tmp_path, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        fill_site(patch)
        with pytest.raises(UnwritableError) as told:
            fitting.fit_manifest(remembering, tmp_path / "out", transcript=tmp_path / "t")
    assert "site 'site2': can't keep what it answers (No space left on device)" in str(told.value)
    assert len(Checkpoint.open(tmp_path / "out" / FOLDER)[2].records) >= ROUND
    assert fitting.resume(tmp_path / "out").table.equals(undisturbed)
    done = audit(tmp_path / "t")
    assert (done.findings, done.ended) == ([], "with a result")


def test_taken_for_a_mistake_of_the_fits_it_lost_all_of_them(remembering, tmp_path, monkeypatch):
    """The broken twin."""
    fill_site(monkeypatch)
    monkeypatch.setattr(memory, "unkept", lambda site, *_: InputError(f"site {site!r}: can't keep what it answers"))
    with pytest.raises(InputError):
        fitting.fit_manifest(remembering, tmp_path / "out")
    assert not holds_a_fit(tmp_path / "out")


def test_no_draft_is_left_where_a_memory_finds_no_room(tmp_path, monkeypatch):
    def full(_):
        raise FULL

    monkeypatch.setattr(budget.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        budget.replace_file(tmp_path / "told.npz", memoryview(b"told"))
    assert not list(tmp_path.iterdir())


def fill_transcript(monkeypatch):
    """There is no room for one message of the eighth round, and there is for the few words after it."""
    write, messages = room._write, []

    def filling(path, data, how):
        messages.append(path)
        if path.name == room.DRAFT and len(messages) == 120:
            write(path, data[:10], how)
            raise FULL
        write(path, data, how)

    monkeypatch.setattr(room, "_write", filling)


def interrupted(remembering, folder, monkeypatch):
    """What an audit says of a fit whose transcript found no room in the middle, and which went on."""
    with monkeypatch.context() as patch:
        fill_transcript(patch)
        with pytest.raises(UnwritableError, match="No space left on device"):
            fitting.fit_manifest(remembering, folder / "out", transcript=folder / "t")
    assert holds_a_fit(folder / "out")
    assert not (folder / "t" / room.DRAFT).exists()
    result = fitting.resume(folder / "out")
    return result, audit(folder / "t")


@pytest.mark.slow
def test_a_transcript_that_found_no_room_is_audited_to_its_end(remembering, tmp_path, undisturbed, monkeypatch):
    result, done = interrupted(remembering, tmp_path, monkeypatch)
    assert result.table.equals(undisturbed)
    assert (done.findings, done.ended) == ([], "with a result")
    assert done.rounds == len(result.report["rounds"])


@pytest.mark.slow
def test_with_a_closing_entry_where_the_room_ended_an_honest_fit_is_found_guilty(remembering, tmp_path, monkeypatch):
    """The broken twin."""

    def close(self, end):
        self.write("ended", {**ending(end), "entries": self._entries})

    monkeypatch.setattr(Transcript, "close", close)
    _, done = interrupted(remembering, tmp_path, monkeypatch)
    assert any("says 'ended' where" in found for found in done.findings)
