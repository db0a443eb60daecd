"""What a person sees of a run: tables, and progress that is told in bytes."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest
from rich.console import Console

from chunkarr.display import (
    Screen,
    Standing,
    Tally,
    explain_table,
    format_seconds,
    listening,
    watching,
)
from chunkarr.plan.plan import Row
from chunkarr.progress import Painter
from chunkarr.scheduler.run import StepRecord, Trace
from chunkarr.scheduler.steps import Context, Step

MIB = 1 << 20


@dataclass
class Nothing:
    """Work that does nothing."""

    def run(self, task: int, context: Context) -> None: ...


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step(name: str, bytes_read: int = 0, bytes_written: int = 0, tasks: int = 4) -> Step:
    return Step(name, Nothing(), tasks, 10, bytes_read=bytes_read, bytes_written=bytes_written)


def record(of: Step, seconds: float = 1.0, bytes_peak: int = 0) -> StepRecord:
    return StepRecord(
        name=of.name,
        where="",
        tasks=of.tasks,
        concurrency=1,
        seconds=seconds,
        seconds_busy=seconds,
        bytes_read=of.bytes_read,
        bytes_written=of.bytes_written,
        bytes_peak=bytes_peak,
        retries=0,
        workers_lost=0,
    )


ROWS = [
    Row("load x", "a.py:1", 1000, 800 * MIB, 0, 64 * MIB, 1, 0.5),
    Row("mean", "a.py:2", 8, 0, 8, 32 * MIB, 2, 70.0),
]


def test_a_plan_is_a_table_with_a_total() -> None:
    assert explain_table(ROWS, 256 * MIB).splitlines() == [
        "#  operation  where   tasks       read  written      peak  passes        time",
        "1  load x     a.py:1  1,000  800.0 MiB      0 B  64.0 MiB       1       0.5 s",
        "2  mean       a.py:2      8        0 B      8 B  32.0 MiB       2  1 min 10 s",
        "   all                1,008  800.0 MiB      8 B  64.0 MiB       2  1 min 10 s",
        "peak 64.0 MiB of the limit of 256.0 MiB",
    ]


def test_a_plan_that_spills_says_how_much() -> None:
    text = explain_table(ROWS, 256 * MIB, bytes_spilled=2 * MIB)
    assert text.endswith("of the limit of 256.0 MiB, 2.0 MiB spilled to disk")


def test_a_plan_that_ran_shows_what_happened() -> None:
    records = [
        record(step("load x"), seconds=0.25, bytes_peak=2 * MIB),
        record(step("mean"), seconds=0.5),
    ]
    lines = explain_table(ROWS, records=records).splitlines()
    assert lines[0].endswith("time  actual time  actual peak")
    assert lines[1].endswith("0.2 s      2.0 MiB")
    assert lines[2].endswith("0.5 s")
    assert lines[3].endswith("0.8 s      2.0 MiB")


def test_a_plan_without_steps_is_a_head_line() -> None:
    assert explain_table([], MIB).splitlines()[1] == "peak 0 B of the limit of 1.0 MiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 ms"), (0.5, "0.5 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (90061, "25 h 1 min")],
)
def test_durations_are_spelled(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_the_time_left_comes_from_bytes_and_not_from_tasks() -> None:
    steps = [step("read", bytes_read=900, tasks=2), step("write", bytes_written=100, tasks=1000)]
    screen = Screen(steps, MIB, Clock())
    screen.step_started(steps[0], 0, 2)
    standing = screen.standing(1, 2, 4.5)
    assert (standing.bytes_done, standing.share) == (450, 0.45)
    assert standing.bytes_second == 100
    assert standing.seconds_left == 5.5
    screen.step_finished(record(steps[0]))
    screen.step_started(steps[1], 1, 2)
    standing = screen.standing(0, 1000, 9.0)
    assert (standing.bytes_done, standing.step, standing.steps) == (900, 2, 2)
    assert standing.seconds_left == 1.0


def test_a_step_that_moves_nothing_counts_by_what_its_tasks_hold() -> None:
    steps = [step("compute", tasks=10)]
    screen = Screen(steps, MIB, Clock())
    screen.step_started(steps[0], 0, 1)
    assert screen.standing(5, 10, 1.0).share == 0.5


def test_nothing_is_known_at_the_start() -> None:
    screen = Screen([step("read", bytes_read=10)], MIB, Clock())
    screen.step_started(step("read", bytes_read=10), 0, 1)
    assert screen.standing(0, 4, 0.0).seconds_left is None


def test_progress_is_silent_for_two_seconds_and_not_drawn_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[float] = []
    closed: list[bool] = []

    class FakePainter:
        def __init__(self, bytes_limit: int) -> None: ...

        def draw(self, standing: Standing) -> None:
            drawn.append(standing.seconds)

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr("chunkarr.progress.Painter", FakePainter)
    clock = Clock()
    one = step("read", bytes_read=100)
    screen = Screen([one], MIB, clock)
    screen.step_started(one, 0, 1)
    for seconds in (0.0, 1.9, 2.5, 2.55, 2.75):
        clock.now = 100.0 + seconds
        screen.progress(1, 4, seconds)
    assert drawn == [2.5, 2.75]
    screen.close()
    screen.close()
    assert closed == [True]


def test_the_line_shows_step_share_speed_time_and_memory() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, legacy_windows=False)
    one = step("read x", bytes_read=100 * MIB)
    screen = Screen([one], MIB, Clock())
    screen.step_started(one, 0, 1)
    painter = Painter(256 * MIB, console)
    painter.draw(screen.standing(2, 4, 5.0))
    painter.close()
    text = out.getvalue()
    for part in ("1/1 read x", "50%", "10.0 MiB/s", "5.0 s left", "of 256.0 MiB"):
        assert part in text
    assert text.endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the line is gone and the cursor shown"


def test_nobody_watches_where_nobody_can_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with watching([step("read")], MIB) as observer:
        assert observer is None


def test_a_listener_hears_of_every_run_in_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    one = step("read", bytes_read=5, bytes_written=7)
    tally = Tally()
    with listening(tally):
        for peak in (20, 10):
            with watching([one], MIB) as observer:
                assert observer is not None
                observer.step_started(one, 0, 1)
                observer.progress(1, 4, 0.5)
                observer.step_finished(record(one, bytes_peak=peak))
                observer.finished(Trace("threads", 1, 1.5, ()))
    assert tally == Tally(bytes_read=10, bytes_written=14, bytes_peak=20, steps=2, seconds=3.0)
    with watching([one], MIB) as observer:
        assert observer is None


def test_the_screen_is_put_in_order_when_a_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    closed: list[bool] = []

    class FakeScreen(Screen):
        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("chunkarr.display.Screen", FakeScreen)
    with pytest.raises(ZeroDivisionError), watching([step("read")], MIB):
        _ = 1 // 0
    assert closed == [True]
