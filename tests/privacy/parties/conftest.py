"""Real parties that have met, and an aggregator of a test's own making between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from protocols import run
from protocols.primitives import ring
from protocols.secure_sum import PeerError, Pending
from protocols.sessions.demands import NO_DEMANDS
from protocols.sessions.settings import Settings

QUICK = {"key_bits": 512, "insecure_test_keys": True, "rounds_per_batch": 4}


@dataclass
class Room:
    """A table whose aggregator asks what a test likes, and fences whom the collector names, as a fit that goes on."""

    protocol: str
    sites: tuple[str, ...]
    chosen: dict[str, object]
    demands: object = NO_DEMANDS
    fenced: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.settings = Settings(**{**QUICK, **self.chosen})
        self.table = run.sit_down(self.protocol, self.sites, self.settings, demands=self.demands)
        self.parties, self.collector = self.table.parties, self.table.collector
        self.vectors = {site: ring.expand(site.encode().ljust(32, b"."), 3, 2) for site in self.sites}

    def meet(self, batch=0):
        run.meet(self.table, batch)
        return self

    def context(self, round_=0, cohort=None):
        return run.context_of(self.table, self.vectors[self.sites[0]], cohort, round_)

    def payloads(self, context):
        return {site: self.parties[site].protect(self.vectors[site], context) for site in context.cohort}

    def ask(self, pending, silent=()):
        """Everyone's help with what is asked; who refuses in words raises."""
        return {
            party: self.parties[party].assist(request, pending.context)
            for party, request in pending.requests.items()
            if party not in silent
        }

    def without_nonsense(self, verb, messages):
        """A verb of the collector's over all messages but those of parties that it names, who are fenced for good."""
        kept = dict(messages)
        while True:
            try:
                return verb(kept)
            except PeerError as error:
                if error.sender not in kept:
                    raise
                del kept[error.sender]
                self.fenced.append(error.sender)

    def add_up(self, context, payloads):
        """The sum of these payloads, whoever is fenced on the way."""
        outcome = self.without_nonsense(lambda kept: self.collector.combine(kept, context), payloads)
        while isinstance(outcome, Pending):
            pending, replies = outcome, self.ask(outcome)
            outcome = self.without_nonsense(lambda kept, pending=pending: self.collector.open(pending, kept), replies)
        return outcome

    def holds(self, total):
        """Whether a total is the exact sum over its parties."""
        return np.array_equal(total.vector, ring.total_of((self.vectors[p] for p in total.parties), 3, 2))


@pytest.fixture
def sit():
    """``sit(protocol, sites, demands=..., **settings)``: a `Room` in which nobody has met yet."""

    def made(protocol, sites=5, demands=NO_DEMANDS, **chosen):
        return Room(protocol, tuple(f"site-{number}" for number in range(1, sites + 1)), chosen, demands)

    return made
