"""Fits that are begun under name after name cost a site's disk, and its next sessions, next to nothing."""

import json
from dataclasses import replace

import pytest

from secirls.site.guarding import memory
from secirls.site.guarding.memory import FITS

RUNS = 6


@pytest.fixture
def site(lay, lead):
    """One of four sites of a hundred samples each, as it begins fits."""
    grounds = lay(samples=400)
    room = lead.Room({name: grounds.place(name) for name in grounds.names}, lead.config(grounds, preset="irls"))
    return grounds, room.survey(), room.sites["site1"]


def kept(site):
    """What the site's memory of fits takes after it would have answered in each of some, in bytes."""
    grounds, room, joining = site
    sizes = []
    for run in range(RUNS):
        joining.survey()
        joining.join(replace(room.agreement, run=f"fit-{run}"))
        joining._guarded()._memory.answers()
        sizes.append((grounds.folder / "site1" / "memory" / FITS).stat().st_size)
    return sizes


def test_samples_are_noted_once_whatever_fits_are_called(site):
    first, *_, last = kept(site)
    assert first > 15_000
    assert last - first < RUNS * 400
    told = (site[0].folder / "site1" / "memory" / FITS).read_text().splitlines()
    assert [json.loads(line)["run"] for line in told] == [f"fit-{run}" for run in range(RUNS)]


def test_the_twin_that_notes_them_with_every_fit_takes_as_much_each_time(site, monkeypatch):
    monkeypatch.setattr(memory, "_as_read", lambda value: value if isinstance(value, str) else tuple(value))
    first, *_, last = kept(site)
    assert last > 0.95 * RUNS * first


def test_a_fit_that_was_noted_so_is_held_against_the_next(site):
    grounds, room, joining = site
    kept(site)
    fewer = room.agreement.sites[:3]
    told = replace(
        room.agreement,
        run="another",
        sites=fewer,
        said={name: room.agreement.said[name] for name in fewer},
        roster={name: room.agreement.roster[name] for name in fewer},
    )
    for cut in (0, 1):  # the fit whose line has all of it, and one whose line names that
        lines = (grounds.folder / "site1" / "memory" / FITS).read_text().splitlines()
        fits = [json.loads(line) for line in lines]
        fits[0]["sites"] = list(fewer) if cut else fits[0]["sites"]
        (grounds.folder / "site1" / "memory" / FITS).write_text("".join(json.dumps(fit) + "\n" for fit in fits))
        joining.survey()
        with pytest.raises(memory.RefusalError, match="across_fits is refuse"):
            joining.join(told)
