"""Reductions with ufuncs that group one way only: `subtract`, `divide`, `power` and their like.

The last of the running results is the reduction, so it takes a scan, whose values are stored on the
way. Rejected: rewriting `subtract` as sums, which rounds otherwise than NumPy does.
"""

from __future__ import annotations

from chunkarr.expr.build import apply, cast_lazily, constant, view
from chunkarr.expr.node import Dtype, Expr
from chunkarr.functions.manipulation import join
from chunkarr.functions.pieces import span
from chunkarr.functions.reductions import accumulate
from chunkarr.functions.views import squeeze


def in_order(
    ufunc: str, a: Expr, axes: tuple[int, ...], dtype: Dtype, keepdims: bool, initial: object
) -> Expr:
    """Reduce one axis from its start to its end."""
    if not axes:
        values = cast_lazily(a, dtype)
        return values if initial is None else apply(ufunc, constant(initial, dtype), values)
    (axis,) = axes
    whole = cast_lazily(a, dtype)
    if initial is not None:
        first = tuple(1 if i == axis else n for i, n in enumerate(a.shape))
        whole = join([constant(initial, dtype, first), whole], axis, "initial")
    n = whole.shape[axis]
    running = accumulate(ufunc, whole, axis, dtype) if n > 1 else whole
    last = span(running, axis, n - 1, 1)
    return last if keepdims else view(last, squeeze(last.shape, axis))
