"""Files that are written from start to end: whole at their path, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from chunkarr.errors import OutputError, format_bytes
from chunkarr.faults import fault_point
from chunkarr.storage.claims import Claim, sweep
from chunkarr.storage.files import output_error, sync_path, wait_for
from chunkarr.storage.npy import PARTIAL, partial_stem


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a hidden file to write, which takes the place of `path` when the block ends well.

    Raises OutputError where it cannot be written; the old content of the path then stands.
    """
    place = os.path.realpath(path)
    directory, base = os.path.split(place)
    stem = partial_stem(base)
    sweep(directory, stem, PARTIAL)
    claim = Claim(directory, stem, PARTIAL, 0o666)
    written = 0
    try:
        if os.path.isdir(place):
            raise OutputError(place, "a directory is in the way")
        claim.make()
        fault_point("commit.meta", claim.path)
        with os.fdopen(os.dup(claim.fd), "w+b") as file:
            yield file
            written = file.tell()
        wait_for([lambda: os.fsync(claim.fd)])
        if os.path.exists(place):
            os.fchmod(claim.fd, stat.S_IMODE(os.stat(place).st_mode))
        fault_point("commit.meta", claim.path)
        os.replace(claim.path, place)
        wait_for([lambda: sync_path(directory)])
        claim.keep()
    except BaseException as error:
        claim.drop()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise output_error(place, format_bytes(written), error) from error
        raise
