"""What became of each gene: one status, and a reason where it is not the plain one.

Promises: a gene has exactly one status; every status but ``converged`` can be explained in a sentence.
Refuses to know: how a fit proceeds.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Status(IntEnum):
    """Where a gene stands. After a whole fit none is ``ACTIVE`` or ``DIVERGED``."""

    ACTIVE = 0
    """Still being fitted (after IRLS: ran out of iterations)."""
    CONVERGED = 1
    """IRLS settled."""
    DIVERGED = 2
    """IRLS lost it; the catch has not tried yet."""
    CAUGHT = 3
    """The quasi-Newton catch settled it."""
    FAILED = 4
    """Neither did; its coefficients are the last ones tried, or NaN if its sums were lost before there were any."""
    ALL_ZERO = 5
    """No counts at any site: there is nothing to fit."""
    TOO_FEW_SITES = 6
    """Measured at fewer sites than the policy asks for."""
    TOO_FEW_COUNTS = 7
    """Its counts add up to less than the fit asks for."""

    @property
    def label(self) -> str:
        """The word in a results table: ``converged``, ``all_zero`` ..."""
        return self.name.lower()


class Reason(IntEnum):
    """Why a gene has its status. `sentence` is what a user reads."""

    NONE = 0
    OUT_OF_ITERATIONS = 1
    BEYOND_BOX = 2
    SINGULAR = 3
    LOST = 4
    NO_DESCENT = 5
    CATCH_OUT_OF_ITERATIONS = 6
    CAUGHT_INSIDE = 7
    CAUGHT_AT_BOX = 8
    ALL_ZERO = 9
    TOO_FEW_SITES = 10
    CAUGHT_AT_CLAMP = 11
    NEWTON_INSIDE = 12
    NEWTON_AT_BOX = 13
    NEWTON_OUT_OF_ITERATIONS = 14
    OWN_BEYOND_BOX = 15
    OTHER_SITES = 16
    TOO_FEW_COUNTS = 17
    NOT_ADDED = 18

    @property
    def sentence(self) -> str:
        """One sentence; empty for a gene that simply converged."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.NONE: "",
    Reason.OUT_OF_ITERATIONS: "IRLS did not settle within its iterations.",
    Reason.BEYOND_BOX: "IRLS moved a coefficient beyond the largest allowed magnitude.",
    Reason.SINGULAR: "The information matrix could not be inverted.",
    Reason.LOST: (
        "A site's sums for this gene were not finite or too large to be added securely, or too small to be told from "
        "zero."
    ),
    Reason.NO_DESCENT: "The catch found no step that lowers the negative log-likelihood, and the score is not zero.",
    Reason.CATCH_OUT_OF_ITERATIONS: "The quasi-Newton catch did not settle within its iterations.",
    Reason.CAUGHT_INSIDE: "IRLS did not settle; the quasi-Newton catch found a minimum.",
    Reason.CAUGHT_AT_BOX: (
        "IRLS did not settle; the likelihood still rises where a coefficient meets its largest allowed magnitude "
        "(groups may be separated)."
    ),
    Reason.CAUGHT_AT_CLAMP: (
        "IRLS did not settle; the catch found no clearly lower neighbour, although the score is not zero: "
        "the minimum lies where a mean meets min_mu."
    ),
    Reason.NEWTON_INSIDE: (
        "IRLS did not settle; Newton's method found the minimum of the likelihood without a floor under the means, as "
        "R's DESeq2 looks for it."
    ),
    Reason.NEWTON_AT_BOX: (
        "IRLS did not settle; the likelihood without a floor under the means still rises where a coefficient meets its "
        "largest allowed magnitude (groups may be separated)."
    ),
    Reason.NEWTON_OUT_OF_ITERATIONS: "Newton's method without a floor under the means did not settle in its rounds.",
    Reason.OWN_BEYOND_BOX: (
        "IRLS moved a coefficient of a site's own column beyond the largest allowed magnitude, or to where the site's "
        "sums could not be added securely."
    ),
    Reason.OTHER_SITES: "A site fell silent between the sums of two fits, which are over other sites then.",
    Reason.ALL_ZERO: "No site counted this gene in any sample.",
    Reason.NOT_ADDED: (
        "No site that adds to the coefficients counted this gene in any sample; whether another did is not known."
    ),
    Reason.TOO_FEW_SITES: "Too few sites counted this gene.",
    Reason.TOO_FEW_COUNTS: "Its counts over size factors add up to less than was asked for.",
}

EXCLUDED = {
    Status.ALL_ZERO: Reason.ALL_ZERO,
    Status.TOO_FEW_SITES: Reason.TOO_FEW_SITES,
    Status.TOO_FEW_COUNTS: Reason.TOO_FEW_COUNTS,
}
"""Statuses a gene enters a fit with and is never asked about again."""


def labels(statuses: NDArray[np.int8]) -> NDArray[np.object_]:
    """The word of every gene ``(genes,)`` that has a `Status`."""
    return np.array([status.label for status in Status], dtype=object)[statuses]


def sentences(reasons: NDArray[np.int8]) -> dict[int, str]:
    """A sentence for every gene ``(genes,)`` that has a `Reason`, by index."""
    said, genes = [reason.sentence for reason in Reason], np.flatnonzero(reasons)
    return {gene: said[reason] for gene, reason in zip(genes.tolist(), reasons[genes].tolist(), strict=True)}
