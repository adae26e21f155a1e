"""Do payloads look uniform? Each test stands beside broken twins that it must catch.

A test that never fails proves nothing, so every question is asked of the real protocol, which must pass,
and of a twin with one classic mistake, which must not. The false alarm of each is below one in a million.
"""

import numpy as np
import pytest
from scipy import stats

from protocols import run
from protocols.masking.round_seeds import pair_mask_keys
from protocols.primitives import ring
from protocols.sessions.settings import Settings

ALARM = 1e-7
SITES = ("a", "b", "c")
VALUES = 3000
SETTINGS = Settings(threshold=3, rounds_per_batch=64)


def counts_like(seed, values=VALUES):
    """Data with as little entropy as real summands have: small numbers in fixed point."""
    vector = ring.zeros(values, 2)
    vector[:, 1] = np.random.default_rng(seed).poisson(20, values).astype(np.uint64)
    return vector


class RealTwin:
    """What site a sends, by the protocol itself."""

    def __init__(self, protocol="pairwise"):
        self.table = run.sit_down(protocol, SITES, SETTINGS)
        run.meet(self.table)

    def masked(self, vector, round_):
        context = run.context_of(self.table, vector, round_=round_)
        payload = self.table.parties["a"].protect(vector, context)
        return np.array(ring.from_bytes(payload[: 16 * len(vector)], len(vector), 2))


class ShortSeed:
    """Masks from a seed of one byte."""

    def masked(self, vector, round_):
        out = vector.copy()
        seed = int(np.random.default_rng(round_).integers(256))
        ring.add_into(out, ring.expand(bytes([seed]) * 32, len(vector), 2))
        return out


class ReusedMask:
    """One mask for all rounds."""

    def masked(self, vector, round_):
        out = vector.copy()
        ring.add_into(out, ring.expand(bytes(32), len(vector), 2))
        return out


class FloatMask:
    """Masks drawn as doubles and scaled to the ring: their low bits are zero."""

    def masked(self, vector, round_):
        out = vector.copy()
        rng = np.random.default_rng(round_)
        mask = np.stack([rng.random(len(vector)) * 2.0**64, rng.random(len(vector)) * 2.0**64], axis=1)
        ring.add_into(out, mask.astype(np.uint64))
        return out


class NoMask:
    """The vector as it is."""

    def masked(self, vector, round_):
        return vector.copy()


def looks_uniform(elements):
    """Bytes by chi-square, each byte position by itself, and whole elements by Kolmogorov-Smirnov."""
    columns = np.ascontiguousarray(elements).view(np.uint8).reshape(len(elements), -1)
    for column in columns.T:
        if stats.chisquare(np.bincount(column, minlength=256)).pvalue < ALARM / 40:
            return False
    high = elements[:, 1] / 2.0**64
    return bool(stats.kstest(high, "uniform").pvalue > ALARM / 40)


def same_distribution(left, right):
    """Two samples of bytes, by a chi-square of homogeneity."""
    table = np.array(
        [np.bincount(np.ascontiguousarray(x).view(np.uint8).ravel(), minlength=256) for x in (left, right)]
    )
    table = table[:, table.any(axis=0)]
    return table.shape[1] < 2 or stats.chi2_contingency(table).pvalue > ALARM


def never_repeats(twin):
    """First elements of 60 rounds over the same data: two alike would take 2^122 rounds by chance."""
    vector = ring.zeros(1, 2)
    first = [twin.masked(vector, round_).tobytes() for round_ in range(60)]
    return len(set(first)) == len(first)


def differences_look_uniform(twin):
    """What subtracting two payloads of one site shows."""
    left, right = (twin.masked(counts_like(round_), round_) for round_ in (61, 62))
    ring.subtract_into(left, right)
    return looks_uniform(left)


BY_MASKS = pytest.mark.parametrize("protocol", ["pairwise", "pairwise-lean"])


@BY_MASKS
def test_payloads_look_uniform(protocol):
    assert looks_uniform(RealTwin(protocol).masked(counts_like(1), 0))
    assert not looks_uniform(FloatMask().masked(counts_like(1), 0))
    assert not looks_uniform(NoMask().masked(counts_like(1), 0))


def test_additive_share_sums_look_uniform():
    table = run.sit_down("additive", SITES, SETTINGS)
    run.meet(table)
    vectors = {site: counts_like(number) for number, site in enumerate(SITES)}
    run.add_up(table, vectors)
    replies = [message.data for message in table.messages if message.leg == "reply"]
    for reply in replies:
        assert looks_uniform(np.array(ring.from_bytes(reply[:-64], VALUES, 2)))


@BY_MASKS
def test_payloads_never_repeat(protocol):
    assert never_repeats(RealTwin(protocol))
    assert not never_repeats(ShortSeed())
    assert not never_repeats(ReusedMask())


@BY_MASKS
def test_the_difference_of_two_payloads_of_one_site_looks_uniform(protocol):
    assert differences_look_uniform(RealTwin(protocol))
    assert not differences_look_uniform(ReusedMask())
    assert not differences_look_uniform(FloatMask())


@BY_MASKS
def test_inputs_with_equal_sums_cannot_be_told_apart(protocol):
    """One site holds everything, or the same is spread evenly: the payload of that site does not show it."""
    heavy, light = ring.zeros(VALUES, 2), ring.zeros(VALUES, 2)
    heavy[:, 0], light[:, 0] = 3, 1
    real = RealTwin(protocol)
    assert same_distribution(real.masked(heavy, 0), real.masked(light, 1))
    for broken in (FloatMask(), NoMask()):
        assert not same_distribution(broken.masked(heavy, 0), broken.masked(light, 1))


@pytest.mark.parametrize("self_masked", [True, False])
def test_a_late_payload_still_looks_uniform_thanks_to_the_self_mask(self_masked, monkeypatch):
    """Site a counts as dropped, its seeds of the round are opened, and then its payload arrives."""
    real_mask_into = ring.mask_into
    if not self_masked:
        # The last key a party adds is that of its own mask.
        monkeypatch.setattr(
            ring, "mask_into", lambda total, plus, minus, prg: real_mask_into(total, plus[:-1], minus, prg)
        )
    twin = RealTwin()
    opened = {peer: twin.table.parties[peer]._seeds.take(0)["a"] for peer in ("b", "c")}
    vector = counts_like(3)
    late = twin.masked(vector, 0)
    context = run.context_of(twin.table, vector, round_=0)
    real_mask_into(late, plus=[], minus=pair_mask_keys(opened, "a", context).values())
    assert looks_uniform(late) is self_masked
    assert np.array_equal(late, vector) is not self_masked


@BY_MASKS
def test_a_simulator_that_knows_only_the_sum_is_believed(protocol):
    """The aggregator's view of the payloads, made from the sum alone: uniform vectors that add up to it.

    It differs from a real view in nothing a test can see; one made without regard to the sum does.
    """
    table = run.sit_down(protocol, SITES, SETTINGS)
    run.meet(table)
    vectors = {site: counts_like(number) for number, site in enumerate(SITES)}
    total = run.add_up(table, vectors).vector
    noise = [ring.expand(bytes([number]) * 32, VALUES, 2) for number in range(2)]
    last = total.copy()
    for made in noise:
        ring.subtract_into(last, made)
    simulated = [*noise, last]
    real = [
        np.array(ring.from_bytes(message.data[: 16 * VALUES], VALUES, 2))
        for message in table.messages
        if message.leg == "payload"
    ]
    for seen in (real, simulated):
        assert all(looks_uniform(payload) for payload in seen)
        assert same_distribution(np.concatenate(seen), np.concatenate(real))
    assert np.array_equal(ring.total_of(simulated, VALUES, 2), total)
