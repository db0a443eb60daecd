"""Complex values, and what their functions are made of: waves, wide scales, sums that cancel.

A function of the complex plane takes and gives pairs of `Value`s, its parts. It is as free of
branches as the real ones, which it consists of; infinities and NaN are choices at its end, as C99's
Annex G and NumPy have them. complex64 is computed in float64 and rounded once, so that one text and
one table of errors serve both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from chunkarr.kernels.vecmath import LARGE
from chunkarr.kernels.vecmath.circular import Reduction, first_bit, signed, sin_cos
from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.values import Value, any_two_sum, fabs, select, two_product

ANGLE_MAX = LARGE["f8"]
"""From here on, reductions need the exact way."""


class Complex(NamedTuple):
    """A complex value of the code that is written."""

    re: Value
    im: Value


Function = Callable[..., Complex]


def in_double(function: Function) -> Function:
    """Let a function of float64 parts take float32 parts as well, whose results are rounded."""

    @functools.wraps(function)
    def rounded(*operands: Complex, **options: Any) -> Complex:
        if not operands[0].re.single:
            return function(*operands, **options)
        wide = (Complex(z.re.widen(), z.im.widen()) for z in operands)
        result = function(*wide, **options)
        return Complex(result.re.narrow(), result.im.narrow())

    return rounded


def swapped(z: Complex) -> Complex:
    """Exchange the parts, which turns sinh, tanh and their inverses into sin, tan and theirs."""
    return Complex(z.im, z.re)


def finite(x: Value) -> Value:
    """Whether a float is neither infinite nor NaN."""
    return fabs(x) < INF


def choose(condition: Value, x: Complex, y: Complex) -> Complex:
    """Choose x where the condition holds, else y."""
    return Complex(select(condition, x.re, y.re), select(condition, x.im, y.im))


def circle(y: Value, reduce: Reduction, more: Value | None = None) -> Complex:
    """Give cos(y + more) and sin(y + more), for a `more` that is small beside y."""
    return circle_parts(y, reduce, more)[0]


def circle_parts(y: Value, reduce: Reduction, more: Value | None = None) -> tuple[Complex, Complex]:
    """Give cos(y + more) and sin(y + more), each in two parts: the higher ones first."""
    r, low, n = reduce(y)
    if more is not None:
        # The reduction is that of |y|.
        r, low = any_two_sum(r, low + signed(more, y.bits()))
    sine, sine_low, cosine, cosine_low = sin_cos(r, low)
    odd, up, along = (n & 1).equals(1), first_bit(n, 1) ^ y.bits(), first_bit(n + 1, 1)
    high, rest = (
        Complex(signed(select(odd, s, c), along), signed(select(odd, c, s), up))
        for s, c in ((sine, cosine), (sine_low, cosine_low))
    )
    return high, rest


WIDE = 1.5 * 2.0**52 + 4 * 1023
"""Adding it to a small number leaves it, with four times the bias, in the low bits."""


def widely_scaled(x: Value, factor: Value, power: Value) -> Value:
    """Give x * factor * 2**n for a factor near 1 and a number n + WIDE, up to 3000 either way.

    x is taken out of the subnormals first, so that only the power of two rounds into them.
    """
    tiny = fabs(x) < 2.0**-900
    x, power = select(tiny, x * 2.0**128, x), select(tiny, power - 128.0, power)
    whole = power.bits()
    quarter = whole >> 2
    part = (quarter << 52).floats()
    last = ((whole - quarter - quarter - quarter) << 52).floats()
    return x * factor * part * part * part * last


def squares(first: Value, x: Value, y: Value) -> tuple[Value, Value]:
    """Give first + x**2 + y**2 in two parts, as if it were not rounded before."""
    x_square, x_low = two_product(x, x)
    y_square, y_low = two_product(y, y)
    total, first_rest = any_two_sum(first, x_square)
    total, second_rest = any_two_sum(total, y_square)
    low, low_rest = any_two_sum(x_low, y_low)
    rest, rest_rest = any_two_sum(first_rest, second_rest)
    low, last_rest = any_two_sum(low, rest)
    total, low = any_two_sum(total, low)
    return total, low + ((low_rest + rest_rest) + last_rest)
