"""A budget is the data's, not a session's: what was told in one is counted in the next, and after a kill.

The same question about the same samples gives the same numbers, and is counted once however often it is asked. The
twins are a site that forgets when a session ends, and one that counts every question anew.
"""

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from secirls import fitting
from secirls.aggregator.checkpoint import Checkpoint
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.manifest import Manifest
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.input_error import InputError
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import budget, guard
from secirls.site.guarding.budget import Budget, Told, places_of

ROOT = Path(__file__).parents[3]


def open_session(lead, grounds, run, **options):
    room = lead.room(grounds, run=run, **options).open()
    room.census()
    return room


def ask(room, *genes):
    return room.total(LogCountsQuery(room.asked(*genes)))["zeros"]


@pytest.fixture
def forgetful(monkeypatch):
    """A site whose budget ends with its session."""
    held = Budget.__init__
    monkeypatch.setattr(
        Budget, "__init__", lambda self, site, genes, places=None, file=None: held(self, site, genes, places)
    )


def sessions(lead, grounds):
    """A census and three questions, in two sessions under different names."""
    first = open_session(lead, grounds, "fit-1")
    ask(first, 0), ask(first, 1)
    second = open_session(lead, grounds, "fit-2")
    return ask(second, 2)


def test_rounds_are_counted_over_all_sessions(grounds, lead):
    grounds.rule("max_rounds = 3")
    with pytest.raises(RefusalError, match="max_rounds is 3"):
        sessions(lead, grounds)


def test_a_site_that_forgets_answers_in_every_session_anew(grounds, lead, forgetful):
    grounds.rule("max_rounds = 3")
    assert sessions(lead, grounds).size == 1


def same_gene(lead, grounds):
    """Numbers of one gene in two sessions: the census' four, and two of each question, all of them different."""
    for run, other in (("fit-1", 1), ("fit-2", 2)):
        room = open_session(lead, grounds, run)
        ask(room, 0, other)
        ask(room, 0)
    return ask(room, 0, 3)


def test_values_of_a_gene_are_counted_over_all_sessions(grounds, lead, monkeypatch):
    grounds.rule("max_values_per_gene = 9")
    with pytest.raises(RefusalError, match="max_values_per_gene is 9"):
        same_gene(lead, grounds)
    kept = next((grounds.folder / "site1" / "memory").glob("*-told.npz"))
    assert np.load(kept)["values"].max() <= 9


def test_a_site_that_forgets_tells_more_of_a_gene(grounds, lead, forgetful):
    grounds.rule("max_values_per_gene = 9")
    assert same_gene(lead, grounds).size == 2


def again(lead, grounds):
    """The same questions in three sessions."""
    for run in ("fit-1", "fit-2", "fit-3"):
        room = open_session(lead, grounds, run)
        told = ask(room, 0)
    return told


def test_a_question_that_is_asked_again_is_counted_once(grounds, lead):
    grounds.rule("max_rounds = 2")
    assert again(lead, grounds).size == 1


def test_the_twin_that_counts_every_question_anew_ends_the_same_fit(grounds, lead, monkeypatch):
    grounds.rule("max_rounds = 2")
    monkeypatch.setattr(Told, "knows", lambda *_: False)
    with pytest.raises(RefusalError, match="max_rounds is 2"):
        again(lead, grounds)


def other_numbers(lead, grounds, how):
    """The same bytes in two sessions, the second of another design, or after another question."""
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.insert(0, "half", ["x"] * 5 + ["y"] * 5))
    ask(open_session(lead, grounds, "fit-1"), 0)
    second = open_session(lead, grounds, "fit-2", design="~ half" if how == "design" else "~ condition")
    if how == "before":
        ask(second, 1)
    return ask(second, 0)


OTHER = pytest.mark.parametrize("how", ["design", "before"])


@OTHER
def test_the_same_bytes_are_another_question_where_the_numbers_would_be_others(grounds, lead, how):
    grounds.rule("max_rounds = 3")
    with pytest.raises(RefusalError, match="max_rounds is 3"):
        other_numbers(lead, grounds, how)


@OTHER
def test_a_site_that_knows_questions_by_their_bytes_alone_counts_too_little(grounds, lead, how, monkeypatch):
    grounds.rule("max_rounds = 3")
    monkeypatch.setattr(guard, "start_digest", lambda *_: b"")
    monkeypatch.setattr(guard, "chained", lambda state, question: question[-32:].rjust(32, b"."))
    assert other_numbers(lead, grounds, how).size == 1


# A fit that is killed, and goes on.

FIT = """
import os, signal, sys
from pathlib import Path
from secirls import fitting
from secirls.aggregator.checkpoint import Checkpoint
from secirls.agreement.manifest import Manifest

out, last = Path(sys.argv[1]), int(sys.argv[2])
keep = Checkpoint.keep

def keeping(self, record):
    if record.told.round == last:
        os.kill(os.getpid(), signal.SIGKILL)
    keep(self, record)

Checkpoint.keep = keeping
if sys.argv[3] == "begin":
    fitting.fit_manifest(Manifest.model_validate_json(sys.argv[4]), out)
else:
    fitting.resume(out)
"""


def manifest(grounds):
    sites = {name: str(grounds.folder / name / "site.toml") for name in grounds.names}
    fit = {"design": "~ condition", "kernel": "numpy", "preset": "irls"}
    return Manifest.read("test", sites=sites, engine="local", fit=fit)


def killed(grounds, out, last, how):
    """Begin or resume a fit in a process of its own, which is killed when round ``last`` was answered."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [str(out), str(last), how, manifest(grounds).model_dump_json(exclude_unset=True)]
    shown = [sys.executable, "-W", "ignore", "-c", FIT, *words]
    done = subprocess.run(shown, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def interrupted(grounds, out, last, monkeypatch, how="begin"):
    """The same in this process: nothing is kept of the last round, and nothing is asked any more."""
    keep = Checkpoint.keep

    def keeping(self, record):
        if record.told.round == last:
            raise KeyboardInterrupt
        keep(self, record)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "keep", keeping)
        with pytest.raises(KeyboardInterrupt):
            fitting.fit_manifest(manifest(grounds), out) if how == "begin" else fitting.resume(out)


def kept(grounds, name="site1"):
    (file,) = (grounds.folder / name / "memory").glob("*-told.npz")
    with np.load(file) as told:
        return len(told["answered"]), told["values"].copy()


LATE, LATER = 6, 9


@pytest.fixture(scope="module")
def whole(tmp_path_factory, lead):
    """What a fit that nobody interrupts tells: rounds and numbers by gene."""
    folder = tmp_path_factory.mktemp("whole")
    grounds = lead.settle(folder / "grounds")
    fitting.fit_manifest(manifest(grounds), folder / "out")
    return kept(grounds)


def end_here(grounds, out, last, how, monkeypatch):
    interrupted(grounds, out, last, monkeypatch, how)


def end_by_a_kill(grounds, out, last, how, _):
    killed(grounds, out, last, how)


@pytest.mark.parametrize("end", [end_here, pytest.param(end_by_a_kill, marks=pytest.mark.slow)])
def test_a_fit_that_ended_twice_goes_on_within_the_budget_of_one(whole, tmp_path, lead, monkeypatch, end):
    rounds, values = whole
    grounds = lead.settle(tmp_path / "grounds").rule(f"max_rounds = {rounds}\nmax_values_per_gene = {values.max()}")
    end(grounds, tmp_path / "out", LATE, "begin", monkeypatch)
    assert kept(grounds)[0] == LATE + 1
    end(grounds, tmp_path / "out", LATER, "resume", monkeypatch)
    fitting.resume(tmp_path / "out")
    again, told = kept(grounds)
    assert again == rounds
    assert np.array_equal(told, values)


def test_and_not_within_a_budget_that_is_one_round_smaller(whole, tmp_path, lead, monkeypatch):
    rounds, _ = whole
    grounds = lead.settle(tmp_path / "grounds").rule(f"max_rounds = {rounds - 1}")
    interrupted(grounds, tmp_path / "out", LATE, monkeypatch)
    with pytest.raises(RefusalError, match=f"max_rounds is {rounds - 1}"):
        fitting.resume(tmp_path / "out")


def test_a_resumed_fit_that_counts_anew_is_refused_its_own_rounds(whole, tmp_path, lead, monkeypatch):
    rounds, _ = whole
    grounds = lead.settle(tmp_path / "grounds").rule(f"max_rounds = {rounds}")
    interrupted(grounds, tmp_path / "out", LATE, monkeypatch)
    monkeypatch.setattr(Told, "knows", lambda *_: False)
    with pytest.raises(RefusalError, match="max_rounds"):
        fitting.resume(tmp_path / "out")


# The file.


def allowed(*_):
    return None


def spent(kept, name, genes=(True, False), values=3):
    kept.spend(name.ljust(32, b"."), ("a", "b", "c"), np.array(genes), values, allowed)


def test_it_is_its_owners_alone_and_names_no_gene(grounds, lead):
    room = open_session(lead, grounds, "fit-1")
    (file,) = (grounds.folder / "site1" / "memory").glob("*-told.npz")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert room.genes[0].encode() not in file.read_bytes()


def test_two_sessions_at_once_count_on_each_other(tmp_path):
    one, other = (Budget("a", 2, file=tmp_path / "told.npz") for _ in range(2))
    for number, budget_ in enumerate((one, other, one, other)):
        spent(budget_, b"%d" % number)
    spent(one, b"1")
    with np.load(tmp_path / "told.npz") as told:
        assert len(told["answered"]) == 4
        assert told["values"].tolist() == [12, 0]


def test_the_same_question_for_another_cohort_is_counted_and_recalled_for_any_is_not(tmp_path):
    kept = Budget("a", 2, file=tmp_path / "told.npz")
    counts = []
    for cohort in (("a", "b", "c"), ("a", "b"), ("a", "b", "c"), None, ("a", "b")):
        kept.spend(
            bytes(32), cohort, np.array([True, False]), 3, lambda answered, told, _: counts.append(told.tolist())
        )
    assert counts == [[3], [6]]


def test_what_ends_while_it_is_written_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    spent(Budget("a", 2, file=tmp_path / "told.npz"), b"1")
    before = (tmp_path / "told.npz").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(budget.os, "fsync", full)
    with pytest.raises(InputError, match="site 'a': can't keep what it told"):
        spent(Budget("a", 2, file=tmp_path / "told.npz"), b"2")
    assert (tmp_path / "told.npz").read_bytes() == before


def turned(data, place, bits):
    """An archive with some bits of its directory turned."""
    place += data.index(b"PK\1\2")
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "a start": lambda data: b"PK\3\4",
    "cut off": lambda data: data[:-40],
    "of a newer kind": lambda data: turned(data, 6, 0x40),
    "under a password": lambda data: turned(data, 8, 0x01),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_ends_in_a_sentence_and_no_answer(grounds, lead, damage):
    open_session(lead, grounds, "fit-1")
    (file,) = (grounds.folder / "site2" / "memory").glob("*-told.npz")
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises((InputError, PartyFaultError), match="site 'site2': can't keep what it told"):
        open_session(lead, grounds, "fit-2")


def test_another_order_of_a_files_genes_changes_no_place():
    genes = [f"g{number}" for number in range(12)]
    agreed = ["g3", "g11", "g0"]
    assert np.array_equal(places_of(agreed, genes), places_of(agreed, genes[::-1]))


def test_a_round_costs_a_site_little_for_it(tmp_path, monkeypatch, wait_for_disks):
    """A write and two fsyncs a round, whatever the genes: printed, and bounded where it would be one for each."""
    monkeypatch.setattr(os, "fsync", wait_for_disks)
    genes, rounds = 60_000, 30
    kept = Budget("a", genes, file=tmp_path / "told.npz")
    began = time.perf_counter()
    for number in range(rounds):
        spent(kept, b"%d" % number, np.ones(genes, dtype=bool))
    each = (time.perf_counter() - began) / rounds
    print(f"\n{genes:,} genes: {1000 * each:.1f} ms a round, {(tmp_path / 'told.npz').stat().st_size:,} bytes")
    assert each < 1.0


@pytest.mark.parametrize("twin", [False, True])
def test_of_two_that_count_at_once_neither_is_forgotten(tmp_path, monkeypatch, twin):
    """Beside its twin, which enters while somebody is in there."""
    if twin:
        monkeypatch.setattr(budget, "FileLock", lambda *_, **__: nullcontext())
    entered, counted = Event(), Event()

    def spend(name, allowed):
        Budget("berlin", 3, file=tmp_path / "told.npz").spend(bytes([name] * 32), ("a",), np.ones(3, bool), 1, allowed)

    first = Thread(target=spend, args=(1, lambda *_: entered.set() or counted.wait(0.2)))
    first.start()
    assert entered.wait(60)
    spend(2, lambda *_: None)
    counted.set()
    first.join()
    assert budget.read_told(tmp_path / "told.npz").values.tolist() == [2 - twin] * 3


@pytest.mark.parametrize("twin", [False, True])
def test_what_another_session_counted_meanwhile_is_known(tmp_path, twin):
    """What a site counted itself it does not read again; beside its twin, which does not look whether it is that."""
    one, other = (Budget("berlin", 3, file=tmp_path / "told.npz") for _ in range(2))
    for kept, name in ((one, 1), (other, 2), (one, 3)):
        if twin and name == 3:
            kept._seen = (tmp_path / "told.npz").read_bytes()
        kept.spend(bytes([name] * 32), ("a",), np.ones(3, bool), 1, lambda *_: None)
    assert budget.read_told(tmp_path / "told.npz").values.tolist() == [3 - twin] * 3
