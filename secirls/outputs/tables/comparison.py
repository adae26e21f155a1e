"""What is asked of a fit: by its configuration, or afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.contrasts import Contrast, reported
from secirls.inputs.designs.design import Design
from secirls.numerics.inference.alternatives import Alternative, check_threshold

_WORDS = {
    "greaterAbs": "|log2 fold change| above {:g}",
    "lessAbs": "|log2 fold change| below {:g}",
    "greater": "log2 fold change above {:g}",
    "less": "log2 fold change below -{:g}",
}


@dataclass(frozen=True)
class Comparison:
    """A contrast, the null hypothesis, and how p-values are adjusted."""

    contrast: Contrast
    lfc_threshold: float
    alternative: Alternative
    alpha: float
    filtering: bool
    """Whether genes with a low base mean are left out of the adjusted p-values."""
    ashr: bool = False
    """Whether fold changes drawn towards zero as ashr does stand beside them; no fit asks for that itself."""

    def __post_init__(self) -> None:
        for name in ("lfc_threshold", "alpha"):
            if not isinstance(number := getattr(self, name), Real):
                raise InputError(f"{name}: input should be a number, not {number!r}")
        try:
            check_threshold(self.lfc_threshold, self.alternative)
        except ValueError as error:
            raise InputError(str(error)) from None
        if not isinstance(self.ashr, bool):
            raise InputError(f"ashr: input should be yes or no (a bool), not {self.ashr!r}")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is a false discovery rate between 0 and 1, not {self.alpha}")

    @classmethod
    def of(cls, config: Config, design: Design) -> Comparison:
        """The comparison that a fit reports itself."""
        asked = config.lfc_threshold, config.alternative, config.alpha, config.independent_filtering
        return cls(reported(config.asked_contrast, config.shrink, design), *asked)

    @property
    def against(self) -> str:
        """The null hypothesis in words that follow the contrast's name; none for Wald's."""
        if self.lfc_threshold == 0 and self.alternative == "greaterAbs":
            return ""
        return f", {_WORDS[self.alternative].format(self.lfc_threshold)}"

    def but(self, contrast: Contrast, **given: Any) -> Comparison:
        """The same with what is given: a contrast unless it is the default one, and what is not ``None``."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return replace(self, contrast=self.contrast if contrast == Contrast() else contrast, **chosen)
