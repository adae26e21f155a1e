"""A design in which one site alone fills a column publishes that site's sums: refused, unless all say otherwise.

``~ site + condition`` is everybody's first design, and with columns of one site at home it publishes nobody's sums
(`test_own_columns`). Summed as all others (``own_columns = "shared"``) it is refused under the default policy in one
sentence that names the column; where all policies say ``lonely = "publish"``, or in a simulation, the report says whose
sums are published.
"""

import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

import secirls
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Record
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.query import query_from_bytes
from secirls.algorithms.regression.known_information import KnownInformation
from secirls.algorithms.sent_products import opened_square
from secirls.carriers.local import LocalFederation
from secirls.inputs.designs import design
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.regression.information import Information
from secirls.numerics.regression.stieltjes import Transforms
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks

PUBLISH = 'lonely = "publish"'
DESIGN = "~ site + condition"
SHARED = {"design": DESIGN, "own_columns": "shared"}
"""Every column in the sums, one site's own too."""
SMALL = "min_samples = 2\nmin_samples_per_level = 1\nmax_params_per_sample = 1\nmin_total_samples_per_cell = 2"
README_OF_OLD = 'min_samples_per_cell = 3\nmax_rounds = 300\nprotocols = ["pairwise", "paillier"]'


COUNTED = 20
"""Genes with at least so many counts in every sample are those whose counts are worked out."""


def looking_at_no_column(monkeypatch):
    """Take out what levels tell and, as if that were not enough, what a site finds in its own rows."""
    monkeypatch.setattr(PolicyChecks, "check_census", lambda *_: None)
    monkeypatch.setattr(PolicyChecks, "check_share", lambda *_: None)
    monkeypatch.setattr(PolicyChecks, "check_sizes", lambda *_: None)


def with_site_column(grounds):
    for name in grounds.names:
        grounds.edit(name, lambda adata, name=name: adata.obs.insert(0, "site", name))
    return grounds


@pytest.fixture
def airway(airway_sites, lay, tmp_path):
    """Grounds of airway's donors, on copies of their files: tests change them."""
    copies = {name: Path(shutil.copy(airway_sites[name], tmp_path)) for name in sorted(airway_sites)}
    return lay("airway", tuple(copies), data=copies)


def sums_by_column(room):
    """X'(y / s), as an honest fit opens it."""
    samples = room.census()["samples"][0]
    means = room.total(LogCountsQuery(room.every))
    usable = means["zeros"] == 0
    params = len(room.agreement.design(room.config).columns)
    query = NormalisedQuery(room.every, np.where(usable, means["log_counts"] / samples, 0.0), usable, params)
    return room.total(query)["xt_normalised"]


def own_sums(room, name):
    samples = room.sites[name]._samples
    return (samples.counts / samples.size_factors[:, None]).sum(axis=0)


@pytest.mark.parametrize("rules", ["", README_OF_OLD])
def test_a_column_of_one_site_is_refused_by_name(grounds, lead, rules):
    room = lead.room(with_site_column(grounds).rule(rules), **SHARED).open()
    with pytest.raises(RefusalError) as refused:
        room.census()
    assert str(refused.value) == (
        "site 'site1': its policy refuses: min_contributors is 3 (design column 'site[T.site2]', "
        "design column 'site[T.site3]', design column 'site[T.site4]': at fewer sites)"
    )
    for name in room.names:  # and nobody answers anything else afterwards
        with pytest.raises(Exception, match="census"):
            room.sites[name].contribute(LogCountsQuery(room.every).to_bytes(), 1, 0, room.names)


def test_where_all_policies_publish_it_the_column_is_one_sites_own(grounds, lead):
    room = lead.room(with_site_column(grounds).rule(PUBLISH), **SHARED).open()
    column = room.agreement.design(room.config).columns.index("site[T.site3]")
    assert np.array_equal(sums_by_column(room)[:, column], own_sums(room, "site3"))


def test_without_the_rule_the_column_is_one_sites_own(grounds, lead, monkeypatch):
    looking_at_no_column(monkeypatch)
    room = lead.room(with_site_column(grounds).rule(README_OF_OLD), **SHARED).open()
    assert np.array_equal(sums_by_column(room)[:, 2], own_sums(room, "site3"))


def test_one_policy_that_does_not_publish_is_enough(grounds, lead):
    with_site_column(grounds).rule(PUBLISH, "site1", "site2", "site4")
    with pytest.raises(RefusalError, match="site 'site3': its policy refuses: min_contributors"):
        lead.room(grounds, **SHARED).open().census()


def ordered(grounds, **options):
    """An honest fit over these grounds, as anybody orders it."""
    told = {**SHARED, "engine": "local", "roster": grounds.told(), **options}
    return secirls.fit({name: grounds.place(name).source for name in grounds.names}, **told)


def test_airway_is_too_small_for_the_default_policy(airway):
    with pytest.raises(RefusalError, match="min_samples is 5"):
        ordered(airway)


def test_airway_by_site_is_refused_by_the_name_of_a_column(airway):
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(.*design column 'site\[T\.N061011\]'") as refused:
        ordered(airway.rule(SMALL))
    assert "\n" not in str(refused.value)


class Eavesdropper(LocalFederation):
    """An honest aggregator's own federation, that keeps the questions."""

    def __init__(self, parties):
        super().__init__(parties)
        self.asked = []

    def ask(self, verb, arguments):
        if verb == "contribute":
            self.asked.append(query_from_bytes(next(iter(arguments.values()))[0]))
        return super().ask(verb, arguments)


def honest_fit(grounds, lead):
    """Questions and opened sums of an honest fit, as whoever leads it has them; and its columns and levels."""
    options = {**SHARED, "preset": "irls", "levels": {"condition": ("untrt", "trt")}, "trust_aggregator": True}
    config = lead.config(grounds.trust(), **options)
    sites = lead.sites(grounds, config)
    federation = Eavesdropper(sites)
    *events, outcome = lead_fit(Task(config, "fit-1"), federation)
    opened = [event.arrays for event in events if isinstance(event, Record)]
    return list(zip(federation.asked, opened, strict=True)), outcome.design


def by_site(sums):
    """Sums of the intercept and of all sites' columns but the reference's, as sums by site."""
    return np.concatenate([sums[..., :1] - sums[..., 1:].sum(axis=-1, keepdims=True), sums[..., 1:]], axis=-1)


def every_xtwx(asked, told, cells, dispersions):
    """X'WX of all genes that a round is about: as it was asked for, or as everybody knows it from the cells."""
    if not asked.with_xtwx.size:
        return told["xtwx"]
    rows, sums = cells
    products = Products.numbered(asked.expand.astype(int)).of(rows)
    about = Information(rows, products, Transforms.of(sums["transforms"], sums["spread"]), ())
    found, known = KnownInformation(about, dispersions).at(asked.genes, asked.beta, asked.min_mu)
    assert np.array_equal(known, ~asked.with_xtwx)
    found[asked.with_xtwx] = told["xtwx"]
    return found


def means_and_weights(asked, xtwx, at):
    """Logs of fitted means but for size factors, and samples' weights, both ``(conditions, sites, genes)``."""
    beta, upper = asked.beta[at], opened_square(xtwx[at], asked.expand)
    baseline = np.column_stack([beta[:, 0], beta[:, :1] + beta[:, 1:4]]).T
    treated = by_site(upper[:, :4, 4])
    return np.stack([baseline, baseline + beta[:, 4]]), np.stack([(by_site(upper[:, 0, :4]) - treated).T, treated.T])


def counts_from(seen, genes):
    """Counts ``(conditions, sites, genes)`` of single samples, one of each condition at each of four sites.

    X'WX tells the weights, these the means, and these the size factors; then every sum is linear in the two counts that
    a site has of a gene, and there are many.
    """
    coefficients, answers, sizes, alpha, cells = [], [], None, None, None
    dispersions = np.full(seen[0][0].genes.size, np.nan)
    for asked, told in seen:
        if asked.kind == "cell_transforms":
            cells = asked.rows, told
        if not asked.genes[genes].all():
            continue
        at = np.searchsorted(np.flatnonzero(asked.genes), genes)
        if asked.kind == "adopt_dispersions":
            alpha = asked.dispersions[at]
            dispersions[asked.genes] = asked.dispersions
        elif asked.kind == "normalised":
            normalised = by_site(told["xt_normalised"][at][:, :4]).T
        elif asked.kind == "irls":
            eta, weights = means_and_weights(asked, every_xtwx(asked, told, cells, dispersions), at)
            if sizes is None:
                sizes = np.median(np.log(weights / (1 - alpha * weights)) - eta, axis=2, keepdims=True)
            mean = np.exp(eta + sizes)
            share = 1 / (1 + alpha * mean)
            coefficients.append(share)
            answers.append(by_site(told["xtwz"][at][:, :4]).T - (share * mean * (eta - 1)).sum(axis=0))
    coefficients.append(np.broadcast_to(np.exp(-sizes), mean.shape))
    answers.append(normalised)
    systems = np.array(coefficients).transpose(2, 3, 0, 1)
    counts = np.linalg.pinv(systems) @ np.array(answers).transpose(1, 2, 0)[..., None]
    return np.rint(counts[..., 0].transpose(2, 0, 1))


@pytest.mark.parametrize("rule", [pytest.param("published", marks=pytest.mark.slow), "taken out"])
def test_without_the_rule_honest_sums_of_airway_are_every_count_of_every_sample(airway, lead, monkeypatch, rule):
    """The twin of the refusals above: all policies publish, or none looks. Nobody deviates."""
    if rule == "taken out":
        looking_at_no_column(monkeypatch)
    few = np.flatnonzero(airway.all_counts().min(axis=0) >= COUNTED)[::40]
    for name in airway.names:
        airway.edit(name, lambda adata: adata._inplace_subset_var(few))
    seen, design = honest_fit(airway.rule(SMALL).rule(PUBLISH if rule == "published" else ""), lead)
    found = counts_from(seen, np.arange(few.size))
    for place, name in enumerate(design.levels["site"]):
        conditions = list(anndata.read_h5ad(airway.data[name]).obs["condition"])
        truth = airway.counts(name)[[conditions.index("untrt"), conditions.index("trt")]]
        assert np.array_equal(found[:, place], truth)


@pytest.fixture(scope="module")
def published(tmp_path_factory, lead):
    """A fit that every site's policy lets publish."""
    grounds = lead.settle(tmp_path_factory.mktemp("published") / "grounds")
    return ordered(with_site_column(grounds).rule(PUBLISH), preset="irls")


def test_a_fit_that_publishes_says_whose_sums(published):
    told = [sentence for sentence in published.report["disclosure"] if sentence.startswith("Published")]
    assert [sentence for sentence in told if "site[T.site3]" in sentence] == [
        "Published: the sums of design column 'site[T.site3]' are those of site3 alone, in every round."
    ]


FOLLOWS = "Published: the sums of {} alone follow too, in every round"


def names_of_those_that_follow(result):
    return [told.split(" of ")[1].split()[0] for told in result.report["disclosure"] if "alone follow too" in told]


def test_a_fit_that_publishes_names_the_reference_too(published):
    """The reference's sums are what the other sites' columns leave of the intercept's."""
    assert names_of_those_that_follow(published) == ["site1"]
    assert any(told.startswith(FOLLOWS.format("site1")) for told in published.report["disclosure"])


def test_and_they_do_follow(grounds, lead):
    room = lead.room(with_site_column(grounds).rule(PUBLISH), **SHARED).open()
    sums, columns = sums_by_column(room), room.agreement.design(room.config).columns
    others = [columns.index(f"site[T.{name}]") for name in ("site2", "site3", "site4")]
    np.testing.assert_allclose(sums[:, 0] - sums[:, others].sum(axis=1), own_sums(room, "site1"), rtol=1e-12)


def test_the_twin_that_looks_at_columns_alone_does_not_name_it(grounds, monkeypatch):
    monkeypatch.setattr(Design, "told_apart", lambda *_: ())
    result = ordered(with_site_column(grounds).rule(PUBLISH), preset="irls")
    assert names_of_those_that_follow(result) == []
    assert not any("site1" in told for told in result.report["disclosure"] if told.startswith("Published"))


CROSSED = "~ batch * condition"


def with_batches(grounds):
    """A reference cell that site1 alone has, five samples of it, and no column by which that shows."""
    for name in grounds.names:

        def deal(adata, name=name):
            treated = (adata.obs["condition"] == adata.obs["condition"].astype(str).max()).to_numpy()
            batch = np.where(np.arange(adata.n_obs) % 2 == 0, "p", "q")
            batch[~treated] = "p" if name == "site1" else "q"
            where = np.flatnonzero(treated)
            batch[where] = ["p", "p", "q", "q", "q"] if name == "site1" else ["p", "p", "p", "q", "q"]
            adata.obs["batch"] = batch

        grounds.edit(name, deal)
    return grounds


def test_a_cell_of_one_site_that_no_column_shows_is_refused_by_name(grounds, lead):
    room = lead.room(with_batches(grounds), design=CROSSED).open()
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(cell batch=p, condition=\w+: at fewer sites\)"):
        room.census()


def test_without_the_rule_its_sums_follow_from_those_of_the_columns(grounds, lead, monkeypatch):
    """The twin: what all columns but the intercept take away leaves site1's five samples."""
    monkeypatch.setattr(Design, "cells_apart", lambda *_: ())
    monkeypatch.setattr(PolicyChecks, "check_share", lambda *_: None)
    monkeypatch.setattr(PolicyChecks, "check_sizes", lambda *_: None)
    room = lead.room(with_batches(grounds), design=CROSSED).open()
    sums = sums_by_column(room)
    samples = room.sites["site1"]._samples
    alone = ~samples.design[:, 1:].any(axis=1)
    own = (samples.counts / samples.size_factors[:, None])[alone].sum(axis=0)
    assert alone.sum() == 5
    np.testing.assert_allclose(sums[:, 0] - sums[:, 1] - sums[:, 2] + sums[:, 3], own, rtol=1e-9)


def test_where_the_design_can_not_tell_the_cell_apart_it_is_allowed(grounds, lead):
    lead.room(with_batches(grounds), design="~ batch + condition").open().census()


def factor(*levels):
    return Variable(numeric=False, levels=levels)


AB = factor("a", "b")
APART = {
    "a column each but the reference": ("~ site + g", "wxyz", [AB] * 4, "wxyz"),
    "nobody is apart": ("~ g", "wxyz", [AB] * 4, ""),
    "two at the reference hide each other": ("~ site + g", "wwyz", [AB] * 4, "34"),
    "the reference level at one site": ("~ g", "wxyz", [factor("a"), *[factor("b")] * 3], "1"),
    "another order of terms": ("~ g + site", "wxyz", [AB] * 4, "wxyz"),
    "a slope of each site's own": ("~ site * age", "wxyz", [Variable(numeric=True)] * 4, "wxyz"),
    "one slope for all": ("~ age", "wxyz", [Variable(numeric=True)] * 4, ""),
}


@pytest.mark.parametrize("case", APART)
def test_who_is_told_apart_follows_from_the_levels(case):
    formula, sites, groups, apart = APART[case]
    second = "age" if "age" in formula else "g"
    names = [name for name in ("site", second) if name in formula]
    said = {
        str(number): {name: factor(level) if name == "site" else group for name in names}
        for number, (level, group) in enumerate(zip(sites, groups, strict=True), start=1)
    }
    expected = ("1", "2", "3", "4") if apart == "wxyz" else tuple(apart)
    assert Design.agree(formula, {}, said).told_apart(said) == expected


BLOCKS = {"a": "ax", "b": "ax", "c": "ax", "d": "by", "e": "by", "f": "by", "g": "ay"}
"""By site the levels that all its samples have of two factors: each is at three sites or more, each column too."""


def in_blocks(lay):
    grounds = lay("blocks", tuple(BLOCKS), samples=56, genes=20).rule("max_params_per_sample = 1")
    for name, (one, two) in BLOCKS.items():
        grounds.edit(name, lambda adata, one=one: adata.obs.insert(0, "one", one))
        grounds.edit(name, lambda adata, two=two: adata.obs.insert(0, "two", two))
    return grounds


def test_a_site_that_two_columns_tell_apart_is_refused_though_neither_is_lonely(lay, lead):
    room = lead.room(in_blocks(lay), design="~ one + two").open()
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(the sums of g follow from those of all columns"):
        room.census()


def test_where_the_levels_are_too_many_to_tell_it_is_refused_too(lay, lead, monkeypatch):
    """An honest formula of many factors has more combinations than are gone through: then the rule held nobody."""
    monkeypatch.setattr(design, "LARGEST_ENUMERATIONS", 1)
    room = lead.room(in_blocks(lay), design="~ one + two").open()
    with pytest.raises(RefusalError, match=r"min_contributors is 3 \(too many combinations of levels to tell"):
        room.census()


def test_without_that_rule_its_sums_are_the_difference_of_two_columns(lay, lead, monkeypatch):
    monkeypatch.setattr(Design, "told_apart", lambda *_: ())
    monkeypatch.setattr(Design, "cells_apart", lambda *_: ())
    monkeypatch.setattr(PolicyChecks, "check_share", lambda *_: None)
    monkeypatch.setattr(PolicyChecks, "check_sizes", lambda *_: None)
    room = lead.room(in_blocks(lay), design="~ one + two").open()
    sums = sums_by_column(room)
    np.testing.assert_allclose(sums[:, 2] - sums[:, 1], own_sums(room, "g"), rtol=1e-12)


def test_with_own_columns_the_default_policy_allows_it_and_nothing_is_published(grounds):
    """The commonest multi-centre design, from every site's own ground: the twin of the refusals above."""
    result = ordered(with_site_column(grounds), own_columns="own")
    told = result.report["disclosure"]
    assert list(result.coefficients.columns) == ["gene", "condition[T.treated]"]
    assert not any(sentence.startswith("Published: the sums") for sentence in told)
    assert any("site[T.site3] at site3" in sentence for sentence in told)


def test_with_own_columns_no_sum_has_a_place_for_a_site(grounds, lead):
    """What the attack on airway reads: sums by column, of which none is a site's any more."""
    room = lead.room(with_site_column(grounds), design=DESIGN).open()
    sums = sums_by_column(room)
    assert sums.shape[1] == 1
    for name in room.names:
        assert not np.isclose(sums[:, 0], own_sums(room, name)).any()


def test_a_site_whose_own_columns_are_nearly_all_it_has_takes_no_part(grounds):
    def patients(adata):
        adata.obs["patient"] = [f"{adata.obs_names[0]}-{i // 2}" for i in range(adata.n_obs)]

    for name in grounds.names:
        grounds.edit(name, patients)
    rules = "min_samples_per_level = 0\nmax_levels = 100\nmax_own_per_sample = 0.4"
    with pytest.raises(RefusalError, match=r"max_own_per_sample is 0\.4 \(\d+ own columns\)$"):
        ordered(grounds.rule(rules), design="~ patient + condition", own_columns="own")


def test_a_simulation_publishes_and_says_so(grounds):
    with_site_column(grounds)
    sites = {name: str(path) for name, path in grounds.data.items()}
    result = secirls.fit(sites, **SHARED, engine="local", kernel="numpy", preset="irls")
    text = " ".join(result.report["disclosure"])
    assert "This is a simulation: site1, site2, site3, site4" in text
    assert "are those of site2 alone" in text
    assert names_of_those_that_follow(result) == ["site1"]
    assert Place("site1", sites["site1"]).ground is None
