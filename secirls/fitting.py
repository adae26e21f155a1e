"""`fit`: one federated regression from Python, over Ray actors or in this process."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols import fixed_point
from protocols.choice import helpers
from secirls.aggregator.aggregator import Event, Outcome
from secirls.aggregator.checkpoint import FOLDER, Begun, Checkpoint, Past, discard
from secirls.aggregator.transcript import witnessed
from secirls.agreement.record import Opening, Progress, Stage
from secirls.carriers.cluster import resource_of
from secirls.carriers.local import LocalFederation
from secirls.carriers.ray_environment import prepare_local
from secirls.config import Config, Manifest, check_keys, check_sites, preset_values
from secirls.input_error import InputError, complain
from secirls.inputs.design import variables
from secirls.numerics import kernels
from secirls.outputs.results import Result, result
from secirls.site.helper import Helper
from secirls.site.policy import RefusalError
from secirls.site.site import Place, Site

if TYPE_CHECKING:
    from secirls.inputs.site_file import AnnData


def fit(
    sites: Mapping[str, str | os.PathLike[str] | AnnData],
    *,
    design: str,
    engine: str = "ray",
    address: str | None = None,
    keys: Mapping[str, str | os.PathLike[str]] | None = None,
    policies: Mapping[str, str | os.PathLike[str]] | None = None,
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    **options: Any,
) -> Result:
    """Fit one negative-binomial regression per gene over several sites, opening only sums.

    Parameters
    ----------
    sites
        Site names to h5ad paths (opened in the site's own process) or AnnData objects; three or more.
    design
        Formula over obs columns, such as ``"~ condition"``.
    engine
        ``"ray"``: one actor per site; ``"local"``: everyone in this process, the same bits.
    address
        An existing Ray cluster; by default that of ``RAY_ADDRESS``, as in a Ray job, or a local one.
    keys
        Private key files of the sites, where the option ``roster`` gives their public keys.
    policies
        Policy files of the sites that have one, opened by them.
    on_round
        Called after every round with what may be shown.
    on_note
        Called with a few words before long steps: before the first round, and within rounds of large powers.
    options
        Any other field of `Config`: protocol, contrast, levels, layer, size_factors, dispersions, ...

    Raises
    ------
    InputError
        Where a file, a column or an option can't be used; one sentence that names it.
    """
    config = Config.read("configuration", **{**preset_values(options.get("preset")), **options, "design": design})
    return fit_config(
        config,
        sites,
        engine=engine,
        address=address,
        keys=keys,
        policies=policies,
        on_round=on_round,
        on_note=on_note,
    )


def fit_config(
    config: Config,
    sites: Mapping[str, Any],
    *,
    engine: str = "ray",
    address: str | None = None,
    keys: Mapping[str, str | os.PathLike[str]] | None = None,
    policies: Mapping[str, str | os.PathLike[str]] | None = None,
    nodes: Mapping[str, str] | None = None,
    hosts: int | None = None,
    checkpoint: Checkpoint | None = None,
    past: Past | None = None,
    transcript: Path | None = None,
    run: str = "",
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Result:
    """As `fit`, from a `Config`.

    With ``hosts`` the sites share so many processes. ``nodes`` are resources of a cluster by site, ``site:NAME`` where
    not given. Finished rounds go to the ``checkpoint``; those of the ``past`` are not asked again. What the
    aggregator receives and sends is written to the folder ``transcript`` on its own machine.
    """
    key_files = {name: os.fspath(file) for name, file in (keys or {}).items()}
    rules = {name: os.fspath(file) for name, file in (policies or {}).items()}
    try:
        check_sites(list(sites))
        check_keys(config, list(sites), key_files)
    except ValueError as error:
        raise InputError(str(error)) from None
    if engine not in ("ray", "local"):
        raise InputError(f"there is no engine {engine!r}, choose ray or local")
    if engine == "ray" and hosts is None:
        address = address or os.environ.get("RAY_ADDRESS")  # a Ray job sets it, and can't start a Ray of its own
    variables(config.design)
    config.settings().threshold_for(len(sites))
    files = {name: str(source) for name, source in sites.items() if isinstance(source, str | os.PathLike)}
    if address is None:
        for name, file in files.items():
            if not Path(file).is_file():
                raise complain("is missing", site=name, file=file)
    run = run or new_run(config)
    began = time.perf_counter()
    note = on_note or _silently
    note("compiling kernels (kept for the next time)")
    fixed_point.warm_up()
    if config.kernel == "fused":
        kernels.warm_up()
    note("starting the sites, opening their files")
    written = None if transcript is None else str(transcript.absolute())
    places = {
        name: Place(
            os.fspath(source) if isinstance(source, os.PathLike) else source,
            key_files.get(name),
            rules.get(name),
            None if address is None else resource_of(name, nodes or {}),
        )
        for name, source in sites.items()
    }
    for event in _events(config, places, engine, run, address, past, written, hosts):
        if isinstance(event, Outcome):
            seconds = time.perf_counter() - began
            return result(config, event, run=run, engine=engine, seconds=seconds, files=files)
        if isinstance(event, Begun):
            if checkpoint is not None:
                checkpoint.begin(event)
            continue
        if isinstance(event, Opening):
            if checkpoint is not None:
                checkpoint.note(event)
            continue
        if isinstance(event, Stage):
            note(event.text)
            continue
        if checkpoint is not None:
            checkpoint.keep(event)
        if on_round is not None:
            on_round(event.told)
    raise RuntimeError("the fit ended without a result")


def new_run(config: Config) -> str:
    """A name for a run in ledgers and reports."""
    return f"{config.protocol}-{secrets.token_hex(4)}"


def fit_manifest(
    manifest: Manifest,
    out: Path,
    *,
    transcript: Path | None = None,
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Result:
    """Fit what a manifest says; finished rounds are kept below ``out`` until the caller discards them."""
    if manifest.address is None:
        manifest = manifest.absolute()
    run = new_run(manifest.fit)
    written = None if transcript is None else transcript.absolute()
    order = {"run": run, "manifest": manifest.model_dump(mode="json"), "transcript": written and str(written)}
    checkpoint = Checkpoint(out / FOLDER, order)
    try:
        return _fit(manifest, manifest.fit, checkpoint, None, run, on_round, on_note, transcript)
    except RefusalError:
        raise
    except InputError:
        discard(out)  # going on would end in the same mistake
        raise


def resume(
    out: Path,
    *,
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Result:
    """Go on with the fit whose finished rounds are kept below ``out``. Raises `InputError` where there is none.

    Whoever fell silent stays out. The threshold stays what it was, and so do the levels. A transcript is continued.
    """
    checkpoint, order, past = Checkpoint.open(out / FOLDER)
    manifest = Manifest.read(f"folder {str(out / FOLDER)!r}", **order["manifest"])
    config = manifest.fit
    if past.cohort != past.begun.sites:
        threshold = config.settings().threshold_for(len(past.begun.sites))
        config = config.model_copy(update={"threshold": threshold, "levels": dict(past.begun.levels)})
    kept = order.get("transcript")
    transcript = None if kept is None else Path(kept)
    return _fit(manifest, config, checkpoint, past, order["run"], on_round, on_note, transcript)


def _fit(
    manifest: Manifest,
    config: Config,
    checkpoint: Checkpoint,
    past: Past | None,
    run: str,
    on_round: Callable[[Progress], None] | None,
    on_note: Callable[[str], None] | None,
    transcript: Path | None = None,
) -> Result:
    return fit_config(
        config,
        manifest.sites if past is None else {name: manifest.sites[name] for name in past.cohort},
        engine=manifest.engine,
        address=manifest.address,
        keys=manifest.keys,
        policies=manifest.policies,
        nodes=manifest.nodes,
        hosts=manifest.hosts,
        checkpoint=checkpoint,
        past=past,
        transcript=transcript,
        run=run,
        on_round=on_round,
        on_note=on_note,
    )


def _silently(_: str) -> None:
    pass


def _events(
    config: Config,
    places: Mapping[str, Place],
    engine: str,
    run: str,
    address: str | None,
    past: Past | None,
    written: str | None,
    hosts: int | None,
) -> Iterator[Event]:
    if engine == "ray":
        if address is None:
            prepare_local()
        from secirls.carriers.on_ray import run_on_ray

        return run_on_ray(config, places, run, address, past, written, hosts)
    parties: dict[str, Site | Helper] = {
        name: Site(name, place.source, config, place.key, place.policy, own_process=False)
        for name, place in places.items()
    }
    parties |= {name: Helper(name, config) for name in helpers(config.protocol)}
    return witnessed(config, LocalFederation(parties), run, past, written)
