"""exp, exp2 and expm1: a power of two times a polynomial.

x = n ln 2 + r with |r| <= ln(2)/2, as in Cody and Waite (Software Manual for the Elementary
Functions, 1980, ch. 6): n comes from adding a large number, whose low bits then hold it, and r from
two fused multiplications by parts of ln 2, the first of which is exact. e^r = 1 + r + r^2 q(r). The
coefficients of q are minimax (Remez' exchange in 90 digits), rounded. 2^n is put together from
bits; it is two factors, of which the second rounds into the subnormals.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    clamp,
    fabs,
    fma,
    parts,
    polynomial,
    select,
    two_sum,
)

LOG2_E = 1.4426950408889634
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
"""ln 2 to 106 bits."""

EXP = Coefficients(
    double=(
        0.5000000000000013, 0.16666666666666713, 0.04166666666651489, 0.008333333333297301,
        0.0013888888947206838, 0.00019841269941376, 2.4801489701308636e-05, 2.755719261763383e-06,
        2.763137901258632e-07, 2.5126065438394363e-08,
    ),
    single=(
        0.5, 0.16666488349437714, 0.04166555777192116, 0.008372263982892036, 0.0014033981133252382,
    ),
)  # fmt: skip
"""(e^r - 1 - r) / r^2; 2**-56.5 and 2**-27.8 of e^r."""

EXP2 = Coefficients(
    double=(
        0.24022650695910083, 0.05550410866482316, 0.009618129107624681, 0.0013333558146049883,
        0.00015403530397070176, 1.5252734119664883e-05, 1.3215485293629106e-06,
        1.017796703417102e-07, 7.0551687219486645e-09, 4.466332476807848e-10,
        2.5558240362964486e-11,
    ),
    single=(
        0.24022647738456726, 0.055503614246845245, 0.009618482552468777, 0.0013390608364716172,
        0.0001533829199615866,
    ),
)  # fmt: skip
"""(2^r - 1 - r ln 2) / r^2 for |r| <= 0.7; 2**-57.4 of 2^r, in float32 2**-26.4 up to 0.53."""

EXPM1 = Coefficients(
    double=(
        0.16666666666666682, 0.041666666666619376, 0.008333333333313438, 0.0013888888920797096,
        0.00019841269911642783, 2.4801515939341884e-05, 2.7557214848050004e-06,
        2.7622405878627795e-07, 2.512031322098892e-08,
    ),
    single=(
        0.1666666567325592, 0.04166646674275398, 0.008333642967045307, 0.001393504673615098,
        0.00019664540013764054,
    ),
)  # fmt: skip
"""(e^r - 1 - r - r^2/2) / r^3; 2**-55 and 2**-31 of (e^r - 1) / r."""


def power_of_two(biased: Value) -> Value:
    """Make 2**n of a float that holds n + bias in its low bits."""
    return (biased.bits() << biased.format.mantissa).floats()


def factors(twice_biased: Value) -> tuple[Value, Value]:
    """Make 2**n, in two factors, of a float that holds n + 2 * bias in its low bits."""
    whole, place = twice_biased.bits(), twice_biased.format.mantissa
    half = whole >> 1
    return (half << place).floats(), ((whole - half) << place).floats()


def scaled(x: Value, twice_biased: Value) -> Value:
    """Give x * 2**n, rounded once, for a float that holds n + 2 * bias in its low bits."""
    first, second = factors(twice_biased)
    return x * first * second


def biased(x: Value, more: int = 0) -> float:
    """Give the number that, added to a small one, leaves it and the bias in the low bits."""
    return x.format.shift + x.format.bias + more


def twice_biased(x: Value) -> float:
    """Give the number that leaves twice the bias in the low bits."""
    return x.format.shift + 2 * x.format.bias


def reduce_exp(x: Value, shift: float) -> tuple[Value, Value, Value]:
    """Give n shifted, and r in two parts with x = n ln 2 + r."""
    ln2, ln2_low = parts(x, *LN2)
    shifted = fma(x, LOG2_E, shift)
    n = shifted - shift
    first = fma(-n, ln2, x)
    r = fma(-n, ln2_low, first)
    return shifted, r, fma(-n, ln2_low, first - r)


def exp(x: Value) -> Value:
    """Give e**x."""
    bounds = (-105.0, 89.0) if x.single else (-746.0, 710.0)
    shifted, r, low = reduce_exp(clamp(x, *bounds), twice_biased(x))
    near, error = two_sum(r.like(1.0), r)
    return scaled(near + fma(r * r, polynomial(r, EXP), error + low), shifted)


def exp2(x: Value) -> Value:
    """Give 2**x, exactly where x is an integer."""
    shift = twice_biased(x)
    x = clamp(x, x.format.lowest, x.format.highest)
    shifted = x + shift
    r = x - (shifted - shift)
    first, second = factors(shifted)
    return fma(exp2_part(r), first, first) * second


def exp2_part(r: Value) -> Value:
    """Give 2**r - 1 for |r| <= 0.7, in float32 for |r| <= 0.53."""
    return fma(r * r, polynomial(r, EXP2), r * LN2[0])


def expm1(x: Value) -> Value:
    """Give e**x - 1, x itself where that is as good.

    With s = 2**n, e^x - 1 = s (e^r - 1) + (s - 1), which loses nothing where n = 0.
    """
    bounds = (-30.0, 89.0) if x.single else (-60.0, 710.0)
    shifted, r, low = reduce_exp(clamp(x, *bounds), biased(x, -1))
    near, low = _near(r, low)
    half = power_of_two(shifted)
    total, error = two_sum(half - 0.5, half * near)
    total = (total + fma(half, low, error)) * 2.0
    return select(fabs(x) < 2.0 ** (-x.format.mantissa - 2), x, total)


def _near(r: Value, low: Value) -> tuple[Value, Value]:
    """Give e**(r + low) - 1 in two parts for |r| <= ln(2) / 2."""
    near, error = two_sum(r, r * r * fma(r, polynomial(r, EXPM1), 0.5))
    return near, fma(low, near, low) + error


def expm1_parts(x: Value) -> tuple[Value, Value]:
    """Give e**x - 1 as the sum of two numbers, for -60 <= x <= 100 and a sign of zero to ignore."""
    shifted, r, low = reduce_exp(x, biased(x))
    near, low = _near(r, low)
    scale = power_of_two(shifted)
    total, error = two_sum(scale - 1.0, scale * near)
    return total, fma(scale, low, error)
