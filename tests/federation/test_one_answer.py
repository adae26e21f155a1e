"""One answer per question outlives processes: a fit that goes on opens no sum over other sites than before."""

import json

import anndata
import pytest

from secirls import fitting
from secirls.aggregator.checkpoint import FOLDER, Checkpoint
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.manifest import Manifest
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import memory
from secirls.site.guarding.memory import Memory
from secirls.site.site import Site

SETTINGS = {
    "design": "~ condition",
    "preset": "irls",
    "kernel": "numpy",
    "min_contributors": 1,
    "on_dropout": "continue",
    "consistency": False,
}
LATE = 7
ALL, FOUR = ("a", "b", "c", "d", "e"), ("a", "b", "d", "e")


@pytest.fixture
def files(tmp_path):
    """Five files of six simulated samples over 30 genes; beside them the sites keep what they answered."""
    paths = write_simulated(tmp_path / "data", sites=5, samples=30, genes=30, seed=3)
    return dict(zip(ALL, map(str, paths.values()), strict=True))


def manifest(files, **changes):
    return Manifest.read("test", sites=files, engine="local", fit=SETTINGS, **changes)


class StopError(Exception):
    pass


def stop_at(monkeypatch, number):
    """The driver ends after a sum was opened and before it is kept."""
    keep = Checkpoint.keep

    def keeping(self, record):
        if record.told.round == number:
            raise StopError
        keep(self, record)

    monkeypatch.setattr(Checkpoint, "keep", keeping)


def silence(monkeypatch, name, verb, call):
    ask, calls = LocalFederation.ask, []

    def asking(self, asked, arguments):
        answers = ask(self, asked, arguments)
        calls.append(asked)
        if asked == verb and calls.count(verb) == call:
            answers.pop(name)
        return answers

    monkeypatch.setattr(LocalFederation, "ask", asking)


def interrupted(monkeypatch, files, out, who=None, verb="contribute", **changes):
    """A fit that ends in round `LATE`, in which somebody may fall silent."""
    with monkeypatch.context() as patch:
        stop_at(patch, LATE)
        if who is not None:
            silence(patch, who, verb, LATE + 1)
        with pytest.raises(StopError):
            fitting.fit_manifest(manifest(files, **changes), out)
    return Checkpoint.open(out / FOLDER)


def test_the_round_that_was_under_way_is_asked_again_of_the_same_sites(monkeypatch, files, tmp_path):
    interrupted(monkeypatch, files, tmp_path / "out")
    whole = fitting.fit_manifest(manifest(files), tmp_path / "whole")
    assert fitting.resume(tmp_path / "out").table.equals(whole.table)


@pytest.mark.parametrize("verb", [pytest.param("contribute", marks=pytest.mark.slow), "assist"])
def test_a_sum_opened_without_a_site_is_not_opened_with_it(monkeypatch, files, tmp_path, verb):
    """Who was silent after its payload is in the sum, and asking everybody again tells nothing new."""
    opening = interrupted(monkeypatch, files, tmp_path / "out", "c", verb)[2].opening
    assert opening.round == LATE
    if verb == "assist":
        assert opening.parties == ALL
        assert fitting.resume(tmp_path / "out").report["sites"].keys() == set(ALL)
        return
    assert opening.parties == FOUR
    with pytest.raises(InputError, match=f"round {LATE} may have been opened without c"):
        fitting.resume(tmp_path / "out")


def test_without_the_note_it_would_be(monkeypatch, files, tmp_path):
    """The broken twin: the sum over four was opened, and the one over five follows."""
    monkeypatch.setattr(Memory, "opening", lambda self, question, present: None)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "note", lambda self, opening: None)
        interrupted(patch, files, tmp_path / "out", "c")
    rounds = fitting.resume(tmp_path / "out").report["rounds"]
    assert rounds[LATE]["parties"] == list(ALL)


def test_a_note_is_kept_before_its_sum_is_opened(monkeypatch, files, tmp_path):
    """Whoever is asked to open a sum over fewer sites, its note is on the disk by then."""
    seen = []
    ask = LocalFederation.ask

    def asking(self, verb, arguments):
        path = tmp_path / "out" / FOLDER / "opening.json"
        if verb == "assist" and path.exists():
            seen.append((set(arguments), json.loads(path.read_text())))
        return ask(self, verb, arguments)

    monkeypatch.setattr(LocalFederation, "ask", asking)
    silence(monkeypatch, "c", "contribute", LATE + 1)
    fitting.fit_manifest(manifest(files), tmp_path / "out")
    assert [set(note["parties"]) for _, note in seen] == [asked for asked, _ in seen]
    first = seen[0][1]["round"]
    assert [note["round"] for _, note in seen] == list(range(first, first + len(seen)))
    assert any(asked == set(FOUR) and note["round"] == LATE for asked, note in seen)


def forget_a_site(out):
    """What a curious aggregator would do: say that a site is gone, and ask the question again without it."""
    checkpoint, _, past = Checkpoint.open(out / FOLDER)
    (out / FOLDER / "opening.json").unlink()
    last = past.records[-1]
    lost = (("c", "gave no answer to 'contribute' in time"),)
    checkpoint.keep(type(last)(type(last.told)(**{**vars(last.told), "lost": lost}), *list(vars(last).values())[1:]))


def test_sites_refuse_a_question_they_answered_for_another_cohort(monkeypatch, files, tmp_path):
    interrupted(monkeypatch, files, tmp_path / "out")
    forget_a_site(tmp_path / "out")
    with pytest.raises(RefusalError, match=r"site 'a': one answer per question.*for a, b, c, d, e before, and not for"):
        fitting.resume(tmp_path / "out")


def test_sites_without_a_memory_answer_it(monkeypatch, files, tmp_path):
    """The broken twin: the sums over five and over four differ by one site's summand."""
    monkeypatch.setattr(Memory, "admit", lambda self, question, cohort: None)
    monkeypatch.setattr(Memory, "opening", lambda self, question, present: None)
    interrupted(monkeypatch, files, tmp_path / "out")
    forget_a_site(tmp_path / "out")
    assert fitting.resume(tmp_path / "out").report["rounds"][LATE]["parties"] == list(FOUR)


def test_another_fit_over_other_sites_is_the_policy_s_business(files, tmp_path):
    fitting.fit_manifest(manifest(files), tmp_path / "five")
    four = {name: files[name] for name in FOUR}
    assert fitting.fit_manifest(manifest(four), tmp_path / "four").report["sites"].keys() == set(FOUR)


def test_a_memory_holds_digests_and_names_only(files, tmp_path):
    fitting.fit_manifest(manifest(files), tmp_path / "out")
    (kept,) = (tmp_path / "data").glob("site1.h5ad.answered/*.jsonl")
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    answered, opened = ([entry for entry in lines if name in entry] for name in ("question", "of"))
    assert len({entry["question"] for entry in answered}) == len(answered) == len(opened) > LATE
    for entry in answered:
        assert set(entry) == {"question", "cohort"}
        assert entry["cohort"] == list(ALL)
        assert len(bytes.fromhex(entry["question"])) == 32
    assert opened == [{"of": entry["question"], "opened": list(ALL)} for entry in answered]
    assert len(lines) == len(answered) + len(opened)
    assert anndata.read_h5ad(files["a"]).obs_names[0] not in kept.read_text()


def test_a_fit_that_never_goes_on_without_a_site_needs_none(files, tmp_path):
    settings = {**SETTINGS, "on_dropout": "abort"}
    fitting.fit_manifest(Manifest.read("test", sites=files, engine="local", fit=settings), tmp_path / "out")
    assert not list((tmp_path / "data").glob("*.answered"))


def test_a_policy_says_where_it_is(files, tmp_path):
    rules = tmp_path / "rules" / "a.toml"
    rules.parent.mkdir()
    rules.write_text('memory = "state/answered"\n')
    fitting.fit_manifest(manifest(files, policies={"a": str(rules)}), tmp_path / "out")
    assert list((tmp_path / "rules" / "state" / "answered").glob("*.jsonl"))
    assert not (tmp_path / "data" / "site1.h5ad.answered").exists()


def test_a_site_that_can_t_keep_what_it_answers_does_not_answer(files, tmp_path):
    (tmp_path / "data" / "site3.h5ad.answered").write_text("a file where a folder should be")
    asked = []
    with pytest.raises(InputError, match="site 'c': can't keep what it answers"):
        fitting.fit_manifest(manifest(files), tmp_path / "out", on_round=asked.append)
    assert not asked


def test_it_is_written_before_the_answer_leaves(monkeypatch, files, tmp_path):
    """A site that dies while it protects its answer has noted the question."""
    site_answer = Site._answer

    def dying(self, verb, *given, **options):
        if verb == "protect" and self.name == "c":
            raise PartyFaultError("c", verb, "death")
        return site_answer(self, verb, *given, **options)

    monkeypatch.setattr(Site, "_answer", dying)
    with pytest.raises(PartyFaultError):
        fitting.fit_manifest(manifest(files), tmp_path / "out")
    (kept,) = (tmp_path / "data").glob("site3.h5ad.answered/*.jsonl")
    assert len(kept.read_text().splitlines()) == 1


@pytest.mark.parametrize("torn", [b'{"question": "00', b'{"question": "00", "cohort": ["a"]}'])
def test_a_torn_line_was_never_answered(tmp_path, torn):
    Memory("a", tmp_path, "run").admit(b"one", ALL)
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("ab") as file:
        file.write(torn)
    again = Memory("a", tmp_path, "run")
    again.admit(b"\0", FOUR)
    again.admit(b"\0", FOUR)
    again.admit(b"one", ALL)
    for question, cohort in ((b"one", FOUR), (b"\0", ALL)):
        with pytest.raises(RefusalError, match="one answer per question"):
            Memory("a", tmp_path, "run").admit(question, cohort)
    assert len(path.read_bytes().splitlines()) == 2


def test_once_a_sum_was_opened_over_fewer_it_is_answered_for_these_alone(tmp_path):
    """Whoever asks anew: the same aggregator in a session that goes on, or another."""
    Memory("a", tmp_path, "run").admit(b"one", ALL)
    Memory("a", tmp_path, "run").opening(b"one", FOUR)
    for cohort, rule in ((ALL, "one sum per question"), (FOUR[:3], "one answer per question")):
        with pytest.raises(RefusalError, match=rf"^site 'a': {rule}: "):
            Memory("a", tmp_path, "run").admit(b"one", cohort)
    Memory("a", tmp_path, "run").admit(b"one", FOUR)
    Memory("a", tmp_path, "run").opening(b"one", FOUR)
    with pytest.raises(RefusalError, match=f"over {', '.join(FOUR)} before, and not over {', '.join(FOUR[:3])}$"):
        Memory("a", tmp_path, "run").opening(b"one", FOUR[:3])


def test_a_line_that_a_disk_takes_in_part_is_no_answer(tmp_path, monkeypatch):
    Memory("a", tmp_path, "run").admit(b"one", ALL)
    with monkeypatch.context() as full:
        write = memory.os.write
        full.setattr(memory.os, "write", lambda file, line: write(file, line[:9]))
        with pytest.raises(InputError, match=r"^site 'a': can't keep what it answers \(No space left on device\)"):
            Memory("a", tmp_path, "run").admit(b"two", ALL)
    Memory("a", tmp_path, "run").admit(b"two", FOUR)
    with pytest.raises(RefusalError, match="one answer per question"):
        Memory("a", tmp_path, "run").admit(b"one", FOUR)


@pytest.mark.parametrize("told", ["nonsense\n", '{"of": ""}, {"of": ""}\n', '{"of": [\n1]}\n'])
def test_a_memory_that_can_t_be_read_answers_nothing(tmp_path, told):
    Memory("a", tmp_path, "run").admit(b"one", ALL)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text(told)
    with pytest.raises(InputError, match="can't keep what it answers"):
        Memory("a", tmp_path, "run").admit(b"two", ALL)


def test_a_run_s_name_does_not_say_where_the_file_is(tmp_path):
    Memory("a", tmp_path / "kept", "../../elsewhere").admit(b"one", ALL)
    assert [path.parent for path in tmp_path.rglob("*.jsonl")] == [tmp_path / "kept"]


def test_it_is_not_asked_of_data_in_memory(files):
    sites = {name: anndata.read_h5ad(path) for name, path in files.items()}
    assert fitting.fit_config(Config(**SETTINGS), sites, engine="local").report["sites"].keys() == set(ALL)
