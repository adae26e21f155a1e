"""What a site's memory holds, for its own staff: a screen, and not a byte of it changed."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from protocols.secure_sum import sha256
from secirls.cli.home import own_memory
from secirls.site.grounds.ground import template
from secirls.site.grounds.policy import Policy
from secirls.site.guarding import memory as kept
from secirls.site.guarding.budget import Budget, read_told
from secirls.site.guarding.memory import FITS, Memory, Subject, noted_fits

GENES = 6
ROOT = Path(__file__).parents[2]


def subject(data, samples=12):
    """A data set of its own, unlike any other."""
    named = tuple(sha256(f"{data} {number}".encode()).hex()[:32] for number in range(samples))
    return Subject(sha256(data.encode()).hex(), named, ("g",), np.arange(1), layer="counts")


@pytest.fixture
def site(tmp_path):
    """A site of the name berlin on its own ground."""
    (tmp_path / "site.toml").write_text(template("berlin", "berlin.h5ad", "berlin.key", "roster.json"))
    return tmp_path


def fits(site, data, questions, *, runs=1, sites=("berlin", "lyon", "turin")):
    """Fits about a data set, with so many questions about its first gene and one about all."""
    about = subject(data)
    for run in range(runs):
        memory = Memory("berlin", site / "memory", about.data)
        memory.enter_fit(f"{data}-{run}", sites, about, Policy(), shrinks=False)
        memory.answers()
    budget = Budget("berlin", GENES, file=memory.told)
    first = np.arange(GENES) == 0
    for number in range(questions):
        genes = first if number else np.ones(GENES, dtype=bool)
        budget.spend(sha256(bytes([number])), sites, genes, 100, lambda *_: None)
    budget.take_columns([bytes(32), b"1" * 32], lambda _: None)
    return memory.told


def state(folder):
    """All that a look may not change."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_shows_what_is_used_and_what_is_left(site, run):
    fits(site, "spring", 20, runs=2)
    code, shown, error = run("memory", site / "site.toml")
    assert (code, error) == (0, "")
    rows = {line.split()[0]: line.split()[1:4] for line in shown.splitlines() if line.startswith("  max_")}
    assert rows == {
        "max_rounds": ["20", "1,000", "980"],
        "max_values_per_gene": ["2,000", "5,000", "3,000"],
        "max_params_per_sample": ["2", "-", "-"],
        "max_directions_per_sample": ["0", "-", "-"],
    }
    assert "half of 6 genes 100 or less" in shown
    assert re.search(
        r"data \w{8}, 12 samples, layer counts, 2 fits since \d{4}-\d\d-\d\d \d\d:\d\d \(UTC\)$", shown, re.MULTILINE
    )
    assert [line.split()[-4] for line in shown.splitlines() if "berlin, lyon, turin" in line] == [
        "spring-0",
        "spring-1",
    ]


def test_what_is_used_up_has_nothing_left_and_what_is_not_bounded_any(site, run):
    fits(site, "spring", 20)
    with (site / "site.toml").open("a") as ground:
        ground.write("max_rounds = 7\n")
    assert re.search(r"max_rounds +20 +7 +0 ", run("memory", site / "site.toml")[1])
    assert own_memory._left(20, None) == ("20", "any", "any")


def look_and_hold(folder):
    """A twin that reads as a fit does."""
    with Memory("berlin", folder, "")._entries(folder / FITS) as (told, _):
        return kept._in_full(told)


@pytest.mark.parametrize("twin", [False, True])
def test_a_look_leaves_every_file_as_it_was(site, run, monkeypatch, twin):
    fits(site, "spring", 2)
    for lock in (site / "memory").glob("*.lock"):
        lock.unlink()
    if twin:
        monkeypatch.setattr(kept, "noted_fits", look_and_hold)
    before = state(site)
    assert run("memory", site / "site.toml")[0] == 0
    assert (state(site) == before) != twin


@pytest.mark.parametrize("notes", [1, 12])
def test_it_is_a_screen_however_many_fits_and_data_sets_there_are(site, run, notes):
    far = tuple(f"{name}-{number:02}" for name in ("berlin", "lyon") for number in range(20))
    for number in range(notes):
        fits(site, f"data of the year {number}", 3, runs=2, sites=far)
    lines = run("memory", site / "site.toml")[1].splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith(("not told", "Memory of")))
    assert sum(len(textwrap.wrap(line, 80)) for line in lines if not line.startswith("Memory of")) < 23
    assert sum("40 sites" in line for line in lines) == min(2 * notes, own_memory.MOST_FITS)
    assert (f"and {notes - 3} data sets before" in lines) == (notes > 3)


def test_fits_of_an_earlier_release_have_no_date(site, run):
    fits(site, "spring", 2)
    file = site / "memory" / FITS
    file.write_text(re.sub(r'"noted": "[^"]*", ', "", file.read_text()))
    assert "noted" not in noted_fits(site / "memory")[0]
    shown = run("memory", site / "site.toml")[1]
    assert "  not dated  " in shown
    assert "1 fit without a date" in shown


def test_a_fit_that_was_looked_at_and_not_answered_is_none(site, run):
    memory = Memory("berlin", site / "memory", "x")
    memory.enter_fit("fit-1", ("berlin", "lyon", "turin"), subject("spring"), Policy(), shrinks=False)
    code, shown, _ = run("memory", site / "site.toml")
    assert code == 0
    assert shown.splitlines()[1:] == ["no fit is noted: it answered nothing so far"]


def damaged(file, data):
    file.write_bytes(data)


SPOILT = {
    "nothing": lambda site, told: [path.unlink() for path in (site / "memory").iterdir()],
    "no json": lambda site, told: damaged(site / "memory" / FITS, b"{\n"),
    "a list": lambda site, told: damaged(site / "memory" / FITS, b"[]\n"),
    "another's fields": lambda site, told: damaged(site / "memory" / FITS, b'{"fit": 1}\n'),
    "another's kinds": lambda site, told: damaged(
        site / "memory" / FITS, b'{"run": 1, "sites": ["a"], "data": "d", "samples": []}\n'
    ),
    "a folder": lambda site, told: ((site / "memory" / FITS).unlink(), (site / "memory" / FITS).mkdir()),
    "no archive": lambda site, told: damaged(told, b"PK\3\4"),
    "half an archive": lambda site, told: damaged(told, told.read_bytes()[:-30]),
    "another archive": lambda site, told: np.savez(told, other=np.zeros(3)),
    "another's numbers": lambda site, told: np.savez(told, values=np.zeros(3), answered=np.zeros((0, 2, 32))),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_record_that_is_none_ends_in_a_sentence(site, run, spoil):
    told = fits(site, "spring", 2)
    SPOILT[spoil](site, told)
    before = state(site)
    code, shown, error = run("memory", site / "site.toml")
    assert (code, shown) == (2, "")
    assert error.count("\n") == 1
    assert f"file '{site / 'memory'}" in error
    assert ("no fit was begun here" if spoil == "nothing" else "it is damaged, or of another release") in error
    assert state(site) == before


def test_no_byte_of_a_budget_that_is_turned_ends_otherwise(site, run):
    told = fits(site, "spring", 2)
    whole = told.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.choice(len(whole), 150, replace=False):
        told.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.integers(8))]) + whole[place + 1 :])
        code, _, error = run("memory", site / "site.toml")
        assert code in (0, 2)
        assert "Traceback" not in error


def test_a_budget_that_was_taken_away_is_told(site, run):
    fits(site, "spring", 2).unlink()
    code, shown, _ = run("memory", site / "site.toml")
    assert code == 0
    assert own_memory.NOTHING in shown.splitlines()


def test_it_needs_no_ray_and_no_data(site):
    fits(site, "spring", 2)
    code = (
        "import sys; sys.modules['ray'] = None; sys.argv[0] = 'secirls'; from secirls.cli.commands import main; main()"
    )
    words = [sys.executable, "-c", code, "memory", str(site / "site.toml")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert "max_rounds" in done.stdout


def test_numbers_that_are_shown_are_those_that_are_held(site, run):
    """In the file itself: the gene that was told most."""
    told = read_told(fits(site, "spring", 20))
    assert (len(told.answered), int(told.values.max()), len(told.columns)) == (20, 2000, 2)
