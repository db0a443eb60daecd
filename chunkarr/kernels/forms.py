"""Which operations compile, and the expression each becomes: the table `codegen` reads.

An operation is here if its compiled form gives NumPy's bits for every input (a NaN's sign and
payload aside, which IEEE leaves open). Anything else keeps a program in the NumPy tier. To add a
function, add a row to `FORMS`: text with {0}, {1}... for the operands, {T} for the type of the loop
and {R} for the type of the result. All operands are of the loop's type already.

Integers are computed wide and cut to {R}, which wraps as NumPy does. Selections are written as
conditional expressions: operands are values by then, so both sides are free of effects.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from chunkarr.kernels.program import Op, Program

TYPES = {
    "b1": "b1", "i1": "i1", "i2": "i2", "i4": "i4", "i8": "i8",
    "u1": "u1", "u2": "u2", "u4": "u4", "u8": "u8", "f4": "f4", "f8": "f8",
}  # fmt: skip
"""NumPy dtypes that compile, by kind and size, and their names in generated source."""

_COMPARE = {
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=",
}  # fmt: skip

FLOAT = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "true_divide": "{0} / {1}",
    "negative": "fneg({0})",
    "positive": "{0}",
    "absolute": "fabs({0})",
    "fabs": "fabs({0})",
    "square": "{0} * {0}",
    "reciprocal": "{T}(1) / {0}",
    "sqrt": "sqrt({0})",
    "floor": "floor({0})",
    "ceil": "ceil({0})",
    "trunc": "trunc({0})",
    "rint": "rint({0})",
    "copysign": "copysign({0}, {1})",
    "conjugate": "{0}",
    "minimum": "({0} if ({0} < {1}) | ({0} != {0}) else {1})",
    "maximum": "({0} if ({0} > {1}) | ({0} != {0}) else {1})",
    "sign": "({T}(1) if {0} > 0 else ({T}(-1) if {0} < 0 else ({T}(0) if {0} == 0 else {0})))",
    "isnan": "{0} != {0}",
    "isinf": "fabs({0}) == inf",
    "isfinite": "fabs({0}) < inf",
    "signbit": "copysign({T}(1), {0}) < 0",
    "logical_and": "({0} != 0) & ({1} != 0)",
    "logical_or": "({0} != 0) | ({1} != 0)",
    "logical_xor": "({0} != 0) != ({1} != 0)",
    "logical_not": "{0} == 0",
    **{name: f"{{0}} {sign} {{1}}" for name, sign in _COMPARE.items()},
}

INTEGER = {
    "add": "{R}({0} + {1})",
    "subtract": "{R}({0} - {1})",
    "multiply": "{R}({0} * {1})",
    "negative": "{R}({T}(0) - {0})",
    "positive": "{0}",
    "absolute": "{R}({0} if {0} >= 0 else {T}(0) - {0})",
    "square": "{R}({0} * {0})",
    "conjugate": "{0}",
    "floor": "{0}",
    "ceil": "{0}",
    "trunc": "{0}",
    "sign": "({R}(1) if {0} > 0 else ({R}(-1) if {0} < 0 else {R}(0)))",
    "minimum": "({0} if {0} < {1} else {1})",
    "maximum": "({0} if {0} > {1} else {1})",
    "fmin": "({0} if {0} < {1} else {1})",
    "fmax": "({0} if {0} > {1} else {1})",
    "bitwise_and": "{R}({0} & {1})",
    "bitwise_or": "{R}({0} | {1})",
    "bitwise_xor": "{R}({0} ^ {1})",
    "invert": "{R}(~{0})",
    "left_shift": "({R}({0} << ({1} & {M})) if ({1} >= 0) & ({1} <= {M}) else {R}(0))",
    "right_shift": "({R}({0} >> ({1} & {M})) if ({1} >= 0) & ({1} <= {M}) else {R}({0} >> {M}))",
    "logical_and": FLOAT["logical_and"],
    "logical_or": FLOAT["logical_or"],
    "logical_xor": FLOAT["logical_xor"],
    "logical_not": FLOAT["logical_not"],
    **{name: f"{{0}} {sign} {{1}}" for name, sign in _COMPARE.items()},
}

UNSIGNED = INTEGER | {
    "absolute": "{0}",
    "sign": "({R}(1) if {0} > 0 else {R}(0))",
    "left_shift": "({R}({0} << ({1} & {M})) if {1} <= {M} else {R}(0))",
    "right_shift": "({R}({0} >> ({1} & {M})) if {1} <= {M} else {R}(0))",
}

BOOLEAN = {
    "add": "{0} | {1}",
    "multiply": "{0} & {1}",
    "absolute": "{0}",
    "positive": "{0}",
    "conjugate": "{0}",
    "minimum": "{0} & {1}",
    "maximum": "{0} | {1}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} != {1}",
    "invert": "not {0}",
    "logical_and": "{0} & {1}",
    "logical_or": "{0} | {1}",
    "logical_xor": "{0} != {1}",
    "logical_not": "not {0}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
}

FORMS: dict[str, dict[str, str]] = {"f": FLOAT, "i": INTEGER, "u": UNSIGNED, "b": BOOLEAN}
"""Forms by the kind of the loop's operands, then by operation."""

_FLOAT_LIMITS = {"i4": (-(2.0**31) - 1, 2.0**31), "i8": (-(2.0**63), 2.0**63)}
_X86 = platform.machine().lower() in {"x86_64", "amd64"}


def type_of(dtype: np.dtype[Any]) -> str | None:
    """Give the name of a dtype in generated source, None where it does not compile."""
    if not dtype.isnative or dtype.hasobject:
        return None
    return TYPES.get(f"{dtype.kind}{dtype.itemsize}")


def compiles(program: Program) -> bool:
    """Whether each of a program's operations has a compiled form."""
    if any(type_of(dtype) is None for dtype in program.inputs):
        return False
    counts = len(program.inputs)
    for op in program.ops:
        args = ["x"] * len(op.args)
        sources = [program.dtype_of(arg) for arg in op.args]
        if form(op, args, sources) is None:
            return False
    return all(0 <= result < counts + len(program.ops) for result in program.results)


def form(op: Op, args: list[str], sources: list[np.dtype[Any]]) -> str | None:
    """Give an operation's expression over operand names of the dtypes `sources`."""
    result = type_of(op.dtype)
    if result is None:
        return None
    if op.name == "cast":
        return cast_form(args[0], sources[0], op.dtype)
    if len(set(op.types[op.name == "where" :])) != 1:
        return None
    pairs = zip(args, sources, op.types, strict=True)
    converted = [cast_form(arg, source, target) for arg, source, target in pairs]
    if None in converted:
        return None
    if op.name == "where":
        matches = op.types[0].kind == "b" and op.types[1] == op.dtype
        return f"({converted[1]} if {converted[0]} else {converted[2]})" if matches else None
    loop = op.types[0]
    text = FORMS.get(loop.kind, {}).get(op.name)
    logical = op.dtype.kind == "b"
    if text is None or op.output or type_of(loop) is None or not (logical or op.dtype == loop):
        return None
    return "(" + text.format(*converted, T=type_of(loop), R=result, M=loop.itemsize * 8 - 1) + ")"


def cast_form(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str | None:
    """Give the conversion that `astype` makes, None where its result is not certain."""
    if source == target:
        return text
    start, stop = type_of(source), type_of(target)
    if start is None or stop is None:
        return None
    if target.kind == "b":
        return f"({text} != 0)"
    if source.kind == "f" and target.kind in "iu":
        # C leaves the conversion of NaN and large values open; x86 gives the lowest integer.
        if not _X86 or stop not in _FLOAT_LIMITS or source.itemsize < target.itemsize == 4:
            return None
        low, high = _FLOAT_LIMITS[stop]
        sign = ">" if stop == "i4" else ">="
        inside = f"({text} {sign} {start}({low!r})) & ({text} < {start}({high!r}))"
        lowest = int(np.iinfo(target).min)
        return f"({stop}({text}) if {inside} else {stop}({lowest}))"
    return f"{stop}({text})"
