"""One element or a short slice of a stored array costs less than a millisecond."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from tests.bench.harness import Claim, main

xp: Any = chunkarr  # methods are attached when it runs, unseen by type checkers


def seconds_of(read: Callable[[int], Any], times: int) -> float:
    """Give the mean seconds of a read that is made at other places each time."""
    read(0)
    began = time.perf_counter()
    for turn in range(times):
        read(turn)
    return (time.perf_counter() - began) / times


def _element(x: Any, side: int, turn: int) -> None:
    float(x[turn % side, 7 * turn % side])


def _row(x: Any, side: int, turn: int) -> None:
    x[turn % side, 64:128].compute()


def measure(quick: bool) -> Claim:
    """Time reads of single elements and of slices of 64, from a file and from Zarr."""
    side, times = (200, 50) if quick else (2000, 2000)
    values = np.random.default_rng(0).random((side, side))
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), values)
        xp.array(values).to_zarr(Path(folder, "x.zarr"), chunks=(256, 256))
        for name in ("npy", "zarr"):
            x = xp.open(Path(folder, f"x.{name}"))
            one, some = functools.partial(_element, x, side), functools.partial(_row, x, side)
            seconds[f"{name} x[i, j]"] = seconds_of(one, times)
            seconds[f"{name} x[i, a:b]"] = seconds_of(some, times)
    worst = max(seconds.values())
    return Claim(
        work="one element, and a slice of 64, of a stored matrix; chunks of 512 KiB",
        bar="< 1 ms",
        holds=worst < 1e-3,
        measured=", ".join(f"{name}: {value * 1e6:.0f} us" for name, value in seconds.items()),
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
