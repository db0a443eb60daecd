"""Reductions by NumPy, a stretch of the axis at a time: `reduceat`, and ufuncs that group one way.

`subtract`, `divide`, `power` and their like have to go from the start to the end: what a stretch
gives is the first operand of the next one, and nothing but the results so far is kept. Only where
an axis has very many stretches is it a scan, whose running values are stored on the way. Rejected:
rewriting `subtract` as sums, which rounds otherwise than NumPy does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import apply, cast_lazily, constant, insert_axes, view
from chunkarr.expr.node import Dtype, Expr
from chunkarr.functions.lanes import lanes
from chunkarr.functions.manipulation import join
from chunkarr.functions.pieces import span
from chunkarr.functions.reductions import accumulate
from chunkarr.functions.views import moveaxis, squeeze
from chunkarr.settings import settings

STRETCHES_MAX = 256
"""The most stretches of an axis that are reduced one after the other."""


def in_order(
    ufunc: str, a: Expr, axes: tuple[int, ...], dtype: Dtype, keepdims: bool, initial: object
) -> Expr:
    """Reduce one axis from its start to its end."""
    if not axes:
        values = cast_lazily(a, dtype)
        return values if initial is None else apply(ufunc, constant(initial, dtype), values)
    (axis,) = axes
    whole = cast_lazily(a, dtype)
    if initial is not None:
        first = tuple(1 if i == axis else n for i, n in enumerate(a.shape))
        whole = join([constant(initial, dtype, first), whole], axis, "initial")
    n = whole.shape[axis]
    length = _length(whole)
    count = math.ceil(n / length)
    if n > 1 and count <= STRETCHES_MAX:
        moved = view(whole, moveaxis(whole.shape, axis, -1))
        made = _stretches(ufunc, moved, math.ceil(n / count))
        return insert_axes(made, (axis,)) if keepdims else made
    running = accumulate(ufunc, whole, axis, dtype) if n > 1 else whole
    last = span(running, axis, n - 1, 1)
    return last if keepdims else view(last, squeeze(last.shape, axis))


def _length(a: Expr) -> int:
    """Give how many elements of an axis are reduced by one call."""
    return max(2, settings().chunk_bytes // max(1, a.dtype.itemsize))


def in_slices(ufunc: str, a: Expr, starts: Sequence[int], axis: int, dtype: Dtype) -> Expr | None:
    """Reduce the slices that begin at ascending places; None where one is too long for a call."""
    whole = cast_lazily(a, dtype)
    moved = view(whole, moveaxis(whole.shape, axis, -1))
    length, ends = _length(whole), [*starts[1:], a.shape[axis]]
    groups: list[list[int]] = []
    for start, end in zip(starts, ends, strict=True):
        if end - start > length:
            return None
        if not groups or end - groups[-1][0] > length:
            groups.append([])
        groups[-1].append(start)
    if len(groups) > STRETCHES_MAX:
        return None
    bounds = [group[0] for group in groups[1:]] + [a.shape[axis]]
    parts: list[Expr] = []
    for group, end in zip(groups, bounds, strict=True):
        places = tuple(start - group[0] for start in group)
        options = (("ufunc", ufunc), ("places", places))
        part = span(moved, a.ndim - 1, group[0], end - group[0])
        parts += lanes(_sliced, [part], [1], [(len(group),)], [dtype], name=ufunc, options=options)
    made = join(parts, a.ndim - 1, f"{ufunc}.reduceat")
    return view(made, moveaxis(made.shape, -1, axis))


def _sliced(values: npt.NDArray[Any], *, ufunc: str, places: tuple[int, ...]) -> npt.NDArray[Any]:
    made = getattr(np, ufunc).reduceat(values, places, axis=-1, dtype=values.dtype)
    return np.asarray(made)


def _stretches(ufunc: str, a: Expr, length: int) -> Expr:
    """Reduce the last axis, so many elements at a time."""
    axis, n = a.ndim - 1, a.shape[-1]
    options = (("ufunc", ufunc),)
    parts = [span(a, axis, start, min(length, n - start)) for start in range(0, n, length)]
    (made,) = lanes(_reduced, parts[:1], [1], [()], [a.dtype], name=ufunc, options=options)
    for part in parts[1:]:
        (made,) = lanes(
            _continued, [made, part], [0, 1], [()], [a.dtype], name=ufunc, options=options
        )
    return made


def _reduced(values: npt.NDArray[Any], *, ufunc: str) -> npt.NDArray[Any]:
    return np.asarray(getattr(np, ufunc).reduce(values, axis=-1, dtype=values.dtype))


def _continued(
    before: npt.NDArray[Any], values: npt.NDArray[Any], *, ufunc: str
) -> npt.NDArray[Any]:
    return _reduced(np.concatenate([before[..., None], values], -1), ufunc=ufunc)
