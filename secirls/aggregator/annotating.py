"""What genes are called, from var columns that all sites have alike: asked before the first round.

Promises: one site is asked for text, and only of columns that all signed the same digest of; what is left out has a
sentence. Refuses to know: what the columns mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocols.secure_sum import PartyId
from protocols.sessions.session import Roster
from secirls.aggregator.asking import Federation, check_present
from secirls.agreement.agreement import Agreement
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.told_columns import Texts, alike, left_out, read_columns, read_texts


@dataclass(frozen=True)
class Annotation:
    """Columns of text about the agreed genes, and why others are left out."""

    columns: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """By name, a sentence."""


def annotate(federation: Federation, agreement: Agreement, names: Sequence[str], genes: int) -> Annotation:
    """Ask the sites for these var columns. Raises what a site raises, `PeerError` for what it did not sign."""
    if not names:
        return Annotation()
    answers = _messages(federation, "describe", dict.fromkeys(agreement.sites, ()))
    roster = Roster(agreement.roster)
    said = {site: read_columns(roster, site, agreement.digest, names, answers[site]) for site in agreement.sites}
    same, first = alike(said, names), agreement.sites[0]
    columns: dict[str, Texts] = {}
    if same:
        told = _messages(federation, "annotate", {first: (answers,)})
        columns = read_texts(first, said[first], same, genes, told[first])
    return Annotation(columns, left_out(said, names))


def _messages(federation: Federation, verb: str, asked: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, bytes]:
    """Everybody's answer. Raises what a site raised, and for what is no message or is not there."""
    answers: dict[PartyId, Any] = federation.ask(verb, asked)
    check_present(verb, tuple(asked), answers)
    for site, answer in answers.items():
        if not isinstance(answer, bytes):
            raise PartyFaultError(site, verb, type(answer).__name__)
    return answers
