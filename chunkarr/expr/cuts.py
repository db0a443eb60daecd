"""The cut that an expression has from what it is made of, as people see it in `x.chunks`.

Stored arrays and `rechunk` have cuts of their own. Elementwise work keeps them, views and
reductions keep what they keep of the axes; where nothing says how to cut, there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from chunkarr.expr.affine import Affine
from chunkarr.expr.node import Expr, Reduce, Regrid, Source, View
from chunkarr.grid import Grid
from chunkarr.storage.store import Store

Step = Callable[[Grid], Grid]


def cut_of(expr: Expr) -> Grid | None:
    """Give the cut of an expression, or None where nothing it is made of has one."""
    steps: list[Step] = []
    node = expr
    while True:
        below = _below(node, steps)
        if isinstance(below, Grid):
            for step in reversed(steps):
                below = step(below)
            return below
        if below is None:
            return None
        node = below


def computed(expr: Expr, store: Store) -> Source:
    """Give the source that reads an expression's value where it was computed to; its cut stays."""
    return Source(shape=expr.shape, dtype=expr.dtype, line=expr.line, store=store, cut=cut_of(expr))


def _below(node: Expr, steps: list[Step]) -> Expr | Grid | None:
    """Give what decides about a node's cut, and note what the node makes of it."""
    if isinstance(node, Regrid):
        return node.grid
    if isinstance(node, Source):
        if node.cut is not None:
            return node.cut
        own = not node.store.in_memory and node.store.grid.size > 1
        return node.store.grid if own else None
    if isinstance(node, View):
        affine = node.affine
        steps.append(lambda grid: seen_through(grid, affine))
        return node.operands[0]
    if isinstance(node, Reduce):
        gone = node.axes
        steps.append(lambda grid: without(grid, gone))
        return node.operands[0]
    same = [o for o in node.operands if o.shape == node.shape]
    return same[0] if same else None


def without(grid: Grid, gone: tuple[int, ...]) -> Grid:
    """Leave out axes.

    >>> without(Grid((10, 4), (5, 2)), (0,)).sizes
    ((2, 2),)
    """
    kept = [axis for axis in range(len(grid.shape)) if axis not in gone]
    return Grid(tuple(grid.shape[a] for a in kept), tuple(grid.axes[a] for a in kept))


def seen_through(grid: Grid, affine: Affine) -> Grid:
    """Give the cut of a view: chunks that it shows nothing of are left out.

    >>> from chunkarr.expr.affine import Term
    >>> seen_through(Grid((10,), (4,)), Affine((5,), (Term(0, 1, 2),))).sizes
    ((2, 2, 1),)
    """
    axes: list[int | tuple[int, ...]] = [max(1, n) for n in affine.shape]
    met: set[int] = set()
    for axis, (along, offset, stride) in enumerate(affine.terms):
        if along < 0 or not stride or along in met:
            continue
        met.add(along)
        axes[along] = _axis(grid, axis, affine.shape[along], offset, stride)
    return Grid(affine.shape, tuple(axes))


def _axis(grid: Grid, axis: int, n: int, offset: int, stride: int) -> int | tuple[int, ...]:
    """Cut `n` places that start at an offset and go on by a stride."""
    size = grid.axes[axis]
    if n == 0:
        return 1
    if isinstance(size, int) and stride == 1 and offset % size == 0:
        return min(size, n)
    first, last = sorted((offset, offset + stride * (n - 1)))
    chunks = grid.span(axis, first, last + 1)
    sizes = []
    done = 0
    for i in chunks if stride > 0 else reversed(chunks):
        start, stop = grid.bounds(axis, i)
        # Places up to the end of the chunk, in the order in which the view goes.
        reach = (stop - 1 - offset) // stride if stride > 0 else (offset - start) // -stride
        upto = min(n, reach + 1)
        if upto > done:
            sizes.append(upto - done)
            done = upto
    return Grid.from_sizes([sizes]).axes[0]
