"""Users' functions of elements, of lanes and of cores; and ufuncs of other libraries.

An elementwise function is fused with NumPy's own operations: it is called on the same pieces. One
with core axes is called on boxes that hold them whole. dtypes are declared, or found by calling the
function on the first elements, as NumPy does, where that is what NumPy does; a function whose
dtypes and shapes are declared is not called before values are wanted.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr import namespace
from chunkarr.arrays import Array, wrap
from chunkarr.blockwise import check_function, kind_of
from chunkarr.dispatch import (
    arrays_in,
    convert,
    expression,
    give,
    ndarray_of,
    refuse,
    small,
    store_out,
)
from chunkarr.expr.build import constant, normalize_axis, own, view
from chunkarr.expr.node import Expr
from chunkarr.functions.blocks import Slot, function_name, probe
from chunkarr.functions.gufuncs import (
    Signature,
    gufunc_calls,
    parse,
    place_axes,
)
from chunkarr.functions.lanes import lanes
from chunkarr.functions.pieces import call
from chunkarr.functions.views import moveaxis
from chunkarr.records import dataclass
from chunkarr.views import ndarray_key
from chunkarr.whole import at_once

Function = Callable[..., Any]
NDArray = npt.NDArray[Any]

OBJECT_COPIES = 6
"""A result of Python objects takes about so many copies of 8-byte operands."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A function with some arguments given; a `Slot` stands for each operand."""

    function: Function
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *boxes: Any) -> Any:
        """Call it on boxes of the operands."""
        args = [boxes[a.number] if isinstance(a, Slot) else a for a in self.args]
        return self.function(
            *args, **{k: boxes[v.number] if isinstance(v, Slot) else v for k, v in self.kwargs}
        )


def _elementwise(
    function: Function, operands: Sequence[Expr], dtypes: Sequence[np.dtype[Any]], name: str
) -> tuple[Expr, ...]:
    """Apply an elementwise function: on the pieces of the fused chain, if it has one result."""
    if len(dtypes) == 1:
        return (call(function, dtypes[0], *operands),)
    return lanes(function, operands, [0] * len(operands), [()] * len(dtypes), dtypes, name=name)


def _given(made: Sequence[Expr], *, several: bool) -> Any:
    arrays = tuple(wrap(part, scalar=not part.shape) for part in made)
    return arrays if several else arrays[0]


# -- vectorize ----------------------------------------------------------------------------------


def vectorize(
    pyfunc: Any = None,
    otypes: Any = None,
    doc: str | None = None,
    excluded: Any = None,
    cache: bool = False,
    signature: str | None = None,
    **options: Any,
) -> Any:
    """Make a function of scalars one of arrays, as `numpy.vectorize` or as `numba.vectorize` does.

    Given a function, `otypes` are the dtypes of its results; without them the first elements tell,
    as in NumPy. Also a decorator, with keywords only.

    Given signatures instead, such as `["float64(float64, float64)"]`, or Numba's keywords
    (`nopython`, `cache`, `identity`), it is a decorator that compiles the function with Numba.
    """
    signatures = pyfunc if isinstance(pyfunc, str | list | tuple) else None
    if options or signatures is not None:
        options |= {"cache": True} if cache else {}
        compiled = functools.partial(_compiled, signatures, options)
        return compiled(pyfunc) if callable(pyfunc) else compiled
    if pyfunc is None:
        return functools.partial(
            vectorize, otypes=otypes, doc=doc, excluded=excluded, cache=cache, signature=signature
        )
    return Vectorized(
        np.vectorize(pyfunc, otypes, doc, excluded=excluded, cache=cache, signature=signature)
    )


def _compiled(signatures: Any, options: dict[str, Any], function: Function) -> UserUFunc:
    return UserUFunc(_jit().elementwise(function, signatures, options))


def guvectorize(signatures: Any, layout: str, **options: Any) -> Function:
    """Compile a function into a generalised ufunc, with the arguments of `numba.guvectorize`.

    The function gets boxes of the core axes that `layout` names, and fills its last arguments.
    """
    return lambda function: UserUFunc(_jit().generalized(function, signatures, layout, options))


def frompyfunc(func: Function, /, nin: int, nout: int, **options: Any) -> UserUFunc:
    """Make a ufunc of Python objects of a function of scalars, as `numpy.frompyfunc` does."""
    return UserUFunc(np.frompyfunc(func, nin, nout, **options))


def _jit() -> Any:
    return importlib.import_module("chunkarr.kernels.jit")


class UserUFunc:
    """A user's ufunc: what it gives are arrays."""

    def __init__(self, ufunc: Any) -> None:
        self.ufunc = ufunc
        self.__name__ = str(ufunc.__name__)
        self.__doc__ = ufunc.__doc__

    def __repr__(self) -> str:
        return f"<ufunc '{self.__name__}'>"

    def __getattr__(self, name: str) -> Any:
        if name in ("nin", "nout", "nargs", "ntypes", "types", "identity", "signature"):
            return getattr(self.ufunc, name)
        raise AttributeError(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply to arrays, array-likes and numbers."""
        return foreign(self.ufunc, "__call__", args, kwargs)

    def reduce(self, array: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Reduce values that fit the memory limit, by default over the first axis."""
        return foreign(self.ufunc, "reduce", (array, *args), kwargs)

    def accumulate(self, array: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Give all intermediate results along an axis, of values that fit the memory limit."""
        return foreign(self.ufunc, "accumulate", (array, *args), kwargs)

    def reduceat(self, array: Any, /, indices: Any, *args: Any, **kwargs: Any) -> Any:
        """Reduce slices that begin at indices, of values that fit the memory limit."""
        return foreign(self.ufunc, "reduceat", (array, indices, *args), kwargs)

    def outer(self, a: Any, b: Any, /, **kwargs: Any) -> Any:
        """Apply to all pairs."""
        return foreign(self.ufunc, "outer", (a, b), kwargs)

    def at(self, a: Any, indices: Any, /, *b: Any) -> None:
        """Apply in place at indices, again for each time that one is named."""
        if not isinstance(a, Array):
            self.ufunc.at(a, ndarray_key(indices), *map(ndarray_key, b))
            return
        a.check_writable()
        values = at_once(f"{self.__name__}.at", np.copy, OBJECT_COPIES)(a).compute()
        self.ufunc.at(values, ndarray_key(indices), *map(ndarray_key, b))
        a[...] = values

    def __reduce__(self) -> tuple[object, ...]:
        return UserUFunc, (self.ufunc,)


SETTINGS = ("pyfunc", "signature", "otypes", "excluded", "cache")
"""What of NumPy's own object can be read and set."""


class Vectorized:
    """A function of scalars made one of arrays; it has to be without side effects."""

    def __init__(self, numpy: np.vectorize) -> None:
        self._numpy = numpy
        self.__doc__ = numpy.__doc__
        self.__name__ = getattr(self.pyfunc, "__name__", "vectorize")

    def __getattr__(self, name: str) -> Any:
        if name in SETTINGS:
            return getattr(self._numpy, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._numpy, name, value) if name in SETTINGS else super().__setattr__(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply to all elements, or all cores."""
        held = arrays_in((*args, *kwargs.values()))
        if not held or small(held):
            plain = [convert(a, ndarray_of) for a in args]
            named = {k: convert(v, ndarray_of) for k, v in kwargs.items()}
            return give(self._numpy(*plain, **named))
        operands: list[Expr] = []

        def slot(key: Any, value: Any) -> Any:
            if key in self._numpy.excluded:
                return value
            operands.append(expression(value))
            return Slot(len(operands) - 1)

        slots = tuple(slot(i, a) for i, a in enumerate(args))
        named_slots = tuple((k, slot(k, v)) for k, v in kwargs.items())
        if self.signature is not None:
            bound = Bound(self.pyfunc, slots, named_slots)
            return self._cored(bound, operands, parse(self.signature))
        kinds, several = self._kinds(Bound(self.pyfunc, slots, named_slots), operands)
        if any(kind.hasobject or kind.kind in "SU" for kind in kinds):
            # The longest text says how wide the result is.
            return at_once("vectorize", self._numpy, OBJECT_COPIES)(*args, **kwargs)
        inner = np.vectorize(self.pyfunc, kinds, excluded=self._numpy.excluded)
        made = _elementwise(Bound(inner, slots, named_slots), operands, kinds, self.__name__)
        return _given(made, several=several)

    def _kinds(self, bound: Bound, operands: Sequence[Expr]) -> tuple[list[np.dtype[Any]], bool]:
        """Give the dtypes of the results, which the first elements tell where nobody did."""
        if self.otypes is not None:
            return [np.dtype(kind) for kind in self.otypes], len(self.otypes) > 1
        if any(o.size == 0 for o in operands):
            message = "cannot call `vectorize` on size 0 inputs unless `otypes` is set"
            raise ValueError(message)
        first = bound(*(wrap(o)[(..., *(0,) * o.ndim)].compute()[()] for o in operands))
        several = isinstance(first, tuple)
        return [np.asarray(part).dtype for part in (first if several else (first,))], several

    def _cored(self, bound: Bound, operands: Sequence[Expr], signature: Signature) -> Any:
        """Apply along core axes; what their first boxes give tells what is not declared."""
        axes = place_axes(signature)
        known = {name for names in signature.ins for name in names}
        sizes: dict[str, int] = {}
        kinds = None if self.otypes is None else [np.dtype(kind) for kind in self.otypes]
        if kinds is None or any(n not in known for names in signature.outs for n in names):
            firsts = [
                wrap(o)[(*(0,) * (o.ndim - len(names)), ...)].compute()
                for o, names in zip(operands, signature.ins, strict=True)
            ]
            first = bound(*firsts)
            parts = [np.asarray(p) for p in (first if isinstance(first, tuple) else (first,))]
            for part, names in zip(parts, signature.outs, strict=True):
                sizes |= dict(zip(names, part.shape, strict=True))
            kinds = kinds or [part.dtype for part in parts]
            sizes = {n: size for n, size in sizes.items() if n not in known}
        inner = np.vectorize(bound, kinds, signature=self.signature)
        made = gufunc_calls(
            inner, signature, axes, operands, kinds, name=self.__name__, sizes=sizes
        )
        return _given(made, several=len(signature.outs) > 1)


# -- along an axis, and with core axes ----------------------------------------------------------


def apply_along_axis(func1d: Function, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply a function to the lanes along an axis, each of which has to fit.

    The first lane tells shape and dtype of what it gives, as in NumPy. `shape=` and `dtype=`, both,
    declare them, as in dask; the function is then not called before values are wanted.
    """
    whole = namespace.asarray(arr)
    number = normalize_axis(axis, whole.ndim)
    if small([whole]):
        declared = {"shape", "dtype"} <= kwargs.keys()
        given = {k: v for k, v in kwargs.items() if not declared or k not in ("shape", "dtype")}
        return give(np.apply_along_axis(func1d, number, ndarray_of(whole), *args, **given))
    operand = whole.to_expr()
    moved = view(operand, moveaxis(operand.shape, number, -1))
    if 0 in moved.shape[:-1]:
        message = "Cannot apply_along_axis when any iteration dimensions are 0"
        raise ValueError(message)
    if {"shape", "dtype"} <= kwargs.keys():
        shape, dtype = tuple(kwargs.pop("shape")), np.dtype(kwargs.pop("dtype"))
    else:
        lane = wrap(moved)[(0,) * (moved.ndim - 1)].compute()
        first = np.asarray(func1d(lane, *args, **kwargs))
        shape, dtype = first.shape, first.dtype
    if dtype.hasobject:
        return at_once("apply_along_axis", np.apply_along_axis, OBJECT_COPIES)(
            func1d, axis, arr, *args, **kwargs
        )
    along = Bound(_along, (func1d, Slot(0), shape, dtype, args, kwargs))
    (made,) = lanes(along, [moved], [1], [shape], [dtype], name=function_name(func1d), owns=True)
    ends = tuple(range(made.ndim - len(shape), made.ndim))
    places = tuple(range(number, number + len(shape)))
    return wrap(view(made, moveaxis(made.shape, ends, places)))


def _along(
    func1d: Function,
    box: NDArray,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> NDArray:
    """Call a function on each lane of a box; what it gives is converted as by assignment."""
    out = np.empty((*box.shape[:-1], *shape), dtype)
    for index in np.ndindex(box.shape[:-1]):
        out[index] = func1d(box[index], *args, **kwargs)
    return out


def apply_gufunc(
    func: Function,
    signature: str,
    *args: Any,
    axes: Any = None,
    axis: int | None = None,
    keepdims: bool = False,
    output_dtypes: Any = None,
    output_sizes: Any = None,
    vectorize: bool | None = None,
    allow_rechunk: bool = False,  # noqa: ARG001 - core axes are always whole
    meta: Any = None,
    **kwargs: Any,
) -> Any:
    """Apply a function with core axes, as `dask.array.apply_gufunc` does.

    `signature`, such as "(i,j),(j)->(i)", names the core axes, the last ones unless `axes` or
    `axis` says others. The function gets boxes in which they are whole, with loop axes before them
    that broadcast; with `vectorize` it gets the core axes only. `output_dtypes` or `meta` declare
    dtypes; without them it is called once on arrays of length one. `output_sizes` gives the lengths
    of axes that no operand has. Gives one array, or a tuple where the signature has several.
    """
    check_function(func, "apply_gufunc")
    parsed = parse(signature)
    placed = place_axes(parsed, axes, axis, keepdims=keepdims)
    operands = [expression(a) for a in args]
    bound = functools.partial(func, **kwargs) if kwargs else func
    dtypes = _declared(output_dtypes, meta, parsed)
    if dtypes is None:
        shown = np.vectorize(bound, signature=signature) if vectorize else bound
        found = probe(shown, operands, {})
        dtypes = [np.asarray(part).dtype for part in (found if parsed.several else (found,))]
    if vectorize:
        bound = np.vectorize(bound, dtypes, signature=signature)
    made = gufunc_calls(
        bound,
        parsed,
        placed,
        operands,
        dtypes,
        name=function_name(func),
        sizes=output_sizes,
        keepdims=keepdims,
        owns=True,
    )
    return _given(made, several=parsed.several)


def _declared(dtypes: Any, meta: Any, signature: Signature) -> list[np.dtype[Any]] | None:
    """Give the dtypes of results that are declared, or None; ValueError for a wrong number."""
    if meta is not None and dtypes is not None:
        message = "Only one of `meta` and `output_dtypes` should be given (`meta` is preferred)."
        raise ValueError(message)
    if meta is None and dtypes is None:
        return None
    given = dtypes if meta is None else meta
    listed = list(given) if isinstance(given, tuple | list) else [given]
    if len(listed) != len(signature.outs):
        message = (
            f"For a function with {len(signature.outs)} outputs, must give as many items for "
            f"`output_dtypes`/`meta`, not {len(listed)}."
        )
        raise ValueError(message)
    if meta is None:
        return [np.dtype(kind) for kind in listed]
    return [kind for part in listed if (kind := kind_of(None, part)) is not None]


class gufunc:  # noqa: N801 - dask's name
    """Binds a function to its signature and options; see `apply_gufunc`."""

    def __init__(self, pyfunc: Function, *, signature: str, **options: Any) -> None:
        self.pyfunc, self.signature, self.options = pyfunc, signature, options
        self.__name__ = function_name(pyfunc)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply it."""
        return apply_gufunc(self.pyfunc, self.signature, *args, **(self.options | kwargs))


def as_gufunc(signature: str, **options: Any) -> Callable[[Function], gufunc]:
    """Make a decorator that binds a function to a signature; see `apply_gufunc`."""
    return lambda function: gufunc(function, signature=signature, **options)


# -- ufuncs of other libraries ------------------------------------------------------------------


def foreign(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply a ufunc that is not NumPy's, with the protocol of `__array_ufunc__`."""
    out = kwargs.pop("out", None)
    held = arrays_in((*inputs, *kwargs.values()))
    if not held or small(held):
        plain = [convert(a, ndarray_of) for a in inputs]
        named = {k: convert(v, ndarray_of) for k, v in kwargs.items()}
        result = give(getattr(ufunc, method)(*plain, **named))
    else:
        result = _lazily(ufunc, method, inputs, kwargs)
    return result if out is None else _into(result, out)


def _lazily(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the expressions of the results."""
    if method == "outer":
        left, right = map(namespace.asarray, inputs)
        inputs, method = (left[(..., *(None,) * right.ndim)], right), "__call__"
    if method != "__call__":
        name = f"{ufunc.__name__}.{method}"
        return at_once(name, getattr(ufunc, method), OBJECT_COPIES)(*inputs, **kwargs)
    unknown = kwargs.keys() - {"dtype", "axes", "axis", "keepdims"}
    if unknown:
        raise refuse(ufunc.__name__, f"leave out {', '.join(sorted(unknown))}")
    dtype = kwargs.pop("dtype", None)
    operands, loop = _resolved(ufunc, inputs, dtype)
    dtypes = loop[ufunc.nin :]
    if any(kind.hasobject for kind in dtypes):
        return at_once(ufunc.__name__, ufunc, OBJECT_COPIES)(*inputs, **kwargs)
    if ufunc.signature is None:
        made = _inlined(ufunc, operands, loop)
        made = made or _elementwise(ufunc, operands, dtypes, ufunc.__name__)
        return _given(made, several=ufunc.nout > 1)
    parsed = parse(ufunc.signature)
    if not any((*parsed.ins, *parsed.outs, kwargs)):
        made = _inlined(ufunc, operands, loop)
        if made:
            return _given(made, several=False)
    keepdims = kwargs.get("keepdims", False)
    placed = place_axes(parsed, kwargs.get("axes"), kwargs.get("axis"), keepdims=keepdims)
    function = _compiled_code(ufunc, loop) if dtype is None else None
    made = gufunc_calls(
        function or ufunc, parsed, placed, operands, dtypes, name=ufunc.__name__, keepdims=keepdims
    )
    return _given(made, several=ufunc.nout > 1)


def _inlined(
    ufunc: Any, operands: Sequence[Expr], loop: Sequence[np.dtype[Any]]
) -> tuple[Expr, ...]:
    """Apply a ufunc whose code kernels take in; gives nothing where they cannot."""
    function = _compiled_code(ufunc, loop)
    if function is None:
        return ()
    held = np.empty((), object)
    held[()] = function
    types = (held.dtype, *loop[:-1])
    return (own(function.name, loop[-1], constant(held), *operands, types=types),)


def _compiled_code(ufunc: Any, loop: Sequence[np.dtype[Any]]) -> Any:
    """Give a ufunc with the code that kernels take in; None where they cannot."""
    # Only Numba makes such ufuncs, and then it is loaded.
    if not type(ufunc).__module__.startswith("numba.") or ufunc.nout > 1:
        return None
    return _jit().user_function(ufunc, tuple(loop))


def _into(result: Any, out: Any) -> Any:
    if not isinstance(result, tuple):
        return store_out(result, out)
    return tuple(
        part if o is None else store_out(part, o) for part, o in zip(result, out, strict=True)
    )


def _resolved(
    ufunc: Any, inputs: Sequence[Any], dtype: Any
) -> tuple[list[Expr], list[np.dtype[Any]]]:
    """Give operands, and the dtypes of the ufunc's loop: those it takes, then those it gives."""
    given = [v if type(v) in (int, float, complex) else expression(v) for v in inputs]
    inner = getattr(ufunc, "ufunc", ufunc)
    if not hasattr(inner, "resolve_dtypes") or not inner.types:
        operands = [v if isinstance(v, Expr) else constant(v) for v in given]
        # Arrays without elements: a loop is chosen, and perhaps compiled, but nothing is called.
        found = ufunc(*(np.empty((0,), o.dtype) for o in operands))
        parts = found if isinstance(found, tuple) else (found,)
        return operands, [*(o.dtype for o in operands), *(part.dtype for part in parts)]
    kinds = tuple(v.dtype if isinstance(v, Expr) else type(v) for v in given)
    asked = (*(None,) * ufunc.nin, *(dtype and np.dtype(dtype),) * ufunc.nout)
    options = {} if dtype is None else {"signature": asked}
    loop = inner.resolve_dtypes((*kinds, *(None,) * ufunc.nout), **options)
    operands = [
        v if isinstance(v, Expr) else constant(v, kind)
        for v, kind in zip(given, loop, strict=False)
    ]
    return operands, list(loop)
