"""What gets a store, and what shares a visit: one scan of a source serves all who need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.plan.works import MapOutput, ReduceOutput, Sweep
from tests.plan.support import MIB, CountingStore, FakeStore, limits, names, plan_of

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

SHAPE = (40, 60)


@pytest.fixture
def stored() -> CountingStore:
    rng = np.random.default_rng(1)
    return CountingStore(rng.normal(size=SHAPE), (8, 10))


def visits(*arrays: Any) -> list[str]:
    """List the steps that computing arrays together takes."""
    return names(plan_of(*arrays))


CASES: list[tuple[str, Callable[[Any], list[Any]], list[str]]] = [
    ("elementwise work is one visit", lambda x: [(x - 1) * (x + 1)], ["multiply"]),
    (
        "all reductions of one source are one visit",
        lambda x: [x.mean(0), x.std(1), x.var(), x.max(), x.argmin(0)],
        ["sum, var, max, argmin", "divide", "sqrt"],
    ),
    (
        "a reduction of what is made from a source joins them",
        lambda x: [x.sum(0), xp.exp(x).sum(1), (x > 0).sum()],
        ["sum"],
    ),
    (
        "a result and its own sum are one visit",
        lambda x: [(y := x * 2), y.sum()],
        ["multiply, sum"],
    ),
    (
        "two results of one source are one visit",
        lambda x: [x * 2, x + 1],
        ["multiply, add"],
    ),
    (
        "what needs a whole reduction waits for it",
        lambda x: [x - x.mean(0)],
        ["sum", "subtract"],
    ),
    (
        "standardising reads twice, not three times",
        lambda x: [(x - x.mean(0)) / x.std(0)],
        ["sum, var", "divide"],
    ),
    (
        "another index space is another visit",
        lambda x: [x.sum(0), x[1:].sum(0)],
        ["sum", "sum"],
    ),
    ("a scan stands alone", lambda x: [xp.cumsum(x, 0) + 1], ["add.accumulate", "add"]),
    ("a product stands alone", lambda x: [x.T @ x], ["matmul"]),
    (
        "the operands of a product are made tile by tile",
        lambda x: [(x.T - 1) @ (x * 2)],
        ["matmul"],
    ),
    (
        "what is made of a product at its own index is made of its tiles",
        lambda x: [xp.maximum(x.T @ x + 1, 0), (x @ x.T).sum(0), (x @ x.T).max(1)],
        ["matmul, maximum", "matmul, sum, max"],
    ),
    (
        "a product that a later step reads is stored by the way",
        lambda x: [(p := x.T @ x) / p.sum(0)],
        ["matmul, sum", "divide"],
    ),
    (
        "of two products the second is finished",
        lambda x: [x.T @ x + (x.T * 2) @ x],
        ["matmul", "matmul, add"],
    ),
    (
        "a product that is read elsewhere than at its own index stands alone",
        lambda x: [xp.cumsum(x.T @ x, 0) + 1],
        ["matmul", "add.accumulate", "add"],
    ),
    (
        "reductions of an operand do not join the product",
        lambda x: [(y := x[:, :40]) @ y, y.sum()],
        ["matmul", "sum"],
    ),
    ("a reduction of a sum over an axis goes on", lambda x: [x.sum(0).max()], ["sum", "max"]),
]


@pytest.mark.parametrize(("name", "make", "steps"), CASES, ids=[name for name, _, _ in CASES])
def test_grouping(
    name: str, make: Callable[[Any], list[Any]], steps: list[str], stored: CountingStore
) -> None:
    assert visits(*make(stored.as_array())) == steps


def test_one_scan_reads_each_element_once(stored: CountingStore) -> None:
    x = stored.as_array()
    with xp.config(chunk_bytes=1 << 12):
        mean, std, var = xp.compute(x.mean(0), x.std(1), x.var())
    assert (stored.reads == 1).all()
    np.testing.assert_allclose(mean, stored.array.mean(0))
    np.testing.assert_allclose(std, stored.array.std(1))
    np.testing.assert_allclose(var, stored.array.var())


def test_subtracting_a_mean_reads_each_element_twice(stored: CountingStore) -> None:
    x = stored.as_array()
    with xp.config(chunk_bytes=1 << 12):
        got = (x - x.mean(0)).compute()
    assert (stored.reads == 2).all()
    np.testing.assert_allclose(got, stored.array - stored.array.mean(0))


def test_a_value_that_a_live_name_holds_is_written_in_the_visit_that_needs_it(
    stored: CountingStore,
) -> None:
    x = stored.as_array()
    y = xp.exp(x)
    plan = plan_of(y.sum(), keep=[y])
    (sweep,) = [step.work for step in plan.steps if isinstance(step.work, Sweep)]
    assert [type(output) for output in sweep.outputs] == [MapOutput, ReduceOutput]
    assert [node for node, _ in plan.kept] == [y.to_expr()]


def test_of_a_source_that_a_name_cuts_otherwise_nothing_is_kept(stored: CountingStore) -> None:
    x = stored.as_array().rechunk((3, 7))
    plan = plan_of(x + 1, keep=[x])
    assert names(plan) == ["add"]
    assert not plan.kept


def test_a_value_is_not_kept_where_it_does_not_fit() -> None:
    y = xp.exp(FakeStore((4000, 1000), (1000, 1000)).as_array())
    small = limits(memory=256 * MIB, available=y.nbytes * 3)
    plan = plan_of(y.sum(), keep=[y], at=small)
    assert not plan.kept


def test_live_reductions_are_kept_too(stored: CountingStore) -> None:
    x = stored.as_array()
    mean = x.mean(0)
    (x - mean).compute()
    before = stored.reads.copy()
    np.testing.assert_allclose(mean.compute(), stored.array.mean(0))
    assert (stored.reads == before).all()


def test_what_a_live_name_holds_is_computed_once(stored: CountingStore) -> None:
    y = xp.exp(stored.as_array())
    total = y.sum().compute()
    highest = y.max().compute()
    whole = y.compute()
    assert (stored.reads == 1).all()
    np.testing.assert_array_equal(whole, np.exp(stored.array))
    np.testing.assert_allclose(total, whole.sum())
    assert highest == whole.max()


def test_counting_a_mask_keeps_what_names_hold(stored: CountingStore) -> None:
    label = xp.abs(stored.as_array() * 3).astype("i8") % 4
    y = xp.arange(label.size).reshape(label.shape)
    assert sum(y[label == k].shape[0] for k in range(4)) == y.size
    assert (stored.reads == 1).all()


def test_what_is_computed_above_something_computed_is_not_made_again(
    stored: CountingStore,
) -> None:
    y = xp.exp(stored.as_array())
    running = y.cumsum(0)
    running.max().compute()
    assert visits(running * 2) == ["multiply"]


def life(cells: Any) -> Any:
    """Give the next generation of Conway's game."""
    near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    count = sum(xp.roll(xp.roll(cells.astype("i1"), i, 0), j, 1) for i, j in near)
    return (count == 3) | (cells & (count == 2))


def test_the_work_of_a_loop_grows_with_its_length(stored: CountingStore) -> None:
    def work(generations: int) -> int:
        cells = stored.as_array() > 0
        for _ in range(generations):
            cells = life(cells)
        steps = [step.work for step in plan_of(cells).steps]
        sweeps = [work for work in steps if isinstance(work, Sweep)]
        return sum(len(o.recipe.program.ops) for work in sweeps for o in work.outputs)

    assert work(12) < 2.5 * work(6)


def test_what_many_jobs_read_is_stored_however_light(stored: CountingStore) -> None:
    def loop(turns: int) -> list[str]:
        x = stored.as_array()[:40, :40]
        matrix, vector = x + x.T, xp.ones(40)
        for _ in range(turns):
            vector = matrix @ vector
        return visits(vector)

    assert "add" not in loop(2)
    assert loop(12)[:2] == ["add", "matmul"]


def test_what_no_name_holds_is_let_go(stored: CountingStore) -> None:
    x = stored.as_array()
    xp.exp(x).sum().compute()
    xp.exp(x).sum().compute()
    assert (stored.reads == 2).all()


def test_a_rebound_name_holds_its_new_value_only(stored: CountingStore) -> None:
    x = stored.as_array()
    y = x * 2
    y += 1
    y.sum().compute()
    np.testing.assert_array_equal(y.compute(), stored.array * 2 + 1)
    assert (stored.reads == 1).all()


def test_persist_holds_a_value(stored: CountingStore) -> None:
    y = (stored.as_array() * 2).persist()
    for _ in range(3):
        y.sum().compute()
    assert (stored.reads == 1).all()


def test_computing_together_reads_once_what_apart_reads_twice(stored: CountingStore) -> None:
    x = stored.as_array()
    one, two = xp.compute(x * 2, x + 1)
    assert (stored.reads == 1).all()
    np.testing.assert_array_equal(one, stored.array * 2)
    np.testing.assert_array_equal(two, stored.array + 1)


def test_the_length_of_a_selection_is_not_counted_for_its_sum(stored: CountingStore) -> None:
    x = stored.as_array()
    total = x[x > 0].sum()
    assert stored.calls["read"] == 0
    np.testing.assert_allclose(total.compute(), stored.array[stored.array > 0].sum())
    assert (stored.reads == 1).all()


def test_a_selection_counts_its_length_when_asked(stored: CountingStore) -> None:
    x = stored.as_array()
    chosen = x[x > 0]
    assert stored.calls["read"] == 0
    assert chosen.shape == ((stored.array > 0).sum(),)
    assert (stored.reads == 1).all()
    np.testing.assert_array_equal(chosen.compute(), stored.array[stored.array > 0])
    assert (stored.reads == 2).all()


def test_a_shape_never_computes_anything_else() -> None:
    x = FakeStore((10**6, 10**6), (1000, 1000)).as_array()
    made = xp.concatenate([x.T[::2], x[5:500_005, ::-1]], axis=1)
    shape = (made.reshape(-1, 2).sum(1, keepdims=True) @ xp.ones((1, 3))).shape
    assert shape == (500_000 * 10**6, 3)


def test_a_slice_reads_only_the_chunks_it_meets(stored: CountingStore) -> None:
    x = stored.as_array()
    part = ((x * 2 + 1)[8:16, 10:30]).compute()
    assert stored.reads.sum() == 8 * 20
    np.testing.assert_array_equal(part, (stored.array * 2 + 1)[8:16, 10:30])


def test_a_slice_of_a_live_value_does_not_compute_all_of_it(stored: CountingStore) -> None:
    y = stored.as_array() * 2 + 1
    np.testing.assert_array_equal(y[8:16, 10:30].compute(), (stored.array * 2 + 1)[8:16, 10:30])
    assert stored.reads.sum() == 8 * 20


def test_a_sliced_reduction_reads_only_its_slice(stored: CountingStore) -> None:
    x = stored.as_array()
    got = x.sum(0)[10:30].compute()
    assert stored.reads.sum() == 40 * 20
    np.testing.assert_allclose(got, stored.array.sum(0)[10:30])


def test_sizes_that_only_compare_equal_by_broadcasting_do_not_share_a_visit() -> None:
    column = CountingStore(np.arange(40.0).reshape(40, 1), (8, 1))
    row = CountingStore(np.arange(60.0).reshape(1, 60), (1, 10))
    outer = column.as_array() * row.as_array()
    total, top, left = xp.compute(outer.sum(), outer.max(0), column.as_array().sum())
    plain = column.array * row.array
    np.testing.assert_allclose(total, plain.sum())
    np.testing.assert_array_equal(top, plain.max(0))
    np.testing.assert_allclose(left, column.array.sum())
