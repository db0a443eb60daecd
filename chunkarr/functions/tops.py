"""The largest elements along an axis: chunk by chunk, then among those that are left.

Nothing is sorted but what is given: of each stretch of the axis only as many elements survive as
are wanted, with their places, and the survivors are searched again until one call sees them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import caller
from chunkarr.expr.calls import Call, Laid, Made
from chunkarr.expr.node import Blocks, Expr
from chunkarr.functions.creation import index_along
from chunkarr.functions.pieces import span
from chunkarr.grid import Grid

NDArray = npt.NDArray[Any]

SURVIVORS = 8
"""A stretch is so many times as long as what survives of it, at least."""

STRETCH = 1 << 16
"""Elements of a stretch after the first round."""


def top(a: Expr, grid: Grid, k: int, axis: int) -> tuple[Expr, Expr]:
    """Give the k largest elements along an axis, largest first, and their places.

    A negative k gives the smallest, smallest first. NaN counts as largest, as in a sort. There are
    fewer than k where the axis is shorter. `grid` says in which chunks `a` is read at first.
    """
    values, places = a, _places(a.shape, axis)
    if not k or not a.size:
        n = min(abs(k), a.shape[axis])
        return span(values, axis, 0, n), span(places, axis, 0, n)
    while grid.counts[axis] > 1:
        values, places = _round(values, places, grid, k, axis, last=False)
        n = values.shape[axis]
        stretch = max(SURVIVORS * abs(k), STRETCH)
        cut = tuple(stretch if i == axis else m for i, m in enumerate(grid.axes))
        grid = Grid(values.shape, cut if n > stretch else _whole(cut, axis, n))
    return _round(values, places, grid, k, axis, last=True)


def _whole(cut: tuple[Any, ...], axis: int, n: int) -> tuple[Any, ...]:
    return tuple(max(1, n) if i == axis else m for i, m in enumerate(cut))


def _places(shape: tuple[int, ...], axis: int) -> Expr:
    made = index_along(shape, axis, np.intp)
    assert isinstance(made, Expr)
    return made


def _round(
    values: Expr, places: Expr, grid: Grid, k: int, axis: int, *, last: bool
) -> tuple[Expr, Expr]:
    """Keep of each chunk what may be among the largest."""
    sizes = list(grid.sizes)
    sizes[axis] = tuple(min(abs(k), n) for n in sizes[axis])
    made = Grid.from_sizes(sizes)
    every = tuple(range(values.ndim))
    laid = Laid(grid, every)
    call = Call(
        survivors,
        "topk",
        grid.counts,
        (laid, laid),
        (Made(values.dtype, Laid(made, every)), Made(places.dtype, Laid(made, every))),
        options=(("k", k), ("axis", axis), ("ordered", last)),
        scratch=2.0,
    )
    line = caller()
    first, second = (
        Blocks(
            shape=made.shape,
            dtype=dtype,
            operands=(values, places),
            line=line,
            call=call,
            output=output,
        )
        for output, dtype in enumerate((values.dtype, places.dtype))
    )
    return first, second


def survivors(
    values: NDArray, places: NDArray, *, k: int, axis: int, ordered: bool
) -> tuple[NDArray, NDArray]:
    """Give the |k| largest or smallest elements along an axis with their places."""
    n = values.shape[axis]
    count = min(abs(k), n)
    kept, at = values, places
    if count < n:
        pivot = min(n - 1, n - count) if k > 0 else max(0, count - 1)
        order = np.argpartition(values, pivot, axis=axis)
        span = slice(n - count, n) if k > 0 else slice(0, count)
        chosen = order[(*(slice(None),) * axis, span)]
        kept, at = (np.take_along_axis(part, chosen, axis) for part in (values, places))
    if ordered:
        turned = np.argsort(kept, axis=axis, kind="stable")
        if k > 0:
            turned = np.flip(turned, axis)
        kept, at = (np.take_along_axis(part, turned, axis) for part in (kept, at))
    return kept, at
