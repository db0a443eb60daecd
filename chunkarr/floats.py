"""Floating-point events of a run: noted where values are made, told once where they are wanted.

NumPy tells of a division by zero after each call. A run makes thousands of calls on pieces, in many
threads or processes, and would tell of it thousands of times, from lines that are not the user's.
So its tasks only note kind and operation, and the run tells each pair once, at the line that asked
for the values, in the way that `numpy.errstate` says there: to ignore, warn, print, call or log. To
raise needs no noting: the task raises FloatingPointError, and that ends the run.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

import numpy as np

KINDS = {"divide": 1, "over": 2, "under": 4, "invalid": 8}
"""NumPy's kinds of events and the number that it gives each in a call."""

WORDS = {
    "divide": "divide by zero",
    "over": "overflow",
    "under": "underflow",
    "invalid": "invalid value",
}

REMARK = "remark"
"""The kind of an event that no flag stands for: a warning of NumPy's Python code."""

Event = tuple[str, str]
"""A kind, and the name of the operation as NumPy spells it, or the text of a remark."""

_name: ContextVar[str] = ContextVar("chunkarr_operation", default="")


class Events:
    """The events of a run; `numpy.errstate(call=events)` notes them."""

    def __init__(self, modes: Mapping[str, str]) -> None:
        self.found: dict[Event, None] = {}
        self.wanted = sum(bit for kind, bit in KINDS.items() if modes[kind] != "ignore")
        """The kinds that anybody wants to hear of, as a sum of numbers in `KINDS`."""
        self.told: dict[int, tuple[object, int]] = {}
        """For what ran compiled, by id: the kinds that were noted, of which no more is asked."""

    def write(self, text: str) -> None:
        """Note an event by NumPy's words, as `numpy.seterrcall` has it."""
        words, _, name = text.strip().removeprefix("Warning: ").partition(" encountered in ")
        for kind, spelled in WORDS.items():
            if words == spelled:
                self.found[kind, _name.get() or name] = None

    @property
    def kinds(self) -> int:
        """The kinds that were noted, as a sum of numbers in `KINDS`."""
        return sum({KINDS.get(kind, 0) for kind, _ in self.found})

    def add(self, events: Iterable[Event]) -> None:
        """Note events that another process has found."""
        self.found.update(dict.fromkeys(events))


_current: ContextVar[Events | None] = ContextVar("chunkarr_events", default=None)


def current() -> Events | None:
    """Give the events of the run that is going on here, None outside of runs."""
    return _current.get()


def note(events: Iterable[Event]) -> None:
    """Note events that another process has found for the run that is going on here."""
    here = _current.get()
    if here is not None:
        here.add(events)


def remark(text: str) -> None:
    """Warn of what values show, once for the run that is going on here."""
    events = _current.get()
    if events is None:
        warn_user(text)
    else:
        events.found[REMARK, text] = None


def modes_here() -> dict[str, str]:
    """Give what `numpy.errstate` says here of each kind of event."""
    return {kind: str(mode) for kind, mode in np.geterr().items()}


def wanted() -> int:
    """Give the kinds of events that are not ignored here, as a sum of numbers in `KINDS`."""
    events = _current.get()
    if events is not None:
        return events.wanted
    return sum(KINDS[kind] for kind, mode in np.geterr().items() if mode != "ignore")


@contextmanager
def gathering(modes: Mapping[str, str] | None = None) -> Iterator[Events]:
    """Note events for a `with` block instead of telling of them; those to raise are raised.

    `modes` says what is to become of each kind, by default what `numpy.errstate` says here.
    """
    modes = modes_here() if modes is None else modes
    events = Events(modes)
    inner: Any = {k: mode if mode in {"ignore", "raise"} else "log" for k, mode in modes.items()}
    token = _current.set(events)
    try:
        with np.errstate(call=events, **inner):
            yield events
    finally:
        _current.reset(token)


SILENT = dict.fromkeys(KINDS, "ignore")
"""Modes for what nobody is to hear of."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Let all that is done in a `with` block appear as one operation."""
    token = _name.set(name)
    try:
        yield
    except FloatingPointError as error:
        words, found, _ = str(error).partition(" encountered in ")
        raise FloatingPointError(f"{words}{found}{name}" if found else words) from None
    finally:
        _name.reset(token)


def tell(events: Iterable[Event]) -> None:
    """Tell of events as the errstate here has it, at the line of the user that led here."""
    # The order does not depend on which task was first.
    modes = modes_here()
    found = sorted(events, key=lambda event: (KINDS.get(event[0], 0), event[1]))
    for kind, name in found:
        if kind == REMARK:
            warn_user(name)
            continue
        message = f"{WORDS[kind]} encountered in {name}"
        match modes[kind]:
            case "warn":
                warn_user(message)
            case "raise":
                raise FloatingPointError(message)
            case "call":
                called: Any = np.geterrcall()
                # As NumPy does: the number is the sum of all that the operation has met.
                called(WORDS[kind], sum(KINDS.get(k, 0) for k, n in found if n == name))
            case "log":
                log: Any = np.geterrcall()
                log.write(f"Warning: {message}\n")
            case "print":
                sys.stderr.write(f"Warning: {message}\n")


def warn_user(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the line of the user that led here."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to look there
    while frame is not None and frame.f_globals.get("__name__", "").startswith("chunkarr"):
        frame = frame.f_back
    if frame is None:
        warnings.warn(message, category, stacklevel=2)
        return
    names = frame.f_globals
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        names.get("__name__", "<string>"),
        names.setdefault("__warningregistry__", {}),
    )
