"""Products of matrices and vectors, and the algorithms that emit their own steps."""

from __future__ import annotations

import numpy as np

from chunkarr.errors import NotYetError
from chunkarr.expr.build import (
    along,
    apply,
    caller,
    cast_lazily,
    flatten,
    insert_axes,
    reshape,
    spell,
    stretch,
    view,
)
from chunkarr.expr.node import Algorithm, Contract, Expr
from chunkarr.functions import views
from chunkarr.functions.manipulation import stack
from chunkarr.functions.orders import sort_lanes
from chunkarr.functions.pieces import component
from chunkarr.functions.reductions import any as any_
from chunkarr.functions.reductions import sum as sum_
from chunkarr.settings import settings


def matmul(x1: Expr, x2: Expr, *, dtype: object = None) -> Expr:
    """Multiply matrices; stacks broadcast, vectors count as one row or column."""
    if x1.ndim == 0 or x2.ndim == 0:
        position = 0 if x1.ndim == 0 else 1
        message = (
            f"matmul: Input operand {position} does not have enough dimensions (has 0, gufunc core "
            "with signature (n?,k),(k,m?)->(n?,m?) requires 1)"
        )
        raise ValueError(message)
    left = insert_axes(x1, (0,)) if x1.ndim == 1 else x1
    right = insert_axes(x2, (1,)) if x2.ndim == 1 else x2
    if left.shape[-1] != right.shape[-2]:
        message = (
            "matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature "
            f"(n?,k),(k,m?)->(n?,m?) (size {right.shape[-2]} is different from {left.shape[-1]})"
        )
        raise ValueError(message)
    probe = np.matmul(np.empty((0, 1), x1.dtype), np.empty((1, 0), x2.dtype), dtype=dtype)  # type: ignore[call-overload]
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = cast_lazily(stretch(left, (*batch, *left.shape[-2:])), probe.dtype)
    right = cast_lazily(stretch(right, (*batch, *right.shape[-2:])), probe.dtype)
    shape = (*batch, left.shape[-2], right.shape[-1])
    out: Expr = Contract(shape=shape, dtype=probe.dtype, operands=(left, right), line=caller())
    gone = [len(batch)] if x1.ndim == 1 else []
    gone += [len(batch) + 1] if x2.ndim == 1 else []
    return view(out, views.squeeze(out.shape, tuple(gone))) if gone else out


def dot(a: Expr, b: Expr) -> Expr:
    """Multiply as `numpy.dot`: scalars scale, and stacks of matrices pair off."""
    if a.ndim == 0 or b.ndim == 0:
        return apply("multiply", a, b)
    depth = b.shape[max(0, b.ndim - 2)]
    if a.shape[-1] != depth:
        raise ValueError(_misaligned(a, b))
    if b.ndim <= 2:
        return matmul(a, b)
    # Every row of a meets every matrix of b: a's own axes go first, then b's stack.
    stack = b.ndim - 2
    if a.ndim == 1:
        return matmul(a, b)
    places = range(a.ndim - 2, a.ndim - 2 + stack)
    product = matmul(insert_axes(a, places), b)
    return view(product, views.moveaxis(product.shape, -2, a.ndim - 2))


def _misaligned(a: Expr, b: Expr) -> str:
    axis = max(0, b.ndim - 2)
    return (
        f"shapes {spell(a.shape)} and {spell(b.shape)} not aligned: {a.shape[-1]} "
        f"(dim {a.ndim - 1}) != {b.shape[axis]} (dim {axis})"
    )


def vdot(a: Expr, b: Expr) -> Expr:
    """Multiply flattened arrays, the first conjugated, and add up."""
    left, right = flatten(a), flatten(b)
    if left.shape != right.shape:
        message = f"cannot reshape array of size {right.size} into shape {spell(left.shape)}"
        raise ValueError(message)
    return inner(left, right)


def inner(a: Expr, b: Expr) -> Expr:
    """Multiply the first, conjugated, with the second and add up along the last axis."""
    product = apply("multiply", apply("conjugate", a) if a.dtype.kind == "c" else a, b)
    if product.dtype == bool:
        return any_(product, -1)
    return sum_(product, -1, product.dtype)


LANE_CHUNKS = 16
"""A lane of more than so many times the size of a chunk does not fit a task."""

SORTED_KINDS = "biufcmMSU"
"""Kinds of dtypes whose order does not depend on fields or Python objects."""


LANES_MAX = 64
"""Lanes that are too long for a task are sorted one by one if there are no more than this."""


def sort(
    a: Expr,
    axis: int | None = -1,
    kind: str | None = None,
    order: object = None,
    *,
    stable: bool | None = None,
) -> Expr:
    """Sort along an axis; one-dimensional arrays, and few lanes, may be of any size."""
    # NumPy's own errors.
    np.sort(np.zeros((1,), a.dtype), kind=kind, order=order, stable=stable)  # type: ignore[call-overload]
    if a.dtype.hasobject:
        message = "sort of Python objects runs on small arrays only"
        raise NotYetError(message)
    if order is not None or a.dtype.kind not in SORTED_KINDS:
        return sort_lanes(a, axis, order)
    # Equal keys cannot be told apart, so every order of them is stable.
    a, number = along(a, axis)
    if a.size <= 1:
        return a
    n = a.shape[number]
    long = n * a.dtype.itemsize > LANE_CHUNKS * settings().chunk_bytes
    if long and 1 < a.size // n <= LANES_MAX:
        return _one_by_one(a, number)
    return Algorithm(
        shape=a.shape,
        dtype=a.dtype,
        operands=(a,),
        line=caller(),
        name="sort",
        options=(("axis", number),),
    )


def _one_by_one(a: Expr, axis: int) -> Expr:
    """Sort each lane as an array of its own."""
    turned = view(a, views.moveaxis(a.shape, axis, -1))
    rows = reshape(turned, (a.size // a.shape[axis], a.shape[axis]))
    made = stack([sort(component(rows, 0, i)) for i in range(rows.shape[0])])
    folded = reshape(made, turned.shape)
    return view(folded, views.moveaxis(folded.shape, -1, axis))


def cholesky(a: Expr, *, upper: bool = False) -> Expr:
    """Factorise a Hermitian positive-definite matrix, `a = L @ L^H`; gives L, or its L^H."""
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        message = (
            f"{a.ndim}-dimensional array given. Array must be at least two-dimensional"
            if a.ndim < 2
            else "Last 2 dimensions of the array must be square"
        )
        raise np.linalg.LinAlgError(message)
    if a.ndim > 2:
        message = "cholesky of a stack runs on small arrays only; loop over the matrices"
        raise NotYetError(message)
    dtype = np.linalg.cholesky(np.eye(1, dtype=a.dtype)).dtype
    matrix = cast_lazily(a, dtype)
    if upper:
        # LAPACK reads the upper triangle then; its adjoint is a matrix whose lower one counts.
        matrix = _adjoint(matrix)
    factor: Expr = Algorithm(
        shape=a.shape, dtype=dtype, operands=(matrix,), line=caller(), name="cholesky"
    )
    return _adjoint(factor) if upper else factor


def _adjoint(a: Expr) -> Expr:
    turned = view(a, views.transpose(a.shape))
    return apply("conjugate", turned) if a.dtype.kind == "c" else turned
