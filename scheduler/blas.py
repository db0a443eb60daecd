"""Keeps BLAS to one thread while several tasks call it: else each core serves many threads.

The limit is a setting of the library and holds for the whole process, so it is put back afterwards.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import threadpoolctl

_known: tuple[int, threadpoolctl.ThreadpoolController] | None = None


def one_blas_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread for the length of a `with` block."""
    global _known  # noqa: PLW0603 - finding the libraries takes milliseconds, so it is remembered
    # A library that was loaded since the last look came with a module.
    modules = len(sys.modules)
    if _known is None or _known[0] != modules:
        _known = (modules, threadpoolctl.ThreadpoolController())
    limiter: AbstractContextManager[object] = _known[1].limit(limits=1, user_api="blas")
    return limiter
