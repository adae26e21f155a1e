"""What a site agrees to answer: its own rules, in its own file, checked in its own process.

Promises: a refusal names the rule and its value and nothing of what the site holds; whoever reads it
learns that the rule is broken, and no more. Refuses to know: the aggregator's reasons.
The thresholds are modelled on DataSHIELD's ``nfilter`` options (Gaye et al. 2014).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from protocols.choice import NAMES
from protocols.secure_sum import MINIMUM_PARTIES, PartyId
from secirls.config import Config, Frozen
from secirls.input_error import InputError, complain
from secirls.inputs.text_file import read_text
from secirls.numerics.samples import Floats

DROPOUT_RULES = ("abort", "continue")


class RefusalError(InputError):
    """A site's policy does not allow what was asked. Ends a fit, whatever happens when a site is silent."""


class Policy(Frozen):
    """One site's rules; those not set allow whatever the protocols do."""

    min_sites: int = Field(default=MINIMUM_PARTIES, ge=MINIMUM_PARTIES)
    """In every sum this site is part of."""
    min_samples: int = Field(default=1, ge=0)
    """Below this the site takes no part."""
    min_samples_per_cell: int = Field(default=0, ge=0)
    """For every distinct row of its design matrix; a numeric variable makes cells of one."""
    min_contributors: int = Field(default=1, ge=1)
    """The fit must leave out genes with counts at fewer sites."""
    max_params_per_sample: float | None = Field(default=None, gt=0)
    """Design columns over samples of this site (DataSHIELD's ``nfilter.glm``, there 0.33)."""
    max_rounds: int | None = Field(default=None, ge=1)
    """Questions answered in one fit."""
    protocols: tuple[str, ...] = NAMES
    """Permitted protocols."""
    queries: tuple[str, ...] | None = None
    """Permitted kinds of question; all that this release has if not given."""
    on_dropout: Literal["abort", "continue"] = "continue"
    """``"abort"``: no part in fits that go on when a site falls silent."""
    memory: str | None = None
    """Folder, from this file's, for what was answered in which fit; see `secirls.site.memory`."""

    @field_validator("protocols")
    @classmethod
    def _known_protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in NAMES:
                raise ValueError(f"there is no protocol {name!r}, choose of {', '.join(NAMES)}")
        return value

    def check_config(self, site: PartyId, config: Config) -> None:
        """Before anything is said about the site's file. Raises `RefusalError`."""
        if config.protocol not in self.protocols:
            raise _refusal(site, "protocols", ", ".join(self.protocols))
        if config.min_contributors < self.min_contributors:
            raise _refusal(site, "min_contributors", self.min_contributors)
        if config.on_dropout == "continue" and self.on_dropout == "abort":
            raise _refusal(site, "on_dropout", self.on_dropout)

    def check_samples(self, site: PartyId, n_samples: int) -> None:
        """Before gene names and levels leave. Raises `RefusalError`."""
        if n_samples < self.min_samples:
            raise _refusal(site, "min_samples", self.min_samples)

    def check_design(self, site: PartyId, design: Floats) -> None:
        """Before the session begins; ``design`` is ``(samples, params)``. Raises `RefusalError`."""
        samples, params = design.shape
        if self.min_samples_per_cell > 1 and samples:
            _, sizes = np.unique(design, axis=0, return_counts=True)
            if sizes.min() < self.min_samples_per_cell:
                raise _refusal(site, "min_samples_per_cell", self.min_samples_per_cell)
        limit = self.max_params_per_sample
        if limit is not None and params > limit * samples:
            raise _refusal(site, "max_params_per_sample", limit)

    def check_cohort(self, site: PartyId, parties: int) -> None:
        """Before a session and before every answer. Raises `RefusalError`."""
        if parties < self.min_sites:
            raise _refusal(site, "min_sites", self.min_sites)

    def check_question(self, site: PartyId, kind: str, answered: int) -> None:
        """Before an answer, after ``answered`` others. Raises `RefusalError`."""
        if self.queries is not None and kind not in self.queries:
            raise _refusal(site, "queries", ", ".join(self.queries))
        if self.max_rounds is not None and answered >= self.max_rounds:
            raise _refusal(site, "max_rounds", self.max_rounds)


def read_policy(site: PartyId, path: str) -> Policy:
    """A site's policy file: TOML with the fields of `Policy`. Raises `InputError`."""
    try:
        table = tomllib.loads(read_text(Path(path), site=site))
    except tomllib.TOMLDecodeError as error:
        raise complain(f"is not TOML: {error}", site=site, file=path) from None
    return Policy.read(f"site {site!r}, file {path!r}", **table)


def _refusal(site: PartyId, rule: str, value: object) -> RefusalError:
    return RefusalError(f"site {site!r}: its policy refuses: {rule} is {value}")
