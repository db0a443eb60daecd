"""Angles of any size: exact reductions for sin, cos and tan.

|x| = m 2^e with an integer m, and the quarter turns in it, modulo 4, are those bits of m times 2/pi
that stand around the binary point: 256 bits of 2/pi, in float32 128, chosen by e, are enough (Payne
and Hanek, ACM SIGNUM Newsletter 18, 1983). LLVM has integers of any width, so this reads like the
formula. It is slow, which is why kernels use it only after they have met a large operand.
"""

from __future__ import annotations

from llvmlite import ir

from chunkarr.kernels.vecmath import LARGE
from chunkarr.kernels.vecmath.circular import PI, Angle, cos_of, quarters, sin_of, tan_of
from chunkarr.kernels.vecmath.logarithm import INF
from chunkarr.kernels.vecmath.values import (
    DOUBLE,
    F8,
    SINGLE,
    Value,
    fabs,
    fma,
    select,
    two_product,
)

TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e0"
    "06492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f4"
    "9c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d"
    "7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)
"""2/pi in units of 2**-1280."""
PLACES = {DOUBLE: (1280, 256), SINGLE: (256, 128)}
"""Bits of 2/pi, and of its window that takes part: 2 before the binary point, those of m that push
others out, and the rest."""

WORD = ir.IntType(64)


def _to(x: Value, kind: ir.IntType) -> Value:
    cast = x.builder.zext if kind.width > x.ir.type.width else x.builder.trunc
    return Value(x.builder, cast(x.ir, kind))


def _shift(x: Value, count: Value, *, left: bool) -> Value:
    function = x.builder.shl if left else x.builder.lshr
    return Value(x.builder, function(x.ir, count.ir))


def _to_float(x: Value) -> Value:
    return Value(x.builder, x.builder.uitofp(x.ir, F8))


def any_angle(x: Value) -> Angle:
    """Reduce x like `quarters`, which it is up to LARGE, but whatever its size."""
    size, limit = fabs(x), LARGE["f4" if x.single else "f8"]
    r, low, n = quarters(x)
    large = (size >= limit) & (size < INF)
    far, far_low, far_n = _far(select(large, size, limit))
    return select(large, far, r), select(large, far_low, low), select(large, far_n, n)


def _far(size: Value) -> Angle:
    kind, bits = size.format, size.bits()
    places, window = PLACES[kind]
    all_of, part = ir.IntType(places), ir.IntType(window)
    m = _to((bits & kind.fraction) | (kind.fraction + 1), part)
    constant = Value(size.builder, ir.Constant(all_of, TWO_OVER_PI >> (1280 - places)))
    # m counts units of 2**(exponent - bias - mantissa), the window 2**(2 - window) quarter turns.
    unit = kind.bias + kind.mantissa
    count = _to(places + 2 - window + unit - (bits >> kind.mantissa), all_of)
    turns = m * _to(_shift(constant, count, left=False), part)
    fraction = turns << 2
    up = fraction >> (window - 1)
    n = _to((turns >> (window - 2)) + up, bits.ir.type)
    negative = up.equals(1)
    fraction = select(negative, 0 - fraction, fraction)
    zeros = Value(size.builder, size.builder.ctlz(fraction.ir, ir.Constant(ir.IntType(1), 0)))
    digits = _shift(fraction, zeros, left=True)
    scale = ((DOUBLE.bias - _to(zeros, WORD)) << DOUBLE.mantissa).floats()
    high = _to_float(_to(digits >> (window - 53), WORD)) * (scale * 2.0**-53)
    rest = _to_float(_to(digits >> (window - 106), WORD) & ((1 << 53) - 1)) * (scale * 2.0**-106)
    r, error = two_product(high, PI[0] / 2)
    low = fma(high, PI[1] / 2, fma(rest, PI[0] / 2, error))
    if size.single:
        r, low = r.narrow(), (r - r.narrow().widen()).narrow()
    return select(negative, -r, r), select(negative, -low, low), n


def any_sin(x: Value) -> Value:
    """Give the sine of radians."""
    return sin_of(x, any_angle)


def any_cos(x: Value) -> Value:
    """Give the cosine of radians."""
    return cos_of(x, any_angle)


def any_tan(x: Value) -> Value:
    """Give the tangent of radians."""
    return tan_of(x, any_angle)
