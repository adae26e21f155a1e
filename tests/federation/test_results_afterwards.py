"""What is asked of a finished fit, without its sites: the same bits, other contrasts, and what a folder must not do."""

import contextlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.aggregator.annotating import Annotation
from secirls.input_error import InputError
from secirls.inputs.designs.compared_groups import compared_groups
from secirls.inputs.designs.contrasts import Contrast
from secirls.numerics.inference.wald import covariance
from secirls.outputs.results import Result
from secirls.outputs.tables import results_table
from secirls.outputs.tables.comparison import Comparison
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.results_table import UNCOUNTED, compare

GENES, EACH = 60, 12
OPTIONS = {"engine": "local", "kernel": "numpy", "protocol": "plain", "design": "~ sex + dose", "min_replicates": 6}
LEVELS = ("low", "mid", "top")
WITHOUT = {50: ("mid", "top"), 51: ("low", "top"), 52: ("low", "mid")}
"""Genes that have no count in two of the doses."""


@pytest.fixture(scope="module")
def sites():
    """Three sites of twelve samples; gene 5 has an outlier that is replaced, gene 53 no count anywhere."""
    rng = np.random.default_rng(7)
    base, steep = rng.uniform(2.5, 6.5, GENES), rng.normal(0, 0.5, (3, GENES))
    found = {}
    for site in ("berlin", "lyon", "turin"):
        dose, sex = np.arange(EACH) % 3, np.arange(EACH) // 3 % 2
        mu = np.exp(base + steep[dose] + np.outer(sex, 0.3 * (np.arange(GENES) % 2)) + 0.2 * rng.normal(size=(EACH, 1)))
        counts = rng.negative_binomial(8, 8 / (8 + mu)).astype(np.int32)
        names = np.array(LEVELS)[dose]
        for gene, doses in WITHOUT.items():
            counts[np.isin(names, doses), gene] = 0
        counts[:, 53] = 0
        if site == "lyon":
            counts[4, 5] = 60 * counts[:, 5].max()
        obs = pd.DataFrame({"dose": names, "sex": np.array(["f", "m"])[sex]}, index=[f"{site}{i}" for i in range(EACH)])
        found[site] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))
    return found


@pytest.fixture(scope="module")
def fitted(sites):
    return secirls.fit(sites, **OPTIONS)


@pytest.fixture(scope="module")
def quick(sites):
    """The regression alone, which takes less time."""
    return secirls.fit(sites, **{**OPTIONS, "preset": "irls"})


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    place = tmp_path_factory.mktemp("fit") / "out"
    fitted.write(str(place))
    return place


def csv(result):
    return result.table.to_csv(index=False, float_format="%.17g").encode()


def numbers(table):
    return table[["log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]].to_numpy()


def test_the_data_have_what_the_tests_are_about(fitted):
    assert fitted.table["replaced"].any()
    assert fitted.table["status"].loc["g53"] == "all_zero"
    assert fitted.report["contrast"] == "dose: top against low"


def test_the_default_made_afterwards_is_the_fits_own_table_byte_for_byte(fitted, folder):
    written = (folder / "results.csv").read_bytes()
    again = Result.read(folder)
    assert csv(again) == csv(again.contrast()) == written
    assert (
        again.coefficients.to_csv(index=False, float_format="%.17g").encode()
        == (folder / "coefficients.csv").read_bytes()
    )
    pd.testing.assert_frame_equal(again.dispersions, fitted.dispersions, check_exact=True)
    beta = fitted.kept.beta
    twin = replace(fitted.kept, beta=np.where(np.isfinite(beta), np.nextafter(beta, np.inf), beta))  # one bit off
    assert csv(compare(twin, Comparison.of(twin.config, twin.design))) != written


@pytest.mark.parametrize(
    ("in_the_fit", "afterwards"),
    [
        ({"contrast": ("dose", "mid", "top")}, (("dose", "mid", "top"), {})),
        ({"coefficients": ("sex[T.m]",), "alpha": 0.2}, ((), {"coefficients": "sex[T.m]", "alpha": 0.2})),
        (
            {"contrast_vector": (0, 0, -1, 1), "lfc_threshold": 0.5, "alternative": "greater"},
            ((), {"vector": [0, 0, -1, 1], "lfc_threshold": 0.5, "alternative": "greater"}),
        ),
        (
            {"minus": ("dose[T.mid]",), "independent_filtering": True},
            ((), {"minus": ["dose[T.mid]"], "independent_filtering": True}),
        ),
    ],
)
def test_a_fit_that_asks_at_once_has_the_same_bits(sites, quick, in_the_fit, afterwards):
    levels, given = afterwards
    at_once = secirls.fit(sites, **{**OPTIONS, "preset": "irls"}, **in_the_fit)
    later = quick.contrast(*levels, **given)
    assert csv(at_once) == csv(later)
    assert later.report["contrast"] == at_once.report["contrast"] != "dose: top against low"
    assert later.report["independent_filtering"] == at_once.report["independent_filtering"]


def test_level_against_level_is_the_wald_test_of_the_covariance(folder):
    result = Result.read(folder)
    kept, table = result.kept, result.contrast("dose", "top", "mid").table
    c = np.array([0.0, 0.0, -1.0, 1.0])
    known = kept.fitted & ~kept.emptied
    sigma, _ = covariance(kept.information[known], kept.config.ridge)
    change = (kept.beta[known] @ c) / np.log(2)
    error = np.sqrt(np.einsum("i,gij,j->g", c, sigma, c)) / np.log(2)
    plain = table[known][~table["reason"][known].str.contains(UNCOUNTED, regex=False)].index
    rows = table.loc[plain]
    at = np.isin(np.array(kept.genes)[known], plain)
    np.testing.assert_allclose(rows["log2FoldChange"], change[at], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rows["lfcSE"], error[at], rtol=1e-9)
    np.testing.assert_allclose(rows["stat"], change[at] / error[at], rtol=1e-8, atol=1e-11)
    without = np.sqrt((np.diagonal(sigma, axis1=1, axis2=2)[:, 2:]).sum(axis=1)) / np.log(2)  # twin: no covariances
    assert np.abs(without[at] / rows["lfcSE"] - 1).max() > 0.05


def test_another_reference_level_gives_the_same_contrast(sites, quick):
    turned = secirls.fit(sites, **{**OPTIONS, "preset": "irls"}, levels={"dose": ("mid", "low", "top")})
    there, here = turned.contrast("dose", "top", "mid").table, quick.contrast("dose", "top", "mid").table
    settled = (there["status"] == "converged") & (here["status"] == "converged") & (here["baseMean"] > 5)
    np.testing.assert_allclose(there["log2FoldChange"][settled], here["log2FoldChange"][settled], rtol=1e-3, atol=1e-4)
    assert settled.sum() > 45


@pytest.mark.parametrize("pair", [("low", "mid"), ("mid", "low"), ("top", "mid"), ("top", "low")])
def test_groups_without_any_count_are_told_as_r_tells_them(sites, folder, pair):
    table = Result.read(folder).contrast("dose", *pair).table
    counts = np.concatenate([site.X for site in sites.values()])
    dose = np.concatenate([site.obs["dose"] for site in sites.values()])
    zero = (counts[np.isin(dose, pair)] == 0).all(axis=0) & (counts > 0).any(axis=0)
    told = table["reason"].str.contains(UNCOUNTED, regex=False).to_numpy()
    assert told.any()
    assert np.array_equal(told, zero)
    assert (table["log2FoldChange"][told] == 0).all()
    assert (table["pvalue"][told] == 1).all()
    assert (table["lfcSE"][told] > 0).all(), "R keeps it"


ACROSS = (0, 1, -1, 0)
"""Men against a middle dose: samples of either are no sum of columns of ``~ sex + dose``, those of each are."""


@pytest.fixture(scope="module")
def across(sites):
    """The first gene has a count neither of men nor of a middle dose, the second none of men, the third of the dose."""
    found = {name: site.copy() for name, site in sites.items()}
    for site in found.values():
        man, middle = (site.obs["sex"] == "m").to_numpy(), (site.obs["dose"] == "mid").to_numpy()
        for gene, without in enumerate((man | middle, man, middle)):
            site.X[without, gene] = 0
    return secirls.fit(found, **{**OPTIONS, "preset": "irls"})


def told_across(fit):
    table = fit.contrast(vector=ACROSS).table
    told = table["reason"].str.contains(UNCOUNTED, regex=False)
    assert (table["pvalue"][told] == 1).all()
    assert (table["log2FoldChange"][told] == 0).all()
    return list(table.index[told])


def test_groups_of_two_factors_are_looked_at_as_r_looks_at_them(across):
    assert told_across(across) == ["g0"]


def test_the_twin_that_looks_at_one_of_the_groups_tells_too_many(across, monkeypatch):
    monkeypatch.setattr(results_table, "compared_groups", lambda *given: compared_groups(*given)[:1])
    assert told_across(across) == ["g0", "g1"]


def test_they_are_not_told_where_the_sums_do_not_tell(folder):
    kept = KeptFit.read(folder)
    asked = Comparison.of(kept.config, kept.design).but(Contrast(("dose", "top", "mid")))
    assert compare(kept, asked).table["reason"].str.contains(UNCOUNTED, regex=False).any()
    for less in (replace(kept, xtx=np.zeros((0, 0))), replace(kept, replaced=np.ones(GENES, dtype=bool))):
        assert not compare(less, asked).table["reason"].str.contains(UNCOUNTED, regex=False).any()
    # by default R takes the coefficient by its name, and looks at no count
    assert not Result.read(folder).table["reason"].str.contains(UNCOUNTED, regex=False).any()


@pytest.mark.parametrize("preset", ["pydeseq2", "fedpydeseq2"])
def test_with_pydeseq2s_choices_they_keep_their_estimate(folder, preset):
    """PyDESeq2 0.5.4 looks at no count here: of such a gene it reports -1.24 and p = 0.53 where R has 0 and 1."""
    kept = KeptFit.read(folder)
    asked = Comparison.of(kept.config, kept.design).but(Contrast(("dose", "top", "mid")))
    told = compare(kept, asked).table["reason"].str.contains(UNCOUNTED, regex=False)
    assert told.any()
    theirs = replace(kept, config=kept.config.model_copy(update={"preset": preset}))
    table = compare(theirs, asked).table
    assert not table["reason"].str.contains(UNCOUNTED, regex=False).any()
    estimates = (kept.coefficients @ asked.contrast.of(kept.design)[0] / np.log(2))[told.to_numpy()]
    np.testing.assert_allclose(table["log2FoldChange"][told], estimates, rtol=1e-12)
    assert (table["pvalue"][told] < 1).all()


def test_they_are_not_told_after_a_loss(fitted):
    kept = fitted.kept
    state = SimpleNamespace(
        **{name: getattr(kept, name) for name in ("beta", "status", "reason", "iterations", "start")}
    )
    found = SimpleNamespace(
        state=state,
        treatment=None,
        dispersions=None,
        information=kept.information,
        base_means=kept.base_means,
        xtx=kept.xtx,
        ratio=None,
        shrinkage=None,
        scaled=None,
        sizing=None,
        towards=None,
    )
    for last, whole in (("abc", True), ("ab", False)):
        rounds = [SimpleNamespace(parties=tuple(names)) for names in ("abc", last)]
        outcome = SimpleNamespace(
            fitted=found, genes=kept.genes, design=kept.design, rounds=rounds, annotation=Annotation()
        )
        assert bool(KeptFit.of(kept.config, outcome).xtx.size) == whole


def test_outliers_stay_without_a_p_value_and_emptied_genes_unchanged_whatever_is_asked(folder):
    kept = KeptFit.read(folder)
    marked = replace(kept, outlier=np.arange(GENES) == 3, emptied=np.arange(GENES) == 8)
    for given in ({"lfc_threshold": 1.0, "alternative": "lessAbs"}, {"lfc_threshold": 0.1, "alternative": "less"}):
        asked = Comparison.of(kept.config, kept.design).but(Contrast(("dose", "mid", "low")), **given)
        table = compare(marked, asked).table
        assert np.isnan(table["pvalue"].iloc[3])
        assert table["stat"].iloc[8] == 0
        assert table["pvalue"].iloc[8] == 1
        assert not np.isnan(compare(kept, Comparison.of(kept.config, kept.design)).table["pvalue"].iloc[3])


def test_adjusted_p_values_follow_the_level_that_is_asked_for(folder):
    result = Result.read(folder)
    strict, loose = result.contrast(alpha=0.001), result.contrast(alpha=0.3)
    assert strict.table["pvalue"].equals(loose.table["pvalue"])
    assert strict.report["independent_filtering"]["alpha"] == 0.001
    everything = result.contrast(independent_filtering=False)
    known = ~np.isnan(everything.table["pvalue"])
    from scipy.stats import false_discovery_control

    np.testing.assert_array_equal(
        everything.table["padj"][known], false_discovery_control(everything.table["pvalue"][known])
    )
    assert everything.report["independent_filtering"] is None


def test_nothing_of_a_site_is_in_the_file(sites, folder):
    with np.load(folder / "fit.npz", allow_pickle=False) as archive:
        header = json.loads(bytes(archive["header"]))
        shapes = {archive[name].shape for name in archive.files if name != "header"}
    samples = EACH * len(sites)
    assert not any(samples in shape or EACH in shape for shape in shapes)
    text = json.dumps({name: told for name, told in header.items() if name != "config"})
    assert not any(site in text for site in sites), "which site holds which level is not kept"
    assert "berlin" in json.dumps({"berlin": 1}), "and the search would find it"


def test_a_folder_of_another_contrast_asks_on_from_that(folder, tmp_path):
    other = Result.read(folder).contrast("dose", "mid", "top", lfc_threshold=0.3)
    other.write(tmp_path / "other")
    again = Result.read(tmp_path / "other")
    assert csv(again) == csv(again.contrast()) == (tmp_path / "other" / "results.csv").read_bytes()
    assert csv(again) != (folder / "results.csv").read_bytes()
    assert again.report["contrast"] == "dose: mid against top, |log2 fold change| above 0.3"
    assert csv(again.contrast("dose", "top", "low", lfc_threshold=0)) != csv(again.contrast("dose", "top", "low"))


def test_a_formula_is_not_evaluated(folder, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / "copy")
    header = header_of(copy)
    monkeypatch.chdir(tmp_path)
    for formula in ("~ {__import__('os').mkdir('evil')}", "~ dose + Q('sex').map(open)", "~ dose"):
        spoil(copy, design={**header["design"], "formula": formula})
        with pytest.raises(InputError):
            Result.read(copy)
    assert not (tmp_path / "evil").exists()
    from formulaic import Formula

    with contextlib.suppress(Exception):  # as it would be evaluated, unasked
        Formula("~ {__import__('os').mkdir('evil')}").get_model_matrix(pd.DataFrame({"x": [1]}))
    assert (tmp_path / "evil").exists()


def header_of(folder):
    with np.load(folder / "fit.npz") as archive:
        return json.loads(bytes(archive["header"]))


def spoil(folder, **changes):
    """Write the folder's file again with some arrays or header entries changed, or left out where None."""
    with np.load(folder / "fit.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(bytes(arrays["header"]))
    for name, value in changes.items():
        (arrays if name in arrays else header)[name] = value
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(folder / "fit.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "damaged"),
        ({"columns": ["Intercept"]}, "damaged"),
        ({"genes": ["g0"]}, "damaged"),
        ({"beta": None}, "damaged"),
        ({"beta": np.zeros((GENES, 3))}, "damaged"),
        ({"status": np.full(GENES, 99, dtype=np.int8)}, "damaged"),
        ({"status": np.zeros(GENES)}, "damaged"),
        ({"config": {"design": "~ dose", "protocol": "none"}}, "damaged"),
        ({"beta": np.array([print] * GENES, dtype=object)}, "damaged"),
        ({"to_user": None}, "damaged"),
        ({"to_user": np.eye(3)}, "damaged"),
    ],
)
def test_a_file_that_is_none_is_refused_in_a_sentence(folder, tmp_path, changes, told):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    assert csv(Result.read(copy)) == (folder / "results.csv").read_bytes(), "unchanged it is read"
    spoil(copy, **changes)
    with pytest.raises(InputError, match=told) as raised:
        Result.read(copy)
    assert "fit.npz" in str(raised.value)


@pytest.mark.parametrize("changes", [{"dropped": [99]}, {"dropped": [-1]}, {"own": {"of": {"a": [99]}}}])
def test_a_design_without_columns_that_it_has_not_is_refused(folder, tmp_path, changes):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy, design={**header_of(copy)["design"], **changes})
    with pytest.raises(InputError, match="damaged"):
        Result.read(copy)


@pytest.mark.parametrize("cut", [0, 100, 0.5])
def test_a_file_that_is_cut_is_refused_in_a_sentence(folder, tmp_path, cut):
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = (copy / "fit.npz").read_bytes()
    (copy / "fit.npz").write_bytes(data[: int(cut * len(data)) if isinstance(cut, float) else cut])
    with pytest.raises(InputError, match="damaged"):
        Result.read(copy)


def test_a_folder_of_an_earlier_release_says_so(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "fit.npz").unlink()
    with pytest.raises(InputError, match=r"no fit\.npz"):
        Result.read(copy)


def test_a_mistake_ends_before_the_first_round(sites):
    for given in (
        {"contrast": ("dose", "top", "high")},
        {"coefficients": ("dose[T.high]",)},
        {"contrast_vector": (1, 2)},
    ):
        rounds = []
        with pytest.raises(InputError, match=r"high|2 of 4"):
            secirls.fit(sites, **OPTIONS, **given, on_round=rounds.append)
        assert rounds == []
    seen = []
    secirls.fit(sites, **{**OPTIONS, "preset": "irls"}, on_round=seen.append)
    assert seen, "and a fit without one has rounds"


def test_a_column_that_a_site_keeps_is_refused_with_who_keeps_it(sites):
    named = {}
    for name, adata in sites.items():
        named[name] = adata.copy()
        named[name].obs["site"] = name
    own = secirls.fit(named, **{**OPTIONS, "design": "~ site + dose"})
    assert own.coefficients.columns.tolist() == ["gene", "dose[T.mid]", "dose[T.top]"]
    with pytest.raises(InputError, match=r"'site\[T.lyon\]', which lyon alone adds to and keeps"):
        own.contrast(coefficients="site[T.lyon]")
    assert own.contrast("dose", "top", "mid").table["pvalue"].notna().sum() > 40
