"""Warnings of the tasks that a thread runs, in a process that belongs to others as well.

A worker process of our own collects all warnings that it shows. A Dask worker has several threads,
and other people's tasks run there. So what is installed here tells threads apart: a warning of a
thread that listens is collected, each different one once, and all others go where they went before.
The filters of the process are for its other users; those that count are the client's.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cloudpickle

from chunkarr.scheduler.worker import Warned, Warnings

_heard = threading.local()
_lock = threading.Lock()


class _OfListeners:
    """Stands in a filter for the pattern of its text, and matches in threads that listen."""

    def match(self, _text: str) -> bool:
        return _listener() is not None


_of_listeners: Any = _OfListeners()


class _Show:
    """Stands before `warnings.showwarning`; has its own way on, since others may do the same."""

    def __init__(self, onward: Callable[..., None]) -> None:
        self._onward = onward

    def __call__(self, *arguments: Any, **options: Any) -> None:
        (_listener() or self._onward)(*arguments, **options)


@contextmanager
def listening() -> Iterator[Warnings]:
    """Collect this thread's warnings for a `with` block, also those that are ignored here."""
    # Whoever leaves `warnings.catch_warnings` removes what was installed in the meantime.
    with _lock:
        if not isinstance(warnings.showwarning, _Show):
            warnings.showwarning = _Show(warnings.showwarning)
        if not any(found[1] is _of_listeners for found in warnings.filters):
            # Nobody's record of warnings shown already becomes invalid: nothing changes for others.
            warnings.filters.insert(0, ("always", _of_listeners, Warning, None, 0))  # type: ignore[attr-defined]
    found = _heard.found = Warnings()
    try:
        yield found
    finally:
        _heard.found = None


def _listener() -> Warnings | None:
    return getattr(_heard, "found", None)


Packed = tuple[str, bytes, str, int]
"""A warning whose category is pickled."""


def pack_warned(found: list[Warned]) -> list[Packed]:
    """Pickle categories of warnings; one that cannot be goes as the one it derives from."""
    kinds = {kind: _pickled(kind) for _, kind, _, _ in found}
    return [(text, kinds[kind], filename, lineno) for text, kind, filename, lineno in found]


def _pickled(category: type[Warning]) -> bytes:
    for kind in category.__mro__:
        # Any class may do anything in its pickling.
        with suppress(Exception):
            packed: bytes = cloudpickle.dumps(kind)
            cloudpickle.loads(packed)
            return packed
    raise AssertionError


def unpack_warned(found: list[Packed]) -> list[Warned]:
    """Give warnings with their categories; one that is not installed here is a UserWarning."""
    return [(text, _unpickled(kind), filename, lineno) for text, kind, filename, lineno in found]


def _unpickled(packed: bytes) -> type[Warning]:
    with suppress(Exception):
        kind = cloudpickle.loads(packed)
        if issubclass(kind, Warning):
            return kind  # type: ignore[no-any-return]
    return UserWarning
