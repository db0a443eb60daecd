"""What a step does next: events in, instructions out.

This is the whole of scheduling, and it does nothing: no clock, no lock, no thread, no file. The
loop in `run` and the executors act; here is decided. So a lost worker, a cancelled run or an odd
order of events is a list in a test, and every executor behaves alike.

Tasks are handed out as ranges of task numbers ("morsels", Leis et al., SIGMOD 2014). A range is as
long as `target_seconds` asks for, from the times that were measured, and shorter toward the end,
so that workers end together (guided self-scheduling, Polychronopoulos and Kuck, 1987). No more
ranges run at once than the bytes allow.

A lost worker's range is tried again. Where the executor knows which task was running, only that one
is held against; else the range is cut finer with each loss. A single task that has cost three
workers is blamed by name.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from chunkarr.errors import WorkerLostError
from chunkarr.records import dataclass
from chunkarr.scheduler.order import Frontier
from chunkarr.scheduler.steps import Cancelled, Step, is_ordered

ATTEMPTS_MAX = 3
"""Workers that one task may cost."""
GROWTH_MAX = 8
"""A range is at most this many times as long as the longest one measured: costs vary."""
TAIL_PARTS = 16
"""Toward the end ranges shrink to this part of the target, not to single tasks."""
PIECES = 32
"""A range whose worker was lost is cut in this many pieces, or in single tasks."""
WINDOW_MIN = 256
"""Tasks of an ordered step that are looked at together, at least."""


@dataclass(frozen=True, slots=True)
class TaskRangeDone:
    """A worker has done the tasks it was given, in so many seconds."""

    worker: int
    start: int
    stop: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task raised an exception."""

    worker: int
    task: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker has ended and its range with it; `task` is where it was, if that is known."""

    worker: int
    reason: str
    task: int | None = None
    losses: int = 1
    """How many workers were lost over it, where a transport tries again by itself."""


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker can take ranges."""

    worker: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The run is given up."""


Event = TaskRangeDone | TaskFailed | WorkerLost | WorkerJoined | Cancel


@dataclass(frozen=True, slots=True)
class Run:
    """Let a worker run the tasks from `start` to before `stop`."""

    worker: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Give the step up and raise `error`."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Finished:
    """All tasks are done."""


Instruction = Run | Abort | Finished


@dataclass(slots=True)
class _Range:
    """Tasks to run together; `length_max` limits how many of them go to a worker at once."""

    start: int
    stop: int
    losses: int = 0
    length_max: int | None = None
    alone: bool = False
    """Whether nothing else may be under way with it."""


class StepState:
    """One step on its way: call `start`, then `handle` for each event, and do what they return.

    `workers` are those that can take a range now; more may join. `bytes_available` is what the step
    may hold. `depth` is how many of the workers share one runner: a transport with long ways keeps
    a second range waiting, and a waiting range holds no bytes.

    >>> step = Step("add", None, tasks=3, bytes_task=8)
    >>> state = StepState(step, [0, 1], bytes_available=64)
    >>> state.start()
    [Run(worker=0, start=0, stop=1), Run(worker=1, start=1, stop=2)]
    >>> state.handle(TaskRangeDone(1, 1, 2, 0.5))
    [Run(worker=1, start=2, stop=3)]
    """

    def __init__(
        self,
        step: Step,
        workers: Iterable[int],
        bytes_available: int,
        *,
        target_seconds: float = 0.02,
        depth: int = 1,
    ) -> None:
        self.step = step
        self.tasks_done = 0
        self.seconds_busy = 0.0
        self.retries = 0
        self.workers_lost = 0
        self.ended = False
        self._target_seconds, self._depth = target_seconds, depth
        self._idle = sorted(set(workers))
        self._running: dict[int, _Range] = {}
        self._retry: deque[_Range] = deque()
        self._next = 0
        self._losses_idle = 0
        self._seconds_task = max(step.weight, 1e-9)
        self._length_max = 0
        bytes_free = bytes_available - step.bytes_fixed
        assert not step.tasks or bytes_free >= step.bytes_task, "the planner lets no such step pass"
        self._admitted = bytes_free // step.bytes_task if step.bytes_task else step.tasks
        self._frontier: Frontier | None = None
        if is_ordered(step.work):
            window = max(WINDOW_MIN, 32 * len(self._idle))
            self._frontier = Frontier(step.work.accesses, step.tasks, window)

    @property
    def concurrency(self) -> int:
        """How many tasks may run at the same time."""
        runners = -(-self._slots() // self._depth)
        return max(1, min(runners, self._admitted, self.step.tasks))

    def start(self) -> list[Instruction]:
        """Give the first instructions."""
        return self._dispatch()

    def handle(self, event: Event) -> list[Instruction]:
        """Take an event and give the instructions that follow; after the end there are none."""
        if self.ended:
            return []
        match event:
            case TaskRangeDone():
                self._range_done(event)
            case TaskFailed(worker, _, error):
                if worker in self._running:
                    return self._abort(error)
            case WorkerLost():
                blame = self._worker_lost(event)
                if blame is not None:
                    return self._abort(blame)
            case WorkerJoined(worker):
                if worker not in self._running and worker not in self._idle:
                    bisect.insort(self._idle, worker)
            case Cancel():
                return self._abort(Cancelled())
        return self._dispatch()

    # Events

    def _range_done(self, event: TaskRangeDone) -> None:
        given = self._running.get(event.worker)
        if given is None or (given.start, given.stop) != (event.start, event.stop):
            return  # a late word of a worker that was given up
        del self._running[event.worker]
        bisect.insort(self._idle, event.worker)
        length = given.stop - given.start
        self.tasks_done += length
        self.seconds_busy += event.seconds
        self._losses_idle = 0
        seconds_task = max(event.seconds / length, 1e-9)
        if self._length_max:
            seconds_task = (self._seconds_task + seconds_task) / 2
        self._seconds_task = seconds_task
        self._length_max = max(self._length_max, length)
        if self._frontier is not None:
            for task in range(given.start, given.stop):
                self._frontier.end(task)

    def _worker_lost(self, event: WorkerLost) -> BaseException | None:
        """Book a lost worker and requeue its range; give an error where there is no way on."""
        if event.worker in self._idle:
            self._idle.remove(event.worker)
        self.workers_lost += 1
        given = self._running.pop(event.worker, None)
        if given is None:
            self._losses_idle += 1
            alive = self._idle or self._running
            if alive or self._losses_idle < ATTEMPTS_MAX:
                return None
            first = self._retry[0].start if self._retry else self._next
            reason = f"no worker is left, and new ones end before they can start: {event.reason}"
            return WorkerLostError(self.step.name, first, reason)
        return self._requeue(given, event)

    def _requeue(self, given: _Range, event: WorkerLost) -> BaseException | None:
        start, stop, losses = given.start, given.stop, given.losses + event.losses
        if self._frontier is not None:
            for task in range(start, stop):
                if self._frontier.overwrites(task):
                    reason = f"{event.reason}; it overwrites what it reads and cannot be repeated"
                    return WorkerLostError(self.step.name, task, reason)
        self.retries += 1
        if event.task is not None and start <= event.task < stop and stop - start > 1:
            suspect = event.task
            for left, right in ((start, suspect), (suspect + 1, stop)):
                if left < right:
                    self._retry.append(_Range(left, right, given.losses, given.length_max))
            # Suspects go first: if one is to blame, that should be known before the work is done.
            self._retry.appendleft(_Range(suspect, suspect + 1, losses, 1))
            return None
        length = stop - start
        convicted = length == 1 and losses >= ATTEMPTS_MAX
        # A range that was waiting behind the guilty one dies with it, and would be blamed for it.
        if convicted and (given.alone or self._depth == 1):
            reason = f"{event.reason}; it was tried {losses} times"
            return WorkerLostError(self.step.name, start, reason)
        length_max = 1 if length <= 2 * PIECES else -(-length // PIECES)
        self._retry.appendleft(_Range(start, stop, losses, length_max, alone=convicted))
        return None

    def _abort(self, error: BaseException) -> list[Instruction]:
        self.ended = True
        return [Abort(error)]

    # What comes next

    def _dispatch(self) -> list[Instruction]:
        out: list[Instruction] = []
        if self.tasks_done == self.step.tasks:
            self.ended = True
            return [Finished()]
        while self._idle and len(self._running) < self._running_max():
            piece = self._take()
            if piece is None:
                break
            worker = self._idle.pop(0)
            self._running[worker] = piece
            out.append(Run(worker, piece.start, piece.stop))
        return out

    def _slots(self) -> int:
        return len(self._idle) + len(self._running)

    def _running_max(self) -> int:
        slots = self._slots()
        # With bytes for every runner, ranges may also wait behind those that run.
        return slots if self._admitted * self._depth >= slots else self._admitted

    def _take(self) -> _Range | None:
        """Cut the next range off what is left, tasks of lost workers first."""
        if self.retries and any(given.alone for given in self._running.values()):
            return None
        if self._retry:
            queued = self._retry[0]
            if queued.alone and self._running:
                return None
            length = self._length(queued.stop - queued.start)
            stop = min(queued.stop, queued.start + min(length, queued.length_max or length))
            taken = replace(queued, stop=stop)
            queued.start = stop
            if queued.start == queued.stop:
                self._retry.popleft()
            return taken
        if self._frontier is not None:
            share = -(-len(self._frontier) // max(1, min(self._slots(), self._running_max())))
            ready = self._frontier.take(min(max(1, share), self._length(self.step.tasks)))
            return None if ready is None else _Range(ready.start, ready.stop)
        if self._next == self.step.tasks:
            return None
        start = self._next
        self._next += self._length(self.step.tasks - start)
        return _Range(start, self._next)

    def _length(self, remaining: int) -> int:
        """How many of the remaining tasks go to a worker together."""
        wanted = self._target_seconds / self._seconds_task
        if self._length_max:
            wanted = min(wanted, GROWTH_MAX * self._length_max)
        else:
            wanted /= 4  # the weight is an estimate
        slots = min(self._slots(), self._running_max())
        tail = remaining if slots == 1 else remaining / (2 * slots)
        return max(1, min(remaining, int(min(wanted, max(tail, wanted / TAIL_PARTS)))))
