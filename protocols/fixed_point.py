"""Between float64 and the ring: the one rounding of the project, and the layout both ends agree on.

Promises: a sum of encoded values does not depend on order, worker, protocol or machine, and decodes
to the correctly rounded exact sum of what was encoded. Refuses NaN, infinities and anything beyond a
field's declared bound: it never clips. Refuses to know: what the fields mean.

Long vectors go through `compiled_codec`, whose bits are those of the plain `encode` and `decode` here.
Profile ``exact``: Z_2^128, two's complement, 64 fraction bits; every float64 of magnitude 2^-11 or
more is represented without error. Profile ``compact``: Z_2^64 with fewer fraction bits.
"""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.primitives import linear_hash, ring
from protocols.primitives.keys import parts
from protocols.secure_sum import IntegrityError, MisuseError, Vector, sha256

FRACTION_BITS = 64
COMPACT = range(8, 33)
"""Fraction bits that a layout of one limb may have."""
HEADROOM_BITS = {1: 62, 2: 126}
"""A full sum stays below 2^this, which leaves room for the sign and for noticing a wrong mask."""

_LIMB = 64


Drawn: TypeAlias = Callable[[str, NDArray[np.intp], int], bytes]
"""Random bytes for elements of a field: from its name, their places in it, and how many bytes each takes."""


@dataclass(frozen=True)
class Field:
    """One named array of a layout: its shape, and the largest magnitude a party may send."""

    name: str
    shape: tuple[int, ...]
    bound: float
    fraction_bits: int = FRACTION_BITS

    def __post_init__(self) -> None:
        if not self.name or not self.bound > 0 or not math.isfinite(self.bound):
            raise MisuseError(f"field {self.name!r} needs a name and a finite bound above zero")
        if not 0 <= self.fraction_bits <= FRACTION_BITS or any(side < 0 for side in self.shape):
            raise MisuseError(f"field {self.name!r} needs 0 to {FRACTION_BITS} fraction bits and sides >= 0")

    @property
    def values(self) -> int:
        """How many numbers the field holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """What a vector's elements are, in order: public, agreed, and bound into every key by its digest.

    `binding` is a digest of whatever else the parties must agree on (the query and its arrays).
    """

    fields: tuple[Field, ...]
    limbs: int = 2
    binding: bytes = b""

    def __post_init__(self) -> None:
        if self.limbs not in HEADROOM_BITS:
            raise MisuseError("a layout has one limb (Z_2^64) or two (Z_2^128)")
        if len({field.name for field in self.fields}) != len(self.fields):
            raise MisuseError("two fields of a layout have the same name")

    @cached_property
    def values(self) -> int:
        """Length of the vector."""
        return sum(field.values for field in self.fields)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over ring, fields and binding."""
        described = [
            parts(
                field.name.encode(),
                struct.pack("<dQ", field.bound, field.fraction_bits),
                struct.pack(f"<{len(field.shape)}Q", *field.shape),
            )
            for field in self.fields
        ]
        return sha256(b"secirls layout v1", struct.pack("<Q", self.limbs), self.binding, *described)

    def check_headroom(self, parties: int) -> None:
        """Raise `MisuseError` unless that many parties at their bounds still fit into the ring."""
        for field in self.fields:
            needed = math.log2(field.bound) + field.fraction_bits + math.log2(max(parties, 1))
            if needed > HEADROOM_BITS[self.limbs]:
                raise MisuseError(
                    f"field {field.name!r}: {parties} parties within {field.bound:g} at {field.fraction_bits} "
                    f"fraction bits need {needed:.1f} bits, the ring has {HEADROOM_BITS[self.limbs]}"
                )

    def encode(self, arrays: Mapping[str, NDArray[np.float64]], room: int = 0, out: Vector | None = None) -> Vector:
        """Named float64 arrays to one vector ``(values + room, limbs)``, with zeros for whatever else goes behind them.

        Into ``out``, contiguous and of that shape, if it is given.

        Raises `MisuseError` naming field and position for a wrong shape, a NaN, or a magnitude
        beyond the field's bound.
        """
        if set(arrays) != {field.name for field in self.fields}:
            raise MisuseError(f"the layout has fields {[f.name for f in self.fields]}, not {sorted(arrays)}")
        vector = np.empty((self.values + room, self.limbs), dtype=np.uint64) if out is None else out
        if vector.shape != (self.values + room, self.limbs):
            raise MisuseError(f"the layout does not fit into a vector of shape {vector.shape}")
        vector[self.values :] = 0
        start = 0
        for field in self.fields:
            array = np.ascontiguousarray(arrays[field.name], dtype=np.float64)
            if array.shape != field.shape:
                raise MisuseError(f"field {field.name!r} has shape {array.shape}, the layout says {field.shape}")
            _check_bound(field, array)
            part = vector[start : start + field.values]
            _encode_into(array.reshape(-1), field.fraction_bits, part)
            start += field.values
        return vector

    def take_noise_off(self, vector: Vector, bits: Mapping[str, NDArray[np.intp]], drawn: Drawn | None = None) -> None:
        """Subtract a number below 2^bits, uniform, from each element of some fields; none at 0 bits.

        Anew, or as ``drawn`` for these elements of a field: 8 bytes a limb and element.
        """
        start = 0
        for field in self.fields:
            asked = bits[field.name].reshape(-1) if field.name in bits else np.zeros(0, dtype=np.intp)
            places = np.flatnonzero(asked)
            if places.size:
                hidden = vector[start + places]
                told = None if drawn is None else drawn(field.name, places, 8 * self.limbs)
                ring.subtract_into(hidden, _noise(asked[places], self.limbs, told))
                vector[start + places] = hidden
            start += field.values

    def decode(self, vector: Vector, parties: int) -> dict[str, NDArray[np.float64]]:
        """An opened sum over that many parties back to named arrays, each correctly rounded.

        Raises `IntegrityError` where a sum is larger than that many parties could have made it.
        """
        if vector.shape != (self.values, self.limbs):
            raise MisuseError(f"the sum has shape {vector.shape}, the layout {(self.values, self.limbs)}")
        arrays, start = {}, 0
        for field in self.fields:
            array = _decode(vector[start : start + field.values], field.fraction_bits)
            limit = field.bound * parties
            if array.size and np.abs(array).max() > limit:
                raise IntegrityError(
                    f"field {field.name!r} of the opened sum exceeds what {parties} parties can send: "
                    "a mask is missing, the cohort is wrong, or a payload was altered"
                )
            arrays[field.name] = array.reshape(field.shape)
            start += field.values
        return arrays


COMPILED_FROM = 4096
"""Values from which the compiled pass pays; below it nothing is compiled or loaded."""


def _encode_into(values: NDArray[np.float64], fraction_bits: int, out: Vector) -> None:
    if values.size < COMPILED_FROM:
        out[:] = encode(values, fraction_bits, out.shape[1])
        return
    from protocols.primitives import compiled_codec

    compiled_codec.encode_into(values, fraction_bits, out)


def _decode(vector: Vector, fraction_bits: int) -> NDArray[np.float64]:
    if vector.shape[0] < COMPILED_FROM:
        return decode(vector, fraction_bits)
    from protocols.primitives import compiled_codec

    return compiled_codec.decode(vector, fraction_bits)


@cache
def warm_up() -> None:
    """Compile the long-vector passes, or load them from the cache."""
    layout = Layout((Field("warm", (COMPILED_FROM,), 1.0),))
    layout.decode(layout.encode({"warm": np.zeros(COMPILED_FROM)}), 1)
    ring.warm_up()
    linear_hash.warm_up()


def _noise(bits: NDArray[np.intp], limbs: int, told: bytes | None = None) -> Vector:
    """Ring elements that are uniform among those of so many ``bits``, ``(values,)``: ``(values, limbs)``.

    Drawn anew, or of uniform bytes that are ``told``.
    """
    told = secrets.token_bytes(8 * limbs * bits.size) if told is None else told
    drawn = np.frombuffer(told, dtype="<u8").reshape(-1, limbs).astype(np.uint64)
    kept = np.clip(bits[:, None] - 64 * np.arange(limbs), 0, 64).astype(np.uint64)
    half = kept >> np.uint64(1)  # a shift by 64 would wrap
    masks = ~np.left_shift(np.left_shift(np.full_like(drawn, ~np.uint64(0)), half), kept - half)
    drawn &= masks
    return drawn


def largest_bound(parties: int, fraction_bits: int = FRACTION_BITS, limbs: int = 2) -> float:
    """The largest power of two that every one of that many parties may send."""
    spare = HEADROOM_BITS[limbs] - fraction_bits - max(parties - 1, 0).bit_length()
    return math.ldexp(1.0, spare)


def _check_bound(field: Field, array: NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore"):
        if not array.size or np.abs(array).max() <= field.bound:  # the largest is NaN where one of them is
            return
        where: Sequence[int] = [int(i) for i in np.argwhere(~(np.abs(array) <= field.bound))[0]]
    raise MisuseError(
        f"field {field.name!r} at {tuple(where)} is not a finite number within {field.bound:g}: it can't be encoded"
    )


def encode(values: NDArray[np.float64], fraction_bits: int, limbs: int) -> Vector:
    """``round(x * 2^fraction_bits)`` half to even, in two's complement: ``(values,)`` to ``(values, limbs)``.

    The caller has checked that the values are finite and fit. Every step but the rounding is exact: products with
    powers of two, and a float less its own high part.
    """
    magnitude = np.abs(values) * 2.0**fraction_bits
    high = np.floor(magnitude * 2.0**-_LIMB)
    low = np.rint(magnitude - high * 2.0**_LIMB).astype(np.uint64)
    negative = values < 0
    ones = -negative.view(np.int8).astype(np.int64).view(np.uint64)
    out = np.empty((values.size, limbs), dtype=np.uint64)
    np.subtract(low ^ ones, ones, out=out[:, 0])
    if limbs == 2:
        np.add(high.astype(np.uint64) ^ ones, negative & (low == 0), out=out[:, 1])
    return out


def decode(vector: Vector, fraction_bits: int) -> NDArray[np.float64]:
    """Two's complement ring elements ``(values, limbs)`` to float64 ``(values,)``, correctly rounded."""
    low, top = vector[:, 0], vector[:, -1]
    negative = (top >> np.uint64(_LIMB - 1)).astype(bool)
    ones = -negative.view(np.int8).astype(np.int64).view(np.uint64)
    below = (low ^ ones) - ones
    if vector.shape[1] == 1:
        return _signed(negative, np.ldexp(below.astype(np.float64), -fraction_bits))
    above = (top ^ ones) + (negative & (low == 0))
    # Bring the leading bits of the magnitude into one word, 63 or 64 of them; a sticky last bit stands for all that
    # fall off, so that the one conversion to float64 rounds exactly once.
    width = np.frexp(above.astype(np.float64))[1].astype(np.int64)
    over = width.astype(np.uint64)
    back = np.uint64(_LIMB) - over
    leading = _left(above, back) | _right(below, over)
    sticky = _left(below, back) != 0
    return _signed(negative, np.ldexp((leading | sticky).astype(np.float64), width - fraction_bits))


def _signed(negative: NDArray[np.bool_], magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """The magnitudes with their signs."""
    return np.where(negative, -magnitude, magnitude).astype(np.float64, copy=False)


def _left(word: NDArray[np.uint64], amount: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """``word << amount`` for amounts up to 64, at which the machine's shift wraps: in two steps."""
    half = amount >> np.uint64(1)
    shifted: NDArray[np.uint64] = np.left_shift(np.left_shift(word, half), amount - half)
    return shifted


def _right(word: NDArray[np.uint64], amount: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """``word >> amount`` for amounts up to 64."""
    half = amount >> np.uint64(1)
    shifted: NDArray[np.uint64] = np.right_shift(np.right_shift(word, half), amount - half)
    return shifted
