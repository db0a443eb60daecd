"""Boxes of maps: what is asked for, and what is copied by bands."""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.array_utils import byte_bounds
from numpy.testing import assert_array_equal

import chunkarr
from chunkarr.storage import pages
from chunkarr.storage.files import handles
from chunkarr.storage.guard import GuardedMap
from chunkarr.storage.npy import NpyStore, NpyTarget
from chunkarr.storage.pages import (
    BYTES_BROUGHT,
    BYTES_SPREAD,
    ROWS_TOGETHER,
    SPARSE,
    ask_for_places,
    asked,
    gathered,
    put,
)
from chunkarr.storage.store import NDArray

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

PAGE = mmap.PAGESIZE


class Noted(GuardedMap):
    """A map that writes down what it is asked for."""

    asked: list[tuple[int, int]]
    flags: list[int]

    def madvise(self, option: int, *where: int) -> None:
        if option == mmap.MADV_WILLNEED:
            self.asked.append((where[0], where[0] + where[1]))
        else:
            assert not where
            self.flags.append(option)
        super().madvise(option, *where)


def noted(path: Path, values: NDArray) -> tuple[Noted, NDArray]:
    """Give a map of a file that holds values, in whose memory order they are."""
    flat = values if values.flags.c_contiguous else values.T
    flat.tofile(path)
    with path.open("rb") as file:
        data = Noted.of(file.fileno(), flat.nbytes, lambda _: OSError(), access=mmap.ACCESS_READ)
    assert isinstance(data, Noted)
    data.asked, data.flags = [], []
    data.is_asked = data.is_scarce = True
    order: Any = "C" if values.flags.c_contiguous else "F"
    return data, np.ndarray(values.shape, values.dtype, data, 0, order=order)


def pages_of(box: NDArray, whole: NDArray) -> set[int]:
    """Number the pages that a box is in."""
    start = byte_bounds(whole)[0]
    place = np.zeros(1, int) + (box.__array_interface__["data"][0] - start)
    for n, step in zip(box.shape, box.strides, strict=True):
        place = np.add.outer(place, np.arange(n) * step).reshape(-1)
    return {*(place // PAGE).tolist(), *((place + box.itemsize - 1) // PAGE).tolist()}


def pages_asked(data: Noted) -> set[int]:
    return {page for start, stop in data.asked for page in range(start // PAGE, -(-stop // PAGE))}


def spans(n: int) -> st.SearchStrategy[slice]:
    """Draw slices, also backwards and with steps; many are empty."""
    steps = st.sampled_from([1, 2, 7, -1, -5])
    return st.builds(slice, st.integers(0, n), st.integers(0, n), steps)


@given(shape=st.sampled_from([(3, 40, 5000), (200, 3001), (700_001,)]), data=st.data())
def test_the_pages_of_a_box_are_asked_for_and_few_others(
    shape: tuple[int, ...], data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = np.zeros(shape)
    held, whole = noted(tmp_path_factory.mktemp("map") / "x", values)
    box = whole[tuple(data.draw(spans(n)) for n in shape)]
    box = box.transpose(data.draw(st.permutations(range(box.ndim))))
    assert asked(box) is box
    gathered(box)
    wanted = pages_of(box, whole) if box.size else set()
    found = pages_asked(held)
    if len(wanted) <= 1:
        assert found <= wanted
    else:
        assert wanted <= found
        # Stretches may have a page that is not wanted between two that are.
        assert len(found) <= (SPARSE + 2) * len(wanted) + 2
    held.close()


def test_rows_that_lie_far_apart_are_asked_for_each(tmp_path: Path) -> None:
    data, whole = noted(tmp_path / "x", np.zeros((300, 20_000)))
    box = whole[:, 512:1024]
    assert asked(box) is box
    assert not data.asked
    assert data.flags == [mmap.MADV_RANDOM]
    assert gathered(box) is box
    assert len(data.asked) == 300
    assert sum(stop - start for start, stop in data.asked) <= 300 * 2 * PAGE
    data.asked.clear()
    gathered(asked(whole[7:100]))
    assert data.flags == [mmap.MADV_RANDOM]
    assert len(data.asked) == 1
    data.asked.clear()
    data.is_asked = data.is_scarce = False
    gathered(asked(box))
    gathered(asked(whole))
    assert not data.asked


@pytest.mark.parametrize("axis", [0, 1])
def test_places_are_asked_for_without_what_lies_between(axis: int, tmp_path: Path) -> None:
    data, whole = noted(tmp_path / "x", np.zeros((300, 20_000)))
    places = np.array([7, 250, 7, 100])
    ask_for_places(whole, axis, places)
    turned = whole.swapaxes(0, axis)
    assert pages_asked(data) == set().union(*(pages_of(turned[place], whole) for place in places))
    data.asked.clear()
    ask_for_places(whole, 0, np.arange(0, 300, 2))
    assert len(data.asked) == 1
    data.asked.clear()
    data.is_scarce = False
    ask_for_places(whole, axis, places)
    assert not data.asked


def test_what_is_very_large_is_read_as_the_system_likes(tmp_path: Path) -> None:
    data, whole = noted(tmp_path / "x", np.zeros((300, 40_000)))
    assert whole.nbytes > BYTES_BROUGHT
    gathered(asked(whole[:, :10]))
    gathered(asked(whole))
    assert data.flags == [mmap.MADV_RANDOM, mmap.MADV_NORMAL]
    assert len(data.asked) == 300


TAKEN = [
    (np.s_[:], False),
    (np.s_[:300, :9], True),
    (np.s_[:, 3:5], True),
    (np.s_[:60, :9], False),  # few rows
    (np.s_[:, 100:9000], False),  # rows as long as what the system maps around a page
    (np.s_[::2, ::3], True),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("take", "copied"), TAKEN)
def test_short_rows_of_a_map_are_copied_where_somebody_minds_pages(
    take: Any, copied: bool, order: str, turned: bool, monkeypatch: Any, tmp_path: Path
) -> None:
    values = np.arange(400.0 * 10_000).reshape(400, 10_000)
    _, whole = noted(tmp_path / "x", values if order == "C" else values.T)
    rows = whole[take] if order == "C" else whole.T[take]
    wanted = rows.T if turned else rows
    assert gathered(wanted) is wanted
    looks: list[None] = []
    monkeypatch.setattr(handles, "watch", lambda: looks.append(None))
    box = gathered(wanted)
    assert_array_equal(box, wanted)
    assert np.shares_memory(box, whole) == (not copied)
    assert len(looks) == (-(-len(rows) // ROWS_TOGETHER) if copied else 0)


def test_a_long_row_in_steps_is_copied_by_stretches_where_somebody_minds_pages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, whole = noted(tmp_path / "x", np.arange(4_000_000.0))
    looks: list[None] = []
    monkeypatch.setattr(handles, "watch", lambda: looks.append(None))
    for step in (512, -512):
        box = gathered(whole[::step])
        assert_array_equal(box, whole[::step])
        assert not np.shares_memory(box, whole)
    assert len(looks) == 2 * -(-len(whole[::512]) // (BYTES_SPREAD // 4096))


def test_what_is_in_too_many_pages_is_asked_for_and_copied_by_bands(tmp_path: Path) -> None:
    data, whole = noted(tmp_path / "x", np.arange(20_000 * 1600.0).reshape(20_000, 1600))
    column = whole[:, 3:5]
    data.is_scarce = False
    assert gathered(asked(column)) is column
    assert not data.asked
    data.is_scarce = True
    found = gathered(asked(column).T)
    assert_array_equal(found, column.T)
    assert not np.shares_memory(found, whole)
    assert pages_asked(data) == pages_of(column, whole)
    few = whole[:9000, 3:5]
    assert gathered(few) is few


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("take", [np.s_[:, 3:500], np.s_[::2, ::-3], np.s_[5], np.s_[7, 8]])
def test_a_box_of_a_map_is_written_by_bands_where_somebody_minds_pages(
    take: Any, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.zeros((400, 1000))
    values = np.arange(float(expected[take].size)).reshape(expected[take].shape)
    expected[take] = values
    looks: list[None] = []
    monkeypatch.setattr(handles, "watch", lambda: looks.append(None))
    found = np.zeros((400, 1000), order=order)
    put(found[(*np.index_exp[take], ...)], values)
    assert_array_equal(found, expected)
    rows = np.atleast_2d(values) if order == "C" else np.atleast_2d(values.T)
    assert len(looks) == -(-len(rows) // ROWS_TOGETHER)
    looks.clear()
    target = NpyTarget(tmp_path / "x.npy", (400, 1000), "f8")
    target.create()
    target.write((slice(0, 400), slice(10, 500)), np.ones((400, 490)))
    target.discard()
    assert len(looks) >= -(-400 // ROWS_TOGETHER)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let memory have room for so many bytes of files, and take few for small or many."""

    def leave(free: int) -> None:
        monkeypatch.setattr(pages, "memory_free", lambda: SimpleNamespace(amount=free))
        monkeypatch.setattr(pages, "SMALL_BYTES", 0)
        monkeypatch.setattr(pages, "BYTES_BROUGHT", 1 << 20)

    return leave


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_files_that_memory_cannot_keep_give_the_same(
    scarce: Callable[[int], None], tmp_path: Path, mode: Any, order: Any
) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=(900, 1100)), order=order)
    rows = np.random.default_rng(1).integers(0, 900, 300)
    np.save(tmp_path / "x.npy", values)
    for free, expected in ((1 << 30, False), (values.nbytes, True)):
        scarce(free)
        x = xp.load(tmp_path / "x.npy", mmap_mode=mode)
        data: Any = x.to_expr().store._array().base
        assert data.is_scarce == expected
        with xp.config(chunk_bytes=1 << 16, eager_bytes=0, workers=2):
            assert_array_equal((x.T + 1).compute(), values.T + 1)
            assert_array_equal(x[:, 5].compute(), values[:, 5])
            assert_array_equal((x[::-3, 7] * 2).compute(), values[::-3, 7] * 2)
            assert_array_equal((x[:, ::90].T - 1).compute(), values[:, ::90].T - 1)
            assert_array_equal(x.sum(0).compute(), (x + 0).sum(0).compute())
            assert_array_equal(x[rows].compute(), values[rows])
            assert_array_equal(x[:, rows[:5]].compute(), values[:, rows[:5]])
            if order == "C":
                assert_array_equal(
                    (x.reshape(1100, -1).T + 1).compute(), values.reshape(1100, -1).T + 1
                )
            if mode == "r+":
                x[:, 3] += 1
                values[:, 3] += 1
        assert_array_equal(np.asarray(x), values)
        del x, data
    assert_array_equal(np.load(tmp_path / "x.npy"), values)


@given(st.data())
def test_axes_of_a_map_in_any_order_give_the_same(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 40), st.integers(1, 700)))
    kind = data.draw(st.sampled_from(["i1", "i4", "i8"]))
    order = data.draw(st.permutations(range(3)))
    part = tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in shape)
    values = np.arange(math.prod(shape)).astype(kind).reshape(shape)
    expected = values[part].transpose(order)
    chunks = tuple(data.draw(st.sampled_from([1, max(1, n // 2), n])) for n in expected.shape)
    size = data.draw(st.sampled_from([64, 4096, 1 << 16, 1 << 20]))
    size = max(size, values.nbytes // 500)  # cells without number say nothing more
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", values)
        x = xp.load(f"{folder}/x.npy", mmap_mode="r")
        y = x[part].transpose(order)
        with xp.config(chunk_bytes=size, eager_bytes=0, workers=2):
            assert_array_equal((y + y).compute(), expected + expected)
            axis = data.draw(st.integers(0, 2))
            total, most = xp.compute(y.sum(axis), y.max())
            assert_array_equal(total, expected.sum(axis))
            assert_array_equal(most, expected.max())
            assert_array_equal(y.cumsum(axis).compute(), expected.cumsum(axis))
            if math.prod(-(-n // c) for n, c in zip(y.shape, chunks, strict=True)) < 500:
                y.to_zarr(f"{folder}/y.zarr", chunks=chunks)
                assert_array_equal(xp.open(f"{folder}/y.zarr").compute(), expected)
        del x, y


def test_a_view_of_a_map_that_is_written_through_is_no_copy(
    scarce: Callable[[int], None], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((300, 3000)))
    scarce(1)
    store = NpyStore(tmp_path / "x.npy", mode="r+")
    store.read((slice(0, 300), slice(5, 6)))[...] = 3
    assert np.load(tmp_path / "x.npy").sum() == 900
