"""No mask serves two sums, even at a site set back to an earlier state, whose random bytes are those of before.

A site restored from a snapshot has the same keys and secrets and draws the same seeds. What keeps its payloads apart
is that layout and session are in every mask's key; a payload minus another under the same masks is a vector minus a
vector.
"""

from dataclasses import replace

import numpy as np
import pytest

from protocols import run
from protocols.masking import mask_keys, pairwise
from protocols.masking.pairwise_messages import Payload
from protocols.primitives import ring

KNOWN_KEY = bytes(range(32))
OF_PAIRS = b"secirls pair root v1"
BINDINGS = {
    "layout": lambda salt, info: (salt, info if info[0] == OF_PAIRS else (*info[:2], b"", *info[3:])),
    "session": lambda salt, info: (b"", (OF_PAIRS, b"", *info[2:]) if info[0] == OF_PAIRS else info),
}
BOTH_MASKS = pytest.mark.parametrize("mask", ["pair", "self"])


def take_out(monkeypatch, binding):
    """The broken twin: masks are derived as they are, but for the layout, or the session, that they are bound to."""
    honest, of_pairs = mask_keys.derive, pairwise.pair_mask_keys

    def derive(secret, salt, *info):
        salt, info = BINDINGS[binding](salt, info)
        return honest(secret, salt, *info)

    monkeypatch.setattr(mask_keys, "derive", derive)
    monkeypatch.setattr(
        pairwise,
        "pair_mask_keys",
        lambda seeds, me, context: of_pairs(seeds, me, replace(context, **{binding: bytes(32)})),
    )


def leave_only(monkeypatch, mask):
    """The other kind of mask is one that anybody can take off, so that what is left rests on this kind alone."""
    if mask == "pair":
        monkeypatch.setattr(pairwise, "self_mask_key", lambda *_: KNOWN_KEY)
    else:
        monkeypatch.setattr(pairwise, "pair_mask_keys", lambda seeds, *_: dict.fromkeys(seeds, KNOWN_KEY))


def masked(table, vectors, layout):
    """The masked vectors that real parties send for round 0, all told this layout."""
    run.meet(table)
    context = replace(run.context_of(table, vectors["a"]), layout=layout)
    sent = {}
    for site in vectors:
        body = memoryview(table.parties[site].protect(vectors[site], context))[:-64]
        peers = tuple(peer for peer in vectors if peer != site)
        sent[site] = ring.from_bytes(Payload.read(body, site, context, peers).masked, 3, 2)
    return sent


def repeated(first, second):
    """Which sites sent the same bytes for the same vector: those whose masks were those of before."""
    return {site for site in first if np.array_equal(first[site], second[site])}


def told_of_two_layouts(set_back, vectors):
    return repeated(masked(set_back("pairwise"), vectors, b"x" * 32), masked(set_back("pairwise"), vectors, b"y" * 32))


def met_in_two_sessions(set_back, vectors):
    """The second time one site alone has a fresh nonce, and that alone: all else was set back."""
    first, again = set_back("pairwise"), set_back("pairwise", {"d": lambda draw: draw == 1})
    lives = [masked(table, vectors, b"x" * 32) for table in (first, again)]
    assert first.collector.session != again.collector.session
    return repeated(*lives)


@BOTH_MASKS
def test_a_site_set_back_and_told_another_layout_repeats_no_mask(set_back, vectors, monkeypatch, mask):
    leave_only(monkeypatch, mask)
    assert told_of_two_layouts(set_back, vectors) == set()


@BOTH_MASKS
def test_the_twin_without_the_layout_repeats_them_all(set_back, vectors, monkeypatch, mask):
    leave_only(monkeypatch, mask)
    take_out(monkeypatch, "layout")
    assert told_of_two_layouts(set_back, vectors) == set(vectors)


@BOTH_MASKS
def test_sites_set_back_repeat_no_mask_as_long_as_one_nonce_is_fresh(set_back, vectors, monkeypatch, mask):
    leave_only(monkeypatch, mask)
    assert met_in_two_sessions(set_back, vectors) == set()


@BOTH_MASKS
def test_the_twin_without_the_session_repeats_them_all(set_back, vectors, monkeypatch, mask):
    leave_only(monkeypatch, mask)
    take_out(monkeypatch, "session")
    assert met_in_two_sessions(set_back, vectors) == set(vectors)


def cancels_across_layouts(set_back, vectors, monkeypatch):
    """Whether the sum opens if half of the sites are told of another layout, their own masks taken off."""
    leave_only(monkeypatch, "pair")
    ones, others = (masked(set_back("pairwise"), vectors, layout * 32) for layout in (b"x", b"y"))
    total = ring.total_of([ones["a"], ones["b"], others["c"], others["d"]], 3, 2)
    ring.mask_into(total, [], [KNOWN_KEY] * 4)
    return np.array_equal(total, ring.total_of(vectors.values(), 3, 2))


def test_the_masks_of_sites_told_of_two_layouts_do_not_cancel(set_back, vectors, monkeypatch):
    assert not cancels_across_layouts(set_back, vectors, monkeypatch)


def test_the_twin_without_the_layout_adds_up_what_two_halves_said_of_two_questions(set_back, vectors, monkeypatch):
    take_out(monkeypatch, "layout")
    assert cancels_across_layouts(set_back, vectors, monkeypatch)
