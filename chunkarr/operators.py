"""Everything that is attached to Array from tables: operators, methods, NumPy's protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr import io, namespace
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import arrays_in, refuse
from chunkarr.expr.build import cast, constant
from chunkarr.functions import views
from chunkarr.functions.elementwise import power
from chunkarr.functions.manipulation import regrid
from chunkarr.ufuncs import BY_UFUNC, TABLE
from chunkarr.views import Part

BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "divmod": "divmod",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "matmul": "matmul",
}
COMPARE = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}

METHODS = (
    "sum prod mean var std min max any all argmin argmax cumsum cumprod clip ptp round dot "
    "repeat take searchsorted nonzero trace conj conjugate"
).split()
"""Functions whose first argument is the array and which are methods too."""

VIEWS = ("swapaxes", "squeeze", "diagonal")


def _binary(name: str) -> Callable[[Array, Any], Any]:
    ufunc = TABLE[name]

    def method(self: Array, other: Any) -> Any:
        if not _known(other):
            return NotImplemented
        return ufunc(self, other)

    return method


def _reflected(name: str) -> Callable[[Array, Any], Any]:
    ufunc = TABLE[name]

    def method(self: Array, other: Any) -> Any:
        if not _known(other):
            return NotImplemented
        return ufunc(other, self)

    return method


def _in_place(name: str) -> Callable[[Array, Any], Any]:
    ufunc = TABLE[name]

    def method(self: Array, other: Any) -> Any:
        if self.is_scalar:
            return ufunc(self, other)
        ufunc(self, other, out=(self,))
        return self

    return method


def _known(other: Any) -> bool:
    """Whether an operand is something arrays compute with."""
    return isinstance(other, Array | np.ndarray | np.generic | int | float | complex | list | tuple
                      | str | bytes) or hasattr(other, "__array__")


def _unary(name: str) -> Callable[[Array], Any]:
    ufunc = TABLE[name]
    return lambda self: ufunc(self)


def _pow(self: Array, other: Any) -> Any:
    exact = type(other) in (int, float)
    if exact and self.in_memory is None and self.dtype.kind in "fc":
        return wrap(power(self.to_expr(), other, shortcut=True), scalar=self.is_scalar)
    if exact and self.in_memory is not None and self.nbytes <= 1 << 12:
        from_numpy = self.in_memory**other
        return Array.of(np.asarray(from_numpy), scalar=self.is_scalar)
    if exact and self.dtype.kind in "fc":
        return wrap(power(self.to_expr(), other, shortcut=True), scalar=self.is_scalar)
    return TABLE["power"](self, other)


def _method(name: str) -> Callable[..., Any]:
    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        return getattr(namespace, name)(self, *args, **kwargs)

    method.__name__ = name
    return method


def _transpose(self: Array, *axes: Any) -> Array:
    """Reverse or permute the axes."""
    order = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)) else axes
    return self.view_through(views.transpose(self.shape, order or None))


def _reshape(self: Array, *shape: Any, order: str = "C", copy: bool | None = None) -> Array:
    """Give the elements under another shape: a view where NumPy has one."""
    target = shape[0] if len(shape) == 1 else shape
    return namespace.reshape(self, target, order=order, copy=copy)


def _ravel(self: Array, order: str = "C") -> Array:
    """Give the elements on one axis: a view where NumPy has one."""
    return namespace.ravel(self, order)


def _flatten(self: Array, order: str = "C") -> Array:
    """Give a copy of the elements on one axis."""
    return namespace.ravel(self, order).copy()


def _astype(self: Array, dtype: Any, *, copy: bool = True, **kwargs: Any) -> Array:
    """Convert to a dtype."""
    wanted = np.dtype(dtype)
    casting = kwargs.get("casting", "unsafe")
    if not np.can_cast(self.dtype, wanted, casting):
        message = (
            f"Cannot cast array data from {self.dtype!r} to {wanted!r} "
            f"according to the rule '{casting}'"
        )
        raise TypeError(message)
    if wanted == self.dtype and not copy:
        return self
    held = self.in_memory
    if held is not None and namespace.small([self]):
        return Array.of(held.astype(wanted), scalar=self.is_scalar)
    return wrap(cast(self.to_expr(), wanted), scalar=self.is_scalar)


def _fill(self: Array, value: Any) -> None:
    """Set all elements."""
    self[...] = value


def _part(imaginary: bool) -> property:  # noqa: FBT001
    def read(self: Array) -> Array:
        if self.dtype.kind != "c":
            if not imaginary:
                return self
            return wrap(constant(np.zeros((), self.dtype), shape=self.shape))
        if self.is_scalar:
            return (namespace.imag if imaginary else namespace.real)(self)  # type: ignore[no-any-return]
        return self.view_through(Part(imaginary))

    def write(self: Array, value: Any) -> None:
        if self.dtype.kind != "c":
            if imaginary:
                message = "cannot set imaginary part of a real array"
                raise TypeError(message)
            self[...] = value
            return
        self.view_through(Part(imaginary))[...] = value

    return property(read, write, doc="The imaginary part." if imaginary else "The real part.")


def _rechunk(self: Array, chunks: Any = "auto") -> Array:
    """Give the array another cut for storing; nothing moves until then."""
    return wrap(regrid(self.to_expr(), io.grid_for(chunks, self.shape, self.dtype)))


def _visit_ufunc(self: Array, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    own = BY_UFUNC.get(ufunc)
    if own is None:
        if all(a.in_memory is not None and namespace.small([a]) for a in arrays_in(inputs)):
            plain = [a.in_memory if isinstance(a, Array) else a for a in inputs]
            return namespace.give(getattr(ufunc, method)(*plain, **kwargs))
        raise refuse(ufunc.__name__, "apply it to x.compute(), or to parts of x that fit")
    if any(isinstance(out, np.ndarray) for out in kwargs.get("out", ())):
        target = kwargs.pop("out")[0]
        result = getattr(own, method)(*inputs, **kwargs)
        np.copyto(target, result.compute(), casting="same_kind")
        return target
    return getattr(own, method)(*inputs, **kwargs)


def _visit_function(
    self: Array, func: Callable[..., Any], types: Any, args: Any, kwargs: Any  # noqa: ARG001
) -> Any:
    own = namespace.find(func)
    if own is None:
        arrays = arrays_in((*args, *kwargs.values()))
        if namespace.small(arrays):
            plain = [namespace.convert(a, namespace.ndarray_of) for a in args]
            named = {k: namespace.convert(v, namespace.ndarray_of) for k, v in kwargs.items()}
            return namespace.give(func(*plain, **named))
        raise namespace.not_yet(func.__name__)
    return own(*args, **kwargs)


def _explain(self: Array, *, analyze: bool = False) -> str:
    """Show the steps that computing the array takes, and with `analyze` what happened."""
    return io.explain([self], analyze=analyze)


def _unhashed(self: Array) -> int:
    if self.is_scalar:
        return hash(self.compute()[()])
    message = "unhashable type: 'chunkarr.Array'"
    raise TypeError(message)


def _mT(self: Array) -> Array:  # noqa: N802 - NumPy's name
    return self.view_through(views.matrix_transpose(self.shape))


def attach() -> None:
    """Attach everything to Array; called once, when the namespace is first used."""
    for name, ufunc in BINARY.items():
        setattr(Array, f"__{name}__", _binary(ufunc))
        setattr(Array, f"__r{name}__", _reflected(ufunc))
        if name != "divmod":
            setattr(Array, f"__i{name}__", _in_place(ufunc))
    for name, ufunc in COMPARE.items():
        setattr(Array, f"__{name}__", _binary(ufunc))
    for name, ufunc in UNARY.items():
        setattr(Array, f"__{name}__", _unary(ufunc))
    plain: dict[str, Any] = {
        "__hash__": _unhashed,
        "__pow__": _pow,
        "__rpow__": _reflected("power"),
        "__ipow__": _in_place("power"),
        "__array_ufunc__": _visit_ufunc,
        "__array_function__": _visit_function,
        "T": property(lambda self: _transpose(self), doc="The axes in reverse order."),
        "mT": property(_mT, doc="The last two axes swapped."),
        "transpose": _transpose,
        "reshape": _reshape,
        "ravel": _ravel,
        "flatten": _flatten,
        "astype": _astype,
        "fill": _fill,
        "real": _part(imaginary=False),
        "imag": _part(imaginary=True),
        "rechunk": _rechunk,
        "to_zarr": io.to_zarr,
        "explain": _explain,
    }
    for name, value in plain.items():
        setattr(Array, name, value)
    for name in (*METHODS, *VIEWS):
        if hasattr(namespace, name):
            setattr(Array, name, _method(name))
    setattr(Array, "sort", _sort)  # noqa: B010


def _sort(self: Array, axis: int = -1, kind: str | None = None) -> None:
    """Sort in place."""
    self[...] = namespace.sort(self, axis, kind=kind)

