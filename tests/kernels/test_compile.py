"""What stays in a process after kernels were compiled: object code, and nothing of Numba's."""

from __future__ import annotations

import gc

from numba.core.codegen import CodeLibrary
from numba.core.registry import cpu_target

from chunkarr.kernels.compile import compile_kernel

SOURCE = """
@inline
def scaled(value):
    return value * {factor}

def kernel(p):
    x = pointer_f8(load(p, 0))
    for i in range(min(load(p, 1), load(p, 2))):
        store(x, i, scaled(load(x, i)))
"""


def code_in_numba() -> tuple[int, int]:
    gc.collect()
    libraries = sum(isinstance(x, CodeLibrary) for x in gc.get_objects())
    return libraries, len(cpu_target.target_context._defns)


def test_numba_keeps_nothing_of_a_kernel() -> None:
    compile_kernel(SOURCE.format(factor=1.5), "first")  # Numba compiles `min`, once and for all.
    before = code_in_numba()
    codes = [compile_kernel(SOURCE.format(factor=2.0 + i), str(i)) for i in range(3)]
    assert len(set(codes)) == 3
    assert code_in_numba() == before
