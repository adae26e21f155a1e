"""What the ends of a packed Paillier session agree on, and what their messages hold.

Promises: whatever arrives is either read completely or refused with a `ValueError` that says why; the
caller adds whose message it was. Refuses to know: private keys, and in which order messages travel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from protocols.encryption.packing import Packing
from protocols.primitives import ring
from protocols.primitives.keys import derive, parts
from protocols.primitives.keystream import Prg
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.big_numbers import number
from protocols.primitives.paillier.paillier_keys import SPARE_BYTES, PublicKey
from protocols.secure_sum import AGGREGATOR, KEY_DEALER, KEY_HOLDER, Context, MisuseError, PartyId, sha256
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.session import Roster
from protocols.sessions.settings import Settings

SEED_BYTES = 32
MOST_SHARES = 100
"""Among so many sites a partial decryption costs a quarter more than among few; among a thousand, five times."""
_LENGTH = struct.Struct("<I")


class Terms:
    """The sites, the threshold among them, and the key's length: from roster and settings alone."""

    def __init__(
        self, roster: Roster, settings: Settings, helper: PartyId = KEY_HOLDER, demands: Demands = NO_DEMANDS
    ) -> None:
        """Raises `MisuseError` for a roster or key length under which the protocol hides nothing, or too little."""
        if helper not in roster:
            raise MisuseError(f"the roster has no {helper}: this protocol needs one, apart from every site")
        if AGGREGATOR in roster:
            raise MisuseError(f"the {AGGREGATOR} can't be a party: it would add up what it can see")
        settings.check_key_bits()
        self.sites = tuple(party for party in roster if party != helper)
        if helper == KEY_DEALER and len(self.sites) > MOST_SHARES:
            raise MisuseError(
                f"a Paillier key is shared among at most {MOST_SHARES} sites, and here are {len(self.sites)}: "
                "exponents grow with the factorial of their number"
            )
        self.threshold = settings.threshold_for(len(self.sites))
        self.key_bits = settings.key_bits
        self.subgroup = settings.obfuscation == "subgroup"
        if self.subgroup and helper == KEY_DEALER:
            raise MisuseError("a key in shares has primes of its own kind: choose djn, short or textbook obfuscation")
        demands.check_key(self.key_bits)
        demands.check_needed(self.threshold, "who open a sum")
        if helper == KEY_DEALER:  # a key-holder sees both of two sets that are asked about, and opens one
            demands.check_once(self.threshold, len(self.sites))

    def refuse_key(self, public: PublicKey) -> None:
        """Raise `MisuseError` unless the key has the length and is of the kind that was agreed."""
        if public.bits != self.key_bits:
            raise MisuseError(f"the key has {public.bits} bits, the settings say {self.key_bits}")
        if (public.subgroup_base is not None) != self.subgroup:
            raise MisuseError("a subgroup key goes with subgroup obfuscation, and either is useless without the other")

    def packing(self, context: Context, session: bytes) -> Packing:
        """How this sum's vectors are packed. Raises `MisuseError` for a foreign session or cohort."""
        if context.session != session:
            raise MisuseError("this context belongs to another session")
        strangers = [party for party in context.cohort if party not in self.sites]
        if strangers:
            raise MisuseError(f"the cohort names {', '.join(strangers)}: no site of this session")
        return self.packing_of(context.values, context.limbs)

    def packing_of(self, values: int, limbs: int) -> Packing:
        """How vectors of that shape are packed; the guard has room for every site of the session."""
        return Packing(self.key_bits, values, limbs, len(self.sites))

    def refuse_set(self, present: Sequence[PartyId], context: Context) -> None:
        """Raise `ValueError` unless these are enough sites of the cohort, sorted and named once."""
        if list(present) != sorted(set(present)):
            raise ValueError("the present set is not sorted, or names a site twice")
        if not set(present) <= set(context.cohort):
            raise ValueError("the present set names a site outside the cohort")
        if len(present) < self.threshold:
            raise ValueError(f"the present set has {len(present)} sites, the threshold is {self.threshold}")


@dataclass(frozen=True, repr=False)
class Contributions:
    """Asked of every present site: the payloads in the sum, the blind's seed, and what the two must give."""

    seed: bytes
    decision: bytes
    payloads: Mapping[PartyId, bytes]

    def to_bytes(self) -> bytes:
        """Seed, decision, then name and payload of every present site, each length-prefixed."""
        pairs = (field for party in sorted(self.payloads) for field in (party.encode(), self.payloads[party]))
        return parts(self.seed, self.decision, *pairs)

    @classmethod
    def from_bytes(cls, data: bytes) -> Contributions:
        """Read `to_bytes`; the names keep the order they came in."""
        seed, decision, *pairs = _fields(data, least=2)
        if len(seed) != SEED_BYTES or len(decision) != SEED_BYTES:
            raise ValueError("the request does not start with a seed and a digest")
        return cls(bytes(seed), bytes(decision), _table(pairs))


@dataclass(frozen=True, repr=False)
class Mandate:
    """Asked of the key-holder: the blinded ciphertexts, whose sum they are, and who signed that."""

    blinded: bytes
    present: tuple[PartyId, ...]
    consents: Mapping[PartyId, bytes]

    def to_bytes(self) -> bytes:
        """Ciphertexts, present set, then name and consent of every signer, each length-prefixed."""
        names = parts(*(party.encode() for party in self.present))
        pairs = (field for party in sorted(self.consents) for field in (party.encode(), self.consents[party]))
        return parts(self.blinded, names, *pairs)

    @classmethod
    def from_bytes(cls, data: bytes) -> Mandate:
        """Read `to_bytes`; the names keep the order they came in."""
        blinded, names, *pairs = _fields(data, least=2)
        present = tuple(_name(field) for field in _fields(bytes(names), least=0))
        return cls(bytes(blinded), present, _table(pairs))


def decision_digest(blinded: bytes, present: Sequence[PartyId]) -> bytes:
    """What a site signs: these ciphertexts, blinded, are the product over exactly these sites."""
    return sha256(b"secirls paillier decision v1", blinded, *(party.encode() for party in present))


def blinds(public: PublicKey, seed: bytes, context: Context, count: int, prg: Prg) -> list[int]:
    """That many numbers below n, uniform but for 2^-128 and the keystream, from a seed used in this sum alone."""
    width = public.plaintext_bytes + SPARE_BYTES
    key = derive(seed, context.digest, b"secirls paillier blind v1")
    drawn = ring.to_bytes(ring.expand(key, count * width // 8, 1, prg))
    return [value % public.n for value in big_numbers.from_buffer(drawn, width)]


def blinded_product(public: PublicKey, contributions: Sequence[Sequence[int]], blind: Sequence[int]) -> Iterator[int]:
    """Ciphertexts of the sum plus the blind: multiplied site by site, then moved by ``(n + 1) ** blind``.

    The blind needs no obfuscator of its own: it is the plaintext that must become uniform, and the
    product keeps every site's randomness.
    """
    square = public.n_squared
    for column, amount in zip(zip(*contributions, strict=True), blind, strict=True):
        product = public.nude(amount)
        for ciphertext in column:
            product = product * ciphertext % square
        yield product


def product(contributions: Sequence[Sequence[int]], modulus: int) -> list[int]:
    """Products of the sites' ciphertexts, position by position."""
    products = []
    for column in zip(*contributions, strict=True):
        result = number(1)
        for ciphertext in column:
            result = result * ciphertext % modulus
        products.append(result)
    return products


def boxes_to_bytes(boxes: Sequence[bytes]) -> bytes:
    """The dealer's boxes, one for each site in their order, each length-prefixed."""
    return parts(*boxes)


def boxes_from_bytes(data: bytes | memoryview, count: int) -> list[bytes]:
    """Read `boxes_to_bytes`. Raises `ValueError` unless there are exactly that many."""
    boxes = [bytes(field) for field in _fields(bytes(data), least=count)]
    if len(boxes) != count:
        raise ValueError(f"{len(boxes)} boxes were dealt to {count} sites")
    return boxes


def table_from_bytes(data: bytes) -> tuple[bytes, dict[PartyId, bytes]]:
    """A box, then name and payload of every present site in the order they came in, each length-prefixed."""
    box, *pairs = _fields(data, least=1)
    return bytes(box), _table(pairs)


def read_ciphertexts(public: PublicKey, data: bytes | memoryview, count: int, *, proved: bool = False) -> list[int]:
    """Exactly that many well-formed ciphertexts, or `ValueError`.

    ``proved``: a proof of knowledge stands beside them, and whoever verifies it finds what is no unit.
    """
    if len(data) != count * public.ciphertext_bytes:
        raise ValueError(f"{len(data)} bytes can't be {count} ciphertexts of {public.ciphertext_bytes} bytes")
    ciphertexts = big_numbers.from_buffer(data, public.ciphertext_bytes)
    (public.refuse_out_of_range if proved else public.refuse_malformed)(ciphertexts)
    return ciphertexts


def read_plaintexts(public: PublicKey, data: bytes | memoryview, count: int) -> list[int]:
    """Exactly that many numbers below n, or `ValueError`."""
    if len(data) != count * public.plaintext_bytes:
        raise ValueError(f"{len(data)} bytes can't be {count} plaintexts of {public.plaintext_bytes} bytes")
    plaintexts = big_numbers.from_buffer(data, public.plaintext_bytes)
    if any(plaintext >= public.n for plaintext in plaintexts):
        raise ValueError("an opened plaintext is not below the modulus")
    return plaintexts


def _fields(data: bytes, least: int) -> list[memoryview]:
    """Undo `parts`. Raises `ValueError` unless the fields fill the data exactly."""
    fields, at, view = [], 0, memoryview(data)
    while at < len(view):
        if len(view) - at < _LENGTH.size:
            raise ValueError("the message is cut short")
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if len(view) - at < length:
            raise ValueError("the message is cut short")
        fields.append(view[at : at + length])
        at += length
    if len(fields) < least:
        raise ValueError("the message is cut short")
    return fields


def _table(pairs: Sequence[memoryview]) -> dict[PartyId, bytes]:
    if len(pairs) % 2:
        raise ValueError("a name stands without its message")
    table = {_name(name): bytes(body) for name, body in zip(pairs[::2], pairs[1::2], strict=True)}
    if len(table) != len(pairs) // 2:
        raise ValueError("a name stands twice")
    return table


def _name(field: memoryview) -> PartyId:
    try:
        return bytes(field).decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("a name is not ASCII") from None
