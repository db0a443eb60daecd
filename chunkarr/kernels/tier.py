"""Decides when a kernel is compiled, and finds it once it is.

Compiling takes 0.1 to 1 s, the first time 0.5 s more to load Numba, so it pays only for long work.
An entry adds up the time its pieces would take in NumPy; beyond a threshold it is looked up on
disk, and beyond a higher one a background thread compiles it. Callers never wait: they stay in the
NumPy tier until the kernel is there, which both tiers' equal bits make invisible.

CHUNKARR_KERNELS=numpy turns compiled kernels off, =compiled compiles before running (for tests).
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import field, replace
from typing import Any

from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.spec import Spec
from chunkarr.kernels.users import is_users
from chunkarr.kernels.vecmath import is_ours, thorough
from chunkarr.records import dataclass
from chunkarr.room import allow_compiling, may_compile

Kernel = Callable[..., None]

SECONDS_PER_ELEMENT = 0.6e-9
"""Time of one operation on one 8-byte element in the NumPy tier."""
SECONDS_PER_SEARCH = 10e-9
"""Time that finding or counting one element takes in the NumPy tier."""
CALL_OPERATIONS = 5
"""The least that calling a user's function takes, in operations."""
COMPILE_SECONDS = 0.15
"""Estimated NumPy time from which compiling pays."""
LOAD_SECONDS = 0.005
"""Estimated NumPy time from which reading object code pays..."""
FIRST_LOAD_SECONDS = 0.05
"""...and from which it pays to load LLVM for it."""
EXPECTED_MAX = 1024
KERNELS_MAX = 1024
"""Kernels that a process holds, some 70 KB each; beyond it those loaded first go."""
ENTRIES_MAX = 8192


@dataclass(eq=False, slots=True)
class Entry:
    """One kernel, wanted or ready."""

    spec: Spec
    cost: float
    """Seconds the NumPy tier takes per element."""
    kernel: Kernel | None = None
    seconds: float = 0.0
    """NumPy time spent or announced so far."""
    looked_up: bool = False
    """Whether the disk was asked for it, or is asked just now."""
    looking: bool = False
    queued: bool = False
    failed: bool = False
    key: str = field(default="")
    ours: bool = False
    """Whether it calls functions of `chunkarr.kernels.vecmath`, which have no equal in NumPy."""


_mode = os.environ.get("CHUNKARR_KERNELS", "auto")
_lock = threading.RLock()
_entries: dict[Spec, Entry] = {}
_expected: dict[Program, int] = {}
_queue: deque[Entry] = deque()
_loaded: deque[Entry] = deque()
_thread: threading.Thread | None = None
_compiling = False
_closed = False
_building = threading.Lock()
_thorough: dict[Program, Program] = {}


SECONDS_PER_CALL = 60e-6
"""What a call of the NumPy tier costs however small its piece."""

BYTES_FIRST_KERNEL = 112 << 20
"""Measured: 50 MiB for Numba, LLVM and a first kernel, 10 to 15 MiB for each of a few more."""
BYTES_MORE_KERNELS = 32 << 20


def mode() -> str:
    """Say which tiers run: "auto", "numpy" or "compiled"."""
    return _mode


def set_mode(name: str) -> str:
    """Choose the tiers as CHUNKARR_KERNELS does; gives the former choice."""
    global _mode
    if name not in {"auto", "numpy", "compiled"}:
        message = f"kernels must be 'auto', 'numpy' or 'compiled', not {name!r}"
        raise ValueError(message)
    former, _mode = _mode, name
    return former


def entry_for(spec: Spec) -> Entry:
    """Give the entry of a kernel, the same one for equal specs."""
    with _lock:
        entry = _entries.get(spec)
        if entry is None:
            if len(_entries) >= ENTRIES_MAX:
                _forget_idle()
            entry = _entries[spec] = Entry(spec, _cost(spec))
            entry.seconds = _expected.get(spec.program, 0) * entry.cost
            entry.ours = any(is_ours(op.name) for op in _ops(spec))
        return entry


def _forget_idle() -> None:
    for spec in [s for s, entry in _entries.items() if entry.kernel is None and not entry.queued]:
        del _entries[spec]
    _thorough.clear()


def keep(entry: Entry, kernel: Kernel) -> None:
    """Give an entry its kernel, and let go of the one loaded first where there are too many.

    A kernel that is running stays until it returns; one that is wanted again is read from disk.
    """
    with _lock:
        entry.kernel = kernel
        _loaded.append(entry)
        while len(_loaded) > KERNELS_MAX:
            old = _loaded.popleft()
            old.kernel, old.looked_up, old.queued = None, False, False


def kernels_ready() -> int:
    """Count the kernels in memory."""
    with _lock:
        return sum(entry.kernel is not None for entry in _entries.values())


def _ops(spec: Spec) -> list[Op]:
    """List the operations of a kernel."""
    sides = spec.core.sides if spec.core is not None else ()
    return [op for program in (spec.program, *(s.program for s in sides)) for op in program.ops]


def _cost(spec: Spec) -> float:
    if spec.mode not in {"map", "row", "lanes", "column"}:
        return SECONDS_PER_SEARCH
    widths = [
        8 * CALL_OPERATIONS if is_users(op.name) else op.dtype.itemsize for op in _ops(spec)
    ] or [8]
    widths += [8 * CALL_OPERATIONS] * (spec.core is not None)
    for reducer in spec.reducers:
        widths.extend([spec.dtype.itemsize] * (3 if reducer.kind == "var" else 1))
    return SECONDS_PER_ELEMENT * sum(widths) / 8


def set_compiling(*, allowed: bool) -> None:
    """Allow loading and compiling new kernels, or not, where memory leaves no room for LLVM."""
    allow_compiling(allowed=allowed)


def bytes_to_come() -> int:
    """Bytes that LLVM, Numba and a handful of new kernels may still take in this process."""
    if _mode == "numpy":
        return 0
    return BYTES_MORE_KERNELS if "numba" in sys.modules else BYTES_FIRST_KERNEL


def request(program: Program, elements_total: int) -> None:
    """Announce work, so that a kernel worth compiling is started by the first piece."""
    if elements_total * SECONDS_PER_ELEMENT * (len(program.ops) + 1) < COMPILE_SECONDS:
        return
    with _lock:
        if len(_expected) >= EXPECTED_MAX:
            _expected.clear()
        _expected[program] = elements_total
        for entry in _entries.values():
            if entry.kernel is None and entry.spec.program == program:
                entry.seconds += elements_total * entry.cost


def kernel_for(entry: Entry, elements: int) -> Kernel | None:
    """Give an entry's kernel if it is ready; else count `elements` of work and act on them."""
    if entry.ours or _mode == "compiled":
        return _awaited(entry)
    if entry.kernel is not None or entry.failed:
        return entry.kernel
    entry.seconds += elements * entry.cost + SECONDS_PER_CALL
    if not may_compile():
        return None
    if not entry.looked_up:
        loaded = "chunkarr.kernels.machine" in sys.modules
        if entry.seconds >= (LOAD_SECONDS if loaded else FIRST_LOAD_SECONDS):
            _look_up(entry)
    # What another thread is just reading from disk is not compiled beside it.
    if not (entry.queued or entry.looking) and entry.seconds >= COMPILE_SECONDS:
        _enqueue(entry)
    return entry.kernel


def _look_up(entry: Entry) -> None:
    """Take a kernel from disk if it is there, in one thread."""
    mine = False
    try:
        with _lock:
            mine = not entry.looked_up
            entry.looked_up, entry.looking = True, mine or entry.looking
        if mine:
            _builder().load(entry)
    finally:
        if mine:
            entry.looking = False


def thorough_kernel(entry: Entry) -> Kernel:
    """Give the kernel that does what an entry's leaves unfinished."""
    spec = entry.spec
    program = _thorough.setdefault(spec.program, thorough(spec.program))
    core = spec.core
    if core is not None:
        sides = [replace(side, program=thorough(side.program)) for side in core.sides]
        core = replace(core, sides=tuple(sides))
    return _awaited(entry_for(replace(spec, program=program, core=core)))


def may_wait() -> bool:
    """Whether a plan made now may choose operations that need a kernel from the first piece on."""
    return _mode != "numpy" and may_compile()


def _awaited(entry: Entry) -> Kernel:
    kernel = entry.kernel
    if kernel is None:
        with _building:
            # Another thread may have built it meanwhile, and then there is nothing left to do.
            if not entry.failed:
                _builder().build(entry)
            kernel = entry.kernel
    if kernel is None:
        message = f"no kernel could be compiled for {entry.spec}"
        raise RuntimeError(message)
    return kernel


def _builder() -> Any:
    # What writes, compiles and keeps kernels is loaded with the first that is worth having.
    return importlib.import_module("chunkarr.kernels.build")


def _enqueue(entry: Entry) -> None:
    global _thread  # noqa: PLW0603 - one thread per process
    with _lock:
        if entry.queued or entry.kernel is not None or _closed:
            return
        entry.queued = True
        _queue.append(entry)
        if _thread is None:
            # Not a daemon: a thread inside LLVM must not outlive the interpreter, so an exit waits
            # for the kernel in hand, and `_work` takes no other one then.
            _thread = threading.Thread(target=_work, name="chunkarr-compile", daemon=False)
            _thread.start()


def _work() -> None:
    global _thread, _compiling  # noqa: PLW0603 - one thread per process
    while True:
        with _lock:
            if not _queue or not threading.main_thread().is_alive():
                _thread, _compiling = None, False
                return
            entry = _queue.popleft()
            _compiling = True
        _builder().build(entry)


def _after_fork() -> None:
    # The child has no compile thread. If that thread held Numba's lock, nobody will release it.
    global _lock, _building, _thread, _closed, _compiling  # noqa: PLW0603 - a new process
    _closed = _compiling
    _lock, _thread, _compiling = threading.RLock(), None, False
    _building = threading.Lock()
    _queue.clear()
    for entry in _entries.values():
        entry.queued = entry.looking = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
