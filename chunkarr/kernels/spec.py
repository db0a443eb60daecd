"""What a kernel is made from, and where its parameters lie.

This is what a call needs to know of a kernel, and all that is loaded of kernels until one is worth
having: `codegen` writes its source and `build` makes or finds it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import PANEL_ROWS, Reducer
from chunkarr.records import dataclass

POSITIONS, KEPT_AXES, LENGTH, RUN_AXES, RUNS, STATES, SCRATCH, FLAGS, UNREAD, CORE, OPERANDS = (
    *(0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13),
)
"""Places in the header: STATES has four addresses, OPERANDS as many addresses and strides.

FLAGS takes the floating-point flags that the kernel has set. UNREAD takes a number that keeps the
compiler from leaving out what is computed for its flags. CORE says where core axes are told.
"""

STRIP_BYTES = 64 * 1024
LINE_BYTES = 64
"""Bytes of a cache line."""


@dataclass(frozen=True, slots=True)
class Side:
    """What an operand of a function with core axes is made of."""

    program: Program
    dtype: np.dtype[Any]
    """What the function takes."""
    axes: tuple[int, ...]
    """Its core axes, by number."""
    classes: str = ""
    """One of "u", "s", "g" for each input of the program, along the last core axis."""


@dataclass(frozen=True, slots=True)
class Core:
    """A call of a user's function with core axes; its result is the first input of a program."""

    name: str
    sides: tuple[Side, ...]
    axes: tuple[int, ...]
    """The core axes of the result."""
    count: int
    """How many core axes there are."""
    dtype: np.dtype[Any]
    """Of the result."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a kernel is made from; equal specs share one kernel."""

    program: Program
    reducer: Reducer | None
    mode: str
    """ "map", "row", "lanes" (short rows), "column", or a kernel of `chunkarr.kernels.counting`."""
    classes: str
    """One of "u", "s", "g" for each input, then for each output; "n" for one beyond the caches.

    "c" is the result of a call with core axes, which the inner loop walks, "e" one that is called
    for each element. What its operands are made of comes last.
    """
    others: tuple[Reducer, ...] = ()
    """Reducers that take the same panels of rows as the first."""
    core: Core | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the program's first result."""
        return self.program.dtype_of(self.program.results[0])

    @property
    def streams(self) -> bool:
        """Whether a map's only result is written past the caches."""
        return self.mode == "map" and self.classes.endswith("n")

    @property
    def reducers(self) -> tuple[Reducer, ...]:
        """All reducers."""
        return () if self.reducer is None else (self.reducer, *self.others)

    @property
    def strip(self) -> int:
        """Columns that a column kernel takes at a time.

        Long strips read memory in order; what they accumulate must stay in the cache, and on the
        stack in so far as the compiler should know that no input overlaps it.
        """
        if "g" in self.classes:
            return 128
        if self.reducer is None or self.reducer.kind == "var":
            return 1024
        if self.reducer.kind == "arg":
            return 4096
        return STRIP_BYTES // max(4, self.dtype.itemsize)

    @property
    def scratch_values(self) -> int:
        """Values of a column kernel's scratch memory before the partial results."""
        varies = self.reducer is not None and self.reducer.kind == "var"
        return PANEL_ROWS * self.strip if varies else 0
