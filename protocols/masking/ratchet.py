"""Mask keys by a ratchet: what a pair agreed on once moves on with every round, and never back.

Promises: a mask key is given once, for one context; from what is left afterwards neither it nor any earlier one can
be made again. Refuses to know: how masks are added, and whose vectors are in a sum.

A symmetric-key ratchet (Perrin and Marlinspike, *The Double Ratchet Algorithm*, section 2.2): of each chain key are
derived the next chain key and, bound to the sum it is for, the round's mask key; then it is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protocols.masking.mask_keys import KeyBook, pair_root
from protocols.primitives.keys import AgreementKey, Secret, derive
from protocols.secure_sum import Context, MisuseError, PartyId


class Ratchet(Secret):
    """One chain for each of a party's neighbours, over one batch of rounds."""

    def __init__(self, book: KeyBook, chains: Mapping[PartyId, bytes]) -> None:
        self._session = book.session
        self._next = book.batch * book.rounds
        self._end = self._next + book.rounds
        self._chains = dict(chains)

    @classmethod
    def agreed(cls, own: AgreementKey, me: PartyId, near: Iterable[PartyId], book: KeyBook) -> Ratchet:
        """Agree with each neighbour on where its chain begins: the same from either end, for one set of hellos."""
        return cls(book, {peer: chain_root(own, me, peer, book) for peer in near})

    def check(self, context: Context) -> None:
        """Raise `MisuseError` for a round whose key was given, or was passed by, or is of another batch."""
        if not self._next <= context.round < self._end:
            raise MisuseError(
                f"the mask keys of round {context.round} are used up, or are not of this batch: "
                "a further attempt at a sum takes a fresh round number"
            )

    def take(self, context: Context) -> dict[PartyId, bytes]:
        """The mask keys of a context's round, by neighbour, for their one use; raises as `check` does.

        Rounds in between are passed by: their keys are never made.
        """
        self.check(context)
        while self._next < context.round:
            self._move_on()
        keys = {peer: mask_key(chain, context) for peer, chain in self._chains.items()}
        self._move_on()
        return keys

    def _move_on(self) -> None:
        self._chains = {peer: next_chain(chain, self._session) for peer, chain in self._chains.items()}
        self._next += 1


def chain_root(own: AgreementKey, me: PartyId, peer: PartyId, book: KeyBook) -> bytes:
    """Where the chain of two parties begins: bound to the session, all hellos of the batch, both names and keys."""
    return pair_root(b"secirls chain root v1", own, me, peer, book)


def next_chain(chain: bytes, session: bytes) -> bytes:
    """The chain key of the round after."""
    return derive(chain, session, b"secirls chain v1")


def mask_key(chain: bytes, context: Context) -> bytes:
    """The keystream key of a round's chain key: of this very sum, its cohort, layout and size."""
    return derive(chain, context.session, b"secirls chain mask v1", context.digest)
