"""The tiled factorisation agrees with LAPACK's on any tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import chunkarr
from chunkarr.grid import Grid
from chunkarr.kernels.recipe import Recipe
from chunkarr.scheduler.steps import is_ordered
from chunkarr.tiled.cholesky import CholeskyWork

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def _nothing_is_eager(_settings_put_back: None) -> None:
    xp.config(eager_bytes=0, workers=2)


def matrix(n: int, dtype: str = "f8") -> NDArray:
    """Give a Hermitian positive-definite matrix."""
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, n + 3))
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.normal(size=a.shape)
    return (a @ a.conj().T + np.eye(n)).astype(dtype)


def tiles_of(side: int, dtype: str = "f8") -> int:
    """Give the `chunk_bytes` that makes tiles of a side."""
    return 6 * side * side * np.dtype(dtype).itemsize // 4 + 4


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i8"])
@pytest.mark.parametrize("side", [7, 20, 64])
def test_agrees_with_lapack(dtype: str, side: int) -> None:
    plain = matrix(50, "f8" if dtype == "i8" else dtype)
    plain = np.rint(plain).astype("i8") if dtype == "i8" else plain
    expected = np.linalg.cholesky(plain)
    with xp.config(chunk_bytes=tiles_of(side)):
        got = xp.linalg.cholesky(xp.from_array(plain)).compute()
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(
        got,
        expected,
        rtol=1e-3
        if expected.dtype.itemsize < 16 and expected.dtype in (np.float32, np.complex64)
        else 1e-9,
        atol=1e-5 if expected.dtype in (np.float32, np.complex64) else 1e-11,
    )
    assert (np.triu(got, 1) == 0).all()


@pytest.mark.parametrize("n", [1, 2, 5, 31, 40])
@pytest.mark.parametrize("chunk_bytes", [64, 200, 1000, 5000, 1 << 20])
def test_any_tiles(n: int, chunk_bytes: int) -> None:
    plain = matrix(n)
    with xp.config(chunk_bytes=chunk_bytes):
        got = xp.linalg.cholesky(xp.from_array(plain)).compute()
    np.testing.assert_allclose(got @ got.T, plain, rtol=1e-9)
    assert (np.triu(got, 1) == 0).all()


@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_upper_is_the_adjoint(dtype: str) -> None:
    plain = matrix(40, dtype)
    with xp.config(chunk_bytes=2000):
        got = xp.linalg.cholesky(xp.from_array(plain), upper=True).compute()
    np.testing.assert_allclose(got, np.linalg.cholesky(plain, upper=True), rtol=1e-9, atol=1e-11)


def test_only_the_lower_triangle_is_read() -> None:
    plain = matrix(40)
    rough = np.tril(plain) + np.triu(np.full((40, 40), 7.0), 1)
    with xp.config(chunk_bytes=2000):
        got = xp.linalg.cholesky(xp.from_array(rough)).compute()
    np.testing.assert_allclose(got, np.linalg.cholesky(plain), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("place", [0, 17, 39])
def test_a_matrix_that_is_not_positive_definite_is_refused(place: int) -> None:
    plain = matrix(40)
    plain[place, place] = -1
    with xp.config(chunk_bytes=2000), pytest.raises(np.linalg.LinAlgError):
        xp.linalg.cholesky(xp.from_array(plain)).compute()


def test_nan_gives_what_numpy_gives() -> None:
    plain = matrix(40)
    plain[20, 20] = np.nan
    try:
        np.linalg.cholesky(plain)
    except np.linalg.LinAlgError:
        with xp.config(chunk_bytes=2000), pytest.raises(np.linalg.LinAlgError):
            xp.linalg.cholesky(xp.from_array(plain)).compute()
        return
    with xp.config(chunk_bytes=2000):
        got = xp.linalg.cholesky(xp.from_array(plain)).compute()
    assert np.isnan(got[20:, 20]).all()


def test_from_disk_to_disk(tmp_path: Path) -> None:
    plain = matrix(60)
    xp.from_array(plain).to_zarr(tmp_path / "a.zarr", chunks=(7, 50))
    with xp.config(chunk_bytes=2000):
        out = xp.linalg.cholesky(xp.open(tmp_path / "a.zarr")).to_zarr(
            tmp_path / "l.zarr", chunks=(25, 25)
        )
    np.testing.assert_allclose(out.compute(), np.linalg.cholesky(plain), rtol=1e-9, atol=1e-11)


def test_of_what_is_computed_on_the_way() -> None:
    a = np.random.default_rng(0).normal(size=(80, 30))
    x = xp.from_array(a)
    with xp.config(chunk_bytes=1000):
        lower = xp.linalg.cholesky(x.T @ x)
        back = (lower @ lower.T).compute()
    np.testing.assert_allclose(back, a.T @ a, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 3, 4)])
def test_shapes_are_checked_at_the_call(shape: tuple[int, ...]) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        xp.linalg.cholesky(xp.from_array(np.ones(shape)))


def test_order_follows_from_tiles() -> None:
    grid = Grid((40, 40), (10, 10))
    work = CholeskyWork(Recipe((40, 40), (), None), grid, None)  # type: ignore[arg-type]
    assert is_ordered(work)
    written: set[Any] = set()
    for task in range(grid.size):
        accesses = work.accesses(task)
        assert set(accesses.reads) <= written, f"tile {work.tile(task)} reads what comes later"
        assert not set(accesses.writes) & written
        written |= set(accesses.writes)
    assert written == {(i, j) for i in range(4) for j in range(4)}


def test_the_bits_do_not_depend_on_the_workers() -> None:
    x = xp.from_array(matrix(60))
    with xp.config(chunk_bytes=1500):
        results = []
        for workers in (1, 2, 3):
            with xp.config(workers=workers):
                results.append(xp.linalg.cholesky(x).compute().tobytes())
    assert len(set(results)) == 1
