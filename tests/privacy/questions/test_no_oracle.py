"""Whatever is asked, a site answers with a vector of the same length: its counts never decide whether it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protocols.secure_sum import MisuseError, SecureSumError
from secirls.agreement.agreement import agree
from secirls.agreement.order import Place
from secirls.algorithms.components.component_queries import (
    VstDominatedQuery,
    VstGramQuery,
    VstProductsQuery,
    VstSquaresQuery,
)
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery, ResidualsQuery
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.query import Query, query_from_bytes
from secirls.algorithms.regression.catch import LikelihoodQuery
from secirls.algorithms.regression.irls_queries import IrlsQuery, LeastSquaresQuery
from secirls.algorithms.regression.quasi_newton import QuasiNewtonQuery
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.algorithms.regression.restricted import LikelihoodAtQuery, ReducedIrlsQuery, ReducedUnclampedQuery
from secirls.algorithms.summands import largest_summand
from secirls.config import Config
from secirls.inputs.datasets import write_simulated
from secirls.inputs.simulate import simulate
from secirls.numerics.held.samples import LARGEST_COUNT, Samples
from secirls.numerics.regression.kernels import using
from secirls.site.site import Site

SITES, GENES, PARAMS = 4, 30, 2
ALL = np.ones(GENES, dtype=bool)


def answered(samples, question):
    """What a site does with the bytes of a question before it hides the answer; and the samples it keeps."""
    asked = query_from_bytes(question)
    asked.check(samples.n_genes, samples.n_params)
    kept = asked.apply(samples)
    vector = asked.layout(SITES).encode(asked.summands(kept.take(asked.genes), SITES))
    assert vector.shape == (asked.values, 2 if asked.precision == 64 else 1)
    return kept


REFERENCE, GENE = 3, 17


def bisected(samples):
    """The attack: where, in the scale of size factors that the asker chooses, this one site begins to refuse.

    Size factors are ratios to one reference gene, times a factor of the asker's. The site's own sum of y / s grows with
    it, until it is beyond the bound. Gives that sum as refusals tell it, or None where the site never refuses.
    """
    genes = np.isin(np.arange(GENES), (REFERENCE, GENE))
    bound = largest_summand(SITES)

    def refuses(log_mean):
        query = NormalisedQuery(genes, np.array([log_mean, 0.0]), np.array([True, False]), PARAMS)
        try:
            answered(samples, query.to_bytes())
        except SecureSumError:
            return True
        return False

    low, high = math.log(bound) - 20, math.log(bound) + 20
    if refuses(low) == refuses(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if refuses(middle) else (middle, high)
    return bound * math.exp(-(low + high) / 2)


@pytest.fixture
def samples():
    return simulate(GENES, 12, seed=5).samples


def test_refusals_tell_nothing_of_one_sites_counts(samples):
    assert bisected(samples) is None


def test_without_the_sign_refusals_tell_one_sites_sum_to_nine_digits(samples, monkeypatch):
    monkeypatch.setattr(Query, "signed", lambda _, arrays, __: arrays)
    y = samples.counts.astype(float)
    ratios = y / np.maximum(y[:, [REFERENCE]], 1)
    truth = max(ratios[:, REFERENCE].sum(), ratios[:, GENE].sum())
    assert bisected(samples) == pytest.approx(truth, rel=1e-9)


FAR = st.sampled_from([0.0, 1.0, -1.0, 0.5, 30.0, -30.0, 700.0, -745.0, 1e8, -1e8, 1e154, -1e300, 1e300, 1e-300])
TAKEN = st.floats(allow_nan=False, allow_infinity=False) | FAR


NO_CURVE, CURVE = np.zeros((3, 0)), np.array([[0.0, 5.0], [-1.0, -2.0], [0.0, 0.0]])
SCALES = [
    (np.array([0.1, 1.0, 0.0]), NO_CURVE, np.zeros(0), 1.0),
    (np.array([0.0, 0.0, 0.3]), NO_CURVE, np.zeros(0), 1.0),
    (np.zeros(3), CURVE, np.array([1.0, 10.0, 100.0]), 1.0),
]
"""Of transforms: by a parametric trend, by a mean, by a curve."""


@st.composite
def well_formed(draw, genes, params):
    """A question of any kind that fits the fit, with numbers no fit would send."""
    mask = draw(arrays(bool, genes))
    n = int(mask.sum())
    array = lambda *shape: draw(arrays(np.float64, shape, elements=TAKEN, fill=FAR))  # noqa: E731
    usable = draw(arrays(bool, n))
    min_mu = draw(st.sampled_from([0.0, 0.5, 1e-300, 1e9]))
    bits = draw(st.sampled_from([64, 32, 8]))
    tried = draw(st.integers(1, 3))
    scale = draw(st.sampled_from(SCALES))
    makers = [
        lambda: VstSquaresQuery(mask, *scale),
        lambda: VstDominatedQuery(mask, *scale, array(n), 0.5),
        lambda: VstGramQuery(mask, *scale, array(n, tried)),
        lambda: VstProductsQuery(mask, *scale, array(n, tried), array(tried, tried), 1, 1.0),
        lambda: CensusQuery(mask, params),
        lambda: LogCountsQuery(mask),
        lambda: NormalisedQuery(mask, np.zeros(0), np.zeros(0, bool), params),
        lambda: ResidualsQuery(mask, np.maximum(np.abs(array(n)), 5e-324), array(n, params)),
        lambda: AdoptDispersionsQuery(mask, np.clip(np.abs(array(n)), 1e-8, 1e5)),
        lambda: ReplaceCountsQuery(mask),
        lambda: LeastSquaresQuery(mask, params),
        lambda: IrlsQuery(mask, array(n, params), min_mu, bits),
        lambda: QuasiNewtonQuery(mask, array(n, tried, params), min_mu, bits),
        lambda: LikelihoodQuery(mask, array(n, tried, params), min_mu, bits),
        lambda: LikelihoodAtQuery(mask, array(n, params), min_mu, bits),
        lambda: ReducedIrlsQuery(mask, array(n, params), min_mu, bits, basis=array(params, params - 1)),
        lambda: ReducedUnclampedQuery(mask, array(n, params), bits, basis=array(params, params - 1)),
    ]
    if usable.any():
        makers.append(lambda: NormalisedQuery(mask, array(n), usable, params))
    return draw(st.sampled_from(makers))()


COUNTS = st.sampled_from([0, 1, 2, 100, 10**6, LARGEST_COUNT])
FACTORS = st.sampled_from([1.0, 0.3, 1e-12, 1e12, 1e-300, 1e300, 5e-324, 0.0, -1.0, np.inf, np.nan])


@settings(max_examples=3 * settings.default.max_examples)
@given(st.data(), st.sampled_from(["numpy", "fused"]))
def test_a_well_formed_question_is_answered_whatever_a_site_holds(data, kernel):
    genes, size = 3, 4
    samples = Samples(
        data.draw(arrays(np.float64, (size, PARAMS), elements=TAKEN)),
        data.draw(arrays(np.int32, (size, genes), elements=COUNTS)),
        data.draw(arrays(np.float64, size, elements=FACTORS)),
        data.draw(arrays(np.float64, genes, elements=st.sampled_from([0.1, 1e-8, 1e300, 5e-324]))),
    )
    samples = replace(samples, replacement=samples.counts[::-1])
    with using(kernel):
        for _ in range(data.draw(st.integers(1, 4))):
            samples = answered(samples, data.draw(well_formed(genes, PARAMS)).to_bytes())


@pytest.fixture
def site(tmp_path):
    """One of four sites that have met."""
    files = write_simulated(tmp_path, sites=SITES, samples=24, genes=GENES, seed=3)
    config = Config(design="~ condition", kernel="numpy", trust_aggregator=True)
    sites = {name: Site(Place(name, str(path)), config, own_process=False) for name, path in files.items()}
    agreement, _ = agree([site.survey() for site in sites.values()], config, {})
    for site in sites.values():
        site.join(agreement)
    hellos = {name: site.hello(0).message for name, site in sites.items()}
    for site in sites.values():
        site.meet(hellos, 0)
    return sites["site1"]


BEYOND = [
    NormalisedQuery(ALL, np.full(GENES, 800.0), ALL, PARAMS),
    ResidualsQuery(ALL, np.full(GENES, 1e300), np.full((GENES, PARAMS), -1e300)),
    NormalisedQuery(ALL, np.full(GENES, -800.0), ALL, PARAMS),
    LeastSquaresQuery(ALL, PARAMS),
    NormalisedQuery(ALL, np.full(GENES, 50.0), ALL, PARAMS),
    ResidualsQuery(ALL, np.full(GENES, 5e-324), np.zeros((GENES, PARAMS))),
    AdoptDispersionsQuery(ALL, np.full(GENES, 1e-8)),
    IrlsQuery(ALL, np.full((GENES, PARAMS), 1e300), 0.5),
    IrlsQuery(ALL, np.full((GENES, PARAMS), 1e300), 0.5, 8),
    QuasiNewtonQuery(ALL, np.full((GENES, 3, PARAMS), -1e300), 0.0),
    LikelihoodQuery(ALL, np.full((GENES, 3, PARAMS), 1e9), 0.5),
    LikelihoodAtQuery(ALL, np.full((GENES, PARAMS), 1e300), 0.0),
    ReducedIrlsQuery(ALL, np.full((GENES, PARAMS), 1e300), 0.5, basis=np.full((PARAMS, PARAMS - 1), 1e300)),
    ReducedUnclampedQuery(ALL, np.full((GENES, PARAMS), -1e300), basis=np.full((PARAMS, PARAMS - 1), -1e300)),
]
"""One after the other: some leave size factors of nothing or infinity."""


def ask_all(site):
    cohort = tuple(f"site{i}" for i in range(1, SITES + 1))
    layouts = [query.layout(SITES) for query in BEYOND]
    messages = [site.contribute(query.to_bytes(), i, 0, cohort).message for i, query in enumerate(BEYOND)]
    return [len(message) - 8 * layout.limbs * layout.values for message, layout in zip(messages, layouts, strict=True)]


def test_a_site_answers_questions_beyond_sense_with_messages_of_the_usual_length(site):
    assert len(set(ask_all(site))) == 1


def test_without_the_sign_a_site_says_in_clear_what_it_cannot_send(site, monkeypatch):
    monkeypatch.setattr(Query, "signed", lambda _, arrays, __: arrays)
    with pytest.raises(MisuseError, match="'normalised' at"):
        ask_all(site)
