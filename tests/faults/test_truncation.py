"""Files that somebody cuts short in the moment that a task reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.errors import CorruptChunkError, FormatError, OutputError
from chunkarr.settings import config
from chunkarr.storage.flat import FlatStore
from chunkarr.storage.guard import GuardedMap, watched
from chunkarr.storage.mapped import MappedStore
from chunkarr.storage.npy import NpyTarget
from chunkarr.storage.spill import SpillStore
from chunkarr.storage.store import NDArray, Store
from tests.faults.checks import Place, without_frames

pytestmark = pytest.mark.faults

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

HEADER = 128
SHAPE = (256, 64)
SIZE = HEADER + 8 * SHAPE[0] * SHAPE[1]
SIZES = {
    "emptied": 0,
    "after the first page": 4096,
    "in half": SIZE // 2,
    "within the last page": SIZE - 9,
}


def values() -> NDArray:
    return np.random.default_rng(3).integers(1, 99, SHAPE).astype(float)


@pytest.fixture
def path(place: Place) -> Path:
    found = place.folder / "x.npy"
    np.save(found, values())
    return found


def check_next(path: Path) -> None:
    """Check that the session goes on, also with a file that was brought back."""
    np.save(path, values())
    np.testing.assert_array_equal((xp.open(path) + 1).compute(), values() + 1)


def cutting(path: Path, size: int) -> Callable[[NDArray], NDArray]:
    """Give a function that gets a box of the map, and cuts the file before it looks at it."""
    first = values()[0, 0]

    def cut(box: NDArray) -> NDArray:
        if box.size and box.flat[0] == first:
            os.truncate(path, size)
        doubled: NDArray = box * 2
        return doubled

    return cut


def check_worker_told(path: Path, size: int) -> None:
    doubled = xp.map_blocks(cutting(path, size), xp.open(path), dtype=float)
    with pytest.raises(FormatError, match=r"x\.npy: the file was cut short") as caught:
        doubled.compute()
    without_frames(caught.value)
    check_next(path)


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_who_reads_a_file_that_is_cut_short_is_told(size: int, executor: str, path: Path) -> None:
    with config(executor=executor):
        check_worker_told(path, size)


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")  # of distributed's own
@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_workers_of_a_cluster_are_told_and_live(size: int, client: Any, path: Path) -> None:
    before = set(client.scheduler_info()["workers"])
    with config(executor=client):
        check_worker_told(path, size)
    assert set(client.scheduler_info()["workers"]) == before


OPERATIONS: dict[str, Callable[[Any, Path], object]] = {
    "chain": lambda x, _: (x * 2 + 1).compute(),
    "copy": lambda x, _: x.compute(),
    "transposed": lambda x, _: (x.T + 1).compute(),
    "sum": lambda x, _: x.sum().compute(),
    "deviation": lambda x, _: float(x.std()),
    "running": lambda x, _: x.cumsum(0).compute(),
    "product": lambda x, _: (x @ x.T).compute(),
    "sort": lambda x, _: xp.sort(x.ravel()).compute(),
    "mask": lambda x, _: x[x > 9].compute(),
    "rows": lambda x, _: x[np.array([255, 3, 70])].compute(),
    "element": lambda x, _: float(x[255, 63]),
    "list": lambda x, _: x[-3:].tolist(),
    "inverse": lambda x, _: xp.linalg.inv(x[64:128]).compute(),
    "held": lambda x, _: (x * 2).persist(),
    "to npy": lambda x, out: xp.save(out / "y.npy", x),
    "to npy, transposed": lambda x, out: xp.save(out / "y.npy", x.T),
    "to zarr": lambda x, out: x.to_zarr(out / "y.zarr"),
}


def is_mapped(box: NDArray) -> bool:
    below: Any = box
    while isinstance(below, np.ndarray):
        below = below.base
    return isinstance(below, GuardedMap)


@pytest.fixture
def cut_when_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Store], int], list[str]]:
    """Let the first box that a kind of store gives lie in a file that is cut short after that."""

    def begin(kind: type[Store], size: int) -> list[str]:
        cut: list[str] = []

        def then_cut(read: Any) -> Any:
            def reading(store: Store, *where: Any) -> NDArray:
                box: NDArray = read(store, *where)
                if not cut and store.location is not None and is_mapped(box):
                    cut.append(store.location)
                    os.truncate(store.location, size)
                return box

            return reading

        for name in ("read", "seen", "read_run"):
            monkeypatch.setattr(kind, name, then_cut(getattr(kind, name)))
        return cut

    return begin


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("size", [4096, SIZE - 9])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_tells_of_it(
    name: str, size: int, mode: str, path: Path, place: Place, cut_when_read: Any
) -> None:
    x = xp.open(path, mode)
    cut = cut_when_read(MappedStore, size)
    with pytest.raises(FormatError, match=r"x\.npy: the file was cut short") as caught:
        OPERATIONS[name](x, place.out)
    without_frames(caught.value)
    assert cut
    assert place.left() == []
    check_next(path)


SCRATCH: dict[str, tuple[type[Store], Callable[[Any, Path], Any]]] = {
    "sort": (SpillStore, OPERATIONS["sort"]),
    "held": (SpillStore, lambda x, _: x.cumsum(1).persist().sum(0).compute()),
    "other shape": (FlatStore, lambda x, _: (x.T + 1).reshape(SHAPE).sum(0).compute()),
}


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("name", SCRATCH)
def test_scratch_that_is_cut_short_while_it_is_read_is_told(
    name: str, path: Path, place: Place, cut_when_read: Any
) -> None:
    kind, run = SCRATCH[name]
    whole = run(xp.open(path), place.out)
    cut = cut_when_read(kind, 4096 + 8)
    with pytest.raises(CorruptChunkError, match="the file was cut short") as caught:
        run(xp.open(path), place.out)
    without_frames(caught.value)
    assert [caught.value.path] == cut
    np.testing.assert_array_equal(run(xp.open(path), place.out), whole)


WRITES: dict[str, Callable[[Any], object]] = {
    "all": lambda x: x.__setitem__(..., 1),
    "element": lambda x: x.__setitem__((255, 63), 1),
    "mask": lambda x: x.__setitem__(x > 9, 1),
    "rows": lambda x: x.__setitem__(np.array([3, 255]), 1),
}


@pytest.mark.parametrize("size", [4096, SIZE - 9])
@pytest.mark.parametrize("name", WRITES)
def test_writing_through_to_a_file_that_is_cut_short_is_told(
    name: str, size: int, path: Path, cut_when_read: Any
) -> None:
    x = xp.open(path, "r+")
    cut = cut_when_read(MappedStore, size)
    with pytest.raises(FormatError, match=r"x\.npy: the file was cut short") as caught:
        WRITES[name](x)
    without_frames(caught.value)
    assert cut
    check_next(path)


@pytest.mark.parametrize("size", [4096, SIZE - 9])
def test_an_output_that_is_cut_short_while_it_is_written_is_told(
    size: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact = GuardedMap.intact

    def then_cut(mapped: GuardedMap) -> bool:
        whole = intact(mapped)
        (name,) = os.listdir(place.out)
        os.truncate(place.out / name, size)
        return whole

    monkeypatch.setattr(GuardedMap, "intact", then_cut)
    target = NpyTarget(place.out / "y.npy", SHAPE, float)
    target.create()
    # Runs as short as these are stored through a map.
    columns = (slice(0, SHAPE[0]), slice(48, 64))
    with pytest.raises(OutputError, match=r"y\.npy: the file was cut short") as caught, watched():
        target.write(columns, values()[columns])
    without_frames(caught.value)
    target.discard()
    assert place.left() == []
