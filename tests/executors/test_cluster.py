"""A Dask cluster: who may take part, what is left on workers, what happens when it is lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from distributed import Client, LocalCluster

import chunkarr
from chunkarr import clusters, doctor, engine
from chunkarr.errors import ClusterLost, ClusterMismatchError, ConfigError
from chunkarr.scheduler import cluster as cluster_file
from chunkarr.scheduler import overheard, registry, remote
from chunkarr.scheduler.cluster import ClusterExecutor
from chunkarr.scheduler.executor import ThreadExecutor
from chunkarr.scheduler.handshake import (
    Question,
    answer,
    differences,
    open_to_others,
    refuse_versions,
    shorten_profile,
)
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Step
from tests.scheduler.contract import PLENTY
from tests.scheduler.works import FileStore, Put, soon

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

pytestmark = [
    pytest.mark.cluster,
    # Sockets and event loops of distributed's own are not always closed in time.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit="400MB",
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as made,  # type: ignore[no-untyped-call]
    ):
        yield made


@pytest.fixture
def executor(client: Any) -> ClusterExecutor:
    return ClusterExecutor(client)


def put(store: FileStore, tasks: int = 50) -> Step:
    return Step("put", Put(store), tasks, 8, weight=1e-2, creates=(store,))


# -- who runs it -----------------------------------------------------------------------------------


def test_dask_s_cluster_computes_arrays_of_both(client: Any) -> None:
    values = np.arange(40.0).reshape(5, 8)
    x, d = (m.from_array(values, chunks=(2, 3)) for m in (xp, da))
    with client.as_current(), dask.config.set(scheduler=client):
        np.testing.assert_array_equal(dask.compute(x + 1)[0], values + 1)
        np.testing.assert_array_equal(dask.compute(x.sum() + d.sum())[0], 2 * values.sum())
        # What is persisted outlives the arrays that it was made of.
        held = [dask.persist(x * 2)[0], xp.from_dask(xp.to_dask(x * 2).persist())]
        assert all((h.compute() == 2 * values).all() for h in held)
        np.testing.assert_array_equal((xp.from_dask(d.persist() * 2) + 1).compute(), 2 * values + 1)


def test_a_current_client_is_used_where_nobody_has_chosen(client: Any) -> None:
    assert isinstance(get_executor("threads", 2), ThreadExecutor)
    with client.as_current():
        chosen = get_executor("threads", 2)
        assert isinstance(chosen, ClusterExecutor)
        assert chosen.client is client
        with xp.config(executor="threads"):
            assert isinstance(get_executor("threads", 2), ThreadExecutor)
    assert isinstance(get_executor("threads", 2), ThreadExecutor)


def test_its_workers_are_known_from_the_start(executor: ClusterExecutor) -> None:
    assert executor.workers == 2


def test_workers_memory_is_the_limit_where_nobody_has_set_one(
    client: Any, executor: ClusterExecutor
) -> None:
    assert executor.bytes_most == 800_000_000
    with xp.config(executor=client):
        assert engine.current_limits()[0].bytes_limit == 800_000_000


def test_what_the_program_holds_is_not_taken_from_the_workers(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "memory_in_use_within", lambda *_: 800_000_001)
    with xp.config(executor=client):
        assert engine.current_limits()[0].bytes_available > 500_000_000
        with xp.config(memory="3GB"):
            assert engine.current_limits()[0].bytes_limit == 3_000_000_000


# -- the handshake ---------------------------------------------------------------------------------


def test_workers_that_do_not_see_the_files_are_refused(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster_file, "ask_here", lambda: Question(str(tmp_path / "no"), "1"))
    with pytest.raises(ClusterMismatchError, match="do not share") as caught:
        ClusterExecutor(client)
    assert len(caught.value.places) == 2
    assert "No such file" in caught.value.places[0]
    assert "CHUNKARR_SPILL_DIR" in caught.value.remedies[0]


def test_a_file_of_the_same_name_is_not_taken_for_the_same(tmp_path: Path) -> None:
    (tmp_path / "handshake").write_text("1")
    assert answer(str(tmp_path / "handshake"), "1")["files"] == ""
    assert answer(str(tmp_path / "handshake"), "2")["files"] == "another file lies there"


def test_what_dasks_profiler_keeps_has_a_bound(client: Any) -> None:
    """It would be 100 MB after a quarter of an hour, and no one's memory."""
    ClusterExecutor(client)

    def lengths(dask_worker: Any) -> list[int]:
        return [dask_worker.profile_history.maxlen, dask_worker.profile_keys_history.maxlen]

    assert list(client.run(lengths).values()) == [[62, 62]] * 2
    histories = {f"profile_{what}": deque(range(5), 1000) for what in ("history", "keys_history")}
    large = SimpleNamespace(**histories, memory_manager=SimpleNamespace(memory_limit=8 << 30))
    shorten_profile(large)
    assert large.profile_history is histories["profile_history"]


def test_other_versions_are_refused_with_a_table(client: Any) -> None:
    here = answer("", "")
    there = {"tcp://b": {**here, "numpy": "1.0", "chunkarr": "missing"}, "tcp://a": here}
    assert differences(here, there) == [
        f"tcp://b: numpy 1.0, here {np.__version__}; chunkarr missing, here {chunkarr.__version__}"
    ]
    with pytest.raises(ClusterMismatchError, match="other versions"):
        refuse_versions(here, there)


def test_the_question_needs_no_chunkarr_on_the_other_side(tmp_path: Path) -> None:
    packed = tmp_path / "answer"
    packed.write_bytes(distributed.protocol.pickle.dumps(answer))  # type: ignore[no-untyped-call]
    code = (
        "import pickle, sys; sys.modules['chunkarr'] = None; "
        f"print(pickle.load(open({str(packed)!r}, 'rb'))('', '')['chunkarr'])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("missing\n", "")


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("tcp://192.168.1.5:8786", True),
        ("tcp://scheduler.example.org:8786", True),
        ("tcp://[2001:db8::1]:8786", True),
        ("tls://192.168.1.5:8786", False),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://localhost:8786", False),
        ("tcp://[::1]:8786", False),
        ("inproc://1.2.3.4/5", False),
    ],
)
def test_a_scheduler_is_open_if_others_reach_it_without_a_key(address: str, is_open: bool) -> None:
    assert open_to_others(address) is is_open


@pytest.fixture
def everywhere() -> Iterator[str]:
    """The loopback address of a scheduler that listens on all addresses of this machine."""
    port = unused_port()
    host = ["--host", "0.0.0.0", "--dashboard-address", "127.0.0.1:0"]
    command = ["-m", "distributed.cli.dask_scheduler", "--port", str(port), *host]
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.slow
def test_an_open_scheduler_is_warned_of_however_it_was_reached(everywhere: str) -> None:
    with Client(everywhere, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        if not open_to_others(client.scheduler_info()["address"]):
            pytest.skip("this machine has no address that others reach")
        with pytest.warns(UserWarning, match="runs code for whoever reaches it") as caught:
            executor = get_executor(client, 1)
        assert caught[0].filename == __file__
        assert isinstance(executor, ClusterExecutor)
        assert executor.reached_by_others()
        (found,) = (f for f in doctor.examine(everywhere) if f.name == "scheduler")
        assert found.state == "warning"


def test_a_scheduler_of_this_machine_alone_is_not_warned_of(client: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert not ClusterExecutor(client).reached_by_others()


# -- what is left on workers -----------------------------------------------------------------------


def works_held(client: Any) -> int:
    def held() -> int:
        return len(remote._works)

    return sum(client.run(held).values())


def test_workers_forget_a_run_when_it_is_over(
    client: Any, executor: ClusterExecutor, tmp_path: Path
) -> None:
    run([put(FileStore(tmp_path / "out", (50,)))], executor, PLENTY)
    assert soon(lambda: works_held(client) == 0)


def test_an_array_in_memory_is_copied_for_workers_once(client: Any, tmp_path: Path) -> None:
    with xp.config(executor=client, eager_bytes=0, chunk_bytes=1 << 16, spill_dir=str(tmp_path)):
        x = xp.from_array(np.arange(100_000.0))
        assert float(x.sum().compute()) == 4_999_950_000
        copies = list(tmp_path.glob("*/*-memory"))
        assert float((x + 1).sum().compute()) == 5_000_050_000
        assert list(tmp_path.glob("*/*-memory")) == copies
        assert len(copies) == 1


# -- warnings of tasks -----------------------------------------------------------------------------


class Careful(UserWarning):
    """A category that workers know only from what they are sent."""


def careful(block: Any) -> Any:
    warnings.warn("careful", Careful, stacklevel=1)
    warnings.warn("ignored by the filters of a worker", DeprecationWarning, stacklevel=1)
    return block + 1


def test_warnings_of_tasks_appear_here_once(client: Any) -> None:
    x = xp.from_array(np.zeros(40), chunks=5)
    for _ in range(2):  # what was shown once on a worker is shown there again
        with warnings.catch_warnings(record=True) as caught, xp.config(executor=client):
            warnings.simplefilter("always")
            xp.map_blocks(careful, x, dtype=float).compute()
        told = [w for w in caught if w.filename == __file__]
        assert sorted((str(w.message), w.category.__name__) for w in told) == [
            ("careful", "Careful"),
            ("ignored by the filters of a worker", "DeprecationWarning"),
        ]
    with warnings.catch_warnings(), xp.config(executor=client):
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(UserWarning, match="careful"):
            xp.map_blocks(careful, x, dtype=float).compute()


def test_a_thread_that_listens_hears_its_own_warnings_alone() -> None:
    def warn(text: str) -> None:
        warnings.warn(text, stacklevel=1)

    with warnings.catch_warnings(record=True) as others, overheard.listening() as heard:
        warn("mine")
        with warnings.catch_warnings(record=True) as caught:
            warn("of a block in it")
        thread = threading.Thread(target=warn, args=("of another thread",))
        thread.start()
        thread.join()
    assert [text for text, *_ in heard.take()] == ["mine"]
    assert [str(w.message) for w in caught] == ["of a block in it"]
    assert [str(w.message) for w in others] == ["of another thread"]


def test_a_category_that_cannot_travel_goes_as_its_base() -> None:
    class Stubborn(RuntimeWarning):
        pass

    class Meta(type):
        def __reduce__(cls) -> Any:
            raise TypeError

    odd: Any = Meta("Odd", (Stubborn,), {})
    packed = overheard.pack_warned([("x", odd, "file.py", 3)])
    ((text, category, *place),) = overheard.unpack_warned(packed)
    assert (text, place) == ("x", ["file.py", 3])
    assert issubclass(category, RuntimeWarning)
    unknown = b"cnowhere\nOddWarning\n."
    assert overheard.unpack_warned([("x", unknown, "f", 1)]) == [("x", UserWarning, "f", 1)]


# -- losses ----------------------------------------------------------------------------------------


def test_a_scheduler_that_cannot_be_reached_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SECONDS_CONNECT", 0.5)
    with pytest.raises(ClusterLost, match=re.escape("tcp://127.0.0.1:1 is lost")) as caught:
        get_executor("tcp://127.0.0.1:1", 2)
    assert caught.value.address == "tcp://127.0.0.1:1"
    assert isinstance(caught.value, ConnectionError)


def test_a_client_that_was_closed_tells_where_its_cluster_was(client: Any) -> None:
    with Client(client.scheduler.address, set_as_default=False) as other:  # type: ignore[no-untyped-call]
        executor = get_executor(other, 2)
    for lost in (executor, get_executor(other, 2)):
        with pytest.raises(ClusterLost, match="this one stays closed") as caught:
            run([], lost, PLENTY)
        assert caught.value.address == client.scheduler.address


def test_a_closed_client_that_nobody_has_met_is_a_bad_setting(client: Any) -> None:
    with Client(client.scheduler.address, set_as_default=False) as other:  # type: ignore[no-untyped-call]
        pass
    with pytest.raises(ConfigError, match="is closed; make another"):
        get_executor(other, 2)


NOBODY = """
import sys, dask
from chunkarr import doctor
from chunkarr.errors import ConfigError
from chunkarr.scheduler import registry
registry.SECONDS_CONNECT = 60
if len(sys.argv) > 2:
    dask.config.set({"distributed.comm.require-encryption": True})
try:
    registry.get_executor(sys.argv[1], 2)
except ConfigError as error:
    print(error)
print(*(f.text for f in doctor.examine(sys.argv[1]) if f.name in ("executor", "cluster")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1", "missing port number"),
        ("tcp://127.0.0.1:abc", "'abc'"),
        ("http://x:1", "unknown address scheme 'http'"),
        ("tls://127.0.0.1:8786", "`chunkarr cluster credentials"),
        ("tcp://127.0.0.1:8786 encrypted", "use the scheduler's tls:// address"),
    ],
)
def test_an_address_that_nobody_can_reach_is_a_bad_setting(address: str, reason: str) -> None:
    command = [sys.executable, "-c", NOBODY, *address.split()]
    # Clients that were left half made would keep it for two minutes, and say so.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    error, report = done.stdout.splitlines()
    assert reason in error
    assert report.endswith(error)
    assert done.stderr == ""


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[clusters.Cluster]:
    """A cluster of processes with credentials, as `chunkarr cluster up` makes it."""
    made = clusters.start(2, folder=str(tmp_path / "cluster"))
    try:
        yield made
    finally:
        for pid, _ in made.processes:
            os.kill(pid, signal.SIGCONT)
        clusters.stop(made.folder)


def connected(cluster: clusters.Cluster) -> Any:
    certificate, key = f"{cluster.folder}/cert.pem", f"{cluster.folder}/key.pem"
    security = distributed.Security(  # type: ignore[no-untyped-call]
        tls_ca_file=certificate,
        tls_client_cert=certificate,
        tls_client_key=key,
        require_encryption=True,
    )
    return Client(cluster.address, security=security, set_as_default=False)  # type: ignore[no-untyped-call]


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_is_gone_or_silent_is_lost_and_the_run_resumed(
    end: signal.Signals, standing: clusters.Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    values = np.random.default_rng(1).normal(size=(600, 600))
    np.save(folder / "x.npy", values)

    def work() -> Any:
        x = xp.open(folder / "x.npy")
        return (x - x.mean(0)).to_zarr(folder / "y.zarr", chunks=(10, 30), resume=True)

    settings = {"spill_dir": str(tmp_path), "chunk_bytes": 20_000, "eager_bytes": 0}
    client = connected(standing)
    try:
        with xp.config(executor=client, memory="1GiB", **settings):
            executor = get_executor(client, 2)
            executor.next_events = ending(executor, standing.processes[0][0], end, folder)  # type: ignore[method-assign]
            began = time.monotonic()
            with pytest.raises(ClusterLost, match="resume=True") as caught:
                work()
        assert time.monotonic() - began < 15
        assert caught.value.address == standing.address
    finally:
        os.kill(standing.processes[0][0], signal.SIGCONT)
        client.close(timeout=1)
    kept = len(list(folder.glob(".y.zarr*.partial/c/*/*")))
    assert kept > 100
    with xp.config(executor="threads", memory="1GiB", workers=2, **settings):
        work()
    np.testing.assert_allclose(xp.open(folder / "y.zarr").compute(), values - values.mean(0))
    assert sorted(os.listdir(folder)) == ["x.npy", "y.zarr"]


def ending(executor: Any, pid: int, end: signal.Signals, folder: Path) -> Any:
    """Give a way to wait for events that strikes the scheduler once there is something to keep."""
    wait = executor.next_events
    struck: list[int] = []

    def next_events(timeout: float) -> Any:
        if not struck and len(list(folder.glob(".y.zarr*.partial/c/*/*"))) > 150:
            os.kill(pid, end)
            struck.append(pid)
        return wait(timeout)

    return next_events


@pytest.mark.slow
def test_it_works_with_tls_and_gives_the_same_bits(
    standing: clusters.Cluster, tmp_path: Path
) -> None:
    x = np.random.default_rng(2).normal(size=(500, 300))

    def result() -> Any:
        lazy = xp.from_array(x)
        return ((lazy - lazy.mean(0)) / lazy.std(0)).sum(1).compute()

    more = {"chunk_bytes": 40_000, "eager_bytes": 0, "memory": "1GiB", "spill_dir": str(tmp_path)}
    with xp.config(executor="threads", workers=2, **more):
        expected = result()
    with connected(standing) as client, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with xp.config(executor=client, **more):
            assert result().tobytes() == expected.tobytes()


@pytest.mark.slow
def test_nobody_without_the_key_gets_in(standing: clusters.Cluster) -> None:
    for address in (standing.address, standing.address.replace("tls", "tcp")):
        with pytest.raises((OSError, TypeError, ValueError, RuntimeError)):
            Client(address, timeout=2, set_as_default=False)  # type: ignore[no-untyped-call]
