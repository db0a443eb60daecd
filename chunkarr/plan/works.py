"""What steps do: the few kinds of work that every plan is made of.

`Sweep` visits an index space once, cell by cell, and makes any number of outputs from it: stored
arrays and partial reductions. `Combine` merges partial reductions in a fixed tree. `ScanWork`
carries a running value along an axis. `CompressWork` writes selected rows at known offsets.
All are plain data: recipes, grids and stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from chunkarr.floats import naming
from chunkarr.grid import Cell, Grid, Region, region_of, region_shape
from chunkarr.kernels.evaluate import State, reduce_regions, reducer_of, tree_merge
from chunkarr.kernels.recipe import Recipe
from chunkarr.kernels.reducers import tell_variance
from chunkarr.plan.halo import visited
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Touched
from chunkarr.storage.arena import task_arena
from chunkarr.storage.chunkcache import chunk_cache
from chunkarr.storage.store import Box, Store

NDArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class MapOutput:
    """A result written to a store over the same index space."""

    recipe: Recipe
    store: Store

    @property
    def stores(self) -> tuple[Store, ...]:
        """The store, as the only one."""
        return (self.store,)

    def writes(self, region: Region, _: int) -> Iterator[Box]:
        """Give what is written for a box."""
        yield self.store, region

    def run(self, region: Region, earlier: list[NDArray], loaded: dict[int, NDArray]) -> NDArray:
        """Make one box, write it, and give it back for later outputs of the step."""
        if self.store.in_memory:
            return self.recipe.evaluate(region, self.store.read(region), earlier, loaded)
        out: NDArray | None = None
        if not self.recipe.trivial:
            out = task_arena.empty(region_shape(region), self.recipe.dtype)
        value = self.recipe.evaluate(region, out, earlier, loaded)
        self.store.write(region, value)
        return value


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the states of a partial reduction go: a store for each component.

    The stores have a leading axis: one row for each cell along the reduced axes, in C order.
    """

    stores: tuple[Store, ...]

    def writes(self, kept: Region, row: int) -> Iterator[Box]:
        """Give what is written for a cell."""
        for store in self.stores:
            yield store, (slice(row, row + 1), *kept)

    def put(self, kept: Region, rows: slice, state: State) -> None:
        """Write the states of cells in as many rows."""
        for store, part in zip(self.stores, state, strict=True):
            store.write((rows, *kept), part)


@dataclass(frozen=True, slots=True)
class Whole:
    """Where the value of a reduction goes of which each cell has all: nothing is left to merge."""

    reducer: str
    store: Store
    ddof: float = 0

    @property
    def stores(self) -> tuple[Store, ...]:
        """The store, as the only one."""
        return (self.store,)

    def writes(self, kept: Region, _: int) -> Iterator[Box]:
        """Give what is written for a cell."""
        yield self.store, kept

    def put(self, kept: Region, _: slice, state: State) -> None:
        """Write the value of a cell, whose state is in the only row."""
        row = tuple(part[0] for part in state)
        value = _finish(reducer_of(self.reducer).kind, row, self.ddof)
        self.store.write(kept, value.astype(self.store.dtype, copy=False))


@dataclass(frozen=True, slots=True)
class ReduceOutput:
    """Reductions of the same values of each cell, and where each of them goes."""

    recipe: Recipe
    axes: tuple[int, ...]
    reducers: tuple[str, ...]
    places: tuple[Parts | Whole, ...]

    @property
    def stores(self) -> tuple[Store, ...]:
        """All stores."""
        return tuple(store for place in self.places for store in place.stores)

    def writes(self, region: Region, row: int) -> Iterator[Box]:
        """Give what is written for a box."""
        for place in self.places:
            yield from place.writes(self._kept(region), row)

    def _kept(self, region: Region) -> Region:
        return tuple(s for axis, s in enumerate(region) if axis not in self.axes)

    def run(
        self, region: Region, earlier: list[NDArray], loaded: dict[int, NDArray], row: int
    ) -> None:
        """Reduce one box into its row."""
        states = reduce_regions(
            self.recipe.program,
            self.reducers,
            self.recipe.load(region, earlier, loaded),
            region_shape(region),
            self.axes,
            origin=tuple(s.start for s in region),
            extent=self.recipe.shape,
        )
        self.write(region, states, row)

    def write(self, region: Region, states: Sequence[State], row: int) -> None:
        """Write the states of one box into its row."""
        for place, state in zip(self.places, states, strict=True):
            one = tuple(part[None] for part in state)
            place.put(self._kept(region), slice(row, row + 1), one)

    def run_many(self, region: Region, arrays: list[NDArray], run: Run, row: int) -> None:
        """Reduce the cells of a run, each into its row, in one call.

        The axis they follow each other on is split in two, of which the outer one is kept: every
        cell is reduced in its own order, and so to its own bits.
        """
        axis, count, length = run
        shape = list(region_shape(region))
        shape[axis : axis + 1] = [count, length]
        split = [_split(array, axis, count) for array in arrays]
        axes = tuple(a + (a >= axis) for a in self.axes)
        states = reduce_regions(self.recipe.program, self.reducers, split, tuple(shape), axes)
        lead = sum(a not in self.axes for a in range(axis))
        for place, state in zip(self.places, states, strict=True):
            many = tuple(np.moveaxis(part, lead, 0) for part in state)
            place.put(self._kept(region), slice(row, row + count), many)


class Run(NamedTuple):
    """Whole cells that follow each other along an axis."""

    axis: int
    cells: int
    length: int


def _split(array: NDArray, axis: int, count: int) -> NDArray:
    """Split an axis in two, the outer one of length `count`; an axis of length one in ones."""
    if array.ndim == 0:
        return array
    n = array.shape[axis]
    parts = (1, 1) if n == 1 else (count, n // count)
    return array.reshape(*array.shape[:axis], *parts, *array.shape[axis + 1 :])


@dataclass(frozen=True, slots=True)
class Sweep:
    """One visit of an index space: every cell's leaves are read once for all outputs."""

    grid: Grid
    outputs: tuple[MapOutput | ReduceOutput, ...]
    order: tuple[int, ...] | None = None
    """The axes from the slowest to the fastest visited, None for C order."""
    cache_bytes: int = 0
    """Decoded chunks to hold for neighbouring cells."""
    batch: int = 1
    """How many small cells to visit at once, in C order; each keeps its own bits."""

    def __post_init__(self) -> None:
        assert self.batch == 1 or self.order is None

    def run_range(self, start: int, stop: int, context: Context) -> None:
        """Visit cells in turn, runs of small ones together."""
        task = start
        # Where boxes are kept for a later run as they were written, they are written cell by cell.
        stores = [store for output in self.outputs for store in output.stores]
        single = self.batch == 1 or any(s.resumable and s.write_grid is None for s in stores)
        while task < stop:
            run = None if single else self._run_at(task, stop)
            if run is None:
                self.run(task, context)
                task += 1
            else:
                context.check()
                self._visit_many(task, run)
                task += run.cells

    def _run_at(self, task: int, stop: int) -> Run | None:
        """Give the whole cells that follow on from a task along the fastest axis that is cut."""
        counts = self.grid.counts
        axis = max((a for a, count in enumerate(counts) if count > 1), default=-1)
        length = self.grid.axes[axis] if axis >= 0 else 0
        if not isinstance(length, int) or not length:
            return None
        whole = self.grid.shape[axis] // length - task % counts[axis]
        count = min(self.batch, stop - task, whole)
        return Run(axis, count, length) if count > 1 else None

    def _visit_many(self, task: int, run: Run) -> None:
        cell = self.grid.cell(task)
        box = list(self.grid.region(cell))
        start = box[run.axis].start
        box[run.axis] = slice(start, start + run.cells * run.length)
        region = tuple(box)
        earlier: list[NDArray] = []
        loaded: dict[int, NDArray] = {}
        for output in self.outputs:
            if isinstance(output, MapOutput):
                earlier.append(output.run(region, earlier, loaded))
            elif run.axis in output.axes:
                arrays = output.recipe.load(region, earlier, loaded)
                output.run_many(region, arrays, run, self._row(output, cell))
            else:
                output.run(region, earlier, loaded, self._row(output, cell))

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        return self.touched_at(self.cell(task))

    def touched_at(self, cell: Cell) -> Touched:
        """Tell what making a cell reads and writes."""
        region = self.grid.region(cell)
        reads = {id(leaf): leaf for output in self.outputs for leaf in output.recipe.leaves}
        return Touched(
            [box for leaf in reads.values() for box in leaf.boxes(region)],
            [box for o in self.outputs for box in o.writes(region, self._row(o, cell))],
        )

    def _row(self, output: MapOutput | ReduceOutput, cell: Cell) -> int:
        """Give the row of a cell's partial state: its C-order place along the reduced axes."""
        row = 0
        for axis in output.axes if isinstance(output, ReduceOutput) else ():
            row = row * self.grid.counts[axis] + cell[axis]
        return row

    def row_at(self, output: ReduceOutput, region: Region) -> int:
        """Give the row of the partial state of the cell that a region is."""
        return self._row(output, cell_at(self.grid, region))

    def cell(self, task: int) -> Cell:
        """Give the cell that a task visits."""
        return visited(self.grid, self.order, task)

    def run(self, task: int, context: Context) -> None:
        """Make all outputs for one cell."""
        context.check()
        chunk_cache.hold(self.cache_bytes)
        self.make(self.cell(task), [])

    def make(self, cell: Cell, earlier: list[NDArray]) -> None:
        """Make all outputs for one cell; `earlier` has the values of it that are made already."""
        region = self.grid.region(cell)
        loaded: dict[int, NDArray] = {}
        for output in self.outputs:
            if isinstance(output, MapOutput):
                earlier.append(output.run(region, earlier, loaded))
            else:
                output.run(region, earlier, loaded, self._row(output, cell))


def cell_at(grid: Grid, region: Region) -> Cell:
    """Give the cell of a grid that a region is."""
    return tuple(
        grid.span(axis, span.start, span.start + 1).start for axis, span in enumerate(region)
    )


@dataclass(frozen=True, slots=True)
class Combine:
    """Merges the rows of partial states by an adjacent-pair tree and finishes the value."""

    reducer: str
    states: tuple[Store, ...]
    store: Store
    grid: Grid
    ddof: float = 0

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        region = self.grid.region(task)
        rows = slice(0, self.states[0].shape[0])
        return Touched([(s, (rows, *region)) for s in self.states], [(self.store, region)])

    def run(self, task: int, context: Context) -> None:
        """Merge one cell of the kept axes."""
        context.check()
        region = self.grid.region(task)
        rows = slice(0, self.states[0].shape[0])
        reducer = reducer_of(self.reducer)
        state = tuple(store.read((rows, *region)) for store in self.states)
        value = _finish(reducer.kind, tree_merge(reducer, state), self.ddof)
        self.store.write(region, value.astype(self.store.dtype, copy=False))


def _finish(kind: str, state: State, ddof: float) -> NDArray:
    """Turn a whole state into the reduction's value."""
    if kind == "arg":
        return state[1]
    if kind == "var":
        tell_variance(state)
        count, _, m2, _ = state
        divisor = np.maximum(count - ddof, 0).astype(m2.dtype)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.true_divide(m2, divisor))
    return state[0]


@dataclass(frozen=True, slots=True)
class ScanWork:
    """A cumulative ufunc along an axis: each lane of cells is one task that carries its end.

    Carrying costs parallelism along the axis and gives NumPy's order of operations, hence NumPy's
    bits; the two-pass form of the parallel-scan literature would read everything twice.
    """

    recipe: Recipe
    ufunc: str
    axis: int
    grid: Grid
    store: Store

    @property
    def lanes(self) -> Grid:
        """The grid of tasks: all axes but the scanned one."""
        axes = tuple(
            max(1, n) if axis == self.axis else cut
            for axis, (cut, n) in enumerate(zip(self.grid.axes, self.grid.shape, strict=True))
        )
        return Grid(self.grid.shape, axes)

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        lane = self.lanes.region(task)
        cells = [region for _, region in self.grid.overlapping(lane)]
        return Touched([*self.recipe.boxes(lane)], [(self.store, region) for region in cells])

    def run(self, task: int, context: Context) -> None:
        """Scan one lane from its first cell to its last."""
        lane = self.lanes.cell(task)
        accumulate = getattr(np, self.ufunc).accumulate
        first = (slice(None),) * self.axis + (slice(0, 1),)
        last = (slice(None),) * self.axis + (slice(-1, None),)
        carry: NDArray | None = None
        for i in range(self.grid.counts[self.axis]):
            context.check()
            region = self.grid.region((*lane[: self.axis], i, *lane[self.axis + 1 :]))
            value = self.recipe.evaluate(region, np.empty(region_shape(region), self.recipe.dtype))
            if carry is not None:
                with naming("accumulate"):
                    value[first] = getattr(np, self.ufunc)(carry, value[first])
            accumulate(value, axis=self.axis, out=value)
            carry = value[last].copy()
            self.store.write(region, value)


@dataclass(frozen=True, slots=True)
class CountWork:
    """Counts the true values of a mask in each band."""

    mask: Recipe
    bands: Grid
    store: Store

    def run(self, task: int, context: Context) -> None:
        """Count one band."""
        context.check()
        found = np.count_nonzero(self.mask.evaluate(self.bands.region(task)))
        self.store.write((slice(task, task + 1),), np.array([found], np.int64))


@dataclass(frozen=True, slots=True)
class CompressWork:
    """Writes the rows that a mask selects; band b goes to `offsets[b]:offsets[b + 1]`."""

    values: Recipe
    mask: Recipe
    bands: Grid
    offsets: tuple[int, ...]
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        band = self.bands.region(task)
        rest = region_of(self.values.shape[len(band) :])
        taken = slice(self.offsets[task], self.offsets[task + 1])
        reads = [*self.values.boxes((*band, *rest)), *self.mask.boxes(band)]
        return Touched(reads, [(self.store, (taken, *rest))])

    def run(self, task: int, context: Context) -> None:
        """Select from one band."""
        context.check()
        start, stop = self.offsets[task], self.offsets[task + 1]
        if start == stop:
            return
        band = self.bands.region(task)
        rest = region_of(self.values.shape[len(band) :])
        # Where values and mask have the same axes, what both read is brought once.
        loaded: dict[int, NDArray] | None = None if rest else {}
        mask = self.mask.evaluate(band, None, (), loaded)
        chosen = self.values.evaluate((*band, *rest), None, (), loaded)[mask]
        self.store.write((slice(start, stop), *rest), chosen)
