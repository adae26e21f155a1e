"""What --help says fits a terminal of 80 columns: whole names, whole words, options under headings."""

import re
import subprocess
import sys

import pytest
import typer

from secirls.cli.commands import app
from secirls.cli.options.plain_command import FitCommand, in_columns

ROOT = typer.main.get_command(app)
BELOW = [("keys", "new"), ("keys", "roster"), ("cluster", "template"), ("cluster", "certs")]
WORDS = [(), *((name,) for name in ROOT.commands), *BELOW]


def cut(text: str) -> list[str]:
    """Lines that a terminal would break, and those that end in part of a word."""
    return [line for line in text.splitlines() if len(line) > 80 or re.search(r"…|[a-z](\.\.\.|-)$", line)]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_help_has_every_name_and_every_word_whole(run, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    code, shown, _ = run(*words, "--help")
    assert code == 0
    assert cut(shown) == []
    command = ROOT
    for word in words:
        command = command.commands[word]
    for given in command.params:
        for name in (*given.opts, *given.secondary_opts):
            assert given.param_type_name == "argument" or f" {name}" in shown


def test_words_that_are_cut_are_seen():
    assert cut("  --size-factor-ty…  <str>  Size factors.") != []
    assert cut("  shrink  Make a fit again, and draw one coefficient's fold changes...") != []
    assert cut(" " * 81) != []


def test_a_name_that_is_long_stands_above_its_sentence_and_leaves_the_column_where_it_is():
    shown = in_columns({"Options": [("--a", "short"), ("--a-name-longer-than-the-column", "below it")]}, 40)
    assert shown == "\nOptions:\n  --a  short\n  --a-name-longer-than-the-column\n       below it\n"


def test_headings_of_a_fit_name_options_that_it_has(run):
    _, shown, _ = run("fit", "--help")
    there = {name for given in ROOT.commands["fit"].params for name in given.opts}
    assert set(FitCommand.headings) <= there
    assert all(f"\n{heading}:\n" in shown for heading in FitCommand.headings.values())


@pytest.mark.parametrize("module", ["secirls", "secirls.cli"])
def test_the_command_is_a_module_too(module):
    asked = [sys.executable, "-m", module, "--version"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert told.stdout.startswith("secirls 0.")
