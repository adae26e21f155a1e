"""The rows of distrust, read: costs by layer and in ratios, and what was stopped.

Promises: everything is a function of the rows, medians over repeats. Refuses to know: how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from experiments.costs.overhead_fits import PAIRWISE
from experiments.distrust.distrust_attacks import PASSED

FITS, PROOFS, ATTACKS = "fits", "proofs", "attacks"
"""The parts."""
BARE, TRUSTING, ALL = "sums alone", "consistency", "everything"
"""Layers, one upon the other."""
FIT = ["set", "every", "genes", "sites", "protocol"]
CONSISTENCY, VERIFIED, LOCK_STEP = "consistency", "verified totals", "lock-step"
_OPENING = ("combine", "assist", "open")


def fits(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of fits, whole numbers as such, no verb as an empty one."""
    mine = rows[rows["part"] == FITS].copy()
    whole = ["every", "genes", "sites", "repeat", "bytes_up", "bytes_down"]
    mine[whole] = mine[whole].astype("int64")
    return mine.assign(verb=mine["verb"].fillna(""), role=mine["role"].fillna(""))


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """By fit and layers: CPU seconds of the whole call, of its verbs, of some of them; bytes up and down of a site."""
    mine = fits(rows)
    cpu, verb, site = mine["cpu_seconds"], mine["verb"], mine["role"] == "site"
    marked = mine.assign(
        whole=cpu,
        booked=cpu.where(verb != "", 0.0),
        opening=cpu.where(verb.isin(_OPENING), 0.0),
        verify=cpu.where(verb == "verify", 0.0),
        follow=cpu.where(verb == "follow", 0.0),
        up=(mine["bytes_up"] / mine["sites"]).where(site, 0.0),
        down=(mine["bytes_down"] / mine["sites"]).where(site, 0.0),
    )
    within, spent = [*FIT, "layers"], ["whole", "booked", "opening", "verify", "follow", "up", "down"]
    by_repeat = marked.groupby([*within, "repeat"], sort=False)
    sums = by_repeat[spent].sum().assign(down_per_up=by_repeat["down_per_up"].first())
    return sums.groupby(within, sort=False).median()


def _by_fit(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], Any, Any, Any]]:
    """Every fit, in its order, and its costs with sums alone, with what ``--trust-aggregator`` leaves, with all."""
    for _, table in costs(rows).reset_index().groupby(FIT, sort=False):
        ways = table.set_index("layers")
        fit = {str(name): ways[name].iloc[0] for name in FIT}
        trusting = TRUSTING if fit["protocol"] == PAIRWISE else BARE
        yield fit, ways.loc[BARE], ways.loc[trusting], ways.loc[ALL]


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """By fit: everything beside trust, in CPU of the whole call and of its verbs; bytes down per byte up of a site."""
    return pd.DataFrame(
        {
            **fit,
            "whole": everything["whole"] / trusting["whole"],
            "booked": everything["booked"] / trusting["booked"],
            "down_per_up": everything["down_per_up"],
        }
        for fit, _, trusting, everything in _by_fit(rows)
    )


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """By fit: CPU seconds of the verbs of sums alone, and what each layer adds to them."""
    return pd.DataFrame(
        {
            **fit,
            BARE: bare["booked"],
            CONSISTENCY: trusting["opening"] - bare["opening"],
            VERIFIED: everything["verify"] - trusting["verify"],
            LOCK_STEP: everything["follow"],
        }
        for fit, bare, trusting, everything in _by_fit(rows)
    )


def proof_ratios(rows: pd.DataFrame) -> pd.Series[float]:
    """CPU of proving and of verifying as a multiple of encrypting; medians over repeats."""
    mine = rows[rows["part"] == PROOFS]
    spent: pd.Series[float] = mine.groupby("verb")["cpu_seconds"].median()
    return spent / float(spent["encrypt"])


def attack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The attacks in the order of their numbers."""
    return rows[rows["part"] == ATTACKS].sort_values("attack", kind="stable").reset_index(drop=True)


def stopped(table: pd.DataFrame) -> pd.Series[bool]:
    """Which attacks a test stops, of those that succeed in the twin."""
    return (table["outcome"] == PASSED) & (table["twin_outcome"] == PASSED)
