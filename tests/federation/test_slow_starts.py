"""Who is waited for while processes start is told, and nobody waits for ever for one that died."""

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
