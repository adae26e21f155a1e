"""Many simulated sites in few processes: the same bits, and memory that fits a small machine."""

import dataclasses
import os
import pickle
import threading
from collections import deque
from pathlib import Path

import pytest

from protocols.primitives.keys import Identity
from protocols.secure_sum import PeerError
from protocols.sessions.session import Roster
from secirls.aggregator.aggregator import lead
from secirls.agreement.agreement import Agreement
from secirls.agreement.faults import PartyFaultError, SilentSitesError
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place, Task
from secirls.carriers.hosts import Beside, HostActor
from secirls.config import Config
from secirls.fitting import fit_config, new_run
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.inputs.designs.design import Design, Variable
from secirls.site.desk import Desk


def simulated(folder, sites, genes):
    paths = write_simulated(folder, sites=sites, samples=4 * sites, genes=genes, seed=3)
    return {name: str(path) for name, path in paths.items()}


LATE = 8
SETTINGS = {"design": "~ condition", "preset": "irls", "kernel": "numpy"}


@pytest.mark.slow
def test_hosted_sites_give_the_same_tables_under_lean_sums(tmp_path, local_ray):
    """Five sites in two processes: nobody is mistaken for another."""
    files = simulated(tmp_path, 5, 30)
    alone = fit_config(Config(**SETTINGS), files, engine="local")
    hosted = fit_config(Config(**SETTINGS, protocol="pairwise-lean"), files, hosts=2)
    assert hosted.table.equals(alone.table)


class Host:
    """A handle of a host as Ray would give it: it notes what it is called with."""

    def __init__(self):
        self.ask, self.calls = self, []

    def options(self, **ways):
        assert ways == {"num_returns": "streaming"}
        return self

    def remote(self, *given):
        self.calls.append(given)
        return f"stream {len(self.calls)} of {id(self)}"


def called(monkeypatch, arguments):
    """Two hosts of three sites each, what they are called with, and what was put into the object store."""
    from secirls.carriers import ray_federation

    stored = []
    monkeypatch.setattr(ray_federation, "wait_until_ready", lambda parties: None)
    monkeypatch.setattr(ray_federation.ray, "put", lambda value: stored.append(value) or f"reference {len(stored)}")
    hosts = Host(), Host()
    parties = {name: ray_federation.Hosted(hosts[number % 2], name) for number, name in enumerate(arguments)}
    waiting = ray_federation.RayFederation(parties, (), 1.0)._call("meet", arguments)
    assert [list(names) for names in waiting.values()] == [list(arguments)[0::2], list(arguments)[1::2]]
    return [host.calls for host in hosts], stored


NAMES = ["a", "b", "c", "d", "e", "f"]


def test_a_host_is_called_once_for_a_verb_and_all_hellos_are_stored_once(monkeypatch):
    hellos = {name: bytes(40_000) for name in NAMES}
    calls, stored = called(monkeypatch, dict.fromkeys(NAMES, (hellos, 0)))
    assert stored == [hellos]
    assert calls == [[("meet", dict.fromkeys(names, (Beside(0), 0)), "reference 1")] for names in ("ace", "bdf")]


def test_short_messages_and_those_of_one_site_each_stay_with_the_call(monkeypatch):
    calls, stored = called(monkeypatch, {name: (name.encode() * 100, 0) for name in NAMES})
    assert stored == []
    assert calls == [[("meet", {name: (name.encode() * 100, 0) for name in names})] for names in ("ace", "bdf")]
    lengths = dict(zip(NAMES, (10, 200_000, 10, 10, 300_000, 10), strict=True))
    calls, stored = called(monkeypatch, {name: (bytes(lengths[name]), 0) for name in NAMES})
    assert [len(value) for value in stored] == [300_000, 200_000]
    assert calls[0] == [("meet", {"a": (bytes(10), 0), "c": (bytes(10), 0), "e": (Beside(0), 0)}, "reference 1")]


class Told:
    """A site that says what it is asked with, or raises it."""

    def __init__(self, name):
        self.name = name

    def meet(self, given, batch):
        if isinstance(given, Exception):
            raise given
        return self.name, given, batch


def test_a_host_answers_for_each_site_with_what_is_stored_beside_and_with_what_one_raised(monkeypatch):
    monkeypatch.setattr("secirls.carriers.hosts.TOGETHER_SECONDS", 60.0)
    host = object.__new__(HostActor)
    host._sites = {name: Desk(Told(name)) for name in "abcd"}
    refusal = PeerError("b", "is refused")
    asked = {"a": (Beside(1), 0), "b": (refusal, 0), "d": (Beside(0), 0), "c": (KeyError("Jane Doe"), 0)}
    (answers,) = host.ask("meet", asked, b"first", b"second")
    assert answers[0] == ("a", b"second", 0)
    assert answers[1] is refusal
    assert answers[2] == ("d", b"first", 0)
    assert isinstance(answers[3], PartyFaultError)
    assert "Jane" not in str(answers[3])


def test_what_was_answered_is_handed_on_while_a_site_hangs():
    """Twin: with the answers of all handed on at the end, nobody would know who hangs."""

    class Hanging(Told):
        def meet(self, given, batch):
            released.wait(60)
            return super().meet(given, batch)

    released = threading.Event()
    host = object.__new__(HostActor)
    host._sites = {"a": Desk(Told("a")), "b": Desk(Hanging("b")), "c": Desk(Told("c"))}
    answers = host.ask("meet", dict.fromkeys("abc", (b"given", 0)))
    assert next(answers) == [("a", b"given", 0)]
    assert not released.is_set()
    released.set()
    rest = [answer for together in answers for answer in together]
    assert rest == [("b", b"given", 0), ("c", b"given", 0)]


class Stream:
    """What a host would be waited for over Ray: its answers, several at once, and what it raises after them."""

    def __init__(self, *together):
        self.together = iter(together)


@pytest.mark.parametrize("cut", [[1, 2], [3], [1, 1, 1], [2]])
def test_answers_that_travel_together_are_told_apart(monkeypatch, cut):
    """However they are cut; of a stream that ends before its last answer, the rest is nonsense."""
    from secirls.carriers import ray_federation

    said = [("a", 1), PeerError("b", "is refused"), ("c", 3)]
    stream = Stream(*([said.pop(0) for _ in range(size)] for size in cut))
    monkeypatch.setattr(ray_federation, "wait_until_ready", lambda parties: None)
    monkeypatch.setattr(ray_federation, "_fetched", lambda answering: next(answering.together))
    monkeypatch.setattr(ray_federation.ray, "wait", lambda waiting, **ways: (waiting, []))
    federation = ray_federation.RayFederation({name: ray_federation.Hosted(None, name) for name in "abc"}, (), 60.0)
    monkeypatch.setattr(federation, "_call", lambda verb, given: {stream: deque("abc")})
    answers = federation.ask("meet", dict.fromkeys("abc", ()))
    assert answers["a"] == ("a", 1)
    assert isinstance(answers["b"], PeerError)
    if sum(cut) == 3:
        assert answers["c"] == ("c", 3)
    else:
        assert isinstance(answers["c"], PartyFaultError)
        assert "StopIteration" in str(answers["c"])


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [2, None])
def test_tables_and_what_genes_are_called_are_those_of_one_process(tmp_path, local_ray, hosts):
    """Five sites, hosted or in processes of their own: nobody is mistaken for another, or for the one that differs."""
    import anndata

    files = simulated(tmp_path, 5, 30)
    for name, path in files.items():
        adata = anndata.read_h5ad(path)
        adata.var["symbol"] = [f"S{i}" for i in range(30)]
        adata.var["chr"] = [name if name == "site3" else "1"] * 30
        adata.write_h5ad(path)
    config = Config(**SETTINGS, annotation=("symbol", "chr"))
    alone, apart = fit_config(config, files, engine="local"), fit_config(config, files, hosts=hosts)
    assert alone.table["symbol"].tolist() == [f"S{i}" for i in range(30)]
    assert "chr" not in alone.table
    assert apart.table.equals(alone.table)
    assert apart.report["annotation"] == alone.report["annotation"]
    assert (
        "it differs between sites (site1, site2, site4 and 1 more; site3)"
        in alone.report["annotation"]["left_out"]["chr"]
    )


def test_a_cluster_has_no_hosts():
    with pytest.raises(InputError, match="hosts share the processes of one machine"):
        Manifest.read("test", sites=dict.fromkeys("abc", "x"), fit={"design": "~ a"}, hosts=2, address="127.0.0.1:6379")


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["abort", "continue"])
def test_a_hosted_site_that_hangs_is_told_from_those_behind_it(tmp_path, local_ray, rule):
    """Seven sites in three processes, of which the first holds site1, site4 and site7; site4 hangs in IRLS."""
    import ray

    from secirls.carriers.on_ray import _ACTOR
    from secirls.carriers.ray_federation import Hosted, RayFederation

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


def test_what_follows_from_an_agreement_is_worked_out_once_in_a_process_and_does_not_travel(monkeypatch):
    said = {name: {"condition": Variable(numeric=False, levels=("A", "B"))} for name in "abc"}
    made, honest = [], Design.agree
    monkeypatch.setattr(Design, "agree", lambda *given, **named: made.append(given) or honest(*given, **named))
    config = Config(**SETTINGS)
    roster = {name: Identity(name.encode() * 32).public for name in "abc"}
    agreed = Agreement(config.digest, tuple("abc"), roster, said, b"", None)
    assert agreed.design(config) is agreed.design(config)
    assert agreed.design(Config(**SETTINGS | {"levels": {"condition": ["B", "A"]}})).levels["condition"] == ("B", "A")
    assert len(made) == 2
    assert agreed.keys.digest == Roster(roster).digest
    arrived = pickle.loads(pickle.dumps(agreed))
    assert set(vars(agreed)) - set(vars(arrived)) == {"_designs", "keys"}
    assert arrived == agreed
    assert arrived.digest == agreed.digest
    assert arrived.digest != dataclasses.replace(agreed, roster=roster | {"a": bytes(32)}).digest
