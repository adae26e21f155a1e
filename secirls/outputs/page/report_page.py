"""A fit's output folder as one HTML page: pictures, genes, costs, what was disclosed, configuration.

Promises: the page stands alone (pictures, data and script are inside it, nothing is fetched), is made from the files
of the folder and of nothing else, and appears whole or not at all. Refuses to know: how the fit was run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from secirls.agreement.ledger import COLUMNS, MEGABYTE, by_verb
from secirls.config import Config
from secirls.input_error import InputError
from secirls.outputs.free_folder import FILES, KEPT, PAGE, PLAIN, check_there
from secirls.outputs.notebooks.notebook import tested
from secirls.outputs.page.genes import gene_table
from secirls.outputs.page.markup import asset, folded, page, picture, section, table, text
from secirls.outputs.pictures.album import Album
from secirls.outputs.pictures.canvas import png
from secirls.outputs.pictures.rounds import VERB_COLOURS, WAITING
from secirls.outputs.results import status_counts
from secirls.outputs.tables.gene_tables import annotation_in
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.results_table import compare
from secirls.outputs.tables.shrunken import COLUMNS as OF_SHRUNKEN
from secirls.outputs.tables.shrunken import SHRUNKEN
from secirls.whole_file import write_whole

_RESULTS = ("gene", "baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj", "status")
_NUMBERS = ("baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj", *OF_SHRUNKEN)
_COMPARED = ("baseMean", "log2FoldChange", "lfcSE", "stat")
"""By which a table is known as the fit's own."""
_OF_DISPERSIONS = ("baseMean", "dispGeneEst", "dispFit", "dispersion")
_CAPTIONS = {
    "volcano": "Volcano: each gene's change and how surely it is one.",
    "ma": "MA: change over mean expression.",
    "pvalues": "p-values: a peak at zero over an even floor is what changes look like.",
    "dispersions": "Dispersions: gene by gene, and drawn towards the trend; outliers keep theirs.",
    "outliers": "Genes with an outlying count by Cook's distance, and what became of them.",
    "convergence": "Genes asked about in each round; settled ones leave.",
    "overhead": "CPU time and bytes by verb. Sites' work is summed over sites.",
    "cost_by_round": "The same round by round.",
}
_SUM = "sum, without waiting"
_DIGITS = {"wall s": 3, "CPU s": 3, "MB up": 2, "MB down": 2}
STAY_HOME = (
    "Size factors and Cook's distances are of single samples. They stay at their sites, so no picture shows them."
)


def write_page(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into the output folder of a fit; gives its path.

    Raises `InputError` where the folder does not hold a fit's files.
    """
    album = read_album(Path(folder))
    written = Path(folder) / PAGE
    write_whole(written, html_page(album).encode())
    return written


def read_album(folder: Path) -> Album:
    """The pictures of a fit's output folder; of the same fit in the clear below it too, if there is one.

    Raises `InputError` where the folder does not hold a fit's files.
    """
    results, ledger, report = read_fit(folder)
    of_dispersions = folder / "dispersions.csv"
    report.setdefault("date", _written(folder / "report.json"))
    return Album(
        results,
        report,
        ledger,
        _csv(of_dispersions, ("gene", *_OF_DISPERSIONS, "dispOutlier"), _OF_DISPERSIONS)
        if report.get("trend", "") is not None and of_dispersions.is_file()  # else it is of an earlier fit
        else None,
        _in_the_clear(folder / PLAIN, results),
    )


def read_fit(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Results table, ledger and report of a fit's output folder. Raises `InputError`."""
    check_there(folder, FILES)
    results = _csv(folder / "results.csv", _RESULTS, _NUMBERS)
    _check_of_the_fit(folder, results)
    ledger = _ledger(folder / "rounds.csv")
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"file {str(folder / 'report.json')!r}: is not JSON") from None
    wanted = ("run", "sites", "rounds", "disclosure", "configuration", "versions", "contrast", "engine", "samples")
    missing = [name for name in wanted if not isinstance(report, dict) or name not in report]
    if missing or ledger.empty:
        raise InputError(f"folder {str(folder)!r}: {', '.join(missing) or 'rounds.csv'} is missing from its report")
    return results, ledger, report


def _check_of_the_fit(folder: Path, results: pd.DataFrame) -> None:
    """Raise `InputError` for a table of another contrast or fit than the folder keeps, if it keeps one."""
    if not (folder / KEPT).is_file():
        return
    kept = KeptFit.read(folder)
    if not _same(results, compare(kept, kept.asked).table):
        raise InputError(f"file {str(folder / 'results.csv')!r}: is not the table of the fit in {KEPT}")


def _in_the_clear(folder: Path, results: pd.DataFrame) -> pd.DataFrame | None:
    """The ledger there, if the fit there has the same results: one that an earlier fit left behind has others."""
    if not all((folder / name).is_file() for name in ("results.csv", "rounds.csv")):
        return None
    same = _same(results, _csv(folder / "results.csv", _RESULTS, _NUMBERS))
    return _ledger(folder / "rounds.csv") if same else None


def _same(results: pd.DataFrame, others: pd.DataFrame) -> bool:
    """Whether two tables tell the same of the same genes, as far as they are read after being saved elsewhere."""
    return results["gene"].tolist() == others["gene"].tolist() and all(
        np.allclose(results[name], others[name], rtol=1e-6, atol=0, equal_nan=True) for name in _COMPARED
    )


def html_page(album: Album) -> str:
    """The whole page as text."""
    report, drawn = album.report, album.drawn()

    two = SHRUNKEN in album.table  # MA pictures, which are as wide as the page

    def shown(*names: str, side_by_side: bool = False) -> str:
        figures = "".join(picture(png(drawn[name]()), _CAPTIONS[name]) for name in names if name in drawn)
        return f'<div class="pair">{figures}</div>' if side_by_side else figures

    tests = shown("pvalues", "dispersions", "outliers", side_by_side=True)
    by_round = folded("Round by round", shown("cost_by_round"))
    sections = {
        "changes": ("What changed", shown("volcano", "ma", side_by_side=not two)),
        "genes": ("All genes", gene_table(album.table)),
        "tests": ("Tests, dispersions, outliers", tests, _p(STAY_HOME)),
        "status": ("Every gene has a status", _statuses(album.table)),
        "convergence": ("Convergence", shown("convergence")),
        "cost": ("What secrecy cost", shown("overhead"), _costs(album.ledger, album.plain), by_round),
        "disclosure": ("What was disclosed, and what was not", _sentences(report["disclosure"])),
        "configuration": ("Configuration", _configuration(report["configuration"])),
        "versions": ("Versions", folded("Of the software", _settings(report["versions"]))),
    }
    contents = "".join(f'<li><a href="#{anchor}">{text(title)}</a></li>' for anchor, (title, *_) in sections.items())
    body = [
        f"<header><h1>{text(tested(report))}</h1>{_p(_summary(album))}</header>",
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>',
        "<main>",
        *(section(anchor, title, *parts) for anchor, (title, *parts) in sections.items()),
        "</main>",
    ]
    return page(f"secirls: {tested(report)}", body, style=asset("style.css"), script=asset("table.js"))


def _summary(album: Album) -> str:
    report, protocol = album.report, str(album.ledger["protocol"].iloc[0])
    return (
        f"{_date(report.get('date'))}{len(album.table):,} genes, {report['samples']:,} samples, "
        f"{len(report['sites'])} sites, protocol {protocol}, {len(report['rounds'])} rounds, "
        f"engine {report['engine']}, run {report['run']}."
    )


def _date(told: object) -> str:
    """When the fit ended, to the minute, if the report knows."""
    try:
        return f"{datetime.fromisoformat(str(told)).astimezone(UTC):%Y-%m-%d %H:%M} UTC: "
    except ValueError:
        return ""


def _written(path: Path) -> str:
    """When a file was written: for reports from before they had a date."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")


def _ledger(path: Path) -> pd.DataFrame:
    return _csv(path, COLUMNS, ("seconds", "cpu_seconds"))


def _csv(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    try:
        # A gene may be called NA or nan: only the columns of numbers have missing values.
        texts = ["gene", *annotation_in(pd.read_csv(path, nrows=0).columns)]
        read = pd.read_csv(
            path,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            low_memory=False,
            na_values={name: ["", "nan"] for name in numbers},
        )
    except (OSError, ValueError):
        raise InputError(f"file {str(path)!r}: can't be read as CSV") from None
    missing = [name for name in columns if name not in read]
    if missing:
        raise InputError(f"file {str(path)!r}: column {missing[0]!r} is missing")
    for name in numbers:
        if name in read and len(read) and not is_numeric_dtype(read[name]):
            raise InputError(f"file {str(path)!r}: column {name!r} does not hold numbers")
    return read


def _p(sentence: str) -> str:
    return f"<p>{text(sentence)}</p>"


def _sentences(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(sentence)}</li>' for sentence in sentences)}</ul>"


def _statuses(results: pd.DataFrame) -> str:
    return table(("status", "genes"), [(name, f"{n:,}") for name, n in status_counts(results).items()])


def _costs(ledger: pd.DataFrame, plain: pd.DataFrame | None) -> str:
    """Sums by verb, in the order of a round, and over all; beside each that of the fit in the clear, where measured.

    Waiting is wall time of the aggregator and nobody's cost.
    """
    ledgers = [_by_verb(ledger)] if plain is None else [_by_verb(ledger), _by_verb(plain)]
    verbs = list(dict.fromkeys(verb for sums in ledgers for verb in sums.index))
    order = [*VERB_COLOURS, *verbs]
    verbs = [*sorted(verbs, key=order.index), _SUM]
    head, columns = ["verb"], []
    for name, digits in _DIGITS.items():
        for place, sums in enumerate(ledgers):
            head.append(name if place == 0 else "in the clear")
            whole = sums[name].drop(WAITING, errors="ignore").sum()
            values = sums[name].reindex(verbs, fill_value=0.0)
            values.loc[_SUM] = whole
            columns.append(["" if pd.isna(value) else f"{value:,.{digits}f}" for value in values.tolist()])
    return f'<div class="wide">{table(head, list(zip(verbs, *columns, strict=True)))}</div>'


def _by_verb(ledger: pd.DataFrame) -> pd.DataFrame:
    verbs = by_verb(ledger).set_index("verb")
    return pd.DataFrame(
        {
            "wall s": verbs["seconds"],
            "CPU s": verbs["cpu_seconds"].where(verbs.index != WAITING),
            "MB up": verbs["bytes_up"] / MEGABYTE,
            "MB down": verbs["bytes_down"] / MEGABYTE,
        }
    )


def _configuration(told: Mapping[str, Any]) -> str:
    """The settings that are not the preset's own, and all of them folded."""
    chosen = {
        name: value for name, value in told.items() if name not in (usual := _usual(told)) or usual[name] != value
    }
    heading = _p(f"What the preset {told.get('preset')} alone would not have set:")
    return heading + _settings(chosen) + folded("All settings", _settings(told))


def _usual(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings would be with this preset alone; nothing, where the report is of another version."""
    try:
        usual = Config.read("report", design=told["design"], preset=told["preset"]).model_dump(mode="json")
    except (InputError, KeyError):
        return {}
    return {name: value for name, value in usual.items() if name != "design"}


def _settings(values: Mapping[str, Any]) -> str:
    shown = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items())
    return table(("setting", "value"), shown, words=True)
