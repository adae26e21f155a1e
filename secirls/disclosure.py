"""What a fit disclosed and to whom, in plain words that go with every result."""

from __future__ import annotations

from secirls.aggregator import Outcome
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
    "In public before the first round: gene names, the names of obs columns in the design, and which levels of "
    "them each site holds."
)

LEFT_OUT = (
    "Genes with counts at fewer than {} sites were left out after the census, which tells at how many sites, not at "
    "which, a gene has counts."
)

FRESH_ROSTER = (
    "The sites' signing keys were made for this run and collected by the aggregator, so nothing outside this run "
    "vouches for who the sites are."
)


def statements(config: Config, outcome: Outcome, engine: str) -> list[str]:
    """Every sentence that must stand beside the results of this fit."""
    kinds = sum_kinds(outcome)
    told = [
        f"Sites: {', '.join(outcome.sites)}. Every sum is over all {len(outcome.sites)} of them.",
        *outcome.claims,
        PUBLIC_FACTS,
        f"Sums opened: {', '.join(kinds)}.",
        LEFT_OUT.format(config.min_contributors),
        FRESH_ROSTER if config.roster is None else AGREED_ROSTER,
        ONE_RAY if engine == "ray" else ONE_PROCESS,
    ]
    if config.dispersions is None:
        told.append(
            "Dispersions were estimated by the method of moments through secure sums and not shrunken towards a "
            "trend: p-values are those of fixed, rough dispersions."
        )
    if config.size_factors is None:
        told.append("Size factors were estimated by median of ratios through secure sums; each stays at its site.")
    return told


def sum_kinds(outcome: Outcome) -> list[str]:
    """Which queries were asked how often, as ``'irls (15 rounds)'``."""
    counts: dict[str, int] = {}
    for told in outcome.rounds:
        counts[told.kind] = counts.get(told.kind, 0) + 1
    return [f"{kind} ({n} round{'s' if n > 1 else ''})" for kind, n in counts.items()]
