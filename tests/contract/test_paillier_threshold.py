"""Threshold Paillier: any enough sites open, fewer refuse, and a false partial decryption is its sender's."""

import gc
import itertools
import math

import numpy as np
import pytest

from protocols import run
from protocols.choice import make_collector
from protocols.encryption import paillier_threshold
from protocols.encryption.paillier_messages import MOST_SHARES
from protocols.encryption.paillier_threshold import KeyDealer, ThresholdCollector, ThresholdParty
from protocols.primitives import ring
from protocols.primitives.keys import Identity, parts
from protocols.primitives.paillier import big_numbers, safe_primes, threshold_keys
from protocols.primitives.paillier.paillier_keys import PrivateKey, make_key
from protocols.primitives.paillier.safe_primes import search_safe_prime, usual_tries
from protocols.primitives.paillier.threshold_keys import FalsePartialError, KeyShare, ThresholdKey, deal
from protocols.secure_sum import (
    AGGREGATOR,
    KEY_DEALER,
    DropoutError,
    MisuseError,
    PeerError,
    Searching,
    SecureSumError,
)
from protocols.sessions.session import Roster, Seat, Session
from protocols.sessions.settings import Settings

SITES = ("site-1", "site-2", "site-3", "site-4")
SETTINGS = Settings(key_bits=512, insecure_test_keys=True, threshold=3, rounds_per_batch=400)
# Safe primes of 256 bits, fixed for tests; far too small to protect anything.
P = 0xC40A9EA90018F97EDB0A22E8F22BF3A892F6E6A55E84A3FB92AD047F5B430DD3
Q = 0xDBF9DCB952F22A61A9F6B890DB190D59C828F94F72A6826A33A83ABDE29A4A37
PRIVATE = PrivateKey(P, Q)
KEY, SHARES = deal(PRIVATE, 3, 4, run.tape("shares")("dealer"))
HOLDERS = [KeyShare(KEY, number, share) for number, share in enumerate(SHARES, 1)]
SIGNATURE = 64


def encrypted(plaintexts):
    public, _ = PRIVATE.phe_pair()
    return [int(public.raw_encrypt(plaintext)) for plaintext in plaintexts]


def vectors(values=5):
    entropy = run.tape("threshold")
    return {site: ring.expand(entropy(site)(32), values, 2) for site in SITES}


class Round:
    """One sum of a met table, up to the partial decryptions."""

    def __init__(self, tables, values=5, present=SITES):
        self.table, number = tables.seated("paillier-threshold", 4, threshold=3)
        self.vectors = vectors(values)
        self.context = run.context_of(self.table, self.vectors["site-1"], round_=number)
        self.payloads = {s: self.table.parties[s].protect(self.vectors[s], self.context) for s in SITES}
        self.pending = self.combine(present)

    def combine(self, present):
        return self.table.collector.combine({site: self.payloads[site] for site in present}, self.context)

    def replies(self, sites=SITES):
        return {s: self.table.parties[s].assist(self.pending.requests[s], self.context) for s in sites}

    def open(self, replies):
        return self.table.collector.open(self.pending, replies)

    def total(self, parties=SITES):
        return ring.total_of((self.vectors[s] for s in parties), *self.vectors["site-1"].shape)


def test_a_safe_prime_is_one():
    for bits in (128, 256):
        p = next(filter(None, search_safe_prime(bits, run.tape("safe")(str(bits)))))
        assert p.bit_length() == bits
        assert p >> (bits - 2) == 3
        assert all(pow(base, p - 1, p) == 1 == pow(base, (p - 1) // 2 - 1, (p - 1) // 2) for base in (2, 3, 5, 7))


def test_safe_primes_that_agree_in_their_upper_half_make_no_key(monkeypatch):
    first = next(filter(None, search_safe_prime(128, run.tape("safe")("128"))))
    near = next(filter(safe_primes._is_safe_prime, itertools.count(first + 4, 4)))
    far = next(filter(None, search_safe_prime(128, run.tape("safe")("far"))))
    assert near - first < 1 << 64 <= abs(far - first)
    drawn = iter([first, near, first, far])
    monkeypatch.setattr(threshold_keys, "search_safe_prime", lambda *_: iter((next(drawn),)))
    (key,) = filter(None, threshold_keys.search_safe_key(256, run.tape("")("")))
    assert key.public.n == first * far


def seat(name, settings=SETTINGS):
    identities = {name: Identity(bytes([at]) * 32) for at, name in enumerate((*SITES, KEY_DEALER), 1)}
    roster = Roster({name: identity.public for name, identity in identities.items()})
    return Seat(name, identities[name], Session("paillier-threshold", roster, settings), run.tape("dealer")("x"))


def dealer(**options):
    return KeyDealer(seat(KEY_DEALER), **options)


def test_the_search_for_a_key_goes_in_steps_that_change_nothing():
    at_once, in_steps = dealer(), dealer()
    assert isinstance(in_steps, Searching)
    expected = at_once.hello()
    tried = []
    while more := in_steps.search(7):
        assert more <= 7
        tried.append(more)
    assert set(tried[:-1]) == {7}
    assert len(tried) > 1
    assert in_steps.search(7) == 0
    assert in_steps.hello() == expected
    given = dealer(private=PRIVATE)
    assert given.search(100) == 1
    assert given.search(100) == 0


def test_the_usual_number_of_tries_is_about_what_it_takes():
    entropy = run.tape("usual")("p")
    taken = [sum(1 for _ in search_safe_prime(256, entropy)) for _ in range(40)]
    # The number is geometric, so forty of them average within half of the mean but for one case in a thousand;
    # the tape is always the same.
    assert 0.5 * usual_tries(256) < np.mean(taken) < 1.5 * usual_tries(256)
    assert max(taken) > 2 * usual_tries(256), "a lottery"
    assert dealer().usual_tries == 2 * usual_tries(256)


def test_the_dealer_forgets_the_key_as_soon_as_it_is_in_shares():
    party = dealer(private=PRIVATE)
    assert PRIVATE in gc.get_referents(*gc.get_referents(party._tries))
    party.search(1)
    assert party._shares is not None
    assert not any(PRIVATE in gc.get_referents(held) for held in (vars(party), *vars(party).values()))


def test_any_three_of_four_open_what_phe_encrypted_and_two_do_not():
    plaintexts = [0, 1, 2**500, int(PRIVATE.public.n) - 1]
    ciphertexts = encrypted(plaintexts)
    partials = {number: holder.open(ciphertexts, b"c")[0] for number, holder in enumerate(HOLDERS, 1)}
    _, phe = PRIVATE.phe_pair()
    assert [phe.raw_decrypt(ciphertext) for ciphertext in ciphertexts] == plaintexts
    for three in itertools.combinations(partials, 3):
        assert KEY.combine(ciphertexts, {number: partials[number] for number in three}) == plaintexts
    assert KEY.combine(ciphertexts, partials) == plaintexts
    for two in itertools.combinations(partials, 2):
        with pytest.raises(FalsePartialError):
            KEY.combine(ciphertexts, {number: partials[number] for number in two})


@pytest.mark.parametrize("count", [1, 3, 100])
def test_a_proof_holds_for_its_holder_its_ciphertexts_and_its_context_alone(count):
    ciphertexts = encrypted(range(count))
    partials, proof = HOLDERS[1].open(ciphertexts, b"context")
    KEY.verify(2, b"context", ciphertexts, partials, proof)
    n = int(KEY.public.n)
    others = encrypted(range(count))
    lies = [
        (1, b"context", ciphertexts, partials, proof),
        (2, b"other", ciphertexts, partials, proof),
        (2, b"context", others, partials, proof),
        (2, b"context", ciphertexts, HOLDERS[2].open(ciphertexts, b"context")[0], proof),
        (2, b"context", ciphertexts, partials, bytes(len(proof))),
        (2, b"context", ciphertexts, partials, proof[:-1]),
        (2, b"context", ciphertexts, [0, *partials[1:]], proof),
        (2, b"context", ciphertexts, [P, *partials[1:]], proof),
    ]
    lies += [(2, b"context", ciphertexts, [*partials[:-1], changed], proof) for changed in (1, n - 1, partials[-1] + 1)]
    for lie in lies:
        with pytest.raises(FalsePartialError):
            KEY.verify(*lie)


def test_a_wrong_partial_with_a_proof_of_its_own_making_is_caught():
    """A holder that proves honestly for the wrong share, and one that swaps two partials before it proves."""
    ciphertexts = encrypted([5, 6])
    n = int(KEY.public.n)
    wrong = ThresholdKey(KEY.public, KEY.base, tuple(pow(int(KEY.base), share + 1, n) for share in SHARES))
    partials, proof = KeyShare(wrong, 2, SHARES[1] + 1).open(ciphertexts, b"c")
    wrong.verify(2, b"c", ciphertexts, partials, proof)
    with pytest.raises(FalsePartialError):
        KEY.verify(2, b"c", ciphertexts, partials, proof)
    swapped, proof = HOLDERS[1].open(ciphertexts[::-1], b"c")
    with pytest.raises(FalsePartialError):
        KEY.verify(2, b"c", ciphertexts, swapped, proof)


def test_without_random_exponents_cancelling_errors_would_pass(monkeypatch):
    """The broken twin: a batch that is multiplied up plainly does not see two errors that cancel."""
    ciphertexts = encrypted([5, 6])
    n = int(KEY.public.n)

    def plainly(bases, exponents, width, modulus):
        product = 1
        for base in bases:
            product = product * int(base) % modulus
        return product

    def cheat():
        partials, _ = HOLDERS[1].open(ciphertexts, b"c")
        # The sender proves what it can prove: that the product of its partials is right.
        real_powers = threshold_keys.powers
        lying = [partials[0] * 2 % n, partials[1] * pow(2, -1, n) % n]
        monkeypatch.setattr(threshold_keys, "powers", lambda *_: lying)
        try:
            return HOLDERS[1].open(ciphertexts, b"c")
        finally:
            monkeypatch.setattr(threshold_keys, "powers", real_powers)

    with pytest.raises(FalsePartialError):
        KEY.verify(2, b"c", ciphertexts, *cheat())
    monkeypatch.setattr(threshold_keys, "product_of_powers", plainly)
    KEY.verify(2, b"c", ciphertexts, *cheat())


@pytest.mark.parametrize("count", [0, 1, 63, 64, 200])
def test_products_of_powers_are_what_they_say(count):
    entropy = run.tape("products")("x")
    exponents = entropy(16 * count)
    bases = [int.from_bytes(entropy(60), "big") for _ in range(count)]
    expected = 1
    for at, base in enumerate(bases):
        expected = expected * pow(base, int.from_bytes(exponents[16 * at : 16 * at + 16], "big"), P) % P
    assert big_numbers.product_of_powers(bases, exponents, 16, P) == expected


@pytest.mark.parametrize("holders", [1, 3, 4, 9, 100])
def test_weights_are_lagranges_over_their_least_common_denominator(holders):
    for threshold in range(1, min(holders, 5) + 1):
        for chosen in itertools.islice(itertools.combinations(range(1, holders + 1), threshold), 0, 200, 3):
            weights, denominator = threshold_keys._weights(chosen)
            secret, *rest = [7 + 3 * k for k in range(threshold)]
            values = {x: secret + sum(c * x**k for k, c in enumerate(rest, 1)) for x in chosen}
            assert sum(weights[x] * values[x] for x in chosen) == denominator * secret
            assert math.gcd(denominator, *weights.values()) == 1
    assert threshold_keys._weights(tuple(range(1, holders + 1))) == (
        {x: (-1) ** (x - 1) * math.comb(holders, x) for x in range(1, holders + 1)},
        1,
    )


def test_a_hundred_holders_open_and_any_of_them_can():
    """The factorial and the denominators at their largest."""
    key, shares = deal(PRIVATE, 67, MOST_SHARES, run.tape("many")("dealer"))
    ciphertexts = encrypted([3, 2**400])
    for chosen in (range(1, 68), range(34, 101), [*range(1, 100, 2), *range(68, 101, 2)]):
        partials = {at: KeyShare(key, at, shares[at - 1]).open(ciphertexts, b"")[0] for at in list(chosen)[:67]}
        assert len(partials) == 67
        assert key.combine(ciphertexts, partials) == [3, 2**400]
        del partials[next(iter(partials))]
        with pytest.raises(FalsePartialError):
            key.combine(ciphertexts, partials)


def test_more_than_a_hundred_sites_are_refused_with_the_reason():
    names = [f"site-{number}" for number in range(MOST_SHARES + 1)]
    roster = Roster({name: bytes([at, 5] * 16) for at, name in enumerate([*names, KEY_DEALER])})
    with pytest.raises(MisuseError, match="at most 100 sites, and here are 101"):
        make_collector("paillier-threshold", roster, SETTINGS)
    fewer = Roster({name: key for name, key in roster.keys.items() if name != names[0]})
    assert make_collector("paillier-threshold", fewer, SETTINGS)


def test_shares_that_fit_their_checks_and_not_each_other_are_the_dealers(monkeypatch):
    """A dealer that deals points of no common polynomial: every partial is proved, and the sum opens to nobody."""

    def crooked(private, threshold, holders, entropy):
        key, shares = deal(private, threshold, holders, entropy)
        wrong = (shares[0] + 2, *shares[1:])
        checks = tuple(pow(int(key.base), int(share), int(key.public.n)) for share in wrong)
        return ThresholdKey(key.public, key.base, checks), wrong

    monkeypatch.setattr(paillier_threshold, "deal", crooked)
    with pytest.raises(PeerError, match="shares that do not open") as caught:
        run.secure_sum("paillier-threshold", vectors(), SETTINGS)
    assert caught.value.sender == KEY_DEALER


def test_a_key_that_needs_no_safe_primes_can_not_be_shared():
    with pytest.raises(ValueError, match="safe primes"):
        deal(make_key(512, run.tape("unsafe")("x")), 3, 4, run.tape("unsafe")("y"))


def test_a_share_that_does_not_fit_is_refused():
    for number, share in ((1, SHARES[1]), (2, SHARES[1] + 1), (4, 0)):
        with pytest.raises(ValueError, match="does not fit"):
            KeyShare(KEY, number, share)


def test_fewer_shares_than_the_threshold_fit_any_secret():
    """In a small field, by counting: two shares of a threshold of three say nothing about the constant."""
    order = 11
    seen = {}
    for secret, a, b in itertools.product(range(order), repeat=3):
        pair = tuple((secret + a * x + b * x * x) % order for x in (1, 2))
        seen.setdefault(pair, []).append(secret)
    assert all(sorted(secrets) == list(range(order)) for secrets in seen.values())
    alone = {(secret + a) % order: secret for secret, a in itertools.product(range(order), [0])}
    assert len(set(alone.values())) == order, "the twin without randomness gives the secret away"


@pytest.mark.parametrize("values", [1, 7, 100])
def test_any_three_sites_open_and_two_are_refused(tables, values):
    for size in (3, 2):
        for helping in itertools.combinations(SITES, size):
            sum_ = Round(tables, values)
            if size == 3:
                total = sum_.open(sum_.replies(helping))
                assert total.parties == SITES
                assert np.array_equal(total.vector, sum_.total())
                continue
            with pytest.raises(DropoutError) as caught:
                sum_.open(sum_.replies(helping))
            assert caught.value.silent == tuple(site for site in SITES if site not in helping)
            assert (caught.value.present, caught.value.threshold) == (2, 3)


def test_a_false_partial_is_its_senders_and_the_others_still_open(tables):
    sum_ = Round(tables)
    replies = sum_.replies()
    party = sum_.table.parties["site-2"]
    body = replies["site-2"][:-SIGNATURE]
    for at in range(0, len(body), 9):
        false = party._seat.sign(b"paillier partial", sum_.context, body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :])
        with pytest.raises(PeerError) as caught:
            sum_.open({**replies, "site-2": false})
        assert caught.value.sender == "site-2"
    for shape in (body[:-1], body + body[-64:], b""):
        with pytest.raises(PeerError, match="site-2"):
            sum_.open({**replies, "site-2": party._seat.sign(b"paillier partial", sum_.context, shape)})
    stolen = party._seat.sign(b"paillier partial", sum_.context, replies["site-3"][:-SIGNATURE])
    with pytest.raises(PeerError, match="site-2"):
        sum_.open({**replies, "site-2": stolen})
    del replies["site-2"]
    assert np.array_equal(sum_.open(replies).vector, sum_.total())


def request(sum_, payloads, box=None):
    """What a lying aggregator would ask of site-1."""
    box = sum_.table.collector._boxes["site-1"] if box is None else box
    return parts(box, *(field for name, payload in payloads.items() for field in (name.encode(), payload)))


def test_a_site_decrypts_no_other_sum_than_one_it_recomputed(tables):
    sum_ = Round(tables)
    payloads, party = sum_.payloads, sum_.table.parties["site-1"]
    assert request(sum_, payloads) == sum_.pending.requests["site-1"]
    three = {name: payloads[name] for name in SITES[:3]}
    resigned = sum_.table.parties["site-1"]._seat.sign(b"paillier payload", sum_.context, payloads["site-2"][:-64])
    lies = [
        request(sum_, {"site-1": payloads["site-1"]}),
        request(sum_, {name: payloads[name] for name in SITES[:2]}),
        request(sum_, {name: payloads[name] for name in SITES[1:]}),
        request(sum_, {**three, "site-2": payloads["site-1"]}),
        request(sum_, {**three, "site-2": resigned}),
        request(sum_, {**three, "site-1": payloads["site-2"]}),
        request(sum_, {**three, "stranger": payloads["site-2"]}),
        request(sum_, dict(reversed(three.items()))),
        request(sum_, {}),
        b"",
    ]
    for lie in lies:
        with pytest.raises(PeerError) as caught:
            party.assist(lie, sum_.context)
        assert caught.value.sender == AGGREGATOR
    assert party.assist(sum_.pending.requests["site-1"], sum_.context)
    with pytest.raises(PeerError, match="different request"):
        party.assist(request(sum_, three), sum_.context)


def test_a_box_for_another_site_or_altered_does_not_open(test_settings):
    table = run.sit_down("paillier-threshold", SITES, SETTINGS)
    run.meet(table)
    values = vectors()
    context = run.context_of(table, values["site-1"])
    payloads = {site: table.parties[site].protect(values[site], context) for site in SITES}
    boxes = table.collector._boxes
    box = boxes["site-1"]
    for wrong in (boxes["site-2"], box[:-1], box[:-1] + bytes([box[-1] ^ 1]), b""):
        lie = parts(wrong, *(field for name in SITES for field in (name.encode(), payloads[name])))
        with pytest.raises(PeerError, match="box"):
            table.parties["site-1"].assist(lie, context)


def test_the_dealer_is_gone_after_the_meeting_and_holds_nothing():
    table = run.sit_down("paillier-threshold", SITES, SETTINGS)
    dealer = table.parties[KEY_DEALER]
    while dealer.search(100):
        pass
    kept = set(dealer._shares)
    run.meet(table)
    assert dealer._shares is None
    assert dealer._channels is None
    held = [value for value in vars(dealer).values() if isinstance(value, int | tuple)]
    assert not any(value in kept for value in held)
    context = run.context_of(table, vectors()["site-1"])
    for again in (
        lambda: dealer.hello(1),
        lambda: dealer.meet({}),
        lambda: dealer.protect(vectors()["site-1"], context),
        lambda: dealer.assist(b"", context),
    ):
        with pytest.raises(SecureSumError):
            again()
    run.meet(table, batch=1)
    later = run.context_of(table, vectors()["site-1"], round_=400)
    assert np.array_equal(run.add_up(table, vectors(), later).vector, ring.total_of(vectors().values(), 5, 2))


def test_a_changed_word_of_the_dealer_is_refused_and_the_dealer_named():
    for leg in ("hello", "grant"):
        for at in (0, 40, 100, 300, -70, -1):

            def tamper(this_leg, party, data, leg=leg, at=at):
                if (this_leg, party) != (leg, KEY_DEALER):
                    return data
                changed = bytearray(data)
                changed[at] ^= 1
                return bytes(changed)

            with pytest.raises(PeerError) as caught:
                run.secure_sum("paillier-threshold", vectors(), SETTINGS, tamper=tamper)
            assert caught.value.sender == KEY_DEALER


@pytest.mark.parametrize("leg", ["hello", "grant"])
def test_without_the_dealer_nothing_begins(leg):
    with pytest.raises((MisuseError, DropoutError), match=KEY_DEALER):
        run.secure_sum("paillier-threshold", vectors(), SETTINGS, silent={leg: [KEY_DEALER]})


def test_roles_do_not_mix():
    roster = seat(KEY_DEALER).session.roster
    with pytest.raises(MisuseError, match="role of the key-dealer alone"):
        KeyDealer(seat("site-1"), private=PRIVATE)
    with pytest.raises(MisuseError, match="no site"):
        ThresholdParty(seat(KEY_DEALER))
    with pytest.raises(TypeError):
        ThresholdCollector(Session("paillier-threshold", roster, SETTINGS), private=PRIVATE)
    with pytest.raises(MisuseError, match="settings say"):
        KeyDealer(seat(KEY_DEALER, Settings()), private=PRIVATE)
    without = Roster({name: key for name, key in roster.keys.items() if name != KEY_DEALER})
    with pytest.raises(MisuseError, match="needs one"):
        make_collector("paillier-threshold", without, SETTINGS)


@pytest.mark.parametrize("leg", ["payload", "request", "reply"])
def test_silence_opens_the_exact_sum_or_is_refused(tables, leg):
    for threshold, gone in itertools.product((3, 4), SITES):
        table, round_ = tables.seated("paillier-threshold", 4, threshold=threshold)
        table.silent = {leg: [gone]}
        context = run.context_of(table, vectors()["site-1"], round_=round_)
        if threshold == 4:
            with pytest.raises(DropoutError):
                run.add_up(table, vectors(), context)
            continue
        total = run.add_up(table, vectors(), context)
        present = tuple(site for site in SITES if leg != "payload" or site != gone)
        assert total.parties == present
        assert np.array_equal(total.vector, ring.total_of((vectors()[site] for site in present), 5, 2))


def test_obfuscators_made_ahead_change_no_message():
    transcripts = []
    for ahead in (0, 7):
        table = run.sit_down("paillier-threshold", SITES, SETTINGS, run.tape("ahead"))
        run.meet(table)
        for site in SITES:
            made = table.parties[site].precompute(ahead, 2, 2)
            assert made == min(2, -(-ahead // 3))
        run.add_up(table, vectors())
        transcripts.append(table.messages)
    assert transcripts[0] == transcripts[1]


def test_without_gmpy2_the_shares_open_the_same(monkeypatch):
    ciphertexts = encrypted([7, 2**400])
    fast = {number: holder.open(ciphertexts, b"c") for number, holder in enumerate(HOLDERS, 1)}
    monkeypatch.setattr(big_numbers, "_gmpy2", lambda: None)
    key, shares = deal(PrivateKey(P, Q), 3, 4, run.tape("shares")("dealer"))
    slow = {number: KeyShare(key, number, share).open(ciphertexts, b"c") for number, share in enumerate(shares, 1)}
    assert slow == fast
    for number, (partials, proof) in slow.items():
        key.verify(number, b"c", ciphertexts, partials, proof)
    assert key.combine(ciphertexts, {number: slow[number][0] for number in (1, 2, 4)}) == [7, 2**400]
