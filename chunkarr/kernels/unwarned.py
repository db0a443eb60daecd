"""Keeps Numba from changing the program's warnings while kernels are compiled.

`warnings.catch_warnings` changes the filters of the whole process and puts them back at its end.
Where two threads do so by turns, the filters of the one stay for good, and warnings end in the list
of the other. Numba does it for each constraint that it solves, and kernels are compiled in the
background: generated code has nothing to warn of, so nothing is caught there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import errors

_here = threading.local()
_fixer: Any = vars(errors)["WarningsFixer"]
_caught = _fixer.catch_warnings


@contextmanager
def _maybe_caught(
    fixer: Any, filename: str | None = None, lineno: int | None = None
) -> Iterator[None]:
    if getattr(_here, "unwarned", False):
        yield
        return
    with _caught(fixer, filename, lineno):
        yield


_fixer.catch_warnings = _maybe_caught


@contextmanager
def unwarned() -> Iterator[None]:
    """Let Numba compile in this thread, for a `with` block, without catching warnings."""
    _here.unwarned = True
    try:
        yield
    finally:
        _here.unwarned = False
