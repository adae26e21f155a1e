"""The process that orders a fit on Ray holds no counts, no sample names and no payloads: its memory is searched.

But for Ray's object store, which is one piece of memory for all processes of a machine: on a machine of its own the one
who orders a fit shares none with a site, and on one machine all are one trust domain, as every report says.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secirls.aggregator import transcript
from secirls.inputs.datasets import write_simulated

pytestmark = pytest.mark.slow

DRIVER = """
import sys
from pathlib import Path
from secirls.config import Config
from secirls.fitting import fit_config
folder = Path(sys.argv[1])
files = {path.stem: str(path) for path in folder.glob("site*.h5ad")}
result = fit_config(Config(design="~ condition", kernel="numpy"), files, transcript=folder / "t")
print("fitted", len(result.table), flush=True)
sys.stdin.readline()
import anndata
held = [anndata.read_h5ad(path) for path in files.values()]
payloads = [path.read_bytes() for path in (folder / "t" / "messages").iterdir()]
print("read", len(payloads), flush=True)
sys.stdin.readline()
"""

OBJECT_STORE = "/dev/shm/plasma"


def found_in(pid, needles):
    """Which of the named byte strings stand in the writable memory of a process, its machine's object store apart."""
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("rw") or OBJECT_STORE in line:
                continue
            start, end = (int(side, 16) for side in span.split("-"))
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, OverflowError, ValueError):
                continue
            found |= {name for name, needle in needles.items() if needle in data}
    return found


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux shows a process's memory as a file")
def test_the_driver_holds_neither_counts_nor_payloads(tmp_path):
    import anndata

    files = write_simulated(tmp_path, sites=3, samples=18, genes=400, seed=3)
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline().startswith("fitted")
        adata = anndata.read_h5ad(files["site2"])
        needles = {"counts": np.asarray(adata.X)[1].astype(np.int32).tobytes(), "names": adata.obs_names[4].encode()}
        rounds = 0
        for what, content in transcript.read(tmp_path / "t"):
            if what == "received" and content["map"]["verb"] == "contribute":
                told = content["map"]["from"]["map"]["site2"]["fields"]["message"]["bytes"]
                needles[f"payload {rounds}"] = transcript.message(tmp_path / "t", told)[:64]
                rounds += 1
        assert rounds > 6
        assert found_in(driver.pid, needles) == set()
        driver.stdin.write("now\n")
        driver.stdin.flush()
        assert driver.stdout.readline().startswith("read")
        assert found_in(driver.pid, needles) == set(needles)  # the search finds what is there
        driver.stdin.write("end\n")
        driver.stdin.flush()
        driver.communicate(timeout=60)
