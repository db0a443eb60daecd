"""What Numba is told when it meets an array or a name of this package in a user's function.

Numba asks for `_numba_type_`; nothing here loads it. Arrays are brought into memory for it.
"""

from __future__ import annotations

import functools
import importlib
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.ufuncs import UFunc

NDArray = npt.NDArray[Any]


def numba_buffer(self: Array) -> NDArray:
    """Give the ndarray that holds the value, to be written where the array may be.

    Raises MemoryBudgetError where the value does not fit the limit.
    """
    root = self if self.base is None else self.base
    root.persist()
    held = self.writable_ndarray() if self.writable else None
    return np.asarray(self) if held is None else held


@functools.cache
def _guests() -> Any:
    guests = importlib.import_module("chunkarr.kernels.guests")
    own = vars(namespace)
    shared = [(own.get(name), getattr(np, name)) for name in np.__all__ if name in own]
    guests.adopt(pair for pair in shared if isinstance(pair[0], FunctionType))
    return guests


def _array_type(self: Array) -> Any:
    """Give Numba's type."""
    return _guests().type_of(self.numba_buffer())


def _ufunc_type(self: UFunc) -> Any:
    """Give Numba's type of the ufunc of NumPy."""
    return _guests().type_of_function(getattr(np, self.__name__))


def attach() -> None:
    """Give arrays and ufuncs what Numba asks for."""
    setattr(Array, "numba_buffer", numba_buffer)  # noqa: B010
    setattr(Array, "_numba_type_", property(_array_type))  # noqa: B010
    setattr(UFunc, "_numba_type_", property(_ufunc_type))  # noqa: B010
