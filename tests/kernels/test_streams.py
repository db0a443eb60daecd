"""Large results are written past the caches: the same bits, nothing beside them, one kernel."""

from __future__ import annotations

import platform
import re
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from chunkarr.kernels import layouts, tier
from chunkarr.kernels.evaluate import map_into
from chunkarr.kernels.layouts import map_recipe
from chunkarr.kernels.program import Program
from chunkarr.kernels.spec import LINE_BYTES, Spec
from tests.kernels.support import Array, Build, assert_same_bits, kernels
from tests.kernels.test_vecmath import modules_of


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "STREAM_BYTES_MIN", 0)
    monkeypatch.setattr(layouts, "RUN_BYTES_MIN", 1)
    monkeypatch.setattr(layouts, "_recipes", {})
    monkeypatch.setattr(tier, "_entries", {})


def chain(dtype: Any) -> Program:
    """(x + y) * x, or whether x is greater than y."""
    build = Build(dtype, dtype)
    if np.dtype(dtype).kind == "b":
        return build.program(build("logical_and", 0, 1))
    return build.program(build("multiply", build("add", 0, 1), 0))


def mapped(program: Program, arrays: list[Array], out: Array) -> str:
    """Map with the kernel that there is for it; gives the classes of its operands."""
    recipe = map_recipe(program, arrays, [out])
    assert recipe is not None
    with kernels("compiled"):
        map_into(program, arrays, [out])
    return recipe.entry.spec.classes


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u2", "i1", "?", "f2"])
def test_wherever_results_begin_they_are_right_and_nothing_beside_them_is_written(
    dtype: str,
) -> None:
    rng = np.random.default_rng(0)
    program = chain(dtype)
    for length in (1, 7, 63, 64, 65, 1000, 4099):
        x, y = rng.integers(0, 5, (2, length)).astype(dtype)
        expected = np.empty(length, dtype)
        with kernels("numpy"):
            map_into(program, [x, y], [expected])
        for offset in (0, 1, 3, LINE_BYTES // x.itemsize - 1, LINE_BYTES // x.itemsize):
            whole = np.full(length + offset + 9, 1, dtype)
            assert mapped(program, [x, y], whole[offset : offset + length])[-1] == "n"
            assert_same_bits(whole[offset : offset + length], expected)
            assert (whole[:offset] == 1).all()
            assert (whole[offset + length :] == 1).all()


def test_rows_that_lie_apart_are_written_so() -> None:
    x = np.random.default_rng(1).standard_normal((30, 200))
    out = np.zeros((30, 300))
    assert mapped(chain("f8"), [x, x[:1]], out[:, 5:205]) == "uun"
    np.testing.assert_array_equal(out[:, 5:205], (x + x[:1]) * x)
    assert not out[:, :5].any()
    assert not out[:, 205:].any()


@pytest.mark.parametrize("view", ["complex", "strided", "transposed"])
def test_results_that_do_not_fill_lines_are_written_as_ever(view: str) -> None:
    x: Array = np.random.default_rng(2).standard_normal((100, 100))
    out = np.zeros((100, 200))[:, ::2]
    if view == "complex":
        x, out = x + 1j, np.zeros((100, 100), complex)
    y = x.T if view == "transposed" else x
    out = np.zeros((100, 100)) if view == "transposed" else out
    assert "n" not in mapped(chain(x.dtype), [x, y], out)
    np.testing.assert_allclose(out, (x + y) * x)


def test_a_kernel_that_is_there_serves_results_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.ones(1000)
    large = mapped(chain("f8"), [x, x], np.empty(1000))
    monkeypatch.setattr(layouts, "STREAM_BYTES_MIN", 1 << 40)
    small = mapped(chain("f8"), [x, x], np.empty(1000))
    assert (large, small) == ("uun", "uuu")
    assert tier.kernels_ready() == 1


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_vectors_are_stored_past_the_caches(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [(code, assembly)] = modules_of(Spec(chain(dtype), None, "map", "uun"), monkeypatch)
    assert re.search(r"store <\d+ x (double|float)>.*!nontemporal", code)
    assert "fence seq_cst" in code
    if platform.machine() == "x86_64" and "avx" in llvm.get_host_cpu_features():
        assert "vmovntp" in assembly
