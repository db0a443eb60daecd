"""A contiguous addressable store under another shape: reshape without moving anything."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

from chunkarr.grid import Grid, Region, region_of
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
        self.in_memory = base.in_memory

    @property
    def location(self) -> str | None:
        """The real path of the data."""
        return self.base.location

    def _whole(self) -> NDArray:
        whole = self.base.read(region_of(self.base.shape)).view()
        whole.shape = self.shape  # raises instead of copying
        return whole

    def read(self, region: Region) -> NDArray:
        """Give a view of a box."""
        return self._whole()[region]

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box."""
        self._whole()[region] = values


def reshapable(store: Store) -> bool:
    """Whether a store's elements lie in C order in addressable memory."""
    if not store.addressable:
        return False
    if math.prod(store.shape) == 0:
        return True
    return bool(store.read(region_of(store.shape)).flags.c_contiguous)
