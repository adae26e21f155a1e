"""A fit of another study than the site's staff agreed to is refused before anything of the file is told.

The configuration names the layer, the columns and the formula, and whoever leads names the configuration. The twin
is a site that does not look, and reads what it is asked for.
"""

import numpy as np
import pytest

from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.input_error import InputError
from secirls.site.grounds.policy import RefusalError
from secirls.site.grounds.study import Study
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.site import Site

AGREED = '[study]\ndesign = "~condition"\nlayer = "raw"\nlevels = { condition = ["control", "treated"] }\n'


def annotate(adata):
    adata.obs["centre"] = ["north"] * 5 + ["south"] * 5
    adata.obs["age"] = np.linspace(60.0, 69.0, 10)
    adata.var["rough"] = 0.1
    adata.layers["raw"] = adata.X.copy()
    adata.layers["other"] = adata.X + 1


@pytest.fixture
def studied(grounds):
    for name in grounds.names:
        grounds.edit(name, annotate)
        path = grounds.folder / name / "site.toml"
        path.write_text(path.read_text().replace("[policy]", AGREED + "\n[policy]"))
    return grounds


def survey(lead, grounds, **options):
    return Site(grounds.place("site1"), lead.config(grounds, **options), own_process=False).survey()


OTHERS = [
    ({"layer": None}, "layer is raw there, and X here"),
    ({"layer": "other"}, "layer is raw there, and other here"),
    ({"design": "~ centre"}, "design is ~condition there, and ~ centre here"),
    ({"design": "~ condition + centre"}, "design is ~condition there"),
    ({"size_factors": "age"}, "size_factors is none there, and age here"),
    ({"dispersions": "rough"}, "dispersions is none there, and rough here"),
    ({"annotation": "symbol"}, "annotation is none there, and symbol here"),
    ({"preset": "irls", "refit_layer": "other", "refit_genes": ("gene00001",)}, "refit_layer is none there"),
]


@pytest.mark.parametrize(("options", "refused"), OTHERS)
def test_another_study_is_refused_in_one_sentence(studied, lead, options, refused):
    with pytest.raises(RefusalError, match="site 'site1': its ground is of another study: ") as told:
        survey(lead, studied, **{"layer": "raw", **options})
    assert refused in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "refused"), [*OTHERS[:3], *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS[3:-1])]
)
def test_without_a_look_at_the_study_it_is_told(studied, lead, options, refused, monkeypatch):
    monkeypatch.setattr(Study, "check_config", lambda *_: None)
    assert survey(lead, studied, **{"layer": "raw", **options}).genes


def test_the_agreed_study_is_made(studied, lead):
    room = lead.room(studied, layer="raw", design="~  condition").open()
    room.census()
    assert np.array_equal(room.total(LogCountsQuery(room.every))["zeros"], (studied.all_counts() == 0).sum(axis=0))


def test_a_study_names_the_var_columns_that_may_be_told(studied, lead):
    for name in studied.names:
        path = studied.folder / name / "site.toml"
        path.write_text(path.read_text().replace("\n[study]", '\n[study]\nannotation = ["symbol", "chr"]'))
    assert survey(lead, studied, layer="raw", annotation="chr").genes
    with pytest.raises(RefusalError, match="annotation is symbol, chr there, and chr, biotype here"):
        survey(lead, studied, layer="raw", annotation="chr,biotype")


def with_a_third_level(adata):
    adata.obs["condition"] = ["control", "placebo"] * 5


LEVELS = [
    ({"levels": {"condition": ("treated", "control")}}, False, "control, treated there, and treated, control here"),
    ({}, True, "control, treated there, and control, placebo, treated here"),
]


@pytest.mark.parametrize(("options", "edited", "refused"), LEVELS)
def test_levels_are_the_studys_in_its_order(studied, lead, options, edited, refused):
    if edited:
        studied.edit("site4", with_a_third_level)
    room = lead.room(studied, layer="raw", **options).survey()
    with pytest.raises(RefusalError, match=f"levels of 'condition' is {refused}"):
        room.sites["site1"].join(room.agreement)


@pytest.mark.parametrize(("options", "edited", "refused"), LEVELS)
def test_without_a_look_at_them_others_are_taken(studied, lead, options, edited, refused, monkeypatch):
    monkeypatch.setattr(Study, "check_levels", lambda *_: None)
    if edited:
        studied.edit("site4", with_a_third_level)
    room = lead.room(studied, layer="raw", **options).survey()
    room.sites["site1"].join(room.agreement)


def test_a_policy_lists_layers_without_a_study(grounds, lead, monkeypatch):
    for name in grounds.names:
        grounds.edit(name, annotate)
    grounds.rule('layers = ["X", "raw"]')
    assert survey(lead, grounds).genes == survey(lead, grounds, layer="raw").genes
    with pytest.raises(RefusalError, match=r"layers is X, raw \(layer 'other'\)"):
        survey(lead, grounds, layer="other")
    again = {"preset": "irls", "refit_layer": "other", "refit_genes": ("gene00001",)}
    with pytest.raises(RefusalError, match=r"layers is X, raw \(layer 'other'\)"):
        survey(lead, grounds, **again)
    monkeypatch.setattr(PolicyChecks, "check_config", lambda *_: None)
    assert survey(lead, grounds, layer="other").genes


@pytest.mark.parametrize("text", ["[study]\n", '[study]\ndesign = "~ a"\nlayers = "raw"\n', 'study = "x"\n'])
def test_a_study_that_is_wrong_ends_in_a_sentence(grounds, lead, text):
    path = grounds.folder / "site1" / "site.toml"
    path.write_text(path.read_text().replace("[policy]", text + "[policy]"))
    with pytest.raises(InputError, match=r"site.toml'.*study"):
        survey(lead, grounds)
