"""Identity, key agreement and sealed boxes: thin, domain-separated uses of `cryptography`, of PyNaCl to verify.

Private keys stay in OpenSSL, behind the first, and in no Python object. libsodium, behind the other, verifies the same
signatures in a third of the time.

Promises: every derivation is bound to a label and length-prefixed parts, and no secret can be
pickled or shown by ``repr``. Refuses to know: which round or protocol a key serves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

Entropy = Callable[[int], bytes]
"""Gives that many fresh random bytes: `secrets.token_bytes`, or a fixed tape for test vectors."""

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_LENGTH = struct.Struct("<I")
_FIELD = 2**255 - 19
_ORDER_8_X25519 = 0xB8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0
_ORDER_8_ED25519 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_USELESS_X25519 = frozenset(
    {0, 1, _FIELD - 1, _ORDER_8_X25519, 0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F}
)
"""The u of every point of small order on curve and twist (RFC 7748, section 6.1): whoever agrees with one gets zero."""
_USELESS_ED25519 = frozenset({0, 1, _FIELD - 1, _ORDER_8_ED25519, _FIELD - _ORDER_8_ED25519})
"""The y of every point of small order: under one of them, anybody's signature is valid."""


class Secret:
    """Stays in the process that made it: it has no pickle and no informative ``repr``."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} never leaves its process")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def parts(*fields: bytes) -> bytes:
    """Join fields so that no two lists of fields give the same bytes: each behind its length."""
    return b"".join([_LENGTH.pack(len(field)) + field for field in fields])


def derive(secret: bytes, salt: bytes, *info: bytes) -> bytes:
    """One 32-byte key by HKDF-SHA256 (RFC 5869), bound to every part of ``info``."""
    return HKDF(SHA256(), KEY_BYTES, salt=salt, info=parts(*info)).derive(secret)


class Identity(Secret):
    """A party's long-lived Ed25519 signing key (RFC 8032)."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def fresh(cls, entropy: Entropy) -> Identity:
        """Make a new identity from 32 random bytes."""
        return cls(entropy(KEY_BYTES))

    def sign(self, message: bytes) -> bytes:
        """64-byte signature; the caller puts a label and a context into the message."""
        return self._key.sign(message)


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the Ed25519 signature is valid; malformed keys and signatures are simply not."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def can_sign(public: bytes) -> bool:
    """Whether an Ed25519 key may vouch for anything: of the right length, and not of small order."""
    return len(public) == KEY_BYTES and _coordinate(public) not in _USELESS_ED25519


def can_agree(public: bytes) -> bool:
    """Whether an X25519 key leads to a secret: of the right length, and not of small order."""
    return len(public) == KEY_BYTES and _coordinate(public) not in _USELESS_X25519


def _coordinate(public: bytes) -> int:
    """The field element in either kind of key, however it is written; the highest bit is no part of it."""
    return (int.from_bytes(public, "little") & ((1 << 255) - 1)) % _FIELD


class AgreementKey(Secret):
    """One X25519 key pair (RFC 7748)."""

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def fresh(cls, entropy: Entropy) -> AgreementKey:
        """Make a new pair from 32 random bytes."""
        return cls(entropy(KEY_BYTES))

    def agree(self, other: bytes) -> bytes:
        """The shared secret. Raises `ValueError` on a low-order or malformed public key."""
        return self._key.exchange(X25519PublicKey.from_public_bytes(other))

    def private_bytes(self) -> bytes:
        """The raw private key, to be secret-shared and nothing else."""
        return self._key.private_bytes_raw()


class Channel(Secret):
    """One direction between two parties: ChaCha20-Poly1305 (RFC 8439), a number per message.

    The nonce is the number, so a number must never be used twice for different text; `seal`
    refuses a repetition. `open` raises `ValueError` when the box was not made for this place.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._sealed: set[int] = set()

    def seal(self, number: int, header: bytes, text: bytes) -> bytes:
        """Encrypt and authenticate text together with its header (16 bytes longer than text)."""
        if number in self._sealed:
            raise ValueError(f"box {number} of this channel was sealed before")
        self._sealed.add(number)
        return self._aead.encrypt(number.to_bytes(12, "little"), text, header)

    def open(self, number: int, header: bytes, box: bytes) -> bytes:
        """Give the text back, or raise `ValueError`."""
        try:
            return self._aead.decrypt(number.to_bytes(12, "little"), box, header)
        except InvalidTag:
            raise ValueError("a sealed box does not open: altered, or from another place") from None
