"""What is done with a panel of a row, as LLVM code on vectors: folded, spread, searched.

The canonical order of `chunkarr.kernels.reducers` is one of 64 lanes side by side, which fold by
halves. Written as vectors it is what the processor does, whatever a compiler would make of a loop;
LLVM cuts vectors into the registers that there are, on any processor. A group of lanes small enough
for a few registers is carried down the rows of a panel before the next one is.

Extremes are compared without regard to NaN and to the sign of zero, in one instruction. Whether
there is a NaN is found beside it, and signs are looked up where an extreme is zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from chunkarr.kernels.reducers import LANES

GROUP_BYTES = 256
"""Bytes of the lanes that are carried down the rows together."""
AHEAD_BYTES = 8192
"""How far ahead memory is asked for: processors stop to do so while a panel is visited again."""
LINE_BYTES = 64

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BITS = {ir.FloatType(): _I32, ir.DoubleType(): _I64}
"""The integer as wide as a float."""

Combine = Callable[[Any, Any], Any]


class Panel:
    """Rows of 64 values from an address on, and the code that is written about them."""

    def __init__(
        self, builder: Any, address: Any, kind: Any, rows: Any, *, parts: int = 1, ahead: bool
    ) -> None:
        """Take values of `kind`; those of complex numbers have two `parts`.

        `ahead` says whether the panel lies in memory in front of the next one.
        """
        self.builder, self.kind, self.parts, self.ahead = builder, kind, parts, ahead
        # A number that LLVM does not see: it would unroll loops until registers run out.
        self.rows = builder.asm(ir.FunctionType(_I64, [_I64]), "", "=r,0", [rows], False)
        self.address = builder.bitcast(address, kind.as_pointer())
        self.bytes = {"float": 4, "double": 8}.get(str(kind)) or kind.width // 8
        self.lanes = LANES * parts
        self.group = min(self.lanes, GROUP_BYTES // self.bytes)

    def load(self, row: Any, start: int, count: int) -> Any:
        """Read lanes of a row."""
        builder = self.builder
        place = builder.add(builder.mul(row, _I64(self.lanes)), _I64(start))
        kind = ir.VectorType(self.kind, count)
        pointer = builder.bitcast(builder.gep(self.address, [place]), kind.as_pointer())
        if self.ahead:
            self._ask_ahead(pointer, count * self.bytes)
        return builder.load(pointer, align=self.bytes)

    def _ask_ahead(self, pointer: Any, size: int) -> None:
        builder, text = self.builder, ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [text, _I32, _I32, _I32])
        known = builder.module.globals.get("llvm.prefetch.p0")
        function = known or ir.Function(builder.module, kind, "llvm.prefetch.p0")
        start = builder.bitcast(pointer, text)
        for offset in range(AHEAD_BYTES, AHEAD_BYTES + size, LINE_BYTES):
            # Data that will be read, to be kept in the first-level cache.
            flags = (_I32(0), _I32(3), _I32(1))
            builder.call(function, [builder.gep(start, [_I64(offset)]), *flags])

    def carry(self, first: Sequence[Any], step: Callable[[Any, Sequence[Any]], list[Any]]) -> Any:
        """Carry values from the first row down the others; `step` makes those of the next row."""
        builder = self.builder
        entry, head = builder.block, builder.append_basic_block("row")
        body, done = builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(head)
        builder.position_at_end(head)
        row = builder.phi(_I64)
        carried = [builder.phi(value.type) for value in first]
        row.add_incoming(_I64(1), entry)
        for phi, value in zip(carried, first, strict=True):
            phi.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", row, self.rows), body, done)
        builder.position_at_end(body)
        made = step(row, carried)
        row.add_incoming(builder.add(row, _I64(1)), builder.block)
        for phi, value in zip(carried, made, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return carried

    def groups(self) -> range:
        """Give the first lane of each group."""
        return range(0, self.lanes, self.group)

    def halved(self, groups: list[Any], combine: Combine) -> Any:
        """Fold lanes by halves until one number is left, with all of its parts."""
        while len(groups) > 1:
            half = len(groups) // 2
            groups = [combine(groups[i], groups[i + half]) for i in range(half)]
        (found,) = groups
        while found.type.count > self.parts:
            found = combine(*self.halves(found))
        return found

    def halves(self, vector: Any) -> tuple[Any, Any]:
        """Cut a vector in two."""
        half = vector.type.count // 2
        masks = [ir.VectorType(_I32, half)(list(range(s, s + half))) for s in (0, half)]
        low, high = (self.builder.shuffle_vector(vector, vector, mask) for mask in masks)
        return low, high

    def splat(self, value: Any, count: int) -> Any:
        """Fill a vector with a value."""
        kind = ir.VectorType(value.type, count)
        first = self.builder.insert_element(kind(ir.Undefined), value, _I32(0))
        zeros = ir.VectorType(_I32, count)([0] * count)
        return self.builder.shuffle_vector(first, first, zeros)

    def reduced(self, combine: Combine, given: Callable[[Any], Any] = lambda x: x) -> Any:
        """Fold all values, after `given` has changed them."""
        found = []
        for start in self.groups():

            def take(row: Any, start: int = start) -> Any:
                return given(self.load(row, start, self.group))

            def step(row: Any, carried: Sequence[Any], take: Any = take) -> list[Any]:
                return [combine(carried[0], take(row))]

            found += self.carry([take(_I64(0))], step)
        return self.halved(found, combine)


def _first(panel: Panel, vector: Any) -> Any:
    return panel.builder.extract_element(vector, _I32(0))


def fold(panel: Panel, operation: str, *, signed: bool) -> Any:
    """Fold a panel to one value; for complex numbers to a vector of its two parts."""
    builder = panel.builder
    floats = panel.kind in _BITS
    if operation in {"minimum", "maximum", "fmin", "fmax"}:
        sign = "<" if operation in {"minimum", "fmin"} else ">"
        if floats:
            return _float_extreme(panel, sign, numbers=operation.startswith("f"))
        compare = builder.icmp_signed if signed else builder.icmp_unsigned
        found = panel.reduced(lambda x, y: builder.select(compare(sign, x, y), x, y))
        return _first(panel, found)
    if operation in _OF_TIMES:
        return _first(panel, panel.reduced(functools.partial(_OF_TIMES[operation], builder)))
    names = {"add": ("fadd", "add"), "multiply": ("fmul", "mul")}.get(operation)
    name = names[not floats] if names else {"or": "or_", "and": "and_"}.get(operation, operation)
    found = panel.reduced(getattr(builder, name))
    return found if panel.parts > 1 else _first(panel, found)


def _beyond_nat(sign: str, builder: Any, x: Any, y: Any) -> Any:
    # One less than NaT, the least number, is the greatest.
    one = ir.Constant(x.type, [1] * x.type.count)
    near, far = (builder.sub(time, one) for time in (x, y))
    return builder.add(builder.select(builder.icmp_signed(sign, near, far), near, far), one)


def _elapsed(builder: Any, x: Any, y: Any) -> Any:
    nat = ir.Constant(x.type, [-1 << 63] * x.type.count)
    lost = builder.or_(*(builder.icmp_signed("==", time, nat) for time in (x, y)))
    return builder.select(lost, nat, builder.add(x, y))


_OF_TIMES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "latest": functools.partial(_beyond_nat, ">"),
    "earliest": functools.partial(_beyond_nat, "<"),
    "elapsed": _elapsed,
}


def _float_extreme(panel: Panel, sign: str, *, numbers: bool) -> Any:
    """Give the least or greatest value; -0.0 counts as less than +0.0.

    NaN if there is one, or, where `numbers` alone count, if there is nothing else.
    """
    builder = panel.builder
    wide = ir.VectorType(_BITS[panel.kind], panel.group // 2)
    last = panel.splat(panel.kind(math.inf if sign == "<" else -math.inf), panel.group)

    def better(x: Any, y: Any) -> Any:
        return builder.select(builder.fcmp_ordered(sign, x, y), x, y)

    def noticed(vector: Any) -> Any:
        near, far = panel.halves(vector)
        if not numbers:
            return builder.sext(builder.fcmp_unordered("uno", near, far), wide)
        found = [builder.fcmp_ordered("ord", half, half) for half in (near, far)]
        return builder.sext(builder.or_(*found), wide)

    best, seen = [], []
    for start in panel.groups():
        top = panel.load(_I64(0), start, panel.group)

        def step(row: Any, carried: Sequence[Any], start: int = start) -> list[Any]:
            value = panel.load(row, start, panel.group)
            return [better(value, carried[0]), builder.or_(carried[1], noticed(value))]

        found, flags = panel.carry([better(top, last) if numbers else top, noticed(top)], step)
        best.append(found)
        seen.append(flags)
    result = _first(panel, panel.halved(best, better))
    any_seen = builder.icmp_signed(
        "!=", _first(panel, panel.halved(seen, builder.or_)), wide.element(0)
    )
    result = _with_sign(panel, result, sign, last if numbers else None)
    of_seen = (result, panel.kind(math.nan)) if numbers else (panel.kind(math.nan), result)
    return builder.select(any_seen, *of_seen)


def _with_sign(panel: Panel, result: Any, sign: str, instead: Any) -> Any:
    """Give a zero among extremes its sign: a bit that any or all of the zeros have.

    `instead` takes the place of NaN, whose sign means nothing, where there may be any.
    """
    builder, bits = panel.builder, _BITS[panel.kind]
    vector = ir.VectorType(bits, panel.group)
    before = builder.block

    def sign_of(value: Any) -> Any:
        if instead is not None:
            value = builder.select(builder.fcmp_ordered("ord", value, value), value, instead)
        return builder.bitcast(value, vector)

    with builder.if_then(builder.fcmp_ordered("==", result, panel.kind(0.0)), likely=False):
        combine = builder.or_ if sign == "<" else builder.and_
        joined = _first(panel, panel.reduced(combine, sign_of))
        zero = builder.bitcast(builder.and_(joined, bits(-1 << (bits.width - 1))), panel.kind)
        signed = builder.block
    chosen = builder.phi(panel.kind)
    chosen.add_incoming(result, before)
    chosen.add_incoming(zero, signed)
    return chosen


def spread(panel: Panel, mean: Any) -> tuple[Any, Any]:
    """Give the sum of all deviations from a mean, and that of their squares."""
    builder = panel.builder
    centre = panel.splat(mean, panel.group)
    rests, squares = [], []
    for start in panel.groups():

        def made(row: Any, start: int = start) -> tuple[Any, Any]:
            away = builder.fsub(panel.load(row, start, panel.group), centre)
            return away, builder.fmul(away, away)

        def step(row: Any, carried: Sequence[Any], made: Any = made) -> list[Any]:
            return list(map(builder.fadd, carried, made(row)))

        rest, square = panel.carry(made(_I64(0)), step)
        rests.append(rest)
        squares.append(square)
    both = (panel.halved(rests, builder.fadd), panel.halved(squares, builder.fadd))
    rest, square = (builder.fadd(_first(panel, x), panel.kind(0.0)) for x in both)
    return rest, square


def find(panel: Panel, value: Any) -> Any:
    """Give the place of the first value that equals another, NaN being equal to NaN."""
    builder = panel.builder
    wanted = panel.splat(value, LANES)
    missing = None
    if panel.kind in _BITS:
        missing = panel.splat(builder.fcmp_unordered("uno", value, value), LANES)

    def hits(row: Any) -> Any:
        found = panel.load(row, 0, LANES)
        if missing is None:
            same = builder.icmp_signed("==", found, wanted)
        else:
            null = builder.and_(builder.fcmp_unordered("uno", found, found), missing)
            same = builder.or_(builder.fcmp_ordered("==", found, wanted), null)
        return builder.bitcast(same, _I64)

    # Rows are looked at from the last one up, so that the first that has a hit is kept.
    last = builder.sub(panel.rows, _I64(1))

    def step(row: Any, carried: Sequence[Any]) -> list[Any]:
        above = builder.sub(last, row)
        found = hits(above)
        any_found = builder.icmp_unsigned("!=", found, _I64(0))
        pairs = ((found, carried[0]), (above, carried[1]))
        return [builder.select(any_found, new, old) for new, old in pairs]

    bits, row = panel.carry([hits(last), last], step)
    return builder.add(builder.mul(row, _I64(LANES)), builder.cttz(bits, ir.IntType(1)(0)))
