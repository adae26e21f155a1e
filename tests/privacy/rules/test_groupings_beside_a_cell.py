"""Honest fits by groupings that agree but for one sample, which is alone in its cell of sex and condition at its site.

Whoever smokes or smoked ever did, but for one patient. The sums of those who ever did, less those of the other two, are
that patient's counts. At its site the interaction of one fit is that patient's alone, so that in all columns together
it is as alone as in that fit's. Each site looks for it once more in all columns but one of those. The twin doesn't.
"""

import numpy as np
import pytest

from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import likeness

OWNER = "site3"
NAMES = ("site1", "site2", "site3")
LEVELS = {"sex": ("m", "w"), "condition": ("control", "treated")}
OF = {"stage": {"stage": ("I", "II", "III", "IV")}, "grade": {"grade": ("one", "two", "three", "unknown")}}
CROSSED = "~ sex * condition"
REFUSED = r"site 'site3': its policy refuses: min_difference is 5 \(design columns"
SMOKING = {column: {f"{column}[T.yes]": sign} for column, sign in (("ever", 1.0), ("smokes", -1.0), ("smoked", -1.0))}
GRADING = {
    "stage": {"stage[T.III]": -1.0, "stage[T.IV]": -1.0},
    "grade": {"grade[T.three]": 1.0, "grade[T.unknown]": 1.0},
}
FITS = {
    "three columns after the interaction": ([CROSSED], "~ ", SMOKING),
    "three columns beside the interaction": ([], f"{CROSSED} + ", SMOKING),
    "two groupings beside the interaction": ([], f"{CROSSED} + ", GRADING),
}


@pytest.fixture
def grounds(lay):
    """Three sites of 48, twelve in each cell but at the owner, whose last sample is its only man without treatment.

    It never smoked, but is said to have; and is of a high grade, at an early stage.
    """
    laid = lay(names=NAMES, samples=144, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            number = np.arange(adata.n_obs)
            one = (number == adata.n_obs - 1) & (name == OWNER)
            cells = (16, 16, 15, 1) if name == OWNER else (12, 12, 12, 12)
            adata.obs["sex"] = np.repeat(["w", "w", "m", "m"], cells)
            adata.obs["condition"] = np.repeat(["treated", "control", "treated", "control"], cells)
            part = (number[::-1] + 3) % 4
            for column, chosen in ("smokes", part == 0), ("smoked", part == 1), ("ever", (part < 2) | one):
                adata.obs[column] = np.where(chosen, "yes", "no")
            adata.obs["stage"] = np.array(["III", "IV", "I", "II"])[part]
            grade = 2 * ((part < 2) | one) + (part + number // 4) % 2
            adata.obs["grade"] = np.array(["one", "two", "three", "unknown"])[grade]

        laid.edit(name, edit)
    return laid


def difference(grounds, lead, before, beside, columns):
    """What the sums of some columns of these fits come to; and the one sample's counts over its size factor."""
    for design in before:
        lead.normalised(grounds, design=design, levels=LEVELS)
    found = 0.0
    for name, signs in columns.items():
        levels = {**({} if before else LEVELS), **OF.get(name, {})}
        sums, sites = lead.normalised(grounds, design=beside + name, levels=levels)
        found = found + sum(sign * sums[column] for column, sign in signs.items())
    own = sites[OWNER]._samples
    return found, own.counts[-1] / own.size_factors[-1]


@pytest.mark.parametrize("fits", FITS)
def test_the_twin_that_leaves_a_sample_alone_in_its_cell_out_tells_its_counts(grounds, lead, monkeypatch, fits):
    monkeypatch.setattr(likeness, "_alone_besides", lambda *_: False)
    found, true = difference(grounds, lead, *FITS[fits])
    np.testing.assert_allclose(found, true, atol=1e-9)


@pytest.mark.parametrize("fits", FITS)
def test_a_sample_alone_in_its_cell_and_in_groupings_is_refused_by_its_site(grounds, lead, fits):
    with pytest.raises(RefusalError, match=REFUSED):
        difference(grounds, lead, *FITS[fits])


def inversions(monkeypatch):
    """So many matrices are inverted for forty patients, of whom twenty have one sample here."""
    whole, count = np.linalg.inv, []
    monkeypatch.setattr(np.linalg, "inv", lambda matrix: count.append(0) or whole(matrix))
    patients = np.eye(40)[[*range(20), *np.repeat(range(20, 40), 4)]]
    columns = {(f"patient{i}", b""): patients[:, i] for i in range(1, 40)}
    later = {**columns, ("treated", b""): np.arange(100.0) % 2}
    assert not likeness._alone_besides(columns, later, np.ones((100, 1)), np.arange(100) < 20)
    return len(count)


def test_patients_of_one_sample_cost_a_few_inversions_each(monkeypatch):
    assert inversions(monkeypatch) <= 10 * 20


def test_the_twin_that_leaves_every_column_out_in_turn_costs_as_many_as_there_are_columns(monkeypatch):
    monkeypatch.setattr(likeness, "_NO_PART", 0.0)
    assert inversions(monkeypatch) > 40 * 20
