"""What runs in kernels: chains, choices, transposes, reductions together, histograms, stencils.

Each work has bars of its own, against NumPy, numexpr or a loop written by hand, and is raced
against all peers that can say it. A second process has to run the chain without compiling anything.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from tests.bench import peers
from tests.bench.harness import (
    WORKERS,
    Claim,
    Contenders,
    against,
    dask_threads,
    installed,
    main,
    race,
)

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers
Function = Callable[..., Any]
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Work:
    """One row: arrays, what is done to them in NumPy's words, the bars, and what peers do."""

    name: str
    arrays: Callable[[int], list[Any]]
    shape: Callable[[bool], int]
    run: Function
    """Called with a module and its arrays; gives an array, or several."""
    bars: Mapping[str, float]
    """How many times a peer's speed is wanted."""
    by_hand: Function
    """Called with a pool and the arrays."""
    text: str = ""
    """The same for numexpr, nothing where it has no words for it..."""
    finish: Function = lambda value: value
    """...and what NumPy does with what it gives."""
    operands: Function = lambda *arrays: dict(zip("ab", arrays, strict=False))
    lazy: Function | None = None
    """The same for Blosc2's module and arrays."""


def _normal(*shape: int, dtype: str = "f8") -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def _pair(n: int) -> list[Any]:
    return [_normal(n), _normal(n) + 3]


def _chain(_: Any, a: Any, b: Any) -> Any:
    return ((a * 2 + b) / (b * b + 3) - 0.5 * a).mean()


def _waves(m: Any, a: Any, b: Any) -> Any:
    return (m.exp(-a * a) * m.sin(b)).sum()


def _roots(m: Any, a: Any, b: Any) -> Any:
    return m.sqrt(a * a + b * b) + m.tanh(a)


def _chosen(m: Any, a: Any, b: Any) -> Any:
    return m.where(a > b, a * b, a / b).max(axis=0)


def _stencil(_: Any, x: Any) -> Any:
    around = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
    return 0.25 * around - x[1:-1, 1:-1]


def _windows(x: Any) -> dict[str, Any]:
    return {
        "n": x[:-2, 1:-1], "s": x[2:, 1:-1], "w": x[1:-1, :-2], "e": x[1:-1, 2:], "x": x[1:-1, 1:-1]
    }  # fmt: skip


WORKS = (
    Work(
        "chain and mean",
        _pair,
        lambda quick: 300_000 if quick else 50_000_000,
        _chain,
        {"numpy": 3, "hand-written loop": 0.85},
        peers.chain_by_hand,
        "(a * 2 + b) / (b * b + 3) - 0.5 * a",
        np.mean,
        lazy=_chain,
    ),
    Work(
        "`sum(exp(-a*a)*sin(b))`",
        _pair,
        lambda quick: 300_000 if quick else 25_000_000,
        _waves,
        {"numpy": 6, "numexpr": 4},
        peers.waves_by_hand,
        "exp(-a * a) * sin(b)",
        np.sum,
        lazy=_waves,
    ),
    Work(
        "`sqrt(a*a+b*b)+tanh(a)`",
        _pair,
        lambda quick: 300_000 if quick else 25_000_000,
        _roots,
        {"numpy": 4},
        peers.roots_by_hand,
        "sqrt(a * a + b * b) + tanh(a)",
        lazy=lambda m, a, b: _roots(m, a, b).compute()[:],
    ),
    Work(
        "`where(a > b, a * b, a / b).max(axis=0)` float32",
        lambda n: [_normal(n, n, dtype="f4"), _normal(n, n, dtype="f4") + 9],
        lambda quick: 500 if quick else 10_000,
        _chosen,
        {"numpy": 5},
        peers.chosen_by_hand,
        "where(a > b, a * b, a / b)",
        lambda value: value.max(axis=0),
        lazy=_chosen,
    ),
    Work(
        "`x + x.T`",
        lambda n: [_normal(n, n)],
        lambda quick: 500 if quick else 7000,
        lambda m, x: x + x.T,
        {"numpy": 2},
        peers.both_ways_by_hand,
        "a + b",
        operands=lambda x: {"a": x, "b": x.T},
    ),
    Work(
        "mean, std, min, max, argmax together",
        lambda n: [_normal(n)],
        lambda quick: 300_000 if quick else 100_000_000,
        lambda m, x: (x.mean(), x.std(), x.min(), x.max(), x.argmax()),
        {"numpy": 5},
        peers.moments_by_hand,
    ),
    Work(
        "histogram of 100 bins",
        lambda n: [_normal(n)],
        lambda quick: 300_000 if quick else 30_000_000,
        lambda m, x: m.histogram(x, bins=peers.BINS, range=(peers.LOW, peers.HIGH))[0],
        {"numpy": 5},
        peers.counts_by_hand,
    ),
    Work(
        "5-point stencil by slices",
        lambda n: [_normal(n, n)],
        lambda quick: 500 if quick else 10_000,
        _stencil,
        {"numpy": 4},
        peers.five_points_by_hand,
        "0.25 * (n + s + w + e) - x",
        operands=_windows,
    ),
)


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

    made: dict[str, Callable[[], Any] | None] = {
        "numpy": lambda: work.run(np, *arrays),
        "chunkarr": ours,
    }
    for name in ("dask.array", "dask_array"):
        if installed(name):
            module = importlib.import_module(name)
            made[name] = functools.partial(_with_dask, module, work, arrays)
    made["hand-written loop"] = functools.partial(work.by_hand, pool, *arrays)
    if work.text:
        made["numexpr"] = peers.with_numexpr(work.text, work.finish, work.operands, arrays)
    if work.lazy is not None:
        made["blosc2"] = peers.with_blosc2(work.lazy, arrays)
    return {name: way for name, way in made.items() if way is not None}


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
            missed = [
                f"{bar:g}x {name}"
                for name, bar in work.bars.items()
                if name in found and found[name] < bar * found["chunkarr"]
            ]
            holds &= not missed
            others = [name for name in found if not name.startswith("chunkarr")]
            mark = f" **missed {', '.join(missed)}**" if missed else ""
            told.append(f"{work.name}: {against(found, *others)}{mark}")
            seconds |= {f"{work.name}: {name}": value for name, value in found.items()}
    compiles = second_process_compiles()
    told.append("a second process compiles" + (" again" if compiles else " nothing"))
    return Claim(
        work="what runs in kernels",
        bar="; ".join(
            f"{work.name}: " + ", ".join(f"{bar:g}x {name}" for name, bar in work.bars.items())
            for work in WORKS
        ),
        holds=holds and not compiles,
        measured="; ".join(told),
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
