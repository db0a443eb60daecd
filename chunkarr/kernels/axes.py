"""Axes of operands that are walked together: fewer and longer ones, and which of them are reduced.

Nothing here looks at values. What reductions call rows and columns depends on shape and axes alone,
never on memory layout, because it decides the order of additions and so the bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.records import dataclass

Array = np.ndarray[Any, Any]
ALL = slice(None)


def unbroadcast(array: Array) -> Array:
    """Give axes of stride 0 the length 1."""
    if 0 not in array.strides:
        return array
    pairs = zip(array.shape, array.strides, strict=True)
    return array[tuple(slice(0, 1) if n > 1 and s == 0 else ALL for n, s in pairs)]


def _mergeable(array: Array, i: int) -> bool:
    """Whether axes i and i + 1 of an operand are one axis in memory, or both broadcast."""
    n, m = array.shape[i], array.shape[i + 1]
    if n == 1 or m == 1:
        return bool(n == m)
    return bool(array.strides[i] == array.strides[i + 1] * m)


def merge_axes(
    arrays: list[Array], shape: tuple[int, ...], kinds: list[bool]
) -> tuple[list[Array], tuple[int, ...], list[bool]]:
    """Join neighbouring axes of one kind that lie together in every operand."""
    groups: list[list[int]] = []
    for axis in range(len(shape)):
        joins = axis > 0 and kinds[axis] == kinds[axis - 1]
        if joins and all(_mergeable(a, axis - 1) for a in arrays if a.ndim):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) == len(shape):
        return arrays, shape, kinds
    merged = tuple(math.prod(shape[axis] for axis in group) for group in groups)
    arrays = [
        a.reshape([math.prod(a.shape[axis] for axis in group) for group in groups]) if a.ndim else a
        for a in arrays
    ]
    return arrays, merged, [kinds[group[0]] for group in groups]


def drop_axes(arrays: list[Array], keep: list[int]) -> list[Array]:
    """Remove the axes of length 1 that `keep` does not list."""
    count = max((a.ndim for a in arrays), default=0)
    if len(keep) == count:
        return arrays
    return [a.reshape([a.shape[axis] for axis in keep]) if a.ndim else a for a in arrays]


def collapse_map(
    arrays: Sequence[Array], outs: Sequence[Array]
) -> tuple[list[Array], tuple[int, ...]]:
    """Order the axes as the first output has them in memory, and join those that allow it."""
    shape, operands = outs[0].shape, [*arrays, *outs]
    if all(a.ndim == 0 or (a.flags.c_contiguous and a.shape == shape) for a in operands):
        if not shape:
            return operands, ()
        return [a.reshape(-1) if a.ndim else a for a in operands], (math.prod(shape),)
    operands = [unbroadcast(a) for a in operands]
    keep = [axis for axis, n in enumerate(shape) if n > 1]
    operands = drop_axes(operands, keep)
    strides = operands[len(arrays)].strides
    order = sorted(range(len(keep)), key=lambda axis: -abs(strides[axis]))
    operands = [a.transpose(order) if a.ndim else a for a in operands]
    lengths = tuple(shape[keep[axis]] for axis in order)
    operands, lengths, _ = merge_axes(operands, lengths, [False] * len(lengths))
    return operands, lengths


def fast_axes(operands: Sequence[Array]) -> list[int]:
    """Give the axes that operands of several axes have their smallest strides along.

    Of several such axes, as windows that overlap have them, it is the last.
    """
    found = set()
    for array in operands:
        moving = [axis for axis, n in enumerate(array.shape) if n > 1]
        if len(moving) > 1:
            found.add(min(reversed(moving), key=lambda axis: abs(array.strides[axis])))
    return sorted(found, reverse=True)


@dataclass(frozen=True, slots=True)
class Reduction:
    """The axes of a reduction, joined where possible: outer, innermost reduced, columns."""

    outer: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    """Kept axes behind the last reduced one; without any, values are reduced in C order."""
    groups: tuple[tuple[int, int], ...]
    """Ranges of reduced axes among the outer ones."""

    @property
    def shape(self) -> tuple[int, ...]:
        """All lengths in order."""
        return self.outer + self.rows + self.columns


def collapse_reduction(
    arrays: Sequence[Array], shape: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[list[Array], Reduction]:
    """Drop axes of length 1, join neighbours, and sort the rest into outer, rows and columns."""
    keep = [axis for axis, n in enumerate(shape) if n != 1]
    operands = drop_axes([unbroadcast(a) for a in arrays], keep)
    lengths = tuple(shape[axis] for axis in keep)
    operands, lengths, kinds = merge_axes(operands, lengths, [axis in axes for axis in keep])
    stop = max((axis + 1 for axis, reduced in enumerate(kinds) if reduced), default=len(kinds))
    start = stop
    while start > 0 and kinds[start - 1]:
        start -= 1
    groups: list[tuple[int, int]] = []
    for axis in range(start):
        if kinds[axis] and groups and groups[-1][1] == axis:
            groups[-1] = groups[-1][0], axis + 1
        elif kinds[axis]:
            groups.append((axis, axis + 1))
    reduction = Reduction(lengths[:start], lengths[start:stop], lengths[stop:], tuple(groups))
    return operands, reduction
