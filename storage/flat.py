"""Scratch on disk that lies in C order, for values that are read under another shape.

Spill files are cut in tiles, which a reshape would tear apart. This one is a plain preallocated
file, written and read through a map; it has no checksums, because no box of it is one write.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chunkarr.errors import CorruptChunkError, FormatError, SpillError
from chunkarr.faults import fault_point
from chunkarr.grid import Grid, Region
from chunkarr.settings import settings
from chunkarr.storage.files import bytes_free
from chunkarr.storage.mapped import MappedStore
from chunkarr.storage.raw import RawStore
from chunkarr.storage.spill import Session, remove_scratch
from chunkarr.storage.store import NDArray, Store


class FlatStore(Store):
    """A scratch file in C order; addressable once it was created."""

    addressable = True
    tiled = False
    local = True
    passing = True

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "scratch") -> None:
        self.shape, self.dtype, self.name = shape, dtype, name
        self.grid = Grid.single(shape)
        self.path: str | None = None
        self._raw: MappedStore | None = None
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
            fault_point("spill.write", self.path)
            self._raw = RawStore(self.path, self.dtype, "w+", shape=self.shape)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise self._spill_error(directory, error) from error
            raise

    def _spill_error(self, directory: str, error: OSError) -> SpillError:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        return SpillError(directory, self.bytes_size, bytes_free(directory), reason)

    def _map(self) -> MappedStore:
        if self._raw is None:
            if self.path is None:
                raise RuntimeError(f"{self.name}: the file was not created yet, or is released")
            # Not as a raw file, which would be lengthened by zeros where it was cut short.
            self._raw = MappedStore(self.path, self.dtype, self.shape, mode="r+")
        return self._raw

    @contextmanager
    def _at(self, point: str) -> Iterator[MappedStore]:
        """Give the map for one access, whose errors tell of the scratch file."""
        path = self.path or ""
        try:
            fault_point(point, path)
            yield self._map()
        except FormatError as error:
            raise CorruptChunkError(path, (), error.reason) from error
        except FileNotFoundError:
            raise CorruptChunkError(path, (), "the spill file is gone") from None
        except OSError as error:
            raise self._spill_error(os.path.dirname(path), error) from error

    def read(self, region: Region) -> NDArray:
        """Give a view of a box."""
        with self._at("spill.read") as raw:
            return raw.read(region)

    def write(self, region: Region, values: NDArray) -> None:
        """Write any box."""
        with self._at("spill.write") as raw:
            raw.write(region, values)

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
