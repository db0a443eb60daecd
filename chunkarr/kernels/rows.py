"""The parts of generated source in which a reducer takes the panels of a row, one after the other.

Several reducers may take the same panels: a row is read, and its values are computed, once for all
of them. Each has names of its own then, which end in its tag, and does what it does alone, so that
it gives the same bits in any company.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.kernels.folds import Fold, fold_of
from chunkarr.kernels.forms import cast_form, type_of
from chunkarr.kernels.reducers import LANES, PANEL, Reducer
from chunkarr.records import dataclass

STACK = 64
"""Levels of the tree of panels: more than the bits of a number of panels."""

_VAR_PANEL = """
mean@ = folded_add / {T}(held)
m2@, low@ = panel_var(values, held, mean@)
size@ = held
level = 0
carry = count
while carry & 1:
    left = {PANEL} << level
    mean@, m2@, low@ = merge_var(left, load(means@, level), load(squares@, level), load(lows@, level), size@, mean@, m2@, low@)
    size@ += left
    carry >>= 1
    level += 1
store(sizes@, level, size@)
store(means@, level, mean@)
store(squares@, level, m2@)
store(lows@, level, low@)
"""  # noqa: E501 - generated source

_VAR_FINISH = """
size@ = load(sizes@, level)
mean@ = load(means@, level)
m2@ = load(squares@, level)
low@ = load(lows@, level)
rest >>= 1
level += 1
while rest:
    if rest & 1:
        left = load(sizes@, level)
        mean@, m2@, low@ = merge_var(left, load(means@, level), load(squares@, level), load(lows@, level), size@, mean@, m2@, low@)
        size@ += left
    rest >>= 1
    level += 1
store(out@0, position, size@)
store(out@1, position, mean@)
store(out@2, position, m2@)
store(out@3, position, low@)
"""  # noqa: E501 - generated source

_ARG_PANEL = """
wins = {beats}
if count == 0 or wins:
    place = find(values, (held + {LANES} - 1) // {LANES}, {folded})
    best@ = load(values, place)
    where@ = count * {PANEL} + place
"""

_PANEL = """
value@ = {folded}
level = 0
carry = count
while carry & 1:
    value@ = {combine}
    carry >>= 1
    level += 1
store(partials@, level, value@)
"""

_FINISH = """
value@ = load(partials@, level)
rest >>= 1
level += 1
while rest:
    if rest & 1:
        value@ = {combine}
    rest >>= 1
    level += 1
store(out@0, position, value@)
"""

_LAST = "rest = count\nlevel = 0\nwhile rest & 1 == 0:\n    rest >>= 1\n    level += 1\n"


def stored(reducer: Reducer, dtype: np.dtype[Any], value: str) -> str:
    """Convert a program's result to what a panel holds for a reducer."""
    if reducer.kind == "truth" and dtype.kind != "b":
        return f"u1({cast_form(value, dtype, np.dtype(bool))})"
    return f"u1({value})" if dtype.kind == "b" else value


def storage(dtype: np.dtype[Any]) -> str:
    """Name the type that values of a dtype have in memory."""
    kind = type_of(dtype)
    assert kind is not None
    return {"b1": "u1", "f2": "u2"}.get(kind, kind)


def beats(reducer: Reducer, dtype: np.dtype[Any], value: str, best: str) -> str:
    """Write whether a value is in front of the best one so far; NaN is in front of all."""
    sign = "<" if reducer.ufunc is np.less else ">"
    if dtype.kind != "f":
        return f"{value} {sign} {best}"
    return f"({value} {sign} {best}) | (({value} != {value}) & ({best} == {best}))"


def fold_for(reducer: Reducer, dtype: np.dtype[Any]) -> Fold:
    """Give the fold of a reducer that compiles; a variance adds up."""
    fold = fold_of(Reducer("sum", "ufunc", np.add) if reducer.kind == "var" else reducer, dtype)
    assert fold is not None
    return fold


@dataclass(frozen=True, slots=True)
class RowFold:
    """Writes what one reducer does; the lines are put into the loops of a row kernel."""

    reducer: Reducer
    dtype: np.dtype[Any]
    tag: str = ""

    @property
    def fold(self) -> Fold:
        """How two values are combined."""
        return fold_for(self.reducer, self.dtype)

    def _named(self, text: str) -> str:
        return text.replace("@", self.tag)

    def states(self) -> list[str]:
        """Give the types of what is left of a row."""
        return [storage(dtype) for dtype in self.reducer.state_dtypes(self.dtype)]

    def stacks(self) -> str:
        """Write where partial results wait."""
        kind = self.fold.type
        held = {
            "var": (("sizes", "i8"), ("means", kind), ("squares", kind), ("lows", kind)),
            "arg": (),
        }.get(self.reducer.kind, (("partials", kind),))
        return "\n".join(f"{name}{self.tag} = stack_{entry}({STACK})" for name, entry in held)

    def begin(self) -> str:
        """Write what precedes the first panel of a row."""
        if self.reducer.kind != "arg":
            return ""
        return self._named(f"best@ = {self.fold.identity}\nwhere@ = 0")

    def panel(self) -> str:
        """Write what is done with a panel, whose fold by the operation is there already."""
        fold = self.fold
        if self.reducer.kind == "var":
            return self._named(_VAR_PANEL.format(PANEL=PANEL, T=fold.type))
        folded = f"folded_{fold.operation}"
        if self.reducer.kind == "arg":
            wins = beats(self.reducer, self.dtype, folded, "best@")
            return self._named(
                _ARG_PANEL.format(beats=wins, folded=folded, PANEL=PANEL, LANES=LANES)
            )
        combine = fold.combine.format("load(partials@, level)", "value@")
        return self._named(_PANEL.format(combine=combine, folded=folded))

    def finish(self) -> str:
        """Write what follows the last panel of a row."""
        if self.reducer.kind == "arg":
            return self._named("store(out@0, position, best@)\nstore(out@1, position, where@)")
        if self.reducer.kind == "var":
            return self._named(_LAST + _VAR_FINISH)
        combine = self.fold.combine.format("load(partials@, level)", "value@")
        return self._named(_LAST + _FINISH.format(combine=combine))
