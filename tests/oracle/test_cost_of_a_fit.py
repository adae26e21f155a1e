"""Rounds and numbers a gene of a whole fit, beside what the prototype of the method needed on six designs.

Counted apart are the searches that the prototype left out: for the largest variance of cells at one site
(``cells_above``), and for three larger counts than an outlier's (``farthest``, ``larger``).
"""

from __future__ import annotations

from collections import Counter

import pytest

from secirls.algorithms.whole_fit import fit
from secirls.config import Config
from secirls.numerics.held.samples import Samples

FORMULAS = {"condition": "~ condition", "site": "~ site + condition"}
NEEDED = {
    ("airway", "condition"): (94, 140),
    ("airway", "site"): (88, 518),
    ("bottomly", "condition"): (98, 141),
    ("bottomly", "site"): (163, 358),
    ("hapmap_lcl", "condition"): (153, 203),
    ("hapmap_lcl", "site"): (201, 475),
}
"""Rounds, and numbers a gene."""
SLOW = {
    ("airway", "condition"),
    ("airway", "site"),
    ("bottomly", "site"),
    ("hapmap_lcl", "condition"),
    ("hapmap_lcl", "site"),
}
APART = {"cells_above", "farthest", "larger"}


def cost(data, design, drive, **options):
    """Rounds and numbers a gene, of what is compared and of what stands apart."""
    config = Config(design=FORMULAS[design], min_contributors=1, min_kept=1, protocol="plain", **options)
    sites = [Samples(site.design, site.counts) for site in data.split]
    _, asked = drive(fit(config, data.design, len(data.genes)), sites)
    rounds, numbers = Counter(), Counter()
    for query in asked:
        rounds[query.kind in APART] += 1
        numbers[query.kind in APART] += query.values
    per_gene = {apart: number / len(data.genes) for apart, number in numbers.items()}
    print(
        f"\n{data.name} {design}: {rounds[False]} rounds, {per_gene[False]:.0f} a gene; apart {rounds[True]}, ", end=""
    )
    print(f"{per_gene.get(True, 0):.1f}")
    return rounds[False], per_gene[False]


@pytest.mark.parametrize(
    ("name", "design"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case in SLOW else []) for case in NEEDED],
)
def test_a_fit_costs_what_the_prototype_did(name, design, frozen, drive):
    rounds, numbers = cost(frozen(name, design), design, drive)
    assert rounds <= 1.1 * NEEDED[name, design][0]
    assert numbers <= 1.1 * NEEDED[name, design][1]


def test_information_is_told_by_the_cells(frozen, drive):
    """Half of the numbers or less are left where X'WX follows from size factors."""
    _, numbers = cost(frozen("bottomly", "site"), "site", drive)
    assert numbers <= 0.55 * NEEDED["bottomly", "site"][1]


def test_products_sent_twice_would_be_seen(frozen, drive, monkeypatch):
    """Whole triangles, as before the distinct products and before the question about cells."""
    from secirls.algorithms import information
    from secirls.inputs.designs.design import Design
    from secirls.numerics.algebra.distinct_products import Products

    monkeypatch.setattr(information, "follows_from_cells", lambda *_: False)
    monkeypatch.setattr(Design, "products", lambda design: Products.full(len(design.columns)))
    _, numbers = cost(frozen("bottomly", "site"), "site", drive)
    assert numbers > 1.1 * NEEDED["bottomly", "site"][1]
