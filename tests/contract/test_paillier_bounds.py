"""Numbers at their declared bounds, through real ciphertexts: exact at the bound, refused one step beyond it."""

import math

import numpy as np
import pytest

from protocols import run
from protocols.encryption.packing import Packing
from protocols.fixed_point import Field, Layout, largest_bound
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.secure_sum import Context, IntegrityError, MisuseError, PeerError
from protocols.sessions.settings import Settings

BOTH = pytest.mark.parametrize("protocol", ["paillier", "paillier-threshold"])
BOUND = largest_bound(4)
# Each row is one value at every site; the bound, its negative, zeros of both signs, and what cancels.
VALUES = np.array(
    [
        [BOUND, BOUND, BOUND, BOUND],
        [-BOUND, -BOUND, -BOUND, -BOUND],
        [BOUND, -BOUND, BOUND, -BOUND],
        [0.0, -0.0, 0.0, -0.0],
        [-1.0, -2.0, -3.0, -4.0],
        [BOUND, -1.0, 2.0**-64, -(2.0**-64)],
        [-(2.0**-64), 0.0, 0.0, 0.0],
        [BOUND, 1.0, 0.0, -BOUND],
    ]
)


@BOTH
def test_bounds_that_are_just_hit_negatives_and_zeros_add_up_exactly(protocol):
    layout = Layout((Field("x", (len(VALUES),), BOUND),))
    layout.check_headroom(4)
    sites = [f"site-{number}" for number in range(4)]
    vectors = {site: layout.encode({"x": VALUES[:, at]}) for at, site in enumerate(sites)}
    total = run.secure_sum(protocol, vectors, Settings(key_bits=512, insecure_test_keys=True))
    opened = layout.decode(total.vector, 4)["x"]
    assert np.array_equal(opened, [math.fsum(row) for row in VALUES])
    assert opened[0] == 4 * BOUND
    # The same sum can't be three sites': one bound too much for them.
    with pytest.raises(IntegrityError):
        layout.decode(total.vector, 3)


@pytest.mark.parametrize("beyond", [np.nextafter(BOUND, np.inf), np.nextafter(-BOUND, -np.inf)])
def test_one_step_beyond_the_bound_never_becomes_a_ciphertext(beyond):
    layout = Layout((Field("x", (2,), BOUND),))
    assert layout.encode({"x": np.array([BOUND, -BOUND])}).shape == (2, 2)
    with pytest.raises(MisuseError, match=r"field 'x' at \(1,\)"):
        layout.encode({"x": np.array([0.0, beyond])})


@pytest.mark.parametrize("limbs", [1, 2])
def test_a_thousand_sites_at_the_top_of_the_ring_fit_their_ciphertexts_and_one_more_is_seen(limbs):
    key = make_key(512, run.tape("a thousand")("key"))
    public, packing = key.public, Packing(512, 5, limbs, 1000)
    top = np.full((5, limbs), 2**64 - 1, dtype=np.uint64)
    hiding = Obfuscators(public, "djn", run.tape("a thousand")("hiding")).take(packing.plaintexts).values
    one = [public.nude(x) * w % public.n_squared for x, w in zip(packing.pack(top), hiding, strict=True)]
    thousand = [pow(int(ciphertext), 1000, int(public.n_squared)) for ciphertext in one]
    opened = packing.unpack(key.decrypt(thousand), 1000)
    assert opened[:, 0].tolist() == [2**64 - 1000] * 5
    assert opened.shape == (5, limbs)
    with pytest.raises(IntegrityError, match="no sum of 1000"):
        packing.unpack(key.decrypt([c * d % public.n_squared for c, d in zip(thousand, one, strict=True)]), 1000)


def test_a_layout_of_another_shape_than_the_context_is_refused():
    sites = ["a", "b", "c"]
    table = run.sit_down("paillier", sites, Settings(key_bits=512, insecure_test_keys=True))
    run.meet(table)
    vector = np.zeros((3, 2), dtype=np.uint64)
    context = run.context_of(table, vector)
    for wrong in (vector[:2], vector[:, :1], vector.astype(np.int64)):
        with pytest.raises(MisuseError, match="the context says"):
            table.parties["a"].protect(wrong, context)
    # What was made for one layout is no payload of another, though it has as many values.
    payloads = {site: table.parties[site].protect(vector, context) for site in sites}
    other = Context(context.session, 0, 0, context.cohort, bytes(32), 3)
    with pytest.raises(PeerError, match="a: paillier payload v2 is not signed") as caught:
        table.collector.combine(payloads, other)
    assert caught.value.sender == "a"
