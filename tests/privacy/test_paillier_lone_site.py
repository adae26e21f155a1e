"""One site alone, an honest aggregator, an honest key-holder, a whole fit: it multiplies in what it saw a round ago.

The next public question would then be the victim's own step. The fit ends and names the site; beside it stands the
twin in which nobody verifies proofs: the fit goes on, with questions made from the victim's numbers alone. In the twin
the sites trust the aggregator: where they verify totals, they refuse that one.
"""

import numpy as np
import pytest

import secirls
from protocols.encryption import paillier_messages
from protocols.encryption.paillier import PaillierCollector, PaillierParty
from protocols.primitives.paillier import big_numbers, plaintext_knowledge
from protocols.secure_sum import PeerError, sha256

SITES = ("a", "b", "c", "d")
VICTIM, LIAR = "a", "d"
SHIFT = 30
AFTER_CIPHERTEXTS = 160 + 64
TRUSTING = {"trust_aggregator": True}


@pytest.fixture
def sites(make_site):
    random = np.random.default_rng(3)
    means = np.exp(random.normal(4, 1, 12))
    files = {}
    for site in SITES:
        groups = np.array(["u", "t"] * 6)
        fold = np.exp(random.normal(0, 0.7, 12))
        counts = random.poisson(random.gamma(5, 0.2, (12, 12)) * np.where(groups[:, None] == "t", means * fold, means))
        files[site] = make_site(site, counts + 1, {"condition": list(groups)})
    return files


class Play:
    """What the liar does instead of the protocol, once two rounds in a row have one shape."""

    def __init__(self, monkeypatch):
        self.seen, self.vectors, self.totals, self.multiplied = {}, {}, {}, None
        honest_protect, honest_assist, honest_open = PaillierParty.protect, PaillierParty.assist, PaillierCollector.open

        def open_(collector, pending, replies):
            opened = honest_open(collector, pending, replies)
            self.totals[pending.context.round] = getattr(opened, "vector", None)
            return opened

        def assist(party, request, context):
            if party.me == LIAR:
                asked = paillier_messages.Contributions.from_bytes(request)
                self.seen[context.round] = context.values, asked.payloads[VICTIM][:-AFTER_CIPHERTEXTS]
            return honest_assist(party, request, context)

        def protect(party, vector, context):
            self.vectors[party.me, context.round] = vector
            payload = honest_protect(party, vector, context)
            before = self.seen.get(context.round - 1, (0, b""))
            if party.me != LIAR or self.multiplied is not None or context.round < 6 or before[0] != context.values:
                return payload
            self.multiplied = context.round
            public = party._key()
            body = payload[:-64]
            mine = big_numbers.from_buffer(body[: len(before[1])], public.ciphertext_bytes)
            theirs = big_numbers.from_buffer(before[1], public.ciphertext_bytes)
            both = [
                own * big_numbers.power(other, 1 << SHIFT, public.n_squared) % public.n_squared
                for own, other in zip(mine, theirs, strict=True)
            ]
            data = big_numbers.to_buffer(both, public.ciphertext_bytes) + body[len(before[1]) :]
            payload = party._seat.sign(b"paillier payload v2", context, data)
            party._sent[context.digest] = sha256(b"secirls paillier sent v1", payload)
            return payload

        monkeypatch.setattr(PaillierParty, "assist", assist)
        monkeypatch.setattr(PaillierParty, "protect", protect)
        monkeypatch.setattr(PaillierCollector, "open", open_)


def fit(sites, **options):
    return secirls.fit(
        sites, design="~ condition", engine="local", protocol="paillier", key_bits=512, insecure_test_keys=True,
        kernel="numpy", precompute=False, **options,
    )  # fmt: skip


def signed(vector):
    """Two limbs as the whole numbers they stand for."""
    wide = [int(high) << 64 | int(low) for low, high in vector]
    return [value - (value >> 127 << 128) for value in wide]


def test_a_fit_ends_and_names_the_site_that_multiplies_in_anothers_ciphertexts(sites, monkeypatch):
    play = Play(monkeypatch)
    with pytest.raises(PeerError, match=f"{LIAR}: does not prove knowledge") as caught:
        fit(sites)
    assert caught.value.sender == LIAR
    assert play.multiplied


def test_without_proofs_sites_that_verify_totals_refuse_that_one(sites, monkeypatch):
    play = Play(monkeypatch)
    monkeypatch.setattr(plaintext_knowledge, "verify", lambda *_: None)
    with pytest.raises(PeerError, match="a total that is not the sum of what was sent"):
        fit(sites)
    assert max(play.totals) == play.multiplied


def test_in_a_twin_that_verifies_nothing_the_sum_is_the_victims_own_vector(sites, monkeypatch):
    """What the next question is made from: another's numbers, and all others' together a millionth of them."""
    play = Play(monkeypatch)
    monkeypatch.setattr(plaintext_knowledge, "verify", lambda *_: None)
    assert len(fit(sites, **TRUSTING).table) == 12, "nobody noticed"
    total = np.array(signed(play.totals[play.multiplied]), dtype=float)
    theirs = np.array(signed(play.vectors[VICTIM, play.multiplied - 1]), dtype=float) * 2**SHIFT
    honest = sum(np.array(signed(play.vectors[site, play.multiplied]), dtype=float) for site in SITES)
    told = np.abs(theirs) > 0
    assert np.median(np.abs(total - theirs)[told] / np.abs(theirs)[told]) < 1e-6
    assert np.median(np.abs(total - honest)[told] / np.abs(honest)[told]) > 1e6
