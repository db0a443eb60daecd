"""Functions that need the handle and not just its value: views, writes in place, selections.

Where NumPy gives a view, so does this, and what NumPy writes in place is written through the
handle. Where a result's shape or dtype follows from values, one bounded reduction is computed at
the call.
"""

from __future__ import annotations

import collections.abc
import functools
from typing import Any

import numpy as np

from chunkarr import namespace
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import expression, give, ndarray_of, small, store_out
from chunkarr.expr.build import (
    apply,
    cast,
    constant,
    flatten,
    normalize_axes,
    normalize_axis,
    reshape,
    stretch,
    where,
)
from chunkarr.expr.node import Expr
from chunkarr.functions import shapes
from chunkarr.functions.creation import index_along
from chunkarr.functions.pieces import call
from chunkarr.functions.reductions import cumsum
from chunkarr.outputs import check_mask
from chunkarr.printing import array_text
from chunkarr.ufuncs import TABLE
from chunkarr.views import Selection

# -- views -----------------------------------------------------------------------------------------


def _handles(arrays: tuple[Any, ...]) -> list[Any]:
    return [namespace.asarray(a) for a in arrays]


def _one_or_all(made: list[Any]) -> Any:
    return made[0] if len(made) == 1 else tuple(made)


def atleast_1d(*arys: Any) -> Any:
    """Give arrays of at least one axis."""
    return _one_or_all([a if a.ndim else a.reshape(1) for a in _handles(arys)])


def atleast_2d(*arys: Any) -> Any:
    """Give arrays of at least two axes: vectors become rows."""
    made = [a if a.ndim > 1 else a.reshape(1, 1) if not a.ndim else a[None] for a in _handles(arys)]
    return _one_or_all(made)


def atleast_3d(*arys: Any) -> Any:
    """Give arrays of at least three axes."""
    made = []
    for a in _handles(arys):
        keys = {0: (None, None, None), 1: (None, slice(None), None)}
        made.append(
            a.reshape(1, 1, 1)
            if not a.ndim
            else a[keys.get(a.ndim, (..., None))]
            if a.ndim < 3
            else a
        )
    return _one_or_all(made)


def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:  # noqa: ARG001
    """Stretch arrays to the shape they have together."""
    arrays = _handles(args)
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return tuple(a if a.shape == shape else namespace.broadcast_to(a, shape) for a in arrays)


def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """Turn a plane by quarters."""
    axes, m = tuple(axes), namespace.asarray(m)
    if len(axes) != 2:
        message = "len(axes) must be 2."
        raise ValueError(message)
    if axes[0] == axes[1] or abs(axes[0] - axes[1]) == m.ndim:
        message = "Axes must be different."
        raise ValueError(message)
    if any(not -m.ndim <= axis < m.ndim for axis in axes):
        message = f"Axes={axes} out of range for array of ndim={m.ndim}."
        raise ValueError(message)
    turns = k % 4
    if turns == 0:
        return m[...]
    if turns == 2:
        return namespace.flip(m, axes)
    if turns == 1:
        return namespace.swapaxes(namespace.flip(m, axes[1]), *axes)
    return namespace.flip(namespace.swapaxes(m, *axes), axes[1])


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Move an axis before another."""
    a = namespace.asarray(a)
    n = a.ndim
    axis = normalize_axis(axis, n)
    start = start + n if start < 0 else start
    if not 0 <= start <= n:
        message = f"'start' arg requires {-n} <= start < {n + 1}, but {start} was passed in"
        raise np.exceptions.AxisError(message)
    if axis < start:
        start -= 1
    return a[...] if axis == start else namespace.moveaxis(a, axis, start)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """Give views of an array's parts along an axis."""
    x = namespace.asarray(x)
    if not x.ndim:
        message = "Input array must be at least 1-d."
        raise ValueError(message)
    turned = namespace.moveaxis(x, axis, 0)
    return tuple(turned[i] for i in range(turned.shape[0]))


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Cut into views along the second axis, the first for vectors."""
    return _split(ary, indices_or_sections, "hsplit", 1)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Cut into views along the first axis."""
    return _split(ary, indices_or_sections, "vsplit", 2)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Cut into views along the third axis."""
    return _split(ary, indices_or_sections, "dsplit", 3)


def _split(ary: Any, sections: Any, name: str, ndim_least: int) -> list[Any]:
    ary = namespace.asarray(ary)
    if ary.ndim < ndim_least:
        message = f"{name} only works on arrays of {ndim_least} or more dimensions"
        raise ValueError(message)
    axis = {"hsplit": min(1, ary.ndim - 1), "vsplit": 0, "dsplit": 2}[name]
    return namespace.split(ary, sections, axis)


def diag(v: Any, k: int = 0) -> Any:
    """Make a matrix with a diagonal, or look at the diagonal of a matrix."""
    v = namespace.asarray(v)
    if v.ndim == 2:
        return namespace.diagonal(v, k)
    return wrap(shapes.diag(v.to_expr(), k))


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    """Make grids of coordinates from vectors of them."""
    if indexing not in ("xy", "ij"):
        message = "Valid values for `indexing` are 'xy' and 'ij'."
        raise ValueError(message)
    count = len(xi)
    order = [1, 0, *range(2, count)] if indexing == "xy" and count > 1 else list(range(count))
    lines = [
        a.reshape(tuple(-1 if axis == i else 1 for axis in order))
        for i, a in enumerate(_handles(xi))
    ]
    grids = tuple(lines) if sparse else broadcast_arrays(*lines)
    return tuple(g.copy() for g in grids) if copy else grids


def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    """Look at what lies between zeros at both ends; the bounds are computed."""
    a = namespace.asarray(filt)
    sides = trim.lower()
    if sides not in {"fb", "bf", "f", "b"}:
        message = f"unexpected character(s) in `trim`: {sides!r}"
        raise ValueError(message)
    axes = range(a.ndim) if axis is None else normalize_axes(axis, a.ndim)
    lines = [(a != 0).any(tuple(i for i in range(a.ndim) if i != own)) for own in axes]
    bounds = namespace.compute(*(part for line in lines for part in _ends(line)) if a.size else ())
    key: list[Any] = [slice(None)] * a.ndim
    for position, own in enumerate(axes):
        held, first, last = bounds[3 * position : 3 * position + 3] if a.size else (False, 0, 0)
        if not held:
            key[own] = slice(0, 0)
            continue
        stop = a.shape[own] - int(last)
        key[own] = slice(int(first) if "f" in sides else None, stop if "b" in sides else None)
    if a.ndim == 1:
        # What is given is sliced: a list stays a list, as in NumPy.
        return namespace.asarray(filt[key[0]]) if isinstance(filt, np.ndarray) else filt[key[0]]
    return a[tuple(key)]


def _ends(line: Any) -> tuple[Any, Any, Any]:
    return line.any(), line.argmax(), line[::-1].argmax()


def real_if_close(a: Any, tol: float = 100) -> Any:
    """Give the real part where all imaginary parts are close to zero; that is computed."""
    a = namespace.asarray(a)
    if a.dtype.kind != "c":
        return a
    least = np.finfo(a.dtype).eps * tol if tol > 1 else tol
    return a.real if bool((TABLE["absolute"](a.imag) < least).all()) else a


# -- writing in place ------------------------------------------------------------------------------


def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """Copy values into an array, where a mask is true."""
    _check_array(dst, "copyto")
    source = (
        src
        if isinstance(src, Array) or type(src) in (bool, int, float, complex)
        else (namespace.asarray(src))
    )
    given: Any = source.dtype if isinstance(source, Array) else source
    if isinstance(source, Array):
        fits = np.can_cast(given, dst.dtype, casting)
    else:
        fits = np.can_cast(np.result_type(dst.dtype, given), dst.dtype, casting)
    if not fits:
        message = (
            f"Cannot cast array data from {given!r} to {dst.dtype!r} according to the rule "
            f"'{casting}'"
        )
        raise TypeError(message)
    if where is True:
        dst[...] = source
        return
    mask = namespace.asarray(where)
    check_mask(mask)
    mask = namespace.broadcast_to(mask, dst.shape)
    value = source if isinstance(source, Array) else np.asarray(source).astype(dst.dtype)
    laid = namespace.broadcast_to(value, dst.shape)
    dst[...] = namespace.where(mask, namespace.astype(laid, dst.dtype), dst)


def _check_array(a: Any, name: str) -> None:
    if not isinstance(a, Array):
        message = f"argument 1 of {name} must be an array, not {type(a).__name__}"
        raise TypeError(message)
    a.check_writable()


def place(arr: Any, mask: Any, vals: Any) -> None:
    """Set the elements where a mask is true to values in turn."""
    _check_array(arr, "place")
    test = cast(expression(mask), bool)
    if test.size != arr.size:
        message = "place: mask and data must be the same size"
        raise ValueError(message)
    test, values = reshape(test, (arr.size,)), _table(vals, arr.dtype)
    if not values.size:
        if bool(wrap(test).any()):
            message = "Cannot insert from an empty array!"
            raise ValueError(message)
        return
    turn = apply("subtract", cumsum(cast(test, np.int64)), 1)
    _put_where(arr, test, turn, values)


def putmask(a: Any, /, mask: Any, values: Any) -> None:
    """Set the elements where a mask is true to those of repeated values at the same position."""
    _check_array(a, "putmask")
    given = namespace.asarray(values)
    test = cast(expression(mask), bool)
    if test.size != a.size:
        message = "putmask: mask and data must be the same size"
        raise ValueError(message)
    if given.shape == a.shape and a.ndim:
        laid = given.astype(a.dtype).to_expr()
        a[...] = wrap(where(reshape(test, a.shape), laid, a.to_expr()))
    elif given.size:
        position = index_along((a.size,), 0)
        _put_where(a, reshape(test, (a.size,)), position, _table(values, a.dtype))


def _table(values: Any, dtype: np.dtype[Any]) -> Any:
    """Give values as a vector of a dtype, few of them as one of NumPy's."""
    given = namespace.ravel(namespace.asarray(values)).astype(dtype)
    return given.compute() if given.nbytes <= namespace.ARGUMENT_BYTES else given


def _put_where(a: Any, test: Expr, turn: Expr, values: Any) -> None:
    """Write values in turn where a flat mask is true."""
    held = a.to_expr()
    if values.size == 1:
        laid: Expr = constant(values[0], a.dtype, test.shape)
    else:
        place = apply("remainder", turn, values.size)
        few = isinstance(values, np.ndarray)
        take = functools.partial(np.take, values)
        laid = call(take, a.dtype, place) if few else values[wrap(place)].to_expr()
    a[...] = wrap(where(reshape(test, a.shape), reshape(laid, a.shape), held))


def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """Set the main diagonal, of any number of axes, to a value or values in turn."""
    if a.ndim < 2:
        message = "array must be at least 2-d"
        raise ValueError(message)
    _check_array(a, "fill_diagonal")
    stop = a.size
    if a.ndim == 2:
        step = a.shape[1] + 1
        stop = a.size if wrap else min(a.size, a.shape[1] ** 2)
    elif len(set(a.shape)) > 1:
        message = "All dimensions of input must be of equal length"
        raise ValueError(message)
    else:
        step = 1 + int(np.cumprod(a.shape[:-1]).sum())
    flat: Expr | None = None
    weight = a.size
    for axis, n in enumerate(a.shape):
        weight //= max(1, n)
        shape = tuple(n if i == axis else 1 for i in range(a.ndim))
        part = apply("multiply", index_along(shape, axis), weight)
        flat = part if flat is None else apply("add", flat, part)
    assert flat is not None
    on = apply("equal", apply("remainder", flat, step), 0)
    on = apply("logical_and", on, apply("less", flat, stop))
    values = _table(val, a.dtype)
    if values.size:
        _put_where(a, stretch(on, a.shape), apply("floor_divide", flat, step), values)


# -- selections ------------------------------------------------------------------------------------


def extract(condition: Any, arr: Any) -> Any:
    """Give the elements where a condition is true."""
    whole, test = expression(arr), cast(expression(condition), bool)
    if test.size != whole.size:
        return compress(wrap(flatten(test)), namespace.asarray(arr))
    flat = flatten(whole), flatten(test)
    return Array(selection=Selection(*flat))


def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Any:
    """Give the parts along an axis, or the elements, where a condition is true."""
    test, a = cast(expression(condition), bool), namespace.asarray(a)
    if test.ndim != 1:
        message = "condition must be a 1-d array"
        raise ValueError(message)
    whole = namespace.ravel(a) if axis is None else namespace.moveaxis(a, axis, 0)
    n = test.shape[0]
    if n > whole.shape[0]:
        if bool(wrap(test)[whole.shape[0] :].any()):
            message = f"index {n - 1} is out of bounds for axis 0 with size {whole.shape[0]}"
            raise IndexError(message)
        n = whole.shape[0]
    made: Any = whole[:n][wrap(test)[:n]]
    if axis is not None and a.ndim > 1:
        made = namespace.moveaxis(made, 0, axis)
    return made if out is None else store_out(made, out)


def nonzero(a: Any) -> tuple[Any, ...]:
    """Give the places along each axis of the elements that are not zero."""
    a = namespace.asarray(a)
    if not a.ndim:
        message = (
            "Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() "
            "instead."
        )
        raise ValueError(message)
    if small([a]):
        return tuple(give(part) for part in np.nonzero(ndarray_of(a)))
    test = cast(a.to_expr(), bool)
    # One handle for the mask, so that it is counted once.
    return tuple(
        Array(selection=Selection(index_along(a.shape, axis), test)) for axis in range(a.ndim)
    )


def flatnonzero(a: Any) -> Any:
    """Give the places in the flattened array of the elements that are not zero."""
    return nonzero(namespace.ravel(a))[0]


def argwhere(a: Any) -> Any:
    """Give the places of the elements that are not zero, one row for each."""
    a = namespace.asarray(a)
    if not a.ndim:
        return argwhere(atleast_1d(a))[:, :0]
    return namespace.stack(nonzero(a), axis=1)


def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """Apply to the elements where a condition is true its function or value."""
    x = namespace.asarray(x)
    many = isinstance(condlist, list | tuple) and len(condlist)
    several = many and (isinstance(condlist[0], list | Array | np.ndarray) or not x.ndim)
    if isinstance(condlist, Array | np.ndarray) and condlist.ndim > x.ndim and x.ndim:
        several = True
    tests = [namespace.asarray(c).astype(bool) for c in (condlist if several else [condlist])]
    if len(tests) == len(funclist) - 1:
        found = tests[0]
        for test in tests[1:]:
            found = found | test
        tests.append(~found)
    elif len(tests) != len(funclist):
        n = len(tests)
        message = f"with {n} condition(s), either {n} or {n + 1} functions are expected"
        raise ValueError(message)
    y = namespace.zeros_like(x)
    for test, function in zip(tests, funclist, strict=True):
        if not isinstance(function, collections.abc.Callable):  # type: ignore[arg-type]
            y[test] = function
        elif not x.ndim:
            y[...] = namespace.where(test, function(x, *args, **kw), y)
        else:
            y[test] = function(x[test], *args, **kw)
    return y


# -- places that arrays name -----------------------------------------------------------------------


def _along(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """Give the fancy index that pairs places along an axis with all other places."""
    key: list[Any] = []
    for i, n in enumerate(arr.shape):
        shape = tuple(-1 if i == j else 1 for j in range(arr.ndim))
        key.append(indices if i == axis else np.arange(n).reshape(shape))
    return tuple(key)


def _checked_along(arr: Any, indices: Any, axis: int | None) -> tuple[Any, Any, int]:
    places = namespace.asarray(indices)
    if axis is None:
        if places.ndim != 1:
            message = "when axis=None, `indices` must have a single dimension."
            raise ValueError(message)
        arr, axis = namespace.ravel(arr), 0
    number = normalize_axis(axis, arr.ndim)
    if places.dtype.kind not in "iu":
        message = "`indices` must be an integer array"
        raise IndexError(message)
    if places.ndim != arr.ndim:
        message = "`indices` and `arr` must have the same number of dimensions"
        raise ValueError(message)
    return arr, places, number


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    """Take along an axis the elements that places of the same number of axes name."""
    whole, places, number = _checked_along(namespace.asarray(arr), indices, axis)
    return whole[_along(whole, places, number)]


def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    """Set along an axis the elements that places of the same number of axes name."""
    _check_array(arr, "put_along_axis")
    whole, places, number = _checked_along(arr, indices, axis)
    whole[_along(whole, places, number)] = values


def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Set the elements at places in the flattened array to values in turn."""
    _check_array(a, "put")
    places = namespace.asarray(ind).compute().ravel()
    values = _table(v, a.dtype)
    if not places.size or not values.size:
        return
    if not a.size:
        message = "cannot replace elements of an empty array"
        raise IndexError(message)
    if not np.can_cast(places.dtype, np.intp, "safe"):
        np.put(np.zeros(1), places, 0)  # NumPy's own error
    if mode == "raise":
        if places.min() < -a.size or places.max() >= a.size:
            wrong = places[(places < -a.size) | (places >= a.size)][0]
            message = f"index {wrong} is out of bounds for axis 0 with size {a.size}"
            raise IndexError(message)
        places = places % a.size
    places = np.clip(places, 0, a.size - 1) if mode == "clip" else places % a.size
    few = isinstance(values, np.ndarray)
    count = places.size
    laid = np.resize(values, count) if few else wrap(shapes.resize(values.to_expr(), count))
    if a.ndim:
        a[np.unravel_index(places, a.shape)] = laid
    else:
        a[...] = laid[-1]


def asarray_chkfinite(a: Any, dtype: Any = None, order: Any = None) -> Any:
    """Give an array; ValueError if a value is NaN or infinite, which is computed."""
    made = namespace.asarray(a, dtype, order)
    if made.dtype.kind in "fc" and not bool(TABLE["isfinite"](made).all()):
        message = "array must not contain infs or NaNs"
        raise ValueError(message)
    return made


def asfortranarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:  # noqa: ARG001
    """Give an array in Fortran order."""
    return namespace.asarray(a, dtype, "F")


def require(
    a: Any,
    dtype: Any = None,
    requirements: Any = None,
    *,
    like: Any = None,  # noqa: ARG001
) -> Any:
    """Give an array of a dtype, of its own where it is asked to be writable and is not."""
    wanted = {str(r).upper()[0] for r in requirements or ()}
    made = namespace.asarray(a, dtype, next((order for order in "FC" if order in wanted), None))
    if "W" in wanted:
        try:
            made.check_writable()
        except ValueError:
            return made.copy()
    return made


# -- text ------------------------------------------------------------------------------------------


def _spelled(arr: Any, summary: bool, width: Any, precision: Any, suppress: Any) -> str:
    asked = {"linewidth": width, "precision": precision, "suppress": suppress}
    with np.printoptions(**{k: v for k, v in asked.items() if v is not None}):
        return array_text(namespace.asarray(arr), summary=summary)


def array_repr(
    arr: Any, max_line_width: Any = None, precision: Any = None, suppress_small: Any = None
) -> str:
    """Spell an array as NumPy's `repr` does; only what is shown is computed."""
    return _spelled(arr, True, max_line_width, precision, suppress_small)


def array_str(
    a: Any, max_line_width: Any = None, precision: Any = None, suppress_small: Any = None
) -> str:
    """Spell an array as NumPy's `str` does; only what is shown is computed."""
    return _spelled(a, False, max_line_width, precision, suppress_small)
