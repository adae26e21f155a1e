"""Sites on their own grounds in a lean session: who takes part, over whom, what is asked before a payload leaves."""

import numpy as np
import pytest

from protocols.secure_sum import MisuseError, PeerError
from secirls.agreement.agreement import agree
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.config import MOST_ROUNDS, Config
from secirls.input_error import InputError
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.guarding.memory import Memory

LEAN = "pairwise-lean"


def room(grounds, lead, **changes):
    return lead.room(grounds.rule(f'protocols = ["{LEAN}"]'), protocol=LEAN, **changes).open()


def test_the_default_policy_takes_no_part(grounds, lead):
    with pytest.raises(RefusalError, match="protocols is pairwise, paillier-threshold"):
        lead.room(grounds, protocol=LEAN).survey()


def test_a_policy_that_lists_it_needs_no_consistency_beside_it(grounds, lead):
    led = room(grounds, lead, consistency=False)
    assert Policy().require_consistency
    led.census()
    zeros = led.total(LogCountsQuery(led.every))["zeros"]
    assert np.array_equal(zeros, (grounds.all_counts() == 0).sum(axis=0))


def test_no_site_answers_a_question_about_fewer(grounds, lead):
    led = room(grounds, lead)
    led.census()
    with pytest.raises(MisuseError, match="over other sites than were agreed"):
        led.payloads(LogCountsQuery(led.every), led.names[:3])


def test_what_a_site_remembers_of_opened_sums_is_written_before_its_payload_leaves(grounds, lead, monkeypatch):
    led = room(grounds, lead)
    led.census()
    asked, honest = [], Memory.opening
    monkeypatch.setattr(Memory, "opening", lambda self, *given: asked.append(given) or honest(self, *given))
    _, _, sent = led.payloads(LogCountsQuery(led.every))
    assert len(asked) == len(sent) == len(led.names)
    assert {present for _, present in asked} == {led.names}

    def full(*_):
        raise InputError("the disk is full")

    monkeypatch.setattr(Memory, "opening", full)
    with pytest.raises(InputError, match="disk is full"):
        led.payloads(LogCountsQuery(led.asked(0, 1)))


def test_a_round_that_was_cut_off_is_asked_again_under_other_masks(grounds, lead):
    """The aggregator fell over with all payloads in its hands; sites remember what they helped to open."""
    led = room(grounds, lead)
    led.census()
    query = LogCountsQuery(led.every)
    _, context, before = led.payloads(query)
    opened = led.add_up(before, context).vector
    again = lead.room(grounds, protocol=LEAN).open()
    again.census()
    layout, resumed, after = again.payloads(query)
    assert resumed.session != context.session
    assert not set(before.values()) & set(after.values())
    assert np.array_equal(again.add_up(after, resumed).vector[: layout.values], opened[: layout.values])
    with pytest.raises(PeerError, match="not signed"):
        again.add_up({**after, "site2": before["site2"]}, resumed)


def test_a_false_total_is_refused(grounds, lead):
    led = room(grounds, lead)

    def lie(vector, layout):
        vector[0, 0] += np.uint64(1)
        return vector

    with pytest.raises(PeerError, match="not the sum of what was sent"):
        led.census(tell=lie)


def test_a_fit_that_goes_on_without_a_site_has_to_recover():
    with pytest.raises(InputError, match="nothing to recover with when a site falls silent: on_dropout = 'abort'"):
        Config.read("test", design="~ a", protocol=LEAN, on_dropout="continue")


def test_a_fit_agrees_on_keys_once_unless_it_says_otherwise():
    assert Config(design="~ a", protocol=LEAN).settings().rounds_per_batch == MOST_ROUNDS
    assert Config(design="~ a", protocol=LEAN, rounds_per_batch=32).rounds_per_batch == 32
    assert Config(design="~ a").rounds_per_batch == 32


def test_the_protocol_is_a_term_of_the_agreement(grounds, lead):
    """What sites agree on names it, so that a session of the one can't be passed off as one of the other."""
    facts = [site.survey() for site in lead.room(grounds).sites.values()]
    lean, full = (lead.config(grounds, protocol=name, trust_aggregator=True) for name in (LEAN, "pairwise"))
    digests = {agree(facts, chosen, {}, "fit-1")[0].digest for chosen in (lean, full)}
    assert len(digests) == 2
