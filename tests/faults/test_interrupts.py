"""Signals and errors in the middle of the work: back at once, nothing left, the session goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr as xp
from chunkarr.errors import CorruptChunkError
from chunkarr.grid import Grid
from chunkarr.storage.npy import NpyTarget
from chunkarr.storage.spill import Session as Scratch
from chunkarr.storage.spill import SpillStore
from chunkarr.storage.zarr import ZarrTarget
from tests.faults.sessions import ROOT, Session, whole

pytestmark = pytest.mark.faults

SECONDS_MAX = 1.5
"""The promise is one second; this machine may be busy."""
BOTH = ("threads", "processes")


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize(("kind", "later"), [("to_zarr", 0.2), ("save", 0.0), ("sort", 0.3)])
def test_ctrl_c_gives_the_prompt_back(
    executor: str, kind: str, later: float, tmp_path: Path
) -> None:
    session = Session(tmp_path, executor, kind)
    session.wait_until_busy()
    time.sleep(later)
    seconds = session.signal(signal.SIGINT)
    assert "caught KeyboardInterrupt" in session.said, session.errors
    assert "after 999999000000.0" in session.said
    assert (session.process.returncode, session.errors) == (0, "")
    assert os.listdir(session.out) == ["again.npy"]
    assert os.listdir(session.spill) == []
    assert seconds < SECONDS_MAX


def test_ctrl_c_while_a_selection_is_counted(tmp_path: Path) -> None:
    session = Session(tmp_path, "processes", "rows")
    session.wait_until_busy()
    assert session.signal(signal.SIGINT) < SECONDS_MAX
    assert "caught KeyboardInterrupt" in session.said, session.errors
    assert os.listdir(session.out) == ["again.npy"]
    assert os.listdir(session.spill) == []


@pytest.mark.parametrize("executor", BOTH)
def test_a_script_ended_by_ctrl_c_leaves_nothing(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CPython forgets which exception has ended a program if any thread evaluates a text before it
    # exits, as the import of Numba does for its named tuples: the exit code is 1 then.
    monkeypatch.setenv("CHUNKARR_KERNELS", "numpy")
    session = Session(tmp_path, executor, "to_zarr", "raise")
    session.wait_until_busy()
    session.signal(signal.SIGINT)
    assert session.process.returncode == -signal.SIGINT
    assert session.errors.endswith("KeyboardInterrupt\n")
    assert "pending" not in session.errors
    assert session.left() == []


@pytest.mark.parametrize(
    ("executor", "kind", "number"),
    [
        ("threads", "to_zarr", signal.SIGTERM),
        ("threads", "sort", signal.SIGTERM),
        ("processes", "to_zarr", signal.SIGTERM),
        ("processes", "sort", signal.SIGTERM),
        ("threads", "save", signal.SIGHUP),
    ],
)
def test_a_terminated_script_leaves_nothing(
    executor: str, kind: str, number: signal.Signals, tmp_path: Path
) -> None:
    session = Session(tmp_path, executor, kind)
    session.wait_until_busy()
    time.sleep(0.1)
    assert session.signal(number) < SECONDS_MAX
    assert session.process.returncode == -number
    assert session.errors == ""
    assert session.left() == []


@pytest.mark.parametrize(("executor", "kind"), [("threads", "to_zarr"), ("processes", "sort")])
def test_the_next_start_removes_what_a_killed_one_has_left(
    executor: str, kind: str, tmp_path: Path
) -> None:
    session = Session(tmp_path, executor, kind)
    session.wait_until_busy()
    session.signal(signal.SIGKILL)
    assert whole(session.left())
    for target in (
        ZarrTarget(session.out / "x.zarr", (3,), "f8", (3,)),
        NpyTarget(session.out / "x.npy", (3,), "f8"),
    ):
        target.create()
        target.discard()
    with xp.config(spill_dir=str(session.spill)):
        store = SpillStore((3,), "f8", Grid.single((3,)))
        store.create()
        store.release()
        Scratch.close_all()
    assert whole(session.left()) == []


def test_somebody_elses_handler_stays(tmp_path: Path) -> None:
    script = f"""
import os, signal
from chunkarr.storage.npy import NpyTarget
def own(*_): print("mine", os.listdir({str(tmp_path)!r})); raise SystemExit(3)
signal.signal(signal.SIGTERM, own)
target = NpyTarget({str(tmp_path / "x.npy")!r}, (3,), "f8")
target.create()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = run_script(script)
    assert "mine ['.x.npy." in done.stdout
    assert (done.returncode, done.stderr) == (3, "")
    assert os.listdir(tmp_path) == []


def test_signals_are_handled_only_while_there_is_something_to_remove(tmp_path: Path) -> None:
    target = NpyTarget(tmp_path / "x.npy", (3,), "f8")
    before = signal.getsignal(signal.SIGTERM)
    Scratch.close_all()
    target.create()
    during = signal.getsignal(signal.SIGTERM)
    target.commit()
    assert before is signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert callable(during)


def test_another_thread_than_the_main_one_leaves_signals_alone(tmp_path: Path) -> None:
    target = NpyTarget(tmp_path / "x.npy", (3,), "f8")
    Scratch.close_all()
    thread = threading.Thread(target=target.create)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    target.discard()
    assert os.listdir(tmp_path) == []


# -- errors in a task ------------------------------------------------------------------------------


@pytest.fixture(name="damaged")
def _damaged(tmp_path: Path) -> Iterator[Path]:
    """An array whose last chunk is damaged, an empty folder for outputs, a spill directory."""
    path = tmp_path / "x.zarr"
    values = np.random.default_rng(0).normal(size=(600, 500))
    xp.from_array(values).to_zarr(path, chunks=(50, 50))
    chunk = path / "c" / "11" / "9"
    chunk.write_bytes(chunk.read_bytes()[:-5] + b"12345")
    (tmp_path / "spill").mkdir()
    (tmp_path / "out").mkdir()
    with xp.config(spill_dir=str(tmp_path / "spill"), workers=2, chunk_bytes=20_000):
        yield path
    Scratch.close_all()


@pytest.mark.parametrize("executor", BOTH)
def test_an_error_in_a_task_frees_everything(executor: str, damaged: Path) -> None:
    out, spill = damaged.parent / "out", damaged.parent / "spill"
    with xp.config(executor=executor):
        x = xp.open(damaged)
        works: list[Any] = [
            lambda: (x * 2).to_zarr(out / "y.zarr"),
            lambda: xp.save(out / "y.npy", xp.cumsum(x, 0).T + 1),
            lambda: xp.save(out / "y.npy", xp.sort(xp.ravel(x))),
            lambda: xp.save(out / "y.npy", xp.cumsum(x, 0) / x.std(0)),
            lambda: xp.save(out / "y.npy", x[x[:, -1] > 0]),  # counting fails
            lambda: xp.save(out / "y.npy", xp.cumsum(x, 1)[x > 0]),
        ]
        for work in works:
            with pytest.raises(CorruptChunkError) as caught:
                work()
            caught.value.__traceback__ = None
            assert os.listdir(out) == []
            assert [names for _, _, names in os.walk(spill) if set(names) - {".lock"}] == []
            assert float((xp.open(damaged)[:500] * 0).sum()) == 0


def test_what_a_worker_spills_goes_even_if_the_worker_is_killed(tmp_path: Path) -> None:
    """A function of the user's may use chunkarr inside a task; its scratch is the parent's."""
    script = f"""
import os, signal
import numpy
from chunkarr.scheduler.processes import ProcessExecutor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Step
from chunkarr.grid import Grid
from chunkarr.settings import config
from chunkarr.storage.spill import SpillStore

class Spill:
    def run(self, task, context):
        store = SpillStore((3,), "f8", Grid.single((3,)))
        store.create()
        print(store.location)
        raise OSError("stop") if task else os.kill(os.getpid(), signal.SIGKILL)

config(spill_dir={str(tmp_path)!r})
try:
    run([Step("spill", Spill(), tasks=1, bytes_task=0)], ProcessExecutor(1), 1 << 30)
except RuntimeError as error:
    print(type(error).__name__, len(os.listdir({str(tmp_path)!r})))
"""
    done = run_script(script)
    assert "WorkerLostError 1" in done.stdout, done
    assert os.listdir(tmp_path) == []


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
