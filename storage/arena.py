"""Memory that arrays leave behind, kept for the next ones of about the same size.

The system zeroes each page at its first touch, and takes it back when a large array is freed:
filling 200 MB of fresh memory takes 2.6 times as long as filling it again. `malloc` keeps what is
small; this keeps the rest, up to a number of bytes that the engine sets for each run.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np

from chunkarr.storage.store import NDArray

BYTES_MIN = 1 << 20
"""Arrays below this are left to `malloc`, which reuses their memory itself."""
SLACK = 8
"""A block serves an array that fills all but one part in so many."""

_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class Arena:
    """Blocks of memory that are free, the one freed first in front.

    >>> arena = Arena(bytes_most=1 << 30)
    >>> first = arena.empty((1000, 1000), "f8")
    >>> address = first.ctypes.data
    >>> del first
    >>> arena.bytes_kept >= 8_000_000
    True
    >>> arena.empty((500, 2000), "f8").ctypes.data == address
    True
    """

    def __init__(self, bytes_most: int = 0) -> None:
        self.bytes_most = bytes_most
        self._free: deque[mmap.mmap] = deque()
        # The garbage collector may free an array in the middle of any line below, in this very
        # thread. So what is freed waits here, and whoever has the lock or gets it books it.
        self._freed: deque[mmap.mmap] = deque()
        self._lock = threading.Lock()
        self._roots: dict[int, Any] = {}

    @property
    def bytes_kept(self) -> int:
        """Bytes that no array uses."""
        self._book()
        return sum(map(len, tuple(self._free)))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray:
        """Make an array whose values are undefined, as `np.empty` does; its base owns the bytes."""
        dtype = np.dtype(dtype)
        count = math.prod(shape) * dtype.itemsize
        if count < BYTES_MIN or dtype.hasobject or not _PRIVATE:
            return np.empty(shape, dtype)
        block = self._take(count) or _new_block(count)
        # Views refer to the array that owns their bytes, or else to the last one before a buffer:
        # this one, so that it dies with the last of them.
        root = np.frombuffer(block, np.uint8, count)
        number = id(root)
        self._roots[number] = weakref.ref(root, lambda _: self._leave(number, block))
        array: NDArray = root.view(dtype).reshape(shape)
        return array

    def resize(self, bytes_most: int) -> None:
        """Keep at most so many bytes from now on."""
        self.bytes_most = bytes_most
        self._book()

    def _take(self, count: int) -> mmap.mmap | None:
        self._book()
        with self._lock:
            fits = [b for b in self._free if count <= len(b) <= count + count // SLACK + BYTES_MIN]
            best = min(fits, key=len, default=None)
            if best is not None:
                self._free.remove(best)
        self._book()
        return best

    def _leave(self, number: int, block: mmap.mmap) -> None:
        self._roots.pop(number, None)
        self._freed.append(block)
        self._book()

    def _book(self) -> None:
        while self._freed or sum(map(len, tuple(self._free))) > self.bytes_most:
            # Ctrl-C is not noticed while a list is extended: whoever has the lock knows of it.
            taken: list[bool] = []
            try:
                taken.extend(map(self._lock.acquire, (False,)))
                if not taken[0]:
                    return  # its holder books what came meanwhile
                while self._freed:
                    self._free.append(self._freed.popleft())
                kept = sum(map(len, self._free))
                while kept > self.bytes_most:
                    kept -= len(self._free.popleft())
            finally:
                if taken and taken[0]:
                    self._lock.release()


def _new_block(count: int) -> mmap.mmap:
    pages = -(-count // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        block = mmap.mmap(-1, pages, flags=_PRIVATE)
    except (OSError, OverflowError) as error:
        message = f"Unable to allocate {count} bytes"
        raise MemoryError(message) from error
    if _HUGE is not None and pages >= 4 * BYTES_MIN:
        block.madvise(_HUGE)
    return block


arena = Arena()
"""The memory of this process's results."""


def _after_fork() -> None:
    # The lock may have been held by a thread that the child does not have.
    arena._lock = threading.Lock()  # noqa: SLF001 - this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
