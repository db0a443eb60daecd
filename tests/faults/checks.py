"""What must hold after a fault, whatever it was: the same checks for all tests of faults.

1. The answer is right, or an error that says what was touched.
2. It came in time.
3. No process is left beside the pool of the executor.
4. Nothing lies in the folders of outputs, of scratch and of shared memory.
5. No file is held open, no thread runs on.
6. The output is the old one or the new one.
7. The next computation works, and memory is back.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import chunkarr
from chunkarr import engine
from chunkarr.errors import ChunkarrError
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.storage import ending
from chunkarr.storage.spill import Session
from chunkarr.storage.store import NDArray

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

ON_DASK = (
    pytest.mark.cluster,
    # Sockets and event loops of distributed's own are not always closed in time.
    pytest.mark.filterwarnings("default"),
)
EXECUTORS = (
    "threads",
    "processes",
    pytest.param("distributed", marks=[*ON_DASK, pytest.mark.slow]),
)
"""For tests that have `executor` as an indirect parameter."""
SECONDS_MAX = 20.0
"""A run of milliseconds may meet a worker's start, and a busy machine."""
BYTES_BACK = 48 << 20
"""Memory that may stay: allocators keep some, and the pool may have grown."""


@dataclass
class Place:
    """The folders of a test, and what was there before."""

    folder: Path
    children: int = 0
    """Processes that the executor keeps."""
    threads: int = 0
    files: int = 0
    files_more: int = 4
    """Files that the session may open later on, and keep; a client of Dask's keeps sockets."""
    memory: int = 0

    def __post_init__(self) -> None:
        for name in ("out", "spill", "in", "counts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def settle(self) -> None:
        """Note what is there; to be called after a first run, which starts pools."""
        gc.collect()
        self.children = len(psutil.Process().children(recursive=True))
        self.threads = threading.active_count()
        self.files = len(os.listdir("/proc/self/fd"))
        self.memory = memory_in_use()

    def counts(self) -> Path:
        """Give an empty folder to count in."""
        for file in os.scandir(self.folder / "counts"):
            os.unlink(file)
        return self.folder / "counts"

    def left(self) -> list[str]:
        """List what lies where nothing should; the output `x` and the locks of sessions may."""
        found = [name for name in os.listdir(self.out) if not name.startswith("x.")]
        for _, _, names in os.walk(self.out):
            found += [name for name in names if name.endswith((".tmp", ".lock"))]
        for place, _, names in os.walk(self.folder / "spill"):
            found += [os.path.join(place, name) for name in names if name != ".lock"]
        return found

    def check_nothing_left(self, *, cleaned: bool = True) -> None:
        """Check points 3 to 5; without `cleaned`, scratch may stay until the end of the process."""
        gc.collect()
        if not cleaned:
            Session.close_all()
            ending.clear_all()
        assert soon(lambda: not self.left()), self.left()
        assert [name for name in os.listdir("/dev/shm") if "chunkarr" in name] == []
        assert soon(lambda: len(psutil.Process().children(recursive=True)) <= self.children)
        assert soon(lambda: threading.active_count() <= self.threads)
        files_max = self.files + self.files_more
        assert soon(lambda: len(os.listdir("/proc/self/fd")) <= files_max), open_files()

    def check_memory_back(self) -> None:
        """Check that what faulted runs held is free again."""
        gc.collect()
        assert soon(lambda: memory_in_use() <= self.memory + BYTES_BACK)


def open_files() -> list[str]:
    """List what this process has open."""
    found = []
    for entry in os.scandir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(entry.path))
    return sorted(found)


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait until a condition holds, which threads and processes need a moment for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
        gc.collect()  # a thread may have let go of a cycle just now
    return True


def check_typed(error: BaseException, folder: Path) -> None:
    """Check that an error names what it is about: a path, a chunk, a worker, a step."""
    notes = "\n".join(getattr(error, "__notes__", ()))
    if isinstance(error, ChunkarrError):
        path = getattr(error, "path", None) or getattr(error, "directory", None)
        assert path is None or str(path).startswith(str(folder)), error
        return
    if isinstance(error, KeyboardInterrupt):
        return
    assert isinstance(error, OSError | MemoryError), repr(error)
    # A task or a plan that fails on its own account has no path; a task's error has its step.
    named = str(folder) in str(error) or "raised in the step" in notes
    assert named or getattr(error, "filename", None) == "", error


def without_frames(error: BaseException) -> BaseException:
    """Let go of the frames that an error came through, and so of the arrays in them."""
    behind: BaseException | None = error
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__
    return error


@contextmanager
def in_time(seconds: float = SECONDS_MAX) -> Iterator[None]:
    """Check that a block takes no longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} of {seconds:.0f} seconds"


def content(path: Path) -> NDArray:
    """Read a whole output."""
    with xp.config(executor="threads"):
        made: NDArray = np.array(engine.values(xp.open(path).to_expr())[0])
    return made
