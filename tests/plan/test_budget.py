"""What cannot fit is refused before anything runs, and the refusal says what to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.errors import MemoryBudgetError
from chunkarr.plan.plan import Plan
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.storage.spill import SpillStore
from tests.plan.support import MIB, FakeStore, FakeTarget, limits, plan_of

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

HERE = Path(__file__).name
ROOM = 48 * MIB


@pytest.fixture
def _tight() -> None:
    """Leave about 48 MiB beside what this process holds already."""
    xp.config(memory=memory_in_use() + ROOM)


def here(error: MemoryBudgetError) -> bool:
    """Whether an error points into this file."""
    path, _, line = error.where.rpartition(":")
    return os.path.basename(path) == HERE and line.isdigit()


def test_one_huge_chunk_is_refused_with_all_that_helps() -> None:
    x = FakeStore((40_000, 40_000), (40_000, 40_000), name="huge.zarr").as_array()
    y = x * 2
    with pytest.raises(MemoryBudgetError) as caught:
        plan_of(y.sum(), at=limits(memory=256 * MIB))
    error = caught.value
    assert error.operation == "sum"
    assert "(40000, 40000)" in error.array
    assert here(error)
    assert error.bytes_needed >= 40_000 * 40_000 * 8
    assert error.bytes_available == 256 * MIB
    assert any("CHUNKARR_MEMORY" in remedy for remedy in error.remedies)
    assert any("chunk" in remedy for remedy in error.remedies)
    text = str(error)
    assert "GiB" in text
    assert "256.0 MiB" in text
    assert "huge.zarr" in text, "the array whose chunk is too large is not named"


def test_a_huge_output_chunk_is_refused() -> None:
    x = FakeStore((40_000, 40_000), (1000, 1000)).as_array()
    y = x + 1
    with pytest.raises(MemoryBudgetError) as caught:
        plan_of(y, into=FakeTarget((40_000, 40_000), (40_000, 20_000)))
    assert here(caught.value)
    assert caught.value.operation == "add"


@pytest.mark.usefixtures("_tight")
def test_a_zarr_array_of_one_huge_chunk_is_refused_before_it_is_read(tmp_path: Path) -> None:
    import zarr

    path = tmp_path / "huge.zarr"
    zarr.create_array(path, shape=(20_000, 10_000), chunks=(20_000, 10_000), dtype="f8")
    x = xp.open(path)
    with pytest.raises(MemoryBudgetError) as caught:
        (x + 1).sum().compute()
    assert here(caught.value)
    with pytest.raises(MemoryBudgetError):
        (x + 1).to_zarr(tmp_path / "out.zarr", chunks=(100, 100))
    assert sorted(os.listdir(tmp_path)) == ["huge.zarr"]


@pytest.mark.usefixtures("_tight")
def test_writing_chunks_that_do_not_fit_leaves_nothing(tmp_path: Path) -> None:
    x = xp.zeros((10_000, 10_000))
    with pytest.raises(MemoryBudgetError) as caught:
        (x + 1).to_zarr(tmp_path / "out.zarr", chunks=(10_000, 10_000))
    assert here(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("_tight")
def test_computing_more_than_the_limit_is_refused() -> None:
    y = xp.zeros((10_000, 10_000)) + 1
    with pytest.raises(MemoryBudgetError) as caught:
        y.compute()
    error = caught.value
    assert error.operation == "compute"
    assert error.bytes_needed >= 800_000_000
    assert error.bytes_available < 2 * ROOM  # what was freed since counts as room
    assert "(10000, 10000)" in error.array
    assert here(error)
    assert any("to_zarr" in remedy for remedy in error.remedies)
    assert any("persist" in remedy for remedy in error.remedies)


@pytest.mark.usefixtures("_tight")
def test_an_array_over_the_limit_converts_to_no_ndarray() -> None:
    y = xp.zeros((10_000, 10_000)) + 1
    for convert in (np.asarray, lambda a: a.tolist(), np.array):
        with pytest.raises(MemoryBudgetError):
            convert(y)


@pytest.mark.usefixtures("_tight")
def test_computing_two_results_counts_both() -> None:
    one = xp.zeros((4_000_000,)) + 1
    two = xp.zeros((4_000_000,)) + 2
    with pytest.raises(MemoryBudgetError):
        xp.compute(one, two)


@pytest.mark.usefixtures("_tight")
def test_a_reduction_of_what_does_not_fit_runs() -> None:
    total = (xp.zeros((10_000, 10_000), dtype=np.float32) + 1)[:, ::10].sum()
    assert float(total) == 10_000_000


def test_what_does_not_fit_in_memory_is_spilled() -> None:
    x = FakeStore((8000, 8000), (500, 500)).as_array()
    scan = xp.cumsum(x, 0)
    plan = plan_of((scan + 1).sum(), at=limits(memory=256 * MIB))
    assert plan.bytes_spilled == 8000 * 8000 * 8
    assert plan.bytes_peak < 256 * MIB
    assert isinstance(plan.steps[0].creates[0], SpillStore)


def test_what_fits_stays_in_memory() -> None:
    x = FakeStore((800, 800), (100, 100)).as_array()
    plan = plan_of((xp.cumsum(x, 0) + 1).sum())
    assert plan.bytes_spilled == 0
    assert plan.steps[0].creates[0].in_memory


def test_workers_of_their_own_memory_get_files() -> None:
    x = FakeStore((800, 800), (100, 100)).as_array()
    plan = plan_of((xp.cumsum(x, 0) + 1).sum(), at=limits(shares_memory=False))
    assert all(not store.in_memory for step in plan.steps for store in step.creates)


def test_every_task_stays_within_what_is_available() -> None:
    x = FakeStore((30_000, 30_000), (1000, 1000)).as_array()
    at = limits(memory=256 * MIB)
    made: list[Any] = [
        (x - x.mean(0)) / x.std(0),
        xp.cumsum(x, 0),
        x.T + x,
        xp.sort(x.reshape(-1)),
        x @ x.T,
        x.reshape(-1, 3).sum(1),
        xp.roll(x, (5, 7), (0, 1)),
        xp.concatenate([x, x[::-1]], axis=1).mean(1),
    ]
    for array in made:
        plan = plan_of(array, at=at)
        for step in plan.steps:
            assert step.bytes_task + step.bytes_fixed <= at.bytes_available
        assert 0 < plan.bytes_peak <= at.bytes_available


def held_after(plan: Plan) -> int:
    """Add up what stays in memory of what the steps make."""
    made = [s for step in plan.steps for s in step.creates if s.in_memory]
    freed = {id(s) for step in plan.steps for s in step.releases}
    return sum(s.bytes_size for s in made if id(s) not in freed)


def test_scratch_is_freed_behind_its_last_reader() -> None:
    x = FakeStore((3000, 3000), (500, 500)).as_array()
    plan = plan_of(((x - x.mean(0)) / x.std(0)).sum(1), at=limits(memory=512 * MIB))
    created = {id(s) for step in plan.steps for s in step.creates}
    released = [id(s) for step in plan.steps for s in step.releases]
    assert len(released) == len(set(released))
    results = {id(store) for store in plan.results}
    assert created - set(released) == results
    assert held_after(plan) == 3000 * 8


def test_no_store_is_read_after_its_release() -> None:
    x = FakeStore((3000, 3000), (1, 3000)).as_array()
    y = x.T - x.mean(0)[:, None]
    plan = plan_of((y @ y.T).sum(0), xp.cumsum(y, 1).max(1), at=limits(memory=256 * MIB))
    gone: set[int] = set()
    for step in plan.steps:
        assert not gone & {id(store) for store in step.creates}
        for recipe in recipes(step.work):
            assert not gone & {id(store) for store in recipe.stores()}
        gone |= {id(store) for store in step.releases}


def recipes(work: object) -> list:  # type: ignore[type-arg]
    """List the recipes of any kind of work."""
    found = [getattr(output, "recipe", None) for output in getattr(work, "outputs", ())]
    found += [getattr(work, name, None) for name in ("recipe", "left", "right", "values", "mask")]
    return [recipe for recipe in found if hasattr(recipe, "stores")]


def test_an_error_survives_pickling() -> None:
    import pickle

    error = MemoryBudgetError("x", "sum", "a.py:1", 9, 4, ("wait",))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert isinstance(copy, MemoryError)


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x + 1,
        lambda x: (x + 1).reshape(-1),
        lambda x: xp.linalg.cholesky(x + xp.eye(len(x))),
        lambda x: (x + 1) @ x,
    ],
    ids=["sum", "reshape", "cholesky", "product"],
)
def test_what_stays_leaves_room_for_a_task(value: Any) -> None:
    x = xp.from_array(np.zeros((400, 400)))  # 1.25 MB
    for available, fits in ((5, True), (4, False)):
        at = limits(16 * MIB, available=available * MIB, chunk_bytes=1 << 16)
        plan = plan_of(value(x), at=at)
        assert [store.in_memory for store in plan.results] == [fits]


def test_others_leave_no_room_for_values_but_for_tasks() -> None:
    x = xp.from_array(np.zeros((400, 400)))
    for spare, fits in ((64, True), (1, False)):
        at = replace(limits(), bytes_spare=spare * MIB)
        plan = plan_of(x + 1, at=at)
        assert [store.in_memory for store in plan.results] == [fits]
        assert plan_of((x + 1) @ x, at=at).steps
