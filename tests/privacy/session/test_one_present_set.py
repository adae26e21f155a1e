"""Sites on their own grounds open a sum over all that were agreed, though the aggregator says that one fell silent.

The twin helps whoever asks: the question asked twice, the second time without one site, is that site's own summand.
"""

import numpy as np
import pytest

from protocols.secure_sum import PeerError
from protocols.sessions.demands import Demands
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.site.guarding.guard import Guard
from secirls.site.guarding.memory import Memory

SILENCED = "site4"


def without(room, query):
    """The sum that an aggregator opens that never had one site's payload, or says so."""
    layout, context, sent = room.payloads(query)
    opened = room.add_up({name: payload for name, payload in sent.items() if name != SILENCED}, context)
    return layout.decode(opened.vector, len(opened.parties))["zeros"]


def led(grounds, lead):
    room = lead.room(grounds, threshold=3).open()
    room.census()
    return room


def test_no_sum_is_opened_without_a_site_that_is_said_to_be_silent(grounds, lead):
    room = led(grounds, lead)
    room.total(LogCountsQuery(room.every))
    with pytest.raises(PeerError, match="only the whole cohort's may be"):
        without(room, LogCountsQuery(room.every))


def test_where_sites_help_with_any_set_two_sums_differ_by_one_sites_own(grounds, lead, monkeypatch):
    monkeypatch.setattr(Demands, "check_opening", lambda *_: None)
    room = led(grounds, lead)
    both = room.total(LogCountsQuery(room.every))["zeros"], without(room, LogCountsQuery(room.every))
    assert np.array_equal(both[0] - both[1], (grounds.counts(SILENCED) == 0).sum(axis=0))


@pytest.mark.usefixtures("at_any_question")
@pytest.mark.parametrize("left", ["guard", "memory"])
def test_each_of_the_two_that_look_is_enough(grounds, lead, monkeypatch, left):
    """Demands ask for the whole cohort, and the guard knows by itself over whom; memory has it on the disk."""
    monkeypatch.setattr(Guard, "whole", property(lambda guard: False))
    if left == "guard":
        monkeypatch.setattr(Memory, "opening", lambda *_: None)
    room = led(grounds, lead)
    room.total(LogCountsQuery(room.every))
    if left == "memory":
        with pytest.raises(Exception, match="one sum per question"):
            without(room, LogCountsQuery(room.every))
    else:
        monkeypatch.setattr(Guard, "whole", property(lambda guard: True))
        with pytest.raises(PeerError, match="over other sites than were agreed"):
            without(room, LogCountsQuery(room.every))
