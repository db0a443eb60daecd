"""Making nodes: NumPy's dtype, broadcasting and argument rules, applied when a node is made.

The functions here check and infer; the node classes only hold. dtypes follow NEP 50 because NumPy
itself is asked (`ufunc.resolve_dtypes`), with Python scalars as weak types.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from chunkarr.errors import MaskedOperandError, NotYetError, ObjectOperandError
from chunkarr.expr.affine import Affine, broadcast
from chunkarr.expr.node import (
    Dtype,
    Expr,
    Generate,
    Line,
    Map,
    Reduce,
    Reshape,
    Shape,
    Source,
    View,
)
from chunkarr.grid import region_of
from chunkarr.storage.memory import MemoryStore

Operand = Expr | bool | int | float | complex
LOGICAL = frozenset(("logical_and", "logical_or", "logical_xor"))
COMPARISONS = frozenset(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"))


def caller() -> Line:
    """Find the line of the user's code that led here."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to look at the stack cheaply
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("chunkarr"):
            return frame.f_code.co_filename, frame.f_lineno
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def constant(value: object, dtype: Dtype | None = None, shape: Shape = ()) -> Expr:
    """Make a value that is the same everywhere."""
    array = np.asarray(value, dtype)
    return Generate(shape=shape, dtype=array.dtype, line=None, kind="full", values=(array[()],))


def from_ndarray(array: np.ndarray[Any, Any], *, owned: bool = False) -> Source:
    """Make a source of an array in memory, without copying."""
    return Source(shape=array.shape, dtype=array.dtype, store=MemoryStore(array, owned=owned))


def as_expr(value: object) -> Expr:
    """Give the expression of an expression, an array, a scalar, or a nested list of these."""
    if isinstance(value, Expr):
        return value
    lazily = getattr(value, "to_expr", None)
    if lazily is not None:
        made: Expr = lazily()  # as an ndarray it would be computed
        return made
    array = plain(value)
    if array.ndim == 0:
        return constant(array)
    return from_ndarray(array)


def plain(value: object) -> np.ndarray[Any, Any]:
    """Give an ndarray without what subclasses add; refuses masked arrays, whose mask would go."""
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray and hasattr(value, "mask"):
        message = "chunked arrays have no masks: use x.filled(value), or where= of reductions"
        raise MaskedOperandError(message)
    return np.asarray(itself(value))


def itself(value: Any) -> Any:
    """Give the array that an object makes of itself, where NumPy would take none but its own."""
    make = getattr(type(value), "__array__", None)
    if make is None or isinstance(value, np.ndarray | np.generic) or hasattr(value, "to_expr"):
        return value
    return make(value)


def _weak(value: object) -> type | None:
    """Give the Python type of a weak scalar, None for everything that has a dtype."""
    kind = type(value)
    return kind if kind in (int, float, complex) else None


@functools.lru_cache(maxsize=4096)
def resolve(
    name: str, kinds: tuple[Any, ...], dtype: Dtype | None, casting: str
) -> tuple[Dtype, ...]:
    """Give the loop dtypes of a ufunc, inputs then outputs, as NumPy would choose them."""
    ufunc = getattr(np, name)
    asked = (*kinds, *(None,) * ufunc.nout)
    options: dict[str, Any] = {"casting": casting}
    if dtype is not None:
        options["signature"] = (*(None,) * ufunc.nin, *(dtype,) * ufunc.nout)
    found: tuple[Dtype, ...] = ufunc.resolve_dtypes(asked, **options)
    return found


def elementwise(
    name: str, *operands: object, dtype: object = None, casting: str = "same_kind"
) -> tuple[Expr, ...]:
    """Apply a ufunc; gives its results."""
    ufunc = getattr(np, name)
    # NumPy 2.4 dies of a Python number where it resolves dtypes with this rule.
    weak = casting != "equiv"
    values = [o if isinstance(o, Expr) or (weak and _weak(o)) else as_expr(o) for o in operands]
    kinds = tuple(v.dtype if isinstance(v, Expr) else type(v) for v in values)
    wanted = None if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]
    try:
        loop = resolve(name, kinds, wanted, casting)
    except TypeError:
        # NumPy words the refusal best itself; empty arrays make it say so without computing.
        shown = [np.empty((0,), v.dtype) if isinstance(v, Expr) else v for v in values]
        ufunc(*shown, dtype=wanted, casting=casting)
        raise
    shape = broadcast_shapes(*[v.shape for v in values if isinstance(v, Expr)])
    nodes = []
    for value, kind in zip(values, loop, strict=False):
        if isinstance(value, Expr):
            # A time that stands for all is in the loop's unit from the beginning.
            single = kind.kind in "mM" and isinstance(value, Generate) and value.kind == "full"
            nodes.append(cast_lazily(value, kind) if single else value)
            continue
        if type(value) is int and name in LOGICAL:
            value = np.int64(value)  # noqa: PLW2901 - NumPy takes it for one, whatever the loop
        try:
            nodes.append(constant(value, kind))
        except OverflowError:
            if name not in COMPARISONS:
                raise
            return (_beyond(ufunc, values, shape),)
    line = caller()
    types, results = loop[: ufunc.nin], loop[ufunc.nin :]
    if any(kind.hasobject for kind in (*types, *results)):
        message = f"{name} of Python objects runs on small arrays only; use a numeric dtype"
        raise ObjectOperandError(message)
    return tuple(
        Map(
            shape=shape,
            dtype=result,
            operands=tuple(nodes),
            line=line,
            name=ufunc.__name__,
            types=types,
            output=position,
        )
        for position, result in enumerate(results)
    )


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Give the shape that arrays of these shapes have together; refuses in NumPy's words."""
    first = shapes[0] if shapes else ()
    for other in shapes:
        if other != first:
            break
    else:
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        spelled = " ".join(spell(shape) for shape in shapes)
        message = f"operands could not be broadcast together with shapes {spelled} "
        raise ValueError(message) from None


def spell(shape: Shape) -> str:
    """Write a shape as NumPy's messages do.

    >>> spell((3,)), spell((2, 3))
    ('(3,)', '(2,3)')
    """
    return "(" + ",".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _beyond(ufunc: np.ufunc, values: Sequence[object], shape: Shape) -> Expr:
    """Compare with a Python integer that no value of the dtype reaches: one answer for all."""
    shown = [np.zeros((), v.dtype) if isinstance(v, Expr) else v for v in values]
    return constant(ufunc(*shown), shape=shape)


def apply(name: str, *operands: object) -> Expr:
    """Apply a ufunc of one result."""
    return elementwise(name, *operands)[0]


def cast(operand: Expr, dtype: object) -> Expr:
    """Convert values as `astype` does with `casting="unsafe"`."""
    wanted = np.dtype(dtype)  # type: ignore[call-overload]
    if wanted == operand.dtype:
        return operand
    if isinstance(operand, Generate) and operand.kind == "full":
        return constant(np.asarray(operand.values[0]).astype(wanted), shape=operand.shape)
    if wanted.hasobject or operand.dtype.hasobject:
        held = operand.held
        if held is not None and held.in_memory:
            return from_ndarray(held.read(region_of(held.shape)).astype(wanted), owned=True)
        message = "casts from or to Python objects run on small arrays only"
        raise NotYetError(message)
    if wanted.itemsize == 0:  # "S" or "U" without a length
        wanted = np.empty((0,), operand.dtype).astype(wanted).dtype
    return Map(
        shape=operand.shape,
        dtype=wanted,
        operands=(operand,),
        line=caller(),
        name="cast",
        types=(operand.dtype,),
    )


def own(name: str, dtype: Dtype, *operands: Expr, types: tuple[Dtype, ...] | None = None) -> Expr:
    """Apply one of chunkarr's own elementwise operations, whose result dtype is given.

    `types` are what operands are converted to, by default nothing else than they are.
    """
    return Map(
        shape=broadcast_shapes(*[o.shape for o in operands]),
        dtype=dtype,
        operands=operands,
        line=caller(),
        name=name,
        types=tuple(o.dtype for o in operands) if types is None else types,
    )


def where(condition: object, x: Any, y: Any) -> Expr:
    """Choose elementwise."""
    test = as_expr(condition)
    dtype = np.result_type(*(v if _weak(v) else as_expr(v).dtype for v in (x, y)))
    # `numpy.where` lets a Python number wrap around where other functions raise OverflowError.
    chosen = [
        constant(np.where(True, v, np.zeros((), dtype)))
        if _weak(v)
        else cast_lazily(as_expr(v), dtype)
        for v in (x, y)
    ]
    if test.dtype != bool:
        test = cast(test, bool)
    return own("where", dtype, test, *chosen)


def cast_lazily(operand: Expr, dtype: Dtype) -> Expr:
    """Convert where the dtype differs."""
    return operand if operand.dtype == dtype else cast(operand, dtype)


def reduce(
    name: str, operand: Expr, axes: tuple[int, ...], dtype: Dtype | None = None, ddof: float = 0
) -> Expr:
    """Reduce over sorted axes, which the result lacks; values in foreign byte order are turned."""
    operand = cast_lazily(operand, operand.dtype.newbyteorder("="))
    shape = tuple(n for axis, n in enumerate(operand.shape) if axis not in axes)
    return Reduce(
        shape=shape,
        dtype=(dtype or operand.dtype).newbyteorder("="),
        operands=(operand,),
        line=caller(),
        name=name,
        axes=axes,
        ddof=ddof,
    )


def view(operand: Expr, affine: Affine) -> Expr:
    """Look at an operand through an affine map."""
    if affine.is_identity and affine.shape == operand.shape:
        return operand
    return View(
        shape=affine.shape,
        dtype=operand.dtype,
        operands=(operand,),
        line=caller(),
        affine=affine,
    )


def stretch(operand: Expr, shape: Shape) -> Expr:
    """Broadcast to a shape."""
    return view(operand, broadcast(operand.shape, shape))


def insert_axes(operand: Expr, axes: Sequence[int]) -> Expr:
    """Insert axes of length one at positions of the result (sorted)."""
    shape = list(operand.shape)
    for axis in axes:
        shape.insert(axis, 1)
    return view(operand, _spread(operand.shape, tuple(shape), axes))


def reshape(operand: Expr, shape: Shape) -> Expr:
    """Give the elements in C order under another shape of as many.

    Axes of length one are inserted last, so that shapes that differ in these are made once.
    """
    if operand.shape == shape:
        return operand
    if isinstance(operand, Generate) and operand.kind == "full":
        return constant(operand.values[0], operand.dtype, shape)
    lean = tuple([n for n in shape if n != 1])
    made = operand
    if operand.shape != lean:
        made = Reshape(shape=lean, dtype=operand.dtype, operands=(operand,), line=caller())
    units = [axis for axis, n in enumerate(shape) if n == 1]
    return insert_axes(made, units) if units else made


def flatten(operand: Expr) -> Expr:
    """Give the elements in C order on one axis."""
    return reshape(operand, (operand.size,))


def along(operand: Expr, axis: SupportsIndex | None) -> tuple[Expr, int]:
    """Give an array and the axis to work along, that of the flattened array for None."""
    if axis is None:
        return flatten(operand), 0
    return operand, normalize_axis(axis, operand.ndim)


def _spread(shape: Shape, target: Shape, axes: Sequence[int]) -> Affine:
    kept = [axis for axis in range(len(target)) if axis not in axes]
    terms = Affine.identity(shape).terms
    return Affine(target, tuple(t._replace(axis=a) for t, a in zip(terms, kept, strict=True)))


def normalize_axis(axis: SupportsIndex, ndim: int, argument: str | None = None) -> int:
    """Give a non-negative axis, or raise NumPy's AxisError."""
    number = operator.index(axis)
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(number, ndim, argument)
    return number % ndim


def normalize_axes(axis: object, ndim: int) -> tuple[int, ...]:
    """Give sorted non-negative axes for None, an int or a tuple."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, tuple | list):
        axes = [normalize_axis(a, ndim) for a in axis]
        if len(set(axes)) != len(axes):
            message = "duplicate value in 'axis'"
            raise ValueError(message)
        return tuple(sorted(axes))
    return (normalize_axis(axis, ndim),)  # type: ignore[arg-type]


def normalize_shape(shape: object) -> Shape:
    """Give a tuple of non-negative lengths for an int or a sequence."""
    try:
        lengths: Shape = (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        lengths = tuple([operator.index(n) for n in shape])  # type: ignore[attr-defined]
    if any(n < 0 for n in lengths):
        message = "negative dimensions are not allowed"
        raise ValueError(message)
    if math.prod(lengths) >= 2**63:
        message = "array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum"
        raise ValueError(message)
    return lengths
