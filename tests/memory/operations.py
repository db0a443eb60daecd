"""One operation on data far larger than the limit, in a process of its own.

`python -m tests.memory.operations NAME FOLDER LIMIT EXECUTOR` runs one on the sources that
`make FOLDER ROWS COLUMNS` has written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chunkarr

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


def written(y: Any, out: Path) -> None:
    """Write to Zarr in square chunks."""
    side = tuple(min(500, n) for n in y.shape)
    y.to_zarr(out / "out.zarr", chunks=side if y.ndim > 1 else (250_000,))


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
    "gram": lambda x, out: written(x[:, :300].T @ x[:, :300], out),
    "cholesky": factorised,
    "save": lambda x, out: xp.save(out / "out.npy", x * 2),
    "save transposed": lambda x, out: xp.save(out / "out.npy", x.T),
    "persist": spilled,
}


def main(name: str, folder: str, limit: str, executor: str, source: str = "x.zarr") -> None:
    """Run one operation."""
    place = Path(folder)
    xp.config(memory=limit, executor=executor, workers=2, spill_dir=folder)
    OPERATIONS[name](xp.open(place / source), place)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(*sys.argv[1:])
