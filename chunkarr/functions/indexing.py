"""Reading an index expression: what kind it is, and the view or selection it means."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from chunkarr.expr.affine import Affine, Term
from chunkarr.expr.node import Expr
from chunkarr.records import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Basic:
    """Integers, slices, Ellipsis and newaxis: a view."""

    affine: Affine
    scalar: bool
    """Whether integers took every axis, so that NumPy gives a scalar and not a view."""
    copies: bool = False
    """Whether reading gives a copy: `x[True]` is all of x under a new axis, `x[False]` none."""


@dataclass(frozen=True, slots=True)
class Masked:
    """One boolean array over the leading axes."""

    mask: Any

    @property
    def named(self) -> tuple[Any, ...]:
        """The arrays that name places, among other things."""
        return (self.mask,)


@dataclass(frozen=True, slots=True)
class Fancy:
    """Integer arrays, or boolean arrays mixed with other things."""

    key: tuple[Any, ...]

    @property
    def named(self) -> tuple[Any, ...]:
        """The arrays that name places, among other things."""
        return self.key


def _is_boolean(item: object) -> bool:
    return isinstance(item, bool | np.bool_) or getattr(item, "dtype", None) == np.dtype(bool)


def read_key(key: object, shape: Shape) -> Basic | Masked | Fancy:
    """Tell what an index means for an array of a shape; raises NumPy's errors."""
    items = key if isinstance(key, tuple) else (key,)
    plain = True
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            continue
        if type(item) is int or isinstance(item, np.integer):
            continue
        plain = False
        break
    if not plain:
        if len(items) == 1 and _is_boolean(items[0]) and np.ndim(items[0]) == 0:
            count = int(bool(items[0]))
            terms = tuple(Term(axis + 1, 0, 1) for axis in range(len(shape)))
            return Basic(Affine((count, *shape), terms), scalar=False, copies=True)
        items = tuple(_settle(item) for item in items)
        special = [
            item
            for item in items
            if isinstance(item, np.ndarray | Expr) or hasattr(item, "__array__")
        ]
        if special:
            if len(items) == 1 and _is_boolean(items[0]) and np.ndim(items[0]) > 0:
                mask = items[0].shape
                _check_mask(mask, shape)
                return Masked(items[0]) if mask == shape[: len(mask)] else _nothing(mask, shape)
            return Fancy(items)
    return _basic(items, shape)


def _settle(item: Any) -> Any:
    """Give a list as an array, anything with `__index__` as an int."""
    if item is None or item is Ellipsis or isinstance(item, slice | np.ndarray):
        return item
    if isinstance(item, bool | np.bool_):
        return np.asarray(item)
    if isinstance(item, list | tuple | range):
        array = np.asarray(item)
        return array.astype(np.intp) if array.size == 0 and isinstance(item, list) else array
    if hasattr(item, "shape") and hasattr(item, "dtype"):
        if item.dtype.kind not in "iub" or (item.dtype.kind != "b" and item.shape != ()):
            return item
        if item.shape != ():
            return item
    try:
        return operator.index(item)
    except TypeError:
        message = (
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
            "boolean arrays are valid indices"
        )
        raise IndexError(message) from None


def _check_mask(mask: Shape, shape: Shape) -> None:
    if len(mask) > len(shape):
        message = (
            f"too many indices for array: array is {len(shape)}-dimensional, "
            f"but {len(mask)} were indexed"
        )
        raise IndexError(message)
    for axis, (n, m) in enumerate(zip(shape, mask, strict=False)):
        if m not in (n, 0):
            message = (
                f"boolean index did not match indexed array along axis {axis}; size of axis is {n} "
                f"but size of corresponding boolean axis is {m}"
            )
            raise IndexError(message)


def _nothing(mask: Shape, shape: Shape) -> Basic:
    """Read a mask with an axis of length 0: it goes with any length, and selects nothing."""
    rest = shape[len(mask) :]
    terms = [*[Term(-1, 0, 0)] * len(mask), *[Term(1 + i, 0, 1) for i in range(len(rest))]]
    return Basic(Affine((0, *rest), tuple(terms)), scalar=False, copies=True)


def _basic(items: tuple[Any, ...], shape: Shape) -> Basic:
    ellipses = items.count(Ellipsis)
    used = len(items) - ellipses - items.count(None)
    if ellipses > 1:
        message = "an index can only have a single ellipsis ('...')"
        raise IndexError(message)
    if used > len(shape):
        message = (
            f"too many indices for array: array is {len(shape)}-dimensional, "
            f"but {used} were indexed"
        )
        raise IndexError(message)
    scalar = not ellipses and used == len(shape)
    terms: list[Term] = []
    lengths: list[int] = []
    for item in items if ellipses else (*items, Ellipsis):
        if isinstance(item, slice):
            _take_slice(item, shape[len(terms)], terms, lengths)
            scalar = False
        elif item is None:
            lengths.append(1)
            scalar = False
        elif item is Ellipsis:
            for n in shape[len(terms) : len(terms) + len(shape) - used]:
                terms.append(Term(len(lengths), 0, 1))
                lengths.append(n)
        else:
            axis, n = len(terms), shape[len(terms)]
            if not -n <= item < n:
                message = f"index {item} is out of bounds for axis {axis} with size {n}"
                raise IndexError(message)
            terms.append(Term(-1, int(item) % n, 0))
    return Basic(Affine(tuple(lengths), tuple(terms)), scalar)


def _take_slice(part: slice, n: int, terms: list[Term], lengths: list[int]) -> None:
    start, stop, step = part.indices(n)
    count = len(range(start, stop, step))
    terms.append(Term(len(lengths), start if count else 0, step if count > 1 else 1))
    lengths.append(count)


INTEGERS = frozenset((int, *(np.dtype(code).type for code in np.typecodes["AllInteger"])))
"""Types of plain positions."""

NUMBERS = INTEGERS.union(
    (bool, float, complex), (np.dtype(code).type for code in "?" + np.typecodes["AllFloat"])
)
"""Types of plain numbers."""


def names_element(key: Any, ndim: int) -> bool:
    """Whether an index is one plain integer for each axis."""
    if type(key) is tuple:
        return len(key) == ndim and INTEGERS.issuperset(map(type, key))
    return ndim == 1 and type(key) in INTEGERS
