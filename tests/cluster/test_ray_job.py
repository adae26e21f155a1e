"""The fit as a Ray job: submitted on the aggregator's machine, it finds by itself the cluster it runs on."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster


@pytest.fixture
def bed(tmp_path, new_place, files, with_token, ray_nodes, write_manifest, free):
    """A cluster that takes jobs; its nodes, the manifest, and where jobs are submitted."""
    if find_spec("aiohttp_cors") is None:
        pytest.skip("Ray jobs need more of Ray than is installed: pip install 'secirls[jobs]'")
    free_port, wait_for = free
    place = new_place()
    # The job runs `secirls` and `python` as found by the head's PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with ray_nodes(place, with_token(place) | {"PATH": path}, tmp_path) as nodes:
        manifest, dashboard = write_manifest(tmp_path, files), f"127.0.0.1:{free_port()}"
        ports = [f"--dashboard-port={dashboard.rpartition(':')[2]}", f"--dashboard-agent-listen-port={free_port()}"]
        nodes.start_on_loopback(manifest, "--jobs", head=ports)
        wait_for(dashboard)
        yield nodes, manifest, f"http://{dashboard}"


def test_a_job_finds_its_cluster_and_ends_with_the_same_tables(bed, tmp_path, command, undisturbed):
    nodes, manifest, dashboard = bed
    out = tmp_path / "out"
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", dashboard, "--"]
    words = [*submit, *command, "fit", str(manifest), "--out", str(out)]
    for _ in range(20):
        done = subprocess.run(words, env=nodes.env, capture_output=True, text=True, check=False, timeout=300)
        if "no node of the cluster declares" not in done.stdout + done.stderr:  # nodes are still joining
            break
    assert done.returncode == 0, done.stdout + done.stderr + nodes.said()
    assert (out / "results.csv").read_text() == undisturbed.table.to_csv(index=False, float_format="%.17g")
