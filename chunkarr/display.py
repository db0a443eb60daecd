"""What a person sees of a run: the table of a plan, and progress while it goes on.

Progress appears only where somebody can look at it, and only after two seconds: most runs are over
by then. The drawing itself is in `chunkarr.progress`, which is loaded at that moment and not
before. How far a run has come is told in bytes and not in tasks, because steps are unlike: ten
tasks that read gigabytes and a million that touch kilobytes.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from chunkarr.errors import format_bytes
from chunkarr.plan.plan import Row
from chunkarr.records import dataclass
from chunkarr.scheduler.run import Observer, StepRecord, Trace
from chunkarr.scheduler.steps import Step

SECONDS_SILENT = 2.0
"""Runs shorter than this show no progress."""
SECONDS_REDRAW = 0.1

_listeners: ContextVar[tuple[Observer, ...]] = ContextVar("chunkarr_listeners", default=())


def explain_table(
    rows: Sequence[Row],
    bytes_limit: int | None = None,
    records: Sequence[StepRecord] = (),
    bytes_spilled: int = 0,
) -> str:
    """Lay out a plan as a table, one line per step and one for the whole.

    `records` of a run add what happened, one per row.

    >>> print(explain_table([Row("sum", "a.py:3", 8, 1 << 20, 8, 1 << 17, 1, 0.25)]))
    #  operation  where   tasks     read  written       peak  passes   time
    1  sum        a.py:3      8  1.0 MiB      8 B  128.0 KiB       1  0.2 s
    """
    head = ["#", "operation", "where", "tasks", "read", "written", "peak", "passes", "time"]
    lines = [_cells(str(number), row) for number, row in enumerate(rows, 1)]
    if len(rows) > 1:
        lines.append(_cells("", _total(rows)))
    if records:
        head += ["actual time", "actual peak"]
        for line, seconds, peak in zip(lines, *_actual(records), strict=False):
            line += [format_seconds(seconds), format_bytes(peak) if peak else ""]
    text = format_table([head, *lines], left=(1, 2))
    if bytes_limit is None:
        return text
    peak = max((row.bytes_peak for row in rows), default=0)
    spilled = f", {format_bytes(bytes_spilled)} spilled to disk" if bytes_spilled else ""
    return f"{text}\npeak {format_bytes(peak)} of the limit of {format_bytes(bytes_limit)}{spilled}"


def format_table(lines: Sequence[Sequence[str]], left: Sequence[int] = ()) -> str:
    """Align columns, to the right except those in `left`.

    >>> print(format_table([["name", "n"], ["a", "10"]], left=[0]))
    name   n
    a     10
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = (
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def format_seconds(seconds: float) -> str:
    """Spell a duration.

    >>> format_seconds(0.0021), format_seconds(75), format_seconds(7260)
    ('2.1 ms', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _cells(number: str, row: Row) -> list[str]:
    return [
        number,
        row.name,
        row.where,
        f"{row.tasks:,}",
        format_bytes(row.bytes_read),
        format_bytes(row.bytes_written),
        format_bytes(row.bytes_peak),
        str(row.passes),
        format_seconds(row.seconds),
    ]


def _total(rows: Sequence[Row]) -> Row:
    return Row(
        name="all",
        where="",
        tasks=sum(row.tasks for row in rows),
        bytes_read=sum(row.bytes_read for row in rows),
        bytes_written=sum(row.bytes_written for row in rows),
        bytes_peak=max(row.bytes_peak for row in rows),
        passes=max(row.passes for row in rows),
        seconds=sum(row.seconds for row in rows),
    )


def _actual(records: Sequence[StepRecord]) -> tuple[list[float], list[int]]:
    """Give the seconds and peaks of steps, and of all together at the end."""
    seconds = [record.seconds for record in records]
    peaks = [record.bytes_peak for record in records]
    return [*seconds, sum(seconds)], [*peaks, max(peaks)]


@contextmanager
def listening(observer: Observer) -> Iterator[None]:
    """Tell an observer about every run that starts in the block."""
    token = _listeners.set((*_listeners.get(), observer))
    try:
        yield
    finally:
        _listeners.reset(token)


@contextmanager
def watching(steps: Sequence[Step], bytes_limit: int) -> Iterator[Observer | None]:
    """Give the observer that a run of `steps` should report to; for the block of that run only.

    The screen is put in order when the block ends, however it ends.
    """
    listeners = _listeners.get()
    shown = sys.stderr is not None and sys.stderr.isatty()
    if not shown and not listeners:
        yield None
        return
    screen = Screen(steps, bytes_limit) if shown else None
    try:
        yield _Everyone((*listeners, screen) if screen else listeners)
    finally:
        if screen is not None:
            screen.close()


@dataclass(slots=True)
class Tally:
    """An observer that adds up what runs took."""

    bytes_read: int = 0
    bytes_written: int = 0
    bytes_peak: int = 0
    """The largest sample of the process tree's memory; 0 when all runs were too short for one."""
    steps: int = 0
    seconds: float = 0.0

    def step_started(self, step: Step, index: int, count: int) -> None:
        """Nothing is known yet."""

    def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
        """Only finished steps are added up."""

    def step_finished(self, record: StepRecord) -> None:
        """Add a step."""
        self.steps += 1
        self.bytes_read += record.bytes_read
        self.bytes_written += record.bytes_written
        self.bytes_peak = max(self.bytes_peak, record.bytes_peak)

    def finished(self, trace: Trace) -> None:
        """Add the time of a run."""
        self.seconds += trace.seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run has come."""

    operation: str
    step: int
    steps: int
    bytes_done: float
    bytes_all: float
    seconds: float

    @property
    def share(self) -> float:
        """The share of the work that is done, from 0 to 1."""
        return min(1.0, self.bytes_done / self.bytes_all) if self.bytes_all else 0.0

    @property
    def bytes_second(self) -> float:
        """Bytes moved per second so far."""
        return self.bytes_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the speed so far, or None when that is not known yet."""
        speed = self.bytes_second
        return (self.bytes_all - self.bytes_done) / speed if speed > 0 else None


class Screen:
    """An observer that shows progress on the terminal once a run has lasted two seconds."""

    def __init__(
        self,
        steps: Sequence[Step],
        bytes_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._bytes_limit = bytes_limit
        self._bytes_all = float(sum(map(_bytes_moved, steps)))
        self._bytes_before = 0.0
        self._step: Step | None = None
        self._place = (0, 0)
        self._began = self._drawn = clock()
        self._painter: Any = None

    def step_started(self, step: Step, index: int, count: int) -> None:
        """Remember the step."""
        self._step, self._place = step, (index + 1, count)

    def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
        """Draw, but not too early and not too often."""
        now = self._clock()
        if now - self._began < SECONDS_SILENT or now - self._drawn < SECONDS_REDRAW:
            return
        self._drawn = now
        if self._painter is None:
            self._painter = importlib.import_module("chunkarr.progress").Painter(self._bytes_limit)
        self._painter.draw(self.standing(tasks_done, tasks, now - self._began))

    def standing(self, tasks_done: int, tasks: int, seconds: float) -> Standing:
        """Work out how far the run has come."""
        assert self._step is not None
        share = tasks_done / tasks if tasks else 1.0
        return Standing(
            operation=self._step.name,
            step=self._place[0],
            steps=self._place[1],
            bytes_done=self._bytes_before + share * _bytes_moved(self._step),
            bytes_all=self._bytes_all,
            seconds=seconds,
        )

    def step_finished(self, record: StepRecord) -> None:
        """Count the step's bytes as done."""
        assert self._step is not None
        self._bytes_before += _bytes_moved(self._step)

    def finished(self, trace: Trace) -> None:
        """Leave the screen as it was."""
        self.close()

    def close(self) -> None:
        """Take the progress off the screen; harmless when called twice."""
        painter, self._painter = self._painter, None
        if painter is not None:
            painter.close()


class _Everyone:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def step_started(self, step: Step, index: int, count: int) -> None:
        for observer in self._observers:
            observer.step_started(step, index, count)

    def progress(self, tasks_done: int, tasks: int, seconds: float) -> None:
        for observer in self._observers:
            observer.progress(tasks_done, tasks, seconds)

    def step_finished(self, record: StepRecord) -> None:
        for observer in self._observers:
            observer.step_finished(record)

    def finished(self, trace: Trace) -> None:
        for observer in self._observers:
            observer.finished(trace)


def _bytes_moved(step: Step) -> float:
    """Bytes that stand for a step's work; what its tasks hold where it neither reads nor writes."""
    return float(step.bytes_read + step.bytes_written or step.tasks * max(1, step.bytes_task))
