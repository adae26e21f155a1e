"""What a fit disclosed and to whom, in plain words that go with every result."""

from __future__ import annotations

from secirls.aggregator.aggregator import Outcome
from secirls.config import Config

AGREED_ROSTER = (
    "Every site signs with a key of its own file and checked the others against the roster agreed beforehand."
)

ONE_RAY = (
    "All actors ran on one Ray cluster, which is one trust domain: whoever runs it can read every actor. This run "
    "simulates the separation of the parties with the real cryptography and the real messages; it does not enforce it."
)

ONE_PROCESS = (
    "All parties ran in one process. This run computes with the real cryptography and the real messages, and "
    "separates nobody from anybody."
)

PUBLIC_FACTS = (
    "In public before the first round: gene names, the names of obs columns in the design, which levels of "
    "them each site holds, and a digest of its data, under its signing key where that is from a file."
)

LEFT_OUT = (
    "Genes with counts at fewer than {} sites were left out after the census, which tells at how many sites, not at "
    "which, a gene has counts."
)

FRESH_ROSTER = (
    "The sites' signing keys were made for this run and collected by the aggregator, so nothing outside this run "
    "vouches for who the sites are."
)


WIDE_SPREAD = 2.3
"""Of the logs of size factors: a factor of ten between samples, as the rule."""

SIMULATED = (
    "This is a simulation: {} were started by whoever ordered the fit, without a ground (site.toml) and a roster of "
    "their own, and follow the simulation policy, which allows everything unless a policy was named for them."
)

LONELY = "Published: the sums of design column {!r} are those of {} alone, in every round."

THIN = "Published: the combination {} has fewer than {} samples over all sites, so sums over it are nearly theirs."

THIN_CELL = 5
"""Combinations of levels with fewer samples over all sites are named."""


def published(config: Config, outcome: Outcome) -> list[str]:
    """Whose own sums the design publishes: columns that few sites have samples in, and thin combinations of levels."""
    design, fitted = outcome.design, outcome.fitted
    could = {site: design.could_hold(said) for site, said in outcome.said.items()}
    told = [
        LONELY.format(design.columns[i], " and ".join(site for site in outcome.sites if could[site][i]))
        for i, sites in enumerate(fitted.column_sites)
        if 0 < sites < config.min_contributors
    ]
    return told + [
        THIN.format(", ".join(f"{name}={level}" for name, level in zip(design.shared, group, strict=True)), THIN_CELL)
        for group, size in zip(design.groups, fitted.group_samples, strict=True)
        if 0 < size < THIN_CELL and design.shared
    ]


def statements(config: Config, outcome: Outcome, engine: str) -> list[str]:
    """Every sentence that must stand beside the results of this fit."""
    kinds = sum_kinds(outcome)
    told = [
        *_who(outcome),
        *outcome.claims,
        PUBLIC_FACTS,
        f"Sums opened: {', '.join(kinds)}.",
        LEFT_OUT.format(config.min_contributors),
        *published(config, outcome),
        *([SIMULATED.format(", ".join(outcome.simulated))] if outcome.simulated else []),
        FRESH_ROSTER if config.roster is None and outcome.simulated else AGREED_ROSTER,
        ONE_RAY if engine == "ray" else ONE_PROCESS,
    ]
    if config.fraction_bits is not None:
        told.append(
            f"Each site's summands of IRLS and the catch were rounded to multiples of 2^-{config.fraction_bits} "
            "(compact profile): results differ from the exact ones in late digits, and a gene whose sums are too large "
            "failed."
        )
    if config.dispersions is None:
        told.append(
            "Dispersions were estimated by the method of moments through secure sums and not shrunken towards a "
            "trend: p-values are those of fixed, rough dispersions."
        )
    scale, spread = outcome.fitted.size_factor_scale, outcome.fitted.size_factor_spread
    if scale != 1.0:
        told.append(
            f"The size factors in obs column {config.size_factors!r} had a geometric mean of {scale:.4g}, far from "
            "one, and were divided by it: base means are those of a sample of average depth."
        )
    if spread > WIDE_SPREAD:
        told.append(
            f"The size factors in obs column {config.size_factors!r} differ by orders of magnitude between samples "
            f"(standard deviation of their logs: {spread:.1f}): if sites brought them in different units, the results "
            "are wrong."
        )
    if config.size_factors is None:
        told.append("Size factors were estimated by median of ratios through secure sums; each stays at its site.")
    return told


def _who(outcome: Outcome) -> list[str]:
    """Who is in the sums; and for everyone who fell silent, since when they are not."""
    lost = [(told, party, how) for told in outcome.rounds for party, how in told.lost]
    if not lost:
        return [f"Sites: {', '.join(outcome.sites)}. Every sum is over all {len(outcome.sites)} of them."]
    told = [f"Sites: {', '.join(outcome.sites)}. Not every sum is over all of them:"]
    for entry, party, how in lost:
        last = "with it for the last time" if party in entry.parties else "without it from then on"
        told.append(
            f"Disclosure: in round {entry.round} site {party} {how}; as was agreed, the fit went on, {last}. Sums "
            f"before and after differ by {party}'s summand and by what all sites' sums changed in a round: the closer "
            "to convergence, the more of that summand can be told from them."
        )
    told.append(
        "Size factors, dispersions and start values are from all sites; genes settled later are from those left."
    )
    return told


def sum_kinds(outcome: Outcome) -> list[str]:
    """Which queries were asked how often, as ``'irls (15 rounds)'``."""
    counts: dict[str, int] = {}
    for told in outcome.rounds:
        counts[told.kind] = counts.get(told.kind, 0) + 1
    return [f"{kind} ({n} round{'s' if n > 1 else ''})" for kind, n in counts.items()]
