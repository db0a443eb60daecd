"""The executor on a Dask cluster of two processes on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.core import Status

from chunkarr.errors import ClusterLost, ConfigError, WorkerLostError
from chunkarr.grid import Grid
from chunkarr.scheduler import cluster as cluster_file
from chunkarr.scheduler import endings, remote
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.scheduler.cluster import ClusterExecutor
from chunkarr.scheduler.executor import Executor
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Context, Step
from chunkarr.settings import config
from chunkarr.storage.spill import SpillStore
from chunkarr.storage.store import Store
from tests.scheduler.contract import PLENTY, ExecutorContract
from tests.scheduler.works import FailUnfriendly, FileStore, Kill, Put

pytestmark = [
    pytest.mark.cluster,
    # Sockets and event loops of distributed's own are not always closed in time.
    pytest.mark.filterwarnings("default"),
]


def make_cluster(workers: int) -> Any:
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit="256MiB",
        silence_logs=50,
    )


def make_client(cluster: Any) -> Any:
    return Client(cluster, set_as_default=False)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with make_cluster(2) as cluster, make_client(cluster) as made:
        yield made


@pytest.fixture(scope="module")
def executor(client: Any) -> Executor:
    return ClusterExecutor(client)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "out", (50,))


class TestCluster(ExecutorContract):
    """A Dask cluster keeps the contract."""


def put(work: Any) -> Step:
    return Step("put", work, 50, 8, weight=1e-2, creates=(work.store,))


def test_a_client_is_an_executor_s_name_and_so_is_its_address(client: Any) -> None:
    executor = get_executor(client, 9)
    assert isinstance(executor, ClusterExecutor)
    assert get_executor(client, 9) is executor
    by_address = get_executor(client.scheduler.address, 9)
    assert get_executor(client.scheduler.address, 9) is by_address
    by_address.client.close()  # type: ignore[attr-defined]


def test_large_work_is_sent_to_each_worker_once(
    executor: Executor, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "BYTES_INLINE", 0)
    run([put(Put(store))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))


def test_an_exception_that_cannot_travel_is_named(executor: Executor) -> None:
    with pytest.raises(RuntimeError, match="UnfriendlyError: 1 and 2"):
        run([Step("fail", FailUnfriendly(), 1, 8)], executor, PLENTY)


def test_work_that_cannot_be_unpickled_is_an_error(executor: Executor) -> None:
    class Broken:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

        def run(self, task: int, context: Context) -> None:
            raise AssertionError

    with pytest.raises(ValueError, match="not a number"):
        run([Step("broken", Broken(), 1, 8)], executor, PLENTY)


def test_no_future_is_left_after_a_run(executor: Executor, client: Any, store: FileStore) -> None:
    run([put(Put(store))], executor, PLENTY)
    end = time.monotonic() + 5
    while client.futures and time.monotonic() < end:
        time.sleep(0.001)
    assert not client.futures


@pytest.mark.faults
def test_a_worker_that_dies_is_no_reason_to_stop(executor: Executor, store: FileStore) -> None:
    run([put(Kill(store, 20, times=1))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))


class End(Put):
    """One task ends its worker each time, in a way of its own."""

    def __init__(self, store: FileStore, guilty: int, how: str) -> None:
        super().__init__(store)
        self.guilty, self.how = guilty, how

    def run(self, task: int, context: Context) -> None:
        if task != self.guilty:
            super().run(task, context)
            return
        with self.store.path.with_suffix(".marks").open("a") as file:
            file.write("x")
        if self.how == "memory":
            self.kept = np.ones(300 << 20, "u1")
            time.sleep(30)
        elif self.how == "exit":
            os._exit(5)
        else:
            os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("memory", "was ended by Dask because it held .* of its 256.0 MiB of memory"),
        ("exit", "has ended with exit code 5"),
        ("signal", "was killed by SIGSEGV"),
    ],
)
def test_a_task_that_always_ends_its_worker_is_blamed_and_the_cause_told(
    how: str, cause: str, store: FileStore
) -> None:
    with make_cluster(2) as cluster, make_client(cluster) as client:
        with pytest.raises(WorkerLostError, match=cause) as caught:
            run([put(End(store, 20, how))], ClusterExecutor(client), PLENTY)
        assert (caught.value.step, caught.value.task) == ("put", 20)
        assert "the Dask worker tcp://127.0.0.1:" in caught.value.reason
        tried = store.path.with_suffix(".marks").stat().st_size
        assert caught.value.reason.endswith(f"it was tried {tried} times")
        # Four times by Dask, once with its neighbours in the queue, once alone.
        assert tried <= 6
        assert store.log() == ["create", "discard"]


@pytest.mark.parametrize(
    ("nanny", "lines", "cause"),
    [
        (None, [], "has ended; if anything tells why, it is its log"),
        ("tcp://n:1", [], "has ended; if anything tells why, it is the log of its nanny tcp://n:1"),
        ("tcp://n:1", ["Worker process 70 exited with status 1"], "has ended; if anything"),
        ("tcp://n:1", ["INFO - Worker process 7 was killed by signal 9"], "was killed by SIGKILL"),
    ],
)
def test_what_nobody_has_written_down_is_not_guessed(
    nanny: str | None, lines: list[str], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scheduler:
        async def events(self, topic: str) -> Any:
            other = {"worker": "tcp://b:1", "pid": 7, "rss": 1}
            return [(0.0, other), (0.0, {**other, "worker": "tcp://a:1", "pid": 8})]

        async def proxy(self, worker: str, msg: Any) -> Any:
            return [("INFO", line) for line in lines]

    monkeypatch.setattr(endings, "SECONDS_AGAIN", 0)
    told = asyncio.run(endings.how_it_ended(Scheduler(), endings.Former("tcp://a:1", 7, nanny, 1)))
    assert told.startswith(f"the Dask worker tcp://a:1 {cause}")


def test_an_error_of_a_task_names_its_worker(executor: Executor, client: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        run([Step("fail", FailUnfriendly(), 1, 8)], executor, PLENTY)
    assert any(a in note for a in client.nthreads() for note in caught.value.__notes__)


@dataclass
class Doomed:
    """A cluster of two workers of a test's own, of which it may stop what it likes."""

    client: Any
    pids: dict[str, int]
    """The workers' processes, by address."""

    def go_on(self) -> None:
        """Let all workers go on."""
        for pid in self.pids.values():
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def doomed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Doomed]:
    """Two workers, of whose stops a run hears soon; they go on when the test ends."""
    monkeypatch.setattr(cluster_file, "SECONDS_STOPPED", 1.5)
    with make_cluster(2) as cluster, make_client(cluster) as client:
        given = Doomed(client, client.run(os.getpid))
        try:
            yield given
        finally:
            given.go_on()


@pytest.mark.slow
@pytest.mark.faults
def test_what_a_stopped_worker_has_is_done_by_others(store: FileStore, doomed: Doomed) -> None:
    executor = ClusterExecutor(doomed.client)
    began = time.monotonic()
    run([put(Kill(store, 20, times=1, sent=signal.SIGSTOP))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))
    assert time.monotonic() - began < 15
    # It is not asked again while it is silent.
    began = time.monotonic()
    run([put(Put(store))], executor, PLENTY)
    assert time.monotonic() - began < 2


@pytest.mark.slow
@pytest.mark.faults
def test_workers_that_are_all_stopped_are_named(
    store: FileStore, doomed: Doomed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_ALL_STOPPED", 3)
    executor = ClusterExecutor(doomed.client)
    stop = put(Kill(store, 20, times=2, sent=signal.SIGSTOP))
    began = time.monotonic()
    with pytest.raises(ClusterLost, match="all its workers are stopped") as caught:
        run([stop], executor, PLENTY)
    assert all(address in caught.value.reason for address in doomed.pids)
    assert time.monotonic() - began < 20
    doomed.go_on()
    run([put(Put(store))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))


def pause(dask_worker: Any) -> None:
    """Pause a worker as Dask does where memory is short, and let nothing unpause it."""
    dask_worker.memory_manager.memory_pause_fraction = False
    dask_worker.status = Status.paused


@pytest.mark.slow
@pytest.mark.faults
def test_workers_that_stay_paused_are_named(
    store: FileStore, doomed: Doomed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_ALL_SILENT", 3)
    executor = ClusterExecutor(doomed.client)
    doomed.client.run(pause)
    with (
        pytest.warns(UserWarning, match="are paused") as warned,
        pytest.raises(ClusterLost, match="paused for want of memory") as caught,
    ):
        run([put(Put(store))], executor, PLENTY)
    assert all(address in caught.value.reason for address in doomed.pids)
    assert store.log() == ["create", "discard"]
    assert [w.filename for w in warned if "are paused" in str(w.message)] == [__file__]


def forget_ranges(client: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cluster never run the next ranges that it is given."""
    submit, left = client.submit, [count]

    def forgetful(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        nowhere = {"workers": ["tcp://127.0.0.1:9"], "allow_other_workers": False}
        return submit(*arguments, **options | (nowhere if left[0] >= 0 else {}))

    monkeypatch.setattr(client, "submit", forgetful)


@pytest.mark.slow
@pytest.mark.faults
def test_what_a_cluster_forgets_is_given_to_it_again(
    client: Any, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_IDLE", 1)
    forget_ranges(client, 1, monkeypatch)
    began = time.monotonic()
    run([put(Put(store))], ClusterExecutor(client), PLENTY)
    assert store.open().tolist() == list(range(1, 51))
    assert 2 < time.monotonic() - began < 20


@pytest.mark.slow
@pytest.mark.faults
def test_what_a_cluster_never_runs_is_an_error_and_not_a_hang(
    client: Any, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_IDLE", 1)
    monkeypatch.setattr(cluster_file, "SECONDS_ALL_SILENT", 5)
    executor = ClusterExecutor(client)
    with monkeypatch.context() as patch:
        forget_ranges(client, 99, patch)
        with pytest.raises(ClusterLost, match="no worker runs what it was given"):
            run([put(Put(store))], executor, PLENTY)
    assert store.log() == ["create", "discard"]
    run([put(Put(store))], executor, PLENTY)
    assert store.open().tolist() == list(range(1, 51))


@pytest.mark.slow
@pytest.mark.faults
def test_workers_that_are_all_gone_and_stay_so_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_ALL_GONE", 5)
    monkeypatch.setattr(cluster_file, "SECONDS_SILENT", 3)
    store = FileStore(tmp_path / "out", (2,))
    with make_cluster(1) as cluster, make_client(cluster) as client:
        work = Vanish(tmp_path / "mark")
        step = Step("vanish", work, 2, 8, creates=(store,))
        with (
            pytest.warns(UserWarning, match="has no workers"),
            pytest.raises(ClusterLost, match="all its workers are gone"),
        ):
            run([step], ClusterExecutor(client), PLENTY, CloseCluster(cluster, work.mark, 0))
    assert store.log() == ["create", "discard"]


@pytest.mark.slow
@pytest.mark.faults
def test_workers_that_do_not_say_who_they_are_are_done_without(
    store: FileStore, doomed: Doomed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_GREET", 1)
    first, second = doomed.pids.values()
    os.kill(first, signal.SIGSTOP)
    run([put(Put(store))], ClusterExecutor(doomed.client), PLENTY)
    assert store.open().tolist() == list(range(1, 51))
    os.kill(second, signal.SIGSTOP)
    with pytest.raises(ClusterLost, match="none of its workers answers") as caught:
        ClusterExecutor(doomed.client)
    assert all(address in caught.value.reason for address in doomed.pids)


def pages_mapped() -> int:
    """Give the bytes of files that this process has mapped and touched."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (int(line.split()[1]) for line in lines if line.startswith("RssFile"))
    return kib * 1024


class Touch:
    """Each task reads another box of a file, and keeps what it is shown."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: list[Any] = []

    def run(self, task: int, context: Context) -> None:
        size = self.store.shape[0] // 32
        self.kept.append(self.store.read((slice(task * size, (task + 1) * size),)))
        self.kept[-1].sum()
        assert pages_mapped() < 160 << 20


def test_pages_of_files_do_not_heap_up_in_workers(executor: Executor, tmp_path: Path) -> None:
    shape = (32 << 20,)
    with config(spill_dir=str(tmp_path)):
        spill = SpillStore(shape, "f8", Grid(shape, (1 << 20,)))
        spill.create()
        for start in range(0, shape[0], 1 << 20):
            spill.write((slice(start, start + (1 << 20)),), np.ones(1 << 20))
        run([Step("touch", Touch(spill), 32, 8)], executor, PLENTY)
        spill.release()


class Crumbs:
    """Frees all but the last of many small blocks, so that the heap below them stays."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def run(self, task: int, context: Context) -> None:
        time.sleep(4 * remote.SECONDS_TRIM)
        context.check()
        before = memory_in_use(children=False)
        blocks = [np.ones(8000) for _ in range(1000)]
        context.check()
        KEPT.append(blocks[-1])
        self.store.open()[task] = before


KEPT: list[Any] = []


def test_freed_memory_does_not_heap_up_in_workers(tmp_path: Path) -> None:
    """Not within a range, nor after one that was looked at where it needed most.

    Dask's profiler may hold the last task's frame, and all that is in it, for a moment longer.
    """
    store = FileStore(tmp_path / "before", (10,))
    step = Step("crumbs", Crumbs(store), 10, 8, weight=1.0, creates=(store,))
    with make_cluster(1) as cluster, make_client(cluster) as client:
        run([step], ClusterExecutor(client), PLENTY)
    before = store.open()
    assert np.median(before) - before.min() < 40 << 20


@pytest.mark.slow
@pytest.mark.faults
def test_a_lost_scheduler_is_an_error_and_not_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "SECONDS_SILENT", 0.5)
    store = FileStore(tmp_path / "out", (2,))
    with make_cluster(1) as cluster, make_client(cluster) as client:
        executor = ClusterExecutor(client)
        work = Vanish(tmp_path / "mark")
        step = Step("vanish", work, 2, 8, creates=(store,))
        with pytest.raises(ClusterLost, match="is lost"):
            run([step], executor, PLENTY, CloseCluster(cluster, work.mark))
    assert store.log() == ["create", "discard"]


class Vanish:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def run(self, task: int, context: Context) -> None:
        self.mark.touch()
        while True:
            context.check()
            time.sleep(0.001)


class CloseCluster:
    """An observer that ends the cluster under the run, or scales it."""

    def __init__(self, cluster: Any, mark: Path, workers: int | None = None) -> None:
        self.cluster, self.mark, self.workers = cluster, mark, workers

    def step_started(self, *_: object) -> None:
        pass

    def progress(self, *_: object) -> None:
        if not self.mark.exists() or self.cluster.status.name != "running":
            return
        if self.workers is None:
            self.cluster.close()
        else:
            self.cluster.scale(self.workers)

    def step_finished(self, *_: object) -> None:
        pass

    def finished(self, *_: object) -> None:
        pass


@pytest.mark.faults
def test_a_scheduler_that_is_gone_before_the_run_is_an_error(store: FileStore) -> None:
    with make_cluster(1) as cluster, make_client(cluster) as client:
        executor = ClusterExecutor(client)
        cluster.close()
        with pytest.raises(ClusterLost, match="is lost"):
            run([put(Put(store))], executor, PLENTY)


def test_an_asynchronous_client_is_refused() -> None:
    class Asynchronous:
        asynchronous = True

    client: Any = Asynchronous()
    with pytest.raises(ConfigError, match="asynchronous"):
        ClusterExecutor(client)
