"""Reads that reach over the edges of stored chunks, or want parts of pages.

A strip of a chunk costs the decoding of the whole chunk: shifted views, rolls, stencils. Two things
keep that near once per chunk: cells are visited along the axis that reads reach over, so that
neighbours come one after the other, and a small cache holds the decoded chunks that the next cell
wants. Neither touches any bits.

A few elements of each page of a mapped file cost the whole page: axes in another order. Cells reach
some way along the axes that the file lies along, and those that share pages are visited one after
the other.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chunkarr.grid import Cell, Grid
from chunkarr.kernels.recipe import Leaf, OverlayLeaf, Recipe, StoreLeaf
from chunkarr.plan.plan import Limits
from chunkarr.records import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """Along which axes reads cross chunk edges, and the bytes of the chunks a cell touches."""

    axes: frozenset[int]
    bytes_touched: int


def find_reach(recipes: Sequence[Recipe], grid: Grid) -> Reach:
    """Look at all stored leaves of a step."""
    axes: set[int] = set()
    touched = 0
    for leaf, firsts in stored_leaves(recipes):
        if leaf.store.addressable and not leaf.store.in_memory:
            page = _runs(leaf, grid.shape, mmap.PAGESIZE)
            axes |= {axis for axis, n in page if grid.chunk_shape[axis] < n}
        if not is_decoded(leaf):
            continue
        crossed = _crossed(leaf, firsts, grid)
        if not crossed:
            continue
        axes |= crossed
        chunk = leaf.store.grid.chunk_shape
        count = 1
        for (axis, _, stride), c in zip(leaf.affine.terms, chunk, strict=True):
            if axis >= 0:
                reach = abs(stride) * (grid.chunk_shape[axis] - 1) + 1
                count *= -(-reach // c) + (axis in crossed)
        touched += count * math.prod(chunk) * leaf.store.dtype.itemsize
    return Reach(frozenset(axes), touched)


def is_decoded(leaf: StoreLeaf) -> bool:
    """Whether what a leaf reads comes chunk by chunk."""
    return not leaf.store.addressable and leaf.store.grid.size > 1


def stored_leaves(recipes: Sequence[Recipe]) -> Iterator[tuple[StoreLeaf, tuple[int, ...]]]:
    """List stored leaves with where their own index space begins in the step's."""
    stack: list[tuple[Leaf, tuple[int, ...]]] = [
        (leaf, (0,) * len(recipe.shape)) for recipe in recipes for leaf in recipe.leaves
    ]
    while stack:
        leaf, firsts = stack.pop()
        if isinstance(leaf, StoreLeaf):
            yield leaf, firsts
        elif isinstance(leaf, OverlayLeaf):
            if leaf.base is not None:
                stack.extend((inner, firsts) for inner in leaf.base.leaves)
            for patch in leaf.patches:
                at = tuple(f + p.first for f, p in zip(firsts, patch.places, strict=True))
                stack.extend((inner, at) for inner in patch.recipe.leaves)


RUN_BYTES = 512
"""What a cell wants of a source at a time, where that may be: some lines of a processor's cache."""


def runs_of(recipes: Sequence[Recipe], shape: Sequence[int]) -> list[tuple[int, int]]:
    """Give the axes that addressable sources lie along, and how far a cell wants to reach on each.

    Those of the largest source come first. Nothing is said of one that is stretched: all of it is
    wanted by many cells anyway.
    """
    leaves = [leaf for leaf, _ in stored_leaves(recipes) if leaf.store.addressable]
    leaves.sort(key=lambda leaf: -leaf.store.bytes_size)
    return [run for leaf in leaves for run in _runs(leaf, shape, RUN_BYTES)]


def elements_of_runs(runs: Sequence[tuple[int, int]], unit: Sequence[int], elements: int) -> int:
    """Give the elements of a cell that reaches so far though it holds a whole unit.

    0 where `elements` would not do without the unit either.

    >>> elements_of_runs([(0, 100)], (1, 500), 1000)
    50000
    """
    far = {axis: max(n for along, n in runs if along == axis) for axis, _ in runs}
    if math.prod(far.values()) > elements:
        return 0
    return math.prod(max(n, far.get(axis, 1)) for axis, n in enumerate(unit))


def _runs(leaf: StoreLeaf, shape: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Give the axes along which so many bytes of a source lie together, and how far they reach."""
    used = {term.axis for term in leaf.affine.terms}
    if any(n > 1 and axis not in used for axis, n in enumerate(shape)):
        return []
    out, step = [], leaf.store.dtype.itemsize
    layout = list(zip(leaf.affine.terms, leaf.store.shape, strict=True))
    for (axis, _, stride), n in layout if leaf.store.order == "F" else reversed(layout):
        if step >= size:
            break
        if axis >= 0 and stride:
            out.append((axis, min(shape[axis], -(-size // (step * abs(stride))))))
        step *= max(1, n)
    return out


def _crossed(leaf: StoreLeaf, firsts: tuple[int, ...], grid: Grid) -> set[int]:
    out = set()
    for (axis, offset, stride), c, n in zip(
        leaf.affine.terms, leaf.store.grid.chunk_shape, leaf.store.shape, strict=True
    ):
        if axis < 0 or c >= n:
            continue
        cell = grid.chunk_shape[axis]
        start = offset - stride * firsts[axis] + (stride < 0)
        whole = grid.shape[axis] <= cell
        if start % c or (not whole and cell * abs(stride) % c):
            out.add(axis)
    return out


def visiting_order(grid: Grid, reach: Reach) -> tuple[int, ...] | None:
    """Give the axes from the slowest to the fastest visited, or None for C order."""
    if not reach.axes:
        return None
    rest = [axis for axis in range(len(grid.shape)) if axis not in reach.axes]
    crossed = sorted(reach.axes, key=lambda axis: grid.counts[axis])
    return (*rest, *crossed)


class Visit(NamedTuple):
    """How cells are visited: in which order, with which cache in each process, and in all."""

    order: tuple[int, ...] | None
    cache_bytes: int
    bytes_fixed: int


def plan_visit(grid: Grid, reach: Reach, limits: Limits, room: int) -> Visit:
    """Choose the order of cells and the size of the cache, within `room` bytes."""
    if not reach.axes:
        return Visit(None, 0, 0)
    copies = 1 if limits.shares_memory else limits.workers
    held = min(2 * reach.bytes_touched * max(1, limits.workers // copies), room // copies)
    return Visit(visiting_order(grid, reach), held, held * copies)


def visited(grid: Grid, order: tuple[int, ...] | None, task: int) -> Cell:
    """Give the cell that a task visits."""
    if order is None:
        return grid.cell(task)
    place = [0] * len(grid.counts)
    for axis in reversed(order):
        task, place[axis] = divmod(task, grid.counts[axis])
    return tuple(place)
