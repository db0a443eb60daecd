"""Little room and odd machines: few open files, short writes, clocks that jump, no network."""

from __future__ import annotations

import contextvars
import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunkarr.errors import OutputError, SpillError
from chunkarr.settings import config
from chunkarr.storage.spill import Session
from tests.faults.checks import ON_DASK, Place, in_time, without_frames, xp
from tests.faults.operations import OPERATIONS, Operation, check, check_output, replace_old
from tests.faults.sessions import ROOT
from tests.faults.storm import jumping, writing_at_most

pytestmark = pytest.mark.faults

BY_NAME = {operation.name: operation for operation in OPERATIONS}
SUMS = BY_NAME["running sums"]
EXECUTORS = ("threads", "processes")

SCRIPT = """
import resource, sys
from pathlib import Path
import numpy
import chunkarr as xp
from tests.faults.operations import OPERATIONS
folder, executor, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
xp.config(spill_dir=str(folder / "spill"), eager_bytes=0, chunk_bytes=1 << 10, workers=2)
if executor == "distributed":
    import distributed
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, **here)
    executor = distributed.Client(cluster, set_as_default=False)
xp.config(executor=executor)
for operation in OPERATIONS:
    if operation.name in names:
        operation.run(folder / "in", operation.path(folder / "out"))
if "many files" in names:
    pieces = [xp.load(folder / "in" / "a.npy") + i for i in range(200)]
    (folder / "in" / "many").mkdir()
    for i, piece in enumerate(pieces):
        xp.save(folder / "in" / "many" / f"{i}.npy", piece)
    again = [xp.load(folder / "in" / "many" / f"{i}.npy") for i in range(200)]
    total = sum(float(part) for part in xp.compute(*[piece.sum() for piece in again]))
    plain = numpy.load(folder / "in" / "a.npy")
    assert abs(total - sum((plain + i).sum() for i in range(200))) < 1e-6
print("done")
"""


def run_script(place: Place, executor: str, *names: str, before: str = "", **more: Any) -> str:
    """Run operations in a session of their own; gives what it said."""
    command = [sys.executable, "-c", SCRIPT, str(place.folder), executor, *names]
    done = subprocess.run(
        [*before.split(), *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.mark.parametrize(
    ("executor", "files"),
    [
        ("threads", 64),
        ("processes", 64),
        pytest.param("distributed", 100, marks=[*ON_DASK, pytest.mark.slow]),
    ],
)
def test_few_open_files_are_enough(executor: str, files: int, place: Place) -> None:
    limit = (files, files)
    names = ("running sums", "other chunks", "sort", "archives")
    said = run_script(
        place,
        executor,
        *names,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    )
    assert said == "done\n"
    for name in names[:2]:
        run_script(place, executor, name)
        check_output(BY_NAME[name], place, None)


def test_more_arrays_than_files_may_be_open(place: Place) -> None:
    limit = (100, 100)
    said = run_script(
        place,
        "threads",
        "many files",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    )
    assert said == "done\n"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_no_network_is_needed(executor: str, place: Place) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False).returncode:
        pytest.skip("network namespaces are not permitted here")
    assert run_script(place, executor, SUMS.name, before=f"{unshare} -rn") == "done\n"
    check_output(SUMS, place, None)


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("name", ["running sums", "npy", "shards to shards", "sort"])
def test_short_writes_are_continued(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", writing_at_most(7))
    replace_old(BY_NAME[name], place)
    check_output(BY_NAME[name], place, None)


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("name", ["running sums", "npy"])
def test_a_write_that_stays_short_is_an_error(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_old(BY_NAME[name], place)
    place.settle()
    write, left = os.pwrite, [3000]

    def full(fd: int, data: Any, at: int) -> int:
        done = min(left[0], memoryview(data).nbytes)
        if not done:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= done
        return write(fd, memoryview(data)[:done], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises((OutputError, SpillError), match="No space") as caught:
            replace_old(BY_NAME[name], place)
    check(BY_NAME[name], place, without_frames(caught.value))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("seed", range(3))
def test_clocks_may_jump(
    seed: int, executor: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = jumping(random.Random(seed))
    with config(executor=executor):
        replace_old(SUMS, place)
        place.settle()
        monkeypatch.setattr(time, "time", now)
        monkeypatch.setattr(time, "time_ns", lambda: int(now() * 1e9))
        for _ in range(3):
            replace_old(SUMS, place)
            check(SUMS, place, None)


def test_a_clock_that_stands_still_gives_every_scratch_its_own_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    x = xp.open(place.folder / "in" / "a.zarr")

    def write() -> None:
        (x * 2).to_zarr(place.out / "x.zarr")

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(write,)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(xp.open(place.out / "x.zarr").compute(), x.compute() * 2)
    assert place.left() == []


# -- the spill directory ---------------------------------------------------------------------------


def vanish(spill: Path) -> None:
    shutil.rmtree(spill)


def lock(spill: Path) -> None:
    """Put a file where the directory was: root may write to what is read only."""
    shutil.rmtree(spill)
    spill.write_text("in the way")


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("fate", [vanish, lock])
def test_a_spill_directory_that_goes_is_named_and_the_session_goes_on(
    fate: Any, executor: str, place: Place, tmp_path: Path
) -> None:
    spill = place.folder / "spill"
    with config(executor=executor):
        replace_old(SUMS, place)
        place.settle()
        fate(spill)
        try:
            replace_old(SUMS, place)
        except SpillError as error:
            assert error.directory.startswith(str(spill))  # noqa: PT017 - making it anew is right
        assert place.left() == []
        (tmp_path / "other").mkdir()
        with config(spill_dir=str(tmp_path / "other")):
            replace_old(SUMS, place)
            check_output(SUMS, place, None)
            Session.close_all()
        assert os.listdir(tmp_path / "other") == []


def test_a_read_only_spill_directory_is_named(place: Place) -> None:
    spill = place.folder / "spill"
    mounted = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(spill)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("mounting needs more rights")
    try:
        with config(executor="processes"), in_time():
            with pytest.raises(SpillError, match="Read-only") as caught:
                replace_old(SUMS, place)
            assert caught.value.directory.startswith(str(spill))
    finally:
        subprocess.run(["umount", "-l", str(spill)], check=True)
    with config(executor="processes"):
        replace_old(SUMS, place)
        check_output(SUMS, place, None)


# -- beside each other -----------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS)
def test_computations_at_once_wait_for_each_other(executor: str, place: Place) -> None:
    """They share one executor, so that no two believe the memory to be theirs."""
    operations = [SUMS, BY_NAME["npy"], BY_NAME["other chunks"], BY_NAME["selection"]]
    places = [Place(place.folder / f"run{i}") for i in range(len(operations))]
    failed: list[BaseException] = []

    def work(operation: Operation, own: Place) -> None:
        try:
            with config(executor=executor):
                for _ in range(3):
                    operation.run(place.folder / "in", operation.path(own.out))
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(work, *pair))
        for pair in zip(operations, places, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for operation, own in zip(operations, places, strict=True):
        check_output(operation, own, None)
        assert own.left() == []


def test_sessions_at_once_leave_each_other_alone(place: Place) -> None:
    """They share the spill directory and even an output, which is one of theirs in the end."""
    command = [sys.executable, "-c", SCRIPT, str(place.folder)]
    sessions = [
        subprocess.Popen(
            [*command, executor, SUMS.name, "other chunks"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for executor in EXECUTORS
    ]
    for session in sessions:
        said, errors = session.communicate(timeout=60)
        assert (said, errors) == ("done\n", "")
    assert place.left() == []
    assert os.listdir(place.folder / "spill") == []
    check_output(BY_NAME["other chunks"], place, None)
