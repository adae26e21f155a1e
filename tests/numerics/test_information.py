"""X'WX from size factors alone: what it is over samples, to a rounding, or told apart; and never of other sites."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from secirls.algorithms.dispersion.dispersion_start import Means
from secirls.algorithms.dispersion.profile import ProfileQuery, fetch_profiles
from secirls.algorithms.query import Total
from secirls.algorithms.regression.irls import IrlsConfig, State, one_round
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.algorithms.regression.known_information import KnownInformation
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.information import Information, follows_from_cells
from secirls.numerics.regression.stieltjes import Transforms, places, spread, transforms
from secirls.numerics.status import Status

ROWS = np.array([[1.0, 0, 0], [1.0, 1, 0], [1.0, 0, 1], [1.0, 1, 1]])
PRODUCTS = Products.among(ROWS)


def information(size_factors, cell, parties=("a",), rows=ROWS):
    sums = transforms(size_factors, cell, len(rows)), spread(size_factors, cell, len(rows))
    return Information(rows, Products.among(rows).of(rows), Transforms.of(*sums), parties)


def exactly(size_factors, cell, b, alpha, *, linear, min_mu):
    """Distinct products of one gene's X'WX in forty digits."""
    mp.dps = 40
    out = [mpf(0)] * PRODUCTS.size
    for s, c in zip(size_factors, cell, strict=True):
        eta = sum(mpf(float(x)) * mpf(float(k)) for x, k in zip(ROWS[c], b, strict=True))
        mu = max(mpf(float(s)) * (eta if linear else mp.exp(eta)), mpf(min_mu))
        for e, product in enumerate(PRODUCTS.of(ROWS[c][None])[0]):
            out[e] += mu / (1 + mpf(float(alpha)) * mu) * int(product)
    return np.array([float(x) for x in out])


@st.composite
def genes(draw):
    """Size factors and cells of a few samples, one gene's coefficients, a few dispersions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    s = np.exp(draw(st.floats(0, 1.5)) * rng.normal(size=n))
    b = np.array([draw(st.floats(-4, 13)), *rng.normal(size=2)])
    alphas = 10 ** rng.uniform(-8, 4, size=3)
    return s, rng.integers(0, 4, n), b, alphas, draw(st.booleans()), draw(st.sampled_from([0.5, 0.0]))


@pytest.mark.hypothesis
@settings(max_examples=200)
@given(genes())
def test_what_is_known_is_the_sum_over_samples(case):
    s, cell, b, alphas, linear, min_mu = case
    if linear and min_mu == 0:
        b = np.abs(b)
    out, known = information(s, cell).at(b[None], alphas, np.array([3]), linear=linear, min_mu=min_mu)
    eta = ROWS @ b
    means = s * (eta if linear else np.exp(eta))[cell]
    for c in range(4):
        here = means[cell == c]
        if here.size and (here > 0.5).any() and (here < 0.5).any() and min_mu:
            assert not known[0]
    if not known[0]:
        assert not out.any()
        return
    for j, alpha in enumerate(alphas):
        exact = exactly(s, cell, b, alpha, linear=linear, min_mu=min_mu)
        assert np.abs(out[j] - exact).max() <= 1e-14 * np.abs(exact).max()


def typical(n=60, seed=1):
    rng = np.random.default_rng(seed)
    s = np.exp(0.4 * rng.normal(size=n))
    b = np.column_stack([rng.uniform(1.5, 9, 50), 0.5 * rng.normal(size=(50, 2))])
    return s, np.arange(n) % 4, b, 10 ** rng.uniform(-8, 3, 50)


def test_most_genes_are_known_and_a_shorter_series_would_show():
    s, cell, b, alphas = typical()
    known_of = information(s, cell)
    out, known = known_of.at(b, alphas, np.ones(50, dtype=np.intp), linear=False, min_mu=0.5)
    assert known.sum() >= 40
    exact = np.array(
        [exactly(s, cell, *gene, linear=False, min_mu=0.5) for gene in zip(b[known], alphas[known], strict=True)]
    )
    assert np.abs(out[known] / exact - 1).max() < 1e-14
    series = known_of.transforms.series.copy()
    series[:, :, 9:] = 0.0
    shorter = replace(known_of, transforms=replace(known_of.transforms, series=series))
    twin, _ = shorter.at(b, alphas, np.ones(50, dtype=np.intp), linear=False, min_mu=0.5)
    assert np.abs(twin[known] / exact - 1).max() > 1e-12


def test_a_gene_is_known_by_itself():
    s, cell, b, alphas = typical()
    known_of, counts = information(s, cell), np.ones(50, dtype=np.intp)
    out, known = known_of.at(b, alphas, counts, linear=False, min_mu=0.5)
    for gene in range(50):
        alone = known_of.at(b[[gene]], alphas[[gene]], counts[:1], linear=False, min_mu=0.5)
        assert alone[0].tobytes() == out[[gene]].tobytes()
        assert alone[1][0] == known[gene]


def test_size_factors_lie_where_the_spread_says():
    rng = np.random.default_rng(2)
    s, cell = np.exp(2.5 * rng.normal(size=200)), rng.integers(0, 4, 200)
    held = information(s, cell).transforms
    for c in range(4):
        assert held.least[c] <= s[cell == c].min() <= s[cell == c].max() <= held.most[c]
        assert held.samples[c] == (cell == c).sum()
        assert held.most[c] == np.inf or held.most[c] < 1.5 * s[cell == c].max()


def test_nothing_is_known_of_a_dispersion_or_a_mean_that_is_not():
    s, cell, b, _ = typical()
    one = np.ones(1, dtype=np.intp)
    for coefficients, alpha in ((b[:1], np.nan), (b[:1] * np.nan, 0.1), (b[:1] + 60, 0.1), (b[:1], 0.0)):
        out, known = information(s, cell).at(coefficients, np.array([alpha]), one, linear=False, min_mu=0.5)
        assert not known.any()
        assert not out.any()


@pytest.mark.parametrize(
    ("rows", "follow"),
    [
        (ROWS, True),
        (np.array([[1.0, 0], [1.0, 1]]), True),
        (np.array([[1.0, a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]), False),
    ],
)
def test_cells_follow_from_products_or_do_not(rows, follow):
    """With three factors eight cells have seven products, and two sets of weights share one X'WX."""
    products = Products.among(rows)
    assert follows_from_cells(rows, products) is follow
    if not follow:
        odd = np.array([(-1.0) ** row[1:].sum() for row in rows])
        assert np.abs(odd @ products.of(rows)).max() == 0.0


# A site falls silent between the question about cells and those after it.


def three_sites(genes=40):
    rng = np.random.default_rng(3)
    design = np.tile(ROWS, (4, 1))
    made = {}
    for number, name in enumerate(("a", "b", "c")):
        s = np.exp(0.2 * rng.normal(size=16) + 0.2 * number)
        mean = s[:, None] * np.linspace(20, 400, genes)
        counts = rng.poisson(mean * rng.gamma(10, 0.1, mean.shape)).astype(np.int32)
        made[name] = Samples(design, counts, s, np.full(genes, 0.1))
    return made


def total_of(query, sites, names):
    parts = [query.summands(sites[name].take(query.genes), 3) for name in names]
    signed = [query.signed(part, 3) for part in parts]
    return Total({key: sum(part[key] for part in signed) for key in query.shapes()}, tuple(names), tuple("abc"))


def answered(algorithm, sites, names):
    """What an algorithm gives, and what it asked."""
    asked, total = [], None
    while True:
        try:
            asked.append(next(algorithm) if total is None else algorithm.send(total))
        except StopIteration as end:
            return end.value, asked
        total = total_of(asked[-1], sites, names)


def known_of(sites):
    s = np.concatenate([site.size_factors for site in sites.values()])
    return information(s, np.tile(np.arange(4), 12), ("a", "b", "c"))


def a_round(sites, names, known):
    genes = 40
    start = np.column_stack([np.log(np.linspace(20, 400, genes)), np.full((genes, 2), 0.05)])
    config = IrlsConfig(products=PRODUCTS)
    config = replace(config, known=None if known is None else KnownInformation(known, np.full(genes, 0.1)))
    state = State.begin(np.full(genes, Status.ACTIVE, dtype=np.int8), start)
    return answered(one_round(state, config), sites, names)


def a_profile(sites, known):
    genes = 40
    means = np.linspace(20, 400, genes)
    nodes = nodes_for(means, means + 0.1 * means**2, 48.0, 48.0)
    beta = np.column_stack([np.log(means), np.full((genes, 2), 0.05)])
    about = Means(beta, linear=False, lost=np.zeros(genes, dtype=np.int8))
    return lambda names: answered(
        fetch_profiles(np.ones(genes, dtype=bool), about, nodes, PRODUCTS, information=known), sites, names
    )


def test_a_round_does_not_ask_for_what_is_known():
    sites = three_sites()
    state, asked = a_round(sites, "abc", known_of(sites))
    whole, (before,) = a_round(sites, "abc", None)
    assert [query.values for query in asked] == [40 * 4]
    assert before.values == 40 * (4 + PRODUCTS.size)
    assert np.abs(state.beta / whole.beta - 1).max() < 1e-11
    assert np.abs(state.xtwx / whole.xtwx - 1).max() < 1e-14


def test_a_profile_does_not_ask_for_what_is_known():
    sites = three_sites()
    found, asked = a_profile(sites, known_of(sites))("abc")
    whole, before = a_profile(sites, None)("abc")
    assert sum(query.values for query in asked) < 0.3 * sum(query.values for query in before)
    for mine, other in zip(found.profiles.lots, whole.profiles.lots, strict=True):
        assert np.abs(mine - other).max() < 1e-11


def test_xwx_alone_shows_the_same_function():
    """So nothing is told that X'WX of as many genes does not tell: each shows S(u) of every cell at another u."""
    sites, u = three_sites(genes=60), places()[300:360]
    sites = {name: replace(site, dispersions=np.full(60, 1e-3)) for name, site in sites.items()}
    beta = np.column_stack([np.log(u / 1e-3), np.zeros((60, 2))])
    total = total_of(IrlsQuery(np.ones(60, dtype=bool), beta, 0.0), sites, "abc")
    by_product = PRODUCTS.chosen(total["xtwx"])
    shown = np.linalg.solve(PRODUCTS.of(ROWS).T, by_product.T) / (u / 1e-3) * (1 + u)
    cell = np.tile(np.arange(4), 12)
    told = transforms(np.concatenate([site.size_factors for site in sites.values()]), cell, 4)
    assert np.abs(shown / told[:, 300:360] - 1).max() < 1e-12


@pytest.mark.parametrize(("samples", "least", "most"), [(8, 20, 20), (11, 4, 16), (14, 0, 0)])
def test_size_factors_of_few_samples_follow_one_by_one_and_of_more_do_not(samples, least, most):
    """To a percent, from values whose errors are roundings: by the smallest singular value of their derivatives."""
    rng, u, told = np.random.default_rng(0), places()[:, None], 0
    for _ in range(20):
        s = np.exp(0.3 * rng.normal(size=samples))
        slopes = (1.0 + u) * s / (1.0 + u * s) ** 2  # in log s
        told += samples * 1e-16 / np.linalg.svd(slopes, compute_uv=False)[-1] < 0.01
    assert least <= told <= most


def test_what_is_known_of_three_sites_is_not_used_for_two(monkeypatch):
    sites = three_sites()
    known = known_of(sites)
    whole, _ = a_round(sites, "ab", None)
    state, asked = a_round(sites, "ab", known)
    assert [(type(query), bool(query.with_xtwx.size)) for query in asked] == [(IrlsQuery, True), (IrlsQuery, False)]
    assert state.beta.tobytes() == whole.beta.tobytes()
    found, asked = a_profile(sites, known)("ab")
    profile, before = a_profile(sites, None)("ab")
    assert [type(query) for query in asked] == [ProfileQuery] * 2
    assert asked[1].to_bytes() == before[0].to_bytes()
    assert found.profiles.lots[0].tobytes() == profile.profiles.lots[0].tobytes()
    # The twin takes it whoever is in the sums.
    monkeypatch.setattr(Information, "over", lambda *_: True)
    wrong, _ = a_round(sites, "ab", known)
    assert np.abs(wrong.xtwx / whole.xtwx - 1).min() > 0.3


def test_a_lost_gene_is_lost_where_its_information_is_known():
    sites = three_sites()
    sites["b"] = replace(sites["b"], dispersions=np.where(np.arange(40) == 7, np.nan, 0.1))
    state, _ = a_round(sites, "abc", known_of(sites))
    assert list(np.flatnonzero(state.status != Status.ACTIVE)) == [7]
    assert np.isnan(state.xtwx[7]).all()


def test_places_are_the_same_for_everybody():
    assert places().shape == (896,)
    assert (np.diff(places().reshape(56, 16)[:, ::-1], axis=1) > 0).all()
