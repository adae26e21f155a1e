"""What a federation file may say, and the sentence about what it may not."""

import pytest

from tests.cli.conftest import sentence

SITES = """[sites]
a = "a.h5ad"
b = "b.h5ad"
c = "c.h5ad"
"""
LIST = "input should be a list of names; a file of them is the command's option --control-genes"


@pytest.mark.parametrize(
    ("head", "fit", "told"),
    [
        ("", "desgn = '~ condition'", "fit.desgn: is no field of it; did you mean 'design'?"),
        ("", "Design = '~ condition'", "fit.Design: is no field of it; did you mean 'design'?"),
        ("plots = 'png'", "design = '~ condition'", "plots: is an option of the command: --plots"),
        ("annotation = 'a.csv'", "design = '~ condition'", "annotation: is an option of the command: --annotation"),
        ("h5ad = true", "design = '~ condition'", "h5ad: is an option of the command: --h5ad"),
        ("", "overwrite = true", "fit.overwrite: is an option of the command: --overwrite"),
        ("", "min_contributors = true\ndesign = '~ c'", "fit.min_contributors: input should be a whole number"),
        ("", "control_genes = 'cg.txt'\ndesign = '~ c'", f"fit.control_genes: {LIST}"),
    ],
)
def test_a_field_that_is_none_is_named(run, tmp_path, head, fit, told):
    (tmp_path / "f.toml").write_text(f"{head}\n{SITES}[fit]\n{fit}\n")
    code, _, error = run("fit", "f.toml")
    assert (code, sentence(error)) == (2, f"secirls: file 'f.toml': {told}")


def test_a_file_without_a_design_is_told_where_one_goes(run, tmp_path):
    (tmp_path / "f.toml").write_text(f"{SITES}[fit]\nalpha = 0.1\n")
    code, _, error = run("fit", "f.toml")
    assert (code, "no design: give --design" in sentence(error)) == (2, True)
