"""Which kinds of question belong to which stage of a fit, as a site that refuses a stage knows them.

Refuses to know: who refuses what; see `Policy`.
"""

from __future__ import annotations

STAGES: dict[str, tuple[str, ...]] = {
    "empty columns": ("drop_empty",),
    "covariates": ("covariates", "cross_products"),
    "size factors": ("log_counts", "normalised", "log_size", "positive_normalised"),
    "moments": ("residuals",),
    "cells": ("cells", "cell_counts", "cell_transforms"),
    "profile": ("profile", "dispersion_newton"),
    "handing out": ("adopt_dispersions", "own_coefficients"),
    "coefficients": ("least_squares", "irls"),
    "catch": ("quasi_newton", "likelihood"),
    "outliers": ("cooks_bound", "outliers", "below", "between", "cells_above", "variances", "farthest", "larger"),
    "refit": ("replace_outliers", "replace_counts", "presence"),
    "standard errors": ("unclamped",),
    "likelihood ratio": ("likelihood_at", "reduced_irls", "reduced_unclamped"),
    "shrinkage": (),
    "components": ("vst_squares", "vst_dominated", "vst_gram", "vst_products"),
}
"""By stage the kinds of question that a site knows it by; whoever refuses coefficients refuses the means before too.

Shrinkage asks what coefficients ask, so a site knows it by the configuration: in lock-step nothing else is asked.
"""
