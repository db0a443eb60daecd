"""Arrays that lie in a file as they lie in memory: read and written through a map of the file.

This is the base of `.npy`, raw files and uncompressed members of `.npz`. Opening one reads nothing
of the data, and a box is a view whose pages the system fetches when they are touched and drops when
memory is short.

A store remembers which file it opened. Another file under the same path, put there by somebody's
atomic replace, is an error in a process that opens the path again, never other data.
"""

from __future__ import annotations

import math
import mmap
import os
from functools import partial
from typing import Any

import numpy as np

from chunkarr.errors import FormatError, OutputError
from chunkarr.faults import fault_point
from chunkarr.grid import Grid, Region
from chunkarr.storage.files import OpenFile, handles, preallocate, view_of
from chunkarr.storage.guard import GuardedMap
from chunkarr.storage.pages import asked, is_scarce, put
from chunkarr.storage.store import NDArray, Store

NDIM_MAX = 64
"""The most axes NumPy has."""
EMPTY_ELEMENTS_MAX = 2**20
"""Elements of no bytes that are believed whatever the size of the file."""


def check_extent(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, bytes_held: int
) -> None:
    """Raise FormatError where a header promises more than the file holds.

    Elements without bytes are limited in number, so that a header of a hundred bytes cannot promise
    10**12 of them and have somebody count to it.
    """
    if len(shape) > NDIM_MAX or any(n < 0 for n in shape):
        raise FormatError(path, f"the header gives the shape {shape}")
    if dtype.subdtype is not None:
        raise FormatError(path, f"the header gives the dtype {dtype}, which has axes of its own")
    # NumPy refuses axes whose product is too large even where another axis is empty.
    if math.prod(max(n, 1) for n in shape) * max(dtype.itemsize, 1) >= 2**63:
        raise FormatError(path, f"the header gives the shape {shape}, larger than any file")
    needed = offset + math.prod(shape) * dtype.itemsize
    if needed > bytes_held:
        raise FormatError(
            path, f"the header promises {needed} bytes, the file holds {bytes_held}: cut short?"
        )
    if not dtype.itemsize and math.prod(shape) > max(EMPTY_ELEMENTS_MAX, bytes_held):
        raise FormatError(path, f"the header promises {math.prod(shape)} elements without bytes")


class MappedStore(Store):
    """An array at an offset of a file, in C or Fortran order.

    Mode "r" refuses writes, "r+" writes through to the file, and "c" keeps what is written in this
    process's memory, page by page.
    """

    addressable = True
    tiled = False
    local = True

    def __init__(
        self,
        path: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        *,
        order: str = "C",
        offset: int = 0,
        mode: str = "r",
        grid: Grid | None = None,
        name: str | None = None,
    ) -> None:
        self.path = os.path.realpath(path)
        self.dtype, self.shape = dtype, shape
        self.order, self.offset, self.mode = order, offset, mode
        self.private = mode == "c"
        self.grid = Grid.single(shape) if grid is None else grid
        self.name = os.path.basename(path) if name is None else name
        self._private: NDArray | None = None
        self._private_map: GuardedMap | None = None
        info = os.stat(self.path)
        self._identity = (info.st_dev, info.st_ino)
        handles.use(self, self._key)
        # The map of this moment stays valid when the path is replaced later.
        self._array()

    @property
    def location(self) -> str:
        """The file."""
        return self.path

    @property
    def part(self) -> object:
        """Where it begins, and whether rows or columns lie in one piece."""
        return self.offset, self.order

    def read(self, region: Region) -> NDArray:
        """Give the box as a view of the map, writable where the mode is not "r".

        Somebody may cut the file short afterwards; touching the view then ends the process, except
        within `guard.watched`.
        """
        return asked(self.seen(region))

    def seen(self, region: Region) -> NDArray:
        """Give the box as a view of the map, of which nothing is read ahead."""
        fault_point("read", self.path)
        return view_of(self._array(), region)

    def create(self) -> None:
        """Do nothing where the file may be written: its room is there since it was opened."""
        if self.mode == "r":
            raise self._read_only()

    def write(self, region: Region, values: NDArray) -> None:
        """Assign the box in the map."""
        if self.mode == "r":
            raise self._read_only()
        put(view_of(self._array(), region), values)

    def commit(self) -> None:
        """Make what was written through durable."""
        self.flush()

    def flush(self) -> None:
        """Bring changed pages to disk, as `np.memmap.flush` does."""
        data = self._file().bytes
        if self.mode == "r+" and data is not None:
            data.flush()

    def _array(self) -> NDArray:
        """Give the whole array; kept only in mode "c", where the changes live in this map."""
        data = self._file().bytes if self._private is None else self._private_map
        if data is not None and not data.intact():
            if self._private is not None:
                raise FormatError(self.path, "the file was cut short after it was opened")
            # Its pages stay lost, but the file may be whole again. If not, opening it tells.
            handles.drop(self._key)
            data = self._file().bytes
        if self._private is not None:
            return self._private
        start = self.offset % mmap.ALLOCATIONGRANULARITY
        array: NDArray
        if data is None:
            array = np.empty(self.shape, self.dtype)
            array.flags.writeable = self.mode != "r"
        else:
            order: Any = self.order
            array = np.ndarray(self.shape, self.dtype, data, start, order=order)
        if self.mode == "c":
            self._private, self._private_map = array, data
        return array

    @property
    def _key(self) -> str:
        return f"{self.mode}:{self._identity}:{self.offset}:{self.bytes_size}:{self.path}"

    def _file(self) -> OpenFile:
        if self.mode == "c":
            # A private map is this store's alone; another store of the file has its own.
            return self._open() if self._private is None else OpenFile()
        return handles.get(self._key, self._open)

    def _opened(self) -> OpenFile:
        """Open the file again, which has to be the one that was opened first."""
        flags = (os.O_RDWR if self.mode == "r+" else os.O_RDONLY) | os.O_CLOEXEC
        opened = OpenFile.at(self.path, flags)
        info = os.fstat(opened.fd)
        # Hosts that share a disk give it different device numbers; the inode is the file's own.
        if info.st_ino == self._identity[1] and info.st_size >= self.offset + self.bytes_size:
            return opened
        opened.close()
        what = "cut short" if info.st_ino == self._identity[1] else "replaced"
        raise FormatError(self.path, f"the file was {what} after it was opened")

    def _open(self) -> OpenFile:
        opened = self._opened()
        try:
            if self.mode == "r+":
                self._fill_holes(opened.fd, os.fstat(opened.fd))
            file = OpenFile()
            if self.bytes_size:
                start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
                length = self.offset + self.bytes_size - start
                access = _ACCESS[self.mode]
                told = partial(_cut_short, self.path)
                data = GuardedMap.of(opened.fd, length, told, access=access, offset=start)
                data.is_asked = data.is_scarce = is_scarce(length)
                file.bytes = data
            return file
        finally:
            opened.close()

    def _fill_holes(self, fd: int, info: os.stat_result) -> None:
        """Reserve the disk of a sparse file: storing to its map on a full disk would kill."""
        if info.st_blocks * 512 < info.st_size:
            try:
                preallocate(fd, info.st_size)
            except OSError as error:
                raise OutputError(self.path, error.strerror or str(error)) from error

    def __getstate__(self) -> dict[str, Any]:
        if self.mode == "c":
            raise TypeError(
                f"{self.name}: changes in mode 'c' live in one process; use 'r' or 'r+'"
            )
        return self.__dict__ | {"_private": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        handles.use(self, self._key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, shape={self.shape}, dtype={self.dtype})"


def _cut_short(path: str, _: int) -> FormatError:
    return FormatError(path, "the file was cut short while it was read")


_ACCESS = {"r": mmap.ACCESS_READ, "r+": mmap.ACCESS_WRITE, "c": mmap.ACCESS_COPY}
