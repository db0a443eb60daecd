"""Zarr arrays, versions 2 and 3, read chunk by chunk.

The grid of a sharded array is that of the chunks inside the shards, since that is what one read has
to decode. A missing chunk has the fill value, as the format says, except in arrays that chunkarr
wrote: those say that all their chunks exist, so a missing one is damage.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from chunkarr.errors import CorruptChunkError, FormatError
from chunkarr.faults import fault_point
from chunkarr.grid import Cell, Grid, Region, intersect, region_shape, shift
from chunkarr.storage.arena import task_arena
from chunkarr.storage.chunkcache import chunk_cache
from chunkarr.storage.files import OpenFile, read_at, view_of
from chunkarr.storage.store import NDArray, Store
from chunkarr.storage.zarr_codec import ChunkCodec
from chunkarr.storage.zarr_meta import ShardLayout, ZarrLayout, read_layout

SHARD_INDEX_BYTES_HELD = 8 << 20
_ABSENT = 2**64 - 1


class ZarrStore(Store):
    """An existing Zarr array, read only."""

    local = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        self.name = os.path.basename(self.path)
        self._directory, self._stamp = os.stat(self.path).st_ino, _stamp(self.path)
        self._load(read_layout(self.path))

    def _load(self, layout: ZarrLayout) -> None:
        self._layout = layout
        self.shape, self.dtype = layout.shape, layout.dtype
        self.grid = Grid(self.shape, layout.inner)
        self._files = Grid(self.shape, layout.outer)
        self._key = (self.path, self._directory, self._stamp)
        self._indexes: OrderedDict[Cell, tuple[tuple[int, ...], NDArray]] = OrderedDict()
        self._lock = threading.Lock()

    def _check_same(self) -> None:
        """Raise FormatError where another array lies there now; attributes may have changed."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._check_facts(read_layout(self.path), self._layout.facts)
            self._stamp = stamp

    def _check_facts(self, layout: ZarrLayout, facts: str) -> None:
        if layout.facts != facts or os.stat(self.path).st_ino != self._directory:
            raise FormatError(self.path, "the array was replaced after it was opened")

    @property
    def write_grid(self) -> Grid:
        """The files: the shards where there are any, else the chunks."""
        return self._files

    @property
    def location(self) -> str:
        """The array's directory."""
        return self.path

    @property
    def bytes_read_extra(self) -> int:
        """The encoded chunk, and one decoded where chunks reach over the edge or are converted."""
        layout = self._layout
        decoded = math.prod(layout.inner) * self.dtype.itemsize
        if layout.codec is None:
            return 3 * math.prod(layout.outer) * self.dtype.itemsize
        whole = layout.inner == self.grid.chunk_shape and layout.codec.stored == self.dtype
        extra = layout.codec.bytes_encoded_max + (0 if whole else decoded)
        return extra + (SHARD_INDEX_BYTES_HELD if layout.shard else 0)

    def read(self, region: Region) -> NDArray:
        """Give a box as a new array, decoding the chunks that it meets."""
        self._check_same()
        shape = region_shape(region)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        if self._layout.codec is None:
            return self._read_elsewhere(region)
        out: NDArray | None = None
        for cell, chunk in self.grid.overlapping(region):
            values = self._chunk(cell)
            part = intersect(region, chunk)
            assert part is not None
            piece = view_of(values, shift(part, [s.start for s in chunk]))
            if part == region:
                # The whole of a chunk nobody else holds is given as it is; a strip is copied, lest
                # it keep the chunk in memory.
                mine = piece.flags.writeable and 2 * piece.nbytes > values.nbytes
                return piece if mine else piece.copy()
            out = task_arena.empty(shape, self.dtype) if out is None else out
            out[shift(part, [s.start for s in region])] = piece
        assert out is not None
        return out

    def _chunk(self, cell: Cell) -> NDArray:
        """Give one decoded chunk in the dtype of the array, of the full shape also at the edge."""
        if not chunk_cache.bytes_max:
            return self._decode(cell)
        return chunk_cache.get((self._key, cell), lambda: self._decode(cell))

    def _decode(self, cell: Cell) -> NDArray:
        layout = self._layout
        assert layout.codec is not None
        try:
            data = self._fetch(cell, layout.codec)
            if data is not None:
                return layout.codec.decode(data).astype(self.dtype, copy=False)
        except CorruptChunkError:
            raise
        except (ValueError, RuntimeError, OSError, EOFError, OverflowError) as error:
            raise CorruptChunkError(self.path, cell, str(error)) from error
        except Exception as error:  # a decoder met with what its authors did not think of
            reason = f"{type(error).__name__}: {error}"
            raise CorruptChunkError(self.path, cell, reason) from error
        if layout.complete:
            raise CorruptChunkError(self.path, cell, "the chunk is missing")
        # Nothing of this chunk is in memory until a piece of it is copied.
        return np.broadcast_to(np.asarray(layout.fill, self.dtype), layout.inner)

    def _fetch(self, cell: Cell, codec: ChunkCodec) -> NDArray | None:
        """Read the encoded bytes of a chunk, None where there are none."""
        layout = self._layout
        outer = cell
        if layout.shard is not None:
            outer = tuple(i // n for i, n in zip(cell, layout.shard.counts, strict=True))
        path = os.path.join(self.path, layout.key(outer))
        fault_point("read", path)
        try:
            file = OpenFile.at(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fd = file.fd
            start, size = 0, os.fstat(fd).st_size
            if layout.shard is not None:
                index = self._index(fd, outer, layout.shard)
                inner = tuple(i % n for i, n in zip(cell, layout.shard.counts, strict=True))
                start, length = (int(n) for n in index[inner])
                if start == length == _ABSENT:
                    return None
                if start + length > size:
                    raise ValueError(f"the shard of {size} bytes has it at {start}+{length}")
                size = length
            if size > codec.bytes_encoded_max:
                raise ValueError(
                    f"{size} encoded bytes, expected {codec.bytes_encoded_max} at most"
                )
            if codec.compressor is None and size != codec.bytes_encoded_max:
                raise ValueError(f"{size} encoded bytes, expected {codec.bytes_encoded_max}")
            data: NDArray = task_arena.empty((size,), np.uint8, brief=True)
            read_at(fd, data, start)
            return data
        finally:
            file.close()

    def _index(self, fd: int, outer: Cell, shard: ShardLayout) -> NDArray:
        """Give where the chunks of an open shard lie; indexes that were read last are held."""
        status = os.fstat(fd)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            held = self._indexes.get(outer)
            if held is not None and held[0] == stamp:
                self._indexes.move_to_end(outer)
                return held[1]
        size = shard.index_codec.bytes_encoded_max
        if status.st_size < size:
            raise ValueError(f"a shard of {status.st_size} bytes has no room for its index")
        data: NDArray = np.empty(size, np.uint8)
        read_at(fd, data, status.st_size - size if shard.index_at_end else 0)
        index = shard.index_codec.decode(data)
        with self._lock:
            self._indexes[outer] = (stamp, index)
            while len(self._indexes) > max(1, SHARD_INDEX_BYTES_HELD // max(1, size)):
                self._indexes.popitem(last=False)
        return index

    def _read_elsewhere(self, region: Region) -> NDArray:
        """Let zarr-python read a box whose codecs are not run here."""
        try:
            fault_point("read", self.path)
            return np.asarray(self._layout.array[region], self.dtype).reshape(region_shape(region))
        except Exception as error:
            cell, _ = next(iter(self.grid.overlapping(region)))
            reason = f"{type(error).__name__}: {error}"
            raise CorruptChunkError(self.path, cell, reason) from error

    def verify(self) -> None:
        """Decode every chunk; CorruptChunkError where one is damaged."""
        for chunk in self.grid.regions():
            self.read(chunk)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "name", "_directory", "_stamp")
        return {name: self.__dict__[name] for name in kept} | {"facts": self._layout.facts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        facts = state.pop("facts")
        self.__dict__.update(state)
        layout = read_layout(self.path)
        self._check_facts(layout, facts)
        self._load(layout)

    def __repr__(self) -> str:
        return f"ZarrStore({self.path!r}, shape={self.shape}, dtype={self.dtype})"


def _stamp(path: str) -> tuple[int, ...]:
    """Tell one array from a later one under the same path and, by chance, the same inode."""
    for name in ("zarr.json", ".zarray"):
        try:
            status = os.stat(os.path.join(path, name))
        except FileNotFoundError:
            continue
        return status.st_ino, status.st_mtime_ns
    return ()
