"""`secirls memory`: the fits that a site's memory notes, and how much of its budgets is used.

Promises: nothing is written, held or sent; it is for the terminal of the site's own staff, and at most a screen.
Refuses to know: how a fit is held against those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secirls.cli.console import say
from secirls.input_error import InputError, complain

if TYPE_CHECKING:
    from secirls.site.grounds.policy import Policy
    from secirls.site.guarding.budget import Told

MOST_FITS, MOST_BEFORE = 4, 2
"""Fits, and data sets before the last one, that a screen of 24 lines has room for."""
WIDTH, LONGEST_RUN = 80, 30
NOTHING = "  nothing is counted: no question was answered, or the file was taken away"


def memory(ground: Annotated[Path, typer.Argument(metavar="SITE.TOML", help="This site's own ground.")]) -> None:
    """Show what this site's memory holds: its fits, and how much of each budget is used and left.

    Nothing is changed, and nothing leaves the site.
    """
    from secirls.site.grounds.ground import kept_by
    from secirls.site.guarding.memory import FITS

    site, policy, folder = kept_by(ground)
    fits = _fits(folder / FITS)
    named = list(dict.fromkeys(fit.data for fit in reversed(fits)))
    told = [_told(site, folder, data) for data in named[: 1 + MOST_BEFORE]]
    say(f"Memory of site {site}: {folder}")
    if not fits:
        say("no fit is noted: it answered nothing so far")
        return
    say(f"{_counted(len(fits), 'fit')} about {_counted(len(named), 'data set')}, the last:")
    for fit in fits[-MOST_FITS:]:
        say(fit.line)
    for place, (data, counted) in enumerate(zip(named, told, strict=False)):
        about = [fit for fit in fits if fit.data == data]
        before = "" if place == 0 else "before: "
        say(f"{before}data {data[:8]}, {about[-1].holds}, {_counted(len(about), 'fit')} {_since(about)}"[:WIDTH])
        for line in _in_short(counted) if place else _counts(counted, policy):
            say(line)
    if len(named) > len(told):
        say(f"and {_counted(len(named) - len(told), 'data set')} before")
    for sentence in _limits(policy):
        say(f"not told: {sentence}", wrap=True)


@dataclass(frozen=True)
class _Fit:
    """A fit as it was noted."""

    run: str
    sites: tuple[str, ...]
    data: str
    samples: int
    layer: str
    noted: str
    """Its date and time, or nothing where an earlier release noted it."""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> _Fit:
        """From an entry. Raises `LookupError` or `TypeError` where it is none."""
        from secirls.site.guarding.memory import NOTED

        texts = entry["run"], entry["data"], entry.get("layer", ""), entry.get(NOTED, ""), *entry["sites"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(entry["samples"], list):
            raise TypeError
        run, data, layer, noted, *sites = texts
        return cls(run, tuple(sites), data, len(entry["samples"]), layer, noted)

    @property
    def holds(self) -> str:
        return f"{_counted(self.samples, 'sample')}" + (f", layer {self.layer}" if self.layer else "")

    @property
    def line(self) -> str:
        start, run = f"  {self.noted or 'not dated':<16}  data {self.data[:8]}  ", self.run[:LONGEST_RUN]
        sites = ", ".join(self.sites)
        if len(start) + len(run) + 2 + len(sites) > WIDTH:
            sites = f"{len(self.sites)} sites"
        return f"{start}{run}  {sites}"


def _fits(file: Path) -> list[_Fit]:
    """The fits that are noted. Raises `InputError`."""
    from secirls.site.guarding.memory import noted_fits

    try:
        return [_Fit.of(entry) for entry in noted_fits(file.parent)]
    except FileNotFoundError:
        raise complain("is missing: no fit was begun here, or it was taken away", file=str(file)) from None
    except Exception as error:  # noqa: BLE001 - whatever reading it stumbles over, it is no record of fits
        raise _unread(file, error) from None


def _told(site: str, folder: Path, data: str) -> Told | None:
    """What was counted of a data set, if anything was. Raises `InputError`."""
    from secirls.site.guarding.budget import read_told
    from secirls.site.guarding.memory import Memory

    file = Memory(site, folder, data).told
    try:
        return read_told(file)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - as above, of a budget
        raise _unread(file, error) from None


def _unread(file: Path, error: Exception) -> InputError:
    why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return complain(f"can't be read ({why}): it is damaged, or of another release", file=str(file))


def _since(fits: Sequence[_Fit]) -> str:
    """When a data set was in fits."""
    first, last = fits[0].noted, fits[-1].noted
    if first:
        return f"since {first} (UTC)"
    return f"the last {last} (UTC)" if last else "without a date"


def _counts(told: Told | None, policy: Policy) -> list[str]:
    """The budgets of one data set, a line each."""
    if told is None:
        return [NOTHING]
    most, half = _most_and_half(told)
    return [
        _row("rule", "used", "allowed", "left", ""),
        _row("max_rounds", *_left(len(told.answered), policy.max_rounds), "questions"),
        _row("max_values_per_gene", *_left(most, policy.max_values_per_gene), "numbers of one gene"),
        _row("max_params_per_sample", f"{len(told.columns):,}", "-", "-", "design columns"),
        _row("max_directions_per_sample", f"{told.directions:,}", "-", "-", "for components"),
        f"  of that gene most was told, of half of {told.values.size:,} genes {half:,} or less",
    ]


def _in_short(told: Told | None) -> list[str]:
    """The budgets of an earlier data set, in a line."""
    if told is None:
        return [NOTHING]
    questions, columns = _counted(len(told.answered), "question"), _counted(len(told.columns), "column")
    return [f"  {questions}, {_most_and_half(told)[0]:,} numbers of one gene, {columns}"]


def _row(rule: str, used: str, allowed: str, left: str, what: str) -> str:
    return f"  {rule:<25}{used:>8}{allowed:>9}{left:>8}  {what}".rstrip()


def _left(used: int, allowed: int | None) -> tuple[str, str, str]:
    if allowed is None:
        return f"{used:,}", "any", "any"
    return f"{used:,}", f"{allowed:,}", f"{max(allowed - used, 0):,}"


def _most_and_half(told: Told) -> tuple[int, int]:
    """How many numbers left about the gene that was told most, and about half of the genes at most."""
    values = sorted(told.values.tolist())
    return (values[-1], values[(len(values) - 1) // 2]) if values else (0, 0)


def _limits(policy: Policy) -> list[str]:
    """What the record does not bear out."""
    grow = {"design columns": policy.max_params_per_sample, "directions": policy.max_directions_per_sample}
    allowed = " and ".join(f"{most:g} {what}" for what, most in grow.items() if most is not None)
    told = [
        "whether the data file is still one of these, or a fit too near to them (across_fits): it is seen as it begins"
    ]
    if allowed:
        told.insert(
            0, f"what is left where {allowed} are allowed a sample: how many samples all sites have is not kept"
        )
    return told


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
