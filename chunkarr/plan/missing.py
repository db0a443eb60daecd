"""What is left to do of a plan whose output is partly there: from missing chunks back to sources.

A run that resumes another finds chunks of its output, and of the scratch on the way to them. The
steps are walked from the last to the first. A task is done again if it writes a missing chunk, or
a missing part of scratch that a task behind it reads. So a run that lacks one chunk makes what that
chunk is made of, as far back as nothing of it is there. Tasks stay what they were, and so do their
bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.grid import Region, region_of, region_shape
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import (
    Accesses,
    Context,
    OrderedWork,
    Step,
    Work,
    is_ordered,
    is_telltale,
)
from chunkarr.storage.reshaped import ReshapedStore
from chunkarr.storage.store import Box, Store


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some of the tasks of a work."""

    work: Work
    tasks: npt.NDArray[np.int64]

    def run(self, task: int, context: Context) -> None:
        """Run one of them."""
        self.work.run(int(self.tasks[task]), context)


@dataclass(frozen=True, slots=True)
class ChosenRanges(Chosen):
    """Some of the tasks of a work that runs ranges of them."""

    def run_range(self, start: int, stop: int, context: Context) -> None:
        """Run those that follow each other together."""
        work: Any = self.work
        tasks = self.tasks[start:stop]
        for run in np.split(tasks, np.flatnonzero(np.diff(tasks) != 1) + 1):
            work.run_range(int(run[0]), int(run[-1]) + 1, context)


@dataclass(frozen=True, slots=True)
class ChosenOrdered(Chosen):
    """Some of the tasks of a work whose tasks depend on each other."""

    work: OrderedWork

    def accesses(self, task: int) -> Accesses:
        """Tell what one of them reads and writes."""
        return self.work.accesses(int(self.tasks[task]))


class _Wanted:
    """The chunks of scratch that are read by tasks which are done again."""

    def __init__(self, scratch: Sequence[Store]) -> None:
        grids = {id(store): store.grid for store in scratch}
        self._cells = {key: np.zeros(grid.counts, bool) for key, grid in grids.items()}
        self._used: set[int] = set()

    def add(self, box: Box) -> None:
        """Note that a box is read."""
        store, place = self._place(box)
        if store is not None:
            self._cells[id(store)][place] = True
            self._used.add(id(store))

    def add_all(self) -> None:
        """Note that everything may be read."""
        for cells in self._cells.values():
            cells[...] = True
        self._used |= self._cells.keys()

    def write(self, box: Box) -> None:
        """Note that a box is written by a task that is done again, whoever reads it."""
        self._used.add(id(_standing(box)[0]))

    def needs(self, store: Store) -> bool:
        """Whether a store is read or written at all; what is no scratch is."""
        return id(store) not in self._cells or id(store) in self._used

    def lacks(self, box: Box) -> bool:
        """Whether what a task writes is wanted and was not kept; what is no scratch is wanted."""
        if 0 in region_shape(box[1]):
            return False
        store, place = self._place(box)
        if store is not None and not self._cells[id(store)][place].any():
            return False
        return not box[0].holds(box[1])

    def _place(self, box: Box) -> tuple[Store | None, tuple[slice, ...]]:
        store, region = _standing(box)
        if id(store) not in self._cells:
            return None, ()
        spans = (store.grid.span(axis, s.start, s.stop) for axis, s in enumerate(region))
        return store, tuple(slice(span.start, span.stop) for span in spans)


def _standing(box: Box) -> tuple[Store, Region]:
    """Give the store in which a box lies, all of it where it is seen under another shape."""
    store, region = box
    while isinstance(store, ReshapedStore):
        store = store.base
        region = region_of(store.shape)
    return store, region


def leave_out(steps: Sequence[Step]) -> list[Step]:
    """Give the steps without the tasks whose results are there, or that nothing reads."""
    wanted = _Wanted([store for step in steps for store in step.releases])
    return [_left(step, wanted) for step in reversed(steps)][::-1]


def _left(step: Step, wanted: _Wanted) -> Step:
    work = step.work
    if not is_telltale(work):
        wanted.add_all()
        return step
    chosen = []
    # From the last to the first: tasks of a factorisation read what earlier ones have written.
    for task in reversed(range(step.tasks)):
        touched = work.touched(task)
        if any(map(wanted.lacks, touched.writes)):
            chosen.append(task)
            for box in touched.reads:
                wanted.add(box)
            for box in touched.writes:
                wanted.write(box)
    if len(chosen) == step.tasks:
        return step
    return replace(
        step,
        work=_choose(work, np.array(chosen[::-1], np.int64)),
        tasks=len(chosen),
        creates=tuple(store for store in step.creates if wanted.needs(store)),
        bytes_read=step.bytes_read * len(chosen) // step.tasks,
        bytes_written=step.bytes_written * len(chosen) // step.tasks,
    )


def _choose(work: Work, tasks: npt.NDArray[np.int64]) -> Chosen:
    if is_ordered(work):
        return ChosenOrdered(work, tasks)
    return ChosenRanges(work, tasks) if hasattr(work, "run_range") else Chosen(work, tasks)
