"""`.npz` archives: each member a store, opened when it is asked for.

A stored member is a `.npy` file at an offset, so it is read through a map. A deflated member can
only be decompressed from its beginning, and `DeflatedStore` makes that bearable without unpacking
it to disk: the state of the decompressor is copied every few megabytes, so that any place is
reached by decompressing little more than what is asked for.
"""

from __future__ import annotations

import math
import os
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from chunkarr.errors import CorruptChunkError, FormatError
from chunkarr.faults import fault_point
from chunkarr.grid import Grid, Region, region_shape
from chunkarr.storage.files import OpenFile, as_bytes, buffer_of, handles, read_at
from chunkarr.storage.mapped import MappedStore
from chunkarr.storage.npy import MAGIC, PREFIX_BYTES, contiguous_axes, parse_header
from chunkarr.storage.store import NDArray, Store

WINDOW_BYTES = 1 << 20
"""Output is decompressed by windows of this size, aligned to the start of the member."""
WINDOWS_HELD = 8
BAND_BYTES = 4 << 20
"""Rows that make one chunk of the grid; two of them fit the windows that are held."""
CHECKPOINT_WINDOWS = 8
CHECKPOINTS_MAX = 128
CURSORS_MAX = 8
STATE_BYTES = 48 * 1024
"""What one copy of a decompressor takes: its 32 KiB of history and its tables."""
INPUT_BYTES = 64 * 1024
RATIO_MAX = 1100
"""Deflate cannot expand by more than 1032; a directory that claims more is lying."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 1


class NpzMembers(Mapping[str, Store]):
    """The arrays of an archive by name, as `np.load` names them; opening one reads its header only.

    A name is a key and nothing else: it is never used as a path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        with open(self.path, "rb") as file:
            try:
                members = zipfile.ZipFile(file).infolist()
            except Exception as error:  # its reader has no one error for directories that lie
                raise FormatError(self.path, f"not a valid zip archive: {error}") from error
        # As in `np.load`, the last of several members of one name is the one that counts.
        self._members = {
            info.filename.removesuffix(".npy"): info
            for info in members
            if not info.filename.endswith("/")
        }
        self._stores: dict[str, Store] = {}

    def __getitem__(self, name: str) -> Store:
        info = self._members.get(name) or self._members[name.removesuffix(".npy")]
        found = self._stores.get(info.filename)
        if found is None:
            found = self._stores[info.filename] = open_member(self.path, info)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def open_npz(path: str | os.PathLike[str]) -> NpzMembers:
    """Open an archive; its arrays are opened when they are asked for."""
    return NpzMembers(path)


def open_member(path: str, info: zipfile.ZipInfo) -> Store:
    """Open one member of an archive."""
    place = f"{path}[{info.filename!r}]"
    if info.flag_bits & _ENCRYPTED:
        raise FormatError(place, "the member is encrypted")
    start = _data_start(path, place, info)
    if info.compress_type == zipfile.ZIP_STORED:
        return StoredMember(path, info, start)
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise FormatError(place, f"compression method {info.compress_type} of zip is not read")
    if info.file_size > info.compress_size * RATIO_MAX + INPUT_BYTES:
        raise FormatError(place, f"{info.compress_size} bytes cannot expand to {info.file_size}")
    return DeflatedStore(path, info, start)


def _data_start(path: str, place: str, info: zipfile.ZipInfo) -> int:
    """Give where a member's bytes begin, which only its local header says."""
    with open(path, "rb", buffering=0) as file:
        held = os.fstat(file.fileno()).st_size
        # A directory may point outside of the file, which `pread` refuses in its own words.
        inside = 0 <= info.header_offset <= held
        header = os.pread(file.fileno(), _LOCAL_HEADER.size, info.header_offset) if inside else b""
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
        raise FormatError(place, "the archive has no member where its directory says")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + _LOCAL_HEADER.size + int(name_length) + int(extra_length)
    stored = info.compress_type == zipfile.ZIP_STORED
    if start + (info.file_size if stored else info.compress_size) > held:
        raise FormatError(place, "the archive is cut short")
    return start


def _check_magic(place: str, prefix: bytes) -> None:
    if not prefix.startswith(MAGIC):
        raise FormatError(place, "the member is not an npy file")


class StoredMember(MappedStore):
    """An uncompressed member, read through a map.

    Its checksum is one for all of it, so all of it is read once before any of it is used, as NumPy
    does. Other processes get it checked.
    """

    def __init__(self, path: str, info: zipfile.ZipInfo, start: int) -> None:
        self._place = f"{path}[{info.filename!r}]"
        with open(path, "rb", buffering=0) as file:
            prefix = os.pread(file.fileno(), min(PREFIX_BYTES, info.file_size), start)
        _check_magic(self._place, prefix)
        shape, order, dtype, header = parse_header(self._place, prefix, info.file_size)
        self._span = (start, start + info.file_size)
        self._crc_expected = info.CRC
        self._crc: int | None = None
        self._checking = threading.Lock()
        super().__init__(path, dtype, shape, order=order, offset=start + header, name=info.filename)

    def read(self, region: Region) -> NDArray:
        """Give the box as a view of the map; CorruptChunkError where the member is damaged."""
        self._check()
        return super().read(region)

    def _check(self) -> None:
        if self._crc is None:
            with self._checking:
                # Another thread may have been faster, and then there is nothing to read.
                self._crc = self._crc_found(self._crc)
        if self._crc != self._crc_expected:
            raise CorruptChunkError(self._place, (), "the member fails its checksum")

    def _crc_found(self, known: int | None) -> int:
        if known is not None:
            return known
        crc, (place, stop) = 0, self._span
        buffer: NDArray = np.empty(min(WINDOW_BYTES, stop - place), np.uint8)
        file = self._opened()
        try:
            while place < stop:
                piece = buffer[: stop - place]
                read_at(file.fd, piece, place)
                crc, place = zlib.crc32(buffer_of(piece), crc), place + piece.size
        except EOFError as error:
            raise FormatError(self._place, "the archive was cut short") from error
        finally:
            file.close()
        return crc

    def __getstate__(self) -> dict[str, Any]:
        self._check()
        return {**super().__getstate__(), "_checking": None}


class DeflatedStore(Store):
    """A compressed member, read in bands of rows; columns in Fortran order.

    A scan in order decompresses each byte once, however many threads share it; a jump costs at most
    the distance between two checkpoints. The checksum of the member is compared when its end is
    reached; that of a small one before anything is given.
    """

    local = True

    def __init__(self, path: str, info: zipfile.ZipInfo, start: int) -> None:
        self.path, self.name = path, info.filename
        self._info, self._start = info, start
        self._place = f"{path}[{info.filename!r}]"
        status = os.stat(path)
        self._identity = (status.st_ino, status.st_size)
        self._stream = self._new_stream()
        prefix = bytearray(min(PREFIX_BYTES, info.file_size))
        self._stream.read(0, memoryview(prefix))
        _check_magic(self._place, bytes(prefix))
        header = parse_header(self._place, bytes(prefix), info.file_size)
        self.shape, self.order, self.dtype, self._offset = header
        shape = self.shape if self.order == "C" else self.shape[::-1]
        axes = _band_axes(shape, self.dtype.itemsize)
        self.grid = Grid(self.shape, axes if self.order == "C" else axes[::-1])

    @property
    def location(self) -> str:
        """The archive."""
        return self.path

    @property
    def part(self) -> object:
        """Where the member begins."""
        return self._start

    @property
    def bytes_read_extra(self) -> int:
        """Windows, checkpoints and decompressors, shared by all reads of this store."""
        return WINDOW_BYTES * (WINDOWS_HELD + 2) + STATE_BYTES * (CHECKPOINTS_MAX + CURSORS_MAX)

    def read(self, region: Region) -> NDArray:
        """Give a box as a new array."""
        order: Any = self.order
        out: NDArray = np.empty(region_shape(region), self.dtype, order=order)
        self._stream.check_small()
        if out.size and self.dtype.itemsize:
            if self.order == "C":
                self._fill(out, region, self.shape, self._offset)
            else:
                self._fill(out.T, region[::-1], self.shape[::-1], self._offset)
        return out

    def _fill(self, out: NDArray, region: Region, shape: tuple[int, ...], offset: int) -> None:
        """Fill a box of a C-ordered array of `shape` that begins at `offset` of the member."""
        size = self.dtype.itemsize
        if contiguous_axes(region, shape) == 0:
            row = math.prod(shape[1:]) * size
            place = offset + (region[0].start * row if region else 0)
            self._stream.read(place, buffer_of(as_bytes(out)))
            return
        row = math.prod(shape[1:]) * size
        if row > WINDOW_BYTES:
            for i in range(region[0].start, region[0].stop):
                self._fill(out[i - region[0].start], region[1:], shape[1:], offset + i * row)
            return
        # Rows are small: fetch some whole ones and cut the box out of them.
        step = max(1, WINDOW_BYTES // row)
        for first in range(region[0].start, region[0].stop, step):
            rows = min(step, region[0].stop - first)
            whole: NDArray = np.empty((rows, *shape[1:]), self.dtype)
            self._stream.read(offset + first * row, buffer_of(as_bytes(whole)))
            at = first - region[0].start
            out[at : at + rows] = whole[(slice(None), *region[1:])]

    def _new_stream(self) -> InflatedStream:
        info = self._info
        extent = (self._start, info.compress_size, info.file_size)
        return InflatedStream(self.path, self._place, self._identity, extent, info.CRC)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._stream = self._new_stream()

    def __repr__(self) -> str:
        return f"DeflatedStore({self._place}, shape={self.shape}, dtype={self.dtype})"


def _band_axes(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut a C-ordered array into runs of at most `BAND_BYTES` where an element is not larger."""
    axes, held = [], max(itemsize, 1)
    for n in reversed(shape):
        size = max(1, min(n, BAND_BYTES // held))
        axes.append(size)
        # Behind an axis that is cut, the earlier ones are taken one by one.
        held = held * max(n, 1) if size >= n else BAND_BYTES + 1
    return tuple(reversed(axes))


class _Cursor:
    """A decompressor with its places: the next window of output and the next byte of input."""

    __slots__ = ("inflater", "input", "window")

    def __init__(self, window: int, place: int, inflater: Any) -> None:
        self.window, self.input, self.inflater = window, place, inflater

    def copy(self) -> _Cursor:
        return _Cursor(self.window, self.input, self.inflater.copy())


class InflatedStream:
    """Random access to a deflated stream, for any number of threads.

    Windows that were decompressed last are held, and while one thread decompresses towards a window
    that another one wants, the other waits instead of starting again from a checkpoint: threads
    that walk through the stream side by side share one pass. Where a checkpoint is nearer than any
    running decompressor, threads go on at the same time.
    """

    def __init__(
        self,
        path: str,
        place: str,
        identity: tuple[int, int],
        extent: tuple[int, int, int],
        crc: int,
    ) -> None:
        self._path, self._place, self._identity = path, place, identity
        self._start, self._input_size, self.size = extent
        self._crc_expected = crc
        self._crc, self._crc_window = 0, 0
        self._damage: CorruptChunkError | None = None
        self._spacing = CHECKPOINT_WINDOWS
        self._checkpoints = {0: _Cursor(0, 0, zlib.decompressobj(-15))}
        self._idle: list[_Cursor] = []
        self._running: list[_Cursor] = []
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._changed = threading.Condition()
        self.windows_inflated = 0

    def check_small(self) -> None:
        """Compare the checksum now where all windows will be held: it costs nothing extra."""
        last = (self.size - 1) // WINDOW_BYTES
        if self._crc_window <= last < WINDOWS_HELD:
            self._window(last)

    def read(self, offset: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `offset`."""
        done = 0
        while done < out.nbytes:
            window, skip = divmod(offset + done, WINDOW_BYTES)
            count = min(WINDOW_BYTES - skip, out.nbytes - done)
            out[done : done + count] = self._window(window)[skip : skip + count]
            done += count

    def _window(self, window: int) -> bytes:
        with self._changed:
            while True:
                if self._damage is not None:
                    raise self._damage
                found = self._held.get(window)
                if found is not None:
                    self._held.move_to_end(window)
                    return found
                cursor = self._take(window)
                if cursor is not None:
                    break
                self._changed.wait()
        try:
            while True:
                data = self._inflate(cursor)
                with self._changed:
                    self._keep(cursor, data)
                    if cursor.window > window:
                        self._idle.append(cursor)
                        del self._idle[:-CURSORS_MAX]
                        return data
        finally:
            with self._changed:
                self._running.remove(cursor)
                self._changed.notify_all()

    def _take(self, window: int) -> _Cursor | None:
        """Give the nearest decompressor before a window, or None where a running one is nearer."""
        idle = max(
            (c for c in self._idle if c.window <= window), key=lambda c: c.window, default=None
        )
        saved = max(at for at in self._checkpoints if at <= window)
        nearest = saved if idle is None else max(saved, idle.window)
        if any(nearest <= c.window <= window for c in self._running):
            return None
        if idle is not None and idle.window == nearest:
            self._idle.remove(idle)
            cursor = idle
        else:
            cursor = self._checkpoints[saved].copy()
        self._running.append(cursor)
        return cursor

    def _keep(self, cursor: _Cursor, data: bytes) -> None:
        """Enter a new window: hold it, extend the checksum, and save a checkpoint if one is due."""
        window = cursor.window
        cursor.window += 1
        self.windows_inflated += 1
        self._held[window] = data
        if len(self._held) > WINDOWS_HELD:
            self._held.popitem(last=False)
        if window == self._crc_window:
            # The first pass meets all windows in order, so the whole member is checked by its end.
            self._crc, self._crc_window = zlib.crc32(data, self._crc), window + 1
            end = self._crc_window * WINDOW_BYTES >= self.size
            if end and self._crc != self._crc_expected:
                self._damage = CorruptChunkError(self._place, (), "the member fails its checksum")
                raise self._damage
        if cursor.window % self._spacing == 0 and cursor.window not in self._checkpoints:
            if len(self._checkpoints) >= CHECKPOINTS_MAX:
                self._spacing *= 2
                for at in [at for at in self._checkpoints if at % self._spacing]:
                    del self._checkpoints[at]
            if cursor.window % self._spacing == 0:
                self._checkpoints[cursor.window] = cursor.copy()
        self._changed.notify_all()

    def _inflate(self, cursor: _Cursor) -> bytes:
        """Decompress the next window of a cursor."""
        wanted = min(WINDOW_BYTES, self.size - cursor.window * WINDOW_BYTES)
        parts, left = [], wanted
        try:
            fault_point("read", self._path)
            file = handles.get(f"npz:{self._identity}:{self._path}", self._open)
            while left:
                count = min(INPUT_BYTES, self._input_size - cursor.input)
                data = os.pread(file.fd, count, self._start + cursor.input)
                part = cursor.inflater.decompress(data, left)
                used = len(data) - len(cursor.inflater.unconsumed_tail)
                if not part and not used:
                    raise CorruptChunkError(self._place, (), "the compressed data ends early")
                parts.append(part)
                left -= len(part)
                cursor.input += used
        except zlib.error as error:
            raise CorruptChunkError(self._place, (), f"cannot decompress: {error}") from error
        except OSError as error:
            if isinstance(error, CorruptChunkError):
                raise
            reason = error.strerror or str(error)
            raise CorruptChunkError(self._place, (), reason) from error
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _open(self) -> OpenFile:
        file = OpenFile.at(self._path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(file.fd)
        if (status.st_ino, status.st_size) != self._identity:
            raise FormatError(self._path, "the archive was replaced after it was opened")
        return file
