"""Joining, splitting and moving: functions that lay pieces of arrays beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.expr.affine import Affine, Progression, Term
from chunkarr.expr.build import (
    caller,
    cast_lazily,
    flatten,
    insert_axes,
    normalize_axis,
    reshape,
    stretch,
    view,
)
from chunkarr.expr.node import Expr, Overlay, Regrid
from chunkarr.grid import Grid


def concatenate(
    arrays: Sequence[Expr],
    axis: int | None = 0,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
    into: Any = None,
) -> Expr:
    """Join arrays along an axis they have; `into` is the dtype of an array for the result."""
    if not arrays:
        message = "need at least one array to concatenate"
        raise ValueError(message)
    parts = (
        [flatten(a) if a.ndim else insert_axes(a, (0,)) for a in arrays]
        if axis is None
        else list(arrays)
    )
    number = 0 if axis is None else _check_join(parts, axis)
    # NumPy itself decides about the dtype and what may be cast to it.
    shown = [np.empty((0,), part.dtype) for part in parts]
    target = None if into is None else np.empty((0,), into)
    wanted = np.concatenate(shown, out=target, dtype=dtype, casting=casting).dtype
    return join([cast_lazily(p, wanted) for p in parts], number, "concatenate")


def _check_join(parts: Sequence[Expr], axis: int) -> int:
    ndim = parts[0].ndim
    if ndim == 0:
        message = "zero-dimensional arrays cannot be concatenated"
        raise ValueError(message)
    number = normalize_axis(axis, ndim)
    for position, part in enumerate(parts):
        if part.ndim != ndim:
            message = (
                "all the input arrays must have same number of dimensions, but the array at "
                f"index 0 has {ndim} dimension(s) and the array at index {position} has "
                f"{part.ndim} dimension(s)"
            )
            raise ValueError(message)
        for i, (n, m) in enumerate(zip(parts[0].shape, part.shape, strict=True)):
            if n != m and i != number:
                message = (
                    "all the input array dimensions except for the concatenation axis must match "
                    f"exactly, but along dimension {i}, the array at index 0 has size {n} and the "
                    f"array at index {position} has size {m}"
                )
                raise ValueError(message)
    return number


def join(parts: Sequence[Expr], axis: int, verb: str) -> Expr:
    """Lay parts of one dtype one after the other along an axis."""
    if len(parts) == 1:
        return parts[0]
    places, start = [], 0
    for part in parts:
        places.append(
            tuple(Progression(start if i == axis else 0, 1, n) for i, n in enumerate(part.shape))
        )
        start += part.shape[axis]
    shape = tuple(start if i == axis else n for i, n in enumerate(parts[0].shape))
    return Overlay(
        shape=shape,
        dtype=parts[0].dtype,
        operands=tuple(parts),
        line=caller(),
        places=tuple(places),
        based=False,
        verb=verb,
    )


def stack(
    arrays: Sequence[Expr],
    axis: int = 0,
    *,
    dtype: object = None,
    casting: str = "same_kind",
    into: Any = None,
) -> Expr:
    """Join arrays along a new axis."""
    if not arrays:
        message = "need at least one array to stack"
        raise ValueError(message)
    if len({a.shape for a in arrays}) != 1:
        message = "all input arrays must have the same shape"
        raise ValueError(message)
    number = normalize_axis(axis, arrays[0].ndim + 1)
    wide = [insert_axes(a, (number,)) for a in arrays]
    return concatenate(wide, number, dtype=dtype, casting=casting, into=into)


def _at_least(a: Expr, ndim: int) -> Expr:
    return insert_axes(a, range(ndim - a.ndim)) if a.ndim < ndim else a


def vstack(tup: Sequence[Expr], *, dtype: object = None, casting: str = "same_kind") -> Expr:
    """Join arrays along the first axis, rows for one-dimensional ones."""
    return concatenate([_at_least(a, 2) for a in tup], 0, dtype=dtype, casting=casting)


def hstack(tup: Sequence[Expr], *, dtype: object = None, casting: str = "same_kind") -> Expr:
    """Join arrays along the second axis, the first for one-dimensional ones."""
    parts = [_at_least(a, 1) for a in tup]
    return concatenate(
        parts, 0 if parts and parts[0].ndim == 1 else 1, dtype=dtype, casting=casting
    )


def roll(a: Expr, shift: Any, axis: Any = None) -> Expr:
    """Move elements along axes; what leaves at the end comes in at the start."""
    if axis is None:
        return reshape(roll(flatten(a), shift, 0), a.shape)
    axes = list(axis) if isinstance(axis, tuple | list) else [axis]
    shifts = list(shift) if isinstance(shift, tuple | list) else [shift]
    pairs = np.broadcast(shifts, axes)
    if pairs.ndim > 1:
        message = "'shift' and 'axis' should be scalars or 1D sequences"
        raise ValueError(message)
    total: dict[int, int] = {}
    for by, along in pairs:
        number = normalize_axis(along, a.ndim)
        total[number] = total.get(number, 0) + int(by)
    for number, by in total.items():
        n = a.shape[number]
        offset = by % n if n else 0
        if offset:
            parts = [_part(a, number, n - offset, n), _part(a, number, 0, n - offset)]
            a = join(parts, number, "roll")
    return a


def _part(a: Expr, axis: int, start: int, stop: int) -> Expr:
    shape = tuple(stop - start if i == axis else n for i, n in enumerate(a.shape))
    terms = tuple(Term(i, start if i == axis else 0, 1) for i in range(a.ndim))
    return view(a, Affine(shape, terms))


NODES_SEEN_MAX = 16


def _apart(value: Expr, base: Expr) -> bool:
    """Whether a value plainly does not read the base; a large expression counts as reading it."""
    stack, seen = [value], 0
    while stack:
        node = stack.pop()
        seen += 1
        if node is base or seen > NODES_SEEN_MAX:
            return False
        stack.extend(node.operands)
    return True


def assign(
    base: Expr, places: tuple[Progression, ...], value: Expr, *, unread: bool = False
) -> Expr:
    """Lay a value over part of a base; `value` has one axis per base axis.

    `unread` says that the value is known not to read the base.
    """
    if any(place.count == 0 for place in places):
        return base
    counts = tuple(place.count for place in places)
    patch = cast_lazily(value if value.shape == counts else stretch(value, counts), base.dtype)
    whole = counts == base.shape and all(p.first == 0 and p.step == 1 for p in places)
    if whole:
        return patch
    if (
        isinstance(base, Overlay)
        and base.verb == "assign"
        and base.based
        and (unread or _apart(patch, base))
    ):
        # One node with many patches, however many assignments there were.
        operands, spots = (*base.operands, patch), (*base.places, places)
    else:
        operands, spots = (base, patch), (places,)
    return Overlay(
        shape=base.shape,
        dtype=base.dtype,
        operands=operands,
        line=caller(),
        places=spots,
        based=True,
    )


def regrid(a: Expr, grid: Grid) -> Expr:
    """Give the nominal cut that storing follows."""
    inner = a.operands[0] if isinstance(a, Regrid) else a
    return Regrid(shape=a.shape, dtype=a.dtype, operands=(inner,), line=caller(), grid=grid)
