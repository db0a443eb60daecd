"""Zarr arrays: those of zarr-python read, ours read by zarr-python, damage found."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from numcodecs import Delta
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec

from chunkarr.errors import CorruptChunkError, FormatError, OutputError
from chunkarr.grid import Grid, region_of
from chunkarr.storage import claims, zarr_target
from chunkarr.storage.chunkcache import chunk_cache
from chunkarr.storage.store import NDArray, Store
from chunkarr.storage.zarr import ZarrStore, ZarrTarget
from tests.storage.contract import (
    OutputContract,
    ReadOnlyContract,
    assert_same,
    boxes,
    make_values,
)

# Types that the specification does not list yet are read and written all the same.
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")


@pytest.fixture(autouse=True)
def _cache_off() -> Iterator[None]:
    yield
    chunk_cache.resize(0)


@pytest.fixture(autouse=True)
def _do_not_wait_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def save(path: Path, values: NDArray, **options: Any) -> Path:
    """Have zarr-python write an array."""
    chunks = options.pop("chunks", (3,) * values.ndim)
    made = zarr.create_array(
        path, shape=values.shape, dtype=values.dtype, chunks=chunks, overwrite=True, **options
    )
    made[...] = values
    return path


class TestVersion3(ReadOnlyContract):
    """Arrays of version 3 keep the contract."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        if values.dtype.names:
            # zarr-python 3.1 stores big-endian fields as they are and forgets that they are.
            values = values.astype(values.dtype.newbyteorder("<"))
        return ZarrStore(save(folder, values))


class TestVersion2(ReadOnlyContract):
    """So do those of version 2."""

    def stored(self, folder: Path, values: NDArray) -> Store:
        return ZarrStore(save(folder, values, zarr_format=2, order="F"))


class TestCached(TestVersion3):
    """So do they behind a cache of chunks."""

    @pytest.fixture(autouse=True)
    def _cache_on(self) -> None:
        chunk_cache.resize(1 << 20)


class TestTarget(OutputContract):
    """New arrays keep the contract."""

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        folder.mkdir(exist_ok=True)
        return ZarrTarget(folder / self.name, grid.shape, dtype, grid.chunk_shape)

    def written(self, folder: Path, store: Store) -> Store:
        return ZarrStore(folder / self.name)


class TestTargetWithoutExchange(TestTarget):
    """So do they where the system cannot swap two paths at one instant."""

    @pytest.fixture(autouse=True)
    def _no_exchange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claims, "exchange", lambda left, right: False)


class TestShardedTarget(TestTarget):
    """So do sharded ones."""

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        folder.mkdir(exist_ok=True)
        chunks = tuple(max(1, n) for n in grid.chunk_shape)
        shards = tuple(2 * n for n in chunks) or None
        return ZarrTarget(folder / self.name, grid.shape, dtype, chunks, shards)


CODECS: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=1, checksum=True)},
    "blosc": {"compressors": BloscCodec(cname="lz4", shuffle="bitshuffle")},
    "gzip": {"compressors": GzipCodec(level=1)},
    "crc": {"compressors": [ZstdCodec(), zarr.codecs.Crc32cCodec()]},
    "transposed": {"filters": [TransposeCodec(order=(1, 0))]},
    "big": {"serializer": zarr.codecs.BytesCodec(endian="big")},
    "sharded": {"shards": (6, 4), "chunks": (3, 2)},
    "index at start": {
        "chunks": (6, 4),
        "serializer": zarr.codecs.ShardingCodec(chunk_shape=(3, 2), index_location="start"),
        "compressors": None,
    },
    "dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "old names": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "2 none": {"zarr_format": 2, "compressors": None},
    "2 zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib(1)},
    "2 gzip": {"zarr_format": 2, "compressors": numcodecs.GZip(1)},
    "2 blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("zstd", 1)},
    "2 zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd(1)},
    "2 lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "2 delta": {"zarr_format": 2, "filters": [Delta("f8")]},
    "2 fortran": {"zarr_format": 2, "order": "F"},
    "2 nested": {
        "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
}
ELSEWHERE = {"2 lz4", "2 delta"}
"""Codecs that zarr-python runs for us."""


@pytest.mark.parametrize("case", CODECS)
def test_arrays_of_zarr_python_are_read(tmp_path: Path, case: str) -> None:
    values = make_values((7, 5))
    store = ZarrStore(save(tmp_path / "x", values, **CODECS[case]))
    assert (store._layout.codec is None) == (case in ELSEWHERE)
    assert store.grid.axes == ((3, 2) if case in {"sharded", "index at start"} else (3, 3))
    for box in boxes(values.shape):
        assert_same(store.read(box), values[box])
    assert store.bytes_read_extra > 0
    store.verify()


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("compressors", ["auto", None, "zstd", "gzip", ZstdCodec(level=3)], ids=str)
@pytest.mark.parametrize("shards", [None, (6, 4)])
def test_our_arrays_are_read_by_zarr_python(
    tmp_path: Path, compressors: Any, shards: Any, crc: bool
) -> None:
    values = make_values((7, 5))
    target = ZarrTarget(
        tmp_path / "x",
        (7, 5),
        "f8",
        (3, 2),
        shards,
        compressors=compressors,
        crc=crc,
        attributes={"unit": "K"},
    )
    target.create()
    for region in target.write_grid.regions():
        target.write(region, values[region])
    target.commit()
    theirs = zarr.open_array(tmp_path / "x", mode="r")
    assert_same(np.asarray(theirs[...]), values)
    assert theirs.attrs["unit"] == "K"
    assert theirs.nchunks_initialized == theirs.nchunks or shards
    assert sorted(os.listdir(tmp_path / "x")) == ["c", "zarr.json"]
    assert_same(target.read(region_of((7, 5))), values)


def test_chunks_are_checksummed_by_default(tmp_path: Path) -> None:
    ours(tmp_path / "x")
    codecs = json.loads((tmp_path / "x" / "zarr.json").read_text())["codecs"]
    assert [codec["name"] for codec in codecs] == ["bytes", "blosc", "crc32c"]


def test_unknown_compressors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compressor"):
        ZarrTarget(tmp_path / "x", (6,), "f8", (3,), compressors="lzo")
    with pytest.warns(zarr.errors.ZarrUserWarning):
        codec = zarr.codecs.numcodecs.BZ2(level=1)
    target = ZarrTarget(tmp_path / "x", (6,), "f8", (3,), compressors=codec)
    with pytest.raises(ValueError, match="codecs"):
        target.create()
    assert os.listdir(tmp_path) == []


def ours(path: Path, shards: Any = None, **options: Any) -> Path:
    """Write an array of chunkarr's."""
    values = make_values((7, 5))
    target = ZarrTarget(path, (7, 5), "f8", (3, 3), shards, **options)
    target.create()
    for region in target.write_grid.regions():
        target.write(region, values[region])
    target.commit()
    return path


def test_missing_chunks_have_the_fill_value_as_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for options in ({}, {"zarr_format": 2}, {"shards": (3, 6)}):
        zarr.create_array(
            path, shape=(7, 5), chunks=(3, 3), dtype="f8", fill_value=2.5, overwrite=True, **options
        )
        assert_same(ZarrStore(path).read(region_of((7, 5))), np.full((7, 5), 2.5))


@pytest.mark.faults
@pytest.mark.parametrize("shards", [None, (6, 3)])
def test_a_chunk_missing_from_our_own_array_is_damage(tmp_path: Path, shards: Any) -> None:
    path = ours(tmp_path / "x", shards)
    (path / "c" / "1" / "1").unlink()
    store = ZarrStore(path)
    with pytest.raises(CorruptChunkError, match="missing") as caught:
        store.read(region_of((7, 5)))
    assert caught.value.cell == ((2, 1) if shards else (1, 1))
    assert caught.value.path == str(path)


@pytest.mark.faults
@pytest.mark.parametrize("shards", [None, (6, 3)])
def test_every_flipped_byte_of_our_own_array_is_found(tmp_path: Path, shards: Any) -> None:
    path = ours(tmp_path / "x", shards)
    file = path / "c" / "0" / "0"
    data = bytearray(file.read_bytes())
    for place in range(len(data)):
        data[place] ^= 0x20
        file.write_bytes(data)
        with pytest.raises(CorruptChunkError):
            ZarrStore(path).read((slice(0, 6), slice(0, 3)))
        data[place] ^= 0x20


@pytest.mark.faults
@pytest.mark.parametrize("case", sorted({*CODECS} - ELSEWHERE - {"index at start"}))
def test_a_chunk_cut_short_or_too_long_is_damage(tmp_path: Path, case: str) -> None:
    path = save(tmp_path / "x", make_values((7, 5)), **CODECS[case])
    layout = ZarrStore(path)._layout
    file = path / layout.key((0, 0))
    data = file.read_bytes()
    for broken in (b"", data[:1], data[:-3], data[:-1], data + bytes(100_000)):
        file.write_bytes(broken)
        with pytest.raises(CorruptChunkError) as caught:
            ZarrStore(path).read((slice(0, 1), slice(0, 1)))
        assert caught.value.cell == (0, 0)


@pytest.mark.faults
@pytest.mark.parametrize("case", ["blosc", "zstd", "gzip", "2 zlib", "2 lz4", "2 delta"])
def test_noise_in_a_chunk_is_an_error_or_other_values(tmp_path: Path, case: str) -> None:
    """Without a checksum damage may pass, but the decoder must not fail in its own way."""
    path = save(tmp_path / "x", make_values((7, 5)), **CODECS[case])
    file = path / ZarrStore(path)._layout.key((0, 0))
    data = bytearray(file.read_bytes())
    for place in range(len(data)):
        data[place] ^= 0xFF
        file.write_bytes(data)
        with contextlib.suppress(CorruptChunkError):
            assert ZarrStore(path).read((slice(0, 3), slice(0, 3))).shape == (3, 3)
        data[place] ^= 0xFF


@pytest.mark.faults
def test_a_chunk_that_decodes_to_another_size_is_damage(tmp_path: Path) -> None:
    for case in ("blosc", "zstd", "gzip", "2 zlib", "2 gzip", "2 blosc"):
        path = save(tmp_path / "x", make_values((7, 5)), **CODECS[case])
        other = save(tmp_path / "y", make_values((8, 8)), **(CODECS[case] | {"chunks": (2, 2)}))
        name = ZarrStore(path)._layout.key((0, 0))
        shutil.copy(other / name, path / name)
        with pytest.raises(CorruptChunkError, match="decodes to 32 bytes, expected 72"):
            ZarrStore(path).read((slice(0, 1), slice(0, 1)))


def test_a_zstd_stream_without_its_size_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "x", make_values((3, 3)), **CODECS["zstd"])
    raw = make_values((3, 3)).tobytes()
    # One raw block in a frame with a window and no content size.
    block = (len(raw) << 3 | 1).to_bytes(3, "little") + raw
    (path / "c" / "0" / "0").write_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + block)
    assert_same(ZarrStore(path).read(region_of((3, 3))), make_values((3, 3)))


def test_a_huge_chunk_of_a_small_array_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    path = save(tmp_path / "x", make_values((3, 3)), compressors=ZstdCodec())
    file = path / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 18, 1 << 18]
    file.write_text(json.dumps(metadata))
    store = ZarrStore(path)
    assert store.bytes_read_extra > 1 << 39
    with pytest.raises(CorruptChunkError, match="cannot expand"):
        store.read((slice(0, 1), slice(0, 1)))
    (path / "c" / "0" / "0").unlink()
    assert store.read((slice(0, 1), slice(0, 1))).tolist() == [[0.0]]


def change(*keys: str, value: Any) -> Any:
    def apply(metadata: dict[str, Any]) -> None:
        node = metadata
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return apply


GRID = ("chunk_grid", "configuration", "chunk_shape")
SHARDING = {"name": "sharding_indexed", "configuration": {"chunk_shape": [3, 3], "codecs": []}}
HOSTILE_3: dict[str, Any] = {
    "chunk 0": change(*GRID, value=[0, 3]),
    "chunk below 0": change(*GRID, value=[-3, 3]),
    "chunk of floats": change(*GRID, value=[3.0, 3]),
    "chunk 2**63": change(*GRID, value=[2**63, 3]),
    "chunk of 2**60 bytes": change(*GRID, value=[2**30, 2**30]),
    "shape 2**70": change("shape", value=[2**70, 3]),
    "product beyond": change("shape", value=[2**61, 2**61]),
    "shape below 0": change("shape", value=[-1, 3]),
    "shape of booleans": change("shape", value=[True, 3]),
    "rank": change("shape", value=[1] * 1_000_000),
    "other rank": change("shape", value=[7, 5, 2]),
    "no shape": lambda metadata: metadata.pop("shape"),
    "data type": change("data_type", value="float1000"),
    "objects": change("data_type", value="variable_length_bytes"),
    "fill value": change("fill_value", value="nonsense"),
    "unknown codec": change("codecs", value=[{"name": "bytes"}, {"name": "evil"}]),
    "pickle": change("codecs", value=[{"name": "bytes"}, {"name": "numcodecs.pickle"}]),
    "no codecs": change("codecs", value=None),
    "codec of no name": change("codecs", value=[7]),
    "sharding of wrong chunks": change("codecs", value=[SHARDING]),
    "sharding in sharding": change(
        "codecs",
        value=[
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [3, 3],
                    "codecs": [
                        {
                            "name": "sharding_indexed",
                            "configuration": {"chunk_shape": [3, 3], "codecs": [SHARDING]},
                        }
                    ],
                },
            }
        ],
    ),
    "grid": change("chunk_grid", "name", value="evil"),
    "separator": change("chunk_key_encoding", value={"name": "default", "configuration": "/"}),
    "path": change(
        "chunk_key_encoding",
        value={"name": "default", "configuration": {"separator": "/../../"}},
    ),
    "node type": change("node_type", value="evil"),
}
HOSTILE_2: dict[str, Any] = {
    "chunk 0": change("chunks", value=[0, 3]),
    "shape 2**70": change("shape", value=[2**70, 3]),
    "pickle": change("filters", value=[{"id": "pickle", "protocol": 4}]),
    "pickle behind another": change(
        "filters", value=[{"id": "delta", "dtype": "f8"}, {"id": "pickle"}]
    ),
    "pickle as compressor": change("compressor", value={"id": "pickle"}),
    "vlen": change("filters", value=[{"id": "vlen-utf8"}]),
    "objects": change("dtype", value="|O"),
    "separator": change("dimension_separator", value="/../"),
}
TEXTS = {
    "no JSON": "{",
    "a list": "[]",
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep attributes": '{"node_type": "array", "attributes": ' + '{"a":' * 900 + "1" + "}" * 901,
    "empty": "",
    "not UTF-8": b"\xff\xfe{}".decode("latin-1"),
    "infinite": '{"shape": [Infinity]}',
}


@pytest.mark.parametrize("case", HOSTILE_3)
def test_hostile_metadata_of_version_3_is_an_error(tmp_path: Path, case: str) -> None:
    file = save(tmp_path / "x", make_values((7, 5))) / "zarr.json"
    metadata = json.loads(file.read_text())
    HOSTILE_3[case](metadata)
    file.write_text(json.dumps(metadata))
    with pytest.raises(FormatError):
        ZarrStore(tmp_path / "x")


@pytest.mark.parametrize("case", HOSTILE_2)
def test_hostile_metadata_of_version_2_is_an_error(tmp_path: Path, case: str) -> None:
    file = save(tmp_path / "x", make_values((7, 5)), zarr_format=2) / ".zarray"
    metadata = json.loads(file.read_text())
    HOSTILE_2[case](metadata)
    file.write_text(json.dumps(metadata))
    with pytest.raises(FormatError):
        ZarrStore(tmp_path / "x")


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_metadata_that_is_no_metadata_is_an_error(tmp_path: Path, case: str, name: str) -> None:
    (tmp_path / name).write_text(TEXTS[case])
    with pytest.raises(FormatError):
        ZarrStore(tmp_path)


def test_metadata_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "zarr.json", "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(FormatError, match="bytes of metadata"):
        ZarrStore(tmp_path)


def test_a_group_names_its_arrays(tmp_path: Path) -> None:
    for version, folder in ((2, "two"), (3, "three")):
        group = zarr.open_group(tmp_path / folder, mode="w", zarr_format=version)  # type: ignore[arg-type]
        group.create_array("temperature", shape=(3,), chunks=(3,), dtype="f8")
        group.create_group("more")
        with pytest.raises(FormatError, match="more, temperature"):
            ZarrStore(tmp_path / folder)
        target = ZarrTarget(tmp_path / folder, (3,), "f8", (3,))
        with pytest.raises(OutputError, match="in the way"):
            target.create()


def test_what_is_no_array_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("precious")
    (tmp_path / "empty").mkdir()
    for name in ("file", "folder"):
        with pytest.raises(OutputError, match="in the way"):
            ZarrTarget(tmp_path / name, (3,), "f8", (3,)).create()
    ours(tmp_path / "empty")
    for inside in ("more", "c/more"):
        with pytest.raises(OutputError, match=r"inside the zarr array .*/empty"):
            ZarrTarget(tmp_path / "empty" / inside, (3,), "f8", (3,)).create()
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "folder"]


@pytest.mark.faults
def test_a_commit_without_all_chunks_is_refused(tmp_path: Path) -> None:
    target = ZarrTarget(tmp_path / "x", (7, 5), "f8", (3, 3))
    target.create()
    regions = list(target.write_grid.regions())
    for region in regions[:-1]:
        target.write(region, np.zeros(1))
    with pytest.raises(OutputError, match=r"1 of 6 chunks .* \(2, 1\)"):
        target.commit()
    target.write(regions[-1], np.zeros(1))
    # A worker that died in the middle of a chunk leaves its unfinished file.
    (Path(target._partial or "") / "c" / "0" / "0.1-2.tmp").write_bytes(b"half")
    target.commit()
    assert sorted(os.listdir(tmp_path / "x" / "c" / "0")) == ["0", "1"]


def test_all_is_durable_before_the_array_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    rename = os.rename
    before: list[int] = []

    def watch(source: str, target: str) -> None:
        if target == str(tmp_path / "x"):
            before.append(len(synced))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    ours(tmp_path / "x")
    # Six chunks, their four directories and the top one, the metadata; then the parent.
    assert before == [len(synced) - 1]
    names = [os.path.basename(path) for path in synced]
    assert sum(name.isdigit() for name in names) == 9
    assert "zarr.json" in " ".join(names)
    assert synced[-1] == str(tmp_path)


def test_many_files_are_made_durable_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(zarr_target, "SYNCED_SINGLY_MAX", 2)
    monkeypatch.setattr(zarr_target, "sync_disk", synced.append)
    ours(tmp_path / "x")
    assert len(synced) == 1


def test_neighbours_read_from_the_cache_do_not_decode_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ZarrStore(save(tmp_path / "x", make_values((9, 9))))
    decoded: list[Any] = []
    decode = store._decode

    def count(cell: tuple[int, ...]) -> NDArray:
        decoded.append(cell)
        return decode(cell)

    monkeypatch.setattr(store, "_decode", count)
    chunk_cache.resize(1 << 20)
    for row in range(0, 9, 3):
        box = (slice(max(0, row - 1), min(9, row + 4)), slice(0, 9))
        found = store.read(box)
        found[...] = -1
    assert len(decoded) == 9
    assert_same(store.read(region_of((9, 9))), make_values((9, 9)))


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_that_is_made_anew_in_its_place_is_an_error(version: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    make: Any = partial(zarr.create_array, path, chunks=(4,), dtype="f8", zarr_format=version)
    make(shape=(8,))[...] = 1
    store = ZarrStore(path)
    packed = pickle.dumps(store)
    zarr.open_array(path, mode="r+").attrs["a"] = 1
    np.testing.assert_array_equal(store.read((slice(0, 8),)), np.ones(8))
    np.testing.assert_array_equal(pickle.loads(packed).read((slice(0, 8),)), np.ones(8))
    make(shape=(6,), overwrite=True)[...] = 2
    with pytest.raises(FormatError, match="replaced"):
        store.read((slice(0, 8),))
    with pytest.raises(FormatError, match="replaced"):
        pickle.loads(packed)


def test_the_cache_does_not_outlive_an_array_that_is_replaced(tmp_path: Path) -> None:
    chunk_cache.resize(1 << 20)
    for value in range(5):
        target = ZarrTarget(tmp_path / "x", (4,), "f8", (4,))
        target.create()
        target.write((slice(0, 4),), np.full(4, value))
        target.commit()
        assert ZarrStore(tmp_path / "x").read((slice(0, 4),)).tolist() == [value] * 4


def test_a_pickled_target_knows_the_dtype_of_the_file(tmp_path: Path) -> None:
    target = ZarrTarget(tmp_path / "x", (4,), ">i4", (2,))
    target.create()
    copy = pickle.loads(pickle.dumps(target))
    for region in copy.write_grid.regions():
        copy.write(region, np.arange(4, dtype=">i4")[region])
    target.commit()
    assert zarr.open_array(tmp_path / "x", mode="r")[...].tolist() == [0, 1, 2, 3]  # type: ignore[union-attr]
