"""A site's file made into samples: which parts of it are read, what names its data, and the arrays of what was agreed.

Promises: nothing is told of a file before the rules were asked; genes and design are those of the site's own
configuration; what does not fit ends in one sentence. Refuses to know: questions, protocols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from protocols.secure_sum import MisuseError, PartyId
from secirls.agreement.agreement import Agreement, genes_digest
from secirls.agreement.order import Place
from secirls.config import Config
from secirls.input_error import InputError, complain
from secirls.inputs.designs.design import Design, variables
from secirls.inputs.files.site_file import Reading, SiteTable, read_site
from secirls.inputs.formulas.formula import parse
from secirls.inputs.formulas.labels import labels
from secirls.inputs.formulas.levels import declared_in
from secirls.numerics.arrays import Floats
from secirls.numerics.held.held_counts import Chosen, held
from secirls.numerics.held.own_columns import Own
from secirls.numerics.held.samples import Samples
from secirls.site.grounds.ground import Ground, open_ground
from secirls.site.grounds.key_files import keyed_digest
from secirls.site.guarding.policy_checks import PolicyChecks


def reading_of(config: Config) -> Reading:
    """Which parts of a site's file a configuration needs."""
    return Reading(
        variables(config.design),
        config.layer,
        config.size_factors,
        config.dispersions,
        config.refit_layer,
        declared_in(config.design, config.levels),
        parse(config.design).factors,
        config.annotation,
        config.round_counts,
    )


def opened(place: Place, config: Config) -> tuple[Ground, SiteTable]:
    """A site's ground and file; what is ordered, and what would be told of the file, is held against the rules.

    Raises `InputError` where the file can't be used, `RefusalError` where the policy does not allow the fit.
    """
    site, ground = place.name, open_ground(place, config)
    checks = PolicyChecks(site, ground.policy)
    checks.check_config(config)
    if ground.study is None:
        checks.check_refit_layer(config)
        checks.check_dispersions(config)
    else:
        ground.study.check_config(site, config)
    checks.check_roster(own=ground.roster is not None)
    try:
        table = read_site(site, ground.source, reading_of(config), shown=ground.file)
    except InputError as error:
        raise ground.aloud(error) from None
    checks.check_samples(table.counts.shape[0])
    checks.check_variables(table.variables, fewest(table))
    return ground, table


def named(site: PartyId, ground: Ground, table: SiteTable) -> bytes:
    """What names the data and tells nobody whether a guess at them is right who lacks the site's key.

    Without a key file the run is a simulation, whose parties are not apart, and the digest is a plain one.
    """
    digest = table.digest()
    return digest if ground.key is None else keyed_digest(site, ground.key, digest)


def fewest(table: SiteTable) -> dict[str, int]:
    """By factor: how many samples its rarest level has."""
    factors = (name for name, variable in table.variables.items() if not variable.numeric)
    return {name: min(Counter(labels(table.obs[name])).values()) for name in factors}


def prepare(table: SiteTable, agreement: Agreement, design: Design, config: Config, site: str) -> Samples:
    """A site's arrays in the agreed gene order, and in the ``design`` that follows from its own configuration.

    Raises `InputError`, `MisuseError` where the agreed genes can't be this site's.
    """
    covariates = design.covariates(table.obs, site)
    try:
        # What the site's own columns make up for is looked for where numeric ones stand near zero.
        shared, own = design.own.split(site, covariates.design(*covariates.at_home()))
        if design.features:
            _, own, shared, _ = covariates.split(*covariates.at_home(), np.zeros(len(design.features)))
    except ValueError as error:
        raise MisuseError(f"site {site} does not agree: {error}") from None
    genes = len(agreement.genes or table.genes)
    samples = Samples(
        shared,
        table.counts,
        table.size_factors,
        table.dispersions,
        replacement=table.replacement,
        group_sizes=design.group_sizes(table.obs),
        own=_own(own, genes, shared.shape[1], config, site, lambda: _told_of_own(agreement, design, site)),
        columns=design.size,
        covariates=covariates if design.features else None,
    )
    if agreement.genes is None:
        if genes_digest(table.genes) != agreement.genes_digest:
            raise complain("has other genes than were agreed", site=site)
        return samples
    position = {gene: i for i, gene in enumerate(table.genes)}
    if config.genes == "identical" or genes_digest(agreement.genes) != agreement.genes_digest:
        raise MisuseError(f"site {site} does not agree: the genes are not those of its configuration")
    if len(set(agreement.genes)) != len(agreement.genes) or not set(agreement.genes) <= set(position):
        raise MisuseError(f"site {site} does not agree: a gene is named twice, or is not in its file")
    order = np.array([position[gene] for gene in agreement.genes], dtype=np.intp)
    return replace(
        samples,
        counts=held(Chosen.of(samples.counts.T, order)),
        replacement=None if samples.replacement is None else held(Chosen.of(samples.replacement.T, order)),
        dispersions=None if samples.dispersions is None else samples.dispersions[order],
    )


def _own(columns: Floats, genes: int, shared: int, config: Config, site: str, told: Callable[[], str]) -> Own | None:
    """A site's own design columns ``(samples, own)``, where it has any.

    Raises `InputError` where they depend, with what is ``told`` of them.
    """
    if not columns.shape[1]:
        return None
    try:
        return Own.of(columns, genes, shared, config.max_beta)
    except ValueError as error:
        raise complain(f"{error}: {told()}", site=site, field="design") from None


def _told_of_own(agreement: Agreement, design: Design, site: str) -> str:
    """A site's own design columns by name, and of which factors it shares no level with anybody: public facts."""
    said = agreement.said
    elsewhere = {
        name: {x for other in said if other != site for x in said[other][name].levels} for name in design.levels
    }
    apart = [name for name in design.levels if not elsewhere[name].intersection(said[site][name].levels)]
    columns = ", ".join(design.all_columns[i] for i in design.own.at(site))
    return columns + (f"; no other site has its levels of {' and '.join(apart)}" if len(apart) > 1 else "")
