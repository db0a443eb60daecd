"""Whole-array transposed copy Zarr to Zarr, 800 MB, limit 256 MiB: <= 2x unbounded dask's time."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from typing import Any

import chunkarr
from tests.bench.files import folder_with_source, new_zarr
from tests.bench.harness import (
    MIB,
    WORKERS,
    Claim,
    against,
    at_least,
    dask_threads,
    installed,
    main,
    race_processes,
    timed,
)

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

LIMIT = 256


def run(name: str, folder: str, side_all: str, side: str) -> None:
    """Do the work as one contender; called in a process of its own."""
    n, cut = int(side_all), int(side)
    source, out = os.path.join(folder, "x.zarr"), os.path.join(folder, f"{name}.zarr")
    # Everybody begins without an output: who replaces an old one at the end holds both meanwhile.
    shutil.rmtree(out, ignore_errors=True)
    if name == "chunkarr":
        xp.config(memory=f"{LIMIT}MiB", workers=WORKERS, spill_dir=folder)
        timed(lambda: xp.open(source).T.to_zarr(out, chunks=(cut, cut)))
        return
    da = importlib.import_module(name)
    with dask_threads():
        timed(lambda: da.store(da.from_zarr(source).T, new_zarr(out, (n, n), cut), lock=False))


def measure(quick: bool) -> Claim:
    """Race a transposed copy from disk to disk."""
    n, side = (2000, 500) if quick else (10_000, 1000)
    names = ["chunkarr", *(m for m in ("dask.array", "dask_array") if installed(m))]
    with folder_with_source((n, n), side) as folder:
        arguments = [folder, str(n), str(side)]
        seconds, peaks = race_processes(__spec__.name, names, arguments, 1 if quick else 3)
    within = peaks["chunkarr"] <= LIMIT * MIB
    return Claim(
        work=f"transposed copy Zarr to Zarr, {n * n * 8 / 1e6:.0f} MB, limit {LIMIT} MiB",
        bar="<= 2x unbounded dask's time, within the limit",
        holds=within and at_least(seconds, dask_array=0.5),
        measured=f"{against(seconds, 'dask.array', 'dask_array')}, "
        f"peak {peaks['chunkarr'] / MIB:.0f} MiB",
        seconds=seconds,
        peaks=peaks,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(*sys.argv[2:])
    else:
        main(measure)
