"""Whose choices a fit follows where no option asks: R's DESeq2, PyDESeq2, FedPyDESeq2, or IRLS alone.

Promises: all that sets a preset apart stands here, as data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Preset = Literal["deseq2", "irls", "pydeseq2", "fedpydeseq2"]

R_RIDGE = 1e-6 / (0.6931471805599453 * 0.6931471805599453)
"""R's DESeq2 adds 1e-6 to X'WX on the log2 scale: so much on the natural one."""

_PYDESEQ2: dict[str, Any] = {"dispersion_fit": "optimum", "ridge": 1e-6, "max_iter": 250, "se": "unclamped"}
PRESETS: dict[str, dict[str, Any]] = {
    "deseq2": {},
    "irls": {
        "dispersion_fit": "moments",
        "cooks": False,
        "ridge": 1e-6,
        "max_iter": 250,
        "independent_filtering": False,
    },
    "pydeseq2": _PYDESEQ2,
    "fedpydeseq2": {**_PYDESEQ2, "dispersion_fit": "grid", "max_iter": 20},
}
"""What each preset changes from the defaults of `Config`: R's DESeq2 1.38, PyDESeq2 0.5, FedPyDESeq2 0.1."""


@dataclass(frozen=True)
class Choices:
    """What a package does where no field of `Config` asks; the defaults are those of R's DESeq2."""

    whole: bool = True
    """Dispersions are drawn towards a trend and outliers dealt with; else the regression stands alone."""
    lost: Literal["newton", "clamped", "unclamped"] = "newton"
    """Who takes the genes that IRLS does not settle: Newton's method without a clamp, leverages staying those of IRLS;
    or the catch, on the clamped likelihood or without the clamp."""
    parametric: Literal["reselected", "dropped"] = "reselected"
    """Genes far from a parametric trend: chosen anew for each fit, from those above the floor, and a local trend if it
    fails; or dropped for good, from all genes, and the mean of dispersions if it fails."""
    mad_per_sigma: float = 1.4826
    """What a median absolute deviation is multiplied by."""
    simulated_prior: bool = True
    """The prior's variance is matched with R's simulations where three or fewer degrees of freedom are left."""
    least_rise: float = 0.0
    """A gene-wise optimum is not looked for where the square of the log-likelihood's slope at the moments' start, in
    log alpha, is less than this share of its value: a first step along the slope ends the search."""
    regression_min_mu: float = 0.5
    """Where the means for dispersions come by regression they are clamped below at this."""
    two_levels_only: bool = True
    """Three larger counts keep an outlier's gene in designs of one factor with two levels; else in every design."""
    lowess: Literal["R", "PyDESeq2"] = "R"
    """Whose smooth curve independent filtering takes."""
    zero_where_uncounted: bool = True
    """An explicit contrast of groups without any count of a gene has fold change 0 and p-value 1; else its estimate."""
    counts_of_one: bool = True
    """Size factors by positive counts look at genes too that have no count above one, in any sample."""
    emptied: Literal["tested", "missing"] = "tested"
    """A gene without a count left, once outliers were replaced: its p-value is 1, or missing for its outliers."""


_OF_PYDESEQ2 = Choices(
    lost="clamped",
    parametric="dropped",
    mad_per_sigma=1.482602218505602,
    simulated_prior=False,
    least_rise=1e7 * 2.0**-52,  # L-BFGS-B's default
    regression_min_mu=1e-100,
    two_levels_only=False,
    lowess="PyDESeq2",
    zero_where_uncounted=False,
    counts_of_one=False,
    emptied="missing",
)
CHOICES: dict[str, Choices] = {
    "deseq2": Choices(),
    "irls": Choices(whole=False, lost="clamped"),
    "pydeseq2": _OF_PYDESEQ2,
    "fedpydeseq2": replace(_OF_PYDESEQ2, lost="unclamped"),
}
"""What each preset does where no field asks."""


def preset_values(preset: object) -> dict[str, Any]:
    """The fields that a preset changes from their defaults, which are those of ``deseq2``."""
    return PRESETS.get(preset, {}) if isinstance(preset, str) else {}
