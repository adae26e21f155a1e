"""``python -m experiments NAME [--quick] [--plot] [--fresh]``; without a name, the list of questions and answers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

# As on Ray's actors, and before anything loads a BLAS: costs of one thread, comparable across engines.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

if TYPE_CHECKING:
    from experiments.groundwork.record import Experiment

ROOMS = {
    "speed": "speed",
    "overhead": "costs",
    "leakage": "leakage",
    "fidelity": "sums",
    "agreement": "estimates",
    "dispersion": "estimates",
    "scaling": "costs",
    "dropout": "sums",
    "peers": "sums",
    "cost": "costs",
    "distrust": "distrust",
}
"""Every experiment and the room that it stands in."""
NAMES = tuple(ROOMS)
BAD_INPUT, INTERRUPTED = 2, 130


def experiment(name: str) -> Experiment:
    """The experiment of that name."""
    found: Experiment = import_module(f"experiments.{ROOMS[name]}.{name}").EXPERIMENT
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, redraw or list; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="a small configuration, into a folder of its own")
    parser.add_argument("--plot", action="store_true", help="redraw the figures from the rows that are there")
    parser.add_argument("--fresh", action="store_true", help="delete this experiment's rows first")
    parser.add_argument("--only", action="append", default=[], metavar="KEY", help="what begins so; may be repeated")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="instead of experiments/results")
    chosen = parser.parse_args(arguments)
    from experiments.groundwork.pages import rewrite
    from experiments.groundwork.record import draw, folder_of, read, run
    from secirls.input_error import InputError

    if chosen.name is None:
        for name in NAMES:
            one = experiment(name)
            rows = folder_of(name, quick=chosen.quick, root=chosen.out) / "rows.csv"
            print(f"{name}\n  {one.question}\n  {one.answer(read(rows)) if rows.is_file() else 'not measured yet'}")
        return 0
    one = experiment(chosen.name)
    folder = folder_of(chosen.name, quick=chosen.quick, root=chosen.out)
    try:
        if not chosen.plot:
            folder = run(one, quick=chosen.quick, fresh=chosen.fresh, root=chosen.out, only=chosen.only)
        sentence = draw(one, folder)
        written = [] if chosen.quick or chosen.out else rewrite(one, folder)
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"experiments: interrupted; finished rows are kept in {folder}, run again to go on", file=sys.stderr)
        return INTERRUPTED
    for page in written:
        print(f"written anew: {page}")
    print(f"{sentence}\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
