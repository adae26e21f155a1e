"""Verbs to Ray actors and answers from them, as whoever leads asks them.

Promises: no call is ever retried or cancelled, because a second `protect` for one context would give a site's answer
away: who is late is killed. Refuses to know: how actors are started, and what verbs mean.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray
from ray import ObjectRefGenerator
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from protocols.secure_sum import PartyId
from secirls.aggregator.asking import seconds_for
from secirls.agreement.faults import BlockedPartyError, own_fault
from secirls.carriers.hosts import Store
from secirls.site.desk import SPOKEN

Handle: TypeAlias = Any
"""A Ray actor handle: its methods are made at run time."""

START_SECONDS = 600.0
"""How long actors have to start: before any other clock runs."""

LOOK_SECONDS = 0.25
"""How long `ray.wait` may look at once. It waits for the first answer that is announced to be fetched, and meanwhile
sees no other: over a broken link one site's answer would hold up everybody's until the deadline."""


@dataclass(frozen=True)
class Hosted:
    """One site of a `HostActor`."""

    host: Handle
    name: PartyId


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
        deadline = time.monotonic() + seconds_for(verb, self._deadline)
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
            try:
                together = _fetched(done[0])
            except (RayActorError, ObjectLostError):  # the second: an answer whose node died before it was fetched
                for lost in waiting.pop(done[0]):
                    self.fence(lost)
                continue
            except RayTaskError as error:
                together = [error.cause]
            except Exception as error:  # noqa: BLE001 - an answer that can't be read is nonsense, whatever it is
                together = [error]
            for answer in together[: len(names)]:
                name = names.popleft()
                answers[name] = _fault(name, verb, answer) if isinstance(answer, Exception) else answer
            if not names:
                del waiting[done[0]]
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


def _fetched(answering: Any) -> list[Any]:
    """The next answers of a host's, or the only one of a party's with its own process."""
    if isinstance(answering, ObjectRefGenerator):
        together: list[Any] = ray.get(next(answering))
        return together
    return [ray.get(answering)]


def _fault(party: PartyId, verb: str, error: BaseException) -> Exception:
    return error if isinstance(error, SPOKEN) else own_fault(party, verb, error)


def wait_until_ready(parties: Mapping[PartyId, Handle]) -> None:
    """Let every process start before a deadline runs; one that can't will be silent when it is asked."""
    processes = {party.host if isinstance(party, Hosted) else party for party in parties.values()}
    starting = [handle.ready.remote() for handle in processes]
    ray.wait(starting, num_returns=len(starting), timeout=START_SECONDS, fetch_local=False)
