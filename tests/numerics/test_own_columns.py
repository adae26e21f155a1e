"""Columns of one site: found from public facts, taken out at home, and the fit is the joint one.

Truth is the fit of the same samples with every column shared, by the same kernels: block elimination is no
approximation, so what differs is rounding.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.designs.own_columns import OwnColumns
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import inverses, pack, packed_size, solve, unpack
from secirls.numerics.dispersion.curvature import curvature_sums
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.own_columns import Own, spans
from secirls.numerics.held.own_notes import Notes
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import Fit, leverages
from secirls.numerics.own.coefficients import BEST, best, best_sums, irls_sums, own_start
from secirls.numerics.own.elimination import eliminate, hold
from secirls.numerics.own.profile import own_curvature_sums, own_profile_sums
from secirls.numerics.regression import kernels

BOX = 30.0


def said(**levels):
    """What sites told: by site, ``factor=levels``; a number stands for a numeric variable."""
    return {
        site: {name: Variable(True) if found is None else Variable(False, tuple(found)) for name, found in told.items()}
        for site, told in levels.items()
    }


def agreed(formula, **levels):
    return Design.agree(formula, {}, said(**levels), own=True)


THREE = {site: {"site": [site], "condition": ["a", "b"]} for site in ("x", "y", "z")}


class TestWhichColumns:
    def test_every_site_ends_with_an_intercept_of_its_own(self):
        design = agreed("~ site + condition", **THREE)
        assert design.own.of == {"x": (0,), "y": (1,), "z": (2,)}
        assert design.columns == ("condition[T.b]",)
        assert design.own.adding[3] == ("x", "y", "z")

    def test_without_the_first_rule_the_intercept_stays_at_the_table(self):
        """The broken twin: a site that is not found to make up for the intercept goes on adding to it."""
        possible = agreed("~ site + condition", **THREE).possible_rows(said(**THREE))
        lonely = [c for c in range(4) if sum(rows[:, c].any() for rows in possible.values()) == 1]
        assert lonely == [1, 2]
        assert OwnColumns.find(possible).all == {0, 1, 2}

    def test_patients_nested_in_sites(self):
        told = {f"s{k}": {"patient": [f"p{3 * k + i}" for i in range(3)], "condition": ["a", "b"]} for k in range(3)}
        design = agreed("~ patient + condition", **told)
        assert design.columns == ("condition[T.b]",)
        assert design.own.of == {"s0": (0, 1, 2), "s1": (3, 4, 5), "s2": (6, 7, 8)}

    def test_a_batch_of_one_site_among_shared_ones(self):
        told = {f"s{k}": {"batch": ["b0", "b1"], "condition": ["a", "b"]} for k in range(3)}
        told["s3"] = {"batch": ["b2"], "condition": ["a", "b"]}
        design = agreed("~ batch + condition", **told)
        assert design.columns == ("Intercept", "batch[T.b1]", "condition[T.b]")
        assert design.own.of == {"s3": (2,)}
        assert design.own.adding[0] == ("s0", "s1", "s2"), "s3's own column makes up for the intercept"

    def test_a_numeric_covariate_stays_shared(self):
        told = {site: {"site": [site], "age": None, "condition": ["a", "b"]} for site in ("x", "y", "z")}
        assert agreed("~ site + age + condition", **told).columns == ("age", "condition[T.b]")

    def test_interactions_with_the_site(self):
        told = {site: {"site": [site], "sex": ["f", "m"], "condition": ["a", "b"]} for site in ("x", "y", "z")}
        design = agreed("~ site * sex + condition", **told)
        assert design.columns == ("condition[T.b]",)
        assert {site: len(columns) for site, columns in design.own.of.items()} == {"x": 2, "y": 2, "z": 2}

    def test_a_site_that_is_absorbed_adds_nothing(self):
        told = {**THREE, "w": {"site": ["w"], "condition": ["b"]}}
        assert agreed("~ site + condition", **told).own.adding[4] == ("x", "y", "z")

    def test_nothing_is_own_without_such_a_column(self):
        told = {site: {"condition": ["a", "b"]} for site in "xyz"}
        design = agreed("~ condition", **told)
        assert design.own.of == {}
        assert design.columns == ("Intercept", "condition[T.b]")

    def test_a_design_of_own_columns_alone_is_refused(self):
        from secirls.input_error import InputError

        with pytest.raises(InputError, match="every column is one site's alone"):
            agreed("~ site", **{site: {"site": [site]} for site in "xyz"})

    def test_a_contrast_of_an_own_column_is_refused_by_name(self):
        from secirls.input_error import InputError

        with pytest.raises(InputError, match="which y alone adds to and keeps"):
            agreed("~ site + condition", **THREE).contrast("site", "y", "x")
        assert agreed("~ site + condition", **THREE).contrast("condition", "b", "a").tolist() == [1.0]

    def test_the_column_named_is_the_one_that_the_contrast_asks_for(self):
        from secirls.input_error import InputError

        told = {f"s{k}": {"patient": [f"p{3 * k + i}" for i in range(3)], "condition": ["a", "b"]} for k in range(3)}
        with pytest.raises(InputError, match=r"asks for 'patient\[T.p5\]', which s1 alone"):
            agreed("~ patient + condition", **told).contrast("patient", "p5", "p0")

    def test_a_site_that_adds_to_another_ones_column_is_told(self):
        design = agreed("~ site + condition", **THREE)
        row = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])  # not what z's levels allow: no intercept
        with pytest.raises(ValueError, match="another site's own"):
            design.own.split("z", row)


def site_samples(rng, shared, own, genes=12, counts=40.0):
    """Samples with these columns of the table and of their own, both ``(samples, ...)``."""
    n = shared.shape[0]
    mu = counts * rng.lognormal(0, 1.0, (1, genes)) * rng.lognormal(0, 0.2, (n, 1))
    y = rng.negative_binomial(4.0, 4.0 / (4.0 + mu)).astype(np.int32)
    return Samples(
        np.ascontiguousarray(shared),
        y,
        size_factors=rng.lognormal(0, 0.3, n),
        dispersions=rng.uniform(0.02, 1.0, genes),
        own=Own.of(np.ascontiguousarray(own), genes, shared.shape[1], BOX),
        columns=shared.shape[1] + own.shape[1],
    )


@pytest.fixture
def one():
    """A site of twelve samples: two patients' dummies of its own, a condition and an age at the table."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.eye(3), 4, axis=0)
    shared = np.column_stack([np.tile([0.0, 1.0], 6), rng.normal(size=12)])
    return site_samples(rng, shared, patient)


class TestElimination:
    @given(own=st.integers(1, 6), shared=st.integers(1, 4), seed=st.integers(0, 99))
    @settings(max_examples=40, deadline=None)
    def test_is_the_block_inverse(self, own, shared, seed):
        rng = np.random.default_rng(seed)
        p, genes = own + shared, 3
        root = rng.normal(size=(genes, p, 2 * p))
        full, right = root @ root.swapaxes(1, 2), rng.normal(size=(genes, p))
        left = eliminate(pack(full), right, own)
        inverse = np.linalg.inv(full)
        np.testing.assert_allclose(np.linalg.inv(unpack(left.upper)), inverse[:, own:, own:], rtol=1e-7)
        whole = np.linalg.solve(full, right[:, :, None])[:, :, 0]
        beta, _ = solve(left.upper, left.right)
        np.testing.assert_allclose(beta, whole[:, own:], rtol=1e-7, atol=1e-10)
        delta = left.constant - (left.slope @ beta[:, :, None])[:, :, 0]
        np.testing.assert_allclose(delta, whole[:, :own], rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(
            np.linalg.slogdet(full)[1], np.linalg.slogdet(unpack(left.upper))[1] + left.log_det, rtol=1e-9, atol=1e-9
        )

    def test_a_gene_by_itself_has_the_same_bits(self):
        rng = np.random.default_rng(1)
        root = rng.normal(size=(50, 5, 9))
        upper, right = pack(root @ root.swapaxes(1, 2)), rng.normal(size=(50, 5))
        together, alone = eliminate(upper, right, 2), eliminate(upper[7:8], right[7:8], 2)
        assert (together.upper[7] == alone.upper[0]).all()
        assert (together.constant[7] == alone.constant[0]).all()

    def test_what_cannot_be_factored_is_nan_for_its_gene_alone(self):
        upper, right = np.tile(pack(np.eye(3)[None]), (2, 1)), np.ones((2, 3))
        upper[0, 0] = 0.0
        left = eliminate(upper, right, 1)
        assert np.isnan(left.upper[0]).all()
        assert np.isfinite(left.upper[1]).all()

    def test_held_columns_are_left_out(self):
        rng = np.random.default_rng(2)
        root = rng.normal(size=(1, 4, 9))
        full, right = root @ root.swapaxes(1, 2), rng.normal(size=(1, 4))
        left = eliminate(*hold(pack(full), right, np.array([[False, True]])), 2)
        kept = np.ix_([0], [0, 2, 3], [0, 2, 3])
        other = eliminate(pack(full[kept]), right[:, [0, 2, 3]], 1)
        np.testing.assert_allclose(left.upper, other.upper)
        np.testing.assert_allclose(left.right, other.right)

    def test_columns_span_what_is_a_combination_of_them(self):
        columns = np.repeat(np.eye(3), 4, axis=0)
        assert spans(columns, np.ones(12))
        assert not spans(columns, np.arange(12.0))
        assert not spans(columns[:, :2], np.ones(12))


class TestSteps:
    def test_a_step_is_the_joint_one(self, one):
        """From the same start, three steps of the joint IRLS and of the one with own columns taken out."""
        joint, shared, k = one.joint, one.n_params, one.own_size
        beta = np.zeros((one.n_genes, shared))
        together = np.hstack([own_start(one, beta), beta])
        for number in range(4):
            sums = irls_sums(one, beta, 0.5, np.full(one.n_genes, float(number)))
            whole = kernels.summands(joint, together, 0.5)
            np.testing.assert_allclose(sums.nll, whole.nll, rtol=1e-12)
            inverse, _ = inverses(whole.xtwx)
            np.testing.assert_allclose(
                np.linalg.inv(unpack(sums.xtwx)), inverse[:, k:, k:], rtol=1e-9, err_msg=f"step {number}"
            )
            beta, _ = solve(sums.xtwx, sums.right)
            together, _ = solve(whole.xtwx, whole.right)
            np.testing.assert_allclose(beta, together[:, k:], rtol=1e-9, atol=1e-12)

    def test_the_same_question_has_the_same_answer(self, one):
        beta, steps = np.zeros((one.n_genes, one.n_params)), np.zeros(one.n_genes)
        first = irls_sums(one, beta, 0.5, steps)
        following, _ = solve(first.xtwx, first.right)
        second = irls_sums(one, following, 0.5, steps + 1)
        again = irls_sums(one, following, 0.5, steps + 1)
        for a, b in zip(second, again, strict=True):
            assert (a == b).all()
        other = irls_sums(one, following + 0.1, 0.5, steps + 1)
        assert not np.array_equal(other.nll, second.nll), "the twin: another question has another answer"

    def test_a_step_that_does_not_follow_is_lost_and_says_nothing_else(self, one):
        beta = np.zeros((one.n_genes, one.n_params))
        irls_sums(one, beta, 0.5, np.zeros(one.n_genes))
        assert np.isnan(irls_sums(one, beta, 0.5, np.full(one.n_genes, 2.0)).nll).all()

    def test_own_coefficients_beyond_the_box_are_lost_and_the_notes_stay(self, one):
        beta = np.zeros((one.n_genes, one.n_params))
        irls_sums(one, beta, 0.5, np.zeros(one.n_genes))
        noted = one.own.notes.step.copy()
        far = irls_sums(one, beta + 1e4, 0.5, np.ones(one.n_genes))
        assert np.isnan(far.nll).any()
        assert (one.own.notes.step[np.isnan(far.nll)] == noted[np.isnan(far.nll)]).all()

    def test_notes_of_some_genes_are_the_same_notes(self):
        notes = Notes.empty(4, 1, 1)
        some = notes.take(np.array([1, 3]))
        some.keep(
            np.array([False, True]), np.array([0, 0], np.int32), np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 1, 1))
        )
        assert notes.step.tolist() == [-1, -1, -1, 0]
        assert notes.delta[3, 0] == 1.0


class TestBest:
    @pytest.mark.parametrize("min_mu", [0.0, 0.5])
    def test_has_no_slope_left(self, one, min_mu):
        beta = np.random.default_rng(0).normal(0, 0.3, (one.n_genes, one.n_params))
        delta, held = best(one, beta, min_mu)
        assert not held.any()
        for name in range(one.own_size):
            h = 1e-4
            sides = []
            for move in (h, -h):
                moved = delta.copy()
                moved[:, name] += move
                joint = kernels.summands(one.joint, np.hstack([moved, beta]), min_mu).nll
                sides.append(joint)
            here = kernels.summands(one.joint, np.hstack([delta, beta]), min_mu).nll
            assert (np.minimum(*sides) >= here - 1e-9 * np.abs(here)).all()

    def test_the_score_is_the_slope_of_what_is_left(self, one):
        """Finite differences of the likelihood at the best own coefficients."""
        beta, h = np.full((one.n_genes, one.n_params), 0.1), 1e-5
        sums = best_sums(one, beta)
        for column in range(one.n_params):
            up, down = beta.copy(), beta.copy()
            up[:, column] += h
            down[:, column] -= h
            slope = (best_sums(one, up).nll - best_sums(one, down).nll) / (2 * h)
            np.testing.assert_allclose(-sums.right[:, column], slope, rtol=1e-5, atol=1e-4)
            bend = -(best_sums(one, up).right - best_sums(one, down).right) / (2 * h)
            np.testing.assert_allclose(unpack(sums.xtwx)[:, column], bend, rtol=1e-4, atol=1e-3)

    def test_the_expected_information_is_what_is_left_of_that_with_shared_columns(self, one):
        beta = np.full((one.n_genes, one.n_params), 0.1)
        delta, _ = best(one, beta)
        joint = kernels.summands(one.joint, np.hstack([delta, beta]), 0.0, right="score")
        left = eliminate(joint.xtwx, joint.right, one.own_size)
        found = best_sums(one, beta, expected=True)
        np.testing.assert_allclose(found.xtwx, left.upper, rtol=1e-12)
        np.testing.assert_allclose(found.right, left.right, rtol=1e-9, atol=1e-9)
        assert not np.allclose(best_sums(one, beta).xtwx, left.upper, rtol=1e-3), "the twin: the observed one"

    def test_a_gene_without_counts_is_held_by_the_box_and_harms_nothing(self, one):
        counts = one.counts.copy()
        counts[:4] = 0  # the first patient has none
        empty = dataclasses.replace(one, counts=counts)
        beta = np.zeros((one.n_genes, one.n_params))
        _, held = best(empty, beta)
        assert held[:, 0].all()
        assert not held[:, 1:].any()
        sums = best_sums(empty, beta)
        assert np.isfinite(sums.xtwx).all()
        assert np.isfinite(sums.right).all()


class TestDispersionsAndLeverages:
    def nodes(self, one):
        mean = (one.counts.T / one.size_factors).mean(axis=1)
        variance = (one.counts.T / one.size_factors).var(axis=1, ddof=1)
        return nodes_for(mean, variance, float(one.n_samples), 12.0)

    def fitted(self, one):
        beta = np.zeros((one.n_genes, one.n_params))
        for number in range(8):
            sums = irls_sums(one, beta, 0.5, np.full(one.n_genes, float(number)))
            if number < 7:
                beta, _ = solve(sums.xtwx, sums.right)
        return beta, np.full(one.n_genes, 7.0), sums

    def test_determinants_are_those_of_the_joint_matrix(self, one):
        beta, steps, _ = self.fitted(one)
        nodes, k = self.nodes(one), one.own_size
        ours = own_profile_sums(one, beta, nodes, steps, linear=False, min_mu=0.5)
        together = np.hstack([one.own.notes.delta, beta])
        every = Products.full(one.n_params + k)
        whole = profile_sums(one.joint, together, nodes, every, linear=False, min_mu=0.5)
        from secirls.numerics.dispersion.interpolant import interpolate

        mine = interpolate(*ours, nodes, Products.full(one.n_params))
        theirs = interpolate(*whole, nodes, every)
        alpha = np.tile(np.array([1e-6, 1e-3, 0.1, 1.0, 8.0]), (one.n_genes, 1))
        for a, b in zip(mine.evaluate(alpha), theirs.evaluate(alpha), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=2e-7)

    def test_curvatures_are_those_of_the_joint_profile(self, one):
        from secirls.numerics.dispersion.curvature import adjusted_derivatives

        beta, steps, _ = self.fitted(one)
        alpha = np.geomspace(1e-3, 3.0, one.n_genes)
        together, every = np.hstack([one.own.notes.delta, beta]), Products.full(one.n_params + one.own_size)
        ours = own_curvature_sums(one, beta, alpha, steps, linear=False, min_mu=0.5)
        mine = adjusted_derivatives(ours, Products.full(one.n_params))
        whole = curvature_sums(one.joint, together, alpha, every, linear=False, min_mu=0.5)
        theirs = adjusted_derivatives(whole, every)
        for a, b in zip(mine[:2], theirs[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)

    def test_leverages_are_those_of_the_joint_fit(self, one):
        beta, steps, sums = self.fitted(one)
        together = np.hstack([one.own.notes.delta, beta])
        none = np.zeros(0)
        ours = leverages(one, Fit(beta, beta, sums.xtwx, 0.0, 0.5, steps, steps))
        whole = kernels.summands(one.joint, together, 0.5)
        theirs = leverages(one.joint, Fit(together, together, whole.xtwx, 0.0, 0.5, none, none))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
        np.testing.assert_allclose(ours.sum(axis=1), one.n_columns, rtol=1e-9)


def test_least_squares_of_own_columns(one):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(4, one.n_samples))
    expected = np.linalg.lstsq(one.own.design, values.T, rcond=None)[0].T
    np.testing.assert_allclose(one.own.least_squares(values), expected, rtol=1e-10, atol=1e-12)
    left = one.beside_own
    np.testing.assert_allclose(one.own.design.T @ left, 0.0, atol=1e-12)


def test_own_columns_that_depend_on_each_other_are_told():
    with pytest.raises(ValueError, match="depend on each other"):
        Own.of(np.ones((4, 2)), 3, 1, BOX)


def test_best_is_a_step_of_its_own(one):
    beta = np.zeros((one.n_genes, one.n_params))
    sums = irls_sums(one, beta, 0.5, np.full(one.n_genes, float(BEST)))
    assert sums.xtwx.shape == (one.n_genes, packed_size(one.n_params))
    assert np.isfinite(sums.xtwx).all()
    assert (one.own.notes.step == -1).all(), "nothing of it is noted"
