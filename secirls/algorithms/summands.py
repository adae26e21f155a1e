"""What one site may add to a sum: how fine, how large, and what it sends in place of numbers that can't be added.

The ring carries finite numbers within a bound alone. A site that said in clear that it can't encode one would answer a
question about itself, outside any sum; and one gene must not stop a fit. So the site sends a sign for that gene: the
bound itself. The array of a question that carries signs has honest values of a quarter of the bound at most, over all
sites together; a sum with a sign in it is three quarters or more, and is told from one without at half.

Promises: whatever a site holds, what it sends can be encoded. Refuses to know: questions, and what their numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from protocols.fixed_point import FRACTION_BITS, largest_bound
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

    A value that belongs to no gene, in an array ``not_by_gene``, loses all genes asked about, and its array is zeros.
    """
    bound, share = largest_summand(parties, fraction_bits), largest_honest(parties, fraction_bits)
    if not carrier:
        return {name: _saturated(array, share, bound) for name, array in arrays.items()}
    most = {name: share if name == carrier else bound for name in arrays}
    if all(_within(array, most[name]) for name, array in arrays.items()):
        return dict(arrays)
    with np.errstate(invalid="ignore"):
        wrong = {name: ~(np.abs(array) <= most[name]) for name, array in arrays.items()}
    gone: Mask = wrong[carrier].copy()
    sides = {name: 0 if name in not_by_gene else _sides(a.shape, gone.shape) for name, a in arrays.items()}
    for name, beyond in wrong.items():
        gone |= _spread(beyond.any(axis=tuple(range(sides[name], beyond.ndim))), gone.ndim)
    sent = {}
    for name, array in arrays.items():
        # An array with fewer sides than the carrier belongs to all of a gene's entries, and goes with the last.
        mine = gone.all(axis=tuple(range(sides[name], gone.ndim))) if sides[name] else wrong[name].any()
        sent[name] = np.where(_spread(mine, array.ndim), bound if name == carrier else 0.0, array)
    return sent


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
