"""Two honest fits with columns that differ in one sample, at a site where the column is otherwise a constant.

Nobody at the owner's smokes, so a column of zeros and ones is all zeros there, and in a corrected one a single sample
has a one. To the owner's memory the first is nothing of its own, as if the second were a column more; elsewhere they
are the same, and the difference of what is opened is that sample's counts. The twin looks at combinations alone.
"""

import numpy as np
import pytest

from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import likeness, summed_columns
from secirls.site.guarding.likeness import Summed, few_stand_out

NAMES = ("site1", "site2", "site3")
OWNER = "site3"
SAMPLE = 4
REFUSED = r"site 'site3': its policy refuses: min_difference is 5 \(design columns or size factors, but for a few"


@pytest.fixture
def smokers(lay):
    """A column of ones and twos, and a corrected one; the owner's first has ones alone."""
    grounds = lay(names=NAMES, samples=30, genes=20)
    for name in NAMES:

        def edit(adata, name=name):
            packs = 1.0 + np.random.default_rng(ord(name[-1])).integers(0, 2, adata.n_obs) * (name != OWNER)
            adata.obs["smoker"] = packs.copy()
            packs[SAMPLE] += name == OWNER
            adata.obs["corrected"] = packs
            adata.obs["size"] = np.linspace(0.5, 2.0, adata.n_obs)

        grounds.edit(name, edit)
    return grounds


def sums_of(grounds, lead, column):
    """What an honest fit opens along a column of numbers as its users have it, and the owner's samples."""
    sums, sites = lead.normalised(grounds, design=f"~ {column}", size_factors="size")
    scaled = sites["site1"]._samples.design[:, 1]
    scale, centre = np.polyfit(scaled, 1.0 + np.random.default_rng(ord("1")).integers(0, 2, scaled.size), 1)
    return scale * sums[column] + centre * sums["all"], sites[OWNER]._samples


def of_both(grounds, lead, columns=("smoker", "corrected")):
    (first, _), (second, own) = (sums_of(grounds, lead, column) for column in columns)
    return np.abs(second - first), own.counts[SAMPLE] / own.size_factors[SAMPLE]


def test_the_twin_that_looks_at_combinations_alone_tells_one_samples_counts(smokers, lead, monkeypatch):
    monkeypatch.setattr(likeness, "few_stand_out", lambda *_: False)
    found, true = of_both(smokers, lead)
    np.testing.assert_allclose(found, true, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("columns", [("smoker", "corrected"), ("corrected", "smoker")])
def test_a_sample_that_stands_out_of_a_constant_is_refused_by_its_site(smokers, lead, columns):
    with pytest.raises(RefusalError, match=REFUSED):
        of_both(smokers, lead, columns)


# What stands out.

ONES, C, AGE, ONE = np.ones(20), np.arange(20) % 2 * 1.0, np.linspace(20.0, 60.0, 20), (np.arange(20) == SAMPLE) * 1.0
FOUR = (np.arange(20) < 4) * 1.0


def summed(**columns):
    return Summed(np.column_stack([ONES, *columns.values()]) / AGE[:, None], 0, tuple(columns))


@pytest.mark.parametrize(
    ("one", "other", "tells"),
    [
        (summed(i=ONES, x=ONES), summed(i=ONES, z=ONES + ONE), True),
        (summed(i=ONES, x=0 * ONES), summed(i=ONES, z=ONE), True),
        (summed(i=ONES, c=C, x=C), summed(i=ONES, c=C, z=C + ONE), True),
        (summed(i=ONES, c=C, x=3 * C + 2), summed(i=ONES, c=C, z=C + ONE), True),
        (summed(i=ONES, x=ONES), summed(i=ONES, x=ONES, z=ONES + ONE), False),  # both have it
        (summed(i=ONES, c=C), summed(i=ONES, c=C, z=ONE), False),
        (summed(i=ONES, x=0 * ONES), summed(i=ONES, x=0 * ONES, a=AGE), False),
        (summed(i=ONES, x=0 * ONES), summed(i=ONES, a=AGE), False),
        (summed(i=ONES, x=0 * ONES), summed(i=ONES, z=FOUR), False),  # as many as a level that is told
        (summed(i=ONES, c=C), summed(i=ONES, d=1 - C), False),
    ],
)
def test_what_is_nothing_of_its_own_here_may_be_the_same_column_elsewhere(one, other, tells):
    assert few_stand_out(one, other, 5) == few_stand_out(other, one, 5) == tells


def test_columns_of_before_they_had_names_are_read(tmp_path):
    file = tmp_path / "a-columns.npz"
    np.savez(file, np.column_stack([ONES, ONES, C]), own=np.array([1]))
    kept = summed_columns.SummedColumns("site1", file, [f"{i:02}" for i in range(20)])
    kept.take(ONES[:, None], C[:, None], ONES, 5, lambda _: None, ("i", "c"))
    assert [(one.own, one.names) for one in summed_columns._read(file, kept._samples)] == [(1, ()), (1, ("i", "c"))]
