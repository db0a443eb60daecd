"""exp, exp2, expm1, sinh, cosh, tanh, sin, cos and tan of complex numbers.

e^(x + iy) = e^x (cos y + i sin y), and the others likewise; where e^x alone is beyond the range but
the product is not, its power of two is multiplied last (`widely_scaled`). tanh(x + iy), divided by
e^2|x| above and below, is (m (2 - m) + 4i e sin y cos y) / (m^2 + 4e cos^2 y) with e = e^-2|x| and
m = 1 - e, which are sums of positive numbers, so that nothing cancels. sin z, cos z and tan z are
functions of iz.

Each takes the way in which angles are reduced: `quarters`, or one for angles of any size.
"""

from __future__ import annotations

from chunkarr.kernels.vecmath.circular import Reduction, quarters
from chunkarr.kernels.vecmath.exponential import (
    EXP,
    LN2,
    biased,
    exp2_part,
    expm1_parts,
    power_of_two,
    reduce_exp,
)
from chunkarr.kernels.vecmath.exponential import exp as real_exp
from chunkarr.kernels.vecmath.exponential import expm1 as real_expm1
from chunkarr.kernels.vecmath.hyperbolic import COSH, SINH
from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.plane import (
    ANGLE_MAX,
    WIDE,
    Complex,
    circle,
    circle_parts,
    finite,
    in_double,
    swapped,
    widely_scaled,
)
from chunkarr.kernels.vecmath.values import (
    Value,
    any_two_sum,
    at_most,
    clamp,
    copysign,
    fabs,
    fma,
    polynomial,
    select,
    two_product,
    two_sum,
)

LOG_MAX = 709.782712893384
"""The logarithm of the largest float."""
FAR = 1500.0
"""e to the power of this is infinite whatever it is multiplied with, and its inverse zero."""


@in_double
def exp(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give e**z."""
    return exp_of(z, None, reduce)


def exp_of(z: Complex, more: Complex | None, reduce: Reduction) -> Complex:
    """Give e**(z + more), for parts of `more` that are small beside those of z."""
    shifted, r, low = reduce_exp(clamp(z.re, -FAR, FAR), WIDE)
    if more is not None:
        r, low = any_two_sum(r, low + more.re)
    near, error = two_sum(r.like(1.0), r)
    factor = near + fma(r * r, polynomial(r, EXP), fma(low, near, error))
    direction = circle(z.im, reduce, None if more is None else more.im)
    return _turned(z, direction, factor, (shifted, shifted))


@in_double
def exp2(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give 2**z, exactly where z is a whole number."""
    x = clamp(z.re, -2.0 * FAR, 2.0 * FAR)
    shifted = x + WIDE
    factor = exp2_part(x - (shifted - WIDE)) + 1.0
    # A product that is not normal would be rounded before it is scaled.
    tiny = fabs(z.im) < 2.0**-900
    y = select(tiny, z.im * 2.0**128, z.im)
    angle, low = two_product(y, LN2[0])
    # A turn has no exact place in large angles.
    low = select(fabs(angle) < ANGLE_MAX, fma(y, LN2[1], low), 0.0)
    lowered = select(tiny, shifted - 128.0, shifted)
    return _turned(z, circle(angle, reduce, low), factor, (shifted, lowered))


def _turned(z: Complex, direction: Complex, factor: Value, shifted: tuple[Value, Value]) -> Complex:
    """Give the power of z in a direction; what it is where z is infinite, Annex G says.

    `shifted` are the powers of two that each part is multiplied with.
    """
    x, y = z
    re = widely_scaled(direction.re, factor, shifted[0])
    im = widely_scaled(direction.im, factor, shifted[1])
    lost = ~finite(y)
    zero = lost & x.equals(-INF)
    re = select(zero, 0.0, select(lost & x.equals(INF), INF, re))
    im = select(y.equals(0.0), y, select(zero, copysign(x.like(0.0), y), im))
    return Complex(re, im)


@in_double
def expm1(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give e**z - 1.

    Where |x| < 1, its real part is (e^x - 1) cos y + (cos y - 1). Where e^x is infinite, it is
    multiplied with the sine as NumPy does it, even with zero.
    """
    x, y = z
    far = exp(z, reduce=reduce)
    along, up = circle(y, reduce)
    half = circle(y * 0.5, reduce).im
    near = fma(real_expm1(x), along, -2.0 * half * half)
    within = finite(y) & (x <= LOG_MAX)
    # Elsewhere 1, for the flag of infinity times zero.
    endless = select(within, 1.0, select(within, 1.0, x) * INF)
    re = select(fabs(x) < 1.0, near, select(within, far.re - 1.0, endless * along))
    return Complex(re, select(within, far.im, endless * up))


def _grown(x: Value) -> tuple[Value, Value, Value]:
    """Give sinh(x) and cosh(x), but for a power of two n, and n + WIDE."""
    shift = biased(x, -2)
    size = fabs(x)
    shifted, r, low = reduce_exp(at_most(size, FAR), shift)
    # Beyond 2**60, the other power is lost in the rounding of this one.
    held = at_most(shifted, shift + 60.0)
    grows, shrinks = power_of_two(held), power_of_two(2.0 * shift - held)
    z = r * r
    cosine = fma(z * z, polynomial(z, COSH), z * 0.5)
    sine = r + fma(r * z, polynomial(z, SINH), fma(low, cosine, low))
    first, error = two_sum(grows, -shrinks)
    second = grows + shrinks
    odd = 2.0 * (first + fma(second, sine, fma(first, cosine, error)))
    odd = select(size < 2.0**-28, x, copysign(odd, x))
    first = grows - shrinks
    second, error = two_sum(grows, shrinks)
    even = 2.0 * (second + fma(first, sine, fma(second, cosine, error)))
    return odd, even, (shifted - held) + WIDE


def _raised(x: Value, power: Value) -> Value:
    return widely_scaled(x, x.like(1.0), power)


@in_double
def sinh(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give the hyperbolic sine."""
    x, y = z
    odd, even, power = _grown(x)
    along, up = circle(y, reduce)
    re, im = _raised(odd * along, power), _raised(even * up, power)
    # Infinity and zero remain, whatever the direction.
    lost = ~finite(y)
    re = select(lost & x.equals(0.0), x, select(lost & fabs(x).equals(INF), INF, re))
    return Complex(re, select(y.equals(0.0), y, im))


@in_double
def cosh(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give the hyperbolic cosine."""
    x, y = z
    odd, even, power = _grown(x)
    along, up = circle(y, reduce)
    re, im = _raised(even * along, power), _raised(odd * up, power)
    lost, zero = ~finite(y), x.like(0.0)
    re = select(lost & fabs(x).equals(INF), INF, re)
    signs = select(x.unordered(x), y, (x.bits() ^ y.bits()).floats())
    im = select(lost & x.equals(0.0), zero, im)
    return Complex(re, select(y.equals(0.0), copysign(zero, signs), im))


@in_double
def tanh(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give the hyperbolic tangent."""
    x, y = z
    double = fabs(x) * -2.0
    quadruple = 4.0 * real_exp(double)
    less, less_low = expm1_parts(select(double < -60.0, -60.0, double))
    rest, rest_low = two_sum(-less, -less_low)
    other, error = two_sum(rest.like(2.0), -rest)
    (along, up), (along_low, up_low) = circle_parts(y, reduce)
    square = fma(along, along, 2.0 * along * along_low)
    below = fma(rest, rest, fma(quadruple, square, 2.0 * rest * rest_low))
    above = fma(rest, other, fma(rest_low, other - rest, rest * error))
    re = copysign(above / below, x)
    im = fma(up, along, fma(up, along_low, up_low * along)) * (quadruple / below)
    far, lost = fabs(x).equals(INF), ~finite(y)
    re = select(x.equals(0.0), x, select(far, copysign(x.like(1.0), x), re))
    im = select(y.equals(0.0), y, select(far & lost, copysign(y.like(0.0), y), im))
    return Complex(re, im)


@in_double
def sin(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give the sine."""
    return swapped(sinh(swapped(z), reduce=reduce))


@in_double
def cos(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give the cosine."""
    return cosh(Complex(-z.im, z.re), reduce=reduce)


@in_double
def tan(z: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give the tangent."""
    return swapped(tanh(swapped(z), reduce=reduce))
