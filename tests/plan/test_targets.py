"""Results in files: whole or not at all, whatever the cuts, also over what is being read."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import chunkarr
from chunkarr.errors import CorruptChunkError, OutputError
from chunkarr.storage.zarr_target import ZarrTarget

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
SHAPE = (37, 29)


@pytest.fixture
def plain() -> NDArray:
    return np.random.default_rng(3).normal(size=SHAPE)


@pytest.fixture
def stored(tmp_path: Path, plain: NDArray) -> Path:
    """Give a Zarr array in uneven chunks."""
    path = tmp_path / "x.zarr"
    xp.array(plain).to_zarr(path, chunks=(8, 10))
    return path


def names(directory: Path) -> list[str]:
    """List a directory, hidden files too."""
    return sorted(os.listdir(directory))


# -- any cut ---------------------------------------------------------------------------------------


@st.composite
def _cuts(draw: st.DrawFn) -> dict[str, Any]:
    shape = tuple(draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)))
    cut = st.tuples(*(st.integers(1, n + 2) for n in shape))
    chunks = draw(cut)
    times = draw(st.none() | st.tuples(*(st.integers(1, 3) for _ in shape)))
    shards = None if times is None else tuple(c * t for c, t in zip(chunks, times, strict=True))
    return {
        "shape": shape,
        "source": draw(cut),
        "chunks": chunks,
        "shards": shards,
        "chunk_bytes": draw(st.sampled_from([64, 256, 4096])),
        "order": draw(st.permutations(range(len(shape)))),
    }


@settings(max_examples=settings().max_examples // 5)
@given(_cuts())
def test_round_trips_between_any_cuts(
    tmp_path_factory: pytest.TempPathFactory, case: dict[str, Any]
) -> None:
    shape, chunks, shards = case["shape"], case["chunks"], case["shards"]
    plain = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    folder = tmp_path_factory.mktemp("cuts")
    with xp.config(chunk_bytes=case["chunk_bytes"], eager_bytes=0):
        zarr.create_array(folder / "x", data=plain, chunks=case["source"])
        x = xp.open(folder / "x")
        order = tuple(case["order"])
        inside = tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))
        fits = shards is None or inside == chunks
        out = (x * 2).to_zarr(folder / "y", chunks=chunks, shards=shards if fits else None)
        np.testing.assert_array_equal(out.compute(), plain * 2)
        np.testing.assert_array_equal(zarr.open_array(folder / "y")[...], plain * 2)
        turned = x.transpose(order).to_zarr(folder / "z")
        np.testing.assert_array_equal(turned.compute(), plain.transpose(order))
        xp.save(folder / "w.npy", x.transpose(order) + 1)
        np.testing.assert_array_equal(np.load(folder / "w.npy"), plain.transpose(order) + 1)
    assert names(folder) == ["w.npy", "x", "y", "z"]
    shutil.rmtree(folder)


KINDS: dict[str, Any] = {
    "elementwise": lambda np_, x: x * 2 + 1,
    "view": lambda np_, x: x.T,
    "scan": lambda np_, x: np_.cumsum(x, axis=1),
    "reduction": lambda np_, x: x.max(axis=0),
    "reshape": lambda np_, x: x.reshape(29, 37),
    "product": lambda np_, x: x @ x.T,
    "sort": lambda np_, x: np_.sort(x, axis=0),
    "sort of a line": lambda np_, x: np_.sort(x.reshape(-1)),
    "join": lambda np_, x: np_.concatenate([x, x[::-1]], axis=1),
    "selection": lambda np_, x: x[x > 0.3],
    "rows selected": lambda np_, x: x[x[:, 0] > 0],
    "cholesky": lambda np_, x: np_.linalg.cholesky(x.T @ x + 10 * np_.eye(29)),
    "source itself": lambda np_, x: x,
}


@pytest.mark.parametrize("shards", [None, 2], ids=["chunks", "shards"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_work_writes_misaligned_chunks(
    name: str, shards: int | None, stored: Path, plain: NDArray, tmp_path: Path
) -> None:
    expected = KINDS[name](np, plain)
    with xp.config(chunk_bytes=400):
        lazy = KINDS[name](xp, xp.open(stored))
        chunks = tuple(max(1, min(7, n)) for n in lazy.shape)
        cut = None if shards is None else tuple(shards * n for n in chunks)
        out = lazy.to_zarr(tmp_path / "out.zarr", chunks=chunks, shards=cut)
    np.testing.assert_allclose(out.compute(), expected, rtol=1e-12)
    assert names(tmp_path) == ["out.zarr", "x.zarr"]


def test_two_results_are_written_in_one_pass(stored: Path, plain: NDArray, tmp_path: Path) -> None:
    x = xp.open(stored)
    pairs = [
        ((x + 1).to_expr(), ZarrTarget(tmp_path / "a.zarr", SHAPE, plain.dtype, (16, 10))),
        ((x * 2).to_expr(), ZarrTarget(tmp_path / "b.zarr", SHAPE, plain.dtype, (8, 29))),
    ]
    xp.engine.write_all(pairs)
    np.testing.assert_array_equal(xp.open(tmp_path / "a.zarr").compute(), plain + 1)
    np.testing.assert_array_equal(xp.open(tmp_path / "b.zarr").compute(), plain * 2)


def test_one_value_goes_to_two_targets(stored: Path, plain: NDArray, tmp_path: Path) -> None:
    doubled = (xp.open(stored) * 2).to_expr()
    pairs = [
        (doubled, ZarrTarget(tmp_path / name, SHAPE, plain.dtype, chunks))
        for name, chunks in [("a.zarr", (16, 10)), ("b.zarr", (5, 7))]
    ]
    xp.engine.write_all(pairs)
    for name in ("a.zarr", "b.zarr"):
        np.testing.assert_array_equal(xp.open(tmp_path / name).compute(), plain * 2)


FURTHER: dict[str, Any] = {
    "sum": lambda np_, y: y.sum(0),
    "scan": lambda np_, y: np_.cumsum(y, axis=0),
    "product": lambda np_, y: y @ y.T,
    "shifted": lambda np_, y: y[1:] - y[:-1],
    "after its sum": lambda np_, y: y / y.sum(1, keepdims=True),
}


@pytest.mark.parametrize("name", FURTHER)
def test_a_written_value_is_used_further(
    name: str, stored: Path, plain: NDArray, tmp_path: Path
) -> None:
    y = xp.open(stored) * 2
    further = FURTHER[name](xp, y)
    expected = FURTHER[name](np, plain * 2)
    cut = tuple(min(6, n) for n in further.shape)
    pairs = [
        (y.to_expr(), ZarrTarget(tmp_path / "y.zarr", SHAPE, plain.dtype, (8, 10))),
        (further.to_expr(), ZarrTarget(tmp_path / "z.zarr", further.shape, plain.dtype, cut)),
    ]
    with xp.config(chunk_bytes=640):
        xp.engine.write_all(pairs)
    np.testing.assert_array_equal(xp.open(tmp_path / "y.zarr").compute(), plain * 2)
    np.testing.assert_allclose(xp.open(tmp_path / "z.zarr").compute(), expected)


# -- over what is being read -----------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_zarr_array_is_read_and_overwritten(name: str, stored: Path, plain: NDArray) -> None:
    expected = KINDS[name](np, plain)
    with xp.config(chunk_bytes=400):
        out = KINDS[name](xp, xp.open(stored)).to_zarr(stored)
    np.testing.assert_allclose(out.compute(), expected, rtol=1e-12)
    np.testing.assert_allclose(xp.open(stored).compute(), expected, rtol=1e-12)
    assert names(stored.parent) == ["x.zarr"]


@pytest.mark.parametrize("name", KINDS)
def test_an_npy_file_is_read_and_overwritten(name: str, tmp_path: Path, plain: NDArray) -> None:
    path = tmp_path / "x.npy"
    np.save(path, plain)
    expected = KINDS[name](np, plain)
    with xp.config(chunk_bytes=400):
        xp.save(path, KINDS[name](xp, xp.load(path)))
    np.testing.assert_allclose(np.load(path), expected, rtol=1e-12)
    assert names(tmp_path) == ["x.npy"]


def test_what_was_opened_before_an_overwrite_is_never_silently_mixed(
    stored: Path, plain: NDArray
) -> None:
    x = xp.open(stored)
    later = x + 0  # not computed yet, and its source is about to go
    (x * 2).to_zarr(stored)
    try:
        got = later.compute()
    except (OSError, ValueError):
        return  # refused
    assert any(np.array_equal(got, whole) for whole in (plain, plain * 2))


def test_writing_into_a_mapped_file_that_is_read_shows_the_new_values(
    tmp_path: Path, plain: NDArray
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, plain)
    x = xp.load(path, mmap_mode="c")
    x[1:] = x[:-1]
    expected = plain.copy()
    expected[1:] = plain[:-1].copy()
    np.testing.assert_array_equal(x.compute(), expected)
    np.testing.assert_array_equal(np.load(path), plain)


# -- all or nothing --------------------------------------------------------------------------------


def failing(path: Path, plain: NDArray) -> Any:
    """Give an expression whose source fails in its last chunk."""
    victims = [p for p in Path(path).rglob("*") if p.is_file() and p.name != "zarr.json"]
    victim = max(victims)
    victim.write_bytes(victim.read_bytes()[:-3])
    return xp.open(path) * 2


def test_a_failed_write_leaves_the_old_content(
    stored: Path, plain: NDArray, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    xp.array(np.ones(SHAPE)).to_zarr(out, chunks=(10, 10))
    before = names(tmp_path)
    with pytest.raises(CorruptChunkError):
        failing(stored, plain).to_zarr(out, chunks=(5, 5))
    np.testing.assert_array_equal(xp.open(out).compute(), np.ones(SHAPE))
    assert names(tmp_path) == before


def test_a_failed_write_leaves_nothing_where_nothing_was(
    stored: Path, plain: NDArray, tmp_path: Path
) -> None:
    y = failing(stored, plain)
    writes: list[Callable[[], Any]] = [
        lambda: y.to_zarr(tmp_path / "out.zarr"),
        lambda: xp.save(tmp_path / "out.npy", y),
        lambda: xp.cumsum(y, 0).to_zarr(tmp_path / "out.zarr"),
    ]
    for write in writes:
        with pytest.raises(CorruptChunkError):
            write()
        assert names(tmp_path) == ["x.zarr"]


def test_a_failed_write_onto_the_source_leaves_the_source(
    stored: Path, plain: NDArray, tmp_path: Path
) -> None:
    y = failing(stored, plain)
    files = {p: p.read_bytes() for p in stored.rglob("*") if p.is_file()}
    with pytest.raises(CorruptChunkError):
        y.to_zarr(stored)
    assert {p: p.read_bytes() for p in stored.rglob("*") if p.is_file()} == files


def test_one_failed_result_of_several_publishes_none(
    stored: Path, plain: NDArray, tmp_path: Path
) -> None:
    y = failing(stored, plain)
    good = xp.array(np.ones(SHAPE)) + 1
    pairs = [
        (good.to_expr(), ZarrTarget(tmp_path / "a.zarr", SHAPE, plain.dtype, (10, 10))),
        (y.to_expr(), ZarrTarget(tmp_path / "b.zarr", SHAPE, plain.dtype, (10, 10))),
    ]
    with pytest.raises(CorruptChunkError):
        xp.engine.write_all(pairs)
    assert names(tmp_path) == ["x.zarr"]


def test_a_directory_of_something_else_is_not_replaced(plain: NDArray, tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(OutputError) as caught:
        xp.array(plain).to_zarr(precious)
    assert caught.value.path == str(precious)
    assert names(precious) == ["cat.jpg"]


def test_a_value_error_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    matrix = xp.array(-np.eye(30)) + 0
    with pytest.raises(np.linalg.LinAlgError):
        xp.linalg.cholesky(matrix).to_zarr(tmp_path / "out.zarr")
    assert names(tmp_path) == []


# -- damaged sources -------------------------------------------------------------------------------


def test_a_damaged_chunk_is_named(stored: Path, plain: NDArray) -> None:
    y = failing(stored, plain)
    with pytest.raises(CorruptChunkError) as caught:
        y.sum().compute()
    assert caught.value.path.startswith(str(stored))
    assert caught.value.cell == (4, 2)
    assert "(4, 2)" in str(caught.value)
    assert str(stored) in str(caught.value)


def test_a_missing_chunk_is_named(stored: Path) -> None:
    victim = stored / "c" / "1" / "2"
    victim.unlink()
    with pytest.raises(CorruptChunkError) as caught:
        (xp.open(stored) + 1).compute()
    assert caught.value.cell == (1, 2)
    assert isinstance(caught.value, OSError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.cell == (1, 2)


def test_a_flipped_bit_is_noticed(stored: Path) -> None:
    victim = stored / "c" / "2" / "1"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(CorruptChunkError) as caught:
        xp.open(stored).max().compute()
    assert caught.value.cell == (2, 1)


def test_the_error_tells_which_step_it_came_from(stored: Path) -> None:
    (stored / "c" / "1" / "2").unlink()
    with pytest.raises(CorruptChunkError) as caught:
        (xp.open(stored) + 1).sum().compute()
    notes = "\n".join(caught.value.__notes__)
    assert "'sum'" in notes
    assert os.path.basename(__file__) in notes


def test_the_session_works_after_a_failure(stored: Path, plain: NDArray) -> None:
    victim = stored / "c" / "1" / "2"
    content = victim.read_bytes()
    y = xp.open(stored) + 1
    victim.unlink()
    with pytest.raises(CorruptChunkError):
        y.compute()
    victim.write_bytes(content)
    np.testing.assert_array_equal(y.compute(), plain + 1)
