"""Files as they are found: stores of another form, marks of an editor, locks, copies, and what a tool leaves out."""

import fcntl
import json
import shutil
import warnings

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

import secirls
from secirls.agreement import order

NUMBERS = ["log2FoldChange", "lfcSE", "pvalue"]
MARK = b"\xef\xbb\xbf"


@pytest.fixture
def trial(trial):
    """With short fits: how a file is read does not depend on what is computed."""
    trial.usual["--preset"] = "irls"
    return trial


def write_store(trial, version=2):
    store = trial.folder / "berlin.zarr"
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")  # about the version that will be written by default
        trial.adata("berlin").write_zarr(store)
    return store


@pytest.mark.parametrize("version", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_zarr_store_is_read_as_the_h5ad_it_could_be(trial, version):
    files = trial.write()
    plain = trial.fit(files, out="plain")
    store = write_store(trial, version)
    assert trial.fit({**files, "berlin": store})[NUMBERS].equals(plain[NUMBERS])


def test_a_folder_that_is_no_store_and_a_store_that_is_damaged_are_named(trial):
    files = trial.write()
    (trial.folder / "folder").mkdir()
    told = trial.refused({**files, "berlin": trial.folder / "folder"})
    assert "site 'berlin'" in told
    assert "is a folder without a zarr store, and an h5ad file is wanted" in told
    store = write_store(trial)
    shutil.rmtree(store / "obs")
    told = trial.refused({**files, "berlin": store})
    assert str(store) in told
    assert "can't be read as zarr" in told


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_yes_and_no_are_no_counts(trial, form):
    files = trial.write()
    adata = trial.adata("berlin")
    adata.X = form(np.asarray(adata.X) > 20)
    adata.write_h5ad(files["berlin"])
    told = trial.refused(files)
    assert f"site 'berlin', file {str(files['berlin'])!r}" in told
    assert "holds yes or no, not counts" in told


def test_a_sample_without_any_count_is_thought_of(trial):
    files = trial.write()
    adata = trial.adata("berlin")
    adata.X[3] = 0
    adata.write_h5ad(files["berlin"])
    assert "(an empty sample does that to all)" in trial.refused(files)


def test_a_file_that_another_process_writes_is_said_to_be_locked(trial):
    files = trial.write()
    with files["lyon"].open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as HDF5 does for whoever writes
        told = trial.refused(files)
    assert "site 'lyon'" in told
    assert "is locked" in told
    assert np.isfinite(trial.fit(files)["lfcSE"]).all()


def test_a_file_that_may_not_be_read_is_said_so(trial, monkeypatch):
    files = trial.write()

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(h5py, "File", forbidden)
    assert "can't be read (Permission denied)" in trial.refused(files)


def federation(trial, files, **tables):
    """A federation file's text."""
    lines = ["engine = 'local'", "[sites]", *(f"{name} = '{path}'" for name, path in files.items())]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = '{value}'" for name, value in values.items())]
    return "\r\n".join([*lines, "[fit]", "design = '~ condition'", ""])


def mark(path):
    path.write_bytes(MARK + path.read_bytes().replace(b"\n", b"\r\n"))


def test_a_byte_order_mark_is_no_part_of_any_file(trial, run):
    files = trial.write()
    plain = trial.fit(files, "--preset", "deseq2", out="plain")
    keys = trial.folder / "keys"
    for name in files:
        assert run("keys", "new", name, "--out", keys)[0] == 0
        mark(keys / f"{name}.pub")
        mark(keys / f"{name}.key")
        (trial.folder / f"{name}.policy").write_bytes(MARK + b"min_samples = 2\r\n")
    roster = trial.folder / "roster.json"
    assert run("keys", "roster", *(keys / f"{name}.pub" for name in files), "--out", roster)[0] == 0
    mark(roster)
    tables = {
        "keys": {name: keys / f"{name}.key" for name in files},
        "policies": {name: trial.folder / f"{name}.policy" for name in files},
    }
    path = trial.folder / "federation.toml"
    path.write_bytes(MARK + federation(trial, files, **tables).encode())
    code, _, error = run("fit", path, "--roster", roster, "--out", "marked")
    assert code == 0, error
    assert trial.table("marked")[NUMBERS].equals(plain[NUMBERS])
    # The policies were heard, not skipped.
    (trial.folder / "lyon.policy").write_bytes(MARK + b"min_samples = 200\r\n")
    code, _, error = run("fit", path, "--roster", roster, "--out", "strict")
    assert code == 2
    assert "site 'lyon': its policy refuses: min_samples" in error


def test_a_gene_list_with_a_byte_order_mark_names_its_first_gene(trial):
    genes = trial.folder / "genes.txt"
    genes.write_bytes(MARK + b"g0\r\ng3\r\n")
    told = trial.refused(trial.write(), "--preset", "irls", "--refit-layer", "none", "--refit-genes", genes)
    assert "layer 'none'" in told  # the names were taken, and only the layer is missing
    genes.write_bytes(MARK + b"g77\r\n")
    files = trial.write()
    for path in files.values():
        adata = anndata.read_h5ad(path)
        adata.layers["replaced"] = adata.X
        adata.write_h5ad(path)
    assert "refit_genes names 'g77'" in trial.refused(
        files, "--preset", "irls", "--refit-layer", "replaced", "--refit-genes", genes
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("[sites]".encode("utf-16"), "is saved as UTF-16: save it as UTF-8"),
        (b"[sites]\na = '\xe4'", "is not UTF-8 text"),
    ],
)
def test_a_text_in_another_encoding_is_named(trial, run, data, problem):
    (trial.folder / "f.toml").write_bytes(data)
    code, _, error = run("fit", "f.toml")
    assert code == 2
    assert f"file 'f.toml': {problem}" in error


@pytest.mark.parametrize(
    "form", [np.asarray, pytest.param(sparse.csr_matrix, marks=pytest.mark.slow), sparse.csc_matrix]
)
def test_data_left_on_the_disk_are_read_when_they_are_needed(trial, form):
    files = trial.write()
    plain = secirls.fit(files, design="~ condition", engine="local")
    for name, path in files.items():
        adata = trial.adata(name)
        adata.X = form(adata.X)
        adata.write_h5ad(path)
    backed = {name: anndata.read_h5ad(path, backed="r") for name, path in files.items()}
    try:
        fitted = secirls.fit(backed, design="~ condition", engine="local")
        assert fitted.table.equals(plain.table)
        assert all(adata.isbacked for adata in backed.values())  # whoever gave them finds them as they were
    finally:
        for adata in backed.values():
            adata.file.close()


def test_genes_without_counts_need_no_dispersion_and_others_do(trial):
    alpha = np.full(12, 0.1)
    for name in trial.counts:
        trial.counts[name][:, [2, 7]] = 0
        trial.var[name]["alpha"] = alpha
    plain = trial.fit(trial.write(), "--dispersions", "alpha", out="plain")
    alpha[[2, 7]] = np.nan
    for name in trial.counts:
        trial.var[name]["alpha"] = alpha
    fitted = trial.fit(trial.write("nan"), "--dispersions", "alpha")
    assert fitted[NUMBERS].equals(plain[NUMBERS])
    assert (fitted["status"] == "all_zero").sum() == 2
    # The broken twin: one count at one site, and the gene needs its dispersion there.
    trial.counts["turin"][0, 7] = 1
    told = trial.refused(trial.write("twin"), "--dispersions", "alpha")
    assert "site 'turin'" in told
    assert "var column 'alpha'" in told
    assert "gene 'g7'" in told


def test_a_gene_that_counts_elsewhere_needs_the_same_dispersion_everywhere(trial):
    for name in trial.counts:
        trial.var[name]["alpha"] = np.full(12, 0.1)
    trial.counts["berlin"][:, 7] = 0
    trial.var["berlin"]["alpha"] = np.where(np.arange(12) == 7, np.nan, 0.1)
    assert "dispersions differ" in trial.refused(trial.write(), "--dispersions", "alpha")


@pytest.mark.parametrize("way", ["path", "link", "hard link", "copy", "other spelling"])
def test_one_file_is_not_two_sites(trial, way):
    files = trial.write()
    again = trial.folder / "again.h5ad"
    if way == "link":
        again.symlink_to(files["berlin"])
    elif way == "hard link":
        again.hardlink_to(files["berlin"])
    elif way == "copy":
        shutil.copyfile(files["berlin"], again)
    else:
        again = files["berlin"] if way == "path" else files["berlin"].parent / ".." / "data" / "berlin.h5ad"
    told = trial.refused({**files, "lyon": again})
    assert "site 'lyon'" in told
    assert str(again) in told
    assert "is the file of site 'berlin' too" in told


def test_without_that_check_samples_would_count_twice(trial, monkeypatch):
    """The broken twin."""
    files = trial.write()
    monkeypatch.setattr(order, "_check_apart", lambda _: None)
    trial.fit({**files, "lyon": files["berlin"]})
    assert json.loads((trial.folder / "out" / "report.json").read_text())["samples"] == 18


def test_files_of_one_size_are_two_sites_where_they_differ(trial):
    trial.counts["lyon"] = trial.counts["berlin"].copy()
    trial.obs["lyon"].index = [name.replace("berlin", "parish") for name in trial.obs["berlin"].index]
    files = trial.write()
    assert files["lyon"].stat().st_size == files["berlin"].stat().st_size
    trial.fit(files)


def test_copies_are_found_block_by_block_and_every_file_is_read_no_further_than_another_is_like_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(order, "_BLOCK_BYTES", 4)
    contents = {
        "a": b"aaaabbbbcccc",
        "b": b"aaaabbbbdddd",
        "c": b"aaaaeeeecccc",
        "d": b"aaaabbbbcccc",
        "e": b"ffffbbbbcccc",
    }
    files = {name: str(tmp_path / name) for name in contents}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    read, honest = [], order._same_block
    monkeypatch.setattr(
        order, "_same_block", lambda names, *given: read.append("".join(names)) or honest(names, *given)
    )
    assert order._copies(files, 12) == ["a", "d"]
    assert read == ["abcde", "abcd", "abd"]
    (tmp_path / "d").unlink()  # the site that opens it says so
    assert order._copies(files, 12) == []
    assert order._copies({"a": files["a"]}, 12) == []


def test_one_object_is_not_two_sites(trial):
    berlin, turin = trial.adata("berlin"), trial.adata("turin")
    with pytest.raises(secirls.InputError, match="site 'lyon': is the AnnData of site 'berlin' too"):
        secirls.fit({"berlin": berlin, "lyon": berlin, "turin": turin}, design="~ condition", engine="local")


@pytest.mark.parametrize("written", [r"C:\temp\new.h5ad", r"\\nas\runs\b.h5ad"])
def test_a_windows_path_of_which_toml_knows_all_escapes_is_told_as_one(trial, run, written):
    files = trial.write()
    place = trial.folder / "federation.toml"
    text = federation(trial, files)
    place.write_text(text.replace(f"'{files['berlin']}'", f'"{written}"'), encoding="utf-8")
    code, _, error = run("fit", place)
    assert code == 2
    assert f"file {str(place)!r}: a path with backslashes stands in single quotes: " in error
    place.write_text(text.replace(str(files["berlin"]), written), encoding="utf-8")
    assert f"{repr(written)[1:-1]}': is missing" in run("fit", place)[2], "in single quotes it is the path"
