"""What psutil knows of processes; loaded where `/proc` does not answer the question at once."""

from __future__ import annotations

import psutil


def descendants() -> tuple[int, ...]:
    """Give the ids of the processes below this one; scans all processes of the machine."""
    return tuple(child.pid for child in psutil.Process().children(recursive=True))


def bytes_resident(pid: int) -> int:
    """Bytes of a process, all that is resident; zero when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
