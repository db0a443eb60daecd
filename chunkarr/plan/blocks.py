"""Calls of a function on whole boxes: library routines on stacks of matrices, users' functions.

The operands' elementwise work is fused into reading their boxes, and several results of one call
are written by one task. A task declares its boxes, its results and what the function may hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.affine import Affine
from chunkarr.expr.build import plain
from chunkarr.expr.calls import STRETCH_BYTES, WHOLE, Call, Place
from chunkarr.expr.node import Blocks, Expr
from chunkarr.grid import Grid, Region, region_shape
from chunkarr.kernels.program import Program
from chunkarr.kernels.recipe import Recipe, StoreLeaf, bytes_extra
from chunkarr.plan.cored import in_one_kernel
from chunkarr.plan.emit import (
    SECONDS_PER_BYTE,
    SECONDS_PER_BYTE_STORED,
    copy_sweep,
    emit_sweep,
    fit_cut,
    settle_rereads,
)
from chunkarr.plan.finish import bytes_finish, finish, merge, room_finish
from chunkarr.plan.grids import bytes_wanted, choose_cut, preferred_cut, shares_of
from chunkarr.plan.halo import Reach, is_decoded, plan_visit, stored_leaves, visited
from chunkarr.plan.jobs import Group
from chunkarr.plan.works import Sweep, cell_at
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Step, Touched
from chunkarr.storage.arena import is_private
from chunkarr.storage.chunkcache import chunk_cache
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner

NDArray = npt.NDArray[Any]

CALL_BYTES = 1 << 16
"""A call on less than this costs more to make than to run."""

CALLS_WANTED = 32
"""Where boxes are large enough for it, there are so many calls that any workers share them."""

WHOLE_PARTS = 4
"""What every call takes as a whole is repaid by boxes of this part of its bytes."""

SECONDS_PER_BYTE_CALLED = 2e-9
"""Rough cost of a byte that an unknown function takes or gives."""


@dataclass(frozen=True, slots=True)
class BlocksWork:
    """Calls a function on the boxes of each cell of its tasks."""

    call: Call
    grid: Grid
    operands: tuple[Recipe, ...]
    results: tuple[tuple[int, Store], ...]
    """The results that are stored, by position, with where each goes."""
    order: tuple[int, ...] | None = None
    """The axes of tasks from the slowest to the fastest visited, None for C order."""
    cache_bytes: int = 0
    """Decoded chunks to hold for neighbours that read them as well."""
    finished: int = 0
    """The result that `then` is about."""
    then: Sweep | None = None
    """What is made of each box of a result."""

    def _boxes(self, cell: Region) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """Give the boxes of operands and of results for some tasks of the call."""
        reads = tuple(
            laid.region(cell, recipe.shape)
            for laid, recipe in zip(self.call.reads, self.operands, strict=True)
        )
        return reads, tuple(m.laid.region(cell, m.laid.grid.shape) for m in self.call.makes)

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        reads, makes = self._boxes(self.grid.region(visited(self.grid, self.order, task)))
        taken = zip(self.operands, reads, strict=True)
        read = [box for recipe, region in taken for box in recipe.boxes(region)]
        written = [(store, makes[position]) for position, store in self.results]
        if self.then is None:
            return Touched(read, written)
        more = self.then.touched_at(cell_at(self.then.grid, makes[self.finished]))
        return Touched([*read, *more.reads], [*written, *more.writes])

    def run(self, task: int, context: Context) -> None:
        """Make one call."""
        context.check()
        chunk_cache.hold(self.cache_bytes)
        cell = self.grid.region(visited(self.grid, self.order, task))
        reads, makes = self._boxes(cell)
        on_boxes = functools.partial(self._call, cell, reads, makes)
        if not in_one_kernel(self, reads, makes[0], on_boxes):
            on_boxes()

    def _call(self, cell: Region, reads: tuple[Region, ...], makes: tuple[Region, ...]) -> None:
        """Make one call on boxes."""
        call = self.call
        given: list[Any] = [
            _Stretches(recipe, box) if position in call.stretched else self._box(recipe, box)
            for position, (recipe, box) in enumerate(zip(self.operands, reads, strict=True))
        ]
        if call.placed:
            given.insert(0, Place(tuple(s.start for s in cell), reads, makes))
        result = call.function(*given, **dict(call.options))
        results = result if isinstance(result, tuple) else (result,)
        if len(results) != len(makes):
            message = f"{call.name} gave {len(results)} results where {len(makes)} were declared"
            raise ValueError(message)
        for position, store in self.results:
            store.write(makes[position], self._checked(results[position], position, makes))
        if self.then is not None:
            value = self._checked(results[self.finished], self.finished, makes)
            self.then.make(cell_at(self.then.grid, makes[self.finished]), [value])

    def _box(self, recipe: Recipe, region: Region) -> NDArray:
        """Bring one box of an operand; what others read as well is not lent for writing."""
        box = recipe.evaluate(region)
        if self.call.owns:
            return box if is_private(box) else box.copy()
        return _lent(box)

    def _checked(self, value: object, position: int, makes: Sequence[Region]) -> NDArray:
        """Give a result as the array that was declared, or refuse it."""
        result = plain(value)
        shape, dtype = region_shape(makes[position]), self.call.makes[position].dtype
        name = self.call.name
        if result.shape != shape:
            at = tuple((span.start, span.stop) for span in makes[position])
            message = f"{name} gave shape {result.shape} for a box of shape {shape}, at {at}"
            raise ValueError(message)
        if result.dtype == dtype:
            return result
        if not np.can_cast(result.dtype, dtype, "same_kind"):
            message = f"{name} gave dtype {result.dtype} where {dtype} was declared or found"
            raise TypeError(message)
        return result.astype(dtype)


class _Stretches:
    """The last axis of an operand that has nothing else; see `expr.calls.Stretches`."""

    def __init__(self, recipe: Recipe, region: Region) -> None:
        self._recipe, self._before, self._length = recipe, region[:-1], recipe.shape[-1]
        self.step = _stretch(recipe)

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> NDArray:
        """Bring a stretch, or a part of one."""
        return _lent(self._recipe.evaluate((*self._before, slice(start, stop))).reshape(-1))


def _stretch(recipe: Recipe) -> int:
    return max(1, STRETCH_BYTES // recipe.dtype.itemsize)


def _lent(box: NDArray) -> NDArray:
    box = box.view()
    box.flags.writeable = False
    return box


def emit_blocks(planner: Planner, group: Group) -> None:
    """Emit the calls that make all results of a group, and what is made of these, if that suits."""
    calls = Group([job for job in group.jobs if isinstance(job.node, Blocks)])
    nodes = [job.node for job in calls.jobs if isinstance(job.node, Blocks)]
    recipes = [planner.lowering(o.shape).recipe(o) for o in nodes[0].operands]
    maps, folds = group.rest
    ends = [planner.target_of(job.node) for job in maps]
    grid = _cut(planner, nodes, recipes, ends)
    if (maps or folds) and _finishes(planner, group, nodes, recipes, grid, ends):
        _emit(planner, group, nodes, recipes, grid)
        return
    _emit(planner, calls, nodes, recipes, grid if not ends else _cut(planner, nodes, recipes))
    if maps or folds:
        emit_sweep(planner, Group([*maps, *folds]))


def _finishes(
    planner: Planner,
    group: Group,
    nodes: Sequence[Blocks],
    recipes: Sequence[Recipe],
    grid: Grid,
    ends: Sequence[Store | None],
) -> bool:
    """Whether the boxes of the only result are the cells of a visit that fits and suits targets."""
    node = nodes[0]
    laid = node.call.makes[node.output].laid
    cut = laid.cut(grid.chunk_shape)
    apart = all(axis in laid.follows for axis, count in enumerate(grid.counts) if count > 1)
    if len(nodes) > 1 or not apart or any(0 in sizes for sizes in (cut.shape, *cut.sizes)):
        return False
    if not all(planner.suits(end, cut) for end in ends if end is not None):
        return False
    needed = _bytes_held(node.call, recipes, grid.chunk_shape) + bytes_extra(recipes)
    needed += bytes_finish(planner, group, node, cut.chunk_shape)
    return needed <= room_finish(planner, group, node)


def _emit(
    planner: Planner, group: Group, nodes: Sequence[Blocks], recipes: list[Recipe], grid: Grid
) -> None:
    """Emit the calls for the cells of a grid, and all that a group makes of the results."""
    node, call = nodes[0], nodes[0].call
    recipes, scratch = _settle(planner, group, grid, recipes)
    cuts = [call.makes[n.output].laid.cut(grid.chunk_shape) for n in nodes]
    needed = _bytes_held(call, recipes, grid.chunk_shape) + bytes_extra(recipes)
    if any(group.rest):
        needed += bytes_finish(planner, group, node, cuts[0].chunk_shape)
    done = finish(planner, group, node, cuts[0])
    stores = [done.store, *map(planner.place, nodes[1:], cuts[1:])]
    results = tuple((n.output, s) for n, s in zip(nodes, stores, strict=True) if s is not None)
    creates = (*done.creates, *(store for store in stores[1:] if store is not None))
    if needed > planner.bytes_free:
        raise planner.refuse(node, needed, _spelled(call, node.operands, grid), _remedy(call))
    room = max(0, planner.bytes_free - 2 * needed) // 4
    visit = plan_visit(grid, _reach(call, recipes, grid), planner.limits, room)
    bytes_read = sum(bytes_wanted([*recipes, *done.recipes]))
    written = sum(store.bytes_size for store in creates)
    called = sum(n.nbytes for n in (*node.operands, *nodes))
    seconds = (
        called * SECONDS_PER_BYTE_CALLED
        + bytes_read * SECONDS_PER_BYTE_STORED
        + written * SECONDS_PER_BYTE
        + done.seconds
    )
    step = Step(
        name=group.label,
        work=BlocksWork(
            call,
            grid,
            tuple(recipes),
            results,
            order=visit.order,
            cache_bytes=visit.cache_bytes,
            finished=node.output,
            then=done.sweep,
        ),
        tasks=grid.size,
        bytes_task=needed,
        where=node.where,
        bytes_fixed=visit.bytes_fixed,
        creates=creates,
        bytes_read=bytes_read,
        bytes_written=written,
        weight=seconds / max(1, grid.size),
        blas=True,
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(scratch)
    merge(planner, done)


# -- the cut ------------------------------------------------------------------------------------


def _cut(
    planner: Planner,
    nodes: Sequence[Blocks],
    recipes: Sequence[Recipe],
    ends: Sequence[Store | None] = (),
) -> Grid:
    """Choose how many tasks one call takes along each axis; `ends` is where more of it goes."""
    call = nodes[0].call
    ones = (1,) * len(call.tasks)
    if not call.joined:
        return Grid(call.tasks, ones)

    def bytes_deciding(cell: tuple[int, ...]) -> int:
        return _bytes_deciding(call, recipes, cell)

    boxes = _box_bytes(call, recipes, ones)
    sides = (*call.reads, *(made.laid for made in call.makes))
    moving = [n for n, laid in zip(boxes, sides, strict=True) if {*laid.follows} - {WHOLE}]
    each = max([1, *moving])
    whole = (sum(boxes) - sum(moving)) // WHOLE_PARTS
    few = max(1, max(CALL_BYTES, whole) // each, -(-math.prod(call.tasks) // CALLS_WANTED))
    elements = max(1, min(max(planner.limits.chunk_bytes, whole) // each, few))
    unit = _unit(planner, nodes, ends)
    if bytes_deciding(unit) > 3 * planner.limits.bytes_share:
        # Boxes as wide as the target's chunks do not fit: it gets a copy of the results.
        unit = ones
    wish = _wish(call, recipes)
    cell = choose_cut(call.tasks, elements, unit, wish)
    fitting = fit_cut(planner, cell, unit, bytes_deciding, wish, shares_of(recipes))
    return Grid(call.tasks, fitting)


def _unit(
    planner: Planner, nodes: Sequence[Blocks], ends: Sequence[Store | None]
) -> tuple[int, ...]:
    """Give the tasks that make whole chunks of the stores which the results go to."""
    call = nodes[0].call
    unit = [1] * len(call.tasks)
    stored = [(node, planner.target_of(node)) for node in nodes]
    for node, target in (*stored, *((nodes[0], end) for end in ends)):
        grid = target.write_grid if target is not None else None
        if grid is None or not grid.regular:
            continue
        for n, cut, along in zip(
            node.shape, grid.chunk_shape, call.makes[node.output].laid.follows, strict=True
        ):
            if along != WHOLE:
                unit[along] = math.lcm(unit[along], max(1, min(cut, n)))
    return tuple(unit)


def _wish(call: Call, recipes: Sequence[Recipe]) -> tuple[int, ...] | None:
    """Give the tasks that read each chunk of the largest stored operand once."""
    best: tuple[int, tuple[int, ...]] | None = None
    for laid, recipe in zip(call.reads, recipes, strict=True):
        cut = preferred_cut([recipe])
        size = math.prod(recipe.shape) * recipe.dtype.itemsize
        if cut is None or (best is not None and best[0] >= size):
            continue
        wish = [0] * len(call.tasks)
        for length, along in zip(cut, laid.follows, strict=True):
            if along != WHOLE:
                wish[along] = length
        best = size, tuple(wish)
    return None if best is None else best[1]


# -- bytes --------------------------------------------------------------------------------------


def _boxes(
    call: Call, recipes: Sequence[Recipe], cell: Sequence[int]
) -> list[tuple[Recipe, tuple[int, ...]]]:
    """Give each operand with the largest box of it that a cell takes, or holds at one time."""
    out = []
    for position, (laid, recipe) in enumerate(zip(call.reads, recipes, strict=True)):
        box = laid.box(cell, recipe.shape)
        if position in call.stretched:
            box = (*box[:-1], min(box[-1], _stretch(recipe)))
        out.append((recipe, box))
    return out


def _box_bytes(call: Call, recipes: Sequence[Recipe], cell: Sequence[int]) -> list[int]:
    """Bytes of the operands' and of the results' boxes."""
    boxes = [math.prod(box) * r.dtype.itemsize for r, box in _boxes(call, recipes, cell)]
    return boxes + [
        math.prod(made.laid.box(cell, made.laid.grid.shape)) * made.dtype.itemsize
        for made in call.makes
    ]


def _bytes_deciding(call: Call, recipes: Sequence[Recipe], cell: Sequence[int]) -> int:
    """Bytes that decide about the cut: the same wherever the plan puts its scratch."""
    leaves = sum(leaf.bytes_cut(box) for r, box in _boxes(call, recipes, cell) for leaf in r.leaves)
    return leaves + int(sum(_box_bytes(call, recipes, cell)) * (1 + call.scratch))


def _bytes_held(call: Call, recipes: Sequence[Recipe], cell: Sequence[int]) -> int:
    """Most bytes that a call holds: what its boxes are made of, the boxes, results, scratch."""
    boxes = _box_bytes(call, recipes, cell)
    held = int(sum(boxes) * call.scratch)
    for (recipe, box), size in zip(_boxes(call, recipes, cell), boxes, strict=False):
        made = call.owns or not recipe.trivial
        held += recipe.bytes_box(box) + (size if made else 0)
    return held + sum(boxes[len(recipes) :])


# -- reading ------------------------------------------------------------------------------------


def _settle(
    planner: Planner, group: Group, grid: Grid, recipes: Sequence[Recipe]
) -> tuple[list[Recipe], tuple[Store, ...]]:
    """Copy what calls would decode or compute again and again; gives what to read instead."""
    node = group.jobs[0].node
    assert isinstance(node, Blocks)
    out: list[Recipe] = []
    scratch: list[Store] = []
    call = node.call
    for position, recipe in enumerate(recipes):
        operand, laid, read = node.operands[position], call.reads[position], recipe
        times = math.prod(n for axis, n in enumerate(grid.counts) if axis not in laid.follows)
        if times > 1 and not _at_hand(recipe, stretched=position in call.stretched):
            copy = planner.contiguous(operand.shape, operand.dtype, operand.label)
            copy_sweep(planner, operand, copy)
            scratch.append(copy)
            read = _reading(copy)
        else:
            made = settle_rereads(planner, group, laid.cut(grid.chunk_shape), [recipe])
            if made:
                scratch.extend(made)
                read = planner.lowering(operand.shape).recipe(operand)
        out.append(read)
    return out, tuple(scratch)


def _reach(call: Call, recipes: Sequence[Recipe], grid: Grid) -> Reach:
    """Tell along which axes calls read what their neighbours read, and bytes of those chunks."""
    axes: set[int] = set()
    touched = 0
    for laid, recipe in zip(call.reads, recipes, strict=True):
        wide = {
            along
            for along, wider in zip(laid.follows, laid.reach, strict=False)
            if along != WHOLE and any(wider)
        }
        leaves = [leaf for leaf, _ in stored_leaves([recipe]) if wide and is_decoded(leaf)]
        if leaves:
            axes |= wide
        box = laid.box(grid.chunk_shape, recipe.shape)
        touched += sum(_bytes_touched(leaf, box) for leaf in leaves)
    return Reach(frozenset(axes), touched)


def _bytes_touched(leaf: StoreLeaf, box: Sequence[int]) -> int:
    """Most bytes of the chunks that a box meets."""
    chunk = leaf.store.grid.chunk_shape
    count = 1
    for term, c in zip(leaf.affine.terms, chunk, strict=True):
        if term.axis >= 0:
            count *= -(-(abs(term.stride) * (box[term.axis] - 1) + 1) // max(1, c)) + 1
    return count * math.prod(chunk) * leaf.store.dtype.itemsize


def _at_hand(recipe: Recipe, *, stretched: bool) -> bool:
    """Whether any box of a value, or a part of it, costs nothing to bring again."""
    stores = recipe.stores()
    return recipe.trivial and all(s.addressable or (stretched and s.passing) for s in stores)


def _reading(store: Store) -> Recipe:
    leaf = StoreLeaf(store, Affine.identity(store.shape))
    return Recipe(store.shape, (leaf,), Program((store.dtype,), (), (0,)))


# -- refusals -----------------------------------------------------------------------------------


def _spelled(call: Call, operands: Sequence[Expr], grid: Grid) -> str:
    """Describe what one call takes and gives."""
    cell = grid.chunk_shape
    taken = [laid.box(cell, o.shape) for laid, o in zip(call.reads, operands, strict=True)]
    given = [made.laid.box(cell, made.laid.grid.shape) for made in call.makes]
    return f"one call on boxes of shape {_listed(taken)} that gives shape {_listed(given)}"


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "()"


def _remedy(call: Call) -> str:
    if call.joined:
        return "each call takes its axes as a whole: call it on arrays that are shorter along them"
    return "cut the array into smaller chunks: x.rechunk(...)"
