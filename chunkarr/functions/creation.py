"""Array creation: values that follow from the index and cost nothing until they are read."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.expr.affine import Progression
from chunkarr.expr.build import (
    apply,
    caller,
    cast,
    cast_lazily,
    constant,
    from_ndarray,
    insert_axes,
    normalize_shape,
    view,
    where,
)
from chunkarr.expr.node import Dtype, Expr, Generate, Shape
from chunkarr.functions.manipulation import assign
from chunkarr.functions.views import broadcast_to, moveaxis


def full(shape: object, fill_value: object, dtype: object = None) -> Expr:
    """Make an array of one value, or of values that broadcast to its shape."""
    lengths = normalize_shape(shape)
    if isinstance(fill_value, Expr) and fill_value.ndim:
        wanted = fill_value.dtype if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]
        return cast_lazily(view(fill_value, broadcast_to(fill_value.shape, lengths)), wanted)
    value = np.asarray(fill_value)
    if dtype is not None:
        # NumPy's own assignment raises OverflowError for a Python integer out of range.
        filled = np.empty(value.shape, dtype)  # type: ignore[call-overload]
        np.copyto(filled, fill_value, casting="unsafe")  # type: ignore[arg-type]
        value = filled
    if value.ndim:
        whole = from_ndarray(value, owned=True)
        return view(whole, broadcast_to(value.shape, lengths))
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


def arange(*args: Any, dtype: object = None, **named: Any) -> Expr:
    """Give evenly spaced values, `start + i * step`, in NumPy's own arithmetic."""
    start, stop, step, dtype = _arange_arguments(args, named, dtype)
    times = any(np.asarray(v).dtype.kind in "mM" for v in (start, stop, step))
    if times or (dtype is not None and np.dtype(dtype).kind in "mM"):  # type: ignore[call-overload]
        return _arange_times(start, stop, step, dtype)
    if abs(step) > abs(stop - start):
        # One element or none; the second, which a ramp has, could be out of range.
        return from_ndarray(np.arange(start, stop, step, dtype), owned=True)  # type: ignore[call-overload]
    # NumPy itself decides about dtype and errors, on the shortest arrays that show them.
    probe = np.arange(start, start + step * 2 if step else stop, step, dtype)  # type: ignore[call-overload]
    kind = probe.dtype
    if dtype is None:
        kind = np.promote_types(kind, np.asarray(stop).dtype)
    length = (stop - start) / step
    if abs(length) == np.inf:
        message = "Maximum allowed size exceeded"
        raise ValueError(message)
    count = max(0, math.ceil(length))
    if kind.kind == "b":
        # Two elements at most, or NumPy's refusal.
        return from_ndarray(np.arange(start, start + step * min(count, 3), step, dtype), owned=True)  # type: ignore[call-overload]
    # NumPy fills with first + i * (second - first), both already of the result's dtype.
    first = np.asarray(start).astype(kind)[()]
    second = np.asarray(start + step).astype(kind)[()]
    with np.errstate(over="ignore"):
        ramp = (first, np.subtract(second, first))
    return Generate(shape=(count,), dtype=kind, line=caller(), kind="ramp", values=ramp)


def _arange_arguments(args: tuple[Any, ...], named: dict[str, Any], dtype: Any) -> tuple[Any, ...]:
    """Give start, stop, step and dtype; alone, the first argument is the stop."""
    given = dict(zip(("start", "stop", "step", "dtype"), args, strict=False)) | named
    if len(args) > 4 or given.keys() - {"start", "stop", "step", "dtype"} or not given:
        np.arange(*args, **named)  # NumPy's own error
    start, stop = given.get("start"), given.get("stop")
    if stop is None:
        start, stop = 0, start
    step = given.get("step")
    start, step = 0 if start is None else start, 1 if step is None else step
    return start, stop, step, given.get("dtype", dtype)


def _arange_times(start: Any, stop: Any, step: Any, dtype: object) -> Expr:
    """Give evenly spaced dates or durations, counted in a common unit."""
    if dtype is not None:
        start = np.asarray(start, dtype)[()]  # type: ignore[call-overload]
    if np.asarray(start).dtype.kind == "M" and np.asarray(stop).dtype.kind in "ium":
        # After a date, a number or a duration says how far to go.
        stop = start + stop
    elif dtype is not None:
        stop = np.asarray(stop, dtype)[()]  # type: ignore[call-overload]
    kind = np.result_type(*(np.asarray(v) for v in (start, stop, start + step)))
    first, last, second = (np.asarray(v).astype(kind) for v in (start, stop, start + step))
    span, each = (int((v - first).astype(np.int64)) for v in (last, second))
    if not each:
        message = "arange: step cannot be zero"
        raise ValueError(message)
    ramp = (first[()], (second - first)[()])
    count = max(0, math.ceil(span / each))
    return Generate(shape=(count,), dtype=kind, line=caller(), kind="ramp", values=ramp)


def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: object = None,
    axis: int = 0,
) -> Expr | tuple[Expr, Any]:
    """Give `num` evenly spaced values from start to stop."""
    num = operator.index(num)
    if num < 0:
        message = f"Number of samples, {num}, must be non-negative."
        raise ValueError(message)
    div = num - 1 if endpoint else num
    given = [v if type(v) in (int, float, complex) else np.asarray(v) for v in (start, stop)]
    kind = np.result_type(np.result_type(*given), 1.0)
    first, last = (np.asarray(v).astype(kind) for v in (start, stop))
    delta = last - first
    step = delta / div if div > 0 else np.float64(np.nan)
    vanishing = div > 0 and bool(np.any((step == 0) & (delta != 0)))
    if delta.ndim or vanishing:
        ends_ = endpoint and num > 1
        ramp = _ramps(
            first, last, delta if vanishing else step, num, div if vanishing else 1, ends_
        )
        ramp = view(ramp, moveaxis(ramp.shape, 0, axis)) if axis else ramp
    else:
        ends = (last[()],) if endpoint and num > 1 else ()
        values = (first[()], np.asarray(step)[()] if div > 0 else np.zeros((), kind)[()], *ends)
        ramp = Generate(shape=(num,), dtype=kind, line=caller(), kind="ramp", values=values)
    if dtype is not None:
        wanted = np.dtype(dtype)  # type: ignore[call-overload]
        if wanted.kind in "iu":
            ramp = apply("floor", ramp)
        ramp = cast(ramp, wanted)
    return (ramp, np.asarray(step)[()]) if retstep else ramp


def _ramps(first: Any, last: Any, step: Any, num: int, parts: int, ends: bool) -> Expr:
    """Give one ramp per element of arrays of starts and steps, along a new first axis.

    Where a step is less than the smallest number, so many `parts` of one are taken.
    """
    shape = np.broadcast_shapes(first.shape, last.shape)
    index = cast(index_along((num,), 0), first.dtype)
    if parts != 1:
        index = apply("divide", index, parts)
    column = insert_axes(index, range(1, len(shape) + 1))
    made = apply("multiply", column, from_ndarray(np.broadcast_to(step, shape)[None]))
    made = apply("add", made, from_ndarray(np.broadcast_to(first, shape)[None]))
    if not ends:
        return made
    whole = [Progression(0, 1, n) for n in shape]
    final = from_ndarray(np.broadcast_to(last, shape)[None])
    return assign(made, (Progression(num - 1, 1, 1), *whole), final)


def eye(N: int, M: int | None = None, k: int = 0, dtype: object = float) -> Expr:
    """Make ones on a diagonal."""
    shape = normalize_shape((N, N if M is None else M))
    kind = np.empty(0, dtype).dtype  # type: ignore[call-overload]
    if kind.kind in "SU":
        texts = (constant(make((), kind)) for make in (np.ones, np.zeros))
        return where(eye(N, M, k, bool), *texts)
    return Generate(shape=shape, dtype=kind, line=caller(), kind="eye", values=(k,))


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
