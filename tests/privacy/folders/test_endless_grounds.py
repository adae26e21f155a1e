"""Whoever starts a site names its ground, and is told that what has no end is none."""

import os
import threading

import pytest

from secirls.agreement.order import Place
from secirls.input_error import InputError
from secirls.inputs.files import text_file
from secirls.site.site import Site


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "site.toml"
    os.mkfifo(path)
    return path


def started(grounds, lead, ground):
    """What a site says that is started with this ground."""
    with pytest.raises(InputError) as told:
        Site(Place("site1", str(ground)), lead.config(grounds), own_process=False).survey()
    return str(told.value)


def test_a_ground_that_has_no_end_is_not_read(grounds, lead, pipe, tmp_path):
    device = tmp_path / "linked" / "site.toml"
    device.parent.mkdir()
    device.symlink_to("/dev/zero")
    for ground in (pipe, device):
        assert started(grounds, lead, ground) == f"site 'site1', file {str(ground)!r}: is not a regular file"


def test_nor_is_a_policy(grounds, lead, pipe):
    ground = grounds.folder / "site1" / "site.toml"
    ground.write_text(ground.read_text().replace("[policy]", "").replace("name =", f'policy = "{pipe}"\nname =', 1))
    assert started(grounds, lead, ground).endswith("site.toml': is not a regular file")


def test_the_twin_that_reads_any_waits_for_what_somebody_sends(grounds, lead, pipe, monkeypatch):
    monkeypatch.setattr(text_file, "_may_have_no_end", lambda _: False)
    sender = threading.Thread(target=pipe.write_text, args=('name = "mallory"\ndata = "x"\n',), daemon=True)
    sender.start()
    assert "is the ground of 'mallory'" in started(grounds, lead, pipe)
    sender.join(10.0)


def test_what_is_not_there_is_missing_as_before(grounds, lead, tmp_path):
    ground = tmp_path / "new" / "site.toml"
    assert started(grounds, lead, ground).endswith("is missing")
    ground.mkdir(parents=True)
    assert started(grounds, lead, ground).endswith("is a folder, and a file is wanted")
