"""Work ahead: what a site can prepare of its next answer while it waits to be asked.

Promises: no two threads of a site ever work at once: whoever asks it something waits for the piece under
way, some hundredths of a second; and nothing is prepared but what the last answer needed. What it cost
is booked as its own verb, so that online and offline cost stay apart.
Refuses to know: what is prepared (Paillier's obfuscators, today).
"""

from __future__ import annotations

import time
from threading import Event, Thread

from protocols.primitives.keys import Secret
from protocols.secure_sum import Foresighted, Party
from secirls.agreement.ledger import Cost

VERB = "precompute"
PIECES_AT_ONCE = 32


class WorkAhead(Secret):
    """Prepares for an answer as long as the last one: mostly the next is shorter, for genes leave as they settle."""

    def __init__(self, party: Party, *, background: bool) -> None:
        """In the ``background``, or at once: where other parties share the process, nobody would be waiting."""
        self._party = party if isinstance(party, Foresighted) else None
        self._background = background
        self._enough = Event()
        self._thread: Thread | None = None
        self._cost: Cost | None = None

    def start(self, values: int, limbs: int) -> None:
        """Begin, if there is anything that this protocol can prepare."""
        party = self._party
        if party is None:
            return
        if not self._background:
            self._prepare(party, values, limbs)
            return
        self._enough.clear()
        self._thread = Thread(target=self._prepare, args=(party, values, limbs), daemon=True)
        self._thread.start()

    def stop(self) -> tuple[Cost, ...]:
        """End it, whatever was reached; what it cost since the last call, if anything."""
        self._enough.set()
        if self._thread is not None:
            self._thread.join()
        self._enough.clear()
        cost, self._cost, self._thread = self._cost, None, None
        return () if cost is None else (cost,)

    def _prepare(self, party: Foresighted, values: int, limbs: int) -> None:
        wall, cpu, made = time.perf_counter(), time.process_time(), 0
        while not self._enough.is_set() and (pieces := party.precompute(values, limbs, PIECES_AT_ONCE)):
            made += pieces
        if made:
            self._cost = Cost(VERB, time.perf_counter() - wall, time.process_time() - cpu)
