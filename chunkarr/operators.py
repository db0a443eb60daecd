"""Everything that is attached to Array from tables: operators, methods, NumPy's protocols."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr import conversions, dask_names, dispatch, io, methods, namespace
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import arrays_in, at_hand, store_out
from chunkarr.expr.build import broadcast_shapes, cast, constant, from_ndarray
from chunkarr.functions import retype, views
from chunkarr.functions.elementwise import power
from chunkarr.functions.manipulation import regrid
from chunkarr.ufuncs import BY_UFUNC, TABLE
from chunkarr.userfuncs import foreign
from chunkarr.views import Part
from chunkarr.whole import OBJECT_COPIES, check_fit

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
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"divmod": divmod} | {
    called: getattr(operator, f"__{name}__")
    for name, called in (BINARY | COMPARE | {"pow": "power"}).items()
    if name != "divmod"
}
"""Python's own, for operands of other classes: a matrix multiplies in its own way."""
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}

METHODS = [
    "sum",
    "prod",
    "mean",
    "var",
    "std",
    "min",
    "max",
    "any",
    "all",
    "argmin",
    "argmax",
    "cumsum",
    "cumprod",
    "ptp",
    "round",
    "dot",
    "repeat",
    "take",
    "searchsorted",
    "nonzero",
    "trace",
    "argsort",
    "put",
]
"""Functions whose first argument is the array and which are methods too."""

VIEWS = ("swapaxes", "squeeze", "diagonal")


SEQUENCES = (str, bytes, list, tuple)
"""What Python repeats where NumPy's scalars of integers multiply it."""


def _is_count(array: Array) -> bool:
    return array.is_scalar and array.dtype.kind in "iub"


def _binary(name: str) -> Callable[[Array, Any], Any]:
    ufunc, repeats = TABLE[name], name == "multiply"

    def method(self: Array, other: Any) -> Any:
        if type(other) in PLAIN:
            return ufunc(self, other)
        if dispatch.extends(other):
            return dispatch.give(OPERATORS[name](self.compute(), other))
        if not _known(other) or (repeats and _is_count(self) and isinstance(other, SEQUENCES)):
            return NotImplemented
        return ufunc(self, other)

    return method


def _reflected(name: str) -> Callable[[Array, Any], Any]:
    ufunc, repeats = TABLE[name], name == "multiply"

    def method(self: Array, other: Any) -> Any:
        if type(other) in PLAIN:
            return ufunc(other, self)
        if dispatch.extends(other):
            return dispatch.give(OPERATORS[name](other, self.compute()))
        if not _known(other) or (repeats and _is_count(self) and isinstance(other, SEQUENCES)):
            return NotImplemented
        return ufunc(other, self)

    return method


def _in_place(name: str) -> Callable[[Array, Any], Any]:
    ufunc, numpy_ufunc = TABLE[name], getattr(np, name)

    def method(self: Array, other: Any) -> Any:
        if self.is_scalar:
            return ufunc(self, other)
        if name == "matmul" and (self.ndim < 1 or np.ndim(other) < 2):
            message = "inplace matrix multiplication requires a matrix as its second operand"
            raise ValueError(message)
        held = self.own_ndarray() if type(other) in PLAIN else None
        plain = None if held is None else at_hand((self, other))
        if plain is None:
            return ufunc(self, other, out=(self,))
        numpy_ufunc(*plain, out=held)
        return self

    return method


PLAIN = frozenset((Array, np.ndarray, bool, int, float, complex))
"""Classes of operands that every operator takes."""
KNOWN = (Array, np.ndarray, np.generic, int, float, complex, list, tuple, str, bytes)


def _known(other: Any) -> bool:
    """Whether arrays compute with an operand, or leave it to the operand's own operator."""
    if dispatch.extends(other):
        return False
    if isinstance(other, KNOWN) or hasattr(type(other), "__array__"):
        return True
    if hasattr(type(other), "__array_ufunc__"):
        return other.__array_ufunc__ is not None
    return not getattr(other, "__array_priority__", 0) > 0


def _equality(name: str) -> Callable[[Array, Any], Any]:
    """Make `==` or `!=`, which compare what has no common type as different."""
    ufunc = TABLE[name]

    def method(self: Array, other: Any) -> Any:
        if other is not None or self.dtype.hasobject:
            if other is not None and not _known(other):
                return NotImplemented
            if "V" in (self.dtype.kind, getattr(other, "dtype", self.dtype).kind):
                return _compare_records(self, other, equal=name == "equal")
            try:
                return ufunc(self, other)
            except np._core._exceptions._UFuncNoLoopError:  # type: ignore[attr-defined]  # noqa: SLF001
                pass
        shape = broadcast_shapes(self.shape, np.shape(other))
        return wrap(constant(name == "not_equal", shape=shape), scalar=not shape)

    return method


def _compare_records(left: Array, right: Any, *, equal: bool) -> Any:
    pair = [dispatch.expression(side) for side in (left, right)]
    made = retype.compare_records(*pair, equal=equal)
    return wrap(made, scalar=made.ndim == 0)


def _unary(name: str) -> Callable[[Array], Any]:
    ufunc = TABLE[name]

    def method(self: Array) -> Any:
        return ufunc(self)

    return method


def _pow(self: Array, other: Any) -> Any:
    if dispatch.extends(other):
        return dispatch.give(operator.pow(self.compute(), other))
    if not _known(other):
        return NotImplemented
    plain = at_hand((self, other))
    if plain is not None:
        base = plain[0][()] if self.is_scalar else plain[0]
        return dispatch.give(base ** plain[1])
    if type(other) in (int, float) and self.selection is None:
        # A scalar's operator is not an array's: it knows no squares of booleans.
        shortcut = not self.is_scalar or self.dtype.kind in "fc"
        return wrap(power(self.to_expr(), other, shortcut=shortcut), scalar=self.ndim == 0)
    return TABLE["power"](self, other)


def _method(name: str) -> Callable[..., Any]:
    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        return getattr(namespace, name)(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = getattr(namespace, name).__doc__
    return method


def _transpose(self: Array, *axes: Any) -> Array:
    """Reverse or permute the axes."""
    order = axes[0] if len(axes) == 1 and (axes[0] is None or np.ndim(axes[0])) else axes or None
    return self.view_through(views.transpose(self.shape, order))


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


def _astype(
    self: Array,
    dtype: Any,
    order: str = "K",
    casting: Any = "unsafe",
    subok: bool = True,  # noqa: ARG001 - there are no subclasses
    copy: bool = True,
) -> Array:
    """Convert to a dtype."""
    wanted = np.dtype(dtype)
    exact = casting == "same_value"
    if not exact and not np.can_cast(self.dtype, wanted, casting):
        message = (
            f"Cannot cast array data from {self.dtype!r} to {wanted!r} "
            f"according to the rule '{casting}'"
        )
        raise TypeError(message)
    if wanted == self.dtype and not copy:
        return self
    if dispatch.small([self]):
        held = dispatch.ndarray_of(self)
        cast_: Any = held.astype(wanted, order, casting)  # type: ignore[call-overload]
        return Array.of(cast_, scalar=self.is_scalar)
    unit = np.datetime_data(wanted)[0] if wanted.kind in "mM" else ""
    if wanted.hasobject or (unit == "generic" and self.dtype.kind in "SU"):
        # Texts say in what unit they count.
        check_fit("astype", [self], OBJECT_COPIES)
        return Array.of(self.compute().astype(wanted), scalar=self.is_scalar)
    if order == "F" or (order in ("A", "K") and self.flags.fnc):
        turned: Array = _astype(self.T, wanted, "C", casting).T
        return turned
    made = wrap(cast(self.to_expr(), wanted), scalar=self.is_scalar)
    if exact and bool(((made.astype(self.dtype) != self) & (self == self)).any()):  # noqa: PLR0124
        message = f"could not cast 'same_value' {self.dtype} to {wanted}"
        raise ValueError(message)
    return made


def _conjugate(self: Array, out: Any = None) -> Array:
    """Negate the imaginary part; real arrays are their own conjugates."""
    if self.dtype.kind not in "biufcO":
        message = "cannot conjugate non-numeric dtype"
        raise TypeError(message)
    return self if out is None and self.dtype.kind in "biuf" else TABLE["conjugate"](self, out=out)


def _copied(self: Array) -> Array:
    """Copy for the `copy` module."""
    return self.copy()


def _deeply_copied(self: Array, memo: dict[int, Any]) -> Array:
    """Copy for the `copy` module, objects in the array too."""
    if self.dtype.hasobject:
        return Array.of(copy.deepcopy(self.compute(), memo))
    return self.copy()


def _part(imaginary: bool) -> property:
    def read(self: Array) -> Array:
        if self.dtype.kind != "c":
            if not imaginary:
                return self
            zeros = constant(np.zeros((), self.dtype), shape=self.shape)
            return Array(zeros, scalar=self.is_scalar, writable=False)
        if self.is_scalar:
            return (namespace.imag if imaginary else namespace.real)(self)
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
    if self.dtype.hasobject:
        return self
    return wrap(regrid(self.to_expr(), io.grid_for(chunks, self.shape, self.dtype)))


def _visit_ufunc(_: Array, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    if any(dispatch.overrides(v, "ufunc") for v in (*inputs, *kwargs.get("out", ()))):
        return NotImplemented
    own = BY_UFUNC.get(ufunc)
    if own is None:
        return foreign(ufunc, method, inputs, kwargs)
    outs = kwargs.get("out", ())
    if not any(isinstance(out, np.ndarray) for out in outs):
        return getattr(own, method)(*inputs, **kwargs)
    # NumPy's own arrays take the result by a copy.
    where, casting = kwargs.pop("where", True), kwargs.pop("casting", "same_kind")
    kwargs.pop("out")
    result = getattr(own, method)(*inputs, **kwargs)
    results = result if isinstance(result, tuple) else (result,)
    mask = where.compute() if isinstance(where, Array) else where
    for made, out in zip(results, outs, strict=True):
        if isinstance(out, np.ndarray):
            np.copyto(out, made.compute(), casting=casting, where=mask)
        elif out is not None:
            np.positive(made, out=out, where=where) if made.dtype != bool else store_out(made, out)
    written = tuple(r if o is None else o for r, o in zip(results, outs, strict=True))
    return written if isinstance(result, tuple) else written[0]


def _visit_function(_: Array, func: Callable[..., Any], _types: Any, args: Any, kwargs: Any) -> Any:
    own = namespace.find(func)
    if own is not None:
        return own(*args, **kwargs)
    arrays = arrays_in((*args, *kwargs.values()))
    if not dispatch.small(arrays):
        raise namespace.missing(func)
    # NumPy may look, not write: a lazy expression may read the same buffer.
    plain = [dispatch.convert(a, _shown) for a in args]
    named = {k: dispatch.convert(v, _shown) for k, v in kwargs.items() if k != "out"}
    result = func(*plain, **named)
    if kwargs.get("out") is not None:
        return store_out(dispatch.give(result), kwargs["out"])
    if isinstance(result, np.ndarray) and not result.flags.writeable:
        return Array(from_ndarray(result), writable=False)
    return dispatch.give(result)


def _shown(array: Array) -> np.ndarray[Any, Any]:
    seen = dispatch.ndarray_of(array).view()
    seen.flags.writeable = False
    return seen


def _explain(self: Array, *, analyze: bool = False) -> str:
    """Show the steps that computing the array takes, and with `analyze` what happened."""
    return io.explain(self, analyze=analyze)


def _mT(self: Array) -> Array:
    return self.view_through(views.matrix_transpose(self.shape))


def _missing(self: Array, name: str) -> Any:
    """Say what to use instead of an attribute that only ndarrays have."""
    text = f"'Array' object has no attribute {name!r}"
    if hasattr(np.ndarray, name) and not name.startswith("_"):
        text = f"{text}: {namespace.not_yet(name)}"
    raise AttributeError(text, name=name, obj=self)


def attach() -> None:
    """Attach everything to Array; called once, when the namespace is first used."""
    for name, ufunc in BINARY.items():
        setattr(Array, f"__{name}__", _binary(ufunc))
        setattr(Array, f"__r{name}__", _reflected(ufunc))
        if name != "divmod":
            setattr(Array, f"__i{name}__", _in_place(ufunc))
    for name, ufunc in COMPARE.items():
        made = _equality if name in ("eq", "ne") else _binary
        setattr(Array, f"__{name}__", made(ufunc))
    for name, ufunc in UNARY.items():
        setattr(Array, f"__{name}__", _unary(ufunc))
    plain: dict[str, Any] = {
        "__pow__": _pow,
        "__rpow__": _reflected("power"),
        "__ipow__": _in_place("power"),
        "__array_ufunc__": _visit_ufunc,
        "__array_function__": _visit_function,
        "T": property(_transpose, doc="The axes in reverse order."),
        "mT": property(_mT, doc="The last two axes swapped."),
        "transpose": _transpose,
        "reshape": _reshape,
        "ravel": _ravel,
        "flatten": _flatten,
        "astype": _astype,
        "__copy__": _copied,
        "__deepcopy__": _deeply_copied,
        "conj": _conjugate,
        "conjugate": _conjugate,
        "real": _part(imaginary=False),
        "imag": _part(imaginary=True),
        "rechunk": _rechunk,
        "to_zarr": io.to_zarr,
        "explain": _explain,
        "__getattr__": _missing,
    }
    for table in (plain, conversions.ATTACHED, methods.ATTACHED, dask_names.ATTACHED):
        for name, value in table.items():
            setattr(Array, name, value)
    for name in (*METHODS, *VIEWS):
        if hasattr(namespace, name):
            setattr(Array, name, _method(name))
