"""`numpy.linalg` on arrays of any size: stacks of any length, of matrices that fit a task each.

Products and norms are composed and need no more than their operands' chunks; `cholesky` of one
matrix is tiled. `eig` looks at its result when it is called, because that decides the dtype.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import chunkarr
from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.dispatch import give, lift, ndarray_of, small, store_out
from chunkarr.functions import matrices, norms
from chunkarr.functions.cores import stacked
from chunkarr.functions.pieces import TABLE_BYTES
from chunkarr.mirror import Chapter
from chunkarr.ufuncs import TABLE

Function = Callable[..., Any]

STACKED = (
    *("cond", "det", "eigh", "eigvalsh", "inv", "matrix_rank"),
    *("pinv", "qr", "slogdet", "svd", "svdvals"),
)
"""Functions of the last two axes of their first argument."""

COMPOSED: dict[str, Function] = {
    "cholesky": matrices.cholesky,
    "matrix_norm": norms.matrix_norm,
    "norm": norms.norm,
    "solve": matrices.solve,
    "vector_norm": norms.vector_norm,
}
"""Functions of expressions."""

SAME = ("matmul", "matrix_transpose", "tensordot", "vecdot")
"""Functions that are the namespace's own."""


def _valued(name: str) -> Function:
    """Make `eig` or `eigvals`, which give real numbers where all of them are."""
    numpy_function = getattr(np.linalg, name)
    lazy = lift(getattr(matrices, name), None)

    def public(a: Any) -> Any:
        whole = namespace.asarray(a)
        if small([whole]):
            return give(numpy_function(ndarray_of(whole)))
        found = lazy(whole)
        parts = found if isinstance(found, tuple) else (found,)
        if whole.dtype.kind != "c":
            namespace.persist(*parts)
            if not bool((parts[0].imag != 0).any()):
                parts = tuple(part.real.copy() for part in parts)
        return parts[0] if len(parts) == 1 else _pair(*parts)

    public.__name__ = public.__qualname__ = name
    public.__doc__ = f"Run `numpy.linalg.{name}`; at once, because values decide the dtype."
    return public


_pair: Any = type(np.linalg.eig(np.eye(1)))


def matrix_power(a: Any, n: int) -> Any:
    """Multiply a square matrix n times with itself, or its inverse; stacks too."""
    whole = namespace.asarray(a)
    probe = np.linalg.matrix_power(np.broadcast_to(np.ones((), whole.dtype), _few(whole.shape)), 1)
    power = operator.index(n)
    if small([whole]):
        return give(np.linalg.matrix_power(ndarray_of(whole), power))
    if power == 0:
        return namespace.broadcast_to(
            namespace.eye(whole.shape[-1], dtype=probe.dtype), whole.shape
        ).copy()
    square = own["inv"](whole) if power < 0 else whole
    result = None
    for bit in reversed(f"{abs(power):b}"):
        if bit == "1":
            result = square if result is None else result @ square
        square = square @ square
    return result


def _few(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape of the smallest matrix that is square if and only if one of `shape` is."""
    return (*shape[:-2], 1, 1 + (shape[-1] != shape[-2])) if len(shape) > 1 else shape


def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """Multiply matrices in the order that takes the fewest operations."""
    parts = [namespace.asarray(part) for part in arrays]
    if len(parts) < 2:
        message = "Expecting at least two arrays."
        raise ValueError(message)
    first, last = parts[0].ndim == 1, parts[-1].ndim == 1
    if first:
        parts[0] = parts[0][None, :]
    if last:
        parts[-1] = parts[-1][:, None]
    for part in parts:
        if part.ndim != 2:
            message = f"{part.ndim}-dimensional array given. Array must be two-dimensional"
            raise np.linalg.LinAlgError(message)
    made = _product(parts, *_splits([parts[0].shape[0], *(part.shape[1] for part in parts)]))
    made = made[0] if first else made
    made = made[0] if last and first else made[:, 0] if last else made
    return made if out is None else store_out(made, out)


def _splits(sides: Sequence[int]) -> tuple[dict[tuple[int, int], int], int, int]:
    """Give the cheapest place to split each run of matrices; matrix i has sides i and i + 1."""
    count = len(sides) - 1
    cost = {(i, i): 0 for i in range(count)}
    best: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [
                (cost[i, k] + cost[k + 1, j] + sides[i] * sides[k + 1] * sides[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], best[i, j] = min(options)
    return best, 0, count - 1


def _product(
    parts: Sequence[Array], best: dict[tuple[int, int], int], start: int, stop: int
) -> Any:
    if start == stop:
        return parts[start]
    middle = best[start, stop]
    return namespace.dot(
        _product(parts, best, start, middle), _product(parts, best, middle + 1, stop)
    )


def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """Give the rank of matrices; of a vector, whether any of its elements is not zero."""
    whole = namespace.asarray(A)
    if whole.ndim < 2:
        return int(not bool((whole == 0).all()))
    return _rank(whole, tol=tol, hermitian=hermitian, rtol=rtol)


def outer(x1: Any, x2: Any, /) -> Any:
    """Multiply all pairs of elements of two vectors."""
    left, right = namespace.asarray(x1), namespace.asarray(x2)
    if left.ndim != 1 or right.ndim != 1:
        message = (
            "Input arrays must be one-dimensional, but they are "
            f"x1.ndim={left.ndim} and x2.ndim={right.ndim}."
        )
        raise ValueError(message)
    return chunkarr.outer(left, right)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Give the vector products of vectors of three components."""
    left, right = namespace.asarray(x1), namespace.asarray(x2)
    if left.shape[axis] != 3 or right.shape[axis] != 3:
        message = (
            "Both input arrays must be (arrays of) 3-dimensional vectors, but they are "
            f"{left.shape[axis]} and {right.shape[axis]} dimensional instead."
        )
        raise ValueError(message)
    return chunkarr.cross(left, right, axis=axis)


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """Look at the diagonals of the matrices in the last two axes."""
    return namespace.diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Add up the diagonals of the matrices in the last two axes."""
    return chunkarr.trace(x, offset, -2, -1, dtype)


RAISES = ("cholesky", "inv", "solve")
"""Functions that programs catch a LinAlgError of, so that small results are made at the call."""


def _lifted(name: str, function: Function) -> Function:
    numpy_function = getattr(np.linalg, name)
    both = 2 if name == "solve" else 1
    made = lift(function, numpy_function, scalar=True, convert_first=both)
    return _at_once(made) if name in RAISES else made


def _at_once(function: Function) -> Function:
    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        small_enough = isinstance(found, Array) and found.nbytes <= TABLE_BYTES
        return found.persist() if small_enough else found

    return public


own: dict[str, Any] = {
    name: _lifted(name, stacked(f"linalg.{name}", getattr(np.linalg, name), 2)) for name in STACKED
}
own |= {name: _lifted(name, function) for name, function in COMPOSED.items()}
own |= {name: getattr(namespace, name, None) or TABLE[name] for name in SAME}
own |= {name: _valued(name) for name in ("eig", "eigvals")}
_rank = own["matrix_rank"]
own |= {
    f.__name__: f for f in (matrix_power, matrix_rank, multi_dot, outer, cross, diagonal, trace)
}

_chapter = Chapter("linalg", own)
__getattr__ = _chapter.find
__dir__ = _chapter.names
