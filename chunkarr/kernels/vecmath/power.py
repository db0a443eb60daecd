"""power: 2 to the power of y log2(x), with the logarithm in twice the precision.

log2(m) = s (2 + 2/3 z + ...) / ln 2 with s = (m - 1) / (m + 1) and z = s^2. s, the first two
coefficients and all sums that they take part in are pairs of floats (Dekker 1971), which leaves an
error of 2**-64 of the logarithm, hence of 2**-54 of the power at the ends of the range; in float32
of 2**-33 and 2**-26. Muller et al., Handbook of Floating-Point Arithmetic (2018), ch. 10, describe
the scheme.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.exponential import exp2_near, scaled, twice_biased
from chunkarr.kernels.vecmath.logarithm import INF, normal, split
from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    clamp,
    fabs,
    fma,
    parts,
    polynomial,
    select,
    trunc,
    two_product,
    two_sum,
)

LINEAR = (2.8853900817779268, 4.0710547481862066e-17)
"""2 / ln 2."""
CUBIC = (0.9617966939259756, 5.0577616648125907e-17)
"""2 / (3 ln 2)."""
POWER = Coefficients(
    double=(
        0.5770780163556182, 0.41219858309184765, 0.32059890229095256, 0.2623076995282697,
        0.22198407460771322, 0.19125330007710722, 0.19040331955610765,
    ),
    single=(0.5770793557167053, 0.4119216799736023, 0.33632710576057434),
)  # fmt: skip
"""(log2((1 + s) / (1 - s)) / s - 2 / ln 2 - 2 z / (3 ln 2)) / z^2; 2**-65 and 2**-36 of log2."""


def log2_parts(x: Value, invalid: Value) -> tuple[Value, Value]:
    """Give log2(x) in two parts, for finite x > 0; NaN, with the flag for it, where invalid.

    The lower part is up to 2**-14 of the whole.
    """
    x, extra = normal(x)
    k, m, _ = split(x)
    m = select(invalid, m.like(INF), m)
    f = m - 1.0
    divisor = f + 2.0
    inverse = 1.0 / divisor
    s = f * inverse
    s_low = fma(-s, f - (divisor - 2.0), fma(-s, divisor, f)) * inverse
    z = s * s
    z_low = fma(s + s, s_low, fma(s, s, -z))
    cubic, cubic_low = parts(x, *CUBIC)
    term, term_low = two_product(z, cubic)
    term_low = fma(z, fma(z, polynomial(z, POWER), cubic_low), fma(z_low, cubic, term_low))
    linear, linear_low = parts(x, *LINEAR)
    outer, outer_low = two_sum(z.like(linear), term)
    outer_low = outer_low + (term_low + linear_low)
    near, near_low = two_product(s, outer)
    near_low = fma(s_low, outer, fma(s, outer_low, near_low))
    high, low = two_sum(k - extra, near)
    return high, low + near_low


def power(x: Value, y: Value) -> Value:
    """Give x**y, with the 1 of IEEE 754 for x = 1 and for y = 0 whatever the other operand."""
    whole = y.equals(trunc(y))
    half = y * 0.5
    odd = whole & ~half.equals(trunc(half))
    result = _power(fabs(x), y, (x < 0.0) & ~whole)
    result = (result.bits() | select(odd, x.bits() & sign_bit(x), 0)).floats()
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


def _power(x: Value, y: Value, invalid: Value) -> Value:
    """Give x**y for x >= 0; NaN where x is one or it is invalid."""
    high, low = log2_parts(x, invalid)
    high = select(x < INF, select(x.equals(0.0), -INF, high), x)
    product, error = two_product(y, high)
    kind = x.format
    exponent = clamp(product, kind.lowest, kind.highest)
    exponent = select(high.equals(0.0), 0.0, exponent)
    error = select(exponent.equals(product), fma(y, low, error), 0.0)
    shift = twice_biased(x)
    shifted = exponent + shift
    r = (exponent - (shifted - shift)) + error
    return scaled(exp2_near(r), shifted)


def sign_bit(x: Value) -> int:
    """Give the integer in which only the sign of a float like x is set."""
    return 1 << (31 if x.single else 63)
