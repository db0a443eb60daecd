"""Scratch files and directories that tell whether their owner still lives.

What a killed process leaves behind must be removed by somebody, and a living process's files must
not. A process id proves nothing: ids come round again, and containers share them. A lock does,
because the kernel drops it with its owner. So each claim is locked for as long as its owner lives,
and `sweep` removes the claims whose lock is free.

A claim is made under a name that `sweep` ignores and gets its real name once it is locked, so there
is no instant at which a claim is seen without its lock. The name carries the host, because a lock
on a shared disk is not seen by every host.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
import weakref
import zlib
from dataclasses import dataclass, field

from chunkarr.faults import fault_point
from chunkarr.storage.ending import forget, hold
from chunkarr.storage.files import OpenFile, exchange

LOCK_NAME = ".lock"
"""The locked file inside a claimed directory; a claimed file is its own lock."""
UNBORN_SECONDS_MAX = 3600
"""Age at which a claim that never got its lock is taken for dead."""

_UNBORN, _ASIDE, GONE = ".new", ".old", ".gone"
"""How names end of what is not locked yet, was set aside by a publication, or is being removed."""


class Claim:
    """A scratch file or directory of this process; nothing is on disk before `make`.

    The claim exists before its file does, so that whoever is interrupted while making it has
    something to drop. A claim that is dropped by nobody goes when it is collected, or at exit.
    """

    def __init__(
        self, directory: str, stem: str, suffix: str, mode: int, *, folder: bool = False
    ) -> None:
        self.path, unborn = _names(directory, stem, suffix)
        self._mode, self._folder = mode, folder
        self._place = _Place(self.path, unborn)
        self._collected = weakref.finalize(self, self._place.clear)
        self._collected.atexit = False  # the list of scratch sees to that

    @property
    def fd(self) -> int:
        """The locked file: the claimed file itself, or the lock inside the claimed directory."""
        return self._place.file.fd

    def make(self) -> None:
        """Make the file or directory and lock it; on failure nothing is left."""
        place, made = self._place, self._place.unborn
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        hold(place)
        try:
            if self._folder:
                os.mkdir(made, self._mode)
                place.file = OpenFile.at(os.path.join(made, LOCK_NAME), flags, 0o600)
            else:
                place.file = OpenFile.at(made, flags, self._mode)
            # Where the file system has no locks nobody can take them either: it is never swept.
            with contextlib.suppress(OSError):
                fcntl.flock(place.file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(made, self.path)
        except BaseException:
            place.clear()
            raise

    def publish(self, path: str) -> None:
        """Put the claimed directory under a path, in one step with what is there now.

        What was there goes. Should this be cut short, `drop` finishes or undoes it.
        """
        place = self._place
        place.published = path
        if not os.path.lexists(path):
            os.rename(self.path, path)
        elif not exchange(self.path, path):
            # Without an exchange the path has nothing for an instant; a failure undoes it.
            try:
                os.rename(path, self.path + _ASIDE)
                os.rename(self.path, path)
            except BaseException:
                place.put_back()
                raise

    def keep(self) -> None:
        """Let go of the lock, because the file was renamed to what users see."""
        self._collected.detach()
        self._place.let_go()
        forget(self._place)

    def drop(self) -> None:
        """Remove the claim; in a forked child, which shares it, nothing happens."""
        self._place.clear()
        self._collected.detach()


@dataclass(slots=True, eq=False)
class _Place:
    """What a claim has on disk."""

    path: str
    unborn: str
    file: OpenFile = field(default_factory=OpenFile)
    published: str | None = None
    pid: int = field(default_factory=os.getpid)

    def clear(self) -> None:
        """Remove all of it, the lock last."""
        if self.pid != os.getpid():
            return
        self.put_back()
        for path in (self.unborn, self.path):
            remove(path)
        self.let_go()
        # What cannot be removed now is tried again at the end of the process.
        if not any(map(os.path.lexists, (self.path, self.path + GONE, self.unborn))):
            forget(self)

    def put_back(self) -> None:
        """Bring what a publication has set aside to its path again, or remove it and the lock."""
        if self.published is None:
            return
        aside, lock = self.path + _ASIDE, os.path.join(self.published, LOCK_NAME)
        if os.path.lexists(aside) and not os.path.lexists(self.published):
            os.rename(aside, self.published)
        remove(aside)
        with contextlib.suppress(OSError):
            ours = os.fstat(self.file.fd)  # raises OSError where it is closed
            if os.path.samestat(os.lstat(lock), ours):
                os.unlink(lock)

    def let_go(self) -> None:
        """Close the lock."""
        file, self.file = self.file, OpenFile()
        file.close()


def sweep(directory: str, stem: str, suffix: str) -> list[str]:
    """Remove this user's claims on this host whose owner is dead; give their paths."""
    ends = rf"(?:{re.escape(suffix)}(?:{re.escape(_ASIDE)})?|{re.escape(_UNBORN)})"
    pattern = re.compile(
        rf"{re.escape(stem)}\d+-[0-9a-f]+-{host_mark()}{ends}(?:{re.escape(GONE)})*"
    )
    removed = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        found = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
        removed = [path for path in found if _dead(path)]
    return removed


def remove(path: str) -> None:
    """Remove a file or a tree without following links; harmless where it is gone.

    A tree gets another name first: a task that was left behind and still writes there by name then
    fails, where it would have kept the tree from getting empty. A removal that was cut short is
    finished by the next call.
    """
    gone = path if path.endswith(GONE) else path + GONE
    try:
        fault_point("cleanup", path)
        os.unlink(path)
    except (IsADirectoryError, PermissionError):
        with contextlib.suppress(OSError):
            os.rename(path, gone)
        _remove_tree(path)
    except OSError:
        pass
    if os.path.lexists(gone):
        _remove_tree(gone)


def is_held(path: str) -> bool:
    """Whether the owner of a claim lives, as far as its lock tells."""
    lock = os.path.join(path, LOCK_NAME) if os.path.isdir(path) else path
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return isinstance(error, PermissionError)  # that of another user, of which nothing is known
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def is_mine(entry: os.DirEntry[str]) -> bool:
    """Whether this user has made something, and it is no link to something else."""
    return not entry.is_symlink() and entry.stat(follow_symlinks=False).st_uid == os.getuid()


def _remove_tree(path: str, folder: int | None = None) -> None:
    """Remove a directory, as far as that goes, without following links.

    `shutil.rmtree` of Python 3.11 closes a number twice where Ctrl-C strikes between, and by then
    it may be that of somebody else's file.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        opened = OpenFile.at(path, flags, folder=folder)
        try:
            for entry in list(os.scandir(opened.fd)):
                if entry.is_dir(follow_symlinks=False):
                    _remove_tree(entry.name, opened.fd)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.name, dir_fd=opened.fd)
        finally:
            opened.close()
        os.rmdir(path, dir_fd=folder)


def _dead(path: str) -> bool:
    """Remove a claim if its owner is dead, and tell whether that was so."""
    try:
        info = os.lstat(path)
        if info.st_uid != os.getuid() or stat.S_ISLNK(info.st_mode):
            return False
        if path.endswith(GONE):
            remove(path)  # half removed when its owner died, or just now by its owner
            return True
        if path.endswith(_UNBORN):
            if time.time() - info.st_mtime < UNBORN_SECONDS_MAX:
                return False
            remove(path)
            return True
        # What was set aside belongs to the claim that takes its place.
        claim = path.removesuffix(_ASIDE)
        lock = os.path.join(claim, LOCK_NAME) if stat.S_ISDIR(info.st_mode) else claim
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # No claim has its name without its lock. This is old content that was swapped out.
        remove(path)
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def _names(directory: str, stem: str, suffix: str) -> tuple[str, str]:
    # Chance and not the time, which may stand still or go back.
    token = f"{os.getpid()}-{os.urandom(8).hex()}-{host_mark()}"
    path = os.path.join(directory, stem + token)
    return path + suffix, path + _UNBORN


def host_mark() -> str:
    """Give what names of claims end with on this host."""
    return f"{zlib.crc32(os.fsencode(os.uname().nodename)):08x}"
