"""The main job on real data: the Earth's land mask, 933 MB, within a limit of 256 MiB.

The mask is the GLOBE elevation model's, cells of 1/120 degree, in the package `global-land-mask`,
where it lies deflated in an archive of 2 MB. NumPy needs about 2 GB for what is done here. The
functions below take the namespace to work with, `np` in the widest sense: chunkarr runs them on the
whole mask, NumPy runs the same lines on a part of it, and the two must agree.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import chunkarr
from chunkarr.display import Tally, format_seconds, format_table, listening
from chunkarr.errors import ChunkarrError, format_bytes
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.settings import settings

PACKAGE = "global_land_mask"
ARCHIVE = "globe_combined_mask_compressed.npz"
INSTALL = 'python -m pip install "chunkarr[demo]"'
MEMORY = "256MiB"
BANDS = 12
"""Bands of latitude, 15 degrees each."""
MAP_ROWS, MAP_COLUMNS = 720, 1440
"""Cells of the map, a quarter of a degree each."""
CHECKED_ROWS = slice(160, 164)
"""The rows of the map that NumPy computes again: 49 to 50 degrees north."""

OCEAN, LAND, COAST = (18, 52, 86), (222, 205, 160), (88, 60, 30)


class DemoError(ChunkarrError):
    """The demo cannot run, or its results are not what NumPy computes."""

    code = "CA6001"


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo found, and what it took."""

    bands: Any
    """Land fraction of each band of latitude, from north to south."""
    total: float
    coast_cells: int
    fraction: Any
    deviation: Any
    bytes_read: int
    bytes_peak: int
    seconds: float


def find_archive() -> str:
    """Find the mask without importing its package, which would load all of it."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = os.path.join(folder, ARCHIVE)
        if os.path.exists(path):
            return path
    msg = f"the demo needs the package global-land-mask:\n  {INSTALL}"
    raise DemoError(msg)


def row_areas(xp: Any, latitude: Any, rows: int) -> Any:
    """Give the area of a cell in each row; `latitude` is that of the rows' northern edge."""
    return xp.sin(xp.radians(latitude)) - xp.sin(xp.radians(latitude - 180 / rows))


def land_by_band(xp: Any, land: Any, areas: Any, bands: int) -> Any:
    """Give the share of land in bands of rows, each cell weighted with its area."""
    weighted = (land.mean(axis=1) * areas).reshape(bands, -1).sum(axis=1)
    return xp.divide(weighted, areas.reshape(bands, -1).sum(axis=1))


def blocks(cells: Any, rows: int, columns: int) -> Any:
    """Cut a plane into `rows` x `columns` blocks: axes 1 and 3 run within a block."""
    return cells.reshape(rows, cells.shape[0] // rows, columns, cells.shape[1] // columns)


def coastline(xp: Any, ocean: Any) -> Any:
    """Mark the cells of land that have ocean to the north, south, east or west."""
    coast = xp.zeros(ocean.shape, dtype=bool)
    coast[1:] |= ocean[:-1]
    coast[:-1] |= ocean[1:]
    coast |= xp.roll(ocean, 1, axis=1)  # the map closes at the date line
    coast |= xp.roll(ocean, -1, axis=1)
    coast &= ~ocean
    return coast


def run(
    out: str = ".",
    memory: str = MEMORY,
    archive: str | None = None,
    echo: Callable[[str], None] = print,
) -> Result:
    """Run the demo: print what is found, and write a Zarr store and a picture into `out`."""
    path = archive or find_archive()
    folder = os.path.abspath(out)
    os.makedirs(folder, exist_ok=True)
    tally = Tally()
    began = time.perf_counter()
    with chunkarr.config(memory=memory), listening(tally):
        result = _compute(path, os.path.join(folder, "land-fraction.zarr"), tally, began, echo)
        limit = settings().memory
    picture = os.path.join(folder, "land-fraction.png")
    write_png(picture, paint(result.fraction, result.deviation))
    checked = _check(path, result)
    echo(f"\n{checked} values computed again with plain NumPy: all agree")
    echo(f"picture: {picture}")
    speed = result.bytes_read / max(result.seconds, 1e-9) / 1e6
    echo(
        f"read {format_bytes(result.bytes_read)} in {format_seconds(result.seconds)} "
        f"({speed:,.0f} MB/s), peak memory {format_bytes(result.bytes_peak)} "
        f"of the limit of {format_bytes(limit)}"
    )
    return result


def _compute(
    path: str, target: str, tally: Tally, began: float, echo: Callable[[str], None]
) -> Result:
    arrays = chunkarr.load(path)
    ocean, latitude = arrays["mask"], arrays["lat"]
    rows, columns = ocean.shape
    size = format_bytes(ocean.nbytes)
    echo(f"land mask of the Earth: {rows} x {columns} cells, {size}, from {path}")
    land = ~ocean
    areas = row_areas(chunkarr, latitude, rows)
    bands = land_by_band(chunkarr, land, areas, BANDS)
    total = land_by_band(chunkarr, land, areas, 1)
    bands, total = chunkarr.compute(bands, total)
    echo(f"\nland by latitude, weighted with area\n{band_table(bands)}")
    echo(f"all of the Earth: {float(total[0]):.2%} land")

    fraction = blocks(land, MAP_ROWS, MAP_COLUMNS).mean(axis=(1, 3))
    fraction.to_zarr(target)
    echo(f"\nland fraction, {MAP_ROWS} x {MAP_COLUMNS} cells of 0.25 degree: {target}")

    coast = coastline(chunkarr, ocean)
    deviation = blocks(coast, MAP_ROWS, MAP_COLUMNS).std(axis=(1, 3))
    count, deviation = chunkarr.compute(coast.sum(), deviation)
    echo(f"coastline: {int(count):,} cells of land next to ocean")
    return Result(
        bands=np.asarray(bands),
        total=float(total[0]),
        coast_cells=int(count),
        fraction=np.asarray(chunkarr.open(target)),
        deviation=np.asarray(deviation),
        bytes_read=tally.bytes_read,
        bytes_peak=max(tally.bytes_peak, memory_in_use()),
        seconds=time.perf_counter() - began,
    )


def band_table(bands: Any) -> str:
    """Lay out the land fraction of each band with a bar."""
    degrees = 180 // len(bands)
    lines = [["latitude", "land", ""]]
    for number, share in enumerate(bands):
        north = 90 - number * degrees
        name = f"{_degrees(north)} to {_degrees(north - degrees)}"
        lines.append([name, f"{share:.1%}", "#" * round(40 * float(share))])
    return format_table(lines, left=(0, 2))


def _degrees(latitude: int) -> str:
    return f"{abs(latitude)}{'N' if latitude > 0 else 'S' if latitude < 0 else ''}"


def _check(path: str, result: Result) -> int:
    """Compute a part of both maps with NumPy alone; give the number of values compared."""
    ocean = _numpy_rows(path, CHECKED_ROWS)
    rows = CHECKED_ROWS.stop - CHECKED_ROWS.start
    inner = slice(1, rows - 1)  # the outermost rows have neighbours that were not read
    expected = (
        blocks(~ocean, rows, MAP_COLUMNS).mean(axis=(1, 3)),
        blocks(coastline(np, ocean), rows, MAP_COLUMNS).std(axis=(1, 3)),
    )
    found = (result.fraction[CHECKED_ROWS], result.deviation[CHECKED_ROWS])
    for name, mine, theirs in zip(("mean", "deviation"), found, expected, strict=True):
        if not np.allclose(mine[inner], theirs[inner], rtol=1e-12, atol=1e-15):
            worst = np.abs(mine[inner] - theirs[inner]).max()
            msg = f"the {name} differs from NumPy's by up to {worst}; please report this"
            raise DemoError(msg)
    return 2 * (rows - 2) * MAP_COLUMNS


def _numpy_rows(path: str, rows: slice) -> Any:
    """Read the cells below some rows of the map, without chunkarr: inflate and skip."""
    with zipfile.ZipFile(path) as archive, archive.open("mask.npy") as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
        cells = shape[0] // MAP_ROWS
        left = rows.start * cells * shape[1]
        while left:
            left -= len(member.read(min(left, 1 << 20)))
        count = (rows.stop - rows.start) * cells
        data = member.read(count * shape[1])
        return np.frombuffer(data, dtype).reshape(count, shape[1])


def paint(fraction: Any, deviation: Any) -> Any:
    """Colour the map: from ocean to land by the share of land, darker where the coast is rough."""
    share = np.asarray(fraction)[..., None]
    rough = np.clip(np.asarray(deviation) * 2, 0, 1)[..., None]
    ground = np.array(OCEAN) * (1 - share) + np.array(LAND) * share
    colour = ground * (1 - 0.7 * rough) + np.array(COAST) * 0.7 * rough
    return np.rint(colour).astype(np.uint8)


def write_png(path: str, pixels: Any) -> None:
    """Write an RGB picture of shape (height, width, 3), whole or not at all."""
    height, width, _ = pixels.shape

    def part(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    # Each row is told to begin from its left neighbour, which makes smooth maps small.
    sub = pixels.copy()
    sub[:, 1:] -= pixels[:, :-1]
    filtered = np.ones((height, 1 + 3 * width), np.uint8)
    filtered[:, 1:] = sub.reshape(height, 3 * width)
    data = b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            part(b"IDAT", zlib.compress(filtered.tobytes(), 9)),
            part(b"IEND", b""),
        )
    )
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, scratch = tempfile.mkstemp(dir=folder, prefix=".chunkarr-", suffix=".png")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
