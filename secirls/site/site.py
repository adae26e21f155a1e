"""One site: its samples, its end of the protocol, and what it agrees to answer.

Promises: only bytes and public facts leave; every question is decoded and checked here, also against the
site's own policy; the context of a sum is built from what this site itself knows.
Refuses to know: Ray, other sites, the answers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from protocols import fixed_point
from protocols.choice import make_party
from protocols.fixed_point import Layout
from protocols.primitives.keys import Identity, Secret
from protocols.secure_sum import Context, MisuseError, Party, PartyId, sha256
from protocols.session import Roster
from secirls.agreement.agreement import Agreement, Facts, genes_digest
from secirls.agreement.ledger import Cost, Meter
from secirls.agreement.order import Place
from secirls.algorithms.query import Query, QueryError, query_from_bytes
from secirls.config import Config
from secirls.input_error import complain
from secirls.inputs.design import variables
from secirls.inputs.site_file import Reading, SiteTable, read_site
from secirls.numerics import kernels
from secirls.numerics.samples import Floats, Mask, Samples
from secirls.site.ahead import WorkAhead
from secirls.site.key_files import keyed_digest, read_identity
from secirls.site.memory import Memory, folder_of
from secirls.site.policy import Policy, read_policy


@dataclass(frozen=True)
class Answer:
    """What leaves a site: one message for the protocol, and what its verbs cost."""

    message: bytes
    costs: tuple[Cost, ...]


class Site(Secret):
    """Holds one site's data and keys; runs in a process of its own under Ray."""

    def __init__(self, place: Place, config: Config, *, own_process: bool = True) -> None:
        """Take what the site works with.

        In its ``own_process`` a site works ahead while it waits; among others in one, it does so at once.
        """
        self._own_process = own_process
        self.name = place.name
        self._place = place
        self._config = config
        self._reading = Reading(
            variables(config.design),
            config.layer,
            config.size_factors,
            config.dispersions,
            config.refit_layer,
            config.levels,
        )
        self._table: SiteTable | None = None
        self._policy = Policy()
        self._sites: tuple[PartyId, ...] = ()
        self._identity = Identity.fresh(secrets.token_bytes)
        self._meter = Meter()
        self._samples: Samples | None = None
        self._party: Party | None = None
        self._ahead: WorkAhead | None = None
        self._asked: tuple[Mask, Samples] | None = None
        self._contexts: dict[tuple[int, int], Context] = {}
        self._answered: dict[bytes, tuple[PartyId, ...]] = {}
        self._memory: Memory | None = None
        self._rounds = 0

    def survey(self) -> Facts:
        """Open the file; say in public what the session needs: gene names, levels, and the signing key.

        Raises `InputError` where the file can't be used, `RefusalError` where the policy does not allow the fit.
        """
        place = self._place
        if place.policy is not None:
            self._policy = read_policy(self.name, place.policy)
        self._policy.check_config(self.name, self._config)
        self._table = table = read_site(self.name, place.source, self._reading)
        self._policy.check_samples(self.name, table.counts.shape[0])
        if place.key is not None:
            self._identity = read_identity(self.name, place.key)
        if self._config.kernel == "fused":
            kernels.warm_up()
        fixed_point.warm_up()
        return Facts(
            site=self.name,
            file=place.source if isinstance(place.source, str) else "AnnData in memory",
            identity=self._identity.public,
            genes=table.genes,
            variables=dict(table.variables),
            data=sha256(b"secirls data v1", self.name.encode(), self._named(table)),
        )

    def _named(self, table: SiteTable) -> bytes:
        """What names the data and tells nobody whether a guess at them is right who lacks the site's key.

        Without a key file the run is a simulation, whose parties are not apart, and the digest is a plain one.
        """
        digest, key = table.digest(), self._place.key
        return digest if key is None else keyed_digest(self.name, key, digest)

    def join(self, agreement: Agreement) -> bytes:
        """Prepare samples and protocol for what was agreed; gives a digest of the dispersions brought.

        Raises `InputError` where the site's file does not fit, `RefusalError` where the policy does not allow it.
        """
        table = self._opened()
        if agreement.config_digest != self._config.digest:
            raise MisuseError(f"site {self.name} was started for another configuration")
        self._check_roster(agreement)
        self._policy.check_cohort(self.name, len(agreement.sites))
        samples = _prepare(table, agreement, self.name)
        self._policy.check_design(self.name, samples.design)
        self._samples, self._table, self._sites = samples, None, agreement.sites
        self._memory = self._remembering(agreement.run)
        roster = Roster(agreement.roster)
        config = self._config
        self._party = make_party(
            config.protocol, self.name, self._identity, roster, config.settings(), n_jobs=config.threads
        )
        self._ahead = WorkAhead(self._party, background=self._own_process) if config.precompute else None
        alpha = self._samples.dispersions
        return b"" if alpha is None else sha256(b"secirls dispersions v1", alpha.tobytes())

    def hello(self, batch: int) -> Answer:
        """This site's public keys for a batch of rounds."""
        party = self._begin()
        return self._answer("hello", lambda: party.hello(batch))

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int) -> Answer:
        """Take everyone's public keys."""
        party = self._begin()
        down = sum(len(hello) for sender, hello in hellos.items() if sender != self.name)
        return self._answer("meet", lambda: party.meet(hellos, batch), down=down)

    def contribute(self, query: bytes, round_number: int, attempt: int, cohort: tuple[PartyId, ...]) -> Answer:
        """Answer a public question with one protected vector.

        Raises `QueryError` for a question that does not fit, `MisuseError` for a context that was used,
        `RefusalError` for what the policy does not allow.
        """
        party = self._begin()
        asked, samples = self._read(query)
        self._admit(asked, query, cohort)
        layout = asked.layout(len(cohort))
        layout.check_headroom(len(cohort))
        context = self._context(layout, round_number, attempt, cohort)
        meter = self._meter
        arrays = meter.measure("compute", lambda: self._compute(asked, samples, len(cohort)), down=len(query))
        vector = meter.measure("encode", lambda: layout.encode(arrays))
        return self._answer("protect", lambda: party.protect(vector, context), then=context)

    def recall(self, query: bytes) -> Answer:
        """Keep what a question of an earlier session left with the sites; nothing is answered.

        Raises `QueryError` for a question that does not fit, `RefusalError` for what the policy does not allow.
        """
        self._joined()
        asked, samples = self._read(query)
        self._rounds += 1
        self._meter.measure("recall", lambda: self._keep(asked, samples), down=len(query))
        return Answer(b"", self._meter.take())

    def assist(self, request: bytes, round_number: int, attempt: int) -> Answer:
        """Help to open a sum this site took part in."""
        party = self._begin()
        context = self._contexts.get((round_number, attempt))
        if context is None:
            raise MisuseError(f"site {self.name} took no part in round {round_number} attempt {attempt}")
        return self._answer("assist", lambda: party.assist(request, context), down=len(request), then=context)

    def _check_roster(self, agreement: Agreement) -> None:
        """Whoever announces the roster must announce the one this site was given, where it was given one."""
        for party, known in (self._config.roster or {}).items():
            told = agreement.roster.get(party)
            if told is not None and told.hex() != known:
                raise MisuseError(
                    f"the session was announced to {self.name} with another key for {party} than the roster's"
                )

    def _answer(self, verb: str, call: Callable[[], bytes], down: int = 0, then: Context | None = None) -> Answer:
        """Answer, and prepare what a sum like ``then`` would need next time."""
        message = self._meter.measure(verb, call, down=down)
        costs = self._meter.take()
        if then is not None and self._ahead is not None:
            self._ahead.start(then.values, then.limbs)
        return Answer(message, costs)

    def _begin(self) -> Party:
        """Before any verb: end the work ahead, so that nothing runs beside the verb, and book what it cost."""
        if self._ahead is not None:
            self._meter.book(self._ahead.stop())
        return self._joined()

    def _opened(self) -> SiteTable:
        if self._table is None:
            raise MisuseError(f"site {self.name} has no open file: it was not surveyed, or has joined a session")
        return self._table

    def _joined(self) -> Party:
        if self._party is None:
            raise MisuseError(f"site {self.name} has not joined a session")
        return self._party

    def _read(self, query: bytes) -> tuple[Query, Samples]:
        """A question that fits the fit and the policy, and the samples it is about."""
        if self._samples is None:
            raise MisuseError(f"site {self.name} has not joined a session")
        asked = query_from_bytes(query)
        asked.check(self._samples.n_genes, self._samples.n_params)
        self._policy.check_question(self.name, asked.kind, self._rounds)
        return asked, self._samples

    def _admit(self, asked: Query, query: bytes, cohort: tuple[PartyId, ...]) -> None:
        """One answer per question: the same query for another cohort would give sums that differ by one site.

        A cohort may shrink only where it was agreed that the fit goes on, and never grows again.
        """
        self._policy.check_cohort(self.name, len(cohort))
        digest = sha256(b"secirls asked v1", query)
        if self._answered.get(digest, cohort) != cohort:
            raise QueryError(f"query {asked.kind!r} was answered for another cohort before")
        before = self._sites
        if not set(cohort) <= set(before) or (cohort != before and self._config.on_dropout == "abort"):
            raise MisuseError(f"{self.name} was asked for a sum over other sites than were agreed")
        if self._memory is not None:
            self._memory.admit(digest, cohort)
        self._answered[digest] = self._sites = cohort
        self._rounds += 1

    def _remembering(self, run: str) -> Memory | None:
        """What outlives this process: needed where a fit may go on without a site, kept where the policy says so."""
        if self._config.on_dropout == "abort" and self._policy.memory is None:
            return None
        source = self._place.source if isinstance(self._place.source, str) else None
        folder = folder_of(source, self._place.policy, self._policy.memory)
        return None if folder is None else Memory(self.name, folder, run)

    def _context(self, layout: Layout, round_number: int, attempt: int, cohort: tuple[PartyId, ...]) -> Context:
        context = Context(
            self._joined().session, round_number, attempt, cohort, layout.digest, layout.values, layout.limbs
        )
        if self._contexts.setdefault((round_number, attempt), context) != context:
            raise MisuseError(f"round {round_number} attempt {attempt} was asked differently before")
        return context

    def _compute(self, asked: Query, samples: Samples, parties: int) -> dict[str, Floats]:
        """The summands, after keeping what the query leaves; the gathered genes stay for the next round."""
        kept = self._keep(asked, samples)
        if self._asked is None or not np.array_equal(self._asked[0], asked.genes):
            self._asked = (asked.genes, kept.take(asked.genes))
        with kernels.using(self._config.kernel, self._config.n_jobs or 1):
            return asked.summands(self._asked[1], parties)

    def _keep(self, asked: Query, samples: Samples) -> Samples:
        """The samples with what the query leaves; what was gathered from the old ones is let go."""
        kept = asked.apply(samples)
        if kept is not samples:
            self._samples, self._asked = kept, None
        return kept


def _prepare(table: SiteTable, agreement: Agreement, site: str) -> Samples:
    """A site's arrays in the agreed design and gene order."""
    samples = Samples(agreement.design.matrix(table.obs), table.counts, table.size_factors, table.dispersions)
    samples = replace(samples, replacement=table.replacement)
    if genes_digest(table.genes) == agreement.genes_digest:
        return samples
    if agreement.genes is None:
        raise complain("has other genes than were agreed", site=site)
    position = {gene: i for i, gene in enumerate(table.genes)}
    order = np.array([position[gene] for gene in agreement.genes], dtype=np.intp)
    return replace(
        samples,
        counts=samples.counts.T[order].T,
        replacement=None if samples.replacement is None else samples.replacement.T[order].T,
        dispersions=None if samples.dispersions is None else samples.dispersions[order],
    )
