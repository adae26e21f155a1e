"""What both ends of pairwise masking know of a session: the graph, the key books, and how many must answer.

Promises: a set of parties that `Room.holds_together` accepts hides everyone in it, and one that `Room.check_shares`
accepts can be opened. Refuses to know: any party's secret.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from protocols.masking.mask_keys import KeyBook, split_hello
from protocols.masking.neighbours import Graph, degree_for, most_told_apart, share_threshold
from protocols.secure_sum import Context, DropoutError, MisuseError, PartyId, silent
from protocols.sessions.channels import channel_key
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.session import Greeting, Near, Roster, met
from protocols.sessions.settings import Settings

NAME = "pairwise"
"""What the protocol is called, in session ids too."""


class Seating:
    """Who shares masks with whom in a session, and the key books of its batches: the same at every end."""

    def __init__(self, roster: Roster, settings: Settings, degree: int) -> None:
        self.roster = roster
        self.settings = settings
        self.degree = degree
        self._graph: Graph | None = None
        self._drawn_for = b""
        self._books: dict[int, KeyBook] = {}

    @property
    def graph(self) -> Graph:
        """Who shares with whom; raises `MisuseError` before the first meeting."""
        return met(self._graph)

    def near(self, me: PartyId, those: Container[PartyId]) -> Near:
        """Whose hellos a party verifies, of those who said hello: its own and its neighbours'. It uses no other key.

        The others' nonces are in the session id and all they said is in the key book, so that a party which is
        shown anything else of them than the rest shares no key, box or signature with these.
        """

        def verified(session: bytes) -> tuple[PartyId, ...]:
            graph = self._draw(session)
            return tuple(party for party in (me, *graph.among(me, those)) if party in those)

        return verified

    def _draw(self, session: bytes) -> Graph:
        if self._graph is None or self._drawn_for != session:
            self._graph, self._drawn_for = Graph.draw(session, self.roster, self.degree), session
        return self._graph

    def met(self, batch: int) -> bool:
        """Whether this batch's hellos were read."""
        return batch in self._books

    def keep(self, book: KeyBook) -> None:
        """A batch's hellos were read, and make this book."""
        self._draw(book.session)
        self._books[book.batch] = book

    def book(self, context: Context) -> KeyBook:
        """The key book that a context's round falls into, of whose members its cohort must be."""
        batch = context.round // self.settings.rounds_per_batch
        if batch not in self._books:
            raise MisuseError(f"round {context.round} needs the keys of batch {batch}: hello and meet come first")
        return self._books[batch]

    def batch(self, number: int) -> KeyBook:
        """The key book of a batch that was met."""
        return self._books[number]

    def forget(self, number: int) -> None:
        """Undo the meeting of a batch, so that it can be met again."""
        del self._books[number]


class Room(Seating):
    """Public knowledge of one session with recovery, the same at every end."""

    def __init__(self, roster: Roster, settings: Settings, demands: Demands = NO_DEMANDS) -> None:
        """Raises `MisuseError` for a threshold or a number of neighbours that can't be, or is not what is demanded."""
        super().__init__(roster, settings, degree_for(settings, len(roster)))
        self.threshold = settings.threshold_for(len(roster))
        self.share_threshold = share_threshold(self.threshold, len(roster), self.degree)
        """How many of a party and its neighbours open its secrets; the threshold itself if all are neighbours."""
        demands.check_needed(self.share_threshold, "whose shares open a party's secrets")
        if settings.consistency:
            demands.check_once(self.threshold, len(roster))
        else:
            # Nobody knows what set the others were told: two of them can be had of any one party's holders.
            demands.check_once(self.share_threshold, self.degree + 1)
            demands.check_told_apart(most_told_apart(len(roster), self.threshold, self.degree))

    def meet(
        self, session: bytes, batch: int, hellos: Mapping[PartyId, bytes], greetings: Mapping[PartyId, Greeting]
    ) -> dict[PartyId, bytes]:
        """Read a batch's hellos into its key book; gives the channel keys of those verified (first batch only)."""
        channel_keys, book = self.read(session, batch, hellos, greetings)
        self.keep(book)
        return channel_keys

    def read(
        self, session: bytes, batch: int, hellos: Mapping[PartyId, bytes], greetings: Mapping[PartyId, Greeting]
    ) -> tuple[dict[PartyId, bytes], KeyBook]:
        """Channel keys (first batch only) and key book of a batch's hellos; nothing is kept."""
        channel_keys, bodies = split_hello(greetings, batch)
        if batch == 0:
            channel_keys = {party: channel_key(party, key) for party, key in channel_keys.items()}
        book = KeyBook.read(session, batch, self.settings.rounds_per_batch, hellos, bodies)
        self.check_enough(book.members, tuple(self.roster))
        return channel_keys, book

    def holders(self, party: PartyId, those: Container[PartyId]) -> tuple[PartyId, ...]:
        """A party and its neighbours among those given, sorted: who has, or had, a share of its secrets."""
        return tuple(sorted((party, *self.graph.among(party, those))))

    def check_holders(self, party: PartyId, those: Container[PartyId]) -> None:
        """Raise `DropoutError` where a party and its neighbours among those given are too few to open its secrets."""
        holders = self.holders(party, those)
        if len(holders) < self.share_threshold:
            missing = silent(self.holders(party, self.roster), holders)
            raise DropoutError(missing, len(holders), self.share_threshold, f" among {party} and its neighbours")

    def check_enough(self, present: tuple[PartyId, ...], expected: tuple[PartyId, ...]) -> None:
        """Raise `DropoutError` for fewer than the threshold."""
        if len(present) < self.threshold:
            raise DropoutError(silent(expected, present), len(present), self.threshold)

    def check_shares(self, answering: tuple[PartyId, ...], context: Context, present: tuple[PartyId, ...]) -> None:
        """Raise `DropoutError` unless those answering hold enough shares of every secret that opens the sum."""
        if self.graph.complete:
            return
        here, there = frozenset(present), frozenset(answering)
        for party in context.cohort:
            masked = party in here or self.graph.among(party, here)
            able = len(self.graph.among(party, there)) + (party in here and party in there)
            if masked and able < self.share_threshold:
                missing = silent(self.holders(party, context.members), there)
                raise DropoutError(missing, able, self.share_threshold, f" among {party} and its neighbours")

    def holds_together(self, present: tuple[PartyId, ...]) -> bool:
        """Whether the honest ones among those present stay connected if fewer than a share threshold collude."""
        return self.graph.holds_together(present, self.share_threshold - 1)
