"""The parts of generated source that combine values: folds of lanes, merges of variances.

They spell out in scalar code what `chunkarr.kernels.reducers` does with arrays; the order of
operations is the same to the letter, because it decides the bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.kernels.composites import TIMES
from chunkarr.kernels.forms import type_of
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import LANES, Reducer
from chunkarr.records import dataclass

OPERATIONS = (
    *("add", "multiply", "minimum", "maximum", "fmin", "fmax", "or", "and", "xor"),
    *("latest", "earliest", "elapsed"),
)
"""What a panel is folded by; of times: the greatest, where NaT wins, the least but NaT, the sum."""

_NUMBERS = "({0} if {0} == {0} else {1}), ({1} if {1} == {1} else {0})"
"""Two operands, of which a NaN has become the other one."""


@dataclass(frozen=True, slots=True)
class Fold:
    """How a reducer combines two values in generated source."""

    operation: str
    """One of `OPERATIONS`: the function that folds a panel."""
    combine: str
    identity: str
    type: str
    positive_zero: bool = False


_TIME_FOLDS = {
    "minimum": Fold("minimum", "i8({0} if {0} < {1} else {1})", f"i8({(1 << 63) - 1})", "i8"),
    "maximum": Fold("latest", f"i8({TIMES['maximum']})", "i8(nat + 1)", "i8"),
    "fmin": Fold("earliest", f"i8({TIMES['fmin']})", "i8(nat)", "i8"),
    "fmax": Fold("maximum", "i8({0} if {0} > {1} else {1})", "i8(nat)", "i8"),
    "add": Fold("elapsed", f"i8({TIMES['add']})", "i8(0)", "i8"),
}
"""How times are folded: NaT is the least number, and wins, but for fmin and fmax."""


def fold_of(reducer: Reducer, dtype: np.dtype[Any]) -> Fold | None:
    """Give the fold of a reducer over values of `dtype`, None where it does not compile."""
    kind, name = type_of(dtype), reducer.ufunc.__name__
    if reducer.kind == "truth":
        return _truth_fold({"logical_or": "or", "logical_and": "and"}.get(name))
    if dtype.kind in "mM":
        return _TIME_FOLDS.get(name) if reducer.kind == "ufunc" else None
    if kind is None or kind == "f2":
        return None
    if dtype.kind == "c":
        adds = name == "add" and reducer.kind == "ufunc"
        made = Fold("add", "{0} + {1}", f"{kind}(0)", kind, positive_zero=True)
        return made if adds else None
    if dtype.kind == "b":
        operations = dict.fromkeys(("add", "maximum", "fmax", "bitwise_or"), "or")
        operations |= dict.fromkeys(("multiply", "minimum", "fmin", "bitwise_and"), "and")
        return _truth_fold(operations.get(name) if reducer.kind == "ufunc" else None)
    lowest, highest = _limits(dtype)
    if reducer.kind == "arg":
        name = "minimum" if name == "less" else "maximum"
    folds = {
        "add": ("{0} + {1}", "0"),
        "multiply": ("{0} * {1}", "1"),
        "minimum": ("({0} if {0} < {1} else {1})", highest),
        "maximum": ("({0} if {0} > {1} else {1})", lowest),
    }
    if dtype.kind == "f":
        folds["minimum"] = ("fminimum({0}, {1})", highest)
        folds["maximum"] = ("fmaximum({0}, {1})", lowest)
        folds["fmin"] = (f"fminimum({_NUMBERS})", "nan")
        folds["fmax"] = (f"fmaximum({_NUMBERS})", "nan")
    else:
        name = {"fmin": "minimum", "fmax": "maximum"}.get(name, name)
        folds["bitwise_and"] = ("{0} & {1}", str(-1 if dtype.kind == "i" else highest))
        folds["bitwise_or"] = folds["bitwise_xor"] = ("{0} | {1}", "0")
        folds["bitwise_xor"] = ("{0} ^ {1}", "0")
    if name not in folds:
        return None
    combine, identity = folds[name]
    signed_zero = name == "add" and dtype.kind == "f"
    operation = name.removeprefix("bitwise_")
    return Fold(operation, f"{kind}({combine})", f"{kind}({identity})", kind, signed_zero)


def _truth_fold(operation: str | None) -> Fold | None:
    if operation is None:
        return None
    sign, identity = {"or": ("|", 0), "and": ("&", 1)}[operation]
    return Fold(operation, f"u1({{0}} {sign} {{1}})", f"u1({identity})", "u1")


def _limits(dtype: np.dtype[Any]) -> tuple[str, str]:
    if dtype.kind == "f":
        return "-inf", "inf"
    info = np.iinfo(dtype)
    return str(info.min), str(info.max)


def reduces(program: Program, reducers: Sequence[Reducer]) -> bool:
    """Whether reducers compile for a program's result, and take it from the same panel."""
    dtype = program.dtype_of(program.results[0])
    panels = {_panel_type(reducer, dtype) for reducer in reducers}
    return len(panels) == 1 and None not in panels


def _panel_type(reducer: Reducer, dtype: np.dtype[Any]) -> str | None:
    if reducer.kind == "var":
        kind = type_of(dtype)
        return f"{kind} of values" if kind in {"f4", "f8"} else None
    fold = fold_of(reducer, dtype)
    if fold is None:
        return None
    return f"{fold.type} of {'truth' if reducer.kind == 'truth' else 'values'}"


def fold_source(fold: Fold, *, ahead: bool) -> str:
    """Write the function that folds a panel of at most 1024 values.

    Lanes that a short panel does not reach hold the identity, which changes no bits. `ahead` says
    whether panels lie in memory one after the other.
    """
    zero = f" + {fold.identity}" if fold.positive_zero else ""
    return f"""@inline
def total_{fold.operation}(values, count):
    rows = (count + {LANES - 1}) // {LANES}
    for i in range(count, rows * {LANES}):
        store(values, i, {fold.identity})
    return fold_{fold.operation}(values, rows, {ahead}){zero}
"""


VARIANCE = """
@inline
def merge_var(size_a, mean_a, m2_a, low_a, size_b, mean_b, m2_b, low_b):
    weight = f8(size_b) / f8(size_a + size_b)
    delta = (mean_b - mean_a) + (low_b - low_a)
    step = delta * {T}(weight)
    mean = mean_a + step
    back = mean - mean_a
    low = low_a + ((mean_a - (mean - back)) + (step - back))
    m2 = (m2_a + m2_b) + delta * delta * {T}(f8(size_a) * weight)
    return mean, m2, low
@inline
def panel_var(values, count, mean):
    if count == {PANEL}:
        rest, squares = spread(values, {ROWS}, mean, {ahead})
    else:
        deviation = stack_{T}({PANEL})
        square = stack_{T}({PANEL})
        for i in range(count):
            difference = load(values, i) - mean
            store(deviation, i, difference)
            store(square, i, difference * difference)
        rest = total_add(deviation, count)
        squares = total_add(square, count)
    low = rest / {T}(count)
    excess = rest * low
    m2 = squares - excess if excess < inf else squares
    return {T}(0) if m2 < 0 else m2, low
@inline
def column_var(values, rows, width, mean, m2, low):
    for j in range(width):
        store(mean, j, {T}(0))
    for row in range(rows):
        for j in range(width):
            store(mean, j, load(mean, j) + load(values, row * {W} + j))
    for j in range(width):
        store(mean, j, load(mean, j) / {T}(rows))
        store(m2, j, {T}(0))
        store(low, j, {T}(0))
    for row in range(rows):
        for j in range(width):
            difference = load(values, row * {W} + j) - load(mean, j)
            store(low, j, load(low, j) + difference)
            store(m2, j, load(m2, j) + difference * difference)
    for j in range(width):
        rest = load(low, j)
        part = rest / {T}(rows)
        excess = rest * part
        squares = load(m2, j)
        total = squares - excess if excess < inf else squares
        store(low, j, part)
        store(m2, j, {T}(0) if total < 0 else total)
@inline
def merge_columns(left, partials, level, size, width, mean, m2, low):
    base = level * {W} * 3
    for j in range(width):
        mean_j, m2_j, low_j = merge_var(
            left, load(partials, base + j), load(partials, base + {W} + j),
            load(partials, base + 2 * {W} + j), size, load(mean, j), load(m2, j), load(low, j))
        store(mean, j, mean_j)
        store(m2, j, m2_j)
        store(low, j, low_j)
"""
"""Merging and two passes over a panel; T is the type, W the columns of a strip.

Whether panels lie `ahead` is told at `fold_source`.
"""
