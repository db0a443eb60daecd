"""The elementary functions: accurate, exact where they can be, vectors everywhere, one set of bits.

How accurate is measured by `tests.kernels.accuracy`; run it densely with -m accuracy.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest

import chunkarr
from chunkarr.kernels import build, tier, vecmath
from chunkarr.kernels.codegen import source_of
from chunkarr.kernels.evaluate import map_into, reduce_region
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.spec import Spec
from chunkarr.settings import config
from tests.kernels import accuracy
from tests.kernels.accuracy import COMPLEX, DENSE, ONE, TWO, computed, program, samples, worst
from tests.kernels.support import Array, assert_same_bits, evaluate, in_both, kernels

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = (*ONE, *TWO)
BOUND, BOUND_TYPICAL = 2.0, 1.5
"""Units in the last place: never more than the first, and rarely more than the second."""


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", NAMES)
def test_errors_are_mostly_below_a_unit_and_a_half_in_the_last_place(name: str, dtype: str) -> None:
    assert worst(name, dtype, 40) <= BOUND_TYPICAL


@pytest.mark.accuracy
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", NAMES)
def test_errors_stay_below_two_units_in_the_last_place_densely(name: str, dtype: str) -> None:
    assert worst(name, dtype, 10 * DENSE) <= BOUND


@pytest.mark.accuracy
@pytest.mark.timeout(3000)
def test_the_page_of_the_documentation_is_what_is_measured() -> None:
    assert accuracy.PAGE.read_text() == accuracy.page(DENSE)


def special(dtype: np.dtype[Any]) -> Array:
    info = np.finfo(dtype)
    edges = [0.0, info.smallest_subnormal, info.smallest_normal, info.max, np.inf]
    listed = [*edges, 0.5, 1, 1.5, 2, 3, 4, 8, 27, 64, 2.0**info.nmant, 2.0 ** (info.nmant + 1) + 2]
    return np.array([*listed, *(-x for x in listed), np.nan], dtype)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", NAMES)
def test_zeros_poles_infinities_and_whole_results_are_numpys(name: str, dtype: str) -> None:
    values = special(np.dtype(dtype))
    operands = [values]
    if name in TWO:
        operands = [np.ravel(x) for x in np.meshgrid(values, values)]
    found = computed(name, operands)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*operands)
        certain = ~np.isfinite(expected) | (expected == np.rint(expected))
        certain &= ~(np.abs(expected) > 2.0**20) | ~np.isfinite(expected)
    assert_same_bits(found[certain], expected[certain])
    np.testing.assert_allclose(found, expected, rtol=4 * float(np.finfo(dtype).eps))


def test_powers_of_two_and_ten_and_cubes_have_exact_logarithms_and_roots() -> None:
    n = np.arange(-1074.0, 1024)
    powers = np.ldexp(1.0, n.astype(int))
    np.testing.assert_array_equal(computed("exp2", [n]), powers)
    np.testing.assert_array_equal(computed("log2", [powers]), n)
    np.testing.assert_array_equal(computed("power", [np.full_like(n, 2.0), n]), powers)
    n = np.arange(23.0)
    np.testing.assert_array_equal(computed("log10", [10.0**n]), n)
    n = np.arange(1.0, 2000)
    np.testing.assert_array_equal(computed("cbrt", [n**3]), n)
    np.testing.assert_array_equal(computed("power", [n, np.full_like(n, 3.0)]), n**3)
    np.testing.assert_array_equal(computed("hypot", [3 * n, 4 * n]), 5 * n)


@pytest.mark.parametrize(("dtype", "part"), [("c16", "f8"), ("c8", "f4")])
def test_the_size_of_a_complex_number_is_hypot_of_its_parts(dtype: str, part: str) -> None:
    values = special(np.dtype(part))
    x, y = (np.ravel(a) for a in np.meshgrid(values, values))
    z = np.empty(x.shape, dtype)
    z.real, z.imag = x, y
    op = Op(vecmath.PREFIX + "absolute", (0,), (z.dtype,), x.dtype)
    for [found] in in_both(lambda: evaluate(Program((z.dtype,), (op,), (1,)), [z], z.shape)):
        assert_same_bits(found, computed("hypot", [x, y]))


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(("name", "base"), [("logaddexp", mpmath.e), ("logaddexp2", mpmath.mpf(2))])
def test_log_of_a_sum_of_powers(name: str, base: Any, dtype: str) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-50, 50, (2, 500)).astype(dtype)
    y[:100] = x[:100] + rng.uniform(-1, 1, 100).astype(dtype)
    found = computed(name, [x, y])
    with mpmath.workprec(300):
        for a, b, got in zip(x.tolist(), y.tolist(), found.tolist(), strict=True):
            exact = mpmath.log(mpmath.power(base, a) + mpmath.power(base, b), base)
            unit = np.spacing(np.dtype(dtype).type(max(abs(a), abs(b), abs(float(exact)))))
            assert abs(got - exact) <= 2 * float(unit)
    values = special(np.dtype(dtype))
    left, right = (np.ravel(a) for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(left, right)
    np.testing.assert_allclose(computed(name, [left, right]), expected, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_halves_are_computed_in_single_precision_and_rounded(name: str) -> None:
    bits = np.arange(0, 1 << 16, 1 if name in ONE else 7, dtype=np.uint16)
    operands = [bits.view(np.float16), bits[::-1].copy().view(np.float16)][: 1 + (name in TWO)]
    found = computed(name, operands)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*operands)
        exact = getattr(np, name)(*(x.astype(float) for x in operands))
        unit = np.spacing(np.abs(expected)).astype(float)
    assert found.dtype == np.float16
    finite = np.isfinite(expected)
    assert_same_bits(found[~finite], expected[~finite])
    np.testing.assert_array_equal(np.signbit(found[finite]), np.signbit(expected[finite]))
    error = np.abs(found[finite].astype(float) - exact[finite])
    assert np.all(error <= 0.51 * unit[finite])


ANGLES = {
    "f8": (6381956970095103.0 * 2.0**797, 1e22, 2.0**45, 2.0**1000, 1e300, -1.7e308),
    "f4": (16367173.0 * 2.0**72, 1e6, 2.0**19, 2.0**100, 1e30, -3.4e38),
}
"""The first of each is the float closest to a multiple of pi/2."""


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_a_large_angle_among_small_ones_is_right_and_changes_no_others(
    name: str, dtype: str
) -> None:
    x = np.linspace(-40, 40, 5000).astype(dtype)
    few = x.copy()
    few[100:106] = ANGLES[dtype]
    alone, mixed = computed(name, [x]), computed(name, [few])
    rest = np.ones(5000, bool)
    rest[100:106] = False
    np.testing.assert_array_equal(mixed[rest], alone[rest])
    with mpmath.workprec(1300):
        for angle, got in zip(few[100:106].tolist(), mixed[100:106].tolist(), strict=True):
            exact = x.dtype.type(getattr(mpmath, name)(mpmath.mpf(angle)))
            assert abs(got - exact) <= np.spacing(abs(exact))
    for axis, shape in ((0, (5000,)), (0, (50, 100))) if name == "sin" else ():
        values = few.reshape(shape)
        one = program(name, values.dtype, 1)
        with kernels("compiled"):
            [total] = reduce_region(one, "max", [values], shape, (axis,))
        np.testing.assert_array_equal(total, mixed.reshape(shape).max(axis))


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(
    "name",
    [
        *("fmod", "remainder", "floor_divide", "nextafter", "ldexp"),
        *("frexp", "modf", "deg2rad", "rad2deg"),
    ],
)
def test_exact_functions_give_numpys_bits(name: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    kind, ufunc = np.dtype(dtype), getattr(np, name)
    values = special(kind)
    size = int(np.log2(np.finfo(kind).max))
    spread = (rng.choice([-1, 1], 4000) * 2 ** rng.uniform(-size, size, 4000)).astype(kind)
    left, right = (np.ravel(a) for a in np.meshgrid(values, values))
    x = np.concatenate([left, spread, rng.normal(size=4000).astype(kind)])
    y = np.concatenate([right, spread[::-1], rng.normal(size=4000).astype(kind)])
    y = rng.integers(-2200, 2200, x.size) if name == "ldexp" else y
    operands = [x, y][: ufunc.nin]
    for output in range(ufunc.nout):
        with np.errstate(all="ignore"):
            given = ufunc(*operands)
        expected = given[output] if ufunc.nout > 1 else given
        types = tuple(operand.dtype for operand in operands)
        op = Op(name, tuple(range(ufunc.nin)), types, expected.dtype, output)
        one = Program(types, (op,), (ufunc.nin,))
        for [found] in in_both(lambda one=one: evaluate(one, operands, x.shape)):  # type: ignore[misc]
            assert_same_bits(found, expected)


def test_the_tiers_agree_whatever_the_layout() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.uniform(0.1, 0.9, (2, 60, 50))
    f8 = x.dtype
    ours = [Op(vecmath.PREFIX + name, (0,), (f8,), f8) for name in ONE if name != "arccosh"]
    ours += [Op(vecmath.PREFIX + name, (0, 1), (f8, f8), f8) for name in TWO]
    both = Program((f8, f8), tuple(ours), tuple(range(2, 2 + len(ours))))
    plain = evaluate(both, [x, y], x.shape)
    for layout in (np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2]):
        for found in in_both(lambda layout=layout: evaluate(both, [layout(x), layout(y)], x.shape)):  # type: ignore[misc]
            for one, two in zip(found, plain, strict=True):
                assert_same_bits(one, two)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    shifted = raw[1:].view(f8).reshape(x.shape)
    shifted[...] = x
    for one, two in zip(evaluate(both, [shifted, y], x.shape), plain, strict=True):
        assert_same_bits(one, two)


def test_size_decides_who_computes_a_function_and_nothing_else() -> None:
    f8 = np.dtype(float)
    large, small = (1 << 11, 1 << 11), (1 << 11, 1 << 10)
    assert vecmath.chosen("exp", (f8,), large) == "vecmath.exp"
    assert vecmath.chosen("exp", (f8,), small) == "exp"
    assert vecmath.chosen("sqrt", (f8,), large) == "sqrt"
    assert vecmath.chosen("exp", (np.dtype(np.float16),), large) == "vecmath.exp"
    assert vecmath.chosen("exp", (np.dtype(np.longdouble),), large) == "exp"
    assert vecmath.chosen("exp", (np.dtype(complex),), large) == "vecmath.exp"
    assert vecmath.chosen("exp", (np.dtype(np.clongdouble),), large) == "exp"
    assert vecmath.chosen("cbrt", (np.dtype(complex),), large) == "cbrt"


FUSED: dict[str, Callable[[Any], Any]] = {
    "floats": lambda x: (
        chunkarr.exp(-x * x) * chunkarr.sin(x) + chunkarr.arctan2(x, chunkarr.cosh(x))
    ),
    "complex numbers": lambda x: (
        chunkarr.exp(1j * x) * chunkarr.sqrt(x + 2j) + chunkarr.log(x - 1j) ** 2.5
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_bits_do_not_depend_on_chunks_workers_or_executor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vecmath, "ELEMENTS_MIN", 1)
    values = np.linspace(-9, 9, 60000).reshape(300, 200)
    found = set()
    for settings in (
        {"eager_bytes": 0, "workers": 1},
        {"eager_bytes": 0, "workers": 2, "chunk_bytes": 5000},
        {"eager_bytes": 0, "workers": 2, "executor": "processes"},
    ):
        with config(**settings):
            found.add(FUSED[name](chunkarr.array(values)).compute().tobytes())
    assert len(found) == 1


def test_events_are_told_as_numpy_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vecmath, "ELEMENTS_MIN", 1)
    with config(eager_bytes=0):
        x = chunkarr.array(np.linspace(-1, 1, 1001))
        with pytest.warns(RuntimeWarning, match="invalid value encountered in log"):
            chunkarr.log(x - 2).compute()
        with pytest.warns(RuntimeWarning, match="overflow encountered in exp"):
            chunkarr.exp(x * 1000).compute()
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            chunkarr.log(x * 0).compute()
        assert chunkarr.tanh(chunkarr.where(x > 0, np.nan, x)).compute()[0] == np.tanh(-1)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", NAMES)
def test_what_numpy_raises_is_raised(name: str, dtype: str) -> None:
    values = special(np.dtype(dtype))
    pairs = [(x,) for x in values] if name in ONE else [(x, y) for x in values for y in values]
    one = program(name, values.dtype, len(pairs[0]))
    out = np.empty(3, values.dtype)
    for pair in pairs:
        operands = [np.full(3, x, values.dtype) for x in pair]
        events = []
        for work in (lambda: getattr(np, name)(*operands), lambda: map_into(one, operands, [out])):  # noqa: B023
            with np.errstate(all="raise", under="ignore"):
                try:
                    work()
                except FloatingPointError as error:
                    events.append(str(error))
        assert len(events) in {0, 2}, (pair, events)


def modules_of(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Compile a kernel; give its LLVM code and its assembly."""
    found = []
    emit = llvm.TargetMachine.emit_object

    def spy(self: Any, module: Any) -> bytes:
        found.append((str(module), self.emit_assembly(module)))
        code: bytes = emit(self, module)
        return code

    monkeypatch.setattr(llvm.TargetMachine, "emit_object", spy)
    compiler = __import__("chunkarr.kernels.compile", fromlist=["compile_kernel"])
    compiler.compile_kernel(source_of(spec), "assembly")
    return found


WIDENED = {"hypot"}
"""Functions that do float32 in float64."""


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", [*NAMES, "logaddexp", "logaddexp2"])
def test_loops_are_vectors_without_calls(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 1 if name in ONE else 2
    spec = Spec(program(name, np.dtype(dtype), count), None, "map", "u" * (count + 1))
    [(code, assembly)] = modules_of(spec, monkeypatch)
    called = set(re.findall(r"^declare [^@]*@([\w.]+)\(", code, re.MULTILINE))
    assert all(found.startswith(("llvm.", "fe")) for found in called), called
    native = dtype == "f8" or name not in WIDENED
    kind, suffix = ("float", "ps") if dtype == "f4" and native else ("double", "pd")
    assert re.search(rf"(fma|fmul|fadd)[^\n]*<\d+ x {kind}>", code), "no vectors"
    assert kind == "double" or "x double>" not in code
    if platform.machine() == "x86_64" and "fma" in llvm.get_host_cpu_features():
        assert re.search(rf"vf(n?)m(add|sub)\d+{suffix}", assembly)


def bits_of_all(dtype: str) -> str:
    """Name the bits that all functions give in a dtype."""
    found = hashlib.sha256()
    for name in NAMES if dtype.startswith("f") else COMPLEX:
        for operands in samples(name, dtype, 100):
            # A NaN's sign and payload are the processor's own.
            found.update(np.nan_to_num(computed(name, operands), nan=7.0).tobytes())
    return found.hexdigest()


OTHER = "from tests.kernels import test_vecmath; print(test_vecmath.bits_of_all({!r}))"


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86-64 processors")
@pytest.mark.parametrize("dtype", ["f8", "f4", "c16", "c8"])
@pytest.mark.parametrize("processor", ["haswell", "x86-64-v2"])
def test_a_processor_without_wide_vectors_or_fused_multiplication_gives_the_same_bits(
    processor: str, dtype: str, tmp_path: Path
) -> None:
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "CHUNKARR_CACHE_DIR": str(tmp_path / "k"),
    }
    environment.pop("NUMBA_CPU_FEATURES", None)
    result = subprocess.run(
        [sys.executable, "-c", OTHER.format(dtype)],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == bits_of_all(dtype)


def test_kernels_on_disk_know_the_functions_they_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "functions.py"
    monkeypatch.setattr(vecmath, "files", lambda: [file])
    keys = set()
    for text in ("one", "two"):
        file.write_text(text)
        build._digest.cache_clear()
        entry = tier.Entry(Spec(program("exp", np.dtype(float), 1), None, "map", "uu"), 0.0)
        keys.add(build._key(entry)[1])
    build._digest.cache_clear()
    assert len(keys) == 2
