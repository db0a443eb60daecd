"""What a run has written of an output, kept for a later run that does the same.

An output that may be resumed lies under a name made of a mark, which tells the expression and its
plan; a run with another mark never sees it. Beside it is a folder of records, one file for each
process that writes: a line for each box says where it is, how long and with what checksum. A line
is written after its box. What a line promises is compared with what is there before it is believed,
so that neither a torn line nor a box that a power cut has emptied counts as done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from chunkarr.storage.claims import GONE, LOCK_NAME, Claim, is_held, is_mine, remove
from chunkarr.storage.ending import forget
from chunkarr.storage.files import OpenFile, wait_for

RECORDS = ".records"
SCRATCH = ".scratch"
VERIFIED_TOGETHER = 4096
_LINE = re.compile(r"(\S+) (\d+) ([0-9a-f]{8})")

_opening = threading.Lock()

Verify = Callable[[str, int, int], bool]
"""Whether a box is there, from its key, its bytes and its checksum."""


class LastingClaim(Claim):
    """A claim under a name that a later process finds again; it outlives its owner."""

    def __init__(
        self, directory: str, stem: str, suffix: str, mode: int, mark: str, *, folder: bool = False
    ) -> None:
        super().__init__(directory, stem, suffix, mode, folder=folder)
        self._collected.detach()
        self.path = self._place.path = os.path.join(directory, f"{stem}resume-{mark}{suffix}")

    def make(self) -> None:
        """Take over what an earlier run has left, or begin; OSError while another one lives."""
        if not self._adopt():
            super().make()
            forget(self._place)

    def _adopt(self) -> bool:
        lock = os.path.join(self.path, LOCK_NAME) if self._folder else self.path
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            remove(self.path)
            return False
        try:
            if os.fstat(fd).st_uid != os.getuid():
                raise PermissionError(errno.EPERM, "left there by another user", self.path)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise BlockingIOError(errno.EBUSY, "another process is writing it") from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP}:
                os.close(fd)
                raise
        self._place.file = OpenFile(fd)
        return True


class Journal:
    """The records of one output; pickled, it notes what another process writes."""

    def __init__(self, mark: str, *facts: object) -> None:
        # What is written depends on the output's own layout as well.
        self.mark = hashlib.sha256(repr((mark, facts)).encode()).hexdigest()[:32]
        self._claim: LastingClaim | None = None
        self._folder = ""
        self._held: frozenset[str] = frozenset()
        self._file = -1
        self._pid = 0

    def begin(self, directory: str, stem: str) -> None:
        """Claim the records under this mark; those of other marks whose run is dead go."""
        sweep_lasting(directory, stem, self.mark)
        self._claim = LastingClaim(directory, stem, RECORDS, 0o700, self.mark, folder=True)
        self._claim.make()
        self._folder = self._claim.path

    def claim(
        self, directory: str, stem: str, suffix: str, mode: int, *, folder: bool = False
    ) -> Claim:
        """Give the claim of the output itself."""
        return LastingClaim(directory, stem, suffix, mode, self.mark, folder=folder)

    def believe(self, verify: Verify, *, together: bool) -> None:
        """Read the records and keep those of boxes that are there; `together` in threads."""
        found = {key: (size, checksum) for key, size, checksum in _lines(self._folder)}
        held: set[str] = set()

        def look(key: str, size: int, checksum: int) -> None:
            with contextlib.suppress(OSError, ValueError):
                if verify(key, size, checksum):
                    held.add(key)

        looks = [partial(look, key, *rest) for key, rest in found.items()]
        for start in range(0, len(looks), VERIFIED_TOGETHER):
            some = looks[start : start + VERIFIED_TOGETHER]
            if together:
                wait_for(some)
                continue
            for one in some:
                one()
        self._held = frozenset(held)

    @property
    def resumed(self) -> bool:
        """Whether an earlier run has left anything."""
        return bool(self._held)

    def holds(self, key: str) -> bool:
        """Whether a box was written by an earlier run."""
        return key in self._held

    def note(self, key: str, parts: Sequence[Any]) -> None:
        """Record a box that was written, given its bytes."""
        size, checksum = sum(map(len, parts)), checksum_of(parts)
        if self._pid != os.getpid():
            self._open()
        os.write(self._file, f"{key} {size} {checksum:08x}\n".encode())

    def _open(self) -> None:
        with _opening:
            if self._pid == os.getpid():
                return
            name = f"{os.uname().nodename[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(os.path.join(self._folder, name), flags, 0o600)
            self._pid = os.getpid()

    def close(self) -> None:
        """Let go of the records and leave them to a later run."""
        self._shut()
        if self._claim is not None:
            self._claim.keep()
            self._claim = None

    def end(self) -> None:
        """Remove the records."""
        self._shut()
        if self._claim is not None:
            self._claim.drop()
            self._claim = None

    def _shut(self) -> None:
        if self._pid == os.getpid():
            self._pid = 0
            os.close(self._file)

    def __getstate__(self) -> dict[str, Any]:
        # What is held was left out of the work that others get.
        return {**self.__dict__, "_claim": None, "_held": frozenset(), "_file": -1, "_pid": 0}

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self._shut()


def checksum_of(parts: Sequence[Any]) -> int:
    """Give the checksum of bytes in parts, as if they were one.

    It is not that of the chunks: of data with their own checksum behind them, crc32c gives the same
    number whatever they are.
    """
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum


def sweep_lasting(directory: str, stem: str, keep: str = "") -> list[str]:
    """Remove what this user's dead runs have left to be resumed, but one mark; give the paths."""
    pattern = re.compile(rf"{re.escape(stem)}resume-([0-9a-f]+)(\.\w+?)((?:{re.escape(GONE)})*)")
    removed = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        named = ((entry, pattern.fullmatch(entry.name)) for entry in entries)
        # Others may have runs of theirs beside it.
        found = [m for entry, m in named if m and is_mine(entry)]
        locked = (m for m in found if m[2] in {RECORDS, SCRATCH})
        alive = {m[1] for m in locked if is_held(os.path.join(directory, m[0]))}
        for match in found:
            # Nothing goes on from what is half removed.
            if match[1] not in alive and (match[1] != keep or match[3]):
                remove(os.path.join(directory, match[0]))
                removed.append(os.path.join(directory, match[0]))
    return removed


def _lines(folder: str) -> Iterator[tuple[str, int, int]]:
    for name in sorted(os.listdir(folder)):
        if name == LOCK_NAME:
            continue
        with open(os.path.join(folder, name), encoding="ascii", errors="replace") as file:
            for line in file:
                match = _LINE.fullmatch(line.rstrip("\n"))
                if match and line.endswith("\n"):
                    yield match[1], int(match[2]), int(match[3], 16)
