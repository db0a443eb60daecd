"""Calls on whole boxes: what is called how often, in which boxes, within which bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import chunkarr
from chunkarr.arrays import wrap
from chunkarr.errors import MemoryBudgetError
from chunkarr.functions.lanes import lanes
from chunkarr.plan.blocks import BlocksWork
from tests.plan.support import MIB, CountingStore, FakeStore, limits, names, plan_of, run_plan

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
F8 = np.dtype(np.float64)


def scaled(a: NDArray, factor: float = 1.0) -> NDArray:
    """Sort along the last axis and scale."""
    return np.sort(a, axis=-1) * factor


def halves(a: NDArray) -> tuple[NDArray, NDArray]:
    """Give the least and the sum of each lane, two results."""
    return a.min(-1), np.add.reduce(a, -1)


def weighed(a: NDArray, weights: NDArray) -> NDArray:
    """Multiply matrices."""
    product: NDArray = np.matmul(a, weights)
    return product


def spoilt(a: NDArray) -> NDArray:
    """Write to what was lent."""
    a[...] = 0
    return a


def sort_lanes(x: Any, **options: float) -> Any:
    """Give sorted lanes along the last axis."""
    expr = x.to_expr()
    (made,) = lanes(
        scaled,
        [expr],
        [1],
        [expr.shape[-1:]],
        [expr.dtype],
        name="scaled",
        options=tuple(options.items()),
    )
    return wrap(made)


def both(x: Any) -> tuple[Any, Any]:
    """Give the two results of one call."""
    expr = x.to_expr()
    least, total = lanes(halves, [expr], [1], [(), ()], [F8, F8], name="halves")
    return wrap(least), wrap(total)


def values(*shape: int) -> NDArray:
    return np.random.default_rng(len(shape)).normal(size=shape)


SHAPES = [(5,), (4, 6), (3, 4, 5), (1, 4, 5), (0, 4), (7, 1), (2, 3, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_lanes_agree_with_one_call(shape: tuple[int, ...], chunk_bytes: int) -> None:
    a = values(*shape)
    with xp.config(chunk_bytes=chunk_bytes, eager_bytes=0):
        x = xp.from_array(a)
        got = (sort_lanes(x * 2 + 1, factor=3.0) - 1).compute()
        least, total = xp.compute(*both(x))
    np.testing.assert_array_equal(got, scaled(a * 2 + 1, 3.0) - 1)
    np.testing.assert_array_equal(least, a.min(-1))
    np.testing.assert_array_equal(total, np.add.reduce(a, -1))


@pytest.mark.parametrize(
    ("left", "right"),
    [((4, 3, 2), (2, 5)), ((3, 2), (6, 2, 5)), ((4, 1, 3, 2), (6, 2, 5)), ((3, 2), (2, 4))],
)
@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_loop_axes_broadcast(
    left: tuple[int, ...], right: tuple[int, ...], chunk_bytes: int
) -> None:
    a, b = values(*left), values(*right)
    with xp.config(chunk_bytes=chunk_bytes):
        x, y = xp.from_array(a) + 0, xp.from_array(b) * 1
        core = (left[-2], right[-1])
        (made,) = lanes(weighed, [x.to_expr(), y.to_expr()], [2, 2], [core], [F8], name="weighed")
        np.testing.assert_array_equal(wrap(made).compute(), np.matmul(a, b))


def test_loop_axes_that_do_not_broadcast_are_refused_at_the_call() -> None:
    x, y = (xp.from_array(values(n, 2)).to_expr() for n in (3, 4))
    with pytest.raises(ValueError, match="broadcast"):
        lanes(weighed, [x, y], [1, 1], [()], [F8], name="weighed")


def test_results_of_one_call_are_made_by_one_step() -> None:
    least, total = both(xp.from_array(values(40, 30)) + 1)
    plan = plan_of(least, total, total * 2, at=limits(chunk_bytes=1000))
    assert names(plan).count("halves") == 1
    (work,) = [step.work for step in plan.steps if isinstance(step.work, BlocksWork)]
    assert [position for position, _ in work.results] == [0, 1]


def test_equal_calls_are_made_once() -> None:
    x = xp.from_array(values(40, 30))
    same = plan_of(sort_lanes(x + 1) + sort_lanes(x + 1))
    assert sum("scaled" in name for name in names(same)) == 1
    other = plan_of(sort_lanes(x + 1) + sort_lanes(x + 1, factor=2.0))
    assert names(other) == ["scaled", "scaled, add"]


def raised_up(a: NDArray) -> NDArray:
    """Add one to whole numbers."""
    return a + 1


def corner(a: NDArray) -> NDArray:
    """Give two rows of one column."""
    return a[:2, :1] * 3


FINISHES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "elementwise": lambda np, y, c: np.maximum(y * 2, 3) - c,
    "another dtype": lambda np, y, c: (y > c).astype("i2"),
    "sum of rows": lambda np, y, c: (y + 1).sum(axis=0),
    "sum of columns": lambda np, y, c: y.sum(axis=1),
    "mean of all": lambda np, y, c: y.mean(),
    "places": lambda np, y, c: y.argmin(axis=0) + y.min(axis=0),
    "itself and its sum": lambda np, y, c: y - y.sum(axis=0),
    "several": lambda np, y, c: np.concatenate([y.sum(0), y.max(0), (y * y).std(0)]),
    "rows of it": lambda np, y, c: (y + 1)[::2, 1:],
    "running sum": lambda np, y, c: np.cumsum(y + 1, axis=1),
}

CALLS: dict[str, tuple[Callable[[Any], Any], Callable[[NDArray], NDArray]]] = {
    "blocks": (lambda x: xp.map_blocks(raised_up, x, dtype="f8"), raised_up),
    "neighbours": (
        lambda x: xp.map_overlap(raised_up, x, depth=1, boundary="reflect", dtype="f8"),
        raised_up,
    ),
    "lanes": (sort_lanes, scaled),
    "blocks of other shapes": (
        lambda x: x.map_blocks(corner, chunks=(2, 1), dtype="f8"),
        lambda a: np.block([[corner(a[i:, j:]) for j in range(0, 30, 7)] for i in range(0, 20, 6)]),
    ),
    "chunks of several sizes": (
        lambda x: xp.map_blocks(raised_up, x.rechunk(((1, 12, 7), (25, 5))), dtype="f8"),
        raised_up,
    ),
    "some chunks without rows": (
        lambda x: x.map_blocks(
            lambda b, block_id=None: b[: 3 * block_id[0]],
            chunks=((0, 3, 6, 2), (7,) * 4 + (2,)),
            dtype="f8",
        ),
        lambda a: np.concatenate([a[6:9], a[12:18], a[18:20]]),
    ),
}


@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", FINISHES)
def test_what_is_made_of_results_is_numpy_s(name: str, call: str, chunk_bytes: int) -> None:
    a = np.random.default_rng(0).integers(-9, 9, (20, 30)) * 1.0
    make, plain = CALLS[call]
    y = plain(a)
    beside = np.arange(y.size).reshape(y.shape) % 5.0
    with xp.config(chunk_bytes=chunk_bytes, eager_bytes=0):
        x = xp.from_array(a, chunks=(6, 7))
        got = FINISHES[name](xp, make(x), xp.from_array(beside)).compute()
    expected = FINISHES[name](np, y, beside)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-13)


STEPS: list[tuple[Callable[[Any], list[Any]], list[str]]] = [
    (lambda x: [xp.map_blocks(raised_up, x, dtype="f8").sum(0)], ["raised_up, sum"]),
    (lambda x: [sort_lanes(x) * 2 + 1], ["scaled, add"]),
    (lambda x: [(y := sort_lanes(x)), y.max()], ["scaled, max"]),
    (lambda x: [(y := sort_lanes(x)) - y.max()], ["scaled, max", "subtract"]),
    (lambda x: [sort_lanes(x).T + 1], ["scaled", "add"]),
    (lambda x: [sort_lanes(sort_lanes(x) + 1)], ["scaled", "scaled"]),
    (lambda x: [both(x)[0] + both(x)[1]], ["halves", "add"]),
    (lambda x: [both(x)[0] + 1], ["halves, add"]),
]


@pytest.mark.parametrize(("make", "steps"), STEPS)
def test_what_is_made_of_results_joins_the_calls(
    make: Callable[[Any], list[Any]], steps: list[str]
) -> None:
    x = CountingStore(values(60, 40), (10, 40)).as_array()
    assert names(plan_of(*make(x))) == steps


def test_a_task_with_more_to_make_stays_within_the_limit() -> None:
    x = FakeStore((30 * MIB,), (MIB,)).as_array()
    y = xp.map_blocks(raised_up, x, dtype="f8")
    more = y * 2 + xp.arange(30.0 * MIB)
    for memory, steps in ((1 << 30, ["raised_up, add"]), (100 * MIB, ["raised_up", "add"])):
        plan = plan_of(more, at=limits(memory))
        assert names(plan) == steps
        assert plan.bytes_peak <= memory


def test_each_chunk_is_read_once_in_boxes_that_follow_them() -> None:
    store = CountingStore(values(60, 40), (7, 40))
    plan = plan_of(sort_lanes(store.as_array() * 2), at=limits(chunk_bytes=4000))
    assert names(plan) == ["scaled"]
    run_plan(plan)
    assert store.calls["chunks"] == store.grid.size


def test_chunks_across_the_lanes_are_cut_anew_rather_than_decoded_often() -> None:
    store = CountingStore(values(400, 40), (400, 4))
    plan = plan_of(sort_lanes(store.as_array()), at=limits(64 * 1024, chunk_bytes=4000))
    assert names(plan) == ["cut anew", "scaled"]
    run_plan(plan)
    assert store.calls["chunks"] == store.grid.size


def test_what_every_call_reads_is_computed_once() -> None:
    store = CountingStore(values(5, 5), (2, 5))
    x = xp.from_array(values(64, 30, 5))
    operands = [x.to_expr(), xp.exp(store.as_array()).to_expr()]
    (made,) = lanes(weighed, operands, [2, 2], [(30, 5)], [F8], name="weighed")
    plan = plan_of(wrap(made), at=limits(chunk_bytes=4000))
    run_plan(plan)
    assert store.calls["chunks"] == store.grid.size


@pytest.mark.parametrize("chunks", [(10, 30), (7, 11), (40, 1)])
def test_results_go_to_chunks_of_a_target(chunks: tuple[int, ...], tmp_path: Path) -> None:
    a = values(40, 30)
    with xp.config(chunk_bytes=1000):
        sort_lanes(xp.from_array(a)).to_zarr(tmp_path / "out.zarr", chunks=chunks)
    np.testing.assert_array_equal(xp.open(tmp_path / "out.zarr").compute(), scaled(a))


def test_a_call_that_cannot_fit_is_refused_before_the_start() -> None:
    x = FakeStore((4, 10 * MIB), (1, MIB)).as_array()
    with pytest.raises(MemoryBudgetError, match="one call on boxes of shape") as caught:
        plan_of(sort_lanes(x), at=limits(64 * MIB))
    assert caught.value.bytes_needed > 2 * 80 * MIB
    assert caught.value.operation == "scaled"
    assert "shorter along them" in str(caught.value)
    assert caught.value.where


def test_boxes_stay_within_their_share() -> None:
    x = FakeStore((100_000, 64), (1000, 64)).as_array()
    plan = plan_of(sort_lanes(x), at=limits(64 * MIB, chunk_bytes=MIB))
    assert plan.steps[0].tasks >= 32
    assert all(step.bytes_task <= 4 * MIB for step in plan.steps)


@pytest.mark.parametrize("function", ["isin", "searchsorted"])
def test_what_every_call_takes_does_not_cut_the_loop_into_crumbs(function: str) -> None:
    x = xp.from_array(np.arange(500_000.0))
    table = xp.from_array(np.arange(500_000.0)[::2])
    made = xp.isin(x, table) if function == "isin" else xp.searchsorted(table, x)
    assert all(step.tasks <= 64 for step in plan_of(made, at=limits(256 * MIB)).steps)


def test_boxes_are_read_only() -> None:
    a = values(40, 30)
    x = xp.from_array(a)
    for operand in (x, x + 1):
        (made,) = lanes(spoilt, [operand.to_expr()], [1], [(30,)], [F8], name="spoilt")
        with pytest.raises(ValueError, match="read-only"):
            wrap(made).compute()
    np.testing.assert_array_equal(a, values(40, 30))


@pytest.mark.parametrize(
    ("function", "shapes", "dtypes", "error", "message"),
    [
        (scaled, [(3,)], [F8], ValueError, "gave shape"),
        (scaled, [(30,)], [np.dtype(int)], TypeError, "gave dtype float64 where int64"),
        (scaled, [(30,), ()], [F8, F8], ValueError, "gave 1 results where 2"),
    ],
)
def test_results_other_than_declared_are_refused(
    function: Any, shapes: Any, dtypes: Any, error: type[Exception], message: str
) -> None:
    x = xp.from_array(values(40, 30)).to_expr()
    made = lanes(function, [x], [1], shapes, dtypes, name="odd")
    with pytest.raises(error, match=message):
        wrap(made[0]).compute()


def test_what_a_call_gives_beside_is_kept_for_live_names() -> None:
    calls: list[int] = []

    def noted(a: NDArray) -> tuple[NDArray, NDArray]:
        calls.append(a.size)
        return halves(a)

    x = xp.from_array(values(40, 30)).to_expr()
    with xp.config(eager_bytes=0):
        least, total = map(wrap, lanes(noted, [x], [1], [(), ()], [F8, F8], name="noted"))
        later = total * 2
        np.testing.assert_array_equal(least.compute(), values(40, 30).min(-1))
        np.testing.assert_array_equal(later.compute(), values(40, 30).sum(-1) * 2)
    assert sum(calls) == 1200


def test_a_result_that_was_computed_is_not_computed_again() -> None:
    _, total = both(xp.from_array(values(40, 30)) + 1)
    total.persist()
    assert names(plan_of(total * 2)) == ["multiply"]
