"""arcsin, arccos, arctan and arctan2.

arctan2 adds a multiple of pi/4 to the arctangent of one quotient: of a/b, (a - b)/(a + b) or -b/a
for a = |y|, b = |x|, whichever is within tan(pi/8); quotient and sum keep their rounding errors.
In float32 the polynomial reaches to 1, so that the quotient is that of the smaller side by the
larger one. arcsin is a polynomial up to 1/2, beyond it pi/2 - 2 arcsin(sqrt((1 - x) / 2)), as
fdlibm's e_asin.c (Sun, 1993) describes. The coefficients are minimax (Remez' exchange in 90
digits), rounded.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.circular import PI
from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    any_two_sum,
    clamp,
    copysign,
    fabs,
    fma,
    parts,
    polynomial,
    select,
    sqrt,
    two_sum,
)

ATAN = (
    -0.333333333333332, 0.19999999999953663, -0.14285714280203843, 0.1111111078380058,
    -0.0909089776661299, 0.07692060353029043, -0.06663105355417269, 0.058478966752694296,
    -0.050393276954043414, 0.038064878178367165, -0.0179072629977804,
)  # fmt: skip
"""(arctan(t) / t - 1) / t^2 for |t| <= tan(pi/8); 2**-58 of arctan(t)."""
ATAN_SHORT = (
    -0.3333331346511841, 0.19998906552791595, -0.14264391362667084, 0.10932094603776932,
    -0.08288337290287018, 0.055133502930402756, -0.027622394263744354, 0.008659280836582184,
    -0.0012218053452670574,
)  # fmt: skip
"""The same for |t| <= 1; 2**-26 of arctan(t)."""
NEAR, FAR = 0.41421356237309503, 2.414213562373095
"""tan(pi/8) and tan(3 pi/8)."""

ASIN = Coefficients(
    double=(
        0.16666666666665364, 0.0750000000034756, 0.044642856819615426, 0.03038195949567531,
        0.022371749474670074, 0.017359833622361213, 0.01388396759417214, 0.012177504074364633,
        0.00649224298959076, 0.01962572114744301, -0.016376714935032094, 0.03201649273556108,
    ),
    single=(
        0.16666731238365173, 0.07495956867933273, 0.04540149122476578, 0.02447567507624626,
        0.041715774685144424,
    ),
)  # fmt: skip
"""(arcsin(s) / s - 1) / s^2 for |s| <= 1/2; 2**-55 and 2**-27.5 of arcsin(s)."""

HALF_PI = (PI[0] / 2, PI[1] / 2)


def arctan(x: Value) -> Value:
    """Give the angle whose tangent is x, between -pi/2 and pi/2."""
    size = clamp(fabs(x), 0.0, 2.0**80)
    if x.single:
        return copysign(_short_angle(size, size.like(1.0), size.bits() < 0), x)
    return copysign(_angle(size, size.like(1.0))[0], x)


def _angle(a: Value, b: Value) -> tuple[Value, Value]:
    """Give arctan(a / b) in two parts, for finite a, b >= 0 that are not both zero."""
    near, far = a <= b * NEAR, a > b * FAR
    difference, difference_low = any_two_sum(a, -b)
    total, total_low = any_two_sum(a, b)
    above = select(near, a, select(far, -b, difference))
    below = select(near, b, select(far, a, total))
    middle = ~(near | far)
    above_low, below_low = select(middle, difference_low, 0.0), select(middle, total_low, 0.0)
    t, t_low = quotient_parts(above, above_low, below, below_low)
    z = t * t
    base = select(near, t.like(0.0), select(far, t.like(HALF_PI[0]), HALF_PI[0] / 2))
    base_low = select(near, t.like(0.0), select(far, t.like(HALF_PI[1]), HALF_PI[1] / 2))
    total, error = two_sum(base, t)
    low = error + (fma(t * z, polynomial(z, ATAN), t_low) + base_low)
    result = total + low
    return result, low - (result - total)


def quotient_parts(
    above: Value, above_low: Value, below: Value, below_low: Value
) -> tuple[Value, Value]:
    """Give (above + above_low) / (below + below_low) in two parts."""
    inverse = 1.0 / below
    ratio = above * inverse
    rest = fma(-ratio, below, above) + fma(-ratio, below_low, above_low)
    return ratio, rest * inverse


def _short_angle(a: Value, b: Value, turned: Value) -> Value:
    """Give arctan(a / b) for a, b >= 0, or pi less that."""
    steep = a > b
    above, below = select(steep, b, a), select(steep, a, b)
    both = above.equals(INF) & below.equals(INF)
    t = select(both, 1.0, above / select(below.equals(0.0), 1.0, below))
    half, half_low = parts(a, *HALF_PI)
    whole, whole_low = parts(a, *PI[:2])
    base = select(steep, half, select(turned, a.like(whole), 0.0))
    base_low = select(steep, half_low, select(turned, a.like(whole_low), 0.0))
    t = select(steep ^ turned, -t, t)
    z = t * t
    total, error = two_sum(base, t)
    return total + (error + fma(t * z, polynomial(z, ATAN_SHORT), base_low))


def arctan2(y: Value, x: Value) -> Value:
    """Give the angle of the point (x, y), between -pi and pi."""
    if x.single:
        return copysign(_short_angle(fabs(y), fabs(x), x.bits() < 0), y)
    a, b = fabs(y), fabs(x)
    largest = select(a > b, a, b)
    scale = select(largest > 2.0**1000, a.like(2.0**-100), 1.0)
    scale = select(largest < 2.0**-900, a.like(2.0**100), scale)
    a, b = _sides(a * scale, b * scale)
    angle, low = _angle(a, b)
    turned, error = two_sum(angle.like(PI[0]), -angle)
    turned = turned + (error + (PI[1] - low))
    angle = select(x.bits() < 0, turned, angle)
    return select(x.unordered(y), x + y, copysign(angle, y))


def _sides(a: Value, b: Value) -> tuple[Value, Value]:
    """Give finite sides of the same angle; the angle of (0, 0) is 0."""
    tall, wide = a.equals(INF), b.equals(INF)
    both = tall & wide
    a, b = (
        select(wide, select(both, a.like(1.0), 0.0), select(tall, a.like(1.0), a)),
        select(tall, select(both, b.like(1.0), 0.0), select(wide, b.like(1.0), b)),
    )
    return a, select(a.equals(b) & a.equals(0.0), 1.0, b)


def _near_sine(x: Value) -> tuple[Value, Value, Value]:
    """Give s and arcsin(s) - s for s = |x| or sqrt((1 - |x|) / 2), and which one it is.

    In float32 the rounding error of s is left in: it is half a unit in the last place.
    """
    size = fabs(x)
    large = size > 0.5
    z = select(large, fma(size, -0.5, 0.5), size * size)
    root = sqrt(z)
    s = select(large, root, size)
    if x.single:
        return s, s * z * polynomial(z, ASIN), large
    low = fma(-root, root, z) / (select(root.equals(0.0), 1.0, root) * 2.0)
    return s, fma(s * z, polynomial(z, ASIN), select(large, low, 0.0)), large


def arcsin(x: Value) -> Value:
    """Give the angle whose sine is x, between -pi/2 and pi/2; NaN beyond -1 and 1."""
    s, rest, large = _near_sine(x)
    half, half_low = parts(x, *HALF_PI)
    total, error = two_sum(s.like(half), -2.0 * s)
    angle = select(large, total + (error + fma(rest, -2.0, half_low)), s + rest)
    return copysign(angle, x)


def arccos(x: Value) -> Value:
    """Give the angle whose cosine is x, between 0 and pi; NaN beyond -1 and 1."""
    s, rest, large = _near_sine(x)
    # The angle is 2 arcsin(s), pi less that, or pi/2 less arcsin(x) itself.
    turned = x < 0.0
    half, half_low = parts(x, *HALF_PI)
    whole, whole_low = parts(x, *PI[:2])
    base = select(large, select(turned, s.like(whole), 0.0), half)
    base_low = select(large, select(turned, s.like(whole_low), 0.0), half_low)
    factor = select(large, select(turned, s.like(-2.0), 2.0), select(turned, s.like(1.0), -1.0))
    total, error = any_two_sum(base, s * factor)
    return total + (error + fma(rest, factor, base_low))
