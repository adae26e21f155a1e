"""Transcripts that are invented, cut off, or show questions of the aggregator's own, and what an audit says to them.

Each check stands beside its broken twin: with the check taken out the attack passes. What an audit can't tell is
tested too, with the words in which it says so.
"""

import json
import os
import shutil
import stat
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protocols.secure_sum import MisuseError, PeerError
from secirls.aggregator import audit as auditing
from secirls.aggregator import replay
from secirls.aggregator import transcript as room
from secirls.aggregator.audit import (
    FOLLOWED,
    NO_FILES,
    NO_ROSTER,
    NOBODY_MET,
    OFF_THE_RECORD,
    PLAIN,
    UNSIGNED_END,
    audit,
)
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.algorithms.query import Query, query_from_bytes
from secirls.carriers.local import LocalFederation
from secirls.cli.commands import app
from secirls.fitting import fit_config, fit_manifest, resume
from secirls.site.grounds.key_files import make_roster, new_key
from secirls.site.site import Answer


def check_clean(folder, **given):
    done = audit(folder, **given)
    assert done.findings == []
    assert done.ended == "with a result"
    return done


# An invented fit


@pytest.fixture(scope="session")
def invented(tmp_path_factory, forger):
    """A fit of nobody's data under made-up keys, in the names of real hospitals."""
    place = tmp_path_factory.mktemp("invented")
    roster, keys = forger.keyed(place / "keys")
    files = forger.simulated(place / "files", 99)
    fit_config(forger.config(roster=roster), files, engine="local", keys=keys, transcript=place / "t")
    return place / "t"


def test_an_honest_fit_passes_against_the_roster_and_the_files(kept, files, roster):
    done = check_clean(kept, files=files, roster=roster)
    assert NO_ROSTER not in done.limits
    assert NO_FILES not in done.limits
    assert len(done.result) == 64


def test_an_invented_fit_fails_against_a_roster_from_elsewhere(invented, roster):
    found = audit(invented, roster=roster).findings
    assert found == [f"{name} signs with another key than the roster's" for name in sorted(roster)]


def test_without_a_roster_an_invented_fit_passes_and_the_audit_says_why(invented, roster, monkeypatch):
    assert NO_ROSTER in check_clean(invented).limits
    monkeypatch.setattr(auditing, "_strangers", lambda keys, roster: [])
    check_clean(invented, roster=roster)


def test_who_is_not_in_the_roster_is_named(kept, roster):
    found = audit(kept, roster={name: key for name, key in roster.items() if name != "site4"}).findings
    assert found == ["site4 signs, and is not in the roster"]


def test_the_keys_of_real_hospitals_are_no_help_to_who_can_t_sign(tmp_path, invented, roster, forger):
    invented = shutil.copytree(invented, tmp_path / "copy")
    entries = forger.lines(invented)
    for name, answer in entries[forger.verbs(entries, "received", "survey")[0]]["content"]["map"]["from"][
        "map"
    ].items():
        answer["fields"]["identity"]["bytes"] = forger.put(invented, bytes.fromhex(roster[name]))
    forger.chain(invented, entries)
    assert audit(invented, roster=roster).findings


def test_a_helper_signs_too(tmp_path, files, keys, forger):
    few = forger.simulated(tmp_path / "few", 5, genes=4)
    private, public = new_key("key-holder", tmp_path)
    whole = {**keys[0], "key-holder": make_roster([public]).keys["key-holder"].hex()}
    settings = forger.config(protocol="paillier", key_bits=512, insecure_test_keys=True, roster=whole)
    all_keys = {**keys[1], "key-holder": private}
    fit_config(settings, few, engine="local", keys=all_keys, transcript=tmp_path / "t")
    assert audit(tmp_path / "t", roster=whole).findings == []
    assert audit(tmp_path / "t", roster=keys[0]).findings == ["key-holder signs, and is not in the roster"]


def test_where_nothing_was_signed_a_roster_vouches_for_nothing(copy, roster, forger):
    entries = forger.lines(copy)
    forger.chain(copy, entries[: forger.verbs(entries, "sent", "hello")[0]])
    assert NOBODY_MET in audit(copy, roster=roster).limits
    entries[0]["content"]["map"]["config"]["map"]["protocol"] = "plain"
    forger.chain(copy, entries)
    assert PLAIN in audit(copy, roster=roster).limits


def test_the_command_compares_with_a_roster_and_says_what_it_can_t_tell(tmp_path, kept, invented, roster):
    told = tmp_path / "roster.json"
    told.write_text(json.dumps(roster))
    run = CliRunner().invoke
    good = run(app, ["audit", str(kept), "--roster", str(told)])
    assert good.exit_code == 0
    assert "not told: what was asked beside the transcript" in " ".join(good.output.split())
    bad = run(app, ["audit", str(invented), "--roster", str(told)])
    assert bad.exit_code == 1
    assert "site3 signs with another key" in " ".join(bad.output.split())
    alone = run(app, ["audit", str(invented)])
    assert alone.exit_code == 0
    assert NO_ROSTER in " ".join(alone.output.split())


# Its end


def test_an_end_that_was_cut_off_is_missed(copy, forger, monkeypatch):
    entries = forger.lines(copy)
    assert entries[-1]["what"] == "ended"
    assert entries[-1]["content"]["map"]["entries"] == len(entries) - 1
    forger.chain(copy, entries[:-1])
    assert any("without a closing entry" in text for text in audit(copy).findings)
    monkeypatch.setattr(replay.Again, "closing", lambda self, outcome, last: [])
    check_clean(copy)


@pytest.mark.parametrize("closed", [False, True])
def test_a_last_round_that_was_cut_off_is_missed(copy, forger, closed):
    entries = forger.lines(copy)
    cut = forger.verbs(entries, "sent", "contribute")[-1]
    forger.chain(copy, entries[:cut] + entries[-1:] * closed)
    done = audit(copy)
    assert done.ended == "unknown"
    assert any(("says 'ended'" if closed else "the end was cut off") in text for text in done.findings)


def test_another_result_than_the_sums_give_is_found(copy, forger, monkeypatch):
    entries = forger.lines(copy)
    entries[-1]["content"]["map"]["digest"] = "0" * 64
    forger.chain(copy, entries)
    assert [text.partition(": ")[2] for text in audit(copy).findings] == [
        "the fit says that it ended with a result; done again it ends otherwise"
    ]
    monkeypatch.setattr(room, "result_digest", lambda outcome: "0" * 64)
    check_clean(copy)


def test_every_number_of_a_result_is_in_its_digest(kept):
    from secirls.aggregator.aggregator import Outcome, lead
    from secirls.agreement.order import Task
    from secirls.config import Config

    entries = list(room.read(kept))
    settings = Config(**auditing._options(entries[0][1]))
    again = replay.Again(kept, entries, 0, len(entries), 0, {})
    run = entries[0][1]["map"]["run"]
    outcome = next(event for event in lead(Task(settings, run), again, again) if isinstance(event, Outcome))
    digest = room.result_digest(outcome)
    state = outcome.fitted.state
    arrays = [item.name for item in fields(state) if isinstance(getattr(state, item.name), np.ndarray)]
    assert {"beta", "status", "nll", "xtwx"} <= set(arrays)
    for name in arrays:
        changed = getattr(state, name).copy()
        changed.ravel()[-1] += 1
        other = replace(outcome, fitted=replace(outcome.fitted, state=replace(state, **{name: changed})))
        assert room.result_digest(other) != digest or np.isnan(changed.ravel()[-1])
    assert room.result_digest(replace(outcome, genes=outcome.genes[::-1])) != digest


def silent_at(number, site="site2"):
    """A federation in which a site gives no answer to a contribution."""
    honest, calls = LocalFederation.ask, []

    def ask(self, verb, arguments):
        answers = honest(self, verb, arguments)
        calls.append(verb)
        if verb == "contribute" and calls.count("contribute") == number:
            answers.pop(site, None)
        return answers

    return ask


def test_a_fit_that_ended_early_says_how_and_goes_on_in_the_same_chain(
    tmp_path, files, keys, roster, forger, monkeypatch
):
    settings = forger.config(roster=keys[0]).model_dump(exclude_unset=True)
    manifest = Manifest.read("test", sites=files, engine="local", keys=keys[1], fit=settings)
    with monkeypatch.context() as patched:
        patched.setattr(LocalFederation, "ask", silent_at(7))
        with pytest.raises(SilentSitesError):
            fit_manifest(manifest, tmp_path / "out", transcript=tmp_path / "t")
    closing = forger.lines(tmp_path / "t")[-1]["content"]["map"]
    assert closing["kind"] == "SilentSitesError"
    done = audit(tmp_path / "t", files, roster)
    assert done.findings == []
    assert "site2 fell silent" in done.ended
    resume(tmp_path / "out")
    done = check_clean(tmp_path / "t", files=files, roster=roster)
    assert len(done.breaks) == 1
    assert "(it had ended with SilentSitesError) after 6 rounds" in done.breaks[0]


def test_an_error_that_does_not_come_again_is_found(copy, forger):
    entries = forger.lines(copy)
    entries[-1]["content"] = {
        "map": {"how": "error", "kind": "MisuseError", "says": "no", "entries": len(entries) - 1},
    }
    forger.chain(copy, entries)
    assert any("ended with MisuseError; done again it ends with a result" in text for text in audit(copy).findings)


def test_an_unforeseen_end_tells_its_kind_and_none_of_its_text(tmp_path, files, forger, monkeypatch):
    honest = LocalFederation.ask

    def ask(self, verb, arguments):
        if verb == "assist":
            raise RuntimeError("quotes 17 counts")
        return honest(self, verb, arguments)

    monkeypatch.setattr(LocalFederation, "ask", ask)
    with pytest.raises(RuntimeError):
        fit_config(forger.config(), files, engine="local", transcript=tmp_path / "t")
    closing = forger.lines(tmp_path / "t")[-1]["content"]["map"]
    assert (closing["kind"], closing["says"]) == ("RuntimeError", None)
    assert any(
        "where 'received'" in text or "goes on with 'received'" in text for text in audit(tmp_path / "t").findings
    )


def test_a_rewritten_end_that_could_have_been_passes_and_the_audit_says_so(copy, forger, roster):
    """The keeper drops the last rounds, has a site fall silent, and closes the chain: nobody signed the true end."""
    entries = forger.lines(copy)
    last = forger.verbs(entries, "received", "contribute")[-1]
    del entries[last]["content"]["map"]["from"]["map"]["site2"]
    number = len(forger.verbs(entries, "sent", "contribute")) - 1
    error = SilentSitesError(number, ("site2",))
    closing = {"how": "error", "kind": "SilentSitesError", "says": str(error), "entries": last + 2}
    made_up = [{"what": "fenced", "content": "site2"}, {"what": "ended", "content": {"map": closing}}]
    forger.chain(copy, entries[: last + 1] + made_up)
    named = {name for _, content in room.read(copy) for name in room.named(content)}
    for path in (copy / room.MESSAGES).iterdir():
        if path.name not in named:
            path.unlink()
    done = audit(copy, roster=roster)
    assert done.findings == []
    assert done.ended.startswith("early")
    assert UNSIGNED_END in done.limits


# Its questions


def other_question(data):
    """A question that leaves another state with a site; the same where a question leaves nothing."""
    asked = query_from_bytes(data)
    if type(asked).apply is Query.apply:
        return data
    arrays = {item.name: getattr(asked, item.name) for item in fields(asked)}
    name = next(name for name, held in arrays.items() if isinstance(held, np.ndarray) and held.dtype == np.float64)
    return replace(asked, **{name: arrays[name] + 1.0}).to_bytes()


def unchain(patched):
    """The broken twin of the chain of questions: sites that were asked different ones open sums together."""
    for place in ("secirls.site.guarding.guard.chained", "secirls.aggregator.rounds.chained"):
        patched.setattr(place, lambda state, query: state)


@pytest.fixture(scope="session")
def equivocal(tmp_path_factory, files, forger):
    """A resumed fit whose aggregator recalls other questions to some sites, by the sites it does so to."""
    made = {}

    def fit(victims):
        if victims in made:
            return made[victims]
        place = tmp_path_factory.mktemp("equivocal")
        honest = room.Witnessed.ask
        changed = []

        def ask(self, verb, arguments):
            if verb == "recall":
                told = {name: ((other_question(q) if name in victims else q),) for name, (q,) in arguments.items()}
                changed.extend(name for name in arguments if told[name] != arguments[name])
                arguments = told
            return honest(self, verb, arguments)

        manifest = Manifest.read(
            "test", sites=files, engine="local", fit=forger.config(trust_aggregator=True).model_dump(exclude_unset=True)
        )

        def stop(told):
            if told.round == 6:
                raise InterruptedError

        def resumed(place):
            with pytest.raises(InterruptedError):
                fit_manifest(manifest, place / "out", transcript=place / "t", on_round=stop)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(room.Witnessed, "ask", ask)
                resume(place / "out")

        if victims:  # sites in different states open nothing together
            with pytest.raises(PeerError, match="payload is not signed by the roster's key for this sum"):
                resumed(place / "chained")
        with pytest.MonkeyPatch.context() as patched:
            if victims:
                unchain(patched)
            resumed(place)
        assert set(changed) == set(victims)
        made[victims] = place / "t"
        return made[victims]

    return fit


def deaf(self, what, content, otherwise):
    """The broken twin of comparing: whatever was asked then is taken for what is asked now."""
    told = self._take(what)
    if what != "sent" and told != content:
        raise replay.MismatchError(otherwise)


def test_sites_that_were_told_different_pasts_are_named(equivocal, monkeypatch):
    folder = equivocal(("site2",))
    unchain(monkeypatch)
    assert any("'recall' asks site2 something else than the others" in text for text in audit(folder).findings)
    monkeypatch.setattr(replay.Again, "_expect", deaf)
    assert all("'recall' asks site2 something else" in text for text in audit(folder).findings)
    monkeypatch.setattr(auditing, "_two_questions", lambda entries: [])
    check_clean(folder)


def test_a_past_that_never_was_is_found_though_all_were_told_it(equivocal, monkeypatch):
    folder = equivocal(("site1", "site2", "site3", "site4"))
    unchain(monkeypatch)
    assert any("'recall' of round" in text and "asked otherwise" in text for text in audit(folder).findings)
    monkeypatch.setattr(replay.Again, "_expect", deaf)
    check_clean(folder)


@pytest.mark.parametrize("change", ["another question", "another cohort", "asked of fewer"])
def test_a_contribution_that_some_were_asked_otherwise_is_found_wherever_it_stands(copy, forger, change, monkeypatch):
    """Also after the place where doing the fit again has to stop."""
    entries = forger.lines(copy)
    places = forger.verbs(entries, "sent", "contribute")
    for place in (places[2], places[-1]):
        asked = entries[place]["content"]["map"]["to"]["map"]
        if change == "another question":
            asked["site3"][0] = {"bytes": forger.put(copy, b"another")}
        elif change == "another cohort":
            asked["site3"][3] = ["site1", "site2", "site3"]
        else:
            del asked["site3"]
    forger.chain(copy, entries)
    found = audit(copy).findings
    for place in (places[2], places[-1]):
        assert any(text.startswith(f"entry {place + 1}: 'contribute' asks") for text in found)
    monkeypatch.setattr(auditing, "_two_questions", lambda entries: [])
    assert not any(text.startswith(f"entry {places[-1] + 1}:") for text in audit(copy).findings)


@pytest.mark.parametrize("change", ["sites", "configuration"])
def test_a_part_that_goes_on_as_another_fit_is_found(tmp_path, equivocal, forger, change, monkeypatch):
    folder = shutil.copytree(equivocal(()), tmp_path / "copy")
    check_clean(folder)
    entries = forger.lines(folder)
    told = next(entry for entry in entries if entry["what"] == "resumed")["content"]["map"]
    if change == "sites":
        told["sites"] = told["sites"][:3]
    else:
        told["config"]["map"]["deadline"] = 17.0
    forger.chain(folder, entries)
    expected = "resumed over site1, site2, site3, and" if change == "sites" else "resumed with another deadline"
    assert any(expected in text for text in audit(folder).findings)
    monkeypatch.setattr(auditing, "_another_fit", lambda first, told, past: [])
    assert not any(expected in text for text in audit(folder).findings)


def off_the_record(monkeypatch, settings, files, keys, transcript):
    """A whole fit is written down, and then the same sites are asked once more in the same session."""
    honest, last = LocalFederation.ask, {}

    def ask(self, verb, arguments):
        if verb == "contribute":
            last.update(federation=self, arguments=dict(arguments))
        return honest(self, verb, arguments)

    monkeypatch.setattr(LocalFederation, "ask", ask)
    fit_config(settings, files, engine="local", keys=keys[1], transcript=transcript)
    beside = {name: (question, 31, *rest) for name, (question, _, *rest) in last["arguments"].items()}
    return honest(last["federation"], "contribute", beside)


def test_questions_beside_the_transcript_are_refused(tmp_path, files, keys, roster, forger, monkeypatch):
    answers = off_the_record(monkeypatch, forger.config(roster=keys[0]), files, keys, tmp_path / "t")
    done = audit(tmp_path / "t", files, roster)
    assert FOLLOWED in done.limits
    assert OFF_THE_RECORD not in done.limits
    assert {type(answer) for answer in answers.values()} == {MisuseError}


def test_where_the_aggregator_is_trusted_they_are_answered_and_leave_no_trace(
    tmp_path, files, keys, roster, forger, monkeypatch
):
    settings = forger.config(roster=keys[0], trust_aggregator=True)
    answers = off_the_record(monkeypatch, settings, files, keys, tmp_path / "t")
    done = audit(tmp_path / "t", files, roster)
    assert not done.findings
    assert OFF_THE_RECORD in done.limits
    assert {type(answer) for answer in answers.values()} == {Answer}


def test_the_end_of_a_fit_in_lock_step_is_signed_by_its_sites(kept, roster):
    assert UNSIGNED_END not in audit(kept, roster=roster).limits


def test_another_end_than_the_sites_signed_is_found(copy, forger, roster, monkeypatch):
    """The keeper has the sites' heads replaced by those of some other end, and chains everything anew."""
    entries = forger.lines(copy)
    last = forger.verbs(entries, "received", "hear")[-1]
    answers = entries[last]["content"]["map"]["from"]["map"]
    for answer in answers.values():
        answer["fields"]["message"]["bytes"] = forger.put(copy, bytes(64))
    forger.chain(copy, entries)
    ended = "the fit says that it ended with a result; done again it ends with PeerError"
    assert any(ended in text for text in audit(copy, roster=roster).findings)
    monkeypatch.setattr("secirls.aggregator.rounds.read_head", lambda *_: None)
    assert not any(ended in text for text in audit(copy, roster=roster).findings)


# Its folder


def test_what_no_entry_names_is_found(copy, forger, monkeypatch):
    name = forger.put(copy, b"anything else")
    (copy / "notes.txt").write_text("more")
    assert audit(copy).findings == [
        f"no entry names the message {name[:16]}... of 13 bytes",
        "notes.txt is no part of a transcript",
    ]
    monkeypatch.setattr(auditing, "_unnamed", lambda folder, entries: [])
    check_clean(copy)


def test_messages_whose_entries_a_crash_lost_are_named_when_the_fit_goes_on(tmp_path, files, forger):
    manifest = Manifest.read("test", sites=files, engine="local", fit=forger.config().model_dump(exclude_unset=True))

    def stop(told):
        if told.round == 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_manifest(manifest, tmp_path / "out", transcript=tmp_path / "t", on_round=stop)
    left = forger.put(tmp_path / "t", b"written before its entry was")
    resume(tmp_path / "out")
    assert left in {name for _, content in room.read(tmp_path / "t") for name in room.named(content)}
    assert "1 messages had lost their entries" in check_clean(tmp_path / "t").breaks[0]


def modes(folder):
    return {
        ("folder" if path.is_dir() else "file", oct(stat.S_IMODE(path.stat().st_mode)))
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_transcript_is_for_its_owner_alone_from_the_start(tmp_path, files, forger, monkeypatch):
    """Whatever the umask allows, and without a moment before a change of mode."""

    def never(*given, **options):
        raise AssertionError("a mode was changed afterwards")

    before = os.umask(0)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "chmod", never)
            fit_config(forger.config(), files, engine="local", transcript=tmp_path / "t")
        (tmp_path / "there").mkdir(mode=0o755)
        room.make(tmp_path / "there")
        monkeypatch.setattr(room, "FILE_MODE", 0o644)
        fit_config(forger.config(), files, engine="local", transcript=tmp_path / "twin")
    finally:
        os.umask(before)
    assert modes(tmp_path / "t") == {("folder", "0o700"), ("file", "0o600")}
    assert modes(tmp_path / "there") == {("folder", "0o700")}
    assert ("file", "0o644") in modes(tmp_path / "twin")
