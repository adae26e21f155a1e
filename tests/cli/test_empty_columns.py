"""Nested factors: columns that no sample is in are refused by name, or left out with a word where that is asked for."""

import json

import numpy as np
import pytest

from secirls.algorithms import beginning
from secirls.algorithms.groundwork.empty import DropEmptyQuery
from secirls.algorithms.query import QueryError
from secirls.numerics.held.samples import Samples
from secirls.outputs.results import Result

NESTED = "~ grp + grp:ind + condition"
BY_HAND = "~ grp + x2 + x3 + y2 + condition"
FAST = ("--kernel", "numpy", "--protocol", "plain", "--contrast", "condition", "treated", "control")
OPTIONS = (*FAST, "--ridge", "1e-12", "--no-cooks", "--dispersion-fit", "moments")
EMPTY = "grp[y]:ind[T.i3]"


@pytest.fixture
def nested(trial):
    """Three individuals in one group, two in the other, and their dummies by hand."""
    for number, obs in enumerate(trial.obs.values()):
        turn = (np.arange(6) + number) % 6
        obs["grp"] = np.array(list("xxxyyx"))[turn]
        obs["ind"] = np.array(["i1", "i2", "i3", "i1", "i2", "i2"])[turn]
        for name in ("x2", "x3", "y2"):
            obs[name] = ((obs["grp"] == name[0]) & (obs["ind"] == f"i{name[1]}")).astype(float)
    return trial


def report(trial, out="out"):
    return json.loads((trial.folder / out / "report.json").read_text())


def test_an_empty_column_is_refused_by_name(nested):
    assert EMPTY in nested.refused(nested.write(), design=NESTED)


def test_without_it_the_fit_is_that_of_dummies_made_by_hand(nested):
    files = nested.write()
    dropped = nested.fit(files, "--drop-empty", *OPTIONS, design=NESTED)
    by_hand = nested.fit(files, *OPTIONS, out="by-hand", design=BY_HAND)
    np.testing.assert_allclose(dropped["dispersion"], by_hand["dispersion"], rtol=1e-6)
    np.testing.assert_allclose(dropped["lfcSE"], by_hand["lfcSE"], rtol=1e-4)
    between = (dropped["log2FoldChange"] - by_hand["log2FoldChange"]) / by_hand["lfcSE"]
    assert np.abs(between).max() < 1e-4, "in standard errors: IRLS stops by its deviance"
    told = report(nested)
    assert EMPTY not in told["design_columns"]
    assert len(told["design_columns"]) == 6
    assert f"Dropped from the design, for no sample is in them: {EMPTY}." in told["disclosure"]
    assert [found["query"] for found in told["rounds"]][:2] == ["census", "drop_empty"]


@pytest.mark.slow
def test_a_whole_deseq2_goes_on_without_it_and_so_does_one_with_numbers(nested):
    for site, obs in nested.obs.items():
        obs["year"] = 2010 + np.array([0, 3, 1, 7, 2, 5]) + len(site) % 3
    files = nested.write()
    nested.fit(files, "--drop-empty", *FAST, out="whole", design=NESTED)
    nested.fit(files, "--drop-empty", *FAST, out="years", design=f"{NESTED} + year")
    assert EMPTY not in report(nested, "whole")["design_columns"] + report(nested, "years")["design_columns"]
    assert len(report(nested, "years")["design_columns"]) == 7


def test_where_no_column_is_empty_nothing_is_asked(nested):
    nested.fit(nested.write(), "--drop-empty", *OPTIONS, design="~ grp + condition")
    assert "drop_empty" not in [found["query"] for found in report(nested)["rounds"]]


def test_a_contrast_of_what_is_dropped_ends_in_a_sentence_before_the_fit(nested):
    """The third individual is in the model by its cells alone, one of which is empty."""
    for obs in nested.obs.values():
        obs["ind"] = obs["ind"].where(obs["grp"] == "x", obs["ind"].map({"i1": "i1", "i2": "i1"}))
    told = nested.refused(
        nested.write(),
        "--drop-empty",
        "--contrast",
        "grp",
        "y",
        "x",
        "--levels",
        "ind=i3,i1,i2",
        design="~ 0 + grp:ind",
    )
    assert "contrast grp y x asks for 'grp[y]:ind[i3]', which was dropped: no sample is in it" in told


LAST = ("--levels", "condition=control,treated,other")


def test_without_its_last_level_the_default_contrast_is_of_the_last_that_has_samples(trial):
    files, design = trial.write(), "~ C(batch) + condition"
    two = trial.fit(files, *FAST[:4], out="two", design=design)
    three = trial.fit(files, "--drop-empty", *FAST[:4], *LAST, out="three", design=design)
    told = report(trial, "three")
    assert told["contrast"] == report(trial, "two")["contrast"] == "condition: treated against control"
    assert "Dropped from the design, for no sample is in them: condition[T.other]." in told["disclosure"]
    np.testing.assert_allclose(three["log2FoldChange"], two["log2FoldChange"], rtol=1e-6)
    adata = trial.adata("lyon")
    Result.read(trial.folder / "three").to_scanpy(adata)
    assert adata.uns["rank_genes_groups"]["params"]["reference"] == "control"
    assert adata.uns["rank_genes_groups"]["names"].dtype.names == ("treated",)


def test_a_level_that_was_dropped_is_no_contrast_where_it_is_asked_for(trial):
    asked = (*FAST[:4], "--drop-empty", *LAST, "--contrast", "condition", "other", "control")
    told = trial.refused(trial.write(), *asked)
    assert "contrast condition other control asks for 'condition[T.other]', which was dropped" in told


def asked(kept):
    return DropEmptyQuery(np.zeros(4, dtype=bool), np.array(kept))


def test_a_site_keeps_a_column_that_is_not_empty_there():
    samples = Samples(np.array([[1.0, 0], [1, 1]]), np.ones((2, 4), dtype=np.int32))
    with pytest.raises(QueryError, match="not empty at this site"):
        asked([True, False]).apply(samples)
    empty = Samples(np.array([[1.0, 0], [1, 0]]), np.ones((2, 4), dtype=np.int32))
    assert asked([True, False]).apply(empty).design.tolist() == [[1], [1]]


@pytest.mark.parametrize("kept", [[True, True], [True, False, False], []])
def test_questions_that_do_not_fit_are_refused(kept):
    with pytest.raises(QueryError):
        asked(kept).check(4, 2)


def test_a_fit_that_forgot_to_tell_the_sites_would_end_early(nested, monkeypatch):
    """The twin: the table drops the column, and the sites do not."""

    def silently(config, design, n_genes, column_sites):
        yield from ()
        return design.without(tuple(int(i) for i in design.at_the_table[column_sites == 0]))

    monkeypatch.setattr(beginning, "drop_empty", silently)
    with pytest.raises(QueryError, match="is about 6 design columns, the fit has 7"):
        nested.fit(nested.write(), "--drop-empty", *OPTIONS, design=NESTED)
