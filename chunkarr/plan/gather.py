"""Fancy indexing along one axis: reading and writing at places that an array names.

A task makes one box of the result. What it reads is named by data, so the operand has to be where
any row costs the same: in memory or in a mapped file. A stored source is copied there first, each
chunk once, unless so few places are named that reading their chunks is cheaper. Random access to
encoded chunks would decode each of them for each task. Short rows of what memory cannot keep, and
those that are written to many boxes, are brought into order before (`tiled/distribution`).
"""

from __future__ import annotations

import importlib
import math
import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.edges import grouped
from chunkarr.expr.node import Expr, Gather, Scatter
from chunkarr.grid import Grid, Region, region_of, region_shape
from chunkarr.kernels.recipe import Recipe, bytes_extra
from chunkarr.plan.emit import (
    READS_MAX,
    SECONDS_PER_BYTE,
    copy_sweep,
    fit_cut,
    wanted_elements,
)
from chunkarr.plan.grids import bytes_wanted, choose_cut, write_unit
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Step, Touched
from chunkarr.storage.pages import ask_for_places, is_scarce
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.jobs import Group
    from chunkarr.plan.planner import Planner
    from chunkarr.tiled import distribution

NDArray = npt.NDArray[Any]

PLACES_MADE = 256
"""So many places of a value that stands nowhere are rather computed than all of it stored."""

DECODED_MAX = 3
"""Where named places would decode each chunk more often, the array is copied to scratch first."""

STRETCH_BYTES = 2 << 20
"""So much of scratch is copied together: what is random in it is in order outside."""
STRETCH_BYTES_SEEN = 4 * STRETCH_BYTES
"""So much of a mapped file is looked at together."""


@dataclass(frozen=True, slots=True)
class GatherWork:
    """Takes rows of a store at named places."""

    source: Store | Recipe
    places: Recipe
    axis: int
    grid: Grid
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: any place, as only values tell which."""
        region = self.grid.region(task)
        anywhere = along(region, self.axis, self.source)
        source = self.source
        taken = source.boxes(anywhere) if isinstance(source, Recipe) else [(source, anywhere)]
        places = self.places.boxes((region[self.axis],))
        return Touched([*taken, *places], [(self.store, region)])

    def run(self, task: int, context: Context) -> None:
        """Make one box of the result."""
        context.check()
        region = self.grid.region(task)
        index = self.places.evaluate((region[self.axis],))
        before, after = region[: self.axis], region[self.axis + 1 :]
        taken = make if isinstance(self.source, Recipe) else pick
        self.store.write(region, taken(self.source, index, before, after))  # type: ignore[arg-type]


def along(region: Region, axis: int, source: Store | Recipe) -> Region:
    """Give a box that is as wide as what is read along one axis."""
    return (*region[:axis], slice(0, source.shape[axis]), *region[axis + 1 :])


def make(source: Recipe, index: NDArray, before: Region, after: Region) -> NDArray:
    """Compute named places of a value that stands nowhere, one by one."""
    shape = (*region_shape(before), len(index), *region_shape(after))
    out = np.empty(shape, source.dtype)
    lead: tuple[Any, ...] = (slice(None),) * len(before)
    for row, place in enumerate(index.tolist()):
        source.evaluate(
            (*before, slice(place, place + 1), *after), out[(*lead, slice(row, row + 1))]
        )
    return out


def pick(source: Store, index: NDArray, before: Region, after: Region) -> NDArray:
    """Read named places along the axis between two boxes of the other axes; each chunk once."""
    axis = len(before)
    lead: tuple[Any, ...] = (slice(None),) * axis
    everywhere = (*before, slice(0, source.shape[axis]), *after)
    if source.in_memory:
        return np.asarray(source.read(everywhere)[(*lead, index)])
    shape = (*region_shape(before), len(index), *region_shape(after))
    out = np.empty(shape, source.dtype)
    for start, stop, rows in _stretches(source, index, axis, out.nbytes // max(1, len(index))):
        part, places = source.seen((*before, slice(start, stop), *after)), index[rows] - start
        ask_for_places(part, axis, places)
        out[(*lead, rows)] = part[(*lead, places)]
    return out


def _stretches(
    source: Store, index: NDArray, axis: int, bytes_row: int
) -> Iterator[tuple[int, int, NDArray]]:
    """Give the places that lie near each other: from the first to behind the last, and which."""
    cut = source.grid.axes[axis]
    if source.addressable or source.passing:
        together = STRETCH_BYTES_SEEN if source.addressable else STRETCH_BYTES
        cut = max(1, together // max(1, bytes_row))
    if isinstance(cut, int):
        number, last = index // max(1, cut), source.shape[axis] // max(1, cut)
    else:
        number, last = np.searchsorted(source.grid.ends(axis), index, side="right"), len(cut)
    for _, rows in grouped(number, last):
        places = index[rows]
        yield int(places.min()), int(places.max()) + 1, rows


PLACES_LAID = 1 << 18
"""So many places are looked at together."""


@dataclass(frozen=True, slots=True)
class ScatterWork:
    """Lays values over named places, box by box of the result."""

    base: Recipe
    places: Store
    values: Store
    axis: int
    grid: Grid
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: any value, as only places tell which."""
        region = self.grid.region(task)
        places = (self.places, region_of(self.places.shape))
        values = (self.values, along(region, self.axis, self.values))
        return Touched([*self.base.boxes(region), places, values], [(self.store, region)])

    def run(self, task: int, context: Context) -> None:
        """Make one box of the result."""
        context.check()
        region = self.grid.region(task)
        out = np.array(self.base.evaluate(region), self.store.dtype)
        (count,) = self.places.shape
        # NumPy takes an index along one axis in order: of values for one place the last stays.
        for start in range(0, count, PLACES_LAID):
            context.check()
            self._lay(out, region, slice(start, min(count, start + PLACES_LAID)))
        self.store.write(region, out)

    def _lay(self, out: NDArray, region: Region, some: slice) -> None:
        """Lay the values for some of the places into a box."""
        index, span = self.places.read((some,)), region[self.axis]
        here = np.flatnonzero((index >= span.start) & (index < span.stop))
        before, after = region[: self.axis], region[self.axis + 1 :]
        # As many values as the box holds at a time, however often a place is named.
        most = span.stop - span.start
        for at in range(0, here.size, most):
            chosen = here[at : at + most]
            key: tuple[Any, ...] = (*(slice(None),) * self.axis, index[chosen] - span.start)
            out[key] = pick(self.values, chosen + some.start, before, after)


def emit_gather(planner: Planner, group: Group) -> None:
    """Emit the reading of named places."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Gather)
    operand, places = node.operands
    few = places.size * 4 <= operand.shape[node.axis] or places.size <= 1
    source: Store | Recipe
    scratch: tuple[Store, ...] = ()
    cuts = _cuts_of_reading(planner, node)
    if cuts is not None:
        source, scratch = _reachable(planner, operand, copy=True)
        _distribution().emit_take(planner, node, source, cuts)
        planner.release(scratch)
        return
    leaf = planner.plain_leaf(operand)
    recipe = planner.lowering(places.shape).recipe(places)
    if places.size <= PLACES_MADE and few and leaf is None:
        source = planner.lowering(operand.shape).recipe(operand)
        grid, bytes_task = _gather_cut(planner, node, recipe)
        extra = source.bytes_box((1,) * operand.ndim) + bytes_extra([source])
    else:
        copy = not few
        if leaf is not None and not leaf.addressable:
            grid, _ = _gather_cut(planner, node, recipe, leaf)
            copy |= _times_decoded(node, leaf, grid) > DECODED_MAX
        source, scratch = _reachable(planner, operand, copy=copy)
        grid, bytes_task = _gather_cut(planner, node, recipe, source)
        extra = source.bytes_read_extra
    store = planner.place(node, grid)
    seconds = node.size * 5e-9 + node.nbytes * SECONDS_PER_BYTE
    step = Step(
        name=node.label,
        work=GatherWork(source, recipe, node.axis, grid, store),
        tasks=grid.size,
        bytes_task=bytes_task + extra + bytes_extra([recipe]),
        where=node.where,
        creates=(store,),
        bytes_read=node.nbytes + sum(bytes_wanted([recipe])),
        bytes_written=store.bytes_size,
        weight=seconds / max(1, grid.size),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(scratch)


def _gather_cut(
    planner: Planner, node: Gather, places: Recipe, source: Store | None = None
) -> tuple[Grid, int]:
    """Choose the boxes of the result, of a store or of what is computed place by place.

    Gives the bytes of a task as well.
    """
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])
    size = node.dtype.itemsize

    def bytes_of(cell: tuple[int, ...]) -> int:
        rows = max(1, cell[node.axis])
        row = math.prod(cell) // rows * size
        brought = 0
        if source is not None and not source.addressable:
            chunk = source.grid.chunk_shape
            near = max(row * chunk[node.axis], math.prod(chunk) * size)
            brought = min(near, max(row, STRETCH_BYTES)) if source.passing else near
        return 2 * row * rows + brought + places.bytes_box((rows,)) + 40 * rows

    if isinstance(unit, Grid):
        return unit, bytes_of(unit.chunk_shape)

    def cut_by(unit: tuple[int, ...]) -> Grid:
        cell = choose_cut(node.shape, wanted_elements(planner, [], size), unit)
        return Grid(node.shape, fit_cut(planner, cell, unit, bytes_of))

    grid = cut_by(unit)
    times = _times_read(node, source, grid)
    if times > READS_MAX:
        # What is written in chunks that are narrow along the axis is made of wide boxes first.
        wide = cut_by((1,) * node.ndim)
        if READS_MAX * _times_read(node, source, wide) < times:
            grid = wide
    return grid, bytes_of(grid.chunk_shape)


def _times_read(node: Gather, source: Store | None, grid: Grid) -> float:
    """Estimate how often the boxes of a result read all of a map that memory cannot keep."""
    if (
        source is None
        or source.in_memory
        or not source.addressable
        or not is_scarce(source.bytes_size)
    ):
        return 1
    row = math.prod(node.shape[node.axis + 1 :]) * node.dtype.itemsize
    places = grid.chunk_shape[node.axis]
    pages = min(source.shape[node.axis] * row, places * (row + mmap.PAGESIZE))
    return grid.counts[node.axis] * pages / max(1, source.shape[node.axis] * row)


def _times_decoded(node: Gather, source: Store, grid: Grid) -> float:
    """Estimate how often the boxes of a result decode each chunk of its source, at random."""
    chunks = source.grid.counts[node.axis]
    touched = min(chunks, grid.chunk_shape[node.axis])
    return grid.size * touched / source.grid.size


def emit_scatter(planner: Planner, group: Group) -> None:
    """Emit the writing of named places."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Scatter)
    base, places, values = node.operands
    recipe = planner.lowering(node.shape).recipe(base)
    cuts = _cuts_of_writing(planner, node, recipe)
    if cuts is not None:
        _distribution().emit_lay(planner, node, cuts)
        return
    index, first = _reachable(planner, places, copy=True)
    source, second = _reachable(planner, values, copy=True)
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])
    size = node.dtype.itemsize

    def bytes_of(cell: tuple[int, ...]) -> int:
        return recipe.bytes_box(cell) + 3 * math.prod(cell) * size

    if isinstance(unit, Grid):
        grid = unit
    else:
        cell = choose_cut(node.shape, wanted_elements(planner, [recipe], size), unit)
        grid = Grid(node.shape, fit_cut(planner, cell, unit, bytes_of))
    store = planner.place(node, grid)
    seconds = node.size * 3e-9 + grid.size * places.size * 1e-9
    laid = min(places.size, PLACES_LAID)
    step = Step(
        name=node.label,
        work=ScatterWork(recipe, index, source, node.axis, grid, store),
        tasks=grid.size,
        bytes_task=bytes_of(grid.chunk_shape) + bytes_extra([recipe]) + 32 * laid,
        where=node.where,
        creates=(store,),
        bytes_read=node.nbytes + values.nbytes,
        bytes_written=store.bytes_size,
        weight=seconds / max(1, grid.size),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release((*first, *second))


PASSES = 4
"""Bringing places into order costs about as much as going over all that they name so often."""

ROW_BYTES_MAX = mmap.PAGESIZE
"""Longer rows are hardly more than the pages that they lie in."""


def _cuts_of_reading(planner: Planner, node: Gather) -> distribution.Cuts | None:
    """Cut named rows that are better brought into order: each would be read with its page."""
    operand, places = node.operands
    if places.size * mmap.PAGESIZE < PASSES * operand.nbytes:
        return None
    leaf = planner.plain_leaf(operand)
    if (leaf is not None and leaf.in_memory) or not is_scarce(operand.nbytes):
        return None
    return _cuts(planner, node)


def _cuts_of_writing(planner: Planner, node: Scatter, recipe: Recipe) -> distribution.Cuts | None:
    """Cut named rows that are better brought into order: each box would look at all places."""
    boxes = node.size // wanted_elements(planner, [recipe], node.dtype.itemsize)
    if node.operands[1].size <= PLACES_LAID or boxes <= BOXES_LOOKING:
        return None
    return _cuts(planner, node)


BOXES_LOOKING = 64
"""Looking through all places for so many boxes costs about as much as bringing them into order."""


def _cuts(planner: Planner, node: Gather | Scatter) -> distribution.Cuts | None:
    """Cut the places and the axis where these are short rows along the first one."""
    if node.axis or not 0 < node.nbytes // max(1, node.shape[0]) <= ROW_BYTES_MAX:
        return None
    found: distribution.Cuts | None = _distribution().Cuts.of(planner, node)
    return found


def _distribution() -> Any:
    """Give the module of what few plans need."""
    return importlib.import_module("chunkarr.tiled.distribution")


def _reachable(planner: Planner, node: Expr, *, copy: bool) -> tuple[Store, tuple[Store, ...]]:
    """Give a store from which any row of a node's value can be read, and what to free after."""
    leaf = planner.plain_leaf(node)
    if leaf is not None and (leaf.addressable or not copy):
        return leaf, ()
    scratch = planner.contiguous(node.shape, node.dtype, node.label)
    copy_sweep(planner, node, scratch)
    return scratch, (scratch,)
