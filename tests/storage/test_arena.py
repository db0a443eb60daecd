"""Memory that freed arrays leave behind, and how much of it is kept."""

from __future__ import annotations

import gc
import importlib
import mmap
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr as ca
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.storage.arena import (
    BYTES_MIN,
    Arena,
    TaskArena,
    arena,
    is_private,
    task_arena,
)
from tests.faults.alarms import interrupted

SIDE = 1000
BYTES = SIDE * SIDE * 8


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_of_a_freed_array_is_used_again() -> None:
    kept = Arena(1 << 30)
    first = kept.empty((SIDE, SIDE), np.dtype("f8"))
    first[...] = 1
    place = address(first)
    del first
    assert BYTES <= kept.bytes_kept < BYTES + 65536
    again = kept.empty((SIDE * SIDE * 2,), np.dtype("i4"))
    assert address(again) == place
    assert kept.bytes_kept == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[3:7, ::2],
        lambda a: a.T,
        lambda a: a.view("i8").reshape(-1)[5:],
        memoryview,
        lambda a: np.asarray(a)[None].real,
        lambda a: a.view(np.recarray),
        lambda a: np.frombuffer(a, np.uint8)[17:],
    ],
    ids=["slice", "transpose", "dtype", "memoryview", "chain", "subclass", "buffer"],
)
def test_memory_is_not_free_while_a_view_lives(view: Any) -> None:
    kept = Arena(1 << 30)
    first = kept.empty((SIDE, SIDE), np.dtype("f8"))
    first[...] = np.arange(SIDE)
    seen = view(first)
    before = np.asarray(seen).tobytes()[:64]
    del first
    gc.collect()
    assert kept.bytes_kept == 0
    other = kept.empty((SIDE, SIDE), np.dtype("f8"))
    other[...] = -1
    assert np.asarray(seen).tobytes()[:64] == before
    del seen
    assert kept.bytes_kept >= BYTES


def test_no_more_is_kept_than_was_allowed() -> None:
    kept = Arena(3 * BYTES)
    arrays = [kept.empty((SIDE, SIDE), np.dtype("f8")) for _ in range(5)]
    arrays.clear()
    assert BYTES <= kept.bytes_kept <= 3 * BYTES
    kept.resize(BYTES // 2)
    assert kept.bytes_kept == 0
    held = kept.empty((SIDE, SIDE), np.dtype("f8"))
    del held
    assert kept.bytes_kept == 0


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((BYTES_MIN // 8 - 1,), "f8"), ((0, 5), "f8"), ((), "f8"), ((SIDE, SIDE), "O")],
)
def test_small_arrays_and_objects_come_from_numpy(shape: tuple[int, ...], dtype: str) -> None:
    array = Arena(1 << 30).empty(shape, np.dtype(dtype))
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.owndata


def test_much_larger_blocks_serve_nobody() -> None:
    kept = Arena(1 << 30)
    first = kept.empty((8 * BYTES,), np.dtype("u1"))
    del first
    small = kept.empty((4 * BYTES,), np.dtype("u1"))
    assert kept.bytes_kept >= 8 * BYTES
    assert small.size == 4 * BYTES


def test_what_the_system_refuses_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="Unable to allocate"):
        Arena().empty((1 << 61,), np.dtype("u1"))


def test_threads_never_share_a_block() -> None:
    kept, wrong = Arena(4 * BYTES), []

    def work(number: int) -> None:
        for _ in range(200):
            array = kept.empty((BYTES // 8,), np.dtype("u1"))
            array[::4096] = number
            if (array[::4096] != number).any():
                wrong.append(number)
            del array

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept.bytes_kept <= 4 * BYTES


def test_an_interrupt_at_any_moment_leaves_no_lock_taken() -> None:
    kept = Arena(4 * BYTES)

    def book() -> None:
        for _ in range(20):
            kept._freed.append(mmap.mmap(-1, 1))
            assert kept.bytes_kept >= 0

    for _ in interrupted(book):
        assert not kept._lock.locked()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_has_its_own() -> None:
    with arena._lock:  # as if another thread were inside
        child = os.fork()
        if child == 0:
            arena.resize(1 << 30)
            held = arena.empty((SIDE, SIDE), np.dtype("f8"))
            del held
            os._exit(0 if arena.bytes_kept >= BYTES else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_results_reuse_memory_within_the_limit() -> None:
    x = ca.arange(SIDE * SIDE, dtype="f8").reshape(SIDE, SIDE)
    limit = memory_in_use() + (1 << 30)
    with ca.config(executor="threads", memory=limit):
        first = np.asarray(x * 2 + 1)
        np.testing.assert_array_equal(first.ravel()[:3], [1, 3, 5])
        del first
        assert BYTES <= arena.bytes_kept <= limit // 8
        second = np.asarray(x * 3)
        np.testing.assert_array_equal(second.ravel()[:3], [0, 3, 6])
        del second
        assert arena.bytes_kept >= BYTES
        with pytest.raises(ZeroDivisionError):
            ca.map_blocks(lambda block: block / (1 // 0), x, dtype="f8").compute()
        assert arena.bytes_kept == 0


def test_tasks_leave_memory_to_those_of_their_range_alone() -> None:
    tasks = TaskArena()
    assert tasks.empty((SIDE, SIDE), "f8").flags.owndata  # from malloc
    with tasks.serving():
        first = tasks.empty((SIDE, SIDE), "f8")
        place = address(first)
        del first
        assert tasks.bytes_kept >= BYTES
        with tasks.serving():  # another range, in another thread of the worker
            again = tasks.empty((SIDE, SIDE), "f8")
            assert address(again) == place
            del again
        assert tasks.bytes_kept >= BYTES
        held = tasks.empty((SIDE, SIDE), "f8")
    assert tasks.bytes_kept == 0
    del held
    assert tasks.bytes_kept == 0
    assert tasks.empty((SIDE, SIDE), "f8").flags.owndata


@pytest.mark.parametrize("seed", range(5))
def test_tasks_never_have_more_than_they_used_at_once(seed: int) -> None:
    """Whatever comes and goes, used and kept are at most the most that was used at once."""
    rng = np.random.default_rng(seed)
    tasks = TaskArena()
    held: list[Any] = []
    most = most_wanted = 0
    with tasks.serving():
        for _ in range(300):
            if held and rng.random() < 0.5:
                del held[int(rng.integers(len(held)))]
            else:
                count = int(rng.integers(2 * BYTES_MIN, 16 * BYTES_MIN))
                held.append(tasks.empty((count,), "u1"))
            used = sum(len(array.base.base.obj) for array in held)
            wanted = sum(array.nbytes for array in held)
            assert used >= wanted
            most, most_wanted = max(most, used), max(most_wanted, wanted)
            assert used + tasks.bytes_kept <= most
    assert most < 1.5 * most_wanted
    assert tasks.bytes_kept == 0


def test_encoded_chunks_that_differ_in_size_share_their_memory() -> None:
    tasks = TaskArena()
    places = set()
    with tasks.serving():
        for size in np.random.default_rng(0).integers(2_000_000, 7_000_000, 50).tolist():
            data = tasks.empty((size,), "u1", brief=True)
            decoded = tasks.empty((SIDE, SIDE), "f8")
            places |= {address(data), address(decoded)}
            del data
            made = tasks.empty((SIDE, SIDE), "f8")
            places.add(address(made))
            del made, decoded
    assert len(places) <= 5


def test_what_nobody_else_has_may_be_changed() -> None:
    whole = np.ones((SIDE, SIDE))
    assert is_private(whole)
    assert not is_private(whole[1:])
    with task_arena.serving():
        made = task_arena.empty((SIDE, SIDE), "f8")
        assert is_private(made)
        assert is_private(made.reshape(-1).view("i8"))
        assert not is_private(made[1:])
        made.flags.writeable = False
        assert not is_private(made)
    with ca.config(executor="threads"):
        stored = arena.empty((SIDE, SIDE), "f8")
    assert not is_private(stored)  # a value's own


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_task_keeps_nothing_of_its_parent() -> None:
    with task_arena.serving():
        first = task_arena.empty((SIDE, SIDE), "f8")
        del first
        assert task_arena.bytes_kept >= BYTES
        child = os.fork()
        if not child:
            fresh = task_arena.empty((SIDE, SIDE), "f8").flags.owndata
            os._exit(0 if fresh and not task_arena.bytes_kept else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_worker_processes_serve_their_tasks(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 99, (8 * SIDE, SIDE)).astype("f8")
    ca.from_array(x).to_zarr(tmp_path / "x.zarr", chunks=(SIDE, SIDE))
    with ca.config(executor="processes", workers=1, eager_bytes=0):
        stored = ca.open(tmp_path / "x.zarr")
        told = ca.map_blocks(tell_arena, stored, dtype="i8", chunks=((1,) * 8, (2,))).compute()
    assert (told[:, 0] == 1).all()
    assert told[:, 1].min() >= BYTES


def tell_arena(box: Any) -> Any:
    """Tell how many ranges run, and what is used."""
    del box
    tasks = importlib.import_module("chunkarr.storage.arena").task_arena
    return np.array([[tasks._ranges, tasks._used]])
