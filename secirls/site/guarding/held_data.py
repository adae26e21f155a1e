"""What one site's answers are computed from, by digests: its samples as they are now, and as a session began with them.

Promises: two questions have one name where their answers are the same numbers, and only there. Refuses to know: rules,
and who asked what before.
"""

from __future__ import annotations

import numpy as np

from protocols.secure_sum import sha256
from secirls.algorithms.query import Query
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.held.held_counts import HeldCounts
from secirls.numerics.held.samples import Samples
from secirls.site.guarding.count_digests import digest_of


class HeldData:
    """Of one site in one fit."""

    def __init__(self) -> None:
        self._counts: Counts | HeldCounts | None = None
        self._design: Floats | None = None
        self._dispersions: Floats | None = None
        self._count_digest = self._design_digest = self._digest = b""
        self.xtx = np.zeros((0, 0))
        """X'X of this site's samples, of the columns that are summed, ``(params, params)``."""
        self.rows = np.zeros((0, 0))
        """What is summed of each sample's design, ``(samples, params)``."""

    @property
    def digest(self) -> bytes:
        """Of all that answers follow from, but for dispersions and the question."""
        return self._digest

    def take(self, samples: Samples) -> None:
        """Something has changed: size factors, dispersions, replaced counts, a scaled design."""
        s = b"" if samples.size_factors is None else sha256(samples.size_factors.tobytes())
        if samples.design is not self._design:
            self._design = samples.design
            own = b"" if samples.own is None else samples.own.design.tobytes()
            self._design_digest = sha256(samples.design.tobytes(), own)
            with np.errstate(all="ignore"):  # numbers that are too large are lost in the sum, which ends the fit
                self.rows = samples.beside_own
                self.xtx = self.rows.T @ self.rows
        if samples.counts is not self._counts:
            self._counts, self._count_digest = samples.counts, digest_of(samples.counts)
        self._digest = sha256(b"secirls held v2", self._count_digest, self._design_digest, s)
        self._dispersions = samples.dispersions

    def name(self, asked: Query, question: bytes) -> bytes:
        """What names a question about the data as they are: the same one at other dispersions is another."""
        alpha = b"" if self._dispersions is None else sha256(self._dispersions[asked.genes].tobytes())
        return sha256(b"secirls asked v2", self._digest, alpha, question)


def start_digest(samples: Samples, genes_digest: bytes, kernel: str) -> bytes:
    """Of all that answers follow from beside counts and questions: alike in sessions alike in all that."""
    own = None if samples.own is None else samples.own.design
    kept = (samples.design, own, samples.size_factors, samples.dispersions)
    parts = [b"" if array is None else sha256(b"secirls array v1", array.T.tobytes()) for array in kept]
    parts.append(b"" if samples.replacement is None else digest_of(samples.replacement, b"secirls array v1"))
    return sha256(b"secirls start v1", genes_digest, kernel.encode(), *parts)
