"""What a party demands is its own affair: it is in no message and no digest, and parties may differ in it."""

import pytest

from protocols import run
from protocols.choice import NAMES, helpers, make_collector, make_party
from protocols.primitives import ring
from protocols.primitives.keys import Identity
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.session import Roster
from protocols.sessions.settings import Settings
from protocols.table import Table

SITES = ("a", "b", "c", "d")
SETTINGS = Settings(threshold=3, rounds_per_batch=1, key_bits=512, insecure_test_keys=True)
VECTORS = {site: ring.expand(site.encode() * 32, 3, 2) for site in SITES}
STRICT = Demands(colluders=1, key_bits=512, whole=True, opening=lambda context, present: None)


def played(protocol, demanding):
    """Every message of one sum on a tape, and its total; some parties make demands."""
    sources = {name: run.tape("own")(name) for name in (*SITES, *helpers(protocol))}
    identities = {name: Identity.fresh(source) for name, source in sources.items()}
    roster = Roster({name: identity.public for name, identity in identities.items()})
    parties = {
        name: make_party(
            protocol,
            name,
            identities[name],
            roster,
            SETTINGS,
            sources[name],
            demands=STRICT if name in demanding else NO_DEMANDS,
        )
        for name in roster
    }
    table = Table(protocol, roster, parties, make_collector(protocol, roster, SETTINGS, run.tape("own")("collector")))
    run.meet(table)
    total = run.add_up(table, VECTORS)
    return [(message.leg, message.party, message.data) for message in table.messages], total.vector.tolist()


@pytest.mark.parametrize("protocol", NAMES)
def test_a_session_whose_parties_demand_what_it_keeps_is_the_same_byte_for_byte(protocol):
    everybody = {*SITES, *helpers(protocol)}
    assert played(protocol, set()) == played(protocol, {"b"}) == played(protocol, everybody)
