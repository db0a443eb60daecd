"""Values of a function that is being written: Python's operators make straight-line LLVM code.

A function of `vecmath` is a Python function of `Value`s. Called once while a kernel is lowered, it
leaves instructions without branches, calls or memory, which is what LLVM's loop vectoriser wants:
a choice is a `select`, whose two sides are both computed. Typing the same text with Numba was the
alternative; it takes a hundred times as long and makes branches of conditional expressions.

No instruction carries fast-math flags, so nothing is contracted or reordered: a function gives the
same bits on every processor, with or without vectors and fused multiplication.

Most functions are one text for float64 and float32. What differs is said where it stands: numbers
of the `Format`, shorter polynomials (`Coefficients`), and constants whose parts are cut elsewhere
(`parts`). float32 is then done in vectors of twice as many numbers.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

F8, F4 = ir.DoubleType(), ir.FloatType()
_INTEGERS = {F8: ir.IntType(64), F4: ir.IntType(32)}
_FLOATS = {64: F8, 32: F4}

Number = float | int


class Format(NamedTuple):
    """What the functions know of a kind of float."""

    mantissa: int
    """Stored bits of the mantissa."""
    bias: int
    """What the stored exponent of 1 is."""
    lowest: float
    """2 to the power of this rounds to zero."""
    highest: float
    """2 to the power of this is infinite."""

    @property
    def shift(self) -> float:
        """Adding it to a small number leaves the nearest integer in the low bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def fraction(self) -> int:
        """The bits of the mantissa."""
        return (1 << self.mantissa) - 1


SHORT = 7
"""Coefficients of a short polynomial."""

DOUBLE = Format(52, 1023, -1077.0, 1025.0)
SINGLE = Format(23, 127, -152.0, 130.0)


class Coefficients(NamedTuple):
    """A polynomial for float64 and one for float32; the constant comes first."""

    double: tuple[float, ...]
    single: tuple[float, ...]


class Value:
    """A float, an integer or a truth value of the code that is written."""

    __slots__ = ("builder", "ir")

    def __init__(self, builder: Any, value: Any) -> None:
        """Wrap an LLVM value."""
        self.builder = builder
        self.ir = value

    @property
    def single(self) -> bool:
        """Whether this is a float32 or an integer of its width."""
        return bool(self.ir.type in {F4, _INTEGERS[F4]})

    @property
    def format(self) -> Format:
        """What is known of the kind of float that this is, or whose bits."""
        return SINGLE if self.single else DOUBLE

    def like(self, other: Value | Number) -> Value:
        """Give an operand of this value's type; numbers become constants."""
        if isinstance(other, Value):
            return other
        if self.ir.type == F4:
            other = float(np.float32(other))
        elif isinstance(other, int) and other >= 1 << (self.ir.type.width - 1):
            other -= 1 << self.ir.type.width
        return self._new(ir.Constant(self.ir.type, other))

    def _new(self, value: Any) -> Value:
        return Value(self.builder, value)

    def _apply(self, floats: str, integers: str, other: Value | Number, *, swap: bool) -> Value:
        left, right = self, self.like(other)
        if swap:
            left, right = right, left
        name = floats if self.ir.type in _INTEGERS else integers
        return self._new(getattr(self.builder, name)(left.ir, right.ir))

    def __add__(self, other: Value | Number) -> Value:
        return self._apply("fadd", "add", other, swap=False)

    def __radd__(self, other: Number) -> Value:
        return self._apply("fadd", "add", other, swap=True)

    def __sub__(self, other: Value | Number) -> Value:
        return self._apply("fsub", "sub", other, swap=False)

    def __rsub__(self, other: Number) -> Value:
        return self._apply("fsub", "sub", other, swap=True)

    def __mul__(self, other: Value | Number) -> Value:
        return self._apply("fmul", "mul", other, swap=False)

    def __rmul__(self, other: Number) -> Value:
        return self._apply("fmul", "mul", other, swap=True)

    def __truediv__(self, other: Value | Number) -> Value:
        return self._apply("fdiv", "sdiv", other, swap=False)

    def __rtruediv__(self, other: Number) -> Value:
        return self._apply("fdiv", "sdiv", other, swap=True)

    def __and__(self, other: Value | Number) -> Value:
        return self._new(self.builder.and_(self.ir, self.like(other).ir))

    def __or__(self, other: Value | Number) -> Value:
        return self._new(self.builder.or_(self.ir, self.like(other).ir))

    def __xor__(self, other: Value | Number) -> Value:
        return self._new(self.builder.xor(self.ir, self.like(other).ir))

    def __invert__(self) -> Value:
        return self._new(self.builder.not_(self.ir))

    def __lshift__(self, count: int) -> Value:
        return self._new(self.builder.shl(self.ir, self.like(count).ir))

    def __rshift__(self, count: int) -> Value:
        """Shift zeros in from the left."""
        return self._new(self.builder.lshr(self.ir, self.like(count).ir))

    def __neg__(self) -> Value:
        return self._new(self.builder.fneg(self.ir))

    def _compare(self, sign: str, other: Value | Number) -> Value:
        right = self.like(other)
        if self.ir.type in _INTEGERS:
            return self._new(self.builder.fcmp_ordered(sign, self.ir, right.ir))
        return self._new(self.builder.icmp_signed(sign, self.ir, right.ir))

    def __lt__(self, other: Value | Number) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Value | Number) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Value | Number) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self._compare(">=", other)

    def equals(self, other: Value | Number) -> Value:
        """Compare; a NaN equals nothing."""
        return self._compare("==", other)

    def unordered(self, other: Value) -> Value:
        """Whether one of two floats is no number."""
        return self._new(self.builder.fcmp_unordered("uno", self.ir, other.ir))

    def bits(self) -> Value:
        """Take a float's bits for an integer."""
        return self._new(self.builder.bitcast(self.ir, _INTEGERS[self.ir.type]))

    def floats(self) -> Value:
        """Take an integer for a float's bits."""
        return self._new(self.builder.bitcast(self.ir, _FLOATS[self.ir.type.width]))

    def widen(self) -> Value:
        """Convert to float64."""
        return self._new(self.builder.fpext(self.ir, F8))

    def narrow(self) -> Value:
        """Round to float32."""
        return self._new(self.builder.fptrunc(self.ir, F4))


def _intrinsic(name: str, *operands: Value) -> Value:
    first = operands[0]
    kind = first.ir.type
    width = "f64" if kind == F8 else "f32"
    signature = ir.FunctionType(kind, [kind] * len(operands))
    name = f"llvm.{name}.{width}"
    module = first.builder.module
    function = module.globals.get(name) or ir.Function(module, signature, name)
    return Value(first.builder, first.builder.call(function, [v.ir for v in operands]))


def fma(x: Value, y: Value | Number, z: Value | Number) -> Value:
    """Give x * y + z, rounded once."""
    return _intrinsic("fma", x, x.like(y), x.like(z))


def rint(x: Value) -> Value:
    """Round to the nearest integer, halves to the even one."""
    return _intrinsic("rint", x)


def floor(x: Value) -> Value:
    """Round down."""
    return _intrinsic("floor", x)


def trunc(x: Value) -> Value:
    """Round toward zero."""
    return _intrinsic("trunc", x)


def fabs(x: Value) -> Value:
    """Clear the sign."""
    return _intrinsic("fabs", x)


def sqrt(x: Value) -> Value:
    """Give the correctly rounded square root."""
    return _intrinsic("sqrt", x)


def copysign(x: Value, y: Value) -> Value:
    """Give x with the sign of y."""
    return _intrinsic("copysign", x, y)


def select(condition: Value, x: Value | Number, y: Value | Number) -> Value:
    """Choose x where the condition holds, else y; one of them is a `Value`."""
    typed = x if isinstance(x, Value) else y
    assert isinstance(typed, Value)
    left, right = typed.like(x), typed.like(y)
    return Value(condition.builder, condition.builder.select(condition.ir, left.ir, right.ir))


def at_most(x: Value, high: Number) -> Value:
    """Keep x below a bound; a NaN stays."""
    return select(x > high, high, x)


def clamp(x: Value, low: Number, high: Number) -> Value:
    """Keep x between bounds; a NaN stays."""
    return at_most(select(x < low, low, x), high)


def parts(x: Value, high: float, low: float) -> tuple[float, float]:
    """Cut a constant, given in two parts for float64, for the kind of float that x is."""
    if not x.single:
        return high, low
    first = float(np.float32(high))
    return first, (high - first) + low


def polynomial(x: Value, coefficients: Coefficients | tuple[float, ...]) -> Value:
    """Evaluate a polynomial; the first coefficient is the constant.

    Loops of float64 wait for results more than for units: pairs of terms are added up beside each
    other, by Estrin's scheme. In float32 short polynomials take Horner's, which has fewer steps.
    """
    if isinstance(coefficients, Coefficients):
        coefficients = coefficients.single if x.single else coefficients.double
    if x.single and len(coefficients) <= SHORT:
        *rest, last = coefficients
        return functools.reduce(lambda total, c: fma(total, x, c), reversed(rest), x.like(last))
    powers = [x]
    while 2 << len(powers) <= 2 * len(coefficients) - 1:
        powers.append(powers[-1] * powers[-1])
    return _estrin(powers, coefficients)


def _estrin(powers: list[Value], coefficients: tuple[float, ...]) -> Value:
    """Evaluate the lower terms, then the higher ones: so few values wait for others at a time."""
    if len(coefficients) == 1:
        return powers[0].like(coefficients[0])
    level = (len(coefficients) - 1).bit_length() - 1
    low = _estrin(powers, coefficients[: 1 << level])
    return fma(_estrin(powers, coefficients[1 << level :]), powers[level], low)


def two_sum(x: Value, y: Value) -> tuple[Value, Value]:
    """Give the rounded sum and its error, for |x| >= |y| (Dekker 1971)."""
    total = x + y
    return total, y - (total - x)


def any_two_sum(x: Value, y: Value) -> tuple[Value, Value]:
    """Give the rounded sum and its error, whichever is larger (Knuth, TAOCP 2, 4.2.2)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def two_product(x: Value, y: Value | Number) -> tuple[Value, Value]:
    """Give the rounded product and its error."""
    product = x * y
    return product, fma(x, y, -product)
