"""The report sets numbers a gene beside its samples, and says what followed in the worst case that was found."""

from types import SimpleNamespace

import pytest

import secirls
from secirls.algorithms.fitted import StageCost
from secirls.outputs.report.disclosure import RECOVERED, _worst_case


def told(opened, samples, stage="profile", apart=()):
    """The sentences of a fit over two genes that opened so many numbers."""
    stages = (StageCost(stage, (stage,), 1, opened, ("a", "b", "c")),)
    fitted = SimpleNamespace(stages=stages, n_samples=samples)
    design = SimpleNamespace(told_apart=lambda _: apart)
    return _worst_case(SimpleNamespace(fitted=fitted, genes=["g", "h"], design=design, said={}))


def test_numbers_stand_beside_samples():
    assert told(100, 8).startswith(
        "In all 50.0 numbers a gene were opened over 8 samples, more than the gene has counts."
    )
    assert told(100, 50).startswith("In all 50.0 numbers a gene were opened over 50 samples, no more than the gene has")


@pytest.mark.parametrize(("samples", "row"), [(6, 0), (11, 0), (12, 12), (29, 12), (30, 30), (99, 30), (4_000, 100)])
def test_the_worst_case_is_that_of_as_many_samples_or_fewer(samples, row):
    assert f"in {RECOVERED[row][0]} % of genes with means below 2" in told(100, samples)
    assert ("above 50" in told(100, samples)) == (RECOVERED[row][3] > 0)


def test_nothing_is_said_of_a_profile_that_was_not_opened():
    assert "worst case" not in told(100, 8, stage="coefficients")


def test_where_counts_were_summed_it_is_said_what_followed_from_such_sums_alone():
    assert "each sample's counts in 99.9 % of genes with means below 2" in told(100, 50, stage="size factors")
    assert "99.9 %" not in told(100, 50, stage="coefficients")


def test_where_sums_of_one_site_follow_the_worst_case_is_every_count():
    assert "gave every count" in told(100, 8, apart=("a",))
    assert "no site's" not in told(100, 8, apart=("a",))


@pytest.mark.parametrize(
    ("way", "words"), [("own", "In the sums alone they are no site's."), ("shared", "gave every count")]
)
def test_a_design_by_site_says_so_at_home_and_summed(lay, way, words):
    grounds = lay("worst", ("a", "b", "c"), samples=12, genes=60)
    for name in grounds.names:
        grounds.edit(name, lambda adata, name=name: adata.obs.insert(0, "site", name))
    sites = {name: str(path) for name, path in grounds.data.items()}
    result = secirls.fit(sites, design="~ site + condition", own_columns=way, engine="local", cooks=False)
    (sentence,) = [one for one in result.report["disclosure"] if one.startswith("In all ")]
    assert words in sentence
    other = {"own": "gave every count", "shared": "no site's"}[way]
    assert other not in sentence
