"""A machine's first fit: what is wrong with a file is told before kernels are compiled, which takes a minute."""

from __future__ import annotations

import numpy as np
import pytest

import secirls
from secirls import fitting
from secirls.carriers.local import LocalFederation
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.numerics import first_use
from secirls.numerics.dispersion import sums
from secirls.numerics.regression import kernels

COMPILING = "compiling kernels (kept for the next time)"


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    return write_simulated(tmp_path_factory.mktemp("first"), sites=3, samples=18, genes=30, seed=4)


@pytest.fixture
def told(monkeypatch):
    """What is noted, and when it is compiled, on a machine that never did."""
    said = []
    monkeypatch.setattr(first_use, "are_kept", lambda: False)
    monkeypatch.setattr(first_use, "warm_up", lambda **_: said.append("compiled"))
    monkeypatch.setattr(first_use, "OTHER_HALF", "pass")  # there is nothing to compile
    return said


def wrong(sites, tmp_path):
    (tmp_path / "wrong.h5ad").write_bytes(b"no h5ad")
    return {**sites, "site2": tmp_path / "wrong.h5ad"}


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_mistake_is_told_before_anything_is_compiled(sites, told, tmp_path, engine):
    with pytest.raises(InputError, match=r"site 'site2'.*can't be read as h5ad"):
        secirls.fit(wrong(sites, tmp_path), design="~ condition", engine=engine, on_note=told.append)
    with pytest.raises(InputError, match="obs column 'batch': is missing"):
        secirls.fit(sites, design="~ batch", engine=engine, on_note=told.append)
    assert "compiled" not in told
    assert COMPILING not in told


def test_the_twin_that_compiles_first_is_seen(sites, told, tmp_path, monkeypatch):
    monkeypatch.setattr(first_use, "are_kept", lambda: True)
    with pytest.raises(AssertionError):
        test_a_mistake_is_told_before_anything_is_compiled(sites, told, tmp_path, "local")


def test_what_a_site_says_as_it_looks_is_its_own_word(sites, told, monkeypatch):
    class Blaming(LocalFederation):
        def ask(self, verb, arguments):
            return super().ask(verb, arguments) | {"site3": InputError("site 'site1': is missing")}

    monkeypatch.setattr(fitting, "LocalFederation", Blaming)
    with pytest.raises(InputError, match=r"^site 'site1': is missing \(so site3 says\)$"):
        secirls.fit(sites, design="~ condition", engine="local", on_note=told.append)
    monkeypatch.setattr(fitting, "heard", lambda party, verb, error: error)  # the twin, in which it blames another
    with pytest.raises(InputError, match=r"^site 'site1': is missing$"):
        secirls.fit(sites, design="~ condition", engine="local", on_note=told.append)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_the_fit_that_follows_is_the_same(sites, told, monkeypatch, engine):
    asked = {"design": "~ condition", "engine": engine, "preset": "irls", "protocol": "plain"}
    first = secirls.fit(sites, **asked, on_note=told.append)
    noted = [text for text in told if "so far to start" not in text]  # on a machine that is busy
    assert noted[:3] == ["starting the sites, opening their files", COMPILING, "compiled"]
    monkeypatch.undo()
    again = []
    assert np.array_equal(
        first.table["pvalue"], secirls.fit(sites, **asked, on_note=again.append).table["pvalue"], equal_nan=True
    )
    assert COMPILING not in again


def test_kernels_are_known_once_they_are_warm():
    kernels.warm_up()
    sums.warm_up()
    assert kernels.are_kept()
    assert sums.are_kept()
