"""What a process may use, read from machines that are a few files in a folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from chunkarr.machine import (
    Share,
    is_stopped,
    memory_free,
    memory_used,
    processors,
    scratch_directory,
)

GIB = 1 << 30
MIB = 1 << 20


def build(root: Path, files: dict[str, str]) -> Path:
    """Lay out a machine: 16 GiB free, 100 MiB in use by this process, and the given files."""
    plain = {
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {16 * GIB // 1024} kB\n",
        "proc/self/status": "Name:\tpython\nVmSize:\t 409600 kB\n"
        "RssAnon:\t 92160 kB\nRssFile:\t 9999 kB\nRssShmem:\t 10240 kB\n",
    }
    for name, text in {**plain, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def second(group: str, shown: str = "/") -> dict[str, str]:
    """Files of a machine with control groups of version 2."""
    return {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": f"29 23 0:26 {shown} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    }


def test_without_limits_the_kernel_s_available_memory_counts(tmp_path: Path) -> None:
    root = build(tmp_path, {})
    assert memory_free({}, root) == Share(16 * GIB, "MemAvailable of /proc/meminfo")


def test_own_memory_is_anonymous_and_shared_pages(tmp_path: Path) -> None:
    assert memory_used(build(tmp_path, {})) == 100 * MIB


@pytest.mark.parametrize(
    ("stat", "stopped"),
    [("7 (a) b) T 1 7 7", True), ("7 (a t) S 1 7", False), ("7 (a) t 1", True), ("", False)],
)
def test_a_process_that_a_signal_has_stopped(stat: str, stopped: bool, tmp_path: Path) -> None:
    assert is_stopped(7, build(tmp_path, {"proc/7/stat": stat})) is stopped


def test_a_limit_on_any_parent_group_counts(tmp_path: Path) -> None:
    groups = "sys/fs/cgroup"
    files = {
        **second("/user/job/step"),
        f"{groups}/user/job/step/memory.max": "max",
        f"{groups}/user/job/step/memory.current": "5",
        f"{groups}/user/job/memory.max": str(4 * GIB),
        f"{groups}/user/job/memory.current": str(GIB),
        f"{groups}/user/memory.max": str(8 * GIB),
        f"{groups}/user/memory.current": str(GIB),
    }
    free = memory_free({}, build(tmp_path, files))
    assert free == Share(3 * GIB, "the control group's memory.max")


def test_cached_file_pages_of_a_group_are_free(tmp_path: Path) -> None:
    groups = "sys/fs/cgroup"
    files = {
        **second("/job"),
        f"{groups}/job/memory.max": str(4 * GIB),
        f"{groups}/job/memory.current": str(4 * GIB),
        f"{groups}/job/memory.stat": f"anon 1\ninactive_file {GIB}\nactive_file {2 * GIB}\n",
    }
    assert memory_free({}, build(tmp_path, files)).amount == 3 * GIB


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    groups = "sys/fs/cgroup"
    files = {
        **second("/docker/abc", shown="/docker/abc"),
        f"{groups}/memory.max": str(2 * GIB),
        f"{groups}/memory.current": "0",
    }
    assert memory_free({}, build(tmp_path, files)).amount == 2 * GIB


def test_groups_of_version_1_count(tmp_path: Path) -> None:
    groups = "sys/fs/cgroup/memory/job"
    files = {
        "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
        "proc/self/mountinfo": "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
        f"{groups}/memory.limit_in_bytes": str(GIB),
        f"{groups}/memory.usage_in_bytes": str(512 * MIB),
        f"{groups}/memory.stat": f"inactive_file 1\ntotal_inactive_file {256 * MIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
    }
    root = build(tmp_path, files)
    assert memory_free({}, root).amount == 768 * MIB
    assert processors({}, root).amount == 1


@pytest.mark.parametrize(
    ("environ", "free"),
    [
        ({"SLURM_MEM_PER_NODE": "2048"}, 2 * GIB - 100 * MIB),
        ({"SLURM_MEM_PER_NODE": "2G"}, 2 * GIB - 100 * MIB),
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_PER_TASK": "3"}, 3 * GIB - 100 * MIB),
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "2"}, 2 * GIB - 100 * MIB),
        ({"SLURM_MEM_PER_NODE": "0"}, 16 * GIB),
        ({"SLURM_MEM_PER_NODE": "50"}, 0),
    ],
)
def test_slurm_s_memory_counts(tmp_path: Path, environ: dict[str, str], free: int) -> None:
    assert memory_free(environ, build(tmp_path, {})).amount == free


def test_the_address_space_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (GIB, GIB))
    assert memory_free({}, build(tmp_path, {})).amount == GIB - 400 * MIB


def test_a_machine_without_proc_still_has_memory(tmp_path: Path) -> None:
    assert memory_free({}, tmp_path).amount > 0


@pytest.mark.parametrize(("quota", "count"), [("150000 100000", 2), ("50000 100000", 1)])
def test_a_processor_quota_counts(tmp_path: Path, quota: str, count: int) -> None:
    files = {**second("/job"), "sys/fs/cgroup/job/cpu.max": quota}
    expected = min(count, processors({}, tmp_path).amount)
    assert processors({}, build(tmp_path / "machine", files)).amount == expected


def test_slurm_s_processors_count(tmp_path: Path) -> None:
    assert processors({"SLURM_CPUS_PER_TASK": "1"}, tmp_path).amount == 1


def test_scratch_files_keep_off_memory_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    disk = "25 1 8:1 / / rw - ext4 /dev/vda rw\n"
    memory = "26 25 0:9 / /tmp rw - tmpfs tmpfs rw\n"
    assert scratch_directory(build(tmp_path, {"proc/self/mountinfo": disk})) == "/tmp"
    if os.access("/var/tmp", os.W_OK):
        root = build(tmp_path, {"proc/self/mountinfo": disk + memory})
        assert scratch_directory(root) == "/var/tmp"
    everything = "25 1 0:1 / / rw - tmpfs tmpfs rw\n"
    assert scratch_directory(build(tmp_path, {"proc/self/mountinfo": everything})) == "/tmp"
