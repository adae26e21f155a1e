"""A fit's results as people use them: tables, report, files.

Promises: every gene has a row and a status, numbers are written with 17 significant digits, and files
appear whole or not at all. Everything here is public.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from secirls.aggregator.aggregator import Outcome
from secirls.agreement.ledger import table as ledger_table
from secirls.agreement.order import Order
from secirls.agreement.whole_file import whole_folder
from secirls.algorithms.fitted import Fitted
from secirls.config import Config
from secirls.input_error import InputError
from secirls.numerics.covariates import of_scaled, to_user
from secirls.numerics.lowess import lowess, pydeseq2_lowess
from secirls.numerics.samples import Floats, Mask
from secirls.numerics.status import Status
from secirls.numerics.wald import benjamini_hochberg, independent_filtering, standard_score, wald
from secirls.outputs.disclosure import statements

if TYPE_CHECKING:
    from secirls.outputs.plots import Figure

FILTERED = "Its base mean is below {:.4g}, so independent filtering left it out of the adjusted p-values."
OUTLYING = (
    "A sample has an outlying count by its Cook's distance, in a cell with too few samples to replace it: no p-value."
)
EMPTIED = "Its outlying counts were replaced, and no count above zero is left."
FILES = ("results.csv", "coefficients.csv", "rounds.csv", "report.json")
_VERSIONED = (
    "secirls",
    "numpy",
    "scipy",
    "pandas",
    "anndata",
    "formulaic",
    "cryptography",
    "phe",
    "gmpy2",
    "numba",
    "ray",
)


@dataclass(frozen=True)
class Result:
    """What a fit gives: tables over all agreed genes, the ledger of costs, and the report."""

    table: pd.DataFrame
    """gene, baseMean, log2FoldChange, lfcSE, stat, pvalue, padj, status, iterations, dispersion, replaced, outlier and
    reason.

    ``outlier``: without a p-value because of one. ``dispersion`` is missing where the sites brought theirs.
    """
    coefficients: pd.DataFrame
    """gene and one column per design column, natural log."""
    dispersions: pd.DataFrame | None
    """gene, baseMean, dispGeneEst, dispFit, dispMAP, dispersion, dispGeneIter, dispOutlier, in R's words; ``None``
    where dispersions were not drawn towards a trend."""
    ledger: pd.DataFrame
    """One row per run, round, party and verb; see `secirls.agreement.ledger`."""
    report: dict[str, Any]
    """Versions, configuration, sites, parties in every sum, status counts, disclosure statements."""

    @property
    def status(self) -> pd.Series[str]:
        """Status of every gene, indexed by gene."""
        return pd.Series(self.table["status"].to_numpy(), index=self.table["gene"].to_numpy(), name="status")

    def plot_volcano(self) -> Figure:
        """P-value over log2 fold change, as a matplotlib figure."""
        from secirls.outputs import plots

        return plots.volcano(self.table, self.report["contrast"])

    def plot_convergence(self) -> Figure:
        """Genes asked about by round, as a matplotlib figure."""
        from secirls.outputs import plots

        return plots.convergence(self.report["rounds"])

    def plot_overhead(self) -> Figure:
        """CPU time by round and verb, and bytes, as a matplotlib figure."""
        from secirls.outputs import plots

        return plots.overhead(self.ledger)

    def write(self, out: Path, *, h5ad: bool = False, overwrite: bool = False) -> list[Path]:
        """Write all files into a folder, whole or not at all; gives their paths.

        Raises `InputError` where the folder holds results already and ``overwrite`` is not set, `UnwritableError` where
        it takes no files; what it held is then as it was.
        """
        check_free(out, overwrite=overwrite)
        with whole_folder(out) as draft:
            self.table.to_csv(draft / "results.csv", index=False, float_format="%.17g")
            self.coefficients.to_csv(draft / "coefficients.csv", index=False, float_format="%.17g")
            if self.dispersions is not None:
                self.dispersions.to_csv(draft / "dispersions.csv", index=False, float_format="%.17g")
            self.ledger.to_csv(draft / "rounds.csv", index=False)
            report = json.dumps(self.report, indent=2)
            (draft / "report.json").write_text(report + "\n", encoding="utf-8")
            if h5ad:
                from secirls.inputs.site_file import write_results

                write_results(draft / "results.h5ad", self.table, self.coefficients, report)
            names = sorted(file.name for file in draft.iterdir())
        return [out / name for name in names]


def check_free(out: Path, *, overwrite: bool) -> None:
    """Raise `InputError` if results can't be written to a folder."""
    if out.is_symlink() and not out.exists():
        raise InputError(f"folder {str(out)!r}: is a link to nothing")
    if out.exists() and not out.is_dir():
        raise InputError(f"folder {str(out)!r}: is a file")
    if not overwrite and any((out / name).exists() for name in FILES):
        raise InputError(f"folder {str(out)!r}: holds the results of a fit already; name another or give --overwrite")


def result(order: Order, outcome: Outcome, *, seconds: float) -> Result:
    """Tables and report from an order's outcome. ``seconds`` is the wall time of the whole fit."""
    config = order.task.config
    contrast, name = _contrast(config, outcome)
    table, threshold = _table(config, outcome, contrast)
    return Result(
        table,
        _coefficients(outcome),
        _dispersions(outcome),
        ledger_table(list(outcome.rows)),
        _report(order, outcome, seconds=seconds, contrast=name, threshold=threshold),
    )


def _contrast(config: Config, outcome: Outcome) -> tuple[Floats, str]:
    """The contrast of the coefficients that were estimated, and its name."""
    if config.contrast is None:
        vector, name = outcome.design.default_contrast()
    else:
        factor, level, reference = (text.strip() for text in config.contrast)
        vector, name = outcome.design.contrast(factor, level, reference), f"{factor}: {level} against {reference}"
    scaled = outcome.fitted.scaled
    return vector if scaled is None else of_scaled(vector, scaled.to_user), name


def _table(config: Config, outcome: Outcome, contrast: Floats) -> tuple[pd.DataFrame, float | None]:
    """The results table, and the base mean that independent filtering asks for."""
    fitted, state = outcome.fitted, outcome.fitted.state
    beta = np.where(state.fitted[:, None], state.beta, np.nan)
    test = wald(beta, fitted.information, contrast, config.ridge)
    reasons = {**test.reasons, **state.reasons()}
    none = np.zeros(len(outcome.genes), dtype=bool)
    treatment = fitted.treatment
    replaced, missing = (none, none) if treatment is None else (treatment.replaced, treatment.missing)
    if treatment is not None:
        test = replace(
            test,
            log2_fold_change=np.where(treatment.emptied, 0.0, test.log2_fold_change),
            lfc_se=np.where(treatment.emptied, 0.0, test.lfc_se),
            stat=np.where(treatment.emptied, 0.0, test.stat),
            pvalue=np.where(missing, np.nan, np.where(treatment.emptied, 1.0, test.pvalue)),
        )
        reasons |= {int(gene): EMPTIED for gene in np.flatnonzero(treatment.emptied)}
        _add(reasons, missing, OUTLYING)
    padj, threshold = benjamini_hochberg(test.pvalue), None
    if config.independent_filtering:
        padj, threshold = _filtered(test.pvalue, fitted.base_means, config)
        _add(reasons, np.isnan(padj) & ~np.isnan(test.pvalue), FILTERED.format(threshold))
    table = pd.DataFrame(
        {
            "gene": outcome.genes,
            "baseMean": fitted.base_means,
            "log2FoldChange": test.log2_fold_change,
            "lfcSE": test.lfc_se,
            "stat": test.stat,
            "pvalue": test.pvalue,
            "padj": padj,
            "status": [Status(code).label for code in state.status],
            "iterations": state.iterations,
            "dispersion": np.full(none.size, np.nan) if fitted.dispersions is None else fitted.dispersions,
            "replaced": replaced,
            "outlier": missing,
            "reason": [reasons.get(gene, "") for gene in range(len(outcome.genes))],
        }
    )
    return table, threshold


def _add(reasons: dict[int, str], genes: Mask, sentence: str) -> None:
    """Say one sentence more of some genes."""
    for gene in np.flatnonzero(genes):
        reasons[int(gene)] = f"{reasons.get(int(gene), '')} {sentence}".strip()


def _dispersions(outcome: Outcome) -> pd.DataFrame | None:
    fitted, by_gene = outcome.fitted, outcome.fitted.by_gene
    if by_gene is None:
        return None
    return pd.DataFrame(
        {
            "gene": outcome.genes,
            "baseMean": fitted.base_means,
            "dispGeneEst": by_gene.gene_wise,
            "dispFit": by_gene.trend,
            "dispMAP": by_gene.maximum,
            "dispersion": fitted.dispersions,
            "dispGeneIter": by_gene.iterations,
            "dispOutlier": by_gene.outlier,
        }
    )


def _filtered(pvalue: Floats, base_means: Floats, config: Config) -> tuple[Floats, float]:
    """Adjusted p-values after independent filtering over the genes that have a base mean, and its cutoff."""
    known = ~np.isnan(base_means)
    padj = np.full_like(pvalue, np.nan)
    curve = lowess if config.choices.lowess == "R" else pydeseq2_lowess
    padj[known], cutoff = independent_filtering(pvalue[known], base_means[known], config.alpha, curve)
    return padj, cutoff


def _final_score(config: Config, outcome: Outcome) -> dict[str, Any]:
    """How far from settled the fitted genes are: the score at the final beta, in standard errors."""
    state = outcome.fitted.state
    genes = state.fitted
    size = standard_score(state.beta[genes], state.score[genes], state.xtwx[genes], config.ridge)
    size = size[np.isfinite(size)]
    levels = {"median": 0.5, "99 %": 0.99, "largest": 1.0}
    sizes = {name: float(np.quantile(size, q)) for name, q in levels.items()} if size.size else {}
    return {"unit": "length of the next step, in standard errors of beta", "genes": int(size.size), **sizes}


def _coefficients(outcome: Outcome) -> pd.DataFrame:
    scaled, beta = outcome.fitted.scaled, outcome.fitted.state.beta
    if scaled is not None:
        beta = to_user(beta, scaled.to_user)
    columns = {name: beta[:, i] for i, name in enumerate(outcome.design.columns)}
    return pd.DataFrame({"gene": outcome.genes, **columns})


def _numeric(fitted: Fitted) -> dict[str, dict[str, float]]:
    """What numeric columns were centred at and divided by, for the fit."""
    scaled = fitted.scaled
    if scaled is None:
        return {}
    both = zip(scaled.names, scaled.centres, scaled.scales, strict=True)
    return {name: {"centre": float(centre), "scale": float(scale)} for name, centre, scale in both}


def status_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many genes have which status, most first; every status that occurs."""
    return {str(name): int(n) for name, n in table["status"].value_counts().items()}


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


def _report(
    order: Order, outcome: Outcome, *, seconds: float, contrast: str, threshold: float | None
) -> dict[str, Any]:
    config, engine, fitted = order.task.config, order.engine, outcome.fitted
    files = order.files()
    names, counts = np.unique(fitted.state.status, return_counts=True)
    return {
        "run": order.task.run,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
        "configuration": config.model_dump(mode="json"),
        "engine": engine,
        "sites": {name: files.get(name, "") for name in outcome.sites},
        "simulated": list(outcome.simulated),
        "session": outcome.session,
        "roster": dict(outcome.roster),
        "samples": fitted.n_samples,
        "genes": len(outcome.genes),
        "design_columns": list(outcome.design.columns),
        "levels": {name: list(levels) for name, levels in outcome.design.levels.items()},
        "level_order": dict(outcome.design.order),
        "numeric_columns": _numeric(fitted),
        "contrast": contrast,
        "size_factors": _size_factors_of(config, fitted.size_factor_scale),
        "dispersions": _dispersions_of(config, outcome),
        "trend": _towards(outcome),
        "outliers": _outliers(config, outcome),
        "independent_filtering": None if threshold is None else {"alpha": config.alpha, "threshold": threshold},
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
        "threads": os.environ.get("OMP_NUM_THREADS", "unset") if engine == "local" else "1 per actor",
        "disclosure": statements(config, outcome, engine),
    }
