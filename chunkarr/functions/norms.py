"""Norms of vectors and matrices, made of ufuncs and reductions; those of singular values too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.expr.build import apply, cast, insert_axes, normalize_axes, normalize_axis, view
from chunkarr.expr.node import Expr
from chunkarr.functions import views
from chunkarr.functions.cores import on_cores
from chunkarr.functions.elementwise import real
from chunkarr.functions.reductions import max as max_
from chunkarr.functions.reductions import min as min_
from chunkarr.functions.reductions import sum as sum_

Reduction = Callable[..., Expr]


def _float(x: Expr) -> Expr:
    return x if x.dtype.kind in "fc" else cast(x, np.float64)


def _squares(x: Expr) -> Expr:
    """Give the squares of absolute values, without a root on the way."""
    if x.dtype.kind != "c":
        return apply("square", x)
    return real(apply("multiply", apply("conjugate", x), x))


def _vector(x: Expr, order: Any, axes: tuple[int, ...], keepdims: bool) -> Expr:
    """Give the norm of the vectors along axes; several axes count as one."""
    if order is None or order == 2:
        return apply("sqrt", sum_(_squares(x), axes, keepdims=keepdims))
    size = apply("absolute", x)
    if order in (np.inf, -np.inf):
        return (max_ if order > 0 else min_)(size, axes, keepdims=keepdims)
    if order == 0:
        return sum_(cast(apply("not_equal", x, 0), size.dtype), axes, keepdims=keepdims)
    if order == 1:
        return sum_(size, axes, keepdims=keepdims)
    if isinstance(order, str):
        message = f"Invalid norm order '{order}' for vectors"
        raise ValueError(message)  # noqa: TRY004 - the type of NumPy's refusal
    added = sum_(apply("power", size, order), axes, keepdims=keepdims)
    return apply("power", added, np.reciprocal(np.asarray(order, added.dtype)))


SINGULAR: dict[Any, Reduction] = {2: max_, -2: min_, "nuc": sum_}
"""Matrix norms that are reductions of the singular values."""

SUMS: dict[Any, tuple[int, Reduction]] = {
    1: (0, max_),
    -1: (0, min_),
    np.inf: (1, max_),
    -np.inf: (1, min_),
}
"""Matrix norms that are extremes of sums of absolute values: summed axis, and what follows."""


def _matrix(x: Expr, order: Any, axes: tuple[int, ...], keepdims: bool) -> Expr:
    row, column = (normalize_axis(axis, x.ndim) for axis in axes)
    if row == column:
        message = "Duplicate axes given."
        raise ValueError(message)
    if order in SINGULAR:
        turned = view(x, views.moveaxis(x.shape, (row, column), (-2, -1)))
        values = on_cores(
            "linalg.svd", np.linalg.svd, (2,), [turned], {"compute_uv": False, "hermitian": False}
        )
        made = SINGULAR[order](values, -1)
    elif order in SUMS:
        summed, extreme = SUMS[order]
        first, second = ((row, column), (column, row))[summed]
        sums = sum_(apply("absolute", x), first)
        made = extreme(sums, second - (second > first))
    elif order in (None, "fro", "f"):
        made = apply("sqrt", sum_(_squares(x), (row, column)))
    else:
        message = "Invalid norm order for matrices."
        raise ValueError(message)
    return insert_axes(made, sorted((row, column))) if keepdims else made


def norm(x: Expr, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Expr:
    """Give the norm of vectors along one axis, or of matrices in two."""
    x = _float(x)
    if axis is None:
        if ord is None or (ord in ("f", "fro") and x.ndim == 2) or (ord == 2 and x.ndim == 1):
            return _vector(x, None, tuple(range(x.ndim)), keepdims)
        axes = tuple(range(x.ndim))
    else:
        axes = axis if isinstance(axis, tuple) else (int(axis),)
    if len(axes) == 1:
        return _vector(x, ord, normalize_axes(axes, x.ndim), keepdims)
    if len(axes) == 2:
        return _matrix(x, ord, axes, keepdims)
    message = "Improper number of dimensions to norm."
    raise ValueError(message)


def vector_norm(x: Expr, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Expr:
    """Give the norm of vectors along axes, which count as one; of all elements by default."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return _vector(_float(x), ord, normalize_axes(tuple(axes), x.ndim), keepdims)


def matrix_norm(x: Expr, /, *, keepdims: bool = False, ord: Any = "fro") -> Expr:
    """Give the norm of the matrices in the last two axes."""
    return _matrix(_float(x), ord, (-2, -1), keepdims)
