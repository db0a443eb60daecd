"""`x.flat`: all elements in C order, read in batches, indexed and assigned through a view.

NumPy's rules for it differ from those of a reshaped array: an index gives a copy, and values that
are assigned are repeated or cut until they fit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr import namespace
from chunkarr.arrays import Array, wrap
from chunkarr.functions.shapes import resize
from chunkarr.functions.views import NewShape
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]

BATCH_BYTES = 1 << 22
"""Elements that are computed together while iterating, where the memory limit allows."""


def batches(array: Array) -> Iterator[NDArray]:
    """Compute an array piece by piece, in C order."""
    line = array.view_through(NewShape((array.size,)))
    most = min(BATCH_BYTES, max(1, settings().memory // 16))
    count = max(1, most // max(1, array.itemsize))
    for start in range(0, array.size, count):
        yield line[start : start + count].compute()


class Flat:
    """NumPy's `flatiter` of an array of any size."""

    __slots__ = ("_at", "_elements", "base")

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, base: Array) -> None:
        self.base = base
        """The array that is iterated over."""
        self._at = 0
        self._elements: Iterator[Any] | None = None

    @property
    def _line(self) -> Array:
        return self.base.view_through(NewShape((self.base.size,)))

    @property
    def index(self) -> int:
        """The position of the next element."""
        return self._at

    @property
    def coords(self) -> tuple[int, ...]:
        """The place of the next element."""
        return tuple(int(i) for i in np.unravel_index(self._at, self.base.shape))

    def __len__(self) -> int:
        return self.base.size

    def __iter__(self) -> Flat:
        self._at, self._elements = 0, None
        return self

    def __next__(self) -> Any:
        if self._elements is None:
            self._elements = _scalars(self.base)
        found = next(self._elements)
        self._at += 1
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self._line.compute(), dtype, copy=copy)

    def copy(self) -> Array:
        """Give a copy of the elements on one axis."""
        return self._line.copy()

    def __getitem__(self, key: Any) -> Any:
        """Give an element or a copy of several."""
        found = self._line[_plain(key)]
        return found.copy() if isinstance(found, Array) and not found.is_scalar else found

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set elements to values in turn."""
        if isinstance(key, tuple) and not key:
            message = "Assigning to a flat iterator with a 0-D index is not supported"
            raise IndexError(message)
        line, places = self._line, _plain(key)
        if _is_index(places) and self.base.dtype.hasobject:
            line[places] = value
            return
        values = namespace.ravel(namespace.asarray(value, self.base.dtype))
        if _is_index(places):
            if not values.size:
                message = "Error setting single item of array."
                raise ValueError(message)
            line[places] = values[0]
            return
        if not values.size:
            return
        named = (int(namespace.count_nonzero(places)),) if _is_mask(places) else line[places].shape
        count = math.prod(named)
        laid = values if values.size == count else wrap(resize(values.to_expr(), count))
        line[places] = namespace.reshape(laid, named)

    def __eq__(self, other: object) -> Any:
        return self._compare(operator.eq, other)

    def __ne__(self, other: object) -> Any:
        return self._compare(operator.ne, other)

    def __lt__(self, other: object) -> Any:
        return self._compare(operator.lt, other)

    def __le__(self, other: object) -> Any:
        return self._compare(operator.le, other)

    def __gt__(self, other: object) -> Any:
        return self._compare(operator.gt, other)

    def __ge__(self, other: object) -> Any:
        return self._compare(operator.ge, other)

    def _compare(self, compare: Callable[[Any, Any], Any], other: object) -> Any:
        return compare(
            self._line, namespace.ravel(other.base) if isinstance(other, Flat) else other
        )


def _scalars(array: Array) -> Iterator[Any]:
    for batch in batches(array):
        for i in range(batch.size):
            element = batch[i]
            plain = batch.dtype.hasobject
            yield element if plain else Array.of(np.asarray(element), scalar=True)


def _plain(key: Any) -> Any:
    """Take an index out of a tuple of one, as NumPy's flat does."""
    if isinstance(key, tuple) and len(key) <= 1:
        key = key[0] if key else ...
    if isinstance(key, Flat):
        return key.copy()
    if isinstance(key, tuple) or key is None:
        message = "unsupported iterator index"
        raise IndexError(message)
    return key


def _is_index(key: Any) -> bool:
    if isinstance(key, bool | np.bool_):
        return False
    return isinstance(key, int | np.integer) or (isinstance(key, Array) and key.shape == ())


def _is_mask(key: Any) -> bool:
    return bool(np.ndim(key)) and namespace.asarray(key).dtype == bool
