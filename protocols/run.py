"""One secure sum from hello to open, on a page: who acts, who sees what, leg by leg.

Promises: it does what a federation does, with the real messages, in one process. That is what tutorials,
tests and test vectors need and what nobody's data should ever go through: whoever runs this process can
read every party in it. ``python -m protocols.run`` plays one sum and prints its messages.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence

from protocols.choice import NAMES, helpers, leave_after_meeting, make_collector, make_party
from protocols.claims import claim
from protocols.lesson import lesson
from protocols.primitives import ring
from protocols.primitives.keys import Entropy, Identity
from protocols.secure_sum import (
    AGGREGATOR,
    Context,
    DropoutError,
    MisuseError,
    PartyId,
    Pending,
    Total,
    Vector,
    sha256,
)
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.session import Roster
from protocols.sessions.settings import Settings
from protocols.table import Silent, Table, Tamper


def secure_sum(
    protocol: str,
    vectors: Mapping[PartyId, Vector],
    settings: Settings | None = None,
    *,
    entropy: Callable[[PartyId], Entropy] = lambda _: secrets.token_bytes,
    silent: Silent | None = None,
    tamper: Tamper | None = None,
) -> Total:
    """One sum over the parties' vectors, all of one shape, by one protocol, from hello to open.

    ``entropy`` gives each party its source of random bytes. ``silent`` and ``tamper`` let things go wrong.
    """
    table = sit_down(protocol, list(vectors), settings, entropy)
    table.silent, table.tamper = silent or {}, tamper
    meet(table)
    return add_up(table, vectors)


def sit_down(
    protocol: str,
    sites: Sequence[PartyId],
    settings: Settings | None = None,
    entropy: Callable[[PartyId], Entropy] = lambda _: secrets.token_bytes,
    demands: Demands = NO_DEMANDS,
) -> Table:
    """Before a session: everyone has an identity, and the roster of their public keys is known to all.

    Identities are made on the spot here; real ones are made at each site once, and rosters exchanged by people. All
    parties make the same ``demands``.
    """
    settings = settings or Settings()
    sources = {party: entropy(party) for party in (*sites, *helpers(protocol))}
    identities = {party: Identity.fresh(source) for party, source in sources.items()}
    roster = Roster({party: identity.public for party, identity in identities.items()})
    parties = {
        party: make_party(protocol, party, identities[party], roster, settings, sources[party], demands=demands)
        for party in roster
    }
    return Table(protocol, roster, parties, make_collector(protocol, roster, settings, entropy(AGGREGATOR)))


def meet(table: Table, batch: int = 0) -> None:
    """Get to know each other, once per session and once more for every further batch of rounds."""
    # hello. Each party publishes a nonce and its public keys for this batch of rounds.
    # Who only dealt keys is gone after the first batch.
    gone = leave_after_meeting(table.protocol) if batch > 0 else ()
    hellos = {
        party: table.carry("hello", party, table.parties[party].hello(batch))
        for party in table.speakers("hello")
        if party not in gone
    }

    # The aggregator looks at all of them first; in a large room, a party checks those of its neighbours alone.
    table.collector.check(hellos, batch)

    # meet. Each party takes everyone's hellos, and grants what would help to do without it later on. The
    # aggregator carries the hellos, keeps the grants, and can read neither.
    grants = {
        party: table.carry("grant", party, table.parties[party].meet(hellos, batch))
        for party in table.speakers("grant")
        if party in hellos
    }
    table.collector.meet(hellos, grants, batch)


def context_of(table: Table, vector: Vector, cohort: Collection[PartyId] | None = None, round_: int = 0) -> Context:
    """The name of one sum. Each party would build it for itself; they agree, or nothing opens."""
    values, limbs = vector.shape
    layout = sha256(b"protocols.run layout", values.to_bytes(8, "little"), limbs.to_bytes(8, "little"))
    return Context(table.collector.session, round_, 0, tuple(sorted(cohort or table.sites)), layout, values, limbs)


def add_up(table: Table, vectors: Mapping[PartyId, Vector], context: Context | None = None) -> Total:
    """One sum among parties that have met."""
    context = context or context_of(table, next(iter(vectors.values())))

    # protect. Each site hides its vector; what it sends says nothing by itself.
    payloads = {
        party: table.carry("payload", party, table.parties[party].protect(vectors[party], context))
        for party in table.speakers("payload")
        if party in context.cohort
    }

    # combine. The aggregator adds up what arrived: the sum is there, and still hidden.
    outcome: Pending | Total = table.collector.combine(payloads, context)

    # A pending sum says what is asked of whom: nothing at all in the plain protocol, one trip in most, two
    # where the parties first sign who is present.
    while isinstance(outcome, Pending):
        requests = {
            party: table.carry("request", party, request)
            for party, request in outcome.requests.items()
            if party in table.speakers("request")
        }

        # assist. Each party asked checks what it is asked, and helps to open this one sum, once.
        replies = {
            party: table.carry("reply", party, table.parties[party].assist(request, context))
            for party, request in requests.items()
            if party in table.speakers("reply")
        }

        # open. The aggregator learns the sum and who is in it.
        outcome = table.collector.open(outcome, replies)
    return outcome


def tape(label: str) -> Callable[[PartyId], Entropy]:
    """Entropy that anybody can predict: for test vectors and nothing else. One tape per party and label."""

    def for_party(party: PartyId) -> Entropy:
        position = 0

        def read(count: int) -> bytes:
            nonlocal position
            seed = sha256(b"protocols.run tape", label.encode(), party.encode(), position.to_bytes(8, "little"))
            position += 1
            return hashlib.shake_256(seed).digest(count)

        return read

    return for_party


def main(arguments: Sequence[str] | None = None) -> None:
    """Play one sum on a page: every leg with its messages, and what each role knows afterwards."""
    parser = argparse.ArgumentParser(prog="python -m protocols.run", description=main.__doc__)
    parser.add_argument("protocol", nargs="?", default="pairwise", choices=NAMES)
    parser.add_argument("--parties", type=int, default=4)
    parser.add_argument("--values", type=int, default=1000)
    parser.add_argument("--silent", default="", help="a party that falls silent before its payload, such as site-2")
    parser.add_argument("--consistency", action="store_true", help="sign who is present before shares are released")
    parser.add_argument("--neighbours", type=int, help="with how many others each party shares masks")
    chosen = parser.parse_args(arguments)

    sites = [f"site-{number}" for number in range(1, chosen.parties + 1)]
    if chosen.silent and chosen.silent not in sites:
        parser.error(f"--silent {chosen.silent}: the parties are {', '.join(sites)}")
    vectors = {site: ring.expand(secrets.token_bytes(32), chosen.values, 2) for site in sites}
    settings = Settings(consistency=chosen.consistency, neighbours=chosen.neighbours)
    try:
        told = claim(chosen.protocol, chosen.parties, settings)
        table = sit_down(chosen.protocol, sites, settings)
        table.silent = {"payload": [chosen.silent]} if chosen.silent else {}
        meet(table)
        total = add_up(table, vectors)
    except (MisuseError, DropoutError) as refusal:
        parser.exit(2, f"{parser.prog}: {refusal}\n")
    for line in (
        *lesson(table, vectors, total),
        "",
        "What is promised, and what is not:",
        *(f"    {sentence}" for sentence in told),
    ):
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
