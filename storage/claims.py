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
import shutil
import stat
import time
import zlib

LOCK_NAME = ".lock"
"""The locked file inside a claimed directory; a claimed file is its own lock."""
UNBORN_SECONDS_MAX = 3600
"""Age at which a claim that never got its lock is taken for dead."""

_UNBORN = ".new"


class Claim:
    """A scratch file or directory held by this process.

    `fd` is the locked file: the claimed file itself, or the lock inside the claimed directory.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path, self.fd = path, fd
        self._pid = os.getpid()

    def keep(self) -> None:
        """Let go of the lock, because the claim was renamed to what users see."""
        self._close()

    def drop(self) -> None:
        """Remove the claim; in a forked child, which shares it, nothing happens."""
        if self._pid == os.getpid():
            remove(self.path)
            self._close()

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def claim_file(directory: str, stem: str, suffix: str, mode: int = 0o600) -> Claim:
    """Make and lock a new empty file."""
    path, unborn = _names(directory, stem, suffix)
    fd = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    return _born(unborn, path, fd)


def claim_directory(directory: str, stem: str, suffix: str, mode: int = 0o700) -> Claim:
    """Make and lock a new empty directory."""
    path, unborn = _names(directory, stem, suffix)
    os.mkdir(unborn, mode)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(os.path.join(unborn, LOCK_NAME), flags, 0o600)
    except BaseException:
        remove(unborn)
        raise
    return _born(unborn, path, fd)


def sweep(directory: str, stem: str, suffix: str) -> list[str]:
    """Remove this user's claims on this host whose owner is dead; give their paths."""
    pattern = re.compile(
        rf"{re.escape(stem)}\d+-[0-9a-f]+-{_host()}({re.escape(suffix)}|{re.escape(_UNBORN)})"
    )
    removed = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            found = pattern.fullmatch(entry.name)
            if found and _dead(entry.path, unborn=found[1] == _UNBORN and suffix != _UNBORN):
                removed.append(entry.path)
    return removed


def remove(path: str) -> None:
    """Remove a file or a tree without following links; harmless where it is gone."""
    try:
        os.unlink(path)
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass


def _dead(path: str, *, unborn: bool) -> bool:
    """Remove a claim if its owner is dead, and tell whether that was so."""
    try:
        info = os.lstat(path)
        if info.st_uid != os.getuid() or stat.S_ISLNK(info.st_mode):
            return False
        if unborn:
            if time.time() - info.st_mtime < UNBORN_SECONDS_MAX:
                return False
            remove(path)
            return True
        lock = os.path.join(path, LOCK_NAME) if stat.S_ISDIR(info.st_mode) else path
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # No claim has its name without its lock. This is old content that a commit had swapped
        # out, or a claim half removed, when the process died.
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


def _born(unborn: str, path: str, fd: int) -> Claim:
    """Lock a new claim, then give it its name."""
    try:
        # Where the file system has no locks nobody can take them either: the claim is never swept.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unborn, path)
    except BaseException:
        os.close(fd)
        remove(unborn)
        raise
    return Claim(path, fd)


def _names(directory: str, stem: str, suffix: str) -> tuple[str, str]:
    token = f"{os.getpid()}-{time.time_ns():x}-{_host()}"
    path = os.path.join(directory, stem + token)
    return path + suffix, path + _UNBORN


def _host() -> str:
    return f"{zlib.crc32(os.fsencode(os.uname().nodename)):08x}"
