"""The process executor: what travels, what happens when workers die, what is left behind."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from chunkarr.errors import WorkerLostError
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.scheduler.executor import Executor
from chunkarr.scheduler.processes import BYTES_WORKER, ProcessExecutor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Step
from chunkarr.settings import config
from tests.scheduler.contract import PLENTY, ExecutorContract
from tests.scheduler.works import (
    FailUnfriendly,
    FileStore,
    Kill,
    Nest,
    Orphan,
    Own,
    Put,
    Warn,
    soon,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    made = ProcessExecutor(2)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "out", (50,))


class TestProcesses(ExecutorContract):
    """Processes keep the contract."""


def put(work: Any, **more: Any) -> Step:
    return Step("put", work, 50, 8, weight=1e-4, creates=(work.store,), **more)


def test_functions_without_a_module_travel(executor: Executor, store: FileStore) -> None:
    names: dict[str, Any] = {}
    code = """
    class Work:
        def __init__(self, store): self.store = store
        def run(self, task, context): self.store.open()[task] = offset + task
    """
    exec(textwrap.dedent(code), {"offset": 7, "__name__": "__main__"}, names)
    run([put(names["Work"](store))], executor, PLENTY)
    assert store.open().tolist() == list(range(7, 57))


def test_settings_travel(executor: Executor, tmp_path: Path) -> None:
    with config(chunk_bytes=12345):
        run([Step("own", Own(tmp_path / "own"), 1, 8)], executor, PLENTY)
    pid, *rest = (tmp_path / "own").read_text().split()
    assert int(pid) != os.getpid()
    assert rest == ["12345", "1", "threads"]


class Tell:
    """Writes down what a module, the directory and the environment say."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, task: int, context: Any) -> None:
        told = importlib.import_module("chunkarr_told")
        here = [told.WORD, Path.cwd().name, os.environ.get("CHUNKARR_TOLD", "")]
        self.path.write_text(" ".join(here))


def test_workers_stand_where_the_program_does(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell() -> str:
        run([Step("tell", cast("Any", Tell(tmp_path / "told")), 1, 8)], executor, PLENTY)
        return (tmp_path / "told").read_text()

    run([Step("own", Own(tmp_path / "own"), 1, 8)], executor, PLENTY)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "chunkarr_told.py").write_text("WORD = 'first'")
    monkeypatch.syspath_prepend(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("CHUNKARR_TOLD", "yes")
    try:
        module = importlib.import_module("chunkarr_told")
        assert tell() == "first a yes"
        monkeypatch.chdir(tmp_path / "b")
        monkeypatch.delenv("CHUNKARR_TOLD")
        assert tell() == "first b "
        (tmp_path / "a" / "chunkarr_told.py").write_text("WORD = 'changed'")
        importlib.reload(module)
        assert tell() == "changed b "
    finally:
        sys.modules.pop("chunkarr_told", None)


def test_no_more_workers_are_started_than_the_memory_is_enough_for() -> None:
    made = ProcessExecutor(64)
    try:
        workers, taken = made.afford(1 << 30)
        assert 1 < workers < 64
        assert taken <= 1 << 29
        assert made.afford(1 << 20) == (1, BYTES_WORKER)
    finally:
        made.close()


def test_warnings_of_workers_appear_here_once(executor: Executor) -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero") as caught:
        run([Step("warn", Warn(), 1, 8)], executor, PLENTY)
    assert len(caught) == 1
    assert caught[0].filename.endswith("works.py")


def test_an_exception_that_cannot_travel_is_named(executor: Executor) -> None:
    with pytest.raises(RuntimeError, match="UnfriendlyError: 1 and 2") as caught:
        run([Step("fail", FailUnfriendly(), 1, 8)], executor, PLENTY)
    assert any("works.py" in note for note in caught.value.__notes__)


def test_work_that_cannot_be_unpickled_is_an_error_and_not_a_lost_worker(
    executor: Executor,
) -> None:
    class Broken:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    work: Any = Broken()
    with pytest.raises(ValueError, match="not a number"):
        run([Step("broken", work, 1, 8)], executor, PLENTY)


def test_a_run_inside_a_task_is_done_there(executor: Executor, store: FileStore) -> None:
    run([Step("outer", Nest(store), 1, 8, creates=(store,))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))


def test_workers_give_back_what_only_their_c_libraries_keep(executor: Executor) -> None:
    class Litter:
        def run(self, task: int, context: Any) -> None:
            taken = [b"x" * 100_000 for _ in range(400)]
            sys.litter = taken[-1]  # type: ignore[attr-defined]  # what is free lies before it

    littered = Step("litter", cast("Any", Litter()), 8, 8)
    run([littered], executor, PLENTY)
    before = memory_in_use() - memory_in_use(children=False)
    executor.trim()
    assert before - (memory_in_use() - memory_in_use(children=False)) > 30 << 20
    with executor.lock:
        executor.trim()  # a run is under way
    run([littered], executor, PLENTY)


@pytest.mark.faults
def test_a_stopped_worker_is_not_waited_for_when_workers_are_to_give_back(
    executor: Executor, store: FileStore
) -> None:
    run([put(Put(store))], executor, PLENTY)
    stopped = psutil.Process(os.getpid()).children()[0]
    stopped.suspend()
    began = time.monotonic()
    executor.trim()
    assert time.monotonic() - began < 2
    run([put(Put(store))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))


@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_its_range_run_again(
    executor: Executor, store: FileStore
) -> None:
    began = time.monotonic()
    trace = run([put(Kill(store, 20, times=1))], executor, PLENTY)
    assert time.monotonic() - began < 2
    assert store.open().tolist() == list(range(1, 51))
    assert (trace.workers_lost, trace.steps[0].retries) == (1, 1)


@pytest.mark.faults
def test_a_task_that_always_kills_its_worker_is_blamed(
    executor: Executor, store: FileStore
) -> None:
    with pytest.raises(WorkerLostError, match="SIGKILL") as caught:
        run([put(Kill(store, 20, times=99))], executor, PLENTY)
    assert (caught.value.step, caught.value.task) == ("put", 20)
    assert store.log() == ["create", "discard"]


@pytest.mark.faults
def test_a_worker_killed_between_runs_is_replaced(executor: Executor, tmp_path: Path) -> None:
    for name in "ab":
        store = FileStore(tmp_path / name, (50,))
        run([put(Put(store))], executor, PLENTY)
        assert store.open().tolist() == list(range(1, 51))
        # Workers alone: the tracker of multiprocessing serves other tests of this process.
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):  # also of those that ended and wait to be reaped
                if any("chunkarr" in word for word in child.cmdline()):
                    child.kill()


@pytest.mark.faults
def test_a_death_is_noticed_though_a_grandchild_keeps_the_connection(
    executor: Executor, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    began = time.monotonic()
    trace = run([Step("orphan", Orphan(mark), 2, 8)], executor, PLENTY)
    assert time.monotonic() - began < 2
    assert trace.workers_lost >= 1
    os.kill(int(mark.read_text()), signal.SIGKILL)


@pytest.mark.faults
def test_workers_that_cannot_start_are_an_error(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chunkarr.scheduler.processes.BOOT", "raise SystemExit(3)")
    executor = ProcessExecutor(2)
    with pytest.raises(WorkerLostError, match="exit code 3"):
        run([put(Put(store))], executor, PLENTY)
    executor.close()


def test_a_closed_executor_leaves_no_process_and_no_file_open(store: FileStore) -> None:
    gc.collect()
    files, children = os.listdir("/proc/self/fd"), psutil.Process().children()
    executor = ProcessExecutor(2)
    run([put(Put(store))], executor, PLENTY)
    executor.close()
    assert psutil.Process().children() == children
    del executor
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(files)


SCRIPT = """
import json, os, sys, threading, time
import psutil
from pathlib import Path
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Step
from tests.scheduler.works import FileStore, Forever

folder = Path(sys.argv[2])
store = FileStore(folder / "out", (2,))
executor = get_executor(sys.argv[1], 2)
step = Step("forever", Forever(folder / "mark"), 2, 8, creates=(store,))
print(os.getpid(), flush=True)
try:
    run([step], executor, 99)
except KeyboardInterrupt:
    ended = time.time()
    executor.close()
    print(json.dumps({
        "ended": ended,
        "log": store.log(),
        "threads": [thread.name for thread in threading.enumerate()],
        "children": len(psutil.Process().children()),
    }))
"""


def start_script(name: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, name, str(folder)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert soon((folder / "mark").exists, 20)
    return child


@pytest.mark.faults
@pytest.mark.parametrize("name", ["threads", "processes"])
def test_ctrl_c_gives_the_prompt_back_within_a_second_and_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    child = start_script(name, tmp_path)
    pressed = time.time()
    child.send_signal(signal.SIGINT)
    report = json.loads(child.communicate(timeout=20)[0].splitlines()[1])
    assert report["ended"] - pressed < 1
    assert report["log"] == ["create", "discard"]
    assert (report["threads"], report["children"]) == (["MainThread"], 0)
    assert child.returncode == 0


@pytest.mark.faults
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    child = start_script("processes", tmp_path)
    workers = psutil.Process(child.pid).children()
    assert len(workers) == 2
    child.kill()
    child.communicate()
    assert soon(lambda: all(ended(worker) for worker in workers), 2)


def ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
