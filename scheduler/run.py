"""The loop that runs steps on an executor: it has the clock and acts; `state` decides.

The loop lives in the thread that asked for the results. It never waits without end, so that Ctrl-C
arrives, and it never leaves before its tasks have: on any failure it makes them leave and frees the
scratch stores of all steps, whether they ran or not, and only then lets the exception go on. One
exception to that: after Ctrl-C a task that does not look up for most of a second is left behind.
The prompt returns, and what the task holds is freed when it ends.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from typing import Protocol

from chunkarr.records import dataclass
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.scheduler.executor import Executor
from chunkarr.scheduler.state import Abort, Finished, Instruction, Run, StepState
from chunkarr.scheduler.steps import Step

SECONDS_TICK = 0.02
"""The loop looks up this often, to sample memory and report progress."""
SECONDS_QUICK = 0.05
"""A run shorter than this is not sampled."""
SECONDS_LEAVE = 0.8
"""How long tasks may take to leave after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one step took."""

    name: str
    where: str
    tasks: int
    concurrency: int
    """How many tasks ran at the same time, at most."""
    seconds: float
    seconds_busy: float
    """Seconds of all workers together."""
    bytes_read: int
    bytes_written: int
    bytes_peak: int
    """The largest sample of the process tree's memory; 0 where the run was too short for one."""
    retries: int
    workers_lost: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What a run took, step by step."""

    executor: str
    workers: int
    seconds: float
    steps: tuple[StepRecord, ...]

    @property
    def bytes_peak(self) -> int:
        """The largest sample of the process tree's memory."""
        return max((record.bytes_peak for record in self.steps), default=0)

    @property
    def workers_lost(self) -> int:
        """Workers that ended during the run."""
        return sum(record.workers_lost for record in self.steps)


class Observer(Protocol):
    """Who is told how a run goes on; called in the thread of the run, at most 50 times a second."""

    def step_started(self, step: Step, index: int, count: int) -> None:
        """Take note that a step begins, the `index`-th of `count`."""

    def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
        """Take note of how many tasks of the step are done, and after how long."""

    def step_finished(self, record: StepRecord) -> None:
        """Take note that a step is done."""

    def finished(self, trace: Trace) -> None:
        """Take note that all steps are done."""


def run(
    steps: Sequence[Step],
    executor: Executor,
    bytes_available: int,
    observer: Observer | None = None,
    *,
    sample: bool = False,
) -> Trace:
    """Run steps one after another, each step's tasks in parallel.

    `sample` asks for memory samples of a run that would be too short for them.
    """
    with executor.lock:
        try:
            executor.start(steps)
            return _Loop(steps, executor, bytes_available, observer, sample).run()
        except BaseException as error:
            _give_up(steps, executor, error)
            raise
        finally:
            try:
                executor.finish()
            except KeyboardInterrupt:
                executor.finish()  # it was cut short; it is harmless when called twice
                raise


@dataclass(slots=True)
class _Loop:
    """The running of one list of steps."""

    steps: Sequence[Step]
    executor: Executor
    bytes_available: int
    observer: Observer | None
    sample: bool
    began: float = field(default_factory=time.perf_counter)
    ticked: float = 0.0
    bytes_peak: int = 0

    def run(self) -> Trace:
        records = []
        for index, step in enumerate(self.steps):
            if self.observer is not None:
                self.observer.step_started(step, index, len(self.steps))
            try:
                record = self._run_step(index, step)
            except Exception as error:
                place = f" at {step.where}" if step.where else ""
                error.add_note(f"raised in the step {step.name!r}{place}")
                raise
            records.append(record)
            if self.observer is not None:
                self.observer.step_finished(record)
        seconds = time.perf_counter() - self.began
        trace = Trace(self.executor.name, self.executor.workers, seconds, tuple(records))
        if self.observer is not None:
            self.observer.finished(trace)
        return trace

    def _run_step(self, index: int, step: Step) -> StepRecord:
        began = time.perf_counter()
        self.bytes_peak = memory_in_use() if self.sample else 0
        for store in step.creates:
            store.create()
        state = StepState(
            step,
            self.executor.ready(),
            self.bytes_available,
            target_seconds=self.executor.target_seconds,
            depth=self.executor.depth,
        )
        concurrency = state.concurrency
        # Always one, not only where several tasks run: a product's bits depend on BLAS's threads.
        limited = step.blas and self.executor.shares_memory
        with _one_blas_thread() if limited else nullcontext():
            self._run_tasks(index, state, began)
        for store in step.releases:
            store.release()
        if self.sample:
            self.bytes_peak = max(self.bytes_peak, memory_in_use())
        return StepRecord(
            name=step.name,
            where=step.where,
            tasks=step.tasks,
            concurrency=max(concurrency, state.concurrency),
            seconds=time.perf_counter() - began,
            seconds_busy=state.seconds_busy,
            bytes_read=step.bytes_read,
            bytes_written=step.bytes_written,
            bytes_peak=self.bytes_peak,
            retries=state.retries,
            workers_lost=state.workers_lost,
        )

    def _run_tasks(self, index: int, state: StepState, began: float) -> None:
        instructions = state.start()
        while not self._act(index, instructions):
            events = self.executor.next_events(SECONDS_TICK)
            instructions = [reply for event in events for reply in state.handle(event)]
            # An error that stays in a variable here would keep itself and its arrays alive.
            del events
            self._tick(state, began)

    def _act(self, index: int, instructions: list[Instruction]) -> bool:
        """Do what the state machine says; tell whether the step is finished."""
        for instruction in instructions:
            match instruction:
                case Run(worker, start, stop):
                    self.executor.submit(worker, index, start, stop)
                case Abort(error):
                    instructions.clear()
                    try:
                        raise error
                    finally:
                        del error, instruction
                case Finished():
                    return True
        return False

    def _tick(self, state: StepState, began: float) -> None:
        now = time.perf_counter()
        if now - self.ticked < SECONDS_TICK or not (
            self.sample or now - self.began > SECONDS_QUICK
        ):
            return
        self.ticked = now
        self.bytes_peak = max(self.bytes_peak, memory_in_use())
        if self.observer is not None:
            self.observer.progress(state.tasks_done, state.step.tasks, now - began)


def _one_blas_thread() -> AbstractContextManager[object]:
    # Most steps do not call BLAS; what finds its libraries is loaded for the first that does.
    limited: AbstractContextManager[object] = importlib.import_module(
        "chunkarr.scheduler.blas"
    ).one_blas_thread()
    return limited


def _give_up(steps: Sequence[Step], executor: Executor, error: BaseException) -> None:
    """Make the tasks leave, then free what the steps have made."""
    # An error may wait for its tasks; a person who has pressed Ctrl-C should not have to.
    timeout = None if isinstance(error, Exception) else SECONDS_LEAVE
    leave: Callable[[], None] | None = None
    try:
        try:
            leave = executor.cancel(timeout)
        except KeyboardInterrupt:
            leave = executor.cancel(0.0)
    except Exception as failure:  # noqa: BLE001 - the error that led here matters more
        error.add_note(f"cancelling the tasks failed as well: {failure!r}")
    if leave is None:
        _free(steps, error)
        return
    arguments = (steps, error, leave)
    threading.Thread(target=_free, args=arguments, name="chunkarr-free", daemon=True).start()


def _free(
    steps: Sequence[Step], error: BaseException, leave: Callable[[], None] | None = None
) -> None:
    if leave is not None:
        leave()
    scratch = {id(store): store for step in steps for store in step.releases}
    created = {id(store): store for step in steps for store in step.creates}
    frees = [s.discard if s.resumable else s.release for s in scratch.values()]
    frees += [store.discard for key, store in created.items() if key not in scratch]
    for free in frees:
        try:
            try:
                free()
            except KeyboardInterrupt:
                free()  # a second Ctrl-C has cut it short; it is harmless when called twice
        except Exception as failure:  # noqa: BLE001 - the error that led here matters more
            error.add_note(f"freeing a store failed as well: {failure!r}")
