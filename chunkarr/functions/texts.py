"""Functions of strings, string by string: what is no array goes along as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.expr.node import Expr
from chunkarr.functions.cores import on_cores
from chunkarr.functions.pieces import operand


def on_texts(name: str, args: Sequence[Any]) -> Any:
    """Apply a function of `numpy.strings` to arrays that broadcast together."""
    arrays = [isinstance(a, Expr | np.ndarray | list | tuple) for a in args]
    operands = [operand(a) for a, array in zip(args, arrays, strict=True) if array]
    fixed = tuple((i, a) for i, a in enumerate(args) if not arrays[i])
    options = {"name": name, "fixed": fixed}
    return on_cores(f"strings.{name}", call_texts, (0,) * len(operands), operands, options)


def call_texts(*boxes: Any, name: str, fixed: Sequence[tuple[int, Any]]) -> Any:
    """Call a function of `numpy.strings` with boxes, and values at their places between them."""
    args = list(boxes)
    for place, value in fixed:
        args.insert(place, value)
    return getattr(np.strings, name)(*args)
