"""Counts of values in bins: the numbers of the values' bins are counted, whatever they are made of.

Finding a bin is elementwise work, which fuses with what makes the values; the counting has a step
of its own, in which each task counts its part.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.build import apply, caller, cast, cast_lazily, constant, own, reshape, where
from chunkarr.expr.edges import Edges
from chunkarr.expr.node import Algorithm, Expr
from chunkarr.functions.elementwise import as_complex, imag, real
from chunkarr.functions.pieces import add, at_least_1d, less, multiply

NDArray = npt.NDArray[Any]


def binned(columns: Sequence[Expr], edges: Sequence[NDArray], weights: Expr | None = None) -> Expr:
    """Count points between edges, one column of values for each axis of the result.

    The last bin of each axis holds its end. Columns and weights have one shape; with weights, these
    are added up, in double precision, and given in their own dtype.
    """
    shape = tuple(e.size - 1 for e in edges)
    found = [_bins(column, e) for column, e in zip(columns, edges, strict=True)]
    place = found[0]
    for axis in range(1, len(found)):
        place = add(multiply(place, shape[axis]), found[axis])
    if len(found) > 1:
        # A number is below zero where any of them is.
        none = less(functools.reduce(functools.partial(apply, "bitwise_or"), found), 0)
        place = where(none, np.int64(-1), place)
    return reshape(_counted(place, math.prod(shape), weights), shape)


def occurrences(x: Expr, count: int, weights: Expr | None = None) -> Expr:
    """Count how often each of the integers below `count` occurs in a vector, or add up weights."""
    if weights is not None and weights.shape != x.shape:
        message = "The weights and list don't have the same length."
        raise ValueError(message)
    return _counted(cast_lazily(x, np.dtype(np.int64)), count, weights)


def _bins(values: Expr, edges: NDArray) -> Expr:
    """Give the number of each value's bin, -1 outside of all."""
    if edges.dtype.kind in "fc":
        values = cast_lazily(values, np.result_type(values.dtype, edges.dtype))
    held = np.empty((), object)
    held[()] = Edges(np.ascontiguousarray(edges))
    return own("locate", np.dtype(np.int64), constant(held), values)


def _counted(places: Expr, count: int, weights: Expr | None) -> Expr:
    wanted = np.dtype(np.intp) if weights is None else weights.dtype
    if not places.size or not count:
        return constant(np.zeros((), wanted), shape=(count,))
    if wanted.kind == "c":
        assert weights is not None
        parts = [_counted(places, count, part(weights)) for part in (real, imag)]
        return cast_lazily(as_complex(*parts), wanted)
    given = [] if weights is None else [cast(weights, np.float64)]
    made = Algorithm(
        shape=(count,),
        dtype=np.dtype(np.float64 if given else np.int64),
        operands=tuple(at_least_1d(a) for a in (places, *given)),
        line=caller(),
        name="count",
    )
    return cast_lazily(made, wanted)
