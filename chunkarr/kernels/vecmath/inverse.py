"""arcsin, arccos, arctan and arctan2.

arctan2 takes the arctangent of the smaller side by the larger one, with the rounding error of that
quotient in float64, and adds or subtracts it from a multiple of pi/2. One long polynomial took half
the time of a short one for quotients that are reduced once more, around pi/4. arcsin is a
polynomial up to 1/2, beyond it pi/2 - 2 arcsin(sqrt((1 - x) / 2)), as fdlibm's e_asin.c (Sun, 1993)
describes. The coefficients are minimax (Remez' exchange in 90 digits, and Lawson's algorithm),
rounded.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.circular import PI
from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    any_two_sum,
    at_most,
    copysign,
    fabs,
    fma,
    parts,
    polynomial,
    select,
    sqrt,
    two_sum,
)

ATAN = Coefficients(
    double=(
        -0.33333333333333065, 0.19999999999950957, -0.1428571428254606, 0.11111111006175753,
        -0.09090906988042587, 0.07692279665869678, -0.06666402648490752, 0.05880519470533188,
        -0.05253481542557999, 0.04722196929852635, -0.04218851322727558, 0.03663524891086511,
        -0.02989331165079203, 0.02197190816378341, -0.013888373830532723, 0.007187876500506087,
        -0.0028804773663526806, 0.0008297530280167842, -0.00015182091986122738,
        1.319101497368838e-05,
    ),
    single=(
        -0.3333331346511841, 0.19998906552791595, -0.14264391362667084, 0.10932094603776932,
        -0.08288337290287018, 0.055133502930402756, -0.027622394263744354, 0.008659280836582184,
        -0.0012218053452670574,
    ),
)  # fmt: skip
"""(arctan(t) / t - 1) / t^2 for |t| <= 1; 2**-57 and 2**-26 of arctan(t)."""

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
    size = at_most(fabs(x), 2.0**80)
    steep = size > 1.0
    below = select(steep, size, 1.0)
    t, low = _quotient(select(steep, size.like(1.0), size), below)
    total, rest = _angle(t, low, steep, select(steep, size.like(1.0), 0.0))
    return copysign(total + rest, x)


def arctan2(y: Value, x: Value) -> Value:
    """Give the angle of the point (x, y), between -pi and pi."""
    total, rest = arctan2_parts(y, x)
    return copysign(total + rest, y)


def arctan2_parts(y: Value, x: Value) -> tuple[Value, Value]:
    """Give the angle of the point (x, |y|) in two parts."""
    a, b = fabs(y), fabs(x)
    steep = a > b
    above, below = select(steep, b, a), select(steep, a, b)
    far = below.equals(INF)
    above = select(far, select(above.equals(INF), 1.0, above * 0.0), above)
    below = select(far | below.equals(0.0), 1.0, below)
    if not x.single:
        # The inverse of a tiny number is infinite.
        small = below < 2.0**-1000
        above = select(small, above * 2.0**100, above)
        below = select(small, below * 2.0**100, below)
    t, low = _quotient(above, below)
    turned = x.bits() < 0
    quarters = select(steep, a.like(1.0), select(turned, a.like(2.0), 0.0))
    return _angle(t, low, steep ^ turned, quarters)


def _quotient(above: Value, below: Value) -> tuple[Value, Value]:
    """Give a quotient in two parts, in float32 with nothing in the second."""
    if above.single:
        return above / below, above.like(0.0)
    inverse = 1.0 / below
    t = above * inverse
    return t, fma(-t, below, above) * inverse


def _angle(t: Value, low: Value, down: Value, quarters: Value) -> tuple[Value, Value]:
    """Give a number of quarter turns and arctan(t + low) more, or less where it goes down.

    The result is in two parts.
    """
    t, low = select(down, -t, t), select(down, -low, low)
    half, half_low = parts(t, *HALF_PI)
    z = t * t
    near = fma(t * z, polynomial(z, ATAN), low)
    total = fma(quarters, half, t)
    error = fma(quarters, half, -total) + t
    return total, error + fma(quarters, half_low, near)


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
