"""Elementary functions without branches, which LLVM vectorises inside the loop of a fused program.

Numba calls the C library for `exp` one element at a time; NumPy has loops for some processors, with
other bits on each. A function here is straight-line code of additions, fused multiplications and
selections (`values`), the same in every kernel, so it gives the same bits on every processor, with
vectors of any width. Errors stay below 2 ULP, see docs/accuracy.md.

Which of the two computes a node is settled before anything runs, by `chosen`: the name of the
operation in the program says it, and so the bits depend neither on the tier nor on the executor.
Nothing here loads LLVM; the modules of functions do, and only `compile` imports them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chunkarr.kernels.program import Op, Program

PREFIX = "vecmath."
"""What stands before the ufunc's name where an operation is to be done by a function of ours."""

MODULES = {
    "exponential": ("exp", "exp2", "expm1"),
    "logarithm": ("log", "log2", "log10", "log1p", "logaddexp", "logaddexp2"),
    "power": ("power",),
    "circular": ("sin", "cos", "tan"),
    "inverse": ("arcsin", "arccos", "arctan", "arctan2"),
    "hyperbolic": ("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"),
    "roots": ("cbrt", "hypot"),
}
"""The approximations, by the module of this package that has them."""
COMPLEX_MODULES = {
    "plane_waves": ("exp", "exp2", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
    "plane_powers": ("sqrt", "sign", "log", "log2", "log10", "log1p", "power"),
    "plane_inverses": ("arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
}
"""The same of complex numbers."""
EXACT_MODULES = {
    "division": ("fmod", "remainder", "floor_divide"),
    "parts": ("nextafter", "frexp", "exponent", "ldexp"),
}
"""Functions that give NumPy's bits; they are forms like any other."""
THOROUGH_MODULES = {
    "angles": ("any_sin", "any_cos", "any_tan"),
    "division": ("any_fmod", "any_remainder", "any_floor_divide"),
}
"""Slower versions of functions that leave some operands unfinished."""

NAMES = frozenset(name for names in MODULES.values() for name in names)
# The size of a complex number is hypot of its parts.
COMPLEX_NAMES = frozenset({"absolute"}.union(*COMPLEX_MODULES.values()))

LIBRARY = {
    **{name: name for name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p")},
    **{name: name for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "cbrt", "hypot")},
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
    "pow": "power",
}
"""Functions of the C library, which users' functions call, and ours."""
USERS, CALLING = "user.", ".math."
"""What stands before a user's function's name, and behind it where it calls some of them."""

LARGE, LARGE_RATIO = {"f4": 2.0**19, "f8": 2.0**45}, 2.0**53
"""From where on angles, and quotients that remainders are of, are unfinished."""
LARGE_POWER = 2.0**33
"""From where on complex exponents are: logarithms of floats are below 745."""
UNFINISHED = 1 << 16
"""The flag of a kernel that met such an operand: it is run again with the slower versions."""

_ANGLES, _RATIOS = MODULES["circular"], EXACT_MODULES["division"]
COMPLEX_ANGLES = {
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh", "tanh"), "imag"),
    **dict.fromkeys(("sin", "cos", "tan"), "real"),
}
"""The part of a complex number that is an angle, by function."""
COMPLEX_SLOWER = (*COMPLEX_ANGLES, "power")
_SLOWER = {
    "f": {PREFIX + name: f"{PREFIX}any_{name}" for name in _ANGLES}
    | {name: f"any_{name}" for name in _RATIOS},
    "c": {PREFIX + name: f"{PREFIX}any_{name}" for name in COMPLEX_SLOWER},
}

ELEMENTS_MIN = 1 << 22
"""From this many elements on, a kernel is worth waiting for, and our functions are chosen.

Below, NumPy's own loops are done before a kernel is loaded. The limit counts the elements of the
node itself: how it is cut and where it is read from change no bits.
"""


def chosen(name: str, types: Sequence[np.dtype[Any]], shape: Sequence[int]) -> str:
    """Give the name that an operation of this shape has in a program, ours where it is large.

    >>> chosen("exp", (np.dtype(float),), (4096, 4096)), chosen("exp", (np.dtype(float),), (3,))
    ('vecmath.exp', 'exp')
    """
    known = name in NAMES and all(kind.kind == "f" and kind.itemsize <= 8 for kind in types)
    known |= name in COMPLEX_NAMES and all(kind.char in {"F", "D"} for kind in types)
    known |= name.startswith(USERS) and CALLING in name
    return PREFIX + name if known and math.prod(shape) >= ELEMENTS_MIN else name


def is_ours(name: str) -> bool:
    """Whether an operation is done by a function of this package."""
    return name.startswith(PREFIX)


def unfinished(name: str, args: Sequence[str], kind: str) -> str:
    """Give the condition under which an operation leaves operands of a type unfinished, or ""."""
    plain = name.removeprefix(PREFIX)
    if plain in _RATIOS:
        sizes = [f"f8(fabs({arg}))" for arg in args]
        ratio = f"({sizes[0]} >= {LARGE_RATIO} * {sizes[1]}) & ({sizes[1]} > 0)"
        return f"{ratio} & ({sizes[0]} < inf)"
    if plain == name:
        return ""
    if not kind.startswith("c"):
        angle = plain in _ANGLES and kind in LARGE
        return _beyond(args[0], kind, LARGE[kind]) if angle else ""
    # Complex numbers are computed in float64.
    part = f"f{int(kind[1:]) // 2}"
    if plain in COMPLEX_ANGLES:
        return _beyond(f"{args[0]}.{COMPLEX_ANGLES[plain]}", part, LARGE["f8"])
    if plain == "power":
        sides = [_beyond(f"{args[1]}.{side}", part, LARGE_POWER) for side in ("real", "imag")]
        return f"({sides[0]}) | ({sides[1]})"
    return ""


def _beyond(arg: str, kind: str, limit: float) -> str:
    """Give the condition that a finite number is as large as a limit."""
    return f"(fabs({arg}) >= {kind}({limit})) & (fabs({arg}) < inf)"


def thorough(program: Program) -> Program:
    """Give the program with functions that leave nothing unfinished."""
    ops = tuple(replace(op, name=_thorough(op)) for op in program.ops)
    return Program(program.inputs, ops, program.results)


def _thorough(op: Op) -> str:
    """Give the name of the version of an operation that leaves nothing unfinished."""
    if op.name.startswith(PREFIX + USERS):
        return f"{PREFIX}any_{op.name.removeprefix(PREFIX)}"
    return _SLOWER.get(op.types[0].kind, {}).get(op.name, op.name) if op.types else op.name


def files() -> list[Path]:
    """List the files with all functions, on which kernels that call one depend."""
    return sorted(Path(__file__).parent.glob("*.py"))
