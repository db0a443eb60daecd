"""Users' functions on chunks, lanes and elements agree with dask.array's, NumPy's and Numba's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numba
import numpy as np
import numpy.typing as npt
import pytest
from numpy.linalg import _umath_linalg

import chunkarr
from chunkarr.errors import MemoryBudgetError, NotYetError
from chunkarr.storage.zarr_store import ZarrStore
from tests.plan.support import MIB, FakeStore, limits, plan_of

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
Pair = tuple[Any, Any]
SHAPE, CHUNKS = (20, 30), (6, 7)


@pytest.fixture(autouse=True, params=["chunks", "at once"])
def _cut(request: pytest.FixtureRequest, _settings_put_back: None) -> None:
    """Everything twice: with many chunks, and as users have it."""
    if request.param == "chunks":
        xp.config(eager_bytes=0, chunk_bytes=512)


def values(*shape: int, dtype: str = "f8") -> NDArray:
    return np.asarray(np.random.default_rng(len(shape)).normal(size=shape) * 4, dtype)


def pair(shape: tuple[int, ...] = SHAPE, chunks: Any = CHUNKS, dtype: str = "f8") -> Pair:
    """Give the same array as chunkarr's and as dask's."""
    a = values(*shape, dtype=dtype)
    return xp.from_array(a, chunks=chunks), da.from_array(a, chunks=chunks)


def agree(made: Any, expected: Any) -> None:
    assert made.chunks == expected.chunks
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made.compute(), expected.compute(scheduler="sync"))


def same_for(make: Callable[..., Any], *pairs: Pair) -> None:
    """Make something with chunkarr and with dask and compare, errors too."""
    try:
        expected = make(da, *(d for _, d in pairs))
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error)):
            make(xp, *(x for x, _ in pairs))
        return
    agree(make(xp, *(x for x, _ in pairs)), expected)


# -- map_blocks ---------------------------------------------------------------------------------

ONE: list[Callable[[Any, Any], Any]] = [
    lambda m, x: m.map_blocks(lambda b: b * 2, x),
    lambda m, x: x.map_blocks(lambda b: b > 1),
    lambda m, x: m.map_blocks(np.add, x, 3, dtype="f8"),
    lambda m, x: m.map_blocks(lambda b, by: b + by[:1], x, np.array([2.0, 3.0]), dtype=float),
    lambda m, x: m.map_blocks(lambda b, by=1: b * by, x, by=4),
    lambda m, x: m.map_blocks(lambda b: b.astype("f4"), x, dtype="f4"),
    lambda m, x: m.map_blocks(lambda b: b, x, meta=np.empty((0, 0), "f8")),
    lambda m, x: m.map_blocks(lambda b: b.sum(1), x, drop_axis=1, dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b.sum(0), x, drop_axis=[-2], dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b.sum(), x, drop_axis=[0, 1], dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b[None], x, new_axis=0),
    lambda m, x: m.map_blocks(lambda b: b[:, None, :, None], x, new_axis=[1, 3], dtype="f8"),
    lambda m, x: m.map_blocks(
        lambda b: np.stack([b, -b]), x, chunks=(2, *x.chunks), new_axis=0, dtype="f8"
    ),
    lambda m, x: m.map_blocks(lambda b: b[:2, :1], x, chunks=(2, 1), dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b[:1], x, chunks=((1,) * 4, x.chunks[1]), dtype="f8"),
    lambda m, x: m.map_blocks(
        lambda b: b[: len(b) // 2], x, chunks=(lambda n: n // 2, lambda n: n), dtype="f8"
    ),
    lambda m, x: m.map_blocks(lambda b: b[0, :2], x, chunks=(2,), drop_axis=0, dtype="f8"),
    lambda m, x: m.map_blocks(
        lambda b: b.sum(1)[:, None], x, chunks=(x.chunks[0], 1), dtype="f8", enforce_ndim=True
    ),
    lambda m, x: m.map_blocks(lambda b, block_id=None: b + block_id[0] * 10 + block_id[1], x),
    lambda m, x: m.map_blocks(
        lambda b, block_info=None: b + block_info[0]["array-location"][1][0], x, dtype="f8"
    ),
    # what is wrong
    lambda m, x: m.map_blocks(lambda b: b, x, drop_axis=2),
    lambda m, x: m.map_blocks(lambda b: b, x, chunks=(3,), dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b, x, chunks=((1, 2), (3,)), dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b, x, new_axis=9, dtype="f8"),
    lambda m, x: m.map_blocks(lambda b: b[7], x),
    lambda m, x: m.map_blocks(x, lambda b: b),
]


@pytest.mark.parametrize("make", ONE)
def test_map_blocks_is_dask_s(make: Callable[[Any, Any], Any]) -> None:
    same_for(make, pair())


SEVERAL: list[tuple[tuple[int, ...], Any, tuple[int, ...], Any]] = [
    ((20, 30), (6, 7), (20, 30), (6, 7)),
    ((20, 30), (6, 7), (30,), (7,)),
    ((20, 30), (6, 7), (20, 1), (6, 1)),
    ((20, 30), (6, 7), (1, 1), (1, 1)),
    ((20, 30), (6, 7), (), ()),
    ((3, 20, 30), (2, 6, 7), (20, 30), (6, 7)),
    ((20, 30), ((5, 6, 9), 10), (30,), ((10, 10, 10),)),
]


@pytest.mark.parametrize(("shape", "chunks", "other", "cut"), SEVERAL)
def test_arrays_meet_chunk_by_chunk(
    shape: tuple[int, ...], chunks: Any, other: tuple[int, ...], cut: Any
) -> None:
    same_for(
        lambda m, x, y: m.map_blocks(lambda a, b: a * 2 + b, x, y, dtype="f8"),
        pair(shape, chunks),
        pair(other, cut),
    )


def test_numbers_of_chunks_that_differ_are_refused_at_the_call() -> None:
    (x, _), (y, _) = pair(), pair((30,), (10,))
    with pytest.raises(ValueError, match=r"chunks do not align along axis 1.*\[3, 5\]"):
        xp.map_blocks(np.add, x, y, dtype="f8")


CUTS: list[Callable[[Any, Any], Any]] = [
    lambda m, x: x[3:17:2, ::-1],
    lambda m, x: x[:1],
    lambda m, x: x[5, 3:],
    lambda m, x: x[::-3, None, 14:28],
    lambda m, x: x.T,
    lambda m, x: x.sum(0),
    lambda m, x: x.mean(1, keepdims=True),
    lambda m, x: (x - x.mean(0))[7:],
    lambda m, x: m.cumsum(x, 0),
    lambda m, x: m.sqrt(abs(x[6:])),
    lambda m, x: x[18:].max(1),
]


@pytest.mark.parametrize("make", CUTS)
def test_chunks_are_what_they_are_in_dask(make: Callable[[Any, Any], Any]) -> None:
    x, d = pair()
    assert make(xp, x).chunks == make(da, d).chunks


def test_chunks_of_other_sizes_meet_by_number() -> None:
    same_for(
        lambda m, x, y: m.map_blocks(
            lambda a, b: np.array([a.max(), b.max()]), x, y, chunks=(2,), dtype="f8"
        ),
        pair((100,), (10,)),
        pair((50,), (5,)),
    )


def test_an_array_is_made_from_nothing_but_its_places() -> None:
    def places(block_info: Any = None) -> NDArray:
        start, stop = block_info[None]["array-location"][0]
        return np.arange(start, stop) * 1.0

    same_for(lambda m: m.map_blocks(places, chunks=((4, 3, 4),), dtype="f8"))


@pytest.mark.parametrize("drop", [None, 0, 1])
def test_block_info_is_dask_s(drop: int | None) -> None:
    found: list[list[Any]] = []
    for whole in pair():
        seen: list[Any] = []

        def look(b: NDArray, c: NDArray, block_id: Any = None, block_info: Any = None) -> NDArray:
            seen.append((block_id, block_info))  # noqa: B023 - used in the same round
            return b if drop is None else b.sum(drop)

        module = da if isinstance(whole, da.Array) else xp
        kind = np.dtype("f8")
        made = module.map_blocks(
            look, whole, whole[:1], drop_axis=drop, dtype=kind, meta=np.empty((0, 0), kind)
        )
        made.compute()
        found.append(sorted(seen, key=lambda entry: entry[0]))
    assert found[0] == found[1]


def test_chunks_of_no_elements_are_allowed() -> None:
    x = xp.from_array(values(10), chunks=3)
    made = x.map_blocks(lambda b: b[b > 1e9], chunks=((0, 0, 0, 0),), dtype="f8")
    assert made.compute().shape == (0,)
    some = x.map_blocks(
        lambda b, block_id=None: b[: block_id[0]], chunks=((0, 1, 2, 1),), dtype="f8"
    )
    expected = np.concatenate([values(10)[3 * i : 3 * i + i] for i in range(4)])
    np.testing.assert_array_equal((some + 1).compute(), expected + 1)


def test_an_array_among_the_keywords_is_given_as_a_whole() -> None:
    x, _ = pair()
    table = xp.from_array(values(5), chunks=2)
    made = x.map_blocks(lambda b, table=None: b + table.sum(), table=table + 1, dtype="f8")
    np.testing.assert_allclose(made.compute(), values(*SHAPE) + (values(5) + 1).sum())


def test_a_function_may_write_to_its_chunk() -> None:
    a = values(*SHAPE)
    x = xp.from_array(a, chunks=CHUNKS)

    def cleared(b: NDArray) -> NDArray:
        b[b < 0] = 0
        return b

    np.testing.assert_array_equal(x.map_blocks(cleared).compute(), np.maximum(a, 0))
    np.testing.assert_array_equal(a, values(*SHAPE))
    np.testing.assert_array_equal((x * 2).map_blocks(cleared).compute(), np.maximum(a * 2, 0))


def test_a_function_is_not_called_before_values_are_wanted() -> None:
    called: list[Any] = []

    def noted(*boxes: NDArray) -> NDArray:
        called.append(boxes)
        return boxes[0]

    x, _ = pair()
    x.map_blocks(noted, dtype="f8")
    x.map_blocks(noted, meta=np.empty(0))
    x.map_overlap(noted, depth=1, dtype="f8")
    xp.apply_gufunc(noted, "(i)->(i)", x, output_dtypes=float)
    xp.apply_gufunc(noted, "(i)->(i)", x, meta=np.empty(0), vectorize=True)
    big = xp.from_array(values(400, 300))
    xp.apply_along_axis(noted, 0, big, shape=(400,), dtype="f8")
    xp.vectorize(noted, otypes=[float])(big)
    assert not called


def test_what_differs_from_what_was_declared_is_refused() -> None:
    x, _ = pair()
    with pytest.raises(ValueError, match="gave shape"):
        x.map_blocks(lambda b: b[:1], dtype="f8").compute()
    with pytest.raises(TypeError, match="gave dtype float64 where int64 was declared"):
        x.map_blocks(lambda b: b, dtype="i8").compute()
    assert x.map_blocks(lambda b: b, dtype="f4").compute().dtype == np.float32


def test_a_dtype_that_is_not_found_is_asked_for() -> None:
    x, _ = pair()
    with pytest.raises(ValueError, match="dtype="):
        x.map_blocks(lambda b: b[:, 5])
    with pytest.raises(NotYetError, match="meta"):
        x.map_blocks(lambda b: b, meta=(1, 2))


def test_a_chunk_that_does_not_fit_is_refused_before_the_start() -> None:
    x = FakeStore((100 * MIB,), (50 * MIB,)).as_array()
    made = xp.map_blocks(np.cos, x, dtype="f8")
    with pytest.raises(MemoryBudgetError, match="rechunk"):
        plan_of(made, at=limits(256 * MIB))


# -- map_overlap --------------------------------------------------------------------------------


def spread(b: NDArray) -> NDArray:
    """Tell the shape of what a function saw, and mix neighbours."""
    out: NDArray = b + b.shape[0] * 100 + b.shape[-1]
    out[1:] += b[:-1]
    out[..., :-1] -= b[..., 1:]
    return out


BOUNDARIES: list[Any] = ["reflect", "periodic", "nearest", "none", None, 0, 1.5]
BOUNDARIES += [{0: "none", 1: "reflect"}, ("nearest", 7)]
DEPTHS = [0, 1, 2, (2, 0), {0: 2}, {1: 3}, 7, (0, 13)]


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
@pytest.mark.parametrize("depth", DEPTHS, ids=str)
def test_map_overlap_is_dask_s(depth: Any, boundary: Any) -> None:
    def make(m: Any, x: Any) -> Any:
        return m.map_overlap(spread, x, depth=depth, boundary=boundary, dtype="f8")

    same_for(make, pair())


MORE: list[Callable[[Any, Any], Any]] = [
    lambda m, x: x.map_overlap(spread, 1),
    lambda m, x: x.map_overlap(
        spread, 1, "reflect", False, dtype="f8", chunks=((8,) * 3 + (4,), (9,) * 4 + (4,))
    ),
    lambda m, x: m.map_overlap(spread, x, depth={0: (1, 2), 1: (0, 1)}, dtype="f8"),
    lambda m, x: m.map_overlap(
        lambda b: b[1:-1, 2:-2], x, depth=(1, 2), boundary="nearest", trim=False, dtype="f8"
    ),
    lambda m, x: m.map_overlap(
        lambda b: b.sum(0), x, depth={1: 1}, boundary="reflect", drop_axis=0, dtype="f8"
    ),
    lambda m, x: m.map_overlap(
        lambda b: b[None], x, depth=1, boundary="reflect", new_axis=0, dtype="f8"
    ),
    lambda m, x: m.map_overlap(lambda b, by: b * by, x, depth=1, boundary=0, by=3, dtype="f8"),
    lambda m, x: m.map_overlap(spread, x, depth=9, boundary=0, allow_rechunk=False),
    lambda m, x: m.map_overlap(spread, x, depth=31, boundary="reflect"),
    lambda m, x: m.map_overlap(
        lambda b, block_id=None: b + block_id[1], x, depth=2, boundary="nearest", dtype="f8"
    ),
    lambda m, x: m.map_overlap(spread, 3, depth=1),
    lambda m, x: m.map_overlap(3, x, depth=1),
]


@pytest.mark.parametrize("make", MORE)
def test_map_overlap_takes_dask_s_arguments(make: Callable[[Any, Any], Any]) -> None:
    same_for(make, pair())


def test_map_overlap_of_irregular_chunks() -> None:
    same_for(
        lambda m, x: m.map_overlap(spread, x, depth=2, boundary="reflect", dtype="f8"),
        pair((21, 12), ((1, 5, 1, 9, 4, 1), (2, 10))),
    )


@pytest.mark.parametrize(
    ("depth", "boundary"),
    [(1, "reflect"), ([1, 2], "none"), ({0: 1, 1: 2}, ["nearest", 0]), (0, None)],
    ids=str,
)
def test_map_overlap_of_several_arrays(depth: Any, boundary: Any) -> None:
    def make(m: Any, x: Any, y: Any) -> Any:
        wide = depth == [1, 2] or isinstance(boundary, list)
        return m.map_overlap(
            (lambda a, b: a + b.mean()) if wide else (lambda a, b: a + b),
            x,
            y,
            depth=depth,
            boundary=boundary,
            dtype="f8",
        )

    same_for(make, pair((20, 30), (6, 7)), pair((20, 30), (10, 30)))


def test_asymmetric_depths_go_with_any_boundary() -> None:
    a = values(30)
    x = xp.from_array(a, chunks=7)
    made = x.map_overlap(lambda b: b - np.roll(b, 2), depth={0: (2, 0)}, boundary="periodic")
    np.testing.assert_array_equal(made.compute(), a - np.roll(a, 2))


@pytest.mark.parametrize("boundary", ["none", "reflect"])
def test_chunks_that_neighbours_read_are_decoded_about_once(
    boundary: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = values(80, 80)
    xp.from_array(a).to_zarr(tmp_path / "x.zarr", chunks=(10, 10))
    decoded: list[Any] = []
    decode = ZarrStore._decode

    def counted(store: ZarrStore, cell: tuple[int, ...]) -> NDArray:
        decoded.append(cell)
        return decode(store, cell)

    monkeypatch.setattr(ZarrStore, "_decode", counted)
    x = xp.open(tmp_path / "x.zarr")
    made = x.map_overlap(spread, depth=2, boundary=boundary, dtype="f8")
    expected = da.from_array(a, chunks=10).map_overlap(
        spread, depth=2, boundary=boundary, dtype="f8"
    )
    agree(made, expected)
    assert len(decoded) <= 2 * 64


# -- gufuncs ------------------------------------------------------------------------------------


def stats(q: NDArray) -> tuple[NDArray, NDArray]:
    return q.mean(-1), q.std(-1)


GUFUNCS: list[Callable[[Any, Any], Any]] = [
    lambda m, x: m.apply_gufunc(stats, "(i)->(),()", x, output_dtypes=(float, float))[1],
    lambda m, x: m.apply_gufunc(stats, "(i)->(),()", x)[0],
    lambda m, x: m.apply_gufunc(lambda q: q.sum(-1), "(i)->()", x, axis=0),
    lambda m, x: m.apply_gufunc(lambda q: q.sum(-1), "(i)->()", x, axis=0, keepdims=True),
    lambda m, x: m.apply_gufunc(lambda q: q.sum((-1, -2)), "(i,j)->()", x, axes=[(1, 0)]),
    lambda m, x: m.apply_gufunc(np.cumsum, "(i)->(i)", x, axis=-1, vectorize=True),
    lambda m, x: m.apply_gufunc(
        lambda q, r: q[..., :, None] * r[..., None, :],
        "(i),(j)->(i,j)",
        x,
        x[3],
        output_dtypes=float,
    ),
    lambda m, x: m.apply_gufunc(
        lambda q: q[..., :2], "(i)->(k)", x, output_sizes={"k": 2}, output_dtypes=float
    ),
    lambda m, x: m.apply_gufunc(
        lambda q: q[..., :2],
        "(i)->(k)",
        x,
        axes=[(0,), (0,)],
        output_sizes={"k": 2},
        output_dtypes="f8",
    ),
    lambda m, x: m.as_gufunc("(i)->()", output_dtypes=float)(lambda q, by=1: q.max(-1) * by)(
        x, by=2
    ),
    lambda m, x: m.gufunc(lambda q: q.max(-1), signature="(i)->()", output_dtypes=float)(x),
    lambda m, x: m.apply_gufunc(stats, "(i)->(),()", x, x),
    lambda m, x: m.apply_gufunc(stats, "(i->()", x),
    lambda m, x: m.apply_gufunc(np.add, "(i),(i)->(i)", x, x[:, :4], output_dtypes=float),
    lambda m, x: m.apply_gufunc(np.add, "(i)->()", x, axis=0, axes=[(0,)], output_dtypes=float),
    lambda m, x: m.apply_gufunc(np.add, "(i)->(i)", x, keepdims=True, output_dtypes=float),
    lambda m, x: m.apply_gufunc(stats, "(i)->(),()", x, output_dtypes=[float]),
]


@pytest.mark.parametrize("make", GUFUNCS)
def test_apply_gufunc_is_dask_s(make: Callable[[Any, Any], Any]) -> None:
    x, d = pair()
    d = d.rechunk(-1)
    try:
        expected = make(da, d)
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error)):
            make(xp, x)
        return
    made = make(xp, x)
    assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(made.compute(), expected.compute(scheduler="sync"), rtol=1e-13)


# -- NumPy's own makers of functions ------------------------------------------------------------

NUMPY: list[Callable[[Any, Any], Any]] = [
    lambda m, x: m.apply_along_axis(np.sort, 0, x),
    lambda m, x: m.apply_along_axis(lambda lane: lane.sum(), 1, x),
    lambda m, x: m.apply_along_axis(lambda lane: np.outer(lane[:2], lane[:3]), 0, x),
    lambda m, x: m.apply_along_axis(lambda lane, by: lane[:3] * by, -1, x, 5),
    lambda m, x: m.apply_along_axis(lambda lane, by=1: int(lane[0] * by), -1, x, by=3),
    lambda m, x: m.apply_along_axis(np.sum, 0, x, dtype="f4"),
    lambda m, x: m.apply_along_axis(np.sum, 2, x),
    lambda m, x: m.apply_along_axis(np.sum, 0, x[:, :0]),
    lambda m, x: np.apply_along_axis(np.ptp, 0, x),
    lambda m, x: m.apply_over_axes(m.sum, x, [0, 1]),
    lambda m, x: m.vectorize(lambda p, q: p - q if p > q else p + q)(x, x[0]),
    lambda m, x: m.vectorize(lambda p: (p, p > 0))(x)[1],
    lambda m, x: m.vectorize(lambda p, q=2: p * q, otypes=[float])(x, q=3),
    lambda m, x: m.vectorize(lambda p, q: p * q[1], excluded=[1])(x, [3, 4]),
    lambda m, x: m.vectorize(lambda p: str(p)[:3])(x),
    lambda m, x: m.vectorize(np.convolve, signature="(n),(m)->(k)")(x, [1.0, 2.0]),
    lambda m, x: m.vectorize(lambda p, q: p @ q, signature="(n),(n)->()")(x, x + 1),
    lambda m, x: m.vectorize(lambda p: p, otypes=[object])(x)[0, 0],
    lambda m, x: m.vectorize(lambda p: p)(x[:0]),
    lambda m, x: m.frompyfunc(lambda p, q: p + q, 2, 1)(x, 1)[2],
    lambda m, x: m.frompyfunc(divmod, 2, 2)(x, 2)[0][:, 0].astype(float),
    lambda m, x: np.frompyfunc(lambda p: p + 1, 1, 1)(x)[0].astype(float),
]


@pytest.mark.parametrize("make", NUMPY)
def test_functions_of_scalars_and_lanes_are_numpy_s(make: Callable[[Any, Any], Any]) -> None:
    a = values(*SHAPE)
    try:
        expected = make(np, a)
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error)):
            make(xp, xp.from_array(a))
        return
    made = make(xp, xp.from_array(a))
    got = made.compute() if isinstance(made, xp.Array) else made
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    else:
        np.testing.assert_array_equal(got, expected)


# -- ufuncs of other libraries ------------------------------------------------------------------


@numba.vectorize(["f8(f8, f8)", "f4(f4, f4)"])  # type: ignore[untyped-decorator]
def above(p: Any, q: Any) -> Any:
    return p + q if p > q else q - p


@numba.vectorize  # type: ignore[untyped-decorator]
def lazily(p: Any, q: Any) -> Any:
    return p * q + 1


@numba.guvectorize(["void(f8[:], f8[:])"], "(n)->(n)")  # type: ignore[untyped-decorator]
def running(a: Any, out: Any) -> None:
    total = 0.0
    for i in range(a.size):
        total += a[i]
        out[i] = total


@numba.guvectorize(  # type: ignore[untyped-decorator]
    ["void(f8[:], f8[:], f8[:])"], "(n),(n)->()"
)
def dotted(a: Any, b: Any, out: Any) -> None:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    out[0] = total


FOREIGN: list[Callable[[Any], Any]] = [
    lambda x: above(x, 1.0) * 2,
    lambda x: above(x, x[0]),
    lambda x: above(x.astype("f4"), x.astype("f4")),
    lambda x: above(2.0, x),
    lambda x: lazily(x, 3),
    lambda x: lazily(x, x[:, :1]),
    lambda x: above.outer(x[0], x[1]),
    running,
    lambda x: running(x, axis=0),
    lambda x: running(x * 2)[3],
    lambda x: dotted(x, x + 1),
    lambda x: dotted(x, x[0]),
    lambda x: dotted(x, x, keepdims=True),
    lambda x: _umath_linalg.det(x[:4, :16].reshape(4, 4, 4)),
    lambda x: _umath_linalg.slogdet(x[:4, :16].reshape(4, 4, 4))[1],
    lambda x: _umath_linalg.inv(x[:4, :16].reshape(4, 4, 4)),
]


@pytest.mark.parametrize("make", FOREIGN)
def test_ufuncs_of_other_libraries_work_block_by_block(make: Callable[[Any], Any]) -> None:
    a = values(*SHAPE)
    expected = make(a)
    made = make(xp.from_array(a))
    assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(made.compute(), expected, rtol=1e-5 if made.dtype == "f4" else 1e-13)


def test_ufuncs_of_other_libraries_fill_out() -> None:
    a = values(*SHAPE)
    x = xp.from_array(a)
    out = xp.zeros(SHAPE)
    assert above(x, 1.0, out=out) is out
    np.testing.assert_array_equal(out.compute(), above(a, 1.0))


def test_elementwise_ufuncs_are_fused() -> None:
    x = FakeStore((1000, 1000), (100, 1000)).as_array()
    plan = plan_of(lazily(x * 2, 3).sum(), at=limits())
    assert len([step for step in plan.steps if "merge" not in step.name]) == 1


COMPILED: list[Callable[[], Any]] = [
    lambda: xp.vectorize(["float64(float64, float64)"])(lambda p, q: p * q + 1),
    lambda: xp.vectorize("float64(float64, float64)")(lambda p, q: p * q + 1),
    lambda: xp.vectorize([numba.float64(numba.float64, numba.float64)], nopython=True)(
        lambda p, q: p * q + 1
    ),
    lambda: xp.vectorize(nopython=True)(lambda p, q: p * q + 1),
]


@pytest.mark.parametrize("make", COMPILED)
def test_vectorize_in_numba_s_style(make: Callable[[], Any]) -> None:
    function = make()
    a = values(*SHAPE)
    x = xp.from_array(a)
    made = function(x, x[0]) + 1
    assert isinstance(made, xp.Array)
    np.testing.assert_allclose(made.compute(), a * a[0] + 2, rtol=1e-13)
    assert isinstance(function([1.0, 2.0], 3.0), xp.Array)


def test_guvectorize_in_numba_s_style() -> None:
    @xp.guvectorize(["void(float64[:], float64[:])"], "(n)->()")  # type: ignore[untyped-decorator]
    def widest(lane: Any, out: Any) -> None:
        out[0] = lane.max() - lane.min()

    a = values(*SHAPE)
    np.testing.assert_array_equal(widest(xp.from_array(a)).compute(), np.ptp(a, 1))
    np.testing.assert_array_equal(widest(xp.from_array(a) * 2, axis=0).compute(), np.ptp(a * 2, 0))
