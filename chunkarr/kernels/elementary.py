"""Elementary functions that users' functions call, done by those of `chunkarr.kernels.vecmath`.

Numba leaves a call of the C library where a function says `math.exp`, and a loop around a call is
no loop of vectors. So the calls in the LLVM code of a function are redirected to functions without
branches, whose definitions are added to it; a kernel takes them in together, and LLVM vectorises
its loop. Rejected: replacing `math.exp` while Numba types the function, which would compile it a
second time, and would not reach what it calls.

Square roots are exact whoever takes them. They become the processor's in any kernel.

In a loop of vectors both sides of an `if` are computed. `log(x) if x > 0 else 0` would set the flag
of an invalid value for each x below zero, and have every piece looked into. Where a function
branches, those that are not defined everywhere get a harmless operand outside their domain, and the
cell says what was met, in the branch where it was.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from chunkarr.kernels.flags import BITS, DIVIDE, INVALID
from chunkarr.kernels.users import ENTRY
from chunkarr.kernels.vecmath import LARGE, LIBRARY, MODULES, UNFINISHED, registry
from chunkarr.kernels.vecmath.values import F4, F8, Value, copysign, fabs, select, sqrt

CELL = ir.IntType(32)
"""Where a function tells what it has met."""
ZERO = ir.IntType(64)
"""A zero of which LLVM does not know that it is one."""


class Domain(NamedTuple):
    """Where a function of one operand has no value, or an infinite one."""

    outside: Callable[[Value], Value]
    pole: Callable[[Value], Value] | None
    kept_off: Callable[[Value, Value, Value], Value]
    """The same, of a number's bits, those of its size and those of one."""


PARTIAL = {
    "sqrt": Domain(lambda x: x < 0.0, None, lambda bits, size, _: (bits < 0) & (size >= 1)),
    **dict.fromkeys(
        ("log", "log2", "log10"),
        Domain(lambda x: x < 0.0, lambda x: x.equals(0.0), lambda bits, *_: bits <= 0),
    ),
    "log1p": Domain(
        lambda x: x < -1.0,
        lambda x: x.equals(-1.0),
        lambda bits, size, one: (bits < 0) & (size >= one),
    ),
    **dict.fromkeys(
        ("arcsin", "arccos"),
        Domain(lambda x: fabs(x) > 1.0, None, lambda _, size, one: size > one),
    ),
    "arccosh": Domain(lambda x: x < 1.0, None, lambda bits, _, one: bits < one),
    "arctanh": Domain(
        lambda x: fabs(x) > 1.0,
        lambda x: fabs(x).equals(1.0),
        lambda _, size, one: size >= one,
    ),
}
INSIDE = {"arccosh": 2.0}
"""An operand that is harmless; elsewhere 0.5 is."""
_INVALID, _DIVIDE = (
    next(bit for bit, kind in BITS.items() if kind == wanted) for wanted in (INVALID, DIVIDE)
)

_CALL = re.compile(
    r"(call (?:[\w()]+ )*)@(?:llvm\.)?([a-z]\w*?)(f|\.f32|\.f64|)\((.*?)\)(?=$|[ ,])"
)
_ROOT = re.compile(r"@sqrt(f?)\(")
_KINDS = {"f8": F8, "f4": F4}
_INFINITY = float("inf")


def with_roots(text: str) -> str:
    """Give a module whose square roots are the processor's."""
    return _ROOT.sub(lambda found: f"@llvm.sqrt.f{32 if found[1] else 64}(", text)


def with_ours(text: str, *, thorough: bool) -> Any:
    """Give a module whose elementary functions are ours; its entry takes a cell and a zero.

    There it leaves `UNFINISHED` where an angle was too large, and the flags of what functions have
    met that are not defined everywhere. `thorough` functions finish all.
    """
    wanted: dict[str, _Wanted] = {}
    branches = len(re.findall(r'^(?:[-\w.$]+|"[^"]*"):', text, re.MULTILINE)) > text.count(
        "\ndefine "
    )
    lines = []
    for line, entered in _lines(with_roots(text)):
        found = _CALL.search(line)
        asked = found and _asked(found, entered=entered, thorough=thorough, branches=branches)
        if found is None or asked is None:
            lines.append(line)
            continue
        wanted[asked.symbol] = asked
        given = f"{found[4]}{', ptr %cell, i64 %zero' * asked.tells}"
        call = f"{found[1]}@{asked.symbol}({given})"
        lines.append(f"{line[: found.start()]}{call}{line[found.end() :]}")
    declared = [asked.declaration for asked in wanted.values()]
    module = llvm.parse_assembly("\n".join((*lines, *declared)))
    if wanted:
        module.link_in(llvm.parse_assembly(_defined(wanted.values())))
    return module


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Give the lines of a module, the cell added to the entry, and whether they are inside it."""
    entered, group = False, ""
    for line in text.splitlines():
        if line.startswith("define "):
            entered = f"@{ENTRY}(" in line
            if entered:
                head, attributes = line.rsplit(")", 1)
                group = "".join(re.findall(r"#\d+", attributes))
                line = f"{head}, ptr %cell, i64 %zero){attributes}"  # noqa: PLW2901 - the line, completed
        elif group and line.startswith(f"attributes {group} "):
            # The entry touches the cell as well.
            line = re.sub(r" memory\(.*?\)", "", line)  # noqa: PLW2901 - as above
        yield line, entered


class _Wanted(NamedTuple):
    """A function that is called."""

    name: str
    kind: str
    angle: bool
    """Whether large operands may be left unfinished, or are finished by the function's name."""
    partial: bool
    """Whether it has to be quiet outside its domain."""

    @property
    def tells(self) -> bool:
        """Whether it takes the cell."""
        return self.angle or self.partial

    @property
    def symbol(self) -> str:
        return f"elementary_{self.name}_{self.kind}{'_quiet' * self.partial}"

    @property
    def operands(self) -> int:
        return 1 if self.name == "sqrt" else _functions()[self.name][1]

    @property
    def declaration(self) -> str:
        number = {"f8": "double", "f4": "float"}[self.kind]
        operands = [number] * self.operands + ["ptr, i64"] * self.tells
        return f"declare {number} @{self.symbol}({', '.join(operands)})"


def _asked(
    found: re.Match[str], *, entered: bool, thorough: bool, branches: bool
) -> _Wanted | None:
    """Give the function of ours that a call is redirected to, if any."""
    name = "sqrt" if found[2] == "sqrt" else LIBRARY.get(found[2])
    angle = name in MODULES["circular"]
    partial = branches and name in PARTIAL
    # What is not part of the entry has no cell. That happens where functions are recursive.
    if name is None or (name == "sqrt" and not partial) or ((angle or partial) and not entered):
        return None
    kind = "f4" if found[3] in {"f", ".f32"} else "f8"
    return _Wanted(f"any_{name}" if angle and thorough else name, kind, angle, partial)


@functools.cache
def _functions() -> dict[str, tuple[Callable[..., Any], int]]:
    return registry.functions()


def _defined(wanted: Iterable[_Wanted]) -> str:
    """Write the definitions."""
    module = ir.Module()
    for asked in wanted:
        _define(module, asked)
    text = re.sub(r"^(?:;|target ).*\n", "", str(module), flags=re.MULTILINE)
    return text.replace("i32*", "ptr")


def _define(module: Any, asked: _Wanted) -> None:
    number, count = _KINDS[asked.kind], asked.operands
    operands = [number] * count + [CELL.as_pointer(), ZERO] * asked.tells
    made = ir.Function(module, ir.FunctionType(number, operands), asked.symbol)
    made.attributes.add("alwaysinline")
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    values = [Value(builder, argument) for argument in made.args[:count]]
    function = sqrt if asked.name == "sqrt" else _functions()[asked.name][0]

    def tell(*met: tuple[int, Value]) -> None:
        cell = Value(builder, builder.load(made.args[count]))
        told = cell
        for flags, condition in met:
            told |= select(condition, cell.like(flags), 0)
        builder.store(told.ir, made.args[count])

    if asked.partial:
        zero = Value(builder, made.args[-1])
        zero = zero if number == F8 else Value(builder, builder.trunc(zero.ir, ir.IntType(32)))
        builder.ret(_quiet(function, asked.name, values[0], zero, tell).ir)
        return
    if asked.angle and asked.name in MODULES["circular"]:
        size = fabs(values[0])
        tell((UNFINISHED, (size >= LARGE[asked.kind]) & (size < _INFINITY)))
    builder.ret(function(*values).ir)


def _quiet(
    function: Callable[..., Value], name: str, x: Value, zero: Value, tell: Callable[..., None]
) -> Value:
    """Give a function's value, and tell where there is none; the processor sets no flag then.

    In the branch of `x > 0` LLVM knows that no x is negative, and would leave out what keeps the
    others off once there are no branches any more. So it is not to know that this is about x.
    """
    domain = PARTIAL[name]
    bits, one, infinite = x.bits() ^ zero, x.like(1.0).bits(), x.like(_INFINITY).bits()
    size = fabs(bits.floats()).bits()
    # LLVM takes roots of both where one of them is a constant.
    inside = size.floats() if name == "sqrt" else x.like(INSIDE.get(name, 0.5))
    found = function(select(domain.kept_off(bits, size, one) & (size <= infinite), inside, x))
    lost = domain.outside(x)
    if domain.pole is None:
        tell((_INVALID, lost))
        return select(lost, float("nan"), found)
    endless = domain.pole(x)
    tell((_INVALID, lost), (_DIVIDE, endless))
    edge = copysign(x.like(_INFINITY), x) if name == "arctanh" else x.like(-_INFINITY)
    return select(lost, float("nan"), select(endless, edge, found))
