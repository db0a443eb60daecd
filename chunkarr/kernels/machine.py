"""Loads object code into the process through LLVM, without Numba.

Importing this file loads LLVM (some 30 ms), so `tier` does it when the first kernel is ready.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

SYMBOL = "chunkarr_kernel"
"""The entry of every kernel's object code."""

ALL_FLAGS = 31
"""All floating-point flags of the C library, on any processor."""

ALLOWED = frozenset(
    {"memset", "memcpy", "memmove", "fmod", "fmodf", "floor", "floorf", "ceil", "ceilf"}
    | {"trunc", "truncf", "rint", "rintf", "fma", "fmaf", "feclearexcept", "fetestexcept"}
)
"""Functions of the C library that a kernel's object code may call."""

_PLAIN = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "sqrt", "cbrt", "hypot"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sincos"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "tgamma", "lgamma"),
    *("nextafter", "copysign", "fabs", "round", "nearbyint", "fmin", "fmax", "ldexp"),
)
MATH = frozenset(name + suffix for name in _PLAIN for suffix in ("", "f"))
"""More of them, which users' functions may call."""

_lock = threading.Lock()


class KernelError(Exception):
    """A kernel could not be compiled or loaded; its program stays in the NumPy tier."""


def callable_from_disk(name: str) -> bool:
    """Whether kernels may call a function: LLVM's own operations, and a little of libc and libm."""
    return name.startswith("llvm.") or name in ALLOWED


def processor() -> tuple[str, str]:
    """Give the processor's name and features, or those that Numba is told to compile for."""
    host = llvm.get_host_cpu_name()
    name = os.environ.get("NUMBA_CPU_NAME") or host
    own = llvm.get_host_cpu_features().flatten() if name == host else ""
    return name, os.environ.get("NUMBA_CPU_FEATURES", own)


def converts_halves() -> bool:
    """Whether the processor has instructions for half precision."""
    return not llvm.get_process_triple().startswith("x86_64") or "+f16c" in processor()[1]


def converts_long() -> bool:
    """Whether the processor converts vectors of 64-bit integers to floats and back."""
    return "+avx512dq" in processor()[1]


@functools.cache
def fingerprint() -> str:
    """Name what object code depends on: the processor, its features and the compiler."""
    name, features = processor()
    version = ".".join(map(str, llvm.llvm_version_info))
    triple = llvm.get_process_triple()
    return f"{triple}|{name}|{features}|{llvmlite.__version__}|{version}"


@functools.cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # The C library for mathematics is looked up where NumPy has it from.
    own = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]  # noqa: SLF001
    for name in ("feclearexcept", "fetestexcept", *sorted(MATH)):
        address = ctypes.cast(getattr(own, name), ctypes.c_void_p).value
        assert address is not None
        llvm.add_symbol(name, address)


def target_machine() -> Any:
    """Describe this machine to LLVM."""
    _initialise()
    name, features = processor()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=name,
        features=features,
        opt=3,
        reloc="pic",
        codemodel="small",
    )


def drop_unused(module: Any) -> None:
    """Remove what a module has for itself and does not use."""
    builder = llvm.create_pass_builder(
        target_machine(), llvm.create_pipeline_tuning_options(speed_level=1)
    )
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    manager.run(module, builder)


def load_object(code: bytes) -> Any:
    """Make a function from object code, which stays in memory while the function does."""
    with _lock:
        target = target_machine()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = engine.get_function_address(SYMBOL)
    if not address:
        message = "object code has no kernel"
        raise KernelError(message)
    # A call through ctypes releases the interpreter lock.
    function: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
    function.code = engine, target
    return function
