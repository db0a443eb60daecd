"""What is asked of each worker of a cluster before it gets work: versions, and a file.

Bits depend on the versions of NumPy and of chunkarr, and functions travel as the bytecode of one
Python; so a worker that differs is refused with the list of differences, before a run begins.
Workers and client exchange chunks through files. Whether a directory is shared cannot be told from
its name: the client writes a number nobody knows into a file, and a worker has to read it there.

The question travels by value, because a worker that lacks chunkarr could not look it up.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import ipaddress
import os
import platform
import secrets
from asyncio import CancelledError, gather, wait_for
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chunkarr.errors import ClusterMismatchError
from chunkarr.storage.claims import remove
from chunkarr.storage.spill import Session

MISSING = "missing"
DISTRIBUTIONS = ("numpy", "numba")
"""Their versions decide about bits; read without importing them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a worker."""

    path: str
    number: str

    def remove(self) -> None:
        """Remove the file with the number."""
        remove(self.path)


@dataclass(frozen=True, slots=True)
class Met:
    """A worker that has answered."""

    process: int
    is_here: bool
    """Whether it is a process of this machine."""


def ask_here() -> Question:
    """Put a number into a file of this process's scratch directory."""
    question = Question(Session.current().new_path("handshake"), secrets.token_hex(16))
    with open(question.path, "x", encoding="ascii") as file:
        file.write(question.number)
    return question


def shorten_profile(worker: Any, bytes_second: int = 100_000, share: int = 64) -> None:
    """Let Dask's profiler of a worker keep no more seconds than a part of its memory holds.

    It keeps the stacks of each second, of all work and of each kind, for 1000 s: 100 MB where many
    kinds of work take turns, as much as a small worker has. They count as no one's memory, so the
    worker would be paused and then ended for what it did not use.
    """
    limit = getattr(getattr(worker, "memory_manager", None), "memory_limit", None)
    seconds = max(10, (limit or 1 << 62) // share // bytes_second)
    for name in ("profile_history", "profile_keys_history"):
        kept = getattr(worker, name, None)
        if isinstance(kept, deque) and (kept.maxlen is None or kept.maxlen > seconds):
            setattr(worker, name, deque(kept, maxlen=seconds))


def answer(path: str, number: str, dask_worker: Any = None) -> dict[str, str]:
    """Give the versions of this interpreter, and what hinders it to share files, if anything.

    Uses the standard library alone; the caller sends it by value. Dask fills in the worker.
    """
    if dask_worker is not None:
        shorten_profile(dask_worker)
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("numpy", "numba"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    try:
        found["chunkarr"] = str(importlib.import_module("chunkarr").__version__)
    except ImportError:
        found["chunkarr"] = "missing"
    found["files"] = ""
    try:
        with open(path, encoding="ascii") as file:
            if file.read() != number:
                found["files"] = "another file lies there"
        if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
            found["files"] = "it may not be written to"
    except OSError as error:
        found["files"] = f"{error.strerror or error}"
    found["host"], found["process"] = platform.node(), str(os.getpid())
    return found


# Pickles look up a function by its module, except where that is the main program's.
answer.__module__ = shorten_profile.__module__ = "__main__"


async def ask_each(
    client: Any, addresses: Sequence[str], question: Question, seconds: float
) -> dict[str, Any]:
    """Ask each worker by itself; gives its answer, or the error there was instead."""

    async def one(address: str) -> Any:
        options = {"workers": [address], "on_error": "return", "asynchronous": True}
        asked = client.run(answer, question.path, question.number, **options)
        return (await wait_for(asked, seconds))[address]

    told = await gather(*map(one, addresses), return_exceptions=True)
    return dict(zip(addresses, told, strict=True))


def differences(here: Mapping[str, str], there: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name what differs from here, a line for each place.

    >>> here = {"python": "3.11", "numpy": "2.4.0"}
    >>> differences(here, {"tcp://a": here, "tcp://b": {**here, "numpy": "2.3.1"}})
    ['tcp://b: numpy 2.3.1, here 2.4.0']
    """
    lines = []
    for place, found in there.items():
        parts = [
            f"{name} {found.get(name, MISSING)}, here {here[name]}"
            for name in ("python", *DISTRIBUTIONS, "chunkarr")
            if name in here and found.get(name, MISSING) != here[name]
        ]
        if parts:
            lines.append(f"{place}: {'; '.join(parts)}")
    return lines


def refuse_versions(here: Mapping[str, str], there: Mapping[str, Mapping[str, str]]) -> None:
    """Raise where workers differ in what decides about bits or about pickles."""
    lines = differences(here, there)
    if lines:
        raise ClusterMismatchError(
            "workers of the Dask cluster have other versions than this process",
            lines,
            ["start workers from the environment of this process, or from a copy of it"],
        )


def refuse_files(question: Question, there: Mapping[str, Mapping[str, str]]) -> None:
    """Raise where workers do not see this process's scratch directory."""
    blind = [f"{place}: {found['files']}" for place, found in there.items() if found["files"]]
    if blind:
        raise ClusterMismatchError(
            f"workers do not share {os.path.dirname(question.path)} with this process",
            blind,
            ["point config(spill_dir=...) or CHUNKARR_SPILL_DIR at a directory that all share"],
        )


def open_to_others(address: str) -> bool:
    """Whether whoever reaches an address may use it: no TLS, and not of this machine alone.

    >>> [open_to_others(f"{a}:8786") for a in ("tcp://10.0.0.5", "tcp://127.0.0.1", "tls://10.0.0.5")]
    [True, False, False]
    """
    parts = urlsplit(address)
    if parts.scheme not in {"tcp", "ws", "ucx"}:
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


async def tell_workers(client: Any, leave: Callable[[str], None], token: str) -> None:
    """Let workers drop a run's works, whose files they hold open; nobody waits for it."""
    with suppress(Exception, CancelledError):
        await client.run(leave, token, on_error="ignore", asynchronous=True)
