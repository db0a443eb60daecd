"""The thread executor, and the loop on it."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from chunkarr.scheduler.executor import Executor, ThreadExecutor
from chunkarr.scheduler.ranges import inside_worker
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import StepRecord, Trace, run
from chunkarr.scheduler.steps import Context, Step
from tests.scheduler.contract import PLENTY, ExecutorContract
from tests.scheduler.works import FileStore, Put, soon


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    made = ThreadExecutor(2)
    yield made
    before = threading.active_count()
    made.close()
    assert threading.active_count() == before - 2


class TestThreads(ExecutorContract):
    """Threads keep the contract."""


@pytest.fixture
def threads() -> Iterator[ThreadExecutor]:
    made = ThreadExecutor(2)
    yield made
    made.close()


class Call:
    """Calls a function in each task."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def run(self, task: int, context: Context) -> None:
        self.function(task)


class Both:
    """Waits until as many tasks run as are expected."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)

    def run(self, task: int, context: Context) -> None:
        self.barrier.wait(timeout=5)


class Notes:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def step_started(self, step: Step, index: int, count: int) -> None:
        self.told.append(("started", step.name, index, count))

    def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
        self.told.append(("progress", tasks_done <= tasks))

    def step_finished(self, record: StepRecord) -> None:
        self.told.append(("step finished", record.name))

    def finished(self, trace: Trace) -> None:
        self.told.append(("finished", len(trace.steps)))


def test_tasks_run_at_the_same_time(threads: Executor) -> None:
    run([Step("both", Both(2), 2, 8)], threads, PLENTY)


def test_one_worker_is_a_thread_as_well_so_that_the_main_thread_hears_signals() -> None:
    seen: list[threading.Thread] = []
    executor = ThreadExecutor(1)
    run([Step("who", Call(lambda _: seen.append(threading.current_thread())), 1, 8)], executor, 99)
    assert seen[0] is not threading.main_thread()
    executor.close()


def test_threads_stay_between_runs(threads: Executor) -> None:
    seen = set()
    for _ in range(3):
        run([Step("who", Call(lambda _: seen.add(threading.get_ident())), 2, 8)], threads, PLENTY)
    assert len(seen) <= 2


def test_an_observer_is_told_of_steps_and_of_the_end(threads: Executor) -> None:
    notes = Notes()
    steps = [Step(name, Call(abs), 3, 8) for name in "ab"]
    run(steps, threads, PLENTY, notes)
    assert [told for told in notes.told if told[0] != "progress"] == [
        ("started", "a", 0, 2),
        ("step finished", "a"),
        ("started", "b", 1, 2),
        ("step finished", "b"),
        ("finished", 2),
    ]


def test_memory_is_sampled_when_asked(threads: Executor) -> None:
    assert run([Step("s", Call(abs), 1, 8)], threads, PLENTY, sample=True).bytes_peak > 1 << 20
    assert run([Step("s", Call(abs), 1, 8)], threads, PLENTY).bytes_peak == 0


def test_a_run_inside_a_task_does_not_wait_for_its_own_pool() -> None:
    executor = get_executor("threads", 1)
    inner: list[int] = []

    def nested(task: int) -> None:
        own = get_executor("threads", 1)
        assert own is not executor
        run([Step("inner", Call(inner.append), 3, 8)], own, PLENTY)

    run([Step("outer", Call(nested), 2, 8)], executor, PLENTY)
    assert sorted(inner) == [0, 0, 1, 1, 2, 2]


def test_runs_from_two_threads_take_turns(threads: Executor) -> None:
    running, most = [0], [0]

    def note(task: int) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.001)
        running[0] -= 1

    step = Step("turns", Call(note), 5, 8)
    others = [threading.Thread(target=run, args=([step], threads, 8)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert most == [1]


def test_a_failure_keeps_no_array_alive(threads: Executor) -> None:
    class Big:
        """Something that can be watched."""

    dead: list[weakref.ref[Big]] = []

    def fail(task: int) -> None:
        big = Big()
        dead.append(weakref.ref(big))
        raise ValueError("x")

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ValueError, match="x") as caught:
            run([Step("fail", Call(fail), 1, 8)], threads, PLENTY)
        del caught
        assert soon(lambda: dead[0]() is None)
    finally:
        gc.enable()


def test_idle_threads_hold_nothing_of_the_last_run(threads: Executor) -> None:
    work = Call(abs)
    dead = weakref.ref(work)
    run([Step("s", work, 4, 8)], threads, PLENTY)
    del work
    assert soon(lambda: dead() is None)


def test_blas_has_one_thread_while_tasks_share_the_cores(threads: Executor) -> None:
    def limits() -> list[int]:
        found = threadpoolctl.threadpool_info()
        return [library["num_threads"] for library in found if library["user_api"] == "blas"]

    before, seen = limits(), []
    step = Step("blas", Call(lambda _: seen.append(limits())), 2, 8, blas=True)
    run([step], threads, PLENTY)
    assert seen == [[1] * len(before)] * 2
    assert limits() == before


def test_a_task_that_never_looks_up_is_left_behind_after_an_interrupt(
    threads: ThreadExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chunkarr.scheduler.run.SECONDS_LEAVE", 0.05)
    store = FileStore(tmp_path / "out", (2,))
    go_on, started = threading.Event(), threading.Event()

    class Press(Notes):
        def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
            started.wait(5)
            raise KeyboardInterrupt

    def deaf(task: int) -> None:
        started.set()
        go_on.wait(10)

    step = Step("deaf", Call(deaf), 1, 8, creates=(store,))
    with pytest.raises(KeyboardInterrupt):
        run([step], threads, PLENTY, Press())
    assert store.log() == ["create"]
    # The executor has other threads by now.
    run([Step("s", Call(abs), 2, 8)], threads, PLENTY)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "chunkarr-free":
            thread.join(5)
    assert store.log() == ["create", "discard"]


def test_a_store_that_cannot_be_freed_does_not_hide_the_error(
    threads: Executor, tmp_path: Path
) -> None:
    class Stubborn(FileStore):
        def discard(self) -> None:
            raise OSError("busy")

    store = Stubborn(tmp_path / "out", (1,))
    with pytest.raises(ZeroDivisionError) as caught:
        run([Step("s", Call(lambda _: 1 // 0), 1, 8, creates=(store,))], threads, PLENTY)
    assert "freeing a store failed as well: OSError('busy')" in caught.value.__notes__


def test_a_forked_child_starts_its_own_threads(threads: Executor, tmp_path: Path) -> None:
    run([Step("s", Call(abs), 2, 8)], threads, PLENTY)
    store = FileStore(tmp_path / "out", (4,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
        child = os.fork()
    if child == 0:
        code = 1
        try:
            run([Step("put", Put(store), 4, 8, creates=(store,))], threads, PLENTY)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.open().tolist() == [1, 2, 3, 4]


def test_numpy_warns_from_a_task(threads: Executor) -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        run([Step("s", Call(lambda _: np.array(1.0) / np.array(0.0)), 1, 8)], threads, PLENTY)


@pytest.mark.bench
def test_a_task_that_does_nothing_costs_less_than_five_microseconds(threads: Executor) -> None:
    best = min(run([Step("s", Noop(), 100_000, 8)], threads, PLENTY).seconds for _ in range(5))
    assert best / 100_000 < 5e-6


class Noop:
    def run(self, task: int, context: Context) -> None:
        pass


@pytest.mark.parametrize(
    ("weight", "blas", "here"),
    [(1e-6, False, True), (1e-3, False, False), (1e-6, True, False)],
)
def test_light_steps_run_in_the_thread_that_waits(
    threads: ThreadExecutor, weight: float, blas: bool, here: bool
) -> None:
    seen: list[tuple[threading.Thread, bool]] = []
    work = Call(lambda task: seen.append((threading.current_thread(), inside_worker())))
    run([Step("note", work, tasks=4, bytes_task=0, weight=weight, blas=blas)], threads, PLENTY)
    assert len(seen) == 4
    assert all((thread is threading.current_thread()) == here for thread, _ in seen)
    assert all(inside for _, inside in seen)
    assert not inside_worker()


def test_an_error_of_a_light_step_is_raised_and_leaves_no_trace(threads: ThreadExecutor) -> None:
    def fail(task: int) -> None:
        message = f"task {task}"
        raise RuntimeError(message)

    step = Step("fail", Call(fail), tasks=2, bytes_task=0, weight=1e-6)
    with pytest.raises(RuntimeError, match="task 0"):
        run([step], threads, PLENTY)
    assert not inside_worker()
    run([Step("pass", Call(lambda task: None), tasks=2, bytes_task=0, weight=1e-6)], threads, 0)
