"""What a fit's report says beside its tables: versions, configuration, who took part, what each stage opened.

Promises: all of it is public. Refuses to know: how it is shown.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from secirls.aggregator.aggregator import Outcome
from secirls.agreement.order import Order
from secirls.algorithms.fitted import Fitted
from secirls.config import Config
from secirls.numerics.inference.wald import standard_score
from secirls.numerics.status import Reason, Status
from secirls.outputs.components import told_of_components
from secirls.outputs.report.disclosure import statements
from secirls.outputs.report.few_lines import few_lines
from secirls.outputs.tables.shrunken import told_of_shrinkage

_VERSIONED = (
    "secirls",
    "numpy",
    "scipy",
    "pandas",
    "anndata",
    "cryptography",
    "phe",
    "gmpy2",
    "numba",
    "ray",
)


@cache
def _versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    return {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}}


def facts(order: Order, outcome: Outcome, *, seconds: float, compared: Mapping[str, Any]) -> dict[str, Any]:
    """The report of an outcome; ``compared`` is what it says of the table's comparison."""
    config, engine, fitted = order.task.config, order.engine, outcome.fitted
    files = order.files()
    names, counts = np.unique(fitted.state.status, return_counts=True)
    return {
        "run": order.task.run,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(_versions()),
        "configuration": config.model_dump(mode="json"),
        "engine": engine,
        "sites": {name: files.get(name, "") for name in outcome.sites},
        "simulated": list(outcome.simulated),
        "session": outcome.session,
        "roster": dict(outcome.roster),
        "samples": fitted.n_samples,
        "genes": len(outcome.genes),
        "annotation": {"columns": list(outcome.annotation.columns), "left_out": dict(outcome.annotation.left_out)},
        "design_columns": list(outcome.design.columns),
        "levels": {name: list(levels) for name, levels in outcome.design.levels.items()},
        "level_order": dict(outcome.design.order),
        "numeric_columns": _scales(fitted),
        **compared,
        "test": _tested(config, outcome),
        "size_factors": _size_factors_of(config, fitted.size_factor_scale),
        "dispersions": _dispersions_of(config, outcome),
        "trend": _towards(outcome),
        "outliers": _outliers(config, outcome),
        "shrinkage": told_of_shrinkage(fitted.shrinkage, outcome.design),
        "components": told_of_components(fitted.components, config.components),
        "status_counts": {Status(code).label: int(n) for code, n in zip(names, counts, strict=True)},
        "standard_errors": f"means {config.se} at min_mu" if config.se == "clamped" else "means unclamped",
        "final_score": _final_score(config, outcome),
        "refit": {"layer": config.refit_layer, "genes": len(config.refit_genes)} if config.refit_genes else None,
        "rounds": [
            {
                "round": told.round,
                "stage": stage,
                "query": told.kind,
                "active_genes": told.active_genes,
                "parties": list(told.parties),
                **({"lost": dict(told.lost)} if told.lost else {}),
            }
            for told, stage in zip(outcome.rounds, fitted.stage_of_rounds, strict=True)
        ],
        "stages": [
            {
                "stage": stage.name,
                "queries": list(stage.kinds),
                "rounds": stage.rounds,
                "values": stage.opened,
                "parties": list(stage.parties),
            }
            for stage in fitted.stages
        ],
        "seconds": seconds,
        "threads": os.environ.get("OMP_NUM_THREADS", "unset") if engine == "local" else "1 per party",
        "disclosure": statements(config, outcome, engine),
        "disclosure_in_short": few_lines(config, outcome, engine),
    }


def _scales(fitted: Fitted) -> dict[str, dict[str, float]]:
    """What numeric columns were centred at and divided by, for the fit."""
    scaled = fitted.scaled
    if scaled is None:
        return {}
    both = zip(scaled.names, scaled.centres, scaled.scales, strict=True)
    return {name: {"centre": float(centre), "scale": float(scale)} for name, centre, scale in both}


def _final_score(config: Config, outcome: Outcome) -> dict[str, Any]:
    """How far from settled the fitted genes are: the score at the final beta, in standard errors."""
    state = outcome.fitted.state
    genes = state.fitted
    size = standard_score(state.beta[genes], state.score[genes], state.xtwx[genes], config.ridge)
    size = size[np.isfinite(size)]
    levels = {"median": 0.5, "99 %": 0.99, "largest": 1.0}
    sizes = {name: float(np.quantile(size, q)) for name, q in levels.items()} if size.size else {}
    return {"unit": "length of the next step, in standard errors of beta", "genes": int(size.size), **sizes}


def _towards(outcome: Outcome) -> dict[str, Any] | None:
    """The trend of dispersions and the prior around it."""
    towards = outcome.fitted.towards
    if towards is None:
        return None
    trend = towards.trend
    numbers = {"asymptotic": trend.asymptotic, "extra_poisson": trend.extra_poisson, "mean": trend.mean}
    return {
        "kind": trend.kind,
        **{name: number for name, number in numbers.items() if np.isfinite(number)},
        "residual_variance": towards.log_variance,
        "prior_variance": towards.prior_variance,
        "flat": towards.flat,
    }


def _tested(config: Config, outcome: Outcome) -> dict[str, Any]:
    """What p-values are of."""
    ratio = outcome.fitted.ratio
    if ratio is None:
        return {"test": config.test}
    stat = ratio.statistics
    return {
        "test": config.test,
        "reduced": ratio.reduced.formula,
        "reduced_columns": list(ratio.reduced.columns),
        "degrees_of_freedom": ratio.reduced.degrees_of_freedom,
        "genes": int(np.isfinite(stat).sum()),
        "below_zero": int((stat < 0).sum()),
        "without_statistic": int((ratio.reason != Reason.NONE)[outcome.fitted.state.fitted].sum()),
        "status_counts": {name: count for name, count in ratio.fit.counts().items() if count},
    }


def _outliers(config: Config, outcome: Outcome) -> dict[str, Any] | None:
    """How many genes had outliers, and what became of them."""
    treatment = outcome.fitted.treatment
    if treatment is None:
        return None
    return {
        "looked_for": treatment.done,
        "min_replicates": config.min_replicates,
        "min_kept": config.min_kept,
        "genes_looked_into": treatment.asked,
        "replaced": int(treatment.replaced.sum()),
        "emptied": int(treatment.emptied.sum()),
        "without_p_value": int(treatment.missing.sum()),
        "kept_by_exception": int(treatment.kept.sum()),
        "cells_left_out": int(treatment.left_out.sum()),
    }


WAYS = {
    "deseq2": "end of DESeq2's path",
    "optimum": "maximum of each profile",
    "grid": "best of three grids on each profile",
}


def _dispersions_of(config: Config, outcome: Outcome) -> str:
    if config.dispersions is not None:
        return "brought by the sites"
    if outcome.fitted.towards is None:
        return "method of moments by secure sums"
    return f"{WAYS[config.dispersion_fit]}, drawn towards a {outcome.fitted.towards.trend.kind} trend, by secure sums"


def _size_factors_of(config: Config, scale: float) -> str:
    if config.size_factors is not None:
        return "brought by the sites" + ("" if scale == 1.0 else f", divided by their geometric mean {scale:.17g}")
    way = "median of ratios" if config.size_factor_type == "ratio" else "positive counts"
    some = f" over {len(config.control_genes)} control genes" if config.control_genes else ""
    return f"{way}{some} by secure sums"
