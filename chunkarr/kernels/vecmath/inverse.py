"""arcsin, arccos, arctan and arctan2.

arctan2 adds a multiple of pi/4 to the arctangent of one quotient: of a/b, (a - b)/(a + b) or -b/a
for a = |y|, b = |x|, whichever is within tan(pi/8); quotient and sum keep their rounding errors.
arcsin is a polynomial up to 1/2, beyond it pi/2 - 2 arcsin(sqrt((1 - x) / 2)), as fdlibm's e_asin.c
(Sun, 1993) describes. The coefficients are minimax (Remez' exchange in 90 digits).
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.circular import PI
from chunkarr.kernels.vecmath.logarithm import INF
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

ATAN = (
    -0.333333333333332, 0.19999999999953663, -0.14285714280203843, 0.1111111078380058,
    -0.0909089776661299, 0.07692060353029043, -0.06663105355417269, 0.058478966752694296,
    -0.050393276954043414, 0.038064878178367165, -0.0179072629977804,
)  # fmt: skip
"""(arctan(t) / t - 1) / t^2 for |t| <= tan(pi/8); 2**-58 of arctan(t)."""
ATAN_SHORT = (
    -0.33333332510183805, 0.19999904761340379, -0.14282029117066639, 0.110449240421725,
    -0.08477411422792977, 0.04746123457449727,
)  # fmt: skip
"""The same to 2**-35."""
NEAR, FAR = 0.41421356237309503, 2.414213562373095
"""tan(pi/8) and tan(3 pi/8)."""

ASIN = (
    0.16666666666665364, 0.0750000000034756, 0.044642856819615426, 0.03038195949567531,
    0.022371749474670074, 0.017359833622361213, 0.01388396759417214, 0.012177504074364633,
    0.00649224298959076, 0.01962572114744301, -0.016376714935032094, 0.03201649273556108,
)  # fmt: skip
"""(arcsin(s) / s - 1) / s^2 for |s| <= 1/2; 2**-55 of arcsin(s)."""
ASIN_SHORT = (
    0.1666665982486403, 0.0750051394304279, 0.044515097350298204, 0.031823139415429136,
    0.014380555780167536, 0.03759766470588369,
)  # fmt: skip
"""The same to 2**-31."""

HALF_PI, HALF_PI_LOW = PI[0] / 2, PI[1] / 2


def arctan(x: Value) -> Value:
    """Give the angle whose tangent is x, between -pi/2 and pi/2."""
    if x.single:
        size = clamp(fabs(x.widen()), 0.0, 2.0**80)
        return copysign(_short_angle(size, size.like(1.0)).narrow(), x)
    size = clamp(fabs(x), 0.0, 2.0**80)
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
    base = select(near, t.like(0.0), select(far, t.like(HALF_PI), HALF_PI / 2))
    base_low = select(near, t.like(0.0), select(far, t.like(HALF_PI_LOW), HALF_PI_LOW / 2))
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


def _short_angle(a: Value, b: Value) -> Value:
    near, far = a <= b * NEAR, a > b * FAR
    above = select(near, a, select(far, -b, a - b))
    below = select(near, b, select(far, a, a + b))
    t = above / below
    z = t * t
    base = select(near, t.like(0.0), select(far, t.like(HALF_PI), HALF_PI / 2))
    return base + fma(t * z, polynomial(z, ATAN_SHORT), t)


def arctan2(y: Value, x: Value) -> Value:
    """Give the angle of the point (x, y), between -pi and pi."""
    if x.single:
        a, b = fabs(y.widen()), fabs(x.widen())
        angle = _short_angle(*_sides(a, b))
        angle = select(x.widen().bits() < 0, PI[0] - angle, angle)
        return select(x.unordered(y), x + y, copysign(angle.narrow(), y))
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
    """Give s and arcsin(s) - s for s = |x| or sqrt((1 - |x|) / 2), and which one it is."""
    size = fabs(x)
    large = size > 0.5
    z = select(large, fma(size, -0.5, 0.5), size * size)
    root = sqrt(z)
    s = select(large, root, size)
    low = fma(-root, root, z) / (select(root.equals(0.0), 1.0, root) * 2.0)
    return s, fma(s * z, polynomial(z, ASIN), select(large, low, 0.0)), large


def _short_near_sine(x: Value) -> tuple[Value, Value, Value]:
    size = fabs(x)
    large = size > 0.5
    z = select(large, fma(size, -0.5, 0.5), size * size)
    s = select(large, sqrt(z), size)
    return s, s * z * polynomial(z, ASIN_SHORT), large


def arcsin(x: Value) -> Value:
    """Give the angle whose sine is x, between -pi/2 and pi/2; NaN beyond -1 and 1."""
    s, rest, large = _short_near_sine(x.widen()) if x.single else _near_sine(x)
    total, error = two_sum(s.like(HALF_PI), -2.0 * s)
    angle = select(large, total + (error + fma(rest, -2.0, HALF_PI_LOW)), s + rest)
    return copysign(angle.narrow() if x.single else angle, x)


def arccos(x: Value) -> Value:
    """Give the angle whose cosine is x, between 0 and pi; NaN beyond -1 and 1."""
    wide = x.widen() if x.single else x
    s, rest, large = _short_near_sine(wide) if x.single else _near_sine(wide)
    # The angle is 2 arcsin(s), pi less that, or pi/2 less arcsin(x) itself.
    turned = wide < 0.0
    base = select(large, select(turned, s.like(PI[0]), 0.0), HALF_PI)
    base_low = select(large, select(turned, s.like(PI[1]), 0.0), HALF_PI_LOW)
    factor = select(large, select(turned, s.like(-2.0), 2.0), select(turned, s.like(1.0), -1.0))
    total, error = any_two_sum(base, s * factor)
    angle = total + (error + fma(rest, factor, base_low))
    return angle.narrow() if x.single else angle
