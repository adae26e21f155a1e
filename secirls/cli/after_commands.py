"""Commands for after a fit: `audit` of its transcript, `report` as one page.

Promises: no site is asked for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secirls.cli.console import say

FOUND = 1
"""Exit code of an audit that found something."""


def audit_transcript(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The transcript of a fit.")],
    site: Annotated[
        list[str] | None,
        typer.Option("--site", metavar="NAME=FILE.h5ad", help="Also look for this site's samples and counts; repeat."),
    ] = None,
    roster: Annotated[
        Path | None,
        typer.Option(
            metavar="ROSTER.json",
            help="Public keys from elsewhere than the transcript, that all who sign must have. Default: none.",
        ),
    ] = None,
) -> None:
    """Verify a transcript, do the aggregator's part again from it, and look for what should not be there.

    Says also what it can't tell. Exit code 1 if anything is found.
    """
    from secirls.aggregator.audit import audit
    from secirls.cli.manifest import pair
    from secirls.site.key_files import read_roster

    files = dict(pair(text, "--site", "NAME=FILE.h5ad") for text in site or [])
    done = audit(folder, files, None if roster is None else read_roster(roster))
    say(f"{done.entries} entries, {done.messages} messages: the chain holds")
    say(f"{done.rounds} sums recomputed from what was received: each the same to the last bit")
    for told in done.breaks:
        say(told)
    say(f"the fit ended {done.ended}" + (f" of digest {done.result}" if done.result else ""))
    for told in done.limits:
        say(f"not told: {told}")
    for finding in done.findings:
        say(f"found: {finding}", error=True)
    if done.findings:
        raise typer.Exit(FOUND)
    say("nothing was found that should not be there")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of 'secirls fit'.")],
) -> None:
    """Write report.html into a fit's output folder: figures, costs, disclosure and configuration on one page.

    The page stands alone: it fetches nothing and can be sent as it is.
    """
    from secirls.outputs.report_page import write_page

    say(str(write_page(folder)))
