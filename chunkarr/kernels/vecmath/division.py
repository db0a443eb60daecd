"""fmod, remainder and floor_divide: to the bit what NumPy gives, without a loop.

With q the whole part of the rounded quotient, x - q y is exact in a fused multiplication as long as
q < 2**53; q may be one too large, which shows in the sign. Larger quotients are left to the C
library, by the versions that kernels use once they have met one.
"""

from __future__ import annotations

from collections.abc import Callable

from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.values import Value, copysign, fabs, floor, fma, select, trunc

Remainder = Callable[[Value, Value], Value]


def fmod(x: Value, y: Value) -> Value:
    """Give the remainder of x / y with the sign of x, for |x / y| < 2**53."""
    a, b = fabs(x), fabs(y)
    if x.single:
        a, b = a.widen(), b.widen()
    rest = fma(-trunc(a / b), b, a)
    rest = select(rest < 0.0, rest + b, rest)
    rest = select(b.equals(INF) & (a < INF), a, rest)
    return copysign(rest.narrow() if x.single else rest, x)


def any_fmod(x: Value, y: Value) -> Value:
    """Give the remainder of x / y with the sign of x."""
    return Value(x.builder, x.builder.frem(x.ir, y.ir))


def _across(rest: Value, y: Value) -> Value:
    """Whether a remainder and y have different signs, so that a multiple of y lies between."""
    return ~rest.equals(0.0) & ((rest < 0.0) ^ (y < 0.0))


def _remainder(x: Value, y: Value, fmod: Remainder) -> Value:
    rest = fmod(x, y)
    found = select(_across(rest, y), rest + y, rest)
    return select(rest.equals(0.0), copysign(rest, y), found)


def _floor_divide(x: Value, y: Value, fmod: Remainder) -> Value:
    rest = fmod(x, y)
    quotient = x / y
    whole = (x - rest) / y
    whole = select(_across(rest, y), whole - 1.0, whole)
    down = floor(whole)
    down = select(whole - down > 0.5, down + 1.0, down)
    down = select(whole.equals(0.0), copysign(whole, quotient), down)
    return select(y.equals(0.0), quotient, down)


def remainder(x: Value, y: Value) -> Value:
    """Give the remainder of x / y with the sign of y, for |x / y| < 2**53."""
    return _remainder(x, y, fmod)


def any_remainder(x: Value, y: Value) -> Value:
    """Give the remainder of x / y with the sign of y."""
    return _remainder(x, y, any_fmod)


def floor_divide(x: Value, y: Value) -> Value:
    """Give the largest whole number that is not above x / y, for |x / y| < 2**53."""
    return _floor_divide(x, y, fmod)


def any_floor_divide(x: Value, y: Value) -> Value:
    """Give the largest whole number that is not above x / y."""
    return _floor_divide(x, y, any_fmod)
