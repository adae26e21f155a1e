"""One whole DESeq2 and the rows that are kept of its ledger: by stage, party and verb.

Promises: a fit's rows are the ledger's, summed over the rounds of each stage, waiting left out, and one for all that
is booked to no verb. Refuses to know: which fits are compared, and why.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pandas as pd

import secirls
from experiments.groundwork.data_sets import DataSet, open_set
from experiments.groundwork.reading import parts
from experiments.groundwork.record import Row
from secirls.agreement.ledger import SETUP_ROUND

PLAIN, PAIRWISE = "plain", "pairwise"
MEETING, UNBOOKED = "meeting", "beside the sums"
CELL = ["set", "every", "genes", "protocol"]
"""Columns of the rows that tell fits apart, repeats aside."""


def whole_fit(data: DataSet, **options: Any) -> secirls.Result:
    """A whole DESeq2: nothing is given, dispersions neither. The design is ``~ condition`` unless ``options`` say.

    Sites trust the aggregator unless they say otherwise: what distrust costs is an experiment of its own.
    """
    usual = {"design": "~ condition", "engine": "local", "trust_aggregator": True}
    asked = {**usual, "levels": {"condition": data.levels}, **options}
    return secirls.fit(data.sites(), **asked)


@cache
def load(design: str = "~ condition", protocol: str = PLAIN) -> None:
    """Load what is compiled, once a design and protocol: it is no fit's cost."""
    whole_fit(open_set("simulated-60x12x3"), design=design, protocol=protocol)


def account(name: str, every: int, seed: int, title: str, repeat: int, **options: Any) -> Iterator[Row]:
    """Rows of one fit of every so many genes of a set, under ``title`` in the column ``protocol``; see `whole_fit`."""
    whole = open_set(name, seed)
    chosen = whole if every == 1 else whole.genes(slice(None, None, every))
    cpu = time.process_time()
    result = whole_fit(chosen, **options)
    cpu = time.process_time() - cpu
    rounds = pd.DataFrame(result.report["rounds"]).set_index("round")
    ledger = result.ledger[result.ledger["verb"] != "wait"]
    ledger = ledger.assign(stage=ledger["round"].map(rounds["stage"]).fillna(MEETING))
    asked = (
        ledger[ledger["round"] != SETUP_ROUND].drop_duplicates("round").groupby("stage")["values"].agg(["size", "sum"])
    )
    fit = {"set": name, "every": every, "genes": chosen.whole.n_vars, "protocol": title, "repeat": repeat}
    costs = ["seconds", "cpu_seconds", "bytes_up", "bytes_down"]
    for (stage, party, role, verb), cell in parts(ledger, ["stage", "party", "role", "verb"]):
        size, values = asked.loc[stage] if stage in asked.index else (0, 0)
        spent = cell[costs].sum()
        yield {
            **fit,
            "stage": stage,
            "rounds": int(size),
            "values": int(values),
            "party": party,
            "role": role,
            "verb": verb,
            "seconds": round(spent["seconds"], 7),
            "cpu_seconds": round(spent["cpu_seconds"], 7),
            "bytes_up": int(spent["bytes_up"]),
            "bytes_down": int(spent["bytes_down"]),
        }
    left: Row = {"party": "everyone", "role": "", "verb": "", "seconds": 0.0, "bytes_up": 0, "bytes_down": 0}
    booked = round(cpu - ledger["cpu_seconds"].sum(), 7)
    yield {**fit, "stage": UNBOOKED, "rounds": 0, "values": 0, **left, "cpu_seconds": booked}


def booked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are some verb's."""
    return rows[rows["stage"] != UNBOOKED]
