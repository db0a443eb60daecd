"""Intermediates that do not fit in memory: files of checksummed tiles in a scratch directory.

One file per array. Tiles lie one after the other in C order of the grid without gaps, so that the
place of a tile is arithmetic, also in an irregular grid, and a grid of ten million tiles needs no
index of offsets. A table at the front of the file says of each tile that it is written and what its
checksum is; an entry is written after its tile, so that a torn write is a missing tile.

Tiles are written with plain writes to space reserved in advance, since a store to a map of a full
disk kills the process, and read through a map, since that costs no copy and its pages are the
system's to reclaim.

The directory belongs to one process. It goes when the process ends, and what a killed process left
is removed when the next one starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import mmap
import os
import re
import secrets
import struct
import threading
import weakref
from functools import partial
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from chunkarr.errors import CorruptChunkError, SpillError
from chunkarr.faults import fault_point
from chunkarr.grid import Cell, Grid, Region, intersect, region_shape, shift
from chunkarr.settings import settings
from chunkarr.storage.arena import task_arena
from chunkarr.storage.claims import Claim, sweep
from chunkarr.storage.files import (
    OpenFile,
    as_bytes,
    bytes_free,
    handles,
    preallocate,
    refuse_objects,
    view_of,
    write_at,
)
from chunkarr.storage.guard import GuardedMap
from chunkarr.storage.pages import asked, is_scarce
from chunkarr.storage.store import NDArray, Store

_MAGIC = b"CHUNKARR-SPILL-1"
_HEADER = struct.Struct("<16s16s")
_TABLE_START = 64
_ENTRY = struct.Struct("<II")
_WRITTEN = 0x57524954
_PAGE = 4096
BYTES_TOGETHER = 16 * _PAGE
"""The system maps pages in groups of so many where one of them is touched."""


class Session:
    """The scratch directory of this process under one spill directory."""

    _open: dict[str, Session] = {}  # noqa: RUF012 - the one table of this process, guarded by _lock
    _lock = threading.Lock()

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self._counter = itertools.count()
        stem = f"chunkarr-{os.getuid()}-"
        sweep(parent, stem, "")
        self._claim = Claim(parent, stem, "", 0o700, folder=True)
        self._claim.make()

    @property
    def path(self) -> str:
        """The directory; only this user may enter it."""
        return self._claim.path

    @classmethod
    def current(cls, parent: str | None = None) -> Session:
        """Give this process's session under `parent`, by default the directory of the settings."""
        directory = os.path.abspath(settings().spill_dir if parent is None else parent)
        with cls._lock:
            found = cls._open.get(directory)
            if found is None or not os.path.isdir(found.path):
                found = cls._open[directory] = cls(directory)
            return found

    @classmethod
    def close_all(cls) -> None:
        """Remove all sessions of this process, as its end does."""
        with cls._lock:
            sessions, cls._open = list(cls._open.values()), {}
        for session in sessions:
            session.close()

    def new_path(self, name: str) -> str:
        """Give a path that no store of this session uses yet."""
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:40]
        return os.path.join(self.path, f"{next(self._counter):06d}-{safe}")

    def close(self) -> None:
        """Remove the directory and all in it; harmless when called twice."""
        self._claim.drop()

    @classmethod
    def _after_fork(cls) -> None:
        # The directories are the parent's.
        cls._lock = threading.Lock()
        cls._open = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Session._after_fork)  # noqa: SLF001 - the hook is our own


def cut_short(path: str, _: int, cell: Cell = ()) -> CorruptChunkError:
    """Give the error of scratch that does not hold all that was written to it any more."""
    return CorruptChunkError(path, cell, "the file was cut short")


class SpillStore(Store):
    """Scratch tiles in a file, written once each and read as views of a map.

    Unpickled elsewhere it reads and writes the same file. Only the process that created the file
    removes it: by `release`, when the store is collected, or at exit; but what lies at a place of a
    run that may be resumed is left there by `discard`.
    """

    local = True
    passing = True

    def __init__(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, grid: Grid, name: str = "spill"
    ) -> None:
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.grid, self.name = grid, name
        refuse_objects(self.dtype, name)
        if grid.shape != self.shape:
            msg = f"{name}: the grid cuts {grid.shape}, the array has shape {self.shape}"
            raise ValueError(msg)
        self._path: str | None = None
        self._lasting: str | None = None
        self._held = b""
        self._token = secrets.token_bytes(16)
        self._pid = 0
        self._remover: weakref.finalize[Any, SpillStore] | None = None
        self._settle()

    _parts = 1
    """Checksums of each tile."""

    def _settle(self) -> None:
        """Set what follows from the fields and is not pickled."""
        self._counts = self.grid.counts
        # Tiles that are cut along the first axis only lie in the file as the array does.
        self._stacked = all(count == 1 for count in self._counts[1:]) and self._counts != ()
        self._entries = self.grid.size * self._parts
        table_end = _TABLE_START + self._entries * _ENTRY.size
        self._data = -(-table_end // _PAGE) * _PAGE
        self._verified: bytearray | None = None

    @property
    def write_grid(self) -> Grid:
        """Writers bring whole tiles, because a tile has one checksum."""
        return self.grid

    @property
    def chunk_read(self) -> tuple[int, ...]:
        """A few pages of the map: what lies together in a tile is read without the rest of it."""
        room, shape = max(1, BYTES_TOGETHER // max(1, self.dtype.itemsize)), []
        for length in reversed(self.grid.chunk_shape):
            shape.append(min(length, room))
            room = max(1, room // max(1, length))
        return tuple(reversed(shape))

    @property
    def location(self) -> str | None:
        """The file, once it was created."""
        return self._path

    @property
    def bytes_file(self) -> int:
        """Bytes that the file takes on disk."""
        return self._data + self.bytes_size

    @property
    def bytes_write_extra(self) -> int:
        """A tile, where the values do not lie as the file does."""
        return math.prod(self.grid.chunk_shape) * self.dtype.itemsize

    def create(self) -> None:
        """Make the file and reserve its bytes; SpillError where the disk does not have them."""
        if self._path is not None:
            return
        if self._lasting is not None and self._take_over(self._lasting):
            return
        directory = settings().spill_dir
        try:
            if self._lasting is not None:
                directory = os.path.dirname(self._lasting)
                self._path, self._pid = self._lasting, os.getpid()
            else:
                session = Session.current()
                directory = session.path
                # The name is kept before there is a file: an interrupt may come right after that.
                self._path, self._pid = session.new_path(self.name), os.getpid()
                self._remover = weakref.finalize(self, remove_scratch, self._path, self._pid)
                self._remover.atexit = False  # the session goes as a whole
            fault_point("spill.write", self._path)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            file = OpenFile.at(self._path, flags, 0o600)
            try:
                preallocate(file.fd, self.bytes_file)
                write_at(file.fd, _HEADER.pack(_MAGIC, self._token), 0)
            finally:
                file.close()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise self._spill_error(directory, error) from error
            raise

    def lie_at(self, path: str) -> None:
        """Lie at a path that a later run of the same plan knows, and outlive a run that fails."""
        self._lasting, self.resumable = path, True
        name = os.path.join(os.path.basename(os.path.dirname(path)), os.path.basename(path))
        self._token = hashlib.sha256(os.fsencode(name)).digest()[:16]

    def _take_over(self, path: str) -> bool:
        """Go on from the file of an earlier run, with those of its tiles that are whole."""
        self._path, self._pid = path, os.getpid()
        try:
            if os.stat(path).st_size != self.bytes_file:
                raise cut_short(path, 0)
            self._file()
        except (OSError, CorruptChunkError):
            self.release()  # there is none, or not all of it
            return False
        held = bytearray(self.grid.size)
        for index, cell in enumerate(np.ndindex(*self._counts)):
            with contextlib.suppress(CorruptChunkError):
                self.read(self.grid.region(cell))
                held[index] = 1
        self._held = bytes(held)
        return True

    @property
    def resumed(self) -> bool:
        """Whether tiles were kept from an earlier run."""
        return any(self._held)

    def holds(self, region: Region) -> bool:
        """Whether the tiles of a box were kept from an earlier run."""
        cells = (cell for cell, _ in self.grid.overlapping(region)) if self._held else ()
        return bool(self._held) and all(self._held[self._index(cell)] for cell in cells)

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box of whole tiles, each tile before its entry in the table."""
        if not self.grid.aligned(region):
            msg = f"{self.name}: the box {region} is not made of whole tiles"
            raise ValueError(msg)
        box = np.broadcast_to(values, region_shape(region))
        file = self._file()
        if self._stacked and box.size:
            self._write_tiles(file, region, np.ascontiguousarray(box, dtype=self.dtype))
            return
        origin = [s.start for s in region]
        for cell, tile in self.grid.overlapping(region):
            data = np.ascontiguousarray(view_of(box, shift(tile, origin)), dtype=self.dtype)
            self._write_tile(file, cell, tile, as_bytes(data))

    def _write_tile(self, file: OpenFile, cell: Cell, tile: Region, data: NDArray) -> None:
        index = self._index(cell)
        self._put(file, data, self._offset(tile), self._entry(data, index), index)

    def _entry(self, data: NDArray, index: int) -> bytes:
        """Give what the table says of a tile of these bytes."""
        return _ENTRY.pack(_WRITTEN, self._checksum(data, index))

    def _write_tiles(self, file: OpenFile, region: Region, data: NDArray) -> None:
        """Write tiles that follow each other in the file, all of them and then their entries."""
        rows = region[0]
        span = self.grid.span(0, rows.start, rows.stop)
        entries = b"".join(
            self._entry(as_bytes(data[a - rows.start : b - rows.start]), index)
            for index in span
            for a, b in (self.grid.bounds(0, index),)
        )
        self._put(file, as_bytes(data), self._offset(region), entries, span.start)

    def _put(self, file: OpenFile, data: NDArray, at: int, entries: bytes, index: int) -> None:
        """Write bytes, then their entries in the table, from the `index`-th on."""
        try:
            fault_point("spill.write", self._path or "")
            write_at(file.fd, data, at)
            write_at(file.fd, entries, _TABLE_START + index * _ENTRY.size)
        except OSError as error:
            raise self._spill_error(os.path.dirname(self._path or ""), error) from error
        if self._verified is not None:
            count = len(entries) // _ENTRY.size
            self._verified[index : index + count] = bytes(count)

    def read(self, region: Region) -> NDArray:
        """Give a box: a read-only view where the file has it in one piece, else a new array.

        A tile is checked against its checksum when this process reads it first.
        """
        shape = region_shape(region)
        if 0 in shape or not self.dtype.itemsize:
            return np.empty(shape, self.dtype)
        cell = self._cell_around(region)
        if cell is not None:
            return self._tile(cell, self.grid.region(cell), region)
        if self._stacked and all(
            s.stop - s.start == n for s, n in zip(region[1:], self.shape[1:], strict=True)
        ):
            return self._tiles_together(region)
        out = task_arena.empty(shape, self.dtype)
        origin = [s.start for s in region]
        for cell, tile in self.grid.overlapping(region):
            part = intersect(region, tile)
            assert part is not None
            out[shift(part, origin)] = self._tile(cell, tile, part)
        return out

    def _cell_around(self, region: Region) -> Cell | None:
        """Give the one tile that a box lies in, None where it lies in several."""
        cell = []
        for axis, s in enumerate(region):
            span = self.grid.span(axis, s.start, s.stop)
            if len(span) != 1:
                return None
            cell.append(span.start)
        return tuple(cell)

    def _tile(self, cell: Cell, tile: Region, part: Region) -> NDArray:
        """Give a part of one tile as a view of the map, after its checksum was found right once."""
        data = self._map(cell)
        offset, shape = self._offset(tile), region_shape(tile)
        size = math.prod(shape) * self.dtype.itemsize
        self._check(data, cell, self._index(cell), offset, size)
        values: NDArray = np.ndarray(shape, self.dtype, data, offset)
        if part != tile:
            values = view_of(values, shift(part, [s.start for s in tile]))
        return asked(values)

    def _is_checked(self, index: int) -> bool:
        """Whether this process has compared what an entry of the table is of with its checksum."""
        if self._verified is None:
            self._verified = bytearray(self._entries)
        return bool(self._verified[index])

    def _check(self, data: GuardedMap, cell: Cell, index: int, offset: int, size: int) -> None:
        """Compare what an entry is of with its checksum when this process reads it first."""
        if not self._is_checked(index):
            assert self._verified is not None
            self._verify(data, cell, index, offset, size)
            self._verified[index] = 1

    def _tiles_together(self, region: Region) -> NDArray:
        """Give a box of tiles that follow each other in the file as one view of the map."""
        rows, rest = region[0], (0,) * (len(self.shape) - 1)
        span = self.grid.span(0, rows.start, rows.stop)
        data = self._map((span.start, *rest))
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        for index in span:
            start, stop = self.grid.bounds(0, index)
            self._check(data, (index, *rest), index, self._data + start * row, (stop - start) * row)
        offset = self._data + rows.start * row
        return asked(np.ndarray(region_shape(region), self.dtype, data, offset))

    def _map(self, cell: Cell) -> GuardedMap:
        """Give the map of the file, which is still as long as it was made."""
        file = self._file()
        assert self._path is not None
        try:
            fault_point("spill.read", self._path)
            if file.bytes is None and os.fstat(file.fd).st_size >= self.bytes_file:
                told = partial(cut_short, self._path)
                file.bytes = GuardedMap.of(file.fd, self.bytes_file, told, prot=mmap.PROT_READ)
                file.bytes.is_asked = True
                file.bytes.expect_scattered(True)
                file.bytes.is_scarce = is_scarce(self.bytes_file)
        except OSError as error:
            raise self._spill_error(os.path.dirname(self._path), error) from error
        if file.bytes is None or not file.bytes.intact():
            raise cut_short(self._path, 0, cell)
        return file.bytes

    def _verify(self, data: GuardedMap, cell: Cell, index: int, offset: int, size: int) -> None:
        assert self._path is not None
        flag, expected = _ENTRY.unpack_from(data, _TABLE_START + index * _ENTRY.size)
        if flag != _WRITTEN:
            raise CorruptChunkError(self._path, cell, "the tile was never written")
        found = self._found(data, cell, index, offset, size)
        if found != expected:
            reason = f"checksum {found:08x}, expected {expected:08x}"
            raise CorruptChunkError(self._path, cell, reason)

    def _found(self, data: GuardedMap, cell: Cell, index: int, offset: int, size: int) -> int:
        """Compute the checksum of what an entry is of."""
        return self._checksum(asked(np.ndarray(size, np.uint8, data, offset)), index)

    def _checksum(self, data: NDArray, index: int) -> int:
        return int(google_crc32c.extend(self._seed(index), data))

    def _seed(self, index: int) -> int:
        # The place belongs to the checksum, so that two tiles that changed places are found out.
        return int(google_crc32c.value(self._token + index.to_bytes(8, "little")))

    def _index(self, cell: Cell) -> int:
        index = 0
        for i, count in zip(cell, self._counts, strict=True):
            index = index * count + i
        return index

    def _offset(self, tile: Region) -> int:
        """Give the place of a tile: the elements of all tiles before it in C order of the grid."""
        elements, rest, before = 0, math.prod(self.shape), 1
        for s, n in zip(tile, self.shape, strict=True):
            rest //= n
            elements += before * s.start * rest
            before *= s.stop - s.start
        return self._data + elements * self.dtype.itemsize

    def _file(self) -> OpenFile:
        if self._path is None:
            msg = f"{self.name}: the spill file was not created yet, or is released"
            raise RuntimeError(msg)
        try:
            return handles.get(self._path, self._open)
        except CorruptChunkError:
            raise
        except OSError as error:
            raise self._spill_error(os.path.dirname(self._path), error) from error

    def _open(self) -> OpenFile:
        assert self._path is not None
        try:
            file = OpenFile.at(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            header = os.pread(file.fd, _HEADER.size, 0)
        except FileNotFoundError:
            raise CorruptChunkError(self._path, (), "the spill file is gone") from None
        if header != _HEADER.pack(_MAGIC, self._token):
            raise CorruptChunkError(self._path, (), "this is not the file that the store wrote")
        return file

    def discard(self) -> None:
        """Drop the file, or leave it to a later run; scratch is never published."""
        if self._lasting is None:
            self.release()
        elif self._path is not None:
            handles.drop(self._path)
            self._path = self._verified = None

    def release(self) -> None:
        """Close the file, and remove it where this process created it."""
        if self._path is not None:
            handles.drop(self._path)
        if self._path is not None:
            remove_scratch(self._path, self._pid)
        if self._remover is not None:
            self._remover.detach()
        self._path = self._remover = self._verified = None

    def _spill_error(self, directory: str, error: OSError) -> SpillError:
        reason = error.strerror or str(error)
        return SpillError(directory, self.bytes_file, bytes_free(directory), reason)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.shape, self.dtype, self.grid, self.name, self._path, self._token

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.dtype, self.grid, self.name, self._path, self._token = state
        self._pid, self._remover, self._lasting, self._held = 0, None, None, b""
        if self._path is not None:
            handles.use(self, self._path)
        self._settle()

    def __repr__(self) -> str:
        return f"SpillStore({self.name}, shape={self.shape}, dtype={self.dtype})"


def remove_scratch(path: str, pid: int) -> None:
    """Remove a file in the process that made it, and close it there."""
    if os.getpid() == pid:
        handles.drop(path)
        with contextlib.suppress(OSError):
            fault_point("cleanup", path)
            os.unlink(path)
