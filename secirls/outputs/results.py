"""A fit's results as people use them: tables, report, files.

Promises: every gene has a row and a status, numbers are written with 17 significant digits, and files
appear whole or not at all. Everything here is public.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from secirls.aggregator.aggregator import Outcome
from secirls.agreement.ledger import table as ledger_table
from secirls.agreement.order import Order
from secirls.input_error import InputError
from secirls.inputs.designs.contrasts import Contrast
from secirls.outputs.components import loadings_of, read_loadings
from secirls.outputs.free_folder import (
    KEPT,
    LOADINGS,
    RANKED,
    RANKED_BY_SYMBOL,
    check_free,
    check_there,
    clear_others,
    holds_results,
)
from secirls.outputs.notebooks.notebook import in_short, result_html
from secirls.outputs.report.report_facts import facts
from secirls.outputs.tables.annotation import Annotation
from secirls.outputs.tables.comparison import Comparison
from secirls.outputs.tables.gene_tables import coefficients, csv_of, dispersions, read_dispersions
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.next_tools import rnk, symbols_in, to_scanpy
from secirls.outputs.tables.results_table import Compared, compare
from secirls.outputs.tables.summary import summary
from secirls.whole_file import whole_folder

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData
    from secirls.outputs.pictures.album import Album


@dataclass(frozen=True)
class Result:
    """What a fit gives: tables over all agreed genes, the ledger of costs, and the report."""

    table: pd.DataFrame
    """gene, baseMean, log2FoldChange, lfcSE, stat, pvalue, padj, status, iterations, dispersion, replaced, outlier and
    reason; gene names are the index too. Columns of annotation follow the gene; after padj, where fold changes were
    shrunken, stand shrunkenLog2FoldChange, posteriorSD and svalue.

    ``outlier``: without a p-value because of one. ``dispersion`` is missing where the sites brought theirs.
    """
    coefficients: pd.DataFrame
    """gene and one column per design column, natural log; gene names are the index too."""
    dispersions: pd.DataFrame | None
    """gene, baseMean, dispGeneEst, dispFit, dispMAP, dispersion, dispGeneIter, dispOutlier, in R's words; ``None``
    where dispersions were not drawn towards a trend."""
    ledger: pd.DataFrame
    """One row per run, round, party and verb; see `secirls.agreement.ledger`."""
    report: dict[str, Any]
    """Versions, configuration, sites, parties in every sum, status counts, disclosure statements."""
    kept: KeptFit = field(repr=False)
    """What further contrasts are made from, without the sites."""
    loadings: pd.DataFrame | None = None
    """gene, PC1, PC2 ..., where principal components were asked for and found; see `secirls.outputs.components`."""

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Result:
        """The fit that a folder holds, to ask on. Raises `InputError`."""
        place = Path(folder)
        kept = KeptFit.read(place)
        check_there(place, ("report.json", "rounds.csv"))
        try:
            report = json.loads((place / "report.json").read_text(encoding="utf-8"))
            ledger = pd.read_csv(place / "rounds.csv", float_precision="round_trip")
            has = report["trend"] is not None  # else a file of that name is of an earlier fit
            dispersions = read_dispersions(place / "dispersions.csv") if has else None
            loadings = read_loadings(place) if (report.get("components") or {}).get("found") else None
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise InputError(f"folder {str(place)!r}: is not the output of 'secirls fit' ({error})") from None
        return cls(compare(kept, kept.asked).table, coefficients(kept), dispersions, ledger, report, kept, loadings)

    @property
    def asked(self) -> Comparison:
        """What the table compares."""
        return self.kept.asked

    def contrast(
        self,
        factor: str | None = None,
        level: str | None = None,
        reference: str | None = None,
        *,
        coefficients: str | Sequence[str] = (),
        minus: str | Sequence[str] = (),
        vector: str | Sequence[float] = (),
        lfc_threshold: float | None = None,
        alternative: str | None = None,
        alpha: float | None = None,
        independent_filtering: bool | None = None,
        ashr: bool | None = None,
    ) -> Result:
        """The same fit with the table of another comparison, without a round; what is not given is as it is here.

        Parameters
        ----------
        factor, level, reference
            A level against another, whichever is the reference of the design.
        coefficients, minus
            Or design columns whose coefficients are added up, and those that are taken off.
        vector
            Or one number per design column at the table, as ``"0,-1,1"`` too.
        lfc_threshold, alternative
            The null hypothesis, log2, in R's words.
        alpha, independent_filtering
            How p-values are adjusted.
        ashr
            Whether fold changes drawn towards zero as ashr does stand beside them, in the columns of a shrunken
            coefficient.

        Raises
        ------
        InputError
            Where the design can't answer it, or a site keeps what it asks for.
        """
        levels = None
        if factor is not None and level is not None and reference is not None:
            levels = (str(factor), str(level), str(reference))
        elif not factor == level == reference:
            raise InputError("a contrast of levels is a factor, a level and a reference")
        asked = self.asked.but(
            Contrast(levels, _names(coefficients), _names(minus), _numbers(vector)),
            lfc_threshold=lfc_threshold,
            alternative=alternative,
            alpha=alpha,
            filtering=independent_filtering,
            ashr=ashr,
        )
        kept = replace(self.kept, asked=asked)
        found = compare(kept, asked)
        return replace(self, table=found.table, report={**self.report, **_of_comparison(asked, found)}, kept=kept)

    def summary(self) -> pd.DataFrame:
        """How many genes went up and down, were outliers or had low counts, as R's ``summary()`` of the table."""
        return summary(self.table, self.asked)

    def annotated(self, file: str | os.PathLike[str] | Annotation) -> Result:
        """The same with columns of a table by gene, such as symbols, also in the place of what has their names.

        See `Annotation`. Raises `InputError`.
        """
        annotation = file if isinstance(file, Annotation) else Annotation.read(file)
        kept = replace(self.kept, annotation={**self.kept.annotation, **annotation.of(self.kept.genes)})
        return replace(self, kept=kept, table=compare(kept, self.asked).table)

    def transform(self, data: str | os.PathLike[str] | AnnData, *, layer: str | None = None) -> AnnData:
        """A site's own samples on the scale of the fit: raw counts, ``layers`` normalised and vst, obs size_factor.

        ``data`` may be the site's ``site.toml``, which names its data. Of the fit, nothing but what is public is used,
        and nothing is sent. ``layer`` holds the raw counts; as in the
        fit if not given. Raises `InputError` where the fit has no trend, or the data lack genes of it.
        """
        from secirls.outputs.transform import Transform

        return Transform.of(self.kept, self.report["trend"])(data, layer)

    def scores(
        self, data: str | os.PathLike[str] | AnnData, *, layer: str | None = None, by: str | None = None
    ) -> pd.DataFrame:
        """A site's own samples along the principal components: sample, PC1, PC2 ... and obs columns of the design.

        Made at home: nothing is sent. ``layer`` is as for `transform`; ``by`` is one more obs column. Raises
        `InputError` where there are no loadings, or no such column.
        """
        from secirls.outputs.components import scores
        from secirls.outputs.transform import Transform

        if self.loadings is None:
            told = self.report.get("components")
            why = f"found none: {told['ending']}" if told else "was not asked for any: see 'secirls components'"
            raise InputError(f"the fit has no principal components, for it {why}")
        return scores(Transform.of(self.kept, self.report["trend"]), self.loadings, data, layer, by)

    def to_scanpy(self, adata: AnnData, key: str = "rank_genes_groups") -> None:
        """Leave the table in ``adata.uns`` as ``scanpy.tl.rank_genes_groups`` would, for one group.

        Annotation goes to ``adata.var``, where that has no such column. Raises `InputError` where the AnnData lacks
        genes of the fit.
        """
        levels = self.asked.contrast.levels or self.kept.design.default_levels()
        to_scanpy(adata, self.table, levels or ("", str(self.report["contrast"]), "rest"), key, self.kept.annotation)

    def __repr__(self) -> str:
        return f"<Result of {in_short(self.table, self.report, self.asked.alpha)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: what was fitted, and the strongest genes."""
        return result_html(self.table, self.report, tuple(self.kept.annotation), self.asked.alpha)

    @property
    def plots(self) -> Album:
        """The fit's pictures: ``result.plots.volcano()``, ``result.plots.save("figures", ["pdf"])``."""
        from secirls.outputs.pictures.album import Album

        return Album(self.table, self.report, self.ledger, self.dispersions)

    def write(self, out: str | os.PathLike[str], *, h5ad: bool = False, overwrite: bool = False) -> list[Path]:
        """Write all files into a folder, whole or not at all; gives their paths.

        Raises `InputError` where the folder holds results already and ``overwrite`` is not set, `UnwritableError` where
        it takes no files; what it held is then as it was. Of results that are replaced nothing stays.
        """
        out = Path(out)
        check_free(out, overwrite=overwrite)
        replaces = holds_results(out)
        with whole_folder(out) as draft:
            (draft / "results.csv").write_bytes(csv_of(self.table))
            (draft / RANKED).write_text(rnk(self.table), encoding="utf-8")
            symbols = symbols_in(self.table)
            if symbols is not None:
                (draft / RANKED_BY_SYMBOL).write_text(rnk(self.table, symbols), encoding="utf-8")
            self.kept.write(draft / KEPT)
            (draft / "coefficients.csv").write_bytes(csv_of(self.coefficients))
            if self.dispersions is not None:
                (draft / "dispersions.csv").write_bytes(csv_of(self.dispersions))
            if self.loadings is not None:
                (draft / LOADINGS).write_bytes(csv_of(self.loadings))
            self.ledger.to_csv(draft / "rounds.csv", index=False)
            report = json.dumps(self.report, indent=2)
            (draft / "report.json").write_text(report + "\n", encoding="utf-8")
            if h5ad:
                from secirls.inputs.files.site_file import write_results

                write_results(draft / "results.h5ad", self.table, self.coefficients, report)
            names = sorted(file.name for file in draft.iterdir())
        if replaces:
            clear_others(out, names)
        return [out / name for name in names]


def result(order: Order, outcome: Outcome, *, seconds: float) -> Result:
    """Tables and report from an order's outcome. ``seconds`` is the wall time of the whole fit."""
    config = order.task.config
    kept = KeptFit.of(config, outcome)
    found = compare(kept, kept.asked)
    return Result(
        found.table,
        coefficients(kept),
        dispersions(outcome),
        ledger_table(list(outcome.rows)),
        facts(order, outcome, seconds=seconds, compared=_of_comparison(kept.asked, found)),
        kept,
        loadings_of(outcome.fitted.components, outcome.genes),
    )


def _of_comparison(asked: Comparison, found: Compared) -> dict[str, Any]:
    """What a report says of a comparison."""
    filtering = None if found.cutoff is None else {"alpha": asked.alpha, "threshold": found.cutoff}
    told = {"alpha": asked.alpha, "lfc_threshold": asked.lfc_threshold, "alternative": asked.alternative}
    return {"contrast": found.name, **told, "independent_filtering": filtering, "ashr": found.ashr}


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or several."""
    return (given,) if isinstance(given, str) else tuple(given)


def _numbers(given: str | Sequence[float]) -> tuple[float, ...]:
    """Numbers, or text of them with commas between. Raises `InputError`."""
    return Contrast.parse_vector(given).vector if isinstance(given, str) else tuple(map(float, given))


def status_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many genes have which status, most first; every status that occurs."""
    return {str(name): int(n) for name, n in table["status"].value_counts().items()}
