"""X'WX that a round did not ask for, as the aggregator works it out from what the cells told.

Promises: it takes the messages it is given, of the round and of the question about cells, and nothing else; of a masked
message it makes nonsense, as of the rest. Refuses to know: what is guessed from it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from experiments.leakage.eavesdrop import Heard, Session
from protocols.secure_sum import PartyId, Vector
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.information import CellTransformsQuery
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.algorithms.regression.known_information import KnownInformation
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats
from secirls.numerics.regression.information import Information
from secirls.numerics.regression.stieltjes import Transforms


def sums_of(session: Session, told: Heard, sites: Collection[PartyId]) -> dict[str, Floats]:
    """What the vectors of some sites add up to, with X'WX of every gene asked about, ``(genes asked, products)``."""
    return completed(session, told, told.total(sites), sites)


def completed(session: Session, told: Heard, vector: Vector, sites: Collection[PartyId]) -> dict[str, Floats]:
    """The same of another vector in the place of the round's own."""
    query, arrays = irls_of(told), told.read(vector)
    if not query.with_xtwx.size:
        return arrays
    cells = session.rounds_of("cell_transforms")[0]
    if not isinstance(cells.query, CellTransformsQuery):
        raise TypeError("the transforms of cells come with their own query")
    sums, rows = cells.read(cells.total(sites)), cells.query.rows
    products = Products.among(rows)
    if not np.array_equal(products.expand, query.expand):
        raise RuntimeError("the cells have other products than the design")
    held = Transforms.of(sums["transforms"], sums["spread"])
    information = Information(rows, products.of(rows), held, tuple(sites))
    xtwx, _ = KnownInformation(information, _dispersions(session)).at(query.genes, query.beta, query.min_mu)
    xtwx[query.with_xtwx] = arrays["xtwx"]
    return {**arrays, "xtwx": xtwx}


def dispersions_of(session: Session, query: IrlsQuery) -> Floats:
    """Dispersions of the genes asked about."""
    return _dispersions(session)[query.genes]


def _dispersions(session: Session) -> Floats:
    """Of all genes, ones where there are none: public, the aggregator broadcast them itself."""
    told = session.rounds_of("adopt_dispersions")[0].query
    if not isinstance(told, AdoptDispersionsQuery):
        raise TypeError("dispersions come with their own query")
    full = np.ones(told.genes.size)
    full[told.genes] = told.dispersions
    return full


def irls_of(told: Heard) -> IrlsQuery:
    """The question of a round of IRLS. Raises `TypeError` for any other."""
    if not isinstance(told.query, IrlsQuery):
        raise TypeError(f"not an IRLS round: {told.query.kind}")
    return told.query
