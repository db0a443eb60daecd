"""Work for the tests: small classes that any executor can run, on arrays in files."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chunkarr.grid import Grid, Region
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Accesses, Context, Step
from chunkarr.settings import settings
from chunkarr.storage.store import NDArray, Store


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for what another thread or process is about to do."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


class FileStore(Store):
    """An array in a file, opened anew in each process; notes in a log what is done with it."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: Any = np.int64) -> None:
        self.path, self.name = path, path.name
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.grid = Grid.single(self.shape)

    def open(self) -> NDArray:
        return np.memmap(self.path, self.dtype, "r+", shape=self.shape)

    def read(self, region: Region) -> NDArray:
        return self.open()[region]

    def create(self) -> None:
        self.note("create")
        np.memmap(self.path, self.dtype, "w+", shape=self.shape)

    def write(self, region: Region, values: NDArray) -> None:
        self.open()[region] = values

    def discard(self) -> None:
        self.note("discard")
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        self.note("release")
        self.path.unlink(missing_ok=True)

    def note(self, what: str) -> None:
        with self.path.with_suffix(".log").open("a") as log:
            log.write(f"{what}\n")

    def log(self) -> list[str]:
        return self.path.with_suffix(".log").read_text().split()


class Add:
    """Task i adds i + 1 to place i, so that a place that is left out or done twice shows."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def run(self, task: int, context: Context) -> None:
        self.store.open()[task] += task + 1


class Put:
    """Task i writes i + 1 to place i; may be run again."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def run(self, task: int, context: Context) -> None:
        self.store.write((slice(task, task + 1),), np.array([task + 1]))


class PutRange(Put):
    """Writes all places of a range together; has no loop over tasks."""

    def run(self, task: int, context: Context) -> None:
        raise AssertionError

    def run_range(self, start: int, stop: int, context: Context) -> None:
        self.store.write((slice(start, stop),), np.arange(start, stop) + 1)


class Fail(Put):
    """One task raises."""

    def __init__(self, store: FileStore, guilty: int, error: BaseException) -> None:
        super().__init__(store)
        self.guilty, self.error = guilty, error

    def run(self, task: int, context: Context) -> None:
        if task == self.guilty:
            raise self.error
        super().run(task, context)


class Kill(Put):
    """One task sends its worker a signal, which kills it, as often as it is told."""

    def __init__(
        self, store: FileStore, guilty: int, times: int, sent: signal.Signals = signal.SIGKILL
    ) -> None:
        super().__init__(store)
        self.guilty, self.times, self.sent = guilty, times, sent

    def run(self, task: int, context: Context) -> None:
        if task == self.guilty:
            marks = self.store.path.with_suffix(".marks")
            with marks.open("a") as file:
                file.write("x")
            if marks.stat().st_size <= self.times:
                os.kill(os.getpid(), self.sent)
        super().run(task, context)


class Divide:
    """Divides by zero, as NumPy does."""

    def run(self, task: int, context: Context) -> None:
        np.array([1.0]) / np.array([0.0])


class Forever:
    """Runs until it is cancelled."""

    def __init__(self, mark: Path | None = None) -> None:
        self.mark = mark

    def run(self, task: int, context: Context) -> None:
        if self.mark is not None:
            self.mark.touch()
        while True:
            context.check()
            time.sleep(0.001)


class ForeverOrFail(Forever):
    """The last task fails as soon as another one runs, which then has to be cancelled."""

    def __init__(self, mark: Path, guilty: int) -> None:
        super().__init__(mark)
        self.guilty = guilty

    def run(self, task: int, context: Context) -> None:
        if task != self.guilty:
            super().run(task, context)
        assert self.mark is not None
        while not self.mark.exists():
            context.check()
            time.sleep(0.001)
        raise ValueError("this one")


class Fibonacci:
    """Place i is the sum of the two before it: any wrong order shows. Not done in place."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def accesses(self, task: int) -> Accesses:
        return Accesses([i for i in (task - 1, task - 2) if i >= 0], [task])

    def run(self, task: int, context: Context) -> None:
        places = self.store.open()
        places[task] = 1 if task < 2 else places[task - 1] + places[task - 2]


class UnfriendlyError(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


class FailUnfriendly:
    """Raises an exception that cannot travel."""

    def run(self, task: int, context: Context) -> None:
        raise UnfriendlyError(1, 2)


class FailUndecodable:
    """Raises an exception that keeps what it is outside of its arguments."""

    def run(self, task: int, context: Context) -> None:
        b"\xff".decode()


class Own:
    """Writes the settings that it sees, and its process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, task: int, context: Context) -> None:
        now = settings()
        self.path.write_text(f"{os.getpid()} {now.chunk_bytes} {now.workers} {now.executor}")


class Warn:
    """Warns, many times; NumPy's floating-point events take another way, by `chunkarr.floats`."""

    def run(self, task: int, context: Context) -> None:
        for _ in range(10):
            warnings.warn("divide by zero", RuntimeWarning, stacklevel=1)


class Nest(Put):
    """Runs a step inside each task."""

    def run(self, task: int, context: Context) -> None:
        step = Step("inner", Put(self.store), self.store.shape[0], 8)
        run([step], get_executor("processes", 2), 1 << 20)


class Orphan:
    """Leaves a process behind that holds all it has inherited, then kills its worker."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def run(self, task: int, context: Context) -> None:
        if task == 1 and not self.mark.exists():
            child = os.fork()
            if child == 0:
                time.sleep(3)
                os._exit(0)
            self.mark.write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
