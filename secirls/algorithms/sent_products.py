"""How a query asks for the distinct entries of a matrix, how a site answers, and how the opened sum is made whole.

Promises: a site in whose rows two products called equal differ refuses. Refuses to know: what the matrices mean.
"""

from __future__ import annotations

import numpy as np

from secirls.algorithms.query import Query, QueryError
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import packed_size, unpack
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples


def expand_field(products: Products | None) -> Floats:
    """What a query says of the products it wants."""
    return np.zeros(0) if products is None else products.expand.astype(np.float64)


def sent_entries(expand: Floats, params: int) -> int:
    """How many entries of an upper triangle are sent."""
    return int(expand.max()) + 1 if expand.size else packed_size(params)


def sent(query: Query, upper: Floats, samples: Samples, expand: Floats) -> Floats:
    """The entries of upper triangles that are sent. Raises `QueryError` where products called equal are not."""
    if not expand.size:
        return upper
    products = Products.numbered(expand.astype(np.intp))
    if not products.hold(samples.design):
        raise QueryError(f"query {query.kind!r}: products of design columns that it calls equal differ at this site")
    return products.chosen(upper)


def opened(entries: Floats, products: Products | None) -> Floats:
    """Whole upper triangles from the entries that were sent."""
    return entries if products is None else products.packed(entries)


def opened_square(entries: Floats, expand: Floats) -> Floats:
    """The whole symmetric matrix, from the entries that a question with this ``expand`` has opened."""
    packed = Products.numbered(expand.astype(np.intp)).packed(entries) if expand.size else entries
    return unpack(packed)


def check_expand(query: Query, expand: Floats, n_params: int) -> None:
    """Raise `QueryError` unless a query numbers the products of design columns, or none."""
    if not expand.size:
        return
    if expand.shape != (packed_size(n_params),) or not np.array_equal(expand, np.floor(expand)):
        raise QueryError(f"query {query.kind!r}: products are whole numbers, one per entry of a triangle")
    try:
        Products.numbered(np.clip(expand, -2, expand.size).astype(np.intp))
    except ValueError as error:
        raise QueryError(f"query {query.kind!r}: {error}") from None
