"""Places in triangles and on diagonals: NumPy's tables where they are small, lazy ones beyond.

NumPy makes each of these tables at once, which takes eight bytes for every place and axis. Here a
large one is a mask that is asked where it is true.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr import namespace, shaping
from chunkarr.arrays import wrap
from chunkarr.dispatch import give
from chunkarr.expr.build import apply
from chunkarr.functions.pieces import TABLE_BYTES
from chunkarr.functions.shapes import tri
from chunkarr.settings import settings

PLACE_BYTES = np.dtype(np.intp).itemsize
PARTS = 64
"""NumPy's table may take so small a part of the memory limit: places in memory are read faster."""


def _few(*lengths: int) -> bool:
    """Whether an index space is small enough for NumPy's table of all its places."""
    places = 1
    for length in lengths:
        places *= max(0, operator.index(length))
    return places * PLACE_BYTES <= max(TABLE_BYTES, settings().memory // PARTS)


def _plane(arr: Any) -> tuple[int, int]:
    if arr.ndim != 2:
        message = "input array must be 2-d"
        raise ValueError(message)
    rows, columns = arr.shape
    return rows, columns


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, ...]:
    """Give the places of the lower triangle of an (n, m) matrix, up to the k-th diagonal."""
    columns = n if m is None else m
    if _few(n, columns):
        return tuple(give(np.tril_indices(n, k, m)))
    return shaping.nonzero(wrap(tri(n, columns, k, bool)))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, ...]:
    """Give the places of the upper triangle of an (n, m) matrix, from the k-th diagonal on."""
    columns = n if m is None else m
    if _few(n, columns):
        return tuple(give(np.triu_indices(n, k, m)))
    return shaping.nonzero(wrap(apply("logical_not", tri(n, columns, k - 1, bool))))


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Any, ...]:
    """Give the places of the lower triangle of a matrix; ValueError where it has other axes."""
    rows, columns = _plane(arr)
    return tril_indices(rows, k, columns)


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Any, ...]:
    """Give the places of the upper triangle of a matrix; ValueError where it has other axes."""
    rows, columns = _plane(arr)
    return triu_indices(rows, k, columns)


def mask_indices(n: int, mask_func: Callable[[Any, Any], Any], k: Any = 0) -> tuple[Any, ...]:
    """Give the places of an (n, n) matrix that a function of ones leaves, as `triu` does."""
    if _few(n, n):
        return tuple(give(np.mask_indices(n, mask_func, k)))
    return shaping.nonzero(mask_func(namespace.ones((n, n), int), k) != 0)


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """Give the places of the main diagonal of an array of `ndim` axes of length n."""
    if _few(n):
        return tuple(give(np.diag_indices(n, ndim)))
    return (namespace.arange(n),) * ndim


def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    """Give the places of the main diagonal; ValueError where the axes are of different lengths."""
    if arr.ndim < 2:
        message = "input array must be at least 2-d"
        raise ValueError(message)
    if len(set(arr.shape)) != 1:
        message = "All dimensions of input must be of equal length"
        raise ValueError(message)
    return diag_indices(arr.shape[0], arr.ndim)
