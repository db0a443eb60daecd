"""What runs on a worker of a Dask cluster: ranges of tasks, on works that are kept for a run.

Ranges come as Dask tasks, by the name of `run_remote`. This file imports nothing of Dask's.
"""

from __future__ import annotations

import importlib
import mmap
import os
import platform
import threading
import time
from collections import OrderedDict, deque
from typing import Any

import cloudpickle

from chunkarr.faults import fault_point
from chunkarr.scheduler.budget import trim_heap
from chunkarr.scheduler.overheard import listening, pack_warned
from chunkarr.scheduler.ranges import enter_worker, leave_worker, run_range
from chunkarr.scheduler.steps import Cancelled, Work
from chunkarr.scheduler.worker import Surroundings, pack_error
from chunkarr.storage.arena import task_arena
from chunkarr.storage.files import handles
from chunkarr.storage.guard import Moment, now

BYTES_PAGES = 8 << 20
"""So many bytes of mapped files are given back together."""

HEAP_PARTS = 32
"""Of freed memory, the C library may keep this part of a worker's limit."""
SECONDS_TRIM = 0.05
WORKS_MAX = 8


class _Held:
    """A work, and when it came; unpickled by the first range, for which others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.came = now()
        self.work: Work | None = None


_works: OrderedDict[tuple[str, int], _Held] = OrderedDict()
_works_lock = threading.Lock()
_cancelled: deque[str] = deque(maxlen=64)


def cancel(token: str) -> None:
    """Let the tasks of a run leave at their next check."""
    _cancelled.append(token)


def forget(token: str) -> None:
    """Drop the works of a run, whose files they hold open."""
    with _works_lock:
        for key in [key for key in _works if key[0] == token]:
            del _works[key]


def cancel_and_forget(token: str) -> None:
    """End what is left of a run and drop its works."""
    cancel(token)
    forget(token)


class _Context:
    """What a task on a cluster sees."""

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        self._token = token

    def check(self) -> None:
        if self._token in _cancelled:
            raise Cancelled
        _resident.look()


class _Resident:
    """Keeps what nobody needs from heaping up in this process, whose limit is Dask's.

    Pages of mapped files the system takes back when memory is short, so our own limit does not
    count them. What the C library keeps of freed memory it may use again. Dask counts both as the
    worker's, and pauses or ends a worker that holds too much.
    """

    def __init__(self) -> None:
        self._pages_left = 0
        self._heap_step = 0
        self._heap_least = 0
        """The fewest bytes in use since work began."""
        self._trim_wait, self._trim_next = SECONDS_TRIM, 0.0
        try:
            self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def settle(self) -> None:
        """Find out what is much, before work begins."""
        if not self._heap_step:
            self._heap_least = self._bytes()[0]
            self._heap_step = _memory_limit() // HEAP_PARTS

    def look(self) -> None:
        """Give back mapped pages, and what the heap keeps, where it grew by much since."""
        own, mapped = self._bytes()
        self._pages_left = min(self._pages_left, mapped)
        if mapped - self._pages_left > BYTES_PAGES:
            self._drop_pages()
        self._heap_least = min(own, self._heap_least)
        if own - self._heap_least > self._heap_step and time.monotonic() > self._trim_next:
            self._trim(own)

    def drop(self) -> None:
        """Give back mapped pages, which a worker that is paused would hold, and freed memory."""
        self._drop_pages()
        self.look()

    def _trim(self, own: int) -> None:
        """Trim the heap, the more rarely the longer it gives little: what is there is in use."""
        trim_heap()
        gave = own - self._bytes()[0]
        little = gave < self._heap_step // 2
        self._trim_wait = min(1.0, 2 * self._trim_wait) if little else SECONDS_TRIM
        self._trim_next = time.monotonic() + self._trim_wait

    def _drop_pages(self) -> None:
        handles.drop_pages()
        _, self._pages_left = self._bytes()  # libraries are mapped files as well

    def _bytes(self) -> tuple[int, int]:
        """Give bytes of memory of its own, and of mapped files."""
        if self._file < 0:
            return 0, 0
        resident, mapped = map(int, os.pread(self._file, 128, 0).split()[1:3])
        return (resident - mapped) * mmap.PAGESIZE, mapped * mmap.PAGESIZE


_resident = _Resident()


def _memory_limit() -> int:
    """Give the limit that Dask has for this worker, a very large number where it has none."""
    manager = getattr(_worker(), "memory_manager", None)
    return int(getattr(manager, "memory_limit", None) or 1 << 62)


def run_remote(
    key: tuple[str, int], packed: bytes | None, start: int, stop: int, surroundings: Surroundings
) -> tuple[Any, ...]:
    """Run a range on a worker of the cluster and give a small reply."""
    began = time.perf_counter()
    enter_worker()
    _resident.settle()
    handles.watch = _resident.look
    with listening() as heard:
        try:
            held = _work(key, packed)
            if held is None:
                return ("lacking",)
            with surroundings() as events, task_arena.serving():
                failed = run_range(held[0], start, stop, _Context(key[0]), held[1])
            noted = list(events.found)
        except BaseException as error:  # noqa: BLE001 - travels as data, so that Dask does not retry
            failed, noted = (start, error), []
        finally:
            _resident.drop()
            leave_worker()
    fault_point("exchange")
    warned = pack_warned(heard.take())
    if failed is None:
        return ("done", warned, time.perf_counter() - began, noted)
    return ("failed", warned, failed[0], pack_error(failed[1], _place()))


def _place() -> str:
    """Name this worker: a number of a process says little where there are several hosts."""
    worker = _worker()
    return f"worker process {os.getpid()} of {worker.address if worker else platform.node()}"


def _worker() -> Any:
    """Give Dask's worker that runs this, None where somebody else called."""
    try:
        return importlib.import_module("distributed").get_worker()
    except ValueError:
        return None


def _work(key: tuple[str, int], packed: bytes | None) -> tuple[Work, Moment] | None:
    """Give the work of a step, unpickled once for all ranges that come here, and when it came."""
    with _works_lock:
        if packed is not None:
            _works.setdefault(key, _Held())
        held = _works.get(key)
        if held is None:
            return None
        _works.move_to_end(key)
        while len(_works) > WORKS_MAX:
            _works.popitem(last=False)
    # The worker's event loop takes the lock above, and what is unpickled may ask the loop.
    with held.lock:
        if held.work is None and packed is not None:
            held.work = cloudpickle.loads(packed)
        return None if held.work is None else (held.work, held.came)
