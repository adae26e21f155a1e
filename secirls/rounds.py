"""The one loop: an algorithm's queries become secure sums, leg by leg, over whatever carries messages.

Promises: the same rounds, bit for bit, in one process or over Ray; a context is never used twice;

every verb is booked, and ``wait`` is the aggregator's wall time from asking to the last answer.
Refuses to know: what the queries mean, and which protocol hides the answers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from protocols.choice import helpers, leave_after_meeting, make_collector, make_party
from protocols.primitives.keys import Identity, Secret
from protocols.secure_sum import Collector, Context, Party, PartyId, Pending
from protocols.secure_sum import Total as Opened
from protocols.session import Roster
from secirls.config import Config
from secirls.ledger import SETUP_ROUND, Ledger, Meter
from secirls.query import Algorithm, Query, Total
from secirls.site import Answer, Site

T = TypeVar("T")

AGGREGATOR_ROLE, SITE_ROLE = "aggregator", "site"

ANNOUNCED_VALUES = 2_000
"""Legs of sums with helpers (large powers) are announced from this many values on."""


class Federation(Protocol):
    """The seam between the rounds and what carries them: ask some parties to run one verb each.

    The answer lacks whoever fell silent. An exception that a party raised is raised here.
    """

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        ...

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Run ``verb`` at every named party with its arguments."""
        ...

    def dismiss(self, names: tuple[PartyId, ...]) -> None:
        """End parties whose part is over, and what they knew with them."""
        ...


class Helper(Secret):
    """A role beside sites and aggregator (Paillier's key-holder or key-dealer), with an identity of its own."""

    def __init__(self, name: PartyId, config: Config) -> None:
        self.name = name
        self._config = config
        self._identity = Identity.fresh(secrets.token_bytes)
        self._meter = Meter()
        self._party: Party | None = None

    def key(self) -> bytes:
        """Its public signing key."""
        return self._identity.public

    def join(self, roster: Mapping[PartyId, bytes]) -> None:
        """Take the roster and make its keys."""
        config = self._config
        self._party = make_party(
            config.protocol, self.name, self._identity, Roster(roster), config.settings(), n_jobs=config.threads
        )

    def hello(self, batch: int) -> Answer:
        """Its public keys."""
        return self._answer("hello", lambda party: party.hello(batch), 0)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int) -> Answer:
        """Take everyone's public keys."""
        return self._answer("meet", lambda party: party.meet(hellos, batch), sum(map(len, hellos.values())))

    def assist(self, request: bytes, context: Context) -> Answer:
        """Do its part in opening a sum."""
        return self._answer("assist", lambda party: party.assist(request, context), len(request))

    def _answer(self, verb: str, call: Callable[[Party], bytes], down: int) -> Answer:
        party = self._party
        if party is None:
            raise RuntimeError(f"{self.name} has not joined a session")
        message = self._meter.measure(verb, lambda: call(party), down=down)
        return Answer(message, self._meter.take())


class LocalFederation:
    """Everyone in this process: for tests, small data, and the same bits as on Ray."""

    def __init__(self, parties: Mapping[PartyId, Site | Helper]) -> None:
        self._parties = dict(parties)

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted(name for name, party in self._parties.items() if isinstance(party, Site)))

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Call them one after the other."""
        return {name: getattr(self._parties[name], verb)(*given) for name, given in arguments.items()}

    def dismiss(self, names: tuple[PartyId, ...]) -> None:
        """Forget them."""
        for name in names:
            del self._parties[name]


@dataclass(frozen=True)
class Finished(Generic[T]):
    """An algorithm's result, once it has asked its last question."""

    result: T


@dataclass(frozen=True)
class Progress:
    """What the outside may know after a round."""

    round: int
    kind: str
    values: int
    active_genes: int
    parties: tuple[PartyId, ...]
    seconds: float


@dataclass(frozen=True)
class Stage:
    """What is going on within a long round."""

    round: int
    text: str


class SilentSitesError(Exception):
    """Sites fell silent, and the rule is to stop rather than to open a sum without them."""

    def __init__(self, round_number: int, silent: tuple[PartyId, ...]) -> None:
        super().__init__(f"round {round_number}: {', '.join(silent)} fell silent, so the fit stops here")
        self.round_number = round_number
        self.silent = silent

    def __reduce__(self) -> tuple[type[SilentSitesError], tuple[int, tuple[PartyId, ...]]]:
        return type(self), (self.round_number, self.silent)


class PartyFaultError(Exception):
    """A party failed in a way it has no sentence for. Carries the kind of the failure, never its text."""

    def __init__(self, party: PartyId, verb: str, kind: str) -> None:
        super().__init__(f"{party} failed in {verb!r} with an unexpected {kind}")
        self.given = party, verb, kind

    def __reduce__(self) -> tuple[type[PartyFaultError], tuple[str, str, str]]:
        return type(self), self.given


class SecureRounds:
    """The aggregator's side of a session: runs an algorithm's queries as secure sums."""

    def __init__(self, config: Config, federation: Federation, roster: Roster, ledger: Ledger) -> None:
        self._federation = federation
        self._config = config
        self._ledger = ledger
        self._helpers = helpers(config.protocol)
        self._collector: Collector = make_collector(config.protocol, roster, config.settings(), n_jobs=config.threads)
        self._meter = Meter()
        self._cohort = tuple(federation.sites)
        self._round = 0
        self._met = -1

    @property
    def session(self) -> bytes:
        """The session id."""
        return self._collector.session

    def run(self, algorithm: Algorithm[T]) -> Iterator[Progress | Stage | Finished[T]]:
        """Drive an algorithm to its end: a `Progress` per round, a `Stage` per leg of long ones, its result last."""
        query = self._step(algorithm, None)
        while isinstance(query, Query):
            began = time.perf_counter()
            self._meet(self._round // self._config.rounds_per_batch)
            layout = query.layout(len(self._cohort))
            layout.check_headroom(len(self._cohort))
            context = Context(self.session, self._round, 0, self._cohort, layout.digest, layout.values, layout.limbs)
            with self._ledger.booking(self._round, layout.values, query.n_genes):
                opened = yield from self._sum(query.to_bytes(), context)
                arrays = self._own("decode", lambda: layout.decode(opened.vector, len(opened.parties)))  # noqa: B023
                asked, query = query, self._step(algorithm, Total(arrays, opened.parties, self._cohort))
            seconds = time.perf_counter() - began
            yield Progress(self._round, asked.kind, layout.values, asked.n_genes, opened.parties, seconds)
            self._round += 1
        yield query

    def _step(self, algorithm: Algorithm[T], total: Total | None) -> Query | Finished[T]:
        """Resume the algorithm with a total: its next query, or its result."""

        def advance() -> Query | Finished[T]:
            try:
                return next(algorithm) if total is None else algorithm.send(total)
            except StopIteration as stop:
                return Finished(stop.value)

        return self._own("step", advance)

    def _meet(self, batch: int) -> None:
        """Exchange the public keys of a batch of rounds, once."""
        if batch <= self._met:
            return
        with self._ledger.booking(SETUP_ROUND, 0, 0):
            leaving = leave_after_meeting(self._config.protocol)
            staying = tuple(name for name in self._helpers if batch == 0 or name not in leaving)
            everyone = (*self._cohort, *staying)
            hellos = self._answers("hello", dict.fromkeys(everyone, (batch,)))
            grants = self._answers("meet", dict.fromkeys(everyone, (hellos, batch)))
            self._own("meet", lambda: self._collector.meet(hellos, grants, batch))
            if batch == 0:
                self._federation.dismiss(leaving)
        self._met = batch

    def _sum(self, query: bytes, context: Context) -> Generator[Stage, None, Opened]:
        """One secure sum; see `protocols.secure_sum` for the legs."""
        asked = dict.fromkeys(self._cohort, (query, context.round, context.attempt, context.cohort))
        yield from self._announce(context, self._cohort, "compute and encrypt")
        payloads = self._answers("contribute", asked)
        outcome: Pending | Opened = self._own("combine", lambda: self._collector.combine(payloads, context))
        while isinstance(outcome, Pending):
            yield from self._announce(context, tuple(outcome.requests), "help to open the sum")
            outcome = self._open(outcome, self._assist(outcome))
        return outcome

    def _announce(self, context: Context, parties: tuple[PartyId, ...], doing: str) -> Iterator[Stage]:
        if self._helpers and context.values >= ANNOUNCED_VALUES:
            text = f"round {context.round:>3}  {', '.join(parties)} {doing}: {context.values:,} values"
            yield Stage(context.round, text)

    def _open(self, pending: Pending, replies: dict[PartyId, bytes]) -> Pending | Opened:
        return self._own("open", lambda: self._collector.open(pending, replies))

    def _assist(self, pending: Pending) -> dict[PartyId, bytes]:
        context = pending.context
        return self._answers(
            "assist",
            {
                name: (request, context) if name in self._helpers else (request, context.round, context.attempt)
                for name, request in pending.requests.items()
            },
        )

    def _answers(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, bytes]:
        """Ask, book what it cost, and stop if anybody stays silent: a smaller sum would give them away."""
        answers: dict[PartyId, Answer] = self._own("wait", lambda: self._federation.ask(verb, arguments))
        for name in sorted(answers):
            role = name if name in self._helpers else SITE_ROLE
            self._ledger.add(name, role, answers[name].costs)
        silent = tuple(sorted(set(arguments) - set(answers)))
        if silent:
            raise SilentSitesError(self._round, silent)
        return {name: answers[name].message for name in sorted(answers)}

    def _own(self, verb: str, call: Callable[[], T]) -> T:
        result = self._meter.measure(verb, call)
        self._ledger.add("aggregator", AGGREGATOR_ROLE, self._meter.take())
        return result
