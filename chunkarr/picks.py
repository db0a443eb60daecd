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
from chunkarr.settings import settings
from chunkarr.storage.store import NDArray
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

    Much is applied lazily where no place is named very often. Else what the places name is
    computed, and has to fit the memory limit.
    """
    seen, places = _folded(array, key)
    at = places.axis
    (index,) = engine.values(places.index)
    named, which, counts = np.unique(index, return_inverse=True, return_counts=True)
    spread = (*places.folded[:at], index.size, *places.folded[at + 1 :])
    much = math.prod(spread) * array.dtype.itemsize > _piece_bytes()
    plain = getattr(np, ufunc.__name__, None) is ufunc and places.shape == spread
    if much and plain and counts.max(initial=0) <= TURNS_MAX:
        _apply_in_turns(seen, places, (index, counts), ufunc.__name__, operands)
        return
    within: Any = (*(slice(None),) * at, which)
    here = _narrowed(places, named)
    (current,) = engine.values(gather(seen.to_expr(), here))
    given = [np.broadcast_to(ndarray_key(v), places.shape).reshape(spread) for v in operands]
    ufunc.at(current, within, *given)
    seen.rebind(scatter(seen.to_expr(), here, as_expr(current)))


def _apply_in_turns(
    seen: Array,
    places: Places,
    counted: tuple[NDArray, NDArray],
    name: str,
    operands: Sequence[Any],
) -> None:
    """Apply a ufunc where places are named first, then where they are named again, and so on."""
    index, counts = counted
    nth = np.empty(index.size, np.intp)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    nth[np.argsort(index, kind="stable")] = np.arange(index.size) - first
    whole = Affine.identity(places.shape)
    given = [as_expr(v.to_expr() if hasattr(v, "to_expr") else np.asarray(v)) for v in operands]
    laid = [v if v.shape == () else stretch(v, places.shape) for v in given]
    for turn in range(int(counts.max(initial=0))):
        chosen = np.flatnonzero(nth == turn)
        here = _narrowed(places, index[chosen])
        of_turn = Places(whole, places.shape, places.axis, as_expr(chosen), here.shape)
        parts = [v if v.shape == () else gather(v, of_turn) for v in laid]
        made = apply(name, gather(seen.to_expr(), here), *parts)
        seen.rebind(scatter(seen.to_expr(), here, cast_lazily(made, seen.dtype)))


def _narrowed(places: Places, index: NDArray) -> Places:
    """Give other places along the same axis of the same view."""
    at = places.axis
    shape = (*places.folded[:at], index.size, *places.folded[at + 1 :])
    return Places(places.affine, places.folded, at, as_expr(index), shape)


def apply_to_held(held: NDArray, indices: Any, ufunc: np.ufunc, operands: Sequence[Any]) -> None:
    """Apply a ufunc to an array in memory, at places that may be too many to hold at once."""
    # NumPy takes its fast way where nothing has to be converted, fifty times as fast.
    exact = held.dtype == np.float64
    operands = [np.asarray(v, held.dtype) if exact and type(v) is int else v for v in operands]
    long = hasattr(indices, "to_expr") and indices.dtype.kind in "iu" and indices.ndim == 1
    same = all(np.shape(v) in {(), indices.shape} for v in operands) if long else False
    if not same or indices.nbytes <= _piece_bytes():
        ufunc.at(held, ndarray_key(indices), *map(ndarray_key, operands))
        return
    indices.persist()  # it is read in pieces, none of which is to be computed twice
    for bound in (indices.min(), indices.max()):
        held[int(bound)]  # NumPy's own refusal comes before anything is written
    step = _piece_bytes() // indices.dtype.itemsize
    for start in range(0, indices.size, step):
        piece = slice(start, start + step)
        parts = [v[piece] if np.shape(v) else v for v in operands]
        ufunc.at(held, ndarray_key(indices[piece]), *map(ndarray_key, parts))


def _piece_bytes() -> int:
    """Give how much is computed at once where little would do as well."""
    return settings().memory // 32


TURNS_MAX = 32
"""Where a place is named more often than this, all that places name is computed at once."""


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
