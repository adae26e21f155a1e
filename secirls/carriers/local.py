"""The federation without Ray: every party in this process, for tests, small data, and the same bits as on Ray.

Refuses to know: what is asked, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.secure_sum import PartyId
from secirls.aggregator.rounds import SPOKEN
from secirls.agreement.faults import PartyFaultError
from secirls.site.helper import Helper
from secirls.site.site import Site


class LocalFederation:
    """Everyone in this process: for tests, small data, and the same bits as on Ray."""

    def __init__(self, parties: Mapping[PartyId, Site | Helper]) -> None:
        self._parties = dict(parties)

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted(name for name, party in self._parties.items() if isinstance(party, Site)))

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Call them one after the other."""
        answers: dict[PartyId, Any] = {}
        for name, given in arguments.items():
            if name not in self._parties:
                continue
            try:
                answers[name] = getattr(self._parties[name], verb)(*given)
            except SPOKEN as error:
                answers[name] = error
            except Exception as error:  # noqa: BLE001 - whatever breaks a site, the rounds decide what follows
                answers[name] = PartyFaultError(name, verb, type(error).__name__)
                answers[name].__cause__ = error
        return answers

    def fence(self, party: PartyId) -> None:
        """Forget a party."""
        self._parties.pop(party, None)
