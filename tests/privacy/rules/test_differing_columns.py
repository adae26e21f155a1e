"""Two honest fits whose columns differ in one sample: the difference of what they open is that sample's counts.

One obs column with a corrected label beside the old one, size factors with another value for one sample, a layer of the
same counts but for a few: each fit is about all samples and nearly the same columns. Sites keep with which columns over
which size factors their data was summed, and refuse others that differ in few samples. The twins forget.
"""

import numpy as np
import pytest

from secirls.input_error import InputError
from secirls.numerics.algebra.least_deviations import Combinations
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import likeness, memory
from secirls.site.guarding.likeness import Summed, few_differ
from secirls.site.guarding.memory import Memory
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.site import Site

OWNER = "site3"
NAMES = ("site1", "site2", "site3")
REFUSED = r"site 'site3': its policy refuses: min_difference is 5 \(design columns or size factors, but for a few"


@pytest.fixture
def grounds(lay):
    return lay(names=NAMES, samples=30, genes=40)


def relabelled(adata, owner):
    """A second column of labels: one treated sample of the owner's is a control in it. Gives which."""
    labels = adata.obs["condition"].astype(str).to_numpy().copy()
    at = int(np.flatnonzero(labels == "treated")[0])
    if owner:
        labels[at] = "control"
    adata.obs["corrected"] = labels
    return at


@pytest.fixture
def corrected(grounds):
    for name in NAMES:
        grounds.edit(name, lambda adata, name=name: relabelled(adata, name == OWNER))
    return grounds


def treated(sites):
    """Which sample it is that was relabelled."""
    return int(np.flatnonzero(sites[OWNER]._samples.design[:, 1])[0])


@pytest.fixture
def forgetful(monkeypatch):
    for look in ("few_differ", "one_is_alone"):
        monkeypatch.setattr(likeness, look, lambda *_: False)


def difference(grounds, lead):
    before, sites = lead.normalised(grounds)
    after, _ = lead.normalised(grounds, design="~ corrected")
    own, at = sites[OWNER]._samples, treated(sites)
    return before["condition[T.treated]"] - after["corrected[T.treated]"], own.counts[at] / own.size_factors[at]


def test_the_twin_that_forgets_tells_one_samples_counts(corrected, lead, forgetful):
    found, true = difference(corrected, lead)
    np.testing.assert_allclose(found, true, atol=1e-9)


def test_labels_that_differ_in_one_sample_are_refused_by_its_site(corrected, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        difference(corrected, lead)


def with_ages(grounds):
    for name, ages in zip(NAMES, (5, 5, 7), strict=True):
        grounds.edit(name, lambda adata, ages=ages: adata.obs.__setitem__("age", np.arange(adata.n_obs) % ages))
    return grounds


def test_so_they_are_in_a_design_of_more_columns_and_the_other_way_round(corrected, lead):
    with_ages(corrected)
    lead.normalised(corrected, design="~ corrected + age")
    with pytest.raises(RefusalError, match=REFUSED):
        lead.normalised(corrected)


def test_the_same_fit_and_one_of_more_columns_are_made(grounds, lead):
    with_ages(grounds)
    for design in ("~ condition", "~ condition", "~ condition + age", "~ condition"):
        assert "condition[T.treated]" in lead.normalised(grounds, design=design)[0]


def test_both_columns_in_one_design_make_a_thin_cell(corrected, lead):
    with pytest.raises(RefusalError, match="cell condition=treated, corrected=control"):
        lead.normalised(corrected, design="~ condition + corrected")


def with_sizes(grounds, change):
    for name in NAMES:

        def edit(adata, name=name):
            first = np.linspace(0.5, 2.0, adata.n_obs)
            adata.obs["size"], adata.obs["revised"] = first, change(name, first.copy())

        grounds.edit(name, edit)
    return grounds


def one_revised(name, factors):
    factors[2] *= 1.5 if name == OWNER else 1.0
    return factors


def all_revised(name, factors):
    return factors * np.random.default_rng(len(name)).lognormal(0.0, 0.1, factors.size)


def of_sizes(grounds, lead):
    (first, sites), (second, _) = (lead.normalised(grounds, size_factors=name) for name in ("size", "revised"))
    own = sites[OWNER]._samples
    return (first["all"] - second["all"]) * own.size_factors[2] * 3.0, own.counts[2]


def test_the_twin_that_forgets_size_factors_tells_a_samples_counts(grounds, lead, forgetful):
    found, true = of_sizes(with_sizes(grounds, one_revised), lead)
    assert np.array_equal(np.rint(found), true)


def test_size_factors_that_differ_in_one_sample_are_refused(grounds, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        of_sizes(with_sizes(grounds, one_revised), lead)


def test_size_factors_that_differ_in_all_samples_are_summed_over(grounds, lead):
    of_sizes(with_sizes(grounds, all_revised), lead)


# A column of numbers without the intercept that would show it to be a constant but for one sample.


def with_hours(grounds):
    for name in NAMES:

        def edit(adata, name=name):
            hours = np.full(adata.n_obs, 24.0)
            hours[2] += 48.0 * (name == OWNER)
            adata.obs["hours"] = hours

        grounds.edit(name, edit)
    return grounds


def test_a_design_beside_which_the_sum_over_all_samples_says_more_is_refused(grounds, lead):
    with pytest.raises(RefusalError, match=r"max_design_share is 0\.99 \(without an intercept"):
        lead.normalised(with_hours(grounds), design="~ 0 + hours")


def test_without_the_rule_one_honest_fit_of_one_column_tells_a_samples_counts(grounds, lead, monkeypatch):
    for rule in ("check_design", "check_numbers"):
        monkeypatch.setattr(PolicyChecks, rule, lambda *_: None)
    sums, sites = lead.normalised(with_hours(grounds), design="~ 0 + hours")
    own = sites[OWNER]._samples
    # What is opened is over a column that was scaled by a public number.
    scale = 24.0 / own.design[0, 0]
    found = (sums["hours"] * scale - 24.0 * sums["all"]) / 48.0
    np.testing.assert_allclose(found, own.counts[2] / own.size_factors[2], rtol=1e-6, atol=1e-6)


def test_one_that_slips_in_by_an_interaction_of_another_fit_is_refused(grounds, lead):
    def edit(adata, owner):
        hours = np.arange(adata.n_obs) * 7.0 % 11
        controls = np.flatnonzero(adata.obs["condition"].astype(str).to_numpy() == "control")
        hours[controls] = 24.0
        hours[controls[0]] += 48.0 * owner
        adata.obs["hours"] = hours

    for name in NAMES:
        grounds.edit(name, lambda adata, name=name: edit(adata, name == OWNER))
    lead.normalised(grounds)
    with pytest.raises(RefusalError, match=REFUSED):
        lead.normalised(grounds, design="~ condition:hours")


# Layers.


@pytest.fixture
def layered(corrected):
    """A layer without one gene's counts: no sample has the same counts there."""
    for name in NAMES:

        def edit(adata):
            counts = np.asarray(adata.X).copy()
            counts[:, 0] = 7
            adata.layers["filtered"] = counts

        corrected.edit(name, edit)
    return corrected


def over_layers(grounds, lead):
    before, sites = lead.normalised(grounds, control_genes=("gene00001", "gene00002"))
    after, _ = lead.normalised(
        grounds, design="~ corrected", layer="filtered", control_genes=("gene00001", "gene00002")
    )
    own, at = sites[OWNER]._samples, treated(sites)
    found = before["condition[T.treated]"] - after["corrected[T.treated]"]
    return found[1:], (own.counts[at] / own.size_factors[at])[1:]


def test_another_layer_of_the_same_samples_is_refused(layered, lead):
    with pytest.raises(RefusalError, match=r"across_fits is refuse .* in another layer"):
        over_layers(layered, lead)


@pytest.mark.parametrize("path", ["/X", "/layers/filtered", "../X", "filtered/../filtered"])
def test_a_path_is_no_layer(layered, lead, path):
    """Within a file it would be another name of some matrix, which no rule lists."""
    config = lead.config(layered, layer=path)
    with pytest.raises(InputError, match="is missing"):
        Site(layered.place("site1"), config, own_process=False).survey()


def test_the_twin_to_which_layers_are_other_data_tells_a_samples_counts(layered, lead, monkeypatch):
    monkeypatch.setattr(Memory, "_is_near", lambda *_: False)
    monkeypatch.setattr(memory, "same_samples", lambda *_: {})
    found, true = over_layers(layered, lead)
    np.testing.assert_allclose(found, true, atol=1e-9)


# The difference.


def test_columns_that_no_two_fits_but_three_together_tell_of_are_found():
    generator = np.random.default_rng(4)
    one, two, three = ((generator.random((2, 60)) < 0.5).astype(float) for _ in range(3))
    first, second = one[0], two[0]
    last = 2.0 * first - second + three[1]
    last[7] += 1.0
    fits = [Summed(np.column_stack([np.ones(60), column]), 0) for column in (first, second, three[1])]
    now = Summed(np.column_stack([np.ones(60), last]), 0)
    assert not any(few_differ(fit, now, 5) for fit in fits)
    assert few_differ(fits[0].beside(*fits[1:]), now, 5)


def test_in_how_many_samples_a_column_differs_is_counted():
    generator = np.random.default_rng(2)
    others = generator.normal(size=(40, 4))
    column = others @ [1.0, -2.0, 0.5, 3.0]
    changed = np.column_stack([column] * 4)
    for at, few in enumerate((0, 1, 2, 4)):
        changed[:few, at] += 3.0
    assert Combinations(others).differing(changed).tolist() == [0, 1, 2, 4]


def by_itself(column, others):
    """The same of one column, by weighted least squares of any library."""
    weights = np.ones(len(column))
    for _ in range(30):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(others * root[:, None], column * root, rcond=None)[0]
        left = np.abs(column - others @ found)
        weights = 1.0 / np.maximum(left, 1e-6 * left.max())
        weights /= weights.max()
    squares = np.cumsum(np.sort(left**2)[::-1])
    return 1 + int(np.searchsorted(squares, 0.999 * squares[-1]))


@pytest.mark.parametrize("columns", [0, 1, 2, 7])
def test_each_of_many_columns_differs_in_as_many_as_by_itself(columns):
    generator = np.random.default_rng(columns)
    others = generator.normal(size=(30, columns)) * 10.0 ** np.arange(-2, columns - 2)
    others = np.column_stack([others, others[:, :1]])  # of lower rank
    many = others @ generator.normal(size=(others.shape[1], 12)) + generator.standard_cauchy((30, 12)) ** 3
    assert Combinations(others).differing(many).tolist() == [by_itself(column, others) for column in many.T]


def test_designs_of_many_columns_hold_no_site_for_seconds(monkeypatch):
    solved, solve = [], np.linalg.solve
    monkeypatch.setattr(np.linalg, "solve", lambda *those: solved.append(1) or solve(*those))
    one, other = np.random.default_rng(3).normal(size=(2, 100, 12))
    one[:, 0] = other[:, 0] = 1.0
    assert not few_differ(Summed(one, 0), Summed(other, 0), 5)
    assert len(solved) == 60 * (1 + 12 + 2)  # not so many for each pair of columns


@pytest.mark.parametrize("samples", [5, 60, *(pytest.param(samples, marks=pytest.mark.slow) for samples in (6, 8, 20))])
def test_columns_that_have_nothing_to_do_with_each_other_differ_in_many(samples):
    """At the smallest sites a few fits of a hundred are refused by chance, and at larger ones none."""
    generator = np.random.default_rng(samples)

    def weighted(columns):
        whole = np.hstack([np.ones((samples, 1)), columns])
        return Summed(whole / generator.lognormal(0.0, 0.3, samples)[:, None], 0)

    def groups():
        labels = np.zeros(samples)
        labels[generator.permutation(samples)[: max(samples // 2, 2)]] = 1.0
        return labels[:, None]

    refused = 0
    for _ in range(100):
        numbers = generator.normal(size=(samples, 1))
        refused += few_differ(weighted(groups()), weighted(numbers), 5)
    assert refused <= (4 if samples < 8 else 0)
