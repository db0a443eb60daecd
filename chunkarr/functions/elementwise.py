"""Elementwise functions that are not ufuncs, and NumPy's shortcuts for powers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from chunkarr.expr.build import apply, as_expr, cast, cast_lazily, constant, elementwise, own, where
from chunkarr.expr.node import Expr
from chunkarr.functions.reductions import all as all_

UFUNCS: tuple[str, ...] = tuple(
    # What NumPy has loaded, not `dir(np)`: asking for every name would load all its sub-packages.
    sorted(
        name
        for name, value in vars(np).items()
        if isinstance(value, np.ufunc) and value.signature is None
    )
)
"""NumPy's elementwise ufuncs, aliases included."""

POWERS = {2: "square", 1: "positive", 0.5: "sqrt", -1: "reciprocal"}
"""Exponents for which `x ** e` runs another ufunc in NumPy too."""


def power(base: object, exponent: object, *, shortcut: bool = False) -> Expr:
    """Raise to a power; with `shortcut` as the operator does."""
    if type(exponent) in (int, float) and isinstance(base, Expr):
        if type(exponent) is int and exponent < 0 and base.dtype.kind in "bi" and base.size:
            message = "Integers to negative integer powers are not allowed."
            raise ValueError(message)
        if base.dtype.kind in "fc":
            name = POWERS.get(exponent)  # type: ignore[call-overload]
            if name and (shortcut or name == "square"):
                return apply(name, base)
        # The operator squares booleans to int8; the ufunc promotes them to int64.
        squared = base.dtype.kind in ("biu" if shortcut else "iu")
        if type(exponent) is int and exponent == 2 and squared:
            return apply("square", base)
        if type(exponent) is int and 2 < exponent <= MULTIPLIED_MAX and base.dtype.kind in "iu":
            return _multiplied(base, exponent)
    return apply("power", base, exponent)


MULTIPLIED_MAX = 64
"""Integers are raised to constant powers up to here by products: they wrap to the same bits."""


def _multiplied(base: Expr, exponent: int) -> Expr:
    """Raise to a power from the exponent's highest bit down."""
    made = base
    for bit in bin(exponent)[3:]:
        made = apply("square", made)
        if bit == "1":
            made = apply("multiply", made, base)
    return made


NO_VALUE: Any = np._NoValue  # noqa: SLF001 - how NumPy's own functions say "not given"


def clip(
    a: Expr,
    a_min: object = NO_VALUE,
    a_max: object = NO_VALUE,
    *,
    min: object = None,
    max: object = None,
    dtype: object = None,
    casting: str = "same_kind",
) -> Expr:
    """Limit values to an interval."""
    limits = {"a_min": a_min, "a_max": a_max, "min": min, "max": max}
    given = [k for k, v in limits.items() if v is not (NO_VALUE if k[0] == "a" else None)]
    if a_min is NO_VALUE and a_max is NO_VALUE:
        a_min, a_max = min, max
    elif given != ["a_min", "a_max"]:
        clip_: Any = np.clip
        clip_(np.zeros(1), **dict.fromkeys(given, 0))  # NumPy's own error
    low, high = a_min, a_max
    if a.dtype.kind in "iu":
        # A Python integer that the dtype does not reach limits nothing.
        low = None if type(low) is int and low <= np.iinfo(a.dtype).min else low
        high = None if type(high) is int and high >= np.iinfo(a.dtype).max else high
    if low is None and high is None:
        return elementwise("positive", a, dtype=dtype, casting=casting)[0]
    out: Expr = a
    if low is not None:
        (out,) = elementwise("maximum", out, low, dtype=dtype, casting=casting)
    if high is not None:
        (out,) = elementwise("minimum", out, high, dtype=dtype, casting=casting)
    return out


def astype(x: Expr, dtype: object, *, copy: bool = True) -> Expr:  # noqa: ARG001
    """Convert values to a dtype."""
    return cast(x, dtype)


def isclose(
    a: object,
    b: object,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> Expr:
    """Tell where `|a - b| <= atol + rtol * |b|`, infinities equal where they have one sign."""
    x, y = _alike(a, b)
    bound = apply("add", atol, apply("multiply", rtol, apply("absolute", y)))
    same = apply("equal", x, y)
    # What is equal is not subtracted: infinity less infinity would be an invalid operation.
    apart = apply("subtract", x, where(same, np.zeros((), y.dtype), y))
    near = apply("less_equal", apply("absolute", apart), bound)
    close = apply("logical_and", near, apply("isfinite", y))
    close = apply("logical_or", close, same)
    if equal_nan:
        both = apply("logical_and", apply("isnan", x), apply("isnan", y))
        close = apply("logical_or", close, both)
    return close


def _alike(a: Any, b: Any) -> tuple[Expr, Expr]:
    """Give what is compared, the second one inexact; numbers of Python take the other's dtype."""
    weak = [type(v) in (int, float, complex) for v in (a, b)]
    x = None if weak[0] else as_expr(a)
    if weak[1] and x is not None and x.dtype.kind in "biufc":
        return x, constant(np.asarray(b, np.result_type(x.dtype, b, 1.0)))
    y = as_expr(b)
    if y.dtype.kind != "m":
        y = cast_lazily(y, np.result_type(y.dtype, 1.0))
    if x is None:
        x = (
            constant(np.asarray(a, np.result_type(y.dtype, a)))
            if y.dtype.kind in "fc"
            else as_expr(a)
        )
    return x, y


def allclose(
    a: object,
    b: object,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> Expr:
    """Tell whether all elements are close."""
    return all_(isclose(a, b, rtol, atol, equal_nan))


def around(a: Expr, decimals: int = 0, *, into: np.dtype[Any] | None = None) -> Expr:
    """Round to a number of decimals, halves to even."""
    decimals = operator.index(decimals)
    unlike = into is None or into.kind == "b"
    if a.dtype.kind not in "iufc" and ((decimals and unlike) or a.dtype != bool):
        np.round(np.zeros((1,), a.dtype), decimals)  # NumPy's own error
    if a.dtype.kind in "iub":
        if decimals >= 0:
            return a if a.dtype != bool else cast(a, into or np.float16)
        factor = 10**-decimals
        scaled = apply("rint", apply("divide", a, factor))
        return cast(apply("multiply", scaled, factor), a.dtype)
    if a.dtype.kind == "c":
        return as_complex(around(real(a), decimals), around(imag(a), decimals))
    if decimals == 0:
        return apply("rint", a)
    factor = 10.0 ** abs(decimals)
    first, last = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")
    return apply(last, apply("rint", apply(first, a, factor)), factor)


def _real_dtype(operand: Expr) -> np.dtype[Any]:
    return np.dtype(operand.dtype.char.lower())


def real(val: Expr) -> Expr:
    """Give the real part."""
    return own("real", _real_dtype(val), val) if val.dtype.kind == "c" else val


def imag(val: Expr) -> Expr:
    """Give the imaginary part."""
    if val.dtype.kind == "c":
        return own("imag", _real_dtype(val), val)
    return constant(np.zeros((), val.dtype), shape=val.shape)


def as_complex(re: Expr, im: Expr) -> Expr:
    """Join a real and an imaginary part."""
    return own("complex", np.result_type(re.dtype, im.dtype, np.complex64), re, im)


def iscomplex(x: Expr) -> Expr:
    """Tell where the imaginary part is not zero."""
    if x.dtype.kind in "SUM":
        return constant(False, shape=x.shape)
    return apply("not_equal", imag(x), 0)


def isreal(x: Expr) -> Expr:
    """Tell where the imaginary part is zero; texts and dates are no numbers."""
    if x.dtype.kind in "SUM":
        return constant(False, shape=x.shape)
    return apply("equal", imag(x), 0)


def nan_to_num(
    x: Expr,
    copy: bool = True,  # noqa: ARG001
    nan: object = 0.0,
    posinf: object = None,
    neginf: object = None,
) -> Expr:
    """Replace NaN and infinities by numbers."""
    if x.dtype.kind not in "fc":
        return x
    if x.dtype.kind == "c":
        parts = [
            nan_to_num(part, nan=nan, posinf=posinf, neginf=neginf) for part in (real(x), imag(x))
        ]
        return as_complex(*parts)
    info = np.finfo(x.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    first, second, third = (
        cast_lazily(v, x.dtype) if isinstance(v, Expr) else np.asarray(v, x.dtype)
        for v in (nan, high, low)
    )
    out = where(apply("isnan", x), first, x)
    out = where(apply("equal", x, np.inf), second, out)
    return where(apply("equal", x, -np.inf), third, out)


def angle(z: Expr, deg: bool = False) -> Expr:
    """Give the angle of complex values."""
    turn = apply("arctan2", imag(z) if z.dtype.kind == "c" else 0, real(z))
    return apply("multiply", turn, 180 / np.pi) if deg else turn
