"""Columns are dropped from a design that the census calls empty, and no others, whatever an aggregator says.

A column that stays out of every later question would take its samples' differences into the others.
"""

import numpy as np
import pytest

from secirls.algorithms.groundwork.empty import DropEmptyQuery
from secirls.algorithms.query import QueryError
from secirls.numerics.held.samples import Samples
from secirls.site.guarding.guard import Guard


def ask(room, *kept):
    return room.total(DropEmptyQuery(np.zeros(len(room.genes), dtype=bool), np.array(kept)))


@pytest.mark.parametrize("kept", [(True, False), (False, True), (False, False)])
def test_a_column_with_samples_is_not_dropped(grounds, lead, kept):
    room = lead.room(grounds).open()
    room.census()
    with pytest.raises(QueryError, match="drops other columns than the census calls empty"):
        ask(room, *kept)


def test_without_the_guard_a_site_whose_samples_are_all_in_the_reference_would_drop_it(grounds, lead, monkeypatch):
    """The twin: the guard does not look, and the site's own samples do not either."""
    monkeypatch.setattr(Guard, "_check_empty", lambda *_: None)
    monkeypatch.setattr(DropEmptyQuery, "apply", lambda query, samples: Samples.with_columns(samples, query.kept))
    room = lead.room(grounds).open()
    room.census()
    assert ask(room, True, False)["sites"] == len(grounds.names)
    assert {site._samples.n_params for site in room.sites.values()} == {1}
