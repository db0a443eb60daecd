"""The typed form of a fused expression: what a kernel is generated from.

A `Program` is a straight line of elementwise operations over values numbered from zero: first the
inputs, then one value per operation. It knows dtypes and nothing of shapes, constants or names, so
that its hash is a structural key: new constants arrive as zero-dimensional inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.records import dataclass


@dataclass(frozen=True, slots=True)
class Op:
    """One elementwise operation.

    `name` is a NumPy ufunc's name, or one of the few own ones: "where" (condition, x, y), "cast"
    (x, to `dtype`, as `astype(casting="unsafe")` does).
    """

    name: str
    args: tuple[int, ...]
    types: tuple[np.dtype[Any], ...]
    """The loop's input dtypes: each argument is converted to its entry first."""
    dtype: np.dtype[Any]
    """The dtype of the result."""
    output: int = 0
    """Which result of a ufunc with several (divmod, modf, frexp)."""


@dataclass(frozen=True, slots=True)
class Program:
    """Inputs, operations and which values to give back."""

    inputs: tuple[np.dtype[Any], ...]
    ops: tuple[Op, ...]
    results: tuple[int, ...]

    def dtype_of(self, value: int) -> np.dtype[Any]:
        """Give the dtype of a value."""
        count = len(self.inputs)
        return self.inputs[value] if value < count else self.ops[value - count].dtype
