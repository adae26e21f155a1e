"""The protocols by name: the one place that knows all of them."""

from __future__ import annotations

import secrets
from importlib import import_module
from typing import Any, Final, cast

from protocols.primitives.keys import Entropy, Identity
from protocols.secure_sum import KEY_DEALER, KEY_HOLDER, Collector, MisuseError, Party, PartyId
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.session import Roster, Seat, Session
from protocols.sessions.settings import Settings

NAMES: Final = ("plain", "pairwise-lean", "additive", "pairwise", "paillier", "paillier-threshold")
"""Every protocol, cheapest first."""

_CLASSES: Final = {
    "plain": ("protocols.plain", "PlainParty", "PlainCollector"),
    "additive": ("protocols.additive", "AdditiveParty", "AdditiveCollector"),
    "pairwise-lean": ("protocols.masking.pairwise_lean", "LeanParty", "LeanCollector"),
    "pairwise": ("protocols.masking.pairwise", "PairwiseParty", "PairwiseCollector"),
    "paillier": ("protocols.encryption.paillier", "PaillierParty", "PaillierCollector"),
    "paillier-threshold": ("protocols.encryption.paillier_threshold", "ThresholdParty", "ThresholdCollector"),
}

_HELPERS: Final = {
    "paillier": (KEY_HOLDER, "protocols.encryption.paillier", "KeyHolder"),
    "paillier-threshold": (KEY_DEALER, "protocols.encryption.paillier_threshold", "KeyDealer"),
}


def _load(protocol: str, which: int) -> type:
    if protocol not in _CLASSES:
        raise MisuseError(f"there is no protocol {protocol!r}: choose one of {', '.join(NAMES)}")
    entry = _CLASSES[protocol]
    return cast("type", getattr(import_module(entry[0]), entry[which]))


def helpers(protocol: str) -> tuple[PartyId, ...]:
    """The roles beside sites and aggregator that a protocol needs, each in a process of its own."""
    _load(protocol, 1)
    return (_HELPERS[protocol][0],) if protocol in _HELPERS else ()


def leave_after_meeting(protocol: str) -> tuple[PartyId, ...]:
    """Those of the helpers who are gone once all have met: nobody hears or asks them again."""
    return tuple(name for name in helpers(protocol) if name == KEY_DEALER)


def make_party(
    protocol: str,
    me: PartyId,
    identity: Identity,
    roster: Roster,
    settings: Settings,
    entropy: Entropy = secrets.token_bytes,
    *,
    n_jobs: int = 1,
    demands: Demands = NO_DEMANDS,
) -> Party:
    """One site's end; or, for a name in `helpers`, that helper's end. ``n_jobs`` threads for large powers.

    ``demands`` are this party's own: raises `MisuseError` for a session that does not meet them.
    """
    kind = _helper(protocol) if me in helpers(protocol) else _load(protocol, 1)
    threads = {"n_jobs": n_jobs} if protocol in _HELPERS and me != KEY_DEALER else {}
    seat = Seat(me, identity, Session(protocol, roster, settings), entropy, demands)
    return cast("Party", kind(seat, **threads))


def make_collector(
    protocol: str, roster: Roster, settings: Settings, entropy: Entropy = secrets.token_bytes, *, n_jobs: int = 1
) -> Collector:
    """The aggregator's end. ``n_jobs`` threads where it raises large powers itself."""
    own: dict[str, dict[str, Any]] = {"paillier": {"entropy": entropy}, "paillier-threshold": {"n_jobs": n_jobs}}
    return cast("Collector", _load(protocol, 2)(Session(protocol, roster, settings), **own.get(protocol, {})))


def _helper(protocol: str) -> type:
    _, module, name = _HELPERS[protocol]
    return cast("type", getattr(import_module(module), name))
