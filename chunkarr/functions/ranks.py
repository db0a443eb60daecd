"""Medians, percentiles and quantiles: the few elements of the sorted array that decide them.

Lanes that fit a task are NumPy's own work. Longer ones, the reduced axes folded into one, are
sorted, and NumPy's formulas are applied to the elements at the ranks that they name. So an axis of
any size works wherever `sort` does, and every method gives NumPy's value. Where NaN is left out,
the number of values of each lane is itself computed, and the ranks with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import (
    apply,
    as_expr,
    cast_lazily,
    flatten,
    from_ndarray,
    insert_axes,
    normalize_axes,
    reshape,
    stretch,
    view,
    where,
)
from chunkarr.expr.node import Dtype, Expr
from chunkarr.functions import reductions, statistics, views
from chunkarr.functions.creation import index_along
from chunkarr.functions.fancy import take
from chunkarr.functions.lanes import lanes as lanes_of
from chunkarr.functions.manipulation import stack
from chunkarr.functions.pieces import (
    add,
    call,
    known,
    multiply,
    operand,
    remarked,
    span,
    subtract,
)
from chunkarr.functions.products import sort
from chunkarr.functions.reductions import Axis
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]
Function = Callable[..., Any]

SHORT_CHUNKS = 4
"""Lanes of up to so many times the size of a chunk are left to NumPy as they are."""

# -- ranks -----------------------------------------------------------------------------------------

PLOTTING = {
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3.0, 1 / 3.0),
    "normal_unbiased": (3 / 8.0, 3 / 8.0),
}
"""Alpha and beta of the methods of Hyndman and Fan that interpolate between plotting positions."""


def _step(place: NDArray, stays: Any) -> NDArray:
    """Give the rank at a place that is one where `stays` says so, else the next."""
    return np.asarray(np.maximum(np.floor(place) + ~(stays & (place % 1 == 0)), 0))


POSITIONS: dict[str, Function] = {
    "inverted_cdf": lambda n, q: _step(n * q - 1, np.True_),
    "closest_observation": lambda n, q: _step(n * q - 1 - 0.5, np.floor(n * q - 1.5) % 2 == 1),
    "lower": lambda n, q: np.floor((n - 1) * q),
    "higher": lambda n, q: np.ceil((n - 1) * q),
    "nearest": lambda n, q: np.around((n - 1) * q),
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "linear": lambda n, q: (n - 1) * q,
    "midpoint": lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
}
"""The place of a quantile among n sorted values, between two of them or, for the first few, at one.

NumPy's arithmetic, operation by operation, so that places agree to the bit.
"""

DISCRETE = frozenset(("inverted_cdf", "closest_observation", "lower", "higher", "nearest"))
"""Methods that take one of the values."""


def ranks(method: str, n: Any, q: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Give the ranks of the two elements beside a quantile of n values, and its way between them.

    >>> [part.item() for part in ranks("linear", 5, np.array(0.375))]
    [1, 2, 0.5]
    """
    if method in PLOTTING:
        alpha, beta = PLOTTING[method]
        place = np.asarray(n * q + (alpha + q * (1 - alpha - beta)) - 1)
    else:
        place = np.asarray(POSITIONS[method](n, q))
    last = np.maximum(n - 1, 0)
    beyond, early = place >= n - 1, place < 0
    # NumPy counts the last element as rank -1, and the way from there.
    before = np.where(beyond, -1, np.where(early, 0, np.floor(place)))
    lower = np.where(beyond, last, before).astype(np.intp)
    upper = np.where(beyond, last, np.where(early, 0, np.floor(place) + 1)).astype(np.intp)
    way = place - before
    if method == "averaged_inverted_cdf":
        way = np.where(way == 0, 0.5, 1.0)
    elif method == "midpoint":
        way = np.where(place % 1 == 0, 0.0, 0.5)
    return lower, upper, np.asarray(way, np.result_type(place, np.float16))


def _ranks_part(method: str, part: int, n: NDArray, q: NDArray) -> NDArray:
    return ranks(method, n, q)[part]


# -- the elements at ranks -------------------------------------------------------------------------


def _folded(a: Expr, axes: tuple[int, ...]) -> Expr:
    """Fold axes into one at the end."""
    others = [i for i in range(a.ndim) if i not in axes]
    turned = view(a, views.transpose(a.shape, [*others, *axes])) if a.ndim > 1 else a
    shape = tuple(a.shape[i] for i in others)
    return reshape(turned, (*shape, math.prod(a.shape[i] for i in axes)))


def _at(lanes: Expr, places: NDArray) -> Expr:
    """Give the elements of each lane at ranks, the axes of ranks first."""
    made = take(lanes, places, -1)
    moved = range(made.ndim - places.ndim, made.ndim)
    return view(made, views.moveaxis(made.shape, list(moved), list(range(places.ndim))))


def _at_each(lanes: Expr, places: Expr) -> Expr:
    """Give the elements of lanes at ranks that differ from lane to lane."""
    shape = lanes.shape[:-1]
    lane = reshape(index_along((math.prod(shape),), 0), shape)
    return take(flatten(lanes), add(multiply(lane, lanes.shape[-1]), places))


def _between(low: Expr, high: Expr, way: Any) -> Expr:
    """Interpolate linearly as NumPy does, from the nearer end."""
    apart = subtract(high, low)
    up = add(low, multiply(apart, way))
    down = subtract(high, multiply(apart, subtract(1, way)))
    return where(apply("greater_equal", way, 0.5), cast_lazily(down, up.dtype), up)


def _kept(made: Expr, axes: tuple[int, ...], first: int, keepdims: bool) -> Expr:
    return insert_axes(made, [first + i for i in axes]) if keepdims else made


def _poisoned(made: Expr, lanes: Expr) -> Expr:
    """Put NaN where a lane has one; it is sorted to the end."""
    if lanes.dtype.kind not in "fcmM":
        return made
    last = _at(lanes, np.asarray(lanes.shape[-1] - 1))
    gone = apply("isnat" if lanes.dtype.kind in "mM" else "isnan", last)
    return where(gone, cast_lazily(last, made.dtype), made)


# -- quantiles -------------------------------------------------------------------------------------


def _quantiles(name: str, *, percent: bool, nan: bool) -> Function:
    numpy_function: Function = getattr(np, name)

    def quantiles(
        a: Expr,
        q: Any,
        axis: Axis = None,
        overwrite_input: bool = False,  # noqa: ARG001 - arguments never change
        method: str = "linear",
        keepdims: bool = False,
        *,
        weights: Any = None,
    ) -> Expr:
        given = known(q, name, "q")
        weak = type(q) in (int, float)
        ask = functools.partial(numpy_function, q=q if weak else given, method=method)
        if not a.size:
            return as_expr(ask(np.empty(a.shape, a.dtype), axis=axis, keepdims=keepdims))
        # NumPy's own dtype and errors, of a short array that shows them.
        ones = None if weights is None else np.ones(2)
        kind = np.asarray(ask(np.zeros((2,), a.dtype), weights=ones)).dtype
        kind = a.dtype if kind.kind in "SU" else kind
        axes = normalize_axes(axis, a.ndim)
        lines = _folded(a, axes)
        if weights is not None or (_short(lines) and not nan):
            rest = [] if weights is None else [_weights(weights, a, axis, axes)]
            made = _by_numpy(name, [lines, *rest], given, method, weak, kind)
        else:
            lanes = sort(lines, -1)
            points = np.asarray(np.true_divide(given, 100)) if percent else given
            skips = nan and a.dtype.kind in "fcmM"
            made = (_without_nan if skips else _plain)(lanes, points, method, weak)
            made = cast_lazily(made if nan else _poisoned(made, lanes), kind)
        if nan and made.dtype.kind in "fcmM":
            made = _told(made)
        return _kept(made, axes, given.ndim, keepdims)

    left_out = " of what is not NaN" if nan else ""
    word = "percentiles" if percent else "quantiles"
    quantiles.__name__ = quantiles.__qualname__ = name
    quantiles.__doc__ = f"Give {word} over axes{left_out}, those of `q` along new first axes."
    return quantiles


def _told(made: Expr) -> Expr:
    """Warn where a result without NaN is NaN: there was nothing else."""
    return remarked(made, apply("isnan", made), statistics.ALL_NAN)


def _short(lines: Expr) -> bool:
    """Whether lanes are so short that NumPy's own selection beats a sort of everything."""
    return lines.shape[-1] * lines.dtype.itemsize <= SHORT_CHUNKS * settings().chunk_bytes


def _weights(weights: Any, a: Expr, axis: Axis, axes: tuple[int, ...]) -> Expr:
    spread = statistics.spread_weights(operand(weights), a, axis, axes)
    return _folded(stretch(spread, a.shape), axes)


def _by_numpy(
    name: str, lines: list[Expr], q: NDArray, method: str, weak: bool, kind: np.dtype[Any]
) -> Expr:
    """Apply NumPy's function to whole lanes, and their weights if there are any."""
    (made,) = lanes_of(
        _numpy_lanes,
        [from_ndarray(q), *lines],
        [q.ndim, *(1 for _ in lines)],
        [q.shape],
        [kind],
        name=name,
        options=(("name", name), ("method", method), ("weak", weak)),
        scratch=4,
    )
    first = made.ndim - q.ndim
    return view(made, views.moveaxis(made.shape, [*range(first, made.ndim)], [*range(q.ndim)]))


def _numpy_lanes(
    q: NDArray,
    a: NDArray,
    weights: NDArray | None = None,
    *,
    name: str,
    method: str,
    weak: bool,
) -> NDArray:
    loop = a.ndim - 1
    points = q.reshape(q.shape[loop:])
    function = getattr(np, name)
    asked = points.item() if weak else points
    made = np.asarray(function(a, asked, axis=-1, method=method, weights=weights))
    return np.moveaxis(made, range(points.ndim), range(loop, loop + points.ndim))


def _plain(lanes: Expr, q: NDArray, method: str, weak: bool) -> Expr:
    lower, upper, way = ranks(method, lanes.shape[-1], q)
    low = _at(lanes, lower)
    if method in DISCRETE or (method == "linear" and q.dtype.kind in "iub"):
        return low
    share: Any = float(way) if weak else _beside(way, lanes.ndim - 1)
    return _between(low, _at(lanes, upper), share)


def _beside(values: NDArray, count: int) -> Expr:
    return insert_axes(from_ndarray(values), range(values.ndim, values.ndim + count))


def _without_nan(lanes: Expr, q: NDArray, method: str, weak: bool) -> Expr:
    there = apply("logical_not", apply("isnan", lanes))
    count = reductions.sum(there, -1, np.intp)
    points = _beside(q, count.ndim)
    spread = stretch(count, (*q.shape, *count.shape))
    kinds = (part.dtype for part in ranks(method, np.intp(2), q))
    lower, upper, way = (
        call(functools.partial(_ranks_part, method, part), kind, spread, points)
        for part, kind in enumerate(kinds)
    )
    low = _at_each(lanes, lower)
    if method in DISCRETE or (method == "linear" and q.dtype.kind in "iub"):
        return low
    share = cast_lazily(way, low.dtype) if weak and low.dtype.kind in "fc" else way
    return _between(low, _at_each(lanes, upper), share)


quantile = _quantiles("quantile", percent=False, nan=False)
percentile = _quantiles("percentile", percent=True, nan=False)
nanquantile = _quantiles("nanquantile", percent=False, nan=True)
nanpercentile = _quantiles("nanpercentile", percent=True, nan=True)


def median(
    a: Expr,
    axis: Axis = None,
    overwrite_input: bool = False,  # noqa: ARG001 - arguments never change
    keepdims: bool = False,
    into: Dtype | None = None,
) -> Expr:
    """Give the middle of the sorted values over axes, or the mean of the middle two."""
    axes = normalize_axes(axis, a.ndim)
    if into is not None:
        a = cast_lazily(a, reductions.loop_dtype("add", a.dtype, None, into))
        return reductions.landed(median(a, axis, keepdims=keepdims), into)
    if not a.size:
        return as_expr(np.median(np.empty(a.shape, a.dtype), axis, keepdims=keepdims))
    kind = np.asarray(np.median(np.zeros((2,), a.dtype))).dtype  # and NumPy's own errors
    lines = _folded(a, axes)
    if _short(lines):
        (made,) = lanes_of(_numpy_median, [lines], [1], [()], [kind], name="median", scratch=3)
        return _kept(made, axes, 0, keepdims)
    lanes = sort(lines, -1)
    n = lanes.shape[-1]
    middle = span(lanes, lanes.ndim - 1, (n - 1) // 2, 2 - n % 2)
    made = _poisoned(reductions.mean(middle, -1), lanes)
    return _kept(made, axes, 0, keepdims)


def _numpy_median(a: NDArray) -> NDArray:
    return np.asarray(np.median(a, axis=-1))


def nanmedian(
    a: Expr,
    axis: Axis = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
    into: Dtype | None = None,
) -> Expr:
    """Give the median over axes of what is not NaN."""
    if a.dtype.kind not in "fcm" or not a.size:
        return median(a, axis, overwrite_input, keepdims, into)
    if into is not None:
        return reductions.landed(nanmedian(a, axis, keepdims=keepdims), into)
    axes = normalize_axes(axis, a.ndim)
    lanes = sort(_folded(a, axes), -1)
    there = apply("logical_not", apply("isnan", lanes))
    count = reductions.sum(there, -1, np.intp)
    below = apply("floor_divide", apply("maximum", subtract(count, 1), 0), 2)
    above = apply("floor_divide", count, 2)
    low, high = _at_each(lanes, below), _at_each(lanes, above)
    # The mean of one value twice may overflow where the value does not.
    both = reductions.mean(stack([low, high]), 0)
    return _kept(_told(where(apply("equal", below, above), low, both)), axes, 0, keepdims)
