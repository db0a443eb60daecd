"""The demo's lines on NumPy, where results are known, and the whole of it on a small Earth."""

from __future__ import annotations

import importlib.util
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import demo
from chunkarr.scheduler.budget import memory_in_use


def test_coast_is_land_with_ocean_beside_it_and_the_map_closes_at_the_date_line() -> None:
    land = np.array(
        [
            [1, 1, 1, 0, 1, 1],
            [1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1, 1],
        ],
        dtype=bool,
    )
    coast = np.array(
        [
            [0, 0, 1, 0, 1, 0],
            [0, 0, 0, 1, 0, 1],
            [1, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 1],
        ],
        dtype=bool,
    )
    np.testing.assert_array_equal(demo.coastline(np, ~land), coast)


def test_areas_of_all_rows_make_a_sphere() -> None:
    areas = demo.row_areas(np, 90 - np.arange(720) / 4, 720)
    assert areas.sum() == pytest.approx(2.0)
    assert (areas > 0).all()


def test_a_band_s_share_is_weighted_with_area() -> None:
    land = np.array([[1, 1], [0, 0], [1, 0], [1, 0]], dtype=bool)
    areas = np.array([1.0, 3.0, 2.0, 2.0])
    np.testing.assert_allclose(demo.land_by_band(np, land, areas, 2), [0.25, 0.5])


def test_blocks_are_cut_along_both_axes() -> None:
    cells = np.arange(24).reshape(4, 6)
    np.testing.assert_array_equal(demo.blocks(cells, 2, 2)[1, :, 0, :], cells[2:, :3])


def test_bands_are_named_from_north_to_south() -> None:
    lines = demo.band_table(np.array([0.5, 0.25, 0.0, 1.0])).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "90N to 45N",
        "45N to 0",
        "0 to 45S",
        "45S to 90S",
    ]
    assert lines[1].endswith("50.0%  ####################")


def read_png(path: Path) -> np.ndarray[Any, Any]:
    """Read what `write_png` writes, as a picture viewer would."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        parts[kind] = body
        at += 12 + length
    width, height = struct.unpack_from(">II", parts[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 1).all()
    return np.cumsum(rows[:, 1:].reshape(height, width, 3), axis=1, dtype=np.uint8)


def test_a_picture_reads_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    demo.write_png(str(tmp_path / "a.png"), pixels)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        demo.write_png(str(tmp_path / "a.png"), np.zeros((1, 1, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_colours_go_from_ocean_to_land() -> None:
    share, rough = np.array([[0.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 0.5]])
    ocean, land, coast = demo.paint(share, rough)[0]
    assert tuple(ocean) == demo.OCEAN
    assert tuple(land) == demo.LAND
    assert int(coast.sum()) < int(land.sum())


def test_a_missing_package_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(demo.DemoError, match=r'pip install "chunkarr\[demo\]"'):
        demo.find_archive()


def small_earth(path: Path) -> np.ndarray[Any, Any]:
    """Write a mask of 2 x 2 cells per quarter of a degree, laid out as the package's."""
    rows, columns = 2 * demo.MAP_ROWS, 2 * demo.MAP_COLUMNS
    y, x = np.ogrid[:rows, :columns]
    ocean = np.sin(x / 90) + np.cos(y / 70) + np.sin(x * y / 9000) < 0.4
    latitude, longitude = 90 - np.arange(rows) / 8, np.arange(columns) / 8 - 180
    np.savez_compressed(path, mask=ocean, lat=latitude, lon=longitude)
    return ocean


def test_the_demo_on_a_small_earth_agrees_with_numpy(tmp_path: Path) -> None:
    ocean = small_earth(tmp_path / "earth.npz")
    lines: list[str] = []
    with chunkarr.config(chunk_bytes="4MiB", eager_bytes="256KiB"):
        limit = str(memory_in_use() + (1 << 30))
        found = demo.run(str(tmp_path / "out"), limit, str(tmp_path / "earth.npz"), lines.append)
    shape = demo.MAP_ROWS, demo.MAP_COLUMNS
    coast = demo.coastline(np, ocean)
    np.testing.assert_allclose(found.fraction, demo.blocks(~ocean, *shape).mean(axis=(1, 3)))
    np.testing.assert_allclose(found.deviation, demo.blocks(coast, *shape).std(axis=(1, 3)))
    assert found.coast_cells == coast.sum()
    areas = demo.row_areas(np, 90 - np.arange(ocean.shape[0]) / 8, ocean.shape[0])
    expected = demo.land_by_band(np, ~ocean, areas, demo.BANDS)
    np.testing.assert_allclose(found.bands, expected)
    assert found.bytes_read > 0
    assert "all agree" in "\n".join(lines)
    assert lines[-1].startswith("read ")
    assert read_png(tmp_path / "out" / "land-fraction.png").shape == (*shape, 3)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "land-fraction.png",
        "land-fraction.zarr",
    }


def test_a_result_that_numpy_does_not_confirm_is_an_error(tmp_path: Path) -> None:
    small_earth(tmp_path / "earth.npz")
    wrong = np.full((demo.MAP_ROWS, demo.MAP_COLUMNS), 0.5)
    result = demo.Result(wrong, 0.5, 1, wrong, wrong, 0, 0, 0.0)
    with pytest.raises(demo.DemoError, match="differs from NumPy's"):
        demo._check(str(tmp_path / "earth.npz"), result)
