"""The layout of a sum and its name, as whoever asks and whoever answers find them from the same public things.

Refuses to know: what is asked, and what becomes of it.
"""

from __future__ import annotations

from protocols.secure_sum import Context, PartyId
from protocols.verified import CHECK_VALUES
from secirls.algorithms.query import Query, SignedLayout


def named_sum(
    asked: Query, state: bytes, session: bytes, place: tuple[int, int], cohort: tuple[PartyId, ...], *, told: bool
) -> tuple[SignedLayout, Context]:
    """How an answer is laid out in the state that the question led to, and the context of the sum.

    ``place`` is (round, attempt); with a total that is ``told``, check values go. Raises `MisuseError` where so many
    answers might not fit into the ring.
    """
    layout = asked.layout(len(cohort), state)
    layout.check_headroom(len(cohort))
    values = layout.values + (CHECK_VALUES[layout.limbs] if told else 0)
    return layout, Context(session, *place, cohort, layout.digest, values, layout.limbs)
