"""Arrays as Python's and NumPy's own values: numbers, lists, text, ndarrays; attached to Array.

Each computes the value, all of it, and so refuses what does not fit the memory limit.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.arrays import Array
from chunkarr.printing import array_text, summary_text
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]

CHEAP_BYTES = 1 << 22
"""A `repr` computes the shown values of arrays up to this size, and summarises larger ones."""


def to_ndarray(self: Array, dtype: Any = None, copy: bool | None = None) -> NDArray:
    """Give the value for `np.asarray`: a read-only look at what is in memory, else computed.

    Raises MemoryBudgetError before any work if the value does not fit the memory limit, and
    ValueError for `copy=False` where a copy cannot be avoided.
    """
    held = self.in_memory
    if held is None:
        if copy is False:
            message = "a chunked array must be computed, which makes a copy: use copy=None"
            raise ValueError(message)
        whole = self.compute()
        return whole if dtype is None else whole.astype(dtype, copy=False)
    if copy:
        return np.array(held, dtype)
    shown = held.view()
    shown.flags.writeable = False
    if dtype is None or np.dtype(dtype) == held.dtype:
        return shown
    if copy is False:
        message = "Unable to avoid copy while creating an array as requested."
        raise ValueError(message)
    return held.astype(dtype)


def item(self: Array, *args: Any) -> Any:
    """Give one element as a Python scalar: the only one, or that at a place."""
    held = self.in_memory
    if held is not None:
        return held.item(*args)
    if not args:
        if self.size != 1:
            message = "can only convert an array of size 1 to a Python scalar"
            raise ValueError(message)
        return self.compute().item()
    given = args[0] if len(args) == 1 and isinstance(args[0], tuple) else args
    place = tuple([operator.index(i) for i in given])
    if len(place) == 1 and self.ndim != 1:
        if not -self.size <= place[0] < self.size:
            message = f"index {place[0]} is out of bounds for size {self.size}"
            raise IndexError(message)
        place = tuple([int(i) for i in np.unravel_index(place[0] % self.size, self.shape)])
    if len(place) != self.ndim:
        message = "incorrect number of indices for array"
        raise ValueError(message)
    return self[(*place, ...)].compute().item()


def tolist(self: Array) -> Any:
    """Give nested lists of Python scalars."""
    return self.compute().tolist()


def _one(self: Array) -> Any:
    if self.ndim:
        # NumPy decides what one element in more axes means.
        return self.compute() if self.size == 1 else np.empty(2)
    whole = self.compute()
    return whole[()] if self.is_scalar else whole


def _float(self: Array) -> float:
    return float(_one(self))


def _int(self: Array) -> int:
    return int(_one(self))


def _complex(self: Array) -> complex:
    return complex(_one(self))


def _index(self: Array) -> int:
    return operator.index(_one(self))


def _bool(self: Array) -> bool:
    if self.size == 1:
        return bool(self.compute())
    return bool(np.empty(min(self.size, 2)))  # NumPy's own error for none and for many


def _len(self: Array) -> int:
    if self.ndim:
        return self.shape[0]
    if self.is_scalar and self.dtype.names is not None:
        return len(self.dtype.names)
    message = "len() of unsized object"
    raise TypeError(message)


def _iter(self: Array) -> Iterator[Any]:
    if not self.ndim:
        if self.is_scalar and self.dtype.names is not None:
            return (self[name] for name in self.dtype.names)
        message = "iteration over a 0-d array"
        raise TypeError(message)
    if self.in_memory is None and 0 < self.nbytes <= settings().memory // 16:
        self.persist()
    return (self[i] for i in range(self.shape[0]))


def _contains(self: Array, element: Any) -> bool:
    return bool((self == element).any())


def _str(self: Array) -> str:
    return array_text(self, summary=False)


def _repr(self: Array) -> str:
    if self.in_memory is None and self.nbytes > CHEAP_BYTES:
        return summary_text(self)
    return array_text(self, summary=True)


def _format(self: Array, spec: str) -> str:
    if self.ndim == 0:
        return format(self.compute()[()], spec)
    if spec:
        message = f"unsupported format string passed to {type(self).__name__}.__format__"
        raise TypeError(message)
    return str(self)


def _round(self: Array, ndigits: int | None = None) -> Any:
    """Round a scalar, as NumPy's scalars do."""
    if not self.is_scalar:
        message = "type Array doesn't define __round__ method; use x.round()"
        raise TypeError(message)
    value: Any = self.compute()[()]
    rounded = round(value) if ndigits is None else round(value, ndigits)
    is_numpy = isinstance(rounded, np.generic)
    return Array.of(np.asarray(rounded), scalar=True) if is_numpy else rounded


def _hash(self: Array) -> int:
    if self.is_scalar:
        return hash(self.compute()[()])
    message = "unhashable type: 'chunkarr.Array'"
    raise TypeError(message)


def _bytes(self: Array) -> bytes:
    """Give the bytes of the values, as many zeros as a scalar says; else Python would iterate."""
    whole = self.compute()
    return bytes(whole[()]) if self.is_scalar else whole.tobytes()


ATTACHED: dict[str, Any] = {
    "__array__": to_ndarray,
    "item": item,
    "tolist": tolist,
    "__float__": _float,
    "__int__": _int,
    "__complex__": _complex,
    "__index__": _index,
    "__bool__": _bool,
    "__len__": _len,
    "__iter__": _iter,
    "__contains__": _contains,
    "__str__": _str,
    "__repr__": _repr,
    "__format__": _format,
    "__round__": _round,
    "__hash__": _hash,
    "__bytes__": _bytes,
}
"""Names and methods for `operators.attach`."""
