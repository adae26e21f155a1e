"""What a site allows in one fit: its policy, held against what it knows itself, question by question.

Promises: nothing is answered, and no sum opened, before every rule was asked; what was answered for whom is
remembered before it leaves. Refuses to know: counts, keys, and how a sum is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from protocols.secure_sum import AGGREGATOR, Context, MisuseError, PartyId, PeerError, sha256
from secirls.agreement.agreement import Agreement
from secirls.agreement.record import followed, total_digest
from secirls.algorithms.components.component_queries import VstGramQuery, VstProductsQuery, VstQuery
from secirls.algorithms.groundwork.census import CensusQuery, PresenceQuery
from secirls.algorithms.groundwork.empty import DropEmptyQuery
from secirls.algorithms.groundwork.normalisation import NormalisedQuery
from secirls.algorithms.groundwork.scaling import CovariatesQuery, CrossProductsQuery
from secirls.algorithms.outliers.cells import OfCells
from secirls.algorithms.query import Query, QueryError, Total, chained
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.config import Config
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.ranks import largest_leverage
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples
from secirls.site.grounds.ground import Ground
from secirls.site.guarding.budget import Budget
from secirls.site.guarding.heard_census import HeardCensus, left
from secirls.site.guarding.held_data import HeldData, start_digest
from secirls.site.guarding.likeness import Likeness
from secirls.site.guarding.memory import ENTERED, SUMMED, Memory, Subject
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.guarding.shares import NumberShares, size_shares
from secirls.site.guarding.summed_columns import SummedColumns
from secirls.site.guarding.summed_over import SummedOver


class Guard:
    """One site's side of one fit, from the moment it joined."""

    def __init__(
        self, site: PartyId, ground: Ground, config: Config, agreement: Agreement, design: Design, n_genes: int
    ) -> None:
        self._site = site
        self._ground = ground
        self._policy = ground.policy
        self._checks = PolicyChecks(site, ground.policy)
        self._agreement = agreement
        self._design = design
        self._kernel = config.kernel
        self._may_shrink, self._follows = config.on_dropout == "continue", config.lock_step
        self._cohort = agreement.sites
        self._state = agreement.digest
        self._answered: dict[bytes, tuple[PartyId, ...]] = {}
        self._asked_in: dict[bytes, bytes] = {}
        self._held = HeldData()
        self._every_xtx = np.zeros((0, 0))
        self._log_sizes = 0.0
        self._columns, self._own_size = np.zeros((0, 0)), 0
        self._names: tuple[str, ...] = ()
        self._brought: Floats | None = None
        self._numbers: NumberShares | None = None
        self._entered: SummedColumns | None = None
        self._summed: SummedColumns | None = None
        self._in_all: float | None = None
        self._rounds = 0
        self._budget = Budget(site, n_genes)
        self._began = self._asked_so_far = b""
        self._census: HeardCensus | None = None
        self._contributors: dict[bytes, float] = {}
        self._held_over: tuple[PartyId, ...] = ()
        self._degrees: float | None = None
        self._over_fewer: set[bytes] = set()
        self._summed_over = SummedOver()
        self._awaited: bytes | None = None
        self._opened: dict[bytes, tuple[PartyId, ...]] = {}
        self._memory: Memory | None = None

    @property
    def whole(self) -> bool:
        """Whether this site helps to open sums over a whole cohort alone."""
        return not self._may_shrink

    @property
    def state(self) -> bytes:
        """What follows from all questions so far, and in lock-step from all totals: `chained` and `followed`."""
        return self._state

    def enter(self, samples: Samples, genes: int, subject: Callable[[], Subject]) -> None:
        """Before the session: this site's samples, how many genes its file has, and what the fit is about.

        Raises `RefusalError` where the policy does not allow the fit.
        """
        self._checks.check_cohort(len(self._agreement.sites))
        self._checks.check_design(samples.joint.design, samples.own_size)
        self._columns, self._own_size = samples.joint.design, samples.own_size
        own = self._design.own.at(self._site)
        self._names = (*(self._design.all_columns[i] for i in own), *self._design.columns)
        self._brought, self._numbers = samples.size_factors, NumberShares(samples, self._design)
        self._began = self._asked_so_far = start_digest(samples, self._agreement.genes_digest, self._kernel)
        self.holds(samples)
        folder, run = self._ground.memory, self._agreement.run
        if self._ground.simulated:  # every run by itself: a second one is no second fit to anybody's memory
            if folder is not None and (self._may_shrink or self._policy.memory is not None):
                self._memory = Memory(self._site, folder, run)
        elif folder is not None:
            about = subject()
            self._memory = Memory(self._site, folder, about.data)
            self._budget = Budget(self._site, genes, about.places, self._memory.told)
            if self._policy.across_fits == "refuse":
                self._entered, self._summed = (
                    SummedColumns(self._site, file, about.samples, partial(self._memory.of_other_data, about, what))
                    for file, what in ((self._memory.entered, ENTERED), (self._memory.summed, SUMMED))
                )
            self._memory.enter_fit(run, self._agreement.sites, about, self._policy, shrinks=self._may_shrink)

    def check(self, asked: Query) -> None:
        """Whether a question may be answered or taken note of. Raises `RefusalError`, `QueryError`, `MisuseError`."""
        self._checks.check_question(asked.kind)
        if isinstance(asked, DropEmptyQuery):
            self._check_empty(asked)
        self._check_cells(asked)
        if isinstance(asked, CrossProductsQuery) and self._numbers is not None:
            self._checks.check_numbers(self._numbers.by_column())
        self._checks.check_sample_share(getattr(asked, "share", 0.0))
        if self._ground.simulated and self._census is None:
            return
        if self._census is None:
            if not isinstance(asked, CensusQuery) or self._rounds:
                raise MisuseError(f"site {self._site}: the census comes first, and its total is told before the rest")
            return
        if not isinstance(asked, PresenceQuery):
            self._checks.check_genes(asked.genes, self._census.presence(self._census.parties))

    def _check_empty(self, asked: DropEmptyQuery) -> None:
        """Columns are dropped that the census calls empty, and no others. Raises `QueryError`."""
        if self._census is not None and not np.array_equal(asked.kept, self._census.column_sites > 0):
            raise QueryError(f"query {asked.kind!r} drops other columns than the census calls empty")

    def _check_cells(self, asked: Query) -> None:
        """Cells are all that the levels allow, one by one, or none: others could single out a sample's covariates.

        Raises `QueryError`.
        """
        if not isinstance(asked, OfCells) or not asked.rows.shape[0]:
            return
        if self._design.numeric:
            told = f"the design has the numeric variable {self._design.numeric[0]!r}, whose cells are single samples"
            raise QueryError(f"query {asked.kind!r} asks about cells, and {told}")
        if not self._design.enumerable or not np.array_equal(asked.rows, self._design.cells()):
            raise QueryError(f"query {asked.kind!r} asks about other cells than the levels of the design allow")

    def note(self, asked: Query, question: bytes, cohort: tuple[PartyId, ...] | None = None) -> bytes:
        """A question is taken, to be answered for a cohort or by recall: count it, and give the state that follows.

        Raises `RefusalError` where the budget does not allow it, `InputError` where it can't be kept.
        """
        so_far = chained(self._asked_so_far, question)

        def allowed(answered: int, told: NDArray[np.int64], multiplied: int) -> None:
            self._checks.check_budget(answered, told)
            self._checks.check_directions(multiplied + ahead if directions or ahead else 0, self._degrees)

        # What varies along directions is not told either, where these could not be multiplied any more.
        ahead = asked.directions.shape[1] if isinstance(asked, VstGramQuery) else 0
        directions = asked.asked if isinstance(asked, VstProductsQuery) else 0
        self._budget.spend(so_far, cohort, asked.genes, asked.values_per_gene, allowed, directions)
        self._asked_so_far = so_far
        self._rounds += 1
        self._state = chained(self._state, question)
        if isinstance(asked, DropEmptyQuery):
            self._design = self._design.without(tuple(map(int, self._design.at_the_table[~asked.kept])))
            if self._census is not None:
                self._census.drop(asked.kept)
            if self._every_xtx.size:
                self._every_xtx = self._every_xtx[np.ix_(asked.kept, asked.kept)]
        if isinstance(asked, ReplaceCountsQuery) and self._census is not None:
            # How many sites count these genes is not known any more: the presence is asked for, and told, anew.
            self._census.forget_presence(asked.genes)
            self._awaited = None
        return self._state

    def admit(self, asked: Query, question: bytes, cohort: tuple[PartyId, ...]) -> bytes:
        """One answer per question about the same data: for another cohort it would give sums that differ by one site.

        A cohort may shrink only where it was agreed that the fit goes on, and at questions that allow it, since others
        may be asked anew. It never grows again. Gives what names the question about these data.
        Raises `RefusalError`, `QueryError`, `MisuseError`.
        """
        self._checks.check_cohort(len(cohort))
        if isinstance(asked, VstQuery) and cohort != self._agreement.sites:
            raise QueryError(f"query {asked.kind!r} is about all agreed sites, and asked for others")
        digest = self._held.name(asked, question)
        if self._answered.get(digest, cohort) != cohort:
            raise QueryError(f"query {asked.kind!r} was answered for another cohort before")
        shrinks = asked.may_shrink and not self.whole
        if cohort != self._cohort and not (shrinks and set(cohort) <= set(self._cohort)):
            raise MisuseError(f"{self._site} was asked for a sum over other sites than were agreed")
        if self._summed_over.more(asked, cohort):
            raise MisuseError(f"{self._site} was asked anew for {asked.kind!r} of genes, after a site fell silent")
        self._contributors[digest] = self._fewest(asked, cohort)
        self._check_left(self._contributors[digest], cohort)
        if self._memory is not None:
            self._memory.answers()
        if self._entered is not None:
            self._enter_columns(self._entered)
            self._entered = None
        self._go_on_over(cohort)
        if self._memory is not None:
            self._memory.admit(digest, cohort)
        self._answered[digest] = self._cohort = cohort
        return digest

    def _enter_columns(self, entered: SummedColumns) -> None:
        """Before the first answer: no difference to a fit of before may be a few samples' alone.

        What is opened before counts are summed, the census and X'X, tells of design columns and of size factors that
        are brought along: a difference of it is these samples' other columns. Raises `RefusalError`, `InputError`.
        """
        s = np.ones(len(self._columns)) if self._brought is None else self._brought

        def allowed(likeness: Likeness) -> None:
            self._checks.check_likeness(likeness.few_differ, other_own=0)  # it takes counts to tell sums of sites

        entered.take(*self._own_and_table(), s, self._policy.min_difference, allowed, self._names)

    def _own_and_table(self) -> tuple[Floats, Floats]:
        """Design columns: those that this site takes out as its own, and those that are summed."""
        return self._columns[:, : self._own_size], self._columns[:, self._own_size :]

    def _fewest(self, asked: Query, parties: tuple[PartyId, ...]) -> float:
        """At how many of these any gene that is asked about has counts at least, as far as a rule is about that.

        It is about nothing that is not looked at: where nobody is missing, and nobody may be.
        """
        census = self._census
        if census is None or isinstance(asked, PresenceQuery) or (self.whole and parties == census.parties):
            return np.inf
        return float(census.presence(parties)[asked.genes].min(initial=np.inf))

    def _check_left(self, contributors: float, parties: tuple[PartyId, ...]) -> None:
        """The census's rules over those who are in a sum, where fewer are than were in the census: `RefusalError`."""
        census, design = self._census, self._design
        if census is None or parties == census.parties:
            return
        self._checks.check_left(contributors)
        if parties != self._held_over:
            sums, apart = census.among(parties, design), census.apart(parties, design)
            self._checks.check_census(design, sums, census.held(parties, design), apart)
            self._held_over = parties

    def _go_on_over(self, parties: tuple[PartyId, ...]) -> None:
        """Before a sum is over fewer sites than those before: no other fit may be over more. Raises `RefusalError`."""
        if self._memory is not None and parties != self._cohort:
            self._memory.goes_on_over(parties)

    def holds(self, samples: Samples) -> None:
        """What answers are computed from has changed."""
        self._held.take(samples)

    def summing(self, asked: Query, samples: Samples) -> None:
        """Before counts are summed with each design column over the size factors, the same for every gene.

        No such sum may be nearly one sample's alone, nor may a difference to sums of earlier fits about this data. And
        all these fits together may sum with few columns only: with as many as there are samples, the sums of all genes
        would give the samples' counts but for a few numbers. Raises `RefusalError`, `InputError`.
        """
        s, in_all = samples.size_factors, self._in_all
        if not isinstance(asked, NormalisedQuery) or s is None or in_all is None:
            return
        told, every = s if self._brought is None else self._brought, self._every_xtx
        # A trusted aggregator may not have asked for X'X of numeric columns; in lock-step it was told before.
        rows = samples.beside_own[:, : len(every)]
        self._checks.check_sizes(*size_shares(told, self._log_sizes, in_all, rows, every))

        own, table = self._own_and_table()

        def take() -> None:
            columns = [
                sha256(b"secirls column v1", column.tobytes(), s.tobytes()) for column in table.T if column.any()
            ]
            self._budget.take_columns(columns, lambda all_: self._checks.check_columns(all_, in_all))

        def allowed(likeness: Likeness) -> None:
            self._checks.check_likeness(likeness.few_differ, likeness.other_own)
            take()

        if self._summed is None:
            take()
        else:
            self._summed.take(own, table, s, self._policy.min_difference, allowed, self._names)

    def answering(self, context: Context, asked: Query, name: bytes, *, told: bool) -> None:
        """Remember which question a context is about, as it was admitted, and whether its total is to be ``told``."""
        self._asked_in[context.digest] = name
        if told:
            self._awaited = context.digest
        if asked.may_shrink and not self.whole:
            self._over_fewer.add(context.digest)

    def opening(self, context: Context, present: tuple[PartyId, ...]) -> None:
        """Before this site helps to open a sum: over whom. Raises `PeerError`, `RefusalError`."""
        self._checks.check_cohort(len(present))
        if context.digest not in self._over_fewer and present != context.cohort:
            raise PeerError(AGGREGATOR, f"asks {self._site} to open a sum over other sites than were agreed")
        question = self._asked_in.get(context.digest)
        if question is None or not (present == self._cohort or set(present) <= set(self._cohort)):
            raise PeerError(AGGREGATOR, f"asks {self._site} to open a sum over sites that it did not answer for")
        lost = len(context.cohort) - len(present)
        self._check_left(float(left(self._contributors[question], lost)), present)
        self._go_on_over(present)
        if self._memory is not None:
            self._memory.opening(question, present)
        self._opened[context.digest] = self._cohort = present

    def told(self, context: Context, parties: tuple[PartyId, ...]) -> None:
        """Before a total is looked at: whether it is awaited, and may be over these. Once for each.

        Raises `PeerError`, `MisuseError`, `RefusalError`.
        """
        if context.digest != self._awaited:
            raise MisuseError(f"site {self._site} was told a total that it does not wait for")
        self._checks.check_cohort(len(parties))
        said = parties if context.digest in self._over_fewer else context.cohort
        if parties != self._opened.get(context.digest, said) or self._site not in parties:
            raise PeerError(AGGREGATOR, f"tells {self._site} a total over other sites than it answered with")
        self._go_on_over(parties)
        self._cohort, self._awaited = parties, None

    def follow(self, total: Total) -> bytes:
        """The session is in the state that follows from this total, from which the next question does."""
        self._state = followed(self._state, total)
        return self._state

    def hear(self, asked: Query, total: Total, *, verified: bool) -> None:
        """Take a total: ``verified`` now, or remembered from an earlier session; and hold the rules against it.

        Raises `RefusalError` where a rule is broken, `PeerError` where the total is not the one of before.
        """
        if not self._ground.simulated:
            name = sha256(b"secirls total v3", self._about(), self._began, asked.to_bytes())
            if verified and self._memory is not None:
                self._memory.keep_total(name, total_digest(total))
            elif (
                self._memory is None
                or not self._is_over_these(total)
                or not self._memory.knows_total(name, total_digest(total))
            ):
                raise PeerError(AGGREGATOR, f"tells {self._site} a total of the past that it did not verify")
            if not verified and self._follows and not self.whole:
                self._cohort = total.parties
        self._summed_over.take(asked, total.parties)
        if isinstance(asked, CovariatesQuery) and self._numbers is not None:
            self._numbers.hear(asked, total)
        if asked.verified:
            self._hold_rules(asked, total)
        if isinstance(asked, CensusQuery if not self._design.features else CrossProductsQuery):
            self._every_xtx = asked.xtx_of(total)
            self._checks.check_share(self._design, self._held.xtx, self._every_xtx)
            self._checks.check_leverage(largest_leverage(self._held.rows, self._every_xtx))

    def _is_over_these(self, total: Total) -> bool:
        """Whether a total is over the agreed sites, unless sites may fall silent: others count in a census of more."""
        return not self.whole or total.parties == total.cohort == self._agreement.sites

    def _hold_rules(self, asked: Query, total: Total) -> None:
        """The rules about the census, and about genes."""
        if isinstance(asked, CensusQuery):
            if not asked.genes.all():
                raise self._checks.refusal("min_contributors", "the census is of all genes")
            self._in_all = float(total["samples"][0])
            self._degrees = self._in_all - len(total.parties)
            # Estimated ones are scaled so that their logs have the sum zero, or by medians nearly.
            self._log_sizes = float(total["log_size_factors"][0])
            census, parties = HeardCensus(total.arrays, total.parties, self._agreement.said), total.parties
            held, apart = census.held(parties, self._design), census.apart(parties, self._design)
            self._checks.check_census(self._design, total.arrays, held, apart)
            self._census = census
        if self._census is not None:
            presence = np.where(asked.lost(total), 0.0, total["presence"])
            self._census.take_presence(asked.genes, presence, total.parties)

    def _about(self) -> bytes:
        """What a fit that goes on has in common with its past: run, configuration, genes in order and levels."""
        told, design = self._agreement, self._design
        text = json.dumps(
            [told.run, told.config_digest, {name: list(levels) for name, levels in design.levels.items()}]
        )
        return sha256(b"secirls about v1", text.encode(), told.genes_digest)
