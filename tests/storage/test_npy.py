"""`.npy` files and bare values, read through maps and written box by box."""

from __future__ import annotations

import os
import pickle
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chunkarr.errors import FormatError, OutputError
from chunkarr.grid import Grid, region_of
from chunkarr.storage import npy
from chunkarr.storage.npy import NpyStore, NpyTarget, make_header
from chunkarr.storage.raw import RawStore, RawTarget
from chunkarr.storage.store import NDArray, Store
from tests.storage.contract import (
    DTYPES,
    SHAPES,
    OutputContract,
    ReadOnlyContract,
    assert_same,
    file_size_limit,
    make_values,
)


class TestNpyStore(ReadOnlyContract):
    """`.npy` files that NumPy wrote keep the contract."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        np.save(folder, values)
        return NpyStore(f"{folder}.npy")


class TestNpyStoreFortran(ReadOnlyContract):
    """So do files in Fortran order."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        np.save(folder, np.array(values, order="F"))
        return NpyStore(f"{folder}.npy")


class TestRawStore(ReadOnlyContract):
    """So do bare values at an offset."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        folder.write_bytes(b"header" + values.tobytes())
        return RawStore(folder, values.dtype, "r", 6, values.shape)


class TestNpyTarget(OutputContract):
    """New `.npy` files keep the contract."""

    name = "out.npy"

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        folder.mkdir(exist_ok=True)
        return NpyTarget(folder / self.name, grid.shape, dtype, grid=grid)

    def written(self, folder: Path, store: Store) -> Store:
        return NpyStore(folder / self.name)


class TestRawTarget(OutputContract):
    """New files without a header do as well."""

    name = "out"

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        folder.mkdir(exist_ok=True)
        return RawTarget(folder / self.name, grid.shape, dtype, grid=grid)

    def written(self, folder: Path, store: Store) -> Store:
        return RawStore(folder / self.name, store.dtype, "r", shape=store.shape)


class TestNpyTargetFortran(TestNpyTarget):
    """So do new files in Fortran order."""

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        folder.mkdir(exist_ok=True)
        return NpyTarget(folder / self.name, grid.shape, dtype, "F", grid)


class TestNpyTargetMapped(TestNpyTarget):
    """So do files whose boxes have runs too short for system calls."""

    @pytest.fixture(autouse=True)
    def _always_map(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(npy, "RUN_BYTES_MIN", 33)

    # Storing to a map makes no system call that could be made to fail.
    test_a_disk_that_fills_up_while_writing = None  # type: ignore[assignment]


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
@pytest.mark.parametrize("dtype", [*DTYPES, [("ψ", "f4")], "V0"], ids=str)
def test_the_file_is_the_one_that_numpy_writes(tmp_path: Path, dtype: Any) -> None:
    for shape in SHAPES:
        values = make_values(shape, dtype)
        target = NpyTarget(tmp_path / "ours.npy", shape, dtype)
        target.create()
        target.write(region_of(shape), values)
        target.commit()
        np.save(tmp_path / "theirs.npy", values)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
        assert_same(NpyStore(tmp_path / "ours.npy").read(region_of(shape)), values)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_long_header_is_written_in_version_2(tmp_path: Path) -> None:
    kind = np.dtype([(f"field{i:05}", "f4") for i in range(4000)])
    assert make_header((3,), kind, "C")[6:8] == b"\x02\x00"
    np.save(tmp_path / "x.npy", np.zeros(3, kind))
    with pytest.raises(FormatError, match="length"):
        NpyStore(tmp_path / "x.npy")


def test_opening_reads_no_data(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with open(path, "wb") as file:
        file.write(make_header((1 << 40,), np.dtype("f8"), "C"))
        file.truncate(file.tell() + (8 << 40))
    store = NpyStore(path)
    assert store.read((slice(1 << 39, (1 << 39) + 3),)).tolist() == [0, 0, 0]


def test_the_file_keeps_the_mode_of_the_old_one_or_that_of_the_umask(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    mode = (tmp_path / "new").stat().st_mode
    path = tmp_path / "x.npy"
    for expected in (mode, 0o100640):
        target = NpyTarget(path, (3,), "f8")
        target.create()
        target.write((slice(0, 3),), np.zeros(3))
        target.commit()
        assert path.stat().st_mode == (expected if expected == 0o100640 else mode)
        path.chmod(0o640)


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real" / "x.npy", tmp_path / "link.npy")
    target = NpyTarget(tmp_path / "link.npy", (3,), "f8")
    target.create()
    target.write((slice(0, 3),), np.ones(3))
    target.commit()
    assert os.listdir(tmp_path / "real") == ["x.npy"]
    assert np.load(tmp_path / "link.npy").tolist() == [1, 1, 1]


def test_a_directory_in_the_way_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="directory"):
        NpyTarget(tmp_path, (3,), "f8").create()


def test_a_large_box_in_the_wrong_order_is_copied_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npy, "PIECE_BYTES", 1000)
    values = make_values((70, 90)).T
    target = NpyTarget(tmp_path / "x.npy", (90, 70), "f8")
    target.create()
    target.write(region_of((90, 70)), values)
    target.commit()
    assert_same(np.load(tmp_path / "x.npy"), values)


def hostile(header: str, version: tuple[int, int] = (1, 0), data: bytes = b"") -> bytes:
    text = header.encode()
    width = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(width, len(text)) + text + data


def header(descr: str = "'<f8'", shape: str = "(3,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


HOSTILE = {
    "short file": hostile(header(), data=b"x" * 23),
    "huge shape": hostile(header(shape="(10**12,)".replace("10**12", str(10**12)))),
    "no bytes": hostile(header("'|V0'", f"({10**12},)")),
    "overflow": hostile(header(shape=f"({2**40}, {2**40})")),
    "overflow beside 0": hostile(header(shape=f"(0, {2**62}, {2**62})")),
    "beyond int64": hostile(header(shape=f"({2**70},)")),
    "negative": hostile(header(shape="(-1,)")),
    "too many axes": hostile(header(shape="(1," * 1 + "1," * 70 + ")"), data=b"x" * 8),
    "shape of floats": hostile(header(shape="(3.0,)"), data=b"x" * 24),
    "code": hostile(header(shape="(__import__('os').getpid(),)")),
    "order": hostile(header(order="3"), data=b"x" * 24),
    "dtype": hostile(header("'nonsense'"), data=b"x" * 24),
    "subarray": hostile(header("'(2,)f8'"), data=b"x" * 99),
    "no dictionary": hostile("[1, 2]\n"),
    "missing keys": hostile("{'descr': '<f8'}\n"),
    "deep": hostile("(" * 5000 + ")" * 4999 + "\n"),
    "unclosed": hostile("{" * 300),
    "version": hostile(header(), (9, 0), b"x" * 24),
    "long header": hostile(header() + " " * 20_000, data=b"x" * 24),
    "header beyond the file": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{",
    "cut in the magic": b"\x93NUM",
    "cut in the length": b"\x93NUMPY\x01\x00\x00",
    "not UTF-8": b"\x93NUMPY\x03\x00" + struct.pack("<I", 4) + b"\xff\xfe\xfd\n",
    "empty": b"",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_lying_header_is_an_error(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(FormatError):
        NpyStore(path)


def test_pickles_are_refused_as_numpy_does(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        NpyStore(tmp_path / "x.npy")


def test_r_plus_writes_through_and_c_does_not(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 3)))
    private = NpyStore(tmp_path / "x.npy", "c")
    private.write((slice(0, 2), slice(0, 3)), np.ones(3))
    private.read((slice(2, 3), slice(0, 3)))[...] = 2
    assert private.read(region_of((4, 3))).sum() == 12
    assert np.load(tmp_path / "x.npy").sum() == 0
    shared = NpyStore(tmp_path / "x.npy", "r+")
    shared.create()
    shared.write((slice(0, 2), slice(0, 3)), np.ones(3))
    shared.commit()
    assert np.load(tmp_path / "x.npy").sum() == 6
    assert private.read(region_of((4, 3))).sum() == 12
    with pytest.raises(TypeError, match="'c'"):
        private.__getstate__()
    with pytest.raises(ValueError, match="mode"):
        NpyStore(tmp_path / "x.npy", "w")


@pytest.mark.parametrize("mode", ["r", "r+", "c", "w+"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_raw_files_are_those_of_memmap(tmp_path: Path, mode: Any, order: Any) -> None:
    values = make_values((7, 5), "i4")
    for name in ("ours", "theirs"):
        (tmp_path / name).write_bytes(b"abc" + values.tobytes())
    theirs = np.memmap(tmp_path / "theirs", "i4", mode, 3, (7, 5), order)
    ours = RawStore(tmp_path / "ours", "i4", mode, 3, (7, 5), order)
    assert_same(ours.read(region_of((7, 5))), np.asarray(theirs))
    if mode != "r":
        theirs[2:4] = ours.read((slice(2, 4), slice(0, 5)))[...] = 9
        theirs.flush()
        ours.flush()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_raw_shape_comes_from_the_file_as_in_memmap(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(26))
    assert RawStore(path, "f8", "r", 2).shape == (3,)
    assert RawStore(path, "u1", "r").shape == (26,)
    assert RawStore(path, "u1", "r", shape=5).shape == (5,)
    with pytest.raises(ValueError, match="multiple"):
        RawStore(path, "f8", "r")
    with pytest.raises(ValueError, match="shape must be given"):
        RawStore(path, "f8", "w+")
    with pytest.raises(FormatError, match="cut short"):
        RawStore(path, "f8", "r", shape=(4,))
    with pytest.raises(ValueError, match="mode"):
        RawStore(path, "f8", "w")
    with pytest.raises(FileNotFoundError):
        RawStore(tmp_path / "nowhere", "f8", "r+", shape=(3,))
    RawStore(path, "f8", "r+", shape=(4,)).write((slice(0, 4),), np.ones(4))
    assert np.fromfile(path).tolist() == [1] * 4


@pytest.mark.faults
def test_a_new_raw_file_on_a_full_disk_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    with file_size_limit(1 << 16), pytest.raises(OutputError, match="large"):
        RawStore(tmp_path / "x", "f8", "w+", shape=(100_000,))
    assert os.listdir(tmp_path) == []
    (tmp_path / "x").write_bytes(bytes(16))
    with file_size_limit(1 << 16), pytest.raises(OutputError, match="large"):
        RawStore(tmp_path / "x", "f8", "r+", shape=(100_000,))
    assert (tmp_path / "x").read_bytes() == bytes(16)


def test_holes_of_a_sparse_file_are_filled_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with open(path, "wb") as file:
        file.truncate(1 << 20)
    assert path.stat().st_blocks == 0
    RawStore(path, "u1", "r")
    assert path.stat().st_blocks == 0
    RawStore(path, "u1", "r+")
    assert path.stat().st_blocks * 512 >= 1 << 20


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_cut_short_after_it_was_opened_is_an_error_and_not_a_signal(
    mode: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.arange(9000.0))
    store = NpyStore(tmp_path / "x.npy", mode)
    store.read((slice(0, 9000),))
    os.truncate(tmp_path / "x.npy", 4096)
    for access in (store.read, partial(store.write, values=np.ones(1000))):
        with pytest.raises((FormatError, ValueError), match=r"cut short|read-only"):
            access((slice(8000, 9000),))
    with pytest.raises(FormatError, match="cut short"):
        pickle.loads(pickle.dumps(store)).read((slice(0, 1),))
