"""What this process may use of the machine: memory, processors, and a directory that is a disk.

A limit taken from the machine's total memory is wrong wherever someone else set a smaller one, and
the one who did kills the process without a message. So every authority that can is asked, and the
smallest answer holds: the kernel, each control group from ours up to the root (a limit may sit on
any of them), the address-space limit, and Slurm. Each function takes the directory that holds
`proc` and `sys`, so that tests describe a machine with a few small files.
"""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

ROOT = Path("/")
UNLIMITED = 1 << 60
"""Control groups of version 1 spell "no limit" as a number near 2**63."""


@dataclass(frozen=True, slots=True)
class Share:
    """An amount and the authority that grants it."""

    amount: int
    source: str


def memory_free(environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Share:
    """Give the bytes that this process may still take, and who says so."""
    used = memory_used(root)
    offers = [
        *_machine_memory(root),
        *_group_memory(root),
        *_address_space(root),
        *_slurm_memory(environ, used),
    ]
    smallest = min(offers, key=lambda offer: offer.amount)
    return Share(max(0, smallest.amount), smallest.source)


def memory_used(root: Path = ROOT, process: int | str = "self") -> int:
    """Give the bytes of memory that are a process's own: anonymous and shared pages.

    Pages of mapped files are left out: the kernel drops them when memory gets short.
    """
    fields = _fields(root / f"proc/{process}/status")
    if "RssAnon" in fields:
        return fields["RssAnon"] + fields.get("RssShmem", 0)
    if process != "self" or resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processors(environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Share:
    """Give the number of processors that this process may use, and who says so."""
    if hasattr(os, "sched_getaffinity"):
        offers = [Share(len(os.sched_getaffinity(0)), "the processors this process may run on")]
    else:
        offers = [Share(os.cpu_count() or 1, "the machine's processors")]
    offers.extend(_group_processors(root))
    granted = environ.get("SLURM_CPUS_PER_TASK", "")
    if granted.isdigit() and int(granted) > 0:
        offers.append(Share(int(granted), "SLURM_CPUS_PER_TASK"))
    return min(offers, key=lambda offer: offer.amount)


def memory_kills(root: Path = ROOT) -> dict[str, int]:
    """Count the processes that the kernel has killed for want of memory, by where that ran out.

    The innermost control group comes first and the whole machine last. Where the system does not
    count, there is no entry.
    """
    counts: dict[str, int] = {}
    for version, directory in _groups("memory", root):
        name = "memory.events" if version == 2 else "memory.oom_control"
        found = _fields(directory / name).get("oom_kill")
        if found is not None:
            counts[f"the control group {directory}"] = found
    everywhere = _fields(root / "proc/vmstat").get("oom_kill")
    return counts if everywhere is None else {**counts, "the machine": everywhere}


def is_stopped(process: int, root: Path = ROOT) -> bool:
    """Whether a process of this machine was stopped by a signal."""
    state = _text(root / "proc" / str(process) / "stat").rpartition(")")[2].split()
    return state[:1] in (["T"], ["t"])


def scratch_directory(root: Path = ROOT) -> str:
    """Give a directory for temporary files that lies on a disk if there is one.

    Python's choice (`TMPDIR`, then `/tmp`) holds unless it is a memory file system, where a spilled
    chunk would still take memory; then `/var/tmp` is used if it can be written and is a disk.
    """
    chosen = tempfile.gettempdir()
    if not in_memory(chosen, root):
        return chosen
    disk = "/var/tmp"  # noqa: S108 - the directory only; file names in it are made safely
    usable = os.path.isdir(disk) and os.access(disk, os.W_OK | os.X_OK)
    return disk if usable and not in_memory(disk, root) else chosen


def _machine_memory(root: Path) -> list[Share]:
    fields = _fields(root / "proc/meminfo")
    if "MemAvailable" in fields:
        return [Share(fields["MemAvailable"], "MemAvailable of /proc/meminfo")]
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        total = 1 << 30
        return [Share(total, "a guess, because this system does not tell its memory")]
    return [Share(total - memory_used(root), "the machine's memory")]


def _group_memory(root: Path) -> Iterator[Share]:
    for version, directory in _groups("memory", root):
        names = (
            ("memory.max", "memory.current")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        limit, used = (_number(directory / name) for name in names)
        if limit is None or used is None or limit >= UNLIMITED:
            continue
        counts = _fields(directory / "memory.stat")
        prefix = "" if version == 2 else "total_"
        # The group is charged for cached pages of files, which it gives back when it needs room.
        cached = counts.get(f"{prefix}inactive_file", 0) + counts.get(f"{prefix}active_file", 0)
        yield Share(limit - max(0, used - cached), f"the control group's {names[0]}")


def _address_space(root: Path) -> list[Share]:
    if resource is None:
        return []
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return []
    mapped = _fields(root / "proc/self/status").get("VmSize", 0)
    return [Share(limit - mapped, "the address-space limit (ulimit -v)")]


def _slurm_memory(environ: Mapping[str, str], used: int) -> Iterator[Share]:
    per_node = _slurm_bytes(environ.get("SLURM_MEM_PER_NODE", ""))
    if per_node:
        yield Share(per_node - used, "SLURM_MEM_PER_NODE")
    per_processor = _slurm_bytes(environ.get("SLURM_MEM_PER_CPU", ""))
    count = environ.get("SLURM_CPUS_PER_TASK") or environ.get("SLURM_CPUS_ON_NODE", "1")
    if per_processor and count.isdigit():
        yield Share(per_processor * int(count) - used, "SLURM_MEM_PER_CPU")


def _slurm_bytes(text: str) -> int:
    """Read Slurm's spelling of memory: megabytes unless a letter follows, 0 for "no limit"."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", text.strip(), re.IGNORECASE)
    if not found:
        return 0
    return int(found[1]) << {"K": 10, "M": 20, "": 20, "G": 30, "T": 40}[found[2].upper()]


def _group_processors(root: Path) -> Iterator[Share]:
    for version, directory in _groups("cpu", root):
        if version == 2:
            quota, _, period = _text(directory / "cpu.max").partition(" ")
        else:
            quota = _text(directory / "cpu.cfs_quota_us")
            period = _text(directory / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            count = max(1, math.ceil(int(quota) / int(period)))
            yield Share(count, "the control group's processor quota")


def _groups(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """Give the version and directory of each control group around us, from ours to the root."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        version = 2 if number == "0" and not controllers else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        for kind, options, shown, place in _mounts(root):
            if kind != ("cgroup2" if version == 2 else "cgroup"):
                continue
            if version == 1 and controller not in options.split(","):
                continue
            # Inside a container the mount may begin at the container's own group.
            inner = PurePosixPath(group)
            known = inner.is_relative_to(shown)
            steps = inner.relative_to(shown).parts if known else ()
            top = root / place.lstrip("/")
            for depth in range(len(steps), -1, -1):
                yield version, top.joinpath(*steps[:depth])


def _mounts(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Give kind, options, shown sub-directory and place of each mounted file system."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        mount, _, device = line.partition(" - ")
        fields, details = mount.split(), device.split()
        if len(fields) > 4 and details:
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4])
            yield details[0], details[-1], fields[3], place


def in_memory(directory: str, root: Path = ROOT) -> bool:
    """Tell whether a directory lies on a memory file system."""
    path = PurePosixPath(os.path.realpath(directory))
    held = [(len(place), kind) for kind, _, _, place in _mounts(root) if path.is_relative_to(place)]
    # The last of several mounts on one place is the one that is seen, hence from the end.
    kind = max(reversed(held), key=lambda mount: mount[0])[1] if held else ""
    return kind in {"tmpfs", "ramfs"}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _fields(path: Path) -> dict[str, int]:
    """Read lines of name and number; a number in kB is given in bytes."""
    found = re.finditer(r"^(\w+):?[ \t]+(\d+)( kB)?$", _text(path), re.MULTILINE)
    return {match[1]: int(match[2]) * (1024 if match[3] else 1) for match in found}
