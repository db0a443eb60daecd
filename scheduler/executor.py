"""Who runs tasks: the Executor protocol, and threads of this process.

An executor is a transport. It is told which worker runs which range and says what happened; it
decides nothing. One run uses an executor at a time, which holds `lock` meanwhile: two runs at once
would each believe that the memory is theirs.

Threads are the default: NumPy, BLAS and compiled kernels let go of the interpreter lock, and chunks
stay where they are. Each worker has its own inbox, because the state machine names the worker; a
shared queue would only hide that.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol

from chunkarr.scheduler.ranges import enter_worker, inside_worker, leave_worker, run_range
from chunkarr.scheduler.state import Event, TaskFailed, TaskRangeDone, WorkerJoined, WorkerLost
from chunkarr.scheduler.steps import Cancelled, Step
from chunkarr.storage.guard import now


class Executor(Protocol):
    """A transport for ranges of tasks."""

    name: str
    workers: int
    """How many tasks run at the same time."""
    depth: int
    """How many ranges are under way for each of them."""
    shares_memory: bool
    """Whether tasks see this process's arrays; else stores are files and work is pickled."""
    target_seconds: float
    """How long a range should last for its overhead to vanish."""
    bytes_most: int | None
    """The memory limit that its workers suggest where nobody has set one."""
    lock: threading.Lock
    """Held by the run that uses the executor."""

    def afford(self, free: int) -> tuple[int, int]:
        """Give the number of workers that so many bytes are enough for, and what their start takes.

        Workers that are there already have taken what they need.
        """

    def start(self, steps: Sequence[Step]) -> None:
        """Begin a run."""

    def ready(self) -> Sequence[int]:
        """Give the workers that can take a range now; others join by an event."""

    def submit(self, worker: int, step: int, start: int, stop: int) -> None:
        """Let a worker run a range of the step with this index."""

    def next_events(self, timeout: float) -> list[Event]:
        """Wait for events at most so many seconds, in a way that signals can interrupt."""

    def cancel(self, timeout: float | None) -> Callable[[], None] | None:
        """Make running tasks leave at their next check and wait for it.

        None means that all have left. Else the time is over, the executor has let go of those that
        have not, can be used again, and the returned function waits for them.
        """

    def finish(self) -> None:
        """End a run: forget its steps, keep the workers."""

    def trim(self) -> None:
        """Let idle workers of this machine give back memory that only their C libraries keep."""

    def close(self) -> None:
        """End the workers."""


class _ThreadRun:
    """One run on threads; also the context that its tasks see."""

    __slots__ = ("began", "cancelled", "context", "events", "steps")

    def __init__(self, steps: Sequence[Step]) -> None:
        self.cancelled = False
        self.steps = steps
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.began = now()
        # Threads do not inherit context variables, and NumPy's errstate is one.
        self.context = contextvars.copy_context()

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled


Message = Callable[[], None]

SECONDS_LIGHT = 1e-4
"""A step that takes less does not repay waking a thread and waiting for it."""


def _is_light(step: Step) -> bool:
    # What calls foreign code may take any time whatever its weight says.
    return not step.blas and step.tasks * step.weight < SECONDS_LIGHT


def _run_here(message: Message) -> None:
    """Run a range in the thread that waits for it."""
    within = inside_worker()
    enter_worker()
    try:
        message()
    finally:
        if not within:
            leave_worker()


class ThreadExecutor:
    """A pool of daemon threads that starts at its first use and stays."""

    name = "threads"
    depth = 1
    shares_memory = True
    target_seconds = 0.02
    bytes_most: int | None = None

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.lock = threading.Lock()
        self._pool: list[_Worker] = []
        self._useful = 0
        self._run: _ThreadRun | None = None
        _executors.add(self)

    def start(self, steps: Sequence[Step]) -> None:
        """Begin a run, with as many threads as its widest step for them has tasks."""
        self._run = _ThreadRun(steps)
        self._useful = min(self.workers, max((step.tasks for step in steps), default=0))
        # Not when the first range is handed out: a Ctrl-C might fall between a start and its entry.
        wanted = max((step.tasks for step in steps if not _is_light(step)), default=0)
        while len(self._pool) < min(self.workers, wanted):
            self._pool.append(_Worker(len(self._pool)))

    def ready(self) -> Sequence[int]:
        """Give all threads: each is idle between steps, and a light one needs none."""
        return range(self._useful)

    def submit(self, worker: int, step: int, start: int, stop: int) -> None:
        """Put a range into the inbox of a thread, or run it here if a thread is not worth it."""
        assert self._run is not None
        message = partial(_run_and_tell, self._run, worker, step, start, stop)
        if _is_light(self._run.steps[step]):
            _run_here(message)
            return
        self._pool[worker].inbox.put(message)

    def next_events(self, timeout: float) -> list[Event]:
        """Wait for the next event and give all there are."""
        assert self._run is not None
        events = self._run.events
        try:
            found = [events.get(timeout=timeout)]
        except Empty:
            return self._replace_dead()
        while not events.empty():
            found.append(events.get_nowait())
        return found

    def cancel(self, timeout: float | None) -> Callable[[], None] | None:
        """Make running tasks leave; a thread that does not in time is replaced by a new one."""
        if self._run is None:
            return None
        self._run.cancelled = True
        # An answer behind everything in an inbox says that the thread has left the run. Counting
        # events instead would go wrong where an interrupt falls between an event and its count.
        left: SimpleQueue[_Worker] = SimpleQueue()
        waiting = set(self._pool)
        for worker in self._pool:
            worker.inbox.put(partial(left.put, worker))
        end = None if timeout is None else time.monotonic() + timeout
        while waiting and any(worker.thread.is_alive() for worker in waiting):
            patience = 1.0 if end is None else min(1.0, end - time.monotonic())
            try:
                waiting.discard(left.get(timeout=max(0.0, patience)))
            except Empty:
                if end is not None and time.monotonic() >= end:
                    break
        self._pool = [worker for worker in self._pool if worker not in waiting]
        for worker in waiting:
            worker.inbox.put(None)
        return partial(_join, [worker.thread for worker in waiting]) if waiting else None

    def finish(self) -> None:
        """Let go of the run and so of its arrays."""
        self._run = None

    def afford(self, free: int) -> tuple[int, int]:
        """Give all workers: threads take next to nothing."""
        del free
        return self.workers, 0

    def trim(self) -> None:
        """Do nothing: threads keep nothing of their own."""

    def close(self) -> None:
        """Let the threads end."""
        pool, self._pool = self._pool, []
        for worker in pool:
            worker.inbox.put(None)
        _join([worker.thread for worker in pool])

    def _replace_dead(self) -> list[Event]:
        """Look after the threads while nothing happens: memory may run out at a bad moment."""
        found: list[Event] = []
        for number, worker in enumerate(self._pool):
            if not worker.thread.is_alive():
                self._pool[number] = _Worker(number)
                found += [WorkerLost(number, "its thread has ended"), WorkerJoined(number)]
        return found

    def _forget(self) -> None:
        self._pool, self._run = [], None
        self.lock = threading.Lock()


class _Worker:
    """A thread and what it is told."""

    def __init__(self, number: int) -> None:
        self.inbox: SimpleQueue[Message | None] = SimpleQueue()
        name = f"chunkarr-{number}"
        self.thread = threading.Thread(target=_serve, args=(self.inbox,), name=name, daemon=True)
        self.thread.start()


def _serve(inbox: SimpleQueue[Message | None]) -> None:
    enter_worker()
    while (message := inbox.get()) is not None:
        message()
        # An idle thread must not keep the arrays of its last range alive.
        del message


def _run_and_tell(run: _ThreadRun, worker: int, step: int, start: int, stop: int) -> None:
    began = time.perf_counter()
    work = run.steps[step].work
    # A context can be entered by one thread at a time; a copy takes constant time.
    failed = run.context.copy().run(run_range, work, start, stop, run, run.began)
    if failed is None:
        run.events.put(TaskRangeDone(worker, start, stop, time.perf_counter() - began))
    else:
        run.events.put(TaskFailed(worker, *failed))
        # A traceback keeps the frames it came through and their callers' alive. If such a frame
        # named the error, all arrays that the error's frames hold would wait for a collection.
        del failed


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


_executors: weakref.WeakSet[ThreadExecutor] = weakref.WeakSet()


def _forget_threads() -> None:
    """Start anew in a forked child, where threads do not exist and locks may be held for ever."""
    for executor in list(_executors):
        executor._forget()  # noqa: SLF001 - the same file


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
