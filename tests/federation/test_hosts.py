"""Many simulated sites in few processes: the same bits, and memory that fits a small machine."""

import os
import threading
from pathlib import Path

import pytest

from secirls.aggregator.aggregator import lead
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.order import Place, Task
from secirls.config import Config, Manifest
from secirls.fitting import fit_config, new_run
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated


def simulated(folder, sites, genes):
    paths = write_simulated(folder, sites=sites, samples=4 * sites, genes=genes, seed=3)
    return {name: str(path) for name, path in paths.items()}


LATE = 8
SETTINGS = {"design": "~ condition", "preset": "irls", "kernel": "numpy"}


def test_hosted_sites_give_the_same_tables(tmp_path, local_ray):
    """Five sites in two processes: nobody is mistaken for another."""
    files = simulated(tmp_path, 5, 30)
    alone = fit_config(Config(**SETTINGS), files, engine="local")
    hosted = fit_config(Config(**SETTINGS), files, hosts=2)
    assert hosted.table.equals(alone.table)


def test_a_cluster_has_no_hosts():
    with pytest.raises(InputError, match="hosts share the processes of one machine"):
        Manifest.read("test", sites=dict.fromkeys("abc", "x"), fit={"design": "~ a"}, hosts=2, address="127.0.0.1:6379")


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["abort", "continue"])
def test_a_hosted_site_that_hangs_is_told_from_those_behind_it(tmp_path, local_ray, rule):
    """Seven sites in three processes, of which the first holds site1, site4 and site7; site4 hangs in IRLS."""
    import ray

    from secirls.carriers.on_ray import _ACTOR, HostActor, Hosted, RayFederation

    files = simulated(tmp_path, 7, 30)
    config = Config(**SETTINGS, on_dropout=rule, threshold=4, deadline=10.0)
    dealt = [list(files)[first::3] for first in range(3)]
    kind = ray.remote(HostActor).options(**_ACTOR)
    hosts = [kind.remote([Place(name, files[name]) for name in names], config) for names in dealt]
    parties = {name: Hosted(host, name) for host, names in zip(hosts, dealt, strict=True) for name in names}
    ray.get(hosts[0].__ray_call__.remote(hang, "site4", LATE))
    events, error = [], None
    try:
        events.extend(lead(Task(config, new_run(config)), RayFederation(parties, (), config.deadline)))
    except SilentSitesError as raised:
        error = raised
    finally:
        for host in hosts:
            ray.kill(host)
    if rule == "abort":
        assert error.silent == ("site4",)
        return
    assert error is None
    rounds = events[-1].rounds
    assert [dict(told.lost) for told in rounds if told.lost] == [
        {
            "site1": "waited in vain for site4, in the same process, to answer 'assist'",
            "site4": "gave no answer to 'contribute' in time",
            "site7": "waited in vain for site4, in the same process, to answer 'contribute'",
        }
    ]
    assert rounds[-1].parties == ("site2", "site3", "site5", "site6")


def hang(host, name, call):
    """Let a hosted site hang at a call of contribute."""
    site = host._sites[name].party
    honest, calls = site.contribute, []

    def hanging(*given):
        calls.append(1)
        if len(calls) == call:
            threading.Event().wait(600)
        return honest(*given)

    site.contribute = hanging


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
        Config(**SETTINGS, protocol="pairwise", consistency=False),
        files,
        hosts=os.cpu_count(),
        on_round=lambda _: most.append(resident()),
    )
    assert result.report["samples"] == 4000
    assert all(len(entry["parties"]) == 200 for entry in result.report["rounds"])
    assert 50 < max(most) < 2048
