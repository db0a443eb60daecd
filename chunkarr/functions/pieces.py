"""What chapters of functions are made of: slices of expressions, and elementwise calls.

A function of NumPy that is elementwise but no ufunc, such as `interp` with given points, is called
on each piece: the first operand is a constant that holds the function with its tables. So kernels
need one operation for all of them, and a table is never cut. Rejected: tables as array operands,
because an elementwise operation would broadcast them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.errors import NotYetError
from chunkarr.expr.affine import Affine, Progression, Term
from chunkarr.expr.build import (
    apply,
    as_expr,
    caller,
    cast_lazily,
    constant,
    insert_axes,
    own,
    view,
)
from chunkarr.expr.node import Expr, Generate, Overlay, Shape, Source
from chunkarr.floats import remark
from chunkarr.functions import views
from chunkarr.functions.manipulation import stack

NDArray = npt.NDArray[Any]

TABLE_BYTES = 1 << 20
"""The largest table that travels with an elementwise call."""


def operand(value: Any) -> Expr:
    """Give the expression of anything array-like, lists of expressions too."""
    if isinstance(value, list | tuple) and any(isinstance(v, Expr | list | tuple) for v in value):
        parts = [operand(item) for item in value]
        kind = np.result_type(*(part.dtype for part in parts))
        return stack([cast_lazily(part, kind) for part in parts])
    return as_expr(value)


def span(a: Expr, axis: int, start: int, count: int, step: int = 1) -> Expr:
    """Look at `count` places along an axis."""
    shape = tuple(count if i == axis else n for i, n in enumerate(a.shape))
    terms = tuple(Term(i, start, step) if i == axis else Term(i, 0, 1) for i in range(a.ndim))
    return view(a, Affine(shape, terms))


def component(a: Expr, axis: int, place: int) -> Expr:
    """Look at one place along an axis, which goes."""
    part = span(a, axis, place, 1)
    return view(part, views.squeeze(part.shape, axis))


def at_least_1d(a: Expr) -> Expr:
    """Give an array without axes one of length one."""
    return a if a.ndim else insert_axes(a, (0,))


def interleave(
    parts: Sequence[Expr], places: Sequence[tuple[Progression, ...]], shape: Shape, verb: str
) -> Expr:
    """Lay parts of one dtype on progressions of places that together cover everything."""
    return Overlay(
        shape=shape,
        dtype=parts[0].dtype,
        operands=tuple(parts),
        line=caller(),
        places=tuple(places),
        based=False,
        verb=verb,
    )


def table(value: Any) -> NDArray | None:
    """Give the value of a small argument that is in memory; None where it is not."""
    if not isinstance(value, Expr):
        return np.asarray(value)
    if isinstance(value, Generate) and value.kind == "full":
        return np.full(value.shape, value.values[0], value.dtype)
    if isinstance(value, Source) and value.store.in_memory and value.nbytes <= TABLE_BYTES:
        return value.store.read(tuple(slice(0, n) for n in value.shape))
    return None


def known(value: Any, name: str, what: str) -> NDArray:
    """Give the value of a small argument that is in memory, or refuse."""
    held = table(value)
    if held is None:
        message = f"{name}: {what} has to be in memory and of at most {TABLE_BYTES >> 20} MiB"
        raise NotYetError(message)
    return held


def call(function: Callable[..., Any], dtype: Any, *operands: Expr) -> Expr:
    """Apply an elementwise function, which workers have to be able to import."""
    held = np.empty((), object)
    held[()] = function
    return own("call", np.dtype(dtype), constant(held), *operands)


def guard(value: Expr, wrong: Expr, error: type[Exception], message: str) -> Expr:
    """Give a value, and raise when it is computed where `wrong` is true."""
    check = functools.partial(_checked, error, message)
    return call(check, value.dtype, value, wrong)


def _checked(error: type[Exception], message: str, value: NDArray, wrong: NDArray) -> NDArray:
    if wrong.any():
        raise error(message)
    return value


def remarked(value: Expr, where: Expr, text: str) -> Expr:
    """Give a value, and warn when it is computed where `where` is true."""
    return call(functools.partial(_remarked, text), value.dtype, value, where)


def _remarked(text: str, value: NDArray, where: NDArray) -> NDArray:
    if where.any():
        remark(text)
    return value


def refused(value: Expr, where: Expr, text: str) -> Expr:
    """Give a value, and raise a ValueError when it is computed where `where` is true."""
    return call(functools.partial(_refused, text), value.dtype, value, where)


def _refused(text: str, value: NDArray, where: NDArray) -> NDArray:
    if where.any():
        raise ValueError(text)
    return value


def total(parts: Sequence[Expr]) -> Expr:
    """Add up expressions."""
    return functools.reduce(lambda a, b: apply("add", a, b), parts)


add, subtract, multiply, divide, equal, less = (
    functools.partial(apply, name)
    for name in ("add", "subtract", "multiply", "divide", "equal", "less")
)
"""The ufuncs that formulas are written with."""
