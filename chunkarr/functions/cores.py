"""NumPy's functions on the last axes of stacks, applied stack by stack.

What a function gives for an operand is asked of NumPy itself, with a stack of no matrices: it
checks the shapes, words the refusals, and answers with the shapes and dtypes of its results.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.node import Expr
from chunkarr.functions.lanes import lanes
from chunkarr.functions.pieces import operand

NDArray = npt.NDArray[Any]
Function = Callable[..., Any]

MATRIX_STACK = 3
"""Axes of a stack of matrices."""

SMALL = 8
"""Matrices that are longer are not shown to NumPy."""

SCRATCH = 4.0
"""Bytes that LAPACK and the FFT hold for themselves, per byte of what they read and give."""


def bound(function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of a call by their names; TypeError where they do not fit."""
    found = inspect.signature(function).bind(*args, **kwargs)
    return {k: v for k, v in found.arguments.items() if k != "out"}


def _probe(shape: tuple[int, ...], dtype: np.dtype[Any], core: int) -> NDArray:
    """Make an array without elements of the same core; all of the shape where axes are missing."""
    if len(shape) < core:
        return np.broadcast_to(np.zeros((), dtype), shape)
    return np.empty((0, *shape[len(shape) - core :]), dtype)


def _asked(function: Function, shown: list[NDArray], options: dict[str, Any]) -> Any:
    """Give a function's answer for probes, and which lengths in its shapes stand for others.

    In `qr` NumPy makes a mask as large as one matrix. So small ones are shown, of which the same
    axis is the shorter one: what results has these lengths, whichever of them that may be.
    """
    (probe, *others) = shown
    if others or probe.ndim != MATRIX_STACK or max(probe.shape[1:]) <= SMALL:
        return function(*shown, **options), {}
    rows, columns = probe.shape[1:]
    few = (SMALL - (rows < columns), SMALL - (columns < rows))
    answer = function(np.empty((0, *few), probe.dtype), **options)
    return answer, dict(zip(few, (rows, columns), strict=True))


def on_cores(
    name: str,
    function: Function,
    cores: Sequence[int],
    operands: Sequence[Expr],
    options: dict[str, Any],
) -> Any:
    """Apply a function to the last `cores[i]` axes of operand i, for all indices before them.

    Gives an expression, or a tuple of the function's own class. Options have to be hashable.
    """
    shown = [_probe(o.shape, o.dtype, n) for o, n in zip(operands, cores, strict=True)]
    answer, lengths = _asked(function, shown, options)
    parts = answer if isinstance(answer, tuple) else (answer,)
    made = lanes(
        function,
        operands,
        cores,
        [tuple(lengths.get(n, n) for n in part.shape[1:]) for part in parts],
        [part.dtype for part in parts],
        name=name,
        options=tuple(options.items()),
        scratch=SCRATCH,
    )
    if not isinstance(answer, tuple):
        return made[0]
    kind: Any = type(answer)
    return kind(*made) if hasattr(answer, "_fields") else made


def stacked(name: str, function: Function, *cores: int) -> Function:
    """Make a function of expressions whose first arguments have that many core axes each."""

    def made(*args: Any, **kwargs: Any) -> Any:
        named = bound(function, args, kwargs)
        operands = [operand(named.pop(key)) for key in list(named)[: len(cores)]]
        return on_cores(name, function, cores, operands, named)

    made.__name__ = made.__qualname__ = function.__name__
    made.__doc__ = f"Apply `numpy.{name}` to the last axes, which have to fit a task."
    made.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return made
