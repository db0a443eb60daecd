"""Prepares and makes calls of kernels in which a function with core axes is called.

The kernel walks loop axes as any other does. Of what the function's operands are made of, only the
loop axes are walked: the core axes are told apart. The function's result is an input of the program
around it without an address.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from chunkarr.kernels import tier
from chunkarr.kernels.axes import Array, collapse_map, collapse_reduction
from chunkarr.kernels.cores import LANE_BYTES
from chunkarr.kernels.flags import settle
from chunkarr.kernels.folds import reduces
from chunkarr.kernels.layouts import (
    Recipe,
    class_of,
    map_part,
    mode_of,
    program_compiles,
    reduction_recipe,
    remembered,
    strides_of,
)
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.reducers import Reducer, State
from chunkarr.kernels.spec import Core, Spec
from chunkarr.kernels.users import RAISED


class Given(NamedTuple):
    """A call on a box of its loop axes."""

    core: Core
    lengths: tuple[int, ...]
    """Of the core axes."""
    sides: tuple[tuple[Array, ...], ...]
    """What each operand's program takes, with all loop axes, then its core axes."""
    call: Program
    """Stands for the call where events are told."""


def _loops(given: Given) -> list[Array]:
    """Give what operands are made of at the first place of their core axes, along the result's."""
    found = []
    more: tuple[None, ...] = (None,) * len(given.core.axes)
    for side, arrays in zip(given.core.sides, given.sides, strict=True):
        first: Any = (..., *(0,) * len(side.axes))
        found += [array[first][..., *more] if array.ndim else array for array in arrays]
    return found


def _told(given: Given) -> list[int]:
    """Give lengths of core axes, and the strides of each input along them."""
    told = list(given.lengths)
    for side, arrays in zip(given.core.sides, given.sides, strict=True):
        for array in arrays:
            strides = strides_of(array, len(side.axes))
            told += strides[len(strides) - len(side.axes) :]
    return told


def _with_classes(given: Given) -> Core:
    sides = []
    for side, arrays in zip(given.core.sides, given.sides, strict=True):
        found = [class_of(a) if side.axes and a.ndim else "s" for a in arrays]
        sides.append(replace(side, classes="".join(found)))
    return replace(given.core, sides=tuple(sides))


def _elements(given: Given, results: int) -> int:
    """Count what calls take, for so many elements of their results."""
    lanes = [math.prod(given.lengths[a] for a in side.axes) for side in given.core.sides]
    return results // max(1, math.prod(given.lengths[a] for a in given.core.axes)) * max(lanes)


def _fits_lanes(given: Given) -> bool:
    """Whether lanes fit the stack, and none is empty."""
    lanes = [(side.axes, side.dtype) for side in given.core.sides]
    lanes.append((given.core.axes, given.core.dtype))
    sizes = [math.prod(given.lengths[a] for a in axes) * kind.itemsize for axes, kind in lanes]
    return all(0 < size <= LANE_BYTES for size in sizes)


def _compiles(given: Given, program: Program) -> bool:
    return program_compiles(program) and all(
        program_compiles(side.program) for side in given.core.sides
    )


def _walks_lanes(
    given: Given, operands: Sequence[Array], sources: Sequence[Array], axis: int
) -> bool:
    """Whether the inner loop, along an axis of the operands, walks the result of one call."""
    count = math.prod(given.lengths[a] for a in given.core.axes)
    still = all(array.ndim == 0 or array.shape[axis] == 1 for array in sources)
    return still and operands[0].shape[axis] == count > 1 and class_of(operands[0], axis) == "u"


def value_of(given: Given, shape: tuple[int, ...]) -> Array:
    """Make an array without values that lies in memory as the result would."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    size = given.core.dtype.itemsize
    one: Array = np.empty(1, given.core.dtype)
    return np.lib.stride_tricks.as_strided(one, shape, [s * size for s in strides], writeable=False)


def map_call(
    given: Given,
    program: Program,
    arrays: Sequence[Array],
    out: Array,
    again: Callable[[], object],
) -> bool:
    """Map a program over the result of a call, its first input; False where no kernel does it.

    `again` does the same without a kernel, where somebody wants to hear of events.
    """
    sources = _loops(given)
    key = _key(given, program, "map", [*arrays, out])
    make = functools.partial(_map_recipe, given, program, arrays, out, sources)
    recipe = remembered(key, program, make)
    operands = [*arrays, out, *sources]
    if recipe is None or not recipe.fits(operands):
        return False
    kernel = recipe.kernel()
    if kernel is None:
        return False
    _settle(given, recipe.run_map(kernel, operands), again)
    return True


def _settle(given: Given, flags: int, again: Callable[[], object]) -> None:
    if flags & RAISED:
        again()
    elif flags:
        settle(given.call, None, flags, lambda _: True, again)


def _key(given: Given, program: Program, *more: Any) -> tuple[Any, ...]:
    *words, arrays = more
    flat = [array for side in given.sides for array in side]
    shapes = [(a.shape, a.strides) for a in (*arrays, *flat)]
    return (id(program), given.core, given.lengths, *words, *shapes)


def _map_recipe(
    given: Given, program: Program, arrays: Sequence[Array], out: Array, sources: Sequence[Array]
) -> Recipe | None:
    if not _compiles(given, program) or not _fits_lanes(given):
        return None
    found, shape = collapse_map([*arrays, *sources], [out])
    inner, moved = found[: len(arrays)], found[len(arrays) : -1]
    if not shape:
        return None
    if given.core.axes and not _walks_lanes(given, found, moved, -1):
        return None
    operands = [*inner, found[-1], *moved]
    classes = "ce"[not given.core.axes] + "".join(map(class_of, inner[1:]))
    classes += class_of(found[-1]).replace("s", "u") + "g" * len(moved)
    strides = [strides_of(a, len(shape)) for a in operands]
    part = map_part(strides, list(enumerate(shape)), [0] * len(operands), _told(given))
    spec = Spec(program, None, "map", classes, core=_with_classes(given))
    return Recipe(
        tier.entry_for(spec),
        _dtypes(given, program, 1),
        (part,),
        _elements(given, math.prod(shape)),
    )


def _dtypes(given: Given, program: Program, outs: int) -> tuple[np.dtype[Any], ...]:
    results = [program.dtype_of(result) for result in program.results[:outs]]
    sides = [dtype for side in given.core.sides for dtype in side.program.inputs]
    return (*program.inputs, *results, *sides)


def reduce_call(
    given: Given,
    program: Program,
    reducers: tuple[Reducer, ...],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    again: Callable[[], object],
) -> tuple[Recipe, State] | None:
    """Reduce a program over the result of a call; None where no kernel does it."""
    sources = _loops(given)
    key = _key(given, program, *(r.name for r in reducers), shape, axes, arrays)
    joined = [*arrays, *sources]
    make = functools.partial(
        _reduce_recipe, given, program, reducers, joined, len(arrays), shape, axes
    )
    recipe = remembered(key, program, make)
    if recipe is None or not recipe.fits(joined):
        return None
    kernel = tier.kernel_for(recipe.entry, recipe.elements)
    if kernel is None:
        return None
    states, flags = recipe.run_reduce(kernel, joined)
    if flags & RAISED:
        return None
    _settle(given, flags, again)
    return recipe, states


def _reduce_recipe(
    given: Given,
    program: Program,
    reducers: tuple[Reducer, ...],
    arrays: Sequence[Array],
    count: int,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> Recipe | None:
    if not _compiles(given, program) or not _fits_lanes(given) or 0 in shape:
        return None
    if not reduces(program, reducers):
        return None
    operands, reduction = collapse_reduction(arrays, shape, axes)
    mode = mode_of(operands, reduction)
    if mode is None or (len(reducers) > 1 and reduction.columns):
        return None
    kept = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    recipe = reduction_recipe(program, reducers, operands, reduction, kept, mode, _told(given))
    spec = recipe.entry.spec
    inner = len(reduction.outer) - 1 if mode == "lanes" else len(reduction.shape) - 1
    if given.core.axes:
        if not _walks_lanes(given, operands, operands[count:], inner):
            return None
        if mode == "column" and reduction.shape[inner] > spec.strip:
            return None
    classes = "ce"[not given.core.axes] + spec.classes[1:count] + "g" * (len(operands) - count)
    spec = replace(spec, classes=classes, core=_with_classes(given))
    return replace(
        recipe,
        entry=tier.entry_for(spec),
        dtypes=_dtypes(given, program, 0),
        elements=_elements(given, math.prod(shape)),
    )


def call_program(name: str, dtypes: Sequence[np.dtype[Any]], result: np.dtype[Any]) -> Program:
    """Make the program that stands for a call where events are told."""
    types = (np.dtype(object), *dtypes)
    return Program(types, (Op(name, tuple(range(len(types))), types, result),), (len(types),))
