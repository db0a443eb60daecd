"""The memory account: who holds how many bytes, and what the process tree really uses.

Two numbers are kept apart. `Budget` is a ledger of promises: what arrays in memory and running
steps have been granted. `memory_in_use` is what the kernel counts for this process and its
children, interpreter and libraries included. The planner takes the limit, subtracts the larger of
the two, and hands the rest to a run as `bytes_available`.

Anonymous and shared memory count; pages of mapped files do not, because the kernel drops those when
memory runs short.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from chunkarr.errors import format_bytes

TRIM_RARELY = 20
"""How many times as long as it took to wait before the C library is asked to give back again.

It takes 0.2 ms, and 15 ms for 200 MB with as much in holes of 1 KB.
"""


class Budget:
    """A ledger of bytes by owner against one limit.

    >>> budget = Budget(100)
    >>> budget.reserve("a + b", 60), budget.reserve("sort", 60)
    (True, False)
    >>> budget.available()
    40
    >>> budget.release("a + b")
    >>> budget.available()
    100
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held: dict[str, int] = {}
        # Finalizers of arrays release bytes, and the garbage collector may run one in the middle of
        # any line below, in this very thread. So a release never takes the lock: it leaves a note,
        # and the next one to look at the ledger books it.
        self._notes: deque[tuple[str, int | None]] = deque()
        self._lock = threading.Lock()

    def reserve(self, owner: str, count: int) -> bool:
        """Grant `count` bytes to an owner, or change nothing and return False."""
        with self._lock:
            self._book()
            if sum(self._held.values()) + count > self.limit_bytes:
                return False
            self._held[owner] = self._held.get(owner, 0) + count
            return True

    def release(self, owner: str, count: int | None = None) -> None:
        """Take back `count` bytes of an owner, or all; safe to call from a finalizer."""
        self._notes.append((owner, count))

    def available(self) -> int:
        """Bytes that nobody holds."""
        return self.limit_bytes - sum(self.held().values())

    def held(self) -> dict[str, int]:
        """Bytes by owner, the largest first."""
        with self._lock:
            self._book()
            return dict(sorted(self._held.items(), key=lambda item: -item[1]))

    def describe(self, owners_max: int = 4) -> str:
        """Spell out who holds most, for messages.

        >>> budget = Budget(8192)
        >>> _ = budget.reserve("x", 4096), budget.reserve("y", 1024)
        >>> budget.describe()
        'x holds 4.0 KiB, y holds 1.0 KiB'
        """
        owners = list(self.held().items())
        parts = [f"{owner} holds {format_bytes(count)}" for owner, count in owners[:owners_max]]
        rest = sum(count for _, count in owners[owners_max:])
        if rest:
            parts.append(f"{len(owners) - owners_max} others hold {format_bytes(rest)}")
        return ", ".join(parts)

    def _book(self) -> None:
        while self._notes:
            owner, count = self._notes.popleft()
            left = self._held.get(owner, 0) - (self._held.get(owner, 0) if count is None else count)
            if left > 0:
                self._held[owner] = left
            else:
                self._held.pop(owner, None)


def memory_in_use(*, children: bool = True) -> int:
    """Bytes of anonymous and shared memory of this process and, by default, its descendants."""
    used = _bytes_of("self", os.getpid())
    if children:
        used += sum(_bytes_of(str(pid), pid) for pid in _descendants.pids())
    return used


class _Heap:
    """What the C library keeps of the memory that was freed, which the kernel counts as used."""

    def __init__(self) -> None:
        self._least = 0
        """Bytes in use after it was last asked to give back, or the least since."""
        self._next = 0.0

    def trim(self, used: int, step: int, workers: Callable[[], None] | None = None) -> bool:
        """Let it give back what it keeps, if `used` has grown by a step since; tells whether.

        What was in use the last time may have been freed since then, so it is asked as well after a
        while. `workers` asks worker processes for the same.
        """
        self._least = min(self._least, used)
        began = time.monotonic()
        due = used - self._least >= step or began >= self._next
        if not due or not trim_heap():
            return False
        if workers is not None:
            workers()
        self._least = memory_in_use()
        now = time.monotonic()
        self._next = now + TRIM_RARELY * (now - began)
        return True


def trim_heap() -> bool:
    """Give the kernel back what the C library keeps of freed memory; False where it cannot."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False  # another C library
    return True


_heap = _Heap()


def memory_in_use_within(limit_bytes: int, trim_workers: Callable[[], None] | None = None) -> int:
    """Give `memory_in_use`, where it is much of a limit without what only the C library keeps.

    Threads that have run tasks leave their heaps large, 100 MB were found that nobody used, and so
    do worker processes: `trim_workers` lets those of an executor give back theirs.
    """
    used = memory_in_use()
    if used > limit_bytes // 2 and _heap.trim(used, limit_bytes // 16, trim_workers):
        return _heap._least  # noqa: SLF001 - the same file
    return used


class _Descendants:
    """The processes below this one.

    Looking them up scans all processes of the machine, so it is done only where there is a child,
    at most twice a second, and more rarely where it takes long.
    """

    SECONDS_FRESH = 0.5
    RARELY = 100

    def __init__(self) -> None:
        self._pids: tuple[int, ...] = ()
        self._parent = 0
        self._until = 0.0

    def pids(self) -> Iterable[int]:
        now = time.monotonic()
        if now >= self._until or self._parent != os.getpid():
            self._pids = () if _is_childless() else _foreign().descendants()
            took = time.monotonic() - now
            self._until = now + max(self.SECONDS_FRESH, self.RARELY * took)
            self._parent = os.getpid()
        return self._pids

    def forget(self) -> None:
        """Look again at the next question, because processes were started or ended."""
        self._until = 0.0


_descendants = _Descendants()


def processes_changed() -> None:
    """Tell `memory_in_use` that this process has started or ended a child."""
    _descendants.forget()


def _bytes_of(entry: str, pid: int) -> int:
    """Bytes of one process; zero when it is gone.

    `/proc/<pid>/status` is read as bytes and searched, 20 microseconds instead of psutil's 100.
    """
    try:
        status = Path(f"/proc/{entry}/status").read_bytes()
    except OSError:
        # The process is gone, or this system has no `/proc`.
        return int(_foreign().bytes_resident(pid))
    anonymous, shared = _field(status, b"RssAnon:"), _field(status, b"RssShmem:")
    if anonymous is None or shared is None:
        # A zombie has no memory fields; a kernel before 4.5 does not tell them apart.
        return (_field(status, b"VmRSS:") or 0) * 1024
    return (anonymous + shared) * 1024


def _field(status: bytes, name: bytes) -> int | None:
    at = status.find(name)
    return None if at < 0 else int(status[at + len(name) :].split(None, 1)[0])


def _is_childless() -> bool:
    """Whether the kernel says that this process has no child; where it says nothing, False."""
    try:
        threads = os.listdir("/proc/self/task")
        return not any(Path(f"/proc/self/task/{t}/children").read_bytes() for t in threads)
    except OSError:
        return False


def _foreign() -> Any:
    # psutil takes as long to load as a short run does, and most runs have no use for it.
    return importlib.import_module("chunkarr.scheduler.foreign")
