"""Turns a program, a way to reduce it and a memory layout into the source of one Numba function.

Every kernel has the C signature `void kernel(int64 *p)`. `p` holds a header, the operands'
addresses, the byte strides along the inner loop, and the outer axes as an odometer (length, counter,
byte stride of each operand), which the kernel itself turns: see `Layout`. The inner loop is
specialised by operand: "u" (contiguous), "s" (one value), "g" (any stride).

Reductions evaluate into a panel on the stack and fold it in the canonical order of
`chunkarr.kernels.reducers`. The copy through the panel stays in the first-level cache; it buys one
fold for all programs, and loads that the compiler knows not to alias the store.

Names the source may use are defined in `chunkarr.kernels.compile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chunkarr.kernels.forms import cast_form, form, type_of
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import LANES, PANEL, PANEL_ROWS, Reducer

POSITIONS, KEPT_AXES, LENGTH, RUN_AXES, RUNS, STATES, SCRATCH, OPERANDS = 0, 1, 2, 3, 4, 5, 9, 10
"""Places in the header: STATES has four addresses, OPERANDS as many addresses and strides."""

STACK = 64
"""Levels of the tree of panels: more than the bits of a number of panels."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a kernel is made from; equal specs share one kernel."""

    program: Program
    reducer: Reducer | None
    mode: str
    """ "map", "row" or "column"."""
    classes: str
    """One of "u", "s", "g" for each input, then for each output."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the program's first result."""
        return self.program.dtype_of(self.program.results[0])

    @property
    def strip(self) -> int:
        """Columns that a column kernel takes at a time."""
        if "g" in self.classes:
            return 128
        return 256 if self.reducer is not None and self.reducer.kind == "var" else 1024


@dataclass(frozen=True, slots=True)
class Fold:
    """How a reducer combines two values in generated source."""

    combine: str
    identity: str
    type: str
    positive_zero: bool = False


def fold_of(reducer: Reducer, dtype: np.dtype[Any]) -> Fold | None:
    """Give the fold of a reducer over values of `dtype`, None where it does not compile."""
    kind, name = type_of(dtype), reducer.ufunc.__name__
    if reducer.kind == "truth":
        signs = {"logical_or": ("|", "0"), "logical_and": ("&", "1")}
        found = signs.get(name)
        return found and Fold(f"u1({{0}} {found[0]} {{1}})", f"u1({found[1]})", "u1")
    if kind is None:
        return None
    if dtype.kind == "b":
        signs = {"add": ("|", "0"), "maximum": ("|", "0"), "bitwise_or": ("|", "0"),
                 "multiply": ("&", "1"), "minimum": ("&", "1"), "bitwise_and": ("&", "1")}  # fmt: skip
        found = signs.get(name) if reducer.kind == "ufunc" else None
        return found and Fold(f"u1({{0}} {found[0]} {{1}})", f"u1({found[1]})", "u1")
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
    else:
        folds["bitwise_and"] = ("{0} & {1}", str(-1 if dtype.kind == "i" else highest))
        folds["bitwise_or"] = folds["bitwise_xor"] = ("{0} | {1}", "0")
        folds["bitwise_xor"] = ("{0} ^ {1}", "0")
    if name not in folds:
        return None
    combine, identity = folds[name]
    return Fold(f"{kind}({combine})", f"{kind}({identity})", kind, name == "add" and dtype.kind == "f")


def _limits(dtype: np.dtype[Any]) -> tuple[str, str]:
    if dtype.kind == "f":
        return "-inf", "inf"
    info = np.iinfo(dtype)
    return str(info.min), str(info.max)


def reduces(program: Program, reducer: Reducer) -> bool:
    """Whether a reducer compiles for a program's result."""
    dtype = program.dtype_of(program.results[0])
    if reducer.kind == "var":
        return dtype.kind == "f" and type_of(dtype) is not None
    return fold_of(reducer, dtype) is not None


def source_of(spec: Spec) -> str:
    """Write the source of a kernel; the program and reducer must compile."""
    writer = _Writer(spec)
    if spec.mode == "map":
        writer.map()
    elif spec.mode == "row":
        writer.rows()
    else:
        writer.columns()
    return "\n".join(writer.lines) + "\n"


class _Writer:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.count = len(spec.classes)
        """Operands whose addresses move: inputs, and outputs of a map."""
        self.lines: list[str] = []
        self.depth = 0

    def put(self, text: str) -> None:
        """Add lines at the current depth; a line's own indentation counts from there."""
        for line in text.strip("\n").split("\n"):
            self.lines.append("    " * self.depth + line)

    def map(self) -> None:
        """Write a kernel that stores the results."""
        program = self.spec.program
        self._open()
        self.put("for position in range(load(p, %d)):" % POSITIONS)
        self.depth += 1
        inputs = len(program.inputs)
        self._pointers()
        self.put("for i in range(length):")
        self.depth += 1
        values = self._body("i")
        for output, result in enumerate(program.results):
            kind = type_of(program.dtype_of(result))
            place = inputs + output
            value = f"u1({values[result]})" if kind == "b1" else values[result]
            if self.spec.classes[place] == "u":
                self.put(f"store(q{place}, i, {value})")
            else:
                self.put(f"store_at(q{place}, i * s{place}, {value})")
        self.depth -= 1
        self._turn("kept_axes", "kept_base")
        self.depth -= 1

    def rows(self) -> None:
        """Write a kernel that reduces runs of values to one state for each outer position."""
        spec, reducer = self.spec, self.spec.reducer
        assert reducer is not None
        self._helpers()
        self._open()
        kind = self._fold_type()
        self.put(f"panel = stack_{kind}({PANEL})")
        for name, entry in self._stacks():
            self.put(f"{name} = stack_{entry}({STACK})")
        for place, entry in enumerate(self._state_types()):
            self.put(f"out{place} = pointer_{entry}(load(p, {STATES + place}))")
        self.put(f"runs = load(p, {RUNS})\nfor position in range(load(p, {POSITIONS})):")
        self.depth += 1
        self.put("held = 0\ncount = 0")
        if reducer.kind == "arg":
            self.put(f"best = {self._fold().identity}\nwhere = 0")
        self.put("for run in range(runs):")
        self.depth += 1
        self._pointers()
        self.put("start = 0\nwhile start < length:")
        self.depth += 1
        self.put(f"step = min({PANEL} - held, length - start)\nfor i in range(step):")
        self.depth += 1
        value = self._body("(start + i)")[spec.program.results[0]]
        self.put(f"store(panel, held + i, {self._stored(value)})")
        self.depth -= 1
        self.put("held += step\nstart += step")
        self.put(f"if held == {PANEL} or (start == length and run == runs - 1):")
        self.depth += 1
        self._row_panel()
        self.put("count += 1\nheld = 0")
        self.depth -= 2
        self._turn("run_axes", "run_base")
        self.depth -= 1
        self._row_finish()
        self._turn("kept_axes", "kept_base")
        self.depth -= 1

    def _row_panel(self) -> None:
        reducer = self.spec.reducer
        assert reducer is not None
        if reducer.kind == "var":
            self.put("mean, m2, low = panel_var(panel, held)\nsize = held")
            self.put(f"""
level = 0
carry = count
while carry & 1:
    left = {PANEL} << level
    mean, m2, low = merge_var(left, load(means, level), load(squares, level), load(lows, level), size, mean, m2, low)
    size += left
    carry >>= 1
    level += 1
store(sizes, level, size)
store(means, level, mean)
store(squares, level, m2)
store(lows, level, low)
""")  # noqa: E501 - generated source
            return
        fold = self._fold()
        self.put("value = fold(panel, held)")
        if reducer.kind == "arg":
            self.put(f"""
wins = {self._beats("value", "best")}
if count == 0 or wins:
    i = 0
    while i < held - 1 and not ({self._same("load(panel, i)", "value")}):
        i += 1
    best = load(panel, i)
    where = count * {PANEL} + i
""")
            return
        self.put(f"""
level = 0
carry = count
while carry & 1:
    value = {fold.combine.format("load(partials, level)", "value")}
    carry >>= 1
    level += 1
store(partials, level, value)
""")

    def _row_finish(self) -> None:
        reducer = self.spec.reducer
        assert reducer is not None
        if reducer.kind == "arg":
            self.put("store(out0, position, best)\nstore(out1, position, where)")
            return
        self.put("level = 0\nwhile count & 1 == 0:\n    count >>= 1\n    level += 1")
        if reducer.kind == "var":
            self.put("""
size = load(sizes, level)
mean = load(means, level)
m2 = load(squares, level)
low = load(lows, level)
count >>= 1
level += 1
while count:
    if count & 1:
        left = load(sizes, level)
        mean, m2, low = merge_var(left, load(means, level), load(squares, level), load(lows, level), size, mean, m2, low)
        size += left
    count >>= 1
    level += 1
store(out0, position, size)
store(out1, position, mean)
store(out2, position, m2)
store(out3, position, low)
""")  # noqa: E501 - generated source
            return
        self.put(f"""
value = load(partials, level)
count >>= 1
level += 1
while count:
    if count & 1:
        value = {self._fold().combine.format("load(partials, level)", "value")}
    count >>= 1
    level += 1
store(out0, position, value)
""")

    def columns(self) -> None:
        """Write a kernel that reduces rows to one state for each column."""
        spec, reducer = self.spec, self.spec.reducer
        assert reducer is not None
        self._helpers()
        self._open()
        strip, kind = spec.strip, self._fold_type()
        panel = strip * PANEL_ROWS if reducer.kind == "var" else strip
        self.put(f"panel = stack_{kind}({panel})")
        if reducer.kind == "var":
            self.put("".join(f"{name} = stack_{kind}({strip})\n" for name in ("mean", "m2", "low")))
        if reducer.kind == "arg":
            self.put(f"where = stack_i8({strip})")
        self.put(f"partials = pointer_{kind}(load(p, {SCRATCH}))")
        for place, entry in enumerate(self._state_types()):
            self.put(f"out{place} = pointer_{entry}(load(p, {STATES + place}))")
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

    def _column_panel(self, strip: int) -> None:
        reducer = self.spec.reducer
        assert reducer is not None
        if reducer.kind == "ufunc" or reducer.kind == "truth":
            self.put(f"for j in range(width):\n    store(panel, j, {self._fold().identity})")
        self.put("for row in range(step):")
        self.depth += 1
        self._pointers()
        self.put("for j in range(width):")
        self.depth += 1
        value = self._stored(self._body("(first + j)")[self.spec.program.results[0]])
        if reducer.kind == "var":
            self.put(f"store(panel, row * {strip} + j, {value})")
        elif reducer.kind == "arg":
            self.put(f"value = {value}\nbest = load(panel, j)")
            self.put(f"wins = (done + row == 0) | ({self._beats('value', 'best')})")
            self.put("store(panel, j, value if wins else best)")
            self.put("store(where, j, done + row if wins else load(where, j))")
        else:
            self.put(f"value = {value}")
            self.put(f"store(panel, j, {self._fold().combine.format('load(panel, j)', 'value')})")
        self.depth -= 1
        self._turn("run_axes", "run_base")
        self.depth -= 1
        if reducer.kind == "var":
            self.put(f"column_var(panel, step, width, mean, m2, low)\nsize = step")
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
                self.put(f"for j in range(width):\n    store(panel, j, load(panel, j) + {fold.identity})")
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

    def _column_finish(self, strip: int) -> None:
        reducer = self.spec.reducer
        assert reducer is not None
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

    def _pointers(self) -> None:
        """Write the start of an inner loop: typed pointers, and values that do not change in it."""
        program = self.spec.program
        dtypes = [*program.inputs, *(program.dtype_of(result) for result in program.results)]
        for place, layout in enumerate(self.spec.classes):
            kind = self._storage(dtypes[place])
            self.put(f"q{place} = pointer_{kind}(a{place})")
            if layout == "s":
                self.put(f"x{place} = {self._loaded(f'load(q{place}, 0)', dtypes[place])}")

    def _body(self, index: str) -> list[str]:
        """Write the program for one element; give the names of its values."""
        program = self.spec.program
        values = []
        for place, dtype in enumerate(program.inputs):
            layout = self.spec.classes[place]
            if layout != "s":
                wide = f"load_at(q{place}, {index} * s{place})"
                text = f"load(q{place}, {index})" if layout == "u" else wide
                self.put(f"x{place} = {self._loaded(text, dtype)}")
            values.append(f"x{place}")
        for number, op in enumerate(program.ops):
            sources = [program.dtype_of(arg) for arg in op.args]
            text = form(op, [values[arg] for arg in op.args], sources)
            assert text is not None
            self.put(f"v{number} = {text}")
            values.append(f"v{number}")
        return values

    @staticmethod
    def _storage(dtype: np.dtype[Any]) -> str:
        kind = type_of(dtype)
        assert kind is not None
        return "u1" if kind == "b1" else kind

    @staticmethod
    def _loaded(text: str, dtype: np.dtype[Any]) -> str:
        return f"({text} != 0)" if dtype.kind == "b" else text

    def _stored(self, value: str) -> str:
        """Convert the program's result to what a panel holds."""
        reducer, dtype = self.spec.reducer, self.spec.dtype
        assert reducer is not None
        if reducer.kind == "truth" and dtype.kind != "b":
            return f"u1({cast_form(value, dtype, np.dtype(bool))})"
        return f"u1({value})" if dtype.kind == "b" else value

    def _fold(self) -> Fold:
        reducer = self.spec.reducer
        assert reducer is not None
        name = Reducer("sum", "ufunc", np.add) if reducer.kind == "var" else reducer
        fold = fold_of(name, self.spec.dtype)
        assert fold is not None
        return fold

    def _fold_type(self) -> str:
        return self._fold().type

    def _state_types(self) -> list[str]:
        reducer = self.spec.reducer
        assert reducer is not None
        return [self._storage(dtype) for dtype in reducer.state_dtypes(self.spec.dtype)]

    def _stacks(self) -> list[tuple[str, str]]:
        reducer, kind = self.spec.reducer, self._fold_type()
        assert reducer is not None
        if reducer.kind == "var":
            return [("sizes", "i8"), ("means", kind), ("squares", kind), ("lows", kind)]
        return [] if reducer.kind == "arg" else [("partials", kind)]

    def _beats(self, value: str, best: str) -> str:
        reducer = self.spec.reducer
        assert reducer is not None
        sign = "<" if reducer.ufunc is np.less else ">"
        if self.spec.dtype.kind != "f":
            return f"{value} {sign} {best}"
        return f"({value} {sign} {best}) | (({value} != {value}) & ({best} == {best}))"

    def _same(self, left: str, right: str) -> str:
        if self.spec.dtype.kind != "f":
            return f"{left} == {right}"
        return f"({left} == {right}) or ({left} != {left} and {right} != {right})"

    def _helpers(self) -> None:
        """Write the folds and merges that a reduction calls; each is inlined."""
        reducer = self.spec.reducer
        assert reducer is not None
        fold = self._fold()
        kind = fold.type
        if self.spec.mode == "row":
            self.put(f"""
@inline
def fold(values, count):
    lanes = stack_{kind}({LANES})
    for i in range({LANES}):
        store(lanes, i, {fold.identity})
    rows = (count + {LANES - 1}) // {LANES}
    for i in range(count, rows * {LANES}):
        store(values, i, {fold.identity})
    for row in range(rows):
        for i in range({LANES}):
            store(lanes, i, {fold.combine.format("load(lanes, i)", f"load(values, row * {LANES} + i)")})
""")  # noqa: E501 - generated source
            half = LANES // 2
            while half:
                self.put(f"    for i in range({half}):")
                text = fold.combine.format("load(lanes, i)", f"load(lanes, i + {half})")
                self.put(f"        store(lanes, i, {text})")
                half //= 2
            zero = f" + {fold.identity}" if fold.positive_zero else ""
            self.put(f"    return load(lanes, 0){zero}")
        if reducer.kind == "var":
            self.put(_VAR.format(T=kind, W=self.spec.strip, PANEL=PANEL))


_VAR = """
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
def panel_var(values, count):
    deviation = stack_{T}({PANEL})
    square = stack_{T}({PANEL})
    mean = fold(values, count) / {T}(count)
    for i in range(count):
        difference = load(values, i) - mean
        store(deviation, i, difference)
        store(square, i, difference * difference)
    rest = fold(deviation, count)
    low = rest / {T}(count)
    m2 = fold(square, count) - rest * low
    return mean, {T}(0) if m2 < 0 else m2, low
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
        total = load(m2, j) - rest * part
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
