"""Keeps object code on disk, so that the next process runs a kernel without compiling it.

Files hold machine code that will be executed, so they are read only from a directory that belongs
to this user and that nobody else may enter, and only if length and checksum agree; anything else is
as good as absent. There is no pickle. Writers never disturb readers: a file appears whole, by a
rename. A file that is read is marked as used, and where all of them take more than
`BYTES_ALL_MAX`, those that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

MAGIC = b"chunkarr kernel 2\n"
BYTES_MAX = 16 * 1024 * 1024
HEADER_MAX = 64 * 1024
BYTES_ALL_MAX = 256 << 20
SECONDS_WRITING = 3600.0
"""A file that has been written for longer belongs to nobody."""


def directory() -> Path | None:
    """Give the cache directory, made if need be; None where it cannot be trusted."""
    own = os.environ.get("CHUNKARR_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME")
    try:
        if own:
            path = Path(own)
        else:
            path = Path(user) / "chunkarr" if user else Path.home() / ".cache" / "chunkarr"
        if not hasattr(os, "getuid"):
            return None
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _private(path) else None
    except (OSError, RuntimeError):
        return None


def _private(path: Path) -> bool:
    """Whether a directory is ours and closed to everybody else."""
    status = path.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return ours and not status.st_mode & 0o077


def _path(key: str) -> Path | None:
    found = directory()
    return None if found is None else found / f"{key}.kernel"


def contains(key: str) -> bool:
    """Whether there is a file for a key; it may still turn out to be unusable."""
    path = _path(key)
    return path is not None and path.is_file()


def _header(key: str, fingerprint: str, code: bytes) -> dict[str, str | int]:
    return {
        "key": key,
        "fingerprint": fingerprint,
        "numba": metadata.version("numba"),
        "size": len(code),
        "sha256": hashlib.sha256(code).hexdigest(),
    }


def read(key: str, fingerprint: str) -> bytes | None:
    """Give the object code for a key on this machine, None where there is none to be trusted."""
    path = _path(key)
    if path is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(handle, "rb") as file:
        status = os.fstat(file.fileno())
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
        if not ours or status.st_mode & 0o022 or status.st_size > BYTES_MAX:
            return None
        if file.read(len(MAGIC)) != MAGIC:
            return None
        line, code = file.readline(HEADER_MAX), file.read(BYTES_MAX)
        with contextlib.suppress(OSError):
            os.utime(file.fileno())
    try:
        header = json.loads(line)
    except ValueError:
        return None
    return code if header == _header(key, fingerprint, code) else None


def write(key: str, fingerprint: str, code: bytes) -> None:
    """Store object code; a directory that is full or read-only is no error."""
    path = _path(key)
    if path is None or len(code) + HEADER_MAX > BYTES_MAX:
        return
    header = json.dumps(_header(key, fingerprint, code)).encode() + b"\n"
    _make_room(path.parent, len(header) + len(code))
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(MAGIC + header + code)
            os.replace(name, path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


class Kept(NamedTuple):
    """A kernel on disk."""

    path: Path
    size: int
    used: float
    """When it was written or read last, in seconds since 1970."""


def kept() -> list[Kept]:
    """List the kernels on disk, those that were used last first."""
    found = directory()
    return [] if found is None else sorted(_list(found, "*.kernel"), key=lambda k: -k.used)


def _list(place: Path, pattern: str) -> list[Kept]:
    found = []
    for path in place.glob(pattern):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
                found.append(Kept(path, status.st_size, status.st_mtime))
    return found


def clear() -> list[Kept]:
    """Remove all kernels, and what writers that have ended have left; gives what is gone.

    A process that has loaded a kernel keeps it in memory.
    """
    place = directory()
    if place is None:
        return []
    old = time.time() - SECONDS_WRITING
    return _remove(_list(place, "*.kernel")) + _remove(
        [part for part in _list(place, ".*.part") if part.used < old]
    )


def _remove(files: list[Kept]) -> list[Kept]:
    gone = []
    for file in files:
        with contextlib.suppress(OSError):
            file.path.unlink()
            gone.append(file)
    return gone


def _make_room(place: Path, size: int) -> None:
    """Remove the kernels that were not used for longest until a new one has room."""
    found = sorted(_list(place, "*.kernel"), key=lambda k: k.used)
    excess = sum(k.size for k in found) + size - BYTES_ALL_MAX
    gone = 0
    while excess > 0 and gone < len(found):
        excess -= found[gone].size
        gone += 1
    _remove(found[:gone])
