"""Arrows and doors: who may import whom, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocols", "secirls", "experiments")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))

DOORS = {
    "ray": {"secirls/carriers/on_ray.py"},
    "anndata": {"secirls/inputs/site_file.py"},
    "formulaic": {"secirls/inputs/design.py"},
    "phe": {"protocols/primitives/paillier_keys.py"},
    "rich": {"secirls/cli/console.py"},
    "matplotlib": {"secirls/outputs/plots.py"},
}
STATISTICS = {
    "irls",
    "catch",
    "quasi_newton",
    "likelihood",
    "kernels",
    "kernel_task",
    "fused_kernel",
    "design_products",
    "elementary",
    "wald",
    "solve",
    "status",
}
THEY_MAY_USE = STATISTICS | {"query", "samples"}
MAY_OPEN_RAY = {"secirls/fitting.py", "secirls/cli/commands.py"}
ROOMS = {"numerics", "algorithms", "inputs", "agreement", "site", "aggregator", "carriers"}
BANNED_NAMES = {"utils", "helpers", "common", "core", "base", "manager", "misc"}


def imports(source: str, *, typing_too: bool = False) -> set[str]:
    """Dotted names of every module that a source text imports at run time."""
    tree = ast.parse(source)
    if not typing_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def breaches(name: str, source: str) -> list[str]:
    """What a file does against the house rules, in words."""
    modules = imports(source)
    wrong = []
    if name.startswith("protocols/") and tops(modules) & {"secirls", "experiments"}:
        wrong.append("protocols know nothing of the statistics")
    if name.startswith("protocols/primitives/") and any(
        module.startswith("protocols.") and not module.startswith("protocols.primitives") for module in modules
    ):
        wrong.append("primitives know nothing of the protocols")
    if name.startswith("secirls/") and "experiments" in tops(modules):
        wrong.append("secirls does not know the experiments")
    wrong += [
        f"{package} has one door"
        for package, doors in DOORS.items()
        if package in tops(modules) and name not in doors and not name.startswith("experiments/")
    ]
    stem = Path(name).stem
    if name.startswith("secirls/") and stem in STATISTICS:
        parts = [module.split(".")[1:] for module in modules if module.startswith("secirls.")]
        ours = {part[1] if part[0] in ROOMS and part[1:] else part[0] for part in parts} - ROOMS
        wrong += [f"{stem} uses {other}" for other in sorted(ours - THEY_MAY_USE)]
        if "protocols" in tops(modules) and stem != "query":
            allowed = {"protocols.fixed_point", "protocols.fixed_point.largest_bound"}
            wrong += [
                f"{stem} uses {module}"
                for module in modules
                if module.startswith("protocols") and module not in allowed
            ]
    if "secirls.carriers.on_ray" in modules and name not in MAY_OPEN_RAY and not name.startswith("experiments/"):
        wrong.append("only the command, fit and experiments open on_ray")
    if stem in BANNED_NAMES:
        wrong.append("a file is named for what it knows")
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_file_keeps_to_its_room(file):
    assert breaches(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("protocols/plain.py", "from secirls.algorithms.query import Query"),
        ("protocols/primitives/ring.py", "import protocols.session"),
        ("secirls/site/site.py", "import ray"),
        ("secirls/site/site.py", "def f():\n    import anndata"),
        ("secirls/algorithms/irls.py", "from secirls.fitting import fit"),
        ("secirls/aggregator/rounds.py", "from secirls.carriers.on_ray import RayFederation"),
        ("secirls/utils.py", ""),
    ],
)
def test_the_rules_catch_a_file_that_breaks_them(name, source):
    assert breaches(name, source)


def test_importing_secirls_starts_nothing_heavy():
    code = "import sys, secirls; print(sorted({'ray', 'anndata', 'matplotlib', 'phe', 'rich'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_public_names_are_exactly_these():
    import secirls

    assert sorted(secirls.__all__) == ["Config", "InputError", "Result", "fit"]
    assert all(hasattr(secirls, name) for name in secirls.__all__)


def test_tests_have_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []
