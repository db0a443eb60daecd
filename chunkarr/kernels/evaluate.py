"""Runs a program over arrays, and reduces it, in pieces that stay in the cache.

Two tiers give the same bits: this file's NumPy calls on pieces, and the compiled kernels of
`chunkarr.kernels.tier`, which are asked first. Memory beyond the results: a few pieces, and one
panel result per 1024 values (or 32 rows) of a region; with kept axes between reduced ones, also one
state per position of all axes but the innermost reduced ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from chunkarr.kernels import tier
from chunkarr.kernels.axes import Array, Reduction, collapse_reduction
from chunkarr.kernels.flags import settle
from chunkarr.kernels.layouts import Recipe, is_crossed, reduce_recipe
from chunkarr.kernels.maps import cut, grid_boxes, is_true_anywhere, map_into, piece_size, pieces_of
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import (
    PANEL,
    PANEL_ROWS,
    REDUCERS,
    Reducer,
    State,
    globalise_index,
    identity_state,
    merge,
    reduce_panels,
    reducer_of,
    tree_merge,
    tree_merge_axis,
    ufunc_reducer,
)
from chunkarr.kernels.stages import EXTRA
from chunkarr.kernels.users import RAISED

__all__ = [
    "EXTRA",
    "REDUCERS",
    "Reducer",
    "State",
    "identity_state",
    "map_into",
    "merge",
    "reduce_region",
    "reduce_regions",
    "reducer_of",
    "tree_merge",
    "ufunc_reducer",
]

STRIP = 512
"""Columns that a column-wise reduction takes at a time: whole cache lines, several pages."""

Box = tuple[slice, ...]


def _run_boxes(shape: tuple[int, ...], limit: int) -> Iterator[tuple[Box, int]]:
    """Cut index space into boxes that are runs of C order, with their numbers of positions.

    All runs but those at the end of an axis hold the same number; `limit` bounds it.
    """
    lengths, room = [1] * len(shape), max(1, limit)
    for axis in reversed(range(len(shape))):
        lengths[axis] = min(shape[axis], room)
        if lengths[axis] < shape[axis]:
            break
        room //= shape[axis]
    for box in grid_boxes(shape, tuple(lengths)):
        yield box, math.prod(s.stop - s.start for s in box)


def reduce_region(
    program: Program,
    reducer: Reducer | str,
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    origin: tuple[int, ...] | None = None,
    extent: tuple[int, ...] | None = None,
) -> State:
    """Evaluate a program with one result over `shape` and reduce it over `axes`.

    Gives state arrays of the kept axes' shape. For argmin and argmax, `origin` is the region's
    place in an array of shape `extent`, whose reduced axes the index then counts.
    """
    (state,) = reduce_regions(program, (reducer,), arrays, shape, axes, origin, extent)
    return state


def reduce_regions(
    program: Program,
    reducers: Sequence[Reducer | str],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    origin: tuple[int, ...] | None = None,
    extent: tuple[int, ...] | None = None,
) -> list[State]:
    """Reduce the same values in several ways, as `reduce_region` does it in each; gives all states.

    Where a kernel can, the values are read and computed once for all reducers.
    """
    wanted = [reducer_of(reducer) for reducer in reducers]
    different = tuple({reducer.name: reducer for reducer in wanted}.values())
    found = {}
    for reducer, state in zip(
        different, _reduce_all(program, different, arrays, shape, axes), strict=True
    ):
        if origin is not None and extent is not None:
            state = _in_all(reducer, state, axes, (shape, origin, extent))  # noqa: PLW2901
        found[reducer.name] = state
    return [found[reducer.name] for reducer in wanted]


def _reduce_all(
    program: Program,
    reducers: tuple[Reducer, ...],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    begin: bool = True,
) -> list[State]:
    """Give the states of a region; `begin` says whether a kernel may be loaded or compiled."""
    alone = len(reducers) == 1
    recipe = None
    if tier.mode() != "numpy":
        recipe = reduce_recipe(program, reducers, arrays, shape, axes)
    if recipe is not None and recipe.axes is not None and recipe.fits(arrays):
        kernel = recipe.entry.kernel
        if kernel is None and begin:
            kernel = tier.kernel_for(recipe.entry, recipe.elements)
        if kernel is not None:
            return _reduce_compiled(kernel, recipe, program, reducers, arrays, shape, axes)
        begin = False  # What does one of them alone is not worth compiling meanwhile.
    elif recipe is None and tier.mode() != "numpy" and is_crossed(program, arrays, shape, axes):
        dtype = program.dtype_of(program.results[0])
        made = np.empty(shape, dtype)
        map_into(program, arrays, [made])
        return _reduce_all(_itself(dtype), reducers, [made], shape, axes)
    if alone:
        return [_reduce_in_numpy(program, reducers[0], arrays, shape, axes)]
    return [
        _reduce_all(program, (reducer,), arrays, shape, axes, begin=begin)[0]
        for reducer in reducers
    ]


@functools.cache
def _itself(dtype: np.dtype[Any]) -> Program:
    """Give the program that gives its operand."""
    return Program((dtype,), (), (0,))


def _reduce_in_numpy(
    program: Program,
    reducer: Reducer,
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> State:
    kept = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    if 0 in kept:
        dtypes = reducer.state_dtypes(program.dtype_of(program.results[0]))
        return tuple(np.empty(kept, dtype) for dtype in dtypes)
    compiled = tier.mode() != "numpy"
    return _reduce_numpy(program, reducer, arrays, shape, axes, compiled=compiled)


def _reduce_compiled(
    kernel: tier.Kernel,
    recipe: Recipe,
    program: Program,
    reducers: tuple[Reducer, ...],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> list[State]:
    flat, flags = recipe.run_reduce(kernel, arrays)
    if flags & RAISED:
        return [_reduce_in_numpy(program, reducer, arrays, shape, axes) for reducer in reducers]
    if flags:
        is_true = functools.partial(is_true_anywhere, arrays=arrays, shape=shape)
        for reducer in reducers:
            again = functools.partial(
                _reduce_numpy, program, reducer, arrays, shape, axes, compiled=False
            )
            settle(program, reducer, flags, is_true, again)
    return _apart(recipe, flat, program, reducers)


def _apart(
    recipe: Recipe, flat: State, program: Program, reducers: Sequence[Reducer]
) -> list[State]:
    """Give the state of each reducer of what a kernel has left for all of them."""
    assert recipe.axes is not None
    dtype = program.dtype_of(program.results[0])
    states, place = [], 0
    for reducer in reducers:
        state = flat[place : place + len(reducer.state_dtypes(dtype))]
        place += len(state)
        if recipe.axes.groups:
            merged = _merge_outer(reducer, recipe.axes, state)
            state = tuple(s.reshape(recipe.kept) for s in merged)
        states.append(state)
    return states


def finish_states(
    recipe: Recipe,
    flat: State,
    program: Program,
    reducers: Sequence[Reducer],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    origin: tuple[int, ...],
    extent: tuple[int, ...],
) -> list[State]:
    """Give the states of a region from those that a kernel has left, as `reduce_regions` does."""
    return [
        _in_all(reducer, state, axes, (shape, origin, extent))
        for reducer, state in zip(reducers, _apart(recipe, flat, program, reducers), strict=True)
    ]


def _in_all(
    reducer: Reducer, state: State, axes: tuple[int, ...], cut: Sequence[tuple[int, ...]]
) -> State:
    """Count places from the origin of all that is reduced; `cut` is shape, origin and extent."""
    if reducer.kind != "arg":
        return state
    return state[0], globalise_index(state[1], *(tuple(t[axis] for axis in axes) for t in cut))


def _reduce_numpy(
    program: Program,
    reducer: Reducer,
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    compiled: bool,
) -> State:
    """Reduce in pieces; `compiled` says whether kernels may take part."""
    kept = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    reducing = _Reducing(program, reducer, arrays, shape, axes, compiled=compiled)
    return tuple(s.reshape(kept) for s in reducing.run())


def _merge_outer(reducer: Reducer, axes: Reduction, states: State) -> State:
    """Reduce the outer groups of reduced axes, from the inside out."""
    shape = [*axes.outer, math.prod(axes.columns)]
    inner = math.prod(axes.rows)
    for start, stop in reversed(axes.groups):
        count = math.prod(shape[start:stop])
        pre, post = math.prod(shape[:start]), math.prod(shape[stop:])
        states = tuple(s.reshape(pre, count, post) for s in states)
        if reducer.kind == "arg":
            offset = np.arange(count, dtype=np.int64).reshape(1, count, 1) * inner
            states = states[0], states[1] + offset
        states = tree_merge_axis(reducer, states, 1)
        inner *= count
        shape[start:stop] = [1] * (stop - start)
    return states


class _Reducing:
    """One region reduced with NumPy."""

    def __init__(
        self,
        program: Program,
        reducer: Reducer,
        arrays: Sequence[Array],
        shape: tuple[int, ...],
        axes: tuple[int, ...],
        *,
        compiled: bool,
    ) -> None:
        self.program, self.reducer, self.compiled = program, reducer, compiled
        self.arrays, self.axes = collapse_reduction(arrays, shape, axes)
        self.outer, self.rows, self.columns = self.axes.outer, self.axes.rows, self.axes.columns
        self.size = piece_size(program)
        self.dtype = program.dtype_of(program.results[0])
        self.plain = not program.ops

    def run(self) -> State:
        """Give the region's states."""
        return _merge_outer(self.reducer, self.axes, self._reduce_inner())

    def _reduce_inner(self) -> State:
        outer, rows, columns = (math.prod(s) for s in (self.outer, self.rows, self.columns))
        by_column = bool(self.columns)
        dtypes = self.reducer.state_dtypes(self.dtype)
        states = tuple(np.empty((outer, columns), dtype) for dtype in dtypes)
        whole = tuple(slice(0, n) for n in self.rows)
        if rows * columns <= self.size:
            strips = [(tuple(slice(0, n) for n in self.columns), columns)]
            batch = self.size // (rows * columns)
        else:
            batch = 1
            strips = list(_run_boxes(self.columns, max(STRIP, self.size // max(rows, PANEL_ROWS))))
        largest = max(count for _, count in strips)
        panel = PANEL_ROWS if by_column else PANEL
        rows_max = max(panel, self.size // (largest * panel) * panel)
        room = batch * min(rows, rows_max + panel) * largest
        self.scratch = np.empty(room, self.dtype)
        mixed = self.compiled
        self.pieces = pieces_of(self.program, self.arrays, room, direct=True, mixed=mixed)
        done = 0
        for outer_box, positions in _run_boxes(self.outer, batch):
            column = 0
            for strip, width in strips:
                target = tuple(s[done : done + positions, column : column + width] for s in states)
                runs = [(whole, rows)] if rows <= rows_max else _run_boxes(self.rows, rows_max)
                self._reduce_strip(outer_box, positions, runs, strip, width, target)
                column += width
            done += positions
        return states

    def _reduce_strip(
        self,
        outer_box: Box,
        positions: int,
        runs: Iterable[tuple[Box, int]],
        strip: Box,
        width: int,
        target: State,
    ) -> None:
        """Reduce all rows of some outer positions and a strip of columns into `target`.

        Runs of rows need not be whole panels: values beyond the last whole panel wait in front of
        the scratch for the next run. Only one outer position is taken then.
        """
        panel = PANEL_ROWS if self.columns else PANEL
        tail = (width,) if self.columns else ()
        parts: list[State] = []
        held = start = 0
        for box, count in runs:
            piece = self._evaluate((*outer_box, *box, *strip), held * width)
            total = held + count
            if piece is None:
                piece = self.scratch[: positions * total * width]
            values = piece.reshape(positions, total, *tail)
            whole = total if start + total == math.prod(self.rows) else total // panel * panel
            if whole:
                parts.append(reduce_panels(self.reducer, values[:, :whole], start))
            start, held = start + whole, total - whole
            if held:
                self.scratch[: held * width] = values[:, whole:].reshape(-1)
        joined = tuple(np.concatenate(s, axis=1) for s in zip(*parts, strict=True))
        for entry, state in zip(target, tree_merge_axis(self.reducer, joined, 1), strict=True):
            entry[...] = state.reshape(positions, width)

    def _evaluate(self, box: Box, offset: int) -> Array | None:
        """Evaluate a box; give the input itself where it is the result, else fill the scratch."""
        shape = tuple(s.stop - s.start for s in box)
        cuts = [cut(a, box) for a in self.arrays]
        if self.plain and offset == 0:
            found = cuts[self.program.results[0]]
            if found.shape == shape and found.flags.c_contiguous:
                return found
        out = self.scratch[offset : offset + math.prod(shape)].reshape(shape)
        self.pieces.run(cuts, [out])
        return None
