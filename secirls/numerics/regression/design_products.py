"""X'WX and X'm of one gene, for the compiled kernel: design columns are taken in pairs.

Promises: a pair's sums stay in registers while weights and columns are read, one pass over the samples per pair of
pairs; the order of additions depends on the number of samples and on nothing else. Refuses to know: statistics.
"""

from __future__ import annotations

from secirls.numerics.arithmetic.elementary import compiled
from secirls.numerics.arrays import Floats


@compiled(inline=True, any_order=True)
def plus(total: float, term: float) -> float:
    """An addition that may be done in any order: it makes a loop's sum a vector of sums."""
    return total + term


@compiled(inline=True)
def both_sums(a: Floats, b: Floats) -> tuple[float, float]:
    """The sums of two arrays of one length, in an order that depends on that length alone."""
    of_a, of_b = 0.0, 0.0
    for i in range(a.size):
        of_a = plus(of_a, a[i])
        of_b = plus(of_b, b[i])
    return of_a, of_b


@compiled(inline=True)
def _with_two(weight: Floats, moment: Floats, a: Floats, b: Floats) -> tuple[float, ...]:
    """Sums of w a, w b, w a a, w a b, w b b, m a and m b: whatever two columns need, read once."""
    wa, wb, waa, wab, wbb, ma, mb = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(weight.size):
        to_a, to_b = weight[i] * a[i], weight[i] * b[i]
        wa = plus(wa, to_a)
        wb = plus(wb, to_b)
        waa = plus(waa, to_a * a[i])
        wab = plus(wab, to_a * b[i])
        wbb = plus(wbb, to_b * b[i])
        ma = plus(ma, moment[i] * a[i])
        mb = plus(mb, moment[i] * b[i])
    return wa, wb, waa, wab, wbb, ma, mb


@compiled(inline=True)
def _with_one(weight: Floats, moment: Floats, a: Floats) -> tuple[float, float, float]:
    """Sums of w a, w a a and m a: what a column without a partner needs."""
    wa, waa, ma = 0.0, 0.0, 0.0
    for i in range(weight.size):
        to_a = weight[i] * a[i]
        wa = plus(wa, to_a)
        waa = plus(waa, to_a * a[i])
        ma = plus(ma, moment[i] * a[i])
    return wa, waa, ma


@compiled(inline=True)
def _two_by_two(weight: Floats, a: Floats, b: Floats, c: Floats, d: Floats) -> tuple[float, float, float, float]:
    """Sums of w a c, w a d, w b c and w b d: a pair of columns against another."""
    ac, ad, bc, bd = 0.0, 0.0, 0.0, 0.0
    for i in range(weight.size):
        to_a, to_b = weight[i] * a[i], weight[i] * b[i]
        ac = plus(ac, to_a * c[i])
        ad = plus(ad, to_a * d[i])
        bc = plus(bc, to_b * c[i])
        bd = plus(bd, to_b * d[i])
    return ac, ad, bc, bd


@compiled(inline=True)
def _two_by_one(weight: Floats, a: Floats, b: Floats, c: Floats) -> tuple[float, float]:
    """Sums of w a c and w b c: a pair of columns against the last, which has no partner."""
    ac, bc = 0.0, 0.0
    for i in range(weight.size):
        to_c = weight[i] * c[i]
        ac = plus(ac, to_c * a[i])
        bc = plus(bc, to_c * b[i])
    return ac, bc


@compiled(inline=True)
def _entry(params: int, row: int, column: int) -> int:
    """Where the entry of a row and a column at or after it stands in an upper triangle."""
    return row * params - row * (row - 1) // 2 + column - row


@compiled(inline=True)
def add_products(
    weight: Floats, moment: Floats, columns: Floats, ones: int, start: int, xtwx: Floats, right: Floats
) -> None:
    """Add X'WX and X'm of one gene over the samples from `start`, columns in pairs; but what only the ones need.

    A pair's sums stay in registers while weights and columns are read: one pass per pair of pairs.
    """
    params, stop = columns.shape[0], start + weight.size
    for j in range(ones, params, 2):
        a = columns[j][start:stop]
        if j + 1 == params:
            wa, waa, ma = _with_one(weight, moment, a)
        else:
            b = columns[j + 1][start:stop]
            wa, wb, waa, wab, wbb, ma, mb = _with_two(weight, moment, a, b)
            if ones:
                xtwx[j + 1] += wb
            xtwx[_entry(params, j, j + 1)] += wab
            xtwx[_entry(params, j + 1, j + 1)] += wbb
            right[j + 1] += mb
            for k in range(j + 2, params, 2):
                c = columns[k][start:stop]
                if k + 1 == params:
                    ac, bc = _two_by_one(weight, a, b, c)
                else:
                    ac, ad, bc, bd = _two_by_two(weight, a, b, c, columns[k + 1][start:stop])
                    xtwx[_entry(params, j, k + 1)] += ad
                    xtwx[_entry(params, j + 1, k + 1)] += bd
                xtwx[_entry(params, j, k)] += ac
                xtwx[_entry(params, j + 1, k)] += bc
        if ones:
            xtwx[j] += wa
        xtwx[_entry(params, j, j)] += waa
        right[j] += ma
