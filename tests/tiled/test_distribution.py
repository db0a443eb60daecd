"""Rows at named places, brought into order: against NumPy, however places and rows are cut."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr.expr.node import Gather, Scatter, walk
from chunkarr.grid import Grid
from chunkarr.plan import gather
from chunkarr.settings import config
from chunkarr.tiled import distribution
from tests.plan.support import MIB, FakeStore, limits, names, plan_of

xp: Any = chunkarr

DTYPES = ["f8", "i4", "?", "c16", "M8[D]", "U3", [("a", "f8"), ("b", "i2")]]
SIZES = st.integers(1, 2000)
DRAWN: dict[str, Any] = {
    "n": SIZES,
    "count": SIZES,
    "width": st.sampled_from([None, 1, 3]),
    "dtype": st.sampled_from(DTYPES),
    "chunk": st.sampled_from([64, 512, 4096]),
    "seed": st.integers(0, 99),
}


@pytest.fixture(autouse=True, scope="module")
def _always() -> Any:
    """Bring places into order whatever they name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "is_scarce", lambda _: True)
        patch.setattr(gather, "PLACES_LAID", 1)
        patch.setattr(gather, "BOXES_LOOKING", -1)
        yield


def steps_of(array: Any) -> list[str]:
    return names(plan_of(array, at=limits(MIB, 512)))


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    numbers = rng.integers(0, 200, shape)
    if np.dtype(dtype).names:
        made = np.zeros(shape, dtype)
        made["a"], made["b"] = numbers, numbers // 2
        return made
    return numbers.astype("i8").astype(dtype)


@given(**DRAWN, few=st.booleans())
def test_rows_are_taken(
    n: int, count: int, width: int | None, dtype: Any, chunk: int, few: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (n,) if width is None else (n, width)
    x, places = drawn(rng, shape, dtype), rng.integers(0, max(1, n // 9 if few else n), count)
    with config(eager_bytes=0, chunk_bytes=chunk):
        lazy = xp.arange(n * (width or 1)).reshape(shape) * 0
        source = xp.where(lazy == 0, xp.from_array(x), x) if np.dtype(dtype).names is None else x
        source = xp.from_array(x, chunks=max(1, n // 3)) if source is x else source
        made = source[xp.from_array(places, chunks=max(1, count // 4))]
        assert np.array_equal(made.compute(), x[places])


@given(**DRAWN)
def test_rows_are_laid_and_the_last_for_a_place_stays(
    n: int, count: int, width: int | None, dtype: Any, chunk: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, wide = ((n,), (count,)) if width is None else ((n, width), (count, width))
    x, values = drawn(rng, shape, dtype), drawn(rng, wide, dtype)
    places = rng.integers(0, n, count)
    with config(eager_bytes=0, chunk_bytes=chunk):
        made = xp.from_array(x.copy(), chunks=max(1, n // 3))
        made[xp.from_array(places, chunks=max(1, count // 4))] = values
        x[places] = values
        assert np.array_equal(made.compute(), x)


class TestPlan:
    """When places are brought into order, and with how much memory."""

    def test_both_are_brought_into_order(self) -> None:
        x = FakeStore((5000,), (500,)).as_array()
        places = (FakeStore((4000,), (500,)).as_array() * 0).astype("i8")
        assert steps_of(x[places])[-3:] == ["places in order", "rows in order", "gather"]
        y = x + 0
        y[places] = 1
        assert steps_of(y)[-2:] == ["places in order", "scatter"]

    def test_not_where_memory_keeps_the_operand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gather, "is_scarce", lambda _: False)
        x = FakeStore((5000,), (500,)).as_array()
        places = (FakeStore((4000,), (500,)).as_array() * 0).astype("i8")
        assert "places in order" not in steps_of(x[places])

    def test_not_for_long_rows_or_few_places(self) -> None:
        places = (FakeStore((4000,), (500,)).as_array() * 0).astype("i8")
        wide = FakeStore((500, 999), (5, 999)).as_array()
        assert "places in order" not in names(plan_of(wide[places]))
        x = FakeStore((10_000_000,), (50_000,)).as_array()
        assert "places in order" not in names(plan_of(x[places[:4]]))

    def test_not_where_a_task_could_not_know_all_cuts(self) -> None:
        x = FakeStore((1 << 40,), (1 << 20,)).as_array()
        places = (FakeStore((1 << 40,), (1 << 20,)).as_array() * 0).astype("i8")
        assert "places in order" not in names(plan_of(x[places], at=limits(64 * MIB)))

    @pytest.mark.parametrize(
        ("n", "width"), [(1 << 14, 1), (1 << 20, 1), (1 << 29, 1), (1 << 14, 100), (1 << 24, 100)]
    )
    def test_tasks_stay_within_a_share(self, n: int, width: int) -> None:
        at = limits(400 * MIB, 4 * MIB)
        x = FakeStore((n, width), (1 << 14, width)).as_array()
        places = (FakeStore((n,), (1 << 14,)).as_array() * 0).astype("i8")
        y = x + 0
        y[places] = 1
        for array in (x[places], y):
            steps = {step.name: step for step in plan_of(array, at=at).steps}
            assert "places in order" in steps
            assert all(step.bytes_task <= 3 * at.bytes_share for step in steps.values())


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_executors_and_files_agree(tmp_path: Path, executor: str) -> None:
    rng = np.random.default_rng(1)
    x, places = rng.normal(size=50_000), rng.integers(0, 50_000, 40_000)
    np.save(tmp_path / "x.npy", x)
    with config(eager_bytes=0, chunk_bytes=4096, executor=executor):
        xp.load(tmp_path / "x.npy")[xp.from_array(places)].to_zarr(tmp_path / "a.zarr", chunks=999)
        y = xp.load(tmp_path / "x.npy") * 1
        y[xp.from_array(places)] = x[:40_000]
        y.to_zarr(tmp_path / "b.zarr", chunks=777)
        taken, laid = (xp.open(tmp_path / f"{name}.zarr").compute() for name in "ab")
    assert np.array_equal(taken, x[places])
    x[places] = x[:40_000].copy()
    assert np.array_equal(laid, x)


def test_cuts_are_multiples_of_written_chunks() -> None:
    x = FakeStore((5000,), (500,)).as_array()
    places = (FakeStore((4000,), (500,)).as_array() * 0).astype("i8")
    (node,) = [n for n in walk((x[places].to_expr(),)) if isinstance(n, Gather)]
    target = SimpleNamespace(write_grid=Grid((5000,), (7,)))
    builder: Any = SimpleNamespace(limits=limits(MIB, 512), target_of=lambda _: target)
    cuts = distribution.Cuts.of(builder, node)
    assert cuts is not None
    assert cuts.blocks.chunk_shape[0] % 7 == 0
    y = x + 0
    y[places] = 1
    (laid,) = [n for n in walk((y.to_expr(),)) if isinstance(n, Scatter)]
    cuts = distribution.Cuts.of(builder, laid)
    assert cuts is not None
    assert cuts.stretches.chunk_shape[0] % 7 == 0
