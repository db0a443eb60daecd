"""Paths are opened by what they hold, and what holds nothing we read says so."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from chunkarr.errors import CorruptChunkError, FormatError
from chunkarr.grid import region_of
from chunkarr.storage.formats import new_zarr, open_store
from chunkarr.storage.npy import NpyStore
from chunkarr.storage.npz import DeflatedStore
from chunkarr.storage.zarr import ZarrStore

BOX = (slice(0, 3),)


def test_formats_are_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    values = np.arange(3)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "b.npz", x=values)
    zarr.create_array(tmp_path / "c", data=values)
    zarr.create_array(tmp_path / "d", data=values, zarr_format=2)
    expected = {"a.npy": NpyStore, "b.npz": DeflatedStore, "c": ZarrStore, "d": ZarrStore}
    for name, kind in expected.items():
        os.rename(tmp_path / name, tmp_path / "thing")
        store = open_store(tmp_path / "thing")
        assert isinstance(store, kind)
        assert store.read(BOX).tolist() == [0, 1, 2]
        os.rename(tmp_path / "thing", tmp_path / name)


def test_an_archive_of_several_arrays_names_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", height=np.arange(3), width=np.arange(4))
    with pytest.raises(FormatError, match="2 arrays, open one of them: height, width"):
        open_store(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz")
    with pytest.raises(FormatError, match="0 arrays"):
        open_store(tmp_path / "x.npz")


def test_modes_are_those_of_npy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    open_store(tmp_path / "x.npy", "r+").write(BOX, np.ones(3))
    assert np.load(tmp_path / "x.npy").tolist() == [1, 1, 1]
    np.savez(tmp_path / "x.npz", np.zeros(3))
    zarr.create_array(tmp_path / "x", data=np.zeros(3))
    for name in ("x.npz", "x"):
        with pytest.raises(ValueError, match="read only"):
            open_store(tmp_path / name, "r+")
    with pytest.raises(ValueError, match="mode"):
        open_store(tmp_path / "x.npy", "w")


def test_a_missing_path_is_what_python_calls_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "nowhere")


def test_other_things_say_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, world")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("text", "empty", "folder", "pipe"):
        with pytest.raises(FormatError, match=r"\.npy, \.npz and zarr"):
            open_store(tmp_path / name)


def test_new_zarr_gives_a_target(tmp_path: Path) -> None:
    target = new_zarr(tmp_path / "x", (3,), "f8", (2,), crc=False)
    target.create()
    target.write(BOX, np.ones(3))
    target.commit()
    assert open_store(tmp_path / "x").read(BOX).tolist() == [1, 1, 1]


@pytest.mark.faults
@pytest.mark.parametrize("name", ["a.npy", "b.npz", "c.npz"])
def test_whatever_bytes_are_damaged_the_error_is_ours(tmp_path: Path, name: str) -> None:
    """Or the damage passes, where nothing checks it; no parser may fail in its own way."""
    values = np.arange(30.0).reshape(5, 6)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", x=values)
    np.savez_compressed(tmp_path / "c.npz", x=values)
    whole = (tmp_path / name).read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 4])):
            data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256)])
        if chance.random() < 0.1:
            del data[chance.randrange(len(data)) :]
        (tmp_path / name).write_bytes(data)
        try:
            store = open_store(tmp_path / name)
            store.read(region_of(store.shape))
        except (FormatError, CorruptChunkError):
            refused += 1
        except ValueError as error:
            assert "Object arrays" in str(error)  # noqa: PT017 - other errors are expected too
    assert refused > 100


@pytest.mark.slow
def test_zarr_is_imported_when_a_zarr_array_is_met(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    script = f"""
import sys
from chunkarr.storage import formats, memory, npy, npz, raw, spill
formats.open_store({str(tmp_path / "x.npy")!r})
assert "zarr" not in sys.modules and "numcodecs" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
