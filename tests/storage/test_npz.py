"""`.npz` archives: stored members through maps, deflated ones by checkpoints."""

from __future__ import annotations

import os
import pickle
import random
import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunkarr.errors import CorruptChunkError, FormatError
from chunkarr.grid import Grid, Region, region_of
from chunkarr.storage import npz
from chunkarr.storage.files import read_at
from chunkarr.storage.mapped import MappedStore
from chunkarr.storage.npz import DeflatedStore, StoredMember, open_npz
from chunkarr.storage.store import NDArray, Store
from tests.storage.contract import (
    Elsewhere,
    ReadOnlyContract,
    assert_same,
    boxes,
    make_values,
    read_elsewhere,
)


class TestStoredMember(ReadOnlyContract):
    """Uncompressed members keep the contract."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        np.savez(folder, x=values, y=np.zeros(3))
        return open_npz(f"{folder}.npz")["x"]


class TestDeflatedMember(ReadOnlyContract):
    """So do compressed ones."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        np.savez_compressed(folder, y=np.zeros(3), x=values)
        return open_npz(f"{folder}.npz")["x"]


class TestDeflatedMemberFortran(ReadOnlyContract):
    """So do compressed ones in Fortran order."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        np.savez_compressed(folder, x=np.array(values, order="F"))
        return open_npz(f"{folder}.npz")["x"]


class TestManyWindows(TestDeflatedMember):
    """So do members of many windows."""

    @pytest.fixture(autouse=True)
    def _small(self, small_windows: None) -> None:
        pass


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a kilobyte a large array."""
    monkeypatch.setattr(npz, "WINDOW_BYTES", 64)
    monkeypatch.setattr(npz, "BAND_BYTES", 256)
    monkeypatch.setattr(npz, "CHECKPOINT_WINDOWS", 8)
    monkeypatch.setattr(npz, "CHECKPOINTS_MAX", 6)


@pytest.fixture
def scattered(tmp_path: Path, small_windows: None) -> tuple[NDArray, DeflatedStore]:
    """Give values and the compressed member that holds them, of some hundred windows."""
    values = np.random.default_rng(0).integers(0, 99, (64, 30))
    np.savez_compressed(tmp_path / "x.npz", x=values)
    store = open_npz(tmp_path / "x.npz")["x"]
    assert isinstance(store, DeflatedStore)
    return values, store


def inflated(store: DeflatedStore) -> int:
    return store._stream.windows_inflated


def windows(store: DeflatedStore) -> int:
    return -(-store._stream.size // npz.WINDOW_BYTES)


def test_names_are_those_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, np.zeros(2), b=np.ones(3))
    members = open_npz(path)
    assert list(members) == np.load(path).files
    assert len(members) == 2
    assert members["b"] is members["b.npy"] is members["b"]
    with pytest.raises(KeyError):
        members["c"]


def test_a_name_is_never_a_path(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        np.save(tmp_path / "y.npy", np.arange(3))
        archive.write(tmp_path / "y.npy", "../../evil.npy")
    members = open_npz(tmp_path / "in" / "x.npz")
    assert list(members) == ["../../evil"]
    assert members["../../evil"].read((slice(0, 3),)).tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ["in", "y.npy"]


def test_opening_one_member_does_not_touch_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, bad=np.array([None]), good=np.arange(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note.txt", "hello")
    members = open_npz(path)
    assert isinstance(members["good"], MappedStore)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        members["bad"]
    with pytest.raises(FormatError, match="not an npy file"):
        members["note.txt"]


def test_the_grid_is_bands_of_rows(scattered: tuple[NDArray, DeflatedStore]) -> None:
    _, store = scattered
    assert store.grid.axes == (1, 30)
    row = npz._band_axes((1000, 4), 8)
    assert row == (8, 4)
    assert npz._band_axes((10, 20, 1000), 8) == (1, 1, 32)
    assert npz._band_axes((10, 2), 1000) == (1, 1)


def test_a_scan_inflates_each_byte_once(scattered: tuple[NDArray, DeflatedStore]) -> None:
    values, store = scattered
    header = inflated(store)
    for region in store.grid.regions():
        assert_same(store.read(region), values[region])
    assert inflated(store) - header <= windows(store)


@pytest.mark.parametrize("workers", [2, 4])
def test_threads_that_scan_side_by_side_share_one_pass(
    scattered: tuple[NDArray, DeflatedStore], workers: int
) -> None:
    values, store = scattered
    regions = iter(list(store.grid.regions()))
    lock = threading.Lock()
    wrong: list[Region] = []

    def scan() -> None:
        while True:
            with lock:
                region = next(regions, None)
            if region is None:
                return
            if not np.array_equal(store.read(region), values[region]):
                wrong.append(region)

    threads = [threading.Thread(target=scan) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    # A thread that is overtaken goes back to a checkpoint; it never starts from the beginning.
    assert inflated(store) <= 3 * windows(store)


def test_a_jump_costs_no_more_than_a_checkpoint_s_distance(
    scattered: tuple[NDArray, DeflatedStore],
) -> None:
    values, store = scattered
    store.read(region_of(values.shape))
    chance = random.Random(0)
    for _ in range(50):
        row = chance.randrange(64)
        before = inflated(store)
        box = (slice(row, row + 1), slice(0, 30))
        assert_same(store.read(box), values[box])
        assert inflated(store) - before <= store._stream._spacing + 5
    assert len(store._stream._checkpoints) <= npz.CHECKPOINTS_MAX
    assert len(store._stream._idle) <= npz.CURSORS_MAX


def test_memory_held_is_what_is_declared(scattered: tuple[NDArray, DeflatedStore]) -> None:
    values, store = scattered
    store.read(region_of(values.shape))
    assert len(store._stream._held) <= npz.WINDOWS_HELD
    assert store.bytes_read_extra > sum(map(len, store._stream._held.values()))


@pytest.mark.faults
def test_a_flipped_byte_of_compressed_data_is_an_error(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, 3000).astype("u1")
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=values)
    data = bytearray(path.read_bytes())
    failures = 0
    for place in range(200, len(data) - 200, 97):
        data[place] ^= 0x10
        path.write_bytes(data)
        with pytest.raises((CorruptChunkError, FormatError)):  # noqa: PT012
            store = open_npz(path)["x"]
            for _ in range(2):
                store.read((slice(0, 3000),))
        data[place] ^= 0x10
        failures += 1
    assert failures > 10


@pytest.mark.faults
def test_a_wrong_checksum_fails_every_later_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.arange(300))
    with zipfile.ZipFile(path) as archive:
        crc = archive.infolist()[0].CRC
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", crc), b"\x01\x02\x03\x04"))
    with pytest.raises(CorruptChunkError, match="checksum"):
        open_npz(path)["x"].read((slice(0, 1),))


def damaged(folder: Path, values: NDArray, order: Any = "C") -> Path:
    """Write an uncompressed archive, one bit of whose data is wrong."""
    path = folder / "x.npz"
    np.savez(path, x=np.array(values, order=order))
    flip(path)
    return path


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


PARTS: dict[str, Region] = {
    "all": (slice(0, 64), slice(0, 1024)),
    "an element": (slice(0, 1), slice(0, 1)),
    "a column": (slice(0, 64), slice(7, 8)),
    "rows": (slice(8, 16), slice(0, 1024)),
}


@pytest.mark.faults
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("part", PARTS)
def test_nothing_of_a_damaged_stored_member_is_read(part: str, order: str, tmp_path: Path) -> None:
    store = open_npz(damaged(tmp_path, make_values((64, 1024)), order))["x"]
    for _ in range(2):
        with pytest.raises(CorruptChunkError, match=r"x.npz\['x.npy'\].*checksum"):
            store.read(PARTS[part])
    with pytest.raises(CorruptChunkError, match="checksum"):
        pickle.dumps(store)


@pytest.mark.faults
def test_nothing_of_a_small_damaged_compressed_member_is_read(tmp_path: Path) -> None:
    # Stored blocks of deflate take any byte.
    np.savez_compressed(tmp_path / "x", x=np.random.default_rng(0).integers(0, 256, 3 << 20, "u1"))
    flip(tmp_path / "x.npz")
    store = open_npz(tmp_path / "x.npz")["x"]
    for _ in range(2):
        with pytest.raises(CorruptChunkError):
            store.read((slice(0, 1),))


def test_a_stored_member_is_checked_once_by_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = make_values((16, 4, 1024))
    np.savez(tmp_path / "x", x=values)
    store = open_npz(tmp_path / "x.npz")["x"]
    assert isinstance(store, StoredMember)
    read: list[int] = []

    def counted(fd: int, out: NDArray, offset: int) -> None:
        read.append(out.nbytes)
        read_at(fd, out, offset)

    monkeypatch.setattr(npz, "read_at", counted)
    regions = list(Grid(values.shape, (5, 3, 1024)).regions())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.read, [*regions, region_of(values.shape), *regions]))
    other = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(other.read(region_of(values.shape)), values)
    assert sum(read) == values.nbytes + 128


def patched(path: Path, sizes: tuple[int, int]) -> None:
    """Have the directory of a one-member archive give other sizes."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", *sizes)
    path.write_bytes(data)


@pytest.mark.faults
@pytest.mark.parametrize("compressed", [False, True])
def test_a_lying_directory_is_an_error(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.npz"
    save = np.savez_compressed if compressed else np.savez
    cases = {(1 << 31, 1 << 31): "cut short", (100, 1 << 31): "expand" if compressed else "cut"}
    for sizes, words in cases.items():
        save(path, x=np.zeros(300))
        patched(path, sizes)
        with pytest.raises(FormatError, match=words):
            open_npz(path)["x"]
    save(path, x=np.zeros(300))
    patched(path, (200, 200))
    with pytest.raises((FormatError, CorruptChunkError)):
        open_npz(path)["x"]


@pytest.mark.faults
def test_an_archive_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros(300))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FormatError, match="zip"):
        open_npz(path)


def test_a_member_that_expands_beyond_its_header_is_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.save(tmp_path / "x.npy", np.arange(3))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes() + bytes(1 << 16))
    assert open_npz(path)["x"].read((slice(0, 3),)).tolist() == [0, 1, 2]


def test_other_compressions_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.save(tmp_path / "x.npy", np.arange(3))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    with pytest.raises(FormatError, match="compression"):
        open_npz(path)["x"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_replaced_archive_is_an_error(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, x=np.zeros(300))
    pickled = pickle.dumps(open_npz(path)["x"])
    save(tmp_path / "y.npz", x=np.ones(301))
    os.replace(tmp_path / "y.npz", path)
    with pytest.raises(FormatError, match="replaced"):
        Elsewhere.call(read_elsewhere, pickled, (slice(0, 300),))


def test_streams_are_read_anywhere(tmp_path: Path, small_windows: None) -> None:
    values = make_values((6, 5, 40))
    np.savez_compressed(tmp_path / "x.npz", x=values, y=np.array(values, order="F"))
    members = open_npz(tmp_path / "x.npz")
    for name in members:
        for box in reversed(list(boxes(values.shape))):
            assert_same(members[name].read(box), values[box])
