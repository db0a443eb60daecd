"""Expressions that touch every kind of work, and the sources they read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import chunkarr
from chunkarr.arrays import wrap
from chunkarr.functions.lanes import lanes

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]
SHAPE = (260, 190)
CHUNKS = (70, 40)
CHUNK_BYTES = 40_000
"""About ten chunks per array, and arrays too large to travel by value."""


def plain() -> NDArray:
    """Give the values of the main source."""
    return np.random.default_rng(5).normal(size=SHAPE)


def solved(x: Any) -> Any:
    """Solve a stack of systems: a call with two operands, on whole matrices."""
    a = xp.reshape(x[:, :100], (260, 10, 10)).to_expr()
    b = x[:, 100:110].to_expr()
    (made,) = lanes(solve, [a, b], [2, 1], [(10,)], [a.dtype], name="solve")
    return wrap(made)


def solve(a: NDArray, b: NDArray) -> NDArray:
    """Solve systems of one right side each."""
    return np.linalg.solve(a, b[..., None])[..., 0]


def assigned(x: Any) -> Any:
    """Give a copy with assignments on it."""
    y = x + 0
    y[10:200:3] = -1
    y[:, 5] = y[:, 6] * 2
    y[y > 1] = 1
    return y


@xp.vectorize(["f8(f8, f8)"])  # type: ignore[untyped-decorator]
def nearer(p: Any, q: Any) -> Any:
    return p / q if abs(p) < abs(q) else q / p


WORK: dict[str, Callable[[Any], Any]] = {
    "map": lambda x: xp.exp(-x * x) * 3 + xp.sin(x),
    "map of many outputs": lambda x: xp.modf(x)[1] + xp.frexp(x)[0],
    "where, clip, casts": lambda x: xp.clip(xp.where(x > 0, x, -x), 0.1, 1).astype("f4"),
    "view": lambda x: x.T[::-1, 3::2],
    "broadcast": lambda x: x - x[0] + x[:, :1],
    "sums": lambda x: x.sum() + x.sum(0) + x.mean(1)[:190],
    "standardised": lambda x: (x - x.mean(0)) / x.std(0),
    "extrema and their places": lambda x: x.max(1) - x.argmin(1) + xp.ptp(x),
    "logic": lambda x: (x > 0).any(0) ^ (x < 3).all(0),
    "counts and products": lambda x: xp.count_nonzero(x > 1, axis=0) * (1 + x / 99).prod(0),
    "float32 sums": lambda x: x.astype("f4").sum(0),
    "scan down": lambda x: xp.cumsum(x, 0),
    "scan across": lambda x: xp.cumprod(1 + x / 100, axis=1),
    "reshape": lambda x: (x * 2).reshape(190, 260) + 1,
    "flat reduction": lambda x: x.reshape(-1, 26).var(1),
    "join": lambda x: xp.concatenate([x, x[::-1] * 2], axis=1),
    "roll": lambda x: xp.roll(x, (17, -33), (0, 1)),
    "assignments": assigned,
    "selection": lambda x: x[x > 0.5] * 2,
    "rows selected": lambda x: x[x[:, 0] > 0].sum(0),
    "selection reduced": lambda x: x[x > 0.5].mean(),
    "product": lambda x: x.T @ x,
    "what is made of a product": lambda x: (
        xp.maximum(xp.exp(-x.T) @ (x * 2) + 1, 0) / (x.T @ x).max(0)
    ),
    "functions compiled by the user": lambda x: nearer(x, x[::-1]).sum(0) + nearer(x[0], 0.5),
    "product with a vector": lambda x: x @ x[0],
    "sort of a line": lambda x: xp.sort(x.reshape(-1)),
    "sort along an axis": lambda x: xp.sort(x, 0),
    "cholesky": lambda x: xp.linalg.cholesky(x.T @ x),
    "generated": lambda x: xp.arange(50_000.0)[::-1] * 2 + xp.linspace(0, 1, 50_000),
    "eye": lambda x: (xp.eye(190) + x[:190]).sum(0),
    "diagonal": lambda x: xp.diagonal(x * 2).cumsum(),
    "stacks of matrices": solved,
    "a function of chunks": lambda x: xp.map_blocks(
        lambda b: b - b.mean(), x.rechunk((70, 45)), dtype="f8"
    ),
    "what is made of a function of chunks": lambda x: (
        xp.map_blocks(lambda b: b - b.mean(), x.rechunk((70, 45)), dtype="f8").std(0) + x.mean(0)
    ),
    "a function of neighbours": lambda x: xp.map_overlap(
        lambda b: b - np.roll(b, 1, 0), x.rechunk((70, 45)), depth=2, boundary="reflect", dtype="f8"
    ),
    "complex": lambda x: abs((x + 1j * x[::-1]) ** 2).sum(1),
    "dates": lambda x: (x * 1000).astype("m8[s]").max(0),
}


def sources(folder: Path) -> dict[str, Callable[[], Any]]:
    """Store the main source in every way, and say how to open each."""
    values = plain()
    np.save(folder / "x.npy", values)
    xp.from_array(values).to_zarr(folder / "x.zarr", chunks=CHUNKS)
    return {
        "memory": lambda: xp.from_array(values),
        "npy": lambda: xp.load(folder / "x.npy"),
        "zarr": lambda: xp.open(folder / "x.zarr"),
    }


def results(x: Any) -> dict[str, NDArray]:
    """Compute everything."""
    return {name: np.asarray(make(x).compute()) for name, make in WORK.items()}


def different(got: dict[str, NDArray], expected: dict[str, NDArray]) -> list[str]:
    """Name the results whose bits, dtypes or shapes differ."""
    return [
        name
        for name, value in expected.items()
        if (got[name].dtype, got[name].shape) != (value.dtype, value.shape)
        or got[name].tobytes() != value.tobytes()
    ]
