"""`pad`: pieces of the array, constants or ramps laid around it, axis by axis.

Each axis is padded on what the axes before it have become, as NumPy does, so that corners agree.
What repeats the array (reflect, symmetric, wrap) is a few strided views of it per axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.errors import NotYetError
from chunkarr.expr.build import apply, cast, constant, insert_axes, stretch
from chunkarr.expr.node import Expr
from chunkarr.functions import reductions
from chunkarr.functions.creation import index_along
from chunkarr.functions.manipulation import join
from chunkarr.functions.pieces import span
from chunkarr.functions.ranks import median

Pair = tuple[Any, Any]
Side = Callable[[Expr, int, int, Any, bool], Expr]

OPTIONS = {
    "empty": None,
    "edge": None,
    "wrap": None,
    "constant": "constant_values",
    "linear_ramp": "end_values",
    "maximum": "stat_length",
    "mean": "stat_length",
    "median": "stat_length",
    "minimum": "stat_length",
    "reflect": "reflect_type",
    "symmetric": "reflect_type",
}
"""The modes, and the one option that each takes."""

REPEATS_MAX = 256
"""How often reflect, symmetric and wrap may pass over an axis."""


def pad(array: Expr, pad_width: Any, mode: Any = "constant", **options: Any) -> Expr:
    """Lay values around an array."""
    widths = _widths(pad_width, array.ndim)
    if callable(mode):
        message = "pad with a function runs on small arrays only; use one of the named modes"
        raise NotYetError(message)
    if mode not in OPTIONS:
        message = f"mode '{mode}' is not supported"
        raise ValueError(message)
    unknown = options.keys() - {OPTIONS[mode]}
    if unknown:
        message = f"unsupported keyword arguments for mode '{mode}': {unknown}"
        raise ValueError(message)
    given = options.get(OPTIONS[mode] or "")
    if OPTIONS[mode] == "reflect_type" and given == "odd" and array.dtype == bool:
        message = "pad of truth values with reflect_type='odd' runs on small arrays only"
        raise NotYetError(message)
    if OPTIONS[mode] == "reflect_type":
        values = [(given, given)] * array.ndim
    else:
        values = _pairs(given, array.ndim, as_index=OPTIONS[mode] == "stat_length")
    if mode in ("maximum", "minimum") and any(0 in pair for pair in values):
        message = "stat_length of 0 yields no value for padding"
        raise ValueError(message)
    if mode in ("constant", "linear_ramp") and given is None:
        values = [(0, 0)] * array.ndim
    if array.size == 0 and mode not in ("constant", "empty"):
        for axis, pair in enumerate(widths):
            if array.shape[axis] == 0 and any(pair):
                message = (
                    f"can't extend empty axis {axis} using modes other than 'constant' or 'empty'"
                )
                raise ValueError(message)
    out = array
    for axis, ((before, after), (first, last)) in enumerate(zip(widths, values, strict=True)):
        if before or after:
            side = SIDES[mode]
            left = [side(out, axis, before, first, False)] if before else []
            right = [side(out, axis, after, last, True)] if after else []
            middle = [out] if out.shape[axis] else []
            out = join([*left, *middle, *right], axis, "pad")
    return out


def _widths(pad_width: Any, ndim: int) -> list[Pair]:
    if isinstance(pad_width, dict):
        pairs: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            pairs[axis] = width if np.ndim(width) else (width, width)
        pad_width = pairs
    widths = np.asarray(pad_width)
    if widths.dtype.kind != "i":
        message = "`pad_width` must be of integral type."
        raise TypeError(message)
    return [(int(a), int(b)) for a, b in _pairs(widths, ndim, as_index=True)]


def _pairs(given: Any, ndim: int, *, as_index: bool) -> list[Pair]:
    """Spread an option over both sides of all axes."""
    if given is None:
        return [(None, None)] * ndim
    values = np.asarray(given)
    if as_index:
        values = np.round(values).astype(np.intp)
        if values.size and values.min() < 0:
            message = "index can't contain negative values"
            raise ValueError(message)
    if values.ndim < 3 and values.size == 1:
        return [(values.reshape(())[()],) * 2] * ndim
    if values.ndim < 3 and values.size == 2 and values.shape != (2, 1):
        return [tuple(values.ravel())] * ndim
    return [tuple(pair) for pair in np.broadcast_to(values, (ndim, 2)).tolist()]


def _wide(a: Expr, axis: int, count: int) -> tuple[int, ...]:
    return tuple(count if i == axis else n for i, n in enumerate(a.shape))


def _constant(a: Expr, axis: int, count: int, value: Any, right: bool) -> Expr:  # noqa: ARG001
    filled = np.empty((), a.dtype)
    filled[...] = 0 if value is None else value
    return constant(filled, shape=_wide(a, axis, count))


def _edge(a: Expr, axis: int, count: int, value: Any, right: bool) -> Expr:  # noqa: ARG001
    last = span(a, axis, a.shape[axis] - 1 if right else 0, 1)
    return stretch(last, _wide(a, axis, count))


def _ramp(a: Expr, axis: int, count: int, end: Any, right: bool) -> Expr:
    """Give a line from a value at the outside to the edge, which it does not reach."""
    last = span(a, axis, a.shape[axis] - 1 if right else 0, 1)
    kind = np.result_type(np.asarray(end), a.dtype, float(count))
    start, stop = constant(np.asarray(end).astype(kind)), cast(last, kind)
    step = apply("divide", apply("subtract", stop, start), count)
    places = index_along((count,), 0, kind)
    if right:
        places = apply("subtract", constant(count - 1, kind), places)
    line = insert_axes(places, [i + (i >= axis) for i in range(a.ndim - 1)])
    ramp = apply("add", apply("multiply", line, step), start)
    return cast(apply("floor", ramp) if a.dtype.kind in "iu" else ramp, a.dtype)


def _statistic(name: str) -> Side:
    def side(a: Expr, axis: int, count: int, length: Any, right: bool) -> Expr:
        n = a.shape[axis]
        used = n if length is None else min(int(length), n)
        if used == 0 and name in ("max", "min"):
            message = "stat_length of 0 yields no value for padding"
            raise ValueError(message)
        part = span(a, axis, n - used if right else 0, used)
        statistic = median if name == "median" else getattr(reductions, name)
        value = statistic(part, axis, keepdims=True)
        if name in ("mean", "median") and a.dtype.kind in "iu":
            value = apply("rint", value)
        return stretch(cast(value, a.dtype), _wide(a, axis, count))

    return side


def _again(mode: str) -> Side:
    """Make a side that goes on with the array itself: turned around, or from its other end."""

    def side(a: Expr, axis: int, count: int, kind: Any, right: bool) -> Expr:
        n = a.shape[axis]
        if n == 1:
            return stretch(a, _wide(a, axis, count))
        period = {"wrap": n, "symmetric": 2 * n, "reflect": 2 * n - 2}[mode]
        if count > REPEATS_MAX * n:
            message = f"pad by {count} of an axis of {n} runs on small arrays only; use numpy.tile"
            raise NotYetError(message)
        start, stop = (n, n + count) if right else (-count, 0)
        parts = []
        while start < stop:
            turn, at = divmod(start, period)
            back = at >= n
            if back:
                mirrored = period - at - (mode == "symmetric")
                # The way back stops before the first element where that begins the next period.
                run = min(stop - start, period - at)
                part = span(a, axis, mirrored, run, -1)
            else:
                run = min(stop - start, n - at)
                part = span(a, axis, at, run)
            parts.append(_odd(part, a, axis, turn, back=back) if kind == "odd" else part)
            start += run
        return join(parts, axis, "pad")

    return side


def _odd(part: Expr, a: Expr, axis: int, turn: int, *, back: bool) -> Expr:
    """Turn values around their edge, and around the edges of what was turned before."""
    first, last = (span(a, axis, i, 1) for i in (0, a.shape[axis] - 1))
    turns = turn + 1 if back and turn < 0 else turn
    if back:
        part = apply("subtract", apply("multiply", 2, first if turn < 0 else last), part)
    if turns:
        way = apply("multiply", 2 * abs(turns), apply("subtract", last, first))
        part = apply("add" if turns > 0 else "subtract", part, way)
    return cast(part, a.dtype)


SIDES: dict[str, Side] = {
    "constant": _constant,
    "empty": _constant,
    "edge": _edge,
    "linear_ramp": _ramp,
    "maximum": _statistic("max"),
    "minimum": _statistic("min"),
    "mean": _statistic("mean"),
    "median": _statistic("median"),
    "reflect": _again("reflect"),
    "symmetric": _again("symmetric"),
    "wrap": _again("wrap"),
}
"""What each mode lays at one side of an axis."""
