"""cbrt and hypot.

cbrt: x = 2^(3q) v with v in [0.35, 2.83). v^(-1/3) starts as a polynomial good to 2**-20, one step
of a cubic iteration makes it good to 2**-58 where that is wanted, and v times its square is
corrected once by the residual
(Muller et al., Handbook of Floating-Point Arithmetic, 2018, ch. 5). hypot: squares, sum and root in
two parts, after scaling by a power of two (Borges, ACM TOMS 47, 2020, compares such schemes).
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.exponential import biased, power_of_two
from chunkarr.kernels.vecmath.logarithm import INF, normal, split
from chunkarr.kernels.vecmath.values import (
    Value,
    copysign,
    fabs,
    fma,
    polynomial,
    rint,
    select,
    sqrt,
    two_product,
    two_sum,
)

INVERSE_ROOT = (
    2.1098083747495036, -3.1505148254932527, 4.435452476169036, -4.039009946847462,
    2.251139598689564, -0.6999876728356653, 0.0931127562146273,
)  # fmt: skip
"""m^(-1/3) for m in [sqrt(1/2), sqrt(2)]; 2**-20 of it."""
ROOT_HALF, ROOT_TWO = 0.7937005259840998, 1.2599210498948732
"""Cube roots of 1/2 and 2."""


def cbrt(x: Value) -> Value:
    """Give the cube root, with the sign of x."""
    size = fabs(x)
    k, m, _ = split(*normal(size))
    q = rint(k * (1.0 / 3.0))
    rest = fma(q, -3.0, k)
    low, high = rest < 0.0, rest > 0.0
    v = m * select(low, m.like(0.5), select(high, m.like(2.0), 1.0))
    factor = select(low, m.like(ROOT_TWO), select(high, m.like(ROOT_HALF), 1.0))
    w = polynomial(m, INVERSE_ROOT) * factor
    if not x.single:
        e = fma(v * w, -(w * w), 1.0)
        w = fma(w * e, fma(e, 2.0 / 9.0, 1.0 / 3.0), w)
    square = w * w
    y = v * square
    product, product_low = two_product(y, y)
    residual = fma(-product, y, v) - product_low * y
    y = fma(residual * square, 1.0 / 3.0, y)
    y = y * power_of_two(q + biased(x))
    return copysign(select((size > 0.0) & (size < INF), y, size), x)


def hypot(x: Value, y: Value) -> Value:
    """Give sqrt(x**2 + y**2) without overflow on the way; infinite if either is."""
    a, b = fabs(x), fabs(y)
    infinite = a.equals(INF) | b.equals(INF)
    if x.single:
        a, b = a.widen(), b.widen()
        result = sqrt(fma(a, a, b * b)).narrow()
        return select(infinite, result.like(INF), result)
    swapped = a > b
    a, b = select(swapped, a, b), select(swapped, b, a)
    large, small = a > 2.0**500, a < 2.0**-450
    scale = select(large, a.like(2.0**-600), select(small, a.like(2.0**600), 1.0))
    back = select(large, a.like(2.0**600), select(small, a.like(2.0**-600), 1.0))
    a, b = a * scale, b * scale
    first, first_low = two_product(a, a)
    second, second_low = two_product(b, b)
    total, low = two_sum(first, second)
    low = low + (first_low + second_low)
    root = sqrt(total)
    residual = fma(-root, root, total) + low
    divisor = select(root.equals(0.0), root.like(1.0), root + root)
    result = (root + residual / divisor) * back
    result = select(x.unordered(y), x + y, result)
    return select(infinite, result.like(INF), result)
