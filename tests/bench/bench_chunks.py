"""`(X + 1).sum()` over 40,000 chunks of 10 KB: <= 5 us per chunk (dask: 500)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import chunkarr
from tests.bench.harness import WORKERS, Claim, dask_threads, installed, main, race

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

CHUNK_BYTES = 10_000


def contenders(x: Any, chunks: int) -> dict[str, Callable[[], Any]]:
    """Give everybody's way to do it, in the same chunks."""
    cut = x.size // chunks
    made: dict[str, Callable[[], Any]] = {
        "numpy": lambda: (x + 1).sum(),  # noqa: PLW0108 - the sum is work
        "chunkarr": lambda: float((xp.from_array(x) + 1).sum()),
        "numpy in chunks": lambda: sum((x[i : i + cut] + 1).sum() for i in range(0, x.size, cut)),
    }
    return made


def measure(quick: bool) -> Claim:
    """Count what a chunk costs."""
    chunks = 2000 if quick else 40_000
    few = 200 if quick else 2000
    x = np.random.default_rng(0).normal(size=chunks * CHUNK_BYTES // 8)
    settings = {"workers": WORKERS, "executor": "threads", "chunk_bytes": CHUNK_BYTES}
    with dask_threads(), xp.config(**settings):
        seconds = race(contenders(x, chunks))
        each = seconds["chunkarr"] / chunks * 1e6
        text = f"{each:.1f} us per chunk"
        for module in ("dask.array", "dask_array"):
            if installed(module):
                # A part of the chunks tells the cost of each; all would take half a minute.
                da = importlib.import_module(module)
                y = da.from_array(x[: x.size // chunks * few], chunks=x.size // chunks)
                began = time.perf_counter()
                (y + 1).sum().compute()
                cost = (time.perf_counter() - began) / few
                text += f", {module} {cost * 1e6:.0f}"
    return Claim(
        work=f"`(X + 1).sum()` over {chunks:,} chunks of {CHUNK_BYTES // 1000} KB",
        bar="<= 5 us per chunk",
        holds=each <= 5,
        measured=text,
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
