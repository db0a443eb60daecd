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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chunkarr.storage.store import NDArray

BYTES_MIN = 1 << 20
"""Arrays below this are left to `malloc`, which reuses their memory itself."""
SLACK = 8
"""A block serves an array that fills all but one part in so many."""
SIZES = 16
"""So many parts of a power of two are the sizes of the blocks below it."""

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
        self._roots: dict[int, weakref.ref[NDArray]] = {}
        self._used = 0
        """Bytes of the blocks that arrays use."""

    @property
    def bytes_kept(self) -> int:
        """Bytes that no array uses."""
        self._book()
        return sum(map(len, tuple(self._free)))

    def empty(self, shape: tuple[int, ...], dtype: Any, *, brief: bool = False) -> NDArray:
        """Make an array whose values are undefined, as `np.empty` does; its base owns the bytes."""
        dtype = np.dtype(dtype)
        count = math.prod(shape) * dtype.itemsize
        if count < BYTES_MIN or dtype.hasobject or not _PRIVATE:
            return np.empty(shape, dtype)
        block = self._take(count, brief=brief) or self._new(count)
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

    def _choose(self, count: int, *, brief: bool) -> mmap.mmap | None:
        """Give the kept block that serves best."""
        del brief
        fits = [b for b in self._free if count <= len(b) <= count + count // SLACK + BYTES_MIN]
        return min(fits, key=len, default=None)

    def _take(self, count: int, *, brief: bool) -> mmap.mmap | None:
        self._book()
        with self._lock:
            best = self._choose(count, brief=brief)
            if best is not None:
                self._free.remove(best)
                self._use(len(best))
        self._book()
        return best

    def _new(self, count: int) -> mmap.mmap:
        size = -(-count // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            self._use(size)
        self._book()  # what is too much beside it goes first
        try:
            return _new_block(size)
        except BaseException:
            with self._lock:
                self._used -= size
            raise

    def _use(self, size: int) -> None:
        self._used += size

    def _forked(self) -> None:
        """Begin anew in a child, where the thread that has locked may be missing."""
        self._lock = threading.Lock()

    def _room(self) -> int:
        """Give how many bytes may be kept."""
        return self.bytes_most

    def _leave(self, number: int, block: mmap.mmap) -> None:
        self._roots.pop(number, None)
        self._freed.append(block)
        self._book()

    def _book(self) -> None:
        while self._freed or sum(map(len, tuple(self._free))) > self._room():
            # Ctrl-C is not noticed while a list is extended: whoever has the lock knows of it.
            taken: list[bool] = []
            try:
                taken.extend(map(self._lock.acquire, (False,)))
                if not taken[0]:
                    return  # its holder books what came meanwhile
                while self._freed:
                    block = self._freed.popleft()
                    self._used -= len(block)
                    self._free.append(block)
                kept, room = sum(map(len, self._free)), self._room()
                while kept > room:
                    kept -= len(self._free.popleft())
            finally:
                if taken and taken[0]:
                    self._lock.release()


class TaskArena(Arena):
    """What tasks of a worker process leave to the next ones of their range.

    Used and kept blocks together never take more than those used at once since the range began.
    Outside of ranges nothing is kept, and `malloc` serves.

    >>> tasks = TaskArena()
    >>> with tasks.serving():
    ...     first, second = tasks.empty((1 << 22,), "u1"), tasks.empty((1 << 22,), "u1")
    ...     del first, second
    ...     print(tasks.bytes_kept)
    8388608
    >>> tasks.bytes_kept
    0
    """

    def __init__(self) -> None:
        super().__init__()
        self._ranges = 0
        self._most = 0
        """Most bytes used at once since there are ranges."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Keep memory while a range runs, in a `with` block; ranges may run at the same time."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def empty(self, shape: tuple[int, ...], dtype: Any, *, brief: bool = False) -> NDArray:
        """Make an array whose values are undefined, as `np.empty` does.

        What is `brief`, used up before the task makes more of it, may lie in a far larger block.
        """
        if not self._ranges:
            return np.empty(shape, dtype)
        return super().empty(shape, dtype, brief=brief)

    def made(self, array: NDArray) -> bool:
        """Whether an array is the whole of what was made here, so that nobody else has it."""
        known = self._roots.get(id(array.base))
        root = known() if known is not None else None
        return root is not None and root is array.base and array.nbytes == root.nbytes

    def _count(self, ranges: int) -> None:
        self._book()
        with self._lock:
            self._ranges += ranges
            if not self._ranges or self._ranges == ranges:
                self._most = self._used
        self._book()

    def _choose(self, count: int, *, brief: bool) -> mmap.mmap | None:
        found = super()._choose(count, brief=brief)
        if found is None and brief and self._used + count + sum(map(len, self._free)) > self._most:
            # A new block would drive out what the task wants next.
            found = min((b for b in self._free if len(b) >= count), key=len, default=None)
        return found

    def _new(self, count: int) -> mmap.mmap:
        # Encoded chunks differ a little in size; one's block should serve the next one.
        part = max(1, (1 << count.bit_length()) // SIZES)
        return super()._new(-(-count // part) * part)

    def _use(self, size: int) -> None:
        super()._use(size)
        self._most = max(self._most, self._used)

    def _room(self) -> int:
        return max(0, self._most - self._used) if self._ranges else 0

    def _forked(self) -> None:
        super()._forked()
        self._ranges = 0
        self._free.clear()


def _new_block(size: int) -> mmap.mmap:
    try:
        block = mmap.mmap(-1, size, flags=_PRIVATE)
    except (OSError, OverflowError) as error:
        message = f"Unable to allocate {size} bytes"
        raise MemoryError(message) from error
    if _HUGE is not None and size >= 4 * BYTES_MIN:
        block.madvise(_HUGE)
    return block


arena = Arena()
"""The memory of this process's results."""
task_arena = TaskArena()
"""The memory of this process's tasks, where it runs those of another one."""


def is_private(array: NDArray) -> bool:
    """Whether nobody else sees an array's values, so that they may be changed."""
    return bool(array.flags.writeable and (array.flags.owndata or task_arena.made(array)))


def _after_fork() -> None:
    for kept in (arena, task_arena):
        kept._forked()  # noqa: SLF001 - this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
