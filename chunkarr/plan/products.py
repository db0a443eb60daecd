"""Matrix products: tiles that stay while their operands stream by, and what is done with a tile.

Operands are expressions like any other and are computed box by box when a tile wants them, so
`(a + 1) @ (b * 2)` stores neither sum nor product. Each box is computed once for every tile that
needs it: where that is more often than `REMADE_MAX` and the expression has a dear operation, which
is any but arithmetic, comparisons and choices, the operand is computed once and held instead, if
memory has room for it. It is never written to disk, which takes longer than computing it again.

`maximum(a @ b + c, 0)` and `(a @ b).sum(0)` are made of each tile while it is there (`finish`). The
contracted axis is added up within a task, so a tile is whole by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from chunkarr.expr.node import Contract, View
from chunkarr.floats import naming
from chunkarr.grid import Grid, Region, region_shape
from chunkarr.kernels.gemm import gemm
from chunkarr.kernels.recipe import Recipe, StoreLeaf, bytes_extra
from chunkarr.kernels.stages import EXACT
from chunkarr.plan.emit import (
    SECONDS_PER_BYTE,
    SECONDS_PER_BYTE_STORED,
    copy_sweep,
    emit_sweep,
    fit_cut,
)
from chunkarr.plan.finish import Finish, bytes_finish, finish, merge, room_finish
from chunkarr.plan.grids import bytes_wanted, preferred_cut, write_unit
from chunkarr.plan.jobs import Group
from chunkarr.plan.works import Sweep
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Step, Touched
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner

NDArray = npt.NDArray[Any]

TILE_SIDE_MIN = 256
"""Below this side a product's tiles no longer reach the rate of BLAS."""

CELLS_MIN = 8
"""So many tiles at least are left for the workers, where more would fit in one."""

STRETCHES_MAX = 32
"""Where tiles are few, each is made of so many stretches of the contracted axis at most."""

LONGER_MAX = 3
"""To take whole chunks of what is stored, a task may take so many times its share."""

REMADE_MAX = 2
"""An operand with dear operations is computed so many times, rather than held."""

STRETCH_MAX = 2
"""What reads a product may ask for tiles that are longer by this factor, or has its own visit."""

PARTS = 4
"""A held operand takes at most one of so many equal parts of free memory."""

SECONDS_PER_PRODUCT = 1 / 3e10
"""Rough cost of one operation of BLAS."""


@dataclass(frozen=True, slots=True)
class MatmulWork:
    """One tile of the product stays, the operands stream by along the contracted axis.

    Both recipes are over the full index space (batch axes, rows, inner) and (batch, inner,
    columns); the inner axis is added up from its start to its end, so bits do not depend on who
    runs the tile.
    """

    left: Recipe
    right: Recipe
    dtype: np.dtype[Any]
    grid: Grid
    inner: int
    store: Store | None
    """Where the product goes, if anything but `then` wants it."""
    then: Sweep | None = None
    """What is made of each tile; the first value that it finds made is the tile."""
    parts: Store | None = None
    """Where the parts of tiles are that earlier tasks have made, along the first axis."""

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        region = self.grid.region(task)
        if self.parts is None:
            reads = _operand_boxes(self, region, slice(0, self.left.shape[-1]))
        else:
            reads = [(self.parts, (slice(0, self.parts.shape[0]), *region))]
        writes = [] if self.store is None else [(self.store, region)]
        if self.then is None:
            return Touched(reads, writes)
        more = self.then.touched_at(self.grid.cell(task))
        return Touched([*reads, *more.reads], [*writes, *more.writes])

    def run(self, task: int, context: Context) -> None:
        """Make one tile of the product, and what is made of it."""
        context.check()
        region = self.grid.region(task)
        tile = self._tile(region, context)
        if self.store is not None:
            self.store.write(region, tile)
        if self.then is not None:
            self.then.make(self.grid.cell(task), [tile])

    def _tile(self, region: Region, context: Context) -> NDArray:
        if self.parts is None:
            return _multiplied(self, region, slice(0, self.left.shape[-1]), context)
        made = self.parts.read((slice(0, self.parts.shape[0]), *region))
        with naming("matmul"):
            while len(made) > 1:
                half = len(made) // 2
                added = np.add(made[:half], made[half : 2 * half], dtype=self.dtype)
                made = np.concatenate([added, made[2 * half :]])
        tile: NDArray = made[0]
        return tile


@dataclass(frozen=True, slots=True)
class PartsWork:
    """A stretch of the contracted axis for one tile: what a few tiles of a deep product are."""

    left: Recipe
    right: Recipe
    dtype: np.dtype[Any]
    grid: Grid
    """The tiles, in stretches: its first axis counts these."""
    inner: int
    stretch: int
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        number, *region = box = self.grid.region(task)
        return Touched(_operand_boxes(self, region, self._span(number.start)), [(self.store, box)])

    def run(self, task: int, context: Context) -> None:
        """Multiply one stretch for one tile."""
        context.check()
        number, *region = box = self.grid.region(task)
        made = _multiplied(self, tuple(region), self._span(number.start), context)
        self.store.write(box, made[None])

    def _span(self, number: int) -> slice:
        start = number * self.stretch
        return slice(start, min(self.left.shape[-1], start + self.stretch))


def _operand_boxes(
    work: MatmulWork | PartsWork, region: Sequence[slice], span: slice
) -> list[tuple[Store, Region]]:
    *batch, rows, columns = region
    return [
        *work.left.boxes((*batch, rows, span)),
        *work.right.boxes((*batch, span, columns)),
    ]


def _multiplied(
    work: MatmulWork | PartsWork, region: Region, span: slice, context: Context
) -> NDArray:
    """Add up the products over a span of the contracted axis, from its start to its end."""
    *batch, rows, columns = region
    shape = region_shape(region)
    total = np.empty(shape, work.dtype)
    part = total
    boxes = [_Box(work.left), _Box(work.right)]
    for start in range(span.start, max(span.stop, span.start + 1), work.inner):
        context.check()
        k = slice(start, min(span.stop, start + work.inner))
        left = boxes[0].made((*batch, rows, k))
        right = boxes[1].made((*batch, k, columns))
        if start > span.start and part is total:
            part = np.empty(shape, work.dtype)
        gemm(left, right, part)
        if start > span.start:
            with naming("matmul"):
                np.add(total, part, out=total)
    return total


class _Box:
    """Computes boxes of an operand into the same memory, one after the other."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._room: NDArray | None = None

    def made(self, region: Region) -> NDArray:
        """Give the values of a box, until the next one."""
        if self._recipe.trivial:
            return self._recipe.evaluate(region)
        shape = region_shape(region)
        size = math.prod(shape)
        if self._room is None or self._room.size < size:
            self._room = np.empty(size, self._recipe.dtype)
        return self._recipe.evaluate(region, self._room[:size].reshape(shape))


class _Tiles(NamedTuple):
    """How a product is cut."""

    grid: Grid
    inner: int
    """The length of the contracted axis that is multiplied at a time."""


def emit_contract(planner: Planner, group: Group) -> None:
    """Emit a matrix product, and what is made of its tiles, where that suits both."""
    product, *rest = group.jobs
    node = product.node
    assert isinstance(node, Contract)
    own, *others = (planner.target_of(job.node) for job in group.jobs)
    tiles = _cut(planner, node, [own])
    if not rest:
        _emit(planner, group, tiles)
        return
    asked = _cut(planner, node, [own, *others])
    longest, wanted = (max(cut.grid.chunk_shape[-2:]) for cut in (tiles, asked))
    room = room_finish(planner, group, node)
    if wanted <= STRETCH_MAX * longest and _bytes_of(planner, group, asked) <= room:
        _emit(planner, group, asked)
        return
    _emit(planner, Group([product]), tiles)
    emit_sweep(planner, Group(rest))


def _operands(planner: Planner, node: Contract) -> tuple[Recipe, Recipe]:
    """Lower both operands, as seen over all batch axes."""
    left, right = node.operands
    *batch, rows, columns = node.shape
    depth = left.shape[-1]
    return (
        planner.lowering((*batch, rows, depth)).recipe(left),
        planner.lowering((*batch, depth, columns)).recipe(right),
    )


def _cut(planner: Planner, node: Contract, targets: Sequence[Store | None]) -> _Tiles:
    """Choose square tiles, whatever is to be made of them: bits depend on the cut."""
    a, b = _operands(planner, node)
    depth = a.shape[-1]
    unit = write_unit(node.shape, [target for target in targets if target is not None])
    size = node.dtype.itemsize
    most = max(1, min(planner.limits.bytes_share, 16 * planner.limits.chunk_bytes) // (5 * size))
    # A few tiles at least, so that more cores than one have work.
    side = max(
        1, min(math.isqrt(most), max(TILE_SIDE_MIN, -(-max(node.shape[-2:], default=1) // 4)))
    )
    widest = max(1, min(max(side, TILE_SIDE_MIN), max(node.shape[-2:])))
    inner = min(max(1, depth), max(1, most // widest))
    wishes = [preferred_cut([recipe]) or (0,) * node.ndim for recipe in (a, b)]
    wish = max(wishes[0][-1], wishes[1][-2])
    m, n = (max(1, min(side, length)) for length in node.shape[-2:])
    stretched = (
        inner < wish and (m + n) * 2 * wish * size <= LONGER_MAX * planner.limits.bytes_share
    )
    # Cutting through chunks would decode each of them again and again.
    inner = wish if stretched else _multiple(inner, wish)
    sides = {-2: _multiple(side, wishes[0][-2]), -1: _multiple(side, wishes[1][-1])}

    def bytes_deciding(cell: tuple[int, ...]) -> int:
        *lead, m, n = cell
        held = math.prod(lead) * (2 * m * inner + 2 * inner * n + 2 * m * n) * size
        return held // LONGER_MAX if stretched else held

    if isinstance(unit, Grid):
        return _Tiles(unit, inner)
    cell = [max(1, u) for u in unit]
    for axis in (-2, -1):
        reach = max(cell[axis], sides[axis] // cell[axis] * cell[axis])
        cell[axis] = max(1, min(node.shape[axis], reach))
    # What is narrow or small fills its share with more rows, or more matrices of a stack.
    most_cells = math.prod(node.shape) // math.prod(cell) // CELLS_MIN
    for axis in (-2, *reversed(range(node.ndim - 2))):
        times = min(most_cells, 5 * most * size // max(1, bytes_deciding(tuple(cell))))
        if times < 2 or (axis != -2 and cell[-2] < node.shape[-2]):
            break
        longer = min(node.shape[axis], cell[axis] * times)
        longer = max(cell[axis], longer // cell[axis] * cell[axis])
        most_cells //= max(1, -(-longer // cell[axis]))
        cell[axis] = longer
    return _Tiles(Grid(node.shape, fit_cut(planner, tuple(cell), unit, bytes_deciding)), inner)


def _multiple(n: int, cut: int) -> int:
    """Round a length down to whole chunks where it holds any."""
    return n // cut * cut if 0 < cut <= n else n


def _bytes_of(planner: Planner, group: Group, tiles: _Tiles) -> int:
    """Give the bytes of a task: first those of the product, then those of what is made of it."""
    node = group.jobs[0].node
    assert isinstance(node, Contract)
    a, b = _operands(planner, node)
    inner, cell, size = tiles.inner, tiles.grid.chunk_shape, node.dtype.itemsize
    *lead, m, n = cell
    product = (
        a.bytes_box((*lead, m, inner))
        + b.bytes_box((*lead, inner, n))
        + math.prod(lead) * (m * inner + inner * n + 2 * m * n) * size
    )
    made = bytes_finish(planner, group, node, cell) if len(group.jobs) > 1 else 0
    return max(product, made) + bytes_extra([a, b])


def _emit(planner: Planner, group: Group, tiles: _Tiles) -> None:
    """Emit the step of a product with all that a group makes of it."""
    node, grid = group.jobs[0].node, tiles.grid
    assert isinstance(node, Contract)
    held = _hold_dear(planner, node, grid)
    a, b = _operands(planner, node)
    bytes_task = _bytes_of(planner, group, tiles)
    parts = _emit_parts(planner, group, tiles, a, b)
    done = finish(planner, group, node, grid)
    work = MatmulWork(a, b, node.dtype, grid, tiles.inner, done.store, done.sweep, parts)
    _add(planner, group, work, done, bytes_task)
    if parts is not None:
        planner.release((parts,))
    for key in held:
        del planner.placed[key]
    planner.release(tuple(held.values()))
    merge(planner, done)


def _emit_parts(
    planner: Planner, group: Group, tiles: _Tiles, a: Recipe, b: Recipe
) -> Store | None:
    """Multiply stretches of a long contracted axis apart, where there are few tiles to share out.

    How many there are depends on shapes and the limit only, never on the workers.
    """
    node, grid, depth = group.jobs[0].node, tiles.grid, a.shape[-1]
    blocks = -(-depth // tiles.inner)
    count = min(blocks, STRETCHES_MAX // max(1, grid.size))
    if grid.size >= CELLS_MIN or count < 2 or count * node.nbytes > planner.bytes_free // PARTS:
        return None
    stretch = -(-blocks // count) * tiles.inner
    cut = Grid((-(-depth // stretch), *node.shape), (1, *grid.axes))
    store = planner.scratch(cut.shape, node.dtype, cut, node.label, PARTS)
    work = PartsWork(a, b, node.dtype, cut, tiles.inner, stretch, store)
    mapped, stored = bytes_wanted([a, b])
    seconds = (
        node.size * depth * 2 * SECONDS_PER_PRODUCT
        + stored * SECONDS_PER_BYTE_STORED
        + (mapped + stored) * SECONDS_PER_BYTE
    )
    step = Step(
        name=node.label,
        work=work,
        tasks=cut.size,
        bytes_task=_bytes_of(planner, Group(group.jobs[:1]), tiles),
        where=node.where,
        creates=(store,),
        bytes_read=mapped + stored,
        bytes_written=store.bytes_size,
        weight=seconds / max(1, cut.size),
        blas=True,
    )
    planner.add(step, node, seconds / planner.limits.workers)
    return store


def _hold_dear(planner: Planner, node: Contract, grid: Grid) -> dict[int, Store]:
    """Compute operands that tiles would compute again and again; gives the stores by node."""
    held: dict[int, Store] = {}
    if node.ndim != 2 or not planner.limits.shares_memory:
        return held
    for place, times in enumerate((grid.counts[-1], grid.counts[-2])):
        operand, recipe = node.operands[place], _operands(planner, node)[place]
        if isinstance(operand, View) and operand.size == operand.operands[0].size:
            (operand,) = operand.operands
        # A tile of random numbers is drawn with all that come before it.
        drawn = any(isinstance(leaf, StoreLeaf) and leaf.store.drawn for leaf in recipe.leaves)
        dear = times > REMADE_MAX and any(op.name not in EXACT for op in recipe.program.ops)
        if (dear or (drawn and grid.size > 1)) and operand.nbytes <= planner.bytes_free // PARTS:
            whole = Grid(operand.shape, tuple(max(1, n) for n in operand.shape))
            store = planner.scratch(operand.shape, operand.dtype, whole, operand.label, PARTS)
            copy_sweep(planner, operand, store)
            planner.placed[id(operand)] = held[id(operand)] = store
    return held


def _add(planner: Planner, group: Group, work: MatmulWork, done: Finish, bytes_task: int) -> None:
    node, grid = group.jobs[0].node, work.grid
    across, down = grid.counts[-1], grid.counts[-2]
    mapped, stored = bytes_wanted(done.recipes)
    left, right = node.operands
    read = left.nbytes * across + right.nbytes * down
    seconds = done.seconds + mapped * SECONDS_PER_BYTE
    if work.parts is not None:
        read = work.parts.bytes_size
        seconds += read * SECONDS_PER_BYTE + stored * SECONDS_PER_BYTE_STORED
    else:
        decoded = bytes_wanted([work.left])[1] * across + bytes_wanted([work.right])[1] * down
        seconds += node.size * work.left.shape[-1] * 2 * SECONDS_PER_PRODUCT
        seconds += (stored + decoded) * SECONDS_PER_BYTE_STORED
    step = Step(
        name=group.label if work.parts is None else f"{group.label} merge",
        work=work,
        tasks=grid.size,
        bytes_task=bytes_task,
        where=node.where,
        creates=done.creates,
        bytes_read=read + mapped + stored,
        bytes_written=sum(store.bytes_size for store in done.creates),
        weight=seconds / max(1, grid.size),
        blas=True,
    )
    planner.add(step, node, seconds / planner.limits.workers, max(1, across))
