"""A power cut at any moment of a publication leaves the old output or the new one, never a mixture.

Disks may keep a rename and lose what was written before it, unless that was synced. So an output is
written while all syncs are noted, and before and after each change of a name the folder is laid out
once more as a disk would hold it then that persists names at once and bytes only when it has to.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.grid import region_of
from chunkarr.storage import claims, files, zarr_target
from chunkarr.storage.formats import open_store

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

pytestmark = pytest.mark.faults


class Disk:
    """What of a folder is durable: bytes of synced files, names in synced folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bytes: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.held: list[int] = []
        self.lock = threading.Lock()
        self.renamed = False
        """Whether a name that users see has changed since the folder was synced."""
        for place, _, found in os.walk(root):
            for path in (place, *(os.path.join(place, name) for name in found)):
                fd = os.open(path, os.O_RDONLY)
                self.sync(fd)
                os.close(fd)

    def sync(self, fd: int) -> None:
        """Note what a sync makes durable."""
        info = os.fstat(fd)
        with self.lock:
            self.held.append(os.dup(fd))  # no other file gets its number
            if stat.S_ISDIR(info.st_mode):
                self.names[info.st_ino] = _names(f"/proc/self/fd/{fd}")
                self.renamed &= info.st_ino != self.root.stat().st_ino
                return
            copy = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
            self.bytes[info.st_ino] = os.pread(copy, info.st_size, 0)
            os.close(copy)

    def lay_out(self, target: Path) -> Path:
        """Give a folder as it would be found after a power cut now: all its names are there."""
        with self.lock:
            self._lay(_names(str(self.root)), target)
        return target

    def _lay(self, names: dict[str, int], target: Path) -> None:
        target.mkdir()
        for name, number in names.items():
            if number in self.names:
                self._lay(self.names[number], target / name)
            else:
                (target / name).write_bytes(self.bytes.get(number, b""))


def _names(path: str) -> dict[str, int]:
    with os.scandir(path) as entries:
        return {entry.name: entry.inode() for entry in entries}


KINDS: dict[str, Callable[[Any, Path], object]] = {
    "npy": lambda x, path: xp.save(path, x),
    "npy in short runs": lambda x, path: xp.save(path, xp.asarray(x).T.T[:, ::-1]),
    "npz": lambda x, path: xp.savez(path, x=x),
    "zarr": lambda x, path: x.to_zarr(path, chunks=(20, 20)),
    "shards": lambda x, path: x.to_zarr(path, chunks=(10, 10), shards=(20, 20)),
    "resumed zarr": lambda x, path: x.to_zarr(path, chunks=(20, 20), resume=True),
}


def found(path: Path) -> Any:
    if not path.exists():
        return None
    store = open_store(path)  # a computation would wait for the one that is going on
    return np.array(store.read(region_of(store.shape)))


@pytest.mark.parametrize("many", [False, True], ids=["synced singly", "synced together"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_leaves_the_old_output_or_the_new_one(
    kind: str, old: bool, many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"y.{next(suffix for suffix in ('npy', 'npz', 'zarr') if suffix in f'{kind} zarr')}"
    root = tmp_path / "root"
    root.mkdir()
    values = np.arange(60.0 * 50).reshape(60, 50)
    if old:
        KINDS[kind](xp.asarray(-values), root / name)
    disk = Disk(root)
    seen: list[str] = []

    def look() -> None:
        image = disk.lay_out(tmp_path / f"image{len(list(tmp_path.iterdir()))}")
        data = found(image / name)
        if data is None:
            assert not old, "the old output is gone"
            seen.append("nothing")
        else:
            (same,) = [s for s in (1, -1) if np.array_equal(np.fliplr(data) * s, expected)]
            seen.append("new" if same == 1 else "old")

    expected = np.fliplr(values if kind != "npy in short runs" else values[:, ::-1])
    watch(disk, look, monkeypatch)
    if many:
        monkeypatch.setattr(zarr_target, "SYNCED_SINGLY_MAX", 0)
    with xp.config(eager_bytes=0, chunk_bytes=4000, spill_dir=str(tmp_path)):
        KINDS[kind](xp.asarray(values), root / name)
    look()
    assert seen[-1] == "new"
    assert not disk.renamed, "a power cut now would bring back the old name"
    for fd in disk.held:
        os.close(fd)


def watch(disk: Disk, look: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note all syncs, and look before and after each change of a name in the folder itself."""
    fsync = os.fsync

    def noted(fd: int) -> None:
        fsync(fd)
        disk.sync(fd)

    def changing(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*paths: str) -> Any:
            near = any(os.path.dirname(path) == str(disk.root) for path in paths)
            if near:
                look()
            made = change(*paths)
            if near:
                disk.renamed |= not all(os.path.basename(path).startswith(".") for path in paths)
                look()
            return made

        return changed

    def all_synced(path: str) -> None:
        for place, _, names in os.walk(path):
            for entry in (place, *(os.path.join(place, name) for name in names)):
                fd = os.open(entry, os.O_RDONLY)
                disk.sync(fd)
                os.close(fd)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(zarr_target, "sync_disk", all_synced)
    monkeypatch.setattr(os, "rename", changing(os.rename))
    monkeypatch.setattr(os, "replace", changing(os.replace))
    monkeypatch.setattr(claims, "exchange", changing(files.exchange))
