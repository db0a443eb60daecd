"""sinh, cosh, tanh and their inverses.

e^x = 2^n (cosh r + sinh r) and e^-x = 2^-n (cosh r - sinh r), so that sinh and cosh need one
reduction, no division, and lose nothing near zero. tanh x = e / (e + 2) with e = e^(2x) - 1 in two
parts. The inverses are log1p of sums in two parts that are exact near zero, as in fdlibm's
s_asinh.c, e_acosh.c and e_atanh.c (Sun, 1993). The coefficients are minimax (Remez' exchange in 90
digits).
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.circular import quotient
from chunkarr.kernels.vecmath.exponential import (
    BIAS,
    LN2,
    LOG2_E,
    SHIFT,
    expm1_parts,
    power_of_two,
    reduce_exp,
    short_expm1,
)
from chunkarr.kernels.vecmath.inverse import quotient_parts
from chunkarr.kernels.vecmath.logarithm import INF, log1p_of, short_log
from chunkarr.kernels.vecmath.values import (
    Value,
    any_two_sum,
    clamp,
    copysign,
    fabs,
    fma,
    polynomial,
    select,
    sqrt,
    two_sum,
)

SINH = (
    0.16666666666666677, 0.008333333333321579, 0.00019841269886265882, 2.755724406228596e-06,
    2.5109090274143367e-08,
)  # fmt: skip
"""(sinh(r) / r - 1) / r^2 for |r| <= ln(2) / 2; 2**-60 of sinh(r)."""
COSH = (0.041666666666602736, 0.0013888888927297254, 2.4801508047981613e-05, 2.76254403593184e-07)
"""(cosh(r) - 1 - r^2/2) / r^4 for the same; 2**-57 of cosh(r)."""

SINH_SHORT = (0.16666666754753529, 0.008333288884942048, 0.00019905010991756763)
"""The first of them to 2**-37."""
COSH_SHORT = (0.5000000079320398, 0.041666266446372106, 0.0013946275464322335)
"""(cosh(r) - 1) / r^2 to 2**-34."""

OVERFLOW = 710.48
"""From 710.4758 on, sinh and cosh are infinite."""
LARGE = 2.0**28
"""From here on x^2 + 1 is x^2."""


def _halves(x: Value) -> tuple[Value, Value, Value, Value]:
    """Give sinh(r), cosh(r) - 1, 2**(n-2) and 2**(-n-2) with |x| = n ln 2 + r."""
    shifted, r, low = reduce_exp(clamp(fabs(x), 0.0, OVERFLOW), SHIFT + BIAS - 2)
    z = r * r
    cosine = fma(z * z, polynomial(z, COSH), z * 0.5)
    sine = r + fma(r * z, polynomial(z, SINH), fma(low, cosine, low))
    other = (2.0 * (SHIFT + BIAS - 2)) - shifted
    other = select(other < SHIFT + BIAS - 100, SHIFT + BIAS - 100, other)
    return sine, cosine, power_of_two(shifted), power_of_two(other)


def _short_halves(x: Value) -> tuple[Value, Value, Value, Value]:
    """Give sinh(r), cosh(r) - 1, 2**(n-1) and 2**(-n-1), good enough for float32."""
    x = clamp(fabs(x), 0.0, 100.0)
    shifted = fma(x, LOG2_E, SHIFT + BIAS - 1)
    r = fma(-(shifted - (SHIFT + BIAS - 1)), LN2, x)
    z = r * r
    sine = fma(r * z, polynomial(z, SINH_SHORT), r)
    other = (2.0 * (SHIFT + BIAS - 1)) - shifted
    return sine, z * polynomial(z, COSH_SHORT), power_of_two(shifted), power_of_two(other)


def sinh(x: Value) -> Value:
    """Give the hyperbolic sine."""
    if x.single:
        sine, cosine, grows, shrinks = _short_halves(x.widen())
        first = grows - shrinks
        result = first + fma(grows + shrinks, sine, first * cosine)
        return copysign(result.narrow(), x)
    sine, cosine, grows, shrinks = _halves(x)
    first, error = two_sum(grows, -shrinks)
    second = grows + shrinks
    result = 2.0 * (first + fma(second, sine, fma(first, cosine, error)))
    return select(fabs(x) < 2.0**-28, x, copysign(result, x))


def cosh(x: Value) -> Value:
    """Give the hyperbolic cosine."""
    if x.single:
        sine, cosine, grows, shrinks = _short_halves(x.widen())
        second = grows + shrinks
        return (second + fma(grows - shrinks, sine, second * cosine)).narrow()
    sine, cosine, grows, shrinks = _halves(x)
    first = grows - shrinks
    second, error = two_sum(grows, shrinks)
    return 2.0 * (second + fma(first, sine, fma(second, cosine, error)))


def tanh(x: Value) -> Value:
    """Give the hyperbolic tangent."""
    if x.single:
        above = short_expm1(clamp(fabs(x.widen()) * 2.0, 0.0, 44.0))
        return copysign((above / (above + 2.0)).narrow(), x)
    above, above_low = expm1_parts(clamp(fabs(x) * 2.0, 0.0, 44.0))
    below, below_low = any_two_sum(above, above.like(2.0))
    return copysign(quotient(above, above_low, below, below_low + above_low), x)


def arcsinh(x: Value) -> Value:
    """Give the number whose hyperbolic sine is x."""
    if x.single:
        return _short_arcsinh(x)
    size = fabs(x)
    large = size > LARGE
    part = clamp(size, 0.0, LARGE)
    square = part * part
    total, low = two_sum(part, square / (1.0 + sqrt(square + 1.0)))
    result = log1p_of(select(large, size - 1.0, total), select(large, 0.0, low))
    result = result + select(large, x.like(LN2), 0.0)
    return copysign(select(size < INF, result, size), x)


def _short_arcsinh(x: Value) -> Value:
    size = fabs(x.widen())
    square = size * size
    total = size + sqrt(square + 1.0)
    near = fma(size * square, -1.0 / 6.0, size)
    result = select(size < 2.0**-10, near, short_log(total, LN2, 1.0))
    return copysign(select(size < INF, result, size).narrow(), x)


def arccosh(x: Value) -> Value:
    """Give the number x >= 0 whose hyperbolic cosine is x; NaN below 1."""
    if x.single:
        wide = x.widen()
        total = wide + sqrt(select(wide < 1.0, -1.0, fma(wide, wide, -1.0)))
        return select(total < INF, short_log(total, LN2, 1.0), total).narrow()
    large = x > LARGE
    above = select(large, LARGE, x) - 1.0
    root = sqrt(select(x < 1.0, -1.0, above * (above + 2.0)))
    total, low = any_two_sum(above, root)
    result = log1p_of(select(large, x - 1.0, total), select(large, 0.0, low))
    result = result + select(large, x.like(LN2), 0.0)
    return select(x < INF, select(x < 1.0, root, result), x)


def arctanh(x: Value) -> Value:
    """Give the number whose hyperbolic tangent is x; NaN beyond -1 and 1."""
    if x.single:
        return _short_arctanh(x)
    size = fabs(x)
    below, below_low = two_sum(size.like(1.0), -size)
    ratio, low = quotient_parts(size, size.like(0.0), below, below_low)
    result = 0.5 * log1p_of(2.0 * ratio, 2.0 * low)
    return copysign(select(fabs(ratio) < INF, result, ratio), x)


def _short_arctanh(x: Value) -> Value:
    size = fabs(x.widen())
    ratio = (1.0 + size) / (1.0 - size)
    near = fma(size * size * size, 1.0 / 3.0, size)
    result = select(size < 2.0**-10, near, 0.5 * short_log(ratio, LN2, 1.0))
    return copysign(select(ratio < INF, result, ratio).narrow(), x)
