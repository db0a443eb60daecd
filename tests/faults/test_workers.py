"""Workers that die, stop, crawl or swell: the answer is right, or the task is named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from chunkarr import engine
from chunkarr.errors import WorkerLostError
from chunkarr.faults import POINTS, armed
from chunkarr.scheduler import processes
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Context, Step
from chunkarr.settings import config, settings
from chunkarr.storage.spill import Session
from tests.faults.checks import Place, content, in_time, without_frames
from tests.faults.operations import OLD, OPERATIONS, check, replace_old, values
from tests.faults.sessions import ROOT
from tests.scheduler.works import FileStore, Put

pytestmark = pytest.mark.faults

SUMS = next(operation for operation in OPERATIONS if operation.name == "running sums")
"""It reads, makes scratch, reads that, and writes: workers pass all their points."""
IN_WORKERS = ("read", "compute", "spill.write", "spill.read", "exchange", "commit.chunk")
ANYWHERE = [point for point in POINTS if point != "exchange"]


@pytest.fixture(autouse=True)
def _processes(place: Place) -> None:
    with config(executor="processes"):
        replace_old(SUMS, place)
    place.settle()


@pytest.mark.parametrize("point", IN_WORKERS)
@pytest.mark.parametrize("action", ["kill", "exit", "segfault"])
def test_a_worker_that_dies_in_any_phase_changes_nothing(
    action: str, point: str, place: Place
) -> None:
    with config(executor="processes"):
        faults = f"{point}:2:{action}"
        with armed(faults, place.counts(), elsewhere=True) as asked:
            replace_old(SUMS, place)
            assert asked.happened()
        assert engine.last.trace is not None
        assert engine.last.trace.workers_lost == 1
        check(SUMS, place, None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_dies_at_any_pass_changes_nothing(place: Place) -> None:
    number, happened = 0, True
    with config(executor="processes"):
        while happened:
            number += 1
            with armed(f"*:{number}:kill", place.counts(), elsewhere=True) as faults:
                replace_old(SUMS, place)
                happened = faults.happened()
            check(SUMS, place, None)
    assert number > 30


def test_several_workers_that_die_change_nothing(place: Place) -> None:
    faults = "compute:1:kill,exchange:4:kill,commit.chunk:3:segfault,spill.read:2:exit"
    with config(executor="processes"):
        with armed(faults, place.counts(), elsewhere=True) as asked:
            replace_old(SUMS, place)
            assert all(asked.happened(index) for index in range(4))
        check(SUMS, place, None)


@pytest.mark.parametrize(
    ("action", "told"), [("kill", "SIGKILL"), ("segfault", "SIGSEGV"), ("exit", "exit code 3")]
)
def test_a_task_that_always_ends_its_worker_is_blamed(action: str, told: str, place: Place) -> None:
    with config(executor="processes"):
        with (
            armed(f"compute:1+:{action}", elsewhere=True),
            in_time(),
            pytest.raises(WorkerLostError, match=f"{told}.*; it was tried 3 times") as caught,
        ):
            replace_old(SUMS, place)
        assert caught.value.step == "add.accumulate"
        assert caught.value.task >= 0
        check(SUMS, place, without_frames(caught.value))
        replace_old(SUMS, place)
        check(SUMS, place, None)


def test_a_worker_that_is_stopped_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SECONDS_STOPPED", 0.3)
    with config(executor="processes"):
        with armed("compute:2:stop", place.counts(), elsewhere=True), in_time(5):
            replace_old(SUMS, place)
        check(SUMS, place, None)


def test_a_worker_that_is_stopped_and_goes_on_is_left_alone(place: Place) -> None:
    with config(executor="processes"):
        replace_old(SUMS, place)
        pool = [psutil.Process(child.pid) for child in psutil.Process().children()]
        for process in pool:
            process.suspend()
        for process in pool:
            process.resume()
        replace_old(SUMS, place)
        assert engine.last.trace is not None
        assert engine.last.trace.workers_lost == 0


def test_a_slow_task_holds_up_nothing_but_the_end(place: Place) -> None:
    with config(executor="processes"):
        with armed("compute:2:sleep=0.5", place.counts(), elsewhere=True), in_time(5):
            replace_old(SUMS, place)
        check(SUMS, place, None)


class Swell(Put):
    """One task takes far more memory than the limit of all."""

    def run(self, task: int, context: Context) -> None:
        held = [np.ones(1 << 21) for _ in range(40 if task == 7 else 0)]
        while held:
            context.check()
        super().run(task, context)


def test_a_function_that_goes_over_the_limit_is_named(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "values", (50,))
    step = Step("swell", Swell(store), 50, 8, weight=1e-4, creates=(store,))
    with config(memory=256 << 20, executor="processes"):
        assert settings().workers == 2
        with in_time(), pytest.raises(WorkerLostError, match=r"limit of 256\.0 MiB") as caught:
            run([step], get_executor("processes", 2), 1 << 20)
    assert (caught.value.step, caught.value.task) == ("swell", 7)
    assert store.log() == ["create", "discard"]


class SwellTogether(Put):
    """Tasks hold so much that two of them are over the limit, though neither is alone."""

    def run(self, task: int, context: Context) -> None:
        held = np.ones(25 << 20)
        end = time.monotonic() + 3
        while time.monotonic() < end and held.size:
            context.check()
            time.sleep(0.01)
        super().run(task, context)


def test_functions_that_go_over_the_limit_together_are_noticed(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "values", (2,))
    step = Step("swell", SwellTogether(store), 2, 8, weight=3.0, creates=(store,))
    together = pytest.raises(WorkerLostError, match="all workers together")
    with config(memory=256 << 20, executor="processes"), in_time(), together as caught:
        run([step], get_executor("processes", 2), 1 << 20)
    assert caught.value.step == "swell"


SCRIPT = """
import sys
from pathlib import Path
import chunkarr as xp
from chunkarr.plan.planner import Planner
from tests.faults.operations import OPERATIONS
Planner._fits = lambda *_, **__: False
folder, name, executor = sys.argv[1:]
operation = next(operation for operation in OPERATIONS if operation.name == name)
if __name__ == "__main__":
    with xp.config(spill_dir=folder + "/spill", eager_bytes=0, chunk_bytes=1 << 10, workers=2):
        xp.config(executor=executor)
        operation.run(Path(folder) / "in", operation.path(Path(folder) / "out"))
    print("done")
"""


@pytest.mark.parametrize("executor", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
@pytest.mark.parametrize("point", ANYWHERE)
def test_a_session_that_dies_in_any_phase_leaves_the_old_output(
    point: str, executor: str, place: Place
) -> None:
    replace_old(SUMS, place)
    number = 1 if point == "plan" else 2
    faults = f"{point}:{number}:kill;counts={place.counts()}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(place.folder), SUMS.name, executor],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CHUNKARR_FAULT": faults},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    survived = executor == "processes" and point in IN_WORKERS
    assert (done.returncode, done.stdout) == ((0, "done\n") if survived else (-9, "")), done.stderr
    found = content(SUMS.path(place.out))
    assert found.tolist() in (OLD.tolist(), SUMS.expected(values()).tolist())
    # A new session is what removes the scratch of dead ones, and scratch is what makes one.
    Session.close_all()
    with config(executor="processes"):
        replace_old(SUMS, place)
    check(SUMS, place, None)
    assert os.listdir(place.folder / "spill") == []
