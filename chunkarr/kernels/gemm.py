"""Products of matrices whose bits do not depend on where their operands lie.

NumPy has BLAS multiply an array and its own transpose by `syrk`, which knows that the result is
symmetric, and anything else by `gemm`. The two round differently on some processors. Whether a task
gets two views of one array or two copies depends on its executor and on memory; the answer may not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NDArray = npt.NDArray[Any]


def gemm(left: NDArray, right: NDArray, out: NDArray | None = None) -> NDArray:
    """Multiply stacks of matrices, of the shapes `(..., m, k)` and `(..., k, n)`, in `out`'s dtype.

    Costs a copy of `right` where both operands may be one array.
    """
    if _alike(left, right):
        right = right.copy()
    made: NDArray = np.matmul(left, right, out=out, dtype=None if out is None else out.dtype)
    return made


def _alike(left: NDArray, right: NDArray) -> bool:
    """Whether a matrix of one stack may begin where its partner does."""
    if left.ndim > 2 or right.ndim > 2:
        return np.may_share_memory(left, right)
    begins = {array.__array_interface__["data"][0] for array in (left, right)}
    return len(begins) == 1
