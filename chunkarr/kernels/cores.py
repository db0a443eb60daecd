"""The parts of generated source that call a user's function with core axes.

Its operands are computed lane by lane, into areas on the stack that never leave the first-level
cache, or are read where they lie if nothing is computed. The function's code is part of the kernel,
and what it fills is an input of the program around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chunkarr.kernels.forms import cast_form, form
from chunkarr.kernels.rows import storage
from chunkarr.kernels.signals import Watch
from chunkarr.kernels.spec import CORE, Core, Side
from chunkarr.kernels.users import symbol

LANE_BYTES = 1 << 15
"""The largest lane of a kernel; longer ones gain nothing from staying in it."""

Put = Callable[[str], None]
Load = Callable[[str, np.dtype[Any]], str]


def is_direct(side: Side) -> bool:
    """Whether the function reads an operand where it lies."""
    program = side.program
    return not program.ops and program.dtype_of(program.results[0]) == side.dtype


def _places(core: Core, first: int) -> Iterator[tuple[int, Side, int]]:
    """Give the number of each operand, what makes it, and the place of its first input."""
    for number, side in enumerate(core.sides):
        yield number, side, first
        first += len(side.program.inputs)


def opened(core: Core, first: int) -> str:
    """Write where lanes lie, lengths of core axes, and strides along them."""
    lines = [f"core = load(p, {CORE})"]
    lines += [f"n{axis} = load(p, core + {axis})" for axis in range(core.count)]
    entry = core.count
    for number, side, start in _places(core, first):
        for place in range(start, start + len(side.program.inputs)):
            for at in range(len(side.axes)):
                lines.append(f"t{place}_{at} = load(p, core + {entry})")
                entry += 1
        if not is_direct(side):
            lines.append(_area(f"lane{number}", side.dtype))
    return "\n".join([*lines, _area("made", core.dtype)])


def _area(name: str, dtype: np.dtype[Any]) -> str:
    return f"{name} = stack_{storage(dtype)}({LANE_BYTES // dtype.itemsize})"


def write_call(
    core: Core, first: int, index: str, watches: list[Watch], put: Put, loaded: Load
) -> None:
    """Write what makes the operands of one call, and the call; `index` is that of an element."""
    given = []
    for number, side, start in _places(core, first):
        if is_direct(side):
            place = start + side.program.results[0]
            kind = storage(side.dtype)
            put(f"lane{number} = pointer_{kind}({_address(place, index)})")
            strides = [f"t{place}_{at}" for at in range(len(side.axes))]
        else:
            _write_lane(side, number, start, index, watches[number], put, loaded)
            strides = _packed(side.axes, side.dtype)
        given += [f"lane{number}", *_told(side.axes, strides)]
    given += ["made", *_told(core.axes, _packed(core.axes, core.dtype))]
    put(f"{symbol(core.name)}({', '.join(given)})")


def _address(place: int, index: str) -> str:
    return f"a{place} + {index} * s{place}" if index else f"a{place}"


def _packed(axes: tuple[int, ...], dtype: np.dtype[Any]) -> list[str]:
    """Give the strides of values that lie one after the other."""
    return [
        " * ".join([str(dtype.itemsize), *(f"n{axis}" for axis in axes[at + 1 :])])
        for at in range(len(axes))
    ]


def _told(axes: tuple[int, ...], strides: list[str]) -> Iterator[str]:
    for axis, stride in zip(axes, strides, strict=True):
        yield from (f"n{axis}", stride)


def _write_lane(
    side: Side, number: int, first: int, index: str, watch: Watch, put: Put, loaded: Load
) -> None:
    """Write the loops that compute one operand of a call."""
    program, depth = side.program, 0
    *outer, last = side.axes or (-1,)
    names = [f"y{number}_{place}" for place in range(len(program.inputs))]
    walked = range(len(outer))

    def line(text: str) -> None:
        put("\n".join("    " * depth + part for part in text.splitlines()))

    for at in walked:
        line(f"for k{at} in range(n{outer[at]}):")
        depth += 1
    for name, dtype, layout, place in zip(
        names, program.inputs, side.classes, range(first, first + len(names)), strict=True
    ):
        if dtype.hasobject:
            continue
        address = " + ".join([_address(place, index), *(f"k{at} * t{place}_{at}" for at in walked)])
        line(f"r{place} = pointer_{storage(dtype)}({address})")
        if layout == "s":
            line(f"{name} = {loaded(f'load(r{place}, 0)', dtype)}")
    where = "0"
    if last >= 0:
        line(f"for k in range(n{last}):")
        depth += 1
        where = " + ".join(
            [
                "k",
                *(
                    " * ".join([f"k{at}", *(f"n{axis}" for axis in side.axes[at + 1 :])])
                    for at in walked
                ),
            ]
        )
    for name, dtype, layout, place in zip(
        names, program.inputs, side.classes, range(first, first + len(names)), strict=True
    ):
        wide = f"load_at(r{place}, k * t{place}_{len(outer)})"
        if layout != "s":
            text = f"load(r{place}, k)" if layout == "u" else wide
            line(f"{name} = {loaded(text, dtype)}")
    values = list(names)
    for step, op in enumerate(program.ops):
        args = [values[arg] for arg in op.args]
        made = form(op, args, [program.dtype_of(arg) for arg in op.args])
        values.append(f"z{number}_{step}")
        line(f"{values[-1]} = {made}")
        line(watch.after(step, args, values[-1]))
    result = program.results[0]
    value = cast_form(values[result], program.dtype_of(result), side.dtype)
    line(f"store(lane{number}, {where}, {as_stored(str(value), side.dtype)})")


def as_stored(value: str, dtype: np.dtype[Any]) -> str:
    """Give a value as it lies in memory."""
    return {"b1": f"u1({value})", "f2": f"to_half({value})"}.get(
        f"{dtype.kind}{dtype.itemsize}", value
    )
