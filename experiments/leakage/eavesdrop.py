"""What passes between sites and aggregator in one fit, kept for whoever wants to attack it.

Promises: the messages are those of a real fit, and nothing but what the aggregator receives or knows is kept.
Refuses to know: what can be learned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from experiments.groundwork.data_sets import DataSet
from protocols import fixed_point
from protocols.choice import helpers
from protocols.primitives import ring
from protocols.secure_sum import PartyId, Vector
from secirls.aggregator.aggregator import lead
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.order import Place, Task
from secirls.algorithms.query import Query, query_from_bytes
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.numerics.arrays import Floats
from secirls.site.helper import Helper
from secirls.site.site import Site

LIMB_BYTES = 16
Witness: TypeAlias = Callable[[Query, Mapping[PartyId, Site]], None]
"""Sees every question and the sites it goes to, before they answer: for what an attacker is given beside messages."""


@dataclass(frozen=True)
class Heard:
    """One round: the question, who was asked, and the message of everyone who answered."""

    round: int
    query: Query
    cohort: tuple[PartyId, ...]
    payloads: Mapping[PartyId, bytes] = field(repr=False)

    def vector(self, site: PartyId) -> Vector:
        """What stands where plain and pairwise payloads hold the values, ``(values, 2)``: hidden or not."""
        layout = self.query.layout(len(self.cohort))
        raw = self.payloads[site][: LIMB_BYTES * layout.values]
        return np.frombuffer(raw, dtype="<u8").astype(np.uint64).reshape(layout.values, 2)

    def opened(self) -> dict[str, Floats]:
        """The sums over all that were asked. Of messages under `plain` alone."""
        return self.read(self.total(self.cohort))

    def total(self, sites: Collection[PartyId]) -> Vector:
        """What stands in the place of the values, added up over some sites."""
        layout = self.query.layout(len(self.cohort))
        return ring.total_of((self.vector(site) for site in sites), layout.values, layout.limbs)

    def read(self, vector: Vector) -> dict[str, Floats]:
        """A vector decoded as if nothing hid it."""
        found, start = {}, 0
        for item in self.query.layout(len(self.cohort)).fields:
            part = vector[start : start + item.values]
            found[item.name] = fixed_point.decode(part, item.fraction_bits).reshape(item.shape)
            start += item.values
        return found


class Eavesdropped(LocalFederation):
    """A federation whose every round is noted; a site may fall silent from some round on."""

    def __init__(
        self,
        parties: Mapping[PartyId, Site | Helper],
        silent: PartyId = "",
        since: int = 0,
        witness: Witness | None = None,
    ) -> None:
        super().__init__(parties)
        self.parties = dict(parties)
        self.heard: list[Heard] = []
        self._opened: set[int] = set()
        self._silent, self._since = silent, since
        self._witness = witness

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """As a federation does, and note it."""
        asked = dict(arguments)
        gone = self._silent if len(self.heard) >= self._since else ""
        if verb == "contribute":
            asked = {name: given for name, given in arguments.items() if name != gone}
            if self._witness is not None:
                sites = {name: self.parties[name] for name in asked}
                query = query_from_bytes(next(iter(asked.values()))[0])
                self._witness(query, {name: site for name, site in sites.items() if isinstance(site, Site)})
        answers = super().ask(verb, asked)
        if verb == "contribute":
            query, number, _, cohort = next(iter(arguments.values()))
            payloads = {name: answer.message for name, answer in answers.items()}
            self.heard.append(Heard(number, query_from_bytes(query), cohort, payloads))
        if verb == "assist":  # a sum may take two trips, and helpers are told a whole context
            self._opened |= {given[1] for given in arguments.values() if isinstance(given[1], int)}
        return answers

    @property
    def opened(self) -> int:
        """For how many sums help was asked."""
        return len(self._opened)


@dataclass(frozen=True)
class Session:
    """A fit that was listened to."""

    federation: Eavesdropped
    stopped: str
    """The sentence it ended with, empty where it came to its end."""

    @property
    def heard(self) -> list[Heard]:
        """Every round."""
        return self.federation.heard

    def rounds_of(self, kind: str) -> list[Heard]:
        """The rounds that asked one kind of question."""
        return [told for told in self.heard if told.query.kind == kind]


def listen(
    data: DataSet,
    protocol: str,
    *,
    silent: PartyId = "",
    since: int = 0,
    witness: Witness | None = None,
    **options: Any,
) -> Session:
    """Run a fit in this process and keep what the aggregator receives; dispersions are estimated, so it knows them.

    Its sites trust the aggregator: they are sent whole questions, and the vectors have no check values behind them.
    """
    given = {**data.options(), "trust_aggregator": True, **options, "protocol": protocol}
    given.pop("dispersions", None)
    config = Config.read("experiment", **given)
    parties: dict[PartyId, Site | Helper] = {
        name: Site(Place(name, adata), config) for name, adata in data.sites().items()
    }
    parties |= {name: Helper(name, config) for name in helpers(protocol)}
    federation = Eavesdropped(parties, silent, since, witness)
    try:
        for _ in lead(Task(config, "experiment"), federation):
            pass  # what it tells the outside is not what an eavesdropper hears
    except SilentSitesError as reason:
        return Session(federation, str(reason))
    return Session(federation, "")
