"""The state machine: lists of events in, exact lists of instructions out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkarr.errors import WorkerLostError
from chunkarr.scheduler.state import (
    Abort,
    Cancel,
    Event,
    Finished,
    Instruction,
    Run,
    StepState,
    TaskFailed,
    TaskRangeDone,
    WorkerJoined,
    WorkerLost,
)
from chunkarr.scheduler.steps import Accesses, Cancelled, Context, Step


class Idle:
    def run(self, task: int, context: Context) -> None:
        raise AssertionError


class Ordered:
    def __init__(self, accesses: list[Accesses]) -> None:
        self.list = accesses

    def run(self, task: int, context: Context) -> None:
        raise AssertionError

    def accesses(self, task: int) -> Accesses:
        return self.list[task]


def make(tasks: int, workers: int, work: Any = None, available: int = 1000, **step: Any) -> Any:
    what = Step("step", work or Idle(), tasks, **{"bytes_task": 1, **step})
    return StepState(what, range(workers), available)


def play(state: StepState, *events: Event) -> list[Instruction]:
    return [reply for event in events for reply in state.handle(event)]


def test_a_step_without_tasks_is_finished_at_once() -> None:
    assert make(0, 2).start() == [Finished()]


def test_tasks_of_unknown_length_are_handed_out_one_by_one_in_order() -> None:
    state = make(3, 2)
    assert state.start() == [Run(0, 0, 1), Run(1, 1, 2)]
    assert play(state, TaskRangeDone(1, 1, 2, 1.0)) == [Run(1, 2, 3)]
    assert play(state, TaskRangeDone(0, 0, 1, 1.0)) == []
    assert play(state, TaskRangeDone(1, 2, 3, 1.0)) == [Finished()]


def test_ranges_grow_with_measured_speed_at_most_eightfold() -> None:
    state = make(10_000, 1)
    assert state.start() == [Run(0, 0, 1)]
    assert play(state, TaskRangeDone(0, 0, 1, 1e-6)) == [Run(0, 1, 9)]
    assert play(state, TaskRangeDone(0, 1, 9, 8e-6)) == [Run(0, 9, 73)]
    assert play(state, TaskRangeDone(0, 9, 73, 64e-6)) == [Run(0, 73, 585)]


def test_a_range_lasts_as_long_as_the_target_asks_for() -> None:
    state = make(10_000, 1)
    state.start()
    # 20 ms at 1 ms each.
    play(state, TaskRangeDone(0, 0, 1, 0.001))
    assert play(state, TaskRangeDone(0, 1, 9, 0.008)) == [Run(0, 9, 29)]


def test_the_weight_of_a_step_sizes_its_first_ranges_carefully() -> None:
    assert make(10_000, 1, weight=1e-4).start() == [Run(0, 0, 50)]


def test_ranges_shrink_toward_the_end_so_that_workers_end_together() -> None:
    state = make(100, 2, weight=1e-4)
    lengths, queue = [], state.start()
    while queue:
        match queue.pop(0):
            case Run(worker, start, stop):
                lengths.append(stop - start)
                queue += play(state, TaskRangeDone(worker, start, stop, (stop - start) * 1e-4))
    # Halves of each worker's share, and in the end a sixteenth of the 200 tasks that 20 ms hold.
    assert lengths == [25, 18, 14, 12, 12, 12, 7]


def test_no_more_ranges_run_than_the_bytes_allow() -> None:
    state = make(9, 4, available=35, bytes_task=10, bytes_fixed=5)
    assert state.concurrency == 3
    assert state.start() == [Run(0, 0, 1), Run(1, 1, 2), Run(2, 2, 3)]
    assert play(state, WorkerJoined(7)) == []
    assert play(state, TaskRangeDone(1, 1, 2, 1.0)) == [Run(1, 3, 4)]


def test_waiting_ranges_hold_no_bytes_where_there_are_enough_for_all_that_run() -> None:
    step = Step("step", Idle(), 8, bytes_task=10)
    rich = StepState(step, range(4), 20, depth=2)
    poor = StepState(step, range(4), 10, depth=2)
    assert (rich.concurrency, len(rich.start())) == (2, 4)
    assert (poor.concurrency, len(poor.start())) == (1, 1)


def test_a_step_that_cannot_fit_is_the_planner_s_mistake() -> None:
    with pytest.raises(AssertionError):
        make(1, 1, available=9, bytes_task=10)


def test_a_failed_task_aborts_with_its_error_and_then_nothing_more_is_said() -> None:
    state = make(9, 2)
    state.start()
    error = ValueError("x")
    assert play(state, TaskFailed(1, 1, error)) == [Abort(error)]
    assert play(state, TaskRangeDone(0, 0, 1, 1.0), WorkerJoined(3), Cancel()) == []


def test_cancel_aborts() -> None:
    state = make(9, 2)
    state.start()
    [abort] = play(state, Cancel())
    assert isinstance(abort, Abort)
    assert isinstance(abort.error, Cancelled)


def test_the_range_of_a_lost_worker_goes_to_the_next_one_first() -> None:
    state = make(4, 2)
    state.start()
    assert play(state, WorkerLost(0, "gone")) == []
    assert play(state, TaskRangeDone(1, 1, 2, 1.0)) == [Run(1, 0, 1)]
    assert play(state, WorkerJoined(0)) == [Run(0, 2, 3)]
    assert (state.retries, state.workers_lost) == (1, 1)


def test_a_lost_range_is_tried_again_in_single_tasks() -> None:
    state = make(50, 1, weight=1e-4)
    assert state.start() == [Run(0, 0, 50)]
    assert play(state, WorkerLost(0, "gone"), WorkerJoined(0)) == [Run(0, 0, 1)]
    assert play(state, TaskRangeDone(0, 0, 1, 1e-4)) == [Run(0, 1, 2)]


def test_a_long_lost_range_is_cut_in_pieces_first() -> None:
    state = make(6400, 1, weight=1e-7)
    assert state.start() == [Run(0, 0, 6400)]
    assert play(state, WorkerLost(0, "gone"), WorkerJoined(0)) == [Run(0, 0, 200)]


def test_only_the_task_that_was_running_is_held_against_where_it_is_known() -> None:
    state = make(50, 1, weight=1e-4)
    state.start()
    assert play(state, WorkerLost(0, "gone", 20), WorkerJoined(0)) == [Run(0, 20, 21)]
    assert play(state, TaskRangeDone(0, 20, 21, 1e-4)) == [Run(0, 0, 8)]


def test_a_task_that_costs_three_workers_is_blamed_by_name_with_the_reason() -> None:
    state = make(50, 1, weight=1e-4)
    state.start()
    lost: list[Event] = [WorkerLost(0, "killed by SIGKILL", 20), WorkerJoined(0)]
    assert play(state, *lost, *lost) == [Run(0, 20, 21)] * 2
    [abort] = play(state, *lost)
    assert isinstance(abort, Abort)
    assert isinstance(abort.error, WorkerLostError)
    assert (abort.error.step, abort.error.task) == ("step", 20)
    assert "killed by SIGKILL" in str(abort.error)


def test_a_task_that_may_have_been_waiting_behind_the_guilty_one_gets_a_trial_alone() -> None:
    state = StepState(Step("step", Idle(), 2, 1), range(2), 9, depth=2)
    assert state.start() == [Run(0, 0, 1), Run(1, 1, 2)]
    given_up = WorkerLost(0, "killed", losses=3), WorkerJoined(0)
    assert play(state, *given_up) == []
    assert play(state, WorkerLost(1, "killed", losses=3), WorkerJoined(1)) == [Run(0, 1, 2)]
    assert play(state, TaskRangeDone(0, 1, 2, 1.0)) == [Run(0, 0, 1)]
    [abort] = play(state, *given_up)
    assert isinstance(abort, Abort)
    assert isinstance(abort.error, WorkerLostError)
    assert abort.error.task == 0


def test_workers_that_end_before_they_start_are_not_replaced_for_ever() -> None:
    state = make(5, 0)
    assert state.start() == []
    lost = WorkerLost(0, "exit code 1")
    assert play(state, lost, lost) == []
    [abort] = play(state, lost)
    assert isinstance(abort, Abort)
    assert "before they can start: exit code 1" in str(abort.error)


def test_the_late_word_of_a_worker_that_was_given_up_changes_nothing() -> None:
    state = make(2, 2)
    state.start()
    play(state, WorkerLost(0, "silent"))
    assert play(state, TaskRangeDone(0, 0, 1, 1.0)) == []
    assert state.tasks_done == 0


def test_ordered_tasks_wait_for_what_they_read_and_write() -> None:
    work = Ordered(
        [
            Accesses((), "a"),
            Accesses("a", "b"),
            Accesses("a", "c"),
            Accesses((), "a"),  # after both readers of the first "a"
            Accesses("a", "d"),
            Accesses((), "e"),
        ]
    )
    state = make(6, 3, work)
    assert state.start() == [Run(0, 0, 1), Run(1, 5, 6)]
    assert play(state, TaskRangeDone(0, 0, 1, 1.0)) == [Run(0, 1, 2), Run(2, 2, 3)]
    assert play(state, TaskRangeDone(0, 1, 2, 1.0)) == []
    assert play(state, TaskRangeDone(2, 2, 3, 1.0)) == [Run(0, 3, 4)]
    assert play(state, TaskRangeDone(0, 3, 4, 1.0)) == [Run(0, 4, 5)]
    assert play(state, TaskRangeDone(0, 4, 5, 1.0), TaskRangeDone(1, 5, 6, 1.0)) == [Finished()]


def test_a_lost_task_that_overwrites_what_it_reads_is_not_repeated() -> None:
    state = make(1, 1, Ordered([Accesses("a", "a")]))
    state.start()
    [abort] = play(state, WorkerLost(0, "gone"))
    assert isinstance(abort, Abort)
    assert "cannot be repeated" in str(abort.error)


def test_ordered_tasks_are_looked_at_within_a_window_only() -> None:
    asked: list[int] = []

    class Watched(Ordered):
        def accesses(self, task: int) -> Accesses:
            asked.append(task)
            return Accesses((), (task,))

    state = make(1_000_000, 2, Watched([]))
    state.start()
    play(state, TaskRangeDone(0, 0, 1, 1.0))
    assert len(asked) < 400


class World:
    """Plays executor and workers in a random order, and checks what must always hold."""

    def __init__(self, state: StepState, tasks: int, admitted: int, draw: Any) -> None:
        self.state, self.draw, self.admitted = state, draw, admitted
        self.done = [0] * tasks
        self.running: dict[int, Run] = {}
        self.gone: set[int] = set()
        self.losses_left = 6

    def obey(self, instructions: list[Instruction]) -> bool:
        for instruction in instructions:
            if isinstance(instruction, Run):
                assert instruction.worker not in self.running
                assert instruction.worker not in self.gone
                assert instruction.start < instruction.stop
                self.running[instruction.worker] = instruction
                self.started(instruction)
            else:
                return isinstance(instruction, Finished)
        assert len(self.running) <= self.admitted
        return False

    def started(self, ran: Run) -> None:
        """Is overridden where order matters."""

    def event(self) -> Event:
        if self.gone and (not self.running or self.draw(st.booleans())):
            return WorkerJoined(self.gone.pop())
        worker = self.draw(st.sampled_from(sorted(self.running)))
        ran = self.running.pop(worker)
        if self.losses_left and self.draw(st.integers(0, 3)) == 0:
            self.losses_left -= 1
            self.gone.add(worker)
            hint = self.draw(st.none() | st.integers(ran.start, ran.stop - 1))
            return WorkerLost(worker, "gone", hint)
        for task in range(ran.start, ran.stop):
            self.done[task] += 1
        seconds = self.draw(st.sampled_from([0.0, 1e-6, 1e-3, 1.0])) * (ran.stop - ran.start)
        return TaskRangeDone(worker, ran.start, ran.stop, seconds)

    def play(self) -> bool:
        """Run to the end; tell whether it was reached without blame."""
        instructions = self.state.start()
        for _ in range(10_000):
            if self.obey(instructions):
                return True
            if self.state.ended:
                return False
            instructions = self.state.handle(self.event())
        raise AssertionError("does not end")


@given(st.data())
def test_every_task_is_done_once_whatever_is_lost_and_never_over_budget(data: Any) -> None:
    tasks, workers = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 5))
    admitted = data.draw(st.integers(1, 6))
    weight = data.draw(st.sampled_from([1.0, 1e-3, 1e-6]))
    step = Step("step", Idle(), tasks, 10, weight=weight)
    depth = data.draw(st.integers(1, 2))
    state = StepState(step, range(workers), 10 * admitted, depth=depth)
    admitted = max(admitted, admitted * depth if admitted * depth >= workers else 0)
    world = World(state, tasks, admitted, data.draw)
    if world.play():
        assert world.done == [1] * tasks
        assert not world.running


@given(st.data())
def test_ordered_tasks_run_as_the_sequential_program_would(data: Any) -> None:
    tiles = st.lists(st.integers(0, 3), max_size=2)
    written = st.lists(st.integers(0, 3), min_size=1, max_size=2)
    accesses = data.draw(st.lists(st.builds(Accesses, tiles, written), min_size=1, max_size=60))
    state = make(len(accesses), data.draw(st.integers(1, 4)), Ordered(accesses))

    class Checked(World):
        def started(self, ran: Run) -> None:
            for task in range(ran.start, ran.stop):
                now = accesses[task]
                for before in range(task):
                    then = accesses[before]
                    conflict = set(then.writes) & {*now.reads, *now.writes}
                    conflict |= set(then.reads) & set(now.writes)
                    assert self.done[before] or not conflict

    world = Checked(state, len(accesses), 99, data.draw)
    world.losses_left = 0
    assert world.play()
    assert world.done == [1] * len(accesses)
