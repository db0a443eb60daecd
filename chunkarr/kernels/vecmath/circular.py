"""sin, cos and tan: one of two polynomials, after subtracting a multiple of pi/2.

|x| = n pi/2 + r with |r| <= pi/4, and n modulo 4 says which polynomial is the result, and its sign.
r comes from fused multiplications by pi in three parts (Cody and Waite 1980; with fused operations
the first one is exact, Boldo, Daumas and Li 2009), and is itself kept in two parts. This holds
below |x| = 2**45, in float32 below 2**19, near multiples of pi as well. tan divides one polynomial
by the other and corrects the error.

The coefficients are minimax (Remez' exchange in 90 digits), rounded.
"""

from __future__ import annotations

from collections.abc import Callable

from chunkarr.kernels.vecmath.power import sign_bit
from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    any_two_sum,
    fabs,
    fma,
    polynomial,
    select,
    two_product,
    two_sum,
)

PI = (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33)
"""Parts of pi; halves of them are parts of pi/2."""
PI_SHORT = (3.1415927410125732, -8.742277657347586e-08, -3.4302490200117637e-15)
"""The same in float32."""
INVERSE_PI = 0.3183098861837907

SIN = Coefficients(
    double=(
        -0.16666666666666632, 0.008333333333322372, -0.00019841269829771744, 2.755731367885964e-06,
        -2.5050755990513623e-08, 1.5896668130917963e-10,
    ),
    single=(-0.16666652262210846, 0.00833201128989458, -0.00019495048036333174),
)  # fmt: skip
"""(sin(r) / r - 1) / r^2 for |r| <= pi/4, in float32 0.81; 2**-57 and 2**-27.6 of sin(r)."""
COS = Coefficients(
    double=(
        0.0416666666666666, -0.0013888888888874066, 2.480158728944445e-05, -2.755731434092838e-07,
        2.0875721659445386e-09, -1.135956115396992e-11,
    ),
    single=(0.041666653007268906, -0.0013887551613152027, 2.445065911160782e-05),
)  # fmt: skip
"""(cos(r) - 1 + r^2/2) / r^4 for the same; 2**-59 and 2**-31 of cos(r)."""

Angle = tuple[Value, Value, Value]
"""r in two parts and an integer n, |x| = n pi/2 + r."""
Reduction = Callable[[Value], Angle]


def quarters(x: Value) -> Angle:
    """Reduce |x| < LARGE; the low bits of the integer are n."""
    size, shift = fabs(x), x.format.shift
    first_part, second_part, third_part = PI_SHORT if x.single else PI
    shifted = fma(size, 2.0 * INVERSE_PI, shift)
    n = (shifted - shift) * 0.5
    first = fma(-n, first_part, size)
    product, error = two_product(n, second_part)
    r, low = any_two_sum(first, -product)
    return r, fma(-n, third_part, low - error), shifted.bits()


def sin_cos(r: Value, low: Value) -> tuple[Value, Value, Value, Value]:
    """Give sin(r + low) and cos(r + low), each in two parts, for |r| <= pi/4."""
    z = r * r
    sine, sine_low = two_sum(r, fma(r * z, polynomial(z, SIN), low))
    first, error = two_sum(z.like(1.0), z * -0.5)
    cosine, cosine_low = two_sum(first, fma(z * z, polynomial(z, COS), fma(-r, low, error)))
    return sine, sine_low, cosine, cosine_low


def signed(x: Value, signs: Value) -> Value:
    """Flip the sign of x where the first bit of an integer is set."""
    return (x.bits() ^ (signs & sign_bit(x))).floats()


def first_bit(n: Value, place: int) -> Value:
    """Bring a bit of an integer to the first place; the lowest one is 0."""
    return n << int(n.ir.type.width - 1 - place)


def _wave(x: Value, reduce: Reduction, quarter: int) -> tuple[Value, Value]:
    """Give the sine of |x| + quarter * pi/2, but for a sign, and that sign's bit."""
    r, low, n = reduce(x)
    n = n + quarter
    # What sin_cos gives, added up; the parts are not wanted here.
    z = r * r
    sine = r + fma(r * z, polynomial(z, SIN), low)
    first, error = two_sum(z.like(1.0), z * -0.5)
    cosine = first + fma(z * z, polynomial(z, COS), fma(-r, low, error))
    return select((n & 1).equals(0), sine, cosine), first_bit(n, 1)


def sin_of(x: Value, reduce: Reduction) -> Value:
    """Give the sine of radians that a function reduces."""
    size, signs = _wave(x, reduce, 0)
    return signed(size, signs ^ x.bits())


def cos_of(x: Value, reduce: Reduction) -> Value:
    """Give the cosine of radians that a function reduces."""
    return signed(*_wave(x, reduce, 1))


def tan_of(x: Value, reduce: Reduction) -> Value:
    """Give the tangent of radians that a function reduces."""
    r, low, n = reduce(x)
    odd = (n & 1).equals(1)
    signs = first_bit(n, 0) ^ x.bits()
    sine, sine_low, cosine, cosine_low = sin_cos(r, low)
    above, above_low = select(odd, cosine, sine), select(odd, cosine_low, sine_low)
    below, below_low = select(odd, sine, cosine), select(odd, sine_low, cosine_low)
    return signed(quotient(above, above_low, below, below_low), signs)


def quotient(above: Value, above_low: Value, below: Value, below_low: Value) -> Value:
    """Give (above + above_low) / (below + below_low), rounded about once."""
    inverse = 1.0 / below
    ratio = above * inverse
    rest = fma(-ratio, below, above) + fma(-ratio, below_low, above_low)
    return fma(rest, inverse, ratio)


def sin(x: Value) -> Value:
    """Give the sine of radians below LARGE."""
    return sin_of(x, quarters)


def cos(x: Value) -> Value:
    """Give the cosine of radians below LARGE."""
    return cos_of(x, quarters)


def tan(x: Value) -> Value:
    """Give the tangent of radians below LARGE."""
    return tan_of(x, quarters)
