"""What each layer of distrust costs, and which attack each of them stops.

*Costs*: whole DESeq2s with layers added one by one. Sums alone come first; then consistency (pairwise: everybody sees
who signed for the set of present sites), which is what ``--trust-aggregator`` leaves; then everything, that is verified
totals and lock-step, told apart by the verbs ``verify`` and ``follow``. What consistency costs is the difference in
opening sums, which is all that it changes. The ledger's CPU seconds are of all parties together, and so is the CPU of
the whole call, whose rest (opening files, joining, reading questions and looking into the rules, tables) stands in rows
of its own, booked to no verb. *Proofs* of what is in Paillier's ciphertexts can't be left out of a fit: they are
measured beside encrypting the same values. *Attacks* are not measured but run, see `distrust_attacks`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import pandas as pd

from experiments.costs.overhead_fits import PAIRWISE, account, load, whole_fit
from experiments.distrust import distrust_attacks, distrust_figures
from experiments.distrust.distrust_reading import (
    ALL,
    ATTACKS,
    BARE,
    FITS,
    PROOFS,
    TRUSTING,
    attack_table,
    proof_ratios,
    ratios,
    stopped,
)
from experiments.groundwork.data_sets import open_set
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.primitives.paillier.plaintext_knowledge import Statement, proof_bytes, prove, verify

T = TypeVar("T")

HEADLINE = "simulated-20000x300x6"
CPU_BAR = 1.6
"""At most so many times the CPU of the same fit with ``--trust-aggregator``; and no more bytes down than up."""
LAYERS: Mapping[str, Mapping[str, bool]] = {
    BARE: {"trust_aggregator": True, "consistency": False},
    TRUSTING: {"trust_aggregator": True, "consistency": True},
    ALL: {"trust_aggregator": False, "consistency": True},
}

CONFIGURATION: Configuration = {
    "seed": 1,
    "engine": "local",
    "key_bits": 2048,
    # name of the set, every how many genes, protocol, layers (consistency is pairwise's alone), repeats
    "fits": [
        [HEADLINE, 1, PAIRWISE, [BARE, TRUSTING, ALL], 3],
        [HEADLINE, 1, "additive", [BARE, ALL], 2],
        [HEADLINE, 400, "paillier", [BARE, ALL], 1],
        *[
            [f"simulated-500x{4 * sites}x{sites}", 1, protocol, layers, 1 if sites > 10 else 2]
            for protocol, layers in ((PAIRWISE, [BARE, TRUSTING, ALL]), ("additive", [BARE, ALL]))
            for sites in (3, 6, 10, 20, 50)
        ],
    ],
    # ciphertexts, repeats
    "proofs": [200, 3],
    "attacks": ["a01", "a01b", *(f"a{number:02}" for number in range(2, 18))],
}
QUICK: Configuration = {
    "fits": [
        ["simulated-200x12x3", 1, PAIRWISE, [BARE, TRUSTING, ALL], 1],
        ["simulated-200x12x3", 1, "additive", [BARE, ALL], 1],
    ],
    "proofs": [10, 1],
    "attacks": ["a05", "a16"],
}

_NOTHING: Row = {
    "set": "", "every": "", "genes": "", "sites": "", "protocol": "", "layers": "", "repeat": "", "role": "",
    "verb": "", "count": "", "seconds": "", "cpu_seconds": "", "bytes_up": "", "bytes_down": "", "down_per_up": "",
    "attack": "", "gave": "", "layer": "", "test": "", "outcome": "", "twin": "", "twin_outcome": "",
}  # fmt: skip
"""One table for three parts: what a part does not have is empty."""


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """Attacks by the file of their tests, proofs, and fits: repeats outermost, layers in turn first."""
    count, repeats = configuration["proofs"]
    fits = [
        Measurement(
            f"{FITS}/{name}/{every}/{protocol}/{layers}/{repeat}",
            partial(measure, name, every, protocol, layers, repeat, configuration),
        )
        for repeat in range(max(fit[-1] for fit in configuration["fits"]))
        for name, every, protocol, ways, wanted in configuration["fits"]
        if repeat < wanted
        for layers in (*ways[repeat % len(ways) :], *ways[: repeat % len(ways)])
    ]
    proofs = [
        Measurement(f"{PROOFS}/{repeat}", partial(prove_and_verify, count, repeat, configuration["key_bits"]))
        for repeat in range(repeats)
    ]
    attacks = [
        Measurement(f"{ATTACKS}/{file}", partial(attacked, some))
        for file, some in distrust_attacks.by_file(configuration["attacks"]).items()
    ]
    return [*fits, *proofs, *attacks]


def measure(
    name: str, every: int, protocol: str, layers: str, repeat: int, configuration: Configuration
) -> Iterator[Row]:
    """One fit; a row for each role and verb, all parties together, and one for what is not booked."""
    _warm()
    options: dict[str, Any] = {"engine": configuration["engine"], "key_bits": configuration["key_bits"]}
    told = account(name, every, configuration["seed"], protocol, repeat, protocol=protocol, **options, **LAYERS[layers])
    rows = pd.DataFrame(list(told))
    sent = rows[rows["role"] == "site"].groupby("party")[["bytes_up", "bytes_down"]].sum()
    fit: Row = {
        "part": FITS,
        **_NOTHING,
        "set": name,
        "every": every,
        "genes": int(rows["genes"].iloc[0]),
        "sites": len(sent),
        "protocol": protocol,
        "layers": layers,
        "repeat": repeat,
        "down_per_up": round(float((sent["bytes_down"] / sent["bytes_up"]).max()), 4),
    }
    costs = ["seconds", "cpu_seconds", "bytes_up", "bytes_down"]
    for line in rows.groupby(["role", "verb"], sort=False)[costs].sum().reset_index().to_dict("records"):
        spent: dict[str, Any] = {str(name): value for name, value in line.items()}
        yield {**fit, **spent, "seconds": round(spent["seconds"], 6), "cpu_seconds": round(spent["cpu_seconds"], 6)}


@cache
def _warm() -> None:
    """Load what is compiled or worked out once a process: it is no fit's cost."""
    load()
    whole_fit(open_set("simulated-60x12x3"), protocol=PAIRWISE, trust_aggregator=False)


def prove_and_verify(count: int, repeat: int, key_bits: int) -> Iterator[Row]:
    """Encrypting so many values that fill a ciphertext each, proving knowledge of them, and verifying that."""

    def entropy(size: int) -> bytes:
        return secrets.token_bytes(size)

    public = make_key(key_bits, entropy).public
    plaintexts = [int.from_bytes(entropy(public.plaintext_bytes - 1), "little") for _ in range(count)]
    Obfuscators(public, "djn", entropy).prepare(1)  # the tables of a key are made once

    def encrypt() -> tuple[list[int], Any]:
        taken = Obfuscators(public, "djn", entropy).take(count)
        pairs = zip(plaintexts, taken.values, strict=True)
        return [public.nude(value) * obfuscator % public.n_squared for value, obfuscator in pairs], taken

    (ciphertexts, taken), encrypting = _timed(encrypt)
    statement, key = Statement(public, b"distrust", ciphertexts), entropy(32)
    proof, proving = _timed(lambda: prove(statement, plaintexts, taken.root, key))
    _, verifying = _timed(lambda: verify(Statement(public, b"distrust", ciphertexts), proof))
    for verb, spent, size in (
        ("encrypt", encrypting, count * public.ciphertext_bytes),
        ("prove", proving, proof_bytes(public)),
        ("verify", verifying, 0),
    ):
        costs = {"seconds": round(spent[0], 6), "cpu_seconds": round(spent[1], 6), "bytes_up": size}
        yield {"part": PROOFS, **_NOTHING, "repeat": repeat, "verb": verb, "count": count, **costs}


def _timed(call: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """What a call gives, its seconds, and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = call()
    return made, (time.perf_counter() - wall, time.process_time() - cpu)


def attacked(attacks: Sequence[distrust_attacks.Attack]) -> Iterator[Row]:
    """The attacks whose tests are in one file; a row each."""
    for told in distrust_attacks.run(attacks):
        yield {"part": ATTACKS, **_NOTHING, **told}


def answer(rows: pd.DataFrame) -> str:
    """What all layers cost beside trust, whether the bars are met, what proofs cost; which attacks were stopped."""
    told, proofs = ratios(rows), proof_ratios(rows)
    first = told.iloc[0]
    cpu = _met(first["whole"] <= CPU_BAR, f"at most {CPU_BAR:g} wanted")
    sent = _met(first["down_per_up"] <= 1, "at most 1 wanted")
    return (
        f"A whole DESeq2 of {first['genes']:,.0f} genes at {first['sites']:.0f} sites with verified totals and "
        f"lock-step takes, beside the same with --trust-aggregator, {first['whole']:.2f} times the CPU ({cpu}; "
        f"{first['booked']:.2f} times that of the verbs alone) by pairwise masks{_others(told)}; by pairwise masks no "
        f"site is told more than {first['down_per_up']:.2f} bytes per byte that it sends ({sent}). By number of sites, "
        f"the CPU of verbs is {_by_sites(told)}. A proof costs {proofs['prove']:.2g} times what encrypting does, and "
        f"verifying one {proofs['verify']:.2g} times. {_attacks(rows)}"
    )


def _others(told: pd.DataFrame) -> str:
    """The same of the other protocols, on the genes that they were given."""
    first = told.iloc[0]
    others = told[(told["set"] == first["set"]) & (told["protocol"] != first["protocol"])]
    return "".join(
        f", {line.whole:.2f} times by {line.protocol} ({line.genes:,} genes)" for line in others.itertuples()
    )


def _by_sites(told: pd.DataFrame) -> str:
    mine = told[(told["protocol"] == PAIRWISE) & (told["set"] != HEADLINE)].sort_values("sites")
    return ", ".join(f"{line.booked:.2f} times (n = {line.sites})" for line in mine.itertuples())


def _attacks(rows: pd.DataFrame) -> str:
    """How many attacks each layer stopped, and which none did."""
    table = attack_table(rows)
    held = stopped(table)
    by_layer = table[held].groupby("layer", sort=False).size().sort_values(ascending=False)
    told = ", ".join(f"{layer} {count}" for layer, count in by_layer.items())
    open_ = ", ".join(table.loc[~held, "attack"].drop_duplicates())
    return (
        f"Of {len(table)} attacks {held.sum()} were stopped and succeeded without the one layer: {told}; "
        f"{f'not so: {open_}' if open_ else 'none was not'}."
    )


def _met(kept: bool, bar: str) -> str:
    return f"{bar}: {'met' if kept else 'missed'}"


EXPERIMENT = Experiment(
    name="distrust",
    question="What does each layer of distrust cost, and which attack does it stop?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=distrust_figures.figures,
    answer=answer,
)
