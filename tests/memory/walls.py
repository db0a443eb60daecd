"""A control group with a wall: what needs more memory in it is killed by the kernel.

All memory counts there, pages of files too; these the kernel drops before it kills.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
SECONDS_LEAVE = 5.0
"""Processes that have ended leave their group within this time."""


@dataclass(frozen=True, slots=True)
class Wall:
    """A group that processes are put in."""

    directory: Path

    @property
    def command(self) -> list[str]:
        """Give what starts a command inside; the command follows."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.directory / "cgroup.procs")]

    @property
    def kills(self) -> int:
        """How many processes were killed for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError):
                lines = (self.directory / name).read_text().split("\n")
                return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0


@contextmanager
def walled(size: int) -> Iterator[Wall | None]:
    """Make a group of so many bytes for a `with` block; None where this process may make none."""
    directory = _made(size)
    try:
        yield None if directory is None else Wall(directory)
    finally:
        end = time.monotonic() + SECONDS_LEAVE
        while directory is not None and directory.exists() and time.monotonic() < end:
            with suppress(OSError):
                directory.rmdir()
            time.sleep(0.01)


def _made(size: int) -> Path | None:
    for parent, limit in (
        (ROOT / "memory", "memory.limit_in_bytes"),
        (ROOT, "memory.max"),
    ):
        if not os.access(parent, os.W_OK) or not (parent / "cgroup.procs").exists():
            continue
        directory = None
        try:
            directory = Path(tempfile.mkdtemp(prefix="chunkarr-wall-", dir=parent))
            (directory / limit).write_text(str(size))
            swap = directory / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError:
            if directory is not None:
                directory.rmdir()
        else:
            return directory
    return None
