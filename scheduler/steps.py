"""Steps, the plain data that a plan hands to an executor.

A step is one piece of work over `tasks` indices. Tasks are enumerated by number: a step of ten
million tasks is as small as a step of ten. Tasks are pure and write whole boxes of their output
stores, so running one twice, or again after a lost worker, is harmless.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeGuard

from chunkarr.records import dataclass
from chunkarr.storage.store import Box, Store


class Cancelled(BaseException):
    """Raised inside a task when its run was cancelled; never reaches the user."""


class Context(Protocol):
    """What a running task may ask of its worker."""

    def check(self) -> None:
        """Raise `Cancelled` when the run is being given up; cheap, call it between pieces."""


class Work(Protocol):
    """What a step does; must pickle when the executor does not share memory.

    A work may also have `run_range(start, stop, context)`. It is then called instead of a loop
    over `run`, which pays where a task lasts microseconds; it calls `context.check()` between its
    pieces.
    """

    def run(self, task: int, context: Context) -> None:
        """Run one task."""


@dataclass(frozen=True, slots=True)
class Touched:
    """The boxes that one task reads and writes; of its reads it may tell more than there are."""

    reads: Sequence[Box]
    writes: Sequence[Box]


class TelltaleWork(Protocol):
    """Work that tells what its tasks read and write, so that some of them can be left out."""

    def run(self, task: int, context: Context) -> None:
        """Run one task."""

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""


@dataclass(frozen=True, slots=True)
class Accesses:
    """What one task reads and writes, named by (store, tile) or any hashable."""

    reads: Sequence[Hashable]
    writes: Sequence[Hashable]


class OrderedWork(Protocol):
    """Work whose tasks depend on each other through the tiles they read and write.

    The order is that of the task numbers read as a sequential program: a task waits for the last
    earlier writer of what it reads or writes, and for earlier readers of what it writes.
    """

    def run(self, task: int, context: Context) -> None:
        """Run one task."""

    def accesses(self, task: int) -> Accesses:
        """Tell what a task reads and writes."""


def is_telltale(work: Work) -> TypeGuard[TelltaleWork]:
    """Whether work tells what its tasks touch."""
    # A protocol's own isinstance takes as long as a small task.
    return hasattr(work, "touched")


def is_ordered(work: Work) -> TypeGuard[OrderedWork]:
    """Whether the tasks of work depend on each other."""
    return hasattr(work, "accesses")


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel over a range of tasks, with its bytes declared."""

    name: str
    work: Work
    tasks: int
    bytes_task: int
    """Most bytes that one running task holds: input, output and scratch."""
    where: str = ""
    """The user's file:line, for messages."""
    bytes_fixed: int = 0
    """Bytes held during the step however many tasks run."""
    bytes_read: int = 0
    bytes_written: int = 0
    creates: tuple[Store, ...] = ()
    """Stores to create before the first task."""
    releases: tuple[Store, ...] = ()
    """Scratch stores that nothing after this step reads."""
    weight: float = 1.0
    """Estimated seconds of one task, only for progress and batching."""
    blas: bool = False
    """Whether tasks call BLAS or LAPACK, whose own threads then stay out of the workers' way."""
