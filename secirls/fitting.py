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
from secirls import kernels
from secirls.aggregator import Outcome, lead
from secirls.config import Config, check_keys, check_sites, preset_values
from secirls.design import variables
from secirls.input_error import InputError, complain
from secirls.ray_environment import prepare_local
from secirls.results import Result, result
from secirls.rounds import Helper, LocalFederation, Progress, Stage
from secirls.site import Site

if TYPE_CHECKING:
    from secirls.site_file import AnnData


def fit(
    sites: Mapping[str, str | os.PathLike[str] | AnnData],
    *,
    design: str,
    engine: str = "ray",
    address: str | None = None,
    keys: Mapping[str, str | os.PathLike[str]] | None = None,
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
        An existing Ray cluster; by default a local one is started and stopped.
    keys
        Private key files of the sites, where the option ``roster`` gives their public keys.
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
    return fit_config(config, sites, engine=engine, address=address, keys=keys, on_round=on_round, on_note=on_note)


def fit_config(
    config: Config,
    sites: Mapping[str, Any],
    *,
    engine: str = "ray",
    address: str | None = None,
    keys: Mapping[str, str | os.PathLike[str]] | None = None,
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Result:
    """As `fit`, from a `Config`."""
    key_files = {name: os.fspath(file) for name, file in (keys or {}).items()}
    try:
        check_sites(list(sites))
        check_keys(config, list(sites), key_files)
    except ValueError as error:
        raise InputError(str(error)) from None
    if engine not in ("ray", "local"):
        raise InputError(f"there is no engine {engine!r}, choose ray or local")
    variables(config.design)
    config.settings().threshold_for(len(sites))
    files = {name: str(source) for name, source in sites.items() if isinstance(source, str | os.PathLike)}
    if address is None:
        for name, file in files.items():
            if not Path(file).is_file():
                raise complain("is missing", site=name, file=file)
    run = f"{config.protocol}-{secrets.token_hex(4)}"
    began = time.perf_counter()
    note = on_note or _silently
    note("compiling kernels (kept for the next time)")
    fixed_point.warm_up()
    if config.kernel == "fused":
        kernels.warm_up()
    note("starting the sites, opening their files")
    for event in _events(config, sites, key_files, engine, run, address):
        if isinstance(event, Outcome):
            seconds = time.perf_counter() - began
            return result(config, event, run=run, engine=engine, seconds=seconds, files=files)
        if isinstance(event, Stage):
            note(event.text)
        elif on_round is not None:
            on_round(event)
    raise RuntimeError("the fit ended without a result")


def _silently(_: str) -> None:
    pass


def _events(
    config: Config,
    sites: Mapping[str, Any],
    keys: Mapping[str, str],
    engine: str,
    run: str,
    address: str | None,
) -> Iterator[Progress | Stage | Outcome]:
    if engine == "ray":
        if address is None:
            prepare_local()
        from secirls.on_ray import run_on_ray

        return run_on_ray(config, sites, keys, run, address)
    parties: dict[str, Site | Helper] = {
        name: Site(name, source, config, keys.get(name), own_process=False) for name, source in sites.items()
    }
    parties |= {name: Helper(name, config) for name in helpers(config.protocol)}
    return lead(config, LocalFederation(parties), run)
