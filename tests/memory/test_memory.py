"""Every kind of operation stays under the limit, on arrays several times as large.

Each runs in a fresh process; anonymous and shared memory of its whole process tree is sampled from
outside every five milliseconds. `pytest -m memory tests/memory` takes arrays of ten times the
limit; the quick form in every test run takes a few operations and twice the limit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.memory.operations import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
SECONDS_SAMPLE = 0.005
SECONDS_TREE = 0.1
"""Looking for new children costs more, so it is done more rarely."""

FULL = (12_000, 20_000)
LIMIT = 192
LIMIT_PROCESSES = 400
"""Every process has an interpreter and libraries of its own, which count."""

QUICK = (6_000, 8_000)
LIMIT_QUICK = 192


def bytes_of(pid: int) -> int:
    """Give anonymous and shared memory of one process."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(s.split()[1]) for s in lines if s.startswith(("RssAnon:", "RssShmem:"))) * 1024
    return 0


def measured(arguments: list[str]) -> tuple[int, float]:
    """Run a process; gives the peak bytes of its tree, and seconds."""
    began = time.monotonic()
    process = psutil.Popen(
        [sys.executable, "-m", "tests.memory.operations", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak, pids, looked = 0, [process.pid], 0.0
    while process.poll() is None:
        now = time.monotonic()
        if now - looked > SECONDS_TREE:
            with contextlib.suppress(psutil.Error):
                pids = [process.pid, *(p.pid for p in process.children(recursive=True))]
            looked = now
        peak = max(peak, sum(map(bytes_of, pids)))
        time.sleep(SECONDS_SAMPLE)
    text = process.stdout.read()
    assert process.returncode == 0, text[-3000:]
    return peak, time.monotonic() - began


def check(name: str, folder: Path, limit: int, executor: str, source: str = "x.zarr") -> None:
    """Run an operation and compare its peak with the limit."""
    try:
        peak, seconds = measured([name, str(folder), f"{limit}MiB", executor, source])
    finally:
        for made in ("out.zarr", "out.npy"):
            path = folder / made
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    print(f"{name} on {executor}: {peak / MIB:.0f} of {limit} MiB, {seconds:.1f} s")
    assert peak <= limit * MIB, f"{name}: {peak / MIB:.0f} MiB of {limit} MiB"
    files = [name for _, _, names in os.walk(folder) for name in names if "chunkarr-" in name]
    assert not files


def made(folder: Path, shape: tuple[int, int]) -> Path:
    """Write the sources in a process of its own: this one's memory does not matter."""
    measured(["make", str(folder), *map(str, shape)])
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = made(tmp_path_factory.mktemp("large"), FULL)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = made(tmp_path_factory.mktemp("small"), QUICK)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["standardise", "transpose", "sort"])
def test_twice_the_limit(name: str, small: Path) -> None:
    check(name, small, LIMIT_QUICK, "threads")


@pytest.mark.memory
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OPERATIONS)
def test_ten_times_the_limit(name: str, large: Path) -> None:
    check(name, large, LIMIT, "threads")


@pytest.mark.memory
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", ["elementwise", "standardise", "transpose", "cumsum down", "reshape", "save", "selection"]
)
def test_ten_times_the_limit_from_rows(name: str, large: Path) -> None:
    check(name, large, LIMIT, "threads", "rows.zarr")


@pytest.mark.memory
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", ["elementwise", "standardise", "transpose", "sort", "product", "cholesky", "persist"]
)
def test_five_times_the_limit_on_processes(name: str, large: Path) -> None:
    check(name, large, LIMIT_PROCESSES, "processes")
