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

from chunkarr.expr.affine import Affine
from chunkarr.expr.node import Compress, Contract, Expr, Reduce, Reshape, Scan
from chunkarr.grid import Grid
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import reducer_of
from chunkarr.plan.grids import (
    choose_cut,
    preferred_cut,
    reads_per_chunk,
    shrink,
    write_unit,
)
from chunkarr.plan.halo import find_reach, visiting_order
from chunkarr.plan.jobs import Group, Job
from chunkarr.plan.recipe import Recipe, StoreLeaf
from chunkarr.plan.works import (
    Combine,
    CompressWork,
    CountWork,
    MapOutput,
    MatmulWork,
    ReduceOutput,
    ScanWork,
    Sweep,
)
from chunkarr.scheduler.steps import Step
from chunkarr.storage.reshaped import ReshapedStore
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner

READS_MAX = 1.6
"""A source whose chunks would be decoded more often than this is cut anew first."""

TILE_SIDE_MIN = 256
"""Below this side a product's tiles no longer reach the rate of BLAS."""

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
) -> tuple[int, ...]:
    """Halve a cell until a task stays within its share, or can be cut no more."""
    share = planner.limits.bytes_share
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
    written = sum(store.dtype.itemsize for store in outputs if not store.in_memory)

    def bytes_of(cell: tuple[int, ...]) -> int:
        results = max((recipe.dtype.itemsize for recipe in recipes), default=1)
        own = math.prod(cell) * (written + (results if reduced or not outputs else 0))
        return sum(recipe.bytes_box(cell) for recipe in recipes) + own

    if isinstance(unit, Grid):
        return unit, bytes_of
    wish = preferred_cut(recipes)
    elements = wanted_elements(planner, recipes)
    cell = choose_cut(shape, elements, unit, wish, reduced)
    cell = fit_cut(planner, cell, unit, bytes_of)
    return Grid(shape, cell), bytes_of


def emit_sweep(planner: Planner, group: Group) -> None:
    """Emit one visit for all jobs of a group, then the merging of its reductions."""
    shape = group.jobs[0].shape
    maps = [job for job in group.jobs if not isinstance(job.node, Reduce)]
    folds = [job for job in group.jobs if isinstance(job.node, Reduce)]
    axes = [job.node.axes for job in folds if isinstance(job.node, Reduce)]
    recipes = _recipes(planner, shape, maps, folds)
    targets = [store for job in maps if (store := planner.target_of(job.node)) is not None]
    grid, bytes_of = sweep_grid(planner, shape, recipes, targets, axes)
    scratch = _settle_rereads(planner, group, grid, recipes)
    if scratch:
        recipes = _recipes(planner, shape, maps, folds)
    outputs: list[MapOutput | ReduceOutput] = []
    creates: list[Store] = []
    for job, recipe in zip(maps, recipes, strict=False):
        store = planner.place(job, grid)
        outputs.append(MapOutput(recipe, store))
        creates.append(store)
    states = []
    for job, recipe in zip(folds, recipes[len(maps) :], strict=True):
        output = _reduce_output(planner, job, recipe, grid)
        states.append(output)
        outputs.append(output)
        creates.extend(output.stores)
    _add_sweep(planner, group, Sweep(grid, tuple(outputs)), creates, bytes_of(grid.chunk_shape))
    planner.release(tuple(scratch))
    for job, output in zip(folds, states, strict=True):
        _combine(planner, job, output, grid)


def _recipes(
    planner: Planner, shape: tuple[int, ...], maps: Sequence[Job], folds: Sequence[Job]
) -> list[Recipe]:
    earlier: dict[int, int] = {}
    out = []
    for job in maps:
        out.append(planner.lowering(shape, dict(earlier)).recipe(job.node))
        earlier[id(job.node)] = len(earlier)
    out += [planner.lowering(shape, earlier).recipe(job.node.operands[0]) for job in folds]
    return out


def _reduce_output(planner: Planner, job: Job, recipe: Recipe, grid: Grid) -> ReduceOutput:
    node = job.node
    assert isinstance(node, Reduce)
    rows = math.prod(grid.counts[axis] for axis in node.axes)
    kept = [axis for axis in range(len(grid.shape)) if axis not in node.axes]
    shape = (rows, *(grid.shape[axis] for axis in kept))
    cut = Grid(shape, (1, *(grid.axes[axis] for axis in kept)))
    stores = tuple(
        planner.scratch(shape, dtype, cut, f"{node.label} parts")
        for dtype in reducer_of(node.name).state_dtypes(recipe.dtype)
    )
    return ReduceOutput(recipe, node.name, node.axes, stores)


def _combine(planner: Planner, job: Job, output: ReduceOutput, grid: Grid) -> None:
    node = job.node
    assert isinstance(node, Reduce)
    rows = output.stores[0].shape[0]
    width = sum(store.dtype.itemsize for store in output.stores)
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])
    if isinstance(unit, Grid):
        cut = unit
    else:
        elements = max(1, planner.limits.chunk_bytes // max(1, rows * width))
        kept = tuple(
            n for axis, n in enumerate(grid.chunk_shape) if axis not in node.axes
        )
        cut = Grid(node.shape, choose_cut(node.shape, elements, unit, kept))
    store = planner.place(job, cut)
    size = math.prod(cut.chunk_shape)
    step = Step(
        name=f"{node.label} merge",
        work=Combine(node.name, output.stores, store, cut, node.ddof),
        tasks=cut.size,
        bytes_task=2 * size * (rows * width + node.dtype.itemsize),
        where=node.where,
        creates=(store,),
        bytes_read=sum(s.bytes_size for s in output.stores),
        bytes_written=store.bytes_size,
        weight=size * rows * 4e-9,
    )
    planner.add(step, node, step.weight * cut.size)
    planner.release(output.stores)


def _add_sweep(
    planner: Planner, group: Group, work: Sweep, creates: Sequence[Store], bytes_task: int
) -> None:
    recipes = [output.recipe for output in work.outputs]
    work, bytes_fixed = _with_cache(planner, work, recipes, bytes_task)
    elements = math.prod(work.grid.shape)
    read: dict[int, Store] = {id(s): s for recipe in recipes for s in recipe.stores()}
    stored = sum(store.bytes_size for store in read.values() if not store.addressable)
    mapped = sum(store.bytes_size for store in read.values() if store.addressable)
    written = sum(store.bytes_size for store in creates)
    operations = sum(len(recipe.program.ops) + 1 for recipe in recipes)
    seconds = (
        elements * operations * SECONDS_PER_OPERATION
        + stored * SECONDS_PER_BYTE_STORED
        + (mapped + written) * SECONDS_PER_BYTE
    )
    names = dict.fromkeys(job.node.label for job in group.jobs)
    node = group.jobs[0].node
    tasks = work.grid.size
    step = Step(
        name=", ".join(names),
        work=work,
        tasks=tasks,
        bytes_task=bytes_task,
        where=node.where,
        bytes_fixed=bytes_fixed,
        creates=tuple(creates),
        bytes_read=stored + mapped,
        bytes_written=written,
        weight=seconds / max(1, tasks),
    )
    planner.add(step, node, seconds / planner.limits.workers)


def _with_cache(
    planner: Planner, work: Sweep, recipes: Sequence[Recipe], bytes_task: int
) -> tuple[Sweep, int]:
    """Give a sweep whose reads cross chunk edges a cache and an order that suits it."""
    reach = find_reach(recipes, work.grid)
    if not reach.axes:
        return work, 0
    limits = planner.limits
    room = max(0, planner.bytes_free - 2 * bytes_task) // 4
    copies = 1 if limits.shares_memory else limits.workers
    held = min(2 * reach.bytes_touched * max(1, limits.workers // copies), room // copies)
    order = visiting_order(work.grid, reach)
    return replace(work, order=order, cache_bytes=held), held * copies


# -- reading a source in another cut ------------------------------------------------------------


def _settle_rereads(
    planner: Planner, group: Group, grid: Grid, recipes: Sequence[Recipe]
) -> list[Store]:
    """Cut sources anew whose chunks this sweep would decode again and again."""
    made: list[Store] = []
    seen: set[int] = set()
    for recipe in recipes:
        for position, times in reads_per_chunk(grid, recipe):
            leaf = recipe.leaves[position]
            assert isinstance(leaf, StoreLeaf)
            if times <= READS_MAX or id(leaf.store) in seen:
                continue
            seen.add(id(leaf.store))
            if leaf.store.bytes_size <= planner.limits.bytes_share // 4:
                continue
            made.append(_cut_anew(planner, group.jobs[0].node, leaf, grid))
    return made


def _cut_anew(planner: Planner, node: Expr, leaf: StoreLeaf, grid: Grid) -> Store:
    """Copy a source to scratch, in tiles that both its chunks and the reader's cells respect."""
    source = leaf.store
    bounds = [
        {source.grid.bounds(axis, i)[1] for i in range(count)}
        for axis, count in enumerate(source.grid.counts)
    ]
    for axis, (along, offset, stride) in enumerate(leaf.affine.terms):
        if along < 0 or abs(stride) != 1:
            continue
        for i in range(1, grid.counts[along]):
            start = grid.bounds(along, i)[0]
            at = offset + start if stride > 0 else offset - start + 1
            if 0 < at < source.shape[axis]:
                bounds[axis].add(at)
    sizes = []
    for ends in bounds:
        marks = sorted(ends)
        sizes.append([b - a for a, b in zip([0, *marks], marks, strict=False)])
    tiles = Grid.from_sizes(sizes)
    scratch = planner.scratch(source.shape, source.dtype, tiles, f"{source.name} (cut anew)")
    planner.replace_store(source, scratch)
    copy = Recipe(
        source.shape,
        (StoreLeaf(source, Affine.identity(source.shape)),),
        Program((source.dtype,), (), (0,)),
    )
    cell = source.grid.chunk_shape
    step = Step(
        name="cut anew",
        work=Sweep(source.grid, (MapOutput(copy, scratch),)),
        tasks=source.grid.size,
        bytes_task=copy.bytes_box(cell) + math.prod(cell) * source.dtype.itemsize,
        where=node.where,
        creates=(scratch,),
        bytes_read=source.bytes_size,
        bytes_written=scratch.bytes_size,
        weight=math.prod(cell) * source.dtype.itemsize * SECONDS_PER_BYTE_STORED,
    )
    planner.add(step, node, step.weight * step.tasks / planner.limits.workers)
    return scratch


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

    if isinstance(unit, Grid):
        grid = unit
    else:
        wish = preferred_cut([recipe])
        # Several lanes keep the workers busy where there are other axes than the scanned one.
        reduced = [(node.axis,)] if node.ndim > 1 else []
        cell = choose_cut(node.shape, wanted_elements(planner, [recipe]), unit, wish, reduced)
        grid = Grid(node.shape, fit_cut(planner, cell, unit, bytes_of))
    store = planner.place(job, grid)
    work = ScanWork(recipe, node.name, node.axis, grid, store)
    read = sum(s.bytes_size for s in recipe.stores())
    seconds = node.size * 2e-9 + read * SECONDS_PER_BYTE
    tasks = work.lanes.size
    step = Step(
        name=node.label,
        work=work,
        tasks=tasks,
        bytes_task=bytes_of(grid.chunk_shape),
        where=node.where,
        creates=(store,),
        bytes_read=read,
        bytes_written=store.bytes_size,
        weight=seconds / max(1, tasks),
    )
    planner.add(step, node, seconds)


def emit_compress(planner: Planner, group: Group) -> None:
    """Emit the selection of rows by a mask."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Compress)
    values, mask = node.operands
    sizes = [b - a for a, b in zip(node.offsets, node.offsets[1:], strict=False)]
    cut = Grid.from_sizes([sizes, *([n] for n in node.shape[1:])])
    wide = Grid(values.shape, (*node.bands.axes, *map(_whole, values.shape[mask.ndim :])))
    recipes = [
        planner.lowering(values.shape).recipe(values),
        planner.lowering(mask.shape).recipe(mask),
    ]
    scratch = _settle_rereads(planner, group, wide, recipes[:1])
    scratch += _settle_rereads(planner, group, node.bands, recipes[1:])
    if scratch:
        recipes = [
            planner.lowering(values.shape).recipe(values),
            planner.lowering(mask.shape).recipe(mask),
        ]
    store = planner.place(job, cut)
    work = CompressWork(recipes[0], recipes[1], node.bands, node.offsets, store)
    band = node.bands.chunk_shape
    box = (*band, *values.shape[len(band) :])
    held = 2 * math.prod(box) * values.dtype.itemsize + 2 * math.prod(band)
    read = [*work.values.stores(), *work.mask.stores()]
    bytes_read = sum(s.bytes_size for s in read)
    seconds = values.size * 2e-9 + bytes_read * SECONDS_PER_BYTE
    step = Step(
        name=node.label,
        work=work,
        tasks=node.bands.size,
        bytes_task=held + work.values.bytes_box(box) + work.mask.bytes_box(band),
        where=node.where,
        creates=(store,),
        bytes_read=bytes_read,
        bytes_written=store.bytes_size,
        weight=seconds / max(1, node.bands.size),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(tuple(scratch))


def _whole(n: int) -> int:
    return max(1, n)


def emit_count(planner: Planner, node: Expr, bands: Grid) -> Store:
    """Emit the counting of a mask's true values in each band; gives where the counts are."""
    group = Group([Job.plain(node)])
    recipe = planner.lowering(node.shape).recipe(node)
    scratch = _settle_rereads(planner, group, bands, [recipe])
    if scratch:
        recipe = planner.lowering(node.shape).recipe(node)
    shape = (bands.size,)
    counts = planner.scratch(shape, np.dtype(np.int64), Grid(shape, (1,)), "counts")
    box = bands.chunk_shape
    read = sum(s.bytes_size for s in recipe.stores())
    seconds = 1e-9 * node.size + read * SECONDS_PER_BYTE
    step = Step(
        name="count",
        work=CountWork(recipe, bands, counts),
        tasks=bands.size,
        bytes_task=recipe.bytes_box(box) + math.prod(box),
        where=node.where,
        creates=(counts,),
        bytes_read=read,
        bytes_written=counts.bytes_size,
        weight=seconds / max(1, bands.size),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(tuple(scratch))
    return counts


def emit_contract(planner: Planner, group: Group) -> None:
    """Emit a matrix product: square output tiles, the contracted axis streamed."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Contract)
    left, right = node.operands
    depth = left.shape[-1]
    batch = node.shape[:-2]
    a = planner.lowering((*batch, node.shape[-2], depth)).recipe(left)
    b = planner.lowering((*batch, depth, node.shape[-1])).recipe(right)
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])
    size = node.dtype.itemsize
    most = max(1, min(planner.limits.bytes_share, 16 * planner.limits.chunk_bytes) // (5 * size))
    # A few tiles at least, so that more cores than one have work.
    side = max(1, min(math.isqrt(most), max(TILE_SIDE_MIN, -(-max(node.shape[-2:], default=1) // 4))))
    inner = min(max(1, depth), max(1, most // max(side, TILE_SIDE_MIN)))

    def bytes_of(cell: tuple[int, ...]) -> int:
        *lead, m, n = cell
        one = math.prod(lead)
        return (
            a.bytes_box((*lead, m, inner))
            + b.bytes_box((*lead, inner, n))
            + one * (m * inner + inner * n + 2 * m * n) * size
        )

    if isinstance(unit, Grid):
        grid = unit
    else:
        cell = [max(1, u) for u in unit]
        for axis in (-2, -1):
            reach = max(cell[axis], side // cell[axis] * cell[axis])
            cell[axis] = max(1, min(node.shape[axis], reach))
        grid = Grid(node.shape, fit_cut(planner, tuple(cell), unit, bytes_of))
    store = planner.place(job, grid)
    flops = 2.0 * node.size * depth
    passes = max(1, grid.counts[-1])
    step = Step(
        name=node.label,
        work=MatmulWork(a, b, grid, inner, store),
        tasks=grid.size,
        bytes_task=bytes_of(grid.chunk_shape),
        where=node.where,
        creates=(store,),
        bytes_read=left.nbytes * grid.counts[-1] + right.nbytes * grid.counts[-2],
        bytes_written=store.bytes_size,
        weight=flops / 3e10 / max(1, grid.size),
        blas=True,
    )
    planner.add(step, node, flops / 3e10 / planner.limits.workers, passes)


def emit_reshape(planner: Planner, group: Group) -> None:
    """Emit a reshape: the operand is written once, in C order, and then seen under both shapes."""
    (job,) = group.jobs
    node = job.node
    assert isinstance(node, Reshape)
    operand = node.operands[0]
    flat = planner.contiguous(operand.shape, operand.dtype, node.label)
    copy_sweep(planner, Job.plain(operand), flat)
    planner.adopt(job, ReshapedStore(flat, node.shape), flat)


def copy_sweep(planner: Planner, job: Job, store: Store) -> None:
    """Emit a sweep that writes one value to a store."""
    node = job.node
    recipe = planner.lowering(node.shape).recipe(node)
    grid, bytes_of = sweep_grid(planner, node.shape, [recipe], [store], [])
    group = Group([job])
    scratch = _settle_rereads(planner, group, grid, [recipe])
    if scratch:
        recipe = planner.lowering(node.shape).recipe(node)
    work = Sweep(grid, (MapOutput(recipe, store),))
    _add_sweep(planner, group, work, [store], bytes_of(grid.chunk_shape))
    planner.release(tuple(scratch))
