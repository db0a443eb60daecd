"""Reductions and cumulative functions: NumPy's arguments in, reduce and scan nodes out.

`where=` replaces what is left out by the reduction's identity, `initial=` is combined at the end;
mean and variance with `where=` divide by the number of values that take part.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.expr.build import (
    apply,
    as_expr,
    caller,
    cast,
    cast_lazily,
    constant,
    insert_axes,
    normalize_axes,
    normalize_axis,
    reduce,
    stretch,
)
from chunkarr.expr.build import (
    where as where_,
)
from chunkarr.expr.node import Dtype, Expr, Reshape, Scan
from chunkarr.floats import remark

Axis = Any


def _kept(result: Expr, axes: tuple[int, ...], keepdims: bool) -> Expr:
    return insert_axes(result, axes) if keepdims and axes else result


def _masked(a: Expr, where: object, identity: Any) -> Expr:
    """Replace the values that a reduction leaves out."""
    if where is None or where is True:
        return a
    return where_(stretch_to(as_expr(where), a), a, constant(identity, a.dtype))


def stretch_to(mask: Expr, a: Expr) -> Expr:
    """Broadcast a mask to an operand's shape."""
    return mask if mask.shape == a.shape else stretch(mask, a.shape)


def _sum_dtype(a: Expr, dtype: object) -> Dtype:
    if dtype is not None:
        return np.dtype(dtype)  # type: ignore[call-overload,no-any-return]
    found: Dtype = np.add.reduce(np.empty((0,), a.dtype)).dtype
    return found


def reduced_axes(axis: object, ndim: int) -> tuple[int, ...]:
    """Give sorted axes; NumPy lets a value without axes be reduced over its axis 0 or -1."""
    if not ndim and type(axis) is int and axis in (0, -1):
        return ()
    return normalize_axes(axis, ndim)


def fold(
    name: str,
    a: Expr,
    axis: Axis,
    dtype: Dtype,
    keepdims: bool,
    initial: object,
    where: object,
    ufunc: str,
) -> Expr:
    """Reduce with a ufunc that has an identity."""
    axes = reduced_axes(axis, a.ndim)
    identity = getattr(np, ufunc).identity
    if ufunc == "bitwise_and":
        identity = np.array(-1).astype(dtype)
    values = _masked(cast_lazily(a, dtype), where, identity)
    half = dtype == np.float16
    if half:
        # NumPy adds halves in single precision too.
        values = cast(values, np.float32)
    lengths = [a.shape[i] for i in axes]
    if 0 in lengths:
        shape = tuple(n for i, n in enumerate(a.shape) if i not in axes)
        out = constant(identity, values.dtype, shape)
    else:
        out = reduce(name, values, axes)
    if half:
        out = cast(out, dtype)
    if initial is not None:
        out = apply(ufunc, constant(initial, dtype), out)
    return _kept(out, axes, keepdims)


def _adding(name: str, ufunc: str, doc: str) -> Callable[..., Expr]:
    """Make a reduction that may have a dtype of its own."""

    def made(
        a: Expr,
        axis: Axis = None,
        dtype: object = None,
        *,
        keepdims: bool = False,
        initial: object = None,
        where: object = None,
    ) -> Expr:
        return fold(name, a, axis, _sum_dtype(a, dtype), keepdims, initial, where, ufunc)

    return _called(made, name, doc)


def _telling(name: str, identity: bool, doc: str) -> Callable[..., Expr]:
    """Make a reduction of truth values."""

    def made(a: Expr, axis: Axis = None, *, keepdims: bool = False, where: object = None) -> Expr:
        return _truth(name, a, axis, keepdims, where, identity)

    return _called(made, name, doc)


def extremes(name: str, ufunc: str, doc: str) -> Callable[..., Expr]:
    """Make a reduction that has no identity."""
    reducer = {"minimum": "min", "maximum": "max"}.get(ufunc, ufunc)

    def made(
        a: Expr,
        axis: Axis = None,
        *,
        keepdims: bool = False,
        initial: object = None,
        where: object = None,
    ) -> Expr:
        return extremum(reducer, ufunc, a, axis, keepdims, initial, where)

    return _called(made, name, doc)


def _called(made: Callable[..., Expr], name: str, doc: str) -> Callable[..., Expr]:
    made.__name__ = made.__qualname__ = name
    made.__doc__ = doc
    return made


def _truth(
    name: str,
    a: Expr,
    axis: Axis,
    keepdims: bool,
    where: object,
    identity: bool,
) -> Expr:
    axes = reduced_axes(axis, a.ndim)
    values = _masked(cast_lazily(a, np.dtype(bool)), where, identity)
    shape = tuple(n for i, n in enumerate(a.shape) if i not in axes)
    empty = 0 in [a.shape[i] for i in axes]
    out = constant(identity, np.dtype(bool), shape) if empty else reduce(name, values, axes)
    return _kept(out, axes, keepdims)


def extremum(
    name: str,
    ufunc: str,
    a: Expr,
    axis: Axis,
    keepdims: bool,
    initial: object,
    where: object,
) -> Expr:
    """Reduce with a ufunc that has no identity."""
    axes = reduced_axes(axis, a.ndim)
    if where is not None and where is not True and initial is None:
        message = (
            f"reduction operation '{ufunc}' does not have an identity, so to use a where mask one "
            "has to specify 'initial'"
        )
        raise ValueError(message)
    empty = 0 in [a.shape[i] for i in axes]
    if empty and initial is None:
        message = f"zero-size array to reduction operation {ufunc} which has no identity"
        raise ValueError(message)
    start = None if initial is None else constant(initial, a.dtype)
    if empty:
        assert start is not None
        shape = tuple(n for i, n in enumerate(a.shape) if i not in axes)
        out = stretch(start, shape)
    else:
        values = a if start is None else _masked(a, where, start.values[0])  # type: ignore[attr-defined]
        out = reduce(name, values, axes)
        if start is not None:
            out = apply(ufunc, start, out)
    return _kept(out, axes, keepdims)


sum = _adding("sum", "add", "Add up elements over axes.")
prod = _adding("prod", "multiply", "Multiply elements over axes.")
any = _telling("any", False, "Tell whether any element is true.")
all = _telling("all", True, "Tell whether all elements are true.")
min = amin = extremes("min", "minimum", "Give the least element over axes; NaN wins.")
max = amax = extremes("max", "maximum", "Give the greatest element over axes; NaN wins.")


def ptp(a: Expr, axis: Axis = None, *, keepdims: bool = False) -> Expr:
    """Give the range of values, greatest minus least."""
    return apply("subtract", max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


def _count(a: Expr, axes: tuple[int, ...], where: object) -> Expr | int:
    """Give how many values take part in each result."""
    if where is None or where is True:
        return int(np.prod([a.shape[i] for i in axes], dtype=object)) if axes else 1
    mask = stretch_to(cast_lazily(as_expr(where), np.dtype(bool)), a)
    return sum(mask, axes, np.int64)


def mean(
    a: Expr,
    axis: Axis = None,
    dtype: object = None,
    *,
    keepdims: bool = False,
    where: object = None,
    quiet: bool = False,
) -> Expr:
    """Give the arithmetic mean over axes; with `quiet` nothing is divided where nothing is left."""
    axes = normalize_axes(axis, a.ndim)
    wanted, inner = _mean_dtypes(a, dtype)
    if _count(a, axes, None) == 0:
        remark("Mean of empty slice")
    total = fold("sum", a, axes, inner, False, None, where, "add")
    out = _divide(total, _at_least_one(_count(a, axes, where), quiet))
    return _kept(cast_lazily(out, wanted), axes, keepdims)


def _mean_dtypes(a: Expr, dtype: object) -> tuple[Dtype, Dtype]:
    """Give the dtype of a mean and that of its sum."""
    if dtype is not None:
        kind = np.dtype(dtype)  # type: ignore[call-overload]
        return kind, kind
    if a.dtype.kind in "biu":
        return np.dtype(np.float64), np.dtype(np.float64)
    if a.dtype == np.float16:
        return np.dtype(np.float16), np.dtype(np.float32)
    own = a.dtype.newbyteorder("=")
    return own, own


def _at_least_one(count: Any, wanted: bool) -> Any:
    """Replace counts of zero, which nobody looks at who wants it."""
    if not wanted or not isinstance(count, Expr):
        return count
    return where_(apply("less_equal", count, 0), np.ones((), count.dtype), count)


def _divide(total: Expr, count: Expr | int) -> Expr:
    if isinstance(count, int) and total.dtype.kind in "fc":
        return apply("true_divide", total, constant(count, total.dtype))
    if total.dtype.kind == "m":
        return apply("true_divide", total, count)
    divided = apply("true_divide", total, count)
    return cast_lazily(divided, total.dtype) if total.dtype.kind in "fc" else divided


def var(
    a: Expr,
    axis: Axis = None,
    dtype: object = None,
    ddof: float = 0,
    *,
    keepdims: bool = False,
    where: object = None,
    mean: Any = None,
    correction: float | None = None,
    quiet: bool = False,
) -> Expr:
    """Give the variance over axes, in one pass over the data where the mean is not given.

    With `quiet` nothing is divided where no degree of freedom is left.
    """
    if correction is not None:
        if ddof != 0:
            message = "ddof and correction can't be provided simultaneously."
            raise ValueError(message)
        ddof = correction
    axes = normalize_axes(axis, a.ndim)
    wanted, inner = _mean_dtypes(a, dtype)
    if inner.kind in "biu":
        return _kept(_integer_var(a, axes, inner, ddof, where, mean), axes, keepdims)
    values = cast_lazily(a, inner)
    real = np.dtype(inner.char.lower()) if inner.kind == "c" else inner
    # A complex dtype that was asked for stays, though nothing imaginary is left.
    result = np.dtype(wanted.char.lower()) if wanted.kind == "c" and dtype is None else wanted
    masked = where is not None and where is not True
    if _count(a, axes, None) <= ddof:  # type: ignore[operator]
        remark("Degrees of freedom <= 0 for slice")
    if 0 in [a.shape[i] for i in axes]:
        shape = tuple(n for i, n in enumerate(a.shape) if i not in axes)
        out = constant(np.nan, real, shape)
    elif not masked and mean is None:
        out = reduce("var", values, axes, real, ddof)
    else:
        center = _center(values, axes, where, mean, quiet)
        away = apply("absolute", apply("subtract", values, center))
        squares = fold("sum", apply("square", away), axes, real, False, None, where, "add")
        left = _at_least_one(_left(a, axes, where, ddof), quiet)
        out = cast_lazily(apply("true_divide", squares, left), real)
    return _kept(cast_lazily(out, result), axes, keepdims)


def _center(values: Expr, axes: tuple[int, ...], where: object, given: Any, quiet: bool) -> Expr:
    """Give the mean that a variance is about, with the reduced axes."""
    if given is not None:
        return as_expr(given)
    return mean(values, axes, keepdims=True, where=where, quiet=quiet)


def _left(a: Expr, axes: tuple[int, ...], where: object, ddof: float) -> Expr:
    """Give how many degrees of freedom are left."""
    return apply("maximum", apply("subtract", _count(a, axes, where), ddof), 0)


def _integer_var(
    a: Expr, axes: tuple[int, ...], dtype: Dtype, ddof: float, where: object, given: Any
) -> Expr:
    """Give the variance in integers, as NumPy has it: each step is cast back to the dtype."""
    if given is None:
        total = fold("sum", a, axes, dtype, True, None, where, "add")
        count = _count(a, axes, where)
        if isinstance(count, Expr):
            count = insert_axes(count, axes)
        center = cast(apply("true_divide", total, count), dtype)
    else:
        center = as_expr(given)
    away = apply("subtract", a, center)
    squares = fold("sum", apply("multiply", away, away), axes, dtype, False, None, where, "add")
    return cast(apply("true_divide", squares, _left(a, axes, where, ddof)), dtype)


def std(
    a: Expr,
    axis: Axis = None,
    dtype: object = None,
    ddof: float = 0,
    *,
    keepdims: bool = False,
    where: object = None,
    mean: Any = None,
    correction: float | None = None,
) -> Expr:
    """Give the standard deviation over axes."""
    options: Any = {"keepdims": keepdims, "where": where, "mean": mean, "correction": correction}
    return root(var(a, axis, dtype, ddof, **options), dtype)


def root(spread: Expr, dtype: object) -> Expr:
    """Give the square root of a variance, in its dtype."""
    if spread.dtype.kind not in "iu" or dtype is None:
        return apply("sqrt", spread)
    if spread.ndim:
        np.sqrt(np.ones(1, spread.dtype), out=np.ones(1, spread.dtype))  # NumPy's own error
    return cast(apply("sqrt", spread), spread.dtype)


def argmin(a: Expr, axis: Axis = None, *, keepdims: bool = False) -> Expr:
    """Give the index of the first least element; NaN counts as least."""
    return _arg("argmin", a, axis, keepdims)


def argmax(a: Expr, axis: Axis = None, *, keepdims: bool = False) -> Expr:
    """Give the index of the first greatest element; NaN counts as greatest."""
    return _arg("argmax", a, axis, keepdims)


def _arg(name: str, a: Expr, axis: Axis, keepdims: bool) -> Expr:
    axes = tuple(range(a.ndim)) if axis is None else reduced_axes(operator.index(axis), a.ndim)
    if 0 in [a.shape[i] for i in axes]:
        message = f"attempt to get {name} of an empty sequence"
        raise ValueError(message)
    return _kept(reduce(name, a, axes, np.dtype(np.int64)), axes, keepdims)


def count_nonzero(a: Expr, axis: Axis = None, *, keepdims: bool = False) -> Expr:
    """Count the elements that are not zero."""
    truth = cast_lazily(a, np.dtype(bool))
    return sum(truth, axis, np.int64, keepdims=keepdims)


def flatten(a: Expr) -> Expr:
    """Give the elements in C order on one axis."""
    if a.ndim == 1:
        return a
    return Reshape(shape=(a.size,), dtype=a.dtype, operands=(a,), line=caller())


def _scan(ufunc: str, a: Expr, axis: Axis, dtype: object) -> Expr:
    if axis is None:
        a, axis = flatten(a), 0
    kind = _sum_dtype(a, dtype)
    if not a.ndim and axis in (0, -1):
        a = flatten(a)
    number = normalize_axis(axis, a.ndim)
    values = cast_lazily(a, kind)
    if a.size == 0:
        return values
    return Scan(
        shape=a.shape, dtype=kind, operands=(values,), line=caller(), name=ufunc, axis=number
    )


def cumsum(a: Expr, axis: Axis = None, dtype: object = None) -> Expr:
    """Give running sums, added in NumPy's order."""
    return _scan("add", a, axis, dtype)


def cumprod(a: Expr, axis: Axis = None, dtype: object = None) -> Expr:
    """Give running products, multiplied in NumPy's order."""
    return _scan("multiply", a, axis, dtype)


def accumulate(ufunc: str, a: Expr, axis: int = 0, dtype: object = None) -> Expr:
    """Run any binary ufunc along an axis."""
    if ufunc in ("add", "multiply"):
        return _scan(ufunc, a, axis, dtype)
    kind = getattr(np, ufunc).accumulate(np.ones((1,), a.dtype), dtype=dtype).dtype
    number = normalize_axis(axis, a.ndim)
    values = cast_lazily(a, kind)
    if a.size == 0:
        return values
    return Scan(
        shape=a.shape, dtype=kind, operands=(values,), line=caller(), name=ufunc, axis=number
    )
