"""Programs give NumPy's results in both tiers, whatever the operands' layout."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkarr.kernels import stages, tier
from chunkarr.kernels.evaluate import EXTRA, map_into
from chunkarr.kernels.forms import FORMS, TYPES, compiles
from chunkarr.kernels.program import Op, Program
from tests.kernels.support import (
    F8,
    Array,
    assert_same_bits,
    evaluate,
    in_both,
    kernels,
    of_ufunc,
    plain,
    squares,
)

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = [name if name[0] not in "mM" else f"{name}[s]" for name in TYPES]


def special(dtype: np.dtype[Any]) -> Array:
    """Values at which operations differ: zeros, infinities, limits, odd counts of shifts."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "mM":
        return np.array([0, 1, -1, 5, 2**62, np.iinfo(np.int64).min], np.int64).view(dtype)
    if dtype.kind == "c":
        parts = [0.0, -0.0, 1.0, -2.5, 3.7, np.inf, -np.inf, np.nan, 1e30]
        return np.array([complex(re, im) for re in parts for im in parts]).astype(dtype)
    if dtype == np.float16:
        return np.unique(np.arange(0, 1 << 16, 97, dtype=np.uint16)).view(dtype)
    if dtype.kind == "f":
        tiny = np.finfo(dtype).smallest_subnormal
        listed = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 3.7, np.inf, -np.inf, np.nan, 1e30, tiny]
        return np.array([*listed, 2.0**31, -(2.0**31) - 1, 2.0**63, -(2.0**63), 200.25]).astype(
            dtype
        )
    info = np.iinfo(dtype)
    numbers = {info.min, info.min + 1, info.max, 0, 1, 2, 3, 7, 31, 63, 64, 100}
    numbers |= {-1, -2, -7} if info.min else set()
    return np.array([n for n in sorted(numbers) if info.min <= n <= info.max], dtype)


def pairs(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Every special value beside every other, several times over so that vectors fill."""
    values = special(dtype)
    left, right = (np.ravel(a) for a in np.meshgrid(values, values))
    return np.tile(left, 3), np.tile(right, 3)


def program_of_all(dtype: np.dtype[Any]) -> Program:
    """All operations that compile for a dtype, as results of one program."""
    ops: list[Op] = []
    for name in FORMS["e" if dtype == np.float16 else dtype.kind]:
        name = name.partition(" by ")[0]  # noqa: PLW2901
        ufunc = getattr(np, name.partition(":")[0], None)
        if not isinstance(ufunc, np.ufunc):
            continue
        try:
            ops.extend(of_ufunc(name, dtype, ufunc.nin).ops)
        except TypeError:
            continue
    ops = [op for op in ops if op.types[0] == dtype]
    return Program((dtype, dtype), tuple(ops), tuple(range(2, 2 + len(ops))))


@pytest.mark.parametrize("name", KINDS)
def test_every_compiled_form_gives_numpys_bits(name: str) -> None:
    dtype = np.dtype(name)
    left, right = pairs(dtype)
    program = program_of_all(dtype)
    assert compiles(program)
    first, second = in_both(lambda: evaluate(program, [left, right], left.shape))
    with np.errstate(all="ignore"):
        for op, one, two in zip(program.ops, first, second, strict=True):
            expected = getattr(np, op.name)(*(left, right)[: len(op.args)])
            expected = expected[op.output] if isinstance(expected, tuple) else expected
            if op.name in {"fmin", "fmax"} and dtype.kind == "f":
                # NumPy takes either of two zeros, as its vectors end: here it is the second.
                expected = np.where(left == right, right, expected)
            assert_same_bits(one, expected)
            assert_same_bits(two, expected)


PLAIN = """
from tests.kernels import test_map
for name in ("i8", "u8"):
    test_map.test_integers_of_all_magnitudes_are_divided_as_by_numpy(name)
for name in ("f2", "f4"):
    test_map.test_casts_give_what_astype_gives(name)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86-64 processors")
def test_a_processor_that_converts_no_halves_and_no_vectors_of_integers_gives_the_same_bits(
    tmp_path: Path,
) -> None:
    environment = os.environ | {
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "",
        "CHUNKARR_CACHE_DIR": str(tmp_path / "k"),
    }
    subprocess.run([sys.executable, "-c", PLAIN], env=environment, cwd=REPOSITORY, check=True)


def wide_pairs(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Integers of all magnitudes, many of them near multiples of others."""
    rng, info = np.random.default_rng(3), np.iinfo(dtype)
    shifts = rng.integers(0, info.bits, (2, 40_000)).astype(dtype)
    low, high = info.min, info.max
    x, y = rng.integers(low, high, (2, 40_000), dtype, endpoint=True) >> shifts
    with np.errstate(all="ignore"):
        near = rng.integers(0, 9, 20_000).astype(dtype) * y[:20_000]
        x[:20_000] = near + rng.integers(0, 3, 20_000).astype(dtype) - dtype.type(1)
    return x, y


@pytest.mark.parametrize("kind", ["i8", "f8", "m8[s]"])
def test_durations_are_scaled_and_divided_as_by_numpy(kind: str) -> None:
    lasting, other = np.dtype("m8[s]"), np.dtype(kind)
    times, numbers = (a.ravel() for a in np.meshgrid(np.tile(special(lasting), 3), special(other)))
    ufuncs: list[Any] = [np.divide, np.floor_divide]
    ufuncs += [np.remainder, np.divmod] if kind == "m8[s]" else [np.multiply]
    ops = []
    for ufunc in ufuncs:
        for output in range(ufunc.nout):
            found = ufunc.resolve_dtypes((lasting, other, *[None] * ufunc.nout))
            ops.append(Op(ufunc.__name__, (0, 1), found[:2], found[2 + output], output))
    if np.multiply in ufuncs:
        ops.append(Op("multiply", (1, 0), (other, lasting), lasting))
    program = Program((lasting, other), tuple(ops), tuple(range(2, 2 + len(ops))))
    assert compiles(program)
    with np.errstate(all="ignore"):
        one, two = in_both(lambda: evaluate(program, [times, numbers], times.shape))
        for op, compiled, plainly in zip(ops, one, two, strict=True):
            expected = getattr(np, op.name)(*([times, numbers][arg] for arg in op.args))
            expected = expected[op.output] if isinstance(expected, tuple) else expected
            assert_same_bits(compiled, expected)
            assert_same_bits(plainly, expected)


@pytest.mark.parametrize("dtype", [name for name in TYPES if name[0] in "iu"])
def test_integers_of_all_magnitudes_are_divided_as_by_numpy(dtype: str) -> None:
    kind = np.dtype(dtype)
    x, y = wide_pairs(kind)
    names = ("floor_divide", "remainder", "fmod")
    ops = tuple(of_ufunc(name, kind, 2).ops[0] for name in names)
    program = Program((kind, kind), ops, (2, 3, 4))
    with kernels("compiled"), np.errstate(all="ignore"):
        for name, found in zip(names, evaluate(program, [x, y], x.shape), strict=True):
            assert_same_bits(found, getattr(np, name)(x, y))


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", KINDS)
def test_casts_give_what_astype_gives(name: str) -> None:
    source = np.dtype(name)
    values = np.tile(special(source), 11)
    ops = [Op("cast", (0,), (source,), np.dtype(target)) for target in KINDS]
    kept = [op for op in ops if compiles(Program((source,), (op,), (1,)))]
    assert len(kept) >= (2 if source.kind in "mM" else 5)
    program = Program((source,), tuple(kept), tuple(range(1, 1 + len(kept))))
    first, second = in_both(lambda: evaluate(program, [values], values.shape))
    with np.errstate(all="ignore"):
        for op, one, two in zip(kept, first, second, strict=True):
            expected = values.astype(op.dtype)
            assert_same_bits(one, expected)
            assert_same_bits(two, expected)


def test_where_picks_by_condition() -> None:
    c, i4 = np.dtype(bool), np.dtype(np.int32)
    program = Program((c, i4, F8), (Op("where", (0, 1, 2), (c, F8, F8), F8),), (3,))
    condition = np.arange(3000) % 3 == 0
    x, y = np.arange(3000, dtype=np.int32), -np.arange(3000.0)
    for [out] in in_both(lambda: evaluate(program, [condition, x, y], (3000,))):
        assert_same_bits(out, np.where(condition, x, y))


LAYOUTS: dict[str, Any] = {
    "contiguous": lambda x: x,
    "reversed": lambda x: x[::-1, :, ::-1],
    "strided": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "rotated": lambda x: np.ascontiguousarray(x.transpose(1, 2, 0)).transpose(2, 0, 1),
    "one row": lambda x: x[:1],
    "one column": lambda x: x[:, :, :1],
    "stride zero": lambda x: np.broadcast_to(x[:1, :, :1], x.shape),
    "scalar": lambda x: x[0, 0, 0],
}


@pytest.mark.parametrize("out", ["contiguous", "transposed", "strided", "reversed"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (30, 70, 90)])
def test_any_layout_of_operands_and_output_gives_numpys_result(
    out: str, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, *shape))
    c = np.array(2.0)
    program = squares()
    for left, right in itertools.combinations(LAYOUTS, 2):
        x, y = np.asarray(LAYOUTS[left](a)), np.asarray(LAYOUTS[right](b))
        modes = (
            ["numpy", "compiled"] if out == "contiguous" and "strided" not in left else ["numpy"]
        )
        for mode in modes:
            target = LAYOUTS[out](np.full(shape, np.nan))
            with kernels(mode):
                map_into(program, [x, y, c], [target])
            np.testing.assert_array_equal(target, np.broadcast_to((x - y) ** 2 * c, shape))


@pytest.mark.parametrize("mode", ["numpy", "compiled"])
def test_results_of_empty_and_zero_dimensional_operands(mode: str) -> None:
    with kernels(mode):
        [empty] = evaluate(squares(), [np.empty((0, 3)), np.empty((1, 3)), np.array(1.0)], (0, 3))
        [single] = evaluate(squares(), [np.array(3.0), np.array(1.0), np.array(5.0)], ())
        [filled] = evaluate(squares(), [np.array(3.0), np.array(1.0), np.array(5.0)], (4, 3))
    assert empty.shape == (0, 3)
    assert single == 20
    assert (filled == 20).all()


@pytest.mark.parametrize("mode", ["numpy", "compiled"])
def test_results_may_be_inputs_or_named_twice(mode: str) -> None:
    program = Program((F8,), (Op("negative", (0,), (F8,), F8),), (0, 1, 1))
    x = np.arange(40000.0)
    with kernels(mode):
        same, one, two = evaluate(program, [x], x.shape)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(one, -x)
    np.testing.assert_array_equal(two, -x)


def test_a_value_that_is_used_late_survives_the_reuse_of_buffers() -> None:
    ops = tuple(Op("add", (i, 0), (F8, F8), F8) for i in range(5))
    last = Op("subtract", (5, 1), (F8, F8), F8)
    program = Program((F8,), (*ops, last), (6, 3))
    x = np.arange(50000.0)
    for difference, middle in in_both(lambda: evaluate(program, [x], x.shape)):
        np.testing.assert_array_equal(difference, 4 * x)
        np.testing.assert_array_equal(middle, 4 * x)


def test_ufuncs_with_two_results_give_the_one_asked_for() -> None:
    x = np.linspace(-5, 5, 30000)
    for output, expected in enumerate(np.modf(x)):
        program = Program((F8,), (Op("modf", (0,), (F8,), F8, output),), (1,))
        [found] = evaluate(program, [x], x.shape)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["exp", "sin", "arctan2", "power", "logaddexp2", "logaddexp"])
def test_functions_without_compiled_form_do_not_depend_on_layout(name: str) -> None:
    count = getattr(np, name).nin
    program = of_ufunc(name, F8, count)
    assert not compiles(program)
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 300, 200)) + 0.5
    operands = [x, y][:count]
    [expected] = evaluate(program, operands, x.shape)
    np.testing.assert_array_equal(expected, getattr(np, name)(*operands))
    fortran = [np.asfortranarray(a) for a in operands]
    [found] = evaluate(program, fortran, x.shape)
    assert_same_bits(found, expected)
    into = np.empty((300, 400))[:, ::2]
    map_into(program, [a[:, ::-1] for a in operands], [into])
    assert_same_bits(into, expected[:, ::-1])


def test_dtypes_outside_the_compiled_set_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (np.float16, np.complex128, np.longdouble, ">f8"):
        x = np.arange(20000).astype(dtype)
        with kernels("compiled"):
            [found] = evaluate(of_ufunc("add", dtype, 2), [x, x], x.shape)
        np.testing.assert_array_equal(found, x + x)
    when = np.arange(5).astype("M8[s]")
    op = Op("subtract", (0, 1), (when.dtype, when.dtype), np.dtype("m8[s]"))
    [spans] = evaluate(Program((when.dtype, when.dtype), (op,), (2,)), [when, when[::-1]], (5,))
    np.testing.assert_array_equal(spans, when - when[::-1])
    monkeypatch.setitem(EXTRA, "twice", lambda x: 2 * x)
    [twice] = evaluate(Program((F8,), (Op("twice", (0,), (F8,), F8),), (1,)), [np.ones(3)], (3,))
    assert (twice == 2).all()
    with pytest.raises(LookupError, match="nonsense"):
        stages.function_of("nonsense")


def test_operands_off_their_boundaries_are_left_to_numpy() -> None:
    raw = np.zeros(8 * 1000 + 1, np.uint8)
    x = raw[1:].view(F8)
    x[...] = np.arange(1000.0)
    with kernels("compiled"):
        [found] = evaluate(of_ufunc("add", F8, 2), [x, x], x.shape)
    np.testing.assert_array_equal(found, 2 * x)


def test_errors_that_are_to_be_raised_are_raised() -> None:
    program = of_ufunc("divide", F8, 2)
    tier.set_mode("compiled")
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        evaluate(program, [np.ones(10), np.zeros(10)], (10,))


def test_input_of_another_byte_order_is_not_misread() -> None:
    x = np.arange(100.0)
    with kernels("compiled"):
        [found] = evaluate(plain(F8), [x.astype(">f8")], x.shape)
    np.testing.assert_array_equal(found, x)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple),
    st.data(),
)
def test_random_shapes_and_broadcasts_agree_between_tiers(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    operands = []
    for _ in range(2):
        kept = [n if data.draw(st.booleans()) else min(n, 1) for n in shape]
        order = data.draw(st.permutations(range(len(shape))))
        base = rng.standard_normal([kept[axis] for axis in order])
        operands.append(base.transpose(np.argsort(order)))
    operands.append(np.array(-0.5))
    [first], [second] = in_both(lambda: evaluate(squares(), operands, shape))
    assert_same_bits(first, second)
    x, y, c = operands
    np.testing.assert_array_equal(first, np.broadcast_to((x - y) ** 2 * c, shape))
