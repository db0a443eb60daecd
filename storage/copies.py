"""Copies in a file of arrays that lie in this process's memory.

Workers that do not share the memory read the file through a map, so its pages are there once for
all of them and are the system's to reclaim.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np

from chunkarr.grid import Grid, region_of
from chunkarr.storage.files import as_bytes
from chunkarr.storage.flat import FlatStore
from chunkarr.storage.spill import Session
from chunkarr.storage.store import NDArray, Store

PIECE_BYTES = 4 << 20

_known: weakref.WeakKeyDictionary[Store, SharedCopy] = weakref.WeakKeyDictionary()


class SharedCopy(FlatStore):
    """A copy of an array in memory, for workers that do not share this process's memory.

    One copy serves all plans that read the array, and goes with it. Since the array may be written
    to between two plans, `create` compares it with what was copied, by checksums: that takes a
    twentieth of a second for each GiB, where copying takes half a second and more.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.shape, store.dtype, store.name)
        self.cut_in(_in_runs(store.shape, store.dtype.itemsize))
        self._source: weakref.ref[Store] | None = weakref.ref(store)
        self._checksums: list[int] = []
        self._lock: threading.Lock | None = threading.Lock()

    @classmethod
    def of(cls, store: Store) -> SharedCopy:
        """Give the copy of an array in memory, the same one each time."""
        return _known.setdefault(store, cls(store))

    def create(self) -> None:
        """Fill the file, unless it holds the array as it is now."""
        source = None if self._source is None else self._source()
        assert source is not None
        assert self._lock is not None
        array = source.read(region_of(self.shape))
        with self._lock:
            found = checksums(array)
            if found == self._checksums and self._stands():
                return
            super().release()  # a new file: what others have mapped stays as it was
            super().create()
            if array.size:
                self.write(region_of(self.shape), array)
            self._checksums = found

    def _stands(self) -> bool:
        path = self.location
        if path is None or not os.path.exists(path):
            return False
        return os.path.dirname(path) == Session.current().path

    def release(self) -> None:
        """Keep the file for the next plan."""

    def discard(self) -> None:
        """Keep the file for the next plan."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        self._source, self._lock, self._checksums = None, None, []


def _in_runs(shape: tuple[int, ...], itemsize: int) -> Grid:
    """Cut an array into tiles of a few MiB that lie in one piece."""
    room, cut = max(1, PIECE_BYTES // max(1, itemsize)), []
    for length in reversed(shape):
        cut.append(max(1, min(length, room)))
        room //= max(1, length)
    return Grid(shape, tuple(reversed(cut)))


def checksums(array: NDArray) -> list[int]:
    """Give a checksum for each few MiB of an array's values."""
    return [google_crc32c.value(as_bytes(piece)) for piece in _pieces(np.atleast_1d(array))]


def _pieces(array: NDArray) -> Iterator[NDArray]:
    """Give an array in contiguous pieces of a few MiB."""
    if array.flags.c_contiguous:
        flat = as_bytes(array)
        step = PIECE_BYTES
    else:
        flat = array
        step = max(1, PIECE_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(flat), step):
        yield np.ascontiguousarray(flat[start : start + step])
