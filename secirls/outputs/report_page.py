"""A fit's output folder as one HTML page: pictures, costs, what was disclosed, configuration.

Promises: the page stands alone (pictures are inside it, nothing is fetched), is made from the files of the
folder and of nothing else, and appears whole or not at all. Refuses to know: how the fit was run.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from secirls.agreement.ledger import COLUMNS, by_verb
from secirls.agreement.whole_file import write_whole
from secirls.input_error import InputError
from secirls.outputs import plots
from secirls.outputs.results import FILES, status_counts

PAGE = "report.html"
STRONGEST = 20
_RESULTS = ("gene", "baseMean", "log2FoldChange", "lfcSE", "pvalue", "padj", "status")
_NUMBERS = ("baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } td.text, th.text { text-align: left; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figcaption { font-size: 0.9rem; color: #555; }
img { max-width: min(100%, 46rem); height: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
code { font-size: 0.85rem; overflow-wrap: anywhere; }
"""


def write_page(folder: Path) -> Path:
    """Write ``report.html`` into the output folder of a fit; gives its path.

    Raises `InputError` where the folder does not hold a fit's files.
    """
    table, ledger, report = read_fit(folder)
    page = folder / PAGE
    write_whole(page, html_page(table, ledger, report).encode())
    return page


def read_fit(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Results table, ledger and report of a fit's output folder. Raises `InputError`."""
    if not folder.is_dir():
        raise InputError(f"folder {str(folder)!r}: is missing")
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"folder {str(folder)!r}: has no {name}, so it is not the output of 'secirls fit'")
    table = _csv(folder / "results.csv", (*_RESULTS, "stat"), _NUMBERS)
    ledger = _csv(folder / "rounds.csv", COLUMNS, ("seconds", "cpu_seconds"))
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"file {str(folder / 'report.json')!r}: is not JSON") from None
    wanted = ("run", "sites", "rounds", "disclosure", "configuration", "versions", "contrast", "engine", "samples")
    missing = [name for name in wanted if not isinstance(report, dict) or name not in report]
    if missing or ledger.empty:
        raise InputError(f"folder {str(folder)!r}: {', '.join(missing) or 'rounds.csv'} is missing from its report")
    return table, ledger, report


def html_page(table: pd.DataFrame, ledger: pd.DataFrame, report: Mapping[str, Any]) -> str:
    """The whole page as text."""
    contrast = str(report["contrast"])
    protocol = str(ledger["protocol"].iloc[0])
    summary = (
        f"{len(table):,} genes, {report['samples']:,} samples, {len(report['sites'])} sites, protocol {protocol}, "
        f"{len(report['rounds'])} rounds, engine {report['engine']}, run {report['run']}."
    )
    counts = ((name, f"{n:,}") for name, n in status_counts(table).items())
    body = [
        f"<h1>{_text(contrast)}</h1><p>{_text(summary)}</p>",
        "<h2>What changed</h2><div class='pair'>",
        _picture(plots.png(plots.volcano(table)), "Volcano plot: each gene's change and how surely it is one."),
        _picture(plots.png(plots.mean_and_change(table)), "MA plot: change over mean expression."),
        "</div>",
        f"<h3>The {STRONGEST} strongest genes</h3>{_strongest(table)}",
        f"<h2>Every gene has a status</h2>{_table(('status', 'genes'), counts)}",
        "<h2>Convergence</h2>",
        _picture(
            plots.png(plots.convergence(report["rounds"])), "Genes asked about in each round; settled ones leave."
        ),
        "<h2>What secrecy cost</h2>",
        _picture(plots.png(plots.overhead(ledger)), "CPU time and bytes by round. Sites' work is summed over sites."),
        _costs(ledger),
        "<h2>What was disclosed, and what was not</h2><ul>",
        *(f"<li>{_text(sentence)}</li>" for sentence in report["disclosure"]),
        "</ul><h2>Configuration</h2>",
        _settings(report["configuration"]),
        "<h2>Versions</h2>",
        _settings(report["versions"]),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'\">"
        f"<title>secirls: {_text(contrast)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _csv(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    try:
        # A gene may be called NA or nan: only the columns of numbers have missing values.
        read = pd.read_csv(
            path, dtype={"gene": str}, keep_default_na=False, na_values={name: ["", "nan"] for name in numbers}
        )
    except (OSError, ValueError):
        raise InputError(f"file {str(path)!r}: can't be read as CSV") from None
    missing = [name for name in columns if name not in read]
    if missing:
        raise InputError(f"file {str(path)!r}: column {missing[0]!r} is missing")
    return read


def _strongest(table: pd.DataFrame) -> str:
    best = table.dropna(subset=["pvalue"]).sort_values(["pvalue", "stat"], kind="stable").head(STRONGEST)
    head = ("gene", "base mean", "log2 fold change", "standard error", "p", "adjusted p")
    rows = (
        (
            str(row.gene),
            f"{row.baseMean:,.1f}",
            f"{row.log2FoldChange:+.3f}",
            f"{row.lfcSE:.3f}",
            f"{row.pvalue:.2e}",
            f"{row.padj:.2e}",
        )
        for row in best.itertuples()
    )
    return _table(head, rows)


def _costs(ledger: pd.DataFrame) -> str:
    """Sums by verb, in the order of a round; waiting is wall time of the aggregator and nobody's cost."""
    verbs = by_verb(ledger).set_index("verb")
    order = [*plots.VERB_COLOURS, *verbs.index]
    verbs = verbs.loc[sorted(verbs.index, key=order.index)]
    shown = {
        "wall s": verbs["seconds"],
        "CPU s": verbs["cpu_seconds"].where(verbs.index != "wait"),
        "MB up": verbs["bytes_up"] / plots.MEGABYTE,
        "MB down": verbs["bytes_down"] / plots.MEGABYTE,
    }
    digits = {"wall s": 3, "CPU s": 3, "MB up": 2, "MB down": 2}
    cells = [
        ["" if pd.isna(value) else f"{value:.{digits[name]}f}" for value in column.tolist()]
        for name, column in shown.items()
    ]
    rows = [tuple(map(str, row)) for row in zip(verbs.index, *cells, strict=True)]
    return _table(("verb", "wall s", "CPU s", "MB up", "MB down"), rows)


def _settings(values: Mapping[str, Any]) -> str:
    shown = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items())
    return _table(("setting", "value"), shown, text=True)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], *, text: bool = False) -> str:
    kind = " class='text'" if text else ""
    lines = ["<tr>" + "".join(f"<th{kind}>{_text(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td{kind}>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _picture(data: bytes, caption: str) -> str:
    packed = base64.b64encode(data).decode("ascii")
    source = f"data:image/png;base64,{packed}"
    return f"<figure><img alt='{_text(caption)}' src='{source}'><figcaption>{_text(caption)}</figcaption></figure>"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
