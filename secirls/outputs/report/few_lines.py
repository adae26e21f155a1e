"""What a fit disclosed, in a few lines for a terminal: what was opened, and whatever is not so in every fit.

Promises: sums of single sites that were published, and what makes results others than were asked for, stand here in the
words of the full statement. Refuses to know: how it is shown, and what protocols promise.
"""

from __future__ import annotations

from secirls.aggregator.aggregator import Outcome
from secirls.config import Config
from secirls.outputs.report.disclosure import (
    TRUSTED,
    kept_at_home,
    kept_by,
    of_components,
    of_size_factors,
    published,
    unfit,
    who,
)
from secirls.outputs.report.dispersions_and_outliers import of_dispersions, of_the_outliers
from secirls.outputs.report.of_the_design import lone_levels, numbered

IN_THE_CLEAR = "The protocol 'plain' hides nothing: the aggregator saw every site's own numbers."

SIMULATED = "A simulation: whoever ordered the fit started {}, so nobody was separated from anybody."

ONE_PROCESS = "All parties ran in one process, which separates nobody from anybody."

ONE_RAY = "All actors ran on one Ray cluster: whoever runs it can read every actor."

HUB = "Every party ran in a process of its own staff's, and called the hub: who led the fit had its messages alone."

SEPARATION = {"ray": ONE_RAY, "local": ONE_PROCESS, "hub": HUB}
"""What kept the parties apart, by engine."""


def few_lines(config: Config, outcome: Outcome, engine: str) -> list[str]:
    """Sentences on what was opened, over how many samples and genes, and on what is special to this fit."""
    fitted, genes = outcome.fitted, len(outcome.genes)
    each = sum(stage.opened for stage in fitted.stages) / genes
    over, rounds = who(outcome), len(outcome.rounds)
    opened = (
        f"Opened in {rounds:,} rounds: {each:,.1f} numbers a gene, sums of {genes:,} genes and {fitted.n_samples:,} "
        f"samples over {len(outcome.sites)} sites."
    )
    told = [opened]
    told += [IN_THE_CLEAR] if config.protocol == "plain" else [] if config.lock_step else [TRUSTED]
    told += over if len(over) > 1 else []
    told += [*unfit(outcome), *published(config, outcome)]
    if kept := kept_by(outcome.design):
        told += [f"Kept at home: {kept}.", *kept_at_home(outcome)[1:]]
    simulated = [name for name in outcome.simulated if name in outcome.sites]
    if simulated:
        every = len(simulated) == len(outcome.sites)
        told.append(SIMULATED.format("all sites" if every else ", ".join(simulated)))
    else:
        told.append(SEPARATION[engine])
    told += [*outcome.annotation.left_out.values(), *lone_levels(outcome), *numbered(outcome)]
    if fitted.towards is not None:
        told += of_dispersions(outcome, fitted.towards, config.trend)
    told += of_size_factors(config, outcome)
    return told + of_components(config, fitted.components) + of_the_outliers(outcome)
