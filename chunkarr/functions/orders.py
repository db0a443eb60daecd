"""The order of elements along an axis, and partial orders: NumPy's own, lane by lane.

Which of equal elements comes first is NumPy's choice for a whole lane, and so is what a partition
leaves on either side. So each lane has to fit a task; `sort` knows axes of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import along, constant, normalize_axis, view
from chunkarr.expr.node import Expr
from chunkarr.functions import views
from chunkarr.functions.lanes import lanes
from chunkarr.functions.pieces import at_least_1d, component, known, operand

NDArray = npt.NDArray[Any]
Options = tuple[tuple[str, Any], ...]

SCRATCH = 3.0
"""Bytes that NumPy's work on a lane holds, per byte of the lane and the result."""


def _along_last(a: Expr, axis: int) -> Expr:
    return view(a, views.moveaxis(a.shape, axis, -1)) if a.ndim > 1 else a


def _lane_by_lane(
    function: Callable[..., NDArray],
    parts: Sequence[Expr],
    axis: int,
    dtype: Any,
    name: str,
    options: Options,
) -> Expr:
    """Apply a function along an axis of arrays of one shape."""
    turned = [_along_last(part, axis) for part in parts]
    n = turned[0].shape[-1]
    (made,) = lanes(
        function,
        turned,
        [1] * len(turned),
        [(n,)],
        [np.dtype(dtype)],
        name=name,
        options=options,
        scratch=SCRATCH,
    )
    return view(made, views.moveaxis(made.shape, -1, axis)) if made.ndim > 1 else made


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def argsort(
    a: Expr,
    axis: int | None = -1,
    kind: Any = None,
    order: Any = None,
    *,
    stable: bool | None = None,
) -> Expr:
    """Give the places that sort along an axis."""
    # NumPy's own errors.
    np.argsort(np.zeros((1,), a.dtype), kind=kind, order=order, stable=stable)
    a, number = along(at_least_1d(a), axis)
    options = (("kind", kind), ("order", _hashable(order)), ("stable", stable))
    return _lane_by_lane(_argsort, [a], number, np.intp, "argsort", options)


def _argsort(a: NDArray, *, kind: Any, order: Any, stable: Any) -> NDArray:
    asked = list(order) if isinstance(order, tuple) else order
    made: NDArray = np.argsort(a, -1, kind=kind, order=asked, stable=stable)
    return made


def sort_lanes(a: Expr, axis: int | None, order: Any) -> Expr:
    """Sort along an axis what has no order of numbers: records."""
    np.sort(np.zeros((1,), a.dtype), order=order)  # NumPy's own errors
    a, number = along(a, axis)
    return _lane_by_lane(_sort, [a], number, a.dtype, "sort", (("order", _hashable(order)),))


def _sort(a: NDArray, *, order: Any) -> NDArray:
    made: NDArray = np.sort(a, -1, order=list(order) if isinstance(order, tuple) else order)
    return made


def lexsort(keys: Any, axis: int = -1) -> Expr:
    """Give the places that sort along an axis by several keys, the last key first of all."""
    parts = _keys(keys)
    if len({part.shape for part in parts}) > 1:
        message = "all keys need to be the same shape"
        raise ValueError(message)
    if not parts[0].ndim:
        return constant(np.intp(0))
    number = normalize_axis(axis, parts[0].ndim)
    return _lane_by_lane(_lexsort, parts, number, np.intp, "lexsort", ())


def _keys(keys: Any) -> list[Expr]:
    if isinstance(keys, Expr):
        keys = [component(keys, 0, i) for i in range(keys.shape[0])] if keys.ndim else ()
    if not len(keys):
        np.lexsort(())  # NumPy's own error
    return [operand(key) for key in keys]


def _lexsort(*keys: NDArray) -> NDArray:
    return np.lexsort(keys, axis=-1)


def partition(
    a: Expr, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None
) -> Expr:
    """Put the elements at given ranks in their place, smaller ones before and larger ones after."""
    a, number, options = _partition(a, kth, axis, kind, order)
    return _lane_by_lane(_parted, [a], number, a.dtype, "partition", options)


def argpartition(
    a: Expr, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None
) -> Expr:
    """Give the places of elements so that those at given ranks are in their place."""
    a, number, options = _partition(at_least_1d(a), kth, axis, kind, order)
    return _lane_by_lane(_argparted, [a], number, np.intp, "argpartition", options)


def _partition(a: Expr, kth: Any, axis: Any, kind: Any, order: Any) -> tuple[Expr, int, Options]:
    a, number = along(a, axis)
    places = known(kth, "partition", "kth")
    # NumPy's own errors, of a lane that takes no room.
    n = a.shape[number]
    if places.dtype.kind not in "iu" or (places < -n).any() or (places >= n).any():
        word = f"kth(={places}) out of bounds ({n})"
        np.partition(np.zeros((1,), a.dtype), places if places.dtype.kind not in "iu" else 0)
        raise ValueError(word)
    ranks = places.item() if not places.ndim else tuple(places.ravel().tolist())
    if kind != "introselect" or order is not None:
        np.partition(np.zeros((1,), a.dtype), 0, kind=kind, order=order)
    return a, number, (("kth", ranks), ("order", _hashable(order)))


def _parted(a: NDArray, *, kth: Any, order: Any) -> NDArray:
    made: NDArray = np.partition(
        a, np.asarray(kth, np.intp), -1, order=list(order) if order else None
    )
    return made


def _argparted(a: NDArray, *, kth: Any, order: Any) -> NDArray:
    made: NDArray = np.argpartition(
        a, np.asarray(kth, np.intp), -1, order=list(order) if order else None
    )
    return made
