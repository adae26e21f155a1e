"""The `secirls` command: reads options, shows progress, ends mistakes in one sentence and exit code 2.

What a command needs is imported where it runs, so that the help does not wait for it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.choice import NAMES
from secirls.cli.after_commands import audit_transcript, report, results
from secirls.cli.component_commands import components_fit, scores
from secirls.cli.console import say, speak_plainly
from secirls.cli.fit_commands import fit, resume_fit, shrink_fit, unfinished
from secirls.cli.home.attending import attend
from secirls.cli.home.own_memory import memory
from secirls.cli.home.transforming import transform
from secirls.cli.interruption import INTERRUPTED, SENTENCE
from secirls.cli.options.plain_command import FitCommand, InterruptedCommandError, PlainCommand, PlainGroup
from secirls.cli.options.plots_option import Plots, kinds_of
from secirls.cli.preparation import claim, cluster_app, ground, keys_app, simulate
from secirls.input_error import InputError

BAD_INPUT, FAILED = 2, 1

app = typer.Typer(
    name="secirls",
    cls=PlainGroup,
    help="Fit one negative-binomial regression per gene over several sites, opening only the sums over them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; every foreseen failure is a sentence on standard error and an exit code."""
    from protocols.secure_sum import MisuseError, SecureSumError
    from secirls.agreement.faults import PartyFaultError, SilentSitesError

    unfinished.clear()
    speak_plainly()
    refused = False
    try:
        app()
    except InputError as error:
        from secirls.site.grounds.policy import RefusalError

        code, sentence, refused = BAD_INPUT, error.in_full, isinstance(error, RefusalError)
    except MisuseError as error:
        code, sentence = BAD_INPUT, str(error)
    except OSError as error:  # what this machine does not allow, wherever it was asked
        code, sentence = BAD_INPUT, _of_the_system(error)
    except (SecureSumError, SilentSitesError, PartyFaultError) as error:
        code, sentence = FAILED, str(error)
    except (KeyboardInterrupt, InterruptedCommandError):
        code, sentence = INTERRUPTED, SENTENCE
    else:
        return
    say(f"secirls: {sentence}", error=True)
    if unfinished:
        command = f"'secirls resume {shlex.quote(str(unfinished[-1]))}'"
        if refused:
            say(f"Should that site change its rules, {command} goes on with the fit.", error=True)
        else:
            say(f"Finished rounds are kept: {command} goes on after the last of them.", error=True)
    sys.exit(code)


def _of_the_system(error: OSError) -> str:
    why = error.strerror or str(error) or type(error).__name__
    return why if error.filename is None else f"file {str(error.filename)!r}: {why}"


def _version(value: bool) -> None:
    if value:
        from secirls import __version__

        typer.echo(f"secirls {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


COMMANDS: dict[str, Callable[..., None]] = {
    "resume": resume_fit,
    "shrink": shrink_fit,
    "components": components_fit,
    "results": results,
    "transform": transform,
    "scores": scores,
    "audit": audit_transcript,
    "report": report,
    "simulate": simulate,
    "claim": claim,
    "ground": ground,
    "attend": attend,
    "memory": memory,
}
"""In the order of the help; after `fit`, and before those below."""

app.command(cls=FitCommand)(fit)
for _name, _command in COMMANDS.items():
    app.command(_name, cls=PlainCommand)(_command)
app.add_typer(keys_app, name="keys")
app.add_typer(cluster_app, name="cluster")


@app.command(cls=PlainCommand)
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for data and results.")] = Path("secirls-demo"),
    protocol: Annotated[str, typer.Option(help=f"{', '.join(NAMES[1:])}.")] = "pairwise",
    engine: Annotated[str, typer.Option(help="ray: one actor per site; local: one process.")] = "ray",
    plots: Plots = None,
) -> None:
    """Four real sites fit the airway counts together (Himes et al. 2014), and show what secrecy cost.

    Replaces the results of an earlier demo in the same folder.
    """
    from secirls.cli.demo import run_demo
    from secirls.config import Config

    run_demo(out, Config.read("--{}".format, **_demo_options(protocol)), engine, kinds_of(plots))


def _demo_options(protocol: str) -> dict[str, Any]:
    from secirls.inputs.airway import AIRWAY_LEVELS

    return {"design": "~ condition", "protocol": protocol, "levels": AIRWAY_LEVELS}
