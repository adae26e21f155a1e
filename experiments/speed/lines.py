"""The lines of the page's table: what each compares, how its rows are read, and what was aimed at.

Promises: a cell is a function of the rows, and whether an aim is missed too. Refuses to know: how rows are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

Reading: TypeAlias = Literal["faster", "times", "itself", "slope", "most"]
"""Baseline over value; value over baseline; the value; its power in the baseline; the largest value."""
NOT_MEASURED = "not measured"
_COMPARED = {"faster": " less", "times": " of it"}


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    name: str
    """Of the line, and in the column ``line`` of the rows unless ``rows_of`` names others."""
    what: str
    """With ``{cases}`` where its cases stand."""
    against: str
    reading: Reading = "faster"
    cases: Sequence[object] = ("",)
    aims: Sequence[float | None] = field(default=())
    """One for all cases, or one for each; at least so much where more is better, at most so much elsewhere."""
    unit: str = ""
    rows_of: str = ""

    def figures(self, rows: pd.DataFrame) -> list[float]:
        """One for each case, or for all together; NaN where it is not measured."""
        mine = rows[rows["line"] == (self.rows_of or self.name)]
        if self.reading in {"slope", "most"}:
            return [_TOGETHER[self.reading](mine)]
        by_case = dict(iter(mine.groupby(mine["case"].fillna("").astype(str))))
        return [_EACH[self.reading](by_case[str(case)]) if str(case) in by_case else math.nan for case in self.cases]

    def aimed(self, figures: Sequence[float]) -> list[float | None]:
        """The aim of every figure."""
        aims = list(self.aims) or [None]
        return aims * len(figures) if len(aims) == 1 else aims

    def missed(self, rows: pd.DataFrame) -> list[bool | None]:
        """Whether every figure misses its aim; ``None`` where it has none, or was not measured."""
        figures = self.figures(rows)
        return [
            None if aim is None or math.isnan(figure) else figure < aim if self.reading == "faster" else figure > aim
            for figure, aim in zip(figures, self.aimed(figures), strict=True)
        ]

    def measured(self, rows: pd.DataFrame) -> str:
        """All figures, in the order of the cases."""
        figures = self.figures(rows)
        if all(map(math.isnan, figures)):
            return NOT_MEASURED
        told = (NOT_MEASURED if math.isnan(figure) else self._written(digits(figure)) for figure in figures)
        return " / ".join(told) + _COMPARED.get(self.reading, "")

    def _written(self, figure: str) -> str:
        return f"{figure}x" if self.reading == "faster" else f"{figure}{self.unit}"

    def wanted(self) -> str:
        """The aims, or a dash."""
        if all(aim is None for aim in self.aims):
            return "-"
        return " / ".join("-" if aim is None else self._written(f"{aim:,g}") for aim in self.aims)

    def told(self, rows: pd.DataFrame) -> tuple[str, str, str, str]:
        """The cells: what, against, measured, aim."""
        cases, missed = list(map(str, self.cases)), self.missed(rows)
        names = " / ".join(case for case, fails in zip(cases, missed, strict=False) if fails)
        failing = "" if True not in missed else ", missed" if False not in missed else f", missed at {names}"
        return self.what.format(cases=" / ".join(cases)), self.against, self.measured(rows), self.wanted() + failing


def _ratios(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["value"] / rows["against"]


def _slope(rows: pd.DataFrame) -> float:
    """Of the medians on logarithms, over all that was measured, by least squares."""
    medians = rows.groupby("against")["value"].median()
    if len(medians) < 2:
        return math.nan
    return float(np.polyfit(np.log(medians.index.to_numpy(dtype=np.float64)), np.log(medians), 1)[0])


_EACH: dict[str, Callable[[pd.DataFrame], float]] = {
    "faster": lambda rows: float((1.0 / _ratios(rows)).median()),
    "times": lambda rows: float(_ratios(rows).median()),
    "itself": lambda rows: float(rows["value"].median()),
}
_TOGETHER: dict[str, Callable[[pd.DataFrame], float]] = {
    "slope": _slope,
    "most": lambda rows: float(rows["value"].max()),
}


def digits(figure: float) -> str:
    """Three of a figure's."""
    return f"{float(f'{figure:.3g}'):,g}"


MASKED = "`pairwise`, six sites, 20,000 genes x 300 samples"
LINES: Sequence[Line] = (
    Line(
        "distinct rows",
        "summand kernel, 4,000 genes, n = 1,000, p = {cases}: rows all distinct",
        "FedPyDESeq2's batched form",
        cases=(2, 5),
        aims=(12, 4),
    ),
    Line("distinct rows, NumPy", "the same by NumPy, p = {cases}", "the same", cases=(2, 5)),
    Line(
        "few rows",
        "the same, few distinct design rows, over samples, p = {cases}",
        "the same",
        cases=(2, 5),
        aims=(18,),
    ),
    Line("few rows, nodes", "the same by nodes in the log size factor, p = {cases}", "the same", cases=(2, 5)),
    Line(
        "nodes",
        "a round by nodes, two rows, n = {cases}",
        "the fused kernel over samples",
        cases=("100", "300", "1,000", "5,000"),
        aims=(1.9, 4.2, 14, 91),
    ),
    Line(
        "weights of nodes",
        "weights of nodes, once for all counts, n = {cases}",
        "one round over samples",
        "times",
        cases=("100", "300", "1,000", "5,000"),
    ),
    Line(
        "profile by nodes", "a profile by nodes, two rows, n = {cases}", "over samples", cases=("100", "300", "1,000")
    ),
    Line("large counts", "a gene with a count above 131,072", "one without", "times", aims=(20,)),
    Line(
        "whole fit by nodes",
        "a whole DESeq2, 2,000 genes x 3,000 samples at 3 sites, four rows",
        "the same without nodes",
    ),
    Line("threads", "the fused kernel on two threads (`--n-jobs 2`), wall", "one thread"),
    Line(
        "solving",
        "solving a round's systems, 20,000 genes, p = {cases}",
        "one stacked `np.linalg.solve`",
        cases=(2, 5, 8),
        aims=(3,),
    ),
    Line(
        "codec",
        "{cases} 120,000 values of two limbs",
        "the same bits by passes over whole arrays",
        cases=("encoding", "decoding"),
    ),
    Line("check values", "check values of 120,000 values", "SHA-256 over the same bytes", "times", aims=(0.3,)),
    Line("digest", "the digest of a payload of 120,000 values", "SHA-256"),
    Line(
        "masks",
        "masks of five neighbours, {cases} values, by CFB",
        "by CTR",
        "times",
        cases=("16,000", "60,000"),
    ),
    Line("keystream", "masks of ten parties, 120,000 values", "their raw keystream by CTR", "times", aims=(1.43,)),
    Line(
        "irls, pairwise",
        f"a whole fit, {MASKED}, IRLS given dispersions, p = {{cases}}",
        "`plain`",
        "times",
        cases=(2, 5),
        aims=(1.15, 1.2),
    ),
    Line(
        "irls, pairwise, one trip less",
        "the same without `consistency`, as the first version had it, p = {cases}",
        "`plain`",
        "times",
        cases=(2, 5),
        aims=(1.15, 1.2),
    ),
    Line(
        "irls, pairwise-lean", "the same by `pairwise-lean`, p = {cases}", "`plain`", "times", cases=(2, 5), aims=(1.1,)
    ),
    Line(
        "deseq2, pairwise",
        "a whole DESeq2 of the same sites, `pairwise`, p = {cases}",
        "`plain`",
        "times",
        cases=(2, 5),
        aims=(1.25,),
    ),
    Line(
        "deseq2, pairwise, one trip less",
        "the same without `consistency`, p = {cases}",
        "`plain`",
        "times",
        cases=(2, 5),
        aims=(1.25,),
    ),
    Line("deseq2, pairwise-lean", "the same by `pairwise-lean`, p = {cases}", "`plain`", "times", cases=(2, 5)),
    Line(
        "late round",
        "a late round: a sum of 21 values over six parties, all legs, {cases}",
        "itself, CPU of all parties",
        "itself",
        cases=("pairwise", "pairwise-lean"),
        unit=" ms",
    ),
    Line(
        "late round, unsigned",
        "the same without its signatures, made and verified, {cases}",
        "itself",
        "itself",
        cases=("pairwise", "pairwise-lean"),
        aims=(None, 2),
        unit=" ms",
    ),
    Line("late round, lean", "the same, `pairwise-lean`", "`pairwise` with `consistency`", "times"),
    Line(
        "FedPyDESeq2, CPU",
        "a whole DESeq2, `pairwise`, 20,000 genes x 300 samples at 3 sites, CPU, p = {cases}",
        "FedPyDESeq2's pipeline",
        cases=(2, 5),
        aims=(15,),
    ),
    Line("FedPyDESeq2, bytes", "the same, bytes up, p = {cases}", "the same", cases=(2, 5), aims=(10,)),
    Line("PyDESeq2, CPU", "the same, CPU, p = {cases}", "PyDESeq2, counts pooled", cases=(2, 5), aims=(1,)),
    Line(
        "encryption, inline",
        "Paillier {cases} bits, encryption inline, `djn`",
        "phe, one float per ciphertext",
        cases=(2048, 3072),
        aims=(250,),
    ),
    Line(
        "encryption, ahead",
        "the same with `short` exponents made ahead, {cases} bits",
        "the same",
        cases=(2048, 3072),
        aims=(1000,),
    ),
    Line(
        "decryption, two threads",
        "decryption, exact slots, two threads, wall, {cases} bits",
        "the same",
        cases=(2048, 3072),
        aims=(25,),
    ),
    Line("decryption", "the same, one thread, {cases} bits", "the same", cases=(2048, 3072)),
    Line(
        "decryption, one limb",
        "decryption, one-limb slots (`--fraction-bits`), one thread, {cases} bits",
        "the same",
        cases=(2048, 3072),
        aims=(25,),
    ),
    Line(
        "subgroup decryption",
        "a subgroup key (`--obfuscation subgroup`), {cases} bits: decryption",
        "a whole key",
        cases=(2048, 3072),
        aims=(4,),
    ),
    Line("subgroup obfuscators", "the same, obfuscators, {cases} bits", "`djn`", cases=(2048, 3072)),
    Line(
        "ciphertext bytes",
        "bytes of ciphertext per value, {cases}",
        "8 of a float64",
        "itself",
        cases=("exact", "one limb"),
        aims=(40, 20),
    ),
    Line(
        "sites, aggregator",
        "the aggregator's CPU for the first round of a session, 50 to 1,000 sites: as a power of their number",
        "itself",
        "slope",
        aims=(1.1,),
    ),
    Line(
        "thousand sites",
        "the same at {cases} sites",
        "itself",
        "itself",
        cases=("1,000",),
        aims=(700,),
        unit=" ms",
        rows_of="sites, aggregator",
    ),
    Line(
        "memory",
        "what a site's process grows by over IRLS, 6,000 genes x 4,000 samples, {cases}",
        "its counts as one int32 matrix",
        "itself",
        cases=("a tenth above zero", "all above zero"),
    ),
    Line(
        "memory, whole",
        "the same with counts and active genes held whole, {cases}",
        "the same",
        "itself",
        cases=("a tenth above zero", "all above zero"),
    ),
    Line(
        "rounds",
        "rounds of a whole DESeq2, the most of twelve fits ([below](#rounds))",
        "itself",
        "most",
        aims=(80,),
    ),
)
"""In the table's order."""
