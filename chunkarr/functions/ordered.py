"""Reductions by NumPy, a stretch of the axis at a time: `reduceat`, and ufuncs that group one way.

`subtract`, `divide`, `power` and their like have to go from the start to the end: what a stretch
gives is the first operand of the next one, and nothing but the results so far is kept. Only where
an axis has very many stretches is it a scan, whose running values are stored on the way. What
`where=` leaves out is taken from each lane before NumPy sees it. Rejected: rewriting `subtract` as
sums, which rounds otherwise than NumPy does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import apply, as_expr, cast_lazily, constant, insert_axes, view
from chunkarr.expr.build import where as where_
from chunkarr.expr.node import Dtype, Expr
from chunkarr.functions.lanes import lanes
from chunkarr.functions.manipulation import join
from chunkarr.functions.pieces import span
from chunkarr.functions.reductions import accumulate, stretch_to
from chunkarr.functions.views import moveaxis, squeeze
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]

STRETCHES_MAX = 256
"""The most stretches of an axis that are reduced one after the other."""


def in_order(
    ufunc: str,
    a: Expr,
    axes: tuple[int, ...],
    dtype: Dtype,
    keepdims: bool,
    initial: object,
    where: Any = True,
) -> Expr:
    """Reduce one axis from its start to its end."""
    whole = cast_lazily(a, dtype)
    mask = None if where is True or where is None else stretch_to(as_expr(where), a)
    if not axes:
        made = whole if initial is None else apply(ufunc, constant(initial, dtype), whole)
        return made if mask is None else where_(mask, made, constant(initial, dtype))
    (axis,) = axes
    if initial is not None:
        first = tuple(1 if i == axis else n for i, n in enumerate(a.shape))
        whole = join([constant(initial, dtype, first), whole], axis, "initial")
        if mask is not None:
            mask = join([constant(value=True, shape=first), mask], axis, "initial")
    n = whole.shape[axis]
    length = _length(whole)
    count = math.ceil(n / length) if mask is None else min(math.ceil(n / length), STRETCHES_MAX)
    if n > 1 and count <= STRETCHES_MAX:
        moved = [view(part, moveaxis(part.shape, axis, -1)) for part in (whole, mask) if part]
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


def _sliced(values: NDArray, *, ufunc: str, places: tuple[int, ...]) -> NDArray:
    if ufunc in VECTORISED:
        slices = np.split(values, places[1:], axis=-1)
        return np.stack([_folded(part, ufunc) for part in slices], -1)
    made = getattr(np, ufunc).reduceat(values, places, axis=-1, dtype=_kept_dtype(values))
    return np.asarray(made)


def _kept_dtype(values: NDArray) -> Any:
    """Give the dtype to ask for so that values keep theirs; times do, and may not be asked."""
    return None if values.dtype.kind in "mM" else values.dtype


def _stretches(ufunc: str, operands: Sequence[Expr], length: int) -> Expr:
    """Reduce the last axis of values, where a mask beside them says, so many at a time."""
    a = operands[0]
    axis, n = a.ndim - 1, a.shape[-1]
    options = (("ufunc", ufunc),)
    parts = [
        [span(o, axis, start, min(length, n - start)) for o in operands]
        for start in range(0, n, length)
    ]
    core = [1] * len(operands)
    (made,) = lanes(_reduced, parts[0], core, [()], [a.dtype], name=ufunc, options=options)
    for part in parts[1:]:
        (made,) = lanes(
            _continued, [made, *part], [0, *core], [()], [a.dtype], name=ufunc, options=options
        )
    return made


def _reduced(values: NDArray, mask: NDArray | None = None, *, ufunc: str) -> NDArray:
    if mask is None:
        return _folded(values, ufunc)
    out = np.empty(values.shape[:-1], values.dtype)
    for lane in np.ndindex(out.shape):
        out[lane] = _folded(values[lane][mask[lane]], ufunc)
    return out


def _folded(values: NDArray, ufunc: str) -> NDArray:
    if ufunc in VECTORISED:
        running = getattr(np, ufunc).accumulate(values, axis=-1, dtype=values.dtype)
        return np.asarray(running[..., -1])
    made = getattr(np, ufunc).reduce(values, axis=-1, dtype=_kept_dtype(values))
    return np.asarray(made)


VECTORISED = frozenset(("power", "arctan2"))
"""What NumPy 2.4 reduces wrongly along contiguous lanes, where its loops are for AVX-512."""


def _continued(
    before: NDArray, values: NDArray, mask: NDArray | None = None, *, ufunc: str
) -> NDArray:
    first = before[..., None]
    if mask is not None:
        mask = np.concatenate([np.ones(first.shape, np.bool_), mask], -1)
    return _reduced(np.concatenate([first, values], -1), mask, ufunc=ufunc)
