"""Arrows and doors: who may import whom, read from the source."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocols", "secirls", "experiments")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
SOURCES = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in FILES}

DOORS = {
    "ray": {f"secirls/carriers/{file}.py" for file in ("on_ray", "ray_connection", "ray_federation")},
    "anndata": {"secirls/inputs/files/site_file.py"},
    "formulaic": set(),  # tests compare with it
    "phe": {"protocols/primitives/paillier/paillier_keys.py"},
    "rich": {"secirls/cli/console.py"},
    "matplotlib": {"secirls/outputs/pictures/canvas.py"},
    "aiohttp": {"secirls/carriers/hub/hub.py"},
    "msgspec": {"secirls/carriers/hub/wire.py"},
    "requests": {"secirls/carriers/hub/station.py"},
}
FLOORS = (
    "input_error",  # the one error a mistake ends in
    "frozen",  # values that are checked when they are read
    "whole_file",  # files that are there whole or not at all
    "numerics",  # pure functions of arrays
    "inputs",  # the door to anndata, formulas and designs, and small data
    "presets",  # whose choices are followed, as data
    "config",  # what is asked for
    "algorithms",  # questions as data, and generators that yield them
    "agreement",  # what all know before a session, and what a session leaves
    "site",  # one site, its rules, its keys
    "aggregator",  # who leads
    "carriers",  # what takes messages from one to the other
    "outputs",  # what people read afterwards
    "fitting",  # the public face
    "cli",  # how people ask
)
"""The rooms of secirls from the bottom up: imports run down, or stay in the room."""
EXPERIMENTS = (
    "groundwork",  # the record, the pages that tell it, and the data
    "costs",  # of a whole fit, of a round, and of other packages
    "sums",  # are they exact, and what if sites vanish
    "estimates",  # are they those of others
    "leakage",  # what could be learned
    "distrust",  # what it costs, and what it stops
    "speed",  # everything beside a baseline
)
"""The rooms of the experiments, as those of secirls."""

DOORSTEPS = {"__init__", "__main__"}
"""Files that only name what is inside: the package's names, and the command."""

ONLY_ARRAYS = {"numerics", "algorithms"}
"""Rooms that know no protocol: of `protocols` they may use how numbers become integers, digests, and the compiler."""
ARRAYS_MAY_USE = {
    "protocols.fixed_point",
    "protocols.secure_sum.sha256",
    "protocols.primitives.compiling",
}
MAY_OPEN_RAY = {"secirls/fitting.py"}
BANNED_NAMES = {"utils", "helpers", "common", "core", "base", "manager", "misc"}


@cache
def imports(source: str, *, typing_too: bool = False) -> frozenset[str]:
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
    return frozenset(found)


def tops(modules: frozenset[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def room_of(place: str) -> str:
    """The room of a path or module of secirls, or the file itself where it stands in none."""
    return Path(place).parts[1].removesuffix(".py")


def needs(sources: dict[str, str]) -> dict[str, set[str]]:
    """Which modules each imports, lazily or for types alone too."""
    named = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): text for name, text in sources.items()
    }
    return {module: imports(text, typing_too=True) & (set(named) - {module}) for module, text in named.items()}


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Groups of nodes that reach each other, directly or through others."""
    reached = {node: set(others) for node, others in edges.items()}
    known, more = -1, 0
    while more > known:
        for others in reached.values():
            others.update(*[reached[other] for other in others])
        known, more = more, sum(map(len, reached.values()))
    groups = [{other for other in reached[node] if node in reached[other]} for node in sorted(reached)]
    return [group for number, group in enumerate(groups) if group and group not in groups[:number]]


def rooms_of_a_hall(edges: dict[str, set[str]], hall: str) -> dict[str, set[str]]:
    """What the rooms of a hall, and its files that stand in none, need of each other."""

    def room(module: str) -> str:
        return module.removeprefix(f"{hall}.").split(".")[0] if module.startswith(f"{hall}.") else ""

    found: dict[str, set[str]] = {}
    for module, others in edges.items():
        if here := room(module):
            found.setdefault(here, set()).update(there for other in others if (there := room(other)) and there != here)
    return found


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
    if name.startswith("experiments/") and (here := room_of(name)) in EXPERIMENTS:
        told = {room_of(module.replace(".", "/")) for module in modules if module.startswith("experiments.")}
        wrong += [
            f"{here} is below {room}"
            for room in sorted(told & set(EXPERIMENTS))
            if EXPERIMENTS.index(room) > EXPERIMENTS.index(here)
        ]
    stem = Path(name).stem
    if name.startswith("secirls/"):
        here = room_of(name)
        if here not in (*FLOORS, *DOORSTEPS):
            wrong.append("a file stands in a room that has a floor")
        wrong += [
            f"{here} is below {room}"
            for room in sorted(
                {room_of(module.replace(".", "/")) for module in modules if module.startswith("secirls.")}
            )
            if room in FLOORS and here in FLOORS and FLOORS.index(room) > FLOORS.index(here)
        ]
        if here in ONLY_ARRAYS:
            wrong += [
                f"{here} uses {module}"
                for module in sorted(modules)
                if module.startswith("protocols.")
                and not any(module.startswith(may) for may in ARRAYS_MAY_USE)
                and module not in {"protocols.secure_sum", "protocols.primitives"}
            ]
    if "secirls.carriers.on_ray" in modules and name not in MAY_OPEN_RAY and not name.startswith("experiments/"):
        wrong.append("only fit and experiments open on_ray")
    if stem in BANNED_NAMES:
        wrong.append("a file is named for what it knows")
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_file_keeps_to_its_room(file):
    name = file.relative_to(ROOT).as_posix()
    assert breaches(name, SOURCES[name]) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("protocols/plain.py", "from secirls.algorithms.query import Query"),
        ("protocols/primitives/ring.py", "import protocols.sessions.session"),
        ("secirls/site/site.py", "import ray"),
        ("secirls/site/site.py", "def f():\n    import anndata"),
        ("secirls/numerics/inference/wald.py", "from secirls.algorithms.query import Query"),
        ("secirls/algorithms/regression/irls.py", "from secirls.site.site import Site"),
        ("secirls/algorithms/regression/irls.py", "def f():\n    from secirls.outputs import results"),
        ("secirls/algorithms/regression/irls.py", "from protocols.sessions.session import Roster"),
        ("secirls/config.py", "from secirls.site.grounds.key_files import read_roster"),
        ("secirls/aggregator/rounds.py", "from secirls.carriers.on_ray import RayFederation"),
        ("secirls/site/utils.py", ""),
        ("secirls/lonely.py", ""),
        ("experiments/costs/cost.py", "def f():\n    from experiments.speed.turns import in_turn"),
        ("experiments/groundwork/record.py", "from experiments.costs import scaling"),
    ],
)
def test_the_rules_catch_a_file_that_breaks_them(name, source):
    assert breaches(name, source)


def test_no_two_files_need_each_other_to_be_imported():
    assert circles(needs(SOURCES)) == []


def test_a_circle_of_two_or_three_files_is_seen_also_where_an_import_is_lazy():
    two = {"secirls/a.py": "def f():\n    from secirls import b", "secirls/b.py": "from secirls.a import f"}
    three = {"p/a.py": "import p.b", "p/b.py": "import p.c", "p/c.py": "from p.a import x", "p/d.py": "import p.a"}
    assert circles(needs(two)) == [{"secirls.a", "secirls.b"}]
    assert circles(needs(three)) == [{"p.a", "p.b", "p.c"}]


def test_rooms_of_a_hall_that_need_each_other_are_seen_where_no_two_files_do():
    hall = {
        "p/a/low.py": "",
        "p/a/high.py": "from p.b import middle",
        "p/b/middle.py": "from p.a import low",
        "p/c.py": "",
    }
    assert circles(needs(hall)) == []
    assert circles(rooms_of_a_hall(needs(hall), "p")) == [{"a", "b"}]


def test_every_room_has_a_floor_and_every_floor_a_room():
    rooms = {room_of(file.relative_to(ROOT).as_posix()) for file in FILES if file.is_relative_to(ROOT / "secirls")}
    assert rooms - DOORSTEPS == set(FLOORS)


def test_every_room_of_the_experiments_has_a_floor_and_only_commands_stand_beside():
    files = [file.relative_to(ROOT).as_posix() for file in FILES if file.is_relative_to(ROOT / "experiments")]
    commands = {"__init__", "__main__", "docs_pictures"}
    assert {room_of(name) for name in files} == {*EXPERIMENTS, *commands}


LARGEST_ROOM = 12
"""Files that stand in one folder, beside its rooms."""


def crowded(names: Iterable[str]) -> set[str]:
    """Folders of more files than a room holds."""
    files = [Path(name) for name in names if not name.endswith(("__init__.py", "__main__.py"))]
    held = Counter(file.parent.as_posix() for file in files)
    return {folder for folder, count in held.items() if count > LARGEST_ROOM}


def test_rooms_of_a_hall_stand_on_each_other():
    edges = needs(SOURCES)
    halls = {module.rpartition(".")[0] for module in edges}
    assert {hall: circles(rooms_of_a_hall(edges, hall)) for hall in halls} == {hall: [] for hall in halls}


def test_no_folder_is_crowded():
    assert crowded(SOURCES) == set()


def test_a_folder_that_is_crowded_is_seen():
    assert crowded([f"secirls/room/a{number}.py" for number in range(LARGEST_ROOM + 1)]) == {"secirls/room"}
    assert crowded([f"experiments/a{number}.py" for number in range(LARGEST_ROOM + 1)]) == {"experiments"}


HEAVY = (
    "ray",
    "aiohttp",
    "requests",
    "msgspec",
    "anndata",
    "matplotlib",
    "phe",
    "numba",
    "pandas",
    "scipy",
    "pydantic",
    "formulaic",
)


def loaded(code):
    """Which of the heavy packages a fresh interpreter has loaded after some code."""
    shown = [sys.executable, "-c", f"{code}\nimport sys; print(*({set(HEAVY)} & set(sys.modules)))"]
    return set(subprocess.run(shown, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_importing_secirls_loads_nothing_and_a_name_loads_what_it_needs():
    assert loaded("import secirls; assert 'numpy' not in __import__('sys').modules") == set()
    assert "pydantic" in loaded("import secirls; secirls.Config")
    assert "ray" not in loaded("import secirls; secirls.fit")


def test_the_help_waits_for_nothing_heavy():
    assert loaded("import secirls.cli.commands") == set()


def test_a_party_of_a_hub_loads_no_server():
    assert "aiohttp" not in loaded("import secirls.carriers.hub.address, secirls.carriers.hub.station")
    assert "aiohttp" in loaded("import secirls.carriers.hub.on_hub")


def test_public_names_are_exactly_these():
    import secirls

    assert sorted(secirls.__all__) == ["Config", "InputError", "Result", "fit"]
    assert all(hasattr(secirls, name) for name in secirls.__all__)


def test_tests_have_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []
