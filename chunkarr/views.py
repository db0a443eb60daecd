"""Lenses: how a view reads its base's current value and writes a new value back into it.

A view holds its base handle and one lens. Reading applies `get` to whatever the base names now;
writing gives `put` the base's value and the view's new value and takes the base's new value. Lazy
readers keep the old immutable expression, so nothing is flushed for aliasing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from chunkarr.expr.affine import Affine, Term, places_of
from chunkarr.expr.build import as_expr, caller, cast_lazily, spell, stretch, view
from chunkarr.expr.node import Expr, Reshape, Source
from chunkarr.functions.elementwise import as_complex, imag, real
from chunkarr.functions.manipulation import assign
from chunkarr.functions.views import NewShape
from chunkarr.records import dataclass
from chunkarr.storage.memory import MemoryStore

NDArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """The real or the imaginary part of complex values."""

    imaginary: bool


Lens = Affine | NewShape | Part


def get(lens: Lens, base: Expr) -> Expr:
    """Give the view's value for a base's value."""
    if isinstance(lens, NewShape):
        if lens.shape == base.shape:
            return base
        return Reshape(shape=lens.shape, dtype=base.dtype, operands=(base,), line=caller())
    if isinstance(lens, Part):
        return imag(base) if lens.imaginary else real(base)
    return view(base, lens)


def put(lens: Lens, base: Expr, value: Expr) -> Expr:
    """Give the base's new value for a new value of the view."""
    if isinstance(lens, NewShape):
        return get(NewShape(base.shape), value)
    if isinstance(lens, Part):
        other = imag(base) if not lens.imaginary else real(base)
        pair = (value, other) if not lens.imaginary else (other, value)
        return cast_lazily(as_complex(*pair), base.dtype)
    return lay(lens, base, value)


def lay(affine: Affine, base: Expr, value: Expr) -> Expr:
    """Give the base's new value after assigning `value` to what an affine view shows."""
    if not affine.boxed or not affine.injective:
        message = "assignment destination is read-only"
        raise ValueError(message)
    if 0 in affine.shape:
        return base
    places = places_of(affine)
    # The patch has the base's axes: say for each axis of the view which of them it is.
    turned = {term.axis: axis for axis, term in enumerate(affine.terms) if term.axis >= 0}
    terms = tuple(
        Term(turned[axis], 0, 1) if axis in turned else Term(-1, 0, 0)
        for axis in range(len(affine.shape))
    )
    patch = view(value, Affine(tuple(place.count for place in places), terms))
    return assign(base, places, patch)


def look(lens: Lens, array: NDArray) -> NDArray:
    """Apply a lens to an ndarray: a NumPy view, or a copy where NumPy has no view."""
    if isinstance(lens, NewShape):
        return array.reshape(lens.shape)
    if isinstance(lens, Part):
        return array.imag if lens.imaginary else array.real
    return lens.apply(array)


def source_of(array: NDArray, parent: Source | None) -> Source:
    """Make a source of a NumPy view, counted as a reader of the source it looks into."""
    return Source(shape=array.shape, dtype=array.dtype, store=MemoryStore(array), parent=parent)


def look_strides(
    lens: Lens, strides: tuple[int, ...], shape: tuple[int, ...], size: int
) -> tuple[int, ...] | None:
    """Give a view's strides from its base's, None where a reshape would copy."""
    if isinstance(lens, Part):
        return strides
    if isinstance(lens, Affine):
        out = [0] * len(lens.shape)
        for (axis, _, stride), step in zip(lens.terms, strides, strict=True):
            if axis >= 0:
                out[axis] += stride * step
        return tuple(out)
    # NumPy decides whether a reshape needs a copy; the array has these strides and no memory.
    shown = as_strided(np.empty((), f"V{size}"), shape, strides)
    try:
        return shown.reshape(lens.shape, copy=False).strides
    except ValueError:
        return None


class Selection:
    """`operand[mask]` whose length nobody asked for yet."""

    __slots__ = ("mask", "operand")

    def __init__(self, operand: Expr, mask: Expr) -> None:
        self.operand, self.mask = operand, mask

    def spread_mask(self) -> Expr:
        """Give the mask with the operand's shape."""
        lead = self.mask.ndim
        if lead == self.operand.ndim:
            return self.mask
        shape = (*self.mask.shape, *(1,) * (self.operand.ndim - lead))
        terms = Affine.identity(self.mask.shape).terms
        return stretch(view(self.mask, Affine(shape, terms)), self.operand.shape)


def c_strides(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Give the strides of an array in C order."""
    out = []
    step = size
    for n in reversed(shape):
        out.append(step)
        step *= max(1, n)
    return tuple(reversed(out))


def value_for(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Expr:
    """Give an assigned value with the shape and dtype of its destination."""
    if isinstance(value, Expr):
        expr = value
    elif isinstance(value, np.ndarray | np.generic):
        # The caller may change the array later; what was assigned stays.
        expr = as_expr(np.array(value))
    else:
        # NumPy's own assignment converts numbers and lists, and words the refusals.
        given = np.empty(np.shape(value), dtype)
        given[...] = value
        expr = as_expr(given)
    while expr.ndim > len(shape) and expr.shape[0] == 1:
        terms = (Term(-1, 0, 0), *Affine.identity(expr.shape[1:]).terms)
        expr = view(expr, Affine(expr.shape[1:], terms))
    if expr.shape != shape:
        try:
            fits = np.broadcast_shapes(expr.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            message = (
                f"could not broadcast input array from shape {spell(expr.shape)} "
                f"into shape {spell(shape)}"
            )
            raise ValueError(message)
        expr = stretch(expr, shape)
    if expr.dtype.kind == "c" and dtype.kind != "c":
        np.empty(1, dtype)[...] = np.zeros(1, expr.dtype)  # NumPy's own warning
    return cast_lazily(expr, dtype)


def reads(value: Expr, source: Expr) -> bool:
    """Whether a value still has to be computed from a source."""
    stack, seen = [value], set()
    while stack:
        node = stack.pop()
        if node is source:
            return True
        if id(node) in seen or node.memo.store is not None:
            continue
        seen.add(id(node))
        stack.extend(node.operands)
    return False


def plain_key(key: Any) -> Any:
    """Read arrays without axes in a key as the numbers they stand for."""
    if isinstance(key, tuple):
        return tuple([plain_key(item) for item in key])
    if hasattr(key, "to_expr") and key.shape == ():
        return bool(key) if key.dtype == bool else int(key) if key.dtype.kind in "iu" else key
    return key


def ndarray_key(key: Any) -> Any:
    """Give a key as NumPy takes it: arrays in it computed."""
    if isinstance(key, tuple):
        return tuple([ndarray_key(item) for item in key])
    return key.compute() if hasattr(key, "to_expr") else key
