"""What one site may add to a sum: how fine, how large, and what it sends in place of numbers that can't be added.

The ring carries finite numbers within a bound alone. A site that said in clear that it can't encode one would answer a
question about itself, outside any sum; and one gene must not stop a fit. So the site sends a sign for that gene: the
bound itself, less noise. The array of a question that carries signs has honest values of a quarter of the bound at
most, over all sites together; a sum with a sign in it is half or more, and is told so.

All others' numbers are in that sum, and it is opened: with another in which nothing is lost it would tell the site's
own. So where a site sends none it sends noise: off a sign a quarter of the bound, else all of it. In the exact profile
that is a billion times wider than a sum of 1e8 of a gene's. Numbers of no gene may be as large as whoever writes a
formula wants: of these honest values are a thousandth of the noise at most. Whoever opens the sum finds the sign, and
puts in the place of the rest what nobody's numbers have a part in. Of many answers with other noise each the mean has
little left, so a site draws it from a secret and the very number that it can't send: it is the same in every session.

Promises: whatever a site holds, what it sends can be encoded; of what is lost at one site nobody's numbers are opened.
Refuses to know: questions, and what their numbers mean.
"""

from __future__ import annotations

import hmac
import math
import secrets
import struct
from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import FRACTION_BITS, Drawn, Layout, largest_bound
from secirls.numerics.arrays import Floats, Mask

EXACT = FRACTION_BITS
"""Fraction bits of the exact profile, in Z_2^128; fewer stand for the compact one, in Z_2^64."""


def limbs(fraction_bits: int) -> int:
    """How many words of 64 bits a number has in the ring of its profile."""
    return 2 if fraction_bits == EXACT else 1


def resolution(parties: int, fraction_bits: int) -> float:
    """By how much the difference of two sums over so many parties may be off from rounding; nothing if exact."""
    return 0.0 if fraction_bits == EXACT else math.ldexp(parties, -fraction_bits)


def largest_summand(parties: int, fraction_bits: int = EXACT) -> float:
    """The largest magnitude that each of so many parties may send, in any array of a query."""
    return largest_bound(parties, fraction_bits, limbs(fraction_bits))


def largest_honest(parties: int, fraction_bits: int = EXACT) -> float:
    """The largest magnitude, in the array that carries the sign, that is no sign: a quarter of the bound in all."""
    return largest_summand(parties, fraction_bits) / (4 * max(parties, 1))


def largest_alone(parties: int, fraction_bits: int = EXACT) -> float:
    """The same where each value carries its own sign: in the exact profile so much less that noise hides it."""
    return largest_honest(parties, fraction_bits) / (_WIDER if fraction_bits == EXACT else 1.0)


_WIDER = 2.0**10


def lost(values: Floats, cohort: int, fraction_bits: int = EXACT) -> Mask:
    """Where an opened sum over a cohort of that size holds a sign."""
    return values > largest_summand(cohort, fraction_bits) / 2


def signed(
    arrays: Mapping[str, Floats], parties: int, fraction_bits: int, carrier: str, not_by_gene: Collection[str]
) -> dict[str, Floats]:
    """A site's arrays as they are encoded: with signs in the array ``carrier``, or without one in each for itself.

    A gene is lost where a value of its is not finite, or beyond the bound (in the carrier: beyond `largest_honest`).
    All its values are sent as zeros then, but for the bound in the carrier. Where the carrier has a second side
    (candidates, say), each of its entries is lost by itself.

    A value that belongs to no gene, in an array ``not_by_gene``, is lost beyond `largest_honest` too, and sent as the
    bound; with it all genes asked about are lost.
    """
    bound, share = largest_summand(parties, fraction_bits), largest_honest(parties, fraction_bits)
    if not carrier:
        alone = largest_alone(parties, fraction_bits)
        return {name: _saturated(array, alone, bound) for name, array in arrays.items()}
    most = {name: share if name == carrier or name in not_by_gene else bound for name in arrays}
    if all(_within(array, most[name]) for name, array in arrays.items()):
        return dict(arrays)
    with np.errstate(invalid="ignore"):
        wrong = {name: ~(np.abs(array) <= most[name]) for name, array in arrays.items()}
    gone: Mask = wrong[carrier].copy()
    for name, beyond in wrong.items():
        sides = 0 if name in not_by_gene else _sides(beyond.shape, gone.shape)
        gone |= _spread(beyond.any(axis=tuple(range(sides, beyond.ndim))), gone.ndim)
    signs = {carrier: gone, **{name: wrong[name] for name in not_by_gene}}
    sent = {name: np.where(sign, bound, arrays[name]) for name, sign in signs.items()}
    return with_stand_ins(
        {**arrays, **sent}, stand_ins({**arrays, **sent}, dict.fromkeys(arrays, bound), carrier, not_by_gene)
    )


StandIns: TypeAlias = Mapping[str, Floats]
"""What stands in arrays for what is lost, by name, in their shapes: the bound where an array carries the sign, else
zero; NaN where nothing is lost. Arrays in which nothing is are missing."""


def stand_ins(
    arrays: Mapping[str, Floats], bounds: Mapping[str, float], carrier: str, not_by_gene: Collection[str]
) -> StandIns:
    """Those of one site's signed arrays, or of an opened sum's, whose largest summands are the ``bounds``."""
    carriers = {carrier, *not_by_gene} if carrier else set(arrays)
    signs = {name: arrays[name] > bounds[name] / 2 for name in carriers}
    found = {name: np.where(sign, bounds[name], np.nan) for name, sign in signs.items() if sign.any()}
    if carrier and carrier in found:
        gone = signs[carrier]
        for name in arrays.keys() - carriers:
            # An array with fewer sides than the carrier belongs to all of a gene's entries, and goes with the last.
            sides = _sides(arrays[name].shape, gone.shape)
            mine = gone.all(axis=tuple(range(sides, gone.ndim)))
            if mine.any():
                found[name] = np.broadcast_to(
                    _spread(np.where(mine, 0.0, np.nan), arrays[name].ndim), arrays[name].shape
                )
    return found


def with_stand_ins(arrays: Mapping[str, Floats], found: StandIns) -> dict[str, Floats]:
    """The arrays with what stands in them for what is lost."""
    return {
        name: np.where(np.isnan(found[name]), array, found[name]) if name in found else array
        for name, array in arrays.items()
    }


def hide(vector: NDArray[np.uint64], layout: Layout, found: StandIns, drawn: Drawn | None = None) -> None:
    """Take noise off a site's encoded vector, in place, where something stands in it for what is lost.

    Off a sign a quarter of it at most, so that it is still told. Bounds are powers of two. The noise is ``drawn`` as by
    `lasting`, or anew.
    """
    bits = {}
    for field in layout.fields:
        if field.name in found:
            wide = round(math.log2(field.bound)) + field.fraction_bits
            values = found[field.name]
            bits[field.name] = np.where(np.isnan(values), 0, np.where(values > 0, wide - _SIGN_BITS, wide))
    layout.take_noise_off(vector, bits, drawn)


def lasting(secret: bytes, layout: Layout, arrays: Mapping[str, Floats]) -> Drawn:
    """Random bytes that nobody without the secret can find, the same whenever a gene's very numbers are answered again.

    They follow from each number of a site's ``arrays`` and its place among its gene's. What is no number, which genes
    have alike, has others each time.
    """
    widths = {field.name: round(math.log2(field.bound)) + field.fraction_bits for field in layout.fields}

    def drawn(name: str, places: NDArray[np.intp], size: int) -> bytes:
        array = np.ascontiguousarray(arrays[name], dtype="<f8")
        inside = places % max(math.prod(array.shape[1:]), 1)
        about = name.encode() + struct.pack("<q", widths[name])
        return b"".join(
            hmac.digest(secret, about + struct.pack("<qd", at, value), "sha256")[:size]
            if math.isfinite(value)
            else secrets.token_bytes(size)
            for at, value in zip(inside.tolist(), array.reshape(-1)[places].tolist(), strict=True)
        )

    return drawn


_SIGN_BITS = 2
"""So many fewer bits has the noise on a sign than its bound."""


def _within(array: Floats, most: float) -> bool:
    """Whether all values are finite and within a magnitude; without an array of their size beside them."""
    return not array.size or bool(array.max() <= most and array.min() >= -most)


def _saturated(array: Floats, most: float, bound: float) -> Floats:
    """The array with the bound where a value is not finite or too large."""
    if _within(array, most):
        return array
    with np.errstate(invalid="ignore"):
        saturated: Floats = np.where(np.abs(array) <= most, array, bound)
    return saturated


def _sides(shape: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many leading sides two shapes have in common."""
    equal = [a == b for a, b in zip(shape, other, strict=False)]
    return equal.index(False) if False in equal else len(equal)


def _spread(mask: Mask | np.bool_, sides: int) -> Mask:
    """The mask with sides of one behind its own, so that it has so many."""
    return np.reshape(mask, np.shape(mask) + (1,) * (sides - np.ndim(mask)))
