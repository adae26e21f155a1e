"""Labels that people and programs write in several ways: one level, or one sentence, and never a wrong contrast."""

import json

import numpy as np
import pandas as pd
import pytest

from secirls.inputs.formulas.labels import label

NUMBERS = ["log2FoldChange", "lfcSE", "pvalue"]


@pytest.fixture
def trial(trial):
    """With short fits: what a label is does not depend on what is computed."""
    trial.usual["--preset"] = "irls"
    return trial


def relabelled(trial, site, change, column="condition"):
    """The trial with one site's column written otherwise."""
    trial.obs[site][column] = pd.Series([change(value) for value in trial.obs[site][column]], trial.obs[site].index)


@pytest.mark.parametrize("text", ["NA", "", "nan", "None", "N/A", " NA ", "null", "<NA>"])
def test_a_text_that_stands_for_a_missing_value_is_no_level_unless_it_is_declared(trial, text):
    trial.obs["lyon"].iloc[0, 0] = text
    files = trial.write()
    told = trial.refused(files)
    assert "site 'lyon'" in told
    assert str(files["lyon"]) in told
    assert "obs column 'condition'" in told
    assert f"{text.strip()!r}, which stands for a missing value" in told


def test_a_declared_level_may_be_called_anything(trial):
    plain = trial.fit(trial.write(), "--levels", "condition=control,treated", out="plain")
    for name in trial.obs:
        relabelled(trial, name, {"control": "NA", "treated": "none"}.get)
    called = trial.fit(trial.write("called"), "--levels", "condition=NA,none", out="called")
    assert called[NUMBERS].equals(plain[NUMBERS])


@pytest.mark.parametrize(
    "change",
    [
        *(
            pytest.param(change, marks=pytest.mark.slow)
            for change in (lambda text: f" {text}", lambda text: f"{text}\t")
        ),
        lambda text: f"\u00a0{text} ",
        lambda text: f"\ufeff{text}",
    ],
)
def test_blanks_around_a_label_do_not_make_a_level(trial, change):
    plain = trial.fit(trial.write(), out="plain")
    relabelled(trial, "lyon", change)
    assert trial.fit(trial.write("blank"), out="blank")[NUMBERS].equals(plain[NUMBERS])
    assert json.loads((trial.folder / "blank" / "report.json").read_text())["levels"] == {
        "condition": ["control", "treated"]
    }


def test_an_accent_is_the_same_in_one_sign_or_two(trial):
    for name in trial.obs:
        relabelled(trial, name, lambda text: text.replace("treated", "trait\u00e9"))
    plain = trial.fit(trial.write(), out="plain")
    relabelled(trial, "turin", lambda text: text.replace("\u00e9", "e\u0301"))
    assert trial.fit(trial.write("two"), out="two")[NUMBERS].equals(plain[NUMBERS])


def test_levels_that_differ_in_case_alone_are_named_with_their_sites(trial):
    relabelled(trial, "lyon", str.capitalize)
    told = trial.refused(trial.write())
    assert "obs column 'condition'" in told
    assert "'Control' (lyon) and 'control' (berlin, turin)" in told
    # The twin: levels that really are four can be declared, and then there are four.
    every = "condition=control,treated,Control,Treated"
    fitted = trial.fit(
        trial.write(), "--levels", every, "--contrast", "condition", "Treated", "Control", "--own-columns", "shared"
    )
    assert np.isfinite(fitted["log2FoldChange"]).all()


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(float, id="float"),
        pytest.param(lambda n: f"{n}.0", id="text 1.0", marks=pytest.mark.slow),
        pytest.param(str, id="text", marks=pytest.mark.slow),
        pytest.param(lambda n: f" {n}", id="blank"),
        pytest.param(np.int8, id="int8", marks=pytest.mark.slow),
        pytest.param(np.float32, id="float32", marks=pytest.mark.slow),
    ],
)
def test_a_numbered_factor_is_the_same_however_its_numbers_are_kept(trial, written):
    words = ("--levels", "batch=1,2,3")
    plain = trial.fit(trial.write(), *words, design="~ batch + condition", out="plain")
    relabelled(trial, "lyon", written, column="batch")
    other = trial.fit(trial.write("other"), *words, design="~ batch + condition", out="other")
    assert other[NUMBERS].equals(plain[NUMBERS])
    # The broken twin: had the labels not been made alike, lyon's batches would be levels of their own.
    relabelled(trial, "lyon", lambda n: f"no {n}", column="batch")
    assert "declared are '1', '2', '3'" in trial.refused(trial.write("twin"), *words, design="~ batch + condition")


def test_categories_of_numbers_agree_with_texts_without_being_declared(trial):
    for name, numbers in (("berlin", [1, 2, 3]), ("lyon", [1.0, 2.0, 3.0]), ("turin", ["1", "2", "3"])):
        trial.obs[name]["batch"] = pd.Categorical([numbers[value - 1] for value in trial.obs[name]["batch"]])
    undeclared = trial.fit(trial.write(), design="~ batch + condition", out="undeclared")
    declared = trial.fit(trial.write(), "--levels", "batch=1,2,3", design="~ batch + condition", out="declared")
    assert undeclared[NUMBERS].equals(declared[NUMBERS])


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--levels", "condition=treated, control"), marks=pytest.mark.slow),
        pytest.param(("--levels", " condition = treated ,control "), marks=pytest.mark.slow),
        ("--levels", "condition=treated,control", "--contrast", "condition ", " control", "treated "),
    ],
)
def test_blanks_in_options_say_nothing(trial, words):
    plain = trial.fit(trial.write(), "--levels", "condition=treated,control", out="plain")
    assert trial.fit(trial.write(), *words)[NUMBERS].equals(plain[NUMBERS])
    # The order of the levels was heard: the other way round every change has the other sign.
    other = trial.fit(trial.write(), "--levels", "condition=control, treated", out="other")
    assert np.allclose(other["log2FoldChange"], -plain["log2FoldChange"], atol=1e-4)


def test_blanks_in_a_federation_file_say_nothing(trial, run):
    files = trial.write()
    plain = trial.fit(files, "--levels", "condition=treated,control", "--preset", "deseq2", out="plain")
    sites = "".join(f"{name} = '{path}'\n" for name, path in files.items())
    fit = "design = '~ condition'\nlevels = { condition = [' treated', 'control '] }\n"
    (trial.folder / "f.toml").write_text(f"engine = 'local'\nout = 'toml'\n[sites]\n{sites}[fit]\n{fit}")
    assert run("fit", "f.toml")[0] == 0
    assert trial.table("toml")[NUMBERS].equals(plain[NUMBERS])


@pytest.mark.parametrize("levels", ["condition=control,", "condition=control,,treated", "condition=,treated"])
def test_an_empty_level_is_a_slip(trial, levels):
    assert "names an empty level" in trial.refused(trial.write(), "--levels", levels)


def test_levels_that_are_one_are_not_declared_twice(trial):
    told = trial.refused(trial.write(), "--levels", "batch=1,1.0,2,3", design="~ batch + condition")
    assert "name a level twice" in told
    assert "'1.0'" in told


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1.0, "1"), ("1.0", "1"), ("-2.00", "-2"), (1.5, "1.5"), ("1.50", "1.50"), ("v1.0", "v1.0"),
     ("1.10", "1.10"), (True, "True"), (np.float64(3), "3"), (np.int64(3), "3"), (" a b ", "a b"), ("01", "01"),
     (1e300, str(int(1e300))), (float("inf"), "inf")],
)  # fmt: skip
def test_the_label_of_a_value(value, text):
    assert label(value) == text
