"""Sites, helpers and aggregator as Ray actors: the one door to ray.

Promises: every site opens its data and makes its keys in its own process; the aggregator leads from
its own; the driver sees public progress and results only. No call is ever retried or cancelled,
because a second `protect` for one context would give a site's answer away.
Ray is one trust domain: whoever runs the cluster can read every actor.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayActorError, RayTaskError

from protocols.choice import helpers
from protocols.secure_sum import PartyId, SecureSumError
from secirls.aggregator import Outcome, lead
from secirls.config import Config
from secirls.input_error import InputError
from secirls.query import QueryError
from secirls.ray_environment import private_folder
from secirls.rounds import Helper, PartyFaultError, Progress, SilentSitesError, Stage
from secirls.site import Site

Handle: TypeAlias = Any
"""A Ray actor handle: its methods are made at run time."""

DEADLINE_SECONDS = 3600.0
"""How long the aggregator waits for the answers to one verb before it counts a party as silent."""

SHARED_BYTES = 100 * 1024
"""Messages above this size that go to several parties are put into the object store once."""

OBJECT_STORE_BYTES = 400_000_000

_ACTOR = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}
_SPOKEN = (InputError, SecureSumError, QueryError, SilentSitesError)
"""Exceptions whose text was written for others to read."""


class PartyActor:
    """A site or helper behind one method, in a process of its own."""

    def __init__(self, kind: type[Site | Helper], arguments: tuple[Any, ...]) -> None:
        self._party = kind(*arguments)

    def ask(self, verb: str, *given: Any) -> Any:
        """Run one verb. Text of unforeseen exceptions stays here: it might quote data."""
        if verb not in _VERBS:
            raise SecureSumError(f"there is no verb {verb!r}")
        try:
            return getattr(self._party, verb)(*given)
        except _SPOKEN:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote data
            raise PartyFaultError(self._party.name, verb, type(error).__name__) from None


_VERBS = frozenset({"survey", "key", "join", "hello", "meet", "contribute", "assist"})


class AggregatorActor:
    """Leads a fit from a process of its own and streams what the driver may see."""

    def lead(self, config: Config, parties: dict[PartyId, Handle], run: str) -> Iterator[Progress | Stage | Outcome]:
        """See `secirls.aggregator.lead`."""
        yield from lead(config, RayFederation(parties, helpers(config.protocol)), run)


class RayFederation:
    """Carries verbs to actors; whoever dies or misses the deadline is silent."""

    def __init__(self, parties: Mapping[PartyId, Handle], helper_names: tuple[PartyId, ...]) -> None:
        self._parties = dict(parties)
        self._sites = tuple(sorted(set(parties) - set(helper_names)))

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return self._sites

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Call all, then take answers as they come."""
        shared: dict[int, Any] = {}
        waiting: dict[Any, PartyId] = {
            self._parties[name].ask.remote(verb, *(_share(value, shared) for value in given)): name
            for name, given in arguments.items()
        }
        answers: dict[PartyId, Any] = {}
        deadline = time.monotonic() + DEADLINE_SECONDS
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=max(deadline - time.monotonic(), 0.0))
            if not done:
                break
            name = waiting.pop(done[0])
            try:
                answers[name] = ray.get(done[0])
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError:
                continue
        return answers

    def dismiss(self, names: tuple[PartyId, ...]) -> None:
        """End their processes."""
        for name in names:
            ray.kill(self._parties.pop(name))


def _share(value: Any, shared: dict[int, Any]) -> Any:
    if not isinstance(value, bytes) or len(value) < SHARED_BYTES:
        return value
    if id(value) not in shared:
        shared[id(value)] = ray.put(value)
    return shared[id(value)]


def run_on_ray(
    config: Config, sources: Mapping[PartyId, Any], keys: Mapping[PartyId, str], run: str, address: str | None
) -> Iterator[Progress | Stage | Outcome]:
    """Fit over Ray actors: a `Progress` per round, the `Outcome` last. Starts and stops a local Ray if needed."""
    with running_ray(address):
        party: Any = ray.remote(PartyActor).options(**_ACTOR)
        aggregator: Any = ray.remote(AggregatorActor).options(**_ACTOR)
        started: list[Handle] = []
        parties: dict[PartyId, Handle] = {}
        try:
            for name, source in sources.items():
                given = os.fspath(source) if isinstance(source, os.PathLike) else source
                parties[name] = party.remote(Site, (name, given, config, keys.get(name)))
                started.append(parties[name])
            for name in helpers(config.protocol):
                parties[name] = party.remote(Helper, (name, config))
                started.append(parties[name])
            started.append(aggregator.remote())
            for event in started[-1].lead.options(num_returns="streaming").remote(config, parties, run):
                try:
                    yield ray.get(event)
                except RayTaskError as error:
                    raise error.cause from None
        finally:
            for handle in started:
                ray.kill(handle)


@contextmanager
def running_ray(address: str | None) -> Iterator[None]:
    """A running Ray: the one this process is connected to, the one at the address, or a local one of our own."""
    if ray.is_initialized():
        yield
        return
    if address is not None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"no Ray cluster lets us in at {address!r} ({type(error).__name__})") from None
        try:
            yield
        finally:
            ray.shutdown()
        return
    try:
        ray.init(
            address="local",
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(private_folder()),
        )
        yield
    finally:
        ray.shutdown()
