"""Averages, differences, covariance, and the functions that skip NaN.

The nan-functions are the plain ones with a mask: what is NaN counts as the identity of the
reduction. Errors that depend on values, such as weights that add up to zero, are raised when the
value is computed.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.expr.build import (
    apply,
    cast,
    cast_lazily,
    constant,
    elementwise,
    flatten,
    insert_axes,
    normalize_axes,
    normalize_axis,
    stretch,
    view,
)
from chunkarr.expr.build import (
    where as where_,
)
from chunkarr.expr.node import Dtype, Expr
from chunkarr.floats import remark
from chunkarr.functions import reductions, views
from chunkarr.functions.elementwise import as_complex, imag, real
from chunkarr.functions.manipulation import concatenate, join
from chunkarr.functions.pieces import (
    add,
    divide,
    guard,
    less,
    multiply,
    operand,
    remarked,
    span,
    subtract,
)
from chunkarr.functions.products import matmul
from chunkarr.functions.reductions import Axis

ALL_NAN = "All-NaN slice encountered"

# -- without NaN -----------------------------------------------------------------------------------


def _missing(a: Expr) -> Expr | None:
    """Tell where values are NaN; None for dtypes that have none, and for times, as in NumPy."""
    return apply("isnan", a) if a.dtype.kind in "fc" else None


def _filled(a: Expr, value: Any) -> Expr:
    gone = _missing(a)
    return a if gone is None else where_(gone, np.asarray(value, a.dtype), a)


def _present(a: Expr, mask: Any) -> Any:
    """Tell where values take part; None for everywhere."""
    gone = _missing(a)
    chosen = None if mask is None or mask is True else operand(mask)
    if gone is None:
        return chosen
    there = apply("logical_not", gone)
    return there if chosen is None else apply("logical_and", there, chosen)


def _filling(name: str, function: Callable[..., Expr], identity: Any) -> Callable[..., Expr]:
    """Make a function that skips NaN from one that does not: NaN counts as the identity."""

    @functools.wraps(function)
    def made(a: Expr, *args: Any, **kwargs: Any) -> Expr:
        return function(_filled(a, identity), *args, **kwargs)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"{(function.__doc__ or '').rstrip('.')}; NaN counts as {identity}."
    return made


nansum = _filling("nansum", reductions.sum, 0)
nanprod = _filling("nanprod", reductions.prod, 1)
nancumsum = _filling("nancumsum", reductions.cumsum, 0)
nancumprod = _filling("nancumprod", reductions.cumprod, 1)


def _extreme(name: str, ufunc: str, doc: str) -> Callable[..., Expr]:
    """Make a reduction without NaN that warns where there is nothing else."""
    function = reductions.extremes(name, ufunc, doc)

    @functools.wraps(function)
    def made(a: Expr, *args: Any, **kwargs: Any) -> Expr:
        out = function(a, *args, **kwargs)
        gone = _missing(out)
        return out if gone is None else remarked(out, gone, ALL_NAN)

    return made


nanmin = _extreme("nanmin", "fmin", "Give the least element over axes but for NaN.")
nanmax = _extreme("nanmax", "fmax", "Give the greatest element over axes but for NaN.")


def nanmean(
    a: Expr,
    axis: Axis = None,
    dtype: object = None,
    *,
    keepdims: bool = False,
    where: object = None,
    into: Dtype | None = None,
) -> Expr:
    """Give the mean of what is not NaN."""
    there = _present(a, where)
    if there is None or a.dtype.kind not in "fc":
        return reductions.mean(a, axis, dtype, keepdims=keepdims, where=there, into=into)
    axes = _inexact(a, axis, dtype, into)
    held = _held(a, there, axes, keepdims)
    none = apply("equal", held, 0)
    # Nothing is left of some lanes: NumPy warns of that alone, and divides in silence.
    options: Any = {"keepdims": keepdims, "where": there, "into": into}
    out = reductions.mean(a, axes, dtype, **options, quiet=True)
    out = where_(none, np.asarray(np.nan, out.dtype), out)
    return remarked(out, none, "Mean of empty slice")


def _inexact(a: Expr, axis: Axis, dtype: Any, into: Dtype | None) -> tuple[int, ...]:
    """Give the axes of floats; TypeError where the result would be of integers, as in NumPy."""
    for name, kind in (("dtype", dtype), ("out", into)):
        if kind is not None and np.dtype(kind).kind not in "fc":
            message = f"If a is inexact, then {name} must be inexact"
            raise TypeError(message)
    return reductions.reduced_axes(axis, a.ndim)


def _held(a: Expr, there: Any, axis: Axis, keepdims: bool) -> Expr:
    """Count what takes part in each result."""
    return reductions.sum(cast(stretch(there, a.shape), np.int64), axis, keepdims=keepdims)


def nanvar(
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
    """Give the variance of what is not NaN."""
    there = _present(a, where)
    options: Any = {"keepdims": keepdims, "where": there, "mean": mean, "correction": correction}
    if there is None or a.dtype.kind not in "fc":
        return reductions.var(a, axis, dtype, ddof, **options, into=into)
    axes = _inexact(a, axis, dtype, into)
    spread = reductions.var(a, axes, dtype, ddof, **options, quiet=True, into=into)
    # Fewer values than degrees of freedom give NaN here, infinity in var.
    held = _held(a, there, axes, keepdims)
    few = apply("less_equal", held, ddof if correction is None else correction)
    out = where_(few, np.asarray(np.nan, spread.dtype), spread)
    return remarked(out, few, "Degrees of freedom <= 0 for slice.")


def nanstd(
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
    """Give the standard deviation of what is not NaN."""
    options: Any = {"keepdims": keepdims, "where": where, "mean": mean, "correction": correction}
    return reductions.root(nanvar(a, axis, dtype, ddof, **options, into=into), dtype)


def nanargmin(
    a: Expr, axis: Axis = None, *, keepdims: bool = False, into: Dtype | None = None
) -> Expr:
    """Give the index of the first least value that is not NaN."""
    return _nanarg(a, axis, keepdims, np.inf, "argmin", into)


def nanargmax(
    a: Expr, axis: Axis = None, *, keepdims: bool = False, into: Dtype | None = None
) -> Expr:
    """Give the index of the first greatest value that is not NaN."""
    return _nanarg(a, axis, keepdims, -np.inf, "argmax", into)


def _nanarg(
    a: Expr, axis: Axis, keepdims: bool, worst: float, name: str, into: Dtype | None
) -> Expr:
    place = getattr(reductions, name)(_filled(a, worst), axis, keepdims=keepdims, into=into)
    gone = _missing(a)
    if gone is None:
        return place  # type: ignore[no-any-return]
    none = reductions.all(gone, axis, keepdims=keepdims)
    return guard(place, none, ValueError, ALL_NAN)


# -- averages and covariance -----------------------------------------------------------------------


def average(
    a: Expr,
    axis: Axis = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Expr | tuple[Expr, Expr]:
    """Give the weighted mean over axes, and the sum of weights if asked."""
    axes = normalize_axes(axis, a.ndim)
    if weights is None:
        np.average(np.zeros((1,), a.dtype))  # NumPy's own error for durations
        mean = reductions.mean(a, axis, keepdims=keepdims)
        count = a.size // mean.size  # NumPy divides by zero here, too
        return (mean, constant(count, mean.dtype, mean.shape)) if returned else mean
    spread = spread_weights(operand(weights), a, axis, axes)
    kinds = [a.dtype, spread.dtype, *([np.dtype("f8")] if a.dtype.kind in "iubm" else [])]
    kind = np.result_type(*kinds)
    scale = reductions.sum(spread, axes, kind, keepdims=keepdims)
    zero = apply("equal", scale, 0.0)
    scale = guard(scale, zero, ZeroDivisionError, "Weights sum to zero, can't be normalized")
    (scaled,) = elementwise("multiply", a, spread, dtype=kind)
    out = divide(reductions.sum(scaled, axes, keepdims=keepdims), scale)
    return (out, stretch(scale, out.shape)) if returned else out


def spread_weights(given: Expr, a: Expr, axis: Axis, axes: tuple[int, ...]) -> Expr:
    """Give weights with an array's axes."""
    if given.shape == a.shape:
        return given
    if axis is None:
        message = "Axis must be specified when shapes of a and weights differ."
        raise TypeError(message)
    order = tuple(normalize_axis(i, a.ndim) for i in (axis if np.ndim(axis) else (axis,)))
    if given.shape != tuple(a.shape[i] for i in order):
        message = "Shape of weights must be consistent with shape of a along specified axis."
        raise ValueError(message)
    turned = view(given, views.transpose(given.shape, np.argsort(order).tolist()))
    return insert_axes(turned, [i for i in range(a.ndim) if i not in axes])


def cov(
    m: Expr,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: object = None,
) -> Expr:
    """Give the covariance matrix of variables, each a row."""
    if ddof is not None and ddof != int(ddof):
        message = "ddof must be integer"
        raise ValueError(message)
    others = [] if y is None else [operand(y)]
    for name, part in zip("my", [m, *others], strict=False):
        if part.ndim > 2:
            message = f"{name} has more than 2 dimensions"
            raise ValueError(message)
    found = np.result_type(m.dtype, *(o.dtype for o in others), np.float64)
    kind = found if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]
    rows = _rows(m, kind, turn=not rowvar and m.ndim != 1)
    for other in others:
        wide = _rows(other, kind, turn=False)
        wide = _rows(other, kind, turn=not rowvar and wide.shape[0] != 1)
        rows = concatenate([rows, wide], 0)
    if not rows.shape[0]:
        return constant(0.0, shape=(0, 0))
    ddof = (0 if bias else 1) if ddof is None else ddof
    if rows.shape[1] <= ddof and fweights is None and aweights is None:
        remark("Degrees of freedom <= 0 for slice")
    frequencies = _cov_weights(fweights, rows, "fweights")
    importance = _cov_weights(aweights, rows, "aweights")
    given = [w for w in (frequencies, importance) if w is not None]
    scaled, left = rows, constant(max(rows.shape[1] - ddof, 0), np.dtype(np.float64))
    if given:
        w = given[0] if len(given) == 1 else multiply(*given)
        left = reductions.sum(w, dtype=np.result_type(rows.dtype.char.lower(), w.dtype))
        center = divide(reductions.sum(multiply(rows, w), 1), left)
        if ddof and importance is None:
            left = subtract(left, ddof)
        elif ddof:
            share = divide(reductions.sum(multiply(w, importance)), left)
            left = subtract(left, multiply(ddof, share))
        left = apply("maximum", left, 0.0)
        away = subtract(rows, insert_axes(center, (1,)))
        scaled = multiply(away, w)
    else:
        away = subtract(rows, reductions.mean(rows, 1, keepdims=True))
        scaled = away
    turned = view(scaled, views.transpose(scaled.shape))
    right = apply("conjugate", turned) if kind.kind == "c" else turned
    spread = multiply(matmul(away, right), cast(divide(1, left), np.dtype(kind.char.lower())))
    return view(spread, views.squeeze(spread.shape))


def _rows(a: Expr, kind: np.dtype[Any], *, turn: bool) -> Expr:
    wide = cast_lazily(insert_axes(a, range(2 - a.ndim)) if a.ndim < 2 else a, kind)
    return view(wide, views.transpose(wide.shape)) if turn else wide


def _cov_weights(given: Any, rows: Expr, name: str) -> Expr | None:
    """Give weights of the samples, checked when they are computed."""
    if given is None:
        return None
    weights = cast(operand(given), np.float64)
    if weights.ndim > 1:
        message = f"cannot handle multidimensional {name}"
        raise RuntimeError(message)
    if weights.shape != (rows.shape[1],):
        message = f"incompatible numbers of samples and {name}"
        raise RuntimeError(message)
    if name == "fweights":
        uneven = apply("not_equal", weights, apply("rint", weights))
        weights = guard(weights, uneven, TypeError, "fweights must be integer")
    return guard(weights, less(weights, 0), ValueError, f"{name} cannot be negative")


def corrcoef(x: Expr, y: Any = None, rowvar: bool = True, *, dtype: object = None) -> Expr:
    """Give the matrix of correlation coefficients."""
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return divide(c, c)
    spread = apply("sqrt", real(view(c, views.diagonal(c.shape))))
    c = divide(divide(c, insert_axes(spread, (1,))), insert_axes(spread, (0,)))
    if c.dtype.kind == "c":
        return as_complex(_within_one(real(c)), _within_one(imag(c)))
    return _within_one(c)


def _within_one(a: Expr) -> Expr:
    return apply("minimum", apply("maximum", a, -1), 1)


# -- running sums and differences ------------------------------------------------------------------


def cumulative_sum(
    x: Expr, /, *, axis: int | None = None, dtype: object = None, include_initial: bool = False
) -> Expr:
    """Give running sums along an axis, after a leading zero if asked."""
    return _cumulative(x, axis, dtype, include_initial, reductions.cumsum, 0)


def cumulative_prod(
    x: Expr, /, *, axis: int | None = None, dtype: object = None, include_initial: bool = False
) -> Expr:
    """Give running products along an axis, after a leading one if asked."""
    return _cumulative(x, axis, dtype, include_initial, reductions.cumprod, 1)


def _cumulative(
    x: Expr, axis: int | None, dtype: object, include_initial: bool, scan: Any, identity: int
) -> Expr:
    if x.ndim == 0:
        x = insert_axes(x, (0,))
    if axis is None:
        if x.ndim > 1:
            message = "For arrays which have more than one dimension ``axis`` argument is required."
            raise ValueError(message)
        axis = 0
    made: Expr = scan(x, axis, dtype)
    if not include_initial:
        return made
    number = normalize_axis(axis, x.ndim)
    shape = tuple(1 if i == number else n for i, n in enumerate(x.shape))
    return join([constant(identity, made.dtype, shape), made], number, "cumulative")


def diff(a: Expr, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Expr:
    """Give differences of neighbours along an axis, n times over."""
    if n == 0:
        return a
    if n < 0:
        message = f"order must be non-negative but got {n!r}"
        raise ValueError(message)
    if not a.ndim:
        message = "diff requires input that is at least one dimensional"
        raise ValueError(message)
    number = normalize_axis(axis, a.ndim)
    edge = tuple(1 if i == number else m for i, m in enumerate(a.shape))
    ends = [None if v is None else operand(v) for v in (prepend, append)]
    first, last = ([] if v is None else [stretch(v, edge) if not v.ndim else v] for v in ends)
    if first or last:
        a = concatenate([*first, a, *last], number)
    name = "not_equal" if a.dtype == bool else "subtract"
    for _ in range(operator.index(n)):
        m = max(0, a.shape[number] - 1)
        a = apply(name, span(a, number, min(1, a.shape[number]), m), span(a, number, 0, m))
    return a


def ediff1d(ary: Expr, to_end: Any = None, to_begin: Any = None) -> Expr:
    """Give differences of neighbours of the flattened array, with values before and after."""
    flat = flatten(ary)
    n = max(0, flat.size - 1)
    parts = [subtract(span(flat, 0, flat.size - n, n), span(flat, 0, 0, n))]
    for name, value, place in (("to_begin", to_begin, 0), ("to_end", to_end, len(parts))):
        if value is None:
            continue
        extra = operand(value)
        if not np.can_cast(extra.dtype, ary.dtype, "same_kind"):
            message = (
                f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule."
            )
            raise TypeError(message)
        line = cast_lazily(flatten(extra), ary.dtype)
        parts.insert(place if name == "to_begin" else len(parts), line)
    return concatenate(parts, 0)


def gradient(
    f: Expr, *varargs: Any, axis: Axis = None, edge_order: int = 1
) -> Expr | tuple[Expr, ...]:
    """Give central differences along axes, one-sided ones at the ends."""
    axes = _in_order(axis, f.ndim)
    steps = _spacings(f, axes, varargs)
    if edge_order > 2:
        message = "'edge_order' greater than 2 not supported"
        raise ValueError(message)
    values = f
    if f.dtype.kind in "iu":
        values = cast(f, np.float64)
    elif f.dtype.kind == "M":
        values = cast(f, f.dtype.str.replace("M8", "m8"))
    out = []
    for number, step in zip(axes, steps, strict=True):
        if f.shape[number] < edge_order + 1:
            message = (
                "Shape of array too small to calculate a numerical gradient, at least "
                "(edge_order + 1) elements are required."
            )
            raise ValueError(message)
        out.append(_gradient(values, number, step, edge_order))
    return out[0] if len(axes) == 1 else tuple(out)


def _in_order(axis: Axis, ndim: int) -> tuple[int, ...]:
    if not isinstance(axis, tuple | list):
        return normalize_axes(axis, ndim)
    normalize_axes(axis, ndim)
    return tuple(normalize_axis(i, ndim) for i in axis)


def _spacings(f: Expr, axes: tuple[int, ...], given: tuple[Any, ...]) -> list[Any]:
    """Give for each axis a number, or the distances between its coordinates."""
    if not given:
        return [1.0] * len(axes)
    if len(given) == 1 and np.ndim(given[0]) == 0:
        return list(given) * len(axes)
    if len(given) != len(axes):
        message = "invalid number of arguments"
        raise TypeError(message)
    out: list[Any] = []
    for number, value in zip(axes, given, strict=True):
        if np.ndim(value) == 0:
            out.append(value)
            continue
        places = operand(value)
        if places.ndim != 1:
            message = "distances must be either scalars or 1d"
            raise ValueError(message)
        if places.size != f.shape[number]:
            message = "when 1d, distances must match the length of the corresponding dimension"
            raise ValueError(message)
        steps = diff(cast(places, np.float64) if places.dtype.kind in "iu" else places)
        out.append(insert_axes(steps, [i for i in range(f.ndim) if i != number]))
    return out


def _gradient(f: Expr, axis: int, step: Any, edge_order: int) -> Expr:
    n = f.shape[axis]

    def at(start: int, count: int = 1) -> Expr:
        return span(f, axis, start % n, count)

    if isinstance(step, Expr) and step.ndim:
        h = [span(step, axis, i, 1) for i in (0, min(1, n - 2), max(0, n - 3), n - 2)]
        before, after = span(step, axis, 0, n - 2), span(step, axis, 1, n - 2)
    else:
        h, before, after = [step] * 4, None, None
    if before is None or after is None:
        middle = divide(subtract(at(2, n - 2), at(0, n - 2)), multiply(2.0, step))
    else:
        both = add(before, after)
        a = divide(apply("negative", after), multiply(before, both))
        b = divide(subtract(after, before), multiply(before, after))
        c = divide(before, multiply(after, both))
        middle = add(
            add(multiply(a, at(0, n - 2)), multiply(b, at(1, n - 2))), multiply(c, at(2, n - 2))
        )
    if edge_order == 1:
        first = divide(subtract(at(1), at(0)), h[0])
        last = divide(subtract(at(-1), at(-2)), h[3])
    else:
        first = _parabola(at(0), at(1), at(2), h[0], h[1])
        last = apply("negative", _parabola(at(-1), at(-2), at(-3), h[3], h[2]))
    kind = f.dtype if f.dtype.kind in "fcm" else np.dtype(np.float64)
    parts = [cast(part, kind) for part in (first, middle, last) if part.size]
    return join(parts, axis, "gradient")


def _parabola(f0: Expr, f1: Expr, f2: Expr, h0: Any, h1: Any) -> Expr:
    """Give the slope at the first of three points of the parabola through them."""
    both = apply("add", h0, h1)
    a = divide(apply("negative", add(multiply(2.0, h0), h1)), multiply(h0, both))
    b = divide(both, multiply(h0, h1))
    c = divide(apply("negative", h0), multiply(h1, both))
    return add(add(multiply(a, f0), multiply(b, f1)), multiply(c, f2))


def trapezoid(y: Expr, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Expr:
    """Integrate along an axis by the trapezoidal rule."""
    number = normalize_axis(axis, y.ndim)
    n = max(0, y.shape[number] - 1)
    step: Any = operand(dx) if np.ndim(dx) else dx
    if x is not None:
        places = operand(x)
        if places.ndim == 1:
            step = insert_axes(diff(places), [i for i in range(y.ndim) if i != number])
        else:
            step = diff(places, axis=axis)
    pairs = add(span(y, number, min(1, y.shape[number]), n), span(y, number, 0, n))
    return reductions.sum(divide(multiply(step, pairs), 2.0), number)


def trace(a: Expr, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: object = None) -> Expr:
    """Add up along a diagonal."""
    return reductions.sum(view(a, views.diagonal(a.shape, offset, axis1, axis2)), -1, dtype)


def unwrap(p: Expr, discont: Any = None, axis: int = -1, *, period: Any = 2 * np.pi) -> Expr:
    """Turn jumps of more than half a period into the shorter way round."""
    number = normalize_axis(axis, p.ndim)
    steps = diff(p, axis=number)
    kind = np.result_type(np.empty(0, steps.dtype), period)
    high, ambiguous = period / 2, True
    if kind.kind in "iu":
        high, rest = divmod(period, 2)
        ambiguous = rest == 0
    turned = add(apply("remainder", subtract(steps, -high), period), -high)
    if ambiguous:
        half = apply("logical_and", apply("equal", turned, -high), apply("greater", steps, 0))
        turned = where_(half, np.asarray(high, turned.dtype), turned)
    near = less(apply("absolute", steps), period / 2 if discont is None else discont)
    moved = where_(near, np.zeros((), turned.dtype), subtract(turned, steps))
    n = p.shape[number]
    rest_ = add(span(p, number, min(1, n), max(0, n - 1)), reductions.cumsum(moved, number))
    first = span(p, number, 0, min(1, n))
    return join([cast_lazily(first, kind), cast_lazily(rest_, kind)], number, "unwrap")
