"""The same bytes under another dtype, and the fields of records: what `view` and `x["a"]` read.

Elements of the same size are looked at one by one. A larger element is joined from neighbours along
the last axis, smaller ones are laid side by side: slices and elementwise calls, so that the planner
needs nothing new. Rejected: reading files as bytes, which only files could do.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.errors import NotYetError
from chunkarr.expr.affine import Affine, Progression, Term
from chunkarr.expr.build import constant, insert_axes, view
from chunkarr.expr.node import Dtype, Expr, Shape
from chunkarr.functions.pieces import call, interleave, span

NDArray = npt.NDArray[Any]

PARTS_MAX = 64
"""The most pieces that one element is joined from or taken apart into."""


def reinterpret(a: Expr, dtype: Dtype, shape: Shape) -> Expr:
    """Give the bytes of elements another dtype; `shape` is what NumPy's `view` gives."""
    if a.dtype == dtype and a.shape == shape:
        return a
    if 0 in shape or not dtype.itemsize:
        return constant(np.zeros((), dtype), shape=shape)
    old, new = a.dtype.itemsize, dtype.itemsize
    if old == new:
        return call(functools.partial(_as, dtype), dtype, a)
    if new % old == 0:
        return _join(a, dtype, new // old)
    if old % new == 0:
        return _part(a, dtype, old // new)
    step = np.dtype(f"V{math.gcd(old, new)}")
    count = a.shape[-1] * old // step.itemsize
    return _join(_part(a, step, old // step.itemsize), dtype, count // shape[-1])


def _check(count: int) -> None:
    if count > PARTS_MAX:
        message = (
            f"a view that takes an element apart into {count} runs on arrays in memory only; "
            f"at most {PARTS_MAX} otherwise"
        )
        raise NotYetError(message)


def _join(a: Expr, dtype: Dtype, count: int) -> Expr:
    _check(count)
    n = a.shape[-1] // count
    parts = [span(a, a.ndim - 1, j, n, count if n > 1 else 1) for j in range(count)]
    return call(functools.partial(_joined, dtype), dtype, *parts)


def _part(a: Expr, dtype: Dtype, count: int) -> Expr:
    if count == 1:
        return call(functools.partial(_as, dtype), dtype, a)
    _check(count)
    parts = [call(functools.partial(_nth, dtype, j), dtype, a) for j in range(count)]
    lead = tuple(Progression(0, 1, n) for n in a.shape[:-1])
    places = [(*lead, Progression(j, count, a.shape[-1])) for j in range(count)]
    return interleave(parts, places, (*a.shape[:-1], a.shape[-1] * count), "view")


def _as(dtype: Dtype, values: NDArray) -> NDArray:
    return np.asarray(values, order="C").view(dtype)


def _joined(dtype: Dtype, *parts: NDArray) -> NDArray:
    # A part that is the same everywhere comes without axes.
    whole: NDArray = np.stack(np.broadcast_arrays(*parts), axis=-1).view(dtype)[..., 0]
    return whole


def _nth(dtype: Dtype, j: int, values: NDArray) -> NDArray:
    parts: NDArray = np.array(values, order="C", ndmin=1)[..., None].view(dtype)[..., j]
    return parts


def byteswap(a: Expr) -> Expr:
    """Reverse the bytes of each number, whose dtype stays."""
    np.empty((0,), a.dtype).byteswap()  # NumPy's own refusal
    return call(_swapped, a.dtype, a)


def _swapped(values: NDArray) -> NDArray:
    return values.byteswap()


# -- records ---------------------------------------------------------------------------------------

Key = str | tuple[str, ...]
"""One field, or several as a record of them."""


def field_dtype(dtype: Dtype, key: Key) -> Dtype:
    """Give the dtype that a field, or a view of several, has; raises NumPy's errors.

    An array in a field shows as its dtype with a shape.
    """
    shown = np.empty((0,), dtype)[_index(key)]
    return np.dtype((shown.dtype, shown.shape[1:])) if shown.ndim > 1 else shown.dtype


def field(a: Expr, key: Key) -> Expr:
    """Give a field of records, or records of several fields with their places kept."""
    kind = field_dtype(a.dtype, key)
    if kind.subdtype is None:
        return call(functools.partial(_field, key, ()), kind, a)
    inner, within = kind.subdtype
    if 0 in (*a.shape, *within):
        return constant(np.zeros((), inner), shape=(*a.shape, *within))
    spots = _spots(within)
    parts = [call(functools.partial(_field, key, spot), inner, a) for spot in spots]
    axes = range(a.ndim, a.ndim + len(within))
    wide = [insert_axes(part, axes) for part in parts]
    lead = tuple(Progression(0, 1, n) for n in a.shape)
    places = [(*lead, *(Progression(i, 1, 1) for i in spot)) for spot in spots]
    return interleave(wide, places, (*a.shape, *within), "field")


def with_field(a: Expr, key: Key, value: Expr) -> Expr:
    """Give records with a field, or several, replaced; `value` is as `field` gives it."""
    kind = field_dtype(a.dtype, key)
    if kind.subdtype is None:
        return call(functools.partial(_with_field, key, None), a.dtype, a, value)
    if 0 in value.shape:
        return a
    spots = _spots(kind.subdtype[1])
    parts = [_inner(value, spot) for spot in spots]
    return call(functools.partial(_with_field, key, spots), a.dtype, a, *parts)


def _spots(within: Shape) -> list[tuple[int, ...]]:
    _check(math.prod(within))
    return list(itertools.product(*map(range, within)))


def _inner(value: Expr, spot: tuple[int, ...]) -> Expr:
    """Look at one place of the trailing axes."""
    shape = value.shape[: value.ndim - len(spot)]
    terms = (*Affine.identity(shape).terms, *(Term(-1, at, 0) for at in spot))
    return view(value, Affine(shape, terms))


def _index(key: Key) -> Any:
    return key if isinstance(key, str) else list(key)


def _field(key: Key, spot: tuple[int, ...], values: NDArray) -> NDArray:
    found: NDArray = values[_index(key)]
    at: Any = (..., *spot)
    return found[at] if spot else found


def _with_field(
    key: Key, spots: Sequence[tuple[int, ...]] | None, base: NDArray, *values: NDArray
) -> NDArray:
    shape = np.broadcast_shapes(base.shape, *(v.shape for v in values))
    out = np.array(np.broadcast_to(base, shape))
    target = out[_index(key)]
    if spots is None:
        np.copyto(target, values[0], casting="unsafe")
        return out
    for spot, value in zip(spots, values, strict=True):
        at: Any = (..., *spot)
        target[at] = value
    return out


def compare_records(left: Expr, right: Expr, *, equal: bool) -> Expr:
    """Compare records; NumPy says which dtypes it compares, and refuses the others."""
    compare = operator.eq if equal else operator.ne
    compare(*(np.empty((0,), side.dtype) for side in (left, right)))
    return call(functools.partial(_compared, compare), bool, left, right)


def _compared(compare: Callable[[Any, Any], Any], left: NDArray, right: NDArray) -> NDArray:
    return np.asarray(compare(left, right))
