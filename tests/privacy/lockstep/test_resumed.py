"""A fit in lock-step that goes on: the same bits, and no total of the past that the sites did not verify themselves."""

import dataclasses

import pytest

from protocols.secure_sum import PeerError
from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.site.guarding.memory import Memory
from secirls.site.site import Site


@pytest.fixture
def four(lay):
    return lay(samples=40, genes=14, seed=4)


def events(grounds, config, past=None):
    parties = {name: Site(grounds.place(name), config, own_process=False) for name in grounds.names}
    return lead(Task(config, "fit-1", past), LocalFederation(parties))


def first_part(grounds, config, rounds):
    """What is kept of a fit that is killed after so many rounds."""
    begun, records = None, []
    for event in events(grounds, config):
        if isinstance(event, Begun):
            begun = event
        if isinstance(event, Record):
            records.append(event)
            if len(records) == rounds:
                return Past(begun, tuple(records))
    raise AssertionError("the fit has fewer rounds")


def bits(outcome):
    assert isinstance(outcome, Outcome)
    return outcome.fitted.state.beta.tobytes()


@pytest.mark.parametrize("rounds", [4, *(pytest.param(rounds, marks=pytest.mark.slow) for rounds in (1, 9))])
def test_whoever_goes_on_comes_to_the_same_bits(four, lead, rounds):
    config = lead.config(four, preset="irls")
    past = first_part(four, config, rounds)
    *_, whole = events(four, config)
    *_, resumed = events(four, config, past)
    assert bits(resumed) == bits(whole)
    assert {row.party for row in resumed.rows if row.verb == "follow" and row.round < rounds} == set(four.names)


def told_otherwise(past, at):
    """The same past with one sum of it changed a little; as if sites had been told so."""
    record = past.records[at]
    name, array = next((name, array) for name, array in record.arrays.items() if array.ndim == 2 and array.size)
    changed = dataclasses.replace(record, arrays={**record.arrays, name: array * 1.001})
    return Past(past.begun, (*past.records[:at], changed, *past.records[at + 1 :]))


def test_a_past_that_was_not_verified_is_refused(four, lead):
    config = lead.config(four, preset="irls")
    past = told_otherwise(first_part(four, config, 7), 6)
    with pytest.raises(PeerError, match="tells site1 a total of the past that it did not verify"):
        list(events(four, config, past))


def test_the_twin_that_remembers_nothing_is_steered_by_an_invented_past(four, lead, monkeypatch):
    config = lead.config(four, preset="irls")
    kept = first_part(four, config, 7)
    asked = [record.query for record in events(four, config, kept) if isinstance(record, Record)]
    monkeypatch.setattr(Memory, "knows_total", lambda *_: True)
    steered = [e.query for e in events(four, config, told_otherwise(kept, 6)) if isinstance(e, Record)]
    assert steered[0] != asked[0]
