"""Many simulated sites in few processes: the same bits, and memory that fits a small machine."""

import os
from pathlib import Path

import pytest

from secirls.config import Config, Manifest
from secirls.datasets import write_simulated
from secirls.fitting import fit_config
from secirls.input_error import InputError


def simulated(folder, sites, genes):
    paths = write_simulated(folder, sites=sites, samples=4 * sites, genes=genes, seed=3)
    return {name: str(path) for name, path in paths.items()}


SETTINGS = {"design": "~ condition", "kernel": "numpy"}


def test_hosted_sites_give_the_same_tables(tmp_path, local_ray):
    """Seven sites in three processes: nobody is mistaken for another."""
    files = simulated(tmp_path, 7, 30)
    alone = fit_config(Config(**SETTINGS), files, engine="local")
    hosted = fit_config(Config(**SETTINGS), files, hosts=3)
    assert hosted.table.equals(alone.table)


def test_a_cluster_has_no_hosts():
    with pytest.raises(InputError, match="hosts share the processes of one machine"):
        Manifest.read("test", sites=dict.fromkeys("abc", "x"), fit={"design": "~ a"}, hosts=2, address="127.0.0.1:6379")


def resident():
    """Megabytes held by the host and aggregator processes of this run, shared pages by their part."""
    held = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"HostActor" in (entry / "cmdline").read_bytes()
                or b"AggregatorActor" in (entry / "cmdline").read_bytes()
            ):
                text = (entry / "smaps_rollup").read_text()
                held += int(text.partition("\nPss:")[2].split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return held / 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_sites_fit_below_two_gibibytes(tmp_path, local_ray):
    paths = write_simulated(tmp_path, sites=200, samples=4000, genes=200, seed=3)
    files = {name: str(path) for name, path in paths.items()}
    most = []
    result = fit_config(
        Config(**SETTINGS, protocol="pairwise"), files, hosts=os.cpu_count(), on_round=lambda _: most.append(resident())
    )
    assert result.report["samples"] == 4000
    assert all(len(entry["parties"]) == 200 for entry in result.report["rounds"])
    assert 50 < max(most) < 2048
