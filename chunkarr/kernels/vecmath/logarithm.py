"""log, log2, log10, log1p and logaddexp: an exponent and an odd function of (m - 1) / (m + 1).

x = 2^k m with m in [sqrt(1/2), sqrt(2)), cut from the bits. With f = m - 1 and s = f / (2 + f),
log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)): the identity and the order of additions are those that
fdlibm's e_log.c (Sun, 1993) describes; log2 and log10 multiply f - f^2/2, in two parts, by the
logarithm of e in two parts, as its later relatives do. R's coefficients are minimax (Remez'
exchange in 90 digits), rounded to float64.

float32 is computed in float64 with a shorter polynomial and rounded once.
"""

from __future__ import annotations

import math

from chunkarr.kernels.vecmath.exponential import LN2, LN2_LOW, LOG2_E, SHIFT, exp
from chunkarr.kernels.vecmath.values import (
    Value,
    any_two_sum,
    copysign,
    fabs,
    fma,
    polynomial,
    select,
    two_product,
    two_sum,
)

LOG = (
    0.6666666666666735, 0.39999999999409286, 0.28571428743712995, 0.2222219842529869,
    0.18183572589888605, 0.1531382514277741, 0.14798338205110606,
)  # fmt: skip
"""R(z) / z with log((1 + s) / (1 - s)) = 2 s + s R(s^2); 2**-58.5 of 2 s."""

LOG_SHORT = (0.6666666564136853, 0.4000033627396899, 0.2853723383365982, 0.23583653684208458)
"""The same to 2**-36."""

TINY, INF, NAN = 2.0**-1022, math.inf, math.nan
SCALE = 2.0**54
"""Brings subnormals among the normal numbers."""

ROOT_HALF = 0x3FE6A09E667F3BCD - (1024 << 52)
"""The bits of sqrt(1/2), less what keeps exponents positive."""
EXPONENT = 0xFFF << 52
SHIFT_BITS = 0x4338000000000000
"""The bits of SHIFT."""

LOG2_E_LOW = 2.0355273740931033e-17
LOG10_E, LOG10_E_LOW = 0.4342944819032518, 1.098319650216765e-17
LOG10_2, LOG10_2_LOW = 0.3010299956639812, -2.8037281277851704e-18


def split(x: Value) -> tuple[Value, Value, Value]:
    """Give k and m with x = 2**k * m and m in [sqrt(1/2), sqrt(2)), for normal x > 0.

    The third value has k + 1024 where a float has its exponent and sign.
    """
    bits = x.bits()
    above = bits - ROOT_HALF
    k = ((above >> 52) | SHIFT_BITS).floats() - (SHIFT + 1024.0)
    raised = above & EXPONENT
    return k, (bits - raised + (1024 << 52)).floats(), raised


def normal(x: Value) -> tuple[Value, Value]:
    """Give x, scaled where it is subnormal, and what its exponent counts too much."""
    tiny = x < TINY
    return select(tiny, x * SCALE, x), select(tiny, x.like(54.0), 0.0)


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
    scaled, extra = normal(x)
    k, m, _ = split(scaled)
    f = near_one(m, x)
    half, rest = rest_of(f)
    return k - extra, f, half, rest


def rest_of(f: Value) -> tuple[Value, Value]:
    """Give f^2/2 and the rest with log(1 + f) = f - f^2/2 + rest."""
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return half, s * fma(z, polynomial(z, LOG), half)


def log(x: Value) -> Value:
    """Give the natural logarithm."""
    if x.single:
        return select(x < INF, short_log(x.widen(), LN2, 1.0).narrow(), x)
    k, f, half, rest = reduced(x)
    return select(x < INF, fma(k, LN2, f - (half - fma(k, LN2_LOW, rest))), x)


def short_log(x: Value, scale: float, unit: float) -> Value:
    """Give log(x) * unit, which is `scale` for x = 2, for what was float32."""
    k, m, _ = split(x)
    f = near_one(m, x)
    s = f / (f + 2.0)
    z = s * s
    return fma(k, scale, s * fma(z, polynomial(z, LOG_SHORT), 2.0) * unit)


def log2(x: Value) -> Value:
    """Give the logarithm to the base of 2, exactly where x is a power of it."""
    if x.single:
        return select(x < INF, short_log(x.widen(), 1.0, LOG2_E).narrow(), x)
    k, f, half, rest = reduced(x)
    high, low = two_sum(f, -half)
    low = low + rest
    product, error = two_product(high, LOG2_E)
    low = fma(high, LOG2_E_LOW, fma(low, LOG2_E, error))
    total, error = two_sum(k, product)
    return finished(total, error + low, rest, x)


def log10(x: Value) -> Value:
    """Give the logarithm to the base of 10."""
    if x.single:
        return select(x < INF, short_log(x.widen(), LOG10_2, LOG10_E).narrow(), x)
    k, f, half, rest = reduced(x)
    high, low = two_sum(f, -half)
    low = low + rest
    product, error = two_product(high, LOG10_E)
    low = fma(high, LOG10_E_LOW, fma(low, LOG10_E, error))
    whole, part = two_product(k, LOG10_2)
    low = low + fma(k, LOG10_2_LOW, part)
    total, error = two_sum(whole, product)
    return finished(total, error + low, rest, x)


def log1p(x: Value) -> Value:
    """Give log(1 + x), with the sign of x where it is zero."""
    result = _short_log1p(x.widen()).narrow() if x.single else log1p_of(x, x.like(0.0))
    return select(x < INF, copysign(result, x), x)


def log1p_of(x: Value, low: Value) -> Value:
    """Give log(1 + x + low) for x > -1 and a low that is small beside x.

    The rounding error of 1 + x is scaled with m and added to f; where k = 0, f is x.
    """
    total, error = any_two_sum(x, x.like(1.0))
    k, m, raised = split(total)
    scale = ((2047 << 52) - raised).floats()
    error = select(x < 2.0**60, (error + low) * scale, 0.0)
    near = k.equals(0.0)
    f, error = two_sum(select(near, x, near_one(m, total)), select(near, low, error))
    half, rest = rest_of(f)
    rest = fma(k, LN2_LOW, rest) + error
    return fma(k, LN2, f - (half - rest))


def _short_log1p(x: Value) -> Value:
    total = x + 1.0
    k, m, _ = split(total)
    f = select(k.equals(0.0), x, near_one(m, total))
    s = f / (f + 2.0)
    z = s * s
    return fma(k, LN2, s * fma(z, polynomial(z, LOG_SHORT), 2.0))


def logaddexp(x: Value, y: Value) -> Value:
    """Give log(e**x + e**y): the larger one and log1p(e**-|x - y|).

    The error is below 2 ULP of the larger of the result and max(|x|, |y|); near a zero of the
    function, the two parts cancel.
    """
    wide, other = (x.widen(), y.widen()) if x.single else (x, y)
    larger = select(wide > other, wide, other)
    apart = exp(-fabs(wide - other))
    result = larger + log1p_of(apart, apart.like(0.0))
    result = select(wide.equals(other), wide + LN2, result)
    result = select(wide.unordered(other), wide + other, result)
    return result.narrow() if x.single else result
