"""Where a process stands: what a function of the user's may see beside its arguments.

Worker processes stand where their parent did when they were started. What the program has changed
since goes to them with its next run.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

SINGLE = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""One BLAS thread for each worker: their number is what uses the cores."""


@dataclass(frozen=True, slots=True)
class Site:
    """Directory, path of modules and environment of a process."""

    directory: str
    path: list[str]
    environ: dict[str, str]

    @classmethod
    def here(cls) -> Site:
        """Take down those of this process, for workers of it."""
        try:
            directory = os.getcwd()
        except OSError:  # it was removed
            directory = ""
        path = [str(entry) or directory for entry in sys.path]
        return cls(directory, path, {**os.environ, **dict.fromkeys(SINGLE, "1")})

    def stand(self) -> None:
        """Make this process stand there."""
        with suppress(OSError):  # what needs the directory will tell
            os.chdir(self.directory)
        sys.path[:] = self.path
        for name in os.environ.keys() - self.environ.keys():
            del os.environ[name]
        os.environ.update(self.environ)


class Modules:
    """Notices modules that were loaded again: they get a new specification then."""

    def __init__(self) -> None:
        self._specs: dict[str, Any] = {}

    def loaded_again(self) -> bool:
        """Whether one was, since the last question."""
        modules = list(sys.modules.items())
        # Not by getattr: some modules import what they are asked for.
        found = {name: getattr(m, "__dict__", {}).get("__spec__") for name, m in modules}
        before, self._specs = self._specs, found
        return any(found.get(name, spec) is not spec for name, spec in before.items())
