"""Fancy indexing: any mix of integer arrays, slices, integers and new axes as a gather or scatter.

The axes that arrays index are brought together by a view and folded into one, so that one array of
places along one axis remains. Slices, integers on other axes and new axes are part of the view, and
so writing goes through it to the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.errors import NotYetError
from chunkarr.expr.affine import Affine, Term
from chunkarr.expr.build import (
    along,
    apply,
    as_expr,
    caller,
    cast_lazily,
    own,
    reshape,
    stretch,
)
from chunkarr.expr.node import Expr, Gather, Generate, Scatter, Source
from chunkarr.records import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """What a fancy index means: gather along `axis` of a folded view."""

    affine: Affine
    """The view of the indexed array: indexed axes side by side from `axis` on."""
    folded: Shape
    """The view's shape with the indexed axes as one."""
    axis: int
    index: Expr
    """Places along that axis, one-dimensional."""
    shape: Shape
    """The result's shape."""


def read_places(key: Sequence[Any], shape: Shape) -> Places:
    """Read a fancy index; raises NumPy's errors for what can be known now."""
    items = _expand(list(key), shape)
    indexed = [i for i, item in enumerate(items) if isinstance(item, Expr | int)]
    arrays = [_as_index(items[i]) for i in indexed]
    try:
        spread = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = " ".join(
            f"({','.join(map(str, a.shape))}{',' if a.ndim == 1 else ''})" for a in arrays
        )
        message = (
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        )
        raise IndexError(message) from None
    together = indexed == list(range(indexed[0], indexed[-1] + 1))
    before = [i for i in range(indexed[0]) if i not in indexed] if together else []
    after = [i for i in range(len(items)) if i not in indexed and i not in before]
    return _fold(items, indexed, arrays, before, after, spread, shape)


def _fold(
    items: list[Any],
    indexed: list[int],
    arrays: list[Expr],
    before: list[int],
    after: list[int],
    spread: Shape,
    shape: Shape,
) -> Places:
    axes = iter(range(len(shape)))
    source = {i: next(axes) for i, item in enumerate(items) if item is not None}
    order = [*before, *indexed, *after]
    lengths: list[int] = []
    terms: list[Term] = [Term(-1, 0, 0)] * len(shape)
    for place, i in enumerate(order):
        item = items[i]
        if item is None:
            lengths.append(1)
            continue
        n = shape[source[i]]
        start, step, count = 0, 1, n
        if isinstance(item, slice):
            start, stop, step = item.indices(n)
            count = len(range(start, stop, step))
            start = start if count else 0
        terms[source[i]] = Term(place, start, step)
        lengths.append(count)
    axis = len(before)
    sizes = [shape[source[i]] for i in indexed]
    index = _linear(arrays, sizes, [source[i] for i in indexed], spread)
    folded = (
        *lengths[:axis],
        int(np.prod(sizes, dtype=object)),
        *lengths[axis + len(indexed) :],
    )
    result = (*lengths[:axis], *spread, *lengths[axis + len(indexed) :])
    return Places(Affine(tuple(lengths), tuple(terms)), folded, axis, index, result)


def _expand(items: list[Any], shape: Shape) -> list[Any]:
    """Replace Ellipsis by slices and boolean arrays by the places of their true values."""
    out: list[Any] = []
    for item in items:
        if _kind(item) == "b" and not isinstance(item, Expr):
            mask = np.asarray(item)
            out.extend(as_expr(part) for part in np.nonzero(mask))
            _check_mask(mask.shape, shape, len([o for o in out if o is not None]) - mask.ndim)
        elif _kind(item) == "b":
            message = "a chunked boolean array among other indices: use it alone, x[mask]"
            raise NotYetError(message)
        else:
            out.append(item if item is None or item is Ellipsis else _plain(item))
    used = sum(item is not None and item is not Ellipsis for item in out)
    if used > len(shape):
        message = (
            f"too many indices for array: array is {len(shape)}-dimensional, "
            f"but {used} were indexed"
        )
        raise IndexError(message)
    whole = [slice(None)] * (len(shape) - used)
    if Ellipsis not in [item for item in out if item is Ellipsis]:
        return [*out, *whole]
    at = next(i for i, item in enumerate(out) if item is Ellipsis)
    return [*out[:at], *whole, *out[at + 1 :]]


def _check_mask(mask: Shape, shape: Shape, start: int) -> None:
    for offset, m in enumerate(mask):
        axis = start + offset
        if axis < len(shape) and m not in (shape[axis], 0):
            message = (
                f"boolean index did not match indexed array along axis {axis}; size of axis is "
                f"{shape[axis]} but size of corresponding boolean axis is {m}"
            )
            raise IndexError(message)


def _kind(item: Any) -> str:
    dtype = getattr(item, "dtype", None)
    return dtype.kind if dtype is not None else "b" if isinstance(item, bool) else ""


def _plain(item: Any) -> Any:
    if isinstance(item, slice | Expr):
        return item
    if isinstance(item, int | np.integer):
        return int(item)
    return as_expr(item)


def _as_index(item: Any) -> Expr:
    index = as_expr(item)
    if index.dtype.kind not in "iu":
        if index.size == 0:
            return cast_lazily(index, np.dtype(np.int64))
        message = "arrays used as indices must be of integer (or boolean) type"
        raise IndexError(message)
    return cast_lazily(index, np.dtype(np.int64))


def _linear(arrays: list[Expr], sizes: list[int], axes: list[int], spread: Shape) -> Expr:
    """Give places along the folded axis, checked against each axis's length."""
    total: Expr | None = None
    for array, n, axis in zip(arrays, sizes, axes, strict=True):
        checked = check_bounds(array, n, axis)
        total = checked if total is None else apply("add", apply("multiply", total, n), checked)
    assert total is not None
    total = total if total.shape == spread else stretch(total, spread)
    if total.ndim == 1:
        return total
    size = int(np.prod(spread, dtype=object))
    return reshape(total, (size,))


def check_bounds(index: Expr, n: int, axis: int) -> Expr:
    """Give an index with negative places counted from the end; out of bounds is an IndexError.

    Indices in memory are checked now, others when they are computed.
    """
    values = _known(index)
    if values is not None:
        bad = values[(values < -n) | (values >= n)]
        if bad.size:
            message = f"index {bad.flat[0]} is out of bounds for axis {axis} with size {n}"
            raise IndexError(message)
        return as_expr(np.where(values < 0, values + n, values)) if (values < 0).any() else index
    bound = as_expr(np.int64(n))
    return own("place", np.dtype(np.int64), index, bound)


def _known(index: Expr) -> np.ndarray[Any, Any] | None:
    if isinstance(index, Source) and index.store.in_memory:
        return index.store.read(tuple(slice(0, n) for n in index.shape))
    if isinstance(index, Generate) and index.kind == "full":
        return np.asarray(index.values[0])
    return None


def gather(operand: Expr, places: Places) -> Expr:
    """Take the named places of a folded view."""
    at, n = places.axis, places.index.size
    shape = (*places.folded[:at], n, *places.folded[at + 1 :])
    taken: Expr = Gather(
        shape=shape,
        dtype=operand.dtype,
        operands=(operand, places.index),
        line=caller(),
        axis=at,
    )
    return reshape(taken, places.shape)


def scatter(operand: Expr, places: Places, value: Expr) -> Expr:
    """Lay a value over the named places of a folded view; gives the view's new value."""
    at, n = places.axis, places.index.size
    if n == 0 or 0 in places.shape:
        return operand
    shape = (*places.folded[:at], n, *places.folded[at + 1 :])
    return Scatter(
        shape=operand.shape,
        dtype=operand.dtype,
        operands=(operand, places.index, reshape(value, shape)),
        line=caller(),
        axis=at,
    )


def take(a: Expr, indices: Any, axis: int | None = None, mode: str = "raise") -> Expr:
    """Take elements along an axis, of the flattened array by default."""
    from_axis, number = along(a, axis)
    if mode not in ("raise", "wrap", "clip"):
        message = f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})"
        raise ValueError(message)
    index = cast_lazily(as_expr(indices), np.dtype(np.int64))
    n = from_axis.shape[number]
    if mode == "wrap":
        index = apply("remainder", index, n)
    elif mode == "clip":
        index = apply("minimum", apply("maximum", index, 0), n - 1)
    key = (*(slice(None),) * number, index)
    return gather(from_axis, read_places(key, from_axis.shape))
