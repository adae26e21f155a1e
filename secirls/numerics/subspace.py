"""Leading eigenvectors of a symmetric matrix that is known by its products with few directions alone.

Promises: plain arithmetic and square roots in a written order, so the same bits on every machine; start directions from
a public hash. Refuses to know: whose matrix it is, and who multiplies.

Rayleigh and Ritz on everything that was multiplied (Parlett 1998, chapters 11 to 13): no other choice from the same
products is nearer, in the sense of the residuals that it goes by.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from protocols.secure_sum import sha256
from secirls.numerics.eigen import eigenvectors
from secirls.numerics.portable import strictly
from secirls.numerics.samples import Floats

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
class Ritz:
    """Leading eigenpairs of S as far as its products with a basis tell them."""

    values: Floats
    """Largest first, ``(leading,)``."""
    vectors: Floats = field(repr=False)
    """Orthonormal columns, ``(n, leading)``."""
    residuals: Floats = field(repr=False)
    """S x - theta x of each, ``(n, leading)``."""
    angle: float
    """About the sine of the largest angle to the true leading eigenvectors (Davis and Kahan 1970); infinite where
    nothing tells the next eigenvalue apart."""
    lengths: Floats
    """Of the residuals over the gap, ``(leading,)``: what each of them adds to the angle."""


def ritz(basis: Floats, products: Floats, gram: Floats, leading: int) -> Ritz:
    """From an orthonormal ``basis`` W, S W and W'S W: ``(n, m)``, ``(n, m)`` and ``(m, m)``."""
    found, turned = eigenvectors(gram[None])
    order = np.argsort(-found[0], kind="stable")
    values, first = found[0][order], np.ascontiguousarray(turned[0][:, order[:leading]])
    vectors = product(basis, first)
    residuals = product(products, first) - vectors * values[:leading]
    lengths = np.array([_length(column) for column in residuals.T])
    gap = values[leading - 1] - values[leading] if values.size > leading else 0.0
    lengths = lengths / gap if gap > 0 else np.full(lengths.shape, np.inf)
    return Ritz(values[:leading], vectors, residuals, _length(lengths) if gap > 0 else np.inf, lengths)


def signed(vectors: Floats) -> Floats:
    """The same with the entry of largest magnitude above zero in every column; the first of equals decides."""
    largest = np.argmax(np.abs(vectors), axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


@strictly()
def _leverages(scores: Floats, gram: Floats, out: Floats) -> bool:
    m = gram.shape[0]
    L = np.zeros((m, m))
    for i in range(m):
        for j in range(i + 1):
            total = gram[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                L[i, i] = np.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    z = np.empty(m)
    for row in range(scores.shape[0]):
        square = 0.0
        for i in range(m):
            total = scores[row, i]
            for k in range(i):
                total -= L[i, k] * z[k]
            z[i] = total / L[i, i]
            square += z[i] * z[i]
        out[row] = square
    return True


def leverages(scores: Floats, gram: Floats) -> Floats:
    """The largest part that each row t of ``(rows, m)`` has in any direction of a sum of squares: t' gram^-1 t.

    NaN for all where ``gram`` ``(m, m)`` is not positive definite.
    """
    out = np.empty(scores.shape[0])
    if not _leverages(np.ascontiguousarray(scores), np.ascontiguousarray(gram), out):
        out[:] = np.nan
    return out
