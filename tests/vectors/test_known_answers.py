"""The primitives against the documents that define them, through the very calls the package makes."""

import hashlib
import hmac
import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.signing import SigningKey

from protocols.primitives import counted_stream, keys, keystream, ring
from protocols.primitives.digests import long_digest

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: "
    b"If I could offer you only one tip for the future, sunscreen would be it."
)


def unhex(text):
    return bytes.fromhex("".join(text.split()))


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
        (
            "0900000000000000000000000000000000000000000000000000000000000000",
            "0900000000000000000000000000000000000000000000000000000000000000",
            "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
        ),
    ],
)
def test_x25519_multiplies_as_in_rfc_7748_section_5_2(scalar, point, product):
    assert keys.AgreementKey(unhex(scalar)).agree(unhex(point)) == unhex(product)


def test_x25519_agrees_as_in_rfc_7748_section_6_1():
    alice = keys.AgreementKey(unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = keys.AgreementKey(unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public == unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert bob.public == unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.agree(bob.public) == bob.agree(alice.public) == shared


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_x25519_refuses_points_of_low_order(point):
    with pytest.raises(ValueError):  # the reason is the library's own
        keys.AgreementKey(bytes(range(32))).agree(point)


@pytest.mark.parametrize(
    ("secret", "salt", "info", "okm"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            """b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09
            da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87""",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_derives_as_in_rfc_5869_appendix_a(secret, salt, info, okm):
    expected = unhex(okm)
    assert HKDF(SHA256(), len(expected), salt=salt, info=info).derive(secret) == expected


def test_derive_is_hkdf_over_length_prefixed_parts():
    secret, salt = b"secret", b"salt"
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    info = b"\5\0\0\0label\0\0\0\0\2\0\0\0xy"
    expected = hmac.new(extracted, info + b"\1", hashlib.sha256).digest()
    assert keys.derive(secret, salt, b"label", b"", b"xy") == expected


def test_chacha20_encrypts_as_in_rfc_8439_section_2_4_2():
    """The library's 16 bytes are counter, then nonce: the package starts both at zero."""
    nonce = unhex("01000000 000000000000004a00000000")
    ciphertext = Cipher(algorithms.ChaCha20(bytes(range(32)), nonce), mode=None).encryptor().update(SUNSCREEN)
    assert ciphertext == unhex(
        """6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b357
        1639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736
        5af90bbf74a35be6b40b8eedf2785e42874d"""
    )


def test_chacha20_expansion_is_the_keystream_of_rfc_8439_appendix_a_1():
    assert ring.to_bytes(ring.expand(bytes(32), 4, 2, "chacha20")) == unhex(
        """76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7
        da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"""
    )


def test_sealed_boxes_are_those_of_rfc_8439_section_2_8_2():
    nonce = int.from_bytes(unhex("070000004041424344454647"), "little")
    header = unhex("50515253c0c1c2c3c4c5c6c7")
    box = unhex(
        """d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b
        1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
        3ff4def08e4b7a9de576d26586cec64b6116 1ae10b594f09e26a7e902ecbd0600691"""
    )
    channel = keys.Channel(bytes(range(0x80, 0xA0)))
    assert channel.seal(nonce, header, SUNSCREEN) == box
    assert channel.open(nonce, header, box) == SUNSCREEN
    for number, other, text in ((nonce + 1, header, box), (nonce, b"", box), (nonce, header, box[:-1] + b"\0")):
        with pytest.raises(ValueError, match="does not open"):
            channel.open(number, other, text)


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            """e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b
            d25bf5f0595bbe24655141438e7a100b""",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            """92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c
            387b2eaeb4302aeeb00d291612bb0c00""",
        ),
    ],
)
def test_signatures_are_those_of_rfc_8032_section_7_1(seed, public, message, signature):
    identity = keys.Identity(unhex(seed))
    assert identity.public == unhex(public)
    assert identity.sign(unhex(message)) == unhex(signature)
    assert keys.verifies(unhex(public), unhex(signature), unhex(message))
    assert not keys.verifies(unhex(public), unhex(signature), unhex(message) + b"\0")
    assert not keys.verifies(b"short", unhex(signature), unhex(message))
    assert not keys.verifies(unhex(public), b"short", unhex(message))


ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group that signatures count in (RFC 8032, section 5.1)."""


@pytest.mark.parametrize("length", [0, 32, 1000])
def test_the_library_that_verifies_takes_what_the_one_that_signs_does(length):
    seed, message = bytes(range(32)), bytes(length)
    ours, theirs = keys.Identity(seed), Ed25519PrivateKey.from_private_bytes(seed)
    signature = ours.sign(message)
    assert signature == SigningKey(seed).sign(message).signature
    theirs.public_key().verify(signature, message)
    assert keys.verifies(ours.public, signature, message)
    of_another = keys.Identity(bytes(32)).sign(message)
    longer = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    flipped = [signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :] for at in (0, 31, 32, 63)]
    for wrong in (of_another, longer, bytes(64), *flipped):
        with pytest.raises(InvalidSignature):
            theirs.public_key().verify(wrong, message)
        assert not keys.verifies(ours.public, wrong, message)


SP_KEY = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"


def test_aes_256_ctr_is_that_of_sp_800_38a_f_5_5():
    plain = unhex(
        """6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"""
    )
    start = unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    ciphertext = Cipher(algorithms.AES(unhex(SP_KEY)), modes.CTR(start)).encryptor().update(plain)
    assert ciphertext == unhex(
        """601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5
        2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"""
    )


def test_aes_expansion_is_the_encryption_of_zero_one_two():
    values = 3 * ring.CHUNK_BYTES // 16 + 5  # beyond a piece boundary, where a counter could start over
    block = Cipher(algorithms.AES(unhex(SP_KEY)), modes.ECB()).encryptor()
    counters = np.zeros((values, 2), dtype=">u8")
    counters[:, 1] = np.arange(values)
    assert ring.to_bytes(ring.expand(unhex(SP_KEY), values, 2)) == block.update(counters.tobytes())


def taken(stream, lengths):
    buffers = [bytearray(length) for length in lengths]
    for buffer in buffers:
        stream.fill(memoryview(buffer))
    return b"".join(buffers)


@pytest.mark.parametrize("lengths", [(64,), (16, 16, 48), (1, 30, 3, 0, 14), (keystream.MOST_BYTES, 5, 40)])
def test_both_ways_to_make_a_keystream_give_the_encryption_of_zero_one_two(lengths):
    block = Cipher(algorithms.AES(unhex(SP_KEY)), modes.ECB()).encryptor()
    counters = range(sum(lengths) // 16 + 1)
    expected = block.update(b"".join(number.to_bytes(16, "big") for number in counters))[: sum(lengths)]
    for way in (keystream._by_ctr, keystream._by_gcm):
        assert taken(way(unhex(SP_KEY)), lengths) == expected


PIECE = keystream.MOST_BYTES // 16


@pytest.mark.parametrize("lengths", [(5,), (PIECE,), (PIECE, 1), (PIECE, PIECE, 300)])
def test_counted_streams_are_the_encryption_of_zero_one_two_once_their_marks_are_off(lengths):
    cipher, counters = counted_stream.counted_stream(unhex(SP_KEY)), counted_stream.Counters()
    made, marked = [], []
    for blocks in lengths:
        text, marks = counters.next(blocks)
        stream = np.frombuffer(bytearray(cipher.update(text)), dtype="<u8").reshape(blocks, 2)
        marked.append(stream.tobytes())
        stream[:, 1] ^= marks
        made.append(stream.tobytes())
    expected = ring.to_bytes(ring.expand(unhex(SP_KEY), sum(lengths), 2))
    assert b"".join(made) == expected
    assert b"".join(marked) != expected


@pytest.mark.parametrize("block", [0, 1 << 24, (1 << 32) - PIECE, 1 << 32])
def test_the_counters_of_a_stream_are_those_of_ctr_wherever_it_is(block):
    counters = counted_stream.Counters()
    counters._block = block
    text, marks = counters.next(PIECE)
    expected = b"".join(number.to_bytes(16, "big") for number in range(block + 1, block + PIECE + 1))
    assert bytes(text) == expected
    assert marks.tobytes() == b"".join(expected[place + 8 : place + 16] for place in range(0, len(expected), 16))


@pytest.mark.parametrize("way", ["ctr", "gcm", "cfb"])
@pytest.mark.parametrize("values", [PIECE, keystream.LONG // 16 + 77])
def test_a_long_vector_is_masked_alike_whichever_way_is_fastest(way, values, monkeypatch):
    used = []
    for module, name in ((keystream, "_by_ctr"), (keystream, "_by_gcm"), (counted_stream, "counted_stream")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda key, name=name, real=real: used.append(name) or real(key))
    monkeypatch.setattr(keystream, "_gcm_is_faster", lambda: way == "gcm")
    monkeypatch.setattr(counted_stream, "_is_faster", lambda: way == "cfb")
    masked, expected = ring.zeros(values, 2), ring.zeros(values, 2)
    ring.mask_into(masked, [unhex(SP_KEY)], [bytes(32)])
    by = "gcm" if way == "gcm" and values > PIECE else "ctr"
    assert used == 2 * ["counted_stream" if way == "cfb" else f"_by_{by}"]
    for key, change in ((unhex(SP_KEY), ring.add_into), (bytes(32), ring.subtract_into)):
        block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        counters = np.zeros((values, 2), dtype=">u8")
        counters[:, 1] = np.arange(values)
        change(expected, ring.from_bytes(block.update(counters.tobytes()), values, 2))
    assert np.array_equal(masked, expected)


def test_counted_streams_are_for_long_vectors_of_aes_and_where_the_library_has_them(monkeypatch):
    monkeypatch.setattr(counted_stream, "_is_faster", lambda: True)
    assert counted_stream.pays("aes-256-ctr", keystream.MOST_BYTES)
    assert not counted_stream.pays("aes-256-ctr", keystream.MOST_BYTES - 1)
    assert not counted_stream.pays("chacha20", keystream.MOST_BYTES)
    monkeypatch.undo()
    monkeypatch.setattr(counted_stream, "_cfb", lambda: None)
    counted_stream._is_faster.cache_clear()
    assert not counted_stream.pays("aes-256-ctr", keystream.MOST_BYTES)
    counted_stream._is_faster.cache_clear()


def test_the_faster_way_is_found_once_and_taken_for_long_streams_alone(monkeypatch):
    keystream._gcm_is_faster.cache_clear()
    found = {keystream._gcm_is_faster() for _ in range(3)}
    assert len(found) == 1
    assert keystream._gcm_is_faster.cache_info().misses == 1
    monkeypatch.setattr(keystream, "_gcm_is_faster", lambda: True)
    monkeypatch.setattr(keystream, "_by_gcm", lambda key: "gcm")
    assert keystream.keystream(bytes(32), "aes-256-ctr", keystream.LONG) == "gcm"
    assert keystream.keystream(bytes(32), "aes-256-ctr", keystream.LONG - 1) != "gcm"
    assert keystream.keystream(bytes(32), "chacha20", keystream.LONG) != "gcm"


BLAKE3 = runpy.run_path(str(Path(__file__).parent / "blake3_reference.py"))["blake3"]


def test_blake3_is_that_of_its_authors():
    assert long_digest([b""]).hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert long_digest([b"abc"]).hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3073, 5000, 8193, 17_000])
def test_long_digests_are_those_of_the_second_blake3_however_they_are_cut(length):
    text = bytes(place % 251 for place in range(length))
    assert long_digest([text]) == BLAKE3(text)
    assert long_digest([text[:7], memoryview(text)[7:900], b"", text[900:]]) == BLAKE3(text)


@pytest.mark.parametrize(("prg", "limbs"), list(itertools.product(["aes-256-ctr", "chacha20"], [1, 2])))
def test_a_shorter_expansion_is_the_beginning_of_a_longer_one(prg, limbs):
    whole = ring.expand(b"k" * 32, 40_000, limbs, prg)
    for values in (0, 1, 8192, 16_384, 39_999):
        assert np.array_equal(ring.expand(b"k" * 32, values, limbs, prg), whole[:values])


def test_a_keystream_key_has_32_bytes_and_a_known_generator():
    with pytest.raises(ValueError, match="32 bytes"):
        ring.expand(bytes(16), 1, 1)
    with pytest.raises(ValueError, match="unknown"):
        ring.expand(bytes(32), 1, 1, "rot13")
