"""Finds a kernel on disk or compiles it, for `tier`, which loads this file when it wants the first.

LLVM and Numba are heavier still; they are loaded once there is object code to run or to make.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
from pathlib import Path
from typing import Any

from chunkarr.kernels import cache, vecmath
from chunkarr.kernels.codegen import source_of
from chunkarr.kernels.tier import Entry, keep

_log = logging.getLogger("chunkarr.kernels")


_WRITERS = ("compile.py", "panels.py", "streams.py", "callees.py", "elementary.py")
"""The files that decide what a kernel's source becomes, with those of `vecmath`."""


@functools.cache
def _digest(*, functions: bool) -> str:
    """Name the text of the compiler, on which all kernels depend, and that of `vecmath`."""
    files = [Path(__file__).with_name(name) for name in _WRITERS]
    files += vecmath.files() if functions else []
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _key(entry: Entry) -> tuple[str, str]:
    source = source_of(entry.spec)
    if not entry.key:
        text = source + _digest(functions="vec_" in source)
        entry.key = hashlib.sha256(text.encode()).hexdigest()[:40]
    return source, entry.key


def _machine() -> Any:
    # LLVM is loaded with the first kernel, not with the package.
    return importlib.import_module("chunkarr.kernels.machine")


def load(entry: Entry) -> None:
    """Take a kernel from disk if it is there."""
    _, key = _key(entry)
    if not cache.contains(key):
        return
    try:
        machine = _machine()
        code = cache.read(key, machine.fingerprint())
        if code is not None:
            keep(entry, machine.load_object(code))
    except Exception:  # noqa: BLE001 - without a kernel the NumPy tier serves
        _log.debug("could not load a cached kernel", exc_info=True)


def build(entry: Entry) -> None:
    """Load or compile a kernel; a failure leaves the program to the NumPy tier."""
    if not entry.looked_up:
        entry.looked_up = True
        load(entry)
    if entry.kernel is not None:
        return
    try:
        machine = _machine()
        compiler = importlib.import_module("chunkarr.kernels.compile")
        source, key = _key(entry)
        code = compiler.compile_kernel(source, key)
        keep(entry, machine.load_object(code))
        cache.write(key, machine.fingerprint(), code)
    except Exception:  # noqa: BLE001 - without a kernel the NumPy tier serves
        entry.failed = True
        _log.debug("could not compile a kernel", exc_info=True)
