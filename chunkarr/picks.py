"""Reading and writing an array at places that arrays of integers name.

The view that brings the indexed axes together is an ordinary view of the array, so that writing
goes through it, and through the array's own lenses, to the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chunkarr import engine
from chunkarr.expr.affine import Affine
from chunkarr.expr.build import apply, as_expr, cast_lazily, stretch, where
from chunkarr.expr.node import Expr
from chunkarr.functions.creation import index_along
from chunkarr.functions.fancy import Places, gather, read_places, scatter
from chunkarr.functions.views import NewShape
from chunkarr.views import Selection, ndarray_key, value_for

if TYPE_CHECKING:
    from chunkarr.arrays import Array


def _plain(item: Any) -> Any:
    """Give the expression of an array in a key; where a mask is true has to be known."""
    if not hasattr(item, "to_expr"):
        return item
    return item.compute() if item.dtype == bool else item.to_expr()


def _folded(array: Array, key: tuple[Any, ...]) -> tuple[Array, Places]:
    plain = [_plain(item) for item in key]
    places = read_places(plain, array.shape)
    seen = array.view_through(places.affine)
    if places.folded != places.affine.shape:
        seen = seen.view_through(NewShape(places.folded))
    return seen, places


def pick(array: Array, key: tuple[Any, ...]) -> Expr:
    """Give the elements that a fancy index names: a copy, as in NumPy."""
    seen, places = _folded(array, key)
    return gather(seen.to_expr(), places)


def put(array: Array, key: tuple[Any, ...], value: Any) -> None:
    """Write to the elements that a fancy index names; of several values for one the last stays."""
    seen, places = _folded(array, key)
    given = value.to_expr() if hasattr(value, "to_expr") else value
    laid = value_for(given, places.shape, array.dtype)
    seen.rebind(scatter(seen.to_expr(), places, laid))


def apply_at(array: Array, key: tuple[Any, ...], ufunc: np.ufunc, operands: Sequence[Any]) -> None:
    """Apply a ufunc in place at places, once for each time that one is named, in order.

    What the places name is computed, and has to fit the memory limit.
    """
    seen, places = _folded(array, key)
    at = places.axis
    (index,) = engine.values(places.index)
    named, which = np.unique(index, return_inverse=True)
    shape = (*places.folded[:at], named.size, *places.folded[at + 1 :])
    narrow = Places(places.affine, places.folded, at, as_expr(named), shape)
    (current,) = engine.values(gather(seen.to_expr(), narrow))
    spread = (*places.folded[:at], index.size, *places.folded[at + 1 :])
    given = [np.broadcast_to(ndarray_key(v), places.shape).reshape(spread) for v in operands]
    here: Any = (*(slice(None),) * at, which)
    ufunc.at(current, here, *given)
    seen.rebind(scatter(seen.to_expr(), narrow, as_expr(current)))


def assign_masked(array: Array, mask: Any, value: Any) -> None:
    """Write where a mask over the leading axes is true."""
    test = mask.to_expr() if hasattr(mask, "to_expr") else as_expr(mask)
    here = array.to_expr()
    spread = Selection(here, test).spread_mask()
    given = getattr(value, "selection", None)
    if given is not None and given.mask is test and given.operand.shape == here.shape:
        array.rebind(where(spread, cast_lazily(given.operand, here.dtype), here))
        return
    rest = here.shape[test.ndim :]
    if np.ndim(value) <= len(rest):
        plain = value.to_expr() if hasattr(value, "to_expr") else value
        laid = stretch(value_for(plain, rest, array.dtype), here.shape)
        array.rebind(where(spread, laid, here))
        return
    put_masked(array, test, value)


def put_masked(array: Array, mask: Expr, value: Any) -> None:
    """Write one value for each true element of a mask over the leading axes, in C order."""
    rest = array.shape[mask.ndim :]
    count = math.prod(mask.shape)
    places = engine.select(_positions(mask.shape), mask)
    given = value.to_expr() if hasattr(value, "to_expr") else value
    laid = value_for(given, (*places.shape, *rest), array.dtype)
    seen = array if mask.ndim == 1 else array.view_through(NewShape((count, *rest)))
    named = Places(Affine.identity(seen.shape), seen.shape, 0, places, laid.shape)
    seen.rebind(scatter(seen.to_expr(), named, laid))


def _positions(shape: tuple[int, ...]) -> Expr:
    """Give each element's position in C order."""
    total: Expr = index_along(shape, len(shape) - 1)
    step = shape[-1]
    for axis in range(len(shape) - 2, -1, -1):
        total = apply("add", total, apply("multiply", index_along(shape, axis), step))
        step *= shape[axis]
    return total
