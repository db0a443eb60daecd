"""Choosing how a step's index space is cut.

Hard facts first: where an output store can only be written in whole chunks, cells are multiples of
them. Then soft ones: cells that follow the chunks of the sources read each of them once. Then size:
cells grow along the last axes, where memory and files are contiguous, until they hold the wanted
number of elements, and shrink when the memory limit asks for it. The cut depends on shapes, dtypes,
settings and stores, never on the number of workers, because the bits of a sum depend on it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence

from chunkarr.grid import Grid, region_of
from chunkarr.kernels.recipe import OverlayLeaf, Recipe, StoreLeaf
from chunkarr.storage.store import Store

REDUCED_DEPTH = 256
"""Cells reach this far along reduced axes: partial results stay a small part of the input."""


def projected_cut(
    store: Store, recipe_shape: Sequence[int], terms: Iterable[tuple[int, int, int]]
) -> tuple[int, ...] | None:
    """Give a store's chunk shape along the axes of a recipe that reads it, None without chunks."""
    if not store.tiled or store.grid.size <= 1:
        return None
    cut = [0] * len(recipe_shape)
    for (axis, _, stride), n in zip(terms, store.grid.chunk_shape, strict=True):
        if axis >= 0 and stride:
            cut[axis] = max(cut[axis], 1, n // abs(stride))
    return tuple(cut)


def preferred_cut(recipes: Sequence[Recipe]) -> tuple[int, ...] | None:
    """Give the cut of the largest stored source, 0 on axes where it has no wish."""
    found = _largest(recipes)
    return None if found is None else found[1]


SHARES_DECODING = 3
"""Shares that a task may hold whose cell follows chunks: to cut them is to decode them again."""
SHARES_SCRATCH = 2
"""The same for a plan's own tiles: parts of them are read nearly as cheaply as all."""


def shares_of(recipes: Sequence[Recipe]) -> int:
    """Give the shares that a task may hold for the cut that `preferred_cut` gives."""
    found = _largest(recipes)
    decoded = found is not None and not (found[0].in_memory or found[0].passing)
    return SHARES_DECODING if decoded else SHARES_SCRATCH


def _largest(recipes: Sequence[Recipe]) -> tuple[Store, tuple[int, ...]] | None:
    """Give the largest stored source that has a cut, and its cut."""
    best: tuple[Store, tuple[int, ...]] | None = None
    for recipe in recipes:
        for store, cut in _cuts(recipe):
            if best is None or store.bytes_size > best[0].bytes_size:
                best = store, cut
    return best


def _cuts(recipe: Recipe) -> Iterator[tuple[Store, tuple[int, ...]]]:
    """Give the stores that a recipe reads, also where they are laid, and how they cut its axes."""
    for leaf in recipe.leaves:
        if isinstance(leaf, StoreLeaf):
            cut = projected_cut(leaf.store, recipe.shape, leaf.affine.terms)
            if cut is not None:
                yield leaf.store, cut
        elif isinstance(leaf, OverlayLeaf):
            for patch in leaf.patches:
                for store, cut in _cuts(patch.recipe):
                    steps = [abs(place.step) for place in patch.places]
                    yield store, tuple(map(operator.mul, cut, steps))
            if leaf.base is not None:
                yield from _cuts(leaf.base)


def write_unit(shape: Sequence[int], stores: Sequence[Store]) -> tuple[int, ...] | Grid:
    """Give the unit that cells must be multiples of, or the irregular grid they must follow."""
    unit = [1] * len(shape)
    for store in stores:
        grid = store.write_grid
        if grid is None:
            continue
        if not grid.regular:
            return grid
        for axis, cut in enumerate(grid.axes):
            assert isinstance(cut, int)
            unit[axis] = math.lcm(unit[axis], min(cut, max(1, shape[axis])))
    return tuple(unit)


def choose_cut(
    shape: Sequence[int],
    elements: int,
    unit: Sequence[int],
    wish: Sequence[int] | None = None,
    reduced: Sequence[tuple[int, ...]] = (),
    runs: Iterable[tuple[int, int]] = (),
) -> tuple[int, ...]:
    """Give the cell shape of about `elements` elements, which reaches first as far as `runs` do.

    >>> choose_cut((1000, 1000), 4000, (1, 1))
    (4, 1000)
    >>> choose_cut((1000, 1000), 4000, (1, 1), wish=(100, 10))
    (100, 40)
    >>> choose_cut((1000, 1000), 4000, (1, 1), runs=[(0, 200)])
    (200, 20)
    """
    step = joint_unit(unit, wish)
    cell = [max(1, min(n, s)) for n, s in zip(shape, step, strict=True)]
    depth = {axis for axes in reduced for axis in axes}
    if depth and len(depth) < len(shape):
        _grow(
            cell, shape, step, sorted(depth, reverse=True), min(elements, _deep(cell, shape, depth))
        )
    for axis, length in runs:
        reach = list(shape)
        reach[axis] = max(cell[axis], min(shape[axis], -(-length // step[axis]) * step[axis]))
        _grow(cell, reach, step, [axis], elements)
    _grow(cell, shape, step, range(len(shape) - 1, -1, -1), elements)
    return tuple(cell)


def wish_for_whole(
    wish: Sequence[int] | None, shape: Sequence[int], reduced: Sequence[tuple[int, ...]]
) -> tuple[int, ...] | None:
    """Wish for all of reduced axes that are short, where no source has a cut of them.

    To cut them leaves as many whole results.

    >>> wish_for_whole((500, 500, 0), (12_000, 21_000, 9), [(2,)])
    (500, 500, 9)
    """
    depth = {axis for axes in reduced for axis in axes}
    if wish is None:
        return None
    if any(wish[axis] for axis in depth) or math.prod(shape[a] for a in depth) > REDUCED_DEPTH:
        return tuple(wish)
    return tuple(n if axis in depth else wish[axis] for axis, n in enumerate(shape))


def joint_unit(unit: Sequence[int], wish: Sequence[int] | None) -> tuple[int, ...]:
    """Give lengths that respect the unit and, where one is a multiple of the other, the wish."""
    return tuple(
        max(u, w) if w and (u % w == 0 or w % u == 0) else u
        for u, w in zip(unit, wish or (0,) * len(unit), strict=True)
    )


def _deep(cell: Sequence[int], shape: Sequence[int], depth: set[int]) -> int:
    """Elements of a cell that reaches `REDUCED_DEPTH` far along the reduced axes."""
    want = min(REDUCED_DEPTH, math.prod(shape[axis] for axis in depth))
    have = math.prod(cell[axis] for axis in depth)
    return max(math.prod(cell), math.prod(cell) * want // max(1, have))


def _grow(
    cell: list[int], shape: Sequence[int], step: Sequence[int], order: Iterable[int], elements: int
) -> None:
    """Lengthen a cell along the axes in order while it stays within `elements`."""
    for axis in order:
        rest = math.prod(cell) // max(1, cell[axis])
        most = elements // max(1, rest)
        if most >= shape[axis]:
            cell[axis] = max(1, shape[axis])
        elif most > cell[axis]:
            cell[axis] = most // step[axis] * step[axis]
            return


def shrink(cell: Sequence[int], unit: Sequence[int]) -> tuple[int, ...] | None:
    """Halve the first axis of a cell that is over its unit; None where all are at their units."""
    for axis, (n, u) in enumerate(zip(cell, unit, strict=True)):
        if n > u:
            half = max(u, n // 2 // u * u)
            return (*cell[:axis], half, *cell[axis + 1 :])
    return None


def reads_per_chunk(grid: Grid, recipe: Recipe) -> list[tuple[int, float]]:
    """Estimate, for each stored leaf, how many times its chunks are decoded under a grid."""
    out: list[tuple[int, float]] = []
    if not grid.size:
        return out
    for position, leaf in enumerate(recipe.leaves):
        store = getattr(leaf, "store", None)
        affine = getattr(leaf, "affine", None)
        if store is None or affine is None or store.addressable or not store.grid.size:
            continue
        cell = grid.chunk_shape
        ratio = 1.0
        for (axis, _, stride), chunk, n in zip(
            affine.terms, store.chunk_read, store.shape, strict=True
        ):
            reach = abs(stride) * (cell[axis] - 1) + 1 if axis >= 0 else 1
            reach = min(n, reach)
            span = abs(stride) * max(1, grid.shape[axis] - 1) + 1 if axis >= 0 else 1
            if reach < min(chunk, span):
                ratio *= min(chunk, span) / reach
        # Axes of the step that the leaf does not depend on read it again for each of their cells.
        used = {term.axis for term in affine.terms}
        for axis, count in enumerate(grid.counts):
            if axis not in used:
                ratio *= count
        out.append((position, ratio))
    return out


def bytes_wanted(recipes: Sequence[Recipe]) -> tuple[int, int]:
    """Give the bytes that a visit of the whole index space reads: mapped ones, and decoded ones."""
    met: dict[tuple[StoreLeaf, tuple[int, ...]], int] = {}
    stack = [(leaf, recipe.shape) for recipe in recipes for leaf in recipe.leaves]
    while stack:
        leaf, shape = stack.pop()
        if isinstance(leaf, StoreLeaf):
            met[leaf, shape] = _bytes_met(leaf, shape)
        elif isinstance(leaf, OverlayLeaf):
            inner = [patch.recipe for patch in leaf.patches]
            inner += [leaf.base] if leaf.base else []
            stack.extend((below, part.shape) for part in inner for below in part.leaves)
    # Views of one store overlap: nothing is read more often than whole, but for its own cut.
    totals: dict[int, tuple[Store, int]] = {}
    for (leaf, _), size in met.items():
        before = totals.get(id(leaf.store), (leaf.store, 0))[1]
        totals[id(leaf.store)] = leaf.store, min(leaf.store.bytes_size, before + size)
    mapped = sum(size for store, size in totals.values() if store.addressable)
    return mapped, sum(size for _, size in totals.values()) - mapped


def _bytes_met(leaf: StoreLeaf, shape: Sequence[int]) -> int:
    """Bytes of the chunks that a leaf meets."""
    if 0 in shape:
        return 0
    grid = leaf.store.grid
    count = leaf.store.dtype.itemsize
    for axis, span in enumerate(leaf.affine.bounding(region_of(shape))):
        chunks = grid.span(axis, span.start, span.stop)
        if leaf.store.addressable or not chunks:
            count *= span.stop - span.start
        else:
            count *= grid.bounds(axis, chunks[-1])[1] - grid.bounds(axis, chunks[0])[0]
    return count
