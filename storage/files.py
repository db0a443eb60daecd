"""What this layer asks of the file system: whole writes, reserved room, durable renames.

Files are written with `pwrite` and never grown through a map: storing to a map of a full disk kills
the process with SIGBUS, where a write or a preallocation is an error that can be reported.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

from chunkarr.errors import OutputError, format_bytes
from chunkarr.grid import Region
from chunkarr.storage.guard import GuardedMap, look_at
from chunkarr.storage.store import NDArray

SYNC_THREADS = 16
"""Syncs that wait together share one commit of the file system's journal."""
HANDLES_MAX = 128
"""Files that one process keeps open at a time; others are reopened when asked for."""
FILES_UNLIMITED = 1 << 20

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_TOO_MANY = {errno.EMFILE, errno.ENFILE}
_NOT_PREALLOCATED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def as_bytes(values: NDArray) -> NDArray:
    """Give the bytes of a C-contiguous array as a flat view; datetimes have no buffer."""
    return values.reshape(-1).view(np.uint8)


def view_of(array: NDArray, region: Region) -> NDArray:
    """Give a box of an array as a view, also of a 0-d one, where `array[()]` is a scalar."""
    index: Any = (*region, ...)
    view: NDArray = array[index]
    return view


def refuse_objects(dtype: np.dtype[Any], name: str) -> None:
    """Raise ValueError, as `np.load` does, for a dtype whose bytes would be pickles or pointers."""
    if dtype.hasobject:
        msg = f"{name}: object arrays are pickles, which are not read from or written to data files"
        raise ValueError(msg)


def preallocate(fd: int, size: int) -> None:
    """Reserve disk for a file, so that a full disk is an OSError now and not a signal later."""
    os.ftruncate(fd, size)
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            # Some network file systems cannot reserve; there, writes report the full disk.
            if error.errno not in _NOT_PREALLOCATED:
                raise


def reserve(fd: int, size: int) -> None:
    """Ask the file system for a file's room at once, where it can do so without writing zeros.

    On ext4 a file that grows write by write costs up to five times as much: each page is reserved
    by itself. Nothing depends on it, so a refusal is not an error; a full disk shows in the write.
    """
    fallocate = getattr(_libc(), "fallocate", None)
    if fallocate is not None and size >= RESERVED_BYTES_MIN:
        fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size))


RESERVED_BYTES_MIN = 1 << 18


def begin_sync(fd: int) -> None:
    """Start bringing a file to disk without waiting: the sync of a commit finds less to do."""
    start = getattr(_libc(), "sync_file_range", None)
    if start is not None:
        start(fd, ctypes.c_int64(0), ctypes.c_int64(0), 2)  # SYNC_FILE_RANGE_WRITE


def write_at(fd: int, data: NDArray | bytes, offset: int) -> None:
    """Write all bytes at an offset; a short write is continued."""
    rest = buffer_of(data)
    while rest.nbytes:
        try:
            done = os.pwrite(fd, rest, offset)
        except OSError as error:
            if error.errno == errno.EFAULT:
                look_at(rest)  # the bytes lie in a map of a file that was cut short
            raise
        rest, offset = rest[done:], offset + done


def read_at(fd: int, out: NDArray, offset: int) -> None:
    """Fill a flat array of bytes from an offset; EOFError where the file ends before."""
    rest = buffer_of(out)
    while rest.nbytes:
        done = os.preadv(fd, [rest], offset)
        if not done:
            msg = f"file ends {rest.nbytes} bytes early"
            raise EOFError(msg)
        rest, offset = rest[done:], offset + done


def buffer_of(data: Any) -> memoryview:
    """Give the bytes of an array as a buffer, which NumPy's annotations do not say it is."""
    return memoryview(data)


def bytes_free(directory: str) -> int:
    """Bytes that an ordinary user may still write to the disk of a directory, 0 where unknown."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def output_error(path: str, needed: str, error: OSError) -> OutputError:
    """Give the error of an output, with what a full disk would have had to hold."""
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        directory = os.path.dirname(path)
        reason += f" in {directory} (needed {needed}, free {format_bytes(bytes_free(directory))})"
    return OutputError(path, reason)


def wait_for(calls: Iterable[Callable[[], None]]) -> None:
    """Make calls that signals do not interrupt, as syncs are, and wait in a way that they do.

    Ctrl-C must not wait for a slow disk. The calls under way are then left to end by themselves.
    """
    waiting = deque(calls)
    outcomes: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        while waiting:
            try:
                waiting.popleft()()
            except IndexError:  # another thread was faster
                return
            except BaseException as error:  # noqa: BLE001 - raised by who waits
                outcomes.put(error)
            else:
                outcomes.put(None)

    count = len(waiting)
    try:
        for _ in range(min(count, SYNC_THREADS)):
            threading.Thread(target=work, name="chunkarr-sync", daemon=True).start()
        for _ in range(count):
            error = outcomes.get()
            if error is not None:
                raise error
    finally:
        waiting.clear()


def sync_path(path: str) -> None:
    """Make a file's bytes, or a directory's entries, survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_disk(path: str) -> None:
    """Make everything written to the disk of `path` durable: one call instead of one per file."""
    syncfs = getattr(_libc(), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)


def exchange(left: str, right: str) -> bool:
    """Swap two paths at one instant; False where the system has no such call."""
    call = getattr(_libc(), "renameat2", None)
    if call is None:
        return False
    code = call(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE)
    if code == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
        return False
    raise OSError(number, os.strerror(number), right)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class OpenFile:
    """A file this process has open, and perhaps its map; closed when the last user lets go.

    Users hold it for the length of one call, so that the table of handles may forget it at any time
    while a write in another thread still goes to the right file. A file that is only read through
    its map has no descriptor of its own: `fd` is -1.
    """

    fd = -1
    bytes: GuardedMap | None = None
    _held: list[int] = []  # noqa: RUF012 - of an object whose making was interrupted
    _close = staticmethod(os.close)  # kept, because modules may be gone when the interpreter ends

    def __init__(self, fd: int = -1) -> None:
        self._held = [fd] if fd >= 0 else []
        self.fd = fd

    @classmethod
    def at(cls, path: str, flags: int, mode: int = 0o666, folder: int | None = None) -> OpenFile:
        """Open a path, with the arguments of `os.open`; in an open folder where one is given.

        Ctrl-C most often falls into the call itself and is noticed behind it, where the number of
        the file would be lost. It is not noticed while a list is extended.
        """
        file = cls()
        opened = os.open if folder is None else partial(os.open, dir_fd=folder)
        file._held.extend(map(opened, (path,), (flags,), (mode,)))
        (file.fd,) = file._held
        return file

    def close(self) -> None:
        """Close the file now."""
        while self._held:
            # One call of many: an interrupt between taking the number and closing would lose it.
            tuple(map(self._close, map(self._held.pop, (0,))))

    def __del__(self) -> None:
        self.close()


def _files_allowed() -> int:
    """Give how many files this process may have open."""
    if resource is None:
        return FILES_UNLIMITED
    allowed = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return FILES_UNLIMITED if allowed == resource.RLIM_INFINITY else allowed


class Handles:
    """The files that this process has open, the least recently used forgotten beyond a number."""

    def __init__(self, limit: int = HANDLES_MAX) -> None:
        self.limit = min(limit, _files_allowed() // 4)
        self.watch: Callable[[], None] | None = None
        """Called at each use of a file, where somebody minds how many pages of maps heap up."""
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._users: dict[str, int] = {}
        # Reentrant, because the collector may run in here and drop the file of a dead store.
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def __len__(self) -> int:
        return len(self._files)

    def get(self, key: str, opener: Callable[[], OpenFile]) -> OpenFile:
        """Give the open file of a key, opening it where it is not."""
        self.look()
        with self._lock:
            found = self._files.get(key)
            if found is not None:
                self._files.move_to_end(key)
                return found
            fresh = self._files[key] = self._opened(opener)
            forgotten = self._files.popitem(last=False) if len(self._files) > self.limit else None
        del forgotten
        return fresh

    def look(self) -> None:
        """Let somebody look who minds pages of maps; for those who read much of a map at once."""
        if self.watch is not None:
            self.watch()

    def _opened(self, opener: Callable[[], OpenFile]) -> OpenFile:
        """Open a file, after closing those that nobody uses where there are too many."""
        try:
            return opener()
        except OSError as error:
            if getattr(error.__cause__ or error, "errno", None) not in _TOO_MANY:
                raise
        self._files.clear()
        return opener()

    def drop(self, key: str) -> None:
        """Forget a file; it closes when no call uses it and no view of its map lives."""
        with self._lock:
            forgotten = self._files.pop(key, None)
        del forgotten

    def use(self, user: object, key: str) -> None:
        """Forget a file when its last user is collected: a file held open keeps its disk."""
        with self._lock:
            self._users[key] = self._users.get(key, 0) + 1
        weakref.finalize(user, self._let_go, key).atexit = False

    def _let_go(self, key: str) -> None:
        with self._lock:
            left = self._users.pop(key, 1) - 1
            if left:
                self._users[key] = left
                return
        self.drop(key)

    def drop_pages(self) -> None:
        """Give the pages of all maps back; they stay in the system's cache and come back from it.

        Only shared maps are among the open files, so nothing that was written through one is lost.
        """
        with self._lock:
            maps = [file.bytes for file in self._files.values() if file.bytes is not None]
        for data in maps:
            data.madvise(mmap.MADV_DONTNEED)

    def _after_fork(self) -> None:
        # Another thread may have held the lock when the process was copied.
        self._lock = threading.RLock()


handles = Handles()
