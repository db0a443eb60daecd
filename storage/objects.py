"""Array-likes that are read and written by slices: HDF5 datasets, arrays of other libraries.

Nothing is known of them but shape, dtype and, where they say it, their chunks. Access is one at a
time where a lock is asked for, since many of them are not safe for threads.
"""

from __future__ import annotations

import contextlib
import math
import threading
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from chunkarr.grid import Grid, Region, region_shape
from chunkarr.storage.store import NDArray, Store


def sliceable(value: object) -> bool:
    """Whether something is an array that slices read, and no ndarray that is in memory already."""
    return (
        not isinstance(value, np.ndarray | np.generic)
        and isinstance(getattr(value, "dtype", None), np.dtype)
        and isinstance(getattr(value, "shape", None), tuple)
        and hasattr(value, "__getitem__")
        and not hasattr(value, "iloc")
    )


class ObjectStore(Store):
    """Part of an array-like, the box at `starts`."""

    def __init__(
        self,
        source: Any,
        *,
        shape: tuple[int, ...] | None = None,
        starts: tuple[int, ...] | None = None,
        dtype: np.dtype[Any] | None = None,
        lock: Any = None,
    ) -> None:
        self.source = source
        self.shape = tuple(source.shape) if shape is None else shape
        self.starts = (0,) * len(self.shape) if starts is None else starts
        self.dtype = source.dtype if dtype is None else dtype
        self.name = type(source).__name__
        self.lock = lock
        self.grid = _own_grid(source, self.shape, self.starts)

    @property
    def write_grid(self) -> Grid | None:
        """The array-like's own chunks, where boxes may be written at the same time."""
        return self.grid if self.lock is None and self.grid.size > 1 else None

    @property
    def bytes_read_extra(self) -> int:
        """What decoding a chunk may hold."""
        return math.prod(self.grid.chunk_shape) * self.dtype.itemsize

    def _held(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.lock is None else self.lock

    def _key(self, region: Region) -> tuple[slice, ...]:
        return tuple(
            slice(span.start + at, span.stop + at)
            for span, at in zip(region, self.starts, strict=True)
        )

    def read(self, region: Region) -> NDArray:
        """Read a box."""
        with self._held():
            values = np.asarray(self.source[self._key(region)], self.dtype)
        if values.shape != region_shape(region):
            message = f"{self.name} gave shape {values.shape} for a box of {region_shape(region)}"
            raise ValueError(message)
        return values if values.flags.owndata else values.copy()

    def create(self) -> None:
        """Do nothing: the array-like is there."""

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box."""
        with self._held():
            self.source[self._key(region)] = values

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        # A lock of this process means nothing in another one; there it is a new one.
        state["lock"] = None if self.lock is None else True
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.lock is True:
            self.lock = threading.Lock()


def _own_grid(source: Any, shape: tuple[int, ...], starts: tuple[int, ...]) -> Grid:
    """Give the chunks that an array-like tells of, one chunk where it tells of none."""
    chunks = getattr(source, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) != len(shape):
        return Grid.single(shape)
    if not all(isinstance(n, int) and n > 0 for n in chunks):
        return Grid.single(shape)
    if any(at % n for at, n in zip(starts, chunks, strict=True)):
        return Grid.single(shape)
    return Grid(shape, chunks)
