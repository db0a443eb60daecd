"""Arrays in this process's memory: one contiguous ndarray whose boxes are the chunks.

Cutting an array into separately allocated chunks would cost a copy at every boundary with NumPy and
BLAS. One allocation costs nothing to cut: a chunk is a basic slice, and a slice is a view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.grid import Grid, Region
from chunkarr.storage.arena import arena
from chunkarr.storage.files import view_of
from chunkarr.storage.store import NDArray, Store

PICKLE_BYTES_MAX = 64 * 1024
"""Arrays up to this size travel by value; beyond it a copy per task would defeat the plan."""


class MemoryStore(Store):
    """An array in memory, given or allocated by `create`.

    `owned` says that chunkarr allocated the array, so that its bytes count against the limit and
    nobody else holds it.

    >>> store = MemoryStore(np.arange(6).reshape(2, 3))
    >>> store.read((slice(0, 2), slice(1, 3)))
    array([[1, 2],
           [4, 5]])
    """

    addressable = True
    in_memory = True
    tiled = False
    local = True

    def __init__(
        self,
        array: NDArray | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        dtype: npt.DTypeLike | None = None,
        grid: Grid | None = None,
        owned: bool = False,
        name: str = "memory",
    ) -> None:
        if array is not None:
            shape, kind = array.shape, array.dtype
        elif shape is None or dtype is None:
            msg = "MemoryStore needs an array, or a shape and a dtype"
            raise TypeError(msg)
        else:
            shape, kind = tuple(shape), np.dtype(dtype)
        self.array: NDArray | None = array
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = kind
        self.grid = Grid.single(shape) if grid is None else grid
        self.owned = owned or array is None
        self.name = name

    def create(self) -> None:
        """Allocate the array where none was given; its values are undefined until written."""
        if self.array is None:
            self.array = arena.empty(self.shape, self.dtype)

    def read(self, region: Region) -> NDArray:
        """Give the box as a view."""
        return view_of(self._held(), region)

    def write(self, region: Region, values: NDArray) -> None:
        """Assign the box, as `array[region] = values` does."""
        self._held()[region] = values

    def discard(self) -> None:
        """Drop an array that chunkarr allocated; one that was given is not ours to undo."""
        if self.owned:
            self.array = None

    def release(self) -> None:
        """Drop the array; views that others hold stay valid."""
        self.array = None

    def _held(self) -> NDArray:
        if self.array is None:
            msg = f"{self.name}: the array was not created yet, or is released"
            raise RuntimeError(msg)
        return self.array

    def __reduce__(self) -> tuple[object, ...]:
        if self.bytes_size > PICKLE_BYTES_MAX or self.array is None:
            msg = (
                f"{self.name}: this array lives in the memory of the process that made it and does "
                "not pickle; workers that do not share memory need it in a file"
            )
            raise TypeError(msg)
        return _unpickle, (self.array, self.grid, self.owned, self.name)

    def __repr__(self) -> str:
        return f"MemoryStore({self.name}, shape={self.shape}, dtype={self.dtype})"


class BufferStore(MemoryStore):
    """An array in the memory of another object, such as a block that processes share.

    What is assigned goes there at once, because others read it without asking.
    """

    def __init__(self, array: NDArray) -> None:
        super().__init__(array, owned=True, name="buffer")
        self.mode = "r+" if array.flags.writeable else "r"

    def flush(self) -> None:
        """Do nothing: there is no file."""


def _unpickle(array: NDArray, grid: Grid, owned: bool, name: str) -> MemoryStore:
    return MemoryStore(array, grid=grid, owned=owned, name=name)
