"""Views that show elements several times: windows that slide, and strides of the user's choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import stride_tricks

from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.expr.affine import Affine
from chunkarr.expr.build import apply, constant, flatten, from_ndarray, normalize_axes, reshape
from chunkarr.expr.node import Expr
from chunkarr.functions.creation import index_along
from chunkarr.functions.fancy import Places, gather, scatter
from chunkarr.functions.manipulation import stack
from chunkarr.functions.pieces import span
from chunkarr.records import dataclass
from chunkarr.views import Reading, c_strides, outline

NDArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Windows(Reading):
    """Windows of so many elements that slide along axes; an axis may be named several times."""

    sizes: tuple[int, ...]
    axes: tuple[int, ...]

    def get(self, base: Expr) -> Expr:
        """Lay the elements of each place in the windows side by side."""
        shape = list(base.shape)
        for size, axis in zip(self.sizes, self.axes, strict=True):
            shape[axis] -= size - 1
        lead = tuple(shape)
        parts = []
        for place in np.ndindex(self.sizes):
            starts = [0] * base.ndim
            for start, axis in zip(place, self.axes, strict=True):
                starts[axis] += start
            part = base
            for axis, start in enumerate(starts):
                part = span(part, axis, start, lead[axis])
            parts.append(part)
        return reshape(stack(parts, axis=-1), (*lead, *self.sizes))

    def put(self, base: Expr, value: Expr) -> Expr:
        """Refuse: elements would be written several times."""
        message = "assignment destination is read-only"
        raise ValueError(message)

    def look(self, array: NDArray) -> NDArray:
        """Give NumPy's windows."""
        return stride_tricks.sliding_window_view(array, self.sizes, self.axes)


@dataclass(frozen=True, slots=True)
class Strided(Reading):
    """Steps of the user's choice over the flattened elements of an array in C order."""

    shape: tuple[int, ...]
    steps: tuple[int, ...]

    def _places(self, size: int) -> Places:
        at: Expr = constant(0, shape=self.shape)
        for axis, step in enumerate(self.steps):
            at = apply("add", at, apply("multiply", index_along(self.shape, axis), step))
        count = math.prod(self.shape)
        line = Affine.identity((size,))
        return Places(line, (size,), 0, reshape(at, (count,)), (count,))

    def get(self, base: Expr) -> Expr:
        """Gather the elements."""
        found = gather(flatten(base), self._places(base.size))
        return reshape(found, self.shape)

    def put(self, base: Expr, value: Expr) -> Expr:
        """Scatter values; of several for one element the last stays."""
        places = self._places(base.size)
        laid = scatter(flatten(base), places, reshape(value, places.shape))
        return reshape(laid, base.shape)

    def look(self, array: NDArray) -> NDArray:
        """Give NumPy's view."""
        strides = tuple([step * array.itemsize for step in self.steps])
        return stride_tricks.as_strided(array, self.shape, strides)


def sliding_window_view(
    x: Any,
    window_shape: int | Sequence[int],
    axis: int | Sequence[int] | None = None,
    *,
    subok: bool = False,  # noqa: ARG001 - there are no subclasses
    writeable: bool = False,
) -> Array:
    """Look at an array through windows that slide along axes: a view, read-only unless asked.

    The result has the axes of `x`, shortened, then those of the window. What is not in memory is
    read once for each element of a window.
    """
    whole = namespace.asarray(x)
    shown = np.broadcast_to(np.zeros((), whole.dtype), whole.shape)
    stride_tricks.sliding_window_view(shown, window_shape, axis)  # type: ignore[arg-type]
    if writeable:
        windows = outline(whole.strides, whole.shape, whole.dtype)
        windows = stride_tricks.sliding_window_view(windows, window_shape, axis)  # type: ignore[arg-type]
        return as_strided(whole, windows.shape, windows.strides)
    sizes = tuple(window_shape) if np.iterable(window_shape) else (window_shape,)
    axes = tuple(range(whole.ndim)) if axis is None else normalize_axes_of(axis, whole.ndim)
    return whole.view_through(Windows(tuple(map(int, sizes)), axes), writable=False)


def normalize_axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Give axes as numbers from 0; one may be named several times."""
    listed = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(normalize_axes(one, ndim)[0] for one in listed)


def as_strided(
    x: Any,
    shape: Any = None,
    strides: Any = None,
    subok: bool = False,  # noqa: ARG001 - there are no subclasses
    writeable: bool = True,
) -> Array:
    """Look at the memory of an array with a shape and strides: a view.

    The array is brought into memory. Strides that leave it are refused, where NumPy would read
    what is not the array's: ValueError. What does not lie in C order is seen read-only.
    """
    whole = x if isinstance(x, Array) else namespace.asarray(x)
    if whole.in_memory is None:
        whole.persist()
    held = np.asarray(whole)
    new_shape = held.shape if shape is None else tuple(np.atleast_1d(shape).tolist())
    kept = c_strides(new_shape, held.itemsize) if held.flags.c_contiguous else held.strides
    new_strides = kept if strides is None else tuple(np.atleast_1d(strides).tolist())
    _check_inside(held, new_shape, new_strides)
    steps = [divmod(stride, held.itemsize) for stride in new_strides]
    ahead = all(step >= 0 and not rest for step, rest in steps)
    if ahead and whole.base is None and held.flags.c_contiguous:
        lens = Strided(new_shape, tuple([step for step, _ in steps]))
        return whole.view_through(lens, writable=writeable)
    made = stride_tricks.as_strided(held, new_shape, new_strides, writeable=False)
    return Array(from_ndarray(made), writable=False)


def _check_inside(held: NDArray, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Raise where a layout leaves the memory of an array."""
    if len(shape) != len(strides):
        message = "shape and strides must have the same length"
        raise ValueError(message)
    if math.prod(shape) == 0:
        return
    root = held if held.base is None or not isinstance(held.base, np.ndarray) else held.base
    low, high = np.lib.array_utils.byte_bounds(root)
    reach = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    first = held.__array_interface__["data"][0] + sum(r for r in reach if r < 0)
    last = first + sum(abs(r) for r in reach) + held.itemsize
    if first < low or last > high:
        message = f"strides {strides} of shape {shape} leave the memory of the array"
        raise ValueError(message)
