"""The table of attacks names tests that are there, each with its twin, and no attack is without one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "attacks.md"
ATTACKS = ("a01", "a01b", *(f"a{number:02}" for number in range(2, 18)))
STILL_SUCCEED: tuple[str, ...] = ()
"""Attacks that nothing stops."""
CASES = tuple(
    f"{case:02}"
    for case in (1, 4, 6, 7, 10, 11, 13, 17, 19, 20, 22, 25, 29, *range(30, 33), 34, 37, 39, 41, 43, 47, 48, 55)
)
NOT_YET: tuple[str, ...] = ()
"""Cases that are not dealt with."""
FOLDERS = {
    "session": "session",
    "rules": "rules",
    "parties": "protocol",
    "questions": "questions",
    "audit": "audit",
    "folders": "folders",
    "test_paillier_lone_site.py": "proofs",
}
"""The layer whose tests are in a place below tests/privacy, where a twin takes out neither of `TAKEN_OUT`."""
TAKEN_OUT = {"lock-step": r"trust(ing|_aggregator)=True", "verified totals": r'setattr\(Checks, "verify"'}
"""How a twin says that it takes out a layer which attacks of other places meet."""


def rows(text, first):
    """Rows of a table whose first cell matches, as cells."""
    lines = re.findall(rf"^\| ({first}[^|]*) \|(.*)\|$", text, re.MULTILINE)
    return [(name.strip(), *(cell.strip() for cell in rest.split("|"))) for name, rest in lines]


@cache
def functions(path):
    """The functions of a test file, by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}, tree


def is_expected_to_fail(path, name):
    """Whether a test is marked so, by itself or by a mark of its file."""
    named, tree = functions(path)
    marks = {
        target.id: ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    decorators = [ast.unparse(node) for node in named[name].decorator_list]
    return any("mark.xfail" in marks.get(text, text) for text in decorators)


def layer_of(path, function):
    """What a twin takes out: said by itself, or else by where it is."""
    source = ast.get_source_segment(path.read_text(encoding="utf-8"), functions(path)[0][function])
    said = [layer for layer, pattern in TAKEN_OUT.items() if re.search(pattern, source)]
    return said[0] if said else FOLDERS[path.relative_to(ROOT / "tests" / "privacy").parts[0]]


def faults_of_attacks(text):
    """What is wrong with the tables of attacks."""
    told = rows(text, r"[ab]\d\d")
    found = [f"{attack} is missing" for attack in ATTACKS if attack not in {row[0].split()[0] for row in told}]
    for name, _, layer, where, twin in told:
        file, _, test = where.strip("`").partition("::")
        path = ROOT / file
        if not path.is_file() or test not in functions(path)[0]:
            found.append(f"{name}: there is no {where}")
            continue
        open_ = name in STILL_SUCCEED
        if is_expected_to_fail(path, test) != open_ or (twin == "*still succeeds*") != open_:
            found.append(f"{name}: whether it still succeeds is told otherwise than tested")
        elif twin == "*in it*":
            taken_out = "monkeypatch" in {argument.arg for argument in functions(path)[0][test].args.args}
            found += [] if taken_out else [f"{name}: {test} takes nothing out"]
        elif not open_ and twin.strip("`") not in functions(path)[0]:
            found.append(f"{name}: there is no twin {twin}")
            continue
        takes_out = test if twin == "*in it*" else twin.strip("`")
        if not open_ and takes_out in functions(path)[0] and layer_of(path, takes_out) != layer:
            found.append(f"{name}: its twin takes out something else than {layer!r}")
    return found


def faults_of_cases(text):
    """What is wrong with the table of bad luck."""
    told = rows(text, r"\d\d")
    found = [f"case {case} is missing" for case in CASES if case not in {row[0] for row in told}]
    for name, _, where in told:
        file, _, test = where.strip("`").partition("::")
        if (where == "*not yet*") != (name in NOT_YET):
            found.append(f"case {name}: whether it is dealt with is told otherwise than known")
        elif name not in NOT_YET and (not (ROOT / file).is_file() or test not in functions(ROOT / file)[0]):
            found.append(f"case {name}: there is no {where}")
    return found


def test_every_attack_has_a_test_and_a_twin():
    assert faults_of_attacks(PAGE.read_text(encoding="utf-8")) == []


def test_every_kind_of_bad_luck_has_a_test():
    assert faults_of_cases(PAGE.read_text(encoding="utf-8")) == []


def beside(folder):
    """A folder beside this checkout, or a skip."""
    place = ROOT.parent / "shared" / folder
    if not place.is_dir():
        pytest.skip(f"the {folder} are not beside this checkout")
    return {path.stem for path in place.glob("*.py")}


def test_the_attacks_are_those_that_were_found():
    found = {name.split("_")[0] for name in beside("attacks") if re.match(r"a\d", name)}
    assert found == set(ATTACKS)


def test_the_cases_are_those_that_were_met():
    assert {name.removeprefix("case_") for name in beside("cases")} == set(CASES)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: re.sub(r"^\| a09.*\n", "", text, flags=re.MULTILINE), "a09 is missing"),
        (lambda text: text.replace("::test_rare_levels_are_not_told", "::test_nothing"), "a09: there is no"),
        (lambda text: text.replace("`test_without_the_rule_they_are`", "`test_no_such`"), "a09: there is no twin"),
        (lambda text: text.replace("`test_without_the_rule_they_are`", "*still succeeds*"), "a09: whether it still"),
        (lambda text: text.replace("`test_without_the_rule_they_are`", "*in it*"), "takes nothing out"),
        (
            lambda text: re.sub(r"^(\| a01 .*\|) lock-step", r"\1 rules", text, flags=re.MULTILINE),
            "a01: its twin takes out",
        ),
        (
            lambda text: re.sub(r"^(\| a12 .*\|) verified totals", r"\1 rules", text, flags=re.MULTILINE),
            "a12: its twin",
        ),
        (
            lambda text: text.replace(
                "| rules | `tests/privacy/rules/test_survey", "| audit | `tests/privacy/rules/test_survey"
            ),
            "a09: its twin",
        ),
    ],
)
def test_a_hole_in_the_table_is_caught(change, fault):
    text = PAGE.read_text(encoding="utf-8")
    assert change(text) != text
    assert any(fault in wrong for wrong in faults_of_attacks(change(text)))


def test_a_case_without_a_test_is_caught():
    text = PAGE.read_text(encoding="utf-8")
    assert faults_of_cases(re.sub(r"^\| 04 .*\n", "", text, flags=re.MULTILINE)) == ["case 04 is missing"]
    assert faults_of_cases(re.sub(r"^(\| 04 .*)`.*` \|$", r"\1*not yet* |", text, flags=re.MULTILINE)) == [
        "case 04: whether it is dealt with is told otherwise than known"
    ]
