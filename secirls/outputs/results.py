"""A fit's results as people use them: tables, report, files.

Promises: every gene has a row and a status, numbers are written with 17 significant digits, and files
appear whole or not at all. Everything here is public.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from secirls.aggregator.aggregator import Outcome
from secirls.agreement.ledger import table as ledger_table
from secirls.agreement.order import Order
from secirls.agreement.whole_file import whole_folder
from secirls.config import Config
from secirls.input_error import InputError
from secirls.numerics.samples import Floats
from secirls.numerics.status import Status
from secirls.numerics.wald import benjamini_hochberg, independent_filtering, standard_score, wald
from secirls.outputs.disclosure import statements

if TYPE_CHECKING:
    from secirls.outputs.plots import Figure

FILTERED = "Its base mean is below {:.4g}, so independent filtering left it out of the adjusted p-values."
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
    """gene, baseMean, log2FoldChange, lfcSE, stat, pvalue, padj, status, iterations, reason."""
    coefficients: pd.DataFrame
    """gene and one column per design column, natural log."""
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
    return Result(
        _table(config, outcome, contrast),
        _coefficients(outcome),
        ledger_table(list(outcome.rows)),
        _report(order, outcome, seconds=seconds, contrast=name),
    )


def _contrast(config: Config, outcome: Outcome) -> tuple[Floats, str]:
    if config.contrast is None:
        return outcome.design.default_contrast()
    factor, level, reference = (text.strip() for text in config.contrast)
    return outcome.design.contrast(factor, level, reference), f"{factor}: {level} against {reference}"


def _table(config: Config, outcome: Outcome, contrast: Floats) -> pd.DataFrame:
    fitted, state = outcome.fitted, outcome.fitted.state
    beta = np.where(state.fitted[:, None], state.beta, np.nan)
    test = wald(beta, fitted.information, contrast, config.ridge)
    reasons = {**test.reasons, **state.reasons()}
    padj = benjamini_hochberg(test.pvalue)
    if config.independent_filtering:
        padj, cutoff = _filtered(test.pvalue, fitted.base_means, config.alpha)
        for gene in np.flatnonzero(np.isnan(padj) & ~np.isnan(test.pvalue)):
            reasons[int(gene)] = f"{reasons.get(int(gene), '')} {FILTERED.format(cutoff)}".strip()
    return pd.DataFrame(
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
            "reason": [reasons.get(gene, "") for gene in range(len(outcome.genes))],
        }
    )


def _filtered(pvalue: Floats, base_means: Floats, alpha: float) -> tuple[Floats, float]:
    """Adjusted p-values after independent filtering over the genes that have a base mean, and its cutoff."""
    known = ~np.isnan(base_means)
    padj = np.full_like(pvalue, np.nan)
    padj[known], cutoff = independent_filtering(pvalue[known], base_means[known], alpha)
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
    beta = outcome.fitted.state.beta
    columns = {name: beta[:, i] for i, name in enumerate(outcome.design.columns)}
    return pd.DataFrame({"gene": outcome.genes, **columns})


def status_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many genes have which status, most first; every status that occurs."""
    return {str(name): int(n) for name, n in table["status"].value_counts().items()}


def _size_factors(config: Config, scale: float) -> str:
    if config.size_factors is None:
        return "median of ratios by secure sums"
    return "brought by the sites" + ("" if scale == 1.0 else f", divided by their geometric mean {scale:.17g}")


def _report(order: Order, outcome: Outcome, *, seconds: float, contrast: str) -> dict[str, Any]:
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
        "contrast": contrast,
        "size_factors": _size_factors(config, fitted.size_factor_scale),
        "dispersions": "method of moments by secure sums" if config.dispersions is None else "brought by the sites",
        "status_counts": {Status(code).label: int(n) for code, n in zip(names, counts, strict=True)},
        "standard_errors": f"means {config.se} at min_mu" if config.se == "clamped" else "means unclamped",
        "final_score": _final_score(config, outcome),
        "refit": {"layer": config.refit_layer, "genes": len(config.refit_genes)} if config.refit_genes else None,
        "rounds": [
            {
                "round": told.round,
                "query": told.kind,
                "active_genes": told.active_genes,
                "parties": list(told.parties),
                **({"lost": dict(told.lost)} if told.lost else {}),
            }
            for told in outcome.rounds
        ],
        "seconds": seconds,
        "threads": os.environ.get("OMP_NUM_THREADS", "unset") if engine == "local" else "1 per actor",
        "disclosure": statements(config, outcome, engine),
    }
