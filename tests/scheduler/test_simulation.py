"""A thousand workers on paper: stragglers, losses, late and doubled replies, a made-up clock.

The state machine does nothing, so its surroundings can be made up: a heap of events in the order of
their times, from a seed. What runs here in a second would keep a thousand machines busy for hours.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from chunkarr.errors import WorkerLostError
from chunkarr.scheduler.state import (
    ATTEMPTS_MAX,
    Abort,
    Event,
    Finished,
    Instruction,
    Run,
    StepState,
    TaskRangeDone,
    WorkerJoined,
    WorkerLost,
)
from chunkarr.scheduler.steps import Accesses, Context, Step

WORKERS = 1000
BYTES_TASK = 64 << 20


class Idle:
    def run(self, task: int, context: Context) -> None:
        raise AssertionError


class Columns(Idle):
    """Tasks of a left-looking factorisation: each waits for the one above and the one before."""

    def __init__(self, side: int) -> None:
        self.side = side

    def before(self, task: int) -> list[int]:
        column, row = divmod(task, self.side)
        return [task - self.side] * (column > 0) + [task - 1] * (row > 0)

    def accesses(self, task: int) -> Accesses:
        return Accesses(self.before(task), (task,))


@dataclass
class Cluster:
    """Made-up workers: how long they take, how often they die, what else they do wrong."""

    seed: int
    seconds_task: float = 0.25
    spread: float = 0.3
    """Tasks take between 1 - spread and 1 + spread of that."""
    slow: float = 0.0
    """Part of the workers that take ten times as long."""
    losses: float = 0.0
    """Chance that a worker dies over a range."""
    doubles: float = 0.0
    """Chance that a reply comes twice, the second time late."""
    guilty: int | None = None
    """A task that ends each worker."""

    chance: random.Random = field(init=False)
    ticket: Any = field(default_factory=itertools.count)
    events: list[tuple[float, int, Event]] = field(default_factory=list)
    now: float = 0.0
    busy: dict[int, tuple[int, int]] = field(default_factory=dict)
    running_max: int = 0
    done: Counter[int] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)
    seconds_useful: float = 0.0
    lost: int = 0
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def play(self, state: StepState) -> None:
        """Run a step to its end."""
        instructions = state.start()
        while not self.obey(state, instructions):
            assert self.events, "nothing is under way and the step is not finished: starved"
            self.now, _, event = heapq.heappop(self.events)
            self.note(event)
            instructions = state.handle(event)

    def obey(self, state: StepState, instructions: list[Instruction]) -> bool:
        for instruction in instructions:
            match instruction:
                case Run(worker, start, stop):
                    assert worker not in self.busy, "a worker that is busy was given a range"
                    self.busy[worker] = (start, stop)
                    self.runs.update(range(start, stop))
                    self.running_max = max(self.running_max, len(self.busy))
                    self.run(worker, start, stop)
                case Abort(error):
                    self.error = error
                    return True
                case Finished():
                    return True
        return False

    def run(self, worker: int, start: int, stop: int) -> None:
        """Make up what becomes of a range."""
        speed = 10.0 if worker % 1000 < self.slow * 1000 else 1.0
        varied = self.chance.uniform(1 - self.spread, 1 + self.spread)
        seconds = (stop - start) * self.seconds_task * varied * speed
        guilty = self.guilty is not None and start <= self.guilty < stop
        if guilty or self.chance.random() < self.losses:
            task = self.guilty if guilty else self.chance.randrange(start, stop)
            at = self.now + seconds * self.chance.random()
            known = task if self.chance.random() < 0.5 else None
            self.tell(at, WorkerLost(worker, "gone", known))
            self.tell(at + self.chance.uniform(0.5, 5.0), WorkerJoined(worker))
            return
        reply = TaskRangeDone(worker, start, stop, seconds)
        self.tell(self.now + seconds, reply)
        if self.chance.random() < self.doubles:
            self.tell(self.now + seconds * self.chance.uniform(1.0, 3.0), reply)

    def tell(self, at: float, event: Event) -> None:
        heapq.heappush(self.events, (at, next(self.ticket), event))

    def note(self, event: Event) -> None:
        """Keep the books that the state machine's are compared with."""
        match event:
            case TaskRangeDone(worker, start, stop, seconds):
                if self.busy.get(worker) == (start, stop):
                    del self.busy[worker]
                    self.done.update(range(start, stop))
                    self.seconds_useful += seconds
            case WorkerLost(worker):
                self.busy.pop(worker, None)
                self.lost += 1


def step_of(tasks: int, work: Any = None) -> Step:
    return Step("step", work or Idle(), tasks, BYTES_TASK, weight=0.2)


def state_of(step: Step, admitted: int = WORKERS) -> StepState:
    return StepState(step, range(WORKERS), admitted * BYTES_TASK, target_seconds=2.0)


CASES: dict[str, tuple[Cluster, float]] = {
    "alike": (Cluster(1), 0.95),
    "varied": (Cluster(2, spread=0.9), 0.9),
    "some are slow": (Cluster(3, slow=0.05), 0.85),
    "some die": (Cluster(4, losses=0.01), 0.9),
    "replies come twice": (Cluster(5, doubles=0.3), 0.95),
    "all of it": (Cluster(6, spread=0.8, slow=0.02, losses=0.02, doubles=0.1), 0.6),
}
"""Clusters, and how much of the workers' time they use at least.

The runs last a minute. Where slow workers take half of one for a range, the end is what it costs.
"""


@pytest.mark.parametrize("name", CASES)
def test_a_thousand_workers_do_each_task_and_are_kept_busy(name: str, record_property: Any) -> None:
    cluster, least = CASES[name]
    tasks = 200_000
    state = state_of(step_of(tasks))
    began = time.process_time()
    cluster.play(state)
    took = time.process_time() - began
    assert cluster.error is None
    assert sorted(cluster.done) == list(range(tasks))
    assert set(cluster.done.values()) == {1}
    assert max(cluster.runs.values()) <= ATTEMPTS_MAX
    assert cluster.running_max <= WORKERS
    assert state.workers_lost == cluster.lost
    utilisation = cluster.seconds_useful / (cluster.now * WORKERS)
    record_property("utilisation", round(utilisation, 3))
    record_property("seconds", round(cluster.now, 1))
    record_property("microseconds_per_task", round(took / tasks * 1e6, 2))
    assert utilisation > least, f"{utilisation:.3f} in {cluster.now:.0f} s"


def test_memory_bounds_what_runs_whatever_happens() -> None:
    cluster = Cluster(7, spread=0.8, losses=0.005, doubles=0.2)
    cluster.play(state_of(step_of(50_000), admitted=120))
    assert cluster.running_max <= 120
    assert sorted(cluster.done) == list(range(50_000))


def test_a_task_that_ends_its_workers_is_found_among_a_hundred_thousand() -> None:
    cluster = Cluster(8, losses=0.0, guilty=77_777)
    cluster.play(state_of(step_of(100_000)))
    assert isinstance(cluster.error, WorkerLostError)
    assert cluster.error.task == 77_777
    assert cluster.lost <= 3 * ATTEMPTS_MAX
    assert cluster.runs[77_777] <= 3 * ATTEMPTS_MAX


def test_a_guilty_task_is_not_excused_by_innocent_losses() -> None:
    cluster = Cluster(9, losses=0.02, guilty=500)
    cluster.play(state_of(step_of(20_000)))
    assert isinstance(cluster.error, WorkerLostError)
    assert cluster.error.task == 500


def test_a_factorisation_is_run_in_an_order_that_it_allows() -> None:
    side = 60
    work = Columns(side)
    cluster = Cluster(10, spread=0.9, doubles=0.1)
    finished: set[int] = set()
    given: list[Run] = []
    state = state_of(step_of(side * side, work))
    handle = state.handle

    def watched(event: Event) -> list[Instruction]:
        if isinstance(event, TaskRangeDone):
            finished.update(range(event.start, event.stop))
        out = handle(event)
        for instruction in out:
            if isinstance(instruction, Run):
                given.append(instruction)
                before = set(range(instruction.start, instruction.stop))
                for task in before:
                    assert set(work.before(task)) <= finished | before
        return out

    state.handle = watched  # type: ignore[method-assign]
    cluster.play(state)
    assert cluster.error is None
    assert sorted(cluster.done) == list(range(side * side))
    assert len(given) > side


def test_ten_million_tasks_cost_little_each() -> None:
    step = step_of(10_000_000)
    began = time.process_time()
    state = StepState(step, range(WORKERS), 1 << 62, target_seconds=20.0)
    cluster = Cluster(11, seconds_task=0.01)
    cluster.runs = cluster.done = NoBooks()
    cluster.play(state)
    assert state.tasks_done == step.tasks
    assert time.process_time() - began < 10
    assert cluster.seconds_useful / (cluster.now * WORKERS) > 0.95


class NoBooks(Counter[int]):
    """Counts nothing: ten million tasks are too many for a book."""

    def update(self, *_: Any, **__: Any) -> None:
        pass
