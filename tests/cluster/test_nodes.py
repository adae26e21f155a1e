"""One Ray node per site: every site runs on its own, a missing one is named, and a killed one is silent."""

import os
import time
from pathlib import Path

import pytest

from secirls.agreement.order import Place, Task
from secirls.config import Config
from secirls.fitting import fit_config
from secirls.input_error import InputError

pytestmark = pytest.mark.cluster

LATE = 8
STORE = 90_000_000


@pytest.fixture(scope="module")
def cluster(folder, files):
    """A head and one node per site, each declaring its site."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(folder)}
    (folder / "ray").mkdir()  # where Cluster notes its address
    from ray.cluster_utils import Cluster

    place = {"object_store_memory": STORE, "temp_dir": str(folder / "r"), "num_cpus": 1}
    made = Cluster(
        initialize_head=True, head_node_args={**place, "resources": {"aggregator": 1}, "include_dashboard": False}
    )
    made.by_site = {
        name: made.add_node(wait=False, resources={f"site:{name}": 1}, labels={"site": name}, **place) for name in files
    }
    made.wait_for_nodes(120)
    yield made
    made.shutdown()


@pytest.fixture
def connected(cluster):
    import logging

    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


SETTINGS = {"design": "~ condition", "preset": "irls", "kernel": "numpy"}


def test_each_site_runs_on_its_node_and_the_tables_are_the_same(cluster, connected, files, undisturbed):
    import ray
    from ray._private.state import actors

    seen = {}

    def look(told):
        if told.round == 1:
            for entry in actors().values():
                if entry["State"] == "ALIVE":
                    seen.setdefault(entry["Address"]["NodeID"], []).append(entry["ActorClassName"])

    result = fit_config(Config(**SETTINGS), files, address=cluster.address, on_round=look)
    assert result.table.equals(undisturbed.table)
    declared = {node["NodeID"]: set(node["Resources"]) for node in ray.nodes()}
    assert len(seen) == len(files) + 1
    for node, kinds in seen.items():
        site = any(name.startswith("site:") for name in declared[node])
        assert kinds == (["PartyActor"] if site else ["AggregatorActor"])


def test_missing_sites_are_named(cluster, files):
    """Also: the driver connects by itself where it is not connected."""
    more = {**files, "zagreb": "zagreb.h5ad", "zurich": "zurich.h5ad"}
    with pytest.raises(InputError, match=r"no node .* zagreb \('site:zagreb'\), zurich \('rack 7'\);"):
        fit_config(Config(**SETTINGS), more, address=cluster.address, nodes={"zurich": "rack 7"})


def test_a_file_that_is_not_on_the_site_s_machine_is_named(cluster, files):
    with pytest.raises(InputError, match=r"site 'oslo', file '/nowhere/oslo\.h5ad': is missing"):
        fit_config(Config(**SETTINGS), {**files, "oslo": "/nowhere/oslo.h5ad"}, address=cluster.address)


def test_a_node_in_use_is_named_instead_of_waiting(cluster, connected, files):
    import ray

    holder = ray.remote(type("Holder", (), {"stay": lambda self: None})).options(num_cpus=0, resources={"site:oslo": 1})
    other = holder.remote()
    ray.get(other.stay.remote())
    try:
        with pytest.raises(InputError, match="site 'oslo': the node is taken by another fit"):
            fit_config(Config(**SETTINGS), files, address=cluster.address)
    finally:
        ray.kill(other)


def test_nobody_listens(files):
    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:9'"):
        fit_config(Config(**SETTINGS), files, address="127.0.0.1:9")


def ended(pid, seconds=30.0):
    """Whether a process ends within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_node_killed_in_mid_fit_is_a_silent_site(cluster, connected, files):
    """The last test here: the node stays away. The rounds are led from this process, so that none runs ahead."""
    import ray

    from secirls.aggregator.aggregator import lead
    from secirls.agreement.record import Record
    from secirls.carriers.actors import PartyActor, packed
    from secirls.carriers.on_ray import _ACTOR
    from secirls.carriers.ray_federation import RayFederation
    from secirls.site.site import Site

    config = Config(**SETTINGS, on_dropout="continue", threshold=3, deadline=60.0)
    kind = ray.remote(PartyActor)
    handles = {
        name: kind.options(**_ACTOR, resources={f"site:{name}": 1}).remote(packed(Site, Place(name, path), config))
        for name, path in files.items()
    }
    pid = ray.get(handles["lyon"].__ray_call__.remote(lambda _: os.getpid()))
    events = []
    for event in lead(Task(config, "test"), RayFederation(handles, (), config.deadline)):
        events.append(event)
        if isinstance(event, Record) and event.told.round == LATE:
            cluster.remove_node(cluster.by_site["lyon"], allow_graceful=False)
            assert ended(pid)
    rounds = events[-1].rounds
    assert [(told.round, [name for name, _ in told.lost]) for told in rounds if told.lost] == [(LATE + 1, ["lyon"])]
    assert "lyon" in rounds[LATE].parties
    assert rounds[-1].parties == ("berlin", "oslo", "turin")
    for handle in handles.values():
        ray.kill(handle)
