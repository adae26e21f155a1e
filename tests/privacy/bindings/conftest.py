"""Rooms that can be set back to an earlier state: the same identities and random bytes, but for what a test changes."""

import pytest

from protocols import run
from protocols.primitives import ring
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d")
VECTORS = {site: ring.expand(site.encode() * 32, 3, 2) for site in SITES}
SETTINGS = Settings(threshold=3, rounds_per_batch=2, key_bits=512, insecure_test_keys=True)


@pytest.fixture
def vectors():
    return VECTORS


@pytest.fixture
def set_back():
    """``set_back(protocol, fresh)``: a table on the same tape every time.

    A party draws its identity first and its nonce next; ``fresh[party]`` tells, from a draw's number, whether it comes
    from another tape.
    """

    def sat(protocol, fresh=None):
        def entropy(party):
            usual, other, number = run.tape("bindings")(party), run.tape("another")(party), iter(range(1 << 20))
            anew = (fresh or {}).get(party, lambda draw: False)

            def read(count):
                before, after = usual(count), other(count)
                return after if anew(next(number)) else before

            return read

        return run.sit_down(protocol, SITES, SETTINGS, entropy)

    return sat
