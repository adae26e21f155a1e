"""The command `attend`: a party takes part in the fit of a hub, which it calls and which never calls it.

Promises: what the party stands on is its own file's, named here and by nobody else; nobody reaches this machine.
Refuses to know: what is asked.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secirls.cli.console import say
from secirls.input_error import complain

if TYPE_CHECKING:
    from secirls.site.helper import Helper
    from secirls.site.site import Site


def attend(
    ground: Annotated[Path, typer.Argument(metavar="SITE.TOML", help="This site's own ground, or a helper's.")],
    hub: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the hub listens.")],
    certificate: Annotated[
        Path,
        typer.Option(
            metavar="NAME.crt", help="This party's certificate; NAME.key and ca.crt lie beside it ('cluster certs')."
        ),
    ],
    give_up: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds after which a hub that does not answer is given up. Default: never."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only see whether hub, certificate, file and rules allow it; answer nothing."),
    ] = False,
) -> None:
    """Take part in the fit of a hub, by this site's own rules, until it ends.

    This machine calls and is never called. Where the hub goes away, it is called again until it is back.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as for an actor, before NumPy is loaded
    from secirls.carriers.hub.address import place_of
    from secirls.carriers.own_process import keep_freed_memory, loading

    keep_freed_memory()
    with loading():
        from protocols.secure_sum import RESERVED, SecureSumError
        from secirls.agreement.order import GROUND, Place
        from secirls.carriers.hub.credentials import Credentials
        from secirls.carriers.hub.station import Station
        from secirls.config import Config
        from secirls.site.grounds.ground import named_in
        from secirls.site.helper import Helper
        from secirls.site.site import Site

    if ground.suffix != GROUND:
        raise complain(f"is no ground: write one that ends in {GROUND}, see 'secirls ground'", file=str(ground))
    patience = math.inf if give_up is None else give_up
    name, (host, port) = named_in(ground), place_of(hub)
    shown = Credentials.read(certificate)
    if shown.name != name:
        raise complain(f"was given to {shown.name!r}, and {str(ground)!r} is of {name!r}", file=str(certificate))

    def party(config: Config) -> Site | Helper:
        if name in RESERVED:
            return Helper(name, config, str(ground))
        return Site(Place(name, str(ground)), config)

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    station = Station(name, party, shown, place, say, 0 if check else patience)
    ended = station.check() if check else station.attend()
    if isinstance(ended, Config):
        say(f"the hub at {hub} leads {ended.design}, {ended.protocol}; the file and the rules of {name} allow that")
    elif not ended.well:
        raise SecureSumError(f"{name} takes no part any more in the fit of the hub at {hub}: {ended.why:.300}")
    else:
        say(f"{ended.why:.300}: {name} has nothing more to do")
