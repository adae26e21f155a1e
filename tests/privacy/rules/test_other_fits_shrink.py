"""Two fits over the same sites, of which one goes on without a site: their difference is that site's own.

Whoever leads calls a site silent (``on_dropout = "continue"``), and writes the levels of a factor in another order, so
that no question is one of before. The twin notes with which sites a fit began, and no more.
"""

import numpy as np
import pytest

from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.memory import Memory

pytestmark = pytest.mark.usefixtures("at_any_question")
EVERYBODY = ("site1", "site2", "site3", "site4")
WITHOUT_ONE = EVERYBODY[:3]
OTHERWISE = {"levels": {"condition": ("treated", "control")}}
NEAR = r"across_fits is refuse \(this data was in another fit, over other sites"


@pytest.fixture
def going_on(grounds):
    return grounds.rule('on_dropout = "continue"')


def began(grounds, lead, on_dropout="continue", **how):
    room = lead.room(grounds, on_dropout=on_dropout, **how).open()
    room.census()
    return room


def over_all(room):
    return room.total(LogCountsQuery(room.every))["zeros"]


def asked_of_fewer(room):
    return room.total(LogCountsQuery(room.every), WITHOUT_ONE)["zeros"]


def opened_over_fewer(room):
    layout, context, sent = room.payloads(LogCountsQuery(room.every))
    total = room.add_up({name: sent[name] for name in WITHOUT_ONE}, context)
    return layout.decode(total.vector[: layout.values], len(total.parties))["zeros"]


def own(grounds):
    return (grounds.counts("site4") == 0).sum(axis=0)


@pytest.fixture(params=[asked_of_fewer, opened_over_fewer])
def over_fewer(request):
    return request.param


@pytest.fixture
def unheeding(monkeypatch):
    """The broken twin: a fit is over the sites that it began with, whoever is left."""
    monkeypatch.setattr(Memory, "goes_on_over", lambda *_: None)


def then_without(grounds, lead, over_fewer):
    """Zeros in a fit less those in another that goes on without a site."""
    return over_all(began(grounds, lead)) - over_fewer(began(grounds, lead, run="fit-2", **OTHERWISE))


def then_with(grounds, lead, over_fewer, **how):
    """Zeros in a fit less those in one of before that went on without a site."""
    less = over_fewer(began(grounds, lead))
    return over_all(began(grounds, lead, **OTHERWISE, **how)) - less


def test_a_fit_goes_on_without_a_site_only_where_no_other_is_with_it(going_on, lead, over_fewer):
    with pytest.raises(RefusalError, match=NEAR):
        then_without(going_on, lead, over_fewer)


def test_the_twin_that_notes_who_began_tells_one_sites(going_on, lead, over_fewer, unheeding):
    assert np.array_equal(then_without(going_on, lead, over_fewer), own(going_on))


@pytest.mark.parametrize("how", [{"run": "fit-2"}, {}, {"on_dropout": "abort", "run": "fit-2"}])
def test_after_one_that_went_on_without_a_site_no_other_is_with_it(going_on, lead, how):
    with pytest.raises(RefusalError, match=NEAR):
        then_with(going_on, lead, asked_of_fewer, **how)


@pytest.mark.parametrize("how", [{"run": "fit-2"}, {}, {"on_dropout": "abort", "run": "fit-2"}])
def test_the_twin_lets_it_come_back_and_tells_its_own(going_on, lead, how, unheeding):
    assert np.array_equal(then_with(going_on, lead, asked_of_fewer, **how), own(going_on))


def test_the_same_fit_goes_on_over_those_left(going_on, lead, over_fewer):
    before = over_fewer(began(going_on, lead))
    again = asked_of_fewer(began(going_on, lead))
    assert np.array_equal(before, again)
    assert np.array_equal(before + own(going_on), (going_on.all_counts() == 0).sum(axis=0))


def test_where_a_policy_allows_as_many_fits_both_are_made(going_on, lead):
    going_on.rule("max_fits = 2")
    assert np.array_equal(then_without(going_on, lead, asked_of_fewer), own(going_on))
