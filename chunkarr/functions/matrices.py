"""Linear algebra on stacks of matrices that fit a task each, where NumPy needs a word beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import insert_axes, view
from chunkarr.expr.node import Expr
from chunkarr.functions import products, views
from chunkarr.functions.cores import on_cores
from chunkarr.functions.pieces import operand

NDArray = npt.NDArray[Any]


def solve(a: Expr, b: Any) -> Expr:
    """Solve linear equations; a `b` of one axis is one right-hand side."""
    right = operand(b)
    single = right.ndim == 1
    wide = insert_axes(right, (1,)) if single else right
    made: Expr = on_cores("linalg.solve", np.linalg.solve, (2, 2), [a, wide], {})
    return view(made, views.squeeze(made.shape, -1)) if single else made


def cholesky(a: Expr, /, *, upper: bool = False) -> Expr:
    """Factorise Hermitian positive-definite matrices; one matrix may be of any size."""
    if a.ndim <= 2:
        return products.cholesky(a, upper=upper)
    made: Expr = on_cores("linalg.cholesky", np.linalg.cholesky, (2,), [a], {"upper": upper})
    return made


def eig(a: Expr) -> tuple[Expr, Expr]:
    """Give complex eigenvalues and eigenvectors."""
    values, vectors = on_cores("linalg.eig", _complex_eig, (2,), [a], {})
    return values, vectors


def eigvals(a: Expr) -> Expr:
    """Give complex eigenvalues."""
    made: Expr = on_cores("linalg.eigvals", _complex_eigvals, (2,), [a], {})
    return made


def _complex_eig(a: NDArray) -> tuple[NDArray, NDArray]:
    values, vectors = np.linalg.eig(a)
    return _as_complex(values), _as_complex(vectors)


def _complex_eigvals(a: NDArray) -> NDArray:
    return _as_complex(np.linalg.eigvals(a))


def _as_complex(values: NDArray) -> NDArray:
    return values.astype(np.result_type(values.dtype, np.complex64), copy=False)
