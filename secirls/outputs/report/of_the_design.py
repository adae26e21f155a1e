"""What a report says of a design (order of levels, slopes, what was left out), and of what genes are called.

Promises: all of it is public. Refuses to know: how it is shown.
"""

from __future__ import annotations

from secirls.aggregator.aggregator import Outcome
from secirls.config import Config
from secirls.inputs.files.site_columns import OWN_NAME
from secirls.inputs.formulas.labels import label

SLOPES = (
    "Fitted as slopes, for they are numbers: {}. They were centred and scaled for the fit by the report's numbers; "
    "coefficients and errors are per unit of the column as it is in the files."
)

NUMBERED = (
    "{name} holds few whole numbers at every site and is fitted as a slope, the same step from each number to the "
    "next: if they number groups (batch 1, 2, 3), it is a factor; say --levels {name}=1,2,3 or C({name})."
)

OWN_NAMES = "Every sample's {} is the name of the site that has it."

ANNOTATED = (
    "Told of the var columns {}: by every site a digest of its text, or that it has none; and by {} the text itself, "
    "where all sites had signed the same digest."
)

SHOWN_LEVELS = 12


def of_the_design(config: Config, outcome: Outcome) -> list[str]:
    """In which order levels are, what was fitted as a slope, and what was rounded."""
    design, scaled = outcome.design, outcome.fitted.scaled
    told = [
        f"Levels of {name}, reference first: {', '.join(design.levels[name])} ({design.order[name]})."
        for name in design.order
        if len(design.levels[name]) <= SHOWN_LEVELS
    ]
    told += lone_levels(outcome)
    if OWN_NAME in design.levels and all(
        said[OWN_NAME].levels == (label(site),) for site, said in outcome.said.items()
    ):
        told.append(OWN_NAMES.format(OWN_NAME))
    if design.dropped:
        names = ", ".join(design.all_columns[i] for i in design.dropped)
        told.append(f"Dropped from the design, for no sample is in them: {names}.")
    if scaled is not None:
        told.append(SLOPES.format(", ".join(scaled.names)))
        told += numbered(outcome)
    if config.round_counts:
        told.append("Estimated counts were rounded to whole numbers at each site.")
    return told


def lone_levels(outcome: Outcome) -> list[str]:
    """Which levels may be another's, written otherwise at one site."""
    return [f"{told[0].upper()}{told[1:]}." for told in outcome.design.alone]


def numbered(outcome: Outcome) -> list[str]:
    """Which slopes may be those of numbered groups."""
    return [NUMBERED.format(name=factor.expr) for factor in outcome.design.perhaps_groups]


def of_annotation(config: Config, outcome: Outcome) -> list[str]:
    """What sites told of var columns, and why some are left out."""
    if not config.annotation:
        return []
    told = outcome.annotation
    return [ANNOTATED.format(", ".join(map(repr, config.annotation)), outcome.sites[0]), *told.left_out.values()]
