"""Chunks that see their neighbours: how far, and what lies beyond the ends of the array.

What lies beyond is laid around the array first, as `pad` does. A chunk then reads a wider box of
it, so nothing is exchanged between chunks and no chunk has to be as long as its neighbours reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from chunkarr.expr.node import Expr
from chunkarr.functions.blocks import Operand, Trim
from chunkarr.functions.padding import pad
from chunkarr.grid import Grid

MODES = {"reflect": "symmetric", "periodic": "wrap", "nearest": "edge"}
"""Dask's names of boundaries, and those of `numpy.pad`; "none" and values are apart."""

Depth = tuple[int, int]


def read_depth(depth: Any, ndim: int) -> tuple[Depth, ...]:
    """Give how far chunks reach before and after them along each axis.

    Takes dask's forms: an integer, a tuple for all axes, or a mapping of axes, in which a pair is
    asymmetric.
    """
    if depth is None:
        depth = 0
    if isinstance(depth, Integral):
        depth = (depth,) * ndim
    if not isinstance(depth, Mapping):
        depth = dict(enumerate(depth))
    pairs = []
    for axis in range(ndim):
        given = depth.get(axis, 0)
        before, after = given if isinstance(given, tuple) else (given, given)
        if before < 0 or after < 0:
            message = f"depth {given!r} on axis {axis}: give lengths that are not negative"
            raise ValueError(message)
        pairs.append((int(before), int(after)))
    return tuple(pairs)


def read_boundary(boundary: Any, ndim: int) -> tuple[Any, ...]:
    """Give what lies beyond each axis: "none", "reflect", "periodic", "nearest" or a value."""
    if boundary is None:
        boundary = "none"
    if not isinstance(boundary, tuple | Mapping):
        boundary = (boundary,) * ndim
    if not isinstance(boundary, Mapping):
        boundary = dict(enumerate(boundary))
    found = tuple(boundary.get(axis, "none") for axis in range(ndim))
    for kind in found:
        if isinstance(kind, str) and kind != "none" and kind not in MODES:
            message = f"boundary {kind!r}: give 'none', {', '.join(map(repr, MODES))} or a value"
            raise ValueError(message)
    return found


def widened(expr: Expr, grid: Grid, depths: Sequence[Depth], bounds: Sequence[Any]) -> Operand:
    """Give an array whose chunks reach into their neighbours and beyond its ends."""
    padded, reach, sizes = expr, [], []
    for axis, ((before, after), bound) in enumerate(zip(depths, bounds, strict=True)):
        closed = isinstance(bound, str) and bound == "none"
        cuts = list(grid.sizes[axis])
        last = len(cuts) - 1
        sizes.append(
            [
                n + (before if i or not closed else 0) + (after if i < last or not closed else 0)
                for i, n in enumerate(cuts)
            ]
        )
        if closed or not before + after:
            reach.append((before, after))
            continue
        padded = _padded(padded, axis, before, after, bound)
        # The padding moves all chunks by what lies before the first.
        reach.append((0, before + after))
    return Operand(padded, grid, Grid.from_sizes(sizes), tuple(reach))


def _padded(a: Expr, axis: int, before: int, after: int, bound: Any) -> Expr:
    widths = [(before, after) if i == axis else (0, 0) for i in range(a.ndim)]
    if isinstance(bound, str):
        return pad(a, widths, MODES[bound])
    return pad(a, widths, "constant", constant_values=np.asarray(bound).astype(a.dtype)[()])


def trims_for(depths: Sequence[Depth], bounds: Sequence[Any]) -> tuple[Trim, ...]:
    """Tell what each chunk of a result loses again."""
    return tuple(
        (before, after, not (isinstance(bound, str) and bound == "none"))
        for (before, after), bound in zip(depths, bounds, strict=True)
    )


def long_enough(grid: Grid, depths: Sequence[Depth]) -> Grid:
    """Join chunks with their neighbours until none is shorter than its depth, as dask does."""
    return Grid.from_sizes(
        [
            _joined(max(depth), sizes) if max(depth) > min(sizes) else sizes
            for depth, sizes in zip(depths, grid.sizes, strict=True)
        ]
    )


def _joined(least: int, sizes: Sequence[int]) -> list[int]:
    """Join sizes so that each is at least `least`.

    >>> _joined(10, (20, 20, 1)), _joined(3, (1, 1, 3))
    ([20, 11, 10], [5])
    """
    out: list[int] = []
    new = 0
    for n in sizes:
        if n < least:
            if new > 2 * least - n:
                out.append(new - (least - n))
                new = least
            else:
                new += n
        if new >= least:
            out.append(new)
            new = 0
        if n >= least:
            new += n
    if new >= least:
        out.append(new)
    elif out:
        out[-1] += new
    else:
        message = f"The overlapping depth {least} is larger than your array {sum(sizes)}."
        raise ValueError(message)
    return out


def aligned(arrays: Sequence[tuple[tuple[int, ...], Grid]]) -> list[Grid]:
    """Give cuts with all chunk ends that arrays of equal length have along a common axis."""
    ndim = max((len(shape) for shape, _ in arrays), default=0)
    cuts: dict[int, Sequence[int]] = {}
    for label in range(ndim):
        met = [
            grid.sizes[label - ndim + len(shape)]
            for shape, grid in arrays
            if label >= ndim - len(shape) and len(grid.sizes[label - ndim + len(shape)]) > 1
        ]
        lengths = {
            shape[label - ndim + len(shape)] for shape, _ in arrays if label >= ndim - len(shape)
        }
        if len(lengths - {1}) > 1:
            message = f"arrays have lengths {sorted(lengths)} along axis {label}"
            raise ValueError(message)
        if met:
            cuts[label] = _common(met)
    return [
        Grid.from_sizes(
            [
                cuts.get(axis + ndim - len(shape), (n,)) if n > 1 else (n,)
                for axis, n in enumerate(shape)
            ]
        )
        for shape, _ in arrays
    ]


def _common(cuts: Sequence[Sequence[int]]) -> list[int]:
    """Cut an axis wherever one of several cuts does."""
    ends = sorted({int(end) for sizes in cuts for end in np.cumsum(sizes)})
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]
