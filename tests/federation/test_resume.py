"""A fit that ended early goes on after its last finished round, and ends with the same bits."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from secirls import fitting
from secirls.aggregator.checkpoint import FOLDER, Checkpoint
from secirls.agreement.faults import PartyFaultError, SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.agreement.past import OverError, Past
from secirls.carriers.local import LocalFederation
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated

SITES = 5


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Five files of six simulated samples over 40 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=SITES, samples=30, genes=40, seed=3)
    return {name: str(path) for name, path in paths.items()}


def manifest(files, **fit):
    options = {
        "design": "~ condition",
        "preset": "irls",
        "kernel": "numpy",
        "min_contributors": 1,
        "consistency": False,
    }
    return Manifest.read("test", sites=files, engine="local", fit={**options, **fit})


def tables(result):
    return result.table.to_csv(float_format="%.17g"), result.coefficients.to_csv(float_format="%.17g")


@pytest.fixture(scope="session")
def undisturbed(files, tmp_path_factory):
    return fitting.fit_manifest(manifest(files), tmp_path_factory.mktemp("undisturbed"))


class StopError(Exception):
    pass


def stop_after(number):
    def on_round(told):
        if told.round == number:
            raise StopError

    return on_round


ENDS, EVERYDAY = [0, 2, 4, 5, 7, 9], {0, 4, 5, 9}


@pytest.mark.parametrize(
    ("number", "protocol"),
    [
        *((number, "pairwise") for number in EVERYDAY),
        *(pytest.param(number, "pairwise", marks=pytest.mark.slow) for number in ENDS if number not in EVERYDAY),
        (5, "pairwise-lean"),
        *(pytest.param(5, protocol, marks=pytest.mark.slow) for protocol in ("plain", "additive")),
        *(
            pytest.param(number, protocol, marks=pytest.mark.slow)
            for number in ENDS
            if number != 5
            for protocol in ("plain", "additive")
        ),
    ],
)
def test_the_driver_ends_after_any_round(tmp_path, files, undisturbed, number, protocol):
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files, protocol=protocol), tmp_path, on_round=stop_after(number))
    asked = []
    result = fitting.resume(tmp_path, on_round=lambda told: asked.append(told.round))
    assert tables(result) == tables(undisturbed)
    assert asked == list(range(number + 1, len(undisturbed.report["rounds"])))
    assert result.report["rounds"] == undisturbed.report["rounds"]
    # What earlier rounds cost is still told, once.
    protect = result.ledger[result.ledger.verb == "protect"]
    assert (protect.groupby("round").size() == SITES).all()
    assert len(set(protect["round"])) == len(undisturbed.report["rounds"])


@pytest.fixture(scope="session")
def outlying(tmp_path_factory):
    """Five files of six samples over 40 genes, some of which have an outlier."""
    import anndata

    paths = write_simulated(tmp_path_factory.mktemp("outlying"), sites=SITES, samples=30, genes=40, seed=3)
    adata = anndata.read_h5ad(paths["site2"])
    adata.X[1, :4] = 5_000
    adata.write_h5ad(paths["site2"])
    return {name: str(path) for name, path in paths.items()}


@pytest.mark.slow
def test_the_whole_deseq2_goes_on_after_any_stage(tmp_path, outlying):
    asked = manifest(outlying, preset="deseq2", protocol="plain")
    whole = fitting.fit_manifest(asked, tmp_path / "whole")
    stages, last = whole.report["stages"], 0
    assert {"profile", "outliers", "refit"} <= {stage["stage"] for stage in stages}
    assert whole.table["replaced"].any()
    rounds = len(whole.report["rounds"])
    for number in sorted({3, 7, 12, rounds // 2, rounds - 12, rounds - 2}):
        folder = tmp_path / str(number)
        with pytest.raises(StopError):
            fitting.fit_manifest(asked, folder, on_round=stop_after(number))
        result = fitting.resume(folder)
        assert tables(result) == tables(whole)
        assert result.dispersions.equals(whole.dispersions)
        assert result.report["stages"] == stages
        assert number > last
        last = number


@pytest.mark.slow
def test_a_site_that_falls_silent_ends_the_search_for_outliers(tmp_path, outlying, monkeypatch):
    asked = manifest(outlying, preset="deseq2", on_dropout="continue")
    calls = [told["query"] for told in fitting.fit_manifest(asked, tmp_path / "whole").report["rounds"]]
    silence(monkeypatch, "site3", "contribute", calls.index("irls") + 2)
    result = fitting.fit_manifest(asked, tmp_path / "without")
    assert any("Outliers were not looked for: not all sites" in text for text in result.report["disclosure"])
    assert not result.table["replaced"].any()
    assert result.table["pvalue"].notna().any()


def test_it_can_end_again_and_again(tmp_path, files, undisturbed):
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files, rounds_per_batch=3), tmp_path, on_round=stop_after(1))
    for number in (4, 6, 9):
        with pytest.raises(StopError):
            fitting.resume(tmp_path, on_round=stop_after(number))
    assert tables(fitting.resume(tmp_path)) == tables(undisturbed)


@pytest.mark.parametrize("point", [pytest.param("draft written", marks=pytest.mark.slow), "half a draft"])
def test_a_round_that_is_half_written_is_not_there(tmp_path, files, undisturbed, point):
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files), tmp_path, on_round=stop_after(6))
    last = tmp_path / FOLDER / "round-00006.npz"
    data = last.read_bytes()
    last.unlink()
    (tmp_path / FOLDER / ".round-00006.npz.0a1b2c3d.draft").write_bytes(
        data if point == "draft written" else data[:100]
    )
    asked = []
    assert tables(fitting.resume(tmp_path, on_round=lambda told: asked.append(told.round))) == tables(undisturbed)
    assert asked[0] == 6


def test_a_damaged_round_is_refused_in_words(tmp_path, files):
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files), tmp_path, on_round=stop_after(6))
    damaged = tmp_path / FOLDER / "round-00003.npz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(InputError, match=r"round-00003\.npz': is not a finished round"):
        fitting.resume(tmp_path)


def test_a_changed_total_asks_another_question_and_is_refused(tmp_path, files):
    """The broken twin of the same bits: one total off by one unit in the last place."""
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files), tmp_path, on_round=stop_after(7))
    checkpoint, _, past = Checkpoint.open(tmp_path / FOLDER)
    record = past.records[5]
    record.arrays["xty"][0, 0] = np.nextafter(record.arrays["xty"][0, 0], np.inf)
    checkpoint.keep(record)
    with pytest.raises(OverError, match="in round 6 another question was asked"):
        fitting.resume(tmp_path)


def test_the_command_promises_no_going_on_where_another_release_began(tmp_path, files, run):
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files), tmp_path / "fit", on_round=stop_after(4))
    checkpoint, _, past = Checkpoint.open(tmp_path / "fit" / FOLDER)
    checkpoint.keep(replace(past.records[2], query=bytes(32)))
    code, _, error = run("resume", "fit")
    assert code == 2
    assert "in round 2 another question was asked than would be now: the fit was begun with another release" in error
    assert "Finished rounds are kept" not in error


def test_without_what_sites_kept_the_bits_would_differ(tmp_path, files, undisturbed, monkeypatch):
    """Recalling is not idle: sites that forget their dispersions can't answer, or answer otherwise."""
    from secirls.site.site import Site

    honest = Site._keep
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files), tmp_path, on_round=stop_after(7))
    forgetful = lambda self, asked, samples, *, recalling=False: samples if recalling else honest(self, asked, samples)  # noqa: E731
    monkeypatch.setattr(Site, "_keep", forgetful)
    with pytest.raises((PartyFaultError, ValueError)):
        assert tables(fitting.resume(tmp_path)) == tables(undisturbed)


def test_other_files_do_not_go_on(tmp_path, files):
    import anndata

    copies = {name: str(shutil.copy(path, tmp_path)) for name, path in files.items()}
    out = tmp_path / "out"
    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(copies), out, on_round=stop_after(6))
    for path in copies.values():
        anndata.read_h5ad(path)[:, 1:].copy().write_h5ad(path)
    with pytest.raises(InputError, match="the genes of the sites' files are not those of the checkpoint"):
        fitting.resume(out)


def silence(monkeypatch, name, verb, call):
    """Let a site fall silent at the n-th call of a verb, whatever federation is made next."""
    calls = {"n": 0}
    ask = LocalFederation.ask

    def asking(self, asked, arguments):
        answers = ask(self, asked, arguments)
        if asked == verb:
            calls["n"] += 1
            if calls["n"] == call:
                answers.pop(name)
        return answers

    monkeypatch.setattr(LocalFederation, "ask", asking)


def test_after_an_abort_the_fit_goes_on_when_the_site_is_back(tmp_path, files, undisturbed, monkeypatch):
    silence(monkeypatch, "site3", "assist", 8)
    with pytest.raises(SilentSitesError, match=r"round 7: site3"):
        fitting.fit_manifest(manifest(files), tmp_path)
    assert tables(fitting.resume(tmp_path)) == tables(undisturbed)


def test_who_fell_silent_stays_out_after_going_on(tmp_path, files, monkeypatch):
    going_on = manifest(files, on_dropout="continue")
    silence(monkeypatch, "site3", "contribute", 8)
    whole = fitting.fit_manifest(going_on, tmp_path / "whole")
    monkeypatch.undo()
    silence(monkeypatch, "site3", "contribute", 8)
    with pytest.raises(StopError):
        fitting.fit_manifest(going_on, tmp_path / "parts", on_round=stop_after(9))
    monkeypatch.undo()
    past = Checkpoint.open(tmp_path / "parts" / FOLDER)[2]
    assert isinstance(past, Past)
    assert past.cohort == ("site1", "site2", "site4", "site5")
    parts = fitting.resume(tmp_path / "parts")
    assert tables(parts) == tables(whole)
    assert parts.report["rounds"] == whole.report["rounds"]
    assert "site3" in parts.report["sites"]
    assert any("Disclosure: in round 7 site site3" in text for text in parts.report["disclosure"])
    assert parts.report["configuration"]["threshold"] == 4


def test_a_checkpoint_holds_public_things_only(tmp_path, files):
    """No sample name, no count vector, no private key: what is in it, the aggregator may say aloud."""
    import anndata

    with pytest.raises(StopError):
        fitting.fit_manifest(manifest(files), tmp_path, on_round=stop_after(9))
    kept = b"".join(path.read_bytes() for path in sorted((tmp_path / FOLDER).iterdir()))
    for path in files.values():
        adata = anndata.read_h5ad(path)
        for sample, row in zip(adata.obs_names, np.asarray(adata.X), strict=True):
            assert sample.encode() not in kept
            assert row.astype("<f8").tobytes() not in kept
    total = Checkpoint.open(tmp_path / FOLDER)[2].records[2].arrays["normalised"]
    assert total.astype("<f8").tobytes() in kept  # the scan finds what is there


def test_the_command_says_how_to_go_on_and_does(tmp_path, files, run, monkeypatch):
    sites = [word for name, path in files.items() for word in ("--site", f"{name}={path}")]
    words = ["fit", *sites, "--design", "~ condition", "--engine", "local", "--min-contributors", "1"]
    assert run(*words, "--out", "whole")[0] == 0
    assert not (tmp_path / "whole" / FOLDER).exists()

    keep = Checkpoint.keep

    def interrupted(self, record):
        keep(self, record)
        if record.told.round == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "keep", interrupted)
    code, _, error = run(*words, "--out", "parts")
    monkeypatch.setattr(Checkpoint, "keep", keep)
    assert code == 130
    assert "secirls resume parts" in error
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [FOLDER]
    assert "holds an unfinished fit" in run(*words, "--out", "parts")[2]
    assert run("resume", "parts")[0] == 0
    for name in ("results.csv", "coefficients.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "parts" / FOLDER).exists()
    code, _, error = run("resume", "whole", "--overwrite")
    assert code == 2
    assert "holds no unfinished fit" in error


@pytest.mark.parametrize("head", ["", "{}", "[1]", json.dumps({"format": 1, "order": {}, "begun": {"sites": 3}})])
def test_a_head_that_is_none_is_refused_in_words(tmp_path, head):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "fit.json").write_text(head)
    with pytest.raises(InputError):
        fitting.resume(tmp_path)
