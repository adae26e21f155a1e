"""The one loop: an algorithm's queries become secure sums, leg by leg, over whatever carries messages.

Promises: the same rounds, bit for bit, in one process or over Ray; a context is never used twice;
every verb is booked, and ``wait`` is the aggregator's wall time from asking to the last answer.
A site that dies, is late, breaks or sends nonsense is *silent*: it is fenced, and then the fit stops
(``on_dropout="abort"``) or goes on for good without it (``"continue"``). Who *refuses*, in words, stops it always.
Refuses to know: what the queries mean, and which protocol hides the answers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

from protocols.choice import helpers, leave_after_meeting, make_collector
from protocols.primitives import ring
from protocols.secure_sum import Collector, Context, PartyId, PeerError, Pending
from protocols.secure_sum import Total as Opened
from protocols.session import Roster
from protocols.verified import CHECK_VALUES
from secirls.agreement.agreement import Agreement
from secirls.agreement.faults import BlockedPartyError, PartyFaultError, SilentSitesError
from secirls.agreement.ledger import SETUP_ROUND, Cost, Ledger, Meter, Row
from secirls.agreement.record import Finished, Opening, Progress, Record, Stage, query_digest
from secirls.algorithms.query import Algorithm, Query, Total, chained
from secirls.config import Config
from secirls.input_error import InputError
from secirls.site.desk import SPOKEN
from secirls.site.site import Answer

T = TypeVar("T")

AGGREGATOR_ROLE, SITE_ROLE = "aggregator", "site"

ANNOUNCED_VALUES = 2_000
"""Legs of sums with helpers (large powers) are announced from this many values on."""


class Federation(Protocol):
    """The seam between the rounds and what carries them: ask some parties to run one verb each.

    The answer lacks whoever fell silent, and holds, in place of a result, the exception a party raised:
    one of `SPOKEN`, or a `PartyFaultError` for any other.
    """

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        ...

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Run ``verb`` at every named party with its arguments."""
        ...

    def fence(self, party: PartyId) -> None:
        """Have nothing more to do with a party: whatever it still sends is never read."""
        ...


class Witness(Protocol):
    """Who looks on: gives the collector its random bytes, and is told every opened sum."""

    def entropy(self, count: int) -> bytes:
        """That many fresh random bytes."""
        ...

    def opened(self, total: Opened) -> None:
        """Note an opened sum."""
        ...


class SecureRounds:
    """The aggregator's side of a session: runs an algorithm's queries as secure sums."""

    def __init__(
        self,
        config: Config,
        federation: Federation,
        agreement: Agreement,
        ledger: Ledger,
        witness: Witness | None = None,
    ) -> None:
        self._federation = federation
        self._config = config
        self._ledger = ledger
        self._helpers = helpers(config.protocol)
        self._collector: Collector = make_collector(
            config.protocol,
            Roster(agreement.roster),
            config.settings(agreement.digest),
            secrets.token_bytes if witness is None else witness.entropy,
            n_jobs=config.threads,
        )
        self._witness = witness
        self._meter = Meter()
        self._cohort = tuple(federation.sites)
        self._state = agreement.digest
        self._round = 0
        self._first = 0
        self._met = -1
        self._booked = 0
        self._lost: list[tuple[PartyId, str]] = []
        self._may_shrink = False

    @property
    def session(self) -> bytes:
        """The session id; empty where all rounds were past and nobody had to meet."""
        return self._collector.session if self._met >= 0 else b""

    @property
    def rows(self) -> tuple[Row, ...]:
        """What everything cost so far."""
        return tuple(self._ledger.rows)

    def run(
        self, algorithm: Algorithm[T], past: Sequence[Record] = ()
    ) -> Iterator[Record | Stage | Opening | Finished[T]]:
        """Drive an algorithm to its end: a `Record` per round, a `Stage` per leg of long ones, its result last.

        Where a round may lose a site, an `Opening` comes before its sum is opened.

        Rounds that are ``past`` are not asked again: the algorithm is told their totals, and the sites
        what those left with them. Raises `InputError` where they are another fit's.
        """
        query = self._step(algorithm, None)
        for record in past:
            query = self._replay(algorithm, query, record)
        self._first = self._round
        while isinstance(query, Query):
            began = time.perf_counter()
            self._lost, self._may_shrink = [], self._config.on_dropout == "continue" and query.may_shrink
            self._meet((self._round - self._first) // self._config.rounds_per_batch)
            cohort = self._cohort
            self._state = chained(self._state, query.to_bytes())
            layout = query.layout(len(cohort), self._state)
            layout.check_headroom(len(cohort))
            values = layout.values + (CHECK_VALUES[layout.limbs] if query.verified else 0)
            number = self._round - self._first
            context = Context(self.session, number, 0, cohort, layout.digest, values, layout.limbs)
            with self._ledger.booking(self._round, values, query.n_genes):
                opened = yield from self._sum(query, context)
                if query.verified:
                    self._answers("hear", dict.fromkeys(cohort, (ring.to_bytes(opened.vector), number, 0)))
                body = opened.vector[: layout.values]
                arrays = self._own("decode", lambda: layout.decode(body, len(opened.parties)))  # noqa: B023
                asked, query = query, self._step(algorithm, Total(arrays, opened.parties, cohort))
            seconds = time.perf_counter() - began
            lost = tuple(sorted(self._lost))
            told = Progress(self._round, asked.kind, layout.values, asked.n_genes, opened.parties, seconds, lost)
            rows = tuple(self._ledger.rows[self._booked :])
            self._booked += len(rows)
            yield Record(told, query_digest(asked), arrays, cohort, rows)
            self._round += 1
        yield query

    def _replay(self, algorithm: Algorithm[T], query: Query | Finished[T], record: Record) -> Query | Finished[T]:
        """Take one round from its record; the sites keep what it left with them, and answer nothing."""
        if isinstance(query, Finished) or record.told.round != self._round or record.query != query_digest(query):
            raise InputError(
                f"the checkpoint does not fit: in round {self._round} another question was asked than would be now"
            )
        with self._ledger.booking(self._round, 0, query.n_genes):
            asked = query.to_bytes()
            self._state = chained(self._state, asked)
            self._answers("recall", dict.fromkeys(self._cohort, (asked,)))
            if query.verified:
                self._answers("remind", dict.fromkeys(self._cohort, (asked, query.arrays_to_bytes(record.arrays))))
            following = self._step(algorithm, Total(record.arrays, record.told.parties, record.cohort))
        self._round += 1
        return following

    def _step(self, algorithm: Algorithm[T], total: Total | None) -> Query | Finished[T]:
        """Resume the algorithm with a total: its next query, or its result."""

        def advance() -> Query | Finished[T]:
            try:
                return next(algorithm) if total is None else algorithm.send(total)
            except StopIteration as stop:
                return Finished(stop.value)

        return self._own("step", advance)

    def _meet(self, batch: int) -> None:
        """Exchange the public keys of a batch of rounds, once. Everyone must be there for the first."""
        if batch <= self._met:
            return
        if batch == 0:
            self._may_shrink = False
        with self._ledger.booking(SETUP_ROUND, 0, 0):
            leaving = leave_after_meeting(self._config.protocol)
            staying = tuple(name for name in self._helpers if batch == 0 or name not in leaving)
            hellos, grants = self._greet(staying, batch)
            self._without_nonsense("meet", lambda kept: self._collector.meet(hellos, kept, batch), grants)
            if batch == 0:
                self._share_a_seed()
            for name in leaving if batch == 0 else ():
                self._federation.fence(name)
        self._met = batch

    def _share_a_seed(self) -> None:
        """Carry the boxes with which the sites share what they check totals with."""
        greetings = self._answers("greet", dict.fromkeys(self._cohort, ()))
        dealer, *others = self._cohort
        dealt = self._answers("deal", {dealer: (greetings,)})[dealer]
        self._answers("take", dict.fromkeys(others, (greetings, dealt)))

    def _greet(self, staying: tuple[PartyId, ...], batch: int) -> tuple[dict[PartyId, bytes], dict[PartyId, bytes]]:
        """Everyone's hellos and grants for a batch; without the hello of a site that sent nonsense, where that may be.

        Sites say whose hello is bad, and the aggregator looks for itself: an accusation alone puts nobody out.
        """
        hellos = self._answers("hello", dict.fromkeys((*self._cohort, *staying), (batch,)))
        while True:
            try:
                return hellos, self._answers("meet", dict.fromkeys((*self._cohort, *staying), (hellos, batch)))
            except PeerError as accusation:
                if batch == 0 or not self._may_shrink:
                    raise
                try:
                    self._own("meet", lambda: self._collector.meet(hellos, {}, batch))  # noqa: B023
                except PeerError as seen:
                    if seen.sender not in self._cohort:
                        raise
                    hellos = {name: hello for name, hello in hellos.items() if name != seen.sender}
                    self._lose(seen.sender, f"sent nonsense: {seen.reason}")
                else:
                    raise accusation from None

    def _sum(self, query: Query, context: Context) -> Generator[Stage | Opening, None, Opened]:
        """One secure sum; see `protocols.secure_sum` for the legs."""
        asked = dict.fromkeys(self._cohort, (query.to_bytes(), context.round, context.attempt, context.cohort))
        yield from self._announce(context, self._cohort, "encrypting")
        payloads = self._answers("contribute", asked)
        outcome: Pending | Opened = self._without_nonsense(
            "combine", lambda kept: self._collector.combine(kept, context), payloads
        )
        if self._may_shrink and isinstance(outcome, Pending):
            opening = Opening(self._round, query_digest(query), outcome.parties)
            yield opening
            yield opening  # who takes the second has kept the first
        while isinstance(outcome, Pending):
            yield from self._announce(context, tuple(outcome.requests), "opening the sum of")
            outcome = self._open(outcome, self._assist(outcome))
        if self._witness is not None:
            self._witness.opened(outcome)
        return outcome

    def _announce(self, context: Context, parties: tuple[PartyId, ...], doing: str) -> Iterator[Stage]:
        if self._helpers and context.values >= ANNOUNCED_VALUES:
            text = f"round {context.round:>3}  {doing} {context.values:,} values: {', '.join(parties)}"
            yield Stage(context.round, text)

    def _open(self, pending: Pending, replies: dict[PartyId, bytes]) -> Pending | Opened:
        return self._without_nonsense("open", lambda kept: self._collector.open(pending, kept), replies)

    def _assist(self, pending: Pending) -> dict[PartyId, bytes]:
        context = pending.context
        return self._answers(
            "assist",
            {
                name: (request, context) if name in self._helpers else (request, context.round, context.attempt)
                for name, request in pending.requests.items()
                if name in self._cohort or name in self._helpers
            },
        )

    def _without_nonsense(
        self, verb: str, call: Callable[[dict[PartyId, bytes]], T], messages: dict[PartyId, bytes]
    ) -> T:
        """Run a verb of the collector's; without the message of a site that sent nonsense, where that may be."""
        kept = dict(messages)
        while True:
            try:
                return self._own(verb, lambda: call(dict(kept)))
            except PeerError as error:
                if error.sender not in kept or error.sender not in self._cohort or not self._may_shrink:
                    raise
                del kept[error.sender]
                self._lose(error.sender, f"sent nonsense: {error.reason}")

    def _answers(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, bytes]:
        """Ask, book what it cost, and deal with those who stay silent: see `_settle`."""
        answers: dict[PartyId, Any] = self._own("wait", lambda: self._federation.ask(verb, arguments))
        messages: dict[PartyId, bytes] = {}
        silent: dict[PartyId, PartyFaultError | None] = {}
        for name in sorted(arguments):
            answer = answers.get(name)
            if well_formed(answer):
                role = name if name in self._helpers else SITE_ROLE
                self._ledger.add(name, role, answer.costs)
                messages[name] = answer.message
            elif isinstance(answer, SPOKEN):
                raise answer
            elif answer is None or isinstance(answer, PartyFaultError):
                silent[name] = answer
            else:
                silent[name] = PartyFaultError(name, verb, type(answer).__name__)
        if silent:
            self._settle(verb, silent)
        return messages

    def _settle(self, verb: str, silent: dict[PartyId, PartyFaultError | None]) -> None:
        """Stop where somebody is silent, for a smaller sum may give them away; or go on without them for good."""
        for name in silent:
            self._federation.fence(name)
        if not self._may_shrink or not set(silent) <= set(self._cohort):
            blocked = {name for name, fault in silent.items() if isinstance(fault, BlockedPartyError)}
            faults = [fault for name, fault in silent.items() if fault is not None and name not in blocked]
            raise faults[0] if faults else SilentSitesError(self._round, tuple(n for n in silent if n not in blocked))
        for name, fault in silent.items():
            self._lose(name, _how(verb, fault))

    def _lose(self, party: PartyId, how: str) -> None:
        self._federation.fence(party)
        self._cohort = tuple(name for name in self._cohort if name != party)
        self._lost.append((party, how))

    def _own(self, verb: str, call: Callable[[], T]) -> T:
        result = self._meter.measure(verb, call)
        self._ledger.add("aggregator", AGGREGATOR_ROLE, self._meter.take())
        return result


def _how(verb: str, fault: PartyFaultError | None) -> str:
    """What befell who is silent, as a disclosure tells it."""
    if fault is None:
        return f"gave no answer to {verb!r} in time"
    if isinstance(fault, BlockedPartyError):
        return f"waited in vain for {fault.given[2]}, in the same process, to answer {verb!r}"
    return f"broke in {verb!r}"


def well_formed(answer: object) -> TypeGuard[Answer]:
    """Whether a site sent what a verb gives: bytes, and what they cost in numbers."""
    return (
        isinstance(answer, Answer)
        and isinstance(answer.message, bytes)
        and isinstance(answer.costs, tuple)
        and all(isinstance(cost, Cost) and isinstance(cost.verb, str) for cost in answer.costs)
    )
