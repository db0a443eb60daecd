"""What every store must do: one is accepted when subclasses of these contracts pass.

`ReadContract` is for places that hold values, `WriteContract` for places that take new ones, and
`OutputContract` adds what a user's path is promised: the old content, the new one, or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import multiprocessing
import os
import pickle
import resource
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chunkarr.errors import ChunkarrError, OutputError
from chunkarr.grid import Grid, Region, region_of, region_shape
from chunkarr.storage.claims import Claim
from chunkarr.storage.files import handles, view_of
from chunkarr.storage.store import NDArray, Store

DTYPES: tuple[Any, ...] = (
    "?",
    "i1",
    "<i2",
    ">i4",
    "u8",
    "f2",
    "f8",
    ">f8",
    "c16",
    "M8[ns]",
    "m8[s]",
    "S5",
    "U3",
    "V7",
    [("a", "f4"), ("b", ">i8")],
)
SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (7,), (3, 0, 2), (7, 5), (4, 3, 5))


def make_values(shape: tuple[int, ...], dtype: npt.DTypeLike = "f8") -> NDArray:
    """Give values that differ from place to place as far as the dtype lets them."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=int))
    numbers = np.arange(count) * 7 % 101
    if kind.names:
        made: NDArray = np.zeros(count, kind)
        for name in kind.names:
            made[name] = numbers
    elif not kind.itemsize:
        made = np.zeros(count, kind)
    elif kind.kind == "V":
        made = np.resize(np.arange(251, dtype="u1"), count * kind.itemsize).view(kind)
    else:
        made = numbers.astype(kind)
    return made.reshape(shape)


def boxes(shape: tuple[int, ...]) -> Iterator[Region]:
    """Give boxes of an array: all of it, none of it, single elements, middles and edges."""
    axes = [
        sorted({(0, n), (0, min(1, n)), (n // 3, n - n // 4), (n, n), (max(0, n - 2), n)})
        for n in shape
    ]
    for box in itertools.product(*axes):
        yield tuple(slice(start, max(start, stop)) for start, stop in box)


def assert_same(found: NDArray, expected: NDArray) -> None:
    """Compare shape, values, and dtype but for the byte order, which is a format's own."""
    assert found.shape == expected.shape
    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    assert found.tobytes() == expected.astype(found.dtype).tobytes()


def read_elsewhere(pickled: bytes, region: Region) -> bytes:
    """Read a box in another process."""
    store: Store = pickle.loads(pickled)
    return store.read(region).tobytes()


def write_elsewhere(pickled: bytes, region: Region, values: NDArray) -> None:
    """Write a box in another process."""
    pickle.loads(pickled).write(region, values)


def write_and_die(target: Store, values: NDArray) -> None:
    """Create and fill a target, then be killed."""
    target.create()
    target.write(region_of(target.shape), values)
    os.kill(os.getpid(), signal.SIGKILL)


def die_elsewhere(target: Store, values: NDArray) -> None:
    """Have another process killed between write and commit."""
    child = multiprocessing.get_context("spawn").Process(
        target=write_and_die, args=(target, values)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Have the system refuse files beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def disk_full(*_: object) -> int:
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Elsewhere:
    """Another process, started when it is needed first and shared by all tests."""

    pool: ProcessPoolExecutor | None = None

    @classmethod
    def call(cls, function: Any, *args: Any) -> Any:
        if cls.pool is None:
            context = multiprocessing.get_context("spawn")
            cls.pool = ProcessPoolExecutor(1, mp_context=context)
        return cls.pool.submit(function, *args).result()


class ReadContract:
    """The tests of a place that holds values."""

    file_backed = True
    """Whether the store pickles by path."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        """Give a store that holds the values."""
        raise NotImplementedError

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_reads_any_box_of_any_dtype(self, tmp_path: Path, dtype: Any) -> None:
        for number, shape in enumerate(SHAPES):
            values = make_values(shape, dtype)
            store = self.stored(tmp_path / str(number), values)
            assert (store.shape, store.bytes_size) == (shape, values.nbytes)
            for box in boxes(shape):
                assert_same(store.read(box), view_of(values, box))

    def test_grid_covers_the_array(self, tmp_path: Path) -> None:
        for number, shape in enumerate(SHAPES):
            store = self.stored(tmp_path / str(number), make_values(shape))
            assert store.grid.shape == shape
            sizes = [int(np.prod(region_shape(r), dtype=int)) for r in store.grid.regions()]
            assert sum(sizes) == int(np.prod(shape, dtype=int))

    def test_what_is_read_is_a_view_or_the_caller_s_own(self, tmp_path: Path) -> None:
        values = make_values((7, 5))
        store = self.stored(tmp_path / "x", values)
        box = (slice(1, 4), slice(0, 5))
        if not store.addressable:
            found = store.read(box)
            if found.flags.writeable:
                found[...] = -1
        assert_same(store.read(box), values[box])

    def test_threads_read_at_the_same_time(self, tmp_path: Path) -> None:
        values = make_values((40, 30))
        store = self.stored(tmp_path / "x", values)
        wrong: list[Region] = []

        def read(start: int) -> None:
            for i in range(40):
                row = (start + 7 * i) % 39
                box = (slice(row, row + 2), slice(3, 29))
                if not np.array_equal(store.read(box), values[box]):
                    wrong.append(box)

        threads = [threading.Thread(target=read, args=(10 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_a_pickled_copy_reads_in_another_process(self, tmp_path: Path) -> None:
        values = make_values((7, 5))
        store = self.stored(tmp_path / "x", values)
        box = (slice(1, 6), slice(2, 4))
        found = Elsewhere.call(read_elsewhere, pickle.dumps(store), box)
        assert found == values[box].tobytes()
        if self.file_backed:
            assert len(pickle.dumps(store)) < 4000
            assert store.location is not None

    def test_the_copy_of_another_process_leaves_the_store_alone(self, tmp_path: Path) -> None:
        store = self.stored(tmp_path / "x", make_values((7, 5)))
        copy = pickle.loads(pickle.dumps(store))
        copy.release()
        del copy
        assert_same(store.read(region_of((7, 5))), make_values((7, 5)))


class ReadOnlyContract(ReadContract):
    """The tests of a place that cannot be written."""

    def test_writing_is_refused_as_numpy_does(self, tmp_path: Path) -> None:
        store = self.stored(tmp_path / "x", make_values((7, 5)))
        with pytest.raises(ValueError, match="read-only"):
            store.write(region_of((7, 5)), np.zeros((7, 5)))
        with pytest.raises(ValueError, match="read-only"):
            store.create()
        assert_same(store.read(region_of((7, 5))), make_values((7, 5)))


class WriteContract:
    """The tests of a place that takes new values, in boxes of its `write_grid`."""

    file_backed = True

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        """Give a store that is not created yet."""
        raise NotImplementedError

    def written(self, folder: Path, store: Store) -> Store:
        """Give a store that reads what was written and committed."""
        return store

    def fill(self, store: Store, values: NDArray) -> None:
        """Write all boxes, the last one first."""
        for region in reversed(list((store.write_grid or store.grid).regions())):
            store.write(region, view_of(values, region))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_what_is_written_is_read(self, tmp_path: Path, dtype: Any) -> None:
        for number, shape in enumerate(SHAPES):
            values = make_values(shape, dtype)
            folder = tmp_path / str(number)
            store = self.target(folder, Grid(shape, (3,) * len(shape)), dtype)
            store.create()
            self.fill(store, values)
            store.commit()
            found = self.written(folder, store)
            for box in boxes(shape):
                assert_same(found.read(box), view_of(values, box))
            store.release()

    def test_values_broadcast_to_the_box(self, tmp_path: Path) -> None:
        store = self.target(tmp_path / "x", Grid((6, 4), (3, 2)), "f8")
        store.create()
        store.write((slice(0, 6), slice(0, 4)), np.arange(4.0))
        store.commit()
        found = self.written(tmp_path / "x", store).read(region_of((6, 4)))
        assert_same(found, np.broadcast_to(np.arange(4.0), (6, 4)))

    def test_values_may_lie_in_any_order(self, tmp_path: Path) -> None:
        values = make_values((6, 4)).T[::-1, ::2]
        store = self.target(tmp_path / "x", Grid((4, 3), (2, 3)), "f8")
        store.create()
        self.fill(store, values)
        store.commit()
        assert_same(self.written(tmp_path / "x", store).read(region_of((4, 3))), values)

    def test_a_box_across_the_write_grid_is_refused(self, tmp_path: Path) -> None:
        store = self.target(tmp_path / "x", Grid((6, 4), (3, 2)), "f8")
        store.create()
        if store.write_grid is not None and store.write_grid.size > 1:
            with pytest.raises(ValueError, match="not made of whole"):
                store.write((slice(1, 4), slice(0, 4)), np.zeros((3, 4)))
        store.discard()

    def test_threads_write_different_boxes(self, tmp_path: Path) -> None:
        values = make_values((60, 50))
        store = self.target(tmp_path / "x", Grid((60, 50), (6, 50)), "f8")
        store.create()
        regions = list((store.write_grid or store.grid).regions())

        def write(k: int) -> None:
            for region in regions[k::3]:
                store.write(region, values[region])

        threads = [threading.Thread(target=write, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.commit()
        assert_same(self.written(tmp_path / "x", store).read(region_of((60, 50))), values)

    def test_another_process_writes_a_box(self, tmp_path: Path) -> None:
        if not self.file_backed:
            return
        values = make_values((6, 4))
        store = self.target(tmp_path / "x", Grid((6, 4), (3, 4)), "f8")
        store.create()
        for region in (store.write_grid or store.grid).regions():
            Elsewhere.call(write_elsewhere, pickle.dumps(store), region, values[region])
        store.commit()
        assert_same(self.written(tmp_path / "x", store).read(region_of((6, 4))), values)

    def test_a_box_may_be_written_twice(self, tmp_path: Path) -> None:
        store = self.target(tmp_path / "x", Grid((6, 4), (3, 2)), "f8")
        store.create()
        self.fill(store, np.zeros((6, 4)))
        self.fill(store, make_values((6, 4)))
        store.commit()
        found = self.written(tmp_path / "x", store).read(region_of((6, 4)))
        assert_same(found, make_values((6, 4)))

    def test_discard_and_release_may_be_repeated(self, tmp_path: Path) -> None:
        store = self.target(tmp_path / "x", Grid((6, 4), (3, 2)), "f8")
        store.discard()
        store.create()
        for _ in range(2):
            store.discard()
            store.release()

    def test_writing_before_create_is_an_error(self, tmp_path: Path) -> None:
        store = self.target(tmp_path / "x", Grid((6, 4), (3, 2)), "f8")
        with pytest.raises(RuntimeError, match="created"):
            store.write(region_of((6, 4)), np.zeros((6, 4)))


class OutputContract(WriteContract):
    """The tests of a user's path: the old content, the whole new one, or nothing."""

    name = "out"

    def old(self, folder: Path) -> Store:
        """Put old content under the path: ones."""
        store = self.target(folder, Grid((6, 4), (3, 2)), "f8")
        store.create()
        self.fill(store, np.ones((6, 4)))
        store.commit()
        return store

    def assert_old(self, folder: Path) -> None:
        """Check that the old content stands, and nothing is beside it."""
        store = self.target(folder, Grid((6, 4), (3, 2)), "f8")
        found = self.written(folder, store).read(region_of((6, 4)))
        assert_same(found, np.ones((6, 4)))
        assert os.listdir(folder) == [self.name]

    def test_nothing_is_seen_before_the_commit(self, tmp_path: Path) -> None:
        store = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        store.create()
        self.fill(store, np.zeros((6, 4)))
        assert not os.path.exists(tmp_path / self.name)
        store.discard()
        assert os.listdir(tmp_path) == []

    def test_the_old_content_stands_until_the_commit(self, tmp_path: Path) -> None:
        old = self.old(tmp_path)
        store = self.target(tmp_path, Grid((8, 8), (3, 2)), "i2")
        store.create()
        self.fill(store, np.zeros((8, 8), "i2"))
        assert_same(self.written(tmp_path, old).read(region_of((6, 4))), np.ones((6, 4)))
        store.discard()
        self.assert_old(tmp_path)

    def test_the_commit_replaces_the_old_content(self, tmp_path: Path) -> None:
        self.old(tmp_path)
        store = self.target(tmp_path, Grid((8, 8), (3, 2)), "i2")
        store.create()
        self.fill(store, make_values((8, 8), "i2"))
        store.commit()
        found = self.written(tmp_path, store)
        assert_same(found.read(region_of((8, 8))), make_values((8, 8), "i2"))
        assert os.listdir(tmp_path) == [self.name]

    def test_a_reader_of_the_old_content_never_sees_the_new(self, tmp_path: Path) -> None:
        reader = self.written(tmp_path, self.old(tmp_path))
        store = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        store.create()
        self.fill(store, np.zeros((6, 4)))
        store.commit()
        with contextlib.suppress(ChunkarrError):
            assert_same(reader.read(region_of((6, 4))), np.ones((6, 4)))
        with pytest.raises(ChunkarrError, match="replaced"):
            Elsewhere.call(read_elsewhere, pickle.dumps(reader), region_of((6, 4)))

    def test_only_the_creator_commits(self, tmp_path: Path) -> None:
        store = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        with pytest.raises(RuntimeError):
            store.commit()
        store.create()
        copy = pickle.loads(pickle.dumps(store))
        with pytest.raises(RuntimeError):
            copy.commit()
        copy.discard()
        self.fill(store, np.ones((6, 4)))
        store.commit()
        self.assert_old(tmp_path)

    def test_a_dead_writer_s_file_goes_when_the_next_starts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.old(tmp_path)
        lost = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        lost.create()
        self.fill(lost, np.zeros((6, 4)))
        living = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        living.create()
        assert len(os.listdir(tmp_path)) == 3
        claim: Claim = lost._claim  # type: ignore[attr-defined]
        claim.keep()  # the lock goes, as it does when its owner dies
        again = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        again.create()
        assert len(os.listdir(tmp_path)) == 3
        again.discard()
        living.discard()
        self.assert_old(tmp_path)

    @pytest.mark.slow
    @pytest.mark.faults
    def test_killed_between_write_and_commit(self, tmp_path: Path) -> None:
        self.old(tmp_path)
        die_elsewhere(self.target(tmp_path, Grid((6, 4), (3, 2)), "f8"), np.zeros((6, 4)))
        assert len(os.listdir(tmp_path)) == 2
        store = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        store.create()
        store.discard()
        self.assert_old(tmp_path)

    @pytest.mark.faults
    def test_a_full_disk_is_an_error_and_the_old_content_stands(self, tmp_path: Path) -> None:
        self.old(tmp_path)
        store = self.target(tmp_path, Grid((100, 1000), (100, 1000)), "f8")
        with file_size_limit(1 << 16), pytest.raises(OutputError, match="large"):  # noqa: PT012
            store.create()
            values = np.random.default_rng(0).random((100, 1000))
            store.write(region_of((100, 1000)), values)
        store.discard()
        self.assert_old(tmp_path)

    @pytest.mark.faults
    def test_a_disk_that_fills_up_while_writing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.old(tmp_path)
        store = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        store.create()
        self.fill(store, np.zeros((6, 4)))
        monkeypatch.setattr(os, "pwrite", disk_full)
        with pytest.raises(OutputError, match="No space left"):
            self.fill(store, np.zeros((6, 4)))
        store.discard()
        monkeypatch.undo()
        self.assert_old(tmp_path)

    @pytest.mark.faults
    def test_short_writes_are_continued(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:5], at))
        self.old(tmp_path)
        self.assert_old(tmp_path)

    @pytest.mark.faults
    @pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
    def test_a_failing_commit_leaves_the_old_content(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        self.old(tmp_path)
        store = self.target(tmp_path, Grid((6, 4), (3, 2)), "f8")
        store.create()
        self.fill(store, np.ones((6, 4)))
        monkeypatch.setattr(os, call, disk_full)
        with contextlib.suppress(OutputError):
            store.commit()
        monkeypatch.undo()
        store.discard()
        self.assert_old(tmp_path)

    def test_a_missing_directory_is_an_error(self, tmp_path: Path) -> None:
        store = self.target(tmp_path / "nowhere", Grid((6, 4), (3, 2)), "f8")
        os.rmdir(tmp_path / "nowhere")
        with pytest.raises(OutputError, match="No such file"):
            store.create()

    def test_objects_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="object"):
            self.target(tmp_path, Grid((6, 4), (3, 2)), object)

    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        self.old(tmp_path)
        assert not [key for key in handles._files if str(tmp_path) in key]
