"""One plan, every executor: the same bits, and nothing left in the spill directory."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from distributed import Client, LocalCluster

import chunkarr
from tests.executors.work import CHUNK_BYTES, WORK, different, plain, results, sources

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
Reference = dict[str, NDArray]
EXECUTORS = [
    "threads",
    "processes",
    pytest.param("cluster", marks=pytest.mark.cluster),
]

# Sockets and event loops of distributed's own are not always closed in time.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], Any]]:
    return sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What one thread gives."""
    spill = tmp_path_factory.mktemp("spill")
    with settings_for("threads", 1, spill):
        return results(xp.from_array(plain()))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as made,  # type: ignore[no-untyped-call]
    ):
        yield made


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("client") if request.param == "cluster" else request.param


def settings_for(executor: Any, workers: int, spill: Path) -> Any:
    return xp.config(
        executor=executor,
        workers=workers,
        spill_dir=str(spill),
        chunk_bytes=CHUNK_BYTES,
        eager_bytes=0,
        memory="1GiB",
    )


def left_in(spill: Path) -> list[str]:
    """List what a run left in its spill directory; this process's own folder stays till its end."""
    return [
        name for _, _, names in os.walk(spill) for name in names if not name.startswith(".lock")
    ]


def test_the_reference_agrees_with_numpy(reference: Reference) -> None:
    x = plain()
    np.testing.assert_allclose(reference["product"], x.T @ x, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(reference["scan down"], np.cumsum(x, 0))
    np.testing.assert_array_equal(reference["sort of a line"], np.sort(x.reshape(-1)))
    np.testing.assert_array_equal(reference["join"], np.concatenate([x, x[::-1] * 2], axis=1))
    np.testing.assert_array_equal(reference["selection"], x[x > 0.5] * 2)
    np.testing.assert_allclose(reference["standardised"], (x - x.mean(0)) / x.std(0), rtol=1e-10)


@pytest.mark.parametrize("name", WORK)
def test_two_threads_give_the_bits_of_one(
    name: str, reference: Reference, opened: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    with settings_for("threads", 2, tmp_path):
        got = np.asarray(WORK[name](opened["memory"]()).compute())
    assert not different({name: got}, {name: reference[name]})
    assert not left_in(tmp_path)


@pytest.mark.parametrize("source", ["memory", "npy", "zarr"])
@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_every_executor_gives_the_same_bits(
    executor: Any,
    source: str,
    reference: Reference,
    opened: dict[str, Callable[[], Any]],
    tmp_path: Path,
) -> None:
    with settings_for("threads", 2, tmp_path):
        # Another cut of the source may be another order of additions: each has its own reference.
        expected = reference if source == "memory" else results(opened[source]())
    with settings_for(executor, 2, tmp_path):
        got = results(opened[source]())
    assert not different(got, expected)
    assert not left_in(tmp_path)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_every_executor_writes_files(
    executor: Any, opened: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    spill, out = tmp_path / "spill", tmp_path / "out"
    spill.mkdir()
    out.mkdir()
    x = plain()
    with settings_for(executor, 2, spill):
        for source, open_source in opened.items():
            lazy = open_source()
            (lazy * 2).to_zarr(out / f"{source}.zarr", chunks=(33, 44), shards=(66, 88))
            xp.save(out / f"{source}.npy", xp.cumsum(lazy, 0).T)
    for source in opened:
        np.testing.assert_array_equal(xp.open(out / f"{source}.zarr").compute(), x * 2)
        np.testing.assert_array_equal(np.load(out / f"{source}.npy"), np.cumsum(x, 0).T)
    assert not left_in(spill)
    assert len(os.listdir(out)) == 6


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_what_is_persisted_stays_readable(
    executor: Any, opened: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    x = plain()
    with settings_for(executor, 2, tmp_path):
        held = (opened["zarr"]() + 1).persist()
        np.testing.assert_allclose((held.T @ held).compute(), (x + 1).T @ (x + 1))
        np.testing.assert_allclose(held.mean(0).compute(), (x + 1).mean(0))
    np.testing.assert_array_equal(held.compute(), x + 1)
    del held
    gc.collect()
    assert not left_in(tmp_path)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_the_same_is_computed_for_each_who_wants_it(executor: Any, tmp_path: Path) -> None:
    with settings_for(executor, 2, tmp_path):
        x = xp.from_array(plain())
        held = x * 2
        held.persist()
        first, second, third, fourth = xp.compute(x.max(0), x.max(0), held, x * 2)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(third, fourth)
        first[...] = third[...] = 0
        assert (second == plain().max(0)).all()
        np.testing.assert_array_equal(held.compute(), fourth)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_an_error_comes_home_and_the_next_run_works(
    executor: Any, opened: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    with settings_for(executor, 2, tmp_path):
        x = opened["npy"]()
        with pytest.raises(np.linalg.LinAlgError):
            xp.linalg.cholesky(-(x.T @ x)).compute()
        np.testing.assert_allclose(x.sum(0).compute(), plain().sum(0))
    assert not left_in(tmp_path)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_memory_that_changes_hands_is_not_written_by_tasks(
    executor: Any, opened: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    before = plain()
    mine = before.copy()
    with settings_for(executor, 2, tmp_path):
        y = xp.from_array(mine)
        y += 1
        y[::2] *= 3
        np.testing.assert_array_equal(mine, before)
        expected = before + 1
        expected[::2] *= 3
        np.testing.assert_array_equal(y.compute(), expected)
    # A copy for workers goes with the array that it is a copy of.
    del y
    gc.collect()
    assert not left_in(tmp_path)
