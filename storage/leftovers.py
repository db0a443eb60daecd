"""What dead sessions have left in a directory, found without knowing what they were writing.

The next session removes such things by itself where it looks: in the spill directory, and beside an
output of the same name. This finds all of them in a directory, for the command line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from chunkarr.storage.claims import GONE, host_mark, is_held, is_mine, remove, sweep
from chunkarr.storage.journal import sweep_lasting

_OUTPUT = re.compile(
    r"(?P<stem>\..+\.)\d+-[0-9a-f]+-(?P<host>[0-9a-f]{8})(?:\.(?:partial|new|old|gone))+"
)
_SESSION = re.compile(
    r"(?P<stem>chunkarr-\d+-)\d+-[0-9a-f]+-(?P<host>[0-9a-f]{8})(?:\.(?:new|old|gone))*"
)
_LASTING = re.compile(
    r"(?P<stem>(?:\..+|chunkarr-\d+-[0-9a-f]{8})\.)resume-[0-9a-f]+\.(?:records|partial|scratch)(?P<half>(?:\.gone)*)"
)
_KINDS = (_LASTING, _OUTPUT, _SESSION)


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that a dead session has left."""

    path: str
    stem: str
    bytes_size: int
    resumable: bool
    """Whether a run with `resume=True` may still want it."""


def find_leftovers(directory: str) -> list[Leftover]:
    """List what dead sessions of this user on this host have left in a directory."""
    return [
        Leftover(path, match["stem"], _size(path), match.re is _LASTING and not match["half"])
        for path, match in _named(directory)
        if not is_held(path)
    ]


def remove_leftovers(directory: str, *, resumable: bool = False) -> list[Leftover]:
    """Remove what dead sessions have left; gives what is gone.

    What a run could still be resumed from is kept unless asked otherwise.
    """
    found = [item for item in find_leftovers(directory) if resumable or not item.resumable]
    for stem, lasting in {(item.stem, item.resumable) for item in found}:
        if lasting:
            sweep_lasting(directory, stem)
        else:
            sweep(directory, stem, ".partial" if stem.startswith(".") else "")
    for item in found:
        if item.path.endswith(GONE):
            remove(item.path)  # half removed when its owner died
    return [item for item in found if not os.path.lexists(item.path)]


def _named(directory: str) -> Iterator[tuple[str, re.Match[str]]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            match = next((m for kind in _KINDS if (m := kind.fullmatch(entry.name))), None)
            # Whether what another host has made is dead, its locks do not tell here.
            host = match and match.groupdict().get("host")
            if match and host in {None, host_mark()} and is_mine(entry):
                yield entry.path, match


def _size(path: str) -> int:
    """Give the bytes on disk of a file or of all files below a directory."""
    if not os.path.isdir(path):
        with contextlib.suppress(OSError):
            return os.lstat(path).st_blocks * 512
        return 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
