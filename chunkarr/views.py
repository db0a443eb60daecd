"""Lenses: how a view reads its base's current value and writes a new value back into it.

A view holds its base handle and one lens. Reading applies `get` to whatever the base names now;
writing gives `put` the base's value and the view's new value and takes the base's new value. Lazy
readers keep the old immutable expression, so nothing is flushed for aliasing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from chunkarr.expr.affine import Affine, Term, places_of
from chunkarr.expr.build import (
    apply,
    as_expr,
    cast_lazily,
    constant,
    reshape,
    spell,
    stretch,
    view,
)
from chunkarr.expr.node import Expr, Source
from chunkarr.functions.creation import index_along
from chunkarr.functions.elementwise import as_complex, imag, real
from chunkarr.functions.fancy import Places, scatter
from chunkarr.functions.indexing import Fancy, Masked
from chunkarr.functions.manipulation import assign
from chunkarr.functions.retype import field, field_dtype, reinterpret, with_field
from chunkarr.functions.views import NewShape
from chunkarr.records import dataclass
from chunkarr.settings import settings
from chunkarr.storage.guard import just_now, watched
from chunkarr.storage.memory import MemoryStore

NDArray = npt.NDArray[Any]


class Reading:
    """A lens that reads other elements than the base has, at the same places or beside them."""

    __slots__ = ()

    def get(self, base: Expr) -> Expr:
        """Give the view's value for a base's value."""
        raise NotImplementedError

    def put(self, base: Expr, value: Expr) -> Expr:
        """Give the base's new value for a new value of the view."""
        raise NotImplementedError

    def look(self, array: NDArray) -> NDArray:
        """Give NumPy's view of an ndarray."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Part(Reading):
    """The real or the imaginary part of complex values."""

    imaginary: bool

    def get(self, base: Expr) -> Expr:  # noqa: D102
        return imag(base) if self.imaginary else real(base)

    def put(self, base: Expr, value: Expr) -> Expr:  # noqa: D102
        other = real(base) if self.imaginary else imag(base)
        pair = (other, value) if self.imaginary else (value, other)
        return cast_lazily(as_complex(*pair), base.dtype)

    def look(self, array: NDArray) -> NDArray:  # noqa: D102
        return array.imag if self.imaginary else array.real


@dataclass(frozen=True, slots=True)
class Retyped(Reading):
    """The same bytes under another dtype; `shape` is the view's."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def get(self, base: Expr) -> Expr:  # noqa: D102
        return reinterpret(base, self.dtype, self.shape)

    def put(self, base: Expr, value: Expr) -> Expr:  # noqa: D102
        return reinterpret(value, base.dtype, base.shape)

    def look(self, array: NDArray) -> NDArray:  # noqa: D102
        return array.view(self.dtype)


@dataclass(frozen=True, slots=True)
class Field(Reading):
    """A field of records, or several of them."""

    key: str | tuple[str, ...]

    def get(self, base: Expr) -> Expr:  # noqa: D102
        return field(base, self.key)

    def put(self, base: Expr, value: Expr) -> Expr:  # noqa: D102
        return with_field(base, self.key, value)

    def look(self, array: NDArray) -> NDArray:  # noqa: D102
        return array[self.key if isinstance(self.key, str) else list(self.key)]


Lens = Affine | NewShape | Reading


def get(lens: Lens, base: Expr) -> Expr:
    """Give the view's value for a base's value."""
    if isinstance(lens, NewShape):
        return reshape(base, lens.shape)
    return lens.get(base) if isinstance(lens, Reading) else view(base, lens)


def put(lens: Lens, base: Expr, value: Expr) -> Expr:
    """Give the base's new value for a new value of the view."""
    if isinstance(lens, NewShape):
        return get(NewShape(base.shape), value)
    return lens.put(base, value) if isinstance(lens, Reading) else lay(lens, base, value)


def lay(affine: Affine, base: Expr, value: Expr, *, unread: bool = False) -> Expr:
    """Give the base's new value after assigning `value` to what an affine view shows.

    `unread` says that nothing else reads the base, the value neither.
    """
    if not affine.boxed and affine.injective:
        return _lay_across(affine, base, value)
    if not affine.injective:
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
    return assign(base, places, patch, unread=unread)


def _lay_across(affine: Affine, base: Expr, value: Expr) -> Expr:
    """Lay a value over a diagonal: at positions in the flattened base."""
    count, weight = math.prod(affine.shape), 1
    position: Expr = constant(0, shape=affine.shape)
    for (axis, offset, stride), n in zip(reversed(affine.terms), reversed(base.shape), strict=True):
        along = index_along(affine.shape, axis) if axis >= 0 else 0
        place = apply("add", apply("multiply", along, stride * weight), offset * weight)
        position, weight = apply("add", position, place), weight * n
    line = get(NewShape((base.size,)), base)
    there = get(NewShape((count,)), position)
    places = Places(Affine.identity(line.shape), line.shape, 0, there, (count,))
    return get(NewShape(base.shape), scatter(line, places, get(NewShape((count,)), value)))


def look(lens: Lens, array: NDArray) -> NDArray:
    """Apply a lens to an ndarray: a NumPy view, or a copy where NumPy has no view."""
    if isinstance(lens, NewShape):
        return array.reshape(lens.shape)
    return lens.look(array) if isinstance(lens, Reading) else lens.apply(array)


def source_of(array: NDArray, parent: Source | None) -> Source:
    """Make a source of a NumPy view, counted as a reader of the source it looks into."""
    return Source(shape=array.shape, dtype=array.dtype, store=MemoryStore(array), parent=parent)


def look_strides(
    lens: Lens, strides: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[int, ...] | None:
    """Give a view's strides from its base's, None where a reshape would copy."""
    if isinstance(lens, Affine):
        out = [0] * len(lens.shape)
        for (axis, _, stride), step in zip(lens.terms, strides, strict=True):
            if axis >= 0:
                out[axis] += stride * step
        return tuple(out)
    if isinstance(lens, Reading):
        return lens.look(outline(strides, shape, dtype)).strides
    if strides == c_strides(shape, dtype.itemsize):
        return c_strides(lens.shape, dtype.itemsize)
    try:
        return (
            outline(strides, shape, np.dtype(f"V{dtype.itemsize}"))
            .reshape(lens.shape, copy=False)
            .strides
        )
    except ValueError:
        return None


def outline(strides: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray:
    """Make an ndarray of a layout and without memory, for NumPy to say what views of it are like.

    Its elements must not be touched.
    """
    return as_strided(np.empty((), dtype), shape, strides, writeable=False)


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


def check_value(value: Any, dtype: np.dtype[Any], ndim: int | None) -> None:
    """Raise NumPy's ValueError for a value with more axes than its place; None is one element."""
    nested = isinstance(value, list | tuple)
    if ndim is None and not (nested and dtype.names):
        np.empty((1,), dtype)[0] = (
            np.empty((1,) * value.ndim, dtype) if hasattr(value, "ndim") else value
        )
    elif nested and dtype.names is None and np.ndim(value) > (ndim or 0):
        np.empty((1,) * (ndim or 0), dtype)[...] = value


def value_for(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Expr:
    """Give an assigned value with the shape and dtype of its destination."""
    if isinstance(value, Expr):
        expr = value
    elif isinstance(value, np.ndarray | np.generic):
        # The caller may change the array later; what was assigned stays.
        expr = as_expr(np.array(value))
    else:
        # NumPy's own assignment converts numbers and lists, and words the refusals.
        # A tuple is one record, where the dtype has fields.
        given = np.empty(np.shape(value), dtype) if dtype.names is None else None
        if given is None:
            given = np.array(value, dtype)
        else:
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


def field_key(
    key: Any, dtype: np.dtype[Any], *, single: bool = False
) -> str | tuple[str, ...] | None:
    """Read the names of fields in a key, for `single` records their numbers too; None if none.

    Raises NumPy's errors: ValueError or KeyError for no such field, IndexError without fields.
    """
    if single and dtype.names is not None and isinstance(key, int | np.integer):
        return str(dtype.names[key])
    named: str | tuple[str, ...]
    if isinstance(key, list) and key and all(isinstance(name, str) for name in key):
        named = tuple(key)
    elif isinstance(key, str):
        named = key
    else:
        return None
    field_dtype(dtype, named)
    return named


def immediate(held: NDArray) -> bool:
    """Whether NumPy works on an array in memory at once: small ones, and those of objects.

    Objects stay in the process that made them, so there is nothing to cut or to spill.
    """
    return held.nbytes <= settings().eager_bytes or held.dtype.hasobject


KEY_BYTES = 1 << 20
"""Indices that have to be computed first are so at once up to this size."""


def taken_now(held: NDArray, key: Sequence[Any]) -> bool:
    """Whether NumPy takes what arrays name of one in memory at once, as far as these are concerned.

    It does not where they have to be computed and are large, or name what may be very much.
    """
    if held.dtype.hasobject:
        return True
    row = held.nbytes // max(1, min(held.shape, default=1))
    for item in key:
        if not getattr(item, "ndim", 0):
            continue
        if getattr(item, "in_memory", item) is None and item.nbytes > KEY_BYTES:
            return False
        if item.dtype != bool and item.size * row > settings().memory // 16:
            return False
    return True


def assign_now(held: NDArray, item: Any, key: Any, value: Any, on_file: bool) -> bool:
    """Assign to a buffer where the value is at hand, or has to be because a file is written."""
    given = value
    if hasattr(value, "to_expr"):
        found = value.in_memory
        if held.dtype == object and item.scalar and not value.is_scalar:
            found = value  # arrays are objects too
        elif found is None and not on_file and not held.dtype.hasobject:
            return False
        given = value.compute() if found is None else found
        given = given[()] if value.is_scalar else given
    with watched(just_now()) if on_file else nullcontext():
        if isinstance(item, Masked | Fancy):
            held[ndarray_key(key)] = given
        elif item.scalar:
            held[tuple([term.offset for term in item.affine.terms])] = given
        else:
            item.affine.apply(held)[...] = given
    return True
