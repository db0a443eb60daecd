"""The parts of generated source that reduce short rows, many of them side by side.

A row of three values fills no vector, and a panel of its own costs more than its values. So the
rows of STRIP positions are taken together: the k-th values of all of them lie one after the other,
and are combined with those of another k in one loop. The order within a row is that of
`chunkarr.kernels.reducers`, where lanes that a row does not reach do not exist.
"""

from __future__ import annotations

from chunkarr.kernels.folds import Fold
from chunkarr.kernels.reducers import LANES
from chunkarr.kernels.rows import RowFold, beats

STRIP = 128
"""Positions that are reduced together; their values stay in the first-level cache."""

_FOLD = """@inline
def across_{operation}(lanes, count, width):
    half = {HALF}
    while half:
        for lane in range(count - half):
            for j in range(width):
                near = load(lanes, lane * {STRIP} + j)
                far = load(lanes, (lane + half) * {STRIP} + j)
                store(lanes, lane * {STRIP} + j, {combine})
        count = min(count, half)
        half >>= 1
"""

_TAKE = """
for lane in range(runs):
    for j in range(width):
        store(lanes, lane * {STRIP} + j, {value})
across_{operation}(lanes, runs, width)
"""

_FINISH = """
for j in range(width):
    store(out@0, target + j, {folded})
"""

_ARG = """
for j in range(width):
    store(lanes, j, load(panel, j))
    store(where, j, i8(0))
for lane in range(1, runs):
    for j in range(width):
        value, best = load(panel, lane * {STRIP} + j), load(lanes, j)
        wins = {beats}
        store(lanes, j, value if wins else best)
        store(where, j, lane if wins else load(where, j))
for j in range(width):
    store(out@0, target + j, load(lanes, j))
    store(out@1, target + j, load(where, j))
"""

_MEAN = """
for j in range(width):
    store(mean, j, {folded} / {T}(runs))
"""

_REST = """
for j in range(width):
    store(rest, j, {folded})
"""

_SPREAD = """
for j in range(width):
    squares, part = {folded}, load(rest, j) / {T}(runs)
    excess = load(rest, j) * part
    total = squares - excess if excess < inf else squares
    store(out@0, target + j, runs)
    store(out@1, target + j, load(mean, j))
    store(out@2, target + j, {T}(0) if total < 0 else total)
    store(out@3, target + j, part)
"""


def fold_source(fold: Fold) -> str:
    """Write the function that combines lanes by halves, of all positions at once."""
    combine = fold.combine.format("near", "far")
    return _FOLD.format(operation=fold.operation, combine=combine, HALF=LANES // 2, STRIP=STRIP)


def stacks(kind: str) -> str:
    """Write where values lie, those to be kept and those to be combined, and results."""
    areas = [f"{name} = stack_{kind}({LANES * STRIP})" for name in ("panel", "lanes")]
    areas += [f"{name} = stack_{kind}({STRIP})" for name in ("mean", "rest")]
    return "\n".join([*areas, f"where = stack_i8({STRIP})"])


def reduced(row: RowFold) -> str:
    """Write what one reducer does with the values of all positions."""
    fold = row.fold
    zero = f" + {fold.identity}" if fold.positive_zero else ""
    names = {"STRIP": STRIP, "T": fold.type, "operation": fold.operation}
    names["folded"] = f"(load(lanes, j){zero})"
    value = "load(panel, lane * {STRIP} + j)".format(**names)
    away = f"({value} - load(mean, j))"
    if row.reducer.kind == "arg":
        text = _ARG.format(beats=beats(row.reducer, row.dtype, "value", "best"), **names)
    elif row.reducer.kind == "var":
        steps = ((value, _MEAN), (away, _REST), (f"{away} * {away}", _SPREAD))
        text = "".join((_TAKE + then).format(value=taken, **names) for taken, then in steps)
    else:
        text = (_TAKE + _FINISH).format(value=value, **names)
    return text.replace("@", row.tag)
