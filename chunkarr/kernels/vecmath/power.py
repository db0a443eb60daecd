"""power: 2 to the power of y log2(x), with the logarithm in twice the precision.

log2(m) = s (2 + 2/3 z + ...) / ln 2 with s = (m - 1) / (m + 1) and z = s^2. s, the first two
coefficients and all sums that they take part in are pairs of floats, made by fused multiplications
that give the rounding error of the operation before (Muller et al., Handbook of Floating-Point
Arithmetic, 2018, ch. 5 and 10). That leaves an error of 2**-64 of the logarithm, hence of 2**-54 of
the power at the ends of the range; in float32 of 2**-33 and 2**-26.

The loop takes as long as its longest chain of operations, unless LLVM interleaves two iterations.
It does so where few values are alive at a time, which the order of the lines here sees to; signs
and NaN join the second factor of 2**n, which waits for nothing else.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.exponential import exp2_part, factors, twice_biased
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


def log2_parts(x: Value, pole: Value) -> tuple[Value, Value]:
    """Give log2(x) in two parts, for finite x > 0; the lower is up to 2**-12 of the whole.

    Where there is a pole, it divides by zero, for the flag.
    """
    k, m, _ = split(*normal(x))
    m = select(pole, -1.0, m)
    f = m - 1.0
    inverse = 1.0 / (m + 1.0)
    s = f * inverse
    z = s * s
    cubic, cubic_low = parts(x, *CUBIC)
    linear, linear_low = parts(x, *LINEAR)
    rest = fma(z, polynomial(z, POWER), cubic_low)
    outer = fma(z, cubic, linear)
    outer_low = fma(fma(s, s, -z), cubic, fma(z, cubic, linear - outer) + linear_low)
    outer_low = fma(z, rest, outer_low)
    # f - 2 s is exact.
    s_low = fma(-s, f, fma(s, -2.0, f)) * inverse
    high = fma(s, outer, k)
    low = fma(s_low, fma(outer, 3.0, -2.0 * linear), fma(s, outer, k - high))
    return high, fma(s, outer_low, low)


def power(x: Value, y: Value) -> Value:
    """Give x**y, with the 1 of IEEE 754 for x = 1 and for y = 0 whatever the other operand."""
    r, shifted = _exponent(fabs(x), y)
    first, second = factors(shifted)
    whole = y.equals(trunc(y))
    invalid = (x < 0.0) & (fabs(x) < INF) & ~whole
    # Infinity times zero is NaN, with the flag for it; and a NaN stays.
    second = fma(select(invalid, INF, shifted), 0.0, second)
    half = y * 0.5
    odd = whole & ~half.equals(trunc(half))
    second = (second.bits() | select(odd, x.bits() & sign_bit(x), 0)).floats()
    return fma(exp2_part(r), first, first) * second


def _exponent(x: Value, y: Value) -> tuple[Value, Value]:
    """Give r and n, shifted, of 2**(n + r) = x**y for x >= 0; a NaN for n if there is one."""
    zero = x.equals(0.0)
    high, low = log2_parts(x, zero & (y < 0.0))
    high = select(x < INF, select(zero, -INF, high), x)
    high, y = select(y.equals(0.0), 0.0, high), select(x.equals(1.0), 0.0, y)
    shift = twice_biased(x)
    exact = fma(y, high, shift)
    shifted = clamp(exact, shift + x.format.lowest, shift + x.format.highest)
    r = fma(y, low, fma(y, high, shift - shifted))
    return select(shifted.equals(exact), r, 0.0), shifted


def sign_bit(x: Value) -> int:
    """Give the integer in which only the sign of a float like x is set."""
    return 1 << (31 if x.single else 63)
