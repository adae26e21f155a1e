"""Designs as people write them: C(), functions of numbers, the order of levels, estimated counts, and what is said."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from secirls.agreement.order import Place
from secirls.config import Config
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.files.site_file import read_site
from secirls.inputs.formulas import levels as levels_room
from secirls.inputs.formulas.labels import merged
from secirls.site.preparation import reading_of
from secirls.site.site import Site

NUMBERS = ["log2FoldChange", "lfcSE", "pvalue"]


def report(trial, out):
    return json.loads((trial.folder / out / "report.json").read_text())


def as_categories(trial, site, categories, column="condition"):
    trial.obs[site][column] = pd.Categorical(trial.obs[site][column], categories=categories)


# C()


def test_a_numbered_batch_is_a_factor_by_c_or_by_its_levels(trial):
    files = trial.write()
    slope = trial.fit(files, out="slope", design="~ batch + condition")
    declared = trial.fit(files, "--levels", "batch=1,2,3", out="declared", design="~ batch + condition")
    for design in ("~ C(batch) + condition", "~ C(batch, levels=[1, 2, 3]) + condition"):
        assert trial.fit(files, out=str(len(design)), design=design)[NUMBERS].equals(declared[NUMBERS])
    assert not slope[NUMBERS].equals(declared[NUMBERS])
    assert report(trial, str(len("~ C(batch) + condition")))["design_columns"][1:3] == [
        "C(batch)[T.2]",
        "C(batch)[T.3]",
    ]


def test_levels_in_c_choose_the_reference_and_refuse_others(trial):
    files = trial.write()
    trial.fit(files, out="third", design="~ C(batch, levels=[3, 1, 2]) + condition")
    assert report(trial, "third")["levels"]["batch"] == ["3", "1", "2"]
    assert report(trial, "third")["level_order"]["batch"] == "declared"
    assert "has the level '3', declared are '1', '2'" in trial.refused(files, design="~ C(batch, levels=[1, 2])")
    told = trial.refused(files, "--levels", "batch=1,3,2", design="~ C(batch, levels=[1, 2, 3])")
    assert "and the design '~ C(batch, levels=[1, 2, 3])' lists others" in told


def test_small_numbers_are_said_to_be_a_slope_with_a_hint_and_ages_without(trial):
    for site, obs in trial.obs.items():
        obs["age"] = 40 + np.array([0, 17, 5, 28, 11, 3]) + len(site)
    trial.fit(trial.write(), out="out", design="~ batch + age + condition")
    told = " ".join(report(trial, "out")["disclosure"])
    assert "Fitted as slopes, for they are numbers: batch, age." in told
    assert "--levels batch=1,2,3 or C(batch)" in told
    assert "C(age)" not in told


@pytest.mark.parametrize(
    ("values", "hinted"),
    [
        ([2019, 2019, 2020, 2020, 2021, 2021], True),
        ([-1, 0, 1, 1, 0, -1], True),
        ([1.0, 2.0, 3.0, 1.0, 2.0, 3.5], False),
        ([1, 2, 3, 4, 1, 1], False),  # more than half as many as samples
    ],
)
def test_the_hint_is_about_few_whole_numbers_at_every_site(trial, values, hinted):
    for obs in trial.obs.values():
        obs["group"] = [1, 1, 2, 2, 3, 3]
    trial.obs["lyon"]["group"] = values
    trial.fit(trial.write(), "--preset", "irls", out="out", design="~ group + condition")
    told = " ".join(report(trial, "out")["disclosure"])
    assert ("group holds few whole numbers at every site" in told) == hinted
    assert "Fitted as slopes, for they are numbers: group." in told


def test_a_transcript_with_the_hint_is_read_again(trial, run):
    trial.fit(trial.write(), "--preset", "irls", "--transcript", "kept", out="out", design="~ batch + condition")
    code, shown, error = run("audit", "kept")
    assert (code, "nothing was found" in shown) == (0, True), error


def test_the_progress_says_it_before_the_first_round(trial):
    said = {name: {"batch": Variable(numeric=True, numbered=True)} for name in trial.obs}
    assert Design.agree("~ batch", {}, said).told == (
        "batch: numbers, fitted as a slope; if they number groups, say C(batch)",
    )
    assert Design.agree("~ log(batch)", {}, said).told == ("log(batch): numbers, fitted as a slope",)
    said["lyon"] = {"batch": Variable(numeric=True)}
    assert Design.agree("~ batch", {}, said).told == ("batch: numbers, fitted as a slope",)


# Functions of numbers


@pytest.mark.parametrize("function", ["log(dose)", "log2(dose)", "np.log10(dose)", "center(log(dose))"])
def test_a_function_without_a_value_ends_in_a_sentence_that_names_the_column(trial, function):
    for obs in trial.obs.values():
        obs["dose"] = np.arange(6) + 1.0
    trial.obs["lyon"].loc["lyon2", "dose"] = 0.0
    files = trial.write()
    told = trial.refused(files, design=f"~ condition + {function}")
    assert "site 'lyon'" in told
    assert str(files["lyon"]) in told
    assert "obs column 'dose': has a value at which" in told
    assert "lyon2" not in told


@pytest.mark.parametrize(
    "design",
    [
        "~ log(log(dose))",  # whether it is finite would tell whether all doses are above one
        "~ log(I(dose**2))",
        "~ I(dose**0.5)",
        "~ I(dose**-1)",
        "~ I(dose**10)",
        "~ I(dose - 1)",
        "~ log(dose - 64)",
        "~ center(dose)**2 + I(center(dose)**2)",
        "~ exp(dose)",
        "~ poly(dose, 2)",
        "~ scale(dose)",
        "~ np.random.log(dose)",
        "~ os.log(dose)",
        "~ log(x=dose)",
        "~ log(dose, dose)",
        "~ log(*dose)",
        "~ C(batch, levels=list('123'))",
        "~ C(batch, levels=[1, 2, open], spans=True)",
        "~ {[dose for dose in dose]}",
        "~ {(lambda: dose)()}",
        "~ {dose.__class__}",
        "~ I(" * 3 + "dose" + ")" * 2,
        "~ " + "I(" * 200 + "dose" + ")" * 200 + " + {dose+1}",
    ],
)
def test_what_is_not_on_the_list_is_refused_before_any_file_is_read(trial, design):
    files = dict.fromkeys(trial.obs, trial.folder / "nowhere.h5ad")
    told = trial.refused(files, design=design)
    assert "is an expression" in told or "is not a formula" in told


@pytest.mark.parametrize(("design", "said"), [("~ cell type + dose", True), ("~ dose +", False)])
def test_how_a_name_with_a_blank_is_written_is_said(trial, design, said):
    told = trial.refused(dict.fromkeys(trial.obs, trial.folder / "nowhere.h5ad"), design=design)
    assert told.endswith("; a name with a blank in it stands in backticks, as `cell type`") == said


def test_a_column_inside_a_function_is_a_column_that_the_policy_must_list(trial):
    for obs in trial.obs.values():
        obs["dose"] = np.arange(6) + 1.0
    files = trial.write()
    rules = trial.folder / "rules.toml"
    rules.write_text('variables = ["condition"]\n')
    for design in ("~ condition + log(dose)", "~ condition + C(dose)", "~ condition + center(`dose`)"):
        site = Site(Place("lyon", str(files["lyon"]), policy=str(rules)), Config(design=design), own_process=False)
        with pytest.raises(Exception, match="variables is condition"):
            site.survey()


# The order of levels


def test_the_order_of_the_files_is_that_of_the_levels_where_no_site_has_another(trial):
    for site in trial.obs:
        as_categories(trial, site, ["treated", "never", "control"])
    trial.fit(trial.write(), out="out")
    told = report(trial, "out")
    assert told["levels"] == {"condition": ["treated", "control"]}, "and a category without samples is told nobody"
    assert told["level_order"] == {"condition": "in the order of the files"}
    assert told["contrast"] == "condition: control against treated"
    assert any("Levels of condition, reference first: treated, control" in words for words in told["disclosure"])


def test_a_level_that_one_site_writes_otherwise_is_named_before_the_first_round_and_after_the_last(trial):
    trial.obs["lyon"]["condition"] = [level.replace("treated", "treat-ed") for level in trial.obs["lyon"]["condition"]]
    trial.fit(trial.write(), out="out")
    sentence = (
        "evels of condition at one site alone: treat-ed (lyon); if one is only written otherwise there, correct it"
    )
    told = report(trial, "out")
    for words in (told["disclosure"], told["disclosure_in_short"]):
        assert sum(sentence in each for each in words) == 1


def test_levels_at_one_site_alone_are_named_where_others_stand_at_several():
    def alone(*held, declared=None):
        said = {site: {"x": Variable(numeric=False, levels=levels)} for site, levels in zip("abc", held, strict=True)}
        return Design.agree("~ x", declared or {}, said).alone

    (one,) = alone(("k", "t"), ("k", "t"), ("T.", "k"))
    assert one.startswith("levels of x at one site alone: T. (c); ")
    many = tuple(f"{number:02}" for number in range(9))
    (told,) = alone(("k", "z"), ("k",), ("k", *many))
    assert "00 (c), 01 (c), 02 (c), 03 (c), 04 (c) and 5 more; " in told
    assert alone(("k", "t"), ("k", "t"), ("k",)) == (), "a level that a site lacks is nothing new"
    assert alone(("a1", "a2"), ("b1",), ("c1",)) == (), "as patients and centres, which are one site's each"
    assert alone(("k", "t"), ("k", "t"), ("k", "u"), declared={"x": ("k", "t", "u")}) == (), "they were named"


def test_levels_are_sorted_where_the_files_differ_and_that_is_said(trial, capsys):
    as_categories(trial, "lyon", ["treated", "control"])
    trial.fit(trial.write(), out="out")
    told = report(trial, "out")
    assert told["levels"] == {"condition": ["control", "treated"]}
    assert told["level_order"] == {"condition": "sorted, for the files have them in different orders"}


def test_a_declared_order_stands_over_the_files(trial):
    for site in trial.obs:
        as_categories(trial, site, ["treated", "control"])
    trial.fit(trial.write(), "--levels", "condition=control,treated", out="out")
    assert report(trial, "out")["levels"] == {"condition": ["control", "treated"]}


def test_categories_without_samples_are_not_told(trial):
    as_categories(trial, "lyon", ["zero", "treated", "control"])
    config = Config(design="~ condition")
    facts = Site(Place("lyon", str(trial.write()["lyon"])), config, own_process=False).survey()
    assert facts.variables["condition"].levels == ("treated", "control")
    assert "zero" not in repr(facts)


def test_a_site_that_told_its_categories_as_they_are_would_be_seen(trial, monkeypatch):
    """The twin of the last: all categories of the file."""
    from secirls.inputs.files import site_columns

    monkeypatch.setattr(site_columns, "_in_order", lambda values, held: values.categories)
    as_categories(trial, "lyon", ["zero", "treated", "control"])
    facts = Site(Place("lyon", str(trial.write()["lyon"])), Config(design="~ condition"), own_process=False).survey()
    assert "zero" in repr(facts)


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ([("b", "a"), ("b", "a")], ("b", "a")),
        ([("b", "a"), ("a", "c")], ("b", "a", "c")),
        ([("wt", "ko"), ("wt", "het")], ("wt", "het", "ko")),
        ([("a", "b"), ("b", "a")], None),
        ([("a", "b"), ("b", "c"), ("c", "a")], None),
        ([("1", "2", "10"), ("2", "10")], ("1", "2", "10")),
        ([], ()),
    ],
)
def test_orders_are_merged_or_contradict_each_other(orders, expected):
    assert merged(orders) == expected
    if expected is not None:
        for order in orders:
            assert tuple(level for level in expected if level in order) == order


def test_numbers_are_in_their_order_not_in_that_of_texts():
    said = {"a": {"batch": levels_room.Variable(False, ("1", "2", "10"))}}
    assert levels_room.agree_levels("~ C(batch)", {}, said).levels["batch"] == ("1", "2", "10")


# Counts


def test_estimated_counts_are_rounded_where_that_is_asked_for_and_refused_where_not(trial):
    plain = trial.fit(trial.write(), out="plain")
    rng = np.random.default_rng(2)
    for site, counts in trial.counts.items():
        trial.counts[site] = counts + rng.uniform(-0.49, 0.49, counts.shape) * (counts > 0)
    files = trial.write("estimated")
    assert "round_counts rounds estimated ones" in trial.refused(files)
    assert trial.fit(files, "--round-counts", out="rounded")[NUMBERS].equals(plain[NUMBERS])
    assert any("counts were rounded" in words for words in report(trial, "rounded")["disclosure"])
    trial.counts["lyon"][0, 0] = -0.2
    assert "negative count" in trial.refused(trial.write("negative"), "--round-counts")


@pytest.mark.parametrize("value", [0.5, 1.5, 2.5, 2.4999999])
def test_halves_are_rounded_to_even_as_r_does(value):
    adata = anndata.AnnData(np.full((2, 1), value), obs=pd.DataFrame({"c": ["a", "b"]}, index=["s", "t"]))
    read = read_site("a", adata, reading_of(Config(design="~ c", round_counts=True)))
    assert read.counts.tolist() == [[round(value)]] * 2


def test_raw_is_read_with_its_own_genes(trial, monkeypatch):
    plain = trial.fit(trial.write(), out="plain")
    whole = trial.adata

    def filtered(name):
        adata = whole(name)
        adata.raw = adata
        adata = adata[:, :5].copy()
        adata.X = np.log1p(adata.X.astype(float))
        return adata

    monkeypatch.setattr(trial, "adata", filtered)
    files = trial.write("raw")
    assert trial.fit(files, "--layer", "raw:X", out="raw")[NUMBERS].equals(plain[NUMBERS])
    assert "fractional" in trial.refused(files)
    monkeypatch.setattr(trial, "adata", whole)
    assert "layer 'raw:X': is missing" in trial.refused(trial.write("bare"), "--layer", "raw:X")
