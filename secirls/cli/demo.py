"""The demonstration: four real sites, one secure fit and the same fit in the clear beside it, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from secirls.cli.console import RoundsDisplay, overhead, say, show_result
from secirls.config import Config
from secirls.fitting import engine_ahead, fit_config
from secirls.input_error import InputError
from secirls.inputs.datasets import write_airway
from secirls.outputs.results import check_free


def run_demo(out: Path, config: Config, engine: str, kinds: Sequence[str] = ()) -> None:
    """Write airway as four site files, fit them with the protocol and in the clear, show and keep both."""
    check_free(out, overwrite=True)
    say("airway (Himes et al. 2014, GSE52778): 8 samples of 4 cell lines, dexamethasone against control.", wrap=True)
    with ThreadPoolExecutor(1) as beside:
        writing = beside.submit(write_airway, out / "sites")
        with engine_ahead(engine):
            sites = {name: str(path) for name, path in writing.result().items()}
            say(f"Each cell line is a site with a file of its own: {', '.join(sites)}.")
            with RoundsDisplay(config.protocol) as display:
                secure = fit_config(config, sites, engine=engine, on_round=display, on_note=display.note)
    with RoundsDisplay("plain, for comparison") as display:
        plain = fit_config(
            config.model_copy(update={"protocol": "plain"}),
            sites,
            engine="local",
            on_round=display,
            on_note=display.note,
        )
    if not secure.table.equals(plain.table):
        raise InputError("the secure fit and the plain one differ: please report this with both folders")
    files = secure.write(out, h5ad=True, overwrite=True) + plain.write(out / "plain", overwrite=True)
    if kinds:
        files += replace(secure.plots, plain=plain.ledger).save(out, kinds)
    show_result(secure, files, [overhead(secure.ledger, plain.ledger, config.protocol)])
    say("The results of both fits are the same to the last bit: the secure sums are exact.", wrap=True)
    say(
        f"The p-values are DESeq2's, over the genes with counts at {config.min_contributors} sites or more: "
        "dispersions, trend and filter as R estimates them. Outliers in cells of four samples are not looked for; "
        "'secirls fit --min-kept 1' does.",
        wrap=True,
    )
    say(f"Read next: {out / 'report.json'}, or fit your own files with 'secirls fit --help'.", wrap=True)
