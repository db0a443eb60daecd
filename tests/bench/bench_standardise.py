"""`(x-x.mean(0))/x.std(0)` Zarr to Zarr, 1.6 GB, limit 512 MiB: >= 1.5x dask.array, within it."""

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

LIMIT = 512


def run(name: str, folder: str, rows: str, columns: str, side: str) -> None:
    """Do the work as one contender; called in a process of its own."""
    shape, cut = (int(rows), int(columns)), int(side)
    source, out = os.path.join(folder, "x.zarr"), os.path.join(folder, f"{name}.zarr")
    # Everybody begins without an output: who replaces an old one at the end holds both meanwhile.
    shutil.rmtree(out, ignore_errors=True)
    if name == "chunkarr":
        xp.config(memory=f"{LIMIT}MiB", workers=WORKERS, spill_dir=folder)

        def ours() -> None:
            x = xp.open(source)
            ((x - x.mean(0)) / x.std(0)).to_zarr(out, chunks=(cut, cut))

        timed(ours)
        return
    da = importlib.import_module(name)

    def theirs() -> None:
        x: Any = da.from_zarr(source)
        target = new_zarr(out, shape, cut)
        da.store((x - x.mean(0)) / x.std(0), target, lock=False)

    with dask_threads():
        timed(theirs)


def measure(quick: bool) -> Claim:
    """Race standardising from disk to disk."""
    shape, side = ((2000, 2000), 500) if quick else ((20_000, 10_000), 1000)
    names = ["chunkarr", *(n for n in ("dask.array", "dask_array") if installed(n))]
    with folder_with_source(shape, side) as folder:
        arguments = [folder, *map(str, shape), str(side)]
        seconds, peaks = race_processes(__spec__.name, names, arguments, 1 if quick else 3)
    within = peaks["chunkarr"] <= LIMIT * MIB
    return Claim(
        work=f"`(x-x.mean(0))/x.std(0)` Zarr to Zarr, {shape[0] * shape[1] * 8 / 1e9:.1f} GB, "
        f"limit {LIMIT} MiB",
        bar=">= 1.5x dask.array, within the limit",
        holds=within and at_least(seconds, dask_array=1.5),
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
