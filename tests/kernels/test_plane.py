"""Elementary functions of complex numbers: accurate, NumPy's at the edges, one set of bits.

How accurate is measured by `tests.kernels.accuracy`; run it densely with -m accuracy.
"""

from __future__ import annotations

import platform
import re
import warnings
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest

import chunkarr
from chunkarr.kernels import vecmath
from chunkarr.kernels.evaluate import map_into
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.spec import Spec
from chunkarr.settings import config
from tests.kernels.accuracy import COMPLEX, DENSE, computed, program, worst
from tests.kernels.support import Array, assert_same_bits, evaluate, in_both, kernels
from tests.kernels.test_vecmath import modules_of, special

ONE = [name for name in COMPLEX if name != "power"]
BOUND, BOUND_TYPICAL = {"power": 8.0}, 3.0
"""Units in the last place of each part: 4 or what is listed, and rarely more than the second."""
PARTS = {"c16": "f8", "c8": "f4"}


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", COMPLEX)
def test_errors_are_mostly_below_three_units_in_the_last_place(name: str, dtype: str) -> None:
    assert worst(name, dtype, 15) <= BOUND_TYPICAL


@pytest.mark.accuracy
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", COMPLEX)
def test_errors_stay_below_four_units_but_for_powers_densely(name: str, dtype: str) -> None:
    assert worst(name, dtype, DENSE) <= BOUND.get(name, 4.0)


def joined(re: Array, im: Array) -> Array:
    """Make complex numbers of their parts, whatever these are."""
    z: Array = np.empty(re.shape, np.result_type(re, np.complex64))
    z.real, z.imag = re, im
    return z


def edges(dtype: str) -> Array:
    """Numbers whose parts are zeros, infinities, NaN, whole, tiny and large."""
    values = special(np.dtype(PARTS[dtype]))
    return joined(*(np.ravel(part) for part in np.meshgrid(values, values)))


WORSE = {"log1p", "exp2", "expm1"}
"""Functions that NumPy composes of others, which round and overflow on the way."""


OPEN = {
    "arcsin": {complex(-np.inf, np.nan): complex(np.nan, np.inf)},
    "arcsinh": {complex(np.nan, -np.inf): complex(np.inf, np.nan)},
    "arccosh": {complex(zero, np.nan): complex(np.nan, np.pi / 2) for zero in (0.0, -0.0)},
}
"""Where C leaves the sign of an infinity open, or changed its mind in 2017: versions of NumPy
differ there, and ours are the values of NumPy 2.4."""


def told_by_all(name: str, z: Array) -> Array:
    """Tell the numbers at which all versions of NumPy agree."""
    parts = np.stack([z.real, z.imag], -1)
    open_ones = np.array([(w.real, w.imag) for w in OPEN.get(name, ())]).reshape(-1, 1, 2)
    same = (parts == open_ones) | (np.isnan(parts) & np.isnan(open_ones))
    agreed: Array = ~same.all(-1).any(0)
    return agreed


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", OPEN)
def test_what_c_leaves_open_is_the_same_beside_any_numpy(name: str, dtype: str) -> None:
    z = np.array(list(OPEN[name]), dtype)
    right = np.array(list(OPEN[name].values()), dtype)
    found = computed(name, [z])
    assert_same_bits(found.real, right.real)
    assert_same_bits(found.imag, right.imag)


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", ONE)
def test_zeros_poles_infinities_and_cuts_are_numpys(name: str, dtype: str) -> None:
    z = edges(dtype)
    z = z[told_by_all(name, z)]
    info = np.finfo(z.dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(z)
    found = computed(name, [z])
    for got, right in ((found.real, expected.real), (found.imag, expected.imag)):
        # What a subnormal number rounds to depends on the order of operations.
        certain = (np.abs(right) >= info.smallest_normal) | np.isnan(right)
        certain |= (right == 0) & (got == 0)
        if name in WORSE:
            certain &= ~(np.abs(z) < 1e-3)
            for part in (z.real, z.imag):
                size = np.abs(part)
                certain &= ~np.isfinite(size) | (size == 0) | ((size > 1e-30) & (size < 80))
        assert_same_bits(np.isfinite(got[certain]), np.isfinite(right[certain]))
        endless = certain & ~np.isfinite(right)
        assert_same_bits(got[endless], right[endless])
        assert np.all((np.signbit(got) == np.signbit(right))[certain & ~np.isnan(right)])
        rest = certain & ~endless
        tolerance = (64 if name in WORSE else 8) * float(info.eps)
        np.testing.assert_allclose(got[rest], right[rest], rtol=tolerance)


@pytest.mark.parametrize("dtype", PARTS)
def test_powers_of_zeros_infinities_and_whole_numbers_are_numpys(dtype: str) -> None:
    part = np.dtype(PARTS[dtype])
    few = np.array([0.0, 0.5, 1, 2, 3, 2.5, 7, np.inf], part)
    values = np.concatenate([few, -few, [np.nan]]).astype(part)
    z, w = (joined(*(np.ravel(x) for x in np.meshgrid(values, values))) for _ in range(2))
    z, w = (np.ravel(x) for x in np.meshgrid(z, w))
    with np.errstate(all="ignore"):
        expected, found = np.power(z, w), computed("power", [z, w])
    for got, right in ((found.real, expected.real), (found.imag, expected.imag)):
        endless = ~(np.isfinite(got) & np.isfinite(right))
        # Where a direction is an axis, NumPy's rounding error times infinity is infinite.
        axis = np.isinf(right) & (got == 0)
        assert_same_bits(got[endless & ~axis], right[endless & ~axis])
    whole = (w.imag == 0) & (np.abs(w.real) < 100) & (w.real == np.rint(w.real))
    np.testing.assert_allclose(found[whole], expected[whole], rtol=2 * float(np.finfo(part).eps))
    tame = np.isfinite(found) & np.isfinite(expected)
    error = np.abs(found[tame] - expected[tame])
    assert np.all(error <= 64 * float(np.finfo(part).eps) * np.abs(found[tame]))


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", [*ONE, "absolute"])
def test_what_numpy_raises_of_numbers_is_raised(name: str, dtype: str) -> None:
    z = edges(dtype)
    z = z[~np.isnan(z)][:: 7 if name in ONE else 3]
    kind = np.dtype(PARTS[dtype]) if name == "absolute" else z.dtype
    op = Op(vecmath.PREFIX + name, (0,), (z.dtype,), kind)
    one, out = Program((z.dtype,), (op,), (1,)), np.empty(3, kind)
    for number in z:
        operands = [np.full(3, number, z.dtype)]
        events = []
        for work in (lambda: getattr(np, name)(*operands), lambda: map_into(one, operands, [out])):  # noqa: B023
            with np.errstate(all="raise", under="ignore"):
                try:
                    work()
                except FloatingPointError as error:
                    events.append(str(error))
        narrow = dtype == "c8" and len(events) == 1
        assert len(events) in {0, 2} or (narrow and "overflow" in events[0]), (number, events)


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", sorted(vecmath.COMPLEX_SLOWER))
def test_a_large_angle_among_small_ones_is_right_and_changes_no_others(
    name: str, dtype: str
) -> None:
    part = np.dtype(PARTS[dtype])
    x, y = np.linspace(-2, 2, 200).astype(part), np.linspace(-7, 9, 200).astype(part)
    angles = np.array([1e22, -(2.0**45), 2.0**100, -3.4e38], part)
    few, real = y.copy(), vecmath.COMPLEX_ANGLES.get(name) == "real"
    few[50:54] = angles
    alone, mixed = ([joined(v, x) if real else joined(x, v)] for v in (y, few))
    if name == "power":
        alone, mixed = ([joined(x, x[::-1]), *w] for w in (alone, mixed))
    first, second = computed(name, alone), computed(name, mixed)
    rest = np.ones(200, bool)
    rest[50:54] = False
    assert_same_bits(second[rest].view(part), first[rest].view(part))
    if name in {"power", "exp2"}:
        return  # Products of such angles are rounded by more than a turn.
    with mpmath.workprec(1300):
        for z, got in zip(mixed[0][50:54].tolist(), second[50:54].tolist(), strict=True):
            exact = complex(getattr(mpmath, name)(mpmath.mpc(z)))
            assert abs(got - exact) <= 4 * float(np.finfo(part).eps) * abs(exact)


def everything(z: np.dtype[Any]) -> Program:
    """All functions of one number, and a power."""
    ours = [Op(vecmath.PREFIX + name, (0,), (z,), z) for name in ONE]
    ours += [Op(vecmath.PREFIX + "power", (0, 1), (z, z), z)]
    return Program((z, z), tuple(ours), tuple(range(2, 2 + len(ours))))


def test_the_tiers_agree_whatever_the_layout() -> None:
    rng = np.random.default_rng(6)
    x, y = (joined(*rng.normal(size=(2, 30, 20))) for _ in range(2))
    both = everything(x.dtype)
    plain = evaluate(both, [x, y], x.shape)
    layouts: list[Callable[[Array], Array]]
    layouts = [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2]]
    for layout in layouts:
        for found in in_both(lambda layout=layout: evaluate(both, [layout(x), layout(y)], x.shape)):  # type: ignore[misc]
            for one, two in zip(found, plain, strict=True):
                assert_same_bits(one.view(float), two.view(float))


EXPRESSIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "exp(1j * x).sum()": lambda np, x, z: np.exp(1j * x).sum(),
    "abs(z)": lambda np, x, z: abs(z),
    "sqrt(z * z + 1).mean()": lambda np, x, z: np.sqrt(z * z + 1).mean(),
    "angle(z).max(0)": lambda np, x, z: np.angle(z).max(0),
    "z**2.5": lambda np, x, z: z**2.5,
    "2**z": lambda np, x, z: 2**z,
    "sign(z) * tanh(z / 3)": lambda np, x, z: np.sign(z) * np.tanh(z / 3),
    "where(x > 0, log(z), conj(z)).sum(1)": lambda np, x, z: np.where(
        x > 0, np.log(z), np.conj(z)
    ).sum(1),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_one_kernel_and_numpys_values(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vecmath, "ELEMENTS_MIN", 1)
    monkeypatch.setattr("chunkarr.kernels.stages.function_of", None)
    rng = np.random.default_rng(8)
    z = joined(*rng.normal(size=(2, 40, 50)))
    with config(eager_bytes=0, chunk_bytes=1 << 20), kernels("compiled"):
        made = EXPRESSIONS[name](chunkarr, chunkarr.array(z.real), chunkarr.array(z))
        found = made.compute()
    np.testing.assert_allclose(found, EXPRESSIONS[name](np, z.real, z), rtol=1e-13, atol=1e-13)


def test_events_are_told_as_numpy_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vecmath, "ELEMENTS_MIN", 1)
    with config(eager_bytes=0):
        z = chunkarr.array(np.linspace(-1, 1, 1001) + 0j)
        with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
            chunkarr.log(z).compute()
        with pytest.warns(RuntimeWarning, match="overflow encountered in exp"):
            chunkarr.exp(z * 1000).compute()
        with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
            chunkarr.sin(z * np.inf).compute()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            chunkarr.sqrt(chunkarr.where(z.real > 0, np.nan, z)).compute()


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", COMPLEX)
def test_loops_are_vectors_without_calls(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = getattr(np, name).nin
    spec = Spec(program(name, np.dtype(dtype), count), None, "map", "u" * (count + 1))
    [(code, assembly)] = modules_of(spec, monkeypatch)
    called = set(re.findall(r"^declare [^@]*@([\w.]+)\(", code, re.MULTILINE))
    assert all(found.startswith(("llvm.", "fe")) for found in called), called
    assert re.search(r"(fma|fmul|fadd)[^\n]*<\d+ x double>", code), "no vectors"
    if platform.machine() == "x86_64" and "fma" in llvm.get_host_cpu_features():
        assert re.search(r"vf(n?)m(add|sub)\d+pd", assembly)
