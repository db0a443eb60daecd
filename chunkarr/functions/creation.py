"""Array creation: values that follow from the index and cost nothing until they are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.expr.build import apply, caller, cast, constant, normalize_shape
from chunkarr.expr.node import Dtype, Expr, Generate, Shape


def full(shape: object, fill_value: object, dtype: object = None) -> Expr:
    """Make an array of one value."""
    value = np.asarray(fill_value) if dtype is None else np.asarray(fill_value).astype(dtype)  # type: ignore[call-overload]
    lengths = normalize_shape(shape)
    if value.ndim:
        message = "full with an array of values: use broadcast_to(values, shape).copy()"
        raise NotImplementedError(message)
    return constant(value, shape=lengths)


def zeros(shape: object, dtype: object = float) -> Expr:
    """Make an array of zeros."""
    return constant(np.zeros((), dtype), shape=normalize_shape(shape))  # type: ignore[call-overload]


def ones(shape: object, dtype: object = None) -> Expr:
    """Make an array of ones."""
    return constant(np.ones((), dtype), shape=normalize_shape(shape))  # type: ignore[call-overload]


empty = zeros


def _like(prototype: Expr, dtype: object, shape: object) -> tuple[Shape, Dtype]:
    lengths = prototype.shape if shape is None else normalize_shape(shape)
    return lengths, prototype.dtype if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]


def zeros_like(a: Expr, dtype: object = None, shape: object = None) -> Expr:
    """Make zeros of another array's shape and dtype."""
    return zeros(*_like(a, dtype, shape))


def ones_like(a: Expr, dtype: object = None, shape: object = None) -> Expr:
    """Make ones of another array's shape and dtype."""
    return ones(*_like(a, dtype, shape))


empty_like = zeros_like


def full_like(a: Expr, fill_value: object, dtype: object = None, shape: object = None) -> Expr:
    """Make an array of one value with another array's shape and dtype."""
    lengths, kind = _like(a, dtype, shape)
    return full(lengths, fill_value, kind)


def arange(
    start: Any,
    stop: Any = None,
    step: Any = None,
    dtype: object = None,
) -> Expr:
    """Give evenly spaced values, `start + i * step`, in NumPy's own arithmetic."""
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    # NumPy itself decides about dtype and errors, on the shortest array that shows them.
    probe = np.arange(start, start + step * 2 if step else stop, step, dtype)  # type: ignore[call-overload]
    kind = probe.dtype
    span = stop - start
    count = math.ceil(span / step) if not isinstance(span, np.timedelta64) else math.ceil(
        span / np.timedelta64(step) if not isinstance(step, np.timedelta64) else span / step
    )
    count = max(0, int(count))
    if kind.kind in "mM":
        ramp = (probe[0], probe[1] - probe[0])
    else:
        # NumPy fills with first + i * (second - first), both already of the result's dtype.
        first = np.asarray(start).astype(kind)[()]
        second = np.asarray(start + step).astype(kind)[()]
        with np.errstate(over="ignore"):
            ramp = (first, np.subtract(second, first))
    return Generate(shape=(count,), dtype=kind, line=caller(), kind="ramp", values=ramp)


def linspace(  # noqa: PLR0913 - NumPy's signature
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,  # noqa: FBT001, FBT002
    retstep: bool = False,  # noqa: FBT001, FBT002
    dtype: object = None,
) -> Expr | tuple[Expr, Any]:
    """Give `num` evenly spaced values from start to stop."""
    if num < 0:
        message = f"Number of samples, {num}, must be non-negative."
        raise ValueError(message)
    if np.ndim(start) or np.ndim(stop):
        message = "linspace between arrays: use start + (stop - start) * linspace(0, 1, num)"
        raise NotImplementedError(message)
    div = num - 1 if endpoint else num
    kind = np.result_type(start, stop, float(num))
    first, last = np.asarray(start).astype(kind)[()], np.asarray(stop).astype(kind)[()]
    delta = last - first
    step = delta / div if div > 0 else np.float64(np.nan)
    ends = (last,) if endpoint and num > 1 else ()
    values = (first, step if div > 0 else np.zeros((), kind)[()], *ends)
    ramp: Expr = Generate(shape=(num,), dtype=kind, line=caller(), kind="ramp", values=values)
    if dtype is not None:
        wanted = np.dtype(dtype)  # type: ignore[call-overload]
        if wanted.kind in "iu":
            ramp = apply("floor", ramp)
        ramp = cast(ramp, wanted)
    return (ramp, step) if retstep else ramp


def eye(N: int, M: int | None = None, k: int = 0, dtype: object = float) -> Expr:  # noqa: N803
    """Make ones on a diagonal."""
    shape = normalize_shape((N, N if M is None else M))
    return Generate(
        shape=shape,
        dtype=np.dtype(dtype),  # type: ignore[call-overload]
        line=caller(),
        kind="eye",
        values=(k,),
    )


def identity(n: int, dtype: object = None) -> Expr:
    """Make the identity matrix."""
    return eye(n, dtype=float if dtype is None else dtype)


def index_along(shape: Shape, axis: int, dtype: object = np.int64) -> Expr:
    """Make the array whose value is the position along an axis."""
    return Generate(
        shape=shape,
        dtype=np.dtype(dtype),  # type: ignore[call-overload]
        line=caller(),
        kind="index",
        values=(axis,),
    )


def fromfunction(
    function: Callable[..., Any], shape: object, *, dtype: object = float, **kwargs: Any
) -> Any:
    """Call a function with one array of positions per axis."""
    lengths = normalize_shape(shape)
    return function(*(index_along(lengths, axis, dtype) for axis in range(len(lengths))), **kwargs)
