"""`((a-b)**2*2+1).mean()`, 2 x 400 MB float64 in memory: >= 4x NumPy, >= 4x dask.array."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

import chunkarr
from tests.bench.harness import (
    WORKERS,
    Claim,
    against,
    at_least,
    dask_threads,
    installed,
    main,
    race,
)

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers


@numba.njit(nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _loop(a: Any, b: Any) -> float:
    total = 0.0
    for i in range(a.size):
        d = a[i] - b[i]
        total += d * d * 2.0 + 1.0
    return total


def contenders(a: Any, b: Any, pool: ThreadPoolExecutor) -> dict[str, Callable[[], Any]]:
    """Give everybody's way to do it."""
    half = a.size // WORKERS
    parts = [(a[i * half : (i + 1) * half], b[i * half : (i + 1) * half]) for i in range(WORKERS)]
    made: dict[str, Callable[[], Any]] = {
        "numpy": lambda: ((a - b) ** 2 * 2 + 1).mean(),  # noqa: PLW0108 - the difference is work
        "chunkarr": lambda: float(((xp.from_array(a) - xp.from_array(b)) ** 2 * 2 + 1).mean()),
        "hand-written loop": lambda: sum(pool.map(lambda p: _loop(*p), parts)) / a.size,
    }
    if installed("numexpr"):
        numexpr = importlib.import_module("numexpr")
        numexpr.set_num_threads(WORKERS)
        # Its own sum runs on one thread only; the mean of what it computes is NumPy's.
        made["numexpr"] = lambda: numexpr.evaluate("(a-b)**2*2+1", {"a": a, "b": b}).mean()
    for module in ("dask.array", "dask_array"):
        if installed(module):
            da = importlib.import_module(module)
            x, y = da.from_array(a, chunks="64MiB"), da.from_array(b, chunks="64MiB")
            made[module] = ((x - y) ** 2 * 2 + 1).mean().compute
    return made


def measure(quick: bool) -> Claim:
    """Race the fused expression in memory."""
    n = 500_000 if quick else 50_000_000
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    with (
        dask_threads(),
        ThreadPoolExecutor(WORKERS) as pool,
        xp.config(workers=WORKERS, executor="threads"),
    ):
        seconds = race(contenders(a, b, pool))
    return Claim(
        work=f"`((a-b)**2*2+1).mean()`, 2 x {a.nbytes / 1e6:.0f} MB float64 in memory",
        bar=">= 4x NumPy, >= 4x dask.array",
        holds=at_least(seconds, numpy=4, dask_array=4),
        measured=against(
            seconds, "numpy", "dask.array", "dask_array", "numexpr", "hand-written loop"
        ),
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
