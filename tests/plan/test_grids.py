"""Cuts: what must be a multiple, what is wished for, and what happens when it does not fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr.expr.affine import Affine, Term
from chunkarr.grid import Grid
from chunkarr.kernels.program import Program
from chunkarr.kernels.recipe import Recipe, StoreLeaf
from chunkarr.plan import gather
from chunkarr.plan.grids import (
    REDUCED_DEPTH,
    choose_cut,
    preferred_cut,
    projected_cut,
    reads_per_chunk,
    shrink,
    write_unit,
)
from chunkarr.plan.halo import RUN_BYTES
from chunkarr.plan.works import Sweep
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.spill import SpillStore
from chunkarr.storage.store import Store
from tests.plan.support import (
    MIB,
    CountingStore,
    FakeStore,
    FakeTarget,
    NDArray,
    limits,
    plan_of,
    run_plan,
)

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

shapes = st.lists(st.integers(0, 40), min_size=1, max_size=3)


@st.composite
def _cuts(draw: st.DrawFn) -> tuple[tuple[int, ...], int, tuple[int, ...], tuple[int, ...]]:
    shape = tuple(draw(shapes))
    unit = tuple(draw(st.integers(1, max(1, n))) for n in shape)
    wish = tuple(draw(st.integers(0, max(1, n))) for n in shape)
    return shape, draw(st.integers(1, 3000)), unit, wish


@given(_cuts(), st.booleans(), st.integers(0, 99))
def test_a_cut_respects_the_unit_and_the_size(
    case: tuple[tuple[int, ...], int, tuple[int, ...], tuple[int, ...]], reduces: bool, run: int
) -> None:
    shape, elements, unit, wish = case
    runs = [(run % len(shape), run)] if run else []
    cell = choose_cut(shape, elements, unit, wish, [(0,)] if reduces else [], runs)
    least = 1
    for n, size, u, w in zip(shape, cell, unit, wish, strict=True):
        assert 1 <= size <= max(1, n)
        assert size % u == 0 or size == max(1, n)
        step = math.lcm(u, w) if w and math.lcm(u, w) <= max(u, w) else u
        least *= max(1, min(n, step))
    deep = REDUCED_DEPTH * least if reduces else 0
    assert math.prod(cell) <= max(elements, least, deep)


@given(_cuts())
def test_shrinking_ends_at_the_unit(
    case: tuple[tuple[int, ...], int, tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, elements, unit, _ = case
    cell = choose_cut(shape, elements, unit)
    seen = 0
    while (smaller := shrink(cell, unit)) is not None:
        assert math.prod(smaller) < math.prod(cell)
        assert all(n % u == 0 or n == big for n, u, big in zip(smaller, unit, cell, strict=True))
        cell = smaller
        seen += 1
        assert seen < 100
    assert all(n <= u for n, u in zip(cell, unit, strict=True))


def test_a_cell_grows_along_the_last_axes_first() -> None:
    assert choose_cut((100, 100, 100), 20_000, (1, 1, 1)) == (2, 100, 100)
    assert choose_cut((100, 100, 100), 500, (1, 1, 1)) == (1, 5, 100)


def test_a_cell_reaches_far_along_reduced_axes() -> None:
    plain = choose_cut((10_000, 10_000), 100_000, (1, 1))
    deep = choose_cut((10_000, 10_000), 100_000, (1, 1), reduced=[(0,)])
    assert plain == (10, 10_000)
    assert deep[0] >= REDUCED_DEPTH


class LyingStore(FakeStore):
    """A file map of any size that has no data: in C order, for planning only."""

    addressable = True
    tiled = False


def test_a_cell_reaches_some_way_along_what_lies_together() -> None:
    x = LyingStore((50_000, 70_000), (50_000, 70_000)).as_array()
    for value in (x.T + 1, x[:, :50_000] + x[:50_000, :50_000].T):
        (step,) = plan_of(value, into=LyingStore(value.shape, value.shape)).steps
        assert isinstance(step.work, Sweep)
        assert all(n * 8 >= RUN_BYTES for n in step.work.grid.chunk_shape)
    row = LyingStore((50_000,), (50_000,)).as_array()
    (step,) = plan_of(x[:, 0:50_000] + row[:, None], into=LyingStore(x.shape, x.shape)).steps
    assert isinstance(step.work, Sweep)
    assert step.work.grid.chunk_shape[0] < 10  # what is stretched is wanted whole anyway


def test_pages_are_shared_by_cells_that_follow_each_other_where_chunks_are_thin() -> None:
    # Of 800 bytes, each chunk of the target wants 8.
    x = LyingStore((12_000, 440, 100), (12_000, 440, 100)).as_array()
    target = FakeTarget((100, 12_000, 440), (1, 500, 440))
    at = limits()
    (step,) = plan_of(x.transpose(2, 0, 1), into=target, at=at).steps
    assert isinstance(step.work, Sweep)
    cell = step.work.grid.chunk_shape
    assert cell == (4, 500, 440)
    assert step.bytes_task <= at.bytes_share
    assert step.work.order is not None
    assert step.work.order[-1] == 0


def test_the_cut_does_not_depend_on_the_workers() -> None:
    x = FakeStore((5000, 7000), (500, 700)).as_array()
    grids = []
    for workers in (1, 2, 64):
        plan = plan_of(x.sum(), x.mean(0), at=limits(workers=workers))
        grids.append([step.work.grid for step in plan.steps if isinstance(step.work, Sweep)])
    assert grids[0] == grids[1] == grids[2]


def test_a_wish_is_followed_where_it_fits() -> None:
    x = FakeStore((5000, 7000), (500, 700)).as_array()
    (step,) = plan_of(x + 1, into=FakeTarget((5000, 7000), (1000, 700))).steps
    assert isinstance(step.work, Sweep)
    cell = step.work.grid.chunk_shape
    assert cell[0] % 1000 == 0
    assert cell[1] % 700 == 0


def test_the_wish_is_that_of_the_largest_source() -> None:
    small = FakeStore((100, 1), (7, 1))
    large = FakeStore((100, 200), (10, 50))
    recipes = [Recipe((100, 200), (_leaf(small, 0), _leaf(large, 0, 1)), Program((), (), (0,)))]
    assert preferred_cut(recipes) == (10, 50)


def _leaf(store: Store, *axes: int) -> StoreLeaf:
    terms = [Term(axis, 0, 1) for axis in axes]
    terms += [Term(-1, 0, 0)] * (len(store.shape) - len(axes))
    return StoreLeaf(store, Affine((100, 200), tuple(terms)))


@pytest.mark.parametrize(
    ("terms", "cut"),
    [
        ([Term(0, 0, 1), Term(1, 0, 1)], (10, 50)),
        ([Term(1, 0, 1), Term(0, 0, 1)], (50, 10)),
        ([Term(0, 9, -2), Term(1, 0, 1)], (5, 50)),
        ([Term(-1, 3, 0), Term(1, 0, 1)], (0, 50)),
        ([Term(0, 0, 100), Term(-1, 0, 0)], (1, 0)),
    ],
)
def test_a_store_s_cut_is_seen_through_its_map(terms: list[Term], cut: tuple[int, ...]) -> None:
    assert projected_cut(FakeStore((100, 200), (10, 50)), (100, 200), terms) == cut


def test_memory_has_no_wish() -> None:
    assert projected_cut(MemoryStore(np.zeros(9)), (9,), [Term(0, 0, 1)]) is None


def test_units_are_common_multiples() -> None:
    targets = [FakeTarget((100, 100), (10, 4)), FakeTarget((100, 100), (4, 6))]
    assert write_unit((100, 100), targets) == (20, 12)
    assert write_unit((100, 100), [MemoryStore(np.zeros((100, 100)))]) == (1, 1)


def test_an_irregular_target_is_followed() -> None:
    grid = Grid((10,), ((3, 3, 4),))
    assert write_unit((10,), [FakeTarget((10,), grid)]) == grid


def test_cells_shrink_until_a_task_stays_within_its_share() -> None:
    operands = [FakeStore((4000, 4000), (4000, 4), name=f"x{i}").as_array() for i in range(4)]
    total = sum(operands[1:], operands[0])
    at = limits(memory=16 << 20, chunk_bytes=64 << 20)
    (step,) = plan_of(total.sum(), at=at).steps[:1]
    assert step.bytes_task <= 3 * at.bytes_share  # cells that follow chunks may go over it


# -- chunks that would be read again and again -----------------------------------------------------


def recipe_of(store: Store, terms: list[Term], shape: tuple[int, ...]) -> Recipe:
    leaf = StoreLeaf(store, Affine(shape, tuple(terms)))
    return Recipe(shape, (leaf,), Program((store.dtype,), (), (0,)))


@pytest.mark.parametrize(
    ("cell", "terms", "times"),
    [
        ((10, 50), [Term(0, 0, 1), Term(1, 0, 1)], 1),
        ((20, 100), [Term(0, 0, 1), Term(1, 0, 1)], 1),
        ((5, 50), [Term(0, 0, 1), Term(1, 0, 1)], 2),
        ((1, 200), [Term(0, 0, 1), Term(1, 0, 1)], 10),
        ((10, 50), [Term(0, 0, 1), Term(-1, 0, 0)], 4 * 50),
    ],
)
def test_readings_of_a_chunk_are_estimated(
    cell: tuple[int, int], terms: list[Term], times: float
) -> None:
    store = FakeStore((100, 200), (10, 50))
    ((_, found),) = reads_per_chunk(Grid((100, 200), cell), recipe_of(store, terms, (100, 200)))
    if terms[1].axis >= 0:
        assert found == times
    else:
        assert found >= 4


def test_a_part_of_a_spilled_tile_is_read_without_the_rest_of_it() -> None:
    shape = (4096, 2048)
    spill = SpillStore(shape, "f8", Grid(shape, (512, 1024)))
    recipe = recipe_of(spill, [Term(0, 0, 1), Term(1, 0, 1)], shape)
    ((_, rows),) = reads_per_chunk(Grid(shape, (64, 1024)), recipe)
    ((_, columns),) = reads_per_chunk(Grid(shape, (4096, 16)), recipe)
    assert (rows, columns) == (1, 64)


def test_an_empty_reading_is_no_reading() -> None:
    store = FakeStore((100, 200), (10, 50))
    recipe = recipe_of(store, [Term(0, 0, 1), Term(1, 0, 1)], (100, 0))
    assert all(times <= 1 for _, times in reads_per_chunk(Grid((100, 0), (10, 1)), recipe))


def test_a_source_in_rows_is_cut_anew_for_a_reader_in_columns() -> None:
    shape = (4000, 4000)
    x = FakeStore(shape, (1, 4000)).as_array()
    plan = plan_of(x.T * 1, into=FakeTarget(shape, (1, 4000)), at=limits(memory=64 << 20))
    assert [step.name for step in plan.steps] == ["cut anew", "multiply"]
    assert plan.steps[0].creates[0] in plan.steps[1].releases


def test_a_source_that_is_read_as_it_lies_is_not_cut_anew() -> None:
    shape = (4000, 4000)
    x = FakeStore(shape, (500, 500)).as_array()
    plan = plan_of(x.T * 1, into=FakeTarget(shape, (500, 500)), at=limits(memory=64 << 20))
    assert [step.name for step in plan.steps] == ["multiply"]


def test_a_small_source_is_read_again_instead() -> None:
    x = FakeStore((64, 64), (1, 64)).as_array()
    plan = plan_of(x.T * 1, into=FakeTarget((64, 64), (1, 64)))
    assert [step.name for step in plan.steps] == ["multiply"]


@pytest.mark.parametrize("chunks", [(1, 512), (512, 1), (15, 200), (512, 512), (64, 64)])
@pytest.mark.parametrize("wanted", [(512, 1), (64, 64), (11, 177)])
def test_no_chunk_is_decoded_again_and_again(
    chunks: tuple[int, int], wanted: tuple[int, int]
) -> None:
    store = CountingStore(np.random.default_rng(0).normal(size=(512, 512)), chunks)
    target = SinkStore(store.shape, wanted)
    at = limits(memory=32 << 20, chunk_bytes=1 << 16)
    run_plan(plan_of(store.as_array().T + 0, into=target, at=at))
    np.testing.assert_array_equal(target.array, store.array.T)
    assert store.calls["chunks"] <= 1.7 * store.grid.size + 4


class SinkStore(FakeTarget):
    """A target that takes whole chunks and keeps them in an array."""

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        super().__init__(shape, chunks)
        self.array = np.full(shape, np.nan)

    def create(self) -> None:
        """Nothing to make."""

    def write(self, region: tuple[slice, ...], values: NDArray) -> None:
        """Keep a box of whole chunks, each once."""
        assert self.grid.aligned(region), region
        assert np.isnan(self.array[region]).all()
        self.array[region] = values


@pytest.mark.parametrize("axis", [0, 1])
def test_cells_follow_the_chunks_of_sources_that_are_laid_elsewhere(axis: int) -> None:
    store = CountingStore(np.random.default_rng(0).normal(size=(400, 600)), (50, 50))
    at = limits(memory=4 << 20, chunk_bytes=50 * 50 * 8)
    for laid in (xp.roll, lambda x, n, axis: xp.pad(x, n)):
        store.calls.clear()
        run_plan(plan_of(laid(store.as_array(), 3, axis=0).sum(axis), at=at))
        assert store.calls["chunks"] <= 4.2 * store.grid.size


def test_what_lies_between_strides_is_let_go() -> None:
    x = FakeStore((12_000, 44_000), (500, 500)).as_array()
    into = FakeTarget((12_000, 5500), (500, 500))
    packed = xp.packbits(x > 0, axis=1)
    plan = plan_of(packed, into=into, at=limits(400 * MIB, available=300 * MIB))
    (step,) = plan.steps
    assert step.bytes_task < 40 * MIB  # eight strided boxes of 2 MiB, one of them with all between


def test_windows_are_reduced_whole() -> None:
    x = FakeStore((12_000, 21_000), (500, 500)).as_array()
    windows = xp.lib.stride_tricks.sliding_window_view
    at = limits(192 * MIB, available=150 * MIB)
    into = FakeTarget((11_996, 21_000), (500, 500))
    plan = plan_of(windows(x, 5, axis=0).max(-1), into=into, at=at)
    assert [step.name for step in plan.steps] == ["max"]
    both = plan_of(windows(x, (3, 3)).sum((-2, -1)), at=at)
    assert [step.name for step in both.steps] == ["sum"]


@pytest.mark.parametrize("scarce", [True, False])
def test_columns_at_random_are_read_by_wide_boxes(
    scarce: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "is_scarce", lambda _: scarce)
    x = FakeStore((12_000, 44_000), (500, 500)).as_array()
    columns = np.random.default_rng(0).permutation(44_000)
    at = limits(400 * MIB, 4 * MIB)
    plan = plan_of(x[:, columns], into=FakeTarget((12_000, 44_000), (500, 500)), at=at)
    assert [step.name for step in plan.steps] == ["x.zarr", "gather"] + ["gather"] * scarce
    assert all(step.bytes_task < 2 * at.bytes_share for step in plan.steps)


def test_rows_at_random_of_large_chunks_are_gathered_by_few_tasks() -> None:
    x = FakeStore((2_000_000, 32), (50_000, 32)).as_array()
    rows = np.random.default_rng(0).integers(0, 2_000_000, 100_000)
    plan = plan_of(x[rows], at=limits(180 * MIB, available=80 * MIB))
    assert [step.name for step in plan.steps] == ["x.zarr", "gather"]  # each chunk is read once
    assert all(step.tasks < 100 for step in plan.steps)
    few = plan_of(x[rows[:3]], at=limits(180 * MIB, available=80 * MIB))
    assert [(step.name, step.tasks) for step in few.steps] == [("gather", 1)]
