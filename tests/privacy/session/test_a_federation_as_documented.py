"""The example of docs/your-site.md, command by command: sites on their own grounds, under the default policy."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secirls.cli.commands import app

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "your-site.md"
HEADING = "## A federation under the default policy"


def example():
    """The lines of the page's example, in order."""
    section = PAGE.read_text(encoding="utf-8").split(HEADING, 1)[1].split("\n## ", 1)[0]
    fences = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for fence in fences for line in fence.replace("\\\n", " ").splitlines() if line.strip()]


def run(line):
    """A line of the example, in this process; elsewhere commands have processes of their own."""
    words = shlex.split(line)
    assert words[0] == "secirls"
    told = CliRunner().invoke(app, words[1:])
    assert told.exit_code == 0, line + told.output
    return told.output


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, [run(line) for line in example()]


def test_the_example_runs_from_nothing_to_a_result(played):
    folder, told = played
    assert len(told) >= 10
    assert (folder / "results" / "results.csv").is_file()
    report = (folder / "results" / "report.json").read_text()
    assert "simulation" not in report.split('"disclosure"')[1].split("All parties ran")[0]
    assert "agreed beforehand" in report


def test_its_sites_keep_their_memory_beside_their_files(played):
    folder, _ = played
    for site in ("berlin", "lyon", "turin"):
        assert (folder / site / "memory" / "fits.jsonl").is_file()


def test_a_site_shows_its_own_memory(played):
    folder, _ = played
    shown = run(f"secirls memory {folder / 'berlin' / 'site.toml'}")
    assert "1 fit about 1 data set" in shown
    assert re.search(r"max_rounds +\d+ +1,000 +9\d\d ", shown)


def test_the_page_shows_every_rule_with_its_default():
    """The table of the page, beside the policy itself."""
    from secirls.site.grounds.policy import SIMULATION, Policy

    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    default = Policy()

    def shown(value):
        if value is None:
            return "none"
        if isinstance(value, tuple):
            return ", ".join(value)
        return str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)

    table = {rule: (told, simulated) for rule, told, simulated in rows}
    assert set(table) == set(Policy.model_fields)
    for rule, (told, simulated) in table.items():
        assert told == shown(getattr(default, rule)), rule
        expected = SIMULATION.get(rule, getattr(default, rule))
        assert simulated == ("the same" if rule not in SIMULATION else shown(expected)), rule
