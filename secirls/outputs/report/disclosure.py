"""What a fit disclosed and to whom, in plain words that go with every result."""

from __future__ import annotations

from secirls.aggregator.aggregator import Outcome
from secirls.algorithms.components.principal_components import Components
from secirls.algorithms.fitted import StageCost
from secirls.config import Config
from secirls.inputs.designs.design import Design
from secirls.outputs.report.dispersions_and_outliers import THIN_CELL, TREND_WITHOUT, of_dispersions, of_outliers
from secirls.outputs.report.of_the_design import of_annotation, of_the_design

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

HUB = (
    "Every party ran in a process that its own staff started, with its own file, and called the hub over TLS: who led "
    "the fit had its messages, and no way into its process."
)

SEPARATION = {"ray": ONE_RAY, "local": ONE_PROCESS, "hub": HUB}
"""What kept the parties apart, by engine."""

PUBLIC_FACTS = (
    "In public before the first round: gene names, the names of obs columns in the design, which levels of "
    "them each site holds, of numbers whether they are whole and few there, and a digest of its data, under its "
    "signing key where that is from a file."
)

FEW_COUNTS = (
    "Genes whose counts over size factors add up to less than {:g} over all samples were left out of everything after "
    "that sum; dispersions, their trend and adjusted p-values are those of the others."
)
LEFT_OUT = (
    "Genes with counts at fewer than {} sites were left out after the census, which tells at how many sites, not at "
    "which, a gene has counts."
)

FRESH_ROSTER = (
    "The sites' signing keys were made for this run and collected by the aggregator, so nothing outside this run "
    "vouches for who the sites are."
)


LOCK_STEP = (
    "Every site ran the algorithm itself and answered no question but its next, which follows from the agreement and "
    "from totals that it had checked."
)

TRUSTED = (
    "The aggregator was trusted to ask what the algorithm asks: the sites answered whatever their rules allow, and "
    "questions that somebody chooses for it can single out samples."
)

UNFIT = (
    "In round {}, {} did not fit: the sum was opened without. Nobody can be named: whoever passed a share on may have "
    "changed it, and whoever dealt it may have dealt it so."
)

WIDE_SPREAD = 2.3
"""Of the logs of size factors: a factor of ten between samples, as the rule."""

SIMULATED = (
    "This is a simulation: {} were started by whoever ordered the fit, without a ground (site.toml) and a roster of "
    "their own, and follow the simulation policy, which allows everything unless a policy was named for them."
)

SIMULATED_HELPER = (
    "The {} was started by whoever ordered the fit, without a ground and a roster of its own: it took whatever roster "
    "and length of key it was told."
)

LONELY = "Published: the sums of design column {!r} are those of {} alone, in every round."

FOLLOWING = (
    "Published: the sums of {} alone follow too, in every round: they are what the columns of the other sites leave of "
    "sums over all."
)

THIN = "Published: the combination {} has fewer than {} samples over all sites, so sums over it are nearly theirs."

CELL_APART = "Published: the sums of {} follow in every round, and fewer than {} sites have samples in it."

SHOWS = {
    "census": "at how many sites a gene is counted, samples, and X'X",
    "empty columns": "how many sites were told which columns of the design no sample is in",
    "covariates": "sums of every numeric column and of its square, and X'X of the columns so centred and scaled",
    "size factors": "logs of counts and normalised counts, summed over all samples",
    "moments": "each gene's variance, and its excess over a linear fit",
    "cells": "how many samples share a row of the design, at how many sites, and how their size factors spread",
    "means": "as for coefficients, at the dispersions that are started from",
    "profile": "each gene's likelihood and information at some fifty dispersions: a function of its pooled counts",
    "handing out": "at how many sites dispersions arrived",
    "coefficients": "score and likelihood at each iteration, and information where the cells do not tell it",
    "outliers": "numbers of samples above public thresholds, in genes that may have an outlier",
    "shrinkage": "information, score and likelihood without a floor under the means, at each step from two places",
    "components": (
        "each gene's variance within sites on the scale of VST, in which genes it is mostly one sample's, and how the "
        "most variable genes vary together along few directions"
    ),
    "own coefficients": "how many sites were told where the fit ended, for what they keep at home",
    "likelihood ratio": (
        "two likelihoods of each gene, and information, score and likelihood at each iteration of the smaller design"
    ),
    "refit": "moments, profile and coefficients of the genes whose outliers were replaced, once more",
}
"""What the sums of a stage show, in words."""

COMPONENTS = (
    "For principal components, how {} genes vary and vary together over all samples is known along {} direction{} of "
    "the {} that the samples have within their sites. Along all of them the samples' values would be known up to a "
    "rotation. No sample makes up more than {:g} of what was opened along any direction, as its site saw to, and no "
    "site's mean is in it. Scores are made nowhere but at the sites."
)

SHORT_OF = "They are not to be taken to the digit: {}, at an estimated angle of {:.1g} to those of the pooled data."

NO_COMPONENTS = "Principal components were asked for, and there are none: {}."

IN_ALL = "In all {:,.1f} numbers a gene were opened over {} samples, {} than the gene has counts."

GIVEN_MEANS = (
    "In the worst case that was found (experiment leakage), whoever also knew every fitted mean and size factor "
    "recovered from a profile the counts that a gene has over all samples, {}; and whose they are, where he knew whose "
    "each mean is. In the sums alone they are no site's."
)

FROM_SUMS = (
    "Counts are whole numbers and sums are told to every digit: of 21 real samples, sums over size factors alone told "
    "every size factor, and with these each sample's counts in 99.9 % of genes with means below 2; not whose they are."
)

MEAN_COUNTS = ("below 2", "from 2 to 10", "from 10 to 50", "above 50")
RECOVERED = {100: (43, 0, 0, 0), 30: (55, 0, 0, 0), 12: (100, 33, 2, 0), 0: (100, 100, 87, 50)}
"""In how many genes of these mean counts, in percent, from so many samples on: at 100, 30, 12; the more of 6 and 8."""

BY_SITE = (
    "In the worst case that was found (experiment leakage), sums of one site alone gave every count of it, each with "
    "its sample; it had one sample of each condition."
)


KEPT = (
    "Kept at home: {}. Their coefficients and sums are in nothing that was opened, and every sum is the same whichever "
    "site has which data: none can be attributed to a site that adds to all of the other columns."
)

ADDS_NOTHING = "{} adds nothing to the coefficients: its own columns make up for every column of the table."


def kept_at_home(outcome: Outcome) -> list[str]:
    """Which design columns are one site's own and stay there, and who so adds nothing to the others."""
    design = outcome.design
    if not design.own.of:
        return []
    adding_nothing = design.own.adding_nothing
    nothing = [ADDS_NOTHING.format(site) for site in outcome.sites if site in adding_nothing]
    return [KEPT.format(kept_by(design)), *nothing]


def kept_by(design: Design) -> str:
    """Which design columns are whose own, by site; nothing where none are."""
    named = [
        f"{', '.join(design.all_columns[i] for i in columns[:3])}"
        f"{f' and {len(columns) - 3} more' if len(columns) > 3 else ''} at {site}"
        for site, columns in design.own.of.items()
    ]
    return "; ".join(named)


def published(config: Config, outcome: Outcome) -> list[str]:
    """Whose own sums the design publishes: columns that few sites have samples in, and thin combinations of levels."""
    design, fitted = outcome.design, outcome.fitted
    could = {site: design.could_hold(said) for site, said in outcome.said.items()}
    holders = {
        name: [site for site in outcome.sites if could[site][i] and (not design.own.of or site in design.own.adding[i])]
        for i, name, sites in zip(design.at_the_table, design.columns, fitted.column_sites, strict=True)
        if 0 < sites < config.min_contributors
    }
    told = [LONELY.format(name, " and ".join(sites)) for name, sites in holders.items()]
    alone = {site for sites in holders.values() if len(sites) == 1 for site in sites}
    told += [FOLLOWING.format(site) for site in design.told_apart(outcome.said) or () if site not in alone]
    if design.shared and not told:
        cells = design.cells_apart(fitted.group_sites, config.min_contributors)
        told += [CELL_APART.format(cell, config.min_contributors) for cell in cells]
    return told + [
        THIN.format(", ".join(f"{name}={level}" for name, level in zip(design.shared, group, strict=True)), THIN_CELL)
        for group, size in zip(design.groups, fitted.group_samples, strict=True)
        if 0 < size < THIN_CELL and design.shared
    ]


def statements(config: Config, outcome: Outcome, engine: str) -> list[str]:
    """Every sentence that must stand beside the results of this fit."""
    kinds = sum_kinds(outcome)
    fitted, sites = outcome.fitted, [name for name in outcome.simulated if name in outcome.sites]
    told = [
        *who(outcome),
        *unfit(outcome),
        *outcome.claims,
        LOCK_STEP if config.lock_step else TRUSTED,
        PUBLIC_FACTS,
        *of_annotation(config, outcome),
        f"Sums opened: {', '.join(kinds)}.",
        LEFT_OUT.format(config.min_contributors),
        *([FEW_COUNTS.format(config.min_total_count)] if config.min_total_count else []),
        *kept_at_home(outcome),
        *published(config, outcome),
        *([SIMULATED.format(", ".join(sites))] if sites else []),
        *(SIMULATED_HELPER.format(name) for name in outcome.simulated if name not in sites),
        FRESH_ROSTER if config.roster is None and sites else AGREED_ROSTER,
        SEPARATION[engine],
    ]
    told += of_the_design(config, outcome)
    if config.fraction_bits is not None:
        told.append(
            f"Each site's summands of IRLS and the catch were rounded to multiples of 2^-{config.fraction_bits} "
            "(compact profile): results differ from the exact ones in late digits, and a gene whose sums are too large "
            "failed."
        )
    told += [_stage(stage, outcome) for stage in fitted.stages]
    told.append(_worst_case(outcome))
    if fitted.towards is not None:
        told.append(TREND_WITHOUT.format(config.min_contributors))
        told += of_dispersions(outcome, fitted.towards, config.trend)
    elif config.dispersions is None:
        told.append(
            "Dispersions were estimated by the method of moments through secure sums and not shrunken towards a "
            "trend: p-values are those of fixed, rough dispersions."
        )
    told += of_size_factors(config, outcome)
    if config.size_factors is None:
        way = "median of ratios" if config.size_factor_type == "ratio" else "positive counts (poscounts)"
        told.append(f"Size factors were estimated by {way} through secure sums; each stays at its site.")
    return told + of_components(config, fitted.components) + of_outliers(config, outcome)


def of_size_factors(config: Config, outcome: Outcome) -> list[str]:
    """What is to be said of size factors that sites brought."""
    told = []
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
    return told


def of_components(config: Config, components: Components | None) -> list[str]:
    """What is to be said of principal components."""
    if components is None:
        return []
    many, told = components.directions, []
    if many:
        genes, degrees = components.among, components.degrees
        told = [COMPONENTS.format(genes, many, "s"[: many != 1], degrees, config.sample_share)]
    if not components.loadings.size:
        return [*told, NO_COMPONENTS.format(components.why)]
    close = components.angle <= config.component_tolerance
    return told if close else [*told, SHORT_OF.format(components.ending, components.angle)]


def _stage(stage: StageCost, outcome: Outcome) -> str:
    """What one stage opened, and over whom, if not over all sites."""
    genes = len(outcome.genes)
    over = "" if set(stage.parties) == set(outcome.sites) else f", not all over more than {', '.join(stage.parties)}"
    each = (
        f"{stage.opened / genes:,.1f} numbers a gene"
        if stage.opened >= genes
        else f"{stage.opened:,} number{'s' if stage.opened > 1 else ''}"
    )
    shows = f": {SHOWS[stage.name]}" if stage.name in SHOWS else ""
    rounds = f"{stage.rounds} round{'s' if stage.rounds > 1 else ''}"
    return f"Stage {stage.name!r} opened {each} in {rounds}{over}{shows}."


def _worst_case(outcome: Outcome) -> str:
    """How many numbers a gene were opened beside how many counts it has, and what followed in the experiment."""
    stages, n = outcome.fitted.stages, outcome.fitted.n_samples
    each = sum(stage.opened for stage in stages) / len(outcome.genes)
    told = IN_ALL.format(each, n, "more" if each > n else "no more")
    if any(stage.name == "size factors" for stage in stages):
        told = f"{told} {FROM_SUMS}"
    if outcome.design.told_apart(outcome.said):
        return f"{told} {BY_SITE}"
    if any(stage.name == "profile" for stage in stages):
        shares = next(shares for least, shares in RECOVERED.items() if n >= least)
        genes = [
            f"{share} % of genes with means {mean}" for share, mean in zip(shares, MEAN_COUNTS, strict=True) if share
        ]
        return f"{told} {GIVEN_MEANS.format('in ' + ', '.join(genes))}"
    return told


def who(outcome: Outcome) -> list[str]:
    """Who is in the sums; and for everyone who fell silent, since when they are not."""
    every = [(told, party, how) for told in outcome.rounds for party, how in told.lost]
    left_out = [
        f"Before the first round {party} {how}; as was agreed, the fit began anew without it: it is in no sum."
        for _, party, how in every
        if party not in outcome.sites
    ]
    lost = [entry for entry in every if entry[1] in outcome.sites]
    if not lost:
        return [f"Sites: {', '.join(outcome.sites)}. Every sum is over all {len(outcome.sites)} of them.", *left_out]
    told = [f"Sites: {', '.join(outcome.sites)}. Not every sum is over all of them:", *left_out]
    for entry, party, how in lost:
        last = "with it for the last time" if party in entry.parties else "without it from then on"
        told.append(
            f"Disclosure: in round {entry.round} site {party} {how}; as was agreed, the fit went on, {last}. Sums "
            f"before and after differ by {party}'s summand and by what all sites' sums changed in a round: the closer "
            "to convergence, the more of that summand can be told from them."
        )
    told.append(
        "Size factors, dispersions and start values are from all sites; genes settled later are from those left."
        if outcome.fitted.towards is None
        else "Size factors and moments are from all sites; what was settled later, dispersions too, from those left."
    )
    return told


def unfit(outcome: Outcome) -> list[str]:
    """In which rounds shares were false."""
    return [
        UNFIT.format(told.round, "one share" if told.unfit == 1 else f"{told.unfit} shares")
        for told in outcome.rounds
        if told.unfit
    ]


def sum_kinds(outcome: Outcome) -> list[str]:
    """Which queries were asked how often, as ``'irls (15 rounds)'``."""
    counts: dict[str, int] = {}
    for told in outcome.rounds:
        counts[told.kind] = counts.get(told.kind, 0) + 1
    return [f"{kind} ({n} round{'s' if n > 1 else ''})" for kind, n in counts.items()]
