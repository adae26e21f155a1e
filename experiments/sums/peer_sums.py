"""One secure sum of the same floats by each of several packages, called as they are published.

Promises: each way does what its package's own federation does for one sum in which nobody falls silent: a party's work
is timed for one party, the aggregator's and the key-holder's apart. Keys that a key-holder or a trusted setup makes
once are not timed. Refuses to know: how rows are kept and drawn.

All take vectors between -1 and 1 and clip there: every peer is given the best scale there is, which in a real
federation nobody knows. `CAPS` says who is slow enough to be measured on fewer values.
"""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from experiments.groundwork.record import SkippedError
from protocols import fixed_point, run
from protocols.choice import helpers
from protocols.sessions.settings import Settings
from protocols.table import Table
from secirls.numerics.arrays import Floats

T = TypeVar("T")

FLOWER_LEVELS, FLOWER_MODULUS = 1 << 22, 1 << 32
"""Its defaults."""
PHE_BITS: Final = 2048


_DOORS: Final = {"flwr": "flwr.common.secure_aggregation.secaggplus_utils", "declearn": "declearn.secagg.masking"}
"""What of a package has to be imported for its warnings to be over."""


@dataclass(frozen=True)
class Summed:
    """What one sum cost, CPU seconds and bytes, and what came out."""

    total: Floats
    keys: float
    """One party's part in exchanging keys for this sum, where the package does that."""
    protect: float
    """One party: from floats to the message it sends."""
    aggregate: float
    """Aggregator and key-holder: from messages to the sum as floats."""
    bytes_up: float
    """One party's messages after it has its vector; keys and shares sent ahead are left out."""


Way: TypeAlias = Callable[[Sequence[Floats]], Summed]


class Clock:
    """CPU seconds of this process between calls."""

    def __init__(self) -> None:
        self._last = time.process_time()

    def lap(self) -> float:
        """Since the last lap."""
        now = time.process_time()
        spent, self._last = now - self._last, now
        return spent


def need(package: str) -> None:
    """Import a package, whatever that warns of; raise `SkippedError` where it is missing."""
    if find_spec(package) is None:
        raise SkippedError(f"{package} is not installed: pip install -e '.[peers]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module(_DOORS.get(package, package))


def installed(package: str) -> str:
    """The version measured, for the rows."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


# --- ours --------------------------------------------------------------------------------------------------------


def ours(protocol: str, parts: Sequence[Floats], *, key_bits: int) -> Summed:
    """One sum by a protocol of this package, exact profile, from hello to open with all messages."""
    names = [f"site{number:02d}" for number in range(len(parts))]
    table = run.sit_down(protocol, names, Settings(rounds_per_batch=1, key_bits=key_bits))
    spent = _by_role(table)
    run.meet(table)
    clock = Clock()
    vectors = {
        name: fixed_point.encode(part, fixed_point.FRACTION_BITS, 2) for name, part in zip(names, parts, strict=True)
    }
    encoding = clock.lap()
    opened = run.add_up(table, vectors)
    clock.lap()
    total = fixed_point.decode(opened.vector, fixed_point.FRACTION_BITS)
    at_sites = {verb: seconds for (role, verb), seconds in spent.items() if role == "site"}
    of_aggregator = sum(
        seconds for (role, verb), seconds in spent.items() if role != "site" and verb in ("combine", "open", "assist")
    )
    each = len(parts)
    sent = sum(
        len(message.data)
        for message in table.messages
        if message.leg in ("payload", "reply") and message.party in names
    )
    return Summed(
        total,
        (at_sites.get("hello", 0.0) + at_sites.get("meet", 0.0)) / each,
        (encoding + at_sites["protect"] + at_sites.get("assist", 0.0)) / each,
        of_aggregator + clock.lap(),
        sent / each,
    )


def _by_role(table: Table) -> dict[tuple[str, str], float]:
    """Wrap the verbs of everybody at a table; gives CPU seconds by role and verb."""
    spent: dict[tuple[str, str], float] = {}

    def wrapped(owner: Any, role: str, verb: str) -> None:
        call = getattr(owner, verb)

        def timing(*given: Any) -> Any:
            clock = Clock()
            result = call(*given)
            spent[role, verb] = spent.get((role, verb), 0.0) + clock.lap()
            return result

        setattr(owner, verb, timing)

    for name, party in table.parties.items():
        role = name if name in helpers(table.protocol) else "site"
        for verb in ("hello", "meet", "protect", "assist"):
            wrapped(party, role, verb)
    for verb in ("combine", "open"):
        wrapped(table.collector, "aggregator", verb)
    return spent


# --- theirs ------------------------------------------------------------------------------------------------------


def flower(parts: Sequence[Floats]) -> Summed:
    """Flower's SecAgg+ functions in the order of its client and its workflow, weights left out, its default ranges.

    Every party has every other for a neighbour and the threshold is just above two thirds, as in ``pairwise``.
    """
    need("flwr")
    from flwr.common import ndarray_to_bytes
    from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
    from flwr.common.secure_aggregation.quantization import dequantize, quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes

    everyone = range(len(parts))
    threshold, shape = 2 * len(parts) // 3 + 1, [parts[0].shape]
    clock = Clock()
    mask_keys, box_keys = [generate_key_pairs() for _ in everyone], [generate_key_pairs() for _ in everyone]
    seeds = [os.urandom(32) for _ in everyone]
    shares = [create_shares(seed, threshold, len(parts)) for seed in seeds]
    boxes = {}
    for me in everyone:
        key_shares = create_shares(private_key_to_bytes(mask_keys[me][0]), threshold, len(parts))
        for other in everyone:
            if other != me:
                plaintext = share_keys_plaintext_concat(me, other, shares[me][other], key_shares[other])
                shared = generate_shared_key(box_keys[me][0], box_keys[other][1])
                boxes[me, other] = shared, encrypt(shared, plaintext)
    for shared, box in boxes.values():
        decrypt(shared, box)
    keys = clock.lap()
    masked = []
    for me in everyone:
        vector = quantize([parts[me]], 1.0, FLOWER_LEVELS)
        vector = arithmetic.parameters_addition(vector, pseudo_rand_gen(seeds[me], FLOWER_MODULUS, shape))
        for other in everyone:
            if other != me:
                seed = generate_shared_key(mask_keys[me][0], mask_keys[other][1])
                mask = pseudo_rand_gen(seed, FLOWER_MODULUS, shape)
                add = arithmetic.parameters_addition if me > other else arithmetic.parameters_subtraction
                vector = add(vector, mask)
        masked.append(arithmetic.parameters_mod(vector, FLOWER_MODULUS))
    messages = [ndarray_to_bytes(vector[0]) for vector in masked]
    protect = clock.lap()
    total = masked[0]
    for vector in masked[1:]:
        total = arithmetic.parameters_addition(total, vector)
    for me in everyone:
        seed = combine_shares(shares[me][:threshold])
        total = arithmetic.parameters_subtraction(total, pseudo_rand_gen(seed, FLOWER_MODULUS, shape))
    total = arithmetic.parameters_mod(total, FLOWER_MODULUS)
    opened = dequantize(total, 1.0, FLOWER_LEVELS)[0] - (len(parts) - 1)
    return Summed(opened, keys / len(parts), protect / len(parts), clock.lap(), len(messages[0]))


def declearn_masking(parts: Sequence[Floats]) -> Summed:
    """Declearn's masks from seeds shared by pairs, default 64 bits; its X3DH handshake is over a network, left out."""
    need("declearn")
    from declearn.secagg.masking import MaskingDecrypter, MaskingEncrypter

    everyone = range(len(parts))
    seeds = {(one, two): secrets.randbits(128) for two in everyone for one in range(two)}
    encrypters = [
        MaskingEncrypter(
            [seed for (one, _), seed in seeds.items() if one == me],
            [seed for (_, two), seed in seeds.items() if two == me],
            clipval=1.0,
        )
        for me in everyone
    ]
    return _declearn(parts, encrypters, MaskingDecrypter(len(parts), clipval=1.0), 8)


def declearn_joye_libert(parts: Sequence[Floats]) -> Summed:
    """Declearn's Joye-Libert sums, default 1023-bit modulus and 64 bits of quantisation; keys come from a setup."""
    need("declearn")
    from declearn.secagg.joye_libert import DEFAULT_BIPRIME, JoyeLibertDecrypter, JoyeLibertEncrypter

    keys = [secrets.randbits(2 * DEFAULT_BIPRIME.bit_length()) for _ in parts]
    encrypters = [JoyeLibertEncrypter(key, clipval=1.0) for key in keys]
    size = -(-2 * DEFAULT_BIPRIME.bit_length() // 8)
    return _declearn(parts, encrypters, JoyeLibertDecrypter(-sum(keys), len(parts), clipval=1.0), size)


def _declearn(parts: Sequence[Floats], encrypters: Sequence[Any], decrypter: Any, bytes_each: int) -> Summed:
    clock = Clock()
    hidden = [
        encrypter.encrypt_uint_list(encrypter.quantizer.quantize_list(part.tolist()))
        for encrypter, part in zip(encrypters, parts, strict=True)
    ]
    protect = clock.lap()
    sums = [decrypter.sum_encrypted(list(column)) for column in zip(*hidden, strict=True)]
    total = decrypter.decrypt_numpy_array(sums, (list(parts[0].shape), "float64"))
    return Summed(total, 0.0, protect / len(parts), clock.lap(), bytes_each * parts[0].size)


def naive_phe(parts: Sequence[Floats]) -> Summed:
    """Python-paillier (phe) as its tutorial does it: one float per ciphertext; a key-holder decrypts."""
    need("phe")
    from phe import paillier  # noqa: TID251 - a peer here, not a primitive

    public, private = paillier.generate_paillier_keypair(n_length=PHE_BITS)
    clock = Clock()
    hidden = [[public.encrypt(value) for value in part.tolist()] for part in parts]
    protect = clock.lap()
    total = [private.decrypt(sum(column[1:], start=column[0])) for column in zip(*hidden, strict=True)]
    return Summed(
        np.array(total, dtype=np.float64), 0.0, protect / len(parts), clock.lap(), 2 * PHE_BITS // 8 * parts[0].size
    )


def tenseal_ckks(parts: Sequence[Floats]) -> Summed:
    """TenSEAL's CKKS with its tutorial's parameters (ring of 8192, scale 2^40); a key-holder decrypts."""
    need("tenseal")
    import tenseal

    degree = 8192
    holder = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=degree, coeff_mod_bit_sizes=[60, 40, 40, 60])
    holder.global_scale = 2**40
    public = tenseal.context_from(holder.serialize(save_secret_key=False))
    size, slots = parts[0].size, degree // 2
    starts = range(0, size, slots)
    clock = Clock()
    messages = [
        [tenseal.ckks_vector(public, part[start : start + slots].tolist()).serialize() for start in starts]
        for part in parts
    ]
    protect = clock.lap()
    total = []
    for column in zip(*messages, strict=True):
        added = tenseal.ckks_vector_from(public, column[0])
        for message in column[1:]:
            added += tenseal.ckks_vector_from(public, message)
        added.link_context(holder)
        total += added.decrypt()
    sent = sum(len(message) for message in messages[0])
    return Summed(np.array(total[:size], dtype=np.float64), 0.0, protect / len(parts), clock.lap(), sent)


PACKAGES: Final[Mapping[str, str]] = {
    "Flower SecAgg+": "flwr",
    "declearn masking": "declearn",
    "declearn Joye-Libert": "declearn",
    "TenSEAL CKKS": "tenseal",
    "phe, a float each": "phe",
}
"""Whose package a peer is."""

THEIRS: Final[Mapping[str, Way]] = {
    "Flower SecAgg+": flower,
    "declearn masking": declearn_masking,
    "declearn Joye-Libert": declearn_joye_libert,
    "TenSEAL CKKS": tenseal_ckks,
    "phe, a float each": naive_phe,
}

OURS: Final = ("plain", "additive", "pairwise", "paillier")

CAPS: Final[Mapping[str, int]] = {"phe, a float each": 100, "declearn Joye-Libert": 300, "paillier": 6000}
"""Most values that are measured; more are told by cost per value."""
