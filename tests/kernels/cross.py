"""Compiles kernels for another processor than this one, in a process that takes itself for it.

No machine of that kind is needed, and nothing is run: LLVM has all its targets on board. What asks
for the processor is told of the other one, Numba's pipeline of optimisations among it, so that
loops are made vectors of that processor's width.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.core.registry import cpu_target

from chunkarr.kernels.codegen import source_of
from chunkarr.kernels.compile import compile_kernel
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import REDUCERS
from chunkarr.kernels.spec import Spec
from tests.kernels.accuracy import program
from tests.kernels.support import Build

MACHINE = "aarch64"
TRIPLE = f"{MACHINE}-unknown-linux-gnu"

START = f"""
import platform, sys
platform.machine = lambda: "{MACHINE}"
from tests.kernels import cross
cross.main(*sys.argv[1:])
"""
"""What such a process runs: the machine's name is asked for when the package is loaded."""


def vecmath_kernel(name: str, dtype: str) -> Spec:
    """Give the kernel of one of our functions."""
    count = getattr(np, name).nin
    return Spec(program(name, np.dtype(dtype), count), None, "map", "u" * (count + 1))


def _map(build: Build, *results: int) -> Spec:
    made = build.program(*results)
    return Spec(made, None, "map", "u" * (len(made.inputs) + len(made.results)))


def fused(dtype: str) -> Spec:
    """Give a kernel of arithmetic, a comparison and a choice: where(a > b, a * b, a / b) - a."""
    build = Build(dtype, dtype)
    product, ratio = build("multiply", 0, 1), build("divide", 0, 1)
    return _map(build, build("subtract", build("where", build("greater", 0, 1), product, ratio), 0))


def streamed(dtype: str) -> Spec:
    """Give a kernel of a product that is written past the caches."""
    build = Build(dtype, dtype)
    return Spec(build.program(build("multiply", 0, 1)), None, "map", "uun")


def converted(source: str, target: str) -> Spec:
    """Give a kernel that converts numbers and adds them to themselves."""
    build = Build(source)
    wide = build("cast", 0, dtype=target)
    return _map(build, build("add", wide, wide))


def reduction(mode: str, reducer: str, dtype: str) -> Spec:
    """Give a kernel that reduces rows or columns of squares."""
    build = Build(dtype)
    build("multiply", 0, 0)
    return Spec(build.program(), REDUCERS[reducer], mode, "u")


def counting(mode: str, dtype: str) -> Spec:
    """Give a kernel that finds bins or counts."""
    kind = np.dtype(dtype)
    return Spec(Program((kind,), (), (0,)), None, mode, "")


KINDS: dict[str, Callable[..., Spec]] = {
    "vecmath": vecmath_kernel,
    "fused": fused,
    "streamed": streamed,
    "converted": converted,
    "reduction": reduction,
    "counting": counting,
}


def spec_of(text: str) -> Spec:
    """Give the kernel of a text such as "reduction row sum f8"."""
    kind, *arguments = text.split()
    return KINDS[kind](*arguments)


def _pretend(processor: str) -> None:
    """Let everything that asks find another processor from now on."""
    # What Numba loads, which is not ours, is made for this one, before.
    assert cpu_target.target_context is not None
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = processor, ""
    names: Any = llvm
    names.get_process_triple = names.get_default_triple = lambda: TRIPLE
    names.initialize_native_target = names.initialize_native_asmprinter = lambda: None


CALL = re.compile(r"^declare [^@]*@([\w.]+)\(", re.MULTILINE)
VECTORS = re.compile(r"^\t(\w+)\t[vz]\d+\.(\w+)", re.MULTILINE)
"""Instructions on vectors, and how the first operand is divided."""


def compiled(text: str) -> dict[str, Any]:
    """Compile one kernel and tell what it consists of."""
    found = []
    emit = llvm.TargetMachine.emit_object

    def spy(self: Any, module: Any) -> bytes:
        code: bytes = emit(self, module)
        found.append((str(module), self.emit_assembly(module), code))
        return code

    machine: Any = llvm.TargetMachine
    machine.emit_object = spy
    try:
        compile_kernel(source_of(spec_of(text)), "cross")
    finally:
        machine.emit_object = emit
    [(module, assembly, code)] = found
    return {
        "elf": int.from_bytes(code[18:20], "little"),
        "calls": sorted(set(CALL.findall(module))),
        "inline": sorted(set(re.findall(r'asm (?:sideeffect )?"([^"]*)"', module))),
        "vectors": sorted(set(map(" ".join, VECTORS.findall(assembly)))),
    }


def main(processor: str, *kernels: str) -> None:
    """Print what is compiled for a processor as JSON."""
    _pretend(processor)
    print(json.dumps({text: compiled(text) for text in kernels}))
