"""Conversions of half precision, as LLVM code.

Processors of the last ten years have instructions for it. For others LLVM would call functions of
compilers' own libraries, which no process has to have, so bits are moved instead: a product with a
power of two puts the exponent right, rounds what is subnormal in half precision to subnormal single
precision at the same place, and sets the flags that the instructions set.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

_F4, _I2, _I4 = ir.FloatType(), ir.IntType(16), ir.IntType(32)
_SIGN, _REST = 0x8000, 0x7FFF
_MANTISSA_BITS = 13
"""What single precision has more than half precision."""
_HALF_INF, _HALF_NAN = 0x7C00, 0x7E00
_INF = 0x7F800000
_BIAS = 112
"""By how much the exponents' biases differ."""
_TINY = 2.0**-14
"""The least normal number."""
_GREAT = 65520.0
"""The least number that is rounded to infinity."""


def from_half(builder: Any, bits: Any, *, native: bool) -> Any:
    """Give the number of a half's bits; `native` says whether the processor converts."""
    if native:
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), _F4)
    rest = builder.zext(builder.and_(bits, _I2(_REST)), _I4)
    moved = builder.shl(rest, _I4(_MANTISSA_BITS))
    number = builder.bitcast(builder.fmul(builder.bitcast(moved, _F4), _F4(2.0**_BIAS)), _I4)
    endless = builder.icmp_unsigned(">=", rest, _I4(_HALF_INF))
    found = builder.select(endless, builder.or_(moved, _I4(_INF)), number)
    sign = builder.shl(builder.zext(builder.and_(bits, _I2(_SIGN)), _I4), _I4(16))
    return builder.bitcast(builder.or_(found, sign), _F4)


def to_half(builder: Any, number: Any, *, native: bool) -> Any:
    """Give the bits of the half next to a number."""
    if native:
        return builder.bitcast(builder.fptrunc(number, ir.HalfType()), _I2)
    bits = builder.bitcast(number, _I4)
    rest = builder.and_(bits, _I4(0x7FFFFFFF))
    size, zero = builder.bitcast(rest, _F4), _F4(0.0)
    tiny, great = (
        builder.fcmp_ordered(sign, size, _F4(edge)) for sign, edge in (("<", _TINY), (">=", _GREAT))
    )
    even = builder.and_(builder.lshr(rest, _I4(_MANTISSA_BITS)), _I4(1))
    nearest = builder.add(rest, builder.add(even, _I4((1 << (_MANTISSA_BITS - 1)) - 1)))
    rounded = builder.sub(nearest, _I4(_BIAS << 23))
    found = builder.lshr(rounded, _I4(_MANTISSA_BITS))
    # Products of what is not asked for are products of zero, which set no flag.
    small = builder.fmul(builder.select(tiny, size, zero), _F4(2.0**-125))
    found = builder.select(tiny, builder.bitcast(small, _I4), found)
    large = builder.fmul(builder.select(great, size, zero), _F4(2.0**113))
    endless = builder.lshr(builder.bitcast(large, _I4), _I4(_MANTISSA_BITS))
    found = builder.select(great, builder.and_(endless, _I4(_HALF_INF)), found)
    lost = builder.icmp_unsigned(">", rest, _I4(_INF))
    found = builder.select(lost, _I4(_HALF_NAN), found)
    sign = builder.and_(builder.lshr(bits, _I4(16)), _I4(_SIGN))
    return builder.trunc(builder.or_(found, sign), _I2)
