"""The one loop: an algorithm's queries become secure sums, leg by leg, over whatever carries messages.

Promises: the same rounds, bit for bit, in one process or over Ray; a context is never used twice;
every verb is booked, and ``wait`` is the aggregator's wall time from asking to the last answer.
A site that dies, is late, breaks or sends nonsense is *silent*: it is fenced, and then the fit stops
(``on_dropout="abort"``) or goes on for good without it (``"continue"``); before a session stands it begins anew
without it. Nonsense is what the collector sees, or an accusation that it does not share: whoever accuses another party,
or the aggregator, puts out nobody but itself. Who *refuses* for a rule of its own, in words, stops the fit always.
Refuses to know: what the queries mean, and which protocol hides the answers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

from protocols.choice import helpers, leave_after_meeting, make_collector
from protocols.primitives import ring
from protocols.secure_sum import Collector, Context, DropoutError, PartyId, PeerError, Pending
from protocols.secure_sum import Total as Opened
from protocols.session import Roster
from protocols.verified import CHECK_VALUES, read_greetings, read_seed_boxes
from secirls.aggregator.losses import LeftOutError, Loss, befell, nonsense, said_by
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
        lost: tuple[Loss, ...] = (),
    ) -> None:
        """``lost`` are those whom an earlier beginning of the same fit left out; the first round tells of them."""
        self._federation = federation
        self._config = config
        self._ledger = ledger
        self._helpers = helpers(config.protocol)
        self._roster = Roster(agreement.roster)
        self._collector: Collector = make_collector(
            config.protocol,
            self._roster,
            config.settings(agreement.digest),
            secrets.token_bytes if witness is None else witness.entropy,
            n_jobs=config.threads,
        )
        self._witness = witness
        self._meter = Meter()
        self._cohort = agreement.sites
        self._state = agreement.digest
        self._round = 0
        self._first = 0
        self._met = -1
        self._booked = 0
        self._lost = lost
        self._refused: dict[PartyId, PeerError] = {}
        self._may_begin_anew = config.on_dropout == "continue"
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
        what those left with them. Raises `InputError` where they are another fit's, `LeftOutError` where a fit
        without a past may begin anew without somebody.
        """
        self._may_begin_anew &= not past
        query = self._step(algorithm, None)
        for record in past:
            query = self._replay(algorithm, query, record)
        self._first = self._round
        while isinstance(query, Query):
            began = time.perf_counter()
            self._refused, self._may_shrink = {}, self._config.on_dropout == "continue" and query.may_shrink
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
            told = Progress(
                self._round, asked.kind, layout.values, asked.n_genes, opened.parties, seconds, lost, opened.unfit
            )
            rows = tuple(self._ledger.rows[self._booked :])
            self._booked += len(rows)
            self._lost = ()
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
        may_shrink = self._may_shrink
        if batch == 0:
            self._may_shrink = self._may_begin_anew
        with self._ledger.booking(SETUP_ROUND, 0, 0):
            leaving = leave_after_meeting(self._config.protocol)
            self._greet(tuple(name for name in self._helpers if batch == 0 or name not in leaving), batch)
            if batch == 0:
                self._share_a_seed()
            for name in leaving if batch == 0 else ():
                self._federation.fence(name)
        self._met, self._may_shrink = batch, may_shrink

    def _share_a_seed(self) -> None:
        """Carry the boxes with which the sites share what they check totals with."""
        session, greetings = self._collector.session, self._answers("greet", dict.fromkeys(self._cohort, ()))
        self._without_nonsense("meet", lambda kept: read_greetings(self._roster, session, kept), greetings)
        dealer, *others = self._cohort
        dealt = self._answers("deal", {dealer: (greetings,)})
        self._without_nonsense(
            "meet", lambda kept: read_seed_boxes(self._roster, session, dealer, kept[dealer], len(others)), dealt
        )
        self._answers("take", dict.fromkeys(others, (greetings, dealt[dealer])))

    def _greet(self, staying: tuple[PartyId, ...], batch: int) -> None:
        """Everyone's hellos and grants for a batch; without the hello of a site that sent nonsense, where that may be.

        Sites say whose hello is bad, and the collector looks for itself. Where it sees nothing wrong, the nonsense is
        the accusation.
        """
        hellos = self._answers("hello", dict.fromkeys((*self._cohort, *staying), (batch,)))
        while True:
            accusations: dict[PartyId, PeerError] = {}
            asked = dict.fromkeys((*self._cohort, *staying), (hellos, batch))
            grants = self._answers("meet", asked, accusations)
            try:
                self._without_nonsense("meet", lambda kept: self._collector.meet(hellos, kept, batch), grants)  # noqa: B023
            except PeerError as error:  # of somebody whose grant is not there, or was left out: so it is the hello
                if not self._may_shrink or error.sender not in hellos or error.sender in self._helpers:
                    raise
                hellos = {name: hello for name, hello in hellos.items() if name != error.sender}
                if error.sender in self._cohort:
                    self._lose((error.sender, nonsense(error)))
                continue
            except DropoutError:
                for accuser, accusation in accusations.items():
                    raise said_by(accuser, accusation) from None
                raise
            self._put_out(accusations, "meet")
            return

    def _put_out(self, accusations: Mapping[PartyId, PeerError], verb: str) -> None:
        """Go on without those who accuse others of what the collector does not see, where that may be."""
        for accuser, accusation in accusations.items():
            if accuser not in self._cohort or not self._may_shrink:
                raise said_by(accuser, accusation)
            self._refused[accuser] = accusation
        if accusations:
            self._lose(*((accuser, f"refused {verb!r}, for {error}") for accuser, error in accusations.items()))

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
            outcome = self._open(outcome)
        if self._witness is not None:
            self._witness.opened(outcome)
        return outcome

    def _announce(self, context: Context, parties: tuple[PartyId, ...], doing: str) -> Iterator[Stage]:
        if self._helpers and context.values >= ANNOUNCED_VALUES:
            text = f"round {context.round:>3}  {doing} {context.values:,} values: {', '.join(parties)}"
            yield Stage(context.round, text)

    def _open(self, pending: Pending) -> Pending | Opened:
        """Ask for help, and open the sum with it; who accuses the aggregator gives none."""
        context, accusations = pending.context, dict[PartyId, PeerError]()
        asked = {
            name: (request, context) if name in self._helpers else (request, context.round, context.attempt)
            for name, request in pending.requests.items()
            if name in self._cohort or name in self._helpers
        }
        replies = self._answers("assist", asked, accusations)
        self._put_out(accusations, "assist")
        try:
            return self._without_nonsense("open", lambda kept: self._collector.open(pending, kept), replies)
        except DropoutError as error:
            for accuser in error.silent:
                if accuser in self._refused:
                    raise said_by(accuser, self._refused[accuser]) from None
            raise

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
                self._lose((error.sender, nonsense(error)))

    def _answers(
        self,
        verb: str,
        arguments: Mapping[PartyId, tuple[Any, ...]],
        accusations: dict[PartyId, PeerError] | None = None,
    ) -> dict[PartyId, bytes]:
        """Ask, book what it cost, and deal with those who stay silent: see `_settle`.

        Where ``accusations`` are heard, they are put there by who raised them, and end nothing.
        """
        answers: dict[PartyId, Any] = self._own("wait", lambda: self._federation.ask(verb, arguments))
        messages: dict[PartyId, bytes] = {}
        silent: dict[PartyId, PartyFaultError | None] = {}
        for name in sorted(arguments):
            answer = answers.get(name)
            if well_formed(answer):
                role = name if name in self._helpers else SITE_ROLE
                self._ledger.add(name, role, answer.costs)
                messages[name] = answer.message
            elif isinstance(answer, PeerError):
                if accusations is None:
                    raise said_by(name, answer)
                accusations[name] = answer
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
        self._lose(*((name, befell(verb, fault)) for name, fault in silent.items()))

    def _lose(self, *lost: Loss) -> None:
        """Go on without these for good. Raises `LeftOutError` before a session stands: it has to begin anew."""
        for party, _ in lost:
            self._federation.fence(party)
        self._cohort = tuple(name for name in self._cohort if name not in dict(lost))
        self._lost += lost
        if self._met < 0:
            raise LeftOutError(lost)

    def _own(self, verb: str, call: Callable[[], T]) -> T:
        result = self._meter.measure(verb, call)
        self._ledger.add("aggregator", AGGREGATOR_ROLE, self._meter.take())
        return result


def well_formed(answer: object) -> TypeGuard[Answer]:
    """Whether a site sent what a verb gives: bytes, and what they cost in numbers."""
    return (
        isinstance(answer, Answer)
        and isinstance(answer.message, bytes)
        and isinstance(answer.costs, tuple)
        and all(isinstance(cost, Cost) and isinstance(cost.verb, str) for cost in answer.costs)
    )
