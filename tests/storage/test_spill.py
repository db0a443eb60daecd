"""Scratch tiles on disk, and the directory they live in."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from chunkarr.errors import CorruptChunkError, SpillError
from chunkarr.grid import Grid, region_of
from chunkarr.settings import config
from chunkarr.storage.files import handles
from chunkarr.storage.spill import Session, SpillStore
from chunkarr.storage.store import NDArray, Store
from tests.storage.contract import (
    ReadContract,
    WriteContract,
    assert_same,
    boxes,
    disk_full,
    file_size_limit,
    make_values,
)


@pytest.fixture(autouse=True)
def spill_dir(tmp_path: Path) -> Iterator[Path]:
    """Spill under the test's own directory."""
    directory = tmp_path / "spill"
    directory.mkdir()
    config(spill_dir=str(directory))
    yield directory
    Session.close_all()


def spilled(values: NDArray, grid: Grid) -> SpillStore:
    store = SpillStore(values.shape, values.dtype, grid)
    store.create()
    store.write(region_of(values.shape), values)
    return store


class TestSpill(ReadContract, WriteContract):
    """Spill files keep the contract."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        return spilled(values, Grid(values.shape, (3,) * values.ndim))

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        return SpillStore(grid.shape, dtype, grid)


def test_an_irregular_grid_is_stored_without_gaps() -> None:
    values = make_values((9, 8, 5))
    grid = Grid((9, 8, 5), ((2, 1, 6), (5, 3), 2))
    store = spilled(values, grid)
    for box in boxes(values.shape):
        assert_same(store.read(box), values[box])
    assert os.path.getsize(store.location or "") == store.bytes_file
    places = sorted(store._offset(tile) for tile in grid.regions())
    sizes = {store._offset(t): int(np.prod([s.stop - s.start for s in t])) for t in grid.regions()}
    ends = [place + 8 * sizes[place] for place in places]
    assert [*places[1:], store.bytes_file] == ends


def test_a_box_in_one_tile_is_a_read_only_view() -> None:
    store = spilled(make_values((8, 8)), Grid((8, 8), (4, 8)))
    view = store.read((slice(1, 4), slice(2, 7)))
    assert not view.flags.owndata
    assert not view.flags.writeable
    assert store.read((slice(3, 5), slice(2, 7))).flags.writeable
    store.release()
    assert_same(view, make_values((8, 8))[1:4, 2:7])


@pytest.mark.faults
def test_a_flipped_byte_is_found_and_named() -> None:
    store = spilled(make_values((8, 8)), Grid((8, 8), (4, 4)))
    with open(store.location or "", "r+b") as file:
        file.seek(store._offset((slice(4, 8), slice(0, 4))) + 17)
        file.write(b"\xff")
    assert_same(store.read((slice(0, 4), slice(0, 8))), make_values((8, 8))[:4])
    for _ in range(2):
        with pytest.raises(CorruptChunkError, match="checksum") as caught:
            store.read((slice(5, 6), slice(1, 2)))
        assert caught.value.cell == (1, 0)
        assert caught.value.path == store.location


@pytest.mark.parametrize("box", [slice(0, 7), slice(2, 7), slice(3, 6), slice(1, 5)])
def test_tiles_that_lie_together_are_written_and_read_in_one_go(box: slice) -> None:
    values = np.arange(35.0).reshape(7, 5)
    store = SpillStore(values.shape, values.dtype, Grid(values.shape, (2, 5)))
    store.create()
    store.write((slice(0, 4), slice(0, 5)), values[:4])
    store.write((slice(4, 7), slice(0, 5)), values[4:])
    got = store.read((box, slice(0, 5)))
    assert got.tolist() == values[box].tolist()
    assert not got.flags.writeable
    assert not got.flags.owndata
    with open(store.location or "", "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\xff")
    again = pickle.loads(pickle.dumps(store))
    if box.stop == 7:
        with pytest.raises(CorruptChunkError) as caught:
            again.read((box, slice(0, 5)))
        assert caught.value.cell == (3, 0)
    else:
        assert again.read((box, slice(0, 5))).tolist() == values[box].tolist()


@pytest.mark.faults
def test_tiles_that_changed_places_are_found() -> None:
    store = spilled(make_values((8,)), Grid((8,), (4,)))
    place = store._data
    with open(store.location or "", "r+b") as file:
        data = file.read()
        table = bytearray(data[64:80])
        table[:8], table[8:] = table[8:], table[:8]
        file.seek(64)
        file.write(table)
        file.seek(place)
        file.write(data[place + 32 : place + 64] + data[place : place + 32])
    with pytest.raises(CorruptChunkError, match="checksum"):
        store.read((slice(0, 2),))


@pytest.mark.faults
def test_a_tile_that_was_never_written_is_an_error() -> None:
    store = SpillStore((8,), "f8", Grid((8,), (4,)))
    store.create()
    store.write((slice(0, 4),), np.ones(4))
    with pytest.raises(CorruptChunkError, match="never written"):
        store.read((slice(0, 8),))


@pytest.mark.faults
def test_a_file_cut_short_is_an_error_and_not_a_signal() -> None:
    store = spilled(make_values((9000,)), Grid((9000,), (3000,)))
    store.read((slice(0, 10),))
    os.truncate(store.location or "", store._data + 100)
    with pytest.raises(CorruptChunkError, match="cut short"):
        store.read((slice(8000, 9000),))


@pytest.mark.faults
def test_a_file_that_is_gone_or_another_is_an_error() -> None:
    store = spilled(make_values((8,)), Grid((8,), (4,)))
    other = spilled(make_values((8,)), Grid((8,), (4,)))
    copy = pickle.dumps(store)
    handles.drop(store.location or "")
    os.rename(other.location or "", store.location or "")
    with pytest.raises(CorruptChunkError, match="not the file"):
        pickle.loads(copy).read((slice(0, 4),))
    os.unlink(store.location or "")
    with pytest.raises(CorruptChunkError, match="gone"):
        pickle.loads(copy).read((slice(0, 4),))


@pytest.mark.faults
def test_a_full_disk_is_an_error_before_any_write(spill_dir: Path) -> None:
    store = SpillStore((100_000,), "f8", Grid((100_000,), (1000,)))
    with file_size_limit(1 << 16), pytest.raises(SpillError, match="large") as caught:
        store.create()
    assert caught.value.directory.startswith(str(spill_dir))
    assert caught.value.bytes_needed == store.bytes_file
    assert caught.value.bytes_free > 0
    assert os.listdir(caught.value.directory) == [".lock"]


@pytest.mark.faults
def test_a_disk_that_fills_up_while_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SpillStore((8,), "f8", Grid((8,), (4,)))
    store.create()
    monkeypatch.setattr(os, "pwrite", disk_full)
    with pytest.raises(SpillError, match="No space left"):
        store.write((slice(0, 4),), np.ones(4))
    monkeypatch.undo()
    with pytest.raises(CorruptChunkError, match="never written"):
        store.read((slice(0, 4),))


@pytest.mark.faults
def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    config(spill_dir=str(tmp_path / "nowhere"))
    (tmp_path / "nowhere").rmdir()
    with pytest.raises(SpillError, match="No such file"):
        SpillStore((8,), "f8", Grid((8,), (4,))).create()


@pytest.mark.faults
def test_short_writes_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:5], at))
    store = spilled(make_values((8,)), Grid((8,), (4,)))
    assert_same(store.read((slice(0, 8),)), make_values((8,)))


def test_only_the_creator_removes_the_file() -> None:
    store = spilled(make_values((8,)), Grid((8,), (4,)))
    path = store.location or ""
    copy = pickle.loads(pickle.dumps(store))
    copy.release()
    assert os.path.exists(path)
    store.release()
    assert not os.path.exists(path)
    assert store.location is None


def test_a_store_that_is_collected_leaves_no_file() -> None:
    store = spilled(make_values((8,)), Grid((8,), (4,)))
    path = store.location or ""
    view = store.read((slice(0, 4),))
    del store
    assert not os.path.exists(path)
    assert_same(view, make_values((8,))[:4])


def test_few_files_stay_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    stores = [spilled(make_values((8,)), Grid((8,), (4,))) for _ in range(handles.limit + 50)]
    for store in stores:
        store.read((slice(0, 8),))
    assert len(handles) == handles.limit
    assert len(os.listdir("/proc/self/fd")) <= before + 2 * handles.limit + 2
    assert_same(stores[0].read((slice(0, 8),)), make_values((8,)))
    for store in stores:
        store.release()
    assert len(handles) <= handles.limit


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="object"):
        SpillStore((8,), object, Grid((8,), (4,)))


def test_the_session_is_private_and_named_after_its_owner(spill_dir: Path) -> None:
    session = Session.current()
    name = os.path.basename(session.path)
    assert name.startswith(f"chunkarr-{os.getuid()}-{os.getpid()}-")
    assert stat.S_IMODE(os.stat(session.path).st_mode) == 0o700
    assert Session.current() is session
    Session.close_all()
    assert os.listdir(spill_dir) == []
    assert Session.current() is not session


def test_a_directory_removed_by_somebody_is_made_anew() -> None:
    session = Session.current()
    session.close()
    assert os.path.isdir(Session.current().path)


def test_a_dead_session_is_removed_and_a_living_one_is_not(spill_dir: Path) -> None:
    living, dead = Session(str(spill_dir)), Session(str(spill_dir))
    dead._claim.keep()  # the lock goes, as it does when its owner dies
    (spill_dir / f"chunkarr-{os.getuid()}-1-1-00000000").mkdir()  # of another host
    (spill_dir / "chunkarr-notes").mkdir()
    session = Session.current()
    assert os.path.exists(living.path)
    assert not os.path.exists(dead.path)
    assert len(os.listdir(spill_dir)) == 4
    living.close()
    assert os.path.exists(session.path)


def test_a_link_is_neither_followed_nor_swept(spill_dir: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    dead = Session(str(spill_dir))
    dead._claim.keep()
    target = os.path.join(dead.path, "link")
    os.symlink(precious, target)
    link = dead.path.replace(f"-{os.getpid()}-", "-1-")
    os.symlink(precious, link)
    Session.current()
    assert not os.path.exists(dead.path)
    assert os.path.islink(link)
    assert os.listdir(precious) == ["file"]


def test_a_forked_child_does_not_remove_the_session() -> None:
    session = Session.current()
    child = os.fork()
    if not child:
        Session.close_all()
        session.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.path.exists(session.path)


SCRIPT = """
import os, signal, sys
import numpy as np
from chunkarr.grid import Grid
from chunkarr.storage.spill import SpillStore
store = SpillStore((8,), "f8", Grid((8,), (4,)))
store.create()
store.write((slice(0, 8),), np.arange(8.0))
if sys.argv[1:]:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_nothing_is_left_at_exit_nor_by_the_next_start_after_a_kill(spill_dir: Path) -> None:
    environ = os.environ | {"CHUNKARR_SPILL_DIR": str(spill_dir)}
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run(command, env=environ, check=True)
    assert os.listdir(spill_dir) == []
    done = subprocess.run([*command, "die"], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(os.listdir(spill_dir)) == 1
    Session.current()
    Session.close_all()
    assert os.listdir(spill_dir) == []
