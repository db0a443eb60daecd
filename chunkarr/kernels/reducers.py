"""Reductions as states that combine: what a region yields, and how two regions' states merge.

A sum's bits depend on the order of its additions, so the order is fixed here, once, for every tier
and every number of workers. Values come in C order and are cut into *panels*:

- rows (the reduced axes are the innermost): a panel holds 16 rows of 64 lanes, 1024 values. Lane l
  is v[l] + v[64 + l] + ..., one row after the other; lanes the panel does not reach do not exist.
  Then lanes fold by halves: lane l takes lane l + 32 where that exists, then l + 16, down to lane
  0.
- columns (kept axes follow the reduced ones): a panel holds 32 rows, added one after the other.

Panel results combine in a tree of adjacent pairs, an odd last one passing up unchanged; so do the
states of outer groups of reduced axes, and those of regions. Rounding errors grow as in NumPy's
pairwise sums: at most 11 + log2(n) additions deep in rows, 26 + log2(n) in columns, where NumPy
adds one row after the other. A sum starts from +0.0, so that zeros have NumPy's sign.

A variance keeps (count, mean, M2, low): two passes inside a panel, Chan's update between panels,
and `low`, the rounding error of the mean, which is mean + low. Without it the error of M2 grows
with |mean| / std, which NumPy's two passes over the whole array do not suffer; with it, panels lose
nothing against them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chunkarr.floats import naming
from chunkarr.kernels.axes import Array
from chunkarr.records import dataclass

State = tuple[Array, ...]

LANES = 64
ROWS = 16
PANEL = LANES * ROWS
"""Values in a panel when the reduced axes are the innermost."""
PANEL_ROWS = 32
"""Rows in a panel when kept axes follow the reduced ones."""

ASSOCIATIVE = frozenset(
    [
        "add",
        "multiply",
        "minimum",
        "maximum",
        "fmin",
        "fmax",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "logical_and",
        "logical_or",
        "logical_xor",
        "gcd",
        "lcm",
        "hypot",
        "logaddexp",
        "logaddexp2",
    ]
)


_LOWER, _UPPER = (np.minimum, np.fmin), (np.maximum, np.fmax)
_EXTREMES = _LOWER + _UPPER


@dataclass(frozen=True, slots=True)
class Reducer:
    """A way to reduce.

    `kind` is "ufunc" (state: accumulator), "truth" (values become bool first), "var" (state: count,
    mean, M2, low), or "arg" (state: value, C-order index).
    """

    name: str
    kind: str
    ufunc: np.ufunc
    """What combines two values; for "arg" the comparison that lets a value win."""

    def exact(self, dtype: np.dtype[Any]) -> bool:
        """Whether every order of combining gives the same bits."""
        if self.kind == "ufunc":
            return dtype.kind in "biuMmSU" or self.extreme
        return self.kind == "truth"

    @property
    def extreme(self) -> bool:
        """Whether this is a minimum or maximum, where -0.0 counts as less than +0.0."""
        return self.ufunc in _EXTREMES and self.kind == "ufunc"

    def state_dtypes(self, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        """Give the dtypes of the state for values of `dtype`."""
        if self.kind == "truth":
            return (np.dtype(bool),)
        if self.kind == "arg":
            return (dtype, np.dtype(np.int64))
        if self.kind == "var":
            return (np.dtype(np.int64), dtype, real_dtype(dtype), dtype)
        return (dtype,)


REDUCERS: dict[str, Reducer] = {
    "sum": Reducer("sum", "ufunc", np.add),
    "prod": Reducer("prod", "ufunc", np.multiply),
    "min": Reducer("min", "ufunc", np.minimum),
    "max": Reducer("max", "ufunc", np.maximum),
    "any": Reducer("any", "truth", np.logical_or),
    "all": Reducer("all", "truth", np.logical_and),
    "var": Reducer("var", "var", np.add),
    "argmin": Reducer("argmin", "arg", np.less),
    "argmax": Reducer("argmax", "arg", np.greater),
}


def ufunc_reducer(name: str) -> Reducer:
    """Give the reducer for an associative binary ufunc of NumPy.

    >>> ufunc_reducer("bitwise_or").kind
    'ufunc'
    """
    if name not in ASSOCIATIVE:
        message = f"{name} is not associative: regions reduced apart would not combine"
        raise ValueError(message)
    return Reducer(name, "truth" if name.startswith("logical_") else "ufunc", getattr(np, name))


def reducer_of(reducer: Reducer | str) -> Reducer:
    """Give a reducer by its name, or by the name of its ufunc."""
    if isinstance(reducer, Reducer):
        return reducer
    return REDUCERS.get(reducer) or ufunc_reducer(reducer)


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype of one component of a complex dtype, any other unchanged."""
    return np.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype


def identity_state(reducer: Reducer, dtype: np.dtype[Any], shape: tuple[int, ...]) -> State | None:
    """Give the state of no values, None where there is none (min, max, argmin, argmax)."""
    dtypes = reducer.state_dtypes(dtype)
    if reducer.kind == "var":
        return tuple(np.zeros(shape, entry) for entry in dtypes)
    if reducer.kind == "arg" or reducer.ufunc.identity is None:
        return None
    value = reducer.ufunc.identity
    if reducer.ufunc is np.bitwise_and:
        value = -1
    return (np.full(shape, value).astype(dtypes[0]),)


def merge(reducer: Reducer, left: State, right: State) -> State:
    """Combine the states of two regions, the left one earlier in C order."""
    if reducer.kind == "var":
        with np.errstate(all="ignore"):
            merged = _merge_var(left, right)
    elif reducer.kind == "arg":
        merged = _merge_arg(reducer, left, right)
    else:
        with naming("reduce"):
            merged = (reducer.ufunc(left[0], right[0]),)
        if reducer.extreme and merged[0].dtype.kind == "f":
            merged = (_merge_zeros(reducer.ufunc, left[0], right[0], np.asarray(merged[0])),)
    return tuple(np.asarray(entry) for entry in merged)


def tree_merge(reducer: Reducer, states: State) -> State:
    """Combine states stacked along axis 0, adjacent pairs first, an odd last one passing up."""
    return tree_merge_axis(reducer, states, 0)


def tree_merge_axis(reducer: Reducer, states: State, axis: int) -> State:
    """Combine states stacked along an axis."""
    count = states[0].shape[axis]
    lead: tuple[Any, ...] = (slice(None),) * axis
    while count > 1:
        pairs = count // 2
        left = tuple(s[(*lead, slice(0, 2 * pairs, 2))] for s in states)
        right = tuple(s[(*lead, slice(1, 2 * pairs, 2))] for s in states)
        merged = merge(reducer, left, right)
        if count % 2:
            last = (*lead, slice(count - 1, count))
            merged = tuple(
                np.concatenate((m, s[last]), axis=axis) for m, s in zip(merged, states, strict=True)
            )
        states, count = merged, pairs + count % 2
    return tuple(s[(*lead, 0, ...)] for s in states)


def _merge_var(left: State, right: State) -> State:
    (count_a, mean_a, m2_a, low_a), (count_b, mean_b, m2_b, low_b) = left, right
    count = count_a + count_b
    real = m2_a.dtype
    wide = np.promote_types(real, np.float64)
    weight = count_b.astype(wide) / np.maximum(count, 1).astype(wide)
    delta = (mean_b - mean_a) + (low_b - low_a)
    step = delta * weight.astype(real)
    mean = mean_a + step
    back = mean - mean_a
    low = low_a + ((mean_a - (mean - back)) + (step - back))
    between = _square(delta) * (count_a.astype(wide) * weight).astype(real)
    return count, mean, (m2_a + m2_b) + between, low


def _merge_arg(reducer: Reducer, left: State, right: State) -> State:
    (value_a, index_a), (value_b, index_b) = left, right
    earlier = index_a < index_b
    if value_a.dtype.kind in "fcmM":
        null_a, null_b = np.isnan(value_a), np.isnan(value_b)
        wins = reducer.ufunc(value_a, value_b) & ~null_b
        wins |= (null_a & ~null_b) | (((value_a == value_b) | (null_a & null_b)) & earlier)
    else:
        wins = reducer.ufunc(value_a, value_b) | ((value_a == value_b) & earlier)
    return np.where(wins, value_a, value_b), np.where(wins, index_a, index_b)


def _merge_zeros(ufunc: np.ufunc, left: Array, right: Array, result: Array) -> Array:
    zero = (left == 0) & (right == 0)
    if zero.any():
        # The sum of two zeros is negative only if both are.
        result = np.where(zero, left + right if ufunc in _UPPER else -(-left - right), result)
    return result


def _sign_zeros(ufunc: np.ufunc, values: Array, result: Array) -> None:
    """Give zeros among extremes the sign that an order-free rule wants: -0.0 is less than +0.0.

    NumPy's own choice depends on where a vector register ends.
    """
    if (result == 0).any():
        upper = ufunc in _UPPER
        wanted = (values == 0) & (np.signbit(values) ^ upper)
        found = wanted.any(axis=1, keepdims=True)
        sign = np.where(found ^ upper, -0.0, 0.0).astype(result.dtype)
        np.copyto(result, sign, where=result == 0)


def _square(values: Array) -> Array:
    if values.dtype.kind == "c":
        total: Array = values.real * values.real + values.imag * values.imag
        return total
    return values * values


def fold_lanes(ufunc: np.ufunc, lanes: Array) -> Array:
    """Fold the last axis (at most 64 lanes, overwritten) by halves."""
    width = lanes.shape[-1]
    half = LANES // 2
    while half:
        if width > half:
            target = lanes[..., : width - half]
            ufunc(target, lanes[..., half:width], out=target)
            width = half
        half //= 2
    return lanes[..., 0]


def fold_rows(ufunc: np.ufunc, values: Array) -> Array:
    """Reduce (outer, n) values to (outer, panels) in the canonical order."""
    outer, n = values.shape
    dtype = values.dtype
    full, tail = divmod(n, PANEL)
    result = np.empty((outer, full + (tail > 0)), dtype)
    if full:
        # Reducing an axis that is not the innermost adds whole rows of lanes, one after the other.
        rows = values[:, : full * PANEL].reshape(outer, full, ROWS, LANES)
        result[:, :full] = fold_lanes(ufunc, ufunc.reduce(rows, axis=2, dtype=dtype))
    if tail:
        start = full * PANEL
        rows_full, rest = divmod(tail, LANES)
        if rows_full:
            stop = start + rows_full * LANES
            rest_rows = values[:, start:stop].reshape(outer, rows_full, LANES)
            lanes = ufunc.reduce(rest_rows, axis=1, dtype=dtype)
            if rest:
                ufunc(lanes[:, :rest], values[:, stop:], out=lanes[:, :rest])
        else:
            lanes = values[:, start:].copy()
        result[:, full] = fold_lanes(ufunc, lanes)
    return _positive_zero(ufunc, result)


def fold_columns(ufunc: np.ufunc, values: Array) -> Array:
    """Reduce (outer, rows, columns) values to (outer, panels, columns) in the canonical order."""
    outer, n, columns = values.shape
    full, tail = divmod(n, PANEL_ROWS)
    result = np.empty((outer, full + (tail > 0), columns), values.dtype)
    if full:
        rows = values[:, : full * PANEL_ROWS].reshape(outer, full, PANEL_ROWS, columns)
        _add_rows(ufunc, rows, result[:, :full])
    if tail:
        _add_rows(ufunc, values[:, None, full * PANEL_ROWS :], result[:, full:])
    return _positive_zero(ufunc, result)


def _add_rows(ufunc: np.ufunc, rows: Array, out: Array) -> None:
    if rows.shape[-1] > 1:
        ufunc.reduce(rows, axis=2, dtype=rows.dtype, out=out)
        return
    # A single column would make the reduced axis the innermost, which NumPy adds pairwise.
    out[...] = rows[:, :, 0]
    for i in range(1, rows.shape[2]):
        ufunc(out, rows[:, :, i], out=out)


def _positive_zero(ufunc: np.ufunc, result: Array) -> Array:
    if ufunc is np.add and result.dtype.kind in "fc":
        result += 0.0
    return result


def reduce_panels(reducer: Reducer, values: Array, start: int) -> State:
    """Reduce axis 1 of contiguous values panel by panel.

    `values` is (outer, n) or (outer, rows, columns) and begins at position `start` of the reduced
    axes, a multiple of the panel. Gives states whose axis 1 counts panels.
    """
    if reducer.kind == "var":
        return _panels_var(values)
    if reducer.kind == "arg":
        pick = np.argmin if reducer.ufunc is np.less else np.argmax
        index = pick(values, axis=1, keepdims=True)
        return np.take_along_axis(values, index, axis=1), index.astype(np.int64) + start
    if reducer.kind == "truth":
        truth = values if values.dtype == bool else values.astype(bool)
        return (reducer.ufunc.reduce(truth, axis=1, keepdims=True),)
    if reducer.exact(values.dtype):
        reduced = reducer.ufunc.reduce(values, axis=1, dtype=_loop_dtype(values), keepdims=True)
        if reducer.extreme and values.dtype.kind == "f":
            _sign_zeros(reducer.ufunc, values, reduced)
        return (reduced,)
    return (_fold(reducer.ufunc, values),)


def _loop_dtype(values: Array) -> np.dtype[Any] | None:
    # Without a dtype NumPy widens small integers; with one it refuses the units of datetimes.
    return None if values.dtype.kind in "mM" else values.dtype


def _fold(ufunc: np.ufunc, values: Array) -> Array:
    with naming("reduce"):
        return fold_rows(ufunc, values) if values.ndim == 2 else fold_columns(ufunc, values)


def _panels_var(values: Array) -> State:
    n, panel = values.shape[1], PANEL if values.ndim == 2 else PANEL_ROWS
    sizes = np.full(-(-n // panel), panel, np.int64)
    if n % panel:
        sizes[-1] = n % panel
    shape = (1, len(sizes)) + (1,) * (values.ndim - 2)
    dtype = values.dtype
    counts = sizes.reshape(shape)
    divisor = counts.astype(real_dtype(dtype))
    mean = _fold(np.add, values) / divisor
    deviation = values - np.repeat(mean, sizes, axis=1)
    with np.errstate(all="ignore"):
        rest = _fold(np.add, deviation)
        m2 = _fold(np.add, _square(deviation))
        low = rest / divisor
        # The exact M2 about mean + low; rounding may take it below zero, where a root would be NaN.
        excess = (rest * low.conjugate()).real if dtype.kind == "c" else rest * low
        # Where even the excess is too great, the squares are as well, and stay infinite.
        np.subtract(m2, excess, out=m2, where=excess < np.inf)
        m2[m2 < 0] = 0
    return np.broadcast_to(counts, mean.shape), mean, m2, low


def tell_variance(state: State) -> None:
    """Let NumPy tell of squares that were too great: panels and merging tell of none."""
    _, mean, m2, _ = state
    if (np.isinf(m2) & np.isfinite(mean)).any():
        np.square(np.full(1, np.finfo(m2.dtype).max))


def globalise_index(
    index: Array,
    lengths: tuple[int, ...],
    origin: tuple[int, ...],
    extent: tuple[int, ...],
) -> Array:
    """Turn C-order positions in reduced axes of `lengths` into positions in the whole array's."""
    if not lengths or (not any(origin) and lengths[1:] == extent[1:]):
        return index
    result = np.zeros_like(index)
    for place, (i, o) in enumerate(zip(np.unravel_index(index, lengths), origin, strict=True)):
        result += (i + o) * math.prod(extent[place + 1 :])
    return result
