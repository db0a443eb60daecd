"""The metadata of Zarr arrays, checked before anybody believes it.

Metadata comes from files that others wrote. A shape of 2**70, a chunk of length 0 or a million
nested lists must be an error here, before a byte is allocated for them; so must codecs that run
code, such as pickle. What passes is then parsed by zarr-python, which knows the data types and fill
values; the chain of codecs is read from the JSON itself.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
import zarr.storage
from zarr.core.buffer import default_buffer_prototype

from chunkarr.errors import FormatError
from chunkarr.grid import Cell
from chunkarr.storage.mapped import NDIM_MAX
from chunkarr.storage.zarr_codec import ChunkCodec, codec_v2, codec_v3

METADATA_BYTES_MAX = 16 << 20
EXTENT_MAX = 2**62
CHUNK_BYTES_MAX = 2**40
SHARDING_DEPTH_MAX = 1
MEMBERS_SHOWN = 20
MARK = "chunkarr"
"""The attribute of arrays that chunkarr wrote: every chunk exists, so a missing one is damage."""

_CODECS = frozenset(
    {
        "bytes",
        "transpose",
        "sharding_indexed",
        "blosc",
        "zstd",
        "gzip",
        "zlib",
        "crc32c",
        "crc32",
        "adler32",
        "fletcher32",
        "lz4",
        "bz2",
        "lzma",
        "jenkins_lookup3",
        "shuffle",
        "delta",
        "fixedscaleoffset",
        "quantize",
        "packbits",
        "bitround",
        "astype",
        "zfpy",
        "pcodec",
        "scale_offset",
        "cast_value",
    }
)
"""Codecs of numbers; the ones left out make Python objects, and pickle among them runs code."""


@dataclass(frozen=True)
class ShardLayout:
    """Where the chunks of a shard lie: an index of offsets and lengths at one end of its file."""

    counts: tuple[int, ...]
    index_at_end: bool
    index_codec: ChunkCodec


@dataclass(frozen=True)
class ZarrLayout:
    """What is known of an array from its metadata.

    `outer` is the cut into files, `inner` the cut that is decoded at a time. `codec` is None where
    zarr-python has to decode.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    codec: ChunkCodec | None
    shard: ShardLayout | None
    prefix: str
    separator: str
    fill: Any
    complete: bool
    array: Any
    """zarr-python's array, for codecs that are not run here."""
    facts: str
    """The metadata but for the user's attributes, which tells one layout from another."""

    def key(self, cell: Cell) -> str:
        """Give the file of an outer chunk, relative to the array's directory."""
        if not cell:
            return self.prefix or "0"
        place = self.separator.join(map(str, cell))
        return f"{self.prefix}{self.separator}{place}" if self.prefix else place


def is_zarr(path: str) -> bool:
    """Whether a directory has the metadata of a Zarr array or group."""
    names = ("zarr.json", ".zarray", ".zgroup")
    return any(os.path.exists(os.path.join(path, name)) for name in names)


def is_group(path: str) -> bool:
    """Whether a directory is a Zarr group, which holds arrays and is none."""
    file = os.path.join(path, "zarr.json")
    if os.path.exists(file):
        return _read_json(file).get("node_type") == "group"
    return os.path.exists(os.path.join(path, ".zgroup"))


def array_around(path: str) -> str | None:
    """Give the Zarr array whose directory a path lies in, None where it lies in none."""
    while (above := os.path.dirname(path)) != path:
        if is_zarr(above) and not is_group(above):
            return above
        path = above
    return None


def read_layout(path: str) -> ZarrLayout:
    """Read and check the metadata of an array, version 2 or 3."""
    for name, version in (("zarr.json", 3), (".zarray", 2)):
        file = os.path.join(path, name)
        if os.path.exists(file):
            metadata = _read_json(file)
            if version == 3 and metadata.get("node_type") == "group":
                break
            layout = parse_layout(path, metadata, version)
            return layout if layout.codec is not None else _with_array(layout, path, version)
    if is_zarr(path):
        raise FormatError(path, f"a zarr group, open one of its arrays: {_members(path)}")
    raise FormatError(path, "a directory without zarr.json or .zarray is not read")


def parse_layout(path: str, metadata: Mapping[str, Any], version: int) -> ZarrLayout:
    """Check metadata of the array at a path and give what follows from it; `path` is not read."""
    try:
        shape, outer = _extents(path, metadata, version)
        _check_codecs(path, metadata)
        with warnings.catch_warnings():
            # Types that the specification does not list yet are read all the same.
            warnings.simplefilter("ignore")
            array = _parsed(metadata, version)
            dtype, fill = np.dtype(array.dtype), array.fill_value
    except FormatError:
        raise
    except (Exception, RecursionError) as error:
        raise FormatError(path, f"invalid zarr metadata: {error}") from error
    if dtype.hasobject or tuple(array.shape) != shape:
        raise FormatError(path, f"an array of dtype {dtype} is not read")
    if math.prod(outer) * dtype.itemsize > CHUNK_BYTES_MAX:
        raise FormatError(path, f"chunks of shape {outer} are larger than any that is read")
    fill = np.zeros((), dtype)[()] if fill is None else fill
    try:
        codec, inner, shard = _codecs(metadata, version, outer, dtype)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(path, f"invalid codecs: {error}") from error
    if any(n < 1 for n in inner):
        raise FormatError(path, f"chunks of shape {inner} inside shards of {outer}")
    prefix, separator = _key_encoding(path, metadata, version)
    attributes = metadata.get("attributes")
    mark = attributes.get(MARK) if version == 3 and isinstance(attributes, dict) else None
    complete = isinstance(mark, dict) and mark.get("complete") is True
    kept = {name: metadata[name] for name in metadata if name != "attributes"}
    facts = json.dumps(kept, sort_keys=True)
    return ZarrLayout(
        shape, dtype, outer, inner, codec, shard, prefix, separator, fill, complete, None, facts
    )


def _parsed(metadata: Mapping[str, Any], version: int) -> Any:
    """Have zarr-python parse what was read, from memory: the file may change between two reads."""
    name = "zarr.json" if version == 3 else ".zarray"
    text = json.dumps(metadata).encode()
    held: dict[str, Any] = {name: default_buffer_prototype().buffer.from_bytes(text)}
    store = zarr.storage.MemoryStore(held)
    return zarr.open_array(store, mode="r", zarr_format=2 if version == 2 else 3)


def _with_array(layout: ZarrLayout, path: str, version: int) -> ZarrLayout:
    """Have zarr-python open an array whose codecs are not run here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = zarr.open_array(path, mode="r", zarr_format=2 if version == 2 else 3)
    except (Exception, RecursionError) as error:
        raise FormatError(path, f"invalid zarr metadata: {error}") from error
    return replace(layout, array=array)


def _extents(
    path: str, metadata: Mapping[str, Any], version: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the checked shape and the shape of the outer chunks."""
    if version == 3:
        if metadata.get("node_type") != "array":
            raise FormatError(path, f"zarr node type {str(metadata.get('node_type'))[:40]!r}")
        cut = metadata["chunk_grid"]
        if cut.get("name") != "regular":
            raise FormatError(path, f"chunk grid {str(cut.get('name'))[:40]!r} is not read")
        chunks = cut["configuration"]["chunk_shape"]
    else:
        chunks = metadata["chunks"]
    shape = metadata["shape"]
    for what, extents, least in (("shape", shape, 0), ("chunk shape", chunks, 1)):
        if not isinstance(extents, list) or len(extents) > NDIM_MAX:
            raise FormatError(path, f"the {what} is not a list of up to {NDIM_MAX} lengths")
        for n in extents:
            if type(n) is not int or not least <= n < EXTENT_MAX:
                raise FormatError(path, f"the {what} has the length {str(n)[:40]}")
    if len(shape) != len(chunks):
        raise FormatError(path, f"{len(shape)} axes are cut by chunks of {len(chunks)}")
    if math.prod(max(n, 1) for n in shape) >= EXTENT_MAX:
        raise FormatError(path, f"the shape {tuple(shape)} is larger than any that is read")
    return tuple(shape), tuple(chunks)


def _check_codecs(path: str, node: Any, depth: int = 0) -> None:
    """Refuse codecs that are not known to make numbers of bytes, at every depth."""
    for key in ("codecs", "index_codecs", "filters", "compressor"):
        found = node.get(key)
        for codec in found if isinstance(found, list) else [found] if found else []:
            name = str(codec.get("name") or codec.get("id")) if isinstance(codec, dict) else "?"
            if name.removeprefix("numcodecs.") not in _CODECS:
                raise FormatError(path, f"codec {name[:40]!r} is not read")
            options = codec.get("configuration")
            if isinstance(options, dict):
                if depth > SHARDING_DEPTH_MAX:
                    raise FormatError(path, "codecs are nested too deep")
                _check_codecs(path, options, depth + 1)


def _codecs(
    metadata: Mapping[str, Any], version: int, outer: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[ChunkCodec | None, tuple[int, ...], ShardLayout | None]:
    """Give the codec of what is decoded at a time, its shape, and the layout of shards."""
    if version == 2:
        return codec_v2(metadata, outer, dtype), outer, None
    chain: Sequence[Mapping[str, Any]] = metadata["codecs"]
    if len(chain) != 1 or chain[0].get("name") != "sharding_indexed":
        return codec_v3(chain, outer, dtype), outer, None
    options = chain[0]["configuration"]
    inner = tuple(int(n) for n in options["chunk_shape"])
    if len(inner) != len(outer) or any(n < 1 or m % n for n, m in zip(inner, outer, strict=True)):
        raise ValueError(f"shards of {outer} are not made of chunks of {inner}")
    counts = tuple(m // n for n, m in zip(inner, outer, strict=True))
    codec = codec_v3(options["codecs"], inner, dtype)
    index = codec_v3(options["index_codecs"], (*counts, 2), np.dtype("<u8"))
    if codec is None or index is None or index.compressor is not None:
        return None, inner, None
    return codec, inner, ShardLayout(counts, options.get("index_location") != "start", index)


def _key_encoding(path: str, metadata: Mapping[str, Any], version: int) -> tuple[str, str]:
    """Give the prefix and the separator of chunk names."""
    prefix = ""
    if version == 3:
        encoding = metadata["chunk_key_encoding"]
        prefix = "c" if encoding["name"] == "default" else ""
        usual = "/" if prefix else "."
        separator = (encoding.get("configuration") or {}).get("separator", usual)
    else:
        separator = metadata.get("dimension_separator", ".")
    if separator not in {"/", "."}:
        raise FormatError(path, f"chunk names are separated by {str(separator)[:40]!r}")
    return prefix, separator


def _read_json(file: str) -> dict[str, Any]:
    """Parse a metadata file of reasonable size and depth."""
    with open(file, "rb") as stream:
        text = stream.read(METADATA_BYTES_MAX + 1)
    if len(text) > METADATA_BYTES_MAX:
        raise FormatError(file, f"more than {METADATA_BYTES_MAX} bytes of metadata")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(file, f"not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(file, "the metadata is not an object")
    return found


def _members(path: str) -> str:
    """Name the arrays and groups of a group, a few of them."""
    with os.scandir(path) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and is_zarr(e.path))
    shown = ", ".join(names[:MEMBERS_SHOWN]) or "it has none"
    return shown + (", ..." if len(names) > MEMBERS_SHOWN else "")
