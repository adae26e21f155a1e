"""What a site agrees to answer: its own rules, in its own file, checked in its own process.

Promises: a refusal names the rule, its value and what broke it in public terms (a design column, a combination of
levels, never a count); whoever reads it learns that the rule is broken, and no more. A site without a policy of its
own has the default one, never none. Refuses to know: the aggregator's reasons.
The thresholds are modelled on DataSHIELD's ``nfilter`` options (Gaye et al. 2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator

from protocols.choice import NAMES
from protocols.secure_sum import MINIMUM_PARTIES, PartyId
from secirls.config import Config
from secirls.frozen import Frozen
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, Variable, variables
from secirls.inputs.designs.ranks import largest_share
from secirls.inputs.files.text_file import read_toml
from secirls.numerics.algebra.restriction import expressed
from secirls.numerics.arrays import Floats, Mask
from secirls.site.grounds.stages import STAGES

Lonely = Literal["refuse", "publish"]

TUNED = ("min_mu", "max_beta", "ridge", "beta_tol", "max_iter")
"""Numbers of a configuration that steer where likelihoods are looked at."""


class RefusalError(InputError):
    """A site's policy does not allow what was asked. Ends a fit, whatever happens when a site is silent."""


class Rules(Frozen):
    """Rules in somebody's own file. A value of another kind is refused: ``true`` is not 1, ``"no"`` not false."""

    model_config = ConfigDict(strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_read(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Policy(Rules):
    """One site's rules. Those not set are the default policy's, or in a simulation its own; see `SIMULATION`."""

    min_sites: int = Field(default=MINIMUM_PARTIES, ge=MINIMUM_PARTIES)
    """In every sum this site is part of."""
    min_contributors: int = Field(default=3, ge=1)
    """Sites with counts, for every gene that is asked about; and sites with samples, for every level of a factor
    and every design column that more than one site could share."""
    min_samples: int = Field(default=5, ge=0)
    """Below this the site takes no part."""
    min_samples_per_level: int = Field(default=3, ge=0)
    """Of this site, for every level it holds of a shared factor; levels with fewer are never told."""
    min_samples_per_cell: int = Field(default=0, ge=0)
    """Of this site, for every distinct row of its design matrix; a numeric variable makes cells of one."""
    min_total_samples_per_cell: int = Field(default=5, ge=0)
    """Of all sites, for every combination of levels of shared factors that anybody has."""
    max_design_share: float | None = Field(default=0.99, gt=0)
    """Of this site, and so of each of its samples, in X'X along any combination of the table's columns: where it is all
    there is, the same combination of opened sums is its own."""
    max_size_factor_share: float | None = Field(default=0.9, gt=0)
    """Of one of this site's samples in the sum of squares of one over size factors: what so small a one divides stands
    out of every sum."""
    lonely: Lonely = "refuse"
    """What to do about design columns, levels and cells that break the rules above: refuse the fit, or publish
    sums that are one site's own or nearly so."""
    max_params_per_sample: float | None = Field(default=0.33, gt=0)
    """Design columns over samples of all sites (DataSHIELD's ``nfilter.glm``); those of one fit, and all different ones
    of all fits about the same data: as many as samples would tell each sample."""
    max_own_per_sample: float | None = Field(default=0.67, gt=0)
    """This site's own design columns over its samples: the closer to one, the less of it is in any sum."""
    write_own: bool = False
    """Whether coefficients of this site's own design columns are written beside its data file, as ``FILE.own.csv``."""
    max_rounds: int | None = Field(default=1_000, ge=1)
    """Questions answered about the same data, in all sessions; one that is asked again is not counted again."""
    max_values_per_gene: int | None = Field(default=5_000, ge=1)
    """Numbers that leave about one gene of the same data, in all sessions."""
    tuning: Literal["refuse", "allow"] = "refuse"
    """Whether a fit may have the numbers of `TUNED` otherwise than its preset: they say where fits are looked at, and
    fits that differ by them single out samples by their means."""
    max_components: int = Field(default=0, ge=0)
    """Principal components over all sites that a fit may ask for; see `components.principal_components`."""
    max_directions_per_sample: float | None = Field(default=0.2, gt=0)
    """Directions multiplied for them, in all sessions about the same data, over samples of all sites less the sites."""
    max_sample_share: float = Field(default=0.5, gt=0, le=1)
    """What a fit may set as the largest part that one sample has in what is opened for them: what is more this site
    does not send, without a word."""
    max_levels: int = Field(default=32, ge=1)
    """Columns with more levels are never told."""
    variables: tuple[str, ...] | None = None
    """obs columns that a fit may use, for levels or as size factors; any that follow the rules above if not given."""
    annotation: tuple[str, ...] | None = (
        *("symbol", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "feature_name"),
        *("hgnc_symbol", "mgi_symbol", "gene_id", "gene_ids", "ensembl_id", "entrez_id", "entrezgene", "uniprot_id"),
        *("description", "chr", "chrom", "chromosome", "strand", "genome"),
        *("biotype", "gene_biotype", "gene_type", "feature_type", "feature_types"),
    )
    """var columns, in upper or lower case, whose text is told where all sites have it alike."""
    layers: tuple[str, ...] | None = None
    """AnnData layers that a fit may read, ``X`` among them by that name; any but a refit layer if not given."""
    across_fits: Literal["refuse", "allow"] = "refuse"
    """Whether data that was in a fit may be in another, over other sites or over nearly the same genes or samples."""
    min_difference: int = Field(default=5, ge=1)
    """So many genes or samples must differ between two fits, if any do."""
    max_fits: int | None = Field(default=None, ge=1)
    """So many different fits are allowed all the same."""
    protocols: tuple[str, ...] = ("pairwise", "paillier-threshold")
    """Permitted protocols."""
    min_key_bits: int = Field(default=3072, ge=0)
    """Of a Paillier modulus."""
    max_colluders: int = Field(default=1, ge=0)
    """So many sites may pool what they know with an aggregator that breaks the protocol, and learn only sums."""
    require_consistency: bool = True
    """Whether sites must see who signed for the set of present ones before a sum is opened (pairwise)."""
    require_roster: bool = True
    """Whether the keys of all who sign must be in a roster that this site holds itself."""
    require_lock_step: bool = True
    """Whether this site answers only what the agreed algorithm asks next, as it finds itself from verified totals."""
    queries: tuple[str, ...] | None = None
    """Permitted kinds of question; all that this release has if not given."""
    refused_stages: tuple[str, ...] | None = None
    """Stages of a fit, as its report calls them, whose questions are not answered; see `STAGES`."""
    on_dropout: Literal["abort", "continue"] = "abort"
    """``"abort"``: no part in fits that go on when a site falls silent."""
    memory: str | None = Field(default=None, min_length=1)
    """Folder, from this file's, for what was asked and answered; see `secirls.site.guarding.memory`."""

    @field_validator("refused_stages")
    @classmethod
    def _known_stages(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if name not in STAGES:
                raise ValueError(f"there is no stage {name!r} that can be refused, choose of {', '.join(STAGES)}")
        return value

    @field_validator("protocols")
    @classmethod
    def _known_protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in NAMES:
                raise ValueError(f"there is no protocol {name!r}, choose of {', '.join(NAMES)}")
        return value

    @classmethod
    def simulation(cls, **rules: Any) -> Self:
        """The rules of a simulated site: those given, and for the rest `SIMULATION`, which allows everything."""
        return cls(**{**SIMULATION, **rules})

    def check_config(self, site: PartyId, config: Config) -> None:
        """Before anything is said about the site's file. Raises `RefusalError`."""
        if config.protocol not in self.protocols:
            raise refusal(site, "protocols", ", ".join(self.protocols))
        if config.min_contributors < self.min_contributors:
            raise refusal(site, "min_contributors", self.min_contributors)
        asked = (*variables(config.design), *([] if config.size_factors is None else [config.size_factors]))
        for column in asked:
            if self.variables is not None and column not in self.variables:
                raise refusal(site, "variables", ", ".join(self.variables) or "none", f"obs column {column!r}")
        for column in config.annotation:
            if self.annotation is not None and column.lower() not in map(str.lower, self.annotation):
                raise refusal(site, "annotation", ", ".join(self.annotation) or "none", f"var column {column!r}")
        for layer in (config.layer or "X", config.refit_layer):
            if self.layers is not None and layer not in (None, *self.layers):
                raise refusal(site, "layers", ", ".join(self.layers) or "none", f"layer {layer!r}")
        tuned = [name for name in TUNED if getattr(config, name) != config.as_preset(name)]
        if tuned and self.tuning == "refuse":
            raise refusal(site, "tuning", self.tuning, ", ".join(f"{name} = {getattr(config, name)}" for name in tuned))
        if config.components:
            self._check_components(site, config)
        if config.shrink is not None and "shrinkage" in (self.refused_stages or ()):
            raise refusal(site, "refused_stages", ", ".join(self.refused_stages or ()), f"shrink = {config.shrink!r}")
        if config.on_dropout == "continue" and self.on_dropout == "abort":
            raise refusal(site, "on_dropout", self.on_dropout)
        if self.require_consistency and config.protocol == "pairwise" and not config.consistency:
            raise refusal(site, "require_consistency", "true")
        if self.require_lock_step and not config.lock_step:
            raise refusal(site, "require_lock_step", "true")

    def check_refit_layer(self, site: PartyId, config: Config) -> None:
        """Before anything of a file is told where no study names what is read of it. Raises `RefusalError`.

        Replaced counts are other counts of the same samples, as those of another fit in another layer are.
        """
        if config.refit_layer is not None and self.layers is None and self.across_fits == "refuse":
            told = f"layer {config.refit_layer!r} has other counts of the same samples, and must be listed for a refit"
            raise refusal(site, "layers", "none", told)

    def _check_components(self, site: PartyId, config: Config) -> None:
        if config.components > self.max_components:
            raise refusal(site, "max_components", self.max_components)
        if config.sample_share > self.max_sample_share:
            raise refusal(site, "max_sample_share", self.max_sample_share)
        if self.max_directions_per_sample is not None and config.directions_per_sample > self.max_directions_per_sample:
            raise refusal(site, "max_directions_per_sample", self.max_directions_per_sample)

    def check_roster(self, site: PartyId, *, own: bool) -> None:
        """Whether the site holds a roster of its ``own``. Raises `RefusalError`."""
        if self.require_roster and not own:
            raise refusal(site, "require_roster", "true", "the site has no roster of its own")

    def check_samples(self, site: PartyId, n_samples: int) -> None:
        """Before gene names and levels leave. Raises `RefusalError`."""
        if n_samples < self.min_samples:
            raise refusal(site, "min_samples", self.min_samples)

    def check_variables(self, site: PartyId, said: Mapping[str, Variable], fewest: Mapping[str, int]) -> None:
        """Before levels leave: ``said`` is what would be told, ``fewest`` samples of a factor have one same level.

        Raises `RefusalError`.
        """
        for name, variable in said.items():
            column = f"obs column {name!r}"
            if len(variable.levels) > self.max_levels:
                raise refusal(site, "max_levels", self.max_levels, column)
            if not variable.numeric and fewest[name] < self.min_samples_per_level:
                raise refusal(site, "min_samples_per_level", self.min_samples_per_level, column)

    def check_design(self, site: PartyId, design: Floats, own: int = 0) -> None:
        """Before the session begins; ``design`` is ``(samples, params)``, ``own`` of its columns are this site's alone.

        Raises `RefusalError`.
        """
        samples, _ = design.shape
        if self.max_own_per_sample is not None and own > self.max_own_per_sample * samples:
            raise refusal(site, "max_own_per_sample", self.max_own_per_sample, f"{own} own columns, {samples} samples")
        if self.min_samples_per_cell > 1 and samples:
            _, sizes = np.unique(design, axis=0, return_counts=True)
            if sizes.min() < self.min_samples_per_cell:
                raise refusal(site, "min_samples_per_cell", self.min_samples_per_cell)
        marks = design[:, ((design == 0) | (design == 1)).all(axis=0)]
        if self.max_design_share is not None and self.lonely == "refuse" and expressed(marks, np.ones((samples, 1)))[1]:
            told = "without an intercept or a whole factor, sums over all samples are beside those of the design"
            raise refusal(site, "max_design_share", self.max_design_share, told)

    def check_cohort(self, site: PartyId, parties: int) -> None:
        """Before a session and before every answer. Raises `RefusalError`."""
        if parties < self.min_sites:
            raise refusal(site, "min_sites", self.min_sites)

    def check_question(self, site: PartyId, kind: str) -> None:
        """Before an answer. Raises `RefusalError`."""
        if self.queries is not None and kind not in self.queries:
            raise refusal(site, "queries", ", ".join(self.queries))
        for stage in self.refused_stages or ():
            if kind in STAGES[stage]:
                raise refusal(site, "refused_stages", ", ".join(self.refused_stages or ()), f"question {kind!r}")

    def check_budget(self, site: PartyId, answered: int, told: NDArray[np.int64]) -> None:
        """Before an answer, after ``answered`` others: so many numbers of each gene asked about will have left.

        ``told`` is ``(genes asked,)``. Raises `RefusalError`.
        """
        if self.max_rounds is not None and answered >= self.max_rounds:
            raise refusal(site, "max_rounds", self.max_rounds)
        if self.max_values_per_gene is not None and told.max(initial=0) > self.max_values_per_gene:
            raise refusal(site, "max_values_per_gene", self.max_values_per_gene)

    def check_directions(self, site: PartyId, directions: int, degrees: float | None) -> None:
        """Before an answer: so many directions will have been multiplied, of samples less sites (``None``: not known).

        Raises `RefusalError`.
        """
        most = self.max_directions_per_sample
        if directions and most is not None and (degrees is None or directions > most * degrees):
            raise refusal(site, "max_directions_per_sample", most)

    def check_columns(self, site: PartyId, columns: int, samples: float) -> None:
        """Before the first sum over counts: so many columns in all fits about this data. Raises `RefusalError`."""
        most = self.max_params_per_sample
        if most is not None and columns > most * samples:
            raise refusal(site, "max_params_per_sample", most, f"{columns} design columns in all fits of this data")

    def check_census(
        self,
        site: PartyId,
        design: Design,
        census: Mapping[str, Floats],
        held: Mapping[str, int],
        apart: Sequence[PartyId] | None,
    ) -> None:
        """Once the census is verified; ``held`` says of every level, as ``factor=level``, how many sites have it.

        ``apart`` are those whose own sums follow from all columns, ``None`` where that can't be told: see
        `Design.told_apart`. Raises `RefusalError`.
        """
        samples, params = float(census["samples"][0]), len(design.columns)
        if self.max_params_per_sample is not None and params > self.max_params_per_sample * samples:
            raise refusal(site, "max_params_per_sample", self.max_params_per_sample)
        if self.lonely == "publish":
            return
        few = [f"level {name}" for name, sites in held.items() if 0 < sites < self.min_contributors]
        sites = census["column_sites"]
        few += [f"design column {design.columns[i]!r}" for i in lonely_columns(sites, self.min_contributors)]
        if few:
            raise refusal(site, "min_contributors", self.min_contributors, _few(few, "at fewer sites"))
        if (apart is None or apart) and self.min_contributors > 1:
            told = "too many combinations of levels to tell whose sums follow from those of all columns"
            if apart is not None:
                told = f"the sums of {', '.join(apart)} follow from those of all columns"
            raise refusal(site, "min_contributors", self.min_contributors, told)
        cells = design.cells_apart(census["group_sites"], self.min_contributors)
        if cells:
            raise refusal(site, "min_contributors", self.min_contributors, _few(cells, "at fewer sites"))
        sizes = census["group_samples"]
        thin = [
            "cell " + ", ".join(f"{factor}={level}" for factor, level in zip(design.shared, group, strict=True))
            for group, size in zip(design.groups, sizes, strict=True)
            if 0 < size < self.min_total_samples_per_cell
        ]
        if thin:
            rule = "min_total_samples_per_cell"
            raise refusal(site, rule, self.min_total_samples_per_cell, _few(thin, "with fewer samples over all sites"))

    def check_share(self, site: PartyId, design: Design, some: Floats, every: Floats) -> None:
        """Once X'X is verified: ``some`` of it are this site's samples', both ``(params, params)``.

        Raises `RefusalError`.
        """
        if self.max_design_share is None or self.lonely == "publish":
            return
        share, columns = largest_share(some, every)
        if share > self.max_design_share:
            named = _few(
                [f"design column {design.columns[i]!r}" for i in columns], "together at this site alone, or nearly"
            )
            raise refusal(site, "max_design_share", self.max_design_share, named)

    def check_likeness(self, site: PartyId, few_differ: int, other_own: int) -> None:
        """Before counts are summed: to so many earlier fits of this data the columns are too like.

        Raises `RefusalError`.
        """
        if few_differ >= (self.max_fits or 1):
            told = "design columns over size factors, but for a few of this site's samples, are those of an earlier fit"
            raise refusal(site, "min_difference", self.min_difference, told)
        if other_own >= (self.max_fits or 1):
            told = "an earlier fit had the same design columns beside other own ones: together they tell sums of sites"
            raise refusal(site, "across_fits", self.across_fits, told)

    def check_sizes(self, site: PartyId, whole: float, sample: float) -> None:
        """Before counts are summed over size factors, of whose 1 / s^2 these parts are the site's, and a sample's.

        Raises `RefusalError`.
        """
        if self.max_size_factor_share is not None and sample > self.max_size_factor_share:
            raise refusal(site, "max_size_factor_share", self.max_size_factor_share, "the smallest size factor")
        if self.max_design_share is not None and self.lonely == "refuse" and whole > self.max_design_share:
            raise refusal(site, "max_design_share", self.max_design_share, "size factors smaller than elsewhere")

    def check_genes(self, site: PartyId, asked: Mask, presence: Floats) -> None:
        """Before an answer: no gene that too few sites have counts for; both ``(genes,)``. Raises `RefusalError`."""
        if (asked & (presence < self.min_contributors)).any():
            raise refusal(site, "min_contributors", self.min_contributors, "a gene that fewer sites have counts for")


SIMULATION: dict[str, Any] = {
    "min_contributors": 1,
    "min_samples": 1,
    "min_samples_per_level": 0,
    "min_total_samples_per_cell": 0,
    "max_design_share": None,
    "max_size_factor_share": None,
    "lonely": "publish",
    "max_params_per_sample": None,
    "max_own_per_sample": None,
    "max_rounds": None,
    "max_values_per_gene": None,
    "tuning": "allow",
    "max_components": 20,
    "max_directions_per_sample": None,
    "max_sample_share": 1.0,
    "max_levels": 1 << 31,
    "annotation": None,
    "across_fits": "allow",
    "protocols": NAMES,
    "min_key_bits": 0,
    "max_colluders": 0,
    "require_consistency": False,
    "require_lock_step": False,
    "require_roster": False,
    "on_dropout": "continue",
}
"""What a site follows that was started by whoever orders the fit, with no ground of its own: all parties are one."""


def read_policy(site: PartyId, path: str, *, simulated: bool = False) -> Policy:
    """A site's policy file: TOML with the fields of `Policy`. Raises `InputError`."""
    table = read_toml(Path(path), site=site)
    return Policy.read(f"site {site!r}, file {path!r}", **(SIMULATION if simulated else {}) | table)


def lonely_columns(column_sites: Floats, least: int) -> list[int]:
    """Which design columns have samples at some site, but at fewer than ``least``; of ``(params,)``."""
    return [int(i) for i in np.flatnonzero((column_sites > 0) & (column_sites < least))]


def refusal(site: PartyId, rule: str, value: object, about: str = "") -> RefusalError:
    """The sentence that a broken rule ends a fit with."""
    return RefusalError(f"site {site!r}: its policy refuses: {rule} is {value}{about and f' ({about})'}")


def _few(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown}: {what}"
