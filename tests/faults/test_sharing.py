"""Processes beside each other and after each other: nobody's files go early, nobody's stay."""

from __future__ import annotations

import atexit
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import chunkarr as xp
from chunkarr.grid import Grid, region_of
from chunkarr.plan.plan import Limits, Target
from chunkarr.plan.planner import make_plan
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.settings import settings
from chunkarr.storage.npy import NpyTarget
from chunkarr.storage.spill import Session, SpillStore
from chunkarr.storage.zarr import ZarrTarget
from tests.faults.sessions import ROOT

pytestmark = pytest.mark.faults

VALUES = np.arange(6.0)
WHOLE = region_of((6,))
NEIGHBOUR = """
import sys
from chunkarr.grid import Grid
from chunkarr.settings import config
from chunkarr.storage.spill import SpillStore
config(spill_dir=sys.argv[1])
store = SpillStore((6,), "f8", Grid.single((6,)))
store.create()
store.write((slice(0, 6),), 7)
print("made", flush=True)
sys.stdin.readline()
print(store.read((slice(0, 6),)).tolist(), flush=True)
"""


@pytest.fixture(autouse=True)
def _spill_here(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "spill").mkdir()
    with xp.config(spill_dir=str(tmp_path / "spill")):
        yield
        Session.close_all()


def spilled() -> SpillStore:
    store = SpillStore((6,), "f8", Grid.single((6,)))
    store.create()
    store.write(WHOLE, VALUES)
    return store


def test_two_sessions_share_a_spill_directory(tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    before = spilled()
    with subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR, str(spill)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as neighbour:
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == "made\n"
        assert len(os.listdir(spill)) == 2
        # A new session looks for what dead ones have left, and finds the neighbour alive.
        before.release()
        Session.close_all()
        store = spilled()
        out, _ = neighbour.communicate("go on\n", timeout=30)
        assert out == f"{[7.0] * 6}\n"
    assert len(os.listdir(spill)) == 1
    np.testing.assert_array_equal(store.read(WHOLE), VALUES)


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked child, which ends as a program does, exit handlers included."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        work()
        code = 0
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_its_hands_off_the_parent_s_files(tmp_path: Path) -> None:
    with xp.config(workers=2):
        assert float((xp.arange(1e6) + 1).sum()) > 0  # the pool has threads
    store = spilled()
    npy = NpyTarget(tmp_path / "x.npy", (6,), "f8")
    stored = ZarrTarget(tmp_path / "x.zarr", (6,), "f8", (6,))
    for target in (npy, stored):
        target.create()

    def use_and_drop() -> None:
        np.testing.assert_array_equal(store.read(WHOLE), VALUES)
        own = spilled()
        assert os.path.dirname(own.location or "") != os.path.dirname(store.location or "")
        store.release()
        npy.discard()
        stored.discard()
        gc.collect()

    assert in_child(use_and_drop) == 0
    assert len(os.listdir(tmp_path / "spill")) == 1
    np.testing.assert_array_equal(store.read(WHOLE), VALUES)
    for target in (npy, stored):
        target.write(WHOLE, VALUES)
        target.commit()
    assert sorted(os.listdir(tmp_path)) == ["spill", "x.npy", "x.zarr"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_dies_of_sigterm_without_removing(tmp_path: Path) -> None:
    store = spilled()
    assert in_child(lambda: os.kill(os.getpid(), 15)) == -15
    np.testing.assert_array_equal(store.read(WHOLE), VALUES)


def count_resources(spill: Path) -> tuple[int, ...]:
    """Count open files, threads, files in the spill directory and in the temporary one."""
    gc.collect()
    files = sum(len(names) for _, _, names in os.walk(spill))
    temporary = len([n for n in os.listdir(tempfile.gettempdir()) if n.startswith("tmp")])
    mine = len(os.listdir("/proc/self/fd"))
    theirs = [len(os.listdir(f"/proc/{pid}/fd")) for pid in worker_ids()]
    return mine, max(theirs, default=0), threading.active_count(), files, temporary


def worker_ids() -> list[int]:
    """Give the process ids of the local pool, where there is one."""
    pool = getattr(get_executor(settings().executor, 2), "_pool", {})
    return [process.popen.pid for process in pool.values()] if isinstance(pool, dict) else []


def held_open(pid: int, folder: Path) -> list[str]:
    """List the files in a folder that a process holds open, removed ones included."""
    found = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    return [path for path in found if path.startswith(str(folder)) and ".lock" not in path]


def test_removed_files_are_not_held_open(tmp_path: Path) -> None:
    """A file that somebody holds open keeps its disk, removed or not."""
    with xp.config(executor="processes", workers=2, eager_bytes=0, chunk_bytes=1 << 14):
        for _ in range(3):
            x = xp.from_array(np.ones((200, 150)))
            xp.save(tmp_path / "x.npy", xp.cumsum(x, 0).T + 1)
            np.asarray(xp.load(tmp_path / "x.npy")[:5])
            del x  # the copy of it that the workers read goes with it
        workers = worker_ids()
        assert len(workers) == 2
        until = time.monotonic() + 10
        while any(held_open(pid, tmp_path) for pid in workers) and time.monotonic() < until:
            time.sleep(0.01)  # they are told, and not waited for
        assert [held_open(pid, tmp_path) for pid in [*workers, os.getpid()]] == [[], [], []]


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_two_hundred_computes_leave_resources_flat(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with xp.config(executor=executor, workers=2, eager_bytes=0, chunk_bytes=1 << 14):
        values = np.random.default_rng(0).normal(size=(200, 150))
        x = xp.from_array(values)
        expected = float((np.cumsum(values, 0).T + 1).sum())
        limits = Limits(64 << 20, 400_000, 1 << 14, 2, shares_memory=executor == "threads")

        def compute() -> None:
            plan = make_plan([Target((xp.cumsum(x, 0).T + 1).sum().to_expr())], [], limits)
            stores = [store for step in plan.steps for store in step.creates]
            assert any(isinstance(store, SpillStore) for store in stores)
            del stores
            run(plan.steps, get_executor(executor, 2), limits.bytes_available)
            assert float(plan.results[0].read(())) == pytest.approx(expected)

        for _ in range(3):
            compute()
        before = count_resources(tmp_path / "spill")
        for _ in range(200):
            compute()
        after = count_resources(tmp_path / "spill")
    assert max(now - then for now, then in zip(after, before, strict=True)) < 10, (before, after)
