"""A role beside sites and aggregator: Paillier's key-holder or key-dealer, with an identity of its own.

Promises: its keys are made here and stay; a search for one goes on for about a second at a time, so that whoever
waits hears how far it is. Refuses to know: samples, queries, and what is summed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from protocols.choice import make_party
from protocols.primitives.keys import Secret
from protocols.secure_sum import Context, MisuseError, Party, PartyId, Searching
from protocols.sessions.session import Roster
from secirls.agreement.agreement import Agreement
from secirls.agreement.ledger import Meter
from secirls.config import Config
from secirls.site import arguments
from secirls.site.agreeing import known_otherwise
from secirls.site.grounds.helper_ground import HelperGround, open_helper_ground
from secirls.site.site import Answer

SEARCHED_SECONDS = 1.0
"""So long a helper searches for a key before it says how far it is."""
TRIES_AT_ONCE = 50


class Helper(Secret):
    """One such role, behind the verbs that the rounds ask for."""

    def __init__(self, name: PartyId, config: Config, key: str | None = None) -> None:
        """``key`` names its own ground, or its private key file alone: then it is simulated."""
        self.name = name
        self._config = config
        self._key = key
        self._ground: HelperGround | None = None
        self._meter = Meter(config.threads)
        self._party: Party | None = None
        self._tried = 0

    def key(self) -> bytes:
        """Open its ground, and give its public signing key. Raises `InputError` where that can't be used."""
        return self._opened().identity.public

    def join(self, agreement: Agreement) -> bool:
        """Take what was agreed and make a key, where that takes no search; gives whether it is simulated.

        Raises `MisuseError` where the agreement is not what this helper would agree to, `RefusalError` where its own
        rules do not allow the session.
        """
        if not isinstance(agreement, Agreement):
            raise MisuseError(f"the {self.name} was given something else than an agreement")
        agreement = replace(agreement)  # without what somebody else worked out from it
        ground, config = self._opened(), self._config
        if problem := known_otherwise(self.name, config, agreement, ground.identity.public):
            raise MisuseError(f"the {self.name} does not agree: {problem}")
        ground.check(agreement.roster, agreement.sites)
        self._party = make_party(
            config.protocol,
            self.name,
            ground.identity,
            Roster(agreement.roster),
            config.settings(agreement.digest),
            n_jobs=config.threads,
            demands=ground.demands(agreement.sites),
        )
        return ground.simulated

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
        arguments.numbers(batch)
        return self._answer("hello", lambda party: party.hello(batch), 0)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int) -> Answer:
        """Take everyone's public keys."""
        arguments.table(hellos)
        arguments.numbers(batch)
        return self._answer("meet", lambda party: party.meet(hellos, batch), sum(map(len, hellos.values())))

    def assist(self, request: bytes, context: Context) -> Answer:
        """Do its part in opening a sum."""
        arguments.messages(request)
        arguments.context(context)
        return self._answer("assist", lambda party: party.assist(request, context), len(request))

    def _answer(self, verb: str, call: Callable[[Party], bytes], down: int) -> Answer:
        party = self._joined()
        message = self._meter.measure(verb, lambda: call(party), down=down)
        return Answer(message, self._meter.take())

    def _opened(self) -> HelperGround:
        if self._ground is None:
            self._ground = open_helper_ground(self.name, self._key, self._config)
        return self._ground

    def _joined(self) -> Party:
        if self._party is None:
            raise MisuseError(f"the {self.name} has not joined a session")
        return self._party
