"""What the aggregator received and sent is kept, does not bear a change, and gives the same sums again."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from importlib.metadata import version

import numpy as np
import pytest

from protocols.choice import NAMES
from secirls.aggregator import transcript as room
from secirls.aggregator.audit import audit, unlike_noise
from secirls.aggregator.checkpoint import FOLDER, Checkpoint
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.fitting import fit_config, fit_manifest, resume
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.site.site import Site


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Four files of six simulated samples over 30 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=4, samples=24, genes=30, seed=3)
    return {name: str(path) for name, path in paths.items()}


def config(protocol="pairwise", preset="irls", **changes):
    """Of a short fit: an entry is made, chained and audited alike in a long one."""
    bits = {"key_bits": 512, "insecure_test_keys": True} if protocol.startswith("paillier") else {}
    return Config(design="~ condition", kernel="numpy", protocol=protocol, preset=preset, **{**bits, **changes})


def keep(folder, files, settings=None, engine="local"):
    return fit_config(settings or config(), files, engine=engine, transcript=folder)


@pytest.fixture(scope="session")
def kept(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("kept") / "t"
    return folder, keep(folder, files, config(preset="deseq2"))


def check_clean(folder, files, rounds):
    done = audit(folder, files)
    assert done.findings == []
    assert done.ended == "with a result"
    assert done.rounds == rounds
    return done


def test_every_sum_comes_out_again(kept, files):
    folder, result = kept
    done = check_clean(folder, files, len(result.report["rounds"]))
    assert done.messages > 4 * done.rounds


@pytest.mark.parametrize(
    "protocol",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "paillier" else [])
        for name in NAMES
        if name != "pairwise"
    ],
)
def test_an_honest_transcript_of_every_protocol_is_clean(tmp_path, files, protocol):
    import anndata

    few = {name: anndata.read_h5ad(path)[:, :4].copy() for name, path in files.items()}
    result = keep(tmp_path / "t", few, config(protocol))
    check_clean(tmp_path / "t", {}, len(result.report["rounds"]))


@pytest.mark.slow
def test_on_ray_the_aggregator_writes_it(tmp_path, files, local_ray):
    result = keep(tmp_path / "t", files, engine="ray")
    check_clean(tmp_path / "t", files, len(result.report["rounds"]))


@pytest.fixture
def copy(kept, tmp_path):
    return shutil.copytree(kept[0], tmp_path / "copy")


def entries(folder):
    return (folder / room.LINES).read_text().splitlines()


@pytest.mark.parametrize("change", ["altered", "left out", "swapped", "put in"])
def test_the_chain_does_not_bear_a_change(copy, change):
    lines = entries(copy)
    if change == "altered":
        lines[9] = lines[9].replace('"round"', '"Round"') if '"round"' in lines[9] else lines[9].replace("a", "b", 1)
    elif change == "left out":
        del lines[9]
    elif change == "swapped":
        lines[9], lines[10] = lines[10], lines[9]
    else:
        lines.insert(9, lines[8])
    (copy / room.LINES).write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"does not follow|can't be read"):
        audit(copy)


def test_a_message_does_not_bear_a_change(copy):
    message = max((copy / room.MESSAGES).iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(message.read_bytes())
    data[100] ^= 1
    message.write_bytes(data)
    with pytest.raises(InputError, match="was changed"):
        audit(copy)


def rewrite(folder, change):
    """What somebody does who knows how the chain is made: change entries and chain them anew."""
    before, lines = room.FIRST, []
    for line in entries(folder):
        entry = json.loads(line)
        change(entry)
        entry["before"] = before
        lines.append(room.canonical(entry))
        before = room.hashlib.sha256(lines[-1].encode()).hexdigest()
    (folder / room.LINES).write_text("\n".join(lines) + "\n")


def put(folder, data):
    name = room.hashlib.sha256(data).hexdigest()
    (folder / room.MESSAGES / name).write_bytes(data)
    return name


def test_a_forged_payload_fails_its_signature(copy):
    seen = []

    def change(entry):
        if entry["what"] == "received" and entry["content"]["map"]["verb"] == "contribute" and not seen:
            seen.append(1)
            answer = entry["content"]["map"]["from"]["map"]["site2"]["fields"]["message"]
            data = bytearray(room.message(copy, answer["bytes"]))
            data[10] ^= 1
            answer["bytes"] = put(copy, bytes(data))

    rewrite(copy, change)
    done = audit(copy)
    assert "site2" in done.ended
    assert "not signed" in done.ended
    assert done.findings or done.ended.startswith("early")


@pytest.mark.parametrize(("release", "called"), [("0.0.9", "0.0.9"), (None, "an earlier one")])
def test_what_another_release_wrote_is_said_to_be_of_it(copy, release, called):
    told = "whether an early end, or what is found, lies at another release of secirls: it was written by "

    def change(entry):
        if entry["what"] == "ended":
            entry["content"]["map"]["digest"] = "0" * 64
        if entry["what"] == "begun":
            assert entry["content"]["map"].pop("release") == version("secirls")
            entry["content"]["map"] |= {} if release is None else {"release": release}

    rewrite(copy, change)
    assert f"{told}{called}, and this is {version('secirls')}" in audit(copy).limits


def test_of_another_release_nothing_is_said_where_all_is_the_same(copy):
    def change(entry):
        if entry["what"] == "begun":
            entry["content"]["map"]["release"] = "0.0.9"

    rewrite(copy, change)
    done = audit(copy)
    assert not done.findings
    assert not any("release" in limit for limit in done.limits)


def test_a_forged_sum_is_found(copy):
    seen = []

    def change(entry):
        if entry["what"] == "opened" and not seen:
            seen.append(1)
            vector = entry["content"]["map"]["vector"]
            data = bytearray(room.message(copy, vector["bytes"]))
            data[0] ^= 1
            vector["bytes"] = put(copy, bytes(data))

    rewrite(copy, change)
    assert any("the sum of round 0 is another" in finding for finding in audit(copy).findings)


def test_another_question_than_the_algorithm_s_is_found(copy):
    """A curious aggregator that asked something of its own in between."""
    lines = [json.loads(line) for line in entries(copy)]
    asked = next(i for i, e in enumerate(lines) if e["what"] == "sent" and e["content"]["map"]["verb"] == "contribute")
    lines[asked + 1 : asked + 1] = lines[asked : asked + 2]
    (copy / room.LINES).write_text("\n".join(map(json.dumps, lines)) + "\n")
    rewrite(copy, lambda entry: None)
    assert audit(copy).findings


def test_a_site_that_adds_its_counts_to_a_message_is_found(tmp_path, files, monkeypatch):
    hello = Site.survey

    def leaky(self):
        facts = hello(self)
        if self.name == "site3":
            object.__setattr__(facts, "file", f"{facts.file} {self._table.obs.index[0]}")
        return facts

    monkeypatch.setattr(Site, "survey", leaky)
    keep(tmp_path / "t", files)
    assert audit(tmp_path / "t", files).findings == ["a sample name of site site3 stands in a message"]


def test_counts_in_a_message_are_found(copy, files):
    import anndata

    counts = np.asarray(anndata.read_h5ad(files["site1"]).X)
    name = put(copy, b"head" + counts[0].astype("<i8").tobytes())

    def change(entry):
        """In place of what a site says where no dispersions were brought: nothing."""
        if entry["what"] == "received" and entry["content"]["map"]["verb"] == "join":
            entry["content"]["map"]["from"]["map"]["site1"] = {"bytes": name}

    rewrite(copy, change)
    follows, found = audit(copy, files).findings
    assert follows.endswith("says 'sent' where 'fenced' should follow"), "such an answer puts its sender out"
    assert found == "the counts of a sample of site site1 stands in a message"


def test_the_command_looks_in_the_file_of_a_site_s_ground(copy, files, tmp_path, run):
    import anndata

    ground = tmp_path / "site.toml"
    ground.write_text(f"name = 'site2'\ndata = '{files['site2']}'\nkey = 'site2.key'\nroster = 'roster.json'\n")
    counts = np.asarray(anndata.read_h5ad(files["site2"]).X)
    put(copy, counts[0].astype("<f8").tobytes())
    for file in (ground, files["site2"]):
        code, _, error = run("audit", copy, "--site", f"site2={file}")
        assert code == 1
        assert "site site2 stands in a message" in error
    code, _, error = run("audit", copy, "--site", f"site2={tmp_path / 'gone.toml'}")
    assert code == 2
    assert "gone.toml': is missing" in error


def test_a_payload_without_a_mask_does_not_look_like_noise(tmp_path, files, monkeypatch):
    from protocols.primitives import ring

    monkeypatch.setattr(ring, "mask_into", lambda *given, **options: None)
    wide = write_simulated(tmp_path / "wide", sites=4, samples=24, genes=150, seed=4)
    keep(tmp_path / "t", {name: str(path) for name, path in wide.items()})
    found = audit(tmp_path / "t").findings
    assert any("does not look like noise" in finding for finding in found)


def test_noise_looks_like_noise():
    import secrets

    assert not any(unlike_noise(secrets.token_bytes(50_000)) for _ in range(50))
    assert unlike_noise(bytes(50_000))


def test_a_fit_that_ended_early_is_audited_to_its_end(tmp_path, files, monkeypatch):
    ask = LocalFederation.ask
    calls = []

    def asking(self, verb, arguments):
        answers = ask(self, verb, arguments)
        calls.append(verb)
        if calls.count("contribute") == 7:
            answers.pop("site2", None)
        return answers

    monkeypatch.setattr(LocalFederation, "ask", asking)
    with pytest.raises(SilentSitesError):
        keep(tmp_path / "t", files)
    done = audit(tmp_path / "t", files)
    assert done.findings == []
    assert done.rounds == 6
    assert "site2 fell silent" in done.ended


def test_a_transcript_is_never_written_over(kept, files):
    with pytest.raises(InputError, match="is not empty"):
        keep(kept[0], files)


def test_a_folder_without_a_transcript_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no transcript"):
        audit(tmp_path)


class StopError(Exception):
    pass


def stop_after(number):
    def on_round(told):
        if told.round == number:
            raise StopError

    return on_round


def in_parts(folder, files, stops, protocol="pairwise", engine="local", between=lambda folder: None):
    """A fit whose driver ends after some rounds, resumed after each: its result and the folder of its transcript."""
    settings = config(protocol).model_dump(exclude_unset=True)
    manifest = Manifest.read("test", sites=files, engine=engine, fit=settings)
    out, kept = folder / "out", folder / "t"
    with pytest.raises(StopError):
        fit_manifest(manifest, out, transcript=kept, on_round=stop_after(stops[0]))
    for number in stops[1:]:
        between(kept)
        with pytest.raises(StopError):
            resume(out, on_round=stop_after(number))
    between(kept)
    return resume(out), kept


@pytest.fixture(scope="session")
def broken(tmp_path_factory, files):
    return in_parts(tmp_path_factory.mktemp("broken"), files, (4, 7))


def test_a_resumed_fit_goes_on_in_the_same_transcript(broken, files):
    result, folder = broken
    done = check_clean(folder, files, len(result.report["rounds"]))
    assert [text.partition(" after ")[2] for text in done.breaks] == ["5 rounds", "8 rounds"]


@pytest.mark.parametrize(
    "protocol",
    ["additive", "paillier-threshold", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "paillier"))],
)
def test_a_resumed_fit_of_every_protocol(tmp_path, files, protocol):
    import anndata

    few = {}
    for name, path in files.items():
        few[name] = str(tmp_path / f"{name}.h5ad")
        anndata.read_h5ad(path)[:, :4].copy().write_h5ad(few[name])
    result, folder = in_parts(tmp_path, few, (5,), protocol)
    check_clean(folder, {}, len(result.report["rounds"]))


@pytest.mark.slow
def test_on_ray_the_next_aggregator_goes_on_with_it(tmp_path, files, local_ray):
    """The aggregator may have finished a round that the driver never took: then that one is asked twice."""
    result, folder = in_parts(tmp_path, files, (5,), engine="ray")
    done = audit(folder, files)
    assert done.findings == []
    assert done.ended == "with a result"
    assert done.breaks == [text for text in done.breaks if "after 6 rounds" in text] != []
    assert 0 <= done.rounds - len(result.report["rounds"]) <= 1


@pytest.mark.parametrize("torn", ["half a line", pytest.param("a whole line without its end", marks=pytest.mark.slow)])
def test_an_entry_that_a_crash_tore_is_cut_off_and_told(tmp_path, files, torn):
    half = b'{"before":"12' if torn == "half a line" else b'{"before":"12","content":1,"what":"sent"}'

    def crash(folder):
        with (folder / room.LINES).open("ab") as file:
            file.write(half)
        (folder / room.DRAFT).write_bytes(b"half a mess")

    result, folder = in_parts(tmp_path, files, (6,), between=crash)
    done = check_clean(folder, files, len(result.report["rounds"]))
    assert done.breaks[0].endswith(f"an unfinished end of {len(half)} bytes before it was cut off")


@pytest.mark.slow
def test_entries_that_the_machine_lost(tmp_path, files):
    """The last entries of a round are lost with the machine; the round stands in the checkpoint or is asked again."""
    for lost in (3, 5, 7):  # the last two tell of the total, and come after the sum was opened

        def crash(folder, lost=lost):
            (folder / room.LINES).write_text("\n".join(entries(folder)[:-lost]) + "\n")

        def forget(folder, lost=lost):
            crash(folder, lost)
            (folder.parent / "out" / FOLDER / "round-00006.npz").unlink()

        result, folder = in_parts(tmp_path / str(lost), files, (6,), between=forget)
        done = audit(folder, files)
        assert done.findings == []
        assert done.ended == "with a result"
        assert done.rounds == len(result.report["rounds"])
        # The broken twin: the checkpoint says that the round was opened, and the transcript does not bear it out.
        _, folder = in_parts(tmp_path / f"{lost} kept", files, (6,), between=crash)
        assert any("the sum of round 6 is not that of the earlier part" in text for text in audit(folder).findings)


def without_power(settled):
    """A machine that stops: of the last three entries, and of messages, nothing is left that was not settled."""

    def crash(folder):
        lines, whole = folder / room.LINES, entries(folder)
        without = len("".join(f"{line}\n" for line in whole[:-3]))
        kept = max(settled.get(lines, 0), without)
        lost = lines.read_bytes()[kept:]
        lines.write_bytes(lines.read_bytes()[:kept])
        for path in (folder / room.MESSAGES).iterdir():
            if path not in settled and path.name.encode() in lost:
                path.write_bytes(b"")

    return crash


@pytest.mark.parametrize("twin", [False, True])
def test_a_round_that_the_checkpoint_keeps_is_not_lost_with_the_power(tmp_path, files, monkeypatch, twin):
    """The twin leaves it to the system when an entry gets to the disk, and an honest fit is called another one."""
    settled, settle = {}, room.settle

    def note(path):
        settle(path)
        settled[path] = path.stat().st_size

    monkeypatch.setattr(room, "settle", (lambda path: None) if twin else note)
    result, folder = in_parts(tmp_path, files, (6,), between=without_power(settled))
    if twin:
        assert any("the sum of round 6 is not that of the earlier part" in text for text in audit(folder).findings)
    else:
        check_clean(folder, files, len(result.report["rounds"]))


@pytest.mark.parametrize("twin", [False, True])
def test_an_entry_that_got_to_the_disk_before_its_message_is_cut_off_and_told(tmp_path, files, monkeypatch, twin):
    sizes = []

    def crash(folder):
        before = (folder / room.LINES).stat().st_size
        last = hashlib.sha256(entries(folder)[-1].encode()).hexdigest()
        room.Transcript(folder, last).write("sent", {"verb": "hear", "to": {"site1": [b"a message"]}})
        (folder / room.MESSAGES / hashlib.sha256(b"a message").hexdigest()).write_bytes(b"")
        sizes.append((folder / room.LINES).stat().st_size - before)

    if twin:
        monkeypatch.setattr(room, "_borne_out", lambda _, data: len(data))
    result, folder = in_parts(tmp_path, files, (6,), between=crash)
    if twin:
        with pytest.raises(InputError, match="was changed"):
            audit(folder)
    else:
        done = check_clean(folder, files, len(result.report["rounds"]))
        assert done.breaks[0].endswith(f"an unfinished end of {sizes[0]} bytes before it was cut off")


def test_a_changed_sum_at_a_resume_is_found(broken, tmp_path):
    """What a curious aggregator would do: go on from another sum than was opened."""
    folder = shutil.copytree(broken[1], tmp_path / "copy")

    def change(entry):
        if entry["what"] == "resumed":
            told = entry["content"]["map"]["rounds"][2]["map"]
            told["sum"] = told["sum"][::-1]

    rewrite(folder, change)
    assert any("the sum of round 2 is not that of the earlier part" in text for text in audit(folder).findings)


def test_a_checkpoint_that_was_changed_is_found(tmp_path, files):
    """The last sum before the break is replaced: nothing asked so far depends on it, so only the audit can tell."""

    def forge(folder):
        checkpoint, _, past = Checkpoint.open(folder.parent / "out" / FOLDER)
        record = past.records[-1]
        name = next(iter(record.arrays))
        record.arrays[name].ravel()[0] = np.nextafter(record.arrays[name].ravel()[0], np.inf)
        checkpoint.keep(record)

    _, folder = in_parts(tmp_path, files, (6,), between=forge)
    assert any("the sum of round 6 is not that of the earlier part" in text for text in audit(folder).findings)


HOLDING = """
import sys
from pathlib import Path
from secirls.aggregator import transcript
with transcript.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("ends", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_no_two_processes_write_one_transcript(tmp_path, files, monkeypatch, ends):
    """An aggregator that outlives its driver for a moment is waited for; one that does not end is not written over."""
    monkeypatch.setattr(room, "HOLD_SECONDS", 60.0 if ends else 0.3)
    holders = []

    def other(folder):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        if ends:
            threading.Timer(0.5, holder.stdin.close).start()

    try:
        # What this process held ends with the part before, as it does with the process of an aggregator.
        if ends:
            result, folder = in_parts(tmp_path, files, (5,), between=other)
            check_clean(folder, files, len(result.report["rounds"]))
        else:
            with pytest.raises(InputError, match="is still written by another process"):
                in_parts(tmp_path, files, (5,), between=other)
    finally:
        for holder in holders:
            holder.stdin.close()
            holder.wait(30)
            holder.stdout.close()


@pytest.mark.parametrize("what", ["another fit's", "none", "empty"])
def test_only_its_own_transcript_is_continued(tmp_path, files, kept, what):
    def replace(folder):
        shutil.rmtree(folder)
        if what == "another fit's":
            shutil.copytree(kept[0], folder)
        elif what == "empty":
            folder.mkdir()

    with pytest.raises(InputError, match="holds no transcript of this fit to continue"):
        in_parts(tmp_path, files, (5,), between=replace)
