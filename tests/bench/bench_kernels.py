"""What runs in kernels: chains, choices, transposes, reductions together, histograms, stencils.

Each work has a bar of its own against NumPy, the chain against a loop written by hand as well. A
second process has to run the chain without compiling anything.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

import chunkarr
from tests.bench.harness import WORKERS, Claim, Contenders, dask_threads, installed, main, race

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers
Function = Callable[..., Any]
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Work:
    """One row: arrays, what is done to them in NumPy's words, and the bar."""

    name: str
    arrays: Callable[[int], list[Any]]
    shape: Callable[[bool], int]
    run: Function
    """Called with a module and its arrays; gives an array, or several."""
    faster: float
    """How many times NumPy's speed is wanted."""


def _normal(*shape: int, dtype: str = "f8") -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def _chain(_: Any, x: Any, y: Any) -> Any:
    return ((x * 2 + y) / (y * y + 3) - 0.5 * x).mean()


def _stencil(_: Any, x: Any) -> Any:
    around = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
    return 0.25 * around - x[1:-1, 1:-1]


WORKS = (
    Work(
        "chain and mean",
        lambda n: [_normal(n), _normal(n) + 3],
        lambda quick: 300_000 if quick else 50_000_000,
        _chain,
        3,
    ),
    Work(
        "`where(a > b, a * b, a / b).max(axis=0)` float32",
        lambda n: [_normal(n, n, dtype="f4"), _normal(n, n, dtype="f4") + 9],
        lambda quick: 500 if quick else 10_000,
        lambda m, a, b: m.where(a > b, a * b, a / b).max(axis=0),
        5,
    ),
    Work(
        "`x + x.T`",
        lambda n: [_normal(n, n)],
        lambda quick: 500 if quick else 7000,
        lambda m, x: x + x.T,
        2,
    ),
    Work(
        "mean, std, min, max, argmax together",
        lambda n: [_normal(n)],
        lambda quick: 300_000 if quick else 100_000_000,
        lambda m, x: (x.mean(), x.std(), x.min(), x.max(), x.argmax()),
        5,
    ),
    Work(
        "histogram of 100 bins",
        lambda n: [_normal(n)],
        lambda quick: 300_000 if quick else 30_000_000,
        lambda m, x: m.histogram(x, bins=100, range=(-6, 6))[0],
        5,
    ),
    Work(
        "5-point stencil by slices",
        lambda n: [_normal(n, n)],
        lambda quick: 500 if quick else 10_000,
        _stencil,
        4,
    ),
)


@numba.njit(nogil=True, fastmath={"reassoc"})  # type: ignore[untyped-decorator]
def _loop(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(x.size):
        total += (x[i] * 2 + y[i]) / (y[i] * y[i] + 3) - 0.5 * x[i]
    return total


def _by_hand(x: Any, y: Any, pool: ThreadPoolExecutor) -> float:
    half = -(-x.size // WORKERS)
    spans = [slice(i * half, (i + 1) * half) for i in range(WORKERS)]
    return float(sum(pool.map(lambda s: _loop(x[s], y[s]), spans)) / x.size)


def _computed(results: Any) -> Any:
    return xp.compute(*results) if isinstance(results, tuple) else results.compute()


def _with_dask(module: Any, work: Work, arrays: list[Any]) -> Any:
    found = work.run(module, *(module.from_array(x, chunks="64MiB") for x in arrays))
    many = found if isinstance(found, tuple) else (found,)
    got = importlib.import_module("dask").compute(*many)
    return got if isinstance(found, tuple) else got[0]


def contenders(work: Work, arrays: list[Any], pool: ThreadPoolExecutor) -> Contenders:
    """Give everybody's way to do a work."""

    def ours() -> Any:
        return _computed(work.run(xp, *map(xp.from_array, arrays)))

    made: dict[str, Callable[[], Any]] = {"numpy": lambda: work.run(np, *arrays), "chunkarr": ours}
    for name in ("dask.array", "dask_array"):
        if installed(name):
            module = importlib.import_module(name)
            made[name] = functools.partial(_with_dask, module, work, arrays)
    if work.run is _chain:
        made["hand-written loop"] = functools.partial(_by_hand, arrays[0], arrays[1], pool)
        if installed("numexpr"):
            numexpr: Any = importlib.import_module("numexpr")
            text, (x, y) = "(x * 2 + y) / (y * y + 3) - 0.5 * x", arrays
            made["numexpr"] = lambda: numexpr.evaluate(text, {"x": x, "y": y}).mean()
        if installed("blosc2"):
            blosc2: Any = importlib.import_module("blosc2")
            packed = [blosc2.asarray(x) for x in arrays]
            made["blosc2"] = lambda: _chain(None, *packed)
    return made


SECOND = """
import numpy as np, sys
import chunkarr
from chunkarr.kernels import tier
x = chunkarr.from_array(np.arange(20_000_000.0))
for _ in range(3):
    total = float(((x * 2 + 1) / (x * x + 3)).sum())
print(tier.kernels_ready(), "numba" in sys.modules)
"""


def second_process_compiles() -> bool:
    """Whether a second process with the same expression loads the compiler."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o700)
        environment = os.environ | {"CHUNKARR_CACHE_DIR": directory, "CHUNKARR_KERNELS": "compiled"}
        said = ""
        for _ in range(2):
            said = subprocess.run(
                [sys.executable, "-c", SECOND],
                env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
    return not said.startswith("1 False")


def measure(quick: bool) -> Claim:
    """Race all works, one after the other."""
    seconds: dict[str, float] = {}
    told, holds = [], True
    with (
        dask_threads(),
        ThreadPoolExecutor(WORKERS) as pool,
        xp.config(workers=WORKERS, executor="threads"),
    ):
        for work in WORKS:
            found = race(contenders(work, work.arrays(work.shape(quick)), pool), rtol=1e-4)
            times = found["numpy"] / found["chunkarr"]
            holds &= times >= work.faster
            told.append(f"{work.name} {times:.1f}x (>= {work.faster:g}x)")
            if "hand-written loop" in found:
                share = found["hand-written loop"] / found["chunkarr"]
                holds &= share >= 0.85
                told.append(f"{share:.2f} of the loop (>= 0.85)")
            seconds |= {f"{work.name}: {name}": value for name, value in found.items()}
    compiles = second_process_compiles()
    told.append("a second process compiles" + (" again" if compiles else " nothing"))
    return Claim(
        work="what runs in kernels",
        bar="each as told, against NumPy",
        holds=holds and not compiles,
        measured=", ".join(told),
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
