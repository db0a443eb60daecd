"""Scratch on disk that lies in C order, for values that are read under another shape.

Spill files are cut in tiles, which a reshape would tear apart. This one is a plain preallocated
file, written and read through a map; it has no checksums, because no box of it is one write.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np

from chunkarr.errors import OutputError, SpillError
from chunkarr.grid import Grid, Region, region_of
from chunkarr.settings import settings
from chunkarr.storage.raw import RawStore
from chunkarr.storage.spill import Session
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

    def create(self) -> None:
        """Reserve the file."""
        self.path = Session.current().new_path(self.name)
        try:
            self._raw = RawStore(self.path, self.dtype, "w+", shape=self.shape)
        except OutputError as error:
            directory = settings().spill_dir
            raise SpillError(directory, self.bytes_size, 0, error.reason) from error

    def _map(self) -> RawStore:
        if self._raw is None:
            assert self.path is not None, "read before it was created"
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
        path, self.path, self._raw = self.path, None, None
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def discard(self) -> None:
        """Remove the file."""
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw": None}


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
