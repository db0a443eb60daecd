"""Faults on purpose: named points on the way of every byte, where nothing happens until asked for.

What a program does when the disk is full or a worker dies is known only where it was tried, at
every place where it can happen. So the places have names, and a test asks for "an error at the
third pass of `spill.write`", then at the fourth, until there is none. A point that nobody asked
about costs a call and a look at one variable.

Faults are asked for by a text, in a `with` block or in the environment:

    CHUNKARR_FAULT="spill.write:3:ENOSPC"            the third pass fails with that error
    CHUNKARR_FAULT="read:2+:EIO,compute:1:sleep=2"   the second and all later ones; a slow task

A point may have wildcards: `*` is any. Worker processes are told with their work. Passes are
counted by each process for itself, unless a folder is given where all of them count together: then
a fault of the third pass happens once, in whatever process that was.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from chunkarr.errors import ConfigError
from chunkarr.records import dataclass

VARIABLE = "CHUNKARR_FAULT"

POINTS = {
    "plan": "before a plan is made",
    "read": "before a chunk or a box of an input is read",
    "compute": "before a task, or a range of tasks that run as one",
    "spill.write": "before scratch is made, and before a tile of it is written",
    "spill.read": "before a tile of scratch is read",
    "exchange": "in a worker process, after a range was received and before its end is told",
    "commit.chunk": "before a chunk of an output gets its name, or a box of it is written",
    "commit.meta": "at each stage of a publication",
    "cleanup": "before a file or a directory is removed",
}
"""The points and when they are passed."""


def _flip(path: str) -> None:
    """Flip a bit of the last byte of a file."""
    with open(path, "r+b", buffering=0) as file:
        place = file.seek(-1, os.SEEK_END)
        (byte,) = os.pread(file.fileno(), 1, place)
        os.pwrite(file.fileno(), bytes([byte ^ 16]), place)


def _out_of_memory(_: str) -> None:
    raise MemoryError("asked for by " + VARIABLE)


def _signal(number: signal.Signals) -> Callable[[str], None]:
    return lambda _: os.kill(os.getpid(), number)


ACTIONS: dict[str, Callable[[str], object]] = {
    "kill": _signal(signal.SIGKILL),
    "stop": _signal(signal.SIGSTOP),
    "segfault": _signal(signal.SIGSEGV),
    "interrupt": _signal(signal.SIGINT),
    "exit": lambda _: os._exit(3),
    "memory": _out_of_memory,
    "flip": _flip,
    "truncate": lambda path: os.truncate(path, os.path.getsize(path) // 2),
    "delete": os.unlink,
}
"""What may happen at a point, beside errors by their names and `sleep=SECONDS`; takes the path."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: at which pass of which point, and what."""

    point: str
    number: int
    always: bool
    """Whether it happens at all later passes as well."""
    action: str

    def matches(self, name: str) -> bool:
        """Tell whether a point is meant."""
        return fnmatchcase(name, self.point)

    def due(self, passes: int) -> bool:
        """Tell whether it happens at this pass."""
        return passes == self.number or (self.always and passes > self.number)

    def happen(self, path: str) -> None:
        """Do it."""
        name, _, seconds = self.action.partition("=")
        if name == "sleep":
            time.sleep(float(seconds))
        elif name in ACTIONS:
            ACTIONS[name](path)
        else:
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number), path)


class Armed:
    """Faults that were asked for, and how often their points were passed.

    >>> faults = Armed("spill.*:2:ENOSPC")
    >>> faults.pass_by("spill.write", "x"), faults.pass_by("read", "y")
    (None, None)
    >>> faults.pass_by("spill.read", "z")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'z'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        listed, *options = text.split(";")
        known = dict(option.split("=", 1) for option in options)
        self._folder = known.get("counts")
        self._spared = int(known.get("spared", 0))
        self.faults = [_parse(entry) for entry in listed.split(",")]
        self._counters = [itertools.count(1) for _ in self.faults]
        self._passed = [0] * len(self.faults)

    def pass_by(self, name: str, path: str) -> None:
        """Note that a point is passed, and do what was asked for there."""
        if os.getpid() == self._spared:
            return
        for index, fault in enumerate(self.faults):
            if fault.matches(name) and fault.due(self._count(index)):
                fault.happen(path)

    def _count(self, index: int) -> int:
        if self._folder is None:
            self._passed[index] = next(self._counters[index])
            return self._passed[index]
        # What is appended lies behind what others append, so its end is its number.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(os.path.join(self._folder, str(index)), flags, 0o600)
        try:
            os.write(fd, b".")
            return os.lseek(fd, 0, os.SEEK_CUR)
        finally:
            os.close(fd)

    def passes(self, index: int = 0) -> int:
        """Give how often the points of a fault were passed, by all processes that count here."""
        if self._folder is None:
            return self._passed[index]
        try:
            return os.path.getsize(os.path.join(self._folder, str(index)))
        except FileNotFoundError:
            return 0

    def happened(self, index: int = 0) -> bool:
        """Tell whether a fault has come about."""
        return self.passes(index) >= self.faults[index].number


def _parse(entry: str) -> Fault:
    """Read one fault: point, number of the pass, action."""
    try:
        point, number, action = entry.strip().split(":")
        fault = Fault(point, int(number.removesuffix("+")), number.endswith("+"), action)
    except ValueError:
        raise ConfigError(f"{VARIABLE}: {entry!r} is not POINT:NUMBER:ACTION") from None
    name, _, seconds = action.partition("=")
    if not any(fault.matches(point) for point in POINTS):
        raise ConfigError(f"{VARIABLE}: no point is called {point!r}; known: {', '.join(POINTS)}")
    if name not in ACTIONS and not hasattr(errno, name) and not (name == "sleep" and seconds):
        raise ConfigError(
            f"{VARIABLE}: no action is called {action!r}; known: sleep=SECONDS, "
            f"{', '.join(ACTIONS)} and the names of errors, such as EIO"
        )
    return fault


_armed: Armed | None = None


def fault_point(name: str, path: str = "") -> None:
    """Pass a point; `path` is what the fault concerns."""
    if _armed is not None:
        _armed.pass_by(name, path)


def text_armed() -> str:
    """Give the faults that are asked for here as a text, empty where there are none."""
    return "" if _armed is None else _armed.text


def adopt(text: str) -> None:
    """Let the faults of another process happen in this one as well; an empty text ends that."""
    global _armed  # noqa: PLW0603 - the one variable that `fault_point` looks at
    if text != text_armed():
        _armed = Armed(text) if text else None


@contextmanager
def armed(
    text: str, counts: str | os.PathLike[str] | None = None, *, elsewhere: bool = False
) -> Iterator[Armed]:
    """Ask for faults for a block, here and in the worker processes that work for it.

    `counts` is an empty folder where all processes count together. With `elsewhere` nothing happens
    in this process.
    """
    before = text_armed()
    folder = "" if counts is None else f";counts={os.fspath(counts)}"
    whole = f"{text}{folder}{f';spared={os.getpid()}' if elsewhere else ''}"
    adopt(whole)
    assert _armed is not None
    try:
        yield _armed
    finally:
        adopt(before)


adopt(os.environ.get(VARIABLE, ""))
