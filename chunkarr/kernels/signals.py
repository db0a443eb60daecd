"""What a kernel watches beside the processor's flags, because those alone would miss it.

Compilers leave out what `where` does not choose, and with it the flag of `where(b > 0, a / b, 0)`,
which NumPy tells of. So values that can meet something and are only chosen from are used a second
time, in a sum of bits that nobody reads. Conversions to integers, divisions of integers and
functions written in arithmetic of their own set no flags or wrong ones; their results are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.kernels.flags import (
    BITS,
    DIVIDE,
    INTEGER_DIVISIONS,
    INVALID,
    OVER,
    is_arithmetic,
    kinds_of_op,
    orders_complex,
)
from chunkarr.kernels.forms import cast_form, inside_form, type_of
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.spec import FLAGS, UNREAD
from chunkarr.kernels.users import is_users
from chunkarr.kernels.vecmath import UNFINISHED, is_ours, unfinished

_LIBRARY = {kind: bit for bit, kind in BITS.items()}

WIDTHS = {"f2": "i4", "f4": "i4", "f8": "i8", "c8": "i4", "c16": "i8"}
"""The integer that takes the bits of a float, or of a part of a complex number."""

CELL = f"met = stack_i4(1)\nstore(met, 0, i4(0))\nzero = load(p, {FLAGS})"
"""What users' functions that call ours are given: see `chunkarr.kernels.elementary`."""


def kept(program: Program) -> frozenset[int]:
    """Find the operations that can meet something, and that nothing reads but choices; and ours."""
    count = len(program.inputs)
    readers: dict[int, bool] = {}
    for op in program.ops:
        for place, arg in enumerate(op.args):
            chosen = op.name == "where" and place > 0
            readers[arg] = readers.get(arg, True) and chosen
    found = set()
    for number, op in enumerate(program.ops):
        sources = [program.dtype_of(arg) for arg in op.args]
        risky = is_arithmetic(op) and kinds_of_op(op, sources)
        if risky and readers.get(count + number, False) and type_of(op.dtype) in WIDTHS:
            found.add(number)
    found -= {result - count for result in program.results}
    # A sum over the loop makes LLVM interleave iterations, which keeps processors busy in functions
    # that are long chains of operations.
    ours = {
        number
        for number, op in enumerate(program.ops)
        if is_ours(op.name) and type_of(op.dtype) in WIDTHS
    }
    return frozenset(found | ours)


def conditions(
    op: Op, sources: Sequence[np.dtype[Any]], args: Sequence[str], value: str
) -> list[tuple[int, str]]:
    """Give what an operation may meet that sets no flag: the library's flags, and the condition."""
    if op.name == "cast":
        inside = inside_form(args[0], sources[0], op.dtype)
        return [] if inside is None else [(_LIBRARY[INVALID], f"not ({inside})")]
    loop = op.types[0]
    if op.dtype.kind == "m" and "f" in {kind.kind for kind in op.types}:
        lost = " & ".join(f"({arg} == {arg})" for arg in args)
        return [(_LIBRARY[INVALID], f"({value} == nat) & {lost}")]
    if loop.kind == "m" and op.name in INTEGER_DIVISIONS and op.types[1].kind == "m":
        found = [(_LIBRARY[DIVIDE], f"{args[1]} == 0")]
        if op.name != "remainder":
            found.append((_LIBRARY[INVALID], f"({args[0]} == nat) | ({args[1]} == nat)"))
        return found
    if loop.kind in "iu" and op.name in INTEGER_DIVISIONS:
        found = [(_LIBRARY[DIVIDE], f"{args[1]} == 0")]
        if loop.kind == "i" and op.name in {"floor_divide", "divmod"}:
            lowest = np.iinfo(loop).min
            found.append((_LIBRARY[OVER], f"({args[0]} == {lowest}) & ({args[1]} == -1)"))
        return found
    kinds = kinds_of_op(op, sources)
    found = []
    if loop.kind in "fc":
        given = [
            str(cast_form(arg, source, loop)) for arg, source in zip(args, sources, strict=True)
        ]
        condition = unfinished(op.name, given, str(type_of(loop)))
        found += [(UNFINISHED, condition)] if condition else []
        if orders_complex(op):
            lost = " | ".join(f"({z}.{p} != {z}.{p})" for z in given for p in ("real", "imag"))
            found.append((_LIBRARY[INVALID], lost))
    if is_arithmetic(op) or not kinds or any(kind.kind != "f" for kind in (*sources, op.dtype)):
        return found
    if kinds & INVALID:
        numbers = " & ".join(f"({arg} == {arg})" for arg in args)
        found.append((_LIBRARY[INVALID], f"({value} != {value}) & {numbers}"))
    endless = sum(_LIBRARY[kind] for kind in (DIVIDE, OVER) if kinds & kind)
    if endless:
        finite = " & ".join(f"(fabs({arg}) != inf)" for arg in args)
        found.append((endless, f"(fabs({value}) == inf) & {finite}"))
    return found


class Watch:
    """Writes what a kernel watches: numbers that gather it, from its beginning to its end."""

    def __init__(self, program: Program, others: Sequence[Watch] = ()) -> None:
        """Watch a program; what `others` gather is opened and closed with it."""
        self._program, self._kept = program, kept(program)
        self._sources = [[program.dtype_of(arg) for arg in op.args] for op in program.ops]
        self.names: dict[str, str] = {}
        self.cell = any(is_ours(op.name) and is_users(op.name) for op in program.ops)
        """Whether users' functions tell in a cell of memory what they have met."""
        for number, op in enumerate(program.ops):
            kind = type_of(op.dtype)
            if number in self._kept and kind is not None:
                self.names[f"unread_{kind}"] = WIDTHS[kind]
            if conditions(op, self._sources[number], ["x"] * len(op.args), "x"):
                width = self._width(number)
                self.names[f"noticed_{width}"] = width
        for other in others:
            self.names |= other.names
            self.cell |= other.cell

    def _width(self, number: int) -> str:
        """Give an integer as wide as an operation's operands: it suits the vectors they are in."""
        sizes = [source.itemsize for source in self._sources[number]]
        # Those of complex numbers are in float64.
        return f"i{min(8, max(4, self._program.ops[number].dtype.itemsize, *sizes))}"

    def open(self) -> str:
        """Give the lines before the first loop."""
        lines = [f"{name} = {kind}(0)" for name, kind in self.names.items()]
        lines += [CELL] * self.cell
        return "\n".join(lines)

    def after(self, number: int, args: Sequence[str], value: str) -> str:
        """Give the lines behind an operation that has given `value`."""
        op, lines = self._program.ops[number], []
        if number in self._kept:
            kind = str(type_of(op.dtype))
            name = f"unread_{kind}"
            # Numba makes int64 of all sums of integers, and vectors are cut for the widest number.
            parts = (f"{value}.real", f"{value}.imag") if op.dtype.kind == "c" else (value,)
            read = " | ".join(f"bits({part})" for part in parts)
            lines.append(f"{name} = {WIDTHS[kind]}({name} | {read})")
        width = self._width(number)
        for flags, condition in conditions(op, self._sources[number], args, value):
            name = f"noticed_{width}"
            lines.append(f"{name} = {width}({name} | ({flags} if {condition} else 0))")
        return "\n".join(lines)

    def close(self) -> str:
        """Give the lines behind the last loop."""
        lines = []
        for place, start in ((FLAGS, "noticed"), (UNREAD, "unread")):
            names = [f"i8({name})" for name in self.names if name.startswith(start)]
            names += ["i8(load(met, 0))"] * (self.cell and place == FLAGS)
            if names:
                lines.append(f"store(p, {place}, {' | '.join(names)})")
        return "\n".join(lines)
