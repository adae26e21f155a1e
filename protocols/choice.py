"""The protocols by name: the one place that knows all of them."""

from __future__ import annotations

import secrets
from importlib import import_module
from typing import Final, cast

from protocols.primitives.keys import Entropy, Identity
from protocols.secure_sum import KEY_HOLDER, Collector, MisuseError, Party, PartyId
from protocols.session import Roster
from protocols.settings import Settings

NAMES: Final = ("plain", "additive", "pairwise", "paillier")
"""Every protocol, cheapest first."""

_CLASSES: Final = {
    "plain": ("protocols.plain", "PlainParty", "PlainCollector"),
    "additive": ("protocols.additive", "AdditiveParty", "AdditiveCollector"),
    "pairwise": ("protocols.pairwise", "PairwiseParty", "PairwiseCollector"),
    "paillier": ("protocols.paillier", "PaillierParty", "PaillierCollector"),
}


def _load(protocol: str, which: int) -> type:
    if protocol not in _CLASSES:
        raise MisuseError(f"there is no protocol {protocol!r}: choose one of {', '.join(NAMES)}")
    entry = _CLASSES[protocol]
    return cast("type", getattr(import_module(entry[0]), entry[which]))


def helpers(protocol: str) -> tuple[PartyId, ...]:
    """The roles beside sites and aggregator that a protocol needs, each in a process of its own."""
    _load(protocol, 1)
    return (KEY_HOLDER,) if protocol == "paillier" else ()


def make_party(
    protocol: str,
    me: PartyId,
    identity: Identity,
    roster: Roster,
    settings: Settings,
    entropy: Entropy = secrets.token_bytes,
) -> Party:
    """One site's end; or, for a name in `helpers`, that helper's end."""
    if me in helpers(protocol):
        from protocols.paillier import KeyHolder

        return KeyHolder(me, identity, roster, settings, entropy)
    return cast("Party", _load(protocol, 1)(me, identity, roster, settings, entropy))


def make_collector(
    protocol: str, roster: Roster, settings: Settings, entropy: Entropy = secrets.token_bytes
) -> Collector:
    """The aggregator's end."""
    return cast("Collector", _load(protocol, 2)(roster, settings, entropy))
