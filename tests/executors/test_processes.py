"""Worker processes as users meet them: plain scripts, small machines, tasks that end workers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.errors import WorkerLostError
from chunkarr.machine import memory_kills
from chunkarr.scheduler.processes import ProcessExecutor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Context, Step
from tests.memory.sampling import clean_environment
from tests.memory.walls import walled
from tests.scheduler.contract import PLENTY

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

UNGUARDED = """
import numpy
import chunkarr as np

print("begins")
np.config(executor="processes", workers=2, memory="1GiB", eager_bytes=0, chunk_bytes=10_000)
x = np.from_array(numpy.arange(60_000.0).reshape(200, 300))
print((x @ x.T).sum().compute() == (x.compute() @ x.compute().T).sum())
"""


def script(text: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [*before, sys.executable, str(path)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_a_script_needs_no_main_guard_and_is_run_once(tmp_path: Path) -> None:
    done = script(UNGUARDED, tmp_path)
    assert (done.stdout, done.stderr) == ("begins\nTrue\n", "")


@pytest.mark.slow
def test_sixteen_megabytes_of_shared_memory_do(tmp_path: Path) -> None:
    mounting = "mount -t tmpfs -o size=16m tmpfs /dev/shm && df /dev/shm | grep -q 16384"
    done = script(UNGUARDED, tmp_path, "unshare", "-m", "sh", "-c", f'{mounting} && exec "$@"', "-")
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("mounting needs more rights")
    assert (done.stdout, done.stderr) == ("begins\nTrue\n", "")


def test_an_array_in_memory_is_copied_for_workers_once(tmp_path: Path) -> None:
    settings = {"eager_bytes": 0, "chunk_bytes": 1 << 16, "spill_dir": str(tmp_path)}
    with xp.config(executor="processes", workers=2, memory="1GiB", **settings):
        mine = np.arange(100_000.0)
        x = xp.from_array(mine)
        assert float(x.sum().compute()) == 4_999_950_000
        copies = list(tmp_path.glob("*/*-memory"))
        assert float((x + 1).sum().compute()) == 5_000_050_000
        assert list(tmp_path.glob("*/*-memory")) == copies
        assert len(copies) == 1
        # An array that was written to is not answered for from an old copy.
        mine[0] = 1e9
        assert float((x + 2).sum().compute()) == 6_000_150_000


# -- blame -----------------------------------------------------------------------------------------


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(2)
    yield made
    made.close()


class End:
    """Ends its worker in some way."""

    def __init__(self, how: str) -> None:
        self.how = how

    def run(self, task: int, context: Context) -> None:
        if self.how == "exit":
            os._exit(7)
        elif self.how == "segfault":
            os.kill(os.getpid(), 11)
        else:
            held = [np.ones(1 << 17) for _ in range(400)]
            del held


@pytest.mark.faults
@pytest.mark.parametrize(("how", "reason"), [("exit", "exit code 7"), ("segfault", "SIGSEGV")])
def test_a_task_that_ends_its_workers_is_blamed_with_how(
    how: str, reason: str, executor: ProcessExecutor
) -> None:
    began = time.monotonic()
    with pytest.raises(WorkerLostError, match=reason) as caught:
        run([Step("guilty", End(how), 1, 8, "script.py:7")], executor, PLENTY)
    assert (caught.value.step, caught.value.task) == ("guilty", 0)
    assert "tried 3 times" in str(caught.value)
    assert any("script.py:7" in note for note in caught.value.__notes__)
    assert time.monotonic() - began < 6


@pytest.mark.slow
@pytest.mark.faults
def test_a_task_that_takes_too_much_memory_is_blamed_for_that(tmp_path: Path) -> None:
    with walled(160 << 20) as wall:
        if wall is None:
            pytest.skip("control groups cannot be made here")
        done = script(
            """
            from chunkarr.scheduler.processes import ProcessExecutor
            from chunkarr.scheduler.run import run
            from chunkarr.scheduler.steps import Step
            from tests.executors.test_processes import End

            from chunkarr.settings import config

            # Under a limit that does not hold here, the kernel is who ends it.
            config(memory="4GiB")
            executor = ProcessExecutor(2)
            try:
                run([Step("guilty", End("memory"), 1, 8)], executor, 1 << 30)
            except Exception as error:
                print(error)
            executor.close()
            """,
            tmp_path,
            *wall.command,
        )
    assert "guilty, task 0: worker process" in done.stdout, done.stderr
    assert "was killed by SIGKILL because the control group" in done.stdout
    assert "was out of memory" in done.stdout


def test_kills_are_counted_from_the_inside_out(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "proc/self/mountinfo": "1 1 0:1 / /cg rw - cgroup2 cgroup2 rw\n",
        "proc/vmstat": "pgfault 9\noom_kill 5\n",
        "cg/outer/inner/memory.events": "low 0\noom 2\noom_kill 2\n",
        "cg/outer/memory.events": "oom_kill 3\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [*memory_kills(tmp_path).values()] == [2, 3, 5]
    assert [*memory_kills(tmp_path)][-1] == "the machine"
