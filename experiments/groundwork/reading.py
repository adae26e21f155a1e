"""Rows of a record, read for pages and figures: what type a cell has only the experiment knows that wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd


def lines(table: pd.DataFrame) -> Iterator[Any]:
    """Its rows as named tuples, cells by the columns' names."""
    return table.itertuples()


def parts(table: pd.DataFrame, by: list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """The values of some columns, one tuple each time, and the rows that have them, in the order of the record."""
    return iter(table.groupby(by, sort=False))
