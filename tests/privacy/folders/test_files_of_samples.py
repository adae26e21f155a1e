"""What a site makes of its own data at home: counts, scores, own coefficients. Nobody reads it who can't read the data.

Others have accounts on the machine, and the data is closed to them. A file that is made as any other is open to all
where the system's habit (umask) is the usual one. The twin makes it so.
"""

import os
import stat
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls import whole_file
from secirls.site.own_file import SUFFIX, write_own
from secirls.whole_file import write_whole

CLOSED, OF_A_GROUP = 0o600, 0o640
MADE = {
    "transform": ["transform", "a.h5ad"],
    "transform, as tables": ["transform", "a.h5ad", "--out", "a.csv"],
    "scores": ["scores", "a.h5ad", "--plots", "png"],
}


@pytest.fixture(autouse=True)
def usual():
    """The usual umask: what is made is read by all."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """The folder of a fit with components, and its three sites' files."""
    place, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(2)
    sites, base = {}, rng.uniform(3, 6, 60)
    for name in ("a", "b", "c"):
        counts = rng.negative_binomial(5, 5 / (5 + np.exp(base + 0.3 * rng.normal(size=(12, 1)))))
        obs = pd.DataFrame({"condition": ["u", "t"] * 6}, index=[f"{name}{i}" for i in range(12)])
        sites[name] = place / f"{name}.h5ad"
        anndata.AnnData(
            counts.astype(np.int32), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(60)])
        ).write_h5ad(sites[name])
    asked = {"engine": "local", "protocol": "plain", "kernel": "numpy", "components": 1}
    loose = {"directions_per_sample": 0.5, "sample_share": 1.0}
    secirls.fit({name: str(file) for name, file in sites.items()}, design="~ condition", **asked, **loose).write(
        place / "fit"
    )
    return place


def made(run, fit, place, words, mode):
    """What may be done with each file that a command makes of data with these permissions."""
    (place / "a.h5ad").write_bytes((fit / "a.h5ad").read_bytes())
    (place / "a.h5ad").chmod(mode)
    code, _, error = run(*words, "--fit", fit / "fit")
    assert code == 0, error
    return {
        file.name: stat.S_IMODE(file.stat().st_mode)
        for file in place.iterdir()
        if file.is_file() and file.name != "a.h5ad"
    }


@pytest.mark.parametrize("mode", [CLOSED, OF_A_GROUP])
@pytest.mark.parametrize("words", MADE.values(), ids=MADE)
def test_what_is_made_of_a_sites_data_is_read_by_nobody_else(run, fit, tmp_path, words, mode):
    told = made(run, fit, tmp_path, words, mode)
    assert told
    assert set(told.values()) == {mode}, told


@pytest.mark.parametrize("words", MADE.values(), ids=MADE)
def test_the_twin_that_makes_them_as_any_other_file_has_all_counts_read_by_everybody(
    run, fit, tmp_path, monkeypatch, words
):
    monkeypatch.setattr(whole_file, "_permitted", lambda _: 0o666)
    assert set(made(run, fit, tmp_path, words, CLOSED).values()) == {0o644}


def test_so_are_its_own_coefficients_whatever_was_there_before(tmp_path):
    data = tmp_path / "a.h5ad"
    data.touch(mode=CLOSED)
    data.with_name(data.name + SUFFIX).touch(mode=0o644)
    write_own(data, ["g1"], ["patient[T.p2]"], np.ones((1, 1)))
    assert stat.S_IMODE(data.with_name(data.name + SUFFIX).stat().st_mode) == CLOSED


def test_what_is_public_is_open_and_the_umask_is_the_most_of_all(fit, tmp_path):
    assert stat.S_IMODE((fit / "fit" / "results.csv").stat().st_mode) == 0o644
    data = tmp_path / "open"
    data.touch(mode=0o644)
    os.umask(0o077)
    write_whole(tmp_path / "made", b"", like=data)
    assert stat.S_IMODE(Path(tmp_path / "made").stat().st_mode) == CLOSED
