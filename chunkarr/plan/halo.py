"""Reads that reach over the edges of stored chunks: shifted views, rolls, stencils.

A strip of a chunk costs the decoding of the whole chunk. Two things keep that near once per chunk:
cells are visited along the axis that reads reach over, so that neighbours come one after the other,
and a small cache holds the decoded chunks that the next cell wants. Neither touches any bits.
"""

from __future__ import annotations

import math
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


def stored_leaves(recipes: Sequence[Recipe]) -> Iterator[tuple[StoreLeaf, tuple[int, ...]]]:
    """List stored leaves with where their own index space begins in the step's."""
    stack: list[tuple[Leaf, tuple[int, ...]]] = [
        (leaf, (0,) * len(recipe.shape)) for recipe in recipes for leaf in recipe.leaves
    ]
    while stack:
        leaf, firsts = stack.pop()
        if isinstance(leaf, StoreLeaf):
            if not leaf.store.addressable and leaf.store.grid.size > 1:
                yield leaf, firsts
        elif isinstance(leaf, OverlayLeaf):
            if leaf.base is not None:
                stack.extend((inner, firsts) for inner in leaf.base.leaves)
            for patch in leaf.patches:
                at = tuple(f + p.first for f, p in zip(firsts, patch.places, strict=True))
                stack.extend((inner, at) for inner in patch.recipe.leaves)


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
