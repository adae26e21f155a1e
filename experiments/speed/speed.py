"""How fast everything is, each as a ratio to a baseline that runs beside it in the same process.

One command measures all figures of the page on speed at one commit, on one machine, and writes its tables. Candidates
run in turn, CPU seconds are compared (walls where threads are meant), and a figure is the median of the ratios of its
repeats. ``lines.py`` says what is compared and what was aimed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from experiments.groundwork.record import Configuration, Experiment, Measurement
from experiments.speed import ciphers, fits, kernels, page, sizes, sums
from experiments.speed.lines import LINES, Line
from secirls.outputs.pictures.canvas import BLUE, GREY, VERMILION, Figure, legend, panels

CONFIGURATION: Configuration = {
    "seed": 7,
    "engine": "local",
    "repeats": 5,
    "kernel": {"genes": 4000, "samples": 1000, "params": [2, 5]},
    # samples, genes
    "nodes": [[100, 20_000], [300, 8000], [1000, 3000], [5000, 4000]],
    "profiles": [[100, 1000], [300, 400], [1000, 150]],
    "large_counts": {"genes": 1000},
    "nodes_in_a_fit": {"genes": 2000, "samples": 3000, "repeats": 3},
    "solving": {"genes": 20_000, "params": [2, 5, 8]},
    "values": 120_000,
    "masked": [16_000, 60_000],
    "late": 21,
    "fits": {
        "genes": 20_000,
        "samples": 300,
        "sites": 6,
        "params": [2, 5],
        "repeats": {"irls": 7, "deseq2": 3},
    },
    "key_bits": [2048, 3072],
    "paillier": {"encrypted": 6900, "values": 690, "naive": 12, "ciphertexts": 60},
    "rivals": {"set": "simulated-20000x300x3", "params": [2, 5]},
    "sites": [50, 100, 200, 500, 1000],
    # repeats of rooms of up to so many
    "sites_repeated": {"most": 200, "repeats": 3},
    "memory": {"genes": 6000, "samples": 4000},
    "sets": ["pasilla", "airway", "bottomly", "geuvadis_tsi", "hapmap_lcl", "tcga_brca"],
    "designs": ["~ condition", "~ site + condition"],
    # a round is of the tail where it asks about fewer than so large a part of the genes
    "few": 0.01,
}
QUICK: Configuration = {
    "repeats": 2,
    "kernel": {"genes": 100, "samples": 200, "params": [2]},
    "nodes": [[100, 100]],
    "profiles": [[100, 20]],
    "large_counts": {"genes": 50},
    "nodes_in_a_fit": {"genes": 60, "samples": 300, "repeats": 1},
    "solving": {"genes": 200, "params": [2]},
    "values": 10_000,
    "masked": [16_000],
    "fits": {"genes": 100, "samples": 48, "sites": 3, "params": [2], "repeats": {"irls": 1, "deseq2": 1}},
    "key_bits": [2048],
    "paillier": {"encrypted": 60, "values": 30, "naive": 2, "ciphertexts": 4},
    "rivals": {"set": "simulated-200x48x3", "params": [2]},
    "sites": [5, 10],
    "sites_repeated": {"most": 5, "repeats": 2},
    "memory": {"genes": 300, "samples": 200},
    "sets": ["airway"],
    "designs": ["~ condition"],
}
RIVALS = ("PyDESeq2", "FedPyDESeq2")
SHARES: Mapping[str, float] = {"a tenth above zero": 0.1, "all above zero": 1.0}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """Short ones first, and rivals last."""
    repeats, paillier = configuration["repeats"], configuration["paillier"]
    kernel, fitted, repeated = configuration["kernel"], configuration["fits"], configuration["sites_repeated"]
    rivals, values = configuration["rivals"], configuration["values"]
    return [
        *(Measurement(f"kernel/{p}", partial(kernels.of_a_round, kernel, p, repeats)) for p in kernel["params"]),
        *(Measurement(f"nodes/{n}", partial(kernels.of_nodes, n, g, repeats)) for n, g in configuration["nodes"]),
        *(
            Measurement(f"profile/{n}", partial(kernels.of_a_profile, n, g, repeats))
            for n, g in configuration["profiles"]
        ),
        Measurement("large counts", partial(kernels.of_large_counts, configuration["large_counts"]["genes"], repeats)),
        Measurement("threads", partial(kernels.of_threads, kernel, repeats)),
        *(
            Measurement(f"solving/{p}", partial(kernels.of_solving, configuration["solving"]["genes"], p, repeats))
            for p in configuration["solving"]["params"]
        ),
        Measurement("codec", partial(sums.of_codec, values, repeats)),
        Measurement("check values", partial(sums.of_checks, values, repeats)),
        Measurement("digest", partial(sums.of_digests, values, repeats)),
        *(Measurement(f"masks/{v}", partial(sums.of_masks, v, repeats)) for v in configuration["masked"]),
        Measurement("keystream", partial(sums.of_keystream, values, repeats)),
        Measurement("late round", partial(sums.of_late_rounds, configuration["late"], repeats)),
        *(
            Measurement(f"{preset}/{p}", partial(fits.of_a_fit, preset, p, fitted))
            for preset in fits.CHOICES
            for p in fitted["params"]
        ),
        Measurement("nodes in a fit", partial(fits.of_nodes_in_a_fit, configuration["nodes_in_a_fit"])),
        *(
            Measurement(f"{name}/{bits}", partial(measure, bits, paillier, repeats))
            for bits in configuration["key_bits"]
            for name, measure in (
                ("encryption", ciphers.of_encryption),
                ("decryption", ciphers.of_decryption),
                ("subgroup", ciphers.of_subgroup),
            )
        ),
        Measurement(
            "ciphertext bytes", partial(ciphers.of_bytes, max(configuration["key_bits"]), paillier["encrypted"])
        ),
        *(
            Measurement(f"sites/{n}/{repeat}", partial(sizes.of_sites, n, repeat))
            for n in configuration["sites"]
            for repeat in range(repeated["repeats"] if n <= repeated["most"] else 1)
        ),
        *(
            Measurement(f"memory/{case}", partial(sizes.of_memory, case, share, configuration["memory"]))
            for case, share in SHARES.items()
        ),
        *(
            Measurement(f"rounds/{name}", partial(fits.of_rounds, name, configuration["designs"], configuration["few"]))
            for name in configuration["sets"]
        ),
        *(
            Measurement(f"{way}/{p}", partial(fits.of_a_rival, way, rivals["set"], p, configuration["seed"]))
            for way in RIVALS
            for p in rivals["params"]
        ),
    ]


# --- reading the rows --------------------------------------------------------------------------------------------


def aims(rows: pd.DataFrame) -> tuple[int, int, list[Line]]:
    """How many figures with an aim were measured, how many of them meet it, and the lines in which one does not."""
    missed = {line.name: line.missed(rows) for line in LINES}
    judged = [fails for told in missed.values() for fails in told if fails is not None]
    return len(judged), judged.count(False), [line for line in LINES if True in missed[line.name]]


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """How much better than the baseline every ratio is, beside what was aimed at."""
    shown = [
        (line, _label(line, case), figure, aim)
        for line in LINES
        if line.reading in {"faster", "times"}
        for case, figure, aim in _cells(line, rows)
    ]
    figure, ((axes,),) = panels(1, 1, width=9.0, height=0.23 * len(shown) + 1.2)
    for place, (line, _, value, aim) in enumerate(shown):
        better = value if line.reading == "faster" else 1.0 / value
        axes.plot([1.0, better], [place, place], color=GREY, linewidth=0.8)
        axes.plot(better, place, "o", color=BLUE, markersize=5, label="measured" if place == 0 else "_")
        if aim is not None:
            wanted = aim if line.reading == "faster" else 1.0 / aim
            axes.plot(wanted, place, "|", color=VERMILION, markersize=12, markeredgewidth=2, label="_")
    axes.plot([], [], "|", color=VERMILION, markersize=12, markeredgewidth=2, linestyle="none", label="aim")
    axes.axvline(1.0, color=GREY, linewidth=0.8)
    axes.set(xscale="log", xlabel="baseline over ours (CPU time, walls for threads, bytes)")
    axes.set_yticks(range(len(shown)), [label for _, label, _, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.7)
    axes.tick_params(axis="y", length=0, labelsize=9)
    legend(axes, loc="lower right")
    return {"speed": figure}


def _cells(line: Line, rows: pd.DataFrame) -> list[tuple[object, float, float | None]]:
    """Case, figure and aim of what was measured of a line."""
    found = line.figures(rows)
    told = zip(line.cases, found, line.aimed(found), strict=False)
    return [(case, figure, aim) for case, figure, aim in told if not np.isnan(figure)]


def _label(line: Line, case: object) -> str:
    return line.name + (f", {case}" if str(case) else "")


def answer(rows: pd.DataFrame) -> str:
    """How many aims are met, and which are missed."""
    judged, met, missing = aims(rows)
    told = [f"{line.name} ({line.measured(rows)}; aim {line.wanted()})" for line in missing]
    return f"Of {judged} figures with an aim {met} meet it; missed: {', '.join(told) or 'none'}."


EXPERIMENT = Experiment(
    name="speed",
    question="How fast is every part and the whole, each beside a baseline, and which aims are met?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
    pages={page.PAGE: page.written},
)
