"""Window functions, and evenly spaced numbers on a logarithmic scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.expr.affine import Progression
from chunkarr.expr.build import apply, as_expr, cast, constant, view, where
from chunkarr.expr.node import Expr
from chunkarr.functions.creation import arange, linspace
from chunkarr.functions.lookup import i0
from chunkarr.functions.manipulation import assign
from chunkarr.functions.pieces import add, divide, multiply, subtract
from chunkarr.functions.views import moveaxis


def _places(M: Any) -> Expr | None:
    """Give 1 - M, 3 - M, ..., M - 1; None where one point or none is left."""
    M = float(M)  # 1 - M has no unsigned form
    return None if M <= 1 else arange(1 - M, M, 2)


def _ones(M: Any) -> Expr:
    kind = np.result_type(np.float64, np.asarray(M).dtype)
    return constant(np.ones((), kind), shape=(1 if M == 1 else 0,))


def _cosines(M: Any, weights: tuple[float, ...]) -> Expr:
    n = _places(M)
    if n is None:
        return _ones(M)
    out: Expr = constant(weights[0], np.dtype(float), n.shape)
    for order, weight in enumerate(weights[1:], 1):
        turn = divide(multiply(np.pi * order, n), M - 1)
        out = add(out, multiply(weight, apply("cos", turn)))
    return out


def blackman(M: Any) -> Expr:
    """Make the Blackman window."""
    return _cosines(M, (0.42, 0.5, 0.08))


def hamming(M: Any) -> Expr:
    """Make the Hamming window."""
    return _cosines(M, (0.54, 0.46))


def hanning(M: Any) -> Expr:
    """Make the Hann window."""
    return _cosines(M, (0.5, 0.5))


def bartlett(M: Any) -> Expr:
    """Make the triangular window that ends in zeros."""
    n = _places(M)
    if n is None:
        return _ones(M)
    rise = divide(n, M - 1)
    return where(apply("less_equal", n, 0), add(1, rise), subtract(1, rise))


def kaiser(M: Any, beta: float) -> Expr:
    """Make the Kaiser window."""
    if M <= 1:
        return _ones(M)
    half = (M - 1) / 2.0
    away = divide(subtract(cast(arange(0, M), np.float64), half), half)
    inside = apply("sqrt", subtract(1, apply("square", away)))
    return divide(i0(multiply(beta, inside)), float(np.i0(float(beta))))


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: object = None,
    axis: int = 0,
) -> Expr:
    """Give powers of a base with evenly spaced exponents."""
    if np.ndim(base):
        shape = np.broadcast_shapes(np.shape(start), np.shape(stop), np.shape(base))
        start, stop = np.broadcast_to(start, shape), np.broadcast_to(stop, shape)
        base = np.expand_dims(np.broadcast_to(base, shape), axis)
    exponents = linspace(start, stop, num, endpoint=endpoint, axis=axis)
    assert isinstance(exponents, Expr)
    powers = apply("power", base, exponents)
    return powers if dtype is None else cast(powers, dtype)


def geomspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: object = None,
    axis: int = 0,
) -> Expr:
    """Give numbers that grow by one factor."""
    first, last = np.asarray(start), np.asarray(stop)
    if np.any(first == 0) or np.any(last == 0):
        message = "Geometric sequence cannot include zero"
        raise ValueError(message)
    kind = np.result_type(first, last, float(num), np.zeros((), dtype))  # type: ignore[call-overload]
    first, last = np.broadcast_arrays(first.astype(kind), last.astype(kind))
    turn = np.sign(first)
    low, high = np.log10(first / turn), np.log10(last / turn)
    made = logspace(low, high, num, endpoint=endpoint, base=10.0)
    ends = ((0, first), (num - 1, last)) if endpoint and num > 1 else ((0, first),) if num else ()
    made = multiply(made, turn)
    for place, value in ends:
        whole = [Progression(0, 1, n) for n in value.shape]
        made = assign(
            made, (Progression(place, 1, 1), *whole), cast(as_expr(value[None]), made.dtype)
        )
    made = cast(made, kind if dtype is None else dtype)
    return view(made, moveaxis(made.shape, 0, axis)) if axis else made
