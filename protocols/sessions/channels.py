"""Sealed boxes between the parties of a session, carried by a collector that can't look into them.

Promises: a box opens only for its recipient, only as coming from its sender, and only at the place
(session, kind, round, attempt) it was made for. Refuses to know: what is in it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from functools import cache, lru_cache

from protocols.primitives.keys import KEY_BYTES, AgreementKey, Channel, Entropy, Secret, can_agree, derive, parts
from protocols.secure_sum import MisuseError, PartyId, PeerError

PUBLIC_BYTES = KEY_BYTES
SEAL_BYTES = 16
"""A box is this much longer than what is in it."""


class Box(IntEnum):
    """What a box holds: part of its nonce, so that boxes of two kinds never share one."""

    ROUND_SECRET_SHARES = 1
    SEED_SHARE = 2
    ADDITIVE_SEED = 3
    KEY_SHARE = 4
    CHECK_SEED = 5
    AGREED_SET = 6


class Channels(Secret):
    """One party's channels to and from every peer: one X25519 agreement, one key per direction.

    The agreement key is fresh for every session and gone once the channels stand.
    """

    def __init__(self, me: PartyId, entropy: Entropy) -> None:
        self._me = me
        self._key: AgreementKey | None = AgreementKey.fresh(entropy)
        self._outward: dict[PartyId, Channel] = {}
        self._inward: dict[PartyId, Channel] = {}
        self.public = self._key.public

    def meet(self, session: bytes, publics: Mapping[PartyId, bytes]) -> None:
        """Agree with every peer; raises `PeerError` for one whose public key is not usable."""
        if self._key is None:
            raise MisuseError("the channels of this session stand already")
        for peer in sorted(publics):
            if peer == self._me:
                continue
            shared = self._key.agree(channel_key(peer, publics[peer]))
            ours, theirs = (self._me.encode(), self.public), (peer.encode(), publics[peer])
            self._outward[peer] = Channel(derive(shared, session, b"secirls channel v1", *ours, *theirs))
            self._inward[peer] = Channel(derive(shared, session, b"secirls channel v1", *theirs, *ours))
        self._key = None

    def seal(self, peer: PartyId, box: Box, place: tuple[int, int], binding: bytes, text: bytes) -> bytes:
        """Close a box for a peer. ``place`` is (round, attempt), or (batch, 0); it serves once."""
        try:
            return self._outward[peer].seal(_number(box, place), _header(box, self._me, peer, binding), text)
        except ValueError as error:
            raise MisuseError(str(error)) from None

    def open(self, peer: PartyId, box: Box, place: tuple[int, int], binding: bytes, sealed: bytes) -> bytes:
        """Look into a peer's box, or raise `ValueError`."""
        return self._inward[peer].open(_number(box, place), _header(box, peer, self._me, binding), sealed)


def channel_key(peer: PartyId, public: bytes) -> bytes:
    """A channel key from a hello; raises `PeerError` for one that is not usable."""
    if not can_agree(public):
        raise PeerError(peer, "its channel key is not a usable X25519 key")
    return public


@lru_cache(maxsize=64)
def _number(box: Box, place: tuple[int, int]) -> int:
    """The box's nonce: kind, attempt, round. All channels that note it as used note one and the same number."""
    return int.from_bytes(struct.pack("<III", *place, box), "little")


def _header(box: Box, sender: PartyId, recipient: PartyId, binding: bytes) -> bytes:
    """What is authenticated with the box: everything both ends know about it."""
    return _kind(box) + _named(sender) + _named(recipient) + parts(binding)


@cache
def _kind(box: Box) -> bytes:
    """How the header of each box of that kind begins."""
    return parts(b"secirls box v1", bytes([box]))


@lru_cache(maxsize=4096)
def _named(party: PartyId) -> bytes:
    """A party's name, as it stands in headers."""
    return parts(party.encode())
