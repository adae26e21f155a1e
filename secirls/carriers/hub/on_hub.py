"""A fit over parties that call a hub: led from the process that ordered it.

Promises: no site's file is opened here, and nothing of a site is named but the site. Refuses to know: how parties
are started, and by whom.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from protocols.choice import helpers
from secirls.aggregator.aggregator import Event, Outcome
from secirls.aggregator.asking import TOLD_SECONDS, Federation
from secirls.aggregator.transcript import witnessed
from secirls.agreement.ledger import SETUP_ROUND
from secirls.agreement.order import Order
from secirls.agreement.record import Lasting, Stage
from secirls.carriers.hub.address import place_of
from secirls.carriers.hub.credentials import Credentials
from secirls.carriers.hub.hub import Hub

_LOOK_SECONDS = 0.05


def run_over_hub(
    order: Order, note: Callable[[str], None], beforehand: Callable[[Federation], None] | None = None
) -> Iterator[Event]:
    """Fit over the parties that call, the `Outcome` last; who is waited for within a round is noted.

    What is to be done ``beforehand`` is done once all have called. Raises `InputError` where no hub can be.
    """
    config = order.task.config
    credentials = Credentials.read(Path(order.certificate or ""))
    hub = Hub(config, tuple(order.places), helpers(config.protocol), credentials, place_of(order.address or ""), note)
    well = False
    try:
        yield from _gathered(hub, order.address or "")
        if beforehand is not None:
            beforehand(hub)
        for event in witnessed(order.task, hub):
            well = isinstance(event, Outcome)
            yield event
    finally:
        hub.close(well=well)


def _gathered(hub: Hub, address: str) -> Iterator[Stage]:
    """Wait until all have called, and say now and then who has not."""
    began = told = time.monotonic()
    if hub.missing:
        yield Stage(SETUP_ROUND, Lasting(f"the hub listens at {address} for {', '.join(hub.missing)}"))
    while missing := hub.missing:
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            yield Stage(SETUP_ROUND, f"{told - began:.0f} s so far without a call of {', '.join(missing)}")
