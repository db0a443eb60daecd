"""nextafter, frexp and ldexp: integer arithmetic on the bits of a float."""

from __future__ import annotations

from chunkarr.kernels.vecmath.exponential import scaled, twice_biased
from chunkarr.kernels.vecmath.logarithm import INF, SHIFT_BITS, normal
from chunkarr.kernels.vecmath.values import DOUBLE, Value, clamp, copysign, fabs, select


def nextafter(x: Value, y: Value) -> Value:
    """Give the float beside x toward y."""
    bits = x.bits()
    away = (y > x) ^ (x < 0.0)
    beside = select(away, bits + 1, bits - 1).floats()
    tiny = (bits - bits + 1).floats()
    result = select(x.equals(0.0), copysign(tiny, y), beside)
    result = select(x.equals(y), y, result)
    return select(x.unordered(y), x + y, result)


def _parts(x: Value) -> tuple[Value, Value, Value]:
    """Give m with |m| in [1/2, 1), k, and whether x = m 2**k is neither 0 nor infinite nor NaN."""
    size = fabs(x)
    scaled_size, extra = normal(size)
    bits = scaled_size.bits()
    m = ((bits & DOUBLE.fraction) | ((DOUBLE.bias - 1) << 52)).floats()
    k = ((bits >> 52) | SHIFT_BITS[52]).floats() - (extra - 2.0)
    return copysign(m, x), k, (size > 0.0) & (size < INF)


def frexp(x: Value) -> Value:
    """Give the mantissa of x, in [1/2, 1); what is zero, infinite or no number stays."""
    wide = x.widen() if x.single else x
    m, _, regular = _parts(wide)
    result = select(regular, m, wide)
    return result.narrow() if x.single else result


def exponent(x: Value) -> Value:
    """Give the exponent that belongs to the mantissa, as a float."""
    wide = x.widen() if x.single else x
    _, k, regular = _parts(wide)
    result = select(regular, k, 0.0)
    return result.narrow() if x.single else result


def ldexp(x: Value, n: Value) -> Value:
    """Give x * 2**n, rounded once, for a whole number n."""
    wide, n = (x.widen(), n.widen()) if x.single else (x, n)
    m, k, regular = _parts(wide)
    power = clamp(k + n, DOUBLE.lowest, DOUBLE.highest) + twice_biased(m)
    result = select(regular, scaled(m, power), wide)
    return result.narrow() if x.single else result
