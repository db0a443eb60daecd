"""Pages of mapped files: which are asked for, and how many stand in memory at a time.

The system reads and maps what lies around a page that is touched. That is right for who reads a
file from its start to its end. Who reads boxes of a file that memory cannot hold asks for what is
wanted (`brought`), and who is counted by the pages that it has mapped goes band by band.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from chunkarr.machine import memory_free
from chunkarr.storage.files import handles
from chunkarr.storage.guard import GuardedMap
from chunkarr.storage.store import NDArray

BYTES_AROUND = 64 << 10
"""What the system maps around a page that is touched."""
SMALL_BYTES = 64 << 20
"""Files up to this size are taken to have room in memory."""
SPARSE = 4
"""Boxes are asked for with what lies between their rows up to so many times their size."""
BYTES_BROUGHT = 64 << 20
"""More is not asked for at once: the first of it might be gone when the last comes."""
BYTES_SPREAD = 4 << 20
"""Pages of one box that nobody minds."""
ROWS_TOGETHER = 32
"""Rows whose pages are given back together: each may bring 256 KiB with it."""


def is_scarce(size: int) -> bool:
    """Whether memory cannot keep a file of so many bytes beside what else is read."""
    return size > SMALL_BYTES and size > memory_free().amount // 2


def narrow(row: int, rows: int) -> bool:
    """Whether rows of so many bytes, apart from each other, lie in far more pages than they need.

    The system maps the pages around one that is touched, and some count them as this process's.
    """
    return rows * BYTES_AROUND > BYTES_SPREAD and 2 * row < BYTES_AROUND


class _Extent(NamedTuple):
    """Where a box lies: in stretches that have all their pages touched."""

    first: int
    span: int
    """Bytes from its first to its last."""
    row: int
    """Bytes of a stretch."""
    axes: list[tuple[int, int]]
    """The steps from stretch to stretch, and how many there are."""

    @classmethod
    def of(cls, box: NDArray) -> _Extent:
        axes = [(abs(step), n) for step, n in zip(box.strides, box.shape, strict=True) if n > 1]
        axes.sort(reverse=True)
        row = box.itemsize
        while axes and axes[-1][0] <= row + mmap.PAGESIZE:
            step, n = axes.pop()
            row += (n - 1) * step
        low, high = byte_bounds(box)
        return cls(low, high - low, row, axes)

    @property
    def rows(self) -> int:
        return math.prod(n for _, n in self.axes)

    @property
    def is_dense(self) -> bool:
        return self.span <= max(mmap.PAGESIZE, SPARSE * self.row * self.rows)

    @property
    def is_brought_at_once(self) -> bool:
        return (self.row + mmap.PAGESIZE) * self.rows <= BYTES_BROUGHT

    def starts(self) -> list[int]:
        """Give the address of each stretch."""
        places = np.array([self.first])
        for step, n in self.axes:
            places = np.add.outer(places, np.arange(n) * step).reshape(-1)
        return list(map(int, places))


def asked(box: NDArray) -> NDArray:
    """Ask for the stretch of a map that a box is in, unless most of that is not wanted either.

    Systems read up to megabytes around a page that is not in memory. Where boxes of a large file
    are read and memory is short, these push each other out: 80 times the file was read.
    """
    data = _map_of(box)
    if data is not None and data.is_asked and box.size:
        extent = _Extent.of(box)
        if extent.is_dense:
            bring(data, extent.first - _address(data), extent.span)
        else:
            data.expect_scattered(True)
    return box


def bring(data: GuardedMap, start: int, size: int) -> None:
    """Ask for a stretch of a map; a very long one is read as the system likes."""
    if size > mmap.PAGESIZE:
        data.expect_scattered(size <= BYTES_BROUGHT)
        if size <= BYTES_BROUGHT:
            _ask(data, start, size)


def ask_for_places(box: NDArray, axis: int, places: NDArray) -> None:
    """Ask for what lies at some places along an axis of a box of a map."""
    data = _map_of(box)
    if data is None or not data.is_asked or not box.size:
        return
    chosen = np.unique(places)
    if box.shape[axis] <= SPARSE * chosen.size:
        asked(box)
    elif data.is_scarce:
        rows = box.swapaxes(0, axis)
        if chosen.size * (rows[0].nbytes + mmap.PAGESIZE) <= BYTES_BROUGHT:
            for place in chosen.tolist():
                _ask_rows(data, _Extent.of(rows[place : place + 1]))


def _ask_rows(data: GuardedMap, extent: _Extent) -> None:
    base = _address(data)
    for first in extent.starts():
        _ask(data, first - base, extent.row)


def _ask(data: GuardedMap, start: int, size: int) -> None:
    if hasattr(mmap, "MADV_WILLNEED"):
        around = start % mmap.PAGESIZE
        data.madvise(mmap.MADV_WILLNEED, start - around, size + around)


def _address(data: GuardedMap) -> int:
    return int(np.frombuffer(data, np.uint8, 1).__array_interface__["data"][0])


def _map_of(box: NDArray) -> GuardedMap | None:
    base: Any = box.base
    while base is not None and not isinstance(base, GuardedMap):
        base = getattr(base, "base", None)
    return base


def gathered(box: NDArray) -> NDArray:
    """Ask for rows of a box of a map that lie apart, or copy it band by band where that matters.

    It does to who minds pages, and where a box is in too many pages to ask for them at once.
    """
    data = _map_of(box)
    if data is None or not box.size or (handles.watch is None and not data.is_scarce):
        return box
    extent = _Extent.of(box)
    scattered = data.is_scarce and not extent.is_dense
    together = not scattered or extent.is_brought_at_once
    if scattered and together:
        _ask_rows(data, extent)
    order = _order(box)
    ordered = box.transpose(order)
    run, axis = box.itemsize, box.ndim
    while axis and ordered.strides[axis - 1] == run:
        axis -= 1
        run *= ordered.shape[axis]
    if (together and handles.watch is None) or axis == 0 or not narrow(run, box.nbytes // run):
        return box
    copy = np.empty(ordered.shape, box.dtype)
    for band, part in in_bands(copy, ordered):
        if not together:
            _ask_rows(data, _Extent.of(part))
        band[...] = part
        handles.look()
    return copy.transpose(np.argsort(order))


def put(into: NDArray, values: NDArray) -> None:
    """Assign to a box of a map, at once unless somebody minds pages.

    Each row brings the pages around it: together they may be a hundred times what is copied.
    """
    if handles.watch is None:
        into[...] = values
        return
    order = _order(into)
    values = np.broadcast_to(values, into.shape)
    for band, part in in_bands(into.transpose(order), values.transpose(order)):
        band[...] = part
        handles.look()


def _order(box: NDArray) -> list[int]:
    """Give the axes from the longest step to the shortest."""
    return sorted(range(box.ndim), key=lambda axis: -abs(box.strides[axis]))


def in_bands(into: NDArray, values: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
    """Cut two arrays of the same shape into parts of so many rows, and steps along a row."""
    rows = math.prod(into.shape[:-1])
    if rows <= ROWS_TOGETHER:
        stride = max([into.itemsize, *(abs(a.strides[-1]) for a in (into, values) if a.ndim)])
        step = max(ROWS_TOGETHER, BYTES_SPREAD // stride)
        if stride == into.itemsize or into.shape[-1] <= step:
            yield into, values
            return
        for start in range(0, into.shape[-1], step):
            yield into[..., start : start + step], values[..., start : start + step]
    elif len(into) == 1:
        yield from in_bands(into[0], values[0])
    else:
        step = max(1, ROWS_TOGETHER * len(into) // rows)
        for start in range(0, len(into), step):
            yield from in_bands(into[start : start + step], values[start : start + step])
