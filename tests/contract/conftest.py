"""Tables at which any protocol can be played, kept for many sums because meeting is the slow part."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from protocols import run
from protocols.choice import NAMES
from protocols.sessions.settings import Settings

TEST_SETTINGS = Settings(key_bits=512, insecure_test_keys=True, rounds_per_batch=400)
"""Paillier keys that are made in no time, and mask keys for as many rounds as the tests here play."""


class Tables:
    """Hands out a table for a protocol and a number of sites, with a round nobody has used yet."""

    def __init__(self):
        self._tables = {}
        self._rounds = itertools.count()

    def seated(self, protocol, sites, **changes):
        key = (protocol, sites, tuple(sorted(changes.items())))
        if key not in self._tables:
            names = [f"site-{number}" for number in range(1, sites + 1)]
            table = run.sit_down(protocol, names, replace(TEST_SETTINGS, **changes))
            run.meet(table)
            self._tables[key] = (table, itertools.count())
        table, rounds = self._tables[key]
        table.messages.clear()
        table.silent, table.tamper = {}, None
        return table, next(rounds)


@pytest.fixture(scope="session")
def tables():
    return Tables()


@pytest.fixture(scope="session")
def test_settings():
    return TEST_SETTINGS


@pytest.fixture(params=NAMES)
def protocol(request):
    return request.param
