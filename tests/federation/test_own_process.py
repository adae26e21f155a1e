"""An actor's process gives back what it has outgrown: freed memory, and pages that it shares with others."""

import subprocess
import sys
from pathlib import Path

import pytest

from secirls.carriers import actors, own_process
from secirls.site.desk import Desk

ROOT = Path(__file__).parents[2]

GROW = """
import mmap, sys
import numpy as np
from secirls.carriers.own_process import Growth, keep_freed_memory, resident_bytes
what, megabytes, limited = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "limited"
if not keep_freed_memory():
    raise SystemExit("no glibc")
np.ones(1)
growth, before = Growth(), resident_bytes()
if what == "freed":
    arrays = [np.ones(125_000 if i % 2 else 100) for i in range(2 * megabytes)]  # what stays lies between what goes
    del arrays[1::2]
else:
    arrays = mmap.mmap(-1, megabytes << 20)
    for _ in range(megabytes):
        arrays.write(b"secirls." * (1 << 17))
if limited:
    growth.limit()
print((resident_bytes() - before) >> 20)
if what == "freed":
    assert all((array == 1).all() for array in arrays)
else:
    assert arrays[:] == b"secirls." * (megabytes << 17)
"""


def grown(what, megabytes, how):
    """By how many MiB a process is larger after it freed, or shares, so many."""
    run = [sys.executable, "-c", GROW, what, str(megabytes), how]
    ran = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT)
    if "no glibc" in ran.stderr:
        pytest.skip("the C library has no mallopt")
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="how large a process is stands in /proc")
@pytest.mark.parametrize("what", ["freed", "shared"])
def test_a_process_gives_back_what_it_has_outgrown(what):
    """Beside its twin, which keeps all of it; and a little stays, for the next array."""
    assert grown(what, 100, "limited") < 10
    assert grown(what, 100, "kept") > 90
    assert grown(what, 40, "limited") > 30


@pytest.mark.parametrize(
    ("sizes", "given"),
    [
        ([0, 60], []),
        ([0, 100, 40], ["shared"]),  # that was enough
        ([0, 100, 90, 20], ["shared", "freed"]),
        ([0, 100, 90, 20, 95], ["shared", "freed"]),  # as large as it was before, though it needs less
        ([0, 100, 90, 80, 140], ["shared", "freed"]),  # and larger where it needs more
        ([0, 100, 90, 80, 150, 150, 70, 145], ["shared", "freed"] * 2),
    ],
)
def test_as_large_as_it_was_a_process_may_be_again(sizes, given, monkeypatch):
    left, told = list(sizes), []
    monkeypatch.setattr(own_process, "GROWTH_BYTES", 64)
    monkeypatch.setattr(own_process, "resident_bytes", lambda: left.pop(0))
    monkeypatch.setattr(own_process, "let_go_of_shared_pages", lambda: told.append("shared"))
    monkeypatch.setattr(own_process, "give_back_freed_memory", lambda: told.append("freed"))
    growth = own_process.Growth()
    while left:
        growth.limit()
    assert told == given


def test_a_party_looks_at_its_size_before_it_is_asked_anything(monkeypatch):
    told = []
    monkeypatch.setattr(own_process.Growth, "limit", lambda self: told.append("limit"))
    monkeypatch.setattr(Desk, "ask", lambda self, verb: told.append(verb))
    monkeypatch.setattr(actors, "keep_freed_memory", lambda: None)
    actor = actors.PartyActor(actors.packed(object))
    actor.ask("survey")
    actor.ask("join")
    assert told == ["limit", "survey", "limit", "join"]
