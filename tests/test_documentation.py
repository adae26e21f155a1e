"""What README and docs name exists: pages, paths, modules, commands, options, versions.

Each check returns what is wrong in words, and stands beside broken texts that it must catch.
"""

import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata
import pytest
import typer

import secirls
from secirls.cli.commands import app
from secirls.site.grounds.policy import Policy

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SITES_PAGE = ROOT / "docs" / "your-site.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("tests", "secirls", "protocols", "experiments", "docs", ".ci")
NOT_OURS = sys.stdlib_module_names | {"pytest"}
COMMANDS_KEPT = ("pip install -e . && secirls demo", 'pip install -e ".[test]" && pytest')

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def python(text: str) -> list[str]:
    """Fences of Python."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Without code."""
    return SPAN.sub("", FENCE.sub("", text))


def spans(text: str) -> list[str]:
    """Inline code, each on one line."""
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every line of code, one list per command."""
    lines = spans(text)
    for fence in FENCE.findall(text):
        lines += fence.replace("\\\n", " ").splitlines()[1:-1]
    for line in lines:
        for command in re.split(r"&&|(?<= )-- ", line.split(" # ")[0]):
            if words := command.split():
                yield words


def anchors(text: str) -> set[str]:
    """What a code host calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> list[str]:
    """Relative links to what is not there, and links out of docs, which a browser can't follow."""
    wrong = []
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            wrong.append(f"{link} is not there")
        elif page.parent.name == "docs" and target.parent != page.parent:
            wrong.append(f"{link} is outside docs")
        elif anchor and anchor not in anchors(text if target == page else target.read_text(encoding="utf-8")):
            wrong.append(f"{link} has no such heading")
    return wrong


@functools.cache
def help_of(module: str) -> str:
    """What one of our own modules says to --help."""
    asked = [sys.executable, "-m", module, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def missing_paths(text: str) -> list[str]:
    """Tests, modules and files of the checkout that are named and are not there."""
    wrong = []
    for words in commands(text):
        if words[0] == "pytest":
            paths = [word for word in words[1:] if "/" in word or word.endswith(".py")]
            wrong += [f"{path} is not there" for path in paths if not (ROOT / path).exists()]
        elif words[:2] == ["python", "-m"] and words[2].split(".")[0] not in NOT_OURS:
            module, named = words[2], OPTION.findall(" ".join(words[3:]))
            place = ROOT / module.replace(".", "/")
            if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
                wrong.append(f"module {module} is not there")
            elif named:
                has = OPTION.findall(help_of(module))
                wrong += [f"{module} has no {name}" for name in named if name not in has]
    for span in spans(text):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) and span.split("/")[0] in FOLDERS and not (ROOT / span).exists():
            wrong.append(f"{span} is not there")
    return wrong


def options(command: object) -> set[str]:
    """Of one command, without those under it."""
    return {"--help"} | {name for given in command.params for name in (*given.opts, *given.secondary_opts)}


def all_options(command: object) -> set[str]:
    """Of a command and of those under it."""
    return options(command).union(*map(all_options, getattr(command, "commands", {}).values()))


def unknown_options(text: str) -> list[str]:
    """Commands and options of secirls that its help does not have."""
    wrong = []
    root = typer.main.get_command(app)
    alone = OPTION.findall(prose(text))
    for words in commands(text):
        if words[0].startswith("--"):
            alone += OPTION.findall(" ".join(words))
        if words[0] != "secirls":
            continue
        command, rest = root, words[1:]
        while rest and (under := getattr(command, "commands", {})) and not rest[0].startswith("-"):
            if rest[0] not in under:
                wrong.append(f"there is no command {rest[0]}")
                break
            command, rest = under[rest[0]], rest[1:]
        named = OPTION.findall(" ".join(rest))
        wrong += [f"{command.name} has no {name}" for name in named if name not in options(command)]
    return wrong + [f"no command has {name}" for name in alone if name not in all_options(root)]


def faults_of_form(text: str) -> list[str]:
    """Where a README is not what people and `.ci/run` count on."""
    lines = text.splitlines()
    wrong = [f"line {number} is too wide" for number, line in enumerate(lines, 1) if len(line) > 120]
    wrong += [f"{command} is gone" for command in COMMANDS_KEPT if command not in lines]
    if len(lines) > 150:
        wrong.append(f"{len(lines)} lines")
    return wrong


def faults_of_version(version: str, citation: str, changelog: str) -> list[str]:
    """Where citation and changelog tell of another version."""
    wrong = []
    if f"\nversion: {version}\n" not in citation:
        wrong.append("the citation is of another version")
    if f"\n## {version} - " not in changelog:
        wrong.append("the changelog does not tell of this version")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    assert dead_links(page, text) == []
    assert missing_paths(text) == []
    assert unknown_options(text) == []


def test_readme_is_short_and_keeps_its_two_commands():
    assert faults_of_form(README.read_text(encoding="utf-8")) == []


def test_citation_and_changelog_are_of_this_version():
    citation, changelog = ((ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md"))
    assert faults_of_version(secirls.__version__, citation, changelog) == []
    assert len(faults_of_version("0.0.9", citation, changelog)) == 2


def test_the_checks_see_what_the_pages_are_full_of():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    first_words = [words[0] for words in commands(text)]
    assert first_words.count("secirls") > 20
    assert first_words.count("pytest") > 10
    assert len(LINK.findall(text)) > 20


@pytest.mark.parametrize(
    ("page", "text", "fault"),
    [
        (README, "[here](docs/nowhere.md)", "docs/nowhere.md is not there"),
        (README, "| [here](nowhere/) |", "nowhere/ is not there"),
        (README, "[here](docs/index.md#nothing)", "docs/index.md#nothing has no such heading"),
        (README, "# Here\n[`here`](#there)", "#there has no such heading"),
        (ROOT / "docs" / "index.md", "[here](../README.md)", "../README.md is outside docs"),
        (ROOT / "docs" / "index.md", "[here](docs/index.md)", "docs/index.md is not there"),
    ],
)
def test_a_dead_link_is_caught(page, text, fault):
    assert dead_links(page, text) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`pytest tests/contract tests/nowhere`", "tests/nowhere is not there"),
        ("```\npip install -e . && pytest test_nowhere.py\n```", "test_nowhere.py is not there"),
        ("`python -m protocols.nowhere`", "module protocols.nowhere is not there"),
        ("`python -m\nexperiments.results`", "module experiments.results is not there"),
        ("`python -m protocols.run --loud`", "protocols.run has no --loud"),
        ("see `protocols/NOWHERE.md`", "protocols/NOWHERE.md is not there"),
    ],
)
def test_a_missing_path_is_caught(text, fault):
    assert missing_paths(text) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`secirls fit --colour red`", "fit has no --colour"),
        ("`secirls audit --design x`", "audit has no --design"),
        ("`secirls cluster certs --jobs`", "certs has no --jobs"),
        ("```\nsecirls fit --out here \\\n    --colour red\n```", "fit has no --colour"),
        ("```\npip install -e . && secirls dance\n```", "there is no command dance"),
        ("`secirls keys lose`", "there is no command lose"),
        ("`ray job submit -- secirls fit --colour red`", "fit has no --colour"),
        ("with `--colour red`", "no command has --colour"),
        ("with --colour", "no command has --colour"),
    ],
)
def test_an_unknown_option_is_caught(text, fault):
    assert unknown_options(text) == [fault]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text + "x" * 121, "is too wide"),
        (lambda text: text.replace("&& pytest\n", "&& pytest -q\n"), "is gone"),
        (lambda text: text + "\n" * 151, "lines"),
    ],
)
def test_a_readme_out_of_form_is_caught(change, fault):
    assert any(fault in wrong for wrong in faults_of_form(change(README.read_text(encoding="utf-8"))))


def rooms_told(text: str) -> dict[str, set[str]]:
    """Folders of secirls that the table of floors names, and the files it says are in them."""
    rows = re.findall(r"^\| `([\w/]+)/` \| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", files)) for room, files in rows}


def rooms_there() -> dict[str, set[str]]:
    """Folders of secirls and their files."""
    folders = {file.parent for file in (ROOT / "secirls").rglob("*.py")} - {ROOT / "secirls"}
    return {
        folder.relative_to(ROOT / "secirls").as_posix(): {
            file.stem for file in folder.glob("*.py") if not file.stem.startswith("__")
        }
        for folder in folders
    }


def test_the_table_of_floors_names_every_file():
    assert rooms_told((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")) == rooms_there()


def test_a_file_that_is_not_in_the_table_would_be_missed():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert rooms_told(text.replace("`rounds`, ", "")) != rooms_there()
    assert rooms_told(text.replace("`rounds`", "`rounds`, `circles`")) != rooms_there()


@pytest.mark.parametrize("first", ["sample", '""'])
@pytest.mark.parametrize("names", [("1", "2", "3"), ("007", "011", "2"), ("s1", "s2", "s3")])
def test_tables_of_counts_and_samples_become_a_file_whatever_samples_are_called(tmp_path, monkeypatch, first, names):
    (tmp_path / "counts.csv").write_text(f"{first},{','.join(names)}\ng1,1,2,3\ng2,4,5,6\n")
    rows = "".join(f"{name},{kind},{age}\n" for name, kind, age in zip(names[::-1], "tut", (50, 60, 70), strict=True))
    (tmp_path / "samples.csv").write_text(f"{first},condition,age\n{rows}")
    monkeypatch.chdir(tmp_path)
    exec(python((ROOT / "docs" / "your-files.md").read_text(encoding="utf-8"))[0], {})
    made = anndata.read_h5ad("berlin.h5ad")
    assert tuple(made.obs_names) == names
    assert made.X.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert made.obs["age"].tolist() == [70, 60, 50]


def pages_missing(index: str) -> set[str]:
    """Pages that the first page does not lead to."""
    return {page.name for page in PAGES[1:] if page.name != "index.md" and f"]({page.name})" not in index}


def test_the_first_page_leads_to_all_others():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert pages_missing(index) == set()
    assert pages_missing(index.replace("(own-columns.md)", "")) == {"own-columns.md"}


def rules_told(text: str) -> dict[str, tuple[str, ...]]:
    """The tables of rules: by rule its default, and what a simulation has."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|(.*)$", text, re.MULTILINE)
    return {name: (default, simulation) for name, default, simulation, about in rows if about}


def rule_shown(value: object) -> str:
    """A rule's value in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def rules_there() -> dict[str, tuple[str, ...]]:
    """The rules of a site's policy."""
    default, simulation = (
        {name: rule_shown(getattr(policy, name)) for name in Policy.model_fields}
        for policy in (Policy(), Policy.simulation())
    )
    return {
        name: (value, "the same" if value == simulation[name] else simulation[name]) for name, value in default.items()
    }


def test_the_tables_of_rules_have_every_rule_and_its_default():
    assert rules_told(SITES_PAGE.read_text(encoding="utf-8")) == rules_there()


def test_a_rule_with_another_default_would_be_seen():
    text = SITES_PAGE.read_text(encoding="utf-8")
    assert rules_told(text.replace("| `min_samples` | 5 |", "| `min_samples` | 6 |")) != rules_there()
    assert rules_told(text.replace("| `max_rounds` |", "| `most_rounds` |")) != rules_there()


def labels(text: str) -> set[str]:
    """What digests, keys and signatures are named by."""
    return set(re.findall(r'"(secirls [a-z ]+ v\d+)"', text))


def labels_there() -> set[str]:
    """Those in the code of protocols and secirls."""
    files = [file for room in ("protocols", "secirls") for file in (ROOT / room).rglob("*.py")]
    return set().union(*(labels(file.read_text(encoding="utf-8")) for file in files))


def test_the_specification_names_only_labels_that_are_there():
    told = labels((ROOT / "protocols" / "README.md").read_text(encoding="utf-8"))
    assert len(told) > 20
    assert told - labels_there() == set()
    assert labels('a label of then, "secirls message v1"') - labels_there() == {"secirls message v1"}


@pytest.mark.parametrize("name", ["CHANGELOG.md", "experiments/README.md", "protocols/README.md"])
def test_pages_beside_the_docs_name_only_paths_that_are_there(name):
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    assert dead_links(page, text) == []
    assert missing_paths(text) == []
