"""Sorting across chunks gives NumPy's bits, whatever the values and the cuts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr.plan.plan import Limits, Target
from chunkarr.plan.planner import make_plan
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.tiled.sort import exact_split

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
DTYPES = [
    "?",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "M8[s]",
    "m8[us]",
]
N = 1000


@pytest.fixture(autouse=True)
def _many_runs(_settings_put_back: None) -> None:
    """Make runs of about forty elements: several runs and output chunks."""
    xp.config(eager_bytes=0, chunk_bytes=80, workers=2)


def values(kind: str, dtype: str) -> NDArray:
    """Give values of a kind."""
    rng = np.random.default_rng(8)
    wide = np.dtype(dtype)
    if kind == "random":
        bits = rng.integers(0, 256, N * wide.itemsize, np.uint8)
        made = rng.integers(0, 2, N) > 0 if wide.kind == "b" else bits.view(wide)
        return np.where(np.isfinite(made), made, 0) if wide.kind in "fc" else made
    plain: NDArray = {
        "ties": rng.integers(0, 4, N),
        "equal": np.full(N, 3),
        "sorted": np.arange(N) % 120,
        "reversed": -np.arange(N) % 120,
        "one late": np.r_[np.ones(N - 1, int), 0],
    }[kind]
    return plain.astype(wide)


def same(got: NDArray, expected: NDArray) -> bool:
    """Compare bits, except those of NaNs."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype.kind in "fc":
        parts = [(a.real, b.real) for a, b in [(got, expected)]]
        parts += [(got.imag, expected.imag)] if got.dtype.kind == "c" else []
        return all(np.array_equal(a, b, equal_nan=True) for a, b in parts)
    return got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["random", "ties", "equal", "sorted", "reversed", "one late"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sorts_as_numpy(kind: str, dtype: str) -> None:
    plain = values(kind, dtype)
    assert same(xp.sort(xp.from_array(plain)).compute(), np.sort(plain))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16", "M8[s]", "m8[us]"])
def test_nan_goes_last(dtype: str) -> None:
    plain = values("ties", dtype)
    plain[::7] = np.array("NaT" if plain.dtype.kind in "mM" else "nan").astype(dtype)
    got = xp.sort(xp.from_array(plain)).compute()
    assert same(got, np.sort(plain))
    assert np.isnan(got[-len(plain[::7]) :]).all() or plain.dtype.kind in "mM"


def test_all_nan() -> None:
    plain = np.full(N, np.nan)
    assert np.isnan(xp.sort(xp.from_array(plain)).compute()).all()


def test_complex_values_with_half_a_nan() -> None:
    plain = values("ties", "c16")
    plain[::5] = complex(1, np.nan)
    plain[1::5] = complex(np.nan, 1)
    plain[2::10] = complex(np.nan, np.nan)
    got, expected = xp.sort(xp.from_array(plain)).compute(), np.sort(plain)
    np.testing.assert_array_equal(got, expected)


def test_infinities_and_signed_zeros() -> None:
    plain = np.tile([0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, np.nan, 5e-324], N // 8)
    got = xp.sort(xp.from_array(plain)).compute()
    # Zeros compare equal whatever their sign, and NumPy's own sort of few elements mixes them up.
    np.testing.assert_array_equal(got, np.sort(plain))


@given(st.lists(st.floats(width=64), max_size=300), st.integers(64, 900))
def test_any_floats_in_any_cut(content: list[float], chunk_bytes: int) -> None:
    plain = np.array(content)
    with xp.config(chunk_bytes=chunk_bytes):
        got = xp.sort(xp.from_array(plain)).compute()
    np.testing.assert_array_equal(got, np.sort(plain))


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=6), st.data())
def test_exact_split_agrees_with_merging(content: list[list[int]], data: st.DataObject) -> None:
    runs = [np.sort(np.array(run, int)) for run in content]
    total = sum(map(len, runs))
    rank = data.draw(st.integers(0, total))
    tagged = sorted((value, i, k) for i, run in enumerate(runs) for k, value in enumerate(run))
    expected = [sum(1 for _, i, _ in tagged[:rank] if i == run) for run in range(len(runs))]
    assert exact_split(runs, rank).tolist() == expected


@given(st.lists(st.floats(allow_nan=True), max_size=40), st.data())
def test_exact_split_knows_where_nan_goes(content: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(content)))
    runs = [np.sort(np.array(part, float)) for part in (content[:cut], content[cut:])]
    rank = data.draw(st.integers(0, len(content)))
    places = exact_split(runs, rank)
    assert places.sum() == rank
    low = np.sort(np.concatenate([run[:p] for run, p in zip(runs, places, strict=True)]))
    high = np.sort(np.concatenate([run[p:] for run, p in zip(runs, places, strict=True)]))
    np.testing.assert_array_equal(np.concatenate([low, high]), np.sort(np.array(content, float)))


def test_splits_are_the_same_from_both_sides() -> None:
    runs = [np.sort(np.random.default_rng(i).integers(0, 5, 100)) for i in range(7)]
    places = np.array([exact_split(runs, rank) for rank in range(701)])
    assert (np.diff(places, axis=0) >= 0).all()
    assert (places.sum(1) == np.arange(701)).all()


@pytest.mark.parametrize("dtype", ["f8", "i4"])
def test_sorts_from_zarr_to_zarr_of_other_chunks(dtype: str, tmp_path: Path) -> None:
    plain = values("random", dtype)
    xp.from_array(plain).to_zarr(tmp_path / "x.zarr", chunks=(70,))
    out = xp.sort(xp.open(tmp_path / "x.zarr")).to_zarr(tmp_path / "y.zarr", chunks=(33,))
    assert out.chunks == ((33,) * 30 + (10,),)
    assert same(out.compute(), np.sort(plain))
    with xp.config(memory=memory_in_use() + (1 << 30), chunk_bytes=4096):
        xp.save(tmp_path / "y.npy", xp.sort(xp.open(tmp_path / "x.zarr")))
    assert same(np.load(tmp_path / "y.npy"), np.sort(plain))


def test_sorts_what_is_computed_and_goes_on() -> None:
    plain = values("random", "f8")
    x = xp.from_array(plain)
    np.testing.assert_allclose(
        (xp.sort(x * -2)[::-1] + 1)[:50].compute(), (np.sort(plain * -2)[::-1] + 1)[:50]
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
def test_sorts_along_any_axis(axis: int | None) -> None:
    plain = np.random.default_rng(0).normal(size=(11, 7, 13))
    got = xp.sort(xp.from_array(plain), axis=axis).compute()
    np.testing.assert_array_equal(got, np.sort(plain, axis=axis))


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 4), (4, 0), (3, 1)])
def test_sorts_nothing_and_little(shape: tuple[int, ...]) -> None:
    plain = np.ones(shape)
    np.testing.assert_array_equal(xp.sort(xp.from_array(plain)).compute(), np.sort(plain))


def test_in_place() -> None:
    plain = values("random", "i8")
    x = xp.array(plain)
    x.sort()
    np.testing.assert_array_equal(x.compute(), np.sort(plain))


def test_few_long_lanes_are_sorted_one_by_one_and_many_are_refused() -> None:
    from tests.plan.support import FakeStore

    limits = Limits(256 << 20, 256 << 20, 1 << 20, 2)
    few = FakeStore((2, 10**9), (1, 10**6)).as_array()
    with xp.config(chunk_bytes=1 << 20):
        plan = make_plan([Target(xp.sort(few, 1).to_expr())], [], limits)
        assert plan.bytes_peak <= limits.bytes_available
        many = FakeStore((100, 10**9), (1, 10**6)).as_array()
        with pytest.raises(MemoryError):
            make_plan([Target(xp.sort(many, 1).to_expr())], [], limits)


def test_runs_and_chunks_stay_within_the_share_of_a_task() -> None:
    from tests.plan.support import FakeStore, FakeTarget

    line = FakeStore((10**9,), (10**6,)).as_array()
    limits = Limits(256 << 20, 256 << 20, 4 << 20, 2)
    target = FakeTarget((10**9,), (10**6,))
    plan = make_plan([Target(xp.sort(line).to_expr(), target)], [], limits)
    assert plan.bytes_peak <= limits.bytes_available
    assert plan.results == [target]
    runs = math.ceil(10**9 / plan.steps[0].tasks)
    assert runs * 8 <= limits.bytes_share


def test_texts_are_sorted_in_runs() -> None:
    words = np.array(["b", "a", "cd", "ab"] * 99)
    with xp.config(eager_bytes=0, chunk_bytes=64):
        assert np.array_equal(xp.sort(xp.array(words)).compute(), np.sort(words))
