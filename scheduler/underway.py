"""A range that a Dask cluster was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkarr.scheduler.endings import Former
from chunkarr.scheduler.steps import Step, is_ordered


@dataclass(slots=True)
class UnderWay:
    """A range that was submitted, or is a suspect and waits for that."""

    worker: int
    step: int
    start: int
    stop: int
    futures: dict[str, Any]
    """Its tasks by key: one, and another one where its worker does not answer."""
    began: float
    suspect: bool = False
    """Whether Dask gave up what it belongs to, so that it is tried on one worker at a time."""
    tried_on: Former | None = None

    def repeatable(self, steps: Sequence[Step]) -> bool:
        """Whether two workers may run it: its tasks do not write what they read."""
        work = steps[self.step].work
        if not is_ordered(work):
            return True
        touched = map(work.accesses, range(self.start, self.stop))
        return all(set(task.reads).isdisjoint(task.writes) for task in touched)
