"""Out-of-core sort of one axis by sorted runs, exact-rank splitters and a merge.

1. Runs as long as a task may hold are sorted and written to scratch.
2. For each boundary of the output's chunks, multisequence selection finds how many elements of each
   run lie before it (Varman et al., 1991): output chunk j gets exactly the ranks `j * c` to
   `(j + 1) * c`, so chunks are regular and need no rebalancing, unlike in a sample sort.
3. Each output chunk gathers its slice of every run and merges them.

Every element is read and written twice. Equal keys keep the order of the runs they come from.
An axis that fits a task together with others beside it is sorted lane by lane in one sweep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.node import Algorithm, Expr
from chunkarr.grid import Grid, region_of, region_shape
from chunkarr.kernels.recipe import Recipe
from chunkarr.scheduler.steps import Context, Step, Touched
from chunkarr.storage.store import Store
from chunkarr.tiled.builder import Builder

NDArray = npt.NDArray[Any]
BOUNDARIES = 128
"""Boundaries that are searched together: each run is searched once per round for all of them."""

SECONDS_PER_ELEMENT = 60e-9
"""Sorting and merging one element, measured for float64 with `numpy.sort`."""


@dataclass(frozen=True, slots=True)
class SortCells:
    """Sorts each cell of a grid along one axis."""

    recipe: Recipe
    grid: Grid
    axis: int
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        region = self.grid.region(task)
        return Touched([*self.recipe.boxes(region)], [(self.store, region)])

    def run(self, task: int, context: Context) -> None:
        """Sort one cell."""
        context.check()
        region = self.grid.region(task)
        cell = np.array(self.recipe.evaluate(region))
        cell.sort(axis=self.axis)
        self.store.write(region, cell)


@dataclass(frozen=True, slots=True)
class Splitters:
    """Finds, for each boundary between output chunks, its place in every run."""

    runs: Store
    cut: Grid
    """The runs."""
    chunks: Grid
    """The output's chunks."""
    store: Store
    """One row per boundary, the outer two included; one column per run."""

    def _batch(self, task: int) -> slice:
        return slice(task * BOUNDARIES, min(self.store.shape[0], (task + 1) * BOUNDARIES))

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        row = (self._batch(task), slice(0, self.cut.counts[0]))
        return Touched([(self.runs, region_of(self.runs.shape))], [(self.store, row)])

    def run(self, task: int, context: Context) -> None:
        """Find the places of a batch of boundaries."""
        context.check()
        ends = [self.cut.bounds(0, i) for i in range(self.cut.counts[0])]
        runs = [self.runs.read((slice(start, stop),)) for start, stop in ends]
        batch = self._batch(task)
        count = self.chunks.counts[0]
        ranks = [
            self.chunks.bounds(0, row)[0] if row < count else self.chunks.shape[0]
            for row in range(batch.start, batch.stop)
        ]
        self.store.write((batch, slice(0, len(runs))), exact_splits(runs, np.array(ranks), context))


def exact_splits(
    runs: Sequence[NDArray], ranks: npt.NDArray[np.int64], context: Context | None = None
) -> npt.NDArray[np.int64]:
    """Give, for each rank, how many elements of each sorted run are among that many smallest.

    Narrows an interval per rank and run: the pivot is the weighted median of the intervals'
    middles, so a quarter of what is left goes in each round. Ties are taken from earlier runs
    first. All ranks go together, so that each run is searched once per round.

    >>> exact_splits([np.array([1, 3, 3]), np.array([2, 3])], np.array([0, 3, 5])).tolist()
    [[0, 0], [2, 1], [3, 2]]
    """
    sizes = np.array([len(run) for run in runs], np.int64)
    low = np.zeros((len(ranks), len(runs)), np.int64)
    high = np.broadcast_to(sizes, low.shape).copy()
    out = low.copy()
    left = np.arange(len(ranks))
    while left.size:
        if context is not None:
            context.check()
        width = high - low
        settled = ~width.any(axis=1)
        out[left[settled]] = low[settled]
        left, low, high, width = (part[~settled] for part in (left, low, high, width))
        if not left.size:
            break
        pivots = _pivots(_looking_up(runs, context), (low + high) // 2, width)
        less, more = _between(runs, pivots, context)
        rank = ranks[left][:, None]
        before, through = (part.sum(axis=1, keepdims=True) for part in (less, more))
        over, under = before > rank, through < rank
        found = ~(over | under)[:, 0]
        ties = more - less
        earlier = np.cumsum(ties, axis=1) - ties
        places = less + np.clip(rank - before - earlier, 0, ties)
        out[left[found]] = places[found]
        high = np.where(over, np.minimum(high, less), high)[~found]
        low = np.where(under, np.maximum(low, more), low)[~found]
        left = left[~found]
    return out


def _between(
    runs: Sequence[NDArray], pivots: NDArray, context: Context | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give how many elements of each run are less than each pivot, and not more than it."""
    less, more = (np.empty((len(pivots), len(runs)), np.int64) for _ in range(2))
    for column, run in enumerate(_looking_up(runs, context)):
        less[:, column] = np.searchsorted(run, pivots, "left")
        more[:, column] = np.searchsorted(run, pivots, "right")
    return less, more


def _looking_up(runs: Sequence[NDArray], context: Context | None) -> Iterator[NDArray]:
    """Give runs one by one: searching one of a file may bring all of its pages."""
    for run in runs:
        if context is not None:
            context.check()
        yield run


def _pivots(
    runs: Iterable[NDArray], middles: npt.NDArray[np.int64], width: npt.NDArray[np.int64]
) -> NDArray:
    """Give, for each row, the median of its middle elements weighted with the interval widths."""
    columns = [
        run[np.minimum(middle, len(run) - 1)] if len(run) else np.zeros(len(middle), run.dtype)
        for run, middle in zip(runs, middles.T, strict=True)
    ]
    values = np.stack(columns, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    weight = np.cumsum(np.take_along_axis(width, order, axis=1), axis=1)
    place = (weight * 2 >= weight[:, -1:]).argmax(axis=1)
    chosen = np.take_along_axis(order, place[:, None], axis=1)
    found: NDArray = np.take_along_axis(values, chosen, axis=1)[:, 0]
    return found


def exact_split(runs: Sequence[NDArray], rank: int) -> npt.NDArray[np.int64]:
    """Give how many elements of each sorted run are among the `rank` smallest of all."""
    found: npt.NDArray[np.int64] = exact_splits(runs, np.array([rank]))[0]
    return found


@dataclass(frozen=True, slots=True)
class MergeRuns:
    """Merges each output chunk from its slice of every run."""

    runs: Store
    cut: Grid
    places: Store
    chunks: Grid
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: any place of the runs, as only values tell which."""
        rows = (self.places, (slice(task, task + 2), slice(0, self.cut.counts[0])))
        runs = (self.runs, region_of(self.runs.shape))
        return Touched([rows, runs], [(self.store, self.chunks.region(task))])

    def run(self, task: int, context: Context) -> None:
        """Merge one chunk."""
        context.check()
        count = self.cut.counts[0]
        rows = self.places.read((slice(task, task + 2), slice(0, count)))
        region = self.chunks.region(task)
        merged = np.empty(region_shape(region), self.store.dtype)
        filled = 0
        for i in range(count):
            start = self.cut.bounds(0, i)[0]
            if rows[1, i] > rows[0, i]:
                span = slice(start + int(rows[0, i]), start + int(rows[1, i]))
                part = self.runs.read((span,))
                merged[filled : filled + len(part)] = part
                filled += len(part)
        # NumPy's stable sort finds the sorted stretches (timsort) or is a radix sort.
        merged.sort(kind="stable")
        self.store.write(region, merged)


def emit(planner: Builder, node: Expr) -> None:
    """Emit the steps of a sort."""
    assert isinstance(node, Algorithm)
    axis = dict(node.options)["axis"]
    recipe = planner.lowering(node.shape).recipe(node.operands[0])
    size = node.dtype.itemsize
    most = max(1, min(planner.limits.bytes_share, 16 * planner.limits.chunk_bytes) // (4 * size))
    if node.ndim > 1 or node.size <= most:
        _emit_lanes(planner, node, recipe, axis, most)
        return
    run = Grid(node.shape, (max(most, math.isqrt(node.size)),))
    runs = planner.scratch(node.shape, node.dtype, run, "sorted runs")
    seconds = node.size * SECONDS_PER_ELEMENT / planner.limits.workers
    cell = run.chunk_shape
    planner.add(
        Step(
            name="sort runs",
            work=SortCells(recipe, run, 0, runs),
            tasks=run.size,
            bytes_task=recipe.bytes_box(cell) + 3 * cell[0] * size,
            where=node.where,
            creates=(runs,),
            bytes_read=sum(store.bytes_size for store in recipe.stores()),
            bytes_written=node.nbytes,
            weight=cell[0] * SECONDS_PER_ELEMENT,
        ),
        node,
        seconds,
    )
    target = planner.target_of(node)
    unit = target.write_grid if target is not None else None
    chunks = unit if unit is not None else run
    rows = chunks.counts[0] + 1
    table = (rows, run.counts[0])
    cut = Grid(table, (BOUNDARIES, table[1]))
    places = planner.scratch(table, np.dtype(np.int64), cut, "splitters")
    planner.add(
        Step(
            name="splitters",
            work=Splitters(runs, run, chunks, places),
            tasks=cut.size,
            bytes_task=160 * BOUNDARIES * run.counts[0] + 4096,
            where=node.where,
            creates=(places,),
            bytes_written=places.bytes_size,
            weight=run.counts[0] * 1e-3,
        ),
        node,
        cut.size * run.counts[0] * 1e-3,
    )
    store = planner.place(node, chunks)
    planner.add(
        Step(
            name="merge runs",
            work=MergeRuns(runs, run, places, chunks, store),
            tasks=chunks.size,
            bytes_task=3 * chunks.chunk_shape[0] * size,
            where=node.where,
            creates=(store,),
            bytes_read=node.nbytes,
            bytes_written=node.nbytes,
            weight=chunks.chunk_shape[0] * SECONDS_PER_ELEMENT,
        ),
        node,
        seconds,
        passes=2,
    )
    planner.release((runs, places))


def _emit_lanes(planner: Builder, node: Expr, recipe: Recipe, axis: int, most: int) -> None:
    """Sort lanes that fit a task, as many at once as fit."""
    target = planner.target_of(node)
    unit = target.write_grid if target is not None else None
    cell = [1] * node.ndim if unit is None else list(unit.chunk_shape)
    if math.prod(cell) // cell[axis] * node.shape[axis] > most:
        # Lanes as wide as the target's chunks do not fit: it gets a copy of the sorted lanes.
        cell = [1] * node.ndim
    cell[axis] = max(1, node.shape[axis])
    for other in range(node.ndim - 1, -1, -1):
        if other != axis:
            rest = math.prod(cell) // cell[other]
            room = max(cell[other], most // rest // cell[other] * cell[other])
            cell[other] = max(1, min(node.shape[other], room))
    grid = Grid(node.shape, tuple(cell))
    store = planner.place(node, grid)
    elements = math.prod(cell)
    planner.add(
        Step(
            name=node.label,
            work=SortCells(recipe, grid, axis, store),
            tasks=grid.size,
            bytes_task=recipe.bytes_box(tuple(cell)) + 3 * elements * node.dtype.itemsize,
            where=node.where,
            creates=(store,),
            bytes_read=sum(s.bytes_size for s in recipe.stores()),
            bytes_written=node.nbytes,
            weight=elements * SECONDS_PER_ELEMENT,
        ),
        node,
        node.size * SECONDS_PER_ELEMENT / planner.limits.workers,
    )
