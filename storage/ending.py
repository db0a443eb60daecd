"""What is removed when this process ends, however it ends.

Scratch is entered here before it is made and struck off after it is gone, so that an interrupt at
any moment between leaves it in the list. The list is worked off at exit and, while there is
something in it, on SIGTERM and SIGHUP: Python's own answer to these is to die on the spot. A
handler is installed only where nobody else has one, only by the main thread, since no other may,
and taken away when the list is empty. It ends the process by the same signal, so that whoever
waits for the process sees no difference.

A handler of Python's runs between two bytecodes of the main thread: a long call of NumPy's in there
delays it. What a killed process has left is swept by the next one, see `claims`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Protocol


class Scratch(Protocol):
    """Something on disk that must not outlive this process."""

    def clear(self) -> None:
        """Remove it; harmless when called twice or cut short and called again."""

    def let_go(self) -> None:
        """Close it in a forked child: it is the parent's."""


SIGNALS = (signal.SIGTERM, signal.SIGHUP)

_held: dict[int, Scratch] = {}
_armed: list[signal.Signals] = []


def hold(scratch: Scratch) -> None:
    """Enter scratch that is about to be made."""
    _held[id(scratch)] = scratch
    _arm()


def forget(scratch: Scratch) -> None:
    """Strike off scratch that is gone, or that was published."""
    _held.pop(id(scratch), None)
    if not _held:
        _disarm()


def clear_all() -> None:
    """Remove all scratch of this process."""
    for scratch in list(_held.values()):
        with contextlib.suppress(OSError):
            scratch.clear()


def _arm() -> None:
    if _armed or not _may_handle():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            _armed.append(number)
            signal.signal(number, _ended_by)


def _disarm() -> None:
    if not _armed or not _may_handle():
        return
    for number in _armed:
        if signal.getsignal(number) is _ended_by:
            signal.signal(number, signal.SIG_DFL)
    _armed.clear()


def _may_handle() -> bool:
    return threading.current_thread() is threading.main_thread()


def _ended_by(number: int, _: FrameType | None) -> None:
    """Remove all scratch, then die of the signal as if it had not been handled."""
    signal.signal(number, signal.SIG_DFL)  # a second one does not wait for the first
    clear_all()
    os.kill(os.getpid(), number)


def _after_fork() -> None:
    for scratch in list(_held.values()):
        scratch.let_go()
    _held.clear()
    _disarm()


atexit.register(clear_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
