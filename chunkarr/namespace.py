"""NumPy's names on chunked arrays, assembled from the function chapters.

A name is here if it runs out of core. Names that are not raise through `not_yet`, which says what
is nearest; nothing gathers an array silently.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr import engine
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import (
    by_name,
    convert,
    familiar,
    give,
    holds_arrays,
    lift,
    lift_sequence,
    masked_functions,
    ndarray_of,
    refuse,
    small,
)
from chunkarr.errors import NotYetError
from chunkarr.exchange import check_device
from chunkarr.expr import build
from chunkarr.expr.affine import Affine
from chunkarr.expr.build import constant, itself
from chunkarr.expr.node import Expr
from chunkarr.functions import creation, elementwise, manipulation, products, reductions, views
from chunkarr.functions.views import NewShape
from chunkarr.settings import settings
from chunkarr.signatures import CHUNKS, Told
from chunkarr.ufuncs import TABLE
from chunkarr.views import outline

Function = Callable[..., Any]

# -- creation ------------------------------------------------------------------------------------


def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: str | None = "K",
    subok: bool = False,  # noqa: ARG001
    ndmin: int = 0,
    ndmax: int = 0,
    like: Any = None,  # noqa: ARG001
) -> Array:
    """Make an array of its own from anything array-like."""
    if not familiar((object,)):
        object = itself(object)
    if isinstance(object, Array):
        made = object if dtype is None else object.astype(dtype, copy=False)
        apart = order in ("C", "F") and not made.flags[f"{order}_CONTIGUOUS"]
        if apart and copy is False:
            message = "Unable to avoid copy while creating an array as requested."
            raise ValueError(message)
        if apart or (copy and made is object):
            made = made.copy(order or "K")
    elif isinstance(object, list | tuple) and holds_arrays(object):
        held = _elements(object, dtype)
        parts = [] if held is not None else [array(item, dtype) for item in object]
        if {part.shape for part in parts[1:]} <= {part.shape for part in parts[:1]}:
            objects = builtins.any(part.dtype.hasobject for part in parts)
            held = _elements(object, builtins.object) if objects else held
        made = stack(parts) if held is None else Array.of(np.array(held, dtype))
    else:
        if isinstance(object, np.ndarray):
            object = np.asarray(object)  # without what subclasses add, as in NumPy
        options: Any = {"copy": copy, "order": order} | ({"ndmax": ndmax} if ndmax else {})
        owned = np.array(object, dtype, **options)
        made = Array.of(owned, owned=owned is not object)
    if made.ndim < ndmin:
        made = made[(None,) * (ndmin - made.ndim)]
    return made


def _elements(given: Any, dtype: Any) -> Any:
    """Give nested lists as NumPy takes them, where arrays in them are elements; else None.

    Arrays of different shapes are elements of objects, and numbers and rows those of records.
    """
    kind = np.dtype(dtype)
    if dtype is not None and kind.hasobject:
        return convert(given, lambda held: _value(held) if held.is_scalar else held)
    return convert(given, _value) if kind.names and _holds_records(given) else None


def _value(held: Array) -> Any:
    return held.compute()[()]


def _holds_records(given: Any) -> bool:
    """Whether there is a tuple, which is one element of a dtype with fields."""
    if isinstance(given, list):
        return builtins.any(map(_holds_records, given))
    return isinstance(given, tuple)


def asarray(
    a: Any,
    dtype: Any = None,
    order: Any = None,
    *,
    device: str | None = None,
    copy: bool | None = None,
    like: Any = None,  # noqa: ARG001
    chunks: Any = None,
) -> Array:
    """Give an array for anything array-like; an ndarray is looked at, and copied when written."""
    check_device(device)
    made = array(a, dtype, copy=copy, order=order)
    return made if chunks is None else made.rechunk(chunks)


def asanyarray(
    a: Any,
    dtype: Any = None,
    order: Any = None,
    *,
    device: Any = None,
    copy: bool | None = None,
    like: Any = None,
) -> Any:
    """Give an array for anything array-like; a masked array, a matrix stay what they are."""
    if isinstance(a, np.ndarray) and type(a) is not np.ndarray:
        return np.asanyarray(a, dtype, order, copy=copy)
    return asarray(a, dtype, order, device=device, copy=copy, like=like)


def ascontiguousarray(a: Any, dtype: Any = None, *, like: Any = None) -> Array:  # noqa: ARG001
    """Give an array in C order of at least one axis."""
    return array(a, dtype, copy=None, order="C", ndmin=1)


def _named(public: Function, numpy_function: Function, told: Told) -> Function:
    """Give a function NumPy's name and what it shows of its arguments."""
    public.__name__ = public.__qualname__ = numpy_function.__name__
    public.__doc__ = told.__wrapped__.__doc__
    public.__module__ = "chunkarr"
    told.describe(public)
    return public


def _maker(function: Function, numpy_function: Function) -> Function:
    """Make a public creation function: NumPy's own where the result is small."""
    told = Told(function, numpy_function, CHUNKS)

    def public(*args: Any, chunks: Any = None, **kwargs: Any) -> Any:
        if len(args) > 1 and len(args) > told.shared:
            args, kwargs, _ = by_name(function.__name__, args, kwargs, None, told)
        check_device(kwargs.pop("device", None))
        order = kwargs.pop("order", None)
        for name in ("like", "subok"):
            kwargs.pop(name, None)
        plain = [_python(a) for a in args]
        named = {k: _python(v) for k, v in kwargs.items()}
        result = function(*plain, **named)
        first = result[0] if isinstance(result, tuple) and result else result
        lazy = [v for v in (*plain, *named.values()) if isinstance(v, Expr)]
        room = settings().eager_bytes
        few = isinstance(first, tuple) or first.dtype.hasobject or (room and first.nbytes <= room)
        if few and not lazy:
            made = give(numpy_function(*plain, **named | ({"order": order} if order else {})))
        else:
            made = give(result)
            made = made.copy("F") if order == "F" else made
        return made.rechunk(chunks) if chunks is not None else made

    return _named(public, numpy_function, told)


ARGUMENT_BYTES = 1 << 16
"""Arrays up to this size are computed where they are arguments of creation: a fill value."""


def _python(value: Any) -> Any:
    """Give an array without axes as the NumPy scalar it stands for, a small one as an ndarray."""
    if isinstance(value, Array):
        if value.ndim == 0:
            return value.compute()[()]
        return value.compute() if value.nbytes <= ARGUMENT_BYTES else value.to_expr()
    return convert(value, _python)


def _like(function: Function, numpy_function: Function) -> Function:
    told = Told(function, numpy_function, CHUNKS)

    def public(a: Any, *args: Any, chunks: Any = None, **kwargs: Any) -> Array:
        if args and len(args) >= told.shared:
            rest, kwargs, _ = by_name(function.__name__, (a, *args), kwargs, None, told)
            args = rest[1:]
        check_device(kwargs.pop("device", None))
        order = kwargs.pop("order", None) or "K"
        kwargs.pop("subok", None)
        whole = a if isinstance(a, Array) else asarray(a)
        plain = [_python(v) for v in args]
        named = {k: _python(v) for k, v in kwargs.items()}
        shown = constant(np.zeros((), whole.dtype), shape=whole.shape)
        made = wrap(function(shown, *plain, **named))
        room = settings().eager_bytes
        if made.dtype.hasobject or (room and made.nbytes <= room):
            held = whole.in_memory
            like = outline(whole.strides, whole.shape, whole.dtype) if held is None else held
            made = Array.of(numpy_function(like, *plain, **named, order=order, subok=False))
        elif made.shape == whole.shape:
            made = made.copy("F") if order == "F" or (order != "C" and whole.flags.fnc) else made
        return made.rechunk(chunks) if chunks is not None else made

    return _named(public, numpy_function, told)


zeros = _maker(creation.zeros, np.zeros)
ones = _maker(creation.ones, np.ones)
empty = _maker(creation.empty, np.empty)
full = _maker(creation.full, np.full)
arange = _maker(creation.arange, np.arange)
linspace = _maker(creation.linspace, np.linspace)
eye = _maker(creation.eye, np.eye)
identity = _maker(creation.identity, np.identity)
zeros_like = _like(creation.zeros_like, np.zeros_like)
ones_like = _like(creation.ones_like, np.ones_like)
empty_like = _like(creation.empty_like, np.empty_like)
full_like = _like(creation.full_like, np.full_like)


# -- elementwise, reductions, joining --------------------------------------------------------------

where = lift(build.where, np.where, convert_first=3, weak=True)
clip = lift(elementwise.clip, np.clip, scalar=True)
around = lift(elementwise.around, np.around, scalar=True)
round = around
isclose = lift(elementwise.isclose, np.isclose, convert_first=2, scalar=True, weak=True)
_nan_to_num = lift(elementwise.nan_to_num, np.nan_to_num, scalar=True)
angle = lift(elementwise.angle, np.angle, scalar=True)
iscomplex = lift(elementwise.iscomplex, np.iscomplex, scalar=True)
isreal = lift(elementwise.isreal, np.isreal, scalar=True)


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """Replace NaN and infinities by numbers; in place if `copy` is false."""
    made = _nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)
    if copy or not isinstance(x, Array) or made.dtype != x.dtype:
        return made
    x[...] = made
    return x


def astype(x: Array, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> Array:
    """Convert to a dtype."""
    if not isinstance(x, Array):
        return np.astype(x, dtype, copy=copy, device=device)
    check_device(device)
    return x.astype(dtype, copy=copy)  # type: ignore[no-any-return]


def allclose(
    a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Tell whether all elements are close."""
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    """Tell whether two arrays have the same shape and elements."""
    left, right = asarray(a1), asarray(a2)
    if left.shape != right.shape:
        return False
    if equal_nan and a1 is a2:
        return True
    same = left == right
    if same is NotImplemented or isinstance(same, bool):
        return bool(same is True)
    if equal_nan and left.dtype.kind not in "biuSUV":
        same = same | (TABLE["isnan"](left) & TABLE["isnan"](right))
    return bool(same.all())


sum = lift(reductions.sum, np.sum, scalar=True)
prod = lift(reductions.prod, np.prod, scalar=True)
mean = lift(reductions.mean, np.mean, scalar=True)
var = lift(reductions.var, np.var, scalar=True)
std = lift(reductions.std, np.std, scalar=True)
min = lift(reductions.min, np.min, scalar=True)
max = lift(reductions.max, np.max, scalar=True)
amin, amax = min, max
any = lift(reductions.any, np.any, scalar=True)
all = lift(reductions.all, np.all, scalar=True)
argmin = lift(reductions.argmin, np.argmin, scalar=True)
argmax = lift(reductions.argmax, np.argmax, scalar=True)
ptp = lift(reductions.ptp, np.ptp, scalar=True)
count_nonzero = lift(reductions.count_nonzero, np.count_nonzero, scalar=True)
cumsum = lift(reductions.cumsum, np.cumsum)
cumprod = lift(reductions.cumprod, np.cumprod)
concatenate = lift_sequence(manipulation.concatenate, np.concatenate)
concat = concatenate
stack = lift_sequence(manipulation.stack, np.stack)
vstack = lift_sequence(manipulation.vstack, np.vstack)
hstack = lift_sequence(manipulation.hstack, np.hstack)
roll = lift(manipulation.roll, np.roll)
sort = lift(products.sort, np.sort)
vdot = lift(products.vdot, np.vdot, scalar=True, convert_first=2)
_dot = lift(products.dot, np.dot, scalar=True, convert_first=2, eager=False)

masked_functions.update(
    sum=reductions.sum,
    prod=reductions.prod,
    mean=reductions.mean,
    var=reductions.var,
    std=reductions.std,
    any=reductions.any,
    all=reductions.all,
    **dict.fromkeys(("min", "amin"), reductions.chosen_extremes("minimum")),
    **dict.fromkeys(("max", "amax"), reductions.chosen_extremes("maximum")),
    ptp=reductions.chosen_ptp,
    count_nonzero=lambda a, where: reductions.sum(build.cast(a, bool), dtype=np.int64, where=where),
)


def dot(a: Any, b: Any, out: Array | None = None) -> Any:
    """Multiply matrices and vectors as `numpy.dot` does."""
    pair = [v for v in (a, b) if isinstance(v, Array)]
    if small(pair):
        sizes = [np.size(v) if not isinstance(v, Array) else v.size for v in (a, b)]
        if sizes[0] * sizes[1] <= 1 << 20:
            plain = [ndarray_of(v) if isinstance(v, Array) else v for v in (a, b)]
            result = give(np.dot(*plain))
            return result if out is None else _into(result, out)
    result = _dot(a, b)
    return result if out is None else _into(result, out)


def _into(result: Array, out: Array) -> Array:
    if out.dtype != result.dtype or out.shape != result.shape:
        message = (
            "output array is not acceptable (must have the right datatype, number of dimensions, "
            "and be a C-Array)"
        )
        raise ValueError(message)
    out[...] = result
    return out


# -- questions about dtypes ------------------------------------------------------------------------


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """Give the dtype that arrays, dtypes and Python numbers have together."""
    return np.result_type(*[_dtype_of(v) for v in arrays_and_dtypes])


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """Tell whether a cast follows a rule."""
    return np.can_cast(_dtype_of(from_), to, casting)


def min_scalar_type(a: Any, /) -> np.dtype[Any]:
    """Give the smallest dtype that holds a number; of an array with axes, its own."""
    if isinstance(a, Array):
        return a.dtype if a.ndim else np.min_scalar_type(a.compute())
    return np.min_scalar_type(a)


def iscomplexobj(x: Any) -> bool:
    """Tell whether an array has a complex dtype."""
    return np.iscomplexobj(np.empty((0,), x.dtype) if isinstance(x, Array) else x)


def isrealobj(x: Any) -> bool:
    """Tell whether an array has a dtype that is not complex."""
    return not iscomplexobj(x)


def _dtype_of(value: Any) -> Any:
    return value.dtype if isinstance(value, Array) else value


# -- views ---------------------------------------------------------------------------------------


def _viewer(lens_for: Function, *, writable: bool = True) -> Function:
    def public(a: Any, *args: Any, **kwargs: Any) -> Array:
        whole = a if isinstance(a, Array) else asarray(a)
        lens = lens_for(whole.shape, *args, **kwargs)
        return whole.view_through(lens, writable=writable)

    numpy_function = getattr(np, lens_for.__name__)
    return _named(public, numpy_function, Told(lens_for, numpy_function))


transpose = _viewer(views.transpose)
permute_dims = transpose
matrix_transpose = _viewer(views.matrix_transpose)
swapaxes = _viewer(views.swapaxes)
moveaxis = _viewer(views.moveaxis)
squeeze = _viewer(views.squeeze)
expand_dims = _viewer(views.expand_dims)
flip = _viewer(views.flip)
fliplr = _viewer(views.fliplr)
flipud = _viewer(views.flipud)
diagonal = _viewer(views.diagonal, writable=False)


def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Array:  # noqa: ARG001
    """Stretch to a shape: a read-only view."""
    whole = asarray(array)
    return whole.view_through(views.broadcast_to(whole.shape, shape), writable=False)


def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Array:
    """Give the elements under another shape: a view where NumPy has one, else a copy."""
    whole = a if isinstance(a, Array) else asarray(a)
    if views.read_order(order, "CFA", of=whole) == "F":
        turned = reshape(transpose(whole), views.reshape(whole.shape, shape).shape[::-1], copy=copy)
        flipped: Array = transpose(turned)
        return flipped
    lens = views.reshape(whole.shape, shape)
    possible = Array(base=whole, lens=lens)._strides() is not None  # noqa: SLF001
    if not possible and copy is False:
        message = "Unable to avoid creating a copy while reshaping."
        raise ValueError(message)
    seen = whole.view_through(lens)
    if possible and not copy:
        return seen
    return seen.copy()


def ravel(a: Any, order: str = "C") -> Array:
    """Give the elements on one axis: a view where NumPy has one."""
    whole = a if isinstance(a, Array) else asarray(a)
    order = views.read_order(order, of=whole)
    if order == "K" and whole.ndim > 1:
        # The axes in the order in which they lie in memory.
        steps = whole.strides
        return ravel(
            transpose(whole, sorted(range(whole.ndim), key=lambda axis: -abs(steps[axis])))
        )
    if order == "F":
        return ravel(transpose(whole))
    if whole.ndim == 1 and whole.strides == (whole.itemsize,):
        return whole.view_through(Affine.identity(whole.shape))
    lens = NewShape((whole.size,))
    seen = whole.view_through(lens)
    strides = Array(base=whole, lens=lens)._strides()  # noqa: SLF001
    contiguous = strides in ((whole.itemsize,), None) and strides is not None
    return seen if contiguous else seen.copy()


def real(val: Any) -> Array:
    """Give the real part: a view of complex values; of a number, a number."""
    if not isinstance(val, Array | np.ndarray) and hasattr(val, "real"):
        return give(val.real)  # type: ignore[no-any-return]
    whole = asarray(val)
    return _real(whole) if whole.is_scalar else whole.real  # type: ignore[no-any-return]


def imag(val: Any) -> Array:
    """Give the imaginary part: a view of complex values; of a number, a number."""
    if not isinstance(val, Array | np.ndarray) and hasattr(val, "imag"):
        return give(val.imag)  # type: ignore[no-any-return]
    whole = asarray(val)
    return _imag(whole) if whole.is_scalar else whole.imag  # type: ignore[no-any-return]


_real = lift(elementwise.real, np.real, scalar=True)
_imag = lift(elementwise.imag, np.imag, scalar=True)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Cut into views of equal size, or at positions."""
    return _split(ary, indices_or_sections, axis, even=True)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Cut into views, the first ones longer where it does not come out even."""
    return _split(ary, indices_or_sections, axis, even=False)


def _split(ary: Any, sections: Any, axis: int, *, even: bool) -> list[Array]:
    whole = asarray(ary)
    number = build.normalize_axis(axis, whole.ndim)
    out = []
    for start, stop in views.split_points(whole.shape[number], sections, even=even):
        out.append(whole[(slice(None),) * number + (slice(start, stop),)])
    return out


def copy(a: Any, order: str = "K", subok: bool = False) -> Array:  # noqa: ARG001
    """Give an array of its own with the same value."""
    return array(a, order=order)


def shape(a: Any) -> tuple[int, ...]:
    """Give the lengths of the axes."""
    return a.shape if isinstance(a, Array) else np.shape(a)


def ndim(a: Any) -> int:
    """Give the number of axes."""
    return a.ndim if isinstance(a, Array) else np.ndim(a)


def size(a: Any, axis: Any = None) -> int:
    """Give the number of elements, in all or along axes."""
    if not isinstance(a, Array):
        return np.size(a, axis)
    return int(np.size(np.broadcast_to(0, a.shape), axis))


# -- computing several at once, and what is missing -----------------------------------------------


def compute(*arrays: Any) -> tuple[Any, ...]:
    """Compute several arrays in one plan, with one pass over what they share; gives ndarrays."""
    lazy = [a for a in arrays if isinstance(a, Array)]
    found = iter(engine.values(*(a.to_expr() for a in lazy)))
    return tuple(next(found) if isinstance(a, Array) else a for a in arrays)


def persist(*arrays: Any) -> tuple[Any, ...]:
    """Compute several arrays in one plan and hold their values; numbers are what they are."""
    lazy = [a for a in arrays if isinstance(a, Array)]
    engine.persist(*(a.to_expr() for a in lazy))
    for each in lazy:
        each.persist()
    return arrays


ALTERNATIVES = {
    "place": "x[mask] = values runs on any size",
    "savetxt": "chunkarr.save streams to a file",
}


def not_yet(name: str) -> NotYetError:
    """Make the error for a NumPy name that does not run on chunked arrays yet."""
    if name in ALTERNATIVES:
        return refuse(name, f"nearest: {ALTERNATIVES[name]}")
    return refuse(name, f"where x fits, use numpy.{name} on x.compute()")


def missing(function: Function) -> NotYetError:
    """Make the error for a function of NumPy that is not there, called with chunked arrays."""
    chapter = function.__module__.removeprefix("numpy").removeprefix(".")
    chapter = "" if chapter.startswith(("_", "lib")) else chapter
    return not_yet(f"{chapter}.{function.__name__}" if chapter else function.__name__)


def find(function: Function) -> Function | None:
    """Give chunkarr's function for a function of NumPy, or None."""
    name = function.__name__
    if getattr(np, name, None) is not function:
        return _in_chapter(function)
    if name in TABLE:
        return TABLE[name]
    own = globals().get(name)
    if own is None:
        own = getattr(importlib.import_module("chunkarr"), name, None)
    return own if callable(own) else None


CHAPTERS = ("char", "fft", "lib", "linalg", "strings")
"""Modules of NumPy whose functions ask arrays for their own implementation."""


def _in_chapter(function: Function) -> Function | None:
    home, *path = function.__module__.split(".")
    module = sys.modules.get(function.__module__)
    if home != "numpy" or not path or path[0] not in CHAPTERS:
        return None
    if getattr(module, function.__name__, None) is not function:
        return None
    chapter = importlib.import_module(".".join(("chunkarr", *path)))
    own: Function = getattr(chapter, function.__name__)
    return own
