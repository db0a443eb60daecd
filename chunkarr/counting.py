"""Histograms and counts of integers: the edges follow from values that are computed at the call.

The least and the greatest value, where they are not given, take one pass; the counts are then an
expression like any other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr import namespace
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import expression, give
from chunkarr.expr.build import cast
from chunkarr.floats import remark
from chunkarr.functions.counts import binned, occurrences
from chunkarr.functions.ranks import percentile
from chunkarr.whole import at_once, check_fit

COPIES = 4
"""How many copies of its arguments NumPy's own work takes, where everything has to fit."""


def _interquartile(a: Any, _: Any) -> Any:
    (both,) = namespace.compute(wrap(percentile(a.to_expr(), [75, 25])))
    high, low = both
    return 2.0 * np.subtract(high, low) * a.size ** (-1.0 / 3.0)


def _skewness(a: Any, spread: Any) -> Any:
    if a.size <= 2:
        return 0.0
    sigma = a.std().compute()
    if not sigma > 0:
        return 0.0
    sg1 = np.sqrt(6.0 * (a.size - 2) / ((a.size + 1.0) * (a.size + 3)))
    g1 = (((a - a.mean()) / sigma) ** 3).mean().compute()
    return spread / (1.0 + np.log2(a.size) + np.log2(1.0 + np.absolute(g1) / sg1))


def _automatic(a: Any, spread: Any) -> Any:
    width = max(_interquartile(a, spread), WIDTHS["sqrt"](a, spread) / 2)
    return min(width, WIDTHS["sturges"](a, spread))


def _deviation(a: Any, _: Any) -> Any:
    return (24.0 * np.pi**0.5 / a.size) ** (1.0 / 3.0) * a.std().compute()


WIDTHS: dict[str, Callable[[Any, Any], Any]] = {
    "auto": _automatic,
    "doane": _skewness,
    "fd": _interquartile,
    "rice": lambda a, spread: spread / (2.0 * a.size ** (1.0 / 3)),
    "scott": _deviation,
    "sqrt": lambda a, spread: spread / np.sqrt(a.size),
    "sturges": lambda a, spread: spread / (np.log2(a.size) + 1.0),
}
"""Widths of bins by NumPy's rules, of an array and the distance of its ends."""


def _ends(a: Any) -> Any:
    """Compute the least and greatest value; gives a short array, empty for an empty one."""
    if not a.size:
        return np.zeros(0, a.dtype)
    return np.array(namespace.compute(a.min(), a.max()), a.dtype)


def _bin_number(a: Any, rule: str, range: Any) -> int:
    """Give the number of bins that a rule chooses."""
    if range is not None:
        np.histogram_bin_edges(np.zeros(0), 1, range)  # NumPy's own errors
        a = a.reshape(-1)
        a = a[(a >= range[0]) & (a <= range[1])]
    ends = _ends(a)
    if not a.size:
        return 1
    first, last = ends if range is None else range
    if first == last:
        first, last = first - 0.5, last + 0.5
    number = int if a.dtype.kind in "iu" else np.asarray
    width = WIDTHS[rule](a, number(ends[1]) - number(ends[0]))
    if a.dtype.kind in "iu" and 0 < width < 1:
        width = 1
    if range is None and a.dtype.kind in "iu" and ends[0] != ends[1]:
        first, last = int(first), int(last)
    return int(np.ceil((last - first) / width)) if width else 1


def _edges(a: Any, bins: Any, range: Any, weights: Any = None) -> Any:
    """Give the edges of bins, for which the least and greatest value may have to be computed."""
    if isinstance(bins, Array):
        bins = bins.compute()
    if range is not None:
        range = tuple(v.compute()[()] if isinstance(v, Array) else v for v in range)
    if np.ndim(bins) == 1:
        return np.histogram_bin_edges(np.zeros(0), bins)
    if isinstance(bins, str):
        # NumPy's own errors.
        np.histogram_bin_edges(np.zeros(0), bins, weights=None if weights is None else np.zeros(0))
        if bins not in WIDTHS:
            check_fit("histogram", [a], 2)
            return np.histogram_bin_edges(a.compute(), bins, range)
        bins = _bin_number(a, bins, range)
    # NumPy's own edges and errors, of the two values that decide them.
    ends = _ends(a) if range is None else np.zeros(0, a.dtype)
    return np.histogram_bin_edges(ends, bins, range)


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """Give the edges of the bins of a histogram."""
    return give(_edges(_subtractable(a), bins, range, weights))


def _subtractable(a: Any) -> Any:
    a = namespace.asarray(a)
    if a.dtype != bool:
        return a
    message = f"Converting input from {a.dtype} to {np.uint8} for compatibility."
    remark(message)
    return a.astype(np.uint8)


def histogram(
    a: Any,
    bins: Any = 10,
    range: Any = None,
    density: Any = None,
    weights: Any = None,
) -> tuple[Any, Any]:
    """Count values in bins, or add up their weights."""
    a = _subtractable(a)
    given = None if weights is None else namespace.asarray(weights)
    if given is not None and given.shape != a.shape:
        message = "weights should have the same shape as a."
        raise ValueError(message)
    if a.dtype.kind not in "biuf" or (given is not None and given.dtype.hasobject):
        whole = at_once("histogram", np.histogram, COPIES)
        both: tuple[Any, Any] = whole(a, bins, range, density, weights)
        return both
    edges = _edges(a, bins, range, given)
    made = binned([a.to_expr()], [edges], None if given is None else given.to_expr())
    counts: Any = wrap(made)
    if density:
        counts = counts / np.array(np.diff(edges), float) / counts.sum()
    return counts, give(edges)


def histogramdd(
    sample: Any,
    bins: Any = 10,
    range: Any = None,
    density: Any = None,
    weights: Any = None,
) -> tuple[Any, Any]:
    """Count points in a grid of bins; the sample has one row per point, or is a list of columns."""
    if isinstance(sample, Array | np.ndarray) and sample.ndim <= 2:
        table = sample if sample.ndim == 2 else sample.reshape(-1, 1)
        columns = [namespace.asarray(table[:, i]) for i in np.arange(table.shape[1])]
    else:
        columns = [namespace.asarray(c) for c in sample]
        # NumPy lays columns side by side, in one dtype.
        kind = np.result_type(*(c.dtype for c in columns)) if columns else None
        columns = [c if c.dtype == kind else c.astype(kind) for c in columns]
    if any(c.dtype.kind == "c" for c in columns):
        whole = at_once("histogramdd", np.histogramdd, COPIES)
        both: tuple[Any, Any] = whole(sample, bins, range, density, weights)
        return both
    count = len(columns)
    each = list(bins) if hasattr(bins, "__len__") else [bins] * count
    if len(each) != count:
        message = "The dimension of bins must be equal to the dimension of the sample x."
        raise ValueError(message)
    spans = [None] * count if range is None else list(range)
    if len(spans) != count:
        message = "range argument must have one entry per dimension"
        raise ValueError(message)
    edges = []
    for column, b, ends in zip(columns, each, spans, strict=True):
        if np.ndim(b) == 0 and not isinstance(b, str) and b < 1:
            message = "`bins` must be positive, when an integer"
            raise ValueError(message)
        plain = ends is None and column.dtype.kind == "f"
        edges.append(_edges(column if plain else column.astype(np.float64), b, ends))
    exprs = [c.to_expr() for c in columns]
    made = binned(exprs, edges, _as_double(weights))
    counts: Any = wrap(cast(made, np.float64))
    if density:
        whole = counts.sum()
        for axis, e in enumerate(edges):
            shape = [-1 if i == axis else 1 for i in np.arange(count)]
            counts = counts / np.diff(e).reshape(shape)
        counts = counts / whole
    return counts, tuple(give(e) for e in edges)


def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Any = None,
    density: Any = None,
    weights: Any = None,
) -> tuple[Any, Any, Any]:
    """Count points of a plane in a grid of bins."""
    if np.shape(x) != np.shape(y):
        message = "x and y must have the same length."
        raise ValueError(message)
    if hasattr(bins, "__len__") and len(bins) not in (1, 2):
        bins = [namespace.asarray(bins)] * 2
    counts, edges = histogramdd([x, y], bins, range, density, weights)
    return counts, edges[0], edges[1]


def _as_double(weights: Any) -> Any:
    """Give weights in double precision, or None; TypeError where that loses something."""
    if weights is None:
        return None
    given = expression(weights)
    np.bincount(np.zeros(1, np.intp), np.zeros(1, given.dtype))  # NumPy's own error
    return cast(given, np.float64)


def bincount(x: Any, /, weights: Any = None, minlength: Any = 0) -> Any:
    """Count how often each integer occurs; the greatest is computed."""
    if isinstance(x, list | tuple):
        x = np.asarray(x)
        if x.dtype.kind == "f" and x.ndim == 1:
            np.bincount(x[:1].tolist())  # NumPy's own warning: it takes a list of floats
            x = x.astype(np.intp)
    x = namespace.asarray(x)
    if x.ndim != 1:
        message = (
            "object too deep for desired array"
            if x.ndim
            else "object of too small depth for desired array"
        )
        raise ValueError(message)
    if not np.can_cast(x.dtype, np.intp, "safe"):
        np.bincount(np.zeros(1, x.dtype))  # NumPy's own error
    least = operator.index(minlength)
    if least < 0:
        message = "'minlength' must not be negative"
        raise ValueError(message)
    low, high = namespace.compute(x.min(), x.max()) if x.size else (0, -1)
    if low < 0:
        message = "'list' argument must have no negative elements"
        raise ValueError(message)
    count = max(int(high) + 1, least)
    given = _as_double(weights)
    return wrap(occurrences(x.to_expr(), count, given))
