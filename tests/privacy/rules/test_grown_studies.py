"""Two honest fits before and after a study grew by some samples: columns of both are held against each other.

With five samples more a site's data are other data, which may be in another fit. But most samples are the same: where
one of them has another label in the second fit, or one of the new ones alone has a label, the difference along that
column is its counts. The twin compares columns of the same samples alone.
"""

import numpy as np
import pytest

from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import guard, memory
from secirls.site.guarding.likeness import Likeness, Summed
from secirls.site.guarding.memory import Memory
from secirls.site.guarding.summed_columns import SummedColumns

NAMES = ("site1", "site2", "site3")
OWNER = "site3"
SAMPLE = 4
MORE = 6
REFUSED = r"site 'site3': its policy refuses: min_difference is 5 \(design columns or size factors, but for a few"


@pytest.fixture
def growing(lay):
    """Labels, corrected ones, and others in which the last sample is treated; the last are controls in all else."""
    grounds = lay(names=NAMES, samples=60, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            labels = np.where(np.arange(adata.n_obs) % 2 == 0, "treated", "control")
            if name == OWNER:
                labels[-MORE:] = "control"
            adata.obs["given"], adata.obs["size"] = labels.copy(), np.linspace(0.5, 2.0, adata.n_obs)
            adata.obs["joined"], adata.obs["corrected"] = labels.copy(), labels.copy()
            if name == OWNER:
                adata.obs.loc[adata.obs.index[-1], "joined"] = "treated"
                adata.obs.loc[adata.obs.index[SAMPLE], "corrected"] = "control"

        grounds.edit(name, edit)
    return grounds


@pytest.fixture
def apart(monkeypatch):
    """Sites to whose memory other data are about other samples."""
    monkeypatch.setattr(Memory, "of_other_data", lambda *_: [])


def around(grounds, lead, column, *, first="before"):
    """What two fits differ by along labels of before the owner's study grew and those of after; and the owner's."""
    whole, found = grounds.data[OWNER].read_bytes(), {}
    for which in sorted(["before", "after"], reverse=first == "before"):
        grounds.data[OWNER].write_bytes(whole)
        if which == "before":
            grounds.edit(OWNER, lambda adata: adata._inplace_subset_obs(np.arange(adata.n_obs - MORE)))
        name = "given" if which == "before" else column
        sums, _ = lead.normalised(grounds, design=f"~ {name}", size_factors="size")
        found[which] = sums[f"{name}[T.treated]"]
    return found["after"] - found["before"]


def true(grounds, at):
    return grounds.counts(OWNER)[at] / np.linspace(0.5, 2.0, len(grounds.counts(OWNER)))[at]


@pytest.mark.parametrize(("column", "at"), [("corrected", SAMPLE), ("joined", -1)])
def test_the_twin_to_which_a_grown_study_is_another_tells_one_samples_counts(growing, lead, apart, column, at):
    truth = true(growing, at)
    np.testing.assert_allclose(np.abs(around(growing, lead, column)), truth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("column", ["corrected", "joined"])
@pytest.mark.parametrize("first", ["before", "after"])
def test_labels_that_differ_in_one_sample_are_refused_although_a_study_grew(growing, lead, column, first):
    with pytest.raises(RefusalError, match=REFUSED):
        around(growing, lead, column, first=first)


def test_a_study_that_grew_is_fitted_again(growing, lead):
    around(growing, lead, "given")


def where_genes_left(grounds, lead):
    """What a corrected label makes along labels where all files lost genes in between; and the sample's counts."""
    before, _ = lead.normalised(grounds, design="~ given", size_factors="size")
    for name in NAMES:
        grounds.edit(name, lambda adata: adata._inplace_subset_var(np.arange(adata.n_vars - 10)))
    after, _ = lead.normalised(grounds, design="~ corrected", size_factors="size")
    return before["given[T.treated]"][:30] - after["corrected[T.treated]"], true(grounds, SAMPLE)


def test_labels_that_differ_in_one_sample_are_refused_although_genes_left(growing, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        where_genes_left(growing, lead)


def test_the_twin_to_which_samples_of_fewer_genes_are_others_tells_its_counts(growing, lead, monkeypatch):
    monkeypatch.setattr(memory, "same_samples", lambda *_: {})
    found, truth = where_genes_left(growing, lead)
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-6)


# What samples that come and go do.


def summed(samples, *columns, sizes=None):
    """Columns of some of 40 samples."""
    rows = np.column_stack([np.ones(40), np.ones(40), *columns])[samples]
    s = np.linspace(0.5, 2.0, 40)[samples] if sizes is None else sizes
    names = ("i", *(f"x{number}" for number in range(len(columns))))
    return Summed(rows / s[:, None], 0, names, tuple(f"{sample:02d}" for sample in samples))


C, TREATED = np.arange(40) % 2 * 1.0, np.arange(40)[1::2]
AT = np.arange(40)


@pytest.mark.parametrize(
    ("one", "other", "few"),
    [
        (summed(AT[:30], C), summed(AT, C), 0),  # five and five
        (summed(AT[:34], C), summed(AT, C), 1),  # three and three
        (summed(AT[:30], C), summed(AT, C + 9.0 * (AT == 3)), 0),  # and one
        (summed(AT[:30], C), summed(AT, C + 9.0 * (AT == 3), AT >= 30, C * (AT >= 30)), 1),  # which stands alone so
        (summed(AT[:30], C), summed(AT[10:], C), 0),
        (summed(AT[:34], C), summed(AT, C, sizes=np.linspace(2.0, 0.5, 40)), 0),
    ],
)
def test_fits_are_held_against_each_other_over_the_samples_of_both(one, other, few):
    assert Likeness.of([one], other, 5).few_differ == Likeness.of([other], one, 5).few_differ == few


def test_samples_that_come_and_go_by_fives_are_added_up():
    """Of four fits no two differ in fewer than five samples, and together they tell one sample's counts."""
    core, one, four, five = AT[:20], AT[20:21], AT[21:25], AT[25:30]
    fits = [summed(np.concatenate(parts)) for parts in ([core], [core, one, four], [core, one, five])]
    last = summed(np.concatenate([core, four, five]))
    assert not any(Likeness.of([fit], last, 5).few_differ for fit in fits)
    assert Likeness.of(fits, last, 5).few_differ == 1


# Two fits at the same time, of which the first waits until the second is over.


def overtaken(grounds, lead):
    """What a fit of before the owner's study grew opens, that ends after one of the grown study does, less the latter.

    Both are about the labels of before, of which one is corrected in between.
    """
    whole = grounds.data[OWNER].read_bytes()
    grounds.edit(OWNER, lambda adata: adata._inplace_subset_obs(np.arange(adata.n_obs - MORE)))
    waiting = lead.until_normalised(grounds, design="~ given", size_factors="size")
    next(waiting)
    grounds.data[OWNER].write_bytes(whole)
    after, _ = lead.normalised(grounds, design="~ corrected", size_factors="size")
    (before, _) = next(waiting)
    return after["corrected[T.treated]"] - before["given[T.treated]"]


def test_a_fit_that_another_one_overtakes_is_held_against_it(growing, lead):
    with pytest.raises(RefusalError, match=REFUSED):
        overtaken(growing, lead)


def test_the_twin_that_looks_around_as_a_fit_begins_tells_one_samples_counts(growing, lead, monkeypatch):
    class Hasty(SummedColumns):
        def __init__(self, site, file, samples, others=tuple):
            found = others()
            super().__init__(site, file, samples, lambda: found)

    monkeypatch.setattr(guard, "SummedColumns", Hasty)
    np.testing.assert_allclose(-overtaken(growing, lead), true(growing, SAMPLE), rtol=1e-6, atol=1e-6)
