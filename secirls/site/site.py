"""One site: its samples, its end of the protocol, and what it agrees to answer.

Promises: only bytes and public facts leave; every question is the agreed algorithm's next, as this site finds it
itself (unless it was agreed to trust the aggregator), and checked against the site's own rules; the context of a sum
is built from what this site itself knows.
Refuses to know: Ray, other sites, the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from protocols import fixed_point
from protocols.choice import make_party
from protocols.primitives.keys import Secret
from protocols.secure_sum import Context, Lending, MisuseError, Party, PartyId, sha256
from protocols.sessions.demands import Demands
from protocols.sessions.session import Roster
from secirls.agreement.agreement import Agreement, Facts
from secirls.agreement.ledger import Cost, Meter
from secirls.agreement.named_sum import named_sum
from secirls.agreement.order import Place
from secirls.agreement.record import sign_head
from secirls.algorithms.arithmetic import arithmetic_of
from secirls.algorithms.query import Query, Total, query_from_bytes
from secirls.algorithms.regression.irls_queries import OwnCoefficientsQuery
from secirls.algorithms.whole_fit import agreed_fit
from secirls.config import Config
from secirls.inputs.files.site_file import SiteTable
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.first_use import warm_up_kernels
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels
from secirls.site import arguments
from secirls.site.agreeing import check_agreement
from secirls.site.ahead import WorkAhead
from secirls.site.checking import Checking
from secirls.site.follower import Follower, Run
from secirls.site.grounds.ground import Ground
from secirls.site.guarding.guard import Guard
from secirls.site.guarding.memory import Subject
from secirls.site.in_common import Apart
from secirls.site.own_file import write_own
from secirls.site.preparation import named, opened, prepare
from secirls.site.telling import Telling


@dataclass(frozen=True)
class Answer:
    """What leaves a site: one message for the protocol, and what its verbs cost."""

    message: bytes
    costs: tuple[Cost, ...]


class Site(Secret):
    """Holds one site's data and keys; runs in a process of its own under Ray."""

    def __init__(self, place: Place, config: Config, *, own_process: bool = True, common: Apart | None = None) -> None:
        """Take what the site works with.

        In its ``own_process`` a site works ahead while it waits; among others in one, it does so at once. They may have
        in ``common`` what follows from public things alone.
        """
        self._own_process = own_process
        self._common = Apart() if common is None else common
        self.name = place.name
        self._place = place
        self._config = config
        self._ground: Ground | None = None
        self._meter = Meter(config.threads)
        self._ahead: WorkAhead | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Be before any session, with nothing of an earlier one: where a fit begins anew, a site joins it twice."""
        self._stop_ahead()
        self._ahead = None
        self._table: SiteTable | None = None
        self._agreement: Agreement | None = None
        self._guard: Guard | None = None
        self._follower: Follower | None = None
        self._samples: Samples | None = None
        self._telling: Telling | None = None
        self._genes: tuple[str, ...] = ()
        self._own_columns: list[str] = []
        self._party: Party | None = None
        self._checking = Checking(self.name)
        self._asked: tuple[Mask, Samples] | None = None
        self._contexts: dict[tuple[int, int], tuple[Context, bytes]] = {}
        self._batches = 0

    def survey(self) -> Facts:
        """Open the file; say in public what the session needs: gene names, levels, and the signing key.

        Raises `InputError` where the file can't be used, `RefusalError` where the policy does not allow the fit.
        """
        config = self._config
        self._begin_anew()
        self._ground, self._table = ground, table = opened(self._place, config)
        if config.kernel == "fused":
            warm_up_kernels()
        fixed_point.warm_up()
        return Facts(
            site=self.name,
            file=self._place.ground or ground.file,
            identity=ground.identity.public,
            genes=table.genes,
            variables=dict(table.variables),
            simulated=ground.simulated,
            data=sha256(b"secirls data v1", self.name.encode(), named(self.name, ground, table)),
            arithmetic=arithmetic_of(config),
        )

    def look(self) -> None:
        """Raise what `survey` would raise of the file and the rules, before anything is compiled; tell nothing else."""
        opened(self._place, self._config)

    def join(self, agreement: Agreement) -> bytes:
        """Prepare samples and protocol for what was agreed; gives a digest of the dispersions brought.

        Raises `InputError` where the site's file does not fit, `RefusalError` where the policy does not allow it,
        `MisuseError` where the agreement is not what this site would agree to.
        """
        ground, table = self._opened()
        if not isinstance(agreement, Agreement):
            raise MisuseError(f"site {self.name} was given something else than an agreement")
        # Its digest and keys are found here: what somebody else worked out may be another agreement's.
        agreement = self._common.once("agreement", (agreement,), partial(replace, agreement), self._meter)
        check_agreement(self.name, self._config, agreement, ground, table)
        config, design, genes = self._config, agreement.design(self._config), agreement.genes or table.genes
        if ground.study is not None:
            ground.study.check_levels(self.name, design)
        guard = Guard(self.name, ground, config, agreement, design, len(genes))
        samples = prepare(table, agreement, design, config, self.name)
        layer = config.layer or "X"
        guard.enter(
            samples,
            len(table.genes),
            lambda: Subject.of(
                table.counts, table.genes, genes, layer=layer, names=table.samples, config=agreement.config_digest
            ),
        )
        self._samples, self._table, self._guard, self._agreement = samples, None, guard, agreement
        self._telling = Telling.of(self.name, ground.identity, agreement, table)
        if config.lock_step:
            agreed, meter = agreement.digest, self._meter
            run = self._common.once("run", (agreed,), lambda: Run(agreed_fit(config, design, genes), agreed), meter)
            self._follower = Follower(self.name, run, agreed, self._common, meter)
        self._genes, self._own_columns = genes, [design.all_columns[i] for i in design.own.at(self.name)]
        demands = Demands(
            colluders=ground.policy.max_colluders,
            key_bits=ground.policy.min_key_bits,
            whole=guard.whole,
            opening=guard.opening,
        )
        self._party = make_party(
            config.protocol,
            self.name,
            ground.identity,
            agreement.keys,
            config.settings(agreement.digest),
            n_jobs=config.threads,
            demands=demands,
        )
        self._ahead = WorkAhead(self._party, background=self._own_process) if config.precompute else None
        alpha = samples.dispersions
        return b"" if alpha is None else sha256(b"secirls dispersions v1", alpha.tobytes())

    def describe(self) -> bytes:
        """What the var columns that the fit's user names are at this site: digests, signed."""
        return self._tell().digests()

    def annotate(self, said: Mapping[PartyId, bytes]) -> bytes:
        """The text of those that all sites said the same of. Raises `MisuseError`, `PeerError`: see `Telling`."""
        arguments.table(said)
        return self._tell().texts(said)

    def hello(self, batch: int) -> Answer:
        """This site's public keys for a batch of rounds: the first, or the next. Raises `MisuseError` for another."""
        arguments.numbers(batch)
        party = self._begin()
        if batch not in (self._batches, self._batches - 1):
            raise MisuseError(f"site {self.name} was asked for keys of batch {batch!r}, the next is {self._batches}")
        return self._answer("hello", lambda: party.hello(batch))

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int) -> Answer:
        """Take everyone's public keys."""
        arguments.table(hellos)
        arguments.numbers(batch)
        party = self._begin()
        down = sum(len(hello) for sender, hello in hellos.items() if sender != self.name)
        answer = self._answer("meet", lambda: party.meet(hellos, batch), down=down)
        self._batches = max(self._batches, batch + 1)
        return answer

    def greet(self) -> Answer:
        """This site's channel key, over which the sites share what totals are checked with."""
        session, (ground, agreement) = self._begin().session, self._agreed()
        sites = Roster({name: agreement.roster[name] for name in agreement.sites})
        return self._answer("verify", lambda: self._checking.greet(ground.identity, sites, session))

    def deal(self, greetings: Mapping[PartyId, bytes]) -> Answer:
        """The first site by name draws the seed, and seals it for each of the others."""
        arguments.table(greetings)
        self._begin()
        return self._answer("verify", lambda: self._checking.deal(greetings), down=sum(map(len, greetings.values())))

    def take(self, greetings: Mapping[PartyId, bytes], dealt: bytes) -> Answer:
        """The others open their boxes."""
        arguments.table(greetings)
        arguments.messages(dealt)
        self._begin()
        down = sum(map(len, greetings.values())) + len(dealt)
        return self._answer("verify", lambda: self._checking.take(greetings, dealt), down=down)

    def contribute(self, query: bytes, round_number: int, attempt: int, cohort: tuple[PartyId, ...]) -> Answer:
        """Answer a public question with one protected vector; in lock-step it is named by its digest.

        Raises `QueryError` for a question that does not fit, `PeerError` for one that is not the algorithm's next,
        `MisuseError` for a context that was used, `RefusalError` for what the policy does not allow.
        """
        arguments.messages(query)
        arguments.numbers(round_number, attempt)
        arguments.names(cohort)
        party, guard, (ground, agreement) = self._begin(), self._guarded(), self._agreed()
        # It is kept with every context: a thousand names that came anew in each round would be 60 kB of it.
        cohort = agreement.sites if cohort == agreement.sites else cohort
        if (round_number, attempt) in self._contexts:
            how = "answered" if self._contexts[round_number, attempt][1] == query else "asked differently"
            raise MisuseError(f"round {round_number} attempt {attempt} was {how} before")
        asked, question, samples = self._read(query)
        guard.check(asked)
        name = guard.admit(asked, question, cohort)
        told = asked.verified or self._config.lock_step
        about = guard.note(asked, question, cohort), party.session, (round_number, attempt), cohort
        layout, context = self._common.once("sum", about, lambda: named_sum(asked, *about, told=told), self._meter)
        self._contexts[round_number, attempt] = context, query
        guard.answering(context, asked, name, told=told)
        if told:
            self._checking.expect(asked, layout)
        meter = self._meter
        answer = [meter.measure("compute", lambda: self._compute(asked, samples, len(cohort)), down=len(query))]
        if isinstance(asked, OwnCoefficientsQuery):
            self._write_own(asked, samples)
        # What has done its work is let go before the next copy is made: of long answers each is tens of megabytes.
        room, lend = context.values - layout.values, party.lend if isinstance(party, Lending) else lambda _: None
        vector = [meter.measure("encode", lambda: layout.encode(answer.pop(), room, lend(context), ground.noise))]
        if told:
            checks = self._checking.checks
            meter.measure("verify", lambda: checks.fill(vector[0], context))
        return self._answer("protect", lambda: party.protect(vector.pop(), context), then=context)

    def recall(self, query: bytes) -> Answer:
        """Keep what a question of an earlier session left with the sites; nothing is answered.

        Raises `QueryError` for a question that does not fit, `RefusalError` for what the policy does not allow.
        """
        arguments.messages(query)
        self._begin()
        asked, question, samples = self._read(query)
        self._guarded().check(asked)
        self._guarded().note(asked, question)
        self._meter.measure("recall", lambda: self._keep(asked, samples, recalling=True), down=len(query))
        return Answer(b"", self._meter.take())

    def assist(self, request: bytes, round_number: int, attempt: int) -> Answer:
        """Help to open a sum this site took part in."""
        arguments.messages(request)
        arguments.numbers(round_number, attempt)
        party = self._begin()
        context = self._taken_part(round_number, attempt)
        return self._answer("assist", lambda: party.assist(request, context), down=len(request), then=context)

    def hear(self, total: bytes, round_number: int, attempt: int, parties: tuple[PartyId, ...]) -> Answer:
        """Check a total, and who is in it, against its check values; hold the rules against it, and follow.

        Where the algorithm ends with it the answer is this site's signature over the end. Raises `PeerError` for a
        total that is not the sum of what these sent, `RefusalError` for a broken rule.
        """
        arguments.messages(total)
        arguments.numbers(round_number, attempt)
        arguments.names(parties)
        party = self._begin()
        context = self._taken_part(round_number, attempt)
        self._guarded().told(context, parties)
        (asked, layout), meter = self._checking.expected(), self._meter
        opened = meter.measure(
            "verify",
            lambda: self._checking.opened(total, layout, context, parties, self._common, meter),
            down=len(total),
        )
        meter.measure("verify", lambda: self._guarded().hear(asked, opened, verified=True))
        if self._follower is None or not self._follow(self._follower, opened):
            return Answer(b"", meter.take())
        identity, state = self._agreed()[0].identity, self._guarded().state
        return self._answer("follow", lambda: sign_head(identity, self.name, party.session, state))

    def remind(self, query: bytes, total: bytes, parties: tuple[PartyId, ...], cohort: tuple[PartyId, ...]) -> Answer:
        """Take a total of an earlier session, which this site verified then; hold the rules against it, and follow."""
        arguments.messages(query, total)
        arguments.names(parties)
        arguments.names(cohort)
        self._begin()
        self._guarded()
        asked = query_from_bytes(query) if self._follower is None else self._follower.meant(query)
        opened = Total(asked.arrays_from(total), parties, cohort)
        self._meter.measure("verify", lambda: self._guarded().hear(asked, opened, verified=False), down=len(total))
        if self._follower is not None:
            self._follow(self._follower, opened)
        return Answer(b"", self._meter.take())

    def _follow(self, follower: Follower, total: Total) -> bool:
        """Go on to the question that follows from a total; whether there is none."""
        state = self._guarded().follow(total)
        self._meter.measure("follow", lambda: follower.follow(total, state))
        return follower.finished

    def _answer(self, verb: str, call: Callable[[], bytes], down: int = 0, then: Context | None = None) -> Answer:
        """Answer, and prepare what a sum like ``then`` would need next time."""
        message = self._meter.measure(verb, call, down=down)
        costs = self._meter.take()
        if then is not None and self._ahead is not None:
            self._ahead.start(then.values, then.limbs)
        return Answer(message, costs)

    def _begin(self) -> Party:
        """Before any verb of a session: nothing runs beside it."""
        self._stop_ahead()
        if self._party is None:
            raise MisuseError(f"site {self.name} has not joined a session")
        self._telling = None
        return self._party

    def _stop_ahead(self) -> None:
        """End the work ahead, and book what it cost."""
        if self._ahead is not None:
            self._meter.book(self._ahead.stop())

    def _opened(self) -> tuple[Ground, SiteTable]:
        if self._table is None or self._ground is None:
            raise MisuseError(f"site {self.name} has no open file: it was not surveyed, or has joined a session")
        return self._ground, self._table

    def _agreed(self) -> tuple[Ground, Agreement]:
        if self._ground is None or self._agreement is None:
            raise MisuseError(f"site {self.name} has not joined a session")
        return self._ground, self._agreement

    def _tell(self) -> Telling:
        if self._telling is None:
            raise MisuseError(f"site {self.name} tells of var columns once it has joined a session, until that begins")
        return self._telling

    def _guarded(self) -> Guard:
        if self._guard is None:
            raise MisuseError(f"site {self.name} has not joined a session")
        return self._guard

    def _taken_part(self, round_number: int, attempt: int) -> Context:
        if (round_number, attempt) not in self._contexts:
            raise MisuseError(f"site {self.name} took no part in round {round_number} attempt {attempt}")
        return self._contexts[round_number, attempt][0]

    def _read(self, query: bytes) -> tuple[Query, bytes, Samples]:
        """A question that fits the fit, its bytes, and the samples it is about."""
        if self._samples is None:
            raise MisuseError(f"site {self.name} has not joined a session")
        if self._follower is None:
            asked = self._common.once("asked", (query,), lambda: query_from_bytes(query), self._meter)
            question = query
        else:
            asked, question = self._follower.next(query)
        asked.check(self._samples.n_genes, self._samples.n_params)
        return asked, question, self._samples

    def _compute(self, asked: Query, samples: Samples, parties: int) -> dict[str, Floats]:
        """The summands, after keeping what the query leaves; the gathered genes stay for the next round."""
        kept = self._keep(asked, samples)
        self._guarded().summing(asked, kept)
        if self._asked is None or not np.array_equal(self._asked[0], asked.genes):
            self._asked = (asked.genes, kept.take(asked.genes))
        with kernels.using(self._config.kernel, self._config.n_jobs or 1):
            return asked.summands(self._asked[1], parties)

    def _write_own(self, asked: OwnCoefficientsQuery, samples: Samples) -> None:
        """Write what this site keeps of the fit beside its file, if its policy says so."""
        ground, _ = self._agreed()
        if samples.own is not None and ground.policy.write_own and isinstance(ground.source, str):
            write_own(Path(ground.source), self._genes, self._own_columns, asked.coefficients(samples))

    def _keep(self, asked: Query, samples: Samples, *, recalling: bool = False) -> Samples:
        """The samples with what the query leaves; what was gathered from the old ones is let go."""
        with kernels.using(self._config.kernel, self._config.n_jobs or 1):
            kept = asked.recalled(samples) if recalling else asked.apply(samples)
        if kept is not samples:
            self._samples, self._asked = kept, None
            self._guarded().holds(kept)
        return kept
