"""A user's function on the chunks of arrays, with dask's rules of which chunks meet.

Arrays are aligned at their last axes, chunk number by chunk number; an axis of one chunk meets all
chunks of the others. Axes that the function drops are given to it as a whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from chunkarr.expr.build import caller
from chunkarr.expr.calls import WHOLE, Call, Laid, Made, Place
from chunkarr.expr.node import Blocks, Expr
from chunkarr.grid import Grid
from chunkarr.records import dataclass

Axis = int | tuple[int, ...]
Trim = tuple[int, int, bool]
"""What is cut off at the start and the end of an axis, and whether at the array's ends too."""


class Slot(NamedTuple):
    """Stands for an operand among the arguments of a call."""

    number: int


class Operand(NamedTuple):
    """An array whose chunks are given to the function."""

    expr: Expr
    laid: Grid
    """Which part of the expression belongs to each chunk."""
    seen: Grid
    """The chunks as the function sees them: wider than `laid` where it reads its neighbours."""
    reach: tuple[tuple[int, int], ...] = ()


class Layout(NamedTuple):
    """How chunks meet."""

    follows: tuple[tuple[int, ...], ...]
    """For each operand and axis, the axis of the result whose chunk it follows."""
    counts: tuple[int, ...]
    """Calls along each axis of the result."""
    grid: Grid
    """The chunks that the function gives."""


@dataclass(frozen=True, slots=True)
class BlockCaller:
    """Calls the user's function with the arguments of one place, and trims what it gives."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    wants: tuple[str, ...]
    """Which of `block_id` and `block_info` the function asks for."""
    seen: tuple[tuple[int, Grid, tuple[int, ...]], ...]
    """For each array, its number among the arguments, its chunks, and what their axes follow."""
    grid: Grid
    dtype: np.dtype[Any]
    trims: tuple[Trim, ...]

    def __call__(self, place: Place, *boxes: Any) -> Any:
        """Make one chunk."""
        args = [boxes[a.number] if isinstance(a, Slot) else a for a in self.args]
        kwargs = {k: boxes[v.number] if isinstance(v, Slot) else v for k, v in self.kwargs}
        if "block_id" in self.wants:
            kwargs["block_id"] = place.cell
        if "block_info" in self.wants:
            kwargs["block_info"] = self._info(place.cell)
        result = self.function(*args, **kwargs)
        return self._trimmed(result, place.cell) if self.trims else result

    def _info(self, cell: tuple[int, ...]) -> dict[int | None, dict[str, Any]]:
        info: dict[int | None, dict[str, Any]] = {}
        for number, grid, follows in self.seen:
            at = tuple(
                cell[f] if f != WHOLE and chunks(grid, axis) > 1 else 0
                for axis, f in enumerate(follows)
            )
            info[number] = _described(grid, at)
        info[None] = _described(self.grid, cell) | {
            "chunk-shape": tuple(b - a for a, b in _location(self.grid, cell)),
            "dtype": self.dtype,
        }
        return info

    def _trimmed(self, result: Any, cell: tuple[int, ...]) -> Any:
        key = []
        for axis, (n, at, (front, back, ends)) in enumerate(
            zip(np.shape(result), cell, self.trims, strict=True)
        ):
            first = front if ends or at > 0 else 0
            last = back if ends or at < chunks(self.grid, axis) - 1 else 0
            key.append(slice(first, n - last))
        return np.asarray(result)[tuple(key)]


def chunks(grid: Grid, axis: int) -> int:
    """Give the number of chunks along an axis; one of no elements counts as a chunk."""
    return max(1, grid.counts[axis])


def _described(grid: Grid, cell: tuple[int, ...]) -> dict[str, Any]:
    return {
        "shape": grid.shape,
        "num-chunks": tuple(chunks(grid, axis) for axis in range(len(grid.shape))),
        "array-location": _location(grid, cell),
        "chunk-location": cell,
    }


def _location(grid: Grid, cell: tuple[int, ...]) -> list[tuple[int, int]]:
    return [grid.bounds(axis, i) for axis, i in enumerate(cell)]


def lay_out(
    grids: Sequence[Grid],
    chunk_sizes: Any = None,
    drop_axis: Sequence[int] = (),
    new_axis: Sequence[int] | None = None,
) -> Layout:
    """Tell which chunks meet, and how the result is cut.

    Raises ValueError where the numbers of chunks differ and neither is one, and where `drop_axis`,
    `new_axis` and `chunk_sizes` do not go together.
    """
    ndim = max((len(grid.shape) for grid in grids), default=0)
    dropped = _dropped(drop_axis, ndim)
    cuts = {label: _longest(grids, label, ndim) for label in range(ndim)}
    _check_aligned(grids, cuts, ndim)
    kept: list[int | None] = [label for label in range(ndim) if label not in dropped]
    if new_axis is None:
        more = len(chunk_sizes) - len(kept) if chunk_sizes is not None else 0
        new_axis = range(max(0, more))
    for axis in sorted(new_axis):
        if not 0 <= axis <= len(kept):
            message = "New_axis values do not fill in all dimensions"
            raise ValueError(message)
        kept.insert(axis, None)
    if chunk_sizes is not None and len(chunk_sizes) != len(kept):
        message = f"Provided chunks have {len(chunk_sizes)} dims; expected {len(kept)} dims"
        raise ValueError(message)
    counts, shape, axes = [], [], []
    for axis, label in enumerate(kept):
        given = None if chunk_sizes is None else chunk_sizes[axis]
        n, cut, count = (
            _new_cut(1 if given is None else given)
            if label is None
            else _adjusted(cuts[label], given, axis)
        )
        counts.append(count)
        shape.append(n)
        axes.append(cut)
    spot = {label: axis for axis, label in enumerate(kept) if label is not None}
    follows = tuple(
        tuple(
            spot.get(axis + ndim - len(grid.shape), WHOLE) if chunks(grid, axis) > 1 else WHOLE
            for axis in range(len(grid.shape))
        )
        for grid in grids
    )
    return Layout(follows, tuple(counts), Grid(tuple(shape), tuple(axes)))


def _dropped(drop_axis: Sequence[int], ndim: int) -> set[int]:
    if any(not -ndim <= axis < ndim for axis in drop_axis):
        message = f"drop_axis out of range (drop_axis={list(drop_axis)}, but output is {ndim}d)."
        raise ValueError(message)
    return {axis % ndim for axis in drop_axis}


class Cut(NamedTuple):
    """One axis of a grid: its length, the sizes of its chunks, and their number."""

    n: int
    sizes: Axis
    number: int

    def listed(self) -> list[int]:
        """Give the size of each chunk."""
        if not isinstance(self.sizes, int):
            return list(self.sizes)
        return [min(self.sizes, self.n - i * self.sizes) for i in range(self.number)]


def _longest(grids: Sequence[Grid], label: int, ndim: int) -> Cut:
    """Give the cut of the array that has most chunks along an axis of the result."""
    best: Cut | None = None
    for grid in grids:
        axis = label - (ndim - len(grid.shape))
        if axis >= 0 and (best is None or chunks(grid, axis) > best.number):
            best = Cut(grid.shape[axis], grid.axes[axis], chunks(grid, axis))
    assert best is not None
    return best


def _check_aligned(grids: Sequence[Grid], cuts: Mapping[int, Cut], ndim: int) -> None:
    for label, cut in cuts.items():
        found = {
            chunks(grid, label - (ndim - len(grid.shape)))
            for grid in grids
            if label >= ndim - len(grid.shape)
        }
        if found - {1, cut.number}:
            message = (
                f"chunks do not align along axis {label}: the arrays have {sorted(found)} of them; "
                "rechunk one of them"
            )
            raise ValueError(message)


def _new_cut(given: Any) -> Cut:
    """Give the cut of an axis that the function adds."""
    return _cut_of([given] if isinstance(given, Integral) else list(given))


def _adjusted(cut: Cut, given: Any, axis: int) -> Cut:
    """Give the cut of an axis whose chunks the function makes of another size."""
    if given is None:
        return cut
    if callable(given):
        return _cut_of([given(n) for n in cut.listed()])
    if isinstance(given, Integral):
        size = _size(given)
        return Cut(size * cut.number, max(1, size), cut.number)
    if len(given) != cut.number:
        message = f"chunks has {len(given)} blocks on axis {axis}, the arrays have {cut.number}"
        raise ValueError(message)
    return _cut_of(list(given))


def _cut_of(sizes: Sequence[Any]) -> Cut:
    made = tuple(_size(n) for n in sizes)
    if len(set(made[:-1])) <= 1 and 0 < made[-1] <= made[0]:
        return Cut(sum(made), made[0], len(made))
    return Cut(sum(made), made, len(made))


def _size(given: Any) -> int:
    if not isinstance(given, Integral) or given < 0:
        message = f"chunk size {given!r}: give integers; sizes that follow from values are unknown"
        raise ValueError(message)
    return int(given)


def block_calls(
    function: Callable[..., Any],
    operands: Sequence[Operand],
    layout: Layout,
    dtype: np.dtype[Any],
    *,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    wants: tuple[str, ...] = (),
    trims: tuple[Trim, ...] = (),
) -> tuple[Expr, Grid]:
    """Call a function for each chunk of the result; gives the result and its cut.

    `args` and `kwargs` are the function's, with a `Slot` for each operand. Operands beyond those of
    the layout are given as a whole.
    """
    given = _trimmed_grid(layout.grid, trims)
    wholes = [(WHOLE,) * o.expr.ndim for o in operands[len(layout.follows) :]]
    laid = [
        Laid(o.laid, f, o.reach) for o, f in zip(operands, (*layout.follows, *wholes), strict=True)
    ]
    places = {a.number: at for at, a in enumerate(args) if isinstance(a, Slot)}
    calling = BlockCaller(
        function,
        args,
        tuple(kwargs.items()),
        wants,
        tuple(
            (places[i], _met(o.seen, f), f)
            for i, (o, f) in enumerate(zip(operands, layout.follows, strict=False))
        ),
        layout.grid,
        dtype,
        trims,
    )
    follows = tuple(axis if n else WHOLE for axis, n in enumerate(given.shape))
    call = Call(
        calling,
        name,
        layout.counts,
        tuple(laid),
        (Made(dtype, Laid(given, follows)),),
        owns=True,
        placed=True,
    )
    made = Blocks(
        shape=given.shape,
        dtype=dtype,
        operands=tuple(o.expr for o in operands),
        line=caller(),
        call=call,
    )
    return made, given


def _met(grid: Grid, follows: tuple[int, ...]) -> Grid:
    """Give the cut of an array with whole axes where each call takes all of them."""
    axes = [
        max(1, n) if f == WHOLE else cut
        for n, cut, f in zip(grid.shape, grid.axes, follows, strict=True)
    ]
    return Grid(grid.shape, tuple(axes))


def _trimmed_grid(grid: Grid, trims: Sequence[Trim]) -> Grid:
    if not trims:
        return grid
    cuts = []
    for axis, (front, back, ends) in enumerate(trims):
        sizes = Cut(grid.shape[axis], grid.axes[axis], chunks(grid, axis)).listed()
        last = len(sizes) - 1
        cuts.append(
            _cut_of(
                [
                    n - (front if ends or i else 0) - (back if ends or i < last else 0)
                    for i, n in enumerate(sizes)
                ]
            )
        )
    return Grid(tuple(c.n for c in cuts), tuple(c.sizes for c in cuts))


def probe(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function on arrays of one zero each, to learn the dtype of what it gives.

    Raises ValueError that asks for the dtype where the function fails on them.
    """

    def shown(value: Any) -> Any:
        return np.zeros((1,) * value.ndim, value.dtype) if isinstance(value, Expr) else value

    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*map(shown, args), **{k: shown(v) for k, v in kwargs.items()})
    except Exception as error:
        message = (
            f"the dtype of what {function_name(function)} gives was not found by calling it on "
            f"arrays of length one, which raised {error!r}: give it by dtype="
        )
        raise ValueError(message) from error


def function_name(function: Callable[..., Any]) -> str:
    """Give the name of a function for people."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__)).strip("<>_") or "function"
