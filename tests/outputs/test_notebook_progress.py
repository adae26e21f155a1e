"""Progress in a notebook: there by itself in a kernel, silent and without an import anywhere else."""

import subprocess
import sys
import types

import pytest

from secirls import fitting
from secirls.agreement.manifest import Manifest
from secirls.agreement.record import Lasting, Progress
from secirls.config import Config
from secirls.input_error import InputError
from secirls.outputs.notebooks import notebook_progress
from secirls.outputs.notebooks.notebook_progress import NotebookProgress, in_notebook


class Screen:
    """What a front end was given, as IPython gives it."""

    def __init__(self):
        self.shown = []

    def display(self, data, *, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(data)
        return self

    def update(self, data, *, raw):
        assert raw
        self.shown.append(data)


@pytest.fixture
def kernel(monkeypatch):
    """A process that an IPython kernel runs."""
    screen, shell = Screen(), types.SimpleNamespace(kernel=object())
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell
    display = types.ModuleType("IPython.display")
    display.display = screen.display
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(notebook_progress, "OFTEN", 0.0)
    return types.SimpleNamespace(screen=screen, shell=shell)


def told(number, genes):
    return Progress(number, "log_counts", 10, genes, (), 0.1)


def test_a_bar_moves_with_rounds_and_says_how_it_ended(kernel):
    with NotebookProgress("pairwise <over> 3 sites") as display:
        display.note("opening files")
        display(told(0, 1000))
        display(told(1, 250))
    texts = [data["text/plain"] for data in kernel.screen.shown]
    assert [text.removeprefix("pairwise <over> 3 sites: ").split(" in ")[0] for text in texts] == [
        "begins",
        "opening files",
        "round 0, log counts: 1,000 of 1,000 genes active",
        "round 1, log counts: 250 of 1,000 genes active",
        "done: 2 rounds",
    ]
    bars = [data["text/html"] for data in kernel.screen.shown]
    assert 'value="750" max="1000"' in bars[3]
    assert 'value="1000" max="1000"' in bars[4]
    assert all("&lt;over&gt;" in bar and "<over>" not in bar for bar in bars)


def test_lasting_words_and_losses_stay_below_the_bar(kernel):
    with NotebookProgress("fit") as display:
        display.note("opening files")
        display.note(Lasting("batch: numbers & a slope"))
        display(Progress(0, "irls", 10, 5, (), 0.1, (("lyon", "broke in 'contribute'"),)))
    shown = kernel.screen.shown
    assert shown[2]["text/plain"] == "fit: opening files\nbatch: numbers & a slope"
    assert shown[-1]["text/plain"].endswith("slope\nround 0: lyon broke in 'contribute'; the fit goes on without it")
    assert shown[-1]["text/html"].count("<div>") == 3
    assert "numbers &amp; a slope</div>" in shown[-1]["text/html"]


def test_a_fit_that_ends_early_leaves_no_bar_that_moves_on(kernel):
    def fit():
        with NotebookProgress("fit") as display:
            display(told(0, 5))
            raise InputError("x")

    with pytest.raises(InputError):
        fit()
    last = kernel.screen.shown[-1]
    assert last["text/plain"] == "fit: ended by InputError (rounds done: 1)"
    assert "progress" not in last["text/html"]
    assert "progress" in kernel.screen.shown[0]["text/html"]


def test_rounds_that_come_faster_than_a_browser_draws_are_not_all_shown(kernel, monkeypatch):
    monkeypatch.setattr(notebook_progress, "OFTEN", 60.0)
    with NotebookProgress("fit") as display:
        for number in range(500):
            display(told(number, 5))
    assert len(kernel.screen.shown) <= 3
    assert "500 rounds" in kernel.screen.shown[-1]["text/plain"]


def test_a_terminal_of_ipython_is_no_notebook(kernel):
    assert in_notebook()
    del kernel.shell.kernel
    assert not in_notebook()
    with NotebookProgress("fit") as display:
        display(told(0, 5))
    assert kernel.screen.shown == []


def test_outside_of_ipython_nothing_is_shown_or_imported():
    code = (
        "import sys; from secirls.outputs.notebooks.notebook_progress import NotebookProgress, in_notebook\n"
        "with NotebookProgress('fit') as display: display.note('x')\n"
        "assert not in_notebook(); print('IPython' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_a_fit_shows_it_by_itself_unless_somebody_looks_on(kernel, make_site):
    sites = {name: make_site(name) for name in "abc"}
    fitting.fit(sites, design="~ condition", engine="local", protocol="plain", preset="irls", on_note=lambda _: None)
    assert kernel.screen.shown == []
    fitting.fit(sites, design="~ condition", engine="local", protocol="plain", preset="irls")
    assert "plain over 3 sites: done" in kernel.screen.shown[-1]["text/plain"]
    assert kernel.screen.shown[-1]["text/plain"].partition("\n")[2].startswith("condition: ")


ASKED = {"design": "~ condition", "protocol": "plain", "preset": "irls"}


def as_manifest(sites, **options):
    files = {name: str(path) for name, path in sites.items()}
    return Manifest.read("test", sites=files, fit={**ASKED, **options}, engine="local")


def stop(told):
    raise KeyboardInterrupt


def resumed(sites, out):
    with pytest.raises(KeyboardInterrupt):
        fitting.fit_manifest(as_manifest(sites), out, on_round=stop)
    fitting.resume(out)


VERBS = {
    "fit_config": (lambda sites, _: fitting.fit_config(Config(**ASKED), sites, engine="local"), "plain over 3 sites"),
    "fit_manifest": (lambda sites, out: fitting.fit_manifest(as_manifest(sites), out), "plain over 3 sites"),
    "resume": (resumed, "plain over 3 sites, resumed"),
    "shrink": (
        lambda sites, out: fitting.fit_manifest(as_manifest(sites, shrink="condition[T.u]"), out),
        "plain, condition[T.u] shrunken, over 3 sites",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_whatever_runs_rounds_shows_a_bar_by_itself(kernel, make_site, tmp_path, verb):
    run, title = VERBS[verb]
    run({name: make_site(name) for name in "abc"}, tmp_path / "out")
    texts = [data["text/plain"] for data in kernel.screen.shown]
    assert texts[0] == f"{title}: begins"
    assert texts[-1].startswith(f"{title}: done: ")
    assert any(f"{title}: round " in text for text in texts)


def test_the_command_shows_its_own_display_and_no_bar(kernel, make_site, tmp_path):
    fitting.fit_manifest(as_manifest({name: make_site(name) for name in "abc"}), tmp_path / "out", on_round=lambda _: 0)
    assert kernel.screen.shown == []
