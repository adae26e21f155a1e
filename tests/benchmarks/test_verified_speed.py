"""What check values cost, beside encoding and hashing the same vector; and what a total weighs as it travels down.

``pytest tests/benchmarks/test_verified_speed.py --benchmark-only -s``; read the ratios, not the microseconds.
"""

import hashlib
import time

import numpy as np
import pytest

from protocols import fixed_point
from protocols.fixed_point import Field, Layout
from protocols.primitives import ring
from protocols.secure_sum import Context
from protocols.totals import pack_total, unpack_total
from protocols.verified import CHECK_VALUES, Checks

SITES, SEED = ("site-1", "site-2", "site-3"), bytes(range(32))
MOST = 0.3
"""Check values of long vectors, in terms of SHA-256 over the same bytes."""


def least(call, runs):
    """CPU seconds of the quickest of several runs."""
    times = []
    for _ in range(runs):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return min(times)


@pytest.mark.parametrize("limbs", [2, 1])
@pytest.mark.parametrize("values", [21, 1_000, 120_000])
def test_check_values_cost_a_fraction_of_encoding(benchmark, values, limbs):
    fixed_point.warm_up()
    room = CHECK_VALUES[limbs]
    layout = Layout((Field("numbers", (values,), 2.0**38, 64 if limbs == 2 else 20),), limbs)
    rng = np.random.default_rng(1)
    arrays = {"numbers": rng.normal(size=values) * 10.0 ** rng.integers(-3, 6, size=values)}
    where = Context(b"s" * 32, 0, 0, SITES, layout.digest, values + room, limbs)
    checks, vector = Checks(SEED, SITES[0]), layout.encode(arrays, room)
    total = ring.total_of((Checks(SEED, site).fill(vector.copy(), where) for site in SITES), values + room, limbs)
    packed, runs = pack_total(total), 50
    encode = least(lambda: layout.encode(arrays, room), runs)
    fill = least(lambda: checks.fill(vector, where), runs)
    sha256 = least(lambda: hashlib.sha256(ring.view(vector)).digest(), runs)
    told = {
        "encode": encode,
        "check values": fill,
        "verify": least(lambda: checks.verify(total, where, SITES), runs),
        "pack": least(lambda: pack_total(total), runs),
        "unpack": least(lambda: unpack_total(packed, where), runs),
        "SHA-256": sha256,
    }
    print(f"\n{values:,} values of {limbs} limbs: {len(packed):,} bytes down, {8 * limbs * (values + room):,} up")
    print(", ".join(f"{what} {1e6 * seconds:.0f} us" for what, seconds in told.items()))
    print(f"encode with check values, times encode alone: {1 + fill / encode:.2f}")
    if values >= 100_000:
        assert fill / sha256 <= MOST
    benchmark(checks.fill, vector, where)
