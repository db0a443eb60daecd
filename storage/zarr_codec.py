"""Chunks of Zarr to bytes and back, without zarr-python's event loop.

zarr-python spends 0.3 to 0.6 milliseconds per chunk on its synchronous wrapper, which is more than
decompressing 2 MiB takes. So the codecs that nearly all arrays use are called here directly, in the
thread that wants the chunk: bytes of either order, blosc, zstd, gzip or zlib, and crc32c. For any
other chain `ChunkCodec` says so by giving None, and zarr-python does the work.

What a decoder is given is not trusted: a chunk's decoded size is known from the metadata, and no
decoder is asked to produce more.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, Zstd

from chunkarr.storage.arena import task_arena
from chunkarr.storage.files import as_bytes, buffer_of
from chunkarr.storage.store import NDArray

CRC_BYTES = 4
EXPANSION_MAX = {"blosc": 1 << 16, "zstd": 1 << 17, "gzip": 1100, "zlib": 1100}
"""How many bytes one encoded byte can stand for at most; more is a lie of the metadata."""

_BLOSC_HEADER = struct.Struct("<4B3I")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


@dataclass(frozen=True)
class Compressor:
    """One compressor with its settings; `kind` is blosc, zstd, gzip or zlib."""

    kind: str
    codec: Any = None
    level: int = 1

    def encode(self, data: NDArray) -> Any:
        """Compress flat bytes."""
        if self.codec is not None:
            return self.codec.encode(data)
        packer = zlib.compressobj(self.level, wbits=31 if self.kind == "gzip" else 15)
        return packer.compress(buffer_of(data)) + packer.flush()

    def decode(self, data: NDArray, size: int) -> NDArray:
        """Decompress to exactly `size` bytes, or raise ValueError."""
        if size > data.nbytes * EXPANSION_MAX[self.kind] + 65536:
            raise ValueError(f"{data.nbytes} bytes cannot expand to {size}")
        if self.kind == "blosc":
            _check_blosc(data, size)
        elif self.kind == "zstd":
            known = _zstd_size(data)
            if known is None:
                # Written as a stream, without its size in front.
                found = np.frombuffer(self.codec.decode(data), np.uint8)
                _check_size(found.nbytes, size)
                return found.copy()
            _check_size(known, size)
        else:
            return self._inflate(data, size)
        out: NDArray = task_arena.empty((size,), np.uint8)
        self.codec.decode(data, out=out)
        return out

    def _inflate(self, data: NDArray, size: int) -> NDArray:
        unpacker = zlib.decompressobj(31 if self.kind == "gzip" else 15)
        # One byte more than promised is asked for, to see that there is none.
        found = unpacker.decompress(buffer_of(data), size + 1)
        _check_size(len(found), size)
        if not unpacker.eof:
            unpacker.decompress(unpacker.unconsumed_tail, 1)
        if not unpacker.eof:
            raise ValueError("the compressed data ends early")
        return np.frombuffer(bytearray(found), np.uint8)


@dataclass(frozen=True)
class ChunkCodec:
    """How a chunk of known shape and dtype becomes bytes.

    `order` is "C" or "F"; `stored` is the dtype with the byte order of the file.
    """

    shape: tuple[int, ...]
    stored: np.dtype[Any]
    order: str
    compressor: Compressor | None
    crc: bool

    @property
    def bytes_decoded(self) -> int:
        """Bytes of a chunk in memory."""
        return math.prod(self.shape) * self.stored.itemsize

    @property
    def bytes_encoded_max(self) -> int:
        """Most bytes that an honest encoder makes of a chunk."""
        size = self.bytes_decoded
        spare = 0 if self.compressor is None else size // 64 + 4096
        return size + spare + CRC_BYTES * self.crc

    def decode(self, data: NDArray) -> NDArray:
        """Give the chunk of some bytes, or raise an error that says what is wrong with them."""
        if self.crc:
            if data.nbytes < CRC_BYTES:
                raise ValueError(f"{data.nbytes} bytes are too few to hold a checksum")
            expected = int.from_bytes(bytes(data[-CRC_BYTES:]), "little")
            data = data[:-CRC_BYTES]
            found = int(google_crc32c.value(data))
            if found != expected:
                raise ValueError(f"checksum {found:08x}, expected {expected:08x}")
        if self.compressor is not None:
            data = self.compressor.decode(data, self.bytes_decoded)
        _check_size(data.nbytes, self.bytes_decoded)
        if not data.nbytes:
            return np.empty(self.shape, self.stored)
        order: Any = self.order
        return data.view(self.stored).reshape(self.shape, order=order)

    def encode(self, chunk: NDArray) -> list[Any]:
        """Give the bytes of a chunk as buffers to be written one after the other."""
        laid = chunk.T if self.order == "F" else chunk
        data: Any = as_bytes(np.ascontiguousarray(laid, dtype=self.stored))
        if self.compressor is not None:
            data = self.compressor.encode(data)
        if not self.crc:
            return [data]
        return [data, int(google_crc32c.value(data)).to_bytes(CRC_BYTES, "little")]


def codec_v3(
    codecs: Sequence[Mapping[str, Any]], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> ChunkCodec | None:
    """Read a version 3 chain of codecs; None where it is not one that is run here."""
    order, stored, compressor, crc = "C", dtype, None, False
    seen_bytes = False
    for codec in codecs:
        name, options = codec.get("name"), codec.get("configuration") or {}
        if crc or (compressor is not None and name != "crc32c"):
            return None
        if name == "transpose" and not seen_bytes and order == "C":
            if list(options.get("order", ())) != list(range(len(shape)))[::-1]:
                return None
            order = "F"
        elif name == "bytes" and not seen_bytes:
            stored = dtype.newbyteorder(">" if options.get("endian") == "big" else "<")
            seen_bytes = True
        elif name == "crc32c" and seen_bytes:
            crc = True
        elif seen_bytes:
            compressor = _compressor_v3(str(name), options)
            if compressor is None:
                return None
        else:
            return None
    return ChunkCodec(shape, stored, order, compressor, crc) if seen_bytes else None


def codec_v2(
    metadata: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> ChunkCodec | None:
    """Read version 2 metadata; None where filters or the compressor are not run here."""
    if metadata.get("filters"):
        return None
    options = metadata.get("compressor")
    compressor = None
    if options is not None:
        compressor = _compressor_v2(options)
        if compressor is None:
            return None
    return ChunkCodec(shape, dtype, str(metadata.get("order", "C")), compressor, crc=False)


def _compressor_v3(name: str, options: Mapping[str, Any]) -> Compressor | None:
    if name == "blosc":
        settings = (options["cname"], options["clevel"], _SHUFFLES[options["shuffle"]])
        # Only writers need the typesize; a chunk that is read has it in its header.
        codec = Blosc(*settings, options.get("blocksize", 0), typesize=options.get("typesize"))
        return Compressor("blosc", codec)
    if name == "zstd":
        codec = Zstd(options.get("level", 0), checksum=options.get("checksum", False))
        return Compressor("zstd", codec)
    if name == "gzip":
        return Compressor("gzip", level=options.get("level", 5))
    return None


def _compressor_v2(options: Mapping[str, Any]) -> Compressor | None:
    kind = options.get("id")
    if kind == "blosc":
        return Compressor("blosc", Blosc())
    if kind == "zstd":
        return Compressor("zstd", Zstd())
    return Compressor(kind) if kind in {"gzip", "zlib"} else None


def _check_size(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"decodes to {found} bytes, expected {expected}")


def _check_blosc(data: NDArray, size: int) -> None:
    """Compare the sizes that a blosc buffer gives of itself, which the decoder takes on trust."""
    if data.nbytes < _BLOSC_HEADER.size:
        raise ValueError("the compressed data ends early")
    *_, decoded, _, encoded = _BLOSC_HEADER.unpack(bytes(data[: _BLOSC_HEADER.size]))
    if encoded != data.nbytes:
        raise ValueError(f"{data.nbytes} compressed bytes, expected {encoded}")
    _check_size(decoded, size)


def _zstd_size(data: NDArray) -> int | None:
    """Give the decoded size that a zstd frame begins with, None where it gives none (RFC 8878)."""
    head = bytes(data[:18])
    if len(head) < 6 or not head.startswith(_ZSTD_MAGIC):
        raise ValueError("not zstd data")
    single, width = head[4] >> 5 & 1, (0, 2, 4, 8)[head[4] >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[head[4] & 3]
    if not width and not single:
        return None
    width = width or 1
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)
