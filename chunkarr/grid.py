"""How an array is cut: `Grid` holds chunk sizes per axis and answers where chunks lie.

A regular axis is kept as one integer, so that a grid of ten million chunks costs as much as a grid
of ten. Only an irregular axis pays for its list of sizes. The alternative, dask's tuple of tuples,
is proportional to the number of chunks and is offered by `Grid.sizes` for people who ask for it.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Region = tuple[slice, ...]
"""A box in index space: one `slice(start, stop)` per axis, both given, step 1."""

Cell = tuple[int, ...]
"""The position of a chunk in its grid, one integer per axis."""


def region_of(shape: Sequence[int]) -> Region:
    """Give the region that covers an array of `shape`."""
    return tuple(slice(0, n) for n in shape)


def region_shape(region: Region) -> tuple[int, ...]:
    """Give the lengths of a region's axes."""
    return tuple(s.stop - s.start for s in region)


def intersect(left: Region, right: Region) -> Region | None:
    """Give the common box of two regions, or None where they do not meet.

    >>> intersect((slice(0, 4),), (slice(2, 9),))
    (slice(2, 4, None),)
    """
    box = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(left, right, strict=True)
    )
    return None if any(s.start >= s.stop for s in box) else box


def shift(region: Region, origin: Sequence[int]) -> Region:
    """Express a region relative to `origin`."""
    return tuple(slice(s.start - o, s.stop - o) for s, o in zip(region, origin, strict=True))


CHUNKS_MANY = 1 << 10
"""Chunks that are more than these are made larger,"""

CRUMB_BYTES = 1 << 16
"""but not beyond this size."""


def fair_bytes(chunk_bytes: int, nbytes: int) -> int:
    """Give the bytes of a chunk where very many very small ones would cost more than they hold.

    >>> fair_bytes(64, 1000), fair_bytes(64, 1 << 20), fair_bytes(1 << 20, 1 << 40)
    (64, 1024, 1048576)
    """
    return max(chunk_bytes, min(nbytes // CHUNKS_MANY, CRUMB_BYTES))


@dataclass(frozen=True, slots=True)
class Grid:
    """The cut of an index space into chunks.

    `axes` holds one entry per axis: an int is a regular size whose last chunk may be shorter, a
    tuple lists irregular sizes. An axis of length zero has no chunks.

    >>> Grid((10, 4), (4, (1, 3))).counts
    (3, 2)
    """

    shape: tuple[int, ...]
    axes: tuple[int | tuple[int, ...], ...]
    counts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Number of chunks along each axis."""
    _ends: dict[int, list[int]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = tuple(
            -(-n // axis) if isinstance(axis, int) else len(axis)
            for n, axis in zip(self.shape, self.axes, strict=True)
        )
        # Workers ask for it in every task.
        object.__setattr__(self, "counts", counts)

    @classmethod
    def single(cls, shape: Sequence[int]) -> Grid:
        """Give the grid of one chunk."""
        return _single(tuple(shape))

    @classmethod
    def from_sizes(cls, sizes: Sequence[Sequence[int]]) -> Grid:
        """Make a grid from dask's form, a list of sizes per axis; regular axes become ints."""
        shape = tuple(sum(axis) for axis in sizes)
        axes: list[int | tuple[int, ...]] = []
        for axis in sizes:
            parts = tuple(axis)
            first = parts[0] if parts else 1
            regular = all(n == first for n in parts[:-1]) and (not parts or 0 < parts[-1] <= first)
            axes.append(first if regular and first > 0 else tuple(n for n in parts if n > 0))
        return cls(shape, tuple(1 if axis == () else axis for axis in axes))

    @property
    def size(self) -> int:
        """Number of chunks."""
        return math.prod(self.counts)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The largest chunk along each axis."""
        return tuple(
            min(axis, n) if isinstance(axis, int) else max(axis, default=0)
            for n, axis in zip(self.shape, self.axes, strict=True)
        )

    @property
    def regular(self) -> bool:
        """Whether every axis has one size."""
        return all(isinstance(axis, int) for axis in self.axes)

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """All chunk sizes per axis, as dask spells them; proportional to the chunks per axis."""
        return tuple(
            tuple(self.bounds(axis, i)[1] - self.bounds(axis, i)[0] for i in range(count))
            if count
            else (0,)
            for axis, count in enumerate(self.counts)
        )

    def ends(self, axis: int) -> list[int]:
        """Give the end of each chunk along an irregular axis."""
        if axis not in self._ends:
            sizes = self.axes[axis]
            assert isinstance(sizes, tuple)
            self._ends[axis] = list(itertools.accumulate(sizes))
        return self._ends[axis]

    def bounds(self, axis: int, i: int) -> tuple[int, int]:
        """Give start and stop of the i-th chunk along an axis."""
        size = self.axes[axis]
        if isinstance(size, int):
            return i * size, min((i + 1) * size, self.shape[axis])
        ends = self.ends(axis)
        return ends[i] - size[i], ends[i]

    def cell(self, index: int) -> Cell:
        """Give the position of the index-th chunk in C order."""
        out = []
        for count in reversed(self.counts):
            index, i = divmod(index, count)
            out.append(i)
        return tuple(reversed(out))

    def region(self, cell: Cell | int) -> Region:
        """Give the box of one chunk, by position or by C-order index."""
        position = self.cell(cell) if isinstance(cell, int) else cell
        return tuple(slice(*self.bounds(axis, i)) for axis, i in enumerate(position))

    def regions(self) -> Iterator[Region]:
        """Give the box of each chunk in C order."""
        for cell in itertools.product(*map(range, self.counts)):
            yield self.region(cell)

    def span(self, axis: int, start: int, stop: int) -> range:
        """Give the chunks along an axis that meet `start:stop`."""
        if start >= stop:
            return range(0)
        size = self.axes[axis]
        if isinstance(size, int):
            return range(start // size, (stop - 1) // size + 1)
        ends = self.ends(axis)
        return range(bisect.bisect_right(ends, start), bisect.bisect_left(ends, stop) + 1)

    def overlapping(self, region: Region) -> Iterator[tuple[Cell, Region]]:
        """Give the position and box of each chunk that meets a region, in C order."""
        spans = [self.span(axis, s.start, s.stop) for axis, s in enumerate(region)]
        for cell in itertools.product(*spans):
            yield cell, self.region(cell)

    def aligned(self, region: Region) -> bool:
        """Whether a region is made of whole chunks."""
        for axis, s in enumerate(region):
            if s.start >= s.stop:
                continue
            span = self.span(axis, s.start, s.stop)
            if self.bounds(axis, span[0])[0] != s.start or self.bounds(axis, span[-1])[1] != s.stop:
                return False
        return True


@functools.lru_cache(maxsize=1024)
def _single(shape: tuple[int, ...]) -> Grid:
    """Give the grid of one chunk; small arrays of few shapes are made by the million."""
    return Grid(shape, tuple([max(1, n) for n in shape]))
