"""sqrt, sign, log and its kin, and power of complex numbers.

log|z| is half the logarithm of x^2 + y^2; near |z| = 1 that of 1 + (x^2 + y^2 - 1), in which the
1 is subtracted before anything is rounded (`squares`), so that no digit is lost there. sqrt takes
(|x| + |z|) / 2 in two parts, and the other part of the root from y. Whole powers below 100 are
products, in NumPy's order; others are e^(w log z).
"""

from __future__ import annotations

import functools
import operator

from chunkarr.kernels.vecmath.circular import Reduction, quarters
from chunkarr.kernels.vecmath.exponential import LN2, LOG2_E
from chunkarr.kernels.vecmath.inverse import arctan2, arctan2_parts
from chunkarr.kernels.vecmath.logarithm import INF, LOG10_E, inverse_power, rest_of, split
from chunkarr.kernels.vecmath.plane import ANGLE_MAX, Complex, choose, finite, in_double, squares
from chunkarr.kernels.vecmath.plane_waves import exp_of
from chunkarr.kernels.vecmath.roots import hypot
from chunkarr.kernels.vecmath.values import (
    Value,
    any_two_sum,
    copysign,
    fabs,
    fma,
    select,
    trunc,
    two_product,
    two_sum,
)
from chunkarr.kernels.vecmath.values import (
    sqrt as real_sqrt,
)

LARGE, SMALL = 2.0**500, 2.0**-450
SCALE = 2.0**600
"""Where squares would leave the range, and what takes them back into it."""


def _scale(x: Value, y: Value) -> tuple[Value, Value]:
    """Give a power of two that brings the larger of two numbers near 1, and its exponent."""
    large = (fabs(x) > LARGE) | (fabs(y) > LARGE)
    small = (fabs(x) < SMALL) & (fabs(y) < SMALL)
    scale = select(large, x.like(1.0 / SCALE), select(small, x.like(SCALE), 1.0))
    return scale, select(large, x.like(600.0), select(small, x.like(-600.0), 0.0))


def _size_square(x: Value, y: Value) -> tuple[Value, Value]:
    """Give x**2 + y**2 in two parts."""
    first, first_low = two_product(x, x)
    second, second_low = two_product(y, y)
    total, low = any_two_sum(first, second)
    return total, low + (first_low + second_low)


@in_double
def sqrt(z: Complex) -> Complex:
    """Give the root with a real part that is not negative."""
    x, y = z
    scale, exponent = _scale(x, y)
    a, b = fabs(x), fabs(y)
    total, low = _size_square(a * scale, b * scale)
    size = real_sqrt(total)
    zero = size.equals(0.0)
    size_low = (fma(-size, size, total) + low) / select(zero, 2.0, size + size)
    total, low = two_sum(size, a * scale)
    total, low = total * 0.5, (low + size_low) * 0.5
    root = real_sqrt(total)
    root = root + (fma(-root, root, total) + low) / select(zero, 2.0, root + root)
    back = select(exponent > 0.0, x.like(2.0**300), select(exponent < 0.0, x.like(2.0**-300), 1.0))
    endless = a.equals(INF) | b.equals(INF)
    main = select(endless, INF, root * back)
    other = select(b.equals(INF), INF, b / select(zero, 1.0, main + main))
    turned = x < 0.0
    return Complex(select(turned, other, main), copysign(select(turned, main, other), y))


def sign(z: Complex) -> Complex:
    """Give z / |z|, and what NumPy gives where that is nothing or infinite."""
    x, y = z
    size = hypot(x, y)
    nothing, unit = x.like(0.0), x.like(1.0)
    wide, high = fabs(x).equals(INF), fabs(y).equals(INF)
    along = select(wide, copysign(unit, x), nothing)
    up = select(wide, nothing, copysign(unit, y))
    plain = Complex(x / size, y / size)
    result = choose(size.equals(INF) & ~(wide & high), Complex(along, up), plain)
    return choose(size.equals(0.0), Complex(nothing, nothing), result)


def _log_size(terms: tuple[Value, Value], x: Value, x_low: Value, y: Value) -> tuple[Value, Value]:
    """Give log|x + x_low + iy| in two parts; so are `terms`, that number's square less 1."""
    beyond, beyond_low = terms
    near = (beyond > -0.29) & (beyond < 0.41)
    scale, exponent = _scale(x, y)
    scaled_x = x * scale
    total, low = _size_square(scaled_x, y * scale)
    low = fma(scaled_x + scaled_x, x_low * scale, low)
    k, m, raised = split(total)
    zero = total.equals(0.0)
    f = select(zero, -2.0, select(near, beyond, m - 1.0))
    low = select(zero, 0.0, select(near, beyond_low, low * inverse_power(raised)))
    k = select(near, 0.0, fma(exponent, 2.0, k))
    f, low = any_two_sum(f, low)
    half, rest = rest_of(f)
    whole, whole_low = two_product(k, LN2[0])
    total, error = any_two_sum(whole, f)
    error = error - (half - (fma(k, LN2[1], rest) + (low + whole_low)))
    total = select(x.unordered(y), x + y, total)
    endless = fabs(x).equals(INF) | fabs(y).equals(INF)
    return 0.5 * select(endless, INF, total), 0.5 * select(endless, 0.0, error)


@in_double
def log(z: Complex) -> Complex:
    """Give the logarithm with an imaginary part between -pi and pi."""
    x, y = z
    total, rest = _log_size(squares(x.like(-1.0), x, y), x, x.like(0.0), y)
    return Complex(total + rest, arctan2(y, x))


@in_double
def log2(z: Complex) -> Complex:
    """Give the logarithm to the base of 2."""
    return Complex(*(part * LOG2_E for part in log(z)))


@in_double
def log10(z: Complex) -> Complex:
    """Give the logarithm to the base of 10."""
    return Complex(*(part * LOG10_E[0] for part in log(z)))


@in_double
def log1p(z: Complex) -> Complex:
    """Give log(1 + z).

    |1 + z|^2 - 1 is 2x + x^2 + y^2, which loses nothing near 0; left of -1/2, where 1 + x is exact,
    it is (1 + x)^2 + y^2 - 1.
    """
    x, y = z
    along, low = any_two_sum(x, x.like(1.0))
    left = x < -0.5
    terms = squares(select(left, -1.0, x + x), select(left, along, x), y)
    total, rest = _log_size(terms, along, select(finite(x), low, 0.0), y)
    return Complex(total + rest, arctan2(y, along))


def _product(z: Complex, w: Complex) -> Complex:
    """Multiply as NumPy does."""
    return Complex(z.re * w.re - z.im * w.im, z.re * w.im + z.im * w.re)


def _inverse(z: Complex) -> Complex:
    """Divide 1 by a number as NumPy does (Smith's quotient)."""
    wide = fabs(z.re) >= fabs(z.im)
    above, below = select(wide, z.im, z.re), select(wide, z.re, z.im)
    ratio = above / below
    scale = 1.0 / fma(above, ratio, below)
    re, im = select(wide, scale, ratio * scale), select(wide, -(ratio * scale), -scale)
    return Complex(re, im)


WHOLE_MAX = 100
"""Whole exponents below this are products."""


def _whole_power(z: Complex, exponent: Value) -> Complex:
    """Give z to the power of a whole number between -WHOLE_MAX and WHOLE_MAX, by squaring."""
    result, square = Complex(z.re.like(1.0), z.re.like(0.0)), z
    # NumPy starts from 1, which turns a zero's sign, but for the first powers.
    plain = (exponent > 0.0) & (exponent <= 3.0)
    started = exponent.unordered(exponent)
    rest = fabs(exponent)
    for _ in range(WHOLE_MAX.bit_length()):
        half = trunc(rest * 0.5)
        odd = ~(half + half).equals(rest)
        more = _product(result, square)
        more = choose(plain & ~started, square, more)
        result = choose(odd, more, result)
        started = started | odd
        square = _product(square, square)
        rest = half
    return choose(exponent < 0.0, _inverse(result), result)


@in_double
def power(z: Complex, w: Complex, *, reduce: Reduction = quarters) -> Complex:
    """Give z**w."""
    x, y = z
    result = _log_power(z, w, reduce)
    whole = w.im.equals(0.0) & w.re.equals(trunc(w.re)) & (fabs(w.re) < float(WHOLE_MAX))
    result = choose(whole, _whole_power(z, select(whole, w.re, 0.0)), result)
    nothing, one = x.like(0.0), x.like(1.0)
    # Zero to a power that does not make it vanish is 0 / 0.
    empty = x.equals(0.0) & y.equals(0.0)
    lost = nothing / select(empty & ~(w.re > 0.0), nothing, 1.0)
    result = choose(empty, Complex(lost, select(w.re > 0.0, nothing, lost)), result)
    return choose(w.re.equals(0.0) & w.im.equals(0.0), Complex(one, nothing), result)


def _log_power(z: Complex, w: Complex, reduce: Reduction) -> Complex:
    """Give e**(w log z), with the logarithm and the product in two parts each."""
    x, y = z
    size, size_low = _log_size(squares(x.like(-1.0), x, y), x, x.like(0.0), y)
    angle, angle_low = arctan2_parts(y, x)
    size, size_low = any_two_sum(size, size_low)
    angle, angle_low = two_sum(angle, angle_low)
    logarithm = Complex(size, copysign(angle, y))
    low = Complex(size_low, (angle_low.bits() ^ (y.bits() & (1 << 63))).floats())
    first, second = two_product(w.re, logarithm.re), two_product(w.im, logarithm.im)
    re, re_low = any_two_sum(first[0], -second[0])
    re_low = re_low + (first[1] - second[1]) + fma(w.re, low.re, -(w.im * low.im))
    first, second = two_product(w.re, logarithm.im), two_product(w.im, logarithm.re)
    im, im_low = any_two_sum(first[0], second[0])
    im_low = im_low + (first[1] + second[1]) + fma(w.re, low.im, w.im * low.re)
    product = Complex(re, im)
    certain = finite(re) & finite(im) & finite(re_low) & (fabs(im) < ANGLE_MAX) & finite(im_low)
    more = Complex(select(certain, re_low, 0.0), select(certain, im_low, 0.0))
    return exp_of(_recovered(product, w, logarithm), more, reduce)


def _recovered(product: Complex, z: Complex, w: Complex) -> Complex:
    """Give a product; where both parts are NaN though something is infinite, as Annex G has it."""
    parts = (*z, *w)
    endless = [fabs(one * other).equals(INF) for one in z for other in w]
    endless += [fabs(part).equals(INF) for part in parts]
    again = product.re.unordered(product.re) & product.im.unordered(product.im)
    again = again & functools.reduce(operator.or_, endless)
    a, b = (_boxed(part, fabs(z.re).equals(INF) | fabs(z.im).equals(INF)) for part in z)
    c, d = (_boxed(part, fabs(w.re).equals(INF) | fabs(w.im).equals(INF)) for part in w)
    size = select(again, INF, a.like(1.0))
    return choose(again, Complex(size * (a * c - b * d), size * (a * d + b * c)), product)


def _boxed(x: Value, endless: Value) -> Value:
    """Give a part of a number with 1 for infinity, and 0 for NaN and for what is finite beside."""
    nothing = copysign(x.like(0.0), x)
    unit = select(fabs(x).equals(INF), copysign(x.like(1.0), x), nothing)
    return select(endless, unit, select(x.unordered(x), nothing, x))
