"""Scratch on disk that lies in C order, for values that are read under another shape.

Spill files are cut in tiles, which a reshape would tear apart. This one is a plain preallocated
file, written and read through a map; it has no checksums, because no box of it is one write.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np

from chunkarr.errors import SpillError
from chunkarr.grid import Grid, Region, region_of
from chunkarr.settings import settings
from chunkarr.storage.files import bytes_free
from chunkarr.storage.raw import RawStore
from chunkarr.storage.spill import Session, remove_scratch
from chunkarr.storage.store import NDArray, Store


class FlatStore(Store):
    """A scratch file in C order; addressable once it was created."""

    addressable = True
    tiled = False
    local = True

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "scratch") -> None:
        self.shape, self.dtype, self.name = shape, dtype, name
        self.grid = Grid.single(shape)
        self.path: str | None = None
        self._raw: RawStore | None = None
        self._pid = 0
        self._remover: weakref.finalize[Any, FlatStore] | None = None

    @property
    def location(self) -> str | None:
        """The file, once it was created."""
        return self.path

    def create(self) -> None:
        """Reserve the file; SpillError where the disk does not have the room."""
        directory = settings().spill_dir
        try:
            session = Session.current()
            directory = session.path
            # The name is kept before there is a file: an interrupt may come right after that.
            self.path, self._pid = session.new_path(self.name), os.getpid()
            self._remover = weakref.finalize(self, remove_scratch, self.path, self._pid)
            self._remover.atexit = False  # the session goes as a whole
            self._raw = RawStore(self.path, self.dtype, "w+", shape=self.shape)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                reason = getattr(error, "reason", None) or error.strerror or str(error)
                free = bytes_free(directory)
                raise SpillError(directory, self.bytes_size, free, reason) from error
            raise

    def _map(self) -> RawStore:
        if self._raw is None:
            if self.path is None:
                raise RuntimeError(f"{self.name}: the file was not created yet, or is released")
            self._raw = RawStore(self.path, self.dtype, "r+", shape=self.shape)
        return self._raw

    def read(self, region: Region) -> NDArray:
        """Give a view of a box."""
        return self._map().read(region)

    def write(self, region: Region, values: NDArray) -> None:
        """Write any box."""
        self._map().write(region, values)

    def release(self) -> None:
        """Remove the file."""
        self._raw = None
        if self.path is not None and self._remover is not None:
            remove_scratch(self.path, self._pid)
            self._remover.detach()
        self.path = self._remover = None

    def discard(self) -> None:
        """Remove the file."""
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw": None, "_remover": None}


class SharedCopy(FlatStore):
    """A copy of an array in memory, for workers that do not share this process's memory."""

    def __init__(self, array: NDArray, name: str = "copy") -> None:
        super().__init__(array.shape, array.dtype, name)
        self._array: NDArray | None = array

    def create(self) -> None:
        """Reserve the file and fill it."""
        super().create()
        assert self._array is not None
        if self._array.size:
            self.write(region_of(self.shape), self._array)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_array": None}
