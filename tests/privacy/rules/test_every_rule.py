"""Every rule of a policy, by itself: where it begins to refuse, and that without it nothing else does."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from secirls.config import Config
from secirls.inputs.designs.design import Design, Variable
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.guarding import policy_checks
from secirls.site.guarding.policy_checks import PolicyChecks

DESIGN = Design.agree(
    "~ condition", {}, {name: {"condition": Variable(numeric=False, levels=("a", "b"))} for name in ("x", "y", "z")}
)


def config(**changes):
    return lambda checks: checks.check_config(Config(design="~ condition", **changes))


def components(**changes):
    return config(**{"components": 2, "sample_share": 0.4, "directions_per_sample": 0.1, **changes})


def refit(**changes):
    return lambda checks: checks.check_refit_layer(Config(design="~ condition", preset="irls", **changes))


def dispersions(column):
    return lambda checks: checks.check_dispersions(Config(design="~ condition", dispersions=column))


def told(*levels, fewest=3):
    said = {"condition": Variable(numeric=False, levels=levels)}
    return lambda checks: checks.check_variables(said, {"condition": fewest})


def brought(*rows, own=0):
    return lambda checks: checks.check_design(np.array(rows, dtype=float), own)


def census(*, samples=20, column_sites=(3, 3), group_sites=(3, 3), group_samples=(5, 5), held=3, apart=()):
    told = {"samples": [samples], "column_sites": column_sites, "group_sites": group_sites}
    arrays = {name: np.array(values, float) for name, values in (told | {"group_samples": group_samples}).items()}
    return lambda checks: checks.check_census(DESIGN, arrays, {"condition=a": 3, "condition=b": held}, apart)


def share(part):
    return lambda checks: checks.check_share(DESIGN, part * np.eye(2), np.eye(2))


def asked(presence):
    return lambda checks: checks.check_genes(np.array([True, False]), np.array([presence, 0.0]))


def budget(answered, values):
    return lambda checks: checks.check_budget(answered, np.array([values, 1]))


def call(name, *given, **named):
    return lambda checks: getattr(checks, f"check_{name}")(*given, **named)


ALONE = {"lonely": "refuse", "min_contributors": 3}
"""The rules about who stands alone in a sum hold where sums of one site's are not published."""
THIN = {"lonely": "refuse", "min_total_samples_per_cell": 5}
OWN_PART = {"lonely": "refuse", "max_design_share": 0.9}
LEVERAGE = {"lonely": "refuse", "max_leverage": 0.9}

CASES = [
    ("protocols", {"protocols": ("pairwise", "plain")}, config(protocol="additive"), config(protocol="plain")),
    ("min_contributors", {"min_contributors": 3}, config(min_contributors=2), config(min_contributors=3)),
    ("min_contributors", {"min_contributors": 3}, asked(2.0), asked(3.0)),
    ("min_contributors", {"min_contributors": 3}, call("left", 2.0), call("left", 3.0)),
    *(("min_contributors", ALONE, census(held=few), census(held=0)) for few in (1, 2)),
    *(("min_contributors", ALONE, census(column_sites=(3, few)), census(column_sites=(3, 0))) for few in (1, 2)),
    *(("min_contributors", ALONE, census(group_sites=(3, few)), census(group_sites=(3, 0))) for few in (1, 2)),
    ("min_contributors", ALONE, census(apart=("x",)), census(apart=())),
    ("min_contributors", ALONE, census(apart=None), census(apart=())),
    ("variables", {"variables": ("condition",)}, config(size_factors="s"), config()),
    ("annotation", {"annotation": ("symbol",)}, config(annotation=("chr",)), config(annotation=("Symbol",))),
    ("annotation", {"annotation": ("alpha",)}, dispersions("total_counts"), dispersions("Alpha")),
    ("layers", {"layers": ("X",)}, config(layer="raw"), config()),
    ("layers", {"across_fits": "refuse"}, refit(refit_layer="masked", refit_genes=("g",)), refit()),
    ("tuning", {"tuning": "refuse"}, config(min_mu=0.6), config(min_mu=0.5)),
    ("max_components", {"max_components": 2}, components(components=3), components()),
    ("max_sample_share", {"max_sample_share": 0.4}, components(sample_share=0.41), components()),
    ("max_sample_share", {"max_sample_share": 0.4}, call("sample_share", 0.41), call("sample_share", 0.4)),
    (
        "max_directions_per_sample",
        {"max_directions_per_sample": 0.1},
        components(directions_per_sample=0.11),
        components(),
    ),
    (
        "max_directions_per_sample",
        {"max_directions_per_sample": 0.2},
        call("directions", 8, 35.0),
        call("directions", 7, 35.0),
    ),
    ("refused_stages", {"refused_stages": ("shrinkage",)}, config(shrink="condition[T.b]"), config()),
    ("refused_stages", {"refused_stages": ("profile",)}, call("question", "profile"), call("question", "irls")),
    ("queries", {"queries": ("census",)}, call("question", "irls"), call("question", "census")),
    ("on_dropout", {"on_dropout": "abort"}, config(on_dropout="continue"), config(on_dropout="abort")),
    ("require_consistency", {"require_consistency": True}, config(consistency=False), config()),
    ("require_lock_step", {"require_lock_step": True}, config(trust_aggregator=True), config()),
    ("require_roster", {"require_roster": True}, call("roster", own=False), call("roster", own=True)),
    ("min_samples", {"min_samples": 5}, call("samples", 4), call("samples", 5)),
    ("max_levels", {"max_levels": 2}, told("a", "b", "c"), told("a", "b")),
    ("min_samples_per_level", {"min_samples_per_level": 3}, told("a", fewest=2), told("a", fewest=3)),
    (
        "max_own_per_sample",
        {"max_own_per_sample": 0.5},
        brought([1, 0], [1, 0], [1, 1], [1, 1], own=3),
        brought([1, 0], [1, 0], [1, 1], [1, 1], own=2),
    ),
    ("min_samples_per_cell", {"min_samples_per_cell": 2}, brought([1, 0], [1, 0], [1, 1]), brought([1, 0], [1, 0])),
    ("max_design_share", OWN_PART, brought([1, 0], [0, 0]), brought([1, 0], [0, 1])),
    # Numbers that are one constant here may be others elsewhere: they are no intercept.
    ("max_design_share", OWN_PART, brought([2, 0], [2, 0]), brought([2, 1], [2, 1])),
    ("max_design_share", OWN_PART, share(0.91), share(0.89)),
    ("max_design_share", OWN_PART, call("numbers", [("age", 0.91, 0.5)]), call("numbers", [("age", 0.9, 0.5)])),
    ("max_design_share", OWN_PART, call("sizes", 0.91, 0.0, 0.0), call("sizes", 0.9, 0.0, 0.0)),
    ("max_leverage", LEVERAGE, call("leverage", 0.91), call("leverage", 0.9)),
    ("max_leverage", LEVERAGE, call("numbers", [("age", 0.91, 0.91)]), call("numbers", [("age", 0.91, 0.9)])),
    ("max_leverage", LEVERAGE, call("sizes", 0.91, 0.91, 0.91), call("sizes", 0.91, 0.91, 0.9)),
    (
        "max_size_factor_share",
        {"max_size_factor_share": 0.9},
        call("sizes", 0.0, 0.91, 0.0),
        call("sizes", 0.0, 0.9, 0.0),
    ),
    ("min_sites", {"min_sites": 4}, call("cohort", 3), call("cohort", 4)),
    ("max_rounds", {"max_rounds": 9}, budget(9, 1), budget(8, 1)),
    ("max_values_per_gene", {"max_values_per_gene": 40}, budget(0, 41), budget(0, 40)),
    ("max_params_per_sample", {"max_params_per_sample": 0.5}, call("columns", 6, 10.0), call("columns", 5, 10.0)),
    ("max_params_per_sample", {"max_params_per_sample": 0.5}, census(samples=3), census(samples=4)),
    ("min_total_samples_per_cell", THIN, census(group_samples=(5, 4)), census(group_samples=(5, 0), apart=("x",))),
    ("min_total_samples_per_cell", THIN, census(group_samples=(5, 1)), census(group_samples=(5, 5))),
    ("min_difference", {"max_fits": 2}, call("likeness", 2, 0), call("likeness", 1, 0)),
    ("across_fits", {"max_fits": 2}, call("likeness", 0, 2), call("likeness", 0, 1)),
]
each = pytest.mark.parametrize(
    ("rule", "rules", "broken", "kept"), CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)]
)


@each
def test_a_rule_refuses_what_breaks_it_by_its_name_and_nothing_short_of_that(rule, rules, broken, kept):
    checks = PolicyChecks("lyon", Policy.simulation(**rules))
    kept(checks)
    with pytest.raises(RefusalError, match=rf"^site 'lyon': its policy refuses: {rule} is [\w.]"):
        broken(checks)


@each
def test_where_the_rule_is_not_set_nothing_else_refuses_it(rule, rules, broken, kept):
    broken(PolicyChecks("lyon", Policy.simulation(max_fits=9)))


@pytest.mark.parametrize(
    ("rules", "broken", "sentence"),
    [
        ({"queries": ()}, call("question", "irls"), "queries is none"),
        ({"queries": ("census", "log_counts")}, call("question", "irls"), "queries is census, log_counts"),
        (
            {"require_roster": True},
            call("roster", own=False),
            "require_roster is true (the site has no roster of its own)",
        ),
    ],
)
def test_a_refusal_shows_the_value_as_the_site_wrote_it(rules, broken, sentence):
    with pytest.raises(RefusalError) as refused:
        broken(PolicyChecks("lyon", Policy.simulation(**rules)))
    assert str(refused.value) == f"site 'lyon': its policy refuses: {sentence}"


def test_every_refusal_has_a_case_here():
    source = Path(policy_checks.__file__).read_text(encoding="utf-8")
    refusals = Counter(re.findall(r'self\.refusal\("(\w+)"', source))
    tried = Counter(rule for rule, *_ in CASES)
    assert {rule: number for rule, number in refusals.items() if tried[rule] < number} == {}
    assert tried.keys() == refusals.keys() <= Policy.model_fields.keys()
