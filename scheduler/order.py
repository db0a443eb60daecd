"""Which tasks of an ordered step may run now, from what each task reads and writes.

The tasks are the iterations of a textbook loop nest, numbered in program order. A task waits for
the last earlier writer of each tile it touches, and for the readers since then of each tile it
writes; nobody spells an edge. Only a window of tasks is looked at, so that a factorisation of a
million tile operations needs the memory of a few hundred. The window slides with the lowest task
that has not ended. That task never waits for anything, so the window cannot get stuck.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import field

from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Accesses


@dataclass(slots=True)
class _Open:
    """A task of the window that has not ended."""

    accesses: Accesses
    waits: int
    followers: list[int] = field(default_factory=list)


class Frontier:
    """The window over an ordered step: ready tasks out, ended tasks in.

    >>> column = [Accesses((), ("a",)), Accesses(("a",), ("b",)), Accesses(("a",), ("c",))]
    >>> frontier = Frontier(column.__getitem__, 3, window=8)
    >>> frontier.take(9), frontier.take(9)
    (range(0, 1), None)
    >>> frontier.end(0)
    >>> frontier.take(9)
    range(1, 3)
    """

    def __init__(self, accesses: Callable[[int], Accesses], tasks: int, window: int) -> None:
        self._accesses, self._tasks, self._window = accesses, tasks, window
        self._entered = 0
        self._open: dict[int, _Open] = {}
        self._ready: list[int] = []
        self._writer: dict[Hashable, int] = {}
        self._readers: dict[Hashable, set[int]] = {}
        self._fill()

    def __len__(self) -> int:
        """Tasks that are ready to run."""
        return len(self._ready)

    def take(self, tasks_max: int) -> range | None:
        """Give the lowest ready task and the ready ones right behind it, at most `tasks_max`."""
        if not self._ready:
            return None
        start = stop = heapq.heappop(self._ready)
        stop += 1
        while self._ready and self._ready[0] == stop and stop - start < tasks_max:
            stop = heapq.heappop(self._ready) + 1
        return range(start, stop)

    def end(self, task: int) -> None:
        """Note that a task has ended, which may make others ready."""
        ended = self._open.pop(task)
        for tile in ended.accesses.writes:
            if self._writer.get(tile) == task:
                del self._writer[tile]
        for tile in ended.accesses.reads:
            readers = self._readers.get(tile)
            if readers is not None:
                readers.discard(task)
                if not readers:
                    del self._readers[tile]
        for follower in ended.followers:
            waiting = self._open[follower]
            waiting.waits -= 1
            if waiting.waits == 0:
                heapq.heappush(self._ready, follower)
        self._fill()

    def overwrites(self, task: int) -> bool:
        """Whether an open task writes a tile that it reads, so that a second run would differ."""
        accesses = self._open[task].accesses
        return not set(accesses.reads).isdisjoint(accesses.writes)

    def _fill(self) -> None:
        # The lowest open task bounds the window: counting open tasks instead would let one slow
        # task at the front keep dependencies of everything behind it in memory.
        while self._entered < self._tasks:
            lowest = next(iter(self._open), self._entered)
            if self._entered - lowest >= self._window:
                return
            self._enter(self._entered)
            self._entered += 1

    def _enter(self, task: int) -> None:
        accesses = self._accesses(task)
        earlier: set[int] = set()
        for tile in (*accesses.reads, *accesses.writes):
            if tile in self._writer:
                earlier.add(self._writer[tile])
        for tile in accesses.writes:
            earlier |= self._readers.pop(tile, set())
        for tile in accesses.writes:
            self._writer[tile] = task
        for tile in accesses.reads:
            # Whoever comes later and touches a tile written here waits for the writer anyway.
            if self._writer.get(tile) != task:
                self._readers.setdefault(tile, set()).add(task)
        for before in earlier:
            self._open[before].followers.append(task)
        self._open[task] = _Open(accesses, len(earlier))
        if not earlier:
            heapq.heappush(self._ready, task)
