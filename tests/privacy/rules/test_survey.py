"""What a survey tells before any session: levels that the policy lets out, and none that could name a patient.

The aggregator names the columns. The twin tells what it is asked for.
"""

import pickle

import numpy as np
import pytest

from protocols.secure_sum import MisuseError
from secirls.agreement.order import Place
from secirls.algorithms.groundwork.normalisation import NormalisedQuery
from secirls.input_error import InputError, complain
from secirls.inputs.files.site_file import read_site
from secirls.inputs.formulas.levels import Variable
from secirls.site import preparation
from secirls.site.grounds.ground import Ground, open_ground
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.preparation import reading_of
from secirls.site.site import Site

PATIENTS = [f"Jane Doe {number}" for number in range(10)]


def annotate(adata):
    adata.obs["patient"] = PATIENTS
    adata.obs["age"] = np.arange(60, 70)
    adata.obs["hiv"] = ["no"] * 9 + ["yes"]
    adata.obs["centre"] = ["north", "south"] * 5


ASKED = [
    ({"design": "~ patient"}, PATIENTS[0]),
    ({"design": "~ condition + patient"}, PATIENTS[0]),
    ({"design": "~ age", "levels": {"age": ("60", "61")}}, "60"),
    ({"design": "~ hiv"}, "yes"),
]


@pytest.fixture
def survey(grounds, lead):
    grounds.edit("site1", annotate)

    def asked(**options):
        return Site(grounds.place("site1"), lead.config(grounds, **options), own_process=False).survey()

    asked.grounds = grounds
    return asked


@pytest.mark.parametrize(("options", "secret"), ASKED)
def test_rare_levels_are_not_told(survey, options, secret):
    with pytest.raises(RefusalError, match="min_samples_per_level is 3") as refused:
        survey(**options)
    assert secret not in str(refused.value)


@pytest.mark.parametrize(("options", "secret"), ASKED)
def test_without_the_rule_they_are(survey, options, secret, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_variables", lambda *_: None)
    told = survey(**options).variables
    assert any(secret in variable.levels for variable in told.values())


def test_columns_that_are_not_listed_are_not_told(survey):
    survey.grounds.rule('variables = ["condition"]', "site1")
    assert set(survey(design="~ condition").variables) == {"condition"}
    for design in ("~ centre", "~ condition + centre", "~ age"):
        with pytest.raises(RefusalError, match="variables is condition"):
            survey(design=design)


def test_columns_that_are_not_listed_divide_no_counts(survey):
    survey.grounds.rule('variables = ["condition", "true_size_factor"]', "site1")
    assert survey(size_factors="true_size_factor").genes
    with pytest.raises(RefusalError, match=r"variables is condition, true_size_factor \(obs column 'age'\)"):
        survey(size_factors="age")


def test_without_a_list_the_sum_of_inverse_ages_can_be_asked_for(grounds, lead):
    for name in grounds.names:
        grounds.edit(name, annotate)
    room = lead.room(grounds, size_factors="age").open()
    room.census()
    total = room.total(NormalisedQuery(room.every, np.zeros(0), np.zeros(0, dtype=bool), 2))
    assert total["inverse_size_factors"][0] == pytest.approx(4 * (1 / np.arange(60, 70)).sum())


def test_a_column_of_numbers_is_told_to_be_one_and_no_more(survey):
    told = survey(design="~ condition + age").variables["age"]
    assert told.numeric
    assert told.levels == ()


def test_too_many_levels_are_not_told(survey):
    survey.grounds.rule("min_samples_per_level = 0\nmax_levels = 9", "site1")
    with pytest.raises(RefusalError, match="max_levels is 9"):
        survey(design="~ patient")


# What is wrong with a file is told, and what else is in it is not.

HIDDEN = ["trial-of-jane", "hiv", "secret_alpha", "ENSG-jane"]


def hide(adata):
    annotate(adata)
    adata.layers["trial-of-jane"] = adata.X
    adata.var["secret_alpha"] = 0.1
    adata.var["rough"] = [0.1] * 59 + [np.nan]
    adata.var_names = [*adata.var_names[:-1], "ENSG-jane"]
    adata.layers["halves"] = adata.X.astype(float)
    adata.layers["halves"][0, -1] = 0.5


MISTAKES = [
    ({"layer": "raw"}, "layer 'raw': is missing", "trial-of-jane"),
    ({"layer": "halves"}, "layer 'halves': has a fractional count", "ENSG-jane"),
    ({"design": "~ batch"}, "obs column 'batch': is missing", "hiv"),
    ({"size_factors": "sf"}, "obs column 'sf': is missing", "hiv"),
    ({"dispersions": "alpha"}, "var column 'alpha': is missing", "secret_alpha"),
    ({"dispersions": "rough"}, "var column 'rough': has a missing value", "ENSG-jane"),
]


def travelled(survey, options):
    """What of a site's mistake gets to whoever leads: the sentence that was pickled."""
    survey.grounds.edit("site1", hide)
    if "dispersions" in options:
        survey.grounds.rule(f'annotation = ["{options["dispersions"]}"]')
    with pytest.raises(InputError) as refused:
        survey(**options)
    return str(pickle.loads(pickle.dumps(refused.value))), vars(pickle.loads(pickle.dumps(refused.value)))


@pytest.mark.parametrize(("options", "sentence", "hidden"), MISTAKES)
def test_a_mistake_names_what_was_asked_for_and_nothing_else_of_the_file(survey, options, sentence, hidden, caplog):
    told, beside = travelled(survey, options)
    assert f"{survey.grounds.folder}/site1/site.toml: data" in told
    assert sentence in told
    assert not [name for name in (*HIDDEN, survey.grounds.data["site1"].name) if name in told]
    assert not beside
    assert hidden in caplog.text  # at the site itself, whoever has the file is helped
    assert str(survey.grounds.data["site1"]) in caplog.text


@pytest.mark.parametrize(("options", "sentence", "hidden"), MISTAKES)
def test_the_twin_that_says_all_of_it_names_it(survey, options, sentence, hidden, monkeypatch):
    monkeypatch.setattr(Ground, "aloud", lambda self, error: InputError(error.in_full))
    told, _ = travelled(survey, options)
    assert sentence in told
    assert hidden in told


def test_a_simulated_site_says_all_of_it_to_whoever_started_it(survey, lead):
    survey.grounds.edit("site1", hide)
    file = str(survey.grounds.data["site1"])
    with pytest.raises(InputError, match=r"layer 'raw': is missing .there are the layers 'halves', 'trial-of-jane'"):
        Site(Place("site1", file), lead.config(survey.grounds, roster=None, layer="raw"), own_process=False).survey()


def test_a_detail_never_leaves_its_process():
    error = complain("is missing", site="a", detail="there are the layers 'x'")
    assert error.in_full == "site 'a': is missing (there are the layers 'x')"
    assert str(error) == pickle.loads(pickle.dumps(error)).in_full == "site 'a': is missing"


def test_columns_that_are_not_listed_are_not_told_to_be_there_or_not(survey, monkeypatch):
    survey.grounds.rule('variables = ["condition"]', "site1")
    said = set()
    for column in ("hiv", "batch"):
        with pytest.raises(RefusalError) as refused:
            survey(design=f"~ {column}")
        said.add(str(refused.value).replace(column, ""))
    assert len(said) == 1
    monkeypatch.setattr(PolicyChecks, "check_config", lambda *_: None)
    with pytest.raises(InputError, match="is missing"):
        survey(design="~ batch")


def numbers(values):
    def change(adata):
        adata.obs["score"] = values

    return change


@pytest.mark.parametrize(
    ("values", "said"), [([1, 2, 3, 4, 5] * 2, True), ([7.5, 8.5] * 5, False), (range(10), False), ([4] * 10, True)]
)
def test_of_numbers_one_bit_is_told_and_none_of_their_values(survey, values, said):
    survey.grounds.edit("site1", numbers(np.array(list(values)) + 700_000))
    facts = survey(design="~ score")
    assert facts.variables["score"] == Variable(numeric=True, levels=(), numbered=said)
    assert not any(repr(float(value + 700_000)) in repr(facts.variables) for value in values)


def test_what_a_site_said_of_its_numbers_can_not_be_told_otherwise(grounds, lead):
    for name in grounds.names:
        grounds.edit(name, numbers([1, 2] * 5))
    room = lead.room(grounds, design="~ score").survey()
    other = {**room.agreement.said, "site1": {"score": Variable(numeric=True, numbered=False)}}
    with pytest.raises(MisuseError, match="its own levels were told differently"):
        room.sites["site1"].join(lead.replace(room.agreement, said=other))
    assert lead.replace(room.agreement, said=other).digest != room.agreement.digest


# A site that refuses its survey is in no session, whoever knows already what it would have told.


@pytest.fixture
def refused(grounds, lead):
    """A site whose own rule wants more samples than it has, and what it would otherwise have agreed to."""
    agreement = lead.room(grounds, trust_aggregator=False).survey().agreement
    grounds.rule("min_samples = 11", "site2")
    site = Site(grounds.place("site2"), lead.config(grounds), own_process=False)
    with pytest.raises(RefusalError, match="min_samples is 11"):
        site.survey()
    return site, agreement


def test_a_site_that_refused_its_survey_joins_nothing(refused):
    site, agreement = refused
    with pytest.raises(MisuseError, match="was not surveyed"):
        site.join(agreement)


def test_the_twin_that_keeps_its_file_before_its_rules_were_asked_joins(refused):
    site, agreement = refused
    site._ground = ground = open_ground(site._place, site._config)
    site._table = read_site(site.name, ground.source, reading_of(site._config))
    site.join(agreement)
    assert site.hello(0).message


# What names a site's data is said to everybody, so that a fit does not go on with others.


def guessed(grounds, lead):
    """Whether who guessed all of a site's data right is told so by what the site says of them."""
    said = Site(grounds.place("site1"), lead.config(grounds), own_process=False).survey()
    guess = Site(Place("site1", str(grounds.data["site1"])), lead.config(grounds, roster=None), own_process=False)
    return said.data == guess.survey().data


def test_no_guess_at_the_data_of_a_site_with_a_key_is_confirmed(grounds, lead):
    assert not guessed(grounds, lead)


def test_the_twin_that_names_them_without_its_key_confirms_it(grounds, lead, monkeypatch):
    monkeypatch.setattr(preparation, "keyed_digest", lambda site, key, digest: digest)
    assert guessed(grounds, lead)


def test_a_ground_that_names_no_key_signs_with_another_each_time(grounds, lead):
    path = grounds.folder / "site1" / "site.toml"
    path.write_text(path.read_text().replace("\nkey = ", "\n# key = "))
    site = Site(grounds.place("site1"), lead.config(grounds), own_process=False)
    first, second = site.survey(), site.survey()
    assert len({first.identity, second.identity, bytes.fromhex(grounds.told()["site1"])}) == 3
    assert first.data == second.data
