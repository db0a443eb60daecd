"""Joining, repeating, inserting and deleting, and the matrices that follow from a diagonal.

All of it is pieces laid beside each other. Few pieces are patches of one overlay, which fuses into
what reads it; copies without number are a stretched view that is folded to its new shape.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.affine import Progression
from chunkarr.expr.build import (
    along,
    apply,
    cast,
    cast_lazily,
    constant,
    flatten,
    insert_axes,
    normalize_shape,
    reshape,
    stretch,
    view,
    where,
)
from chunkarr.expr.node import Expr, Shape
from chunkarr.functions import views
from chunkarr.functions.creation import index_along
from chunkarr.functions.fancy import take
from chunkarr.functions.lookup import searchsorted
from chunkarr.functions.manipulation import concatenate, join
from chunkarr.functions.pieces import (
    add,
    at_least_1d,
    interleave,
    known,
    less,
    operand,
    span,
)
from chunkarr.functions.reductions import accumulate

NDArray = npt.NDArray[Any]

PATCHES_MAX = 64
"""More pieces than this are gathered, or folded out of a stretched view, not laid one by one."""


# -- joining ---------------------------------------------------------------------------------------


def append(arr: Expr, values: Any, axis: int | None = None) -> Expr:
    """Join values to the end, flattened without an axis."""
    return concatenate([operand(arr), operand(values)], axis)


def column_stack(tup: Sequence[Any]) -> Expr:
    """Join arrays as columns."""
    parts = [operand(a) for a in tup]
    columns = [a if a.ndim > 1 else insert_axes(flatten(at_least_1d(a)), (1,)) for a in parts]
    return concatenate(columns, 1)


def dstack(tup: Sequence[Any]) -> Expr:
    """Join arrays along the third axis."""
    return concatenate([_at_least_3d(operand(a)) for a in tup], 2)


def _at_least_3d(a: Expr) -> Expr:
    return insert_axes(a, {0: (0, 1, 2), 1: (0, 2), 2: (2,)}.get(a.ndim, ()))


def block(arrays: Any) -> Expr:
    """Join nested lists of arrays: the innermost along the last axis, outer ones before it."""
    depth = _depth(arrays)
    leaves: list[Expr] = []
    tree = _leaves(arrays, leaves)
    ndim = max(depth, *(leaf.ndim for leaf in leaves))
    kind = np.result_type(*(leaf.dtype for leaf in leaves))
    return _block(tree, kind, ndim, depth)


def _depth(tree: Any) -> int:
    if isinstance(tree, tuple):
        message = "arrays is a tuple. Only lists can be used to arrange blocks"
        raise TypeError(message)
    if not isinstance(tree, list):
        return 0
    depths = {_depth(item) for item in tree}
    if not depths:
        message = "List at arrays cannot be empty"
        raise ValueError(message)
    if len(depths) > 1:
        message = "List depths are mismatched"
        raise ValueError(message)
    return depths.pop() + 1


def _leaves(tree: Any, found: list[Expr]) -> Any:
    if isinstance(tree, list):
        return [_leaves(item, found) for item in tree]
    leaf = operand(tree)
    found.append(leaf)
    return leaf


def _block(tree: Any, kind: np.dtype[Any], ndim: int, depth: int) -> Expr:
    if depth:
        return concatenate([_block(item, kind, ndim, depth - 1) for item in tree], ndim - depth)
    return cast_lazily(insert_axes(tree, range(ndim - tree.ndim)), kind)


# -- repeating -------------------------------------------------------------------------------------


def tile(A: Expr, reps: Any) -> Expr:
    """Lay copies beside each other along each axis."""
    counts = [operator.index(n) for n in (reps if np.ndim(reps) else (reps,))]
    ndim = max(A.ndim, len(counts))
    normalize_shape(counts)  # refuses negative ones
    out = insert_axes(A, range(ndim - A.ndim))
    counts = [1] * (ndim - len(counts)) + counts
    for axis, count in enumerate(counts):
        out = _copies(out, axis, count)
    return out


def _copies(a: Expr, axis: int, count: int) -> Expr:
    shape = tuple(n * count if i == axis else n for i, n in enumerate(a.shape))
    if count == 0 or 0 in shape:
        return constant(np.zeros((), a.dtype), shape=normalize_shape(shape))
    if a.shape[axis] == 1:
        return stretch(a, shape)
    if count <= PATCHES_MAX:
        return join([a] * count, axis, "tile")
    wide = (*a.shape[:axis], count, *a.shape[axis:])
    return reshape(stretch(insert_axes(a, (axis,)), wide), shape)


def repeat(a: Expr, repeats: Any, axis: int | None = None) -> Expr:
    """Repeat each element along an axis, or each as often as `repeats` says."""
    a, axis = along(a, axis)
    n = a.shape[axis]
    counts = known(repeats, "repeat", "repeats")
    if not counts.size and isinstance(repeats, list | tuple):
        counts = counts.astype(np.intp)
    # NumPy checks the counts itself, on the places that are repeated.
    if counts.size == 1 and counts.ndim < 2:
        np.repeat(np.zeros(0), counts if isinstance(repeats, Expr) else repeats)
        count = int(counts.reshape(()))
        if count < 0:
            message = "negative dimensions are not allowed"
            raise ValueError(message)
        return _repeat(a, count, axis)
    np.repeat(np.zeros(0), counts[:0])
    if counts.shape != (n,) or (counts < 0).any():
        np.repeat(np.zeros(n, np.uint8), counts)
    # The place that an element comes from is how many elements have ended before it.
    ends = np.cumsum(counts)
    places = searchsorted(ends, index_along((int(ends[-1]) if n else 0,), 0), "right")
    return take(a, places, axis)


def _repeat(a: Expr, count: int, axis: int) -> Expr:
    shape = tuple(n * count if i == axis else n for i, n in enumerate(a.shape))
    if count <= 1 or a.shape[axis] <= 1 or 0 in shape:
        return _copies(a, axis, count)
    if count > PATCHES_MAX:
        wide = (*a.shape[: axis + 1], count, *a.shape[axis + 1 :])
        return reshape(stretch(insert_axes(a, (axis + 1,)), wide), shape)
    whole = [Progression(0, 1, n) for n in shape]
    places = [
        (*whole[:axis], Progression(j, count, a.shape[axis]), *whole[axis + 1 :])
        for j in range(count)
    ]
    return interleave([a] * count, places, shape, "repeat")


def resize(a: Expr, new_shape: Any) -> Expr:
    """Give the elements, again and again, under a shape of any size."""
    given = new_shape if np.ndim(new_shape) else (new_shape,)
    lengths = tuple(map(operator.index, given))
    if any(n < 0 for n in lengths):
        message = "all elements of `new_shape` must be non-negative"
        raise ValueError(message)
    flat, size = flatten(a), math.prod(lengths)
    if not flat.size or not size:
        return constant(np.zeros((), a.dtype), shape=tuple(lengths))
    copies = _copies(flat, 0, -(-size // flat.size))
    return reshape(span(copies, 0, 0, size), tuple(lengths))


# -- inserting and deleting ------------------------------------------------------------------------


def insert(arr: Expr, obj: Any, values: Any, axis: int | None = None) -> Expr:
    """Put values before places along an axis."""
    a, number = along(arr, axis)
    n = a.shape[number]
    places = np.arange(*obj.indices(n)) if isinstance(obj, slice) else known(obj, "insert", "obj")
    if places.dtype == bool and places.ndim == 1:
        places = np.flatnonzero(places)
    if places.ndim > 1:
        message = "index array argument obj to insert must be one dimensional or scalar"
        raise ValueError(message)
    places = places.astype(np.int64) if places.size == 0 else places
    if places.dtype.kind not in "iu":
        message = "only integers, slices (`:`) and integer or boolean arrays are valid indices"
        raise IndexError(message)
    if places.size and (places.min() < -n or places.max() > n):
        message = f"index {places} is out of bounds for axis {number} with size {n}"
        raise IndexError(message)
    if a.dtype.names and isinstance(values, list | tuple):
        values = np.array(values, a.dtype)  # a tuple is one record
    given = cast(operand(values), a.dtype)
    if places.size == 1:
        given = insert_axes(given, range(a.ndim - given.ndim)) if given.ndim < a.ndim else given
        if places.ndim == 0:
            given = view(given, views.moveaxis(given.shape, 0, number))
        places = np.full(given.shape[number], places.reshape(()))
    places = np.where(places < 0, places + n, places)
    shape = tuple(places.size if i == number else m for i, m in enumerate(a.shape))
    return _interleave(a, places, stretch(given, shape), number)


def _interleave(a: Expr, places: Any, given: Expr, axis: int) -> Expr:
    """Lay values before places, with the parts of the array between them."""
    order = np.argsort(places, kind="stable")
    runs: list[tuple[int, int, int]] = []
    for at in order.tolist():
        place = int(places[at])
        if runs and runs[-1][0] == place and runs[-1][1] + runs[-1][2] == at:
            runs[-1] = (place, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((place, at, 1))
    if len(runs) > PATCHES_MAX * 8:
        return _scattered(a, places[order], take(given, order, axis), axis)
    parts, done = [], 0
    for place, at, count in runs:
        if place > done:
            parts.append(span(a, axis, done, place - done))
        parts.append(span(given, axis, at, count))
        done = place
    if done < a.shape[axis] or not parts:
        parts.append(span(a, axis, done, a.shape[axis] - done))
    return join(parts, axis, "insert")


def _scattered(a: Expr, places: NDArray, given: Expr, axis: int) -> Expr:
    """Lay values before very many sorted places: each element is looked up where it comes from."""
    n, ends = a.shape[axis], places + np.arange(places.size)
    at = index_along((n + places.size,), 0)
    before = searchsorted(ends, at, "left")
    inserted = less(before, searchsorted(ends, at, "right"))
    source = where(inserted, add(n, before), apply("subtract", at, before))
    return take(join([a, given], axis, "insert"), source, axis)


def delete(arr: Expr, obj: Any, axis: int | None = None) -> Expr:
    """Leave out places along an axis."""
    a, number = along(arr, axis)
    n = a.shape[number]
    if isinstance(obj, slice):
        gone = range(*obj.indices(n))
        gone = gone if gone.step > 0 else gone[::-1]
        if not len(gone) or gone.step == 1:
            return _without(a, [(gone.start, len(gone))] if gone else [], number)
        return _between(a, gone, number)
    places = known(obj, "delete", "obj")
    places = places.astype(np.int64) if places.size == 0 and isinstance(obj, list) else places
    if places.dtype == bool:
        if places.shape != (n,):
            message = (
                "boolean array argument obj to delete must be one dimensional and match the axis "
                f"length of {n}"
            )
            raise ValueError(message)
        places = np.flatnonzero(places)
    if places.dtype.kind not in "iu":
        message = "arrays used as indices must be of integer (or boolean) type"
        raise IndexError(message)
    if places.size and (places.min() < -n or places.max() >= n):
        wrong = places[(places < -n) | (places >= n)][0]
        message = f"index {wrong} is out of bounds for axis {number} with size {n}"
        raise IndexError(message)
    sorted_places = np.unique(np.where(places < 0, places + n, places))
    starts = np.flatnonzero(np.diff(sorted_places, prepend=-2) != 1)
    counts = np.diff(starts, append=sorted_places.size)
    runs = list(zip(sorted_places[starts].tolist(), counts.tolist(), strict=True))
    if len(runs) > PATCHES_MAX:
        # Each element that stays was moved forward by the number of deleted ones before it.
        left = index_along((n - sorted_places.size,), 0)
        before = sorted_places - np.arange(sorted_places.size)
        return take(a, apply("add", left, searchsorted(before, left, "right")), number)
    return _without(a, runs, number)


def _without(a: Expr, runs: Sequence[tuple[int, int]], axis: int) -> Expr:
    """Leave out sorted runs (start, count)."""
    parts, done = [], 0
    for start, count in runs:
        if start > done:
            parts.append(span(a, axis, done, start - done))
        done = start + count
    if done < a.shape[axis] or not parts:
        parts.append(span(a, axis, done, a.shape[axis] - done))
    return join(parts, axis, "delete")


def _between(a: Expr, gone: range, axis: int) -> Expr:
    """Leave out every so many-th place: what stays between them are strided pieces."""
    if gone.step > PATCHES_MAX:
        return _without(a, [(place, 1) for place in gone], axis)
    head, tail = gone.start, gone[-1] + 1
    spans = [(head + r, gone.step, len(gone) - 1) for r in range(1, gone.step)]
    pieces = [(span(a, axis, 0, head), Progression(0, 1, head))]
    for r, (first, step, count) in enumerate(spans):
        pieces.append((span(a, axis, first, count, step), Progression(head + r, step - 1, count)))
    kept = head + (gone.step - 1) * (len(gone) - 1)
    rest = a.shape[axis] - tail
    pieces.append((span(a, axis, tail, rest), Progression(kept, 1, rest)))
    pieces = [(piece, place) for piece, place in pieces if place.count]
    shape = tuple(kept + rest if i == axis else n for i, n in enumerate(a.shape))
    whole = [Progression(0, 1, n) for n in shape]
    places = [(*whole[:axis], place, *whole[axis + 1 :]) for _, place in pieces]
    return interleave([piece for piece, _ in pieces], places, shape, "delete")


# -- triangles and diagonals -----------------------------------------------------------------------


def _below(shape: Shape, k: int) -> Expr:
    """Tell where an element of a matrix is at or below a diagonal."""
    rows = index_along((shape[0], 1), 0)
    columns = index_along((1, shape[1]), 1)
    return apply("greater_equal", rows, apply("subtract", columns, operator.index(k)))


def tri(N: int, M: int | None = None, k: int = 0, dtype: object = float) -> Expr:
    """Make ones at and below a diagonal."""
    shape = normalize_shape((N, N if M is None else M))
    return cast(_below(shape, k), dtype)


def tril(m: Expr, k: int = 0) -> Expr:
    """Give a copy of matrices with zeros above a diagonal."""
    return where(_below(_matrix(m), k), m, np.zeros(1, m.dtype))


def triu(m: Expr, k: int = 0) -> Expr:
    """Give a copy of matrices with zeros below a diagonal."""
    return where(_below(_matrix(m), k - 1), np.zeros(1, m.dtype), m)


def _matrix(m: Expr) -> Shape:
    if not m.ndim:
        np.tril(np.zeros(()))  # NumPy's own error
    return m.shape[-2:] if m.ndim > 1 else (m.shape[0], m.shape[0])


def diag(v: Expr, k: int = 0) -> Expr:
    """Make a matrix with a diagonal, or give the diagonal of a matrix."""
    k = operator.index(k)
    if v.ndim == 2:
        return view(v, views.diagonal(v.shape, k))
    if v.ndim != 1:
        message = "Input must be 1- or 2-d."
        raise ValueError(message)
    n = v.shape[0] + abs(k)
    zeros = constant(np.zeros((), v.dtype), shape=(abs(k),))
    # The place along the shorter way names the element, whatever it is off the diagonal.
    line = join([v, zeros], 0, "diag") if k else v
    along = insert_axes(line, (1,) if k >= 0 else (0,))
    rows, columns = index_along((n, 1), 0), index_along((1, n), 1)
    on = apply("equal", apply("add", rows, k), columns)
    return where(on, stretch(along, (n, n)), np.zeros((), v.dtype))


def diagflat(v: Expr, k: int = 0) -> Expr:
    """Make a matrix with the flattened array as a diagonal."""
    return diag(flatten(v), k)


def vander(x: Expr, N: int | None = None, increasing: bool = False) -> Expr:
    """Make the matrix of powers of a vector."""
    if x.ndim != 1:
        message = "x must be a one-dimensional array or sequence."
        raise ValueError(message)
    kind = np.promote_types(x.dtype, int)
    (n,) = normalize_shape(x.shape[0] if N is None else N)
    ones = constant(np.ones((), kind), shape=(x.shape[0], 1))
    if n < 2 or not x.shape[0]:
        return stretch(ones, (x.shape[0], n)) if n < 2 else constant(0, kind, (0, n))
    rest = stretch(insert_axes(cast_lazily(x, kind), (1,)), (x.shape[0], n - 1))
    powers = accumulate("multiply", join([ones, rest], 1, "vander"), 1, kind)
    return powers if increasing else view(powers, views.flip(powers.shape, 1))
