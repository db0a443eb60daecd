"""How a worker of a Dask cluster has ended, as far as anybody there knows.

Its scheduler only sees that a connection is gone. The nanny that has started the worker knows more:
that it ended the worker for want of memory, of which it leaves a word with the scheduler, and how
the process ended, of which there is a line in its log, unless logs are silenced. What nobody has
written down is not guessed.
"""

from __future__ import annotations

import re
import signal
from asyncio import sleep
from dataclasses import dataclass
from typing import Any

from chunkarr.errors import format_bytes

TRIES, SECONDS_AGAIN = 4, 0.2
"""A scheduler hears of an end a moment before the nanny has written it down."""
_MEMORY = "worker-restart-memory"
"""Under which Dask's nannies leave word of those they end."""


@dataclass(frozen=True, slots=True)
class Former:
    """A worker that has ended, as it was known while it ran."""

    address: str
    process: int
    """0 where it is not known."""
    nanny: str | None
    bytes_max: int


async def how_it_ended(scheduler: Any, worker: Former) -> str:
    """Tell how a worker ended, and where to look if nobody knows."""
    name = f"the Dask worker {worker.address}"
    for _ in range(TRIES):
        for _, told in await scheduler.events(topic=_MEMORY):
            if told["worker"] == worker.address and told["pid"] == worker.process:
                held, most = format_bytes(told["rss"]), format_bytes(worker.bytes_max)
                return f"{name} was ended by Dask because it held {held} of its {most} of memory"
        if not worker.nanny or not worker.process:
            break
        lines = await scheduler.proxy(worker=worker.nanny, msg={"op": "get_logs"})
        for _, line in lines:
            found = re.search(rf"Worker process {worker.process} (exited|was killed) .*", line)
            if found is not None:
                return f"{name} {_spelled(found[0])}"
        await sleep(SECONDS_AGAIN)
    where = f"the log of its nanny {worker.nanny}" if worker.nanny else "its log"
    return f"{name} has ended; if anything tells why, it is {where}"


def _spelled(line: str) -> str:
    """Spell how a process has ended, from the words of Dask's nanny.

    >>> _spelled("Worker process 12 exited with status 5")
    'has ended with exit code 5'
    >>> _spelled("Worker process 12 was killed by signal 9")
    'was killed by SIGKILL, as also the system does where memory is short'
    """
    words = line.split(maxsplit=3)[3]
    number = int(words.rsplit(maxsplit=1)[1]) if words[-1].isdigit() else 0
    if words.startswith("exited"):
        return f"has ended with exit code {number}"
    if number == signal.SIGKILL:
        return "was killed by SIGKILL, as also the system does where memory is short"
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return words
