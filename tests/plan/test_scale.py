"""Planning costs per operation, not per chunk, and no depth is too deep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import engine
from tests.plan.support import CountingStore, FakeStore, FakeTarget, limits, plan_of

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

SECONDS_MAX = 2.0
"""Far above what is needed, far below what work per chunk would take."""

SIDE = 3_200_000
CHUNK = 1000
"""3200 x 3200 chunks: ten million."""


def huge() -> Any:
    """Give 82 TB in ten million chunks."""
    return FakeStore((SIDE, SIDE), (CHUNK, CHUNK)).as_array()


CASES: dict[str, Callable[[], tuple[Any, tuple[int, ...] | None]]] = {
    "elementwise": lambda: (xp.exp(huge()) * 2 + 1, (CHUNK, CHUNK)),
    "reduction over all": lambda: (huge().sum(), None),
    "reduction of an axis": lambda: (huge()[:, :4000].mean(0), None),
    "transpose": lambda: (huge().T, (CHUNK, CHUNK)),
    "shifted": lambda: ((x := huge())[1:] - x[:-1], None),
    "roll": lambda: (xp.roll(huge(), (5, 9), (0, 1)), (CHUNK, CHUNK)),
    "scan": lambda: (xp.cumsum(huge(), 0), (CHUNK, CHUNK)),
    "product": lambda: ((x := huge()) @ x, (CHUNK, CHUNK)),
    "tiny chunks in line": lambda: (FakeStore((10**10,), (1000,)).as_array() * 2, (1000,)),
}


@pytest.mark.parametrize("name", CASES)
def test_ten_million_chunks_are_planned_at_once(name: str) -> None:
    array, chunks = CASES[name]()
    target = None if chunks is None else FakeTarget(array.shape, chunks)
    began = time.perf_counter()
    plan = plan_of(array, into=target, at=limits(memory=4 << 30))
    assert time.perf_counter() - began < SECONDS_MAX
    assert max(step.tasks for step in plan.steps) >= 1000


def test_the_cost_of_planning_is_that_of_its_operations() -> None:
    x = FakeStore((1000, 1000), (100, 100)).as_array()

    def seconds(operations: int) -> float:
        y = x
        for turn in range(operations):
            y = y + turn
        best = min(_timed(y) for _ in range(3))
        del y
        return best

    few, many = seconds(200), seconds(2000)
    # Linear, with room for noise; the bar of 20 us per operation is measured in tests/bench.
    assert many < 25 * few + 0.1
    assert many / 2000 < 200e-6


def _timed(array: Any) -> float:
    began = time.thread_time()
    plan_of(array)
    return time.thread_time() - began


def test_a_chain_of_ten_thousand_operations_is_planned_and_let_go() -> None:
    y = FakeStore((1000,), (100,)).as_array()
    for _ in range(10_000):
        y = y + 1
    plan = plan_of(y)
    assert len(plan.steps) == 1
    del y, plan  # must not recurse either


@pytest.mark.slow
def test_a_chain_of_ten_thousand_operations_runs() -> None:
    y = CountingStore(np.arange(1000.0), (100,)).as_array()
    for _ in range(10_000):
        y = y + 1
    np.testing.assert_array_equal(y.compute(), np.arange(1000.0) + 10_000)


def test_a_chain_of_a_thousand_operations_runs() -> None:
    y = CountingStore(np.arange(100.0), (10,)).as_array()
    for _ in range(1000):
        y = y + 1
    np.testing.assert_array_equal(y.compute(), np.arange(100.0) + 1000)


def test_a_thousand_reductions_after_each_other_run() -> None:
    store = CountingStore(np.ones((4, 5)), (2, 5))
    y = store.as_array()
    for _ in range(100):
        y = y / y.sum()
    np.testing.assert_allclose(y.compute(), np.full((4, 5), 1 / 20))


def test_a_value_that_many_share_is_not_expanded() -> None:
    y = FakeStore((1000,), (100,)).as_array()
    for _ in range(60):
        y = y + y  # 2 ** 60 paths
    (step,) = plan_of(y).steps
    assert len(step.work.outputs[0].recipe.program.ops) == 60  # type: ignore[attr-defined]


def test_shifted_readings_of_shared_values_do_not_explode_silently() -> None:
    store = CountingStore(np.arange(64.0), (16,))
    y, plain = store.as_array(), store.array
    for _ in range(8):
        y, plain = y[1:] + y[:-1], plain[1:] + plain[:-1]
    plan = plan_of(y)
    # Each shift is another value of the same node: 1 + 2 + ... of them, not 2 ** 8.
    works: list[Any] = [step.work for step in plan.steps]
    assert sum(len(work.outputs[0].recipe.program.ops) for work in works) <= 36
    np.testing.assert_array_equal(y.compute(), plain)


def test_many_pieces_are_joined_in_linear_time() -> None:
    x = FakeStore((1_000_000,), (1000,)).as_array()
    began = time.thread_time()
    joined = xp.concatenate([x[i * 1000 : (i + 1) * 1000] for i in range(1000)])
    plan = plan_of(joined * 2)
    assert time.thread_time() - began < SECONDS_MAX
    assert plan.steps


@pytest.mark.parametrize(("count", "tasks"), [(800, 100), (8_000, 1000), (1_000_000, 1025)])
def test_very_small_chunks_are_made_larger_where_they_are_very_many(count: int, tasks: int) -> None:
    with chunkarr.config(eager_bytes=0, chunk_bytes=64):
        x = xp.from_array(np.zeros(count)) + 1
        rows = engine.explain_rows(x.to_expr())
    assert max(row.tasks for row in rows) == tasks
