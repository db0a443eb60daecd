"""exp, exp2 and expm1: a power of two times a polynomial.

x = n ln 2 + r with |r| <= ln(2)/2, as in Cody and Waite (Software Manual for the Elementary
Functions, 1980, ch. 6): n comes from adding a large number, whose low bits then hold it, and r from
two fused multiplications by parts of ln 2, the first of which is exact. e^r = 1 + r + r^2 q(r). The
coefficients of q are minimax (Remez' exchange in 90 digits), rounded to float64. 2^n is put
together from bits; in float64 it is two factors, of which the second rounds into the subnormals.

float32 is computed in float64 with shorter polynomials and rounded once.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.values import (
    Value,
    clamp,
    copysign,
    fabs,
    fma,
    polynomial,
    select,
    two_product,
    two_sum,
)

LOG2_E = 1.4426950408889634
LN2, LN2_LOW = 0.6931471805599453, 2.3190468138462996e-17
"""ln 2 to 106 bits."""

SHIFT = 1.5 * 2.0**52
"""Adding it to a number below 2**51 leaves the nearest integer in the low bits."""
BIAS = 1023
TWICE_BIASED = SHIFT + 2 * BIAS

EXP = (
    0.5000000000000013, 0.16666666666666713, 0.04166666666651489, 0.008333333333297301,
    0.0013888888947206838, 0.00019841269941376, 2.4801489701308636e-05, 2.755719261763383e-06,
    2.763137901258632e-07, 2.5126065438394363e-08,
)  # fmt: skip
"""(e^r - 1 - r) / r^2; 2**-56.5 of e^r."""

EXP_SHORT = (
    0.5000000110587404, 0.16666518322189317, 0.04166614406487135, 0.00836895181002566,
    0.001395532621324105,
)  # fmt: skip
"""The same to 2**-28."""

EXP2 = (
    0.24022650695910133, 0.055504108664821736, 0.009618129107593442, 0.0013333558146370792,
    0.0001540353045806026, 1.5252733881015517e-05, 1.3215434783602113e-06, 1.017803924805014e-07,
    7.073871625595978e-09, 4.45866208475929e-10,
)  # fmt: skip
"""(2^r - 1 - r ln 2) / r^2; 2**-57.4 of 2^r."""

EXP2_SHORT = (
    0.24022651227236375, 0.05550361463988534, 0.009618008472186503, 0.0013390548725870815,
    0.00015477213133071438,
)  # fmt: skip
"""The same to 2**-28."""

EXPM1 = (
    0.16666666666666682, 0.041666666666619376, 0.008333333333313438, 0.0013888888920797096,
    0.00019841269911642783, 2.4801515939341884e-05, 2.7557214848050004e-06,
    2.7622405878627795e-07, 2.512031322098892e-08,
)  # fmt: skip
"""(e^r - 1 - r - r^2/2) / r^3; 2**-55 of (e^r - 1) / r."""


def power_of_two(biased: Value) -> Value:
    """Make 2**n of a float that holds n + BIAS in its low bits."""
    return (biased.bits() << 52).floats()


def scaled(x: Value, twice_biased: Value) -> Value:
    """Give x * 2**n, rounded once, for a float that holds n + 2 * BIAS in its low bits."""
    whole = twice_biased.bits()
    half = whole >> 1
    return x * (half << 52).floats() * ((whole - half) << 52).floats()


def reduce_exp(x: Value, shift: float) -> tuple[Value, Value, Value]:
    """Give n shifted, and r in two parts with x = n ln 2 + r."""
    shifted = fma(x, LOG2_E, shift)
    n = shifted - shift
    first = fma(-n, LN2, x)
    r = fma(-n, LN2_LOW, first)
    return shifted, r, fma(-n, LN2_LOW, first - r)


def exp(x: Value) -> Value:
    """Give e**x."""
    if x.single:
        x = clamp(x.widen(), -200.0, 200.0)
        shifted = fma(x, LOG2_E, SHIFT + BIAS)
        r = fma(-(shifted - (SHIFT + BIAS)), LN2, x)
        near = fma(r * r, polynomial(r, EXP_SHORT), r) + 1.0
        return (near * power_of_two(shifted)).narrow()
    shifted, r, low = reduce_exp(clamp(x, -746.0, 710.0), TWICE_BIASED)
    near, error = two_sum(r.like(1.0), r)
    return scaled(near + fma(r * r, polynomial(r, EXP), error + low), shifted)


def exp2(x: Value) -> Value:
    """Give 2**x, exactly where x is an integer."""
    if x.single:
        x = clamp(x.widen(), -300.0, 300.0)
        shifted = x + (SHIFT + BIAS)
        r = x - (shifted - (SHIFT + BIAS))
        near = fma(r, LN2, r * r * polynomial(r, EXP2_SHORT)) + 1.0
        return (near * power_of_two(shifted)).narrow()
    x = clamp(x, -1077.0, 1025.0)
    shifted = x + TWICE_BIASED
    r = x - (shifted - TWICE_BIASED)
    return scaled(exp2_near(r), shifted)


def exp2_near(r: Value) -> Value:
    """Give 2**r for |r| <= 1/2."""
    linear, low = two_product(r, LN2)
    near, error = two_sum(r.like(1.0), linear)
    return near + (fma(r * r, polynomial(r, EXP2), low) + error)


def expm1(x: Value) -> Value:
    """Give e**x - 1, x itself where that is as good.

    With s = 2**n, e^x - 1 = s (e^r - 1) + (s - 1), which loses nothing where n = 0.
    """
    if x.single:
        return copysign(short_expm1(clamp(x.widen(), -60.0, 200.0)).narrow(), x)
    shifted, r, low = reduce_exp(clamp(x, -60.0, 710.0), SHIFT + BIAS - 1)
    near, low = _near(r, low)
    half = power_of_two(shifted)
    total, error = two_sum(half - 0.5, half * near)
    total = (total + fma(half, low, error)) * 2.0
    return select(fabs(x) < 2.0**-54, x, total)


def _near(r: Value, low: Value) -> tuple[Value, Value]:
    """Give e**(r + low) - 1 in two parts for |r| <= ln(2) / 2."""
    near, error = two_sum(r, r * r * fma(r, polynomial(r, EXPM1), 0.5))
    return near, fma(low, near, low) + error


def short_expm1(x: Value) -> Value:
    """Give e**x - 1 for -60 <= x <= 200, good enough for float32."""
    shifted = fma(x, LOG2_E, SHIFT + BIAS)
    r = fma(-(shifted - (SHIFT + BIAS)), LN2, x)
    near = fma(r * r, polynomial(r, EXP_SHORT), r)
    scale = power_of_two(shifted)
    return fma(scale, near, scale - 1.0)


def expm1_parts(x: Value) -> tuple[Value, Value]:
    """Give e**x - 1 as the sum of two numbers, for -60 <= x <= 100 and a sign of zero to ignore."""
    shifted, r, low = reduce_exp(x, SHIFT + BIAS)
    near, low = _near(r, low)
    scale = power_of_two(shifted)
    total, error = two_sum(scale - 1.0, scale * near)
    return total, fma(scale, low, error)
