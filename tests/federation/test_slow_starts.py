"""Who is waited for is told, while processes start and within rounds; nobody waits for ever for one that died."""

import time

from secirls.carriers import on_ray, ray_connection
from secirls.carriers.ray_federation import Hosted

EVENTS = "the fit's events"


class Ready:
    """An actor whose process may be there."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


def told(monkeypatch, looks):
    """What is said where, look after look, so many processes have not started; then the first event is there."""
    left = iter(looks)

    def wait(refs, **_):
        if refs == [EVENTS]:
            now["left"] = next(left, None)
            return ([EVENTS], []) if now["left"] is None else ([], [EVENTS])
        return refs[: len(refs) - len(now["left"])], [ref for ref in refs if ref in now["left"]]

    now = {}
    monkeypatch.setattr(on_ray.ray, "wait", wait)
    starting = {"a": "berlin", "b": "lyon", "c": "the aggregator"}
    return [stage.text.partition(" s ")[2] for stage in on_ray._waited_for([EVENTS], starting)]


def test_whoever_has_no_process_yet_is_named_look_after_look(monkeypatch):
    assert told(monkeypatch, [["b", "c"], ["c"]]) == [
        "so far to start lyon, the aggregator; for a process that died Ray starts another after a minute",
        "so far to start the aggregator; for a process that died Ray starts another after a minute",
    ]


def test_nothing_is_told_where_all_stand_or_the_fit_has_begun(monkeypatch):
    assert told(monkeypatch, [[], []]) == []
    assert told(monkeypatch, []) == []


def test_sites_of_one_host_have_one_process():
    host, alone, aggregator = Ready("host"), Ready("alone"), Ready("aggregator")
    parties = {"a": Hosted(host, "a"), "b": Hosted(host, "b"), "key-holder": alone}
    assert on_ray._processes(parties, aggregator) == {"a": host, "key-holder": alone, "the aggregator": aggregator}


def test_a_ray_of_our_own_starts_no_process_ahead_of_its_actor(monkeypatch):
    # One that died before it had told Ray of itself would keep `ray.init` waiting for ever.
    asked = {}
    monkeypatch.setattr(ray_connection.ray, "init", lambda **ways: asked.update(ways))
    ray_connection._connect(None)
    assert asked["address"] == "local"
    assert asked["_system_config"] == {"prestart_worker_first_driver": False}
    asked["_system_config"]["of one session"] = True
    ray_connection._connect(None)
    assert asked["_system_config"] == {"prestart_worker_first_driver": False}


class Party:
    """An actor that works for some seconds, one call after another, or leads what tells something after as many."""

    def ready(self):
        return None

    def work(self, seconds):
        time.sleep(seconds)

    def lead(self, seconds):
        time.sleep(seconds)
        yield "an event"


def told_within_a_round(monkeypatch, busy, told_after=2.0):
    """What is said while nothing is told, and these are at work all the time."""
    import ray

    monkeypatch.setattr(on_ray, "TOLD_SECONDS", 0.5)
    monkeypatch.setattr(on_ray, "IDLE_SECONDS", 0.5)
    kind = ray.remote(Party).options(num_cpus=0)
    processes = {name: kind.remote() for name in ("berlin", "lyon", on_ray.LEADER)}
    ray.get([handle.ready.remote() for handle in processes.values()])
    for name in busy:
        processes[name].work.remote(60)
    events = processes[on_ray.LEADER].lead.options(num_returns="streaming").remote(told_after)
    told = [stage.text.partition(" s ")[2] for stage in on_ray._at_work(events, processes)]
    assert ray.get(next(events)) == "an event"
    for handle in processes.values():
        ray.kill(handle)
    return told


def test_whoever_holds_up_a_round_is_named_until_it_ends(local_ray, monkeypatch):
    assert set(told_within_a_round(monkeypatch, ["lyon"])) == {"so far without an answer of lyon"}
    assert set(told_within_a_round(monkeypatch, [])) == {"so far without an answer of the aggregator"}


def test_nothing_is_said_of_rounds_that_go_by(local_ray, monkeypatch):
    assert told_within_a_round(monkeypatch, ["lyon"], told_after=0.0) == []
