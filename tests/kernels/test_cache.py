"""Object code on disk is used only if it is whole, ours and made for this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chunkarr.kernels import cache

REPOSITORY = Path(__file__).resolve().parents[2]
KEY, MACHINE, CODE = "0123", "processor|features", bytes(range(256)) * 20


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kernels"
    monkeypatch.setenv("CHUNKARR_CACHE_DIR", str(path))
    return path


def test_what_is_written_is_read_back(directory: Path) -> None:
    assert cache.read(KEY, MACHINE) is None
    cache.write(KEY, MACHINE, CODE)
    assert cache.contains(KEY)
    assert cache.read(KEY, MACHINE) == CODE
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o077 for path in directory.iterdir()] == [0]


def test_code_for_another_processor_or_key_is_ignored(directory: Path) -> None:
    cache.write(KEY, MACHINE, CODE)
    assert cache.read(KEY, "another processor") is None
    (directory / f"{KEY}.kernel").rename(directory / "4567.kernel")
    assert cache.read("4567", MACHINE) is None


def test_a_file_cut_anywhere_is_ignored(directory: Path) -> None:
    cache.write(KEY, MACHINE, CODE)
    path = directory / f"{KEY}.kernel"
    whole = path.read_bytes()
    for size in (0, 1, 10, 18, 19, 100, 300, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert cache.read(KEY, MACHINE) is None
    path.write_bytes(whole + b"x")
    assert cache.read(KEY, MACHINE) is None


def test_any_flipped_byte_makes_a_file_ignored(directory: Path) -> None:
    cache.write(KEY, MACHINE, CODE)
    path = directory / f"{KEY}.kernel"
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[place] ^= 0x20
        path.write_bytes(bytes(changed))
        assert cache.read(KEY, MACHINE) is None


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707, 0o777])
def test_a_directory_others_may_enter_is_not_used(directory: Path, mode: int) -> None:
    cache.write(KEY, MACHINE, CODE)
    directory.chmod(mode)
    assert cache.directory() is None
    assert cache.read(KEY, MACHINE) is None
    cache.write("4567", MACHINE, CODE)
    assert not (directory / "4567.kernel").exists()


def test_a_directory_of_another_user_is_not_used(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write(KEY, MACHINE, CODE)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert cache.read(KEY, MACHINE) is None


def test_a_file_others_may_write_or_a_link_is_not_used(directory: Path, tmp_path: Path) -> None:
    cache.write(KEY, MACHINE, CODE)
    path = directory / f"{KEY}.kernel"
    path.chmod(0o622)
    assert cache.read(KEY, MACHINE) is None
    path.chmod(0o600)
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    assert cache.read(KEY, MACHINE) is None


def test_a_link_in_place_of_the_directory_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(real)
    monkeypatch.setenv("CHUNKARR_CACHE_DIR", str(tmp_path / "link"))
    assert cache.directory() is None


def test_concurrent_writers_leave_one_whole_file(directory: Path) -> None:
    seen: list[bytes | None] = []

    def write() -> None:
        for _ in range(20):
            cache.write(KEY, MACHINE, CODE)
            seen.append(cache.read(KEY, MACHINE))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [CODE] * 80
    assert [path.name for path in directory.iterdir()] == [f"{KEY}.kernel"]


def test_a_place_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHUNKARR_CACHE_DIR", str(tmp_path / "file"))
    cache.write(KEY, MACHINE, CODE)
    assert not cache.contains(KEY)


RUN = """
import sys, time
import numpy as np
from chunkarr.kernels import tier
from chunkarr.kernels.evaluate import reduce_region
from chunkarr.kernels.program import Program
assert not {"numba", "llvmlite"} & set(sys.modules)
x = np.arange(5000.0)
[total] = reduce_region(Program((x.dtype,), (), (0,)), "sum", [x], x.shape, (0,))
assert total == 4999 * 2500
print(tier.kernels_ready(), "numba" in sys.modules)
"""


def test_a_second_process_runs_the_kernel_without_numba(directory: Path) -> None:
    environment = os.environ | {"CHUNKARR_KERNELS": "compiled"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert outputs == [["1", "True"], ["1", "False"]]
    [path] = directory.glob("*.kernel")
    path.write_bytes(path.read_bytes()[:-7])
    result = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["1", "True"]


def test_what_is_kept_is_listed_and_cleared(directory: Path) -> None:
    assert cache.kept() == []
    for key in ("01", "02", "03"):
        cache.write(key, MACHINE, CODE)
    os.utime(directory / "02.kernel", (10, 10))
    (directory / "notes.txt").write_text("somebody's own")
    (directory / ".old.part").write_text("")
    os.utime(directory / ".old.part", (10, 10))
    (directory / ".new.part").write_text("")
    assert [kernel.path.stem for kernel in cache.kept()][-1] == "02"
    assert cache.read("02", MACHINE) == CODE
    assert cache.kept()[0].path.stem == "02"
    assert len(cache.clear()) == 4
    assert sorted(path.name for path in directory.iterdir()) == [".new.part", "notes.txt"]


def test_files_of_other_users_are_neither_listed_nor_removed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write(KEY, MACHINE, CODE)
    monkeypatch.setattr(cache, "directory", lambda: directory)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert cache.kept() == cache.clear() == []
    assert (directory / f"{KEY}.kernel").exists()


def test_old_kernels_make_room_for_new_ones(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BYTES_ALL_MAX", 4 * len(CODE))
    for number in range(8):
        cache.write(f"0{number}", MACHINE, CODE)
        os.utime(directory / f"0{number}.kernel", (number, number))
    assert sorted(path.stem for path in directory.iterdir()) == ["05", "06", "07"]


WRITE = """
import sys
from chunkarr.kernels import cache
code = bytes(range(256)) * 20
for _ in range(200):
    cache.write("0123", "processor|features", code)
    found = cache.read("0123", "processor|features")
    assert found in (None, code), len(found)
"""


def test_processes_that_write_and_clear_at_once_harm_nobody(directory: Path) -> None:
    cache.directory()
    started = [subprocess.Popen([sys.executable, "-c", WRITE], cwd=REPOSITORY) for _ in range(3)]
    while any(process.poll() is None for process in started):
        cache.clear()
    assert [process.wait() for process in started] == [0, 0, 0]
