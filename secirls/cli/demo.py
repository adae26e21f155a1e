"""The demonstration: four real sites, one secure fit and the same fit in the clear beside it, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from secirls.carriers.ahead import engine_ahead
from secirls.carriers.own_process import loading
from secirls.cli.console import RoundsDisplay, overhead, say, show_result
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.airway import DONORS
from secirls.outputs.free_folder import PLAIN, check_free, holds_results

if TYPE_CHECKING:
    from secirls.outputs.results import Result


def run_demo(out: Path, config: Config, engine: str, kinds: Sequence[str] = ()) -> None:
    """Write airway as four site files, fit them with the protocol and in the clear, show and keep both.

    Ray starts first and most of the rest is done beside it, the fit in the clear and its files too: on one thread,
    whose CPU seconds are told apart from this process's.
    """
    _check_folder(out)
    if config.protocol == "plain":
        say("The protocol 'plain' hides nothing: this fit and the one beside it are both in the clear.", wrap=True)
    say("airway (Himes et al. 2014, GSE52778): 8 samples of 4 cell lines, dexamethasone against control.", wrap=True)
    running, told = engine_ahead(engine), SimpleQueue[Any]()
    with ThreadPoolExecutor(1) as beside:
        writing = beside.submit(_written, out)
        with running:
            sites = writing.result()
            say(f"Each cell line is a site with a file of its own: {', '.join(sites)}.", wrap=True)
            from secirls.fitting import fit_config

            def in_the_clear() -> tuple[Future[Result], Future[list[Path]]]:
                fitting = beside.submit(_in_the_clear, config, sites, told)
                return fitting, beside.submit(lambda: fitting.result().write(out / PLAIN, overwrite=True))

            early = in_the_clear() if engine == "ray" else None
            with RoundsDisplay(config.protocol) as display:
                secure = fit_config(config, sites, engine=engine, on_round=display, on_note=display.note)
        clear, kept = early or in_the_clear()
        with RoundsDisplay("plain, for comparison") as display:
            for event in iter(told.get, None):
                (display.note if isinstance(event, str) else display)(event)
        plain, files = clear.result(), kept.result()
    if not secure.table.equals(plain.table):
        raise InputError("the secure fit and the plain one differ: please report this with both folders")
    files = secure.write(out, h5ad=True, overwrite=True) + files
    if kinds:
        files += replace(secure.plots, plain=plain.ledger).save(out, kinds)
    show_result(secure, files, [overhead(secure.ledger, plain.ledger, config.protocol)])
    if config.protocol != "plain":
        say("The results of both fits are the same to the last bit: the secure sums are exact.", wrap=True)
    say(
        f"The p-values are DESeq2's, over the genes with counts at {config.min_contributors} sites or more: "
        "dispersions, trend and filter as R estimates them. Outliers in cells of four samples are not looked for; "
        "'secirls fit --min-kept 1' does.",
        wrap=True,
    )
    say(f"Read next: {out / 'report.json'}, or fit your own files with 'secirls fit --help'.", wrap=True)


def _check_folder(out: Path) -> None:
    """Raise `InputError` if an earlier demo's results can't be replaced there, or those there are of another fit."""
    check_free(out, overwrite=True)
    if holds_results(out) and not any((out / "sites" / f"{name}.h5ad").exists() for name in DONORS):
        raise InputError(f"folder {str(out)!r}: holds results that are not of a demo; name another with --out")


def _written(out: Path) -> dict[str, str]:
    """The sites' files, by name; when they are there, so is what a fit needs."""
    with loading():
        import secirls.fitting  # noqa: F401
        from secirls.inputs.datasets import write_airway

        return {name: str(path) for name, path in write_airway(out / "sites").items()}


def _in_the_clear(config: Config, sites: dict[str, str], told: SimpleQueue[Any]) -> Result:
    """The fit without secrecy; rounds and notes are told as they come, nothing at the end."""
    from secirls.fitting import fit_config

    plain = config.model_copy(update={"protocol": "plain", "n_jobs": 1})
    try:
        return fit_config(plain, sites, engine="local", on_round=told.put, on_note=told.put)
    finally:
        told.put(None)
