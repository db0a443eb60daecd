"""What is left to do of a plan whose output is partly there: from missing chunks back to sources.

A run that resumes another finds chunks of its output, and nothing of what was on the way to them:
scratch goes with its process. The steps are walked from the last to the first. A task is done again
if it writes a missing chunk, or a part of scratch that a task behind it reads. So a run that lacks
one chunk reads what that chunk is made of. Tasks stay what they were, and so do their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.grid import Region, region_of, region_shape
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Step, Work, is_telltale
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


class _Wanted:
    """The chunks of scratch that are read by tasks which are done again."""

    def __init__(self, scratch: Sequence[Store]) -> None:
        grids = {id(store): store.grid for store in scratch}
        self._cells = {key: np.zeros(grid.counts, bool) for key, grid in grids.items()}

    def add(self, box: Box) -> None:
        """Note that a box is read."""
        store, place = self._place(box)
        if store is not None:
            self._cells[id(store)][place] = True

    def add_all(self) -> None:
        """Note that everything may be read."""
        for cells in self._cells.values():
            cells[...] = True

    def lacks(self, box: Box) -> bool:
        """Whether what a task writes is wanted; what is no scratch is, unless it was kept."""
        if 0 in region_shape(box[1]):
            return False
        store, place = self._place(box)
        if store is None:
            return not box[0].holds(box[1])
        return bool(self._cells[id(store)][place].any())

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
    for task in range(step.tasks):
        touched = work.touched(task)
        if any(map(wanted.lacks, touched.writes)):
            chosen.append(task)
            for box in touched.reads:
                wanted.add(box)
    if len(chosen) == step.tasks:
        return step
    kind = ChosenRanges if hasattr(work, "run_range") else Chosen
    return replace(
        step,
        work=kind(work, np.array(chosen, np.int64)),
        tasks=len(chosen),
        bytes_read=step.bytes_read * len(chosen) // step.tasks,
        bytes_written=step.bytes_written * len(chosen) // step.tasks,
    )
