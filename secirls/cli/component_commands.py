"""Commands about principal components: `components` asks the sites for loadings, `scores` is each site's own.

Promises: scores stay on the machine that they are made on. Refuses to know: how components are found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from secirls.cli.console import say, show_result
from secirls.cli.fit_commands import Writing, fit_into
from secirls.cli.options import again_options, comparison_options, component_options, home_options
from secirls.cli.options.plots_option import Plots, kinds_of
from secirls.input_error import InputError

NONE_FOUND = 1
"""Exit code where a fit is there and its components are not."""


def components_fit(
    folder: again_options.Folder,
    components: Annotated[int, typer.Option(metavar="N", help="How many, one or more.")] = 2,
    genes: Annotated[
        int | None, typer.Option(metavar="N", help="Genes of largest variance that they are of. Default: 500.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Estimated angle to the pooled data's at which they end. Default: 0.05.")
    ] = None,
    directions_per_sample: component_options.Directions = None,
    sample_share: component_options.Share = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the results. Default: DIR-components.")
    ] = None,
    federation: again_options.Federation = None,
    key: again_options.Keys = None,
    plots: Plots = None,
    overwrite: again_options.Overwrite = False,
    annotation: comparison_options.Names = None,
) -> None:
    """Make a fit again, and find principal components of its VST values within sites by secure sums.

    Writes loadings.csv, which is public. Each site makes its own scores with it: 'secirls scores'. It needs rounds, by
    the sites' own rules; one on its own ground takes part where its policy has max_components.
    """
    from secirls.cli.asking_again import again, compared, named_then
    from secirls.cli.federation_file import pair
    from secirls.inputs.files.text_file import read_text
    from secirls.outputs.components import check_samples
    from secirls.outputs.tables.annotation import Annotation

    if components < 1:
        raise InputError(f"--components {components} asks for none: one or more can be found")
    told: dict[str, Any] = {
        "components": components,
        "component_genes": genes,
        "component_tolerance": tolerance,
        "directions_per_sample": directions_per_sample,
        "sample_share": sample_share,
    }
    names = None if annotation is None else Annotation.read(annotation)
    given_keys = dict(pair(text, "--key", "NAME=FILE.key") for text in key or [])
    further = {name: value for name, value in told.items() if value is not None}
    run = again(folder, further, federation, given_keys)
    samples = json.loads(read_text(folder / "report.json")).get("samples")
    check_samples(f"folder {str(folder)!r}", samples, len(run.sites), run.fit)
    beside = out or folder.with_name(f"{folder.resolve().name}-components")
    writing = Writing(names, h5ad=False, kinds=kinds_of(plots), overwrite=overwrite, before=named_then(folder))
    result, files = fit_into(beside, run, None, writing)
    show_result(result, files)
    found = result.report["components"]
    if found["found"]:
        shares = ", ".join(f"{100 * share:.1f} %" for share in found["explained"])
        say(f"{_counted(found['found'])} of {found['genes']} genes: {shares} of their variance within sites", wrap=True)
        say("Each site makes its own scores:")
        say(f"  secirls scores FILE.h5ad --fit {beside}")
    say(compared(folder, result, "before the components"), wrap=True)
    if not found["found"]:
        say(f"secirls: no components, so {beside} has no loadings.csv: {found['ending']}", error=True)
        raise typer.Exit(NONE_FOUND)


def scores(
    data: home_options.Data,
    fit: Annotated[Path, typer.Option("--fit", metavar="DIR", help="The folder of 'secirls components'.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Default: FILE.scores.csv beside the data.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="obs column to colour by. Default: the design's last factor.")
    ] = None,
    layer: home_options.Layer = None,
    plots: Plots = None,
    overwrite: home_options.Overwrite = False,
) -> None:
    """Write this site's samples along the principal components of a fit, and a picture of them with --plots.

    Nothing is sent, and no other site is needed. The files hold this site's samples one by one: they stay at home.
    """
    from secirls.outputs.components import axis_titles
    from secirls.outputs.free_folder import check_free_file
    from secirls.outputs.results import Result
    from secirls.outputs.tables.gene_tables import csv_of
    from secirls.outputs.transform import own_data
    from secirls.whole_file import write_whole

    kinds, data = kinds_of(plots), own_data(data)
    out = data.with_name(f"{data.stem}.scores.csv") if out is None else out
    if out.suffix != ".csv":
        raise InputError(f"file {str(out)!r}: --out ends in .csv")
    pictures = [out.with_suffix(f".{kind}") for kind in kinds]
    for file in (out, *pictures):
        check_free_file(file, overwrite=overwrite, fit=fit)
    result = Result.read(fit)
    try:
        table = result.scores(data, layer=layer, by=by)
    except InputError as error:
        if str(data) in str(error):
            raise
        raise InputError(f"folder {str(fit)!r}: {error}") from None
    factors = [name for name in result.kept.design.levels if name in table]
    colour = by if by is not None else (factors[-1] if factors else None)
    write_whole(out, csv_of(table), like=data)
    if pictures:
        from secirls.outputs.pictures import canvas
        from secirls.outputs.pictures.scores import site_scores

        picture = site_scores(table, axis_titles(result.report["components"]), colour)
        for file in pictures:
            canvas.save(picture, file, like=data)
    found = 0 if result.loadings is None else result.loadings.shape[1] - 1
    say(f"{len(table):,} samples along {_counted(found)}")
    for file in (out, *pictures):
        say(f"  {file}")


def _counted(components: int) -> str:
    """So many components, in words."""
    return f"{components} component{'s' if components != 1 else ''}"
