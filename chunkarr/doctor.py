"""What `chunkarr doctor` looks at: everything a run depends on that is not in the user's program.

Each check is a function that gives findings: a name, what is the case, and what to do if that is
not well. Nothing is changed; files for measuring latency are removed again.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl

from chunkarr.errors import ChunkarrError, format_bytes
from chunkarr.machine import in_memory, memory_free, memory_used
from chunkarr.scheduler.registry import current_client, get_executor
from chunkarr.settings import config, settings
from chunkarr.storage.files import bytes_free
from chunkarr.storage.leftovers import find_leftovers

GOOD, WARN, BAD = "ok", "warning", "problem"
FILES_MIN, FILES_WANTED = 256, 4096
SKEW_SECONDS_MAX = 2.0
LATENCY_SECONDS_MAX = 0.1
SPILL_SHARE_MIN = 2
"""A spill disk should have room for this many times the memory limit."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    """"ok", "warning" or "problem"."""
    text: str
    remedy: str = ""


def examine(cluster: str | None = None, store: str = ".") -> list[Finding]:
    """Look at everything; a check that fails in an unexpected way is a problem of its own."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "requirements": _requirements,
        "settings": _limits,
        "spill_dir": _spill,
        "shared memory": _shared_memory,
        "libraries": _libraries,
        "open files": _files,
        "clock": _clock,
        "spill_dir latency": lambda: _latency("spill_dir", settings().spill_dir),
        "store latency": lambda: _latency("store", store),
        "leftovers": lambda: _leftovers([settings().spill_dir, store]),
    }
    if cluster is not None:
        checks["cluster"] = lambda: _cluster(cluster)
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += check()
        except ChunkarrError as error:
            text, *remedies = str(error).splitlines()
            # A setting that cannot be read stops several checks.
            if all(text != problem.text for problem in found):
                found.append(Finding(name, BAD, text, " ".join(r.strip() for r in remedies)))
        except OSError as error:
            found.append(Finding(name, BAD, str(error)))
        except Exception as error:  # noqa: BLE001 - what the other checks found is to be told
            found.append(Finding(name, BAD, f"{type(error).__name__}: {error}"))
    return found


def _versions() -> Iterator[Finding]:
    names = ("numpy", "numba", "zarr", "numcodecs", "dask", "distributed")
    own = importlib.import_module("chunkarr").__version__
    parts = [f"chunkarr {own}", f"Python {platform.python_version()}"]
    parts += [f"{name} {_version(name)}" for name in names]
    yield Finding("versions", GOOD, ", ".join(parts))


def _requirements() -> Iterator[Finding]:
    """Compare what is installed with what chunkarr asks for."""
    try:
        wanted = importlib.metadata.requires("chunkarr") or []
    except importlib.metadata.PackageNotFoundError:
        return  # a checkout that was not installed
    for requirement in wanted:
        match = re.fullmatch(r"([\w.-]+)\s*>=\s*([\d.]+)", requirement.partition(";")[0].strip())
        if match is None or "extra" in requirement:
            continue
        found = _version(match[1])
        if found == "missing" or _numbers(found) < _numbers(match[2]):
            remedy = f'python -m pip install "{match[0]}"'
            yield Finding("requirement", BAD, f"{match[1]} is {found}, {match[0]} needed", remedy)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _limits() -> Iterator[Finding]:
    now = settings()
    text = f"{format_bytes(now.memory)}: {config.source('memory')}"
    yield Finding("memory limit", *_judged(now.memory, text))
    yield Finding("workers", GOOD, f"{now.workers}: {config.source('workers')}")
    client = current_client() if config.is_default("executor") else None
    who = "the current distributed.Client" if client is not None else str(now.executor)
    yield Finding("executor", GOOD, f"{who}: {config.source('executor')}")


def _judged(memory: int, text: str) -> tuple[str, str, str]:
    """Tell whether a memory limit leaves room for work, and whether it is there."""
    used, free = memory_used(), memory_free()
    if memory <= used:
        text += f"; this process alone holds {format_bytes(used)}"
        return BAD, text, "no run has room: set CHUNKARR_MEMORY or config(memory=...) to more"
    if memory > used + free.amount:
        text += f"; {free.source} leaves {format_bytes(free.amount)}"
        return WARN, text, "runs may be ended for want of memory: set CHUNKARR_MEMORY to less"
    return GOOD, text, ""


def _spill() -> Iterator[Finding]:
    now = settings()
    free = bytes_free(now.spill_dir)
    text = f"{now.spill_dir}, {format_bytes(free)} free: {config.source('spill_dir')}"
    state, remedy = GOOD, ""
    if free < SPILL_SHARE_MIN * now.memory:
        state = WARN
        remedy = f"less than {SPILL_SHARE_MIN} times the memory limit; set CHUNKARR_SPILL_DIR"
    if in_memory(now.spill_dir):
        state, remedy = WARN, "this is a file system in memory; point CHUNKARR_SPILL_DIR at a disk"
    yield Finding("spill_dir", state, text, remedy)


def _shared_memory() -> Iterator[Finding]:
    if os.path.isdir("/dev/shm"):  # noqa: S108 - looked at, not used
        disk = os.statvfs("/dev/shm")  # noqa: S108 - as above
        size = format_bytes(disk.f_blocks * disk.f_frsize)
        yield Finding("shared memory", GOOD, f"{size} at /dev/shm, unused")


def _libraries() -> Iterator[Finding]:
    # Its BLAS is loaded with NumPy.
    assert np.__version__
    for pool in threadpoolctl.threadpool_info():
        text = f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
        yield Finding(pool["user_api"], GOOD, f"{text}; one in tasks that call it")
    threads = os.environ.get("NUMBA_NUM_THREADS")
    told = f"; NUMBA_NUM_THREADS={threads} is for others" if threads else ""
    yield Finding("numba", GOOD, f"{_version('numba')}, kernels run on the workers' threads{told}")


def _files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_MIN:
        yield Finding("open files", GOOD, f"at most {soft}")
        return
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    remedy = f"raise it: ulimit -n {wanted}"
    if wanted < FILES_MIN:
        remedy = f"the hard limit is {hard}: who runs this machine can raise it (limits.conf)"
    yield Finding("open files", WARN, f"at most {soft}", remedy)


def _clock() -> Iterator[Finding]:
    """Compare the disk's clock with ours: files are told apart by when they changed."""
    path = _measuring_file(settings().spill_dir)
    try:
        before = time.time()
        with open(path, "x", encoding="ascii"):
            pass
        skew = max(0.0, before - os.stat(path).st_mtime, os.stat(path).st_mtime - time.time())
    finally:
        _unlink(path)
    state = GOOD if skew <= SKEW_SECONDS_MAX else WARN
    remedy = "" if state == GOOD else "let both take the time from the same server (NTP)"
    yield Finding("clock", state, f"the spill disk's is {skew:.1f} s from this machine's", remedy)


def _latency(name: str, directory: str) -> Iterator[Finding]:
    """Measure writing, syncing and reading a small file."""
    took = []
    for _ in range(5):
        path = _measuring_file(directory)
        try:
            began = time.perf_counter()
            with open(path, "xb", buffering=0) as file:
                file.write(bytes(4096))
                os.fsync(file.fileno())
            with open(path, "rb", buffering=0) as file:
                file.read()
            took.append(time.perf_counter() - began)
        finally:
            _unlink(path)
    seconds = statistics.median(took)
    state = GOOD if seconds <= LATENCY_SECONDS_MAX else WARN
    remedy = "" if state == GOOD else "each chunk waits for it: use larger chunks or a nearer disk"
    text = f"{os.path.abspath(directory)}: a small file in {seconds * 1000:.1f} ms"
    yield Finding(f"{name} latency", state, text, remedy)


def _leftovers(directories: Sequence[str]) -> Iterator[Finding]:
    for directory in dict.fromkeys(map(os.path.abspath, directories)):
        found = find_leftovers(directory)
        if not found:
            yield Finding("leftovers", GOOD, f"none in {directory}")
            continue
        size = format_bytes(sum(item.bytes_size for item in found))
        kept = sum(item.resumable for item in found)
        text = f"{len(found)} of dead sessions in {directory}, {size}"
        text += f", {kept} of them for resume=True" if kept else ""
        clean = "chunkarr clean --resumable" if kept == len(found) else "chunkarr clean"
        remedy = f"{clean} {directory}"
        remedy += "; with --resumable also those for resume=True" if 0 < kept < len(found) else ""
        yield Finding("leftovers", WARN, text, remedy)


def _cluster(address: str) -> Iterator[Finding]:
    """Meet the workers of a cluster as a run would."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*runs code for whoever reaches it")  # a row below
        executor: Any = get_executor(address, 1)
    seconds = time.perf_counter() - began
    client = getattr(executor, "client", None)
    if client is None:
        remedy = "give its scheduler's, such as tls://host:8786"
        yield Finding("cluster", BAD, f"{address!r} is no address of a Dask cluster", remedy)
        return
    if executor.reached_by_others():
        text = f"{executor.address} runs code for whoever reaches it"
        yield Finding("scheduler", WARN, text, "use TLS, as `chunkarr cluster up` does")
    else:
        yield Finding("scheduler", GOOD, f"{executor.address}, met in {seconds * 1000:.0f} ms")
    known = client.scheduler_info(n_workers=-1)["workers"]
    if not known:
        secure = executor.address.startswith("tls://")
        start = "chunkarr cluster worker --folder DIR" if secure else "dask worker"
        yield Finding("cluster", BAD, "no workers", f"start some: {start} {executor.address}")
        return
    clocks = client.run(time.time)
    for place, worker in known.items():
        limit = format_bytes(worker["memory_limit"]) if worker["memory_limit"] else "no limit"
        skew = abs(clocks.get(place, time.time()) - time.time())
        text = f"{worker['nthreads']} threads, {limit}, versions and files agree"
        state = GOOD if skew <= SKEW_SECONDS_MAX else WARN
        remedy = "" if state == GOOD else f"its clock is {skew:.1f} s from this machine's"
        yield Finding(place, state, text, remedy)


def _measuring_file(directory: str) -> str:
    return os.path.join(directory, f".chunkarr-doctor-{os.getpid()}-{time.time_ns():x}")


def _unlink(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)
