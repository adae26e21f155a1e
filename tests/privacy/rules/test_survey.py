"""What a survey tells before any session: levels that the policy lets out, and none that could name a patient.

The aggregator names the columns. The twin tells what it is asked for.
"""

import numpy as np
import pytest

from secirls.algorithms.normalisation import NormalisedQuery
from secirls.site.policy import Policy, RefusalError
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
    monkeypatch.setattr(Policy, "check_variables", lambda *_: None)
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
