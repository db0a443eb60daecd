"""Scratch of a run that may be resumed: it outlives its process, for the run that goes on from it.

It lies in the spill directory, in a folder whose name is made of the output's path and of the mark
of the plan, as are the hidden names of the output itself. A file is removed behind its last reader,
as all scratch is, and the folder when the output is there. A run that fails leaves both. What the
next one finds is compared with its checksums before it is believed.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence

from chunkarr.errors import SpillError
from chunkarr.settings import settings
from chunkarr.storage.files import bytes_free
from chunkarr.storage.journal import SCRATCH, LastingClaim, sweep_lasting
from chunkarr.storage.spill import SpillStore
from chunkarr.storage.store import Store


class LastingScratch:
    """The scratch of one run; nothing is on disk before `take`."""

    def __init__(self) -> None:
        self._claim: LastingClaim | None = None

    def take(self, scratch: Sequence[Store], output: str, mark: str) -> None:
        """Give scratch its lasting places, and open what an earlier run has left there.

        Raises SpillError where the folder cannot be made.
        """
        stores = [store for store in scratch if isinstance(store, SpillStore)]
        if not stores:
            return
        # Scratch is told by its number, so a plan of other scratch must not find it.
        facts = (mark, [(s.shape, s.dtype.str, s.grid, s.name) for s in stores])
        mark = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
        directory = os.path.abspath(settings().spill_dir)
        stem = f"chunkarr-{os.getuid()}-{zlib.crc32(os.fsencode(output)):08x}."
        try:
            sweep_lasting(directory, stem, mark)
            self._claim = LastingClaim(directory, stem, SCRATCH, 0o700, mark, folder=True)
            self._claim.make()
        except OSError as error:
            reason = error.strerror or str(error)
            raise SpillError(directory, 0, bytes_free(directory), reason) from error
        for number, store in enumerate(stores):
            path = os.path.join(self._claim.path, f"{number:06d}")
            store.lie_at(path)
            if os.path.exists(path):
                store.create()

    def close(self) -> None:
        """Leave all of it to a later run."""
        if self._claim is not None:
            self._claim.keep()
            self._claim = None

    def end(self) -> None:
        """Remove it."""
        if self._claim is not None:
            self._claim.drop()
            self._claim = None
