"""From what a user writes as `executor=` to the executor, made once and kept.

Each executor's file is loaded here by name at its first use, because `distributed` takes half a
second to import and most programs never need it.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chunkarr.errors import ClusterLost, ConfigError
from chunkarr.scheduler.executor import Executor, ThreadExecutor
from chunkarr.scheduler.ranges import inside_worker
from chunkarr.settings import config

LOCAL = {
    "threads": ("chunkarr.scheduler.executor", "ThreadExecutor"),
    "processes": ("chunkarr.scheduler.processes", "ProcessExecutor"),
}
"""Executors that are made from a number of workers: file and class."""
CLUSTER = ("chunkarr.scheduler.cluster", "ClusterExecutor")
SECONDS_CONNECT = 10
SECONDS_CLOSE = 2

_lock = threading.RLock()
_kept: dict[str, Executor] = {}
_clusters: dict[int, tuple[Any, Executor]] = {}
_clients: dict[str, Any] = {}
_private = threading.local()


def get_executor(spec: object, workers: int) -> Executor:
    """Give the executor for "threads", "processes", a `distributed.Client` or its address.

    Inside a task the answer is always one private thread: waiting for the pool that runs the task
    would be waiting for oneself.
    """
    if inside_worker():
        if not hasattr(_private, "executor"):
            _private.executor = ThreadExecutor(1)
        own: Executor = _private.executor
        return own
    if config.is_default("executor"):
        spec = current_client() or spec
    with _lock:
        if isinstance(spec, str):
            return _connected(spec) if "://" in spec else _local(spec, workers)
        if callable(getattr(spec, "submit", None)) and hasattr(spec, "scheduler_info"):
            return _cluster(spec)
    raise ConfigError(
        'executor: expected "threads", "processes", the address of a Dask scheduler or a '
        f"distributed.Client, got {spec!r}"
    )


def current_client() -> Any:
    """Give the `distributed.Client` that is current in this process, or None."""
    # A process that has made a client has loaded the library.
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.Client.current()
    except (AttributeError, ValueError):
        return None
    return client if client is not None and not client.asynchronous else None


def _local(name: str, workers: int) -> Executor:
    if name not in LOCAL:
        close = difflib.get_close_matches(name, LOCAL, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(LOCAL)
        raise ConfigError(f"executor: unknown name {name!r}; {hint}")
    kept = _kept.get(name)
    if kept is None or kept.workers != workers:
        # First, so that nobody finds one whose lock an interrupt below has left taken.
        _kept.pop(name, None)
        if kept is not None and kept.lock.acquire(blocking=False):
            # Another thread's run keeps its executor; that one goes when its program ends.
            try:
                kept.close()
            finally:
                kept.lock.release()
        kept = _kept[name] = _load(*LOCAL[name])(workers)
    return kept


def _connected(address: str) -> Executor:
    client = _clients.get(address)
    if client is None or client.status == "closed":
        client = _clients[address] = _connect(address)
    return _cluster(client)


def _connect(address: str) -> Any:
    """Make a client for an address."""
    kind: Any = _load("distributed", "Client")
    # Its `__init__` connects. Where that fails, nobody else closes what was made so far.
    client = kind.__new__(kind)
    try:
        client.__init__(address, set_as_default=False, timeout=SECONDS_CONNECT)
    except OSError as error:
        _close(client)
        remedies = ["start a scheduler and its workers, as `chunkarr cluster up` does"]
        raise ClusterLost("connect", address, str(error), remedies) from error
    except Exception as error:
        # Such an address nobody can reach, or Dask's own settings stand against it.
        _close(client)
        raise ConfigError(f"executor: {address!r}: {_why(address, error)}") from error
    except BaseException:
        _close(client)
        raise
    return client


def _close(client: Any) -> None:
    with suppress(Exception):
        client.close(timeout=SECONDS_CLOSE)


def _why(address: str, error: Exception) -> str:
    """Tell what is wrong with an address or with the settings for it."""
    if address.startswith("tls://") and isinstance(error, TypeError):
        return (
            "no credentials are set, which tls:// needs; `chunkarr cluster credentials --folder "
            f"DIR {address}` prints the variables that name those in DIR"
        )
    if isinstance(error, RuntimeError):
        return f"{error}; use the scheduler's tls:// address"
    return f"{error}; an address is such as tls://host:8786"


def _cluster(client: Any) -> Executor:
    for key, (other, _) in list(_clusters.items()):
        # The executor of the one that is asked for remembers where its cluster was.
        if other.status == "closed" and other is not client:
            del _clusters[key]
    if id(client) not in _clusters:
        _clusters[id(client)] = (client, _load(*CLUSTER)(client))
    return _clusters[id(client)][1]


def _load(module: str, name: str) -> Callable[..., Any]:
    made: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return made


def _unlock() -> None:
    """Start a forked child with a lock that no thread of its parent holds."""
    global _lock  # noqa: PLW0603 - a lock cannot be reset
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
