"""New Zarr arrays, version 3, that appear under their path all at once.

Chunks are written under a hidden sibling of the path, each to a file of its own and under another
name first, so that a task that runs twice or dies half-way leaves no torn chunk. The commit counts
the chunks, writes the metadata last, and swaps the sibling with what was there before.

The default compressor is blosc with lz4 and byte shuffle. On float64 it packs 2 to 5 GiB/s on one
core and unpacks 5 to 8, which keeps up with a fast disk; zstd at level 0 or 1 packs 0.3 to 1.2 and
unpacks 1.5, and without the shuffle gains nothing on most floats. zstd packs repeated decimals and
small integers tighter, and is there for who asks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
import zarr.storage
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from chunkarr.errors import OutputError, format_bytes
from chunkarr.faults import fault_point
from chunkarr.grid import Grid, Region, region_of, region_shape, shift
from chunkarr.storage.claims import LOCK_NAME, Claim, remove, sweep
from chunkarr.storage.files import (
    OpenFile,
    begin_sync,
    output_error,
    refuse_objects,
    reserve,
    sync_disk,
    sync_path,
    view_of,
    wait_for,
    write_at,
)
from chunkarr.storage.journal import Journal, checksum_of
from chunkarr.storage.npy import PARTIAL, partial_stem
from chunkarr.storage.store import NDArray, Store
from chunkarr.storage.zarr_meta import (
    MARK,
    ZarrLayout,
    array_around,
    is_group,
    is_zarr,
    parse_layout,
)
from chunkarr.storage.zarr_store import ZarrStore

METADATA = "zarr.json"
SYNCED_SINGLY_MAX = 1000
"""Up to so many files each is synced; beyond, one call syncs all that the disk has waiting."""
BLOSC_BYTES_MAX = 2**31 - 32
TEMPORARY = ".tmp"
_ABSENT = 2**64 - 1


class ZarrTarget(Store):
    """A new Zarr array that takes the place of `path` at `commit`.

    Boxes are whole chunks, or whole shards where `shards` is given; any number of threads and
    processes may write different ones. `compressors` is "auto", None, one of "blosc", "zstd" and
    "gzip", or one or more of zarr's own codecs of these kinds.
    """

    local = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        chunks: tuple[int, ...],
        shards: tuple[int, ...] | None = None,
        fill_value: Any = None,
        compressors: Any = "auto",
        *,
        crc: bool = True,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = os.path.realpath(path)
        self.name = os.path.basename(self.path)
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        refuse_objects(self.dtype, self.path)
        # An empty axis has no chunks, but the format wants a length for them.
        self.chunks = tuple(max(1, int(n)) for n in chunks)
        self.shards = None if shards is None else tuple(max(1, int(n)) for n in shards)
        self.grid = Grid(self.shape, self.chunks)
        self._files = Grid(self.shape, self.shards or self.chunks)
        self._options = {
            "fill_value": fill_value,
            "compressors": _compressors(compressors, self.dtype, self.chunks, crc=crc),
            "attributes": {**(attributes or {}), MARK: {"complete": True}},
        }
        self._claim: Claim | None = None
        self._journal: Journal | None = None
        self._partial: str | None = None
        self._metadata = b""
        self._layout: ZarrLayout | None = None

    @property
    def write_grid(self) -> Grid:
        """One file per box: the shards, or the chunks."""
        return self._files

    @property
    def location(self) -> str:
        """The path that the array will have."""
        return self.path

    @property
    def bytes_write_extra(self) -> int:
        """A chunk in the layout of the file, and the encoded chunks of one file."""
        chunk = math.prod(self.chunks) * self.dtype.itemsize
        outer = math.prod(self.shards or self.chunks) * self.dtype.itemsize
        return 2 * chunk + outer + outer // 64 + 4096

    def create(self) -> None:
        """Make the hidden directory; OutputError where anything but an array is in the way.

        Does nothing where a resumed run has done so.
        """
        if self._claim is not None:
            return
        parent = os.path.dirname(self.path)
        stem = partial_stem(self.name)
        try:
            self._refuse_foreign()
            made: list[tuple[ZarrLayout, bytes]] = []
            # In a thread, because zarr-python complains when it is interrupted.
            wait_for([lambda: made.append(self._make_metadata())])
            sweep(parent, stem, PARTIAL)
            if self._journal is not None:
                self._journal.begin(parent, stem)
            make = Claim if self._journal is None else self._journal.claim
            self._claim = make(parent, stem, PARTIAL, 0o777, folder=True)
            self._claim.make()
            fault_point("commit.meta", self._claim.path)
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise self._output_error(error) from error
            raise
        (self._layout, self._metadata), self._partial = made[0], self._claim.path
        if self._journal is not None:
            remove(os.path.join(self._partial, METADATA))  # of a run that died as it committed
            self._journal.believe(partial(_is_whole, self._partial), together=True)

    def resume_as(self, mark: str) -> None:
        """Keep the files that are written under a mark; each is one chunk or shard."""
        options: dict[str, Any] = self._options
        codecs = [codec.to_dict() for codec in options["compressors"]]
        facts = (self.shape, self.dtype, self.chunks, self.shards, options["fill_value"], codecs)
        self._journal = Journal(mark, *facts)
        self.resumable = True

    @property
    def resumed(self) -> bool:
        """Whether files were kept from an earlier run."""
        return self._journal is not None and self._journal.resumed

    def holds(self, region: Region) -> bool:
        """Whether the files of a box were kept from an earlier run."""
        journal, layout = self._journal, self._layout
        if journal is None or layout is None:
            return False
        return all(journal.holds(layout.key(cell)) for cell, _ in self._files.overlapping(region))

    def _refuse_foreign(self) -> None:
        """Refuse to replace a directory that is neither empty nor an array, or to go inside one."""
        around = array_around(self.path)
        if around is not None:
            raise OutputError(self.path, f"it lies inside the zarr array {around}")
        if not os.path.lexists(self.path):
            return
        if not os.path.isdir(self.path):
            raise OutputError(self.path, "a file is in the way")
        if os.listdir(self.path) and (not is_zarr(self.path) or is_group(self.path)):
            raise OutputError(self.path, "a directory that is not a zarr array is in the way")

    def _make_metadata(self) -> tuple[ZarrLayout, bytes]:
        """Have zarr-python write the metadata to memory.

        Not to disk: its threads would go on writing there after an interrupt.
        """
        held: dict[str, Any] = {}
        with warnings.catch_warnings():
            # Types that the specification does not list yet are written as zarr-python spells them.
            warnings.simplefilter("ignore")
            options: dict[str, Any] = self._options
            zarr.create_array(
                zarr.storage.MemoryStore(held),
                shape=self.shape,
                dtype=self.dtype,
                chunks=self.chunks,
                shards=self.shards,
                filters=None,
                zarr_format=3,
                **options,
            )
        metadata: bytes = held[METADATA].to_bytes()
        layout = parse_layout(self.path, json.loads(metadata), 3)
        if layout.codec is None:
            raise ValueError(f"{self.path}: chunks cannot be written with these codecs")
        return layout, metadata

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box of whole chunks, or whole shards."""
        if not self._files.aligned(region):
            raise ValueError(f"{self.name}: the box {region} is not made of whole chunks")
        if self._layout is None or self._partial is None:
            raise RuntimeError(f"{self.name}: the target was not created yet, or is finished")
        box = np.broadcast_to(values, region_shape(region))
        if not box.size:
            return
        origin = [s.start for s in region]
        try:
            for cell, file in self._files.overlapping(region):
                data = view_of(box, shift(file, origin))
                key, parts = self._layout.key(cell), self._encode(self._layout, data)
                _write_file(self._partial, os.path.join(self._partial, key), parts)
                if self._journal is not None:
                    self._journal.note(key, parts)
        except OSError as error:
            raise self._output_error(error) from error

    def _encode(self, layout: ZarrLayout, data: NDArray) -> list[Any]:
        """Give the bytes of one file: a chunk, or the chunks of a shard and their index."""
        if layout.shard is None:
            return self._encode_chunk(layout, data)
        shard, parts, place = layout.shard, [], 0
        index: NDArray = np.full((*shard.counts, 2), _ABSENT, "<u8")
        cut = Grid(data.shape, layout.inner)
        for cell, chunk in cut.overlapping(region_of(data.shape)):
            encoded = self._encode_chunk(layout, view_of(data, chunk))
            size = sum(map(len, encoded))
            index[cell] = place, size
            parts += encoded
            place += size
        return parts + shard.index_codec.encode(index)

    def _encode_chunk(self, layout: ZarrLayout, data: NDArray) -> list[Any]:
        """Encode a chunk, filled up to the full shape at the edge of the array."""
        assert layout.codec is not None
        if data.shape != layout.inner:
            full: NDArray = np.full(layout.inner, layout.fill, layout.dtype)
            full[region_of(data.shape)] = data
            data = full
        return layout.codec.encode(data)

    def read(self, region: Region) -> NDArray:
        """Read from the array, once it is committed."""
        if self._partial is not None:
            raise RuntimeError(f"{self.name}: the target can be read after its commit")
        return ZarrStore(self.path).read(region)

    def commit(self) -> None:
        """Check that every chunk is there, make all durable, and put it in place in one step."""
        claim = self._claim
        if claim is None or self._layout is None:
            raise RuntimeError(f"{self.name}: only the process that created the target commits it")
        try:
            self._check_complete(self._layout, claim.path)
            if self._files.size > SYNCED_SINGLY_MAX:
                wait_for([partial(sync_disk, claim.path)])
            else:
                wait_for([partial(sync_path, path) for path in _tree(claim.path)])
            fault_point("commit.meta", claim.path)
            metadata = os.path.join(claim.path, METADATA)
            _write_file(claim.path, metadata, [self._metadata])
            wait_for([partial(sync_path, path) for path in (metadata, claim.path)])
            fault_point("commit.meta", claim.path)
            claim.publish(self.path)
            fault_point("commit.meta", self.path)
            wait_for([partial(sync_path, os.path.dirname(self.path))])
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise self._output_error(error) from error
        claim.drop()  # the array that was there before, and the lock
        if self._journal is not None:
            self._journal.end()
        self._claim = self._partial = None

    def _check_complete(self, layout: ZarrLayout, directory: str) -> None:
        """Raise unless all chunks are there."""
        count = 0
        for path in _tree(directory):
            if path.endswith(TEMPORARY):
                remove(path)  # a worker died while it wrote this
            elif not os.path.isdir(path) and not path.endswith(LOCK_NAME):
                count += 1
        if count != self._files.size:
            cells = map(self._files.cell, range(self._files.size))
            missing = [
                cell
                for cell in cells
                if not os.path.exists(os.path.join(directory, layout.key(cell)))
            ]
            if missing:  # else somebody else has put something there
                raise OutputError(
                    self.path,
                    f"{len(missing)} of {self._files.size} chunks were not written, the first is "
                    f"{missing[0]}",
                )

    def _output_error(self, error: OSError) -> OutputError:
        return output_error(self.path, f"at most {format_bytes(self.bytes_size)}", error)

    def discard(self) -> None:
        """Remove the hidden directory, or leave it to be resumed; the old content stands."""
        if self._journal is not None:
            self._journal.close()
        if self._claim is not None and self._journal is not None:
            self._claim.keep()
        elif self._claim is not None:
            self._claim.drop()
        self._claim = self._partial = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_claim": None, "_options": {}}

    def __repr__(self) -> str:
        return f"ZarrTarget({self.path!r}, shape={self.shape}, dtype={self.dtype})"


def _compressors(
    asked: Any, dtype: np.dtype[Any], chunks: Sequence[int], *, crc: bool
) -> tuple[Any, ...]:
    """Give zarr's codecs for what was asked for."""
    if asked == "auto":
        size = dtype.itemsize * math.prod(chunks)
        asked = "blosc" if size <= BLOSC_BYTES_MAX else "zstd"
    if isinstance(asked, str):
        # Bytes have nothing to shuffle, and their bits do.
        shuffle: Any = "shuffle" if dtype.itemsize > 1 else "bitshuffle"
        # Blosc keeps the size of an element in a byte.
        typesize = dtype.itemsize if 0 < dtype.itemsize < 256 else 1
        known: dict[str, Any] = {
            "blosc": BloscCodec(cname="lz4", clevel=5, shuffle=shuffle, typesize=typesize),
            "zstd": ZstdCodec(level=1),
            "gzip": GzipCodec(level=1),
        }
        if asked not in known:
            raise ValueError(f"compressor {asked!r} is not one of 'auto', {', '.join(known)}")
        asked = known[asked]
    chain = () if asked is None else tuple(asked) if isinstance(asked, list | tuple) else (asked,)
    if crc and not any(isinstance(codec, Crc32cCodec) for codec in chain):
        chain = (*chain, Crc32cCodec())
    return chain


def _is_whole(root: str, key: str, size: int, checksum: int) -> bool:
    """Whether a file is what a record says."""
    with open(os.path.join(root, key), "rb") as file:
        content = file.read(size + 1)
    return len(content) == size and checksum_of([content]) == checksum


def _tree(directory: str) -> Iterator[str]:
    """Give all files and directories below a directory."""
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _tree(entry.path)


def _write_file(root: str, path: str, parts: Sequence[Any]) -> None:
    """Write a file under another name and rename it, so that it is whole or absent."""
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = OpenFile.at(temporary, flags)
    except FileNotFoundError:
        _make_folder(root, os.path.dirname(path))
        file = OpenFile.at(temporary, flags)
    try:
        place = 0
        reserve(file.fd, sum(map(len, parts)))
        for part in parts:
            write_at(file.fd, part, place)
            place += len(part)
        begin_sync(file.fd)
        fault_point("commit.chunk", temporary)
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    finally:
        file.close()


def _make_folder(root: str, path: str) -> None:
    """Make a folder below `root`; never the root, which is gone when the target was discarded."""
    if path == root:
        raise FileNotFoundError(errno.ENOENT, "the target was discarded", root)
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_folder(root, os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
