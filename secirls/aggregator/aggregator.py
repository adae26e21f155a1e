"""The aggregator: it leads a fit from the sites' public facts to coefficients, and opens only sums.

Promises: every gene ends with a status; what it hands out is public by construction.
Refuses to know: Ray, any site's samples, and any key that could open one site's answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from protocols import fixed_point
from protocols.choice import helpers
from protocols.claims import claim
from protocols.secure_sum import MisuseError, PartyId
from secirls.aggregator.annotating import Annotation, annotate
from secirls.aggregator.asking import Federation, check_present, helped, joined, keyed, surveyed
from secirls.aggregator.losses import LeftOutError, Loss
from secirls.aggregator.rounds import SecureRounds, Witness
from secirls.agreement.agreement import Agreement, agree
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.ledger import SETUP_ROUND, Ledger, Row
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Finished, Lasting, Opening, Progress, Record, Stage
from secirls.algorithms.fitted import Fitted
from secirls.algorithms.whole_fit import agreed_fit
from secirls.config import Config
from secirls.inputs.designs.contrasts import reported
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.designs.reduced_design import reduced_design

ANNOUNCED_KEY_BITS = 2048
"""Keys of this length take seconds to make, up to a minute where they are to be shared."""


@dataclass(frozen=True)
class Outcome:
    """What a fit hands to whoever ordered it: public results and the ledger."""

    fitted: Fitted
    genes: tuple[str, ...] = field(repr=False)
    design: Design
    rows: tuple[Row, ...] = field(repr=False)
    rounds: tuple[Progress, ...] = field(repr=False)
    """What was asked in every round, and who is in its sum."""
    sites: tuple[PartyId, ...]
    session: str
    """Session id, hexadecimal."""
    roster: Mapping[PartyId, str]
    """Public keys of this session, hexadecimal."""
    claims: tuple[str, ...]
    said: Mapping[PartyId, Mapping[str, Variable]] = field(repr=False)
    """What every site said in public of the formula's variables."""
    simulated: tuple[PartyId, ...]
    """Sites and helpers that were started without a ground of their own."""
    annotation: Annotation = field(default_factory=Annotation)
    """What genes are called, from var columns that the user named."""


Event: TypeAlias = Begun | Stage | Opening | Record | Outcome
"""What a fit tells whoever ordered it: `Begun` at first, and again where it begins anew without somebody, one record
per round and what precedes it, one outcome at last."""


def lead(task: Task, federation: Federation, witness: Witness | None = None) -> Iterator[Event]:
    """Lead one fit over a federation, from its beginning or on from its past, under a witness where there is one.

    Where sites fall silent or send nonsense before the session stands, and it was agreed that a fit goes on, it begins
    anew among the others: nothing of anybody's data had left. Raises `InputError` where files, design or counts can't
    be used, `LeftOutError` where too few are left.
    """
    fixed_point.warm_up()  # loading what is compiled is no round's cost
    ledger, sites, lost = Ledger(task.run, task.config.protocol), federation.sites, tuple[Loss, ...]()
    while True:
        try:
            yield from _session(task, federation, witness, ledger, sites, lost)
        except LeftOutError as left_out:
            lost += left_out.lost
            before, sites = sites, tuple(site for site in sites if site not in dict(lost))
            if sites == before:  # who was lost already can't be the reason again
                raise
            try:
                task.config.settings().threshold_for(len(sites))
            except MisuseError:
                raise left_out from None
            told = "; ".join(f"{party} {how}" for party, how in left_out.lost)
            yield Stage(SETUP_ROUND, Lasting(f"{told}: the session begins anew without it"))
        else:
            return


def _session(
    task: Task,
    federation: Federation,
    witness: Witness | None,
    ledger: Ledger,
    sites: tuple[PartyId, ...],
    lost: tuple[Loss, ...],
) -> Iterator[Event]:
    """One session of a fit over these sites, without those who are ``lost``."""
    config = task.config
    answered = surveyed(federation, sites, config, may_begin_anew=config.on_dropout == "continue" and task.past is None)
    extra = helpers(config.protocol)
    keys = keyed(federation, extra)
    agreement, genes = agree(list(answered.values()), config, keys, task.run)
    joined(federation, sites, config, agreement)
    if extra and config.key_bits >= ANNOUNCED_KEY_BITS:
        yield Stage(SETUP_ROUND, f"the {extra[0]} makes a key of {config.key_bits} bits")
    helping = helped(federation, extra, agreement)
    yield from _searches(federation, extra, config.key_bits)
    annotation = annotate(federation, agreement, config.annotation, len(genes))
    yield from (Stage(SETUP_ROUND, Lasting(told)) for told in annotation.left_out.values())
    design = agreement.design(config)
    if not (config.drop_empty and config.contrast_vector):  # one number per column that stays
        reported(config.asked_contrast, config.shrink, design)  # a mistake is told before the first round
    if config.reduced is not None:
        reduced_design(design, config.reduced)
    yield from (Stage(SETUP_ROUND, Lasting(told)) for told in design.told)
    begun = Begun.of(agreement, design, [answered[site] for site in agreement.sites])
    past = task.past or Past(begun, ())
    past.check(begun, [answered[site] for site in agreement.sites])
    yield past.begun
    rounds = SecureRounds(config, federation, agreement, ledger, witness, lost)
    algorithm = agreed_fit(config, design, genes)
    told = [record.told for record in past.records]
    for event in rounds.run(algorithm, past.records):
        if isinstance(event, Finished):
            simulated = tuple(site for site in sites if answered[site].simulated)
            simulated += tuple(name for name in extra if helping[name])
            design = design.without(event.result.dropped)
            outcome = _outcome(config, agreement, design, genes, event.result, past, rounds, tuple(told), simulated)
            yield replace(outcome, annotation=annotation)
            return
        if isinstance(event, Record):
            told.append(event.told)
        yield event


def _outcome(
    config: Config,
    agreement: Agreement,
    design: Design,
    genes: tuple[str, ...],
    fitted: Fitted,
    past: Past,
    rounds: SecureRounds,
    told: tuple[Progress, ...],
    simulated: tuple[PartyId, ...],
) -> Outcome:
    booked = (row for record in past.records for row in record.rows)
    return Outcome(
        fitted=fitted,
        genes=genes,
        design=design,
        rows=(*booked, *rounds.rows),
        rounds=told,
        sites=past.begun.sites,
        session=rounds.session.hex(),
        roster={name: key.hex() for name, key in sorted(agreement.roster.items())},
        claims=claim(config.protocol, len(past.begun.sites), config.settings(), verified=config.lock_step),
        said=agreement.said,
        simulated=simulated,
    )


def _searches(federation: Federation, helper_names: tuple[PartyId, ...], bits: int) -> Iterator[Stage]:
    """Have keys that are found by trying searched for in steps of about a second, and tell how far that is."""
    searching = helper_names
    while searching:
        told: dict[PartyId, Any] = federation.ask("prepare", dict.fromkeys(searching, ()))
        check_present("prepare", searching, told)
        searching = tuple(name for name in searching if told[name] is not None)
        for name in searching:
            match told[name]:
                case [int(tried), int(usual)]:
                    text = f"the {name} makes a key of {bits} bits: {tried:,} candidates tried, {usual:,} are usual"
                    yield Stage(SETUP_ROUND, text)
                case nonsense:
                    raise PartyFaultError(name, "prepare", type(nonsense).__name__)
