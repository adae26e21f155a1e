"""What one site can't send: of all others' numbers, which are in the same sum, nothing is opened either.

Numbers too large to be added up are asked for again in a larger unit. So of a power of ages, at one of whose sites
people are older, the first sum was that of all sites but one, and the second that of all.
"""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.fixed_point import _noise
from protocols.primitives import ring
from protocols.secure_sum import sha256
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.aggregator.rounds import SecureRounds
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.algorithms import query
from secirls.algorithms.components.component_queries import VstProductsQuery
from secirls.algorithms.dispersion.dispersion_newton import DispersionNewtonQuery
from secirls.algorithms.dispersion.dispersion_start import Means
from secirls.algorithms.dispersion.profile import CONSTANT_BITS, ProfileQuery
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import NormalisedQuery
from secirls.algorithms.groundwork.scaling import CovariatesQuery
from secirls.algorithms.regression.irls_queries import IrlsQuery, LeastSquaresQuery
from secirls.algorithms.regression.quasi_newton import QuasiNewtonQuery
from secirls.algorithms.summands import EXACT, largest_summand
from secirls.carriers.local import LocalFederation
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.site.grounds.ground import NOISE, Ground, open_ground

OLDER = "site3"
POWER = 7
UNIT = 1 << 64


@pytest.fixture
def aged(lay):
    """Four sites, of which one has older patients; their ages beside them."""
    grounds, rng = lay(samples=48, genes=20), np.random.default_rng(5)
    ages = {name: np.round(rng.uniform(31, 62, 12)) for name in grounds.names}
    ages[OLDER] = np.round(rng.uniform(60, 82, 12))
    for name, told in ages.items():
        grounds.edit(name, lambda adata, told=told: adata.obs.__setitem__("age", told))
    return grounds, ages


def whole(vector):
    """Opened ring elements as whole numbers."""
    bits = 64 * vector.shape[1]
    found = [sum(int(limb) << 64 * place for place, limb in enumerate(element)) for element in vector]
    return [number - (1 << bits) if number >> (bits - 1) else number for number in found]


def sums_of_ages(grounds, lead, monkeypatch, run="fit-1"):
    """The sums of powers of ages that an honest fit opens, as the ring has them, in units of the first."""
    honest, found = SecureRounds._sum, []

    def looked_at(self, asked, context):
        opened = yield from honest(self, asked, context)
        if isinstance(asked, CovariatesQuery) and not asked.centres.any():
            found.append(Fraction(whole(opened.vector[1:2])[0], UNIT) * Fraction(asked.units[0]))
        return opened

    monkeypatch.setattr(SecureRounds, "_sum", looked_at)
    config = lead.config(grounds, design=f"~ condition + I(age**{POWER})")
    sites = lead.sites(grounds, config)
    for event in lead_fit(Task(config, run), LocalFederation(sites)):
        if isinstance(event, Record) and event.told.kind == "cross_products":
            break
    return found


def own_sum(found):
    """What the first sum, less its one sign, lacks of the last."""
    return float(found[-1] - (found[0] - Fraction(largest_summand(4))))


def test_the_sum_over_all_others_is_not_opened(aged, lead, monkeypatch):
    grounds, ages = aged
    truth = (ages[OLDER] ** POWER).sum()
    assert abs(own_sum(sums_of_ages(grounds, lead, monkeypatch)) - truth) > 10 * truth


def test_the_twin_without_noise_tells_one_sites_sum_of_ages(aged, lead, monkeypatch):
    monkeypatch.setattr(query, "hide", lambda *_: None)
    grounds, ages = aged
    assert own_sum(sums_of_ages(grounds, lead, monkeypatch)) == pytest.approx((ages[OLDER] ** POWER).sum(), rel=1e-12)


# Nor is it where the same is asked in one session after another, which no budget counts: with other noise each time
# the largest and the smallest of the sums stand about the sum over all others.

SESSIONS, COLUMNS = 1 << 10, 1 << 6
"""In each of which the sum is asked for so many times over."""


def first_sums(grounds, lead, monkeypatch):
    """The first sum of ages of each of two sessions."""
    return [float(sums_of_ages(grounds, lead, monkeypatch, run)[0]) for run in ("fit-1", "fit-2")]


def by_many_sessions(grounds, ages):
    """How far off one site's sum is by all others', found between the outermost of so many; and how many differ."""
    values = [(ages[name] ** POWER).sum() for name in grounds.names]
    asked = CovariatesQuery(np.zeros(20, dtype=bool), np.zeros(COLUMNS), np.ones(COLUMNS))
    layout, config = asked.layout(len(values)), SimpleNamespace(roster=None)
    noise = open_ground(grounds.place(OLDER), config).noise
    alone = {"samples": np.full(1, 12.0), "squares": np.full(COLUMNS, 1e9)}
    own = {**alone, "values": np.full(COLUMNS, (ages[OLDER] ** POWER).sum())}
    rest = sum(values) - own["values"][0]
    sessions = [whole(layout.encode(own, secret=noise)[1 : 1 + COLUMNS]) for _ in range(SESSIONS)]
    sent = [number / UNIT for session in sessions for number in session]
    others = rest + (max(sent) + min(sent)) / 2 - largest_summand(4) * (1 - 1 / 8)
    return abs(sum(values) - others - own["values"][0]) / own["values"][0], len(set(sent))


def test_another_session_opens_the_same_once_more(aged, lead, monkeypatch):
    grounds, ages = aged
    first, second = first_sums(grounds, lead, monkeypatch)
    assert first == second
    _, differ = by_many_sessions(grounds, ages)
    assert differ == 1, "all sessions together tell what one does"


def test_the_twin_that_draws_noise_anew_tells_it_in_many_sessions(aged, lead, monkeypatch):
    monkeypatch.setattr(query, "lasting", lambda *_: None)
    grounds, ages = aged
    first, second = first_sums(grounds, lead, monkeypatch)
    assert first != second
    off, differ = by_many_sessions(grounds, ages)
    assert off < 0.2
    assert differ > SESSIONS * COLUMNS // 2


# It is found by nobody who lacks the site's key: he could try ages of one patient until what is sent fits.


def ages_that_fit(aged, lead, monkeypatch):
    """The ages that one patient may have by what is opened, for who knows all others', and no key but another site's.

    And the age that is so.
    """
    grounds, ages = aged
    found, (known, patient) = sums_of_ages(grounds, lead, monkeypatch), np.split(ages[OLDER], [-1])
    layout = CovariatesQuery(np.zeros(20, dtype=bool), np.zeros(1), np.ones(1)).layout(len(grounds.names))
    others = open_ground(grounds.place("site1"), SimpleNamespace(roster=None)).noise

    def fits(age):
        own = np.array([(np.append(known, age) ** POWER).sum()])
        rest = found[-1] - Fraction(own[0])
        return any(
            abs(found[0] - Fraction(whole(sent[1:2])[0], UNIT) - rest) < 1
            for sent in (
                layout.encode({"samples": np.array([12.0]), "values": own, "squares": np.full(1, 1e9)}, secret=secret)
                for secret in (sha256(NOISE), others)
            )
        )

    return [age for age in range(18, 100) if fits(age)], int(patient[0])


def test_no_guess_at_what_is_not_sent_is_confirmed(aged, lead, monkeypatch):
    assert ages_that_fit(aged, lead, monkeypatch)[0] == []


def test_the_twin_whose_noise_follows_from_no_key_confirms_one_patients_age(aged, lead, monkeypatch):
    monkeypatch.setattr(Ground, "noise", sha256(NOISE))
    fitting, age = ages_that_fit(aged, lead, monkeypatch)
    assert fitting == [age]


# Of each way to be signed, what a site sends in place of a gene.

PARTIES, GENES, LOST = 4, 3, 1


def profiled(bits):
    nodes = nodes_for(np.full(GENES, 5.0), np.full(GENES, 9.0), 6.0, 10.0)
    means = Means(np.ones((GENES, 2)), linear=True, lost=np.zeros(GENES, dtype=np.int8))
    return ProfileQuery.about(EVERY, means, nodes, Products.full(2), bits)


EVERY, BETA, NODES = np.ones(GENES, dtype=bool), np.zeros((GENES, 2)), np.array([0.0, 0, 1])
OF_A_GENE = [
    CensusQuery(EVERY, 2),
    LeastSquaresQuery(EVERY, 2),
    NormalisedQuery(EVERY, np.zeros(GENES), EVERY, 2),
    IrlsQuery(EVERY, BETA, 0.5),
    IrlsQuery(EVERY, BETA, 0.5, fraction_bits=32),
    IrlsQuery(EVERY, BETA, 0.5, with_xtwx=np.array([False, True, True])),
    QuasiNewtonQuery(EVERY, np.zeros((GENES, 4, 2)), 0.5),
    DispersionNewtonQuery(EVERY, BETA, np.full(GENES, 0.5), NODES, np.array([0.0, 1, 1]), 1, 0.5),
    profiled(EXACT),
    profiled(32),
    # Directions along which one sample would have most: its site sends none of them.
    VstProductsQuery(EVERY, np.ones(3), np.zeros((3, 0)), np.zeros(0), 1.0, np.eye(GENES, 2), np.eye(2), 2, 0.5),
]
of_a_gene = pytest.mark.parametrize("asked", OF_A_GENE, ids=lambda asked: f"{asked.kind}-{asked.precision}")


def of_gene(asked, lost):
    """Small numbers of a site, of which all that are a gene's are missing if it is ``lost``; and where those stand."""
    rng, values, where = np.random.default_rng(3), {}, []
    for name, shape in asked.shapes().items():
        array, mine = rng.uniform(-9, 9, shape), np.zeros(shape, dtype=bool)
        if name not in asked.not_by_gene:
            mine[rows_of(asked, name, shape[0])] = True
        values[name] = np.where(mine & lost, np.nan, array)
        where.append(mine.ravel())
    return values, np.flatnonzero(np.concatenate(where))


def rows_of(asked, name, rows):
    """Which rows of an array are the gene's."""
    sizes = {"loglik": getattr(asked, "nodes", None), "xwx": getattr(asked, "det_nodes", None)}.get(name)
    if name == "xtwx" and getattr(asked, "with_xtwx", EVERY[:0]).size:
        sizes = asked.with_xtwx
    return np.repeat(np.arange(GENES), np.ones(GENES, dtype=int) if sizes is None else sizes.astype(int)) == LOST


@of_a_gene
def test_nothing_of_the_others_is_opened_of_a_gene_that_one_site_lost(asked):
    layout, (values, where) = asked.layout(PARTIES), of_gene(asked, lost=True)
    hidden, again = (np.array(whole(layout.encode(values)), dtype=object)[where] for _ in range(2))
    width = 1 << (90 if layout.limbs == 2 else 28)
    assert all(abs(one - other) > width for one, other in zip(hidden, again, strict=True))


@of_a_gene
def test_the_twin_without_noise_opens_them(asked, monkeypatch):
    monkeypatch.setattr(query, "hide", lambda *_: None)
    layout, (values, where) = asked.layout(PARTIES), of_gene(asked, lost=True)
    hidden = np.array(whole(layout.encode(values)), dtype=object)[where]
    bounds = {0, *(int(field.bound) << field.fraction_bits for field in layout.fields)}
    assert set(hidden) <= bounds, "the sum less this is that of all others"


@of_a_gene
def test_all_make_the_same_of_it_whatever_was_drawn(asked):
    layout = asked.layout(PARTIES)
    (lost, _), (other, _) = of_gene(asked, lost=True), of_gene(asked, lost=False)
    kept, totals = layout.encode(other), []
    for _ in range(2):
        total = layout.encode(lost)
        for _ in range(PARTIES - 1):
            ring.add_into(total, kept)
        totals.append(layout.decode(total, PARTIES))
    assert all(np.array_equal(totals[0][name], totals[1][name]) for name in other)
    for name, array in asked.signed(lost, PARTIES).items():
        gone = np.isnan(lost[name])
        assert np.array_equal(totals[0][name][gone], array[gone])
        rest = totals[0][name] - PARTIES * other[name]
        assert (np.abs(rest[~gone]) <= PARTIES * 2.0**-CONSTANT_BITS).all()


@given(st.integers(1, 124))
def test_noise_has_as_many_bits_as_it_may_and_no_more(bits):
    drawn = [low + (high << 64) for low, high in _noise(np.full(64, bits), 2).tolist()]
    assert max(drawn) < 1 << bits
    assert max(drawn) >> (bits - 1) == 1, "of 64 one has the highest bit, but for one in 2^64"
