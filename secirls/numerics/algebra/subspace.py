"""Leading eigenvectors of a symmetric matrix that is known by its products with few directions alone.

Promises: plain arithmetic and square roots in a written order, so the same bits on every machine; start directions from
a public hash. Refuses to know: whose matrix it is, and who multiplies.

Ritz vectors of everything that was multiplied say how near it is (Parlett 1998, chapters 11 to 13); what is given are
eigenvectors of Nystroem's approximation from the same products (Halko, Martinsson and Tropp 2011, section 5.5), which
are as near as Ritz vectors with a block of directions more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from protocols.secure_sum import sha256
from secirls.numerics.algebra.eigen import eigenvectors
from secirls.numerics.algebra.solve import SMALLEST_PIVOT
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats

_VANISHED = 1e-8
"""Of a direction's length, what is left beside the others is rounding."""


@strictly()
def _product(A: Floats, B: Floats, out: Floats) -> None:
    for i in range(A.shape[0]):
        for j in range(B.shape[1]):
            total = 0.0
            for k in range(A.shape[1]):
                total += A[i, k] * B[k, j]
            out[i, j] = total


def product(A: Floats, B: Floats) -> Floats:
    """A B, of ``(n, m)`` and ``(m, p)``, every entry a sum in order."""
    out = np.empty((A.shape[0], B.shape[1]))
    _product(np.ascontiguousarray(A), np.asfortranarray(B), out)
    return out


def crossed(A: Floats, B: Floats) -> Floats:
    """A'B, of ``(m, n)`` and ``(m, p)``."""
    return product(A.T, B)


def start_directions(rows: int, columns: int) -> Floats:
    """Orthonormal directions ``(rows, columns or fewer)`` from signs that everybody can compute and nobody chose."""
    blocks = -(-rows * columns // 256)
    bits = b"".join(sha256(b"secirls start directions v1", block.to_bytes(8, "little")) for block in range(blocks))
    signs = np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[: rows * columns].reshape(rows, columns)
    return orthonormal(2.0 * signs.astype(np.float64) - 1.0, np.zeros((rows, 0)))


def orthonormal(block: Floats, basis: Floats) -> Floats:
    """What a block ``(n, b)`` adds to an orthonormal basis ``(n, m)``, as orthonormal columns: b of them, or fewer."""
    found = np.array(basis, dtype=np.float64)
    for column in block.T:
        before = _length(column)
        left = column
        for _ in range(2):  # twice is enough (Parlett 1998, section 6.9)
            left = left - product(found, crossed(found, left[:, None]))[:, 0]
        length = _length(left)
        if length > _VANISHED * before:
            found = np.column_stack([found, left / length])
    return found[:, basis.shape[1] :]


def _length(column: Floats) -> float:
    return float(np.sqrt(crossed(column[:, None], column[:, None])[0, 0]))


@dataclass(frozen=True)
class Leading:
    """Leading eigenpairs of S as far as its products with a basis tell them."""

    values: Floats
    """Largest first, ``(leading,)``."""
    vectors: Floats = field(repr=False)
    """Orthonormal columns, ``(n, leading)``: of S W (W'S W)^-1 W'S, which is all that the products tell of S."""
    residuals: Floats = field(repr=False)
    """S x - theta x of the Ritz vectors x in W, ``(n, leading)``: where further directions are worth most."""
    angle: float
    """About the sine of the largest angle from what the Ritz vectors span to the true leading eigenvectors (Davis and
    Kahan 1970), infinite where nothing tells the next eigenvalue apart; the vectors given are nearer."""
    parts: Floats
    """What each residual adds to the angle, ``(leading,)``."""


def leading_of(basis: Floats, products: Floats, gram: Floats, leading: int) -> Leading:
    """From an orthonormal ``basis`` W, S W and W'S W: ``(n, m)``, ``(n, m)`` and ``(m, m)``."""
    values, turned = _descending(gram)
    ritz = product(basis, turned[:, :leading])
    residuals = product(products, turned[:, :leading]) - ritz * values[:leading]
    parts = np.array([_length(column) for column in residuals.T])
    gap = values[leading - 1] - values[leading] if values.size > leading else 0.0
    parts = parts / gap if gap > 0 else np.full(parts.shape, np.inf)
    angle = _length(parts) if gap > 0 else np.inf
    halves = whitened(products, gram)
    if np.isnan(halves).any():
        return Leading(values[:leading], ritz, residuals, angle, parts)
    squares, turned = _descending(crossed(halves, halves))
    vectors = orthonormal(product(halves, turned[:, :leading]), np.zeros((basis.shape[0], 0)))
    return Leading(squares[:leading], vectors, residuals, angle, parts)


def _descending(symmetric: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, largest first, and eigenvectors as columns."""
    values, vectors = eigenvectors(symmetric[None])
    order = np.argsort(-values[0], kind="stable")
    return values[0][order], np.ascontiguousarray(vectors[0][:, order])


def signed(vectors: Floats) -> Floats:
    """The same with the entry of largest magnitude above zero in every column; the first of equals decides."""
    largest = np.argmax(np.abs(vectors), axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


@strictly()
def _whitened(rows: Floats, gram: Floats, out: Floats) -> bool:
    m = gram.shape[0]
    L = np.zeros((m, m))
    for i in range(m):
        for j in range(i + 1):
            total = gram[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > SMALLEST_PIVOT * gram[i, i]:
                    return False
                L[i, i] = np.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    for row in range(rows.shape[0]):
        for i in range(m):
            total = rows[row, i]
            for k in range(i):
                total -= L[i, k] * out[row, k]
            out[row, i] = total / L[i, i]
    return True


def whitened(rows: Floats, gram: Floats) -> Floats:
    """L^-1 t for each row t of ``(rows, m)``, with gram = L L' (Cholesky); NaN where that is not positive definite."""
    out = np.empty(rows.shape)
    if not _whitened(np.ascontiguousarray(rows), np.ascontiguousarray(gram), out):
        out[:] = np.nan
    return out


def leverages(scores: Floats, gram: Floats) -> Floats:
    """The largest part that each row t of ``(rows, m)`` has in any direction of a sum of squares: t' gram^-1 t."""
    white = whitened(scores, gram)
    total = np.zeros(scores.shape[0])
    for column in white.T:
        total += column * column
    return total
