"""Scratch files in C order, and copies of arrays for other processes."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from chunkarr.errors import CorruptChunkError, SpillError
from chunkarr.grid import Grid, region_of
from chunkarr.settings import config
from chunkarr.storage import flat, pages
from chunkarr.storage.files import handles
from chunkarr.storage.flat import FlatStore
from chunkarr.storage.reshaped import ReshapedStore
from chunkarr.storage.spill import Session
from chunkarr.storage.store import NDArray, Store
from tests.storage.contract import ReadContract, WriteContract


@pytest.fixture(autouse=True)
def spill_dir(tmp_path: Path) -> Iterator[Path]:
    """Spill under the test's own directory."""
    directory = tmp_path / "spill"
    directory.mkdir()
    config(spill_dir=str(directory))
    yield directory
    Session.close_all()


def files(directory: Path) -> list[str]:
    return [name for _, _, names in os.walk(directory) for name in names if name != ".lock"]


class TestFlat(ReadContract, WriteContract):
    """Flat scratch keeps the contract."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        store = FlatStore(values.shape, values.dtype)
        store.create()
        if values.size:
            store.write(region_of(values.shape), values)
        return store

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        store = FlatStore(grid.shape, np.dtype(dtype))
        store.cut_in(grid)
        return store


def test_released_or_collected_it_is_gone_and_closed(spill_dir: Path) -> None:
    for collected in (False, True):
        before = len(handles)
        store = FlatStore((3, 4), np.dtype("f8"))
        store.create()
        store.write(region_of((3, 4)), np.ones((3, 4)))
        assert len(files(spill_dir)) == 1
        if not collected:
            store.release()
            store.release()
        del store
        assert files(spill_dir) == []
        assert len(handles) == before


def test_one_that_has_travelled_removes_nothing(spill_dir: Path) -> None:
    store = FlatStore((9000,), np.dtype("f8"))
    store.create()
    store.write(region_of((9000,)), np.arange(9000.0))
    there = pickle.loads(pickle.dumps(store))
    assert float(there.read((slice(3, 4),))[0]) == 3
    there.release()
    del there
    assert float(store.read((slice(8999, 9000),))[0]) == 8999
    store.release()
    assert files(spill_dir) == []


@pytest.mark.faults
def test_a_full_disk_says_how_full(spill_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = FlatStore((3, 4), np.dtype("f8"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SpillError, match=r"needed 4\.1 KiB") as caught:
        store.create()
    assert caught.value.directory.startswith(str(spill_dir))
    assert caught.value.bytes_free > 0
    assert files(spill_dir) == []


@pytest.mark.faults
def test_a_file_cut_short_is_not_filled_with_zeros() -> None:
    store = FlatStore((9000,), np.dtype("f8"))
    store.create()
    store.write((slice(0, 9000),), np.ones(9000))
    elsewhere = pickle.loads(pickle.dumps(store))
    os.truncate(store.location or "", 4096)
    for reader in (store, elsewhere):
        with pytest.raises(CorruptChunkError, match="cut short"):
            reader.read((slice(8000, 9000),))
    os.unlink(store.location or "")
    handles.drop(store.location or "")
    with pytest.raises(CorruptChunkError, match="gone"):
        pickle.loads(pickle.dumps(store)).read((slice(8000, 9000),))


CUTS = [(7, 5, 9), (2, 5, 9), (7, 2, 4), (3, 1, 9), (1, 1, 1)]


@pytest.fixture(params=[1, 200, flat.BAND_BYTES])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a row, of some, and of whole tiles."""
    monkeypatch.setattr(flat, "BAND_BYTES", request.param)
    monkeypatch.setattr(flat, "PIECE_BYTES", request.param)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("cut", CUTS)
def test_any_stretch_is_found_wherever_tiles_lie(cut: tuple[int, ...]) -> None:
    values = np.arange(7 * 5 * 9.0).reshape(7, 5, 9)
    store = FlatStore(values.shape, values.dtype)
    store.cut_in(Grid(values.shape, cut))
    store.create()
    for _, tile in store.grid.overlapping(region_of(values.shape)):
        store.write(tile, values[tile])
    seen = ReshapedStore(pickle.loads(pickle.dumps(store)), (21, 15))
    for region in np.s_[0:21, 0:15], np.s_[4:9, 3:7], np.s_[20:21, 14:15], np.s_[3:3, 0:15]:
        np.testing.assert_array_equal(seen.read(region), values.reshape(21, 15)[region])
    np.testing.assert_array_equal(store.read_run(13, 200), np.arange(13.0, 200.0))


def flip(store: Store, place: int) -> None:
    """Flip a bit of an element of eight bytes."""
    with open(store.location or "", "r+b") as file:
        file.seek(place * 8 - store.bytes_size, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))


@pytest.mark.faults
@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("cut", CUTS)
def test_a_flipped_bit_anywhere_is_told_by_who_reads_it(cut: tuple[int, ...]) -> None:
    values = np.arange(7 * 5 * 9.0).reshape(7, 5, 9)
    for place in (0, 100, 314):
        store = FlatStore(values.shape, values.dtype)
        store.cut_in(Grid(values.shape, cut))
        store.create()
        for _, tile in store.grid.overlapping(region_of(values.shape)):
            store.write(tile, values[tile])
        flip(store, place)
        with pytest.raises(CorruptChunkError, match="checksum"):
            store.read_run(place, place + 1)
        with pytest.raises(CorruptChunkError, match="checksum"):
            store.read(region_of(values.shape))


def test_who_reads_some_rows_of_a_tile_does_not_check_the_others() -> None:
    values = np.arange(600_000.0).reshape(600, 1000)
    store = FlatStore(values.shape, values.dtype)
    store.cut_in(Grid(values.shape, (300, 500)))
    store.create()
    store.write(region_of(values.shape), values)
    flip(store, 200_000)
    read = pickle.loads(pickle.dumps(store)).read_run
    for start, stop in (100_000, 180_000), (220_000, 310_000):
        np.testing.assert_array_equal(read(start, stop), np.arange(start, stop))
    with pytest.raises(CorruptChunkError, match=r"chunk \(0, 0\): checksum"):
        read(199_000, 201_000)


@pytest.mark.parametrize("damaged", [None, 0, 170_000])
def test_a_later_run_takes_over_the_tiles_that_are_whole(
    damaged: int | None, tmp_path: Path
) -> None:
    grid = Grid((600, 1000), (300, 500))
    first, later = (FlatStore(grid.shape, np.dtype(float)) for _ in range(2))
    for store in (first, later):
        store.cut_in(grid)
        store.lie_at(str(tmp_path / "kept"))
    first.create()
    for cell in [0, 2, 3]:
        first.write(grid.region(cell), np.full((300, 500), cell))
    if damaged is not None:
        flip(first, damaged)
    first.discard()
    later.create()
    assert later.resumed
    whole = [damaged is None, False, True, True]
    assert [later.holds(region) for region in grid.regions()] == whole
    later.release()


def test_what_lies_between_fields_is_kept_as_it_is() -> None:
    """A checksum is that of all bytes."""
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    values = np.frombuffer(np.random.default_rng(0).bytes(16 * 60), dtype).reshape(6, 10)
    store = FlatStore(values.shape, dtype)
    store.cut_in(Grid(values.shape, (4, 3)))
    store.create()
    store.write(region_of(values.shape), values)
    found = pickle.loads(pickle.dumps(store)).read(region_of(values.shape))
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name], values[name])


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_tiles_are_written_and_checked_a_few_rows_at_a_time(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(5 * 8 * 6.0).reshape(5, 8, 6)
    monkeypatch.setattr(pages, "ROWS_TOGETHER", rows)
    monkeypatch.setattr(flat, "PIECE_BYTES", rows * 48)
    store = FlatStore(values.shape, values.dtype)
    store.cut_in(Grid(values.shape, (2, 7, 4)))
    store.create()
    for region in store.grid.regions():
        store.write(region, values[region])
    looks: list[None] = []
    monkeypatch.setattr(handles, "watch", lambda: looks.append(None))
    np.testing.assert_array_equal(store.read(region_of(values.shape)), values)
    # Whoever minds pages of maps may look after each piece, not only when a file is asked for.
    assert len(looks) > store.grid.size
