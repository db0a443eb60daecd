"""Products tile by tile agree with NumPy's on any cut, any ranks, any dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr import engine
from chunkarr.kernels.gemm import gemm

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]

SHAPES = [
    ((40, 30), (30, 50)),
    ((1, 30), (30, 1)),
    ((40, 1), (1, 50)),
    ((40, 0), (0, 50)),
    ((0, 30), (30, 5)),
    ((30,), (30, 50)),
    ((40, 30), (30,)),
    ((30,), (30,)),
    ((3, 20, 10), (3, 10, 15)),
    ((3, 20, 10), (10, 15)),
    ((20, 10), (3, 10, 15)),
    ((4, 1, 20, 10), (3, 10, 15)),
    ((10,), (3, 10, 15)),
    ((3, 20, 10), (10,)),
]


@pytest.fixture(autouse=True)
def _nothing_is_eager(_settings_put_back: None) -> None:
    xp.config(eager_bytes=0, workers=2)


def made(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray:
    """Give values whose products are exact in every dtype."""
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 4, shape)
    if np.dtype(dtype).kind == "c":
        return (plain + 1j * rng.integers(-3, 3, shape)).astype(dtype)
    return plain.astype(dtype)


@pytest.mark.parametrize("chunk_bytes", [64, 2000, 1 << 20])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_agrees_with_numpy(left: tuple[int, ...], right: tuple[int, ...], chunk_bytes: int) -> None:
    a, b = made(left, "f8"), made(right, "f8", 1)
    with xp.config(chunk_bytes=chunk_bytes):
        got = (xp.from_array(a) @ xp.from_array(b)).compute()
    np.testing.assert_array_equal(got, a @ b)
    assert np.shape(got) == np.shape(a @ b)


@pytest.mark.parametrize("one", ["?", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("other", ["?", "i8", "f4", "c16"])
def test_dtypes_are_numpy_s(one: str, other: str) -> None:
    a, b = made((20, 30), one), made((30, 10), other, 1)
    expected = a @ b
    with xp.config(chunk_bytes=500):
        got = (xp.from_array(a) @ xp.from_array(b)).compute()
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_integers_wrap_as_numpy_s() -> None:
    a = np.full((5, 300), 100, np.int8)
    with xp.config(chunk_bytes=64):
        got = (xp.from_array(a) @ xp.from_array(a.T)).compute()
    np.testing.assert_array_equal(got, a @ a.T)


@pytest.mark.parametrize("chunks", [(7, 9), (64, 3), (100, 100)])
def test_many_tiles_from_disk_to_disk(chunks: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 80)), rng.normal(size=(80, 50))
    xp.from_array(a).to_zarr(tmp_path / "a.zarr", chunks=(11, 30))
    xp.from_array(b).to_zarr(tmp_path / "b.zarr", chunks=(80, 6))
    with xp.config(chunk_bytes=1000):
        out = (xp.open(tmp_path / "a.zarr") @ xp.open(tmp_path / "b.zarr")).to_zarr(
            tmp_path / "c.zarr", chunks=chunks
        )
    np.testing.assert_allclose(out.compute(), a @ b, rtol=1e-12, atol=1e-12)


def test_operands_and_result_are_fused() -> None:
    a = np.random.default_rng(0).normal(size=(50, 40))
    x = xp.from_array(a)
    with xp.config(chunk_bytes=1000):
        got = (((x - x.mean(0)).T @ (x - x.mean(0))) / 49).compute()
    np.testing.assert_allclose(got, np.cov(a, rowvar=False), rtol=1e-10, atol=1e-12)


FINISHES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "bias and bound": lambda np, p, c: np.maximum(p + c, 0),
    "a row beside": lambda np, p, c: p * c[:1] - c[:, :1],
    "another dtype": lambda np, p, c: (p > c).astype("i2"),
    "sum of rows": lambda np, p, c: p.sum(axis=0),
    "sum of columns": lambda np, p, c: (p * 2 + c).sum(axis=1),
    "sum of all": lambda np, p, c: (p - c).sum(),
    "least and where": lambda np, p, c: p.min(axis=0) + p.argmin(axis=0),
    "itself and its sum": lambda np, p, c: p - p.sum(axis=0),
    "variance": lambda np, p, c: p.var(axis=1),
    "rows of it": lambda np, p, c: (p + 1)[::2, 1:],
    "turned": lambda np, p, c: p.T + c.T,
    "running sum": lambda np, p, c: np.cumsum(p + c, axis=1),
    "another product": lambda np, p, c: (p + c) @ c.T,
}


@pytest.mark.parametrize("name", FINISHES)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    chunks=st.tuples(*[st.integers(1, 12)] * 2),
    chunk_bytes=st.sampled_from([64, 500, 4000, 1 << 20]),
)
def test_what_is_made_of_a_product_is_numpy_s(
    name: str, shape: tuple[int, int, int], chunks: tuple[int, int], chunk_bytes: int
) -> None:
    m, k, n = shape
    a, b, c = made((m, k), "f8"), made((k, n), "f8", 1), made((m, n), "f8", 2)
    x, y, z = (xp.from_array(array, chunks=chunks) for array in (a, b, c))
    with xp.config(chunk_bytes=chunk_bytes):
        got = FINISHES[name](xp, (x + 1) @ (y * 2), z).compute()
    expected = FINISHES[name](np, (a + 1) @ (b * 2), c)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_bits_do_not_depend_on_fusing(workers: int) -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(90, 70)), rng.normal(size=(70, 80)), rng.normal(size=(90, 80))
    with xp.config(chunk_bytes=3000, workers=workers):
        x, y, z = map(xp.from_array, (a, b, c))
        product = (xp.exp(x) @ (y * 2)).compute()
        apart = (xp.asarray(np.exp(a)) @ xp.asarray(b * 2)).compute()
        np.testing.assert_array_equal(product, apart)
        held = xp.exp(x) @ (y * 2)
        sums = [(xp.exp(x) @ (y * 2)).sum(0), held.sum(0)]
        np.testing.assert_array_equal(*xp.compute(*sums))
        np.testing.assert_array_equal(sums[0].compute(), xp.compute(held, sums[1])[1])
        got = xp.maximum(xp.exp(x) @ (y * 2) + z, 0).compute()
        np.testing.assert_array_equal(got, np.maximum(product + c, 0))


def test_stacks_of_products_are_finished_tile_by_tile() -> None:
    a, b = made((3, 20, 10), "f8"), made((3, 10, 15), "f8", 1)
    with xp.config(chunk_bytes=500):
        product = xp.from_array(a) @ xp.from_array(b)
        np.testing.assert_array_equal((product + 1).compute(), a @ b + 1)
        np.testing.assert_array_equal(product.sum((0, 2)).compute(), (a @ b).sum((0, 2)))


@pytest.mark.parametrize("chunks", [(7, 9), (3, 50), (60, 1)])
def test_what_is_made_of_a_product_goes_to_any_chunks(
    chunks: tuple[int, int], tmp_path: Path
) -> None:
    a, b = made((60, 80), "f8"), made((80, 50), "f8", 1)
    with xp.config(chunk_bytes=1000):
        made_of = xp.maximum(xp.from_array(a) @ xp.from_array(b) - 100, 0)
        out = made_of.to_zarr(tmp_path / "c.zarr", chunks=chunks)
    np.testing.assert_array_equal(out.compute(), np.maximum(a @ b - 100, 0))


def test_views_of_one_matrix() -> None:
    a = made((40, 40), "f8")
    x = xp.from_array(a)
    with xp.config(chunk_bytes=1000):
        got = (x[::-1, 1:] @ x.T[1:, ::2]).compute()
    np.testing.assert_array_equal(got, a[::-1, 1:] @ a.T[1:, ::2])


def test_nan_and_inf_pass_through() -> None:
    a = made((20, 20), "f8")
    a[3, 4], a[5, 6] = np.nan, np.inf
    with xp.config(chunk_bytes=300), np.errstate(invalid="ignore"):
        got = (xp.from_array(a) @ xp.from_array(a)).compute()
        expected = a @ a
    np.testing.assert_array_equal(got, expected)


def test_the_bits_do_not_depend_on_the_workers() -> None:
    a = np.random.default_rng(0).normal(size=(90, 70))
    x = xp.from_array(a)
    results = set()
    for workers in (1, 2, 3):
        with xp.config(chunk_bytes=1000, workers=workers):
            results.add((x.T @ x).compute().tobytes())
    assert len(results) == 1


DEEP: dict[str, Callable[[Any], Any]] = {
    "gram": lambda x: x.T @ x,
    "of the centred": lambda x: (x - x.mean(0)).T @ (x - x.mean(0)),
    "with a vector": lambda x: x.T @ x[:, 0],
    "of vectors": lambda x: x[:, 0] @ x[:, 1],
    "in the end reduced": lambda x: (x.T @ x).sum(0),
    "stacked": lambda x: x.reshape(2, -1, 5).transpose(0, 2, 1) @ x.reshape(2, -1, 5),
}


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("name", DEEP)
def test_deep_products_are_made_in_stretches(name: str, executor: str, tmp_path: Path) -> None:
    plain = np.random.default_rng(0).normal(size=(6000, 5))
    xp.save(tmp_path / "x.npy", xp.array(plain))
    with xp.config(executor=executor, chunk_bytes=4000):
        x = xp.load(tmp_path / "x.npy", mmap_mode="r")
        product = DEEP[name](x)
        steps = [row.name for row in engine.explain_rows(product.to_expr())]
        assert any(step.startswith("matmul") and step.endswith(" merge") for step in steps)
        found = product.compute()
        np.testing.assert_allclose(found, DEEP[name](plain), rtol=1e-9, atol=1e-9)
    with xp.config(executor="threads", workers=1, chunk_bytes=4000):
        again = DEEP[name](xp.load(tmp_path / "x.npy", mmap_mode="r")).compute()
    np.testing.assert_array_equal(found, again)


def test_dot_of_vectors_and_matrices() -> None:
    a, v = made((40, 30), "f8"), made((30,), "f8")
    with xp.config(chunk_bytes=300):
        x, w = xp.from_array(a), xp.from_array(v)
        np.testing.assert_array_equal(xp.dot(x, w).compute(), a.dot(v))
        np.testing.assert_array_equal(np.asarray(xp.dot(w, w)), v.dot(v))
        np.testing.assert_array_equal((w @ x.T).compute(), v @ a.T)


@pytest.mark.parametrize(("left", "right"), [((3, 4), (3, 4)), ((), (3,)), ((2, 3, 4), (3, 4, 5))])
def test_shapes_are_checked_at_the_call(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        np.ones(left) @ np.ones(right)
    with pytest.raises(ValueError):
        xp.from_array(np.ones(left)) @ xp.from_array(np.ones(right))


def test_random_operands_are_drawn_once_not_for_each_tile() -> None:
    with chunkarr.config(eager_bytes=0, chunk_bytes=1 << 10):
        a = xp.random.default_rng(0).standard_normal((300, 300))
        rows = engine.explain_rows((a @ a.T)[:200].to_expr())
    drawn, product = rows
    assert (drawn.bytes_written, product.name) == (a.nbytes, "matmul")
    assert product.tasks > 1


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2), st.sampled_from("fdFD"))
def test_bits_do_not_depend_on_where_operands_lie(m: int, k: int, stack: int, code: str) -> None:
    """NumPy multiplies an array and its own transpose in another way than two arrays."""
    x = np.random.default_rng(m).normal(size=(*[3] * stack, k, m)).astype(code)
    turned = np.swapaxes(x, -1, -2)
    apart = gemm(turned.copy(), x)
    np.testing.assert_array_equal(gemm(turned, x), gemm(turned, x.copy()))
    np.testing.assert_array_equal(gemm(turned[::-1], x), gemm(turned[::-1], x.copy()))
    np.testing.assert_allclose(gemm(turned, x), apart, rtol=1e-3, atol=1e-3)
    out = np.empty_like(apart)
    assert gemm(turned, x, out) is out
