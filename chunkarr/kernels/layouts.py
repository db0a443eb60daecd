"""Prepares calls of compiled kernels: from operands' shapes and strides to integers.

A `Recipe` holds everything that does not change between calls with operands of the same layout, so
that the thousandth chunk costs a dictionary lookup, a copy of the parameters and the addresses.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunkarr.kernels import tier
from chunkarr.kernels.axes import (
    Array,
    Reduction,
    collapse_map,
    collapse_reduction,
    fast_axes,
)
from chunkarr.kernels.folds import reduces
from chunkarr.kernels.forms import compiles
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import LANES, PANEL_ROWS, Reducer, State
from chunkarr.kernels.spec import CORE, FLAGS, LENGTH, OPERANDS, SCRATCH, STATES, Spec
from chunkarr.kernels.vecmath import UNFINISHED
from chunkarr.records import dataclass

TILE = 64
"""Side of the squares in which operands of different axis orders are walked."""
STREAM_BYTES_MIN = 32 << 20
"""Arrays from this size on are written past the caches."""
RUN_BYTES_MIN = 8192
"""Shorter runs of results are not: they have too many lines that are not whole."""
RECIPES_MAX = 4096
RUN_MIN = 16
"""Shortest run of a row-wise reduction against the operands' order that is left to NumPy's tier."""
SHORT_MAX, SHORT_BYTES = 40, 160
"""Longest row that is reduced beside others whose values are not next to its own in memory."""
BESIDE_MIN = 16
"""Fewest rows that are reduced beside each other."""

_recipes: dict[tuple[Any, ...], tuple[Program, Recipe | None]] = {}
_compiles: dict[int, tuple[Program, bool]] = {}
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Part:
    """One call of a kernel: its parameters, and where each operand starts behind its address."""

    template: bytes
    params: Any
    """The ctypes array type that holds the parameters."""
    offsets: tuple[int, ...]
    run: int
    """Elements of the innermost loop."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What calls with one layout of operands share."""

    entry: tier.Entry
    dtypes: tuple[np.dtype[Any], ...]
    parts: tuple[Part, ...]
    elements: int
    states: tuple[np.dtype[Any], ...] = ()
    axes: Reduction | None = None
    scratch_bytes: int = 0
    joint: bool = False
    """Whether several reducers take the same values; a table tells the addresses of states then."""
    kept: tuple[int, ...] = ()
    """The shape of the results."""
    twin: tier.Entry | None = None
    """A kernel that does the same, and serves where it is loaded and the other one is not."""

    def kernel(self) -> tier.Kernel | None:
        """Give a kernel if there is one by now; else count the work, and act on it."""
        ready = self.entry.kernel or (self.twin.kernel if self.twin is not None else None)
        return ready or tier.kernel_for(self.entry, self.elements)

    def fits(self, arrays: Sequence[Array]) -> bool:
        """Whether operands have the program's very dtypes and lie on their natural boundaries."""
        for array, dtype in zip(arrays, self.dtypes, strict=False):
            found = array.dtype
            if (found is not dtype and found != dtype) or not array.flags.aligned:
                return False
        return True

    def run_map(self, kernel: tier.Kernel, operands: Sequence[Array]) -> int:
        """Call the kernel on inputs and outputs; gives the floating-point flags it has set."""
        flags = 0
        addresses = [array.__array_interface__["data"][0] for array in operands]
        for part in self.parts:
            params = part.params.from_buffer_copy(part.template)
            params[OPERANDS : OPERANDS + len(addresses)] = [
                address + offset for address, offset in zip(addresses, part.offsets, strict=True)
            ]
            kernel(params)
            flags |= params[FLAGS]
        if flags & UNFINISHED:
            return self.run_map(tier.thorough_kernel(self.entry), operands)
        return flags

    def run_reduce(self, kernel: tier.Kernel, arrays: Sequence[Array]) -> tuple[State, int]:
        """Call the kernel on inputs; outer groups of reduced axes are left to merge.

        Gives the states, and the floating-point flags that the kernel has set.
        """
        assert self.axes is not None
        part = self.parts[0]
        params = part.params.from_buffer_copy(part.template)
        shape = self.axes.outer + self.axes.columns if self.axes.groups else self.kept
        states = tuple([np.empty(shape, dtype) for dtype in self.states])
        for place, array in enumerate(arrays, OPERANDS):
            params[place] = array.__array_interface__["data"][0]
        addresses = [state.__array_interface__["data"][0] for state in states]
        if self.joint:
            table = (ctypes.c_int64 * len(addresses))(*addresses)
            params[SCRATCH] = ctypes.addressof(table)
        else:
            params[STATES : STATES + len(addresses)] = addresses
        if self.scratch_bytes:
            params[SCRATCH] = _scratch(self.scratch_bytes)
        kernel(params)
        if params[FLAGS] & UNFINISHED:
            return self.run_reduce(tier.thorough_kernel(self.entry), arrays)
        return states, params[FLAGS]


def _scratch(size: int) -> int:
    """Give the address of this thread's scratch memory of at least `size` bytes."""
    found: tuple[int, Array] | None = getattr(_local, "scratch", None)
    if found is None or found[1].size < size:
        area = np.empty(size + 64, np.uint8)
        found = _local.scratch = (-(-area.ctypes.data // 64) * 64, area)
    return found[0]


def program_compiles(program: Program) -> bool:
    """Whether a program compiles, which is found out once."""
    found = _compiles.get(id(program))
    if found is None or found[0] is not program:
        if len(_compiles) >= RECIPES_MAX:
            _compiles.clear()
        found = _compiles[id(program)] = (program, compiles(program))
    return found[1]


def remembered(
    key: tuple[Any, ...], program: Program, make: Callable[[], Recipe | None]
) -> Recipe | None:
    """Give the recipe that was made for a program, or make it now."""
    found = _recipes.get(key)
    if found is None or found[0] is not program:
        recipe = make()
        if len(_recipes) >= RECIPES_MAX:
            _recipes.clear()
        # The program is kept with it, so that its id is not given to another one meanwhile.
        found = _recipes[key] = (program, recipe)
    return found[1]


def map_recipe(program: Program, arrays: Sequence[Array], outs: Sequence[Array]) -> Recipe | None:
    """Give the recipe to map a program over operands, None where it does not compile."""
    large = _is_large(outs)
    key = (id(program), large, *[(a.shape, a.strides) for a in (*arrays, *outs)])
    return remembered(key, program, lambda: _make_map(program, arrays, outs, large=large))


def _make_map(
    program: Program, arrays: Sequence[Array], outs: Sequence[Array], *, large: bool
) -> Recipe | None:
    if not program_compiles(program):
        return None
    operands, shape = collapse_map(arrays, outs)
    classes = "".join(class_of(a) for a in operands[: len(arrays)])
    # A value is stored through "u" where there is but one place for it.
    classes += "".join(class_of(a).replace("s", "u") for a in operands[len(arrays) :])
    dtypes = (*program.inputs, *(program.dtype_of(result) for result in program.results))
    parts = tuple(_map_parts(operands, shape))
    # Two kernels do the same; of a pair of which one is loaded, the other is not worth compiling.
    entries = [tier.entry_for(Spec(program, None, "map", classes))]
    run = parts[0].run * dtypes[-1].itemsize if len(parts) == 1 else 0
    if len(outs) == 1 and classes[-1] == "u" and run >= RUN_BYTES_MIN:
        entries.append(tier.entry_for(Spec(program, None, "map", classes[:-1] + "n")))
    entry = entries.pop(-1 if large else 0)
    return Recipe(entry, dtypes, parts, math.prod(shape), twin=entries[0] if entries else None)


def _is_large(outs: Sequence[Array]) -> bool:
    """Whether the memory that results are part of exceeds caches; where they come in whole vectors.

    Complex numbers need not lie on multiples of their size.
    """
    [out, *others] = outs
    whole = out.base if isinstance(out.base, np.ndarray) else out
    natural = out.dtype.alignment == out.itemsize
    return not others and natural and whole.nbytes >= STREAM_BYTES_MIN


def class_of(array: Array, axis: int = -1) -> str:
    """Say how an operand is walked along an axis: "u", "s" or "g"."""
    if array.ndim == 0 or array.shape[axis] == 1:
        return "s"
    return "u" if array.strides[axis] == array.itemsize else "g"


def strides_of(array: Array, ndim: int) -> list[int]:
    """Give an operand's strides, 0 along the axes it is broadcast over."""
    if array.ndim == 0:
        return [0] * ndim
    return [0 if n == 1 else s for n, s in zip(array.shape, array.strides, strict=True)]


def _part(
    header: Sequence[int],
    inner: Sequence[int],
    loops: Sequence[tuple[int, Sequence[int]]],
    offsets: Sequence[int],
    core: Sequence[int] = (),
) -> Part:
    """Pack parameters; `loops` are the odometers' axes with each operand's stride.

    `core` is what a kernel is told of core axes.
    """
    values = [*header, *([0] * (OPERANDS - len(header))), *([0] * len(inner)), *inner]
    for length, strides in loops:
        values.extend((length, 0, *strides))
    values[CORE] = len(values)
    values.extend(core)
    template = np.array(values, np.int64).tobytes()
    return Part(template, ctypes.c_int64 * len(values), tuple(offsets), header[LENGTH])


def _map_parts(operands: list[Array], shape: tuple[int, ...]) -> list[Part]:
    """Write a map as one nest of loops, or as up to four where two axis orders meet in tiles."""
    ndim = len(shape)
    strides = [strides_of(a, ndim) for a in operands]
    if ndim == 0:
        return [_part([1, 0, 1], [0] * len(operands), [], [0] * len(operands))]
    others = [axis for axis in fast_axes(operands) if axis != ndim - 1]
    if not others:
        return [map_part(strides, list(enumerate(shape)), [0] * len(operands))]
    parts = []
    cross, last = others[0], ndim - 1
    for first in _tiles(shape[cross]):
        for second in _tiles(shape[last]):
            offsets = [s[cross] * first[0] + s[last] * second[0] for s in strides]
            loops = [(axis, n, 1) for axis, n in enumerate(shape) if axis not in {cross, last}]
            loops += [(cross, first[1], first[2]), (last, second[1], second[2])]
            loops += [(cross, first[2], 1), (last, second[2], 1)]
            parts.append(_nest(strides, loops, offsets))
    return parts


def _tiles(length: int) -> list[tuple[int, int, int]]:
    """Cut an axis into whole tiles and a rest: start, number of tiles, length of a tile."""
    count, rest = divmod(length, TILE)
    found = [(0, count, TILE)] if count else []
    return found + ([(count * TILE, 1, rest)] if rest else [])


def map_part(
    strides: list[list[int]],
    loops: list[tuple[int, int]],
    offsets: list[int],
    core: Sequence[int] = (),
) -> Part:
    """Write a map as one nest of loops over axes and their lengths."""
    return _nest(strides, [(axis, n, 1) for axis, n in loops], offsets, core)


def _nest(
    strides: list[list[int]],
    loops: list[tuple[int, int, int]],
    offsets: list[int],
    core: Sequence[int] = (),
) -> Part:
    """Pack a nest of loops, each (axis, length, step along the axis), the last one innermost."""
    *outer, (last, length, _) = loops
    count = math.prod(n for _, n, _ in outer)
    entries = [(n, [s[axis] * step for s in strides]) for axis, n, step in outer if n > 1]
    inner = [s[last] for s in strides]
    return _part([count, len(entries), length], inner, entries, offsets, core)


def reduce_recipe(
    program: Program,
    reducers: tuple[Reducer, ...],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> Recipe | None:
    """Give the recipe to reduce a program's result, None where NumPy's tier does it.

    Several reducers share a kernel where they reduce rows; else there is none for all of them.
    """
    names = [reducer.name for reducer in reducers]
    key = (id(program), *names, shape, axes, *[(a.shape, a.strides) for a in arrays])
    return remembered(key, program, lambda: _make_reduction(program, reducers, arrays, shape, axes))


def _make_reduction(
    program: Program,
    reducers: tuple[Reducer, ...],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> Recipe | None:
    if not program_compiles(program) or not reduces(program, reducers) or 0 in shape:
        return None
    operands, reduction = collapse_reduction(arrays, shape, axes)
    apart = len(reducers) > 1 and reduction.columns
    mode = mode_of(operands, reduction)
    if mode is None or apart:
        return None
    kept = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    return reduction_recipe(program, reducers, operands, reduction, kept, mode)


def mode_of(operands: list[Array], reduction: Reduction) -> str | None:
    """Give the kind of kernel that reduces, None where NumPy's tier does."""
    if not reduction.rows:
        return None
    if reduction.columns:
        return "column"
    if _are_short(operands, reduction):
        return "lanes"
    return None if _against_order(operands, reduction) else "row"


CROSSED_BYTES_MIN = 1 << 16
"""Smaller values are read across their order as fast as in it."""


def is_crossed(
    program: Program, arrays: Sequence[Array], shape: tuple[int, ...], axes: tuple[int, ...]
) -> bool:
    """Whether values are better made in order, by tiles, before they are reduced row by row."""
    nbytes = math.prod(shape) * program.dtype_of(program.results[0]).itemsize
    if nbytes < CROSSED_BYTES_MIN or not program_compiles(program):
        return False
    operands, reduction = collapse_reduction(arrays, shape, axes)
    rows = bool(reduction.rows) and not reduction.columns
    return rows and _against_order(operands, reduction)


def _are_short(operands: list[Array], reduction: Reduction) -> bool:
    """Whether rows are reduced side by side."""
    if not reduction.outer or reduction.outer[-1] < BESIDE_MIN:
        return False
    beside = len(reduction.outer) - 1
    apart = [a.itemsize for a in operands if class_of(a, beside) == "g"]
    longest = min(SHORT_MAX, SHORT_BYTES // max(apart)) if apart else LANES
    return math.prod(reduction.rows) <= longest


def _against_order(operands: list[Array], reduction: Reduction) -> bool:
    """Whether a row-wise reduction would read a large operand line by line for single values."""
    if reduction.rows[-1] < RUN_MIN:
        return False
    last = len(reduction.shape) - 1
    return any(axis != last for axis in fast_axes(operands))


def reduction_recipe(
    program: Program,
    reducers: tuple[Reducer, ...],
    operands: list[Array],
    reduction: Reduction,
    results: tuple[int, ...],
    mode: str,
    core: Sequence[int] = (),
) -> Recipe:
    """Give the recipe of a reduction whose axes are joined and sorted."""
    shape = reduction.shape
    strides = [strides_of(a, len(shape)) for a in operands]
    first = len(reduction.outer)
    last = first + len(reduction.rows)
    inner_axis = first - 1 if mode == "lanes" else len(shape) - 1
    kept = [axis for axis in (*range(first), *range(last, len(shape))) if axis != inner_axis]
    runs = [axis for axis in range(first, last) if axis != inner_axis]
    loops = [(shape[axis], [s[axis] for s in strides]) for axis in (*kept, *runs)]
    inner = [s[inner_axis] for s in strides]
    positions = math.prod(shape[axis] for axis in kept)
    count = math.prod(shape[axis] for axis in runs)
    classes = "".join(class_of(a, inner_axis) for a in operands)
    first_reducer, *others = reducers
    spec = Spec(program, first_reducer, mode, classes, tuple(others))
    header = [positions, len(kept), shape[inner_axis], len(runs), count]
    scratch = 0
    if mode == "column":
        levels = (-(-count // PANEL_ROWS)).bit_length() + 1
        width = 3 if first_reducer.kind == "var" else 1
        values = spec.scratch_values + levels * spec.strip * width
        scratch = values * spec.dtype.itemsize
    return Recipe(
        tier.entry_for(spec),
        program.inputs,
        (_part(header, inner, loops, [0] * len(operands), core),),
        math.prod(shape),
        tuple(dtype for reducer in reducers for dtype in reducer.state_dtypes(spec.dtype)),
        reduction,
        scratch,
        len(reducers) > 1,
        results,
    )
