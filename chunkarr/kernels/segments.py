"""Programs of which only a part compiles: compiled segments around NumPy's calls.

Operations are put into levels, compiled ones and NumPy's by turns, so that a level needs only those
before it; each level is a program of its own. A piece passes through all of them while it is in the
cache, and what one hands to the next lies in a buffer that is used again. One function without a
compiled form costs a program one call per piece, not its fusion.
"""

from __future__ import annotations

from collections.abc import Sequence

from chunkarr.kernels.forms import op_compiles
from chunkarr.kernels.layouts import RECIPES_MAX
from chunkarr.kernels.program import Op, Program
from chunkarr.records import dataclass

OPS_MIN = 2
"""Fewer operations and conversions than this gain nothing from being compiled."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a program that runs in one tier."""

    program: Program
    args: tuple[int, ...]
    """The whole program's values that go in."""
    values: tuple[int, ...]
    """Those that come out."""
    compiled: bool
    once: bool
    """Whether all that goes in is zero-dimensional, so that one run serves all pieces."""


_segments: dict[tuple[int, tuple[bool, ...]], tuple[Program, tuple[Segment, ...]]] = {}


def segments_of(program: Program, scalars: tuple[bool, ...]) -> tuple[Segment, ...]:
    """Cut a program; gives nothing where one tier runs all of it anyway.

    `scalars` says which inputs are zero-dimensional.
    """
    key = id(program), scalars
    found = _segments.get(key)
    if found is None or found[0] is not program:
        if len(_segments) >= RECIPES_MAX:
            _segments.clear()
        # The program is kept, so that its id is not given to another one meanwhile.
        found = _segments[key] = program, _cut(program, scalars)
    return found[1]


def _cut(program: Program, scalars: tuple[bool, ...]) -> tuple[Segment, ...]:
    if any(op.dtype.hasobject for op in program.ops):
        return ()
    able = [op_compiles(program, op) for op in program.ops]
    if all(able) or not any(able):
        return ()
    levels = _levels(program, able, scalars)
    groups: list[tuple[bool, list[int]]] = []
    for level in sorted(set(levels) - {ONCE}):
        ops = [i for i, found in enumerate(levels) if found == level]
        compiled = level % 2 == 0 and _weight(program, ops) >= OPS_MIN
        if groups and groups[-1][0] == compiled:
            groups[-1][1].extend(ops)
        else:
            groups.append((compiled, ops))
    if not any(compiled for compiled, _ in groups):
        return ()
    once = [i for i, level in enumerate(levels) if level == ONCE]
    parts = [(False, once), *groups] if once else groups
    return tuple(
        _segment(program, sorted(ops), compiled=compiled, once=ops is once)
        for compiled, ops in parts
    )


ONCE = -1
"""The level of operations on nothing but zero-dimensional values."""


def _levels(program: Program, able: Sequence[bool], scalars: Sequence[bool]) -> list[int]:
    """Give each operation's level: even ones compile, and none needs a later one."""
    count = len(program.inputs)
    single = list(scalars)
    levels: list[int] = []
    for number, op in enumerate(program.ops):
        single.append(all(single[arg] for arg in op.args))
        below = max((levels[arg - count] for arg in op.args if arg >= count), default=0)
        level = max(0, below)
        # NumPy's calls have the odd levels.
        level += level % 2 == (0 if not able[number] else 1)
        levels.append(ONCE if single[-1] else level)
    _sink(program, levels)
    return levels


def _sink(program: Program, levels: list[int]) -> None:
    """Move operations up to their readers where that leaves fewer values to hand over."""
    count = len(program.inputs)
    first = dict.fromkeys(range(len(levels)), 1 << 30)
    results = {result - count for result in program.results}
    for number in range(len(levels) - 1, -1, -1):
        op, level = program.ops[number], levels[number]
        reader = first[number]
        inner = [arg for arg in op.args if arg >= count and levels[arg - count] != ONCE]
        movable = level >= 0 and number not in results and len(inner) <= 1
        if movable and level < reader < 1 << 30 and reader % 2 == level % 2:
            level = levels[number] = reader
        for arg in op.args:
            if arg >= count and level != ONCE:
                first[arg - count] = min(first[arg - count], level)


def _weight(program: Program, ops: Sequence[int]) -> int:
    """Count operations and the conversions before them."""
    found = [program.ops[i] for i in ops]
    return len(found) + sum(
        program.dtype_of(arg) != kind
        for op in found
        if op.name != "cast"
        for arg, kind in zip(op.args, op.types, strict=True)
    )


def _segment(program: Program, ops: list[int], *, compiled: bool, once: bool) -> Segment:
    """Make a program of some operations, whose values other operations or the results need."""
    count = len(program.inputs)
    inside = {count + i for i in ops}
    args = list(dict.fromkeys(arg for i in ops for arg in program.ops[i].args if arg not in inside))
    needed = {
        arg for i, op in enumerate(program.ops) if count + i not in inside for arg in op.args
    } | set(program.results)
    number = {value: place for place, value in enumerate(args)}
    number |= {count + i: len(args) + place for place, i in enumerate(ops)}
    values = tuple(count + i for i in ops if count + i in needed)
    moved = tuple(
        Op(op.name, tuple(number[arg] for arg in op.args), op.types, op.dtype, op.output)
        for op in (program.ops[i] for i in ops)
    )
    inputs = tuple(program.dtype_of(arg) for arg in args)
    own = Program(inputs, moved, tuple(number[value] for value in values))
    return Segment(own, tuple(args), values, compiled, once)
