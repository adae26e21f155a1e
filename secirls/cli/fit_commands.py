"""Commands that make a fit: `fit` from options and a federation file, `resume`, and `shrink`, which makes one again.

Promises: rounds are kept until the results are there; a folder's results are never replaced unasked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protocols.choice import NAMES
from secirls.cli.console import RoundsDisplay, say, show_result
from secirls.cli.options import again_options, comparison_options, component_options, model_options
from secirls.cli.options.plots_option import Plots, kinds_of
from secirls.input_error import InputError

if TYPE_CHECKING:
    from secirls.agreement.manifest import Manifest
    from secirls.outputs.results import Result
    from secirls.outputs.tables.annotation import Annotation


unfinished: list[Path] = []
"""Folders of fits that ended early in this process and can go on."""


def fit(
    manifest: Annotated[
        Path | None,
        typer.Argument(metavar="FEDERATION.TOML", help="Sites and options as a file; options given here win."),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            "--site",
            metavar="NAME=FILE",
            help="A site and its AnnData file with raw counts, or its own site.toml; repeat, three or more.",
        ),
    ] = None,
    design: Annotated[str | None, typer.Option(help="Formula over obs columns, such as '~ condition'.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help=f"How summands are hidden: {', '.join(NAMES)}. Default: pairwise."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the results. Default: secirls-fit.")
    ] = None,
    contrast: comparison_options.Levels = None,
    coefficient: comparison_options.Coefficients = None,
    minus: comparison_options.Minus = None,
    contrast_vector: comparison_options.Vector = None,
    lfc_threshold: comparison_options.Threshold = None,
    alternative: comparison_options.Alternative = None,
    test: model_options.Test = None,
    reduced: model_options.Reduced = None,
    independent_filtering: comparison_options.Filtering = None,
    alpha: comparison_options.Alpha = None,
    levels: model_options.Levels = None,
    layer: model_options.Layer = None,
    round_counts: model_options.RoundCounts = None,
    genes: Annotated[
        str | None, typer.Option(help="'identical' gene lists, or their 'intersection'. Default: identical.")
    ] = None,
    min_contributors: Annotated[
        int | None, typer.Option(help="Leave out genes with counts at fewer sites. Default: 3.")
    ] = None,
    min_total_count: model_options.MinTotalCount = None,
    drop_empty: model_options.DropEmpty = None,
    own_columns: model_options.OwnColumns = None,
    size_factors: model_options.SizeFactors = None,
    size_factor_type: model_options.SizeFactorType = None,
    control_genes: model_options.ControlGenes = None,
    dispersions: model_options.Dispersions = None,
    dispersion_fit: model_options.DispersionFit = None,
    trend: model_options.Trend = None,
    cooks: model_options.Cooks = None,
    min_replicates: model_options.MinReplicates = None,
    min_kept: model_options.MinKept = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Whose choices: deseq2, pydeseq2, fedpydeseq2; or irls alone. Default: deseq2."),
    ] = None,
    max_iter: Annotated[
        int | None, typer.Option(help="Updates before IRLS gives a gene up. Default: 100; 250 with irls.")
    ] = None,
    beta_tol: Annotated[
        float | None,
        typer.Option(help="Relative change of the deviance at which a gene has converged. Default: 1e-8."),
    ] = None,
    ridge: Annotated[
        float | None,
        typer.Option(help="Added to the diagonal of X'WX. Default: 2.0814e-6, as R's DESeq2; 1e-6 with irls."),
    ] = None,
    se: Annotated[
        str | None,
        typer.Option(help="Means in standard errors: clamped as in the fit, or unclamped. Default: clamped."),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="How sites compute: fused (compiled) or numpy. Default: fused.")
    ] = None,
    refit_layer: Annotated[
        str | None, typer.Option(help="AnnData layer with replaced counts, for --refit-genes.")
    ] = None,
    refit_genes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Genes to fit again on --refit-layer, one name per line; the rest is kept."),
    ] = None,
    shrink: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Draw this coefficient's fold changes towards zero, as apeglm."),
    ] = None,
    components: component_options.Number = None,
    component_genes: component_options.Genes = None,
    component_tolerance: component_options.Tolerance = None,
    directions_per_sample: component_options.Directions = None,
    sample_share: component_options.Share = None,
    threshold: Annotated[
        int | None, typer.Option(help="Sites that must answer for a sum to open. Default: just above two thirds.")
    ] = None,
    consistency: Annotated[
        bool | None,
        typer.Option(
            "--consistency/--no-consistency",
            help="Show all sites who signed the set of present ones before a sum is opened. Default: yes.",
        ),
    ] = None,
    trust_aggregator: Annotated[
        bool | None,
        typer.Option(
            "--trust-aggregator/--follow",
            help="Let the aggregator choose the questions. Default: sites follow the algorithm, and check every total.",
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(help="Sites that each site shares masks with. Default: all of up to 50, then a part of them."),
    ] = None,
    prg: Annotated[
        str | None, typer.Option(help="Keystream of masks: aes-256-ctr or chacha20. Default: aes-256-ctr.")
    ] = None,
    rounds_per_batch: Annotated[
        int | None,
        typer.Option(
            help="Rounds that keys of masks are agreed on for at a time. Default: 32; 4096 with pairwise-lean."
        ),
    ] = None,
    fraction_bits: Annotated[
        int | None,
        typer.Option(
            help="Compact profile: sums of IRLS rounded to so many fraction bits, for half the bytes. Default: exact."
        ),
    ] = None,
    key_bits: Annotated[int | None, typer.Option(help="Paillier modulus. Default: 3072.")] = None,
    obfuscation: Annotated[
        str | None, typer.Option(help="How Paillier hides: djn, short, subgroup, textbook. Default: djn.")
    ] = None,
    n_jobs: Annotated[
        int | None,
        typer.Option(help="Threads at each party. Default: all cores for Paillier, one for summands."),
    ] = None,
    roster: Annotated[
        Path | None,
        typer.Option(metavar="ROSTER.json", help="Public keys agreed beforehand. Default: made for the session."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="NAME=FILE.key", help="A site's private key, opened by the site; repeat."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="ray: one actor per site; local: one process; hub: sites that call. Default: ray."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="An existing Ray cluster, by default that of RAY_ADDRESS or a local one; or where the hub listens.",
        ),
    ] = None,
    hosts: Annotated[
        int | None, typer.Option(help="Simulate many sites in so many processes. Default: one process per site.")
    ] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep all that the aggregator receives and sends, for 'secirls audit'."),
    ] = None,
    annotation: comparison_options.NamesOrColumns = None,
    h5ad: Annotated[bool, typer.Option("--h5ad", help="Also write results.h5ad: results without counts.")] = False,
    plots: Plots = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
) -> None:
    """Fit one negative-binomial regression per gene over several sites.

    Writes results.csv, coefficients.csv, dispersions.csv, ranked.rnk, rounds.csv (what every verb cost), report.json,
    and fit.npz, from which 'secirls results' makes further tables.
    """
    from secirls.cli.federation_file import combined, gene_names, levels_of, pair
    from secirls.inputs.designs.contrasts import Contrast
    from secirls.outputs.tables.annotation import Annotation
    from secirls.site.grounds.key_files import read_roster

    kinds, (file, columns) = kinds_of(plots), comparison_options.file_or_columns(annotation)
    told = {
        "design": design,
        "protocol": protocol,
        "contrast": contrast,
        "coefficients": None if coefficient is None else tuple(coefficient),
        "minus": None if minus is None else tuple(minus),
        "contrast_vector": None if contrast_vector is None else Contrast.parse_vector(contrast_vector).vector,
        "lfc_threshold": lfc_threshold,
        "alternative": alternative,
        "test": test,
        "reduced": reduced,
        "independent_filtering": independent_filtering,
        "alpha": alpha,
        "levels": None if levels is None else dict(map(levels_of, levels)),
        "layer": layer,
        "round_counts": round_counts,
        "genes": genes,
        "min_contributors": min_contributors,
        "min_total_count": min_total_count,
        "drop_empty": drop_empty,
        "own_columns": own_columns,
        "size_factors": size_factors,
        "size_factor_type": size_factor_type,
        "control_genes": None if control_genes is None else gene_names(control_genes, "--control-genes"),
        "dispersions": dispersions,
        "dispersion_fit": dispersion_fit,
        "trend": trend,
        "cooks": cooks,
        "min_replicates": min_replicates,
        "min_kept": min_kept,
        "preset": preset,
        "max_iter": max_iter,
        "beta_tol": beta_tol,
        "ridge": ridge,
        "se": se,
        "kernel": kernel,
        "refit_layer": refit_layer,
        "refit_genes": None if refit_genes is None else gene_names(refit_genes, "--refit-genes"),
        "shrink": shrink,
        "components": components,
        "component_genes": component_genes,
        "component_tolerance": component_tolerance,
        "directions_per_sample": directions_per_sample,
        "sample_share": sample_share,
        "threshold": threshold,
        "consistency": consistency,
        "trust_aggregator": trust_aggregator,
        "neighbours": neighbours,
        "prg": prg,
        "rounds_per_batch": rounds_per_batch,
        "fraction_bits": fraction_bits,
        "key_bits": key_bits,
        "obfuscation": obfuscation,
        "n_jobs": n_jobs,
        "annotation": columns,
    }
    given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if roster is not None:
        given["roster"] = read_roster(roster)
    given_keys = dict(pair(text, "--key", "NAME=FILE.key") for text in key or [])
    names = None if file is None else Annotation.read(file)
    run = combined(manifest, site, given, given_keys, engine, address, hosts)
    folder = out or Path(run.out or "secirls-fit")
    writing = Writing(names, h5ad, kinds, overwrite)
    show_result(*fit_into(folder, run, transcript, writing))


def shrink_fit(
    folder: again_options.Folder,
    coefficient: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="Whose fold changes: 'condition[T.treated]', as coefficients.csv has it."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the results. Default: DIR-shrunken.")
    ] = None,
    federation: again_options.Federation = None,
    key: again_options.Keys = None,
    h5ad: Annotated[bool, typer.Option("--h5ad", help="Also write results.h5ad: results without counts.")] = False,
    plots: Plots = None,
    overwrite: again_options.Overwrite = False,
    annotation: comparison_options.NamesOrColumns = None,
) -> None:
    """Make a fit again, and draw one coefficient's fold changes towards zero, as R's lfcShrink(type = "apeglm").

    It needs rounds: the sites of the fit take part again, by their own rules. What they answered then is asked in the
    same words, and is not counted again.
    """
    from secirls.cli.asking_again import again, compared, named_then
    from secirls.cli.federation_file import pair
    from secirls.outputs.tables.annotation import Annotation

    file, columns = comparison_options.file_or_columns(annotation)
    names = None if file is None else Annotation.read(file)
    given_keys = dict(pair(text, "--key", "NAME=FILE.key") for text in key or [])
    told = {} if columns is None else {"annotation": columns}
    run = again(folder, {"shrink": coefficient, **told}, federation, given_keys)
    beside = out or folder.with_name(f"{folder.resolve().name}-shrunken")
    writing = Writing(names, h5ad, kinds_of(plots), overwrite, before=named_then(folder))
    result, files = fit_into(beside, run, None, writing)
    show_result(result, files)
    say(compared(folder, result, "that was not shrunken"), wrap=True)


@dataclass(frozen=True)
class Writing:
    """How results are written."""

    names: Annotation | None
    h5ad: bool
    kinds: tuple[str, ...]
    overwrite: bool
    before: Annotation | None = None
    """What a fit that is made again called its genes; ``names`` stand in the place of what they name anew."""

    def __call__(self, result: Result, folder: Path) -> tuple[Result, list[Path]]:
        """Write a fit's results, and then pictures; its rounds are kept until the results are there."""
        from secirls.aggregator.checkpoint import discard

        for names in (self.before, self.names):
            result = result if names is None else result.annotated(names)
        files = result.write(folder, h5ad=self.h5ad, overwrite=self.overwrite)
        discard(folder)
        return result, files + (result.plots.save(folder, self.kinds) if self.kinds else [])


def fit_into(folder: Path, run: Manifest, transcript: Path | None, writing: Writing) -> tuple[Result, list[Path]]:
    """Make a manifest's fit, and write it into a folder that is free for it."""
    from secirls.aggregator.checkpoint import claimed, holds_a_fit
    from secirls.fitting import fit_manifest
    from secirls.outputs.free_folder import check_free

    overwrite = writing.overwrite
    if transcript is not None and folder.resolve().is_relative_to(transcript.resolve()):
        raise InputError(f"folder {str(transcript)!r}: is for a transcript alone; results need another")
    check_free(folder, overwrite=overwrite)
    with claimed(folder):
        check_free(folder, overwrite=overwrite)
        if holds_a_fit(folder) and not overwrite:
            raise InputError(
                f"folder {str(folder)!r}: holds an unfinished fit; 'secirls resume' goes on with it, "
                "--overwrite drops it"
            )
        with _resumable(folder):
            with RoundsDisplay(f"{run.fit.protocol} over {len(run.sites)} sites") as display:
                result = fit_manifest(run, folder, transcript=transcript, on_round=display, on_note=display.note)
            return writing(result, folder)


def resume_fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a fit that ended early.")],
    h5ad: Annotated[bool, typer.Option("--h5ad", help="Also write results.h5ad: results without counts.")] = False,
    plots: Plots = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
    annotation: comparison_options.Names = None,
) -> None:
    """Go on with a fit after its last finished round; the results are the same to the last bit.

    Sites are opened anew, where the fit opened them, and meet with fresh keys.
    """
    from secirls.aggregator.checkpoint import claimed, holds_a_fit
    from secirls.fitting import resume
    from secirls.outputs.free_folder import check_free, holds_results
    from secirls.outputs.tables.annotation import Annotation

    file, kinds = comparison_options.own_file(annotation), kinds_of(plots)
    names = None if file is None else Annotation.read(file)
    if not holds_a_fit(folder):
        ended = ", but the results of one that ended" if holds_results(folder) else ""
        raise InputError(f"folder {str(folder)!r}: holds no unfinished fit{ended}")
    check_free(folder, overwrite=overwrite)
    with claimed(folder), _resumable(folder):
        with RoundsDisplay("resumed") as display:
            result = resume(folder, on_round=display, on_note=display.note)
        result, files = Writing(names, h5ad, kinds, overwrite)(result, folder)
    show_result(result, files)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Note that a fit can go on, where it ends early."""
    from secirls.aggregator.checkpoint import holds_a_fit
    from secirls.agreement.past import OverError

    try:
        yield
    except OverError:
        raise
    except BaseException:
        if holds_a_fit(folder):
            unfinished.append(folder)
        raise
