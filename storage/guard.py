"""Maps of files that somebody may cut short while a task reads them.

Touching a page behind the end of its file raises SIGBUS, which ends the process, and what is left
of the last page reads as zeros. Who reads by system calls gets an error instead, but a copy as
well, and that costs a sixth of the speed. So maps are read, and watched: whether the file is whole
is asked before a box of its map is given and when the block of work, `watched`, is left. Faults in
between are met by a signal handler (`guard_code`), which puts zeros in the place of missing pages
and counts. The block raises the error of the map that broke, and what was made of zeros goes with
it.

Outside of `watched` nothing is repaired, because nobody would be told: there a fault goes on to
whoever handled it before, by default to the end of the process. A view that outlives the block that
it broke in faults again.

On systems and processors for which there is no handler the sizes are compared and nothing else.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import platform
import signal
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from chunkarr.storage import guard_code as words
from chunkarr.storage.guard_code import CODES, TABLE

SLOTS_MAX = 1 << 14
"""Maps that are guarded at a time; the system allows a process four times as many in all."""
GONE_TOLD = 64
"""Maps that broke and are gone, whose errors somebody may still ask for."""

Told = Callable[[int], Exception]
"""Makes the error of a map that broke, from its first missing byte, counted from its start."""


class Moment(NamedTuple):
    """When something began: what was read later, and broke later, concerns it."""

    read: int
    breaks: int


class GuardedMap(mmap.mmap):
    """A map of a file that is known to the signal handler for as long as it lives."""

    _told: Told
    _slot = -1
    _read = 0
    _length = 0
    _bytes_file = 0
    """How long the file has to be; 0 once nobody looks at the map any more."""
    is_asked = False
    """Whether boxes are asked for before they are touched."""
    is_scarce = False
    """Whether memory cannot keep the file."""
    _scattered = False

    @classmethod
    def of(cls, fd: int, length: int, told: Told, **options: Any) -> GuardedMap:
        """Map a file as `mmap.mmap` does, and say what error to raise where a page is missing."""
        made = cls(fd, length, **options)
        made._told, made._length = told, length
        made._bytes_file = options.get("offset", 0) + length
        made._slot = _state.enter(made)
        return made

    def intact(self) -> bool:
        """Whether the file holds all of the map, and ever did; ask before giving a box of it."""
        self._read = _state.moment
        whole = self.size() >= self._bytes_file
        return whole and not (_state.breaks() and _state.slot(self._slot).number)

    def expect_scattered(self, scattered: bool) -> None:
        """Let a page that is touched be read alone, or with what lies around it, as at first."""
        if scattered is not self._scattered and hasattr(mmap, "MADV_RANDOM"):
            self._scattered = scattered
            self.madvise(mmap.MADV_RANDOM if scattered else mmap.MADV_NORMAL)

    def last(self) -> Moment:
        """Give when it was read last, and its last break."""
        return Moment(self._read, _state.slot(self._slot).number)

    def error_since(self, since: Moment) -> Exception | None:
        """Give the error of this map if it broke, or was read and is short, since a moment."""
        if _state.breaks() > since.breaks:
            slot = _state.slot(self._slot)
            if slot.number > since.breaks:
                return self._told(slot.lowest - slot.start)
        missing = self._missing() if self._read >= since.read else 0
        return self._told(max(0, self._length - missing)) if missing else None

    def _missing(self) -> int:
        wanted = self._bytes_file
        try:
            size = self.size()
        except (OSError, ValueError):
            if self._bytes_file:
                raise
            return 0
        # If another thread has closed it meanwhile, with word of what was missing, then its
        # descriptor may be another file's, and so may the size be.
        return max(0, wanted - size) if self._bytes_file else 0

    def close(self) -> None:
        """Unmap; nothing may look at it any more."""
        # The system may give the addresses to another map at once.
        if self._bytes_file and _state is not None:
            _state.leave(self, self._slot)
            self._bytes_file = 0
        super().close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._bytes_file and _state is not None:
            _state.leave(self, self._slot)


class _Slot(NamedTuple):
    """What the table says of a map."""

    start: int
    size: int
    lowest: int
    """Its lowest missing page, 0 where none was missed."""
    number: int
    """Its last break, 0 where there was none."""


class _Action(ctypes.Structure):
    """What the C library's `sigaction` takes on Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_FLAGS = 0x4 | 0x08000000 | 0x10000000 | 0x40000000
"""SA_SIGINFO, SA_ONSTACK, SA_RESTART and SA_NODEFER: as faulthandler's, which may call us."""
_MAP_FIXED = 0x10


class _Guard:
    """The handler and its table in memory."""

    def __init__(self, code: bytes) -> None:
        size = TABLE + 8 * (words.SLOTS + words.SLOT_WORDS * SLOTS_MAX)
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory[: len(code)] = code
        self._handler = _address(self._memory)
        self.words = memoryview(self._memory)[TABLE:].cast("Q")
        self._libc = ctypes.CDLL(None, use_errno=True)
        rights = mmap.PROT_READ | mmap.PROT_EXEC
        if self._libc.mprotect(ctypes.c_void_p(self._handler), ctypes.c_size_t(TABLE), rights):
            raise OSError(ctypes.get_errno(), "the system lets no program make code")
        self.words[words.PAGE_MASK] = -mmap.PAGESIZE % (1 << 64)
        for word in ("MMAP", "SIGACTION", "RAISE"):
            function = ctypes.cast(getattr(self._libc, word.lower()), ctypes.c_void_p)
            self.words[getattr(words, word)] = function.value or 0
        # Finalizers give slots back, and must not wait for a lock that their thread may hold.
        self._free: deque[int] = deque()
        self._fresh = itertools.count()
        self._settled = 0
        self._sigaction = self._libc.sigaction
        self._found = _Action()
        self._now = ctypes.byref(self._found)
        self.install()

    def install(self) -> None:
        """Be the one who is asked first, before whoever has become that since the last time."""
        self._sigaction(signal.SIGBUS, None, self._now)
        if self._found.handler != self._handler:
            self.words[words.PREVIOUS] = self._found.handler or 0
            ours = _Action(handler=self._handler, flags=_FLAGS)
            self._sigaction(signal.SIGBUS, ctypes.byref(ours), None)

    def enter(self, address: int, size: int) -> int:
        """Take a map into the table; -1 where there is no slot left."""
        slot = self._free.popleft() if self._free else next(self._fresh)
        if slot >= SLOTS_MAX:
            return -1
        at = words.SLOTS + words.SLOT_WORDS * slot
        self.words[at + words.LOWEST] = self.words[at + words.NUMBER] = 0
        self.words[at + words.START] = address
        # A slot counts from this moment.
        self.words[at + words.SIZE] = size
        self.words[words.SLOTS_USED] = max(self.words[words.SLOTS_USED], slot + 1)
        return slot

    def settle(self) -> None:
        """Let the missing pages of broken maps fault again: a view may outlive who was told."""
        if self._settled == self.words[words.BREAKS]:
            return
        self._settled = self.words[words.BREAKS]
        with suppress(OSError), tempfile.TemporaryFile() as empty:
            for slot in map(self.slot, range(self.words[words.SLOTS_USED])):
                if slot.size and slot.lowest:
                    self._put(empty.fileno(), slot.lowest, slot.start + slot.size - slot.lowest)

    def slot(self, number: int) -> _Slot:
        """Give what the table says of a map."""
        at = words.SLOTS + words.SLOT_WORDS * number
        return _Slot(*self.words[at : at + words.SLOT_WORDS])

    def leave(self, number: int) -> None:
        """Take a slot back."""
        self.words[words.SLOTS + words.SLOT_WORDS * number + words.SIZE] = 0
        self._free.append(number)

    def _put(self, file: int, place: int, size: int) -> None:
        rights, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
        at, count = ctypes.c_void_p(place), ctypes.c_size_t(size)
        self._libc.mmap(at, count, rights, flags, file, ctypes.c_long(0))


class _State:
    """What this process knows of its maps; the guard is made for the first one."""

    def __init__(self) -> None:
        # The table's words are changed by one thread at a time, except by the handler.
        self._lock = threading.RLock()
        self._guard: _Guard | None = None
        self._tried = False
        self._armed = 0
        self._maps: dict[int, weakref.ref[GuardedMap]] = {}
        self._gone: deque[tuple[Moment, Exception]] = deque(maxlen=GONE_TOLD)
        self.moment = 0

    def now(self) -> Moment:
        """Begin a new moment."""
        with self._lock:
            self.moment += 1
            return Moment(self.moment, self.breaks())

    def breaks(self) -> int:
        """Give how many faults were repaired."""
        return 0 if self._guard is None else self._guard.words[words.BREAKS]

    def enter(self, made: GuardedMap) -> int:
        """Look after a map; gives its slot in the table."""
        with self._lock:
            self._maps[id(made)] = weakref.ref(made)
            if not self._tried:
                self._tried, self._guard = True, _make_guard()
                self.arm(0)
            return -1 if self._guard is None else self._guard.enter(_address(made), len(made))

    def leave(self, made: GuardedMap, number: int) -> None:
        """Forget a map, but not that it broke."""
        self._maps.pop(id(made), None)
        error = made.error_since(_EVER)
        if error is not None:
            self._gone.append((made.last(), error))
        if self._guard is not None and number >= 0:
            self._guard.leave(number)

    def slot(self, number: int) -> _Slot:
        """Give what the table says of a map."""
        return _NO_SLOT if self._guard is None or number < 0 else self._guard.slot(number)

    def arm(self, change: int) -> None:
        """Count a block of work that begins or ends."""
        with self._lock:
            self._armed += change
            if self._guard is not None:
                self._guard.words[words.ARMED] = self._armed
                if self._armed == 1:
                    self._guard.install()
                elif not self._armed:
                    self._guard.settle()

    def error_since(self, since: Moment) -> Exception | None:
        """Give the error of a map that broke since a moment, None where none has."""
        for reference in list(self._maps.values()):
            made = reference()
            error = None if made is None else made.error_since(since)
            if error is not None:
                return error
        for (read, number), error in list(self._gone):
            if number > since.breaks or (not number and read >= since.read):
                return error
        return None

    @property
    def repairs(self) -> bool:
        """Whether a fault of this process would be repaired now."""
        return self._guard is not None and self._armed > 0

    def after_fork(self) -> None:
        """Forget the blocks of other threads, which a child does not have."""
        self._lock, self._armed = threading.RLock(), 0
        self.arm(0)


def _make_guard() -> _Guard | None:
    code = CODES.get(platform.machine()) if sys.platform == "linux" else None
    if code is not None and sys.maxsize > 1 << 32:
        with suppress(OSError, AttributeError):
            return _Guard(code.code)
    return None


def _address(memory: mmap.mmap) -> int:
    place: int = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return place


_EVER = Moment(0, 0)
_NO_SLOT = _Slot(0, 0, 0, 0)
_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.after_fork)


def now() -> Moment:
    """Give the moment from which on maps that are read concern a run."""
    return _state.now()


def just_now() -> Moment:
    """Give the moment that what was read last belongs to."""
    return Moment(_state.moment, _state.breaks())


def look_at(data: memoryview) -> None:
    """Meet the fault of missing pages that a system call has answered with EFAULT."""
    if _state.repairs:
        bytes(data[:: mmap.PAGESIZE])
        bytes(data[-1:])


class watched:  # noqa: N801 - a block, as `suppress` is
    """Repair maps that break in a `with` block, and raise the error of one when it is left.

    `since` is an earlier moment, where views are used that were read before the block. An exception
    that is no Exception goes on as it is.
    """

    def __init__(self, since: Moment | None = None) -> None:
        self._since = since

    def __enter__(self) -> Self:
        self._since = self._since or now()
        _state.arm(1)  # last, since an interrupt before the block would leave it armed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            told = _state.error_since(self._since or _EVER)
        finally:
            _state.arm(-1)
        if told is None or not (error is None or isinstance(error, Exception)):
            return
        named = getattr(error, "path", None)
        if named is None or named != getattr(told, "path", None):
            raise told from error
