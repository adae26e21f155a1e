"""The `secirls` command: reads options, shows progress, ends mistakes in one sentence and exit code 2.

What a command needs is imported where it runs, so that the help does not wait for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protocols.choice import NAMES
from secirls.cli.console import RoundsDisplay, say, show_result, speak_plainly
from secirls.cli.preparation import claim, cluster_app, ground, keys_app, simulate
from secirls.input_error import InputError

if TYPE_CHECKING:
    from secirls.outputs.results import Result

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


class InterruptedFitError(Exception):
    """Ctrl-C during a fit; typer would end the process at a plain `KeyboardInterrupt` without a word from us."""


_unfinished: list[Path] = []
"""Folders of fits that ended early in this process and can go on."""

app = typer.Typer(
    name="secirls",
    help="Fit one negative-binomial regression per gene over several sites, opening only the sums over them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; every foreseen failure is a sentence on standard error and an exit code."""
    from protocols.secure_sum import MisuseError, SecureSumError
    from secirls.agreement.faults import PartyFaultError, SilentSitesError

    _unfinished.clear()
    speak_plainly()
    try:
        app()
    except InputError as error:
        code, sentence = BAD_INPUT, error.in_full
    except MisuseError as error:
        code, sentence = BAD_INPUT, str(error)
    except OSError as error:  # what this machine does not allow, wherever it was asked
        code, sentence = BAD_INPUT, _of_the_system(error)
    except (SecureSumError, SilentSitesError, PartyFaultError) as error:
        code, sentence = FAILED, str(error)
    except (KeyboardInterrupt, InterruptedFitError):
        code, sentence = INTERRUPTED, "interrupted; no results were written"
    else:
        return
    say(f"secirls: {sentence}", error=True)
    if _unfinished:
        say(f"Finished rounds are kept: 'secirls resume {_unfinished[-1]}' goes on after the last of them.", error=True)
    sys.exit(code)


def _of_the_system(error: OSError) -> str:
    why = error.strerror or str(error) or type(error).__name__
    return why if error.filename is None else f"file {str(error.filename)!r}: {why}"


def _version(value: bool) -> None:
    if value:
        from secirls import __version__

        typer.echo(f"secirls {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def fit(
    manifest: Annotated[
        Path | None,
        typer.Argument(metavar="[FEDERATION.TOML]", help="Sites and options as a file; options given here win."),
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
    contrast: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="FACTOR LEVEL REFERENCE",
            help="The fold change to report. Default: the last term's last level against its reference.",
        ),
    ] = None,
    levels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR=REFERENCE,LEVEL,...",
            help="Levels of a factor in order, reference first. Default: the files' order, else sorted.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="AnnData layer with raw counts; raw:X for that of AnnData.raw. Default: X.")
    ] = None,
    round_counts: Annotated[
        bool | None,
        typer.Option("--round-counts/--no-round-counts", help="Round estimated counts (salmon, RSEM). Default: no."),
    ] = None,
    size_factors: Annotated[
        str | None,
        typer.Option(metavar="OBS_COLUMN", help="Size factors. Default: median of ratios by secure sums."),
    ] = None,
    dispersions: Annotated[
        str | None,
        typer.Option(
            metavar="VAR_COLUMN", help="Dispersions, the same at every site. Default: estimated by secure sums."
        ),
    ] = None,
    size_factor_type: Annotated[
        str | None, typer.Option(help="Size factors over genes: ratio, or poscounts. Default: ratio.")
    ] = None,
    control_genes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Genes that size factors are estimated from, one name per line."),
    ] = None,
    dispersion_fit: Annotated[
        str | None,
        typer.Option(help="Dispersions: deseq2 (as R's path ends), optimum, grid or moments. Default: deseq2."),
    ] = None,
    trend: Annotated[
        str | None, typer.Option(help="Of dispersions over means: parametric, local or mean. Default: parametric.")
    ] = None,
    cooks: Annotated[
        bool | None,
        typer.Option("--cooks/--no-cooks", help="Look for outliers by Cook's distances. Default: yes."),
    ] = None,
    min_replicates: Annotated[
        int | None,
        typer.Option(help="Samples in a cell of the design from which outliers are replaced. Default: 7."),
    ] = None,
    min_kept: Annotated[
        int | None,
        typer.Option(help="Values of a trimmed cell that must stay to look for its outliers; 1 is R. Default: 3."),
    ] = None,
    drop_empty: Annotated[
        bool | None,
        typer.Option("--drop-empty/--refuse-empty", help="Leave out design columns without samples. Default: refuse."),
    ] = None,
    own_columns: Annotated[
        str | None,
        typer.Option(help="Design columns of one site: kept there ('own'), or 'shared' as R has them. Default: own."),
    ] = None,
    genes: Annotated[
        str | None, typer.Option(help="'identical' gene lists, or their 'intersection'. Default: identical.")
    ] = None,
    min_contributors: Annotated[
        int | None, typer.Option(help="Leave out genes with counts at fewer sites. Default: 3.")
    ] = None,
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
    independent_filtering: Annotated[
        bool | None,
        typer.Option(
            "--independent-filtering/--no-independent-filtering",
            help="Leave genes with a low base mean out of the adjusted p-values. Default: yes; no with irls.",
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="False discovery rate that independent filtering aims at. Default: 0.05.")
    ] = None,
    refit_layer: Annotated[
        str | None, typer.Option(help="AnnData layer with replaced counts, for --refit-genes.")
    ] = None,
    refit_genes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Genes to fit again on --refit-layer, one name per line; the rest is kept."),
    ] = None,
    fraction_bits: Annotated[
        int | None,
        typer.Option(
            help="Compact profile: sums of IRLS rounded to so many fraction bits, for half the bytes. Default: exact."
        ),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="How sites compute: fused (compiled) or numpy. Default: fused.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Sites that must answer for a sum to open. Default: just above two thirds.")
    ] = None,
    consistency: Annotated[
        bool | None,
        typer.Option(
            "--consistency/--no-consistency",
            help="Show all sites who signed the set of present ones before a sum is opened. Default: no.",
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
        int | None, typer.Option(help="Rounds that mask keys are published for at a time. Default: 32.")
    ] = None,
    key_bits: Annotated[int | None, typer.Option(help="Paillier modulus. Default: 3072.")] = None,
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
        str | None, typer.Option(help="ray: one actor per site; local: one process. Default: ray.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="An existing Ray cluster. Default: that of RAY_ADDRESS, as in a Ray job; or a local one.",
        ),
    ] = None,
    hosts: Annotated[
        int | None, typer.Option(help="Simulate many sites in so many processes. Default: one process per site.")
    ] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep all that the aggregator receives and sends, for 'secirls audit'."),
    ] = None,
    h5ad: Annotated[bool, typer.Option("--h5ad", help="Also write results.h5ad: results without counts.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
) -> None:
    """Fit one negative-binomial regression per gene over several sites.

    Writes results.csv, coefficients.csv, dispersions.csv, rounds.csv (what every verb cost) and report.json.
    """
    from secirls.aggregator.checkpoint import claimed, holds_a_fit
    from secirls.cli.manifest import combined, gene_names, levels_of, pair
    from secirls.fitting import fit_manifest
    from secirls.outputs.results import check_free
    from secirls.site.key_files import read_roster

    told = {
        "design": design,
        "protocol": protocol,
        "contrast": contrast,
        "levels": None if levels is None else dict(map(levels_of, levels)),
        "layer": layer,
        "round_counts": round_counts,
        "size_factors": size_factors,
        "dispersions": dispersions,
        "size_factor_type": size_factor_type,
        "control_genes": None if control_genes is None else gene_names(control_genes, "--control-genes"),
        "dispersion_fit": dispersion_fit,
        "trend": trend,
        "cooks": cooks,
        "min_replicates": min_replicates,
        "min_kept": min_kept,
        "drop_empty": drop_empty,
        "own_columns": own_columns,
        "genes": genes,
        "min_contributors": min_contributors,
        "preset": preset,
        "max_iter": max_iter,
        "beta_tol": beta_tol,
        "ridge": ridge,
        "se": se,
        "independent_filtering": independent_filtering,
        "alpha": alpha,
        "refit_layer": refit_layer,
        "refit_genes": None if refit_genes is None else gene_names(refit_genes, "--refit-genes"),
        "fraction_bits": fraction_bits,
        "kernel": kernel,
        "threshold": threshold,
        "consistency": consistency,
        "neighbours": neighbours,
        "prg": prg,
        "rounds_per_batch": rounds_per_batch,
        "key_bits": key_bits,
        "n_jobs": n_jobs,
    }
    given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if roster is not None:
        given["roster"] = read_roster(roster)
    given_keys = dict(pair(text, "--key", "NAME=FILE.key") for text in key or [])
    run = combined(manifest, site, given, given_keys, engine, address, hosts)
    folder = out or Path(run.out or "secirls-fit")
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
            files = _write(result, folder, h5ad=h5ad, overwrite=overwrite)
    show_result(result, files)


@app.command("resume")
def resume_fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a fit that ended early.")],
    h5ad: Annotated[bool, typer.Option("--h5ad", help="Also write results.h5ad: results without counts.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
) -> None:
    """Go on with a fit after its last finished round; the results are the same to the last bit.

    Sites are opened anew, where the fit opened them, and meet with fresh keys.
    """
    from secirls.aggregator.checkpoint import claimed, holds_a_fit
    from secirls.fitting import resume
    from secirls.outputs.results import check_free

    check_free(folder, overwrite=overwrite)
    if not holds_a_fit(folder):
        raise InputError(f"folder {str(folder)!r}: holds no unfinished fit")
    with claimed(folder), _resumable(folder):
        with RoundsDisplay("resumed") as display:
            result = resume(folder, on_round=display, on_note=display.note)
        files = _write(result, folder, h5ad=h5ad, overwrite=overwrite)
    show_result(result, files)


@app.command("audit")
def audit_transcript(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The transcript of a fit.")],
    site: Annotated[
        list[str] | None,
        typer.Option("--site", metavar="NAME=FILE.h5ad", help="Also look for this site's samples and counts; repeat."),
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
    from secirls.cli.manifest import pair
    from secirls.site.key_files import read_roster

    files = dict(pair(text, "--site", "NAME=FILE.h5ad") for text in site or [])
    done = audit(folder, files, None if roster is None else read_roster(roster))
    say(f"{done.entries} entries, {done.messages} messages: the chain holds")
    say(f"{done.rounds} sums recomputed from what was received: each the same to the last bit")
    for told in done.breaks:
        say(told)
    say(f"the fit ended {done.ended}" + (f" of digest {done.result}" if done.result else ""))
    for told in done.limits:
        say(f"not told: {told}")
    for finding in done.findings:
        say(f"found: {finding}", error=True)
    if done.findings:
        raise typer.Exit(FAILED)
    say("nothing was found that should not be there")


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Note that a fit can go on, where it ends early."""
    from secirls.aggregator.checkpoint import holds_a_fit

    try:
        yield
    except BaseException as error:
        if holds_a_fit(folder):
            _unfinished.append(folder)
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedFitError from None
        raise


def _write(result: Result, folder: Path, *, h5ad: bool, overwrite: bool) -> list[Path]:
    """Write a fit's results; its rounds are kept until they are there."""
    from secirls.aggregator.checkpoint import discard

    files = result.write(folder, h5ad=h5ad, overwrite=overwrite)
    discard(folder)
    return files


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of 'secirls fit'.")],
) -> None:
    """Write report.html into a fit's output folder: figures, costs, disclosure and configuration on one page.

    The page stands alone: it fetches nothing and can be sent as it is.
    """
    from secirls.outputs.report_page import write_page

    say(str(write_page(folder)))


app.command()(simulate)
app.command()(claim)
app.command()(ground)
app.add_typer(keys_app, name="keys")
app.add_typer(cluster_app, name="cluster")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for data and results.")] = Path("secirls-demo"),
    protocol: Annotated[str, typer.Option(help=f"{', '.join(NAMES[1:])}.")] = "pairwise",
    engine: Annotated[str, typer.Option(help="ray: one actor per site; local: one process.")] = "ray",
) -> None:
    """Four real sites fit the airway counts together (Himes et al. 2014), and show what secrecy cost.

    Replaces the results of an earlier demo in the same folder.
    """
    from secirls.cli.demo import run_demo
    from secirls.config import Config

    run_demo(out, Config.read("options", **_demo_options(protocol)), engine)


def _demo_options(protocol: str) -> dict[str, Any]:
    from secirls.inputs.datasets import AIRWAY_LEVELS

    return {"design": "~ condition", "protocol": protocol, "levels": AIRWAY_LEVELS}
