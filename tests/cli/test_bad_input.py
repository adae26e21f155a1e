"""Every mistake ends in one sentence that names where it is, exit code 2, and nothing written."""

import gzip
from dataclasses import replace

import h5py
import numpy as np
import pytest

import secirls
from secirls.agreement.agreement import Facts, _agree_on_genes
from secirls.cli import demo
from secirls.cli.federation_file import combined
from secirls.config import Config
from secirls.input_error import InputError


def spoiled(make_site, trio, **changes):
    return {**trio, "b": make_site("b", **changes)}


COUNTS = np.arange(1, 13).reshape(4, 3)


@pytest.mark.parametrize(
    ("changes", "words", "field", "problem"),
    [
        ({"counts": -COUNTS}, (), "X", "negative count"),
        ({"counts": COUNTS + 0.5}, (), "X", "fractional count"),
        ({"counts": np.where(COUNTS == 5, np.nan, COUNTS)}, (), "X", "not a number"),
        ({"counts": np.where(COUNTS == 5, 3e9, COUNTS)}, (), "X", "above 2147483647"),
        ({"obs": {"other": [1, 2, 3, 4]}}, (), "obs column 'condition'", "is missing"),
        ({"obs": {"condition": ["u", None, "t", "t"]}}, (), "obs column 'condition'", "missing value"),
        ({"genes": ["g0", "g1", "g1"]}, (), "var_names", "the same gene twice (gene 'g1')"),
        ({"samples": ["p", "p", "q", "r"]}, (), "obs_names", "the same sample twice"),
        ({"counts": np.zeros((0, 3))}, (), "", "has no samples"),
        ({"counts": np.zeros((4, 0))}, (), "", "has no genes"),
        ({}, ("--layer", "raw"), "layer 'raw'", "is missing"),
        ({}, ("--size-factors", "sf"), "obs column 'sf'", "is missing"),
        ({}, ("--dispersions", "alpha"), "var column 'alpha'", "is missing"),
        ({"obs": {"condition": list("utxu")}}, ("--levels", "condition=u,t"), "obs column 'condition'", "level 'x'"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_site_and_field(make_site, trio, refused, changes, words, field, problem):
    sites = spoiled(make_site, trio, **changes)
    if words[:1] in (("--layer",), ("--size-factors",), ("--dispersions",)):
        good = {"layers": {"raw": COUNTS}, "var": {"alpha": [0.1, 0.2, 0.3]}}
        obs = {"condition": ["u", "t", "u", "t"], "sf": [1.0, 1.0, 1.0, 1.0]}
        sites = {name: make_site(name, obs=obs, **good) for name in "ac"} | {"b": sites["b"]}
    sentence = refused(sites, *words)
    assert "site 'b'" in sentence
    assert field in sentence
    assert problem in sentence


def test_who_asks_for_normalised_values_hears_where_counts_may_be(make_site, trio, refused):
    there = "(gene 'g0'; there are the layers 'counts')"
    sentence = refused(spoiled(make_site, trio, counts=np.log1p(COUNTS), layers={"counts": COUNTS}))
    assert sentence.endswith(f"(round_counts rounds estimated ones, not normalised ones) {there}")
    assert refused(spoiled(make_site, trio, counts=np.log1p(COUNTS))).endswith("not normalised ones) (gene 'g0')")


def test_a_file_of_genes_x_samples_is_told_as_such(make_site, trio, refused):
    turned = {"counts": COUNTS.T, "samples": ["g0", "g1", "g2"], "genes": ["p", "q", "r", "s"], "obs": {}}
    sentence = refused(spoiled(make_site, trio, **turned, var={"condition": ["u", "t", "u", "t"]}))
    assert (
        "obs column 'condition': is missing, and the design needs it (var has it: an AnnData is samples x" in sentence
    )


def test_levels_that_one_site_writes_otherwise_are_named_where_they_leave_it_no_design(make_site, trio, refused):
    sentence = refused(spoiled(make_site, trio, obs={"condition": list("xyxy")}), design="~ site + condition")
    assert "own design columns depend on each other: site[T.b], condition[T.x], condition[T.y]" in sentence
    assert sentence.endswith("no other site has its levels of site and condition")


def test_of_hundreds_of_columns_a_few_are_named_the_nearest_first(make_site, trio, refused):
    obs = {f"marker{i}": [1, 2, 3, 4] for i in range(300)} | {"Condition": list("utut")}
    sentence = refused(spoiled(make_site, trio, obs=obs))
    assert "(there are the columns 'Condition', 'marker0', 'marker1', " in sentence
    assert sentence.endswith("'marker10' and 289 more)")


@pytest.mark.parametrize(("column", "said"), [("Site", True), ("Centre", True), ("batch", False)])
def test_who_asks_for_a_column_of_the_site_hears_which_one_makes_itself(trio, refused, column, said):
    sentence = refused(trio, design=f"~ {column} + condition")
    assert f"obs column '{column}': is missing, and the design needs it" in sentence
    assert ("the name 'site' in a design needs none, and stands for the site's own name" in sentence) == said


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_size_factors_and_dispersions_are_above_zero(make_site, refused, bad):
    obs = {"condition": ["u", "t", "u", "t"], "sf": [1.0, 1.0, 1.0, bad]}
    sites = {name: make_site(name, obs=obs) for name in "abc"}
    assert "above zero" in refused(sites, "--size-factors", "sf")
    sites = {name: make_site(name, var={"alpha": [0.1, bad, 0.1]}) for name in "abc"}
    assert "gene 'g1'" in refused(sites, "--dispersions", "alpha")


def test_dispersions_that_differ_between_sites_are_refused(make_site, refused):
    sites = {
        name: make_site(name, var={"alpha": [0.1, 0.1, x]}) for name, x in zip("abc", (0.1, 0.2, 0.1), strict=True)
    }
    assert "site 'b': dispersions differ" in refused(sites, "--dispersions", "alpha")


def test_a_missing_file(trio, refused, tmp_path):
    assert refused({**trio, "b": tmp_path / "nowhere.h5ad"}).endswith("nowhere.h5ad': is missing")


def test_a_home_that_no_shell_has_put_in_is_told(trio, refused, run):
    told = refused({**trio, "b": "~/b.h5ad"})
    assert told.endswith("~/b.h5ad': is missing ('~' is a home for a shell alone: write the path in full)")
    assert "'~/federation.toml': is missing ('~' is a home" in run("fit", "~/federation.toml")[2]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("text.h5ad", b"not h5ad", "it is text"),
        ("table.csv", b"gene,s1\r\ng0,4\r\n", "it is text"),
        ("packed.h5ad.gz", gzip.compress(b"counts", mtime=0), "it is compressed (gzip)"),
        ("packed.zip", b"PK\x03\x04 counts", "it is a zip archive"),
        ("nothing.h5ad", b"", "it is empty"),
        ("damaged.h5ad", b"\x89HDF\r\n\x1a\n\0\0", "OSError"),
        ("other.h5ad", b"\0\1\2", "OSError"),
    ],
)
def test_a_file_that_is_not_h5ad_is_told_by_its_kind(trio, refused, tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    told = refused({**trio, "b": tmp_path / name})
    assert "site 'b', file" in told
    assert told.endswith(f"{name}': can't be read as h5ad ({kind})")


@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        (("matrix", "row_attrs", "col_attrs", "layers"), "it is a loom file"),
        (("matrix/features",), "it is a matrix of 10x"),
        (("mod/rna/obs", "obs", "obsm"), "it is MuData"),
        (("counts", "obs"), "it has no obs or no var"),
        ((), "it has no obs or no var"),
    ],
)
def test_hdf5_of_another_program_is_told_as_that(trio, refused, tmp_path, groups, kind):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name in groups:
            file.create_group(name)
    assert refused({**trio, "b": tmp_path / "other.h5"}).endswith(f"other.h5': can't be read as h5ad ({kind})")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--key-bits", "2048"), "--key-bits: is of 'paillier' and 'paillier-threshold', and does nothing with 'pair"),
        (("--obfuscation", "short"), "--obfuscation: is of 'paillier'"),
        (("--neighbours", "4", "--protocol", "additive"), "--neighbours: is of 'pairwise' and 'pairwise-lean'"),
        (("--rounds-per-batch", "4", "--protocol", "plain"), "--rounds-per-batch: is of 'pairwise'"),
        (("--hosts", "2"), "--hosts: is of the engine 'ray'"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(trio, refused, words, told):
    assert refused(trio, *words).startswith(f"secirls: {told}")


def test_an_option_of_the_protocol_is_none_that_does_nothing():
    given = {"design": "~ condition", "protocol": "paillier", "key_bits": 2048}
    made = combined(None, ["a=a.h5ad", "b=b.h5ad", "c=c.h5ad"], given, {}, None, None, 2)
    assert (made.fit.key_bits, made.hosts) == (2048, 2)


def test_what_would_do_nothing_in_a_federation_file_is_named_there(run, trio, tmp_path):
    lines = ["[sites]", *(f"{name} = '{path}'" for name, path in trio.items())]
    text = "\n".join([*lines, "[fit]", "design = '~ condition'", "key_bits = 2048"])
    (tmp_path / "federation.toml").write_text(text)
    code, _, error = run("fit", "federation.toml", "--out", "out")
    assert code == 2
    assert error.startswith("secirls: file 'federation.toml': fit.key_bits: is of 'paillier'")


@pytest.mark.parametrize("design", ["", "  "])
def test_an_empty_design_is_refused(trio, refused, design):
    told = refused(trio, design=design)
    assert told == "secirls: --design: is empty: write a formula such as '~ batch + condition'"


def test_fewer_than_three_sites(trio, refused):
    assert "at least 3 are needed" in refused({name: trio[name] for name in "ab"})


def test_names_that_no_party_can_have(trio, refused):
    assert "can't name a party" in refused({"a b": trio["a"], "b": trio["b"], "c": trio["c"]})
    assert "names a role" in refused({"aggregator": trio["a"], "b": trio["b"], "c": trio["c"]})


def test_an_unknown_protocol_lists_the_known(trio, refused):
    sentence = refused(trio, "--protocol", "magic")
    assert "there is no protocol 'magic'" in sentence
    assert "pairwise" in sentence


def test_gene_lists_that_differ_show_the_first_differences(make_site, trio, refused):
    sentence = refused(spoiled(make_site, trio, genes=["g0", "g9", "g2"]))
    assert "site 'b'" in sentence
    assert "lacks 'g1'" in sentence
    assert "has 'g9'" in sentence
    assert "another order" in refused(spoiled(make_site, trio, genes=["g1", "g0", "g2"]))
    assert "more" not in sentence


def test_of_many_genes_that_differ_it_is_said_how_many_they_are():
    ours = Facts("a", "a.h5ad", b"", tuple(f"g{i}" for i in range(1_250)), {})
    theirs = replace(ours, site="b", genes=("g0", "x"))
    with pytest.raises(InputError, match=r"lacks 'g1', 'g2', 'g3' and 1,246 more and has 'x' beside, compared with"):
        _agree_on_genes([ours, theirs, replace(ours, site="c")], Config(design="~ x"))


def test_a_factor_of_one_level_is_told_in_words(make_site, refused):
    sites = {name: make_site(name, obs={"condition": ["u"] * 4}) for name in "abc"}
    assert "obs column 'condition' has the single level 'u' at all sites: there is nothing" in refused(sites)


def test_genes_that_are_written_otherwise_at_one_site_are_told_as_that(make_site, refused):
    ours = ["ENSG01.4", "ENSG02.11", "ENSG03.2"]
    sites = {name: make_site(name, genes=ours) for name in "ac"}
    for theirs, what in (
        (["ENSG01", "ENSG02", "ENSG03"], "3 are the same but for the version after the point"),
        (["ENSG01.5", "ENSG02.11", "ENSG03.3"], "2 are the same but for the version after the point"),
        (["ensg01.4", "ensg02.11", "ensg03.2"], "3 are the same but for upper and lower case"),
    ):
        told = refused({**sites, "b": make_site("b", genes=theirs)})
        assert told.endswith(f"compared with site 'a' ({what}: name them alike)")
    others = {**sites, "b": make_site("b", genes=["g1", "g2", "g3"])}
    assert refused(others).endswith("compared with site 'a'"), "no gene is in both, so none would be left"
    assert refused(others, "--genes", "intersection").endswith(
        "no gene is in the files of all sites (a has 'ENSG01.4', b has 'g1', c has 'ENSG01.4' first)"
    )


def test_a_rank_deficient_design_names_the_columns(make_site, refused):
    obs = {"condition": ["u", "t", "u", "t"], "batch": ["x", "y", "x", "y"], "age": [1.0, 2.0, 3.0, 5.0]}
    sites = {name: make_site(name, obs=obs) for name in "abc"}
    sentence = refused(sites, design="~ age + batch + condition")
    assert "rank-deficient" in sentence
    assert "batch[T.y], condition[T.u]" in sentence
    assert "age" not in sentence.split(":")[-1]


def test_a_declared_level_that_nobody_has_is_a_zero_column(trio, refused):
    assert "condition[T.never]" in refused(trio, "--levels", "condition=u,t,never")


@pytest.mark.parametrize(
    ("design", "problem"),
    [
        ("~ np.log(condition)", "needs numbers, and obs column 'condition' is a factor"),
        ("~ np.exp(condition)", "expression"),
        ("~ C(condition, contr.sum)", "expression"),
        ("~ C(condition, levels=['u'])", "two or more different levels"),
        ("~ C(condition) * condition", "both as C(condition) and as it is"),
        ("~ {__import__('os').getcwd()}", "expression"),
        ("y ~ condition", "nothing left of"),
        ("~ condition +", "not a formula"),
        ("~ condition | site", "a single part"),
        ("~ 0", "no terms"),
    ],
)
def test_designs_that_are_no_formula_or_code(trio, refused, design, problem):
    assert problem in refused(trio, design=design)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--contrast", "nothing", "t", "u"), "does not use"),
        (("--contrast", "condition", "x", "u"), "not a level"),
        (("--contrast", "condition", "u", "u"), "with itself"),
        (("--levels", "condition"), "write FACTOR="),
        (("--levels", "batch=x,y"), "does not use"),
        (("--threshold", "9"), "threshold 9 is impossible"),
        (("--beta-tol", "0"), "secirls: --beta-tol: input should be greater than 0"),
        (("--preset", "deseq3"), "secirls: --preset: input should be 'deseq2', 'irls'"),
        (("--engine", "spark"), "secirls: --engine: input should be 'ray', 'local' or 'hub'"),
        (("--levels", "condition=u"), "secirls: --levels: 'condition' needs two or more"),
        (("--address", "127.0.0.1:1"), "engine is 'local'"),
        (("--min-contributors", "4"), "no gene"),
        (("--protocol", "paillier-threshold", "--obfuscation", "subgroup"), "secirls: options: a key in shares"),
    ],
)
def test_options_that_cannot_be(trio, refused, words, problem):
    assert problem in refused(trio, *words)


def test_no_replicates_and_no_dispersions(make_site, refused):
    sites = {
        name: make_site(name, counts=COUNTS[:1], obs={"condition": [level]})
        for name, level in zip("abc", "utv", strict=True)
    }
    assert "every column is one site's alone, so there is nothing to estimate together" in refused(sites)
    assert "leave nothing to estimate dispersions" in refused(sites, "--own-columns", "shared")


def test_no_gene_without_zeros_needs_size_factors(make_site, refused):
    counts = COUNTS * (1 - np.eye(4, 3, dtype=int))
    assert "median of ratios" in refused({name: make_site(name, counts=counts) for name in "abc"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sites = 3", "needs a table [sites]"),
        ("[sites]\na = 'a.h5ad'\n", "needs a table [fit]"),
        ("[sites\n", "is not TOML"),
        ("[sites]\na='a'\nb='b'\nc='c'\n[fit]\ndesign='~ condition'\ncolour='red'\n", "colour"),
        ("[sites]\na='a'\nb='b'\nc='c'\n[fit]\nprotocol='plain'\n", "no design"),
        ("keys = 3\n[sites]\na='a'\n[fit]\ndesign='~ x'\n", "keys: is a table of names and files, [keys]"),
        ("[sites]\na=\"\\u0000\"\nb='b'\nc='c'\n[fit]\ndesign='~ x'\n", "can't be the name of a file"),
        ("[sites]\na='a'\nb='b'\nc='c'\n[fit]\ndesign='~ x'\nmin_mu=inf\n", "fit.min_mu: input should be a finite"),
        ("x = " + "[" * 100_000, "is not TOML"),
    ],
)
def test_a_federation_file_that_is_wrong_is_named(run, tmp_path, text, problem):
    (tmp_path / "federation.toml").write_text(text)
    code, _, error = run("fit", "federation.toml")
    assert code == 2
    assert problem in error
    assert "Traceback" not in error
    assert run("fit", "nowhere.toml")[0] == 2


def test_a_folder_with_results_is_not_overwritten(run, trio, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.csv").write_text("precious")
    given = [word for name, path in trio.items() for word in ("--site", f"{name}={path}")]
    code, _, error = run("fit", *given, "--design", "~ condition", "--engine", "local", "--out", tmp_path / "out")
    assert code == 2
    assert "holds the results of a fit already" in error
    assert (tmp_path / "out" / "results.csv").read_text() == "precious"


def test_unknown_options_end_with_two(run):
    assert run("fit", "--colour", "red")[0] == 2
    assert run("paint")[0] == 2


def test_data_in_the_place_of_a_federation_file_is_told(run, trio):
    code, _, error = run("fit", trio["a"], "--design", "~ condition")
    assert code == 2
    assert error.startswith(f"secirls: file {str(trio['a'])!r}: is data, and no federation file")


def test_sites_without_names_and_a_roster_that_is_not_there_are_told(trio):
    with pytest.raises(InputError, match="give every site a name"):
        secirls.fit(list(trio.values()), design="~ condition")
    with pytest.raises(InputError, match=r"file 'nobody\.json': is missing"):
        secirls.fit(trio, design="~ condition", roster="nobody.json")
    for name in ("keys", "policies"):
        with pytest.raises(InputError, match=f"^{name}: give a file for every name, as in "):
            secirls.fit(trio, design="~ condition", **{name: "all.key"})


def test_simulated_sites_do_not_replace_files_of_others(run, tmp_path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "site2.h5ad").write_text("precious")
    small = ("simulate", "--out", "sites", "--sites", "3", "--samples", "6", "--genes", "4")
    code, _, error = run(*small)
    assert (code, error.count("\n")) == (2, 1)
    assert "file 'sites/site2.h5ad': is there already" in error
    assert [file.name for file in (tmp_path / "sites").iterdir()] == ["site2.h5ad"]
    assert run(*small, "--overwrite")[0] == 0
    assert (tmp_path / "sites" / "site2.h5ad").read_bytes() != b"precious"
    (tmp_path / "file").touch()
    assert run("simulate", "--out", "file")[2] == "secirls: folder 'file': is a file\n"


def test_a_demo_replaces_no_results_but_those_of_a_demo(run, tmp_path, monkeypatch):
    class ReachedError(Exception):
        """The fit would begin."""

    def begin(*_):
        raise ReachedError

    monkeypatch.setattr("secirls.cli.demo.engine_ahead", begin)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.csv").write_text("precious")
    code, shown, error = run("demo", "--out", "out", "--engine", "local")
    assert (code, shown) == (2, "")
    assert error == "secirls: folder 'out': holds results that are not of a demo; name another with --out\n"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["results.csv"]
    (tmp_path / "out" / "sites").mkdir()
    (tmp_path / "out" / "sites" / "N61311.h5ad").touch()
    with pytest.raises(ReachedError):
        run("demo", "--out", "out", "--engine", "local")
    assert run("demo", "--protocol", "rot13")[2].startswith("secirls: --protocol: there is no protocol 'rot13'")


def test_an_interruption_is_told_whatever_ran(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("secirls.inputs.datasets.write_simulated", interrupted)
    assert run("simulate", "--out", "sites") == (130, "", "secirls: interrupted; no results were written\n")


def test_help_and_version(run):
    code, shown, _ = run("--version")
    assert code == 0
    assert shown.startswith("secirls 0.")
    for words in (("--help",), ("fit", "--help"), ("demo", "--help")):
        code, shown, _ = run(*words)
        assert code == 0
        assert "Usage" in shown


def test_a_good_fit_from_options_and_from_a_file_agree(run, trio, tmp_path):
    given = [word for name, path in trio.items() for word in ("--site", f"{name}={path}")]
    words = ("--design", "~ condition", "--protocol", "plain", "--engine", "local", "--levels", "condition=u,t")
    assert run("fit", *given, *words, "--out", "one")[0] == 0
    (tmp_path / "federation.toml").write_text(
        "engine = 'local'\nout = 'two'\n[sites]\na = 'a.h5ad'\nb = 'b.h5ad'\nc = 'c.h5ad'\n"
        "[fit]\ndesign = '~ condition'\nprotocol = 'plain'\nlevels = { condition = ['u', 't'] }\n"
    )
    assert run("fit", "federation.toml")[0] == 0
    assert (tmp_path / "one" / "results.csv").read_bytes() == (tmp_path / "two" / "results.csv").read_bytes()


@pytest.mark.parametrize("command", ["results", "report"])
def test_what_holds_results_is_a_folder(run, tmp_path, command):
    (tmp_path / "results.csv").write_text("gene\n")
    assert run(command, "results.csv")[::2] == (2, "secirls: folder 'results.csv': is a file\n")
    assert run(command, "nowhere")[::2] == (2, "secirls: folder 'nowhere': is missing\n")


def test_a_fit_that_ended_is_not_resumed_and_nothing_is_offered_to_be_replaced(run, tmp_path):
    (tmp_path / "done").mkdir()
    for overwrite in ((), ("--overwrite",)):
        assert "folder 'done': holds no unfinished fit" in run("resume", "done", *overwrite)[2]
    (tmp_path / "done" / "results.csv").write_text("gene\n")
    for overwrite in ((), ("--overwrite",)):
        code, _, error = run("resume", "done", *overwrite)
        told = "secirls: folder 'done': holds no unfinished fit, but the results of one that ended\n"
        assert (code, error) == (2, told)


@pytest.mark.parametrize(("protocol", "told"), [("plain", True), ("pairwise", False)])
def test_a_demo_in_the_clear_says_at_once_that_nothing_is_hidden(run, monkeypatch, protocol, told):
    def stopped(_):
        raise InputError("far enough")

    monkeypatch.setattr(demo, "_written", stopped)
    code, shown, _ = run("demo", "--protocol", protocol, "--engine", "local")
    assert code == 2
    assert ("hides nothing" in shown) == told
