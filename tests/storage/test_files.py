"""The file-system calls below the stores: claims, handles, swaps, and the cache of chunks."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from chunkarr.storage import files
from chunkarr.storage.chunkcache import ChunkCache
from chunkarr.storage.claims import Claim, remove, sweep
from chunkarr.storage.files import (
    Handles,
    OpenFile,
    exchange,
    preallocate,
    read_at,
    sync_disk,
)
from chunkarr.storage.store import NDArray


def claim_file(folder: str) -> Claim:
    claim = Claim(folder, ".x.", ".partial", 0o600)
    claim.make()
    return claim


def claim_directory(folder: str) -> Claim:
    claim = Claim(folder, ".x.", ".partial", 0o700, folder=True)
    claim.make()
    return claim


def test_two_paths_are_swapped_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").mkdir()
    if exchange(str(tmp_path / "a"), str(tmp_path / "b")):
        assert (tmp_path / "a").is_dir()
        assert (tmp_path / "b").read_text() == "a"
    with pytest.raises(FileNotFoundError):
        exchange(str(tmp_path / "a"), str(tmp_path / "nowhere"))


def test_a_system_without_exchange_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(files, "_libc", object)
    monkeypatch.setattr(os, "sync", lambda: synced.append(1))
    assert not exchange("a", "b")
    sync_disk(".")
    assert synced == [1]


def test_preallocation_that_is_not_offered_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with open(tmp_path / "x", "wb") as file:
        preallocate(file.fileno(), 100)
    assert (tmp_path / "x").stat().st_size == 100


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with open(tmp_path / "x", "rb") as file:
        out: NDArray = np.zeros(3, "u1")
        read_at(file.fileno(), out, 0)
        assert out.tobytes() == b"abc"
        with pytest.raises(EOFError, match="1 bytes early"):
            read_at(file.fileno(), out, 1)


def test_forgotten_files_stay_open_for_who_uses_them(tmp_path: Path) -> None:
    handles = Handles(limit=2)
    path = tmp_path / "x"
    path.write_bytes(b"abc")

    def opener() -> OpenFile:
        return OpenFile(os.open(path, os.O_RDONLY))

    first = handles.get("1", opener)
    assert handles.get("1", opener) is first
    for key in "23":
        handles.get(key, opener)
    assert len(handles) == 2
    assert os.pread(first.fd, 3, 0) == b"abc"
    fd = first.fd
    del first
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    handles.drop("2")
    handles.drop("2")
    assert len(handles) == 1


def test_living_claims_are_not_swept_and_dead_ones_are(tmp_path: Path) -> None:
    folder = str(tmp_path)
    living = [claim_file(folder), claim_directory(folder)]
    dead = [claim_file(folder), claim_directory(folder)]
    for claim in dead:
        claim.keep()
    (Path(dead[1].path) / "chunk").write_text("data")
    assert sorted(sweep(folder, ".x.", ".partial")) == sorted(claim.path for claim in dead)
    assert sweep(folder, ".x.", ".partial") == []
    for claim in living:
        assert os.path.exists(claim.path)
        claim.drop()
        claim.drop()
    assert os.listdir(folder) == []


def test_old_content_whose_remover_died_is_swept(tmp_path: Path) -> None:
    claim = claim_directory(str(tmp_path))
    os.unlink(os.path.join(claim.path, ".lock"))
    assert sweep(str(tmp_path), ".x.", ".partial") == [claim.path]


def test_claims_of_others_are_left_alone(tmp_path: Path) -> None:
    names = [".x.1-1-00000000.partial", ".y.1-1-00000000.partial", ".x.notes.partial", ".x.partial"]
    for name in names:
        (tmp_path / name).touch()
    assert sweep(str(tmp_path), ".x.", ".partial") == []
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert sweep(str(tmp_path / "nowhere"), ".x.", ".partial") == []


def test_a_claim_being_made_is_left_alone_until_it_is_old(tmp_path: Path) -> None:
    claim = claim_file(str(tmp_path))
    unborn = claim.path.replace(".partial", ".new")
    os.rename(claim.path, unborn)
    claim.keep()
    assert sweep(str(tmp_path), ".x.", ".partial") == []
    os.utime(unborn, (time.time() - 9000, time.time() - 9000))
    assert sweep(str(tmp_path), ".x.", ".partial") == [unborn]


def test_a_claim_that_cannot_be_locked_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "rename", refuse)
    for make in (claim_file, claim_directory):
        with pytest.raises(OSError, match="broken"):
            make(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_removing_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "folder").mkdir()
    for link in (tmp_path / "link", tmp_path / "folder" / "link"):
        os.symlink(tmp_path / "precious", link)
    remove(str(tmp_path / "link"))
    remove(str(tmp_path / "folder"))
    remove(str(tmp_path / "nowhere"))
    assert os.listdir(tmp_path) == ["precious"]
    assert os.listdir(tmp_path / "precious") == ["file"]


class TestChunkCache:
    """The cache holds what fits and makes each chunk once."""

    def test_off_it_holds_nothing(self) -> None:
        cache = ChunkCache()
        made = [cache.get("a", lambda: np.zeros(2)) for _ in range(2)]
        assert made[0] is not made[1]
        assert made[0].flags.writeable
        assert cache.bytes_held == 0

    def test_the_least_recently_used_goes(self) -> None:
        cache = ChunkCache()
        cache.resize(32)
        first = cache.get("a", lambda: np.zeros(2))
        cache.get("b", lambda: np.zeros(2))
        assert cache.get("a", lambda: np.ones(2)) is first
        cache.get("c", lambda: np.zeros(2))
        assert cache.bytes_held == 32
        assert cache.get("a", lambda: np.ones(2)) is first
        assert cache.get("b", lambda: np.ones(2)).tolist() == [1, 1]
        assert not first.flags.writeable
        cache.resize(16)
        assert cache.bytes_held == 16
        cache.resize(0)
        assert cache.bytes_held == 0

    def test_what_never_fits_is_given_and_not_held(self) -> None:
        cache = ChunkCache()
        cache.resize(8)
        assert cache.get("a", lambda: np.zeros(2)).tolist() == [0, 0]
        assert cache.bytes_held == 0

    def test_threads_make_a_chunk_once(self) -> None:
        cache = ChunkCache()
        cache.resize(1 << 10)
        made: list[int] = []
        barrier = threading.Barrier(4)
        gate = threading.Event()

        def make() -> NDArray:
            made.append(1)
            gate.wait(10)
            return np.zeros(2)

        def work() -> None:
            barrier.wait(10)
            cache.get("a", make)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join()
        assert made == [1]

    def test_a_failure_is_met_by_each_who_asks(self) -> None:
        cache = ChunkCache()
        cache.resize(1 << 10)

        def fail() -> NDArray:
            raise OSError(errno.EIO, "broken")

        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                cache.get("a", fail)
        assert cache.get("a", lambda: np.ones(1)).tolist() == [1]

    def test_a_forked_child_does_not_wait_for_the_parent_s_threads(self) -> None:
        cache = ChunkCache()
        cache.resize(1 << 10)
        with cache._lock:
            cache._after_fork()
        with contextlib.suppress(RuntimeError):
            cache.get("a", lambda: np.ones(1))
        assert cache.bytes_held == 8
