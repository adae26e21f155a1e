"""`fit`: one federated regression from Python, over Ray actors or in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.choice import helpers
from secirls.aggregator.aggregator import Event, Outcome
from secirls.aggregator.asking import Federation
from secirls.aggregator.checkpoint import FOLDER, Checkpoint, discard
from secirls.aggregator.losses import heard
from secirls.aggregator.transcript import witnessed
from secirls.agreement.cluster_address import cluster_at
from secirls.agreement.manifest import OWN_GROUND, Engine, Manifest
from secirls.agreement.order import Order, new_run
from secirls.agreement.past import Begun
from secirls.agreement.record import Opening, Progress, Record, Stage
from secirls.carriers.local import LocalFederation
from secirls.carriers.ray_environment import prepare_local
from secirls.config import Config
from secirls.input_error import InputError
from secirls.numerics import first_use
from secirls.outputs.notebooks.notebook_progress import NotebookProgress
from secirls.outputs.results import Result, result
from secirls.site.desk import SPOKEN
from secirls.site.grounds.key_files import read_roster
from secirls.site.grounds.policy import RefusalError
from secirls.site.helper import Helper
from secirls.site.site import Site
from secirls.whole_file import UnwritableError

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData


EXAMPLES = {"keys": "key", "policies": "toml"}
"""How files of these names end, in sentences."""


def fit(
    sites: Mapping[str, str | os.PathLike[str] | AnnData] | Sequence[str],
    *,
    design: str,
    engine: Engine = "ray",
    address: str | None = None,
    certificate: str | os.PathLike[str] | None = None,
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
        Site names to h5ad paths (opened in the site's own process) or AnnData objects; three or more. Names alone
        for a hub.
    design
        Formula over obs columns, such as ``"~ condition"``.
    engine
        ``"ray"``: one actor per site; ``"local"``: everyone in this process; ``"hub"``: sites on their own machines,
        which call this process (``secirls attend``). The same bits.
    address
        An existing Ray cluster; by default that of ``RAY_ADDRESS``, as in a Ray job, or a local one. Of a hub: where
        it listens, HOST:PORT.
    certificate
        Of a hub: its certificate's file, with the key and the authority's beside it (``secirls cluster certs``).
    keys
        Private key files of the sites, where the option ``roster`` gives their public keys, or the file that has them.
    policies
        Policy files of the sites that have one, opened by them.
    on_round
        Called after every round with what may be shown. In a notebook a bar appears where neither this nor ``on_note``
        is given.
    on_note
        Called with a few words before long steps: before the first round, and within rounds of large powers.
    options
        Any other field of `Config`: protocol, contrast, levels, layer, size_factors, dispersions, ...

    Raises
    ------
    InputError
        Where a file, a column or an option can't be used; one sentence that names it.
    """
    if engine == "hub" and isinstance(sites, Sequence) and not isinstance(sites, str):
        sites = dict.fromkeys(sites, OWN_GROUND)
    if not isinstance(sites, Mapping):
        raise InputError("sites: give every site a name, as in {'berlin': 'berlin.h5ad', ...}")
    for name, told in (("keys", keys), ("policies", policies)):
        if told is not None and not isinstance(told, Mapping):
            raise InputError(f"{name}: give a file for every name, as in {{'berlin': 'berlin.{EXAMPLES[name]}', ...}}")
    if isinstance(roster := options.get("roster"), str | os.PathLike):
        options["roster"] = read_roster(Path(roster))
    config = Config.read("configuration", **{**options, "design": design})
    order = Order.of(
        config, sites, engine=engine, address=address, certificate=certificate, keys=keys, policies=policies
    )
    return carry_out(order, Watch(on_round, on_note))


@dataclass(frozen=True)
class Watch:
    """Who looks on while a fit goes: told after every round, and a few words before long steps.

    In a notebook a bar does, where nobody else is named: whatever runs rounds shows that it goes on.
    """

    on_round: Callable[[Progress], None] | None = None
    on_note: Callable[[str], None] | None = None

    @contextmanager
    def during(self, order: Order) -> Iterator[Watch]:
        """This one, or where nobody is named a bar, until the fit ends."""
        if self.on_round is not None or self.on_note is not None:
            yield self
            return
        with NotebookProgress(_title(order)) as display:
            yield Watch(display, display.note)

    def note(self, text: str) -> None:
        """Tell what is going on."""
        if self.on_note is not None:
            self.on_note(text)

    def round(self, told: Progress) -> None:
        """Tell of a finished round."""
        if self.on_round is not None:
            self.on_round(told)


def fit_config(
    config: Config,
    sites: Mapping[str, Any],
    *,
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    **ways: Any,
) -> Result:
    """As `fit`, from a `Config`; ``ways`` are those of `Order.of`: engine, hosts, transcript ..."""
    return carry_out(Order.of(config, sites, **ways), Watch(on_round, on_note))


def carry_out(order: Order, watch: Watch, checkpoint: Checkpoint | None = None) -> Result:
    """Make an order's fit. Finished rounds go to the checkpoint; those of its past are not asked again."""
    with watch.during(order) as watching:
        return _carried_out(order, watching, checkpoint)


def _title(order: Order) -> str:
    """What a fit is called while it goes: its protocol, and what else it does than to fit."""
    config, past = order.task.config, order.task.past
    what = config.protocol if config.shrink is None else f"{config.protocol}, {config.shrink} shrunken,"
    return f"{what} over {len(order.places)} sites" + ("" if past is None else ", resumed")


def _carried_out(order: Order, watch: Watch, checkpoint: Checkpoint | None) -> Result:
    order.check_files()
    config, began = order.task.config, time.perf_counter()

    def beforehand(federation: Federation) -> None:
        """A mistake in a file is told before kernels are compiled, which takes most of a minute."""
        told = federation.ask("look", dict.fromkeys(federation.sites, ()))
        for name in federation.sites:
            if isinstance(answer := told.get(name), SPOKEN):
                raise heard(name, "look", answer)
        watch.note("compiling kernels (kept for the next time)")
        warm_up()

    warm_up = partial(
        first_use.warm_up, fused=config.kernel == "fused", whole=config.choices.whole, outliers=config.cooks
    )
    if compiled := config.kernel != "fused" or first_use.are_kept():
        warm_up()
    if order.engine != "hub":
        watch.note("starting the sites, opening their files")
    coming = _events(order, watch.note, None if compiled else beforehand)
    with closing(coming) as events:  # Ctrl-C in its end is lost where it is collected
        for event in events:
            if isinstance(event, Outcome):
                return result(order, event, seconds=time.perf_counter() - began)
            if checkpoint is not None and isinstance(event, Begun | Opening | Record):
                checkpoint.take(event)
            if isinstance(event, Stage):
                watch.note(event.text)
            elif isinstance(event, Record):
                watch.round(event.told)
    raise RuntimeError("the fit ended without a result")


def fit_manifest(
    manifest: Manifest,
    out: Path,
    *,
    transcript: Path | None = None,
    on_round: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Result:
    """Fit what a manifest says; finished rounds are kept below ``out`` until the caller discards them."""
    if manifest.engine == "hub" or cluster_at(manifest.address) is None:
        manifest = manifest.absolute()
    order = _ordered(manifest, manifest.sites, run=new_run(manifest.fit), transcript=transcript)
    told = {"run": order.task.run, "manifest": manifest.model_dump(mode="json"), "transcript": order.task.transcript}
    checkpoint = Checkpoint(out / FOLDER, told)
    try:
        return carry_out(order, Watch(on_round, on_note), checkpoint)
    except (RefusalError, UnwritableError):
        raise
    except InputError:
        if checkpoint.begun:
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
    checkpoint, told, past = Checkpoint.open(out / FOLDER)
    manifest = Manifest.read(f"folder {str(out / FOLDER)!r}", **told["manifest"])
    if past.cohort != past.begun.sites:
        threshold = manifest.fit.settings().threshold_for(len(past.begun.sites))
        fixed = {"threshold": threshold, "levels": dict(past.begun.levels)}
        manifest = manifest.model_copy(update={"fit": manifest.fit.model_copy(update=fixed)})
    sites = {name: manifest.sites[name] for name in past.cohort}
    kept = told.get("transcript")
    order = _ordered(manifest, sites, run=told["run"], past=past, transcript=None if kept is None else Path(kept))
    return carry_out(order, Watch(on_round, on_note), checkpoint)


def _ordered(manifest: Manifest, sites: Mapping[str, str], **further: Any) -> Order:
    """A manifest's order, for these of its sites."""
    return Order.of(
        manifest.fit,
        sites,
        engine=manifest.engine,
        address=manifest.address,
        keys=manifest.keys,
        policies={name: rules for name, rules in manifest.policies.items() if name in sites},
        nodes=manifest.nodes,
        hosts=manifest.hosts,
        certificate=manifest.certificate,
        **further,
    )


def _events(
    order: Order, note: Callable[[str], None], beforehand: Callable[[Federation], None] | None
) -> Generator[Event, None, None]:
    """The fit's events; what is to be done ``beforehand`` is done once the sites can be asked."""
    if order.engine == "hub":
        from secirls.carriers.hub.on_hub import run_over_hub

        yield from run_over_hub(order, note, beforehand)
        return
    if order.engine == "ray":
        if order.address is None:
            prepare_local()
        from secirls.carriers.on_ray import run_on_ray

        yield from run_on_ray(order, beforehand)
        return
    config = order.task.config
    parties: dict[str, Site | Helper] = {
        name: Site(place, config, own_process=False) for name, place in order.places.items()
    }
    parties |= {name: Helper(name, config, order.helper_keys.get(name)) for name in helpers(config.protocol)}
    federation = LocalFederation(parties)
    if beforehand is not None:
        beforehand(federation)
    yield from witnessed(order.task, federation)
