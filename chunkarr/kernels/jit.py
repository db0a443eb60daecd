"""Users' scalar functions compiled by Numba, and the code that kernels take in from them.

Loaded when somebody asks for such a function, or brings one along.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.np.numpy_support import as_dtype
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc

from chunkarr.kernels import machine
from chunkarr.kernels.forms import type_of
from chunkarr.kernels.users import ENTRY, Code, UserFunction, remember

Function = Callable[..., Any]
Loop = tuple[np.dtype[Any], ...]

CODE_MAX = 1 << 18
"""Longer code is not worth repeating in every kernel."""

INTRINSICS = frozenset(
    [
        *("exp", "exp2", "log", "log2", "log10", "pow", "sqrt", "sin", "cos", "fma", "fabs"),
        *("floor", "ceil", "trunc", "rint", "nearbyint", "round", "copysign", "is"),
        *("minnum", "maxnum", "minimum", "maximum", "abs", "smin", "smax", "umin", "umax"),
        *("ctpop", "ctlz", "cttz", "bswap", "bitreverse", "fshl", "fshr", "vector", "masked"),
        *("memcpy", "memset", "memmove", "lifetime", "assume", "fptosi", "fptoui"),
        *("sadd", "uadd", "ssub", "usub"),
    ]
)
"""Operations of LLVM that need no more of a library than `machine.MATH`."""

REFUSED = re.compile(
    r"\b(?:fast|reassoc|arcp|contract|afn|nnan|ninf|nsz)\b"
    r"|\b(?:inttoptr|i128|half|fp128|indirectbr|asm)\b"
    r"|^@.* (?:global|thread_local|ifunc|alias) ",
    re.MULTILINE,
)
"""Arithmetic whose bits depend on what is around it, addresses of this process, and state."""

_codes: weakref.WeakKeyDictionary[Any, dict[Loop, Code | None]] = weakref.WeakKeyDictionary()
_functions: weakref.WeakValueDictionary[tuple[int, Loop], UserFunction]
_functions = weakref.WeakValueDictionary()


def elementwise(function: Function, signatures: Any, options: dict[str, Any]) -> Any:
    """Compile a function of numbers into a ufunc, one loop per signature, or one per use."""
    return (
        numba.vectorize(signatures, **options)(function)
        if signatures
        else numba.vectorize(**options)(function)
    )


def generalized(function: Function, signatures: Any, layout: str, options: dict[str, Any]) -> Any:
    """Compile a function that fills its last arguments into a generalised ufunc."""
    return numba.guvectorize(signatures, layout, **options)(function)


def user_function(ufunc: Any, loop: Loop) -> UserFunction | None:
    """Give a ufunc as an operation of kernels, for one of its loops: operands, then the result.

    Any but a generalised one is of one result. None where kernels cannot take
    in the code: what Numba has not made of a function of scalars, what is in object mode or calls
    the interpreter, holds addresses of this process, or may be reordered under `fastmath`. Nor
    where Numba puts Intel's functions in, whose bits differ with the loop that they stand in.
    """
    if not isinstance(ufunc, DUFunc | GUFunc) or numba.config.USING_SVML:
        return None
    codes = _codes.setdefault(ufunc, {})
    if loop not in codes:
        codes[loop] = _code(ufunc, loop)
    code = codes[loop]
    if code is None:
        return None
    # One object for one function, by which equal expressions are found.
    found = _functions.get((id(ufunc), loop))
    if found is None or found.ufunc is not ufunc:
        found = _functions[id(ufunc), loop] = UserFunction(ufunc, code)
    remember(code)
    return found


def _code(ufunc: Any, loop: Loop) -> Code | None:
    """Give the code of the loop that a ufunc chooses."""
    if any(type_of(kind) is None or kind.kind in "mM" or kind.char == "e" for kind in loop):
        return None
    core = isinstance(ufunc, GUFunc)
    arguments = re.findall(r"\(([^)]*)\)", ufunc.signature or "") if core else []
    counts = tuple(len(re.findall(r"\w+", argument)) for argument in arguments)
    axes = counts if any(counts) else ()
    if core and ufunc.gufunc_builder.writable_args:
        return None  # It writes to its operands.
    made = ufunc.gufunc_builder.nb_func if core else ufunc._dispatcher  # noqa: SLF001
    for result in made.overloads.values():
        own = (*result.signature.args, *(() if core else (result.signature.return_type,)))
        boxed = tuple(isinstance(kind, types.Array) for kind in own)
        if tuple(as_dtype(getattr(kind, "dtype", kind)) for kind in own) == loop:
            if result.objectmode:
                return None
            with global_compiler_lock:
                linked = str(result.library._get_module_for_linking())  # noqa: SLF001
            text = _portable(linked, result.fndesc.llvm_func_name)
            return None if text is None else Code(text, loop, boxed if core else (), axes)
    return None


def _portable(text: str, entry: str) -> str | None:
    """Give a module with one function and what it needs; None where that is more than code."""
    module = llvm.parse_assembly(text)
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != entry:
            value.linkage = "internal"
    function = module.get_function(entry)
    function.name, function.linkage = ENTRY, "external"
    function.add_function_attribute("alwaysinline")
    machine.drop_unused(module)
    needs = [value.name for value in module.functions if value.is_declaration]
    if not all(map(_is_code, needs)):
        return None
    found = _canonical(str(module), {ENTRY, *needs})
    return None if len(found) > CODE_MAX or REFUSED.search(found) else found


def _is_code(name: str) -> bool:
    if name.startswith("llvm."):
        return name.split(".")[1] in INTRINSICS
    return name in machine.MATH or machine.callable_from_disk(name)


def _canonical(text: str, kept: set[str]) -> str:
    r"""Give names that do not tell which process made the code; leave out remarks and the machine.

    >>> _canonical('; of f\n@"a b" = constant [2 x i8] c"@b"\n', set())
    '@c0 = constant [2 x i8] c"@b"\n'
    """
    names: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        found = match.group()
        name = found[1:].strip('"')
        if not found.startswith("@") or name in kept:
            return found
        return names.setdefault(name, f"@c{len(names)}")

    plain = re.sub(r"^(?:;|source_filename|target ).*\n", "", text, flags=re.MULTILINE)
    return re.sub(r'c"[^"]*"|@"[^"]*"|@[-\w.$]+', renamed, plain)
