"""The federation without Ray: every party in this process, for tests, small data, and the same bits as on Ray.

Refuses to know: what is asked, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.secure_sum import PartyId
from secirls.agreement.faults import PartyFaultError
from secirls.site.desk import SPOKEN, Desk
from secirls.site.helper import Helper
from secirls.site.site import Site


class LocalFederation:
    """Everyone in this process: for tests, small data, and the same bits as on Ray."""

    def __init__(self, parties: Mapping[PartyId, Site | Helper]) -> None:
        self._desks = {name: Desk(party) for name, party in parties.items()}
        self._sites = tuple(sorted(name for name, party in parties.items() if isinstance(party, Site)))

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return tuple(name for name in self._sites if name in self._desks)

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Call them one after the other."""
        answers: dict[PartyId, Any] = {}
        for name, given in arguments.items():
            if name not in self._desks:
                continue
            try:
                answers[name] = self._desks[name].ask(verb, *given)
            except (*SPOKEN, PartyFaultError) as error:
                answers[name] = error
        return answers

    def fence(self, party: PartyId) -> None:
        """Forget a party."""
        self._desks.pop(party, None)
