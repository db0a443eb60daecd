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

from chunkarr.kernels import composites
from chunkarr.kernels.composites import COMPARE, COMPLEX, TIMES
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.users import is_users, symbol
from chunkarr.kernels.vecmath import PREFIX, is_ours

TYPES = {
    "b1": "b1", "i1": "i1", "i2": "i2", "i4": "i4", "i8": "i8",
    "u1": "u1", "u2": "u2", "u4": "u4", "u8": "u8", "f2": "f2", "f4": "f4", "f8": "f8",
    "c8": "c8", "c16": "c16", "M8": "i8", "m8": "i8",
}  # fmt: skip
"""NumPy dtypes that compile, by kind and size, and their names in generated source."""

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
    **dict.fromkeys(("deg2rad", "radians"), "{0} * ({T}(3.141592653589793) / {T}(180))"),
    **dict.fromkeys(("rad2deg", "degrees"), "{0} * ({T}(180) / {T}(3.141592653589793))"),
    "modf": "copysign({0} - trunc({0}) if fabs({0}) != inf else {T}(0), {0})",
    "modf:1": "trunc({0})",
    "frexp": "vec_frexp({0})",
    "frexp:1": "i4(vec_exponent({0}))",
    "ldexp": "vec_ldexp({0}, {T}({1}))",
    "nextafter": "vec_nextafter({0}, {1})",
    **{
        prefix + name: f"vec_{prefix}{name}({{0}}, {{1}})"
        for name in ("fmod", "remainder", "floor_divide")
        for prefix in ("", "any_")
    },
    "minimum": "({0} if ({0} < {1}) | ({0} != {0}) else {1})",
    "maximum": "({0} if ({0} > {1}) | ({0} != {0}) else {1})",
    "fmin": "({0} if ({0} < {1}) | ({1} != {1}) else {1})",
    "fmax": "({0} if ({0} > {1}) | ({1} != {1}) else {1})",
    "heaviside": "({T}(1) if {0} > 0 else ({T}(0) if {0} < 0 else ({1} if {0} == 0 else {0})))",
    "sign": "({T}(1) if {0} > 0 else ({T}(-1) if {0} < 0 else ({T}(0) if {0} == 0 else {0})))",
    "isnan": "{0} != {0}",
    "isinf": "fabs({0}) == inf",
    "isfinite": "fabs({0}) < inf",
    "signbit": "copysign({T}(1), {0}) < 0",
    "logical_and": "({0} != 0) & ({1} != 0)",
    "logical_or": "({0} != 0) | ({1} != 0)",
    "logical_xor": "({0} != 0) != ({1} != 0)",
    "logical_not": "{0} == 0",
    **{name: f"{{0}} {sign} {{1}}" for name, sign in COMPARE.items()},
}

_SIZE = "u8({{{0}}} if {{{0}}} >= 0 else {{T}}(0) - {{{0}}})"

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
    "bitwise_count": "{R}(count_ones({0} if {0} >= 0 else {T}(0) - {0}))",
    **{
        name: f"{{R}}(common_{name}({_SIZE.format(0)}, {_SIZE.format(1)}))"
        for name in ("gcd", "lcm")
    },
    "isnan": "{0} != {0}",
    "isinf": "{0} != {0}",
    "isfinite": "{0} == {0}",
    **{
        name: f"integer_{name}({{T}}({{0}}), {{T}}({{1}}))"
        for name in ("floor_divide", "remainder", "fmod")
    },
    "divmod": "integer_floor_divide({T}({0}), {T}({1}))",
    "divmod:1": "integer_remainder({T}({0}), {T}({1}))",
    "left_shift": "({R}({0} << ({1} & {M})) if ({1} >= 0) & ({1} <= {M}) else {R}(0))",
    "right_shift": "({R}({0} >> ({1} & {M})) if ({1} >= 0) & ({1} <= {M}) else {R}({0} >> {M}))",
    "logical_and": FLOAT["logical_and"],
    "logical_or": FLOAT["logical_or"],
    "logical_xor": FLOAT["logical_xor"],
    "logical_not": FLOAT["logical_not"],
    **{name: f"{{0}} {sign} {{1}}" for name, sign in COMPARE.items()},
}

UNSIGNED = INTEGER | {
    "absolute": "{0}",
    "bitwise_count": "{R}(count_ones({0}))",
    **{name: f"{{R}}(common_{name}(u8({{0}}), u8({{1}})))" for name in ("gcd", "lcm")},
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
    **dict.fromkeys(("floor", "ceil", "trunc"), "{0}"),
    **dict.fromkeys(("minimum", "fmin"), "{0} & {1}"),
    **dict.fromkeys(("maximum", "fmax"), "{0} | {1}"),
    "less": "(not {0}) & {1}",
    "less_equal": "(not {0}) | {1}",
    "greater": "{0} & (not {1})",
    "greater_equal": "{0} | (not {1})",
    "isnan": "{0} != {0}",
    "isinf": "{0} != {0}",
    "isfinite": "{0} == {0}",
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

HALF = {
    name: FLOAT[name]
    for name in (
        *("add", "subtract", "multiply", "divide", "true_divide", "square", "reciprocal", "sqrt"),
        *("negative", "positive", "absolute", "fabs", "conjugate", "copysign", "sign", "signbit"),
        *("floor", "ceil", "trunc", "rint", "minimum", "maximum", "isnan", "isinf", "isfinite"),
        *("logical_and", "logical_or", "logical_xor", "logical_not", *COMPARE),
    )
}
"""Operations that NumPy does on halves in single precision, rounding the result."""

FORMS: dict[str, dict[str, str]] = {
    "e": HALF, "f": FLOAT, "i": INTEGER, "u": UNSIGNED, "b": BOOLEAN,
    "c": COMPLEX, "M": TIMES, "m": TIMES,
}  # fmt: skip
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
    functions = {op.args[0] for op in program.ops if is_users(op.name)}
    values = (dtype for place, dtype in enumerate(program.inputs) if place not in functions)
    if any(type_of(dtype) is None for dtype in values):
        return False
    return all(op_compiles(program, op) for op in program.ops)


def op_compiles(program: Program, op: Op) -> bool:
    """Whether an operation has a compiled form for its operands' dtypes."""
    sources = [program.dtype_of(arg) for arg in op.args]
    if any(type_of(source) is None for source in sources[is_users(op.name) :]):
        return False
    return form(op, ["x"] * len(sources), sources) is not None


def form(op: Op, args: list[str], sources: list[np.dtype[Any]]) -> str | None:
    """Give an operation's expression over operand names of the dtypes `sources`."""
    result = type_of(op.dtype)
    if result is None:
        return None
    if op.name == "cast":
        return cast_form(args[0], sources[0], op.dtype)
    if is_users(op.name):
        # The first operand is the function, which is in the kernel already.
        pairs = zip(args[1:], sources[1:], op.types[1:], strict=True)
        given = [cast_form(arg, source, target) for arg, source, target in pairs]
        if None in given:
            return None
        cell = ["met", "zero"] * is_ours(op.name)
        return f"{symbol(op.name)}({', '.join([*filter(None, given), *cell])})"
    if not _alike(op) and op.name != "ldexp":
        return None
    pairs = zip(args, sources, op.types, strict=True)
    converted = [cast_form(arg, source, target) for arg, source, target in pairs]
    if None in converted:
        return None
    if op.name == "where":
        matches = op.types[0].kind == "b" and op.types[1] == op.dtype
        return f"({converted[1]} if {converted[0]} else {converted[2]})" if matches else None
    loop = _loop(op)
    if loop != op.types[0] and op.name == "multiply":
        converted.reverse()
    if is_ours(op.name):
        plain, plane = op.name.removeprefix(PREFIX), "plane_" if loop.kind == "c" else ""
        if plane and plain == "absolute":
            return f"vec_hypot({converted[0]}.real, {converted[0]}.imag)"
        call = f"vec_{plane}{plain}({', '.join(filter(None, converted))})"
        return f"half({call})" if result == "f2" else call
    name = f"{op.name}:{op.output}" if op.output else op.name
    forms = FORMS.get("e" if loop == np.float16 else loop.kind, {})
    text = forms.get(name) or forms.get(f"{name} by {_other(op).kind}")
    if text is None or type_of(loop) is None or not _gives(op):
        return None
    kind = "f4" if loop == np.float16 else type_of(loop)
    how = composites.product() if "{how}" in text else ""
    if how is None:
        return None
    text = text.format(*converted, T=kind, R=result, M=loop.itemsize * 8 - 1, how=how)
    return f"half({text})" if result == "f2" else f"({text})"


def _alike(op: Op) -> bool:
    """Whether all operands of a loop are of one dtype; times and durations mix, and numbers."""
    types = op.types[op.name == "where" :]
    kinds = {kind.kind for kind in types}
    mixed = kinds <= {"m", "M"} or kinds in ({"m", "i"}, {"m", "f"})
    return len(set(types)) == 1 or (mixed and all(kind.itemsize == 8 for kind in types))


def _loop(op: Op) -> np.dtype[Any]:
    """Give the dtype whose forms an operation has: of a number and a duration, the latter's."""
    return op.types[-1] if op.types[-1].kind == "m" else op.types[0]


def _other(op: Op) -> np.dtype[Any]:
    """Give the dtype of what a duration is multiplied or divided by."""
    return op.types[0] if op.types[0].kind in "if" else op.types[-1]


def _gives(op: Op) -> bool:
    """Whether an operation's result has the dtype that its form gives."""
    loop = _loop(op)
    if op.name in {"real", "imag"}:
        return loop.kind == "c" and op.dtype.itemsize * 2 == loop.itemsize
    if op.dtype.kind == "b" or op.dtype == loop or (loop.kind in "mM" and op.dtype.kind in "mM"):
        return True
    # Exponents, counts, and quotients of two durations are numbers of their own.
    named = op.name == "bitwise_count" or (op.name == "frexp" and op.output == 1)
    return named or (loop.kind == "m" and op.name in {"divide", "floor_divide", "divmod"})


def cast_form(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str | None:
    """Give the conversion that `astype` makes, None where its result is not certain."""
    if source == target:
        return text
    start, stop = type_of(source), type_of(target)
    if start is None or stop is None:
        return None
    if source.kind in "mM" or target.kind in "mM":
        # NaT is an integer like any other there, and true; elsewhere it has a meaning.
        if target.kind == "b":
            return f"({text} != 0)"
        if source.kind in "iub" and target.kind == "m":
            return f"i8({text})"
        return text if start == stop and {source.kind, target.kind} & {"i"} else None
    if source.kind == "c" or target.kind == "c":
        return _complex_cast(text, source, target)
    if target.kind == "b":
        return f"({text} != 0)"
    if stop == "f2":
        # From double precision NumPy rounds once, which a way through single precision does not.
        return None if start == "f8" else f"half(f4({text}))"
    if source.kind == "f" and target.kind in "iu":
        # C leaves the conversion of NaN and large values open; x86 gives the lowest integer.
        inside = inside_form(text, source, target)
        lowest = int(np.iinfo(target).min)
        return inside and f"({stop}({text}) if {inside} else {stop}({lowest}))"
    return f"{stop}({text})"


def _complex_cast(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str | None:
    """Give the conversion of each part, or of the real one."""
    if target.kind == "b":
        return f"(({text}.real != 0) | ({text}.imag != 0))"
    part = np.dtype(target.char.lower()) if target.kind == "c" else target
    if source.kind != "c":
        real = cast_form(text, source, part)
        return real and f"cplx({real}, {type_of(part)}(0))"
    own = np.dtype(source.char.lower())
    parts = [cast_form(f"{text}.{name}", own, part) for name in ("real", "imag")]
    if target.kind != "c":
        return parts[0]
    return f"cplx({parts[0]}, {parts[1]})" if all(parts) else None


def inside_form(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str | None:
    """Give the condition that an integer can hold a float; None where nothing is certain."""
    start, stop = type_of(source), type_of(target)
    if source.kind != "f" or target.kind not in "iu" or not _X86 or stop not in _FLOAT_LIMITS:
        return None
    start = "f4" if start == "f2" else start
    if source.itemsize < target.itemsize == 4:
        return None
    low, high = _FLOAT_LIMITS[stop]
    sign = ">" if stop == "i4" else ">="
    return f"({text} {sign} {start}({low!r})) & ({text} < {start}({high!r}))"
