"""Run FedPyDESeq2's published pipeline over a folder of centres: a program for an interpreter of its own.

``python fedpydeseq2_program.py FOLDER``: reads ``order.json`` and ``data/center_i/``, writes ``found.json``. It knows
nothing of secirls, whose dependencies are not there. Its nodes are asked to do what they did, and every task is timed
and its messages are measured as substrafl's own serializer, pickle, would write them: a simulation hands objects on in
memory, a deployment sends these files.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

OPENER = """
from pathlib import Path
import anndata
import pandas
import substratools

class Opener(substratools.Opener):
    def fake_data(self, n_samples=None):
        raise NotImplementedError

    def get_data(self, folders):
        folder = Path(folders[0])
        counts = pandas.read_csv(folder / "counts_data.csv", index_col="barcode")
        obs = pandas.read_csv(folder / "metadata.csv", index_col="barcode")
        return anndata.AnnData(X=counts.to_numpy(), obs=obs.loc[counts.index], var=counts.columns.to_frame()[[]])
"""


class Account:
    """What the nodes' tasks cost; measuring is left out of it."""

    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = self.measuring_seconds = 0.0
        self.rounds = self.bytes_up = self.bytes_down = 0

    def timed(self, update: Any, *arguments: Any, **options: Any) -> Any:
        """Run one task of a node."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = update(*arguments, **options)
        self.wall_seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu
        return result

    def size(self, message: Any) -> int:
        """Bytes of a message as the serializer writes it."""
        began = time.perf_counter()
        length = len(pickle.dumps(message))
        self.measuring_seconds += time.perf_counter() - began
        return length

    def keep(self, train: Any, aggregation: Any) -> None:
        """Have every task of both kinds of nodes booked here."""
        train_update, aggregation_update = train.update_states, aggregation.update_states

        def at_a_centre(node: Any, operation: Any, *arguments: Any, **options: Any) -> Any:
            if operation.shared_state is not None:
                self.bytes_down += self.size(operation.shared_state)
            return self.timed(train_update, node, operation, *arguments, **options)

        def at_the_aggregator(node: Any, operation: Any, *arguments: Any, **options: Any) -> Any:
            self.rounds += 1
            self.bytes_up += sum(map(self.size, operation.shared_states or ()))
            return self.timed(aggregation_update, node, operation, *arguments, **options)

        train.update_states, aggregation.update_states = at_a_centre, at_the_aggregator


def main(folder: Path) -> None:
    """Fit, timed from the call to the result."""
    from fedpydeseq2.fedpydeseq2_pipeline import run_fedpydeseq2_experiment
    from substrafl.nodes.aggregation_node import SimuAggregationNode
    from substrafl.nodes.train_data_node import SimuTrainDataNode

    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    assets = folder / "assets"
    assets.mkdir()
    (assets / "opener.py").write_text(OPENER, encoding="utf-8")
    (assets / "description.md").write_text("counts of one centre", encoding="utf-8")
    levels = order["levels"]
    tested = next(iter(levels))
    reference, treated = levels[tested]
    account = Account()
    account.keep(SimuTrainDataNode, SimuAggregationNode)
    found = run_fedpydeseq2_experiment(
        n_centers=order["centres"],
        backend="subprocess",
        simulate=True,
        register_data=True,
        asset_directory=assets,
        centers_root_directory=folder / "data",
        design_factors=list(levels),
        ref_levels={factor: both[0] for factor, both in levels.items()},
        contrast=[tested, treated, reference],
        num_jobs=1,
        joblib_backend="threading",
    )
    adjusted = [float(x) for x in found["padj"]]
    told = {
        "version": version("fedpydeseq2"),
        "seconds": account.wall_seconds,
        "cpu_seconds": account.cpu_seconds,
        "measuring_seconds": account.measuring_seconds,
        "rounds": account.rounds,
        "bytes_up": account.bytes_up,
        "bytes_down": account.bytes_down,
        "genes": list(map(str, found["gene_names"])),
        "padj": [x if math.isfinite(x) else None for x in adjusted],
    }
    (folder / "found.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
