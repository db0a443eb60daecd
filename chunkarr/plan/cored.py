"""Calls of users' compiled functions with core axes, in one kernel with what is around them.

Operands are computed lane by lane inside the kernel, and what is made of the result, a map or one
reduction, is made there as well. Where no kernel does it, the call is made on boxes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunkarr.grid import Region, region_shape
from chunkarr.kernels import tier
from chunkarr.kernels.cored import Given, call_program, map_call, reduce_call, value_of
from chunkarr.kernels.evaluate import finish_states, reducer_of
from chunkarr.kernels.program import Program
from chunkarr.kernels.recipe import EarlierLeaf, Recipe
from chunkarr.kernels.spec import Core, Side
from chunkarr.kernels.users import UserFunction
from chunkarr.plan.works import MapOutput, ReduceOutput

if TYPE_CHECKING:
    from chunkarr.plan.blocks import BlocksWork

NDArray = npt.NDArray[Any]


@functools.lru_cache(maxsize=256)
def _core(
    function: UserFunction, programs: tuple[Program, ...]
) -> tuple[Core, Program, tuple[tuple[int, ...], ...]]:
    """Give the call of a function whose operands some programs make, and what stands for it."""
    names: dict[str, int] = {}
    axes = [
        tuple(names.setdefault(name, len(names)) for name in re.findall(r"\w+", argument))
        for argument in re.findall(r"\(([^)]*)\)", function.ufunc.signature)
    ]
    *given, result = function.code.loop
    sides = [
        Side(program, kind, own)
        for program, kind, own in zip(programs, given, axes[:-1], strict=True)
    ]
    call = call_program(function.name, given, result)
    return Core(function.name, tuple(sides), axes[-1], len(names), result), call, tuple(axes)


def in_one_kernel(
    work: BlocksWork, reads: Sequence[Region], made: Region, again: Callable[[], object]
) -> bool:
    """Make one cell of a work in a kernel, if that can be, and there is one."""
    function = work.call.function
    if not isinstance(function, UserFunction) or not function.code.core or tier.mode() == "numpy":
        return False
    if len(work.call.makes) > 1 or 0 in region_shape(made):
        return False
    core, call, axes = _core(function, tuple(r.program for r in work.operands))
    shapes = [*map(region_shape, reads), region_shape(made)]
    lengths = [0] * core.count
    for own, shape in zip(axes, shapes, strict=True):
        for axis, n in zip(own, shape[len(shape) - len(own) :], strict=True):
            lengths[axis] = n
    sides = tuple(tuple(r.load(region)) for r, region in zip(work.operands, reads, strict=True))
    given = Given(core, tuple(lengths), sides, call)
    value = value_of(given, region_shape(made))
    then = work.then
    if then is None:
        return len(work.results) == 1 and _stored(given, value, work, made, again)
    if work.results or len(then.outputs) > 1:
        return False
    (output,) = then.outputs
    found = _arguments(output.recipe, made, value)
    if found is None:
        return False
    program, arrays = found
    if isinstance(output, ReduceOutput):
        return _reduced(given, program, arrays, output, work, made, again)
    return _mapped(given, program, arrays, output, made, again)


def _stored(
    given: Given, value: NDArray, work: BlocksWork, made: Region, again: Callable[[], object]
) -> bool:
    ((_, store),) = work.results
    dtype = given.core.dtype
    if store.dtype != dtype:
        return False
    out = store.read(made) if store.in_memory else np.empty(region_shape(made), dtype)
    if not map_call(given, _itself(dtype), [value], out, again):
        return False
    if not store.in_memory:
        store.write(made, out)
    return True


@functools.cache
def _itself(dtype: np.dtype[Any]) -> Program:
    return Program((dtype,), (), (0,))


def _arguments(
    recipe: Recipe, made: Region, value: NDArray
) -> tuple[Program, list[NDArray]] | None:
    """Give a program whose first input is the value, and its arrays."""
    places = [place for place, leaf in enumerate(recipe.leaves) if isinstance(leaf, EarlierLeaf)]
    if len(places) != 1:
        return None
    arrays = recipe.load(made, [value])
    if arrays[places[0]].shape != value.shape:
        return None
    order = [*places, *(p for p in range(len(arrays)) if p != places[0])]
    return _first(recipe.program, places[0]), [arrays[place] for place in order]


@functools.lru_cache(maxsize=256)
def _first(program: Program, place: int) -> Program:
    """Move an input of a program to the front."""
    if place == 0:
        return program
    count = len(program.inputs)
    new = {old: old + (old < place) for old in range(count)} | {place: 0}

    def moved(args: Sequence[int]) -> tuple[int, ...]:
        return tuple(new.get(arg, arg) for arg in args)

    ops = tuple(replace(op, args=moved(op.args)) for op in program.ops)
    rest = (kind for at, kind in enumerate(program.inputs) if at != place)
    return Program((program.inputs[place], *rest), ops, moved(program.results))


def _mapped(
    given: Given,
    program: Program,
    arrays: list[NDArray],
    output: MapOutput,
    made: Region,
    again: Callable[[], object],
) -> bool:
    store = output.store
    if store.dtype != output.recipe.dtype:
        return False
    here = store.in_memory
    out = store.read(made) if here else np.empty(region_shape(made), store.dtype)
    if not map_call(given, program, arrays, out, again):
        return False
    if not here:
        store.write(made, out)
    return True


def _reduced(
    given: Given,
    program: Program,
    arrays: list[NDArray],
    output: ReduceOutput,
    work: BlocksWork,
    made: Region,
    again: Callable[[], object],
) -> bool:
    names = tuple(dict.fromkeys(output.reducers))
    reducers = tuple(map(reducer_of, names))
    shape = region_shape(made)
    found = reduce_call(given, program, reducers, arrays, shape, output.axes, again)
    if found is None:
        return False
    states = finish_states(
        *found,
        program,
        reducers,
        shape,
        output.axes,
        tuple(s.start for s in made),
        output.recipe.shape,
    )
    by_name = dict(zip(names, states, strict=True))
    assert work.then is not None
    row = work.then.row_at(output, made)
    output.write(made, [by_name[name] for name in output.reducers], row)
    return True
