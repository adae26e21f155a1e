"""A role beside sites and aggregator: Paillier's key-holder or key-dealer, with an identity of its own.

Promises: its keys are made here and stay; a search for one goes on for about a second at a time, so that whoever
waits hears how far it is. Refuses to know: samples, queries, and what is summed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping

from protocols.choice import make_party
from protocols.primitives.keys import Identity, Secret
from protocols.secure_sum import Context, MisuseError, Party, PartyId, Searching
from protocols.session import Roster
from secirls.agreement.agreement import Agreement
from secirls.agreement.ledger import Meter
from secirls.config import Config
from secirls.site.key_files import read_identity
from secirls.site.site import Answer

SEARCHED_SECONDS = 1.0
"""So long a helper searches for a key before it says how far it is."""
TRIES_AT_ONCE = 50


class Helper(Secret):
    """One such role, behind the verbs that the rounds ask for."""

    def __init__(self, name: PartyId, config: Config, key: str | None = None) -> None:
        """``key`` is its private key file, where there is a roster: it stands in it as everybody who signs."""
        self.name = name
        self._config = config
        self._identity = Identity.fresh(secrets.token_bytes) if key is None else read_identity(name, key)
        self._meter = Meter()
        self._party: Party | None = None
        self._tried = 0

    def key(self) -> bytes:
        """Its public signing key."""
        return self._identity.public

    def join(self, agreement: Agreement) -> None:
        """Take what was agreed and make a key, where that takes no search. Raises `MisuseError` for another roster."""
        config = self._config
        for party, known in (config.roster or {}).items():
            if party in agreement.roster and agreement.roster[party].hex() != known:
                raise MisuseError(f"the session was announced to the {self.name} with another key for {party}")
        settings = config.settings(agreement.digest)
        self._party = make_party(
            config.protocol, self.name, self._identity, Roster(agreement.roster), settings, n_jobs=config.threads
        )

    def prepare(self) -> tuple[int, int] | None:
        """Search for a key for about a second: tries so far and how many are usual, or None once there is one."""
        party, until = self._joined(), time.monotonic() + SEARCHED_SECONDS
        if not isinstance(party, Searching):
            return None
        while tried := party.search(TRIES_AT_ONCE):
            self._tried += tried
            if time.monotonic() >= until:
                return self._tried, party.usual_tries
        return None

    def hello(self, batch: int) -> Answer:
        """Its public keys."""
        return self._answer("hello", lambda party: party.hello(batch), 0)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int) -> Answer:
        """Take everyone's public keys."""
        return self._answer("meet", lambda party: party.meet(hellos, batch), sum(map(len, hellos.values())))

    def assist(self, request: bytes, context: Context) -> Answer:
        """Do its part in opening a sum."""
        return self._answer("assist", lambda party: party.assist(request, context), len(request))

    def _answer(self, verb: str, call: Callable[[Party], bytes], down: int) -> Answer:
        party = self._joined()
        message = self._meter.measure(verb, lambda: call(party), down=down)
        return Answer(message, self._meter.take())

    def _joined(self) -> Party:
        if self._party is None:
            raise RuntimeError(f"{self.name} has not joined a session")
        return self._party
