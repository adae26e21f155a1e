"""Seeds of pairwise masks: agreed on once for a batch of rounds, and opened for one round at a time.

Each pair's seeds of a batch are one keystream, from the one agreement of its two ends. What opens a party's seeds of
one round, should it fall silent there, is a secret of its own for that round: it commits to it in its hello, shares it
among its neighbours, and wraps the round's seeds under it for the aggregator, who can't read them without.

Promises: a round's secret opens the seeds of its owner in that round and in no other, for the hellos they were agreed
in; a seed is given once, and is gone then. Refuses to know: how masks are added, and who asks for shares of what.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from protocols.masking.mask_keys import KeyBook, pair_root
from protocols.primitives.keys import KEY_BYTES, AgreementKey, Entropy, Secret, derive
from protocols.primitives.keystream import MOST_BYTES, Prg, keystream
from protocols.secure_sum import Context, MisuseError, PartyId, begun, framed, sha256

FINGERPRINT_BYTES = 16
"""It takes 2^128 tries to find another seed with the same."""


class RoundSecrets(Secret):
    """A party's own secrets: each opens its seeds of one round, and is in this process until all have met."""

    def __init__(self, me: PartyId, rounds: int, entropy: Entropy) -> None:
        self._me = me
        self._rounds = rounds
        self._entropy = entropy
        self._drawn: dict[int, list[bytes]] = {}
        self._published: dict[int, bytes] = {}

    def publish(self, batch: int) -> bytes:
        """Commitments for rounds ``batch * rounds`` onwards, in order; drawn on first request."""
        if batch not in self._published:
            drawn = [self._entropy(KEY_BYTES) for _ in range(self._rounds)]
            numbered = enumerate(drawn, start=batch * self._rounds)
            self._published[batch] = b"".join(commit_to_round(secret, self._me, round_) for round_, secret in numbered)
            self._drawn[batch] = drawn
        return self._published[batch]

    def take(self, batch: int) -> list[bytes]:
        """A batch's secrets, to be shared and wrapped under, once: afterwards this process no longer has them."""
        try:
            return self._drawn.pop(batch)
        except KeyError:
            raise MisuseError(f"the secrets of batch {batch} are used up, or not made yet: hello comes first") from None


class PairSeeds(Secret):
    """What a party shares with each of its neighbours: a seed of 32 bytes for each round, until it is taken."""

    def __init__(self) -> None:
        self._near: dict[int, tuple[PartyId, ...]] = {}
        self._seeds: dict[int, bytes] = {}

    def agree(self, own: AgreementKey, me: PartyId, near: tuple[PartyId, ...], book: KeyBook, prg: Prg) -> list[bytes]:
        """Agree with each neighbour on the seeds of a batch; gives each round's, in the neighbours' order."""
        roots = [pair_root(b"secirls pair root v1", own, me, peer, book) for peer in near]
        streams = b"".join(_stream(root, KEY_BYTES * book.rounds, prg) for root in roots)
        made = np.frombuffer(streams, dtype=np.uint8).reshape(len(near), book.rounds, KEY_BYTES)
        rounds = [made[:, number].tobytes() for number in range(book.rounds)]
        first = book.batch * book.rounds
        self._near.update(dict.fromkeys(range(first, first + book.rounds), near))
        self._seeds.update(enumerate(rounds, start=first))
        return rounds

    def take(self, round_: int) -> dict[PartyId, bytes]:
        """The seeds of a round by neighbour, for their one use: afterwards this process no longer has them."""
        try:
            return _by_party(self._seeds.pop(round_), self._near.pop(round_))
        except KeyError:
            raise MisuseError(
                f"the mask keys of round {round_} are used up: a further attempt at a sum takes a fresh round number"
            ) from None


def commit_to_round(secret: bytes, owner: PartyId, round_: int) -> bytes:
    """Binds a party to its secret of a round without showing it: 32 uniform bytes, so a digest hides them."""
    return sha256(b"secirls round secret v1", owner.encode(), struct.pack("<Q", round_), secret)


def wrapped(seeds: Sequence[bytes], secrets: Sequence[bytes], owner: PartyId, book: KeyBook, prg: Prg) -> list[bytes]:
    """A batch's seeds, each round's under the owner's secret of that round."""
    first = book.batch * book.rounds
    return [
        _under(secret, seed, owner, book, round_, prg)
        for round_, (seed, secret) in enumerate(zip(seeds, secrets, strict=True), start=first)
    ]


def unwrapped(
    wrap: bytes, secret: bytes, owner: PartyId, near: tuple[PartyId, ...], book: KeyBook, round_: int, prg: Prg
) -> dict[PartyId, bytes]:
    """An owner's seeds of a round by neighbour; ``near`` are all that it has in the batch."""
    return _by_party(_under(secret, wrap, owner, book, round_, prg), near)


def pair_mask_keys(seeds: Mapping[PartyId, bytes], me: PartyId, context: Context) -> dict[PartyId, bytes]:
    """The keystream keys that a party shares for one sum, by neighbour; the same from either end."""
    return _of_pairs(b"secirls pair mask v2", seeds, me, context)


def fingerprints(seeds: Mapping[PartyId, bytes], me: PartyId, context: Context) -> dict[PartyId, bytes]:
    """What shows, and says nothing else of them, which seeds a party used for one sum: 16 bytes by neighbour."""
    made = _of_pairs(b"secirls seed fingerprint v1", seeds, me, context)
    return {peer: digest[:FINGERPRINT_BYTES] for peer, digest in made.items()}


def _of_pairs(label: bytes, seeds: Mapping[PartyId, bytes], me: PartyId, context: Context) -> dict[PartyId, bytes]:
    """A digest of each pair's seed, for one sum."""
    begin, mine = begun(label, context.digest), _framed_name(me)
    made: dict[PartyId, bytes] = {}
    for peer, seed in seeds.items():
        theirs = _framed_name(peer)
        digest = begin.copy()
        digest.update((mine + theirs if me < peer else theirs + mine) + framed(seed))
        made[peer] = digest.digest()
    return made


@lru_cache(maxsize=4096)
def _framed_name(party: PartyId) -> bytes:
    return framed(party.encode())


def _under(secret: bytes, text: bytes, owner: PartyId, book: KeyBook, round_: int, prg: Prg) -> bytes:
    """A text XOR the keystream that a secret of a round names, for one batch's hellos: there and back."""
    key = derive(
        secret, book.session, b"secirls round wrap v1", book.binding, struct.pack("<Q", round_), owner.encode()
    )
    pad = _stream(key, len(text), prg)
    return (int.from_bytes(text, "little") ^ int.from_bytes(pad, "little")).to_bytes(len(text), "little")


def _stream(key: bytes, length: int, prg: Prg) -> bytearray:
    """So many bytes of a key's keystream."""
    made, stream = bytearray(length), keystream(key, prg, length)
    for start in range(0, length, MOST_BYTES):
        stream.fill(memoryview(made)[start : start + MOST_BYTES])
    return made


def _by_party(seeds: bytes, near: tuple[PartyId, ...]) -> dict[PartyId, bytes]:
    return {peer: seeds[KEY_BYTES * place : KEY_BYTES * (place + 1)] for place, peer in enumerate(near)}
