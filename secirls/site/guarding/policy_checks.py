"""A site's policy held against what is ordered, what is asked and what the sites' sums say: each rule where it breaks.

Promises: a refusal names the rule, its value and what broke it in public terms (a design column, a combination of
levels, never a count); whoever reads it learns that the rule is broken, and no more. Refuses to know: when it is asked
(see `Guard`), and the aggregator's reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.secure_sum import PartyId
from secirls.config import Config
from secirls.inputs.designs.design import Design, Variable, variables
from secirls.inputs.designs.ranks import largest_share
from secirls.numerics.algebra.restriction import expressed
from secirls.numerics.arrays import Floats, Mask
from secirls.site.grounds.policy import TUNED, Policy, RefusalError
from secirls.site.grounds.stages import STAGES


@dataclass(frozen=True)
class PolicyChecks:
    """The policy of one site, asked. Every check raises `RefusalError` where a rule is broken."""

    site: PartyId
    policy: Policy

    def refusal(self, rule: str, about: str = "") -> RefusalError:
        """The sentence that a broken rule ends a fit with: its name, its value, and ``about`` what."""
        value = _shown(getattr(self.policy, rule))
        return RefusalError(f"site {self.site!r}: its policy refuses: {rule} is {value}{about and f' ({about})'}")

    # --- what is ordered, before anything is said about the site's file

    def check_config(self, config: Config) -> None:
        """What a fit would read, how it would be fitted, and under which protocol."""
        policy = self.policy
        if config.protocol not in policy.protocols:
            raise self.refusal("protocols")
        if config.min_contributors < policy.min_contributors:
            raise self.refusal("min_contributors")
        asked = (*variables(config.design), *([] if config.size_factors is None else [config.size_factors]))
        for column in asked:
            if policy.variables is not None and column not in policy.variables:
                raise self.refusal("variables", f"obs column {column!r}")
        for column in config.annotation:
            if policy.annotation is not None and column.lower() not in map(str.lower, policy.annotation):
                raise self.refusal("annotation", f"var column {column!r}")
        for layer in (config.layer or "X", config.refit_layer):
            if policy.layers is not None and layer not in (None, *policy.layers):
                raise self.refusal("layers", f"layer {layer!r}")
        tuned = [name for name in TUNED if getattr(config, name) != config.as_preset(name)]
        if tuned and policy.tuning == "refuse":
            raise self.refusal("tuning", ", ".join(f"{name} = {getattr(config, name)}" for name in tuned))
        if config.components:
            self._check_components(config)
        if config.shrink is not None and "shrinkage" in (policy.refused_stages or ()):
            raise self.refusal("refused_stages", f"shrink = {config.shrink!r}")
        if config.on_dropout == "continue" and policy.on_dropout == "abort":
            raise self.refusal("on_dropout")
        if policy.require_consistency and config.protocol == "pairwise" and not config.consistency:
            raise self.refusal("require_consistency")
        if policy.require_lock_step and not config.lock_step:
            raise self.refusal("require_lock_step")

    def _check_components(self, config: Config) -> None:
        if config.components > self.policy.max_components:
            raise self.refusal("max_components")
        if config.sample_share > self.policy.max_sample_share:
            raise self.refusal("max_sample_share")
        most = self.policy.max_directions_per_sample
        if most is not None and config.directions_per_sample > most:
            raise self.refusal("max_directions_per_sample")

    def check_refit_layer(self, config: Config) -> None:
        """Where no study names what is read of the file: whether a layer of replaced counts may be.

        Replaced counts are other counts of the same samples, as those of another fit in another layer are.
        """
        if config.refit_layer is not None and self.policy.layers is None and self.policy.across_fits == "refuse":
            told = f"layer {config.refit_layer!r} has other counts of the same samples, and must be listed for a refit"
            raise self.refusal("layers", told)

    def check_dispersions(self, config: Config) -> None:
        """Where no study names what is read of the file: whether a var column of numbers may be taken for dispersions.

        Any may be called so, such as the sum of each gene's counts; and a digest of it is told, over genes that whoever
        leads may choose, so that the numbers of a few follow by guessing. So it is a column that all may know.
        """
        column, listed = config.dispersions, self.policy.annotation
        if column is not None and listed is not None and column.lower() not in map(str.lower, listed):
            told = f"var column {column!r} is no text, and must be listed, or named in a study, to be dispersions"
            raise self.refusal("annotation", told)

    def check_roster(self, *, own: bool) -> None:
        """Whether the site holds a roster of its ``own``."""
        if self.policy.require_roster and not own:
            raise self.refusal("require_roster", "the site has no roster of its own")

    # --- what the site would tell of its file, and bring into the session

    def check_samples(self, n_samples: int) -> None:
        """Before gene names and levels leave."""
        if n_samples < self.policy.min_samples:
            raise self.refusal("min_samples")

    def check_variables(self, said: Mapping[str, Variable], fewest: Mapping[str, int]) -> None:
        """Before levels leave: ``said`` is what would be told; a factor's rarest level has the ``fewest`` samples."""
        for name, variable in said.items():
            column = f"obs column {name!r}"
            if len(variable.levels) > self.policy.max_levels:
                raise self.refusal("max_levels", column)
            if not variable.numeric and fewest[name] < self.policy.min_samples_per_level:
                raise self.refusal("min_samples_per_level", column)

    def check_design(self, design: Floats, own: int = 0) -> None:
        """Before the session: ``design`` is ``(samples, params)``, ``own`` of its columns are this site's alone."""
        policy, (samples, _) = self.policy, design.shape
        if policy.max_own_per_sample is not None and own > policy.max_own_per_sample * samples:
            raise self.refusal("max_own_per_sample", f"{own} own columns")
        if policy.min_samples_per_cell > 1 and samples:
            _, sizes = np.unique(design, axis=0, return_counts=True)
            if sizes.min() < policy.min_samples_per_cell:
                raise self.refusal("min_samples_per_cell")
        marks = design[:, ((design == 0) | (design == 1)).all(axis=0)]
        if self._largest_share is not None and expressed(marks, np.ones((samples, 1)))[1]:
            told = "without an intercept or a whole factor, sums over all samples are beside those of the design"
            raise self.refusal("max_design_share", told)

    def check_cohort(self, parties: int) -> None:
        """Before a session, before every answer, before every sum is opened and every total looked at."""
        if parties < self.policy.min_sites:
            raise self.refusal("min_sites")

    # --- what the sites' first sums say

    def check_census(
        self, design: Design, census: Mapping[str, Floats], held: Mapping[str, int], apart: Sequence[PartyId] | None
    ) -> None:
        """Once the census is verified; ``held`` says of every level, as ``factor=level``, how many sites have it.

        ``apart`` are those whose own sums follow from all columns, ``None`` where that can't be told: see
        `Design.told_apart`.
        """
        policy, samples, params = self.policy, float(census["samples"][0]), len(design.columns)
        if policy.max_params_per_sample is not None and params > policy.max_params_per_sample * samples:
            raise self.refusal("max_params_per_sample")
        if policy.lonely == "publish":
            return
        few = [f"level {name}" for name, sites in held.items() if 0 < sites < policy.min_contributors]
        few += [
            f"design column {column!r}"
            for column, sites in zip(design.columns, census["column_sites"], strict=True)
            if 0 < sites < policy.min_contributors
        ]
        if few:
            raise self.refusal("min_contributors", _few(few, "at fewer sites"))
        if (apart is None or apart) and policy.min_contributors > 1:
            told = "too many combinations of levels to tell whose sums follow from those of all columns"
            if apart is not None:
                told = f"the sums of {', '.join(apart)} follow from those of all columns"
            raise self.refusal("min_contributors", told)
        cells = design.cells_apart(census["group_sites"], policy.min_contributors)
        if cells:
            raise self.refusal("min_contributors", _few(cells, "at fewer sites"))
        thin = [
            "cell " + ", ".join(f"{factor}={level}" for factor, level in zip(design.shared, group, strict=True))
            for group, size in zip(design.groups, census["group_samples"], strict=True)
            if 0 < size < policy.min_total_samples_per_cell
        ]
        if thin:
            raise self.refusal("min_total_samples_per_cell", _few(thin, "with fewer samples over all sites"))

    def check_share(self, design: Design, some: Floats, every: Floats) -> None:
        """Once X'X is verified: ``some`` of it are this site's samples', both ``(params, params)``."""
        most = self._largest_share
        if most is None:
            return
        share, columns = largest_share(some, every)
        if share > most:
            named = [f"design column {design.columns[i]!r}" for i in columns]
            raise self.refusal("max_design_share", _few(named, "together at this site alone, or nearly"))

    def check_leverage(self, largest: float, about: str = "") -> None:
        """The largest part that one sample of this site has along some combination of design columns."""
        most = self.policy.max_leverage if self.policy.lonely == "refuse" else None
        if most is not None and largest > most:
            told = "some combination of design columns is one sample's of this site, or nearly"
            raise self.refusal("max_leverage", about or told)

    def check_numbers(self, shares: Iterable[tuple[str, float, float]]) -> None:
        """Before X'X of numeric columns is opened: this site's share of each, by name; see `NumberShares`."""
        most, known = self._largest_share, list(shares)
        alone = [] if most is None else [f"design column {name!r}" for name, share, _ in known if share > most]
        if alone:
            raise self.refusal("max_design_share", _few(alone, "it varies at this site alone, or nearly"))
        for name, _, sample in known:
            self.check_leverage(
                sample, f"design column {name!r}: it varies in one sample of this site alone, or nearly"
            )

    # --- before an answer

    def check_question(self, kind: str) -> None:
        """Whether this kind of question is answered, and the stage of a fit that it belongs to."""
        if self.policy.queries is not None and kind not in self.policy.queries:
            raise self.refusal("queries")
        for stage in self.policy.refused_stages or ():
            if kind in STAGES[stage]:
                raise self.refusal("refused_stages", f"question {kind!r}")

    def check_genes(self, asked: Mask, presence: Floats) -> None:
        """No gene is asked about that too few sites have counts for; both ``(genes,)``."""
        if (asked & (presence < self.policy.min_contributors)).any():
            raise self.refusal("min_contributors", "a gene that fewer sites have counts for")

    def check_left(self, contributors: float) -> None:
        """After sites fell silent: at so many of those left any gene that is asked about has counts, at least."""
        if contributors < self.policy.min_contributors:
            raise self.refusal("min_contributors", "a gene that fewer of the sites left may have counts for")

    def check_sample_share(self, share: float) -> None:
        """What a question sets as the largest part that one sample may have in what is opened."""
        if share > self.policy.max_sample_share:
            raise self.refusal("max_sample_share")

    def check_budget(self, answered: int, told: NDArray[np.int64]) -> None:
        """After ``answered`` other questions; so many numbers of each gene will have left, ``(genes asked,)``."""
        policy = self.policy
        if policy.max_rounds is not None and answered >= policy.max_rounds:
            raise self.refusal("max_rounds")
        if policy.max_values_per_gene is not None and told.max(initial=0) > policy.max_values_per_gene:
            raise self.refusal("max_values_per_gene")

    def check_directions(self, directions: int, degrees: float | None) -> None:
        """So many directions will have been multiplied, of samples less sites (``None``: not known)."""
        most = self.policy.max_directions_per_sample
        if directions and most is not None and (degrees is None or directions > most * degrees):
            raise self.refusal("max_directions_per_sample")

    # --- before counts are summed over size factors

    def check_columns(self, columns: int, samples: float) -> None:
        """So many different columns will have been summed with in all fits about this data, over so many samples."""
        most = self.policy.max_params_per_sample
        if most is not None and columns > most * samples:
            raise self.refusal("max_params_per_sample", f"{columns} design columns in all fits of this data")

    def check_likeness(self, few_differ: int, other_own: int) -> None:
        """To so many earlier fits of this data the columns are too like: see `Likeness`."""
        if few_differ >= (self.policy.max_fits or 1):
            told = "design columns or size factors, but for a few of this site's samples, are those of an earlier fit"
            raise self.refusal("min_difference", told)
        if other_own >= (self.policy.max_fits or 1):
            told = "an earlier fit had the same design columns beside other own ones: together they tell sums of sites"
            raise self.refusal("across_fits", told)

    def check_sizes(self, whole: float, sample: float, along: float) -> None:
        """How much of sums of 1 / s^2 may be the ``whole`` site's, one ``sample``'s, and one's ``along`` columns.

        See `size_shares`.
        """
        if self.policy.max_size_factor_share is not None and sample > self.policy.max_size_factor_share:
            raise self.refusal("max_size_factor_share", "the smallest size factor")
        if self._largest_share is not None and whole > self._largest_share:
            raise self.refusal("max_design_share", "size factors smaller than elsewhere")
        self.check_leverage(along, "the smallest size factors, beside design columns")

    @property
    def _largest_share(self) -> float | None:
        """The largest part of a sum that may be this site's; ``None`` where sums of its own are published."""
        return self.policy.max_design_share if self.policy.lonely == "refuse" else None


def _shown(value: object) -> object:
    """A rule's value as a site's staff wrote it, or nearly."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else value


def _few(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown}: {what}"
