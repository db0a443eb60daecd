"""Values looked up in tables or chosen by conditions: searchsorted, digitize, interp, isin, choose.

A small table travels with the elementwise call, a larger one is read by every task.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chunkarr.errors import NotYetError
from chunkarr.expr.affine import Progression
from chunkarr.expr.build import (
    along,
    apply,
    as_expr,
    broadcast_shapes,
    cast,
    cast_lazily,
    constant,
    flatten,
    own,
    stretch,
    where,
)
from chunkarr.expr.calls import Stretches
from chunkarr.expr.edges import Ladder, grouped
from chunkarr.expr.node import Expr
from chunkarr.functions.lanes import lanes
from chunkarr.functions.manipulation import join
from chunkarr.functions.pieces import (
    TABLE_BYTES,
    add,
    call,
    component,
    divide,
    guard,
    interleave,
    less,
    multiply,
    operand,
    span,
    table,
)
from chunkarr.functions.products import SORTED_KINDS, sort

NDArray = npt.NDArray[Any]
Side = Literal["left", "right"]

# -- tables ----------------------------------------------------------------------------------------


def _looked_up(
    name: str, function: Any, values: Expr, tables: Sequence[Any], dtype: Any, **options: Any
) -> Expr:
    """Look values up in tables of one axis: small ones travel with the call, others are operands.

    Every task then reads the tables as a whole.
    """
    held = [table(t) for t in tables]
    if all(t is not None and t.nbytes <= TABLE_BYTES for t in held):
        copies = [t.copy() for t in held if t is not None]
        return call(functools.partial(_look_up, function, copies, options), dtype, values)
    (made,) = lanes(
        _look_up_whole,
        [values, *map(operand, tables)],
        [0, *(1 for _ in tables)],
        [()],
        [np.dtype(dtype)],
        name=name,
        options=(("function", function), *options.items()),
    )
    return made


def _look_up(function: Any, tables: Sequence[NDArray], options: Any, values: NDArray) -> NDArray:
    found: NDArray = function(values, *tables, **options)
    return found


def _look_up_whole(values: NDArray, *tables: NDArray, function: Any, **options: Any) -> NDArray:
    return np.asarray(function(values, *(t.reshape(-1) for t in tables), **options))


def searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Expr:
    """Find places in a sorted array before which values keep it sorted.

    With a `sorter` that and the array fit a task. What is found in an array that is not sorted
    means nothing; a value by itself is then found where NumPy finds it, if the array fits a task.
    """
    values, whole = operand(v), a if isinstance(a, Expr) else np.asarray(a)
    np.searchsorted(np.empty(0, whole.dtype), np.zeros((1,), values.dtype), side)
    if whole.ndim != 1:
        message = "object too deep for desired array"
        raise ValueError(message)
    tables = [whole]
    if sorter is not None:
        tables.append(sorter if isinstance(sorter, Expr) else np.asarray(sorter))
        np.searchsorted(np.zeros(0), np.zeros(0), side, np.zeros(0, tables[1].dtype))
        if tables[1].shape != whole.shape:
            message = "sorter.size must equal len(a)"
            raise ValueError(message)
    held = table(whole)
    if held is not None and held.nbytes <= TABLE_BYTES and sorter is None and _is_sorted(held):
        return _search(values, held, side)
    if sorter is None and whole.nbytes > TABLE_BYTES:
        return _searched("searchsorted", _places, values, operand(whole), np.intp, ("side", side))
    return _looked_up("searchsorted", _searchsorted, values, tables, np.intp, side=side)


def _is_sorted(table: NDArray) -> bool:
    """Whether a table of one axis is in order: in any other, kernels and NumPy part ways."""
    return bool((np.argsort(table, kind="stable") == np.arange(len(table))).all())


def _search(values: Expr, steps: NDArray, side: Side) -> Expr:
    """Find places in a small sorted table."""
    held = np.empty((), object)
    held[()] = Ladder(np.array(steps), side)
    return own("search", np.dtype(np.intp), constant(held), values)


def _searchsorted(values: NDArray, whole: NDArray, sorter: Any = None, *, side: Any) -> NDArray:
    return np.asarray(np.searchsorted(whole, values, side, sorter))


def _searched(
    name: str, function: Any, values: Expr, ordered: Expr, dtype: Any, *options: tuple[str, Any]
) -> Expr:
    """Search a sorted array, of which every task reads the stretches that its values fall in."""
    (made,) = lanes(
        function,
        [values, ordered],
        [0, 1],
        [()],
        [np.dtype(dtype)],
        name=name,
        options=options,
        # Numbers of stretches, their order, and the values in a common dtype.
        scratch=4.0,
        stretched=(1,),
    )
    return made


def _places(values: NDArray, ordered: Stretches, *, side: Side) -> NDArray:
    """Find places in a sorted array."""
    out = np.empty(values.size, np.intp)
    for start, part, which, wanted in _by_stretches(values, ordered, side):
        out[which] = np.searchsorted(part, wanted, side) + start
    return out.reshape(values.shape)


def _by_stretches(
    values: NDArray, ordered: Stretches, side: Side
) -> Iterator[tuple[int, NDArray, NDArray, NDArray]]:
    """Give stretches of a sorted array with the values whose places are in them or at their ends.

    Each comes with its start, its own values, which of the flat `values` fall into it, and those.
    """
    flat, step = values.reshape(-1), ordered.step
    starts = range(step, len(ordered), step)
    fences = np.array([ordered.read(at, at + 1)[0] for at in starts], ordered.read(0, 1).dtype)
    for number, which in grouped(np.searchsorted(fences, flat, side), len(fences)):
        start = number * step
        part = ordered.read(start, min(len(ordered), start + step))
        yield start, part, which, flat[which]


def digitize(x: Expr, bins: Any, right: bool = False) -> Expr:
    """Give the number of the bin of each value; bins may rise or fall."""
    edges = table(bins)
    if edges is not None:
        np.digitize(np.zeros((1,), x.dtype), edges, right)  # NumPy's own errors
        side: Side = "left" if right else "right"
        plain = edges.dtype.kind in "biuf" and not np.isnan(edges).any()
        if plain and edges.nbytes <= TABLE_BYTES:
            if not edges.size or edges[0] <= edges[-1]:
                return _search(x, edges, side)
            return apply("subtract", edges.size, _search(x, edges[::-1], side))
    return _looked_up("digitize", np.digitize, x, [bins], np.intp, right=right)


def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Expr:
    """Interpolate linearly between given points, all of which fit a task."""
    given, options = operand(x), {"left": left, "right": right, "period": period}
    points = [p if isinstance(p, Expr) else np.asarray(p) for p in (xp, fp)]
    held = [table(p) for p in points]
    # NumPy's own errors and dtype, where need be of fewer points.
    shown = held
    if any(t is None for t in held) and points[0].shape == points[1].shape:
        shown = [np.arange(2.0), np.zeros(2, points[1].dtype)]
    made = interpolate(np.zeros((1,), given.dtype), *shown, **options)
    plain = {k: v if v is None else np.asarray(v).item() for k, v in options.items()}
    return _looked_up("interp", interpolate, given, points, made.dtype, **plain)


interpolate: Any = np.interp


def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: Any = None,
) -> Expr:
    """Tell which values are among others; many are sorted first, out of memory if need be."""
    values, tests = operand(element), table(test_elements)
    others = as_expr(test_elements) if tests is None else tests
    # NumPy's own errors.
    np.isin(np.zeros((1,), values.dtype), np.zeros((1,), others.dtype), kind=kind)
    del assume_unique  # an optimisation, and so is `kind`
    flat = flatten(others) if isinstance(others, Expr) else others.ravel()
    if flat.nbytes > TABLE_BYTES and _sorted_alike(values.dtype, flat.dtype):
        ordered = sort(operand(flat))
        return _searched("isin", _among, values, ordered, np.bool_, ("invert", bool(invert)))
    return _looked_up("isin", np.isin, values, [flat], np.bool_, invert=invert)


def _sorted_alike(values: np.dtype[Any], tests: np.dtype[Any]) -> bool:
    """Whether values of both dtypes are equal where they are in the dtype that is common to both.

    That of `int64` and `uint64` cannot tell them all apart, and NumPy's answer depends on how many
    there are.
    """
    if values.kind in "iu" and tests.kind in "iu":
        return np.result_type(values, tests).kind in "iu"
    numbers = values.kind in "biufc" and tests.kind in "biufc"
    return numbers or (values.kind == tests.kind and values.kind in SORTED_KINDS)


def _among(values: NDArray, ordered: Stretches, *, invert: bool) -> NDArray:
    """Tell which values are in a sorted array."""
    out = np.empty(values.size, np.bool_)
    for _, part, which, wanted in _by_stretches(values, ordered, "right"):
        places = np.maximum(np.searchsorted(part, wanted, "right"), 1) - 1
        out[which] = (part[places] == wanted) ^ invert
    return out.reshape(values.shape)


def i0(x: Expr) -> Expr:
    """Give the modified Bessel function of order zero."""
    if x.dtype.kind == "c":
        np.i0(np.zeros((1,), x.dtype))  # NumPy's own error
    return call(np.i0, np.i0(np.zeros((1,), x.dtype)).dtype, x)


def sinc(x: Expr) -> Expr:
    """Give `sin(pi x) / (pi x)`."""
    turned = multiply(np.pi, x)
    near = np.finfo(turned.dtype).eps if turned.dtype.kind == "f" else 1e-20
    turned = where(cast(turned, bool), turned, np.asarray(near, turned.dtype))
    return divide(apply("sin", turned), turned)


def isposinf(x: Expr) -> Expr:
    """Tell where values are plus infinity."""
    return _signed_infinity(x, "logical_not")


def isneginf(x: Expr) -> Expr:
    """Tell where values are minus infinity."""
    return _signed_infinity(x, "positive")


def _signed_infinity(x: Expr, sign: str) -> Expr:
    endless = apply("isinf", x)
    try:
        negative = apply("signbit", x)
    except TypeError as error:
        message = (
            f"This operation is not supported for {x.dtype} values because it would be ambiguous."
        )
        raise TypeError(message) from error
    chosen = apply("logical_not", negative) if sign == "logical_not" else negative
    return apply("logical_and", endless, chosen)


# -- choosing --------------------------------------------------------------------------------------


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Expr:
    """Choose elementwise the first array whose condition is true."""
    if len(condlist) != len(choicelist):
        message = "list of cases must be same length as list of conditions"
        raise ValueError(message)
    if not len(condlist):
        message = "select with an empty condition list is not possible"
        raise ValueError(message)
    choices = [
        c if type(c) in (int, float, complex) else operand(c) for c in (*choicelist, default)
    ]
    kind = np.result_type(*(c.dtype if isinstance(c, Expr) else c for c in choices))
    *picked, out = [
        cast_lazily(c, kind) if isinstance(c, Expr) else constant(c, kind) for c in choices
    ]
    tests = [operand(c) for c in condlist]
    for position, test in enumerate(tests):
        if test.dtype != bool:
            message = f"invalid entry {position} in condlist: should be boolean ndarray"
            raise TypeError(message)
    for test, choice in zip(reversed(tests), reversed(picked), strict=True):
        out = where(test, choice, out)
    shape = broadcast_shapes(out.shape, *(v.shape for v in (*tests, *picked)))
    return stretch(out, shape) if out.shape != shape else out


def choose(a: Any, choices: Any, mode: str = "raise") -> Expr:
    """Choose elementwise the array that a number names."""
    number = operand(a)
    weak = [c if type(c) in (int, float, complex) else operand(c) for c in choices]
    if number.dtype.kind not in "iub":
        np.choose(np.zeros((1,), number.dtype), [0])  # NumPy's own error
    count = len(weak)
    kind = np.result_type(*(c.dtype if isinstance(c, Expr) else c for c in weak))
    parts = [cast_lazily(c, kind) if isinstance(c, Expr) else constant(c, kind) for c in weak]
    number = cast(number, np.intp)
    if mode == "wrap":
        number = apply("remainder", number, count)
    elif mode == "clip":
        number = apply("minimum", apply("maximum", number, 0), count - 1)
    elif mode == "raise":
        wrong = apply("logical_or", less(number, 0), apply("greater_equal", number, count))
        number = guard(number, wrong, ValueError, "invalid entry in choice array")
    else:
        message = f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})"
        raise ValueError(message)
    shape = broadcast_shapes(number.shape, *(p.shape for p in parts))
    out = stretch(parts[-1], shape)
    for position in range(count - 1):
        out = where(apply("equal", number, position), parts[position], out)
    if count == 1:
        # The number takes part, so that one that is out of bounds is found.
        out = where(apply("equal", number, 0), out, out)
    return out


# -- positions -------------------------------------------------------------------------------------


def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Expr:
    """Give positions in the flattened array for one array of places per axis."""
    lengths = (dims,) if np.ndim(dims) == 0 else tuple(dims)
    if isinstance(multi_index, Expr):
        rows = multi_index.shape[0] if multi_index.ndim else 0
        multi_index = [component(multi_index, 0, i) for i in range(rows)]
    places = [operand(p) for p in multi_index]
    modes = (mode,) * len(lengths) if isinstance(mode, str) else tuple(mode)
    if len(places) != len(lengths):
        message = f"parameter multi_index must be a sequence of length {len(lengths)}"
        raise ValueError(message)
    weights = (
        np.cumprod([1, *lengths[:0:-1]])[::-1] if order == "C" else np.cumprod([1, *lengths[:-1]])
    )
    out: Expr | None = None
    for place, n, how, weight in zip(places, lengths, modes, weights.tolist(), strict=True):
        if place.dtype.kind not in "iu":
            message = "only int indices permitted"
            raise TypeError(message)
        at = cast(place, np.intp)
        if how == "wrap":
            at = apply("remainder", at, n)
        elif how == "clip":
            at = apply("minimum", apply("maximum", at, 0), n - 1)
        else:
            wrong = apply("logical_or", less(at, 0), apply("greater_equal", at, n))
            at = guard(at, wrong, ValueError, "invalid entry in coordinates array")
        step = multiply(at, weight)
        out = step if out is None else add(out, step)
    assert out is not None
    return out


def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Expr, ...]:
    """Give one array of places per axis for positions in the flattened array."""
    lengths = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    given = operand(indices)
    if given.dtype.kind not in "iu":
        message = "only int indices permitted"
        raise TypeError(message)
    size = int(np.prod(lengths, dtype=object))
    at = cast(given, np.intp)
    wrong = apply("logical_or", less(at, 0), apply("greater_equal", at, size))
    message = f"an index is out of bounds for array with size {size}"
    at = guard(at, wrong, ValueError, message)
    out = []
    for n in lengths[::-1] if order == "C" else lengths:
        out.append(apply("remainder", at, n))
        at = apply("floor_divide", at, n)
    return tuple(out[::-1] if order == "C" else out)


# -- bits and dates --------------------------------------------------------------------------------


def packbits(a: Expr, /, axis: int | None = None, bitorder: str = "big") -> Expr:
    """Pack each eight truth values along an axis into a byte."""
    a, axis = along(a, axis)
    _check_bits(a, bitorder, "biu", "Expected an input array of integer or boolean data type")
    bits = cast(a, bool)
    missing = -a.shape[axis] % 8
    if missing:
        shape = tuple(missing if i == axis else n for i, n in enumerate(a.shape))
        bits = join([bits, constant(False, shape=shape)], axis, "packbits")
    places = [7 - j if bitorder == "big" else j for j in range(8)]
    count = bits.shape[axis] // 8
    parts = [cast(span(bits, axis, j, count, 8), np.uint8) for j in range(8)]
    shifted = [apply("left_shift", p, np.uint8(s)) for p, s in zip(parts, places, strict=True)]
    return functools.reduce(functools.partial(apply, "bitwise_or"), shifted)


def unpackbits(
    a: Expr, /, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> Expr:
    """Give the eight truth values of each byte along an axis."""
    a, axis = along(a, axis if a.ndim else None)
    if a.dtype != np.uint8:
        message = "Expected an input array of unsigned byte data type"
        raise TypeError(message)
    _check_bits(a, bitorder, "u", "")
    n = a.shape[axis] * 8
    wide = tuple(n if i == axis else m for i, m in enumerate(a.shape))
    whole = [Progression(0, 1, m) for m in wide]
    parts, places = [], []
    for j in range(8):
        shift = np.uint8(7 - j if bitorder == "big" else j)
        parts.append(apply("bitwise_and", apply("right_shift", a, shift), np.uint8(1)))
        places.append((*whole[:axis], Progression(j, 8, a.shape[axis]), *whole[axis + 1 :]))
    out = interleave(parts, places, wide, "unpackbits")
    if count is None:
        return out
    stop = n + count if count < 0 else count
    if stop <= n:
        return span(out, axis, 0, max(0, stop))
    shape = tuple(stop - n if i == axis else m for i, m in enumerate(wide))
    return join([out, constant(np.uint8(0), shape=shape)], axis, "unpackbits")


def _check_bits(a: Expr, bitorder: str, kinds: str, message: str) -> None:
    if not isinstance(bitorder, str):
        wrong = f"bitorder must be a string, not {type(bitorder).__name__}"
        raise TypeError(wrong)
    if bitorder not in ("big", "little"):
        wrong = "'order' must be either 'little' or 'big'"
        raise ValueError(wrong)
    if a.dtype.kind not in kinds:
        raise TypeError(message)


def called(function: Any, count: int, *args: Any, **kwargs: Any) -> Expr:
    """Apply a NumPy function that is elementwise in its first `count` arguments."""
    operands = [operand(a) for a in args[:count]]
    options = dict(kwargs)
    probe = function(*(np.ones((1,), o.dtype) for o in operands), *args[count:], **options)
    held = functools.partial(_called, function, args[count:], options)
    return call(held, probe.dtype, *operands)


def _called(function: Any, rest: Any, options: Any, *operands: NDArray) -> NDArray:
    made: NDArray = function(*operands, *rest, **options)
    return made


def datetime_as_string(
    arr: Any, unit: Any = None, timezone: Any = "naive", casting: Any = "same_kind"
) -> Expr:
    """Spell dates as texts."""
    if unit == "auto":
        message = "datetime_as_string with unit='auto' looks at all values at once"
        raise NotYetError(message)
    return called(np.datetime_as_string, 1, arr, unit=unit, timezone=timezone, casting=casting)


def is_busday(
    dates: Any, weekmask: Any = "1111100", holidays: Any = None, busdaycal: Any = None
) -> Expr:
    """Tell which days are business days."""
    return called(np.is_busday, 1, _days(dates), **_calendar(weekmask, holidays, busdaycal))


def busday_count(
    begindates: Any,
    enddates: Any,
    weekmask: Any = "1111100",
    holidays: Any = (),
    busdaycal: Any = None,
) -> Expr:
    """Count the business days between dates."""
    calendar = _calendar(weekmask, holidays, busdaycal)
    return called(np.busday_count, 2, _days(begindates), _days(enddates), **calendar)


def busday_offset(
    dates: Any,
    offsets: Any,
    roll: Any = "raise",
    weekmask: Any = "1111100",
    holidays: Any = None,
    busdaycal: Any = None,
) -> Expr:
    """Move dates by business days."""
    calendar = _calendar(weekmask, holidays, busdaycal)
    days = operand(_days(dates))
    if days.dtype.kind == "M" and days.dtype != np.dtype("M8[D]"):
        days = cast(days, "M8[D]")
    kind = np.dtype("M8[D]")
    held = functools.partial(_called, np.busday_offset, (), {"roll": roll, **calendar})
    return call(held, kind, days, cast(operand(offsets), np.int64))


def _days(dates: Any) -> Any:
    """Read texts and Python's dates, which NumPy takes where they are no arrays."""
    plain = isinstance(dates, Expr | np.ndarray | np.generic)
    return dates if plain else np.asarray(dates, "M8[D]")


def _calendar(weekmask: Any, holidays: Any, busdaycal: Any) -> dict[str, Any]:
    if busdaycal is not None:
        return {"busdaycal": busdaycal}
    free = () if holidays is None else holidays
    return {"weekmask": weekmask, "holidays": np.asarray(free, "M8[D]")}


# -- polynomials and order -------------------------------------------------------------------------


def polyval(p: Any, x: Any) -> Any:
    """Evaluate a polynomial of few coefficients, highest power first; of a `poly1d` gives one."""
    if isinstance(x, np.poly1d):
        return np.polyval(p, x)
    coefficients, values = np.asarray(p), operand(x)
    if coefficients.ndim != 1 or coefficients.dtype == object:
        message = "polyval of coefficients in more than one axis runs on small arrays only"
        raise NotYetError(message)
    out: Expr = constant(np.zeros((), values.dtype), shape=values.shape)
    for coefficient in coefficients:
        out = add(multiply(out, values), constant(coefficient))
    return out


def sort_complex(a: Expr) -> Expr:
    """Sort along the last axis, by real parts first, and give complex values."""
    made = sort(a)
    return cast(made, np.sort_complex(np.zeros((1,), a.dtype)).dtype)
