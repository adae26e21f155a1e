"""A site's own rules: checked in its process, refused in a sentence with rule and value, and nothing more said."""

import sys

import numpy as np
import pytest

import secirls
from secirls import fitting
from secirls.aggregator import checkpoint
from secirls.agreement.manifest import Manifest
from secirls.cli.federation_file import read_table
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.site.grounds.policy import Policy, RefusalError, read_policy
from secirls.site.guarding.budget import Budget
from secirls.site.guarding.policy_checks import PolicyChecks


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Four files of seven simulated samples over 20 genes."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=4, samples=28, genes=20, seed=5)
    return {name: str(path) for name, path in paths.items()}


OPTIONS = {"design": "~ condition", "preset": "irls", "kernel": "numpy", "min_contributors": 2, "engine": "local"}

BROKEN = [
    ("min_sites = 5", "min_sites is 5"),
    ("min_samples = 8", "min_samples is 8"),
    ("min_samples_per_cell = 4", "min_samples_per_cell is 4"),
    ("min_contributors = 3", "min_contributors is 3"),
    ("max_params_per_sample = 0.05", "max_params_per_sample is 0.05"),
    ("max_rounds = 9", "max_rounds is 9"),
    ('protocols = ["paillier", "additive"]', "protocols is paillier, additive"),
    ('queries = ["census", "log_counts"]', "queries is census, log_counts"),
]
KEPT = [
    "min_samples_per_cell = 3",
    "min_contributors = 2",
    "max_params_per_sample = 0.3",
    'protocols = ["pairwise"]',
    'on_dropout = "abort"',
    "max_rounds = 500",
    "min_samples = 7",
    "min_sites = 4",
]


def with_outlier(folder, files):
    """The same files, but for one count far above the others of its gene."""
    import anndata

    adata = anndata.read_h5ad(files["site1"])
    adata.X[0, 3] = 50_000
    adata.write_h5ad(folder / "outlying.h5ad")
    return {**files, "site1": str(folder / "outlying.h5ad")}


def test_the_default_budget_is_enough_for_the_whole_deseq2(tmp_path, files):
    rules = "max_rounds = 1000\nmax_values_per_gene = 5000\nmin_contributors = 2\nmin_total_samples_per_cell = 5"
    result = with_policy(tmp_path, with_outlier(tmp_path, files), rules, preset="deseq2")
    assert result.table["replaced"].sum() == 1
    with pytest.raises(RefusalError, match="max_values_per_gene is 60"):
        with_policy(tmp_path, files, "max_values_per_gene = 60", preset="deseq2")


@pytest.mark.slow
def test_a_policy_can_refuse_that_outliers_are_replaced(tmp_path, files):
    kinds = [
        "census",
        "log_counts",
        "normalised",
        "cells",
        "residuals",
        "profile",
        "adopt_dispersions",
        "least_squares",
    ]
    kinds += ["irls", "unclamped", "cooks_bound", "below", "between", "cells_above", "outliers", "farthest", "larger"]
    rules = f"queries = {kinds}".replace("'", '"')
    files = with_outlier(tmp_path, files)
    with pytest.raises(RefusalError, match="queries is"):
        with_policy(tmp_path, files, rules, preset="deseq2")
    left = with_policy(tmp_path, files, rules, preset="deseq2", min_replicates=100)
    assert not left.table["replaced"].any()


def with_policy(tmp_path, files, text, **changes):
    policy = tmp_path / "site2.toml"
    policy.write_text(text)
    return secirls.fit(files, policies={"site2": policy}, **{**OPTIONS, **changes})


@pytest.mark.parametrize(("text", "sentence"), BROKEN)
def test_a_broken_rule_is_named_with_its_value(tmp_path, files, text, sentence):
    with pytest.raises(RefusalError) as refused:
        with_policy(tmp_path, files, text)
    assert str(refused.value) == f"site 'site2': its policy refuses: {sentence}"


@pytest.mark.parametrize("text", [*KEPT[:4], *(pytest.param(text, marks=pytest.mark.slow) for text in KEPT[4:])])
def test_a_rule_that_holds_is_silent(tmp_path, files, text):
    result = with_policy(tmp_path, files, text)
    assert result.report["samples"] == 28


def test_going_on_without_a_site_can_be_refused(tmp_path, files):
    with pytest.raises(RefusalError, match="on_dropout is abort"):
        with_policy(tmp_path, files, 'on_dropout = "abort"', on_dropout="continue")


@pytest.mark.parametrize("samples", [1, 3, 6])
def test_a_refusal_says_the_rule_and_not_what_the_site_holds(samples):
    """The same sentence whatever the number below the rule is."""
    with pytest.raises(RefusalError) as few:
        PolicyChecks("a", Policy(min_samples=7)).check_samples(samples)
    with pytest.raises(RefusalError) as fewer:
        PolicyChecks("a", Policy(min_samples=7)).check_samples(0)
    assert str(few.value) == str(fewer.value)
    design = np.repeat([[1.0, 0.0], [1.0, 1.0]], [samples, 7], axis=0)
    with pytest.raises(RefusalError) as cell:
        PolicyChecks("a", Policy(min_samples_per_cell=7)).check_design(design)
    assert str(cell.value).endswith("min_samples_per_cell is 7")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("min_sites = 2", "min_sites: input should be greater than or equal to 3"),
        ("min_sampels = 3", "min_sampels: is no field of it"),
        ('protocols = ["rot13"]', "protocols: there is no protocol 'rot13'"),
        ('on_dropout = "retry"', "on_dropout: input should be 'abort' or 'continue'"),
        ("min_sites =", "is not TOML"),
        ('data = "C:\\Users\\b.h5ad"', "; a path with backslashes stands in single quotes"),
        ('data = "\\\\server\\data\\b.h5ad"', "; a path with backslashes stands in single quotes"),
        ("x = " + "[" * 100_000, "is not TOML"),
        ("min_contributors = true", "min_contributors: input should be a whole number"),
        ('min_samples = "5"', "min_samples: input should be a whole number"),
        ("max_params_per_sample = true", "max_params_per_sample: input should be a number"),
        ("max_params_per_sample = nan", "max_params_per_sample: input should be greater than 0"),
        *(
            (f"{rule} = {value}", f"{rule}: input should be less than or equal to 1")
            for rule in ("max_leverage", "max_design_share", "max_size_factor_share", "max_own_per_sample")
            for value in ("90", "inf")
        ),
        ("max_sample_share = 50", "max_sample_share: input should be less than or equal to 1"),
        ("min_contributors = 0", "min_contributors: input should be greater than or equal to 1"),
        ("min_difference = 0", "min_difference: input should be greater than or equal to 1"),
        ("require_roster = 0", "require_roster: input should be true or false"),
        ('require_lock_step = "no"', "require_lock_step: input should be true or false"),
        ('layers = "X"', "layers: input should be a list"),
        ('memory = ""', "memory: string should have at least 1 character"),
    ],
)
def test_a_policy_that_is_none_is_refused_before_anything_is_said(tmp_path, files, text, sentence):
    with pytest.raises(InputError, match="site2") as wrong:
        with_policy(tmp_path, files, text)
    assert sentence in str(wrong.value)


def test_the_twin_that_takes_any_kind_of_value_reads_yes_as_one():
    """``true`` for "yes, this rule" was a rule of one site before."""
    any_kind = classmethod(lambda cls, value, info: value)
    parts = {"model_config": {**Policy.model_config, "strict": False}, "_of_its_kind": any_kind}
    loose = type("Loose", (Policy,), parts)
    assert loose(min_contributors=True).min_contributors == 1
    assert loose(require_roster="no").require_roster is False


def test_the_twin_without_an_upper_end_takes_per_cent_and_refuses_nobody():
    """``max_leverage = 90`` was a rule that held nothing off, and nothing said so."""
    open_ended = type("OpenEnded", (Policy,), {"__annotations__": {"max_leverage": float}, "max_leverage": 0.9})
    PolicyChecks("a", open_ended(max_leverage=90)).check_leverage(1.0)
    with pytest.raises(RefusalError, match=r"max_leverage is 0\.9"):
        PolicyChecks("a", Policy()).check_leverage(1.0)


def test_a_missing_policy_is_no_permission(tmp_path):
    with pytest.raises(InputError, match="is missing"):
        read_policy("a", str(tmp_path / "none.toml"))


def test_a_fit_that_goes_on_without_a_silent_site_needs_no_policy_of_it():
    sites = {name: f"{name}.h5ad" for name in "abcd"}
    asked = Manifest.read("test", sites=sites, fit={"design": "~ x"}, engine="local", policies=dict.fromkeys("ad", "p"))
    left = fitting._ordered(asked, {name: sites[name] for name in "abc"})
    assert {name: place.policy for name, place in left.places.items()} == {"a": "p", "b": None, "c": None}


def test_the_manifest_names_policies_and_each_is_for_a_site(tmp_path, files):
    (tmp_path / "rules.toml").write_text("max_rounds = 1")
    lines = ["[sites]", *(f'{name} = "{path}"' for name, path in files.items())]
    lines += ["[fit]", 'design = "~ condition"', "[policies]", 'site2 = "rules.toml"']
    (tmp_path / "federation.toml").write_text("\n".join(lines))
    table = read_table(tmp_path / "federation.toml")
    manifest = Manifest.from_table("test", {**table, "engine": "local"})
    assert manifest.policies == {"site2": str(tmp_path / "rules.toml")}
    with pytest.raises(RefusalError, match="max_rounds is 1"):
        fitting.fit_manifest(manifest, tmp_path / "out")
    with pytest.raises(InputError, match=r"\[policies\] names 'berlin', which is not a site"):
        Manifest.from_table("test", {**table, "policies": {"berlin": "rules.toml"}})


def test_a_refusal_ends_the_fit_even_where_silence_would_not(tmp_path, files):
    with pytest.raises(RefusalError, match="max_rounds is 9"):
        with_policy(tmp_path, files, "max_rounds = 9", on_dropout="continue")


@pytest.fixture
def ended(tmp_path, files):
    """The folder of a fit that one site's rule ended after nine rounds."""
    (tmp_path / "rules.toml").write_text("max_rounds = 9")
    manifest = Manifest.read(
        "test",
        sites=files,
        policies={"site2": str(tmp_path / "rules.toml")},
        engine="local",
        fit={key: value for key, value in OPTIONS.items() if key != "engine"},
    )
    with pytest.raises(RefusalError, match="max_rounds is 9"):
        fitting.fit_manifest(manifest, tmp_path / "out")
    assert rounds_kept(tmp_path / "out") == 9
    return tmp_path / "out"


def rounds_kept(out):
    return len(list((out / checkpoint.FOLDER).glob("round-*.npz")))


def test_a_fit_that_goes_on_asks_no_more_of_a_site_than_one_that_does_not(ended):
    with pytest.raises(RefusalError, match="max_rounds is 9"):
        fitting.resume(ended)
    assert rounds_kept(ended) == 9


def test_where_sites_do_not_count_what_they_are_reminded_of_it_comes_to_its_end(ended, monkeypatch):
    spend = Budget.spend
    monkeypatch.setattr(Budget, "spend", lambda self, asked, whom, *how: whom and spend(self, asked, whom, *how))
    assert len(fitting.resume(ended).report["rounds"]) > 9


def test_a_refusal_is_a_sentence_and_exit_code_two(tmp_path, files, monkeypatch, capsys):
    from secirls.cli.commands import main

    (tmp_path / "rules.toml").write_text("min_samples = 100")
    lines = ["engine = 'local'", "[sites]", *(f'{name} = "{path}"' for name, path in files.items())]
    lines += ["[fit]", 'design = "~ condition"', "[policies]", 'site2 = "rules.toml"']
    (tmp_path / "federation.toml").write_text("\n".join(lines))
    monkeypatch.setattr(
        sys, "argv", ["secirls", "fit", str(tmp_path / "federation.toml"), "--out", str(tmp_path / "o")]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "secirls: site 'site2': its policy refuses: min_samples is 100" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
