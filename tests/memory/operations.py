"""One class of operations on data far larger than the limit, in a process of its own.

`python -m tests.memory.operations NAME FOLDER LIMIT EXECUTOR` runs one on the sources that
`make FOLDER ROWS COLUMNS` has written.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from chunkarr.settings import parse_bytes
from tests.memory.families import FAMILIES
from tests.memory.results import written

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers


def values(rows: int, columns: int) -> Any:
    """Give numbers between -0.5 and 0.5 in no order, which compress a little."""
    i = xp.arange(rows * columns).reshape(rows, columns)
    return xp.floor(i * 0.6180339887498949 % 1 * 65536) / 65536 - 0.5


def make(folder: Path, rows: int, columns: int) -> None:
    """Write the sources: squares, and rows."""
    side = min(500, rows, columns)
    values(rows, columns).to_zarr(folder / "x.zarr", chunks=(side, side))
    values(rows, columns).to_zarr(folder / "rows.zarr", chunks=(max(1, rows // 100), columns))


def reduced(x: Any, out: Path) -> None:
    """Reduce along everything."""
    xp.compute(x.mean(0), x.std(1), x.var(), x.max(0), x.argmin(1), (x > 0).sum())


def in_place(x: Any, out: Path) -> None:
    """Assign to parts of a lazy copy, with slices and a mask."""
    y = x + 0
    y[::2] = 1
    y[:, 5:500] *= -1
    y[y > 0.4] = 0
    y += x[::-1]
    written(y, out)


def factorised(x: Any, out: Path) -> None:
    """Factorise a matrix twice the limit; beyond, time grows with the power of 1.5."""
    n = min(*x.shape, 7000)
    matrix = x[:n, :n] + xp.eye(n) * n
    written(xp.linalg.cholesky(matrix), out)


def selected(x: Any, out: Path) -> None:
    """Select, with and without asking for the length."""
    assert float(x[x > 0].mean()) > 0
    chosen = x[x > 0.25]
    assert 0 < len(chosen) < x.size
    xp.save(out / "out.npy", chosen * 2)


def spilled(x: Any, out: Path) -> None:
    """Hold what does not fit, and use it twice."""
    y = (x * 2 + 1).persist()
    y.sum(1).compute()
    written(y[::-1] - 1, out)


def picked(x: Any, out: Path) -> None:
    """Take rows at random places, with repeats, and a place of each row."""
    rows = np.random.default_rng(0).integers(0, x.shape[0], x.shape[0])
    written(x[rows], out)
    assert xp.take_along_axis(x, x.argmax(1)[:, None], 1).shape == (x.shape[0], 1)


def counted(x: Any, out: Path) -> None:
    """Count values: in bins, by number, and those that are different."""
    counts, _ = xp.histogram(x, bins=100, range=(-0.5, 0.5))
    assert int(counts.sum()) == x.size
    whole = ((x + 0.5) * 1000).astype("i8").reshape(-1)
    assert int(xp.bincount(whole).sum()) == x.size
    assert len(xp.unique(whole[: whole.size // 5])) == 1000


def drawn(x: Any, out: Path) -> None:
    """Draw numbers, and add them to others."""
    rng = xp.random.default_rng(1)
    written(x + rng.normal(size=x.shape), out)


def edges(x: Any) -> Any:
    """Give the Laplacian by slices."""
    return x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]


def halved(block: Any) -> Any:
    """Do something to a block."""
    return block / 2 - block.mean()


def smoothed(block: Any) -> Any:
    """Average a block's rows with the rows above and below, which it has."""
    return (np.roll(block, 1, 0) + block + np.roll(block, -1, 0)) / 3


OPERATIONS: dict[str, Callable[[Any, Path], None]] = {
    "elementwise": lambda x, out: written(xp.exp(-x * x) * 3 + x, out),
    "standardise": lambda x, out: written((x - x.mean(0)) / x.std(0), out),
    "standardise rows": lambda x, out: written(
        (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True), out
    ),
    "reductions": reduced,
    "cumsum down": lambda x, out: written(xp.cumsum(x, 0), out),
    "cumsum across": lambda x, out: written(xp.cumsum(x, 1), out),
    "transpose": lambda x, out: written(x.T, out),
    "x + x.T": lambda x, out: written((y := x[:, : x.shape[0]]) + y.T, out),
    "reshape": lambda x, out: written(x.reshape(x.shape[0] * 2, -1) + 1, out),
    "flatten": lambda x, out: written(x.reshape(-1), out),
    "join": lambda x, out: written(xp.concatenate([x, x[::-1]], axis=1)[:, 77:], out),
    "roll": lambda x, out: written(xp.roll(x, (17, 333), (0, 1)), out),
    "shifted": lambda x, out: written(x[1:, 1:] - x[:-1, :-1], out),
    "selection": selected,
    "in-place writes": in_place,
    "sort": lambda x, out: written(xp.sort(x.reshape(-1)), out),
    "sort rows": lambda x, out: written(xp.sort(x, 1), out),
    "product": lambda x, out: written(x @ x[:256].T, out),
    "layer": lambda x, out: written(xp.maximum(xp.exp(-x) @ x[:256].T + x[:, :256], 0), out),
    "sum of a product": lambda x, out: written((x @ (x[:256] + 1).T).sum(0), out),
    "gram": lambda x, out: written(x[:, :300].T @ x[:, :300], out),
    "cholesky": factorised,
    "save": lambda x, out: xp.save(out / "out.npy", x * 2),
    "save transposed": lambda x, out: xp.save(out / "out.npy", x.T),
    "save several": lambda x, out: xp.savez(out / "out.npz", a=x, b=x[::2] + 1),
    "persist": spilled,
    "rows to columns": lambda x, out: x.to_zarr(out / "out.zarr", chunks=(x.shape[0], 20)),
    "cumsum of all": lambda x, out: written(xp.cumsum(x), out),
    "differences": lambda x, out: written(xp.diff(x, axis=0), out),
    "stencil": lambda x, out: written(edges(x), out),
    "pad and tile": lambda x, out: written(xp.pad(xp.tile(x[:, ::2], (1, 2)), 3), out),
    "repeat": lambda x, out: written(xp.repeat(x[: x.shape[0] // 2], 2, axis=0), out),
    "pieces": lambda x, out: written(
        xp.concatenate([x[i : i + 40] for i in range(0, x.shape[0], 40)][::-1]), out
    ),
    "places": picked,
    "counts": counted,
    "order of rows": lambda x, out: written(xp.argsort(x, 1), out),
    "medians": lambda x, out: xp.compute(xp.median(x, 1), xp.quantile(x, 0.9, axis=0)),
    "random": drawn,
    "function of blocks": lambda x, out: written(xp.map_blocks(halved, x, dtype=x.dtype), out),
    "function of blocks, reduced": lambda x, out: written(
        xp.map_blocks(halved, x * 2, dtype=x.dtype).mean(0), out
    ),
    "function of neighbours": lambda x, out: written(
        xp.map_overlap(smoothed, x, depth=1, boundary="reflect", dtype=x.dtype), out
    ),
    "outer": lambda x, out: (x[:, 0][:, None] * x[:, 1][None]).sum().compute(),
    "transform": lambda x, out: written(abs(xp.fft.fft(x, axis=1)), out),
    "complex": lambda x, out: written((x + 1j * x).conj().imag, out),
    **FAMILIES,
}


def main(name: str, folder: str, limit: str, executor: str, source: str = "x.zarr") -> None:
    """Run one operation."""
    place = Path(folder)
    xp.config(memory=limit, workers=2, spill_dir=folder)
    with cluster(limit) if executor == "distributed" else nullcontext(executor) as chosen:
        xp.config(executor=chosen)
        OPERATIONS[name](xp.open(place / source), place)


@contextmanager
def cluster(limit: str) -> Iterator[Any]:
    """Give the client of two workers that know the limit; they may not come near it."""
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=parse_bytes("memory", limit) // 2,
        ) as made,
        distributed.Client(made, set_as_default=False) as client,
    ):
        met = set(client.scheduler_info(n_workers=-1)["workers"])
        yield client
        told = [text for logs in client.get_worker_logs().values() for _, text in logs]
        assert not [text for text in told if "Pausing" in text]
        workers = client.scheduler_info(n_workers=-1)["workers"]
        assert workers.keys() == met, "Dask has ended a worker and started another"
        assert not any(sum(w["metrics"]["spilled_bytes"].values()) for w in workers.values())


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(*sys.argv[1:])
