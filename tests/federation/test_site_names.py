"""The name of a site where designs ask for `site` and files have no such column: the fit with the column."""

from __future__ import annotations

import re

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.input_error import InputError
from secirls.inputs.files.site_columns import OWN_NAME
from secirls.inputs.files.site_file import Reading, read_site
from secirls.site import agreeing

SITES, GENES, EACH = ("berlin", "lyon", "turin"), 12, 8
PLAIN = {"engine": "local", "kernel": "numpy", "protocol": "plain", "preset": "irls", "design": "~ site + condition"}


def made(**columns):
    """AnnData by site, with the column `site` of those that are named."""
    rng, found = np.random.default_rng(5), {}
    for number, name in enumerate(SITES):
        obs = pd.DataFrame({"condition": ["a", "b"] * (EACH // 2)}, index=[f"{name}{i}" for i in range(EACH)])
        if name in columns:
            obs[OWN_NAME] = columns[name]
        counts = rng.poisson(40 * (number + 1), (EACH, GENES)).astype(np.int32)
        found[name] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))
    return found


def by_site(columns=None, **options):
    return secirls.fit(made(**columns or {}), **{**PLAIN, **options})


@pytest.fixture(scope="module")
def with_columns():
    return by_site({name: name for name in SITES})


@pytest.mark.parametrize("columns", [{}, {"lyon": "lyon"}])
def test_names_stand_in_for_columns_that_hold_them(with_columns, columns):
    found = by_site(columns)
    assert np.array_equal(found.coefficients["condition[T.b]"], with_columns.coefficients["condition[T.b]"])
    assert list(found.coefficients.columns) == ["gene", "condition[T.b]"]
    assert found.table.equals(with_columns.table)
    assert "Every sample's site is the name of the site that has it." in found.report["disclosure"]


def test_the_factor_is_one_in_any_form_and_under_lock_step(with_columns):
    found = by_site(design="~ C(site) + condition", protocol="pairwise")
    assert found.table.equals(with_columns.table)


HOSPITALS = {name: [f"{name}-north"] * (EACH // 2) + [f"{name}-south"] * (EACH // 2) for name in SITES}


def test_columns_that_are_there_are_kept():
    found = by_site(HOSPITALS)
    assert found.report["levels"][OWN_NAME] == sorted(level for pair in HOSPITALS.values() for level in set(pair))
    assert not any("the name of the site" in told for told in found.report["disclosure"])


MIXED = [
    ({"lyon": HOSPITALS["lyon"]}, "that of site 'lyon' holds 'lyon-north', 'lyon-south', not the site's name"),
    ({"lyon": "Lyon"}, "that of site 'lyon' holds 'Lyon', not"),
    ({"lyon": "berlin"}, "that of site 'lyon' holds 'berlin', not"),
    ({"lyon": 7}, "that of site 'lyon' holds numbers, not"),
]


@pytest.mark.parametrize(("columns", "told"), MIXED)
def test_names_beside_another_factor_are_refused(columns, told):
    with pytest.raises(InputError, match=rf"site 'berlin', .*obs column 'site': is missing, and {re.escape(told)}"):
        by_site(columns)


@pytest.mark.parametrize("columns", [columns for columns, _ in MIXED[:3]])
def test_the_twin_that_does_not_look_fits_another_design(columns, with_columns, monkeypatch):
    monkeypatch.setattr(agreeing, "_check_own_names", lambda *_: None)
    levels = by_site(columns, own_columns="shared").report["levels"][OWN_NAME]
    assert levels != with_columns.report["levels"][OWN_NAME]


def test_sites_whose_names_are_one_label_are_told_apart():
    sites = dict(zip(("1", "1.0", "c"), made().values(), strict=True))
    with pytest.raises(InputError, match=r"site '1', name: is one level with the name of site '1\.0'"):
        secirls.fit(sites, **PLAIN)


def test_a_name_is_no_missing_value():
    sites = dict(zip(("NA", "nan", "None"), made().values(), strict=True))
    assert secirls.fit(sites, **PLAIN).report["levels"][OWN_NAME] == ["NA", "None", "nan"]


def test_the_file_is_not_said_to_have_the_column():
    with pytest.raises(InputError) as refused:
        read_site("berlin", made()["berlin"], Reading((OWN_NAME, "batch")))
    assert refused.value.in_full.endswith("(there are the columns 'condition')")


@pytest.mark.parametrize("protocol", ["plain", "pairwise"])
def test_names_may_be_texts_of_numpy(with_columns, protocol):
    sites = {name: made()[str(name)] for name in np.unique(np.array(SITES))}
    assert {type(name) for name in sites} == {np.str_}
    result = secirls.fit(sites, **{**PLAIN, "protocol": protocol})
    pd.testing.assert_frame_equal(result.table, with_columns.table)
