"""The Store protocol: where chunks live, and the few things a plan asks of such a place.

A store is plain data that can be pickled and reopened in another process, unless it lives in this
process's memory. Readers ask for any box; writers bring boxes that are aligned with `write_grid`.
Nothing is visible to others before `commit`, which publishes the metadata last.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.grid import Grid, Region

NDArray = npt.NDArray[Any]


class Store(ABC):
    """A place that holds an array of known shape and dtype, cut by a grid.

    `grid` is the cut that costs least to read: one read per chunk. `addressable` says that a read
    is a view of memory or of a file map and costs nothing until it is touched.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grid: Grid
    name: str
    addressable: bool = False
    tiled: bool = True
    """Whether readers cut their work by `grid`; a plan's scratch is, in memory as on disk."""
    in_memory: bool = False
    order: str = "C"
    """How an addressable one lies: rows ("C") or columns ("F") in one piece."""
    resumable: bool = False
    """Whether what was written outlives a run that fails, for one that does the same."""
    local: bool = False
    drawn: bool = False
    """Whether each read makes the values anew, so that holding them saves work."""
    passing: bool = False
    """Whether what it holds ends with this process, though it lies in a file."""
    private: bool = False
    """Whether it may show other values than the file does, which only this process has."""

    @property
    def bytes_size(self) -> int:
        """Bytes of the whole array, decoded."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def write_grid(self) -> Grid | None:
        """The cut that concurrent writers must respect, or None where any boxes may be written."""
        return None

    @property
    def chunk_read(self) -> tuple[int, ...]:
        """The shape of what is brought at once where a part of a chunk is read."""
        return self.grid.chunk_shape

    @property
    def location(self) -> str | None:
        """The real path of the data, for "do I overwrite what I read?", or None in memory."""
        return None

    @property
    def part(self) -> object:
        """Plain data that says which part of its location it is, and how that is laid out."""
        return ()

    @property
    def recipe(self) -> object:
        """Plain data that values which lie nowhere are made from; None for all other stores."""
        return None

    @property
    def bytes_read_extra(self) -> int:
        """Most bytes that reading one chunk holds beside its decoded result."""
        return 0

    @property
    def bytes_write_extra(self) -> int:
        """Most bytes that writing one box of `write_grid` holds beside the values."""
        return 0

    @abstractmethod
    def read(self, region: Region) -> NDArray:
        """Give the values of a box: a view where `addressable`, else a fresh array."""

    def seen(self, region: Region) -> NDArray:
        """Give a box as `read` does, to who will touch a part of it: nothing is read ahead."""
        return self.read(region)

    def cut_in(self, grid: Grid) -> None:
        """Hear in what boxes it will be written, before `create`, where any may be."""

    def read_run(self, start: int, stop: int) -> NDArray:
        """Give the elements from `start` to `stop` in C order as `seen`, where they lie so."""
        whole = self.seen(tuple(slice(0, n) for n in self.shape))
        return whole.reshape(-1)[start:stop]

    def create(self) -> None:
        """Make room for writing: allocate, preallocate or open. Called once, before any write."""
        raise self._read_only()

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box that respects `write_grid`; `values` broadcasts to it and has its dtype."""
        raise self._read_only()

    def resume_as(self, mark: str) -> None:
        """Keep what is written under a mark, and go on from what an earlier run has kept there."""
        raise ValueError(f"{self.name}: this output cannot be resumed")

    @property
    def resumed(self) -> bool:
        """Whether anything was kept from an earlier run; known once it is created."""
        return False

    def holds(self, region: Region) -> bool:
        """Whether a box that would be written was kept from an earlier run."""
        return False

    def commit(self) -> None:
        """Publish: check that all was written, make it durable, then make it visible at once."""

    def discard(self) -> None:
        """Drop what was written and not committed; harmless when called twice."""

    def release(self) -> None:
        """Free the memory or disk of a scratch store; harmless when called twice."""

    def _read_only(self) -> Exception:
        return ValueError(f"{self.name}: assignment destination is read-only")


Box = tuple[Store, Region]
"""A part of a store."""
