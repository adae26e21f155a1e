"""What a site can't send: signed in every question, told from any honest sum, and a status at the end of the fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protocols.secure_sum import MisuseError
from secirls.algorithms import query, whole_fit
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import Normalisation, NormalisedQuery
from secirls.algorithms.query import Query, QueryError, Total
from secirls.algorithms.regression import catch as catch_room
from secirls.algorithms.regression import quasi_newton
from secirls.algorithms.regression.catch import LikelihoodQuery
from secirls.algorithms.regression.irls_queries import IrlsQuery, LeastSquaresQuery
from secirls.algorithms.regression.quasi_newton import QuasiNewtonQuery
from secirls.algorithms.summands import largest_alone, largest_honest, largest_summand, lost
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design
from secirls.inputs.formulas.levels import Variable
from secirls.inputs.simulate import rows, simulate
from secirls.numerics.status import Reason, Status

GENES, PARAMS, HIT = 24, 2, 7
BITS = [64, 32, 16, 8]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("parties", [1, 2, 3, 6, 50, 1000])
def test_a_sign_is_told_from_any_honest_sum(parties, bits):
    query = LikelihoodQuery(np.ones(1, bool), np.zeros((1, 1, 1)), 0.5, bits)
    honest = largest_honest(parties, bits)

    def sent(value):
        return query.signed({"nll": np.array([[value]])}, parties)["nll"]

    assert np.array_equal(sent(honest), [[honest]])
    assert not lost(sent(honest) * parties, parties, bits).any()
    assert lost(sent(np.inf) + (parties - 1) * sent(-honest), parties, bits).all()
    assert lost(sent(np.nextafter(honest, np.inf)) + (parties - 1) * sent(-honest), parties, bits).all()
    query.layout(parties).check_headroom(parties)
    signs = query.layout(parties).decode(parties * query.layout(parties).encode({"nll": sent(np.nan)}), parties)
    assert lost(signs["nll"], parties, bits).all()


MEASURES = st.sampled_from([0.0, 1.0, -3.5, 2.0**55, 2.0**59, -(2.0**61), 1e300, np.inf, -np.inf, np.nan])


def questions():
    """A question of each way to be signed, over three genes and two columns."""
    all_genes = np.ones(3, bool)
    yield CensusQuery(all_genes, 2)
    yield LeastSquaresQuery(all_genes, 2)
    yield NormalisedQuery(all_genes, np.zeros(3), all_genes, 2)
    yield IrlsQuery(all_genes, np.zeros((3, 2)), 0.5)
    yield QuasiNewtonQuery(all_genes, np.zeros((3, 4, 2)), 0.5)
    yield Unsigned(all_genes)


class Unsigned(Query):
    """A question that names no array for the sign, as one that was added in haste."""

    def shapes(self):
        return {"total": (2, 2), "by_gene": (self.n_genes,)}

    def summands(self, samples, parties):
        raise NotImplementedError

    def to_bytes(self):
        return b"unsigned"


Unsigned.kind = "unsigned"


@given(st.sampled_from(list(questions())), st.data())
def test_whatever_a_site_holds_it_sends_something_and_only_what_is_wrong_is_lost(asked, data):
    values = {name: data.draw(arrays(np.float64, shape, elements=MEASURES)) for name, shape in asked.shapes().items()}
    sent = asked.signed(values, 4)
    vector = asked.layout(4).encode(values)
    total = Total(asked.layout(4).decode(vector, 4), ("a",), ("a", "b", "c", "d"))
    gone = asked.lost(total)
    right = {name: np.abs(array) <= largest_summand(4) for name, array in values.items()}
    assert all(np.array_equal(array, total[name]) for name, array in sent.items())
    assert all(np.array_equal(a, b) for a, b in zip(asked.signed(sent, 4).values(), sent.values(), strict=True))
    if not asked.sign:
        assert gone.all() == any((~(np.abs(array) <= largest_alone(4))).any() for array in values.values())
        return
    for name in (asked.sign, *asked.not_by_gene):
        right[name] = np.abs(values[name]) <= largest_honest(4)
    assert gone.shape == asked.shapes()[asked.sign]
    if not all(right[name].all() for name in asked.not_by_gene):
        assert gone.all()
        return
    by_gene = set(values) - asked.not_by_gene
    fine = np.logical_and.reduce([right[name].reshape(*gone.shape, -1).all(axis=-1) for name in by_gene])
    assert np.array_equal(gone, ~fine)
    for name in by_gene:
        assert np.array_equal(sent[name][fine], values[name][fine])


def test_without_the_sign_a_value_that_cannot_be_sent_is_said_in_clear(monkeypatch):
    asked = next(questions())
    values = {name: np.ones(shape) for name, shape in asked.shapes().items()}
    values["xtx"][0, 0] = np.inf
    asked.layout(4).encode(values)
    monkeypatch.setattr(Query, "signed", lambda _, arrays, __: arrays)
    with pytest.raises(MisuseError, match="can't be encoded"):
        asked.layout(4).encode(values)


# --- a gene lost at a stage is a status, and the others do not notice --------------------------------------------


def sites(size_factors=None):
    """Four sites with both groups at each, and replaced counts."""
    samples, parts = simulate(genes=GENES, samples=32, seed=3).samples, []
    order = np.argsort(samples.design[:, 1], kind="stable").reshape(8, 4)
    for part in (rows(samples, order[:, site]) for site in range(4)):
        counts = np.maximum(part.counts, 1)  # so that all genes make the size factors
        parts.append(replace(part, counts=counts, size_factors=size_factors, dispersions=None, replacement=counts // 2))
    return parts


def fitted(drive, parts, *, lose=(), after=0, **options):
    """A whole fit, and what was asked; the third site loses a gene in the questions of some kinds.

    ``after`` so many questions, and ``max_iter`` 2 unless told otherwise: so IRLS leaves work to the catch.
    """

    class Losing(drive):
        def summands(self, site, asked):
            out = super().summands(site, asked)
            if site == 2 and asked.kind in lose and asked.genes[HIT] and len(self.queries) > after:
                out = {name: array.copy() for name, array in out.items()}
                out[asked.sign][int(asked.genes[:HIT].sum())] = np.inf
            return out

    config = Config(design="~ condition", preset="irls", **{"max_iter": 2} | options)
    again = np.zeros(GENES, bool)
    again[[HIT, 9]] = True
    run = Losing(*parts)
    design = Design.agree(config.design, {}, {"a": {"condition": Variable(numeric=False, levels=("x", "y"))}})
    return run(whole_fit.fit(config, design, GENES, again)), run.queries


@pytest.fixture(scope="module")
def undisturbed(drive):
    """The fit in which no site loses a gene, and what was asked."""
    return fitted(drive, sites())


FIELDS = ("status", "reason", "beta", "nll", "xtwx", "iterations")
IN_IRLS = ("irls", "quasi_newton")
"""What IRLS loses, the catch tries again."""


def others_alike(one, two):
    others = np.arange(GENES) != HIT
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one.state, name)[others], getattr(two.state, name)[others], name)
    np.testing.assert_array_equal(one.base_means[others], two.base_means[others])
    if one.dispersions is not None:
        np.testing.assert_array_equal(one.dispersions[others], two.dispersions[others])


def is_lost(found):
    return found.state.status[HIT] == Status.FAILED and found.state.reason[HIT] == Reason.LOST


@pytest.mark.parametrize(
    "kinds",
    [
        ("normalised",),
        IN_IRLS,
        *(pytest.param(kinds, marks=pytest.mark.slow) for kinds in (("residuals",), ("least_squares",), IN_IRLS[1:])),
    ],
)
def test_a_gene_lost_at_one_stage_fails_with_the_reason_and_the_others_do_not_notice(drive, undisturbed, kinds):
    honest, queries = undisturbed
    assert any(asked.kind in kinds and asked.genes[HIT] for asked in queries)
    assert honest.state.fitted[HIT]
    found, _ = fitted(drive, sites(), lose=kinds)
    assert is_lost(found)
    assert found.state.fitted.sum() == GENES - 1
    others_alike(found, honest)


@pytest.mark.parametrize("kind", ["census", pytest.param("log_counts", marks=pytest.mark.slow)])
def test_a_gene_lost_before_size_factors_is_as_one_that_makes_none(drive, kind):
    lacking = sites()
    lacking[0].counts[0, HIT] = 0  # a gene with a zero has no part in size factors
    honest, _ = fitted(drive, lacking)
    found, _ = fitted(drive, sites(), lose=(kind,))
    assert is_lost(found)
    assert np.isnan(found.contributors[HIT]) == (kind == "census")
    others_alike(found, honest)


def test_what_irls_alone_loses_the_catch_settles(drive):
    found, _ = fitted(drive, sites(), lose=("irls",))
    assert found.state.status[HIT] == Status.CAUGHT


def test_a_gene_lost_while_looking_around_stays_where_it_is(drive, undisturbed):
    honest, queries = undisturbed
    assert any(asked.kind == "likelihood" and asked.genes[HIT] for asked in queries)
    found, _ = fitted(drive, sites(), lose=("likelihood",))
    assert found.state.status[HIT] == Status.CAUGHT
    others_alike(found, honest)


@pytest.mark.parametrize("kinds", [("presence",), pytest.param(("least_squares",), marks=pytest.mark.slow), IN_IRLS])
def test_a_gene_lost_in_the_refit_fails_there_and_the_others_do_not_notice(drive, undisturbed, kinds):
    honest, queries = undisturbed
    after = next(i for i, asked in enumerate(queries) if asked.kind == "replace_counts")
    found, _ = fitted(drive, sites(), lose=kinds, after=after)
    assert is_lost(found)
    others_alike(found, honest)


def test_without_standard_errors_a_gene_that_is_lost_at_the_last_question_keeps_its_fit(drive):
    honest, queries = fitted(drive, sites(), se="unclamped")
    found, _ = fitted(drive, sites(), lose=("irls",), after=len(queries) - 1, se="unclamped")
    np.testing.assert_array_equal(found.state.beta, honest.state.beta)
    assert np.isnan(found.information[HIT]).all()
    np.testing.assert_array_equal(np.delete(found.information, HIT, 0), np.delete(honest.information, HIT, 0))


def test_a_gene_that_was_never_begun_is_not_refitted(drive):
    _, queries = fitted(drive, sites(), lose=("residuals",))
    begun = next(i for i, asked in enumerate(queries) if asked.kind == "replace_counts")
    assert not any(asked.genes[HIT] for asked in queries[begun:])


def hostile(drive, count, s):
    """One sample with a tiny size factor, in which one gene has this count."""
    parts = sites(np.ones(8))
    factors = np.ones(8)
    factors[0] = s
    parts[1] = replace(parts[1], size_factors=factors)
    for part in parts:
        np.minimum(part.counts, 5, out=part.counts)
    parts[1].counts[0, HIT] = count
    return fitted(drive, parts, size_factors="s")


def test_hostile_size_factors_lose_the_genes_they_blow_up_and_no_others(drive):
    """A large count over a tiny size factor can't be added, small ones can."""
    (tame, before), (found, after) = hostile(drive, 3, 1e-8), hostile(drive, 2 * 10**9, 1e-8)
    assert is_lost(found)
    assert not is_lost(tame)
    others_alike(found, tame)
    later = [asked.kind for asked in after if asked.genes[HIT]]
    assert later[-1] == "normalised"
    assert len([asked for asked in before if asked.genes[HIT]]) > len(later)


def test_squares_are_in_units_of_the_mean_so_that_only_a_sum_that_is_too_large_is_lost(drive):
    """Its square alone, 4e30, could not be added."""
    found, _ = hostile(drive, 2 * 10**9, 1e-6)
    assert not is_lost(found)


@pytest.mark.parametrize(
    "s", [1e-320, 1e-300, 1e-30, pytest.param(1e30, marks=pytest.mark.slow), 1e300, np.inf, np.nan, 0.0, -1.0]
)
def test_size_factors_that_fit_nothing_end_the_genes_not_the_fit(drive, s):
    parts = sites(np.ones(8))
    parts[1] = replace(parts[1], size_factors=np.full(8, s))
    found, _ = fitted(drive, parts, size_factors="s")
    assert not np.isin(found.state.status, (Status.ACTIVE, Status.DIVERGED)).any()
    if not 1 < s < np.inf:
        assert (found.state.status == Status.FAILED).all()
        assert (found.state.reason == Reason.LOST).all()
        assert found.state.reasons()[HIT].startswith("A site's sums for this gene were not finite or too large")


def test_means_too_small_to_be_told_from_zero_fail_too(drive):
    found, _ = fitted(drive, [replace(part, size_factors=np.full(8, 1e300)) for part in sites()], size_factors="s")
    assert (found.state.status == Status.FAILED).all()
    assert (found.state.reason == Reason.LOST).all()


def test_a_design_that_cannot_be_added_is_said_where_the_sum_is_known(drive):
    class Huge(drive):
        def summands(self, site, asked):
            out = super().summands(site, asked)
            return {**out, "xtx": out["xtx"] * 1e60} if asked.kind == "census" else out

    with pytest.raises(InputError, match="columns of the design"):
        fitted(Huge, sites())


def test_what_was_lost_is_known_by_its_mean():
    means = np.array([1.0, np.nan, 0.0])
    assert Normalisation(means, np.zeros((3, 1)), 1.0).lost.tolist() == [False, True, False]


# --- questions are small, whatever the fit ---------------------------------------------------------------------


def test_portions_cover_the_genes_once_and_keep_to_the_bounds(monkeypatch):
    monkeypatch.setattr(query, "LARGEST_ANSWER", 100)
    monkeypatch.setattr(query, "LARGEST_CANDIDATES", 30)
    genes = np.arange(50) % 3 > 0
    for candidates, values in ((1, 1), (1, 7), (6, 1), (6, 3), (40, 1), (1, 101)):
        parts = list(query.portions(genes, candidates, values))
        assert np.array_equal(np.sum(parts, axis=0), genes.astype(int))
        for part in parts:
            assert part.sum() == 1 or (part.sum() * candidates <= 30 and part.sum() * candidates * values <= 100)
    assert not list(query.portions(np.zeros(5, bool), 1, 1))


def test_a_fit_in_portions_has_the_same_bits(drive, monkeypatch):
    at_once, queries = fitted(drive, sites())
    monkeypatch.setattr(query, "LARGEST_ANSWER", 21 * 6)
    for room in (query, quasi_newton, catch_room):
        monkeypatch.setattr(room, "LARGEST_CANDIDATES", 63)
    in_turns, more = fitted(drive, sites())
    assert len(more) > len(queries)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(in_turns.state, name), getattr(at_once.state, name), name)
    for state in (at_once.state, in_turns.state):
        assert (state.evaluated < len(state.cohorts)).all()


def test_the_algorithms_ask_no_more_than_a_site_answers(drive, monkeypatch):
    for room in (query, quasi_newton, catch_room):
        monkeypatch.setattr(room, "LARGEST_CANDIDATES", 63)
    _, queries = fitted(drive, sites())  # the drive checks every question as a site does
    asked = [asked.candidates.shape for asked in queries if asked.kind in {"quasi_newton", "likelihood"}]
    assert max(genes * tried for genes, tried, _ in asked) in range(42, 64)
    monkeypatch.setattr(quasi_newton, "portions", lambda genes, *_: iter([genes]))
    with pytest.raises(QueryError, match="more than 63 candidates"):
        fitted(drive, sites())
