"""Functions that have to see all of an array at once: NumPy's own, where it fits the limit.

Their arguments are computed when they are called. Before anything runs, the bytes that the values
and NumPy's work on them take are compared with what the limit leaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from chunkarr import engine
from chunkarr.arrays import Array
from chunkarr.dispatch import arrays_in, convert, give
from chunkarr.errors import MemoryBudgetError
from chunkarr.expr.build import caller

Function = Callable[..., Any]


def check_fit(name: str, arrays: Sequence[Array], copies: float) -> None:
    """Raise MemoryBudgetError where so many copies of arrays do not fit the memory limit."""
    needed = int(copies * sum(array.nbytes for array in arrays))
    available = engine.current_limits()[0].bytes_available
    if needed <= max(available, MEMORY_LEAST):
        return
    biggest = max(arrays, key=lambda array: array.nbytes)
    line = caller()
    raise MemoryBudgetError(
        array=f"array of shape {biggest.shape} and dtype {biggest.dtype}",
        operation=f"numpy.{name}, which sees all values at once,",
        where=f"{line[0]}:{line[1]}" if line else "",
        bytes_needed=needed,
        bytes_available=available,
        remedies=(
            f"apply it to parts: numpy.{name} on slices or samples",
            "raise the limit: config(memory=...) or CHUNKARR_MEMORY",
        ),
    )


OBJECT_COPIES = 8
"""Python objects take this many times the bytes of the numbers that they are made of."""

MEMORY_LEAST = 1 << 16
"""What is as small as this always fits."""


def at_once(name: str, function: Function, copies: float | Callable[[int], float]) -> Function:
    """Make a public function that runs NumPy's on values, which have to fit the memory limit.

    `copies` is how many copies of its arguments NumPy's work takes, or gives that for a number of
    elements.
    """

    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> Any:
        arrays = arrays_in((*args, *kwargs.values()))
        if arrays:
            most = max(array.size for array in arrays)
            check_fit(name, arrays, copies(most) if callable(copies) else copies)
        plain = [convert(a, Array.compute) for a in args]
        named = {k: convert(v, Array.compute) for k, v in kwargs.items()}
        return give(function(*plain, **named))

    made.__doc__ = f"Run `numpy.{name}` on values that together fit the memory limit."
    made.__module__ = "chunkarr"
    return made
