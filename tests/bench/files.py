"""Sources and targets in files for benchmarks: the same chunks and codecs for everybody."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

CODEC = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=8)


def new_zarr(path: str, shape: tuple[int, int], side: int) -> Any:
    """Make an empty array, whose codec is chunkarr's default."""
    return zarr.create_array(
        path, shape=shape, chunks=(side, side), dtype="f8", compressors=CODEC, overwrite=True
    )


def write_source(path: str, shape: tuple[int, int], side: int) -> None:
    """Write random numbers of sixteen bits in float64, block by block."""
    array = new_zarr(path, shape, side)
    rng = np.random.default_rng(0)
    for i in range(0, shape[0], side):
        rows = min(side, shape[0] - i)
        array[i : i + rows] = rng.integers(0, 1 << 16, (rows, shape[1])) / (1 << 16)


@contextmanager
def folder_with_source(shape: tuple[int, int], side: int) -> Iterator[str]:
    """Give a folder with the source `x.zarr`, where CHUNKARR_SPILL_DIR or TMPDIR says."""
    place = os.environ.get("CHUNKARR_SPILL_DIR")
    with tempfile.TemporaryDirectory(dir=place, prefix="bench-") as folder:
        write_source(str(Path(folder) / "x.zarr"), shape, side)
        yield folder
