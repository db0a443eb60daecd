"""log, log2, log10, log1p and of sums: an exponent and an odd function of (m - 1) / (m + 1).

x = 2^k m with m in [sqrt(1/2), sqrt(2)), cut from the bits. With f = m - 1 and s = f / (2 + f),
log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)): the identity and the order of additions are those that
fdlibm's e_log.c (Sun, 1993) describes; log2 and log10 multiply f - f^2/2, in two parts, by the
logarithm of e in two parts, as its later relatives do. R's coefficients are minimax (Remez'
exchange in 90 digits), rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from chunkarr.kernels.vecmath.exponential import LN2, LOG2_E, exp, exp2
from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    any_two_sum,
    copysign,
    fabs,
    fma,
    parts,
    polynomial,
    select,
    two_product,
    two_sum,
)

LOG = Coefficients(
    double=(
        0.6666666666666735, 0.39999999999409286, 0.28571428743712995, 0.2222219842529869,
        0.18183572589888605, 0.1531382514277741, 0.14798338205110606,
    ),
    single=(0.6666678190231323, 0.3997679054737091, 0.29893526434898376),
)  # fmt: skip
"""R(z) / z with log((1 + s) / (1 - s)) = 2 s + s R(s^2); 2**-58.5 and 2**-30 of 2 s."""

INF, NAN = math.inf, math.nan

ROOT_HALF = {52: 0x3FE6A09E667F3BCD, 23: 0x3F3504F3}
"""The bits of sqrt(1/2), by those of the mantissa."""
SHIFT_BITS = {52: 0x4338000000000000, 23: 0x4B400000}
"""The bits of the number that leaves integers in the low bits."""

LOG2_E_PARTS = (LOG2_E, 2.0355273740931033e-17)
LOG10_E = (0.4342944819032518, 1.098319650216765e-17)
LOG10_2 = (0.3010299956639812, -2.8037281277851704e-18)


def split(x: Value, extra: Value | None = None) -> tuple[Value, Value, Value]:
    """Give k and m with x = 2**k * m and m in [sqrt(1/2), sqrt(2)), for normal x > 0.

    The third value has k + bias + 1, which is positive, where a float has its exponent and sign.
    Where x has been scaled, `extra` is what `normal` gives with it.
    """
    kind = x.format
    place, offset = kind.mantissa, kind.bias + 1
    start = ROOT_HALF[place]
    above = x.bits() - (start - (offset << place))
    shift = x.like(kind.shift + offset) if extra is None else extra
    k = ((above >> place) | SHIFT_BITS[place]).floats() - shift
    return k, ((above & kind.fraction) + start).floats(), above & ~kind.fraction


def inverse_power(raised: Value) -> Value:
    """Give 2**-k for an integer that has k + bias + 1 where a float has its exponent."""
    kind = raised.format
    return (((2 * kind.bias + 1) << kind.mantissa) - raised).floats()


def normal(x: Value) -> tuple[Value, Value]:
    """Give x, scaled where it is subnormal, and what `split` is to subtract for its exponent."""
    kind, tiny = x.format, x < x.format.tiny
    places, shift = kind.mantissa + 2, kind.shift + kind.bias + 1
    return select(tiny, x * 2.0**places, x), select(tiny, x.like(shift + places), shift)


def finished(total: Value, low: Value, rest: Value, x: Value) -> Value:
    """Add the parts up; for x <= 0, `rest` is the result already."""
    return select(x < INF, select(x > 0.0, total + low, rest), x)


def near_one(m: Value, x: Value) -> Value:
    """Give m - 1, for x <= 0 numbers that lead the division to -inf and to NaN.

    So the processor's flags tell of a division by zero and of an invalid value.
    """
    return select(x <= 0.0, select(x < 0.0, m.like(INF), -2.0), m - 1.0)


def reduced(x: Value) -> tuple[Value, Value, Value, Value]:
    """Give k, f, f^2/2 and the rest with log(x) = k log(2) + f - f^2/2 + rest."""
    k, m, _ = split(*normal(x))
    f = near_one(m, x)
    half, rest = rest_of(f)
    return k, f, half, rest


def rest_of(f: Value) -> tuple[Value, Value]:
    """Give f^2/2 and the rest with log(1 + f) = f - f^2/2 + rest."""
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return half, s * fma(z, polynomial(z, LOG), half)


def log(x: Value) -> Value:
    """Give the natural logarithm."""
    k, f, half, rest = reduced(x)
    ln2, ln2_low = parts(x, *LN2)
    return select(x < INF, fma(k, ln2, f - (half - fma(k, ln2_low, rest))), x)


def log2(x: Value) -> Value:
    """Give the logarithm to the base of 2, exactly where x is a power of it."""
    k, f, half, rest = reduced(x)
    product, low = _times(f, half, rest, LOG2_E_PARTS)
    total, error = two_sum(k, product)
    return finished(total, error + low, rest, x)


def log10(x: Value) -> Value:
    """Give the logarithm to the base of 10."""
    k, f, half, rest = reduced(x)
    product, low = _times(f, half, rest, LOG10_E)
    unit, unit_low = parts(x, *LOG10_2)
    whole, part = two_product(k, unit)
    low = low + fma(k, unit_low, part)
    total, error = two_sum(whole, product)
    return finished(total, error + low, rest, x)


def _times(f: Value, half: Value, rest: Value, unit: tuple[float, float]) -> tuple[Value, Value]:
    """Give (f - half + rest) * unit in two parts."""
    high, low = two_sum(f, -half)
    low = low + rest
    first, second = parts(f, *unit)
    product, error = two_product(high, first)
    return product, fma(high, second, fma(low, first, error))


def log1p(x: Value) -> Value:
    """Give log(1 + x), with the sign of x where it is zero."""
    return select(x < INF, copysign(log1p_of(x, x.like(0.0)), x), x)


def log1p_of(x: Value, low: Value) -> Value:
    """Give log(1 + x + low) for x > -1 and a low that is small beside x.

    The rounding error of 1 + x is scaled with m and added to f; where k = 0, f is x.
    """
    total, error = any_two_sum(x, x.like(1.0))
    k, m, raised = split(total)
    error = select(x < 2.0 ** (x.format.mantissa + 7), (error + low) * inverse_power(raised), 0.0)
    near = k.equals(0.0)
    f, error = two_sum(select(near, x, near_one(m, total)), select(near, low, error))
    half, rest = rest_of(f)
    ln2, ln2_low = parts(x, *LN2)
    rest = fma(k, ln2_low, rest) + error
    return fma(k, ln2, f - (half - rest))


def logaddexp(x: Value, y: Value) -> Value:
    """Give log(e**x + e**y): the larger one and log1p(e**-|x - y|).

    The error is below 2 ULP of the larger of the result and max(|x|, |y|); near a zero of the
    function, the two parts cancel.
    """
    return _log_of_sum(x, y, exp, LN2[0])


def logaddexp2(x: Value, y: Value) -> Value:
    """Give log2(2**x + 2**y), with the error of `logaddexp`."""
    return _log_of_sum(x, y, exp2, 1.0)


def _log_of_sum(x: Value, y: Value, power: Callable[[Value], Value], of_two: float) -> Value:
    """Give the logarithm of the sum of two powers, to the base of which log(2) is `of_two`."""
    larger = select(x > y, x, y)
    apart = power(-fabs(x - y))
    result = fma(log1p_of(apart, apart.like(0.0)), of_two / LN2[0], larger)
    # Infinities of one sign are not apart by a number.
    result = select(x.equals(y), x + of_two, result)
    return select(x.unordered(y), x + y, result)
