"""The package gives, number for number, what the slow reference beside this file wrote down."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from protocols.encryption import paillier_messages
from protocols.encryption.packing import Packing
from protocols.encryption.paillier import knowledge, read_payloads
from protocols.encryption.paillier_messages import Contributions, Mandate
from protocols.primitives.keys import Identity
from protocols.primitives.paillier import big_numbers, lanes, obfuscators, plaintext_knowledge
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import PrivateKey, PublicKey
from protocols.secure_sum import KEY_HOLDER, Context, IntegrityError, sha256
from protocols.sessions.session import Roster, open_message, sign_message

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "paillier_vectors.json").read_text())
SUMS = {vector["title"]: vector for vector in VECTORS["sums"]}


@pytest.fixture(params=sorted(SUMS))
def vector(request):
    return SUMS[request.param]


@pytest.fixture(autouse=True, params=["one by one", "side by side"])
def arithmetic(request, monkeypatch):
    """Also as long lists under real keys are computed, where this processor can."""
    if request.param == "one by one":
        return
    if not lanes.fit(2**2048 - 1):
        pytest.skip("a processor without AVX-512 IFMA")
    monkeypatch.setattr(lanes, "LEAST_BITS", 1)
    monkeypatch.setattr(big_numbers, "_WORTH_LANES", 0)
    monkeypatch.setattr(big_numbers, "_FEW_BASES", 0)
    monkeypatch.setattr(obfuscators, "_tables", obfuscators._tables.__wrapped__)
    monkeypatch.setattr(obfuscators, "window_for", lambda bits, entry: 4)


def private_of(vector):
    orders = tuple(int(order, 16) for order in vector.get("orders", ()))
    return PrivateKey(int(vector["p"], 16), int(vector["q"], 16), orders or None)


def context_of(vector):
    fields = dict(vector["context"])
    fields["session"], fields["layout"] = bytes.fromhex(fields["session"]), bytes.fromhex(fields["layout"])
    return Context(**{**fields, "cohort": tuple(fields["cohort"])})


def packing_of(vector, bits=512):
    context = context_of(vector)
    return Packing(bits, context.values, context.limbs, len(context.cohort))


def elements(vector, text):
    return np.frombuffer(bytes.fromhex(text), dtype="<u8").reshape(-1, vector["context"]["limbs"]).astype(np.uint64)


def test_the_frozen_file_is_what_the_slow_reference_computes():
    assert runpy.run_path(str(HERE / "paillier_reference.py"))["vectors"]() == VECTORS


def test_context_and_public_base_are_as_written(vector):
    assert context_of(vector).digest.hex() == vector["context_digest"]
    assert big_numbers.to_buffer([private_of(vector).public.base], 64).hex() == vector["base"]


def test_vectors_pack_as_written(vector):
    packing = packing_of(vector)
    assert (packing.slot_bits, packing.slots) == (vector["slot_bits"], vector["slots"])
    for site in vector["sites"].values():
        packed = packing.pack(elements(vector, site["vector"]))
        assert big_numbers.to_buffer(packed, 64).hex() == site["plaintexts"]


def test_ciphertexts_and_payloads_are_as_written(vector):
    public, context, packing = private_of(vector).public, context_of(vector), packing_of(vector)
    for name, site in vector["sites"].items():
        drawn = bytes.fromhex(site["entropy"])
        stock = Obfuscators(public, vector["obfuscation"], {len(drawn): drawn}.__getitem__)
        plaintexts, taken = packing.pack(elements(vector, site["vector"])), stock.take(packing.plaintexts)
        ciphertexts = [
            public.nude(plaintext) * obfuscator % public.n_squared
            for plaintext, obfuscator in zip(plaintexts, taken.values, strict=True)
        ]
        data = big_numbers.to_buffer(ciphertexts, public.ciphertext_bytes)
        assert data.hex() == site["ciphertexts"]
        known = knowledge(public, ciphertexts, name, context)
        proof = plaintext_knowledge.prove(known, plaintexts, taken.root, bytes.fromhex(site["mask_key"]))
        assert proof.hex() == site["proof"]
        challenge = known.challenge(int(site["commitment"], 16))
        assert proof.startswith(challenge)
        assert known.weights(challenge).hex() == site["weights"]
        plaintext_knowledge.verify(known, proof)
        identity, body = Identity(bytes.fromhex(site["identity_seed"])), data + proof
        signed = sign_message(identity, b"paillier payload v2", name, context.digest, body)
        assert signed.hex() == site["payload"]
        roster = Roster({name: identity.public})
        assert open_message(roster, b"paillier payload v2", name, context.digest, signed) == body
        payloads = {name: bytes.fromhex(site["payload"])}
        assert read_payloads(roster, public, packing, payloads, context) == [ciphertexts]


def test_ciphertexts_are_those_of_phe_with_the_same_randomness(vector):
    reference, _ = private_of(vector).phe_pair()
    for site in vector["sites"].values():
        numbers = [
            big_numbers.from_buffer(bytes.fromhex(site[what]), width)
            for what, width in (("plaintexts", 64), ("randomness", 64), ("ciphertexts", 128))
        ]
        for plaintext, randomness, ciphertext in zip(*numbers, strict=True):
            assert reference.raw_encrypt(int(plaintext), int(randomness)) == ciphertext


def test_the_sum_is_blinded_signed_opened_and_unpacked_as_written(vector):
    private, context, packing = private_of(vector), context_of(vector), packing_of(vector)
    public = private.public
    columns = [
        paillier_messages.read_ciphertexts(public, bytes.fromhex(site["ciphertexts"]), packing.plaintexts)
        for site in vector["sites"].values()
    ]
    seed = bytes.fromhex(vector["blind_seed"])
    blind = paillier_messages.blinds(public, seed, context, packing.plaintexts, "aes-256-ctr")
    assert big_numbers.to_buffer(blind, 64).hex() == vector["blinds"]
    blinded = list(paillier_messages.blinded_product(public, columns, blind))
    data = big_numbers.to_buffer(blinded, 128)
    assert data.hex() == vector["blinded"]
    assert paillier_messages.decision_digest(data, context.cohort).hex() == vector["decision"]
    opened = private.decrypt(blinded)
    assert big_numbers.to_buffer(opened, 64).hex() == vector["opened"]
    bare = [(value - amount) % public.n for value, amount in zip(opened, blind, strict=True)]
    assert np.array_equal(packing.unpack(bare, 3), elements(vector, vector["total"]))


def test_requests_consents_mandate_and_opening_are_as_written(vector):
    context, names = context_of(vector), tuple(sorted(vector["sites"]))
    decision = bytes.fromhex(vector["decision"])
    payloads = {name: bytes.fromhex(site["payload"]) for name, site in vector["sites"].items()}
    asked = Contributions(bytes.fromhex(vector["blind_seed"]), decision, payloads)
    assert asked.to_bytes().hex() == vector["request"]
    assert Contributions.from_bytes(bytes.fromhex(vector["request"])) == asked
    identities = {name: Identity(bytes.fromhex(site["identity_seed"])) for name, site in vector["sites"].items()}
    consents = {
        name: sign_message(identity, b"paillier consent", name, context.digest, decision)
        for name, identity in identities.items()
    }
    assert {name: consent.hex() for name, consent in consents.items()} == vector["consents"]
    mandate = Mandate(bytes.fromhex(vector["blinded"]), names, consents)
    assert mandate.to_bytes().hex() == vector["mandate"]
    assert Mandate.from_bytes(bytes.fromhex(vector["mandate"])) == mandate
    holder = Identity(sha256(b"vector identity", KEY_HOLDER.encode()))
    body = decision + bytes.fromhex(vector["opened"])
    assert sign_message(holder, b"paillier opened", KEY_HOLDER, context.digest, body).hex() == vector["opening"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: f"{case['verb']}: {case['why']}")
def test_what_the_vectors_call_wrong_is_refused(case):
    data = bytes.fromhex(case["data"])
    public = private_of(VECTORS["sums"][0]).public
    if case["verb"] == "read_ciphertexts":
        with pytest.raises(ValueError, match="ciphertext"):
            paillier_messages.read_ciphertexts(public, data, case["count"])
    elif case["verb"] == "public_key":
        with pytest.raises(ValueError, match="public key"):
            PublicKey.from_bytes(data, 512)
    elif case["verb"] in ("read_request", "read_mandate"):
        kind = Contributions if case["verb"] == "read_request" else Mandate
        with pytest.raises(ValueError, match=r"request|message|name"):
            kind.from_bytes(data)
    else:
        assert case["verb"] == "unpack"
        packing = Packing(512, case["values"], 2, case["parties"])
        with pytest.raises(IntegrityError):
            packing.unpack(big_numbers.from_buffer(data, 64), case["parties"])
