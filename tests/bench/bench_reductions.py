"""`x.mean(0), x.std(1), x.var()` together, 800 MB float64 in memory: >= 3x NumPy, one scan."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

import chunkarr
from chunkarr.plan.plan import Limits, Target
from chunkarr.plan.planner import make_plan
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
def _loop(x: Any, columns: Any, sums: Any, squares: Any) -> None:
    # Shifted by 0.0, which does for values around zero: a lower bound of the work there is.
    for i in range(x.shape[0]):
        total = square = 0.0
        for j in range(x.shape[1]):
            v = x[i, j]
            columns[j] += v
            total += v
            square += v * v
        sums[i], squares[i] = total, square


def _by_hand(x: Any, pool: ThreadPoolExecutor) -> tuple[Any, Any, Any]:
    n, m = x.shape
    half = -(-n // WORKERS)
    sums, squares = np.empty(n), np.empty(n)
    columns = np.zeros((WORKERS, m))
    spans = [slice(i * half, (i + 1) * half) for i in range(WORKERS)]
    list(
        pool.map(
            lambda i: _loop(x[spans[i]], columns[i], sums[spans[i]], squares[spans[i]]),
            range(WORKERS),
        )
    )
    mean = sums / m
    var = squares.sum() / x.size - (sums.sum() / x.size) ** 2
    return columns.sum(0) / n, np.sqrt(squares / m - mean**2), var


def _with_dask(module: Any, x: Any) -> Any:
    y = module.from_array(x, chunks="64MiB")
    return importlib.import_module("dask").compute(y.mean(0), y.std(1), y.var())


def contenders(x: Any, pool: ThreadPoolExecutor) -> dict[str, Callable[[], Any]]:
    """Give everybody's way to do it."""

    def ours() -> Any:
        y = xp.from_array(x)
        return xp.compute(y.mean(0), y.std(1), y.var())

    made: dict[str, Callable[[], Any]] = {
        "numpy": lambda: (x.mean(0), x.std(1), x.var()),
        "chunkarr": ours,
        "hand-written loop": lambda: _by_hand(x, pool),
    }
    for module in ("dask.array", "dask_array"):
        if installed(module):
            made[module] = functools.partial(_with_dask, importlib.import_module(module), x)
    return made


def _scans(x: Any) -> int:
    """Count the steps of the plan that read at least as much as the source."""
    y = xp.from_array(x)
    targets = [Target(a.to_expr()) for a in (y.mean(0), y.std(1), y.var())]
    plan = make_plan(targets, [], Limits(1 << 30, 1 << 30, 4 << 20, WORKERS))
    return sum(step.bytes_read >= x.nbytes for step in plan.steps)


def measure(quick: bool) -> Claim:
    """Race three reductions of one array."""
    n = 1000 if quick else 10_000
    x = np.random.default_rng(0).normal(size=(n, n))
    with (
        dask_threads(),
        ThreadPoolExecutor(WORKERS) as pool,
        xp.config(workers=WORKERS, executor="threads"),
    ):
        seconds = race(contenders(x, pool), rtol=1e-6)
        scans = _scans(x)
    return Claim(
        work=f"`x.mean(0), x.std(1), x.var()` together, {x.nbytes / 1e6:.0f} MB float64 in memory",
        bar=">= 3x NumPy, one scan",
        holds=scans == 1 and at_least(seconds, numpy=3),
        measured=against(seconds, "numpy", "dask.array", "dask_array", "hand-written loop")
        + (", one scan" if scans == 1 else f", {scans} scans"),
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
