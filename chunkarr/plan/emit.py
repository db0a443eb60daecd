"""Emitters: from a group of jobs to steps, one function per kind of step.

Each chooses its cut, checks the bytes of a task against the limit (halving cells until they fit),
places the stores, lowers to recipes and appends steps to the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from chunkarr.expr.affine import Affine, Term
from chunkarr.expr.node import Compress, Expr, Reduce, Reshape, Scan
from chunkarr.grid import Grid, region_of, region_shape
from chunkarr.kernels import tier
from chunkarr.kernels.program import Program
from chunkarr.kernels.recipe import Recipe, StoreLeaf, bytes_cut, bytes_extra, bytes_loaded
from chunkarr.kernels.reducers import reducer_of
from chunkarr.plan.folds import combine, place_fold, reduce_outputs
from chunkarr.plan.grids import (
    bytes_wanted,
    choose_cut,
    joint_unit,
    preferred_cut,
    reads_per_chunk,
    shares_of,
    shrink,
    wish_for_whole,
    write_unit,
)
from chunkarr.plan.halo import elements_of_runs, find_reach, plan_visit, runs_of
from chunkarr.plan.jobs import Group, Job
from chunkarr.plan.works import (
    CompressWork,
    CountWork,
    MapOutput,
    Parts,
    ReduceOutput,
    ScanWork,
    Sweep,
    Whole,
)
from chunkarr.scheduler.steps import Step
from chunkarr.storage.reshaped import ReshapedStore
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner

READS_MAX = 3.0
"""A source whose chunks would be decoded more often is cut anew: read, written and read."""

BATCHED_BYTES_MIN = 4096
"""Cells smaller than this are made for tests of many chunks, and visited one by one."""

BATCH_BYTES = 1 << 19
"""Small cells are visited together up to about the size of a core's cache."""

SECONDS_PER_BYTE = 1 / 2.0e9
"""Rough cost of reading or writing a byte in memory, measured on one core of a 2024 server."""

SECONDS_PER_BYTE_STORED = 1 / 0.5e9
"""Rough cost of decoding or encoding a byte of a stored chunk."""

SECONDS_PER_OPERATION = 0.4e-9
"""Rough cost of one elementwise operation on one element."""


def wanted_elements(planner: Planner, recipes: Sequence[Recipe], stored: int = 0) -> int:
    """Give the elements of a cell so that its largest operand has about `chunk_bytes`."""
    sizes = [recipe.dtype.itemsize for recipe in recipes]
    sizes += [leaf.dtype.itemsize for recipe in recipes for leaf in recipe.leaves]
    limits = planner.limits
    most = min(limits.chunk_bytes, max(64, limits.bytes_share // 2))
    return max(1, most // max([1, stored, *sizes]))


def fit_cut(
    planner: Planner,
    cell: tuple[int, ...],
    unit: Sequence[int],
    bytes_of: Callable[[tuple[int, ...]], int],
    wish: Sequence[int] | None = None,
    shares: int = 1,
) -> tuple[int, ...]:
    """Halve a cell until a task stays within its share, or can be cut no more.

    Cells that follow the chunks that the sources `wish` for may take as many `shares`.
    """
    share = planner.limits.bytes_share
    cell = _halve(cell, joint_unit(unit, wish), bytes_of, share)
    return _halve(cell, unit, bytes_of, share * shares)


PARTS_MOVING = 4
"""A task that is over its share whatever its cell may take one of so many parts of it more."""


def _halve(
    cell: tuple[int, ...],
    unit: Sequence[int],
    bytes_of: Callable[[tuple[int, ...]], int],
    share: int,
) -> tuple[int, ...]:
    # What takes its bytes in the smallest cell as well is not made smaller for them.
    smallest = tuple(min(n, max(1, u)) for n, u in zip(cell, unit, strict=True))
    share = max(share, bytes_of(smallest) + share // PARTS_MOVING)
    while bytes_of(cell) > share:
        smaller = shrink(cell, unit)
        if smaller is None:
            break
        cell = smaller
    return cell


def sweep_grid(
    planner: Planner,
    shape: tuple[int, ...],
    recipes: Sequence[Recipe],
    outputs: Sequence[Store],
    reduced: Sequence[tuple[int, ...]],
) -> tuple[Grid, Callable[[tuple[int, ...]], int]]:
    """Choose the cut of a sweep; gives it with the bytes of a task."""
    unit = write_unit(shape, outputs)
    sizes = [recipe.dtype.itemsize for recipe in recipes]
    made = sizes[: len(sizes) - len(reduced)]
    # Reductions hold no result of a box, but what they fold may be made whole before.
    results = sum(made) + (max(sizes[len(made) :]) if reduced else 0)

    def bytes_of(cell: tuple[int, ...]) -> int:
        return bytes_loaded(recipes, cell) + math.prod(cell) * results

    def bytes_deciding(cell: tuple[int, ...]) -> int:
        return bytes_cut(recipes, cell) + math.prod(cell) * results

    if isinstance(unit, Grid):
        return unit, bytes_of
    wish = wish_for_whole(preferred_cut(recipes), shape, reduced)
    elements = wanted_elements(planner, recipes)
    runs = runs_of(recipes, shape)
    if not reduced:
        most = planner.limits.bytes_share // 2 // max(1, results)
        elements = max(elements, min(most, elements_of_runs(runs, unit, elements)))
    cell = choose_cut(shape, elements, unit, wish, reduced, runs)
    cell = fit_cut(planner, cell, unit, bytes_deciding, wish, shares_of(recipes))
    return Grid(shape, cell), bytes_of


def emit_sweep(planner: Planner, group: Group) -> None:
    """Emit one visit for all jobs of a group, then the merging of its reductions."""
    shape = group.jobs[0].shape
    maps, folds = group.rest
    axes = [job.node.axes for job in folds if isinstance(job.node, Reduce)]
    recipes = recipes_of(planner, shape, maps, folds)
    targets = [store for job in maps if (store := planner.target_of(job.node)) is not None]
    grid, bytes_of = sweep_grid(planner, shape, recipes, targets, axes)
    scratch = settle_rereads(planner, group, grid, recipes)
    if scratch:
        recipes = recipes_of(planner, shape, maps, folds)
    outputs, creates, places = outputs_of(planner, maps, folds, recipes, grid)
    batch = batch_of(grid, recipes, folds)
    work = Sweep(grid, outputs, batch=batch)
    _add_sweep(planner, group, work, creates, bytes_of(_batched(grid, batch)))
    planner.release(tuple(scratch))
    for job, place in zip(folds, places, strict=True):
        combine(planner, job, place)


def outputs_of(
    planner: Planner,
    maps: Sequence[Job],
    folds: Sequence[Job],
    recipes: Sequence[Recipe],
    grid: Grid,
) -> tuple[tuple[MapOutput | ReduceOutput, ...], list[Store], list[Parts | Whole]]:
    """Place what a visit makes; gives its outputs, their stores, and the places of reductions."""
    stores = [planner.place(job.node, grid) for job in maps]
    made = [MapOutput(recipe, store) for recipe, store in zip(recipes, stores, strict=False)]
    values = recipes[len(maps) :]
    places = [
        place_fold(planner, job, recipe, grid) for job, recipe in zip(folds, values, strict=True)
    ]
    creates = [*stores, *(store for place in places for store in place.stores)]
    return (*made, *reduce_outputs(folds, values, places)), creates, places


def batch_of(grid: Grid, recipes: Sequence[Recipe], folds: Sequence[Job]) -> int:
    """Choose how many cells to visit at once: small ones cost more to call than to compute."""
    positions = any(
        reducer_of(j.node.name).kind == "arg" for j in folds if isinstance(j.node, Reduce)
    )
    widths = [dtype.itemsize for r in recipes for dtype in (r.dtype, *r.program.inputs)]
    size = math.prod(grid.chunk_shape) * max(widths)
    decoded = any(not store.addressable for recipe in recipes for store in recipe.stores())
    if positions or decoded or not BATCHED_BYTES_MIN <= size <= BATCH_BYTES // 2:
        return 1
    return max(1, min(grid.size, BATCH_BYTES // size))


def _batched(grid: Grid, batch: int) -> tuple[int, ...]:
    """Give the shape of so many cells that follow each other."""
    shape = list(grid.chunk_shape)
    cut = [axis for axis, count in enumerate(grid.counts) if count > 1]
    if cut:
        shape[cut[-1]] *= batch
    return tuple(shape)


def recipes_of(
    planner: Planner,
    shape: tuple[int, ...],
    maps: Sequence[Job],
    folds: Sequence[Job],
    made: Expr | None = None,
) -> list[Recipe]:
    """Give the recipes of a visit's outputs, which find what was made before them, first `made`."""
    earlier: dict[int, int] = {} if made is None else {id(made): 0}
    shared: dict[StoreLeaf, StoreLeaf] = {}
    out = []
    for job in maps:
        out.append(planner.lowering(shape, dict(earlier), shared).recipe(job.node))
        earlier[id(job.node)] = len(earlier)
    fold_lowering = planner.lowering(shape, earlier, shared)
    values = {id(job.node.operands[0]): job.node.operands[0] for job in folds}
    of_value = {key: fold_lowering.recipe(value) for key, value in values.items()}
    return out + [of_value[id(job.node.operands[0])] for job in folds]


def _add_sweep(
    planner: Planner, group: Group, work: Sweep, creates: Sequence[Store], bytes_task: int
) -> None:
    recipes = [output.recipe for output in work.outputs]
    for recipe in recipes:
        # Kernels that are worth having are begun with the first piece.
        tier.request(recipe.program, math.prod(work.grid.shape))
    work, bytes_fixed = _with_cache(planner, work, recipes, bytes_task)
    elements = math.prod(work.grid.shape)
    mapped, stored = bytes_wanted(recipes)
    written = sum(store.bytes_size for store in creates)
    operations = sum(len(recipe.program.ops) + 1 for recipe in recipes)
    seconds = (
        elements * operations * SECONDS_PER_OPERATION
        + stored * SECONDS_PER_BYTE_STORED
        + (mapped + written) * SECONDS_PER_BYTE
    )
    node = group.jobs[0].node
    tasks = work.grid.size
    step = Step(
        name=group.label,
        work=work,
        tasks=tasks,
        bytes_task=bytes_task + bytes_extra(recipes),
        where=node.where,
        bytes_fixed=bytes_fixed,
        creates=tuple(creates),
        bytes_read=stored + mapped,
        bytes_written=written,
        weight=seconds / max(1, tasks),
    )
    planner.add(
        step, node, seconds / planner.limits.workers, array=_largest(recipes, work.grid.chunk_shape)
    )


def _largest(recipes: Sequence[Recipe], cell: tuple[int, ...]) -> str | None:
    """Describe the stored array whose chunks weigh most in a task."""
    leaves = [
        leaf
        for recipe in recipes
        for leaf in recipe.leaves
        if isinstance(leaf, StoreLeaf) and not leaf.store.addressable
    ]
    if not leaves:
        return None
    leaf = max(leaves, key=lambda leaf: leaf.bytes_box(cell) + leaf.store.bytes_read_extra)
    store = leaf.store
    return (
        f"{store.name} of shape {store.shape} and dtype {store.dtype} "
        f"in chunks of {store.grid.chunk_shape}"
    )


def _with_cache(
    planner: Planner, work: Sweep, recipes: Sequence[Recipe], bytes_task: int
) -> tuple[Sweep, int]:
    """Give a sweep whose reads cross chunk edges a cache and an order that suits it."""
    if work.batch > 1:
        return work, 0  # nothing is decoded, and small cells are visited in C order, many at once
    room = max(0, planner.bytes_free - 2 * bytes_task) // 4
    visit = plan_visit(work.grid, find_reach(recipes, work.grid), planner.limits, room)
    return replace(work, order=visit.order, cache_bytes=visit.cache_bytes), visit.bytes_fixed


# -- reading a source in another cut ------------------------------------------------------------


def settle_rereads(
    planner: Planner, group: Group, grid: Grid, recipes: Sequence[Recipe]
) -> list[Store]:
    """Cut sources anew whose chunks this sweep would decode again and again."""
    made: list[Store] = []
    seen: set[int] = set()
    for recipe in recipes:
        for position, times in reads_per_chunk(grid, recipe):
            leaf = recipe.leaves[position]
            assert isinstance(leaf, StoreLeaf)
            if times <= READS_MAX or id(leaf) in seen:
                continue
            seen.add(id(leaf))
            made.append(_cut_anew(planner, group.jobs[0].node, leaf, grid))
    return made


def _cut_anew(planner: Planner, node: Expr, leaf: StoreLeaf, grid: Grid) -> Store:
    """Copy what a leaf sees of a source, in tiles that respect its chunks and the reader's."""
    source = leaf.store
    box = leaf.affine.bounding(region_of(grid.shape))
    chunks, tiles = [], []
    for axis, (span, term) in enumerate(zip(box, leaf.affine.terms, strict=True)):
        ends = {
            min(source.grid.bounds(axis, i)[1], span.stop) - span.start
            for i in source.grid.span(axis, span.start, span.stop)
        }
        chunks.append(_lengths(ends))
        if term.axis >= 0 and abs(term.stride) == 1:
            for i in range(1, grid.counts[term.axis]):
                start = grid.bounds(term.axis, i)[0]
                at = term.offset + (start if term.stride > 0 else 1 - start) - span.start
                if 0 < at < span.stop - span.start:
                    ends.add(at)
        tiles.append(_lengths(ends))
    shape = region_shape(box)
    cut = Grid.from_sizes(chunks)
    name = f"{source.name} (cut anew)"
    scratch = planner.scratch(shape, source.dtype, Grid.from_sizes(tiles), name)
    starts = tuple(span.start for span in box)
    inside = Affine(shape, tuple(Term(axis, at, 1) for axis, at in enumerate(starts)))
    copy = Recipe(shape, (StoreLeaf(source, inside),), Program((source.dtype,), (), (0,)))
    terms = tuple(
        term._replace(offset=term.offset - at)
        for term, at in zip(leaf.affine.terms, starts, strict=True)
    )
    planner.recut[leaf] = StoreLeaf(scratch, Affine(leaf.affine.shape, terms))
    bytes_cell = math.prod(cut.chunk_shape) * source.dtype.itemsize
    step = Step(
        name="cut anew",
        work=Sweep(cut, (MapOutput(copy, scratch),)),
        tasks=cut.size,
        bytes_task=2 * bytes_cell + source.bytes_read_extra,
        where=node.where,
        creates=(scratch,),
        bytes_read=bytes_wanted([copy])[1],
        bytes_written=scratch.bytes_size,
        weight=bytes_cell * SECONDS_PER_BYTE_STORED,
    )
    seconds = step.weight * step.tasks / planner.limits.workers
    planner.add(step, node, seconds, array=_largest([copy], cut.chunk_shape))
    return scratch


def _lengths(ends: set[int]) -> list[int]:
    """Give the lengths between sorted ends, from zero."""
    marks = sorted(ends)
    return [b - a for a, b in zip([0, *marks], marks, strict=False)]


# -- the other kinds ----------------------------------------------------------------------------


def emit_scan(planner: Planner, group: Group) -> None:
    """Emit a cumulative operation: one task per lane."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Scan)
    recipe = planner.lowering(node.shape).recipe(node.operands[0])
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])

    def bytes_of(cell: tuple[int, ...]) -> int:
        return recipe.bytes_box(cell) + 2 * math.prod(cell) * node.dtype.itemsize

    def bytes_deciding(cell: tuple[int, ...]) -> int:
        return bytes_cut([recipe], cell) + 2 * math.prod(cell) * node.dtype.itemsize

    if isinstance(unit, Grid):
        grid = unit
    else:
        wish = preferred_cut([recipe])
        # Several lanes keep the workers busy where there are other axes than the scanned one.
        reduced = [(node.axis,)] if node.ndim > 1 else []
        elements, runs = wanted_elements(planner, [recipe]), runs_of([recipe], node.shape)
        cell = choose_cut(node.shape, elements, unit, wish, reduced, runs)
        shares = shares_of([recipe])
        grid = Grid(node.shape, fit_cut(planner, cell, unit, bytes_deciding, wish, shares))
    scratch = settle_rereads(planner, group, grid, [recipe])
    if scratch:
        recipe = planner.lowering(node.shape).recipe(node.operands[0])
    store = planner.place(node, grid)
    work = ScanWork(recipe, node.name, node.axis, grid, store)
    read = sum(bytes_wanted([recipe]))
    seconds = node.size * 2e-9 + read * SECONDS_PER_BYTE
    tasks = work.lanes.size
    step = Step(
        name=node.label,
        work=work,
        tasks=tasks,
        bytes_task=bytes_of(grid.chunk_shape) + bytes_extra([recipe]),
        where=node.where,
        creates=(store,),
        bytes_read=read,
        bytes_written=store.bytes_size,
        weight=seconds / max(1, tasks),
    )
    planner.add(step, node, seconds)
    planner.release(tuple(scratch))


def emit_compress(planner: Planner, group: Group) -> None:
    """Emit the selection of rows by a mask."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Compress)
    values, mask = node.operands
    sizes = [b - a for a, b in zip(node.offsets, node.offsets[1:], strict=False)]
    cut = Grid.from_sizes([sizes, *([n] for n in node.shape[1:])])
    wide = Grid(values.shape, (*node.bands.axes, *map(_whole, values.shape[mask.ndim :])))
    recipes = _pair(planner, values, mask)
    scratch = settle_rereads(planner, group, wide, recipes[:1])
    scratch += settle_rereads(planner, group, node.bands, recipes[1:])
    if scratch:
        recipes = _pair(planner, values, mask)
    store = planner.place(node, cut)
    work = CompressWork(recipes[0], recipes[1], node.bands, node.offsets, store)
    band = node.bands.chunk_shape
    box = (*band, *values.shape[len(band) :])
    held = 2 * math.prod(box) * values.dtype.itemsize + 2 * math.prod(band)
    bytes_read = sum(bytes_wanted(recipes))
    seconds = values.size * 2e-9 + bytes_read * SECONDS_PER_BYTE
    step = Step(
        name=node.label,
        work=work,
        tasks=node.bands.size,
        bytes_task=held
        + work.values.bytes_box(box)
        + work.mask.bytes_box(band)
        + bytes_extra(recipes),
        where=node.where,
        creates=(store,),
        bytes_read=bytes_read,
        bytes_written=store.bytes_size,
        weight=seconds / max(1, node.bands.size),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(tuple(scratch))


def _pair(planner: Planner, values: Expr, mask: Expr) -> list[Recipe]:
    shared: dict[StoreLeaf, StoreLeaf] = {}
    return [planner.lowering(node.shape, interned=shared).recipe(node) for node in (values, mask)]


def _whole(n: int) -> int:
    return max(1, n)


def emit_count(planner: Planner, node: Expr, bands: Grid) -> Store:
    """Emit the counting of a mask's true values in each band; gives where the counts are."""
    group = Group([Job.plain(node)])
    recipe = planner.lowering(node.shape).recipe(node)
    scratch = settle_rereads(planner, group, bands, [recipe])
    if scratch:
        recipe = planner.lowering(node.shape).recipe(node)
    shape = (bands.size,)
    counts = planner.scratch(shape, np.dtype(np.int64), Grid(shape, (1,)), "counts")
    box = bands.chunk_shape
    read = sum(bytes_wanted([recipe]))
    seconds = 1e-9 * node.size + read * SECONDS_PER_BYTE
    step = Step(
        name="count",
        work=CountWork(recipe, bands, counts),
        tasks=bands.size,
        bytes_task=recipe.bytes_box(box) + math.prod(box) + bytes_extra([recipe]),
        where=node.where,
        creates=(counts,),
        bytes_read=read,
        bytes_written=counts.bytes_size,
        weight=seconds / max(1, bands.size),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(tuple(scratch))
    return counts


def emit_reshape(planner: Planner, group: Group) -> None:
    """Emit a reshape: the operand is written once, in C order, and then seen under both shapes."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Reshape)
    operand = node.operands[0]
    stays = planner.stays(node)
    flat = planner.contiguous(operand.shape, operand.dtype, node.label, stays=stays)
    copy_sweep(planner, operand, flat)
    planner.adopt(node, ReshapedStore(flat, node.shape), flat)


def copy_sweep(planner: Planner, node: Expr, store: Store) -> None:
    """Emit a sweep that writes one value to a store."""
    recipe = planner.lowering(node.shape).recipe(node)
    grid, bytes_of = sweep_grid(planner, node.shape, [recipe], [store], [])
    group = Group([Job.plain(node)])
    scratch = settle_rereads(planner, group, grid, [recipe])
    if scratch:
        recipe = planner.lowering(node.shape).recipe(node)
    store.cut_in(grid)
    work = Sweep(grid, (MapOutput(recipe, store),))
    _add_sweep(planner, group, work, [store], bytes_of(grid.chunk_shape))
    planner.release(tuple(scratch))
