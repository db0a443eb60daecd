"""The table of NumPy's functions that are made of others: name, function of expressions, options.

Small arrays in memory go to NumPy at once; everything else becomes an expression. A name that has
no bounded form yet runs on small arrays only and says so for others: nothing is gathered silently.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from chunkarr import corners, counting, namespace, sets, shaping, tricks, userfuncs
from chunkarr.arrays import Array
from chunkarr.dispatch import (
    NO_VALUE,
    arrays_in,
    computed,
    convert,
    give,
    lift,
    ndarray_of,
    no_out,
    numpy_into,
    small,
    store_out,
)
from chunkarr.errors import NotYetError
from chunkarr.exchange import from_dlpack
from chunkarr.expr.build import constant
from chunkarr.expr.node import Expr
from chunkarr.functions import (
    contractions,
    fancy,
    lookup,
    orders,
    padding,
    ranks,
    shapes,
    statistics,
    windows,
)
from chunkarr.functions.pieces import TABLE_BYTES
from chunkarr.settings import settings
from chunkarr.signatures import Told
from chunkarr.ufuncs import TABLE as UFUNC_TABLE
from chunkarr.whole import at_once

Function = Callable[..., Any]


class Row(NamedTuple):
    """How a function of expressions becomes public."""

    function: Function
    arrays: int = 1
    """How many leading arguments are array-like."""
    tables: tuple[str, ...] = ()
    """Arguments that are small: their values are computed at the call."""
    decides: tuple[str, ...] = ()
    """Arguments that decide about the result's shape: computed at the call whatever their size."""
    scalar: bool = False
    """Whether a result without axes is a NumPy scalar."""
    grows: bool = False
    """Whether small arguments may have a large result."""
    copies: float = 0
    """Where there is no bounded form, run NumPy's if so many copies of the arguments fit."""
    boxed: tuple[str, ...] = ()
    """Arguments that, where they are given, leave a result without axes an array."""


TABLE: dict[str, Row] = {
    "append": Row(shapes.append, 2),
    "block": Row(shapes.block, 0),
    "column_stack": Row(shapes.column_stack, 0),
    "delete": Row(shapes.delete, decides=("obj",)),
    "diagflat": Row(shapes.diagflat, grows=True),
    "dstack": Row(shapes.dstack, 0),
    "insert": Row(shapes.insert, decides=("obj",), grows=True),
    "pad": Row(
        padding.pad,
        tables=("pad_width", "constant_values", "end_values", "stat_length"),
        grows=True,
        copies=4,
    ),
    "repeat": Row(shapes.repeat, decides=("repeats",), grows=True),
    "resize": Row(shapes.resize, tables=("new_shape",), grows=True),
    "tile": Row(shapes.tile, tables=("reps",), grows=True),
    "tril": Row(shapes.tril, grows=True),
    "triu": Row(shapes.triu, grows=True),
    "vander": Row(shapes.vander, grows=True),
    "convolve": Row(contractions.convolve, 2, copies=4),
    "correlate": Row(contractions.correlate, 2, copies=4),
    "cross": Row(contractions.cross, 2),
    "einsum": Row(contractions.einsum, 0, scalar=True, grows=True),
    "inner": Row(contractions.inner, 2, scalar=True, grows=True),
    "kron": Row(contractions.kron, 2, grows=True),
    "outer": Row(contractions.outer, 2, grows=True),
    "tensordot": Row(contractions.tensordot, 2, tables=("axes",), grows=True),
    "argpartition": Row(orders.argpartition, tables=("kth",)),
    "argsort": Row(orders.argsort),
    "lexsort": Row(orders.lexsort, 0, scalar=True),
    "partition": Row(orders.partition, tables=("kth",)),
    "average": Row(statistics.average, scalar=True),
    "corrcoef": Row(statistics.corrcoef, scalar=True),
    "cov": Row(statistics.cov),
    "cumulative_prod": Row(statistics.cumulative_prod),
    "cumulative_sum": Row(statistics.cumulative_sum),
    "diff": Row(statistics.diff),
    "ediff1d": Row(statistics.ediff1d),
    "gradient": Row(statistics.gradient),
    "median": Row(ranks.median, scalar=True),
    "nanargmax": Row(statistics.nanargmax, scalar=True),
    "nanargmin": Row(statistics.nanargmin, scalar=True),
    "nancumprod": Row(statistics.nancumprod),
    "nancumsum": Row(statistics.nancumsum),
    "nanmax": Row(statistics.nanmax, scalar=True),
    "nanmean": Row(statistics.nanmean, scalar=True),
    "nanmedian": Row(ranks.nanmedian, scalar=True),
    "nanmin": Row(statistics.nanmin, scalar=True),
    "nanpercentile": Row(ranks.nanpercentile, tables=("q",), scalar=True, boxed=("weights",)),
    "nanprod": Row(statistics.nanprod, scalar=True),
    "nanquantile": Row(ranks.nanquantile, tables=("q",), scalar=True, boxed=("weights",)),
    "nanstd": Row(statistics.nanstd, scalar=True),
    "nansum": Row(statistics.nansum, scalar=True),
    "nanvar": Row(statistics.nanvar, scalar=True),
    "percentile": Row(ranks.percentile, tables=("q",), scalar=True, boxed=("weights",)),
    "quantile": Row(ranks.quantile, tables=("q",), scalar=True, boxed=("weights",)),
    "trace": Row(statistics.trace, scalar=True),
    "trapezoid": Row(statistics.trapezoid, scalar=True),
    "unwrap": Row(statistics.unwrap),
    "choose": Row(lookup.choose),
    "digitize": Row(lookup.digitize, tables=("bins",), scalar=True),
    "i0": Row(lookup.i0),
    "interp": Row(lookup.interp, tables=("xp", "fp", "left", "right", "period"), scalar=True),
    "isin": Row(lookup.isin, tables=("test_elements",)),
    "isneginf": Row(lookup.isneginf, scalar=True),
    "isposinf": Row(lookup.isposinf, scalar=True),
    "ravel_multi_index": Row(lookup.ravel_multi_index, 0, tables=("dims",), scalar=True),
    "searchsorted": Row(lookup.searchsorted, 0, tables=("a", "sorter"), scalar=True),
    "select": Row(lookup.select, 0),
    "sinc": Row(lookup.sinc, scalar=True),
    "take": Row(fancy.take, 2, scalar=True, grows=True),
    "packbits": Row(lookup.packbits),
    "unpackbits": Row(lookup.unpackbits),
    "busday_count": Row(lookup.busday_count, 0, scalar=True),
    "busday_offset": Row(lookup.busday_offset, 0, scalar=True),
    "datetime_as_string": Row(lookup.datetime_as_string, scalar=True, copies=16),
    "is_busday": Row(lookup.is_busday, 0, scalar=True),
    "polyval": Row(lookup.polyval, 0, tables=("p",), scalar=True),
    "sort_complex": Row(lookup.sort_complex),
    "unravel_index": Row(lookup.unravel_index, tables=("shape",), scalar=True),
}

MAKERS: dict[str, Function] = {
    "bartlett": windows.bartlett,
    "blackman": windows.blackman,
    "geomspace": windows.geomspace,
    "hamming": windows.hamming,
    "hanning": windows.hanning,
    "indices": tricks.indices,
    "kaiser": windows.kaiser,
    "logspace": windows.logspace,
    "tri": shapes.tri,
}
"""Functions that make arrays from numbers."""

OBJECTS = ("c_", "mgrid", "ndenumerate", "ogrid", "r_")

HANDLES = [
    "argwhere",
    "array_repr",
    "array_str",
    "asarray_chkfinite",
    "asfortranarray",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "compress",
    "copyto",
    "diag",
    "dsplit",
    "extract",
    "fill_diagonal",
    "flatnonzero",
    "hsplit",
    "meshgrid",
    "nonzero",
    "piecewise",
    "place",
    "put",
    "put_along_axis",
    "putmask",
    "real_if_close",
    "require",
    "rollaxis",
    "rot90",
    "take_along_axis",
    "trim_zeros",
    "unstack",
    "vsplit",
]
"""Functions of the handle, in `shaping`."""

COUNTS = ["bincount", "histogram", "histogram2d", "histogram_bin_edges", "histogramdd"]
"""Functions in `counting`."""

SETS = [
    "intersect1d",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]
"""Functions in `sets`."""

USERS = ["apply_along_axis", "frompyfunc", "vectorize"]
"""Functions in `userfuncs`."""

CORNERS = [
    "diag_indices",
    "diag_indices_from",
    "mask_indices",
    "tril_indices",
    "tril_indices_from",
    "triu_indices",
    "triu_indices_from",
]
"""Functions in `corners`."""

PLAIN = ["common_type", "einsum_path", "fromiter", "fromstring", "ix_"]
"""Functions whose result NumPy makes from shapes and dtypes, or from what is in memory."""

WHOLE: dict[str, float | Callable[[int], float]] = {
    "array2string": 2,
    "poly": 4,
    "polyadd": 4,
    "polyder": 4,
    "polydiv": 4,
    "polyfit": 16,
    "polyint": 4,
    "polymul": 4,
    "polysub": 4,
    "roots": lambda size: 2 * size,
}
"""Functions that see all values at once, and how many copies of them NumPy's work takes."""


def near(arrays: Iterable[Array]) -> bool:
    """Whether arrays, computed, are small enough for NumPy."""
    room = settings().eager_bytes
    return room > 0 and sum(array.nbytes for array in arrays) <= room


def _table(value: Any, most: int) -> Any:
    """Compute the arrays in an argument that are of at most so many bytes."""
    return convert(value, functools.partial(computed, most=most))


class RowTold(Told):
    """What a row and signatures say of the arguments of a function."""

    def __init__(self, row: Row, numpy_function: Function) -> None:
        super().__init__(row.function, numpy_function)
        self.most = dict.fromkeys(row.tables, TABLE_BYTES) | dict.fromkeys(row.decides, sys.maxsize)
        """Arguments that are computed, and up to which size."""

    @functools.cached_property
    def places(self) -> dict[int, int]:
        """Where those arguments are, and up to which size they are computed."""
        if not self.most:
            return {}
        order = list(self.own.parameters)
        return {order.index(name): size for name, size in self.most.items() if name in order}

    @functools.cached_property
    def out_at(self) -> int:
        """At which position `out` may be given."""
        known = self.numpys is not None and "out" in self.order
        return self.order.index("out") if known else sys.maxsize


def public(name: str, row: Row) -> Function:
    """Make a public function of arrays from a function of expressions."""
    numpy_function = getattr(np, name)
    lazy = lift(
        row.function, numpy_function, scalar=row.scalar, convert_first=row.arrays, eager=False
    )
    told = RowTold(row, numpy_function)
    most = told.most

    @functools.wraps(row.function)
    def made(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None and not told.takes_out:
            raise no_out(name)
        if isinstance(out, tuple):
            message = "return arrays must be of ArrayType"
            raise TypeError(message)
        given = list(args)
        if len(args) > 1 and len(args) > told.out_at:
            given, (out, *rest) = given[: told.out_at], given[told.out_at :]
            kwargs |= dict(zip(told.order[told.out_at + 1 :], rest, strict=False))
        for i, limit in told.places.items():
            if i < len(given):
                given[i] = _table(given[i], limit)
        named = {k: _table(v, most[k]) if k in most else v for k, v in kwargs.items()}
        arrays = arrays_in((*given, *named.values()))
        here = small(arrays)
        if here and most:  # not with a table that was too large
            here = not any(isinstance(value, Expr) for value in (*given, *named.values()))
        objects = any(array.dtype.hasobject for array in arrays)
        if here and (objects or not (row.grows and _large(lazy, given, named))):
            plain = [convert(a, ndarray_of) for a in given]
            options = {k: convert(v, ndarray_of) for k, v in named.items()}
            if out is not None:
                return numpy_into(numpy_function, plain, options, out)
            result = give(_own(numpy_function(*plain, **options)))
        else:
            try:
                if out is not None:
                    return lazy(*given, out=out, **named)
                result = lazy(*given, **named)
            except NotYetError:
                if not row.copies and not near(arrays):
                    raise
                result = at_once(name, numpy_function, row.copies)(*given, **named)
            if any(named.get(key) is not None for key in row.boxed):
                result = result[...]
        return result if out is None else store_out(result, out)

    made.__name__ = made.__qualname__ = name
    made.__module__ = "chunkarr"
    told.describe(made)
    return made


def _large(lazy: Function, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the result is more than small; NumPy words the errors."""
    try:
        result = lazy(*args, **kwargs)
    except Exception:  # noqa: BLE001 - whatever is wrong, NumPy says it better
        return False
    parts = result if isinstance(result, tuple) else (result,)
    return bool(sum(part.nbytes for part in parts) > settings().eager_bytes)


def _own(result: Any) -> Any:
    """Copy a result that looks into an argument."""
    return result.copy() if isinstance(result, np.ndarray) and result.base is not None else result


def _plain(name: str) -> Function:
    numpy_function = getattr(np, name)

    def shown(array: Array) -> Any:
        return (
            array.compute()
            if name == "ix_"
            else np.broadcast_to(np.zeros((), array.dtype), array.shape)
        )

    @functools.wraps(numpy_function)
    def made(*args: Any, **kwargs: Any) -> Any:
        return give(numpy_function(*(convert(a, shown) for a in args), **kwargs))

    made.__doc__ = f"Run `numpy.{name}`, which asks for no elements."
    made.__module__ = "chunkarr"
    return made


def _looking(computing: Function) -> Function:
    """Make `einsum`, which is a view where it only names the axes of one array anew."""

    @functools.wraps(computing)
    def einsum(*operands: Any, out: Any = None, **kwargs: Any) -> Any:
        whole = [v for v in operands if isinstance(v, Array)]
        if len(whole) == 1 and whole[0].ndim and out is None and not kwargs.get("dtype"):
            shown = convert(operands, lambda array: constant(0, shape=array.shape))
            lens = contractions.looking(shown)
            if lens is not None:
                return whole[0].view_through(lens)
        return computing(*operands, out=out, **kwargs)

    return einsum


def array_equiv(a1: Any, a2: Any) -> bool:
    """Tell whether arrays have the same elements once stretched to one shape."""
    left, right = namespace.asarray(a1), namespace.asarray(a2)
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        return False
    return bool((left == right).all())


def where(condition: Any, x: Any = NO_VALUE, y: Any = NO_VALUE, /) -> Any:
    """Choose elementwise between two arrays, or give the places where a condition is true."""
    if x is NO_VALUE and y is NO_VALUE:
        return shaping.nonzero(condition)
    if x is NO_VALUE or y is NO_VALUE:
        message = "either both or neither of x and y should be given"
        raise ValueError(message)
    return _where(condition, x, y)


_where = namespace.where


def fix(x: Any, out: Any = None) -> Any:
    """Round towards zero."""
    return UFUNC_TABLE["trunc"](x, out=out)


def apply_over_axes(func: Function, a: Any, axes: Any) -> Any:
    """Apply a reduction over axes one after the other, keeping them."""
    value: Any = namespace.asarray(a)
    for axis in axes if np.ndim(axes) else (axes,):
        number = axis + value.ndim if axis < 0 else axis
        reduced = func(value, number)
        if reduced.ndim != value.ndim:
            reduced = namespace.expand_dims(reduced, number)
            if reduced.ndim != value.ndim:
                message = "function is not returning an array of the correct shape"
                raise ValueError(message)
        value = reduced
    return value


def functions() -> dict[str, Any]:
    """Give everything that the catalogue adds to the namespace."""
    made: dict[str, Any] = {name: public(name, row) for name, row in TABLE.items()}
    for name, function in MAKERS.items():
        made[name] = namespace._maker(function, getattr(np, name))  # noqa: SLF001
    for name in OBJECTS:
        made[name] = getattr(tricks, name)
    made.update({name: getattr(shaping, name) for name in HANDLES})
    made.update({name: getattr(counting, name) for name in COUNTS})
    made.update({name: getattr(sets, name) for name in SETS})
    made.update({name: getattr(corners, name) for name in CORNERS})
    made.update({name: _plain(name) for name in PLAIN})
    made.update({name: at_once(name, getattr(np, name), n) for name, n in WHOLE.items()})
    made |= {
        "array_equiv": array_equiv,
        "from_dlpack": from_dlpack,
        "apply_over_axes": apply_over_axes,
        "fix": fix,
        "fromfunction": tricks.fromfunction,
        "where": where,
    }
    made["einsum"] = _looking(made["einsum"])
    made["row_stack"] = namespace.vstack
    made.update({name: getattr(userfuncs, name) for name in USERS})
    own = ("array_equiv", "from_dlpack", "apply_over_axes", "fix", "fromfunction", "where")
    for name in (*HANDLES, *COUNTS, *SETS, *CORNERS, *USERS, *own):
        made[name].__module__ = "chunkarr"
    return made


def attach() -> None:
    """Put the functions into the namespace; names that are there already stay."""
    for name, value in functions().items():
        if name == "where" or not hasattr(namespace, name):
            setattr(namespace, name, value)
