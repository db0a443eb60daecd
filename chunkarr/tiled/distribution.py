"""Short rows at named places of what memory cannot keep: everything is gone through in order.

A row that is read or written for itself moves a page. To bring rows to other places is to sort them
(Aggarwal and Vitter, 1988), and takes so many passes over all of them instead:

1. Blocks of the places are put in order, as long as a task may hold, and it is noted how many
   places of each block lie in each stretch of the axis.
2. To take rows, the axis is gone through stretch by stretch. What all blocks name in one is taken
   together, and lies in scratch in the order of stretches, and of blocks within each of them.
3. Each block collects its rows from there, and lays them out as its places were.

Writing rows needs the first step, which then puts the values in order as well: each stretch of the
result takes what lies in it from each block, block after block, so that of several values for one
place the last stays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.node import Expr, Gather, Scatter
from chunkarr.grid import Grid, region_of, region_shape
from chunkarr.kernels.recipe import Recipe, bytes_extra
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Step, Touched
from chunkarr.storage.store import Box, Store
from chunkarr.tiled.builder import Builder

NDArray = npt.NDArray[Any]

PARTS = 2
"""A block, a stretch and what is taken together may each have one of so many parts of a share."""

BYTES_PLACE = 40
"""What a task holds for a place beside its row: as given, packed, shifted, and as an index."""

COUNTED = np.dtype(np.int32)
"""The dtype of numbers of places in a block."""

SECONDS_PER_PLACE = 30e-9
"""Sorting, taking and laying one row."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """How places and the axis that they name are cut."""

    blocks: Grid
    stretches: Grid

    @property
    def bits(self) -> int:
        """Low bits of a packed place, which say where in its block it stood."""
        return (self.blocks.chunk_shape[0] - 1).bit_length()

    @property
    def stood(self) -> int:
        """The mask of these bits."""
        return (1 << self.bits) - 1

    @property
    def bytes_table(self) -> int:
        """What a task holds to know which places of each block lie in each stretch."""
        cells = self.blocks.size * self.stretches.size
        return COUNTED.itemsize * cells + 64 * (self.blocks.size + self.stretches.size)

    @classmethod
    def of(cls, planner: Builder, node: Expr) -> Cuts | None:
        """Cut the places and the axis of a gather or scatter along its first axis.

        Gives None where a task cannot know where all blocks and stretches meet.
        """
        limits, count = planner.limits, node.operands[1].size
        (along, *_), row = node.operands[0].shape, node.nbytes // node.shape[0]
        unit = _unit_of(node, planner.target_of(node))
        most = min(limits.bytes_share, 16 * limits.chunk_bytes) // PARTS
        length = max(1, min(count, most // (BYTES_PLACE + row)))
        stretch = max(1, min(along, most // max(8, row)))
        if isinstance(node, Gather):
            length = max(length // unit * unit, unit)
        else:
            stretch = max(stretch // unit * unit, unit)
        cuts = cls(Grid((count,), (length,)), Grid((along,), (stretch,)))
        fits = cuts.bits < 31 and along.bit_length() + cuts.bits < 63
        return cuts if fits and cuts.bytes_table <= limits.bytes_share // PARTS else None


@dataclass(frozen=True, slots=True)
class Places:
    """Places in blocks, each in the order of what they name."""

    cuts: Cuts
    packed: Store
    """The place, and in the low bits where in its block it stood."""
    ends: Store
    """A row per block, a column per stretch: how many places lie before the stretch's end."""

    @property
    def boxes(self) -> list[Box]:
        """What a task may read of it."""
        return [(store, region_of(store.shape)) for store in (self.packed, self.ends)]

    def read_ends(self) -> NDArray:
        """Give how many places of each block lie before the end of each stretch."""
        return self.ends.read(region_of(self.ends.shape))

    def first(self, block: int) -> int:
        """Give where a block starts."""
        return block * self.cuts.blocks.chunk_shape[0]

    def named(self, start: int, stop: int, origin: int) -> NDArray:
        """Give places between two bounds, counted from one of the axis."""
        return (self.packed.read((slice(start, stop),)) >> self.cuts.bits) - origin


def edges(ends: NDArray, stretch: int) -> tuple[NDArray, NDArray]:
    """Give where in each block the places in one stretch begin and stop.

    >>> edges(np.array([[2, 5], [0, 1]]), 1)
    (array([2, 0]), array([5, 1]))
    """
    stops = ends[:, stretch]
    return (ends[:, stretch - 1] if stretch else np.zeros_like(stops)), stops


@dataclass(frozen=True, slots=True)
class SortPlaces:
    """Puts a block of places in order, and the values for them."""

    recipe: Recipe
    places: Places
    values: Recipe | None = None
    rows: Store | None = None

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        block = self.places.cuts.blocks.region(task)
        reads, writes = [*self.recipe.boxes(block)], [(self.places.packed, block)]
        writes.append((self.places.ends, self.places.ends.grid.region(task)))
        if self.values is not None and self.rows is not None:
            box = self.rows.grid.region(task)
            reads += self.values.boxes(box)
            writes.append((self.rows, box))
        return Touched(reads, writes)

    def run(self, task: int, context: Context) -> None:
        """Put one block in order."""
        context.check()
        cuts, ends = self.places.cuts, self.places.ends
        block = cuts.blocks.region(task)
        packed = np.array(self.recipe.evaluate(block), np.int64)
        packed <<= cuts.bits
        packed |= np.arange(packed.size)
        packed.sort()
        self.places.packed.write(block, packed)
        (along,), (length,) = cuts.stretches.shape, cuts.stretches.chunk_shape
        stops = np.minimum(np.arange(1, cuts.stretches.size + 1) * length, along)
        counts = np.searchsorted(packed, stops << cuts.bits)
        ends.write(ends.grid.region(task), counts.astype(COUNTED)[None])
        if self.values is not None and self.rows is not None:
            box = self.rows.grid.region(task)
            packed &= cuts.stood
            self.rows.write(box, np.asarray(self.values.evaluate(box))[packed])


@dataclass(frozen=True, slots=True)
class TakeRows:
    """Goes through the axis, and takes what any block names, stretch by stretch."""

    source: Store
    places: Places
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: any place, as only values tell which."""
        source = (self.source, region_of(self.source.shape))
        return Touched([source, *self.places.boxes], [(self.store, self.store.grid.region(task))])

    def run(self, task: int, context: Context) -> None:
        """Take so many rows."""
        region = self.store.grid.region(task)
        span, rest = region[0], region[1:]
        ends = self.places.read_ends()
        after = ends.sum(0, np.int64)
        out = np.empty(region_shape(region), self.store.dtype)
        stretches = range(
            int(np.searchsorted(after, span.start, "right")),
            int(np.searchsorted(after, span.stop)) + 1,
        )
        for stretch in stretches:
            origin, end = self.places.cuts.stretches.bounds(0, stretch)
            values = self.source.read((slice(origin, end), *rest))
            begins, stops = edges(ends, stretch)
            ahead = np.cumsum(stops - begins, dtype=np.int64) + after[stretch - 1] * (stretch > 0)
            # A block's places here stand at these of the result less those that are behind them.
            shifts = ahead - stops
            lows = np.maximum(begins, span.start - shifts)
            highs = np.minimum(stops, span.stop - shifts)
            for block in np.flatnonzero(lows < highs).tolist():
                context.check()
                low, high = int(lows[block]), int(highs[block])
                first, at = self.places.first(block), int(shifts[block]) - span.start
                named = self.places.named(first + low, first + high, origin)
                out[at + low : at + high] = values[named]
        self.store.write(region, out)


@dataclass(frozen=True, slots=True)
class CollectRows:
    """Brings the rows of a block into the order of its places."""

    taken: Store
    places: Places
    grid: Grid
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: any of what was taken, as only values tell which."""
        taken = (self.taken, region_of(self.taken.shape))
        return Touched([taken, *self.places.boxes], [(self.store, self.grid.region(task))])

    def run(self, task: int, context: Context) -> None:
        """Bring one block into order."""
        region, cuts = self.grid.region(task), self.places.cuts
        ends = self.places.read_ends()
        counts = np.diff(ends[task], prepend=0)
        after = ends.sum(0, np.int64)
        # Of each stretch those of the blocks behind this one lie behind its own.
        behind = np.diff(ends[task + 1 :].sum(0, np.int64), prepend=0)
        order = self.places.packed.read(region[:1]) & cuts.stood
        out, done = np.empty(region_shape(region), self.store.dtype), 0
        for stretch in np.flatnonzero(counts).tolist():
            context.check()
            count, stop = int(counts[stretch]), int(after[stretch] - behind[stretch])
            rows = self.taken.read((slice(stop - count, stop), *region[1:]))
            out[order[done : done + count]] = rows
            done += count
        self.store.write(region, out)


@dataclass(frozen=True, slots=True)
class LayRows:
    """Lays values over a stretch of a result, block after block."""

    base: Recipe
    rows: Store
    places: Places
    grid: Grid
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: any value, as only places tell which."""
        region, rows = self.grid.region(task), (self.rows, region_of(self.rows.shape))
        reads = [*self.base.boxes(region), rows, *self.places.boxes]
        return Touched(reads, [(self.store, region)])

    def run(self, task: int, context: Context) -> None:
        """Make one stretch of the result."""
        context.check()
        region = self.grid.region(task)
        out = np.array(self.base.evaluate(region), self.store.dtype)
        begins, stops = edges(self.places.read_ends(), task)
        for block in np.flatnonzero(begins < stops).tolist():
            context.check()
            first = self.places.first(block)
            start, stop = first + int(begins[block]), first + int(stops[block])
            named = self.places.named(start, stop, region[0].start)
            out[named] = self.rows.read((slice(start, stop), *region[1:]))
        self.store.write(region, out)


def _unit_of(node: Expr, target: Store | None) -> int:
    """Give the rows that a result's chunks have, 1 where it is written as one likes."""
    grid = None if target is None else target.write_grid
    cut = 1 if grid is None else grid.axes[0]
    return min(cut, max(1, node.shape[0])) if isinstance(cut, int) else 1


def _rows_of(shape: tuple[int, ...], cut: Grid) -> Grid:
    """Give the cut of rows that is one of their places."""
    return Grid(shape, (cut.axes[0], *(max(1, n) for n in shape[1:])))


def _emit_sorted(
    planner: Builder, node: Expr, cuts: Cuts, values: Expr | None = None
) -> tuple[Places, Store | None]:
    """Emit the sorting of blocks of places; gives them, and the values that were put in order."""
    index, table = node.operands[1], (cuts.blocks.size, cuts.stretches.size)
    recipe = planner.lowering(index.shape).recipe(index)
    packed = planner.scratch(index.shape, np.dtype(np.int64), cuts.blocks, "places in order", 4)
    ends = planner.scratch(table, COUNTED, Grid(table, (1, table[1])), "places", 4)
    laid, rows = None, None
    (length,) = cuts.blocks.chunk_shape
    recipes, held = [recipe], recipe.bytes_box((length,))
    if values is not None:
        cut = _rows_of(values.shape, cuts.blocks)
        laid = planner.lowering(values.shape).recipe(values)
        rows = planner.scratch(values.shape, values.dtype, cut, "values in order")
        recipes, held = [recipe, laid], held + laid.bytes_box(cut.chunk_shape)
        held += 2 * _bytes(cut, values)
    places = Places(cuts, packed, ends)
    creates = (packed, ends) if rows is None else (packed, ends, rows)
    step = Step(
        name="places in order",
        work=SortPlaces(recipe, places, laid, rows),
        tasks=cuts.blocks.size,
        bytes_task=held + BYTES_PLACE * length + 32 * table[1] + bytes_extra(recipes),
        where=node.where,
        creates=creates,
        bytes_read=sum(store.bytes_size for recipe in recipes for store in recipe.stores()),
        bytes_written=sum(store.bytes_size for store in creates),
        weight=length * SECONDS_PER_PLACE,
    )
    planner.add(step, node, _seconds(planner, index.size))
    return places, rows


def emit_take(planner: Builder, node: Gather, source: Store, cuts: Cuts) -> None:
    """Emit the reading of named rows of a store."""
    places, _ = _emit_sorted(planner, node, cuts)
    row = node.nbytes // node.shape[0]
    stretch = cuts.stretches.chunk_shape[0] * row
    length = max(1, min(node.shape[0], min(stretch, cuts.blocks.chunk_shape[0] * 8) // row))
    together = Grid((node.shape[0],), (length,))
    taken = planner.scratch(node.shape, node.dtype, _rows_of(node.shape, together), "rows")
    step = Step(
        name="rows in order",
        work=TakeRows(source, places, taken),
        tasks=together.size,
        bytes_task=stretch
        + (2 * row + BYTES_PLACE) * length
        + cuts.bytes_table
        + source.bytes_read_extra,
        where=node.where,
        creates=(taken,),
        bytes_read=source.bytes_size + places.packed.bytes_size,
        bytes_written=node.nbytes,
        weight=length * SECONDS_PER_PLACE,
    )
    planner.add(step, node, _seconds(planner, node.shape[0]))
    grid = _rows_of(node.shape, cuts.blocks)
    store = planner.place(node, grid)
    (block,) = cuts.blocks.chunk_shape
    step = Step(
        name=node.label,
        work=CollectRows(taken, places, grid, store),
        tasks=grid.size,
        bytes_task=(2 * row + BYTES_PLACE) * block + cuts.bytes_table,
        where=node.where,
        creates=(store,),
        bytes_read=node.nbytes + places.packed.bytes_size,
        bytes_written=store.bytes_size,
        weight=block * SECONDS_PER_PLACE,
    )
    planner.add(step, node, _seconds(planner, node.shape[0]), passes=3)
    planner.release((taken, places.packed, places.ends))


def emit_lay(planner: Builder, node: Scatter, cuts: Cuts) -> None:
    """Emit the writing of named rows over a base."""
    base, _, values = node.operands
    places, rows = _emit_sorted(planner, node, cuts, values)
    assert rows is not None
    recipe = planner.lowering(node.shape).recipe(base)
    grid = _rows_of(node.shape, cuts.stretches)
    store = planner.place(node, grid)
    row, (block,) = node.nbytes // node.shape[0], cuts.blocks.chunk_shape
    step = Step(
        name=node.label,
        work=LayRows(recipe, rows, places, grid, store),
        tasks=grid.size,
        bytes_task=recipe.bytes_box(grid.chunk_shape)
        + 2 * _bytes(grid, node)
        + (row + BYTES_PLACE) * block
        + cuts.bytes_table
        + bytes_extra([recipe]),
        where=node.where,
        creates=(store,),
        bytes_read=node.nbytes + rows.bytes_size + places.packed.bytes_size,
        bytes_written=store.bytes_size,
        weight=grid.chunk_shape[0] * SECONDS_PER_PLACE,
    )
    planner.add(step, node, _seconds(planner, node.shape[0]), passes=2)
    planner.release((rows, places.packed, places.ends))


def _bytes(grid: Grid, node: Expr) -> int:
    return math.prod(grid.chunk_shape) * node.dtype.itemsize


def _seconds(planner: Builder, places: int) -> float:
    return places * SECONDS_PER_PLACE / planner.limits.workers
