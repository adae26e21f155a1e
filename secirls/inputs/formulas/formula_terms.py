"""The grammar of formulas: from a text to products of factors, each as it is written.

Wilkinson and Rogers (1973) as in R and formulaic: ``+ - * / %in% : ^ **``, parentheses, 0 and 1 for the intercept,
names in backquotes, and functions of columns. Promises: these are texts, never looked into and never run. Refuses to
know: which columns and functions there are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple, TypeAlias


class GrammarError(ValueError):
    """A text that is no formula."""


class SidesError(ValueError):
    """A formula with two sides or several parts."""


class LargeError(ValueError):
    """A text that says more than is read: a line of it can name more terms than a machine holds."""


class Written(NamedTuple):
    """A factor as it is written."""

    text: str
    """A name without its quotes, code as Python writes it."""
    code: bool
    """Whether it is more than a name."""


Product: TypeAlias = tuple[Written, ...]
Terms: TypeAlias = dict[frozenset[str], Product]
"""Different products in order of appearance, by the texts of their factors; the intercept is the empty one."""

_TOKEN = re.compile(r"`(?P<quoted>[^`]*)`|(?P<word>[\w.]+)|(?P<operator>%in%|\*\*|[-+*/:^()~|])|(?P<brace>\{)")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_LARGEST_CODE = 2000
LARGEST_TEXT = 1 << 13
"""Characters."""
LARGEST_TERMS = 1 << 8
"""Different products, at any place: all pairs of 22 factors."""
LARGEST_ORDER = 6
"""Factors in one product."""
_LARGEST_CROSSING = 1 << 12
"""Products that are made at once, equal ones too."""
_INTERCEPT: Terms = {frozenset(): ()}
_END = ""
_Token: TypeAlias = Written | str
"""A factor, a number, or an operator."""


def read_terms(text: str) -> list[Product]:
    """A formula's terms, those of fewer factors first, else in order of appearance.

    Raises `GrammarError`, `SidesError` or `LargeError`, or `RecursionError` for one that is nested too deeply.
    """
    if len(text) > LARGEST_TEXT:
        raise LargeError
    tokens = _tokens(text)
    if tokens[0] == "~":
        del tokens[0]
    if "~" in tokens or "|" in tokens:
        raise SidesError(text)
    reader = _Reader(tokens)
    found = dict(_INTERCEPT) if tokens[0] == _END else reader.sum(_INTERCEPT)
    reader.expect(_END)
    return sorted(found.values(), key=len)


def _tokens(text: str) -> list[_Token]:
    """What a text consists of; its end is one too."""
    found: list[_Token] = []
    place = 0
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        match = _TOKEN.match(text, place)
        if match is None:
            raise GrammarError(text)
        start, place = place, match.end()
        word = match["word"]
        if match["brace"]:
            place = _after_bracket(text, start)
            found.append(_code(text[start + 1 : place - 1].strip()))
        elif word and not re.fullmatch(r"[\d.]+", word):
            while text[place : place + 1] in _CLOSERS and text[place] != "{":
                place = _after_bracket(text, place)
            found.append(Written(word, code=False) if place == match.end() else _code(text[start:place]))
        elif match["quoted"] is not None:
            found.append(Written(match["quoted"], code=False))
        else:
            found.append(match[0])
    return [*found, _END]


def without_quotes(code: str) -> tuple[str, dict[str, str]]:
    """Code in which names stand for what is in backquotes, and which name for what."""
    names: dict[str, str] = {}
    plain = re.sub(r"`([^`]*)`", lambda found: names.setdefault(found[1], f"_quoted_{len(names)}_"), code)
    return plain, {mark: name for name, mark in names.items()}


def _code(code: str) -> Written:
    """Code in the one spelling that equal code has."""
    plain, names = without_quotes(code)
    try:
        text = ast.unparse(ast.parse(plain if len(plain) <= _LARGEST_CODE else "", mode="eval"))
    except (SyntaxError, ValueError, MemoryError):
        raise GrammarError(code) from None
    for mark, name in names.items():
        text = text.replace(mark, f"`{name}`")
    return Written(text, code=True)


def _after_bracket(text: str, start: int) -> int:
    """The place after the bracket that closes the one at a place. Quoted text holds none."""
    open_brackets: list[str] = []
    quote = ""
    for place in range(start, len(text)):
        sign = text[place]
        if quote:
            quote = "" if sign == quote and text[place - 1] != "\\" else quote
        elif sign in "`'\"":
            quote = sign
        elif sign in _CLOSERS:
            open_brackets.append(_CLOSERS[sign])
        elif sign in ")]}":
            if sign != open_brackets.pop():
                break
            if not open_brackets:
                return place + 1
    raise GrammarError(text)


class _Reader:
    """Descends through the grammar, one method per precedence."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        self._place += 1
        return self._tokens[self._place - 1]

    def _takes(self, *operators: str) -> _Token:
        """The next token if it is one of these operators, else the end."""
        return self._take() if self._next in operators else _END

    def expect(self, token: str) -> None:
        """Take this token. Raises `GrammarError` for any other."""
        if self._take() != token:
            raise GrammarError(token)

    def sum(self, before: Terms) -> Terms:
        """Terms added to those before, or taken off; 0 takes off the intercept."""
        found, first = dict(before), True
        while first or self._next in ("+", "-"):
            minus, first = False, False
            while sign := self._takes("+", "-"):
                minus ^= sign == "-"
            if self._next == "0":
                self._take()
                named, minus = dict(_INTERCEPT), not minus
            else:
                named = self._crossed()
            kept = {key: term for key, term in found.items() if key not in named}
            found = kept if minus else _united(found, named)
        return found

    def _crossed(self) -> Terms:
        left = self._interaction()
        while operator := self._takes("*", "/", "%in%"):
            right = self._interaction()
            if operator == "*":
                left = _united(left, right, _products(left, right))
            else:
                outer, inner = (left, right) if operator == "/" else (right, left)
                if not outer:
                    raise GrammarError(operator)
                left = _united(outer, _products(_set([reduce(_times, outer.values())]), inner))
        return left

    def _interaction(self) -> Terms:
        left = self._power()
        while self._takes(":"):
            left = _products(left, self._power())
        return left

    def _power(self) -> Terms:
        base = self._operand()
        if not self._takes("^", "**"):
            return base
        exponent = self._take()
        if isinstance(exponent, Written) or not re.fullmatch(r"0*[1-9]\d{0,8}", exponent):
            raise GrammarError(exponent)
        found = base
        for _ in range(int(exponent) - 1):
            before, found = found, _products(found, base)
            if len(found) == len(before):  # further factors change nothing
                break
        return found

    def _operand(self) -> Terms:
        taken = self._take()
        if isinstance(taken, Written):
            return _set([(taken,)])
        if taken == "1":
            return dict(_INTERCEPT)
        if taken != "(":
            raise GrammarError(taken)
        inner = self.sum({})
        self.expect(")")
        return inner


def _set(products: Iterable[Product]) -> Terms:
    """Different products, each in its first form. Raises `LargeError`."""
    found: Terms = {}
    for product in products:
        found.setdefault(frozenset(factor.text for factor in product), product)
        if len(found) > LARGEST_TERMS or len(product) > LARGEST_ORDER:
            raise LargeError
    return found


def _times(left: Product, right: Product) -> Product:
    there = {factor.text for factor in left}
    return (*left, *(factor for factor in right if factor.text not in there))


def _products(left: Terms, right: Terms) -> Terms:
    if len(left) * len(right) > _LARGEST_CROSSING:
        raise LargeError
    return _set(_times(a, b) for a in left.values() for b in right.values())


def _united(*sets: Terms) -> Terms:
    return _set(product for terms in sets for product in terms.values())
