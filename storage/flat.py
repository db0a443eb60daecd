"""Scratch on disk that lies in C order, for values that are read under another shape.

The file is that of `spill`, a table of checksums and then the data, but the data lie as those of
the array do and not tile by tile. A tile is what is written at once. It is cut into bands of a few
rows with a checksum each, that of their values wherever they lie: who reads a stretch of the file
checks the bands that reach into it, where whole tiles would be many times as much.
"""

from __future__ import annotations

import math
import mmap
import os
from functools import partial
from typing import Any

import google_crc32c
import numpy as np

from chunkarr.grid import Cell, Grid, Region, intersect, region_shape, shift
from chunkarr.storage.files import OpenFile, as_bytes, handles, view_of
from chunkarr.storage.guard import GuardedMap
from chunkarr.storage.pages import SPARSE, asked, bring, in_bands
from chunkarr.storage.spill import SpillStore, cut_short
from chunkarr.storage.store import NDArray

PIECE_BYTES = 1 << 20
BAND_BYTES = 1 << 15
"""A band of a tile that lies in pieces; one that lies together may have `PIECE_BYTES`."""


class FlatStore(SpillStore):
    """A scratch file in C order; what is read is a read-only view of a map."""

    addressable = True
    tiled = False

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "scratch") -> None:
        super().__init__(shape, dtype, Grid.single(tuple(shape)), name)
        self._is_cut = False

    def cut_in(self, grid: Grid) -> None:
        """Take the tiles that it will be written in, before it is created."""
        self.grid, self._is_cut = grid, True
        self._settle()

    def _settle(self) -> None:
        # Bands lie along the first axis along which a tile has more than one row.
        lengths = self.grid.chunk_shape
        self._axis = next((axis for axis, n in enumerate(lengths) if n > 1), 0)
        rows, inner = sum(lengths[self._axis : self._axis + 1]), lengths[self._axis + 1 :]
        bytes_row = max(1, math.prod(inner) * self.dtype.itemsize)
        most = PIECE_BYTES if inner == self.shape[self._axis + 1 :] else BAND_BYTES
        self._rows = max(1, min(rows, most // bytes_row))
        self._parts = max(1, -(-rows // self._rows))
        super()._settle()
        self._stacked = False

    @property
    def write_grid(self) -> Grid | None:  # type: ignore[override]
        """The tiles, once they are known; until then any would do."""
        return self.grid if self._is_cut else None

    @property
    def chunk_read(self) -> tuple[int, ...]:
        """Nothing is read that is not wanted."""
        return self.shape

    @property
    def bytes_write_extra(self) -> int:
        """A tile, where the values do not lie as the file does."""
        return super().bytes_write_extra if self._is_cut else 0

    def _write_tile(self, file: OpenFile, cell: Cell, tile: Region, data: NDArray) -> None:
        values = data.view(self.dtype).reshape(region_shape(tile))
        index, origin = self._index(cell) * self._parts, [s.start for s in tile]
        entries = b"".join(
            self._entry(as_bytes(view_of(values, shift(self._band(tile, i), origin))), index + i)
            for i in self._bands(tile, tile)
        )
        start, stop = self._stretch(tile)
        if stop - start == values.size:
            self._put(file, data, self._data + start * self.dtype.itemsize, entries, index)
            return
        if os.fstat(file.fd).st_size < self.bytes_file:
            raise cut_short(self._path or "", 0, cell)
        told = partial(cut_short, self._path or "")
        with GuardedMap.of(file.fd, self.bytes_file, told) as writable:
            writable.intact()
            whole = self._whole(writable, self._raw)
            for band, part in in_bands(whole[tile], values.view(self._raw)):
                band[...] = part
                del band  # the map can be closed only when nothing looks at it
                # Each row brings the pages around it, which some count as this process's memory.
                writable.madvise(mmap.MADV_DONTNEED)
        self._put(file, data[:0], self._data, entries, index)

    @property
    def _raw(self) -> np.dtype[Any]:
        """What its bytes are copied as: copies by fields leave out what lies between these."""
        return np.dtype((np.void, self.dtype.itemsize)) if self.dtype.fields else self.dtype

    def _bands(self, tile: Region, part: Region | None) -> range:
        """Give the numbers of the bands of a tile that reach into a part of it."""
        assert part is not None
        if not tile:
            return range(1)
        start, within = tile[self._axis].start, part[self._axis]
        return range((within.start - start) // self._rows, -((start - within.stop) // self._rows))

    def _band(self, tile: Region, number: int) -> Region:
        """Give the box of a band."""
        if not tile:
            return tile
        start, stop = tile[self._axis].start + number * self._rows, tile[self._axis].stop
        band = slice(start, min(stop, start + self._rows))
        return (*tile[: self._axis], band, *tile[self._axis + 1 :])

    def read(self, region: Region) -> NDArray:
        """Give a view of a box, of which all was found right once."""
        return asked(self.seen(region))

    def seen(self, region: Region) -> NDArray:
        """Give the same view, of which nothing more is read ahead."""
        if 0 in region_shape(region) or not self.dtype.itemsize:
            return np.empty(region_shape(region), self.dtype)
        data = self._checked(region)
        return view_of(self._whole(data, self.dtype), region)

    def read_run(self, start: int, stop: int) -> NDArray:
        """Give the elements from `start` to `stop` in C order as a view."""
        if start >= stop or not self.dtype.itemsize:
            return np.empty(max(0, stop - start), self.dtype)
        first, last = (np.unravel_index(i, self.shape) for i in (start, stop - 1))
        box, same = [], True
        for a, b, n in zip(first, last, self.shape, strict=True):
            box.append(slice(int(a), int(b) + 1) if same else slice(0, n))
            same = same and a == b
        data = self._checked(tuple(box))
        offset = self._data + start * self.dtype.itemsize
        return np.ndarray(stop - start, self.dtype, data, offset)

    def _checked(self, region: Region) -> GuardedMap:
        """Give the map after the bands that reach into a box were found right once."""
        tiles = [*self.grid.overlapping(region)]
        data = self._map(tiles[0][0])
        fresh = [
            (cell, index + number, self._band(tile, number))
            for cell, tile in tiles
            for index in (self._index(cell) * self._parts,)
            for number in self._bands(tile, intersect(region, tile))
            if not self._is_checked(index + number)
        ]
        if fresh:
            # Rows of tiles beside each other follow each other in the file.
            starts, stops = zip(*(self._stretch(band) for _, _, band in fresh), strict=True)
            first, size = min(starts), self.dtype.itemsize
            wanted = sum(math.prod(region_shape(band)) for _, _, band in fresh)
            if max(stops) - first <= SPARSE * wanted:
                bring(data, self._data + first * size, (max(stops) - first) * size)
        for cell, index, _ in fresh:
            self._check(data, cell, index, 0, 0)
        return data

    def _whole(self, data: GuardedMap, dtype: np.dtype[Any]) -> NDArray:
        return np.ndarray(self.shape, dtype, data, self._data)

    def _stretch(self, tile: Region) -> tuple[int, int]:
        """Give the first place in C order that a tile takes, and the one behind its last."""
        first = last = 0
        for s, n in zip(tile, self.shape, strict=True):
            first, last = first * n + s.start, last * n + s.stop - 1
        return first, last + 1

    def _found(self, data: GuardedMap, cell: Cell, index: int, offset: int, size: int) -> int:
        crc = self._seed(index)
        band = self._band(self.grid.region(cell), index % self._parts)
        for piece in _pieces(view_of(self._whole(data, self._raw), band)):
            crc = google_crc32c.extend(crc, as_bytes(np.ascontiguousarray(piece)))
            handles.look()  # each row of a tile brings the pages around it
        return crc

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), self._is_cut

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *rest, self._is_cut = state
        super().__setstate__(tuple(rest))


def _pieces(box: NDArray) -> Any:
    """Cut a box into pieces of a few pages, in C order."""
    if box.nbytes <= PIECE_BYTES or not box.ndim:
        yield box
    elif len(box) == 1:
        yield from _pieces(box[0])
    else:
        step = max(1, PIECE_BYTES * len(box) // box.nbytes)
        for start in range(0, len(box), step):
            yield from _pieces(box[start : start + step])
