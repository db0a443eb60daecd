"""NumPy's ufuncs as objects with NumPy's calling conventions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import (
    NO_VALUE,
    OURS,
    arrays_in,
    at_hand,
    expression,
    familiar,
    give,
    mapped,
    ndarray_of,
    numpy_into,
    refuse,
    shared_selection,
    small,
    sole,
    taken,
    ufunc_elsewhere,
    unscaled,
)
from chunkarr.errors import ObjectOperandError
from chunkarr.expr.affine import Affine
from chunkarr.expr.build import (
    as_expr,
    cast_lazily,
    elementwise,
    normalize_axis,
    view,
)
from chunkarr.expr.node import Expr
from chunkarr.functions import products
from chunkarr.functions.elementwise import UFUNCS, power
from chunkarr.functions.gufuncs import parse, place_axes
from chunkarr.functions.indexing import NUMBERS, Fancy, read_key
from chunkarr.functions.manipulation import join
from chunkarr.functions.ordered import in_order, in_slices
from chunkarr.functions.reductions import (
    accumulate,
    extremum,
    fold,
    loop_dtype,
    reduced_axes,
)
from chunkarr.functions.views import moveaxis, squeeze
from chunkarr.kernels.reducers import ASSOCIATIVE
from chunkarr.maps import settle
from chunkarr.outputs import harmless, spread, truth, write
from chunkarr.picks import apply_at, apply_to_held
from chunkarr.settings import settings
from chunkarr.views import Selection, ndarray_key, plain_key
from chunkarr.whole import OBJECT_COPIES, at_once

TOLD = frozenset(
    ("nin", "nout", "nargs", "ntypes", "types", "identity", "signature", "__doc__", "__signature__")
)
"""What NumPy's own object tells about a ufunc."""

REDUCE_NAMES = {"add": "sum", "multiply": "prod", "minimum": "min", "maximum": "max"}
"""Ufuncs whose reduction has a kernel of its own."""


def _asking(method: Callable[..., Any]) -> Callable[..., Any]:
    """Ask operands of other classes before a method of ours runs."""
    name = method.__name__

    @functools.wraps(method)
    def public(self: UFunc, *args: Any, **kwargs: Any) -> Any:
        if not (familiar(args) and familiar(kwargs.values())):
            made = ufunc_elsewhere(getattr(getattr(np, self.__name__), name), args, kwargs)
            if made is not OURS:
                return made
            args = tuple(map(taken, args))
        return method(self, *args, **kwargs)

    return public


class UFunc:
    """One NumPy ufunc on chunked arrays."""

    __slots__ = ("__name__", "_numpy")

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._numpy: np.ufunc = getattr(np, name)

    def __repr__(self) -> str:
        return f"<ufunc '{self._numpy.__name__}'>"

    def __eq__(self, other: object) -> bool:
        # Classes that take ufuncs are called with NumPy's.
        return other is self or other is self._numpy

    def __hash__(self) -> int:
        return hash(self._numpy)

    def __getattr__(self, name: str) -> Any:
        if name in TOLD:
            return getattr(self._numpy, name)
        raise AttributeError(name)

    def __call__(self, *inputs: Any, out: Any = None, where: Any = True, **kwargs: Any) -> Any:
        """Apply to arrays, elementwise."""
        ufunc = self._numpy
        if out is ...:
            return unscaled(self(*inputs, where=where, **kwargs))
        if not (familiar(inputs) and (out is None or familiar(_each(out)))):
            asked = kwargs | ({} if out is None else {"out": _each(out)})
            asked |= {} if where is True else {"where": where}
            made = ufunc_elsewhere(ufunc, inputs, asked)
            if made is not OURS:
                return made
            inputs = tuple(map(taken, inputs))
        if out is None and where is True and not kwargs and len(inputs) == ufunc.nin:
            if type(inputs[0]) is not Array and NUMBERS.issuperset(map(type, inputs)):
                return ufunc(*inputs)
            plain = at_hand(inputs)
            return self._lazy(inputs, kwargs) if plain is None else give(ufunc(*plain))
        if not ufunc.nin <= len(inputs) <= ufunc.nargs:
            message = (
                f"{ufunc.__name__}() takes from {ufunc.nin} to {ufunc.nargs} positional arguments "
                f"but {len(inputs)} were given"
            )
            raise TypeError(message)
        if len(inputs) > ufunc.nin:
            if out is not None:
                message = "cannot specify 'out' as both a positional and keyword argument"
                raise TypeError(message)
            # Those that are not given are made.
            out = (*inputs[ufunc.nin :], *(None,) * (ufunc.nargs - len(inputs)))
            inputs = inputs[: ufunc.nin]
        outs = out if isinstance(out, tuple) else (out,) * (out is not None)
        where = where if where is True else truth(where)
        if all(o is None for o in outs):
            if where is True:
                return self._apply(inputs, kwargs)
            inputs = tuple(harmless(ufunc.__name__, value, where) for value in inputs)
            return spread(self._apply(inputs, kwargs), where)
        if ufunc.nout > 1 and not isinstance(out, tuple):
            message = "'out' must be a tuple of arrays"
            raise TypeError(message)
        if len(outs) != ufunc.nout:
            message = "The 'out' tuple must have exactly one entry per ufunc output"
            raise ValueError(message)
        for target in outs:
            if isinstance(target, Array):
                target.check_writable("output array")
        if any(isinstance(o, Array) and o.on_file for o in outs):
            settle(*inputs, where)
        done = self._into(inputs, outs, where, kwargs)
        if done is not None:
            return done
        if where is not True:
            inputs = tuple(harmless(ufunc.__name__, value, where) for value in inputs)
        result = self._apply(inputs, kwargs)
        written = tuple(
            r if o is None else write(ufunc, r, o, where, kwargs.get("casting", "same_kind"))
            for r, o in zip(_each(result), outs, strict=True)
        )
        return written if ufunc.nout > 1 else written[0]

    def _into(
        self, inputs: tuple[Any, ...], outs: tuple[Any, ...], where: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Let NumPy write into the buffers of arrays in memory or on file; None if it cannot."""
        if not all(isinstance(o, Array) for o in outs):
            return None
        plain = at_hand((*inputs, where, *outs))
        if plain is None and all(o.on_file for o in outs):
            plain = mapped((*inputs, where))
        if plain is None:
            return None
        held = tuple(out.writable_ndarray() for out in outs)
        if any(target is None for target in held):
            return None
        count = len(inputs)
        self._numpy(*plain[:count], out=held, where=plain[count], **kwargs)
        return outs if len(outs) > 1 else outs[0]

    def _apply(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain = at_hand(inputs)
        if plain is not None:
            return give(self._numpy(*plain, **kwargs))
        asked = kwargs.keys() & {"sig", "signature"}
        if asked:
            return self._in_loop(inputs, kwargs, asked.pop())
        if kwargs.keys() - {"dtype", "casting", "order", "subok"}:
            message = f"arguments {sorted(kwargs)} work on small arrays only"
            raise refuse(self._numpy.__name__, message)
        return self._lazy(inputs, kwargs)

    def _in_loop(self, inputs: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        """Apply in the dtypes that `signature=` names: operands are brought to them first."""
        ufunc = self._numpy
        operands = [v if type(v) in (int, float, complex) else expression(v) for v in inputs]
        shown = [np.empty((0,), v.dtype) if isinstance(v, Expr) else v for v in operands]
        ufunc(*shown, **kwargs)  # NumPy's own refusals
        given = tuple(v.dtype if isinstance(v, Expr) else type(v) for v in operands)
        loop = ufunc.resolve_dtypes(
            (*given, *(None,) * ufunc.nout),
            signature=_signature(ufunc, kwargs[name]),
            casting=kwargs.get("casting", "same_kind"),
        )
        cast_ = [cast_lazily(as_expr(v), kind) for v, kind in zip(operands, loop, strict=False)]
        return self._apply(
            tuple(wrap(v) for v in cast_),
            {k: v for k, v in kwargs.items() if k in ("order", "subok")},
        )

    def _lazy(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the expressions of the results."""
        ufunc = self._numpy
        options = {k: v for k, v in kwargs.items() if k in ("dtype", "casting") and v is not None}
        operands: list[Any] = []
        selected = False
        for value in inputs:
            if isinstance(value, Array):
                selected = selected or value.selection is not None
            elif isinstance(value, tuple | list) and arrays_in(value):
                value = Array(expression(value))  # noqa: PLW2901 - a list of arrays is an array
            operands.append(value)
        if selected:
            selection = shared_selection(operands)
            if selection is not None:
                return self._select(selection, operands, options)
        operands = [a.to_expr() if isinstance(a, Array) else a for a in operands]
        try:
            if ufunc.__name__ == "power" and not options:
                made: tuple[Expr, ...] = (power(*operands),)
            else:
                made = elementwise(ufunc.__name__, *operands, **options)
        except ObjectOperandError:
            return at_once(ufunc.__name__, ufunc, OBJECT_COPIES)(*inputs, **kwargs)
        parts = tuple([Array(e, scalar=not e.shape) for e in made])
        if _lie_turned(inputs):
            parts = tuple([part.copy("F") for part in parts])
        if len(inputs) == 2 and len(parts) == 1 and parts[0].is_scalar:
            return _bounded(parts[0], *inputs)
        return parts if ufunc.nout > 1 else parts[0]

    def _select(self, selection: Selection, operands: list[Any], options: dict[str, Any]) -> Any:
        """Apply before selecting: the length of the selection is then still not needed."""
        exprs = [
            (a.selection.operand if a.selection else a.to_expr()) if isinstance(a, Array) else a
            for a in operands
        ]
        parts = tuple(
            Array(selection=Selection(e, selection.mask))
            for e in elementwise(self._numpy.__name__, *exprs, **options)
        )
        return parts if self._numpy.nout > 1 else parts[0]

    @_asking
    def reduce(
        self,
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = NO_VALUE,
        where: Any = True,
    ) -> Any:
        """Reduce over axes, by default the first."""
        name = self._numpy.__name__
        if out is ...:
            return unscaled(self.reduce(array, axis, dtype, None, keepdims, initial, where))
        out = sole(out)
        whole = array if isinstance(array, Array) else Array.of(np.asarray(array))
        start = None if initial is NO_VALUE else initial
        if small([whole, *arrays_in([where])]):
            options: dict[str, Any] = {} if initial is NO_VALUE else {"initial": start}
            options |= {"keepdims": keepdims}
            options["where"] = ndarray_of(where) if isinstance(where, Array) else where
            plain = [ndarray_of(whole), axis, dtype]
            if out is not None:
                return numpy_into(self._numpy.reduce, plain, options, out)
            result = give(self._numpy.reduce(*plain, **options))
        else:
            mask = where.to_expr() if isinstance(where, Array) else where
            kind = self._reduce_dtype(whole, axis, dtype, initial, mask, out)
            expr = whole.to_expr()
            axes = reduced_axes(axis, expr.ndim)
            reducer = REDUCE_NAMES.get(name, name)
            if name not in ASSOCIATIVE:
                made = in_order(name, expr, axes, kind, keepdims, start, mask)
            elif self._numpy.identity is None:
                made = extremum(reducer, name, cast_lazily(expr, kind), axes, keepdims, start, mask)
            else:
                made = fold(reducer, expr, axes, kind, keepdims, start, mask, name)
            result = wrap(made, scalar=made.ndim == 0)
        return result if out is None else write(self._numpy, result, out, True, "unsafe")

    def _reduce_dtype(
        self, array: Array, axis: Any, dtype: Any, initial: Any, where: Any, out: Any
    ) -> np.dtype[Any]:
        """Give the dtype of a reduction; NumPy's refusals come from a tiny one."""
        probe = np.ones(tuple([min(n, 1) for n in array.shape]), array.dtype)
        options: dict[str, Any] = {} if initial is NO_VALUE else {"initial": initial}
        if where is not True:
            options["where"] = np.ones((), getattr(where, "dtype", bool))
        reduced = self._numpy.reduce(probe, axis, dtype, **options)
        if dtype is None and out is not None:
            return loop_dtype(self._numpy.__name__, array.dtype, None, out.dtype)
        return np.dtype(np.asarray(reduced).dtype)

    @_asking
    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        """Give all intermediate results along an axis."""
        out = sole(out)
        whole = array if isinstance(array, Array) else Array.of(np.asarray(array))
        if small([whole]):
            plain = [ndarray_of(whole), axis, dtype]
            if out is not None:
                return numpy_into(self._numpy.accumulate, plain, {}, out)
            return give(self._numpy.accumulate(*plain))
        shown = np.ones(tuple([min(n, 1) for n in whole.shape]), whole.dtype)
        self._numpy.accumulate(shown, axis, dtype)  # NumPy's own refusals
        into = getattr(out, "dtype", None)
        result = wrap(accumulate(self._numpy.__name__, whole.to_expr(), axis, dtype, into))
        return result if out is None else write(self._numpy, result, out, True, "unsafe")

    @_asking
    def outer(self, a: Any, b: Any, **kwargs: Any) -> Any:
        """Apply to all pairs."""
        if self._numpy.nin != 2:
            self._numpy.outer(a, b)  # NumPy's own refusal
        left = a if isinstance(a, Array) else Array.of(np.asarray(a))
        right = b if isinstance(b, Array) else Array.of(np.asarray(b))
        return self(left[(..., *(None,) * right.ndim)], right, **kwargs)

    @_asking
    def at(self, a: Any, indices: Any, *b: Any) -> None:
        """Apply in place at indices, again for each time that one is named.

        Where `a` is not in memory and integer indices name one of its elements more than 32 times,
        the elements that they name have to fit the limit.
        """
        ufunc = self._numpy
        if not isinstance(a, Array):
            ufunc.at(a, ndarray_key(indices), *map(ndarray_key, b))
            return
        a.check_writable()
        if a.on_file:
            settle(indices, *b)
        held = a.writable_ndarray()
        if held is not None:
            apply_to_held(held, indices, ufunc, b)
            return
        # NumPy's own refusals, of dtypes and of the number of operands.
        shown = [
            np.empty((0,), v.dtype if isinstance(v, Array) else np.asarray(v).dtype) for v in b
        ]
        ufunc.at(np.ones((1,), a.dtype), np.empty(0, np.intp), *shown)
        item = read_key(plain_key(indices), a.shape)
        if isinstance(item, Fancy):
            apply_at(a, item.key, ufunc, b)
        else:
            a[indices] = self(a[indices], *b)

    @_asking
    def reduceat(
        self, array: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None
    ) -> Any:
        """Reduce over slices that begin at indices.

        More than 256 of them have to be in order and short, or to fit the limit.
        """
        whole = array if isinstance(array, Array) else Array.of(np.asarray(array))
        out = sole(out)
        plain = ndarray_key(indices)
        starts = np.asarray(plain, None if isinstance(plain, np.ndarray) else np.intp)
        if small([whole]):
            given = [ndarray_of(whole), starts, axis, dtype]
            if out is not None:
                return numpy_into(self._numpy.reduceat, given, {}, out)
            return give(self._numpy.reduceat(*given))
        if dtype is None and out is not None:
            dtype = loop_dtype(self._numpy.__name__, whole.dtype, None, out.dtype)
        result = self._reduce_slices(whole, starts, axis, dtype)
        return result if out is None else write(self._numpy, result, out, True, "unsafe")

    def _reduce_slices(self, whole: Array, starts: Any, axis: int, dtype: Any) -> Array:
        number = normalize_axis(axis, whole.ndim)
        n = whole.shape[number]
        wrong = starts[(starts < 0) | (starts >= n)]
        if wrong.size:
            message = f"index {wrong[0]} out-of-bounds in {self._numpy.__name__}.reduceat [0, {n})"
            raise IndexError(message)
        shown = np.ones(tuple([min(m, 1) for m in whole.shape]), whole.dtype)
        # NumPy's own refusals, of indices that are no integers too.
        first = np.zeros(min(1, starts.size), starts.dtype)
        kind = self._numpy.reduceat(shown, first, axis, dtype).dtype
        name = self._numpy.__name__
        if starts.ndim == 1 and starts.size and (np.diff(starts) > 0).all():
            made = in_slices(name, whole.to_expr(), starts.tolist(), number, kind)
            if made is not None:
                return wrap(made)
        if starts.size > SLICES_MAX or starts.ndim != 1 or not starts.size:
            run = at_once(f"{name}.reduceat", self._numpy.reduceat, 2)
            return run(whole, starts, axis, dtype)  # type: ignore[no-any-return]
        parts = []
        for start, stop in zip(starts.tolist(), [*starts.tolist()[1:], n], strict=True):
            key = slice(start, max(stop, start + 1))
            part = whole[(*(slice(None),) * number, key)]
            part = self.reduce(part, number, dtype, keepdims=True) if stop > start + 1 else part
            parts.append(cast_lazily(part.to_expr(), kind))
        return wrap(join(parts, number, f"{self._numpy.__name__}.reduceat"))

    def resolve_dtypes(self, dtypes: Any, **options: Any) -> tuple[np.dtype[Any], ...]:
        """Give the dtypes that operands would be taken and given in."""
        return self._numpy.resolve_dtypes(dtypes, **options)


def _each(out: Any) -> tuple[Any, ...]:
    return out if isinstance(out, tuple) else (out,)


CHAIN_MAX = 64
"""A number that was made from another one and plain numbers so many times over is computed."""


def _bounded(made: Array, left: Any, right: Any) -> Any:
    """Give a number as NumPy's where a loop makes a long chain of it, as `total += x[i]` does."""
    before, number = (left, right) if isinstance(left, Array) else (right, left)
    if type(number) in NUMBERS and isinstance(before, Array):
        made._reads = before._reads + 1  # noqa: SLF001 - nobody reads elements of a number
    return made if made._reads <= CHAIN_MAX else made.compute()[()]  # noqa: SLF001


def _lie_turned(operands: Sequence[Any]) -> bool:
    """Whether operands lie in Fortran order, and so what NumPy makes of them."""
    whole = [a for a in operands if isinstance(a, Array) and a.ndim > 1]
    return bool(whole) and all(a.base is not None and a.flags.fnc for a in whole)


def _signature(ufunc: np.ufunc, given: Any) -> tuple[Any, ...]:
    """Give the dtypes that `signature=` names, None for those that it leaves open."""
    if isinstance(given, str):
        letters = given.replace("->", "")
        named: tuple[Any, ...] = tuple(letters)
        if len(named) == 1:
            named = (*(None,) * ufunc.nin, *named * ufunc.nout)
    else:
        named = given
    return tuple(None if kind is None else np.dtype(kind) for kind in named)


SLICES_MAX = 256
"""The most slices of `reduceat` that are reduced each on its own."""


class MatmulUFunc(UFunc):
    """`matmul` and the small products of vectors and matrices that go through it."""

    __slots__ = ()

    @_asking
    def __call__(self, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        """Multiply."""
        if len(inputs) == 3 and out is None:
            *inputs, out = inputs  # type: ignore[assignment]
        target = out[0] if isinstance(out, tuple) else out
        result = self._apply(tuple(inputs), kwargs)
        if target is None:
            return result
        core = _core_count(self.__name__, inputs) if not kwargs.keys() & {*PLACES} else 0
        if core and result.shape[-core:] != target.shape[-core:]:
            message = (
                f"{self.__name__}: Output operand 0 has a mismatch in its core dimensions: "
                f"{target.shape} for {result.shape}"
            )
            raise ValueError(message)
        return write(self._numpy, result, target, True, kwargs.get("casting", "same_kind"))

    def _apply(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain = at_hand(inputs, broadcasts=False)
        if plain is not None and _product_small(plain):
            return give(self._numpy(*plain, **kwargs))
        unknown = kwargs.keys() - {*PLACES, "dtype", "casting", "order", "subok"}
        if unknown:
            raise refuse(self._numpy.__name__, f"{min(unknown)}= runs on small arrays only")
        operands = [expression(v) for v in inputs]
        name = self._numpy.__name__
        # NumPy's own refusals come from operands of one element.
        shown = [np.ones((1,) * v.ndim, v.dtype) for v in operands]
        kind = np.asarray(self._numpy(*shown, **kwargs)).dtype
        if kwargs.get("dtype") is not None:
            operands = [cast_lazily(v, kind) for v in operands]
        placed = {k: v for k, v in kwargs.items() if k in PLACES and v is not None}
        axes = _core_axes(name, operands, **placed) if placed else None
        if axes is not None:
            operands = [
                view(v, moveaxis(v.shape, at, _last(len(at))))
                for v, at in zip(operands, axes, strict=False)
            ]
        left, right = operands
        made = products.matmul(left, right) if name == "matmul" else _product(name, left, right)
        if placed.get("keepdims"):
            made = view(made, _append_axis(made.shape))
        if axes is not None:
            made = view(made, moveaxis(made.shape, _last(len(axes[2])), axes[2]))
        return wrap(made, scalar=made.ndim == 0)


def _core_count(name: str, inputs: Sequence[Any]) -> int:
    """Give how many axes of a product come from rows and columns, not from stacks of them."""
    if name == "matmul":
        return sum(np.ndim(value) > 1 for value in inputs)
    return int(name != "vecdot")


PLACES = ("axes", "axis", "keepdims")
"""Arguments that say where the axes of vectors and matrices are."""


def _last(count: int) -> tuple[int, ...]:
    return tuple(range(-count, 0))


def _core_axes(
    name: str,
    operands: list[Expr],
    axes: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> tuple[tuple[int, ...], ...]:
    """Give the axes of the vectors or matrices in both operands and in the result."""
    signature = parse(getattr(np, name).signature.replace("?", ""))
    if name != "matmul":
        placed = place_axes(signature, axes, axis, keepdims=keepdims)
        return (*placed.ins, *placed.outs)
    given = [(a,) if isinstance(a, int) else tuple(a) for a in axes]
    return (*given, ()) if len(given) == len(operands) else tuple(given)


def _product_small(inputs: list[Any]) -> bool:
    sizes = [np.size(a) for a in inputs]
    return sizes[0] * sizes[1] * 16 <= 64 * max(4096, settings().eager_bytes)


def _product(name: str, left: Expr, right: Expr) -> Expr:
    if name == "vecdot":
        if left.ndim == 0 or right.ndim == 0 or left.shape[-1] != right.shape[-1]:
            message = (
                "vecdot: Input operand 1 has a mismatch in its core dimension 0 "
                f"({left.shape}, {right.shape})"
            )
            raise ValueError(message)
        return products.inner(left, right)
    if name == "matvec":
        wide = view(right, _append_axis(right.shape))
        product = products.matmul(left, wide)
        return view(product, _drop_last(product.shape))
    first = elementwise("conjugate", left)[0] if left.dtype.kind == "c" else left
    wide = view(first, _prepend_axis(first.shape))
    product = products.matmul(wide, right)
    return view(product, _drop_before_last(product.shape))


def _append_axis(shape: tuple[int, ...]) -> Affine:
    return Affine((*shape, 1), Affine.identity(shape).terms)


def _prepend_axis(shape: tuple[int, ...]) -> Affine:
    terms = Affine.identity(shape).terms
    *lead, last = terms
    return Affine((*shape[:-1], 1, shape[-1]), (*lead, last._replace(axis=len(shape))))


def _drop_last(shape: tuple[int, ...]) -> Affine:
    return squeeze(shape, -1)


def _drop_before_last(shape: tuple[int, ...]) -> Affine:
    return squeeze(shape, -2)


PRODUCTS = ("matmul", "vecdot", "matvec", "vecmat")

BY_UFUNC: dict[np.ufunc, UFunc] = {
    ufunc: UFunc(ufunc.__name__) for ufunc in (getattr(np, name) for name in UFUNCS)
}
BY_UFUNC |= {getattr(np, name): MatmulUFunc(name) for name in PRODUCTS if hasattr(np, name)}
"""Every ufunc of NumPy's namespace by NumPy's object, for `__array_ufunc__`."""

TABLE: dict[str, UFunc] = {
    name: BY_UFUNC[getattr(np, name)] for name in (*UFUNCS, *PRODUCTS) if hasattr(np, name)
}
"""The same by name; `bitwise_not` and `invert` are one object, as in NumPy."""
