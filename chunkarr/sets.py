"""Sets: distinct values and what two arrays share, from sorted values and their neighbours.

Values are sorted when the function is called, and held where there is room, on disk if need be.
What is left out of them is a selection, like `x[mask]`, whose length is counted when it is asked
for. Places in the original array need a table of the distinct values; where there are too many of
them, NumPy's own function runs if everything fits the memory limit.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from chunkarr import namespace
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import computed, give, ndarray_of, small
from chunkarr.expr.build import apply, constant, reshape
from chunkarr.expr.node import Expr
from chunkarr.functions.creation import index_along
from chunkarr.functions.lookup import isin, searchsorted
from chunkarr.functions.manipulation import join
from chunkarr.functions.pieces import TABLE_BYTES, add, multiply, span
from chunkarr.functions.products import SORTED_KINDS, sort
from chunkarr.functions.statistics import diff
from chunkarr.views import Selection
from chunkarr.whole import at_once

COPIES = 6
"""How many copies of its arguments NumPy's own work takes, where everything has to fit."""


def _sorted(values: Any) -> Expr:
    """Sort the elements of an array, now."""
    held = wrap(sort(reshape(values.to_expr(), (values.size,))))
    held.persist()
    return held.to_expr()


def _differs(s: Expr, *, equal_nan: bool) -> Expr:
    """Tell which sorted values differ from those before them, as one value less than there are."""
    n = s.size - 1
    before, after = span(s, 0, 0, n), span(s, 0, 1, n)
    new = apply("not_equal", after, before)
    if not equal_nan or s.dtype.kind not in "fcmM":
        return new
    name = "isnat" if s.dtype.kind in "mM" else "isnan"
    gone = apply("logical_and", apply(name, after), apply(name, before))
    return apply("logical_and", new, apply("logical_not", gone))


def _edge(value: bool) -> Expr:
    return constant(value, shape=(1,))


def _ends_in_nan(s: Expr) -> bool:
    last = wrap(s)[-1]
    return bool(last != last)  # noqa: PLR0124 - only NaN differs from itself


def _selected(values: Expr, mask: Expr) -> Any:
    return Array(selection=Selection(values, mask))


def _sortable(*arrays: Any) -> bool:
    return all(a.dtype.kind in SORTED_KINDS and a.size for a in arrays)


def _places(ar: Any, values: Any, starts: Any, *, index: bool, inverse: bool) -> list[Any]:
    """Give the first places of distinct values, and for each element the place of its value."""
    which = searchsorted(computed(values, TABLE_BYTES), ar.to_expr())
    out: list[Any] = []
    if index:
        # The number of the value, then the place: sorted, the first of each group comes first.
        flat = reshape(which, (ar.size,))
        key = sort(add(multiply(flat, ar.size), index_along((ar.size,), 0)))
        out.append(wrap(key)[starts] % ar.size)
    if inverse:
        # Complex NaN have an order among themselves, and the first of them stands for all.
        last = np.intp(values.size - 1)
        out.append(wrap(apply("minimum", which, last) if values.dtype.kind == "c" else which))
    return out


def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """Give the distinct values, sorted.

    On request also their first places, the places of each element's value among them, and counts.
    """
    a = namespace.asarray(ar)
    axis = None if axis is None else operator.index(axis)
    wanted = {
        "return_index": return_index,
        "return_inverse": return_inverse,
        "return_counts": return_counts,
    }
    flat = axis is None or (a.ndim == 1 and axis in (0, -1))
    whole = at_once("unique", np.unique, COPIES)
    if not flat or small([a]) or not _sortable(a):
        return whole(a, **wanted, axis=axis, equal_nan=equal_nan, sorted=sorted)
    s = _sorted(a)
    mask = join([_edge(True), _differs(s, equal_nan=equal_nan)], 0, "unique")
    values = _selected(s, mask)
    out: list[Any] = [values]
    starts = _selected(index_along(s.shape, 0), mask)
    if return_index or return_inverse:
        if not equal_nan and _ends_in_nan(s):
            return whole(a, **wanted, equal_nan=equal_nan)
        out += _places(a, values, starts, index=return_index, inverse=return_inverse)
    if return_counts:
        out.append(wrap(diff(starts.to_expr(), append=a.size)))
    return values if len(out) == 1 else tuple(out)


def unique_all(x: Any, /) -> Any:
    """Give distinct values, their first places, the place of each element's value, and counts."""
    return ALL(*unique(x, True, True, True, equal_nan=False))


def unique_counts(x: Any, /) -> Any:
    """Give distinct values and how often each occurs."""
    return COUNTS(*unique(x, return_counts=True, equal_nan=False))


def unique_inverse(x: Any, /) -> Any:
    """Give distinct values and, for each element, the place of its value among them."""
    return INVERSE(*unique(x, return_inverse=True, equal_nan=False))


def unique_values(x: Any, /) -> Any:
    """Give distinct values."""
    return unique(x, equal_nan=False, sorted=False)


ALL, COUNTS, INVERSE = (
    type(function(np.zeros(0))) for function in (np.unique_all, np.unique_counts, np.unique_inverse)
)
"""NumPy's own types of results with names."""


# -- two sets --------------------------------------------------------------------------------------


def _pair(ar1: Any, ar2: Any, *, assume_unique: bool) -> tuple[Any, Any]:
    pair = (namespace.asarray(ar1), namespace.asarray(ar2))
    if assume_unique:
        return namespace.ravel(pair[0]), namespace.ravel(pair[1])
    return unique(pair[0]), unique(pair[1])


def union1d(ar1: Any, ar2: Any) -> Any:
    """Give the sorted distinct values of two arrays together."""
    return unique(namespace.concatenate((ar1, ar2), axis=None))


def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False
) -> Any:
    """Give the sorted distinct values that two arrays share, and their first places if asked."""
    if return_indices:
        whole = at_once("intersect1d", np.intersect1d, COPIES)
        return whole(ar1, ar2, assume_unique, return_indices)
    joined = namespace.concatenate(_pair(ar1, ar2, assume_unique=assume_unique))
    if joined.size < 2 or not _sortable(joined):
        return at_once("intersect1d", np.intersect1d, COPIES)(ar1, ar2, assume_unique)
    s = _sorted(joined)
    n = s.size - 1
    same = apply("equal", span(s, 0, 1, n), span(s, 0, 0, n))
    return _selected(span(s, 0, 0, n), same)


def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """Give the sorted distinct values that are in one of two arrays only."""
    return _lone(namespace.concatenate(_pair(ar1, ar2, assume_unique=assume_unique)))


def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """Give the sorted distinct values of the first array that are not in the second.

    With `assume_unique` the values stay in their order. One that is there twice, against what is
    assumed, is kept twice; NumPy, which small arrays in memory are left to, may drop it.
    """
    first, second = namespace.asarray(ar1), namespace.asarray(ar2)
    if small([first, second]):
        return give(np.setdiff1d(ndarray_of(first), ndarray_of(second), assume_unique))
    if assume_unique:
        flat = namespace.ravel(first)
        return flat[wrap(isin(flat.to_expr(), second.to_expr(), invert=True))]
    first, second = unique(first), unique(second)
    if second.dtype.kind in "fcmM":
        # NaN differs from every value, so what the second has of it takes nothing away.
        second = second[second == second]  # noqa: PLR0124
    kind = first.dtype
    # What is in the second is there twice or more.
    return _lone(namespace.concatenate((first, second, second))).astype(kind)


def _lone(joined: Any) -> Any:
    """Give the sorted values that occur once."""
    if joined.size < 2:
        return joined
    if not _sortable(joined):
        return at_once("setxor1d", np.setxor1d, COPIES)(joined, joined[:0], True)
    s = _sorted(joined)
    new = _differs(s, equal_nan=False)
    alone = [join([_edge(True), new], 0, "set"), join([new, _edge(True)], 0, "set")]
    return _selected(s, apply("logical_and", *alone))
