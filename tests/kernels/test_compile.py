"""What compiling kernels leaves in a process: object code, and warnings as they were."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
from numba.core.codegen import AOTCodeLibrary
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


def libraries() -> list[AOTCodeLibrary]:
    gc.collect()
    return [x for x in gc.get_objects() if type(x) is AOTCodeLibrary]


def test_numba_keeps_nothing_of_a_kernel() -> None:
    compile_kernel(SOURCE.format(factor=1.5), "first")  # Numba compiles `min`, once and for all.
    before, known = libraries(), set(cpu_target.target_context._defns)
    codes = [compile_kernel(SOURCE.format(factor=2.0 + i), str(i)) for i in range(3)]
    assert len(set(codes)) == 3
    assert [x for x in libraries() if x not in before] == []
    assert set(cpu_target.target_context._defns) <= known


def test_the_filters_of_warnings_are_left_to_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> Any:
        message = "the filters of the whole process are changed"
        raise AssertionError(message)

    compile_kernel(SOURCE.format(factor=0.5), "before")
    monkeypatch.setattr(warnings, "catch_warnings", forbidden)
    compile_kernel(SOURCE.format(factor=0.75), "quiet")
