"""Commands for after a fit: `results` of other contrasts, `audit` of its transcript, `report` as one page.

Promises: no site is asked for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secirls.cli.console import say, show_comparison
from secirls.cli.options import comparison_options, home_options
from secirls.cli.options.plots_option import Plots, kinds_of
from secirls.input_error import InputError

FOUND = 1
"""Exit code of an audit that found something."""


def results(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of 'secirls fit'.")],
    contrast: comparison_options.Levels = None,
    coefficient: comparison_options.Coefficients = None,
    minus: comparison_options.Minus = None,
    contrast_vector: comparison_options.Vector = None,
    lfc_threshold: comparison_options.Threshold = None,
    alternative: comparison_options.Alternative = None,
    independent_filtering: comparison_options.Filtering = None,
    alpha: comparison_options.Alpha = None,
    ashr: comparison_options.Ashr = None,
    annotation: comparison_options.Names = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv|DIR",
            help="Write the table to a file, with tabs to FILE.tsv; or all that a fit writes to a folder of its own.",
        ),
    ] = None,
    plots: Plots = None,
    rnk: Annotated[
        Path | None, typer.Option(metavar="FILE.rnk", help="Write genes and statistics, ranked, for GSEA.")
    ] = None,
    rnk_by: Annotated[
        str, typer.Option("--rnk-by", metavar="COLUMN", help="Name genes there by a column of annotation.")
    ] = "gene",
    overwrite: home_options.Overwrite = False,
) -> None:
    """Make a table of another contrast, threshold or alpha from a finished fit. No site is asked.

    What is not given is as in its results.csv.
    """
    from secirls.inputs.designs.contrasts import Contrast
    from secirls.outputs.free_folder import check_free_file
    from secirls.outputs.results import Result
    from secirls.outputs.tables import next_tools
    from secirls.outputs.tables.annotation import Annotation
    from secirls.outputs.tables.gene_tables import csv_of, tsv_of
    from secirls.whole_file import write_whole

    kinds, place = kinds_of(plots), out if out is not None and _is_folder(out) else None
    if place is not None:
        out = None
        _check_free_for_a_comparison(place, folder, overwrite=overwrite)
    elif kinds:
        raise InputError(f"--plots {plots}: pictures go into a folder, which --out names")
    for file in (out, rnk):
        if file is not None:
            check_free_file(file, overwrite=overwrite, fit=folder)
    if out is not None and rnk is not None and out.resolve() == rnk.resolve():
        raise InputError(f"file {str(out)!r}: is named by --out and by --rnk; name two files")
    result = Result.read(folder)
    if (names := comparison_options.own_file(annotation)) is not None:
        result = result.annotated(Annotation.read(names))
    if rnk_by not in ("gene", *result.kept.annotation):
        told = ", ".join(map(repr, result.kept.annotation)) or "none"
        raise InputError(f"--rnk-by {rnk_by!r}: is no column of annotation (there: {told})")
    result = result.contrast(
        *(contrast or ()),
        coefficients=coefficient or (),
        minus=minus or (),
        vector=() if contrast_vector is None else Contrast.parse_vector(contrast_vector).vector,
        lfc_threshold=lfc_threshold,
        alternative=alternative,
        alpha=alpha,
        independent_filtering=independent_filtering,
        ashr=ashr,
    )
    files = [] if place is None else result.write(place, overwrite=overwrite)
    files += [] if place is None or not kinds else result.plots.save(place, kinds)
    table_of = tsv_of if out is not None and out.suffix == ".tsv" else csv_of
    for file, make in ((out, table_of), (rnk, lambda table: next_tools.rnk(table, rnk_by).encode())):
        if file is not None:
            write_whole(file, make(result.table))
            files.append(file)
    show_comparison(result, files)


def _is_folder(out: Path) -> bool:
    """Whether results go into a folder, rather than a file, whose name ends as its kind. Raises `InputError`."""
    if out.suffix in (".csv", ".tsv"):
        return False
    if out.suffix and not out.is_dir():
        raise InputError(f"file {str(out)!r}: --out ends in .csv or .tsv; a folder's name has no ending")
    return True


def _check_free_for_a_comparison(out: Path, fit: Path, *, overwrite: bool) -> None:
    """Raise `InputError` unless a folder may take a comparison: never in the place of what a fit wrote itself."""
    from secirls.aggregator.checkpoint import holds_a_fit
    from secirls.outputs.free_folder import check_free, holds_results
    from secirls.outputs.tables.comparison import Comparison
    from secirls.outputs.tables.kept_fit import KeptFit

    where = f"folder {str(out)!r}"
    if holds_a_fit(out):
        raise InputError(f"{where}: holds an unfinished fit; name another")
    if out.resolve() == fit.resolve():
        raise InputError(f"{where}: is the one that is asked; name another")
    check_free(out, overwrite=overwrite)
    if holds_results(out):
        kept = KeptFit.read(out)
        if kept.asked == Comparison.of(kept.config, kept.design):
            raise InputError(f"{where}: holds what a fit wrote itself; name another")


def audit_transcript(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The transcript of a fit.")],
    site: Annotated[
        list[str] | None,
        typer.Option(
            "--site",
            metavar="NAME=FILE",
            help="Also look for this site's samples and counts, in its AnnData file or that of its site.toml; repeat.",
        ),
    ] = None,
    roster: Annotated[
        Path | None,
        typer.Option(
            metavar="ROSTER.json",
            help="Public keys from elsewhere than the transcript, that all who sign must have. Default: none.",
        ),
    ] = None,
) -> None:
    """Verify a transcript, do the aggregator's part again from it, and look for what should not be there.

    Says also what it can't tell. Exit code 1 if anything is found.
    """
    from secirls.aggregator.audit import audit
    from secirls.cli.federation_file import pair
    from secirls.outputs.transform import own_data
    from secirls.site.grounds.key_files import read_roster

    given = (pair(text, "--site", "NAME=FILE") for text in site or [])
    files = {name: str(own_data(Path(file))) for name, file in given}
    done = audit(folder, files, None if roster is None else read_roster(roster))
    say(f"{done.entries} entries, {done.messages} messages: the chain holds")
    say(f"{done.rounds} sums recomputed from what was received: each the same to the last bit", wrap=True)
    for told in done.breaks:
        say(told, wrap=True)
    say(f"the fit ended {done.ended}" + (f" of digest {done.result}" if done.result else ""), wrap=True)
    for told in done.limits:
        say(f"not told: {told}", wrap=True)
    for finding in done.findings:
        say(f"found: {finding}", error=True)
    if done.findings:
        raise typer.Exit(FOUND)
    say("nothing was found that should not be there")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of 'secirls fit'.")],
    plots: Plots = None,
) -> None:
    """Write report.html into a fit's output folder: figures, costs, disclosure and configuration on one page.

    The page stands alone: it fetches nothing and can be sent as it is.
    """
    from secirls.outputs.page.report_page import read_album, write_page

    kinds = kinds_of(plots)
    say(str(write_page(folder)))
    for file in read_album(folder).save(folder, kinds) if kinds else []:
        say(str(file))
