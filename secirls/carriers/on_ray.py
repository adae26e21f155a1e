"""Sites, helpers and aggregator as Ray actors, from their start to their end.

Promises: every site opens its data and makes its keys in its own process; the aggregator leads from
its own; the driver sees public progress and results only. No actor outlives its fit.
Ray is one trust domain: whoever runs the cluster can read every actor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from protocols.choice import helpers
from protocols.secure_sum import AGGREGATOR, PartyId
from secirls.aggregator.aggregator import Event
from secirls.aggregator.asking import TOLD_SECONDS, Federation
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.ledger import SETUP_ROUND
from secirls.agreement.order import Order, Place
from secirls.agreement.record import Stage
from secirls.carriers.actors import AggregatorActor, PartyActor, packed
from secirls.carriers.hosts import HostActor
from secirls.carriers.ray_connection import running_ray
from secirls.carriers.ray_federation import Handle, Hosted, RayFederation
from secirls.input_error import InputError, complain
from secirls.site.helper import Helper
from secirls.site.site import Site

AHEAD = 1
"""So many events the aggregator may have told that the driver has not taken: it works at most one round ahead of
what is kept, and what is noted before a sum is opened, in two events, is on the disk by then."""

IDLE_SECONDS = 1.0
"""Within which a process says that it stands, unless it is at work, hangs or can't be reached."""

LEADER = "the aggregator"

_ACTOR = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}


def run_on_ray(order: Order, beforehand: Callable[[Federation], None] | None = None) -> Iterator[Event]:
    """Fit over Ray actors, the `Outcome` last. Starts and stops a local Ray if needed; leaves no actor behind.

    What is to be done ``beforehand`` is done once the sites can be asked. With hosts the sites share so many processes:
    a simulation within the simulation.
    """
    config, places, hosts = order.task.config, order.places, order.hosts
    with running_ray(order.address):
        check_resources(places)
        party: Any = ray.remote(PartyActor)
        started: list[Handle] = []
        parties: dict[PartyId, Handle] = {}
        try:
            for name, place in places.items() if hosts is None else ():
                parties[name] = party.options(**_ACTOR, **_pinned(place.resource)).remote(packed(Site, place, config))
                started.append(parties[name])
            for first in range(min(hosts or 0, len(places))):
                dealt = list(places.values())[first::hosts]
                started.append(ray.remote(HostActor).options(**_ACTOR).remote(dealt, config))
                parties |= {place.name: Hosted(started[-1], place.name) for place in dealt}
            for name in helpers(config.protocol):
                parties[name] = party.options(**_ACTOR, **_role(name)).remote(
                    packed(Helper, name, config, order.helper_keys.get(name))
                )
                started.append(parties[name])
            started.append(ray.remote(AggregatorActor).options(**_ACTOR, **_role(AGGREGATOR)).remote())
            processes = _processes(parties, started[-1])
            starting = {handle.ready.remote(): name for name, handle in processes.items()}
            if beforehand is not None:
                yield from _waited_for(list(starting), starting)
                beforehand(RayFederation(parties, helpers(config.protocol), config.deadline))
            leading = started[-1].lead.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)
            events = leading.remote(order.task, parties)
            yield from _waited_for([events], starting)
            while True:
                yield from _at_work(events, processes)
                if (event := next(events, None)) is None:
                    return
                try:
                    yield ray.get(event)
                except RayTaskError as error:
                    raise error.cause from None
                except RayActorError:
                    raise PartyFaultError(AGGREGATOR, "lead", "death of its process") from None
        finally:
            for handle in started:
                ray.kill(handle)


def _processes(parties: Mapping[PartyId, Handle], aggregator: Handle) -> dict[str, Handle]:
    """Who is started in a process of its own: a host goes by the first of its sites."""
    hosts: dict[Handle, PartyId] = {}
    for name, party in parties.items():
        hosts.setdefault(party.host if isinstance(party, Hosted) else party, name)
    return {name: handle for handle, name in hosts.items()} | {LEADER: aggregator}


def _waited_for(awaited: list[Any], starting: Mapping[Any, str]) -> Iterator[Stage]:
    """Say now and then whose process has not started, until all that is awaited is there.

    One that dies before it has told Ray of itself is missed after a minute (``worker_register_timeout_seconds``), and
    then another is started.
    """
    began = time.monotonic()
    while ray.wait(awaited, num_returns=len(awaited), timeout=TOLD_SECONDS, fetch_local=False)[1]:
        _, left = ray.wait(list(starting), num_returns=len(starting), timeout=0, fetch_local=False)
        if left:
            named, waited = ", ".join(starting[ref] for ref in left), time.monotonic() - began
            told = f"{waited:.0f} s so far to start {named}; for a process that died Ray starts another after a minute"
            yield Stage(SETUP_ROUND, told)


def _at_work(events: Any, processes: Mapping[str, Handle]) -> Iterator[Stage]:
    """Say now and then who is at work, or does not answer, until the fit tells something.

    A process answers one call after another: `ready` too comes only after what it does. Who leads does so all the time.
    """
    began = time.monotonic()
    while not ray.wait([events], timeout=TOLD_SECONDS, fetch_local=False)[0]:
        asked = {handle.ready.remote(): name for name, handle in processes.items() if name != LEADER}
        _, left = ray.wait(list(asked), num_returns=len(asked), timeout=IDLE_SECONDS, fetch_local=False)
        named = ", ".join(asked[ref] for ref in left) or LEADER
        yield Stage(SETUP_ROUND, f"{time.monotonic() - began:.0f} s so far without an answer of {named}")


def _pinned(resource: str | None) -> dict[str, Any]:
    return {} if resource is None else {"resources": {resource: 1}}


def _role(name: PartyId) -> dict[str, Any]:
    """Where a role beside the sites runs: on the node that declares its name, if one does. Several fits may."""
    return {"resources": {name: 0.001}} if name in _resources() else {}


def _resources(*, free: bool = False) -> dict[str, float]:
    state: Any = ray
    told: dict[str, float] = state.available_resources() if free else state.cluster_resources()
    return told


def check_resources(places: Mapping[PartyId, Place]) -> None:
    """Raise `InputError` naming the sites whose node is not in the cluster, or is another fit's."""
    wanted = {name: place.resource for name, place in places.items() if place.resource is not None}
    if not wanted:
        return
    declared = _resources()
    missing = {name: resource for name, resource in wanted.items() if declared.get(resource, 0) < 1}
    if missing:
        named = ", ".join(f"{name} ({resource!r})" for name, resource in sorted(missing.items()))
        raise InputError(
            f"no node of the cluster declares the resource of: {named}; "
            "'secirls cluster template' prints how to start one"
        )
    free = _resources(free=True)
    taken = [name for name, resource in sorted(wanted.items()) if free.get(resource, 0) < 1]
    if taken:
        raise complain("the node is taken by another fit", site=", ".join(taken))
