"""What a site agrees to answer: its own rules, in its own file, with the defaults of whoever has none.

Promises: a rule that is misspelt, or of another kind, is refused; a site without a policy of its own has the default
one, never none. Refuses to know: how a rule is held against a fit; see `PolicyChecks`.
The thresholds are modelled on DataSHIELD's ``nfilter`` options (Gaye et al. 2014).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator

from protocols.choice import NAMES
from protocols.secure_sum import MINIMUM_PARTIES, PartyId
from secirls.frozen import Frozen
from secirls.input_error import InputError
from secirls.inputs.files.text_file import read_toml
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
    max_design_share: float | None = Field(default=0.99, gt=0, le=1)
    """The largest part that this site, and so any of its samples, may have in X'X along any combination of the table's
    columns: where its part is the whole, the same combination of opened sums is this site's own."""
    max_leverage: float | None = Field(default=0.9, gt=0, le=1)
    """The largest part that one of this site's samples may have along any combination of the table's columns, in X'X
    and over squares of size factors: its leverage. Opened sums tell what such a sample is, up to the rest."""
    max_size_factor_share: float | None = Field(default=0.9, gt=0, le=1)
    """The largest part that one of this site's samples may have in the sum of 1 / s^2 over all size factors s: counts
    that are divided by a very small one stand out of every sum."""
    lonely: Lonely = "refuse"
    """What to do about design columns, levels and cells that break the rules above: refuse the fit, or publish
    sums that are one site's own or nearly so."""
    max_params_per_sample: float | None = Field(default=0.33, gt=0)
    """Design columns over samples of all sites (DataSHIELD's ``nfilter.glm``): those of one fit, and the different ones
    of all fits about the same data together: sums along as many columns as samples tell the counts of each sample."""
    max_own_per_sample: float | None = Field(default=0.67, gt=0, le=1)
    """This site's own design columns over its samples: the closer to one, the less of it is in any sum."""
    write_own: bool = False
    """Whether coefficients of this site's own design columns are written beside its data file, as ``FILE.own.csv``."""
    max_rounds: int | None = Field(default=1_000, ge=1)
    """Questions answered about the same data, in all sessions; one that is asked again is not counted again."""
    max_values_per_gene: int | None = Field(default=5_000, ge=1)
    """Numbers that leave about one gene of the same data, in all sessions."""
    tuning: Literal["refuse", "allow"] = "refuse"
    """Whether a fit may differ from its preset in the numbers of `TUNED`: they say where likelihoods are looked at, and
    two fits that differ in nothing else single out samples by their means."""
    max_components: int = Field(default=0, ge=0)
    """Principal components over all sites that a fit may ask for; see `components.principal_components`."""
    max_directions_per_sample: float | None = Field(default=0.2, gt=0)
    """Directions that values are multiplied with for components, in all sessions about the same data, over the samples
    of all sites less the number of sites."""
    max_sample_share: float = Field(default=0.5, gt=0, le=1)
    """The largest part that a fit may let one sample have in what is opened for components. Along directions in which
    one of this site's samples has more, the site sends the sign for lost numbers, and says no more."""
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
    """var columns, in upper or lower case, whose text is told where all sites have it alike; and of numbers, where they
    may be dispersions that are brought, unless a study names those."""
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
    """``"abort"``: no part in fits that go on when a site falls silent, which tell that site's own sums, nearly."""
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


SIMULATION: dict[str, Any] = {
    "min_contributors": 1,
    "min_samples": 1,
    "min_samples_per_level": 0,
    "min_total_samples_per_cell": 0,
    "max_design_share": None,
    "max_leverage": None,
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
