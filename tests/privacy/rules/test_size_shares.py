"""A size factor that makes one sample outweigh all others gives its counts away in an honest fit: its site refuses.

Whoever orders a fit names the obs column of size factors, or the genes that they are estimated from; counts are summed
over them. Where one is a thousandth of the others, the sums over all samples are that sample's counts and some noise.
Each site holds its own factors against what the census tells of all. The twin doesn't.
"""

import numpy as np
import pytest

from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.guarding.shares import size_shares

OWNER, AT = "site3", 2
TINY = 1e-6


@pytest.fixture
def sized(lay):
    """``sized(factors)``: three sites of ten samples, with ``factors(name, samples)`` in an obs column."""

    def made(factors):
        grounds = lay(names=("site1", "site2", "site3"), samples=30, genes=40)
        for name in grounds.names:
            grounds.edit(name, lambda adata, name=name: adata.obs.__setitem__("size", factors(name, adata.n_obs)))
        return grounds

    return made


def honest(name, samples):
    return np.geomspace(0.3, 3.0, samples)


def one_sample_is_tiny(name, samples):
    factors = honest(name, samples)
    factors[AT] *= TINY if name == OWNER else 1.0
    return factors


def one_site_is_tiny(name, samples):
    return honest(name, samples) * (TINY if name == OWNER else 1.0)


def test_without_the_rule_one_samples_counts_are_opened_by_an_honest_fit(sized, lead, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_sizes", lambda *_: None)
    sums, sites = lead.normalised(sized(one_sample_is_tiny), size_factors="size")
    own = sites[OWNER]._samples
    found = sums["all"] * own.size_factors[AT]
    assert (np.rint(found) == own.counts[AT]).mean() > 0.9


def test_a_sample_that_outweighs_all_others_is_refused_by_its_site(sized, lead):
    with pytest.raises(RefusalError) as refused:
        lead.normalised(sized(one_sample_is_tiny), size_factors="size")
    assert str(refused.value) == (
        "site 'site3': its policy refuses: max_size_factor_share is 0.9 (the smallest size factor)"
    )


def test_a_site_that_outweighs_all_others_refuses(sized, lead):
    with pytest.raises(RefusalError, match=r"'site3'.*max_design_share is 0\.99 \(size factors smaller than elsewhere"):
        lead.normalised(sized(one_site_is_tiny), size_factors="size")


def test_honest_factors_are_summed_over(sized, lead):
    sums, _ = lead.normalised(sized(honest), size_factors="size")
    assert np.isfinite(sums["all"]).all()


@pytest.mark.parametrize("estimate", ["ratio", "poscounts"])
def test_estimated_ones_are_held_to_it_too(sized, lead, estimate):
    """One control gene, of which one sample has next to nothing."""
    grounds = sized(honest)

    def change(adata):
        counts = np.asarray(adata.X).copy()
        counts[:, 1] = 3000
        counts[AT, 1] = 1
        adata.X = counts

    grounds.edit(OWNER, change)
    with pytest.raises(RefusalError, match=r"'site3'.*max_size_factor_share"):
        lead.normalised(grounds, size_factor_type=estimate, control_genes=("gene00001",))


# The bound.


def test_no_share_is_larger_than_the_bound_and_equal_others_reach_it():
    generator = np.random.default_rng(1)
    for spread in (0.0, 0.5, 2.0):
        mine, others = generator.lognormal(0.3, 1.0, 7), generator.lognormal(-1.0, spread, 40)
        weights = 1.0 / np.concatenate([mine, others]) ** 2
        log_sum = float(np.log(mine).sum() + np.log(others).sum())
        whole, sample, _ = size_shares(mine, log_sum, 47, np.zeros((7, 0)), np.zeros((0, 0)))
        true = weights[:7].sum() / weights.sum(), weights[:7].max() / weights.sum()
        assert whole >= true[0] * (1 - 1e-12)
        assert sample >= true[1] * (1 - 1e-12)
        if not spread:
            assert (whole, sample) == pytest.approx(true)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_it_knows_no_unit_and_no_overflow(scale):
    factors = np.array([1e-6, 1.0, 1.0]) * scale
    log_sum, ones = float(np.log(factors).sum() + 9 * np.log(scale)), np.ones((3, 1))
    assert size_shares(factors, log_sum, 12, ones, np.full((1, 1), 12.0)) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize(("mine", "share"), [(1e-200, 1.0), (1e200, 0.0)])
def test_factors_far_from_those_of_all_others_have_a_share_too(mine, share):
    """Of what overflowed there would be none, and no rule be broken."""
    told = size_shares(np.full(3, mine), 3 * float(np.log(mine)), 12, np.ones((3, 1)), np.full((1, 1), 12.0))
    assert told == pytest.approx((share, share / 3, share / 3))


def test_factors_that_divide_nothing_count_for_nothing():
    ones, every = np.ones((2, 1)), np.full((1, 1), 10.0)
    assert size_shares(np.array([np.nan, 0.0]), 0.0, 10, ones, every) == (0.0, 0.0, 0.0)
    assert size_shares(np.array([np.nan, 1.0]), 0.0, 10, ones, every) == pytest.approx((1 / 9, 1 / 9, 1 / 9))


@pytest.mark.parametrize("samples", [1, 2])
def test_where_a_census_tells_of_no_samples_elsewhere_all_is_this_sites(samples):
    ones, every = np.ones((2, 1)), np.full((1, 1), float(samples))
    assert size_shares(np.ones(2), 0.0, float(samples), ones, every) == (1.0, 1.0, 1.0)


def test_in_a_small_group_one_sample_has_more_of_the_sums():
    """Of two hundred samples five are treated; one of them, at this site, has a tenth of the others' size."""
    design = np.column_stack([np.ones(200), np.arange(200) < 5])
    factors = np.where(np.arange(200) == 0, 1 / 10, 1.0)
    here = [0, *range(20, 60)]
    told = float(np.log(factors).sum()), 200
    whole, sample, along = size_shares(factors[here], *told, design[here], design.T @ design)
    assert sample == pytest.approx(100 / 299, rel=0.05)
    assert (whole, along) == pytest.approx((100 / 104, 100 / 104), rel=0.05)
