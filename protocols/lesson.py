"""What passed around a table in one secure sum, told to somebody who has not seen one before.

Promises: sizes and bytes are those of the messages that passed. Refuses to know: how a protocol works.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, PartyId, Total, Vector
from protocols.table import Leg, Table

_LESSON: Mapping[Leg, str] = {
    "hello": "each party publishes a nonce and its public keys, signed",
    "grant": "each party hands over, sealed to the others, what lets them go on if it falls silent",
    "payload": "each party sends its vector, hidden",
    "request": "the aggregator says who is in the sum, and asks for help to open it",
    "reply": "each party checks what it is asked, and helps to open this one sum",
}

_MEETING_ALONE: Mapping[Leg, str] = {"grant": "each party signs which hellos it was shown, and grants nothing"}
"""Where nothing can be recovered."""

_AGREEING: Mapping[Leg, str] = {
    "request": "the aggregator says who is in the sum, and asks everyone to agree to that",
    "reply": "each party says so to all others there, and will help to open no other",
}
"""The first of two trips, where parties agree on the set before they release anything."""

_KNOWS: Mapping[str, tuple[str, ...]] = {
    "plain": ("The aggregator: every vector.", "A site: its own vector."),
    "additive": (
        "The aggregator: the sum, and from each site a sum of shares, uniform given their total.",
        "A site: its own vector, and a seed from every other, each independent of every vector.",
    ),
    "pairwise-lean": (
        "The aggregator: the sum, and from each site a masked vector, uniform given their total.",
        "A site: its own vector, and the masks it shares with others.",
    ),
    "pairwise": (
        "The aggregator: the sum, who is in it, the own masks of those present, the silent ones' masks of this round.",
        "A site: its own vector, the masks it shares, and shares of the others' secrets, each worth nothing by itself.",
    ),
    "paillier-threshold": (
        "The aggregator: the sum, who is in it, and ciphertexts it has no key for.",
        "A site: its own vector, what it signed, and a share of the key that opens nothing by itself.",
    ),
    "paillier": (
        "The aggregator: the sum, who is in it, and ciphertexts it has no key for.",
        "The key-holder: the sum under a uniform blind.",
        "A site: its own vector, and what it signed.",
    ),
}

_WHAT_IS_HIDDEN: Mapping[str, str] = {
    "plain": "not at all",
    "additive": "as seeds for everybody else and a rest that nobody sends",
    "pairwise-lean": "under masks that cancel in the sum of all, and in no other",
    "pairwise": "under masks that cancel between parties and one of its own",
    "paillier": "as ciphertexts under the key-holder's key, with a proof that it knows what is in them",
    "paillier-threshold": "as ciphertexts under a key that all share, with a proof that it knows what is in them",
}


def lesson(table: Table, vectors: Mapping[PartyId, Vector], total: Total) -> Iterator[str]:
    """What passed around a table, leg by leg, and what everyone knows now: lines to read from top to bottom."""
    sites, values = table.sites, next(iter(vectors.values())).shape[0]
    present, absent = total.parties, [site for site in table.sites if site not in total.parties]
    yield f"{len(sites)} sites, {values:,} numbers of 16 bytes each; the protocol is {table.protocol}."
    yield "Before: everyone made an Ed25519 key, and all hold the roster of the public ones (here made on the spot)."
    trips = [leg for leg, _ in itertools.groupby(message.leg for message in table.messages)].count("request")
    last: tuple[str, ...] = ()
    for leg, messages in itertools.groupby((m for m in table.messages if m.data), key=lambda message: message.leg):
        sent = list(messages)
        sizes = sorted({len(message.data) for message in sent})
        each = f"{sizes[0]:,} bytes each" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,} bytes"
        again = ", a second trip" if leg in last else ""
        last = (*last, leg)
        yield ""
        agreeing = trips == 2 and leg in _AGREEING and not again and table.protocol == "pairwise"
        special = _AGREEING if agreeing else _MEETING_ALONE if table.protocol == "pairwise-lean" else {}
        said = special.get(leg, _LESSON[leg])
        yield f"{leg}{again}: {said}" + (f" {_WHAT_IS_HIDDEN[table.protocol]}" if leg == "payload" else "")
        for message in sent:
            way = f"{AGGREGATOR} -> {message.party}" if leg == "request" else f"{message.party} -> {AGGREGATOR}"
            yield f"    {way:28} {len(message.data):12,} bytes   {message.data[:6].hex()}..."
        yield f"    {len(sent)} messages, {each}"
        if leg == "payload" and absent:
            yield f"    silent: {', '.join(absent)}"
    exact = ring.total_of((vectors[party] for party in present), values, 2)
    verdict = "equals" if np.array_equal(total.vector, exact) else "DIFFERS FROM"
    yield ""
    yield f"Opened: the sum {verdict} the ring sum over {', '.join(present)}."
    yield f"    first number of {present[0]}: {_hexadecimal(vectors[present[0]][0])}"
    yield f"    first number of the sum: {_hexadecimal(total.vector[0])}"
    yield ""
    yield "What everyone knows now:"
    for knows in _KNOWS[table.protocol]:
        yield f"    {knows}"


def _hexadecimal(element: Vector) -> str:
    return "".join(f"{int(limb):016x}" for limb in reversed(element))
