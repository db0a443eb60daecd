"""Functions whose result is a view: from a shape and arguments to what the view looks like.

Each gives an `Affine` or, for a reshape that is more than that, a `NewShape`. `views.Lens` turns
either into reading and writing through.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from chunkarr.expr.affine import Affine, Term, broadcast, permute
from chunkarr.expr.affine import diagonal as diagonal_
from chunkarr.expr.build import normalize_axes, normalize_axis, normalize_shape, spell
from chunkarr.records import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NewShape:
    """The same elements in C order under another shape."""

    shape: Shape


def read_order(order: str | None, known: str = "CFAK", *, of: Any) -> str:
    """Read an order of elements; "A" is the one in which the array lies, as its flags say."""
    letter = (order or "C").upper()
    if letter not in known:
        message = f"order must be one of {', '.join(known)} (got {order!r})"
        raise ValueError(message)
    if letter == "A":
        return "F" if of.flags.fnc else "C"
    return letter


def transpose(shape: Shape, axes: Sequence[int] | None = None) -> Affine:
    """Reverse or permute the axes."""
    if axes is None:
        return permute(shape, range(len(shape))[::-1])
    order = [normalize_axis(a, len(shape)) for a in axes]
    if len(order) != len(shape):
        message = "axes don't match array"
        raise ValueError(message)
    if len(set(order)) != len(order):
        message = "repeated axis in transpose"
        raise ValueError(message)
    return permute(shape, order)


def matrix_transpose(shape: Shape) -> Affine:
    """Swap the last two axes."""
    if len(shape) < 2:
        message = f"Input array must be at least 2-dimensional, but it is {len(shape)}"
        raise ValueError(message)
    return swapaxes(shape, -1, -2)


def swapaxes(shape: Shape, axis1: int, axis2: int) -> Affine:
    """Exchange two axes."""
    a, b = normalize_axis(axis1, len(shape), "axis1"), normalize_axis(axis2, len(shape), "axis2")
    order = list(range(len(shape)))
    order[a], order[b] = order[b], order[a]
    return permute(shape, order)


def moveaxis(shape: Shape, source: Any, destination: Any) -> Affine:
    """Move axes to other positions."""
    froms = _told_apart(source, len(shape), "source")
    tos = _told_apart(destination, len(shape), "destination")
    if len(froms) != len(tos):
        message = "`source` and `destination` arguments must have the same number of elements"
        raise ValueError(message)
    order = [axis for axis in range(len(shape)) if axis not in froms]
    for to, origin in sorted(zip(tos, froms, strict=True)):
        order.insert(to, origin)
    return permute(shape, order)


def _told_apart(axes: Any, ndim: int, argument: str) -> list[int]:
    """Read one axis or several, which have to be different ones."""
    many = axes if isinstance(axes, Iterable) else (axes,)
    numbers = [normalize_axis(axis, ndim, argument) for axis in many]
    if len(set(numbers)) != len(numbers):
        message = f"repeated axis in `{argument}` argument"
        raise ValueError(message)
    return numbers


def squeeze(shape: Shape, axis: Any = None) -> Affine:
    """Drop axes of length one."""
    if axis is None:
        gone = {i for i, n in enumerate(shape) if n == 1}
    else:
        gone = set(normalize_axes(axis, len(shape)))
        if any(shape[i] != 1 for i in gone):
            message = "cannot select an axis to squeeze out which has size not equal to one"
            raise ValueError(message)
    place = iter(range(len(shape)))
    terms = tuple(
        Term(-1, 0, 0) if i in gone else Term(next(place), 0, 1) for i in range(len(shape))
    )
    return Affine(tuple(n for i, n in enumerate(shape) if i not in gone), terms)


def expand_dims(shape: Shape, axis: Any) -> Affine:
    """Insert axes of length one."""
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    inserted = normalize_axes(axes, len(shape) + len(axes))
    target, terms = list(shape), []
    for i in inserted:
        target.insert(i, 1)
    kept = (i for i in range(len(target)) if i not in inserted)
    terms = [Term(i, 0, 1) for i in kept]
    return Affine(tuple(target), tuple(terms))


def broadcast_to(shape: Shape, target: object) -> Affine:
    """Stretch to a shape; the view is read-only."""
    wanted = normalize_shape(target)
    # NumPy's own check gives its own message.
    np.broadcast_to(np.empty((), "u1"), wanted)
    lead = len(wanted) - len(shape)
    fits = lead >= 0 and all(n in (1, m) for n, m in zip(shape, wanted[lead:], strict=True))
    if not fits:
        message = (
            "operands could not be broadcast together with remapped shapes "
            f"[original->remapped]: {spell(shape)}  and requested shape {spell(wanted)}"
        )
        raise ValueError(message)
    return broadcast(shape, wanted)


def flip(shape: Shape, axis: Any = None) -> Affine:
    """Reverse the order of elements along axes."""
    axes = normalize_axes(axis, len(shape))
    terms = tuple(
        Term(i, max(0, n - 1), -1) if i in axes else Term(i, 0, 1) for i, n in enumerate(shape)
    )
    return Affine(shape, terms)


def fliplr(shape: Shape) -> Affine:
    """Reverse the second axis."""
    if len(shape) < 2:
        message = "Input must be >= 2-d."
        raise ValueError(message)
    return flip(shape, 1)


def flipud(shape: Shape) -> Affine:
    """Reverse the first axis."""
    if not shape:
        message = "Input must be >= 1-d."
        raise ValueError(message)
    return flip(shape, 0)


def diagonal(shape: Shape, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Affine:
    """Look at a diagonal; the view is read-only, as in NumPy."""
    if len(shape) < 2:
        message = "diag requires an array of at least two dimensions"
        raise ValueError(message)
    a, b = normalize_axis(axis1, len(shape)), normalize_axis(axis2, len(shape))
    if a == b:
        message = "axis1 and axis2 cannot be the same"
        raise ValueError(message)
    return diagonal_(shape, offset, a, b)


def reshape(shape: Shape, target: Any) -> NewShape:
    """Fold the elements, in C order, to another shape; one length may be -1."""
    wanted = list(target) if isinstance(target, tuple | list) else [target]
    lengths = [operator.index(n) for n in wanted]
    size = math.prod(shape)
    if lengths.count(-1) > 1:
        message = "can only specify one unknown dimension"
        raise ValueError(message)
    if -1 in lengths:
        rest = math.prod(n for n in lengths if n != -1)
        if rest and size % rest == 0:
            lengths[lengths.index(-1)] = size // rest
    if any(n < 0 for n in lengths) or math.prod(lengths) != size:
        shown = spell(tuple(wanted)).replace("-1", "newaxis")
        message = f"cannot reshape array of size {size} into shape {shown}"
        raise ValueError(message)
    return NewShape(tuple(lengths))


def ravel(shape: Shape) -> NewShape:
    """Lay the elements out on one axis, in C order."""
    return NewShape((math.prod(shape),))


def split_points(length: int, sections: Any, *, even: bool) -> list[tuple[int, int]]:
    """Give the pieces of `numpy.split` (`even`) or `numpy.array_split` along an axis."""
    try:
        count = operator.index(sections)
    except TypeError:
        marks = [slice(None, operator.index(m)).indices(length)[1] for m in sections]
        return list(zip([0, *marks], [*marks, length], strict=True))
    if even and count == 0:
        message = "integer modulo by zero"
        raise ZeroDivisionError(message)
    if count <= 0:
        message = "number sections must be larger than 0."
        raise ValueError(message)
    if even and length % count:
        message = "array split does not result in an equal division"
        raise ValueError(message)
    each, extra = divmod(length, count)
    ends = [each * i + min(i, extra) for i in range(count + 1)]
    return list(itertools.pairwise(ends))
