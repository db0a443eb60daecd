"""What is made of places: `indices`, `fromfunction`, and ogrid, mgrid, r_ and c_ by indexing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from chunkarr import namespace
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import convert, give, small
from chunkarr.expr.build import normalize_shape
from chunkarr.expr.node import Expr
from chunkarr.functions.creation import index_along
from chunkarr.functions.manipulation import stack
from chunkarr.whole import check_fit


def indices(dimensions: Any, dtype: Any = int, sparse: bool = False) -> Expr | tuple[Expr, ...]:
    """Give for each axis the array of positions along it."""
    lengths = normalize_shape(tuple(dimensions))
    if sparse:
        return tuple(
            index_along(tuple(n if i == axis else 1 for i, n in enumerate(lengths)), axis, dtype)
            for axis in range(len(lengths))
        )
    parts = [index_along(lengths, axis, dtype) for axis in range(len(lengths))]
    return stack(parts) if parts else index_along((0,), 0, dtype)


def fromfunction(
    function: Callable[..., Any],
    shape: Any,
    *,
    dtype: Any = float,
    like: Any = None,  # noqa: ARG001
    chunks: Any = None,
    **kwargs: Any,
) -> Any:
    """Call a function with one array of positions per axis."""
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    places = [wrap(index_along(lengths, axis, dtype)) for axis in range(len(lengths))]
    if chunks is not None:
        places = [place.rechunk(chunks) for place in places]
    return function(*places, **kwargs)


class Grid:
    """Makes coordinates from slices: `ogrid[0:3, 0:1:5j]`."""

    def __init__(self, *, sparse: bool) -> None:
        self.sparse = sparse

    def __getitem__(self, key: Any) -> Any:
        """Make the coordinates; a step of `nj` means n points, the last one included."""
        if not isinstance(key, tuple):
            return _points(key)
        if any(not isinstance(part, slice) for part in key):
            return give(np.ogrid[key] if self.sparse else np.mgrid[key])
        numbers = [v for part in key for v in (part.start, part.stop, part.step) if v is not None]
        kind = np.result_type(0, *(abs(v) if isinstance(v, complex) else v for v in numbers))
        lines = []
        for axis, part in enumerate(key):
            line = _line(part, kind)
            lines.append(line.reshape(tuple(-1 if i == axis else 1 for i in range(len(key)))))
        if self.sparse:
            return tuple(lines)
        shape = np.broadcast_shapes(*(line.shape for line in lines))
        return namespace.stack([namespace.broadcast_to(line, shape) for line in lines])


def _line(part: slice, kind: np.dtype[Any]) -> Any:
    start: Any = part.start or 0
    step: Any = 1 if part.step is None else part.step
    if np.iscomplexobj(step):
        count = int(abs(step))
        step = (part.stop - start) / float(count - 1) if count != 1 else 1
    else:
        count = math.ceil((part.stop - start) / step)
    line: Any = namespace.arange(count, dtype=kind)
    # NumPy stores the products in the common dtype.
    return (line * step + start).astype(kind)


def _points(part: Any) -> Any:
    start: Any = part.start or 0
    step: Any = part.step
    if not np.iscomplexobj(step):
        return namespace.arange(start, part.stop, 1 if step is None else step)
    count = int(abs(step))
    width = (part.stop - start) / float(count - 1) if count != 1 else count
    kind = np.result_type(start, part.stop, float(abs(step)))
    line: Any = namespace.arange(0, count, 1, dtype=kind)
    return line * width + start


class Joiner:
    """Joins what stands between brackets: `r_[a, 0, 1:5]` along the first axis, `c_` as columns."""

    def __init__(self, axis: int, ndmin: int, trans1d: int) -> None:
        self.axis, self.ndmin, self.trans1d = axis, ndmin, trans1d

    def __getitem__(self, key: Any) -> Any:
        """Join slices, numbers and arrays; a leading text such as "0,2" gives axis and axes."""
        items = key if isinstance(key, tuple) else (key,)
        axis, ndmin, trans1d = self.axis, self.ndmin, self.trans1d
        held = [item for item in items if isinstance(item, Array)]
        matrix = isinstance(items[0], str) and items[0] in ("r", "c") if items else False
        if not held or small(held) or matrix:
            if held:
                check_fit("r_", held, 2)
            numpy_key = tuple(convert(item, Array.compute) for item in items)
            joiner = np.r_ if (axis, ndmin) == (0, 1) else np.c_
            joined = joiner[numpy_key if isinstance(key, tuple) else numpy_key[0]]
            return joined if matrix else give(joined)
        if isinstance(items[0], str):
            values = [int(part) for part in items[0].split(",")]
            axis, ndmin, trans1d = (*values, *(axis, ndmin, trans1d)[len(values) :])
            items = items[1:]
        parts: list[Any] = []
        kinds: list[Any] = []
        for item in items:
            plain = isinstance(item, bool | int | float | complex)
            made: Any = _points(item) if isinstance(item, slice) else namespace.asarray(item)
            kinds.append(item if plain else made.dtype)
            short = ndmin - made.ndim
            if short > 0:
                made = made[(None,) * short]
                if trans1d != -1 and not plain:
                    made = made.transpose(_turned(ndmin, short, trans1d))
            parts.append(made)
        kind = np.result_type(*kinds)
        return namespace.concatenate([part.astype(kind) for part in parts], axis=axis)


def _turned(ndmin: int, short: int, place: int) -> list[int]:
    """Give the order of axes that puts an array's own axes at a place."""
    at = place + short + 1 if place < 0 else place
    axes = list(range(ndmin))
    return [*axes[:at], *axes[short:], *axes[at:short]]


class ndenumerate:  # noqa: N801 - NumPy's name
    """Goes over places and elements, a part of the array at a time."""

    def __init__(self, arr: Any) -> None:
        whole = namespace.asarray(arr)
        self._shape, self._flat = whole.shape, whole.reshape(-1)
        self._pairs = self._all()

    def _all(self) -> Iterator[tuple[tuple[int, ...], Any]]:
        places = np.ndindex(*self._shape)
        for start in range(0, self._flat.size, AT_ONCE):
            yield from zip(places, self._flat[start : start + AT_ONCE].compute(), strict=False)

    def __iter__(self) -> Self:
        """Go over the rest."""
        return self

    def __next__(self) -> tuple[tuple[int, ...], Any]:
        """Give the next place and element."""
        return next(self._pairs)


AT_ONCE = 1 << 16
"""Elements that are computed together where all are gone over one by one."""

ogrid, mgrid = Grid(sparse=True), Grid(sparse=False)
r_, c_ = Joiner(0, 1, -1), Joiner(-1, 2, 0)
