"""Sites, helpers and aggregator as Ray actors.

Promises: every site opens its data and makes its keys in its own process; the aggregator leads from
its own; the driver sees public progress and results only. No call is ever retried or cancelled,
because a second `protect` for one context would give a site's answer away: who is late is killed.
Ray is one trust domain: whoever runs the cluster can read every actor.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray
from ray import ObjectRefGenerator
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from protocols.choice import helpers
from protocols.secure_sum import AGGREGATOR, PartyId
from secirls.aggregator.aggregator import Event
from secirls.aggregator.transcript import witnessed
from secirls.agreement.faults import BlockedPartyError, PartyFaultError
from secirls.agreement.order import Order, Place, Task
from secirls.carriers.hosts import HostActor, Store
from secirls.carriers.own_process import keep_freed_memory
from secirls.carriers.ray_connection import running_ray
from secirls.input_error import InputError, complain
from secirls.site.desk import SPOKEN, Desk
from secirls.site.helper import Helper
from secirls.site.site import Site

Handle: TypeAlias = Any
"""A Ray actor handle: its methods are made at run time."""

START_SECONDS = 600.0
"""How long actors have to start: before any other clock runs."""

PREPARE_SECONDS = 3600.0
"""How long a site has, at least, to open its file and to prepare it."""

_PREPARING = frozenset({"survey", "key", "join"})

LOOK_SECONDS = 0.25
"""How long `ray.wait` may look at once. It waits for the first answer that is announced to be fetched, and meanwhile
sees no other: over a broken link one site's answer would hold up everybody's until the deadline."""

AHEAD = 1
"""So many events the aggregator may have told that the driver has not taken: it works at most one round ahead of
what is kept, and what is noted before a sum is opened, in two events, is on the disk by then."""

_ACTOR = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}


class PartyActor:
    """A site or helper behind its desk, in a process of its own."""

    def __init__(self, kind: type[Site | Helper], arguments: tuple[Any, ...]) -> None:
        keep_freed_memory()
        self._desk = Desk(kind(*arguments))

    def ready(self) -> None:
        """The process stands."""

    def ask(self, verb: str, *given: Any) -> Any:
        """Run one verb; see `Desk`."""
        return self._desk.ask(verb, *given)


@dataclass(frozen=True)
class Hosted:
    """One site of a `HostActor`."""

    host: Handle
    name: PartyId


class AggregatorActor:
    """Leads a fit from a process of its own and streams what the driver may see."""

    def __init__(self) -> None:
        keep_freed_memory()

    def lead(self, task: Task, parties: dict[PartyId, Handle]) -> Iterator[Event]:
        """See `secirls.aggregator.aggregator.lead`."""
        federation = RayFederation(parties, helpers(task.config.protocol), task.config.deadline)
        yield from witnessed(task, federation)


class RayFederation:
    """Carries verbs to actors; whoever dies or misses the deadline is silent, and killed."""

    def __init__(self, parties: Mapping[PartyId, Handle], helper_names: tuple[PartyId, ...], deadline: float) -> None:
        """Take the actors by name, and how many seconds they have for one verb."""
        self._parties = dict(parties)
        self._sites = tuple(sorted(set(parties) - set(helper_names)))
        self._deadline = deadline
        self._stuck: dict[Handle, PartyId] = {}
        wait_until_ready(self._parties)

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return self._sites

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Call all, each host once, then take answers as they come. Who has not answered by the deadline never will."""
        seconds = max(self._deadline, PREPARE_SECONDS) if verb in _PREPARING else self._deadline
        deadline = time.monotonic() + seconds
        waiting = self._call(verb, arguments)
        answers: dict[PartyId, Any] = {}
        while waiting:
            left = deadline - time.monotonic()
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=min(max(left, 0.0), LOOK_SECONDS))
            if not done and left > 0:
                continue
            if not done:
                break
            names = waiting[done[0]]
            name = names.popleft()
            if not names:
                del waiting[done[0]]
            try:
                answers[name] = _fetched(done[0], name, verb)
            except (RayActorError, ObjectLostError):  # the second: an answer whose node died before it was fetched
                for lost in (name, *waiting.pop(done[0], ())):
                    self.fence(lost)
            except RayTaskError as error:
                answers[name] = _fault(name, verb, error.cause)
            except Exception as error:  # noqa: BLE001 - an answer that can't be read is nonsense, whatever it is
                answers[name] = _fault(name, verb, error)
        unheard = [name for names in waiting.values() for name in names]
        for name in unheard:
            party = self._parties[name]
            # A host works through its sites in the order asked: the first that is late holds up the others.
            if isinstance(party, Hosted) and self._stuck.setdefault(party.host, name) == name:
                ray.kill(party.host)
        late = (*unheard, *(name for name in arguments if name not in answers and self._behind(name)))
        answers |= {name: BlockedPartyError(name, verb, other) for name in late if (other := self._behind(name))}
        for name in unheard:
            self.fence(name)
        return answers

    def _call(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[Any, deque[PartyId]]:
        """Ask everybody who can be asked, each host once; gives who answers where, and in which order."""
        store = Store(ray.put)
        waiting: dict[Any, deque[PartyId]] = {}
        hosted: dict[Handle, dict[PartyId, tuple[Any, ...]]] = {}
        for name, given in arguments.items():
            party = self._parties.get(name)
            if isinstance(party, Hosted) and not self._behind(name):
                hosted.setdefault(party.host, {})[name] = given
            elif party is not None and not isinstance(party, Hosted):
                waiting[party.ask.remote(verb, *map(store.put, given))] = deque([name])
        for host, asked in hosted.items():
            told, beside = store.told(asked)
            waiting[host.ask.options(num_returns="streaming").remote(verb, told, *beside)] = deque(asked)
        return waiting

    def _behind(self, name: PartyId) -> PartyId | None:
        """Who holds a hosted site up for good, if anybody does."""
        party = self._parties.get(name)
        first = self._stuck.get(party.host) if isinstance(party, Hosted) else None
        return None if first == name else first

    def fence(self, party: PartyId) -> None:
        """Kill its process; a hosted site is only forgotten, for its host has others."""
        handle = self._parties.pop(party, None)
        if handle is not None and not isinstance(handle, Hosted):
            ray.kill(handle)


def _fetched(answering: Any, party: PartyId, verb: str) -> Any:
    """The next answer of a host's, or the only one of a party's with its own process."""
    answer = ray.get(next(answering) if isinstance(answering, ObjectRefGenerator) else answering)
    return _fault(party, verb, answer) if isinstance(answer, Exception) else answer


def _fault(party: PartyId, verb: str, error: BaseException) -> Exception:
    if isinstance(error, (*SPOKEN, PartyFaultError)):
        return error
    return PartyFaultError(party, verb, type(error).__name__)


def wait_until_ready(parties: Mapping[PartyId, Handle]) -> None:
    """Let every process start before a deadline runs; one that can't will be silent when it is asked."""
    processes = {party.host if isinstance(party, Hosted) else party for party in parties.values()}
    starting = [handle.ready.remote() for handle in processes]
    ray.wait(starting, num_returns=len(starting), timeout=START_SECONDS, fetch_local=False)


def run_on_ray(order: Order) -> Iterator[Event]:
    """Fit over Ray actors, the `Outcome` last. Starts and stops a local Ray if needed; leaves no actor behind.

    With hosts the sites share so many processes: a simulation within the simulation.
    """
    config, places, hosts = order.task.config, order.places, order.hosts
    with running_ray(order.address):
        check_resources(places)
        party: Any = ray.remote(PartyActor)
        started: list[Handle] = []
        parties: dict[PartyId, Handle] = {}
        try:
            for name, place in places.items() if hosts is None else ():
                parties[name] = party.options(**_ACTOR, **_pinned(place.resource)).remote(Site, (place, config))
                started.append(parties[name])
            for first in range(min(hosts or 0, len(places))):
                dealt = list(places.values())[first::hosts]
                started.append(ray.remote(HostActor).options(**_ACTOR).remote(dealt, config))
                parties |= {place.name: Hosted(started[-1], place.name) for place in dealt}
            for name in helpers(config.protocol):
                parties[name] = party.options(**_ACTOR, **_role(name)).remote(
                    Helper, (name, config, order.helper_keys.get(name))
                )
                started.append(parties[name])
            started.append(ray.remote(AggregatorActor).options(**_ACTOR, **_role(AGGREGATOR)).remote())
            leading = started[-1].lead.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)
            for event in leading.remote(order.task, parties):
                try:
                    yield ray.get(event)
                except RayTaskError as error:
                    raise error.cause from None
                except RayActorError:
                    raise PartyFaultError(AGGREGATOR, "lead", "death of its process") from None
        finally:
            for handle in started:
                ray.kill(handle)


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
