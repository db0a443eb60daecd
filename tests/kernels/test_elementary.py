"""Elementary functions that users' functions call are vectors, within the known errors of NumPy's.

The ufunc that Numba makes calls the C library: it is what values, warnings and errors are compared
with.
"""

from __future__ import annotations

import functools
import math
import platform
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chunkarr
from chunkarr.kernels import layouts, users, vecmath
from chunkarr.kernels.jit import user_function
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.spec import Spec
from tests.kernels.support import Array, kernels
from tests.kernels.test_vecmath import modules_of

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

ULP_MAX = 8
"""Errors of factors add up; one function's stays below 2, and below 1 in the C library."""


@pytest.fixture(autouse=True)
def _ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let arrays of any size have our functions."""
    monkeypatch.setattr(vecmath, "ELEMENTS_MIN", 1)


@numba.njit  # type: ignore[untyped-decorator]
def _bell(p: Any) -> Any:
    return math.exp(-p * p)


@numba.njit  # type: ignore[untyped-decorator]
def _summed(p: Any) -> Any:
    total = 0.0
    for k in range(1, 4):
        total += math.exp(-p * k)
    return total


ONE: dict[str, Callable[[Any], Any]] = {
    "bell": lambda p: math.exp(-p * p),
    "called": lambda p: _bell(p) * 2,
    "wave": lambda p: math.sin(p) * np.cos(p) * math.tan(p),
    "powers of two": lambda p: np.exp2(p) * math.expm1(p),
    "roots": lambda p: math.sqrt(abs(p)) + math.exp(p),
    "a power": lambda p: abs(p) ** 1.25,
    "hyperbolic": lambda p: math.sinh(p) + np.cosh(p) * math.tanh(p),
    "inverses": lambda p: math.atan(p) * math.asinh(p),
    "logarithms": lambda p: math.log(p) * np.log2(p) * math.log10(p) / math.log1p(p),
    "of sines": lambda p: math.asin(p) * math.acos(p),
    "of hyperbolic ones": lambda p: math.acosh(p) * math.atanh(p),
    "logarithm in a branch": lambda p: math.log(p) if p > 0 else math.exp(p),
    "the other branch": lambda p: math.log1p(p) if p > -0.5 else math.tanh(p),
    "root in a branch": lambda p: math.sqrt(p) * math.exp(p) if p > 1 else math.cos(p) * 3,
    "arcs in a branch": lambda p: math.asin(p) if p * p < 1 else math.atan(p) * 2,
    "area in branches": lambda p: (
        math.acosh(p) if p >= 1 else math.atanh(p) if p > -1 else math.exp(p)
    ),
    "in a loop": lambda p: _summed(p) * 2,
}
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "arctan2": lambda p, q: math.atan2(p, q) * 2,
    "a power": lambda p, q: abs(p) ** q,
    "math.pow": lambda p, q: math.pow(abs(p), q) + math.exp(q),
}
GUARDED = [name for name in ONE if "branch" in name]
SPECIAL = [0.0, -0.0, 0.5, 1.0, -1.0, 2.0, -2.0, 1e3, -1e3, 1e-300, 1e15, 1e300, -1e300]
SPECIAL += [math.inf, -math.inf, math.nan]


def compiled(function: Callable[..., Any], *, single: bool = False) -> Any:
    """Make a ufunc of one loop."""
    kind = "f4" if single else "f8"
    count = function.__code__.co_argcount
    return xp.vectorize([f"{kind}({', '.join([kind] * count)})"])(function)


@functools.cache
def ufunc_of(name: str) -> Any:
    """Make the ufunc of a function of one number."""
    return compiled(ONE[name])


def distance(left: Array, right: Array) -> float:
    """Give the largest difference in units of the last place; infinities and NaN have to agree."""
    plain = np.isfinite(right)
    np.testing.assert_array_equal(left[~plain], right[~plain])
    gaps = np.spacing(np.abs(right[plain]))
    return float(np.max(np.abs(left[plain] - right[plain]) / gaps, initial=0))


def told(make: Callable[[], Any]) -> str:
    """Compute with events as errors; give the one that is met."""
    with np.errstate(all="raise", under="ignore"):
        try:
            make()
        except FloatingPointError as error:
            return str(error)
    return ""


def computed(ufunc: Any, *operands: Array) -> Array:
    """Apply a ufunc in kernels."""
    with xp.config(eager_bytes=0):
        found: Array = ufunc(*map(xp.asarray, operands)).compute()
    return found


@pytest.mark.parametrize("single", [False, True], ids=["f8", "f4"])
@pytest.mark.parametrize("name", [*ONE, *(f"2 {name}" for name in TWO)])
def test_values_are_within_the_known_errors(name: str, *, single: bool) -> None:
    function: Any = TWO[name[2:]] if name.startswith("2 ") else ONE[name]
    ufunc = compiled(function, single=single)
    rng = np.random.default_rng(0)
    sides = [np.append(rng.normal(size=2000) * 2, rng.uniform(0, 1, 500)) for _ in range(2)]
    operands = [side.astype("f4" if single else "f8") for side in sides[: ufunc.nin]]
    with np.errstate(all="ignore"):
        expected, found = ufunc.ufunc(*operands), computed(ufunc, *operands)
    assert found.dtype == expected.dtype
    assert distance(found, expected) <= ULP_MAX


@pytest.mark.parametrize("name", [*GUARDED, "wave", "hyperbolic"])
def test_special_operands_give_what_they_give_in_the_c_library(name: str) -> None:
    ufunc = ufunc_of(name)
    for value in SPECIAL:
        operand = np.full(9, value)
        with np.errstate(all="ignore"):
            expected, found = ufunc.ufunc(operand), computed(ufunc, operand)
        assert distance(found, expected) <= ULP_MAX, value
        left, right = (np.signbit(side) | np.isnan(side) for side in (found, expected))
        np.testing.assert_array_equal(left, right)
        assert told(lambda: computed(ufunc, operand)) == told(lambda: ufunc.ufunc(operand)), value  # noqa: B023


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=64), min_size=1, max_size=40), st.sampled_from(GUARDED))
def test_any_numbers(values: list[float], name: str) -> None:
    ufunc, operand = ufunc_of(name), np.array(values)
    with np.errstate(all="ignore"):
        expected, found = ufunc.ufunc(operand), computed(ufunc, operand)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_guarded_logarithms_set_no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    run = layouts.Recipe.run_map

    def spy(self: Any, kernel: Any, operands: Any) -> int:
        found.append(run(self, kernel, operands))
        return found[-1]

    monkeypatch.setattr(layouts.Recipe, "run_map", spy)
    operand = np.random.default_rng(0).normal(size=5000)
    for name in GUARDED:
        computed(ufunc_of(name), operand)
    assert set(found) == {0}


def test_operations_that_are_called_give_the_kernel_s_bits() -> None:
    x = np.random.default_rng(0).normal(size=(30, 400))
    for name in ("bell", "wave", "logarithm in a branch"):
        ufunc = ufunc_of(name)
        whole = computed(ufunc, x)
        with xp.config(eager_bytes=0), np.errstate(all="ignore"):
            among = xp.maximum(ufunc(xp.asarray(x)), xp.spacing(xp.asarray(x)) - np.inf).compute()
        np.testing.assert_array_equal(among, whole)


def test_small_arrays_and_numpy_s_tier_have_the_c_library_s_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.random.default_rng(0).normal(size=4000)
    expected = ufunc_of("wave").ufunc(x)
    with kernels("numpy"):
        np.testing.assert_array_equal(computed(ufunc_of("wave"), x), expected)
    monkeypatch.setattr(vecmath, "ELEMENTS_MIN", 1 << 22)
    with kernels("compiled"):
        np.testing.assert_array_equal(computed(ufunc_of("wave"), x), expected)


def test_integers_and_choices_may_come_out() -> None:
    @xp.vectorize(["i8(f8)", "i4(f4)"])  # type: ignore[untyped-decorator]
    def steps(p: Any) -> Any:
        return int(math.exp(p) * 3)

    @xp.vectorize(["b1(f8)"])  # type: ignore[untyped-decorator]
    def inside(p: Any) -> Any:
        return math.sin(p) > 0.5

    x = np.random.default_rng(0).normal(size=4000)
    for ufunc, operand in ((steps, x), (steps, x.astype("f4")), (inside, x)):
        np.testing.assert_array_equal(computed(ufunc, operand), ufunc.ufunc(operand))


VECTORS = ("bell", "called", "wave", "a power", "logarithm in a branch", "arcs in a branch")


@pytest.mark.parametrize(
    ("name", "single"), [*((name, False) for name in VECTORS), (VECTORS[0], True)]
)
def test_loops_are_vectors_without_calls(
    name: str, monkeypatch: pytest.MonkeyPatch, *, single: bool
) -> None:
    kind, objects = np.dtype("f4" if single else "f8"), np.dtype(object)
    ufunc = compiled(ONE[name], single=single)
    function = user_function(ufunc.ufunc, tuple(np.dtype(c) for c in ufunc.types[0] if c in "fd"))
    assert function is not None
    chosen = vecmath.chosen(function.name, (objects, kind), (9,))
    assert users.is_users(chosen)
    assert chosen != function.name
    op = Op(chosen, (0, 1), (objects, kind), kind)
    spec = Spec(Program((objects, kind), (op,), (2,)), None, "map", "suu")
    [(code, assembly)] = modules_of(spec, monkeypatch)
    called = set(re.findall(r"^declare [^@]*@([\w.]+)\(", code, re.MULTILINE))
    assert all(found.startswith(("llvm.", "fe")) for found in called), called
    assert re.search(r"(fma|fmul|fadd)[^\n]*<\d+ x (double|float)>", code), "no vectors"
    if platform.machine() == "x86_64" and "fma" in llvm.get_host_cpu_features():
        assert re.search(r"vf(n?)m(add|sub)\d+p[sd]", assembly)
