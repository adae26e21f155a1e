"""The study that a site's staff agreed to: what of its file a fit may read, and by which formula.

Promises: a fit of another study is refused before anything of the file is told. Refuses to know: samples, sums, and
what a fit makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from protocols.secure_sum import PartyId
from secirls.config import Config
from secirls.frozen import Frozen
from secirls.inputs.designs.design import Design
from secirls.inputs.formulas.levels import declared_levels
from secirls.site.grounds.policy import RefusalError

X = "X"
"""What AnnData's own matrix is called among its layers."""


class Study(Frozen):
    """The table ``[study]`` of a ``site.toml``. What it does not name is not read, levels aside."""

    design: str
    """The formula; blanks in it do not matter."""
    layer: str = X
    """Of raw counts."""
    levels: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """All levels of a factor in order, reference first; of factors that are not named, those that the sites have."""
    size_factors: str | None = None
    """obs column of size factors; estimated if not given."""
    dispersions: str | None = None
    """var column of dispersions; estimated if not given."""
    refit_layer: str | None = None
    """Of replaced counts."""
    annotation: tuple[str, ...] = ()
    """var columns of text that may be told."""

    def check_config(self, site: PartyId, config: Config) -> None:
        """Before anything is said about the site's file. Raises `RefusalError` for another study."""
        asked = {
            "design": config.design,
            "layer": config.layer or X,
            "size_factors": config.size_factors,
            "dispersions": config.dispersions,
            "refit_layer": config.refit_layer,
        }
        for name, value in asked.items():
            mine = getattr(self, name)
            if _bare(name, mine) != _bare(name, value):
                raise _refusal(site, name, mine, value)
        if not set(config.annotation) <= set(self.annotation):
            raise _refusal(site, "annotation", ", ".join(self.annotation), ", ".join(config.annotation))

    def check_levels(self, site: PartyId, design: Design) -> None:
        """Once levels are agreed. Raises `RefusalError` where they are other ones, or in another order."""
        for name, levels in self.levels.items():
            mine, agreed = declared_levels(name, levels), design.levels.get(name, ())
            if agreed != mine:
                raise _refusal(site, f"levels of {name!r}", ", ".join(mine), ", ".join(agreed))


def _bare(name: str, value: str | None) -> str | None:
    """The value without blanks, where they do not matter."""
    return "".join(value.split()) if name == "design" and value is not None else value


def _refusal(site: PartyId, what: str, mine: str | None, asked: str | None) -> RefusalError:
    return RefusalError(
        f"site {site!r}: its ground is of another study: {what} is {mine or 'none'} there, and {asked or 'none'} here"
    )
