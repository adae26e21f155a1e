"""The one loop: an algorithm's queries become secure sums, leg by leg, over whatever carries messages.

Promises: the same rounds, bit for bit, in one process or over Ray; a context is never used twice;
every verb is booked. In lock-step the sites are asked by a question's digest alone, are told every total, and
sign how the fit ended. Refuses to know: what the queries mean, and which protocol hides the answers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Protocol, TypeVar

from protocols.choice import helpers, leave_after_meeting, make_collector
from protocols.fixed_point import Layout
from protocols.secure_sum import Collector, Context, DropoutError, PartyId, PeerError, Pending
from protocols.secure_sum import Total as Opened
from protocols.sessions.session import Roster
from protocols.totals import pack_total
from protocols.verified import read_greetings, read_seed_boxes
from secirls.aggregator.asking import Asking, Federation
from secirls.aggregator.checkpoint import round_file
from secirls.aggregator.losses import Loss, nonsense, said_by
from secirls.agreement.agreement import Agreement
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.ledger import SETUP_ROUND, Ledger, Row
from secirls.agreement.named_sum import named_sum
from secirls.agreement.past import OverError
from secirls.agreement.record import Finished, Opening, Progress, Record, Stage, followed, query_digest, read_head
from secirls.algorithms.query import Algorithm, Query, Total, chained
from secirls.config import Config
from secirls.input_error import InputError, complain

T = TypeVar("T")

ANNOUNCED_VALUES = 2_000
"""Legs of sums with helpers (large powers) are announced from this many values on."""


class Witness(Protocol):
    """Who looks on: gives the collector its random bytes, and is told every opened sum."""

    def entropy(self, count: int) -> bytes:
        """That many fresh random bytes."""
        ...

    def opened(self, total: Opened) -> None:
        """Note an opened sum."""
        ...


class SecureRounds(Asking):
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
        super().__init__(federation, ledger, agreement.sites, helpers(config.protocol), lost, config.threads)
        self._config = config
        self._roster = Roster(agreement.roster)
        self._collector: Collector = make_collector(
            config.protocol,
            self._roster,
            config.settings(agreement.digest),
            secrets.token_bytes if witness is None else witness.entropy,
            n_jobs=config.threads,
        )
        self._witness = witness
        self._state = agreement.digest
        self._first = 0
        self._booked = 0
        self._may_begin_anew = config.on_dropout == "continue"

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
            layout, context = self._context(query)
            told = context.values > layout.values
            with self._ledger.booking(self._round, context.values, query.n_genes):
                opened = yield from self._sum(query, context)
                heads = self._tell(opened, context) if told else {}
                body = opened.vector[: layout.values]
                arrays = self._own("decode", lambda: layout.decode(body, len(opened.parties)))  # noqa: B023
                total = Total(arrays, opened.parties, cohort)
                asked, query = query, self._step(algorithm, total)
                self._keep_up(total)
                self._check_left(opened.parties, query)
                if isinstance(query, Finished) and self._config.lock_step:
                    self._check_heads(heads)
            seconds = time.perf_counter() - began
            lost = tuple(sorted(self._lost))
            progress = Progress(
                self._round, asked.kind, layout.values, asked.n_genes, opened.parties, seconds, lost, opened.unfit
            )
            rows = tuple(self._ledger.rows[self._booked :])
            self._booked += len(rows)
            self._lost = ()
            yield Record(progress, query_digest(asked), arrays, cohort, rows)
            self._round += 1
        yield query

    def _replay(self, algorithm: Algorithm[T], query: Query | Finished[T], record: Record) -> Query | Finished[T]:
        """Take one round from its record; the sites keep what it left with them, and answer nothing."""
        if isinstance(query, Finished) or record.told.round != self._round or record.query != query_digest(query):
            raise OverError(
                f"in round {self._round} another question was asked than would be now: the fit was begun with another "
                "release of secirls, or its checkpoint was changed; go on with that release, or begin a new fit"
            )
        if {name: array.shape for name, array in record.arrays.items()} != query.shapes():
            raise complain("holds other sums than its question asks for", file=round_file(self._round))
        with self._ledger.booking(self._round, 0, query.n_genes):
            self._state = chained(self._state, query.to_bytes())
            asked, total = self._asked(query), Total(record.arrays, record.told.parties, record.cohort)
            try:
                following = self._step(algorithm, total)
            except InputError:
                raise
            except (ArithmeticError, LookupError, ValueError):  # a round is kept once the algorithm took its total
                raise complain("holds sums that no round of this fit has", file=round_file(self._round)) from None
            self._answers("recall", dict.fromkeys(self._cohort, (asked,)))
            if query.verified or self._config.lock_step:
                told = asked, query.arrays_to_bytes(record.arrays), total.parties, total.cohort
                self._answers("remind", dict.fromkeys(self._cohort, told))
            self._keep_up(total)
        self._round += 1
        return following

    def _context(self, query: Query) -> tuple[Layout, Context]:
        """What sites are to send for a question, and the name of its sum; the state goes on."""
        cohort = self._cohort
        self._state = chained(self._state, query.to_bytes())
        told = query.verified or self._config.lock_step
        return named_sum(query, self._state, self.session, (self._round - self._first, 0), cohort, told=told)

    def _asked(self, query: Query) -> bytes:
        """What sites are asked with: in lock-step they know the question, and see by its digest that it is theirs."""
        return query_digest(query) if self._config.lock_step else query.to_bytes()

    def _tell(self, opened: Opened, context: Context) -> dict[PartyId, bytes]:
        """Tell the sites a total, for them to check; gives what they answer."""
        told = pack_total(opened.vector), context.round, context.attempt, opened.parties
        return self._answers("hear", dict.fromkeys(self._cohort, told))

    def _keep_up(self, total: Total) -> None:
        """The state that follows from a total, where sites follow too."""
        if self._config.lock_step:
            self._state = followed(self._state, total)

    def _check_left(self, parties: tuple[PartyId, ...], query: Query | Finished[T]) -> None:
        """Stop where the next question is one of all who are in the last sum, and not all of them are left.

        This round is not kept: once they are back it is made again.
        """
        gone = tuple(name for name in parties if name not in self._cohort)
        if gone and isinstance(query, Query) and not query.may_shrink:
            raise SilentSitesError(self._round, gone)

    def _check_heads(self, heads: dict[PartyId, bytes]) -> None:
        """Every site signed that the fit ends here, after these questions and totals."""

        def check(kept: dict[PartyId, bytes]) -> None:
            for site, head in kept.items():
                read_head(self._roster, site, self.session, self._state, head)

        self._without_nonsense("verify", check, heads)

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

        The collector looks at them before they are carried on: in a large room a site checks a few of them, and those
        who took a bad one would be left behind by those who refused it. Sites say whose hello is bad all the same.
        Where the collector sees nothing wrong, the nonsense is the accusation.
        """

        def checked(kept: dict[PartyId, bytes]) -> dict[PartyId, bytes]:
            self._collector.check(kept, batch)
            return kept

        said = self._answers("hello", dict.fromkeys((*self._cohort, *staying), (batch,)))
        hellos = self._without_nonsense("meet", checked, said)
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

    def _sum(self, query: Query, context: Context) -> Generator[Stage | Opening, None, Opened]:
        """One secure sum; see `protocols.secure_sum` for the legs."""
        given = self._asked(query), context.round, context.attempt, context.cohort
        yield from self._announce(context, self._cohort, "encrypting")
        outcome: Pending | Opened = self._without_nonsense(
            "combine",
            lambda kept: self._collector.combine(kept, context),
            self._answers("contribute", dict.fromkeys(self._cohort, given)),  # let go once they are added up
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
