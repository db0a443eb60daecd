"""What every executor must do: it is accepted when a subclass of the contract passes.

The module of the subclass has a fixture `executor` that gives the executor, with two workers.
"""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from chunkarr.room import allow_compiling, may_compile
from chunkarr.scheduler.executor import Executor
from chunkarr.scheduler.run import StepRecord, Trace, run
from chunkarr.scheduler.steps import Context, Step
from tests.scheduler.works import (
    Add,
    Divide,
    Fail,
    FailUndecodable,
    Fibonacci,
    FileStore,
    Forever,
    ForeverOrFail,
    Put,
    PutRange,
)

PLENTY = 1 << 30


class ExecutorContract:
    """The tests of an executor."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "out", (50,))

    def test_runs_each_task_once(self, executor: Executor, store: FileStore) -> None:
        step = Step("add", Add(store), 50, bytes_task=8, weight=1e-4, creates=(store,))
        trace = run([step], executor, PLENTY)
        assert store.open().tolist() == list(range(1, 51))
        assert store.log() == ["create"]
        assert (trace.executor, trace.workers) == (executor.name, 2)
        assert (trace.steps[0].name, trace.steps[0].tasks) == ("add", 50)

    def test_runs_many_tiny_tasks(self, executor: Executor, tmp_path: Path) -> None:
        store = FileStore(tmp_path / "out", (20_000,))
        run([Step("put", PutRange(store), 20_000, 8, creates=(store,))], executor, PLENTY)
        np.testing.assert_array_equal(store.open(), np.arange(20_000) + 1)

    def test_runs_steps_in_order_and_frees_scratch_behind_them(
        self, executor: Executor, store: FileStore, tmp_path: Path
    ) -> None:
        scratch = FileStore(tmp_path / "scratch", (50,))
        steps = [
            Step("scratch", Put(scratch), 50, 8, creates=(scratch,)),
            Step("out", Copy(scratch, store), 50, 8, creates=(store,), releases=(scratch,)),
        ]
        trace = run(steps, executor, PLENTY)
        assert store.open().tolist() == list(range(1, 51))
        assert scratch.log() == ["create", "release"]
        assert [record.name for record in trace.steps] == ["scratch", "out"]

    def test_runs_ordered_tasks_in_order(self, executor: Executor, store: FileStore) -> None:
        run([Step("fibonacci", Fibonacci(store), 50, 8, creates=(store,))], executor, PLENTY)
        assert int(store.open()[49]) == 12586269025

    def test_a_step_may_have_no_tasks(self, executor: Executor, store: FileStore) -> None:
        trace = run([Step("none", Put(store), 0, 8)], executor, PLENTY)
        assert trace.steps[0].seconds_busy == 0

    def test_an_exception_comes_with_its_text(self, executor: Executor) -> None:
        with pytest.raises(UnicodeDecodeError, match="can't decode byte 0xff"):
            run([Step("decode", FailUndecodable(), 1, 8)], executor, PLENTY)

    def test_a_task_s_exception_arrives_and_says_where_it_was_raised(
        self, executor: Executor, store: FileStore, tmp_path: Path
    ) -> None:
        scratch = FileStore(tmp_path / "scratch", (50,))
        later = FileStore(tmp_path / "later", (50,))
        error = KeyError("the guilty one")
        steps = [
            Step("first", Put(scratch), 50, 8, creates=(scratch,)),
            Step("second", Fail(store, 7, error), 50, 8, "script.py:3", creates=(store,)),
            Step("third", Put(later), 50, 8, creates=(later,), releases=(scratch, later)),
        ]
        with pytest.raises(KeyError, match="the guilty one") as caught:
            run(steps, executor, PLENTY)
        assert "raised in the step 'second' at script.py:3" in caught.value.__notes__
        assert scratch.log() == ["create", "release"]
        assert store.log() == ["create", "discard"]
        assert later.log() == ["release"]
        # And the executor can be used again.
        self.test_runs_each_task_once(executor, FileStore(tmp_path / "again", (50,)))

    def test_a_recursion_without_end_arrives_as_what_it_is(self, executor: Executor) -> None:
        with pytest.raises(RecursionError):
            run([Step("recurse", Recurse(), 1, 8)], executor, PLENTY)

    def test_tasks_that_run_when_another_one_fails_are_cancelled(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        work = ForeverOrFail(tmp_path / "mark", guilty=1)
        with pytest.raises(ValueError, match="this one"):
            run([Step("endless", work, 2, 8)], executor, PLENTY)

    def test_numpy_s_errstate_holds_in_tasks(self, executor: Executor) -> None:
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            run([Step("divide", Divide(), 1, 8)], executor, PLENTY)
        with np.errstate(divide="ignore"):
            run([Step("divide", Divide(), 1, 8)], executor, PLENTY)

    def test_tasks_compile_only_where_the_plan_has_room_for_it(
        self, executor: Executor, store: FileStore
    ) -> None:
        try:
            for allowed in (False, True):
                allow_compiling(allowed=allowed)
                run([Step("ask", Ask(store), 50, 8, creates=(store,))], executor, PLENTY)
                assert store.open().tolist() == [allowed] * 50
        finally:
            allow_compiling(allowed=True)

    def test_an_interrupt_reaches_the_main_thread_and_frees_what_was_made(
        self, executor: Executor, store: FileStore, tmp_path: Path
    ) -> None:
        steps = [Step("forever", Forever(tmp_path / "mark"), 2, 8, creates=(store,))]
        with pytest.raises(KeyboardInterrupt):
            run(steps, executor, PLENTY, Interrupt(tmp_path / "mark"))
        assert store.log() == ["create", "discard"]
        self.test_runs_each_task_once(executor, FileStore(tmp_path / "again", (50,)))

    def test_an_interrupt_at_the_end_of_a_run_lets_go_of_its_stores(
        self, executor: Executor, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finish, calls = executor.finish, list[int]()

        def cut_short() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt
            finish()

        monkeypatch.setattr(executor, "finish", cut_short)
        made = FileStore(store.path, store.shape)
        kept = weakref.ref(made)
        with pytest.raises(KeyboardInterrupt):
            run([Step("put", Put(made), 50, 8, creates=(made,))], executor, PLENTY)
        del made
        gc.collect()
        assert kept() is None
        assert store.open().tolist() == list(range(1, 51))

    def test_the_bytes_available_limit_how_many_tasks_run(
        self, executor: Executor, store: FileStore
    ) -> None:
        trace = run([Step("put", Put(store), 50, 8, creates=(store,))], executor, 15)
        assert trace.steps[0].concurrency == 1
        assert store.open().tolist() == list(range(1, 51))


class Ask:
    """Writes whether kernels may be compiled."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def run(self, task: int, context: Context) -> None:
        self.store.write((slice(task, task + 1),), np.array([may_compile()]))


class Recurse:
    """Calls itself without end."""

    def run(self, task: int, context: Context) -> None:
        self.run(task + 1, context)


class Copy:
    """Copies one place."""

    def __init__(self, source: FileStore, target: FileStore) -> None:
        self.source, self.target = source, target

    def run(self, task: int, context: Context) -> None:
        self.target.open()[task] = self.source.open()[task]


class Interrupt:
    """An observer that presses Ctrl-C once a task has begun."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def step_started(self, step: Step, index: int, count: int) -> None:
        assert threading.current_thread() is threading.main_thread()

    def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
        if self.mark.exists():
            raise KeyboardInterrupt

    def step_finished(self, record: StepRecord) -> None:
        raise AssertionError

    def finished(self, trace: Trace) -> None:
        raise AssertionError
