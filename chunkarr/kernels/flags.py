"""What the processor's floating-point flags mean after a compiled kernel has run.

A kernel clears the flags, runs, and gives back those that are set: nothing is paid for each
element. A flag is a hint, not an event. It does not name the operation, and processors set it where
NumPy tells of nothing: an ordered comparison with NaN counts as invalid. So a flag that somebody
wants to hear of is looked into, once for each kind, program and run: the piece is done again with
NumPy, which tells or raises in its own words. Programs that compare are asked before whether any
operation has made a NaN of numbers, by a program made of them, which may be compiled as well; data
full of NaN costs no more than that.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunkarr import floats
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.reducers import Reducer
from chunkarr.kernels.users import any_users, is_users
from chunkarr.kernels.vecmath import PREFIX, is_ours
from chunkarr.records import dataclass

DIVIDE, OVER, UNDER, INVALID = (floats.KINDS[k] for k in ("divide", "over", "under", "invalid"))
ALL = DIVIDE | OVER | UNDER | INVALID

_X86 = {4: DIVIDE, 8: OVER, 16: UNDER, 1: INVALID}
_ARM = {2: DIVIDE, 4: OVER, 8: UNDER, 1: INVALID}
_MACHINE = platform.machine().lower()
BITS = _X86 if _MACHINE in {"x86_64", "amd64", "i386", "i686"} else _ARM
"""The C library's flags and the kinds that they stand for."""

_ARITHMETIC = {
    "add": OVER | INVALID,
    "subtract": OVER | INVALID,
    "multiply": OVER | UNDER | INVALID,
    "square": OVER | UNDER | INVALID,
    "divide": ALL,
    "true_divide": ALL,
    "reciprocal": ALL,
    "sqrt": INVALID,
    **dict.fromkeys(("deg2rad", "radians", "rad2deg", "degrees"), OVER | UNDER),
}
"""Operations of the processor, and the kinds that they can meet; it flags all of them."""

_FUNCTIONS = {
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh"), OVER | UNDER),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "arctanh"), DIVIDE | INVALID | UNDER),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arccosh"), INVALID | UNDER),
    **dict.fromkeys(("arctan", "tanh", "arcsinh", "cbrt", "arctan2"), UNDER),
    **dict.fromkeys(("remainder", "fmod"), INVALID | UNDER),
    **dict.fromkeys(("hypot", "nextafter", "ldexp", "logaddexp", "logaddexp2"), OVER | UNDER),
    **dict.fromkeys(("frexp", "modf"), 0),
    "floor_divide": DIVIDE | OVER | UNDER | INVALID,
}
"""Functions, and the kinds that they can meet; what is in no table may meet all."""

_QUIET = frozenset(
    [
        *("negative", "positive", "absolute", "fabs", "conjugate", "copysign", "real", "imag"),
        *("floor", "ceil", "trunc", "rint", "isnan", "signbit", "where", "complex"),
        *("equal", "not_equal", "logical_and", "logical_or", "logical_xor", "logical_not"),
    ]
)
"""Float operations that set no flag."""

INTEGER_DIVISIONS = frozenset(("floor_divide", "remainder", "fmod", "divmod"))
"""Operations on integers of which NumPy tells where the divisor is zero."""

_COMPARING = frozenset(
    [
        *("less", "less_equal", "greater", "greater_equal", "minimum", "maximum", "fmin", "fmax"),
        *("sign", "isinf", "isfinite"),
    ]
)
"""Float operations that set the flag of an invalid value where NumPy tells of none."""


_ORDERS = frozenset(("less", "less_equal", "greater", "greater_equal"))


@dataclass(frozen=True, slots=True)
class Flags:
    """What a program's flags can mean."""

    kinds: int
    """The kinds that NumPy could tell of."""
    compares: bool
    """Whether an invalid value may be a mere comparison."""
    invalid: Program | None
    """Tells where an operation makes a NaN of numbers; None where none can."""


_found: dict[tuple[int, str], tuple[Program, Flags]] = {}
PROGRAMS_MAX = 4096


def flags_of(program: Program, reducer: Reducer | None = None) -> Flags:
    """Tell what flags mean after a program, and its reduction, have run."""
    key = id(program), reducer.name if reducer else ""
    found = _found.get(key)
    if found is None or found[0] is not program:
        if len(_found) >= PROGRAMS_MAX:
            _found.clear()
        found = _found[key] = program, _flags_of(program, reducer)
    return found[1]


def kinds_of(flags: int) -> int:
    """Translate the C library's flags.

    >>> kinds_of(0)
    0
    """
    return sum(kind for bit, kind in BITS.items() if flags & bit) if flags else 0


def settle(
    program: Program,
    reducer: Reducer | None,
    flags: int,
    is_invalid: Callable[[Program], bool],
    again: Callable[[], object],
) -> None:
    """Look into flags that a kernel has set; `again` does its work with NumPy, which tells.

    `is_invalid` tells whether a program of truth values is true for any element of the piece.
    """
    kinds = kinds_of(flags) & floats.wanted()
    if not kinds:
        return
    meaning = flags_of(program, reducer)
    events = floats.current()
    known = events.told.get(id(program)) if events is not None else None
    told = known[1] if known is not None and known[0] is program else 0
    kinds &= meaning.kinds & ~told
    if kinds == INVALID and meaning.compares:
        # Nobody is to hear of what the question itself meets.
        with floats.gathering(floats.SILENT):
            if meaning.invalid is None or not is_invalid(meaning.invalid):
                return
    if not kinds:
        return
    if events is None:
        again()
        return
    with floats.gathering() as own:
        again()
    events.add(own.found)
    events.told[id(program)] = program, told | own.kinds


def kinds_of_op(op: Op, sources: Sequence[np.dtype[Any]]) -> int:
    """Give the kinds that an operation, its conversions among them, can meet in NumPy."""
    if op.name == "cast":
        return _cast_kinds(sources[0], op.dtype)
    found = 0
    for source, kind in zip(sources, op.types, strict=True):
        found |= _cast_kinds(source, kind)
    if is_users(op.name):
        return ALL
    if not any(kind.kind in "fc" for kind in (*op.types, op.dtype)):
        return found | (ALL if op.name in INTEGER_DIVISIONS or op.name == "power" else 0)
    if orders_complex(op):
        return found | INVALID
    if op.name in _QUIET or op.name in _COMPARING:
        return found
    if is_ours(op.name) and op.types[0].kind == "c":
        return ALL
    return found | (_ARITHMETIC | _FUNCTIONS).get(op.name.removeprefix(PREFIX), ALL)


def orders_complex(op: Op) -> bool:
    """Whether an operation compares complex numbers, of which NumPy tells where one is NaN."""
    return op.name in _ORDERS and op.types[0].kind == "c"


def is_arithmetic(op: Op) -> bool:
    """Whether the processor sets a flag for all that an operation on floats meets."""
    known = (
        is_users(op.name) or op.name in _ARITHMETIC or op.name in _QUIET or op.name in _COMPARING
    )
    return known or is_ours(op.name)


def _cast_kinds(source: np.dtype[Any], target: np.dtype[Any]) -> int:
    if source == target or source.kind not in "fciu":
        return 0
    if source.kind in "fc" and target.kind in "iu":
        return INVALID
    if target.kind in "fc" and (source.kind in "iu" or target.itemsize < source.itemsize):
        return OVER | UNDER if source.kind in "fc" else OVER
    return 0


def _flags_of(program: Program, reducer: Reducer | None) -> Flags:
    kinds, compares = 0, False
    for op in program.ops:
        sources = [program.dtype_of(arg) for arg in op.args]
        kinds |= kinds_of_op(op, sources)
        floats = any(kind.kind in "fc" for kind in op.types)
        compares |= floats and (op.name in _COMPARING or is_ours(op.name) or not is_arithmetic(op))
    dtype = program.dtype_of(program.results[0])
    if reducer is not None and dtype.kind in "fc":
        if reducer.kind == "ufunc" and not reducer.extreme:
            kinds |= _ARITHMETIC.get(reducer.ufunc.__name__, ALL)
        elif reducer.kind == "var":
            kinds |= OVER | INVALID
        compares |= reducer.kind != "ufunc" or reducer.extreme
    if any_users(op.name for op in program.ops):
        # What a user's function meets shows in no result; only calling it tells.
        return Flags(kinds, compares=False, invalid=None)
    return Flags(kinds, compares, _invalid_program(program, reducer))


class _Asking:
    """Builds the program that tells where an operation makes a NaN of numbers."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ops = list(program.ops)
        self.null: dict[int, int] = {}

    def add(self, name: str, *args: int) -> int:
        """Append an operation that gives a truth value."""
        bools = np.dtype(bool)
        types = tuple(self.dtype_of(arg) for arg in args)
        self.ops.append(Op(name, args, types, bools))
        return len(self.program.inputs) + len(self.ops) - 1

    def dtype_of(self, value: int) -> np.dtype[Any]:
        """Give the dtype of a value, of the program or of the question."""
        count = len(self.program.inputs)
        return self.program.inputs[value] if value < count else self.ops[value - count].dtype

    def isnan(self, value: int) -> int | None:
        """Give the value that tells where another is NaN; None where it cannot be."""
        if self.dtype_of(value).kind not in "fc":
            return None
        if value not in self.null:
            self.null[value] = self.add("isnan", value)
        return self.null[value]

    def any_of(self, values: Sequence[int | None]) -> int | None:
        """Join truth values."""
        joined: int | None = None
        for value in values:
            if value is not None:
                joined = value if joined is None else self.add("logical_or", joined, value)
        return joined

    def loses(self, number: int, op: Op) -> int | None:
        """Tell where an operation meets an invalid value."""
        made = len(self.program.inputs) + number
        if op.dtype.kind == "m":
            return self.add("isnat", made)
        if op.dtype.kind in "fc":
            found = self.isnan(made)
            before = self.any_of([self.isnan(arg) for arg in op.args])
            assert found is not None
            if before is None:
                return found
            return self.add("logical_and", found, self.add("logical_not", before))
        if op.types[0].kind == "m":
            return self.any_of([self.add("isnat", arg) for arg in op.args])
        # An integer that was made of a float is wrong where it does not give the float back.
        lost = [arg for arg in op.args if self.dtype_of(arg).kind in "fc"]
        if op.name != "cast" or not lost:
            return self.any_of([self.isnan(arg) for arg in lost])
        (value,) = lost
        dtype = self.dtype_of(value)
        self.ops.append(Op("cast", (made,), (op.dtype,), dtype))
        back = len(self.program.inputs) + len(self.ops) - 1
        self.ops.append(Op("trunc", (value,), (dtype,), dtype))
        return self.add("not_equal", back, len(self.program.inputs) + len(self.ops) - 1)


def _invalid_program(program: Program, reducer: Reducer | None) -> Program | None:
    asking = _Asking(program)
    lost = []
    for number, op in enumerate(program.ops):
        sources = [program.dtype_of(arg) for arg in op.args]
        if kinds_of_op(op, sources) & INVALID:
            lost.append(asking.loses(number, op))
    result = program.results[0]
    dtype = program.dtype_of(result)
    adds = reducer is not None and reducer.kind in {"ufunc", "var"} and not reducer.extreme
    if adds and dtype.kind in "fc":
        # Only infinities make an invalid value of a sum of numbers.
        lost.append(asking.add("isinf", result))
    found = asking.any_of(lost)
    return None if found is None else Program(program.inputs, tuple(asking.ops), (found,))
