"""Methods of Array beside those that are functions of NumPy's namespace too; attached from a table.

A method is NumPy's: the same arguments, the same view or copy, the same refusals.
"""

from __future__ import annotations

import functools
import importlib
import operator
import os
import pickle
from collections.abc import Callable
from types import GenericAlias
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunkarr import engine, exchange, namespace, shaping
from chunkarr.arrays import Array, wrap
from chunkarr.errors import NotYetError
from chunkarr.expr.affine import Affine
from chunkarr.expr.build import normalize_axis
from chunkarr.flags import Flags, setflags
from chunkarr.functions import retype, views
from chunkarr.maps import store_of
from chunkarr.storage.formats import new_raw
from chunkarr.views import Retyped, c_strides, outline

if TYPE_CHECKING:
    from chunkarr.flat import Flat

NDArray = npt.NDArray[Any]


# -- the same memory under another dtype -----------------------------------------------------------


def view(self: Array, dtype: Any = None, type: Any = None) -> Any:
    """Give a view: of the same dtype, or of the same bytes under another one.

    Under a class of NumPy's, such as `recarray`, it is that: read-only, and of values that fit.
    Another item size changes the last axis, which has to lie in C order. Raises NumPy's ValueError
    or TypeError where the bytes do not fit, NotYetError where an element would be taken apart into
    more than 64.
    """
    if _is_array_class(dtype):
        dtype, type = None, dtype
    if type not in (None, Array):
        if issubclass(type, Array):
            message = "numpy.ndarray cannot be derived from here: wrap an array, or use x.compute()"
            raise NotYetError(message)
        seen_as: Any = np.asarray(self if dtype is None else view(self, dtype)).view(type)
        return seen_as
    if dtype is None:
        return self.view_through(Affine.identity(self.shape))
    shown = outline(self.strides, self.shape, self.dtype).view(dtype)
    seen = self.view_through(Retyped(shown.dtype, shown.shape))
    seen.is_scalar = self.is_scalar and not shown.ndim
    if self.in_memory is None:
        seen.to_expr()  # refusals come now
    return seen


def _is_array_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, np.ndarray | Array)


def getfield(self: Array, dtype: Any, offset: int = 0) -> Array:
    """Look at some bytes of each element as a dtype."""
    kind = np.dtype(dtype)
    outline(c_strides(self.shape, self.itemsize), self.shape, self.dtype).getfield(kind, offset)
    rest = self.itemsize - offset - kind.itemsize
    # The other bytes are fields too: NumPy does not copy those between fields.
    parts = [("before", f"V{offset}"), ("wanted", kind), ("after", f"V{rest}")]
    seen: Array = view(self, np.dtype([part for part in parts if part[1] != "V0"]))["wanted"]
    return seen


def setfield(self: Array, val: Any, dtype: Any, offset: int = 0) -> None:
    """Set some bytes of each element as a dtype."""
    getfield(self, dtype, offset)[...] = val


def byteswap(self: Array, inplace: bool = False) -> Array:
    """Reverse the bytes of each number; the dtype stays."""
    swapped = wrap(retype.byteswap(self.to_expr()), scalar=self.is_scalar)
    if not inplace:
        return swapped
    self[...] = swapped
    return self


# -- changing in place -----------------------------------------------------------------------------


def fill(self: Array, value: Any) -> None:
    """Set all elements; of objects, to the one that is given, whatever it is."""
    held = self.writable_ndarray() if self.dtype.hasobject else None
    if held is None:
        self[...] = value
    else:
        self.check_writable()
        held.fill(value)


def resize(self: Array, *new_shape: Any, refcheck: bool = True) -> None:
    """Change the shape in place; what is added is zero, what is left over is dropped.

    Raises ValueError for views and for arrays on file, whose data is not their own.
    """
    target = new_shape[0] if len(new_shape) == 1 else new_shape
    if not new_shape or target is None:
        return
    shape = (target,) if isinstance(target, int | np.integer) else tuple(target)
    lengths = tuple([operator.index(n) for n in shape])
    if any(n < 0 for n in lengths):
        message = "negative dimensions not allowed"
        raise ValueError(message)
    size = int(np.prod(lengths, dtype=object))
    if size == self.size and self.flags.forc and not self.is_scalar:
        self.become(views.NewShape(lengths))
        return
    if self.base is not None or self.is_scalar or store_of(self.to_expr()) is not None:
        message = "cannot resize this array: it does not own its data"
        raise ValueError(message)
    if refcheck and self.has_views:
        message = "cannot resize an array that references or is referenced by another array"
        raise ValueError(message)
    order = "F" if self.flags.fnc else "C"
    line = namespace.ravel(self, order)[:size]
    if size > self.size:
        line = namespace.concatenate([line, namespace.zeros(size - self.size, self.dtype)])
    self.rebind(namespace.reshape(line, lengths, order).copy().to_expr())


def delitem(_: Array, __: Any) -> None:
    """Refuse to delete elements, as NumPy does."""
    message = "cannot delete array elements"
    raise ValueError(message)


def sort(
    self: Array,
    axis: int = -1,
    kind: str | None = None,
    order: Any = None,
    *,
    stable: bool | None = None,
) -> None:
    """Sort in place along an axis."""
    self.check_writable("sort array")
    normalize_axis(axis, self.ndim)
    self[...] = namespace.sort(self, axis, kind=kind, order=order, stable=stable)


def partition(
    self: Array, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None
) -> None:
    """Bring elements at places to where sorting would, the smaller ones before them, in place."""
    self.check_writable("partition array")
    normalize_axis(axis, self.ndim)
    self[...] = _function("partition")(self, kth, axis, kind, order)


def set_shape(self: Array, shape: Any) -> None:
    """Change the shape in place; AttributeError where that would take a copy."""
    lens = views.reshape(self.shape, shape)
    if Array(base=self, lens=lens)._strides() is None:  # noqa: SLF001 - asks what NumPy would
        message = (
            "Incompatible shape for in-place modification. Use `.reshape()` to make a copy with "
            "the desired shape."
        )
        raise AttributeError(message)
    self.become(views.NewShape(lens.shape))


def set_dtype(self: Array, dtype: Any) -> None:
    """Change the dtype in place: the same bytes under another one, as `view` sees them."""
    shown = outline(self.strides, self.shape, self.dtype).view(dtype)
    if shown.dtype != self.dtype:
        self.become(Retyped(shown.dtype, shown.shape))


# -- bytes -----------------------------------------------------------------------------------------


def tobytes(self: Array, order: Any = "C") -> bytes:
    """Give the bytes of all elements; refused where they do not fit the memory limit."""
    return self.compute().tobytes(order)


def tofile(self: Array, fid: Any, sep: str = "", format: str = "%s") -> None:
    """Write all elements, in C order, to a path, or append them to an open file.

    Bytes at a path appear whole or not at all; text, and what goes to an open file or a device, is
    written batch by batch.
    """
    if not hasattr(fid, "write"):
        if not (sep or self.dtype.hasobject or _is_special(fid)):
            engine.write(self.to_expr(), new_raw(fid, self.shape, self.dtype))
            return
        with os.fdopen(os.open(fid, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), "wb") as file:
            tofile(self, file, sep, format)
        return
    whole = importlib.import_module("chunkarr.streaming").settled(self)
    for number, batch in enumerate(_flat_module().batches(whole)):
        if sep and number:
            fid.write(sep.encode())
            fid.flush()
        batch.tofile(fid, sep, format)


def _is_special(path: Any) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def dumps(self: Array) -> bytes:
    """Pickle to bytes; see `__reduce__` for what a pickle carries."""
    return pickle.dumps(self)


def dump(self: Array, file: Any) -> None:
    """Pickle to an open file or a path."""
    if hasattr(file, "write"):
        pickle.dump(self, file)
        return
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), "wb") as opened:
        pickle.dump(self, opened)


# -- functions under other names -------------------------------------------------------------------


def compress(self: Array, condition: Any, axis: int | None = None, out: Any = None) -> Any:
    """Give the parts along an axis, or the elements, where a condition is true."""
    return shaping.compress(condition, self, axis, out)


def choose(self: Array, *choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """Take each element from the choice that it counts to; choices are one argument or several."""
    from_ = choices[0] if len(choices) == 1 else choices
    return namespace.choose(self, from_, out=out, mode=mode)  # type: ignore[attr-defined]


def clip(self: Array, min: Any = None, max: Any = None, out: Any = None, **kwargs: Any) -> Any:
    """Limit values to an interval, either end of which may be left open."""
    return namespace.clip(self, min, max, out, **kwargs)


def _function(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(np.ndarray, name))
    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        return getattr(namespace, name)(self, *args, **kwargs)

    method.__doc__ = f"Run `numpy.{name}` on the array."
    return method


def _flat_module() -> Any:
    return importlib.import_module("chunkarr.flat")


def _flat(self: Array) -> Flat:
    flat: Flat = _flat_module().Flat(self)
    return flat


def _set_flat(self: Array, value: Any) -> None:
    _flat_module().Flat(self)[...] = value


ATTACHED: dict[str, Any] = {
    "__class_getitem__": classmethod(GenericAlias),
    "__delitem__": delitem,
    "argpartition": _function("argpartition"),
    "byteswap": byteswap,
    "choose": choose,
    "clip": clip,
    "compress": compress,
    "dtype": Array.dtype.setter(set_dtype),  # type: ignore[attr-defined]
    "dump": dump,
    "dumps": dumps,
    "fill": fill,
    "flags": property(Flags, doc="The layout, and whether writing is allowed."),
    "flat": property(_flat, _set_flat, doc="All elements in C order."),
    "getfield": getfield,
    "partition": partition,
    "resize": resize,
    "setfield": setfield,
    "setflags": setflags,
    "shape": Array.shape.setter(set_shape),  # type: ignore[attr-defined]
    "sort": sort,
    "tobytes": tobytes,
    "tofile": tofile,
    "view": view,
} | exchange.ATTACHED
"""Names and methods for `operators.attach`."""
