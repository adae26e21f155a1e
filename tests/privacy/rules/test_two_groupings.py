"""Two honest fits by two groupings that agree but for one sample: not level by level, but taken two by two.

Stages one and two are of low grade, one or two, but for one patient. No column of one fit is nearly a combination of
the other's, and yet the sums of two levels of each differ by that patient's counts alone. Each site looks for a sample
of its own that stands alone in all columns together, as its leverage says. The twin doesn't.
"""

import numpy as np
import pytest

from secirls.numerics.algebra.least_deviations import Combinations
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import likeness
from secirls.site.guarding.likeness import Likeness, Summed
from secirls.site.guarding.likeness import _one_apart as one_apart

OWNER, AT = "site3", 7
NAMES = ("site1", "site2", "site3")
REFUSED = r"site 'site3': its policy refuses: min_difference is 5 \(design columns"


def by_grades(lay, samples, apart):
    """Three sites: as many of each stage, and of each grade but for the owner's samples ``apart``."""
    grounds = lay(names=NAMES, samples=3 * samples, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            number = np.arange(samples)
            grade = 2 * (2 * number // samples) + number % 2
            grade[apart] = 2 if name == OWNER else grade[apart]
            adata.obs["stage"] = np.array(["I", "II", "III", "IV"])[4 * number // samples]
            adata.obs["grade"] = np.array(["one", "two", "three", "unknown"])[grade]

        grounds.edit(name, edit)
    return grounds


@pytest.fixture
def grouped(lay):
    """Three sites of sixteen samples: four of each stage, and as many of each grade but at the owner."""
    return by_grades(lay, 16, [AT])


def difference(grounds, lead, apart=(AT,)):
    """Of the sums over high grades and over late stages; and what the patients' counts over their size factors are."""
    stages, sites = lead.normalised(grounds, design="~ stage", levels={"stage": ("I", "II", "III", "IV")})
    grades, _ = lead.normalised(grounds, design="~ grade", levels={"grade": ("one", "two", "three", "unknown")})
    own, at = sites[OWNER]._samples, list(apart)
    found = grades["grade[T.three]"] + grades["grade[T.unknown]"] - stages["stage[T.III]"] - stages["stage[T.IV]"]
    return found, (own.counts[at] / own.size_factors[at, None]).sum(axis=0)


def test_the_twin_that_looks_at_columns_one_by_one_tells_one_samples_counts(grouped, lead, monkeypatch):
    monkeypatch.setattr(likeness, "one_is_alone", lambda *_: False)
    found, true = difference(grouped, lead)
    np.testing.assert_allclose(found, true, atol=1e-9)


def test_a_sample_that_stands_alone_in_two_groupings_is_refused_by_its_site(grouped, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        difference(grouped, lead)


# The same of two patients, whose counts are told added up.

TWO = [5, AT]


def test_the_twin_that_looks_for_one_sample_alone_tells_the_counts_of_two(lay, lead, monkeypatch):
    monkeypatch.setattr(likeness, "two_are_alone", lambda *_: False)
    found, true = difference(by_grades(lay, 24, TWO), lead, TWO)
    np.testing.assert_allclose(found, true, atol=1e-9)


def test_two_samples_that_stand_apart_in_two_groupings_are_refused_by_their_site(lay, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        difference(by_grades(lay, 24, TWO), lead, TWO)


def test_of_three_the_sum_is_told(lay, lead):
    found, true = difference(by_grades(lay, 24, [3, *TWO]), lead, [3, *TWO])
    np.testing.assert_allclose(found, true, atol=1e-9)


# Two columns that differ in a sample that is alone in its cell at its site: there each is a combination of others.


@pytest.fixture
def dosed(lay):
    """Three sites of fourteen: a dose was given to treated women, and to one man more, the owner's only control."""
    grounds = lay(names=NAMES, samples=42, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            cells = (4, 4, 5, 1) if name == OWNER else (4, 4, 3, 3)
            adata.obs["sex"] = np.repeat(["w", "w", "m", "m"], cells)
            adata.obs["condition"] = np.repeat(["treated", "control", "treated", "control"], cells)
            adata.obs["dose"] = np.repeat([1.0, 0.0, 0.0, float(name == OWNER)], cells)

        grounds.edit(name, edit)
    return grounds


def of_a_dose(grounds, lead):
    """The difference of sums of the dose and of treated women; and the counts over its size factor of the one man."""
    levels = {"sex": ("m", "w"), "condition": ("control", "treated")}
    (first, sites), (second, _) = (
        lead.normalised(grounds, design=design, levels=levels)
        for design in ("~ sex + condition + dose", "~ sex * condition")
    )
    columns = np.concatenate([site._samples.covariates.numbers[:, 0] for site in sites.values()])
    scaled = np.concatenate([site._samples.design[:, 3] for site in sites.values()])
    slope, start = np.polyfit(scaled, columns, 1)
    own = sites[OWNER]._samples
    both = second["sex[T.w]:condition[T.treated]"]
    return slope * first["dose"] + start * first["all"] - both, own.counts[-1] / own.size_factors[-1]


def test_the_twin_that_takes_combinations_at_a_site_for_those_of_all_tells_one_samples_counts(dosed, lead, monkeypatch):
    monkeypatch.setattr(likeness, "_one_apart", lambda *_: False)
    monkeypatch.setattr(likeness, "_alone_besides", lambda *_: False)
    found, true = of_a_dose(dosed, lead)
    np.testing.assert_allclose(found, true, atol=1e-6)


def test_a_column_that_differs_in_a_sample_alone_in_its_cell_is_refused_by_its_site(dosed, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        of_a_dose(dosed, lead)


# The same of the two samples of a cell, whom no combination of all columns singles out.


@pytest.fixture(params=[("", ""), (" + age", " + weight")])
def also(request):
    """What stands in either design too: nothing, or a column of its own, so that neither is made of the other's."""
    return request.param


def dosed_men(lay, men):
    """Three sites of twenty-four: a dose was given to treated women, and to the few control men of the owner."""
    grounds = lay(names=NAMES, samples=72, genes=40)
    for number, name in enumerate(NAMES):

        def edit(adata, name=name, number=number):
            cells = (7, 7, 10 - men, men) if name == OWNER else (6, 6, 6, 6)
            rng = np.random.default_rng(number)
            adata.obs["sex"] = np.repeat(["w", "w", "m", "m"], cells)
            adata.obs["condition"] = np.repeat(["treated", "control", "treated", "control"], cells)
            adata.obs["dose"] = np.repeat([1.0, 0.0, 0.0, float(name == OWNER)], cells)
            adata.obs["age"], adata.obs["weight"] = rng.uniform(20, 80, 24).round(), rng.uniform(50, 90, 24).round()

        grounds.edit(name, edit)
    return grounds


def of_men(grounds, lead, men, also=("", "")):
    """The difference of sums of the dose and of treated women; and the men's counts over their size factors."""
    levels = {"sex": ("m", "w"), "condition": ("control", "treated")}
    (first, sites), (second, _) = (
        lead.normalised(grounds, design=design, levels=levels)
        for design in (f"~ sex + condition + dose{also[0]}", f"~ sex * condition{also[1]}")
    )
    columns = np.concatenate([site._samples.covariates.numbers[:, 0] for site in sites.values()])
    scaled = np.concatenate([site._samples.design[:, list(first).index("dose")] for site in sites.values()])
    slope, start = np.polyfit(scaled, columns, 1)
    own = sites[OWNER]._samples
    theirs = (own.counts[-men:] / own.size_factors[-men:, None]).sum(axis=0)
    return slope * first["dose"] + start * first["all"] - second["sex[T.w]:condition[T.treated]"], theirs


def test_the_twin_that_looks_for_one_sample_in_a_cell_tells_the_counts_of_two(lay, lead, monkeypatch, also):
    monkeypatch.setattr(likeness, "_one_apart", lambda *given: one_apart(*given[:3], 2))
    found, true = of_men(dosed_men(lay, 2), lead, 2, also)
    np.testing.assert_allclose(found, true, atol=1e-6)


def test_a_column_that_differs_in_the_two_samples_of_a_cell_is_refused_by_its_site(lay, lead, also):
    with pytest.raises(RefusalError, match=REFUSED):
        of_men(dosed_men(lay, 2), lead, 2, also)


def test_of_three_of_a_cell_the_sum_is_told_where_neither_fit_has_a_column_besides(lay, lead):
    """They may as well be a level, merged with another in the second fit."""
    found, true = of_men(dosed_men(lay, 3), lead, 3)
    np.testing.assert_allclose(found, true, atol=1e-6)


# Two columns of numbers that differ much in one sample, and a little in all.


@pytest.fixture(params=["", "sex * condition + "])
def beside(request):
    """What stands beside ages in a design: nothing, or factors in whose cell the mistyped is alone at its site."""
    return request.param


@pytest.fixture
def ages(lay):
    """Three sites of twenty patients: ages to two years, and exactly; one of the first was mistyped, the last."""
    grounds = lay(names=NAMES, samples=60, genes=60)
    for number, name in enumerate(NAMES):

        def edit(adata, name=name, number=number):
            exact = np.random.default_rng(number).uniform(20.0, 85.0, adata.n_obs)
            exact[-1] = exact.max() + 1.0
            mistyped = (np.arange(adata.n_obs) == adata.n_obs - 1) & (name == OWNER)
            cells = (6, 6, 7, 1) if name == OWNER else (5, 5, 5, 5)
            adata.obs["sex"] = np.repeat(["w", "w", "m", "m"], cells)
            adata.obs["condition"] = np.repeat(["treated", "control", "treated", "control"], cells)
            adata.obs["exact"], adata.obs["age"] = exact, 2.0 * np.floor(exact / 2.0) - 40.0 * mistyped

        grounds.edit(name, edit)
    return grounds


def of_ages(grounds, lead, beside):
    """The mistyped patient's counts over its size factor by two fits, those of the mean sample, and what they are."""
    told, levels = [], {"sex": ("m", "w"), "condition": ("control", "treated")} if beside else {}
    for column in ("age", "exact"):
        sums, sites = lead.normalised(grounds, design=f"~ {beside}{column}", levels=levels)
        numbers = np.concatenate([site._samples.covariates.numbers[:, 0] for site in sites.values()])
        scaled = np.concatenate([site._samples.design[:, list(sums).index(column)] for site in sites.values()])
        slope, start = np.polyfit(scaled, numbers, 1)
        told.append(slope * sums[column] + (start - numbers.mean()) * sums["all"])
    own = sites[OWNER]._samples
    true = own.counts[-1] / own.size_factors[-1]
    some = true > 20
    return tuple(values[some] for values in ((told[1] - told[0]) / 40.0 + sums["all"] / 60.0, sums["all"] / 60.0, true))


def off(found, true):
    return float(np.median(np.abs(found - true) / true))


def test_the_twin_that_looks_for_one_sample_to_the_digit_tells_its_counts_to_some_percent(
    ages, lead, monkeypatch, beside
):
    monkeypatch.setattr(likeness, "_NEARLY_ALONE", 0.999)
    found, mean, true = of_ages(ages, lead, beside)
    assert off(found, true) < 0.06
    assert off(mean, true) > 0.2


def test_the_twin_that_looks_at_all_columns_together_tells_them_of_one_alone_in_its_cell(ages, lead, monkeypatch):
    monkeypatch.setattr(likeness, "_alone_besides", lambda *_: False)
    found, mean, true = of_ages(ages, lead, "sex * condition + ")
    assert off(found, true) < 0.06
    assert off(mean, true) > 0.2


def test_numbers_that_differ_in_one_sample_and_a_little_elsewhere_are_refused_by_its_site(ages, lead, beside):
    with pytest.raises(RefusalError, match=REFUSED):
        of_ages(ages, lead, beside)


# Three fits at a site where columns of the first two leave no three samples free, which other rules take for nothing.


CELLS = [(0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
"""Of two levels each, of three factors; nobody is in the first of all, one sample in the last."""


def by_two(first, second):
    a, b = (np.array(CELLS, float)[:, factor] for factor in (first, second))
    names = ("Intercept", f"x{first}", f"x{second}", f"x{first}:x{second}")
    return Summed(np.column_stack([np.ones(8), np.ones(8), a, b, a * b]), 0, names, tuple("abcdefgh"))


def likeness_of_the_last_two():
    first, second, third = by_two(0, 1), by_two(0, 2), by_two(1, 2)
    cell = np.array(CELLS).all(axis=1).astype(float)
    every = np.hstack([one.columns for one in (first, second, third)])
    np.testing.assert_allclose(every @ np.linalg.lstsq(every, cell, rcond=None)[0], cell, atol=1e-9)
    return [Likeness.of(told, now, 5).few_differ for told, now in (([first], second), ([first, second], third))]


def test_of_three_fits_by_two_factors_each_that_tell_the_cell_of_all_three_the_second_is_refused():
    assert likeness_of_the_last_two()[0]


def test_a_site_that_judges_single_samples_harmless_takes_part():
    first, second = by_two(0, 1), by_two(0, 2)
    assert Likeness.of([first], second, 2).few_differ
    assert not Likeness.of([first], second, 1).few_differ


def test_the_twin_that_needs_free_samples_sees_none_of_it(monkeypatch):
    monkeypatch.setattr(likeness, "one_is_alone", lambda *_: False)
    assert likeness_of_the_last_two() == [0, 0]


def test_two_samples_are_found_in_whichever_columns_have_a_combination_of_theirs():
    generator = np.random.default_rng(3)
    columns = generator.normal(size=(30, 6))
    columns[[4, 21], 5] = 1.0, -3.0
    columns[:, 5] *= np.isin(np.arange(30), (4, 21))
    mixed = Combinations(columns @ generator.normal(size=(6, 6)))
    assert mixed.pairs(0.999) == {(4, 21)}
    assert mixed.leverages.max() < 0.999
    assert Combinations(columns[:, :5]).pairs(0.999) == set()


# What is ordinary.


def of(samples, **columns):
    return Summed(
        np.column_stack([np.ones(samples), np.ones(samples), *columns.values()]),
        0,
        ("Intercept", *columns),
        tuple(f"{number:03}" for number in range(samples)),
    )


def crossed(samples, seed, cell):
    """Age, sex and condition, of which both together have so few samples; and the fits with and without that column."""
    generator = np.random.default_rng(seed)
    sex, condition = np.zeros(samples), np.zeros(samples)
    sex[: samples // 2] = 1.0
    condition[:cell] = condition[samples // 2 : samples // 2 + samples // 3] = 1.0
    plain = {"sex": sex, "condition": condition}
    return of(samples, age=generator.normal(55, 9, samples).round(), **plain), of(
        samples, **plain, both=sex * condition
    )


@pytest.mark.parametrize("cell", [1, 2, 4])
def test_an_interaction_after_a_fit_of_its_factors_is_no_few_samples_although_a_cell_is(cell):
    """The sum of the cell is in that of the fit with the interaction by itself: its own rules are about it."""
    additive, whole = crossed(24, 1, cell)
    assert Likeness.of([additive], whole, 5).few_differ == Likeness.of([whole], additive, 5).few_differ == 0


@pytest.mark.parametrize("changed", [1, 2, 4])
def test_but_one_with_labels_that_differ_in_few_samples_is(changed):
    additive, whole = crossed(40, 1, 4)
    corrected = additive.columns[:, -1].copy()
    corrected[-changed:] = 1.0
    other = of(40, age=additive.columns[:, 2], sex=additive.columns[:, 3], revised=corrected)
    assert Likeness.of([other], whole, 5).few_differ
    assert Likeness.of([whole], other, 5).few_differ
