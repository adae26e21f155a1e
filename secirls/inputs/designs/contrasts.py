"""What a fold change is asked of: a level against another, named coefficients, or numbers; checked against a design.

Promises: a contrast that a design can't answer is one sentence that says what there is. Refuses to know: estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from secirls.input_error import InputError
from secirls.numerics.arrays import Floats

if TYPE_CHECKING:
    from secirls.inputs.designs.design import Design


@dataclass(frozen=True)
class Contrast:
    """One form of contrast, or none: then the design's default."""

    levels: tuple[str, str, str] | None = None
    """Factor, level, reference."""
    plus: tuple[str, ...] = ()
    """Coefficients that are added up, by the names of their design columns."""
    minus: tuple[str, ...] = ()
    """Coefficients that are taken off."""
    vector: tuple[float, ...] = ()
    """One number per column of the table of coefficients."""

    def __post_init__(self) -> None:
        forms = [self.levels is not None, bool(self.plus or self.minus), bool(self.vector)]
        if sum(forms) > 1:
            raise InputError("give one contrast: levels, coefficients, or a vector")
        named = self.plus + self.minus
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"contrast names the coefficient {twice!r} twice")

    @classmethod
    def parse_vector(cls, text: str) -> Self:
        """The contrast of numbers with commas between them. Raises `InputError`."""
        try:
            return cls(vector=tuple(float(part) for part in text.split(",")))
        except ValueError:
            raise InputError(f"contrast vector {text!r}: write numbers with commas between, such as 0,1,-1") from None

    def of(self, design: Design) -> tuple[Floats, str]:
        """The contrast as numbers by column of the table, ``(params,)``, and its name. Raises `InputError`."""
        if self.levels is not None:
            factor, level, reference = (text.strip() for text in self.levels)
            return design.contrast(factor, level, reference), f"{factor}: {level} against {reference}"
        if self.vector:
            return self._numbers(design)
        if self.plus or self.minus:
            return self._coefficients(design)
        return design.default_contrast()

    def _numbers(self, design: Design) -> tuple[Floats, str]:
        shown = ", ".join(f"{number:g}" for number in self.vector)
        numbers, columns = np.array(self.vector, dtype=np.float64), design.columns
        if numbers.size != len(columns):
            raise InputError(
                f"contrast vector {shown}: has {numbers.size} of {len(columns)} numbers, "
                f"one for each of {', '.join(columns)}"
            )
        if not (np.isfinite(numbers).all() and numbers.any()):
            raise InputError(f"contrast vector {shown}: give finite numbers, not all zero")
        return numbers, f"contrast {shown}"

    def _coefficients(self, design: Design) -> tuple[Floats, str]:
        numbers = np.zeros(design.size)
        for names, sign in ((self.plus, 1.0), (self.minus, -1.0)):
            for name in names:
                if name not in design.all_columns:
                    raise InputError(f"there is no coefficient {name!r}: there are {', '.join(design.columns)}")
                numbers[design.all_columns.index(name)] = sign
        shown = " + ".join(self.plus) + "".join(f" - {name}" for name in self.minus)
        alone = len(self.plus) == 1 and not self.minus
        return design.together(numbers, "the contrast"), f"coefficient {shown}" if alone else shown.strip()


def reported(contrast: Contrast, shrink: str | None, design: Design) -> Contrast:
    """What a fit's table is of: what is asked for, else the coefficient to ``shrink``, else the default.

    Raises `InputError` where the design can't answer it, or a contrast and a coefficient to shrink are not the same.
    """
    if shrink is None:
        contrast.of(design)
        return contrast
    alone, asked = Contrast(plus=(design.columns[design.column(shrink, "shrink")],)), contrast != Contrast()
    try:
        numbers, name = contrast.of(design)
    except InputError:  # the default may be what one site keeps
        if asked:
            raise
        return alone
    if (numbers == alone.of(design)[0]).all():
        return contrast
    if asked:
        raise InputError(
            f"shrink names {shrink!r}, and the table is of {name}: leave that contrast out, "
            "and ask for it afterwards with 'secirls results'"
        )
    return alone
