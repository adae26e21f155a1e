"""The aggregator: it leads a fit from the sites' public facts to coefficients, and opens only sums.

Promises: every gene ends with a status; what it hands out is public by construction.
Refuses to know: Ray, any site's samples, and any key that could open one site's answer.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols import fixed_point
from protocols.choice import helpers
from protocols.claims import claim
from protocols.secure_sum import PartyId
from protocols.session import Roster
from secirls.agreement import Agreement, Facts, agree, check_dispersions
from secirls.catch import catch
from secirls.checkpoint import Begun, Past
from secirls.config import Config
from secirls.dispersions import moments_dispersions
from secirls.input_error import InputError, complain
from secirls.inputs.design import Design, dependent_columns
from secirls.irls import IrlsConfig, IrlsQuery, State, irls, least_squares_start, lost
from secirls.ledger import SETUP_ROUND, Ledger, Row
from secirls.normalisation import CensusQuery, NoCommonGeneError, Normalisation, normalise
from secirls.numerics.samples import Floats, Mask
from secirls.numerics.status import Status
from secirls.quasi_newton import CatchConfig
from secirls.query import EXACT, Algorithm, Query, Total
from secirls.record import Finished, Opening, Progress, Record, Stage
from secirls.refit import refit
from secirls.rounds import Federation, PartyFaultError, SecureRounds, Witness

ANNOUNCED_KEY_BITS = 2048
"""Keys of this length take seconds to make, up to a minute where they are to be shared."""


@dataclass(frozen=True)
class Fitted:
    """What the algorithm ends with, over all agreed genes."""

    state: State
    base_means: Floats
    """Mean of y / s over all samples, ``(genes,)``; zero for all-zero genes, NaN for those left out."""
    dispersions: Floats | None = field(repr=False)
    """Estimated alpha ``(genes,)``; ``None`` where the sites brought their own."""
    information: Floats = field(repr=False)
    """Upper triangles of X'WX for standard errors, ``(genes, params (params + 1) / 2)``."""
    contributors: Floats = field(repr=False)
    """At how many sites a gene has any count, ``(genes,)``."""
    n_samples: int


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


Event: TypeAlias = Begun | Stage | Opening | Record | Outcome
"""What a fit tells whoever ordered it: one at first, one record per round and what precedes it, one at last."""


def lead(
    config: Config, federation: Federation, run: str, past: Past | None = None, witness: Witness | None = None
) -> Iterator[Event]:
    """Lead one fit over a federation, from its beginning or on from its ``past``, under a witness where there is one.

    Raises `InputError` where files, design or counts can't be used.
    """
    fixed_point.warm_up()  # loading what is compiled is no round's cost
    sites = federation.sites
    answered: dict[PartyId, Facts] = federation.ask("survey", dict.fromkeys(sites, ()))
    check_present(sites, answered)
    extra = helpers(config.protocol)
    keys: dict[PartyId, bytes] = federation.ask("key", dict.fromkeys(extra, ()))
    check_present(extra, keys)
    agreement, genes = agree(list(answered.values()), config, keys, run)
    joined: dict[PartyId, bytes] = federation.ask("join", dict.fromkeys(sites, (agreement,)))
    check_present(sites, joined)
    if config.dispersions is not None:
        check_dispersions(joined)
    if extra and config.key_bits >= ANNOUNCED_KEY_BITS:
        yield Stage(SETUP_ROUND, f"the {extra[0]} makes a key of {config.key_bits} bits")
    check_present(extra, federation.ask("join", {name: (dict(agreement.roster),) for name in extra}))
    yield from _searches(federation, extra, config.key_bits)
    if past is not None:
        past.check(agreement)
    yield from _rounds(config, federation, run, agreement, genes, past or Past(Begun.of(agreement), ()), witness)


def _rounds(
    config: Config,
    federation: Federation,
    run: str,
    agreement: Agreement,
    genes: tuple[str, ...],
    past: Past,
    witness: Witness | None,
) -> Iterator[Event]:
    yield past.begun
    ledger = Ledger(run, config.protocol)
    roster = Roster(agreement.roster)
    rounds = SecureRounds(config, federation, roster, ledger, witness)
    told = [record.told for record in past.records]
    booked = [row for record in past.records for row in record.rows]
    algorithm = fit(config, agreement.design, len(genes), _refit_genes(config, genes))
    for event in rounds.run(algorithm, past.records):
        if isinstance(event, Stage | Opening):
            yield event
            continue
        if not isinstance(event, Finished):
            told.append(event.told)
            yield event
            continue
        yield Outcome(
            event.result,
            genes,
            agreement.design,
            (*booked, *ledger.rows),
            tuple(told),
            past.begun.sites,
            rounds.session.hex(),
            {name: key.hex() for name, key in sorted(agreement.roster.items())},
            claim(config.protocol, len(past.begun.sites), config.settings()),
        )


def _searches(federation: Federation, helper_names: tuple[PartyId, ...], bits: int) -> Iterator[Stage]:
    """Have keys that are found by trying searched for in steps of about a second, and tell how far that is."""
    searching = helper_names
    while searching:
        told: dict[PartyId, Any] = federation.ask("prepare", dict.fromkeys(searching, ()))
        check_present(searching, told)
        searching = tuple(name for name in searching if told[name] is not None)
        for name in searching:
            match told[name]:
                case [int(tried), int(usual)]:
                    text = f"the {name} makes a key of {bits} bits: {tried:,} candidates tried, {usual:,} are usual"
                    yield Stage(SETUP_ROUND, text)
                case nonsense:
                    raise PartyFaultError(name, "prepare", type(nonsense).__name__)


def check_present(names: tuple[PartyId, ...], answers: Mapping[PartyId, Any]) -> None:
    """Raise what a party raised before the session began, or `InputError` naming who did not answer."""
    for name in names:
        if isinstance(answers.get(name), Exception):
            raise answers[name]
    silent = [name for name in names if name not in answers]
    if silent:
        raise complain("did not answer, so the session can't begin", site=", ".join(silent))


def _refit_genes(config: Config, genes: tuple[str, ...]) -> Mask | None:
    """Which of the agreed genes are fitted again, ``(genes,)``. Raises `InputError` for one that is not there."""
    if not config.refit_genes:
        return None
    position = {gene: i for i, gene in enumerate(genes)}
    for gene in config.refit_genes:
        if gene not in position:
            raise InputError(f"refit_genes names {gene!r}, which is not among the {len(genes)} agreed genes")
    mask = np.zeros(len(genes), dtype=bool)
    mask[[position[gene] for gene in config.refit_genes]] = True
    return mask


def fit(config: Config, design: Design, n_genes: int, again: Mask | None = None) -> Generator[Query, Total, Fitted]:
    """The whole fit as one algorithm: census, normalisation, dispersions, IRLS, the catch, the refit.

    ``again`` marks the genes to refit on the second layer of counts, ``(genes,)``.
    Raises `InputError` for a rank-deficient design or counts that can't be normalised.
    """
    columns = design.columns
    total = yield CensusQuery(np.ones(n_genes, dtype=bool), len(columns))
    n_samples, contributors, xtx = float(total["samples"][0]), total["presence"], total["xtx"]
    _check_design(xtx, columns, n_samples)
    status = _eligible(contributors, config.min_contributors)
    genes = status == Status.ACTIVE
    if not genes.any():
        raise InputError(f"no gene has counts at {config.min_contributors} or more sites: there is nothing to fit")
    normalisation = yield from _normalise(genes, len(columns), n_samples, config)
    dispersions = None
    if config.dispersions is None:
        if n_samples <= len(columns):
            raise InputError(
                f"{n_samples:.0f} samples and {len(columns)} design columns leave nothing to estimate dispersions "
                "from: name a var column that holds them"
            )
        alpha = yield from moments_dispersions(genes, xtx, n_samples, normalisation)
        dispersions = np.full(n_genes, np.nan)
        dispersions[genes] = alpha
    plan = irls_plan(config)
    state = yield from least_squares_start(status, len(columns), plan)
    state = yield from irls(state, plan)
    state = yield from catch(state, catch_plan(config))
    if again is not None:
        state = yield from refit(
            state, again, lambda sites: _eligible(sites, config.min_contributors), plan, catch_plan(config)
        )
    information = state.xtwx
    if config.se == "unclamped":
        information = yield from unclamped_information(state)
    base_means = np.where(status == Status.ALL_ZERO, 0.0, np.nan)
    base_means[genes] = normalisation.base_means
    return Fitted(state, base_means, dispersions, information, contributors, int(n_samples))


def unclamped_information(state: State) -> Algorithm[Floats]:
    """X'WX at the final beta without the clamp, as PyDESeq2 takes it for standard errors; NaN for genes not fitted."""
    information = np.full_like(state.xtwx, np.nan)
    genes = state.fitted
    if genes.any():
        total = yield IrlsQuery(genes, state.beta[genes], 0.0)
        gone = lost(total["nll"], len(total.cohort))
        information[genes] = np.where(gone[:, None], np.nan, total["xtwx"])
    return information


def irls_plan(config: Config) -> IrlsConfig:
    """How IRLS runs under this configuration."""
    plan = config.min_mu, config.beta_tol, config.max_beta, config.ridge, config.max_iter
    return IrlsConfig(*plan, config.fraction_bits or EXACT)


def catch_plan(config: Config) -> CatchConfig:
    """How the catch runs: clamped as IRLS is, except in the ``fedpydeseq2`` preset."""
    bits = config.fraction_bits or EXACT
    if config.preset == "fedpydeseq2":
        return replace(CatchConfig.fedpydeseq2(), max_beta=config.max_beta, ridge=config.ridge, fraction_bits=bits)
    return CatchConfig(min_mu=config.min_mu, max_beta=config.max_beta, ridge=config.ridge, fraction_bits=bits)


def _eligible(contributors: Floats, least: int) -> NDArray[np.int8]:
    """The status each gene starts with, from the number of sites that have counts for it."""
    status: NDArray[np.int8] = np.full(contributors.shape, Status.ACTIVE, dtype=np.int8)
    status[contributors < least] = Status.TOO_FEW_SITES
    status[contributors == 0] = Status.ALL_ZERO
    return status


def _check_design(xtx: Floats, columns: tuple[str, ...], n_samples: float) -> None:
    groups = dependent_columns(xtx, columns)
    if groups:
        named = "; ".join(", ".join(group) for group in groups)
        raise InputError(
            f"the design is rank-deficient over all {n_samples:.0f} samples: "
            f"these columns are zero or depend on each other: {named}"
        )


def _normalise(genes: Mask, params: int, n_samples: float, config: Config) -> Generator[Query, Total, Normalisation]:
    try:
        result = yield from normalise(genes, params, n_samples, own_size_factors=config.size_factors is not None)
    except NoCommonGeneError as error:
        raise InputError(f"{error}: name an obs column that holds size factors") from None
    return result
