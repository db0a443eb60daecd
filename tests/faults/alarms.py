"""Ctrl-C over and over, at moments that a clock of the system chooses."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator


def interrupt(*_: object) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def interrupted(work: Callable[[], object], times: int = 200) -> Iterator[int]:
    """Do work again and again; yields after each time that an interrupt fell into it."""
    met = turn = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while met < times:
            turn += 1
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + turn % 50 * 1e-6)
                    work()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                met += 1
                yield met
    finally:
        signal.signal(signal.SIGALRM, before)
