"""arcsin, arccos, arctan and arcsinh, arccosh, arctanh of complex numbers.

With r = |z + 1| and s = |z - 1|, a = (r + s) / 2 and |Re z| / a are cosh and sine of the parts of
arcsin z (Hull, Fairgrieve and Tang, ACM TOMS 23, 1997). Where they lose digits, a - 1 and a - x are
sums of positive quotients, as there; here the branches are choices between the two sums' parts, and
the angles arctangents throughout. arctanh takes log1p(4x / |1 - z|^2) / 4 and half the angle of
1 - |z|^2 + 2iy, where the sum is not rounded before it cancels.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.circular import PI
from chunkarr.kernels.vecmath.exponential import LN2
from chunkarr.kernels.vecmath.inverse import arctan2
from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.logarithm import log1p as real_log1p
from chunkarr.kernels.vecmath.plane import Complex, in_double, squares, swapped
from chunkarr.kernels.vecmath.roots import hypot
from chunkarr.kernels.vecmath.values import Value, copysign, fabs, fma, select, sqrt

LARGE = 2.0**100
"""From here on, 1 is nothing beside z."""


def _parts(z: Complex) -> tuple[Value, Value, Value]:
    """Give x, y' and u with angles arctan2(x, y') and logarithm u of arcsin, for x, y >= 0."""
    x, y = fabs(z.re), fabs(z.im)
    large = (x > LARGE) | (y > LARGE)
    up, right = x + 1.0, select(large, x * 0.25, x - 1.0)
    r = sqrt(fma(up, up, y * y))
    s = hypot(right, select(large, y * 0.25, y))
    apart = fabs(right)
    a = 0.5 * (r + s)
    below, above = x < 1.0, x > 1.0
    near = s + apart
    outer = r + up
    g = y * y / outer + near
    q = 1.0 / outer + 1.0 / select(near.equals(0.0), 1.0, near)
    straight = sqrt(g * (0.5 * (a + select(below, x, 1.0))))
    turned = y * sqrt(q * (0.5 * (a + select(below, x.like(1.0), x))))
    root = select(large, y, select(above, turned, straight))
    beyond = fma(select(below, y * q * y, g), 0.5, select(below, turned, straight))
    logarithm = real_log1p(select(large, s, beyond))
    return x, root, select(large, logarithm + 3.0 * LN2[0], logarithm)


@in_double
def arcsin(z: Complex) -> Complex:
    """Give the angle whose sine is z."""
    x, root, logarithm = _parts(z)
    re = select(x.equals(0.0), x, arctan2(x, root))
    return Complex(copysign(re, z.re), copysign(logarithm, z.im))


@in_double
def arccos(z: Complex) -> Complex:
    """Give the angle whose cosine is z."""
    _, root, logarithm = _parts(z)
    re = select(z.re.equals(0.0), PI[0] / 2, arctan2(root, z.re))
    return Complex(re, copysign(logarithm, -z.im))


@in_double
def arcsinh(z: Complex) -> Complex:
    """Give the number whose hyperbolic sine is z."""
    return swapped(arcsin(swapped(z)))


@in_double
def arccosh(z: Complex) -> Complex:
    """Give the number whose hyperbolic cosine is z."""
    angle, logarithm = arccos(z)
    return Complex(fabs(logarithm), copysign(angle, z.im))


@in_double
def arctanh(z: Complex) -> Complex:
    """Give the number whose hyperbolic tangent is z."""
    x, y = fabs(z.re), fabs(z.im)
    large = (x > LARGE) | (y > LARGE)
    beyond, low = squares(x.like(-1.0), x, y)
    angle = arctan2(select(large, y.like(0.0), y + y), select(large, -1.0, 0.0 - (beyond + low)))
    angle = select(x.unordered(y) & ~y.equals(INF), x + y, angle)
    # Far away, 4x / |z|^2, without the square.
    longer, shorter = select(x > y, x, y), select(x > y, y, x)
    ratio = shorter / longer
    far = 4.0 * (x / longer / longer) / fma(ratio, ratio, 1.0)
    across = 1.0 - x
    # Beside the pole, log(2 / y) / 2, whose square would leave the range.
    pole = x.equals(1.0) & (y < 2.0**-500)
    near = 4.0 * x / select(pole, 1.0, fma(across, across, y * y))
    ratio = select(large, far, select(pole, 2.0**-400 / y, near))
    size = real_log1p(ratio)
    size = select(pole, 0.5 * (size + 401.0 * LN2[0]), 0.25 * size)
    endless = x.equals(INF) | y.equals(INF)
    size = select(endless | x.equals(0.0), 0.0, size)
    return Complex(copysign(size, z.re), copysign(0.5 * angle, z.im))


@in_double
def arctan(z: Complex) -> Complex:
    """Give the angle whose tangent is z."""
    return swapped(arctanh(swapped(z)))
