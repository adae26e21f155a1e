"""What a formula says: terms, factors, and how numbers are made of obs columns.

Promises: a formula is read, never run. What stands in it beside names is one of a few functions that this file has.
Refuses to know: sites, levels, samples.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import InputError
from secirls.inputs.formulas.formula_terms import (
    LARGEST_ORDER,
    LARGEST_TERMS,
    LARGEST_TEXT,
    GrammarError,
    LargeError,
    Product,
    SidesError,
    read_terms,
    without_quotes,
)
from secirls.inputs.formulas.labels import labels
from secirls.inputs.formulas.model_matrix import Coded, ModelMatrix, Terms, model_matrix, width
from secirls.numerics.arrays import Floats

FUNCTIONS = {"log": np.log, "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt}
"""Of a numeric column, by the name that formulas call them, with ``np.`` before it or without."""
LARGEST_POWER = 9
LARGEST_COLUMNS = 1 << 12
"""Of a design."""
POWERS_IN_POWERS = 0
"""Powers of powers grow beyond all numbers from some number on: who chose it would learn whose column has a larger."""
_BLANK = re.compile(r"\w\s+\w")
_MEANT = (
    f"a design has {', '.join(FUNCTIONS)} and center of a numeric column, whole powers such as I(age**2), and C(batch) "
    "or C(batch, levels=[...])"
)


@dataclass(frozen=True)
class Factor:
    """One factor of a formula's terms."""

    expr: str
    """As it is called in names of columns."""
    variable: str
    """The obs column that it is made of."""
    steps: tuple[tuple[str, int], ...] = ()
    """Functions of it from the inside out, with their exponent: ``("log", 0)``, ``("power", 2)``."""
    centred: bool = False
    """Whether its mean over all samples is taken off."""
    categorical: bool = False
    """Whether it is a factor, whatever the column holds: ``C(...)``."""
    levels: tuple[str, ...] = ()
    """Those that ``C(..., levels=[...])`` lists."""

    @property
    def bare(self) -> bool:
        """Whether the column's kind decides what it is."""
        return not (self.steps or self.centred or self.categorical)

    @np.errstate(all="ignore")
    def values(self, column: Sequence[float] | NDArray[Any]) -> Floats:
        """The function's values at those of the column, not centred; not finite where it has none."""
        found = np.asarray(column, dtype=np.float64)
        for name, exponent in self.steps:
            if name == "power":
                power = found
                for _ in range(exponent - 1):
                    power = power * found
                found = power
            else:
                found = FUNCTIONS[name](found)
        return found


@dataclass(frozen=True)
class Formula:
    """A formula's terms, each the factors it is a product of; the intercept has none."""

    text: str
    terms: tuple[tuple[Factor, ...], ...]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """All of them, in order of appearance."""
        return tuple(dict.fromkeys(factor for term in self.terms for factor in term))

    @property
    def variables(self) -> tuple[str, ...]:
        """The obs columns that it needs, in order of appearance."""
        return tuple(dict.fromkeys(factor.variable for factor in self.factors))

    @property
    def categorical(self) -> dict[str, tuple[str, ...]]:
        """The obs columns that are factors whatever they hold, with the levels that the formula lists, if any."""
        return {factor.variable: factor.levels for factor in self.factors if factor.categorical}

    def materialise(self, factors: Mapping[str, Coded | Floats], rows: int) -> ModelMatrix:
        """The model matrix of so many rows, from the values of every factor by its `expr`.

        Raises `InputError`, before it is made, for more than `LARGEST_COLUMNS`.
        """
        terms: Terms = tuple(tuple(factor.expr for factor in term) for term in self.terms)
        if (columns := width(terms, factors)) > LARGEST_COLUMNS:
            raise InputError(f"design {self.text!r} has {columns} columns, more than {LARGEST_COLUMNS}")
        return model_matrix(terms, factors, rows)


@lru_cache(maxsize=64)
def parse(text: str) -> Formula:
    """Read a formula. Raises `InputError` for what can't be used."""
    terms = [tuple(_read(text, x.text) if x.code else Factor(x.text, x.text) for x in term) for term in _terms(text)]
    found = Formula(text, tuple(terms))
    for variable in found.variables:
        mine = [factor for factor in found.factors if factor.variable == variable]
        if any(x.categorical for x in mine) and not all(x.categorical for x in mine):
            raise InputError(f"design {text!r}: {variable!r} stands in it both as C({variable}) and as it is")
        if len({x.levels for x in mine if x.levels}) > 1:
            raise InputError(f"design {text!r}: C({variable}, levels=...) lists other levels in another place")
    return found


def _terms(text: str) -> Sequence[Product]:
    try:
        found = read_terms(text)
    except SidesError:
        raise InputError(f"design {text!r} must have nothing left of '~' and a single part") from None
    except LargeError:
        raise InputError(
            f"design {text[:40]!r}... is too large: it may have {LARGEST_TEXT} characters, {LARGEST_TERMS} terms and "
            f"{LARGEST_ORDER} factors in a term"
        ) from None
    except (GrammarError, RecursionError):
        hint = "; a name with a blank in it stands in backticks, as `cell type`" if _BLANK.search(text) else ""
        raise InputError(f"design {text!r} is not a formula like '~ batch + condition'{hint}") from None
    if not found:
        raise InputError(f"design {text!r} has no terms")
    return found


def _read(text: str, expr: str) -> Factor:
    """A factor that is no mere name. Raises `InputError` unless it is made of what `FUNCTIONS` and this file have."""

    def refuse() -> NoReturn:
        raise InputError(f"design {text!r}: {expr!r} is an expression; sites evaluate no code: {_MEANT}")

    plain, meant = without_quotes(expr)
    tree = ast.parse(plain, mode="eval").body

    def function(node: ast.expr) -> str:
        match node:
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="np"), attr=name):
                return name
        return ""

    def number(node: ast.expr) -> tuple[str, tuple[tuple[str, int], ...]]:
        """The column and the steps."""
        match node:
            case ast.Name(id=name):
                return meant.get(name, name), ()
            case ast.Call(func=ast.Name(id="I"), args=[inner], keywords=[]):
                return number(inner)
            case ast.Call(func=called, args=[inner], keywords=[]) if function(called) in FUNCTIONS:
                column, steps = number(inner)
                if not steps:  # log(log(x)) would tell by its failure whether some x is below one
                    return column, ((function(called), 0),)
            case ast.BinOp(left=inner, op=ast.Pow(), right=ast.Constant(value=int(power))):
                if not isinstance(power, bool) and 2 <= power <= LARGEST_POWER:
                    column, steps = number(inner)
                    if sum(name == "power" for name, _ in steps) <= POWERS_IN_POWERS:
                        return column, (*steps, ("power", power))
        refuse()

    match tree:
        case ast.Call(func=ast.Name(id="C"), args=[ast.Name(id=name)], keywords=[]):
            return Factor(expr, meant.get(name, name), categorical=True)
        case ast.Call(
            func=ast.Name(id="C"),
            args=[ast.Name(id=name)],
            keywords=[ast.keyword(arg="levels", value=ast.List(elts=listed) | ast.Tuple(elts=listed))],
        ):
            levels = [x.value for x in listed if isinstance(x, ast.Constant) and isinstance(x.value, str | int | float)]
            if len(levels) != len(listed) or len(set(labels(levels))) != len(levels) or len(levels) < 2:
                raise InputError(f"design {text!r}: {expr!r} needs two or more different levels, reference first")
            return Factor(expr, meant.get(name, name), categorical=True, levels=tuple(labels(levels)))
        case ast.Call(func=ast.Name(id="center"), args=[inner], keywords=[]):
            column, steps = number(inner)
            return Factor(expr, column, steps, centred=True)
    column, steps = number(tree)
    return Factor(expr, column, steps)
