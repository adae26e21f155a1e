"""Eight large numbers multiplied side by side, by the integer fused multiply-add of AVX-512 (IFMA).

Promises: residues in Montgomery's form (P. L. Montgomery, Modular multiplication without trial division, Math. Comp.
44, 1985), the same as plain arithmetic gives (the tests hold it to that). Refuses to know: which of them is a secret,
and processors without these instructions: ask `available` first. Nothing here runs in constant time.

A *lane* is one of eight numbers; *lanes* are ``(limbs, 8)`` uint64, limbs of 52 bits, lowest first; *numbers* are
``(..., limbs)``. All are below twice the modulus, and ``R = 2 ** (52 * limbs)`` is at least four times it, so that
products need no last subtraction (C. D. Walter, Montgomery exponentiation needs no final subtractions, Electron. Lett.
35, 1999). ``scratch`` is room for so many lanes; no two that a function is given overlap.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return, call-arg"
# mypy: no-warn-unreachable

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped, unused-ignore]
from numba.core import cgutils, types
from numba.extending import intrinsic

from protocols.primitives.compiling import compiled

LANES = 8
"""How many numbers stand side by side, in"""
LIMB = 52
"""limbs of so many bits."""
MOST_BITS = 1000 * LIMB - 2
"""Of a modulus. A thousand times four halves of products, with what is carried into them, stay below 2^64."""

_WORD, _VECTOR = ir.IntType(64), ir.VectorType(ir.IntType(64), LANES)


@cache
def available() -> bool:
    """Whether this processor has the instructions."""
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM knows no features of this kind of processor
        return False
    return bool(features.get("avx512f") and features.get("avx512ifma"))


@intrinsic
def _multiply(_context, out, a, b, modulus, inverse):  # noqa: ANN001, ANN202
    """``a * b / R``, lane by lane, into ``out``, which is neither.

    ``modulus`` are limbs, ``inverse`` is its negative inverse modulo 2^52. Limb by limb of ``a``: that limb's product
    with all of ``b`` is added to what is in ``out``, and the multiple of the modulus that makes its lowest limb vanish.
    Carries wait in the upper 12 bits of each word, room for the four halves of products that each limb adds, until the
    end.
    """
    return types.void(out, a, b, modulus, inverse), _emit


def _emit(context, builder, signature, values):  # noqa: ANN001, ANN202
    out, a, b, modulus = (
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[:4], values[:4], strict=True)
    )
    limbs = cgutils.unpack_tuple(builder, modulus.shape)[0]
    rows = {
        name: builder.bitcast(array.data, _VECTOR.as_pointer()) for name, array in zip("oab", (out, a, b), strict=True)
    }
    halves = {
        half: cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.x86.avx512.vpmadd52{half}.uq.512"
        )
        for half in ("l", "h")
    }

    def row(name, at):  # noqa: ANN001, ANN202
        return builder.load(builder.gep(rows[name], [at]), align=8)

    def put(at, value):  # noqa: ANN001, ANN202
        builder.store(value, builder.gep(rows["o"], [at]), align=8)

    def splat(word):  # noqa: ANN001, ANN202
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), word, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), mask)

    def modulus_at(at):  # noqa: ANN001, ANN202
        return splat(builder.load(builder.gep(modulus.data, [at])))

    def add(to, half, x, y):  # noqa: ANN001, ANN202
        return builder.call(halves[half], [to, x, y])

    zero, one = ir.Constant(_WORD, 0), ir.Constant(_WORD, 1)
    nothing = ir.Constant(_VECTOR, [0] * LANES)
    limb_bits, limb_mask = (ir.Constant(_VECTOR, [value] * LANES) for value in (LIMB, (1 << LIMB) - 1))
    last, inverse = builder.sub(limbs, one), splat(values[4])

    with cgutils.for_range(builder, limbs, intp=_WORD) as loop:
        put(loop.index, nothing)
    with cgutils.for_range(builder, limbs, intp=_WORD) as outer:
        digit, low_b, low_n = row("a", outer.index), row("b", zero), modulus_at(zero)
        low = add(row("o", zero), "l", digit, low_b)
        multiple = add(nothing, "l", low, inverse)
        carry = builder.lshr(add(low, "l", multiple, low_n), limb_bits)
        before_b, before_n, waiting = (cgutils.alloca_once(builder, _VECTOR) for _ in range(3))
        for place, value in ((before_b, low_b), (before_n, low_n), (waiting, carry)):
            builder.store(value, place)
        with cgutils.for_range_slice(builder, one, limbs, one, _WORD) as (at, _):
            this_b, this_n = row("b", at), modulus_at(at)
            moved = builder.add(row("o", at), builder.load(waiting))
            moved = add(moved, "l", digit, this_b)
            other = add(nothing, "l", multiple, this_n)
            moved = add(moved, "h", digit, builder.load(before_b))
            other = add(other, "h", multiple, builder.load(before_n))
            put(builder.sub(at, one), builder.add(moved, other))
            for place, value in ((before_b, this_b), (before_n, this_n), (waiting, nothing)):
                builder.store(value, place)
        top = add(add(nothing, "h", digit, builder.load(before_b)), "h", multiple, builder.load(before_n))
        put(last, builder.add(top, builder.load(waiting)))
    carried = cgutils.alloca_once_value(builder, nothing)
    with cgutils.for_range(builder, limbs, intp=_WORD) as loop:
        whole = builder.add(row("o", loop.index), builder.load(carried))
        put(loop.index, builder.and_(whole, limb_mask))
        builder.store(builder.lshr(whole, limb_bits), carried)
    return context.get_dummy_value()


@compiled()
def split(words, out):  # noqa: ANN001, ANN201
    """Words of 64 bits, lowest first, to limbs: ``(numbers, words)`` to ``(numbers, limbs)``."""
    wide, mask = np.uint64(64), np.uint64((1 << LIMB) - 1)
    for number in range(words.shape[0]):
        for limb in range(out.shape[1]):
            at, shift = LIMB * limb // 64, np.uint64(LIMB * limb % 64)
            value = words[number, at] >> shift
            if shift and at + 1 < words.shape[1]:
                value |= words[number, at + 1] << (wide - shift)
            out[number, limb] = value & mask


@compiled()
def join(limbs, out):  # noqa: ANN001, ANN201
    """Undo `split`, into zeros; what lies beyond the last word must be none."""
    wide = np.uint64(64)
    for number in range(limbs.shape[0]):
        for limb in range(limbs.shape[1]):
            at, shift = LIMB * limb // 64, np.uint64(LIMB * limb % 64)
            out[number, at] |= limbs[number, limb] << shift
            if shift and at + 1 < out.shape[1]:
                out[number, at + 1] |= limbs[number, limb] >> (wide - shift)


@compiled()
def _gather(lanes, lane, number):  # noqa: ANN001, ANN202
    for limb in range(number.size):
        lanes[limb, lane] = number[limb]


@compiled()
def _scatter(number, lanes, lane):  # noqa: ANN001, ANN202
    for limb in range(number.size):
        number[limb] = lanes[limb, lane]


@compiled()
def _spread(lanes, number):  # noqa: ANN001, ANN202
    for limb in range(number.size):
        lanes[limb, :] = number[limb]


@compiled()
def scale(numbers, factor, modulus, inverse, out, scratch):  # noqa: ANN001, ANN201
    """``number * factor / R`` of every number, into ``out``; ``scratch`` is ``(3, limbs, 8)``."""
    lanes, product, factors = scratch[0], scratch[1], scratch[2]
    _spread(factors, factor)
    for first in range(0, numbers.shape[0], LANES):
        many = min(LANES, numbers.shape[0] - first)
        for lane in range(many):
            _gather(lanes, lane, numbers[first + lane])
        _multiply(product, lanes, factors, modulus, inverse)
        for lane in range(many):
            _scatter(out[first + lane], product, lane)


@compiled()
def raise_all(numbers, steps, modulus, inverse, scratch):  # noqa: ANN001, ANN201
    """Every number to one exponent, in place, all in Montgomery's form.

    ``steps`` are ``(squarings, which)``: so many squarings, then the product with the ``2 which + 1``-st power unless
    which is below zero; the first step takes that power instead. ``scratch`` is ``(odd powers + 2, limbs, 8)``.
    """
    odd = scratch.shape[0] - 2
    for first in range(0, numbers.shape[0], LANES):
        many = min(LANES, numbers.shape[0] - first)
        for lane in range(many):
            _gather(scratch[0], lane, numbers[first + lane])
        result, spare = scratch[odd], scratch[odd + 1]
        _multiply(spare, scratch[0], scratch[0], modulus, inverse)
        for which in range(1, odd):
            _multiply(scratch[which], scratch[which - 1], spare, modulus, inverse)
        result[:] = scratch[steps[0, 1]]
        for step in range(1, steps.shape[0]):
            for _ in range(steps[step, 0]):
                _multiply(spare, result, result, modulus, inverse)
                result, spare = spare, result
            if steps[step, 1] >= 0:
                _multiply(spare, result, scratch[steps[step, 1]], modulus, inverse)
                result, spare = spare, result
        for lane in range(many):
            _scatter(numbers[first + lane], result, lane)


@compiled()
def fill_buckets(numbers, digits, buckets, totals, modulus, inverse, scratch):  # noqa: ANN001, ANN201
    """Products of ``number ** digit`` for eight places at once, a lane each (Pippenger), all in Montgomery's form.

    ``digits`` are ``(numbers, 8)`` bytes, ``buckets`` ``(8, 256, limbs)`` ones, ``totals`` ``(8, limbs)`` ones.
    """
    lanes, product, factors = scratch[0], scratch[1], scratch[2]
    for number in range(numbers.shape[0]):
        _spread(factors, numbers[number])
        for lane in range(LANES):
            _gather(lanes, lane, buckets[lane, digits[number, lane]])
        _multiply(product, lanes, factors, modulus, inverse)
        for lane in range(LANES):
            _scatter(buckets[lane, digits[number, lane]], product, lane)
    running, total, spare = scratch[0], scratch[1], scratch[2]
    for lane in range(LANES):
        _gather(running, lane, totals[lane])
        _gather(total, lane, totals[lane])
    for digit in range(255, 0, -1):
        for lane in range(LANES):
            _gather(scratch[3], lane, buckets[lane, digit])
        _multiply(spare, running, scratch[3], modulus, inverse)
        running, spare = spare, running
        _multiply(spare, total, running, modulus, inverse)
        total, spare = spare, total
    for lane in range(LANES):
        _scatter(totals[lane], total, lane)


@compiled()
def fill_rows(rows, steps, modulus, inverse, scratch):  # noqa: ANN001, ANN201
    """``rows[place, digit] = rows[place, 0] * steps[place] ** digit / R ** digit``, eight places at once."""
    for first in range(0, rows.shape[0], LANES):
        many = min(LANES, rows.shape[0] - first)
        power, spare = scratch[0], scratch[1]
        for lane in range(many):
            _gather(power, lane, rows[first + lane, 0])
            _gather(scratch[2], lane, steps[first + lane])
        for digit in range(1, rows.shape[1]):
            _multiply(spare, power, scratch[2], modulus, inverse)
            power, spare = spare, power
            for lane in range(many):
                _scatter(rows[first + lane, digit], power, lane)


@compiled()
def look_up(rows, digits, results, modulus, inverse, scratch):  # noqa: ANN001, ANN201
    """Products over the places of ``rows[place, digit]``: digits ``(places, numbers)``, results ``(numbers, limbs)``.

    Row by row, not number by number: one row of the tables then stays in the cache for all of them.
    """
    lanes, entries, product = scratch[0], scratch[1], scratch[2]
    for number in range(results.shape[0]):
        results[number] = rows[0, digits[0, number]]
    for place in range(1, rows.shape[0]):
        for first in range(0, results.shape[0], LANES):
            many = min(LANES, results.shape[0] - first)
            for lane in range(many):
                _gather(lanes, lane, results[first + lane])
                _gather(entries, lane, rows[place, digits[place, first + lane]])
            _multiply(product, lanes, entries, modulus, inverse)
            for lane in range(many):
                _scatter(results[first + lane], product, lane)
