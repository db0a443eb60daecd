"""Division of integers, in vectors: processors have no instruction for it on more than one number.

A product with a reciprocal that is larger by three or four roundings than it should be is never
below the quotient, and above it by less than what x lacks to the next multiple of the divisor, if
the significand has four bits more than the operands. So integers of 8 and 16 bits are divided in
single precision, those of 32 bits in double precision. A first quotient of 64-bit integers in
double precision leaves a rest of few bits more than the divisor has; its quotient corrects the
first to within one, and the sign of what then remains does the rest. Where a processor cannot
convert vectors of such integers, its own division is faster.

As in NumPy, x // 0, x % 0 and fmod(x, 0) are 0, and the least number divided by -1 is itself.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

_DOUBLE = ir.DoubleType()
_GREATEST = {True: float(2**63 - 1024), False: float(2**64 - 2048)}
"""The greatest numbers in double precision that 64-bit integers hold, signed ones and others."""


def floor_divide(builder: Any, x: Any, y: Any, *, signed: bool, wide: bool) -> Any:
    """Give the greatest whole number that is not above x / y.

    `wide` says whether vectors of 64-bit integers are converted to floats and back.
    """
    return _Division(builder, x, y, signed=signed, wide=wide).quotient


def remainder(builder: Any, x: Any, y: Any, *, signed: bool, wide: bool) -> Any:
    """Give what is left of x, with the sign of y."""
    return _Division(builder, x, y, signed=signed, wide=wide).rest


def fmod(builder: Any, x: Any, y: Any, *, signed: bool, wide: bool) -> Any:
    """Give what is left of x, with the sign of x."""
    found = _Division(builder, x, y, signed=signed, wide=wide)
    if not signed:
        return found.rest
    zero = x.type(0)
    some = builder.icmp_signed("!=", found.rest, zero)
    other = builder.icmp_signed("<", builder.xor(found.rest, x), zero)
    less = builder.sub(found.rest, found.divisor)
    made = builder.select(builder.and_(some, other), less, found.rest)
    return builder.select(found.undefined, zero, made)


class _Division:
    """One division: the quotient rounded down, and what is left."""

    def __init__(self, builder: Any, x: Any, y: Any, *, signed: bool, wide: bool) -> None:
        self._builder, self._signed, self._kind = builder, signed, x.type
        zero = self._kind(0)
        self.undefined = builder.icmp_signed("==", y, zero)
        spared = self.undefined
        if signed:
            least = builder.icmp_signed("==", x, self._kind(-1 << (self._kind.width - 1)))
            minus = builder.icmp_signed("==", y, self._kind(-1))
            spared = builder.or_(spared, builder.and_(least, minus))
        self.divisor = builder.select(spared, self._kind(1), y)
        if self._kind.width < 64:
            quotient = self._short(x)
        elif wide:
            quotient = self._long(x)
        else:
            quotient = (builder.sdiv if signed else builder.udiv)(x, self.divisor)
        rest = builder.sub(x, builder.mul(quotient, self.divisor))
        quotient, rest = self._lowered(quotient, rest)
        self.quotient = builder.select(self.undefined, zero, quotient)
        self.rest = builder.select(self.undefined, zero, rest)

    def _float(self, value: Any, kind: Any, *, signed: bool) -> Any:
        convert = self._builder.sitofp if signed else self._builder.uitofp
        return convert(value, kind)

    def _whole(self, value: Any, *, signed: bool) -> Any:
        convert = self._builder.fptosi if signed else self._builder.fptoui
        return convert(value, self._kind)

    def _short(self, x: Any) -> Any:
        builder, wide = self._builder, self._kind.width == 32
        kind = _DOUBLE if wide else ir.FloatType()
        above, below = (self._float(v, kind, signed=self._signed) for v in (x, self.divisor))
        # A reciprocal that is a little too great: one for all elements where the divisor is one.
        enlarged = kind(1 + 2.0 ** (-50 if wide else -21))
        inverse = builder.fmul(builder.fdiv(kind(1.0), below), enlarged)
        return self._whole(builder.fmul(above, inverse), signed=self._signed)

    def _long(self, x: Any) -> Any:
        builder, signed = self._builder, self._signed
        above, below = (self._float(v, _DOUBLE, signed=signed) for v in (x, self.divisor))
        most = _DOUBLE(_GREATEST[signed])
        first = builder.fdiv(above, below)
        first = builder.select(builder.fcmp_ordered("<", first, most), first, most)
        quotient = self._whole(first, signed=signed)
        rest = builder.sub(x, builder.mul(quotient, self.divisor))
        # Too great a first quotient leaves a rest below zero, of unsigned numbers too.
        second = builder.fdiv(self._float(rest, _DOUBLE, signed=True), below)
        quotient = builder.add(quotient, self._whole(second, signed=True))
        if signed:
            return quotient
        large = builder.icmp_signed("<", self.divisor, self._kind(0))
        once = builder.zext(builder.icmp_unsigned(">=", x, self.divisor), self._kind)
        return builder.select(large, once, quotient)

    def _lowered(self, quotient: Any, rest: Any) -> tuple[Any, Any]:
        """Round a quotient down that is one too great, or rounded to zero from below."""
        builder, zero = self._builder, self._kind(0)
        if self._signed:
            some = builder.icmp_signed("!=", rest, zero)
            other = builder.icmp_signed("<", builder.xor(rest, self.divisor), zero)
            below = builder.and_(some, other)
        elif self._kind.width == 64:
            # Divisors of 64 bits leave no such rest.
            small = builder.icmp_signed(">=", self.divisor, zero)
            below = builder.and_(builder.icmp_signed("<", rest, zero), small)
        else:
            return quotient, rest
        return (
            builder.select(below, builder.sub(quotient, self._kind(1)), quotient),
            builder.select(below, builder.add(rest, self.divisor), rest),
        )
