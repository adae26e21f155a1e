"""Folders that take no files, or are elsewhere than they seem; and fits that were done but for the writing."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from secirls import whole_file
from secirls.aggregator import checkpoint
from secirls.aggregator.checkpoint import FOLDER, Checkpoint, claimed, discard
from secirls.agreement.past import Past
from secirls.outputs.results import Result
from secirls.site.grounds.key_files import keyed_digest, new_key
from secirls.site.site import Site
from secirls.whole_file import UnwritableError, whole_folder, write_whole

FILES = [*("coefficients.csv", "dispersions.csv", "fit.npz", "ranked.rnk", "report.json", "results.csv", "rounds.csv")]
TABLES = ["coefficients.csv", "results.csv"]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def sentence(error):
    lines = [line for line in error.splitlines() if line.startswith("secirls: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


@pytest.fixture
def clean(trial):
    """The tables of an undisturbed fit, byte by byte."""
    trial.fit(trial.write(), out="clean")
    return {name: (trial.folder / "clean" / name).read_bytes() for name in TABLES}


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


@pytest.fixture
def elsewhere(trial, monkeypatch):
    """A folder that renames reach from within alone, as one on another file system."""
    place = trial.folder / "scratch"
    place.mkdir()

    def replace(source, target, real=os.replace):
        inside = [place in Path(name).resolve().parents for name in (source, target)]
        if inside[0] != inside[1]:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="cross-device"):
        (trial.folder / "a").replace(place / "a")
    return place


@pytest.mark.parametrize(
    "kind", ["link", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("mount", "folder below"))]
)
def test_results_get_into_a_folder_on_another_file_system(trial, clean, elsewhere, kind):
    out = {"link": trial.folder / "results", "mount": elsewhere, "folder below": elsewhere / "new" / "results"}[kind]
    if kind == "link":
        out.symlink_to(elsewhere)
    trial.fit(trial.write(), out=out)
    assert tables(out) == clean
    assert sorted(path.name for path in out.iterdir()) == FILES  # neither a draft nor a checkpoint is left
    trial.fit(trial.write(), "--overwrite", out=out)
    assert tables(out) == clean


def test_a_link_to_nothing_and_a_place_below_a_file_are_named(trial, run):
    files = trial.write()
    (trial.folder / "dangling").symlink_to(trial.folder / "nowhere")
    code, _, error = run(*trial.words(files, out="dangling"))
    assert code == 2
    assert "dangling': is a link to nothing" in sentence(error)
    for out in (files["lyon"], files["lyon"] / "below", files["lyon"] / "far" / "below"):
        code, _, error = run(*trial.words(files, out=out))
        assert code == 2
        assert str(out) in sentence(error)
        assert any(why in error for why in ("is a file", "Not a directory"))


def full_at(monkeypatch, call):
    """Let the disk be full at the n-th file that must be there whole."""
    calls = {"n": 0}
    fsync = os.fsync

    def filling(descriptor):
        calls["n"] += 1
        if calls["n"] == call:
            raise FULL
        fsync(descriptor)

    monkeypatch.setattr(whole_file.os, "fsync", filling)


@pytest.mark.parametrize("call", [1, pytest.param(2, marks=pytest.mark.slow), 8])
def test_a_disk_that_fills_up_between_rounds_loses_none_of_them(trial, clean, run, monkeypatch, call):
    with monkeypatch.context() as patch:
        full_at(patch, call)
        code, _, error = run(*trial.words(trial.write()))
    out = trial.folder / "out"
    assert code == 2
    assert str(out / FOLDER) in sentence(error)
    assert "No space left on device" in error
    if call == 1:
        assert not out.exists()  # nothing was begun, and nothing is left
        return
    assert f"'secirls resume {out}' goes on" in error
    assert not list((out / FOLDER).glob(".*.draft"))
    assert len(Checkpoint.open(out / FOLDER)[2].records) == call - 2
    assert run("resume", out)[0] == 0
    assert tables(out) == clean


def test_a_fit_that_a_site_refuses_goes_on_once_its_rules_are_others_and_is_told_so(trial, run):
    files, out = trial.write(), trial.folder / "a b"
    rules = trial.folder / "rules.toml"
    rules.write_text("max_rounds = 1")
    lines = ["engine = 'local'", "[sites]", *(f"{name} = '{path}'" for name, path in files.items())]
    lines += ["[policies]", "lyon = 'rules.toml'", "[fit]", "design = '~ condition'", "preset = 'irls'"]
    (trial.folder / "federation.toml").write_text("\n".join(lines))
    code, _, error = run("fit", trial.folder / "federation.toml", "--out", out)
    assert (code, "max_rounds is 1" in error, "Finished rounds are kept" in error) == (2, True, False)
    assert f"Should that site change its rules, 'secirls resume '{out}'' goes on with the fit." in error
    assert run("resume", out)[0] == 2
    rules.write_text("max_rounds = 1000")
    assert run("resume", out)[0] == 0


def test_results_that_find_no_place_are_written_by_resume_and_the_old_ones_stay(trial, clean, run, monkeypatch):
    files = trial.write()
    trial.fit(files, "--levels", "condition=treated,control")
    out = trial.folder / "out"
    before = contents(out)

    def filling(self, path, *arguments, real=pd.DataFrame.to_csv, **options):
        if Path(path).name == "results.csv":
            real(self, path, *arguments, **options)
            return
        Path(path).write_text("half a")
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", filling)
        code, _, error = run(*trial.words(files, "--overwrite"))
    assert code == 2
    assert f"folder {str(out)!r}: can't be written (No space left on device)" in sentence(error)
    assert f"'secirls resume {out}' goes on" in error
    assert contents(out) == before
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [FOLDER]
    assert run("resume", out)[0] == 2  # the old results are not replaced unasked
    assert contents(out) == before
    assert run("resume", out, "--overwrite")[0] == 0
    assert tables(out) == clean
    assert sorted(path.name for path in out.iterdir()) == FILES


@pytest.mark.parametrize(
    "protocol",
    ["pairwise", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "additive", "paillier"))],
)
def test_a_fit_whose_rounds_are_all_done_is_written(trial, run, monkeypatch, protocol):
    files = trial.write()
    words = ["--protocol", protocol, "--transcript", trial.folder / "transcript"]
    if protocol == "paillier":
        words += ["--key-bits", "2048"]
    clean = trial.fit(files, "--protocol", "plain", out="clean")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Result, "write", interrupted)
        code, _, error = run(*trial.words(files, *words))
    out = trial.folder / "out"
    assert code == 130
    assert f"'secirls resume {out}'" in error
    assert sorted(path.name for path in out.iterdir()) == [FOLDER]
    code, _, error = run("resume", out)
    assert code == 0, error
    assert trial.table().equals(clean)
    assert not (out / FOLDER).exists()
    told = json.loads((out / "report.json").read_text())
    assert told["session"] == ""
    assert len(told["rounds"]) == len(json.loads((trial.folder / "clean" / "report.json").read_text())["rounds"])
    code, shown, error = run("audit", trial.folder / "transcript")
    assert code == 0, shown + error


def test_a_finished_fit_that_asks_again_is_still_found_by_the_audit(trial, run, monkeypatch):
    """The broken twin of going on only to write: a last round that is asked a second time."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Result, "write", interrupted)
        run(*trial.words(trial.write(), "--protocol", "plain", "--transcript", trial.folder / "transcript"))
    max((trial.folder / "out" / FOLDER).glob("round-*")).unlink()
    assert run("resume", trial.folder / "out")[0] == 0
    code, _, error = run("audit", trial.folder / "transcript")
    assert code == 1
    assert "a fit that ended with a result was resumed" in error


@pytest.fixture
def interrupted(trial, run, monkeypatch):
    """A fit that ended after its seventh round, and its files."""
    files = trial.write()
    for name, path in files.items():
        adata = trial.adata(name)
        adata.obs["s"] = 1.0
        adata.var["alpha"] = 0.1
        adata.write_h5ad(path)
    words = ("--preset", "irls", "--size-factors", "s", "--dispersions", "alpha")
    trial.fit(files, *words, out="clean")
    keep = Checkpoint.keep

    def interrupted(self, record):
        keep(self, record)
        if record.told.round == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "keep", interrupted)
        assert run(*trial.words(files, *words))[0] == 130
    return files


def change(path, how):
    import anndata

    adata = anndata.read_h5ad(path)
    how(adata)
    adata.write_h5ad(path)


def another_count(adata):
    adata.X[0, 3] += 1


def another_label(adata):
    adata.obs["condition"] = adata.obs["condition"].to_list()[::-1]


def another_factor(adata):
    adata.obs.iloc[2, adata.obs.columns.get_loc("s")] = 1.5


def another_dispersion(adata):
    adata.var["alpha"] = 0.2


def another_order(adata):
    adata.X = adata.X[[2, 1, 0, 3, 4, 5]]


@pytest.mark.parametrize(
    "how",
    [
        another_count,
        another_order,
        *(pytest.param(how, marks=pytest.mark.slow) for how in (another_label, another_factor)),
    ],
)
def test_data_that_changed_meanwhile_are_named_with_their_site(trial, run, interrupted, how):
    change(interrupted["lyon"], how)
    code, _, error = run("resume", trial.folder / "out")
    assert code == 2
    told = sentence(error)
    assert "site 'lyon'" in told
    assert str(interrupted["lyon"]) in told
    assert "holds other data than when the fit began" in told


def test_dispersions_that_changed_everywhere_meanwhile_are_named(trial, run, interrupted):
    for path in interrupted.values():
        change(path, another_dispersion)
    code, _, error = run("resume", trial.folder / "out")
    assert code == 2
    assert "holds other data than when the fit began" in sentence(error)


def test_a_file_that_changed_where_no_fit_looks_goes_on_and_so_does_one_that_was_put_back(trial, run, interrupted):
    def harmless(adata):
        adata.obs["age"] = range(len(adata))
        adata.obs_names = [f"patient{i}" for i in range(len(adata))]

    change(interrupted["berlin"], harmless)
    copy = shutil.copy(interrupted["lyon"], trial.folder / "copy.h5ad")
    change(interrupted["lyon"], another_count)
    assert run("resume", trial.folder / "out")[0] == 2
    shutil.copyfile(copy, interrupted["lyon"])
    assert run("resume", trial.folder / "out")[0] == 0
    assert tables(trial.folder / "out") == tables(trial.folder / "clean")


def test_without_that_check_a_resumed_fit_would_mix_two_files(trial, run, interrupted, monkeypatch):
    """The broken twin: neither the old data's results nor the new ones', and not a word."""
    change(interrupted["lyon"], another_label)
    monkeypatch.setattr(Past, "check", lambda *_: None)
    assert run("resume", trial.folder / "out")[0] == 0
    trial.fit(interrupted, "--preset", "irls", "--size-factors", "s", "--dispersions", "alpha", out="after")
    mixed = trial.table()["baseMean"], trial.table()["pvalue"]
    for other in ("clean", "after"):
        assert not (trial.table(other)["baseMean"].equals(mixed[0]) and trial.table(other)["pvalue"].equals(mixed[1]))


def test_what_names_the_data_is_no_test_for_guesses_where_the_site_has_a_key(trial, monkeypatch, tmp_path):
    """Whoever guesses a small site's counts right must not be told so: without the key the name can't be made."""
    from secirls.agreement.order import Place
    from secirls.config import Config

    path, config = trial.write()["lyon"], Config(design="~ condition")
    keys = [str(new_key("lyon", tmp_path / folder)[0]) for folder in ("one", "two")]
    named = [Site(Place("lyon", str(path), key), config).survey().data for key in (*keys, keys[0])]
    assert named[0] == named[2] != named[1]
    plain = Site(Place("lyon", str(path)), config).survey().data
    assert plain not in named
    # The broken twin: a plain digest is the same for whoever guesses, so it tells.
    guess = Site(Place("lyon", trial.adata("lyon")), config).survey().data
    assert guess == plain
    public = json.loads(Path(keys[0]).with_suffix(".pub").read_text())["ed25519_public"]
    Path(keys[1]).write_text(json.dumps({"name": "lyon", "ed25519_private": public}))
    assert keyed_digest("lyon", keys[1], b"") != keyed_digest("lyon", keys[0], b"")


def test_two_fits_do_not_work_in_one_folder(trial, clean, run):
    files, out = trial.write(), trial.folder / "out"
    imports = "from secirls.aggregator.checkpoint import claimed\nfrom pathlib import Path"
    hold = f"{imports}\nwith claimed(Path({str(out)!r})):"
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}\n    print('held', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    ) as other:  # fmt: skip
        assert other.stdout.readline() == "held\n"
        for words in ([], ["--overwrite"]):
            code, _, error = run(*trial.words(files, *words))
            assert code == 2
            assert f"folder {str(out)!r}: another fit is at work in it" in sentence(error)
        other.communicate("\n")
    assert not out.exists()  # it had begun nothing
    trial.fit(files)
    assert tables(out) == clean


def test_a_fit_is_not_resumed_twice_at_once(trial, run, interrupted):
    out = trial.folder / "out"
    with claimed(out):
        code, _, error = run("resume", out)
        assert code == 2
        assert "another fit is at work in it" in sentence(error)
    assert run("resume", out)[0] == 0
    assert tables(out) == tables(trial.folder / "clean")


def test_a_whole_file_is_there_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with monkeypatch.context() as patch:
        full_at(patch, 1)
        with pytest.raises(UnwritableError, match=r"file '.*file': can't be written \(No space left on device\)"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("twin", [False, True])
def test_results_are_on_the_disk_before_the_rounds_that_they_were_made_from_go(trial, monkeypatch, twin):
    """The twin leaves that to the system: after a power cut there were neither."""
    settled, held, out, settle = set(), [], trial.folder / "out", whole_file.settle

    def note(place):
        settle(place)
        settled.add(place.stat().st_ino)

    def last(folder):
        held.append({path.name for path in folder.iterdir() if path.is_file() and path.stat().st_ino in settled})
        discard(folder)

    monkeypatch.setattr(whole_file, "settle", (lambda place: None) if twin else note)
    monkeypatch.setattr(checkpoint, "discard", last)
    trial.fit(trial.write())
    assert set(FILES) <= {path.name for path in out.iterdir()}
    assert held[0] == (set() if twin else set(FILES))


@pytest.mark.parametrize("twin", [False, True])
def test_two_that_write_one_file_at_once_both_write_it_whole(tmp_path, monkeypatch, twin):
    """The twin has one draft for both: the first one finds its own taken away, and is told of a mistake."""
    path, fsync = tmp_path / "file", os.fsync

    def meanwhile(descriptor):
        fsync(descriptor)
        monkeypatch.setattr(whole_file.os, "fsync", fsync)
        write_whole(path, b"other")

    if twin:
        monkeypatch.setattr(whole_file.secrets, "token_hex", lambda _: "")
    monkeypatch.setattr(whole_file.os, "fsync", meanwhile)
    if twin:
        with pytest.raises(UnwritableError, match="No such file"):
            write_whole(path, b"mine")
    else:
        write_whole(path, b"mine")
        assert path.read_bytes() == b"mine"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_drafts_of_a_killed_fit_go_with_its_checkpoint(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in (
        ".fit.json.0a1b2c3d.draft",
        ".round-00006.npz.0a1b2c3d.draft",
        ".opening.json.draft",
        "round-00001.npz",
    ):
        (folder / name).write_bytes(b"")
    (folder / ".mine.0a1b2c3d.draft").write_bytes(b"")
    discard(tmp_path)
    assert [path.name for path in folder.iterdir()] == [".mine.0a1b2c3d.draft"]


def test_a_folder_gets_all_of_its_drafts_or_none(tmp_path):
    out = tmp_path / "far" / "out"

    def fill(fail):
        with whole_folder(out) as draft:
            (draft / "a").write_text("a")
            if fail:
                raise FULL
            (draft / "b").write_text("b")

    with pytest.raises(UnwritableError, match=r"folder '.*out': can't be written"):
        fill(fail=True)
    assert not out.exists()
    fill(fail=False)
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]


def can_mount():
    return sys.platform == "linux" and subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("mount -t tmpfs -o size=16k none mnt", "No space left on device"),
        pytest.param("mount -t tmpfs -o size=100k none mnt", "No space left on device", marks=pytest.mark.slow),
        ("mount -t tmpfs none mnt && mount -o remount,ro mnt", "Read-only file system"),
    ],
)
def test_real_disks_that_are_full_or_read_only(trial, mount, reason):
    if not can_mount():
        pytest.skip("this machine does not let us mount")
    (trial.folder / "mnt").mkdir()
    words = [str(word) for word in trial.words(trial.write(), "--kernel", "numpy", out=trial.folder / "mnt" / "out")]
    script = f"{mount} && {shlex.join([sys.executable, '-m', 'secirls.cli', *words])}"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, cwd=trial.folder, env=env, check=False
    )
    assert done.returncode == 2, done.stderr
    assert str(trial.folder / "mnt" / "out") in sentence(done.stderr)
    assert reason in done.stderr
