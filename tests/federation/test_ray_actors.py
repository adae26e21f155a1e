"""What Ray is trusted with: processes of their own, no retries, and no text of unforeseen errors."""

import os
import re
import stat

import pytest

from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.datasets import AIRWAY_LEVELS

CONFIG = Config(design="~ condition", levels=AIRWAY_LEVELS, protocol="plain")


@pytest.fixture(scope="module")
def start(local_ray, airway_sites):
    """``start(n)``: actors of so many sites, by name; they are killed in the end."""
    import ray

    from secirls.agreement.order import Place
    from secirls.carriers.actors import PartyActor, packed
    from secirls.carriers.on_ray import _ACTOR
    from secirls.site.site import Site

    kind, made = ray.remote(PartyActor).options(**_ACTOR), []

    def starting(n):
        some = list(airway_sites.items())[:n]
        actors = {name: kind.remote(packed(Site, Place(name, str(path)), CONFIG)) for name, path in some}
        made.extend(actors.values())
        return actors

    yield starting
    for handle in made:
        ray.kill(handle)


@pytest.fixture(scope="module")
def actors(start):
    """Of two sites, none of which a test kills."""
    return start(2)


def test_actors_are_never_restarted_or_retried():
    from secirls.carriers.on_ray import _ACTOR

    assert _ACTOR["max_restarts"] == 0
    assert _ACTOR["max_task_retries"] == 0


def test_every_site_has_a_process_of_its_own(actors):
    import ray

    pids = ray.get([handle.__ray_call__.remote(lambda self: os.getpid()) for handle in actors.values()])
    assert len({*pids, os.getpid()}) == len(actors) + 1


def test_nobody_else_enters_the_folder_of_a_local_ray(local_ray):
    """Beside what Ray was given, which it opens to everybody: had it been given the folder around it, that too."""
    from secirls.carriers.ray_environment import folder_for_ray, private_folder

    others = stat.S_IRWXG | stat.S_IRWXO
    assert not private_folder().stat().st_mode & others
    assert folder_for_ray().parent == private_folder()
    assert folder_for_ray().stat().st_mode & others == others


def test_a_dead_site_is_silent_and_the_others_answer(start):
    import ray

    from secirls.carriers.ray_federation import RayFederation

    actors = start(2)
    federation = RayFederation(actors, (), 60.0)
    gone = federation.sites[0]
    ray.kill(actors[gone])
    answers = federation.ask("survey", dict.fromkeys(federation.sites, ()))
    assert set(answers) == set(federation.sites) - {gone}


def test_an_unforeseen_error_leaves_without_its_text(actors):
    import ray

    from secirls.agreement.faults import PartyFaultError
    from secirls.carriers.ray_federation import RayFederation

    name = next(iter(actors))
    ray.get(actors[name].__ray_call__.remote(_break))
    answer = RayFederation(actors, (), 60.0).ask("survey", {name: ()})[name]
    assert isinstance(answer, PartyFaultError)
    assert "unexpected KeyError" in str(answer)
    assert "12345" not in repr(answer) + str(answer.__cause__)


def _break(actor):
    def survey():
        raise KeyError("patient 12345")

    actor._desk.party.survey = survey


MISSING = r"^site 'c', file '.*c\.h5ad', obs column 'condition': is missing"


def test_a_sentence_for_the_user_crosses_ray_unchanged(local_ray, make_site):
    import ray

    from secirls.agreement.order import Place
    from secirls.carriers.actors import PartyActor, packed
    from secirls.carriers.on_ray import _ACTOR
    from secirls.carriers.ray_federation import RayFederation
    from secirls.site.site import Site

    place = Place("c", str(make_site("c", obs={"other": [1, 2, 3, 4]})))
    actor = ray.remote(PartyActor).options(**_ACTOR).remote(packed(Site, place, CONFIG))
    answer = RayFederation({"c": actor}, (), 60.0).ask("survey", {"c": ()})["c"]
    ray.kill(actor)
    assert isinstance(answer, InputError)
    assert re.match(MISSING, str(answer))


@pytest.mark.slow
def test_and_comes_out_of_a_fit(local_ray, make_site):
    import secirls

    sites = {name: make_site(name) for name in "ab"} | {"c": make_site("c", obs={"other": [1, 2, 3, 4]})}
    with pytest.raises(InputError, match=MISSING):
        secirls.fit(sites, design="~ condition", protocol="plain")


@pytest.mark.slow
def test_nothing_is_left_running_after_a_fit(local_ray, airway_sites):
    import ray
    from ray._private.state import actors as known_actors

    import secirls

    secirls.fit(airway_sites, design="~ condition", levels=AIRWAY_LEVELS, protocol="plain")
    assert ray.is_initialized()
    states = {entry["State"] for entry in known_actors().values()}
    assert states <= {"DEAD"}
