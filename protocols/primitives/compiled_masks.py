"""Adding and subtracting ring elements in one compiled pass; the plain form is in `protocols.primitives.ring`.

Promises: the same bits as the plain NumPy form, for every input (the tests hold it to that).
Refuses to know: where the elements come from.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.compiling import compiled


@compiled()
def _add(total, addend):  # noqa: ANN001, ANN202
    # Flat arrays and a stride of two written as a product: in this form, and in no other that was tried, the
    # compiler turns the loop into vector instructions (0.46 ns a value against 0.97).
    for i in range(total.size // 2):
        low = total[2 * i] + addend[2 * i]
        total[2 * i + 1] += addend[2 * i + 1] + np.uint64(low < addend[2 * i])
        total[2 * i] = low


@compiled()
def _mask(total, plus, minus):  # noqa: ANN001, ANN202
    # Two instructions a row, add and add with carry, while the sum stays in registers.
    for i in range(total.size // 2):
        low, high = total[2 * i], total[2 * i + 1]
        for k in range(len(plus)):
            low += plus[k, 2 * i]
            high += plus[k, 2 * i + 1] + np.uint64(low < plus[k, 2 * i])
        for k in range(len(minus)):
            high -= minus[k, 2 * i + 1] + np.uint64(low < minus[k, 2 * i])
            low -= minus[k, 2 * i]
        total[2 * i], total[2 * i + 1] = low, high


@compiled()
def _add_marked(total, addend, marks):  # noqa: ANN001, ANN202
    for i in range(marks.size):
        low = total[2 * i] + addend[2 * i]
        high = addend[2 * i + 1] ^ marks[i]
        total[2 * i + 1] += high + np.uint64(low < addend[2 * i])
        total[2 * i] = low


@compiled()
def _subtract_marked(total, subtrahend, marks):  # noqa: ANN001, ANN202
    for i in range(marks.size):
        low = total[2 * i] - subtrahend[2 * i]
        high = subtrahend[2 * i + 1] ^ marks[i]
        total[2 * i + 1] -= high + np.uint64(total[2 * i] < low)
        total[2 * i] = low


def add_into(total: NDArray[np.uint64], addend: NDArray[np.uint64]) -> None:
    """``total += addend`` modulo 2^128; both flat, low limb, high limb, low limb ..."""
    _add(total, addend)


def mask_into(total: NDArray[np.uint64], plus: NDArray[np.uint64], minus: NDArray[np.uint64]) -> None:
    """``total += each of plus - each of minus``, rows of which no more is read than the total is long."""
    _mask(total, plus, minus)


def add_marked_into(total: NDArray[np.uint64], addend: NDArray[np.uint64], marks: NDArray[np.uint64]) -> None:
    """As `add_into`, of an addend whose high limbs are XORed with ``marks``, one for each value."""
    _add_marked(total, addend, marks)


def subtract_marked_into(total: NDArray[np.uint64], subtrahend: NDArray[np.uint64], marks: NDArray[np.uint64]) -> None:
    """The same of a subtrahend whose high limbs are XORed with ``marks``, one for each value."""
    _subtract_marked(total, subtrahend, marks)
