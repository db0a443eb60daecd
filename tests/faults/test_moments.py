"""An interrupt or a full disk at any moment of a store's life leaves nothing and undoes nothing.

Each test meets its fault at the first moment, then at the second, and so on until it meets none.
"""

from __future__ import annotations

import errno
import itertools
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.errors import OutputError, SpillError
from chunkarr.grid import Grid, region_of
from chunkarr.settings import config
from chunkarr.storage import claims
from chunkarr.storage.formats import open_store
from chunkarr.storage.npy import NpyTarget
from chunkarr.storage.spill import Session, SpillStore
from chunkarr.storage.store import NDArray, Store
from chunkarr.storage.zarr import ZarrTarget
from tests.faults.alarms import interrupted

pytestmark = pytest.mark.faults

SHAPE = (5, 4)
OLD: NDArray = np.arange(20.0).reshape(SHAPE)
NEW: NDArray = OLD + 100
CALLS = {
    os: ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "pwrite", "fsync", "close"),
    np: ("ascontiguousarray",),
}
"""Calls after which a signal is noticed: where the kernel works, an interrupt most often falls."""
FAILING = ("open", "mkdir", "rename", "replace", "pwrite", "fsync", "posix_fallocate", "ftruncate")
os_open = os.open
FILES = {"claims.py", "ending.py", "files.py", "npy.py", "spill.py", "zarr_target.py"}
FOLDER = os.path.dirname(os.path.realpath(claims.__file__))


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "spill").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the loops would wait for the disk
    with config(spill_dir=str(tmp_path / "spill")):
        yield
        Session.close_all()


class Moments:
    """Counts moments and lets the fault happen at one of them, once."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error
        self.count = 0

    def pass_by(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.error

    @property
    def happened(self) -> bool:
        return self.count >= self.at

    def meet(self, where: str, work: Callable[[], None]) -> None:
        """Do work in which it may happen."""

        def meet() -> None:
            with getattr(self, where)():
                work()

        if where != "between_lines":
            meet()
            return
        # What a trace function raises may confuse its thread's record of handled exceptions.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(meet).result()

    @contextmanager
    def between_calls(self) -> Iterator[None]:
        """Let it happen after a system call was made."""
        with pytest.MonkeyPatch.context() as patch:
            for module, names in CALLS.items():
                for name in names:
                    patch.setattr(module, name, self._after(getattr(module, name)))
            yield

    def _after(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            if not collecting(sys._getframe(1)):
                self.pass_by()
            return result

        return called

    @contextmanager
    def instead_of_calls(self) -> Iterator[None]:
        """Let a system call fail."""
        with pytest.MonkeyPatch.context() as patch:
            for name in FAILING:
                patch.setattr(os, name, self._instead(getattr(os, name)))
            yield

    def _instead(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if call is not os_open or arguments[1] & os.O_CREAT:
                self.pass_by()
            return call(*arguments, **options)

        return called

    @contextmanager
    def between_lines(self) -> Iterator[None]:
        """Let it happen before a line of the storage layer, in this thread."""

        def enter(frame: FrameType, event: str, argument: Any) -> Any:
            folder, name = os.path.split(frame.f_code.co_filename)
            ours = name in FILES and os.path.realpath(folder) == FOLDER
            return line if ours and not collecting(frame) else None

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            # No signal is noticed between the end of a `with` block and the call of its exit.
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and not text.lstrip().startswith("with "):
                self.pass_by()
            return line

        before = sys.gettrace()
        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(before)


def collecting(frame: FrameType | None) -> bool:
    """Whether a call comes from a collection, where what is raised is printed and lost."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or os.path.basename(code.co_filename) == "weakref.py":
            return True
        frame = frame.f_back
    return False


def new_target(kind: str, folder: Path) -> Store:
    """Give a target of a kind; of zarr one with two files per folder."""
    if kind == "npy":
        return NpyTarget(folder / "x", SHAPE, "f8")
    if kind == "spill":
        return SpillStore(SHAPE, "f8", Grid(SHAPE, (3, 2)))
    return ZarrTarget(folder / "x", SHAPE, "f8", (3, 2))


def fill(store: Store, values: NDArray) -> None:
    """Make a store, write all of it and publish it, as a run does."""
    try:
        store.create()
        for region in (store.write_grid or store.grid).regions():
            store.write(region, values[region])
        store.commit()
    except BaseException:
        store.discard()
        raise


def content(folder: Path) -> NDArray:
    """Read what is published in a folder."""
    store = open_store(folder / "x")
    return np.array(store.read(region_of(store.shape)))


def leftovers(tmp_path: Path) -> list[str]:
    """List what lies in the two folders and should not."""
    found = [name for name in os.listdir(tmp_path / "out") if name != "x"]
    inside = tmp_path / "out" / "x"
    if inside.is_dir():
        found += [name for name in os.listdir(inside) if name not in {"c", "zarr.json"}]
    for session in os.scandir(tmp_path / "spill"):
        found += [name for name in os.listdir(session.path) if name != ".lock"]
    return found


@pytest.mark.parametrize(
    ("kind", "where", "step"),
    [
        ("npy", "between_calls", 1),
        ("npy", "between_lines", 1),
        ("zarr", "between_calls", 1),
        ("zarr", "between_lines", 7),
        pytest.param("zarr", "between_lines", 1, marks=pytest.mark.slow),
        ("zarr without exchange", "between_calls", 1),
        ("zarr without exchange", "between_lines", 7),
        pytest.param("zarr without exchange", "between_lines", 1, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_output_is_the_old_or_the_new(
    kind: str, where: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "zarr without exchange":
        monkeypatch.setattr(claims, "exchange", lambda left, right: False)
    folder = tmp_path / "out"
    for number in itertools.count(1, step):
        fill(new_target(kind, folder), OLD)
        moments = Moments(number, KeyboardInterrupt())
        target = new_target(kind, folder)
        try:
            moments.meet(where, partial(fill, target, NEW))
        except KeyboardInterrupt:
            pass
        else:
            assert not moments.happened
        assert leftovers(tmp_path) == [], number
        assert content(folder).tolist() in (OLD.tolist(), NEW.tolist())
        if not moments.happened:
            break
    assert number > 10
    np.testing.assert_array_equal(content(folder), NEW)


@pytest.mark.parametrize("where", ["between_calls", "between_lines"])
def test_an_interrupted_spill_leaves_no_file(where: str, tmp_path: Path) -> None:
    store = new_target("spill", tmp_path)
    for number in itertools.count(1):
        moments = Moments(number, KeyboardInterrupt())
        store = new_target("spill", tmp_path)
        try:
            moments.meet(where, partial(fill, store, NEW))
        except KeyboardInterrupt:
            assert leftovers(tmp_path) == []
        store.release()
        assert leftovers(tmp_path) == [], number
        if not moments.happened:
            break
    assert number > 10
    fill(store, NEW)
    np.testing.assert_array_equal(store.read(region_of(SHAPE)), NEW)


@pytest.mark.parametrize("kind", ["npy", "zarr", "spill"])
def test_a_disk_that_is_full_at_any_call_is_an_error(kind: str, tmp_path: Path) -> None:
    folder, said = tmp_path / "out", list[str]()
    for number in itertools.count(1):
        if kind != "spill":
            fill(new_target(kind, folder), OLD)
        moments = Moments(number, OSError(errno.ENOSPC, "No space left on device"))
        target = new_target(kind, folder)
        try:
            moments.meet("instead_of_calls", partial(fill, target, NEW))
        except (OutputError, SpillError) as error:
            said.append(str(error))
        else:
            assert not moments.happened or kind == "zarr"
        if kind != "spill":
            assert content(folder).tolist() in (OLD.tolist(), NEW.tolist())
        target.release()
        assert leftovers(tmp_path) == [], number
        if not moments.happened:
            break
    assert len(said) > 4
    assert all(str(tmp_path) in text and "free" in text for text in said)


@pytest.mark.parametrize("kind", ["npy", "zarr", "spill"])
def test_a_target_that_nobody_finishes_goes_with_its_last_name(kind: str, tmp_path: Path) -> None:
    target = new_target(kind, tmp_path / "out")
    target.create()
    assert leftovers(tmp_path)
    del target
    assert leftovers(tmp_path) == []


def test_a_task_that_writes_on_after_the_end_makes_nothing_anew(tmp_path: Path) -> None:
    target = ZarrTarget(tmp_path / "out" / "x", SHAPE, "f8", (3, 2))
    target.create()
    late = ZarrTarget.__new__(ZarrTarget)
    late.__dict__.update(target.__getstate__())
    region = next(target.write_grid.regions())
    late.write(region, NEW[region])
    target.discard()
    with pytest.raises(OutputError):
        late.write(region, NEW[region])
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["PCG64", "MT19937", "Philox"])
def test_an_interrupt_at_any_moment_leaves_no_generator_locked(name: str) -> None:
    drawing: Any = chunkarr.random
    rng = drawing.Generator(getattr(drawing, name)(3))
    lock = rng.bit_generator.bare_lock

    def draw() -> None:
        for _ in range(20):
            rng.random()

    def is_free() -> bool:
        taken: bool = lock.acquire(blocking=False)
        return taken

    with ThreadPoolExecutor(1) as other:
        for _ in interrupted(draw, times=50):
            assert other.submit(is_free).result()
            other.submit(lock.release).result()
