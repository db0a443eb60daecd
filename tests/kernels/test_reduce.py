"""Reductions follow one order of additions in both tiers, and agree with NumPy."""

from __future__ import annotations

import itertools
import math
import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkarr.kernels import maps
from chunkarr.kernels.evaluate import (
    REDUCERS,
    identity_state,
    merge,
    reduce_region,
    reduce_regions,
    reducer_of,
    tree_merge,
    ufunc_reducer,
)
from chunkarr.kernels.folds import reduces
from chunkarr.kernels.layouts import reduce_recipe
from chunkarr.kernels.program import Op, Program
from tests.kernels.support import (
    F8,
    Array,
    assert_same_bits,
    kernels,
    plain,
    reduce_in_both,
    slow_column,
    slow_row,
    squares,
)

LENGTHS = [1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 1000, 1023, 1024, 1025, 2048, 3000, 5000, 17000]


@pytest.mark.parametrize("n", LENGTHS)
def test_row_sums_follow_the_canonical_order(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((3, n)) * 10.0 ** np.arange(3)[:, None]
    [found] = reduce_in_both(plain(F8), "sum", [x], x.shape, (1,))
    assert found.tolist() == [slow_row(row.tolist(), operator.add) + 0.0 for row in x]
    [found] = reduce_in_both(plain(F8), "prod", [x], x.shape, (1,))
    assert found.tolist() == [slow_row(row.tolist(), operator.mul) for row in x]


TIMES = [("min", "M8[s]"), ("max", "M8[D]"), ("fmin", "M8[s]"), ("fmax", "m8[D]"), ("sum", "m8[s]")]


@pytest.mark.parametrize("lost", [0, 1, 40])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize(("name", "kind"), TIMES)
@pytest.mark.parametrize("shape", [(3, 1500), (1500, 3), (70, 90)])
def test_times_are_reduced_as_by_numpy(
    shape: tuple[int, int], name: str, kind: str, axes: tuple[int, ...], lost: int
) -> None:
    rng = np.random.default_rng(lost)
    numbers = rng.integers(-(2**40), 2**40, shape)
    numbers.ravel()[rng.integers(0, numbers.size, lost)] = np.iinfo(np.int64).min
    times = numbers.view(kind)
    program = plain(times.dtype)
    assert reduces(program, [reducer_of(name)])
    [found] = (state.view("i8") for state in reduce_in_both(program, name, [times], shape, axes))
    ufunc = reducer_of(name).ufunc
    expected = np.asarray(ufunc.reduce(times, axis=axes))
    np.testing.assert_array_equal(found, expected.view("i8"))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("columns", [2, 5, 70])
def test_column_sums_follow_the_canonical_order(n: int, columns: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, columns))
    [found] = reduce_in_both(plain(F8), "sum", [x], x.shape, (0,))
    assert found.tolist() == [slow_column(column.tolist(), operator.add) + 0.0 for column in x.T]


def test_wide_columns_do_not_depend_on_the_strip_they_fall_in() -> None:
    x = np.random.default_rng(0).standard_normal((70, 3073))
    [found] = reduce_in_both(plain(F8), "sum", [x], x.shape, (0,))
    for column in (0, 511, 512, 1023, 1024, 2048, 3071, 3072):
        assert found[column] == slow_column(x[:, column].tolist(), operator.add)


def test_groups_of_axes_reduce_from_the_inside_out() -> None:
    x = np.random.default_rng(5).standard_normal((7, 3, 130))
    [found] = reduce_in_both(plain(F8), "sum", [x], x.shape, (0, 2))
    for k in range(3):
        rows = [np.array(slow_row(x[i, k].tolist(), operator.add)) for i in range(7)]
        [expected] = tree_merge(REDUCERS["sum"], (np.array(rows),))
        assert found[k] == expected


VIEWS: dict[str, Any] = {
    "contiguous": lambda x: x,
    "reversed": lambda x: x[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "sliced": lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
}
SHAPES = [(5,), (40000,), (1, 9), (9, 1), (50, 2000), (2000, 50), (3, 1, 4, 5), (20, 30, 40)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_layout_changes_no_bits_and_numpy_agrees(view: str, shape: tuple[int, ...]) -> None:
    base = np.random.default_rng(3).standard_normal(shape)
    x = VIEWS[view](base)
    y = np.ascontiguousarray(x)
    for count in range(x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            for name in ("sum", "var", "max"):
                states = reduce_in_both(plain(F8), name, [x], x.shape, axes)
                with kernels("numpy"):
                    again = reduce_region(plain(F8), name, [y], x.shape, axes)
                for left, right in zip(states, again, strict=True):
                    assert_same_bits(left, right)
                found = states[2] / states[0] if name == "var" else states[0]
                expected = getattr(np, name)(x, axis=axes)
                np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["argmin", "argmax"])
@pytest.mark.parametrize("view", VIEWS)
def test_positions_of_extremes_are_numpys(name: str, view: str) -> None:
    rng = np.random.default_rng(4)
    for shape in [(40000,), (50, 3000), (3000, 50), (2, 3, 4)]:
        for levels in (3, 10**6):
            x = VIEWS[view](rng.integers(0, levels, shape).astype(float))
            for axis in (*range(x.ndim), None):
                axes = tuple(range(x.ndim)) if axis is None else (axis,)
                value, index = reduce_in_both(plain(F8), name, [x], x.shape, axes)
                np.testing.assert_array_equal(index, getattr(np, name)(x, axis=axis))
                np.testing.assert_array_equal(value, getattr(np, name[3:])(x, axis=axis))


def test_positions_count_in_the_whole_array() -> None:
    x = np.random.default_rng(6).integers(0, 5, (40, 30, 20)).astype(float)
    reducer = REDUCERS["argmax"]
    for axes in [(0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        cuts = [
            [slice(0, 7), slice(7, n)] if a in axes else [slice(0, n)]
            for a, n in enumerate(x.shape)
        ]
        total = None
        for box in reversed(list(itertools.product(*cuts))):
            origin, part = tuple(s.start for s in box), x[box]
            state = reduce_region(plain(F8), reducer, [part], part.shape, axes, origin, x.shape)
            total = state if total is None else merge(reducer, state, total)
        assert total is not None
        moved = np.moveaxis(x, axes, range(-len(axes), 0))
        flat = moved.reshape(*moved.shape[: -len(axes)], -1)
        np.testing.assert_array_equal(total[1], flat.argmax(-1))


@pytest.mark.parametrize(
    "name", ["min", "max", "fmin", "fmax", "argmin", "argmax", "sum", "var", "prod"]
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nan_infinity_and_zeros(name: str, dtype: str) -> None:
    rng = np.random.default_rng(7)
    listed = ([0.0, -0.0], [-0.0], [1, np.nan], [np.inf, 1], [np.inf, -np.inf, 2], [0.1])
    for values in (*listed, [np.nan], [-np.inf, np.nan], [np.nan, 0.0]):
        for shape in [(3000,), (40, 90), (90, 5)]:
            x = rng.choice(values, shape).astype(dtype)
            x.flat[17] = values[-1]
            for axes in [(0,), (x.ndim - 1,), tuple(range(x.ndim))]:
                states = reduce_in_both(plain(dtype), name, [x], x.shape, axes)
                if len(axes) == 1 or x.ndim == len(axes):
                    axis = axes[0] if len(axes) == 1 else None
                    with np.errstate(all="ignore"):
                        function = getattr(np, name)
                        expected = getattr(function, "reduce", function)(x, axis=axis)
                        at = {"var": 2}.get(name, 1 if name.startswith("arg") else 0)
                        found = states[at] / states[0] if name == "var" else states[at]
                    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_a_maximum_of_zeros_is_positive_if_any_is() -> None:
    for name, sign in (("max", False), ("min", True), ("fmax", False), ("fmin", True)):
        x = np.where(np.arange(5000) == 4321, -0.0 if sign else 0.0, 0.0 if sign else -0.0)
        if name.startswith("f"):
            x[::7], x[3::70] = np.nan, -np.nan
        for axes in ((0,), (1,), (0, 1)):
            [found] = reduce_in_both(plain(F8), name, [x.reshape(100, 50)], (100, 50), axes)
            assert np.signbit(found).any() == (sign or len(axes) == 1)
            assert np.signbit(found).all() == (sign and len(axes) == 2)
        left, right = (np.array(0.0),), (np.array(-0.0),)
        for one, two in ((left, right), (right, left)):
            assert np.signbit(merge(reducer_of(name), one, two)[0]) == sign


@pytest.mark.parametrize("dtype", ["?", "u2", "i8", "f4", "c16", "g"])
def test_other_dtypes_reduce_as_numpy_does(dtype: str) -> None:
    rng = np.random.default_rng(8)
    x = (rng.standard_normal((70, 90)) * 50).astype(dtype)
    for axes in [(0,), (1,), (0, 1)]:
        names = ["sum", "min", "any"] if dtype == "u2" else ["prod", "max", "all"]
        for name in names + (["argmin"] if dtype == "i8" else []):
            state = reduce_in_both(plain(dtype), name, [x], x.shape, axes)
            ufunc = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}
            if name in ufunc:
                with np.errstate(all="ignore"):
                    expected = ufunc[name].reduce(x, axis=axes, dtype=x.dtype)
            elif name == "argmin":
                expected = np.argmin(x, axis=axes[0] if len(axes) == 1 else None)
            else:
                expected = getattr(np, name)(x, axis=axes)
            found = state[1] if name == "argmin" else state[0]
            assert found.dtype == expected.dtype
            if name == "prod" and dtype in {"f4", "c16", "g"}:
                np.testing.assert_allclose(found, expected, rtol=1e-2)
            elif dtype in {"f4", "c16", "g"}:
                np.testing.assert_allclose(found, expected, rtol=1e-4)
            else:
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm", "fmin"])
def test_other_ufuncs_reduce_integers(name: str) -> None:
    x = np.random.default_rng(9).integers(1, 9, (50, 60))
    for axes in [(0,), (1,), (0, 1)]:
        [found] = reduce_in_both(plain("i8"), name, [x], x.shape, axes)
        ordered = x if len(axes) == 1 else x.ravel()
        np.testing.assert_array_equal(found, getattr(np, name).reduce(ordered, axis=axes[0]))


@pytest.mark.parametrize("name", ["hypot", "logaddexp", "logaddexp2", "fmax", "logical_xor"])
def test_other_ufuncs_reduce_floats(name: str) -> None:
    x = np.random.default_rng(9).standard_normal((50, 60))
    for axes in [(0,), (1,), (0, 1)]:
        [found] = reduce_in_both(plain(F8), name, [x], x.shape, axes)
        np.testing.assert_allclose(found, getattr(np, name).reduce(x, axis=axes), rtol=1e-12)


def test_ufuncs_that_do_not_associate_are_refused() -> None:
    with pytest.raises(ValueError, match="associative"):
        ufunc_reducer("subtract")


def adversarial(kind: str, n: int) -> Array:
    rng = np.random.default_rng(11)
    if kind == "cancelling":
        x = rng.standard_normal(n) * 10.0 ** rng.integers(-8, 8, n)
        return np.concatenate([x, -x[: n // 2]])
    if kind == "large mean":
        return 1.6e9 + rng.standard_normal(n)
    if kind == "trend":
        return 1e8 + np.arange(n) * 1e-3
    return np.full(n, 0.1)


@pytest.mark.parametrize("kind", ["cancelling", "large mean", "trend", "constant"])
@pytest.mark.parametrize("n", [999, 50_000, 262_144])
def test_sums_and_variances_are_as_accurate_as_numpys(kind: str, n: int) -> None:
    x = adversarial(kind, n)
    exact = math.fsum(x)
    [total] = reduce_in_both(plain(F8), "sum", [x], x.shape, (0,))
    scale = math.fsum(abs(x)) * np.finfo(float).eps
    depth = 11 + math.log2(n)
    assert abs(total - exact) <= max(2 * abs(x.sum() - exact), 0.1 * depth * scale)
    columns = np.ascontiguousarray(np.stack([x, x], axis=1))
    [totals] = reduce_in_both(plain(F8), "sum", [columns], columns.shape, (0,))
    assert abs(totals[0] - exact) <= max(2 * abs(columns.sum(0)[0] - exact), 0.1 * depth * scale)
    part = x[:: max(1, n // 5000)].copy()
    mean = sum(map(Fraction, part.tolist())) / len(part)
    m2 = float(sum((Fraction(v) - mean) ** 2 for v in part.tolist()))
    for array, axes in ((part, (0,)), (np.stack([part, part], axis=1).copy(), (0,))):
        state = reduce_in_both(plain(F8), "var", [array], array.shape, axes)
        error = float(np.max(abs(state[2] - m2)))
        theirs = abs(part.var() * len(part) - m2)
        assert error <= max(2 * theirs, 4e-15 * m2)
        slack = 2e-16 * abs(float(mean)) + 1e-16 * float(np.mean(abs(part)))
        assert float(np.max(abs(state[1] + state[3] - float(mean)))) <= slack


def test_merging_any_cut_gives_the_whole_variance() -> None:
    x = 1e9 + np.random.default_rng(12).standard_normal(5000)
    states = [
        reduce_region(plain(F8), "var", [x[i : i + 700]], (min(700, 5000 - i),), (0,))
        for i in range(0, 5000, 700)
    ]
    total = tree_merge(REDUCERS["var"], tuple(np.stack(s) for s in zip(*states, strict=True)))
    np.testing.assert_allclose(total[2] / total[0], np.var(x), rtol=1e-13)


@pytest.mark.parametrize("name", ["sum", "prod", "any", "all", "var", "bitwise_and", "hypot"])
def test_identity_states_change_nothing(name: str) -> None:
    dtype = np.dtype("i4") if name == "bitwise_and" else F8
    x = np.arange(1, 50, dtype=dtype)
    reducer = reducer_of(name)
    state = reduce_region(plain(dtype), reducer, [x], x.shape, (0,))
    nothing = identity_state(reducer, dtype, ())
    assert nothing is not None
    for merged in (merge(reducer, nothing, state), merge(reducer, state, nothing)):
        for left, right in zip(merged, state, strict=True):
            assert_same_bits(left, right)
    assert identity_state(REDUCERS["min"], dtype, ()) is None


def test_complex_variance_is_numpys() -> None:
    rng = np.random.default_rng(13)
    x = rng.standard_normal((3000, 2)) @ np.array([1, 1j])
    state = reduce_region(plain(x.dtype), "var", [x], x.shape, (0,))
    assert state[2].dtype == F8
    np.testing.assert_allclose(state[2] / state[0], x.var(), rtol=1e-13)


def test_regions_without_kept_positions_give_empty_states() -> None:
    [found] = reduce_region(plain(F8), "max", [np.empty((0, 5))], (0, 5), (1,))
    assert found.shape == (0,)


def test_the_size_of_pieces_changes_no_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(14).standard_normal((37, 41, 53))[:, ::2, :50]
    cases = [
        (name, axes)
        for name in ("sum", "var")
        for axes in [(0,), (1,), (2,), (0, 2), (0, 1, 2), (1, 2)]
    ]
    with kernels("numpy"):
        whole = [reduce_region(plain(F8), name, [x], x.shape, axes) for name, axes in cases]
        monkeypatch.setattr(maps, "PIECE_BYTES", 8192)
        small = [reduce_region(plain(F8), name, [x], x.shape, axes) for name, axes in cases]
    for left, right in zip(whole, small, strict=True):
        for one, two in zip(left, right, strict=True):
            assert_same_bits(one, two)


def _mixed(reducer: str) -> Program:
    dtype = np.dtype(bool) if reducer in {"any", "all"} else F8
    op = Op("less", (0, 1), (F8, F8), dtype) if dtype != F8 else Op("add", (0, 1), (F8, F8), F8)
    return Program((F8, F8), (op,), (2,))


PROGRAMS = {name: _mixed(name) for name in (*REDUCERS, "fmax")}


@given(
    st.sampled_from(["sum", "max", "any", "var", "argmin", "fmax"]),
    st.lists(st.integers(1, 70), min_size=1, max_size=4).map(tuple),
    st.data(),
)
def test_random_reductions_agree_between_tiers_and_with_numpy(
    name: str, shape: tuple[int, ...], data: st.DataObject
) -> None:
    if math.prod(shape) > 300_000:
        shape = shape[:2]
    axes = tuple(axis for axis in range(len(shape)) if data.draw(st.booleans()))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.standard_normal(shape)
    if data.draw(st.booleans()):
        x.flat[rng.integers(x.size)] = data.draw(st.sampled_from([np.nan, np.inf, -0.0]))
    broadcast = [n if data.draw(st.booleans()) else 1 for n in shape]
    y = np.round(rng.standard_normal(broadcast))
    states = reduce_in_both(PROGRAMS[name], name, [x, y], shape, axes)
    with np.errstate(all="ignore"):
        z = x < y if name in {"any", "all"} else x + y
        if name.startswith("arg"):
            moved = np.moveaxis(z, axes, range(z.ndim - len(axes), z.ndim))
            flat = moved.reshape(*moved.shape[: z.ndim - len(axes)], -1)
            np.testing.assert_array_equal(states[1], getattr(np, name)(flat, axis=-1))
        elif name == "var":
            np.testing.assert_allclose(
                states[2] / states[0], np.var(z, axis=axes), rtol=1e-9, atol=1e-12
            )
        else:
            function = getattr(np, name)
            expected = getattr(function, "reduce", function)(z, axis=axes)
            np.testing.assert_allclose(states[0], expected, rtol=1e-8, atol=1e-9)


def test_programs_reduce_without_a_copy_of_their_values() -> None:
    x, y = np.random.default_rng(15).standard_normal((2, 300, 400))
    for axes in [(0,), (1,), (0, 1)]:
        [found] = reduce_in_both(squares(), "sum", [x, y.T.copy().T, np.array(2.0)], x.shape, axes)
        np.testing.assert_allclose(found, ((x - y) ** 2 * 2).sum(axes), rtol=1e-12)


def test_windows_that_overlap_are_reduced_by_a_kernel() -> None:
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(5000.0), 100)
    reducers = (reducer_of("sum"),)
    assert reduce_recipe(plain(F8), reducers, [windows], windows.shape, (1,)) is not None
    assert reduce_recipe(plain(F8), reducers, [windows.T], windows.T.shape, (0,)) is not None
    across = np.zeros((100, 5000)).T
    assert reduce_recipe(plain(F8), reducers, [across], across.shape, (1,)) is None


SIDE_BY_SIDE = [
    *(("f8", name) for name in ("sum", "min", "max", "var", "argmin", "argmax", "any")),
    *(("f4", name) for name in ("sum", "prod", "var", "max", "fmin")),
    *(("i4", name) for name in ("sum", "min", "argmax", "bitwise_xor")),
    *(("u1", "max"), ("?", "all"), ("?", "max"), ("c16", "sum")),
]


@pytest.mark.parametrize(("dtype", "name"), SIDE_BY_SIDE)
def test_short_rows_are_reduced_side_by_side_to_the_bits_of_long_ones(
    dtype: str, name: str
) -> None:
    rng = np.random.default_rng(7)
    for n in (2, 3, 7, 16, 33, 64):
        x = rng.integers(-3, 4, (300, n)).astype(dtype)
        if x.dtype.kind in "fc":
            x *= rng.standard_normal(x.shape).astype(x.real.dtype)
            x[::7, 0], x[::9, -1], x[5::11, n // 2] = np.nan, np.inf, -0.0
            x[250:] = np.copysign(0.0, rng.standard_normal((50, n)))
        three = x[:288].reshape(4, 72, n)
        for view in (x, np.asfortranarray(x), x[::-2, ::-1], three[:, ::2], three.swapaxes(0, 1)):
            last = view.ndim - 1
            reduce_in_both(plain(dtype), name, [view], view.shape, (last,))


@pytest.mark.parametrize("axes", [(1,), (0, 1), (0,)])
@pytest.mark.parametrize("name", ["sum", "var", "max", "argmin", "any"])
def test_values_across_their_order_give_the_bits_of_those_in_it(
    name: str, axes: tuple[int, ...]
) -> None:
    x, y = np.random.default_rng(16).standard_normal((2, 130, 1100))
    x[7, 9], y[100, 3] = np.nan, np.inf
    crossed = [np.asfortranarray(x), y]
    program = PROGRAMS[name]
    found = reduce_in_both(program, name, crossed, x.shape, axes)
    with kernels("compiled"):
        expected = reduce_region(program, name, [x, y], x.shape, axes)
        alone = reduce_region(plain(F8), name, crossed[:1], x.shape, axes)
        straight = reduce_region(plain(F8), name, [x], x.shape, axes)
    for one, two in zip((*found, *alone), (*expected, *straight), strict=True):
        assert_same_bits(one, two)


def test_short_rows_share_a_kernel() -> None:
    x = np.random.default_rng(8).standard_normal((1000, 3, 5))
    names = ("sum", "var", "max", "argmin", "min")
    together = [reducer_of(name) for name in names]
    recipe = reduce_recipe(plain(F8), tuple(together), [x], x.shape, (2,))
    assert recipe is not None
    assert recipe.entry.spec.mode == "lanes"
    with kernels("compiled"):
        found = reduce_regions(plain(F8), together, [x], x.shape, (2,))
    for name, state in zip(names, found, strict=True):
        alone = reduce_in_both(plain(F8), name, [x], x.shape, (2,))
        for one, two in zip(state, alone, strict=True):
            assert_same_bits(one, two)
