"""Running a range of tasks, in whatever thread or process that is.

Threads, processes and clusters share this file, so it imports nothing that only one of them needs.
"""

from __future__ import annotations

import threading
from typing import Any

from chunkarr.faults import fault_point
from chunkarr.scheduler.steps import Context, Work
from chunkarr.storage.guard import Moment, watched

_inside = threading.local()


def enter_worker() -> None:
    """Note that this thread runs tasks from now on."""
    _inside.flag = True


def leave_worker() -> None:
    """Note that this thread is the user's own again."""
    _inside.flag = False


def inside_worker() -> bool:
    """Whether the calling thread runs tasks: a run started here must not wait for the same pool."""
    return getattr(_inside, "flag", False)


def run_range(
    work: Work, start: int, stop: int, context: Context, since: Moment
) -> tuple[int, BaseException] | None:
    """Run tasks one after another; give the one that failed and its error, or None.

    A range fails as well where a mapped file broke `since` the run began.
    """
    task = start
    whole: Any = getattr(work, "run_range", None)
    try:
        with watched(since):
            if whole is not None:
                context.check()
                fault_point("compute")
                whole(start, stop, context)
            else:
                run, check = work.run, context.check
                for task in range(start, stop):
                    check()
                    fault_point("compute")
                    run(task, context)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the run raises it again
        return task, error
    return None
