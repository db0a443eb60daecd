"""Turns a program, a way to reduce it and a memory layout into the source of one Numba function.

Every kernel has the C signature `void kernel(int64 *p)`. `p` holds a header, the operands'
addresses, the byte strides along the inner loop, and the outer axes as an odometer (length,
counter, byte stride of each operand), which the kernel itself turns. The inner loop is specialised
by operand: "u" (contiguous), "s" (one value), "g" (any stride), "n" (contiguous results that are
written past the caches, see `chunkarr.kernels.streams`).

Reductions accumulate on the stack, in the canonical order of `chunkarr.kernels.reducers`: the
compiler knows that no input overlaps the stack, and vectorises without checks. Whole panels of a
row are folded as they are evaluated; the rest, and what needs two passes, goes through a panel in
memory that never leaves the first-level cache.

Names the source may use are defined in `chunkarr.kernels.compile`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.kernels import cores, lanes
from chunkarr.kernels.counting import SOURCES
from chunkarr.kernels.folds import VARIANCE, Fold, fold_source
from chunkarr.kernels.forms import form, type_of
from chunkarr.kernels.reducers import PANEL, PANEL_ROWS, ROWS, Reducer
from chunkarr.kernels.rows import RowFold, beats, fold_for, storage, stored
from chunkarr.kernels.signals import Watch
from chunkarr.kernels.spec import (
    KEPT_AXES,
    LENGTH,
    LINE_BYTES,
    OPERANDS,
    POSITIONS,
    RUN_AXES,
    RUNS,
    SCRATCH,
    STATES,
    Spec,
)


def source_of(spec: Spec) -> str:
    """Write the source of a kernel; the program and reducer must compile."""
    if spec.mode in SOURCES:
        return SOURCES[spec.mode].format(T=type_of(spec.dtype)).lstrip("\n")
    writer = _Writer(spec)
    if spec.mode == "map":
        writer.map()
    elif spec.mode == "row":
        writer.rows()
    elif spec.mode == "lanes":
        writer.lanes_of_rows()
    else:
        writer.columns()
    return "\n".join(writer.lines) + "\n"


class _Writer:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.count = len(spec.classes)
        """Operands whose addresses move: inputs, and outputs of a map."""
        self._sides = [Watch(side.program) for side in spec.core.sides] if spec.core else []
        self.watch = Watch(spec.program, self._sides)
        self.lines: list[str] = []
        self.depth = 0

    def put(self, text: str) -> None:
        """Add lines at the current depth; a line's own indentation counts from there."""
        for line in text.strip("\n").splitlines():
            self.lines.append("    " * self.depth + line)

    def map(self) -> None:
        """Write a kernel that stores the results."""
        self._open()
        self.put(f"for position in range(load(p, {POSITIONS})):")
        self.depth += 1
        self._pointers()
        if self.spec.streams:
            self._stream()
        else:
            self.put("for i in range(length):")
            self.depth += 1
            self._results("i")
            self.depth -= 1
        self._turn("kept_axes", "kept_base")
        self.depth -= 1
        if self.spec.streams:
            self.put("settled(p)")
        self.put(self.watch.close())

    def _results(self, index: str) -> None:
        """Write the program for one element, and what stores its results."""
        program = self.spec.program
        values = self._body(index)
        for place, result in enumerate(program.results, len(program.inputs)):
            kind = type_of(program.dtype_of(result))
            value = {"b1": "u1({})", "f2": "to_half({})"}.get(kind or "", "{}")
            value = value.format(values[result])
            store = {
                "n": f"store(lines, i, {value})",
                "u": f"store(q{place}, {index}, {value})",
            }.get(self.spec.classes[place], f"store_at(q{place}, {index} * s{place}, {value})")
            self.put(store)

    def _stream(self) -> None:
        """Write the loop whose only result goes past the caches, from a whole line on."""
        program = self.spec.program
        place, kind = len(program.inputs), storage(self.spec.dtype)
        self.put(f"block = stack_{kind}({LINE_BYTES})\nhead = min(length, ahead(q{place}))")
        self.put("start = 0\nwhile start < length:")
        self.depth += 1
        self.put("step = head if start < head else length - start")
        self.put(f"lines = aligned(block if start < head else advance(q{place}, start))")
        self.put("for i in range(step):")
        self.depth += 1
        self._results("(start + i)")
        self.depth -= 1
        self.put("for i in range(head if start < head else 0):")
        self.put(f"    store(q{place}, i, load(block, i))")
        self.put("start += step")
        self.depth -= 1

    def rows(self) -> None:
        """Write a kernel that reduces runs of values to one state for each outer position."""
        spec, folds = self.spec, self._row_folds()
        operations = {fold.fold.operation: fold.fold for fold in folds}
        for fold in operations.values():
            self.put(fold_source(fold, ahead=self._plain))
        kind = self._fold_type()
        if any(reducer.kind == "var" for reducer in spec.reducers):
            self.put(self._variance(kind))
        self._open()
        self.put(f"panel = stack_{kind}({PANEL})")
        self.put("\n".join(row.stacks() for row in folds))
        self._states(folds)
        self.put(f"runs = load(p, {RUNS})\nfor position in range(load(p, {POSITIONS})):")
        self.depth += 1
        self.put("held = 0\ncount = 0")
        for row in folds:
            self.put(row.begin())
        self.put("for run in range(runs):")
        self.depth += 1
        self._pointers()
        self.put("start = 0\nwhile start < length:")
        self.depth += 1
        self._fill_panel()
        self.put("held += step\nstart += step")
        self.put(f"if held == {PANEL} or (start == length and run == runs - 1):")
        self.depth += 1
        for name in operations:
            self.put(f"folded_{name} = total_{name}(values, held)")
        for row in folds:
            self.put(row.panel())
        self.put("count += 1\nheld = 0")
        self.depth -= 2
        self._turn("run_axes", "run_base")
        self.depth -= 1
        for row in folds:
            self.put(row.finish())
        self._turn("kept_axes", "kept_base")
        self.depth -= 1
        self.put(self.watch.close())

    def lanes_of_rows(self) -> None:
        """Write a kernel that reduces short rows of values, those of many positions at once."""
        folds = self._row_folds()
        for fold in {fold.fold.operation: fold.fold for fold in folds}.values():
            self.put(lanes.fold_source(fold))
        self._open()
        self.put(lanes.stacks(self._fold_type()))
        self._states(folds)
        self.put(f"runs = load(p, {RUNS})\nfor position in range(load(p, {POSITIONS})):")
        self.depth += 1
        self.put("first = 0\nwhile first < length:")
        self.depth += 1
        self.put(f"width = min({lanes.STRIP}, length - first)\nfor lane in range(runs):")
        self.depth += 1
        self._pointers()
        self.put("for j in range(width):")
        self.depth += 1
        value = self._body("(first + j)")[self.spec.program.results[0]]
        self.put(f"store(panel, lane * {lanes.STRIP} + j, {self._stored(value)})")
        self.depth -= 1
        self._turn("run_axes", "run_base")
        self.depth -= 1
        self.put("target = position * length + first")
        for row in folds:
            self.put(lanes.reduced(row))
        self.put("first += width")
        self.depth -= 1
        self._turn("kept_axes", "kept_base")
        self.depth -= 1
        self.put(self.watch.close())

    def _row_folds(self) -> list[RowFold]:
        reducers = self.spec.reducers
        tags = [f"_{k}_" for k in range(len(reducers))] if len(reducers) > 1 else [""]
        return [
            RowFold(reducer, self.spec.dtype, tag)
            for reducer, tag in zip(reducers, tags, strict=True)
        ]

    def _states(self, folds: list[RowFold]) -> None:
        """Write where states lie; those of several reducers are in a table."""
        table, base = "p", STATES
        if len(folds) > 1:
            table, base = "states", 0
            self.put(f"states = pointer_i8(load(p, {SCRATCH}))")
        for fold in folds:
            for place, entry in enumerate(fold.states()):
                self.put(f"out{fold.tag}{place} = pointer_{entry}(load({table}, {base}))")
                base += 1

    def _fill_panel(self) -> None:
        """Write the loop that evaluates what fits the panel; a whole one may be there already."""
        self.put(f"step = min({PANEL} - held, length - start)")
        if self._plain:
            self.put(f"if step == {PANEL}:\n    values = advance(q0, start)\nelse:")
            self.depth += 1
        self.put("for i in range(step):")
        self.depth += 1
        value = self._body("(start + i)")[self.spec.program.results[0]]
        self.put(f"store(panel, held + i, {self._stored(value)})")
        self.depth -= 1
        self.put("values = panel")
        self.depth -= self._plain

    @property
    def _folds(self) -> bool:
        """Whether values combine one by one, without a second pass or a position."""
        reducer = self.spec.reducer
        return reducer is not None and reducer.kind in {"ufunc", "truth"}

    def _variance(self, kind: str) -> str:
        """Write the functions that variances call."""
        shape = {"W": self.spec.strip, "PANEL": PANEL, "ROWS": ROWS}
        return VARIANCE.format(T=kind, ahead=self._plain, **shape)

    @property
    def _plain(self) -> bool:
        """Whether panels lie in memory as they are to be folded."""
        program = self.spec.program
        same = storage(self.spec.dtype) == self._fold_type()
        return not program.ops and self.spec.classes == "u" and same

    @property
    def _streams(self) -> int:
        return len(self.spec.classes) - self.spec.classes.count("s")

    @property
    def _rows_at_once(self) -> int:
        """Rows that pass through the registers between two visits of the accumulators.

        More rows are more places in memory that are read by turns, which processors follow for few.
        """
        quick = self._fold().combine.find("imum") < 0
        return 4 if quick and self._streams == 1 and len(self.spec.program.ops) <= 6 else 1

    def columns(self) -> None:
        """Write a kernel that reduces rows to one state for each column."""
        spec, reducer = self.spec, self._reducer
        strip, kind = spec.strip, self._fold_type()
        if reducer.kind == "var":
            self.put(self._variance(kind))
        self._open()
        self.put(f"partials = pointer_{kind}(load(p, {SCRATCH}))")
        if reducer.kind == "var":
            self.put("panel = partials")
            offset = spec.scratch_values * spec.dtype.itemsize
            self.put(f"partials = pointer_{kind}(load(p, {SCRATCH}) + {offset})")
            self.put("".join(f"{name} = stack_{kind}({strip})\n" for name in ("mean", "m2", "low")))
        else:
            self.put(f"panel = stack_{kind}({strip})")
        if reducer.kind == "arg":
            self.put(f"where = stack_i8({strip})")
        for place, dtype in enumerate(reducer.state_dtypes(spec.dtype)):
            self.put(f"out{place} = pointer_{storage(dtype)}(load(p, {STATES + place}))")
        self.put(f"rows = load(p, {RUNS})\nfor position in range(load(p, {POSITIONS})):")
        self.depth += 1
        self.put("first = 0\nwhile first < length:")
        self.depth += 1
        self.put(f"width = min({strip}, length - first)\ncount = 0\ndone = 0\nwhile done < rows:")
        self.depth += 1
        self.put(f"step = min({PANEL_ROWS}, rows - done)")
        self._column_panel(strip)
        self.put("done += step\ncount += 1")
        self.depth -= 1
        self._column_finish(strip)
        self.put("first += width")
        self.depth -= 1
        self._turn("kept_axes", "kept_base")
        self.depth -= 1
        self.put(self.watch.close())

    def _column_panel(self, strip: int) -> None:
        reducer = self._reducer
        if reducer.kind in {"ufunc", "truth"}:
            self.put(f"for j in range(width):\n    store(panel, j, {self._fold().identity})")
        self.put("row = 0")
        if self._folds and self._rows_at_once > 1:
            self._column_rows(self._rows_at_once, strip)
        self._column_rows(1, strip)
        if reducer.kind == "var":
            self.put("column_var(panel, step, width, mean, m2, low)\nsize = step")
            self.put(f"""
level = 0
carry = count
while carry & 1:
    left = {PANEL_ROWS} << level
    merge_columns(left, partials, level, size, width, mean, m2, low)
    size += left
    carry >>= 1
    level += 1
base = level * {3 * strip}
for j in range(width):
    store(partials, base + j, load(mean, j))
    store(partials, base + {strip} + j, load(m2, j))
    store(partials, base + {2 * strip} + j, load(low, j))
""")
        elif reducer.kind != "arg":
            fold = self._fold()
            if fold.positive_zero:
                zeroed = f"load(panel, j) + {fold.identity}"
                self.put(f"for j in range(width):\n    store(panel, j, {zeroed})")
            self.put(f"""
level = 0
carry = count
while carry & 1:
    base = level * {strip}
    for j in range(width):
        store(panel, j, {fold.combine.format("load(partials, base + j)", "load(panel, j)")})
    carry >>= 1
    level += 1
base = level * {strip}
for j in range(width):
    store(partials, base + j, load(panel, j))
""")

    def _column_rows(self, count: int, strip: int) -> None:
        """Write a loop that takes `count` rows at a time into the panel."""
        reducer = self._reducer
        tags = [f"_{k}" for k in range(count)]
        self.put(f"while row + {count} <= step:")
        self.depth += 1
        for tag in tags:
            self._pointers(tag)
            self._turn("run_axes", "run_base")
        self.put("for j in range(width):")
        self.depth += 1
        if self._folds:
            self.put("value = load(panel, j)")
        for tag in tags:
            value = self._body("(first + j)", tag)[self.spec.program.results[0]]
            stored = self._stored(value)
            if reducer.kind == "var":
                self.put(f"store(panel, row * {strip} + j, {stored})")
            elif reducer.kind == "arg":
                wins = beats(reducer, self.spec.dtype, "value", "best")
                self.put(f"value = {stored}\nbest = load(panel, j)")
                self.put(f"wins = (done + row == 0) | ({wins})")
                self.put("store(panel, j, value if wins else best)")
                self.put("store(where, j, done + row if wins else load(where, j))")
            else:
                self.put(f"value = {self._fold().combine.format('value', stored)}")
        if self._folds:
            self.put("store(panel, j, value)")
        self.depth -= 1
        self.put(f"row += {count}")
        self.depth -= 1

    def _column_finish(self, strip: int) -> None:
        reducer = self._reducer
        self.put("target = position * length + first")
        if reducer.kind == "arg":
            self.put("for j in range(width):\n    store(out0, target + j, load(panel, j))")
            self.put("for j in range(width):\n    store(out1, target + j, load(where, j))")
            return
        self.put("level = 0\nwhile count & 1 == 0:\n    count >>= 1\n    level += 1")
        if reducer.kind == "var":
            self.put(f"""
size = {PANEL_ROWS} << level
if level == 0:
    size = rows - (count - 1) * {PANEL_ROWS}
elif rows % {PANEL_ROWS}:
    size += rows % {PANEL_ROWS} - {PANEL_ROWS}
base = level * {3 * strip}
for j in range(width):
    store(mean, j, load(partials, base + j))
    store(m2, j, load(partials, base + {strip} + j))
    store(low, j, load(partials, base + {2 * strip} + j))
count >>= 1
level += 1
while count:
    if count & 1:
        left = {PANEL_ROWS} << level
        merge_columns(left, partials, level, size, width, mean, m2, low)
        size += left
    count >>= 1
    level += 1
for j in range(width):
    store(out0, target + j, rows)
    store(out1, target + j, load(mean, j))
    store(out2, target + j, load(m2, j))
    store(out3, target + j, load(low, j))
""")
            return
        self.put(f"""
base = level * {strip}
for j in range(width):
    store(panel, j, load(partials, base + j))
count >>= 1
level += 1
while count:
    if count & 1:
        base = level * {strip}
        for j in range(width):
            store(panel, j, {self._fold().combine.format("load(partials, base + j)", "load(panel, j)")})
    count >>= 1
    level += 1
for j in range(width):
    store(out0, target + j, load(panel, j))
""")  # noqa: E501 - generated source

    def _open(self) -> None:
        """Write the header: addresses, strides, and where the odometers lie."""
        self.put("def kernel(p):")
        self.depth = 1
        count = self.count
        self.put(f"length = load(p, {LENGTH})\nkept_axes = load(p, {KEPT_AXES})")
        self.put(f"kept_base = {OPERANDS + 2 * count}")
        if self.spec.mode != "map":
            self.put(f"run_axes = load(p, {RUN_AXES})")
            self.put(f"run_base = kept_base + kept_axes * {count + 2}")
        self.put(self.watch.open())
        if self.spec.core is not None:
            self.put(cores.opened(self.spec.core, self._sources))
        for place, layout in enumerate(self.spec.classes):
            self.put(f"a{place} = load(p, {OPERANDS + place})")
            if layout == "g":
                self.put(f"s{place} = load(p, {OPERANDS + count + place})")

    def _turn(self, axes: str, base: str) -> None:
        """Write one step of an odometer: move the addresses to the next outer position."""
        stride = self.count + 2
        self.put(f"axis = {axes} - 1\nwhile axis >= 0:")
        self.depth += 1
        self.put(f"entry = {base} + axis * {stride}\nturns = load(p, entry + 1) + 1")
        self.put("if turns < load(p, entry):\n    store(p, entry + 1, turns)")
        for place in range(self.count):
            self.put(f"    a{place} += load(p, entry + {2 + place})")
        self.put("    break\nstore(p, entry + 1, 0)\nturns -= 1")
        for place in range(self.count):
            self.put(f"a{place} -= turns * load(p, entry + {2 + place})")
        self.put("axis -= 1")
        self.depth -= 1

    def _pointers(self, tag: str = "") -> None:
        """Write the start of an inner loop: typed pointers, and values that do not change in it.

        `tag` is appended to the names, where several rows are walked at once.
        """
        program = self.spec.program
        dtypes = [*program.inputs, *(program.dtype_of(result) for result in program.results)]
        for place, (layout, dtype) in enumerate(zip(self.spec.classes, dtypes, strict=False)):
            if layout == "c":
                self._call("")
                self.put(f"q{place}{tag} = made")
            if layout in {"c", "e"} or dtype.hasobject:
                continue  # A user's function, for NumPy's tier to call, is no value.
            kind = storage(dtype)
            self.put(f"q{place}{tag} = pointer_{kind}(a{place})")
            if layout == "s":
                text = f"load(q{place}{tag}, 0)"
                self.put(f"x{place}{tag} = {self._loaded(text, dtype)}")

    @property
    def _sources(self) -> int:
        """The place of the first input of what a call's operands are made of."""
        spec = self.spec
        return len(spec.program.inputs) + len(spec.program.results) * (spec.mode == "map")

    def _call(self, index: str) -> None:
        """Write a call of a function with core axes."""
        assert self.spec.core is not None
        cores.write_call(self.spec.core, self._sources, index, self._sides, self.put, self._loaded)

    def _body(self, index: str, tag: str = "") -> list[str]:
        """Write the program for one element; give the names of its values."""
        program = self.spec.program
        values = []
        for place, dtype in enumerate(program.inputs):
            layout = self.spec.classes[place]
            if layout == "e":
                self._call(index)
                self.put(f"x{place}{tag} = {self._loaded('load(made, 0)', dtype)}")
            elif layout != "s":
                wide = f"load_at(q{place}{tag}, {index} * s{place})"
                text = f"load(q{place}{tag}, {index})" if layout in {"u", "c"} else wide
                self.put(f"x{place}{tag} = {self._loaded(text, dtype)}")
            values.append(f"x{place}{tag}")
        for number, op in enumerate(program.ops):
            sources = [program.dtype_of(arg) for arg in op.args]
            result = form(op, [values[arg] for arg in op.args], sources)
            assert result is not None
            self.put(f"v{number}{tag} = {result}")
            self.put(self.watch.after(number, [values[arg] for arg in op.args], f"v{number}{tag}"))
            values.append(f"v{number}{tag}")
        return values

    @staticmethod
    def _loaded(text: str, dtype: np.dtype[Any]) -> str:
        if dtype.kind == "b":
            return f"({text} != 0)"
        return f"from_half({text})" if dtype == np.float16 else text

    def _stored(self, value: str) -> str:
        return stored(self._reducer, self.spec.dtype, value)

    @property
    def _reducer(self) -> Reducer:
        reducer = self.spec.reducer
        assert reducer is not None
        return reducer

    def _fold(self) -> Fold:
        return fold_for(self._reducer, self.spec.dtype)

    def _fold_type(self) -> str:
        return self._fold().type
