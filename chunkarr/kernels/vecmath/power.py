"""power: 2 to the power of y log2(x), with the logarithm in twice the precision.

log2(m) = s (2 + 2/3 z + ...) / ln 2 with s = (m - 1) / (m + 1) and z = s^2. s, the first two
coefficients and all sums that they take part in are pairs of float64 (Dekker 1971), which leaves an
error of 2**-64 of the logarithm, hence of 2**-54 of the power at the ends of the range. Muller et
al., Handbook of Floating-Point Arithmetic (2018), ch. 10, describe the scheme.

float32 is computed in float64, where nothing needs two parts.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.exponential import (
    BIAS,
    EXP2_SHORT,
    LN2,
    SHIFT,
    TWICE_BIASED,
    exp2_near,
    power_of_two,
    scaled,
)
from chunkarr.kernels.vecmath.logarithm import INF, normal, split
from chunkarr.kernels.vecmath.values import (
    Value,
    clamp,
    fabs,
    fma,
    polynomial,
    select,
    trunc,
    two_product,
    two_sum,
)

LINEAR, LINEAR_LOW = 2.8853900817779268, 4.0710547481862066e-17
"""2 / ln 2."""
CUBIC, CUBIC_LOW = 0.9617966939259756, 5.0577616648125907e-17
"""2 / (3 ln 2)."""
POWER = (
    0.5770780163556182, 0.41219858309184765, 0.32059890229095256, 0.2623076995282697,
    0.22198407460771322, 0.19125330007710722, 0.19040331955610765,
)  # fmt: skip
"""(log2((1 + s) / (1 - s)) / s - 2 / ln 2 - 2 z / (3 ln 2)) / z^2; 2**-65 of the cubic term."""
LOG2_SHORT = (
    0.961796694058409, 0.5770779529446286, 0.4122084305468131, 0.3199334846852676,
    0.28255939945993125,
)  # fmt: skip
"""(log2((1 + s) / (1 - s)) / s - 2 / ln 2) / z to 2**-45."""


def log2_parts(x: Value, invalid: Value) -> tuple[Value, Value]:
    """Give log2(x) in two parts, for finite x > 0; NaN, with the flag for it, where invalid."""
    x, extra = normal(x)
    k, m, _ = split(x)
    m = select(invalid, m.like(INF), m)
    f = m - 1.0
    divisor, divisor_low = two_sum(m.like(1.0), m)
    inverse = 1.0 / divisor
    s = f * inverse
    s_low = fma(-s, divisor_low, fma(-s, divisor, f)) * inverse
    z, z_low = two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    inner, inner_low = two_sum(z.like(CUBIC), z * polynomial(z, POWER))
    inner_low = inner_low + CUBIC_LOW
    cubic, cubic_low = two_product(z, inner)
    cubic_low = fma(z_low, inner, fma(z, inner_low, cubic_low))
    outer, outer_low = two_sum(z.like(LINEAR), cubic)
    outer_low = outer_low + (cubic_low + LINEAR_LOW)
    near, near_low = two_product(s, outer)
    near_low = fma(s_low, outer, fma(s, outer_low, near_low))
    high, low = two_sum(k - extra, near)
    return high, low + near_low


def power(x: Value, y: Value) -> Value:
    """Give x**y, with the 1 of IEEE 754 for x = 1 and for y = 0 whatever the other operand."""
    whole = y.equals(trunc(y))
    half = y * 0.5
    odd = whole & ~half.equals(trunc(half))
    invalid = (x < 0.0) & (x > -INF) & ~whole
    result = (_short if x.single else _power)(fabs(x), y, invalid)
    signs = x.bits() & sign_bit(x)
    result = (result.bits() | select(odd, signs, 0)).floats()
    result = select(x.unordered(y), x + y, result)
    return select(x.equals(1.0) | y.equals(0.0), x.like(1.0), result)


def _power(x: Value, y: Value, invalid: Value) -> Value:
    high, low = log2_parts(x, invalid)
    high = select(x.equals(0.0), high.like(-INF), select(x.equals(INF), x, high))
    product, error = two_product(y, high)
    error = fma(y, low, error)
    exponent = select(high.equals(0.0), high, clamp(product, -1077.0, 1025.0))
    error = select(exponent.equals(product), error, 0.0)
    shifted = exponent + TWICE_BIASED
    r = (exponent - (shifted - TWICE_BIASED)) + error
    return scaled(exp2_near(r), shifted)


def _short(x: Value, y: Value, invalid: Value) -> Value:
    x = x.widen()
    k, m, _ = split(x)
    m = select(invalid, m.like(INF), m)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    log2 = fma(s, fma(z, polynomial(z, LOG2_SHORT), LINEAR), k)
    log2 = select(x.equals(0.0), x.like(-INF), select(x.equals(INF), x, log2))
    product = select(log2.equals(0.0), log2, clamp(log2 * y.widen(), -300.0, 300.0))
    shifted = product + (SHIFT + BIAS)
    r = product - (shifted - (SHIFT + BIAS))
    near = fma(r, LN2, r * r * polynomial(r, EXP2_SHORT)) + 1.0
    return (near * power_of_two(shifted)).narrow()


def sign_bit(x: Value) -> int:
    """Give the integer in which only the sign of a float like x is set."""
    return 1 << (31 if x.single else 63)
