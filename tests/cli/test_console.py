"""What the terminal shows of a fit that goes on: a bar, the time and the round, whole at 80 columns."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

import secirls.cli
from secirls.agreement.record import Lasting, Progress
from secirls.cli.console import RoundsDisplay, say

LONG = "condition: control, treated, treated twice (in the order of the files)"


def shown(display: RoundsDisplay) -> str:
    """The bar's line as 80 columns have it."""
    page = io.StringIO()
    Console(file=page, width=80).print(display._bar.get_renderable())
    return Text.from_ansi(page.getvalue()).plain.rstrip()


@pytest.fixture
def display(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Console, "is_terminal", True)
    with RoundsDisplay("pairwise over 3 sites") as display:
        yield display


def test_a_round_has_its_bar_its_time_and_all_of_its_words(display):
    display(Progress(12, "adopt_dispersions", 1, 33_469, ("berlin",), 0.1))
    assert "━━━━ 0:00:0" in shown(display)
    assert shown(display).endswith("round  12  adopt_dispersions 33,469 active")
    assert len(shown(display)) == 80


@pytest.mark.parametrize("text", ["compiling kernels (kept for the next time)", LONG])
def test_a_long_word_beside_it_is_cut_before_the_time_is(display, text):
    display.note(text)
    assert "━━━━ 0:00:0" in shown(display)
    assert ("…" in shown(display)) == (text is LONG)


def test_lasting_words_stay_above_the_bar_whole_and_what_goes_on_does_not(display, capsys):
    display.note(LONG)
    display.note(Lasting(f"batch: numbers, fitted as a slope; {LONG}"))
    above = Text.from_ansi(capsys.readouterr().err.removeprefix("\r\x1b[2K")).plain.splitlines()
    first = "batch: numbers, fitted as a slope; condition: control, treated, treated twice"
    assert above[:2] == [first, "(in the order of the files)"]


def test_whoever_is_lost_in_a_round_is_named_as_it_ends(display, capsys):
    display(Progress(12, "irls", 1, 50, ("berlin",), 0.1, (("lyon", "gave no answer to 'contribute' in time"),)))
    assert "round 12: lyon gave no answer to 'contribute' in time; the fit goes on" in capsys.readouterr().err


def test_rich_alone_would_cut_the_time(display, monkeypatch):
    monkeypatch.setattr(RoundsDisplay, "_beside", lambda _, text: text)
    display.note(LONG)
    assert "━━━━ 0:00:0" not in shown(display)


PATH = "/data/" + "x" * 90 + ".h5ad"
SENTENCE = f"secirls: site 'lyon', file {PATH!r}: can't be read as h5ad (it is text), and so nothing was written"


@pytest.fixture
def said(monkeypatch, capsys):
    """What a line looks like at 80 columns, on a terminal or elsewhere."""

    def call(terminal, **ways):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(Console, "is_terminal", terminal)
        say(SENTENCE, **ways)
        return "".join(capsys.readouterr())

    return call


@pytest.mark.parametrize("ways", [{"error": True}, {"wrap": True}])
def test_a_sentence_on_a_terminal_breaks_between_words_and_no_path_is_cut(said, ways):
    lines = said(True, **ways).splitlines()
    assert [len(line) <= 80 for line in lines] == [PATH not in line for line in lines]
    assert len(lines) > 1
    assert " ".join(lines).split() == SENTENCE.split()


@pytest.mark.parametrize(("terminal", "ways"), [(True, {}), (False, {"error": True}), (False, {"wrap": True})])
def test_a_command_to_copy_and_what_no_terminal_shows_is_one_line(said, terminal, ways):
    assert said(terminal, **ways) == SENTENCE + "\n"


def unwrapped(source: str) -> list[str]:
    """What is said in more than forty letters of ours, and is neither an error nor broken between words."""
    calls = [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Call)]
    said = [each for each in calls if isinstance(each.func, ast.Name) and each.func.id == "say" and not each.keywords]
    return [ast.unparse(each) for each in said if any(map(_is_long, ast.walk(each.args[0])))]


def _is_long(part: ast.AST) -> bool:
    if isinstance(part, ast.Call):
        return isinstance(part.func, ast.Name) and part.func.id == "compared"
    if isinstance(part, ast.JoinedStr):
        told = "".join(each.value for each in part.values if isinstance(each, ast.Constant))
        return len(told) > 40 and not told.lstrip().startswith("secirls ")  # a command to copy
    return False


def test_no_long_sentence_of_a_command_is_one_line_on_a_terminal():
    files = Path(secirls.cli.__file__).parent.glob("*.py")
    assert [line for file in files for line in unwrapped(file.read_text(encoding="utf-8"))] == []
    assert unwrapped('say(f"{one}: read the rules, change them where yours differ, and start {two}")')


def test_what_a_ground_says_is_whole_words_at_80_columns(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Console, "is_terminal", True)
    code, shown, error = run("ground", "berlin", "--data", "a-long-name-of-a-file-of-counts.h5ad")
    assert code == 0, error
    assert max(map(len, shown.splitlines())) <= 80
    assert "--site berlin=site.toml" in " ".join(shown.split())
