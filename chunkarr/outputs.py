"""Where a ufunc leaves its results: what `out=` and `where=` ask for."""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import arrays_in
from chunkarr.expr.build import as_expr, broadcast_shapes, cast_lazily, stretch
from chunkarr.expr.build import where as where_
from chunkarr.expr.node import Expr


def harmless(name: str, value: Any, where: Any) -> Any:
    """Replace what a mask leaves out by a number that no function warns of."""
    if isinstance(value, list | tuple) and not arrays_in(value):
        value = np.asarray(value)
    kind = getattr(value, "dtype", np.dtype(object)).kind
    if kind not in "iufc":
        return value
    number = np.asarray(1 if kind in "iu" or name == "arccosh" else 0.5, value.dtype)
    if isinstance(value, Array) or isinstance(where, Array):
        return wrap(where_(as_expr(where), as_expr(value), number))
    return np.where(where, value, number)


def spread(result: Any, where: Any) -> Any:
    """Give results that nothing was left out of the shape that the mask gives them."""
    if isinstance(result, tuple):
        return tuple([spread(part, where) for part in result])
    mask = check_mask(where)
    shape = broadcast_shapes(np.shape(result), mask.shape)
    if shape == np.shape(result):
        return result
    return wrap(stretch(as_expr(result.to_expr()), shape))


def truth(where: Any) -> Any:
    """Give what is said for `where=`, if it is no array, as the truth that NumPy sees in it."""
    if isinstance(where, Array):
        return where.astype(bool) if where.is_scalar else where
    return where if isinstance(where, np.ndarray) else np.asarray(where, bool)


def check_mask(where: Any) -> Expr:
    """Give a mask, or raise NumPy's TypeError for an array that is none."""
    mask = where.to_expr() if isinstance(where, Array) else as_expr(where)
    if mask.dtype != bool:
        message = (
            f"Cannot cast array data from {mask.dtype!r} to dtype('bool') according to the rule "
            "'safe'"
        )
        raise TypeError(message)
    return mask


def write(ufunc: np.ufunc, result: Any, out: Any, where: Any, casting: str) -> Any:
    """Put a result into `out=`, only where the mask is true."""
    if not isinstance(out, Array | np.ndarray):
        message = "return arrays must be of ArrayType"
        raise TypeError(message)
    shape = broadcast_shapes(result.shape, out.shape)
    if shape != out.shape:
        message = (
            f"non-broadcastable output operand with shape {out.shape} doesn't match the broadcast "
            f"shape {shape}"
        )
        raise ValueError(message)
    if not np.can_cast(result.dtype, out.dtype, casting):  # type: ignore[arg-type]
        raise np._core._exceptions._UFuncOutputCastingError(  # type: ignore[attr-defined]  # noqa: SLF001
            ufunc, casting, result.dtype, out.dtype, 0
        )
    if isinstance(out, np.ndarray):
        np.copyto(out, result.compute(), casting="unsafe", where=_plain_mask(where))
        return out
    if where is True:
        out[...] = result
        return out
    chosen = where_(check_mask(where), cast_lazily(result.to_expr(), out.dtype), out.to_expr())
    out[...] = wrap(chosen)
    return out


def _plain_mask(where: Any) -> Any:
    return where.compute() if isinstance(where, Array) else where
