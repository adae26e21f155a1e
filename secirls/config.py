"""What the user asks for: the statistics and the protocol.

Promises: every value is checked when it is read, and a wrong one ends in one sentence naming it.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from protocols.choice import NAMES
from protocols.fixed_point import COMPACT
from protocols.sessions.settings import Settings
from secirls.frozen import Frozen
from secirls.inputs.designs.contrasts import Contrast
from secirls.inputs.files.var_columns import check_names
from secirls.numerics.inference.alternatives import Alternative, check_threshold
from secirls.numerics.outliers.trimming import FILTER_FROM, REPLACE_FROM
from secirls.presets import CHOICES, PRESETS, R_RIDGE, Choices, Preset, preset_values

Protocol = Literal["plain", "pairwise-lean", "additive", "pairwise", "paillier", "paillier-threshold"]
LEAN: Protocol = "pairwise-lean"
_MASKING, _PAILLIER = ("pairwise", "pairwise-lean"), ("paillier", "paillier-threshold")
OF_PROTOCOLS = {
    "key_bits": _PAILLIER,
    "obfuscation": _PAILLIER,
    "neighbours": _MASKING,
    "rounds_per_batch": _MASKING,
}
"""Fields that do nothing under any other protocol."""
MOST_ROUNDS = 4096
"""Of one batch of keys: more than fits have."""


class Config(Frozen):
    """One federated fit: what is computed, how it is hidden, and where sites find their columns.

    Agreed by everyone; its digest is bound into the session.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    design: str
    """Right-hand side formula over obs columns, such as ``~ batch + condition``."""
    protocol: Protocol = "pairwise"
    contrast: tuple[str, str, str] | None = None
    """Factor, level, reference of the reported fold change."""
    coefficients: tuple[str, ...] = ()
    """Design columns whose coefficients add up to it, instead."""
    minus: tuple[str, ...] = ()
    """Those that are taken off."""
    contrast_vector: tuple[float, ...] = ()
    """One number per design column at the table, instead."""
    lfc_threshold: float = Field(default=0.0, ge=0)
    """The log2 fold change that is tested against, as in R's ``results()``."""
    alternative: Alternative = "greaterAbs"
    """Beyond it on either side, within it (``lessAbs``), above it, or below minus it."""
    test: Literal["wald", "lrt"] = "wald"
    """Of p-values: the fold change over its error, or the likelihood of the design beside that of a ``reduced`` one."""
    reduced: str | None = None
    """The smaller design of a likelihood-ratio test, such as ``~ batch``; its columns must lie within the design's."""
    levels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Declared levels of factors, reference first; others have the order of the files' categories
    where no site has another, and are sorted where one has."""
    layer: str | None = None
    """AnnData layer holding raw counts; ``X`` if not given, ``raw:X`` for that of ``AnnData.raw``, with its genes."""
    round_counts: bool = False
    """Round estimated counts (salmon, RSEM) to whole numbers, half to even, as R's `round` does; else refuse them."""
    size_factors: str | None = None
    """obs column of size factors; median of ratios by secure sums if not given."""
    dispersions: str | None = None
    """var column of dispersions, used as they are; estimated by secure sums if not given."""
    annotation: tuple[str, ...] = ()
    """var columns of text, such as ``symbol``, that stand beside the genes where all sites have them alike."""
    genes: Literal["identical", "intersection"] = "identical"
    """Whether sites must have the same genes, or those that all have are used."""
    drop_empty: bool = False
    """Leave design columns without any sample out, such as cells of a nested factor that nobody has; else refuse."""
    own_columns: Literal["own", "shared"] = "own"
    """Design columns that one site alone adds to: ``own`` keeps them and their coefficients there; ``shared`` sums them
    as any other, which publishes that site's own sums."""
    min_contributors: int = Field(default=3, ge=1)
    """A gene with counts at fewer sites than this is left out: its sum would be theirs alone."""
    min_total_count: float = Field(default=0.0, ge=0)
    """A gene whose counts over size factors add up to less, over all samples, is left out once these are known."""
    preset: Preset = "deseq2"
    """Whose choices are followed: ``deseq2`` R's, ``pydeseq2`` and ``fedpydeseq2`` those packages'. ``irls``:
    dispersions given or by moments, IRLS and the catch alone. See `secirls.presets`."""
    size_factor_type: Literal["ratio", "poscounts"] = "ratio"
    """Size factors over the genes with a count in every sample, or over positive counts."""
    control_genes: tuple[str, ...] = ()
    """Genes that size factors are estimated from; all if not given."""
    dispersion_fit: Literal["deseq2", "optimum", "grid", "moments"] = "deseq2"
    """The end of R's path, the maximum of each profile, or of FedPyDESeq2's three grids of 100 points on it; or the
    method of moments without a trend."""
    trend: Literal["parametric", "local", "mean"] = "parametric"
    """Of gene-wise dispersions over base means; a parametric one that fails is replaced by the local one, with the
    presets of PyDESeq2 by the mean."""
    cooks: bool = True
    """Whether outliers are looked for by Cook's distances."""
    min_replicates: int = Field(default=REPLACE_FROM, ge=FILTER_FROM)
    """Samples in a cell of the design from which its outliers are replaced; with fewer, the gene has no p-value."""
    min_kept: int = Field(default=3, ge=1)
    """Values of a small cell that must stay when its ends are cut off, for its outliers to be looked for; 1 is R."""
    min_mu: float = Field(default=0.5, gt=0)
    beta_tol: float = Field(default=1e-8, gt=0)
    max_beta: float = Field(default=30.0, gt=0)
    ridge: float = Field(default=R_RIDGE, gt=0)
    """Added to the diagonal of X'WX; by default R's 1e-6 on the log2 scale."""
    max_iter: int = Field(default=100, ge=1)
    """Updates of beta before IRLS gives a gene up."""
    shrink: str | None = None
    """The coefficient whose fold changes are drawn towards zero by apeglm's prior at the end of the fit, as a column of
    the design is called: ``condition[T.treated]``."""
    components: int = Field(default=0, ge=0, le=20)
    """Principal components of VST values within sites; see `secirls.algorithms.components.principal_components`."""
    component_genes: int = Field(default=500, ge=2, le=5_000)
    """Of so many genes of largest variance."""
    component_tolerance: float = Field(default=0.05, gt=0)
    """Sine of the estimated angle to the components of the pooled data at which they are good enough."""
    directions_per_sample: float = Field(default=0.2, gt=0, le=1)
    """Directions multiplied for them at most, over samples less sites."""
    sample_share: float = Field(default=0.5, gt=0, le=1)
    """Of a gene's variance, and of that along any direction multiplied, that may be one sample's."""
    se: Literal["clamped", "unclamped"] = "clamped"
    """Whether means in standard errors are clamped as in the fit (R's DESeq2) or not (PyDESeq2; one round more)."""
    independent_filtering: bool = True
    """Leave genes with a low base mean out of the adjusted p-values, as DESeq2 does by default."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """The false discovery rate that independent filtering optimises for."""
    refit_layer: str | None = None
    """AnnData layer with replaced counts, on which ``refit_genes`` are fitted again at the end."""
    refit_genes: tuple[str, ...] = ()
    """Genes fitted again on ``refit_layer``; the rest of the results is kept."""
    fraction_bits: int | None = Field(default=None, ge=COMPACT.start, lt=COMPACT.stop)
    """Sums of IRLS and the catch in the compact profile (Z_2^64) with so many fraction bits, for half the bytes;
    exact if not given. A gene whose sums are too large for it fails, with the reason."""
    kernel: Literal["fused", "numpy"] = "fused"
    """How sites compute summands: compiled, or plain NumPy. The two agree to rounding, not to the bit."""
    threshold: int | None = None
    """How many sites must answer for a sum to open; just above two thirds if not given."""
    trust_aggregator: bool = False
    """Let the aggregator choose the questions, as sites that do not follow the algorithm themselves must: they check
    totals only where their rules are about them. Always so with the protocol ``plain``."""
    consistency: bool = True
    """Have sites agree on the set of present sites before shares are released (one more trip): against an aggregator
    that deviates."""
    neighbours: int | None = Field(default=None, ge=4)
    """With how many others a site shares pairwise masks; all of up to 50 sites, then some, if not given."""
    prg: Literal["aes-256-ctr", "chacha20"] = "aes-256-ctr"
    """Keystream of masks and shares."""
    key_bits: int = 3072
    """Paillier modulus."""
    obfuscation: Literal["djn", "short", "subgroup", "textbook"] = "djn"
    """How Paillier ciphertexts are randomised; "subgroup" is also a kind of key, with which a key-holder decrypts
    several times faster."""
    insecure_test_keys: bool = False
    """Accept Paillier keys below 2048 bits, which protect nothing: for tests of this package alone."""
    precompute: bool = True
    """Whether sites make obfuscators ahead while they wait (Paillier)."""
    n_jobs: int | None = Field(default=None, ge=1)
    """Threads at each party. If not given, as many as the machine has cores for Paillier's large powers, and one for
    summands: sites on one machine share its cores."""
    roster: dict[str, str] | None = None
    """Hexadecimal Ed25519 keys of all sites, agreed beforehand; made for the session if not given."""
    rounds_per_batch: int = Field(default=32, ge=1, le=MOST_ROUNDS)
    """Keys of masks are agreed on for this many rounds at a time; ``pairwise-lean`` takes the most, if not given."""
    deadline: float = Field(default=600.0, gt=0)
    """Seconds a party has to answer one verb; whoever is later is silent from then on."""
    on_dropout: Literal["abort", "continue"] = "abort"
    """When a site falls silent: stop, keeping the checkpoint; or go on without it for good, which the report says."""

    @field_validator("protocol", mode="before")
    @classmethod
    def _known_protocol(cls, value: object) -> object:
        if value not in NAMES:
            raise ValueError(f"there is no protocol {value!r}, choose one of {', '.join(NAMES)}")
        return value

    @field_validator("design")
    @classmethod
    def _some_design(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty: write a formula such as '~ batch + condition'")
        return value

    @field_validator("contrast", mode="before")
    @classmethod
    def _three_names(cls, value: object) -> object:
        if value is not None and not (isinstance(value, list | tuple) and len(value) == 3):
            raise ValueError("give three names: a factor, a level and its reference")
        return value

    @field_validator("annotation", mode="before")
    @classmethod
    def _names_apart(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @field_validator("coefficients", "minus", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("control_genes", "refit_genes", mode="before")
    @classmethod
    def _no_file(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            option = f"--{info.field_name}".replace("_", "-")
            sentence = f"input should be a list of names; a file of them is the command's option {option}"
            raise ValueError(sentence)  # noqa: TRY004 - pydantic's own way
        return value

    @field_validator("annotation")
    @classmethod
    def _free_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_names(value)
        return value

    @field_validator("levels")
    @classmethod
    def _distinct_levels(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, levels in value.items():
            if len(levels) < 2 or len(set(levels)) != len(levels):
                raise ValueError(f"{name!r} needs two or more different levels, reference first")
        return value

    @model_validator(mode="before")
    @classmethod
    def _as_the_preset_has_it(cls, values: object) -> object:
        return {**preset_values(values.get("preset")), **values} if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _one_agreement(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("protocol") == LEAN:
            return {"rounds_per_batch": MOST_ROUNDS, **values}
        return values

    @model_validator(mode="after")
    def _lean_where_nobody_may_drop(self) -> Self:
        if self.protocol == LEAN and self.on_dropout == "continue":
            raise ValueError(f"{LEAN!r} has nothing to recover with when a site falls silent: on_dropout = 'abort'")
        return self

    @model_validator(mode="after")
    def _fits_the_preset(self) -> Self:
        if self.choices.whole:
            if self.refit_genes or self.refit_layer is not None:
                raise ValueError(
                    f"the preset {self.preset!r} replaces outliers itself: a refit layer needs the preset 'irls'"
                )
            return self
        for name in ("dispersion_fit", "cooks"):
            if getattr(self, name) != PRESETS["irls"][name]:
                raise ValueError(f"{name} = {getattr(self, name)!r} needs another preset than {self.preset!r}")
        return self

    @model_validator(mode="after")
    def _transform_of_the_components(self) -> Self:
        if self.components and (not self.choices.whole or self.dispersions or self.dispersion_fit == "moments"):
            raise ValueError("components take a trend: not with 'irls', nor with dispersions brought or by moments")
        return self

    @model_validator(mode="after")
    def _one_way_to_size_factors(self) -> Self:
        if self.size_factors is not None and (self.control_genes or self.size_factor_type != "ratio"):
            raise ValueError(
                "size factors are brought (size_factors), so control_genes and size_factor_type do nothing"
            )
        return self

    @model_validator(mode="after")
    def _key_of_the_protocol(self) -> Self:
        if self.protocol == "paillier-threshold" and self.obfuscation == "subgroup":
            raise ValueError("a key in shares ('paillier-threshold') has no subgroup: use djn, short or textbook")
        return self

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        check_threshold(self.lfc_threshold, self.alternative)
        self.asked_contrast  # noqa: B018 - raises where two forms are given
        return self

    @model_validator(mode="after")
    def _both_of_the_test(self) -> Self:
        if self.test == "lrt" and self.reduced is None:
            raise ValueError("a likelihood-ratio test (test = 'lrt') needs the smaller design too (reduced)")
        if self.test == "lrt" and (self.lfc_threshold or self.alternative != "greaterAbs"):
            raise ValueError("a likelihood-ratio test has no threshold of fold changes: leave lfc_threshold out")
        if self.test != "lrt" and self.reduced is not None:
            raise ValueError(f"a reduced design is of a likelihood-ratio test (test = 'lrt'), not of {self.test!r}")
        return self

    @model_validator(mode="after")
    def _both_of_refit(self) -> Self:
        if (self.refit_layer is None) != (not self.refit_genes):
            raise ValueError("a refit needs both: a layer (refit_layer) and genes (refit_genes)")
        if len(set(self.refit_genes)) != len(self.refit_genes):
            raise ValueError("refit_genes names a gene twice")
        return self

    @classmethod
    def pydeseq2(cls, **values: Any) -> Config:
        """As PyDESeq2."""
        return cls.read("configuration", **{"preset": "pydeseq2", **values})

    @classmethod
    def fedpydeseq2(cls, **values: Any) -> Config:
        """As FedPyDESeq2."""
        return cls.read("configuration", **{"preset": "fedpydeseq2", **values})

    def as_preset(self, name: str) -> Any:
        """What a field is under this preset, where nobody sets it."""
        return preset_values(self.preset).get(name, type(self).model_fields[name].default)

    @property
    def choices(self) -> Choices:
        """What the preset does where no field asks."""
        return CHOICES[self.preset]

    @property
    def lock_step(self) -> bool:
        """Whether sites follow the algorithm themselves, from totals that they verify, and answer nothing else."""
        return not self.trust_aggregator and self.protocol != "plain"

    @property
    def asked_contrast(self) -> Contrast:
        """The reported contrast, in whichever form it is asked for."""
        return Contrast(self.contrast, self.coefficients, self.minus, self.contrast_vector)

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration's canonical JSON, hexadecimal."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def settings(self, agreed: bytes = b"") -> Settings:
        """What the protocol needs to know; ``agreed`` is the digest of the agreement that the session is about."""
        return Settings(
            configuration=agreed.hex() or self.digest,
            threshold=self.threshold,
            rounds_per_batch=self.rounds_per_batch,
            consistency=self.consistency,
            neighbours=self.neighbours,
            prg=self.prg,
            key_bits=self.key_bits,
            obfuscation=self.obfuscation,
            insecure_test_keys=self.insecure_test_keys,
        )

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What is chosen: what differs from the defaults."""
        return ((name, getattr(self, name)) for name in self.model_dump(exclude_defaults=True))

    def _repr_html_(self) -> str:
        """What a notebook shows: what differs from the defaults, escaped."""
        chosen = self.model_dump(mode="json", exclude_defaults=True)
        rows = (
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(told))}</td></tr>" for name, told in chosen.items()
        )
        return f"<table><tr><th>option</th><th>value</th></tr>{''.join(rows)}</table>"

    @property
    def threads(self) -> int:
        """Threads for large powers in this process."""
        return self.n_jobs or os.cpu_count() or 1
