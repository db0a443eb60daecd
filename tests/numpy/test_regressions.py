"""What a hostile tester found once: each a sentence of behaviour that has to stay."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import corners, engine
from chunkarr.scheduler.budget import memory_in_use

xp: Any = chunkarr

STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "a stencil in place": lambda m, x: x.__setitem__(slice(1, -1), (x[:-2] + x[2:]) / 2),
    "a shifted sum in place": lambda m, x: x.__setitem__(slice(1, None), x[1:] + x[:-1]),
    "a shifted copy": lambda m, x: x.__setitem__(slice(1, None), x[:-1]),
    "every other element": lambda m, x: x.__setitem__(slice(None, None, 2), x[1::2] * 2),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_loop_of_in_place_steps_costs_as_its_length(name: str) -> None:
    theirs = np.arange(64.0)
    with chunkarr.config(eager_bytes=0):
        ours = xp.arange(64.0) + 0
        for _ in range(24):
            STEPS[name](xp, ours)
            STEPS[name](np, theirs)
        rows = len(engine.explain_rows(ours.to_expr()))
        np.testing.assert_allclose(ours.compute(), theirs)
    assert rows <= 3 * 24


def test_shifted_readers_of_a_value_share_it() -> None:
    theirs = np.random.default_rng(0).random((8, 9))
    with chunkarr.config(eager_bytes=0):
        ours = xp.asarray(theirs) * 1.0
        for _ in range(12):
            ours = xp.roll(ours, 1, 0) + xp.roll(ours, 1, 1) - ours
            theirs = np.roll(theirs, 1, 0) + np.roll(theirs, 1, 1) - theirs
        np.testing.assert_allclose(ours.compute(), theirs)


@pytest.mark.parametrize(("shape", "count"), [((8, 3), 12), ((8, 1), 0), ((8,), 3)])
def test_a_masked_assignment_checks_its_values(shape: tuple[int, ...], count: int) -> None:
    mask = np.array([1, 0, 1, 0, 0, 0, 0, 1], bool)[:8]
    with chunkarr.config(eager_bytes=0):
        x = xp.zeros(shape) + 0
        with pytest.raises(ValueError, match=r"broadcast|assign"):
            x[mask] = np.zeros(count + (len(shape) == 1))


def test_a_masked_assignment_keeps_numpys_range_checks() -> None:
    with chunkarr.config(eager_bytes=0):
        x = xp.zeros(8, dtype="u1") + xp.zeros(8, dtype="u1")
        with pytest.raises(OverflowError, match="out of bounds"):
            x[np.arange(8) > 3] = -1


@pytest.mark.parametrize("dtype", [">f8", ">i4"])
def test_values_in_foreign_byte_order_reduce(dtype: str) -> None:
    theirs = np.arange(1000).astype(dtype)
    with chunkarr.config(eager_bytes=0, chunk_bytes=640):
        ours = xp.array(theirs)
        assert int(ours.max()) == 999
        assert int(ours.argmin()) == 0
        assert ours.mean().dtype == theirs.mean().dtype


def test_an_empty_array_is_stored_and_read(tmp_path: Path) -> None:
    xp.zeros((0, 3)).to_zarr(tmp_path / "empty.zarr")
    assert xp.open(tmp_path / "empty.zarr").compute().shape == (0, 3)


def test_threads_that_write_disjoint_slices_lose_nothing() -> None:
    with chunkarr.config(eager_bytes=0):
        x = xp.arange(8000.0) + 1

        def write(part: int) -> None:
            for _ in range(20):
                x[part * 1000 : (part + 1) * 1000] = part

        threads = [threading.Thread(target=write, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(x.compute(), np.repeat(np.arange(8.0), 1000))


def test_few_places_of_a_huge_value_are_computed_alone() -> None:
    x = xp.arange(10**12) * 2 + 1
    np.testing.assert_array_equal(x[[5, -1, 7]].compute(), [11, 2 * 10**12 - 1, 15])


@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
@pytest.mark.parametrize("lengths", [(1, 1), (5, 5), (23, 3), (23, 11), (100, 17), (3, 23)])
@pytest.mark.parametrize("dtype", "fdiD?")
def test_convolutions_have_the_bits_of_numpy(
    dtype: str, lengths: tuple[int, int], chunk_bytes: int
) -> None:
    rng = np.random.default_rng(7)
    a, v = ((rng.normal(size=n) * 3).astype(dtype) for n in lengths)
    if dtype == "d" and len(a) > 5:
        a[3], v[0] = np.inf, 0  # what a kernel does not reach stays finite
    with chunkarr.config(eager_bytes=0, chunk_bytes=chunk_bytes), np.errstate(all="ignore"):
        for mode in ("full", "same", "valid"):
            for name in ("convolve", "correlate"):
                wanted = getattr(np, name)(a, v, mode)
                found = getattr(xp, name)(xp.array(a), xp.array(v), mode).compute()
                np.testing.assert_array_equal(found, wanted, strict=True)


def test_loops_over_elements_compute_an_array_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    execute = engine.execute

    def counting(*args: Any, **kwargs: Any) -> Any:
        runs.append(args)
        return execute(*args, **kwargs)

    monkeypatch.setattr(engine, "execute", counting)
    with chunkarr.config(eager_bytes=0, chunk_bytes=64):
        a, b = xp.arange(500.0), xp.zeros(500)
        for i in range(1, 500):
            b[i] = b[i - 1] + a[i]
        assert type(b[-1]) is np.float64
        assert b[-1] == 499 * 250
        assert len(runs) <= 4
        c = xp.arange(500.0)
        total: Any = 0
        for i in range(500):
            total += c[i]
        assert type(total) is np.float64
        assert total == 499 * 250
    assert len(runs) <= 6


def test_indices_that_name_very_much_of_little_are_taken_in_chunks(tmp_path: Path) -> None:
    labels = np.arange(400_000) % 20
    xp.save(tmp_path / "labels.npy", xp.array(labels))
    for given in (xp.array(labels), xp.load(tmp_path / "labels.npy", mmap_mode="r")):
        hot = xp.eye(20)[given]  # 64 MB
        assert hot.in_memory is None or hot.nbytes <= chunkarr.settings.settings().memory // 16
        np.testing.assert_array_equal(hot.sum(0).compute(), np.full(20, 20_000.0))
    limit = memory_in_use() + (96 << 20)
    times = 1 + limit // 16 // (
        20 * 8 * labels.size
    )  # more than what is taken at once, whatever is in use
    with chunkarr.config(memory=limit):
        hot = xp.eye(20)[xp.array(np.tile(labels, times))]
        assert hot.in_memory is None
        np.testing.assert_array_equal(hot.sum(0).compute(), np.full(20, 20_000.0 * times))


@pytest.mark.parametrize("parts", [1, 1 << 60], ids=["tables", "computed"])
def test_places_of_triangles_and_diagonals_are_numpy_s_however_they_are_made(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corners, "PARTS", parts)
    monkeypatch.setattr(corners, "TABLE_BYTES", 0)
    x = np.arange(21.0 * 30).reshape(21, 30)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("tril_indices", (21, 2, 30)),
        ("triu_indices", (21, -2)),
        ("triu_indices", (0,)),
        ("mask_indices", (21, np.triu, 3)),
        ("diag_indices", (21, 3)),
    ]
    for name, given in calls:
        made, expected = getattr(xp, name)(*given), getattr(np, name)(*given)
        assert [(p.shape, p.dtype) for p in made] == [(p.shape, p.dtype) for p in expected], name
        for part, right in zip(made, expected, strict=True):
            np.testing.assert_array_equal(part, right)
    y = xp.array(x)
    np.testing.assert_array_equal(y[xp.tril_indices_from(y, 1)], x[np.tril_indices_from(x, 1)])
    y[xp.triu_indices_from(y)] = 0
    np.testing.assert_array_equal(y, np.tril(x, -1))
    np.testing.assert_array_equal(y[:, :21][xp.diag_indices_from(y[:, :21])], np.zeros(21))
    for name in ("diag_indices_from", "tril_indices_from", "triu_indices_from"):
        for wrong in (y[0], y if name == "diag_indices_from" else y[None]):
            with pytest.raises(ValueError, match="input"):
                getattr(xp, name)(wrong)
