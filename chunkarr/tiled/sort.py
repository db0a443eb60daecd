"""Out-of-core sort of one axis by sorted runs, exact-rank splitters and a merge.

1. Runs as long as a task may hold are sorted and written to scratch.
2. For each boundary of the output's chunks, multisequence selection finds how many elements of each
   run lie before it (Varman et al., 1991): output chunk j gets exactly the ranks `j * c` to
   `(j + 1) * c`, so chunks are regular and need no rebalancing, unlike in a sample sort. Samples
   of each run, evenly spaced, bound the places to windows; only these are read again.
3. Each output chunk gathers its slice of every run and merges them.

Every element is read and written twice. Equal keys keep the order of the runs they come from.
An axis that fits a task together with others beside it is sorted lane by lane in one sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
Places = npt.NDArray[np.int64]
BOUNDARIES = 128
"""Boundaries that are searched together: the samples are read and put in order once for all."""

SECONDS_PER_ELEMENT = 60e-9
"""Sorting and merging one element, measured for float64 with `numpy.sort`."""


@dataclass(frozen=True, slots=True)
class SortCells:
    """Sorts each cell of a grid along one axis."""

    recipe: Recipe
    grid: Grid
    axis: int
    store: Store
    samples: Store | None = None
    """A row of evenly spaced elements of each cell, where there is one axis."""
    every: int = 0
    """How far these are apart: each is the last of so many."""

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        region = self.grid.region(task)
        written = [(self.store, region)]
        if self.samples is not None:
            written.append((self.samples, self.samples.grid.region(task)))
        return Touched([*self.recipe.boxes(region)], written)

    def run(self, task: int, context: Context) -> None:
        """Sort one cell."""
        context.check()
        region = self.grid.region(task)
        cell = np.array(self.recipe.evaluate(region))
        cell.sort(axis=self.axis)
        self.store.write(region, cell)
        if self.samples is not None:
            row = np.zeros((1, self.samples.shape[1]), cell.dtype)
            found = cell[self.every - 1 :: self.every]
            row[0, : len(found)] = found
            self.samples.write(self.samples.grid.region(task), row)


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
    samples: Store
    """One row of evenly spaced elements per run."""
    every: int

    def _batch(self, task: int) -> slice:
        return slice(task * BOUNDARIES, min(self.store.shape[0], (task + 1) * BOUNDARIES))

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        row = (self._batch(task), slice(0, self.cut.counts[0]))
        read = [(store, region_of(store.shape)) for store in (self.runs, self.samples)]
        return Touched(read, [(self.store, row)])

    def run(self, task: int, context: Context) -> None:
        """Find the places of a batch of boundaries."""
        batch, (length,) = self._batch(task), self.chunks.shape
        count = self.chunks.counts[0]
        rows = range(batch.start, batch.stop)
        ranks = np.array([self.chunks.bounds(0, j)[0] if j < count else length for j in rows])
        starts, stops = np.array([self.cut.bounds(0, i) for i in range(self.cut.counts[0])]).T
        table = self.samples.read(region_of(self.samples.shape))
        sizes = stops - starts
        kept = [row[: size // self.every] for row, size in zip(table, sizes, strict=True)]
        low, high = windows(kept, self.every, sizes, ranks)
        for row, rank in enumerate(ranks):
            context.check()
            spans = map(slice, (starts + low[row]).tolist(), (starts + high[row]).tolist())
            ends = np.cumsum(high[row] - low[row])
            # One buffer: of hundreds of small ones that come and go, heaps keep what was freed.
            parts = np.split(np.empty(ends[-1], self.runs.dtype), ends[:-1])
            for part, span in zip(parts, spans, strict=True):
                # Copied one by one: each may bring megabytes of pages that some count as ours.
                part[...] = self.runs.read((span,))
            low[row] += exact_split(parts, rank - low[row].sum())
        self.store.write((batch, slice(0, len(sizes))), low)


def windows(
    samples: Sequence[NDArray], every: int, sizes: Places, ranks: Places
) -> tuple[Places, Places]:
    """Give bounds of the places of each rank in each run, of which every so-many-th is a sample.

    Up to the q-th smallest of all samples there are at least `q * every` elements, and fewer than
    `(q + len(sizes)) * every`. So what comes before that sample is among the smallest of a rank
    that is not less than the latter, and what comes after it is not where the rank is not more
    than the former.

    >>> windows([np.array([3, 9]), np.array([4])], 2, np.array([5, 3]), np.array([2, 8]))
    (array([[0, 0],
           [2, 2]]), array([[4, 2],
           [5, 3]]))
    """
    total = sum(map(len, samples))
    below = np.clip(ranks // every - len(sizes), 0, total)
    above = -(-ranks // every)
    sooner, later = np.split(
        exact_splits(samples, np.concatenate([below, np.minimum(above, total)])), 2
    )
    high = np.where((above > total)[:, None], sizes, (later + 1) * every)
    return sooner * every, np.minimum(high, sizes)


def exact_splits(runs: Sequence[NDArray], ranks: Places) -> Places:
    """Give, for each rank, how many elements of each sorted run are among that many smallest.

    Ties are taken from earlier runs first.

    >>> exact_splits([np.array([1, 3, 3]), np.array([2, 3])], np.array([0, 3, 5])).tolist()
    [[0, 0], [2, 1], [3, 2]]
    """
    values, last = np.concatenate(runs), np.maximum(ranks, 1) - 1
    if not values.size:
        return np.zeros((len(ranks), len(runs)), np.int64)
    values.partition(np.unique(last))
    limits = values[last]
    less = np.stack([np.searchsorted(run, limits, "left") for run in runs], axis=1)
    ties = np.stack([np.searchsorted(run, limits, "right") for run in runs], axis=1) - less
    earlier = np.cumsum(ties, axis=1) - ties
    wanted = ranks[:, None] - less.sum(axis=1, keepdims=True)
    places: Places = less + np.clip(wanted - earlier, 0, ties)
    return places


def exact_split(runs: Sequence[NDArray], rank: int) -> Places:
    """Give how many elements of each sorted run are among the `rank` smallest of all."""
    places: Places = exact_splits(runs, np.array([rank]))[0]
    return places


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
    cut = Grid(node.shape, (max(most, math.isqrt(node.size)),))
    target = planner.target_of(node)
    unit = target.write_grid if target is not None else None
    chunks = unit if unit is not None else cut
    runs, samples, every = _emit_runs(planner, node, recipe, cut)
    places = _emit_splitters(planner, node, runs, chunks, samples, every)
    store = planner.place(node, chunks)
    planner.add(
        Step(
            name="merge runs",
            work=MergeRuns(runs, cut, places, chunks, store),
            tasks=chunks.size,
            bytes_task=3 * chunks.chunk_shape[0] * size,
            where=node.where,
            creates=(store,),
            bytes_read=node.nbytes,
            bytes_written=node.nbytes,
            weight=chunks.chunk_shape[0] * SECONDS_PER_ELEMENT,
        ),
        node,
        node.size * SECONDS_PER_ELEMENT / planner.limits.workers,
        passes=2,
    )
    planner.release((runs, samples, places))


def _emit_runs(planner: Builder, node: Expr, recipe: Recipe, cut: Grid) -> tuple[Store, Store, int]:
    """Emit the sort of runs; gives where they are, their samples, and how far these are apart."""
    (length,), size = cut.chunk_shape, node.dtype.itemsize
    # All samples and all windows of one boundary then take about as much.
    every = min(length, max(1, math.isqrt(planner.limits.bytes_share // (8 * size))))
    table = Grid((cut.size, length // every), (1, length // every))
    runs = planner.scratch(node.shape, node.dtype, cut, "sorted runs")
    samples = planner.scratch(table.shape, node.dtype, table, "samples")
    planner.add(
        Step(
            name="sort runs",
            work=SortCells(recipe, cut, 0, runs, samples, every),
            tasks=cut.size,
            bytes_task=recipe.bytes_box((length,)) + 3 * length * size,
            where=node.where,
            creates=(runs, samples),
            bytes_read=sum(store.bytes_size for store in recipe.stores()),
            bytes_written=node.nbytes,
            weight=length * SECONDS_PER_ELEMENT,
        ),
        node,
        node.size * SECONDS_PER_ELEMENT / planner.limits.workers,
    )
    return runs, samples, every


def _emit_splitters(
    planner: Builder, node: Expr, runs: Store, chunks: Grid, samples: Store, every: int
) -> Store:
    """Emit the search of the chunks' boundaries in the runs; gives where their places are."""
    cut = runs.grid
    table = (chunks.counts[0] + 1, cut.counts[0])
    batches = Grid(table, (BOUNDARIES, table[1]))
    places = planner.scratch(table, np.dtype(np.int64), batches, "splitters")
    # Two windows' lengths for each run, one more for each sample that lies between bounds.
    window = min(node.size, (2 * table[1] + 2) * every) * node.dtype.itemsize
    planner.add(
        Step(
            name="splitters",
            work=Splitters(runs, cut, chunks, places, samples, every),
            tasks=batches.size,
            bytes_task=100 * BOUNDARIES * table[1] + 4096 + 3 * samples.bytes_size + 3 * window,
            where=node.where,
            creates=(places,),
            bytes_written=places.bytes_size,
            weight=table[1] * 1e-3,
        ),
        node,
        batches.size * table[1] * 1e-3,
    )
    return places


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
