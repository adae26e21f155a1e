"""What check values cost, beside encoding and hashing the same vector; and what a total weighs as it travels down.

``pytest tests/benchmarks/test_verified_speed.py --benchmark-only -s``; read the ratios, not the microseconds.
"""

import pytest

from experiments.speed.sums import ENCODE, FILL, SHA256, checked
from experiments.speed.turns import in_turn, least
from protocols.verified import CHECK_VALUES

MOST = 0.3
"""Check values of long vectors, in terms of SHA-256 over the same bytes."""


@pytest.mark.parametrize("limbs", [2, 1])
@pytest.mark.parametrize("values", [21, 1_000, 120_000])
def test_check_values_of_long_vectors_cost_a_fraction_of_hashing(benchmark, values, limbs):
    candidates, weight = checked(values, limbs)
    told = least(in_turn(candidates, 50))
    up = 8 * limbs * (values + CHECK_VALUES[limbs])
    print(f"\n{values:,} values of {limbs} limbs: {weight:,} bytes down, {up:,} up")
    print(", ".join(f"{what} {1e6 * seconds:.0f} us" for what, seconds in told.items()))
    print(f"encode with check values, times encode alone: {1 + told[FILL] / told[ENCODE]:.2f}")
    if values >= 100_000:
        assert told[FILL] / told[SHA256] <= MOST
    benchmark(candidates[FILL])
