"""Arrays read from start to end, in C order, in pieces that take a small part of the limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr import engine, namespace
from chunkarr.arrays import Array
from chunkarr.expr.node import Source
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]


def block_bytes() -> int:
    """Give how much of an array is read or written at a time."""
    now = settings()
    limits, _ = engine.current_limits()
    # Who takes a piece may hold it twice, and making it takes room as well.
    return max(1, min(4 * now.chunk_bytes, now.memory // 16, limits.bytes_available // 8))


def settled(x: Any) -> Array:
    """Give an array whose parts can be read one by one without computing anything twice."""
    whole: Array = namespace.asarray(x)
    if not isinstance(whole.to_expr(), Source) and whole.nbytes > block_bytes():
        whole.persist()
    return whole


def in_order(x: Array, most: int) -> Iterator[NDArray]:
    """Give the values in C order, in pieces of about so many bytes, or of one element.

    Pieces are boxes, slices along the first axes: no other order of the values is made.
    """
    if x.nbytes <= most or x.ndim == 0 or x.size <= 1:
        yield x.compute()
        return
    width = x.nbytes // x.shape[0]
    if width > most:
        for row in x:
            yield from in_order(row, most)
        return
    yield from in_rows(x, most)


def in_rows(x: Array, most: int) -> Iterator[NDArray]:
    """Give pieces of about so many bytes along the first axis, of one row at least."""
    if not x.size:
        yield x.compute()
        return
    count = max(1, most * x.shape[0] // max(1, x.nbytes))
    for start in range(0, x.shape[0], count):
        yield np.asarray(x[start : start + count].compute())
