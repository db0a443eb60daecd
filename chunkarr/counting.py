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
from chunkarr.functions import lookup

WIDTHS: dict[str, Callable[[Any, float], float]] = {
    "sqrt": lambda a, spread: spread / np.sqrt(a.size),
    "sturges": lambda a, spread: spread / (np.log2(a.size) + 1.0),
    "rice": lambda a, spread: spread / (2.0 * a.size ** (1.0 / 3)),
    "scott": lambda a, _: (24.0 * np.pi**0.5 / a.size) ** (1.0 / 3.0) * float(a.std()),
}
"""Widths of bins by the rules that need no order statistics."""


def _edges(a: Any, bins: Any, range: Any, weights: Any = None) -> Any:
    """Give the edges of bins, for which the least and greatest value may have to be computed."""
    if isinstance(bins, Array):
        bins = bins.compute()
    if range is not None:
        range = tuple(v.compute()[()] if isinstance(v, Array) else v for v in range)
    if np.ndim(bins) == 1:
        return np.histogram_bin_edges(np.zeros(0), bins)
    whole = a.size and (range is None or isinstance(bins, str))
    ends = np.zeros(0, a.dtype)
    if whole:
        low, high = namespace.compute(a.min(), a.max())
        ends = np.array([low, high], a.dtype)
    if isinstance(bins, str):
        if weights is not None or bins not in WIDTHS or range is not None:
            if weights is None and bins in ("auto", "fd", "doane", "stone", *WIDTHS):
                raise namespace.not_yet("histogram")
            return np.histogram_bin_edges(ends, bins, range, weights and np.zeros(ends.size))
        first, last = float(ends[0]), float(ends[-1])
        width = WIDTHS[bins](a, last - first) if a.size else 0
        if width and a.dtype.kind in "iu":
            width = max(width, 1)
        bins = int(np.ceil((last - first) / width)) if width else 1
    # NumPy's own edges and errors, of the two values that decide them.
    return np.histogram_bin_edges(ends, bins, range)


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """Give the edges of the bins of a histogram."""
    return give(_edges(namespace.asarray(a), bins, range, weights))


def histogram(
    a: Any,
    bins: Any = 10,
    range: Any = None,
    density: Any = None,
    weights: Any = None,
) -> tuple[Any, Any]:
    """Count values in bins, or add up their weights."""
    a = namespace.asarray(a)
    if a.dtype == bool:
        a = a.astype(np.uint8)
    given = None if weights is None else namespace.asarray(weights)
    if given is not None and given.shape != a.shape:
        message = "weights should have the same shape as a."
        raise ValueError(message)
    edges = _edges(a, bins, range, given)
    made = lookup.bin_counts(a.to_expr(), edges, None if given is None else given.to_expr())
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
    if isinstance(sample, Array | np.ndarray) and sample.ndim == 2:
        columns = [namespace.asarray(sample[:, i]) for i in np.arange(sample.shape[1])]
    else:
        columns = [namespace.asarray(c) for c in sample]
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
        plain = ends is None and column.dtype.kind == "f"
        edges.append(_edges(column if plain else column.astype(np.float64), b, ends))
    exprs = [c.to_expr() for c in columns]
    given = None if weights is None else expression(weights)
    counts: Any = wrap(lookup.grid_counts(exprs, edges, given))
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


def bincount(x: Any, /, weights: Any = None, minlength: Any = 0) -> Any:
    """Count how often each integer occurs; the greatest is computed."""
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
    given = None if weights is None else expression(weights)
    return wrap(lookup.integer_counts(cast(x.to_expr(), np.intp), count, given))
