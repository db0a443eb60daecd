"""A contiguous addressable store under another shape: reshape without moving anything."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from chunkarr.grid import Grid, Region, region_of, region_shape
from chunkarr.storage.pages import asked
from chunkarr.storage.store import Store

NDArray = npt.NDArray[Any]


class ReshapedStore(Store):
    """Shows a C-contiguous addressable store's elements, in C order, as another shape."""

    addressable = True
    tiled = False

    def __init__(self, base: Store, shape: tuple[int, ...]) -> None:
        assert base.addressable
        assert math.prod(base.shape) == math.prod(shape)
        self.base = base
        self.shape = shape
        self.dtype = base.dtype
        self.grid = Grid.single(shape)
        self.name = base.name
        self.in_memory, self.private = base.in_memory, base.private

    @property
    def location(self) -> str | None:
        """The real path of the data."""
        return self.base.location

    @property
    def part(self) -> object:
        """The part that the other store is."""
        return self.base.part

    def _whole(self) -> NDArray:
        whole = self.base.seen(region_of(self.base.shape)).view()
        whole.shape = self.shape  # raises instead of copying
        return whole

    def read(self, region: Region) -> NDArray:
        """Give a view of a box."""
        return asked(self.seen(region))

    def seen(self, region: Region) -> NDArray:
        """Give the same view, of which nothing is read ahead."""
        if self.in_memory:
            return self._whole()[region]
        if 0 in region_shape(region):
            return np.empty(region_shape(region), self.dtype)
        # Of a file no more is looked at than the stretch that holds the box.
        first, last = 0, 0
        strides: list[int] = []
        for s, n in zip(region, self.shape, strict=True):
            first, last = first * n + s.start, last * n + s.stop - 1
            strides = [stride * n for stride in strides] + [self.dtype.itemsize]
        run = self.base.read_run(first, last + 1)
        return as_strided(run, region_shape(region), strides, writeable=run.flags.writeable)

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box."""
        self._whole()[region] = values


def reshapable(store: Store) -> bool:
    """Whether a store's elements lie in C order in addressable memory."""
    if not store.addressable:
        return False
    if math.prod(store.shape) == 0:
        return True
    return bool(store.seen(region_of(store.shape)).flags.c_contiguous)
