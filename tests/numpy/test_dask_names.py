"""Names that programs for dask use mean what they mean there, and dask computes our arrays."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr

import chunkarr
from tests.plan.support import CountingStore

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
SHAPE, CHUNKS = (20, 30), (6, 7)


@pytest.fixture(autouse=True, params=["chunks", "at once"])
def _cut(request: pytest.FixtureRequest, _settings_put_back: None, tmp_path: Path) -> None:
    """Everything twice: with many chunks, and as users have it."""
    xp.config(spill_dir=str(tmp_path))
    if request.param == "chunks":
        xp.config(eager_bytes=0, chunk_bytes=512)


def plain(shape: tuple[int, ...] = SHAPE) -> NDArray:
    return np.random.default_rng(3).normal(size=shape)


def pair(shape: tuple[int, ...] = SHAPE, chunks: Any = CHUNKS) -> tuple[Any, Any]:
    """Give the same array as chunkarr's and as dask's."""
    return xp.from_array(plain(shape), chunks=chunks), da.from_array(plain(shape), chunks=chunks)


# -- names --------------------------------------------------------------------------------------

NAMES: list[Callable[[Any, Any], Any]] = [
    lambda m, x: x.blocks[1],
    lambda m, x: x.blocks[1, 2:],
    lambda m, x: x.blocks[-1, ::2],
    lambda m, x: x.blocks[::-1],
    lambda m, x: x.blocks[[0, 2]],
    lambda m, x: x.blocks[:, [3, 0, 1]],
    lambda m, x: x.blocks[..., 0],
    lambda m, x: x.partitions[0, 0],
    lambda m, x: x.blocks.ravel()[7],
    lambda m, x: x.topk(3),
    lambda m, x: x.topk(-4, axis=0),
    lambda m, x: m.topk(x[0], 2),
    lambda m, x: x.argtopk(3),
    lambda m, x: m.argtopk(x, -2, axis=0),
    lambda m, x: m.coarsen(np.sum, x, {0: 2, 1: 5}),
    lambda m, x: m.coarsen(np.max, x, {1: 4}, trim_excess=True),
    lambda m, x: m.coarsen(np.mean, x, {0: 20}),
    lambda m, x: m.coarsen(m.sum, x, {0: 4}),
    lambda m, x: m.coarsen(np.std, x, {0: 4}, dtype="f4"),
    lambda m, x: x.rechunk((5, -1)),
    lambda m, x: x.rechunk({0: 10}),
    lambda m, x: x[x[:, 0] > 0].compute_chunk_sizes(),
    lambda m, x: m.fromfunction(lambda i, j: i - j, shape=(4, 5), chunks=2, dtype="f8"),
    # what is wrong
    lambda m, x: x.blocks[9],
    lambda m, x: x.blocks[None],
    lambda m, x: x.blocks[[0], [1]],
    lambda m, x: m.coarsen(np.sum, x, {0: 3}),
]


@pytest.mark.parametrize("make", NAMES)
def test_a_name_means_what_it_means_in_dask(make: Callable[[Any, Any], Any]) -> None:
    x, d = pair()
    try:
        expected = make(da, d)
    except (ValueError, IndexError) as error:
        with pytest.raises(type(error)):
            make(xp, x)
        return
    made = make(xp, x)
    assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(made.compute(), expected.compute(), rtol=1e-13)


def test_chunks_are_delayed_values_as_in_dask() -> None:
    x, d = pair()
    ours, theirs = (x * 2).to_delayed(), (d * 2).to_delayed()
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours[1, 3].compute(), theirs[1, 3].compute())


def test_an_array_stores_itself() -> None:
    target = np.zeros((22, 30))
    (pair()[0] * 2).store(target, regions=(slice(1, 21), slice(None)))
    np.testing.assert_array_equal(target[1:21], plain() * 2)
    assert not target[[0, 21]].any()
    stored = pair()[0].store(np.zeros(SHAPE), return_stored=True)
    np.testing.assert_array_equal(stored.compute(), plain())


@pytest.mark.parametrize("name", ["chunks", "chunksize", "numblocks", "npartitions"])
def test_attributes_are_dask_s(name: str) -> None:
    x, d = pair()
    assert getattr(x, name) == getattr(d, name)
    assert getattr(x * 2, name) == getattr(d * 2, name)
    assert (x.blocks.shape, x.blocks.size) == (d.blocks.shape, d.blocks.size)
    assert getattr(x.blocks[1:, [2, 0]], name) == getattr(d.blocks[1:, [2, 0]], name)


def test_computing_keeps_the_chunks() -> None:
    x, d = pair()
    y = x + 1
    x.compute()
    assert x.chunks == d.chunks
    y.persist()
    assert y.chunks == d.chunks
    np.testing.assert_array_equal(y.blocks[0, 1].compute(), plain()[:6, 7:14] + 1)


def test_topk_of_a_short_line_gives_all_of_it() -> None:
    x, _ = pair()
    np.testing.assert_array_equal(xp.topk(x, 100).compute(), np.sort(plain())[:, ::-1])
    assert xp.topk(x, 0).compute().shape == (20, 0)


def test_topk_of_a_long_line_reads_it_once() -> None:
    a = plain((300_000,))
    store = CountingStore(a, (10_000,))
    found = xp.topk(store.as_array(), 5).compute()
    np.testing.assert_array_equal(found, np.sort(a)[:-6:-1])
    assert store.calls["chunks"] == store.grid.size
    np.testing.assert_array_equal(a[xp.argtopk(xp.from_array(a), 5).compute()], found)


# -- array-likes --------------------------------------------------------------------------------


class Sliced:
    """An array-like that only slices read and write, and that notes how."""

    def __init__(self, array: NDArray, chunks: Any = None) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = chunks
        self.read: list[int] = []
        self.busy = threading.Lock()

    def __getitem__(self, key: Any) -> NDArray:
        self.read.append(self.array[key].size)
        found: NDArray = self.array[key]
        return found

    def __setitem__(self, key: Any, values: NDArray) -> None:
        assert self.busy.acquire(blocking=False), "two writes at a time"
        self.array[key] = values
        self.busy.release()


def test_array_likes_are_read_box_by_box() -> None:
    source = Sliced(plain((100, 100)), (10, 50))
    x = xp.from_array(source)
    assert x.chunks == ((10,) * 10, (50, 50))
    assert not source.read
    with xp.config(chunk_bytes=8 * 10 * 50):
        np.testing.assert_allclose((x + 1).sum(0).compute(), (plain((100, 100)) + 1).sum(0))
    assert max(source.read) <= 5000
    assert sum(source.read) == 10_000
    np.testing.assert_array_equal(x[95:, 3].compute(), source.array[95:, 3])


def test_arrays_of_zarr_s_are_read_and_written(tmp_path: Path) -> None:
    x, _ = pair()
    target = zarr.create_array(tmp_path / "t.zarr", shape=SHAPE, chunks=(5, 10), dtype="f4")
    xp.store(x * 2, target)
    np.testing.assert_array_equal(target[:], (plain() * 2).astype("f4"))
    again = xp.from_array(target)
    assert again.chunksize == (5, 10)
    xp.store(again[::-1], target)
    np.testing.assert_array_equal(target[:], (plain() * 2).astype("f4")[::-1])


LOCKS = [True, False, threading.RLock()]


@pytest.mark.parametrize("lock", LOCKS, ids=["locked", "free", "own lock"])
def test_store_writes_regions(lock: Any) -> None:
    x, _ = pair()
    targets = [np.zeros((30, 40)), Sliced(np.zeros(SHAPE)), xp.zeros(SHAPE)]
    if lock is False:
        targets[1] = np.zeros(SHAPE)
    regions = [np.s_[5:25, 10:], np.s_[:, :], np.s_[0:20, 0:30]]
    assert xp.store([x, x * 2, x.sum(0) + x], targets, lock=lock, regions=regions) is None
    np.testing.assert_array_equal(targets[0][5:25, 10:], plain())
    assert not targets[0][:5].any()
    np.testing.assert_array_equal(getattr(targets[1], "array", targets[1]), plain() * 2)
    np.testing.assert_allclose(np.asarray(targets[2]), plain().sum(0) + plain())


def test_store_gives_what_dask_s_does() -> None:
    x, _ = pair()
    target = np.zeros(SHAPE)
    later = xp.store(x, target, compute=False)
    assert not target.any()
    later.compute()
    np.testing.assert_array_equal(target, plain())
    (stored,) = xp.store(x * 3, target, return_stored=True)
    np.testing.assert_array_equal(stored.compute(), plain() * 3)


def test_a_target_that_is_read_gets_the_old_values_turned() -> None:
    a = plain()
    xp.store(xp.from_array(a)[::-1] + 1, a)
    np.testing.assert_array_equal(a, plain()[::-1] + 1)


@pytest.mark.parametrize(
    ("sources", "targets", "regions", "message"),
    [
        (2, 1, None, "number of sources"),
        (1, 1, [None, None], "number of sources"),
        (1, 1, (slice(0, 3), slice(0, 30)), "does not go"),
        (1, 1, (slice(0, 20, 2), slice(0, 30)), "does not go"),
    ],
)
def test_store_refuses_what_does_not_match(
    sources: int, targets: int, regions: Any, message: str
) -> None:
    x, _ = pair()
    with pytest.raises(ValueError, match=message):
        xp.store([x] * sources, [np.zeros(SHAPE)] * targets, regions=regions)


def test_store_from_other_processes(tmp_path: Path) -> None:
    x, _ = pair()
    target = np.zeros(SHAPE)
    with xp.config(executor="processes", workers=1):
        xp.store(x + 1, target)
    np.testing.assert_array_equal(target, plain() + 1)


# -- dask ---------------------------------------------------------------------------------------


def test_dask_is_not_loaded_unless_it_is_asked_for() -> None:
    code = (
        "import sys, chunkarr as xp; x = xp.arange(9.0, chunks=2); "
        "x.map_blocks(abs).sum().compute(); x.blocks[0]; assert 'dask' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_dask_computes_arrays_of_both() -> None:
    x, d = pair()
    means, total, both, number = dask.compute(x - x.mean(0), d.sum(), {"x": x[3]}, 5)
    np.testing.assert_allclose(means, plain() - plain().mean(0))
    np.testing.assert_allclose(total, plain().sum())
    np.testing.assert_array_equal(both["x"], plain()[3])
    assert number == 5
    (scalar,) = dask.compute(x.sum())
    np.testing.assert_allclose(scalar, plain().sum())
    for view in (x.T, x[::2], xp.from_array(plain())[2:5]):
        (got,) = dask.compute(view)
        np.testing.assert_array_equal(got, np.asarray(view))


def test_an_assignment_is_seen_by_the_next_compute() -> None:
    x, _ = pair()
    dask.compute(x)
    x[0] = 7
    (got,) = dask.compute(x)
    assert (got[0] == 7).all()


def test_dask_persists_arrays() -> None:
    x, _ = pair()
    (held,) = dask.persist(x + 1)
    assert isinstance(held, xp.Array)
    np.testing.assert_array_equal((held * 2).compute(), (plain() + 1) * 2)


def test_to_dask_is_lazy_and_computes_boxes() -> None:
    store = CountingStore(plain((100, 100)), (10, 50))
    d = xp.to_dask(store.as_array() * 2)
    assert d.chunks == ((10,) * 10, (50, 50))
    assert not store.calls
    np.testing.assert_array_equal(d[15:18, 60].compute(), (plain((100, 100)) * 2)[15:18, 60])
    assert store.calls["chunks"] <= 2
    total = (d + d.mean(0)).sum().compute()
    np.testing.assert_allclose(total, (plain((100, 100)) * 4).sum())
    other = store.as_array().to_dask(chunks=(100, 20))
    assert other.chunks == ((100,), (20,) * 5)


def test_what_all_chunks_need_is_computed_once() -> None:
    store = CountingStore(plain((100, 100)), (10, 50))
    x = store.as_array()
    xp.to_dask(x - x.mean(0)).sum().compute()
    assert store.calls["chunks"] <= 3 * store.grid.size


def test_from_dask_reads_each_chunk_when_it_is_wanted() -> None:
    calls: list[int] = []

    def noted(block: NDArray) -> NDArray:
        calls.append(block.size)
        return block * 2

    d = da.from_array(plain(), chunks=CHUNKS).map_blocks(noted, dtype="f8")
    calls.clear()
    x = xp.from_dask(d)
    assert x.chunks == d.chunks
    assert not calls
    np.testing.assert_array_equal(x[:5, :5].compute(), plain()[:5, :5] * 2)
    assert calls == [42]
    calls.clear()
    np.testing.assert_array_equal((xp.from_array(d) + 1).compute(), plain() * 2 + 1)
    assert sum(calls) == 600


def test_tasks_that_chunks_share_run_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def noted(block: NDArray) -> NDArray:
        calls.append(block.size)
        return block

    d = da.from_array(plain(), chunks=CHUNKS).map_blocks(noted, dtype="f8")
    calls.clear()
    x = xp.from_dask(d - d.mean(0))
    expected = plain() - plain().mean(0)
    np.testing.assert_allclose((x * 2).compute(), expected * 2)
    np.testing.assert_allclose(x[3:9, ::2].compute(), expected[3:9, ::2])
    assert sum(calls) == 600
    del x
    gc.collect()
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if "dask" in name]


def test_there_and_back() -> None:
    x, d = pair()
    np.testing.assert_array_equal(xp.from_dask(xp.to_dask(x + 1) * 2).compute(), (plain() + 1) * 2)
    np.testing.assert_array_equal(xp.from_dask(d).to_dask().compute(), plain())


def test_dask_works_in_other_processes() -> None:
    x, d = pair()
    got = xp.to_dask(x + 1).sum(0).compute(scheduler="processes", num_workers=1)
    np.testing.assert_allclose(got, (plain() + 1).sum(0))
    with xp.config(executor="processes", workers=1):
        np.testing.assert_array_equal((xp.from_dask(d) + 1).compute(), plain() + 1)


def test_from_delayed() -> None:
    made = xp.from_delayed(dask.delayed(np.ones)((3, 2)), (3, 2), dtype=float)
    np.testing.assert_array_equal((made * 2).compute(), np.full((3, 2), 2.0))


def test_what_dask_does_not_know_is_refused() -> None:
    _, d = pair()
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        xp.from_dask(d[d > 0])
    with pytest.raises(TypeError, match="ndarray"):
        xp.from_dask(plain())
