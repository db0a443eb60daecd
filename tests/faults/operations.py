"""Small computations of every kind that reads or writes files, with NumPy's answers."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from chunkarr.storage.store import NDArray
from tests.faults.checks import SECONDS_MAX, Place, check_typed, content, in_time

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

SHAPE = (36, 30)
CHUNKS = (12, 15)
OLD = np.arange(6.0)
"""What lies where the output is to go."""


@dataclass(frozen=True)
class Operation:
    """Writes `x.zarr` or `x.npy` from what lies in a folder."""

    name: str
    run: Callable[[Path, Path], object]
    """From the folder of inputs and the path of the output."""
    expected: Callable[[NDArray], NDArray]
    kind: str = "zarr"

    def path(self, out: Path) -> Path:
        return out / f"x.{self.kind}"


def values() -> NDArray:
    return np.random.default_rng(7).integers(-99, 99, SHAPE).astype(float)


def make_inputs(folder: Path) -> None:
    """Write the same array in all formats."""
    x = values()
    xp.from_array(x).to_zarr(folder / "a.zarr", chunks=CHUNKS)
    xp.from_array(x).to_zarr(folder / "sharded.zarr", chunks=(6, 5), shards=CHUNKS)
    xp.from_array(OLD).to_zarr(folder / "old.zarr")
    np.save(folder / "a.npy", x)
    np.savez(folder / "stored.npz", a=x)
    np.savez_compressed(folder / "deflated.npz", a=x)
    assert zipfile.is_zipfile(folder / "deflated.npz")


def source(folder: Path) -> Any:
    return xp.open(folder / "a.zarr")


def masked(folder: Path, out: Path) -> None:
    y = source(folder) + 0
    y[::2, 3:20] = 1
    y[y > 40] = 0
    y.to_zarr(out, chunks=CHUNKS)


def masked_plainly(x: NDArray) -> NDArray:
    y = x.copy()
    y[::2, 3:20] = 1
    y[y > 40] = 0
    return y


def persisted(folder: Path, out: Path) -> None:
    y = xp.cumsum(source(folder), 1).persist()
    (y[::-1] - 1).to_zarr(out, chunks=CHUNKS)


def product(folder: Path, out: Path) -> None:
    x = source(folder)[:20]
    (x[:, :12].T @ xp.cumsum(x, 0)).to_zarr(out, chunks=(6, 15))


def drawn(folder: Path, out: Path) -> None:
    noise = xp.random.default_rng(3).normal(size=SHAPE)
    xp.save(out, source(folder) + noise)


def archives(folder: Path, out: Path) -> None:
    stored, deflated = xp.load(folder / "stored.npz"), xp.load(folder / "deflated.npz")
    xp.save(out, stored["a"] + deflated["a"] + xp.load(folder / "a.npy"))


OPERATIONS = [
    Operation(
        "zarr to zarr",
        lambda folder, out: (source(folder) * 2 + 1).to_zarr(out, chunks=CHUNKS),
        lambda x: x * 2 + 1,
    ),
    Operation(
        "shards to shards",
        lambda folder, out: xp.abs(xp.open(folder / "sharded.zarr")).to_zarr(
            out, chunks=(6, 5), shards=CHUNKS
        ),
        np.abs,
    ),
    Operation(
        "npy", lambda folder, out: xp.save(out, source(folder).T * 2), lambda x: x.T * 2, "npy"
    ),
    Operation("archives", archives, lambda x: x * 3, "npy"),
    Operation(
        "two passes",
        lambda folder, out: ((x := source(folder)) - x.sum(0)).to_zarr(out, chunks=CHUNKS),
        lambda x: x - x.sum(0),
    ),
    Operation(
        "running sums",
        lambda folder, out: (xp.cumsum(source(folder), 0).T + 1).to_zarr(out, chunks=(10, 12)),
        lambda x: np.cumsum(x, 0).T + 1,
    ),
    Operation(
        "sort",
        lambda folder, out: xp.save(out, xp.sort(source(folder), None)),
        lambda x: np.sort(x, None),
        "npy",
    ),
    Operation(
        "other chunks",
        lambda folder, out: source(folder).to_zarr(out, chunks=(36, 2)),
        lambda x: x,
    ),
    Operation(
        "other shape",
        lambda folder, out: xp.save(out, (source(folder) + 1).reshape(30, 36)),
        lambda x: (x + 1).reshape(30, 36),
        "npy",
    ),
    Operation("product", product, lambda x: x[:20, :12].T @ np.cumsum(x[:20], 0)),
    Operation("masked write", masked, masked_plainly),
    Operation(
        "selection",
        lambda folder, out: xp.save(out, (x := source(folder))[x[:, 0] > 0] * 2),
        lambda x: x[x[:, 0] > 0] * 2,
        "npy",
    ),
    Operation(
        "gather",
        lambda folder, out: xp.save(out, source(folder)[np.arange(70) * 7 % 36]),
        lambda x: x[np.arange(70) * 7 % 36],
        "npy",
    ),
    Operation(
        "random numbers", drawn, lambda x: x + np.random.default_rng(3).normal(size=SHAPE), "npy"
    ),
    Operation("persist", persisted, lambda x: np.cumsum(x, 1)[::-1] - 1),
]


def lay_old(operation: Operation, place: Place) -> None:
    """Put an older output where a new one is to go."""
    path = operation.path(place.out)
    if path.is_dir():
        shutil.rmtree(path)
    if path.suffix == ".npy":
        np.save(path, OLD)
    else:
        shutil.copytree(place.folder / "in" / "old.zarr", path)


def run(operation: Operation, place: Place, seconds: float = SECONDS_MAX) -> None:
    """Run once, in so many seconds."""
    with in_time(seconds):
        operation.run(place.folder / "in", operation.path(place.out))


def replace_old(operation: Operation, place: Place) -> None:
    """Run once, over an older output."""
    lay_old(operation, place)
    run(operation, place)


def check_output(operation: Operation, place: Place, error: BaseException | None) -> None:
    """Check that the output is the new one, or the old one if there was an error."""
    found, expected = content(operation.path(place.out)), operation.expected(values())
    if error is None or found.shape != OLD.shape:
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        np.testing.assert_array_equal(found, OLD)


def check(operation: Operation, place: Place, error: BaseException | None) -> None:
    """Check all that must hold after a run."""
    place.check_nothing_left(cleaned=error is not None)
    if error is not None:
        check_typed(error, place.folder)
    check_output(operation, place, error)
