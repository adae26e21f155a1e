"""A wrong value given in Python ends in one sentence of ours, whichever way a configuration is made."""

import pickle

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

import secirls
from secirls.agreement.manifest import Manifest
from secirls.config import Config
from secirls.frozen import Frozen
from secirls.site.grounds.helper_ground import HelperPolicy
from secirls.site.grounds.policy import Policy

SITES = {name: f"{name}.h5ad" for name in "abc"}
WRONG = [
    ({"bad": 1}, "bad: is no field of it"),
    ({"alhpa": 0.1}, "alhpa: is no field of it; did you mean 'alpha'?"),
    ({"design": None}, "design: input should be text"),
    ({"alpha": 2}, "alpha: input should be less than 1"),
    ({"alpha": "five"}, "alpha: input should be a number"),
    ({"trend": "loess"}, "trend: input should be 'parametric', 'local' or 'mean'"),
    ({"protocol": ["pairwise"]}, "protocol: there is no protocol ['pairwise'], choose one of plain, "),
    ({"contrast": ("condition", "C")}, "contrast: give three names: a factor, a level and its reference"),
    ({"contrast": "condition"}, "contrast: give three names"),
    (
        {"control_genes": "g1"},
        "control_genes: input should be a list of names; a file of them is the command's option --control-genes",
    ),
    ({"plots": "png"}, "plots: is no field of it"),
    ({"min_contributors": True}, "min_contributors: input should be a whole number"),
    ({"min_contributors": np.True_}, "min_contributors: input should be a whole number"),
    ({"min_replicates": "8"}, "min_replicates: input should be a whole number"),
    ({"alpha": "0.2"}, "alpha: input should be a number"),
    ({"lfc_threshold": False}, "lfc_threshold: input should be a number"),
    ({"contrast_vector": [0, True]}, "contrast_vector: input should be a number"),
    ({"contrast_vector": "0,1"}, "contrast_vector: input should be a list"),
    ({"cooks": "no"}, "cooks: input should be true or false"),
    ({"cooks": 0}, "cooks: input should be true or false"),
    ({"levels": {"condition": "B"}}, "levels.condition: input should be a list"),
    ({"cooks": "maybe"}, "cooks: input should be true or false"),
    ({"min_contributors": 2.5}, "min_contributors: input should be a whole number"),
    ({"test": "lrt"}, "a likelihood-ratio test (test = 'lrt') needs the smaller design too"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_a_wrong_value_is_one_sentence_however_it_is_given(wrong, sentence):
    ways = {
        "Config: ": lambda: Config(**{"design": "~ condition", **wrong}),
        "here: ": lambda: Config.read("here", **{"design": "~ condition", **wrong}),
        "Manifest: ": lambda: Manifest(sites=SITES, fit={"design": "~ condition", **wrong}),
    }
    if "design" not in wrong:
        ways["configuration: "] = lambda: secirls.fit(SITES, design="~ condition", **wrong)
    for start, way in ways.items():
        with pytest.raises(secirls.InputError) as told:
            way()
        said = str(told.value).replace("fit.", "").replace("Manifest: fit: ", "Manifest: ")
        assert said.startswith(start + sentence)
        assert "\n" not in said


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"threshold": 9}, "threshold 9 is impossible: it must lie between 3 and 3 parties"),
        ({"protocol": "paillier", "key_bits": 1024}, "a Paillier key of 1024 bits: choose a multiple of 64 from 2048"),
        ({"policies": {"brelin": "rules.toml"}}, "policies name 'brelin', which is not a site"),
        ({"address": "127.0.0.1:1"}, "an address is of a Ray cluster, but the engine is 'local'"),
    ],
)
def test_what_no_session_can_be_made_of_is_told_before_any_file_is_opened(asked, told):
    with pytest.raises(secirls.InputError) as wrong:
        secirls.fit(SITES, design="~ condition", engine="local", **asked)
    assert str(wrong.value).startswith(told)


def test_numbers_of_python_and_of_numpy_are_numbers():
    given = {"alpha": np.float32(0.25), "lfc_threshold": 1, "min_replicates": np.int64(8), "cooks": np.False_}
    config = Config(design="~ condition", contrast_vector=[np.int64(0), 1], **given)
    assert (config.alpha, config.lfc_threshold, config.min_replicates, config.cooks) == (0.25, 1.0, 8, False)
    assert [type(config.lfc_threshold), type(config.min_replicates)] == [float, int]
    assert config.contrast_vector == (0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((Policy, {"max_fits": value}) for value in (True, "1")),
        *((Policy, {"min_contributors": value}) for value in (True, "1")),
        *((Policy, {"max_design_share": value}) for value in (True, "1")),
        *((Policy, {"write_own": value}) for value in (1, "no")),
        *((HelperPolicy, {"max_colluders": value}) for value in (True, "1")),
    ],
)
def test_a_rule_of_another_kind_is_refused(kind, wrong):
    (name,) = wrong
    with pytest.raises(secirls.InputError, match=f"^here: {name}: input should be "):
        kind.read("here", **wrong)
    assert Policy(max_design_share=1).max_design_share == 1.0


def test_hosts_are_counted():
    with pytest.raises(secirls.InputError, match=r"^Manifest: hosts: input should be a whole number$"):
        Manifest(sites=SITES, fit={"design": "~ condition"}, hosts=True)


def test_a_name_that_is_only_near_in_letters_is_not_suggested():
    told = []
    for name in ("plots", "hsots", "engin", "outt"):
        with pytest.raises(secirls.InputError) as raised:
            Manifest(sites=SITES, fit={"design": "~ condition"}, **{name: 1})
        told.append(str(raised.value).partition("; ")[2])
    assert told == ["", "did you mean 'hosts'?", "did you mean 'engine'?", "did you mean 'out'?"]


def test_the_twin_that_has_pydantic_speak_tells_several_lines():
    twin = type("Twin", (Frozen,), {"__annotations__": {"alpha": float}, "__init__": BaseModel.__init__})
    with pytest.raises(ValidationError, match="\n"):
        twin(alpha="five")


def test_a_mistake_within_a_part_has_the_whole_way_as_its_name():
    with pytest.raises(secirls.InputError, match=r"^Manifest: fit\.alhpa: is no field of it; did you mean 'alpha'\?$"):
        Manifest(sites=SITES, fit={"design": "~ condition", "alhpa": 1})
    with pytest.raises(
        secirls.InputError, match=r"^Policy: min_sampels: is no field of it; did you mean 'min_samples'"
    ):
        Policy(min_sampels=3)


def test_values_do_not_change_afterwards_and_go_where_they_are_taken():
    config = Config(design="~ condition")
    with pytest.raises(secirls.InputError, match=r"^Config: alpha: can't be changed afterwards: make another$"):
        config.alpha = 0.1
    assert config.alpha == Config.model_fields["alpha"].default
    assert pickle.loads(pickle.dumps(config)) == config == Config.model_validate_json(config.model_dump_json())
    assert Manifest(sites=SITES, fit=config).fit is config
