"""Folders that somebody else made, or may write in: nothing is read, overwritten or deleted that he chose.

A transcript is audited because its maker is not trusted, a fit's folder travels by mail, and a folder for results may
be one that several people write in. The twins look at no names.
"""

import json
import re
import tracemalloc

import numpy as np
import pytest

from secirls import whole_file
from secirls.aggregator import checkpoint, transcript
from secirls.aggregator.checkpoint import FOLDER, HEAD, claimed, discard
from secirls.input_error import InputError
from secirls.inputs.files import kinds_of_file
from secirls.outputs.free_folder import KEPT
from secirls.outputs.tables import kept_fit
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.site.guarding import budget
from secirls.site.guarding.budget import replace_file
from secirls.whole_file import write_whole

MIB = 1 << 20
OWN = b"somebody's own"


@pytest.fixture
def treasure(tmp_path):
    """A file of the victim's, elsewhere."""
    file = tmp_path / "home" / "thesis.txt"
    file.parent.mkdir()
    file.write_bytes(OWN)
    return file


# Drafts.


def planted(folder, treasure, name):
    """A link where the next draft will be."""
    folder.mkdir(exist_ok=True)
    (folder / name).symlink_to(treasure)
    return folder


WRITERS = {
    "results": (write_whole, "results.csv", ".results.csv.0a1b2c3d.draft"),
    "memory": (lambda path, data: replace_file(path, memoryview(data)), "told.npz", "told.draft"),
}


def written(tmp_path, treasure, who):
    """Write a file where a link lies in wait, its name guessed; gives what it says, and what the victim's says then."""
    write, name, draft = WRITERS[who]
    folder = planted(tmp_path / "shared", treasure, draft)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_file.secrets, "token_hex", lambda _: "0a1b2c3d")
        write(folder / name, b"results")
    return (folder / name).read_bytes(), treasure.read_bytes()


@pytest.mark.parametrize("who", WRITERS)
def test_a_link_in_the_place_of_a_draft_is_not_followed(tmp_path, treasure, who):
    assert written(tmp_path, treasure, who) == (b"results", OWN)
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [WRITERS[who][1]]
    assert not (tmp_path / "shared" / WRITERS[who][1]).is_symlink()


@pytest.mark.parametrize("who", WRITERS)
def test_the_twin_that_opens_what_is_there_overwrites_another_file(tmp_path, treasure, who, monkeypatch):
    for room in (whole_file, budget):
        monkeypatch.setattr(room, "new_file", lambda path, *_: path.open("wb"))
    assert written(tmp_path, treasure, who)[1] == b"results"


# Checkpoints.


def fitted_into(out):
    """A command that was given a folder, and ended in a mistake before its fit began; then one that began."""
    with claimed(out):
        pass
    with claimed(out):
        (out / FOLDER / HEAD).write_text("{}")
        (out / FOLDER / "round-00000.npz").write_bytes(b"")
        checkpoint._empty(out / FOLDER)
        (out / FOLDER / HEAD).write_text("{}")
    discard(out)


@pytest.mark.parametrize("linked", [False, True])
def test_what_a_folder_called_checkpoint_holds_besides_is_left(tmp_path, treasure, linked):
    out = tmp_path / "model"
    out.mkdir()
    if linked:
        (out / FOLDER).symlink_to(treasure.parent)
    else:
        (out / FOLDER).mkdir()
        treasure = treasure.rename(out / FOLDER / treasure.name)
    fitted_into(out)
    assert treasure.read_bytes() == OWN
    assert [path.name for path in treasure.parent.iterdir()] == [treasure.name]


def test_the_twin_that_takes_all_for_its_own_deletes_it(tmp_path, treasure, monkeypatch):
    monkeypatch.setattr(checkpoint, "_OURS", re.compile(".*"))
    out = tmp_path / "model"
    out.mkdir()
    (out / FOLDER).symlink_to(treasure.parent)
    fitted_into(out)
    assert not treasure.exists()


# Transcripts.


@pytest.fixture
def made_up(tmp_path):
    folder = tmp_path / "transcript"
    (folder / transcript.MESSAGES).mkdir(parents=True)
    return folder


@pytest.fixture
def read(monkeypatch):
    """Which files are read whole."""
    found, before = [], type(transcript.Path()).read_bytes

    def read_bytes(path):
        found.append(path.resolve())
        return before(path)

    monkeypatch.setattr(type(transcript.Path()), "read_bytes", read_bytes)
    return found


def opened_of(made_up, name):
    with pytest.raises(InputError) as refused:
        transcript.message(made_up, name)
    return str(refused.value)


def test_a_message_that_is_named_by_a_path_is_not_opened(made_up, treasure, read):
    for name in (str(treasure), "../../home/thesis.txt", "/dev/zero"):
        assert "names a message otherwise than by its digest" in opened_of(made_up, name)
    assert read == []


def test_a_link_in_place_of_a_message_is_not_opened_whatever_it_leads_to(made_up, treasure, read, monkeypatch):
    for name, target in (("0" * 64, "/dev/zero"), ("1" * 64, treasure)):
        (made_up / transcript.MESSAGES / name).symlink_to(target)
        assert "is no regular file" in opened_of(made_up, name)
    assert read == []
    monkeypatch.setattr(transcript, "kind_of", lambda path, **_: kinds_of_file.kind_of(path))  # follows links
    assert "was changed" in opened_of(made_up, "1" * 64)
    assert read == [treasure]


def test_the_twin_that_takes_any_name_opens_it(made_up, treasure, read, monkeypatch):
    monkeypatch.setattr(transcript, "_DIGEST", re.compile(".*"))
    assert "was changed" in opened_of(made_up, str(treasure))
    assert read == [treasure]


def test_entries_are_read_from_a_regular_file_alone(made_up):
    (made_up / transcript.LINES).symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is no regular file"):
        list(transcript.read(made_up))


# Kept fits.


@pytest.fixture
def swollen(tmp_path):
    """A kept fit of some kilobytes that is 128 MiB of zeros."""
    header = json.dumps({"format": kept_fit.FORMAT, "version": kept_fit.VERSION}).encode()
    zeros = {name: np.zeros((1 << 24) if name == "beta" else 0) for name in kept_fit._arrays()}
    np.savez_compressed(tmp_path / KEPT, header=np.frombuffer(header, dtype=np.uint8), **zeros)
    assert (tmp_path / KEPT).stat().st_size < MIB
    return tmp_path


def cost_of(folder):
    tracemalloc.start()
    with pytest.raises(InputError, match=r"is damaged, or no kept fit"):
        KeptFit.read(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_kept_fit_is_read_in_the_memory_that_it_takes_on_the_disk(swollen):
    assert cost_of(swollen) < 4 * MIB


def test_the_twin_that_reads_what_was_packed_takes_a_hundred_times_as_much(swollen, monkeypatch):
    monkeypatch.setattr(kept_fit, "stored", lambda data: data)
    assert cost_of(swollen) > 100 * MIB
