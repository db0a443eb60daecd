"""Reductions and cumulative functions: NumPy's arguments in, reduce and scan nodes out.

`where=` replaces what is left out by the reduction's identity, `initial=` is combined at the end;
mean and variance with `where=` divide by the number of values that take part. `into` is the dtype
of an array that takes the result: it has a say in what dtype NumPy computes in, and the result is
cast to it whatever is lost.
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
    flatten,
    insert_axes,
    normalize_axes,
    normalize_axis,
    reduce,
    stretch,
)
from chunkarr.expr.build import (
    where as where_,
)
from chunkarr.expr.node import Dtype, Expr, Scan
from chunkarr.floats import remark
from chunkarr.functions.pieces import refused, remarked

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


def loop_dtype(ufunc: str, a: Dtype, dtype: object = None, into: Dtype | None = None) -> Dtype:
    """Give the dtype in which a ufunc reduces; TypeError where it has no such loop."""
    if np.dtype(a if dtype is None else dtype).hasobject:  # type: ignore[call-overload]
        return np.dtype(object)
    if dtype is None and into is not None:
        rules: Any = {"reduction": True, "casting": "unsafe"}
        found: Dtype = getattr(np, ufunc).resolve_dtypes((into, a, None), **rules)[1]
    else:
        found = getattr(np, ufunc).reduce(np.ones((1,), a), dtype=dtype).dtype
    return found


def landed(result: Expr, into: Dtype | None) -> Expr:
    """Give a result in the dtype of the array that takes it."""
    return result if into is None else cast_lazily(result, into)


def reduced_axes(axis: object, ndim: int) -> tuple[int, ...]:
    """Give sorted axes; NumPy lets a value without axes be reduced over its axis 0 or -1."""
    if not ndim and type(axis) is int and axis in (0, -1):
        return ()
    return normalize_axes(operator.index(axis) if isinstance(axis, list) else axis, ndim)  # type: ignore[arg-type]


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
    if ufunc == "hypot":
        out = apply("absolute", out)  # of a lane of one, too: NumPy begins with the identity
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
        into: Dtype | None = None,
    ) -> Expr:
        axes = reduced_axes(axis, a.ndim)
        kind = loop_dtype(ufunc, a.dtype, dtype, into)
        return landed(fold(name, a, axes, kind, keepdims, initial, where, ufunc), into)

    return _called(made, name, doc)


def _telling(name: str, identity: bool, doc: str) -> Callable[..., Expr]:
    """Make a reduction of truth values."""

    def made(
        a: Expr,
        axis: Axis = None,
        *,
        keepdims: bool = False,
        where: object = None,
        into: Dtype | None = None,
    ) -> Expr:
        return landed(_truth(name, a, axis, keepdims, where, identity), into)

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
        into: Dtype | None = None,
    ) -> Expr:
        values = a if into is None else cast_lazily(a, loop_dtype(ufunc, a.dtype, None, into))
        return landed(extremum(reducer, ufunc, values, axis, keepdims, initial, where), into)

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


def chosen_extremes(ufunc: str) -> Callable[..., Expr | None]:
    """Make an extreme of the values that a mask chooses, None for dtypes that have no worst value.

    That none are chosen is only known, and raised, when it is computed.
    """
    reducer = {"minimum": "min", "maximum": "max"}[ufunc]

    def made(a: Expr, *, where: Expr, initial: object = None) -> Expr | None:
        worst = worst_of(ufunc, a.dtype) if initial is None else initial
        if worst is None:
            return None
        found = extremum(reducer, ufunc, a, None, False, worst, where)
        if initial is not None:
            return found
        message = f"zero-size array to reduction operation {ufunc} which has no identity"
        return refused(found, apply("logical_not", any(where)), message)

    return made


def chosen_ptp(a: Expr, *, where: Expr) -> Expr | None:
    """Give the range of the values that a mask chooses."""
    greatest = chosen_extremes("maximum")(a, where=where)
    least = chosen_extremes("minimum")(a, where=where)
    return greatest and least and apply("subtract", greatest, least)


def worst_of(ufunc: str, dtype: Dtype) -> Any:
    """Give the value that loses against all others in a minimum or maximum, None if there is none.

    >>> int(worst_of("maximum", np.dtype("i1"))), float(worst_of("minimum", np.dtype("f4")))
    (-128, inf)
    """
    least = ufunc == "maximum"
    if dtype.kind in "fc":
        end = -np.inf if least else np.inf
        return dtype.type(complex(end, end) if dtype.kind == "c" else end)
    if dtype.kind in "iumM":
        held = np.iinfo(np.int64 if dtype.kind in "mM" else dtype)
        # The least number of all stands for NaT.
        number = held.min + (dtype.kind in "mM") if least else held.max
        return np.array(number, f"{dtype.kind if dtype.kind == 'u' else 'i'}8").astype(dtype)[()]
    return np.bool_(not least) if dtype.kind == "b" else None


def ptp(a: Expr, axis: Axis = None, *, keepdims: bool = False, into: Dtype | None = None) -> Expr:
    """Give the range of values, greatest minus least."""
    greatest = max(a, axis, keepdims=keepdims, into=into)
    return apply("subtract", greatest, min(a, axis, keepdims=keepdims))


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
    into: Dtype | None = None,
) -> Expr:
    """Give the arithmetic mean over axes; with `quiet` nothing is divided where nothing is left."""
    axes = normalize_axes(axis, a.ndim)
    wanted, inner = _mean_dtypes(a, dtype, into)
    count = _count(a, axes, where)
    if not isinstance(count, Expr) and count == 0:
        remark("Mean of empty slice")
    out = _averaged(a, axes, inner, where, quiet, into)
    if isinstance(count, Expr) and not quiet:
        out = remarked(out, apply("equal", count, 0), "Mean of empty slice")
    return _kept(cast_lazily(out, wanted if into is None else into), axes, keepdims)


def _averaged(
    a: Expr,
    axes: tuple[int, ...],
    inner: Dtype,
    where: object,
    quiet: bool,
    into: Dtype | None = None,
) -> Expr:
    """Give a sum divided by the number of its values."""
    total = landed(fold("sum", a, axes, inner, False, None, where, "add"), into)
    return _divide(total, _at_least_one(_count(a, axes, where), quiet))


def _mean_dtypes(a: Expr, dtype: object, into: Dtype | None = None) -> tuple[Dtype, Dtype]:
    """Give the dtype of a mean and that of its sum."""
    if dtype is None and a.dtype == np.float16:
        return np.dtype(np.float16), np.dtype(np.float32)
    if dtype is None and a.dtype.kind in "biu":
        dtype = np.dtype(np.float64)
    kind = loop_dtype("add", a.dtype, dtype, into).newbyteorder("=")
    return kind, kind


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
    into: Dtype | None = None,
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
    if a.dtype.kind not in "biufc":
        np.var(np.ones((1,), a.dtype), dtype=dtype)  # type: ignore[call-overload]  # NumPy's refusal
    wanted, inner = _mean_dtypes(a, dtype)
    count = _count(a, axes, where)
    if not isinstance(count, Expr) and count <= ddof:
        remark(TOO_FEW)
    # A complex dtype that was asked for stays, though nothing imaginary is left.
    result = _real(wanted) if dtype is None else wanted
    plain = mean is None and into is None and not isinstance(count, Expr) and count > ddof
    if plain and inner.kind in "fc" and np.result_type(a.dtype, inner) == inner:
        out = reduce("var", cast_lazily(a, inner), axes, _real(inner), ddof)
    else:
        left = _at_least_one(apply("maximum", apply("subtract", count, ddof), 0), quiet)
        center = _center(a, axes, inner, where, mean, quiet)
        squares = _squares(a, center, axes, None if dtype is None else inner, where, into)
        out = cast(apply("true_divide", squares, left), squares.dtype)
        result = result if into is None else into
    if isinstance(count, Expr) and not quiet:
        out = remarked(out, apply("less_equal", count, ddof), TOO_FEW)
    return _kept(cast_lazily(out, result), axes, keepdims)


TOO_FEW = "Degrees of freedom <= 0 for slice"


def _real(kind: Dtype) -> Dtype:
    """Give the dtype of absolute values."""
    return np.dtype(kind.char.lower()) if kind.kind == "c" else kind


def _center(
    a: Expr, axes: tuple[int, ...], dtype: Dtype, where: object, given: Any, quiet: bool
) -> Expr:
    """Give the mean that a variance is about, with the reduced axes."""
    if given is not None:
        return as_expr(given)
    return insert_axes(cast_lazily(_averaged(a, axes, dtype, where, quiet), dtype), axes)


def _squares(
    a: Expr,
    center: Expr,
    axes: tuple[int, ...],
    dtype: Dtype | None,
    where: object,
    into: Dtype | None,
) -> Expr:
    """Add up squared deviations in a dtype, by default that of the deviations."""
    away = apply("subtract", a, center)
    away = apply("absolute", away) if away.dtype.kind == "c" else away
    kind = loop_dtype("add", away.dtype, dtype, into)
    return landed(fold("sum", apply("square", away), axes, kind, False, None, where, "add"), into)


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
    into: Dtype | None = None,
) -> Expr:
    """Give the standard deviation over axes."""
    options: Any = {"keepdims": keepdims, "where": where, "mean": mean, "correction": correction}
    return root(var(a, axis, dtype, ddof, **options, into=into), dtype)


def root(spread: Expr, dtype: object) -> Expr:
    """Give the square root of a variance, in its dtype."""
    if spread.dtype.kind not in "biu" or dtype is None:
        return apply("sqrt", spread)
    if spread.ndim:
        np.sqrt(np.ones(1, spread.dtype), out=np.ones(1, spread.dtype))  # NumPy's own error
    return cast(apply("sqrt", spread), spread.dtype)


def argmin(
    a: Expr, axis: Axis = None, *, keepdims: bool = False, into: Dtype | None = None
) -> Expr:
    """Give the index of the first least element; NaN counts as least."""
    return _arg("argmin", a, axis, keepdims, into)


def argmax(
    a: Expr, axis: Axis = None, *, keepdims: bool = False, into: Dtype | None = None
) -> Expr:
    """Give the index of the first greatest element; NaN counts as greatest."""
    return _arg("argmax", a, axis, keepdims, into)


def _arg(name: str, a: Expr, axis: Axis, keepdims: bool, into: Dtype | None) -> Expr:
    axes = tuple(range(a.ndim)) if axis is None else reduced_axes(operator.index(axis), a.ndim)
    if 0 in [a.shape[i] for i in axes]:
        message = f"attempt to get {name} of an empty sequence"
        raise ValueError(message)
    if into is not None and not np.can_cast(into, np.intp, "safe"):
        np.argmin(np.zeros(1), out=np.zeros((), into))  # NumPy's refusal
    return _kept(landed(reduce(name, a, axes, np.dtype(np.int64)), into), axes, keepdims)


def count_nonzero(a: Expr, axis: Axis = None, *, keepdims: bool = False) -> Expr:
    """Count the elements that are not zero."""
    truth = cast_lazily(a, np.dtype(bool))
    return sum(truth, axis, np.int64, keepdims=keepdims)


def accumulate(
    ufunc: str, a: Expr, axis: int = 0, dtype: object = None, into: Dtype | None = None
) -> Expr:
    """Run a binary ufunc along an axis."""
    number = normalize_axis(axis, a.ndim)
    values = cast_lazily(a, loop_dtype(ufunc, a.dtype, dtype, into))
    if a.size == 0:
        return landed(values, into)
    made = Scan(
        shape=a.shape,
        dtype=values.dtype,
        operands=(values,),
        line=caller(),
        name=ufunc,
        axis=number,
    )
    return landed(made, into)


def _running(name: str, ufunc: str, doc: str) -> Callable[..., Expr]:
    """Make a function of running values."""

    def made(a: Expr, axis: Axis = None, dtype: object = None, into: Dtype | None = None) -> Expr:
        if axis is None or (not a.ndim and axis in (0, -1)):
            a, axis = flatten(a), 0
        return accumulate(ufunc, a, axis, dtype, into)

    return _called(made, name, doc)


cumsum = _running("cumsum", "add", "Give running sums, added in NumPy's order.")
cumprod = _running("cumprod", "multiply", "Give running products, multiplied in NumPy's order.")
