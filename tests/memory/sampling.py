"""Measures a process tree from outside: its peak of anonymous and shared memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.memory.walls import Wall

ROOT = Path(__file__).resolve().parents[2]
SECONDS_SAMPLE = 0.005
SECONDS_TREE = 0.1
"""Looking for new children costs more, so it is done more rarely."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process took."""

    bytes_peak: int
    seconds: float
    output: str
    kills: int | None = None
    """Processes that the kernel killed at the wall, None without a wall."""


def bytes_of(pid: int) -> int:
    """Give anonymous and shared memory of one process."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        kinds = ("RssAnon:", "RssShmem:")
        return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) * 1024
    return 0


def workers_of(executor: str) -> list[psutil.Process]:
    """Give the processes that work for an executor of this process."""
    marks = {"processes": "scheduler.worker", "distributed": "spawn_main"}
    found = []
    for child in psutil.Process().children(recursive=True) if executor in marks else []:
        with contextlib.suppress(psutil.Error):  # it has just ended
            if marks[executor] in " ".join(child.cmdline()):
                found.append(child)
    return found


def clean_environment() -> dict[str, str]:
    """Give the environment without settings of chunkarr, which this run may have for itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHUNKARR_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def measured(arguments: Sequence[str], wall: Wall | None = None) -> Measured:
    """Run Python with arguments in the checkout until it ends; RuntimeError if it fails."""
    began = time.monotonic()
    process = psutil.Popen(
        [*(wall.command if wall else ()), sys.executable, *arguments],
        cwd=ROOT,
        env=clean_environment(),
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
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {process.returncode}\n{output[-3000:]}"
        )
    return Measured(peak, time.monotonic() - began, output, wall.kills if wall else None)
